/* SPDX-License-Identifier: MIT */
/* Records: which moves are legal, how a box is found, and what creation leaves behind. */
#include "test-home.h"

#include <fcntl.h>
#include <string.h>

/* ---- moves ---- */

enum move {
	TO_STARTING,
	TO_RUNNING,
	TO_STOPPING,
	TO_EXITED,
	TO_FAILED,
	TO_PAUSED,
	FROM_PAUSED,
	TO_RESTARTING,
	MOVES
};

static int make_move(enum move m, const char *id)
{
	switch (m) {
	case TO_STARTING:
		return box_set_starting(st, id, &err);
	case TO_RUNNING:
		return box_set_running(st, id, "tcg", NULL, &err);
	case TO_STOPPING:
		return box_set_stopping(st, id, 15, true, &err);
	case TO_EXITED:
		return box_set_exited(st, id, 7, "why", &err);
	case TO_PAUSED:
		return box_set_paused(st, id, true, &err);
	case FROM_PAUSED:
		return box_set_paused(st, id, false, &err);
	case TO_RESTARTING:
		return box_set_restarting(st, id, 3, NULL, 1, &err);
	default:
		return box_set_start_failed(st, id, 127, "no such program", &err);
	}
}

/* By the table in box/box.h; -1: refused. A second stop is told so by staying in `stopping`. */
static const int legal[BOX_DEAD + 1][MOVES] = {
	[BOX_CREATED] = {BOX_STARTING, -1, -1, -1, -1, -1, -1, -1},
	[BOX_STARTING] = {-1, BOX_RUNNING, -1, BOX_EXITED, BOX_CREATED, -1, -1, BOX_RESTARTING},
	[BOX_RUNNING] = {-1, -1, BOX_STOPPING, BOX_EXITED, -1, BOX_PAUSED, -1, BOX_RESTARTING},
	[BOX_PAUSED] = {-1, -1, BOX_STOPPING, BOX_EXITED, -1, -1, BOX_RUNNING, BOX_RESTARTING},
	[BOX_RESTARTING] = {-1, BOX_RUNNING, BOX_RESTARTING, BOX_EXITED, -1, -1, -1, BOX_RESTARTING},
	[BOX_STOPPING] = {-1, -1, BOX_STOPPING, BOX_EXITED, -1, -1, -1, BOX_RESTARTING},
	[BOX_EXITED] = {BOX_STARTING, -1, -1, -1, -1, -1, -1, -1},
	[BOX_REMOVING] = {-1, -1, -1, -1, -1, -1, -1, -1},
	[BOX_DEAD] = {-1, -1, -1, -1, -1, -1, -1, -1},
};

static void only_the_moves_of_the_table_are_made(void **state)
{
	char *id = make_idle_box("b");

	for (int from = BOX_CREATED; from <= BOX_DEAD; from++) {
		for (int m = 0; m < MOVES; m++) {
			force_state(id, (enum box_state)from);
			expect(state_exec(st, &err, "UPDATE boxes SET started=0", ""), 0);
			int want = legal[from][m], r = make_move((enum move)m, id);
			if ((r == 0) != (want >= 0) || state_of(id) != (want < 0 ? from : want))
				fail_msg("%s, move %d: %d, now %s", box_state_name((enum box_state)from), m,
					r, box_state_name((enum box_state)state_of(id)));
		}
	}
	for (int m = 0; m < MOVES; m++)
		assert_int_equal(make_move((enum move)m, "absent"), -ENOENT);
	free(id);
}

static void a_run_leaves_its_story_in_the_record(void **state)
{
	CLEANUP(box_freep) struct box *b = NULL;
	char *id = make_idle_box("b");
	int64_t before = time_real_ns();

	expect(box_find(st, id, &b, &err), 0);
	assert_true(b->created_ns > 0 && b->created_ns <= before);
	assert_int_equal(b->started_ns + b->finished_ns, 0);
	assert_null(b->accel);
	box_free(TAKE_PTR(b));

	expect(box_set_starting(st, id, &err), 0);
	expect(box_set_running(st, id, "kvm", "{\"Backend\":\"kvm\"}", &err), 0);
	expect(box_find(st, id, &b, &err), 0);
	assert_true(b->started_ns >= before);
	assert_string_equal(b->accel, "kvm");
	assert_string_equal(b->machine, "{\"Backend\":\"kvm\"}");
	assert_true(box_is_live(b));
	box_free(TAKE_PTR(b));

	expect(box_set_exited(st, id, 3, "odd", &err), 0);
	expect(box_find(st, id, &b, &err), 0);
	assert_int_equal(b->exit_code, 3);
	assert_string_equal(b->error, "odd");
	assert_true(b->finished_ns >= b->started_ns);
	assert_false(box_is_live(b));
	box_free(TAKE_PTR(b));

	expect(box_set_starting(st, id, &err), 0); /* once more: the old error is gone */
	expect(box_set_running(st, id, "tcg", NULL, &err), 0);
	expect(box_find(st, id, &b, &err), 0);
	assert_null(b->error);
	assert_int_equal(b->exit_code, 0);
	assert_int_equal(b->finished_ns, 0);
	free(id);
}

