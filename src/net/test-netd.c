/* SPDX-License-Identifier: MIT */
/* The process as its clients see it: attaching, questions, denials, its jail, and its end. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/emulator.h"
#include "base/io.h"
#include "base/sanitized.h"
#include "test-world.h"

#define LIMIT_MS 20000
#define CUSTOM \
	"{\"egress\":[{\"box\":\"box:b0\",\"action\":\"log\"}," \
	"{\"peer\":\"cidr:10.9.0.0/24\",\"ports\":\"80\",\"action\":\"allow\"}]," \
	"\"ingress\":[{\"action\":\"allow\"}]}"

struct netd {
	pid_t pid;
	int fd;	      /* the connection, or -1 */
	char dir[64]; /* of one that listens */
	int dir_fd;
};

/* ---- its process ---- */

static int config_fd(enum net_isolation isolation, const char *policy)
{
	struct netd_config c = {.id = (char[]){"abcdef"},
		.name = (char[]){"test"},
		.gateway4 = world_addr(1, true),
		.gateway6 = world_addr(1, false),
		.isolation = isolation,
		.policy = (char *)(uintptr_t)policy,
		.internal = true};

	assert_int_equal(net_prefix_parse("10.9.0.0/24", &c.subnet4), 0);
	assert_int_equal(net_prefix_parse("fd09::/64", &c.subnet6), 0);
	CLEANUP_FREE char *text = netd_config_text(&c);
	assert_non_null(text);
	int fd = memfd_create("config", MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(io_write_full(fd, text, strlen(text)), 0);
	return fd;
}

static rlim_t descriptors; /* that a netd may have, 0: as many as we */

/* In the child: descriptors 3 to 5, and it runs. */
static void become_netd(int config, int sock, int lock)
{
	int high[3] = {fcntl(config, F_DUPFD, 100), fcntl(sock, F_DUPFD, 100), fcntl(lock, F_DUPFD, 100)};

	for (int i = 0; i < 3; i++) {
		if (high[i] >= 0)
			dup2(high[i], 3 + i);
		else
			close(3 + i);
	}
	for (int fd = 6; fd < 200; fd++)
		close(fd);
	if (descriptors) {
		const struct rlimit l = {descriptors, descriptors};
		setrlimit(RLIMIT_NOFILE, &l);
	}
	_exit(netd_main());
}

static void start_private(struct netd *d)
{
	int s[2], config = config_fd(NET_ISOLATION_NONE, NULL);

	*d = (struct netd){.dir_fd = -1};
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s), 0);
	d->pid = fork();
	assert_true(d->pid >= 0);
	if (d->pid == 0) {
		close(s[0]);
		become_netd(config, s[1], -1);
	}
	close(s[1]);
	close(config);
	d->fd = s[0];
}

static int connect_to(struct netd *d)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/ctl.sock", d->dir_fd);
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		int r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

static void start_listening(struct netd *d, enum net_isolation isolation, const char *policy)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int config = config_fd(isolation, policy), s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	*d = (struct netd){.dir = "/tmp/test-netd-XXXXXX"};
	assert_non_null(mkdtemp(d->dir));
	d->dir_fd = io_open_dir_at(AT_FDCWD, d->dir, false);
	assert_true(d->dir_fd >= 0);
	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/ctl.sock", d->dir_fd);
	assert_int_equal(bind(s, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(s, 64), 0);
	d->pid = fork();
	assert_true(d->pid >= 0);
	if (d->pid == 0) {
		if (fchdir(d->dir_fd) < 0)
			_exit(99);
		become_netd(config, s, config); /* any descriptor will do for the lock */
	}
	close(s);
	close(config);
	d->fd = connect_to(d);
	assert_true(d->fd >= 0);
}

