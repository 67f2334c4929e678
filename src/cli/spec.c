/* SPDX-License-Identifier: MIT */
#include "spec.h"

#include <signal.h>
#include <string.h>

#include "base/io.h"
#include "base/units.h"

void run_opts_done(struct run_opts *o)
{
	struct strv *lists[] = {&o->env, &o->env_files, &o->labels, &o->label_files, &o->annotations,
		&o->groups, &o->cap_add, &o->cap_drop, &o->security_opts, &o->devices, &o->sysctls,
		&o->ulimits, &o->tmpfs, &o->add_hosts, &o->dns, &o->dns_search, &o->dns_opts, &o->expose,
		&o->log_opts, &o->publish, &o->networks, &o->network_aliases, &o->network_opts,
		&o->storage_opts, &o->egress_allow, &o->volumes, &o->mounts, &o->volumes_from};

	for (size_t i = 0; i < ARRAY_LEN(lists); i++)
		strv_done(lists[i]);
}

int spec_check_user(const char *user, struct err *e)
{
	if (!user)
		return 0;
	size_t n = strlen(user);
	const char *colon = strchr(user, ':');
	for (const char *p = user; *p; p++) {
		if ((unsigned char)*p < 0x21 || *p == 0x7f)
			n = 0;
	}
	if (n == 0 || n > 255 || user[0] == ':' || (colon && (colon[1] == '\0' || strchr(colon + 1, ':'))))
		return err_set(e, -EINVAL,
			"--user \"%s\": expected name or UID, optionally with :group or GID", user);
	return 0;
}

/* Names or numbers; which there are, only the box's own /etc/group says. */
static int check_groups(const struct strv *groups, struct err *e)
{
	for (size_t i = 0; i < groups->n; i++) {
		const char *s = groups->v[i];
		size_t n = strlen(s);
		for (const char *p = s; *p; p++) {
			if ((unsigned char)*p < 0x21 || *p == 0x7f || *p == ':' || *p == ',')
				n = 0;
		}
		if (n == 0 || n > 255)
			return err_set(e, -EINVAL, "--group-add \"%s\": expected a group's name or GID", s);
	}
	return groups->n > 64 ? err_set(e, -E2BIG, "--group-add: more than 64 groups") : 0;
}

/* A box has the host's processor: another platform's programs cannot run in it. */
static int check_platform(const char *s, struct err *e)
{
#ifdef __aarch64__
	static const char *const ours[] = {"linux/arm64", "linux/aarch64", "arm64", "aarch64"};
#else
	static const char *const ours[] = {"linux/amd64", "linux/x86_64", "amd64", "x86_64"};
#endif

	for (size_t i = 0; s && i < ARRAY_LEN(ours); i++) {
		size_t n = strlen(ours[i]);
		if (strncmp(s, ours[i], n) == 0 && (s[n] == '\0' || s[n] == '/'))
			return 0;
	}
	return s ? err_set(e, -ENOTSUP, "--platform %s: this host runs boxes of %s only", s, ours[0]) : 0;
}

/* What is looked at by itself. */
static int check_values(const struct run_opts *o, struct box_config *c, struct err *e)
{
	int r = spec_check_user(o->user, e);
	if (r == 0)
		r = check_groups(&o->groups, e);
	if (r == 0)
		r = check_platform(o->platform, e);
	if (r < 0)
		return r;
	if (o->name && !box_name_valid(o->name))
		return err_set(e, -EINVAL,
			"--name \"%s\": expected a letter or digit, then up to %d letters, digits, _ . -",
			o->name, BOX_NAME_MAX - 1);
	if (o->workdir && o->workdir[0] != '/')
		return err_set(e, -EINVAL, "--workdir \"%s\": must be an absolute path", o->workdir);
	if (o->pull && strcmp(o->pull, "missing") != 0 && strcmp(o->pull, "always") != 0 &&
		strcmp(o->pull, "never") != 0)
		return err_set(e, -EINVAL, "--pull %s: expected missing, always or never", o->pull);
	if (accel_parse(o->accel ? o->accel : "auto", &c->accel) < 0)
		return err_set(e, -EINVAL, "--accel %s: expected auto, kvm, qemu-kvm or tcg", o->accel);
	if (o->cidfile && !*o->cidfile)
		return err_set(e, -EINVAL, "--cidfile \"\": expected the name of a file");
	return 0;
}

