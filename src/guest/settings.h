/* SPDX-License-Identifier: MIT */
/* What a box asks for beyond the ordinary: see struct wire_config. Done by the workload's process before its START. */
#ifndef GUEST_SETTINGS_H
#define GUEST_SETTINGS_H

#include <sys/types.h>

#include "wire/wire.h"

/* Whether any of this is to be done: the start is faster without. */
bool settings_unusual(const struct wire_config *c);

/*
 * Everything that is not rootfs.c's, in the workload's process with the box as root: sysctls, /dev/shm, devices and their rules,
 * mounts. cgroup is the box's; guest_dev PID 1's /dev, open. 0 or -errno with a complete text in `why`.
 */
int settings_apply(const struct wire_config *c, int cgroup, int guest_dev, char *why, size_t size);

/*
 * "net.ipv4.ip_forward=1" as a path below /proc/sys and a value. The string is changed. 0, -EINVAL for what is no
 * setting, -EPERM for one that is not the box's.
 */
int settings_parse_sysctl(char *text, const char **ret_path, const char **ret_value);
/* "/dev/x", "/dev/x:/dev/y", "/dev/x:rwm", "/dev/x:/dev/y:rw", as in Docker. The string is changed. 0 or -EINVAL. */
struct device_map {
	const char *from; /* below /dev */
	const char *to;	  /* absolute */
	uint32_t access;  /* BPF_DEVCG_ACC_* */
};
int settings_parse_device(char *text, struct device_map *ret);

#endif
