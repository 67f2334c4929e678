/* SPDX-License-Identifier: MIT */
/* For tests: what an emulator of user programs (qemu-user) cannot show. */
#ifndef BASE_EMULATOR_H
#define BASE_EMULATOR_H

#include <linux/seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Such an emulator has no filters of system calls, and every kernel that we run on has. */
static inline bool kernel_has_filters(void)
{
	uint32_t action = SECCOMP_RET_KILL_PROCESS;

	return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

/* For a test (cmocka) of what is confined by such filters, or that meets another call that such an emulator has not. */
#define SKIP_IN_EMULATOR() \
	do { \
		if (!kernel_has_filters()) { \
			print_message("# an emulator: no filters of system calls, openat2 or pwritev2\n"); \
			skip(); \
		} \
	} while (0)

#endif
