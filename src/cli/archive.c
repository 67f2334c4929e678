/* SPDX-License-Identifier: MIT */
/* save, load, import: images as files. */
#include <fcntl.h>
#include <string.h>

#include "audit.h"
#include "base/io.h"
#include "base/proc.h"
#include "oci/transfer.h"
#include "output.h"
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

static int save(const char *path, char **refs, size_t n, const struct oci_save_opts *so, struct err *e)
{
	CLEANUP(output_done) struct output o = {.fd = -1};
	CLEANUP(app_close) struct app a = {0};
	CLEANUP(strv_done) struct strv names = {0};
	struct progress p;

	int r = output_check(path, e);
	if (r == 0)
		r = app_open(&a, true, e);
	if (r == 0)
		r = oci_save_names(a.store, (const char *const *)refs, n, &names, e);
	for (size_t i = 0; r == 0 && i < names.n; i++) { /* before a file is begun for it */
		CLEANUP(oci_image_freep) struct oci_image *image = NULL;
		r = oci_image_find(a.store, names.v[i], &image, e);
		if (r == 0)
			audit_image(image->id);
	}
	if (r == 0)
		r = output_open(&o, path, e);
	if (r < 0)
		return r;
	progress_init(&p, PROGRESS_TERMINAL);
	struct oci_progress op = {progress_show, &p};
	r = oci_save(a.store, o.fd, (const char *const *)names.v, names.n, so, &op, e);
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
