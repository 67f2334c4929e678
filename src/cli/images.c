/* SPDX-License-Identifier: MIT */
/* images, rmi, load, pull. */
#include <fcntl.h>
#include <string.h>

#include "app.h"
#include "base/io.h"
#include "base/proc.h"
#include "base/units.h"

enum { SHORT_ID = 12 };

/* "sha256:0123…" -> "0123…" cut to 12 digits unless full. */
static const char *shown_id(const char *id, bool full, char *dst, size_t size)
{
	const char *hex = strchr(id, ':');
	if (full)
		snprintf(dst, size, "%s", id);
	else
		snprintf(dst, size, "%.*s", SHORT_ID, hex ? hex + 1 : id);
	return dst;
}

/* Repository and tag as a person would type them. */
static void split_name(const char *name, char *repo, size_t repo_size, char *tag, size_t tag_size)
{
	CLEANUP_FREE char *familiar = name ? oci_ref_familiar(name) : NULL;
	if (!familiar) {
		snprintf(repo, repo_size, "<none>");
		snprintf(tag, tag_size, "<none>");
		return;
	}
	char *colon = strrchr(familiar, ':');
	if (colon && !strchr(colon, '/')) {
		*colon = '\0';
		snprintf(tag, tag_size, "%s", colon + 1);
	} else {
		snprintf(tag, tag_size, "<none>");
	}
	snprintf(repo, repo_size, "%s", familiar);
}

static void print_images(struct oci_image **list, size_t n, bool full, bool json)
{
	static const char *const headings[] = {"REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"};
	struct table *t = json ? NULL : table_new(headings, ARRAY_LEN(headings));
	int64_t now = time_real_ns();

	for (size_t i = 0; i < n; i++) {
		char repo[300], tag[160], id[80], created[64] = "N/A", age[48], size[16];
		split_name(list[i]->name, repo, sizeof(repo), tag, sizeof(tag));
		shown_id(list[i]->id, full, id, sizeof(id));
		if (list[i]->created_ns)
			snprintf(created, sizeof(created), "%s ago",
				format_duration_human(age, sizeof(age), now - list[i]->created_ns));
		format_size(size, sizeof(size), list[i]->size);
		if (json)
			json_print(json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "Repository", repo, "Tag", tag,
					   "ID", list[i]->id, "Digest", list[i]->manifest, "CreatedSince",
					   created, "Size", size),
				0);
		else if (t)
			table_row(t, (const char *const[]){repo, tag, id, created, size});
	}
	if (t)
		table_print(t);
}

int cmd_images(const struct cmd *c, int argc, char **argv)
{
	bool quiet = false, full = false;
	const char *format = "table";
	struct opt opts[] = {{0, "format", OPT_STR, &format, "FORMAT", "table or json [table]"},
		{0, "no-trunc", OPT_FLAG, &full, NULL, "do not cut IDs"},
		{'q', "quiet", OPT_FLAG, &quiet, NULL, "only IDs"}, {0}};
	struct err e = {0};
	struct app a;
	struct oci_image **list = NULL;
	size_t n = 0;

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc > 1)
		return app_usage(c, "no arguments are taken");
	if (r == 0 && strcmp(format, "table") != 0 && strcmp(format, "json") != 0)
		r = err_set(&e, -EINVAL, "--format \"%s\": expected table or json", format);
	if (r == 0)
		r = app_open(&a, true, &e);
	if (r < 0)
		return app_fail(c, &e, 1);
	r = oci_image_list(a.store, &list, &n, &e);
	app_close(&a);
	if (r < 0)
		return app_fail(c, &e, 1);
	if (quiet) {
		for (size_t i = 0; i < n; i++) {
			char id[80];
			printf("%s\n", shown_id(list[i]->id, full, id, sizeof(id)));
		}
	} else {
		print_images(list, n, full, strcmp(format, "json") == 0);
	}
	oci_image_list_free(list, n);
	return 0;
}

static void print_removed(void *data, const char *key, const char *value)
{
	CLEANUP_FREE char *familiar = strncmp(value, "sha256:", 7) == 0 ? NULL : oci_ref_familiar(value);
	printf("%s: %s\n", key, familiar ? familiar : value);
}

