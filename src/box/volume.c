/* SPDX-License-Identifier: MIT */
/* Records of volumes, and their way out (box/volume.h). Their folders are volume-folder.c, what is in them volume-fill.c. */
#include "volume.h"

#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "config.h"
#include "schema.h"
#include "state/event.h"

/* As Docker marks them. */
#define ANONYMOUS_LABEL "com.docker.volume.anonymous="
enum { ID_BYTES = 32, NAMES_IN_HINT = 5, NAME_MIN = 2 };

#define COLUMNS \
	"name,driver,labels,opts,created,anonymous," \
	"(SELECT count(*) FROM volume_uses u WHERE u.volume=volumes.name)"

void box_volume_free(struct box_volume *v)
{
	if (!v)
		return;
	free(v->name);
	free(v->driver);
	strv_done(&v->labels);
	strv_done(&v->opts);
	free(v);
}

void box_volume_list_free(struct box_volume **list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		box_volume_free(list[i]);
	free(list);
}

int box_volumes_init(struct state *st, struct err *e)
{
	static const char *const parts[] = {
		VOLUME_SCHEMA, VOLUME_REMOVING_INDEX, VOLUME_USE_SCHEMA, VOLUME_USE_INDEX};
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(parts); i++)
		r = state_exec(st, e, parts[i], "");
	return r;
}

