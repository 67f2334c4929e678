/* SPDX-License-Identifier: MIT */
/*
 * The whole engine against Linux's own TCP: a network namespace with a TAP device is the box, another is the host.
 * A thread carries the frames between the device and the port's socket, and loses or exchanges some if told. Needs
 * /dev/net/tun.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/io.h"
#include "tcp.h"

enum { PREFIX = 4, WIRE_MAX = PREFIX + VNET_HDR_LEN + PKT_FRAME_MAX, LIMIT_S = 60, MANY = 1000 };
#define BOX4	"10.87.0.2"
#define GW4	"10.87.0.1"
#define BOX6	"fda3:5b0c::2"
#define ELSE4	"198.51.100.7" /* on the host's loopback (RFC 5737) */
#define NOWHERE "203.0.113.9"  /* no route */

static struct {
	int ns_host, ns_box, tap, link;
	pthread_t engine, bridge;
	struct loop *loop;
	struct engine *g;
	struct port *p;
	struct loop_source *quit;
	int quit_fd;
	atomic_int lose_one_in, swap_one_in; /* 0: none */
	atomic_bool stop, cut;		     /* cut: nothing gets through */
} w;

/* ---- where things are ---- */

static void enter(int ns)
{
	assert_return_code(setns(ns, CLONE_NEWNET), errno);
}

static int box_socket(int family)
{
	enter(w.ns_box);
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	enter(w.ns_host);
	assert_return_code(fd, errno);
	const struct timeval limit = {.tv_sec = LIMIT_S};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	return fd;
}

static int host_socket(int family)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const struct timeval limit = {.tv_sec = LIMIT_S};

	assert_return_code(fd, errno);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	return fd;
}

static socklen_t address(const char *text, uint16_t port, struct sockaddr_storage *ss)
{
	struct net_addr a;

	assert_int_equal(net_addr_parse(text, &a), 0);
	return net_addr_sockaddr(&a, port, ss);
}

static int try_connect(int fd, const char *to, uint16_t port)
{
	struct sockaddr_storage ss;
	socklen_t len = address(to, port, &ss);

	return connect(fd, (struct sockaddr *)&ss, len) < 0 ? -errno : 0;
}

/* Listens; port 0: any. Returns the port. */
static uint16_t listen_on(int fd, const char *at, uint16_t port)
{
	const int on = 1;
	struct sockaddr_storage ss;
	struct net_addr a;
	socklen_t len = address(at, port, &ss);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	assert_return_code(bind(fd, (struct sockaddr *)&ss, len), errno);
	assert_return_code(listen(fd, 4096), errno);
	len = sizeof(ss);
	getsockname(fd, (struct sockaddr *)&ss, &len);
	net_addr_from_sockaddr(&ss, &a, &port);
	return port;
}

