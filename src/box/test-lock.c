/* SPDX-License-Identifier: MIT */
/* Who owns a box, and what is done about boxes whose owner died. */
#include "test-home.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { NOBODY = 65534 };

/* ---- the lock ---- */

static void a_second_locker_is_refused(void **state)
{
	char *id = make_idle_box("b");
	int first = -1, second = -1;

	expect(box_lock(st, id, &first, &err), 0);
	expect(box_lock(st, id, &second, &err), -EBUSY);
	assert_int_equal(second, -1);
	box_unlock(st, id, &first);
	expect(box_lock(st, id, &second, &err), 0);
	box_unlock(st, id, &second);
	assert_false(exists("run", id, NULL));
	free(id);
}

static void unlocking_removes_all_of_the_run_folder(void **state)
{
	char *id = make_idle_box("b"), path[128];
	int lock = -1;

	expect(box_lock(st, id, &lock, &err), 0);
	snprintf(path, sizeof(path), "run/%s/vsock.sock_4088", id);
	assert_int_equal(mknodat(st->home_fd, path, S_IFSOCK | 0600, 0), 0);
	snprintf(path, sizeof(path), "run/%s/ctl.sock", id);
	assert_int_equal(mknodat(st->home_fd, path, S_IFSOCK | 0600, 0), 0);
	box_unlock(st, id, &lock);
	assert_false(exists("run", id, NULL));
	free(id);
}

/* A child that takes the lock (or fails) and holds it until killed. */
static pid_t hold_in_child(const char *id)
{
	int fds[2];
	char ok = 0;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		int lock = -1;
		ok = box_lock(home_reopen(), id, &lock, NULL) == 0;
		if (write(fds[1], &ok, 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], &ok, 1), 1);
	close(fds[0]);
	assert_true(ok);
	return pid;
}

static void kill_and_wait(pid_t pid)
{
	int status;
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void the_death_of_the_holder_releases_the_lock(void **state)
{
	char *id = make_idle_box("b");
	int lock = -1;
	pid_t pid = hold_in_child(id);

	expect(box_lock(st, id, &lock, &err), -EBUSY);
	kill_and_wait(pid);
	expect(box_lock(st, id, &lock, &err), 0);
	box_unlock(st, id, &lock);
	free(id);
}

static void a_lock_passes_to_whoever_inherits_it(void **state)
{
	char *id = make_idle_box("b");
	int lock = -1, other = -1, fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	expect(box_lock(st, id, &lock, &err), 0);
	pid_t pid = fork();
	if (pid == 0) {
		char c;
		close(fds[1]);
		_exit(read(fds[0], &c, 1) < 0); /* ends when told to */
	}
	close(fds[0]);
	close_fd(&lock); /* not box_unlock: the folder stays */
	expect(box_lock(st, id, &other, &err), -EBUSY);
	close(fds[1]);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	expect(box_lock(st, id, &other, &err), 0);
	box_unlock(st, id, &other);
	free(id);
}

/*
 * Several processes take and give up the same lock as fast as they can, so that its file is replaced all the time. A
 * byte in shared memory tells whether two ever hold it at once.
 */
static void never_do_two_hold_the_lock_however_often_its_file_is_replaced(void **state)
{
	enum { PROCS = 4, ROUNDS = 1500 };
	struct shared {
		int holders, collisions, taken, torn;
	} *s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *id = make_idle_box("b");
	pid_t pids[PROCS];
	int status;

	assert_ptr_not_equal(s, MAP_FAILED);
	for (int p = 0; p < PROCS; p++) {
		pids[p] = fork();
		if (pids[p] == 0) {
			struct state *own = home_reopen();
			for (int i = 0; i < ROUNDS; i++) {
				int lock = -1;
				if (box_lock(own, id, &lock, NULL) < 0)
					continue;
				if (__atomic_fetch_add(&s->holders, 1, __ATOMIC_SEQ_CST) != 0)
					__atomic_fetch_add(&s->collisions, 1, __ATOMIC_SEQ_CST);
				char path[128];
				struct stat ours, there;
				snprintf(path, sizeof(path), "run/%s/lock", id);
				if (fstat(lock, &ours) < 0 || fstatat(own->home_fd, path, &there, 0) < 0 ||
					ours.st_ino != there.st_ino)
					__atomic_fetch_add(&s->torn, 1,
						__ATOMIC_SEQ_CST); /* somebody removed what we hold */
				__atomic_fetch_add(&s->taken, 1, __ATOMIC_SEQ_CST);
				__atomic_fetch_sub(&s->holders, 1, __ATOMIC_SEQ_CST);
				box_unlock(own, id, &lock);
			}
			_exit(0);
		}
	}
	for (int p = 0; p < PROCS; p++) {
		assert_int_equal(waitpid(pids[p], &status, 0), pids[p]);
		assert_int_equal(status, 0);
	}
	assert_int_equal(s->collisions, 0);
	assert_int_equal(s->torn, 0);
	assert_true(s->taken > PROCS);
	munmap(s, 4096);
	free(id);
}

/* `ps` in one window must not make `start` or `rm` in another fail. */
static void looking_for_dead_owners_does_not_disturb_the_living(void **state)
{
	enum { ROUNDS = 1500 };
	char *id = make_idle_box("b");
	int refused = 0, status;
	pid_t pids[2];

	for (int p = 0; p < 2; p++) {
		pids[p] = fork();
		if (pids[p] == 0) {
			struct state *own = home_reopen();
			for (;;) {
				if (box_reconcile(own, NULL) < 0)
					_exit(1);
			}
		}
	}
	for (int i = 0; i < ROUNDS; i++) {
		int lock = -1;
		refused += box_lock(st, id, &lock, &err) == -EBUSY;
		if (lock >= 0)
			box_unlock(st, id, &lock);
	}
	for (int p = 0; p < 2; p++) {
		assert_int_equal(kill(pids[p], SIGKILL), 0);
		assert_int_equal(waitpid(pids[p], &status, 0), pids[p]);
		assert_true(WIFSIGNALED(status)); /* it did not fail before */
	}
	assert_int_equal(refused, 0);
	free(id);
}

static void creating_is_not_disturbed_by_looking_for_dead_owners(void **state)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct state *own = home_reopen();
		for (;;) {
			if (box_reconcile(own, NULL) < 0)
				_exit(1);
		}
	}
	for (int i = 0; i < 150; i++) {
		char *id = make_idle_box(NULL);
		assert_true(exists("boxes", id, NULL));
		free(id);
	}
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(count_rows("boxes"), 150);
}

