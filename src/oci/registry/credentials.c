/* SPDX-License-Identifier: MIT */
#include "registry/credentials.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "base/b64.h"
#include "base/io.h"
#include "manifest.h"
#include "registry/helper.h"

#define CONFIG_MAX   (1u << 20) /* bytes of the file */
#define LINKS_MAX    8		/* symbolic links from its name to it */
#define LOCK_WAIT_S  30
#define PODMAN_FILES 2
#define HUB_KEY	     "https://index.docker.io/v1/"
#define WHAT	     "the file with credentials"

/* Not left behind in memory that others get. */
static void free_secret(char *s)
{
	if (s)
		explicit_bzero(s, strlen(s));
	free(s);
}

static void secret_done(char **s)
{
	free_secret(*s);
}

void oci_credentials_done(struct oci_credentials *c)
{
	free(c->user);
	free_secret(c->password);
	free_secret(c->identity_token);
	free_secret(c->registry_token);
	*c = (struct oci_credentials){0};
}

bool oci_credentials_empty(const struct oci_credentials *c)
{
	return !c->user && !c->identity_token && !c->registry_token;
}

static char *basic_of(const char *user, const char *password)
{
	CLEANUP(secret_done) char *plain = str_printf("%s:%s", user, password);
	char *b64 = plain ? malloc(B64_SIZE(strlen(plain))) : NULL;

	if (b64)
		b64_encode(b64, plain, strlen(plain));
	return b64;
}

char *oci_credentials_basic(const struct oci_credentials *c)
{
	return c->user && c->password ? basic_of(c->user, c->password) : NULL;
}

/* ---- entries ---- */

/* What Docker calls a registry in its file. */
static const char *key_of(const char *domain)
{
	return strcmp(domain, "docker.io") == 0 ? HUB_KEY : domain;
}

/*
 * Keys are hosts, or addresses of them as old clients wrote them ("https://host/v1/"). A key with a path but
 * no scheme is podman's, for a part of a registry, and not for all of it.
 */
static bool key_matches(const char *key, const char *domain)
{
	bool address = strncmp(key, "https://", 8) == 0 || strncmp(key, "http://", 7) == 0;
	const char *host = address ? strstr(key, "://") + 3 : key;
	size_t n = strcspn(host, "/");

	if (!address && host[n])
		return false;
	if (strlen(domain) == n && strncasecmp(host, domain, n) == 0)
		return true;
	return strcmp(domain, "docker.io") == 0 && n == 15 && strncasecmp(host, "index.docker.io", n) == 0;
}

/* base64 "user:password", as Docker writes it. */
static int from_auth(const char *auth, struct oci_credentials *ret, struct err *e)
{
	size_t n = strlen(auth);
	CLEANUP(secret_done) char *plain = n <= 2 * OCI_CREDENTIAL_MAX ? calloc(1, n + 1) : NULL;

	if (!plain)
		return n <= 2 * OCI_CREDENTIAL_MAX ? err_oom(e)
						   : err_set(e, -EFBIG, WHAT ": credentials are too long");
	ssize_t len = b64_decode(plain, auth, n);
	char *colon = len < 0 ? NULL : memchr(plain, ':', (size_t)len);
	/* Docker itself puts NULs behind some passwords, and cuts them off. */
	if (!colon || memchr(plain, '\0', (size_t)(colon - plain)))
		return err_set(e, -EBADMSG, WHAT ": bad credentials");
	ret->user = strndup(plain, (size_t)(colon - plain));
	ret->password = strdup(colon + 1);
	return ret->user && ret->password ? 0 : err_oom(e);
}

static int dup_member(const json_t *o, const char *key, char **ret)
{
	const char *s = json_string_value(json_object_get(o, key));

	if (!s || !*s)
		return 0;
	free_secret(*ret);
	*ret = strdup(s);
	return *ret ? 0 : -ENOMEM;
}

