/* SPDX-License-Identifier: MIT */
/* Downloads against a server of our own on the loopback address, which delivers well or badly as each test says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/emulator.h"
#include "fetch.h"
#include "progress.h"
#include "test-home.h"

#define BLOBS 5

struct blob {
	uint8_t *data;
	size_t n;
	char digest[OCI_DIGEST_MAX];
	struct oci_desc desc;
	/* how it is served */
	size_t first, short_by; /* bytes of the first answer (0: all); bytes missing of all */
	size_t longer_by;
	bool no_ranges, corrupt, slow;
	/* what was asked for */
	unsigned requests, ranges;
	uint64_t sent;
};

struct world {
	struct home *home;
	int fd, port;
	pthread_t thread;
	pthread_mutex_t mutex; /* of the blobs' last part */
	struct blob blobs[BLOBS];
	const struct oci_desc *descs[BLOBS];
	struct oci_registry *reg;
	_Atomic bool stop;
};

/* ---- the server ---- */

static struct world *world;

static void send_all(int fd, const void *data, size_t n)
{
	const uint8_t *p = data;

	while (n > 0) {
		ssize_t k = send(fd, p, n, MSG_NOSIGNAL);
		if (k <= 0)
			return;
		p += k;
		n -= (size_t)k;
	}
}

static void send_text(int fd, const char *text)
{
	send_all(fd, text, strlen(text));
}

static void serve_blob(struct world *w, int fd, struct blob *b, const char *request)
{
	const char *range = strcasestr(request, "\r\nRange: bytes=");
	char head[256];
	uint8_t *body = malloc(b->n + b->longer_by + 1);

	pthread_mutex_lock(&w->mutex);
	bool first = b->requests++ == 0;
	size_t from = range && !b->no_ranges ? strtoul(strchr(range, '=') + 1, NULL, 10) : 0;
	b->ranges += range != NULL;
	from = MIN_OF(from, b->n);
	memcpy(body, b->data, b->n);
	memset(body + b->n, 'x', b->longer_by + 1);
	if (b->corrupt || strstr(request, " /bad"))
		body[b->n / 2] ^= 1;
	size_t len = b->n + b->longer_by - b->short_by - from;
	size_t part = first && b->first ? MIN_OF(b->first, len) : len;
	bool slow = b->slow;
	b->sent += part;
	pthread_mutex_unlock(&w->mutex);
	snprintf(head, sizeof(head), "HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %zu\r\n",
		from ? "206 Partial Content" : "200 OK", len);
	send_text(fd, head);
	if (from) {
		snprintf(head, sizeof(head), "Content-Range: bytes %zu-%zu/%zu\r\n", from, b->n - 1, b->n);
		send_text(fd, head);
	}
	send_text(fd, "\r\n");
	for (size_t at = 0; slow && at < part && !w->stop; at += 65536) {
		send_all(fd, body + from + at, MIN_OF(part - at, (size_t)65536));
		usleep(20000);
	}
	if (!slow)
		send_all(fd, body + from, part);
	free(body);
}

