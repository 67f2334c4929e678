/* SPDX-License-Identifier: MIT */
#include "sign/doc.h"

#include <string.h>
#include <time.h>

#include "base/b64.h"
#include "sign/sign.h"

void bytes_done(struct bytes *b)
{
	free(b->p);
	*b = (struct bytes){0};
}

bool bytes_equal(const struct bytes *a, const struct bytes *b)
{
	return a->n == b->n && a->p && b->p && memcmp(a->p, b->p, a->n) == 0;
}

int doc_parse(const char *what, const void *data, size_t n, json_t **ret, struct err *e)
{
	json_error_t je;

	if (n > SIGN_DOCUMENT_MAX)
		return err_set(e, -EBADMSG, "%s is larger than %u KiB", what, SIGN_DOCUMENT_MAX >> 10);
	json_t *j = json_loadb(data, n, JSON_REJECT_DUPLICATES, &je);
	if (!j)
		return err_set(e, -EBADMSG, "%s is not valid JSON: %s", what, je.text);
	if (!json_is_object(j)) {
		json_decref(j);
		return err_set(e, -EBADMSG, "%s is not a JSON object", what);
	}
	*ret = j;
	return 0;
}

int doc_members(const char *what, const json_t *o, const char *const *names, struct err *e)
{
	const char *key;
	json_t *v;

	if (!json_is_object(o))
		return err_set(e, -EBADMSG, "%s is not a JSON object", what);
	json_object_foreach ((json_t *)o, key, v) {
		size_t i = 0;
		while (names[i] && strcmp(names[i], key) != 0)
			i++;
		if (!names[i])
			return err_set(e, -EBADMSG, "%s has an unknown member \"%s\"", what, key);
	}
	return 0;
}

int doc_str(const char *what, const json_t *o, const char *key, const char **ret, struct err *e)
{
	const char *s = json_string_value(json_object_get(o, key));

	if (!s)
		return err_set(e, -EBADMSG, "%s has no text \"%s\"", what, key);
	*ret = s;
	return 0;
}

int doc_object(const char *what, const json_t *o, const char *key, const json_t **ret, struct err *e)
{
	const json_t *v = json_object_get(o, key);

	if (!json_is_object(v))
		return err_set(e, -EBADMSG, "%s has no object \"%s\"", what, key);
	*ret = v;
	return 0;
}

int doc_array(
	const char *what, const json_t *o, const char *key, size_t max, const json_t **ret, struct err *e)
{
	const json_t *v = json_object_get(o, key);

	if (!json_is_array(v))
		return err_set(e, -EBADMSG, "%s has no list \"%s\"", what, key);
	if (json_array_size(v) > max)
		return err_set(e, -EBADMSG, "%s has more than %zu entries in \"%s\"", what, max, key);
	*ret = v;
	return 0;
}

static bool digits(const char *s, int64_t *ret)
{
	int64_t n = 0;

	if (!*s || (*s == '0' && s[1]))
		return false;
	for (; *s; s++)
		if (*s < '0' || *s > '9' || __builtin_mul_overflow(n, 10, &n) ||
			__builtin_add_overflow(n, *s - '0', &n))
			return false;
	*ret = n;
	return true;
}

int doc_int64(const char *what, const json_t *o, const char *key, int64_t *ret, struct err *e)
{
	const json_t *v = json_object_get(o, key);

	*ret = 0;
	if (!v)
		return 0;
	if (json_is_integer(v))
		*ret = json_integer_value(v);
	else if (!json_is_string(v) || !digits(json_string_value(v), ret))
		*ret = -1;
	if (*ret < 0)
		return err_set(e, -EBADMSG, "%s has an invalid number \"%s\"", what, key);
	return 0;
}

int b64_bytes(const char *s, size_t n, struct bytes *ret)
{
	uint8_t *p = malloc(n / 4 * 3 + 1);

	if (!p)
		return -ENOMEM;
	ssize_t len = b64_decode(p, s, n);
	if (len < 0)
		goto bad;
	/* The bits behind the last byte are the only ones that another text could have. */
	if (len % 3) {
		char again[8];
		size_t tail = (size_t)len % 3;
		b64_encode(again, p + len - tail, tail);
		if (memcmp(again, s + n - 4, 4) != 0)
			goto bad;
	}
	p[len] = '\0';
	*ret = (struct bytes){.p = p, .n = (size_t)len};
	return 0;
bad:
	free(p);
	return -EBADMSG;
}

