/* SPDX-License-Identifier: MIT */
/* run, create, start: making a box and connecting the terminal with it. */
#include <fcntl.h>
#include <string.h>

#include "base/io.h"
#include "session.h"
#include "spec.h"

enum { RUN_OPTS_MAX = 24 };

/* Options that run and create share; `run` adds its own in front. Returns the number written. */
static size_t common_opts(struct run_opts *o, struct opt *t)
{
	const struct opt opts[] = {
		{0, "accel", OPT_STR, &o->accel, "MODE", "auto, kvm, qemu-kvm or tcg (emulated) [auto]"},
		{0, "cpus", OPT_STR, &o->cpus, "N", "virtual CPUs [2]"},
		{0, "entrypoint", OPT_STR, &o->entrypoint, "PROGRAM", "instead of the image's entrypoint"},
		{'e', "env", OPT_LIST, &o->env, "NAME=VALUE",
			"set an environment variable; NAME alone passes ours on"},
		{0, "group-add", OPT_LIST, &o->groups, "GROUP", "a further group of the process"},
		{'h', "hostname", OPT_STR, &o->hostname, "NAME", "host name inside the box [its short ID]"},
		{'i', "interactive", OPT_FLAG, &o->interactive, NULL, "pass standard input to the process"},
		{'l', "label", OPT_LIST, &o->labels, "KEY=VALUE", "set a label"},
		{'m', "memory", OPT_STR, &o->memory, "SIZE",
			"memory of the machine, its kernel's included [512m]"},
		{0, "name", OPT_STR, &o->name, "NAME", "name of the box [made up]"},
		{0, "platform", OPT_STR, &o->platform, "OS/ARCH",
			"when pulling: which of the image's platforms [the host's]"},
		{0, "pull", OPT_STR, &o->pull, "WHEN", "pull the image: missing, always or never [missing]"},
		{0, "rm", OPT_FLAG, &o->rm, NULL, "remove the box when it has ended"},
		{0, "stop-signal", OPT_STR, &o->stop_signal, "SIGNAL",
			"signal that asks it to stop [the image's, TERM]"},
		{0, "stop-timeout", OPT_STR, &o->stop_timeout, "SECONDS", "wait before it is killed [10]"},
		{'t', "tty", OPT_FLAG, &o->tty, NULL, "give the process a terminal"},
		{'u', "user", OPT_STR, &o->user, "USER[:GROUP]", "run as this user, by name or number"},
		{'w', "workdir", OPT_STR, &o->workdir, "PATH", "working directory"},
		{0, NULL, OPT_FLAG, NULL, NULL, NULL},
	};
	_Static_assert(ARRAY_LEN(opts) <= RUN_OPTS_MAX, "room for run's own options");
	memcpy(t, opts, sizeof(opts));
	return ARRAY_LEN(opts);
}

static int pull_image(
	struct app *a, const char *ref, const struct run_opts *o, struct oci_image **ret, struct err *e)
{
	struct oci_pull_opts po = {.platform = o->platform, .tls_verify = true};
	struct progress p;

	progress_init(&p, false);
	struct oci_progress op = {progress_show, &p};
	int r = oci_pull(a->store, ref, &po, &op, ret, e);
	progress_done(&p);
	return r;
}

static int get_image(
	struct app *a, const char *ref, const struct run_opts *o, struct oci_image **ret, struct err *e)
{
	const char *when = o->pull ? o->pull : "missing";

	if (strcmp(when, "always") == 0)
		return pull_image(a, ref, o, ret, e);
	int r = oci_image_find(a->store, ref, ret, e);
	if (r != -ENOENT || strcmp(when, "never") == 0)
		return r;
	struct err pull = {0};
	r = pull_image(a, ref, o, ret, &pull);
	if (r < 0) {
		err_set(e, r, "no image %s here, and it could not be pulled: %s", ref, pull.msg);
		err_hint(e, "%s", pull.hint[0] ? pull.hint : "load it with: a3s-box load -i FILE");
	}
	return r;
}

/* The image's disk as a path below the home folder. malloc'd. */
static int get_disk(struct app *a, const struct oci_image *image, char **ret, struct err *e)
{
	struct progress p;
	CLEANUP_FREE char *path = NULL;

	progress_init(&p, false);
	struct oci_progress op = {progress_show, &p};
	int r = oci_image_disk(a->store, image, &op, &path, e);
	progress_done(&p);
	if (r < 0)
		return r;
	size_t home = strlen(a->st->home);
	bool below = strncmp(path, a->st->home, home) == 0 && path[home] == '/';
	*ret = strdup(below ? path + home + 1 : path);
	return *ret ? 0 : err_oom(e);
}

/* Fails if a forced accelerator, or the program that it needs, is not there. */
static int check_accel(
	struct app *a, enum accel wanted, struct accel_info *info, enum accel *got, struct err *e)
{
	CLEANUP_CLOSE int cache = io_open_dir_at(a->st->home_fd, "cache", true);

