/* SPDX-License-Identifier: MIT */
/* The functions of templates: Go's own, and those that Docker adds. */
#include <stdarg.h>
#include <string.h>
#include <wctype.h>

#include "template-tree.h"

json_t *func_error(struct exec *x, int code, const char *fmt, ...)
{
	char what[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	err_set(x->e, code, "%s", what);
	return NULL;
}

size_t utf8_encode(char *dst, uint32_t cp)
{
	static const uint32_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
	size_t n = cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;

	for (size_t i = n; i-- > 1; cp >>= 6)
		dst[i] = (char)(0x80 | (cp & 0x3f));
	dst[0] = (char)(lead[n] | cp);
	return n;
}

const char *value_kind(const json_t *v)
{
	switch (json_typeof(v)) {
	case JSON_OBJECT:
		return "a map";
	case JSON_ARRAY:
		return "a list";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
	case JSON_REAL:
		return "a number";
	case JSON_TRUE:
	case JSON_FALSE:
		return "a truth value";
	default:
		return "nothing";
	}
}

bool value_true(const json_t *v)
{
	switch (json_typeof(v)) {
	case JSON_OBJECT:
		return json_object_size(v) > 0;
	case JSON_ARRAY:
		return json_array_size(v) > 0;
	case JSON_STRING:
		return json_string_length(v) > 0;
	case JSON_INTEGER:
		return json_integer_value(v) != 0;
	case JSON_REAL:
		return json_real_value(v) != 0;
	default:
		return json_is_true(v);
	}
}

int value_compare_keys(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int value_append(struct buf *out, const char *s, size_t n)
{
	if (n > TEMPLATE_OUTPUT_MAX || out->len > TEMPLATE_OUTPUT_MAX - n)
		return -E2BIG;
	return buf_append(out, s, n);
}

static int put_text(struct buf *out, const char *s)
{
	return value_append(out, s, strlen(s));
}

/* map[a:1 b:2], in the order of keys */
static int put_map(struct buf *out, const json_t *v)
{
	size_t n = 0;
	const char *key;
	json_t *value;
	const char **keys = calloc(json_object_size(v) + 1, sizeof(*keys));

	if (!keys)
		return -ENOMEM;
	json_object_foreach ((json_t *)v, key, value)
		keys[n++] = key;
	qsort(keys, n, sizeof(*keys), value_compare_keys);
	int r = put_text(out, "map[");
	for (size_t i = 0; r == 0 && i < n; i++) {
		r = i ? put_text(out, " ") : 0;
		if (r == 0)
			r = put_text(out, keys[i]);
		if (r == 0)
			r = put_text(out, ":");
		if (r == 0)
			r = value_put(out, json_object_get(v, keys[i]), false);
	}
	free(keys);
	return r < 0 ? r : put_text(out, "]");
}

static int put_list(struct buf *out, const json_t *v)
{
	int r = put_text(out, "[");

	for (size_t i = 0; r == 0 && i < json_array_size(v); i++) {
		r = i ? put_text(out, " ") : 0;
		if (r == 0)
			r = value_put(out, json_array_get(v, i), false);
	}
	return r < 0 ? r : put_text(out, "]");
}

int value_put(struct buf *out, const json_t *v, bool top)
{
	char number[32];

	switch (json_typeof(v)) {
	case JSON_OBJECT:
		return put_map(out, v);
	case JSON_ARRAY:
		return put_list(out, v);
	case JSON_STRING:
		return value_append(out, json_string_value(v), json_string_length(v));
	case JSON_INTEGER:
		snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(v));
		return put_text(out, number);
	case JSON_REAL:
		return value_put_real(out, json_real_value(v));
	case JSON_TRUE:
		return put_text(out, "true");
	case JSON_FALSE:
		return put_text(out, "false");
	default:
		return put_text(out, top ? "<no value>" : "<nil>");
	}
}

json_t *value_take(struct exec *x, struct buf *b, int r)
{
	json_t *v = NULL;

	if (r == 0)
		v = json_stringn(b->len ? (const char *)buf_data(b) : "", b->len);
	x->steps += (unsigned)(b->len / 256); /* long strings take their time too */
	buf_done(b);
	if (r == -E2BIG)
		return func_error(x, r, "template: a string of more than %d MiB", TEMPLATE_OUTPUT_MAX >> 20);
	return v ? v : func_error(x, -EINVAL, "template: text that is not UTF-8");
}

static json_t *wrong(struct exec *x, const char *func, const char *wants, const json_t *got)
{
	return func_error(x, -EINVAL, "template: %s: %s expected, not %s", func, wants, value_kind(got));
}

/* ---- text ---- */

enum letters { LETTERS_UPPER, LETTERS_LOWER, LETTERS_TITLE };

static json_t *change_case(struct exec *x, const char *name, const json_t *v, enum letters to)
{
	struct buf b = {0};
	bool start = true;
	int r = 0;

	if (!json_is_string(v))
		return wrong(x, name, "a string", v);
	const char *s = json_string_value(v);
	size_t left = json_string_length(v);
	while (r == 0 && left) {
		uint32_t cp = 0;
		size_t n = text_utf8_len((const uint8_t *)s, left, &cp);
		wint_t c = (wint_t)cp;
		char out[4];
		n = n ? n : 1;
		if (to == LETTERS_UPPER || (to == LETTERS_TITLE && start))
			c = towupper(c);
		else if (to == LETTERS_LOWER)
			c = towlower(c);
		start = c == L'\'' ? start : !iswalnum(c) && c != L'_';
		size_t k = c == cp ? 0 : utf8_encode(out, (uint32_t)c);
		r = k ? value_append(&b, out, k) : value_append(&b, s, n);
		s += n;
		left -= n;
	}
	return value_take(x, &b, r);
}

static json_t *func_upper(struct exec *x, json_t *const *args, size_t n)
{
	return change_case(x, "upper", args[0], LETTERS_UPPER);
}

static json_t *func_lower(struct exec *x, json_t *const *args, size_t n)
{
	return change_case(x, "lower", args[0], LETTERS_LOWER);
}

static json_t *func_title(struct exec *x, json_t *const *args, size_t n)
{
	return change_case(x, "title", args[0], LETTERS_TITLE);
}

static json_t *func_join(struct exec *x, json_t *const *args, size_t n)
{
	struct buf b = {0};
	int r = 0;

	if (!json_is_array(args[0]) && !json_is_null(args[0]))
		return wrong(x, "join", "a list", args[0]);
	if (!json_is_string(args[1]))
		return wrong(x, "join", "a string as separator", args[1]);
	for (size_t i = 0; r == 0 && i < json_array_size(args[0]); i++) {
		if (i)
			r = value_append(&b, json_string_value(args[1]), json_string_length(args[1]));
		if (r == 0)
			r = value_put(&b, json_array_get(args[0], i), false);
	}
	return value_take(x, &b, r);
}

static json_t *func_split(struct exec *x, json_t *const *args, size_t n)
{
	if (!json_is_string(args[0]))
		return wrong(x, "split", "a string", args[0]);
	if (!json_is_string(args[1]))
		return wrong(x, "split", "a string as separator", args[1]);
	const char *s = json_string_value(args[0]), *sep = json_string_value(args[1]);
	size_t sep_len = strlen(sep);
	json_t *list = json_array();
	for (bool more = sep_len || *s; more;) {
		const char *end = strstr(s, sep);
		size_t len = end ? (size_t)(end - s) : strlen(s);
		if (!sep_len) /* into characters */
			len = text_utf8_len((const uint8_t *)s, strlen(s), NULL);
		json_array_append_new(list, json_stringn(s, len));
		s += len;
		more = sep_len ? end != NULL : *s != '\0';
		s += end && sep_len ? sep_len : 0;
	}
	return list;
}

static json_t *func_pad(struct exec *x, json_t *const *args, size_t n)
{
	enum { PAD_MAX = 1000 };
	struct buf b = {0};
	int r = 0;

	if (!json_is_string(args[0]))
		return wrong(x, "pad", "a string", args[0]);
	json_int_t before = json_integer_value(args[1]), after = json_integer_value(args[2]);
	if (before < 0 || before > PAD_MAX || after < 0 || after > PAD_MAX)
		return func_error(x, -EINVAL, "template: pad: 0 to %d blanks expected", PAD_MAX);
	if (json_string_length(args[0]) == 0)
		return json_incref(args[0]); /* as in Docker */
	for (json_int_t i = 0; r == 0 && i < before; i++)
		r = value_append(&b, " ", 1);
	if (r == 0)
		r = value_append(&b, json_string_value(args[0]), json_string_length(args[0]));
	for (json_int_t i = 0; r == 0 && i < after; i++)
		r = value_append(&b, " ", 1);
	return value_take(x, &b, r);
}

/* At most so many bytes, not ending inside a character. */
static json_t *cut(const char *s, size_t len, size_t from, size_t to)
{
	to = MIN_OF(to, len);
	while (to > from && to < len && ((unsigned char)s[to] & 0xc0) == 0x80)
		to--;
	while (from < to && ((unsigned char)s[from] & 0xc0) == 0x80)
		from++;
	return json_stringn(s + from, to - from);
}

static json_t *func_truncate(struct exec *x, json_t *const *args, size_t n)
{
	if (!json_is_string(args[0]))
		return wrong(x, "truncate", "a string", args[0]);
	if (!json_is_integer(args[1]) || json_integer_value(args[1]) < 0)
		return wrong(x, "truncate", "a length", args[1]);
	return cut(json_string_value(args[0]), json_string_length(args[0]), 0,
		(size_t)json_integer_value(args[1]));
}

static json_t *func_print(struct exec *x, json_t *const *args, size_t n)
{
	struct buf b = {0};
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		if (i && !json_is_string(args[i]) && !json_is_string(args[i - 1]))
			r = value_append(&b, " ", 1);
		if (r == 0)
			r = value_put(&b, args[i], false);
	}
	return value_take(x, &b, r);
}

