/* SPDX-License-Identifier: MIT */
/* The event loop: what a callback may do, in which order things run, and that nothing starves. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/loop.h"

enum { SOURCES = 8 };

#define MS 1000000ull

struct fixture {
	struct loop *l;
	struct loop_source *src[SOURCES];
	int pair[2];
	int calls[SOURCES];
	char order[64];
};

static struct fixture f;

static int set_up(void **state)
{
	f = (struct fixture){0};
	return loop_new(&f.l) < 0 ||
	       socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, f.pair) < 0;
}

static int tear_down(void **state)
{
	loop_free(f.l);
	close(f.pair[0]);
	close(f.pair[1]);
	return 0;
}

static void note(char c)
{
	size_t n = strlen(f.order);
	assert_true(n + 1 < sizeof(f.order));
	f.order[n] = c;
	f.order[n + 1] = '\0';
}

static void note_it(void *data)
{
	note(*(const char *)data);
}

static void count_io(void *data, int fd, uint32_t events)
{
	++*(int *)data;
}

/* ---- descriptors ---- */

static void a_readable_descriptor_calls_until_it_is_read(void **state)
{
	assert_int_equal(loop_add_io(f.l, f.pair[0], EPOLLIN, count_io, &f.calls[0], &f.src[0]), 0);
	assert_int_equal(loop_turn(f.l, 0), 0);
	assert_int_equal(f.calls[0], 0);
	assert_int_equal(write(f.pair[1], "x", 1), 1);
	loop_turn(f.l, 0);
	loop_turn(f.l, 0);
	assert_int_equal(f.calls[0], 2);
	char c;
	assert_int_equal(read(f.pair[0], &c, 1), 1);
	loop_turn(f.l, 0);
	assert_int_equal(f.calls[0], 2);
}

static void watched_events_can_be_changed_to_none_and_back(void **state)
{
	assert_int_equal(loop_add_io(f.l, f.pair[0], EPOLLOUT, count_io, &f.calls[0], &f.src[0]), 0);
	loop_turn(f.l, 0);
	assert_int_equal(f.calls[0], 1);
	assert_int_equal(loop_set_events(f.src[0], 0), 0);
	loop_turn(f.l, 0);
	assert_int_equal(f.calls[0], 1);
	assert_int_equal(loop_set_events(f.src[0], EPOLLOUT), 0);
	loop_turn(f.l, 0);
	assert_int_equal(f.calls[0], 2);
}

static void a_descriptor_that_cannot_be_watched_is_refused(void **state)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct loop_source *s = NULL;

	assert_int_equal(loop_add_io(f.l, -1, EPOLLIN, count_io, NULL, &s), -EBADF);
	int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	assert_int_equal(loop_add_io(f.l, file, EPOLLIN, count_io, NULL, &s), -EPERM);
	assert_null(s);
	assert_int_equal(loop_turn(f.l, 0), 0);
	close(file);
	close(fd);
}

static void free_both(void *data, int fd, uint32_t events)
{
	f.calls[0]++;
	for (int i = 0; i < 2; i++)
		loop_source_free(TAKE_PTR(f.src[i]));
}

static void a_source_freed_by_another_in_the_same_turn_is_not_called(void **state)
{
	assert_int_equal(write(f.pair[0], "x", 1), 1);
	assert_int_equal(write(f.pair[1], "x", 1), 1);
	assert_int_equal(loop_add_io(f.l, f.pair[0], EPOLLIN, free_both, NULL, &f.src[0]), 0);
	assert_int_equal(loop_add_io(f.l, f.pair[1], EPOLLIN, free_both, NULL, &f.src[1]), 0);
	loop_turn(f.l, 0);
	loop_turn(f.l, 0);
	assert_int_equal(f.calls[0], 1);
}