int cmd_rmi(const struct cmd *c, int argc, char **argv)
{
	bool force = false;
	struct opt opts[] = {
		{'f', "force", OPT_FLAG, &force, NULL, "also when boxes use it, or it has several names"},
		{0}};
	struct err e = {0};
	struct app a;
	int status = 0;

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc < 2)
		return app_usage(c, "an image is needed");
	if (r == 0)
		r = app_open(&a, true, &e);
	if (r < 0)
		return app_fail(c, &e, 1);
	for (int i = 1; i < argc; i++) {
		if (oci_image_remove(a.store, argv[i], force, print_removed, NULL, &e) < 0)
			status = app_fail(c, &e, 1);
	}
	app_close(&a);
	return status;
}

struct loaded {
	struct strv lines;
};

static void note_loaded(void *data, const char *name, const char *id)
{
	struct loaded *l = data;
	CLEANUP_FREE char *familiar = name ? oci_ref_familiar(name) : NULL;
	CLEANUP_FREE char *line =
		familiar ? str_printf("Loaded image: %s", familiar) : str_printf("Loaded image ID: %s", id);
	if (line)
		strv_push(&l->lines, line);
}

int cmd_load(const struct cmd *c, int argc, char **argv)
{
	const char *input = "-";
	bool quiet = false;
	struct opt opts[] = {{'i', "input", OPT_STR, &input, "FILE", "the archive [standard input]"},
		{'q', "quiet", OPT_FLAG, &quiet, NULL, "no progress"}, {0}};
	struct err e = {0};
	struct app a = {0};
	struct progress p;
	struct loaded l = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc > 1)
		return app_usage(c, "no arguments are taken (the file goes to -i)");
	CLEANUP_CLOSE int fd = -1;
	bool from_stdin = strcmp(input, "-") == 0;
	if (r == 0) {
		fd = from_stdin ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open(input, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			r = err_sys(&e, -errno, "cannot open %s", input);
		else if (from_stdin && isatty(fd)) {
			r = err_set(&e, -EINVAL, "standard input is a terminal");
			err_hint(&e, "name the archive: a3s-box load -i FILE");
		}
	}
	proc_raise_descriptor_limit(); /* each entry of an archive is a file until all of it is known to be good */
	if (r == 0)
		r = app_open(&a, true, &e);
	if (r == 0) {
		progress_init(&p, quiet);
		struct oci_progress op = {progress_show, &p};
		r = oci_load(a.store, fd, &op, note_loaded, &l, &e);
		progress_done(&p);
		if (r < 0)
			err_wrap(&e, "%s", from_stdin ? "standard input" : input);
	}
	app_close(&a);
	for (size_t i = 0; r == 0 && i < l.lines.n; i++)
		printf("%s\n", l.lines.v[i]);
	strv_done(&l.lines);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}

int cmd_pull(const struct cmd *c, int argc, char **argv)
{
	struct oci_pull_opts po = {.tls_verify = true};
	bool quiet = false;
	struct opt opts[] = {{0, "plain-http", OPT_FLAG, &po.plain_http, NULL,
				     "allow HTTP for any host, not only loopback"},
		{0, "platform", OPT_STR, &po.platform, "OS/ARCH",
			"which of the image's platforms [the host's]"},
		{'q', "quiet", OPT_FLAG, &quiet, NULL, "no progress"},
		{0, "tls-verify", OPT_FLAG, &po.tls_verify, NULL, "check the registry's certificate [true]"},
		{0}};
	struct err e = {0};
	struct app a = {0};
	struct progress p;
	CLEANUP(oci_image_freep) struct oci_image *image = NULL;

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc != 2)
		return app_usage(c, "exactly one image is needed");
	if (r == 0)
		r = app_open(&a, true, &e);
	if (r == 0) {
		progress_init(&p, quiet);
		struct oci_progress op = {progress_show, &p};
		r = oci_pull(a.store, argv[1], &po, &op, &image, &e);
		progress_done(&p);
	}
	app_close(&a);
	if (r < 0)
		return app_fail(c, &e, 1);
	printf("%s\n", image->name ? image->name : image->id);
	return 0;
}
