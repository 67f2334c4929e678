/* SPDX-License-Identifier: MIT */
/*
 * Understanding an entry of a log file.
 *
 * THEORY OF OPERATION
 *
 * A log has hundreds of thousands of entries, each of which a general reader of JSON would make into a tree of allocations and
 * hash tables. They all have the same form: an object of strings, but for "attrs", which is an object of strings itself. So
 * they are read by hand, in one pass over the line and into one piece of memory: a string is never longer than it stands in
 * the file. Members may come in any order. What is JSON but has another form was written neither by us nor by Docker.
 */
#include <string.h>

#include "base/b64.h"
#include "base/units.h"
#include "log.h"

struct text {
	char *s; /* NULL: not there; not terminated */
	size_t len;
};

/* The line from p on, and where the next string goes. */
struct scan {
	const char *p, *end;
	char *o;
};

struct fields {
	struct text log, b64, stream, time;
	bool attrs; /* seen */
};

static bool is(const struct text *t, const char *s)
{
	return t->len == strlen(s) && memcmp(t->s, s, t->len) == 0;
}

/* ---- strings (RFC 8259, section 7) ---- */

/* Whether this byte comes next, behind white space; then it is taken. */
static bool take(struct scan *s, char c)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\r'))
		s->p++;
	if (s->p == s->end || *s->p != c)
		return false;
	s->p++;
	return true;
}

static int32_t take_hex4(struct scan *s)
{
	int32_t v = 0;

	if (s->end - s->p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		char c = *s->p++, low = (char)(c | 32);
		if (c >= '0' && c <= '9')
			v = v * 16 + (c - '0');
		else if (low >= 'a' && low <= 'f')
			v = v * 16 + (low - 'a' + 10);
		else
			return -1;
	}
	return v;
}

/* Behind "\u": the code point; two surrogates are one. -1: there is none. */
static int32_t take_code_point(struct scan *s)
{
	int32_t high = take_hex4(s);

	if (high < 0xd800 || high > 0xdfff)
		return high;
	if (high > 0xdbff || s->end - s->p < 2 || s->p[0] != '\\' || s->p[1] != 'u')
		return -1;
	s->p += 2;
	int32_t low = take_hex4(s);
	return low < 0xdc00 || low > 0xdfff ? -1 : 0x10000 + ((high - 0xd800) * 0x400 | (low - 0xdc00));
}

static char *put_utf8(char *o, uint32_t cp)
{
	if (cp < 0x80) {
		*o++ = (char)cp;
		return o;
	}
	if (cp < 0x800) {
		*o++ = (char)(0xc0 | cp >> 6);
	} else {
		if (cp < 0x10000) {
			*o++ = (char)(0xe0 | cp >> 12);
		} else {
			*o++ = (char)(0xf0 | cp >> 18);
			*o++ = (char)(0x80 | (cp >> 12 & 0x3f));
		}
		*o++ = (char)(0x80 | (cp >> 6 & 0x3f));
	}
	*o++ = (char)(0x80 | (cp & 0x3f));
	return o;
}

/* Takes what does not stand for itself as one byte: a longer character, or what a backslash begins. */
static bool take_special(struct scan *s)
{
	static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
	size_t left = (size_t)(s->end - s->p);

	if ((uint8_t)*s->p >= 0x80) {
		size_t n = text_utf8_len((const uint8_t *)s->p, left, NULL);
		memcpy(s->o, s->p, n);
		s->o += n;
		s->p += n;
		return n > 0;
	}
	if (*s->p != '\\' || left < 2)
		return false;
	char c = s->p[1];
	s->p += 2;
	if (c == 'u') {
		int32_t cp = take_code_point(s);
		if (cp >= 0)
			s->o = put_utf8(s->o, (uint32_t)cp);
		return cp >= 0;
	}
	const char *at = memchr(names, c, sizeof(names) - 1);
	if (at)
		*s->o++ = values[at - names];
	return at != NULL;
}

static bool is_plain(char c)
{
	return (uint8_t)c >= 0x20 && (uint8_t)c < 0x80 && c != '"' && c != '\\';
}

static bool take_text(struct scan *s, struct text *ret)
{
	char *start = s->o;

	if (!take(s, '"'))
		return false;
	for (;;) {
		while (s->p < s->end && is_plain(*s->p))
			*s->o++ = *s->p++;
		if (s->p == s->end)
			return false;
		if (*s->p == '"')
			break;
		if (!take_special(s))
			return false;
	}
	s->p++;
	*ret = (struct text){start, (size_t)(s->o - start)};
	return true;
}

