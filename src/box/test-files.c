/* SPDX-License-Identifier: MIT */
/* Connections to a guest that says whatever it likes, and disks at rest. */
#include "test-home.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "box/files.h"
#include "run.h"

/* ---- a guest ---- */

struct guest {
	int listener, lock;
	char *id;
	struct box *box;
	pthread_t thread;
	bool started;
	struct buf says;    /* after the question */
	struct buf at_last; /* when the host has sent this much more */
	size_t after;
	bool stays;	  /* until the host has closed; else it closes after its last word */
	struct buf heard; /* what the host sent after the question */
	uint8_t asked;	  /* type of the question */
};

/* Reads until n bytes are there; false: the host has closed before. */
static bool hear(int fd, struct buf *b, size_t n)
{
	while (b->len < n) {
		uint8_t *room = buf_reserve(b, 4096);
		ssize_t got = recv(fd, room, 4096, 0);
		if (got <= 0)
			return false;
		buf_commit(b, (size_t)got);
	}
	return true;
}

static void say(int fd, const struct buf *b)
{
	if (b->len)
		(void)!send(fd, buf_data(b), b->len, MSG_NOSIGNAL);
}

static void *guest_main(void *data)
{
	struct guest *g = data;
	CLEANUP(buf_done) struct buf in = {0};
	static const char connect_line[] = "CONNECT 4089\n", ok[] = "OK 4089\n";
	struct wire_frame f;
	CLEANUP_CLOSE int fd = accept(g->listener, NULL, NULL);

	if (fd < 0 || !hear(fd, &in, strlen(connect_line)) ||
		memcmp(buf_data(&in), connect_line, strlen(connect_line)) != 0)
		return NULL;
	buf_consume(&in, strlen(connect_line));
	(void)!send(fd, ok, strlen(ok), MSG_NOSIGNAL);
	while (wire_next(&in, &f) == 0 && hear(fd, &in, in.len + 1))
		;
	if (wire_next(&in, &f) <= 0)
		return NULL;
	g->asked = f.type;
	wire_consume(&in, &f);
	say(fd, &g->says);
	buf_append(&g->heard, buf_data(&in), in.len);
	if (g->after && hear(fd, &g->heard, g->after))
		say(fd, &g->at_last);
	while (g->stays && hear(fd, &g->heard, g->heard.len + 1))
		;
	return NULL;
}

static void guest_new(struct guest *g)
{
	*g = (struct guest){.lock = -1};
	g->box = make_box("b", false, BOX_STARTING, &g->lock);
	g->id = g->box->id;
	force_state(g->id, BOX_RUNNING);
	CLEANUP_CLOSE int dir = box_open_run_dir(st, g->id, true, &err);
	CLEANUP_CLOSE int vsock = io_open_dir_at(dir, RUN_VSOCK_DIR, true);
	assert_true(vsock >= 0);
	g->listener = unix_listen_at(dir, RUN_VSOCK_SOCKET);
	assert_true(g->listener >= 0);
	io_set_nonblock(g->listener, false);
}

/* It answers the second FREEZE. */
static void guest_is_still(struct guest *g)
{
	g->after = WIRE_HEADER_SIZE;
	wire_put(&g->at_last, WIRE_DONE, NULL, 0);
	g->stays = true;
}

static void guest_start(struct guest *g)
{
	assert_int_equal(pthread_create(&g->thread, NULL, guest_main, g), 0);
	g->started = true;
}

static void guest_join(struct guest *g)
{
	if (g->started)
		pthread_join(g->thread, NULL);
	g->started = false;
}

static void guest_end(struct guest *g)
{
	guest_join(g);
	close_fd(&g->listener);
	force_state(g->id, BOX_EXITED);
	/* The name is free for the next guest. */
	expect(state_exec(st, &err, "UPDATE boxes SET name=id WHERE id=?1", "s", g->id), 0);
	box_unlock(st, g->id, &g->lock);
	buf_done(&g->says);
	buf_done(&g->at_last);
	buf_done(&g->heard);
	box_free(g->box);
}

