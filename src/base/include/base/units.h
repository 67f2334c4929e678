/* SPDX-License-Identifier: MIT */
/* Numbers as people write them. All parsers take the whole string, check overflow and return 0 or -EINVAL/-ERANGE. */
#ifndef BASE_UNITS_H
#define BASE_UNITS_H

#include <stddef.h>
#include <stdint.h>

int parse_u64(const char *s, uint64_t max, uint64_t *ret);
/* The number of a port, 0 to 65535, in len bytes of s: one to five digits. */
int parse_port(const char *s, size_t len, uint16_t *ret);
/* "80", which is from itself to itself, or "80-90". What goes down is -EINVAL. */
int parse_port_range(const char *s, size_t len, uint16_t *ret_from, uint16_t *ret_to);
/* "512m", "1g", "64KiB", "10": bytes, binary multiples as in Docker. */
int parse_size(const char *s, uint64_t *ret_bytes);
/* "10s", "1m30s", "500ms", "2h"; a bare number is seconds. */
int parse_duration_ns(const char *s, uint64_t *ret_ns);
/*
 * A moment as Docker takes it, in nanoseconds since the epoch: RFC 3339 ("2024-05-01T12:30:00.5Z", "+02:00"), the same cut
 * off behind the date, the hour, the minute or the second, in local time where no zone is given; seconds since the epoch
 * with a fraction ("1714566600.25"); or a duration, which is that long before now_ns.
 */
int parse_time_ns(const char *s, int64_t now_ns, int64_t *ret_ns);
/* "SIGTERM", "TERM", "15" in any case, SIGRTMIN+n included. */
int parse_signal(const char *s, int *ret);

/* "4.19MB": decimal multiples, as Docker prints sizes. buf of at least 16 bytes. Returns buf. */
char *format_size(char *buf, size_t size, uint64_t bytes);
/* "Less than a second", "5 seconds", "About a minute", "3 hours", as Docker prints ages. */
char *format_duration_human(char *buf, size_t size, int64_t ns);
/* RFC 3339 with nanoseconds in UTC. buf of at least 40 bytes. Returns buf. */
char *format_time_rfc3339(char *buf, size_t size, int64_t real_ns);

#endif
