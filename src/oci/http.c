/* SPDX-License-Identifier: MIT */
#include "http.h"

#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/log.h"
#include "libs.h"

#define LIBCURL_FUNCTIONS(X) \
	X(curl_global_init) \
	X(curl_easy_init) \
	X(curl_easy_cleanup) \
	X(curl_easy_setopt) \
	X(curl_easy_getinfo) \
	X(curl_easy_strerror) \
	X(curl_multi_init) \
	X(curl_multi_cleanup) \
	X(curl_multi_add_handle) \
	X(curl_multi_remove_handle) \
	X(curl_multi_perform) \
	X(curl_multi_poll) \
	X(curl_multi_info_read) \
	X(curl_slist_append) \
	X(curl_slist_free_all)

struct libcurl {
	LIBCURL_FUNCTIONS(LIB_FIELD)
};
static LIB_DEFINE(libcurl, LIBCURL_FUNCTIONS, "libcurl.so.4")

#define USER_AGENT	"a3s-box"
#define POLL_MS		1000
#define RETRY_FIRST_MS	500
#define RETRY_AFTER_MAX 30 /* seconds a server may make us wait */

	struct oci_http {
	const struct libcurl *lib;
	struct oci_http_opts opts;
	CURL *easy;
	CURLM *multi;
	bool attached;
	char curl_error[CURL_ERROR_SIZE];
	/* the request */
	char *url, *first_url; /* after redirects, before */
	char *authorization, *accept;
	struct curl_slist *headers;
	/* the response */
	struct oci_http_response resp;
	struct buf body;
	bool headers_done, finished, oom;
	bool good; /* the body is what was asked for */
	CURLcode result;
	long retry_after_s;
	uint64_t received;  /* bytes of the body so far, over all tries */
	uint64_t skip;	    /* bytes to pass over, when a server ignored the range */
	unsigned int tries; /* in a row without progress */
};

bool oci_http_is_loopback(const char *authority)
{
	if (*authority == '[')
		return strncmp(authority, "[::1]", 5) == 0 && (!authority[5] || authority[5] == ':');
	size_t n = strcspn(authority, ":");
	if (n == 9 && strncasecmp(authority, "localhost", 9) == 0)
		return true;
	/* 127.0.0.0/8, and not a name like 127.example.com */
	return strncmp(authority, "127.", 4) == 0 && strspn(authority, "0123456789.") == n;
}

/* ---- curl's callbacks ---- */

static size_t on_body(char *data, size_t size, size_t n, void *user)
{
	struct oci_http *h = user;
	size_t len = size * n, skip = (size_t)MIN_OF((uint64_t)len, h->skip);

	if (!h->good)
		return len; /* what an error or a redirect has to say is not shown */
	h->skip -= skip;
	if (buf_append(&h->body, data + skip, len - skip) < 0) {
		h->oom = true;
		return 0;
	}
	h->received += len - skip;
	return len;
}

static char *header_value(const char *line, size_t n, const char *name)
{
	size_t k = strlen(name);

	if (n <= k || strncasecmp(line, name, k) != 0 || line[k] != ':')
		return NULL;
	const char *p = line + k + 1, *end = line + n;
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	while (end > p && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' '))
		end--;
	return strndup(p, (size_t)(end - p));
}

static void replace(char **where, char *value)
{
	if (!value)
		return;
	free(*where);
	*where = value;
}

static size_t on_header(char *line, size_t size, size_t n, void *user)
{
	struct oci_http *h = user;
	size_t len = size * n;

	if (len <= 2 && (len == 0 || *line == '\r' || *line == '\n')) {
		/* 1xx responses end here too, but nothing was taken from them. */
		long status = 0;
		h->lib->curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &status);
		h->headers_done |= status >= 200;
		h->good = status == 200 || status == 206;
		/* A server may ignore the range and send everything again. */
		h->skip = status == 200 ? h->received : 0;
		return len;
	}
	replace(&h->resp.content_type, header_value(line, len, "Content-Type"));
	replace(&h->resp.docker_digest, header_value(line, len, "Docker-Content-Digest"));
	CLEANUP_FREE char *auth = header_value(line, len, "WWW-Authenticate");
	if (auth && oci_challenge_parse(auth, &h->resp.challenge) < 0)
		log_debug("registry: unreadable WWW-Authenticate header");
	CLEANUP_FREE char *after = header_value(line, len, "Retry-After");
	if (after)
		h->retry_after_s = strtol(after, NULL, 10);
	return len;
}

/* ---- session ---- */

