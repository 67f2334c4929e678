/* SPDX-License-Identifier: MIT */
/* printf of templates: Go's fmt (https://pkg.go.dev/fmt) for JSON's types, its error texts included. */
#include <string.h>

#include "template-tree.h"

enum { WIDTH_MAX = 1000 };

struct spec {
	bool minus, plus, sharp, space, zero;
	int width, prec; /* -1: not given */
	char verb;
};

int value_put_real(struct buf *out, double d)
{
	char s[64], *e;
	int prec = 0;

	/* The shortest that reads back; exponents as Go's %v prints them. */
	do {
		snprintf(s, sizeof(s), "%.*e", prec, d);
	} while (strtod(s, NULL) != d && ++prec < 17);
	e = strchr(s, 'e');
	int exponent = e ? (int)strtol(e + 1, NULL, 10) : 0;
	if (exponent >= -4 && exponent < 21)
		snprintf(s, sizeof(s), "%.*f", MAX_OF(prec - exponent, 0), d);
	return value_append(out, s, strlen(s));
}

static int put_padded(struct buf *out, const struct spec *f, const char *s, size_t n)
{
	size_t chars = 0, sign = f->zero && !f->minus && n && strchr("+- ", s[0]) ? 1 : 0;
	int r = 0;

	for (size_t i = 0; i < n; i++)
		chars += ((unsigned char)s[i] & 0xc0) != 0x80;
	size_t pad = f->width > 0 && (size_t)f->width > chars ? (size_t)f->width - chars : 0;
	if (f->minus || !f->zero)
		sign = 0;
	if (sign)
		r = value_append(out, s, 1); /* zeros go behind the sign */
	for (size_t i = 0; r == 0 && !f->minus && i < pad; i++)
		r = value_append(out, f->zero ? "0" : " ", 1);
	if (r == 0)
		r = value_append(out, s + sign, n - sign);
	for (size_t i = 0; r == 0 && f->minus && i < pad; i++)
		r = value_append(out, " ", 1);
	return r;
}

static int put_integer(struct buf *out, const struct spec *f, json_int_t v)
{
	uint64_t u = v < 0 ? -(uint64_t)v : (uint64_t)v;
	unsigned base = f->verb == 'x' || f->verb == 'X' ? 16 : f->verb == 'o' ? 8 : f->verb == 'b' ? 2 : 10;
	const char *digits = f->verb == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
	char s[80], *p = s + sizeof(s);
	const char *end = p;

	do {
		*--p = digits[u % base];
		u /= base;
	} while (u);
	while (f->prec > (int)(end - p) && p > s + 4)
		*--p = '0';
	if (f->sharp && base == 16) {
		*--p = f->verb;
		*--p = '0';
	} else if (f->sharp && base == 8) {
		*--p = '0';
	}
	if (v < 0 || f->plus || f->space)
		*--p = v < 0 ? '-' : f->plus ? '+' : ' ';
	return put_padded(out, f, p, (size_t)(end - p));
}

static int put_real(struct buf *out, const struct spec *f, double d)
{
	char s[512];
	const char *sign = f->plus ? "+" : f->space ? " " : "";
	int prec = f->prec >= 0 ? MIN_OF(f->prec, 100) : 6;

	if (d < 0)
		sign = "";
	switch (f->verb) {
	case 'e':
		snprintf(s, sizeof(s), "%s%.*e", sign, prec, d);
		break;
	case 'E':
		snprintf(s, sizeof(s), "%s%.*E", sign, prec, d);
		break;
	case 'G':
		snprintf(s, sizeof(s), "%s%.*G", sign, f->prec >= 0 ? prec : 17, d);
		break;
	case 'g':
		snprintf(s, sizeof(s), "%s%.*g", sign, f->prec >= 0 ? prec : 17, d);
		break;
	default:
		snprintf(s, sizeof(s), "%s%.*f", sign, prec, d);
		break;
	}
	if (f->prec < 0 && strchr("gG", f->verb)) {
		CLEANUP(buf_done) struct buf b = {0};
		int r = value_append(&b, sign, strlen(sign));
		if (r == 0)
			r = value_put_real(&b, d);
		return r < 0 ? r : put_padded(out, f, (const char *)buf_data(&b), b.len);
	}
	return put_padded(out, f, s, strlen(s));
}

