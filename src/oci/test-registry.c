/* SPDX-License-Identifier: MIT */
/* The registry client against servers of our own on the loopback address, which answer what each test says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"
#include "registry.h"

#define REQUEST_MAX 4096
#define ANSWER_MAX  2048
#define TEST_BASIC  "dXNlcjpwYXNz" /* user:pass */

/* A server, and another origin: the same host on another port. */
struct server {
	int fd, port;
	pthread_t thread;
	struct server *other;
	/* Status line, headers, empty line and body for a request. */
	void (*answer)(const struct server *s, const char *request, char ret[ANSWER_MAX]);
	pthread_mutex_t mutex;
	char seen[16384]; /* all requests */
};

struct net {
	struct server a, b;
	char dir[64];
};

static void serve_one(struct server *s, int fd)
{
	char request[REQUEST_MAX] = "", answer[ANSWER_MAX];
	size_t n = 0;

	while (n + 1 < sizeof(request) && !strstr(request, "\r\n\r\n")) {
		ssize_t k = read(fd, request + n, sizeof(request) - 1 - n);
		if (k <= 0)
			return;
		n += (size_t)k;
		request[n] = '\0';
	}
	pthread_mutex_lock(&s->mutex);
	strncat(s->seen, request, sizeof(s->seen) - strlen(s->seen) - 1);
	pthread_mutex_unlock(&s->mutex);
	if (strncmp(request, "GET /v2/ ", 9) == 0)
		strcpy(answer, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
	else
		s->answer(s, request, answer);
	(void)!write(fd, answer, strlen(answer));
}

static void *serve(void *data)
{
	struct server *s = data;

	for (;;) {
		int fd = accept(s->fd, NULL, NULL);
		if (fd < 0)
			return NULL;
		serve_one(s, fd);
		close(fd);
	}
}

static void server_start(struct server *s, struct server *other)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(addr);

	s->other = other;
	pthread_mutex_init(&s->mutex, NULL);
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(s->fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(s->fd, 16), 0);
	assert_int_equal(getsockname(s->fd, (struct sockaddr *)&addr, &len), 0);
	s->port = ntohs(addr.sin_port);
}