bool box_volume_name_valid(const char *name)
{
	static const char first[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
	static const char rest[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
	size_t n = strlen(name);

	return n >= NAME_MIN && n <= BOX_VOLUME_NAME_MAX && strchr(first, name[0]) && strspn(name, rest) == n;
}

static int check_name(const char *name, struct err *e)
{
	if (box_volume_name_valid(name))
		return 0;
	err_set(e, -EINVAL, "\"%s\" is no name for a volume", name);
	return err_hint(e, "[a-zA-Z0-9][a-zA-Z0-9_.-]+, at most %d bytes", BOX_VOLUME_NAME_MAX);
}

/* ---- reading ---- */

static int from_row(sqlite3_stmt *s, struct box_volume **ret, struct err *e)
{
	CLEANUP(box_volume_freep) struct box_volume *v = calloc(1, sizeof(*v));
	const char *labels = (const char *)sqlite3_column_text(s, 2),
		   *opts = (const char *)sqlite3_column_text(s, 3);

	if (!v)
		return err_oom(e);
	v->name = state_column_dup(s, 0);
	v->driver = state_column_dup(s, 1);
	v->created_ns = sqlite3_column_int64(s, 4);
	v->anonymous = sqlite3_column_int(s, 5);
	v->users = (size_t)sqlite3_column_int64(s, 6);
	if (!v->name || !v->driver || !labels || !opts)
		return err_oom(e);
	int r = box_config_list(labels, &v->labels);
	if (r == 0)
		r = box_config_list(opts, &v->opts);
	if (r < 0)
		return err_sys(e, r, "record of volume %s", v->name);
	*ret = TAKE_PTR(v);
	return 0;
}

static int collect(struct state *st, sqlite3_stmt *s, struct box_volume ***ret, size_t *ret_n, struct err *e)
{
	struct box_volume **list = NULL;
	size_t n = 0, cap = 0;
	int r;

	while ((r = state_step(st, s, e)) > 0) {
		if (n == cap) {
			cap = cap ? 2 * cap : 16;
			struct box_volume **bigger = reallocarray(list, cap, sizeof(struct box_volume *));
			if (!bigger) {
				r = err_oom(e);
				break;
			}
			list = bigger;
		}
		r = from_row(s, &list[n], e);
		if (r < 0)
			break;
		n++;
	}
	if (r < 0) {
		box_volume_list_free(list, n);
		return r;
	}
	*ret = list;
	*ret_n = n;
	return 0;
}

int box_volume_list(struct state *st, struct box_volume ***ret, size_t *ret_n, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	int r = state_prepare(
		st, &s, e, "SELECT " COLUMNS " FROM volumes WHERE removing=0 ORDER BY name", "");

	return r < 0 ? r : collect(st, s, ret, ret_n, e);
}

static int ambiguous(const char *name, struct box_volume **list, size_t n, struct err *e)
{
	char names[512] = "";
	size_t used = 0;

	for (size_t i = 0; i < n && used < sizeof(names) - 1; i++)
		used += (size_t)snprintf(
			names + used, sizeof(names) - used, "%s%.16s", i ? ", " : "", list[i]->name);
	return err_set(e, -EEXIST, "ambiguous beginning of a volume's name \"%s\": %s", name, names);
}

int box_volume_find(struct state *st, const char *name, struct box_volume **ret, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	struct box_volume **list = NULL;
	size_t n = 0;
	/* An exact name wins over a beginning. */
	int r = state_prepare(st, &s, e,
		"SELECT " COLUMNS " FROM volumes WHERE removing=0 AND"
		" (name=?1 OR (anonymous AND length(?1)>0 AND substr(name,1,length(?1))=?1))"
		" ORDER BY name=?1 DESC LIMIT 10",
		"s", name);

	if (r == 0)
		r = collect(st, s, &list, &n, e);
	if (r < 0)
		return r;
	if (n == 0)
		r = err_set(e, -ENOENT, "no such volume: %s", name);
	else if (n > 1 && strcmp(list[0]->name, name) != 0)
		r = ambiguous(name, list, n, e);
	else
		*ret = TAKE_PTR(list[0]);
	box_volume_list_free(list, n);
	return r;
}

int volume_find_exact(struct state *st, const char *name, struct box_volume **ret, struct err *e)
{
	CLEANUP(box_volume_freep) struct box_volume *v = NULL;
	int r = box_volume_find(st, name, &v, e);

	if (r == -EEXIST || (r == 0 && strcmp(v->name, name) != 0))
		return err_set(e, -ENOENT, "no such volume: %s", name);
	if (r == 0)
		*ret = TAKE_PTR(v);
	return r;
}

int box_volume_users(struct state *st, const char *name, struct strv *ret, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	int r = state_prepare(st, &s, e,
		"SELECT b.name FROM volume_uses u JOIN boxes b ON b.id=u.box WHERE u.volume=?1 ORDER BY "
		"b.name",
		"s", name);

	while (r >= 0 && (r = state_step(st, s, e)) > 0) {
		if (strv_push(ret, (const char *)sqlite3_column_text(s, 0)) < 0)
			return err_oom(e);
	}
	return r;
}

/* ---- what they are made of: --opt ---- */

const char *volume_opt(const struct box_volume *v, const char *key)
{
	return strv_getenv(&v->opts, key);
}

bool volume_is_bind(const struct box_volume *v)
{
	const char *o = volume_opt(v, "o");

	return o && volume_opt(v, "device") && strncmp(o, "bind", 4) == 0;
}

bool volume_is_tmpfs(const struct box_volume *v)
{
	const char *type = volume_opt(v, "type");

	return type && strcmp(type, "tmpfs") == 0;
}

static int check_bind(const struct strv *opts, const char *o, struct err *e)
{
	const char *type = strv_getenv(opts, "type"), *device = strv_getenv(opts, "device");

	if (strcmp(o, "bind") != 0 && strcmp(o, "bind,ro") != 0 && strcmp(o, "bind,rw") != 0)
		return err_set(e, -ENOTSUP, "--opt o=%s: there are bind, bind,ro and bind,rw", o);
	if (type && *type && strcmp(type, "none") != 0 && strcmp(type, "bind") != 0)
		return err_set(e, -EINVAL, "--opt type=%s: it contradicts o=%s", type, o);
	if (!device || device[0] != '/')
		return err_set(e, -EINVAL, "--opt o=%s: it needs device=/FOLDER, an absolute path", o);
	return 0;
}

/* Names only: the values are judged by the kernel that mounts it. */
static int check_tmpfs(const char *o, struct err *e)
{
	static const char *const known[] = {"size=", "nr_blocks=", "nr_inodes=", "mode=", "uid=", "gid="},
				 *const flags[] = {"ro", "rw", "exec", "noexec", "suid", "nosuid", "dev",
					 "nodev", "noatime"};

	for (const char *p = o; p && *p;) {
		size_t len = strcspn(p, ",");
		bool ok = false;
		for (size_t i = 0; i < ARRAY_LEN(known); i++)
			ok |= len > strlen(known[i]) && strncmp(p, known[i], strlen(known[i])) == 0;
		for (size_t i = 0; i < ARRAY_LEN(flags); i++)
			ok |= len == strlen(flags[i]) && strncmp(p, flags[i], len) == 0;
		if (!ok)
			return err_set(
				e, -EINVAL, "--opt o=%s: \"%.*s\" is no option of a tmpfs", o, (int)len, p);
		p += len + (p[len] == ',');
	}
	return 0;
}

static int check_opts(const struct strv *opts, struct err *e)
{
	static const char *const known[] = {"type", "o", "device"};
	const char *type = strv_getenv(opts, "type"), *o = strv_getenv(opts, "o");

	for (size_t i = 0; i < opts->n; i++) {
		size_t len = strcspn(opts->v[i], "=");
		bool ok = false;
		for (size_t k = 0; k < ARRAY_LEN(known); k++)
			ok |= strlen(known[k]) == len && strncmp(known[k], opts->v[i], len) == 0;
		if (!ok || !opts->v[i][len]) {
			err_set(e, -EINVAL, "--opt %s: there is no such option", opts->v[i]);
			return err_hint(e, "there are type=, o= and device=");
		}
	}
	if (opts->n == 0)
		return 0;
	if (type && strcmp(type, "tmpfs") == 0)
		return check_tmpfs(o, e);
	if (o && strncmp(o, "bind", 4) == 0)
		return check_bind(opts, o, e);
	err_set(e, -ENOTSUP, "--opt %s: volumes of this kind are not mounted here", opts->v[0]);
	return err_hint(e, "there are type=none,o=bind,device=/FOLDER and type=tmpfs,device=tmpfs; "
			   "mount others on the host and use their folder");
}

/* ---- its files ---- */

char *box_volume_path(const struct state *st, const struct box_volume *v)
{
	if (volume_is_bind(v))
		return strdup(volume_opt(v, "device"));
	return volume_is_tmpfs(v) ? strdup("") : str_printf("%s/volumes/%s/data", st->home, v->name);
}

uint64_t box_volume_bytes(struct state *st, const struct box_volume *v)
{
	CLEANUP_FREE char *path = str_printf("volumes/%s", v->name);

	return path ? io_tree_bytes_at(st->home_fd, path) : 0;
}

/* ---- removing ---- */

/* Step 2, in a transaction: it is in removing, and nobody's. */
static int retire(struct state *st, const char *name, struct err *e)
{
	int r = volume_folder_retire(st, name);

	if (r < 0)
		return err_sys(e, r, "cannot remove %s/volumes/%s", st->home, name);
	return state_exec(st, e, "DELETE FROM volumes WHERE name=?1 AND removing", "s", name);
}

/* Step 1, in a transaction. */
static int decide(struct state *st, const char *name, const char *driver, struct err *e)
{
	int r = state_exec(st, e, "UPDATE volumes SET removing=1 WHERE name=?1", "s", name);

	return r < 0 ? r : event_add(st, e, "volume", "destroy", name, "driver", driver, NULL);
}

static int in_use(const char *name, const struct strv *users, struct err *e)
{
	char names[200] = "";
	size_t used = 0;

	for (size_t i = 0; i < users->n && i < NAMES_IN_HINT && used < sizeof(names) - 1; i++)
		used += (size_t)snprintf(
			names + used, sizeof(names) - used, "%s%s", i ? ", " : "", users->v[i]);
	err_set(e, -EBUSY, "volume %s is in use by %zu box%s", name, users->n, users->n == 1 ? "" : "es");
	return err_hint(e, "%s%s: remove them first", names, users->n > NAMES_IN_HINT ? ", …" : "");
}

static int decide_if_unused(struct state *st, const char *name, struct err *e)
{
	CLEANUP(box_volume_freep) struct box_volume *v = NULL;
	CLEANUP(strv_done) struct strv users = {0};
	int r = volume_find_exact(st, name, &v, e);

	if (r == 0)
		r = box_volume_users(st, name, &users, e);
	if (r == 0 && users.n)
		r = in_use(name, &users, e);
	return r < 0 ? r : decide(st, name, v->driver, e);
}

/* Steps 2 and 3 of one that was decided on. */
static int finish(struct state *st, const char *name, struct err *e)
{
	int r = state_begin(st, e);

	return r < 0 ? r : state_end(st, retire(st, name, e), e);
}

int box_volume_remove(struct state *st, const char *name, struct err *e)
{
	int r = state_begin(st, e);

	if (r < 0)
		return r;
	r = state_end(st, decide_if_unused(st, name, e), e);
	if (r == 0)
		r = finish(st, name, e);
	if (r < 0)
		return r;
	r = volume_folders_delete(st);
	return r < 0 ? err_sys(e, r, "volume %s is gone, but its files could not be deleted yet", name) : 0;
}

void box_volumes_repair(struct state *st)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	CLEANUP(strv_done) struct strv names = {0};
	struct err e = {0};
	int r = state_prepare(st, &s, &e, "SELECT name FROM volumes WHERE removing", "");

	while (r >= 0 && (r = state_step(st, s, &e)) > 0) {
		if (strv_push(&names, (const char *)sqlite3_column_text(s, 0)) < 0)
			return;
	}
	sqlite3_reset(s);
	for (size_t i = 0; i < names.n; i++) {
		if (finish(st, names.v[i], &e) < 0)
			log_warn("volume %s cannot be removed now: %s", names.v[i], e.msg);
	}
	r = volume_folders_delete(st);
	if (r < 0)
		log_warn("%s/volumes/.gone cannot be deleted now: %s", st->home, strerror(-r));
}

/* ---- creating ---- */

static int insert(struct state *st, const char *name, const struct strv *labels, const struct strv *opts,
	bool anonymous, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	CLEANUP_FREE char *l = box_config_list_text(labels);
	CLEANUP_FREE char *o = box_config_list_text(opts);

	if (!l || !o)
		return err_oom(e);
	int r = state_prepare(st, &s, e, "SELECT count(*) FROM volumes", "");
	if (r == 0)
		r = state_step(st, s, e);
	if (r < 0)
		return r;
	if (sqlite3_column_int64(s, 0) >= BOX_VOLUMES_MAX) {
		err_set(e, -ENOSPC, "there are %d volumes already, which is the most there can be",
			BOX_VOLUMES_MAX);
		return err_hint(e, "see a3s-box volume prune");
	}
	r = state_exec(st, e,
		"INSERT INTO volumes(name,driver,labels,opts,created,anonymous) "
		"VALUES(?1,'local',?2,?3,?4,?5)",
		"sssii", name, l, o, time_real_ns(), (int64_t)anonymous);
	return r < 0 ? r : event_add(st, e, "volume", "create", name, "driver", "local", NULL);
}

/* In a transaction: what is in removing and has the name goes first. 1: it is there; 0: the name is free. */
static int look_up(struct state *st, const char *name, struct box_volume **ret, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	int r = volume_find_exact(st, name, ret, e);

	if (r != -ENOENT)
		return r < 0 ? r : 1;
	r = state_prepare(st, &s, e, "SELECT 1 FROM volumes WHERE name=?1", "s", name);
	if (r == 0)
		r = state_step(st, s, e);
	if (r <= 0)
		return r;
	sqlite3_reset(s);
	return retire(st, name, e);
}

static bool same_list(const struct strv *a, const struct strv *b)
{
	bool same = a->n == b->n;

	for (size_t i = 0; same && i < a->n; i++) {
		bool found = false;
		for (size_t k = 0; k < b->n; k++)
			found |= strcmp(a->v[i], b->v[k]) == 0;
		same = found;
	}
	return same;
}

static int create(struct state *st, const char *name, bool anonymous, const struct strv *labels,
	const struct strv *opts, bool *created, struct err *e)
{
	CLEANUP(box_volume_freep) struct box_volume *v = NULL;
	int r = look_up(st, name, &v, e);

	*created = r == 0;
	if (r == 0)
		return insert(st, name, labels, opts, anonymous, e);
	if (r > 0 && !same_list(&v->opts, opts)) {
		r = err_set(e, -EEXIST, "there is a volume \"%s\" already, with other options", name);
		err_hint(e, "see a3s-box volume inspect %s", name);
	}
	return r < 0 ? r : 0;
}

static char *make_name(void)
{
	char *name = malloc(2 * ID_BYTES + 1);
	uint8_t rnd[ID_BYTES];

	if (!name)
		return NULL;
	io_random(rnd, sizeof(rnd));
	hex_encode(name, rnd, sizeof(rnd));
	return name;
}

static int mark_anonymous(const struct strv *labels, struct strv *ret)
{
	int r = strv_push(ret, ANONYMOUS_LABEL);

	for (size_t i = 0; r == 0 && labels && i < labels->n; i++)
		r = strv_setenv(ret, labels->v[i]);
	return r;
}

int box_volume_create(struct state *st, const char *name, const struct strv *labels, const struct strv *opts,
	struct box_volume **ret, bool *created, struct err *e)
{
	CLEANUP(strv_done) struct strv marked = {0};
	CLEANUP_FREE char *made = name ? NULL : make_name();
	bool is_new = false;
	int r = name ? check_name(name, e) : made && mark_anonymous(labels, &marked) == 0 ? 0 : err_oom(e);

	if (r == 0)
		r = check_opts(opts, e);
	if (r == 0)
		r = state_begin(st, e);
	if (r < 0)
		return r;
	const char *its = name ? name : made;
	r = state_end(st, create(st, its, !name, name ? labels : &marked, opts, &is_new, e), e);
	if (r == 0)
		r = volume_find_exact(st, its, ret, e);
	if (r == 0 && is_new && !volume_is_bind(*ret) && !volume_is_tmpfs(*ret)) {
		CLEANUP_CLOSE int dir = volume_open_folder(st, its, e);
		if (dir < 0) {
			struct err ignored; /* somebody may use it by now: then it stays */
			box_volume_remove(st, its, &ignored);
			box_volume_free(TAKE_PTR(*ret));
			return dir;
		}
	}
	*created = is_new;
	return r;
}

/* ---- for boxes ---- */

/* A volume of type tmpfs is the box's kernel's to make. */
static int to_tmpfs(
	const struct box_volume *v, const struct box_mount *m, struct box_config *c, struct err *e)
{
	const char *o = volume_opt(v, "o");
	bool opts = o && *o;

	if (m->subpath)
		return err_set(e, -EINVAL, "volume %s is a tmpfs, and has no %s", v->name, m->subpath);
	char *entry = str_printf("%s%s%s%s", m->target, opts || m->read_only ? ":" : "", opts ? o : "",
		!m->read_only ? ""
		: opts	      ? ",ro"
			      : "ro");
	return entry && strv_take(&c->tmpfs, entry) == 0 ? 0 : err_oom(e);
}

/* One with options of its own is made now: they decide what the mount is. As with `volume create`, it stays without the box. */
static int make_with_opts(struct state *st, const struct box_mount *m, struct err *e)
{
	CLEANUP(strv_done) struct strv labels = {0};
	bool created;
	int r = check_name(m->source, e);

	if (r == 0)
		r = check_opts(&m->opts, e);
	if (r == 0 &&
		(m->anonymous ? mark_anonymous(&m->labels, &labels) : strv_copy(&labels, &m->labels)) < 0)
		r = err_oom(e);
	if (r == 0)
		r = state_begin(st, e);
	if (r < 0)
		return r;
	r = state_end(st, create(st, m->source, m->anonymous, &labels, &m->opts, &created, e), e);
	return r == -EEXIST ? -EINVAL : r; /* it is not the box's name that is taken */
}

/* 1: it became a tmpfs, and goes. */
static int prepare_one(
	struct state *st, struct box_mount *m, struct box_config *c, struct strv *held, struct err *e)
{
	CLEANUP(box_volume_freep) struct box_volume *v = NULL;
	struct err none;
	int r = 0;

	if (m->type != BOX_MOUNT_VOLUME)
		return 0;
	if (!m->source) {
		m->source = make_name();
		m->anonymous = true;
		r = m->source ? 0 : err_oom(e);
	}
	if (r == 0 && m->opts.n)
		r = make_with_opts(st, m, e);
	if (r < 0 || volume_find_exact(st, m->source, &v, &none) < 0 || !volume_is_tmpfs(v))
		return r;
	r = to_tmpfs(v, m, c, e);
	if (r == 0 && strv_push(held, v->name) < 0)
		r = err_oom(e);
	return r < 0 ? r : 1;
}

int box_volumes_prepare(struct state *st, struct box_config *c, struct strv *held, struct err *e)
{
	size_t kept = 0;
	int r = 0;

	for (size_t i = 0; i < c->n_mounts; i++) { /* behind a failure, the others stay as they are */
		struct box_mount m = c->mounts[i];
		if (r >= 0)
			r = prepare_one(st, &m, c, held, e);
		c->mounts[i] = (struct box_mount){0};
		if (r > 0)
			box_mount_done(&m);
		else
			c->mounts[kept++] = m;
	}
	c->n_mounts = kept;
	return r < 0 ? r : 0;
}

static int hold_one(
	struct state *st, const char *box, const char *name, const struct box_mount *m, struct err *e)
{
	CLEANUP(box_volume_freep) struct box_volume *v = NULL;
	CLEANUP(strv_done) struct strv labels = {0};
	const struct strv none = {0};
	bool anonymous = m && m->anonymous;
	int r = check_name(name, e);

	if (r == 0 && m &&
		(anonymous ? mark_anonymous(&m->labels, &labels) : strv_copy(&labels, &m->labels)) < 0)
		r = err_oom(e);
	if (r == 0)
		r = look_up(st, name, &v, e);
	if (r == 0)
		r = insert(st, name, &labels, &none, anonymous, e);
	if (r < 0)
		return r;
	return state_exec(st, e,
		"INSERT INTO volume_uses(box,volume,own) VALUES(?1,?2,?3)"
		" ON CONFLICT(box,volume) DO UPDATE SET own=own OR excluded.own",
		"ssi", box, name, (int64_t)anonymous);
}

int box_volumes_hold(
	struct state *st, const char *box, const struct box_config *c, const struct strv *held, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < c->n_mounts; i++) {
		const struct box_mount *m = &c->mounts[i];
		if (m->type == BOX_MOUNT_VOLUME)
			r = hold_one(st, box, m->source, m, e);
	}
	for (size_t i = 0; r == 0 && i < held->n; i++)
		r = hold_one(st, box, held->v[i], NULL, e);
	return r;
}

