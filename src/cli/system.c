/* SPDX-License-Identifier: MIT */
/* info and version. */
#include <string.h>
#include <sys/utsname.h>

#include "app.h"
#include "base/io.h"
#include "format.h"

#ifndef A3S_VERSION
#error "the build defines A3S_VERSION"
#endif

/* *text: neither JSON nor a template is asked for. */
static int format_opt(const struct cmd *c, int *argc, char **argv, bool *text, struct template **ret)
{
	const char *format = "text";
	struct opt opts[] = {{'f', "format", OPT_STR, &format, "FORMAT",
				     "text, json, or a template like '{{.Version}}' [text]"},
		{0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, argc, argv, &e);
	if (r > 0)
		return 1;
	*text = r == 0 && (strcmp(format, "text") == 0 || !*format);
	if (r == 0 && *argc > 1)
		r = err_set(&e, -EINVAL, "no arguments are taken");
	if (r == 0 && !*text)
		r = format_parse_object("--format", format, ret, &e);
	if (r < 0)
		app_fail(c, &e, 1);
	return r;
}

/* Prints an object of strings, numbers and booleans as "Key: value" lines. */
static void print_text(json_t *j)
{
	const char *key;
	json_t *v;

	json_object_foreach (j, key, v) {
		char safe[1024];
		if (json_is_string(v)) {
			text_escape(safe, sizeof(safe), json_string_value(v));
			printf("%s: %s\n", key, safe);
		} else if (json_is_boolean(v)) {
			printf("%s: %s\n", key, json_is_true(v) ? "yes" : "no");
		} else {
			printf("%s: %lld\n", key, (long long)json_integer_value(v));
		}
	}
}

int cmd_version(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(template_freep) struct template *t = NULL;
	struct err e = {0};
	struct utsname u;
	bool text;

	int r = format_opt(c, &argc, argv, &text, &t);
	if (r)
		return r < 0;
	uname(&u);
	if (text) {
		printf("a3s-box %s (linux %s)\n", A3S_VERSION, u.machine);
		return 0;
	}
	/* Docker's templates ask for .Client and .Server: here both are this program. */
	json_t *j = json_pack("{s:s, s:s, s:s}", "Version", A3S_VERSION, "Os", "linux", "Arch", u.machine);
	json_t *whole = json_copy(j);
	if (t) {
		json_object_set(whole, "Client", j);
		json_object_set(whole, "Server", j);
	}
	json_decref(j);
	return format_print_object(t, whole, &e) < 0 ? app_fail(c, &e, 1) : 0;
}

static void add_path(json_t *j, const char *key, char *path, const struct err *e)
{
	json_object_set_new(j, key, json_string(path ? path : e->msg));
	free(path);
}

static int gather(struct app *a, json_t *j, struct err *e)
{
	struct box **boxes = NULL;
	struct oci_image **images = NULL;
	size_t n_boxes = 0, n_images = 0, running = 0;
	struct accel_info info;
	enum accel accel;
	struct utsname u;
	struct err missing = {0};

	int r = box_list(a->st, true, &boxes, &n_boxes, e);
	if (r == 0)
		r = oci_image_list(a->store, &images, &n_images, e);
	for (size_t i = 0; i < n_boxes; i++)
		running += box_is_live(boxes[i]);
	box_list_free(boxes, n_boxes);
	oci_image_list_free(images, n_images);
	if (r < 0)
		return r;
	CLEANUP_CLOSE int cache = io_open_dir_at(a->st->home_fd, "cache", true);
	accel_probe(cache, &info);
	accel_choose(ACCEL_AUTO, &info, &accel, NULL);
	uname(&u);
	json_object_set_new(j, "Version", json_string(A3S_VERSION));
	json_object_set_new(j, "Home", json_string(a->st->home));
	json_object_set_new(j, "Boxes", json_integer((json_int_t)n_boxes));
	json_object_set_new(j, "BoxesRunning", json_integer((json_int_t)running));
	json_object_set_new(j, "Images", json_integer((json_int_t)n_images));
	json_object_set_new(j, "Accelerator", json_string(accel_name(accel)));
	json_object_set_new(j, "HardwareIsolation", json_boolean(accel_isolates(accel)));
	json_object_set_new(j, "KVM", json_string(info.kvm_reason));
	add_path(j, "Network", box_find_asset("a3s-box-netd", &missing), &missing);
	add_path(j, "FileServer", box_find_asset("a3s-box-fsd", &missing), &missing);
	json_object_set_new(j, "Backend", json_string(accel_backend(accel)));
	add_path(j, "Monitor", box_find_asset("a3s-box-vmm", &missing), &missing);
	add_path(j, "QEMU", machine_qemu_path(&missing), &missing);
	add_path(j, "GuestKernel", box_find_asset("vmlinux", &missing), &missing);
	add_path(j, "GuestInit", box_find_asset("initramfs.cpio", &missing), &missing);
	json_object_set_new(j, "HostKernel", json_string(u.release));
	return 0;
}

int cmd_info(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(template_freep) struct template *t = NULL;
	CLEANUP(app_close) struct app a = {0};
	struct err e = {0};
	bool text;

	int r = format_opt(c, &argc, argv, &text, &t);
	if (r)
		return r < 0;
	r = app_open(&a, true, &e);
	if (r < 0)
		return app_fail(c, &e, 1);
	json_t *j = json_object();
	r = gather(&a, j, &e);
	if (r == 0 && !text)
		return format_print_object(t, j, &e) < 0 ? app_fail(c, &e, 1) : 0;
	if (r == 0)
		print_text(j);
	json_decref(j);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}
