/* SPDX-License-Identifier: MIT */
/* The counting guest of the acceleration probe, x86_64. KVM API: Documentation/virt/kvm/api.rst of Linux. */
#include "accel-kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/io.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <x86intrin.h>

enum {
	GUEST_MEM = 4 << 20, /* bytes, identity-mapped with 2 MiB pages */
	PML4_AT = 0x1000,
	PDPT_AT = 0x2000,
	PD_AT = 0x3000,
	CODE_AT = 0x4000,
	COUNTER_AT = 0x200000,
	STEPS = 200000,	   /* about 0.3 ms natively */
	BUDGET_US = 20000, /* the guest is interrupted after this */
	TRIES = 6,
	SLOWDOWN_MAX = 20, /* hardware virtualization stays below 2 even on a loaded host */
	TSC_MEASURE_NS = 25000000,
};

/* loop: incq (%rdi); dec %rcx; jnz loop; hlt */
static const uint8_t guest_code[] = {0x48, 0xff, 0x07, 0x48, 0xff, 0xc9, 0x75, 0xf8, 0xf4};

static struct kvm_run *volatile current_run;

static void on_alarm(int sig)
{
	struct kvm_run *run = current_run;
	if (run)
		run->immediate_exit = 1; /* closes the race between the signal and the entry into KVM_RUN */
}

static uint64_t native_ns(void)
{
	static volatile uint64_t counter;
	uint64_t best = UINT64_MAX;

	for (int round = 0; round < 3; round++) {
		uint64_t start = time_mono_ns(), steps = STEPS;
		__asm__ volatile("1: incq %0; dec %1; jnz 1b" : "+m"(counter), "+r"(steps));
		uint64_t took = time_mono_ns() - start;
		best = MIN_OF(best, took);
	}
	return MAX_OF(best, 1u);
}

static void write_tables(uint8_t *mem)
{
	uint64_t *pml4 = (uint64_t *)(void *)(mem + PML4_AT), *pdpt = (uint64_t *)(void *)(mem + PDPT_AT),
		 *pd = (uint64_t *)(void *)(mem + PD_AT);

	pml4[0] = PDPT_AT | 3; /* present, writable */
	pdpt[0] = PD_AT | 3;
	pd[0] = 0x83; /* 2 MiB page */
	pd[1] = 0x200000 | 0x83;
	memcpy(mem + CODE_AT, guest_code, sizeof(guest_code));
}

/* Without a processor that is said to know long mode, newer kernels refuse its registers. */
static int set_cpuid(int kvm, int vcpu)
{
	enum { ENTRIES = 256 };
	CLEANUP_FREE struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + ENTRIES * sizeof(c->entries[0]));

	if (!c)
		return -ENOMEM;
	c->nent = ENTRIES;
	if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, c) < 0 || ioctl(vcpu, KVM_SET_CPUID2, c) < 0)
		return -errno;
	return 0;
}

static int set_long_mode(int vcpu)
{
	struct kvm_sregs s;
	if (ioctl(vcpu, KVM_GET_SREGS, &s) < 0)
		return -errno;
	struct kvm_segment code = {
		.limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1};
	struct kvm_segment data = {
		.limit = 0xffffffff, .selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1};
	s.cs = code;
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.cr3 = PML4_AT;
	s.cr4 = 0x20;	    /* PAE */
	s.cr0 = 0x80000011; /* PG, ET, PE */
	s.efer = 0x500;	    /* LME, LMA */
	return ioctl(vcpu, KVM_SET_SREGS, &s) < 0 ? -errno : 0;
}

/* Runs the guest for STEPS or until BUDGET_US. Returns ns per STEPS, extrapolated when interrupted; 0 on failure. */
static uint64_t run_guest(int vcpu, struct kvm_run *run, const uint8_t *mem)
{
	struct kvm_regs regs = {.rip = CODE_AT, .rcx = STEPS, .rdi = COUNTER_AT, .rsp = 0x8000, .rflags = 2};
	const volatile uint64_t *counter = (const volatile uint64_t *)(const void *)(mem + COUNTER_AT);
	uint64_t before = *counter;
	struct itimerval limit = {.it_value.tv_usec = BUDGET_US, .it_interval.tv_usec = BUDGET_US}, off = {0};

	if (ioctl(vcpu, KVM_SET_REGS, &regs) < 0)
		return 0;
	run->immediate_exit = 0;
	current_run = run;
	uint64_t start = time_mono_ns();
	setitimer(ITIMER_REAL, &limit, NULL);
	int rc = ioctl(vcpu, KVM_RUN, 0);
	int err = errno;
	uint64_t took = time_mono_ns() - start;
	setitimer(ITIMER_REAL, &off, NULL);
	if (rc < 0 && err != EINTR)
		return 0;
	if (rc == 0 && run->exit_reason != KVM_EXIT_HLT)
		return 0;
	uint64_t steps = *counter - before;
	if (steps == 0)
		return UINT64_MAX; /* not one step in the budget */
	return (uint64_t)((unsigned __int128)took * STEPS / MIN_OF(steps, (uint64_t)STEPS));
}

