/* SPDX-License-Identifier: MIT */
#include "registry/http.h"

#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "registry/config.h"
#include "registry/http-internal.h"
#include "registry/proxy.h"

#define POLL_MS	       1000
#define RETRY_FIRST_MS 500
#define ERROR_BODY_S   5	   /* for the body of an error */
#define PROGRESS_MIN   (16u << 10) /* bytes that make up for a failure before them */
#define SECOND_NS      1000000000ull

/* ---- session ---- */

int oci_http_new(const struct oci_http_opts *o, struct oci_http **ret, struct err *e)
{
	const struct libcurl *lib = oci_curl(e);

	if (!lib)
		return -ENOENT;
	CLEANUP(oci_http_freep) struct oci_http *h = calloc(1, sizeof(*h));
	if (!h)
		return err_oom(e);
	h->lib = lib;
	h->opts = *o;
	h->cert_dir = str_dup(o->cert_dir);
	h->cert_host = str_dup(o->cert_host);
	h->resp.retry_after_s = -1;
	h->easy = lib->curl_easy_init();
	h->multi = lib->curl_multi_init();
	if (!h->easy || !h->multi || (o->cert_dir && !h->cert_dir) || (o->cert_host && !h->cert_host))
		return err_oom(e);
	*ret = TAKE_PTR(h);
	return 0;
}

void oci_http_cancel(struct oci_http *h)
{
	atomic_store(&h->cancelled, true);
	h->lib->curl_multi_wakeup(h->multi);
}

static void detach(struct oci_http *h)
{
	if (h->attached)
		h->lib->curl_multi_remove_handle(h->multi, h->easy);
	h->attached = false;
}

static void response_done(struct oci_http *h)
{
	oci_http_response_done(&h->resp);
	h->headers_done = h->finished = h->paused = h->oom = h->overflow = h->good = h->bad_range = false;
	h->cannot_read = h->foreign_coding = false;
	h->silent_s = 0;
	h->header_bytes = h->header_lines = 0;
	h->skip = h->sent = h->reported = 0;
	h->result = CURLE_OK;
	buf_done(&h->body);
}

static void request_done(struct oci_http *h)
{
	detach(h);
	response_done(h);
	oci_url_done(&h->url);
	oci_url_done(&h->first_url);
	free(TAKE_PTR(h->authorization));
	free(TAKE_PTR(h->accept));
	free(TAKE_PTR(h->proxy));
	if (h->headers)
		h->lib->curl_slist_free_all(h->headers);
	h->headers = NULL;
	h->rq = (struct oci_http_request){0};
	h->send = (struct oci_http_body){.fd = -1};
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
	for (size_t i = 0; i < h->n_hosts; i++)
		oci_tls_done(&h->hosts[i]);
	free(h->cert_dir);
	free(h->cert_host);
	free(h);
}

/* ---- one try ---- */

static void settle(struct oci_http *h);

/* Sends the request, a GET from byte h->position on. */
static int start(struct oci_http *h, struct err *e)
{
	settle(h);
	detach(h);
	response_done(h);
	int r = oci_http_setup(h, e);
	if (r < 0)
		return r;
	h->progress = 0;
	h->active_ns = h->sent_ns = h->waited_ns;
	if (h->lib->curl_multi_add_handle(h->multi, h->easy) != CURLM_OK)
		return err_set(e, -EIO, "cannot send the request");
	h->attached = true;
	return 0;
}

static void clock_start(struct oci_http *h)
{
	h->clock_ns = time_mono_ns();
}

static void clock_move(struct oci_http *h)
{
	uint64_t now = time_mono_ns();

	h->waited_ns += now - h->clock_ns;
	h->clock_ns = now;
}

static bool over(const struct oci_http *h, uint64_t since_ns, unsigned limit_s)
{
	return h->waited_ns - since_ns > limit_s * SECOND_NS;
}

