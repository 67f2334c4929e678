/* SPDX-License-Identifier: MIT */
#include "registry/tls.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/log.h"
#include "base/strv.h"

#define PEM_MAX	  (4u << 20)  /* bytes of one file */
#define ALL_MAX	  (16u << 20) /* of all CAs for one host */
#define FILES_MAX 4096	      /* in one folder */

#define SYSTEM_FILE \
	"/etc/ssl/certs/ca-certificates.crt" /* Debian; the next two are Fedora's and openSUSE's */
static const char *const system_files[] = {
	SYSTEM_FILE, "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"};

static bool has_suffix(const char *s, const char *suffix)
{
	size_t n = strlen(s), k = strlen(suffix);

	return n > k && strcmp(s + n - k, suffix) == 0;
}

static bool is_certificate(const char *pem)
{
	return strstr(pem, "-----BEGIN CERTIFICATE-----") ||
	       strstr(pem, "-----BEGIN TRUSTED CERTIFICATE-----");
}

/* Adds a file's certificates. strict: having none is an error. */
static int add_file(struct buf *b, const char *path, bool strict, struct err *e)
{
	CLEANUP_FREE char *pem = NULL;
	size_t n;

	int r = io_read_file_at(AT_FDCWD, path, PEM_MAX, &pem, &n);
	if (r < 0)
		return strict ? err_sys(e, r, "cannot read %s", path) : 0;
	if (strlen(pem) != n || !is_certificate(pem))
		return strict ? err_set(e, -EINVAL, "%s holds no certificate in PEM form", path) : 0;
	if (n > ALL_MAX - b->len)
		return err_set(
			e, -EFBIG, "%s: the CA certificates are larger than %u MiB", path, ALL_MAX >> 20);
	return buf_append(b, pem, n) < 0 || buf_append(b, "\n", 1) < 0 ? err_oom(e) : 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names in a folder, in order. -ENOENT without *e when there is none. */
static int list(const char *dir, struct strv *ret, struct err *e)
{
	DIR *d = opendir(dir);
	const struct dirent *de;
	int r = 0;

	if (!d)
		return errno == ENOENT || errno == ENOTDIR ? -ENOENT
							   : err_sys(e, -errno, "cannot read %s", dir);
	while (r == 0 && (de = readdir(d))) {
		if (de->d_name[0] == '.')
			continue;
		if (ret->n >= FILES_MAX)
			r = err_set(e, -EFBIG, "%s has more than %d files", dir, FILES_MAX);
		else if (strv_push(ret, de->d_name) < 0)
			r = err_oom(e);
	}
	closedir(d);
	if (r == 0 && ret->n)
		qsort(ret->v, ret->n, sizeof(*ret->v), by_name);
	return r;
}

/* SSL_CERT_DIR: every file of every folder, as Go reads them, whatever its name. */
static int add_folders(struct buf *b, const char *folders, struct err *e)
{
	CLEANUP_FREE char *copy = strdup(folders);
	char *save = NULL;

	if (!copy)
		return err_oom(e);
	for (char *dir = strtok_r(copy, ":", &save); dir; dir = strtok_r(NULL, ":", &save)) {
		CLEANUP(strv_done) struct strv names = {0};
		int r = list(dir, &names, e);
		if (r < 0 && r != -ENOENT)
			return r;
		for (size_t i = 0; i < names.n; i++) {
			CLEANUP_FREE char *path = str_printf("%s/%s", dir, names.v[i]);
			r = path ? add_file(b, path, false, e) : err_oom(e);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int add_system(struct buf *b, const char *file, const char *folders, struct err *e)
{
	if (file) {
		int r = add_file(b, file, true, e);
		return r < 0 || !folders ? r : add_folders(b, folders, e);
	}
	if (folders)
		return add_folders(b, folders, e);
	for (size_t i = 0; i < ARRAY_LEN(system_files); i++)
		if (access(system_files[i], R_OK) == 0)
			return add_file(b, system_files[i], false, e);
	return 0;
}

/* ---- the folder of a host ---- */

static const char *env(const char *name)
{
	const char *v = getenv(name);

	return v && *v ? v : NULL;
}

/* The folder of this name; *ret NULL when there is none. */
static int find_named(const char *authority, char **ret, struct err *e)
{
	const char *docker = env("DOCKER_CONFIG"), *home = env("HOME");
	char *places[] = {
		docker ? str_printf("%s/certs.d/%s", docker, authority)
		       : str_printf("%s/.docker/certs.d/%s", home ? home : "", authority),
		str_printf("%s/.config/containers/certs.d/%s", home ? home : "", authority),
		str_printf("/etc/containers/certs.d/%s", authority),
		str_printf("/etc/docker/certs.d/%s", authority),
	};
	int r = 0;

	*ret = NULL;
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		struct stat st;
		if (!places[i])
			r = err_oom(e);
		else if (r == 0 && !*ret && stat(places[i], &st) == 0 && S_ISDIR(st.st_mode))
			*ret = TAKE_PTR(places[i]);
		free(places[i]);
	}
	return r;
}

static int find_folder(const char *authority, char **ret, struct err *e)
{
	int r = find_named(authority, ret, e);

	/* A reference may have named the usual port, and the folder with it. */
	if (r < 0 || *ret || (*authority != '[' && strchr(authority, ':')) || strstr(authority, "]:"))
		return r;
	CLEANUP_FREE char *with_port = str_printf("%s:443", authority);
	return with_port ? find_named(with_port, ret, e) : err_oom(e);
}

int oci_tls_configured(const char *authority, bool *ret, struct err *e)
{
	CLEANUP_FREE char *dir = NULL;
	int r = find_folder(authority, &dir, e);

	*ret = dir;
	return r;
}

/* The client's certificate with its key: the first pair. */
static int take_pair(const char *dir, const char *cert, struct oci_tls *t, struct err *e)
{
	CLEANUP_FREE char *path = str_printf("%s/%s", dir, cert);
	CLEANUP_FREE char *key =
		path ? str_printf("%.*s.key", (int)(strlen(path) - strlen(".cert")), path) : NULL;

	if (!key)
		return err_oom(e);
	if (access(key, F_OK) < 0)
		return err_set(e, -EINVAL, "%s has no key beside it: there is no %s", path, key);
	if (t->cert) {
		log_debug("registry: %s is not used, %s is", path, t->cert);
		return 0;
	}
	t->cert = TAKE_PTR(path);
	t->key = TAKE_PTR(key);
	return 0;
}

static int take_folder(const char *dir, bool show, struct buf *cas, struct oci_tls *t, struct err *e)
{
	CLEANUP(strv_done) struct strv names = {0};

	int r = list(dir, &names, e);
	if (r == -ENOENT)
		return err_sys(e, r, "cannot read %s", dir);
	for (size_t i = 0; r == 0 && i < names.n; i++) {
		CLEANUP_FREE char *path = str_printf("%s/%s", dir, names.v[i]);
		if (!path)
			return err_oom(e);
		if (has_suffix(path, ".crt"))
			r = add_file(cas, path, true, e);
		else if (has_suffix(path, ".cert") && show)
			r = take_pair(dir, names.v[i], t, e);
	}
	return r;
}

static void move_cas(struct buf *b, struct oci_tls *t)
{
	t->cas = (char *)TAKE_PTR(b->mem); /* nothing was consumed: it begins there */
	t->n_cas = b->len;
}

int oci_tls_find(const char *authority, const char *cert_dir, bool show, struct oci_tls *ret, struct err *e)
{
	const char *file = env("SSL_CERT_FILE"), *folders = env("SSL_CERT_DIR");
	CLEANUP(buf_done) struct buf cas = {0};
	CLEANUP(oci_tls_done) struct oci_tls t = {0};
	CLEANUP_FREE char *dir = NULL;
	int r = 0;

	t.authority = strdup(authority);
	if (!t.authority)
		return err_oom(e);
	if (cert_dir)
		r = take_folder(cert_dir, show, &cas, &t, e);
	else
		r = find_folder(authority, &dir, e);
	if (r == 0 && dir)
		r = take_folder(dir, true, &cas, &t, e);
	if (r == 0 && (cas.len || file || folders))
		r = add_system(&cas, file, folders, e);
	if (r < 0)
		return r;
	if (cas.len)
		move_cas(&cas, &t);
	else if (file || folders)
		return err_set(e, -EINVAL, "SSL_CERT_DIR names no folder with certificates");
	*ret = t;
	t = (struct oci_tls){0};
	return 0;
}

void oci_tls_done(struct oci_tls *t)
{
	free(t->authority);
	free(t->cas);
	free(t->cert);
	free(t->key);
	*t = (struct oci_tls){0};
}