static json_t *func_println(struct exec *x, json_t *const *args, size_t n)
{
	struct buf b = {0};
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		if (i)
			r = value_append(&b, " ", 1);
		if (r == 0)
			r = value_put(&b, args[i], false);
	}
	if (r == 0)
		r = value_append(&b, "\n", 1);
	return value_take(x, &b, r);
}

static json_t *func_json(struct exec *x, json_t *const *args, size_t n)
{
	CLEANUP_FREE char *s = json_dumps(args[0], JSON_COMPACT | JSON_ENCODE_ANY);
	json_t *v = s && strlen(s) <= TEMPLATE_OUTPUT_MAX ? json_string(s) : NULL;
	return v ? v : func_error(x, -ENOMEM, "template: json: out of memory");
}

/* ---- lists and maps ---- */

static json_t *index_one(struct exec *x, json_t *in, const json_t *by)
{
	if (json_is_object(in)) {
		if (!json_is_string(by))
			return wrong(x, "index", "a string", by);
		json_t *v = json_object_get(in, json_string_value(by));
		return v ? json_incref(v) : json_string(""); /* nothing, as from Go's map of strings */
	}
	if (!json_is_array(in))
		return wrong(x, "index", "a list or map", in);
	if (!json_is_integer(by))
		return wrong(x, "index", "a number", by);
	json_int_t i = json_integer_value(by);
	if (i < 0 || (size_t)i >= json_array_size(in))
		return func_error(x, -EINVAL, "template: index: %lld is outside of a list of %zu",
			(long long)i, json_array_size(in));
	return json_incref(json_array_get(in, (size_t)i));
}

