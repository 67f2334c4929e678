/* SPDX-License-Identifier: MIT */
#include "test-home.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "box/volume.h"
#include "run.h"
#include "test-steps.h"
#include "volume.h"

static const struct strv none;

static bool there(const char *name)
{
	CLEANUP(box_volume_freep) struct box_volume *v = NULL;
	int r = box_volume_find(st, name, &v, &err);

	if (r != -ENOENT)
		expect(r, 0);
	return r == 0;
}

/* Nothing is left to be deleted. */
static bool all_gone(void)
{
	return !exists("volumes", ".gone", NULL) || unlinkat(st->home_fd, "volumes/.gone", AT_REMOVEDIR) == 0;
}

static bool create(const char *name)
{
	CLEANUP(box_volume_freep) struct box_volume *v = NULL;
	bool created = false;

	expect(box_volume_create(st, name, &none, &none, &v, &created, &err), 0);
	assert_string_equal(v->name, name);
	return created;
}

static struct strv list_of(const char *a, const char *b)
{
	struct strv l = {0};

	assert_int_equal(strv_push(&l, a), 0);
	if (b)
		assert_int_equal(strv_push(&l, b), 0);
	return l;
}

/* A box with a mount on each target; volume NULL: an anonymous one. */
static int try_box(struct state *s, const char *name, bool auto_remove, const char *const *volumes, size_t n,
	struct box **ret)
{
	struct box_config c = {
		.vcpus = 1, .mem_bytes = 64 << 20, .auto_remove = auto_remove, .stop_signal = 15};
	int lock = -1;

	assert_int_equal(strv_push(&c.process.argv, "true"), 0);
	assert_non_null(c.network = strdup("bridge"));
	assert_non_null(c.mounts = calloc(n + 1, sizeof(*c.mounts)));
	c.n_mounts = n;
	for (size_t i = 0; i < n; i++) {
		c.mounts[i].type = BOX_MOUNT_VOLUME;
		c.mounts[i].source = str_dup(volumes[i]);
		c.mounts[i].target = str_printf("/m%zu", i);
	}
	int r = box_create(
		s, &image, "image:1", "images/disks/x.img", name, &c, BOX_CREATED, ret, &lock, &err);
	if (r == 0)
		box_unlock(s, (*ret)->id, &lock);
	box_config_done(&c);
	return r;
}

static struct box *make(const char *name, bool auto_remove, const char *a, const char *b, size_t n)
{
	const char *volumes[] = {a, b};
	struct box *box = NULL;

	expect(try_box(st, name, auto_remove, volumes, n, &box), 0);
	return box;
}

static void remove_box(struct box *b)
{
	int lock = -1;

	expect(box_lock(st, b->id, &lock, &err), 0);
	expect(box_remove_locked(st, b->id, &lock, &err), 0);
	box_free(b);
}

static int64_t events(const char *action)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;

	expect(state_prepare(st, &s, &err, "SELECT count(*) FROM events WHERE type='volume' AND action=?1",
		       "s", action),
		0);
	expect(state_step(st, s, &err), 1);
	return sqlite3_column_int64(s, 0);
}

static void test_names(void **state)
{
	char longest[BOX_VOLUME_NAME_MAX + 2];
	static const char *const bad[] = {
		"", "a", ".a", "-a", "_a", "a/b", "..", "a b", "a\n", "\xc3\xa4\xc3\xa4", ".gone"};

	memset(longest, 'a', sizeof(longest));
	longest[BOX_VOLUME_NAME_MAX] = '\0';
	assert_true(box_volume_name_valid(longest));
	assert_true(box_volume_name_valid("0a") && box_volume_name_valid("a.-_Z9"));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(box_volume_name_valid(bad[i]));
	longest[BOX_VOLUME_NAME_MAX] = 'a';
	longest[BOX_VOLUME_NAME_MAX + 1] = '\0';
	assert_false(box_volume_name_valid(longest));
}

