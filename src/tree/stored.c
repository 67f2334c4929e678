/* SPDX-License-Identifier: MIT */
#include "tree/stored.h"

#include <errno.h>
#include <limits.h>
#include <linux/limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"

/* Linux's dev_t: 12 bits of major number, 20 of minor (include/linux/kdev_t.h). */
#define MAJOR_MAX 0xfffu
#define MINOR_MAX 0xfffffu

size_t stored_format(char *text, const struct stored_stat *s)
{
	return (size_t)snprintf(text, STORED_TEXT_MAX, "%o %u %u %u:%u", (unsigned)s->mode, (unsigned)s->uid,
		(unsigned)s->gid, (unsigned)s->major, (unsigned)s->minor);
}

/* A number that ends with `end`, or with the text when end is NUL. No sign, no space, no needless zeros: one text per value. */
static int take_number(const char **text, size_t *len, unsigned base, char end, uint32_t max, uint32_t *ret)
{
	const char *p = *text;
	size_t left = *len, digits = 0;
	uint64_t v = 0;

	for (; left && *p >= '0' && *p < (char)('0' + base); p++, left--, digits++) {
		v = v * base + (uint64_t)(*p - '0');
		if (v > max)
			return -EBADMSG;
	}
	if (!digits || (digits > 1 && **text == '0'))
		return -EBADMSG;
	if (end) {
		if (!left || *p != end)
			return -EBADMSG;
		p++, left--;
	} else if (left) {
		return -EBADMSG;
	}
	*text = p;
	*len = left;
	*ret = (uint32_t)v;
	return 0;
}

static bool is_type(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFLNK:
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		return true;
	default:
		return false;
	}
}

int stored_parse(const char *text, size_t len, struct stored_stat *ret)
{
	struct stored_stat s = {0};

	/* UINT32_MAX is chown(2)'s "leave it": no file belongs to it. */
	if (len >= STORED_TEXT_MAX || take_number(&text, &len, 8, ' ', S_IFMT | 07777, &s.mode) < 0 ||
		take_number(&text, &len, 10, ' ', UINT32_MAX - 1, &s.uid) < 0 ||
		take_number(&text, &len, 10, ' ', UINT32_MAX - 1, &s.gid) < 0 ||
		take_number(&text, &len, 10, ':', MAJOR_MAX, &s.major) < 0 ||
		take_number(&text, &len, 10, '\0', MINOR_MAX, &s.minor) < 0)
		return -EBADMSG;
	if (!is_type(s.mode))
		return -EBADMSG;
	*ret = s;
	return 0;
}

mode_t stored_real_mode(uint32_t mode)
{
	mode_t real = (mode & 0777) | S_IRUSR | S_IWUSR;

	/* A link's says nothing: everybody may read it, and nobody else need write to the file that it is here. */
	if (S_ISLNK(mode))
		return 0644;
	return S_ISDIR(mode) ? real | S_IXUSR : real;
}

bool stored_link_refused(int r)
{
	/* Where one attribute has too little room, or all of them together (ENOSPC: a full disk says that of the real link, too). */
	return r == -EOPNOTSUPP || r == -E2BIG || r == -ERANGE || r == -ENOSPC;
}

void stored_default(const struct stat *st, uid_t user, struct stored_stat *ret)
{
	bool device = S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode);

	*ret = (struct stored_stat){.mode = st->st_mode,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.major = device ? major(st->st_rdev) : 0,
		.minor = device ? minor(st->st_rdev) : 0};
	if (user != 0) {
		bool own = st->st_uid == user;
		ret->uid = own ? 0 : STORED_NOBODY;
		ret->gid = own ? 0 : STORED_NOBODY;
	}
}

static bool starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

int stored_xattr_name(const char *name, char *dst)
{
	size_t len = strlen(name);
	size_t skip = starts(name, "user.") ? 0 : strlen(STORED_XATTR);

	if (starts(name, STORED_PREFIX))
		return -EPERM;
	if (len + skip > XATTR_NAME_MAX)
		return -ERANGE;
	memcpy(dst, STORED_XATTR, skip);
	memcpy(dst + skip, name, len + 1);
	return 0;
}

const char *stored_xattr_back(const char *host_name)
{
	if (starts(host_name, STORED_XATTR)) {
		const char *name = host_name + strlen(STORED_XATTR);
		/* What our own prefix hides is never of the namespace that needs none. */
		return *name && !starts(name, "user.") ? name : NULL;
	}
	return starts(host_name, "user.") && !starts(host_name, STORED_PREFIX) ? host_name : NULL;
}
