/* SPDX-License-Identifier: MIT */
/*
 * The processors' threads.
 *
 * THEORY OF OPERATION
 *
 * A thread lives in KVM_RUN. What it has to know beyond the guest's exits are three flags under vm->lock: pause,
 * ended and stop. Whoever sets one kicks all threads: sets kvm_run.immediate_exit, which makes KVM_RUN return at once
 * (api.rst section 5), and sends a signal, which gets a thread out of the guest. The handler does nothing; a signal
 * that comes before KVM_RUN is lost, but then the flag is seen. Both are done under the lock, and so is a thread's
 * resetting of immediate_exit, so that no kick falls between a thread's look at the flags and its next KVM_RUN.
 *
 * Flags are looked at only when KVM_RUN has returned EINTR: after an exit for I/O, the instruction is finished by the
 * next KVM_RUN, immediate_exit or not, and until then the processor's state must not be saved (same section).
 *
 * The loop's thread never waits for a processor's, which may itself be waiting for the loop (loop_call of a device's
 * register). Threads count themselves out, and the last one writes event_fd.
 *
 * SYSTEM CALLS after on_thread, for its filter
 *
 *     ioctl(KVM_RUN); futex (lock, and loop_call); write (event_fd, a loop's call_fd, eventfds of serial and devices;
 *     the debug port's descriptor), poll (the debug port); rt_sigreturn; clock_gettime (vDSO, if the host has no
 *     usable clock there); at the end of a thread: rt_sigprocmask, madvise, munmap, set_robust_list, exit.
 *     What virtio_mmio_read and _write do besides.
 *
 * The loop's thread, after vm_start
 *
 *     read, write (event_fd); futex; tgkill and getpid (pthread_kill); vm_pause and vm_resume: ioctl, on the VM
 *     KVM_GET_CLOCK and KVM_SET_CLOCK, on processors KVM_KVMCLOCK_CTRL, KVM_GET_DEVICE_ATTR and KVM_SET_DEVICE_ATTR;
 *     vm_discard: fallocate, madvise; vm_stop: what loop_turn does; vm_free: munmap, close; vm_save: see
 *     kvm/snapshot.c; write and poll (the debug port).
 */
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>

#include "base/io.h"
#include "kvm/arch.h"
#include "kvm/internal.h"

enum { STACK_BYTES = 256 << 10, STOP_LOOK_NS = 1000000 };

/* glibc keeps the first two for itself. */
static int kick_signal(void)
{
	return SIGRTMIN;
}

static void on_kick(int sig)
{
}

/* Under the lock. */
static bool must_leave(const struct vm *vm)
{
	return vm->pause || vm->ended || vm->stop;
}

static void tell_loop(struct vm *vm)
{
	const uint64_t one = 1;
	ssize_t n = write(vm->event_fd, &one, sizeof(one)); /* cannot fail: the counter is far from its end */
	(void)n;
}

static void set_immediate_exit(struct vcpu *v, uint8_t on)
{
	__atomic_store_n(&v->run->immediate_exit, on, __ATOMIC_RELAXED);
}

/* Under the lock. */
static void kick_all(struct vm *vm)
{
	for (unsigned i = 0; i < vm->n_vcpus; i++) {
		struct vcpu *v = &vm->vcpus[i];
		set_immediate_exit(v, 1);
		if (v->has_thread && !pthread_equal(v->thread, pthread_self()))
			pthread_kill(v->thread, kick_signal());
	}
}

/* ---- on a processor's thread ---- */

static void count_exit(struct vcpu *v, enum machine_exit kind)
{
	/* Only this thread writes. */
	__atomic_store_n(&v->exits[kind], v->exits[kind] + 1, __ATOMIC_RELAXED);
}

void vcpu_end(struct vcpu *v, const char *why)
{
	struct vm *vm = v->vm;

	pthread_mutex_lock(&vm->lock);
	if (!vm->ended) {
		vm->ended = true;
		vm->end_why = why;
		kick_all(vm);
	}
	pthread_mutex_unlock(&vm->lock);
	tell_loop(vm);
}