static void test_create_and_remove(void **state)
{
	CLEANUP(box_volume_freep) struct box_volume *v = NULL;
	CLEANUP(strv_done) struct strv opts = list_of("type=tmpfs", "device=tmpfs");
	bool created;

	assert_true(create("one"));
	assert_false(create("one"));
	assert_true(exists("volumes", "one", "data"));
	assert_int_equal(box_volume_create(st, "one", &none, &opts, &v, &created, &err), -EEXIST);
	assert_int_equal(
		box_volume_find(st, "on", &v, &err), -ENOENT); /* only anonymous ones have a beginning */
	expect(box_volume_remove(st, "one", &err), 0);
	assert_false(there("one") || exists("volumes", "one", NULL) || !all_gone());
	assert_int_equal(box_volume_remove(st, "one", &err), -ENOENT);
	assert_int_equal(events("create"), 1);
	assert_int_equal(events("destroy"), 1);
}

static void test_anonymous(void **state)
{
	CLEANUP(box_volume_freep) struct box_volume *v = NULL, *w = NULL;
	char beginning[9];
	bool created;

	expect(box_volume_create(st, NULL, &none, &none, &v, &created, &err), 0);
	assert_true(created && v->anonymous && strlen(v->name) == 64);
	assert_string_equal(v->labels.v[0], "com.docker.volume.anonymous=");
	snprintf(beginning, sizeof(beginning), "%s", v->name);
	expect(box_volume_find(st, beginning, &w, &err), 0);
	assert_string_equal(v->name, w->name);
}

static void test_options(void **state)
{
	static const char *const bad[][2] = {{"o=bind", NULL}, {"o=bind,device=/x", NULL},
		{"type=nfs", "o=addr=1"}, {"x=y", NULL}, {"o=bind", "device=relative"},
		{"type=tmpfs", "o=bind"}, {"o=bind,rshared", "device=/x"}, {"type=tmpfs", "o=size="}};
	CLEANUP(strv_done) struct strv good = list_of("o=bind,ro", "device=/etc");
	CLEANUP(box_volume_freep) struct box_volume *v = NULL;
	bool created;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		CLEANUP(strv_done) struct strv opts = list_of(bad[i][0], bad[i][1]);
		int r = box_volume_create(st, "vol", &none, &opts, &v, &created, &err);
		if (r != -EINVAL && r != -ENOTSUP)
			fail_msg("%s: %d", bad[i][0], r);
	}
	assert_int_equal(count_rows("volumes"), 0);
	expect(box_volume_create(st, "vol", &none, &good, &v, &created, &err), 0);
	CLEANUP_FREE char *path = box_volume_path(st, v);
	assert_string_equal(path, "/etc");
	assert_int_equal(box_volume_bytes(st, v), 0);
	assert_false(exists("volumes", "vol", NULL));
	expect(box_volume_remove(st, "vol", &err), 0);
}

/* With the box, and not without it. */
static void test_made_with_box(void **state)
{
	CLEANUP(strv_done) struct strv users = {0};
	struct box *b = make("b1", false, "data", NULL, 2), *other = NULL;
	const char *volumes[] = {"other"};

	assert_string_equal(b->config.mounts[0].source, "data");
	assert_int_equal(strlen(b->config.mounts[1].source), 64);
	assert_true(b->config.mounts[1].anonymous);
	assert_int_equal(count_rows("volumes"), 2);
	assert_int_equal(box_volume_remove(st, "data", &err), -EBUSY);
	assert_non_null(strstr(err.hint, "b1"));
	expect(box_volume_users(st, "data", &users, &err), 0);
	assert_int_equal(users.n, 1);
	/* The name of the box is taken: nothing is made. */
	assert_int_equal(try_box(st, "b1", false, volumes, 1, &other), -EEXIST);
	assert_false(there("other"));
	remove_box(b);
	assert_int_equal(count_rows("volumes"), 2);
	assert_int_equal(count_rows("volume_uses"), 0);
	expect(box_volume_remove(st, "data", &err), 0);
}

