/* SPDX-License-Identifier: MIT */
/* inspect: Docker's field names where the meaning is the same. */
#include <string.h>

#include "app.h"
#include "base/units.h"

static json_t *time_json(int64_t ns)
{
	char text[40];
	/* Docker's way to say never. */
	return json_string(ns ? format_time_rfc3339(text, sizeof(text), ns) : "0001-01-01T00:00:00Z");
}

static json_t *labels_json(const struct strv *labels)
{
	json_t *j = json_object();
	for (size_t i = 0; i < labels->n; i++) {
		const char *eq = strchr(labels->v[i], '=');
		CLEANUP_FREE char *key =
			eq ? strndup(labels->v[i], (size_t)(eq - labels->v[i])) : strdup(labels->v[i]);
		if (key)
			json_object_set_new(j, key, json_from_text(eq ? eq + 1 : ""));
	}
	return j;
}

static json_t *box_state_json(const struct box *b)
{
	return json_pack("{s:s, s:b, s:b, s:b, s:i, s:o, s:o, s:o}", "Status", box_state_name(b->state),
		"Running", b->state >= BOX_RUNNING && b->state <= BOX_STOPPING, "Paused",
		b->state == BOX_PAUSED, "OOMKilled", 0, "ExitCode", b->exit_code, "Error",
		json_from_text(b->error ? b->error : ""), "StartedAt", time_json(b->started_ns), "FinishedAt",
		time_json(b->finished_ns));
}

/* What holds the guest, and what holds that. null until it has run: it is only known then. */
static json_t *machine_json(const struct box *b)
{
	enum accel accel = ACCEL_AUTO;
	json_t *j = json_pack("{s:s, s:i, s:n, s:n, s:n, s:n, s:n}", "AcceleratorRequested",
		accel_name(b->config.accel), "VCPUs", (int)b->config.vcpus, "Backend", "Accelerator",
		"HardwareIsolation", "Confinement", "ConfinementMissing");

	if (!b->accel || accel_parse(b->accel, &accel) < 0)
		return j;
	json_object_set_new(j, "Accelerator", json_string(b->accel));
	json_object_set_new(j, "HardwareIsolation", json_boolean(accel_isolates(accel)));
	json_t *recorded = b->machine ? json_loads(b->machine, JSON_REJECT_DUPLICATES, NULL) : NULL;
	if (recorded)
		json_object_update_existing(j, recorded);
	json_decref(recorded);
	return j;
}

static json_t *box_json(const struct box *b)
{
	const struct box_config *c = &b->config;
	struct strv args = {.v = c->process.argv.v + 1, .n = c->process.argv.n - 1};
	json_t *j = json_object();
	json_object_set_new(j, "Id", json_string(b->id));
	json_object_set_new(j, "Name", json_string(b->name));
	json_object_set_new(j, "Created", time_json(b->created_ns));
	json_object_set_new(j, "Path", json_from_text(c->process.argv.v[0]));
	json_object_set_new(j, "Args", json_from_strv(&args));
	json_object_set_new(j, "State", box_state_json(b));
	json_object_set_new(j, "Image", json_string(b->image_id));
	json_object_set_new(j, "HostConfig",
		json_pack("{s:I, s:I, s:b, s:s}", "Memory", (json_int_t)c->mem_bytes, "NanoCpus",
			(json_int_t)c->vcpus * 1000000000, "AutoRemove", c->auto_remove, "NetworkMode",
			"none"));
	json_object_set_new(j, "Config",
		json_pack("{s:o, s:o, s:b, s:b, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:i, s:i}", "Hostname",
			json_from_text(c->hostname), "User", json_from_text(c->process.user), "Tty",
			c->process.tty, "OpenStdin", c->process.open_stdin, "StdinOnce", c->stdin_once, "Env",
			json_from_strv(&c->process.env), "Cmd", json_from_strv(&c->cmd), "Image",
			json_from_text(b->image), "WorkingDir", json_from_text(c->process.cwd), "Entrypoint",
			json_from_strv(&c->entrypoint), "Labels", labels_json(&c->labels), "StopSignal",
			c->stop_signal, "StopTimeout", (int)(c->stop_timeout_ns / 1000000000)));
	json_object_set_new(j, "Machine", machine_json(b));
	return j;
}

static json_t *image_json(const struct oci_image *i)
{
	json_t *j = json_object();
	json_object_set_new(j, "Id", json_string(i->id));
	json_object_set_new(j, "RepoTags", i->name ? json_pack("[s]", i->name) : json_array());
	json_object_set_new(j, "Digest", json_string(i->manifest));
	json_object_set_new(j, "Created", time_json(i->created_ns));
	json_object_set_new(j, "Os", json_from_text(i->os));
	json_object_set_new(j, "Architecture", json_from_text(i->arch));
	json_object_set_new(j, "Size", json_integer((json_int_t)i->size));
	json_t *config = json_object();
	json_object_set_new(config, "Env", json_from_strv(&i->env));
	json_object_set_new(config, "Entrypoint", json_from_strv(&i->entrypoint));
	json_object_set_new(config, "Cmd", json_from_strv(&i->cmd));
	json_object_set_new(config, "WorkingDir", json_from_text(i->workdir ? i->workdir : ""));
	json_object_set_new(config, "User", json_from_text(i->user ? i->user : ""));
	json_object_set_new(config, "Labels", labels_json(&i->labels));
	json_object_set_new(j, "Config", config);
	return j;
}

static int inspect_one(struct app *a, const char *ref, json_t *out, struct err *e)
{
	CLEANUP(box_freep) struct box *b = NULL;
	CLEANUP(oci_image_freep) struct oci_image *i = NULL;

	int r = box_find(a->st, ref, &b, e);
	if (r == 0)
		return json_array_append_new(out, box_json(b));
	if (r != -ENOENT)
		return r;
	r = oci_image_find(a->store, ref, &i, e);
	if (r == 0)
		return json_array_append_new(out, image_json(i));
	return r == -ENOENT ? err_set(e, r, "no such box or image: %s", ref) : r;
}

int cmd_inspect(const struct cmd *c, int argc, char **argv)
{
	struct opt opts[] = {{0}};
	struct err e = {0};
	struct app a;
	int status = 0;

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc < 2)
		return app_usage(c, "a box or an image is needed");
	if (r == 0)
		r = app_open(&a, true, &e);
	if (r < 0)
		return app_fail(c, &e, 1);
	json_t *out = json_array();
	for (int i = 1; i < argc; i++) {
		if (inspect_one(&a, argv[i], out, &e) < 0)
			status = app_fail(c, &e, 1);
	}
	app_close(&a);
	return json_print(out, 4) || status;
}