static int from_entry(const json_t *entry, struct oci_credentials *ret, struct err *e)
{
	const char *auth = json_string_value(json_object_get(entry, "auth"));
	int r = auth && *auth ? from_auth(auth, ret, e) : 0;

	if (r < 0)
		return r;
	if (dup_member(entry, "identitytoken", &ret->identity_token) < 0 ||
		dup_member(entry, "registrytoken", &ret->registry_token) < 0)
		return err_oom(e);
	if (!ret->user && json_string_value(json_object_get(entry, "username")) &&
		json_string_value(json_object_get(entry, "password"))) {
		if (dup_member(entry, "username", &ret->user) < 0 ||
			dup_member(entry, "password", &ret->password) < 0)
			return err_oom(e);
	}
	return 0;
}

/* podman's entries for a part of a registry, "quay.io/team" or "quay.io/team/app": the closest one. */
static int from_parts(const json_t *auths, const char *domain, const char *repository,
	struct oci_credentials *ret, struct err *e)
{
	CLEANUP_FREE char *key = str_printf("%s/%s", domain, repository);
	size_t shortest = strlen(domain);

	if (!key)
		return err_oom(e);
	for (char *end = key + strlen(key); end > key + shortest; end = strrchr(key, '/')) {
		*end = '\0';
		json_t *entry = json_object_get(auths, key);
		int r = entry ? from_entry(entry, ret, e) : 0;
		if (r < 0 || !oci_credentials_empty(ret))
			return r;
	}
	return 0;
}

static int from_auths(const json_t *auths, const char *domain, const char *repository,
	struct oci_credentials *ret, struct err *e)
{
	const char *key;
	json_t *entry;

	int r = repository ? from_parts(auths, domain, repository, ret, e) : 0;
	if (r < 0 || !oci_credentials_empty(ret))
		return r;
	entry = json_object_get(auths, key_of(domain));
	if (entry)
		r = from_entry(entry, ret, e);
	if (r < 0 || !oci_credentials_empty(ret))
		return r;
	json_object_foreach ((json_t *)auths, key, entry) {
		if (!key_matches(key, domain))
			continue;
		r = from_entry(entry, ret, e);
		if (r < 0 || !oci_credentials_empty(ret))
			return r;
	}
	return 0;
}

/* NULL: none is named for this registry. */
static const char *own_helper(const json_t *helpers, const char *host)
{
	const char *key, *name = json_string_value(json_object_get(helpers, host));
	json_t *value;

	json_object_foreach ((json_t *)helpers, key, value)
		if (!name && strcasecmp(key, host) == 0)
			name = json_string_value(value);
	return name;
}

/* The helper for a registry; *ret NULL when the file itself has the credentials. */
static int find_helper(const json_t *config, const char *domain, char **ret, struct err *e)
{
	const json_t *helpers = json_object_get(config, "credHelpers");
	const char *name = own_helper(helpers, key_of(domain));

	*ret = NULL;
	if (!name)
		name = own_helper(helpers, domain);
	if (!name)
		name = json_string_value(json_object_get(config, "credsStore"));
	if (!name || !*name)
		return 0;
	if (!oci_helper_name_valid(name))
		return err_set(e, -EINVAL, WHAT " names a credential helper that cannot be one");
	*ret = strdup(name);
	return *ret ? 0 : err_oom(e);
}

int oci_credentials_parse(const char *json, size_t n, const char *domain, const char *repository,
	struct oci_credentials *ret, char **ret_helper, struct err *e)
{
	CLEANUP(json_done) json_t *j = NULL;
	CLEANUP(oci_credentials_done) struct oci_credentials c = {0};
	CLEANUP_FREE char *helper = NULL;

	*ret = (struct oci_credentials){0};
	*ret_helper = NULL;
	int r = oci_json_parse(WHAT, json, n, &j, e);
	if (r == 0)
		r = find_helper(j, domain, &helper, e);
	if (r == 0 && !helper)
		r = from_auths(json_object_get(j, "auths"), domain, repository, &c, e);
	if (r < 0)
		return r;
	*ret = c;
	c = (struct oci_credentials){0};
	*ret_helper = TAKE_PTR(helper);
	return 0;
}

