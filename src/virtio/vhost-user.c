/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * The front end (QEMU) shows the guest a virtio device and hands the work to us: it passes guest memory as
 * memfds, the rings as addresses of its own address space ("uaddr"), and two eventfds per ring, kick (guest
 * to device) and call (device to guest). Its control messages arrive on a socket; each has one row in the
 * table of handlers below with the exact size and number of descriptors that it must have. Anything else ends
 * the connection.
 *
 * A ring runs when it has memory, size, addresses, a kick descriptor, and is enabled; it is stopped by
 * GET_VRING_BASE. From that alone nobody can tell a paused machine from a driver that reset its device, and
 * they need opposite things: a pause must keep the streams, a reset must drop them. What tells is the index
 * with which the ring comes back: the front end resumes where we stopped, but a reset starts at zero. So the
 * device is reset when a ring restarts anywhere else than where it stopped, or at zero. (A pause exactly when
 * an index has wrapped to zero, 1 in 65536, drops the streams as well; their owners see end of file.)
 *
 * The queues are drained before they stop and when the front end disappears: what a guest wrote before it
 * powered off is delivered although QEMU has exited.
 *
 * The socket, kick descriptors and the device all run on one loop, which only waits for what a device with threads has under
 * way in a queue that stops. Such threads notify by themselves: `lock` keeps a descriptor open while they write to it.
 */
#include "virtio/vhost-user.h"

#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/uio.h>

#include "base/io.h"
#include "base/log.h"
#include "vhost-user-mem.h"
#include "vhost-user-proto.h"

/*
 * REPLY_ACK lets the front end wait for a message's effect; CONFIG carries the guest's CID. Of a network or file system device
 * the front end keeps the configuration, and QEMU warns of a back end that has one.
 */
static uint64_t protocol_features(const struct virtio_device *dev)
{
	bool front_end_has = dev->id == VIRTIO_ID_NET || dev->id == VIRTIO_ID_FS;

	return VHOST_USER_PROTOCOL_F_REPLY_ACK | (front_end_has ? 0 : VHOST_USER_PROTOCOL_F_CONFIG);
}

/* Messages handled per turn before other sources of the loop get theirs. */
#define MESSAGES_PER_TURN 16

struct vring {
	struct vhost_user *u;
	unsigned index;
	uint32_t num;
	uint16_t base;
	bool has_addr, enabled, running;
	bool stopped; /* has run before; base_at_stop is where it left off */
	uint16_t base_at_stop;
	uint64_t desc, avail, used;
	int kick_fd;
	int call_fd, err_fd; /* changed under the lock */
	struct loop_source *kick_src;
};

struct vhost_user {
	struct loop *loop;
	struct virtio_device *dev; /* NULL once freed by its owner */
	int fd;
	struct loop_source *src;
	void (*on_gone)(void *data, const char *reason);
	void *data;
	struct vhost_user_msg msg;
	uint64_t acked; /* virtio features */
	uint64_t acked_protocol;
	bool unsettled; /* a ring was stopped, and none has told since whether it was a pause or a reset */
	const char *reason; /* why the connection has to end; set by handlers */
	struct guest_mem mem;
	struct vhost_user_mappings maps;
	pthread_mutex_t lock; /* the descriptors that other threads signal */
	unsigned n_rings;
	struct vring rings[VIRTIO_QUEUES_MAX];
};

static int refuse(struct vhost_user *u, const char *reason)
{
	u->reason = reason;
	return -EPROTO;
}

/* ---- rings ---- */

static void ring_on_kick(void *data, int fd, uint32_t events)
{
	struct vring *r = data;
	struct vhost_user *u = r->u;
	uint64_t count;

	struct iovec iov = {&count, sizeof(count)};

	/*
	 * It was readable, but the front end shares it: it may have been faster, and may have made it blocking, which
	 * RWF_NOWAIT overrules. Where there is no preadv2 (QEMU's user-mode emulation), our own O_NONBLOCK has to do.
	 */
	ssize_t n = preadv2(fd, &iov, 1, -1, RWF_NOWAIT);
	if (n < 0 && errno == EOPNOTSUPP)
		n = read(fd, &count, sizeof(count));
	if (n == sizeof(count) && r->running && u->dev)
		u->dev->ops->queue_notify(u->dev, r->index);
}

