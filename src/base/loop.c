/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * Sources hang on a list for each kind. epoll carries a source's address; since a callback may free any source, a freed one
 * is only marked dead and released when the turn's events are all dispatched. Timers and deferred work are few (tens),
 * so what is next is found by walking their list; descriptors may be many, and are never walked. The nearest deadline
 * is waited for in milliseconds, rounded up.
 */
#include "base/loop.h"

#include <pthread.h>
#include <stdbool.h>
#include <sys/eventfd.h>

#include "base/io.h"

enum kind { KIND_IO, KIND_TIMER, KIND_DEFERRED, KINDS };

struct loop_source {
	struct loop *loop;
	struct loop_source *prev, *next;
	enum kind kind;
	bool dead;
	int fd;
	uint32_t events;
	uint64_t deadline_ns; /* UINT64_MAX: not armed */
	bool pending;	      /* deferred work wanted */
	bool due;	      /* deferred work of this turn, not yet run */
	union {
		loop_io_fn io;
		loop_fn fn;
	};
	void *data;
};

/* A call from another thread, on that thread's stack. */
struct call {
	struct call *next;
	loop_fn fn;
	void *data;
	bool done;
};

struct loop {
	int epfd;
	int call_fd; /* eventfd that wakes the loop for calls; -1: none allowed */
	pthread_t thread;
	struct loop_source *call_src;
	pthread_mutex_t call_lock;
	pthread_cond_t call_done;
	struct call *calls, **calls_end; /* under call_lock */
	struct loop_source *sources[KINDS], *graveyard;
	unsigned n_timers;
	bool any_pending, quit, dispatching;
	int quit_value;
};

int loop_new(struct loop **ret)
{
	struct loop *l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->call_fd = -1;
	l->calls_end = &l->calls;
	pthread_mutex_init(&l->call_lock, NULL);
	pthread_cond_init(&l->call_done, NULL);
	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epfd < 0) {
		int r = -errno;
		free(l);
		return r;
	}
	*ret = l;
	return 0;
}

static void bury(struct loop *l)
{
	while (l->graveyard) {
		struct loop_source *s = l->graveyard;
		l->graveyard = s->next;
		free(s);
	}
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	l->dispatching = false;
	for (enum kind k = 0; k < KINDS; k++) {
		while (l->sources[k])
			loop_source_free(l->sources[k]);
	}
	bury(l);
	close_fd(&l->call_fd);
	close(l->epfd);
	pthread_cond_destroy(&l->call_done);
	pthread_mutex_destroy(&l->call_lock);
	free(l);
}

static struct loop_source *source_new(struct loop *l, enum kind kind, void *data)
{
	struct loop_source *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->loop = l;
	s->kind = kind;
	s->fd = -1;
	s->deadline_ns = UINT64_MAX;
	s->data = data;
	s->next = l->sources[kind];
	if (s->next)
		s->next->prev = s;
	l->sources[kind] = s;
	return s;
}

void loop_source_free(struct loop_source *s)
{
	if (!s || s->dead)
		return;
	struct loop *l = s->loop;
	if (s->fd >= 0)
		epoll_ctl(l->epfd, EPOLL_CTL_DEL, s->fd, NULL);
	if (s->kind == KIND_TIMER)
		l->n_timers--;
	if (s->prev)
		s->prev->next = s->next;
	else
		l->sources[s->kind] = s->next;
	if (s->next)
		s->next->prev = s->prev;
	s->dead = true;
	if (l->dispatching) {
		/* `next` is needed by a walk that stands on this source: it only ever reads it before the callback. */
		s->next = l->graveyard;
		l->graveyard = s;
	} else {
		free(s);
	}
}

int loop_add_io(struct loop *l, int fd, uint32_t events, loop_io_fn fn, void *data, struct loop_source **ret)
{
	struct loop_source *s = source_new(l, KIND_IO, data);
	if (!s)
		return -ENOMEM;
	struct epoll_event ev = {.events = events, .data.ptr = s};
	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) < 0) {
		int r = -errno;
		loop_source_free(s);
		return r;
	}
	s->fd = fd;
	s->events = events;
	s->io = fn;
	*ret = s;
	return 0;
}

int loop_set_events(struct loop_source *s, uint32_t events)
{
	if (s->events == events)
		return 0;
	struct epoll_event ev = {.events = events, .data.ptr = s};
	if (epoll_ctl(s->loop->epfd, EPOLL_CTL_MOD, s->fd, &ev) < 0)
		return -errno;
	s->events = events;
	return 0;
}

int loop_add_timer(struct loop *l, uint64_t delay_ns, loop_fn fn, void *data, struct loop_source **ret)
{
	struct loop_source *s = source_new(l, KIND_TIMER, data);
	if (!s)
		return -ENOMEM;
	s->fn = fn;
	l->n_timers++;
	loop_set_timer(s, delay_ns);
	*ret = s;
	return 0;
}

void loop_set_timer(struct loop_source *s, uint64_t delay_ns)
{
	if (delay_ns == UINT64_MAX || __builtin_add_overflow(time_mono_ns(), delay_ns, &s->deadline_ns))
		s->deadline_ns = UINT64_MAX;
}

