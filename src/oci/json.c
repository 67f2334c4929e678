/* SPDX-License-Identifier: MIT */
/* Reading JSON of strangers: bounded before it is parsed, because a parser's memory is a multiple of the text. */
#include "json.h"

/*
 * Counts what a parser would make of it, as far as that shows without parsing: "[],[],…" becomes some hundred bytes
 * for every three. What is no JSON at all may be counted wrongly, and is refused by the parser.
 */
static int check_bounds(const char *what, const char *s, size_t n, struct err *e)
{
	size_t depth = 0, lists = 0, values = 0;
	bool in_string = false;

	for (size_t i = 0; i < n; i++) {
		char c = s[i];
		if (in_string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
			continue;
		}
		if (c == '"') {
			in_string = true;
		} else if (c == '{' || c == '[') {
			lists++;
			if (++depth > OCI_JSON_DEPTH)
				return err_set(e, -EBADMSG, "%s is nested more than %d levels deep", what,
					OCI_JSON_DEPTH);
		} else if (c == '}' || c == ']') {
			depth -= depth > 0;
		} else if (c == ',') {
			values++;
		}
		if (lists > OCI_JSON_LISTS || values > OCI_JSON_VALUES)
			return err_set(e, -E2BIG, "%s has more values than are supported", what);
	}
	return 0;
}

int oci_json_parse_as(bool array, const char *what, const void *data, size_t n, json_t **ret, struct err *e)
{
	json_error_t je;

	if (n > OCI_JSON_MAX)
		return err_set(e, -EFBIG, "%s is larger than %u MiB", what, OCI_JSON_MAX >> 20);
	int r = check_bounds(what, data, n, e);
	if (r < 0)
		return r;
	json_t *j = json_loadb(data, n, JSON_REJECT_DUPLICATES, &je);
	if (!j)
		return err_set(e, -EBADMSG, "%s is not valid JSON: %s", what, je.text);
	if (array ? !json_is_array(j) : !json_is_object(j)) {
		json_decref(j);
		return err_set(e, -EBADMSG, "%s is not a JSON %s", what, array ? "array" : "object");
	}
	*ret = j;
	return 0;
}

int oci_json_parse(const char *what, const void *data, size_t n, json_t **ret, struct err *e)
{
	return oci_json_parse_as(false, what, data, n, ret, e);
}