/* ---- reconciling ---- */

/* A box in a state, whose owner holds its lock and is killed (or not). Returns its ID. */
static char *orphan(enum box_state box_state, bool auto_remove, pid_t *alive)
{
	int lock = -1;
	struct box *b = make_box(NULL, auto_remove, BOX_CREATED, &lock);
	char *id = TAKE_PTR(b->id);

	box_free(b);
	box_unlock(st, id, &lock);
	force_state(id, box_state);
	pid_t pid = hold_in_child(id);
	if (alive)
		*alive = pid;
	else
		kill_and_wait(pid);
	assert_true(exists("run", id, "lock"));
	return id;
}

static const struct {
	enum box_state was;
	bool auto_remove;
	int becomes;
} repairs[] = {{BOX_CREATED, false, BOX_CREATED}, {BOX_CREATED, true, BOX_CREATED},
	{BOX_STARTING, false, BOX_CREATED}, {BOX_STARTING, true, -1}, {BOX_RUNNING, false, BOX_EXITED},
	{BOX_RUNNING, true, -1}, {BOX_PAUSED, false, BOX_EXITED}, {BOX_PAUSED, true, -1},
	{BOX_RESTARTING, false, BOX_EXITED}, {BOX_RESTARTING, true, -1}, {BOX_DEAD, false, BOX_DEAD},
	{BOX_STOPPING, false, BOX_EXITED}, {BOX_STOPPING, true, -1}, {BOX_EXITED, false, BOX_EXITED},
	{BOX_EXITED, true, BOX_EXITED}, {BOX_REMOVING, false, -1}, {BOX_REMOVING, true, -1}};

static void boxes_of_dead_owners_are_repaired_from_every_state(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(repairs); i++) {
		char *id = orphan(repairs[i].was, repairs[i].auto_remove, NULL);
		expect(box_reconcile(st, &err), 0);
		if (state_of(id) != repairs[i].becomes)
			fail_msg("%s%s: became %d", box_state_name(repairs[i].was),
				repairs[i].auto_remove ? " --rm" : "", state_of(id));
		assert_false(exists("run", id, NULL));
		assert_int_equal(exists("boxes", id, NULL), repairs[i].becomes >= 0);
		if (repairs[i].becomes == BOX_EXITED && repairs[i].was != BOX_EXITED) {
			CLEANUP(box_freep) struct box *b = NULL;
			expect(box_find(st, id, &b, &err), 0);
			assert_int_equal(b->exit_code, 137);
			assert_non_null(b->error);
			assert_true(b->finished_ns > 0);
		}
		free(id);
	}
	assert_int_equal(count_rows("image_refs"), count_rows("boxes"));
}

static void boxes_of_living_owners_are_left_alone(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(repairs); i++) {
		pid_t pid;
		char *id = orphan(repairs[i].was, repairs[i].auto_remove, &pid);
		expect(box_reconcile(st, &err), 0);
		assert_int_equal(state_of(id), (int)repairs[i].was);
		assert_true(exists("run", id, "lock"));
		kill_and_wait(pid);
		expect(box_reconcile(st, &err), 0);
		assert_int_equal(state_of(id), repairs[i].becomes);
		free(id);
	}
}

static void a_live_record_without_a_run_folder_is_repaired_too(void **state)
{
	char *id = make_idle_box("b");

	force_state(id, BOX_RUNNING); /* the host was switched off, and run/ is gone */
	expect(box_reconcile(st, &err), 0);
	assert_int_equal(state_of(id), BOX_EXITED);
	assert_false(exists("run", id, NULL));
	free(id);
}

