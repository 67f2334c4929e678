/* SPDX-License-Identifier: MIT */
/* Any bytes as a sigstore bundle. */
#include <stdint.h>
#include <string.h>

#include "sign/evidence.h"

#define DIGEST "sha256:a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char key_pem[] = "-----BEGIN PUBLIC KEY-----\n"
			      "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE2G2Y+2tabdTV5BcGiBIx0a9fAFwr\n"
			      "kBbmLSGtks4L3qX6yYY0zufBnhC8Ur/iy55GhWP/9A/bY2LhC30M9+RYtw==\n"
			      "-----END PUBLIC KEY-----\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct sign_key *key;
	static struct sign_root *root;
	CLEANUP(evidence_done) struct evidence v = {0};
	struct err e = {0};
	int64_t time;

	if (!root && (sign_key_parse(key_pem, strlen(key_pem), "key", &key, &e) < 0 ||
			     sign_root_from_pem(NULL, key_pem, key_pem, &root, &e) < 0))
		abort();
	struct sign_candidate c = {.is_bundle = true, .payload = (const char *)data, .payload_len = size};
	struct sign_requirement keyless = {
		.issuer = "https://i.example", .identity = "me@example.com", .root = root};
	struct sign_requirement keyed = {.key = key};
	/* Nobody has this key's other half. */
	if (sign_verify(&keyed, DIGEST, &c, &e) == 0 || sign_verify(&keyless, DIGEST, &c, &e) == 0)
		abort();
	if (evidence_bundle(&c, DIGEST, &v, &e) < 0)
		return 0;
	for (size_t i = 0; i < v.n_entries; i++) {
		const struct log_entry *t = &v.entries[i];
		(void)tlog_body_check(t, &v, key, v.leaf, &e);
		if (t->has_proof)
			(void)tlog_proof_good(t);
		if (t->checkpoint && tlog_checkpoint_good(t, &root->tlogs[0]))
			abort();
	}
	for (size_t i = 0; i < v.n_timestamps; i++)
		if (timestamp_check(&v.timestamps[i], &v.signature, root, &time, &e) == 0)
			abort();
	return 0;
}
