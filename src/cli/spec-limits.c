/* SPDX-License-Identifier: MIT */
/* CPU, memory and other limits. */
#include <string.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>

#include "base/io.h"
#include "base/units.h"
#include "spec.h"

#define DEFAULT_VCPUS	 2
#define DEFAULT_MEMORY	 (512ull << 20)
#define MEMORY_MAX	 (1ull << 40)
#define LIMIT_MEMORY_MIN (6ull << 20) /* as in Docker: below it no process starts */
#define NANO		 1000000000ull
#define NANO_CPUS_MIN	 (NANO / 100) /* the kernel's least quota is 1 ms of 100 ms */
#define PERIOD_DEFAULT	 100000	      /* microseconds, see cpu.max of cgroup v2 */
#define PERIOD_MIN	 1000
#define PERIOD_MAX	 1000000
#define PIDS_MAX	 4194304 /* PID_MAX_LIMIT of Linux */

void spec_limits_default(struct box_config *c)
{
	c->vcpus = DEFAULT_VCPUS;
	c->mem_bytes = DEFAULT_MEMORY;
	c->limits.swap_max = UINT64_MAX;
}

/* ---- CPU ---- */

/* "1.5" in billionths. */
static int parse_nano(const char *s, uint64_t *ret)
{
	size_t whole = strspn(s, "0123456789"), frac = 0;
	uint64_t n = 0;

	if (s[whole] == '.') {
		frac = strspn(s + whole + 1, "0123456789");
		if (frac == 0 || frac > 9)
			return -EINVAL;
	}
	size_t end = whole + (frac ? 1 + frac : 0);
	if (whole > 3 || whole + frac == 0 || s[end])
		return -EINVAL;
	for (size_t i = 0; i < whole; i++)
		n = n * 10 + (uint64_t)(s[i] - '0');
	for (size_t i = 0; i < 9; i++)
		n = n * 10 + (i < frac ? (uint64_t)(s[whole + 1 + i] - '0') : 0);
	*ret = n;
	return 0;
}

/* The machine gets whole processors; what they are more than was asked for, a quota takes away. */
static int set_cpus(const char *s, bool update, struct box_config *c, struct err *e)
{
	uint64_t nano;

	if (parse_nano(s, &nano) < 0 || nano < NANO_CPUS_MIN || nano > MACHINE_VCPUS_MAX * NANO)
		return err_set(
			e, -EINVAL, "--cpus %s: expected a number from 0.01 to %d", s, MACHINE_VCPUS_MAX);
	uint32_t vcpus = (uint32_t)((nano + NANO - 1) / NANO);
	if (!update || vcpus > c->vcpus)
		c->vcpus = vcpus;
	c->nano_cpus = nano;
	c->limits.cpu_period_us = nano == c->vcpus * NANO ? 0 : PERIOD_DEFAULT;
	c->limits.cpu_quota_us = c->limits.cpu_period_us * nano / NANO;
	return 0;
}

static int set_quota(const struct limit_opts *o, struct box_config *c, struct err *e)
{
	uint64_t n;

	if (o->cpu_period) {
		if (parse_u64(o->cpu_period, PERIOD_MAX, &n) < 0 || (n && n < PERIOD_MIN))
			return err_set(e, -EINVAL,
				"--cpu-period %s: expected microseconds from %d to %d, or 0", o->cpu_period,
				PERIOD_MIN, PERIOD_MAX);
		c->limits.cpu_period_us = n;
	}
	if (o->cpu_quota) {
		n = 0;
		if (strcmp(o->cpu_quota, "-1") != 0 &&
			(parse_u64(o->cpu_quota, INT32_MAX, &n) < 0 || (n && n < PERIOD_MIN)))
			return err_set(e, -EINVAL,
				"--cpu-quota %s: expected microseconds per period, at least %d, or -1 for "
				"none",
				o->cpu_quota, PERIOD_MIN);
		c->limits.cpu_quota_us = n;
	}
	if (o->cpu_period || o->cpu_quota)
		c->nano_cpus = 0;
	return 0;
}

