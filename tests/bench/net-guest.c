/* SPDX-License-Identifier: MIT */
/*
 * The guest's end of the network benchmarks: PID 1 of a bare machine, or a program in a box.
 *
 *     net-guest               serves connections to PORT, one after the other
 *     init (as PID 1)         first gives eth0 the address, gateway and MTU of BENCH_IP, BENCH_GW, BENCH_MTU
 *
 * The first byte of a connection says what it is for:
 *     K   takes bytes to the end, then answers one
 *     S   8 bytes, a number, big endian: sends so many bytes and the end
 *     E   sends back what comes
 *     R   answers one byte and the end
 *     U   takes datagrams to PORT until none has come for a second; answers with their number and the nanoseconds
 *         from the first to the last
 *     C   a line "WHAT ADDRESS PORT COUNT": is the client of another such server (or DNS server: "D ADDRESS NAME
 *         COUNT", "F ADDRESS PORT COUNT" sends datagrams), and answers with the nanoseconds that it took
 */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PORT = 7000, BUF = 256 << 10, DATAGRAM = 18, DNS_TIMEOUT_MS = 5000 };

static char buf[BUF];

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int write_all(int fd, const void *data, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = write(fd, (const char *)data + done, len - done);
		if (n < 0)
			return -1;
		done += (size_t)n;
	}
	return 0;
}

static int read_all(int fd, void *data, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = read(fd, (char *)data + done, len - done);
		if (n <= 0)
			return -1;
		done += (size_t)n;
	}
	return 0;
}

static int send_bytes(int fd, uint64_t n)
{
	for (; n > 0; n -= n < BUF ? n : BUF) {
		if (write_all(fd, buf, n < BUF ? n : BUF) < 0)
			return -1;
	}
	return 0;
}

static void drain(int fd)
{
	while (read(fd, buf, BUF) > 0)
		;
}

static struct sockaddr_in address(const char *ip, int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

	inet_pton(AF_INET, ip, &a.sin_addr);
	return a;
}

static int dial(const char *ip, int port)
{
	struct sockaddr_in a = address(ip, port);
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
		return fd;
	close(fd);
	return -1;
}

/* ---- client ---- */

static int one_byte(int fd, char c)
{
	return write_all(fd, &c, 1) < 0 || read_all(fd, &c, 1) < 0 ? -1 : 0;
}

static int stream(char what, const char *ip, int port, uint64_t count)
{
	int fd = dial(ip, port), r = fd < 0 ? -1 : 0;
	char c = what;

	if (r == 0)
		r = write_all(fd, &c, 1);
	if (r == 0 && what == 'K') {
		r = send_bytes(fd, count);
		shutdown(fd, SHUT_WR);
		if (r == 0)
			r = read_all(fd, &c, 1);
	} else if (r == 0 && what == 'S') {
		uint64_t n = htobe64(count);
		r = write_all(fd, &n, sizeof(n));
		drain(fd);
	} else {
		for (uint64_t i = 0; r == 0 && i < count; i++)
			r = one_byte(fd, 'x');
	}
	if (fd >= 0)
		close(fd);
	return r;
}

static int requests(const char *ip, int port, uint64_t count)
{
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < count; i++) {
		int fd = dial(ip, port);
		r = fd < 0 ? -1 : one_byte(fd, 'R');
		if (fd >= 0)
			close(fd);
	}
	return r;
}

static int flood(const char *ip, int port, uint64_t count)
{
	struct sockaddr_in a = address(ip, port);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	for (uint64_t i = 0; i < count; i++)
		sendto(fd, buf, DATAGRAM, 0, (struct sockaddr *)&a, sizeof(a));
	close(fd);
	return 0;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* A question for the address of a name (RFC 1035 section 4.1). Returns its bytes. */
static size_t question(unsigned char *q, uint16_t id, const char *name)
{
	static const unsigned char head[12] = {0, 0, 1, 0, 0, 1}, tail[5] = {0, 0, 1, 0, 1};
	size_t at = sizeof(head);

	memcpy(q, head, sizeof(head));
	q[0] = (unsigned char)(id >> 8);
	q[1] = (unsigned char)id;
	for (const char *label = name; *label;) {
		size_t len = strcspn(label, ".");
		q[at++] = (unsigned char)len;
		memcpy(q + at, label, len);
		at += len;
		label += len + (label[len] == '.');
	}
	memcpy(q + at, tail, sizeof(tail));
	return at + sizeof(tail);
}

/* The median of so many look-ups, each by a socket of its own as a resolver does it. */
static int lookups(const char *ip, const char *name, uint64_t count, uint64_t *ret_ns)
{
	struct sockaddr_in a = address(ip, 53);
	static uint64_t took[10000];

	if (count == 0 || count > sizeof(took) / sizeof(*took) || strlen(name) > 60)
		return -1;
	for (uint64_t i = 0; i < count; i++) {
		unsigned char q[96], answer[512];
		size_t len = question(q, (uint16_t)i, name);
		uint64_t start = now_ns();
		int fd = socket(AF_INET, SOCK_DGRAM, 0);
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t n = -1;
		if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && write(fd, q, len) == (ssize_t)len &&
			poll(&p, 1, DNS_TIMEOUT_MS) == 1)
			n = read(fd, answer, sizeof(answer));
		close(fd);
		took[i] = now_ns() - start;
		if (n < 12 || memcmp(answer, q, 2) != 0 || answer[3] & 15 || (answer[6] | answer[7]) == 0)
			return -1;
	}
	qsort(took, count, sizeof(*took), by_value);
	*ret_ns = took[count / 2];
	return 0;
}