int oci_http_new(const struct oci_http_opts *o, struct oci_http **ret, struct err *e)
{
	static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	static bool initialised;
	const struct libcurl *lib = libcurl_get(e);

	if (!lib)
		return -ENOENT;
	pthread_mutex_lock(&mutex);
	if (!initialised)
		initialised = lib->curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
	bool ok = initialised;
	pthread_mutex_unlock(&mutex);
	CLEANUP(oci_http_freep) struct oci_http *h = calloc(1, sizeof(*h));
	if (!h)
		return err_oom(e);
	h->lib = lib;
	h->opts = *o;
	h->easy = ok ? lib->curl_easy_init() : NULL;
	h->multi = ok ? lib->curl_multi_init() : NULL;
	if (!h->easy || !h->multi)
		return err_set(e, -EIO, "cannot set up the HTTP client");
	lib->curl_easy_setopt(h->easy, CURLOPT_NOSIGNAL, 1L);
	lib->curl_easy_setopt(h->easy, CURLOPT_ERRORBUFFER, h->curl_error);
	lib->curl_easy_setopt(h->easy, CURLOPT_USERAGENT, USER_AGENT);
	lib->curl_easy_setopt(h->easy, CURLOPT_PROTOCOLS_STR, "http,https");
	lib->curl_easy_setopt(h->easy, CURLOPT_FOLLOWLOCATION, 0L);
	lib->curl_easy_setopt(h->easy, CURLOPT_CONNECTTIMEOUT, (long)OCI_HTTP_CONNECT_S);
	lib->curl_easy_setopt(h->easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
	lib->curl_easy_setopt(h->easy, CURLOPT_LOW_SPEED_TIME, (long)OCI_HTTP_STALL_S);
	lib->curl_easy_setopt(h->easy, CURLOPT_BUFFERSIZE, 64L << 10);
	lib->curl_easy_setopt(h->easy, CURLOPT_WRITEFUNCTION, on_body);
	lib->curl_easy_setopt(h->easy, CURLOPT_WRITEDATA, h);
	lib->curl_easy_setopt(h->easy, CURLOPT_HEADERFUNCTION, on_header);
	lib->curl_easy_setopt(h->easy, CURLOPT_HEADERDATA, h);
	lib->curl_easy_setopt(h->easy, CURLOPT_SSL_VERIFYPEER, o->tls_verify ? 1L : 0L);
	lib->curl_easy_setopt(h->easy, CURLOPT_SSL_VERIFYHOST, o->tls_verify ? 2L : 0L);
	*ret = TAKE_PTR(h);
	return 0;
}

static void detach(struct oci_http *h)
{
	if (h->attached)
		h->lib->curl_multi_remove_handle(h->multi, h->easy);
	h->attached = false;
}

static void response_done(struct oci_http *h)
{
	free(h->resp.content_type);
	free(h->resp.docker_digest);
	oci_challenge_done(&h->resp.challenge);
	h->resp = (struct oci_http_response){0};
	h->headers_done = h->finished = h->oom = h->good = false;
	h->retry_after_s = 0;
	buf_done(&h->body);
	h->body = (struct buf){0};
}

static void request_done(struct oci_http *h)
{
	detach(h);
	response_done(h);
	free(h->url);
	free(h->first_url);
	free(h->authorization);
	free(h->accept);
	h->url = h->first_url = h->authorization = h->accept = NULL;
	if (h->headers)
		h->lib->curl_slist_free_all(h->headers);
	h->headers = NULL;
}

void oci_http_free(struct oci_http *h)
{
	if (!h)
		return;
	request_done(h);
	if (h->easy)
		h->lib->curl_easy_cleanup(h->easy);
	if (h->multi)
		h->lib->curl_multi_cleanup(h->multi);
	free(h);
}

/* ---- one try ---- */

static int add_header(struct oci_http *h, const char *name, const char *value, struct err *e)
{
	if (!value)
		return 0;
	CLEANUP_FREE char *line = str_printf("%s: %s", name, value);
	struct curl_slist *l = line ? h->lib->curl_slist_append(h->headers, line) : NULL;
	if (!l)
		return err_oom(e);
	h->headers = l;
	return 0;
}

/* Sends the request, from byte h->received of the body on. */
static int start(struct oci_http *h, struct err *e)
{
	char range[32];

	detach(h);
	response_done(h);
	if (h->headers)
		h->lib->curl_slist_free_all(h->headers);
	h->headers = NULL;
	int r = add_header(h, "Authorization", h->authorization, e);
	if (r == 0)
		r = add_header(h, "Accept", h->accept, e);
	if (r < 0)
		return r;
	snprintf(range, sizeof(range), "%llu-", (unsigned long long)h->received);
	h->curl_error[0] = '\0';
	h->lib->curl_easy_setopt(h->easy, CURLOPT_URL, h->url);
	h->lib->curl_easy_setopt(h->easy, CURLOPT_HTTPHEADER, h->headers);
	h->lib->curl_easy_setopt(h->easy, CURLOPT_RANGE, h->received ? range : NULL);
	if (h->lib->curl_multi_add_handle(h->multi, h->easy) != CURLM_OK)
		return err_set(e, -EIO, "cannot send the request");
	h->attached = true;
	return 0;
}

/* Moves the transfer until there is something: headers (want_body unset), a byte, or the end. */
static int advance(struct oci_http *h, bool want_body, struct err *e)
{
	int running, left;

	while (!h->finished && !(want_body ? h->body.len > 0 : h->headers_done)) {
		if (h->lib->curl_multi_perform(h->multi, &running) != CURLM_OK)
			return err_set(e, -EIO, "the HTTP client failed");
		for (CURLMsg *m; (m = h->lib->curl_multi_info_read(h->multi, &left));)
			if (m->msg == CURLMSG_DONE) {
				h->finished = true;
				h->result = m->data.result;
			}
		if (!h->finished && !(want_body ? h->body.len > 0 : h->headers_done))
			h->lib->curl_multi_poll(h->multi, NULL, 0, POLL_MS, NULL);
	}
	h->lib->curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &h->resp.status);
	return 0;
}