/* ---- copies ---- */

struct seen {
	char names[256];
	uint64_t bytes;
	bool ended;
	int fails; /* with this */
};

static int on_entry(void *data, const struct wire_entry *en, struct err *e)
{
	struct seen *s = data;

	snprintf(s->names + strlen(s->names), sizeof(s->names) - strlen(s->names), "%s,", en->path);
	return s->fails ? err_set(e, s->fails, "the sink's own words") : 0;
}

static int on_content(void *data, uint64_t offset, const void *bytes, size_t len, struct err *e)
{
	struct seen *s = data;

	s->bytes += len;
	return 0;
}

static int on_end(void *data, struct err *e)
{
	struct seen *s = data;

	s->ended = true;
	return 0;
}

static struct tree_sink sink_of(struct seen *s)
{
	return (struct tree_sink){on_entry, on_content, on_end, s};
}

static char root_path[] = "", file_path[] = "f";
static struct wire_entry folder = {.path = root_path, .mode = S_IFDIR | 0755};
static struct wire_entry file = {.path = file_path, .mode = S_IFREG | 0644, .size = 4};

static int write_tree(void *data, const struct tree_sink *to, struct err *e)
{
	int *fails = data;
	int r = to->entry(to->data, &folder, e);

	if (*fails)
		return err_set(e, *fails, "the source's own words");
	if (r == 0)
		r = to->entry(to->data, &file, e);
	if (r == 0)
		r = to->content(to->data, 0, "data", 4, e);
	return r == 0 ? to->end(to->data, e) : r;
}

static struct wire_copy what(void)
{
	static char path[] = "/x";

	return (struct wire_copy){.path = path};
}

static int read_from(struct guest *g, struct seen *s)
{
	CLEANUP(box_files_freep) struct box_files *f = NULL;
	struct tree_sink to = sink_of(s);
	struct wire_copy c = what();

	expect(box_files_open(st, g->box, &f, &err), 0);
	guest_start(g);
	int r = box_files_read(f, &c, &to, &err);
	expect(box_files_close(f, NULL), 0);
	return r;
}

static int write_to(struct guest *g, int fails)
{
	CLEANUP(box_files_freep) struct box_files *f = NULL;
	struct wire_copy c = what();

	expect(box_files_open(st, g->box, &f, &err), 0);
	guest_start(g);
	return box_files_write(f, &c, write_tree, &fails, &err);
}

static void put_tree(struct buf *b)
{
	assert_int_equal(wire_put_entry(b, &folder), 0);
	assert_int_equal(wire_put_entry(b, &file), 0);
	assert_int_equal(wire_put_content(b, 0, "data", 4), 0);
	assert_int_equal(wire_put(b, WIRE_TREE_END, NULL, 0), 0);
}

static void a_tree_is_read(void **state)
{
	struct seen s = {0};
	struct guest g;

	guest_new(&g);
	wire_put(&g.says, WIRE_DONE, NULL, 0);
	put_tree(&g.says);
	expect(read_from(&g, &s), 0);
	guest_end(&g);
	assert_int_equal(g.asked, WIRE_COPY_OUT);
	assert_string_equal(s.names, ",f,");
	assert_int_equal(s.bytes, 4);
	assert_true(s.ended);
}

static void a_tree_is_written(void **state)
{
	struct guest g;

	guest_new(&g);
	wire_put(&g.says, WIRE_DONE, NULL, 0);
	CLEANUP(buf_done) struct buf tree = {0};
	put_tree(&tree);
	g.after = tree.len;
	wire_put(&g.at_last, WIRE_DONE, NULL, 0);
	expect(write_to(&g, 0), 0);
	guest_join(&g);
	assert_int_equal(g.asked, WIRE_COPY_IN);
	assert_int_equal(g.heard.len, tree.len);
	assert_memory_equal(buf_data(&g.heard), buf_data(&tree), tree.len);
	guest_end(&g);
}

