/* SPDX-License-Identifier: MIT */
#ifndef MACHINE_BACKEND_H
#define MACHINE_BACKEND_H

#include "machine/machine.h"

/* What is NULL, the backend cannot do. */
struct machine_ops {
	int (*start)(struct loop *loop, const struct machine_config *c, struct machine **ret, struct err *e);
	/* After the process is gone: frees the backend's part and m. */
	void (*free)(struct machine *m);
	bool (*status)(struct machine *m, struct machine_status *ret);
	int (*pause)(struct machine *m, bool pause, machine_done_fn fn, void *data);
	int (*stats)(struct machine *m, machine_stats_fn fn, void *data);
	int (*save)(struct machine *m, int state_fd, int mem_fd, machine_done_fn fn, void *data);
	int (*balloon)(struct machine *m, uint64_t bytes, machine_done_fn fn, void *data);
	/* Of a machine that has the device, and a link that there can be; fd is consumed. */
	int (*net_connect)(struct machine *m, unsigned link, int fd, machine_done_fn fn, void *data);
};

/* The part that every backend's machine begins with: a child process that holds the guest. */
struct machine {
	const struct machine_ops *ops;
	struct loop *loop;
	int end_fd; /* pidfd */
	pid_t pid;  /* 0: reaped */
	bool has_net;
	void (*net_gone)(void *data, unsigned link);
	void *net_gone_data;
};

extern const struct machine_ops machine_qemu_ops, machine_kvm_ops;

/* The figures that the kernel keeps of any process. */
int machine_process_stats(const struct machine *m, struct machine_stats *ret);
/* Opens a file that a machine needs. fd, or -errno with e set. */
int machine_open_file(const char *what, const char *path, int flags, struct err *e);

#endif
