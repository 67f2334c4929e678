/* SPDX-License-Identifier: MIT */
#include "registry/config.h"

#include <fcntl.h>
#include <string.h>
#include <strings.h>

#include "base/io.h"
#include "base/strv.h"
#include "manifest.h"
#include "reference.h"
#include "registry/url.h"

#define FILE_MAX    (1u << 20) /* bytes */
#define DOMAINS_MAX 1024
#define HOSTS_MAX   1024
#define URL_MAX	    1024

struct mirrors {
	char *domain;
	struct strv urls;
};
struct oci_registries {
	struct mirrors *v;
	size_t n;
	struct strv insecure;
};

void oci_registries_free(struct oci_registries *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->n; i++) {
		free(c->v[i].domain);
		strv_done(&c->v[i].urls);
	}
	free(c->v);
	strv_done(&c->insecure);
	free(c);
}

/* Whether s is a domain as references have it. */
static bool is_domain(const char *s)
{
	CLEANUP(oci_reference_done) struct oci_reference ref = {0};
	CLEANUP_FREE char *name = str_printf("%s/x", s);

	return name && !strchr(s, '/') && oci_reference_parse(name, &ref, NULL) == 0 &&
	       strcasecmp(ref.domain, s) == 0;
}

/* Of "https://host:port/path": the authority. */
static char *authority_of(const char *url)
{
	const char *p = strstr(url, "://") + 3;

	return strndup(p, strcspn(p, "/"));
}

static int add_mirror(struct oci_registries *c, struct mirrors *m, const char *url, struct err *e)
{
	size_t n = url ? strlen(url) : 0;
	bool tls = n && strncmp(url, "https://", 8) == 0;

	if (n == 0 || n > URL_MAX || (!tls && strncmp(url, "http://", 7) != 0))
		return err_set(e, -EINVAL, "a mirror of %s is no HTTP address", m->domain);
	if (strpbrk(url, "@?#% \t\\") || strstr(url, "/../"))
		return err_set(e, -EINVAL, "a mirror's address may be a host and a path, and nothing more");
	while (url[n - 1] == '/')
		n--;
	CLEANUP_FREE char *clean = strndup(url, n);
	CLEANUP_FREE char *authority = clean && n > 8 ? authority_of(clean) : NULL;
	if (!clean)
		return err_oom(e);
	if (!authority || !is_domain(authority))
		return err_set(e, -EINVAL, "%s is no address of a mirror", clean);
	if (!tls && !oci_http_is_loopback(authority) && !oci_registries_insecure(c, authority))
		return err_set(e, -EINVAL,
			"the mirror %s is not encrypted, and \"insecure\" does not name it", clean);
	if (m->urls.n >= OCI_MIRRORS_MAX)
		return err_set(e, -EINVAL, "%s has more than %d mirrors", m->domain, OCI_MIRRORS_MAX);
	return strv_push(&m->urls, clean) < 0 ? err_oom(e) : 0;
}

static int add_mirrors(struct oci_registries *c, const json_t *o, struct err *e)
{
	const char *key;
	json_t *list;

	if (!json_is_object(o) || json_object_size(o) > DOMAINS_MAX)
		return err_set(e, -EINVAL, "\"mirrors\" is not an object of lists, or too large");
	c->v = calloc(json_object_size(o) + 1, sizeof(*c->v));
	if (!c->v)
		return err_oom(e);
	json_object_foreach ((json_t *)o, key, list) {
		struct mirrors *m = &c->v[c->n++];
		m->domain = strdup(key);
		if (!m->domain)
			return err_oom(e);
		if (!is_domain(key))
			return err_set(e, -EINVAL, "\"mirrors\": %.100s is no registry", key);
		if (!json_is_array(list))
			return err_set(e, -EINVAL, "\"mirrors\": what %s has is not a list", key);
		for (size_t i = 0; i < json_array_size(list); i++) {
			int r = add_mirror(c, m, json_string_value(json_array_get(list, i)), e);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int add_insecure(struct oci_registries *c, const json_t *list, struct err *e)
{
	if (!json_is_array(list) || json_array_size(list) > HOSTS_MAX)
		return err_set(e, -EINVAL, "\"insecure\" is not a list of hosts, or too long");
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *host = json_string_value(json_array_get(list, i));
		if (!host || !is_domain(host))
			return err_set(
				e, -EINVAL, "\"insecure\": %.100s is no host", host ? host : "an entry");
		if (strv_push(&c->insecure, host) < 0)
			return err_oom(e);
	}
	return 0;
}

static int parse(struct oci_registries *c, const json_t *j, struct err *e)
{
	const char *key;
	json_t *value;

	json_object_foreach ((json_t *)j, key, value)
		if (strcmp(key, "mirrors") != 0 && strcmp(key, "insecure") != 0)
			return err_set(e, -EINVAL, "\"%.100s\" is nothing that is known", key);
	/* Mirrors without encryption need to be known as insecure. */
	value = json_object_get(j, "insecure");
	int r = value ? add_insecure(c, value, e) : 0;
	value = json_object_get(j, "mirrors");
	return r < 0 || !value ? r : add_mirrors(c, value, e);
}

int oci_registries_parse(const char *json, size_t n, struct oci_registries **ret, struct err *e)
{
	CLEANUP(oci_registries_freep) struct oci_registries *c = calloc(1, sizeof(*c));
	CLEANUP(json_done) json_t *j = NULL;

	if (!c)
		return err_oom(e);
	int r = oci_json_parse("it", json, n, &j, e);
	if (r == 0)
		r = parse(c, j, e);
	if (r < 0) {
		err_wrap(e, OCI_REGISTRIES_FILE);
		return r;
	}
	*ret = TAKE_PTR(c);
	return 0;
}

int oci_registries_read(int home_fd, struct oci_registries **ret, struct err *e)
{
	CLEANUP_FREE char *json = NULL;
	size_t n;

	int r = home_fd < 0 ? -ENOENT : io_read_file_at(home_fd, OCI_REGISTRIES_FILE, FILE_MAX, &json, &n);
	if (r == -ENOENT)
		return oci_registries_parse("{}", 2, ret, e);
	if (r < 0)
		return err_sys(e, r, "cannot read " OCI_REGISTRIES_FILE " in the home folder");
	return oci_registries_parse(json, n, ret, e);
}

const char *const *oci_registries_mirrors(const struct oci_registries *c, const char *domain, size_t *ret_n)
{
	*ret_n = 0;
	for (size_t i = 0; c && i < c->n; i++)
		if (strcasecmp(c->v[i].domain, domain) == 0) {
			*ret_n = c->v[i].urls.n;
			return (const char *const *)c->v[i].urls.v;
		}
	return NULL;
}

bool oci_registries_insecure(const struct oci_registries *c, const char *authority)
{
	for (size_t i = 0; c && i < c->insecure.n; i++)
		if (strcasecmp(c->insecure.v[i], authority) == 0)
			return true;
	return false;
}
