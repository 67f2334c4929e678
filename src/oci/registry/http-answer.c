/* SPDX-License-Identifier: MIT */
/* What libcurl hands over: headers and bytes that came, and its wish for bytes to send. */
#include <string.h>
#include <strings.h>

#include "base/io.h"
#include "base/log.h"
#include "registry/headers.h"
#include "registry/http-internal.h"

static void moved(struct oci_http *h, size_t n)
{
	h->active_ns = h->waited_ns;
	h->window_bytes += n;
}

size_t oci_http_on_body(char *data, size_t size, size_t n, void *user)
{
	struct oci_http *h = user;
	size_t len = size * n;

	if (!h->good) { /* an error's words, of which some are enough */
		size_t room = OCI_HTTP_ERROR_MAX - MIN_OF(h->body.len, OCI_HTTP_ERROR_MAX);
		if (len > room)
			h->overflow = true;
		h->oom |= buf_append(&h->body, data, MIN_OF(len, room)) < 0;
		return h->oom ? 0 : len;
	}
	if (h->body.len >= OCI_HTTP_BUFFER) {
		h->paused = true;
		return CURL_WRITEFUNC_PAUSE;
	}
	size_t skip = (size_t)MIN_OF((uint64_t)len, h->skip), direct = 0;
	moved(h, len);
	h->skip -= skip;
	if (h->dst_left && h->body.len == 0) {
		direct = MIN_OF(len - skip, h->dst_left);
		memcpy(h->dst, data + skip, direct);
		h->dst += direct;
		h->dst_left -= direct;
	}
	if (len > skip + direct && buf_append(&h->body, data + skip + direct, len - skip - direct) < 0) {
		h->oom = true;
		return 0;
	}
	h->position += len - skip;
	h->progress += len - skip;
	return len;
}

size_t oci_http_on_send(char *to, size_t size, size_t n, void *user)
{
	struct oci_http *h = user;
	size_t len = (size_t)MIN_OF((uint64_t)(size * n), h->send.len - h->sent);

	if (h->send.data) {
		memcpy(to, (const char *)h->send.data + h->sent, len);
	} else if (len) {
		ssize_t k = io_pread_full(h->send.fd, to, len, (off_t)(h->send.off + h->sent));
		if (k != (ssize_t)len) {
			h->cannot_read = true;
			return CURL_READFUNC_ABORT;
		}
	}
	h->sent += len;
	h->sent_ns = h->waited_ns;
	moved(h, len);
	return len;
}

/*
 * A connection that was kept may turn out to be closed after something was sent: libcurl then begins again.
 */
int oci_http_on_seek(void *user, curl_off_t off, int origin)
{
	struct oci_http *h = user;

	if (origin != SEEK_SET || off < 0 || (uint64_t)off > h->send.len)
		return CURL_SEEKFUNC_FAIL;
	h->sent = (uint64_t)off;
	return CURL_SEEKFUNC_OK;
}

void oci_http_response_done(struct oci_http_response *r)
{
	free(r->content_type);
	free(r->docker_digest);
	free(r->location);
	free(r->range);
	free(r->next);
	free(r->chunk_min);
	oci_challenge_done(&r->challenge);
	*r = (struct oci_http_response){.retry_after_s = -1};
}

static void take(char **where, const char *line, size_t len, const char *name)
{
	char *value = *where ? NULL : oci_header_value(line, len, name); /* the first of several */

	if (value)
		*where = value;
}

/* Whether the body comes in a coding that libcurl would undo unasked, however large it becomes. */
static bool is_foreign_coding(const char *line, size_t len)
{
	static const char name[] = "Transfer-Encoding:";

	if (len < strlen(name) || strncasecmp(line, name, strlen(name)) != 0)
		return false;
	CLEANUP_FREE char *coding = oci_header_value(line, len, "Transfer-Encoding");
	return !coding || strcasecmp(coding, "chunked") != 0;
}

static void take_header(struct oci_http *h, const char *line, size_t len)
{
	struct oci_http_response *r = &h->resp;

	h->foreign_coding |= is_foreign_coding(line, len);
	take(&r->content_type, line, len, "Content-Type");
	take(&r->docker_digest, line, len, "Docker-Content-Digest");
	take(&r->location, line, len, "Location");
	take(&r->range, line, len, "Range");
	take(&r->chunk_min, line, len, "OCI-Chunk-Min-Length");
	CLEANUP_FREE char *link = r->next ? NULL : oci_header_value(line, len, "Link");
	if (link)
		r->next = oci_header_link_next(link);
	CLEANUP_FREE char *auth = oci_header_value(line, len, "WWW-Authenticate");
	if (auth && oci_challenge_parse(auth, &r->challenge) < 0)
		log_debug("registry: unreadable WWW-Authenticate header");
	CLEANUP_FREE char *after = oci_header_value(line, len, "Retry-After");
	if (after)
		r->retry_after_s = oci_header_retry_after(after, time_real_ns() / (int64_t)1000000000);
	CLEANUP_FREE char *content_range = oci_header_value(line, len, "Content-Range");
	uint64_t last;
	if (content_range && !oci_header_content_range(content_range, &r->from, &last))
		h->bad_range = true;
	else if (content_range)
		h->bad_range = r->from != h->position;
}

/* The headers are complete, unless these are those of a 1xx. */
static void end_of_headers(struct oci_http *h)
{
	long status = 0;

	h->lib->curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &status);
	h->headers_done |= status >= 200;
	h->good = status >= 200 && status < 300;
	h->resp.status = status;
	if (status == 206) {
		h->resp.from = h->position;
		return;
	}
	/* All of it. For the reader nothing begins anew: what it has is passed over. */
	h->bad_range = false;
	h->resp.from = 0;
	if (h->good && h->resumes == 0)
		h->position = 0;
	h->skip = h->good ? h->position : 0;
}

size_t oci_http_on_header(char *line, size_t size, size_t n, void *user)
{
	struct oci_http *h = user;
	size_t len = size * n;

	h->header_bytes += len;
	if (h->header_bytes > OCI_HTTP_HEADERS_MAX || ++h->header_lines > OCI_HTTP_HEADER_LINES) {
		h->overflow = true;
		return 0;
	}
	if (h->headers_done)
		return len; /* trailers */
	if (len >= 5 && strncasecmp(line, "HTTP/", 5) == 0) {
		oci_http_response_done(&h->resp);
		h->bad_range = false;
	} else if (len == 0 || *line == '\r' || *line == '\n') {
		end_of_headers(h);
	} else {
		take_header(h, line, len);
	}
	return h->foreign_coding ? 0 : len;
}
