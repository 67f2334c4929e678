/* SPDX-License-Identifier: MIT */
#include "spec.h"

#include <signal.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "base/io.h"
#include "base/units.h"

#define DEFAULT_VCPUS	2
#define DEFAULT_MEMORY	(512ull << 20)
#define DEFAULT_STOP_NS 10000000000ull
#define MEMORY_MAX	(1ull << 40)

void run_opts_done(struct run_opts *o)
{
	strv_done(&o->env);
	strv_done(&o->labels);
	strv_done(&o->groups);
}

static int parse_cpus(const char *s, uint32_t *ret, struct err *e)
{
	uint64_t n;

	if (!s) {
		*ret = DEFAULT_VCPUS;
		return 0;
	}
	const char *dot = strchr(s, '.');
	if (dot && strspn(dot + 1, "0") == strlen(dot + 1) && dot[1]) { /* "2.0" */
		CLEANUP_FREE char *whole = strndup(s, (size_t)(dot - s));
		return whole ? parse_cpus(whole, ret, e) : err_oom(e);
	}
	if (dot && dot != s && strspn(dot + 1, "0123456789") == strlen(dot + 1)) {
		err_set(e, -ENOTSUP, "--cpus %s: fractions of a CPU are not supported yet", s);
		return err_hint(e, "give a whole number, 1 to %d", MACHINE_VCPUS_MAX);
	}
	if (parse_u64(s, MACHINE_VCPUS_MAX, &n) < 0 || n == 0)
		return err_set(
			e, -EINVAL, "--cpus %s: must be a whole number from 1 to %d", s, MACHINE_VCPUS_MAX);
	*ret = (uint32_t)n;
	return 0;
}

static int parse_memory(const char *s, uint64_t *ret, struct err *e)
{
	uint64_t bytes = DEFAULT_MEMORY;
	struct sysinfo si;
	char host[16];

	if (s && parse_size(s, &bytes) < 0)
		return err_set(e, -EINVAL, "--memory %s: expected a size like 512m or 2g", s);
	if (bytes < MACHINE_MEM_MIN) {
		err_set(e, -EINVAL, "--memory %s: too small: a box needs at least %llum", s,
			MACHINE_MEM_MIN >> 20);
		return err_hint(e, "its kernel lives in it too");
	}
	uint64_t max = MEMORY_MAX;
	if (sysinfo(&si) == 0)
		max = MIN_OF(max, (uint64_t)si.totalram * si.mem_unit);
	if (bytes > max)
		return err_set(e, -EINVAL, "--memory %s: more than this host has (%s)", s ? s : "512m",
			format_size(host, sizeof(host), max));
	*ret = (bytes + (1 << 20) - 1) >> 20 << 20; /* whole MiB */
	return 0;
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

int spec_add_env(struct strv *env, const struct strv *given, struct err *e)
{
	for (size_t i = 0; i < given->n; i++) {
		const char *kv = given->v[i];
		CLEANUP_FREE char *own = NULL;
		if (kv[0] == '\0' || kv[0] == '=')
			return err_set(e, -EINVAL, "--env \"%s\": expected NAME=value or NAME", kv);
		if (!strchr(kv, '=')) {
			const char *value = getenv(kv);
			if (!value)
				continue;
			own = str_printf("%s=%s", kv, value);
			kv = own;
		}
		if (!kv || strv_setenv(env, kv) < 0)
			return err_oom(e);
	}
	return 0;
}

static int check_hostname(const char *s, struct err *e)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.";
	size_t n = strlen(s);
	if (n == 0 || n > 63 || strspn(s, allowed) != n || s[0] == '-' || s[0] == '.')
		return err_set(
			e, -EINVAL, "--hostname \"%s\": expected up to 63 letters, digits, - and .", s);
	return 0;
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

int spec_from_opts(const struct run_opts *o, struct box_config *c, struct err *e)
{
	int r = parse_cpus(o->cpus, &c->vcpus, e);
	if (r == 0)
		r = parse_memory(o->memory, &c->mem_bytes, e);
	if (r == 0)
		r = spec_check_user(o->user, e);
	if (r == 0 && o->hostname)
		r = check_hostname(o->hostname, e);
	if (r < 0)
		return r;
	if (o->name && !box_name_valid(o->name))
		return err_set(e, -EINVAL,
			"--name \"%s\": expected a letter or digit, then up to %d letters, digits, _ . -",
			o->name, BOX_NAME_MAX - 1);
	if (o->workdir && o->workdir[0] != '/')
		return err_set(e, -EINVAL, "--workdir \"%s\": must be an absolute path", o->workdir);
	r = check_platform(o->platform, e);
	if (r < 0)
		return r;
	if (o->pull && strcmp(o->pull, "missing") != 0 && strcmp(o->pull, "always") != 0 &&
		strcmp(o->pull, "never") != 0)
		return err_set(e, -EINVAL, "--pull %s: expected missing, always or never", o->pull);
	if (accel_parse(o->accel ? o->accel : "auto", &c->accel) < 0)
		return err_set(e, -EINVAL, "--accel %s: expected auto, kvm, qemu-kvm or tcg", o->accel);
	if (o->stop_signal && parse_signal(o->stop_signal, &c->stop_signal) < 0)
		return err_set(e, -EINVAL, "--stop-signal %s: no such signal", o->stop_signal);
	c->stop_timeout_ns = DEFAULT_STOP_NS;
	if (o->stop_timeout && parse_duration_ns(o->stop_timeout, &c->stop_timeout_ns) < 0)
		return err_set(e, -EINVAL, "--stop-timeout %s: expected seconds", o->stop_timeout);
	c->auto_remove = o->rm;
	c->process.tty = o->tty;
	c->process.open_stdin = o->interactive;
	c->stdin_once = o->interactive && !o->detach;
	c->hostname = str_dup(o->hostname);
	if (strv_copy(&c->labels, &o->labels) < 0 || strv_copy(&c->process.groups, &o->groups) < 0)
		return err_oom(e);
	return 0;
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

int spec_add_image(struct box_config *c, const struct run_opts *o, const struct oci_image *image,
	char *const *args, size_t n, struct err *e)
{
	int r = set_argv(c, o, image, args, n, e);
	if (r < 0)
		return r;
	if (strv_copy(&c->process.env, &image->env) < 0)
		return err_oom(e);
	r = spec_add_env(&c->process.env, &o->env, e);
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
