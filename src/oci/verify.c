/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * What must be proven comes from the options of a pull and from policy.json in the home folder: requirements, all of
 * which must be met, each by any one signature of the image. A pull looks for signatures of what the registry serves (an
 * index, or a manifest), and where these do not do, of the manifest that was chosen from it. In the second case nobody has
 * vouched for the index: it is not kept, and the name leads to the manifest. Good signatures are kept with the image. A run
 * asks the policy file again, as it is then, and judges the kept ones: without a network, by the same code. An image that
 * came another way (load, import), or before the policy, has none, and is refused where one is required.
 *
 * The rules are those of the name that is used: it decides which requirements there are, and which repository the signer
 * must have meant. An image that is used by its ID must be allowed under each of its names; one without a name, under what
 * each registry that has served it calls it; one that never had a name is judged by the default rules, and of those that
 * demand a signature only such can be met as do not ask for whose name it was made.
 *
 * Everything fails closed: a policy file that cannot be read or understood allows nothing; a signature that cannot be
 * fetched is none.
 */
#include "verify.h"

#include <fcntl.h>
#include <string.h>

#include "base/io.h"
#include "image.h"
#include "verify-fetch.h"

#define POLICY_FILE "policy.json"
#define POLICY_MAX  (1u << 20) /* bytes */
#define ROOT_FILE \
	"trusted_root.json" /* in the home folder: who is trusted where --verify-root does not say */
#define ROOT_MAX    (4u << 20)
#define REASONS_MAX 3 /* of different refusals, in an error */

static void policy_done(struct sign_policy **p)
{
	if (*p)
		sign_policy_free(*p);
}

/* What one signature must prove. */
struct demand {
	const struct sign_rule *rule; /* of the policy, or NULL: */
	struct sign_requirement rq;   /* of the options */
};

/* ---- judging ---- */

static int judge_one(const struct demand *d, const struct oci_reference *ref, const char *digest,
	const struct sign_candidate *c, struct err *e)
{
	return d->rule ? sign_rule_verify(d->rule, ref, digest, c, e) : sign_verify(&d->rq, digest, c, e);
}

/* Different reasons for refusals, in the order met. */
struct reasons {
	char text[ERR_MSG_MAX];
	size_t n;
};

static void add_reason(struct reasons *r, const struct err *why)
{
	size_t len = strlen(r->text);

	if (r->n >= REASONS_MAX || strstr(r->text, why->msg))
		return;
	snprintf(r->text + len, sizeof(r->text) - len, "%s%.300s", r->n++ ? "; " : "", why->msg);
}

/*
 * Whether one of the signatures (of that digest; NULL: of any) meets a demand; *ret: which. Only a refusal of each lets it
 * go on to the next: what else goes wrong (memory, a library) is no judgement, but is no proof either.
 */
static int judge(const struct demand *d, const struct oci_reference *ref, const struct oci_signatures *s,
	const char *digest, bool more, size_t *ret, struct err *e)
{
	struct reasons reasons = {0};

	for (size_t i = 0; i < s->n; i++) {
		struct err why = {0};
		if (digest && strcmp(s->digest[i], digest) != 0)
			continue;
		int r = judge_one(d, ref, s->digest[i], &s->v[i], &why);
		if (r == 0) {
			*ret = i;
			return 0;
		}
		add_reason(&reasons, &why);
	}
	if (s->n == 0)
		return err_set(e, -EKEYREJECTED, "it is not signed");
	if (s->n == 1)
		return err_set(e, -EKEYREJECTED, "its signature is not accepted: %s", reasons.text);
	return err_set(e, -EKEYREJECTED, "none of its %s%zu signatures is accepted: %s", more ? "first " : "",
		s->n, reasons.text);
}

/* ---- the policy ---- */

/* Says whose refusal or failure it is. */
static int by_policy(const struct oci_store *s, int r, struct err *e)
{
	if (r < 0)
		err_wrap(e, "%s/" POLICY_FILE, s->st->home);
	return r;
}

