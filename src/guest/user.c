/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * Docker's rules, which users rely on:
 * - A user is found by name or, written as a number, by UID; the first line that matches counts.
 * - A number that no line has is taken as it is, with group 0. A name that no line has is an error.
 * - With ":group" that group is the primary one and /etc/group gives no supplementary groups; without, all
 *   groups that list the user's name are supplementary.
 * One difference: a line whose IDs are not numbers is skipped, whereas Docker reads them as 0, that is, root.
 */
#include "user.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct span {
	const char *p;
	size_t n;
};

static bool span_eq(struct span s, const char *str, size_t len)
{
	return s.n == len && memcmp(s.p, str, len) == 0;
}

/* Takes what is before the next sep (or all) off *rest. False when nothing is left. */
static bool span_split(struct span *rest, char sep, struct span *ret)
{
	const char *end;

	if (!rest->p)
		return false;
	end = rest->n ? memchr(rest->p, sep, rest->n) : NULL;
	*ret = (struct span){rest->p, end ? (size_t)(end - rest->p) : rest->n};
	if (end)
		*rest = (struct span){end + 1, rest->n - ret->n - 1};
	else
		*rest = (struct span){NULL, 0};
	return true;
}

/* A decimal number and nothing else. 0, -EINVAL (not a number) or -ERANGE. */
static int span_id(struct span s, uint32_t *ret)
{
	uint64_t v = 0;

	if (!s.n)
		return -EINVAL;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return -EINVAL;
		if (v <= USER_ID_MAX)
			v = v * 10 + (uint64_t)(s.p[i] - '0');
	}
	if (v > USER_ID_MAX)
		return -ERANGE;
	*ret = (uint32_t)v;
	return 0;
}

/* Next line with n fields at least; NULs make a line unusable, because names end up in C strings. */
static bool next_record(struct span *text, struct span *fields, size_t n, size_t n_min)
{
	struct span line;

	while (span_split(text, '\n', &line)) {
		size_t i = 0;

		if (!line.n || memchr(line.p, '\0', line.n))
			continue;
		while (i < n && span_split(&line, ':', &fields[i]))
			i++;
		if (i < n_min)
			continue;
		for (; i < n; i++)
			fields[i] = (struct span){"", 0};
		return true;
	}
	return false;
}

struct passwd_entry {
	struct span name, home;
	uint32_t uid, gid;
};

static bool next_passwd(struct span *text, struct passwd_entry *e)
{
	struct span f[6];

	while (next_record(text, f, 6, 4)) {
		if (!f[0].n || span_id(f[2], &e->uid) < 0 || span_id(f[3], &e->gid) < 0)
			continue;
		e->name = f[0];
		e->home = f[5];
		return true;
	}
	return false;
}

struct group_entry {
	struct span name, members;
	uint32_t gid;
};

static bool next_group(struct span *text, struct group_entry *e)
{
	struct span f[4];

	while (next_record(text, f, 4, 3)) {
		if (!f[0].n || span_id(f[2], &e->gid) < 0)
			continue;
		e->name = f[0];
		e->members = f[3];
		return true;
	}
	return false;
}

static bool group_has(const struct group_entry *e, struct span user)
{
	struct span rest = e->members, member;

	while (span_split(&rest, ',', &member))
		if (member.n && span_eq(member, user.p, user.n))
			return true;
	return false;
}

/* Finds a user by name or number; want.n == 0 means UID 0. */
static bool find_user(const struct user_files *files, struct span want, struct passwd_entry *ret)
{
	struct span text = {files->passwd, files->passwd_len};
	uint32_t id = 0;
	bool numeric = !want.n || span_id(want, &id) == 0;

	while (next_passwd(&text, ret))
		if ((want.n && span_eq(ret->name, want.p, want.n)) || (numeric && ret->uid == id))
			return true;
	return false;
}