/* The limits of time. What may go better next time ends the try; the rest ends the request. */
static int check_time(struct oci_http *h, struct err *e)
{
	unsigned answer_s = h->rq.answer_s ? h->rq.answer_s : OCI_HTTP_STALL_S;
	bool all_sent = h->sent == h->send.len;

	if (h->rq.small && over(h, 0, OCI_HTTP_SMALL_S))
		return err_set(
			e, -ETIMEDOUT, "%s did not answer within %d s", h->url.authority, OCI_HTTP_SMALL_S);
	if ((h->headers_done || !all_sent) && over(h, h->window_ns, OCI_HTTP_RATE_S)) {
		if (h->window_bytes < (uint64_t)OCI_HTTP_RATE_S * OCI_HTTP_RATE_MIN)
			return err_set(e, -ETIMEDOUT, "%s: the transfer is slower than %d bytes a second",
				h->url.authority, OCI_HTTP_RATE_MIN);
		h->window_ns = h->waited_ns;
		h->window_bytes = 0;
	}
	bool silent = h->headers_done || !all_sent ? over(h, h->active_ns, OCI_HTTP_STALL_S)
						   : over(h, h->sent_ns, answer_s);
	if (silent) {
		detach(h);
		h->finished = true;
		h->result = CURLE_OPERATION_TIMEDOUT;
		h->silent_s = h->headers_done || !all_sent ? OCI_HTTP_STALL_S : answer_s;
	}
	return 0;
}

static void take_result(struct oci_http *h)
{
	int left;

	for (const CURLMsg *m; (m = h->lib->curl_multi_info_read(h->multi, &left));)
		if (m->msg == CURLMSG_DONE) {
			h->finished = true;
			h->result = m->data.result;
		}
	if (h->send.on_sent && h->sent != h->reported) {
		h->reported = h->sent;
		h->send.on_sent(h->send.user, h->sent);
	}
}

static int wait_network(struct oci_http *h, long ms, struct err *e)
{
	if (atomic_load(&h->cancelled))
		return err_set(e, -ECANCELED, "cancelled");
	if (h->lib->curl_multi_poll(h->multi, NULL, 0, (int)ms, NULL) != CURLM_OK)
		return err_set(e, -EIO, "waiting for the network failed");
	clock_move(h);
	return 0;
}

enum goal { GOAL_HEADERS, GOAL_BYTE, GOAL_END };

static bool reached(const struct oci_http *h, enum goal goal, const uint8_t *dst)
{
	return goal == GOAL_HEADERS ? h->headers_done
	       : goal == GOAL_BYTE  ? h->body.len > 0 || h->dst != dst
				    : h->overflow;
}

/* Moves the transfer until there is what is wanted, or its end. */
static int advance(struct oci_http *h, enum goal goal, struct err *e)
{
	const uint8_t *dst = h->dst;
	int running;

	clock_start(h);
	while (!h->finished && !reached(h, goal, dst)) {
		if (h->paused && h->body.len < OCI_HTTP_BUFFER) {
			h->paused = false;
			h->lib->curl_easy_pause(h->easy, CURLPAUSE_CONT);
			continue;
		}
		if (h->lib->curl_multi_perform(h->multi, &running) != CURLM_OK)
			return err_set(e, -EIO, "the transfer failed");
		clock_move(h);
		take_result(h);
		if (h->finished || reached(h, goal, dst))
			break;
		int r = check_time(h, e);
		if (r == 0 && !h->finished)
			r = wait_network(h, POLL_MS, e);
		if (r < 0)
			return r;
	}
	return atomic_load(&h->cancelled) ? err_set(e, -ECANCELED, "cancelled") : 0;
}

/* The rest of an answer that nobody wants, if that is little: then the connection can be used again. */
static void settle(struct oci_http *h)
{
	if (!h->attached || h->finished || !h->headers_done || (h->good && h->rq.method == OCI_HTTP_GET))
		return;
	uint64_t begun = h->waited_ns;
	clock_start(h);
	while (!h->finished && !h->overflow && !h->paused && !over(h, begun, ERROR_BODY_S)) {
		int running;
		if (h->lib->curl_multi_perform(h->multi, &running) != CURLM_OK)
			return;
		take_result(h);
		if (!h->finished && wait_network(h, POLL_MS, NULL) < 0)
			return;
	}
}

/* ---- failures ---- */

