/* SPDX-License-Identifier: MIT */
/* Records of snapshots (box/snapshot.h). Their files are snapshot-make.c's. */
#include "snapshot.h"

#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "box/seccomp.h"
#include "config.h"
#include "schema.h"
#include "state/event.h"

#define COLUMNS "id,name,box_id,box_name,image,image_id,manifest,disk,description,created,running,config"

void box_snapshot_free(struct box_snapshot *s)
{
	if (!s)
		return;
	free(s->id);
	free(s->name);
	free(s->box_id);
	free(s->box_name);
	free(s->image);
	free(s->image_id);
	free(s->manifest);
	free(s->disk);
	free(s->description);
	box_config_done(&s->config);
	free(s);
}

void box_snapshot_list_free(struct box_snapshot **list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		box_snapshot_free(list[i]);
	free(list);
}

int box_snapshots_init(struct state *st, struct err *e)
{
	return state_exec(st, e, SNAPSHOT_SCHEMA, "");
}

/* ---- networks, as JSON ---- */

char *snapshot_endpoints_text(const struct box_endpoint *v, size_t n)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++) {
		json_t *aliases = json_array();
		for (size_t k = 0; k < v[i].aliases.n; k++)
			json_array_append_new(aliases, json_string(v[i].aliases.v[k]));
		json_array_append_new(
			list, json_pack("{s:s, s:s?, s:s?, s:o}", "network", v[i].network, "ip4",
				      v[i].ip4_asked, "ip6", v[i].ip6_asked, "aliases", aliases));
	}
	char *text = json_array_size(list) == n ? json_dumps(list, JSON_COMPACT) : NULL;
	json_decref(list);
	return text;
}

static int endpoint_parse(const json_t *j, struct box_endpoint *ep)
{
	const char *network = json_string_value(json_object_get(j, "network")),
		   *ip4 = json_string_value(json_object_get(j, "ip4")),
		   *ip6 = json_string_value(json_object_get(j, "ip6"));
	const json_t *aliases = json_object_get(j, "aliases");

	if (!network || !json_is_array(aliases) || json_array_size(aliases) > BOX_ALIASES_MAX)
		return -EBADMSG;
	ep->network = strdup(network);
	ep->ip4_asked = str_dup(ip4);
	ep->ip6_asked = str_dup(ip6);
	if (!ep->network || (ip4 && !ep->ip4_asked) || (ip6 && !ep->ip6_asked))
		return -ENOMEM;
	for (size_t i = 0; i < json_array_size(aliases); i++) {
		const char *alias = json_string_value(json_array_get(aliases, i));
		if (!alias)
			return -EBADMSG;
		if (strv_push(&ep->aliases, alias) < 0)
			return -ENOMEM;
	}
	return 0;
}

int snapshot_endpoints_parse(const char *text, struct box_endpoint **ret, size_t *ret_n)
{
	json_t *list = json_loads(text, 0, NULL);
	size_t n = json_array_size(list);
	struct box_endpoint *v = calloc(n + 1, sizeof(*v));
	int r = !v ? -ENOMEM : json_is_array(list) && n <= BOX_LINKS_MAX ? 0 : -EBADMSG;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = endpoint_parse(json_array_get(list, i), &v[i]);
	json_decref(list);
	if (r < 0) {
		if (v)
			box_endpoints_free(v, n);
		return r;
	}
	*ret = v;
	*ret_n = n;
	return 0;
}

/* ---- reading ---- */

int snapshot_open_dir(struct state *st, const char *id, struct err *e)
{
	CLEANUP_FREE char *path = str_printf(SNAPSHOTS_DIR "/%s", id);

	if (!path)
		return err_oom(e);
	int fd = io_open_dir_at(st->home_fd, path, false);
	return fd < 0 ? err_sys(e, fd, "cannot open %s/%s", st->home, path) : fd;
}

