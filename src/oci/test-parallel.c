/* SPDX-License-Identifier: MIT */
/*
 * Many processes on one store: each does at random what commands do, some are killed on the way. Whoever holds an image
 * has its disk and content, whatever the others do; and in the end nothing is missing, damaged or left over. The seed is
 * printed; A3S_TEST_SEED sets it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "test-store.h"

#define WORKERS	    8
#define IMAGES	    5
#define DURATION_NS 3000000000ull
#define KILL_NS	    150000000ull /* one is killed so often, and another takes its place */

enum { FAULT_NONE, FAULT_OPEN = 10, FAULT_DISK, FAULT_BLOB, FAULT_ERROR };

struct worker {
	struct home h;
	unsigned seed, holds;
	struct made_image images[IMAGES];
};

static unsigned dice(struct worker *w, unsigned n)
{
	return (unsigned)rand_r(&w->seed) % n;
}

/* What may happen to a command because of what another one does, and what may not. */
static void expect(int r, const struct err *e)
{
	if (r == 0 || r == -ENOENT || r == -EBUSY)
		return;
	fprintf(stderr, "worker: %d: %s\n", r, e->msg);
	_exit(FAULT_ERROR);
}

static void load(struct worker *w, unsigned image, const char *name)
{
	struct err e = {0};

	expect(try_load(&w->h, &w->images[image], dice(w, 8) ? name : NULL, &e), &e);
}

/* As `run` does: finds, builds, takes hold. Then nobody takes anything away. */
static void hold(struct worker *w, const char *name)
{
	CLEANUP(oci_image_freep) struct oci_image *i = NULL;
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	CLEANUP_FREE char *path = NULL;
	char holder[64];
	struct err e = {0};
	int r = oci_image_find(w->h.s, name, &i, &e);

	if (r == 0)
		r = oci_image_disk(w->h.s, i, NULL, &path, &e);
	if (r < 0 && i)
		return; /* it was removed before it was held: its content may be gone */
	expect(r, &e);
	if (r < 0)
		return;
	snprintf(holder, sizeof(holder), "box-%d-%u", (int)getpid(), w->holds++);
	r = state_begin(w->h.st, &e);
	if (r == 0)
		r = state_end(w->h.st, oci_ref_add(w->h.st, holder, i->manifest, &e), &e);
	expect(r, &e);
	if (r < 0)
		return;
	nanosleep(&(struct timespec){.tv_nsec = dice(w, 10) * 1000000l}, NULL);
	if (access(path, R_OK) < 0)
		_exit(FAULT_DISK);
	r = state_prepare(
		w->h.st, &st, &e, "SELECT digest FROM image_blobs WHERE manifest = ?", "s", i->manifest);
	while (r >= 0 && (r = state_step(w->h.st, st, &e)) > 0)
		if (!has_blob(&w->h, (const char *)sqlite3_column_text(st, 0)))
			_exit(FAULT_BLOB);
	stmt_done(&st);
	st = NULL;
	expect(r, &e);
	expect(oci_ref_drop(w->h.st, holder, &e), &e);
	expect(oci_store_gc_if_due(w->h.s, &e), &e);
}

static void act(struct worker *w)
{
	static const char *const names[] = {"a:1", "a:2", "b:1", "c:1", "d:1", "e:1"};
	const char *name = names[dice(w, ARRAY_LEN(names))], *other = names[dice(w, ARRAY_LEN(names))];
	char full[64];
	struct err e = {0};
	uint64_t bytes;

	snprintf(full, sizeof(full), "docker.io/library/%s", name);
	switch (dice(w, 8)) {
	case 0:
	case 1:
		load(w, dice(w, IMAGES), full);
		break;
	case 2:
		expect(oci_image_remove(w->h.s, name, dice(w, 2), NULL, NULL, &e), &e);
		expect(oci_image_remove(
			       w->h.s, w->images[dice(w, IMAGES)].config_digest, dice(w, 2), NULL, NULL, &e),
			&e);
		break;
	case 3:
		expect(oci_image_tag(w->h.s, name, other, &e), &e);
		break;
	case 4:
		expect(oci_store_bytes(w->h.s, &bytes, &e), &e);
		expect(oci_store_trim(w->h.s, bytes / 2, NULL, NULL, &e), &e);
		break;
	case 5:
		expect(oci_store_gc(w->h.s, &e), &e);
		break;
	default:
		hold(w, name);
	}
}

