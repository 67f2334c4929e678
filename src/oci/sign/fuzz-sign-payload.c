/* SPDX-License-Identifier: MIT */
/* Any bytes as cosign's payload and its annotations (signature, certificate, chain, log entry), cut at NUL bytes. */
#include <stdint.h>
#include <string.h>

#include "sign/evidence.h"

#define DIGEST "sha256:a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char key_pem[] = "-----BEGIN PUBLIC KEY-----\n"
			      "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE2G2Y+2tabdTV5BcGiBIx0a9fAFwr\n"
			      "kBbmLSGtks4L3qX6yYY0zufBnhC8Ur/iy55GhWP/9A/bY2LhC30M9+RYtw==\n"
			      "-----END PUBLIC KEY-----\n";

/* What is only reached behind a good signature is called by itself. */
static void judge(const struct evidence *v, const struct sign_root *root, const struct sign_key *key)
{
	uint8_t issuer[SHA256_LEN] = {0};

	for (size_t i = 0; i < v->n_entries; i++)
		(void)tlog_body_check(&v->entries[i], v, key, v->leaf, NULL);
	if (!v->leaf)
		return;
	(void)cert_check_usage(v->leaf, NULL);
	(void)cert_check_identity(v->leaf, "https://i.example", "me@example.com", NULL);
	(void)cert_check_sct(v->leaf, issuer, root, NULL);
	(void)cert_check_chain(v->leaf, &v->others, root, 1700000000, issuer, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct sign_key *key;
	static struct sign_root *root;
	CLEANUP(evidence_done) struct evidence v = {0};
	char *piece[5] = {0};
	const uint8_t *p = data, *end = data + size;
	struct err e = {0};

	if (!root && (sign_key_parse(key_pem, strlen(key_pem), "key", &key, &e) < 0 ||
			     sign_root_from_pem(NULL, key_pem, key_pem, &root, &e) < 0))
		abort();
	for (size_t i = 0; i < ARRAY_LEN(piece) && p < end; i++) {
		const uint8_t *nul = memchr(p, 0, (size_t)(end - p));
		size_t n = (size_t)((nul ? nul : end) - p);
		piece[i] = strndup((const char *)p, n);
		p += n + 1;
	}
	struct sign_candidate c = {.payload = piece[0] ? piece[0] : "",
		.payload_len = piece[0] ? strlen(piece[0]) : 0,
		.signature = piece[1],
		.certificate = piece[2],
		.chain = piece[3],
		.log_entry = piece[4]};
	struct sign_requirement keyless = {
		.issuer = "https://i.example", .identity = "me@example.com", .root = root};
	struct sign_requirement keyed = {.key = key};
	/* Nobody has this key's other half. */
	if (sign_verify(&keyed, DIGEST, &c, &e) == 0 || sign_verify(&keyless, DIGEST, &c, &e) == 0)
		abort();
	if (evidence_simple(&c, DIGEST, &v, &e) == 0)
		judge(&v, root, key);
	for (size_t i = 0; i < ARRAY_LEN(piece); i++)
		free(piece[i]);
	return 0;
}
