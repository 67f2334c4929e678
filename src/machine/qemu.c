/* SPDX-License-Identifier: MIT */
/*
 * The qemu backend.
 *
 * THEORY OF OPERATION
 *
 * QEMU runs as our child with `-M microvm`: no PCI, no ACPI, virtio-mmio devices announced on the kernel's command
 * line, the kernel entered directly through PVH. It shares guest memory (a memfd) with the vsock device in our
 * process over an inherited socket, so nothing on the file system names the machine. There is no monitor socket: the
 * machine ends when the guest resets (-no-reboot) or when we kill the child. PR_SET_PDEATHSIG ends it when our thread
 * dies, kill -9 included, so that no orphan survives a supervisor; until then it holds hold_fd, the box's lock.
 *
 * Guest input reaches QEMU's own devices (virtio-blk, serial, RNG) besides ours: -sandbox limits what a taken-over
 * QEMU can ask of the host kernel.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include "backend.h"
#include "base/io.h"
#include "base/proc.h"

enum { ARGS_MAX = 64 + 4 * MACHINE_DISKS_MAX, CHILD_VSOCK_FD = 3, CHILD_HOLD_FD = 4 };

struct args {
	char *v[ARGS_MAX + 1]; /* owned */
	size_t n;
	bool failed; /* out of memory or room */
};

static void args_done(struct args *a)
{
	for (size_t i = 0; i < a->n; i++)
		free(a->v[i]);
}

PRINTF(2, 3) static void arg(struct args *a, const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	if (a->n == ARGS_MAX || vasprintf(&s, fmt, ap) < 0)
		a->failed = true;
	else
		a->v[a->n++] = s;
	va_end(ap);
}

/* Doubles commas, QEMU's escape inside option values. malloc'd. */
static char *escape_commas(const char *s)
{
	char *out = malloc(2 * strlen(s) + 1), *o = out;
	if (!out)
		return NULL;
	for (; *s; s++) {
		*o++ = *s;
		if (*s == ',')
			*o++ = ',';
	}
	*o = '\0';
	return out;
}

static void disk_args(struct args *a, size_t i, const struct machine_disk *d)
{
	CLEANUP_FREE char *path = escape_commas(d->path);
	if (!path) {
		a->failed = true;
		return;
	}
	/*
	 * No file locking: the box's lock, which this process holds too, makes the scratch disk ours alone, and image disks
	 * are shared read-only. cache=writeback semantics with flushes passed on: the guest decides what must be durable.
	 */
	arg(a, "-blockdev");
	arg(a, "driver=raw,node-name=d%zu,read-only=%s,file.driver=file,file.filename=%s,file.locking=off%s",
		i, d->read_only ? "on" : "off", path, d->read_only ? "" : ",discard=unmap,detect-zeroes=off");
	arg(a, "-device");
	arg(a, "virtio-blk-device,drive=d%zu", i);
}

/*
 * The guest's clock is known without the old timers: kvmclock under KVM, or under emulation the host's own TSC, whose
 * frequency we tell. Then PIT and PIC are left out, and the kernel does not wait for them (kernel/BOOT.md).
 */
static bool knows_clock(const struct machine_config *c)
{
	return c->accel == ACCEL_KVM || c->tsc_khz;
}

/* Each parameter's reason and measured effect is in kernel/BOOT.md. */
static void cmdline_arg(struct args *a, const struct machine_config *c)
{
	char tsc[64] = "";

	if (c->accel == ACCEL_TCG && c->tsc_khz)
		snprintf(tsc, sizeof(tsc), " tsc_early_khz=%llu", (unsigned long long)c->tsc_khz);
	arg(a, "-append");
	arg(a, "quiet reboot=t noreplace-smp dummy.numdummies=0 rcupdate.rcu_expedited=1 swiotlb=noforce%s",
		tsc);
}

