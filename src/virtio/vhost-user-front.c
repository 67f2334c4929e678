/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * To its transport this is a device with threads of its own: it gets a kick descriptor for each queue and touches none itself.
 *
 * The connection begins when the driver's first queue starts, so that neither process waits for the other before there is a
 * driver: features, guest memory (its regions under their guest-physical addresses, which ring addresses then are), and for each
 * queue size, place, addresses, and descriptors. Requests that have no answer are not waited for: whoever does not like one
 * disconnects. A queue stops with GET_VRING_BASE, whose answer means that all chains are back and guest memory is not touched on
 * its behalf any more.
 *
 * All queues signal the guest by the transport's own interrupt descriptor. A reset of the device needs no message: a queue that
 * begins at zero after it has stopped is one of another driver (vhost-user.c).
 *
 * An answer has one kind, one size and no descriptors; anything else, or one that was not asked for, ends the connection. From
 * then on the device is dead: nothing is sent, nothing waited for.
 */
#include "virtio/vhost-user-front.h"

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/io.h"
#include "pump.h"
#include "vhost-user-proto.h"

struct vhost_front {
	struct virtio_device dev; /* first */
	struct vhost_front_config conf;
	struct loop *loop;
	uint8_t space[VHOST_USER_CONFIG_MAX];
	int fd;
	struct loop_source *io, *gone;
	int err_fd; /* signalled by the other process: a queue is broken */
	struct loop_source *err_io;
	bool connected;	 /* features and memory are told */
	uint64_t acked;	 /* features that are told */
	const char *why; /* it is over, and why */
	bool started[VIRTIO_QUEUES_MAX];
};

static struct vhost_front *of_device(struct virtio_device *d)
{
	return (struct vhost_front *)(void *)d;
}

static void fail(struct vhost_front *f, const char *why)
{
	if (f->why)
		return;
	f->why = why;
	loop_defer(f->gone); /* whoever called us is in the middle of something */
}

static void on_gone(void *data)
{
	struct vhost_front *f = data;

	loop_source_free(TAKE_PTR(f->io));
	loop_source_free(TAKE_PTR(f->err_io));
	close_fd(&f->fd); /* the other process stops all that it does for us */
	if (f->conf.on_gone)
		f->conf.on_gone(f->conf.data, f->why);
}

/* ---- messages; they do nothing once it is over ---- */

static void tell_with(struct vhost_front *f, uint32_t request, const void *payload, uint32_t size,
	const int *fds, unsigned n)
{
	if (!f->why && vhost_user_send(f->fd, request, payload, size, fds, n) < 0)
		fail(f, "it is gone, or does not read");
}

static void tell(struct vhost_front *f, uint32_t request, const void *payload, uint32_t size)
{
	tell_with(f, request, payload, size, NULL, 0);
}

/* Waits for the answer, size bytes. False: it is over, and ret is untouched. */
static bool await(struct vhost_front *f, uint32_t request, void *ret, uint32_t size)
{
	const uint64_t until = time_mono_ns() + VHOST_FRONT_WAIT_NS;
	struct vhost_user_msg m;
	int r;

	vhost_user_msg_init(&m);
	while ((r = vhost_user_recv_reply(f->fd, &m)) == 0) {
		uint64_t now = time_mono_ns();
		struct pollfd p = {.fd = f->fd, .events = POLLIN};
		if (now >= until) {
			fail(f, "it does not answer");
			vhost_user_msg_done(&m);
			return false;
		}
		(void)poll(&p, 1, (int)((until - now) / 1000000) + 1);
	}
	bool ok = r == 1 && m.h.request == request && m.h.size == size && m.n_fds == 0;
	if (ok)
		memcpy(ret, m.p.bytes, size);
	else
		fail(f, r == -ECONNRESET ? "it is gone" : "its answer is malformed");
	vhost_user_msg_done(&m);
	return ok;
}

