/* SPDX-License-Identifier: MIT */
/* Restart policies and revival: decisions, records, and the events that tell of every move. */
#include "test-home.h"

#include <string.h>

#include "run.h"
#include "state/event.h"

/* ---- policies ---- */

static void a_policy_decides_by_exit_status_and_count(void **state)
{
	static const struct {
		enum box_restart_policy policy;
		uint32_t max;
		int exit_code;
		uint32_t count;
		bool wanted;
	} cases[] = {
		{BOX_RESTART_NO, 0, 0, 0, false},
		{BOX_RESTART_NO, 0, 1, 0, false},
		{BOX_RESTART_ALWAYS, 0, 0, 1000, true},
		{BOX_RESTART_ALWAYS, 0, 137, 0, true},
		{BOX_RESTART_UNLESS_STOPPED, 0, 0, 0, true},
		{BOX_RESTART_ON_FAILURE, 0, 0, 0, false},
		{BOX_RESTART_ON_FAILURE, 0, 1, 100000, true},
		{BOX_RESTART_ON_FAILURE, 3, 1, 2, true},
		{BOX_RESTART_ON_FAILURE, 3, 1, 3, false},
		{BOX_RESTART_ON_FAILURE, 3, 0, 0, false},
		{BOX_RESTART_ON_FAILURE, 3, 137 | (int)WIRE_EXIT_OOM, 0, true},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct box_restart p = {cases[i].policy, cases[i].max};
		if (box_restart_wanted(&p, cases[i].exit_code, cases[i].count) != cases[i].wanted)
			fail_msg("case %zu: %s", i, box_restart_name(p.policy));
	}
}

static void waiting_doubles_to_a_minute_and_starts_anew_after_a_good_run(void **state)
{
	static const uint64_t seconds[] = {1, 2, 4, 8, 16, 32, 60, 60};
	struct box_backoff b = {0};

	for (size_t i = 0; i < ARRAY_LEN(seconds); i++)
		assert_int_equal(
			box_backoff_next(&b, i ? BOX_BACKOFF_GOOD_NS - 1 : 0), seconds[i] * 1000000000);
	assert_int_equal(box_backoff_next(&b, BOX_BACKOFF_GOOD_NS), BOX_BACKOFF_MIN_NS);
	assert_int_equal(box_backoff_next(&b, 0), 2 * BOX_BACKOFF_MIN_NS);
}

/* ---- revival ---- */

static void set_policy(const char *id, enum box_restart_policy policy)
{
	CLEANUP(box_freep) struct box *b = NULL;

	expect(box_find(st, id, &b, &err), 0);
	b->config.restart.policy = policy;
	expect(box_set_config(st, b, &b->config, &err), 0);
}

static bool wanted(const char *id)
{
	CLEANUP(box_freep) struct box *b = NULL;

	expect(box_find(st, id, &b, &err), 0);
	return box_wants_revival(b);
}

static void what_lost_its_owner_is_wanted_back_by_its_policy(void **state)
{
	static const enum box_state from[] = {
		BOX_STARTING, BOX_RUNNING, BOX_PAUSED, BOX_RESTARTING, BOX_STOPPING};

	for (enum box_restart_policy p = BOX_RESTART_NO; p <= BOX_RESTART_UNLESS_STOPPED; p++) {
		for (size_t i = 0; i < ARRAY_LEN(from); i++) {
			char *id = make_idle_box(NULL);
			set_policy(id, p);
			assert_false(wanted(id));
			force_state(id, from[i]);
			assert_false(wanted(id)); /* it lives */
			expect(box_reconcile(st, &err), 0);
			assert_int_equal(wanted(id), p != BOX_RESTART_NO);
			free(id);
		}
	}
}

static void what_ended_or_was_stopped_is_not_wanted_back(void **state)
{
	char *id = make_idle_box(NULL);

	set_policy(id, BOX_RESTART_ALWAYS);
	expect(box_set_starting(st, id, &err), 0);
	expect(box_set_running(st, id, "tcg", NULL, &err), 0);
	expect(box_set_exited(st, id, 1, NULL, &err), 0);
	assert_false(wanted(id));
	expect(box_set_starting(st, id, &err), 0);
	expect(box_set_running(st, id, "tcg", NULL, &err), 0);
	expect(box_set_stopping(st, id, 15, true, &err), 0);
	expect(box_reconcile(st, &err), 0); /* its supervisor died while it stopped */
	assert_int_equal(state_of(id), BOX_EXITED);
	assert_false(wanted(id));
	/* Until a user starts it again, and its supervisor dies then. */
	expect(box_set_starting(st, id, &err), 0);
	expect(box_set_running(st, id, "tcg", NULL, &err), 0);
	expect(box_reconcile(st, &err), 0);
	assert_true(wanted(id));
	expect(box_set_stopped(st, id, &err), 0);
	assert_false(wanted(id));
	free(id);
}