/* Waits for its end; which it is asked for, unless it comes by itself. Returns its status. */
static int finish(struct netd *d, bool ask)
{
	int status;

	close_fd(&d->fd);
	if (ask)
		kill(d->pid, SIGTERM);
	for (int i = 0; waitpid(d->pid, &status, WNOHANG) == 0; i++) {
		assert_in_range(i, 0, LIMIT_MS / 10);
		poll(NULL, 0, 10);
	}
	if (d->dir_fd >= 0) {
		rmdir(d->dir); /* not, if the socket is still there */
		close_fd(&d->dir_fd);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* ---- talking to it ---- */

static void send_message(int fd, const char *text, const int *fds, size_t n)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(NETD_FDS_MAX * sizeof(int))];
	} c = {0};
	struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	if (n) {
		m.msg_control = &c;
		m.msg_controllen = CMSG_SPACE(n * sizeof(int));
		c.h = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS,
			.cmsg_len = CMSG_LEN(n * sizeof(int))};
		memcpy(CMSG_DATA(&c.h), fds, n * sizeof(int));
	}
	assert_int_equal(sendmsg(fd, &m, MSG_NOSIGNAL), strlen(text));
}

/* The next datagram, a text that is valid until the next call; "" at the end. */
static const char *next_message(int fd)
{
	static char buf[NETD_MESSAGE_MAX + 1];
	struct pollfd p = {.fd = fd, .events = POLLIN};

	assert_int_equal(poll(&p, 1, LIMIT_MS), 1);
	ssize_t n = recv(fd, buf, NETD_MESSAGE_MAX, 0);
	buf[n < 0 ? 0 : n] = '\0';
	return buf;
}

static const char *ask(int fd, const char *text)
{
	send_message(fd, text, NULL, 0);
	return next_message(fd);
}

static char *attachment(unsigned i)
{
	char name[16];
	snprintf(name, sizeof(name), "b%u", i);
	const struct netd_attachment a = {.box = name,
		.name = name,
		.mac = {2, 0, 0, 0, 0, (uint8_t)(0x10 + i)},
		.ip4 = world_addr(10 + i, true),
		.ip6 = world_addr(10 + i, false)};

	return netd_attachment_text("attach", &a);
}

/* Returns the box's end of its frames; *ret_answer is valid until the next message. */
static int attach(int fd, unsigned i, const char **ret_answer)
{
	CLEANUP_FREE char *text = attachment(i);
	int s[2];

	assert_non_null(text);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	send_message(fd, text, &s[1], 1);
	close(s[1]);
	*ret_answer = next_message(fd);
	return s[0];
}

static int attached(int fd, unsigned i)
{
	const char *answer;
	int s = attach(fd, i, &answer);

	assert_string_equal(answer, "{\"error\":null}");
	return s;
}

static void send_frame(int s, const struct frame_of *f)
{
	uint8_t raw[4 + VNET_HDR_LEN + 2000] = {0};
	size_t len = VNET_HDR_LEN + frame_make(raw + 4 + VNET_HDR_LEN, f);
	const uint32_t n = htonl((uint32_t)len);

	memcpy(raw, &n, 4);
	assert_int_equal(write(s, raw, 4 + len), 4 + len);
}

static void send_udp(int s, unsigned from, unsigned to, uint16_t port)
{
	const struct frame_of f = {.from = from,
		.dst = world_addr(10 + to, true),
		.proto = IPPROTO_UDP,
		.sport = 4000,
		.dport = port,
		.payload = 9};

	send_frame(s, &f);
}

static bool readable(int s, int ms)
{
	struct pollfd p = {.fd = s, .events = POLLIN};

	return poll(&p, 1, ms) == 1;
}

static struct netd_report report(int fd)
{
	const char *text = ask(fd, "{\"op\":\"inspect\"}");
	struct netd_report r;

	assert_int_equal(netd_report_parse(text, strlen(text), &r), 0);
	return r;
}

/* ---- tests ---- */

