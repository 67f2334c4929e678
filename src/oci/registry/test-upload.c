/* SPDX-License-Identifier: MIT */
/* What is written to registries: blobs whole and in chunks, broken off and resumed, mounted; manifests. */
#include "registry/test-server.h"

#include <sys/mman.h>

#define DIGEST	"sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define LARGE	(40u << 20) /* three chunks */
#define UPLOAD1 "/v2/x/blobs/uploads/1?state=s"

static void no_answer(struct request *rq)
{
	say_text(rq, "404 No", "", "");
}

static void accept_upload(struct request *rq)
{
	say_text(rq, "202 Go", "Location: " UPLOAD1 "\r\n", "");
}

static void store(struct request *rq, uint64_t at, size_t n)
{
	struct server *s = rq->s;

	pthread_mutex_lock(&s->mutex);
	if (!s->stored)
		s->stored = calloc(1, LARGE);
	if (at + n <= LARGE)
		memcpy(s->stored + at, rq->body, n);
	s->stored_len = at + n;
	pthread_mutex_unlock(&s->mutex);
}

static void say_arrived(struct request *rq, const char *status)
{
	CLEANUP_FREE char *headers = str_printf(
		"Location: " UPLOAD1 "\r\nRange: 0-%zu\r\n", rq->s->stored_len ? rq->s->stored_len - 1 : 0);

	say_text(rq, status, headers, "");
}

/* A registry that keeps what comes. */
static void good(struct request *rq)
{
	if (asks(rq, "POST ")) {
		accept_upload(rq);
	} else if (asks(rq, "PATCH ")) {
		if (range_of(rq, "Content-Range: ") != rq->s->stored_len) {
			say_arrived(rq, "416 Range");
			return;
		}
		store(rq, rq->s->stored_len, rq->body_len);
		say_arrived(rq, "202 Go");
	} else if (asks(rq, "PUT " UPLOAD1 "&digest=" DIGEST " ")) {
		store(rq, rq->s->stored_len, rq->body_len);
		say_text(rq, "201 Made", "", "");
	} else if (asks(rq, "GET " UPLOAD1 " ")) {
		say_arrived(rq, "204 There");
	} else {
		no_answer(rq);
	}
}

/* The second chunk is kept in part, and the connection dies. */
static void dies_once(struct request *rq)
{
	if (asks(rq, "PATCH ") && rq->number == 2) {
		store(rq, rq->s->stored_len, 1000000);
		rq->close = true;
		return;
	}
	good(rq);
}

/* The upload is forgotten in the middle. */
static void forgets(struct request *rq)
{
	if (rq->number == 3) {
		rq->s->stored_len = 0;
		say_text(rq, "404 No", "", "{\"errors\":[{\"code\":\"BLOB_UPLOAD_UNKNOWN\"}]}");
	} else if (rq->number == 4) {
		no_answer(rq);
	} else {
		good(rq);
	}
}

static void no_chunks(struct request *rq)
{
	if (asks(rq, "PATCH "))
		say_text(rq, "405 No", "", "");
	else
		good(rq);
}

static void always_dies(struct request *rq)
{
	if (asks(rq, "PATCH "))
		rq->close = true;
	else
		good(rq);
}

static void lies(struct request *rq)
{
	if (asks(rq, "PATCH "))
		say_text(rq, "202 Go", "Location: " UPLOAD1 "\r\nRange: 0-41943038\r\n", "");
	else
		good(rq);
}

/* Takes chunks, and then forgets them all, whatever the end of the upload is. */
static void never_ends(struct request *rq)
{
	if (asks(rq, "PUT "))
		say_text(rq, "500 No", "Retry-After: 0\r\n", "");
	else if (asks(rq, "PATCH "))
		say_text(rq, "202 Go", "Location: " UPLOAD1 "\r\n", "");
	else
		good(rq);
}

/* One chunk ahead, and all the way back. */
static void back_and_forth(struct request *rq)
{
	if (asks(rq, "PATCH "))
		say_text(rq, "202 Go",
			range_of(rq, "Content-Range: ") ? "Location: " UPLOAD1 "\r\nRange: 0-0\r\n"
							: "Location: " UPLOAD1 "\r\nRange: 0-16777215\r\n",
			"");
	else
		good(rq);
}

/* A byte of each chunk. */
static void byte_by_byte(struct request *rq)
{
	CLEANUP_FREE char *headers = str_printf("Location: " UPLOAD1 "\r\nRange: 0-%llu\r\n",
		(unsigned long long)range_of(rq, "Content-Range: ") + 1);

	if (asks(rq, "PATCH "))
		say_text(rq, "202 Go", headers, "");
	else
		good(rq);
}

