/* SPDX-License-Identifier: MIT */
/* What needs no server: challenges, headers, addresses, proxies, configuration files, credential helpers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/io.h"
#include "registry/answer.h"
#include "registry/auth.h"
#include "registry/config.h"
#include "registry/credentials.h"
#include "registry/headers.h"
#include "registry/helper.h"
#include "registry/proxy.h"
#include "registry/tls.h"
#include "registry/url.h"

static void test_challenge(void **state)
{
	struct oci_challenge c = {0};

	assert_int_equal(
		oci_challenge_parse("Negotiate YII=, Basic realm=\"x, y\", bearer Realm=\"https://a/\\\"t\","
				    "service=s",
			&c),
		0);
	assert_true(c.basic);
	assert_true(c.bearer);
	assert_string_equal(c.realm, "https://a/\"t");
	assert_string_equal(c.service, "s");
	assert_null(c.scope);
	oci_challenge_done(&c);
	assert_int_equal(oci_challenge_parse("Bearer realm=\"open", &c), -EBADMSG);
	oci_challenge_done(&c);
	assert_int_equal(oci_challenge_parse("Bearer realm=\"a\nb\"", &c), -EBADMSG);
	oci_challenge_done(&c);
}

static void test_headers(void **state)
{
	static const char *const no_range[] = {"bytes 1-0/9", "bytes 0-9/9", "bytes */9", "bytes 0-9",
		"bytes 0-9/*x", "bits 0-9/*", "bytes 99999999999999999999-1/*", "bytes -1/2", ""};
	static const char *const no_next[] = {
		"", "x", "<x", "<x>", "<x>; rel=prev", "<x>; title=next", "<x>; rel=nextt", "<x> rel=next"};
	uint64_t first, last;

	assert_true(oci_header_content_range("bytes 5-9/10", &first, &last));
	assert_int_equal(first, 5);
	assert_int_equal(last, 9);
	assert_true(oci_header_content_range("bytes 5-9/*", &first, &last));
	for (size_t i = 0; i < ARRAY_LEN(no_range); i++)
		assert_false(oci_header_content_range(no_range[i], &first, &last));

	assert_true(oci_header_upload_range("0-1023", &last));
	assert_int_equal(last, 1023);
	assert_true(oci_header_upload_range("bytes=0-7", &last));
	assert_false(oci_header_upload_range("1-7", &last));
	assert_false(oci_header_upload_range("0-", &last));

	assert_int_equal(oci_header_retry_after("120", 0), 120);
	assert_int_equal(oci_header_retry_after("-1", 0), -1);
	assert_int_equal(oci_header_retry_after("99999999999", 0), -1);
	assert_int_equal(oci_header_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", 784111770), 7);
	assert_int_equal(oci_header_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", 1784111770), 0);
	assert_int_equal(oci_header_retry_after("Sun, 06 Abc 1994 08:49:37 GMT", 0), -1);

	CLEANUP_FREE char *a =
		oci_header_link_next("<u>; rel=\"prev\", </n?a=b,c>; title=\"x, y\"; rel=\"last next\"");
	assert_string_equal(a, "/n?a=b,c");
	CLEANUP_FREE char *b = oci_header_link_next("</n>;rel=next");
	assert_string_equal(b, "/n");
	for (size_t i = 0; i < ARRAY_LEN(no_next); i++)
		assert_null(oci_header_link_next(no_next[i]));
}

static void test_answer(void **state)
{
	char text[40];

	assert_string_equal(
		oci_answer_text("{\"errors\":[{\"code\":\"NAME_UNKNOWN\",\"message\":\"no\\u0007\"}]}", NULL,
			text, sizeof(text)),
		"name unknown: no\\x07");
	assert_string_equal(oci_answer_text("{\"errors\":[{\"code\":\"DENIED\",\"message\":\"denied: a\"}]}",
				    NULL, text, sizeof(text)),
		"denied: a");
	assert_string_equal(oci_answer_text("{\"errors\":[{\"code\":7}]}", NULL, text, sizeof(text)), "");
	assert_string_equal(
		oci_answer_text("404 page\nnot found", "text/plain; charset=utf-8", text, sizeof(text)),
		"404 page");
	assert_string_equal(oci_answer_text("<html>", NULL, text, sizeof(text)), "");
	assert_string_equal(
		oci_answer_text("{\"details\":\"wrong\\nline\"}", NULL, text, sizeof(text)), "wrong");
}

/* ---- addresses ---- */

static void test_loopback(void **state)
{
	assert_true(oci_http_is_loopback("localhost:5000"));
	assert_true(oci_http_is_loopback("127.1.2.3"));
	assert_true(oci_http_is_loopback("[::1]:80"));
	assert_true(oci_http_is_loopback("[0:0:0:0:0:0:0:1]"));
	assert_false(oci_http_is_loopback("127.example.com"));
	assert_false(oci_http_is_loopback("127.0.0.1.5"));
	assert_false(oci_http_is_loopback("localhost.example.com"));
	assert_false(oci_http_is_loopback("[::1].example.com"));
	assert_false(oci_http_is_loopback("[::2]"));
	assert_false(oci_http_is_loopback("10.0.0.1"));
}

static void test_url(void **state)
{
	static const char *const bad[] = {"", "x", "ftp://a/", "https://", "http://a:0/", "http://a:99999/",
		"https://a b/", "https://\xc3\xa9/", "https://u@a/", "https://u:p@a/", "file:///etc/passwd"};
	static const struct {
		const char *location, *want;
	} from[] = {{"/v2/y", "https://a.example/v2/y"}, {"y?z#f", "https://a.example/v2/y?z"},
		{"//b.example/y", "https://b.example/y"}, {"http://A.example/y", "https://A.example:443/y"},
		{"http://a.example:80/y", "https://a.example:443/y"},
		{"http://b.example/y", "http://b.example/y"}};
	CLEANUP(oci_url_done) struct oci_url base = {0};
	struct err e;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct oci_url u = {0};
		if (oci_url_parse(bad[i], NULL, &u, &e) == 0)
			fail_msg("%s was taken for %s", bad[i], u.text);
	}
	assert_int_equal(oci_url_parse("https://A.example/v2/x", NULL, &base, &e), 0);
	assert_string_equal(base.host, "a.example");
	assert_string_equal(base.authority, "a.example");
	assert_true(base.tls);
	for (size_t i = 0; i < ARRAY_LEN(from); i++) {
		CLEANUP(oci_url_done) struct oci_url u = {0}, want = {0};
		if (oci_url_parse(from[i].location, &base, &u, &e) < 0)
			fail_msg("%s: %s", from[i].location, e.msg);
		assert_int_equal(oci_url_parse(from[i].want, NULL, &want, &e), 0);
		assert_true(oci_url_same_origin(&u, &want));
		assert_string_equal(strrchr(u.text, '/'), strrchr(want.text, '/'));
	}
}

