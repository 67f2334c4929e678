/* SPDX-License-Identifier: MIT */
/* What is read from registries: credentials, retries, ranges, mirrors, lists. */
#include "registry/test-server.h"

#include "oci/transfer.h"

#define BLOB	 "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define BLOB_LEN 300000

static void no_answer(struct request *rq)
{
	say_text(rq, "404 No", "", "");
}

static void plain_answer(struct request *rq)
{
	say_text(rq, "200 OK", "Content-Type: a/b; charset=x\r\n", "{}");
}

/* ---- redirects and credentials ---- */

static void redirect_to(struct request *rq, const char *status, const char *to)
{
	CLEANUP_FREE char *header = str_printf("Location: %s\r\n", to);

	say_text(rq, status, header, "");
}

static void redirect(struct request *rq)
{
	CLEANUP_FREE char *to = str_printf("http://127.0.0.1:%d/elsewhere", rq->s->other->port);

	redirect_to(rq, "307 Go", to);
}

static void challenge(struct request *rq, const struct server *tokens)
{
	CLEANUP_FREE char *header =
		str_printf("WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%d/token\",service=\"s\"\r\n",
			tokens->port);

	say_text(rq, "401 Who", header, "{\"errors\":[{\"code\":\"UNAUTHORIZED\"}]}");
}

static void challenge_bearer(struct request *rq)
{
	challenge(rq, rq->s);
}

static void challenge_basic(struct request *rq)
{
	say_text(rq, "401 Who", "WWW-Authenticate: Basic realm=\"x\"\r\n", "");
}

/* Whoever a redirect leads to may not ask for the registry's credentials. */
static void test_challenge_elsewhere(void **state)
{
	struct net *net = *state;
	struct err e = {0};

	start(net, redirect, challenge_bearer);
	assert_int_equal(ask_manifest(net, &e), -EACCES);
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
	assert_int_equal(ask_manifest(net, &e), -EACCES);
	assert_false(saw(&net->a, "Authorization"));
	assert_false(saw(&net->b, "Authorization"));
}

static void basic_registry(struct request *rq)
{
	if (has(rq, "Authorization: Basic " TEST_BASIC))
		plain_answer(rq);
	else
		challenge_basic(rq);
}

static void test_basic(void **state)
{
	struct net *net = *state;
	struct err e = {0};

	start(net, basic_registry, no_answer);
	assert_int_equal(ask_manifest(net, &e), 0);
	assert_int_equal(count(&net->a, "GET "), 2);
	/* another's password is wrong for good */
	CLEANUP_FREE char *config =
		str_printf("{\"auths\":{\"127.0.0.1:%d\":{\"auth\":\"dTpw\"}}}", net->a.port);
	put_file(net, "config.json", config);
	assert_int_equal(ask_manifest(net, &e), -EACCES);
	assert_int_equal(count(&net->a, "GET "), 4);
	assert_non_null(strstr(e.hint, "a3s-box login 127.0.0.1"));
	/* without any there is nothing to try */
	put_file(net, "config.json", "{}");
	assert_int_equal(ask_manifest(net, &e), -EACCES);
	assert_int_equal(count(&net->a, "GET "), 5);
	assert_non_null(strstr(e.hint, "a3s-box login 127.0.0.1"));
}

static void token_answer(struct request *rq)
{
	say_text(rq, "200 OK", "", "{\"token\":\"letmein\"}");
}

/* The registry itself: names a token server, then wants its token, and redirects with it. */
static void challenge_then_redirect(struct request *rq)
{
	if (asks(rq, "GET /here"))
		plain_answer(rq);
	else if (has(rq, "Authorization: Bearer letmein"))
		redirect_to(rq, "302 Go", "/here");
	else
		challenge(rq, rq->s->other);
}

static void test_token(void **state)
{
	struct net *net = *state;
	struct err e = {0};

	start(net, challenge_then_redirect, token_answer);
	if (ask_manifest(net, &e) < 0)
		fail_msg("%s", e.msg);
	assert_true(saw(&net->b, "GET /token?service=s&scope=repository:x:pull HTTP"));
	assert_true(saw(&net->b, "Authorization: Basic " TEST_BASIC));
	assert_false(saw(&net->a, "Authorization: Basic"));
	/* a redirect within the origin keeps the token */
	const char *here = strstr(net->a.seen, "GET /here");
	assert_non_null(here);
	assert_non_null(strstr(here, "Authorization: Bearer letmein"));
	assert_int_equal(net->a.n_connections, 1);
}

