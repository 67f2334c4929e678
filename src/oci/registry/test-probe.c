/* SPDX-License-Identifier: MIT */
/* Whether a registry speaks TLS: what is tried first, and what of an answer is believed. */
#include "registry/test-server.h"

#include <sys/stat.h>

static void good(struct request *rq)
{
	say_text(rq, "200 OK", "Content-Type: a/b\r\n", "{}");
}

static void bad_request(struct request *rq)
{
	say_text(rq, "400 Bad Request", "", "Client sent an HTTP request to an HTTPS server.\n");
}

/* A server with TLS that was sent what is none: a fatal alert. */
static void alert(struct request *rq)
{
	rq->close = true;
	(void)io_write_full(rq->fd, "\x15\x03\x01\x00\x02\x02\x46", 7);
}

static void hang_up(struct request *rq)
{
	rq->close = true;
}

static void busy_at_first(struct request *rq)
{
	if (rq->number == 0)
		say_text(rq, "503 Wait", "Retry-After: 0\r\n", "");
	else
		good(rq);
}

static int ask(struct net *net, struct err *e)
{
	CLEANUP(client_done) struct client cl = {0};
	char digest[OCI_DIGEST_MAX];

	client_open(net, OCI_ACCESS_PULL, NULL, &cl);
	return oci_conn_has_manifest(cl.c, "1", digest, e);
}

/* Requests and connections of the first server; a connection without a request was to speak TLS. */
static void assert_asked(struct net *net, int requests, int connections)
{
	assert_int_equal(net->a.n_requests, requests);
	assert_int_equal(net->a.n_connections, connections);
	net->a.n_requests = 0;
}

static void test_plain_first(void **state)
{
	struct net *net = *state;
	struct err e = {0};

	start(net, good, good);
	assert_int_equal(ask(net, &e), 1);
	assert_asked(net, 2, 1); /* HEAD, and GET for the digest that it does not say */
	net->a.answer = busy_at_first;
	assert_int_equal(ask(net, &e), 1);
	assert_asked(net, 3, 2);
}

/* What a server with TLS answers leads to the question whether it has TLS; this one has not, so its answer counts. */
static void test_then_tls(void **state)
{
	struct net *net = *state;
	struct err e = {0};

	start(net, bad_request, good);
	assert_true(ask(net, &e) < 0);
	assert_non_null(strstr(e.msg, "400"));
	assert_asked(net, 2, 2);
	net->a.answer = alert;
	assert_true(ask(net, &e) < 0);
	assert_true(net->a.n_connections >= 2 + 3);
	net->a.answer = hang_up;
	assert_true(ask(net, &e) < 0);
	assert_true(net->a.n_connections >= 5 + 3);
	assert_false(saw(&net->a, "Authorization"));
}

/* Certificates say that there is TLS. */
static void test_certificates(void **state)
{
	struct net *net = *state;
	CLEANUP_FREE char *host = str_printf("certs.d/127.0.0.1:%d", net->a.port);
	struct err e = {0};

	assert_int_equal(mkdirat(net->home_fd, "certs.d", 0700), 0);
	assert_int_equal(mkdirat(net->home_fd, host, 0700), 0);
	start(net, good, good);
	assert_int_equal(ask(net, &e), 1);
	assert_asked(net, 2, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		NET_TEST(test_plain_first),
		NET_TEST(test_then_tls),
		NET_TEST(test_certificates),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