static char *proxy_of(const char *url)
{
	CLEANUP(oci_url_done) struct oci_url u = {0};
	char *proxy = NULL;
	struct err e;

	assert_int_equal(oci_url_parse(url, NULL, &u, &e), 0);
	assert_int_equal(oci_proxy_find(&u, &proxy, &e), 0);
	return proxy;
}

static bool is_direct(const char *url)
{
	CLEANUP_FREE char *proxy = proxy_of(url);

	return !proxy;
}

/* What libcurl would not understand is never given to it: it repeats all of it. */
static void test_bad_proxy(void **state)
{
	static const char *const cases[] = {"user:s3cret/x@proxy.example:3128", "http://user:s3cret#@proxy:1",
		"http://user:s3cret@proxy:port", "http://user:s3cret@x@proxy", "user:s3cret@[::1",
		"http://user:s3cret@pro xy", "http://user:s3cret@", "socks5://u:s3cret@proxy:99999",
		"ftp://u:s3cret@proxy"};
	CLEANUP(oci_url_done) struct oci_url u = {0};
	struct err e = {0};
	char *proxy;

	assert_int_equal(oci_url_parse("https://other.example/", NULL, &u, &e), 0);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		setenv("HTTPS_PROXY", cases[i], 1);
		e = (struct err){0};
		if (oci_proxy_find(&u, &proxy, &e) != -EINVAL)
			fail_msg("%s", cases[i]);
		assert_null(proxy);
		assert_null(strstr(e.msg, "s3cret"));
	}
	unsetenv("HTTPS_PROXY");
}