/* "0-2,4", numbers below n_cpus. */
static bool cpuset_valid(const char *s, uint32_t n_cpus)
{
	do {
		char *end;
		if (*s < '0' || *s > '9')
			return false;
		unsigned long from = strtoul(s, &end, 10), to = from;
		if (*end == '-') {
			s = end + 1;
			if (*s < '0' || *s > '9')
				return false;
			to = strtoul(s, &end, 10);
		}
		if (from > to || to >= n_cpus)
			return false;
		s = end;
	} while (*s++ == ',');
	return s[-1] == '\0';
}

static int set_cpuset(const char *s, struct box_config *c, struct err *e)
{
	if (*s && (strlen(s) > 255 || !cpuset_valid(s, c->vcpus))) {
		err_set(e, -EINVAL, "--cpuset-cpus %s: expected a list like 0-2,4 of the box's CPUs, 0 to %u",
			s, c->vcpus - 1);
		return err_hint(e, "how many it has, --cpus says");
	}
	free(c->limits.cpuset);
	c->limits.cpuset = *s ? strdup(s) : NULL;
	return *s && !c->limits.cpuset ? err_oom(e) : 0;
}

static int set_cpu(const struct limit_opts *o, bool update, struct box_config *c, struct err *e)
{
	uint64_t n;
	int r = 0;

	if (o->cpus && (o->cpu_quota || o->cpu_period))
		return err_set(e, -EINVAL, "--cpus and %s say the same in two ways: give one of them",
			o->cpu_quota ? "--cpu-quota" : "--cpu-period");
	if (o->cpus)
		r = set_cpus(o->cpus, update, c, e);
	if (r == 0)
		r = set_quota(o, c, e);
	if (r == 0 && o->cpu_shares) {
		if (parse_u64(o->cpu_shares, 262144, &n) < 0 || n == 1)
			return err_set(e, -EINVAL,
				"--cpu-shares %s: expected a number from 2 to 262144, or 0 for the usual "
				"1024",
				o->cpu_shares);
		c->limits.cpu_shares = n;
	}
	if (r == 0 && o->cpuset)
		r = set_cpuset(o->cpuset, c, e);
	return r;
}

/* ---- memory ---- */

/* The machine's memory. */
static int set_machine_memory(const char *s, struct box_config *c, struct err *e)
{
	uint64_t bytes = c->mem_bytes, max = MEMORY_MAX;
	struct sysinfo si;
	char host[16];

	if (s && parse_size(s, &bytes) < 0)
		return err_set(e, -EINVAL, "--memory %s: expected a size like 512m or 2g", s);
	if (bytes < MACHINE_MEM_MIN) {
		err_set(e, -EINVAL, "--memory %s: too small: a box needs at least %llum", s,
			MACHINE_MEM_MIN >> 20);
		return err_hint(e, "its kernel lives in it too");
	}
	if (sysinfo(&si) == 0)
		max = MIN_OF(max, (uint64_t)si.totalram * si.mem_unit);
	if (bytes > max)
		return err_set(e, -EINVAL, "--memory %s: more than this host has (%s)", s ? s : "512m",
			format_size(host, sizeof(host), max));
	c->mem_bytes = (bytes + (1 << 20) - 1) >> 20 << 20; /* whole MiB */
	return 0;
}

/* The limit of a box that exists, inside its machine's memory. */
static int set_memory_limit(const char *s, struct box_config *c, struct err *e)
{
	uint64_t bytes;

	if (parse_size(s, &bytes) < 0 || bytes < LIMIT_MEMORY_MIN)
		return err_set(e, -EINVAL, "--memory %s: expected a size of at least 6m", s);
	if (bytes > c->mem_bytes) {
		err_set(e, -EINVAL, "--memory %s: the box's machine has %llum", s,
			(unsigned long long)(c->mem_bytes >> 20));
		return err_hint(e, "up to that the limit can be changed; more needs a new box");
	}
	c->limits.mem_max = bytes;
	return 0;
}

