/* SPDX-License-Identifier: MIT */
#include <linux/openat2.h>
#include <string.h>

#include "base/io.h"
#include "inside.h"
#include "tree/stored.h"

int tree_open(int dirfd, const char *name, uint64_t flags, uint64_t resolve)
{
	return io_openat2(dirfd, name, flags, resolve | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
}

static bool starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool tree_xattr_travels(const char *name)
{
	if (starts(name, "user."))
		return !starts(name, STORED_PREFIX);
	return (starts(name, "trusted.") && !starts(name, "trusted.overlay.")) ||
	       strcmp(name, "security.capability") == 0 || strcmp(name, "system.posix_acl_access") == 0 ||
	       strcmp(name, "system.posix_acl_default") == 0;
}
