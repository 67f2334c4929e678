/* SPDX-License-Identifier: MIT */
/*
 * Frames from and to one box, over its stream socket (virtio/net.h): 4 bytes of length, big endian, virtio header, frame.
 *
 * THEORY OF OPERATION
 *
 * From a box: one read a turn, into a buffer that all share, takes as many frames as there are; only a frame that has
 * begun and not ended is kept by its port, and the next read goes on behind it, in place. A read's size follows
 * the size of frames, so that a turn is never more than some hundred of them. A rate limit simply stops reading: then the
 * socket fills, and the box waits.
 *
 * Frames do not all cost the same: one that needs a socket costs as much as a hundred that are passed on. So a read that took
 * longer than TURN_NS is followed by a shorter one, and what it took beyond that the others may have first: the box is passed
 * over until they have used as much, each, or a turn has gone by in which nobody else had anything.
 *
 * To a box: what is large goes straight to the socket, behind what is queued; small frames are gathered until the turn's
 * end and written together. What the socket does not take waits in the queue, of QUEUE_MAX. A frame costs at least COST_MIN of
 * that, so that small ones cannot make it long.
 *
 * Fairness: when the queue is more than half full, nobody may hold more of it than QUEUE_MAX / (senders in it + 1), so that
 * there is always room for one more. Our own frames (from NULL) are a sender like others; but who has a socket to pull
 * from asks port_room first, which is true while ours hold less than a quarter. So neither can shut out the other.
 *
 * Nothing that is called here frees a port in the middle of its own frame: only netd.c does, from the loop.
 */
#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/log.h"
#include "engine.h"

enum {
	PREFIX = 4,
	HEAD = PREFIX + VNET_HDR_LEN,
	WIRE_MAX = HEAD + PKT_FRAME_MAX,
	READ_MAX = 256 << 10,
	READ_MIN = 16 << 10,
	TURN_FRAMES = 512,    /* a read that brought more is followed by a shorter one */
	COSTLY_MIN = 2 << 10, /* bytes of a read whose frames cost much */
	TURN_NS = 1000000,
	QUEUE_MAX = 2 << 20, /* bytes */
	COST_MIN = 4096,     /* so at most 512 frames */
	OURS_MAX = QUEUE_MAX / 4,
	OURS_LOW = QUEUE_MAX / 8, /* waiters go on */
	GATHER_BYTES = 64 << 10,  /* what is gathered before it is written, at most */
	GATHER_FRAMES = 64,
	DIRECT_MIN = 4096,     /* a frame worth a system call instead of a copy */
	DRAIN_READS = 16,      /* more than a socket holds */
	OURS = NETD_PORTS_MAX, /* index of a sender that is none of the boxes */
	BURST_NS = 50000000,   /* of a limited rate: what may go at once */
	BURST_MIN = 2 * WIRE_MAX,
};
#define NS_PER_S    1000000000ull
#define OWED_MAX_NS 100000000ull

struct frame { /* one that waits */
	struct frame *next;
	uint32_t len, done; /* bytes of data, and how many of them the socket has */
	uint32_t cost;
	uint16_t from;
	uint8_t data[];
};

/* Bytes that may go; below zero: not until it is above again. */
struct bucket {
	int64_t tokens;
	uint64_t filled_ns;
};

struct port_io {
	int fd;
	struct loop_source *io, *timer; /* timer: only where the rate is limited */
	void (*on_gone)(void *data);
	void *data;
	bool gone, blocked; /* the connection has ended; the socket took less than it was given */
	struct bucket in, out;

	/* From the box. */
	size_t read_max;
	uint64_t owed_ns;	      /* to the others */
	uint64_t seen_ns, seen_reads; /* the engine's, when it last had or was refused its turn */
	uint8_t *part; /* a frame of which more is to come: WIRE_MAX bytes, NULL until one is needed */
	size_t part_len;

	/* To the box. */
	struct frame *head, **tail;
	size_t queued; /* cost of all */
	unsigned n_frames;
	size_t unsent; /* bytes gathered, not yet given to the socket */
	unsigned n_senders;
	uint32_t held[NETD_PORTS_MAX + 1]; /* cost of each sender's frames */
	struct port_waiter *waiting, **waiting_tail;
	unsigned n_waiting;
	struct port *next_dirty, **dirty_link; /* link NULL: not among them */
};

