/* SPDX-License-Identifier: MIT */
#include "log-syslog.h"

#include <ctype.h>
#include <netdb.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <syslog.h>
#include <time.h>

#include "base/io.h"
#include "base/log.h"
#include "base/units.h"
#include "log.h"

enum { HOST_MAX = 255, TAG_MAX = 48, HEADER_MAX = 512 }; /* RFC 5424, 6: HOSTNAME and APP-NAME */

struct log_syslog {
	struct loop *loop;
	loop_fn on_room;
	void *data;
	struct log_syslog_target target;
	struct sockaddr_storage addr;
	socklen_t addr_len;
	int facility;
	char host[HOST_MAX + 1], tag[TAG_MAX + 1];

	struct log_lines lines;
	struct buf queue; /* messages, each behind its length as uint32_t */
	size_t n_queued;
	size_t sent;   /* bytes of the first message that a stream took */
	int fd;	       /* -1: not connected */
	bool stream;   /* messages are ended by line feeds */
	bool joining;  /* a connection is being made */
	bool was_full; /* on_room is due */
	bool given_up; /* what comes is dropped */
	uint64_t dropped;
	struct loop_source *io, *retry, *patience; /* patience: runs while output waits for the server */
};

static const struct {
	const char *name;
	int number;
} facilities[] = {{"kern", 0}, {"user", 1}, {"mail", 2}, {"daemon", 3}, {"auth", 4}, {"syslog", 5},
	{"lpr", 6}, {"news", 7}, {"uucp", 8}, {"cron", 9}, {"authpriv", 10}, {"ftp", 11}, {"local0", 16},
	{"local1", 17}, {"local2", 18}, {"local3", 19}, {"local4", 20}, {"local5", 21}, {"local6", 22},
	{"local7", 23}};

int log_syslog_facility(const char *s)
{
	uint64_t n;

	for (size_t i = 0; i < ARRAY_LEN(facilities); i++) {
		if (strcmp(s, facilities[i].name) == 0)
			return facilities[i].number;
	}
	return parse_u64(s, 23, &n) < 0 ? -EINVAL : (int)n;
}

static int parse_host(const char *s, struct log_syslog_target *t)
{
	const char *end;

	if (*s == '[') {
		end = strchr(++s, ']');
		if (!end || (end[1] && end[1] != ':'))
			return -EINVAL;
	} else {
		end = s + strcspn(s, ":/");
	}
	const char *port = *end == ']' ? end + 1 : end;
	uint64_t n = 514;
	if (*port && (*port != ':' || parse_u64(port + 1, 65535, &n) < 0 || n == 0))
		return -EINVAL;
	if (end == s || (size_t)(end - s) >= sizeof(t->host))
		return -EINVAL;
	snprintf(t->host, sizeof(t->host), "%.*s", (int)(end - s), s);
	snprintf(t->port, sizeof(t->port), "%u", (unsigned)n);
	return 0;
}

int log_syslog_parse_target(const char *s, struct log_syslog_target *ret)
{
	static const char *const schemes[] = {
		[SYSLOG_UNIX] = "unix://", [SYSLOG_UDP] = "udp://", [SYSLOG_TCP] = "tcp://"};
	struct log_syslog_target t = {0};
	size_t k = 0;

	while (k < ARRAY_LEN(schemes) && strncmp(s, schemes[k], strlen(schemes[k])) != 0)
		k++;
	if (k == ARRAY_LEN(schemes))
		return -EINVAL;
	s += strlen(schemes[k]);
	t.kind = (enum log_syslog_kind)k;
	if (t.kind == SYSLOG_UNIX) {
		if (*s != '/' || strlen(s) >= sizeof(((struct sockaddr_un *)0)->sun_path))
			return -EINVAL;
		snprintf(t.host, sizeof(t.host), "%s", s);
	} else if (parse_host(s, &t) < 0) {
		return -EINVAL;
	}
	*ret = t;
	return 0;
}

/* ---- connection ---- */

static void pump(struct log_syslog *l);

static void lost(struct log_syslog *l)
{
	loop_source_free(TAKE_PTR(l->io));
	close_fd(&l->fd);
	l->joining = false;
	l->sent = 0; /* the whole message goes again: half of it may have arrived */
	loop_set_timer(l->retry, SYSLOG_RETRY_NS);
}

