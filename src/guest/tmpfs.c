/* SPDX-License-Identifier: MIT */
#include "tmpfs.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "target.h"

static int fail(char *why, size_t size, const char *spec, const char *text)
{
	snprintf(why, size, "tmpfs \"%.200s\": %s", spec, text);
	return -EINVAL;
}

/* Copies the path without empty parts; "." and ".." are refused, which nobody writes on purpose. */
static bool clean_path(const char *from, size_t len, char *to, size_t size)
{
	size_t out = 0;

	if (!len || from[0] != '/' || len >= size)
		return false;
	for (size_t i = 0; i < len;) {
		size_t n = 0;

		while (i < len && from[i] == '/')
			i++;
		while (i + n < len && from[i + n] != '/')
			n++;
		if ((n == 1 && from[i] == '.') || (n == 2 && from[i] == '.' && from[i + 1] == '.'))
			return false;
		if (n) {
			to[out++] = '/';
			memcpy(to + out, from + i, n);
			out += n;
		}
		i += n;
	}
	to[out] = '\0';
	return out > 0;
}

/* A flag of the mount. False if there is none of the name. */
static bool take_flag(const char *name, uint64_t *attributes)
{
	static const struct {
		const char *name;
		uint64_t set, clear;
	} flags[] = {
		{"ro", MOUNT_ATTR_RDONLY, 0},
		{"rw", 0, MOUNT_ATTR_RDONLY},
		{"noexec", MOUNT_ATTR_NOEXEC, 0},
		{"exec", 0, MOUNT_ATTR_NOEXEC},
		{"nosuid", MOUNT_ATTR_NOSUID, 0},
		{"suid", 0, MOUNT_ATTR_NOSUID},
		{"nodev", MOUNT_ATTR_NODEV, 0},
		{"dev", 0, MOUNT_ATTR_NODEV},
		{"noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME},
		{"strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME},
		{"relatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
		{"nodiratime", MOUNT_ATTR_NODIRATIME, 0},
		{"diratime", 0, MOUNT_ATTR_NODIRATIME},
	};

	for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
		if (strcmp(flags[i].name, name) != 0)
			continue;
		*attributes = (*attributes & ~flags[i].clear) | flags[i].set;
		return true;
	}
	return false;
}

/* Whether it is one of the file system's, which go to the kernel as they are. */
static bool is_setting(const char *option, struct tmpfs *t)
{
	static const char *const names[] = {"size=", "nr_blocks=", "nr_inodes=", "mode=", "uid=", "gid="};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		size_t n = strlen(names[i]);

		if (strncmp(option, names[i], n) != 0 || !option[n])
			continue;
		t->has_mode |= i == 3;
		t->has_uid |= i == 4;
		t->has_gid |= i == 5;
		return true;
	}
	return false;
}

int tmpfs_parse(const char *spec, struct tmpfs *ret, char *why, size_t size)
{
	const char *colon = strchrnul(spec, ':');
	struct tmpfs t = {.attributes = MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};
	char text[sizeof(t.options)], *rest = text, *option;
	size_t used = 0;

	if (!clean_path(spec, (size_t)(colon - spec), t.path, sizeof(t.path)))
		return fail(why, size, spec, "an absolute path other than / without \"..\" is wanted");
	if (*colon && (size_t)snprintf(text, sizeof(text), "%s", colon + 1) >= sizeof(text))
		return fail(why, size, spec, "too many options");
	while (*colon && (option = strsep(&rest, ","))) {
		if (take_flag(option, &t.attributes))
			continue;
		if (!is_setting(option, &t)) {
			char bad[300];

			snprintf(bad, sizeof(bad), "unknown option \"%.200s\"", option);
			return fail(why, size, spec, bad);
		}
		/* Never longer than text. */
		used += (size_t)snprintf(
			t.options + used, sizeof(t.options) - used, "%s%s", used ? "," : "", option);
	}
	*ret = t;
	return 0;
}

static int set(int fs, const char *key, const char *value)
{
	return fsconfig(fs, FSCONFIG_SET_STRING, key, value, 0) < 0 ? -errno : 0;
}

static int set_number(int fs, const char *key, unsigned int value)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", value);
	return set(fs, key, text);
}

static int set_mode(int fs, mode_t mode)
{
	char text[16];

	snprintf(text, sizeof(text), "%o", mode & 07777);
	return set(fs, "mode", text);
}

static int set_id(int fs, const char *key, const char *value, uid_t owner)
{
	char *end;
	unsigned long long id = strtoull(value, &end, 10);

	if (value[0] < '0' || value[0] > '9' || *end || id > UINT32_MAX - 1 - owner)
		return -EINVAL;
	return set_number(fs, key, (unsigned int)(id + owner));
}

/* IDs mean the box's, as everywhere in its options. */
static int set_option(int fs, char *option, uid_t owner)
{
	char *value = strchr(option, '=');

	*value++ = '\0';
	if (strcmp(option, "uid") == 0 || strcmp(option, "gid") == 0)
		return set_id(fs, option, value, owner);
	return set(fs, option, value);
}

static int set_options(int fs, const struct tmpfs *t, uid_t owner, const char *spec, char *why, size_t size)
{
	char text[sizeof(t->options)], *rest = text, *option;

	memcpy(text, t->options, sizeof(text));
	while (text[0] && (option = strsep(&rest, ","))) {
		char bad[300];

		snprintf(bad, sizeof(bad), "invalid option \"%.200s\"", option);
		if (set_option(fs, option, owner) < 0)
			return fail(why, size, spec, bad);
	}
	return 0;
}

static int make(
	const struct tmpfs *t, const struct stat *st, uid_t owner, const char *spec, char *why, size_t size)
{
	CLEANUP_CLOSE int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	int r = fs < 0 ? -errno : set(fs, "source", "tmpfs"), fd = -1;

	if (r == 0 && st->st_mode && !t->has_mode)
		r = set_mode(fs, st->st_mode);
	if (r == 0 && owner && !t->has_uid)
		r = set_number(fs, "uid", owner);
	if (r == 0 && owner && !t->has_gid)
		r = set_number(fs, "gid", owner);
	if (r == 0) {
		r = set_options(fs, t, owner, spec, why, size);
		if (r < 0)
			return r;
	}
	if (r == 0 && fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		r = -errno;
	if (r == 0) {
		fd = fsmount(fs, FSMOUNT_CLOEXEC, (unsigned int)t->attributes);
		r = fd < 0 ? -errno : fd;
	}
	return r < 0 ? fail(why, size, spec, strerror(-r)) : r;
}

int tmpfs_mount(const struct tmpfs *t, uid_t owner, const char *spec, char *why, size_t size)
{
	struct stat st;
	CLEANUP_CLOSE int target = target_open(t->path, false, owner, &st);
	CLEANUP_CLOSE int fd = -1;

	if (target < 0)
		return fail(why, size, spec,
			target == -EPERM ? "nothing can be mounted inside /proc" : strerror(-target));
	fd = make(t, &st, owner, spec, why, size);
	if (fd < 0)
		return fd;
	if (move_mount(fd, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return fail(why, size, spec, strerror(errno));
	return 0;
}
