/* SPDX-License-Identifier: MIT */
/* Child processes. */
#ifndef BASE_PROC_H
#define BASE_PROC_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

struct proc_fd {
	int from; /* descriptor in this process */
	int to;	  /* number in the child */
};

struct proc_opts {
	const char *path;	 /* program; searched in PATH when it has no slash */
	const char *const *argv; /* NULL-terminated */
	const char *const *envp; /* NULL: inherited */
	const struct proc_fd *
		fds; /* everything else is closed in the child but 0-2, which become /dev/null unless listed */
	size_t n_fds;
	bool die_with_parent; /* SIGKILL when the calling thread ends, however it ends */
	bool new_session;     /* setsid */
	bool no_new_privs;    /* set-user-ID programs gain nothing in it and below */
};

/*
 * Starts a child with default signal dispositions and an empty mask. Returns its PID and, if ret_pidfd is not
 * NULL, a pidfd; or -errno, that of execve included.
 */
pid_t proc_spawn(const struct proc_opts *o, int *ret_pidfd);
/* waitpid without EINTR; fills *status. Returns 0 or -errno. */
int proc_wait(pid_t pid, int *status);
/* Exit status in the shell's convention: code, or 128 + signal. */
int proc_status_code(int wait_status);
/* Raises our soft limit of open descriptors to the hard one. Children inherit it. */
void proc_raise_descriptor_limit(void);
/* Path of the running executable's folder, malloc'd, or NULL. */
char *proc_self_dir(void);

#endif
