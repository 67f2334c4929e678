/* SPDX-License-Identifier: MIT */
/* a3s-box: one command line, one short life. */
#include <locale.h>
#include <signal.h>
#include <string.h>

#include "app.h"
#include "audit.h"
#include "base/log.h"
#include "completion.h"

static const struct cmd network_commands[] = {
	{"network connect", "[OPTIONS] NETWORK BOX", "put a box on a network, also while it runs",
		cmd_network_connect, 1, OPERANDS_NETWORK_BOX},
	{"network create", "[OPTIONS] NETWORK", "make a network", cmd_network_create, 1},
	{"network disconnect", "[OPTIONS] NETWORK BOX", "take a box off a network, also while it runs",
		cmd_network_disconnect, 1, OPERANDS_NETWORK_BOX},
	{"network inspect", "[OPTIONS] NETWORK [NETWORK...]", "show everything about networks as JSON",
		cmd_network_inspect, 1, OPERANDS_NETWORKS, true},
	{"network ls", "[OPTIONS]", "list networks", cmd_network_ls, 1, OPERANDS_NONE, true, .alias = "list"},
	{"network prune", "[OPTIONS]", "remove all networks that no box is on", cmd_network_prune, 1},
	{"network rm", "[OPTIONS] NETWORK [NETWORK...]", "remove networks", cmd_network_rm, 1,
		OPERANDS_NETWORKS, .alias = "remove"},
	{"network update", "OPTIONS NETWORK", "change who may talk to whom, at once", cmd_network_update, 1,
		OPERANDS_NETWORKS},
};

static const struct cmd volume_commands[] = {
	{"volume create", "[OPTIONS] [VOLUME]", "make a volume", cmd_volume_create, 1},
	{"volume inspect", "[OPTIONS] VOLUME [VOLUME...]", "show everything about volumes as JSON",
		cmd_volume_inspect, 1, OPERANDS_VOLUMES, true},
	{"volume ls", "[OPTIONS]", "list volumes", cmd_volume_ls, 1, OPERANDS_NONE, true, .alias = "list"},
	{"volume prune", "[OPTIONS]", "remove anonymous volumes that no box needs", cmd_volume_prune, 1},
	{"volume rm", "[OPTIONS] VOLUME [VOLUME...]", "remove volumes", cmd_volume_rm, 1, OPERANDS_VOLUMES,
		.alias = "remove"},
};

static const struct cmd snapshot_commands[] = {
	{"snapshot create", "[OPTIONS] BOX [NAME]", "keep the disk of a box as it is now",
		cmd_snapshot_create, 1, OPERANDS_BOX},
	{"snapshot fork", "[OPTIONS] SNAPSHOT", "make boxes of a snapshot", cmd_snapshot_fork, 1,
		OPERANDS_SNAPSHOT},
	{"snapshot inspect", "[OPTIONS] SNAPSHOT [SNAPSHOT...]", "show everything about snapshots as JSON",
		cmd_snapshot_inspect, 1, OPERANDS_SNAPSHOTS, true},
	{"snapshot ls", "[OPTIONS]", "list snapshots", cmd_snapshot_ls, 1, OPERANDS_NONE, true,
		.alias = "list"},
	{"snapshot prune", "[OPTIONS]", "remove old snapshots", cmd_snapshot_prune, 1},
	{"snapshot restore", "[OPTIONS] SNAPSHOT | BOX SNAPSHOT",
		"make a box of a snapshot, or put a box back to one", cmd_snapshot_restore, 1,
		OPERANDS_BOX_SNAPSHOT},
	{"snapshot rm", "SNAPSHOT [SNAPSHOT...]", "remove snapshots", cmd_snapshot_rm, 1, OPERANDS_SNAPSHOTS,
		.alias = "remove"},
};