/* A registry that never likes a token is not asked for ever. */
static void test_token_loop(void **state)
{
	struct net *net = *state;
	struct err e = {0};

	net->a.other = &net->b;
	start(net, challenge_bearer, no_answer);
	net->a.answer = challenge_bearer;
	assert_int_equal(ask_manifest(net, &e), -EACCES);
	assert_true(net->a.n_requests <= 3);
}

static void identity_registry(struct request *rq)
{
	if (has(rq, "Authorization: Bearer second"))
		plain_answer(rq);
	else
		challenge(rq, rq->s->other);
}

static void identity_tokens(struct request *rq)
{
	say_text(rq, "200 OK", "",
		rq->number == 0 ? "{\"access_token\":\"first\"}" : "{\"access_token\":\"second\"}");
}

/* An identity token is posted; a token that is refused is renewed once for each request. */
static void test_identity_token(void **state)
{
	struct net *net = *state;
	struct err e = {0};
	CLEANUP_FREE char *config = str_printf(
		"{\"auths\":{\"127.0.0.1:%d\":{\"auth\":\"dTo=\",\"identitytoken\":\"i/t\"}}}", net->a.port);
	CLEANUP(client_done) struct client cl = {0};
	CLEANUP_FREE char *body = NULL;
	char digest[OCI_DIGEST_MAX];
	size_t n;

	put_file(net, "config.json", config);
	start(net, identity_registry, identity_tokens);
	client_open(net, OCI_ACCESS_PULL, NULL, &cl);
	assert_int_equal(oci_conn_manifest(cl.c, "1", &body, &n, digest, NULL, &e), -EACCES);
	assert_int_equal(oci_conn_manifest(cl.c, "1", &body, &n, digest, NULL, &e), 0);
	assert_int_equal(net->b.n_requests, 2);
	assert_true(saw(&net->b, "POST /token HTTP"));
	assert_false(saw(&net->b, "Authorization"));
	assert_non_null(strstr(net->b.bodies, "grant_type=refresh_token&service=s&client_id=a3s-box&refresh_"
					      "token=i/t&scope=repository:x:pull"));
}

static void redirect_post(struct request *rq)
{
	CLEANUP_FREE char *to = str_printf("http://127.0.0.1:%d/take", rq->s->other->port);

	redirect_to(rq, "307 Go", to);
}

/* A token server that sends an identity token on to somebody else. */
static void test_identity_token_redirected(void **state)
{
	struct net *net = *state;
	struct err e = {0};
	CLEANUP_FREE char *config =
		str_printf("{\"auths\":{\"127.0.0.1:%d\":{\"identitytoken\":\"secret\"}}}", net->a.port);

	put_file(net, "config.json", config);
	start(net, identity_registry, redirect_post);
	assert_int_equal(ask_manifest(net, &e), -EPROTO);
	assert_non_null(strstr(e.msg, "not to get the credentials"));
	assert_false(saw(&net->a, "/take"));
	assert_null(strstr(net->a.bodies, "secret"));
}

/* ---- errors and retries ---- */

static void busy_then_good(struct request *rq)
{
	if (rq->number < 2)
		say_text(rq, rq->number ? "429 Slow" : "503 Wait", "Retry-After: 0\r\n", "later");
	else
		plain_answer(rq);
}

static void test_retry(void **state)
{
	struct net *net = *state;
	struct err e = {0};

	start(net, busy_then_good, no_answer);
	assert_int_equal(ask_manifest(net, &e), 0);
	assert_int_equal(net->a.n_requests, 3);
}

static void limited(struct request *rq)
{
	say_text(rq, "429 Slow", "Retry-After: 3600\r\n",
		"{\"errors\":[{\"code\":\"TOOMANYREQUESTS\",\"message\":\"You\\u001b[31m have pulled "
		"enough\"}]}");
}

static void test_limited(void **state)
{
	struct net *net = *state;
	struct err e = {0};

	start(net, limited, no_answer);
	assert_int_equal(ask_manifest(net, &e), -EBUSY);
	assert_non_null(strstr(e.msg, "3600 s"));
	assert_non_null(strstr(e.msg, "have pulled enough"));
	assert_null(strchr(e.msg, 0x1b));
	assert_true(net->a.n_requests <= 2); /* it is not asked again before */
}