static int transfer_error(struct oci_http *h, struct err *e)
{
	const char *why = h->curl_error[0] ? h->curl_error : h->lib->curl_easy_strerror(h->result);
	int r = -EIO;

	switch (h->result) {
	case CURLE_COULDNT_CONNECT:
		r = -ECONNREFUSED;
		break;
	case CURLE_SSL_CONNECT_ERROR:
		r = -EPROTO;
		break;
	case CURLE_OPERATION_TIMEDOUT:
		r = -ETIMEDOUT;
		break;
	case CURLE_PEER_FAILED_VERIFICATION:
		r = -EKEYREJECTED;
		break;
	case CURLE_OUT_OF_MEMORY:
	case CURLE_WRITE_ERROR:
		return err_oom(e);
	default:
		break;
	}
	return err_set(e, r, "%.*s: %s", (int)strcspn(h->url, "?"), h->url, why);
}

static void pause_ms(long ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000};

	while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
}

/* Whether what went wrong may go right later; then waits for that. */
static bool wait_to_retry(struct oci_http *h)
{
	bool transient = h->finished && h->result != CURLE_OK
				 ? h->result != CURLE_COULDNT_CONNECT &&
					   h->result != CURLE_SSL_CONNECT_ERROR &&
					   h->result != CURLE_PEER_FAILED_VERIFICATION &&
					   h->result != CURLE_COULDNT_RESOLVE_HOST &&
					   h->result != CURLE_UNSUPPORTED_PROTOCOL &&
					   h->result != CURLE_URL_MALFORMAT &&
					   h->result != CURLE_WRITE_ERROR && h->result != CURLE_OUT_OF_MEMORY
				 : h->resp.status == 429 || h->resp.status == 408 || h->resp.status >= 500;

	if (!transient || ++h->tries >= OCI_HTTP_TRIES)
		return false;
	long ms = (long)RETRY_FIRST_MS << (h->tries - 1);
	if (h->retry_after_s > 0)
		ms = MIN_OF(h->retry_after_s, RETRY_AFTER_MAX) * 1000;
	log_debug("registry: trying again in %ld ms", ms);
	pause_ms(ms);
	return true;
}

/* ---- redirects ---- */

/* Length of "scheme://host:port" in a URL. */
static size_t origin_len(const char *url)
{
	const char *p = strstr(url, "://");

	return p ? (size_t)(p + 3 - url) + strcspn(p + 3, "/?#") : 0;
}

static bool same_origin(const char *a, const char *b)
{
	return origin_len(a) == origin_len(b) && strncasecmp(a, b, origin_len(a)) == 0;
}

static int check_url(const struct oci_http *h, const char *url, struct err *e)
{
	bool tls = strncasecmp(url, "https://", 8) == 0;

	if (!tls && strncasecmp(url, "http://", 7) != 0)
		return err_set(e, -EPROTO, "%.200s is no HTTP address", url);
	const char *start = url + (tls ? 8 : 7);
	CLEANUP_FREE char *authority = strndup(start, strcspn(start, "/?#"));
	if (!authority)
		return err_oom(e);
	/* They are not shown either. */
	if (strchr(authority, '@'))
		return err_set(
			e, -EPROTO, "an address of %.200s carries credentials", strrchr(authority, '@') + 1);
	if (!tls && !h->opts.plain_ok && !oci_http_is_loopback(authority))
		return err_set(e, -EPROTO,
			"%.200s is not encrypted, and only this machine's own registries may be so", url);
	return 0;
}