static void the_guests_reason_is_told(void **state)
{
	static const struct {
		uint32_t status;
		int code;
	} cases[] = {{ENOENT, -ENOENT}, {ENOSPC, -ENOSPC}, {0, -EIO}, {256, -EBADMSG}};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct seen s = {0};
		struct guest g;
		home_tear_down(state);
		home_set_up(state);
		guest_new(&g);
		wire_put_fail(&g.says, cases[i].status, "the guest's words");
		expect(read_from(&g, &s), cases[i].code);
		if (cases[i].code != -EBADMSG)
			assert_string_equal(err.msg, "the guest's words");
		guest_end(&g);
	}
}

static void a_late_reason_is_told_as_well(void **state)
{
	struct guest g;

	guest_new(&g);
	wire_put(&g.says, WIRE_DONE, NULL, 0);
	wire_put_fail(&g.says, ENOSPC, "full");
	expect(write_to(&g, 0), -ENOSPC);
	assert_string_equal(err.msg, "full");
	guest_end(&g);
}

static void a_guest_that_goes_is_noticed(void **state)
{
	struct seen s = {0};
	struct guest g;

	guest_new(&g);
	wire_put(&g.says, WIRE_DONE, NULL, 0);
	assert_int_equal(wire_put_entry(&g.says, &folder), 0);
	assert_true(read_from(&g, &s) < 0);
	assert_false(s.ended);
	guest_end(&g);
}

static void nonsense_is_no_answer(void **state)
{
	struct seen s = {0};
	struct guest g;

	guest_new(&g);
	wire_put_u32(&g.says, WIRE_STARTED, 1);
	expect(read_from(&g, &s), -EBADMSG);
	guest_end(&g);
}

static void a_failing_end_of_ours_is_told(void **state)
{
	struct seen s = {.fails = -ENOSPC};
	struct guest g;

	guest_new(&g);
	wire_put(&g.says, WIRE_DONE, NULL, 0);
	put_tree(&g.says);
	expect(read_from(&g, &s), -ENOSPC);
	assert_string_equal(err.msg, "the sink's own words");
	guest_end(&g);
	home_tear_down(state);
	home_set_up(state);
	guest_new(&g);
	wire_put(&g.says, WIRE_DONE, NULL, 0);
	g.stays = true;
	expect(write_to(&g, -EACCES), -EACCES);
	assert_string_equal(err.msg, "the source's own words");
	guest_end(&g);
}

/* ---- states ---- */

static void states_that_are_refused(void **state)
{
	static const enum box_state states[] = {BOX_PAUSED, BOX_RESTARTING, BOX_REMOVING, BOX_DEAD};
	CLEANUP_FREE char *id = make_idle_box("b");
	CLEANUP(box_freep) struct box *b = NULL;

	expect(box_find(st, id, &b, &err), 0);
	for (size_t i = 0; i < ARRAY_LEN(states); i++) {
		struct box_files *f = NULL;
		struct box_disk d;
		force_state(id, states[i]);
		expect(box_files_open(st, b, &f, &err), -EBUSY);
		assert_null(f);
		expect(box_disk_hold(st, b, false, &d, &err), -EBUSY);
		assert_int_equal(d.fd, -1);
	}
	force_state(id, BOX_CREATED);
	int lock = -1;
	expect(box_lock(st, id, &lock, &err), 0);
	struct box_disk d;
	expect(box_disk_hold(st, b, false, &d, &err), -EBUSY);
	assert_string_equal(err.msg, "box b is in use by another command");
	assert_true(err.hint[0]);
	box_unlock(st, id, &lock);
}

/* ---- disks ---- */

static void put_scratch(const char *id, const uint8_t *data, size_t len)
{
	CLEANUP_CLOSE int dir = box_open_box_dir(st, id, true, &err);

	assert_true(dir >= 0);
	assert_int_equal(io_write_file_at(dir, "scratch.img", data, len, 0600), 0);
}