static void a_failed_start_goes_back_to_where_it_came_from(void **state)
{
	CLEANUP(box_freep) struct box *b = NULL;
	char *id = make_idle_box("b");

	expect(box_set_starting(st, id, &err), 0);
	expect(box_set_start_failed(st, id, 127, "not found", &err), 0);
	expect(box_find(st, id, &b, &err), 0);
	assert_int_equal(b->state, BOX_CREATED);
	assert_int_equal(b->exit_code, 127);
	assert_string_equal(b->error, "not found");
	expect(box_set_starting(st, id, &err), 0);
	expect(box_set_running(st, id, "tcg", NULL, &err), 0);
	expect(box_set_exited(st, id, 0, NULL, &err), 0);
	expect(box_set_starting(st, id, &err), 0);
	expect(box_set_start_failed(st, id, 125, "no disk", &err), 0);
	assert_int_equal(state_of(id), BOX_EXITED);
	free(id);
}

/* ---- finding ---- */

/* A box with a chosen ID: `prefix` and zeros. */
static void put_box(const char *prefix, const char *name)
{
	char *id = make_idle_box(name), fixed[BOX_ID_LEN + 1];

	memset(fixed, '0', BOX_ID_LEN);
	fixed[BOX_ID_LEN] = '\0';
	memcpy(fixed, prefix, strlen(prefix));
	expect(state_exec(st, &err, "UPDATE boxes SET id=?2 WHERE id=?1", "ss", id, fixed), 0);
	free(id);
}

static void assert_found(const char *ref, const char *name)
{
	CLEANUP(box_freep) struct box *b = NULL;

	expect(box_find(st, ref, &b, &err), 0);
	assert_string_equal(b->name, name);
}

static void assert_not_found(const char *ref, int code)
{
	struct box *b = NULL;

	expect(box_find(st, ref, &b, &err), code);
	assert_null(b);
}

static void a_box_is_found_by_name_id_and_unique_prefix(void **state)
{
	char full[BOX_ID_LEN + 2];

	put_box("abc1", "web");
	put_box("abc2", "db");
	assert_found("web", "web");
	assert_found("abc2", "db");
	assert_found("abc10", "web");
	memset(full, '0', sizeof(full));
	memcpy(full, "abc1", 4);
	full[BOX_ID_LEN] = '\0';
	assert_found(full, "web");
	full[BOX_ID_LEN] = '0';
	full[BOX_ID_LEN + 1] = '\0';
	assert_not_found(full, -ENOENT);
	assert_not_found("abc3", -ENOENT);
	assert_not_found("we", -ENOENT); /* names have no prefixes */
	assert_not_found("WEB", -ENOENT);
	assert_not_found("ABC1", -ENOENT);
	assert_not_found("", -ENOENT);
	assert_not_found("%", -ENOENT);
	assert_not_found("' OR 1=1 --", -ENOENT);
	assert_non_null(strstr(err.msg, "no such box"));
}

static void an_ambiguous_prefix_lists_the_candidates(void **state)
{
	put_box("abc1", "web");
	put_box("abc2", "db");
	put_box("ffff", "other");
	assert_not_found("abc", -EEXIST);
	assert_non_null(strstr(err.msg, "abc100000000 (web)"));
	assert_non_null(strstr(err.msg, "abc200000000 (db)"));
	assert_null(strstr(err.msg, "other"));
	for (int i = 0; i < 30; i++) { /* more than fit into the message */
		char prefix[24], name[16];
		snprintf(prefix, sizeof(prefix), "abcd%02d", i);
		snprintf(name, sizeof(name), "box%d", i);
		put_box(prefix, name);
	}
	assert_not_found("a", -EEXIST);
}

