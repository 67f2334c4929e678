/* SPDX-License-Identifier: MIT */
#include <string.h>
#include <time.h>

#include "app.h"
#include "base/io.h"
#include "base/units.h"
#include "format.h"
#include "ports.h"
#include "ps-filter.h"
#include "usage.h"

enum { COMMAND_MAX = 20 };

/* "Up 5 minutes (healthy)" */
static void up_text(const struct box *b, int64_t now, char *dst, size_t size)
{
	const char *note = b->state == BOX_STOPPING ? " (stopping)"
			   : b->state == BOX_PAUSED ? " (Paused)"
						    : "";
	char age[48], health[32] = "";

	if (b->health && !*note)
		snprintf(health, sizeof(health),
			strcmp(b->health, "starting") == 0 ? " (health: %s)" : " (%s)", b->health);
	snprintf(dst, size, "Up %s%s%s", format_duration_human(age, sizeof(age), now - b->started_ns), health,
		note);
}

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
		up_text(b, now, dst, size);
		return;
	case BOX_EXITED:
	case BOX_RESTARTING:
		snprintf(dst, size, "%s (%d) %s ago", b->state == BOX_EXITED ? "Exited" : "Restarting",
			b->exit_code, format_duration_human(age, sizeof(age), now - b->finished_ns));
		return;
	case BOX_DEAD:
		snprintf(dst, size, "Dead");
		return;
	case BOX_REMOVING:
		snprintf(dst, size, "Removal In Progress");
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

enum {
	FIELD_ID,
	FIELD_IMAGE,
	FIELD_COMMAND,
	FIELD_CREATED_AT,
	FIELD_RUNNING_FOR,
	FIELD_PORTS,
	FIELD_STATE,
	FIELD_STATUS,
	FIELD_SIZE,
	FIELD_NAMES,
	FIELD_LABELS,
	FIELD_MOUNTS,
	FIELD_NETWORKS,
	FIELD_LOCAL_VOLUMES,
};

static const struct format_field fields[] = {
	[FIELD_ID] = {"ID", "BOX ID"},
	[FIELD_IMAGE] = {"Image", "IMAGE"},
	[FIELD_COMMAND] = {"Command", "COMMAND"},
	[FIELD_CREATED_AT] = {"CreatedAt", "CREATED AT"},
	[FIELD_RUNNING_FOR] = {"RunningFor", "CREATED"},
	[FIELD_PORTS] = {"Ports", "PORTS"},
	[FIELD_STATE] = {"State", "STATE"},
	[FIELD_STATUS] = {"Status", "STATUS"},
	[FIELD_SIZE] = {"Size", "SIZE"},
	[FIELD_NAMES] = {"Names", "NAMES"},
	[FIELD_LABELS] = {"Labels", "LABELS"},
	[FIELD_MOUNTS] = {"Mounts", "MOUNTS"},
	[FIELD_NETWORKS] = {"Networks", "NETWORKS"},
	[FIELD_LOCAL_VOLUMES] = {"LocalVolumes", "LOCAL VOLUMES"},
	{NULL, NULL},
};

struct listing {
	struct app *a;
	struct box **boxes;
	size_t n;
	bool full;
	int64_t now;
	json_t *labels; /* of the row that was asked for last */
};

/* "12kB (virtual 34MB)": what its own disk takes, and with the image's. */
static json_t *size_json(const struct listing *l, const struct box *b)
{
	char own[16], all[16], text[64];
	uint64_t bytes = usage_scratch_bytes(l->a, b->id),
		 image = usage_tree_bytes(l->a->st->home_fd, b->disk);

	snprintf(text, sizeof(text), "%s (virtual %s)", format_size(own, sizeof(own), bytes),
		format_size(all, sizeof(all), bytes + image));
	return json_string(text);
}