static void on_io(void *data, int fd, uint32_t events)
{
	struct log_syslog *l = data;
	int error = 0;
	char ignored[256];

	if (l->joining || (events & (EPOLLERR | EPOLLHUP))) {
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &(socklen_t){sizeof(error)});
		if (error || (l->joining && (events & EPOLLHUP)) || (l->stream && (events & EPOLLHUP))) {
			lost(l);
			return;
		}
		l->joining = false;
	}
	/* A server has nothing to say: only its end matters. */
	if (l->stream && (events & EPOLLIN) && recv(fd, ignored, sizeof(ignored), MSG_DONTWAIT) == 0) {
		lost(l);
		return;
	}
	pump(l);
}

/* 0 or -errno; a TCP connection may still be on its way. */
static int join(struct log_syslog *l)
{
	int family = l->addr.ss_family, r = 0;

	l->stream = l->target.kind == SYSLOG_TCP;
	for (;;) {
		int type = (l->stream ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK;
		l->fd = socket(family, type, 0);
		if (l->fd < 0)
			return -errno;
		r = connect(l->fd, (struct sockaddr *)&l->addr, l->addr_len) < 0 ? -errno : 0;
		if (r != -EPROTOTYPE || l->stream)
			break;
		close_fd(&l->fd);
		l->stream = true; /* some daemons listen on a stream */
	}
	l->joining = r == -EINPROGRESS;
	if (r == 0 || l->joining)
		r = loop_add_io(l->loop, l->fd, l->joining ? EPOLLOUT : EPOLLIN, on_io, l, &l->io);
	if (r < 0)
		close_fd(&l->fd);
	return r;
}

static void on_retry(void *data)
{
	struct log_syslog *l = data;

	if (l->fd < 0 && join(l) < 0)
		loop_set_timer(l->retry, SYSLOG_RETRY_NS);
	else
		pump(l);
}

/* ---- queue ---- */

/* Drops what waits, but for a message that a stream took in part: only its rest can follow. */
static void keep_begun(struct log_syslog *l)
{
	size_t kept = l->sent ? 1 : 0;
	uint32_t total;

	l->dropped += l->n_queued - kept;
	memcpy(&total, buf_data(&l->queue), sizeof(total));
	l->queue.len = kept ? sizeof(total) + total : 0;
	l->n_queued = kept;
}

static void update_events(struct log_syslog *l)
{
	bool wants_out = l->joining || l->n_queued || l->given_up;
	if (l->io)
		loop_set_events(l->io, EPOLLIN | (wants_out ? EPOLLOUT : 0));
}

static void on_patience(void *data)
{
	struct log_syslog *l = data;

	log_warn("log: the syslog server takes no messages: they are dropped until it does");
	l->given_up = true;
	keep_begun(l);
	update_events(l);
	l->was_full = false;
	l->on_room(l->data);
}

static void enqueue(struct log_syslog *l, int severity, const uint8_t *s, size_t len)
{
	int64_t now = time_real_ns();
	time_t sec = (time_t)(now / 1000000000);
	char header[HEADER_MAX], stamp[40];
	struct tm tm;
	int n;

	while (len && (s[len - 1] == '\n' || s[len - 1] == '\r'))
		len--;
	if (l->target.kind == SYSLOG_UNIX) {
		localtime_r(&sec, &tm);
		strftime(stamp, sizeof(stamp), "%b %e %H:%M:%S", &tm);
		n = snprintf(header, sizeof(header), "<%d>%s %s[%d]: ", l->facility * 8 + severity, stamp,
			l->tag, (int)getpid());
	} else {
		/* RFC 5424, 6.2.3.1: microseconds at most */
		format_time_rfc3339(stamp, sizeof(stamp), now);
		snprintf(stamp + 26, sizeof(stamp) - 26, "Z");
		n = snprintf(header, sizeof(header), "<%d>1 %s %s %s %d - - ", l->facility * 8 + severity,
			stamp, l->host, l->tag, (int)getpid());
	}
	uint32_t total = (uint32_t)n + (uint32_t)len + 1;
	uint8_t *p = buf_reserve(&l->queue, sizeof(total) + total);
	if (!p)
		return; /* nothing will go on from here */
	memcpy(p, &total, sizeof(total));
	memcpy(p + sizeof(total), header, (size_t)n);
	memcpy(p + sizeof(total) + n, s, len);
	p[sizeof(total) + total - 1] = '\n'; /* of a stream */
	buf_commit(&l->queue, sizeof(total) + total);
	l->n_queued++;
}

/* Sends the first message, or a part of it. 1: it is gone, 0: the server does not take it now, -errno. */
static int send_first(struct log_syslog *l)
{
	uint32_t total;

	memcpy(&total, buf_data(&l->queue), sizeof(total));
	const uint8_t *text = buf_data(&l->queue) + sizeof(total);
	while (l->sent < total) {
		size_t len = l->stream ? total - l->sent : total - 1;
		ssize_t n = send(l->fd, text + l->sent, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || (errno == ENOBUFS && l->target.kind != SYSLOG_UDP)))
			return 0;
		if (n < 0 && errno != EMSGSIZE && l->target.kind != SYSLOG_UDP)
			return -errno;
		if (n < 0 && l->target.kind != SYSLOG_UDP)
			l->dropped++; /* longer than the server takes */
		l->sent = n < 0 || !l->stream ? total : l->sent + (size_t)n;
	}
	buf_consume(&l->queue, sizeof(total) + total);
	l->n_queued--;
	l->sent = 0;
	return 1;
}

