/* SPDX-License-Identifier: MIT */
/* What the workload may do: capabilities, system calls, devices, kernel parameters, file systems. */
#include <fcntl.h>
#include <string.h>

#include "base/io.h"
#include "base/units.h"
#include "box/caps.h"
#include "box/seccomp.h"
#include "spec.h"

/* ---- --security-opt ---- */

/* Reads the profile; kept until capabilities are known. */
static int read_profile(const char *path, char **ret, size_t *ret_len, struct err *e)
{
	free(TAKE_PTR(*ret));
	int r = io_read_file_at(AT_FDCWD, path, BOX_SECCOMP_PROFILE_MAX, ret, ret_len);
	if (r < 0)
		return err_sys(e, r, "--security-opt seccomp=%s", path);
	return 0;
}

struct security {
	char *profile; /* JSON; NULL: Docker's default */
	size_t profile_len;
	bool unconfined;
};

static int set_seccomp(struct security *s, const char *value, struct err *e)
{
	s->unconfined = strcmp(value, "unconfined") == 0;
	if (s->unconfined || strcmp(value, "builtin") == 0) {
		free(TAKE_PTR(s->profile));
		return 0;
	}
	return read_profile(value, &s->profile, &s->profile_len, e);
}

static int bad_security_opt(const char *opt, struct err *e)
{
	err_set(e, -EINVAL,
		"--security-opt %s: expected seccomp=FILE, seccomp=unconfined, "
		"no-new-privileges[=true|false] or "
		"systempaths=unconfined",
		opt);
	return -EINVAL;
}

static int set_security_opt(struct security *s, const char *opt, struct box_config *c, struct err *e)
{
	size_t n = strcspn(opt, "=:"); /* both as in Docker */
	const char *value = opt[n] ? opt + n + 1 : NULL;
	CLEANUP_FREE char *key = strndup(opt, n);

	if (!key)
		return err_oom(e);
	if (strcmp(key, "no-new-privileges") == 0) {
		c->process.no_new_privileges = !value || strcmp(value, "true") == 0;
		return value && !c->process.no_new_privileges && strcmp(value, "false") != 0
			       ? bad_security_opt(opt, e)
			       : 0;
	}
	if (!value || !*value)
		return bad_security_opt(opt, e);
	if (strcmp(key, "seccomp") == 0)
		return set_seccomp(s, value, e);
	if (strcmp(key, "systempaths") == 0 && strcmp(value, "unconfined") == 0) {
		c->unmasked = true;
		return 0;
	}
	/* The guest's kernel has neither: what asks for none of it has it. */
	if ((strcmp(key, "apparmor") == 0 && strcmp(value, "unconfined") == 0) ||
		(strcmp(key, "label") == 0 && strcmp(value, "disable") == 0))
		return 0;
	if (strcmp(key, "apparmor") == 0 || strcmp(key, "label") == 0) {
		err_set(e, -ENOTSUP, "--security-opt %s: a box's kernel has no AppArmor and no SELinux", opt);
		return err_hint(
			e, "a box is confined by its machine, its capabilities and its seccomp filter");
	}
	return bad_security_opt(opt, e);
}

/* Compiles the filter where it is not the built-in one. */
static int set_filter(const struct security *s, const struct run_opts *o, struct box_config *c, struct err *e)
{
	struct wire_process *p = &c->process;

	if (s->unconfined || (o->privileged && !s->profile)) {
		c->seccomp = BOX_SECCOMP_NONE;
		return 0;
	}
	if (!s->profile && p->caps == BOX_CAPS_DEFAULT)
		return 0;
	c->seccomp = BOX_SECCOMP_OWN;
	int r = box_seccomp_compile(s->profile ? s->profile : box_seccomp_default_profile,
		s->profile ? s->profile_len : box_seccomp_default_profile_len, p->caps,
		box_seccomp_native_arch(), &p->seccomp, &p->seccomp_len, e);
	if (r < 0)
		return s->profile ? err_wrap(e, "--security-opt seccomp") : r;
	/* Most capabilities are none of the profile's business. */
	if (p->seccomp_len == box_seccomp_default_filter_len &&
		memcmp(p->seccomp, box_seccomp_default_filter, p->seccomp_len) == 0) {
		free(TAKE_PTR(p->seccomp));
		p->seccomp_len = 0;
		c->seccomp = BOX_SECCOMP_DEFAULT;
	}
	return 0;
}