static void test_go_with_box(void **state)
{
	struct box *b = make("b1", false, "data", NULL, 2), *c;
	CLEANUP_FREE char *anonymous = strdup(b->config.mounts[1].source);

	/* Another box needs it, too: it stays, and goes with nobody after that. */
	c = make("b2", false, anonymous, NULL, 1);
	expect(box_volumes_go(st, b->id, true, &err), 0);
	remove_box(b);
	assert_true(there(anonymous) && there("data"));
	expect(box_volumes_go(st, c->id, true, &err), 0);
	remove_box(c);
	assert_true(there(anonymous));
	/* --rm */
	b = make("b3", true, "data", NULL, 2);
	free(anonymous);
	anonymous = strdup(b->config.mounts[1].source);
	remove_box(b);
	assert_true(there("data"));
	assert_false(there(anonymous) || exists("volumes", anonymous, NULL));
	/* rm -v, and rm -v that was taken back. */
	b = make("b4", false, NULL, NULL, 1);
	free(anonymous);
	anonymous = strdup(b->config.mounts[0].source);
	expect(box_volumes_go(st, b->id, true, &err), 0);
	expect(box_volumes_go(st, b->id, false, &err), 0);
	remove_box(b);
	assert_true(there(anonymous));
}

static void test_tmpfs(void **state)
{
	CLEANUP(box_volume_freep) struct box_volume *v = NULL;
	CLEANUP(strv_done) struct strv opts = list_of("type=tmpfs", "o=size=1m,mode=1770");
	bool created;

	expect(box_volume_create(st, "mem", &none, &opts, &v, &created, &err), 0);
	struct box *b = make("b1", false, "mem", "data", 2);
	assert_int_equal(b->config.n_mounts, 1);
	assert_string_equal(b->config.mounts[0].source, "data");
	assert_string_equal(b->config.tmpfs.v[0], "/m0:size=1m,mode=1770");
	assert_int_equal(box_volume_remove(st, "mem", &err), -EBUSY);
	remove_box(b);
	expect(box_volume_remove(st, "mem", &err), 0);
}

/* Labels and options of the mount are the volume's if it is new. */
static void test_made_as_the_mount_says(void **state)
{
	CLEANUP(box_volume_freep) struct box_volume *v = NULL, *mem = NULL;
	struct box_config c = {.mounts = calloc(2, sizeof(*c.mounts)), .n_mounts = 2};
	CLEANUP(strv_done) struct strv held = {0};

	for (size_t i = 0; i < 2; i++) {
		c.mounts[i].type = BOX_MOUNT_VOLUME;
		assert_non_null(c.mounts[i].target = str_printf("/m%zu", i));
	}
	assert_non_null(c.mounts[0].source = strdup("vol"));
	c.mounts[0].labels = list_of("a=1", NULL);
	c.mounts[1].opts = list_of("type=tmpfs", NULL); /* anonymous */
	struct box *b = make("b1", false, NULL, NULL, 0);
	expect(box_volumes_prepare(st, &c, &held, &err), 0);
	assert_int_equal(c.n_mounts, 1);
	assert_string_equal(c.tmpfs.v[0], "/m1");
	expect(box_volumes_hold(st, b->id, &c, &held, &err), 0);
	expect(box_volume_find(st, "vol", &v, &err), 0);
	assert_string_equal(v->labels.v[0], "a=1");
	expect(box_volume_find(st, held.v[0], &mem, &err), 0);
	assert_true(mem->anonymous && mem->users == 1);
	/* With options that the one there does not have. */
	c.mounts[0].opts = list_of("o=bind", "device=/etc");
	assert_int_equal(box_volumes_prepare(st, &c, &held, &err), -EINVAL);
	assert_int_equal(c.n_mounts, 1);
	box_config_done(&c);
	remove_box(b);
}

