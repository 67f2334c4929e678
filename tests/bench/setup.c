/* SPDX-License-Identifier: MIT */
/*
 * How long our monitor takes from exec to its first entry into the guest, and how much of that is spent inside of the kernel's KVM
 * calls. Needs a /dev/kvm that opens, not one that runs a kernel: each machine is ended at once.
 *
 *     bench-setup [ROUNDS]
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/io.h"
#include "base/proc.h"
#include "machine/machine.h"

enum { ROUNDS_MAX = 1000, LIMIT_MS = 30000 };

struct round {
	double setup_ms, kvm_ms;
	uint64_t private_kib;
};

struct answer {
	bool there;
	int result;
	struct machine_stats stats;
};

static void on_stats(void *data, int result, const struct machine_stats *stats)
{
	struct answer *a = data;

	a->there = true;
	a->result = result;
	if (stats)
		a->stats = *stats;
}

/* Asks until the guest has been entered. */
static int first_entry(struct loop *loop, struct machine *m, struct machine_stats *ret)
{
	for (uint64_t until = time_mono_ns() + LIMIT_MS * 1000000ull; time_mono_ns() < until;) {
		struct answer a = {0};
		int r = machine_stats(m, on_stats, &a);
		while (r == 0 && !a.there)
			r = loop_turn(loop, LIMIT_MS);
		if (r == 0)
			r = a.result;
		if (r < 0)
			return r;
		if (a.stats.setup_ns) {
			*ret = a.stats;
			return 0;
		}
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	return -ETIMEDOUT;
}

static int one_round(struct loop *loop, const struct machine_config *c, struct round *ret)
{
	CLEANUP(machine_freep) struct machine *m = NULL;
	struct machine_stats stats;
	struct err e = {0};

	if (machine_start(loop, c, &m, &e) < 0) {
		fprintf(stderr, "bench-setup: %s\n", e.msg);
		return e.code;
	}
	int r = first_entry(loop, m, &stats);
	if (r < 0) {
		fprintf(stderr, "bench-setup: no first entry: %s\n", strerror(-r));
		return r;
	}
	*ret = (struct round){
		(double)stats.setup_ns / 1e6, (double)stats.kvm_setup_ns / 1e6, stats.private_bytes >> 10};
	return 0;
}

static int by_value(const void *a, const void *b)
{
	const double *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

static double median(double *v, size_t n)
{
	qsort(v, n, sizeof(*v), by_value);
	return v[n / 2];
}

static int open_files(char *dir, struct machine_config *c)
{
	c->vsock_dirfd = c->hold_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	c->console_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	c->log_fd = STDERR_FILENO;
	return c->vsock_dirfd < 0 || c->console_fd < 0 ? -errno : 0;
}

int main(int argc, char **argv)
{
	static double setup[ROUNDS_MAX], kvm[ROUNDS_MAX], rest[ROUNDS_MAX];
	char dir[] = "/tmp/bench-setup-XXXXXX";
	size_t rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 20;
	CLEANUP_FREE char *self = proc_self_dir();
	CLEANUP_FREE char *kernel = str_printf("%s/../../vmlinux", self);
	CLEANUP_FREE char *initrd = str_printf("%s/../../initramfs.cpio", self);
	CLEANUP_FREE char *monitor = str_printf("%s/../../a3s-box-vmm", self);
	CLEANUP(loop_freep) struct loop *loop = NULL;
	struct round r = {0};

	if (rounds < 1 || rounds > ROUNDS_MAX || !mkdtemp(dir) || loop_new(&loop) < 0)
		return 1;
	struct machine_config c = {.kernel = kernel,
		.initrd = initrd,
		.monitor = monitor,
		.vcpus = 2,
		.mem_bytes = 512 << 20,
		.accel = ACCEL_KVM,
		.restore_state_fd = -1,
		.restore_mem_fd = -1};
	int failed = open_files(dir, &c) < 0;
	for (size_t i = 0; !failed && i < rounds; i++) {
		failed = one_round(loop, &c, &r) < 0;
		setup[i] = r.setup_ms;
		kvm[i] = r.kvm_ms;
		rest[i] = r.setup_ms - r.kvm_ms;
	}
	io_remove_tree_at(AT_FDCWD, dir);
	if (failed)
		return 1;
	printf("monitor, exec to first entry: %.2f ms; of that KVM's own calls: %.2f ms; beyond them: %.2f "
	       "ms (goal: at most"
	       " 10); private memory then: %llu KiB; medians of %zu\n",
		median(setup, rounds), median(kvm, rounds), median(rest, rounds),
		(unsigned long long)r.private_kib, rounds);
	return 0;
}
