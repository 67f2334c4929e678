/* SPDX-License-Identifier: MIT */
/* run, create, start: making a box and connecting the terminal with it. */
#include <fcntl.h>
#include <string.h>

#include "base/io.h"
#include "detach.h"
#include "oci/transfer.h"
#include "progress.h"
#include "session.h"
#include "spec.h"
#include "start.h"

#define PULL_TRIES 3 /* another command may make room of what one has just pulled */

static int pull_image(struct app *a, const char *ref, const struct run_opts *o, struct err *e)
{
	struct oci_pull_opts po = {.platform = o->platform, .remote.tls_verify = true};
	struct oci_pull_result result = {0};
	struct progress p;

	progress_init(&p, o->quiet ? PROGRESS_QUIET : PROGRESS_PLAIN);
	struct oci_progress op = {progress_show, &p};
	int r = oci_pull(a->store, ref, &po, &op, &result, e);
	progress_done(&p);
	oci_pull_result_done(&result);
	return r;
}

/* Finds it; from before that on, unless it fails, *hold keeps it here. */
static int find_held(struct app *a, const char *ref, struct oci_image **ret, int *hold, struct err *e)
{
	int r = oci_store_hold(a->store, hold, e);

	if (r == 0)
		r = oci_image_find(a->store, ref, ret, e);
	if (r < 0)
		oci_store_release(a->store, hold);
	return r;
}

/* Finds it here, or pulls it. *hold as in find_held. */
static int get_image(struct app *a, const char *ref, const struct run_opts *o, struct oci_image **ret,
	int *hold, struct err *e)
{
	const char *when = o->pull ? o->pull : "missing";
	bool always = strcmp(when, "always") == 0;
	struct err pull = {0};

	int r = always ? -ENOENT : find_held(a, ref, ret, hold, e);
	if (r != -ENOENT || strcmp(when, "never") == 0)
		return r;
	for (int tries = 0; r == -ENOENT && tries < PULL_TRIES; tries++) {
		r = pull_image(a, ref, o, &pull);
		if (r < 0 && always)
			*e = pull;
		if (r < 0 && !always) {
			err_set(e, r, "no image %s here, and it could not be pulled: %s", ref, pull.msg);
			err_hint(e, "%s", pull.hint[0] ? pull.hint : "load it with: a3s-box load -i FILE");
		}
		if (r < 0)
			return r;
		r = find_held(a, ref, ret, hold, e);
	}
	return r;
}

/* The image's disk as a path below the home folder. malloc'd. */
static int get_disk(struct app *a, const struct oci_image *image, bool quiet, char **ret, struct err *e)
{
	struct progress p;
	CLEANUP_FREE char *path = NULL;

	progress_init(&p, quiet ? PROGRESS_QUIET : PROGRESS_TERMINAL);
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
/* Once a command, however many boxes it starts. */
static void warn_emulated(enum accel wanted, enum accel got, const struct accel_info *info)
{
	static bool said;

	if (got == ACCEL_TCG && !said) {
		said = true;
		char why[sizeof(info->kvm_reason) * 4];
		text_escape(why, sizeof(why), info->kvm_reason);
		fprintf(stderr,
			"a3s-box: warning: running emulated, slower and isolated by the emulator only: %s\n",
			wanted == ACCEL_TCG ? "--accel tcg" : why);
	}
}

/* ---- --cidfile ---- */

static int cidfile_taken(const char *path, struct err *e)
{
	err_set(e, -EEXIST, "--cidfile %s: the file exists already", path);
	return err_hint(e, "a box may still be known by it: remove it, or choose another name");
}

/* Makes the file, which must not exist. The descriptor, or -errno. */
static int cidfile_open(const char *path, struct err *e)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd >= 0)
		return fd;
	return errno == EEXIST ? cidfile_taken(path, e) : err_sys(e, -errno, "--cidfile %s", path);
}

/* box_create, and the ID in the file that was asked for: both or none. */
static int create_box(struct app *a, const struct run_opts *o, const struct oci_image *image, const char *ref,
	const char *disk, struct box_config *config, enum box_state state, struct box **ret, int *ret_lock,
	struct err *e)
{
	CLEANUP_CLOSE int fd = o->cidfile ? cidfile_open(o->cidfile, e) : -1;
	struct err undo;

