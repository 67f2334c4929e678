/* SPDX-License-Identifier: MIT */
/* HTTP servers on the loopback address for tests, which answer what each test says. */
#ifndef OCI_REGISTRY_TEST_SERVER_H
#define OCI_REGISTRY_TEST_SERVER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"
#include "registry/registry.h"

#define HEADERS_MAX 8192
#define TEST_BASIC  "dXNlcjpwYXNz" /* user:pass */

struct server;
struct request {
	struct server *s;
	int fd;
	const char *head; /* request line and headers */
	char *body;
	size_t body_len;
	int number; /* how many came before it */
	bool close; /* after the answer */
};

/* A server, and another origin: the same host on another port. */
struct server {
	int fd, port;
	bool running;
	pthread_t thread;
	struct server *other;
	void (*answer)(struct request *rq);
	pthread_mutex_t mutex;
	char seen[65536]; /* the heads of all requests */
	char bodies[4096];
	int n_requests, n_connections;
	int open[64]; /* descriptors of connections, so that an end ends them */
	pthread_t threads[64];
	/* of uploads */
	uint8_t *stored;
	size_t stored_len;
};

struct net {
	struct server a, b;
	char dir[64]; /* DOCKER_CONFIG, and a home folder */
	int home_fd;
};

/* ---- answers ---- */

static inline void say(
	struct request *rq, const char *status, const char *headers, const void *body, size_t n)
{
	CLEANUP_FREE char *head = str_printf("HTTP/1.1 %s\r\nContent-Length: %zu\r\n%s%s\r\n", status, n,
		headers, rq->close ? "Connection: close\r\n" : "");

	bool ok = io_write_full(rq->fd, head, strlen(head)) == 0;
	if (ok && n && strncmp(rq->head, "HEAD ", 5) != 0)
		(void)io_write_full(rq->fd, body, n);
}

static inline void say_text(struct request *rq, const char *status, const char *headers, const char *body)
{
	say(rq, status, headers, body, strlen(body));
}

/* Bytes as they are; the connection ends behind them. */
static inline void say_raw(struct request *rq, const char *text)
{
	rq->close = true;
	(void)io_write_full(rq->fd, text, strlen(text));
}

static inline bool asks(const struct request *rq, const char *what)
{
	return strncmp(rq->head, what, strlen(what)) == 0;
}

static inline bool has(const struct request *rq, const char *what)
{
	return strstr(rq->head, what);
}

/* The first byte of a Range or Content-Range header; 0 without one. */
static inline uint64_t range_of(const struct request *rq, const char *header)
{
	const char *p = strstr(rq->head, header);

	return p ? strtoull(p + strlen(header), NULL, 10) : 0;
}

/* ---- the server ---- */

/* One request. false: the client has gone, or does not speak HTTP. */
static inline bool read_request(struct request *rq, char *head, struct server *s)
{
	size_t n = 0;
	char *end = NULL;

	while (!end && n + 1 < HEADERS_MAX) {
		ssize_t k = read(rq->fd, head + n, 1);
		if (k <= 0 || head[0] == 0x16)
			return false;
		head[++n] = '\0';
		end = n >= 4 && memcmp(head + n - 4, "\r\n\r\n", 4) == 0 ? head + n : NULL;
	}
	if (!end)
		return false;
	const char *length = strcasestr(head, "\r\nContent-Length: ");
	rq->head = head;
	rq->body_len = length ? strtoull(length + 18, NULL, 10) : 0;
	rq->body = malloc(rq->body_len + 1);
	ssize_t got = io_read_full(rq->fd, rq->body, rq->body_len);
	pthread_mutex_lock(&s->mutex);
	rq->number = s->n_requests++;
	strncat(s->seen, head, sizeof(s->seen) - strlen(s->seen) - 1);
	if (got > 0 && got < 1000)
		strncat(s->bodies, rq->body, MIN_OF((size_t)got, sizeof(s->bodies) - strlen(s->bodies) - 1));
	pthread_mutex_unlock(&s->mutex);
	return got == (ssize_t)rq->body_len;
}

struct connection {
	struct server *s;
	int fd;
};

static inline void *serve_connection(void *data)
{
	struct connection *c = data;
	char head[HEADERS_MAX];

	for (bool more = true; more;) {
		struct request rq = {.s = c->s, .fd = c->fd};
		more = read_request(&rq, head, c->s);
		if (more)
			c->s->answer(&rq);
		more = more && !rq.close;
		free(rq.body);
	}
	shutdown(c->fd, SHUT_RDWR);
	free(c);
	return NULL;
}