static void do_mmio(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	uint32_t off, len = MIN_OF(run->mmio.len, (uint32_t)sizeof(run->mmio.data));
	const struct device *d = vm_device_at(v->vm, run->mmio.phys_addr, len, &off);

	if (run->mmio.is_write) {
		if (d)
			virtio_mmio_write(d->m, off, run->mmio.data, len);
	} else if (d) {
		virtio_mmio_read(d->m, off, run->mmio.data, len);
	} else {
		memset(run->mmio.data, 0xff, sizeof(run->mmio.data)); /* as a bus without an answer */
	}
}

static const char *internal_error(uint32_t suberror)
{
	switch (suberror) {
	case KVM_INTERNAL_ERROR_EMULATION:
		return "the host's KVM cannot emulate an instruction of the guest";
	case KVM_INTERNAL_ERROR_SIMUL_EX:
	case KVM_INTERNAL_ERROR_DELIVERY_EV:
		return "the host's KVM cannot deliver an exception to the guest";
	default:
		return "internal error of the host's KVM";
	}
}

static enum machine_exit kind_of(uint32_t reason)
{
	switch (reason) {
	case KVM_EXIT_IO:
		return EXIT_IO;
	case KVM_EXIT_MMIO:
		return EXIT_MMIO;
	case KVM_EXIT_HLT:
		return EXIT_HLT;
	case KVM_EXIT_INTR:
		return EXIT_INTR;
	case KVM_EXIT_SHUTDOWN:
	case KVM_EXIT_SYSTEM_EVENT:
		return EXIT_SHUTDOWN;
	default:
		return EXIT_OTHER;
	}
}

static void handle_exit(struct vcpu *v)
{
	count_exit(v, kind_of(v->run->exit_reason));
	switch (v->run->exit_reason) {
	case KVM_EXIT_MMIO:
		do_mmio(v);
		break;
	case KVM_EXIT_INTR:
		break;
	case KVM_EXIT_HLT: /* the kernel's interrupt controller wakes processors: nobody would wake this one */
		vcpu_end(v, "the guest halted");
		break;
	case KVM_EXIT_SHUTDOWN: /* triple fault: how our guest restarts (reboot=t) */
		vcpu_end(v, NULL);
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		vcpu_end(v, v->run->system_event.type == KVM_SYSTEM_EVENT_CRASH ? "the guest crashed" : NULL);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		vcpu_end(v, "the processor refuses to enter the guest");
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		vcpu_end(v, internal_error(v->run->internal.suberror));
		break;
	default:
		if (!arch_exit(v->vm, v))
			vcpu_end(v, "exit from the guest for an unknown reason");
		break;
	}
}

/* Runs the guest until the flags have to be looked at. */
static void run_guest(struct vcpu *v)
{
	for (;;) {
		if (ioctl(v->fd, KVM_RUN, 0) == 0) {
			handle_exit(v);
			continue;
		}
		switch (errno) {
		case EINTR:
			count_exit(v, EXIT_INTR);
			return;
		case EAGAIN: /* a processor that waited to be started has been woken */
			break;
		case ENOMEM:
			vcpu_end(v, "the host has no memory for the guest");
			break;
		case EFAULT:
			vcpu_end(v, "the host cannot give the guest its memory");
			break;
		default:
			vcpu_end(v, "KVM_RUN failed");
			break;
		}
	}
}

/* Waits as long as the processor must not run. False: it never will again. */
static bool may_run(struct vcpu *v)
{
	struct vm *vm = v->vm;

	pthread_mutex_lock(&vm->lock);
	if (must_leave(vm)) {
		if (++vm->n_out == vm->n_vcpus)
			tell_loop(vm);
		while ((vm->pause || vm->ended) && !vm->stop)
			pthread_cond_wait(&vm->changed, &vm->lock);
		if (!vm->stop)
			vm->n_out--;
	}
	bool run = !vm->stop;
	set_immediate_exit(v, 0);
	pthread_mutex_unlock(&vm->lock);
	return run;
}