static bool ask(struct vhost_front *f, uint32_t request, const void *payload, uint32_t size, void *ret,
	uint32_t ret_size)
{
	tell(f, request, payload, size);
	return !f->why && await(f, request, ret, ret_size);
}

static void tell_memory(struct vhost_front *f)
{
	const struct guest_mem *mem = f->conf.mem;
	struct vhost_user_memory t = {.n_regions = mem->n_regions};
	int fds[VHOST_USER_FDS_MAX];
	uint64_t at = 0;

	for (unsigned i = 0; i < mem->n_regions; i++) {
		const struct guest_mem_region *g = &mem->regions[i];
		t.regions[i] = (struct vhost_user_region){
			.gpa = g->gpa, .size = g->len, .uaddr = g->gpa, .mmap_offset = at};
		fds[i] = f->conf.mem_fd;
		at += g->len;
	}
	tell_with(f, VHOST_USER_SET_MEM_TABLE, &t,
		(uint32_t)(offsetof(struct vhost_user_memory, regions) +
			   mem->n_regions * sizeof(t.regions[0])),
		fds, mem->n_regions);
}

/* What the driver has settled with us, and the first time who we are. */
static void tell_features(struct vhost_front *f)
{
	const uint64_t none = 0, features = f->dev.negotiated | VHOST_USER_F_PROTOCOL_FEATURES;
	uint64_t offered;

	if (!f->connected) {
		if (!ask(f, VHOST_USER_GET_FEATURES, NULL, 0, &offered, sizeof(offered)))
			return;
		if ((f->dev.features | VHOST_USER_F_PROTOCOL_FEATURES) & ~offered) {
			fail(f, "it lacks features of the device");
			return;
		}
		tell(f, VHOST_USER_SET_PROTOCOL_FEATURES, &none, sizeof(none));
		tell(f, VHOST_USER_SET_OWNER, NULL, 0);
	}
	if (!f->connected || f->acked != features)
		tell(f, VHOST_USER_SET_FEATURES, &features, sizeof(features));
	f->acked = features;
	if (!f->connected)
		tell_memory(f);
	f->connected = true;
}

static void tell_fd(struct vhost_front *f, uint32_t request, unsigned queue, int fd)
{
	const uint64_t index = queue;

	tell_with(f, request, &index, sizeof(index), &fd, 1);
}

/* ---- what it says by itself ---- */

static void on_socket(void *data, int fd, uint32_t events)
{
	struct vhost_front *f = data;
	char byte;

	ssize_t n = recv(fd, &byte, sizeof(byte), MSG_DONTWAIT | MSG_PEEK);
	if (n > 0)
		fail(f, "it says what it was not asked for");
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		fail(f, "it is gone");
}

/* The driver broke a rule (2.1.2). Once for each driver is enough: the other process could go on for ever. */
static void on_err(void *data, int fd, uint32_t events)
{
	struct vhost_front *f = data;
	uint64_t count;
	struct iovec iov = {&count, sizeof(count)};

	/* The other process may have been faster, and may have made what is shared with it blocking. */
	ssize_t n = preadv2(fd, &iov, 1, -1, RWF_NOWAIT);
	(void)n;
	loop_source_free(TAKE_PTR(f->err_io));
	if (f->dev.transport_ops)
		f->dev.transport_ops->needs_reset(
			f->dev.transport, 0, "told by the process that serves the queues");
}

static void watch_errors(struct vhost_front *f)
{
	if (!f->why && !f->err_io && loop_add_io(f->loop, f->err_fd, EPOLLIN, on_err, f, &f->err_io) < 0)
		fail(f, "no memory");
}

/* ---- device operations ---- */

static void op_read_config(struct virtio_device *d, uint32_t off, void *buf, uint32_t len)
{
	struct vhost_front *f = of_device(d);

	pump_read_config(f->space, f->conf.space_len, off, buf, len);
}