struct port_state {
	struct loop_source *deferred;
	struct port *dirty, *doing;   /* to be written, or with waiters to be woken; those whose turn it is */
	uint64_t used_ns, n_reads;    /* by all boxes' reads */
	uint8_t buf[HEAD + READ_MAX]; /* room in front: what is left of a length */
};

/* ---- rate ---- */

static uint64_t burst_of(const struct port *p)
{
	return MAX_OF(p->a.rate_bps / 8 / (NS_PER_S / BURST_NS), (uint64_t)BURST_MIN);
}

/* Nanoseconds until the bucket lets something through; 0: now. */
static uint64_t bucket_wait(struct port *p, struct bucket *b)
{
	const __int128 bytes_per_s = MAX_OF(p->a.rate_bps / 8, 1ull), burst = burst_of(p);

	if (!p->a.rate_bps)
		return 0;
	const uint64_t now = time_mono_ns();
	const __int128 more = (__int128)(now - b->filled_ns) * bytes_per_s / NS_PER_S;
	if (more > 0) { /* what is less than a byte is not lost */
		b->tokens = (int64_t)MIN_OF(b->tokens + more, burst);
		b->filled_ns = now;
	}
	if (b->tokens > 0)
		return 0;
	return (uint64_t)((__int128)(1 - b->tokens) * NS_PER_S / bytes_per_s) + 1;
}

static void bucket_take(const struct port *p, struct bucket *b, size_t bytes)
{
	if (p->a.rate_bps)
		b->tokens -= (int64_t)bytes;
}

/* How much may go at once, where the bucket lets something through. */
static size_t at_once(const struct port *p, const struct bucket *b, size_t max)
{
	return p->a.rate_bps ? MIN_OF(max, (size_t)MAX_OF(b->tokens, (int64_t)READ_MIN)) : max;
}

/* What the loop is to tell. */
static void watch(struct port *p)
{
	struct port_io *io = p->io;
	uint64_t in = bucket_wait(p, &io->in), out = bucket_wait(p, &io->out);

	if (io->gone)
		return;
	/* Only what is in the way of something is waited for. */
	uint64_t wait = MIN_OF(in ? in : UINT64_MAX, out && io->head ? out : UINT64_MAX);
	if (io->timer)
		loop_set_timer(io->timer, wait);
	(void)loop_set_events(io->io, (in ? 0 : EPOLLIN) | (io->blocked && !out ? EPOLLOUT : 0));
}

/* ---- the turn's end ---- */

static void mark_dirty(struct port *p)
{
	struct port_state *s = p->g->port_state;
	struct port_io *io = p->io;

	if (io->dirty_link)
		return;
	io->next_dirty = s->dirty;
	io->dirty_link = &s->dirty;
	if (s->dirty)
		s->dirty->io->dirty_link = &io->next_dirty;
	s->dirty = p;
	loop_defer(s->deferred);
}

static void unmark_dirty(struct port_io *io)
{
	if (!io->dirty_link)
		return;
	*io->dirty_link = io->next_dirty;
	if (io->next_dirty)
		io->next_dirty->io->dirty_link = io->dirty_link;
	io->dirty_link = NULL;
	io->next_dirty = NULL;
}

/* ---- to the box ---- */

static void pop_frame(struct port_io *io)
{
	struct frame *f = io->head;

	io->head = f->next;
	if (!io->head)
		io->tail = &io->head;
	io->queued -= f->cost;
	io->n_frames--;
	io->held[f->from] -= f->cost;
	if (!io->held[f->from])
		io->n_senders--;
	free(f);
}

/* The socket has taken so many bytes of the queue. */
static void consume(struct port_io *io, size_t n)
{
	while (n > 0) {
		struct frame *f = io->head;
		size_t part = MIN_OF(n, (size_t)f->len - f->done);
		f->done += (uint32_t)part;
		n -= part;
		if (f->done == f->len)
			pop_frame(io);
	}
}

static void end(struct port *p)
{
	p->io->gone = true;
	p->io->blocked = true; /* nothing goes to it any more */
	while (p->io->head)
		pop_frame(p->io);
	loop_source_free(TAKE_PTR(p->io->io));
	p->io->on_gone(p->io->data);
}

static ssize_t write_iov(struct port *p, struct iovec *iov, unsigned n)
{
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = n};
	ssize_t sent = sendmsg(p->io->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (sent >= 0)
		bucket_take(p, &p->io->out, (size_t)sent);
	/* What is wrong with the connection the loop says as well, and there it can be ended. */
	return sent < 0 ? 0 : sent;
}

