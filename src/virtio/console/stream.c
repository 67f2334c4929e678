/* SPDX-License-Identifier: MIT */
/*
 * O_NONBLOCK belongs to the open file description, which a terminal's users all share: set here, the shell that
 * started us would meet EAGAIN. So a pipe or terminal is opened anew by its name in /proc, which gives a description
 * of our own. Sockets have a flag per call. The controlling side of a pseudo-terminal has one user and cannot be opened
 * anew; it is made non-blocking. Where opening anew is not possible (another user's terminal, a sandbox), poll is
 * asked first. For a pipe that is as good, as long as nobody else writes to it: there is room for PIPE_BUF bytes. A
 * terminal may still make us wait then, until somebody reads it.
 */
#include "console/stream.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/io.h"

_Static_assert(STREAM_CHUNK <= PIPE_BUF, "a pipe that polls writable takes that much");

/* Its name in /proc leads to /dev/ptmx, which would make another terminal. */
static bool is_pty_master(int fd, mode_t mode)
{
	unsigned number;

	return S_ISCHR(mode) && ioctl(fd, TIOCGPTN, &number) == 0;
}

static int open_anew(int fd, bool out)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, (out ? O_WRONLY : O_RDONLY) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

int stream_open(struct stream *s, struct loop *loop, int fd, bool out, loop_fn on_ready, void *data)
{
	struct stat st;

	*s = (struct stream){.fd = -1, .out = out, .loop = loop, .on_ready = on_ready, .data = data};
	if (fd < 0)
		return 0;
	if (fstat(fd, &st) < 0)
		return -errno;
	bool master = is_pty_master(fd, st.st_mode);
	if (!master && (S_ISFIFO(st.st_mode) || isatty(fd)))
		s->fd = open_anew(fd, out);
	if (s->fd >= 0) {
		s->kind = STREAM_OWN;
		return 0;
	}
	if (master && io_set_nonblock(fd, true) == 0)
		s->kind = STREAM_OWN;
	else
		s->kind = S_ISSOCK(st.st_mode)	? STREAM_SOCKET
			  : S_ISREG(st.st_mode) ? STREAM_FILE
						: STREAM_ASK;
	/* A number of our own, for epoll knows a descriptor only once, and both directions may be the same. */
	s->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return s->fd < 0 ? -errno : 0;
}

void stream_close(struct stream *s)
{
	loop_source_free(TAKE_PTR(s->src));
	close_fd(&s->fd);
}

static void on_event(void *data, int fd, uint32_t events)
{
	struct stream *s = data;

	loop_source_free(TAKE_PTR(s->src));
	s->on_ready(s->data);
}

/* What cannot be waited for (epoll does not take it) is as good as gone. */
static void wait_for_it(struct stream *s)
{
	if (!s->src && loop_add_io(s->loop, s->fd, s->out ? EPOLLOUT : EPOLLIN, on_event, s, &s->src) < 0)
		stream_close(s);
}

/* An error or a hang-up counts as ready: the call will tell. */
static bool may_call(const struct stream *s)
{
	struct pollfd p = {.fd = s->fd, .events = s->out ? POLLOUT : POLLIN};

	return s->kind != STREAM_ASK || poll(&p, 1, 0) != 0;
}

/*
 * write(2) without SIGPIPE, which we cannot demand of the whole process to ignore: held back, and taken if it was this
 * write that raised it (it comes to the thread that wrote).
 */
static ssize_t write_quietly(int fd, const void *buf, size_t len)
{
	const struct timespec at_once = {0};
	sigset_t sigpipe, before, pending;

	sigemptyset(&sigpipe);
	sigaddset(&sigpipe, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &sigpipe, &before);
	ssize_t n = write(fd, buf, len);
	int saved = errno;
	/* One that was held back before is not ours to take. */
	if (n < 0 && saved == EPIPE && !sigismember(&before, SIGPIPE) && sigpending(&pending) == 0 &&
		sigismember(&pending, SIGPIPE))
		sigtimedwait(&sigpipe, NULL, &at_once);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	errno = saved;
	return n;
}

/* Judges a call's outcome: bytes to report, 0 after having arranged for what follows; -1: try again at once. */
static ssize_t outcome(struct stream *s, ssize_t n)
{
	if (n > 0)
		return n;
	if (n < 0 && errno == EINTR)
		return -1;
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		wait_for_it(s);
	else
		stream_close(s);
	return 0;
}

size_t stream_read(struct stream *s, void *buf, size_t len)
{
	ssize_t n = -1;

	len = MIN_OF(len, STREAM_CHUNK);
	while (n < 0 && stream_is_open(s) && len > 0) {
		if (!may_call(s)) {
			wait_for_it(s);
			return 0;
		}
		n = outcome(s, s->kind == STREAM_SOCKET ? recv(s->fd, buf, len, MSG_DONTWAIT)
							: read(s->fd, buf, len));
	}
	return n > 0 ? (size_t)n : 0;
}

size_t stream_write(struct stream *s, const void *buf, size_t len)
{
	ssize_t n = -1;

	len = MIN_OF(len, STREAM_CHUNK);
	while (n < 0 && stream_is_open(s) && len > 0) {
		if (!may_call(s)) {
			wait_for_it(s);
			return 0;
		}
		n = outcome(s, s->kind == STREAM_SOCKET ? send(s->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL)
							: write_quietly(s->fd, buf, len));
	}
	return n > 0 ? (size_t)n : 0;
}