static int accept_one(int fd)
{
	int c = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	const struct timeval limit = {.tv_sec = LIMIT_S};

	assert_return_code(c, errno);
	setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(c, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	return c;
}

/* A connection from the box to a server of the host. */
static void pair_out(int *ret_box, int *ret_host)
{
	CLEANUP_CLOSE int l = host_socket(AF_INET);
	uint16_t port = listen_on(l, ELSE4, 0);

	*ret_box = box_socket(AF_INET);
	assert_int_equal(try_connect(*ret_box, ELSE4, port), 0);
	*ret_host = accept_one(l);
}

/* One from the host to a server of the box, by a published port. */
static int publish(const char *at, uint16_t box_port);
static void pair_in(int *ret_box, int *ret_host)
{
	CLEANUP_CLOSE int l = box_socket(AF_INET);
	uint16_t inner = listen_on(l, BOX4, 0);
	int outer = publish("127.0.0.1", inner);

	*ret_host = host_socket(AF_INET);
	assert_int_equal(try_connect(*ret_host, "127.0.0.1", (uint16_t)outer), 0);
	*ret_box = accept_one(l);
}

/* ---- the world ---- */

static void run(const char *cmd)
{
	int status;

	pid_t pid = fork();
	assert_return_code(pid, errno);
	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", cmd, (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (status != 0)
		fail_msg("%s", cmd);
}

static void bridge_send(int fd, const uint8_t *data, size_t len)
{
	assert_int_equal(send(fd, data, len, MSG_NOSIGNAL), (ssize_t)len);
}

static bool chance(atomic_int *one_in)
{
	static uint32_t seed = 1;

	seed = seed * 1664525 + 1013904223;
	return *one_in && (seed >> 8) % (uint32_t)*one_in == 0;
}

struct lane { /* one direction: what is held back goes after the next */
	uint8_t held[WIRE_MAX];
	size_t n_held;
};

static bool deliver(struct lane *l, void (*put)(const uint8_t *, size_t), const uint8_t *frame, size_t len)
{
	if (w.cut || chance(&w.lose_one_in))
		return false;
	if (!l->n_held && chance(&w.swap_one_in)) {
		memcpy(l->held, frame, len);
		l->n_held = len;
		return true;
	}
	put(frame, len);
	if (l->n_held)
		put(l->held, l->n_held);
	l->n_held = 0;
	return true;
}

static void put_tap(const uint8_t *f, size_t len)
{
	/* A full queue of the device loses frames, as a guest does. */
	ssize_t n = write(w.tap, f + PREFIX, len - PREFIX);
	(void)n;
}

static void put_link(const uint8_t *f, size_t len)
{
	bridge_send(w.link, f, len);
}

static void *bridge(void *arg)
{
	static uint8_t from_box[WIRE_MAX], to_box[4 * WIRE_MAX];
	static struct lane in, out;
	size_t have = 0;
	struct pollfd p[2] = {{w.tap, POLLIN, 0}, {w.link, POLLIN, 0}};

	in.n_held = out.n_held = 0;
	while (!w.stop && poll(p, 2, 100) >= 0) {
		ssize_t n;
		for (int i = 0; i < 16; i++) {
			if ((n = read(w.tap, from_box + PREFIX, sizeof(from_box) - PREFIX)) <= 0)
				break;
			uint32_t len = htonl((uint32_t)n);
			memcpy(from_box, &len, PREFIX);
			deliver(&out, put_link, from_box, PREFIX + (size_t)n);
		}
		if (!(p[1].revents & POLLIN))
			continue;
		n = recv(w.link, to_box + have, sizeof(to_box) - have, MSG_DONTWAIT);
		if (n == 0)
			break;
		have += n > 0 ? (size_t)n : 0;
		size_t at = 0;
		for (uint32_t len; have - at >= PREFIX; at += PREFIX + len) {
			memcpy(&len, to_box + at, PREFIX);
			len = ntohl(len);
			if (have - at < PREFIX + len)
				break;
			deliver(&in, put_tap, to_box + at, PREFIX + len);
		}
		memmove(to_box, to_box + at, have - at);
		have -= at;
	}
	return NULL;
}

static void on_gone(void *data)
{
}

static void on_quit(void *data, int fd, uint32_t events)
{
	loop_quit(w.loop, 0);
}

static void *engine_thread(void *arg)
{
	assert_int_equal(loop_allow_calls(w.loop), 0);
	atomic_store(&w.stop, false);
	loop_run(w.loop);
	return NULL;
}

static void open_tap(void)
{
	struct ifreq r = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, .ifr_name = "box0"};
	const int len = VNET_HDR_LEN;

	w.tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	assert_return_code(w.tap, errno);
	assert_return_code(ioctl(w.tap, TUNSETIFF, &r), errno);
	assert_return_code(ioctl(w.tap, TUNSETVNETHDRSZ, &len), errno);
	assert_return_code(ioctl(w.tap, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6), errno);
	run("ip link set lo up && ip link set box0 address 02:00:00:00:00:02 mtu 65520 txqueuelen 10000 up "
	    "&& "
	    "ip addr add " BOX4 "/24 dev box0 && ip addr add " BOX6 "/64 dev box0 nodad && "
	    "ip route add default via " GW4);
}

static int new_netns(void)
{
	assert_return_code(unshare(CLONE_NEWNET), errno);
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_return_code(fd, errno);
	return fd;
}