/* GID of a group given by name or number. 0, -ENOENT or -ERANGE. */
static int find_group(
	const struct user_files *files, struct span want, gid_t *ret, char *why, size_t why_size)
{
	struct span text = {files->group, files->group_len};
	struct group_entry e;
	uint32_t id = 0;
	int r = span_id(want, &id);

	while (next_group(&text, &e)) {
		if (span_eq(e.name, want.p, want.n) || (r == 0 && e.gid == id)) {
			*ret = e.gid;
			return 0;
		}
	}
	if (r == 0) {
		*ret = id;
		return 0;
	}
	if (r == -ERANGE) {
		snprintf(why, why_size, "uids and gids must be in range 0-%u", USER_ID_MAX);
		return r;
	}
	snprintf(why, why_size, "unable to find group %.*s: no matching entries in group file",
		(int)MIN_OF(want.n, 256), want.p);
	return -ENOENT;
}

static int add_group(struct user_ids *ids, gid_t gid, char *why, size_t why_size)
{
	/* Powers of two: grown whenever the count reaches one. */
	if ((ids->n_groups & (ids->n_groups - 1)) == 0) {
		gid_t *p = realloc(ids->groups, (ids->n_groups ? ids->n_groups * 2 : 1) * sizeof(*p));

		if (!p) {
			snprintf(why, why_size, "out of memory");
			return -ENOMEM;
		}
		ids->groups = p;
	}
	if (ids->n_groups == USER_GROUPS_MAX) {
		snprintf(why, why_size, "more than %d supplementary groups", USER_GROUPS_MAX);
		return -E2BIG;
	}
	ids->groups[ids->n_groups++] = gid;
	return 0;
}

static int add_memberships(
	const struct user_files *files, struct span user, struct user_ids *ids, char *why, size_t why_size)
{
	struct span text = {files->group, files->group_len};
	struct group_entry e;

	while (next_group(&text, &e)) {
		int r = group_has(&e, user) ? add_group(ids, e.gid, why, why_size) : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

/* Fills UID, GID and home from the user part of the specification; *ret_name is the name in passwd, if any.
 */
static int resolve_user(const struct user_files *files, struct span user, struct user_ids *ids,
	struct span *ret_name, char *why, size_t why_size)
{
	struct passwd_entry e;
	struct span home = {"/", 1};
	uint32_t id = 0;
	int r;

	if (find_user(files, user, &e)) {
		ids->uid = e.uid;
		ids->gid = e.gid;
		*ret_name = e.name;
		if (e.home.n)
			home = e.home;
	} else if (user.n) {
		r = span_id(user, &id);
		if (r == -ERANGE) {
			snprintf(why, why_size, "uids and gids must be in range 0-%u", USER_ID_MAX);
			return r;
		}
		if (r < 0) {
			snprintf(why, why_size,
				"unable to find user %.*s: no matching entries in passwd file",
				(int)MIN_OF(user.n, 256), user.p);
			return -ENOENT;
		}
		ids->uid = id;
	}
	ids->home = strndup(home.p, home.n);
	if (!ids->home) {
		snprintf(why, why_size, "out of memory");
		return -ENOMEM;
	}
	return 0;
}

int user_resolve(const char *spec, const struct strv *extra, const struct user_files *files,
	struct user_ids *ret, char *why, size_t why_size)
{
	struct span rest = {spec ? spec : "", spec ? strlen(spec) : 0}, user = {"", 0}, group = {"", 0},
		    name = {"", 0};
	struct user_ids ids = {0};
	int r;

	span_split(&rest, ':', &user);
	if (rest.p)
		group = rest;
	r = resolve_user(files, user, &ids, &name, why, why_size);
	if (r == 0 && group.n)
		r = find_group(files, group, &ids.gid, why, why_size);
	else if (r == 0 && name.n)
		r = add_memberships(files, name, &ids, why, why_size);
	for (size_t i = 0; r == 0 && extra && i < extra->n; i++) {
		gid_t gid = 0;

		r = find_group(files, (struct span){extra->v[i], strlen(extra->v[i])}, &gid, why, why_size);
		if (r == 0)
			r = add_group(&ids, gid, why, why_size);
	}
	if (r < 0) {
		user_ids_done(&ids);
		return r;
	}
	*ret = ids;
	return 0;
}

void user_ids_done(struct user_ids *ids)
{
	free(ids->groups);
	free(ids->home);
	*ids = (struct user_ids){0};
}
