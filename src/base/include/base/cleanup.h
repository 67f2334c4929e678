/* SPDX-License-Identifier: MIT */
/*
 * Scope-bound release of resources (GCC's cleanup attribute) and explicit transfer of ownership.
 * A destructor used here takes NULL (or -1 for descriptors) and does nothing.
 */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(fn) __attribute__((cleanup(fn)))

/* Defines fn##p(T *) for a variable of pointer type T, e.g. DEFINE_CLEANUP(struct foo *, foo_free). */
#define DEFINE_CLEANUP(T, fn) \
	static inline void fn##p(T *p) \
	{ \
		if (*p) \
			fn(*p); \
	}

static inline void cleanup_free_impl(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_close_impl(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;
		close(*fd);
		errno = saved;
	}
}

static inline void cleanup_fclose_impl(FILE **f)
{
	if (*f)
		fclose(*f);
}

#define CLEANUP_FREE   CLEANUP(cleanup_free_impl)
#define CLEANUP_CLOSE  CLEANUP(cleanup_close_impl)
#define CLEANUP_FCLOSE CLEANUP(cleanup_fclose_impl)

/* Moves a pointer or descriptor out of a variable that would otherwise release it. */
#define TAKE_PTR(p) \
	({ \
		__typeof__(p) take_ = (p); \
		(p) = NULL; \
		take_; \
	})
#define TAKE_FD(fd) \
	({ \
		int take_ = (fd); \
		(fd) = -1; \
		take_; \
	})

/* Closes *fd if open and marks it closed; errno is kept. */
static inline void close_fd(int *fd)
{
	cleanup_close_impl(fd);
	*fd = -1;
}

#define ARRAY_LEN(a)	 (sizeof(a) / sizeof((a)[0]))
#define PRINTF(fmt, arg) __attribute__((format(printf, fmt, arg)))
#define MIN_OF(a, b)	 ((a) < (b) ? (a) : (b))
#define MAX_OF(a, b)	 ((a) > (b) ? (a) : (b))

#endif
