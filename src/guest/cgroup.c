/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * Each limit is a file of the box's cgroup, and what it held is what puts it back: the files are read, then written in
 * turn; when one cannot be written, those before it get their old text again, in reverse order. memory.max is the last,
 * because memory that was given back for it does not return.
 *
 * memory.max is always set: to what was asked for, but to no more than the guest has less a reserve. The box then runs
 * out of memory in its own cgroup, where the kernel kills one of its processes, and not the guest as a whole, where PID
 * 1 could not answer any more while the kernel looks for pages. PID 1 is the guest's init, which the kernel never kills
 * for want of memory whatever its oom_score_adj; it is left alone, because the box's processes would inherit it.
 *
 * pids.max likewise: the kernel makes no process beyond its threads-max, and PID 1 needs some to answer the host.
 *
 * memory.oom.group stays 0, as in Docker: a box goes on without the process that was killed, unless that was its first.
 *
 * The controllers cpu, io, memory and pids count from the start. cpuset counts nothing, costs something, and is there
 * from the moment that somebody wants it.
 */
#include "cgroup.h"

#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "base/io.h"
#include "process.h"

#define CONTROLLERS    "+cpu +io +memory +pids"
#define TEXT_MAX       4096	     /* bytes of one file */
#define CPUSET_MAX     1024	     /* bytes of a list of CPUs */
#define RECLAIM_STEP   (16u << 20)   /* bytes given back at a time */
#define RECLAIM_NS     3000000000ull /* for all of it */
#define RESERVE_MIN    (8ull << 20)  /* bytes kept from the box */
#define RESERVE_MAX    (64ull << 20)
#define PIDS_RESERVE   128	 /* processes kept from the box */
#define PIDS_MAX       4194304	 /* PID_MAX_LIMIT of Linux on 64 bits */
#define CPU_PERIOD     100000ull /* the kernel's */
#define CPU_PERIOD_MIN 1000ull
#define CPU_PERIOD_MAX 1000000ull
#define CPU_QUOTA_MIN  1000ull
#define CPU_QUOTA_MAX  (1ull << 44) /* max_cfs_runtime of Linux, about */
#define CPU_SHARES_MIN 2
#define CPU_SHARES_MAX 262144

enum { CPU_WEIGHT, CPU_MAX, CPUSET, PIDS, SWAP, MEM_LOW, MEM_MAX, N_FILES };
static const struct {
	const char *name, *what, *usual;
} files[N_FILES] = {
	[CPU_WEIGHT] = {"cpu.weight", "CPU shares", "100"},
	[CPU_MAX] = {"cpu.max", "CPU quota", "max 100000"},
	[CPUSET] = {"cpuset.cpus", "CPUs", ""},
	[PIDS] = {"pids.max", "number of processes", "max"},
	[SWAP] = {"memory.swap.max", "swap", "max"},
	[MEM_LOW] = {"memory.low", "memory reservation", "0"},
	[MEM_MAX] = {"memory.max", "memory", "max"},
};

static int refuse(char *why, size_t size, int r, const char *fmt, ...) PRINTF(4, 5);

static int refuse(char *why, size_t size, int r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, size, fmt, ap);
	va_end(ap);
	return r;
}

/* ---- files ---- */