int box_volumes_go(struct state *st, const char *box, bool go, struct err *e)
{
	return state_exec(st, e, "UPDATE volume_uses SET goes=?2 WHERE box=?1 AND own AND goes<>?2", "si",
		box, (int64_t)go);
}

int box_volumes_release(struct state *st, const struct box *b, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	CLEANUP(strv_done) struct strv orphans = {0};
	int r = state_prepare(st, &s, e,
		"SELECT v.name FROM volume_uses u JOIN volumes v ON v.name=u.volume"
		" WHERE u.box=?1 AND u.own AND (u.goes OR ?2) AND v.anonymous AND"
		" NOT EXISTS (SELECT 1 FROM volume_uses o WHERE o.volume=u.volume AND o.box<>?1)",
		"si", b->id, (int64_t)b->config.auto_remove);

	while (r >= 0 && (r = state_step(st, s, e)) > 0) {
		if (strv_push(&orphans, (const char *)sqlite3_column_text(s, 0)) < 0)
			return err_oom(e);
	}
	if (r == 0)
		r = state_exec(st, e, "DELETE FROM volume_uses WHERE box=?1", "s", b->id);
	for (size_t i = 0; r == 0 && i < orphans.n; i++)
		r = decide(st, orphans.v[i], "local", e);
	return r;
}

int box_volumes_event(struct state *st, const struct box *b, const char *action, struct err *e)
{
	bool mount = strcmp(action, "mount") == 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < b->config.n_mounts; i++) {
		const struct box_mount *m = &b->config.mounts[i];
		if (m->type != BOX_MOUNT_VOLUME || !m->source)
			continue;
		r = mount ? event_add(st, e, "volume", action, m->source, "container", b->id, "destination",
				    m->target, "driver", "local", "propagation", "", "read/write",
				    m->read_only ? "false" : "true", NULL)
			  : event_add(st, e, "volume", action, m->source, "container", b->id, "driver",
				    "local", NULL);
	}
	return r;
}
