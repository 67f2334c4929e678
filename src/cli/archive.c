/* SPDX-License-Identifier: MIT */
/* save, load, import: images as files. */
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#include "audit.h"
#include "base/io.h"
#include "base/proc.h"
#include "oci/transfer.h"
#include "progress.h"

/* ---- reading ---- */

/* path, or standard input for "-", which must be none of a person's. hint: what to type instead. */
static int open_input(const char *path, const char *hint, int *ret, struct err *e)
{
	bool from_stdin = strcmp(path, "-") == 0;
	CLEANUP_CLOSE int fd =
		from_stdin ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_sys(e, -errno, "cannot open %s", from_stdin ? "standard input" : path);
	if (from_stdin && isatty(fd)) {
		err_set(e, -EINVAL, "standard input is a terminal");
		return err_hint(e, "name the archive: a3s-box %s", hint);
	}
	*ret = TAKE_FD(fd);
	return 0;
}

static const char *input_name(const char *path)
{
	return strcmp(path, "-") == 0 ? "standard input" : path;
}

/* ---- load ---- */

static void note_loaded(void *data, const char *name, const char *id)
{
	struct strv *lines = data;
	audit_image(id);
	CLEANUP_FREE char *familiar = name ? oci_ref_familiar(name) : NULL;
	CLEANUP_FREE char *line =
		familiar ? str_printf("Loaded image: %s", familiar) : str_printf("Loaded image ID: %s", id);
	if (line)
		strv_push(lines, line);
}

static int load(const char *input, const struct oci_load_opts *o, bool quiet, struct err *e)
{
	CLEANUP(strv_done) struct strv lines = {0};
	CLEANUP(app_close) struct app a = {0};
	CLEANUP_CLOSE int fd = -1;
	struct progress p;

	int r = open_input(input, "load -i FILE", &fd, e);
	if (r < 0)
		return r;
	proc_raise_descriptor_limit(); /* each entry of an archive is a file until all of it is known to be good */
	r = app_open(&a, true, e);
	if (r < 0)
		return r;
	progress_init(&p, quiet ? PROGRESS_QUIET : PROGRESS_TERMINAL);
	struct oci_progress op = {progress_show, &p};
	r = oci_load(a.store, fd, o, &op, note_loaded, &lines, e);
	progress_done(&p);
	if (r < 0)
		return err_wrap(e, "%s", input_name(input));
	for (size_t i = 0; i < lines.n; i++)
		printf("%s\n", lines.v[i]);
	return 0;
}