static int write_text(int dir, const char *name, const char *text)
{
	CLEANUP_CLOSE int fd = openat(dir, name, O_WRONLY | O_TRUNC | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	/* An empty list of CPUs is an empty line: nothing written would change nothing. */
	return io_write_full(fd, text[0] ? text : "\n", text[0] ? strlen(text) : 1);
}

/* Without the newline. */
static int read_text(int dir, const char *name, char **ret)
{
	size_t len = 0;
	int r = io_read_file_at(dir, name, TEXT_MAX, ret, &len);

	if (r == 0 && len && (*ret)[len - 1] == '\n')
		(*ret)[len - 1] = '\0';
	return r;
}

static int read_number(int dir, const char *name, uint64_t *ret)
{
	CLEANUP_FREE char *text = NULL;
	int r = read_text(dir, name, &text);

	if (r == 0)
		*ret = strtoull(text, NULL, 10);
	return r;
}

int cgroup_enable(const char *root)
{
	CLEANUP_CLOSE int dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return dir < 0 ? -errno : write_text(dir, "cgroup.subtree_control", CONTROLLERS);
}

/* ---- values ---- */

uint64_t cgroup_guest_memory(uint64_t total)
{
	uint64_t reserve = MIN_OF(MAX_OF(total / 32, RESERVE_MIN), RESERVE_MAX);

	return total > 2 * reserve ? total - reserve : total / 2;
}

/* With one read: all of the number or, by a second one, nothing is what the kernel gives. 0 if there is none. */
static uint64_t read_sysctl(int proc, const char *name)
{
	CLEANUP_CLOSE int fd = openat(proc, name, O_RDONLY | O_CLOEXEC);
	char text[32] = "";

	return fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 ? strtoull(text, NULL, 10) : 0;
}

uint64_t cgroup_guest_pids(int proc)
{
	uint64_t total =
		MIN_OF(read_sysctl(proc, "sys/kernel/threads-max"), read_sysctl(proc, "sys/kernel/pid_max"));

	return total > 2 * PIDS_RESERVE ? total - PIDS_RESERVE : total / 2;
}

/* Instead of a library for the only thing that would be asked of it: n from 1 on, to 14 digits. */
static double log_2(uint64_t n)
{
	unsigned int whole = 63 - (unsigned int)__builtin_clzll(n);
	double v = (double)n / (double)(UINT64_C(1) << whole), ret = whole, bit = 1;

	for (int i = 0; i < 50; i++) {
		bit /= 2;
		v *= v;
		if (v >= 2) {
			v /= 2;
			ret += bit;
		}
	}
	return ret;
}

/* v up to 4. */
static double exp_10(double v)
{
	const double log_10 = 2.302585092994045684;
	double ret = 1, term = 1;

	for (int i = 1; i < 60; i++) {
		term *= v * log_10 / i;
		ret += term;
	}
	return ret;
}

unsigned int cgroup_cpu_weight(uint64_t shares)
{
	double l, weight;
	unsigned int ret;

	if (shares <= CPU_SHARES_MIN)
		return 1;
	if (shares >= CPU_SHARES_MAX)
		return 10000;
	l = log_2(shares);
	weight = exp_10((l * l + 125 * l) / 612.0 - 7.0 / 34.0);
	ret = (unsigned int)weight;
	/* Rounded up. 1024 shares are 100 exactly, and no other number is nearer to a whole one than a millionth. */
	return weight > ret + 1e-7 ? ret + 1 : ret;
}

/* A number of the list, below the number of CPUs. */
static bool take_cpu(const char **s, uint64_t cpus, uint64_t *ret)
{
	uint64_t v = 0;

	if (**s < '0' || **s > '9')
		return false;
	for (; **s >= '0' && **s <= '9'; (*s)++) {
		v = v * 10 + (uint64_t)(**s - '0');
		if (v >= cpus)
			return false;
	}
	*ret = v;
	return true;
}

static bool cpuset_valid(const char *s, uint64_t cpus)
{
	uint64_t from, to;

	if (strlen(s) > CPUSET_MAX)
		return false;
	for (;; s++) {
		if (!take_cpu(&s, cpus, &from))
			return false;
		to = from;
		if (*s == '-' && (s++, !take_cpu(&s, cpus, &to) || to < from))
			return false;
		if (!*s)
			return true;
		if (*s != ',')
			return false;
	}
}

int cgroup_check(const struct wire_limits *l, const struct cgroup_guest *g, char *why, size_t size)
{
	if (l->cpu_shares && (l->cpu_shares < CPU_SHARES_MIN || l->cpu_shares > CPU_SHARES_MAX))
		return refuse(
			why, size, -EINVAL, "CPU shares: must be %d to %d", CPU_SHARES_MIN, CPU_SHARES_MAX);
	if (l->cpu_period_us && (l->cpu_period_us < CPU_PERIOD_MIN || l->cpu_period_us > CPU_PERIOD_MAX))
		return refuse(why, size, -EINVAL, "CPU period: must be %llu to %llu microseconds",
			CPU_PERIOD_MIN, CPU_PERIOD_MAX);
	if (l->cpu_quota_us && (l->cpu_quota_us < CPU_QUOTA_MIN || l->cpu_quota_us > CPU_QUOTA_MAX))
		return refuse(
			why, size, -EINVAL, "CPU quota: must be at least %llu microseconds", CPU_QUOTA_MIN);
	if (l->cpuset && l->cpuset[0] && !cpuset_valid(l->cpuset, g->cpus))
		return refuse(why, size, -EINVAL,
			"CPUs \"%.64s\": must be a list like 0-1,3 of those the box has, 0 to %llu",
			l->cpuset, (unsigned long long)g->cpus - 1);
	if (l->pids_max > PIDS_MAX)
		return refuse(why, size, -EINVAL, "number of processes: must be at most %d", PIDS_MAX);
	if (l->mem_max && l->mem_reservation > l->mem_max)
		return refuse(why, size, -EINVAL, "memory reservation: must not be above the memory limit");
	return 0;
}

/* The content of each file; the one of CPUSET is NULL when there is nothing to say and no file to say it in. */
static int make_texts(
	int cgroup, const struct wire_limits *l, const struct cgroup_guest *g, char *texts[N_FILES])
{
	uint64_t mem = l->mem_max ? MIN_OF(l->mem_max, g->mem_bytes) : g->mem_bytes;
	uint64_t pids = l->pids_max && g->pids ? MIN_OF(l->pids_max, g->pids) : MAX_OF(l->pids_max, g->pids);
	bool pinned = l->cpuset && l->cpuset[0];

	texts[CPU_WEIGHT] = str_printf("%u", l->cpu_shares ? cgroup_cpu_weight(l->cpu_shares) : 100);
	texts[CPU_MAX] =
		l->cpu_quota_us
			? str_printf("%llu %llu", (unsigned long long)l->cpu_quota_us,
				  (unsigned long long)(l->cpu_period_us ? l->cpu_period_us : CPU_PERIOD))
			: str_printf("max %llu",
				  (unsigned long long)(l->cpu_period_us ? l->cpu_period_us : CPU_PERIOD));
	texts[PIDS] = pids ? str_printf("%llu", (unsigned long long)pids) : strdup("max");
	texts[SWAP] = l->swap_max != UINT64_MAX ? str_printf("%llu", (unsigned long long)l->swap_max)
						: strdup("max");
	texts[MEM_LOW] = str_printf("%llu", (unsigned long long)MIN_OF(l->mem_reservation, mem));
	texts[MEM_MAX] = str_printf("%llu", (unsigned long long)mem);
	if (pinned || faccessat(cgroup, files[CPUSET].name, F_OK, 0) == 0)
		texts[CPUSET] = strdup(pinned ? l->cpuset : "");
	for (int i = 0; i < N_FILES; i++)
		if (!texts[i] && (i != CPUSET || pinned))
			return -ENOMEM;
	return 0;
}

/* ---- applying them ---- */

/* Asks the kernel to take back what is cached, until no more than max is used, or it does not get any further. */
static int make_room(int cgroup, uint64_t max, char *why, size_t size)
{
	uint64_t usage = 0, deadline = time_mono_ns() + RECLAIM_NS;
	char step[32];

	for (;;) {
		int r = read_number(cgroup, "memory.current", &usage);

		if (r < 0)
			return r;
		if (usage <= max)
			return 0;
		snprintf(step, sizeof(step), "%llu", (unsigned long long)MIN_OF(usage - max, RECLAIM_STEP));
		if (write_text(cgroup, "memory.reclaim", step) < 0 || time_mono_ns() > deadline)
			break;
	}
	read_number(cgroup, "memory.current", &usage);
	if (usage <= max)
		return 0;
	return refuse(why, size, -EBUSY,
		"memory: the box uses %llu MiB, which is more than the new limit of %llu MiB",
		(unsigned long long)(usage + (1 << 20) - 1) >> 20, (unsigned long long)max >> 20);
}

static int set_one(int cgroup, int i, const char *text, const char *old, char *why, size_t size)
{
	int r = 0;

	if (strcmp(text, old) == 0)
		return 0;
	why[0] = '\0';
	if (i == MEM_MAX)
		r = make_room(cgroup, strtoull(text, NULL, 10), why, size);
	if (r == 0)
		r = write_text(cgroup, files[i].name, text);
	if (r < 0 && !why[0]) {
		char reason[128];

		refuse(why, size, r, "%s: %s", files[i].what, process_strerror(-r, reason, sizeof(reason)));
	}
	return r;
}

static int set_all(int cgroup, char *const texts[N_FILES], bool first, char *why, size_t size)
{
	char *old[N_FILES] = {NULL};
	int i, r = 0;

	for (i = 0; r == 0 && i < N_FILES; i++) {
		if (!texts[i])
			continue;
		if (first) {
			r = (old[i] = strdup(files[i].usual)) ? 0 : -ENOMEM;
			snprintf(why, size, "out of memory");
		} else {
			r = read_text(cgroup, files[i].name, &old[i]);
			snprintf(why, size, "%s cannot be limited", files[i].what);
		}
		if (r == 0)
			r = set_one(cgroup, i, texts[i], old[i], why, size);
	}
	if (r < 0) {
		for (i -= 2; i >= 0; i--) /* the one before the one that failed */
			if (texts[i] && strcmp(texts[i], old[i]) != 0)
				write_text(cgroup, files[i].name, old[i]);
	}
	for (i = 0; i < N_FILES; i++)
		free(old[i]);
	return r;
}

static void ask_guest(struct cgroup_guest *g, int proc)
{
	struct sysinfo info = {.mem_unit = 1};
	cpu_set_t cpus;

	sysinfo(&info);
	g->pids = proc < 0 ? 0 : cgroup_guest_pids(proc);
	g->mem_bytes = cgroup_guest_memory((uint64_t)info.totalram * info.mem_unit);
	g->cpus = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? (uint64_t)CPU_COUNT(&cpus) : 1;
}

int cgroup_limit(int cgroup, int proc, const struct wire_limits *l, bool first, char *why, size_t size)
{
	char *texts[N_FILES] = {NULL};
	struct cgroup_guest g;
	int r;

	ask_guest(&g, proc);
	r = cgroup_check(l, &g, why, size);
	if (r < 0)
		return r;
	if (l->cpuset && l->cpuset[0]) {
		r = write_text(cgroup, "../cgroup.subtree_control", "+cpuset");
		if (r < 0)
			return refuse(why, size, r, "CPUs cannot be limited");
	}
	r = make_texts(cgroup, l, &g, texts);
	if (r < 0)
		snprintf(why, size, "out of memory");
	else
		r = set_all(cgroup, texts, first, why, size);
	for (int i = 0; i < N_FILES; i++)
		free(texts[i]);
	return r;
}

uint64_t cgroup_oom_kills(int cgroup)
{
	CLEANUP_FREE char *text = NULL;
	const char *at;

	if (cgroup < 0 || read_text(cgroup, "memory.events", &text) < 0)
		return 0;
	at = strstr(text, "\noom_kill ");
	return at ? strtoull(at + strlen("\noom_kill "), NULL, 10) : 0;
}
