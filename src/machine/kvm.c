/* SPDX-License-Identifier: MIT */
/*
 * The kvm backend, as the supervisor sees it: our own monitor, a3s-box-vmm, as a child process.
 *
 * THEORY OF OPERATION
 *
 * A process of its own, because it is the guest's to take over: it gets descriptors of what it needs and no more, confines
 * itself (jail.h) and can reach neither the database nor another box. It is small, and starting it costs a
 * millisecond. Requests are datagrams (vmm/protocol.h); answers come on the loop. PR_SET_PDEATHSIG ends it when our
 * thread dies; until then it holds hold_fd, the box's lock.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "backend.h"
#include "base/io.h"
#include "base/log.h"
#include "base/proc.h"
#include "jail.h"
#include "vmm/protocol.h"

struct pending {
	uint32_t seq; /* 0: no request is under way */
	enum vmm_op op;
	machine_done_fn done;
	machine_stats_fn stats;
	void *data;
};

/* Requests that can be under way: one of each operation, of NET_CONNECT one for each link. */
enum { SLOTS = VMM_OPS + MACHINE_LINKS_MAX };

struct kvm_machine {
	struct machine m; /* first */
	int control;
	struct loop_source *control_io;
	uint32_t seq;
	struct pending pending[SLOTS];
	unsigned links; /* bits of those that have a peer, as far as we have been told */
	unsigned asked; /* bits of those that will have, if what is under way succeeds */
	bool answering; /* a caller's function runs, which may free the machine: then only marked */
	bool freed;
	bool ready;
	bool has_fs;
	struct machine_status status;
};

static struct kvm_machine *of(struct machine *m)
{
	return (struct kvm_machine *)(void *)m;
}

/* A caller's function has run. False: it freed the machine. */
static bool answered(struct kvm_machine *k, bool outermost)
{
	bool freed = k->freed;

	if (outermost) {
		k->answering = false;
		if (freed)
			free(k);
	}
	return !freed;
}

/* Calls back who asked. False: the machine was freed by that. */
static bool answer(struct kvm_machine *k, unsigned slot, int result, struct machine_stats *stats)
{
	struct pending p = k->pending[slot];
	bool outermost = !k->answering;

	k->pending[slot] = (struct pending){0};
	k->answering = true;
	if (p.stats) {
		int r = result == 0 ? machine_process_stats(&k->m, stats) : result;
		p.stats(p.data, r, r == 0 ? stats : NULL);
	} else if (p.done) {
		p.done(p.data, result);
	}
	return answered(k, outermost);
}

/*
 * Believed once for each connection, so that a monitor cannot make us busy; not while another peer is on its way: what
 * was sent before its answer is about the one before. False: the machine was freed.
 */
static bool on_net_gone(struct kvm_machine *k, uint32_t link)
{
	if (link >= MACHINE_LINKS_MAX || !(k->links & 1u << link))
		return true;
	k->links &= ~(1u << link);
	if (!k->m.net_gone)
		return true;
	/* As with an answer, the machine may be freed by it. */
	bool outermost = !k->answering;
	k->answering = true;
	k->m.net_gone(k->m.net_gone_data, link);
	return answered(k, outermost);
}

static void on_net_connected(struct kvm_machine *k, unsigned link, int result)
{
	unsigned bit = 1u << link;

	/* -EISCONN: the one before has not gone yet. */
	k->links &= ~bit;
	k->links |= result == 0 ? k->asked & bit : result == -EISCONN ? bit : 0;
}