static void report_dropped(struct log_syslog *l)
{
	char text[128];

	snprintf(text, sizeof(text), "a3s-box: %llu messages are missing here: they could not be sent",
		(unsigned long long)l->dropped);
	l->dropped = 0;
	enqueue(l, LOG_ERR, (const uint8_t *)text, strlen(text));
}

/* Sends what goes, and sees to the rest. */
static void pump(struct log_syslog *l)
{
	bool progress = false;
	int r = 1;

	while (r > 0 && l->fd >= 0 && !l->joining) {
		if (l->n_queued == 0) { /* it takes messages, or did: is there something to be said first? */
			l->given_up = false;
			if (l->dropped == 0)
				break;
			report_dropped(l);
		}
		r = send_first(l);
		progress |= r > 0;
	}
	if (r < 0)
		lost(l);
	update_events(l);
	if (l->was_full && progress)
		loop_set_timer(l->patience, SYSLOG_PATIENCE_NS);
	if (l->was_full && l->queue.len < SYSLOG_QUEUE_MAX / 2) {
		l->was_full = false;
		loop_set_timer(l->patience, UINT64_MAX);
		l->on_room(l->data);
	}
}

static void put_line(void *data, int stream, const uint8_t *s, size_t len)
{
	struct log_syslog *l = data;

	/* The queue is that long only where the caller cannot wait: the box is to stop. */
	if (l->given_up || l->queue.len > 2 * SYSLOG_QUEUE_MAX)
		l->dropped++;
	else
		enqueue(l, stream ? LOG_ERR : LOG_INFO, s, len);
}

void log_syslog_put(struct log_syslog *l, int stream, const uint8_t *data, size_t len)
{
	log_lines_put(&l->lines, stream, data, len, put_line, l);
	if (l->given_up)
		return;
	if (l->queue.len > SYSLOG_QUEUE_MAX && !l->was_full) {
		l->was_full = true;
		loop_set_timer(l->patience, SYSLOG_PATIENCE_NS);
	}
	pump(l);
}

bool log_syslog_full(const struct log_syslog *l)
{
	return l->was_full;
}

/* ---- life ---- */

/* Printable ASCII without spaces, and something in any case (RFC 5424, 6.2.4 and 6.2.5). */
static void set_word(char *dst, size_t size, const char *src)
{
	size_t n = 0;

	for (; src[n] && n + 1 < size; n++)
		dst[n] = src[n] > 32 && src[n] < 127 ? src[n] : '_';
	dst[n] = '\0';
	if (n == 0)
		snprintf(dst, size, "-");
}