/* *ret NULL: there is none. */
static int read_policy(struct oci_store *s, struct sign_policy **ret, struct err *e)
{
	CLEANUP_FREE char *text = NULL;
	size_t n;

	*ret = NULL;
	if (faccessat(s->st->home_fd, POLICY_FILE, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
		return 0;
	int r = io_read_file_at(s->st->home_fd, POLICY_FILE, POLICY_MAX, &text, &n);
	if (r < 0)
		err_sys(e, r, "cannot read it");
	else
		r = sign_policy_parse(text, n, ret, e);
	return by_policy(s, r, e);
}

/* Those that are to be proven. -EKEYREJECTED where nothing is allowed. ret has room for as many as there are rules. */
static int policy_demands(
	const struct sign_rule *rules, size_t n, struct demand *ret, size_t *ret_n, struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		if (rules[i].kind == SIGN_REJECT)
			return err_set(e, -EKEYREJECTED, "it rejects this image");
		if (rules[i].kind == SIGN_SIGNED)
			ret[(*ret_n)++] = (struct demand){.rule = &rules[i]};
	}
	return 0;
}

/* ---- the options ---- */

struct asked {
	struct sign_key *key;
	struct sign_root *root;
};

static void asked_done(struct asked *a)
{
	if (a->key)
		sign_key_free(a->key);
	if (a->root)
		sign_root_free(a->root);
}

static int read_root(int at, const char *path, struct sign_root **ret, struct err *e)
{
	CLEANUP_FREE char *text = NULL;
	size_t n;
	int r = io_read_file_at(at, path, ROOT_MAX, &text, &n);

	if (r < 0)
		return err_sys(e, r, "cannot read the trusted root %s", path);
	r = sign_root_parse(text, n, ret, e);
	return r < 0 ? err_wrap(e, "%s", path) : 0;
}

static int read_key(const char *path, struct sign_key **ret, struct err *e)
{
	CLEANUP_FREE char *text = NULL;
	size_t n;
	int r = io_read_file_at(AT_FDCWD, path, OCI_KEY_FILE_MAX, &text, &n);

	return r < 0 ? err_sys(e, r, "cannot read the key %s", path) : sign_key_parse(text, n, path, ret, e);
}

static int check_options(const struct oci_verify_opts *o, struct err *e)
{
	bool keyless = o->issuer || o->identity;

	if (o->key && keyless)
		return err_set(e, -EINVAL, "either a key or an identity can be asked for, not both");
	if (keyless && (!o->issuer || !*o->issuer || !o->identity || !*o->identity))
		return err_set(e, -EINVAL, "an identity needs its issuer, and an issuer an identity");
	if (o->root && !o->key && !keyless)
		return err_set(e, -EINVAL,
			"a trusted root alone demands nothing: a key or an identity is needed, too");
	return 0;
}

/* 1: *ret is what they demand; 0: nothing. */
static int options_demand(struct oci_store *s, const struct oci_verify_opts *o, struct asked *a,
	struct demand *ret, struct err *e)
{
	int r = check_options(o, e);

	if (r < 0 || (!o->key && !o->identity))
		return r;
	if (o->key)
		r = read_key(o->key, &a->key, e);
	if (r == 0 && o->root)
		r = read_root(AT_FDCWD, o->root, &a->root, e);
	else if (r == 0 && o->identity) {
		r = read_root(s->st->home_fd, ROOT_FILE, &a->root, e);
		if (r == -ENOENT) {
			err_set(e, -ENOENT, "nothing says which certificate authorities to trust");
			err_hint(e,
				"--verify-root, or %s/" ROOT_FILE ", is to be sigstore's trusted_root.json",
				s->st->home);
		}
	}
	if (r < 0)
		return r;
	*ret = (struct demand){.rq = {a->key, o->issuer, o->identity, a->root}};
	return 1;
}

/* ---- pulls ---- */

/* Judges what was found for a digest by all demands. Signatures that met one are kept. */
static int judge_all(const struct demand *d, size_t n, const struct oci_reference *ref, const char *digest,
	struct oci_found *f, struct err *e)
{
	bool good[SIGN_CANDIDATES_MAX] = {0};
	size_t which;

	for (size_t i = 0; i < n; i++) {
		int r = judge(&d[i], ref, &f->all, digest, f->more, &which, e);
		if (r == 0) {
			good[which] = true;
			continue;
		}
		if (f->failed && f->all.n == 0)
			err_set(e, -EKEYREJECTED, "its signatures cannot be fetched: %s", f->failure.msg);
		else if (f->failed && e) {
			CLEANUP_FREE char *judged = strdup(e->msg);
			err_set(e, -EKEYREJECTED, "%s; others cannot be fetched: %s", judged ? judged : "?",
				f->failure.msg);
		}
		if (d[i].rule)
			err_wrap(e, "demanded by " POLICY_FILE);
		return -EKEYREJECTED;
	}
	oci_signatures_keep(&f->all, good);
	return 0;
}

/* What is said when neither digest has all that is demanded: of all signatures together. */
static int refuse(
	const struct demand *d, size_t n, const struct oci_reference *ref, struct oci_found *f, struct err *e)
{
	int r = judge_all(d, n, ref, NULL, f, e);

	return r < 0 ? r
		     : err_set(e, -EKEYREJECTED,
			       "what is demanded is signed in part for its index and in part for its "
			       "manifest");
}

static int verify_demands(struct oci_conn *c, const struct oci_reference *ref, const struct demand *d,
	size_t n, const char *served, const char *manifest, bool whole, struct oci_signatures *ret,
	bool *ret_served, struct err *e)
{
	CLEANUP(oci_found_done) struct oci_found f = {0};
	bool one = strcmp(served, manifest) == 0;
	struct err why = {0};
	int r = oci_signatures_fetch(c, served, &f, e);

	if (r < 0)
		return r;
	r = judge_all(d, n, ref, served, &f, &why);
	*ret_served = r == 0;
	if (r < 0 && !one && !whole) {
		r = oci_signatures_fetch(c, manifest, &f, e);
		if (r < 0)
			return r;
		r = judge_all(d, n, ref, manifest, &f, &why);
	}
	if (r < 0)
		r = refuse(d, n, ref, &f, e);
	if (r < 0 && !one && whole)
		err_hint(e, "--all-platforms takes a signature of the index; one platform alone may have its "
			    "own");
	if (r < 0)
		return r;
	*ret = f.all;
	f.all = (struct oci_signatures){0};
	return 0;
}

int oci_verify_pull(struct oci_store *s, struct oci_conn *c, const struct oci_reference *ref,
	const struct oci_verify_opts *o, const char *served, const char *manifest, bool whole,
	struct oci_signatures *ret, bool *ret_served, struct err *e)
{
	CLEANUP(policy_done) struct sign_policy *policy = NULL;
	CLEANUP(asked_done) struct asked asked = {0};
	const struct sign_rule *rules = NULL;
	size_t n_rules = 0, n = 0;

	*ret = (struct oci_signatures){0};
	*ret_served = true;
	int r = read_policy(s, &policy, e);
	if (r == 0 && policy)
		r = by_policy(s, sign_policy_find(policy, ref, &rules, &n_rules, e), e);
	if (r < 0)
		return r;
	CLEANUP_FREE struct demand *demands = calloc(n_rules + 1, sizeof(*demands));
	if (!demands)
		return err_oom(e);
	r = by_policy(s, policy_demands(rules, n_rules, demands, &n, e), e);
	if (r < 0)
		return r;
	r = options_demand(s, o, &asked, &demands[n], e);
	if (r < 0)
		return r;
	n += (size_t)r;
	return n ? verify_demands(c, ref, demands, n, served, manifest, whole, ret, ret_served, e) : 0;
}

/* ---- runs ---- */

static int column_text(sqlite3_stmt *st, int col, const char **ret)
{
	if (sqlite3_column_type(st, col) == SQLITE_NULL)
		return 0;
	*ret = state_column_dup(st, col);
	return *ret ? 0 : -ENOMEM;
}

/* A row of digest, kind, payload, signature, certificate, chain, log_entry. */
static int from_row(sqlite3_stmt *st, struct sign_candidate *c)
{
	const char *kind = (const char *)sqlite3_column_text(st, 1);
	int r = 0;

	c->is_bundle = kind && strcmp(kind, "bundle") == 0;
	c->payload_len = (size_t)sqlite3_column_bytes(st, 2);
	char *payload = malloc(c->payload_len + 1);
	if (!payload)
		return -ENOMEM;
	if (c->payload_len)
		memcpy(payload, sqlite3_column_blob(st, 2), c->payload_len);
	payload[c->payload_len] = '\0';
	c->payload = payload;
	r = column_text(st, 3, &c->signature);
	if (r == 0)
		r = column_text(st, 4, &c->certificate);
	if (r == 0)
		r = column_text(st, 5, &c->chain);
	if (r == 0)
		r = column_text(st, 6, &c->log_entry);
	return r;
}

/*
 * Of the manifest, and of all that led to it in this repository: an index that was signed vouches for what it names. repo
 * NULL: of the manifest alone.
 */
static int stored_signatures(struct oci_store *s, const char *manifest, const char *repo,
	struct oci_signatures *ret, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	int r = state_prepare(s->st, &st, e,
		"SELECT digest, kind, payload, signature, certificate, chain, log_entry FROM image_signatures"
		" WHERE digest = ?1"
		"  OR digest IN (SELECT digest FROM image_names WHERE manifest = ?1 AND repo = ?2)"
		"  OR digest IN (SELECT digest FROM image_remotes WHERE manifest = ?1 AND repo = ?2)"
		" ORDER BY digest, pos",
		"ss", manifest, repo);

	while (r >= 0 && (r = state_step(s->st, st, e)) > 0 && ret->n < SIGN_CANDIDATES_MAX) {
		const char *digest = (const char *)sqlite3_column_text(st, 0);
		if (!digest)
			return err_oom(e);
		if (!ret->v)
			ret->v = calloc(SIGN_CANDIDATES_MAX, sizeof(*ret->v));
		if (!ret->digest)
			ret->digest = calloc(SIGN_CANDIDATES_MAX, sizeof(*ret->digest));
		if (!ret->v || !ret->digest)
			return err_oom(e);
		oci_digest_copy(ret->digest[ret->n], digest);
		if (from_row(st, &ret->v[ret->n++]) < 0)
			return err_oom(e);
	}
	return r < 0 ? r : 0;
}

/* By the rules of one name; ref NULL: of none. */
static int judge_image(struct oci_store *s, const struct sign_policy *policy, const char *manifest,
	const struct oci_reference *ref, struct err *e)
{
	CLEANUP(oci_signatures_done) struct oci_signatures sigs = {0};
	const struct sign_rule *rules;
	size_t n_rules, n = 0, which;

	int r = sign_policy_find(policy, ref, &rules, &n_rules, e);
	if (r < 0)
		return r;
	CLEANUP_FREE struct demand *demands = calloc(n_rules + 1, sizeof(*demands));
	CLEANUP_FREE char *repo = ref ? oci_reference_repo(ref) : NULL;
	if (!demands || (ref && !repo))
		return err_oom(e);
	r = policy_demands(rules, n_rules, demands, &n, e);
	if (r < 0 || n == 0)
		return r;
	r = stored_signatures(s, manifest, repo, &sigs, e);
	for (size_t k = 0; r == 0 && k < n; k++)
		r = judge(&demands[k], ref, &sigs, NULL, false, &which, e);
	if (r == -EKEYREJECTED && sigs.n == 0)
		err_hint(e, "pull it again: its signatures are checked and kept then");
	return r;
}

static int judge_name(struct oci_store *s, const struct sign_policy *policy, const char *manifest,
	const char *name, struct err *e)
{
	CLEANUP(oci_reference_done) struct oci_reference ref = {0};
	int r = oci_reference_parse(name, &ref, e);

	return r < 0 ? r : judge_image(s, policy, manifest, &ref, e);
}

/* An image that was asked for by its ID. */
static int judge_unasked(
	struct oci_store *s, const struct sign_policy *policy, const char *manifest, struct err *e)
{
	CLEANUP(strv_done) struct strv names = {0};
	int r = oci_query_texts(s, &names, e,
		"SELECT name FROM image_names WHERE manifest = ?1 ORDER BY name", manifest, NULL, NULL);

	/* The tags under which registries served it may lead elsewhere by now. */
	if (r == 0 && names.n == 0)
		r = oci_query_texts(s, &names, e,
			"SELECT DISTINCT repo || '@' || digest FROM image_remotes WHERE manifest = ?1 ORDER "
			"BY 1",
			manifest, NULL, NULL);
	if (r == 0 && names.n == 0)
		return judge_image(s, policy, manifest, NULL, e);
	for (size_t k = 0; r == 0 && k < names.n; k++) {
		r = judge_name(s, policy, manifest, names.v[k], e);
		CLEANUP_FREE char *name = r < 0 ? oci_ref_familiar(names.v[k]) : NULL;
		if (r < 0)
			err_wrap(e, "as %s", name ? name : names.v[k]);
	}
	return r;
}

int oci_image_allowed(struct oci_store *s, const struct oci_image *i, struct err *e)
{
	CLEANUP(policy_done) struct sign_policy *policy = NULL;
	int r = read_policy(s, &policy, e);

	if (r == 0 && policy)
		r = by_policy(s,
			i->asked ? judge_name(s, policy, i->manifest, i->asked, e)
				 : judge_unasked(s, policy, i->manifest, e),
			e);
	if (r == 0 || r == -ENOMEM)
		return r;
	CLEANUP_FREE char *name = i->asked ? oci_ref_familiar(i->asked) : NULL;
	err_wrap(e, "image %s is not allowed", name ? name : i->id);
	if (e)
		e->code = -EKEYREJECTED;
	return -EKEYREJECTED;
}