/* 0, or -EPROTO when the front end has described no ring. */
static int ring_start(struct vring *r)
{
	struct vhost_user *u = r->u;
	struct virtio_device *dev = u->dev;
	const struct vq_config conf = {
		.size = (uint16_t)r->num,
		.addr_is_uaddr = true,
		.event_idx = u->acked & VIRTIO_F_EVENT_IDX,
		.indirect = u->acked & VIRTIO_F_INDIRECT_DESC,
		.next_avail = r->base,
		.desc = r->desc,
		.avail = r->avail,
		.used = r->used,
	};

	if (vq_init(&dev->vqs[r->index], &u->mem, &conf) < 0)
		return refuse(u, "ring outside of guest memory, or misaligned");
	r->running = true;
	dev->negotiated = u->acked & dev->features;
	dev->ops->queue_started(dev, r->index);
	return 0;
}

/* Starts the ring if all that it needs has arrived. 0, or -EPROTO when what arrived is wrong. */
static int ring_try_start(struct vring *r)
{
	struct vhost_user *u = r->u;
	struct virtio_device *dev = u->dev;

	if (r->running || !dev || !r->enabled || !r->has_addr || r->num == 0 || r->kick_fd < 0 ||
		u->mem.n_regions == 0)
		return 0;
	bool resumed = r->stopped && r->base != 0 && r->base == r->base_at_stop;
	if (u->unsettled && !resumed)
		dev->ops->reset(dev);
	u->unsettled = false;
	return ring_start(r);
}

/* Takes the ring from the device; all that it took is returned. */
static void ring_pause(struct vring *r)
{
	struct virtio_device *dev = r->u->dev;

	dev->ops->queue_stopping(dev, r->index);
	r->base = vq_stop(&dev->vqs[r->index]);
	r->running = false;
}

static void ring_stop(struct vring *r)
{
	struct vhost_user *u = r->u;

	if (r->running) {
		if (u->dev)
			ring_pause(r);
		r->running = false;
		r->stopped = true;
		r->base_at_stop = r->base;
		u->unsettled = true;
	}
	loop_source_free(TAKE_PTR(r->kick_src));
	close_fd(&r->kick_fd);
}

/* ---- what the device asks of its transport ---- */

static void signal_eventfd(int fd)
{
	const uint64_t one = 1;

	struct pollfd p = {.fd = fd, .events = POLLOUT};

	/*
	 * A saturated counter takes no more, and then the front end has its wake-up already; asked for first, because a
	 * hostile front end may have made the shared descriptor blocking.
	 */
	if (fd >= 0 && poll(&p, 1, 0) == 1 && p.revents & POLLOUT) {
		ssize_t n = write(fd, &one, sizeof(one));
		(void)n;
	}
}

static void transport_notify_driver(void *transport, unsigned queue)
{
	struct vhost_user *u = transport;

	if (queue >= u->n_rings)
		return;
	pthread_mutex_lock(&u->lock);
	signal_eventfd(u->rings[queue].call_fd);
	pthread_mutex_unlock(&u->lock);
}

static void transport_needs_reset(void *transport, unsigned queue, const char *why)
{
	struct vhost_user *u = transport;

	log_debug("vhost-user: ring %u is broken: %s", queue, why);
	if (queue >= u->n_rings)
		return;
	pthread_mutex_lock(&u->lock);
	signal_eventfd(u->rings[queue].err_fd);
	pthread_mutex_unlock(&u->lock);
}

static void transport_device_gone(void *transport)
{
	struct vhost_user *u = transport;

	for (unsigned i = 0; i < u->n_rings; i++)
		ring_stop(&u->rings[i]);
	u->dev = NULL;
}

static const struct virtio_transport_ops transport_ops = {
	.notify_driver = transport_notify_driver,
	.needs_reset = transport_needs_reset,
	.device_gone = transport_device_gone,
};

/* ---- messages: each handler returns 0 (done), 1 (done and answered) or -errno (u->reason may be set) ----
 */

