/* SPDX-License-Identifier: MIT */
/* The host's resolvers, as in resolv.conf(5), followed as the file changes. */
#ifndef NET_RESOLVCONF_H
#define NET_RESOLVCONF_H

#include <stddef.h>

#include "net/net.h"

#define RESOLVCONF_PATH	   "/etc/resolv.conf"
#define RESOLVCONF_MAX	   (64 << 10)	 /* bytes of the file that count */
#define RESOLVCONF_LOOK_NS 1000000000ull /* how often the file is looked at, at most */

struct resolver { /* ready for connect(2) */
	struct sockaddr_storage addr;
	socklen_t len;
};
struct resolvers {
	struct resolver v[NETD_UPSTREAMS_MAX];
	size_t n;
	unsigned timeout_s; /* of one try; 0: not said */
	unsigned attempts;  /* of each resolver; 0: not said */
	bool rotate;
};
struct resolvconf {
	const char *path; /* RESOLVCONF_PATH; set by tests */
	struct resolvers resolvers;
	uint64_t looked_ns; /* 0: never */
	struct {
		uint64_t dev, ino, size;
		struct timespec mtime, ctime;
	} seen;
};

/* "10.1.2.3", "fd00::1", "fe80::1%eth0": port 53 of it. 0 or -EINVAL. */
int resolver_parse(const char *text, struct resolver *ret);
/* text need not end with NUL. What is not understood is passed over, as everybody does. */
void resolvers_parse(const char *text, size_t len, struct resolvers *ret);
/* Reads the file if it changed. One that cannot be read changes nothing: somebody is about to replace it. */
const struct resolvers *resolvconf_get(struct resolvconf *r);

#endif
