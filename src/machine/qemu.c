/* SPDX-License-Identifier: MIT */
/*
 * The qemu backend.
 *
 * THEORY OF OPERATION
 *
 * QEMU runs as our child with `-M microvm`: no PCI, no ACPI, virtio-mmio devices announced on the kernel's command
 * line, the kernel entered directly through PVH. It shares guest memory (a memfd) with the vsock and network devices in our
 * process, and with the file server, over inherited sockets (vhost-user), so nothing on the file system names the machine.
 * There is no monitor socket: the machine ends when the guest resets (-no-reboot) or when we kill the child, and pauses when
 * the child is stopped.
 * PR_SET_PDEATHSIG ends it when our thread dies, kill -9 included, so that no orphan survives a supervisor; until then
 * it holds hold_fd, the box's lock.
 *
 * Guest input reaches QEMU's own devices (virtio-blk, serial, RNG) besides ours: -sandbox limits what a taken-over
 * QEMU can ask of the host kernel, and jail.h what it can reach.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "backend.h"
#include "base/io.h"
#include "base/log.h"
#include "base/proc.h"
#include "jail.h"
#include "qemu-net.h"
#include "virtio/net.h"
#include "virtio/vhost-user.h"
#include "virtio/vsock.h"

struct qemu_machine {
	struct machine m; /* first */
	struct vsock_dev *vsock;
	struct net_dev *net; /* NULL: none */
	struct vhost_user *vhost, *net_vhost;
	struct machine_status status;
};

enum { ARGS_MAX = 74 + 4 * MACHINE_DISKS_MAX };
enum { CHILD_VSOCK_FD = 3, CHILD_HOLD_FD = 4, CHILD_NET_FD = QEMU_NET_FD, CHILD_NET_LIBRARY_FD, CHILD_FS_FD };

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
	return c->accel == ACCEL_QEMU_KVM || c->tsc_khz;
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

/*
 * QEMU keeps the device's configuration to itself: what it would serve there besides (a control queue, several pairs of
 * queues, announcements) is off, since each is something that the guest sets up as it boots. The link is always up in it.
 */
static void net_args(struct args *a, const struct machine_net *net)
{
	static const char off[] = "mq=off,ctrl_vq=off,ctrl_rx=off,ctrl_rx_extra=off,ctrl_vlan=off,"
				  "ctrl_mac_addr=off,ctrl_guest_offloads=off,guest_announce=off,"
				  "guest_ecn=off,host_ecn=off,guest_ufo=off,host_ufo=off";
	const uint8_t *m = net->mac;

	arg(a, "-chardev");
	arg(a, "socket,id=net,path=%s", QEMU_NET_PATH);
	arg(a, "-netdev");
	arg(a, "vhost-user,id=net,chardev=net,queues=1");
	arg(a, "-device");
	arg(a, "virtio-net-device,netdev=net,mac=%02x:%02x:%02x:%02x:%02x:%02x,host_mtu=%u,%s", m[0], m[1],
		m[2], m[3], m[4], m[5], net->mtu, off);
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
	arg(a, "%s", c->accel == ACCEL_QEMU_KVM ? "kvm" : "tcg,thread=multi");
	arg(a, "-cpu");
	arg(a, "%s", c->accel == ACCEL_QEMU_KVM ? "host" : "max,-svm");
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
	if (c->net.present)
		net_args(a, &c->net);
	if (c->fs_fd > 0) {
		/* As many entries as our own transport offers: requests of up to 1 MiB (kernel: max_pages_limit). */
		arg(a, "-chardev");
		arg(a, "socket,id=fs,fd=%d", CHILD_FS_FD);
		arg(a, "-device");
		arg(a, "vhost-user-fs-device,chardev=fs,tag=%s,num-request-queues=1,queue-size=%d", c->fs_tag,
			VQ_SIZE_MAX);
	}
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

static struct qemu_machine *of(struct machine *m)
{
	return (struct qemu_machine *)(void *)m;
}

static void on_vhost_gone(void *data, const char *reason)
{
	struct qemu_machine *q = data;

	/* QEMU is dead or dying; if not, it is broken beyond use. Its end is what the rest hangs on. */
	log_debug("vhost-user: %s", reason);
	if (q->m.pid > 0)
		kill(q->m.pid, SIGKILL);
}

/* Puts the vsock device on one end of a socket pair; the other is QEMU's. */
static int serve_vsock(struct qemu_machine *q, const struct machine_config *c, int *ret_fd, struct err *e)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, -errno, "cannot set up the vsock device");
	*ret_fd = pair[1];
	int r = vsock_new(q->m.loop, c->vsock_dirfd, &q->vsock);
	if (r < 0)
		close(pair[0]);
	else
		r = vsock_serve_vhost_user(q->vsock, pair[0], on_vhost_gone, q, &q->vhost);
	return r < 0 ? err_sys(e, r, "cannot set up the vsock device") : 0;
}

static void on_net_gone(void *data, unsigned link)
{
	struct qemu_machine *q = data;

	if (q->m.net_gone)
		q->m.net_gone(q->m.net_gone_data, link);
}

