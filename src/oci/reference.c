/* SPDX-License-Identifier: MIT */
#include "reference.h"

#include <stdbool.h>
#include <string.h>

#include "base/io.h"
#include "digest.h"
#include "oci/oci.h"

#define DEFAULT_DOMAIN "docker.io"
#define LEGACY_DOMAIN  "index.docker.io"
#define LIBRARY	       "library/"

/* The C library's classes depend on the locale. */
static bool is_lower(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_alnum(char c)
{
	return is_lower(c) || (c >= 'A' && c <= 'Z');
}

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* domain-component: alphanumerics with dashes inside. Returns what follows, NULL if there is none. */
static const char *skip_domain_component(const char *p, const char *end)
{
	if (p == end || !is_alnum(*p))
		return NULL;
	while (p < end && (is_alnum(*p) || *p == '-'))
		p++;
	return p[-1] == '-' ? NULL : p;
}

static bool domain_valid(const char *p, const char *end)
{
	if (p < end && *p == '[') {
		const char *start = ++p;
		while (p < end && (is_hex(*p) || *p == ':' || *p == '.'))
			p++;
		if (p == start || p == end || *p++ != ']')
			return false;
	} else {
		while ((p = skip_domain_component(p, end)) && p < end && *p == '.')
			p++;
		if (!p)
			return false;
	}
	if (p == end)
		return true;
	if (*p++ != ':' || p == end || end - p > 5)
		return false;
	while (p < end && *p >= '0' && *p <= '9')
		p++;
	return p == end;
}

/* separator of path-component: one or two underscores, one dot, any number of dashes. */
static const char *skip_separator(const char *p, const char *end)
{
	if (*p == '.')
		return p + 1;
	if (*p == '_')
		return p + 1 < end && p[1] == '_' ? p + 2 : p + 1;
	while (p < end && *p == '-')
		p++;
	return p;
}

static bool path_valid(const char *p, const char *end)
{
	for (;;) {
		if (p == end || !is_lower(*p))
			return false;
		while (p < end && is_lower(*p))
			p++;
		if (p == end)
			return true;
		if (*p == '/') {
			p++;
			continue;
		}
		const char *after = skip_separator(p, end);
		if (after == p)
			return false;
		p = after;
	}
}

bool oci_tag_valid(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || n > OCI_TAG_MAX || *s == '.' || *s == '-')
		return false;
	for (; *s; s++)
		if (!is_alnum(*s) && *s != '_' && *s != '.' && *s != '-')
			return false;
	return true;
}

static bool has_upper(const char *p, const char *end)
{
	for (; p < end; p++)
		if (*p >= 'A' && *p <= 'Z')
			return true;
	return false;
}

/* The part before the first slash is a domain if it could not be a path component of Docker Hub. */
static bool starts_with_domain(const char *p, const char *slash)
{
	size_t n = (size_t)(slash - p);

	return memchr(p, '.', n) || memchr(p, ':', n) || has_upper(p, slash) ||
	       (n == 9 && memcmp(p, "localhost", 9) == 0);
}

/*
 * Hosts have one name, however it is written: else a rule for a registry would not be found for it. One that is a host
 * by its capitals alone keeps them, all of them.
 */
static void normalise_domain(char *s)
{
	size_t n = strlen(s);

	for (size_t i = 0; i < n; i++)
		if (s[i] >= 'A' && s[i] <= 'Z')
			s[i] = (char)(s[i] - 'A' + 'a');
	if (starts_with_domain(s, s + n))
		return;
	for (size_t i = 0; i < n; i++)
		if (s[i] >= 'a' && s[i] <= 'z')
			s[i] = (char)(s[i] - 'a' + 'A');
}

static int split_name(const char *p, const char *end, struct oci_reference *r)
{
	const char *slash = memchr(p, '/', (size_t)(end - p));
	const char *prefix = "";

	if (slash && starts_with_domain(p, slash)) {
		r->domain = strndup(p, (size_t)(slash - p));
		p = slash + 1;
		if (r->domain)
			normalise_domain(r->domain);
		if (r->domain && strcmp(r->domain, LEGACY_DOMAIN) == 0) {
			free(r->domain);
			r->domain = strdup(DEFAULT_DOMAIN);
		}
	} else {
		r->domain = strdup(DEFAULT_DOMAIN);
	}
	if (!r->domain)
		return -ENOMEM;
	if (strcmp(r->domain, DEFAULT_DOMAIN) == 0 && !memchr(p, '/', (size_t)(end - p)))
		prefix = LIBRARY;
	r->path = str_printf("%s%.*s", prefix, (int)(end - p), p);
	return r->path ? 0 : -ENOMEM;
}

