/* SPDX-License-Identifier: MIT */
#include "image-fields.h"

#include <string.h>

#include "base/io.h"
#include "base/units.h"

enum { SHORT_ID = 12 };

json_t *image_id_json(const char *id, bool full)
{
	const char *hex = strchr(id, ':');
	return full || !hex ? json_string(id) : json_stringn(hex + 1, strnlen(hex + 1, SHORT_ID));
}

void image_split_name(const char *name, char *repo, size_t repo_size, char *tag, size_t tag_size)
{
	CLEANUP_FREE char *familiar = name ? oci_ref_familiar(name) : NULL;
	if (!familiar) {
		snprintf(repo, repo_size, "<none>");
		snprintf(tag, tag_size, "<none>");
		return;
	}
	char *at = strchr(familiar, '@');
	if (at)
		*at = '\0';
	char *colon = strrchr(familiar, ':');
	if (colon && !strchr(colon, '/')) {
		*colon = '\0';
		snprintf(tag, tag_size, "%s", colon + 1);
	} else {
		snprintf(tag, tag_size, "<none>");
	}
	snprintf(repo, repo_size, "%s", familiar);
}

json_t *image_age_json(int64_t created_ns, int64_t now)
{
	char age[48], text[64] = "N/A";

	if (created_ns)
		snprintf(text, sizeof(text), "%s ago",
			format_duration_human(age, sizeof(age), now - created_ns));
	return json_string(text);
}

json_t *image_size_json(uint64_t bytes)
{
	char text[16];
	return json_string(format_size(text, sizeof(text), bytes));
}

bool image_is_tagged(const char *name)
{
	return name && !strchr(name, '@');
}

bool image_ref_is_exact(const char *ref)
{
	const char *colon = strrchr(ref, ':');
	return strchr(ref, '@') || (colon && !strchr(colon, '/'));
}
