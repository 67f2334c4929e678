/* SPDX-License-Identifier: MIT */
/* What of /proc and /sys is hidden from the box, and what it can only read. */
#ifndef GUEST_MASK_H
#define GUEST_MASK_H

#include <stddef.h>

enum mask_kind {
	MASK_READ_ONLY,
	MASK_HIDDEN, /* a file is /dev/null instead, a folder is empty */
};

struct mask {
	enum mask_kind kind;
	const char *path; /* below the mount's root */
};

/* Docker's lists. What the kernel does not have is passed over. */
extern const struct mask mask_proc[], mask_sys[];
extern const size_t mask_proc_len, mask_sys_len;

/*
 * Applies a list to a mount whose root is open as `root`, and which belongs to the caller's mount namespace.
 * null_device is an open /dev/null. 0, or -errno with what failed in one line of `what`.
 */
int mask_apply(int root, const struct mask *list, size_t n, int null_device, char *what, size_t size);

#endif