	if (o->cidfile && fd < 0)
		return fd;
	int r = box_create(a->st, image, ref, disk, o->name, config, state, ret, ret_lock, e);
	if (!o->cidfile)
		return r;
	if (r == 0) {
		r = io_write_full(fd, (*ret)->id, strlen((*ret)->id));
		if (r < 0) {
			err_sys(e, r, "--cidfile %s", o->cidfile);
			box_remove_locked(a->st, (*ret)->id, ret_lock, &undo); /* or the next command does */
		}
	}
	if (r < 0)
		unlink(o->cidfile);
	return r;
}

/* From the image on: nothing of it goes while *hold is held, nor after that, since the record needs it. */
static int make_of_image(struct app *a, const struct run_opts *o, int argc, char **argv,
	struct box_config *config, enum box_state state, enum accel got, const struct accel_info *info,
	struct box **ret, int *ret_lock, int *hold, struct err *e)
{
	CLEANUP(oci_image_freep) struct oci_image *image = NULL;
	CLEANUP_FREE char *disk = NULL;

	int r = get_image(a, argv[1], o, &image, hold, e);
	if (r == 0) /* before anything of it is looked at */
		r = oci_image_allowed(a->store, image, e);
	if (r == 0)
		r = spec_add_image(config, o, image, argv + 2, (size_t)argc - 2, e);
	if (r == 0)
		r = get_disk(a, image, o->quiet, &disk, e);
	if (r == 0)
		warn_emulated(config->accel, got, info);
	return r == 0 ? create_box(a, o, image, argv[1], disk, config, state, ret, ret_lock, e) : r;
}

/* run and create up to the record; lock held. */
static int make_box(struct app *a, const struct run_opts *o, int argc, char **argv, enum box_state state,
	struct box **ret, int *ret_lock, struct err *e)
{
	CLEANUP(box_config_done) struct box_config config = {0};
	struct accel_info info;
	enum accel got = ACCEL_AUTO; /* create: decided when it starts */
	int hold = -1;

	int r = spec_from_opts(o, &config, e);
	if (r == 0 && o->cidfile && access(o->cidfile, F_OK) == 0)
		r = cidfile_taken(o->cidfile, e); /* before anything is pulled for it */
	if (r == 0)
		r = app_open(a, true, e);
	if (r == 0 && o->name)
		r = box_check_name_free(a->st, o->name, e); /* before anything is pulled for it */
	if (r == 0)
		r = spec_resolve_networks(&config, a->st, e);
	if (r == 0)
		r = spec_volumes_from(o, &config, a->st, e);
	if (r == 0)
		r = spec_check_sources(&config, e);
	if (r == 0 && state == BOX_STARTING) {
		r = check_accel(a, config.accel, &info, &got, e);
	}
	if (r < 0)
		return r;
	r = make_of_image(a, o, argc, argv, &config, state, got, &info, ret, ret_lock, &hold, e);
	oci_store_release(a->store, &hold);
	return r;
}

/* Connects the terminal with a box that is being started, to its end or until the user detaches. */
static int attach(const struct cmd *c, const struct box *b, int fd, bool with_stdin, bool sig_proxy,
	const char *detach_keys, struct err *e)
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
		.sig_proxy = sig_proxy,
		.detach_keys = detach_keys};
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
		return attach(c, b, fd, o->interactive, o->sig_proxy, o->detach_keys, &e);
	int status = wait_started(c, fd, &e);
	if (status == 0)
		printf("%s\n", b->id);
	return status;
}

int cmd_run(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(run_opts_done) struct run_opts o = {.sig_proxy = true};
	const struct opt own[] = {
		{'d', "detach", OPT_FLAG, &o.detach, NULL, "run in the background; print the ID"},
		{0, "detach-keys", OPT_STR, &o.detach_keys, "KEYS", DETACH_HELP},
		{0, "sig-proxy", OPT_FLAG, &o.sig_proxy, NULL, "pass signals on to the process [true]"},
		{0, "timeout", OPT_STR, &o.timeout, "SECONDS", "stop it after so long, with status 124"}};
	struct opt opts[SPEC_OPTS_MAX] = {0};
	struct err e = {0};

	memcpy(opts, own, sizeof(own));
	spec_common_opts(&o, opts + ARRAY_LEN(own));
	int r = opts_parse(c, opts, OPTS_FIRST, &argc, argv, &e);
	if (r)
		return r < 0 ? app_fail(c, &e, STATUS_FAILED) : 0;
	if (argc < 2)
		return app_usage(c, "an image is needed");
	opts_drop_dashes(&argc, argv);
	struct app a = {0};
	int status = run(c, &a, &o, argc, argv);
	app_close(&a);
	return status;
}