static void *serve_one(void *data)
{
	int fd = (int)(intptr_t)data;
	char request[4096] = "";
	size_t n = 0;

	while (n + 1 < sizeof(request) && !strstr(request, "\r\n\r\n")) {
		ssize_t k = read(fd, request + n, sizeof(request) - 1 - n);
		if (k <= 0 || request[0] == 0x16) /* TLS is tried first */
			goto out;
		n += (size_t)k;
		request[n] = '\0';
	}
	if (strncmp(request, "GET /v2/ ", 9) == 0) {
		send_text(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
		goto out;
	}
	for (size_t i = 0; i < BLOBS; i++)
		if (world->blobs[i].n && strstr(request, world->blobs[i].digest)) {
			serve_blob(world, fd, &world->blobs[i], request);
			goto out;
		}
	send_text(fd, "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
out:
	shutdown(fd, SHUT_WR);
	while (n && read(fd, request, sizeof(request)) > 0)
		;
	close(fd);
	return NULL;
}

static void *serve(void *data)
{
	struct world *w = data;
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	for (;;) {
		pthread_t t;
		int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			break;
		if (pthread_create(&t, &attr, serve_one, (void *)(intptr_t)fd))
			close(fd);
	}
	pthread_attr_destroy(&attr);
	return NULL;
}

/* ---- the world ---- */

static void make_blob(struct blob *b, size_t n, unsigned seed)
{
	b->data = malloc(n);
	b->n = n;
	for (size_t i = 0; i < n; i++)
		b->data[i] = (uint8_t)((i * 2654435761u + seed) >> 11);
	oci_digest_of(b->data, n, b->digest, NULL);
	b->desc = (struct oci_desc){.size = n};
	oci_digest_copy(b->desc.digest, b->digest);
}

static int open_registry(struct world *w, int home_fd)
{
	CLEANUP(oci_reference_done) struct oci_reference ref = {0};
	struct oci_remote_opts o = {.tls_verify = true};
	struct err e = {0};
	char name[64];

	snprintf(name, sizeof(name), "127.0.0.1:%d/x", w->port);
	if (oci_reference_parse(name, &ref, &e) < 0 ||
		oci_registry_open(&ref, &o, home_fd, OCI_ACCESS_PULL, NULL, &w->reg, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		return -1;
	}
	return 0;
}

static int setup(void **state)
{
	static const size_t sizes[BLOBS] = {3000000, 100, 900000, 1 << 20, 5000001};
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(addr);
	struct world *w = calloc(1, sizeof(*w));

	world = w;
	if (home_setup((void **)&w->home) < 0)
		return -1;
	setenv("DOCKER_CONFIG", w->home->path, 1);
	pthread_mutex_init(&w->mutex, NULL);
	for (unsigned i = 0; i < BLOBS; i++) {
		make_blob(&w->blobs[i], sizes[i], i);
		w->descs[i] = &w->blobs[i].desc;
	}
	w->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(w->fd, (struct sockaddr *)&addr, sizeof(addr)) || listen(w->fd, 64) ||
		getsockname(w->fd, (struct sockaddr *)&addr, &len) ||
		pthread_create(&w->thread, NULL, serve, w))
		return -1;
	w->port = ntohs(addr.sin_port);
	*state = w;
	return open_registry(w, -1);
}

static int teardown(void **state)
{
	struct world *w = *state;

	w->stop = true;
	oci_registry_close(w->reg);
	shutdown(w->fd, SHUT_RDWR);
	pthread_join(w->thread, NULL);
	close(w->fd);
	usleep(50000); /* the last of the detached threads */
	for (size_t i = 0; i < BLOBS; i++)
		free(w->blobs[i].data);
	int r = home_teardown((void **)&w->home);
	pthread_mutex_destroy(&w->mutex);
	free(w);
	return r;
}

static struct oci_fetch *start(struct world *w, size_t n)
{
	struct oci_fetch *f = NULL;
	struct err e = {0};

	if (oci_fetch_new(w->home->s, w->reg, w->descs, n, NULL, &f, &e) < 0)
		fail_msg("%s", e.msg);
	return f;
}

static void assert_stored(struct world *w, size_t i)
{
	struct blob *b = &w->blobs[i];
	int fd = oci_store_blob_open(w->home->s, b->digest, NULL);
	uint8_t *mem = malloc(b->n + 1);
	struct stat st;

	assert_true(fd >= 0);
	assert_int_equal(io_pread_full(fd, mem, b->n + 1, 0), b->n);
	assert_memory_equal(mem, b->data, b->n);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0400);
	close(fd);
	free(mem);
}

static void assert_fetched(struct world *w, size_t n)
{
	struct oci_fetch *f = start(w, n);
	struct err e = {0};

	for (size_t i = 0; i < n; i++)
		if (oci_fetch_wait(f, i, &e) < 0)
			fail_msg("%s", e.msg);
	oci_fetch_free(f);
	for (size_t i = 0; i < n; i++)
		assert_stored(w, i);
	assert_int_equal(home_count(w->home->s->partial_fd), 0);
}

static void assert_refused(struct world *w, int code, const char *why, size_t partial)
{
	struct oci_fetch *f = start(w, 1);
	struct err e = {0};

	assert_int_equal(oci_fetch_wait(f, 0, &e), code);
	if (!strstr(e.msg, why))
		fail_msg("%s", e.msg);
	oci_fetch_free(f);
	assert_int_equal(home_count(w->home->s->partial_fd), partial);
	assert_int_equal(home_count(w->home->s->sha256_fd), 0);
}

static int open_partial(struct world *w, size_t i, int flags)
{
	char name[OCI_DIGEST_MAX + 8];

	snprintf(name, sizeof(name), "sha256-%s", oci_digest_hex(w->blobs[i].digest));
	return openat(w->home->s->partial_fd, name, flags | O_CLOEXEC, 0600);
}

static void put_partial(struct world *w, size_t i, const void *data, size_t n)
{
	int fd = open_partial(w, i, O_RDWR | O_CREAT);

	assert_true(fd >= 0);
	assert_int_equal(io_write_full(fd, data, n), 0);
	close(fd);
}

/* ---- tests ---- */

static void test_all(void **state)
{
	struct world *w = *state;

	assert_fetched(w, BLOBS);
	/* Everything is there: no thread, no request. */
	struct oci_fetch *f = start(w, BLOBS);
	assert_int_equal(oci_fetch_missing(f), 0);
	assert_int_equal(oci_fetch_wait(f, 3, NULL), 0);
	oci_fetch_free(f);
	for (size_t i = 0; i < BLOBS; i++)
		assert_int_equal(w->blobs[i].requests, 1);
}

/* The reader gets what has arrived, in order, to the last byte; twice the same blob is one download. */
static void test_reading(void **state)
{
	struct world *w = *state;
	struct err e = {0};
	uint8_t *mem = malloc(w->blobs[4].n + 10);

	w->descs[0] = w->descs[4];
	w->blobs[4].slow = true;
	w->blobs[4].first = 1000000; /* and the rest on a second connection */
	struct oci_fetch *f = start(w, BLOBS);
	for (int round = 0; round < 2; round++) {
		struct oci_source src;
		size_t at = 0;
		ssize_t n;
		oci_fetch_read(f, round ? 4 : 0, &src);
		while ((n = src.read(src.data, mem + at, 7777, &e)) > 0)
			at += (size_t)n;
		if (n < 0)
			fail_msg("%s", e.msg);
		assert_int_equal(at, w->blobs[4].n);
		assert_memory_equal(mem, w->blobs[4].data, at);
	}
	assert_int_equal(oci_fetch_wait(f, 0, &e), 0);
	assert_false(oci_fetch_repeated(f, 0));
	assert_int_equal(oci_fetch_wait(f, 2, &e), 0);
	oci_fetch_free(f);
	assert_int_equal(w->blobs[4].requests, 2);
	assert_int_equal(w->blobs[4].ranges, 1);
	free(mem);
}

static void test_going_on(void **state)
{
	struct world *w = *state;
	struct blob *b = &w->blobs[0];

	put_partial(w, 0, b->data, 1234567);
	assert_fetched(w, 1);
	assert_int_equal(b->ranges, 1);
	assert_int_equal(b->sent, b->n - 1234567);
}

/* All of it had arrived, but its holder died before it said so. */
static void test_whole_partial(void **state)
{
	struct world *w = *state;

	put_partial(w, 0, w->blobs[0].data, w->blobs[0].n);
	assert_fetched(w, 1);
	assert_int_equal(w->blobs[0].requests, 0);
}

static void test_server_without_ranges(void **state)
{
	struct world *w = *state;

	put_partial(w, 0, w->blobs[0].data, 1234567);
	w->blobs[0].no_ranges = true;
	assert_fetched(w, 1);
}

/* What is there may be anything. */
static void test_bad_partial(void **state)
{
	struct world *w = *state;
	uint8_t *zeros = calloc(1, w->blobs[0].n + 1);

	for (size_t n = w->blobs[0].n - 1; n <= w->blobs[0].n + 1; n++) {
		put_partial(w, 0, zeros, n);
		assert_fetched(w, 1);
		assert_int_equal(unlinkat(w->home->s->sha256_fd, oci_digest_hex(w->blobs[0].digest), 0), 0);
	}
	put_partial(w, 0, zeros, 5000);
	struct oci_fetch *f = start(w, 1);
	assert_int_equal(oci_fetch_wait(f, 0, NULL), 0);
	assert_true(oci_fetch_repeated(f, 0));
	oci_fetch_free(f);
	free(zeros);
	/* Neither a link nor a folder in its place is followed or loops. */
	assert_int_equal(unlinkat(w->home->s->sha256_fd, oci_digest_hex(w->blobs[0].digest), 0), 0);
	char name[OCI_DIGEST_MAX + 8];
	snprintf(name, sizeof(name), "sha256-%s", oci_digest_hex(w->blobs[0].digest));
	assert_int_equal(symlinkat("/dev/null", w->home->s->partial_fd, name), 0);
	assert_refused(w, -ELOOP, "", 1);
	assert_int_equal(unlinkat(w->home->s->partial_fd, name, 0), 0);
	assert_int_equal(mkdirat(w->home->s->partial_fd, name, 0700), 0);
	assert_refused(w, -EISDIR, "", 1);
}

static void test_bad_content(void **state)
{
	struct world *w = *state;
	struct blob *b = &w->blobs[0];

	b->corrupt = true;
	assert_refused(w, -EBADMSG, "arrived damaged", 0);
	put_partial(w, 0, b->data, 1000);
	assert_refused(w, -EBADMSG, "arrived damaged", 0);
	b->corrupt = false;
	b->longer_by = 1;
	assert_refused(w, -EBADMSG, "", 0);
	b->longer_by = 0;
	b->short_by = 1;
	assert_refused(w, -EBADMSG, "ends after", 0);
	b->short_by = 0;
	b->desc.size++; /* what the manifest says is wrong */
	assert_refused(w, -EBADMSG, "ends after", 0);
	b->desc.size -= 2;
	assert_refused(w, -EBADMSG, "longer", 0);
}

/* Mirrors that send something else are asked for nothing more; what was read of it is known to be wrong. */
static void test_bad_mirrors(void **state)
{
	struct world *w = *state;
	struct blob *b = &w->blobs[0];
	CLEANUP_FREE char *config = str_printf("{\"mirrors\":{\"127.0.0.1:%d\":[\"http://127.0.0.1:%d/"
					       "bad1\",\"http://127.0.0.1:%d/bad2\"]}}",
		w->port, w->port, w->port);

	assert_int_equal(
		io_write_file_at(w->home->st->home_fd, "registries.json", config, strlen(config), 0600), 0);
	oci_registry_close(w->reg);
	assert_int_equal(open_registry(w, w->home->st->home_fd), 0);
	put_partial(w, 0, b->data, 1000);
	struct oci_fetch *f = start(w, 1);
	assert_int_equal(oci_fetch_wait(f, 0, NULL), 0);
	assert_true(oci_fetch_repeated(f, 0));
	oci_fetch_free(f);
	assert_stored(w, 0);
	assert_int_equal(b->requests, 4); /* the first mirror was asked for the rest, then for all */
	assert_fetched(w, BLOBS);
	assert_int_equal(w->blobs[4].requests, 1);
	/* that the registry has nothing better is the end */
	assert_int_equal(unlinkat(w->home->s->sha256_fd, oci_digest_hex(b->digest), 0), 0);
	b->corrupt = true;
	f = start(w, 1);
	struct err e = {0};
	assert_int_equal(oci_fetch_wait(f, 0, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "arrived damaged"));
	oci_fetch_free(f);
}

static void test_missing_blob(void **state)
{
	struct world *w = *state;

	w->blobs[1].n = 0;
	struct oci_fetch *f = start(w, BLOBS);
	struct err e = {0};
	assert_true(oci_fetch_wait(f, 1, &e) < 0);
	assert_non_null(strstr(e.msg, "has no blob"));
	/* What did not end in time says the same: it is why. */
	if (oci_fetch_wait(f, 4, &e) < 0)
		assert_non_null(strstr(e.msg, "has no blob"));
	oci_fetch_free(f);
}

struct other {
	struct world *w;
	int result;
};

static void *fetch_too(void *data)
{
	struct other *o = data;
	struct oci_fetch *f = NULL;
	struct err e = {0};

	o->result = oci_fetch_new(o->w->home->s, o->w->reg, o->w->descs, BLOBS, NULL, &f, &e);
	for (size_t i = 0; o->result == 0 && i < BLOBS; i++)
		o->result = oci_fetch_wait(f, i, &e);
	oci_fetch_free(f);
	return NULL;
}

/* Several at once share each download. */
static void test_sharing(void **state)
{
	struct world *w = *state;
	struct other others[4];
	pthread_t threads[4];

	w->blobs[4].slow = w->blobs[0].slow = true;
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		others[i] = (struct other){.w = w};
		assert_int_equal(pthread_create(&threads[i], NULL, fetch_too, &others[i]), 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(others[i].result, 0);
	}
	for (size_t i = 0; i < BLOBS; i++) {
		assert_stored(w, i);
		assert_int_equal(w->blobs[i].requests, 1);
	}
	assert_int_equal(home_count(w->home->s->partial_fd), 0);
}

static off_t partial_size(struct world *w, size_t i)
{
	struct stat st = {0};
	int fd = open_partial(w, i, O_RDONLY);

	if (fd < 0)
		return 0;
	fstat(fd, &st);
	close(fd);
	return st.st_size;
}

/* Whoever is killed leaves what it had, and nobody waits for the dead. */
static void test_killed(void **state)
{
	struct world *w = *state;
	struct blob *b = &w->blobs[4];

	/* A child of a program with threads may start none under this, nor in an emulator of user programs. */
#ifdef __SANITIZE_THREAD__
	skip();
#endif
	if (!kernel_has_filters())
		skip();
	b->slow = true;
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct oci_fetch *f = NULL;
		const struct oci_desc *d = &b->desc;
		if (oci_fetch_new(w->home->s, w->reg, &d, 1, NULL, &f, NULL) == 0)
			oci_fetch_wait(f, 0, NULL);
		_exit(1);
	}
	for (int i = 0; i < 500 && partial_size(w, 4) < 1000000; i++)
		usleep(10000);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	off_t had = partial_size(w, 4);
	assert_true(had >= 1000000 && (size_t)had < b->n);
	pthread_mutex_lock(&w->mutex);
	b->slow = false;
	b->sent = 0;
	pthread_mutex_unlock(&w->mutex);
	w->descs[0] = &b->desc;
	struct oci_fetch *f = start(w, 1);
	assert_int_equal(oci_fetch_wait(f, 0, NULL), 0);
	oci_fetch_free(f);
	assert_stored(w, 4);
	pthread_mutex_lock(&w->mutex);
	assert_int_equal(b->sent, b->n - (size_t)had);
	pthread_mutex_unlock(&w->mutex);
	assert_int_equal(home_count(w->home->s->partial_fd), 0);
}