int spec_from_opts(const struct run_opts *o, struct box_config *c, struct err *e)
{
	c->auto_remove = o->rm;
	c->process.tty = o->tty;
	c->process.open_stdin = o->interactive;
	c->process.init = o->init;
	c->stdin_once = o->interactive && !o->detach;
	if (strv_copy(&c->process.groups, &o->groups) < 0)
		return err_oom(e);
	spec_limits_default(c);
	int r = check_values(o, c, e);
	if (r == 0)
		r = spec_limits(&o->limits, false, c, e);
	if (r == 0)
		r = spec_process_limits(o, c, e);
	if (r == 0)
		r = spec_network(o, c, e);
	if (r == 0)
		r = spec_run(o, c, e);
	if (r == 0)
		r = spec_add_env_files(&c->process.env, &o->env_files, e);
	if (r == 0)
		r = spec_add_env(&c->process.env, &o->env, e);
	if (r == 0)
		r = spec_labels(o, c, e);
	if (r == 0)
		r = spec_security(o, c, e);
	if (r == 0)
		r = spec_mounts(o, c, e);
	return r;
}

/* Docker's rules: a given entrypoint drops the image's command; a given command replaces the image's. */
static int set_argv(struct box_config *c, const struct run_opts *o, const struct oci_image *image,
	char *const *args, size_t n, struct err *e)
{
	int r = 0;

	if (!o->entrypoint)
		r = strv_copy(&c->entrypoint, &image->entrypoint);
	else if (*o->entrypoint)
		r = strv_push(&c->entrypoint, o->entrypoint);
	if (r == 0 && n == 0 && !o->entrypoint)
		r = strv_copy(&c->cmd, &image->cmd);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = strv_push(&c->cmd, args[i]);
	if (r == 0)
		r = strv_copy(&c->process.argv, &c->entrypoint);
	if (r == 0)
		r = strv_copy(&c->process.argv, &c->cmd);
	if (r < 0)
		return err_oom(e);
	if (c->process.argv.n == 0) {
		err_set(e, -EINVAL, "no command given, and the image has none");
		return err_hint(e, "add the command after the image");
	}
	return 0;
}

/* What the image has, and on top of it what the options say, under the same names or further ones. */
static int put_under(struct strv *own, const struct strv *image, struct err *e)
{
	CLEANUP(strv_done) struct strv all = {0};

	if (strv_copy(&all, image) < 0)
		return err_oom(e);
	for (size_t i = 0; i < own->n; i++) {
		if (strv_setenv(&all, own->v[i]) < 0)
			return err_oom(e);
	}
	strv_done(own);
	*own = all;
	all = (struct strv){0};
	return 0;
}

int spec_add_image(struct box_config *c, const struct run_opts *o, const struct oci_image *image,
	char *const *args, size_t n, struct err *e)
{
	int r = set_argv(c, o, image, args, n, e);
	if (r < 0)
		return r;
	r = put_under(&c->process.env, &image->env, e);
	if (r == 0)
		r = put_under(&c->labels, &image->labels, e);
	if (r == 0)
		r = spec_add_image_ports(c, image, e);
	if (r == 0)
		r = spec_add_image_volumes(c, image, e);
	if (r == 0)
		r = spec_add_image_health(c, o, image, e);
	if (r < 0)
		return r;
	c->process.cwd = strdup(o->workdir			    ? o->workdir
				: image->workdir && *image->workdir ? image->workdir
								    : "/");
	c->process.user = strdup(o->user ? o->user : image->user ? image->user : "");
	if (!c->process.cwd || !c->process.user)
		return err_oom(e);
	if (c->stop_signal == 0 &&
		(!image->stop_signal || parse_signal(image->stop_signal, &c->stop_signal) < 0))
		c->stop_signal = SIGTERM;
	return 0;
}

int spec_add_each(const struct strv *given, int (*add)(const char *, struct strv *, struct err *),
	struct strv *dst, struct err *e)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < given->n; i++)
		r = add(given->v[i], dst, e);
	return r;
}