static void a_policy_that_comes_after_the_loss_brings_nothing_back(void **state)
{
	char *id = make_idle_box(NULL);

	force_state(id, BOX_RUNNING);
	expect(box_reconcile(st, &err), 0);
	set_policy(id, BOX_RESTART_ALWAYS);
	assert_false(wanted(id));
	free(id);
}

static void a_stop_that_comes_too_late_changes_nothing(void **state)
{
	CLEANUP(box_freep) struct box *b = NULL;
	char *id = make_idle_box(NULL);

	set_policy(id, BOX_RESTART_ALWAYS);
	force_state(id, BOX_RUNNING);
	expect(box_reconcile(st, &err), 0);
	expect(box_set_starting(st, id, &err), 0); /* by `monitor` */
	expect(box_set_stopped(st, id, &err), 0);
	expect(box_reconcile(st, &err), 0);
	assert_true(wanted(id));
	/* And what a stop left behind goes with the next run. */
	expect(box_set_starting(st, id, &err), 0);
	expect(box_set_running(st, id, "tcg", NULL, &err), 0);
	expect(box_set_stopping(st, id, 15, true, &err), 0);
	expect(box_set_restarting(st, id, 143, NULL, 0, &err), 0);
	expect(box_set_running(st, id, "tcg", NULL, &err), 0);
	expect(box_find(st, id, &b, &err), 0);
	assert_false(b->stopped_by_user);
	free(id);
}

/* ---- records ---- */

static unsigned boxes_seen;
static void count_seen(const struct box *b)
{
	boxes_seen++;
}

static void only_what_a_user_names_is_seen(void **state)
{
	CLEANUP(box_freep) struct box *b = NULL;
	char *id = make_idle_box(NULL);

	box_seen = count_seen;
	boxes_seen = 0;
	force_state(id, BOX_RUNNING);
	expect(box_reconcile(st, &err), 0);
	assert_int_equal(boxes_seen, 0);
	expect(box_find(st, id, &b, &err), 0);
	assert_int_equal(boxes_seen, 1);
	box_seen = NULL;
	free(id);
}

static void the_record_knows_of_memory_and_restarts(void **state)
{
	CLEANUP(box_freep) struct box *b = NULL;
	char *id = make_idle_box("b");

	expect(box_set_starting(st, id, &err), 0);
	expect(box_set_running(st, id, "tcg", NULL, &err), 0);
	expect(box_set_restarting(st, id, 137 | (int)WIRE_EXIT_OOM, NULL, 4, &err), 0);
	expect(box_find(st, id, &b, &err), 0);
	assert_true(b->oom_killed);
	assert_int_equal(b->exit_code, 137);
	assert_int_equal(b->restart_count, 4);
	box_free(TAKE_PTR(b));
	expect(box_set_running(st, id, "tcg", NULL, &err), 0);
	expect(box_set_exited(st, id, 0, NULL, &err), 0);
	expect(box_find(st, id, &b, &err), 0);
	assert_false(b->oom_killed);
	assert_int_equal(b->restart_count, 4);
	box_free(TAKE_PTR(b));
	expect(box_set_starting(st, id, &err), 0); /* by a user: counted anew */
	expect(box_find(st, id, &b, &err), 0);
	assert_int_equal(b->restart_count, 0);
	free(id);
}

static void a_box_gets_another_name_but_no_taken_or_bad_one(void **state)
{
	CLEANUP(box_freep) struct box *b = NULL;
	char *id = make_idle_box("one"), *other = make_idle_box("two");

	expect(box_find(st, id, &b, &err), 0);
	expect(box_rename(st, b, "two", &err), -EEXIST);
	assert_non_null(strstr(err.msg, "already in use"));
	expect(box_rename(st, b, "one", &err), -EEXIST);
	expect(box_rename(st, b, "-x", &err), -EINVAL);
	expect(box_rename(st, b, "", &err), -EINVAL);
	expect(box_rename(st, b, "three", &err), 0);
	box_free(TAKE_PTR(b));
	expect(box_find(st, "three", &b, &err), 0);
	assert_string_equal(b->id, id);
	expect(box_find(st, "one", &(struct box *){NULL}, &err), -ENOENT);
	free(id);
	free(other);
}