/* ---- objects ---- */

/* url.QueryEscape of Go, as Docker shows attributes. */
static int put_escaped(struct buf *out, const struct text *t)
{
	static const char digits[] = "0123456789ABCDEF";
	int r = 0;

	for (size_t i = 0; i < t->len && r == 0; i++) {
		uint8_t c = (uint8_t)t->s[i];
		char hex[3] = {'%', digits[c >> 4], digits[c & 15]};
		bool plain = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') ||
			     (c && strchr("-_.~", c));
		if (plain)
			r = buf_append(out, &c, 1);
		else if (c == ' ')
			r = buf_append(out, "+", 1);
		else
			r = buf_append(out, hex, sizeof(hex));
	}
	return r;
}

static int put_detail(struct buf *out, const struct text *name, const struct text *value)
{
	int r = out->len ? buf_append(out, ",", 1) : 0;

	if (r == 0)
		r = put_escaped(out, name);
	if (r == 0)
		r = buf_append(out, "=", 1);
	return r == 0 ? put_escaped(out, value) : r;
}

/* details: gets "name=value,name=value"; or NULL. */
static bool take_attrs(struct scan *s, struct buf *details)
{
	struct text name, value;

	if (!take(s, '{'))
		return false;
	if (take(s, '}'))
		return true;
	do {
		if (!take_text(s, &name) || !take(s, ':') || !take_text(s, &value))
			return false;
		if (details && put_detail(details, &name, &value) < 0)
			return false;
	} while (take(s, ','));
	return take(s, '}');
}

static struct text *field_of(struct fields *f, const struct text *name)
{
	return is(name, "log")	    ? &f->log
	       : is(name, "stream") ? &f->stream
	       : is(name, "time")   ? &f->time
	       : is(name, "b64")    ? &f->b64
				    : NULL;
}

static bool take_entry(struct scan *s, struct fields *f, struct buf *details)
{
	struct text name;

	if (!take(s, '{'))
		return false;
	do {
		if (!take_text(s, &name) || !take(s, ':'))
			return false;
		if (is(&name, "attrs")) {
			if (f->attrs || !take_attrs(s, details))
				return false;
			f->attrs = true;
			continue;
		}
		struct text *value = field_of(f, &name);
		if (!value || value->s || !take_text(s, value))
			return false;
	} while (take(s, ','));
	return take(s, '}') && s->p == s->end;
}

/* ---- entries ---- */

static bool fill(struct log_entry *en, const struct fields *f)
{
	if ((f->log.s != NULL) == (f->b64.s != NULL) || !f->stream.s || !f->time.s ||
		f->time.len >= sizeof(en->time) || memchr(f->time.s, '\0', f->time.len))
		return false;
	memcpy(en->time, f->time.s, f->time.len);
	if (parse_time_ns(en->time, 0, &en->time_ns) < 0)
		return false;
	en->data = f->log.s;
	en->len = f->log.len;
	if (f->b64.s) { /* in its place: what is decoded is shorter */
		ssize_t n = b64_decode(f->b64.s, f->b64.s, f->b64.len);
		if (n < 0)
			return false;
		en->data = f->b64.s;
		en->len = (size_t)n;
	}
	en->stream = is(&f->stream, "stderr");
	en->whole = en->len != LOG_LINE_MAX || en->data[en->len - 1] == '\n';
	return true;
}

bool log_entry_parse(const char *line, size_t len, bool details, struct log_entry *ret)
{
	CLEANUP(buf_done) struct buf attrs = {0};
	struct fields f = {0};
	struct log_entry en = {0};

	if (len < 2 || line[0] != '{' || len > LOG_ENTRY_MAX)
		return false;
	en.mem = malloc(len);
	struct scan s = {line, line + len, en.mem};
	bool good = en.mem && take_entry(&s, &f, details ? &attrs : NULL) && fill(&en, &f);
	if (good && details) {
		en.details = attrs.len ? strndup((const char *)buf_data(&attrs), attrs.len) : strdup("");
		good = en.details != NULL;
	}
	if (good)
		*ret = en;
	else
		log_entry_done(&en);
	return good;
}

void log_entry_done(struct log_entry *en)
{
	free(en->mem);
	free(en->details);
	*en = (struct log_entry){0};
}