static void security_done(struct security *s)
{
	free(s->profile);
}

static int set_privileges(const struct run_opts *o, struct box_config *c, struct err *e)
{
	CLEANUP(security_done) struct security s = {0};

	int r = box_caps_from_lists(&o->cap_add, &o->cap_drop, &c->process.caps, e);
	if (o->privileged)
		c->process.caps = BOX_CAPS_ALL;
	c->privileged = o->privileged;
	for (size_t i = 0; r == 0 && i < o->security_opts.n; i++)
		r = set_security_opt(&s, o->security_opts.v[i], c, e);
	return r == 0 ? set_filter(&s, o, c, e) : r;
}

/* ---- devices ---- */

/* No part of it is "." or "..", and there is one. */
static bool path_clean(const char *s, size_t len)
{
	bool any = false;

	for (size_t i = 0, n; i < len; i += n + 1) {
		n = strcspn(s + i, "/:");
		if ((n == 1 && s[i] == '.') || (n == 2 && s[i] == '.' && s[i + 1] == '.'))
			return false;
		any |= n > 0;
	}
	return any;
}

static bool device_path_valid(const char *s, const char *below)
{
	size_t n = strlen(s);
	return strncmp(s, below, strlen(below)) == 0 && n > strlen(below) && n < 256 && s[n - 1] != '/' &&
	       !strchr(s, '\n') && path_clean(s, n);
}

static bool device_mode_valid(const char *s)
{
	unsigned seen = 0;

	for (; *s == 'r' || *s == 'w' || *s == 'm'; s++) {
		unsigned bit = *s == 'r' ? 1 : *s == 'w' ? 2 : 4;
		if (seen & bit)
			return false;
		seen |= bit;
	}
	return seen && *s == '\0';
}

/* "/dev/x", "/dev/x:rwm", "/dev/x:/dev/y" and "/dev/x:/dev/y:rwm", all stored as the last. */
static int add_device(const char *s, struct strv *dst, struct err *e)
{
	CLEANUP_FREE char *text = strdup(s);
	char *save = NULL, *parts[3] = {0};
	size_t n = 0;

	if (!text)
		return err_oom(e);
	for (char *p = text; p && n < ARRAY_LEN(parts); n++) {
		parts[n] = p;
		p = strchr(p, ':');
		if (p)
			*p++ = '\0';
		save = p;
	}
	const char *from = parts[0], *to = n > 1 ? parts[1] : from, *mode = n > 2 ? parts[2] : "rwm";
	if (n == 2 && device_mode_valid(to)) {
		mode = to;
		to = from;
	}
	if (save || !device_path_valid(from, "/dev/") || !device_path_valid(to, "/") ||
		!device_mode_valid(mode)) {
		err_set(e, -EINVAL, "--device %s: expected /dev/NAME[:PATH][:rwm]", s);
		return err_hint(e, "devices are those of the box's own machine, not of this host");
	}
	char *whole = str_printf("%s:%s:%s", from, to, mode);
	return !whole || strv_take(dst, whole) < 0 ? err_oom(e) : 0;
}

/* ---- kernel parameters ---- */

/* Those that the box's namespaces have for themselves, as in Docker; the others are the guest agent's, too. */
static bool sysctl_allowed(const char *name)
{
	static const char *const names[] = {"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
		"kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strcmp(name, names[i]) == 0)
			return true;
	}
	return strncmp(name, "net.", 4) == 0 || strncmp(name, "fs.mqueue.", 10) == 0;
}

