/* SPDX-License-Identifier: MIT */
/*
 * Who of this guest holds which POSIX lock, and who waits for whom. The locks themselves are the host's kernel's (lock.c), but of
 * those of open file descriptions it neither finds deadlocks nor tells whose they are (fcntl(2)); programs of the guest expect
 * both, EDEADLK and l_pid. So what the kernel has granted is noted here once more.
 *
 * Only owners of this one server are known. A cycle through another box or a program of the host is not found: its waits last
 * until one of them is interrupted. And FUSE does not tell F_OFD_SETLKW in the guest from F_SETLKW: a cycle of such locks is an
 * EDEADLK as well, where a local file system would let them wait for ever.
 */
#include "server.h"

#include <fcntl.h>
#include <string.h>

struct lock_range lock_range_of(const struct flock *l)
{
	return (struct lock_range){.start = l->l_start,
		.end = l->l_len ? l->l_start + l->l_len - 1 : INT64_MAX,
		.exclusive = l->l_type == F_WRLCK};
}

/* Behind the others; one that continues the last becomes part of it, as with the kernel. */
static void append(struct lock_range *v, size_t *n, struct lock_range x)
{
	struct lock_range *last = *n ? &v[*n - 1] : NULL;

	if (last && last->exclusive == x.exclusive && last->end < x.start && last->end + 1 == x.start)
		last->end = x.end;
	else
		v[(*n)++] = x;
}

/* What is left of the old ones around `at`, and x in its place unless it is NULL. Room for two more than there were. */
static size_t replace(const struct lock_range *old, size_t n_old, struct lock_range at,
	const struct lock_range *x, struct lock_range *v)
{
	size_t n = 0;

	for (size_t i = 0; i < n_old; i++) {
		struct lock_range left = old[i], right = old[i];
		if (old[i].start < at.start) {
			left.end = MIN_OF(old[i].end, at.start - 1);
			append(v, &n, left);
		}
		if (old[i].end > at.end) {
			if (x)
				append(v, &n, *x);
			x = NULL;
			right.start = MAX_OF(old[i].start, at.end + 1);
			append(v, &n, right);
		}
	}
	if (x)
		append(v, &n, *x);
	return n;
}

void held_note(struct fs_server *s, struct lock_owner *o, const struct flock *l)
{
	const struct lock_range at = lock_range_of(l);
	struct lock_range *v;
	size_t n = 0;

	if (o->unknown)
		return;
	v = malloc((o->n_held + 2) * sizeof(*v));
	if (v)
		n = replace(o->held, o->n_held, at, l->l_type == F_UNLCK ? NULL : &at, v);
	s->n_held -= o->n_held;
	free(o->held);
	o->held = NULL;
	o->n_held = 0;
	if (!v || n > HELD_MAX - s->n_held) {
		/* It still has its locks; only nothing is known of them. */
		o->unknown = true;
		n = 0;
	}
	if (n == 0) {
		free(v);
		return;
	}
	o->held = v;
	o->n_held = n;
	s->n_held += n;
}

void held_forget(struct fs_server *s, struct lock_owner *o)
{
	s->n_held -= o->n_held;
	free(o->held);
	o->held = NULL;
	o->n_held = 0;
}

static bool in_the_way(const struct lock_owner *o, const struct lock_range *want)
{
	for (size_t i = 0; i < o->n_held; i++) {
		const struct lock_range *h = &o->held[i];
		if (h->start <= want->end && want->start <= h->end && (h->exclusive || want->exclusive))
			return true;
	}
	return false;
}

/* Follows those in the way to what they wait for themselves. True: it leads back. */
static bool closes_cycle(struct fs_server *s, struct lock_wait *me)
{
	struct lock_wait *last = me, *v;
	bool cycle = false;

	for (v = s->lock_waits; v; v = v->next) {
		v->seen = v == me;
		v->next_seen = NULL;
	}
	for (struct lock_wait *w = me; w && !cycle; w = w->next_seen) {
		pthread_mutex_lock(node_lock(s, w->node));
		for (const struct lock_owner *o = w->node->owners; o && !cycle; o = o->next) {
			if (o->id == w->owner || !in_the_way(o, &w->want))
				continue;
			cycle = o->id == me->owner;
			for (v = s->lock_waits; v; v = v->next) {
				if (v->seen || v->owner != o->id)
					continue;
				v->seen = true;
				last = last->next_seen = v;
			}
		}
		pthread_mutex_unlock(node_lock(s, w->node));
	}
	return cycle;
}

int held_wait_begin(struct fs_server *s, struct lock_wait *w)
{
	int err = 0;

	pthread_mutex_lock(&s->posix_lock);
	w->next = s->lock_waits;
	s->lock_waits = w;
	if (closes_cycle(s, w)) {
		s->lock_waits = w->next;
		err = -EDEADLK;
	}
	pthread_mutex_unlock(&s->posix_lock);
	return err;
}

void held_wait_end(struct fs_server *s, struct lock_wait *w)
{
	struct lock_wait **p;

	pthread_mutex_lock(&s->posix_lock);
	for (p = &s->lock_waits; *p != w; p = &(*p)->next)
		;
	*p = w->next;
	pthread_mutex_unlock(&s->posix_lock);
}

uint32_t held_by(struct fs_server *s, struct node *n, const struct flock *l)
{
	const struct lock_range x = lock_range_of(l);
	uint32_t pid = 0;

	pthread_mutex_lock(node_lock(s, n));
	for (const struct lock_owner *o = n->owners; o && !pid; o = o->next) {
		for (size_t i = 0; i < o->n_held; i++) {
			const struct lock_range *h = &o->held[i];
			if (h->start == x.start && h->end == x.end && h->exclusive == x.exclusive)
				pid = o->pid;
		}
	}
	pthread_mutex_unlock(node_lock(s, n));
	return pid;
}
