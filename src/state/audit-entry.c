/* SPDX-License-Identifier: MIT */
/* What an entry of the audit log is made of (state/audit.h). */
#include <pwd.h>
#include <string.h>

#include <jansson.h>

#include "base/io.h"
#include "base/units.h"
#include "state/audit.h"

/* Any bytes: what is not UTF-8 is shown escaped. */
static json_t *text_json(const char *s)
{
	json_t *j = json_string(s);
	CLEANUP_FREE char *safe = j ? NULL : text_escape_dup(s);

	return j ? j : json_string(safe ? safe : "");
}

json_t *audit_entry_new(const char *action)
{
	char time[40];

	return json_pack("{s:s, s:{s:I}, s:i, s:s, s:[], s:[], s:[]}", "time",
		format_time_rfc3339(time, sizeof(time), time_real_ns()), "user", "uid", (json_int_t)getuid(),
		"pid", (int)getpid(), "command", action, "args", "boxes", "images");
}

static int append_entry(int home_fd, const json_t *entry, struct err *e)
{
	CLEANUP_FREE char *line = json_dumps(entry, JSON_COMPACT | JSON_ENSURE_ASCII);
	return line ? audit_append(home_fd, line, e) : err_oom(e);
}

int audit_entry_write(
	int home_fd, json_t *entry, const char *outcome, const int *status, const char *error, struct err *e)
{
	/* Now, and not before anything was done: a name service may take its time. Once: the user stays the same. */
	static char *user;

	if (!user) {
		const struct passwd *pw = getpwuid(getuid());
		user = strdup(pw ? pw->pw_name : "");
	}
	json_object_set_new(json_object_get(entry, "user"), "name", text_json(user ? user : ""));
	json_object_set_new(entry, "outcome", json_string(outcome));
	json_object_set_new(entry, "status", status ? json_integer(*status) : json_null());
	json_object_set_new(entry, "error", text_json(error));
	int r = home_fd < 0 ? 0 : append_entry(home_fd, entry, e);
	if (r == -EMSGSIZE) {
		json_object_set_new(entry, "args", json_pack("[s]", "…"));
		r = append_entry(home_fd, entry, e);
	}
	json_decref(entry);
	return r;
}