static int setup(void **state)
{
	struct net *net = calloc(1, sizeof(*net));
	const char *tmp = getenv("TMPDIR");
	char *config;

	*state = net;
	server_start(&net->a, &net->b);
	server_start(&net->b, &net->a);
	/* Credentials are for the first server only. */
	snprintf(net->dir, sizeof(net->dir), "%.40s/a3s-reg-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(net->dir))
		return -1;
	setenv("DOCKER_CONFIG", net->dir, 1);
	config = str_printf("{\"auths\":{\"127.0.0.1:%d\":{\"auth\":\"" TEST_BASIC "\"}}}", net->a.port);
	char *path = str_printf("%s/config.json", net->dir);
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	int r = io_write_full(fd, config, strlen(config));
	close(fd);
	free(path);
	free(config);
	return r;
}

static int teardown(void **state)
{
	struct net *net = *state;

	for (struct server *s = &net->a; s; s = s == &net->a ? &net->b : NULL) {
		shutdown(s->fd, SHUT_RDWR);
		if (s->answer)
			pthread_join(s->thread, NULL);
		close(s->fd);
	}
	int r = io_remove_tree_at(AT_FDCWD, net->dir);
	free(net);
	return r;
}

static void start(struct net *net,
	void (*a)(const struct server *s, const char *request, char ret[ANSWER_MAX]),
	void (*b)(const struct server *s, const char *request, char ret[ANSWER_MAX]))
{
	net->a.answer = a;
	net->b.answer = b;
	assert_int_equal(pthread_create(&net->a.thread, NULL, serve, &net->a), 0);
	assert_int_equal(pthread_create(&net->b.thread, NULL, serve, &net->b), 0);
}

static bool saw(struct server *s, const char *what)
{
	pthread_mutex_lock(&s->mutex);
	bool found = strstr(s->seen, what);
	pthread_mutex_unlock(&s->mutex);
	return found;
}

/* Asks the first server for a manifest. */
static int ask(struct net *net, struct err *e)
{
	CLEANUP(oci_reference_done) struct oci_reference ref = {0};
	CLEANUP(oci_registry_closep) struct oci_registry *r = NULL;
	struct oci_pull_opts o = {.plain_http = true, .tls_verify = true};
	CLEANUP_FREE char *name = str_printf("127.0.0.1:%d/x:1", net->a.port);
	CLEANUP_FREE char *body = NULL, *type = NULL;
	char digest[OCI_DIGEST_MAX];
	size_t n;

	assert_int_equal(oci_reference_parse(name, &ref, e), 0);
	assert_int_equal(oci_registry_open(&ref, &o, &r, e), 0);
	int rc = oci_registry_manifest(r, "1", &body, &n, digest, &type, e);
	if (rc == 0)
		assert_string_equal(body, "{}");
	return rc;
}

static void redirect(const struct server *s, const char *request, char ret[ANSWER_MAX])
{
	snprintf(ret, ANSWER_MAX,
		"HTTP/1.1 307 Go\r\nConnection: close\r\nContent-Length: 0\r\n"
		"Location: http://127.0.0.1:%d/elsewhere\r\n\r\n",
		s->other->port);
}

static void challenge_bearer(const struct server *s, const char *request, char ret[ANSWER_MAX])
{
	snprintf(ret, ANSWER_MAX,
		"HTTP/1.1 401 Who\r\nConnection: close\r\nContent-Length: 0\r\n"
		"WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%d/token\",service=\"s\"\r\n\r\n",
		s->port);
}

static void challenge_basic(const struct server *s, const char *request, char ret[ANSWER_MAX])
{
	strcpy(ret, "HTTP/1.1 401 Who\r\nConnection: close\r\nContent-Length: 0\r\n"
		    "WWW-Authenticate: Basic realm=\"x\"\r\n\r\n");
}

/* Whoever a redirect leads to may not ask for the registry's credentials. */
static void test_challenge_elsewhere(void **state)
{
	struct net *net = *state;
	struct err e = {0};

	start(net, redirect, challenge_bearer);
	assert_int_equal(ask(net, &e), -EACCES);
	assert_non_null(strstr(e.msg, "redirected to a server that refused access"));
	assert_true(saw(&net->b, "GET /elsewhere"));
	assert_false(saw(&net->b, "/token"));
	assert_false(saw(&net->b, "Authorization"));
	assert_false(saw(&net->a, "Authorization"));
}

static void test_basic_elsewhere(void **state)
{
	struct net *net = *state;
	struct err e = {0};

	start(net, redirect, challenge_basic);
	assert_int_equal(ask(net, &e), -EACCES);
	assert_false(saw(&net->a, "Authorization"));
	assert_false(saw(&net->b, "Authorization"));
}

static void token_answer(const struct server *s, const char *request, char ret[ANSWER_MAX])
{
	strcpy(ret, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"token\":\"letmein\"}");
}

/* The registry itself: names a token server, then wants its token, and redirects with it. */
static void challenge_then_redirect(const struct server *s, const char *request, char ret[ANSWER_MAX])
{
	if (strstr(request, "GET /here"))
		strcpy(ret, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}");
	else if (strstr(request, "Authorization: Bearer letmein"))
		strcpy(ret, "HTTP/1.1 302 Go\r\nConnection: close\r\nContent-Length: 0\r\n"
			    "Location: /here\r\n\r\n");
	else
		challenge_bearer(s->other, request, ret);
}

static void test_token(void **state)
{
	struct net *net = *state;
	struct err e = {0};

	start(net, challenge_then_redirect, token_answer);
	if (ask(net, &e) < 0)
		fail_msg("%s", e.msg);
	assert_true(saw(&net->b, "GET /token?service=s&scope=repository:x:pull"));
	assert_true(saw(&net->b, "Authorization: Basic " TEST_BASIC));
	assert_false(saw(&net->a, "Authorization: Basic"));
	/* a redirect within the origin keeps the token */
	const char *here = strstr(net->a.seen, "GET /here");
	assert_non_null(here);
	assert_non_null(strstr(here, "Authorization: Bearer letmein"));
}

static void redirect_userinfo(const struct server *s, const char *request, char ret[ANSWER_MAX])
{
	snprintf(ret, ANSWER_MAX,
		"HTTP/1.1 307 Go\r\nConnection: close\r\nContent-Length: 0\r\n"
		"Location: https://user:secret@127.0.0.1:%d/\r\n\r\n",
		s->other->port);
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
		assert_int_equal(oci_http_get(h, &rq, &e), -EPROTO);
		assert_non_null(strstr(e.msg, "carries credentials"));
		assert_null(strstr(e.msg, "secret"));
	}
	assert_int_equal(ask(net, &e), -EPROTO);
	assert_non_null(strstr(e.msg, "refused a redirect"));
	assert_string_equal(net->b.seen, "");
}

#define NET_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		NET_TEST(test_challenge_elsewhere),
		NET_TEST(test_basic_elsewhere),
		NET_TEST(test_token),
		NET_TEST(test_userinfo),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
