/* SPDX-License-Identifier: MIT */
#include "inspect.h"

#include <string.h>

#include "format.h"
#include "network.h"
#include "snapshot.h"
#include "volume.h"

struct inspect_opts {
	bool size, boxes, images, networks, volumes, snapshots; /* which of them are looked for */
};

static int get_json(struct app *a, const struct inspect *in, const char *ref, json_t **ret, struct err *e)
{
	const struct inspect_opts *o = in->data;
	CLEANUP(box_freep) struct box *b = NULL;
	CLEANUP(oci_image_freep) struct oci_image *i = NULL;
	CLEANUP(box_network_freep) struct box_network *n = NULL;
	CLEANUP(box_volume_freep) struct box_volume *v = NULL;
	CLEANUP(box_snapshot_freep) struct box_snapshot *s = NULL;
	int r = -ENOENT;

	if (o->boxes)
		r = box_find(a->st, ref, &b, e);
	if (r == 0)
		*ret = inspect_box_json(a, b, o->size);
	if (r == -ENOENT && o->images) {
		r = oci_image_find(a->store, ref, &i, e);
		if (r == 0)
			r = inspect_image_json(a, i, ret, e);
	}
	if (r == -ENOENT && o->networks) {
		r = box_network_find(a->st, ref, &n, e);
		if (r == 0 && !(*ret = network_json(a, n, e)))
			r = e->code;
	}
	if (r == -ENOENT && o->volumes) {
		r = box_volume_find(a->st, ref, &v, e);
		if (r == 0 && !(*ret = volume_json(a, v, e)))
			r = e->code;
	}
	if (r == -ENOENT && o->snapshots) {
		r = box_snapshot_find(a->st, ref, &s, e);
		if (r == 0 && !(*ret = snapshot_json(a, s)))
			r = err_oom(e);
	}
	if (r == -ENOENT && o->boxes && o->images)
		return err_set(e, r, "no such box, image, network, volume or snapshot: %s", ref);
	return r;
}

/* What is not there in JSON is nothing in templates, so that {{if .State.Health}} is no error. */
static void complete_for_template(json_t *j)
{
	json_t *state = json_object_get(j, "State"), *config = json_object_get(j, "Config");
	static const char *const image[] = {"Healthcheck", "StopSignal", "Shell", "ArgsEscaped"};

	if (state && !json_object_get(state, "Health"))
		json_object_set_new(state, "Health", json_null());
	if (state && config && !json_object_get(config, "Healthcheck"))
		json_object_set_new(config, "Healthcheck", json_null());
	if (config && !json_object_get(config, "ExposedPorts"))
		json_object_set_new(config, "ExposedPorts", json_object());
	if (state || !json_object_get(j, "RootFS"))
		return;
	for (size_t i = 0; i < ARRAY_LEN(image); i++) {
		if (!json_object_get(config, image[i]))
			json_object_set_new(config, image[i], json_null());
	}
	if (!json_object_get(j, "Variant"))
		json_object_set_new(j, "Variant", json_string(""));
	if (!json_object_get(j, "OsVersion"))
		json_object_set_new(j, "OsVersion", json_string(""));
}

static int show(struct app *a, const struct inspect *in, const struct template *t, const char *ref,
	json_t *all, struct err *e)
{
	json_t *j = NULL;
	int r = in->get(a, in, ref, &j, e);

	if (r < 0)
		return r;
	if (t && in->complete)
		in->complete(j);
	if (in->format && *in->format)
		return format_print_object(t, j, e);
	return json_array_append_new(all, j) < 0 ? err_oom(e) : 0;
}

int inspect_all(const struct cmd *c, const struct inspect *in, int argc, char **argv)
{
	CLEANUP(template_freep) struct template *t = NULL;
	CLEANUP(app_close) struct app a = {0};
	bool formatted = in->format && *in->format;
	struct err e = {0};
	int status = 0;
	int r = formatted ? format_parse_object("--format", in->format, &t, &e) : 0;

	if (r == 0)
		r = app_open(&a, in->images, &e);
	if (r < 0)
		return app_fail(c, &e, 1);
	json_t *all = json_array();
	for (int i = 1; i < argc; i++) {
		if (show(&a, in, t, argv[i], all, &e) < 0)
			status = app_fail(c, &e, 1);
	}
	if (formatted) {
		json_decref(all);
		return status;
	}
	return json_print(all, 4) || status;
}

int cmd_inspect(const struct cmd *c, int argc, char **argv)
{
	struct inspect_opts o = {
		.boxes = true, .images = true, .networks = true, .volumes = true, .snapshots = true};
	struct inspect in = {.images = true, .get = get_json, .complete = complete_for_template, .data = &o};
	const char *type = NULL;
	struct opt opts[] = {{'f', "format", OPT_STR, &in.format, "FORMAT",
				     "json, or a template like '{{.State.Status}}'"},
		{'s', "size", OPT_FLAG, &o.size, NULL, "with what a box takes on disk"},
		{0, "type", OPT_STR, &type, "TYPE",
			"only a container (or box), an image, a network, a volume or a snapshot of this "
			"name"},
		{0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc < 2)
		return app_usage(c, "a box, an image, a network, a volume or a snapshot is needed");
	if (r == 0 && type) {
		o.boxes = strcmp(type, "container") == 0 || strcmp(type, "box") == 0;
		o.images = strcmp(type, "image") == 0;
		o.networks = strcmp(type, "network") == 0;
		o.volumes = strcmp(type, "volume") == 0;
		o.snapshots = strcmp(type, "snapshot") == 0;
		if (!o.boxes && !o.images && !o.networks && !o.volumes && !o.snapshots)
			r = err_set(&e, -EINVAL,
				"--type %s: expected container, box, image, network, volume or snapshot",
				type);
	}
	return r < 0 ? app_fail(c, &e, 1) : inspect_all(c, &in, argc, argv);
}

int cmd_image_inspect(const struct cmd *c, int argc, char **argv)
{
	const struct inspect_opts o = {.images = true};
	struct inspect in = {.images = true, .get = get_json, .complete = complete_for_template, .data = &o};
	struct opt opts[] = {
		{'f', "format", OPT_STR, &in.format, "FORMAT", "json, or a template like '{{.Config.Cmd}}'"},
		{0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc < 2)
		return app_usage(c, "an image is needed");
	return r < 0 ? app_fail(c, &e, 1) : inspect_all(c, &in, argc, argv);
}