static void op_queue_started(struct virtio_device *d, unsigned queue)
{
	struct vhost_front *f = of_device(d);
	const struct vq_config *c = &d->vqs[queue].conf;
	const struct vhost_user_vring_state num = {.index = queue, .num = c->size},
					    base = {.index = queue, .num = c->next_avail},
					    enable = {.index = queue, .num = 1};
	const struct vhost_user_vring_addr addr = {
		.index = queue, .desc = c->desc, .avail = c->avail, .used = c->used};
	bool first = true;

	for (unsigned i = 0; i < d->n_queues; i++)
		first = first && !f->started[i];
	if (first) {
		tell_features(f);
		watch_errors(f);
	}
	f->started[queue] = true;
	tell(f, VHOST_USER_SET_VRING_NUM, &num, sizeof(num));
	tell(f, VHOST_USER_SET_VRING_BASE, &base, sizeof(base));
	tell(f, VHOST_USER_SET_VRING_ADDR, &addr, sizeof(addr));
	tell_fd(f, VHOST_USER_SET_VRING_CALL, queue, d->irq_fd);
	tell_fd(f, VHOST_USER_SET_VRING_ERR, queue, f->err_fd);
	tell_fd(f, VHOST_USER_SET_VRING_KICK, queue, d->kick_fds[queue]);
	tell(f, VHOST_USER_SET_VRING_ENABLE, &enable, sizeof(enable));
}

static void op_queue_stopping(struct virtio_device *d, unsigned queue)
{
	struct vhost_front *f = of_device(d);
	struct vhost_user_vring_state s = {.index = queue};

	f->started[queue] = false;
	if (ask(f, VHOST_USER_GET_VRING_BASE, &s, sizeof(s), &s, sizeof(s)) &&
		(s.index != queue || s.num > UINT16_MAX))
		fail(f, "its answer is malformed");
}

static void op_queue_notify(struct virtio_device *d, unsigned queue)
{
	/* The other process has the queue's kick descriptor. */
}

static void op_reset(struct virtio_device *d)
{
	/* The next queue that starts tells it. */
}

static const struct virtio_device_ops ops = {
	.read_config = op_read_config,
	.queue_started = op_queue_started,
	.queue_stopping = op_queue_stopping,
	.queue_notify = op_queue_notify,
	.reset = op_reset,
};

/* ---- life ---- */

int vhost_front_new(struct loop *loop, const struct vhost_front_config *c, int fd, struct vhost_front **ret)
{
	CLEANUP_CLOSE int sock = fd;

	if (c->n_queues > VIRTIO_QUEUES_MAX || c->space_len > VHOST_USER_CONFIG_MAX ||
		c->mem->n_regions > VHOST_USER_FDS_MAX)
		return -EINVAL;
	CLEANUP(vhost_front_freep) struct vhost_front *f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->fd = f->err_fd = -1;
	f->loop = loop;
	f->conf = *c;
	if (c->space_len > 0)
		memcpy(f->space, c->space, c->space_len);
	f->dev.ops = &ops;
	f->dev.id = c->id;
	f->dev.features = c->features;
	f->dev.n_queues = c->n_queues;
	f->dev.own_threads = true;
	f->err_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (f->err_fd < 0)
		return -errno;
	int r = loop_add_deferred(loop, on_gone, f, &f->gone);
	if (r == 0)
		r = loop_add_io(loop, sock, EPOLLIN, on_socket, f, &f->io);
	if (r < 0)
		return r;
	f->fd = TAKE_FD(sock);
	*ret = TAKE_PTR(f);
	return 0;
}

struct virtio_device *vhost_front_device(struct vhost_front *f)
{
	return &f->dev;
}

void vhost_front_free(struct vhost_front *f)
{
	if (!f)
		return;
	if (f->dev.transport_ops)
		f->dev.transport_ops->device_gone(f->dev.transport);
	loop_source_free(f->err_io);
	loop_source_free(f->io);
	loop_source_free(f->gone);
	close_fd(&f->err_fd);
	close_fd(&f->fd);
	free(f);
}