static uint64_t memory_limit(const struct box_config *c)
{
	return c->limits.mem_max ? c->limits.mem_max : c->mem_bytes;
}

static int set_memory(const struct limit_opts *o, bool update, struct box_config *c, struct err *e)
{
	uint64_t n;
	int r = 0;

	if (!update)
		r = set_machine_memory(o->memory, c, e);
	else if (o->memory)
		r = set_memory_limit(o->memory, c, e);
	if (r < 0)
		return r;
	if (o->reservation) {
		if (parse_size(o->reservation, &n) < 0 || n > memory_limit(c) || (n && n < LIMIT_MEMORY_MIN))
			return err_set(e, -EINVAL,
				"--memory-reservation %s: expected a size from 6m to the memory limit, or 0",
				o->reservation);
		c->limits.mem_reservation = n;
	}
	if (c->limits.mem_reservation > memory_limit(c)) { /* as the record has it */
		char had[16];
		return err_set(e, -EINVAL, "--memory %s: below the memory reservation (%s)", o->memory,
			format_size(had, sizeof(had), c->limits.mem_reservation));
	}
	if (!o->swap)
		return 0;
	bool none = strcmp(o->swap, "-1") == 0 || strcmp(o->swap, "0") == 0;
	if (!none && (parse_size(o->swap, &n) < 0 || n < memory_limit(c)))
		return err_set(e, -EINVAL,
			"--memory-swap %s: expected memory and swap together, at least the memory limit, or "
			"-1 for "
			"no limit",
			o->swap);
	c->limits.swap_max = none ? UINT64_MAX : n - memory_limit(c);
	return 0;
}

int spec_limits(const struct limit_opts *o, bool update, struct box_config *c, struct err *e)
{
	uint64_t n = 0;

	int r = set_cpu(o, update, c, e);
	if (r == 0)
		r = set_memory(o, update, c, e);
	if (r == 0 && o->restart)
		r = spec_restart(o->restart, &c->restart, e);
	if (r == 0 && c->auto_remove && c->restart.policy != BOX_RESTART_NO)
		r = err_set(e, -EINVAL, "--restart and --rm contradict each other: give one of them");
	if (r < 0 || !o->pids)
		return r;
	if (strcmp(o->pids, "-1") != 0 && parse_u64(o->pids, PIDS_MAX, &n) < 0)
		return err_set(e, -EINVAL, "--pids-limit %s: expected a number up to %d, or -1 for no limit",
			o->pids, PIDS_MAX);
	c->limits.pids_max = n;
	return 0;
}

/* ---- of each process ---- */

/* Docker's names. The numbers are those of Linux on x86 and arm, whatever the host's C library calls them. */
static const struct {
	const char *name;
	uint32_t resource;
} ulimits[] = {{"core", 4}, {"cpu", 0}, {"data", 2}, {"fsize", 1}, {"locks", 10}, {"memlock", 8},
	{"msgqueue", 12}, {"nice", 13}, {"nofile", 7}, {"nproc", 6}, {"rss", 5}, {"rtprio", 14},
	{"rttime", 15}, {"sigpending", 11}, {"stack", 3}};
_Static_assert(RLIMIT_NOFILE == 7 && RLIMIT_MEMLOCK == 8, "the same numbers");
_Static_assert(ARRAY_LEN(ulimits) <= WIRE_RLIMITS_MAX, "each can be given");

/* A number, or -1 for no limit. */
static int parse_ulimit_value(const char *s, uint64_t *ret)
{
	*ret = UINT64_MAX;
	return strcmp(s, "-1") == 0 ? 0 : parse_u64(s, INT64_MAX, ret);
}

