/* SPDX-License-Identifier: MIT */
/* What servers do to a transfer: where they send us, how much they say, in which coding, and how long it takes. */
#include "registry/test-server.h"

#include "registry/http.h"

/* ---- a clock that can be made to run faster ---- */

static uint64_t speed = 1, first_ns;

uint64_t __real_time_mono_ns(void);
uint64_t __wrap_time_mono_ns(void);

uint64_t __wrap_time_mono_ns(void)
{
	return first_ns + (__real_time_mono_ns() - first_ns) * speed;
}

static void set_speed(uint64_t times)
{
	first_ns = __real_time_mono_ns();
	speed = times;
}

static void no_answer(struct request *rq)
{
	say_text(rq, "404 No", "", "");
}

static void challenge_basic(struct request *rq)
{
	say_text(rq, "401 Who", "WWW-Authenticate: Basic realm=\"x\"\r\n", "");
}

/* ---- addresses ---- */

static void redirect_to(struct request *rq, const char *status, const char *to)
{
	CLEANUP_FREE char *header = str_printf("Location: %s\r\n", to);

	say_text(rq, status, header, "");
}

static void redirect_userinfo(struct request *rq)
{
	redirect_to(rq, "307 Go", "https://user:secret@127.0.0.1:1/");
}

static void test_userinfo(void **state)
{
	static const char *const urls[] = {"https://user:secret@127.0.0.1/", "http://user:secret@127.0.0.1/",
		"HTTPS://secret@127.0.0.1:1?x", "https://x:secret@y@127.0.0.1#@"};
	struct net *net = *state;
	struct oci_http_opts o = {.plain_ok = true, .tls_verify = true};
	CLEANUP(oci_http_freep) struct oci_http *h = NULL;
	struct err e = {0};

	start(net, redirect_userinfo, challenge_basic);
	assert_int_equal(oci_http_new(&o, &h, &e), 0);
	for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
		struct oci_http_request rq = {.url = urls[i]};
		e = (struct err){0};
		assert_int_equal(oci_http_send(h, &rq, &e), -EPROTO);
		assert_non_null(strstr(e.msg, "carries credentials"));
		assert_null(strstr(e.msg, "secret"));
	}
	assert_int_equal(ask_manifest(net, &e), -EPROTO);
	assert_non_null(strstr(e.msg, "refused a redirect"));
	assert_string_equal(net->b.seen, "");
}

static void redirect_plain(struct request *rq)
{
	redirect_to(rq, "307 Go", "http://192.0.2.1/x");
}

static void test_redirects_refused(void **state)
{
	struct net *net = *state;
	struct err e = {0};

	start(net, redirect_plain, no_answer);
	assert_int_equal(ask_manifest(net, &e), -EPROTO);
	assert_non_null(strstr(e.msg, "not encrypted"));
}

static void redirect_self(struct request *rq)
{
	redirect_to(rq, "307 Go", "/v2/x/manifests/1");
}

static void test_redirect_loop(void **state)
{
	struct net *net = *state;
	struct err e = {0};

	start(net, redirect_self, no_answer);
	assert_int_equal(ask_manifest(net, &e), -ELOOP);
	assert_true(net->a.n_requests <= OCI_HTTP_REDIRECTS_MAX + 1);
	assert_int_equal(net->a.n_connections, 1); /* it is kept */
}

/* ---- headers ---- */

static void many_headers(struct request *rq)
{
	static const char line[] = "X-Filler: 0123456789012345678901234567890123456789\r\n";

	rq->close = true;
	(void)!write(rq->fd, "HTTP/1.1 200 OK\r\n", 17);
	for (int i = 0; i < 20000; i++)
		if (send(rq->fd, line, strlen(line), MSG_NOSIGNAL) < 0)
			return;
}

static void test_many_headers(void **state)
{
	struct net *net = *state;
	struct err e = {0};

	start(net, many_headers, no_answer);
	assert_int_equal(ask_manifest(net, &e), -EMSGSIZE);
}