static void replace_other(void *data, int fd, uint32_t events)
{
	/* The other was ready in this turn: its successor on the same descriptor must not get its event twice. */
	f.calls[0]++;
	for (int i = 0; i < 2; i++)
		loop_source_free(TAKE_PTR(f.src[i]));
	for (int i = 0; i < 2; i++)
		assert_int_equal(loop_add_io(f.l, f.pair[i], EPOLLIN, count_io, &f.calls[1], &f.src[i]), 0);
}

static void a_successor_on_the_same_descriptor_waits_for_the_next_turn(void **state)
{
	assert_int_equal(write(f.pair[0], "x", 1), 1);
	assert_int_equal(write(f.pair[1], "x", 1), 1);
	for (int i = 0; i < 2; i++)
		assert_int_equal(loop_add_io(f.l, f.pair[i], EPOLLIN, replace_other, NULL, &f.src[i]), 0);
	loop_turn(f.l, 0);
	assert_int_equal(f.calls[0], 1);
	assert_int_equal(f.calls[1], 0);
	loop_turn(f.l, 0);
	assert_int_equal(f.calls[1], 2);
}

/* ---- timers ---- */

static void timers_run_in_the_order_of_their_deadlines(void **state)
{
	static const char names[] = "dbeac"; /* in the order of creation */

	for (int i = 0; i < 5; i++)
		assert_int_equal(loop_add_timer(f.l, (uint64_t)(names[i] - 'a' + 1) * 10 * MS, note_it,
					 (void *)(uintptr_t)&names[i], &f.src[i]),
			0);
	uint64_t until = time_mono_ns() + 60 * MS;
	while (time_mono_ns() < until)
		; /* all are due at once: a turn that comes late must not mix them up */
	loop_turn(f.l, 0);
	assert_string_equal(f.order, "abcde");
}

static void a_timer_fires_once_and_not_early(void **state)
{
	uint64_t start = time_mono_ns();

	assert_int_equal(loop_add_timer(f.l, 20 * MS, note_it, (void *)(uintptr_t) "t", &f.src[0]), 0);
	loop_turn(f.l, 0);
	assert_string_equal(f.order, "");
	while (!f.order[0])
		assert_int_equal(loop_turn(f.l, -1), 0);
	assert_true(time_mono_ns() - start >= 20 * MS);
	loop_turn(f.l, 0);
	loop_turn(f.l, 5);
	assert_string_equal(f.order, "t");
}

static void a_timer_can_be_disarmed_and_rearmed(void **state)
{
	assert_int_equal(loop_add_timer(f.l, 0, note_it, (void *)(uintptr_t) "t", &f.src[0]), 0);
	loop_set_timer(f.src[0], UINT64_MAX);
	loop_turn(f.l, 2);
	assert_string_equal(f.order, "");
	loop_set_timer(f.src[0], UINT64_MAX - 5); /* so far away that it is never */
	loop_turn(f.l, 2);
	assert_string_equal(f.order, "");
	loop_set_timer(f.src[0], 0);
	loop_turn(f.l, -1);
	assert_string_equal(f.order, "t");
}

static void rearm_self(void *data)
{
	f.calls[0]++;
	loop_set_timer(f.src[0], 0);
}

static void a_timer_rearmed_with_zero_lets_the_turn_end(void **state)
{
	assert_int_equal(loop_add_timer(f.l, 0, rearm_self, NULL, &f.src[0]), 0);
	for (int i = 1; i <= 5; i++) {
		assert_int_equal(loop_turn(f.l, -1), 0);
		assert_int_equal(f.calls[0], i);
	}
}

static void free_all(void *data)
{
	f.calls[0]++;
	for (int i = 0; i < SOURCES; i++)
		loop_source_free(TAKE_PTR(f.src[i]));
}

static void a_timer_may_free_itself_and_its_neighbours(void **state)
{
	for (int i = 0; i < SOURCES; i++)
		assert_int_equal(loop_add_timer(f.l, 0, free_all, NULL, &f.src[i]), 0);
	loop_turn(f.l, -1);
	loop_turn(f.l, 0);
	assert_int_equal(f.calls[0], 1);
}

