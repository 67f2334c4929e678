/* SPDX-License-Identifier: MIT */
#include "words.h"

#include <string.h>

#include "base/buf.h"

#define DEPTH_MAX 16 /* ${A:-${B:-…}} */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_name(char c, bool first)
{
	return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (!first && c >= '0' && c <= '9');
}

static int not_closed(struct err *e, char c)
{
	return err_set(e, -EINVAL, "the closing %c is missing", c);
}

/* The end of the word that begins at s; NULL if a quote is not closed, which *quote names. */
static const char *word_end(const char *s, char *quote)
{
	*quote = '\0';
	for (; *s; s++) {
		if (*s == '\\' && *quote != '\'' && s[1])
			s++;
		else if (*quote)
			*quote = *s == *quote ? '\0' : *quote;
		else if (*s == '\'' || *s == '"')
			*quote = *s;
		else if (is_blank(*s))
			break;
	}
	return *quote ? NULL : s;
}

int oci_words_split(const char *s, struct strv *ret, struct err *e)
{
	for (;;) {
		char quote;
		while (is_blank(*s))
			s++;
		if (!*s)
			return 0;
		const char *end = word_end(s, &quote);
		if (!end)
			return not_closed(e, quote);
		CLEANUP_FREE char *word = strndup(s, (size_t)(end - s));
		if (!word || strv_push(ret, word) < 0)
			return err_oom(e);
		s = end;
	}
}

struct expansion {
	const json_t *env;
	struct buf out;
	const char *s; /* what is left */
	unsigned depth;
};

static int put(struct expansion *x, const char *data, size_t n, struct err *e)
{
	if (n > OCI_WORD_MAX - x->out.len)
		return err_set(e, -E2BIG, "with its variables replaced it is longer than %u MiB",
			OCI_WORD_MAX >> 20);
	return buf_append(&x->out, data, n) < 0 ? err_oom(e) : 0;
}

static const char *value_of(const json_t *env, const char *name, size_t n)
{
	size_t i;
	json_t *item;

	json_array_foreach (env, i, item) {
		const char *s = json_string_value(item);
		if (s && strncmp(s, name, n) == 0 && s[n] == '=')
			return s + n + 1;
	}
	return NULL;
}

/* Up to end (a character, or NUL for everything), which is not consumed. quoted: within double quotes. */
static int expand_until(struct expansion *x, char end, bool quoted, struct err *e);

/* What stands behind the operator in braces, expanded but kept apart: *ret malloc'd. */
static int expand_operand(struct expansion *x, bool quoted, char **ret, struct err *e)
{
	struct expansion inner = {.env = x->env, .s = x->s, .depth = x->depth + 1};
	int r = inner.depth > DEPTH_MAX ? err_set(e, -EINVAL, "variables are nested too deep")
					: expand_until(&inner, '}', quoted, e);

	if (r == 0 && buf_append(&inner.out, "", 1) < 0)
		r = err_oom(e);
	if (r == 0)
		*ret = strdup((const char *)buf_data(&inner.out));
	buf_done(&inner.out);
	x->s = inner.s;
	return r < 0 ? r : *ret ? 0 : err_oom(e);
}

static int expand_braces(struct expansion *x, bool quoted, struct err *e)
{
	const char *name = x->s;
	CLEANUP_FREE char *operand = NULL;
	size_t n = 0;

	while (is_name(name[n], n == 0))
		n++;
	if (n == 0)
		return err_set(e, -EINVAL, "\"${\" without the name of a variable");
	x->s += n;
	const char *value = value_of(x->env, name, n);
	bool set = value && (*x->s != ':' || *value);
	if (*x->s == ':')
		x->s++;
	char op = *x->s;
	if (op && strchr("-+?", op)) {
		x->s++;
		int r = expand_operand(x, quoted, &operand, e);
		if (r < 0)
			return r;
	} else if (op != '}' || x->s[-1] == ':') {
		return op ? err_set(e, -EINVAL, "\"${%.*s%c\" is not supported", (int)n, name, op)
			  : not_closed(e, '}');
	}
	if (*x->s != '}')
		return not_closed(e, '}');
	x->s++;
	if (op == '?' && !set)
		return err_set(e, -EINVAL, "%.*s: %.200s", (int)n, name, *operand ? operand : "not set");
	if (op == '-' && !set)
		value = operand;
	else if (op == '+')
		value = set ? operand : NULL;
	return value ? put(x, value, strlen(value), e) : 0;
}

static int expand_dollar(struct expansion *x, bool quoted, struct err *e)
{
	const char *name = x->s;
	size_t n = 0;

	if (*name == '{') {
		x->s++;
		return expand_braces(x, quoted, e);
	}
	while (is_name(name[n], n == 0))
		n++;
	if (n == 0)
		return put(x, "$", 1, e);
	x->s += n;
	const char *value = value_of(x->env, name, n);
	return value ? put(x, value, strlen(value), e) : 0;
}

/* Behind the opening quote; consumes the closing one. */
static int expand_quotes(struct expansion *x, char quote, struct err *e)
{
	int r;

	if (quote == '"') {
		r = expand_until(x, '"', true, e);
	} else {
		size_t n = strcspn(x->s, "'");
		r = put(x, x->s, n, e);
		x->s += n;
	}
	if (r < 0)
		return r;
	if (*x->s != quote)
		return not_closed(e, quote);
	x->s++;
	return 0;
}

/* Behind a backslash: within double quotes it stays, unless it is needed there. */
static int expand_escape(struct expansion *x, bool quoted, struct err *e)
{
	int r = 0;

	if (!*x->s || (quoted && !strchr("\"$\\", *x->s)))
		r = put(x, "\\", 1, e);
	if (r == 0 && *x->s)
		r = put(x, x->s++, 1, e);
	return r;
}

static int expand_until(struct expansion *x, char end, bool quoted, struct err *e)
{
	int r = 0;

	while (r == 0 && *x->s && *x->s != end) {
		char c = *x->s++;
		if (c == '\\')
			r = expand_escape(x, quoted, e);
		else if (c == '$')
			r = expand_dollar(x, quoted, e);
		else if (!quoted && (c == '\'' || c == '"'))
			r = expand_quotes(x, c, e);
		else
			r = put(x, &c, 1, e);
	}
	return r;
}

int oci_word_expand(const char *s, const json_t *env, char **ret, struct err *e)
{
	struct expansion x = {.env = env, .s = s};
	int r = expand_until(&x, '\0', false, e);

	if (r == 0 && buf_append(&x.out, "", 1) < 0)
		r = err_oom(e);
	if (r == 0) {
		*ret = strdup((const char *)buf_data(&x.out));
		r = *ret ? 0 : err_oom(e);
	}
	buf_done(&x.out);
	return r;
}
