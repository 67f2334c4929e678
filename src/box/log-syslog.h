/* SPDX-License-Identifier: MIT */
/*
 * Output sent to a syslog server, a message for each line.
 *
 *     /dev/log, unix://PATH   RFC 3164 as of syslog(3): "<PRI>Mmm dd hh:mm:ss TAG[PID]: text", a datagram each; where the
 *                             socket is a stream, each ends with a line feed
 *     udp://HOST[:514]        RFC 5424, a datagram each (RFC 5426)
 *     tcp://HOST[:514]        RFC 5424, each ended by a line feed (RFC 6587, 3.4.2)
 *
 * Standard output has severity 6 (informational), standard error 3 (error).
 *
 * A server that is slow slows the workload: SYSLOG_QUEUE_MAX bytes wait for it, then the workload does. When it has waited
 * SYSLOG_PATIENCE_NS for a server that took nothing at all, or is not there, it is held up no more: what waits and what
 * comes is dropped until the server takes messages again; the first of them says how many are missing. UDP neither waits
 * nor counts.
 */
#ifndef BOX_LOG_SYSLOG_H
#define BOX_LOG_SYSLOG_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>

#include "base/err.h"
#include "base/loop.h"
#include "box/box.h"

#define SYSLOG_QUEUE_MAX   (1u << 20)
#define SYSLOG_PATIENCE_NS 10000000000ull
#define SYSLOG_RETRY_NS	   1000000000ull
#define SYSLOG_CLOSE_MS	   2000 /* for a server that takes messages, to take the last ones */

enum log_syslog_kind { SYSLOG_UNIX, SYSLOG_UDP, SYSLOG_TCP };
struct log_syslog_target {
	enum log_syslog_kind kind;
	char host[256]; /* or path */
	char port[8];
};
/* "unix:///PATH", "udp://HOST[:PORT]", "tcp://[IPv6]:PORT". 0 or -EINVAL. */
int log_syslog_parse_target(const char *s, struct log_syslog_target *ret);
/* "daemon", "3": the facility's number, or -EINVAL. */
int log_syslog_facility(const char *s);

struct log_syslog;
/*
 * Opens the way to the server that the box's log options name [/dev/log]. A host name is looked up now, which may take its
 * time. -errno with e set when that fails, or a Unix socket is not there. on_room is called when log_syslog_full ends.
 */
int log_syslog_open(struct loop *loop, const struct box *b, loop_fn on_room, void *data,
	struct log_syslog **ret, struct err *e);
void log_syslog_put(struct log_syslog *l, int stream, const uint8_t *data, size_t len);
/* Whether output has to wait until on_room. */
bool log_syslog_full(const struct log_syslog *l);
/* Sends what is left, within SYSLOG_CLOSE_MS, and closes. NULL allowed. */
void log_syslog_close(struct log_syslog *l);

#endif