static void frames_pass_between_boxes_and_are_counted(void **state)
{
	struct netd d;
	uint8_t got[200];
	const char *answer;

	start_listening(&d, NET_ISOLATION_NONE, NULL);
	int b0 = attached(d.fd, 0), second = connect_to(&d), b1 = attached(second, 1);
	send_udp(b0, 0, 1, 5);
	assert_true(readable(b1, LIMIT_MS));
	assert_int_equal(read(b1, got, sizeof(got)), 4 + VNET_HDR_LEN + 14 + 20 + 8 + 9);
	CLEANUP(netd_report_done) struct netd_report r = report(d.fd);
	assert_int_equal(r.n_boxes, 2);
	assert_string_equal(r.boxes[0].name, "b0");
	assert_int_equal(r.boxes[0].tx_frames, 1);
	assert_int_equal(r.boxes[1].rx_bytes, 14 + 20 + 8 + 9);
	assert_int_equal(r.next, 0);
	/* One attachment a connection, and one box an address. */
	close(attach(second, 2, &answer));
	assert_non_null(strstr(answer, "has a box attached"));
	int third = connect_to(&d);
	CLEANUP_FREE char *text = attachment(1);
	char *other = strstr(text, "\"b1\"");
	other[2] = '9'; /* another box's ID */
	int s[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	send_message(third, text, &s[1], 1);
	assert_non_null(strstr(next_message(third), "another box has its address"));
	/* The same box, by a supervisor that connected anew, takes the place of the one of before. */
	int again = attached(third, 1);
	assert_true(readable(b1, LIMIT_MS));
	assert_int_equal(read(b1, got, 1), 0);
	close(s[0]);
	close(s[1]);
	close(again);
	close(b0);
	close(b1);
	close(second);
	close(third);
	assert_int_equal(finish(&d, true), 0);
}

static void bad_messages_change_nothing(void **state)
{
	static const char *const bad[] = {"", "x", "{}", "{\"op\":\"fly\"}", "[\"op\"]",
		"{\"op\":\"attach\"}", "{\"op\":\"update\"}", "{\"op\":\"inspect\",\"from\":-1}",
		"{\"op\":\"policy\",\"isolation\":\"some\"}"};
	struct netd d;
	static char large[NETD_MESSAGE_MAX + 100];

	start_listening(&d, NET_ISOLATION_NONE, NULL);
	int b0 = attached(d.fd, 0);
	for (size_t i = 1; i < ARRAY_LEN(bad); i++) {
		int c = connect_to(&d);
		assert_non_null(strstr(ask(c, bad[i]), "malformed"));
		assert_string_equal(next_message(c), ""); /* and that was it */
		close(c);
	}
	int c = connect_to(&d);
	memset(large, ' ', sizeof(large) - 1);
	assert_non_null(strstr(ask(c, large), "too large"));
	close(c);
	c = connect_to(&d);
	/* What is well formed and wrong. */
	assert_non_null(strstr(
		ask(c, "{\"op\":\"policy\",\"isolation\":\"custom\",\"policy\":{\"x\":1}}"), "error\":\""));
	assert_non_null(strstr(ask(c, "{\"op\":\"ports\",\"publish\":[\"80/tcp\"]}"), "no box attached"));
	assert_non_null(strstr(ask(d.fd, "{\"op\":\"ports\",\"publish\":[\"80/tcp\"]}"), "descriptors"));
	send_message(d.fd, "{\"op\":\"ports\",\"publish\":[\"80/tcp\"]}", &c, 1);
	assert_non_null(strstr(next_message(d.fd), "no socket of its protocol"));
	send_message(d.fd, "{\"op\":\"inspect\"}", &c, 1);
	assert_non_null(strstr(next_message(d.fd), "descriptors"));
	CLEANUP(netd_report_done) struct netd_report r = report(d.fd);
	assert_int_equal(r.n_boxes, 1);
	close(c);
	close(b0);
	assert_int_equal(finish(&d, true), 0);
}

/* Descriptors that the kernel could not hand over: an error, and the box stays attached. */
static void too_many_descriptors_end_nothing(void **state)
{
	enum { PORTS = 60 };
	char text[PORTS * 12 + 64] = "{\"op\":\"ports\",\"publish\":[";
	const struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fds[PORTS];
	struct netd d;

	descriptors = 40;
	start_listening(&d, NET_ISOLATION_NONE, NULL);
	descriptors = 0;
	int b0 = attached(d.fd, 0);
	for (unsigned i = 0; i < PORTS; i++) {
		fds[i] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		assert_return_code(bind(fds[i], (struct sockaddr *)&any, sizeof(any)), errno);
		strcat(text, i ? ",\"80/udp\"" : "\"80/udp\"");
	}
	strcat(text, "]}");
	for (unsigned i = 0; i < 3; i++) { /* nothing of it is kept */
		send_message(d.fd, text, fds, PORTS);
		assert_non_null(strstr(next_message(d.fd), "no descriptors"));
	}
	send_message(d.fd, "{\"op\":\"ports\",\"publish\":[\"80/udp\"]}", fds, 1);
	assert_string_equal(next_message(d.fd), "{\"error\":null}");
	CLEANUP(netd_report_done) struct netd_report r = report(d.fd);
	assert_int_equal(r.n_boxes, 1);
	for (unsigned i = 0; i < PORTS; i++)
		close(fds[i]);
	close(b0);
	assert_int_equal(finish(&d, true), 0);
}

static void broken_framing_ends_only_that_box(void **state)
{
	struct netd d;
	const char *answer;
	char c;

	start_listening(&d, NET_ISOLATION_NONE, NULL);
	int b0 = attached(d.fd, 0), second = connect_to(&d), b1 = attached(second, 1);
	assert_int_equal(write(b0, "\377\377\377\377....", 8), 8);
	assert_true(readable(b0, LIMIT_MS));
	assert_int_equal(read(b0, &c, 1), 0);
	send_udp(b1, 1, 0, 5);
	CLEANUP(netd_report_done) struct netd_report r = report(d.fd);
	assert_int_equal(r.n_boxes, 1);
	/* The connection is still there, and can attach again. */
	close(b0);
	b0 = attach(d.fd, 0, &answer);
	assert_string_equal(answer, "{\"error\":null}");
	close(b0);
	close(b1);
	close(second);
	assert_int_equal(finish(&d, true), 0);
}

static void denials_are_told_with_measure(void **state)
{
	struct netd d;
	struct netd_denial e;
	uint64_t told = 0, events = 0;

	start_listening(&d, NET_ISOLATION_CUSTOM, CUSTOM);
	int b0 = attached(d.fd, 0), second = connect_to(&d), b1 = attached(second, 1);
	for (unsigned i = 0; i < 300; i++)
		send_udp(b0, 0, 1, 81);
	while (told < 300) {
		const char *text = next_message(d.fd);
		assert_int_equal(netd_denial_parse(text, strlen(text), &e), 0);
		assert_int_equal(e.port, 81);
		assert_int_equal(e.direction, NET_EGRESS);
		assert_int_equal(e.protocol, IPPROTO_UDP);
		if (e.logged) {
			assert_int_equal(e.rule, 0);
		} else {
			assert_int_equal(e.rule, -1);
			told += e.count;
		}
		events++;
	}
	assert_in_range(events, 2, 40);	   /* at once, and what repeats once a second */
	for (uint16_t i = 0; i < 300; i++) /* none like the other */
		send_udp(b0, 0, 1, (uint16_t)(1000 + i));
	CLEANUP(netd_report_done) struct netd_report r = {0};
	do {
		const char *text = ask(d.fd, "{\"op\":\"inspect\"}");
		while (netd_denial_parse(text, strlen(text), &e) == 0) {
			events++;
			text = next_message(d.fd);
		}
		netd_report_done(&r);
		assert_int_equal(netd_report_parse(text, strlen(text), &r), 0);
	} while (r.denied_default < 600);
	assert_int_equal(r.logged[NET_EGRESS][0], 600);
	assert_int_equal(r.boxes[0].denied, 600);
	assert_in_range(events, 2, 100);
	assert_false(readable(b1, 0));
	close(b0);
	close(b1);
	close(second);
	assert_int_equal(finish(&d, true), 0);
}

/* What comes in does not take away from what may be told of what goes out. */
static void each_direction_has_a_measure_of_its_own(void **state)
{
	struct netd d;
	struct netd_denial e;

	start_listening(&d, NET_ISOLATION_CUSTOM,
		"{\"egress\":[{\"ports\":\"2000-2999\",\"action\":\"allow\"}],\"ingress\":[]}");
	int b0 = attached(d.fd, 0), second = connect_to(&d), b1 = attached(second, 1);
	for (uint16_t i = 0; i < 300; i++)
		send_udp(b1, 1, 0, (uint16_t)(2000 + i));
	for (unsigned i = 0; i < NETD_DENIALS_PER_S; i++) {
		const char *text = next_message(d.fd);
		assert_int_equal(netd_denial_parse(text, strlen(text), &e), 0);
		assert_int_equal(e.direction, NET_INGRESS);
	}
	send_udp(b0, 0, 1, 3000);
	do {
		const char *text = next_message(d.fd);
		assert_int_equal(netd_denial_parse(text, strlen(text), &e), 0);
	} while (e.direction != NET_EGRESS);
	assert_int_equal(e.port, 3000);
	close(b0);
	close(b1);
	close(second);
	assert_int_equal(finish(&d, true), 0);
}

static void policy_changes_while_it_runs(void **state)
{
	struct netd d;

	start_listening(&d, NET_ISOLATION_STRICT, NULL);
	int b0 = attached(d.fd, 0), second = connect_to(&d), b1 = attached(second, 1),
	    command = connect_to(&d);
	send_udp(b0, 0, 1, 80);
	assert_false(readable(b1, 200));
	CLEANUP_FREE char *text = netd_policy_text(NET_ISOLATION_CUSTOM, CUSTOM, 5);
	assert_string_equal(ask(command, text), "{\"error\":null}");
	/* Who tells of a change too late changes nothing. */
	CLEANUP_FREE char *late = netd_policy_text(NET_ISOLATION_STRICT, NULL, 4);
	assert_string_equal(ask(command, late), "{\"error\":null}");
	send_udp(b0, 0, 1, 80);
	assert_true(readable(b1, LIMIT_MS));
	/* Another name: "box:b0" is somebody else now. */
	CLEANUP(netd_report_done) struct netd_report r = {0};
	while (next_message(d.fd)[2] != 'e') /* denials of before */
		;
	send_message(d.fd, "{\"op\":\"update\",\"name\":\"new\"}", NULL, 0);
	while (!strstr(next_message(d.fd), "error"))
		;
	r = report(command);
	assert_string_equal(r.boxes[0].name, "new");
	close(b0);
	close(b1);
	close(second);
	close(command);
	assert_int_equal(finish(&d, true), 0);
}

static void another_name_ends_what_it_does_not_allow(void **state)
{
	struct netd d;
	uint8_t got[400];

	start_listening(&d, NET_ISOLATION_CUSTOM,
		"{\"egress\":[{\"box\":\"box:b0\",\"action\":\"allow\"}],\"ingress\":[{\"action\":\"allow\"}]"
		"}");
	int b0 = attached(d.fd, 0), second = connect_to(&d), b1 = attached(second, 1);
	send_udp(b0, 0, 1, 80);
	assert_true(readable(b1, LIMIT_MS));
	assert_true(read(b1, got, sizeof(got)) > 0);
	assert_string_equal(ask(d.fd, "{\"op\":\"update\",\"name\":\"new\"}"), "{\"error\":null}");
	send_udp(b0, 0, 1, 80); /* of the same flow */
	assert_non_null(strstr(next_message(d.fd), "denied"));
	assert_false(readable(b1, 100));
	close(b0);
	close(b1);
	close(second);
	assert_int_equal(finish(&d, true), 0);
}

/* What a live change does must be within the jail, however many names it has. */
static void a_long_policy_is_taken_in_the_jail(void **state)
{
	enum { DOMAINS = 600 };
	CLEANUP(buf_done) struct buf b = {0};
	struct netd d;
	char rule[100];

	start_private(&d);
	int b0 = attached(d.fd, 0);
	buf_append(&b, "{\"egress\":[", 11);
	for (unsigned i = 0; i < DOMAINS; i++) {
		int n = snprintf(rule, sizeof(rule),
			"%s{\"peer\":\"domain:d%u.example.org\",\"action\":\"allow\"}", i ? "," : "",
			i * 7919 % DOMAINS);
		buf_append(&b, rule, (size_t)n);
	}
	buf_append(&b, "]}", 3);
	CLEANUP_FREE char *text = netd_policy_text(NET_ISOLATION_STRICT, (const char *)buf_data(&b), 1);
	assert_string_equal(ask(d.fd, text), "{\"error\":null}");
	/* Whether an address is this host's is asked of the kernel. */
	const struct net_addr outside = {{[10] = 0xff, 0xff, 192, 0, 2, 1}};
	const struct frame_of f = {
		.from = 0, .dst = outside, .proto = IPPROTO_TCP, .sport = 4000, .dport = 9, .flags = TCP_SYN};
	send_frame(b0, &f);
	assert_non_null(strstr(next_message(d.fd), "192.0.2.1"));
	CLEANUP(netd_report_done) struct netd_report r = report(d.fd);
	assert_int_equal(r.n_rules[NET_EGRESS], DOMAINS);
	close(b0);
	assert_int_equal(finish(&d, false), 0);
}

static void it_lingers_and_ends(void **state)
{
	struct netd d;
	struct stat st;
	char c;

	start_listening(&d, NET_ISOLATION_NONE, NULL);
	int b0 = attached(d.fd, 0), idle = connect_to(&d);
	uint64_t before = time_mono_ns();
	(void)ask(idle, "{\"op\":\"inspect\"}"); /* who only asks keeps nothing alive */
	close(b0);
	assert_int_equal(read(idle, &c, 1), 0);
	assert_true(time_mono_ns() - before > NETD_LINGER_NS - 100000000);
	assert_int_equal(fstatat(d.dir_fd, "ctl.sock", &st, 0), -1);
	assert_int_equal(connect_to(&d), -ENOENT);
	close(idle);
	assert_int_equal(finish(&d, false), 0);
}

static void a_signal_ends_it_cleanly(void **state)
{
	struct netd d;

	start_listening(&d, NET_ISOLATION_NONE, NULL);
	int b0 = attached(d.fd, 0);
	assert_int_equal(finish(&d, true), 0);
	assert_int_equal(access(d.dir, F_OK), -1); /* nothing was left in it */
	close(b0);
}

static void it_is_confined(void **state)
{
	struct netd d;
	char path[64];

	start_private(&d);
	int b0 = attached(d.fd, 0);
	snprintf(path, sizeof(path), "/proc/%d/status", (int)d.pid);
	CLEANUP_FREE char *text = NULL;
	size_t len;
	assert_int_equal(io_read_file_at(AT_FDCWD, path, 1 << 16, &text, &len), 0);
	assert_non_null(strstr(text, "NoNewPrivs:\t1"));
	assert_non_null(strstr(text, "CapPrm:\t0000000000000000"));
	assert_non_null(strstr(text, "CapEff:\t0000000000000000"));
	bool filtered = strstr(text, "Seccomp:\t2") != NULL;
	close(b0);
	assert_int_equal(finish(&d, false), 0);
	assert_true(
		filtered || SANITIZED); /* a sanitizer's runtime needs more than the filter lets through */
}

/* Lets the process see a host that has less to confine it with. */
static int refuse(int host)
{
	scmp_filter_ctx ctx = host ? seccomp_init(SCMP_ACT_ALLOW) : NULL;
	int r = 0;

	if (!ctx)
		return host ? -ENOMEM : 0;
	r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(landlock_create_ruleset), 0);
	if (r == 0 && host > 1)
		r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(unshare), 0);
	if (r == 0)
		r = seccomp_load(ctx);
	seccomp_release(ctx);
	return r;
}

