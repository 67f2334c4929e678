/* SPDX-License-Identifier: MIT */
/*
 * Event loop of one thread over epoll: descriptors (level-triggered), timers, and work deferred to the end
 * of the current turn. A source may be freed from any callback, its own included. All calls belong to
 * the loop's thread, but for loop_call.
 */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include <stdint.h>
#include <sys/epoll.h>

#include "base/cleanup.h"

struct loop;
struct loop_source;

typedef void (*loop_io_fn)(void *data, int fd, uint32_t events); /* EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR */
typedef void (*loop_fn)(void *data);

int loop_new(struct loop **ret);
/* Frees the loop and any source still on it. NULL allowed. */
void loop_free(struct loop *l);
DEFINE_CLEANUP(struct loop *, loop_free)

/* Runs until loop_quit, which may have been called before. Returns the value given to loop_quit, or -errno. */
int loop_run(struct loop *l);
/* One turn, waiting at most timeout_ms (-1: for ever, 0: not at all). Returns 0 or -errno. */
int loop_turn(struct loop *l, int timeout_ms);
void loop_quit(struct loop *l, int value);

/* Watches fd, which stays the caller's and must outlive the source. events may be 0 (only HUP and ERR). */
int loop_add_io(struct loop *l, int fd, uint32_t events, loop_io_fn fn, void *data, struct loop_source **ret);
/* Changes what is watched; no system call if nothing changes. */
int loop_set_events(struct loop_source *s, uint32_t events);
/* Calls fn once after delay_ns; rearm with loop_set_timer. The source stays until freed. */
int loop_add_timer(struct loop *l, uint64_t delay_ns, loop_fn fn, void *data, struct loop_source **ret);
/* Rearms a timer; UINT64_MAX disarms it. */
void loop_set_timer(struct loop_source *s, uint64_t delay_ns);
/* A source that calls fn at the end of every turn in which loop_defer was called on it. */
int loop_add_deferred(struct loop *l, loop_fn fn, void *data, struct loop_source **ret);
void loop_defer(struct loop_source *s);
/* Lets other threads use loop_call; this thread is the loop's from now on. 0 or -errno. */
int loop_allow_calls(struct loop *l);
/*
 * Runs fn on the loop's thread and returns when it has; on that thread itself, at once. From another thread the loop
 * must be running, or run soon: it is waited for without a limit.
 */
void loop_call(struct loop *l, loop_fn fn, void *data);
/* Stops and frees; NULL allowed. */
void loop_source_free(struct loop_source *s);
DEFINE_CLEANUP(struct loop_source *, loop_source_free)

#endif