/* ---- events ---- */

static int append(const struct event *ev, void *data)
{
	char *text = data;

	assert_string_equal(ev->type, "container");
	snprintf(text + strlen(text), 1024 - strlen(text), "%s", ev->action);
	for (size_t i = 0; i < ev->attrs.n; i++) {
		if (strncmp(ev->attrs.v[i], "image=", 6) != 0 && strncmp(ev->attrs.v[i], "exec", 4) != 0)
			snprintf(text + strlen(text), 1024 - strlen(text), " %s", ev->attrs.v[i]);
	}
	snprintf(text + strlen(text), 1024 - strlen(text), "\n");
	return 0;
}

static void every_move_tells(void **state)
{
	char text[1024] = "";
	int lock = -1;
	CLEANUP(box_freep) struct box *b = make_box("b", false, BOX_CREATED, &lock);

	box_unlock(st, b->id, &lock);
	assert_int_equal(strv_push(&b->config.labels, "a=b=c"), 0);
	expect(box_set_config(st, b, &b->config, &err), 0);
	expect(box_set_starting(st, b->id, &err), 0);
	expect(box_set_running(st, b->id, "tcg", NULL, &err), 0);
	expect(box_set_paused(st, b->id, true, &err), 0);
	expect(box_set_paused(st, b->id, false, &err), 0);
	expect(box_set_health(st, b->id, "starting", &err), 0);
	expect(box_set_health(st, b->id, "healthy", &err), 0);
	expect(box_set_stopping(st, b->id, 15, true, &err), 0);
	expect(box_set_exited(st, b->id, 137 | (int)WIRE_EXIT_OOM, NULL, &err), 0);
	expect(box_rename(st, b, "c", &err), 0);
	expect(box_set_config(st, b, &b->config, &err), 0); /* b still has the old name */
	expect(box_event_now(st, b->id, "stop", &err), 0);
	expect(box_lock(st, b->id, &lock, &err), 0);
	expect(box_remove_locked(st, b->id, &lock, &err), 0);
	/* What is refused leaves no trace. */
	expect(box_set_paused(st, b->id, true, &err), -ENOENT);
	expect(event_read(st, 0, 0, append, text, NULL, &err), 0);
	assert_string_equal(text, "create name=b\n"
				  "update a=b=c name=b\n"
				  "start a=b=c name=b\n"
				  "pause a=b=c name=b\n"
				  "unpause a=b=c name=b\n"
				  "health_status: healthy a=b=c name=b\n"
				  "kill a=b=c signal=15 name=b\n"
				  "oom a=b=c name=b\n"
				  "die a=b=c exitCode=137 name=b\n"
				  "rename a=b=c oldName=b name=c\n"
				  "update a=b=c name=c\n"
				  "stop a=b=c name=c\n"
				  "destroy a=b=c name=c\n");
}

static void a_move_that_is_refused_tells_nothing(void **state)
{
	char text[1024] = "";
	char *id = make_idle_box("b");

	expect(box_set_paused(st, id, true, &err), -ENOENT);
	expect(box_set_running(st, id, "tcg", NULL, &err), -ENOENT);
	expect(box_set_stopping(st, id, 15, true, &err), -ENOENT);
	expect(box_set_exited(st, id, 0, NULL, &err), -ENOENT);
	expect(event_read(st, 0, 0, append, text, NULL, &err), 0);
	assert_string_equal(text, "create name=b\n");
	assert_int_equal(st->tx_depth, 0);
	free(id);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_policy_decides_by_exit_status_and_count),
		cmocka_unit_test(waiting_doubles_to_a_minute_and_starts_anew_after_a_good_run),
		HOME_TEST(what_lost_its_owner_is_wanted_back_by_its_policy),
		HOME_TEST(what_ended_or_was_stopped_is_not_wanted_back),
		HOME_TEST(a_policy_that_comes_after_the_loss_brings_nothing_back),
		HOME_TEST(a_stop_that_comes_too_late_changes_nothing),
		HOME_TEST(only_what_a_user_names_is_seen),
		HOME_TEST(the_record_knows_of_memory_and_restarts),
		HOME_TEST(a_box_gets_another_name_but_no_taken_or_bad_one),
		HOME_TEST(every_move_tells),
		HOME_TEST(a_move_that_is_refused_tells_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