static void folders_that_no_record_knows_are_removed(void **state)
{
	char *id = orphan(BOX_CREATED, false, NULL);

	expect(state_exec(st, &err, "DELETE FROM boxes", ""), 0); /* creation was cut off before its record */
	expect(box_reconcile(st, &err), 0);
	assert_false(exists("run", id, NULL));
	assert_false(exists("boxes", id, NULL));
	free(id);
}

static void what_is_no_box_in_the_run_folder_is_left_alone(void **state)
{
	free(make_idle_box("b"));
	assert_true(mkdirat(st->home_fd, "run", 0700) == 0 || errno == EEXIST);
	assert_int_equal(mkdirat(st->home_fd, "run/net0", 0700), 0);
	assert_int_equal(mkdirat(st->home_fd, "run/0123456789abcdef", 0700), 0);
	expect(box_reconcile(st, &err), 0);
	assert_true(exists("run", "net0", NULL));
	assert_true(exists("run", "0123456789abcdef", NULL));
}

static void an_empty_home_needs_no_repair(void **state)
{
	expect(box_reconcile(st, &err), 0);
	assert_false(exists("run", "", NULL));
}

/* As a user who may not remove what lies in one box's folder. */
static void a_box_that_cannot_be_repaired_does_not_keep_others_from_it(void **state)
{
	int status;

	if (geteuid() != 0)
		skip();
	char *bad = orphan(BOX_REMOVING, false, NULL), *good[2], path[256];
	for (int i = 0; i < 2; i++)
		good[i] = orphan(BOX_REMOVING, false, NULL);
	snprintf(path, sizeof(path), "%s/boxes/%s/theirs", st->home, bad);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(io_write_file_at(AT_FDCWD, strcat(path, "/x"), "", 0, 0600), 0);
	char cmd[512];
	snprintf(cmd, sizeof(cmd), "chown -R %d '%s' && chown -R 0 '%s/boxes/%s/theirs'", NOBODY, st->home,
		st->home, bad);
	assert_int_equal(system(cmd), 0);
	pid_t pid = fork();
	if (pid == 0) {
		int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
		if (dup2(quiet, STDERR_FILENO) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0)
			_exit(1);
		_exit(box_reconcile(home_reopen(), NULL) < 0 ? 2 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	snprintf(cmd, sizeof(cmd), "chown -R 0 '%s'", st->home);
	assert_int_equal(system(cmd), 0);
	assert_int_equal(status, 0);
	assert_int_equal(state_of(bad), BOX_DEAD);
	for (int i = 0; i < 2; i++)
		assert_int_equal(state_of(good[i]), -1);
	expect(box_reconcile(st, &err), 0);
	assert_int_equal(state_of(bad), BOX_DEAD); /* nobody tries again unasked */
	int lock = -1;
	expect(box_lock(st, bad, &lock, &err), 0);
	expect(box_remove_locked(st, bad, &lock, &err), 0);
	assert_int_equal(state_of(bad), -1);
	free(bad);
	free(good[0]);
	free(good[1]);
}

static void several_repair_at_once_and_agree(void **state)
{
	enum { PROCS = 4 };
	char *ids[ARRAY_LEN(repairs)];
	pid_t pids[PROCS];
	int status;

	for (size_t i = 0; i < ARRAY_LEN(repairs); i++)
		ids[i] = orphan(repairs[i].was, repairs[i].auto_remove, NULL);
	for (int p = 0; p < PROCS; p++) {
		pids[p] = fork();
		if (pids[p] == 0) {
			struct err e = {0};
			if (box_reconcile(home_reopen(), &e) < 0) {
				print_message("# %s\n", e.msg);
				_exit(1);
			}
			_exit(0);
		}
	}
	for (int p = 0; p < PROCS; p++) {
		assert_int_equal(waitpid(pids[p], &status, 0), pids[p]);
		assert_int_equal(status, 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(repairs); i++) {
		assert_int_equal(state_of(ids[i]), repairs[i].becomes);
		free(ids[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		HOME_TEST(a_second_locker_is_refused),
		HOME_TEST(unlocking_removes_all_of_the_run_folder),
		HOME_TEST(the_death_of_the_holder_releases_the_lock),
		HOME_TEST(a_lock_passes_to_whoever_inherits_it),
		HOME_TEST(never_do_two_hold_the_lock_however_often_its_file_is_replaced),
		HOME_TEST(looking_for_dead_owners_does_not_disturb_the_living),
		HOME_TEST(creating_is_not_disturbed_by_looking_for_dead_owners),
		HOME_TEST(boxes_of_dead_owners_are_repaired_from_every_state),
		HOME_TEST(boxes_of_living_owners_are_left_alone),
		HOME_TEST(a_live_record_without_a_run_folder_is_repaired_too),
		HOME_TEST(folders_that_no_record_knows_are_removed),
		HOME_TEST(what_is_no_box_in_the_run_folder_is_left_alone),
		HOME_TEST(an_empty_home_needs_no_repair),
		HOME_TEST(a_box_that_cannot_be_repaired_does_not_keep_others_from_it),
		HOME_TEST(several_repair_at_once_and_agree),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
