/* SPDX-License-Identifier: MIT */
/*
 * Who a process runs as: "user[:group]" resolved against the box's own /etc/passwd and /etc/group, with the
 * rules of Docker. Pure functions over the files' content, which is the image's and therefore hostile:
 * any byte may be in it, and a line that is not well formed is as if it were not there.
 */
#ifndef GUEST_USER_H
#define GUEST_USER_H

#include <stddef.h>
#include <sys/types.h>

#include "wire/wire.h"

#define USER_ID_MAX	2147483647u /* as Docker; larger IDs are refused */
#define USER_GROUPS_MAX 65536	    /* NGROUPS_MAX of Linux */

/* Content of the two files; length 0 when a file is missing. */
struct user_files {
	const char *passwd, *group;
	size_t passwd_len, group_len;
};

struct user_ids {
	uid_t uid;
	gid_t gid;
	gid_t *groups; /* supplementary */
	size_t n_groups;
	char *home; /* never NULL; "/" when the files name none */
};
void user_ids_done(struct user_ids *ids);

/*
 * Resolves spec ("" or NULL: root) and the names or GIDs of extra. Returns 0 and fills *ret; or -ENOENT (no
 * such user or group), -ERANGE (number too large), -E2BIG (too many groups), -ENOMEM, with one line in why
 * and nothing in *ret to release.
 */
int user_resolve(const char *spec, const struct strv *extra, const struct user_files *files,
	struct user_ids *ret, char *why, size_t why_size);

#endif