	accel_probe(cache, info);
	int r = accel_choose(wanted, info, got, e);
	if (r < 0)
		return r;
	CLEANUP_FREE char *program =
		*got == ACCEL_KVM ? box_find_asset("a3s-box-vmm", e) : machine_qemu_path(e);
	return program ? 0 : e->code;
}

/* Says once, when nothing else can go wrong before it runs, that the machine will be emulated. */
static void warn_emulated(enum accel wanted, enum accel got, const struct accel_info *info)
{
	if (got == ACCEL_TCG) {
		char why[sizeof(info->kvm_reason) * 4];
		text_escape(why, sizeof(why), info->kvm_reason);
		fprintf(stderr,
			"a3s-box: warning: running emulated, slower and isolated by the emulator only: %s\n",
			wanted == ACCEL_TCG ? "--accel tcg" : why);
	}
}

/* run and create up to the record; lock held. */
static int make_box(struct app *a, const struct run_opts *o, int argc, char **argv, enum box_state state,
	struct box **ret, int *ret_lock, struct err *e)
{
	CLEANUP(box_config_done) struct box_config config = {0};
	CLEANUP(oci_image_freep) struct oci_image *image = NULL;
	CLEANUP_FREE char *disk = NULL;
	struct accel_info info;
	enum accel got = ACCEL_AUTO; /* create: decided when it starts */

	int r = spec_from_opts(o, &config, e);
	if (r == 0)
		r = app_open(a, true, e);
	if (r == 0 && o->name)
		r = box_check_name_free(a->st, o->name, e); /* before anything is pulled for it */
	if (r == 0 && state == BOX_STARTING) {
		r = check_accel(a, config.accel, &info, &got, e);
	}
	if (r == 0)
		r = get_image(a, argv[1], o, &image, e);
	if (r == 0)
		r = spec_add_image(&config, o, image, argv + 2, (size_t)argc - 2, e);
	if (r == 0)
		r = get_disk(a, image, &disk, e);
	if (r == 0)
		warn_emulated(config.accel, got, &info);
	if (r == 0)
		r = box_create(a->st, image, argv[1], disk, o->name, &config, state, ret, ret_lock, e);
	return r;
}

/* Connects the terminal with a box that is being started, to its end. */
static int attach(const struct cmd *c, const struct box *b, int fd, bool with_stdin, struct err *e)
{
	CLEANUP(buf_done) struct buf opening = {0};
	struct box_request req = {.op = BOX_OP_ATTACH, .attach_stdin = with_stdin};
	int status;

	if (box_put_request(&opening, &req) < 0) {
		close(fd);
		err_oom(e);
		return app_fail(c, e, STATUS_FAILED);
	}
	struct session_opts so = {.fd = fd,
		.opening = &opening,
		.stdin_open = with_stdin,
		.tty = b->config.process.tty,
		.sig_proxy = true};
	int r = session_run(&so, &status, e);
	return r < 0 ? app_fail(c, e, status) : r;
}

/* Waits until the workload runs. 0, or the exit status with the error printed. */
static int wait_started(const struct cmd *c, int fd, struct err *e)
{
	CLEANUP(buf_done) struct buf opening = {0};
	struct box_request req = {.op = BOX_OP_STARTED};
	int status;

	if (box_put_request(&opening, &req) < 0) {
		close(fd);
		err_oom(e);
		return app_fail(c, e, STATUS_FAILED);
	}
	struct session_opts so = {.fd = fd, .opening = &opening, .sig_proxy = false, .until_started = true};
	int r = session_run(&so, &status, e);
	return r < 0 ? app_fail(c, e, status) : r;
}

static int run(const struct cmd *c, struct app *a, const struct run_opts *o, int argc, char **argv)
{
	struct err e = {0};
	CLEANUP(box_freep) struct box *b = NULL;
	CLEANUP_CLOSE int lock = -1;
	int fd = -1;

	if (o->tty && o->interactive && !o->detach && !isatty(STDIN_FILENO)) {
		err_set(&e, -ENOTTY, "-t needs a terminal, and standard input is none");
		err_hint(&e, "leave out -t");
		return app_fail(c, &e, STATUS_FAILED);
	}
	int r = make_box(a, o, argc, argv, BOX_STARTING, &b, &lock, &e);
	if (r == 0)
		r = box_start(a->st, b, &lock, &fd, &e);
	if (r < 0)
		return app_fail(c, &e, STATUS_FAILED);
	app_close(a); /* a box may run for days: hold no database meanwhile */
	if (!o->detach)
		return attach(c, b, fd, o->interactive, &e);
	int status = wait_started(c, fd, &e);
	if (status == 0)
		printf("%s\n", b->id);
	return status;
}

