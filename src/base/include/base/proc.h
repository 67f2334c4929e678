/* SPDX-License-Identifier: MIT */
/* Child processes. */
#ifndef BASE_PROC_H
#define BASE_PROC_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

struct sock_fprog; /* <linux/filter.h> */

struct proc_fd {
	int from; /* descriptor in this process */
	int to;	  /* number in the child */
};

/*
 * What keeps a child apart from the rest of the host, besides no_new_privs. What the host does not permit is
 * left out, and reported.
 */
struct proc_confine {
	/*
	 * Wanted: CLONE_NEW* of clone(2). All of them, or all but CLONE_NEWUSER (for which a caller needs
	 * privileges), or none. The child stays the same user towards the host, whatever it is called inside.
	 */
	unsigned namespaces;
	/*
	 * true: it keeps its capabilities, and in a new user namespace it is user 0 and has all of them
	 * there. false: it has none at all, and cannot get any.
	 */
	bool capabilities;
	int landlock_fd;		 /* ruleset of landlock(7) that it comes under; borrowed; -1: none */
	const struct sock_fprog *filter; /* program of seccomp(2) that it comes under; borrowed; NULL: none */

	/* Filled by proc_spawn. */
	unsigned got;	      /* namespaces that it is in */
	int namespaces_error; /* why not in all: -errno, or 0 */
	int landlock_error;   /* why not under the ruleset: -errno, or 0 */
};

struct proc_opts {
	const char *path;	 /* program; searched in PATH when it has no slash */
	const char *const *argv; /* NULL-terminated */
	const char *const *envp; /* NULL: inherited */
	const char *cwd;	 /* its working folder, NULL: ours */
	const struct proc_fd *
		fds; /* everything else is closed in the child but 0-2, which become /dev/null unless listed */
	size_t n_fds;
	bool die_with_parent;	      /* SIGKILL when the calling thread ends, however it ends */
	bool new_session;	      /* setsid */
	bool no_new_privs;	      /* set-user-ID programs gain nothing in it and below */
	struct proc_confine *confine; /* NULL: none */
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
/* Gives up every capability, bounding and ambient set included: none can be had again. 0 or -errno. */
int proc_drop_capabilities(void);
/* Raises our soft limit of open descriptors to the hard one. Children inherit it. */
void proc_raise_descriptor_limit(void);
/* Path of the running executable's folder, malloc'd, or NULL. */
char *proc_self_dir(void);

#endif
