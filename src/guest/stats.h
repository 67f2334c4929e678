/* SPDX-License-Identifier: MIT */
/* What the box uses, from its cgroup and the guest's kernel. */
#ifndef GUEST_STATS_H
#define GUEST_STATS_H

#include "wire/wire.h"

/*
 * cgroup: the box's folder; proc: a /proc of any PID namespace. What the kernel does not say is 0. Returns 0 or -errno.
 */
int stats_collect(int cgroup, int proc, struct wire_stats *ret);

/* ---- parts ---- */

/* The number behind "KEY " at the start of a line, 0 if there is none. */
uint64_t stats_value(const char *text, const char *key);
/* Sums of the rbytes= and wbytes= of io.stat. */
void stats_parse_io(const char *text, uint64_t *ret_read, uint64_t *ret_written);
/* Sums of /proc/net/dev over all interfaces but the loopback. */
void stats_parse_net(const char *text, uint64_t *ret_received, uint64_t *ret_sent);

#endif
