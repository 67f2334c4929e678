/* SPDX-License-Identifier: MIT */
#include "registry/answer.h"

#include <jansson.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "manifest.h"

static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

/* "MANIFEST_UNKNOWN" is "manifest unknown" to a person. */
static void spell(char *s)
{
	for (; *s; s++)
		*s = *s == '_' ? ' ' : *s >= 'A' && *s <= 'Z' ? (char)(*s - 'A' + 'a') : *s;
}

static bool same_words(const char *a, const char *b)
{
	return strncasecmp(a, b, strlen(a)) == 0;
}

char *oci_answer_text(const char *body, const char *type, char *buf, size_t size)
{
	CLEANUP(json_done) json_t *j = NULL;
	char code[64] = "", line[512];
	const char *message = "";

	buf[0] = '\0';
	if (type && strncasecmp(type, "text/plain", 10) == 0 && *body != '{') {
		snprintf(line, sizeof(line), "%.*s", (int)MIN_OF(strcspn(body, "\r\n"), (size_t)200), body);
		text_escape(buf, size, line);
		return buf;
	}
	if (oci_json_parse("the answer", body, strlen(body), &j, NULL) < 0)
		return buf;
	const json_t *first = json_array_get(json_object_get(j, "errors"), 0);
	if (first) {
		snprintf(code, sizeof(code), "%s", text_of(first, "code"));
		message = text_of(first, "message");
	} else {
		message = text_of(j, "details");
		if (!*message)
			message = text_of(j, "error_description");
		if (!*message)
			message = text_of(j, "message");
	}
	spell(code);
	if (*code && *message && !same_words(code, message))
		snprintf(line, sizeof(line), "%s: %s", code, message);
	else
		snprintf(line, sizeof(line), "%s", *message ? message : code);
	line[strcspn(line, "\r\n")] = '\0';
	text_escape(buf, size, line);
	return buf;
}