static void denies(struct request *rq)
{
	if (asks(rq, "POST "))
		say_text(rq, "403 No", "",
			"{\"errors\":[{\"code\":\"DENIED\",\"message\":\"requested access denied\"}]}");
	else
		no_answer(rq);
}

/* ---- the tests ---- */

static uint64_t told;

static void on_bytes(void *data, uint64_t bytes)
{
	assert_true(bytes > told);
	told = bytes;
}

static int file_of(size_t size)
{
	int fd = memfd_create("blob", MFD_CLOEXEC);

	assert_true(fd >= 0);
	for (size_t at = 0; at < size; at += 4096) {
		uint64_t block[512];
		for (size_t i = 0; i < 512; i++)
			block[i] = at + i;
		assert_int_equal(io_pwrite_full(fd, block, MIN_OF(size - at, sizeof(block)), (off_t)at), 0);
	}
	return fd;
}

static int upload(struct net *net, size_t size, struct err *e)
{
	CLEANUP(client_done) struct client cl = {0};
	CLEANUP_CLOSE int fd = file_of(size);

	told = 0;
	client_open(net, OCI_ACCESS_PUSH, NULL, &cl);
	int r = oci_conn_upload(cl.c, DIGEST, fd, size, on_bytes, NULL, e);
	if (r == 0) {
		CLEANUP_FREE uint8_t *want = malloc(size + 1);
		assert_int_equal(io_pread_full(fd, want, size, 0), size);
		assert_int_equal(net->a.stored_len, size);
		assert_memory_equal(net->a.stored, want, size);
		assert_int_equal(told, size);
	}
	return r;
}

static void test_small(void **state)
{
	struct net *net = *state;
	struct err e = {0};

	start(net, good, no_answer);
	if (upload(net, 100000, &e) < 0)
		fail_msg("%s", e.msg);
	assert_false(saw(&net->a, "PATCH"));
	assert_int_equal(net->a.n_requests, 2);
	assert_true(saw(&net->a, "Content-Length: 100000\r\n"));
	assert_false(saw(&net->a, "Expect"));
}

static void test_empty(void **state)
{
	struct net *net = *state;
	CLEANUP(client_done) struct client cl = {0};
	CLEANUP_CLOSE int fd = file_of(0);
	struct err e = {0};

	start(net, good, no_answer);
	client_open(net, OCI_ACCESS_PUSH, NULL, &cl);
	assert_int_equal(oci_conn_upload(cl.c, DIGEST, fd, 0, NULL, NULL, &e), 0);
}