int loop_add_deferred(struct loop *l, loop_fn fn, void *data, struct loop_source **ret)
{
	struct loop_source *s = source_new(l, KIND_DEFERRED, data);
	if (!s)
		return -ENOMEM;
	s->fn = fn;
	*ret = s;
	return 0;
}

void loop_defer(struct loop_source *s)
{
	s->pending = true;
	s->loop->any_pending = true;
}

static void on_calls(void *data, int fd, uint32_t events)
{
	struct loop *l = data;
	uint64_t count;

	if (read(fd, &count, sizeof(count)) != sizeof(count))
		return;
	/* Those of now: callers that call again at once must not keep the loop from everything else. */
	pthread_mutex_lock(&l->call_lock);
	struct call *next = l->calls;
	l->calls = NULL;
	l->calls_end = &l->calls;
	while (next) {
		struct call *c = next;
		next = c->next;
		pthread_mutex_unlock(&l->call_lock);
		c->fn(c->data);
		pthread_mutex_lock(&l->call_lock);
		c->done = true; /* from here on its stack frame may be gone */
		pthread_cond_broadcast(&l->call_done);
	}
	pthread_mutex_unlock(&l->call_lock);
}

int loop_allow_calls(struct loop *l)
{
	l->thread = pthread_self();
	if (l->call_fd >= 0)
		return 0;
	l->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->call_fd < 0)
		return -errno;
	return loop_add_io(l, l->call_fd, EPOLLIN, on_calls, l, &l->call_src);
}

void loop_call(struct loop *l, loop_fn fn, void *data)
{
	struct call c = {.fn = fn, .data = data};
	const uint64_t one = 1;

	if (pthread_equal(pthread_self(), l->thread)) {
		fn(data);
		return;
	}
	pthread_mutex_lock(&l->call_lock);
	*l->calls_end = &c;
	l->calls_end = &c.next;
	ssize_t n = write(l->call_fd, &one, sizeof(one)); /* cannot fail: the counter is far from its end */
	(void)n;
	while (!c.done)
		pthread_cond_wait(&l->call_done, &l->call_lock);
	pthread_mutex_unlock(&l->call_lock);
}

/* Milliseconds until the nearest deadline, rounded up, at most limit_ms (-1: no limit). */
static int wait_ms(const struct loop *l, int limit_ms)
{
	uint64_t nearest = UINT64_MAX;

	if (l->any_pending)
		return 0;
	if (l->n_timers == 0)
		return limit_ms;
	for (const struct loop_source *s = l->sources[KIND_TIMER]; s; s = s->next) {
		if (s->deadline_ns < nearest)
			nearest = s->deadline_ns;
	}
	if (nearest == UINT64_MAX)
		return limit_ms;
	uint64_t now = time_mono_ns();
	uint64_t ms = nearest <= now ? 0 : (nearest - now + 999999) / 1000000;
	if (limit_ms >= 0 && ms > (uint64_t)limit_ms)
		return limit_ms;
	return ms > 3600000 ? 3600000 : (int)ms;
}

/* Runs the due timer with the earliest deadline; true if there was one. Restarting the walk survives any free. */
static bool run_one_timer(struct loop *l, uint64_t now)
{
	struct loop_source *first = NULL;

	for (struct loop_source *s = l->sources[KIND_TIMER]; s; s = s->next) {
		if (s->deadline_ns <= now && (!first || s->deadline_ns <= first->deadline_ns))
			first = s;
	}
	if (!first)
		return false;
	first->deadline_ns = UINT64_MAX;
	first->fn(first->data);
	return true;
}

static bool run_one_deferred(struct loop *l)
{
	for (struct loop_source *s = l->sources[KIND_DEFERRED]; s; s = s->next) {
		if (s->due) {
			s->due = false;
			s->fn(s->data);
			return true;
		}
	}
	return false;
}

int loop_turn(struct loop *l, int timeout_ms)
{
	enum { EVENTS = 64 };
	struct epoll_event ev[EVENTS];

	int n = epoll_wait(l->epfd, ev, EVENTS, wait_ms(l, timeout_ms));
	if (n < 0)
		return errno == EINTR ? 0 : -errno;

	l->dispatching = true;
	for (int i = 0; i < n; i++) {
		struct loop_source *s = ev[i].data.ptr;
		if (!s->dead)
			s->io(s->data, s->fd, ev[i].events);
	}
	if (l->n_timers) {
		uint64_t now =
			time_mono_ns(); /* fixed: a timer rearmed with 0 waits for the next turn's clock */
		while (run_one_timer(l, now))
			;
	}
	/* Work deferred by deferred work waits for the next turn, so that neither descriptors nor other work starve. */
	if (l->any_pending) {
		l->any_pending = false;
		for (struct loop_source *s = l->sources[KIND_DEFERRED]; s; s = s->next) {
			s->due = s->pending;
			s->pending = false;
		}
		while (run_one_deferred(l))
			;
	}
	l->dispatching = false;
	bury(l);
	return 0;
}

int loop_run(struct loop *l)
{
	while (!l->quit) {
		int r = loop_turn(l, -1);
		if (r < 0)
			return r;
	}
	l->quit = false;
	return l->quit_value;
}

void loop_quit(struct loop *l, int value)
{
	l->quit = true;
	l->quit_value = value;
}
