/* SPDX-License-Identifier: MIT */
#include "test-home.h"

#include <fcntl.h>
#include <string.h>

#include "state/event.h"

struct state *st;
struct err err;

static char top[128];
static struct oci_store *store;

static char image_id[] = "sha256:1d", image_manifest[] = "sha256:3a";
const struct oci_image image = {.id = image_id, .manifest = image_manifest};

int home_set_up(void **state)
{
	const char *base = getenv("A3S_TEST_DIR");

	snprintf(top, sizeof(top), "%s/test-box-XXXXXX", base ? base : "/tmp");
	err = (struct err){0};
	if (!mkdtemp(top) || setenv("A3S_HOME", top, 1) < 0)
		return -1;
	if (state_open(&st, &err) < 0 || event_init(st, &err) < 0 || box_init(st, &err) < 0 ||
		oci_store_open(st, &store, &err) < 0)
		return -1;
	/* A box refers to an image that the store knows, and to its disk. */
	if (state_exec(st, &err, "INSERT INTO image_disks(chain, size) VALUES('sha256:c4', 0)", "") < 0)
		return -1;
	return state_exec(st, &err,
		"INSERT INTO image_manifests(digest, config, chain, size, created_ns, added_ns, exec)"
		" VALUES(?, ?, 'sha256:c4', 0, 0, 0, '{}')",
		"ss", image.manifest, image.id);
}

int home_tear_down(void **state)
{
	oci_store_close(TAKE_PTR(store));
	state_close(TAKE_PTR(st));
	return io_remove_tree_at(AT_FDCWD, top);
}

struct state *home_reopen(void)
{
	struct state *s = NULL;

	if (state_open(&s, NULL) < 0)
		_exit(100);
	return s;
}

void expect(int r, int want)
{
	if (r != want)
		fail_msg("%d, want %d: %s", r, want, err.msg);
}

static void make_config(struct box_config *c, bool auto_remove)
{
	*c = (struct box_config){
		.vcpus = 1, .mem_bytes = 64 << 20, .auto_remove = auto_remove, .stop_signal = 15};
	assert_int_equal(strv_push(&c->process.argv, "true"), 0);
	assert_non_null(c->network = strdup("bridge"));
}

struct box *make_box(const char *name, bool auto_remove, enum box_state state, int *lock)
{
	struct box_config c;
	struct box *b = NULL;

	make_config(&c, auto_remove);
	expect(box_create(st, &image, "image:1", "images/disks/x.img", name, &c, state, &b, lock, &err), 0);
	assert_int_equal(c.process.argv.n, 0); /* moved in */
	return b;
}

char *make_idle_box(const char *name)
{
	int lock = -1;
	struct box *b = make_box(name, false, BOX_CREATED, &lock);
	char *id = TAKE_PTR(b->id);

	box_unlock(st, id, &lock);
	box_free(b);
	return id;
}

void force_state(const char *id, enum box_state state)
{
	expect(state_exec(st, &err, "UPDATE boxes SET state=?2 WHERE id=?1", "ss", id, box_state_name(state)),
		0);
}

int state_of(const char *id)
{
	CLEANUP(box_freep) struct box *b = NULL;
	int r = box_find(st, id, &b, &err);

	if (r == -ENOENT)
		return -1;
	expect(r, 0);
	return (int)b->state;
}

bool exists(const char *folder, const char *id, const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s%s%s", folder, id, name ? "/" : "", name ? name : "");
	return faccessat(st->home_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int64_t count_rows(const char *table)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	char sql[64];

	snprintf(sql, sizeof(sql), "SELECT count(*) FROM %s", table);
	expect(state_prepare(st, &s, &err, sql, ""), 0);
	expect(state_step(st, s, &err), 1);
	return sqlite3_column_int64(s, 0);
}