/* False: the machine was freed. */
static bool on_reply(struct kvm_machine *k, struct vmm_reply *r)
{
	int result = r->result > 0 ? -EPROTO : r->result;

	if (r->op == VMM_READY && !k->ready) {
		/* What we applied before it ran counts as well. */
		jail_merge(&k->status, &r->status);
		k->ready = true;
		return true;
	}
	if (r->op == VMM_NET_GONE)
		return on_net_gone(k, r->link);
	for (unsigned slot = 0; slot < SLOTS; slot++) {
		const struct pending *p = &k->pending[slot];
		if (!p->seq || p->seq != r->seq || p->op != r->op)
			continue;
		if (p->op == VMM_NET_CONNECT)
			on_net_connected(k, slot - VMM_OPS, result);
		return answer(k, slot, result, &r->stats);
	}
	return true;
}

/*
 * Takes what has arrived; a datagram of another size ends the connection. 0; -EPIPE: nothing more will come;
 * -ESRCH: the machine was freed.
 */
static int take_replies(struct kvm_machine *k)
{
	struct vmm_reply r;

	for (unsigned i = 0; i < SLOTS; i++) {
		ssize_t n = recv(k->control, &r, sizeof(r), MSG_DONTWAIT | MSG_TRUNC);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -EPIPE;
		if (n != (ssize_t)sizeof(r))
			return -EPIPE;
		if (!on_reply(k, &r))
			return -ESRCH;
	}
	return 0;
}

static void on_control(void *data, int fd, uint32_t events)
{
	struct kvm_machine *k = data;

	if (take_replies(k) != -EPIPE)
		return;
	loop_source_free(TAKE_PTR(k->control_io));
	for (unsigned slot = 0; slot < SLOTS; slot++) {
		if (!answer(k, slot, -ESRCH, NULL))
			return;
	}
}