static int set_up(void **state)
{
	struct rlimit files = {1 << 16, 1 << 16};
	struct netd_config c = {.id = str_dup("test"), .name = str_dup("test"), .host_loopback = true};
	struct netd_attachment a = {.box = str_dup("b"),
		.name = str_dup("b"),
		.hostname = str_dup("b"),
		.mac = {2, 0, 0, 0, 0, 2}};
	int s[2];

	if (setrlimit(RLIMIT_NOFILE, &files) < 0) {
		getrlimit(RLIMIT_NOFILE, &files);
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	w.ns_box = new_netns();
	open_tap();
	w.ns_host = new_netns();
	run("ip link set lo up && ip addr add " ELSE4 "/32 dev lo");
	assert_int_equal(net_prefix_parse("10.87.0.0/24", &c.subnet4), 0);
	assert_int_equal(net_prefix_parse("fda3:5b0c::/64", &c.subnet6), 0);
	assert_int_equal(net_addr_parse(GW4, &c.gateway4), 0);
	assert_int_equal(net_addr_parse("fda3:5b0c::1", &c.gateway6), 0);
	assert_int_equal(net_addr_parse(BOX4, &a.ip4), 0);
	assert_int_equal(net_addr_parse(BOX6, &a.ip6), 0);
	assert_int_equal(loop_new(&w.loop), 0);
	assert_int_equal(engine_new(w.loop, &c, &w.g, NULL), 0);
	assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), errno);
	w.link = s[0];
	assert_int_equal(port_new(w.g, &a, s[1], on_gone, NULL, &w.p), 0);
	int q[2];
	assert_return_code(pipe2(q, O_CLOEXEC), errno);
	w.quit_fd = q[1];
	assert_int_equal(loop_add_io(w.loop, q[0], EPOLLIN, on_quit, NULL, &w.quit), 0);
	atomic_store(&w.stop, true);
	assert_int_equal(pthread_create(&w.engine, NULL, engine_thread, NULL), 0);
	while (atomic_load(&w.stop)) /* loop_call is good from then on */
		sched_yield();
	assert_int_equal(pthread_create(&w.bridge, NULL, bridge, NULL), 0);
	return 0;
}

static int tear_down(void **state)
{
	assert_int_equal(write(w.quit_fd, "", 1), 1);
	pthread_join(w.engine, NULL);
	w.stop = true;
	pthread_join(w.bridge, NULL);
	engine_free(w.g);
	loop_free(w.loop);
	close(w.link);
	close(w.tap);
	close(w.quit_fd);
	close(w.ns_box);
	close(w.ns_host);
	return 0;
}

struct published {
	int fd;
	uint16_t box_port;
	int result;
};

static void do_publish(void *data)
{
	struct published *p = data;

	p->result = tcp_publish(w.p, p->box_port, p->fd);
}

static int publish(const char *at, uint16_t box_port)
{
	struct published p = {.fd = host_socket(strchr(at, ':') ? AF_INET6 : AF_INET), .box_port = box_port};
	uint16_t port = listen_on(p.fd, at, 0);

	loop_call(w.loop, do_publish, &p);
	assert_int_equal(p.result, 0);
	return port;
}

struct figures {
	unsigned conns, all;
	size_t memory;
};

static void do_count(void *data)
{
	struct figures *f = data;

	*f = (struct figures){w.p->n_conns, (unsigned)w.g->tcp->n_all, w.g->tcp->pool.used};
}

/* Nothing is left of any connection. */
static int check_clean(void **state)
{
	struct figures f = {0};

	w.lose_one_in = w.swap_one_in = 0;
	w.cut = false;
	for (int i = 0; i < 2000; i++) {
		loop_call(w.loop, do_count, &f);
		if (!f.conns && !f.memory)
			return 0;
		poll(NULL, 0, 5);
	}
	fail_msg("%u connections, %zu bytes are left", f.conns, f.memory);
	return -1;
}

/* ---- streams ---- */

/* Bytes of a stream by their place in it, so that neither loss nor exchange goes unseen. */
static void pattern(uint8_t *buf, uint64_t at, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		uint64_t x = (at + i) / 8 * 0x9e3779b97f4a7c15ull;
		buf[i] = (uint8_t)(x >> ((at + i) % 8 * 8));
	}
}

struct stream {
	int fd;
	uint64_t len;
	unsigned delay_ms; /* before the reader reads */
	uint64_t done;
	bool good;
	pthread_t thread;
};

enum { CHUNK = 256 << 10 };

static void *writer(void *arg)
{
	struct stream *s = arg;
	CLEANUP_FREE uint8_t *buf = malloc(CHUNK);

	for (s->good = true; s->good && s->done < s->len;) {
		size_t n = MIN_OF(s->len - s->done, (uint64_t)CHUNK);
		pattern(buf, s->done, n);
		s->good = io_write_full(s->fd, buf, n) == 0;
		s->done += n;
	}
	shutdown(s->fd, SHUT_WR);
	return NULL;
}

static void *reader(void *arg)
{
	struct stream *s = arg;
	CLEANUP_FREE uint8_t *buf = malloc(CHUNK), *want = malloc(CHUNK);

	poll(NULL, 0, (int)s->delay_ms);
	for (s->good = true; s->good;) {
		ssize_t n = read(s->fd, buf, CHUNK);
		if (n <= 0) {
			s->good = n == 0 && s->done == s->len;
			break;
		}
		pattern(want, s->done, (size_t)n);
		s->good = memcmp(buf, want, (size_t)n) == 0;
		s->done += (uint64_t)n;
	}
	return NULL;
}

