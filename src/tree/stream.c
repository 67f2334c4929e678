/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "base/io.h"
#include "inside.h"

#define COPY_MAX  4096 /* bytes of content that are rather copied than sent from where they are */
#define IOV_PAIRS 8    /* frames of content in one system call */

/* ---- into a stream ---- */

struct tree_stream {
	struct tree_sink sink;
	struct buf out;
	int fd;
	bool is_pipe;  /* no socket: whoever uses it ignores SIGPIPE */
	bool broken;   /* nothing whole can be written any more */
	bool complete; /* its last frame is out */
};

/* All of it, as far as the connection goes. v is changed. */
static int write_all(struct tree_stream *s, struct iovec *v, size_t n)
{
	while (n) {
		struct msghdr msg = {.msg_iov = v, .msg_iovlen = n};
		ssize_t done = s->is_pipe ? writev(s->fd, v, (int)n) : sendmsg(s->fd, &msg, MSG_NOSIGNAL);

		if (done < 0 && errno == ENOTSOCK && !s->is_pipe) {
			s->is_pipe = true;
			continue;
		}
		if (done < 0 && errno != EINTR) {
			s->broken = true;
			return errno == EAGAIN ? -ETIMEDOUT : -errno; /* the socket's own limit */
		}
		for (done = MAX_OF(done, 0); n && (size_t)done >= v->iov_len; n--)
			done -= (ssize_t)(v++)->iov_len;
		if (n) {
			v->iov_base = (char *)v->iov_base + done;
			v->iov_len -= (size_t)done;
		}
	}
	return 0;
}

static int stream_error(struct err *e, int r)
{
	return err_sys(e, r, "send a tree of files");
}

static int flush(struct tree_stream *s, struct err *e)
{
	struct iovec v = {buf_data(&s->out), s->out.len};
	int r = s->out.len ? write_all(s, &v, 1) : 0;

	s->out.start = s->out.len = 0;
	return r < 0 ? stream_error(e, r) : 0;
}

static int stream_entry(void *data, const struct wire_entry *en, struct err *e)
{
	struct tree_stream *s = data;
	int r = s->broken ? -EPIPE : wire_put_entry(&s->out, en);

	if (r == -EINVAL || r == -EMSGSIZE)
		return err_set(
			e, r, "\"%s\" cannot be sent: its name or attributes are no valid ones", en->path);
	if (r < 0)
		return stream_error(e, r);
	return s->out.len < TREE_BUFFER ? 0 : flush(s, e);
}

/* What is buffered, and frames around the bytes where they lie. */
static int send_content(struct tree_stream *s, uint64_t offset, const uint8_t *bytes, size_t len)
{
	uint8_t headers[IOV_PAIRS][WIRE_CONTENT_HEADER];
	struct iovec v[1 + 2 * IOV_PAIRS];
	size_t n = 0;
	int r;

	if (s->out.len)
		v[n++] = (struct iovec){buf_data(&s->out), s->out.len};
	for (size_t i = 0; i < IOV_PAIRS && len; i++) {
		size_t part = MIN_OF(len, (size_t)WIRE_DATA_MAX);

		r = wire_put_content_header(headers[i], offset, part);
		if (r < 0)
			return r;
		v[n++] = (struct iovec){headers[i], sizeof(headers[i])};
		v[n++] = (struct iovec){(void *)(uintptr_t)bytes, part};
		offset += part;
		bytes += part;
		len -= part;
	}
	r = write_all(s, v, n);
	s->out.start = s->out.len = 0;
	return r;
}

static int stream_content(void *data, uint64_t offset, const void *bytes, size_t len, struct err *e)
{
	struct tree_stream *s = data;
	const uint8_t *p = bytes;
	int r = s->broken ? -EPIPE : 0;

	if (r == 0 && len && len <= COPY_MAX) {
		r = wire_put_content(&s->out, offset, p, len);
		if (r == 0 && s->out.len >= TREE_BUFFER)
			return flush(s, e);
		return r < 0 ? stream_error(e, r) : 0;
	}
	while (r == 0 && len) {
		size_t part = MIN_OF(len, (size_t)IOV_PAIRS * WIRE_DATA_MAX);

		r = send_content(s, offset, p, part);
		offset += part;
		p += part;
		len -= part;
	}
	return r < 0 ? stream_error(e, r) : 0;
}

static int stream_end(void *data, struct err *e)
{
	struct tree_stream *s = data;
	int r = s->broken ? -EPIPE : wire_put(&s->out, WIRE_TREE_END, NULL, 0);

	s->complete = true;
	return r < 0 ? stream_error(e, r) : flush(s, e);
}

int tree_stream_new(int fd, struct tree_stream **ret, struct err *e)
{
	struct tree_stream *s = calloc(1, sizeof(*s));

	if (!s)
		return err_oom(e);
	s->fd = fd;
	s->sink = (struct tree_sink){stream_entry, stream_content, stream_end, s};
	*ret = s;
	return 0;
}

