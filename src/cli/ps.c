/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "app.h"
#include "base/io.h"
#include "base/units.h"

enum { COMMAND_MAX = 20, CELL_MAX = 256 };

static void status_text(const struct box *b, int64_t now, char *dst, size_t size)
{
	char age[48];

	switch (b->state) {
	case BOX_CREATED:
		snprintf(dst, size, "Created");
		return;
	case BOX_STARTING:
		snprintf(dst, size, "Starting");
		return;
	case BOX_RUNNING:
	case BOX_PAUSED:
	case BOX_STOPPING:
		snprintf(dst, size, "Up %s%s", format_duration_human(age, sizeof(age), now - b->started_ns),
			b->state == BOX_STOPPING ? " (stopping)"
			: b->state == BOX_PAUSED ? " (Paused)"
						 : "");
		return;
	case BOX_EXITED:
		snprintf(dst, size, "Exited (%d) %s ago", b->exit_code,
			format_duration_human(age, sizeof(age), now - b->finished_ns));
		return;
	case BOX_REMOVING:
		snprintf(dst, size, "Removing");
		return;
	}
}

/* The command as Docker shows it: quoted, cut to 20 characters unless asked not to. malloc'd. */
static char *command_text(const struct box *b, bool full)
{
	CLEANUP(buf_done) struct buf all = {0};

	for (size_t i = 0; i < b->config.process.argv.n; i++) {
		const char *s = b->config.process.argv.v[i];
		if ((i && buf_append(&all, " ", 1) < 0) || buf_append(&all, s, strlen(s)) < 0)
			return NULL;
		if (!full && all.len > COMMAND_MAX)
			break;
	}
	if (buf_append(&all, "", 1) < 0)
		return NULL;
	size_t size = 4 * all.len + 8;
	CLEANUP_FREE char *safe = malloc(size);
	if (!safe)
		return NULL;
	text_escape(safe, size, (const char *)buf_data(&all));
	if (!full && strlen(safe) > COMMAND_MAX) {
		size_t cut = COMMAND_MAX - 1;
		while (cut && ((unsigned char)safe[cut] & 0xc0) == 0x80)
			cut--; /* not inside a character */
		memcpy(safe + cut, "…", sizeof("…"));
	}
	return str_printf("\"%s\"", safe);
}

static json_t *box_json(const struct box *b, int64_t now)
{
	char status[96], created[40];
	CLEANUP_FREE char *command = command_text(b, true);

	status_text(b, now, status, sizeof(status));
	format_time_rfc3339(created, sizeof(created), b->created_ns);
	return json_pack("{s:s, s:o, s:s, s:s, s:s, s:s, s:s, s:s}", "ID", b->id, "Image",
		json_from_text(b->image), "Command", command ? command : "", "CreatedAt", created, "State",
		box_state_name(b->state), "Status", status, "Ports", "", "Names", b->name);
}

static void print_table(struct box **list, size_t n, bool full, int64_t now)
{
	static const char *const headings[] = {
		"BOX ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"};
	struct table *t = table_new(headings, ARRAY_LEN(headings));

	for (size_t i = 0; t && i < n; i++) {
		const struct box *b = list[i];
		char id[BOX_ID_LEN + 1], created[64], age[48], status[96];
		CLEANUP_FREE char *command = command_text(b, full);
		snprintf(id, sizeof(id), "%.*s", full ? BOX_ID_LEN : BOX_ID_SHORT_LEN, b->id);
		snprintf(created, sizeof(created), "%s ago",
			format_duration_human(age, sizeof(age), now - b->created_ns));
		status_text(b, now, status, sizeof(status));
		table_row(t, (const char *const[]){id, b->image, command, created, status, "", b->name});
	}
	if (t)
		table_print(t);
}

int cmd_ps(const struct cmd *c, int argc, char **argv)
{
	bool all = false, quiet = false, full = false;
	const char *format = "table";
	struct opt opts[] = {{'a', "all", OPT_FLAG, &all, NULL, "also those that do not run"},
		{0, "format", OPT_STR, &format, "FORMAT", "table or json [table]"},
		{0, "no-trunc", OPT_FLAG, &full, NULL, "do not cut IDs and commands"},
		{'q', "quiet", OPT_FLAG, &quiet, NULL, "only IDs"}, {0}};
	struct err e = {0};
	struct app a;
	struct box **list = NULL;
	size_t n = 0;

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc > 1)
		return app_usage(c, "no arguments are taken");
	if (r == 0 && strcmp(format, "table") != 0 && strcmp(format, "json") != 0)
		r = err_set(&e, -EINVAL, "--format \"%s\": expected table or json", format);
	if (r == 0)
		r = app_open(&a, false, &e);
	if (r < 0)
		return app_fail(c, &e, 1);
	r = box_list(a.st, all, &list, &n, &e);
	app_close(&a);
	if (r < 0)
		return app_fail(c, &e, 1);
	int64_t now = time_real_ns();
	if (quiet) {
		for (size_t i = 0; i < n; i++)
			printf("%.*s\n", full ? BOX_ID_LEN : BOX_ID_SHORT_LEN, list[i]->id);
	} else if (strcmp(format, "json") == 0) {
		for (size_t i = 0; i < n; i++)
			json_print(box_json(list[i], now), 0);
	} else {
		print_table(list, n, full, now);
	}
	box_list_free(list, n);
	return 0;
}