static void note_first_entry(struct vm *vm)
{
	uint64_t none = 0;
	__atomic_compare_exchange_n(
		&vm->first_entry_ns, &none, time_mono_ns(), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

static void *vcpu_main(void *data)
{
	struct vcpu *v = data;
	struct vm *vm = v->vm;
	char name[16];
	sigset_t kick;

	snprintf(name, sizeof(name), "vcpu%u", v->index);
	prctl(PR_SET_NAME, name);
	sigemptyset(&kick);
	sigaddset(&kick, kick_signal());
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
	int r = vm->start.on_thread ? vm->start.on_thread(vm->start.data) : 0;

	pthread_mutex_lock(&vm->lock);
	vm->n_started++;
	if (r < 0 && vm->start_result == 0)
		vm->start_result = r;
	pthread_cond_broadcast(&vm->changed);
	pthread_mutex_unlock(&vm->lock);

	while (may_run(v)) {
		note_first_entry(vm);
		run_guest(v);
	}
	pthread_mutex_lock(&vm->lock);
	vm->n_gone++;
	pthread_cond_broadcast(&vm->changed);
	pthread_mutex_unlock(&vm->lock);
	return NULL;
}

/* ---- on the loop's thread ---- */

/* The pending pause, if every processor is out. The function may do anything but free the machine. */
static void finish_pause(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	bool out = vm->pause && vm->n_out == vm->n_vcpus;
	void (*fn)(void *data) = out ? vm->pause_fn : NULL;
	if (out)
		vm->pause_fn = NULL;
	pthread_mutex_unlock(&vm->lock);
	if (out && !vm->clock_stopped) {
		arch_clock_stop(vm);
		vm->clock_stopped = true;
		serial_flush(&vm->serial);
	}
	if (fn)
		fn(vm->pause_data);
}

static void on_event(void *data, int fd, uint32_t events)
{
	struct vm *vm = data;
	uint64_t n;

	if (read(fd, &n, sizeof(n)) != sizeof(n))
		return;
	finish_pause(vm);
	pthread_mutex_lock(&vm->lock);
	bool tell = vm->ended && !vm->end_told;
	const char *why = vm->end_why;
	vm->end_told = vm->ended;
	pthread_mutex_unlock(&vm->lock);
	if (tell) {
		serial_flush(&vm->serial);
		if (vm->start.on_end)
			vm->start.on_end(vm->start.data, why);
	}
}

int vcpus_init(struct vm *vm)
{
	pthread_mutex_init(&vm->lock, NULL);
	pthread_cond_init(&vm->changed, NULL);
	vm->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return vm->event_fd < 0 ? -errno : 0;
}

void vcpus_done(struct vm *vm)
{
	loop_source_free(vm->event_src);
	close_fd(&vm->event_fd);
	pthread_cond_destroy(&vm->changed);
	pthread_mutex_destroy(&vm->lock);
}

static int start_threads(struct vm *vm)
{
	struct sigaction sa = {.sa_handler = on_kick}; /* no SA_RESTART: KVM_RUN must return */
	pthread_attr_t attr;
	sigset_t all, before;
	int r = 0;

	sigemptyset(&sa.sa_mask);
	if (sigaction(kick_signal(), &sa, NULL) < 0)
		return -errno;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	/* Threads begin with their maker's mask: signals for the process are the loop's alone. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (unsigned i = 0; r == 0 && i < vm->n_vcpus; i++) {
		struct vcpu *v = &vm->vcpus[i];
		/* Under the lock, because a thread that ends the guest at once looks for the others to kick. */
		pthread_mutex_lock(&vm->lock);
		r = -pthread_create(&v->thread, &attr, vcpu_main, v);
		v->has_thread = r == 0;
		pthread_mutex_unlock(&vm->lock);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return r;
}

/* Waits until every thread that there is has run on_thread. The first failure of one, or 0. */
static int await_started(struct vm *vm)
{
	unsigned n = 0;

	for (unsigned i = 0; i < vm->n_vcpus; i++)
		n += vm->vcpus[i].has_thread;
	pthread_mutex_lock(&vm->lock);
	while (vm->n_started < n)
		pthread_cond_wait(&vm->changed, &vm->lock);
	int r = vm->start_result;
	pthread_mutex_unlock(&vm->lock);
	return r;
}

int vm_start(struct vm *vm, const struct vm_start *s, struct err *e)
{
	vm->start = *s;
	int r = loop_add_io(s->loop, vm->event_fd, EPOLLIN, on_event, vm, &vm->event_src);
	if (r < 0)
		return err_sys(e, r, "machine");
	/* Nobody enters the guest before every thread has run on_thread. */
	vm->pause = true;
	r = start_threads(vm);
	int ready = await_started(vm);
	if (r < 0 || ready < 0) {
		vm_stop(vm);
		return err_sys(e, r < 0 ? r : ready, "cannot start the processors' threads");
	}
	if (!s->paused)
		vm_resume(vm);
	return 0;
}

void vm_pause(struct vm *vm, void (*fn)(void *data), void *data)
{
	pthread_mutex_lock(&vm->lock);
	vm->pause_fn = fn;
	vm->pause_data = data;
	if (!vm->pause) {
		vm->pause = true;
		kick_all(vm);
	}
	pthread_mutex_unlock(&vm->lock);
	tell_loop(vm); /* they may be out already */
}

void vm_resume(struct vm *vm)
{
	/* A pause that is given up before it is complete: its function is called all the same. */
	pthread_mutex_lock(&vm->lock);
	void (*fn)(void *data) = vm->pause_fn;
	vm->pause_fn = NULL;
	pthread_mutex_unlock(&vm->lock);
	if (fn)
		fn(vm->pause_data);

	if (vm->clock_stopped) { /* so they are all out, and nothing waits for a processor's KVM_RUN */
		arch_clock_go_on(vm);
		vm->clock_stopped = false;
	}
	pthread_mutex_lock(&vm->lock);
	vm->pause = false;
	pthread_cond_broadcast(&vm->changed);
	pthread_mutex_unlock(&vm->lock);
}

/* Waits a moment for the threads to be gone. */
static bool all_gone(struct vm *vm, unsigned n)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += STOP_LOOK_NS;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	pthread_mutex_lock(&vm->lock);
	int r = 0;
	while (vm->n_gone < n && r == 0)
		r = pthread_cond_timedwait(&vm->changed, &vm->lock, &until);
	bool gone = vm->n_gone >= n;
	pthread_mutex_unlock(&vm->lock);
	return gone;
}

void vm_stop(struct vm *vm)
{
	unsigned n = 0;

	pthread_mutex_lock(&vm->lock);
	vm->stop = true;
	vm->pause_fn = NULL;
	vm->end_told = true;
	for (unsigned i = 0; i < vm->n_vcpus; i++)
		n += vm->vcpus[i].has_thread;
	kick_all(vm);
	pthread_cond_broadcast(&vm->changed);
	pthread_mutex_unlock(&vm->lock);

	while (!all_gone(vm, n))
		loop_turn(vm->start.loop, 0); /* one may wait in loop_call */
	for (unsigned i = 0; i < vm->n_vcpus; i++) {
		if (vm->vcpus[i].has_thread)
			pthread_join(vm->vcpus[i].thread, NULL);
		vm->vcpus[i].has_thread = false;
	}
	loop_source_free(vm->event_src);
	vm->event_src = NULL;
	serial_flush(&vm->serial);
}