/* Both ways at once, whole and to their ends. */
static void check_streams(int a, int b, uint64_t a_to_b, uint64_t b_to_a, unsigned delay_ms)
{
	struct stream s[4] = {{.fd = a, .len = a_to_b}, {.fd = b, .len = a_to_b, .delay_ms = delay_ms},
		{.fd = b, .len = b_to_a}, {.fd = a, .len = b_to_a, .delay_ms = delay_ms}};

	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&s[i].thread, NULL, i % 2 ? reader : writer, &s[i]), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(s[i].thread, NULL);
	for (int i = 0; i < 4; i++) {
		if (!s[i].good)
			fail_msg("stream %d ended after %llu bytes of %llu", i, (unsigned long long)s[i].done,
				(unsigned long long)s[i].len);
	}
}

/* ---- tests ---- */

static void test_bulk(void **state)
{
	CLEANUP_CLOSE int box = -1, host = -1, box2 = -1, host2 = -1;

	pair_out(&box, &host);
	check_streams(box, host, 48 << 20, 48 << 20, 0);
	pair_in(&box2, &host2);
	check_streams(box2, host2, 5, 16 << 20, 0);
}

static void test_half_close(void **state)
{
	for (int i = 0; i < 4; i++) {
		CLEANUP_CLOSE int box = -1, host = -1;
		char buf[8];
		if (i & 1)
			pair_in(&box, &host);
		else
			pair_out(&box, &host);
		int *first = i & 2 ? &box : &host, *second = i & 2 ? &host : &box;
		assert_int_equal(write(*first, "ask", 3), 3);
		shutdown(*first, SHUT_WR);
		assert_int_equal(io_read_full(*second, buf, sizeof(buf)), 3);
		assert_int_equal(write(*second, "answer", 6), 6);
		assert_int_equal(recv(*first, buf, 6, MSG_WAITALL), 6);
		assert_int_equal(write(*second, "!", 1), 1);
		close_fd(second);
		assert_int_equal(io_read_full(*first, buf, sizeof(buf)), 1);
	}
}

