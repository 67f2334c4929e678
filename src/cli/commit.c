/* SPDX-License-Identifier: MIT */
/* commit: a new image of what a box has changed. */
#include <signal.h>
#include <string.h>

#include "app.h"
#include "audit.h"
#include "base/io.h"
#include "box/files.h"
#include "progress.h"

struct commit {
	struct app a;
	struct box *b;
	struct oci_commit_opts o;
	struct box_disk disk;
	char *config, *created_by;
};

static void commit_done(struct commit *cm)
{
	if (cm->disk.id)
		box_disk_release(cm->a.st, &cm->disk);
	box_free(cm->b);
	free(cm->config);
	free(cm->created_by);
	app_close(&cm->a);
}

/* ---- what the box runs with, as an image's configuration has it ---- */

/* "key" to {}; NULL when there is none. */
static json_t *set_of(const struct strv *l)
{
	json_t *j = l->n ? json_object() : NULL;

	for (size_t i = 0; i < l->n; i++)
		json_object_set_new(j, l->v[i], json_object());
	return j;
}

static json_t *volumes_of(const struct box_config *c)
{
	json_t *j = json_object();

	/* Those that have no name, as the image's and -v /PATH made them: Docker's rule. */
	for (size_t i = 0; i < c->n_mounts; i++)
		if (c->mounts[i].anonymous)
			json_object_set_new(j, c->mounts[i].target, json_object());
	if (json_object_size(j))
		return j;
	json_decref(j);
	return NULL;
}

static json_t *health_of(const struct box_health_check *h)
{
	const struct {
		const char *name;
		uint64_t value;
	} numbers[] = {{"Interval", h->interval_ns}, {"Timeout", h->timeout_ns},
		{"StartPeriod", h->start_period_ns}, {"StartInterval", h->start_interval_ns},
		{"Retries", h->retries}};
	json_t *j = h->test.n ? json_pack("{s:o}", "Test", json_from_strv(&h->test)) : NULL;

	for (size_t i = 0; j && i < ARRAY_LEN(numbers); i++)
		if (numbers[i].value)
			json_object_set_new(j, numbers[i].name, json_integer((json_int_t)numbers[i].value));
	return j;
}

static bool is_utf8(const char *s)
{
	json_t *j = json_string(s);

	json_decref(j);
	return j != NULL;
}

/* JSON has no other text: such a variable or argument cannot be kept, and is no reason to lose the rest in silence. */
static int check_texts(const struct box_config *c, struct err *e)
{
	const struct strv *lists[] = {&c->cmd, &c->entrypoint, &c->process.env, &c->labels};

	for (size_t k = 0; k < ARRAY_LEN(lists); k++)
		for (size_t i = 0; i < lists[k]->n; i++)
			if (!is_utf8(lists[k]->v[i]))
				return err_set(e, -EINVAL,
					"\"%.100s\" of the box does not go into an image: it is not in UTF-8",
					lists[k]->v[i]);
	return 0;
}

/* A list, or nothing where there is none. */
static json_t *list_of(const struct strv *l)
{
	return l->n ? json_from_strv(l) : json_null();
}

/* Takes the value; without one the member goes. */
static void put(json_t *j, const char *name, json_t *value)
{
	json_object_set_new(j, name, value ? value : json_null());
}

static int box_to_config(const struct box_config *c, char **ret, struct err *e)
{
	char signal[16];
	int r = check_texts(c, e);
	json_t *j = r == 0 ? json_object() : NULL;

	if (!j)
		return r < 0 ? r : err_oom(e);
	snprintf(signal, sizeof(signal), "%d", c->stop_signal);
	put(j, "Entrypoint", list_of(&c->entrypoint));
	put(j, "Cmd", list_of(&c->cmd));
	put(j, "Env", list_of(&c->process.env));
	put(j, "Labels", c->labels.n ? json_from_pairs(&c->labels) : NULL);
	put(j, "ExposedPorts", set_of(&c->exposed_ports));
	put(j, "Volumes", volumes_of(c));
	put(j, "Healthcheck", health_of(&c->health));
	put(j, "User", c->process.user && *c->process.user ? json_string(c->process.user) : NULL);
	put(j, "WorkingDir",
		c->process.cwd && strcmp(c->process.cwd, "/") != 0 ? json_string(c->process.cwd) : NULL);
	if (c->stop_signal && c->stop_signal != SIGTERM)
		put(j, "StopSignal", json_string(signal));
	*ret = json_dumps(j, JSON_COMPACT);
	json_decref(j);
	return *ret ? 0 : err_oom(e);
}