int cmd_run(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(run_opts_done) struct run_opts o = {0};
	struct opt opts[RUN_OPTS_MAX + 1] = {
		{'d', "detach", OPT_FLAG, &o.detach, NULL, "run in the background; print the ID"}};
	struct err e = {0};

	common_opts(&o, opts + 1);
	int r = opts_parse(c, opts, OPTS_FIRST, &argc, argv, &e);
	if (r)
		return r < 0 ? app_fail(c, &e, STATUS_FAILED) : 0;
	if (argc < 2)
		return app_usage(c, "an image is needed");
	struct app a = {0};
	int status = run(c, &a, &o, argc, argv);
	app_close(&a);
	return status;
}

int cmd_create(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(run_opts_done) struct run_opts o = {0};
	struct opt opts[RUN_OPTS_MAX];
	CLEANUP(box_freep) struct box *b = NULL;
	CLEANUP_CLOSE int lock = -1;
	struct err e = {0};
	struct app a = {0};

	common_opts(&o, opts);
	int r = opts_parse(c, opts, OPTS_FIRST, &argc, argv, &e);
	if (r)
		return r < 0 ? app_fail(c, &e, STATUS_FAILED) : 0;
	if (argc < 2)
		return app_usage(c, "an image is needed");
	r = make_box(&a, &o, argc, argv, BOX_CREATED, &b, &lock, &e);
	if (r == 0) {
		box_unlock(a.st, b->id, &lock);
		printf("%s\n", b->id);
	}
	app_close(&a);
	return r < 0 ? app_fail(c, &e, STATUS_FAILED) : 0;
}

/* Everything but the supervisor: lock held, record starting, disk there. */
static int prepare_start(struct app *a, const struct box *b, int *lock, struct err *e)
{
	CLEANUP(oci_image_freep) struct oci_image *image = NULL;
	CLEANUP_FREE char *disk = NULL;
	struct accel_info info;
	enum accel got;

	int r = box_lock(a->st, b->id, lock, e);
	if (r < 0)
		return r;
	r = check_accel(a, b->config.accel, &info, &got, e);
	if (r == 0 &&
		faccessat(a->st->home_fd, b->disk, R_OK, 0) < 0) { /* dropped from the cache: built again */
		r = oci_image_find(a->store, b->image_id, &image, e);
		if (r == 0)
			r = get_disk(a, image, &disk, e);
	}
	if (r == 0)
		warn_emulated(b->config.accel, got, &info);
	if (r == 0)
		r = box_set_starting(a->st, b->id, e);
	if (r < 0)
		box_unlock(a->st, b->id, lock);
	return r;
}

static int start_one(const struct cmd *c, struct app *a, const char *ref, bool attached, bool with_stdin)
{
	CLEANUP(box_freep) struct box *b = NULL;
	CLEANUP_CLOSE int lock = -1;
	struct err e = {0};
	int fd = -1;

	int r = box_find(a->st, ref, &b, &e);
	if (r == 0 && b->state == BOX_STOPPING)
		r = err_set(&e, -EBUSY, "box %s is stopping", b->name);
	if (r == 0 && box_is_live(b) && !attached) {
		printf("%s\n", ref); /* it runs: what was asked for is so */
		return 0;
	}
	if (r == 0 && box_is_live(b)) {
		r = fd = box_connect(a->st, b, &e);
	} else {
		if (r == 0)
			r = prepare_start(a, b, &lock, &e);
		if (r == 0)
			r = box_start(a->st, b, &lock, &fd, &e);
	}
	if (r < 0)
		return app_fail(c, &e, c->usage_status);
	if (attached) {
		app_close(a); /* a box may run for days: hold no database meanwhile */
		return attach(c, b, fd, with_stdin && b->config.process.open_stdin, &e);
	}
	int status = wait_started(c, fd, &e);
	if (status == 0)
		printf("%s\n", ref);
	return status;
}

int cmd_start(const struct cmd *c, int argc, char **argv)
{
	bool attached = false, interactive = false;
	struct opt opts[] = {
		{'a', "attach", OPT_FLAG, &attached, NULL, "show its output and wait for its end"},
		{'i', "interactive", OPT_FLAG, &interactive, NULL, "pass standard input to it"}, {0}};
	struct err e = {0};
	struct app a = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r)
		return r < 0 ? app_fail(c, &e, c->usage_status) : 0;
	if (argc < 2)
		return app_usage(c, "a box is needed");
	if (argc > 2 && (attached || interactive))
		return app_usage(c, "only one box can be attached");
	r = app_open(&a, true, &e);
	if (r < 0)
		return app_fail(c, &e, c->usage_status);
	int status = 0;
	for (int i = 1; i < argc; i++) {
		int one = start_one(c, &a, argv[i], attached || interactive, interactive);
		status = one ? one : status;
	}
	app_close(&a);
	return status;
}