/* As much of an ext4 superblock as is looked at. */
static void make_disk(uint8_t disk[static 4096], bool dirty)
{
	memset(disk, 0, 4096);
	disk[1024 + 0x38] = 0x53;
	disk[1024 + 0x39] = 0xef;
	disk[1024 + 0x60] = (uint8_t)(0x42 | (dirty ? 4 : 0));
	disk[4095] = 77;
}

static void a_disk_at_rest(void **state)
{
	CLEANUP_FREE char *id = make_idle_box("b");
	CLEANUP(box_freep) struct box *b = NULL;
	uint8_t disk[4096], back[4096];
	struct box_disk d;
	bool any = true;
	int lock = -1;

	expect(box_find(st, id, &b, &err), 0);
	FILE *copy = tmpfile();
	assert_non_null(copy);
	expect(box_disk_hold(st, b, false, &d, &err), 0);
	assert_int_equal(d.fd, -1);
	expect(box_lock(st, id, &lock, &err), -EBUSY);
	box_disk_release(st, &d);
	assert_false(exists("run", id, NULL));
	expect(box_disk_copy(st, b, fileno(copy), &any, &err), 0);
	assert_false(any);

	make_disk(disk, false);
	put_scratch(id, disk, sizeof(disk));
	expect(box_disk_hold(st, b, false, &d, &err), 0);
	assert_int_equal(pread(d.fd, back, sizeof(back), 0), sizeof(back));
	assert_memory_equal(back, disk, sizeof(disk));
	assert_int_equal(pwrite(d.fd, back, 1, 0), -1);
	box_disk_release(st, &d);
	expect(box_disk_copy(st, b, fileno(copy), &any, &err), 0);
	assert_true(any);
	assert_int_equal(pread(fileno(copy), back, sizeof(back), 0), sizeof(back));
	assert_memory_equal(back, disk, sizeof(disk));
	assert_false(exists("run", id, NULL));
	fclose(copy);
}

static void a_damaged_disk_is_no_disk(void **state)
{
	CLEANUP_FREE char *id = make_idle_box("b");
	CLEANUP(box_freep) struct box *b = NULL;
	uint8_t disk[4096] = {0};
	struct box_disk d;

	expect(box_find(st, id, &b, &err), 0);
	put_scratch(id, disk, sizeof(disk));
	expect(box_disk_hold(st, b, false, &d, &err), -EUCLEAN);
	put_scratch(id, disk, 100);
	expect(box_disk_hold(st, b, false, &d, &err), -EIO);
	assert_int_equal(d.fd, -1);
	assert_false(exists("run", id, NULL));
}

static void a_disk_is_copied_while_its_guest_keeps_it_still(void **state)
{
	struct guest g;
	struct box_disk d;
	uint8_t disk[4096], back[4096];

	guest_new(&g);
	make_disk(disk, false);
	put_scratch(g.id, disk, sizeof(disk));
	wire_put(&g.says, WIRE_DONE, NULL, 0);
	guest_is_still(&g);
	guest_start(&g);
	expect(box_disk_hold(st, g.box, false, &d, &err), 0);
	assert_int_equal(d.lock, -1);
	assert_int_equal(pread(d.fd, back, sizeof(back), 0), sizeof(back));
	assert_memory_equal(back, disk, sizeof(disk));
	box_disk_release(st, &d);
	guest_join(&g); /* ends because the host closed */
	assert_int_equal(g.asked, WIRE_FREEZE);
	assert_int_equal(g.heard.len, WIRE_HEADER_SIZE);
	guest_end(&g);
}

/* It thawed, and closed at the end of the copy or after that, or says that it could not keep the disk still. */
static void a_copy_of_a_disk_that_was_not_still_is_none(void **state)
{
	static const char *const why[] = {"the box was stopped, or it took longer than 60 s",
		"the box was stopped, or it took longer than 60 s", "somebody thawed it"};

	for (size_t i = 0; i < ARRAY_LEN(why); i++) {
		struct guest g;
		struct box_disk d;
		uint8_t disk[4096];

		guest_new(&g);
		make_disk(disk, false);
		put_scratch(g.id, disk, sizeof(disk));
		wire_put(&g.says, WIRE_DONE, NULL, 0);
		g.after = i == 0 ? 0 : WIRE_HEADER_SIZE;
		if (i == 2)
			wire_put_fail(&g.at_last, ECANCELED, "somebody thawed it");
		guest_start(&g);
		assert_true(box_disk_hold(st, g.box, false, &d, &err) < 0);
		assert_non_null(strstr(err.msg, "box b changed while it was read"));
		assert_non_null(strstr(err.msg, why[i]));
		guest_end(&g);
	}
}

