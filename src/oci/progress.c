/* SPDX-License-Identifier: MIT */
#include "progress.h"

static void pass_on(void *data, const char *item, const char *action, uint64_t done, uint64_t total)
{
	struct oci_serial *s = data;

	pthread_mutex_lock(&s->mutex);
	s->to->fn(s->to->data, item, action, done, total);
	pthread_mutex_unlock(&s->mutex);
}

void oci_serial_init(struct oci_serial *s, const struct oci_progress *to)
{
	*s = (struct oci_serial){.to = to};
	if (to && to->fn)
		s->progress = (struct oci_progress){pass_on, s};
	pthread_mutex_init(&s->mutex, NULL);
}

void oci_serial_done(struct oci_serial *s)
{
	pthread_mutex_destroy(&s->mutex);
}
