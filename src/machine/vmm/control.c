/* SPDX-License-Identifier: MIT */
/* The monitor's side of vmm/protocol.h. The supervisor is trusted; what it sends is still checked. */
#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/log.h"
#include "vmm.h"

static void reply(struct vmm *v, const struct vmm_reply *r)
{
	/* A supervisor that does not read its answers gets none; its end ends us anyway. */
	ssize_t n = send(VMM_FD_CONTROL, r, sizeof(*r), MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)n;
}

static void reply_result(struct vmm *v, enum vmm_op op, uint32_t seq, int result)
{
	reply(v, &(struct vmm_reply){.op = op, .seq = seq, .result = result});
}

static void on_paused(void *data)
{
	struct vmm *v = data;
	uint32_t seq = v->pausing_seq;

	v->pausing_seq = 0;
	v->paused = true;
	reply_result(v, VMM_PAUSE, seq, 0);
}

static void on_pause(struct vmm *v, uint32_t seq)
{
	if (v->pausing_seq) {
		reply_result(v, VMM_PAUSE, seq, -EBUSY);
		return;
	}
	v->pausing_seq = seq;
	vm_pause(v->vm, on_paused, v);
}

static void on_resume(struct vmm *v, uint32_t seq)
{
	if (v->pausing_seq) {
		reply_result(v, VMM_RESUME, seq, -EBUSY);
		return;
	}
	v->paused = false;
	vm_resume(v->vm);
	reply_result(v, VMM_RESUME, seq, 0);
}

static void on_stats(struct vmm *v, uint32_t seq)
{
	struct vmm_reply r = {.op = VMM_STATS, .seq = seq};
	uint64_t first = vm_first_entry_ns(v->vm);

	vm_exits(v->vm, r.stats.exits);
	vmm_device_stats(v, &r.stats);
	r.stats.setup_ns = first > v->o.started_ns ? first - v->o.started_ns : 0;
	r.stats.kvm_setup_ns = vm_kvm_ns(v->vm);
	r.stats.guest_private = vm_private_resident(v->vm);
	reply(v, &r);
}

static void on_save(struct vmm *v, uint32_t seq, const int fds[2])
{
	struct err e = {0};
	/* What the file server knows of the guest would be missing. */
	int r = v->fs	     ? -ENOTSUP
		: fds[1] < 0 ? -EINVAL
		: !v->paused ? -EBUSY
			     : vm_save(v->vm, fds[0], fds[1], &e);

	if (r < 0 && e.code)
		log_error("%s", e.msg);
	reply_result(v, VMM_SAVE, seq, r);
}

/* A descriptor is the peer to be, and is taken. */
static void on_net_connect(struct vmm *v, const struct vmm_request *q, int fds[2])
{
	int r = 0;

	if (!v->net || q->arg >= NET_LINKS_MAX)
		r = -EINVAL;
	else if (fds[0] < 0)
		net_disconnect(v->net, (unsigned)q->arg);
	else
		r = net_connect(v->net, (unsigned)q->arg, TAKE_FD(fds[0]));
	reply_result(v, VMM_NET_CONNECT, q->seq, r);
}

void vmm_control_net_gone(void *data, unsigned link)
{
	reply(data, &(struct vmm_reply){.op = VMM_NET_GONE, .link = link});
}

static void on_request(struct vmm *v, const struct vmm_request *q, int fds[2])
{
	switch ((enum vmm_op)q->op) {
	case VMM_PAUSE:
		on_pause(v, q->seq);
		return;
	case VMM_RESUME:
		on_resume(v, q->seq);
		return;
	case VMM_STATS:
		on_stats(v, q->seq);
		return;
	case VMM_SAVE:
		on_save(v, q->seq, fds);
		return;
	case VMM_BALLOON:
		reply_result(v, VMM_BALLOON, q->seq, balloon_set_target(v->balloon, q->arg));
		return;
	case VMM_NET_CONNECT:
		on_net_connect(v, q, fds);
		return;
	case VMM_READY:
	case VMM_NET_GONE:
	case VMM_OPS:
		break;
	}
	reply_result(v, q->op, q->seq, -EINVAL);
}

/* The descriptors that came along: none, one or two. */
static void take_fds(struct msghdr *mh, int fds[2])
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
			c->cmsg_len <= CMSG_LEN(2 * sizeof(int)))
			memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
	}
}

static void on_control(void *data, int fd, uint32_t events)
{
	struct vmm *v = data;
	struct vmm_request q;
	struct iovec iov = {&q, sizeof(q)};
	union {
		char buf[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct msghdr mh = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf)};
	int fds[2] = {-1, -1};

	ssize_t n = recvmsg(fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) { /* the supervisor is gone */
		loop_quit(v->loop, 0);
		return;
	}
	take_fds(&mh, fds);
	if (n == (ssize_t)sizeof(q))
		on_request(v, &q, fds);
	close_fd(&fds[0]);
	close_fd(&fds[1]);
}

int vmm_control_start(struct vmm *v, struct err *e)
{
	int r = loop_add_io(v->loop, VMM_FD_CONTROL, EPOLLIN, on_control, v, &v->control_io);
	return r < 0 ? err_sys(e, r, "control socket") : 0;
}

void vmm_control_ready(struct vmm *v)
{
	reply(v, &(struct vmm_reply){.op = VMM_READY, .status = v->status});
}