/* Takes over the address of a redirect. */
static int follow(struct oci_http *h, struct err *e)
{
	char *to = NULL;

	h->lib->curl_easy_getinfo(h->easy, CURLINFO_REDIRECT_URL, &to);
	if (!to)
		return err_set(e, -EPROTO, "%.200s redirects to nowhere", h->url);
	int r = check_url(h, to, e);
	if (r < 0) {
		err_wrap(e, "refused a redirect");
		return r;
	}
	if (strncasecmp(h->url, "https://", 8) == 0 && strncasecmp(to, "https://", 8) != 0)
		return err_set(e, -EPROTO, "refused a redirect from HTTPS to %.200s", to);
	char *copy = strdup(to);
	if (!copy)
		return err_oom(e);
	if (!same_origin(copy, h->url)) {
		free(h->authorization);
		h->authorization = NULL;
	}
	free(h->url);
	h->url = copy;
	return 0;
}

static bool is_redirect(long status)
{
	return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* Until the headers of the final response are there. */
static int send_and_follow(struct oci_http *h, struct err *e)
{
	for (int hops = 0;;) {
		int r = start(h, e);
		if (r == 0)
			r = advance(h, false, e);
		if (r < 0)
			return r;
		bool failed = h->finished && h->result != CURLE_OK && !h->headers_done;
		if ((failed || h->resp.status == 429 || h->resp.status == 408 || h->resp.status >= 500) &&
			wait_to_retry(h))
			continue;
		if (failed)
			return transfer_error(h, e);
		if (!is_redirect(h->resp.status)) {
			h->resp.elsewhere = !same_origin(h->url, h->first_url);
			if (h->resp.elsewhere)
				oci_challenge_done(&h->resp.challenge);
			return 0;
		}
		if (++hops > OCI_HTTP_REDIRECTS_MAX)
			return err_set(e, -ELOOP, "%.200s: too many redirects", h->url);
		r = follow(h, e);
		if (r < 0)
			return r;
	}
}

/* ---- the interface ---- */

int oci_http_get(struct oci_http *h, const struct oci_http_request *rq, struct err *e)
{
	request_done(h);
	h->received = h->skip = 0;
	h->tries = 0;
	int r = check_url(h, rq->url, e);
	if (r < 0)
		return r;
	h->url = strdup(rq->url);
	h->first_url = strdup(rq->url);
	h->authorization = str_dup(rq->authorization);
	h->accept = str_dup(rq->accept);
	if (!h->url || !h->first_url || (rq->authorization && !h->authorization) ||
		(rq->accept && !h->accept))
		return err_oom(e);
	return send_and_follow(h, e);
}

const struct oci_http_response *oci_http_response(const struct oci_http *h)
{
	return &h->resp;
}

/* The body broke off: asks for the rest of it. */
static int resume(struct oci_http *h, struct err *e)
{
	if (h->oom || !wait_to_retry(h))
		return transfer_error(h, e);
	int r = send_and_follow(h, e);
	if (r < 0)
		return r;
	if (h->resp.status != 200 && h->resp.status != 206)
		return err_set(e, -EIO, "%.*s: resuming the download failed with HTTP status %ld",
			(int)strcspn(h->url, "?"), h->url, h->resp.status);
	return 0;
}

ssize_t oci_http_read(struct oci_http *h, void *buf, size_t n, struct err *e)
{
	for (;;) {
		int r = advance(h, true, e);
		if (r < 0)
			return r;
		if (h->body.len > 0)
			break;
		if (h->result == CURLE_OK)
			return 0;
		r = resume(h, e);
		if (r < 0)
			return r;
	}
	h->tries = 0;
	n = MIN_OF(n, h->body.len);
	memcpy(buf, buf_data(&h->body), n);
	buf_consume(&h->body, n);
	return (ssize_t)n;
}

int oci_http_read_all(struct oci_http *h, size_t max, char **ret, size_t *ret_n, struct err *e)
{
	CLEANUP(buf_done) struct buf b = {0};

	for (;;) {
		uint8_t *p = buf_reserve(&b, 65536);
		if (!p)
			return err_oom(e);
		ssize_t n = oci_http_read(h, p, 65535, e);
		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
		buf_commit(&b, (size_t)n);
		if (b.len > max)
			return err_set(e, -EFBIG, "%.*s: the answer is longer than %zu bytes",
				(int)strcspn(h->url, "?"), h->url, max);
	}
	*ret_n = b.len;
	buf_data(&b)[b.len] = '\0';
	*ret = malloc(b.len + 1);
	if (!*ret)
		return err_oom(e);
	memcpy(*ret, buf_data(&b), b.len + 1);
	return 0;
}