static int put_quoted(struct buf *out, const struct spec *f, const json_t *v)
{
	/* JSON's quoting is Go's but for how control characters are written. */
	CLEANUP_FREE char *s = json_dumps(v, JSON_ENCODE_ANY);
	return s ? put_padded(out, f, s, strlen(s)) : -ENOMEM;
}

static int put_hex_text(struct buf *out, const struct spec *f, const json_t *v)
{
	CLEANUP(buf_done) struct buf b = {0};
	const char *s = json_string_value(v);
	int r = 0;

	for (size_t i = 0; r == 0 && i < json_string_length(v); i++) {
		char hex[3];
		snprintf(hex, sizeof(hex), f->verb == 'X' ? "%02X" : "%02x", (unsigned char)s[i]);
		r = value_append(&b, hex, 2);
	}
	return r < 0 ? r : put_padded(out, f, b.len ? (const char *)buf_data(&b) : "", b.len);
}

/* Any value as %v or %s. A precision cuts strings, in characters. */
static int put_plain(struct buf *out, const struct spec *f, const json_t *v)
{
	CLEANUP(buf_done) struct buf b = {0};
	int r = value_put(&b, v, false);

	if (r < 0)
		return r;
	const char *s = b.len ? (const char *)buf_data(&b) : "";
	size_t n = b.len;
	if (f->prec >= 0 && json_is_string(v)) {
		size_t chars = 0;
		for (n = 0; n < b.len; n++) {
			if (((unsigned char)s[n] & 0xc0) != 0x80 && chars++ == (size_t)f->prec)
				break;
		}
	}
	return put_padded(out, f, s, n);
}

static const char *go_type(const json_t *v)
{
	return json_is_string(v)    ? "string"
	       : json_is_integer(v) ? "int"
	       : json_is_real(v)    ? "float64"
	       : json_is_boolean(v) ? "bool"
	       : json_is_array(v)   ? "[]interface {}"
	       : json_is_object(v)  ? "map[string]interface {}"
				    : "<nil>";
}

/* %!d(string=hi) */
static int put_wrong(struct buf *out, char verb, const json_t *v)
{
	char head[64];

	snprintf(head, sizeof(head), "%%!%c(%s%s", verb, go_type(v), json_is_null(v) ? "" : "=");
	int r = value_append(out, head, strlen(head));
	if (r == 0 && !json_is_null(v))
		r = value_put(out, v, false);
	return r < 0 ? r : value_append(out, ")", 1);
}

static int put_verb(struct buf *out, const struct spec *f, const json_t *v)
{
	char c[4];

	switch (f->verb) {
	case 'v':
	case 's':
		/* Go's %s minds that a number is no string; %v takes all. */
		if (f->verb == 's' && (json_is_number(v) || json_is_boolean(v) || json_is_null(v)))
			break;
		if (json_is_integer(v))
			return put_integer(out,
				&(struct spec){
					f->minus, f->plus, false, f->space, f->zero, f->width, f->prec, 'd'},
				json_integer_value(v));
		return put_plain(out, f, v);
	case 'q':
		if (!json_is_string(v))
			break;
		return put_quoted(out, f, v);
	case 't':
		if (!json_is_boolean(v))
			break;
		return put_plain(out, f, v);
	case 'x':
	case 'X':
		if (json_is_string(v))
			return put_hex_text(out, f, v);
		__attribute__((fallthrough));
	case 'd':
	case 'o':
	case 'b':
		if (!json_is_integer(v))
			break;
		return put_integer(out, f, json_integer_value(v));
	case 'c':
		if (!json_is_integer(v) || json_integer_value(v) <= 0 || json_integer_value(v) > 0x10ffff ||
			(json_integer_value(v) & ~0x7ff) == 0xd800)
			break;
		return put_padded(out, f, c, utf8_encode(c, (uint32_t)json_integer_value(v)));
	case 'e':
	case 'E':
	case 'f':
	case 'F':
	case 'g':
	case 'G':
		if (!json_is_real(v))
			break;
		return put_real(out, f, json_real_value(v));
	default:
		break;
	}
	return put_wrong(out, f->verb, v);
}