static int reply(struct vhost_user *u, const void *payload, uint32_t size)
{
	int r = vhost_user_reply(u->fd, u->msg.h.request, payload, size);
	return r < 0 ? r : 1;
}

static int reply_u64(struct vhost_user *u, uint64_t v)
{
	return reply(u, &v, sizeof(v));
}

static struct vring *ring_of(struct vhost_user *u, uint64_t index)
{
	if (index < u->n_rings)
		return &u->rings[index];
	u->reason = "no such ring";
	return NULL;
}

static int on_get_features(struct vhost_user *u)
{
	return reply_u64(u, u->dev->features | VHOST_USER_F_PROTOCOL_FEATURES);
}

static int on_set_features(struct vhost_user *u)
{
	uint64_t f = u->msg.p.u64;

	if (f & ~(u->dev->features | VHOST_USER_F_PROTOCOL_FEATURES))
		return refuse(u, "feature acknowledged that was not offered");
	u->acked = f;
	/* "If VHOST_USER_F_PROTOCOL_FEATURES has not been negotiated, the ring starts directly in the enabled
	 * state." */
	if (!(f & VHOST_USER_F_PROTOCOL_FEATURES)) {
		for (unsigned i = 0; i < u->n_rings; i++) {
			u->rings[i].enabled = true;
			int r = ring_try_start(&u->rings[i]);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int on_get_protocol_features(struct vhost_user *u)
{
	return reply_u64(u, protocol_features(u->dev));
}

static int on_set_protocol_features(struct vhost_user *u)
{
	if (u->msg.p.u64 & ~protocol_features(u->dev))
		return refuse(u, "protocol feature acknowledged that was not offered");
	u->acked_protocol = u->msg.p.u64;
	return 0;
}

static int on_get_queue_num(struct vhost_user *u)
{
	return reply_u64(u, u->n_rings);
}

static int on_nothing(struct vhost_user *u)
{
	return 0; /* SET_OWNER: the connection is the owner. */
}

static int on_reset_owner(struct vhost_user *u)
{
	/* "This is no longer used. Used to be sent to request disabling all rings." */
	for (unsigned i = 0; i < u->n_rings; i++)
		ring_stop(&u->rings[i]);
	return 0;
}

static void break_rings(struct vhost_user *u)
{
	for (unsigned i = 0; i < u->n_rings; i++) {
		if (u->rings[i].running)
			vq_break(&u->dev->vqs[i], "2.7: ring left guest memory");
	}
}

/*
 * The rings go on in the memory as it is now. Chains that lead into the old mappings are held between turns only by a device that
 * says so: its rings are stopped meanwhile.
 */
static int use_memory(struct vhost_user *u, const struct guest_mem *mem)
{
	bool paused[VIRTIO_QUEUES_MAX] = {false};
	int r = 0;

	for (unsigned i = 0; i < u->n_rings; i++) {
		if (u->dev->holds_chains && u->rings[i].running) {
			ring_pause(&u->rings[i]);
			paused[i] = true;
		}
	}
	u->mem = *mem;
	for (unsigned i = 0; i < u->n_rings && r == 0; i++) {
		struct vring *ring = &u->rings[i];
		if (ring->running && vq_relocate(&u->dev->vqs[i]) < 0)
			r = refuse(u, "memory table without a running ring's memory");
		else if (!ring->running)
			r = paused[i] ? ring_start(ring) : ring_try_start(ring);
	}
	return r;
}

static int on_set_mem_table(struct vhost_user *u)
{
	const struct vhost_user_memory *t = &u->msg.p.memory;
	struct vhost_user_mappings maps;

	if (u->msg.h.size < 8 || t->n_regions > VHOST_USER_FDS_MAX || t->n_regions != u->msg.n_fds ||
		u->msg.h.size != 8 + t->n_regions * sizeof(t->regions[0]))
		return refuse(u, "memory table and its descriptors do not match");
	struct guest_mem mem;
	if (vhost_user_map(t, u->msg.fds, &mem, &maps) < 0)
		return refuse(u, "memory table with a region that cannot be mapped safely");

	struct vhost_user_mappings old = u->maps;
	u->maps = maps;
	int r = use_memory(u, &mem);
	if (r < 0) /* a ring that still leads into the old memory is not to be touched when it is stopped */
		break_rings(u);
	vhost_user_unmap(&old);
	return r;
}

static int on_set_vring_num(struct vhost_user *u)
{
	struct vring *r = ring_of(u, u->msg.p.state.index);

	if (!r)
		return -EPROTO;
	if (r->running || u->msg.p.state.num == 0 || u->msg.p.state.num > VQ_SIZE_MAX)
		return refuse(u, "ring size out of bounds, or of a running ring");
	r->num = u->msg.p.state.num;
	return 0;
}

static int on_set_vring_addr(struct vhost_user *u)
{
	const struct vhost_user_vring_addr *a = &u->msg.p.addr;
	struct vring *r = ring_of(u, a->index);

	if (!r)
		return -EPROTO;
	if (r->running || a->flags)
		return refuse(u, "address of a running ring, or with logging");
	r->desc = a->desc;
	r->avail = a->avail;
	r->used = a->used;
	r->has_addr = true;
	return ring_try_start(r);
}

static int on_set_vring_base(struct vhost_user *u)
{
	struct vring *r = ring_of(u, u->msg.p.state.index);

	if (!r)
		return -EPROTO;
	if (r->running || u->msg.p.state.num > UINT16_MAX)
		return refuse(u, "ring base out of bounds, or of a running ring");
	r->base = (uint16_t)u->msg.p.state.num;
	return 0;
}

static int on_get_vring_base(struct vhost_user *u)
{
	struct vring *r = ring_of(u, u->msg.p.state.index);

	if (!r)
		return -EPROTO;
	ring_stop(r);
	const struct vhost_user_vring_state s = {.index = r->index, .num = r->base};
	return reply(u, &s, sizeof(s));
}

/*
 * Anything but an eventfd could hurt: a write to a pipe that nobody reads raises SIGPIPE, a file never stops
 * being readable. fstat does not tell one anonymous inode from another, the name in /proc does.
 */
static bool is_eventfd(int fd)
{
	static const char want[] = "anon_inode:[eventfd]";
	char path[40], name[sizeof(want)];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(path, name, sizeof(name));
	return n == sizeof(want) - 1 && memcmp(name, want, sizeof(want) - 1) == 0;
}

static void put_fd(struct vhost_user *u, int *slot, int fd)
{
	pthread_mutex_lock(&u->lock);
	close_fd(slot);
	*slot = fd;
	pthread_mutex_unlock(&u->lock);
}

/* Takes the descriptor of a SET_VRING_KICK, _CALL or _ERR message into *slot (-1 if the message says none).
 */
static int take_ring_fd(struct vhost_user *u, int *slot)
{
	bool none = u->msg.p.u64 & VHOST_USER_VRING_NOFD;

	if (u->msg.p.u64 & ~(uint64_t)(VHOST_USER_VRING_IDX_MASK | VHOST_USER_VRING_NOFD))
		return refuse(u, "unknown flags with a ring's descriptor");
	if (u->msg.n_fds != (none ? 0 : 1))
		return refuse(u, "a ring's descriptor is missing or superfluous");
	put_fd(u, slot, -1);
	if (none)
		return 0;
	if (!is_eventfd(u->msg.fds[0]))
		return refuse(u, "a ring's descriptor is no eventfd");
	int r = io_set_nonblock(u->msg.fds[0], true);
	put_fd(u, slot, TAKE_FD(u->msg.fds[0]));
	return r;
}

static int on_set_vring_kick(struct vhost_user *u)
{
	struct vring *r = ring_of(u, u->msg.p.u64 & VHOST_USER_VRING_IDX_MASK);

	if (!r)
		return -EPROTO;
	if (u->msg.p.u64 & VHOST_USER_VRING_NOFD)
		return refuse(u, "ring without kick descriptor (polling)");
	loop_source_free(TAKE_PTR(r->kick_src));
	int ret = take_ring_fd(u, &r->kick_fd);
	if (ret < 0)
		return ret;
	if (loop_add_io(u->loop, r->kick_fd, EPOLLIN, ring_on_kick, r, &r->kick_src) < 0) {
		close_fd(&r->kick_fd);
		return refuse(u, "kick descriptor cannot be watched");
	}
	if (r->running) /* a kick may have gone with the old descriptor */
		u->dev->ops->queue_notify(u->dev, r->index);
	return ring_try_start(r);
}

static int on_set_vring_call(struct vhost_user *u)
{
	struct vring *r = ring_of(u, u->msg.p.u64 & VHOST_USER_VRING_IDX_MASK);

	if (!r)
		return -EPROTO;
	int ret = take_ring_fd(u, &r->call_fd);
	/* What was signalled on the old descriptor may have been lost with it; the driver bears a spurious
	 * one (2.7.7.1). */
	if (ret == 0 && r->running)
		transport_notify_driver(u, r->index);
	return ret;
}

static int on_set_vring_err(struct vhost_user *u)
{
	struct vring *r = ring_of(u, u->msg.p.u64 & VHOST_USER_VRING_IDX_MASK);

	return r ? take_ring_fd(u, &r->err_fd) : -EPROTO;
}

static int on_set_vring_enable(struct vhost_user *u)
{
	struct vring *r = ring_of(u, u->msg.p.state.index);

	if (!r)
		return -EPROTO;
	if (u->msg.p.state.num > 1)
		return refuse(u, "ring enabled by something else than 0 or 1");
	if (u->msg.p.state.num == 0 && r->running) {
		/* A disabled ring keeps its kick descriptor and its place. */
		ring_pause(r);
		r->base_at_stop = r->base;
		r->stopped = u->unsettled = true;
	}
	r->enabled = u->msg.p.state.num;
	return ring_try_start(r);
}

static int on_get_config(struct vhost_user *u)
{
	struct vhost_user_config *c = &u->msg.p.config;
	const uint32_t head = offsetof(struct vhost_user_config, data);
	uint32_t size = c->size;

	if (u->msg.h.size < head || size > VHOST_USER_CONFIG_MAX ||
		c->offset > VHOST_USER_CONFIG_MAX - size || u->msg.h.size != head + size)
		return refuse(u, "configuration space asked for beyond its end");
	u->dev->ops->read_config(u->dev, c->offset, c->data, size);
	return reply(u, c, head + size);
}

enum { ANY_SIZE = UINT32_MAX };

static const struct handler {
	int (*fn)(struct vhost_user *u);
	uint32_t size; /* exact payload, or ANY_SIZE when fn checks */
	unsigned max_fds;
} handlers[] = {
	[VHOST_USER_GET_FEATURES] = {on_get_features, 0, 0},
	[VHOST_USER_SET_FEATURES] = {on_set_features, 8, 0},
	[VHOST_USER_SET_OWNER] = {on_nothing, 0, 0},
	[VHOST_USER_RESET_OWNER] = {on_reset_owner, 0, 0},
	[VHOST_USER_SET_MEM_TABLE] = {on_set_mem_table, ANY_SIZE, VHOST_USER_FDS_MAX},
	[VHOST_USER_SET_VRING_NUM] = {on_set_vring_num, 8, 0},
	[VHOST_USER_SET_VRING_ADDR] = {on_set_vring_addr, 40, 0},
	[VHOST_USER_SET_VRING_BASE] = {on_set_vring_base, 8, 0},
	[VHOST_USER_GET_VRING_BASE] = {on_get_vring_base, 8, 0},
	[VHOST_USER_SET_VRING_KICK] = {on_set_vring_kick, 8, 1},
	[VHOST_USER_SET_VRING_CALL] = {on_set_vring_call, 8, 1},
	[VHOST_USER_SET_VRING_ERR] = {on_set_vring_err, 8, 1},
	[VHOST_USER_GET_PROTOCOL_FEATURES] = {on_get_protocol_features, 0, 0},
	[VHOST_USER_SET_PROTOCOL_FEATURES] = {on_set_protocol_features, 8, 0},
	[VHOST_USER_GET_QUEUE_NUM] = {on_get_queue_num, 0, 0},
	[VHOST_USER_SET_VRING_ENABLE] = {on_set_vring_enable, 8, 0},
	[VHOST_USER_GET_CONFIG] = {on_get_config, ANY_SIZE, 0},
};

static int dispatch(struct vhost_user *u)
{
	const struct vhost_user_header h = u->msg.h;

	if (!u->dev)
		return refuse(u, "device is gone");
	if (h.request >= ARRAY_LEN(handlers) || !handlers[h.request].fn)
		return refuse(u, "unknown message");
	const struct handler *hd = &handlers[h.request];
	if ((hd->size != ANY_SIZE && h.size != hd->size) || u->msg.n_fds > hd->max_fds)
		return refuse(u, "message of a wrong size, or with superfluous descriptors");

	int r = hd->fn(u);
	if (r != 0)
		return r < 0 ? r : 0;
	if (h.flags & VHOST_USER_NEED_REPLY && u->acked_protocol & VHOST_USER_PROTOCOL_F_REPLY_ACK)
		r = reply_u64(u, 0);
	return r < 0 ? r : 0;
}

/* ---- life ---- */

static void detach(struct vhost_user *u)
{
	loop_source_free(TAKE_PTR(u->src));
	for (unsigned i = 0; i < u->n_rings; i++) {
		ring_stop(&u->rings[i]);
		close_fd(&u->rings[i].call_fd);
		close_fd(&u->rings[i].err_fd);
	}
	if (u->dev) {
		u->dev->ops->reset(u->dev);
		u->dev->transport_ops = NULL;
		u->dev->transport = NULL;
		u->dev = NULL;
	}
	vhost_user_unmap(&u->maps);
	u->mem.n_regions = 0;
	vhost_user_msg_done(&u->msg);
	close_fd(&u->fd);
}

static void gone(struct vhost_user *u, const char *reason)
{
	detach(u);
	if (u->on_gone)
		u->on_gone(u->data, reason); /* may free u */
}

static void on_socket(void *data, int fd, uint32_t events)
{
	struct vhost_user *u = data;

	for (int i = 0; i < MESSAGES_PER_TURN; i++) {
		int r = vhost_user_recv(u->fd, &u->msg);
		if (r == 0)
			return;
		if (r == -ECONNRESET) {
			gone(u, "front end disconnected");
			return;
		}
		if (r < 0) {
			gone(u, r == -EPROTO ? "malformed message" : "socket failed");
			return;
		}
		u->reason = NULL;
		r = dispatch(u);
		if (r < 0) {
			log_debug("vhost-user: request %u refused", u->msg.h.request);
			gone(u, u->reason ? u->reason : "message could not be served");
			return;
		}
		vhost_user_msg_done(&u->msg);
	}
}

int vhost_user_new(struct loop *loop, struct virtio_device *dev, unsigned n_queues, int fd,
	void (*on_gone)(void *data, const char *reason), void *data, struct vhost_user **ret)
{
	CLEANUP_CLOSE int sock = fd;

	if (dev->transport_ops)
		return -EBUSY;
	if (n_queues > dev->n_queues || n_queues > VIRTIO_QUEUES_MAX)
		return -EINVAL;
	CLEANUP_FREE struct vhost_user *u = calloc(1, sizeof(*u));
	if (!u)
		return -ENOMEM;
	u->loop = loop;
	u->dev = dev;
	u->on_gone = on_gone;
	u->data = data;
	u->n_rings = n_queues;
	pthread_mutex_init(&u->lock, NULL);
	for (unsigned i = 0; i < n_queues; i++) {
		u->rings[i] = (struct vring){.u = u, .index = i, .kick_fd = -1, .call_fd = -1, .err_fd = -1};
	}
	vhost_user_msg_init(&u->msg);
	int r = loop_add_io(loop, sock, EPOLLIN, on_socket, u, &u->src);
	if (r < 0)
		return r;
	u->fd = TAKE_FD(sock);
	dev->transport_ops = &transport_ops;
	dev->transport = u;
	*ret = TAKE_PTR(u);
	return 0;
}

void vhost_user_free(struct vhost_user *u)
{
	if (!u)
		return;
	detach(u);
	pthread_mutex_destroy(&u->lock);
	free(u);
}