/* Every kind and every option that this program uses is let through: else it would end here. */
static bool all_sockets(void)
{
	const struct linger now = {.l_onoff = 1};
	const int on = 1;
	int tcp = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int udp = socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int value;
	socklen_t len = sizeof(value);

	close(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_ICMP));
	close(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_ICMPV6));
	return setsockopt(tcp, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0 &&
	       setsockopt(tcp, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) == 0 &&
	       setsockopt(tcp, SOL_SOCKET, SO_LINGER, &now, sizeof(now)) == 0 &&
	       setsockopt(tcp, IPPROTO_IP, IP_TTL, &on, sizeof(on)) == 0 &&
	       setsockopt(udp, IPPROTO_IPV6, IPV6_RECVERR, &on, sizeof(on)) == 0 &&
	       setsockopt(udp, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on)) == 0 &&
	       getsockopt(tcp, SOL_SOCKET, SO_ERROR, &value, &len) == 0;
}

/* What a box that took it over would try: each in a process of its own, which may end by it. */
static void the_jail_holds(void **state)
{
	enum { TRIALS = 15, HELD = 7, NOT_HELD = 8, WORKED = 9 };
	char folder[] = "/tmp/test-netd-XXXXXX";
	if (SANITIZED)
		skip();
	assert_non_null(mkdtemp(folder));
	CLEANUP_CLOSE int dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_CLOSE int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
	/* As it is here; on a host without Landlock; on one without user namespaces either. */
	for (int round = 0; round < 3 * TRIALS; round++) {
		int trial = round % TRIALS, host = round / TRIALS;
		close(openat(dir, "ctl.sock", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
		pid_t pid = fork();
		if (pid == 0) {
			struct err e;
			int fd = -1, pair[2];
			(void)dup2(quiet, STDERR_FILENO); /* what it warns of is meant */
			if (fchdir(dir) < 0 || refuse(host) < 0 || jail_enter_netd(trial == 14, &e) < 0)
				_exit(NOT_HELD);
			bool reads = open("/etc/hosts", O_RDONLY | O_CLOEXEC) >= 0;
			switch (trial) {
			case 0: /* what it is for */
				fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
				_exit(fd >= 0 && reads == (host < 2) && all_sockets() &&
							socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0,
								pair) == 0
						? WORKED
						: NOT_HELD);
			case 1:
				_exit(open("/proc/self/mem", O_RDONLY | O_CLOEXEC) < 0 ? HELD : NOT_HELD);
			case 2:
				_exit(open("/usr/bin/env", O_RDONLY | O_CLOEXEC) < 0 ? HELD : NOT_HELD);
			case 3:
				fd = open("/tmp/test-netd-new", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
				break;
			case 4:
				execl("/bin/true", "true", (char *)NULL);
				break;
			case 5:
				fd = fork();
				break;
			case 6:
				fd = socket(AF_UNIX, SOCK_STREAM, 0);
				break;
			case 7:
				_exit(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) < 0 ? HELD : NOT_HELD);
			case 8:
				fd = kill(getppid(), 0);
				break;
			case 9:
				fd = mmap(NULL, 4096, PROT_EXEC | PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1,
					     0) != MAP_FAILED;
				break;
			case 10:
				fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);
				break;
			case 11:
				fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDPLITE);
				break;
			case 12:
				fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
				setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", 3);
				break;
			case 13: /* no socket of its own is there */
				unlink("ctl.sock");
				break;
			case 14:
				_exit((unlink("ctl.sock") == 0) == (host < 2) &&
							open("../../usr/bin/env", O_RDONLY | O_CLOEXEC) < 0
						? HELD
						: NOT_HELD);
			}
			_exit(NOT_HELD);
		}
		int status;
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (trial == 0)
			assert_int_equal(WEXITSTATUS(status), WORKED);
		else
			assert_true((WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) ||
				    (WIFEXITED(status) && WEXITSTATUS(status) == HELD));
	}
	(void)unlinkat(dir, "ctl.sock", 0);
	assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
	/* An emulator of user programs has none, and without them the program does not run. */
	if (!kernel_has_filters()) {
		printf("no seccomp here: %s\n", strerror(errno));
		return 77;
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_pass_between_boxes_and_are_counted),
		cmocka_unit_test(bad_messages_change_nothing),
		cmocka_unit_test(too_many_descriptors_end_nothing),
		cmocka_unit_test(broken_framing_ends_only_that_box),
		cmocka_unit_test(denials_are_told_with_measure),
		cmocka_unit_test(each_direction_has_a_measure_of_its_own),
		cmocka_unit_test(policy_changes_while_it_runs),
		cmocka_unit_test(another_name_ends_what_it_does_not_allow),
		cmocka_unit_test(a_long_policy_is_taken_in_the_jail),
		cmocka_unit_test(it_lingers_and_ends),
		cmocka_unit_test(a_signal_ends_it_cleanly),
		cmocka_unit_test(it_is_confined),
		cmocka_unit_test(the_jail_holds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