static void a_turn_waits_no_longer_than_it_is_told(void **state)
{
	assert_int_equal(loop_add_timer(f.l, 3600000 * MS, note_it, (void *)(uintptr_t) "t", &f.src[0]), 0);
	assert_int_equal(loop_turn(f.l, 1), 0);
	assert_string_equal(f.order, "");
}

/* ---- deferred work ---- */

static void deferred_work_runs_once_at_the_end_of_the_turn(void **state)
{
	assert_int_equal(loop_add_deferred(f.l, note_it, (void *)(uintptr_t) "d", &f.src[0]), 0);
	loop_turn(f.l, 0);
	assert_string_equal(f.order, "");
	loop_defer(f.src[0]);
	loop_defer(f.src[0]);
	loop_turn(f.l, -1); /* does not wait: there is something to do */
	assert_string_equal(f.order, "d");
	loop_turn(f.l, 0);
	assert_string_equal(f.order, "d");
}

static void defer_from_io(void *data, int fd, uint32_t events)
{
	note('i');
	loop_defer(f.src[1]);
}

static void work_deferred_by_an_event_runs_in_the_same_turn(void **state)
{
	assert_int_equal(loop_add_io(f.l, f.pair[0], EPOLLOUT, defer_from_io, NULL, &f.src[0]), 0);
	assert_int_equal(loop_add_deferred(f.l, note_it, (void *)(uintptr_t) "d", &f.src[1]), 0);
	loop_turn(f.l, -1);
	assert_string_equal(f.order, "id");
}

static void defer_again(void *data)
{
	++*(int *)data;
	loop_defer(f.src[(int *)data - f.calls]);
}

static void work_that_defers_itself_leaves_room_for_the_rest(void **state)
{
	int ready = 0;

	for (int i = 0; i < 3; i++) {
		assert_int_equal(loop_add_deferred(f.l, defer_again, &f.calls[i], &f.src[i]), 0);
		loop_defer(f.src[i]);
	}
	assert_int_equal(loop_add_io(f.l, f.pair[0], EPOLLOUT, count_io, &ready, &f.src[3]), 0);
	for (int turn = 1; turn <= 4; turn++) {
		loop_turn(f.l, -1);
		for (int i = 0; i < 3; i++)
			assert_int_equal(f.calls[i], turn); /* each once a turn, whoever was made first */
		assert_int_equal(ready, turn);
	}
}

static void defer_next(void *data)
{
	int i = (int)((int *)data - f.calls);
	f.calls[i]++;
	if (i < 2)
		loop_defer(f.src[i + 1]);
}

static void work_deferred_by_deferred_work_waits_for_the_next_turn(void **state)
{
	for (int i = 2; i >= 0; i--)
		assert_int_equal(loop_add_deferred(f.l, defer_next, &f.calls[i], &f.src[i]), 0);
	loop_defer(f.src[0]);
	for (int turn = 0; turn < 3; turn++) {
		loop_turn(f.l, -1);
		for (int i = 0; i < 3; i++)
			assert_int_equal(f.calls[i], i <= turn);
	}
}

static void deferred_work_may_free_itself_and_others(void **state)
{
	for (int i = 0; i < SOURCES; i++) {
		assert_int_equal(loop_add_deferred(f.l, free_all, NULL, &f.src[i]), 0);
		loop_defer(f.src[i]);
	}
	loop_turn(f.l, 0);
	loop_turn(f.l, 0);
	assert_int_equal(f.calls[0], 1);
}

/* ---- running ---- */

static void quit_seven(void *data)
{
	loop_quit(f.l, 7);
}

static void running_ends_with_the_value_given_to_quit(void **state)
{
	assert_int_equal(loop_add_timer(f.l, 0, quit_seven, NULL, &f.src[0]), 0);
	assert_int_equal(loop_run(f.l), 7);
}