/* "nofile=1024:2048"; -EINVAL for what is none. */
static int parse_ulimit(const char *s, struct wire_rlimit *ret)
{
	const char *eq = strchr(s, '='), *colon = eq ? strchr(eq, ':') : NULL;
	size_t i = 0;

	if (!eq)
		return -EINVAL;
	CLEANUP_FREE char *soft = colon ? strndup(eq + 1, (size_t)(colon - eq - 1)) : strdup(eq + 1);
	if (!soft)
		return -ENOMEM;
	while (i < ARRAY_LEN(ulimits) &&
		(strncmp(ulimits[i].name, s, (size_t)(eq - s)) != 0 || ulimits[i].name[eq - s] != '\0'))
		i++;
	if (i == ARRAY_LEN(ulimits) || parse_ulimit_value(soft, &ret->soft) < 0 ||
		parse_ulimit_value(colon ? colon + 1 : soft, &ret->hard) < 0 || ret->soft > ret->hard)
		return -EINVAL;
	ret->resource = ulimits[i].resource;
	return 0;
}

static int set_ulimits(const struct strv *given, struct wire_process *p, struct err *e)
{
	for (size_t i = 0; i < given->n; i++) {
		struct wire_rlimit l;
		size_t at = 0;
		int r = parse_ulimit(given->v[i], &l);
		if (r == -ENOMEM)
			return err_oom(e);
		if (r < 0) {
			err_set(e, r,
				"--ulimit %s: expected NAME=SOFT[:HARD], SOFT not above HARD, -1 for no "
				"limit",
				given->v[i]);
			return err_hint(e,
				"names: core cpu data fsize locks memlock msgqueue nice nofile nproc rss "
				"rtprio rttime sigpending stack");
		}
		while (at < p->n_rlimits && p->rlimits[at].resource != l.resource)
			at++; /* the last one of a name counts */
		p->rlimits[at] = l;
		p->n_rlimits = MAX_OF(p->n_rlimits, at + 1);
	}
	return 0;
}

/* Docker's option for what a box may write at most. */
static int set_storage(const struct strv *given, struct box_config *c, struct err *e)
{
	static const char key[] = "size=";

	for (size_t i = 0; i < given->n; i++) {
		const char *s = given->v[i], *value = s + strlen(key);
		if (strncmp(s, key, strlen(key)) != 0) {
			err_set(e, -EINVAL, "--storage-opt %s: there is no such option", s);
			return err_hint(e, "there is size=SIZE: how much the box may write");
		}
		uint64_t n = 0;
		if (parse_size(value, &n) < 0)
			return err_set(e, -EINVAL, "--storage-opt %s: expected a size like size=20g", s);
		if (n < BOX_DISK_MIN || n > BOX_DISK_MAX)
			return err_set(e, -EINVAL, "--storage-opt %s: expected a size from %llum to %llug", s,
				BOX_DISK_MIN >> 20, BOX_DISK_MAX >> 30);
		c->disk_bytes = (n + BOX_DISK_STEP - 1) & ~(BOX_DISK_STEP - 1);
	}
	return 0;
}

int spec_process_limits(const struct run_opts *o, struct box_config *c, struct err *e)
{
	const char *adj = o->oom_score_adj;
	uint64_t n;

	if (adj) {
		bool negative = *adj == '-';
		if (parse_u64(adj + negative, 1000, &n) < 0)
			return err_set(
				e, -EINVAL, "--oom-score-adj %s: expected a number from -1000 to 1000", adj);
		c->process.oom_score_adj = negative ? -(int)n : (int)n;
	}
	if (o->shm_size && (parse_size(o->shm_size, &c->shm_bytes) < 0 || c->shm_bytes == 0 ||
				   c->shm_bytes > MEMORY_MAX))
		return err_set(e, -EINVAL, "--shm-size %s: expected a size like 64m", o->shm_size);
	int r = set_storage(&o->storage_opts, c, e);
	return r < 0 ? r : set_ulimits(&o->ulimits, &c->process, e);
}
