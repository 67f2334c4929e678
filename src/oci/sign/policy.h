/* SPDX-License-Identifier: MIT */
/*
 * Which signatures an image must have: policy.json in the home folder, in the format of containers-policy.json(5).
 * Understood: "default" and "transports" with "docker" scopes (registry, namespace, repository, with tag or digest; the
 * most specific wins; "*.example.com"; hosts in any case); requirements "insecureAcceptAnything", "reject" and
 * "sigstoreSigned" with keyPath, keyData, fulcio (caPath, caData, oidcIssuer, subjectEmail), rekorPublicKeyPath,
 * rekorPublicKeyData and signedIdentity (matchRepository, matchRepoDigestOrExact, matchExact, exactReference,
 * exactRepository). A reference with tag and digest is one by digest: its tag says nothing, to scopes and identities as
 * to the registry. Other transports of that format may be there and say nothing about images from registries;
 * "docker-archive" and "oci-archive", which are loaded, may only accept anything, since images are judged when they are
 * run. Anything else is an error: a policy that is not understood allows nothing. All requirements of the list that
 * applies must be met.
 *
 * Ours, beyond that format: trustedRootPath (sigstore's trusted_root.json) instead of caPath and rekorPublicKeyPath;
 * subject instead of subjectEmail, for identities that are URIs; and the signedIdentity "matchDigest", content with the
 * manifest's digest: bundles carry no name, so no other identity can be met by them.
 */
#ifndef OCI_SIGN_POLICY_H
#define OCI_SIGN_POLICY_H

#include "reference.h"
#include "sign/sign.h"

enum sign_rule_kind { SIGN_ACCEPT, SIGN_REJECT, SIGN_SIGNED };

/* How the name that was signed must agree with the one asked for. */
enum sign_identity {
	SIGN_MATCH_REPO_DIGEST_OR_EXACT, /* asked for by digest: the same repository; else equal, tag included */
	SIGN_MATCH_EXACT,
	SIGN_MATCH_REPOSITORY,
	SIGN_EXACT_REFERENCE,  /* equal to identity_name */
	SIGN_EXACT_REPOSITORY, /* of identity_name's repository */
	SIGN_MATCH_DIGEST,     /* any name */
};

struct sign_rule {
	enum sign_rule_kind kind;
	struct sign_requirement rq; /* of SIGN_SIGNED; what it points to belongs to the policy */
	enum sign_identity identity;
	char *identity_name; /* of SIGN_EXACT_*, else NULL */
};

struct sign_policy;
/* From the file's content. Files that it names (by absolute path) are read (bounded). -EINVAL if it is no good. */
int sign_policy_parse(const char *json, size_t n, struct sign_policy **ret, struct err *e);
void sign_policy_free(struct sign_policy *p);
/* The rules for an image; ref NULL: for one without a name, the global default. *ret is borrowed. Never empty. */
int sign_policy_find(const struct sign_policy *p, const struct oci_reference *ref,
	const struct sign_rule **ret, size_t *ret_n, struct err *e);
/*
 * sign_verify by a rule, and that the identity which was signed is that of ref. ref NULL: the image has no name, so only
 * SIGN_EXACT_* and SIGN_MATCH_DIGEST can be met. Of SIGN_ACCEPT always 0, of SIGN_REJECT always -EKEYREJECTED; c is
 * not looked at for these and may be NULL.
 */
int sign_rule_verify(const struct sign_rule *r, const struct oci_reference *ref, const char *digest,
	const struct sign_candidate *c, struct err *e);

#endif
