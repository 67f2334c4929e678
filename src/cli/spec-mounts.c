/* SPDX-License-Identifier: MIT */
/*
 * What is mounted in a box: -v, --mount, --volumes-from, and the image's VOLUME. --tmpfs is spec-security.c's.
 *
 * -v is [SOURCE:]TARGET[:OPTIONS]: an absolute source, or one that begins with a dot, is a path of this host, any other one is
 * a volume's name. --mount is a line of comma-separated values (RFC 4180), as in Docker. Of several that have one target,
 * those given win over those of --volumes-from, and these over the image's; two that were given are an error.
 */
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/path.h"
#include "base/units.h"
#include "box/volume.h"
#include "spec.h"

#define SUBPATH_MAX 4096

/* ---- paths ---- */

static bool is_below(const char *path, const char *folder)
{
	size_t n = strlen(folder);
	return strncmp(path, folder, n) == 0 && path[n] == '/';
}

/* Cleans it in place. what: the option with its value, for the error. */
static int check_target(char *target, const char *what, struct err *e)
{
	static const char *const own[] = {"/proc", "/sys", "/dev"};

	if (target[0] != '/')
		return err_set(e, -EINVAL, "%s: \"%s\" is not an absolute path of the box", what, target);
	if (strlen(target) >= PATH_MAX)
		return err_set(e, -ENAMETOOLONG, "%s: the target is too long", what);
	path_clean(target, target);
	if (strcmp(target, "/") == 0)
		return err_set(e, -EINVAL, "%s: nothing can be mounted on the box's /", what);
	for (size_t i = 0; i < ARRAY_LEN(own); i++) {
		if (strcmp(target, own[i]) == 0) {
			err_set(e, -EINVAL, "%s: %s is made by the box's own kernel", what, own[i]);
			return err_hint(e, "mount it somewhere else in the box");
		}
	}
	return is_below(target, "/proc")
		       ? err_set(e, -EINVAL, "%s: nothing can be mounted inside /proc", what)
		       : 0;
}

/* "./x", "../x", "." and ".." from here; anything else as it is. malloc'd. */
static int host_path(const char *s, const char *what, char **ret, struct err *e)
{
	CLEANUP_FREE char *here = s[0] == '.' ? getcwd(NULL, 0) : NULL;

	if (s[0] == '.' && !here)
		return err_sys(e, -errno, "%s: cannot find out the working folder", what);
	char *path = here ? str_printf("%s/%s", here, s) : strdup(s);
	if (!path)
		return err_oom(e);
	if (strlen(path) >= PATH_MAX) {
		free(path);
		return err_set(e, -ENAMETOOLONG, "%s: the source is too long", what);
	}
	/* ".." is not taken away where a link may stand before it: the source is opened as it is meant. */
	if (here && !strstr(s, ".."))
		path_clean(path, path);
	*ret = path;
	return 0;
}

static bool is_dots(const char *s)
{
	return s[0] == '.' && (s[1] == '\0' || s[1] == '/' || (s[1] == '.' && (s[2] == '\0' || s[2] == '/')));
}

/* ---- the box's list ---- */

static bool has_target(const struct box_config *c, const char *target)
{
	for (size_t i = 0; i < c->n_mounts; i++) {
		if (strcmp(c->mounts[i].target, target) == 0)
			return true;
	}
	for (size_t i = 0; i < c->tmpfs.n; i++) {
		char path[PATH_MAX];
		size_t n = strcspn(c->tmpfs.v[i], ":");
		snprintf(path, sizeof(path), "%.*s", (int)n, c->tmpfs.v[i]);
		path_clean(path, path);
		if (strcmp(path, target) == 0)
			return true;
	}
	return false;
}

/* *m moves in. */
static int append(struct box_config *c, struct box_mount *m, struct err *e)
{
	if (c->n_mounts >= BOX_MOUNTS_MAX)
		return err_set(e, -E2BIG, "more than %d mounts", BOX_MOUNTS_MAX);
	struct box_mount *v = reallocarray(c->mounts, c->n_mounts + 1, sizeof(*v));
	if (!v)
		return err_oom(e);
	c->mounts = v;
	v[c->n_mounts++] = *m;
	*m = (struct box_mount){0};
	return 0;
}

static int duplicate(const char *what, const char *target, struct err *e)
{
	return err_set(e, -EINVAL, "%s: Duplicate mount point: %s", what, target);
}