/* ---- the file ---- */

/* *ret NULL: the user has no home. */
static int config_path(char **ret, struct err *e)
{
	const char *dir = getenv("DOCKER_CONFIG"), *home = getenv("HOME");

	*ret = NULL;
	if (dir && *dir)
		*ret = str_printf("%s/config.json", dir);
	else if (home && *home)
		*ret = str_printf("%s/.docker/config.json", home);
	else
		return 0;
	return *ret ? 0 : err_oom(e);
}

/* -ENOENT, without *e, when there is none. */
static int read_config(const char *path, char **ret, size_t *ret_n, struct err *e)
{
	int r = io_read_file_at(AT_FDCWD, path, CONFIG_MAX, ret, ret_n);

	if (r == -ENOTDIR)
		r = -ENOENT;
	return r < 0 && r != -ENOENT ? err_sys(e, r, "cannot read %s", path) : r;
}

/* From one file, or the helper that it names. Nothing when it is not there, or says nothing about this registry. */
static int find_in(const char *path, const char *domain, const char *repository, struct oci_credentials *ret,
	struct err *e)
{
	CLEANUP_FREE char *helper = NULL;
	CLEANUP(secret_done) char *json = NULL;
	size_t n;

	int r = read_config(path, &json, &n, e);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = oci_credentials_parse(json, n, domain, repository, ret, &helper, e);
	if (r < 0)
		return err_wrap(e, "%s", path), r;
	if (!helper)
		return 0;
	r = oci_helper_get(helper, key_of(domain), ret, e);
	if (r < 0)
		oci_credentials_done(ret);
	return r;
}

/*
 * podman's files (containers-auth.json(5)): the one that is named by the environment, or the one of this login, which is gone
 * when the host restarts, and one that stays. malloc'd; NULL: no such.
 */
static char *podman_path(int i)
{
	static const char file[] = "containers/auth.json";
	const char *named = getenv("REGISTRY_AUTH_FILE"), *run = getenv("XDG_RUNTIME_DIR");
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

	if (named && *named)
		return i == 0 ? strdup(named) : NULL;
	if (i == 0)
		return run && *run ? str_printf("%s/%s", run, file) : NULL;
	if (config && *config)
		return str_printf("%s/%s", config, file);
	return home && *home ? str_printf("%s/.config/%s", home, file) : NULL;
}

int oci_credentials_find(
	const char *domain, const char *repository, struct oci_credentials *ret, struct err *e)
{
	CLEANUP_FREE char *path = NULL;

	*ret = (struct oci_credentials){0};
	int r = config_path(&path, e);
	if (r == 0 && path)
		r = find_in(path, domain, repository, ret, e);
	for (int i = 0; r == 0 && oci_credentials_empty(ret) && i < PODMAN_FILES; i++) {
		CLEANUP_FREE char *other = podman_path(i);
		if (other)
			r = find_in(other, domain, repository, ret, e);
	}
	return r;
}

/* ---- changing it ---- */

struct edit {
	char *path;   /* of the file itself, links followed */
	int lock_fd;  /* its folder */
	json_t *json; /* an object */
};

static void edit_done(struct edit *ed)
{
	free(ed->path);
	close_fd(&ed->lock_fd);
	json_decref(ed->json);
}

/*
 * People keep the file among others in a repository, with a link to it: the file is what is replaced, not the
 * link. Only links of this user or of root are followed.
 */
