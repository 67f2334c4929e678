/* SPDX-License-Identifier: MIT */
/* Events: what is written is read, once, in order, whoever writes; transactions that fail leave none. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/io.h"
#include "state/event.h"

static char top[128];
static struct state *st;
static struct err err;

static int set_up(void **state)
{
	const char *base = getenv("A3S_TEST_DIR");

	snprintf(top, sizeof(top), "%s/test-event-XXXXXX", base ? base : "/tmp");
	if (!mkdtemp(top) || setenv("A3S_HOME", top, 1) < 0)
		return -1;
	return state_open(&st, &err) < 0 || event_init(st, &err) < 0 || event_init(st, &err) < 0;
}

static int tear_down(void **state)
{
	state_close(TAKE_PTR(st));
	return io_remove_tree_at(AT_FDCWD, top);
}

struct seen {
	int64_t last;
	size_t n;
	size_t stop_at;
	char line[256]; /* the last one */
	size_t by_writer[8];
};

static int note(const struct event *ev, void *data)
{
	struct seen *s = data;

	assert_true(ev->id > s->last);
	s->last = ev->id;
	snprintf(s->line, sizeof(s->line), "%s %s %s", ev->type, ev->action, ev->actor);
	for (size_t i = 0; i < ev->attrs.n; i++)
		snprintf(s->line + strlen(s->line), sizeof(s->line) - strlen(s->line), "|%s", ev->attrs.v[i]);
	if (strcmp(ev->type, "test") == 0)
		assert_int_equal(s->by_writer[atoi(ev->actor)]++, atoi(ev->action));
	s->n++;
	return s->n == s->stop_at ? 7 : 0;
}

static void test_write_and_read(void **state)
{
	struct seen s = {0};
	struct strv attrs = {0};
	int64_t last = 0;

	assert_int_equal(event_add(st, &err, "container", "die", "id1", "name", "web", "gone", NULL,
				 "exitCode", "3", NULL),
		0);
	assert_int_equal(event_read(st, 0, 0, note, &s, &last, &err), 0);
	assert_string_equal(s.line, "container die id1|name=web|exitCode=3");
	assert_int_equal(last, s.last);

	strv_push(&attrs, "k=v=w");
	strv_push(&attrs, "line\nfeed \xff");
	strv_push(&attrs, "");
	assert_int_equal(event_add_list(st, &err, "image", "pull", "x", &attrs), 0);
	assert_int_equal(event_add(st, &err, "image", "tag", "", NULL), 0);
	s.stop_at = 2;
	assert_int_equal(event_read(st, last, 0, note, &s, &last, &err), 7);
	assert_string_equal(s.line, "image pull x|k=v=w|line\nfeed \xff|");
	assert_int_equal(event_read(st, last, 0, note, &s, &last, &err), 0);
	assert_string_equal(s.line, "image tag ");
	assert_int_equal(s.n, 3);
	/* Nothing new, and nothing from the future. */
	assert_int_equal(event_read(st, last, 0, note, &s, &last, &err), 0);
	assert_int_equal(event_read(st, 0, INT64_MAX, note, &s, NULL, &err), 0);
	assert_int_equal(s.n, 3);
	strv_done(&attrs);
}

static void test_transaction(void **state)
{
	struct seen s = {0};
	int64_t last = 0;

	assert_int_equal(event_read(st, 0, 0, note, &s, &last, &err), 0);
	size_t before = s.n;
	assert_int_equal(state_begin(st, &err), 0);
	assert_int_equal(event_add(st, &err, "container", "start", "id", NULL), 0);
	assert_int_equal(state_end(st, -EIO, &err), -EIO);
	assert_int_equal(event_read(st, last, 0, note, &s, &last, &err), 0);
	assert_int_equal(s.n, before);
}

static void test_damaged(void **state)
{
	struct seen s = {0};
	int64_t last = 0;

	event_read(st, 0, 0, note, &s, &last, &err);
	assert_int_equal(
		state_exec(st, &err,
			"INSERT INTO events(time,type,action,actor,attrs) VALUES(1,'a','b','c',X'41')", ""),
		0);
	assert_int_equal(event_read(st, last, 0, note, &s, NULL, &err), -EBADMSG);
	assert_int_equal(state_exec(st, &err, "DELETE FROM events WHERE time=1", ""), 0);
}

static void test_trim(void **state)
{
	struct seen s = {0};

	assert_int_equal(state_begin(st, &err), 0);
	for (int i = 0; i < EVENTS_KEEP + 200; i++)
		assert_int_equal(event_add(st, &err, "container", "exec_start", "id", NULL), 0);
	assert_int_equal(state_end(st, 0, &err), 0);
	assert_int_equal(event_read(st, 0, 0, note, &s, NULL, &err), 0);
	assert_in_range(s.n, EVENTS_KEEP, EVENTS_KEEP + 64);
}

enum { WRITERS = 4, EACH = 150 };

static void write_some(int who)
{
	struct state *own = NULL;
	char actor[16], action[16];

	if (state_open(&own, NULL) < 0)
		_exit(1);
	snprintf(actor, sizeof(actor), "%d", who);
	for (int i = 0; i < EACH; i++) {
		snprintf(action, sizeof(action), "%d", i);
		if (event_add(own, NULL, "test", action, actor, NULL) < 0)
			_exit(1);
	}
	_exit(0);
}

/* A reader that remembers the last ID sees every event of all writers exactly once, in each one's order. */
static void test_writers(void **state)
{
	struct seen s = {0};
	int64_t last = 0;
	int running = WRITERS, status;

	event_read(st, 0, 0, note, &s, &last, &err);
	s.n = 0;
	for (int i = 0; i < WRITERS; i++) {
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			write_some(i);
	}
	while (running) {
		assert_int_equal(event_read(st, last, 0, note, &s, &last, &err), 0);
		while (waitpid(-1, &status, WNOHANG) > 0) {
			assert_int_equal(status, 0);
			running--;
		}
	}
	assert_int_equal(event_read(st, last, 0, note, &s, &last, &err), 0);
	assert_int_equal(s.n, WRITERS * EACH);
	for (int i = 0; i < WRITERS; i++)
		assert_int_equal(s.by_writer[i], EACH);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_write_and_read),
		cmocka_unit_test(test_transaction),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_writers),
		cmocka_unit_test(test_trim),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
