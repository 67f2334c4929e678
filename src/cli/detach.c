/* SPDX-License-Identifier: MIT */
#include "detach.h"

#include <string.h>

/* One key at s[0..len). Its byte, or -1. */
static int parse_key(const char *s, size_t len)
{
	if (len == 1)
		return (uint8_t)s[0];
	if (len != 6 || memcmp(s, "ctrl-", 5) != 0)
		return -1;
	char c = s[5];
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 1;
	/* ASCII's control characters are the columns of @ and the letters with the upper bits off. */
	return c == '@' || (c >= '[' && c <= '_') ? c & 31 : -1;
}

int detach_parse(const char *s, struct detach *ret, struct err *e)
{
	struct detach d = {0};
	const char *all = s ? s : DETACH_KEYS_DEFAULT;

	for (const char *p = all, *end; *all; p = end + 1) {
		end = strchrnul(p, ',');
		int key = parse_key(p, (size_t)(end - p));
		if (key < 0)
			return err_set(e, -EINVAL,
				"--detach-keys \"%s\": expected characters or ctrl-X (X: a-z @ [ \\ ] ^ _), "
				"separated by commas",
				all);
		if (d.n == DETACH_KEYS_MAX)
			return err_set(
				e, -EINVAL, "--detach-keys \"%s\": at most %d keys", all, DETACH_KEYS_MAX);
		d.keys[d.n++] = (uint8_t)key;
		if (!*end)
			break;
	}
	if (ret)
		*ret = d;
	return 0;
}

/* How many of the bytes keys[0..held) and key can, as their last ones, begin the sequence. */
static size_t longest_begin(const struct detach *d, uint8_t key)
{
	for (size_t len = d->held + 1; len > 0; len--) {
		if (d->keys[len - 1] == key && memcmp(d->keys, d->keys + d->held + 1 - len, len - 1) == 0)
			return len;
	}
	return 0;
}

size_t detach_filter(struct detach *d, const uint8_t *in, size_t n, uint8_t *out, bool *ret_detached)
{
	size_t written = 0;

	*ret_detached = false;
	if (d->n == 0) {
		memcpy(out, in, n);
		return n;
	}
	for (size_t i = 0; i < n; i++) {
		size_t begin = longest_begin(d, in[i]), passed = d->held + 1 - begin;
		/* The first of those held, and the key itself when it begins nothing. */
		memcpy(out + written, d->keys, MIN_OF(passed, d->held));
		written += MIN_OF(passed, d->held);
		if (begin == 0)
			out[written++] = in[i];
		d->held = begin;
		if (begin == d->n) {
			d->held = 0;
			*ret_detached = true;
			break;
		}
	}
	return written;
}

size_t detach_release(struct detach *d, uint8_t *out)
{
	size_t n = d->held;

	memcpy(out, d->keys, n);
	d->held = 0;
	return n;
}