static void test_proxy(void **state)
{
	setenv("HTTPS_PROXY", "user:pa%2Fss@proxy.example:3128", 1);
	setenv("http_proxy", "socks5://proxy.example", 1);
	setenv("NO_PROXY",
		"10.0.0.0/8, fd00::/8, .below.example,*.star.example, name.example, port.example:5000, "
		"192.0.2.1",
		1);
	CLEANUP_FREE char *https = proxy_of("https://other.example/");
	assert_string_equal(https, "http://user:pa%2Fss@proxy.example:3128");
	CLEANUP_FREE char *shown = oci_proxy_shown(https);
	assert_string_equal(shown, "http://proxy.example:3128");
	CLEANUP_FREE char *http = proxy_of("http://other.example/");
	assert_string_equal(http, "socks5://proxy.example");
	assert_true(is_direct("https://localhost/"));
	assert_true(is_direct("https://127.0.0.2/"));
	assert_true(is_direct("https://[::1]/"));
	assert_true(is_direct("https://10.1.2.3/"));
	assert_false(is_direct("https://11.1.2.3/"));
	assert_true(is_direct("https://[fd00::1]/"));
	assert_false(is_direct("https://[fe00::1]/"));
	assert_true(is_direct("https://192.0.2.1:444/"));
	assert_true(is_direct("https://a.below.example/"));
	assert_false(is_direct("https://below.example/"));
	assert_true(is_direct("https://a.star.example/"));
	assert_true(is_direct("https://name.example/"));
	assert_true(is_direct("https://a.name.example/"));
	assert_false(is_direct("https://othername.example/"));
	assert_true(is_direct("https://port.example:5000/"));
	assert_false(is_direct("https://port.example/"));
	setenv("NO_PROXY", "*", 1);
	assert_true(is_direct("https://other.example/"));
	unsetenv("NO_PROXY");
	unsetenv("http_proxy");
	assert_true(is_direct("http://other.example/"));
	setenv("ALL_PROXY", "http://all.example", 1);
	assert_false(is_direct("http://other.example/"));
	unsetenv("ALL_PROXY");
	unsetenv("HTTPS_PROXY");
}

/* ---- registries.json ---- */

static int parse_registries(const char *json, struct err *e)
{
	CLEANUP(oci_registries_freep) struct oci_registries *c = NULL;

	return oci_registries_parse(json, strlen(json), &c, e);
}

static void test_registries(void **state)
{
	static const char good[] =
		"{\"mirrors\":{\"docker.io\":[\"https://m.example/\",\"http://lan.example:5000/v2/hub\"]},"
		"\"insecure\":[\"lan.example:5000\"]}";
	static const char *const bad[] = {"", "[]", "{\"mirror\":{}}", "{\"mirrors\":[]}",
		"{\"mirrors\":{\"docker.io\":1}}", "{\"mirrors\":{\"docker.io\":[1]}}",
		"{\"mirrors\":{\"docker.io\":[\"ftp://a.example\"]}}",
		"{\"mirrors\":{\"docker.io\":[\"http://a.example\"]}}",
		"{\"mirrors\":{\"docker.io\":[\"https://u:p@a.example\"]}}",
		"{\"mirrors\":{\"docker.io\":[\"https://\"]}}", "{\"mirrors\":{\"a/b\":[]}}",
		"{\"insecure\":{}}", "{\"insecure\":[\"a b\"]}", "{\"insecure\":[\"http://a.example\"]}",
		"{\"mirrors\":{\"docker.io\":[\"https://a.example?x\"]}}"};
	CLEANUP(oci_registries_freep) struct oci_registries *c = NULL;
	struct err e = {0};
	size_t n;

	if (oci_registries_parse(good, strlen(good), &c, &e) < 0)
		fail_msg("%s", e.msg);
	const char *const *mirrors = oci_registries_mirrors(c, "docker.io", &n);
	assert_int_equal(n, 2);
	assert_string_equal(mirrors[0], "https://m.example");
	assert_string_equal(mirrors[1], "http://lan.example:5000/v2/hub");
	assert_non_null(oci_registries_mirrors(c, "Docker.IO", &n));
	assert_int_equal(parse_registries("{\"mirrors\":{\"Reg.Example\":[\"https://M.example\"]}}", &e), 0);
	assert_null(oci_registries_mirrors(c, "quay.io", &n));
	assert_true(oci_registries_insecure(c, "LAN.example:5000"));
	assert_false(oci_registries_insecure(c, "lan.example"));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (parse_registries(bad[i], &e) == 0)
			fail_msg("%s was accepted", bad[i]);
	assert_true(parse_registries("{\"mirror\":{}}", &e) < 0);
	assert_non_null(strstr(e.msg, "\"mirror\""));
}