/* Stopping does not wait for the registry, nor for the holder of a lock; a reader that is canceled returns. */
static void test_stopping(void **state)
{
	struct world *w = *state;
	struct oci_source src;
	uint8_t mem[1000];
	struct err e = {0};

	w->blobs[0].slow = true;
	int held = open_partial(w, 2, O_RDWR | O_CREAT);
	assert_int_equal(flock(held, LOCK_EX), 0);
	struct oci_fetch *f = start(w, 3);
	oci_fetch_read(f, 2, &src);
	src.cancel(src.data);
	assert_int_equal(src.read(src.data, mem, sizeof(mem), &e), -ECANCELED);
	usleep(100000);
	uint64_t before = time_mono_ns();
	oci_fetch_free(f);
	assert_true(time_mono_ns() - before < 1000000000);
	close(held);
	w->stop = true;
	usleep(50000);
	w->stop = false;
	w->blobs[0].slow = false;
	assert_fetched(w, BLOBS);
}

/* Nobody waits for ever for a holder that does nothing, such as one that was stopped with ^Z; nor for two of them. */
static void test_stuck(void **state)
{
	struct world *w = *state;
	char name[OCI_DIGEST_MAX + 4];

	put_partial(w, 0, "x", 1);
	int held = open_partial(w, 0, O_RDWR);
	assert_int_equal(flock(held, LOCK_EX), 0);
	snprintf(name, sizeof(name), "sha256-%s.1", oci_digest_hex(w->blobs[0].digest));
	int second = openat(w->home->s->partial_fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(flock(second, LOCK_EX), 0);
	w->home->s->stuck_ns = 300000000;
	struct oci_fetch *f = start(w, 2);
	assert_int_equal(oci_fetch_wait(f, 0, NULL), 0);
	assert_int_equal(oci_fetch_wait(f, 1, NULL), 0);
	oci_fetch_free(f);
	assert_stored(w, 0);
	assert_int_equal(w->blobs[0].requests, 1);
	assert_int_equal(home_count(w->home->s->partial_fd), 2); /* theirs */
	close(held);
	close(second);
	oci_partial_clean(w->home->s, 0);
	assert_int_equal(home_count(w->home->s->partial_fd), 0);
}

/* What is waited for may come from another one than the holder. */
static void test_come_meanwhile(void **state)
{
	struct world *w = *state;

	put_partial(w, 0, "x", 1);
	int held = open_partial(w, 0, O_RDWR);
	assert_int_equal(flock(held, LOCK_EX), 0);
	struct oci_fetch *f = start(w, 1);
	assert_int_equal(io_write_file_at(w->home->s->sha256_fd, oci_digest_hex(w->blobs[0].digest),
				 (char *)w->blobs[0].data, w->blobs[0].n, 0400),
		0);
	assert_int_equal(oci_fetch_wait(f, 0, NULL), 0);
	oci_fetch_free(f);
	assert_stored(w, 0);
	assert_int_equal(w->blobs[0].requests, 0);
	close(held);
}

static void test_cleaning(void **state)
{
	struct world *w = *state;
	struct timespec old[2] = {{1000, 0}, {1000, 0}};

	for (size_t i = 0; i < 3; i++)
		put_partial(w, i, "x", 1);
	int held = open_partial(w, 0, O_RDWR), aged = open_partial(w, 1, O_RDWR);
	assert_int_equal(flock(held, LOCK_EX), 0);
	assert_int_equal(futimens(held, old), 0);
	assert_int_equal(futimens(aged, old), 0);
	assert_int_equal(mkdirat(w->home->s->partial_fd, "folder", 0700), 0);
	oci_partial_clean(w->home->s, 3600ll * 1000000000);
	assert_int_equal(partial_size(w, 0), 1);
	assert_int_equal(partial_size(w, 1), 0);
	assert_int_equal(partial_size(w, 2), 1);
	oci_partial_clean(w->home->s, 0);
	assert_int_equal(home_count(w->home->s->partial_fd), 1);
	close(held);
	close(aged);
	oci_partial_clean(w->home->s, 0);
	assert_int_equal(home_count(w->home->s->partial_fd), 0);
}

/* A complete blob that nobody names can become a partial file again, and then needs no download. */
static void test_keeping(void **state)
{
	struct world *w = *state;

	assert_fetched(w, 2);
	oci_partial_keep(w->home->s, w->blobs[0].digest);
	assert_int_equal(partial_size(w, 0), w->blobs[0].n);
	assert_int_equal(state_exec(w->home->s->st, NULL,
				 "INSERT INTO image_blobs(manifest, pos, digest) VALUES('m', 0, ?)", "s",
				 w->blobs[1].digest),
		0);
	oci_partial_keep(w->home->s, w->blobs[1].digest);
	assert_stored(w, 1);
	assert_fetched(w, 2);
	assert_int_equal(w->blobs[0].requests, 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_all),
		TEST(test_reading),
		TEST(test_going_on),
		TEST(test_whole_partial),
		TEST(test_server_without_ranges),
		TEST(test_bad_partial),
		TEST(test_bad_content),
		TEST(test_bad_mirrors),
		TEST(test_missing_blob),
		TEST(test_sharing),
		TEST(test_killed),
		TEST(test_stopping),
		TEST(test_stuck),
		TEST(test_come_meanwhile),
		TEST(test_cleaning),
		TEST(test_keeping),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
