/* SPDX-License-Identifier: MIT */
/* Records of boxes in the state database. */
#include <string.h>

#include "base/io.h"
#include "box/box.h"
#include "box/snapshot.h"
#include "box/volume.h"
#include "config.h"
#include "run.h"
#include "schema.h"

#define COLUMNS \
	"id,name,image,image_id,manifest,disk,state,exit_code,error,accel,created,started,finished,config," \
	"machine,oom_killed,stopped_by_user,restart_count,health,lost"

static const char *const state_names[] = {
	[BOX_CREATED] = "created",
	[BOX_STARTING] = "starting",
	[BOX_RUNNING] = "running",
	[BOX_PAUSED] = "paused",
	[BOX_RESTARTING] = "restarting",
	[BOX_STOPPING] = "stopping",
	[BOX_EXITED] = "exited",
	[BOX_REMOVING] = "removing",
	[BOX_DEAD] = "dead",
};

const char *box_state_name(enum box_state s)
{
	return state_names[s];
}

void box_free(struct box *b)
{
	if (!b)
		return;
	free(b->id);
	free(b->name);
	free(b->image);
	free(b->image_id);
	free(b->manifest);
	free(b->disk);
	free(b->error);
	free(b->accel);
	free(b->machine);
	free(b->health);
	strv_done(&b->ports);
	strv_done(&b->networks);
	strv_done(&b->mount_texts);
	box_config_done(&b->config);
	free(b);
}

void box_list_free(struct box **list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		box_free(list[i]);
	free(list);
}

int box_init(struct state *st, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *made = NULL;
	/* Looking first saves every command the reading of all of it. */
	int r = state_prepare(st, &made, e, BOX_SCHEMA_PROBE, "");
	if (r == 0)
		r = state_step(st, made, e);
	if (r != 0)
		return r < 0 ? r : 0;
	r = state_exec(st, e, BOX_SCHEMA, "");
	if (r == 0)
		r = box_networks_init(st, e);
	if (r == 0)
		r = box_ports_init(st, e);
	if (r == 0)
		r = box_volumes_init(st, e);
	return r < 0 ? r : box_snapshots_init(st, e);
}

/* What listings show beside COLUMNS, as lists in JSON, and of which enum box_parts they are. */
static const struct {
	enum box_parts part;
	size_t offset; /* in struct box */
	const char *sql;
} part_columns[] = {
	{BOX_PART_ARGV, offsetof(struct box, config.process.argv), "json_extract(config,'$.argv')"},
	{BOX_PART_LABELS, offsetof(struct box, config.labels), "json_extract(config,'$.labels')"},
	{BOX_PART_PORTS, offsetof(struct box, config.exposed_ports),
		"json_extract(config,'$.exposed_ports')"},
	{BOX_PART_PORTS, offsetof(struct box, config.publish), "json_extract(config,'$.publish')"},
	/* As box_port_text; protocols by their numbers. */
	{BOX_PART_PORTS, offsetof(struct box, ports),
		"(SELECT json_group_array(CASE WHEN instr(ip,':') THEN '['||ip||']' ELSE ip "
		"END||':'||host||':'"
		"||guest||CASE protocol WHEN 6 THEN '/tcp' ELSE '/udp' END) FROM published WHERE "
		"box=boxes.id)"},
	{BOX_PART_NETWORKS, offsetof(struct box, networks),
		"(SELECT CASE WHEN count(*)=0 AND coalesce(json_extract(config,'$.network'),'none')='none'"
		" THEN '[\"none\"]' ELSE json_group_array(name) END FROM (SELECT coalesce(n.name,e.network) "
		"AS name"
		" FROM endpoints e LEFT JOIN networks n ON n.id=e.network WHERE e.box=boxes.id AND "
		"e.leaving=0"
		" ORDER BY e.link))"},
	{BOX_PART_MOUNTS, offsetof(struct box, mount_texts),
		"(SELECT json_group_array(CASE t.type WHEN 'object' THEN json(t.value) ELSE t.value END)"
		" FROM json_each(config,'$.mounts') m, json_each(json_array(json_extract(m.value,'$.type'),"
		"json_extract(m.value,'$.source'),json_extract(m.value,'$.target'))) t)"},
};

/* In the columns behind COLUMNS; NULL for those not asked for. */
static int parts_from_row(sqlite3_stmt *s, struct box *b)
{
	int first = sqlite3_column_count(s) - (int)ARRAY_LEN(part_columns), r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(part_columns); i++) {
		const char *json = (const char *)sqlite3_column_text(s, first + (int)i);
		if (json)
			r = box_config_list(
				json, (struct strv *)(void *)((char *)b + part_columns[i].offset));
	}
	return r;
}