/* ---- the Docker configuration ---- */

static void check_basic(const char *config, const char *domain, const char *want)
{
	CLEANUP(oci_credentials_done) struct oci_credentials c = {0};
	CLEANUP_FREE char *helper = NULL;
	struct err e = {0};

	if (oci_credentials_parse(config, strlen(config), domain, NULL, &c, &helper, &e) < 0)
		fail_msg("%s", e.msg);
	CLEANUP_FREE char *basic = oci_credentials_basic(&c);
	if (want)
		assert_string_equal(basic, want);
	else
		assert_null(basic);
}

static void test_credentials(void **state)
{
	static const char config[] =
		"{\"auths\":{\"https://index.docker.io/v1/\":{\"auth\":\"dTpw\"},"
		"\"localhost:5000\":{\"username\":\"a\",\"password\":\"b\"},\"https://old.example/v2/"
		"\":{\"auth\":\"dTpw\"},"
		"\"quay.io/"
		"team\":{\"auth\":\"dTpw\"},\"id.example\":{\"auth\":\"dTo=\",\"identitytoken\":\"t\"},"
		"\"nul.example\":{\"auth\":\"dTpwAAA=\"},\"bad.io\":{\"auth\":\"not base64\"}},"
		"\"credHelpers\":{\"help.example\":\"pass\",\"evil.example\":\"../x\"}}";
	CLEANUP(oci_credentials_done) struct oci_credentials c = {0};
	CLEANUP_FREE char *helper = NULL, *other = NULL;
	struct err e = {0};

	check_basic(config, "docker.io", "dTpw");
	check_basic(config, "localhost:5000", "YTpi");
	check_basic(config, "old.example", "dTpw");
	check_basic(config, "localhost", NULL);
	check_basic(config, "quay.io", NULL);
	check_basic(config, "nul.example", "dTpw");
	assert_int_equal(
		oci_credentials_parse(config, strlen(config), "bad.io", NULL, &c, &other, &e), -EBADMSG);
	assert_int_equal(
		oci_credentials_parse(config, strlen(config), "evil.example", NULL, &c, &other, &e), -EINVAL);
	assert_int_equal(
		oci_credentials_parse(config, strlen(config), "help.example", NULL, &c, &helper, &e), 0);
	assert_string_equal(helper, "pass");
	free(TAKE_PTR(helper));
	assert_int_equal(
		oci_credentials_parse(config, strlen(config), "HELP.example", NULL, &c, &helper, &e), 0);
	assert_string_equal(helper, "pass");
	assert_int_equal(
		oci_credentials_parse(config, strlen(config), "id.example", NULL, &c, &other, &e), 0);
	assert_string_equal(c.identity_token, "t");
}

