/* SPDX-License-Identifier: MIT */
#include "registry/auth.h"

#include <string.h>
#include <strings.h>

static bool is_token_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

static const char *skip_space(const char *p)
{
	return p + strspn(p, " \t");
}

static const char *skip_token(const char *p)
{
	while (is_token_char(*p))
		p++;
	return p;
}

/* The value of a parameter, quoted or not, at *p. malloc'd; NULL with *p unmoved if malformed. */
static char *take_value(const char **p)
{
	const char *s = *p;

	if (*s != '"') {
		const char *end = skip_token(s);
		if (end == s)
			return NULL;
		*p = end;
		return strndup(s, (size_t)(end - s));
	}
	char *v = malloc(strlen(s)), *out = v;
	if (!v)
		return NULL;
	for (s++; *s && *s != '"'; s++) {
		if (*s == '\\' && s[1])
			s++;
		/* The values become parts of URLs and messages: no control characters. */
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			break;
		*out++ = *s;
	}
	*out = '\0';
	if (*s != '"') {
		free(v);
		return NULL;
	}
	*p = s + 1;
	return v;
}

static int keep_param(struct oci_challenge *c, const char *name, size_t n, char *value)
{
	char **where = NULL;

	if (n == 5 && strncasecmp(name, "realm", n) == 0)
		where = &c->realm;
	else if (n == 7 && strncasecmp(name, "service", n) == 0)
		where = &c->service;
	else if (n == 5 && strncasecmp(name, "scope", n) == 0)
		where = &c->scope;
	if (!where || *where) {
		free(value);
		return 0;
	}
	*where = value;
	return 0;
}

/* auth-param list after a scheme. *p is left at the next scheme or the end. */
static int parse_params(const char **pp, struct oci_challenge *c, bool bearer)
{
	const char *p = *pp;

	for (;;) {
		p += strspn(p, " \t,");
		const char *end = skip_token(p), *eq = skip_space(end);
		if (end == p || *eq != '=')
			break; /* the next scheme, the end, or rubbish */
		const char *v = skip_space(eq + 1);
		char *value = take_value(&v);
		if (!value)
			return -EBADMSG;
		if (bearer)
			keep_param(c, p, (size_t)(end - p), value);
		else
			free(value);
		p = v;
	}
	*pp = p;
	return 0;
}

int oci_challenge_parse(const char *value, struct oci_challenge *c)
{
	const char *p = value;

	if (strnlen(value, OCI_AUTH_HEADER_MAX) == OCI_AUTH_HEADER_MAX)
		return -EBADMSG;
	for (;;) {
		p += strspn(p, " \t,");
		if (!*p)
			return 0;
		const char *end = skip_token(p);
		if (end == p)
			return -EBADMSG;
		bool bearer = end - p == 6 && strncasecmp(p, "Bearer", 6) == 0;
		if (end - p == 5 && strncasecmp(p, "Basic", 5) == 0)
			c->basic = true;
		c->bearer |= bearer;
		p = end;
		/* A token68 value ("Negotiate YII=") is of schemes we do not speak: pass over it. */
		const char *t = skip_space(p), *t_end = t + strspn(t, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijkl"
								      "mnopqrstuvwxyz0123456789-._~+/");
		t_end += strspn(t_end, "=");
		if (t_end > t && (t_end[-1] == '=' || !*skip_space(t_end) || *skip_space(t_end) == ',') &&
			*skip_space(t_end) != '"' && !is_token_char(*skip_space(t_end)))
			p = t_end;
		int r = parse_params(&p, c, bearer);
		if (r < 0)
			return r;
	}
}

void oci_challenge_done(struct oci_challenge *c)
{
	free(c->realm);
	free(c->service);
	free(c->scope);
	*c = (struct oci_challenge){0};
}