/* Whether a sender may put so much more into the queue. */
static bool may_queue(const struct port_io *io, unsigned from, size_t cost)
{
	const unsigned senders = io->n_senders + !io->held[from];

	if (io->queued + cost > QUEUE_MAX)
		return false;
	return io->queued + cost <= QUEUE_MAX / 2 || io->held[from] + cost <= QUEUE_MAX / (senders + 1);
}

bool port_room(const struct port *to)
{
	const struct port_io *io = to->io;

	return !io->gone && io->held[OURS] + WIRE_MAX <= OURS_MAX && may_queue(io, OURS, WIRE_MAX);
}

static bool room_again(const struct port *p)
{
	return p->io->held[OURS] <= OURS_LOW && port_room(p);
}

/* After a write: what is to come next. */
static void written(struct port *p)
{
	if (p->io->blocked || p->io->timer)
		watch(p);
	if (p->io->n_waiting && room_again(p))
		mark_dirty(p);
}

/* Writes what is queued, in as few calls as may be; then blocked or empty, or out of rate. */
static void flush(struct port *p)
{
	enum { IOV = 128 };
	struct port_io *io = p->io;
	struct iovec iov[IOV];

	io->unsent = 0;
	while (io->head && !io->blocked && !bucket_wait(p, &io->out)) {
		const size_t most = at_once(p, &io->out, QUEUE_MAX / 4);
		size_t total = 0;
		unsigned n = 0;
		for (struct frame *f = io->head; f && n < IOV && total < most; f = f->next, n++) {
			iov[n] = (struct iovec){f->data + f->done, f->len - f->done};
			total += iov[n].iov_len;
		}
		ssize_t sent = write_iov(p, iov, n);
		consume(io, (size_t)sent);
		io->blocked = (size_t)sent < total;
	}
	written(p);
}

/* Puts bytes of a frame (all of it, or what the socket left of it) at the queue's end. */
static int enqueue(struct port_io *io, unsigned from, const struct iovec *iov, unsigned n_iov, size_t skip,
	size_t total, size_t cost)
{
	struct frame *f = malloc(sizeof(*f) + total);
	size_t at = 0;

	if (!f)
		return -ENOBUFS;
	*f = (struct frame){.len = (uint32_t)total, .cost = (uint32_t)cost, .from = (uint16_t)from};
	f->done = (uint32_t)skip;
	for (unsigned i = 0; i < n_iov; i++) {
		memcpy(f->data + at, iov[i].iov_base, iov[i].iov_len);
		at += iov[i].iov_len;
	}
	*io->tail = f;
	io->tail = &f->next;
	io->n_senders += !io->held[from];
	io->held[from] += (uint32_t)cost;
	io->queued += cost;
	io->n_frames++;
	return 0;
}

/* A large frame behind what is queued, in one call. Returns the bytes of it that the socket took. */
static size_t send_direct(struct port *p, const struct iovec *iov, unsigned n_iov, size_t total)
{
	enum { IOV = 8 };
	struct port_io *io = p->io;
	struct iovec all[GATHER_FRAMES + IOV];
	size_t queued = 0;
	unsigned n = 0;

	for (struct frame *f = io->head; f; f = f->next, n++) {
		all[n] = (struct iovec){f->data + f->done, f->len - f->done};
		queued += all[n].iov_len;
	}
	memcpy(all + n, iov, n_iov * sizeof(*iov));
	size_t sent = (size_t)write_iov(p, all, n + n_iov);
	io->blocked = sent < queued + total;
	consume(io, MIN_OF(sent, queued));
	io->unsent = 0;
	written(p);
	return sent > queued ? sent - queued : 0;
}

int port_send(
	struct port *to, struct port *from, const struct vnet_hdr *h, const struct iovec *iov, unsigned n_iov)
{
	enum { IOV = 6 };
	struct port_io *io = to->io;
	const unsigned sender = from ? from->slot : OURS;
	uint8_t head[HEAD];
	struct iovec all[1 + IOV];
	size_t len = 0, sent = 0;