/* Entries of podman's for parts of a registry: the closest one. */
static void test_parts(void **state)
{
	static const char config[] = "{\"auths\":{\"q.example/team/app\":{\"auth\":\"YTph\"},"
				     "\"q.example/team\":{\"auth\":\"dDp0\"},\"q.example/empty\":{},"
				     "\"q.example\":{\"auth\":\"ZTpl\"},"
				     "\"docker.io/library/x\":{\"auth\":\"eDp4\"}}}";
	static const struct {
		const char *domain, *repository, *user;
	} cases[] = {
		{"q.example", "team/app", "a"},
		{"q.example", "team/app/deeper", "a"},
		{"q.example", "team/apple", "t"},
		{"q.example", "team", "t"},
		{"q.example", "teams", "e"},
		{"q.example", "empty/x", "e"},
		{"q.example", NULL, "e"},
		{"q.example:5000", "team/app", NULL},
		{"docker.io", "library/x", "x"},
		{"docker.io", "library/y", NULL},
		{"docker.io", NULL, NULL},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		CLEANUP(oci_credentials_done) struct oci_credentials c = {0};
		CLEANUP_FREE char *helper = NULL;
		assert_int_equal(oci_credentials_parse(config, strlen(config), cases[i].domain,
					 cases[i].repository, &c, &helper, NULL),
			0);
		if (cases[i].user)
			assert_string_equal(c.user, cases[i].user);
		else
			assert_true(oci_credentials_empty(&c));
	}
}

struct folder {
	char path[64];
	char *bin, *old_path;
};

