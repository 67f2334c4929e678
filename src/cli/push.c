/* SPDX-License-Identifier: MIT */
/* push. */
#include <fcntl.h>
#include <string.h>

#include "audit.h"
#include "base/io.h"
#include "image-fields.h"
#include "progress.h"
#include "prompt.h"
#include "remote.h"

#define PASSWORD_VARIABLE "COSIGN_PASSWORD"

enum { DIGEST_SIZE = 160 };

struct pushing {
	struct oci_push_opts o;
	bool quiet, all_tags;
	char *password;
};

/*
 * The password of an encrypted key: from the environment, where cosign expects it, or from whoever sits there. A key that
 * cannot be read, or is none, is for the one who signs to complain about.
 */
static int get_password(struct pushing *pu, struct err *e)
{
	const char *given = getenv(PASSWORD_VARIABLE);
	CLEANUP(prompt_freep) char *key = NULL;
	size_t len;

	if (!pu->o.sign_key || io_read_file_at(AT_FDCWD, pu->o.sign_key, OCI_KEY_FILE_MAX, &key, &len) < 0 ||
		!strstr(key, "ENCRYPTED"))
		return 0;
	if (given) {
		pu->o.sign_password = given;
		return 0;
	}
	CLEANUP_FREE char *name = text_escape_dup(pu->o.sign_key);
	CLEANUP_FREE char *question = name ? str_printf("Password of %s: ", name) : NULL;
	int r = question ? prompt_line(question, true, &pu->password, e) : err_oom(e);
	if (r < 0) {
		err_wrap(e, "--sign-key %s: it is encrypted", pu->o.sign_key);
		return err_hint(e, "its password is taken from " PASSWORD_VARIABLE);
	}
	pu->o.sign_password = pu->password;
	return 0;
}

/* ref as it is in the store. with_name: more than one is pushed, so that the digest alone would say nothing. */
static int push_one(struct app *a, const struct pushing *pu, const char *ref, const char *target,
	bool with_name, struct err *e)
{
	CLEANUP(oci_image_freep) struct oci_image *image = NULL;
	char digest[DIGEST_SIZE] = "";
	struct progress p;

	int r = oci_image_find(a->store, ref, &image, e);
	if (r < 0)
		return r;
	audit_image(image->id);
	progress_init(&p, pu->quiet ? PROGRESS_QUIET : PROGRESS_PLAIN);
	struct oci_progress op = {progress_show, &p};
	r = oci_push(a->store, ref, target, &pu->o, &op, digest, e);
	progress_done(&p);
	if (r < 0)
		return r;
	if (with_name)
		printf("%s@%s\n", ref, digest);
	else
		printf("%s\n", digest);
	fflush(stdout);
	return 0;
}

/* Every name in the store of ref's repository that has a tag. */
static int names_of_repository(struct app *a, const char *ref, struct strv *ret, struct err *e)
{
	struct oci_image **list = NULL;
	CLEANUP_FREE char *name = oci_ref_normalise(ref, e);
	size_t n = 0;
	int r = name ? oci_image_list(a->store, &list, &n, e) : e->code;

	if (r < 0)
		return r;
	size_t len = (size_t)(strrchr(name, ':') - name); /* "…:latest" was added */
	for (size_t i = 0; r == 0 && i < n; i++) {
		const char *other = list[i]->name;
		if (image_is_tagged(other) && strncmp(other, name, len) == 0 && other[len] == ':' &&
			strv_push(ret, other) < 0)
			r = err_oom(e);
	}
	oci_image_list_free(list, n);
	if (r == 0 && ret->n == 0)
		r = err_set(e, -ENOENT, "no image of repository %s is here", ref);
	return r;
}

static int push_all_tags(const struct cmd *c, struct app *a, const struct pushing *pu, const char *ref)
{
	CLEANUP(strv_done) struct strv refs = {0};
	struct err e = {0};
	int status = 0;

	if (names_of_repository(a, ref, &refs, &e) < 0)
		return app_fail(c, &e, 1);
	for (size_t i = 0; i < refs.n; i++) {
		if (push_one(a, pu, refs.v[i], NULL, true, &e) < 0)
			status = app_fail(c, &e, 1);
	}
	return status;
}

static int push(const struct cmd *c, struct pushing *pu, int argc, char **argv)
{
	CLEANUP(app_close) struct app a = {0};
	struct err e = {0};
	int r = 0;

	if (pu->all_tags && (argc > 2 || image_ref_is_exact(argv[1])))
		r = err_set(&e, -EINVAL, "%s: --all-tags takes one repository, without a tag or digest",
			argv[argc > 2 ? 2 : 1]);
	if (r == 0)
		r = get_password(pu, &e);
	if (r == 0)
		r = app_open(&a, true, &e);
	if (r == 0 && pu->all_tags)
		return push_all_tags(c, &a, pu, argv[1]);
	if (r == 0)
		r = push_one(&a, pu, argv[1], argc > 2 ? argv[2] : NULL, false, &e);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}

int cmd_push(const struct cmd *c, int argc, char **argv)
{
	struct pushing pu = {.o.remote.tls_verify = true};
	struct opt opts[] = {
		{'a', "all-tags", OPT_FLAG, &pu.all_tags, NULL, "every tag of the repository that is here"},
		{0, "platform", OPT_STR, &pu.o.platform, "OS/ARCH",
			"of an image with several platforms only this one [all that are here]"},
		{'q', "quiet", OPT_FLAG, &pu.quiet, NULL, "no progress"}, REMOTE_OPTS(&pu.o.remote),
		{0, "sign-key", OPT_STR, &pu.o.sign_key, "FILE",
			"sign it with this private key (PEM); the password is taken from " PASSWORD_VARIABLE},
		{0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r < 0)
		return app_fail(c, &e, 1);
	if (argc < 2 || argc > 3)
		return app_usage(c, "an image is needed, then perhaps the name to push it to");
	int status = push(c, &pu, argc, argv);
	prompt_free(pu.password);
	return status;
}