/* One that was asked for. */
static int add(struct box_config *c, struct box_mount *m, const char *what, struct err *e)
{
	int r = check_target(m->target, what, e);

	if (r == 0 && has_target(c, m->target))
		r = duplicate(what, m->target, e);
	return r == 0 ? append(c, m, e) : r;
}

static int bad_name(const char *what, const char *name, struct err *e)
{
	err_set(e, -EINVAL,
		"%s: \"%s\" is no name of a volume: expected two bytes or more, first a letter or digit, "
		"then "
		"letters, digits, _ . -",
		what, name);
	return err_hint(e, "a folder of this host needs an absolute path, or one that begins with ./");
}

/* ---- propagation, which no mount of a box has: its machine sees the host's later mounts, or it does not ---- */

static bool is_private(const char *s)
{
	return strcmp(s, "private") == 0 || strcmp(s, "rprivate") == 0;
}

static bool is_shared(const char *s)
{
	static const char *const words[] = {"shared", "rshared", "slave", "rslave"};

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (strcmp(s, words[i]) == 0)
			return true;
	}
	return false;
}

static int no_propagation(const char *what, const char *word, struct err *e)
{
	err_set(e, -ENOTSUP,
		"%s: %s: a box has a kernel of its own, so that no mount propagates to or from it", what,
		word);
	return err_hint(e, "private and rprivate are what a box has");
}

/* How fresh one's files are was a matter of Docker on a Mac. Here they always are. */
static bool is_consistency(const char *s)
{
	return strcmp(s, "consistent") == 0 || strcmp(s, "cached") == 0 || strcmp(s, "delegated") == 0 ||
	       strcmp(s, "default") == 0;
}

/* ---- -v ---- */

static int take_word(struct box_mount *m, const char *word, const char *what, unsigned *seen, struct err *e)
{
	unsigned bit;

	if (strcmp(word, "ro") == 0 || strcmp(word, "rw") == 0) {
		bit = 1;
		m->read_only = word[1] == 'o';
	} else if (strcmp(word, "nocopy") == 0) {
		bit = 2;
		m->no_copy = true;
	} else if (strcmp(word, "z") == 0 || strcmp(word, "Z") == 0) {
		bit = 4; /* SELinux labels: a box's files have none */
	} else if (is_consistency(word)) {
		bit = 8;
	} else if (is_shared(word)) {
		return no_propagation(what, word, e);
	} else if (is_private(word) && m->type == BOX_MOUNT_BIND) {
		bit = 16;
	} else {
		return err_set(e, -EINVAL,
			"%s: \"%s\" is none of the options ro, rw, nocopy, z, Z and private", what, word);
	}
	if (*seen & bit)
		return err_set(e, -EINVAL, "%s: \"%s\" contradicts or repeats another option", what, word);
	*seen |= bit;
	return 0;
}

static int take_words(struct box_mount *m, char *words, const char *what, struct err *e)
{
	char *word;
	unsigned seen = 0;
	int r = 0;

	while (r == 0 && (word = strsep(&words, ",")))
		r = take_word(m, word, what, &seen, e);
	return r;
}

static int set_source(struct box_mount *m, const char *source, const char *what, struct err *e)
{
	if (source[0] == '/' || is_dots(source)) {
		m->type = BOX_MOUNT_BIND;
		m->create = true;
		return host_path(source, what, &m->source, e);
	}
	if (!box_volume_name_valid(source))
		return bad_name(what, source, e);
	m->source = strdup(source);
	return m->source ? 0 : err_oom(e);
}

int spec_add_volume(const char *s, struct box_config *c, struct err *e)
{
	CLEANUP_FREE char *text = strdup(s);
	CLEANUP_FREE char *what = str_printf("-v %s", s);
	CLEANUP(box_mount_done) struct box_mount m = {.type = BOX_MOUNT_VOLUME};
	char *rest = text, *parts[3] = {NULL};
	size_t n = 0;
	int r = 0;

	if (!text || !what)
		return err_oom(e);
	while (n < ARRAY_LEN(parts) && rest)
		parts[n++] = strsep(&rest, ":");
	for (size_t i = 0; i < n; i++)
		r = *parts[i] ? r : -EINVAL;
	if (r < 0 || rest) {
		err_set(e, -EINVAL, "%s: expected [SOURCE:]TARGET[:OPTIONS]", what);
		return err_hint(e, "like data:/var/lib/data or ./src:/src:ro; --mount takes any path");
	}
	m.target = strdup(n == 1 ? parts[0] : parts[1]);
	if (!m.target)
		return err_oom(e);
	m.anonymous = n == 1;
	if (m.anonymous && m.target[0] != '/') {
		err_set(e, -EINVAL, "%s: \"%s\" is not an absolute path of the box", what, m.target);
		return err_hint(e, "if it is the source, :TARGET is missing: -v %s:/TARGET", m.target);
	}
	if (n > 1)
		r = set_source(&m, parts[0], what, e);
	if (r == 0 && n > 2)
		r = take_words(&m, parts[2], what, e);
	return r == 0 ? add(c, &m, what, e) : r;
}