static int code_of(CURLcode result)
{
	switch (result) {
	case CURLE_COULDNT_CONNECT:
		return -ECONNREFUSED;
	case CURLE_SSL_CONNECT_ERROR:
		return -EPROTO;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_PEER_FAILED_VERIFICATION:
		return -EKEYREJECTED;
	default:
		return -EIO;
	}
}

/* Whether the connection was not made at all: then it does not matter what was asked for. */
static bool is_of_host(CURLcode result)
{
	return result == CURLE_COULDNT_RESOLVE_HOST || result == CURLE_COULDNT_RESOLVE_PROXY ||
	       result == CURLE_COULDNT_CONNECT || result == CURLE_SSL_CONNECT_ERROR ||
	       result == CURLE_PEER_FAILED_VERIFICATION;
}

static int transfer_error(struct oci_http *h, struct err *e)
{
	/* libcurl's own words may repeat the proxy's address, with the password. */
	const char *why =
		h->curl_error[0] && !h->proxy ? h->curl_error : h->lib->curl_easy_strerror(h->result);
	int r = code_of(h->result), shown = (int)strcspn(h->url.text, "?");

	if (h->oom || h->result == CURLE_OUT_OF_MEMORY)
		return err_oom(e);
	if (h->cannot_read)
		return err_set(e, -EIO, "what is to be uploaded cannot be read");
	if (h->overflow && h->result == CURLE_WRITE_ERROR)
		return err_set(e, -EMSGSIZE, "%s sends too many headers", h->url.authority);
	if (h->foreign_coding)
		return err_set(e, -EPROTO, "%s sends in a coding that was not asked for", h->url.authority);
	if (h->silent_s)
		err_set(e, r, "%.*s: nothing came for %u s", shown, h->url.text, h->silent_s);
	else if (is_of_host(h->result))
		err_set(e, r, "%s: %s%s", h->url.authority,
			h->result == CURLE_SSL_CONNECT_ERROR ? "no TLS connection: " : "", why);
	else
		err_set(e, r, "%.*s: %s", shown, h->url.text, why);
	if (h->proxy) {
		CLEANUP_FREE char *proxy = oci_proxy_shown(h->proxy);
		err_wrap(e, "through the proxy %s", proxy ? proxy : "");
	}
	if (r == -EKEYREJECTED)
		err_hint(e, "trust its CA with ~/.docker/certs.d/%.120s/ca.crt, or use --tls-verify=false",
			h->url.authority);
	return r;
}

static bool may_pass(long status)
{
	return status == 429 || status == 408 || status == 500 || status == 502 || status == 503 ||
	       status == 504;
}

/* Whether what went wrong may go right later. */
static bool transient(const struct oci_http *h)
{
	if (!h->finished || h->result == CURLE_OK)
		return may_pass(h->resp.status);
	switch (h->result) {
	case CURLE_COULDNT_CONNECT:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_URL_MALFORMAT:
	case CURLE_WRITE_ERROR:
	case CURLE_ABORTED_BY_CALLBACK:
	case CURLE_OUT_OF_MEMORY:
		return false;
	default:
		return true;
	}
}

int oci_http_pause(struct oci_http *h, unsigned again, struct err *e)
{
	uint64_t ms = (uint64_t)RETRY_FIRST_MS << MIN_OF(again - 1, 5u);
	uint16_t jitter;

	io_random(
		&jitter, sizeof(jitter)); /* so that clients that failed together do not come back together */
	ms = ms * 3 / 4 + ms * jitter / 2 / UINT16_MAX;
	if (h->resp.retry_after_s > OCI_HTTP_RETRY_AFTER_S)
		return -EBUSY;
	if (h->resp.retry_after_s >= 0)
		ms = MAX_OF((uint64_t)h->resp.retry_after_s * 1000, ms);
	log_debug("registry: %s: trying again in %llu ms", h->url.authority, (unsigned long long)ms);
	settle(h);
	detach(h);
	h->finished = true;
	uint64_t before = h->waited_ns;
	clock_start(h);
	for (uint64_t end = time_mono_ns() + ms * 1000000;;) {
		uint64_t now = time_mono_ns();
		if (now >= end) {
			h->window_ns += h->waited_ns - before; /* nobody was slow here */
			return 0;
		}
		int r = wait_network(h, (long)MIN_OF((end - now) / 1000000 + 1, 1000u), e);
		if (r < 0)
			return r;
	}
}

