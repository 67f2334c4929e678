/* SPDX-License-Identifier: MIT */
/* login, logout. */
#include <string.h>

#include "audit.h"
#include "base/io.h"
#include "prompt.h"
#include "remote.h"

struct login_opts {
	const char *user, *password;
	bool from_stdin;
	struct oci_remote_opts remote;
};

/* The answer, or what is stored. */
static int ask_user(const char *domain, char **ret, struct err *e)
{
	CLEANUP_FREE char *stored = NULL, *answer = NULL, *safe = NULL;
	struct err ignored;

	if (oci_login_user(domain, &stored, &ignored) < 0)
		stored = NULL;
	safe = stored ? text_escape_dup(stored) : NULL;
	CLEANUP_FREE char *question = safe ? str_printf("User name at %s [%s]: ", domain, safe)
					   : str_printf("User name at %s: ", domain);
	int r = question ? prompt_line(question, false, &answer, e) : err_oom(e);
	if (r == -ENOTTY)
		err_hint(e, "name the user with --username, and pipe the password to --password-stdin");
	if (r < 0)
		return r;
	*ret = *answer ? TAKE_PTR(answer) : TAKE_PTR(stored);
	return *ret && **ret ? 0 : err_set(e, -EINVAL, "no user name was given");
}

static int get_password(const struct login_opts *o, char **ret, struct err *e)
{
	int r;

	if (o->from_stdin) {
		r = prompt_stdin(ret, e);
	} else if (o->password) {
		*ret = strdup(o->password);
		r = *ret ? 0 : err_oom(e);
	} else {
		r = prompt_line("Password: ", true, ret, e);
		if (r == -ENOTTY)
			err_hint(e, "pipe the password to --password-stdin");
	}
	return r == 0 && !**ret ? err_set(e, -EINVAL, "the password is empty") : r;
}

static int check_opts(const struct login_opts *o, struct err *e)
{
	if (o->password && o->from_stdin)
		return err_set(e, -EINVAL, "--password and --password-stdin exclude each other");
	if (o->from_stdin && !o->user)
		return err_set(e, -EINVAL, "--password-stdin needs --username");
	if (o->user && !*o->user)
		return err_set(e, -EINVAL, "--username is empty");
	if (o->user && strchr(o->user, ':')) /* RFC 7617: it would end there */
		return err_set(e, -EINVAL, "--username %s: a user name has no colon", o->user);
	return 0;
}

static int log_in(const struct login_opts *o, const char *server, struct err *e)
{
	CLEANUP_FREE char *domain = NULL, *asked = NULL, *where = NULL;
	CLEANUP(prompt_freep) char *password = NULL;
	CLEANUP(app_close) struct app a = {0};

	int r = oci_registry_domain(server, &domain, e);
	if (r == 0)
		r = check_opts(o, e);
	if (r < 0)
		return r;
	if (o->password)
		fprintf(stderr,
			"a3s-box: warning: login: a password on the command line can be seen by others; use "
			"--password-stdin\n");
	if (!o->user)
		r = ask_user(domain, &asked, e);
	if (r == 0)
		r = get_password(o, &password, e);
	if (r == 0)
		r = app_open(&a, true, e);
	if (r == 0)
		r = oci_login(a.store, domain, o->user ? o->user : asked, password, &o->remote, &where, e);
	if (r < 0)
		return r;
	if (where && strchr(where, '/')) {
		CLEANUP_FREE char *safe = text_escape_dup(where);
		fprintf(stderr, "a3s-box: warning: login: the password is stored unencrypted in %s\n",
			safe ? safe : "");
	}
	printf("Login Succeeded\n");
	return 0;
}

int cmd_login(const struct cmd *c, int argc, char **argv)
{
	struct login_opts o = {.remote.tls_verify = true};
	struct opt opts[] = {
		{'p', "password", OPT_STR, &o.password, "PASSWORD", "which others can see here [asked for]"},
		{0, "password-stdin", OPT_FLAG, &o.from_stdin, NULL, "the password is standard input"},
		{'u', "username", OPT_STR, &o.user, "USER", "who you are there [asked for]"},
		REMOTE_OPTS(&o.remote), {0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc > 2)
		return app_usage(c, "one registry is taken at most");
	if (r == 0)
		r = log_in(&o, argc > 1 ? argv[1] : NULL, &e);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}

int cmd_logout(const struct cmd *c, int argc, char **argv)
{
	CLEANUP_FREE char *domain = NULL;
	struct opt opts[] = {{0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc > 2)
		return app_usage(c, "one registry is taken at most");
	if (r == 0)
		r = oci_registry_domain(argc > 1 ? argv[1] : NULL, &domain, &e);
	if (r == 0) {
		audit_opened(); /* it changes something, though not in the home */
		r = oci_logout(domain, &e);
	}
	if (r == -ENOENT) { /* as was wanted */
		printf("Not logged in to %s\n", domain);
		return 0;
	}
	if (r == 0)
		printf("Removing login credentials for %s\n", domain);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}
