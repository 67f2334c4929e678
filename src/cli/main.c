/* SPDX-License-Identifier: MIT */
/* a3s-box: one command line, one short life. */
#include <locale.h>
#include <signal.h>
#include <string.h>

#include "app.h"
#include "base/log.h"

static const struct cmd commands[] = {
	{"create", "[OPTIONS] IMAGE [COMMAND] [ARG...]", "make a box without starting it", cmd_create, 125},
	{"exec", "[OPTIONS] BOX COMMAND [ARG...]", "run a command in a running box", cmd_exec, 125},
	{"images", "[OPTIONS]", "list images", cmd_images, 1},
	{"info", "[OPTIONS]", "show this host, its accelerator and what is stored", cmd_info, 1},
	{"inspect", "BOX|IMAGE [BOX|IMAGE...]", "show everything about boxes or images as JSON", cmd_inspect,
		1},
	{"kill", "[OPTIONS] BOX [BOX...]", "send a signal to boxes", cmd_kill, 1},
	{"load", "[OPTIONS]", "read images from an archive (docker save, OCI)", cmd_load, 1},
	{"logs", "[OPTIONS] BOX", "show what a box printed", cmd_logs, 1},
	{"pause", "BOX [BOX...]", "let running boxes stand still", cmd_pause, 1},
	{"ps", "[OPTIONS]", "list boxes", cmd_ps, 1},
	{"pull", "[OPTIONS] IMAGE", "get an image from a registry", cmd_pull, 1},
	{"rm", "[OPTIONS] BOX [BOX...]", "remove boxes", cmd_rm, 1},
	{"rmi", "[OPTIONS] IMAGE [IMAGE...]", "remove images", cmd_rmi, 1},
	{"run", "[OPTIONS] IMAGE [COMMAND] [ARG...]", "run a command in a new box", cmd_run, 125},
	{"start", "[OPTIONS] BOX [BOX...]", "start boxes that do not run", cmd_start, 1},
	{"stop", "[OPTIONS] BOX [BOX...]", "ask boxes to stop, then kill them", cmd_stop, 1},
	{"unpause", "BOX [BOX...]", "let paused boxes go on", cmd_unpause, 1},
	{"version", "[OPTIONS]", "show the version", cmd_version, 1},
	{"wait", "BOX [BOX...]", "wait until boxes have ended and print their exit codes", cmd_wait, 1},
};

static void print_help(void)
{
	printf("Usage: a3s-box COMMAND\n\nRuns any OCI image in its own microVM, with its own Linux "
	       "kernel.\n\nCommands:\n");
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		printf("  %-10s %s\n", commands[i].name, commands[i].summary);
	printf("\nSee a3s-box COMMAND --help for a command's options.\n");
}

/* What was printed must have arrived: a full disk or a closed pipe turns success into failure. */
static int check_output(const struct cmd *c, int status)
{
	struct err e = {0};

	errno = 0;
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	err_sys(&e, errno ? -errno : -EIO, "cannot write to standard output");
	return status ? status : app_fail(c, &e, 1);
}

int main(int argc, char **argv)
{
	struct err e = {0};

	log_init("a3s-box");
	signal(SIGCHLD, SIG_DFL); /* may be inherited as ignored, and then no child can be waited for */
	signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error to report */
	setlocale(
		LC_CTYPE, "C.UTF-8"); /* names are bytes that are usually UTF-8, whatever the user's locale */
	/* As in Docker, no command at all asks for help. */
	if (argc < 2 || (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
				strcmp(argv[1], "help") == 0)) {
		print_help();
		return 0;
	}
	const char *name = argv[1];
	if (strcmp(name, "--version") == 0 || strcmp(name, "-v") == 0)
		name = "version";
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (strcmp(name, commands[i].name) == 0)
			return check_output(&commands[i], commands[i].run(&commands[i], argc - 1, argv + 1));
	}
	err_set(&e, -EINVAL, "unknown command: %s", name);
	err_hint(&e, "see a3s-box --help");
	err_print("a3s-box", &e);
	return 125;
}