static void unknown(struct request *rq)
{
	say_text(rq, "404 No", "",
		"{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\",\"message\":\"manifest unknown\"}]}");
}

static void test_unknown(void **state)
{
	struct net *net = *state;
	struct err e = {0};

	start(net, unknown, no_answer);
	assert_int_equal(ask_manifest(net, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "manifest unknown"));
}

/* ---- blobs ---- */

static uint8_t blob[BLOB_LEN];

static void fill_blob(void)
{
	for (size_t i = 0; i < sizeof(blob); i++)
		blob[i] = (uint8_t)(i * 7 + i / 251);
}

static void send_blob(struct request *rq, uint64_t from, size_t n, bool range)
{
	CLEANUP_FREE char *head =
		range ? str_printf("HTTP/1.1 206 Part\r\nConnection: close\r\nContent-Length: %zu\r\n"
				   "Content-Range: bytes %llu-%d/%d\r\n\r\n",
				BLOB_LEN - (size_t)from, (unsigned long long)from, BLOB_LEN - 1, BLOB_LEN)
		      : str_printf("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n",
				BLOB_LEN - (size_t)from);

	rq->close = true;
	(void)io_write_full(rq->fd, head, strlen(head));
	(void)io_write_full(rq->fd, blob + from, MIN_OF(n, BLOB_LEN - (size_t)from));
}

/* At most 100000 bytes for each request. */
static void broken_blob(struct request *rq)
{
	uint64_t from = range_of(rq, "Range: bytes=");

	send_blob(rq, from, 100000, from > 0);
}

/* Knows no ranges, and breaks off once. */
static void rangeless_blob(struct request *rq)
{
	send_blob(rq, 0, rq->number == 0 ? 50000 : BLOB_LEN, false);
}

static void wrong_range(struct request *rq)
{
	uint64_t from = range_of(rq, "Range: bytes=");

	send_blob(rq, from ? from - 1 : 0, 100000, from > 0);
}

/* Reads a blob to its end. Its length, or -errno. */
static ssize_t read_blob(struct client *cl, uint64_t from, uint64_t *ret_from, struct err *e)
{
	static uint8_t got[BLOB_LEN + 1];
	size_t n = 0;
	ssize_t k;

	int r = oci_conn_blob(cl->c, BLOB, from, ret_from, e);
	if (r < 0)
		return r;
	while ((k = oci_conn_read(cl->c, got + n, sizeof(got) - n, e)) > 0)
		n += (size_t)k;
	if (k < 0)
		return k;
	assert_memory_equal(got, blob + *ret_from, n);
	return (ssize_t)n;
}

static void test_blob(void **state)
{
	static void (*const ways[])(struct request *) = {broken_blob, rangeless_blob};
	struct net *net = *state;
	struct err e = {0};

	start(net, no_answer, no_answer);
	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		CLEANUP(client_done) struct client cl = {0};
		uint64_t from = 1;
		net->a.answer = ways[i];
		net->a.n_requests = 0;
		client_open(net, OCI_ACCESS_PULL, NULL, &cl);
		assert_int_equal(read_blob(&cl, 0, &from, &e), BLOB_LEN);
		assert_int_equal(from, 0);
	}
}

static void test_blob_from(void **state)
{
	struct net *net = *state;
	CLEANUP(client_done) struct client cl = {0};
	struct err e = {0};
	uint64_t from = 0;

	start(net, broken_blob, no_answer);
	client_open(net, OCI_ACCESS_PULL, NULL, &cl);
	assert_int_equal(read_blob(&cl, 1000, &from, &e), BLOB_LEN - 1000);
	assert_int_equal(from, 1000);
	/* a server that cannot, begins at the beginning and says so */
	net->a.answer = rangeless_blob;
	net->a.n_requests = 1;
	assert_int_equal(read_blob(&cl, 1000, &from, &e), BLOB_LEN);
	assert_int_equal(from, 0);
}