static inline void *serve(void *data)
{
	struct server *s = data;

	for (;;) {
		int fd = accept(s->fd, NULL, NULL);
		if (fd < 0)
			return NULL;
		struct connection *c = malloc(sizeof(*c));
		*c = (struct connection){s, fd};
		if (s->n_connections == (int)ARRAY_LEN(s->open))
			abort();
		s->open[s->n_connections] = fd;
		if (pthread_create(&s->threads[s->n_connections++], NULL, serve_connection, c) != 0)
			abort();
	}
}

static inline void server_init(struct server *s, struct server *other)
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

static inline void server_start(struct server *s, void (*answer)(struct request *rq))
{
	s->answer = answer;
	s->running = true;
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static inline void server_stop(struct server *s)
{
	shutdown(s->fd, SHUT_RDWR);
	if (s->running)
		pthread_join(s->thread, NULL);
	for (int i = 0; i < s->n_connections; i++) {
		shutdown(s->open[i], SHUT_RDWR);
		pthread_join(s->threads[i], NULL);
		close(s->open[i]);
	}
	close(s->fd);
	free(s->stored);
}

static inline bool saw(struct server *s, const char *what)
{
	pthread_mutex_lock(&s->mutex);
	bool found = strstr(s->seen, what);
	pthread_mutex_unlock(&s->mutex);
	return found;
}

static inline int count(struct server *s, const char *what)
{
	int n = 0;

	pthread_mutex_lock(&s->mutex);
	for (const char *p = s->seen; (p = strstr(p, what)); p += strlen(what))
		n++;
	pthread_mutex_unlock(&s->mutex);
	return n;
}

/* ---- a test's world ---- */

static inline void put_file(struct net *net, const char *name, const char *text)
{
	assert_int_equal(io_write_file_at(net->home_fd, name, text, strlen(text), 0600), 0);
}

static inline int net_setup(void **state)
{
	struct net *net = calloc(1, sizeof(*net));
	const char *tmp = getenv("TMPDIR");

	*state = net;
	signal(SIGPIPE, SIG_IGN);
	server_init(&net->a, &net->b);
	server_init(&net->b, &net->a);
	snprintf(net->dir, sizeof(net->dir), "%.40s/a3s-reg-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(net->dir))
		return -1;
	net->home_fd = open(net->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	setenv("DOCKER_CONFIG", net->dir, 1);
	static const char *const proxies[] = {"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy",
		"ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"};
	for (size_t i = 0; i < ARRAY_LEN(proxies); i++)
		unsetenv(proxies[i]);
	/* Credentials are for the first server only. */
	CLEANUP_FREE char *config =
		str_printf("{\"auths\":{\"127.0.0.1:%d\":{\"auth\":\"" TEST_BASIC "\"}}}", net->a.port);
	put_file(net, "config.json", config);
	return 0;
}

static inline int net_teardown(void **state)
{
	struct net *net = *state;

	server_stop(&net->a);
	server_stop(&net->b);
	close(net->home_fd);
	int r = io_remove_tree_at(AT_FDCWD, net->dir);
	free(net);
	return r;
}

static inline void start(struct net *net, void (*a)(struct request *rq), void (*b)(struct request *rq))
{
	server_start(&net->a, a);
	server_start(&net->b, b);
}

#define NET_TEST(f) cmocka_unit_test_setup_teardown(f, net_setup, net_teardown)

/* A connection to a repository "x" of the first server. */
struct client {
	struct oci_registry *r;
	struct oci_conn *c;
};

static inline void client_open(struct net *net, enum oci_access access, const char *from, struct client *ret)
{
	CLEANUP(oci_reference_done) struct oci_reference ref = {0};
	CLEANUP_FREE char *name = str_printf("127.0.0.1:%d/x:1", net->a.port);
	struct oci_remote_opts o = {.tls_verify = true};
	struct err e = {0};

	assert_int_equal(oci_reference_parse(name, &ref, &e), 0);
	if (oci_registry_open(&ref, &o, net->home_fd, access, from, &ret->r, &e) < 0 ||
		oci_conn_new(ret->r, &ret->c, &e) < 0)
		fail_msg("%s", e.msg);
}

static inline void client_done(struct client *c)
{
	oci_conn_freep(&c->c);
	oci_registry_closep(&c->r);
}

/* Asks the first server for a manifest. */
static inline int ask_manifest(struct net *net, struct err *e)
{
	CLEANUP(client_done) struct client cl = {0};
	CLEANUP_FREE char *body = NULL, *type = NULL;
	char digest[OCI_DIGEST_MAX];
	size_t n;

	client_open(net, OCI_ACCESS_PULL, NULL, &cl);
	int rc = oci_conn_manifest(cl.c, "1", &body, &n, digest, &type, e);
	if (rc == 0)
		assert_string_equal(body, "{}");
	return rc;
}

#endif
