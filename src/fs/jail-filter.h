/* SPDX-License-Identifier: MIT */
#ifndef FS_JAIL_FILTER_H
#define FS_JAIL_FILTER_H

/* The calling thread, and those that it will start, come under the filter of system calls, for good. 0 or -errno. */
int jail_filter_enter(void);

#endif
