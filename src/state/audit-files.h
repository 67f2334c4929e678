/* SPDX-License-Identifier: MIT */
/* What the parts of the audit log share (private to this room). */
#ifndef STATE_AUDIT_FILES_H
#define STATE_AUDIT_FILES_H

#include <stdbool.h>

/*
 * The folder, locked for one (LOCK_EX) or for several (LOCK_SH); *ret_lock is closed to unlock. Waits at most some seconds for
 * others. A descriptor; or -errno, -ENOENT for a folder that is not there and not to be made.
 */
int audit_lock(int home_fd, bool create, int operation, int *ret_lock);

#endif
