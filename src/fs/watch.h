/* SPDX-License-Identifier: MIT */
/* What the server keeps of watches; watch.c has the theory. */
#ifndef FS_WATCH_H
#define FS_WATCH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/fanotify.h>

#define WATCH_SLOTS	  4096 /* chains */
#define WATCH_GROUP_FLAGS (FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK | FAN_REPORT_DFID_NAME_TARGET)

struct watch;

struct watches {
	pthread_mutex_t lock; /* the table, nodes' watches, fan_fd; may be held as the server's is taken */
	int fan_fd;	      /* -1: nobody has watched yet */
	int wake_fd;	      /* eventfd: the request that waits looks whether it still may */
	atomic_bool ended;    /* it may not, until the next reset */
	struct watch *table[WATCH_SLOTS];
	size_t n;
	/* Of the request for events, of which there is one. */
	atomic_bool waiting;
	uint32_t cookie;
	size_t at, len;
	_Alignas(8) char buf[4096];
};

#endif