/* Allocated blocks of all its files. */
static uint64_t bytes_of(struct state *st, const char *id)
{
	static const char *const names[] = {SNAPSHOT_DISK, BOX_SECCOMP_FILE, ""};
	uint64_t sum = 0;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		CLEANUP_FREE char *path = str_printf(SNAPSHOTS_DIR "/%s/%s", id, names[i]);
		struct stat s;
		if (path && fstatat(st->home_fd, path, &s, AT_SYMLINK_NOFOLLOW) == 0)
			sum += (uint64_t)s.st_blocks * 512;
	}
	return sum;
}

static int from_row(struct state *st, sqlite3_stmt *q, struct box_snapshot **ret, struct err *e)
{
	CLEANUP(box_snapshot_freep) struct box_snapshot *s = calloc(1, sizeof(*s));

	if (!s)
		return err_oom(e);
	char **texts[] = {
		&s->id, &s->name, &s->box_id, &s->box_name, &s->image, &s->image_id, &s->manifest, &s->disk};
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		*texts[i] = state_column_dup(q, (int)i);
		if (!*texts[i])
			return err_oom(e);
	}
	s->description = state_column_dup(q, 8);
	s->created_ns = sqlite3_column_int64(q, 9);
	s->running = sqlite3_column_int(q, 10);
	const char *config = (const char *)sqlite3_column_text(q, 11);
	int r = config ? box_config_from_json(config, &s->config) : -EBADMSG;
	if (r < 0)
		return err_sys(e, r, "record of snapshot %s", s->name);
	s->bytes = bytes_of(st, s->id);
	*ret = TAKE_PTR(s);
	return 0;
}

static int collect(
	struct state *st, sqlite3_stmt *q, struct box_snapshot ***ret, size_t *ret_n, struct err *e)
{
	struct box_snapshot **list = NULL;
	size_t n = 0, cap = 0;
	int r;

	while ((r = state_step(st, q, e)) > 0) {
		if (n == cap) {
			cap = cap ? 2 * cap : 16;
			struct box_snapshot **bigger = reallocarray(list, cap, sizeof(struct box_snapshot *));
			if (!bigger) {
				r = err_oom(e);
				break;
			}
			list = bigger;
		}
		r = from_row(st, q, &list[n], e);
		if (r < 0)
			break;
		n++;
	}
	if (r < 0) {
		box_snapshot_list_free(list, n);
		return r;
	}
	*ret = list;
	*ret_n = n;
	return 0;
}

int box_snapshot_list(
	struct state *st, const char *box_id, struct box_snapshot ***ret, size_t *ret_n, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *q = NULL;
	int r = state_prepare(st, &q, e,
		"SELECT " COLUMNS " FROM snapshots WHERE ?1 IS NULL OR box_id=?1 ORDER BY created DESC, id",
		"s", box_id);

	return r < 0 ? r : collect(st, q, ret, ret_n, e);
}

static int ambiguous(const char *ref, struct box_snapshot **list, size_t n, struct err *e)
{
	char names[256] = "";
	size_t used = 0;

	for (size_t i = 0; i < n && used < sizeof(names) - 1; i++)
		used += (size_t)snprintf(
			names + used, sizeof(names) - used, "%s%.12s", i ? ", " : "", list[i]->id);
	return err_set(e, -EEXIST, "ambiguous snapshot \"%.100s\": %s", ref, names);
}

int box_snapshot_find(struct state *st, const char *ref, struct box_snapshot **ret, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *q = NULL;
	struct box_snapshot **list = NULL;
	size_t n = 0;
	/* A name wins over the beginning of an ID. */
	int r = state_prepare(st, &q, e,
		"SELECT " COLUMNS
		" FROM snapshots WHERE name=?1 OR (length(?1)>0 AND substr(id,1,length(?1))=?1)"
		" ORDER BY name=?1 DESC, id LIMIT 10",
		"s", ref);

	if (r == 0)
		r = collect(st, q, &list, &n, e);
	if (r < 0)
		return r;
	if (n == 0)
		r = err_set(e, -ENOENT, "no such snapshot: %s", ref);
	else if (n > 1 && strcmp(list[0]->name, ref) != 0)
		r = ambiguous(ref, list, n, e);
	else
		*ret = TAKE_PTR(list[0]);
	box_snapshot_list_free(list, n);
	return r;
}