static int follow_links(char **path, struct err *e)
{
	for (int i = 0; i < LINKS_MAX; i++) {
		char to[4096];
		struct stat st;
		if (lstat(*path, &st) < 0)
			return errno == ENOENT ? 0 : err_sys(e, -errno, "cannot read %s", *path);
		if (!S_ISLNK(st.st_mode))
			return S_ISREG(st.st_mode) ? 0 : err_set(e, -EINVAL, "%s is not a file", *path);
		ssize_t n = readlink(*path, to, sizeof(to) - 1);
		if (n < 0 || (size_t)n == sizeof(to) - 1)
			return err_sys(e, n < 0 ? -errno : -ENAMETOOLONG, "cannot read the link %s", *path);
		to[n] = '\0';
		if (st.st_uid != geteuid() && st.st_uid != 0)
			return err_set(e, -EPERM, "%s is a link that another user made", *path);
		int dir = (int)(strrchr(*path, '/') + 1 - *path);
		char *next = *to == '/' ? strdup(to) : str_printf("%.*s%s", dir, *path, to);
		if (!next)
			return err_oom(e);
		free(*path);
		*path = next;
	}
	return err_sys(e, -ELOOP, "cannot read %s", *path);
}

/* flock(2) on the folder: no file is left over. */
static int lock_folder(const char *path, int *ret, struct err *e)
{
	CLEANUP_FREE char *dir = strndup(path, (size_t)(strrchr(path, '/') + 1 - path));

	if (!dir)
		return err_oom(e);
	int r = io_mkdir_p(dir, 0700);
	if (r < 0)
		return err_sys(e, r, "cannot make %s", dir);
	CLEANUP_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, -errno, "cannot open %s", dir);
	for (uint64_t end = time_mono_ns() + LOCK_WAIT_S * 1000000000ull; flock(fd, LOCK_EX | LOCK_NB) < 0;) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return err_sys(e, -errno, "cannot lock %s", dir);
		if (time_mono_ns() > end)
			return err_set(e, -EBUSY, "another login holds %s", dir);
		nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	}
	*ret = TAKE_FD(fd);
	return 0;
}

/* Opens it for a change. -ENOENT, without *e, when there is none and create is unset. */
static int edit_begin(bool create, struct edit *ed, struct err *e)
{
	CLEANUP(secret_done) char *text = NULL;
	size_t n;

	int r = config_path(&ed->path, e);
	if (r < 0)
		return r;
	if (!ed->path)
		return create ? err_set(e, -ENOENT,
					"neither DOCKER_CONFIG nor HOME says where credentials are kept")
			      : -ENOENT;
	if (!create && access(ed->path, F_OK) < 0)
		return -ENOENT;
	r = follow_links(&ed->path, e);
	if (r == 0)
		r = lock_folder(ed->path, &ed->lock_fd, e);
	if (r < 0)
		return r;
	r = read_config(ed->path, &text, &n, e);
	if (r == -ENOENT && create) {
		ed->json = json_object();
		return ed->json ? 0 : err_oom(e);
	}
	return r < 0 ? r : oci_json_parse(ed->path, text, n, &ed->json, e);
}

/* Whether a file beside ours is one that io_write_file_at began: NAME.HEX.tmp. */
static bool is_leftover(const char *file, const char *ours)
{
	size_t n = strlen(ours);

	if (strncmp(file, ours, n) != 0 || file[n] != '.')
		return false;
	return strspn(file + n + 1, "0123456789abcdef") == 16 && strcmp(file + n + 17, ".tmp") == 0;
}

/* With the lock nobody else is writing: what a login that died had begun holds secrets for nothing. */
static void drop_leftovers(const struct edit *ed)
{
	int fd = openat(ed->lock_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d) {
		close_fd(&fd);
		return;
	}
	for (struct dirent *de; (de = readdir(d));)
		if (is_leftover(de->d_name, strrchr(ed->path, '/') + 1))
			(void)unlinkat(ed->lock_fd, de->d_name, 0);
	closedir(d);
}

static int edit_end(struct edit *ed, struct err *e)
{
	CLEANUP(secret_done) char *text = json_dumps(ed->json, JSON_INDENT(8) | JSON_REAL_PRECISION(17));

	if (!text)
		return err_oom(e);
	drop_leftovers(ed);
	int r = io_write_file_at(AT_FDCWD, ed->path, text, strlen(text), 0600);
	return r < 0 ? err_sys(e, r, "cannot write %s", ed->path) : 0;
}