	if (n_iov > IOV || io->gone)
		goto drop;
	for (unsigned i = 0; i < n_iov; i++) {
		all[1 + i] = iov[i];
		len += iov[i].iov_len;
	}
	if (len < ETH_HDR_LEN || len > PKT_FRAME_MAX)
		goto drop;
	const uint32_t prefix = htonl((uint32_t)(VNET_HDR_LEN + len));
	memcpy(head, &prefix, PREFIX);
	vnet_hdr_encode(head + PREFIX, h);
	all[0] = (struct iovec){head, HEAD};
	const size_t total = HEAD + len, cost = MAX_OF(total, (size_t)COST_MIN);

	if (!may_queue(io, sender, cost))
		goto drop;
	if (len >= DIRECT_MIN && !io->blocked && io->n_frames <= GATHER_FRAMES && !bucket_wait(to, &io->out))
		sent = send_direct(to, all, n_iov + 1, total);
	if (sent < total) {
		/* A frame that has begun must be ended: the connection cannot do without its rest. */
		if (enqueue(io, sender, all, n_iov + 1, sent, total, cost) < 0) {
			if (sent > 0)
				(void)shutdown(io->fd, SHUT_RDWR);
			goto drop;
		}
		io->unsent += total - sent;
		if (!io->blocked && (io->unsent >= GATHER_BYTES || io->n_frames >= GATHER_FRAMES))
			flush(to);
		else if (!io->blocked)
			mark_dirty(to);
	}
	to->stats.rx_frames++;
	to->stats.rx_bytes += len;
	return 0;
drop:
	to->stats.dropped++;
	return -ENOBUFS;
}

/* ---- who pulls ---- */

void port_wait(struct port *to, struct port_waiter *w)
{
	struct port_io *io = to->io;

	if (w->link)
		return;
	w->port = to;
	w->next = NULL;
	w->link = io->waiting_tail;
	*io->waiting_tail = w;
	io->waiting_tail = &w->next;
	io->n_waiting++;
	if (room_again(to)) /* nothing is queued that would wake it */
		mark_dirty(to);
}

void port_unwait(struct port_waiter *w)
{
	if (!w->link)
		return;
	*w->link = w->next;
	if (w->next)
		w->next->link = w->link;
	else
		w->port->io->waiting_tail = w->link;
	w->port->io->n_waiting--;
	w->link = NULL;
	w->next = NULL;
}

/* Each that waits now has its turn, while there is room: those that want more come behind the others. */
static void wake(struct port *p)
{
	struct port_io *io = p->io;

	if (!room_again(p))
		return;
	for (unsigned n = io->n_waiting; n > 0 && io->waiting && port_room(p); n--) {
		struct port_waiter *w = io->waiting;
		port_unwait(w);
		w->fn(w);
	}
}

static void on_turn_end(void *data)
{
	struct engine *g = data;
	struct port_state *s = g->port_state;

	/* Whoever is marked again meanwhile waits for the next turn, so that descriptors have theirs. */
	s->doing = TAKE_PTR(s->dirty);
	if (s->doing)
		s->doing->io->dirty_link = &s->doing;
	while (s->doing) {
		struct port *p = s->doing;
		unmark_dirty(p->io);
		flush(p);
		wake(p);
		flush(p);
	}
	if (s->dirty)
		loop_defer(s->deferred);
}

/* ---- from the box ---- */

/* Whole frames at the start of data; *used are their bytes. False: the framing is broken. */
static bool take_frames(struct port *p, const uint8_t *data, size_t len, size_t *used, unsigned *n_frames)
{
	*used = 0;
	while (len - *used >= PREFIX) {
		const uint8_t *at = data + *used;
		uint32_t n;
		struct vnet_hdr h;
		memcpy(&n, at, PREFIX);
		n = ntohl(n);
		if (n < VNET_HDR_LEN || n > VNET_HDR_LEN + PKT_FRAME_MAX)
			return false;
		if (len - *used - PREFIX < n)
			break;
		vnet_hdr_decode(&h, at + PREFIX);
		engine_input(p, &h, at + HEAD, n - VNET_HDR_LEN);
		*used += PREFIX + n;
		++*n_frames;
	}
	return true;
}

/* Bytes that the frame in part will have in all, its length being there. */
static size_t part_total(const struct port_io *io)
{
	uint32_t n;

	memcpy(&n, io->part, PREFIX);
	return PREFIX + (size_t)ntohl(n);
}

/* Keeps the begin of a frame for the next read. */
static bool keep_part(struct port_io *io, const uint8_t *data, size_t len)
{
	if (!io->part)
		io->part = malloc(WIRE_MAX);
	if (!io->part)
		return false;
	memcpy(io->part, data, len);
	io->part_len = len;
	return true;
}