static void read_in_place(bool patient)
{
	struct guest g;
	struct box_disk d;
	uint8_t disk[4096], back[4096];

	guest_new(&g);
	make_disk(disk, false);
	put_scratch(g.id, disk, sizeof(disk));
	wire_put(&g.says, WIRE_DONE, NULL, 0);
	if (patient)
		guest_is_still(&g);
	guest_start(&g);
	expect(box_disk_hold(st, g.box, true, &d, &err), 0);
	assert_int_equal(d.lock, -1);
	assert_int_equal(pread(d.fd, back, sizeof(back), 0), sizeof(back));
	assert_memory_equal(back, disk, sizeof(disk));
	assert_int_equal(pwrite(d.fd, back, 1, 0), -1);
	if (!patient)
		guest_join(&g); /* it has closed */
	assert_int_equal(box_disk_still(&d), patient);
	box_disk_release(st, &d);
	guest_end(&g); /* ends because the host closed */
}

static void a_disk_is_read_in_place(void **state)
{
	read_in_place(true);
}

static void a_disk_that_is_let_go_was_not_still(void **state)
{
	read_in_place(false);
}

static void a_guest_that_does_not_freeze(void **state)
{
	struct guest g;
	struct box_disk d;
	uint8_t disk[4096];

	guest_new(&g);
	make_disk(disk, false);
	put_scratch(g.id, disk, sizeof(disk));
	wire_put_fail(&g.says, EBUSY, "already frozen");
	guest_start(&g);
	expect(box_disk_hold(st, g.box, false, &d, &err), -EBUSY);
	assert_int_equal(d.fd, -1);
	guest_end(&g);
}

static void targets_of_mounts(void **state)
{
	struct box b = {0};
	char a[] = "/a", c[] = "/c";
	struct box_mount mounts[2] = {{.target = a}, {.target = c}};
	CLEANUP(strv_done) struct strv got = {0};

	b.config.mounts = mounts;
	b.config.n_mounts = 2;
	strv_push(&b.config.tmpfs, "/t");
	strv_push(&b.config.tmpfs, "/u:size=1m,mode=700");
	expect(box_mount_targets(&b, &got, &err), 0);
	assert_int_equal(got.n, 4);
	assert_string_equal(got.v[0], "/a");
	assert_string_equal(got.v[1], "/c");
	assert_string_equal(got.v[2], "/t");
	assert_string_equal(got.v[3], "/u");
	strv_done(&b.config.tmpfs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		HOME_TEST(a_tree_is_read),
		HOME_TEST(a_tree_is_written),
		HOME_TEST(the_guests_reason_is_told),
		HOME_TEST(a_late_reason_is_told_as_well),
		HOME_TEST(a_guest_that_goes_is_noticed),
		HOME_TEST(nonsense_is_no_answer),
		HOME_TEST(a_failing_end_of_ours_is_told),
		HOME_TEST(states_that_are_refused),
		HOME_TEST(a_disk_at_rest),
		HOME_TEST(a_damaged_disk_is_no_disk),
		HOME_TEST(a_disk_is_copied_while_its_guest_keeps_it_still),
		HOME_TEST(a_copy_of_a_disk_that_was_not_still_is_none),
		HOME_TEST(a_disk_is_read_in_place),
		HOME_TEST(a_disk_that_is_let_go_was_not_still),
		HOME_TEST(a_guest_that_does_not_freeze),
		HOME_TEST(targets_of_mounts),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