int cmd_load(const struct cmd *c, int argc, char **argv)
{
	struct oci_load_opts o = {0};
	const char *input = "-";
	bool quiet = false;
	struct opt opts[] = {{'i', "input", OPT_STR, &input, "FILE", "the archive [standard input]"},
		{0, "platform", OPT_STR, &o.platform, "OS/ARCH",
			"which of an image's platforms to run [the host's]"},
		{'q', "quiet", OPT_FLAG, &quiet, NULL, "no progress"}, {0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc > 1)
		return app_usage(c, "no arguments are taken (the file goes to -i)");
	if (r == 0)
		r = load(input, &o, quiet, &e);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}

/* ---- import ---- */

static int import(const char *input, const struct oci_import_opts *o, struct err *e)
{
	CLEANUP(app_close) struct app a = {0};
	CLEANUP_CLOSE int fd = -1;
	CLEANUP_FREE char *id = NULL;
	struct progress p;

	if (strstr(input, "://")) {
		err_set(e, -ENOTSUP, "%s: only a file or standard input can be imported", input);
		return err_hint(e, "fetch it first, and pipe it to: a3s-box import -");
	}
	int r = open_input(input, "import FILE [IMAGE]", &fd, e);
	if (r == 0)
		r = app_open(&a, true, e);
	if (r < 0)
		return r;
	progress_init(&p, PROGRESS_TERMINAL);
	struct oci_progress op = {progress_show, &p};
	r = oci_import(a.store, fd, o, &op, &id, e);
	progress_done(&p);
	if (r < 0)
		return err_wrap(e, "%s", input_name(input));
	audit_image(id);
	printf("%s\n", id);
	return 0;
}

int cmd_import(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(strv_done) struct strv changes = {0};
	struct oci_import_opts o = {.changes = &changes};
	struct opt opts[] = {{'c', "change", OPT_LIST, &changes, "INSTRUCTION",
				     "of a Dockerfile, for the image's configuration, like 'CMD [\"sh\"]'"},
		{'m', "message", OPT_STR, &o.message, "TEXT", "comment in the image's history"},
		{0, "platform", OPT_STR, &o.platform, "OS/ARCH", "what the image is for [the host's]"}, {0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && (argc < 2 || argc > 3))
		return app_usage(c, "a file, or - for standard input, is needed, then perhaps a name");
	if (r == 0) {
		o.ref = argc > 2 ? argv[2] : NULL;
		r = import(argv[1], &o, &e);
	}
	return r < 0 ? app_fail(c, &e, 1) : 0;
}

/* ---- save ---- */

/*
 * A file that gets its name only when it is whole. It has none before where the file system can do that, so that a
 * command that is killed leaves nothing; else one beside its own.
 */
struct output {
	char *path; /* with links followed; NULL: fd is written to as it is */
	char *tmp;  /* its name until then, NULL: it has none */
	int fd;
};

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

static void output_done(struct output *o)
{
	if (o->tmp)
		unlink(o->tmp);
	unguard();
	close_fd(&o->fd);
	free(o->tmp);
	free(o->path);
}

static int output_open(struct output *o, const char *path, struct err *e)
{
	struct stat st;
	bool there = stat(path, &st) == 0;

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

static int output_finish(struct output *o, struct err *e)
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

static int save(const char *path, char **refs, size_t n, const struct oci_save_opts *so, struct err *e)
{
	CLEANUP(output_done) struct output o = {.fd = -1};
	CLEANUP(app_close) struct app a = {0};
	struct progress p;

	if (!path && isatty(STDOUT_FILENO)) {
		err_set(e, -EINVAL, "standard output is a terminal");
		return err_hint(e, "write to a file with -o FILE");
	}
	int r = app_open(&a, true, e);
	for (size_t i = 0; r == 0 && i < n; i++) { /* before a file is begun for it */
		CLEANUP(oci_image_freep) struct oci_image *image = NULL;
		r = oci_image_find(a.store, refs[i], &image, e);
		if (r == 0)
			audit_image(image->id);
	}
	if (r == 0 && path)
		r = output_open(&o, path, e);
	if (r == 0 && !path) {
		o.fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
		r = o.fd < 0 ? err_sys(e, -errno, "standard output") : 0;
	}
	if (r < 0)
		return r;
	progress_init(&p, PROGRESS_TERMINAL);
	struct oci_progress op = {progress_show, &p};
	r = oci_save(a.store, o.fd, (const char *const *)refs, n, so, &op, e);
	progress_done(&p);
	if (r == 0)
		r = output_finish(&o, e);
	return r;
}

int cmd_save(const struct cmd *c, int argc, char **argv)
{
	struct oci_save_opts so = {0};
	const char *path = NULL, *format = "docker-archive";
	struct opt opts[] = {{0, "format", OPT_STR, &format, "FORMAT",
				     "docker-archive, which is an OCI layout too, or oci-archive, which is "
				     "only that [docker-archive]"},
		{'o', "output", OPT_STR, &path, "FILE", "the archive [standard output]"},
		{0, "platform", OPT_STR, &so.platform, "OS/ARCH",
			"of an image with several platforms only this one [all that are here]"},
		{0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc < 2)
		return app_usage(c, "an image is needed");
	if (r == 0 && path && !*path)
		r = err_set(&e, -EINVAL, "--output: a file name is missing");
	if (r == 0 && path && strcmp(path, "-") == 0)
		path = NULL;
	if (r == 0) {
		so.oci_only = strcmp(format, "oci-archive") == 0;
		if (!so.oci_only && strcmp(format, "docker-archive") != 0)
			r = err_set(
				&e, -EINVAL, "--format %s: expected docker-archive or oci-archive", format);
	}
	if (r == 0)
		r = save(path, argv + 1, (size_t)argc - 1, &so, &e);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}