static const struct cmd commands[] = {
	{"attach", "[OPTIONS] BOX", "connect the terminal with a running box", cmd_attach, 1,
		OPERANDS_LIVE_BOX},
	{"audit", "[OPTIONS]", "show what was done here, by whom, and how it went", cmd_audit, 1,
		OPERANDS_NONE, true},
	{"commit", "[OPTIONS] BOX [IMAGE]", "make an image of what a box has changed", cmd_commit, 1,
		OPERANDS_BOX},
	{"completion", "bash|zsh|fish", "print a script that completes our commands", cmd_completion, 1,
		OPERANDS_NONE, true},
	{"container-update", "OPTIONS BOX [BOX...]", "change limits and the restart policy of boxes",
		cmd_container_update, 1, OPERANDS_BOXES},
	{"cp", "[OPTIONS] BOX:SOURCE TARGET|- | SOURCE|- BOX:TARGET",
		"copy files between this host and a box", cmd_cp, 1, OPERANDS_COPY},
	{"create", "[OPTIONS] IMAGE [COMMAND] [ARG...]", "make a box without starting it", cmd_create, 125,
		OPERANDS_IMAGE},
	{"df", "[OPTIONS]", "show what everything takes on disk", cmd_df, 1, OPERANDS_NONE, true},
	{"diff", "BOX", "list what a box changed in the files of its image", cmd_diff, 1, OPERANDS_BOX, true},
	{"events", "[OPTIONS]", "show what happens to boxes and images, as it happens", cmd_events, 1,
		OPERANDS_NONE, true},
	{"exec", "[OPTIONS] BOX COMMAND [ARG...]", "run a command in a running box", cmd_exec, 125,
		OPERANDS_BOX_COMMAND},
	{"export", "[OPTIONS] BOX", "write the files of a box to an archive", cmd_export, 1, OPERANDS_BOX},
	{"history", "[OPTIONS] IMAGE", "show the steps that made an image", cmd_history, 1, OPERANDS_IMAGES,
		true},
	{"image-check", "[OPTIONS]", "check everything that is stored of images", cmd_image_check, 1},
	{"image-inspect", "[OPTIONS] IMAGE [IMAGE...]", "show everything about images as JSON",
		cmd_image_inspect, 1, OPERANDS_IMAGES, true},
	{"image-prune", "[OPTIONS]", "remove images without a name", cmd_image_prune, 1},
	{"images", "[OPTIONS] [REPOSITORY[:TAG]]", "list images", cmd_images, 1, OPERANDS_IMAGES, true},
	{"import", "[OPTIONS] FILE|- [IMAGE]", "make an image from an archive of a root file system",
		cmd_import, 1, OPERANDS_FILE_IMAGE},
	{"info", "[OPTIONS]", "show this host, its accelerator and what is stored", cmd_info, 1,
		OPERANDS_NONE, true},
	{"inspect", "[OPTIONS] BOX|IMAGE|NETWORK|VOLUME|SNAPSHOT [...]",
		"show everything about boxes, images and the others as JSON", cmd_inspect, 1, OPERANDS_ANY,
		true},
	{"kill", "[OPTIONS] BOX [BOX...]", "send a signal to boxes", cmd_kill, 1, OPERANDS_BOXES},
	{"load", "[OPTIONS]", "read images from an archive (docker save, OCI)", cmd_load, 1},
	{"login", "[OPTIONS] [REGISTRY]", "log in to a registry", cmd_login, 1, OPERANDS_REGISTRY},
	{"logout", "[REGISTRY]", "forget the credentials for a registry", cmd_logout, 1, OPERANDS_REGISTRY},
	{"logs", "[OPTIONS] BOX", "show what a box printed", cmd_logs, 1, OPERANDS_BOX, true},
	{"monitor", "[OPTIONS]", "start again what should run but lost its supervisor or its host",
		cmd_monitor, 1},
	{"network", "COMMAND", "manage networks", NULL, 1, OPERANDS_NONE, false, network_commands,
		ARRAY_LEN(network_commands)},
	{"pause", "BOX [BOX...]", "let running boxes stand still", cmd_pause, 1, OPERANDS_BOXES},
	{"port", "BOX [PORT[/PROTOCOL]]", "list the published ports of a box", cmd_port, 1, OPERANDS_BOX,
		true},
	{"port-forward", "BOX [[ADDRESS:]HOST-PORT:]BOX-PORT [...]",
		"carry connections to ports of this host into a running box", cmd_port_forward, 1,
		OPERANDS_LIVE_BOX},
	{"ps", "[OPTIONS]", "list boxes", cmd_ps, 1, OPERANDS_NONE, true},
	{"prune", "[OPTIONS]", "remove all boxes that do not run", cmd_prune, 1},
	{"pull", "[OPTIONS] IMAGE", "get an image from a registry", cmd_pull, 1, OPERANDS_IMAGES},
	{"push", "[OPTIONS] IMAGE [TARGET]", "send an image to a registry", cmd_push, 1, OPERANDS_IMAGES},
	{"rename", "BOX NAME", "give a box another name", cmd_rename, 1, OPERANDS_BOX},
	{"restart", "[OPTIONS] BOX [BOX...]", "stop boxes and start them again", cmd_restart, 1,
		OPERANDS_BOXES},
	{"rm", "[OPTIONS] BOX [BOX...]", "remove boxes", cmd_rm, 1, OPERANDS_BOXES},
	{"rmi", "[OPTIONS] IMAGE [IMAGE...]", "remove images", cmd_rmi, 1, OPERANDS_IMAGES},
	{"run", "[OPTIONS] IMAGE [COMMAND] [ARG...]", "run a command in a new box", cmd_run, 125,
		OPERANDS_IMAGE},
	{"save", "[OPTIONS] IMAGE [IMAGE...]", "write images to an archive", cmd_save, 1, OPERANDS_IMAGES},
	{"shell", "[OPTIONS] BOX", "start a shell in a running box", cmd_shell, 125, OPERANDS_LIVE_BOX},
	{"snapshot", "COMMAND", "keep disks of boxes, and go back to them", NULL, 1, OPERANDS_NONE, false,
		snapshot_commands, ARRAY_LEN(snapshot_commands)},
	{"start", "[OPTIONS] BOX [BOX...]", "start boxes that do not run", cmd_start, 1, OPERANDS_BOXES},
	{"stats", "[OPTIONS] [BOX...]", "show what boxes use, again every second", cmd_stats, 1,
		OPERANDS_BOXES},
	{"stop", "[OPTIONS] BOX [BOX...]", "ask boxes to stop, then kill them", cmd_stop, 1, OPERANDS_BOXES,
		true},
	{"system-prune", "[OPTIONS]", "remove all that is not in use", cmd_system_prune, 1},
	{"tag", "IMAGE NAME", "give an image a further name", cmd_tag, 1, OPERANDS_IMAGES},
	{"top", "BOX [PS OPTIONS]", "list the processes of a running box", cmd_top, 1, OPERANDS_LIVE_BOX,
		true},
	{"unpause", "BOX [BOX...]", "let paused boxes go on", cmd_unpause, 1, OPERANDS_BOXES},
	{"version", "[OPTIONS]", "show the version", cmd_version, 1, OPERANDS_NONE, true},
	{"volume", "COMMAND", "manage volumes", NULL, 1, OPERANDS_NONE, false, volume_commands,
		ARRAY_LEN(volume_commands)},
	{"wait", "[OPTIONS] BOX [BOX...]", "wait until boxes have ended and print their exit codes", cmd_wait,
		1, OPERANDS_BOXES, true},
};