static pid_t start(unsigned seed)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	struct worker w = {.seed = seed};
	uint64_t until = time_mono_ns() + DURATION_NS;
	if (home_open(&w.h) < 0)
		_exit(FAULT_OPEN);
	for (int i = 0; i < IMAGES; i++) {
		char text[2][32];
		const char *texts[2] = {text[0], text[1]};
		snprintf(text[0], sizeof(text[0]), "lower %d", i / 2);
		snprintf(text[1], sizeof(text[1]), "upper %d", i);
		made_init(&w.images[i], host_arch(), texts, 2);
	}
	while (time_mono_ns() < until)
		act(&w);
	_exit(FAULT_NONE);
}

static void tell_fault(void *data, const char *what, const char *fault)
{
	fprintf(stderr, "%s %s\n", what, fault);
}

static void assert_sound(struct home *h)
{
	struct err e = {0};
	size_t faults, left;

	if (oci_store_check(h->s, false, NULL, tell_fault, NULL, &faults, &left, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(faults, 0);
}

static void remove_all(struct home *h)
{
	struct oci_image **list;
	struct err e = {0};
	size_t n;

	assert_int_equal(oci_image_list(h->s, &list, &n, &e), 0);
	for (size_t i = 0; i < n; i++) {
		int r = oci_image_remove(h->s, list[i]->id, true, NULL, NULL, &e);
		assert_true(r == 0 || r == -ENOENT); /* under its second name it is gone already */
	}
	oci_image_list_free(list, n);
}

/* Where the test stands between two kills: one of the workers ends, or it is time. */
static void reap(pid_t *pids, bool *killed, unsigned *seed, bool again)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, again ? WNOHANG : 0)) > 0)
		for (int i = 0; i < WORKERS; i++) {
			if (pids[i] != pid)
				continue;
			if (!(killed[i] && WIFSIGNALED(status)) &&
				!(WIFEXITED(status) && WEXITSTATUS(status) == 0))
				fail_msg("worker ended with status %#x", (unsigned)status);
			pids[i] = again && killed[i] ? start((*seed)++) : -1;
			killed[i] = false;
		}
}

static void test_parallel(void **state)
{
	struct home *h = *state;
	const char *given = getenv("A3S_TEST_SEED");
	unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time_mono_ns();
	pid_t pids[WORKERS];
	bool killed[WORKERS] = {false};
	struct err e = {0};

	fprintf(stderr, "# A3S_TEST_SEED=%u\n", seed);
	home_close(h);
	uint64_t until = time_mono_ns() + DURATION_NS * 9 / 10;
	for (int i = 0; i < WORKERS; i++)
		pids[i] = start(seed++);
	while (time_mono_ns() < until) {
		nanosleep(&(struct timespec){.tv_nsec = KILL_NS}, NULL);
		int victim = rand_r(&seed) % WORKERS;
		if (pids[victim] > 0 && kill(pids[victim], SIGKILL) == 0)
			killed[victim] = true;
		reap(pids, killed, &seed, true);
	}
	reap(pids, killed, &seed, false);
	assert_int_equal(home_open(h), 0);
	fprintf(stderr, "# %d images entered, %d removed\n",
		(int)number(h, "SELECT count(*) FROM events WHERE action = 'load'"),
		(int)number(h, "SELECT count(*) FROM events WHERE action = 'delete'"));
	/* boxes of the dead */
	assert_int_equal(state_exec(h->st, &e, "DELETE FROM image_refs", ""), 0);
	assert_sound(h);
	assert_int_equal(oci_store_gc(h->s, &e), 0);
	assert_sound(h);
	remove_all(h);
	assert_int_equal(oci_store_gc(h->s, &e), 0);
	assert_int_equal(home_files(h), 0);
	static const char *const tables[] = {"image_manifests", "image_names", "image_blobs", "image_disks",
		"image_disks_unsynced", "image_use", "image_layers", "image_sweep"};
	for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
		CLEANUP_FREE char *sql = str_printf("SELECT count(*) FROM %s", tables[i]);
		assert_int_equal(number(h, sql), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_parallel),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