static void reset(int fd)
{
	const struct linger now = {.l_onoff = 1};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

static void test_reset(void **state)
{
	for (int i = 0; i < 4; i++) {
		int box, host;
		char c;
		if (i & 1)
			pair_in(&box, &host);
		else
			pair_out(&box, &host);
		reset(i & 2 ? box : host);
		CLEANUP_CLOSE int other = i & 2 ? host : box;
		assert_int_equal(read(other, &c, 1), -1);
		assert_int_equal(errno, ECONNRESET);
	}
}

static void test_failure(void **state)
{
	CLEANUP_CLOSE int l = host_socket(AF_INET);
	uint16_t port = listen_on(l, ELSE4, 0);

	close_fd(&l);
	CLEANUP_CLOSE int refused = box_socket(AF_INET);
	assert_int_equal(try_connect(refused, ELSE4, port), -ECONNREFUSED);
	CLEANUP_CLOSE int lost = box_socket(AF_INET);
	assert_int_equal(try_connect(lost, NOWHERE, 80), -ENETUNREACH);
}

/* A client that comes before the service does is held; when it was there once, refused. */
static void test_held(void **state)
{
	CLEANUP_CLOSE int l = box_socket(AF_INET), early = host_socket(AF_INET),
			  early6 = host_socket(AF_INET6);
	uint16_t inner = listen_on(l, BOX4, 0);
	char c;

	close_fd(&l);
	int outer = publish("127.0.0.1", inner), outer6 = publish("::1", inner);
	assert_int_equal(try_connect(early, "127.0.0.1", (uint16_t)outer), 0);
	assert_int_equal(try_connect(early6, "::1", (uint16_t)outer6), 0);
	assert_int_equal(write(early, "x", 1), 1);
	poll(NULL, 0, 250);
	l = box_socket(AF_INET);
	listen_on(l, "0.0.0.0", inner); /* serves IPv4 only: the other client reaches it all the same */
	for (int i = 0; i < 2; i++) {
		CLEANUP_CLOSE int served = accept_one(l);
		assert_int_equal(write(served, "y", 1), 1);
	}
	assert_int_equal(read(early, &c, 1), 1);
	assert_int_equal(read(early6, &c, 1), 1);
	close_fd(&l);
	CLEANUP_CLOSE int late = host_socket(AF_INET);
	assert_int_equal(try_connect(late, "127.0.0.1", (uint16_t)outer), 0);
	assert_int_equal(read(late, &c, 1), -1);
	assert_int_equal(errno, ECONNRESET);
}

/* Readers that do not read: the windows close, and open again. */
static void test_zero_window(void **state)
{
	CLEANUP_CLOSE int box = -1, host = -1;
	const int small = 16 << 10;

	pair_out(&box, &host);
	setsockopt(box, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	setsockopt(host, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	check_streams(box, host, 8 << 20, 8 << 20, 700);
}

static void test_small_segments(void **state)
{
	CLEANUP_CLOSE int l = host_socket(AF_INET), box = box_socket(AF_INET);
	uint16_t port = listen_on(l, ELSE4, 0);
	const int mss = 1400;

	setsockopt(box, IPPROTO_TCP, TCP_MAXSEG, &mss, sizeof(mss));
	assert_int_equal(try_connect(box, ELSE4, port), 0);
	CLEANUP_CLOSE int host = accept_one(l);
	check_streams(box, host, 8 << 20, 8 << 20, 0);
}

/* From the box nothing is ever lost but by its own doing: it is repaired, with Linux's patience. */
static void test_loss(void **state)
{
	CLEANUP_CLOSE int box = -1, host = -1, box2 = -1, host2 = -1;

	pair_out(&box, &host);
	pair_in(&box2, &host2);
	w.swap_one_in = 40;
	w.lose_one_in = 40;
	check_streams(box, host, 0, 8 << 20, 0);
	w.swap_one_in = 0;
	w.lose_one_in = 100;
	check_streams(box2, host2, 4 << 20, 0, 0);
}

static void test_interruption(void **state)
{
	CLEANUP_CLOSE int box = -1, host = -1;
	char c;

	pair_out(&box, &host);
	w.cut = true;
	assert_int_equal(write(host, "x", 1), 1);
	poll(NULL, 0, 700);
	w.cut = false;
	assert_int_equal(read(box, &c, 1), 1);
}

static unsigned count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void test_many(void **state)
{
	static int box[MANY], host[MANY];
	CLEANUP_CLOSE int inner = box_socket(AF_INET), outer = host_socket(AF_INET);
	uint16_t box_port = listen_on(inner, BOX4, 0), host_port = listen_on(outer, ELSE4, 0);
	int published = publish("127.0.0.1", box_port);
	unsigned fds = count_fds();
	struct figures f;

	for (int i = 0; i < MANY; i++) {
		bool in = i % 2;
		box[i] = in ? -1 : box_socket(AF_INET);
		host[i] = in ? host_socket(AF_INET) : -1;
		assert_int_equal(in ? try_connect(host[i], "127.0.0.1", (uint16_t)published)
				    : try_connect(box[i], ELSE4, host_port),
			0);
		*(in ? &box[i] : &host[i]) = accept_one(in ? inner : outer);
	}
	loop_call(w.loop, do_count, &f);
	assert_int_equal(f.conns, MANY);
	assert_int_equal(f.memory, 0);
	for (int i = 0; i < MANY; i++)
		assert_int_equal(write(host[i], &i, sizeof(i)), sizeof(i));
	for (int i = 0; i < MANY; i++) {
		int got;
		assert_int_equal(recv(box[i], &got, sizeof(got), MSG_WAITALL), sizeof(got));
		assert_int_equal(got, i);
		close(box[i]);
		close(host[i]);
	}
	check_clean(state);
	assert_int_equal(count_fds(), fds);
	/* Of those that waited in TIME_WAIT nothing is left either. */
	for (int i = 0; i < 500; i++) {
		loop_call(w.loop, do_count, &f);
		if (f.all == 0)
			break;
		poll(NULL, 0, 10);
	}
	assert_int_equal(f.all, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_bulk, check_clean),
		cmocka_unit_test_teardown(test_half_close, check_clean),
		cmocka_unit_test_teardown(test_reset, check_clean),
		cmocka_unit_test_teardown(test_failure, check_clean),
		cmocka_unit_test_teardown(test_held, check_clean),
		cmocka_unit_test_teardown(test_zero_window, check_clean),
		cmocka_unit_test_teardown(test_small_segments, check_clean),
		cmocka_unit_test_teardown(test_loss, check_clean),
		cmocka_unit_test_teardown(test_interruption, check_clean),
		cmocka_unit_test_teardown(test_many, check_clean),
	};

	if (geteuid() != 0 || access("/dev/net/tun", R_OK | W_OK) < 0) {
		printf("1..1\nok 1 - all # SKIP no TUN device for us to use\n");
		return 0;
	}
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