static int resolve(struct log_syslog *l, struct err *e)
{
	const struct log_syslog_target *t = &l->target;
	struct addrinfo hints = {.ai_socktype = t->kind == SYSLOG_TCP ? SOCK_STREAM : SOCK_DGRAM},
			*list = NULL;

	if (t->kind == SYSLOG_UNIX) {
		struct sockaddr_un *un = (struct sockaddr_un *)&l->addr;
		un->sun_family = AF_UNIX;
		snprintf(un->sun_path, sizeof(un->sun_path), "%.*s", (int)sizeof(un->sun_path) - 1, t->host);
		l->addr_len = sizeof(*un);
		return 0;
	}
	int r = getaddrinfo(t->host, t->port, &hints, &list);
	if (r != 0)
		return err_set(
			e, -ENOENT, "log driver syslog: cannot resolve %s: %s", t->host, gai_strerror(r));
	memcpy(&l->addr, list->ai_addr, list->ai_addrlen);
	l->addr_len = list->ai_addrlen;
	freeaddrinfo(list);
	return 0;
}

static int set_up(struct log_syslog *l, const struct box *b, struct err *e)
{
	const struct box_log_config *c = &b->config.log;
	const char *address = log_opt(c, "syslog-address"), *facility = log_opt(c, "syslog-facility");
	const char *tag = log_opt(c, "tag");
	CLEANUP_FREE char *tag_text = log_tag(b, tag ? tag : "{{.ID}}");
	char host[HOST_MAX + 1] = "";

	if (log_syslog_parse_target(address ? address : "unix:///dev/log", &l->target) < 0)
		return err_set(e, -EINVAL, "log driver syslog: bad address: %s", address);
	l->facility = facility ? log_syslog_facility(facility) : LOG_DAEMON >> 3;
	gethostname(host, sizeof(host) - 1);
	set_word(l->host, sizeof(l->host), host);
	set_word(l->tag, sizeof(l->tag), tag_text ? tag_text : "");
	if (l->facility < 0)
		return err_set(e, -EINVAL, "log driver syslog: bad facility: %s", facility);
	int r = resolve(l, e);
	if (r < 0)
		return r;
	if (loop_add_timer(l->loop, UINT64_MAX, on_retry, l, &l->retry) < 0 ||
		loop_add_timer(l->loop, UINT64_MAX, on_patience, l, &l->patience) < 0)
		return err_oom(e);
	r = join(l);
	if (r < 0 && l->target.kind == SYSLOG_UNIX) {
		err_sys(e, r, "log driver syslog: cannot reach %s", l->target.host);
		return err_hint(e, "is a syslog daemon running? Another address: --log-opt syslog-address=…");
	}
	if (r < 0)
		loop_set_timer(l->retry, SYSLOG_RETRY_NS);
	return 0;
}

static void release(struct log_syslog *l)
{
	loop_source_free(l->io);
	loop_source_free(l->retry);
	loop_source_free(l->patience);
	close_fd(&l->fd);
	log_lines_done(&l->lines);
	buf_done(&l->queue);
	free(l);
}

int log_syslog_open(struct loop *loop, const struct box *b, loop_fn on_room, void *data,
	struct log_syslog **ret, struct err *e)
{
	struct log_syslog *l = calloc(1, sizeof(*l));

	if (!l)
		return err_oom(e);
	l->loop = loop;
	l->on_room = on_room;
	l->data = data;
	l->fd = -1;
	int r = set_up(l, b, e);
	if (r < 0)
		release(l);
	else
		*ret = l;
	return r;
}

void log_syslog_close(struct log_syslog *l)
{
	if (!l)
		return;
	l->was_full = false; /* nobody waits for room any more */
	log_lines_end(&l->lines, put_line, l);
	uint64_t until = time_mono_ns() + SYSLOG_CLOSE_MS * 1000000ull;
	if (!l->given_up)
		pump(l);
	while (l->fd >= 0 && l->n_queued && !l->given_up && time_mono_ns() < until) {
		struct pollfd p = {.fd = l->fd, .events = POLLOUT};
		if (poll(&p, 1, SYSLOG_CLOSE_MS / 4) <= 0)
			break;
		on_io(l, l->fd, p.revents & POLLERR ? EPOLLERR : p.revents & POLLHUP ? EPOLLHUP : EPOLLOUT);
	}
	if (l->dropped + l->n_queued)
		log_warn("log: %llu messages could not be sent to the syslog server",
			(unsigned long long)(l->dropped + l->n_queued));
	release(l);
}