static void build_args(struct args *a, const char *qemu, const struct machine_config *c)
{
	unsigned long long mib = c->mem_bytes >> 20;

	arg(a, "%s", qemu);
	arg(a, "-nodefaults");
	arg(a, "-no-user-config");
	arg(a, "-no-reboot");
	arg(a, "-display");
	arg(a, "none");
	arg(a, "-sandbox");
	arg(a, "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
	arg(a, "-M");
	arg(a,
		"microvm,memory-backend=mem,auto-kernel-cmdline=on,acpi=off,x-option-roms=off,rtc=on,isa-"
		"serial=on%s",
		knows_clock(c) ? ",pit=off,pic=off" : "");
	arg(a, "-object");
	arg(a, "memory-backend-memfd,id=mem,size=%lluM,share=on", mib);
	arg(a, "-m");
	arg(a, "%lluM", mib);
	arg(a, "-accel");
	arg(a, "%s", c->accel == ACCEL_KVM ? "kvm" : "tcg,thread=multi");
	arg(a, "-cpu");
	arg(a, "%s", c->accel == ACCEL_KVM ? "host" : "max,-svm");
	arg(a, "-smp");
	arg(a, "%u", c->vcpus);
	arg(a, "-kernel");
	arg(a, "%s", c->kernel);
	arg(a, "-initrd");
	arg(a, "%s", c->initrd);
	cmdline_arg(a, c);
	arg(a, "-global");
	arg(a, "virtio-mmio.force-legacy=false");
	for (size_t i = 0; i < c->n_disks; i++)
		disk_args(a, i, &c->disks[i]);
	arg(a, "-chardev");
	arg(a, "socket,id=vsock,fd=%d", CHILD_VSOCK_FD);
	arg(a, "-device");
	arg(a, "vhost-user-vsock-device,chardev=vsock");
	arg(a, "-chardev");
	arg(a, "stdio,id=console,signal=off");
	arg(a, "-serial");
	arg(a, "chardev:console");
}

char *machine_qemu_path(struct err *e)
{
	const char *name = getenv("A3S_QEMU");
	if (!name || !*name)
		name = "qemu-system-x86_64";
	if (strchr(name, '/')) {
		if (access(name, X_OK) == 0) {
			char *path = strdup(name);
			if (!path)
				err_oom(e);
			return path;
		}
	} else {
		const char *dirs = getenv("PATH");
		if (!dirs || !*dirs)
			dirs = "/usr/local/bin:/usr/bin:/bin";
		while (*dirs) {
			size_t n = strcspn(dirs, ":");
			char path[PATH_MAX];
			struct stat st;
			int len = snprintf(path, sizeof(path), "%.*s/%s", (int)n, dirs, name);
			if (n && len < (int)sizeof(path) && access(path, X_OK) == 0 && stat(path, &st) == 0 &&
				S_ISREG(st.st_mode)) {
				char *dup = strdup(path);
				if (!dup)
					err_oom(e);
				return dup;
			}
			dirs += n + (dirs[n] == ':');
		}
	}
	err_set(e, -ENOENT, "QEMU not found: %s", name);
	err_hint(e, "install the package qemu-system-x86, or set A3S_QEMU to the program");
	return NULL;
}

static int check_file(const char *what, const char *path, struct err *e)
{
	if (access(path, R_OK) < 0) {
		int r = err_sys(e, -errno, "%s: cannot read %s", what, path);
		err_hint(e, "build or install a3s-box again");
		return r;
	}
	return 0;
}

static int qemu_start(const struct machine_config *c, struct machine **ret, struct err *e)
{
	int r = check_file("guest kernel", c->kernel, e);
	if (r == 0)
		r = check_file("guest initramfs", c->initrd, e);
	if (r < 0)
		return r;
	CLEANUP_FREE char *qemu = machine_qemu_path(e);
	if (!qemu)
		return e ? e->code : -ENOENT;

	CLEANUP(args_done) struct args a = {0};
	build_args(&a, qemu, c);
	if (a.failed)
		return err_oom(e);
	struct machine *m = calloc(1, sizeof(*m));
	if (!m)
		return err_oom(e);
	m->ops = &machine_qemu_ops;
	struct proc_fd fds[] = {{c->console_fd, STDOUT_FILENO}, {c->log_fd, STDERR_FILENO},
		{c->vsock_fd, CHILD_VSOCK_FD}, {c->hold_fd, CHILD_HOLD_FD}};
	/* Nothing of the user's environment, which may hold secrets, is QEMU's business. */
	static const char *const env[] = {"PATH=/usr/bin:/bin", "LANG=C", NULL};
	struct proc_opts o = {.path = qemu,
		.argv = (const char *const *)a.v,
		.envp = env,
		.fds = fds,
		.n_fds = ARRAY_LEN(fds),
		.die_with_parent = true,
		.new_session = true,
		.no_new_privs = true};
	m->pid = proc_spawn(&o, &m->end_fd);
	if (m->pid < 0) {
		r = err_sys(e, m->pid, "cannot start %s", qemu);
		free(m);
		return r;
	}
	*ret = m;
	return 0;
}

static void qemu_kill(struct machine *m)
{
	int status;

	if (m->pid <= 0)
		return;
	kill(m->pid, SIGKILL); /* still our unreaped child: the PID cannot have been reused */
	proc_wait(m->pid, &status);
	m->pid = 0;
}

static void qemu_free(struct machine *m)
{
	qemu_kill(m);
	close_fd(&m->end_fd);
	free(m);
}

const struct machine_ops machine_qemu_ops = {.start = qemu_start, .kill = qemu_kill, .free = qemu_free};