static json_t *func_index(struct exec *x, json_t *const *args, size_t n)
{
	json_t *v = json_incref(args[0]);

	for (size_t i = 1; v && i < n; i++) {
		json_t *next = index_one(x, v, args[i]);
		json_decref(v);
		v = next;
	}
	return v;
}

static json_t *func_len(struct exec *x, json_t *const *args, size_t n)
{
	if (json_is_string(args[0]))
		return json_integer((json_int_t)json_string_length(args[0]));
	if (json_is_array(args[0]))
		return json_integer((json_int_t)json_array_size(args[0]));
	if (json_is_object(args[0]))
		return json_integer((json_int_t)json_object_size(args[0]));
	return json_is_null(args[0]) ? json_integer(0) : wrong(x, "len", "a string, list or map", args[0]);
}

static json_t *func_slice(struct exec *x, json_t *const *args, size_t n)
{
	bool is_text = json_is_string(args[0]);
	size_t len = is_text ? json_string_length(args[0]) : json_array_size(args[0]);
	json_int_t from = 0, to = (json_int_t)len;

	if (!is_text && !json_is_array(args[0]))
		return wrong(x, "slice", "a string or list", args[0]);
	for (size_t i = 1; i < n; i++) {
		if (!json_is_integer(args[i]))
			return wrong(x, "slice", "a number", args[i]);
		*(i == 1 ? &from : &to) = json_integer_value(args[i]);
	}
	if (from < 0 || to < from || (size_t)to > len)
		return func_error(x, -EINVAL, "template: slice: %lld to %lld is outside of %zu",
			(long long)from, (long long)to, len);
	if (is_text)
		return cut(json_string_value(args[0]), len, (size_t)from, (size_t)to);
	json_t *list = json_array();
	for (json_int_t i = from; i < to; i++)
		json_array_append(list, json_array_get(args[0], (size_t)i));
	return list;
}