/* ---- the command ---- */

static int write_layer(void *data, const struct tree_sink *to, struct err *e)
{
	struct commit *cm = data;
	CLEANUP(storage_root_freep) struct storage_root *root = NULL;
	CLEANUP(strv_done) struct strv mounts = {0};
	int r = box_mount_targets(cm->b, &mounts, e);

	if (r == 0)
		r = storage_root_open(cm->a.st, cm->b->disk, cm->disk.fd, &root, e);
	return r < 0 ? r : storage_read_layer(root, &mounts, to, e);
}

static int note_commit(void *data, const char *id, struct err *e)
{
	struct commit *cm = data;

	return box_event(cm->a.st, e, cm->b, "commit", "comment", cm->o.message ? cm->o.message : "",
		"imageID", id, "imageRef", cm->o.ref ? cm->o.ref : "", NULL);
}

/* The command line of the box, as its listing shows it. */
static char *command_of(const struct box_config *c)
{
	CLEANUP(buf_done) struct buf text = {0};

	for (size_t i = 0; i < c->process.argv.n; i++) {
		const char *s = c->process.argv.v[i];
		if ((i && buf_append(&text, " ", 1) < 0) || buf_append(&text, s, strlen(s)) < 0)
			return NULL;
	}
	return buf_append(&text, "", 1) == 0 ? strdup((const char *)buf_data(&text)) : NULL;
}

static int commit(struct commit *cm, const char *ref, struct err *e)
{
	CLEANUP_FREE char *id = NULL;
	struct progress p;
	int r = app_open(&cm->a, true, e);

	if (r == 0)
		r = box_find(cm->a.st, ref, &cm->b, e);
	if (r == 0)
		r = box_to_config(&cm->b->config, &cm->config, e);
	if (r < 0)
		return r;
	cm->created_by = command_of(&cm->b->config);
	if (!cm->created_by)
		return err_oom(e);
	cm->o.config = cm->config;
	cm->o.created_by = cm->created_by;
	cm->o.on_enter = note_commit;
	cm->o.data = cm;
	progress_init(&p, PROGRESS_TERMINAL);
	struct oci_progress op = {progress_show, &p};
	/* Before a running box stands still, or one that was not ended in order is booted. */
	r = oci_commit_check(cm->a.store, cm->b->manifest, &cm->o, e);
	if (r == 0) /* a power cut may have damaged it, or somebody deleted it: built again */
		r = oci_ref_disk(cm->a.store, cm->b->manifest, &op, e);
	if (r == 0)
		r = box_disk_hold(cm->a.st, cm->b, false, &cm->disk, e);
	if (r == 0)
		r = oci_commit(cm->a.store, cm->b->manifest, &cm->o, write_layer, cm, &op, &id, e);
	progress_done(&p);
	if (r < 0)
		return r;
	audit_image(id);
	printf("%s\n", id);
	return 0;
}

int cmd_commit(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(commit_done) struct commit cm = {.disk = {.fd = -1, .lock = -1, .freeze = -1}};
	CLEANUP(strv_done) struct strv changes = {0};
	bool pause = true;
	struct opt opts[] = {{'a', "author", OPT_STR, &cm.o.author, "NAME", "who made the image"},
		{'c', "change", OPT_LIST, &changes, "INSTRUCTION",
			"of a Dockerfile, for the image's configuration, like 'CMD [\"sh\"]'"},
		{'m', "message", OPT_STR, &cm.o.message, "TEXT", "comment in the image's history"},
		{'p', "pause", OPT_FLAG, &pause, NULL,
			"no effect: a running box stands still for the moment that copying its disk takes "
			"[true]"},
		{'t', "tag", OPT_STR, &cm.o.ref, "NAME", "name of the image, as the second argument"}, {0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && (argc < 2 || argc > 3))
		return app_usage(c, "a box is needed, then perhaps a name for the image");
	if (r == 0 && argc > 2 && cm.o.ref)
		return app_usage(c, "the image's name is given twice");
	if (r == 0) {
		cm.o.ref = argc > 2 ? argv[2] : cm.o.ref;
		cm.o.changes = &changes;
		r = commit(&cm, argv[1], &e);
	}
	return r < 0 ? app_fail(c, &e, 1) : 0;
}