/* What a read brought, the part before it included. False: the connection is to be ended. */
static bool take_read(struct port *p, size_t got, unsigned *n_frames)
{
	struct port_io *io = p->io;
	uint8_t *data = p->g->port_state->buf + HEAD;
	size_t used;

	if (io->part_len >= PREFIX) {
		size_t mine = MIN_OF(part_total(io) - io->part_len, got);
		io->part_len += mine;
		if (io->part_len < part_total(io))
			return true;
		if (!take_frames(p, io->part, io->part_len, &used, n_frames))
			return false;
		io->part_len = 0;
		got -= mine;
	} else if (io->part_len > 0) { /* of a length of four bytes, some */
		data -= io->part_len;
		memcpy(data, io->part, io->part_len);
		got += io->part_len;
		io->part_len = 0;
	}
	if (!take_frames(p, data, got, &used, n_frames))
		return false;
	return used == got || keep_part(io, data + used, got - used);
}

/* Whether it is the box's turn, by what the others have used since it was asked last. */
static bool has_turn(struct port *p)
{
	const struct port_state *s = p->g->port_state;
	struct port_io *io = p->io;
	const uint64_t reads = s->n_reads - io->seen_reads, used = s->used_ns - io->seen_ns;

	io->owed_ns -= reads ? MIN_OF(io->owed_ns, used / reads) : io->owed_ns;
	io->seen_reads = s->n_reads;
	io->seen_ns = s->used_ns;
	return io->owed_ns == 0;
}

/* What a read has cost, and how large the next may be. */
static void account(struct port *p, uint64_t used_ns, unsigned n_frames)
{
	struct port_state *s = p->g->port_state;
	struct port_io *io = p->io;

	s->used_ns += used_ns;
	s->n_reads++;
	io->seen_ns = s->used_ns;
	io->seen_reads = s->n_reads;
	if (used_ns > TURN_NS) { /* time that the process was not running is in it as well, and may be any */
		io->owed_ns = MIN_OF(used_ns - TURN_NS, OWED_MAX_NS);
		io->read_max = MAX_OF(io->read_max / 2, (size_t)COSTLY_MIN);
	} else if (n_frames > TURN_FRAMES) {
		io->read_max = MAX_OF(io->read_max * TURN_FRAMES / n_frames, (size_t)READ_MIN);
	} else if (n_frames < TURN_FRAMES / 2 && used_ns < TURN_NS / 2) {
		io->read_max = MIN_OF(io->read_max * 2, (size_t)READ_MAX);
	}
}

enum got { GOT_SOME, GOT_NONE, GOT_END };

/* One read of at most max bytes. END: it has ended, and p may be gone. */
static enum got read_some(struct port *p, size_t max)
{
	struct port_io *io = p->io;
	unsigned n_frames = 0, n = 0;
	struct iovec iov[2];

	const uint64_t since = time_mono_ns();
	if (io->part_len >= PREFIX)
		iov[n++] = (struct iovec){io->part + io->part_len, part_total(io) - io->part_len};
	iov[n++] = (struct iovec){p->g->port_state->buf + HEAD, max};
	ssize_t got = readv(io->fd, iov, (int)n);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return GOT_NONE;
	if (got <= 0 || !take_read(p, (size_t)got, &n_frames)) {
		if (got > 0)
			log_info("%s: a length that no frame has", p->a.name);
		end(p);
		return GOT_END;
	}
	bucket_take(p, &io->in, (size_t)got);
	account(p, time_mono_ns() - since, n_frames);
	return GOT_SOME;
}

static void on_readable(struct port *p)
{
	if (has_turn(p) && read_some(p, at_once(p, &p->io->in, p->io->read_max)) == GOT_SOME && p->a.rate_bps)
		watch(p);
}

bool port_drain(struct port *p)
{
	enum got got = GOT_SOME;

	/* Who is there yet, and sends on, is not waited for. */
	for (unsigned i = 0; i < DRAIN_READS && got == GOT_SOME; i++)
		got = read_some(p, READ_MAX);
	return got != GOT_END;
}

static void on_io(void *data, int fd, uint32_t events)
{
	struct port *p = data;

	if (events & EPOLLOUT) {
		p->io->blocked = false;
		mark_dirty(p);
		watch(p);
	}
	/* What it sent before its end is not held back: there is no more to come. */
	if (events & (EPOLLHUP | EPOLLERR)) {
		if (port_drain(p))
			end(p);
	} else if (events & EPOLLIN) {
		on_readable(p);
	}
}