/* brief: part_columns follow, instead of the configuration. */
static int from_row(sqlite3_stmt *s, bool brief, struct box **ret, struct err *e)
{
	CLEANUP(box_freep) struct box *b = calloc(1, sizeof(*b));
	if (!b)
		return err_oom(e);
	const char *state = (const char *)sqlite3_column_text(s, 6);
	const char *config = brief ? "" : (const char *)sqlite3_column_text(s, 13);
	b->id = state_column_dup(s, 0);
	b->name = state_column_dup(s, 1);
	b->image = state_column_dup(s, 2);
	b->image_id = state_column_dup(s, 3);
	b->manifest = state_column_dup(s, 4);
	b->disk = state_column_dup(s, 5);
	b->exit_code = sqlite3_column_int(s, 7);
	b->error = state_column_dup(s, 8);
	b->accel = state_column_dup(s, 9);
	b->machine = state_column_dup(s, 14);
	b->oom_killed = sqlite3_column_int(s, 15);
	b->stopped_by_user = sqlite3_column_int(s, 16);
	b->restart_count = (uint32_t)sqlite3_column_int64(s, 17);
	b->health = state_column_dup(s, 18);
	b->lost = sqlite3_column_int(s, 19);
	b->created_ns = sqlite3_column_int64(s, 10);
	b->started_ns = sqlite3_column_int64(s, 11);
	b->finished_ns = sqlite3_column_int64(s, 12);
	if (!b->id || !b->name || !b->image || !b->image_id || !b->manifest || !b->disk || !state || !config)
		return err_oom(e);
	bool known = false;
	for (size_t i = 0; i < ARRAY_LEN(state_names); i++) {
		if (strcmp(state, state_names[i]) == 0) {
			b->state = (enum box_state)i;
			known = true;
		}
	}
	int r = !known ? -EBADMSG : brief ? parts_from_row(s, b) : box_config_from_json(config, &b->config);
	if (r < 0)
		return err_sys(e, r, "record of box %s", b->id);
	*ret = TAKE_PTR(b);
	return 0;
}

static int collect(
	struct state *st, sqlite3_stmt *s, bool brief, struct box ***ret, size_t *ret_n, struct err *e)
{
	struct box **list = NULL;
	size_t n = 0, cap = 0;
	int r;

	while ((r = state_step(st, s, e)) > 0) {
		if (n == cap) {
			cap = cap ? 2 * cap : 16;
			struct box **bigger = realloc(list, cap * sizeof(struct box *));
			if (!bigger) {
				r = err_oom(e);
				break;
			}
			list = bigger;
		}
		r = from_row(s, brief, &list[n], e);
		if (r < 0)
			break;
		n++;
	}
	if (r < 0) {
		box_list_free(list, n);
		return r;
	}
	*ret = list;
	*ret_n = n;
	return 0;
}

int box_list(struct state *st, bool all, struct box ***ret, size_t *ret_n, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	const char *sql = all ? "SELECT " COLUMNS " FROM boxes ORDER BY created DESC, id"
			      : "SELECT " COLUMNS " FROM boxes WHERE state IN " BOX_LIVE_SQL
				" ORDER BY created DESC, id";
	int r = state_prepare(st, &s, e, sql, "");
	return r < 0 ? r : collect(st, s, false, ret, ret_n, e);
}

/* SQLite picks the parts out of the configuration's text some times faster than all of it could be read. */
int box_list_brief(
	struct state *st, bool all, unsigned parts, struct box ***ret, size_t *ret_n, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	CLEANUP(buf_done) struct buf sql = {0};
	const char *tail = all ? " FROM boxes ORDER BY created DESC, id"
			       : " FROM boxes WHERE state IN " BOX_LIVE_SQL " ORDER BY created DESC, id";
	int r = buf_append(&sql, "SELECT " COLUMNS, strlen("SELECT " COLUMNS));

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(part_columns); i++) {
		const char *column = parts & part_columns[i].part ? part_columns[i].sql : "NULL";
		r = buf_append(&sql, ",", 1);
		if (r == 0)
			r = buf_append(&sql, column, strlen(column));
	}
	if (r == 0)
		r = buf_append(&sql, tail, strlen(tail) + 1);
	if (r < 0)
		return err_oom(e);
	r = state_prepare(st, &s, e, (const char *)buf_data(&sql), "");
	return r < 0 ? r : collect(st, s, true, ret, ret_n, e);
}

void (*box_seen)(const struct box *b);

static bool is_hex(const char *s)
{
	return *s && strspn(s, "0123456789abcdef") == strlen(s);
}

static int ambiguous(const char *ref, struct box **list, size_t n, struct err *e)
{
	char names[512] = "";
	size_t used = 0;

	for (size_t i = 0; i < n && used < sizeof(names) - 1; i++)
		used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%.*s (%s)", i ? ", " : "",
			BOX_ID_SHORT_LEN, list[i]->id, list[i]->name);
	return err_set(e, -EEXIST, "ambiguous box ID \"%s\": %s", ref, names);
}

int box_find_quiet(struct state *st, const char *ref, struct box **ret, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	struct box **list = NULL;
	size_t n = 0;
	int r;

	/* An exact ID wins over a name, a name over a prefix, as in Docker. */
	if (is_hex(ref) && strlen(ref) <= BOX_ID_LEN)
		r = state_prepare(st, &s, e,
			"SELECT " COLUMNS ", (id=?1)*2+(name=?1) AS exact FROM boxes"
			" WHERE id=?1 OR name=?1 OR substr(id,1,length(?1))=?1 ORDER BY exact DESC LIMIT 10",
			"s", ref);
	else
		r = state_prepare(st, &s, e, "SELECT " COLUMNS " FROM boxes WHERE name=?1", "s", ref);
	if (r == 0)
		r = collect(st, s, false, &list, &n, e);
	if (r < 0)
		return r;
	if (n == 0) {
		r = err_set(e, -ENOENT, "no such box: %s", ref);
	} else if (n > 1 && strcmp(list[0]->id, ref) != 0 && strcmp(list[0]->name, ref) != 0) {
		r = ambiguous(ref, list, n, e);
	} else {
		*ret = TAKE_PTR(list[0]);
	}
	box_list_free(list, n);
	return r;
}

int box_find(struct state *st, const char *ref, struct box **ret, struct err *e)
{
	int r = box_find_quiet(st, ref, ret, e);
	if (r == 0 && box_seen)
		box_seen(*ret);
	return r;
}

bool box_name_valid(const char *name)
{
	static const char first[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
	static const char rest[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
	size_t n = strlen(name);
	return n >= 1 && n <= BOX_NAME_MAX && strchr(first, name[0]) && strspn(name, rest) == n;
}