static void test_wrong_range(void **state)
{
	struct net *net = *state;
	CLEANUP(client_done) struct client cl = {0};
	struct err e = {0};
	uint64_t from = 0;

	start(net, wrong_range, no_answer);
	client_open(net, OCI_ACCESS_PULL, NULL, &cl);
	assert_int_equal(read_blob(&cl, 1000, &from, &e), -EPROTO);
	assert_non_null(strstr(e.msg, "another part"));
}

static void dripping(struct request *rq)
{
	rq->close = true;
	(void)!write(rq->fd, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx", 43);
	while (send(rq->fd, "x", 1, MSG_NOSIGNAL) == 1)
		usleep(100000);
}

static void *cancel_soon(void *c)
{
	usleep(300000);
	oci_conn_cancel(c);
	return NULL;
}

static void test_cancel(void **state)
{
	struct net *net = *state;
	CLEANUP(client_done) struct client cl = {0};
	struct err e = {0};
	uint64_t from = 0, begun = time_mono_ns();
	pthread_t t;

	start(net, dripping, no_answer);
	client_open(net, OCI_ACCESS_PULL, NULL, &cl);
	assert_int_equal(pthread_create(&t, NULL, cancel_soon, cl.c), 0);
	assert_int_equal(read_blob(&cl, 0, &from, &e), -ECANCELED);
	pthread_join(t, NULL);
	assert_true(time_mono_ns() - begun < 5000000000ull);
	assert_int_equal(oci_conn_blob(cl.c, BLOB, 0, &from, &e), -ECANCELED);
}

/* ---- mirrors ---- */

static void use_mirror(struct net *net, const char *path)
{
	CLEANUP_FREE char *config = str_printf("{\"mirrors\":{\"127.0.0.1:%d\":[\"http://127.0.0.1:%d%s\"]}}",
		net->a.port, net->b.port, path);

	put_file(net, "registries.json", config);
}

static void test_mirror(void **state)
{
	struct net *net = *state;
	struct err e = {0};

	use_mirror(net, "");
	start(net, no_answer, plain_answer);
	assert_int_equal(ask_manifest(net, &e), 0);
	assert_int_equal(net->a.n_requests, 0);
	assert_true(saw(&net->b, "GET /v2/x/manifests/1 "));
	use_mirror(net, "/prefix/");
	assert_int_equal(ask_manifest(net, &e), 0);
	assert_true(saw(&net->b, "GET /prefix/v2/x/manifests/1 "));
	use_mirror(net, "/v2/project");
	assert_int_equal(ask_manifest(net, &e), 0);
	assert_true(saw(&net->b, "GET /v2/project/x/manifests/1 "));
}

static void web_page(struct request *rq)
{
	say_text(rq, "200 OK", "Content-Type: text/html\r\n", "<html>please log in</html>");
}

static void test_mirror_passed_over(void **state)
{
	struct net *net = *state;
	struct err e = {0};

	use_mirror(net, "");
	start(net, plain_answer, challenge_basic);
	assert_int_equal(ask_manifest(net, &e), 0);
	assert_false(saw(&net->b, "Authorization"));
	net->b.answer = web_page;
	assert_int_equal(ask_manifest(net, &e), 0);
	net->a.answer = unknown;
	assert_int_equal(ask_manifest(net, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "manifest unknown"));
	assert_non_null(strstr(e.msg, "mirror 127.0.0.1:"));
}

/* Breaks off for good after 100000 bytes. */
static void dying_mirror(struct request *rq)
{
	if (asks(rq, "GET /v2/x/manifests"))
		plain_answer(rq);
	else if (range_of(rq, "Range: bytes="))
		say_text(rq, "403 Gone", "", "");
	else
		send_blob(rq, 0, 100000, false);
}

static void test_mirror_that_breaks_off(void **state)
{
	struct net *net = *state;
	CLEANUP(client_done) struct client cl = {0};
	CLEANUP_FREE char *body = NULL;
	char digest[OCI_DIGEST_MAX];
	struct err e = {0};
	uint64_t from;
	size_t n;

	use_mirror(net, "");
	start(net, broken_blob, dying_mirror);
	client_open(net, OCI_ACCESS_PULL, NULL, &cl);
	assert_int_equal(oci_conn_manifest(cl.c, "1", &body, &n, digest, NULL, &e), 0);
	if (read_blob(&cl, 0, &from, &e) != BLOB_LEN)
		fail_msg("%s", e.msg);
	assert_true(saw(&net->a, "Range: bytes=100000-"));
	assert_false(oci_conn_distrust(cl.c));
}

/* ---- lists ---- */

static void tags(struct request *rq)
{
	if (has(rq, "last=b "))
		say_text(rq, "200 OK", "", "{\"name\":\"x\",\"tags\":[\"c\"]}");
	else
		say_text(rq, "200 OK", "Link: </v2/x/tags/list?last=b>; rel=\"next\"\r\n",
			"{\"name\":\"x\",\"tags\":[\"a\",\"b\"]}");
}

static void endless_tags(struct request *rq)
{
	say_text(rq, "200 OK", "Link: </v2/x/tags/list?last=b>; rel=\"next\"\r\n", "{\"tags\":[\"a\"]}");
}

static void foreign_tags(struct request *rq)
{
	CLEANUP_FREE char *link =
		str_printf("Link: <http://127.0.0.1:%d/v2/x/tags/list>; rel=next\r\n", rq->s->other->port);

	say_text(rq, "200 OK", link, "{\"tags\":[\"a\"]}");
}

static void no_tags(struct request *rq)
{
	say_text(rq, "200 OK", "", "{\"name\":\"x\",\"tags\":null}");
}

static void bad_tags(struct request *rq)
{
	say_text(rq, "200 OK", "", "{\"name\":\"x\",\"tags\":[\"a\\u001b[1m\"]}");
}

static int list_tags(struct net *net, struct strv *ret, struct err *e)
{
	CLEANUP(client_done) struct client cl = {0};

	client_open(net, OCI_ACCESS_PULL, NULL, &cl);
	return oci_conn_tags(cl.c, ret, e);
}

static void test_tags(void **state)
{
	struct net *net = *state;
	CLEANUP(strv_done) struct strv list = {0}, none = {0};
	struct err e = {0};

	start(net, tags, no_answer);
	if (list_tags(net, &list, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(list.n, 3);
	assert_string_equal(list.v[2], "c");
	net->a.answer = no_tags;
	assert_int_equal(list_tags(net, &none, &e), 0);
	assert_int_equal(none.n, 0);
	net->a.answer = endless_tags;
	assert_int_equal(list_tags(net, &none, &e), -ELOOP);
	net->a.answer = foreign_tags;
	assert_int_equal(list_tags(net, &none, &e), -EPROTO);
	net->a.answer = bad_tags;
	assert_int_equal(list_tags(net, &none, &e), -EBADMSG);
	assert_string_equal(net->b.seen, "");
}

static void referrers(struct request *rq)
{
	if (has(rq, "page=2"))
		say_text(rq, "200 OK", "", "{\"manifests\":[{\"size\":2}]}");
	else
		say_text(rq, "200 OK", "Link: </v2/x/referrers/y?page=2>; rel=\"next\"\r\n",
			"{\"schemaVersion\":2,\"manifests\":[{\"size\":1}]}");
}

static void referrers_by_tag(struct request *rq)
{
	if (asks(rq, "GET /v2/x/manifests/sha256-aaaa"))
		say_text(rq, "200 OK", "", "{\"manifests\":[]}");
	else
		say_text(rq, "404 No", "Content-Type: text/plain\r\n", "404 page not found");
}

static void test_referrers(void **state)
{
	struct net *net = *state;
	CLEANUP(client_done) struct client cl = {0};
	CLEANUP_FREE char *all = NULL, *tagged = NULL, *none = NULL;
	struct err e = {0};
	size_t n;

	start(net, referrers, no_answer);
	client_open(net, OCI_ACCESS_PULL, NULL, &cl);
	assert_int_equal(oci_conn_referrers(cl.c, BLOB, "a/b", &all, &n, &e), 0);
	assert_string_equal(all, "{\"schemaVersion\":2,\"manifests\":[{\"size\":1},{\"size\":2}]}");
	assert_true(saw(&net->a, "GET /v2/x/referrers/" BLOB "?artifactType=a/b "));
	net->a.answer = referrers_by_tag;
	assert_int_equal(oci_conn_referrers(cl.c, BLOB, NULL, &tagged, &n, &e), 0);
	assert_string_equal(tagged, "{\"manifests\":[]}");
	net->a.answer = no_answer;
	assert_int_equal(oci_conn_referrers(cl.c, BLOB, NULL, &none, &n, &e), -ENOENT);
}

static void head_manifest(struct request *rq)
{
	if (asks(rq, "HEAD ") && rq->number < 2)
		say_text(rq, "200 OK", "Docker-Content-Digest: " BLOB "\r\n", "{}");
	else if (asks(rq, "GET "))
		plain_answer(rq);
	else
		say_text(rq, "200 OK", "", "{}");
}

static void test_has_manifest(void **state)
{
	struct net *net = *state;
	CLEANUP(client_done) struct client cl = {0};
	char digest[OCI_DIGEST_MAX], want[OCI_DIGEST_MAX];
	struct err e = {0};

	start(net, head_manifest, no_answer);
	client_open(net, OCI_ACCESS_PULL, NULL, &cl);
	assert_int_equal(oci_conn_has_manifest(cl.c, "1", digest, &e), 1);
	assert_string_equal(digest, BLOB);
	/* a registry that does not say the digest has it computed */
	net->a.n_requests = 2;
	assert_int_equal(oci_conn_has_manifest(cl.c, "1", digest, &e), 1);
	assert_int_equal(oci_digest_of("{}", 2, want, &e), 0);
	assert_string_equal(digest, want);
	net->a.answer = no_answer;
	assert_int_equal(oci_conn_has_manifest(cl.c, "1", digest, &e), 0);
}

/* ---- login ---- */

static void login_token(struct request *rq)
{
	if (has(rq, "Authorization: Bearer letmein"))
		say_text(rq, "200 OK", "", "{}");
	else
		challenge(rq, rq->s->other);
}

static void login_token_server(struct request *rq)
{
	if (has(rq, "Authorization: Basic " TEST_BASIC))
		token_answer(rq);
	else
		say_text(rq, "401 No", "", "{\"details\":\"incorrect username or password\"}");
}

static void test_login(void **state)
{
	struct net *net = *state;
	struct oci_remote_opts o = {.tls_verify = true};
	CLEANUP_FREE char *domain = str_printf("127.0.0.1:%d", net->a.port);
	CLEANUP_FREE char *where = NULL, *user = NULL, *again = NULL, *none = NULL;
	struct err e = {0};

	put_file(net, "config.json", "{\"x\": 1}");
	start(net, basic_registry, login_token_server);
	assert_int_equal(oci_login(NULL, domain, "user", "wrong", &o, &where, &e), -EACCES);
	assert_int_equal(oci_login_user(domain, &none, &e), 0);
	assert_null(none);
	assert_int_equal(oci_login(NULL, domain, "user", "pass", &o, &where, &e), 0);
	assert_non_null(strstr(where, "config.json"));
	assert_int_equal(oci_login_user(domain, &user, &e), 0);
	assert_string_equal(user, "user");
	assert_int_equal(ask_manifest(net, &e), 0);
	assert_int_equal(oci_logout(domain, &e), 0);
	assert_int_equal(oci_logout(domain, &e), -ENOENT);

	net->a.answer = login_token;
	assert_int_equal(oci_login(NULL, domain, "user", "wrong", &o, &again, &e), -EACCES);
	assert_non_null(strstr(e.msg, "incorrect username or password"));
	assert_int_equal(oci_login(NULL, domain, "user", "pass", &o, &again, &e), 0);
	assert_true(saw(&net->b, "GET /token?service=s HTTP"));
	net->a.answer = no_answer;
	assert_int_equal(oci_login(NULL, domain, "user", "pass", &o, &none, &e), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		NET_TEST(test_challenge_elsewhere),
		NET_TEST(test_basic_elsewhere),
		NET_TEST(test_basic),
		NET_TEST(test_token),
		NET_TEST(test_token_loop),
		NET_TEST(test_identity_token),
		NET_TEST(test_identity_token_redirected),
		NET_TEST(test_retry),
		NET_TEST(test_limited),
		NET_TEST(test_unknown),
		NET_TEST(test_blob),
		NET_TEST(test_blob_from),
		NET_TEST(test_wrong_range),
		NET_TEST(test_cancel),
		NET_TEST(test_mirror),
		NET_TEST(test_mirror_passed_over),
		NET_TEST(test_mirror_that_breaks_off),
		NET_TEST(test_tags),
		NET_TEST(test_referrers),
		NET_TEST(test_has_manifest),
		NET_TEST(test_login),
	};
	fill_blob();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