/* ---- writing ---- */

int snapshot_event(struct state *st, const struct box_snapshot *s, const char *action, struct err *e)
{
	return event_add(st, e, "snapshot", action, s->id, "name", s->name, "container", s->box_id, "image",
		s->image, NULL);
}

/* Its networks now, as text. */
static int endpoints_of(struct state *st, const char *box_id, char **ret, struct err *e)
{
	struct box_endpoint *v = NULL;
	size_t n = 0;
	int r = box_endpoints_of_box(st, box_id, &v, &n, e);

	if (r < 0)
		return r;
	*ret = snapshot_endpoints_text(v, n);
	box_endpoints_free(v, n);
	return *ret ? 0 : err_oom(e);
}

static int insert(struct state *st, const struct box_snapshot *s, const char *config, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *q = NULL;
	CLEANUP_FREE char *holder = str_printf(OCI_HOLDER_SNAPSHOT "%s", s->id), *endpoints = NULL;
	int r = holder ? state_prepare(st, &q, e, "SELECT 1 FROM boxes WHERE id=?1", "s", s->box_id)
		       : err_oom(e);

	if (r == 0)
		r = state_step(st, q, e);
	if (r <= 0) /* and perhaps its image with it */
		return r < 0 ? r : err_set(e, -ENOENT, "box %s was removed meanwhile", s->box_name);
	r = endpoints_of(st, s->box_id, &endpoints, e);
	if (r == 0)
		r = state_exec(st, e,
			"INSERT INTO snapshots(" COLUMNS ",endpoints) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?)",
			"sssssssssiiss", s->id, s->name, s->box_id, s->box_name, s->image, s->image_id,
			s->manifest, s->disk, s->description, s->created_ns, (int64_t)s->running, config,
			endpoints);
	if (r == -EEXIST) {
		err_set(e, r, "the name \"%s\" is taken by another snapshot", s->name);
		return err_hint(e, "remove it with: a3s-box snapshot rm %s", s->name);
	}
	if (r == 0)
		r = oci_ref_add(st, holder, s->manifest, e);
	return r < 0 ? r : snapshot_event(st, s, "create", e);
}

int snapshot_insert(struct state *st, const struct box_snapshot *s, const struct box *b, struct err *e)
{
	CLEANUP_FREE char *config = box_config_to_json(&b->config);
	int r = config ? state_begin(st, e) : err_oom(e);

	return r < 0 ? r : state_end(st, insert(st, s, config, e), e);
}

static int drop(struct state *st, const struct box_snapshot *s, struct err *e)
{
	CLEANUP_FREE char *holder = str_printf(OCI_HOLDER_SNAPSHOT "%s", s->id);
	int r = holder ? state_exec(st, e, "DELETE FROM snapshots WHERE id=?1", "s", s->id) : err_oom(e);

	if (r == 0 && sqlite3_changes(st->db) == 0)
		r = err_set(e, -ENOENT, "no such snapshot: %s", s->name);
	if (r == 0)
		r = oci_ref_drop(st, holder, e);
	return r < 0 ? r : snapshot_event(st, s, "destroy", e);
}

int box_snapshot_remove(struct state *st, const char *id, struct err *e)
{
	CLEANUP(box_snapshot_freep) struct box_snapshot *s = NULL;
	CLEANUP_FREE char *path = str_printf(SNAPSHOTS_DIR "/%s", id);
	int r = path ? box_snapshot_find(st, id, &s, e) : err_oom(e);

	if (r == 0)
		r = state_begin(st, e);
	if (r < 0)
		return r;
	r = state_end(st, drop(st, s, e), e);
	if (r < 0)
		return r;
	/* From here on it is left over work: whoever dies here leaves it to box_snapshots_repair. */
	r = io_remove_tree_at(st->home_fd, path);
	return r < 0 ? err_sys(e, r, "cannot remove %s/%s", st->home, path) : 0;
}