static void client(int control)
{
	char line[256], where[64], port[64];
	unsigned long long count;
	size_t len = 0;
	char what;

	while (len + 1 < sizeof(line) && read(control, line + len, 1) == 1 && line[len] != '\n')
		len++;
	line[len] = 0;
	if (sscanf(line, " %c %63s %63s %llu", &what, where, port, &count) != 4)
		return;
	uint64_t start = now_ns(), ns = 0;
	int r;
	if (what == 'R')
		r = requests(where, atoi(port), count);
	else if (what == 'F')
		r = flood(where, atoi(port), count);
	else if (what == 'D')
		r = lookups(where, port, count, &ns);
	else
		r = stream(what, where, atoi(port), count);
	if (r < 0)
		dprintf(control, "failed: %s\n", strerror(errno));
	else
		dprintf(control, "%llu\n", (unsigned long long)(ns ? ns : now_ns() - start));
}

/* ---- server ---- */

static void count_datagrams(int control)
{
	struct sockaddr_in a = address("0.0.0.0", PORT);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	uint64_t n = 0, first = 0, last = 0;
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int timeout = 20000;

	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || write_all(control, "u", 1) < 0) {
		close(fd);
		return;
	}
	while (poll(&p, 1, timeout) == 1) {
		while (recv(fd, buf, BUF, MSG_DONTWAIT) >= 0)
			n++;
		last = now_ns();
		if (!first)
			first = last;
		timeout = 1000;
	}
	close(fd);
	dprintf(control, "%llu %llu\n", (unsigned long long)n, (unsigned long long)(last - first));
}

static void serve(int fd)
{
	uint64_t n;
	ssize_t got;
	char what;

	if (read_all(fd, &what, 1) < 0)
		return;
	switch (what) {
	case 'K':
		drain(fd);
		write_all(fd, "k", 1);
		break;
	case 'S':
		if (read_all(fd, &n, sizeof(n)) == 0)
			send_bytes(fd, be64toh(n));
		break;
	case 'E':
		while ((got = read(fd, buf, BUF)) > 0 && write_all(fd, buf, (size_t)got) == 0)
			;
		break;
	case 'R':
		write_all(fd, "r", 1);
		break;
	case 'U':
		count_datagrams(fd);
		break;
	case 'C':
		client(fd);
		break;
	}
}

/* ---- a bare machine's interface ---- */

static void set_address(int fd, const char *name, const char *ip, const char *mask)
{
	struct ifreq r = {0};
	struct sockaddr_in a = address(ip, 0), m = address(mask, 0);

	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
	memcpy(&r.ifr_addr, &a, sizeof(a));
	ioctl(fd, SIOCSIFADDR, &r);
	memcpy(&r.ifr_netmask, &m, sizeof(m));
	ioctl(fd, SIOCSIFNETMASK, &r);
	ioctl(fd, SIOCGIFFLAGS, &r);
	r.ifr_flags |= IFF_UP;
	ioctl(fd, SIOCSIFFLAGS, &r);
}

static void configure(const char *ip, const char *gateway, const char *mtu)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct ifreq r = {.ifr_name = "eth0", .ifr_mtu = atoi(mtu)};
	struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
	struct sockaddr_in to = address("0.0.0.0", 0), by = address(gateway, 0);

	ioctl(fd, SIOCSIFMTU, &r);
	set_address(fd, "lo", "127.0.0.1", "255.0.0.0");
	set_address(fd, "eth0", ip, "255.255.255.0");
	memcpy(&route.rt_dst, &to, sizeof(to));
	memcpy(&route.rt_genmask, &to, sizeof(to));
	memcpy(&route.rt_gateway, &by, sizeof(by));
	ioctl(fd, SIOCADDRT, &route);
	close(fd);
}

int main(void)
{
	const char *ip = getenv("BENCH_IP"), *gateway = getenv("BENCH_GW"), *mtu = getenv("BENCH_MTU");
	struct sockaddr_in a = address("0.0.0.0", PORT);
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	signal(SIGPIPE, SIG_IGN);
	if (ip && gateway && mtu)
		configure(ip, gateway, mtu);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 128) < 0)
		return 1;
	for (;;) {
		int client_fd = accept(fd, NULL, NULL);
		if (client_fd < 0)
			continue;
		setsockopt(client_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		serve(client_fd);
		close(client_fd);
	}
}