/* NULL: there is none. */
static const struct cmd *find_command(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (strcmp(name, commands[i].name) == 0)
			return &commands[i];
	}
	return NULL;
}

static bool asks_help(const char *word)
{
	return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0;
}

static void print_commands(const struct cmd *list, size_t n)
{
	printf("\nCommands:\n");
	for (size_t i = 0; i < n; i++)
		printf("  %-16s %s\n", cmd_last_name(&list[i]), list[i].summary);
}

static void print_help(void)
{
	printf("Usage: a3s-box COMMAND\n\nRuns any OCI image in its own microVM, with its own Linux "
	       "kernel.\n");
	print_commands(commands, ARRAY_LEN(commands));
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

static int run_command(const struct cmd *c, int argc, char **argv)
{
	if (!c->only_reads) {
		audit_begin(c->name, argc, argv);
		box_seen = audit_box;
	}
	int status = check_output(c, c->run(c, argc, argv));
	audit_end(status);
	return status;
}

/* argv[0] is the group's name. */
static int run_group(const struct cmd *group, int argc, char **argv)
{
	struct err e = {0};
	const char *name = argc > 1 ? argv[1] : "--help";

	if (asks_help(name)) {
		printf("Usage: a3s-box %s %s\n\n%s\n", group->name, group->usage, group->summary);
		print_commands(group->subs, group->n_subs);
		printf("\nSee a3s-box %s COMMAND --help for a command's options.\n", group->name);
		return check_output(group, 0);
	}
	if (strcmp(name, "--help=options") == 0) /* it has none of its own */
		return 0;
	for (size_t i = 0; i < group->n_subs; i++) {
		if (cmd_is(&group->subs[i], name))
			return run_command(&group->subs[i], argc - 1, argv + 1);
	}
	err_set(&e, -EINVAL, "unknown command: %s", name);
	err_hint(&e, "see a3s-box %s --help", group->name);
	return app_fail(group, &e, group->usage_status);
}

/* Docker's `system X`, which nothing lists, is a command of its own here. */
static const struct {
	const char *word, *command;
} system_words[] = {{"df", "df"}, {"events", "events"}, {"info", "info"}, {"prune", "system-prune"}};

/* argv[0] is "system". */
static int run_system(int argc, char **argv)
{
	static const struct cmd group = {.name = "system"};
	struct err e = {0};
	const char *word = argc > 1 ? argv[1] : "--help";

	if (asks_help(word)) {
		printf("Usage: a3s-box system COMMAND\n\nDocker's names of commands that have their own "
		       "here\n\n"
		       "Commands:\n");
		for (size_t i = 0; i < ARRAY_LEN(system_words); i++)
			printf("  %-16s %s\n", system_words[i].word,
				find_command(system_words[i].command)->summary);
		printf("\nSee a3s-box system COMMAND --help for a command's options.\n");
		return check_output(&group, 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(system_words); i++) {
		if (strcmp(word, system_words[i].word) == 0)
			return run_command(find_command(system_words[i].command), argc - 1, argv + 1);
	}
	err_set(&e, -EINVAL, "unknown command: %s", word);
	err_hint(&e, "see a3s-box system --help");
	return app_fail(&group, &e, 1);
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
	if (argc < 2 || asks_help(argv[1])) {
		print_help();
		return 0;
	}
	const char *name = argv[1];
	if (strcmp(name, "--version") == 0 || strcmp(name, "-v") == 0)
		name = "version";
	if (strcmp(name, "__complete") == 0)
		return completion_words(commands, ARRAY_LEN(commands), argc - 2, argv + 2);
	if (strcmp(name, "system") == 0)
		return run_system(argc - 1, argv + 1);
	const struct cmd *c = find_command(name);
	if (c)
		return c->subs ? run_group(c, argc - 1, argv + 1) : run_command(c, argc - 1, argv + 1);
	err_set(&e, -EINVAL, "unknown command: %s", name);
	err_hint(&e, "see a3s-box --help");
	err_print("a3s-box", &e);
	return 125;
}