static void a_name_wins_over_a_prefix_and_an_id_over_a_name(void **state)
{
	char full[BOX_ID_LEN + 1];

	put_box("abc1", "first");
	put_box("5555", "abc"); /* a name that reads like a prefix of the first and second */
	put_box("abc2", "second");
	assert_found("abc", "abc");
	memset(full, '0', BOX_ID_LEN);
	full[BOX_ID_LEN] = '\0';
	memcpy(full, "abc1", 4);
	expect(state_exec(st, &err, "UPDATE boxes SET name=?1 WHERE name='second'", "s", full), 0);
	assert_found(full, "first");
}

static void boxes_are_listed_newest_first_and_only_live_ones_unless_all(void **state)
{
	static const char *const names[] = {"c", "b", "a"};
	struct box **list;
	size_t n;
	char *ids[3];

	for (int i = 2; i >= 0; i--)
		ids[i] = make_idle_box(names[i]);
	expect(box_list(st, true, &list, &n, &err), 0);
	assert_int_equal(n, 3);
	for (size_t i = 0; i < 3; i++)
		assert_string_equal(list[i]->name, names[i]);
	box_list_free(list, n);
	expect(box_list(st, false, &list, &n, &err), 0);
	assert_int_equal(n, 0);
	box_list_free(list, n);
	force_state(ids[0], BOX_STARTING);
	force_state(ids[1], BOX_STOPPING);
	force_state(ids[2], BOX_REMOVING);
	expect(box_list(st, false, &list, &n, &err), 0);
	assert_int_equal(n, 2);
	box_list_free(list, n);
	for (int i = 0; i < 3; i++)
		free(ids[i]);
}

static void a_record_that_makes_no_sense_is_an_error_and_no_crash(void **state)
{
	struct box *b = NULL;
	char *id = make_idle_box("b");

	expect(state_exec(st, &err, "UPDATE boxes SET state='dancing'", ""), 0);
	expect(box_find(st, "b", &b, &err), -EBADMSG);
	force_state(id, BOX_CREATED);
	expect(state_exec(st, &err, "UPDATE boxes SET config='{'", ""), 0);
	expect(box_find(st, "b", &b, &err), -EBADMSG);
	assert_non_null(strstr(err.msg, id));
	assert_null(b);
	free(id);
}

/* ---- creating ---- */

static int create(const struct oci_image *i, const char *name, struct box_config *c)
{
	struct box *b = NULL;
	int lock = -1,
	    r = box_create(st, i, "image:1", "images/disks/x.img", name, c, BOX_CREATED, &b, &lock, &err);

	if (r < 0) {
		assert_null(b);
		assert_int_equal(lock, -1);
		return r;
	}
	box_unlock(st, b->id, &lock);
	box_free(b);
	return 0;
}

static int count_folder(const char *name)
{
	char cmd[512];
	int n = -1;

	snprintf(cmd, sizeof(cmd), "ls -A '%s/%s' 2>/dev/null | wc -l", st->home, name);
	FILE *f = popen(cmd, "re");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%d", &n), 1);
	pclose(f);
	return n;
}

static void a_new_box_has_a_record_a_folder_a_lock_and_its_image(void **state)
{
	int lock = -1;
	CLEANUP(box_freep) struct box *b = make_box(NULL, false, BOX_CREATED, &lock), *again = NULL;

	assert_int_equal(strlen(b->id), BOX_ID_LEN);
	assert_int_equal(strspn(b->id, "0123456789abcdef"), BOX_ID_LEN);
	assert_true(box_name_valid(b->name));
	assert_true(lock >= 0);
	assert_int_equal(fcntl(lock, F_GETFD), FD_CLOEXEC);
	assert_true(exists("boxes", b->id, NULL));
	assert_true(exists("run", b->id, "lock"));
	assert_int_equal(count_rows("image_refs"), 1);
	expect(box_find(st, b->id, &again, &err), 0);
	assert_string_equal(again->name, b->name);
	assert_string_equal(again->image, "image:1");
	assert_string_equal(again->disk, "images/disks/x.img");
	assert_memory_equal(again->config.hostname, b->id, BOX_ID_SHORT_LEN); /* as Docker does */
	assert_int_equal(strlen(again->config.hostname), BOX_ID_SHORT_LEN);
	box_unlock(st, b->id, &lock);
	assert_int_equal(lock, -1);
	assert_false(exists("run", b->id, NULL));
}

static void a_name_that_is_taken_is_refused_and_leaves_nothing(void **state)
{
	struct box_config c = {0};

	free(make_idle_box("web"));
	assert_int_equal(strv_push(&c.process.argv, "true"), 0);
	assert_int_equal(create(&image, "web", &c), -EEXIST);
	assert_non_null(strstr(err.msg, "\"web\" is already in use"));
	assert_int_equal(c.process.argv.n, 1); /* still the caller's */
	assert_int_equal(count_rows("boxes"), 1);
	assert_int_equal(count_rows("image_refs"), 1);
	assert_int_equal(count_folder("boxes"), 1);
	assert_int_equal(count_folder("run"), 0);
	assert_int_equal(create(&image, "other", &c), 0);
	box_config_done(&c);
}