static int request(struct kvm_machine *k, enum vmm_op op, uint64_t arg, const int *fds, size_t n_fds,
	const struct pending *p)
{
	unsigned slot = op == VMM_NET_CONNECT ? VMM_OPS + (unsigned)arg : op;
	struct vmm_request req = {.op = op, .arg = arg};
	struct iovec iov = {&req, sizeof(req)};
	union {
		char buf[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};

	if (k->pending[slot].seq)
		return -EBUSY;
	if (!k->control_io)
		return -ESRCH;
	if (n_fds) {
		mh.msg_control = control.buf;
		mh.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}
	k->seq += k->seq == UINT32_MAX ? 2 : 1; /* never 0 */
	req.seq = k->seq;
	if (sendmsg(k->control, &mh, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return -errno;
	k->pending[slot] = *p;
	k->pending[slot].op = op;
	k->pending[slot].seq = req.seq;
	return 0;
}

static int kvm_pause(struct machine *m, bool pause, machine_done_fn fn, void *data)
{
	return request(of(m), pause ? VMM_PAUSE : VMM_RESUME, 0, NULL, 0,
		&(struct pending){.done = fn, .data = data});
}

static int kvm_stats(struct machine *m, machine_stats_fn fn, void *data)
{
	return request(of(m), VMM_STATS, 0, NULL, 0, &(struct pending){.stats = fn, .data = data});
}

static int kvm_save(struct machine *m, int state_fd, int mem_fd, machine_done_fn fn, void *data)
{
	const int fds[2] = {state_fd, mem_fd};

	/* The file server's part of what the guest knows would not be in it. */
	if (of(m)->has_fs)
		return -ENOTSUP;
	return request(of(m), VMM_SAVE, 0, fds, 2, &(struct pending){.done = fn, .data = data});
}

static int kvm_balloon(struct machine *m, uint64_t bytes, machine_done_fn fn, void *data)
{
	return request(of(m), VMM_BALLOON, bytes, NULL, 0, &(struct pending){.done = fn, .data = data});
}

static int kvm_net_connect(struct machine *m, unsigned link, int fd, machine_done_fn fn, void *data)
{
	CLEANUP_CLOSE int sock = fd;
	struct kvm_machine *k = of(m);
	unsigned bit = 1u << link;
	int r = request(
		k, VMM_NET_CONNECT, link, &sock, sock >= 0, &(struct pending){.done = fn, .data = data});

	if (r == 0) {
		k->links &= ~bit;
		k->asked = sock >= 0 ? k->asked | bit : k->asked & ~bit;
	}
	return r;
}

static bool kvm_status(struct machine *m, struct machine_status *ret)
{
	struct kvm_machine *k = of(m);

	/* It was sent before the guest ran, but the loop may have looked at the guest first. Nothing is asked before. */
	if (!k->ready && k->control_io && take_replies(k) == -ESRCH)
		return false;
	*ret = k->status;
	return k->ready;
}

static void kvm_free(struct machine *m)
{
	struct kvm_machine *k = of(m);

	loop_source_free(TAKE_PTR(k->control_io));
	close_fd(&k->control);
	if (k->answering)
		k->freed = true;
	else
		free(k);
}

/* ---- start ---- */

struct launch {
	int fds_open[VMM_FD_DISKS + MACHINE_DISKS_MAX]; /* ours, to close; by their number in the child */
	struct proc_fd fds[VMM_FD_DISKS + MACHINE_DISKS_MAX + MACHINE_LINKS_MAX + 3];
	size_t n_fds;
	unsigned links; /* bits of those that have a peer */
	char mem[40], vcpus[24], disks[24 + MACHINE_DISKS_MAX], started[48], net[48], fs[48];
	const char *argv[12];
};

static void launch_done(struct launch *l)
{
	for (size_t i = 0; i < ARRAY_LEN(l->fds_open); i++) {
		close_fd(&l->fds_open[i]);
	}
}

static void give(struct launch *l, int from, int to)
{
	l->fds[l->n_fds++] = (struct proc_fd){from, to};
}

static int open_files(struct launch *l, const struct machine_config *c, struct err *e)
{
	static const struct {
		const char *what;
		int to;
	} files[] = {{"guest kernel", VMM_FD_KERNEL}, {"guest initramfs", VMM_FD_INITRD}};
	const char *paths[] = {c->kernel, c->initrd};

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		int fd = machine_open_file(files[i].what, paths[i], O_RDONLY, e);
		if (fd < 0)
			return fd;
		l->fds_open[files[i].to] = fd;
		give(l, fd, files[i].to);
	}
	for (size_t i = 0; i < c->n_disks; i++) {
		int fd = machine_open_file(
			"disk", c->disks[i].path, c->disks[i].read_only ? O_RDONLY : O_RDWR, e);
		if (fd < 0)
			return fd;
		l->fds_open[VMM_FD_DISKS + i] = fd;
		give(l, fd, VMM_FD_DISKS + (int)i);
	}
	return 0;
}

static void options(struct launch *l, const struct machine_config *c)
{
	size_t n = 0;

	snprintf(l->vcpus, sizeof(l->vcpus), "--vcpus=%u", c->vcpus);
	snprintf(l->mem, sizeof(l->mem), "--mem-mib=%llu", (unsigned long long)(c->mem_bytes >> 20));
	snprintf(l->started, sizeof(l->started), "--started=%llu", (unsigned long long)time_mono_ns());
	size_t at = (size_t)snprintf(l->disks, sizeof(l->disks), "--disks=");
	for (size_t i = 0; i < c->n_disks; i++)
		l->disks[at++] = c->disks[i].read_only ? 'r' : 'w';
	l->disks[at] = '\0';
	const uint8_t *mac = c->net.mac;
	snprintf(l->net, sizeof(l->net), "--net=%02x:%02x:%02x:%02x:%02x:%02x,%u,%u", mac[0], mac[1], mac[2],
		mac[3], mac[4], mac[5], c->net.mtu, l->links);
	l->argv[n++] = "a3s-box-vmm";
	l->argv[n++] = l->vcpus;
	l->argv[n++] = l->mem;
	l->argv[n++] = l->disks;
	l->argv[n++] = l->started;
	if (c->name) {
		l->argv[n++] = "--name";
		l->argv[n++] = c->name;
	}
	if (c->net.present)
		l->argv[n++] = l->net;
	if (c->fs_fd > 0) {
		snprintf(l->fs, sizeof(l->fs), "--fs=%s", c->fs_tag);
		l->argv[n++] = l->fs;
	}
	if (c->debug_serial)
		l->argv[n++] = "--serial";
	if (c->restore_state_fd >= 0)
		l->argv[n++] = "--restore";
	l->argv[n] = NULL;
}

static int spawn(
	struct kvm_machine *k, struct launch *l, const struct machine_config *c, int control, struct err *e)
{
	/* Nothing of the user's environment, which may hold secrets, is its business. */
	static const char *const env[] = {"LANG=C", NULL};

	give(l, c->console_fd, STDOUT_FILENO);
	give(l, c->log_fd, STDERR_FILENO);
	give(l, control, VMM_FD_CONTROL);
	give(l, c->hold_fd, VMM_FD_HOLD);
	give(l, c->vsock_dirfd, VMM_FD_VSOCK_DIR);
	int next = VMM_FD_DISKS + (int)c->n_disks;
	for (unsigned i = 0; c->net.present && i < MACHINE_LINKS_MAX; i++) {
		if (c->net.fds[i] > 0) {
			give(l, c->net.fds[i], next++);
			l->links |= 1u << i;
		}
	}
	if (c->fs_fd > 0)
		give(l, c->fs_fd, next++);
	if (c->restore_state_fd >= 0) {
		give(l, c->restore_state_fd, next);
		give(l, c->restore_mem_fd, next + 1);
	}
	options(l, c);
	struct proc_confine confine = jail_namespaces();
	struct proc_opts o = {.path = c->monitor,
		.argv = l->argv,
		.envp = env,
		.fds = l->fds,
		.n_fds = l->n_fds,
		.die_with_parent = true,
		.new_session = true,
		.no_new_privs = true,
		.confine = &confine};
	k->m.pid = proc_spawn(&o, &k->m.end_fd);
	if (k->m.pid < 0) {
		err_sys(e, k->m.pid, "cannot start the monitor %s", c->monitor);
		return err_hint(e, "build or install a3s-box again");
	}
	jail_namespaces_report(&confine, &k->status);
	k->m.has_net = c->net.present;
	k->has_fs = c->fs_fd > 0;
	k->links = l->links;
	return 0;
}

static int kvm_start(struct loop *loop, const struct machine_config *c, struct machine **ret, struct err *e)
{
	int pair[2];
	CLEANUP_CLOSE int theirs = -1;
	CLEANUP(launch_done) struct launch l = {0};
	for (size_t i = 0; i < ARRAY_LEN(l.fds_open); i++)
		l.fds_open[i] = -1;

	int r = open_files(&l, c, e);
	if (r < 0)
		return r;
	struct kvm_machine *k = calloc(1, sizeof(*k));
	if (!k)
		return err_oom(e);
	k->m = (struct machine){.ops = &machine_kvm_ops, .loop = loop, .end_fd = -1};
	k->control = -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		r = err_sys(e, -errno, "cannot start the monitor");
		goto fail;
	}
	k->control = pair[0];
	theirs = pair[1];
	r = spawn(k, &l, c, theirs, e);
	if (r < 0)
		goto fail;
	r = loop_add_io(loop, k->control, EPOLLIN, on_control, k, &k->control_io);
	if (r < 0) {
		err_sys(e, r, "cannot watch the monitor");
		goto fail;
	}
	*ret = &k->m;
	return 0;
fail:
	machine_free(&k->m);
	return r;
}

const struct machine_ops machine_kvm_ops = {
	.start = kvm_start,
	.free = kvm_free,
	.status = kvm_status,
	.pause = kvm_pause,
	.stats = kvm_stats,
	.save = kvm_save,
	.balloon = kvm_balloon,
	.net_connect = kvm_net_connect,
};