static void test_chunks(void **state)
{
	struct net *net = *state;
	struct err e = {0};

	start(net, good, no_answer);
	if (upload(net, LARGE, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(count(&net->a, "PATCH "), 3);
	assert_true(saw(&net->a, "Content-Range: 16777216-33554431\r\n"));
}

static void test_resume(void **state)
{
	struct net *net = *state;
	struct err e = {0};

	start(net, dies_once, no_answer);
	if (upload(net, LARGE, &e) < 0)
		fail_msg("%s", e.msg);
	assert_true(saw(&net->a, "GET " UPLOAD1 " "));
	assert_true(saw(&net->a, "Content-Range: 17777216-"));
}

static void test_forgotten(void **state)
{
	struct net *net = *state;
	struct err e = {0};

	start(net, forgets, no_answer);
	if (upload(net, LARGE, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(count(&net->a, "POST "), 2);
}

static void test_no_chunks(void **state)
{
	struct net *net = *state;
	struct err e = {0};

	start(net, no_chunks, no_answer);
	if (upload(net, LARGE, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(count(&net->a, "PATCH "), 1);
	assert_true(saw(&net->a, "Content-Length: 41943040\r\n"));
}

static void test_failures(void **state)
{
	struct net *net = *state;
	struct err e = {0};

	start(net, lies, no_answer);
	assert_int_equal(upload(net, LARGE, &e), -EPROTO);
	net->a.answer = denies;
	assert_int_equal(upload(net, LARGE, &e), -EACCES);
	assert_non_null(strstr(e.msg, "requested access denied"));
	net->a.answer = always_dies;
	assert_true(upload(net, LARGE, &e) < 0);
}

/* Registries that take everything and get nowhere: none of them keeps us for ever. */
static void test_endless(void **state)
{
	static void (*const ways[])(struct request *) = {never_ends, back_and_forth, byte_by_byte};
	struct net *net = *state;

	start(net, no_answer, no_answer);
	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		struct err e = {0};
		net->a.answer = ways[i];
		net->a.n_requests = 0;
		assert_true(upload(net, LARGE, &e) < 0);
		assert_true(*e.msg);
		assert_true(net->a.n_requests < 40);
	}
}

static void redirect_away(struct request *rq)
{
	CLEANUP_FREE char *location = str_printf("Location: http://127.0.0.1:%d/up\r\n", rq->s->other->port);

	if (asks(rq, "POST ") && !has(rq, "Authorization: Basic " TEST_BASIC))
		say_text(rq, "401 Who", "WWW-Authenticate: Basic realm=x\r\n", "");
	else
		say_text(rq, "202 Go", location, "");
}

static void take_all(struct request *rq)
{
	say_text(rq, "201 Made", "", "");
}

/* An object store somewhere else may get the blob, and never the password. */
static void test_elsewhere(void **state)
{
	struct net *net = *state;
	CLEANUP(client_done) struct client cl = {0};
	CLEANUP_CLOSE int fd = file_of(1000);
	struct err e = {0};

	start(net, redirect_away, take_all);
	client_open(net, OCI_ACCESS_PUSH, NULL, &cl);
	if (oci_conn_upload(cl.c, DIGEST, fd, 1000, NULL, NULL, &e) < 0)
		fail_msg("%s", e.msg);
	assert_true(saw(&net->b, "PUT /up?digest=" DIGEST " "));
	assert_true(saw(&net->a, "Authorization: Basic"));
	assert_false(saw(&net->b, "Authorization"));
}

/* ---- mounts and questions ---- */

static void mounts(struct request *rq)
{
	if (asks(rq, "POST /v2/x/blobs/uploads/?mount=" DIGEST "&from=lib/y "))
		say_text(rq, "201 Made", "", "");
	else
		good(rq);
}

static void challenges_mount(struct request *rq)
{
	CLEANUP_FREE char *header =
		str_printf("WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%d/token\",service=\"s\"\r\n",
			rq->s->other->port);

	if (!has(rq, "Authorization: Bearer"))
		say_text(rq, "401 Who", header, "");
	else
		mounts(rq);
}

static void tokens(struct request *rq)
{
	say_text(rq, "200 OK", "", "{\"token\":\"t\",\"expires_in\":300}");
}

static void test_mount(void **state)
{
	struct net *net = *state;
	CLEANUP(client_done) struct client cl = {0}, plain = {0};
	CLEANUP_CLOSE int fd = file_of(10);
	struct err e = {0};

	start(net, challenges_mount, tokens);
	client_open(net, OCI_ACCESS_PUSH, "lib/y", &cl);
	assert_int_equal(oci_conn_has_blob(cl.c, DIGEST, &e), 0);
	assert_int_equal(oci_conn_mount(cl.c, DIGEST, &e), 1);
	assert_true(saw(&net->b, "scope=repository:x:pull,push HTTP"));
	assert_true(saw(&net->b, "scope=repository:x:pull,push&scope=repository:lib/y:pull HTTP"));
	/* one that is refused is an upload already */
	net->a.answer = good;
	net->a.n_requests = 0;
	assert_int_equal(oci_conn_mount(cl.c, DIGEST, &e), 0);
	if (oci_conn_upload(cl.c, DIGEST, fd, 10, NULL, NULL, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(net->a.n_requests, 2);
	/* without another repository there is nothing to ask */
	net->a.n_requests = 0;
	client_open(net, OCI_ACCESS_PUSH, NULL, &plain);
	assert_int_equal(oci_conn_mount(plain.c, DIGEST, &e), 0);
	assert_int_equal(net->a.n_requests, 0);
}

static void manifests(struct request *rq)
{
	if (asks(rq, "PUT /v2/x/manifests/1 ") && has(rq, "Content-Type: a/b\r\n"))
		say_text(rq, "201 Made", rq->number < 2 ? "" : "Docker-Content-Digest: " DIGEST "\r\n", "");
	else
		no_answer(rq);
}

static void test_manifest(void **state)
{
	struct net *net = *state;
	CLEANUP(client_done) struct client cl = {0};
	struct err e = {0};

	start(net, manifests, no_answer);
	client_open(net, OCI_ACCESS_PUSH, NULL, &cl);
	if (oci_conn_put_manifest(cl.c, "1", "a/b", "{}", 2, &e) < 0)
		fail_msg("%s", e.msg);
	assert_non_null(strstr(net->a.bodies, "{}"));
	/* a registry that keeps something else */
	net->a.n_requests = 2;
	assert_int_equal(oci_conn_put_manifest(cl.c, "1", "a/b", "{}", 2, &e), -EBADMSG);
	assert_int_equal(oci_conn_put_manifest(cl.c, "2", "a/b", "{}", 2, &e), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		NET_TEST(test_small),
		NET_TEST(test_empty),
		NET_TEST(test_chunks),
		NET_TEST(test_resume),
		NET_TEST(test_forgotten),
		NET_TEST(test_no_chunks),
		NET_TEST(test_failures),
		NET_TEST(test_endless),
		NET_TEST(test_elsewhere),
		NET_TEST(test_mount),
		NET_TEST(test_manifest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