static void an_image_that_is_gone_is_refused_and_leaves_nothing(void **state)
{
	char manifest[] = "sha256:gone";
	struct oci_image gone = {.id = image.id, .manifest = manifest};
	struct box_config c = {0};

	assert_int_equal(create(&gone, "web", &c), -ENOENT);
	assert_int_equal(count_rows("boxes"), 0);
	assert_int_equal(count_rows("image_refs"), 0);
	assert_int_equal(count_folder("boxes"), 0);
	assert_int_equal(count_folder("run"), 0);
	box_config_done(&c);
}

static void a_home_that_cannot_be_written_is_refused_and_leaves_nothing(void **state)
{
	struct box_config c = {0};
	int fd = openat(st->home_fd, "boxes", O_WRONLY | O_CREAT | O_CLOEXEC, 0600); /* a file in the way */

	close(fd);
	assert_int_equal(create(&image, "web", &c), -ENOTDIR);
	assert_non_null(strstr(err.msg, "boxes"));
	assert_int_equal(count_rows("boxes"), 0);
	assert_int_equal(count_folder("run"), 0);
	box_config_done(&c);
}

static void many_boxes_find_names_of_their_own(void **state)
{
	for (int i = 0; i < 150; i++)
		free(make_idle_box(NULL));
	assert_int_equal(count_rows("boxes"), 150);
}

static void a_removed_box_leaves_nothing(void **state)
{
	int lock = -1;
	CLEANUP(box_freep) struct box *b = make_box("b", false, BOX_CREATED, &lock);
	int dir = openat(st->home_fd, "boxes", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int sub = openat(dir, b->id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_int_equal(io_write_file_at(sub, "scratch.img", "x", 1, 0400), 0);
	close(sub);
	close(dir);
	expect(box_remove_locked(st, b->id, &lock, &err), 0);
	assert_int_equal(lock, -1);
	assert_int_equal(count_rows("boxes"), 0);
	assert_int_equal(count_rows("image_refs"), 0);
	assert_int_equal(count_folder("boxes"), 0);
	assert_int_equal(count_folder("run"), 0);
}

static void an_undone_start_goes_back_or_takes_a_temporary_box_along(void **state)
{
	int lock = -1;
	struct box *b = make_box("kept", false, BOX_STARTING, &lock);

	expect(box_undo_start(st, b, &lock, 126, "not executable", &err), 0);
	assert_int_equal(lock, -1);
	assert_int_equal(state_of(b->id), BOX_CREATED);
	assert_false(exists("run", b->id, NULL));
	box_free(b);
	b = make_box("temporary", true, BOX_STARTING, &lock);
	expect(box_undo_start(st, b, &lock, 126, "not executable", &err), 0);
	assert_int_equal(lock, -1);
	assert_int_equal(state_of(b->id), -1);
	assert_false(exists("run", b->id, NULL));
	assert_false(exists("boxes", b->id, NULL));
	box_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		HOME_TEST(only_the_moves_of_the_table_are_made),
		HOME_TEST(a_run_leaves_its_story_in_the_record),
		HOME_TEST(a_failed_start_goes_back_to_where_it_came_from),
		HOME_TEST(a_box_is_found_by_name_id_and_unique_prefix),
		HOME_TEST(an_ambiguous_prefix_lists_the_candidates),
		HOME_TEST(a_name_wins_over_a_prefix_and_an_id_over_a_name),
		HOME_TEST(boxes_are_listed_newest_first_and_only_live_ones_unless_all),
		HOME_TEST(a_record_that_makes_no_sense_is_an_error_and_no_crash),
		HOME_TEST(a_new_box_has_a_record_a_folder_a_lock_and_its_image),
		HOME_TEST(a_name_that_is_taken_is_refused_and_leaves_nothing),
		HOME_TEST(an_image_that_is_gone_is_refused_and_leaves_nothing),
		HOME_TEST(a_home_that_cannot_be_written_is_refused_and_leaves_nothing),
		HOME_TEST(many_boxes_find_names_of_their_own),
		HOME_TEST(a_removed_box_leaves_nothing),
		HOME_TEST(an_undone_start_goes_back_or_takes_a_temporary_box_along),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