static void a_quit_before_running_is_not_lost_and_counts_once(void **state)
{
	loop_quit(f.l, 3);
	assert_int_equal(loop_run(f.l), 3);
	assert_int_equal(loop_add_timer(f.l, 0, quit_seven, NULL, &f.src[0]), 0);
	assert_int_equal(loop_run(f.l), 7);
}

static void a_loop_frees_the_sources_left_on_it(void **state)
{
	struct loop *l = NULL;
	struct loop_source *s;

	assert_int_equal(loop_new(&l), 0);
	assert_int_equal(loop_add_io(l, f.pair[0], EPOLLIN, count_io, NULL, &s), 0);
	assert_int_equal(loop_add_timer(l, 0, quit_seven, NULL, &s), 0);
	assert_int_equal(loop_add_deferred(l, quit_seven, NULL, &s), 0);
	loop_free(l); /* a leak checker would tell */
	loop_free(NULL);
	loop_source_free(NULL);
}

/* ---- calls from other threads ---- */

enum { CALLERS = 4, CALLS = 500 };

struct caller {
	pthread_t thread;
	struct loop *l;
	unsigned returned;
	bool quit; /* ends the loop when it is done */
};

static pthread_t loop_thread;
static unsigned n_calls, n_wrong;

static void on_call(void *data)
{
	unsigned *sum = data;

	/* Without a lock: all of them run on one thread, one after the other. */
	n_calls++;
	++*sum;
	n_wrong += !pthread_equal(pthread_self(), loop_thread);
}

static void *call_many(void *data)
{
	struct caller *c = data;
	unsigned sum = 0;

	for (unsigned i = 0; i < CALLS; i++) {
		loop_call(c->l, on_call, &sum);
		c->returned += sum == i + 1; /* it is done by now */
	}
	if (c->quit)
		loop_call(c->l, quit_seven, NULL);
	return NULL;
}

static void a_call_on_the_loops_own_thread_runs_at_once(void **state)
{
	unsigned sum = 0;

	loop_thread = pthread_self();
	assert_int_equal(loop_allow_calls(f.l), 0);
	n_wrong = 0;
	loop_call(f.l, on_call, &sum);
	assert_int_equal(sum, 1);
	assert_int_equal(n_wrong, 0);
}

static void calls_of_a_thread_run_on_the_loop_and_are_waited_for(void **state)
{
	struct caller c = {.l = f.l, .quit = true};

	loop_thread = pthread_self();
	n_calls = n_wrong = 0;
	assert_int_equal(loop_allow_calls(f.l), 0);
	assert_int_equal(pthread_create(&c.thread, NULL, call_many, &c), 0);
	assert_int_equal(loop_run(f.l), 7);
	pthread_join(c.thread, NULL);
	assert_int_equal(n_calls, CALLS);
	assert_int_equal(n_wrong, 0);
	assert_int_equal(c.returned, CALLS);
}

static void calls_of_several_threads_do_not_meet(void **state)
{
	struct caller c[CALLERS] = {0};

	loop_thread = pthread_self();
	n_calls = n_wrong = 0;
	assert_int_equal(loop_allow_calls(f.l), 0);
	for (int i = 0; i < CALLERS; i++) {
		c[i].l = f.l;
		assert_int_equal(pthread_create(&c[i].thread, NULL, call_many, &c[i]), 0);
	}
	for (uint64_t end = time_mono_ns() + 20000 * MS; n_calls < CALLERS * CALLS && time_mono_ns() < end;)
		assert_int_equal(loop_turn(f.l, 10), 0);
	for (int i = 0; i < CALLERS; i++) {
		pthread_join(c[i].thread, NULL);
		assert_int_equal(c[i].returned, CALLS);
	}
	assert_int_equal(n_calls, CALLERS * CALLS);
	assert_int_equal(n_wrong, 0);
}

static void call_again(void *data)
{
	unsigned *sum = data;

	if (++*sum < 3)
		loop_call(f.l, call_again, sum);
}

