/* SPDX-License-Identifier: MIT */
/* pull. */
#include <string.h>

#include "audit.h"
#include "image-fields.h"
#include "progress.h"
#include "remote.h"

struct pulling {
	struct oci_pull_opts o;
	bool quiet, all_tags;
};

/* Standard output gets the name alone, for scripts. */
static void print_pulled(const struct pulling *pl, const char *ref, const struct oci_pull_result *r)
{
	CLEANUP_FREE char *name = r->image->name ? strdup(r->image->name) : oci_ref_normalise(ref, NULL);
	CLEANUP_FREE char *familiar = name ? oci_ref_familiar(name) : NULL;
	const char *shown = familiar ? familiar : r->image->id;

	if (!pl->quiet && r->digest[0])
		fprintf(stderr, "Digest: %s\n", r->digest);
	if (!pl->quiet)
		fprintf(stderr,
			r->newer ? "Status: Downloaded newer image for %s\n"
				 : "Status: Image is up to date for %s\n",
			shown);
	printf("%s\n", name ? name : r->image->id);
	fflush(stdout);
}

static int pull_one(struct app *a, const struct pulling *pl, const char *ref, struct err *e)
{
	struct oci_pull_result result = {0};
	struct progress p;

	progress_init(&p, pl->quiet ? PROGRESS_QUIET : PROGRESS_PLAIN);
	struct oci_progress op = {progress_show, &p};
	int r = oci_pull(a->store, ref, &pl->o, &op, &result, e);
	progress_done(&p);
	if (r == 0) {
		audit_image(result.image->id);
		print_pulled(pl, ref, &result);
	}
	oci_pull_result_done(&result);
	return r;
}

/* One tag after the other; what fails of them is said, and the others come. */
static int pull_all_tags(const struct cmd *c, struct app *a, const struct pulling *pl, const char *ref)
{
	CLEANUP(strv_done) struct strv refs = {0};
	struct err e = {0};
	int status = 0;

	int r = oci_remote_tags(a->store, ref, &pl->o.remote, &refs, &e);
	if (r == 0 && refs.n == 0)
		r = err_set(&e, -ENOENT, "%s has no tags", ref);
	if (r < 0)
		return app_fail(c, &e, 1);
	for (size_t i = 0; i < refs.n; i++) {
		if (pull_one(a, pl, refs.v[i], &e) < 0)
			status = app_fail(c, &e, 1);
	}
	return status;
}

static int check_opts(const struct pulling *pl, const char *ref, struct err *e)
{
	const struct oci_verify_opts *v = &pl->o.verify;

	if (pl->all_tags && image_ref_is_exact(ref)) {
		err_set(e, -EINVAL, "%s: --all-tags takes a repository, without a tag or digest", ref);
		return err_hint(e, "leave out --all-tags for one image");
	}
	if (pl->o.all_platforms && pl->o.platform)
		return err_set(e, -EINVAL, "--all-platforms and --platform exclude each other");
	if (v->key && (v->identity || v->issuer))
		return err_set(e, -EINVAL,
			"--verify-key excludes --verify-identity and --verify-issuer: a key has neither");
	if (!v->identity != !v->issuer) {
		err_set(e, -EINVAL, "--verify-%s needs --verify-%s", v->identity ? "identity" : "issuer",
			v->identity ? "issuer" : "identity");
		return err_hint(e, "who signed is known only together with who vouched for it");
	}
	if (v->root && !v->key && !v->identity)
		return err_set(e, -EINVAL, "--verify-root needs --verify-key or --verify-identity");
	return 0;
}

int cmd_pull(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(app_close) struct app a = {0};
	struct pulling pl = {.o.remote.tls_verify = true};
	struct oci_verify_opts *v = &pl.o.verify;
	struct opt opts[] = {{0, "all-platforms", OPT_FLAG, &pl.o.all_platforms, NULL,
				     "keep what the image has for other platforms too, for push and save"},
		{'a', "all-tags", OPT_FLAG, &pl.all_tags, NULL, "every tag of the repository"},
		{0, "platform", OPT_STR, &pl.o.platform, "OS/ARCH",
			"which of the image's platforms [the host's]"},
		{'q', "quiet", OPT_FLAG, &pl.quiet, NULL, "no progress"}, REMOTE_OPTS(&pl.o.remote),
		{0, "verify-identity", OPT_STR, &v->identity, "WHO",
			"only if signed by this e-mail address or URI; with --verify-issuer"},
		{0, "verify-issuer", OPT_STR, &v->issuer, "URL", "the OIDC issuer that vouched for it"},
		{0, "verify-key", OPT_STR, &v->key, "FILE",
			"only if signed with this key (a public one, PEM)"},
		{0, "verify-root", OPT_STR, &v->root, "FILE",
			"sigstore's trusted_root.json [the one in A3S_HOME]"},
		{0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc != 2)
		return app_usage(c, "exactly one image is needed");
	if (r == 0)
		r = check_opts(&pl, argv[1], &e);
	if (r == 0)
		r = app_open(&a, true, &e);
	if (r == 0 && pl.all_tags)
		return pull_all_tags(c, &a, &pl, argv[1]);
	if (r == 0)
		r = pull_one(&a, &pl, argv[1], &e);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}