/* Takes out every entry for the domain; their number. */
static size_t drop_entries(json_t *auths, const char *domain)
{
	const char *key;
	json_t *entry;
	void *next;
	size_t n = 0;

	json_object_foreach_safe(auths, next, key, entry) if (key_matches(key, domain))
	{
		json_object_del(auths, key);
		n++;
	}
	return n;
}

/* An entry: empty where a helper has the secret, which is how Docker marks that there is one. */
static int put_entry(
	json_t *config, const char *domain, const char *user, const char *password, struct err *e)
{
	json_t *auths = json_object_get(config, "auths");

	if (!auths) {
		auths = json_object();
		if (json_object_set_new(config, "auths", auths) < 0)
			return err_oom(e);
	}
	if (!json_is_object(auths))
		return err_set(e, -EINVAL, WHAT ": \"auths\" is not an object");
	drop_entries(auths, domain);
	CLEANUP(secret_done) char *basic = password ? basic_of(user, password) : NULL;
	if (password && !basic)
		return err_oom(e);
	json_t *entry = basic ? json_pack("{s:s}", "auth", basic) : json_object();
	return !entry || json_object_set_new(auths, key_of(domain), entry) < 0 ? err_oom(e) : 0;
}

static int check_new(const char *user, const char *password, struct err *e)
{
	if (!*user || !*password)
		return err_set(e, -EINVAL, "the user name and the password must not be empty");
	if (strchr(user, ':'))
		return err_set(e, -EINVAL, "a user name with a colon cannot be sent to a registry");
	if (strlen(user) > OCI_CREDENTIAL_MAX / 2 || strlen(password) > OCI_CREDENTIAL_MAX / 2)
		return err_set(e, -EFBIG, "the user name or the password is too long");
	return 0;
}

int oci_credentials_store(
	const char *domain, const char *user, const char *password, char **ret_where, struct err *e)
{
	CLEANUP(edit_done) struct edit ed = {.lock_fd = -1};
	CLEANUP_FREE char *helper = NULL;

	int r = check_new(user, password, e);
	if (r == 0)
		r = edit_begin(true, &ed, e);
	if (r == 0)
		r = find_helper(ed.json, domain, &helper, e);
	if (r == 0 && helper)
		r = oci_helper_store(helper, key_of(domain), user, password, e);
	if (r == 0)
		r = put_entry(ed.json, domain, user, helper ? NULL : password, e);
	if (r == 0)
		r = edit_end(&ed, e);
	if (r < 0)
		return r;
	*ret_where = helper ? str_printf("docker-credential-%s", helper) : TAKE_PTR(ed.path);
	return *ret_where ? 0 : err_oom(e);
}

int oci_credentials_erase(const char *domain, struct err *e)
{
	CLEANUP(edit_done) struct edit ed = {.lock_fd = -1};
	CLEANUP(oci_credentials_done) struct oci_credentials has = {0};
	CLEANUP_FREE char *helper = NULL;
	bool found = false;

	int r = edit_begin(false, &ed, e);
	if (r == -ENOENT)
		return err_set(e, -ENOENT, "not logged in to %s", domain);
	if (r == 0)
		r = find_helper(ed.json, domain, &helper, e);
	if (r == 0 && helper)
		r = oci_helper_get(helper, key_of(domain), &has, e);
	if (r == 0 && !oci_credentials_empty(&has)) {
		found = true;
		r = oci_helper_erase(helper, key_of(domain), e);
	}
	if (r < 0)
		return r;
	if (drop_entries(json_object_get(ed.json, "auths"), domain) > 0) {
		found = true;
		r = edit_end(&ed, e);
	}
	return r < 0 || found ? r : err_set(e, -ENOENT, "not logged in to %s", domain);
}
