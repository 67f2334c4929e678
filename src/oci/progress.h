/* SPDX-License-Identifier: MIT */
/* One watcher for several threads: their calls reach it one at a time. */
#ifndef OCI_PROGRESS_H
#define OCI_PROGRESS_H

#include <pthread.h>

#include "oci/oci.h"

struct oci_serial {
	struct oci_progress progress; /* for the threads */
	const struct oci_progress *to;
	pthread_mutex_t mutex;
};
/* to: borrowed; NULL: nobody watches. */
void oci_serial_init(struct oci_serial *s, const struct oci_progress *to);
/* Nobody may call it any more. */
void oci_serial_done(struct oci_serial *s);

/* Tells the watcher, if there is one. */
static inline void oci_tell(
	const struct oci_progress *p, const char *item, const char *action, uint64_t done, uint64_t total)
{
	if (p && p->fn)
		p->fn(p->data, item, action, done, total);
}

#endif
