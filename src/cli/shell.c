/* SPDX-License-Identifier: MIT */
/* shell: the best shell that a box has, at the terminal. */
#include "detach.h"
#include "exec.h"

/*
 * Run by the box's sh, which then becomes the shell found: the one that /etc/passwd names for the user, unless it only turns
 * people away; else the first of a list that is there. Built-in commands only: nothing else need be in the box.
 */
static const char script[] =
	"while read -r k v _; do [ \"$k\" = Uid: ] && break; done </proc/self/status\n"
	"found=\n"
	"if [ -r /etc/passwd ]; then\n"
	"	while IFS=: read -r _ _ u _ _ _ s; do\n"
	"		[ \"$u\" = \"$v\" ] && found=$s && break\n"
	"	done </etc/passwd\n"
	"fi\n"
	"case $found in\n"
	"/*) case ${found##*/} in nologin|false|true|sync|shutdown|halt) found= ;; esac ;;\n"
	"*) found= ;;\n"
	"esac\n"
	"for s in \"$found\" bash zsh fish ash dash ksh sh; do\n"
	"	if p=$(command -v \"$s\" 2>/dev/null) && [ -x \"$p\" ]; then\n"
	"		export SHELL=\"$p\"\n"
	"		exec \"$p\"\n"
	"	fi\n"
	"done\n"
	"exec sh\n";

int cmd_shell(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(exec_opts_done) struct exec_opts o = {.what = "shell", .interactive = true};
	struct opt opts[] = {{0, "detach-keys", OPT_STR, &o.detach_keys, "KEYS", DETACH_HELP},
		{'e', "env", OPT_LIST, &o.env, "NAME=VALUE",
			"set an environment variable; NAME alone passes ours on"},
		{'u', "user", OPT_STR, &o.user, "USER[:GROUP]", "run as this user [the box's]"},
		{'w', "workdir", OPT_STR, &o.workdir, "PATH", "working directory [the box's]"}, {0}};
	char *const command[] = {(char *)"sh", (char *)"-c", (char *)script};
	struct err e = {0};
	int status = STATUS_FAILED;

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc != 2)
		return app_usage(c, "exactly one box is needed");
	o.tty = isatty(STDIN_FILENO);
	if (r == 0)
		r = exec_check(&o, &e);
	if (r == 0)
		r = exec_in_box(argv[1], &o, command, ARRAY_LEN(command), &status, &e);
	if (r < 0 && status == 127) {
		err_set(&e, r, "box %s has no shell: there is no sh in its PATH", argv[1]);
		err_hint(&e, "a3s-box exec runs a program that it has");
	}
	return r < 0 ? app_fail(c, &e, status) : r;
}