static void on_rate(void *data)
{
	struct port *p = data;

	mark_dirty(p);
	watch(p);
}

/* ---- coming and going ---- */

int port_state_new(struct engine *g)
{
	struct port_state *s = malloc(sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->dirty = s->doing = NULL;
	s->used_ns = s->n_reads = 0;
	int r = loop_add_deferred(g->loop, on_turn_end, g, &s->deferred);
	if (r < 0)
		free(s);
	else
		g->port_state = s;
	return r;
}

void port_state_free(struct engine *g)
{
	if (!g->port_state)
		return;
	for (unsigned i = 0; i < NETD_PORTS_MAX; i++) {
		if (g->ports[i])
			port_free(g->ports[i]);
	}
	loop_source_free(g->port_state->deferred);
	free(TAKE_PTR(g->port_state));
}

static void io_free(struct port_io *io)
{
	if (!io)
		return;
	while (io->head)
		pop_frame(io);
	unmark_dirty(io);
	loop_source_free(io->io);
	loop_source_free(io->timer);
	close_fd(&io->fd);
	free(io->part);
	free(io);
}
DEFINE_CLEANUP(struct port_io *, io_free)

static int io_new(struct port *p, int fd, void (*on_gone)(void *data), void *data, struct port_io **ret)
{
	CLEANUP_CLOSE int owned = fd;
	CLEANUP(io_freep) struct port_io *io = calloc(1, sizeof(*io));

	if (!io)
		return -ENOMEM;
	io->fd = TAKE_FD(owned);
	io->on_gone = on_gone;
	io->data = data;
	io->read_max = READ_MAX;
	io->tail = &io->head;
	io->waiting_tail = &io->waiting;
	io->in = io->out = (struct bucket){.tokens = (int64_t)burst_of(p), .filled_ns = time_mono_ns()};
	int r = io_set_nonblock(io->fd, true);
	if (r == 0)
		r = loop_add_io(p->g->loop, io->fd, EPOLLIN, on_io, p, &io->io);
	if (r == 0 && p->a.rate_bps)
		r = loop_add_timer(p->g->loop, UINT64_MAX, on_rate, p, &io->timer);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(io);
	return 0;
}

/* A place for a box whose addresses are free. */
static int find_slot(const struct engine *g, const struct netd_attachment *a, unsigned *ret)
{
	unsigned i = 0;

	if (engine_port_of(g, &a->ip4) || engine_port_of(g, &a->ip6) || engine_is_gateway(g, &a->ip4) ||
		engine_is_gateway(g, &a->ip6))
		return -EADDRINUSE;
	while (i < NETD_PORTS_MAX && g->ports[i])
		i++;
	*ret = i;
	return i < NETD_PORTS_MAX ? 0 : -ENOSPC;
}

int port_new(struct engine *g, struct netd_attachment *a, int fd, void (*on_gone)(void *data), void *data,
	struct port **ret)
{
	CLEANUP_CLOSE int owned = fd;
	unsigned slot;
	int r = find_slot(g, a, &slot);

	if (r < 0)
		return r;
	struct port *p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->g = g;
	p->slot = slot;
	p->since_ns = time_mono_ns();
	p->a = *a;
	r = io_new(p, TAKE_FD(owned), on_gone, data, &p->io);
	if (r == 0)
		r = policy_attach(p);
	if (r < 0) {
		io_free(p->io);
		free(p);
		return r;
	}
	*a = (struct netd_attachment){0};
	g->ports[slot] = p;
	g->n_ports++;
	engine_ports_changed(g);
	*ret = p;
	return 0;
}

void port_free(struct port *p)
{
	struct engine *g = p->g;

	p->io->gone = true; /* what the parts still have to say to it is not sent */
	tcp_port_gone(p);
	udp_port_gone(p);
	icmp_port_gone(p);
	dns_port_gone(p);
	frag_port_gone(p);
	switch_port_gone(p);
	policy_detach(p);
	g->ports[p->slot] = NULL;
	g->n_ports--;
	engine_ports_changed(g);
	while (p->io->waiting) /* of a part that forgot: it must not keep a pointer to us */
		port_unwait(p->io->waiting);
	io_free(p->io);
	netd_attachment_done(&p->a);
	free(p);
}