static void say_coded(struct request *rq)
{
	static const char *const codings[] = {
		"gzip, chunked", "deflate", "chunked, gzip", "x-gzip", "", "chunked;q=1"};
	CLEANUP_FREE char *head =
		str_printf("HTTP/1.1 200 OK\r\nTransfer-Encoding: %s\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
			codings[(size_t)rq->number % ARRAY_LEN(codings)]);

	say_raw(rq, head);
}

static void say_long_coding(struct request *rq)
{
	CLEANUP_FREE char *head =
		str_printf("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip,%*s\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
			60000, "chunked");

	say_raw(rq, head);
}

static void say_chunked(struct request *rq)
{
	say_raw(rq, "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\ntransfer-encoding:  Chunked "
		    "\r\n\r\n2;x=y\r\n{}\r\n0\r\n\r\n");
}

/* Nobody asks for a transfer to be compressed, and a small one could become any size. */
static void test_codings(void **state)
{
	struct net *net = *state;
	struct err e = {0};

	start(net, say_coded, no_answer);
	for (int i = 0; i < 6; i++) {
		assert_int_equal(ask_manifest(net, &e), -EPROTO);
		assert_non_null(strstr(e.msg, "a coding that was not asked for"));
		assert_int_equal(net->a.n_requests, i + 1);
	}
	net->a.answer = say_long_coding;
	assert_int_equal(ask_manifest(net, &e), -EPROTO);
	net->a.answer = say_chunked;
	if (ask_manifest(net, &e) < 0)
		fail_msg("%s", e.msg);
}

/* ---- time ---- */

#define BLOB "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

/* Bytes without a pause, of which none is content. */
static void flood(struct request *rq)
{
	static char noise[65536];
	static const char head[] =
		"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nTransfer-Encoding: chunked\r\n\r\n2;";

	memset(noise, 'n', sizeof(noise));
	rq->close = true;
	bool ok = io_write_full(rq->fd, head, strlen(head)) == 0;
	while (ok)
		ok = send(rq->fd, noise, sizeof(noise), MSG_NOSIGNAL) > 0;
}

static void test_flood(void **state)
{
	struct net *net = *state;
	CLEANUP(client_done) struct client cl = {0};
	struct err e = {0};
	uint64_t from;
	char byte;

	start(net, flood, no_answer);
	client_open(net, OCI_ACCESS_PULL, NULL, &cl);
	uint64_t begun = __real_time_mono_ns();
	set_speed(60);
	assert_int_equal(ask_manifest(net, &e), -ETIMEDOUT);
	assert_int_equal(oci_conn_blob(cl.c, BLOB, 0, &from, &e), 0);
	assert_int_equal(oci_conn_read(cl.c, &byte, 1, &e), -ETIMEDOUT);
	set_speed(1);
	assert_true(__real_time_mono_ns() - begun < 60000000000ull);
}

static void large_blob(struct request *rq)
{
	static char data[8 << 20];

	rq->close = true;
	say(rq, "200 OK", "", data, sizeof(data));
}

/* Who takes the bytes out late is no reason to give the server up. */
static void test_slow_reader(void **state)
{
	static char buf[1 << 20];
	struct net *net = *state;
	CLEANUP(client_done) struct client cl = {0};
	struct err e = {0};
	size_t got = 0;
	uint64_t from;
	ssize_t n;

	start(net, large_blob, no_answer);
	client_open(net, OCI_ACCESS_PULL, NULL, &cl);
	assert_int_equal(oci_conn_blob(cl.c, BLOB, 0, &from, &e), 0);
	set_speed(600);
	while ((n = oci_conn_read(cl.c, buf, sizeof(buf), &e)) > 0) {
		if (got >> 22 != (got + (size_t)n) >> 22)
			usleep(300000); /* three minutes */
		got += (size_t)n;
	}
	set_speed(1);
	if (n < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(got, 8 << 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		NET_TEST(test_userinfo),
		NET_TEST(test_redirects_refused),
		NET_TEST(test_redirect_loop),
		NET_TEST(test_many_headers),
		NET_TEST(test_codings),
		NET_TEST(test_flood),
		NET_TEST(test_slow_reader),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