/* The same for the network device, if there is to be one; its links' sockets are the caller's: ours are duplicates. */
static int serve_net(struct qemu_machine *q, const struct machine_net *net, int *ret_fd, struct err *e)
{
	struct net_config c = {.mtu = net->mtu, .vnet_hdr = true};
	int pair[2];

	if (!net->present)
		return 0;
	memcpy(c.mac, net->mac, sizeof(c.mac));
	int r = net_new(q->m.loop, &c, &q->net);
	for (unsigned i = 0; r == 0 && i < MACHINE_LINKS_MAX; i++) {
		if (net->fds[i] <= 0)
			continue;
		int fd = fcntl(net->fds[i], F_DUPFD_CLOEXEC, 3);
		r = fd < 0 ? -errno : net_connect(q->net, i, fd);
	}
	if (r == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		r = -errno;
	if (r == 0) {
		*ret_fd = pair[1];
		r = vhost_user_new(q->m.loop, net_device(q->net), net_device(q->net)->n_queues, pair[0],
			on_vhost_gone, q, &q->net_vhost);
	}
	if (r < 0)
		return err_sys(e, r, "cannot set up the network device");
	net_on_disconnect(q->net, on_net_gone, q);
	q->m.has_net = true;
	return 0;
}

static int spawn(struct qemu_machine *q, const char *qemu, struct args *a, const struct machine_config *c,
	int vsock_fd, int net_fd, struct err *e)
{
	CLEANUP_CLOSE int library = -1;
	if (c->net.present) {
		library = machine_open_file("network device", c->qemu_net, O_RDONLY, e);
		if (library < 0)
			return library;
	}
	enum { FDS = 4, NET_FDS = 2, FS_FDS = 1 };
	struct proc_fd fds[FDS + NET_FDS + FS_FDS] = {{c->console_fd, STDOUT_FILENO},
		{c->log_fd, STDERR_FILENO}, {vsock_fd, CHILD_VSOCK_FD}, {c->hold_fd, CHILD_HOLD_FD}};
	size_t n_fds = FDS;
	if (c->net.present) {
		fds[n_fds++] = (struct proc_fd){net_fd, CHILD_NET_FD};
		fds[n_fds++] = (struct proc_fd){library, CHILD_NET_LIBRARY_FD};
	}
	if (c->fs_fd > 0)
		fds[n_fds++] = (struct proc_fd){c->fs_fd, CHILD_FS_FD};
	/* Nothing of the user's environment, which may hold secrets, is QEMU's business. By number: a path may have colons. */
	char preload[48];
	snprintf(preload, sizeof(preload), "LD_PRELOAD=/proc/self/fd/%d", CHILD_NET_LIBRARY_FD);
	const char *const env[] = {"PATH=/usr/bin:/bin", "LANG=C", c->net.present ? preload : NULL, NULL};
	CLEANUP(jail_qemu_done) struct jail_qemu jail;
	jail_qemu_prepare(&jail, qemu, c);
	struct proc_opts o = {.path = qemu,
		.argv = (const char *const *)a->v,
		.envp = env,
		.fds = fds,
		.n_fds = n_fds,
		.die_with_parent = true,
		.new_session = true,
		.no_new_privs = true,
		.confine = &jail.confine};
	q->m.pid = proc_spawn(&o, &q->m.end_fd);
	if (q->m.pid < 0)
		return err_sys(e, q->m.pid, "cannot start %s", qemu);
	jail_qemu_started(&jail, q->m.pid, &q->status);
	return 0;
}

static int qemu_start(struct loop *loop, const struct machine_config *c, struct machine **ret, struct err *e)
{
	CLEANUP_CLOSE int vsock_fd = -1, net_fd = -1;
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
	struct qemu_machine *q = calloc(1, sizeof(*q));
	if (!q)
		return err_oom(e);
	q->m = (struct machine){.ops = &machine_qemu_ops, .loop = loop, .end_fd = -1};
	r = serve_vsock(q, c, &vsock_fd, e);
	if (r == 0)
		r = serve_net(q, &c->net, &net_fd, e);
	if (r == 0)
		r = spawn(q, qemu, &a, c, vsock_fd, net_fd, e);
	if (r < 0) {
		machine_free(&q->m);
		return r;
	}
	*ret = &q->m;
	return 0;
}

static void qemu_free(struct machine *m)
{
	struct qemu_machine *q = of(m);

	vhost_user_free(q->net_vhost);
	net_free(q->net);
	vhost_user_free(q->vhost);
	vsock_free(q->vsock);
	free(q);
}

static bool qemu_status(struct machine *m, struct machine_status *ret)
{
	*ret = of(m)->status;
	return true;
}

/*
 * The whole process stands still, processors and devices; the vsock device in ours just sees no more requests. The clock
 * goes on, unlike with our own monitor: the guest finds that time has passed.
 */
static int qemu_pause(struct machine *m, bool pause, machine_done_fn fn, void *data)
{
	fn(data, kill(m->pid, pause ? SIGSTOP : SIGCONT) < 0 ? -errno : 0);
	return 0;
}

static int qemu_stats(struct machine *m, machine_stats_fn fn, void *data)
{
	struct machine_stats stats = {0};
	int r = machine_process_stats(m, &stats);

	fn(data, r, r == 0 ? &stats : NULL);
	return 0;
}

static int qemu_net_connect(struct machine *m, unsigned link, int fd, machine_done_fn fn, void *data)
{
	int r = 0;

	if (fd < 0)
		net_disconnect(of(m)->net, link);
	else
		r = net_connect(of(m)->net, link, fd);
	fn(data, r);
	return 0;
}

const struct machine_ops machine_qemu_ops = {.start = qemu_start,
	.free = qemu_free,
	.status = qemu_status,
	.pause = qemu_pause,
	.stats = qemu_stats,
	.net_connect = qemu_net_connect};
