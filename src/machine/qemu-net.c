/* SPDX-License-Identifier: MIT */
/*
 * Loaded into QEMU (LD_PRELOAD) when it has a network device: gives it the connected socket that it inherits.
 *
 * QEMU takes an inherited socket for most of its character devices, but not for a vhost-user network device: that wants
 * one with a path, to which it connects (qmp_chardev_open_socket in chardev/char-socket.c: descriptors cannot be passed
 * over SOCKET_ADDRESS_FD, "TODO"). A QEMU that may connect, however, may connect to whatever its user can reach. So
 * connect(2) and socket(2) stay forbidden to it (jail-seccomp.c), and these stand in for them: a Unix stream socket is a
 * duplicate of the inherited one, and connects to its path, which exists nowhere, by being what it is.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "qemu-net.h"

#define EXPORT __attribute__((visibility("default")))

/* The one that QEMU inherits is there for one connection. */
static bool taken;

EXPORT int socket(int domain, int type, int protocol)
{
	if (taken || domain != AF_UNIX || (type & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) != SOCK_STREAM) {
		errno = EPERM;
		return -1;
	}
	return fcntl(QEMU_NET_FD, type & SOCK_CLOEXEC ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
}

EXPORT int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	const struct sockaddr_un *un = (const struct sockaddr_un *)(const void *)addr;
	const size_t end = offsetof(struct sockaddr_un, sun_path) + sizeof(QEMU_NET_PATH);

	if (taken || len < end || un->sun_family != AF_UNIX ||
		memcmp(un->sun_path, QEMU_NET_PATH, sizeof(QEMU_NET_PATH)) != 0) {
		errno = EPERM;
		return -1;
	}
	taken = true;
	close(QEMU_NET_FD);
	return 0;
}