/* ---- comparisons ---- */

static json_t *func_not(struct exec *x, json_t *const *args, size_t n)
{
	return json_boolean(!value_true(args[0]));
}

/* *ret is below, equal to, or above 0. Returns whether the two can be compared; ordered: by lt and the like. */
static bool compare(const json_t *a, const json_t *b, bool ordered, int *ret)
{
	if (json_is_integer(a) && json_is_integer(b)) {
		json_int_t i = json_integer_value(a), k = json_integer_value(b);
		*ret = (i > k) - (i < k);
	} else if (json_is_number(a) && json_is_number(b)) {
		double d = json_number_value(a), f = json_number_value(b);
		*ret = (d > f) - (d < f);
	} else if (json_is_string(a) && json_is_string(b)) {
		*ret = strcmp(json_string_value(a), json_string_value(b));
	} else if (ordered) {
		return false;
	} else {
		*ret = json_typeof(a) != json_typeof(b);
		return (json_is_boolean(a) && json_is_boolean(b)) || json_is_null(a) || json_is_null(b);
	}
	return true;
}

static json_t *compare_error(struct exec *x, const char *func, const json_t *a, const json_t *b)
{
	return func_error(
		x, -EINVAL, "template: %s: cannot compare %s with %s", func, value_kind(a), value_kind(b));
}

static json_t *func_eq(struct exec *x, json_t *const *args, size_t n)
{
	for (size_t i = 1; i < n; i++) {
		int d;
		if (!compare(args[0], args[i], false, &d))
			return compare_error(x, "eq", args[0], args[i]);
		if (d == 0)
			return json_true();
	}
	return json_false();
}

static json_t *func_ne(struct exec *x, json_t *const *args, size_t n)
{
	int d;
	return compare(args[0], args[1], false, &d) ? json_boolean(d != 0)
						    : compare_error(x, "ne", args[0], args[1]);
}

static json_t *order(struct exec *x, const char *func, json_t *const *args, int want, bool or_equal)
{
	int d;
	if (!compare(args[0], args[1], true, &d))
		return compare_error(x, func, args[0], args[1]);
	return json_boolean(d == 0 ? or_equal : (d < 0) == (want < 0));
}

static json_t *func_lt(struct exec *x, json_t *const *args, size_t n)
{
	return order(x, "lt", args, -1, false);
}

static json_t *func_le(struct exec *x, json_t *const *args, size_t n)
{
	return order(x, "le", args, -1, true);
}

static json_t *func_gt(struct exec *x, json_t *const *args, size_t n)
{
	return order(x, "gt", args, 1, false);
}

static json_t *func_ge(struct exec *x, json_t *const *args, size_t n)
{
	return order(x, "ge", args, 1, true);
}

static const struct func funcs[] = {
	{"and", 1, SIZE_MAX, NULL},
	{"eq", 2, SIZE_MAX, func_eq},
	{"ge", 2, 2, func_ge},
	{"gt", 2, 2, func_gt},
	{"index", 1, SIZE_MAX, func_index},
	{"join", 2, 2, func_join},
	{"json", 1, 1, func_json},
	{"le", 2, 2, func_le},
	{"len", 1, 1, func_len},
	{"lower", 1, 1, func_lower},
	{"lt", 2, 2, func_lt},
	{"ne", 2, 2, func_ne},
	{"not", 1, 1, func_not},
	{"or", 1, SIZE_MAX, NULL},
	{"pad", 3, 3, func_pad},
	{"print", 0, SIZE_MAX, func_print},
	{"printf", 1, SIZE_MAX, func_printf},
	{"println", 0, SIZE_MAX, func_println},
	{"slice", 1, 3, func_slice},
	{"split", 2, 2, func_split},
	{"title", 1, 1, func_title},
	{"truncate", 2, 2, func_truncate},
	{"upper", 1, 1, func_upper},
};

const struct func *template_func(const char *name, size_t len)
{
	for (size_t i = 0; i < ARRAY_LEN(funcs); i++) {
		if (strlen(funcs[i].name) == len && strncmp(funcs[i].name, name, len) == 0)
			return &funcs[i];
	}
	return NULL;
}