/* ---- what killed processes leave ---- */

static void write_below(const char *path)
{
	CLEANUP_CLOSE int fd = openat(st->home_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
}

static void test_removal_goes_on(void **state)
{
	create("one");
	write_below("volumes/one/data/file");
	expect(state_exec(st, &err, "UPDATE volumes SET removing=1", ""), 0);
	assert_false(there("one"));
	assert_int_equal(box_volume_remove(st, "one", &err), -ENOENT);
	/* Killed behind the rename. */
	assert_int_equal(mkdirat(st->home_fd, "volumes/.gone/ab", 0700), 0);
	write_below("volumes/.gone/ab/file");
	expect(box_reconcile(st, &err), 0);
	assert_int_equal(count_rows("volumes"), 0);
	assert_false(exists("volumes", "one", NULL) || !all_gone());
}

/* The name can be had at once, and nothing of the old one is in the new one. */
static void test_new_one_of_the_name(void **state)
{
	create("one");
	write_below("volumes/one/data/file");
	expect(state_exec(st, &err, "UPDATE volumes SET removing=1", ""), 0);
	struct box *b = make("b1", false, "one", NULL, 1);
	assert_true(there("one"));
	assert_false(exists("volumes", "one", "data/file"));
	expect(box_reconcile(st, &err), 0);
	assert_true(there("one"));
	assert_true(all_gone());
	remove_box(b);
}

/* Somebody is deleting: nobody waits for it, and nobody else does the same. */
static void test_deleting_is_one_process(void **state)
{
	assert_int_equal(mkdirat(st->home_fd, "volumes", 0700), 0);
	assert_int_equal(mkdirat(st->home_fd, "volumes/.gone", 0700), 0);
	assert_int_equal(mkdirat(st->home_fd, "volumes/.gone/ab", 0700), 0);
	int fd = openat(st->home_fd, "volumes/.gone/ab", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	expect(box_reconcile(st, &err), 0);
	assert_true(exists("volumes", ".gone", "ab"));
	close(fd);
	expect(box_reconcile(st, &err), 0);
	assert_true(all_gone());
}

static unsigned at_step;

static void die_there(unsigned step)
{
	if (step == at_step)
		kill(getpid(), SIGKILL);
}

/* Killed at each step of its making: it is there, whole and for good, or not at all. */
static void test_making_goes_on(void **state)
{
	int status = -1;

	for (at_step = 0; !WIFEXITED(status); at_step++) {
		struct stat s = {0};
		pid_t pid = fork();
		if (pid == 0) {
			st = home_reopen();
			steps_watch(die_there);
			create("one");
			_exit(0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		expect(box_reconcile(st, &err), 0);
		assert_false(exists("volumes", "one", NULL) && !there("one"));
		bool whole = exists("volumes", "one", "use");
		steps_watch(NULL);
		create("one");
		int dir = volume_open_folder(st, "one", &err);
		assert_true(dir >= 0);
		assert_int_equal(fstatat(dir, "data", &s, 0), 0);
		assert_int_equal(s.st_mode, S_IFDIR | 0755);
		close(dir);
		assert_true(exists("volumes", "one", "use"));
		if (!whole)
			assert_true(steps_synced(st->home_fd, ".") && steps_synced(st->home_fd, "volumes"));
		expect(box_volume_remove(st, "one", &err), 0);
		assert_true(all_gone());
	}
	assert_true(at_step > 5);
}

enum { STEPS = 20 }; /* more than there are */
static bool was_removed;

static void remove_there(unsigned step)
{
	if (step != at_step)
		return;
	struct state *mine = st;
	pid_t pid = fork();
	int status;
	if (pid == 0) {
		alarm(2); /* while it is in a transaction the others wait */
		st = home_reopen();
		_exit(box_volume_remove(st, "one", &err) < 0);
	}
	st = mine;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	was_removed = WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Removed at each step of its making: there is no folder of one that is not there. */
static void test_removed_while_it_is_made(void **state)
{
	bool any = false;
	int r = 0;

	for (at_step = 0; at_step < STEPS; at_step++) {
		CLEANUP(box_volume_freep) struct box_volume *v = NULL;
		bool created;
		was_removed = false;
		steps_watch(remove_there);
		r = box_volume_create(st, "one", &none, &none, &v, &created, &err);
		steps_watch(NULL);
		any |= was_removed;
		assert_true(was_removed ? r == 0 || r == -ENOENT : r == 0);
		expect(box_reconcile(st, &err), 0);
		assert_int_equal(there("one"), !was_removed);
		assert_int_equal(exists("volumes", "one", NULL), !was_removed);
		if (!was_removed)
			expect(box_volume_remove(st, "one", &err), 0);
		assert_true(all_gone());
	}
	assert_true(any);
}

/* Makes and removes volumes, and boxes that need them, for ever. */
static _Noreturn void churn(unsigned seed)
{
	st = home_reopen();
	for (unsigned i = seed;; i++) {
		CLEANUP(box_volume_freep) struct box_volume *v = NULL;
		const char *volumes[] = {i % 2 ? "va" : "vb", NULL};
		struct box *b = NULL;
		struct err e;
		bool created;
		int lock = -1, r = 0;
		if (i % 3 == 0)
			r = box_volume_create(st, volumes[0], &none, &none, &v, &created, &e);
		else if (i % 3 == 1)
			r = box_volume_remove(st, volumes[0], &e);
		else
			r = try_box(st, NULL, i % 4 != 0, volumes, 2, &b);
		if (b && box_lock(st, b->id, &lock, &e) == 0)
			r = box_remove_locked(st, b->id, &lock, &e);
		box_free(b);
		if (r < 0 && r != -ENOENT && r != -EBUSY)
			_exit(1);
	}
}

static void check_all(void)
{
	struct box_volume **list = NULL;
	size_t n = 0;

	expect(box_reconcile(st, &err), 0);
	assert_true(all_gone());
	expect(box_volume_list(st, &list, &n, &err), 0);
	assert_int_equal(count_rows("volumes"), n); /* none in removing */
	box_volume_list_free(list, n);
	assert_int_equal(count_rows("volume_uses"), 2 * count_rows("boxes"));
}

/* Two at a time, killed after some milliseconds. */
static void test_killed(void **state)
{
	for (unsigned round = 0; round < 60; round++) {
		pid_t pids[2];
		int status;
		for (unsigned i = 0; i < 2; i++) {
			pids[i] = fork();
			assert_true(pids[i] >= 0);
			if (pids[i] == 0)
				churn(round + 7 * i);
		}
		nanosleep(&(struct timespec){.tv_nsec = (long)(round * 7919 % 40) * 1000000}, NULL);
		for (unsigned i = 0; i < 2; i++) {
			assert_int_equal(kill(pids[i], SIGKILL), 0);
			assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
			assert_true(WIFSIGNALED(status)); /* it did not end by itself */
		}
		check_all();
	}
}

/* A box is made while its volume goes: whoever is first, the box has one in the end. */
static void test_use_against_removal(void **state)
{
	static const char *const volumes[] = {"vol"};

	for (unsigned round = 0; round < 30; round++) {
		struct box *b = NULL;
		int status;
		create("vol");
		pid_t pid = fork();
		if (pid == 0) {
			st = home_reopen();
			int r = box_volume_remove(st, "vol", &err);
			_exit(r == 0 ? 0 : r == -EBUSY ? 1 : 2);
		}
		expect(try_box(st, "b1", false, volumes, 1, &b), 0); /* in either order */
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
		assert_true(there("vol"));
		remove_box(b);
	}
}

/* ---- opening ---- */

static void test_open(void **state)
{
	struct box *b = make("b1", false, "vol", NULL, 1);
	struct box_mount m = b->config.mounts[0];
	struct box_volume_files one, two;
	struct stat s;

	m.no_copy = true; /* the disk of this box is none */
	expect(box_volume_open(st, b, &m, &one, &err), 0);
	expect(box_volume_open(st, b, &m, &two, &err), 0); /* by several at once */
	assert_int_equal(fstat(one.data, &s), 0);
	assert_int_equal(s.st_mode, S_IFDIR | 0755);
	assert_false(one.read_only);
	/* Left by one that was killed while it filled. */
	assert_int_equal(mkdirat(st->home_fd, "volumes/vol/fill", 0700), 0);
	write_below("volumes/vol/fill/x");
	struct box_volume_files three;
	expect(box_volume_open(st, b, &m, &three, &err), 0);
	assert_false(exists("volumes", "vol", "fill"));
	/* With an image that cannot be read the start fails; but not where somebody uses it, as then nothing is filled. */
	m.no_copy = false;
	close(three.data), close(three.use);
	expect(box_volume_open(st, b, &m, &three, &err), 0);
	close(one.data), close(one.use), close(two.data), close(two.use), close(three.data), close(three.use);
	assert_true(box_volume_open(st, b, &m, &three, &err) < 0);
	assert_non_null(strstr(err.msg, "vol"));
	remove_box(b);
}

/* A file server that will not let go of the volume's file holds up nobody for ever. */
static void test_held(void **state)
{
	struct box *b = make("b1", false, "vol", NULL, 1);
	struct box_mount m = b->config.mounts[0];
	struct box_volume_files one, two;

	m.no_copy = true;
	expect(box_volume_open(st, b, &m, &one, &err), 0);
	assert_int_equal(flock(one.use, LOCK_EX | LOCK_NB), 0);
	expect(box_volume_open(st, b, &m, &two, &err), -EBUSY);
	assert_non_null(strstr(err.msg, "volume vol is held"));
	assert_int_equal(flock(one.use, LOCK_SH | LOCK_NB), 0);
	expect(box_volume_open(st, b, &m, &two, &err), 0);
	close(one.data), close(one.use), close(two.data), close(two.use);
	remove_box(b);
}

static void test_bytes(void **state)
{
	CLEANUP(box_volume_freep) struct box_volume *v = NULL;
	char block[8192] = {1};

	create("vol");
	expect(box_volume_find(st, "vol", &v, &err), 0);
	uint64_t before = box_volume_bytes(st, v);
	int fd = openat(st->home_fd, "volumes/vol/data/a", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(io_write_full(fd, block, sizeof(block)), 0);
	assert_int_equal(fsync(fd), 0);
	close(fd);
	uint64_t once = box_volume_bytes(st, v);
	assert_true(once >= before + sizeof(block));
	assert_int_equal(linkat(st->home_fd, "volumes/vol/data/a", st->home_fd, "volumes/vol/data/b", 0), 0);
	assert_int_equal(symlinkat("/", st->home_fd, "volumes/vol/data/c"), 0); /* not followed */
	assert_int_equal(box_volume_bytes(st, v), once);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		HOME_TEST(test_names),
		HOME_TEST(test_create_and_remove),
		HOME_TEST(test_anonymous),
		HOME_TEST(test_options),
		HOME_TEST(test_made_with_box),
		HOME_TEST(test_go_with_box),
		HOME_TEST(test_tmpfs),
		HOME_TEST(test_made_as_the_mount_says),
		HOME_TEST(test_removal_goes_on),
		HOME_TEST(test_new_one_of_the_name),
		HOME_TEST(test_deleting_is_one_process),
		HOME_TEST(test_making_goes_on),
		HOME_TEST(test_removed_while_it_is_made),
		HOME_TEST(test_killed),
		HOME_TEST(test_use_against_removal),
		HOME_TEST(test_open),
		HOME_TEST(test_held),
		HOME_TEST(test_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