/* Whether a probe has told what it was for. A server that says nothing to a request without TLS is only slow. */
static bool is_told(const struct oci_http *h)
{
	return h->rq.probe && !h->headers_done && (h->url.tls || h->result != CURLE_OPERATION_TIMEDOUT);
}

/* Pauses if it is worth trying again: 1. 0: it is not. -ECANCELED. */
static int wait_to_retry(struct oci_http *h, struct err *e)
{
	unsigned max = h->rq.tries ? h->rq.tries : OCI_HTTP_TRIES;

	if (h->progress >= PROGRESS_MIN)
		h->tries = 0;
	if (is_told(h) || !transient(h) || ++h->tries >= max || (h->rq.small && over(h, 0, OCI_HTTP_SMALL_S)))
		return 0;
	int r = oci_http_pause(h, h->tries, e);
	return r == -EBUSY ? 0 : r < 0 ? r : 1;
}

/* ---- redirects ---- */

static int check_url(const struct oci_http *h, const struct oci_url *u, struct err *e)
{
	if (!u->tls && !h->opts.plain_ok && !oci_http_is_loopback(u->host) &&
		!oci_registries_insecure(h->opts.registries, u->authority))
		return err_set(e, -EPROTO,
			"%.200s is not encrypted, and only this machine's own registries may be so", u->text);
	return 0;
}

static int follow_to(struct oci_http *h, struct oci_url *to, struct err *e)
{
	bool sends = h->rq.method >= OCI_HTTP_POST;
	int r = oci_url_parse(h->resp.location, &h->url, to, e);

	if (r == 0)
		r = check_url(h, to, e);
	if (r < 0)
		return r;
	if (h->url.tls && !to->tls)
		return err_set(e, -EPROTO, "it leads from HTTPS to %.200s", to->text);
	if (sends && h->resp.status != 307 && h->resp.status != 308)
		return err_set(e, -EPROTO, "status %ld makes another request of it", h->resp.status);
	if (h->send.secret && !oci_url_same_origin(to, &h->url))
		return err_set(e, -EPROTO, "%.200s is not to get the credentials", to->authority);
	return 0;
}

/* Takes over the address of a redirect. */
static int follow(struct oci_http *h, struct err *e)
{
	struct oci_url to = {0};

	if (!h->resp.location)
		return err_set(e, -EPROTO, "%.200s redirects to nowhere", h->url.text);
	int r = follow_to(h, &to, e);
	if (r < 0) {
		oci_url_done(&to);
		err_wrap(e, "%s: refused a redirect", h->url.authority);
		return r;
	}
	if (!oci_url_same_origin(&to, &h->url))
		free(TAKE_PTR(h->authorization));
	oci_url_done(&h->url);
	h->url = to;
	return 0;
}

