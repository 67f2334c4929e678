/* SPDX-License-Identifier: MIT */
/* One requirement of a policy, applied: the signature, and whose name it was made for. */
#include <string.h>

#include "sign/evidence.h"
#include "sign/policy.h"

/* A name as it was signed. Without tag and digest it stands for its repository, not for "latest". */
struct signed_name {
	struct oci_reference ref;
	bool bare;
};

static void signed_name_done(struct signed_name *s)
{
	oci_reference_done(&s->ref);
}

static int parse_name(const char *text, struct signed_name *ret, struct err *e)
{
	int r = oci_reference_parse(text, &ret->ref, e);

	if (r == 0) {
		const char *slash = strrchr(text, '/');
		ret->bare = !strchr(slash ? slash : text, ':') && !strchr(text, '@');
	}
	return r;
}

static bool same(const char *a, const char *b)
{
	return (!a && !b) || (a && b && strcmp(a, b) == 0);
}

static bool same_repository(const struct oci_reference *a, const struct oci_reference *b)
{
	return same(a->domain, b->domain) && same(a->path, b->path);
}

/* A tag beside a digest says nothing. */
static bool same_reference(const struct signed_name *s, const struct oci_reference *want)
{
	if (s->bare || !same_repository(&s->ref, want))
		return false;
	return s->ref.digest || want->digest ? same(s->ref.digest, want->digest)
					     : same(s->ref.tag, want->tag);
}

static bool name_fits(const struct sign_rule *rule, const struct signed_name *s,
	const struct oci_reference *ref, const struct signed_name *named)
{
	switch (rule->identity) {
	case SIGN_MATCH_REPO_DIGEST_OR_EXACT:
		return ref && (ref->digest ? same_repository(&s->ref, ref) : same_reference(s, ref));
	case SIGN_MATCH_EXACT:
		return ref && same_reference(s, ref);
	case SIGN_MATCH_REPOSITORY:
		return ref && same_repository(&s->ref, ref);
	case SIGN_EXACT_REFERENCE:
		return !named->bare && same_reference(s, &named->ref);
	case SIGN_EXACT_REPOSITORY:
		return same_repository(&s->ref, &named->ref);
	case SIGN_MATCH_DIGEST:
		return true;
	}
	return false;
}

static int check_name(
	const struct sign_rule *rule, const char *text, const struct oci_reference *ref, struct err *e)
{
	CLEANUP(signed_name_done) struct signed_name s = {0}, named = {0};

	if (rule->identity == SIGN_MATCH_DIGEST)
		return 0;
	if (!text)
		return err_set(e, -EKEYREJECTED,
			"the signature does not say for which name it was made, which the "
			"policy wants to know (its signedIdentity \"matchDigest\" would not)");
	int r = parse_name(text, &s, NULL);
	if (r == -ENOMEM)
		return err_oom(e);
	if (r < 0)
		return err_set(e, -EKEYREJECTED, "signed for an invalid name (%.200s)", text);
	if (rule->identity_name) {
		r = parse_name(rule->identity_name, &named, e);
		if (r < 0)
			return r;
	}
	if (name_fits(rule, &s, ref, &named))
		return 0;
	return err_set(e, -EKEYREJECTED, "signed for another name (%.200s)", text);
}

int sign_rule_verify(const struct sign_rule *r, const struct oci_reference *ref, const char *digest,
	const struct sign_candidate *c, struct err *e)
{
	CLEANUP_FREE char *text = NULL;

	if (r->kind == SIGN_ACCEPT)
		return 0;
	if (r->kind == SIGN_REJECT)
		return err_set(e, -EKEYREJECTED, "the policy rejects this image");
	int result = sign_verify_reference(&r->rq, digest, c, &text, e);
	return result < 0 ? result : check_name(r, text, ref, e);
}