/* As Go prints a time: "2024-05-01 12:30:00 +0200 CEST". */
static json_t *created_json(const struct box *b)
{
	time_t s = (time_t)(b->created_ns / 1000000000);
	struct tm tm;
	char text[64];

	if (!localtime_r(&s, &tm) || strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S %z %Z", &tm) == 0)
		return json_string("");
	return json_string(text);
}

enum { MOUNT_NAME_MAX = 15 };

/* Sources and names, long ones cut unless asked not to. */
static json_t *mounts_json(const struct listing *l, const struct box *b)
{
	CLEANUP(strv_done) struct strv names = {0};

	for (size_t i = 0; i + 2 < b->mount_texts.n; i += 3) {
		char *safe = text_escape_dup(b->mount_texts.v[i + 1]);
		size_t cut = MOUNT_NAME_MAX - 1;
		if (safe && !l->full && strlen(safe) > MOUNT_NAME_MAX) {
			while (cut && ((unsigned char)safe[cut] & 0xc0) == 0x80)
				cut--; /* not inside a character */
			char *shorter = str_printf("%.*s…", (int)cut, safe);
			free(safe);
			safe = shorter;
		}
		if (!safe || strv_take(&names, safe) < 0)
			return NULL;
	}
	return json_from_joined(&names, ",");
}

static json_t *get_field(void *data, size_t row, size_t field)
{
	const struct listing *l = data;
	const struct box *b = l->boxes[row];
	CLEANUP_FREE char *command = NULL, *ports = NULL;
	char text[128], age[48];

	switch (field) {
	case FIELD_ID:
		return json_stringn(b->id, l->full ? BOX_ID_LEN : BOX_ID_SHORT_LEN);
	case FIELD_IMAGE:
		return json_from_text(b->image);
	case FIELD_COMMAND:
		command = command_text(b, l->full);
		return command ? json_string(command) : NULL;
	case FIELD_CREATED_AT:
		return created_json(b);
	case FIELD_RUNNING_FOR:
		snprintf(text, sizeof(text), "%s ago",
			format_duration_human(age, sizeof(age), l->now - b->created_ns));
		return json_string(text);
	case FIELD_PORTS:
		ports = ports_text(b);
		return ports ? json_string(ports) : NULL;
	case FIELD_STATE:
		return json_string(box_state_name(b->state));
	case FIELD_STATUS:
		status_text(b, l->now, text, sizeof(text));
		return json_string(text);
	case FIELD_SIZE:
		return size_json(l, b);
	case FIELD_NAMES:
		return json_string(b->name);
	case FIELD_LABELS:
		return json_from_joined(&b->config.labels, ",");
	case FIELD_NETWORKS:
		return json_from_joined(&b->networks, ",");
	case FIELD_MOUNTS:
		return mounts_json(l, b);
	case FIELD_LOCAL_VOLUMES:
		return usage_volumes_json(b);
	default:
		return json_string("");
	}
}

static json_t *get_labels(void *data, size_t row)
{
	struct listing *l = data;

	json_decref(l->labels);
	l->labels = json_from_pairs(&l->boxes[row]->config.labels);
	return l->labels;
}

struct ps_opts {
	bool all, quiet, full, latest, size;
	const char *format, *last;
	struct strv filters;
	uint64_t n; /* 0: no limit */
};

static int check_opts(struct ps_opts *o, struct err *e)
{
	if (o->latest)
		o->n = 1;
	if (!o->last || strcmp(o->last, "-1") == 0)
		return 0;
	if (parse_u64(o->last, 1000000, &o->n) < 0 || o->n == 0)
		return err_set(
			e, -EINVAL, "--last %s: expected a number from 1 to 1000000, or -1 for all", o->last);
	return 0;
}

static void keep_matching(struct listing *l, const struct ps_filter *f, uint64_t limit)
{
	size_t n = 0;

	for (size_t i = 0; i < l->n; i++) {
		if ((limit && n >= limit) || !ps_filter_match(f, l->boxes[i]))
			box_free(l->boxes[i]);
		else
			l->boxes[n++] = l->boxes[i];
	}
	l->n = n;
}

static int list(const struct ps_opts *o, struct err *e)
{
	CLEANUP(ps_filter_freep) struct ps_filter *filter = NULL;
	CLEANUP(format_freep) struct format *format = NULL;
	CLEANUP(app_close) struct app a = {0};
	struct listing l = {.a = &a, .full = o->full, .now = time_real_ns()};
	struct format_source src = {.fields = fields,
		.table = o->size ? "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{."
				   "Ports}}\t{{.Names}}\t"
				   "{{.Size}}"
				 : "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{."
				   "Ports}}\t{{.Names}}",
		.get = get_field,
		.labels = get_labels,
		.data = &l};

	int r = ps_filter_parse(&o->filters, &filter, e);
	if (r == 0)
		r = format_parse(o->quiet ? "{{.ID}}" : o->format, &src, &format, e);
	if (r == 0)
		r = app_open(&a, ps_filter_wants_images(filter), e);
	if (r == 0)
		r = ps_filter_resolve(filter, &a, e);
	if (r < 0)
		return r;
	unsigned parts =
		(format_wants(format, "Command") ? BOX_PART_ARGV : 0) |
		(format_wants(format, "Ports") ? BOX_PART_PORTS : 0) |
		(format_wants(format, "Networks") ? BOX_PART_NETWORKS : 0) |
		(format_wants(format, "Mounts") || format_wants(format, "LocalVolumes") ? BOX_PART_MOUNTS
											: 0) |
		ps_filter_parts(filter);
	if (format_wants(format, "Labels") || format_wants_labels(format))
		parts |= BOX_PART_LABELS;
	r = box_list_brief(a.st, o->all || o->n || ps_filter_wants_all(filter), parts, &l.boxes, &l.n, e);
	if (r < 0)
		return r;
	keep_matching(&l, filter, o->n);
	r = format_print(format, &src, l.n, e);
	box_list_free(l.boxes, l.n);
	json_decref(l.labels);
	return r;
}

int cmd_ps(const struct cmd *c, int argc, char **argv)
{
	struct ps_opts o = {0};
	struct opt opts[] = {{'a', "all", OPT_FLAG, &o.all, NULL, "also those that do not run"},
		{'f', "filter", OPT_LIST, &o.filters, "KEY=VALUE",
			"only these: ancestor, before, exited, expose, health, id, label, name, network, "
			"publish, since, status, volume"},
		{0, "format", OPT_STR, &o.format, "FORMAT", FORMAT_HELP("Names")},
		{'n', "last", OPT_STR, &o.last, "N", "the N that were created last, in any state"},
		{'l', "latest", OPT_FLAG, &o.latest, NULL, "the one that was created last, in any state"},
		{0, "no-trunc", OPT_FLAG, &o.full, NULL, "do not cut IDs and commands"},
		{'q', "quiet", OPT_FLAG, &o.quiet, NULL, "only IDs"},
		{'s', "size", OPT_FLAG, &o.size, NULL, "what each takes on disk"}, {0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r == 0 && argc > 1) {
		strv_done(&o.filters);
		return app_usage(c, "no arguments are taken");
	}
	if (r == 0)
		r = check_opts(&o, &e);
	if (r == 0 && o.quiet && o.format)
		fprintf(stderr, "a3s-box: warning: ps: --format is ignored with --quiet\n");
	if (r == 0)
		r = list(&o, &e);
	strv_done(&o.filters);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}