static int check_name(const char *s, const struct oci_reference *r, struct err *e)
{
	const char *path_end = r->path + strlen(r->path);

	if (has_upper(r->path, path_end))
		return err_set(e, -EINVAL, "invalid image name \"%s\": the repository must be lower case", s);
	if (!domain_valid(r->domain, r->domain + strlen(r->domain)) || !path_valid(r->path, path_end))
		return err_set(e, -EINVAL, "invalid image name \"%s\"", s);
	if (strlen(r->domain) + 1 + strlen(r->path) > OCI_NAME_MAX)
		return err_set(e, -EINVAL, "invalid image name: longer than %d characters", OCI_NAME_MAX);
	if (strcmp(r->domain, DEFAULT_DOMAIN) == 0 && strncmp(r->path, LIBRARY, strlen(LIBRARY)) == 0) {
		const char *name = r->path + strlen(LIBRARY);
		if (strlen(name) == OCI_SHA256_HEX_LEN &&
			strspn(name, "0123456789abcdef") == OCI_SHA256_HEX_LEN)
			return err_set(e, -EINVAL, "invalid image name \"%s\": it is an image ID", s);
	}
	return 0;
}

static int parse(const char *s, struct oci_reference *r, struct err *e)
{
	/* Longest valid form: name, ':', tag, '@', digest. Bounding first keeps messages and copies small. */
	size_t len = strnlen(s, OCI_NAME_MAX + OCI_TAG_MAX + OCI_DIGEST_MAX + 2);
	if (len == OCI_NAME_MAX + OCI_TAG_MAX + OCI_DIGEST_MAX + 2)
		return err_set(e, -EINVAL, "invalid image name: too long");
	if (len == 0)
		return err_set(e, -EINVAL, "invalid image name: empty");

	const char *end = s + len;
	const char *at = memchr(s, '@', len);
	if (at) {
		if (!oci_digest_valid(at + 1))
			return err_set(e, -EINVAL, "invalid image name \"%s\": bad digest", s);
		r->digest = strdup(at + 1);
		if (!r->digest)
			return err_oom(e);
		end = at;
	}
	const char *colon = memrchr(s, ':', (size_t)(end - s));
	if (colon && !memchr(colon, '/', (size_t)(end - colon))) {
		r->tag = strndup(colon + 1, (size_t)(end - colon - 1));
		if (!r->tag)
			return err_oom(e);
		if (!oci_tag_valid(r->tag))
			return err_set(e, -EINVAL, "invalid image name \"%s\": bad tag", s);
		end = colon;
	} else if (!at) {
		r->tag = strdup("latest");
		if (!r->tag)
			return err_oom(e);
	}
	if (end - s > OCI_NAME_MAX)
		return err_set(e, -EINVAL, "invalid image name: longer than %d characters", OCI_NAME_MAX);
	if (split_name(s, end, r) < 0)
		return err_oom(e);
	return check_name(s, r, e);
}

/* What other tools, or a browser, put before a name. */
static int hint_at_scheme(const char *s, int r, struct err *e)
{
	static const char *const schemes[] = {"docker://", "https://", "http://", "oci://"};

	for (size_t i = 0; r == -EINVAL && i < ARRAY_LEN(schemes); i++)
		if (strncmp(s, schemes[i], strlen(schemes[i])) == 0)
			err_hint(e, "leave out %s", schemes[i]);
	return r;
}

int oci_reference_parse(const char *s, struct oci_reference *ret, struct err *e)
{
	struct oci_reference r = {0};
	int rc = hint_at_scheme(s, parse(s, &r, e), e);

	if (rc < 0) {
		oci_reference_done(&r);
		r = (struct oci_reference){0};
	}
	*ret = r;
	return rc;
}

void oci_reference_done(struct oci_reference *r)
{
	free(r->domain);
	free(r->path);
	free(r->tag);
	free(r->digest);
	*r = (struct oci_reference){0};
}

char *oci_reference_repo(const struct oci_reference *r)
{
	return str_printf("%s/%s", r->domain, r->path);
}

char *oci_reference_name(const struct oci_reference *r)
{
	if (r->digest)
		return str_printf("%s/%s@%s", r->domain, r->path, r->digest);
	return str_printf("%s/%s:%s", r->domain, r->path, r->tag);
}

char *oci_ref_familiar(const char *name)
{
	if (strncmp(name, DEFAULT_DOMAIN "/", strlen(DEFAULT_DOMAIN) + 1) != 0)
		return strdup(name);

	/* Each part goes only if what remains does not read as another name. */
	const char *path = name + strlen(DEFAULT_DOMAIN) + 1;
	if (strncmp(path, LIBRARY, strlen(LIBRARY)) == 0 && !strchr(path + strlen(LIBRARY), '/'))
		return strdup(path + strlen(LIBRARY));
	const char *slash = strchr(path, '/');
	return strdup(slash && starts_with_domain(path, slash) ? name : path);
}

char *oci_ref_normalise(const char *ref, struct err *e)
{
	CLEANUP(oci_reference_done) struct oci_reference r = {0};

	if (oci_reference_parse(ref, &r, e) < 0)
		return NULL;
	char *name = oci_reference_name(&r);
	if (!name)
		err_oom(e);
	return name;
}