/* ---- --mount ---- */

/*
 * The fields of one line of RFC 4180: those with a quote at the beginning end with one, and "" inside is a quote. 0, -EINVAL or
 * -ENOMEM.
 */
static int split_csv(const char *s, struct strv *ret)
{
	for (bool more = true; more;) {
		CLEANUP_FREE char *field = malloc(strlen(s) + 1);
		size_t n = 0;
		if (!field)
			return -ENOMEM;
		if (*s == '"') {
			for (s++; *s && !(s[0] == '"' && s[1] != '"'); s++) {
				s += *s == '"';
				field[n++] = *s;
			}
			if (*s++ != '"')
				return -EINVAL;
		} else {
			for (; *s && *s != ','; s++) {
				if (*s == '"' || *s == '\n' || *s == '\r')
					return -EINVAL;
				field[n++] = *s;
			}
		}
		if (*s && *s != ',')
			return -EINVAL;
		more = *s++ == ',';
		field[n] = '\0';
		if (strv_push(ret, field) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* A --mount on its way. Texts point into the fields. */
struct long_mount {
	const char *what;
	const char *type, *source, *target, *subpath;
	const char *volume_key, *bind_key, *tmpfs_key; /* an option of that type that was given */
	bool read_only, no_copy, create;
	bool has_size, has_mode;
	uint64_t tmpfs_size;
	uint64_t tmpfs_mode;
	const char *driver;
	struct strv labels, opts;
};

static void long_mount_done(struct long_mount *l)
{
	strv_done(&l->labels);
	strv_done(&l->opts);
}

static int bad_value(
	const struct long_mount *l, const char *key, const char *value, const char *form, struct err *e)
{
	return err_set(e, -EINVAL, "%s: %s=%s: expected %s", l->what, key, value, form);
}

/* As Go's strconv.ParseBool, which Docker uses; without a value: true. */
static int take_bool(const struct long_mount *l, const char *key, const char *value, bool *ret, struct err *e)
{
	static const char *const words[2][6] = {
		{"0", "f", "F", "false", "False", "FALSE"}, {"1", "t", "T", "true", "True", "TRUE"}};

	*ret = true;
	for (size_t i = 0; value && i < 12; i++) {
		*ret = i >= 6;
		if (strcmp(value, words[i / 6][i % 6]) == 0)
			return 0;
	}
	return value ? bad_value(l, key, value, "true or false", e) : 0;
}

static int parse_octal(const char *s, uint64_t max, uint64_t *ret)
{
	uint64_t n = 0;

	if (!*s || strlen(s) > 8 || strspn(s, "01234567") != strlen(s))
		return -EINVAL;
	for (; *s; s++)
		n = n * 8 + (uint64_t)(*s - '0');
	*ret = n;
	return n <= max ? 0 : -EINVAL;
}

static int take_bind(struct long_mount *l, const char *key, const char *value, struct err *e)
{
	bool no = false;

	l->bind_key = key;
	if (strcmp(key, "bind-propagation") == 0) {
		if (is_shared(value))
			return no_propagation(l->what, value, e);
		return is_private(value) ? 0 : bad_value(l, key, value, "private or rprivate", e);
	}
	if (strcmp(key, "bind-create-src") == 0)
		return take_bool(l, key, value, &l->create, e);
	/* What is mounted below the source is seen by the process that serves it, and so by the box. */
	if (strcmp(key, "bind-recursive") == 0)
		return strcmp(value, "enabled") == 0
			       ? 0
			       : bad_value(l, key, value,
					 "enabled: what is mounted below the source is part of it", e);
	int r = take_bool(l, key, value, &no, e);
	return r == 0 && no ? err_set(e, -ENOTSUP, "%s: %s: what is mounted below the source is part of it",
				      l->what, key)
			    : r;
}

static int take_tmpfs(struct long_mount *l, const char *key, const char *value, struct err *e)
{
	l->tmpfs_key = key;
	if (strcmp(key, "tmpfs-size") == 0) {
		l->has_size = true;
		return parse_size(value, &l->tmpfs_size) < 0 ? bad_value(l, key, value, "a size like 64m", e)
							     : 0;
	}
	l->has_mode = true;
	return parse_octal(value, 07777, &l->tmpfs_mode) < 0
		       ? bad_value(l, key, value, "an octal mode like 1777", e)
		       : 0;
}

static int take_volume(struct long_mount *l, const char *key, const char *value, struct err *e)
{
	l->volume_key = key;
	if (strcmp(key, "volume-nocopy") == 0)
		return take_bool(l, key, value, &l->no_copy, e);
	if (strcmp(key, "volume-subpath") == 0) {
		l->subpath = value;
	} else if (strcmp(key, "volume-driver") == 0) {
		l->driver = value;
	} else if (strcmp(key, "volume-label") == 0) {
		return value[0] == '='			    ? bad_value(l, key, value, "KEY=VALUE", e)
		       : strv_setenv(&l->labels, value) < 0 ? err_oom(e)
							    : 0;
	} else {
		return value[0] == '=' || !strchr(value, '=') ? bad_value(l, key, value, "KEY=VALUE", e)
		       : strv_setenv(&l->opts, value) < 0     ? err_oom(e)
							      : 0;
	}
	return 0;
}

static int take_general(struct long_mount *l, const char *key, const char *value, struct err *e)
{
	if (strcmp(key, "type") == 0)
		l->type = value;
	else if (strcmp(key, "source") == 0 || strcmp(key, "src") == 0)
		l->source = value;
	else if (strcmp(key, "target") == 0 || strcmp(key, "dst") == 0 || strcmp(key, "destination") == 0)
		l->target = value;
	else if (strcmp(key, "readonly") == 0 || strcmp(key, "ro") == 0)
		return take_bool(l, key, value, &l->read_only, e);
	else if (!is_consistency(value))
		return bad_value(l, key, value, "consistent, cached or delegated", e);
	return 0;
}

/* One KEY=VALUE, or a KEY that may stand alone. */
static int take_field(struct long_mount *l, char *field, struct err *e)
{
	static const struct {
		const char *key;
		bool alone;
		int (*take)(struct long_mount *, const char *, const char *, struct err *);
	} keys[] = {{"type", false, take_general}, {"source", false, take_general},
		{"src", false, take_general}, {"target", false, take_general}, {"dst", false, take_general},
		{"destination", false, take_general}, {"readonly", true, take_general},
		{"ro", true, take_general}, {"consistency", false, take_general},
		{"bind-propagation", false, take_bind}, {"bind-create-src", true, take_bind},
		{"bind-recursive", false, take_bind}, {"bind-nonrecursive", true, take_bind},
		{"volume-nocopy", true, take_volume}, {"volume-subpath", false, take_volume},
		{"volume-driver", false, take_volume}, {"volume-label", false, take_volume},
		{"volume-opt", false, take_volume}, {"tmpfs-size", false, take_tmpfs},
		{"tmpfs-mode", false, take_tmpfs}};
	char *value = strchr(field, '=');

	if (value)
		*value++ = '\0';
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		if (strcasecmp(keys[i].key, field) != 0)
			continue;
		if (!value && !keys[i].alone)
			return err_set(e, -EINVAL, "%s: %s: expected %s=VALUE", l->what, field, keys[i].key);
		return keys[i].take(l, keys[i].key, value, e);
	}
	err_set(e, -EINVAL, "%s: \"%s\" is no option of a mount", l->what, field);
	return err_hint(e, "like type=bind,source=/srv,target=/srv,readonly; see --mount in the manual");
}

/* As a --tmpfs, which has no other way to say where options begin than a colon. */
static int add_long_tmpfs(const struct long_mount *l, struct box_config *c, struct err *e)
{
	CLEANUP_FREE char *target = strdup(l->target);
	char size[40] = "", mode[24] = "";

	if (!target)
		return err_oom(e);
	if (l->source)
		return err_set(e, -EINVAL, "%s: a tmpfs has no source", l->what);
	int r = check_target(target, l->what, e);
	if (r < 0)
		return r;
	if (strchr(target, ':'))
		return err_set(e, -EINVAL, "%s: the target of a tmpfs cannot have a colon", l->what);
	if (has_target(c, target))
		return duplicate(l->what, target, e);
	if (l->has_size)
		snprintf(size, sizeof(size), ",size=%llu", (unsigned long long)l->tmpfs_size);
	if (l->has_mode)
		snprintf(mode, sizeof(mode), ",mode=%llo", (unsigned long long)l->tmpfs_mode);
	char *spec = str_printf("%s:%s%s%s", target, l->read_only ? "ro" : "rw", size, mode);
	return !spec || strv_take(&c->tmpfs, spec) < 0 ? err_oom(e) : 0;
}

/* Below the volume, and neither it nor a way out of it. */
static bool subpath_valid(const char *s)
{
	if (!*s || *s == '/' || strlen(s) >= SUBPATH_MAX)
		return false;
	for (size_t n; *s; s += n + (s[n] == '/')) {
		n = strcspn(s, "/");
		if (n == 2 && s[0] == '.' && s[1] == '.')
			return false;
	}
	return true;
}

/* Options of a type that this one is not of. */
static int check_mixed(const struct long_mount *l, const char *type, struct err *e)
{
	const char *wrong = strcmp(type, "bind") != 0 && l->bind_key	   ? l->bind_key
			    : strcmp(type, "volume") != 0 && l->volume_key ? l->volume_key
			    : strcmp(type, "tmpfs") != 0 && l->tmpfs_key   ? l->tmpfs_key
									   : NULL;

	return wrong ? err_set(e, -EINVAL, "%s: %s is no option of type=%s", l->what, wrong, type) : 0;
}

static int add_long_bind(const struct long_mount *l, struct box_config *c, struct err *e)
{
	CLEANUP(box_mount_done)
	struct box_mount m = {.type = BOX_MOUNT_BIND, .read_only = l->read_only, .create = l->create};

	if (!l->source || !*l->source)
		return err_set(e, -EINVAL, "%s: source is missing: a folder or file of this host", l->what);
	if (l->source[0] != '/' && !is_dots(l->source))
		return err_set(e, -EINVAL,
			"%s: source \"%s\": expected an absolute path, or one that begins with ./", l->what,
			l->source);
	int r = host_path(l->source, l->what, &m.source, e);
	if (r < 0)
		return r;
	m.target = strdup(l->target);
	return m.target ? add(c, &m, l->what, e) : err_oom(e);
}

static int add_long_volume(struct long_mount *l, struct box_config *c, struct err *e)
{
	CLEANUP(box_mount_done)
	struct box_mount m = {.type = BOX_MOUNT_VOLUME, .read_only = l->read_only, .no_copy = l->no_copy};

	if (l->driver && strcmp(l->driver, "local") != 0)
		return err_set(e, -ENOTSUP, "%s: volume-driver=%s: only local is there", l->what, l->driver);
	if (l->subpath && !subpath_valid(l->subpath))
		return bad_value(l, "volume-subpath", l->subpath, "a relative path without \"..\"", e);
	m.anonymous = !l->source || !*l->source;
	if (!m.anonymous && !box_volume_name_valid(l->source))
		return bad_name(l->what, l->source, e);
	m.source = m.anonymous ? NULL : strdup(l->source);
	m.target = strdup(l->target);
	m.subpath = str_dup(l->subpath);
	if ((!m.anonymous && !m.source) || !m.target || (l->subpath && !m.subpath))
		return err_oom(e);
	m.labels = l->labels;
	m.opts = l->opts;
	l->labels = l->opts = (struct strv){0};
	return add(c, &m, l->what, e);
}

int spec_add_mount(const char *s, struct box_config *c, struct err *e)
{
	CLEANUP_FREE char *what = str_printf("--mount %s", s);
	CLEANUP(strv_done) struct strv fields = {0};
	CLEANUP(long_mount_done) struct long_mount l = {.what = what};

	int r = what ? split_csv(s, &fields) : -ENOMEM;
	if (r == -ENOMEM)
		return err_oom(e);
	if (r < 0)
		return err_set(e, r, "%s: a quote does not end, or stands inside a field", what);
	for (size_t i = 0; r == 0 && i < fields.n; i++)
		r = take_field(&l, fields.v[i], e);
	if (r < 0)
		return r;
	const char *type = l.type ? l.type : "volume";
	r = check_mixed(&l, type, e);
	if (r < 0)
		return r;
	if (!l.target || !*l.target)
		return err_set(e, -EINVAL, "%s: target is missing: an absolute path of the box", what);
	if (strcmp(type, "bind") == 0)
		return add_long_bind(&l, c, e);
	if (strcmp(type, "volume") == 0)
		return add_long_volume(&l, c, e);
	if (strcmp(type, "tmpfs") == 0)
		return add_long_tmpfs(&l, c, e);
	return bad_value(&l, "type", type, "bind, volume or tmpfs", e);
}

/* ---- all of them ---- */

/* Two --tmpfs on one target. */
static int check_tmpfs(const struct box_config *c, struct err *e)
{
	for (size_t i = 0; i < c->tmpfs.n; i++) {
		struct box_config before = {.tmpfs = {.v = c->tmpfs.v, .n = i}};
		char path[PATH_MAX];
		snprintf(path, sizeof(path), "%.*s", (int)strcspn(c->tmpfs.v[i], ":"), c->tmpfs.v[i]);
		path_clean(path, path);
		if (has_target(&before, path))
			return duplicate("--tmpfs", path, e);
	}
	return 0;
}

int spec_mounts(const struct run_opts *o, struct box_config *c, struct err *e)
{
	int r = check_tmpfs(c, e);

	if (r == 0 && o->volume_driver && strcmp(o->volume_driver, "local") != 0)
		r = err_set(e, -ENOTSUP, "--volume-driver %s: only local is there", o->volume_driver);
	for (size_t i = 0; r == 0 && i < o->volumes.n; i++)
		r = spec_add_volume(o->volumes.v[i], c, e);
	for (size_t i = 0; r == 0 && i < o->mounts.n; i++)
		r = spec_add_mount(o->mounts.v[i], c, e);
	return r;
}

static int copy_mount(struct box_config *c, const struct box_mount *from, bool read_only, struct err *e)
{
	CLEANUP(box_mount_done) struct box_mount m = *from;

	m.labels = m.opts = (struct strv){0};
	m.source = str_dup(from->source);
	m.target = strdup(from->target);
	m.subpath = str_dup(from->subpath);
	m.read_only |= read_only;
	if (!m.target || (from->source && !m.source) || (from->subpath && !m.subpath))
		return err_oom(e);
	return append(c, &m, e);
}

static int add_from(struct box_config *c, struct state *st, const char *given, struct err *e)
{
	CLEANUP_FREE char *text = strdup(given);
	CLEANUP(box_freep) struct box *b = NULL;
	char *mode = text ? text : NULL, *ref = strsep(&mode, ":");

	if (!text)
		return err_oom(e);
	if (!*ref || (mode && strcmp(mode, "ro") != 0 && strcmp(mode, "rw") != 0 && strcmp(mode, "z") != 0 &&
			     strcmp(mode, "Z") != 0))
		return err_set(e, -EINVAL, "--volumes-from %s: expected BOX[:ro]", given);
	int r = box_find(st, ref, &b, e);
	if (r < 0)
		return err_wrap(e, "--volumes-from %s", given);
	for (size_t i = 0; r == 0 && i < b->config.n_mounts; i++) {
		const struct box_mount *m = &b->config.mounts[i];
		if (!has_target(c, m->target))
			r = copy_mount(c, m, mode && strcmp(mode, "ro") == 0, e);
	}
	return r;
}

int spec_volumes_from(const struct run_opts *o, struct box_config *c, struct state *st, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < o->volumes_from.n; i++)
		r = add_from(c, st, o->volumes_from.v[i], e);
	return r;
}

int spec_check_sources(const struct box_config *c, struct err *e)
{
	for (size_t i = 0; i < c->n_mounts; i++) {
		const struct box_mount *m = &c->mounts[i];
		struct stat st;
		if (m->type != BOX_MOUNT_BIND || m->create || stat(m->source, &st) == 0)
			continue;
		if (errno != ENOENT)
			return err_sys(e, -errno, "--mount: source %s", m->source);
		err_set(e, -ENOENT, "--mount: bind source path does not exist: %s", m->source);
		return err_hint(
			e, "make it first, or give bind-create-src; -v makes a folder where nothing is");
	}
	return 0;
}

int spec_add_image_volumes(struct box_config *c, const struct oci_image *image, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < image->volumes.n; i++) {
		CLEANUP(box_mount_done)
		struct box_mount m = {.type = BOX_MOUNT_VOLUME, .anonymous = true};
		CLEANUP_FREE char *what = str_printf("VOLUME %s of the image", image->volumes.v[i]);

		m.target = strdup(image->volumes.v[i]);
		if (!what || !m.target)
			return err_oom(e);
		r = check_target(m.target, what, e);
		if (r == 0 && !has_target(c, m.target))
			r = append(c, &m, e);
	}
	return r;
}
