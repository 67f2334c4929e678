/* SPDX-License-Identifier: MIT */
#ifndef MACHINE_BACKEND_H
#define MACHINE_BACKEND_H

#include "machine/machine.h"

struct machine_ops {
	int (*start)(const struct machine_config *c, struct machine **ret, struct err *e);
	void (*kill)(struct machine *m);
	void (*free)(struct machine *m);
};

/* The part that every backend's machine begins with. */
struct machine {
	const struct machine_ops *ops;
	int end_fd;
	pid_t pid;
};

extern const struct machine_ops machine_qemu_ops;

#endif
