/* SPDX-License-Identifier: MIT */
#include "output.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"

/* The name of a file beside path that is not there yet. */
static char *name_beside(const char *path)
{
	uint8_t random[8];
	char hex[2 * sizeof(random) + 1];

	io_random(random, sizeof(random));
	hex_encode(hex, random, sizeof(random));
	return str_printf("%s.%s.tmp", path, hex);
}

/* The folder of a file. malloc'd. */
static char *folder_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (!slash)
		return strdup(".");
	return strndup(path, slash == path ? 1 : (size_t)(slash - path)); /* "/" itself stays */
}

static int sync_folder(const char *path, struct err *e)
{
	CLEANUP_FREE char *folder = folder_of(path);

	if (!folder)
		return err_oom(e);
	CLEANUP_CLOSE int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 ? -errno : io_fsync_dir(fd);
	/* A folder in which one may write but not read cannot be synced: the file is there all the same. */
	return r < 0 && r != -EACCES ? err_sys(e, r, "cannot write to %s", path) : 0;
}

/* For a signal that ends the command: the name that has to go first. */
static char *unfinished;
static const int ends[] = {SIGINT, SIGTERM, SIGHUP};

static void drop_unfinished(int signal)
{
	unlink(unfinished);
	(void)kill(getpid(), signal); /* as by default, now that we are back at that */
}

/* From here on no signal that people send leaves the file behind. */
static void guard(char *tmp)
{
	struct sigaction sa = {.sa_handler = drop_unfinished, .sa_flags = (int)SA_RESETHAND}, old;

	unfinished = tmp;
	for (size_t i = 0; i < ARRAY_LEN(ends); i++)
		if (sigaction(ends[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
			(void)sigaction(ends[i], &sa, NULL);
}

static void unguard(void)
{
	struct sigaction old, dfl = {.sa_handler = SIG_DFL};

	for (size_t i = 0; i < ARRAY_LEN(ends); i++)
		if (sigaction(ends[i], NULL, &old) == 0 && old.sa_handler == drop_unfinished)
			(void)sigaction(ends[i], &dfl, NULL);
	unfinished = NULL;
}

void output_done(struct output *o)
{
	if (o->tmp)
		unlink(o->tmp);
	unguard();
	close_fd(&o->fd);
	free(o->tmp);
	free(o->path);
}

int output_check(const char *path, struct err *e)
{
	if (path && !*path)
		return err_set(e, -EINVAL, "--output: a file name is missing");
	if (path || !isatty(STDOUT_FILENO))
		return 0;
	err_set(e, -EINVAL, "standard output is a terminal");
	return err_hint(e, "write to a file with -o FILE");
}

int output_open(struct output *o, const char *path, struct err *e)
{
	struct stat st;
	bool there = path && stat(path, &st) == 0;

	if (!path) {
		o->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
		return o->fd < 0 ? err_sys(e, -errno, "standard output") : 0;
	}
	if (there && S_ISDIR(st.st_mode))
		return err_sys(e, -EISDIR, "cannot write to %s", path);
	if (there && !S_ISREG(st.st_mode)) { /* a pipe or a device */
		o->fd = open(path, O_WRONLY | O_CLOEXEC);
		return o->fd < 0 ? err_sys(e, -errno, "cannot write to %s", path) : 0;
	}
	o->path = there ? realpath(path, NULL) : strdup(path);
	CLEANUP_FREE char *folder = o->path ? folder_of(o->path) : NULL;
	if (!folder)
		return err_oom(e);
	o->fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (o->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
		o->tmp = name_beside(o->path);
		if (o->tmp)
			guard(o->tmp);
		o->fd = o->tmp ? open(o->tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
	}
	return o->fd < 0 ? err_sys(e, -errno, "cannot write to %s", path) : 0;
}

int output_finish(struct output *o, struct err *e)
{
	char proc[40];

	if (!o->path)
		return 0;
	if (fsync(o->fd) < 0)
		return err_sys(e, -errno, "cannot write to %s", o->path);
	if (!o->tmp) {
		CLEANUP_FREE char *tmp = name_beside(o->path);
		snprintf(proc, sizeof(proc), "/proc/self/fd/%d", o->fd);
		if (!tmp)
			return err_oom(e);
		guard(tmp);
		if (linkat(AT_FDCWD, proc, AT_FDCWD, tmp, AT_SYMLINK_FOLLOW) < 0) {
			int r = -errno;
			unguard();
			return err_sys(e, r, "cannot write to %s", o->path);
		}
		o->tmp = TAKE_PTR(tmp);
	}
	if (rename(o->tmp, o->path) < 0)
		return err_sys(e, -errno, "cannot write to %s", o->path);
	unguard();
	free(TAKE_PTR(o->tmp));
	return sync_folder(o->path, e);
}