static void measure(int vm, int kvm, struct kvm_probe_result *ret)
{
	CLEANUP_CLOSE int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	int run_size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (vcpu < 0 || run_size < (int)sizeof(struct kvm_run)) {
		snprintf(ret->reason, sizeof(ret->reason), "/dev/kvm: cannot create a vCPU: %s",
			strerror(errno));
		return;
	}
	struct kvm_run *run = mmap(NULL, (size_t)run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	uint8_t *mem = mmap(NULL, GUEST_MEM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region region = {
		.memory_size = GUEST_MEM, .userspace_addr = (uintptr_t)mem};
	if (run == MAP_FAILED || mem == MAP_FAILED || ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0 ||
		(write_tables(mem), set_cpuid(kvm, vcpu)) < 0 || set_long_mode(vcpu) < 0) {
		snprintf(ret->reason, sizeof(ret->reason), "/dev/kvm: cannot set up a guest: %s",
			strerror(errno));
		return;
	}

	uint64_t native = native_ns(), guest = UINT64_MAX;
	/* The first run pays for page faults, and a loaded host for whatever else runs: the best of a few says it. */
	for (int i = 0; i < TRIES && (i < 1 || guest / native >= 2); i++) {
		uint64_t ns = run_guest(vcpu, run, mem);
		guest = ns ? MIN_OF(guest, ns) : 0;
		if (guest == 0)
			break;
	}
	if (guest == 0)
		snprintf(ret->reason, sizeof(ret->reason), "/dev/kvm: the probe guest could not run");
	else if (guest == UINT64_MAX)
		snprintf(ret->reason, sizeof(ret->reason),
			"/dev/kvm opens, but its guest made no step in %d ms", BUDGET_US / 1000);
	else if (guest / native > SLOWDOWN_MAX)
		snprintf(ret->reason, sizeof(ret->reason),
			"/dev/kvm opens, but its guest runs %llu times slower than the host",
			(unsigned long long)(guest / native));
	else {
		ret->usable = true;
		snprintf(ret->reason, sizeof(ret->reason),
			"measured: guest code runs at %u%% of the host's speed",
			(unsigned)MIN_OF(native * 100 / guest, (uint64_t)100));
	}
}

void kvm_probe_run(struct kvm_probe_result *ret)
{
	struct sigaction sa = {.sa_handler = on_alarm}; /* no SA_RESTART: KVM_RUN must return */

	*ret = (struct kvm_probe_result){0};
	CLEANUP_CLOSE int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0) {
		snprintf(ret->reason, sizeof(ret->reason), "/dev/kvm: %s",
			errno == ENOENT ? "this host has none" : strerror(errno));
		return;
	}
	if (ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
		snprintf(ret->reason, sizeof(ret->reason), "/dev/kvm: unknown API version");
		return;
	}
	CLEANUP_CLOSE int vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0) {
		snprintf(ret->reason, sizeof(ret->reason), "/dev/kvm: cannot create a VM: %s",
			strerror(errno));
		return;
	}
	sigaction(SIGALRM, &sa, NULL);
	measure(vm, kvm, ret);
}

struct tsc_sample {
	uint64_t tsc, ns;
};

/* Both clocks at one moment: of several tries the one with the least time between its two ends. */
static void sample_tsc(struct tsc_sample *ret)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 16; i++) {
		uint64_t before = time_mono_ns(), tsc = __rdtsc(), after = time_mono_ns();
		if (after - before < best) {
			best = after - before;
			*ret = (struct tsc_sample){.tsc = tsc, .ns = before + best / 2};
		}
	}
}

uint64_t tsc_measure_khz(void)
{
	unsigned a, b, c, d;

	if (!__get_cpuid(0x80000007, &a, &b, &c, &d) || !(d & (1u << 8))) {
		/* Hosts in VMs often hide the invariant bit: the kernel's own choice of clock is as good. */
		CLEANUP_FREE char *source = NULL;
		if (io_read_file_at(AT_FDCWD,
			    "/sys/devices/system/clocksource/clocksource0/current_clocksource", 64, &source,
			    NULL) < 0 ||
			(strncmp(source, "tsc", 3) != 0 && strncmp(source, "kvm-clock", 9) != 0))
			return 0;
	}
	struct tsc_sample start = {0}, end = {0};
	struct timespec nap = {.tv_nsec = TSC_MEASURE_NS};
	sample_tsc(&start);
	nanosleep(&nap, NULL);
	sample_tsc(&end);
	return end.ns > start.ns ? (end.tsc - start.tsc) * 1000000 / (end.ns - start.ns) : 0;
}

#else

void kvm_probe_run(struct kvm_probe_result *ret)
{
	*ret = (struct kvm_probe_result){0};
	snprintf(ret->reason, sizeof(ret->reason), "the probe knows x86_64 hosts only");
}

uint64_t tsc_measure_khz(void)
{
	return 0;
}

#endif