static void *call_nested(void *data)
{
	loop_call(f.l, call_again, data);
	loop_call(f.l, quit_seven, NULL);
	return NULL;
}

static void a_call_may_call(void **state)
{
	unsigned sum = 0;
	pthread_t t;

	assert_int_equal(loop_allow_calls(f.l), 0);
	assert_int_equal(pthread_create(&t, NULL, call_nested, &sum), 0);
	assert_int_equal(loop_run(f.l), 7);
	pthread_join(t, NULL);
	assert_int_equal(sum, 3);
}

static void free_source(void *data)
{
	loop_source_free(TAKE_PTR(f.src[1]));
	loop_defer(f.src[2]);
}

static void *call_free(void *data)
{
	loop_call(f.l, free_source, NULL);
	return NULL;
}

static void a_call_may_free_and_defer_as_any_callback(void **state)
{
	pthread_t t;

	assert_int_equal(loop_allow_calls(f.l), 0);
	assert_int_equal(loop_add_io(f.l, f.pair[0], EPOLLIN, count_io, &f.calls[1], &f.src[1]), 0);
	assert_int_equal(loop_add_deferred(f.l, quit_seven, NULL, &f.src[2]), 0);
	assert_int_equal(pthread_create(&t, NULL, call_free, NULL), 0);
	assert_int_equal(loop_run(f.l), 7);
	pthread_join(t, NULL);
	assert_int_equal(write(f.pair[1], "x", 1), 1);
	loop_turn(f.l, 0);
	assert_int_equal(f.calls[1], 0);
}

static void a_call_waits_for_a_loop_that_is_not_running_yet(void **state)
{
	struct caller c = {.l = f.l, .quit = true};

	loop_thread = pthread_self();
	n_calls = n_wrong = 0;
	assert_int_equal(loop_allow_calls(f.l), 0);
	assert_int_equal(pthread_create(&c.thread, NULL, call_many, &c), 0);
	usleep(20000);
	assert_int_equal(n_calls, 0);
	assert_int_equal(loop_run(f.l), 7);
	pthread_join(c.thread, NULL);
	assert_int_equal(n_calls, CALLS);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_readable_descriptor_calls_until_it_is_read),
		TEST(watched_events_can_be_changed_to_none_and_back),
		TEST(a_descriptor_that_cannot_be_watched_is_refused),
		TEST(a_source_freed_by_another_in_the_same_turn_is_not_called),
		TEST(a_successor_on_the_same_descriptor_waits_for_the_next_turn),
		TEST(timers_run_in_the_order_of_their_deadlines),
		TEST(a_timer_fires_once_and_not_early),
		TEST(a_timer_can_be_disarmed_and_rearmed),
		TEST(a_timer_rearmed_with_zero_lets_the_turn_end),
		TEST(a_timer_may_free_itself_and_its_neighbours),
		TEST(a_turn_waits_no_longer_than_it_is_told),
		TEST(deferred_work_runs_once_at_the_end_of_the_turn),
		TEST(work_deferred_by_an_event_runs_in_the_same_turn),
		TEST(work_that_defers_itself_leaves_room_for_the_rest),
		TEST(work_deferred_by_deferred_work_waits_for_the_next_turn),
		TEST(deferred_work_may_free_itself_and_others),
		TEST(running_ends_with_the_value_given_to_quit),
		TEST(a_quit_before_running_is_not_lost_and_counts_once),
		TEST(a_loop_frees_the_sources_left_on_it),
		TEST(a_call_on_the_loops_own_thread_runs_at_once),
		TEST(calls_of_a_thread_run_on_the_loop_and_are_waited_for),
		TEST(calls_of_several_threads_do_not_meet),
		TEST(a_call_may_call),
		TEST(a_call_may_free_and_defer_as_any_callback),
		TEST(a_call_waits_for_a_loop_that_is_not_running_yet),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
