/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * One child runs the program, in a process group of its own that has the terminal, if there is one. Everything else that
 * becomes ours by its parent's end is reaped. Signals are blocked and taken from a descriptor; each goes to the child,
 * SIGCHLD excepted. When the child has ended, so do we, with its status, and with the first process of a PID namespace
 * the kernel ends the others.
 *
 * INIT_REPORT is how spawn.c learns that the program runs: it is closed by execve. If that fails, the child writes why, as
 * in child.c. With --watch it is nsexec's connection, and stays: a byte that comes is a signal for the child, its end
 * is the child's end, and the status goes there at last; why a program cannot be executed goes to standard error.
 */
#include "init.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/io.h"
#include "base/proc.h"
#include "process.h"

static _Noreturn void run(char **argv, const sigset_t *mask, bool watch)
{
	struct strv args = {.v = argv}, env = {.v = environ};
	char why[512] = "";
	uint32_t status;

	while (args.v[args.n])
		args.n++;
	while (env.v && env.v[env.n])
		env.n++;
	setpgid(0, 0);
	if (isatty(STDIN_FILENO))
		tcsetpgrp(STDIN_FILENO, getpid()); /* SIGTTOU is still blocked */
	sigprocmask(SIG_SETMASK, mask, NULL);
	status = process_exec(&args, &env, why, sizeof(why));
	if (watch)
		fprintf(stderr, "nsexec: %s\n", why);
	else if (io_write_full(INIT_REPORT, &status, sizeof(status)) == 0)
		io_write_full(INIT_REPORT, why, strlen(why));
	_exit((int)status);
}

/* Reaps what is there. Returns whether the child was, with its exit status. */
static bool reap(pid_t child, int *ret_status)
{
	bool found = false;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != child)
			continue;
		*ret_status = proc_status_code(status);
		found = true;
	}
	return found;
}

static int serve(pid_t child, int signals, bool watch)
{
	struct pollfd fds[2] = {
		{.fd = signals, .events = POLLIN}, {.fd = watch ? INIT_REPORT : -1, .events = POLLIN}};
	int status = 0;

	for (;;) {
		struct signalfd_siginfo info;
		uint8_t sig;

		if (poll(fds, 2, -1) < 0)
			continue;
		while (read(signals, &info, sizeof(info)) == sizeof(info))
			if (info.ssi_signo != SIGCHLD)
				kill(child, (int)info.ssi_signo);
		if (reap(child, &status))
			return status;
		if (!fds[1].revents)
			continue;
		if (recv(INIT_REPORT, &sig, 1, MSG_DONTWAIT) != 1)
			sig = SIGKILL;
		kill(child, sig);
	}
}

int init_main(int argc, char **argv)
{
	bool watch = argc > 2 && strcmp(argv[1], "--watch") == 0;
	sigset_t all, before;
	uint32_t status;
	int signals;
	pid_t child;

	if (argc < 3 || (!watch && strcmp(argv[1], "--") != 0))
		return 2;
	prctl(PR_SET_NAME, "docker-init");
	fcntl(INIT_REPORT, F_SETFD, FD_CLOEXEC);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	child = signals < 0 ? -1 : fork();
	if (child == 0)
		run(argv + 2, &before, watch);
	if (child < 0)
		return 125;
	if (!watch)
		close(INIT_REPORT);
	status = (uint32_t)serve(child, signals, watch);
	if (watch)
		io_write_full(INIT_REPORT, &status, sizeof(status));
	return (int)status;
}

_Noreturn void init_hold(void)
{
	sigset_t all;

	signal(SIGCHLD, SIG_IGN); /* what becomes ours by its parent's end is reaped by the kernel */
	sigfillset(&all);
	for (;;)
		sigsuspend(&all);
}
