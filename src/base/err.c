/* SPDX-License-Identifier: MIT */
#include "base/err.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

int err_set(struct err *e, int code, const char *fmt, ...)
{
	if (!e)
		return code;
	va_list ap;
	va_start(ap, fmt);
	char msg[ERR_MSG_MAX]; /* an argument may be e->msg itself */
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	memcpy(e->msg, msg, sizeof(msg));
	e->code = code;
	e->hint[0] = '\0';
	return code;
}

int err_sys(struct err *e, int code, const char *fmt, ...)
{
	if (!e)
		return code;
	va_list ap;
	va_start(ap, fmt);
	char msg[ERR_MSG_MAX];
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	/* What does not fit is cut off the context: the reason must stay. */
	const char *why = strerror(-code);
	return err_set(
		e, code, "%.*s: %s", (int)(sizeof(msg) - 3 - MIN_OF(strlen(why), sizeof(msg) - 3)), msg, why);
}

int err_wrap(struct err *e, const char *fmt, ...)
{
	if (!e)
		return 0;
	va_list ap;
	va_start(ap, fmt);
	char context[ERR_MSG_MAX];
	vsnprintf(context, sizeof(context), fmt, ap);
	va_end(ap);
	char msg[ERR_MSG_MAX * 2 + 3];
	snprintf(msg, sizeof(msg), "%s: %s", context, e->msg);
	memcpy(e->msg, msg, sizeof(e->msg) - 1);
	e->msg[sizeof(e->msg) - 1] = '\0';
	return e->code;
}

int err_hint(struct err *e, const char *fmt, ...)
{
	if (!e)
		return -EINVAL; /* whoever returns this means a failure, though its code is lost here */
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(e->hint, sizeof(e->hint), fmt, ap);
	va_end(ap);
	return e->code;
}

int err_oom(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

size_t text_utf8_len(const uint8_t *s, size_t left, uint32_t *ret_cp)
{
	size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : s[0] >= 0x80 ? 2 : 1;
	uint32_t min = n == 1 ? 0 : n == 2 ? 0x80 : n == 3 ? 0x800 : 0x10000;
	uint32_t cp = n == 1 ? s[0] : s[0] & (0xffu >> (n + 1));

	if (left < n || (s[0] >= 0x80 && s[0] < 0xc2) || s[0] > 0xf4)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		cp = cp << 6 | (s[i] & 0x3f);
	}
	if (cp < min || cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff))
		return 0;
	if (ret_cp)
		*ret_cp = cp;
	return n;
}

/* Controls (C0, C1), bidirectional overrides and line separators change what a terminal shows. */
static bool is_tame(uint32_t cp)
{
	return cp >= 0x20 && !(cp >= 0x7f && cp < 0xa0) && !(cp >= 0x202a && cp <= 0x202e) &&
	       !(cp >= 0x2066 && cp <= 0x2069) && cp != 0x2028 && cp != 0x2029;
}

void text_escape(char *dst, size_t size, const char *src)
{
	const unsigned char *s = (const unsigned char *)src;
	size_t o = 0;

	while (*s) {
		uint32_t cp;
		size_t n = text_utf8_len(s, strnlen((const char *)s, 4), &cp);
		if (n && is_tame(cp)) {
			if (o + n + 1 > size)
				break;
			memcpy(dst + o, s, n);
			o += n;
			s += n;
		} else {
			if (o + 5 > size)
				break;
			static const char digits[] = "0123456789abcdef";
			dst[o++] = '\\';
			dst[o++] = 'x';
			dst[o++] = digits[*s >> 4];
			dst[o++] = digits[*s & 15];
			s++;
		}
	}
	if (size)
		dst[o] = '\0';
}

char *text_escape_dup(const char *src)
{
	size_t size = 4 * strlen(src) + 1;
	char *safe = malloc(size);

	if (safe)
		text_escape(safe, size, src);
	return safe;
}

void err_print(const char *prog, const struct err *e)
{
	char msg[ERR_MSG_MAX * 4], hint[sizeof(e->hint) * 4], line[sizeof(msg) + sizeof(hint) + 64];

	text_escape(msg, sizeof(msg), e->msg[0] ? e->msg : strerror(-e->code));
	text_escape(hint, sizeof(hint), e->hint);
	int n = e->hint[0] ? snprintf(line, sizeof(line), "%s: %s (%s)\n", prog, msg, hint)
			   : snprintf(line, sizeof(line), "%s: %s\n", prog, msg);
	if (n > 0 && write(STDERR_FILENO, line, MIN_OF((size_t)n, sizeof(line) - 1)) < 0)
		return; /* nobody left to tell */
}