int cmd_create(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(run_opts_done) struct run_opts o = {0};
	struct opt opts[SPEC_OPTS_MAX] = {0};
	CLEANUP(box_freep) struct box *b = NULL;
	CLEANUP_CLOSE int lock = -1;
	struct err e = {0};
	struct app a = {0};

	spec_common_opts(&o, opts);
	int r = opts_parse(c, opts, OPTS_FIRST, &argc, argv, &e);
	if (r)
		return r < 0 ? app_fail(c, &e, STATUS_FAILED) : 0;
	if (argc < 2)
		return app_usage(c, "an image is needed");
	opts_drop_dashes(&argc, argv);
	r = make_box(&a, &o, argc, argv, BOX_CREATED, &b, &lock, &e);
	if (r == 0) {
		box_unlock(a.st, b->id, &lock);
		printf("%s\n", b->id);
	}
	app_close(&a);
	return r < 0 ? app_fail(c, &e, STATUS_FAILED) : 0;
}

int start_prepare(struct app *a, const struct box *b, int *lock, struct err *e)
{
	struct accel_info info;
	enum accel got;

	int r = box_lock(a->st, b->id, lock, e);
	if (r < 0)
		return r;
	r = check_accel(a, b->config.accel, &info, &got, e);
	if (r == 0) { /* a power cut may have damaged it, or somebody deleted it: built again */
		struct progress p;
		progress_init(&p, PROGRESS_TERMINAL);
		struct oci_progress op = {progress_show, &p};
		r = oci_ref_disk(a->store, b->manifest, &op, e);
		progress_done(&p);
	}
	if (r == 0)
		warn_emulated(b->config.accel, got, &info);
	if (r == 0)
		r = box_set_starting(a->st, b->id, e);
	if (r < 0)
		box_unlock(a->st, b->id, lock);
	return r;
}

/* Starts one box, or joins it, with the terminal. */
static int start_with_terminal(const struct cmd *c, const char *ref, bool with_stdin, const char *detach_keys)
{
	CLEANUP(box_freep) struct box *b = NULL;
	struct err e = {0};
	struct app a = {0};
	int fd = -1;

	int r = app_open(&a, true, &e);
	if (r == 0)
		r = start_attached(&a, ref, &b, &fd, &e);
	app_close(&a); /* a box may run for days: hold no database meanwhile */
	if (r < 0)
		return app_fail(c, &e, c->usage_status);
	return attach(c, b, fd, with_stdin && b->config.process.open_stdin, true, detach_keys, &e);
}

int cmd_start(const struct cmd *c, int argc, char **argv)
{
	bool attached = false, interactive = false;
	const char *detach_keys = NULL;
	struct opt opts[] = {
		{'a', "attach", OPT_FLAG, &attached, NULL, "show its output and wait for its end"},
		{0, "detach-keys", OPT_STR, &detach_keys, "KEYS", DETACH_HELP},
		{'i', "interactive", OPT_FLAG, &interactive, NULL, "pass standard input to it"}, {0}};
	struct err e = {0};
	struct batch bt;

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r == 0 && detach_keys)
		r = detach_parse(detach_keys, NULL, &e);
	if (r)
		return r < 0 ? app_fail(c, &e, c->usage_status) : 0;
	if (argc > 2 && (attached || interactive))
		return app_usage(c, "only one box can be attached");
	if (argc == 2 && (attached || interactive))
		return start_with_terminal(c, argv[1], interactive, detach_keys);
	int status = batch_open(&bt, c, argc, argv, true);
	if (status)
		return status;
	batch_start(&bt, batch_wants);
	return batch_finish(&bt);
}
