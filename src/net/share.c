/* SPDX-License-Identifier: MIT */
/*
 * Descriptors are the one thing that all boxes of a network take from the same small store. Some are set aside for what
 * keeps the network going: control connections, frames of boxes, questions of DNS. Published ports count as they come, as a
 * supervisor asks for them and not a box. All others are shared by boxes, in the way in which port.c shares a queue.
 */
#include <sys/resource.h>

#include "base/io.h"
#include "engine.h"

enum { SET_ASIDE = 4096 };
#define NS_PER_S 1000000000ull

unsigned share_budget(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0)
		return 0;
	const rlim_t all = MIN_OF(l.rlim_cur, (rlim_t)1 << 30);
	return (unsigned)(all - MIN_OF(all / 4, (rlim_t)SET_ASIDE));
}

/* With so many of its own given back before. */
static bool has_room(const struct port *p, unsigned given)
{
	const struct engine *g = p->g;

	if (!g->socket_budget)
		return true;
	const unsigned budget = g->socket_budget - MIN_OF(g->socket_budget, g->n_published);
	const unsigned all = g->n_sockets - given, own = p->n_sockets - given;
	return all < budget && (all < budget / 2 || own < budget / (g->n_ports + 1));
}

bool share_room(const struct port *p)
{
	return has_room(p, 0);
}

bool share_can_swap(const struct port *p)
{
	return p->n_sockets && has_room(p, 1);
}

void share_take(struct port *p)
{
	p->n_sockets++;
	p->g->n_sockets++;
}

void share_give(struct port *p)
{
	p->n_sockets--;
	p->g->n_sockets--;
}

bool share_begin(struct port *p)
{
	const uint64_t now = time_mono_ns(), from = MAX_OF(p->begins_ns, now);

	/* What was not used is there for one second's worth at once. */
	if (from - now >= NS_PER_S)
		return false;
	p->begins_ns = from + NS_PER_S / ENGINE_BEGINS_PER_S;
	return true;
}
