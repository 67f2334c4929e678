/* SPDX-License-Identifier: MIT */
#include "stats.h"

#include <sched.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <time.h>

#include "base/io.h"
#include "cgroup.h"

#define TEXT_MAX 262144 /* bytes of one file */

static char *read_text(int dir, const char *name)
{
	char *text = NULL;

	return io_read_file_at(dir, name, TEXT_MAX, &text, NULL) < 0 ? NULL : text;
}

uint64_t stats_value(const char *text, const char *key)
{
	size_t len = strlen(key);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, len) == 0 && line[len] == ' ')
			return strtoull(line + len + 1, NULL, 10);
	}
	return 0;
}

/* The only number of a file. "max" is UINT64_MAX. */
static uint64_t single(int dir, const char *name, uint64_t missing)
{
	CLEANUP_FREE char *text = read_text(dir, name);

	if (!text)
		return missing;
	return strncmp(text, "max", 3) == 0 ? UINT64_MAX : strtoull(text, NULL, 10);
}

/* "254:0 rbytes=1 wbytes=2 rios=…" for each device. */
void stats_parse_io(const char *text, uint64_t *ret_read, uint64_t *ret_written)
{
	*ret_read = *ret_written = 0;
	for (const char *at = text; (at = strchr(at, ' '));) {
		at++;
		if (strncmp(at, "rbytes=", 7) == 0)
			*ret_read += strtoull(at + 7, NULL, 10);
		else if (strncmp(at, "wbytes=", 7) == 0)
			*ret_written += strtoull(at + 7, NULL, 10);
	}
}

/*
 * Two lines of headings, then "  eth0: BYTES PACKETS …": eight numbers received, eight sent (proc(5)). eth0 is the device;
 * what the box's other networks carry, which are VLANs of it, is in that already.
 */
void stats_parse_net(const char *text, uint64_t *ret_received, uint64_t *ret_sent)
{
	*ret_received = *ret_sent = 0;
	for (const char *line = strchr(text, '\n'); line; line = strchr(line + 1, '\n')) {
		const char *name = line + 1 + strspn(line + 1, " ");
		const char *colon = name + strcspn(name, ":\n");
		uint64_t v[9] = {0};
		char *at;

		if (*colon != ':' || colon - name != 4 || strncmp(name, "eth0", 4) != 0)
			continue;
		at = (char *)colon + 1;
		for (size_t i = 0; i < ARRAY_LEN(v); i++)
			v[i] = strtoull(at, &at, 10);
		*ret_received += v[0];
		*ret_sent += v[8];
	}
}

static void collect_cpu(int cgroup, struct wire_stats *s)
{
	CLEANUP_FREE char *text = read_text(cgroup, "cpu.stat");
	cpu_set_t cpus;

	if (text) {
		s->cpu_usage_ns = stats_value(text, "usage_usec") * 1000;
		s->cpu_user_ns = stats_value(text, "user_usec") * 1000;
		s->cpu_system_ns = stats_value(text, "system_usec") * 1000;
		s->cpu_throttled_ns = stats_value(text, "throttled_usec") * 1000;
	}
	s->cpus = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? (uint64_t)CPU_COUNT(&cpus) : 1;
}

static void collect_memory(int cgroup, struct wire_stats *s)
{
	CLEANUP_FREE char *text = read_text(cgroup, "memory.stat");
	CLEANUP_FREE char *events = read_text(cgroup, "memory.events");
	struct sysinfo info = {.mem_unit = 1};

	sysinfo(&info);
	s->mem_usage = single(cgroup, "memory.current", 0);
	s->mem_cache = text ? stats_value(text, "inactive_file") : 0;
	s->mem_limit =
		MIN_OF(single(cgroup, "memory.max", UINT64_MAX), (uint64_t)info.totalram * info.mem_unit);
	s->oom_kills = events ? stats_value(events, "oom_kill") : 0;
}

int stats_collect(int cgroup, int proc, struct wire_stats *ret)
{
	CLEANUP_FREE char *io = read_text(cgroup, "io.stat");
	CLEANUP_FREE char *net = read_text(proc, "self/net/dev");
	struct wire_stats s = {0};
	struct timespec now;
	uint64_t own;

	if (clock_gettime(CLOCK_BOOTTIME, &now) < 0)
		return -errno;
	s.uptime_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	collect_cpu(cgroup, &s);
	collect_memory(cgroup, &s);
	if (io)
		stats_parse_io(io, &s.blk_read, &s.blk_written);
	if (net)
		stats_parse_net(net, &s.net_received, &s.net_sent);
	s.pids = single(cgroup, "pids.current", 0);
	s.pids_limit = single(cgroup, "pids.max", 0);
	own = cgroup_guest_pids(proc);
	if (s.pids_limit == UINT64_MAX || (own && s.pids_limit >= own)) /* nobody's wish */
		s.pids_limit = 0;
	*ret = s;
	return 0;
}