static bool is_redirect(long status)
{
	return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* The headers of a final response are there: what they mean. */
static int finish(struct oci_http *h, struct err *e)
{
	h->resp.elsewhere = !oci_url_same_origin(&h->url, &h->first_url);
	if (h->resp.elsewhere)
		oci_challenge_done(&h->resp.challenge);
	if (h->resp.status == 206 && (h->bad_range || h->rq.method != OCI_HTTP_GET))
		return err_set(e, -EPROTO, "%s sends another part of the content than was asked for",
			h->url.authority);
	if (h->resp.status == 407 && h->proxy) {
		CLEANUP_FREE char *shown = oci_proxy_shown(h->proxy);
		return err_set(e, -EACCES, "the proxy %s wants to know who you are", shown ? shown : "");
	}
	return 0;
}

/* Until the headers of the final response are there. */
static int send_and_follow(struct oci_http *h, struct err *e)
{
	for (int hops = 0;;) {
		int r = start(h, e);
		if (r == 0)
			r = advance(h, GOAL_HEADERS, e);
		if (r < 0)
			return r;
		bool failed = h->finished && h->result != CURLE_OK && !h->headers_done;
		/* A body that breaks off is the reader's to resume: what came of it waits here. */
		r = failed || may_pass(h->resp.status) ? wait_to_retry(h, e) : 0;
		if (r < 0)
			return r;
		if (r > 0)
			continue;
		if (failed || !h->headers_done)
			return transfer_error(h, e);
		if (h->resp.status == 416 && h->rq.method == OCI_HTTP_GET && h->position && h->resumes == 0) {
			h->position = 0; /* it has not that much: then all of it */
			continue;
		}
		if (!is_redirect(h->resp.status))
			return finish(h, e);
		if (++hops > OCI_HTTP_REDIRECTS_MAX)
			return err_set(e, -ELOOP, "%.200s: too many redirects", h->url.text);
		r = follow(h, e);
		if (r < 0)
			return r;
	}
}

/* ---- the interface ---- */

int oci_http_send(struct oci_http *h, const struct oci_http_request *rq, struct err *e)
{
	settle(h);
	request_done(h);
	h->rq = *rq;
	if (rq->body)
		h->send = *rq->body;
	h->position = rq->method == OCI_HTTP_GET ? rq->from : 0;
	h->tries = h->resumes = 0;
	h->waited_ns = h->window_ns = h->window_bytes = 0;
	int r = oci_url_parse(rq->url, NULL, &h->url, e);
	if (r == 0)
		r = check_url(h, &h->url, e);
	if (r == 0)
		r = oci_url_parse(rq->url, NULL, &h->first_url, e);
	if (r < 0)
		return r;
	h->authorization = str_dup(rq->authorization);
	h->accept = str_dup(rq->accept);
	if ((rq->authorization && !h->authorization) || (rq->accept && !h->accept))
		return err_oom(e);
	r = send_and_follow(h, e);
	h->send.on_sent = NULL;
	h->rq.probe = false;
	return r;
}

const struct oci_http_response *oci_http_response(const struct oci_http *h)
{
	return &h->resp;
}

const struct oci_url *oci_http_url(const struct oci_http *h)
{
	return &h->url;
}

/* The body broke off: asks for the rest of it. */
static int resume(struct oci_http *h, struct err *e)
{
	if (h->rq.method != OCI_HTTP_GET || h->oom)
		return transfer_error(h, e);
	if (++h->resumes > OCI_HTTP_RESUMES + (h->position >> 20))
		return err_set(e, -EIO, "%s: the download broke off too often", h->url.authority);
	int r = wait_to_retry(h, e);
	if (r <= 0)
		return r < 0 ? r : transfer_error(h, e);
	r = send_and_follow(h, e);
	if (r < 0)
		return r;
	if (h->resp.status != 200 && h->resp.status != 206)
		return err_set(e, -EIO, "%.*s: resuming the download failed with HTTP status %ld",
			(int)strcspn(h->url.text, "?"), h->url.text, h->resp.status);
	return 0;
}

ssize_t oci_http_read(struct oci_http *h, void *buf, size_t n, struct err *e)
{
	for (;;) {
		size_t got = MIN_OF(n, h->body.len);
		if (got) {
			memcpy(buf, buf_data(&h->body), got);
			buf_consume(&h->body, got);
			return (ssize_t)got;
		}
		h->dst = buf;
		h->dst_left = n;
		int r = advance(h, GOAL_BYTE, e);
		got = n - h->dst_left;
		h->dst = NULL;
		h->dst_left = 0;
		if (r < 0)
			return r;
		if (got || n == 0)
			return (ssize_t)got;
		if (h->body.len)
			continue;
		if (h->finished && h->result == CURLE_OK)
			return 0;
		r = resume(h, e);
		if (r < 0)
			return r;
	}
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
				(int)strcspn(h->url.text, "?"), h->url.text, max);
	}
	buf_data(&b)[b.len] = '\0';
	*ret_n = b.len;
	*ret = (char *)TAKE_PTR(b.mem); /* nothing was consumed: it begins there */
	return 0;
}

char *oci_http_error_body(struct oci_http *h)
{
	if (!h->good)
		settle(h);
	return h->good || !h->body.len ? strdup("") : strndup((const char *)buf_data(&h->body), h->body.len);
}