int doc_bytes(const char *what, const json_t *o, const char *key, struct bytes *ret, struct err *e)
{
	const char *s;
	int r = doc_str(what, o, key, &s, e);

	if (r < 0)
		return r;
	r = b64_bytes(s, strlen(s), ret);
	if (r == -ENOMEM)
		return err_oom(e);
	if (r == 0 && ret->n == 0) {
		bytes_done(ret);
		r = -EBADMSG;
	}
	return r < 0 ? err_set(e, r, "%s has an invalid \"%s\": not base64", what, key) : 0;
}

int doc_equal(const char *what, const json_t *o, const char *key, const char *want, struct err *e)
{
	const char *s;
	int r = doc_str(what, o, key, &s, e);

	if (r == 0 && strcmp(s, want) != 0)
		r = err_set(e, -EBADMSG, "%s has the %s \"%.100s\", not \"%s\"", what, key, s, want);
	return r;
}

int doc_time(const char *s, int64_t *ret)
{
	struct tm tm = {0};

	if (strspn(s, "0123456789") != 4)
		return -EBADMSG;
	const char *p = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);
	if (!p)
		return -EBADMSG;
	if (*p == '.') {
		size_t n = strspn(p + 1, "0123456789");
		if (n == 0)
			return -EBADMSG;
		p += 1 + n;
	}
	int64_t zone = 0;
	if (*p == '+' || *p == '-') {
		struct tm offset = {0};
		const char *end = strlen(p) == 6 && p[3] == ':' ? strptime(p + 1, "%H:%M", &offset) : NULL;
		if (!end || *end)
			return -EBADMSG;
		zone = (*p == '-' ? -1 : 1) * (offset.tm_hour * 3600 + offset.tm_min * 60);
	} else if (strcmp(p, "Z") != 0) {
		return -EBADMSG;
	}
	*ret = (int64_t)timegm(&tm) - zone;
	return 0;
}

/* ---- PEM (RFC 7468) ---- */

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* The line at p without its end; *next behind it. */
static size_t line_len(const char *p, const char *end, const char **next)
{
	const char *nl = memchr(p, '\n', (size_t)(end - p));
	const char *stop = nl ? nl : end;

	*next = nl ? nl + 1 : end;
	while (stop > p && is_space(stop[-1]))
		stop--;
	return (size_t)(stop - p);
}

static bool label_of(const char *p, size_t n, const char *prefix, char label[PEM_LABEL_MAX])
{
	size_t k = strlen(prefix);

	if (n < k + 6 || n - k - 5 >= PEM_LABEL_MAX || memcmp(p, prefix, k) != 0 ||
		memcmp(p + n - 5, "-----", 5) != 0)
		return false;
	memcpy(label, p + k, n - k - 5);
	label[n - k - 5] = '\0';
	for (const char *s = label; *s; s++)
		if (!(*s >= 'A' && *s <= 'Z') && !(*s >= '0' && *s <= '9') && *s != ' ')
			return false;
	return true;
}

static int pem_body(const char **p, const char *end, const char *label, struct bytes *ret)
{
	char last[PEM_LABEL_MAX];
	size_t len = 0;
	char *text = malloc((size_t)(end - *p) + 1);

	if (!text)
		return -ENOMEM;
	int r = -EBADMSG;
	while (*p < end) {
		const char *line = *p;
		size_t n = line_len(line, end, p);
		if (n && *line == '-') {
			if (label_of(line, n, "-----END ", last) && strcmp(label, last) == 0 && len)
				r = b64_bytes(text, len, ret);
			break;
		}
		memcpy(text + len, line, n);
		len += n;
	}
	free(text);
	return r;
}

int pem_next(const char **p, const char *end, bool with_text, char label[PEM_LABEL_MAX], struct bytes *ret)
{
	while (*p < end) {
		const char *line = *p;
		size_t n = line_len(line, end, p);
		if (label_of(line, n, "-----BEGIN ", label))
			return pem_body(p, end, label, ret);
		if (n && (!with_text || *line == '-'))
			return -EBADMSG;
	}
	return -ENOENT;
}