static int setup(void **state)
{
	struct folder *f = calloc(1, sizeof(*f));
	const char *tmp = getenv("TMPDIR");

	snprintf(f->path, sizeof(f->path), "%.40s/a3s-auth-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(f->path))
		return -1;
	*state = f;
	f->old_path = str_dup(getenv("PATH"));
	CLEANUP_FREE char *path = str_printf("%s:%s", f->path, f->old_path);
	CLEANUP_FREE char *config = str_printf("%s/config", f->path);
	/* Not those of whoever runs the tests. */
	CLEANUP_FREE char *none = str_printf("%s/none.json", f->path);
	setenv("PATH", path, 1);
	setenv("REGISTRY_AUTH_FILE", none, 1);
	return setenv("DOCKER_CONFIG", config, 1);
}

static int teardown(void **state)
{
	struct folder *f = *state;

	setenv("PATH", f->old_path, 1);
	free(f->old_path);
	int r = io_remove_tree_at(AT_FDCWD, f->path);
	free(f);
	return r;
}

static void put(const struct folder *f, const char *name, const char *text, mode_t mode)
{
	CLEANUP_FREE char *path = str_printf("%s/%s", f->path, name);

	assert_int_equal(io_write_file_at(AT_FDCWD, path, text, strlen(text), mode), 0);
}

static char *get(const struct folder *f, const char *name)
{
	CLEANUP_FREE char *path = str_printf("%s/%s", f->path, name);
	char *text = NULL;
	size_t n;

	assert_int_equal(io_read_file_at(AT_FDCWD, path, 1 << 20, &text, &n), 0);
	return text;
}

static void make_folder(const struct folder *f, const char *name)
{
	CLEANUP_FREE char *path = str_printf("%s/%s", f->path, name);

	assert_int_equal(io_mkdir_p(path, 0700), 0);
}

/* What others keep in the file stays; the file is private; a link to it stays a link. */
static void test_rewrite(void **state)
{
	const struct folder *f = *state;
	CLEANUP(oci_credentials_done) struct oci_credentials c = {0};
	CLEANUP_FREE char *where = NULL, *again = NULL, *link = str_printf("%s/config/config.json", f->path);
	struct stat st;
	struct err e = {0};

	if (oci_credentials_store("docker.io", "me", "secret", &where, &e) < 0)
		fail_msg("%s", e.msg);
	assert_string_equal(where, link);
	assert_int_equal(stat(link, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	CLEANUP_FREE char *text = get(f, "config/config.json");
	assert_non_null(strstr(text, "\"https://index.docker.io/v1/\""));

	make_folder(f, "dotfiles");
	put(f, "dotfiles/docker.json",
		"{\"z\": {\"a\": [1, 2.5, \"\\u00e9\"]}, \"auths\": {\"a.example\": {\"auth\": \"dTpw\", "
		"\"email\": \"x\"}}, "
		"\"b\": null}",
		0644);
	assert_int_equal(unlink(link), 0);
	assert_int_equal(symlink("../dotfiles/docker.json", link), 0);
	assert_int_equal(oci_credentials_store("b.example:5000", "me", "secret", &again, &e), 0);
	assert_int_equal(lstat(link, &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	CLEANUP_FREE char *linked = get(f, "dotfiles/docker.json");
	assert_non_null(strstr(linked, "2.5"));
	assert_non_null(strstr(linked, "\"email\""));
	assert_true(strstr(linked, "\"z\"") < strstr(linked, "\"b.example:5000\""));
	assert_int_equal(oci_credentials_find("b.example:5000", NULL, &c, &e), 0);
	assert_string_equal(c.user, "me");
	assert_string_equal(c.password, "secret");
	assert_int_equal(oci_credentials_erase("b.example:5000", &e), 0);
	assert_int_equal(oci_credentials_erase("b.example:5000", &e), -ENOENT);
	CLEANUP_FREE char *erased = get(f, "dotfiles/docker.json");
	assert_null(strstr(erased, "b.example"));
	assert_non_null(strstr(erased, "a.example"));
}

static const char *user_of(const char *domain, const char *repository)
{
	static char user[32];
	CLEANUP(oci_credentials_done) struct oci_credentials c = {0};
	struct err e = {0};

	if (oci_credentials_find(domain, repository, &c, &e) < 0)
		fail_msg("%s", e.msg);
	snprintf(user, sizeof(user), "%s", c.user ? c.user : "");
	return user;
}

/* What Docker's file does not have may be in podman's. */
static void test_podman_files(void **state)
{
	const struct folder *f = *state;
	CLEANUP_FREE char *run = str_printf("%s/run", f->path), *etc = str_printf("%s/etc", f->path);
	CLEANUP_FREE char *named = str_printf("%s/named.json", f->path);
	CLEANUP(oci_credentials_done) struct oci_credentials c = {0};
	struct err e = {0};

	make_folder(f, "config");
	make_folder(f, "run/containers");
	make_folder(f, "etc/containers");
	setenv("XDG_RUNTIME_DIR", run, 1);
	setenv("XDG_CONFIG_HOME", etc, 1);
	unsetenv("REGISTRY_AUTH_FILE");
	put(f, "config/config.json", "{\"auths\":{\"a.example\":{\"auth\":\"ZG9ja2VyOnA=\"}}}", 0600);
	put(f, "run/containers/auth.json",
		"{\"auths\":{\"a.example\":{\"auth\":\"cnVuOnA=\"},\"b.example/"
		"team\":{\"auth\":\"cnVuOnA=\"}}}",
		0600);
	put(f, "etc/containers/auth.json",
		"{\"auths\":{\"b.example\":{\"auth\":\"ZXRjOnA=\"},\"docker.io\":{\"auth\":\"ZXRjOnA=\"}}}",
		0600);
	put(f, "named.json", "{\"auths\":{\"b.example\":{\"auth\":\"bmFtZWQ6cA==\"}}}", 0600);
	assert_string_equal(user_of("a.example", "x"), "docker");
	assert_string_equal(user_of("b.example", "team/app"), "run");
	assert_string_equal(user_of("b.example", "x"), "etc");
	assert_string_equal(user_of("docker.io", "library/x"), "etc");
	assert_string_equal(user_of("c.example", "x"), "");
	/* Docker's file need not be there. A file that is named is the only one of podman's. */
	CLEANUP_FREE char *docker = str_printf("%s/config/config.json", f->path);
	assert_int_equal(unlink(docker), 0);
	assert_string_equal(user_of("a.example", "x"), "run");
	setenv("REGISTRY_AUTH_FILE", named, 1);
	assert_string_equal(user_of("b.example", "x"), "named");
	assert_string_equal(user_of("a.example", "x"), "");
	/* One that is damaged is told, with its name. */
	put(f, "named.json", "{\"auths\":", 0600);
	assert_true(oci_credentials_find("b.example", "x", &c, &e) < 0);
	assert_non_null(strstr(e.msg, "named.json"));
	unsetenv("REGISTRY_AUTH_FILE");
	unsetenv("XDG_RUNTIME_DIR");
	unsetenv("XDG_CONFIG_HOME");
}

static void test_rewrite_refused(void **state)
{
	const struct folder *f = *state;
	CLEANUP_FREE char *where = NULL;
	struct err e = {0};

	make_folder(f, "config");
	put(f, "config/config.json", "{\"auths\": broken", 0600);
	assert_true(oci_credentials_store("a.example", "me", "secret", &where, &e) < 0);
	CLEANUP_FREE char *text = get(f, "config/config.json");
	assert_string_equal(text, "{\"auths\": broken");
	put(f, "config/config.json", "{}", 0600);
	assert_true(oci_credentials_store("a.example", "m:e", "secret", &where, &e) < 0);
	assert_true(oci_credentials_store("a.example", "", "secret", &where, &e) < 0);
}

/* Many at once: none gets lost. */
static void test_rewrite_at_once(void **state)
{
	enum { LOGINS = 8 };
	pid_t pids[LOGINS];

	for (int i = 0; i < LOGINS; i++) {
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] == 0) {
			CLEANUP_FREE char *domain = str_printf("r%d.example", i), *where = NULL;
			_exit(oci_credentials_store(domain, "me", "secret", &where, NULL) < 0);
		}
	}
	for (int i = 0; i < LOGINS; i++) {
		int status;
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	for (int i = 0; i < LOGINS; i++) {
		CLEANUP(oci_credentials_done) struct oci_credentials c = {0};
		CLEANUP_FREE char *domain = str_printf("r%d.example", i);
		assert_int_equal(oci_credentials_find(domain, NULL, &c, NULL), 0);
		assert_string_equal(c.user, "me");
	}
}

/* ---- helpers ---- */

static const char helper[] = "#!/bin/sh\n"
			     "file=$(dirname \"$0\")/kept\n"
			     "case $1 in\n"
			     "store) cat /dev/stdin >\"$file\" ;;\n"
			     "get) if [ -e \"$file\" ]; then cat \"$file\"; else\n"
			     "  echo credentials not found in native keychain; exit 1; fi ;;\n"
			     "erase) rm \"$file\" ;;\n"
			     "esac\n";

static void test_helper(void **state)
{
	const struct folder *f = *state;
	CLEANUP(oci_credentials_done) struct oci_credentials none = {0}, c = {0};
	CLEANUP_FREE char *where = NULL;
	struct err e = {0};

	make_folder(f, "config");
	put(f, "config/config.json", "{\"credsStore\": \"test\", \"keep\": 1}", 0600);
	put(f, "docker-credential-test", helper, 0700);
	if (oci_credentials_find("a.example", NULL, &none, &e) < 0)
		fail_msg("%s", e.msg);
	assert_true(oci_credentials_empty(&none));
	assert_int_equal(oci_credentials_store("a.example", "me", "se\"cret", &where, &e), 0);
	assert_string_equal(where, "docker-credential-test");
	CLEANUP_FREE char *kept = get(f, "kept"), *config = get(f, "config/config.json");
	assert_string_equal(
		kept, "{\"ServerURL\":\"a.example\",\"Username\":\"me\",\"Secret\":\"se\\\"cret\"}");
	assert_null(strstr(config, "cret"));
	assert_non_null(strstr(config, "\"keep\""));
	assert_int_equal(oci_credentials_find("a.example", NULL, &c, &e), 0);
	assert_string_equal(c.user, "me");
	assert_string_equal(c.password, "se\"cret");
	assert_int_equal(oci_credentials_erase("a.example", &e), 0);
	assert_int_equal(oci_credentials_erase("a.example", &e), -ENOENT);
}

static void test_bad_helpers(void **state)
{
	static const char *const programs[] = {"#!/bin/sh\nyes\n", "#!/bin/sh\necho no\n",
		"#!/bin/sh\nexit 3\n", "#!/bin/sh\necho '{\"Username\":1,\"Secret\":\"\"}'\n"};
	const struct folder *f = *state;
	struct err e = {0};

	for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
		struct oci_credentials c = {0};
		put(f, "docker-credential-bad", programs[i], 0700);
		assert_true(oci_helper_get("bad", "a.example", &c, &e) < 0);
		assert_true(oci_credentials_empty(&c));
	}
	/* what it leaves running does not hold us up */
	CLEANUP(oci_credentials_done) struct oci_credentials c = {0};
	uint64_t begun = time_mono_ns();
	put(f, "docker-credential-bad",
		"#!/bin/sh\nsleep 3 &\necho '{\"Username\":\"<token>\",\"Secret\":\"s\"}'\n", 0700);
	assert_int_equal(oci_helper_get("bad", "a.example", &c, &e), 0);
	assert_string_equal(c.identity_token, "s");
	assert_true(time_mono_ns() - begun < 2500000000ull);
	assert_false(oci_helper_name_valid("../x"));
	assert_false(oci_helper_name_valid(""));
	assert_false(oci_helper_name_valid("a b"));
	assert_int_equal(oci_helper_get("missing", "a.example", &c, &e), -ENOENT);
}

/* ---- certificates ---- */

static void test_tls(void **state)
{
	static const char pem[] = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
	const struct folder *f = *state;
	CLEANUP_FREE char *dir = str_printf("%s/certs", f->path);
	struct oci_tls t = {0};
	struct err e = {0};

	unsetenv("SSL_CERT_FILE");
	unsetenv("SSL_CERT_DIR");
	assert_int_equal(oci_tls_find("a.example", NULL, true, &t, &e), 0);
	assert_null(t.cas);
	oci_tls_done(&t);
	make_folder(f, "config/certs.d/a.example:5000");
	put(f, "config/certs.d/a.example:5000/ca.crt", pem, 0600);
	put(f, "config/certs.d/a.example:5000/me.cert", pem, 0600);
	assert_int_equal(oci_tls_find("a.example:5000", NULL, true, &t, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "me.key"));
	put(f, "config/certs.d/a.example:5000/me.key", "", 0600);
	assert_int_equal(oci_tls_find("a.example:5000", NULL, true, &t, &e), 0);
	assert_non_null(strstr(t.cas, "AA=="));
	assert_non_null(strstr(t.cert, "me.cert"));
	assert_non_null(strstr(t.key, "me.key"));
	oci_tls_done(&t);
	make_folder(f, "certs");
	put(f, "certs/ca.crt", "nothing", 0600);
	assert_int_equal(oci_tls_find("b.example", dir, true, &t, &e), -EINVAL);
	put(f, "certs/ca.crt", pem, 0600);
	put(f, "certs/me.cert", pem, 0600);
	put(f, "certs/me.key", "", 0600);
	assert_int_equal(oci_tls_find("b.example", dir, false, &t, &e), 0);
	assert_non_null(t.cas);
	assert_null(t.cert);
	oci_tls_done(&t);
}

#define IN_FOLDER(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_challenge),
		cmocka_unit_test(test_headers),
		cmocka_unit_test(test_answer),
		cmocka_unit_test(test_loopback),
		cmocka_unit_test(test_url),
		cmocka_unit_test(test_bad_proxy),
		cmocka_unit_test(test_proxy),
		cmocka_unit_test(test_registries),
		cmocka_unit_test(test_credentials),
		cmocka_unit_test(test_parts),
		IN_FOLDER(test_podman_files),
		IN_FOLDER(test_rewrite),
		IN_FOLDER(test_rewrite_refused),
		IN_FOLDER(test_rewrite_at_once),
		IN_FOLDER(test_helper),
		IN_FOLDER(test_bad_helpers),
		IN_FOLDER(test_tls),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