/* A number up to WIDTH_MAX, or "*" which takes it from an argument. */
static int parse_width(const char **s, json_t *const *args, size_t n, size_t *next, int *ret)
{
	int v = 0;

	if (**s == '*') {
		++*s;
		if (*next >= n || !json_is_integer(args[*next]))
			return -EINVAL;
		json_int_t i = json_integer_value(args[(*next)++]);
		if (i < 0 || i > WIDTH_MAX)
			return -EINVAL;
		v = (int)i;
	}
	for (; **s >= '0' && **s <= '9'; ++*s) {
		v = v * 10 + (**s - '0');
		if (v > WIDTH_MAX)
			return -EINVAL;
	}
	*ret = v;
	return 0;
}

/* Behind "%", up to and with the verb. */
static int parse_spec(const char **s, json_t *const *args, size_t n, size_t *next, struct spec *f)
{
	int r = 0;

	*f = (struct spec){.width = -1, .prec = -1};
	for (; **s && strchr("-+# 0", **s); ++*s) {
		f->minus |= **s == '-';
		f->plus |= **s == '+';
		f->sharp |= **s == '#';
		f->space |= **s == ' ';
		f->zero |= **s == '0';
	}
	if (**s == '*' || (**s >= '1' && **s <= '9'))
		r = parse_width(s, args, n, next, &f->width);
	if (r == 0 && **s == '.') {
		++*s;
		r = parse_width(s, args, n, next, &f->prec);
	}
	f->verb = **s;
	*s += **s != '\0';
	return r;
}

json_t *func_printf(struct exec *x, json_t *const *args, size_t n)
{
	struct buf b = {0};
	size_t next = 1;
	int r = 0;

	if (!json_is_string(args[0]))
		return func_error(
			x, -EINVAL, "template: printf: a format expected, not %s", value_kind(args[0]));
	for (const char *s = json_string_value(args[0]); r == 0 && *s;) {
		struct spec f;
		size_t plain = strcspn(s, "%");
		r = value_append(&b, s, plain);
		s += plain;
		if (r < 0 || !*s)
			break;
		s++;
		if (parse_spec(&s, args, n, &next, &f) < 0) {
			buf_done(&b);
			return func_error(
				x, -EINVAL, "template: printf: widths are numbers up to %d", WIDTH_MAX);
		}
		char missing[32];
		snprintf(missing, sizeof(missing), "%%!%c(MISSING)", f.verb);
		if (!f.verb)
			r = value_append(&b, "%!(NOVERB)", 10);
		else if (f.verb == '%')
			r = value_append(&b, "%", 1);
		else if (next >= n)
			r = value_append(&b, missing, strlen(missing));
		else
			r = put_verb(&b, &f, args[next++]);
	}
	if (r == 0 && next < n) {
		r = value_append(&b, "%!(EXTRA ", 9);
		for (size_t i = next; r == 0 && i < n; i++) {
			r = i > next ? value_append(&b, ", ", 2) : 0;
			if (r == 0)
				r = value_append(&b, go_type(args[i]), strlen(go_type(args[i])));
			if (r == 0)
				r = value_append(&b, "=", 1);
			if (r == 0)
				r = value_put(&b, args[i], false);
		}
		if (r == 0)
			r = value_append(&b, ")", 1);
	}
	return value_take(x, &b, r);
}