const struct tree_sink *tree_stream_sink(struct tree_stream *s)
{
	return &s->sink;
}

void tree_stream_fail(struct tree_stream *s, const char *text)
{
	if (s->broken || s->complete)
		return;
	s->complete = true;
	if (wire_put_fail(&s->out, EIO, text) == 0)
		flush(s, NULL);
}

void tree_stream_free(struct tree_stream *s)
{
	if (!s)
		return;
	buf_done(&s->out);
	free(s);
}

/* ---- out of a stream ---- */

unsigned int tree_idle_ms = 60000;

struct stream_reader {
	struct tree_order order;
	const struct tree_sink *to;
	uint64_t size, end; /* of the last entry's content: declared, and where it has come to */
	bool file;
};

static int take_entry(struct stream_reader *s, const struct wire_frame *f, struct err *e)
{
	CLEANUP(wire_entry_done) struct wire_entry en;
	int r = wire_get_entry(f, &en);

	if (r < 0)
		return err_set(e, r, r == -ENOMEM ? "out of memory" : "malformed entry in a tree of files");
	r = tree_order_add(&s->order, &en, e);
	if (r < 0)
		return r;
	s->file = S_ISREG(en.mode);
	s->size = en.size;
	s->end = 0;
	return s->to->entry(s->to->data, &en, e);
}

static int take_content(struct stream_reader *s, const struct wire_frame *f, struct err *e)
{
	const uint8_t *bytes;
	uint64_t offset;
	size_t len;

	if (wire_get_content(f, &offset, &bytes, &len) < 0 || !s->file || offset < s->end ||
		offset > s->size || len > s->size - offset)
		return err_set(e, -EBADMSG, "misplaced content in a tree of files");
	s->end = offset + len;
	return s->to->content(s->to->data, offset, bytes, len, e);
}

static int take_failure(const struct wire_frame *f, struct err *e)
{
	CLEANUP_FREE char *text = NULL;
	uint32_t status;

	if (wire_get_fail(f, &status, &text) < 0 || !*text)
		return err_set(e, -EREMOTEIO, "the other side could not read the files to their end");
	return err_set(e, -EREMOTEIO, "%s", text);
}

/* 1: the tree is complete. */
static int take(struct stream_reader *s, const struct wire_frame *f, struct err *e)
{
	int r;

	switch (f->type) {
	case WIRE_ENTRY:
		return take_entry(s, f, e);
	case WIRE_CONTENT:
		return take_content(s, f, e);
	case WIRE_FAIL:
		return take_failure(f, e);
	case WIRE_TREE_END:
		if (!s->order.n)
			return err_set(e, -EBADMSG, "a tree of files without a root");
		r = s->to->end(s->to->data, e);
		return r < 0 ? r : 1;
	default:
		return err_set(e, -EBADMSG, "unexpected message in a tree of files");
	}
}

/*
 * After EAGAIN. A socket's own limit has passed when the descriptor waits; one that does not is waited for here, as a pipe has
 * no limit. 0 or -errno.
 */
static int wait_readable(int fd)
{
	uint64_t end = time_mono_ns() + tree_idle_ms * 1000000ull, now;
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || !(flags & O_NONBLOCK))
		return flags < 0 ? -errno : -ETIMEDOUT;
	while ((now = time_mono_ns()) < end) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int r = poll(&p, 1, (int)((end - now) / 1000000) + 1);
		if (r > 0)
			return 0;
		if (r < 0 && errno != EINTR)
			return -errno;
	}
	return -ETIMEDOUT;
}

/* More bytes. What comes behind the tree stays in `in`.*/
static int fill(int fd, struct buf *in, struct err *e)
{
	uint8_t *room = buf_reserve(in, TREE_BUFFER);
	ssize_t n;
	int r = 0;

	if (!room)
		return err_oom(e);
	while ((n = read(fd, room, TREE_BUFFER)) < 0 && r == 0)
		r = errno == EINTR ? 0 : errno == EAGAIN ? wait_readable(fd) : -errno;
	if (n < 0)
		return err_sys(e, r, "receive a tree of files");
	if (n == 0)
		return err_set(e, -EPIPE, "the tree of files ends too early");
	buf_commit(in, (size_t)n);
	return 0;
}

int tree_read_stream(int fd, struct buf *in, const struct tree_sink *to, struct err *e)
{
	struct stream_reader s = {.to = to};
	struct wire_frame f;
	int r = 0;

	while (r == 0) {
		int whole = wire_next(in, &f);

		if (whole < 0) {
			r = err_set(e, whole, "unexpected message in a tree of files");
		} else if (whole == 0) {
			r = fill(fd, in, e);
		} else {
			r = take(&s, &f, e);
			wire_consume(in, &f);
		}
	}
	tree_order_done(&s.order);
	return r < 0 ? r : 0;
}
