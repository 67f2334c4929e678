/* SPDX-License-Identifier: MIT */
#include "system.h"

#ifdef __x86_64__
#include <cpuid.h>
#endif
#include <fcntl.h>
#include <limits.h>
#include <linux/random.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#define FILES_LIMIT 1048576 /* fs.nr_open of Linux; what containers are used to */

void system_complain(const char *fmt, ...)
{
	char line[512];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
	va_end(ap);
	n = MIN_OF(MAX_OF(n, 0), (int)sizeof(line) - 2);
	line[n] = '\n';
	(void)!write(STDERR_FILENO, "a3s-box-guest-init: ", 20);
	(void)!write(STDERR_FILENO, line, (size_t)n + 1);
}

/* Bringing it up gives lo 127.0.0.1 and ::1. */
void system_loopback_up(void)
{
	struct ifreq ifr = {.ifr_name = "lo"};
	CLEANUP_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	ifr.ifr_flags = IFF_UP | IFF_RUNNING;
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &ifr) < 0)
		system_complain("loopback interface: %s", strerror(errno));
}

void system_init(void)
{
	struct rlimit files = {FILES_LIMIT, FILES_LIMIT}, unlimited = {RLIM_INFINITY, RLIM_INFINITY};

	signal(SIGPIPE, SIG_IGN);
	/* A child between clone and execve belongs to us, not to the box that it joins. */
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	setrlimit(RLIMIT_NOFILE, &files);
	setrlimit(RLIMIT_NPROC, &unlimited);
}

bool system_is_emulated(void)
{
#ifdef __x86_64__
	unsigned int a, b = 0, c = 0, d = 0;
	cpu_set_t cpus;

	/* The hypervisor's signature as QEMU's translator gives it. */
	__cpuid(0x40000000, a, b, c, d);
	return b == 0x54474354 && c == 0x43544743 && d == 0x47435447 &&
	       sched_getaffinity(0, sizeof(cpus), &cpus) == 0 && CPU_COUNT(&cpus) > 1;
#else
	return false;
#endif
}

static void add_entropy(const uint8_t seed[32])
{
	/* struct rand_pool_info of linux/random.h, whose content has no size of its own. */
	struct {
		int entropy_bits, size;
		uint32_t words[8];
	} pool = {.entropy_bits = 256, .size = 32};
	CLEANUP_CLOSE int fd = open("/run/dev/urandom", O_RDWR | O_CLOEXEC);

	memcpy(pool.words, seed, 32);
	if (fd < 0 || ioctl(fd, RNDADDENTROPY, &pool) < 0)
		system_complain("random seed: %s", strerror(errno));
}

void system_configure(const struct wire_config *c)
{
	struct timespec now = {c->real_ns / 1000000000, c->real_ns % 1000000000};

	if (c->hostname && sethostname(c->hostname, strlen(c->hostname)) < 0)
		system_complain("host name: %s", strerror(errno));
	if (c->real_ns > 0 && clock_settime(CLOCK_REALTIME, &now) < 0)
		system_complain("clock: %s", strerror(errno));
	add_entropy(c->entropy);
}

void system_allow_watches(int proc)
{
	CLEANUP_CLOSE int fd = openat(proc, "sys/fs/epoll/max_user_watches", O_WRONLY | O_CLOEXEC);
	char text[32];

	/* What bounds them is the box's memory: the kernel charges them to its cgroup. */
	snprintf(text, sizeof(text), "%ld", LONG_MAX);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		system_complain("epoll watches: %s", strerror(errno));
}

_Noreturn void system_end(void)
{
	/* The machine boots with reboot=t, and its monitor ends on a reset. */
	reboot(RB_AUTOBOOT);
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}