static int add_sysctl(const char *s, struct strv *dst, struct err *e)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
	size_t n = strcspn(s, "=");
	CLEANUP_FREE char *name = strndup(s, n);

	if (!name)
		return err_oom(e);
	if (!s[n] || n == 0 || n > 255 || strspn(name, allowed) != n || strstr(name, "..") ||
		strchr(s + n, '\n') || strlen(s + n) > 4096)
		return err_set(e, -EINVAL, "--sysctl %s: expected NAME=VALUE, like net.ipv4.ip_forward=1", s);
	if (!sysctl_allowed(name)) {
		err_set(e, -EPERM, "--sysctl %s: this one is not a box's own", s);
		return err_hint(e, "net.*, fs.mqueue.*, kernel.msg*, kernel.sem and kernel.shm* can be set");
	}
	return strv_push(dst, s) < 0 ? err_oom(e) : 0;
}

/* ---- file systems ---- */

static bool tmpfs_option_valid(const char *s, size_t len)
{
	static const char *const flags[] = {"ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec",
		"noatime", "strictatime", "relatime", "diratime", "nodiratime"};
	static const char *const values[] = {"size=", "mode=", "uid=", "gid=", "nr_inodes=", "nr_blocks="};
	static const char allowed[] = "0123456789kKmMgG%";

	for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
		if (strlen(flags[i]) == len && memcmp(flags[i], s, len) == 0)
			return true;
	}
	for (size_t i = 0; i < ARRAY_LEN(values); i++) {
		size_t n = strlen(values[i]);
		if (len > n && memcmp(values[i], s, n) == 0)
			return strspn(s + n, allowed) >= len - n;
	}
	return false;
}

static int add_tmpfs(const char *s, struct strv *dst, struct err *e)
{
	const char *colon = strchr(s, ':');
	size_t n = colon ? (size_t)(colon - s) : strlen(s);
	bool ok = *s == '/' && n > 1 && n < 4096 && strlen(s) < n + 1024 && path_clean(s, n);

	for (const char *p = colon ? colon + 1 : ""; ok && *p;) {
		size_t len = strcspn(p, ",");
		ok = tmpfs_option_valid(p, len) && (p[len] == '\0' || p[len + 1] != '\0');
		p += len + (p[len] == ',');
	}
	if (!ok) {
		err_set(e, -EINVAL, "--tmpfs %s: expected an absolute path, and mount options behind a colon",
			s);
		return err_hint(e, "like /run:size=64m,mode=1777,noexec");
	}
	return strv_push(dst, s) < 0 ? err_oom(e) : 0;
}

int spec_security(const struct run_opts *o, struct box_config *c, struct err *e)
{
	if (o->gpus) {
		err_set(e, -ENOTSUP, "--gpus %s: a box's machine has no GPU, and cannot be given the host's",
			o->gpus);
		return err_hint(e, "leave it out");
	}
	if (o->userns && strcmp(o->userns, "private") != 0 && strcmp(o->userns, "host") != 0)
		return err_set(e, -EINVAL,
			"--userns %s: expected private (root in the box is nobody outside it, in its "
			"machine) or host",
			o->userns);
	c->user_namespace = o->userns && strcmp(o->userns, "private") == 0;
	if (c->user_namespace && o->privileged)
		return err_set(e, -EINVAL,
			"--userns private and --privileged contradict each other: give one of them");
	c->read_only = o->read_only;
	int r = set_privileges(o, c, e);
	if (r == 0)
		r = spec_add_each(&o->devices, add_device, &c->devices, e);
	if (r == 0)
		r = spec_add_each(&o->sysctls, add_sysctl, &c->sysctls, e);
	if (r == 0)
		r = spec_add_each(&o->tmpfs, add_tmpfs, &c->tmpfs, e);
	if (r < 0)
		return r;
	if (strv_copy(&c->cap_add, &o->cap_add) < 0 || strv_copy(&c->cap_drop, &o->cap_drop) < 0 ||
		strv_copy(&c->security_opts, &o->security_opts) < 0)
		return err_oom(e);
	return 0;
}
