/* SPDX-License-Identifier: MIT */
/* images, rmi, load, pull. */
#include <fcntl.h>
#include <string.h>

#include "app.h"
#include "audit.h"
#include "base/io.h"
#include "base/proc.h"
#include "base/units.h"
#include "format.h"
#include "image-fields.h"

enum { SHORT_ID = 12 };

json_t *image_id_json(const char *id, bool full)
{
	const char *hex = strchr(id, ':');
	return full || !hex ? json_string(id) : json_stringn(hex + 1, strnlen(hex + 1, SHORT_ID));
}

void image_split_name(const char *name, char *repo, size_t repo_size, char *tag, size_t tag_size)
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

json_t *image_age_json(const struct oci_image *i, int64_t now)
{
	char age[48], text[64] = "N/A";

	if (i->created_ns)
		snprintf(text, sizeof(text), "%s ago",
			format_duration_human(age, sizeof(age), now - i->created_ns));
	return json_string(text);
}

enum {
	FIELD_REPOSITORY,
	FIELD_TAG,
	FIELD_ID,
	FIELD_CREATED_SINCE,
	FIELD_SIZE,
	FIELD_DIGEST,
	FIELD_CREATED_AT
};

static const struct format_field fields[] = {
	[FIELD_REPOSITORY] = {"Repository", "REPOSITORY"},
	[FIELD_TAG] = {"Tag", "TAG"},
	[FIELD_ID] = {"ID", "IMAGE ID"},
	[FIELD_CREATED_SINCE] = {"CreatedSince", "CREATED"},
	[FIELD_SIZE] = {"Size", "SIZE"},
	[FIELD_DIGEST] = {"Digest", "DIGEST"},
	[FIELD_CREATED_AT] = {"CreatedAt", "CREATED AT"},
	{NULL, NULL},
};

struct listing {
	struct oci_image **list;
	size_t n;
	bool full;
	int64_t now;
};

static json_t *get_field(void *data, size_t row, size_t field)
{
	const struct listing *l = data;
	const struct oci_image *i = l->list[row];
	char repo[300], tag[160], text[48];

	switch (field) {
	case FIELD_REPOSITORY:
	case FIELD_TAG:
		image_split_name(i->name, repo, sizeof(repo), tag, sizeof(tag));
		return json_from_text(field == FIELD_TAG ? tag : repo);
	case FIELD_ID:
		return image_id_json(i->id, l->full);
	case FIELD_CREATED_SINCE:
		return image_age_json(i, l->now);
	case FIELD_SIZE:
		return json_string(format_size(text, sizeof(text), i->size));
	case FIELD_DIGEST:
		return json_string(i->manifest);
	default:
		return json_string(
			i->created_ns ? format_time_rfc3339(text, sizeof(text), i->created_ns) : "N/A");
	}
}

static int list_images(struct listing *l, const char *format, struct err *e)
{
	CLEANUP(format_freep) struct format *f = NULL;
	CLEANUP(app_close) struct app a = {0};
	struct format_source src = {.fields = fields,
		.table = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
		.get = get_field,
		.data = l};

	int r = format_parse(format, &src, &f, e);
	if (r == 0)
		r = app_open(&a, true, e);
	if (r == 0)
		r = oci_image_list(a.store, &l->list, &l->n, e);
	if (r == 0)
		r = format_print(f, &src, l->n, e);
	oci_image_list_free(l->list, l->n);
	return r;
}

int cmd_images(const struct cmd *c, int argc, char **argv)
{
	struct listing l = {.now = time_real_ns()};
	bool quiet = false;
	const char *format = NULL;
	struct opt opts[] = {{0, "format", OPT_STR, &format, "FORMAT", FORMAT_HELP("Repository")},
		{0, "no-trunc", OPT_FLAG, &l.full, NULL, "do not cut IDs"},
		{'q', "quiet", OPT_FLAG, &quiet, NULL, "only IDs"}, {0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc > 1)
		return app_usage(c, "no arguments are taken");
	if (r == 0 && quiet && format)
		fprintf(stderr, "a3s-box: warning: images: --format is ignored with --quiet\n");
	if (r == 0)
		r = list_images(&l, quiet ? "{{.ID}}" : format, &e);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}

static void print_removed(void *data, const char *key, const char *value)
{
	CLEANUP_FREE char *familiar = strncmp(value, "sha256:", 7) == 0 ? NULL : oci_ref_familiar(value);
	audit_image(familiar ? familiar : value);
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
	audit_image(id);
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
	audit_image(image->id);
	printf("%s\n", image->name ? image->name : image->id);
	return 0;
}
