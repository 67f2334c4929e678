/* SPDX-License-Identifier: MIT */
#include "control.h"

#include <linux/sockios.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <time.h>

#include "base/io.h"

#define CONNECT_TRIES	100 /* 10 ms apart: the driver is built in, so the first one is expected to work */
#define HOST_TIMEOUT_MS 30000
#define SEND_TIMEOUT_MS 5000
#define DRAIN_TRIES	200 /* 1 ms apart */

static void sleep_ms(long ms)
{
	nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

static int vsock_socket(void)
{
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

int control_connect(void)
{
	struct sockaddr_vm addr = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = WIRE_PORT_CONTROL};
	int err = ENODEV;

	for (int i = 0; i < CONNECT_TRIES; i++) {
		CLEANUP_CLOSE int fd = vsock_socket();

		if (fd >= 0 &&
			(connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 || errno == EINPROGRESS))
			return TAKE_FD(fd);
		err = fd < 0 ? -fd : errno;
		if (err != ENODEV && err != ENETUNREACH && err != EAFNOSUPPORT)
			break;
		sleep_ms(10);
	}
	return -err;
}

static int wait_for(int fd, short events, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = events};
	int n;

	do
		n = poll(&p, 1, timeout_ms);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return n == 0 ? -ETIMEDOUT : 0;
}

int control_send(int fd, const struct buf *frames)
{
	size_t done = 0;

	while (done < frames->len) {
		ssize_t n = send(fd, buf_data(frames) + done, frames->len - done, MSG_NOSIGNAL);
		int r = 0;

		if (n >= 0)
			done += (size_t)n;
		else if (errno == EAGAIN)
			r = wait_for(fd, POLLOUT, SEND_TIMEOUT_MS);
		else if (errno != EINTR)
			r = -errno;
		if (r < 0)
			return r;
	}
	return 0;
}

int control_hello(int fd)
{
	struct utsname uts = {0};
	struct wire_hello hello = {.version = WIRE_VERSION, .release = uts.release};
	CLEANUP(buf_done) struct buf out = {0};
	socklen_t len = sizeof(int);
	int err = 0, r = wait_for(fd, POLLOUT, HOST_TIMEOUT_MS);

	if (r == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		err = errno;
	if (r < 0 || err)
		return r < 0 ? r : -err;
	uname(&uts);
	r = wire_put_hello(&out, &hello);
	return r < 0 ? r : control_send(fd, &out);
}

int control_config(int fd, struct buf *rest, struct wire_config *ret)
{
	struct wire_frame f;
	int r;

	while ((r = wire_next(rest, &f)) == 0) {
		uint8_t *room = buf_reserve(rest, 4096);
		ssize_t n;

		if (!room)
			return -ENOMEM;
		n = recv(fd, room, 4096, 0);
		if (n > 0)
			buf_commit(rest, (size_t)n);
		else if (n == 0)
			return -ECONNRESET;
		else if (errno == EAGAIN)
			r = wait_for(fd, POLLIN, HOST_TIMEOUT_MS);
		else if (errno != EINTR)
			r = -errno;
		if (r < 0)
			return r;
	}
	if (r < 0)
		return r;
	if (f.type != WIRE_CONFIG)
		return -EPROTO;
	r = wire_get_config(&f, ret);
	if (r == 0)
		wire_consume(rest, &f);
	return r;
}

void control_drain(int fd)
{
	for (int i = 0; i < DRAIN_TRIES; i++) {
		int unsent = 0;
		char byte;

		if (ioctl(fd, SIOCOUTQ, &unsent) == 0) {
			if (!unsent)
				return;
		} else if (recv(fd, &byte, 1, 0) == 0) {
			return;
		}
		sleep_ms(1);
	}
}

int control_listen_sessions(void)
{
	struct sockaddr_vm addr = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = WIRE_PORT_SESSION};
	CLEANUP_CLOSE int fd = vsock_socket();

	if (fd < 0)
		return fd;
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 128) < 0)
		return -errno;
	return TAKE_FD(fd);
}
