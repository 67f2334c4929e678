/* SPDX-License-Identifier: MIT */
/* Any bytes as a signer's certificate (DER), with a trusted authority and certificate log that have never seen it. */
#include <stdint.h>
#include <string.h>

#include "sign/root.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char key_pem[] = "-----BEGIN PUBLIC KEY-----\n"
			      "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE2G2Y+2tabdTV5BcGiBIx0a9fAFwr\n"
			      "kBbmLSGtks4L3qX6yYY0zufBnhC8Ur/iy55GhWP/9A/bY2LhC30M9+RYtw==\n"
			      "-----END PUBLIC KEY-----\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct sign_root *root;
	CLEANUP(sign_cert_freep) struct sign_cert *c = NULL;
	CLEANUP(sign_key_freep) struct sign_key *k = NULL;
	struct bytes der = {.p = (uint8_t *)data, .n = size};
	struct cert_list none = {0};
	uint8_t issuer[SHA256_LEN] = {0};
	struct err e = {0};

	if (!root && sign_root_from_pem(NULL, key_pem, key_pem, &root, &e) < 0)
		abort();
	if (cert_from_der(&der, "certificate", &c, &e) < 0)
		return 0;
	(void)cert_key(c, "certificate", &k, &e);
	(void)cert_check_usage(c, &e);
	(void)cert_check_identity(c, "https://issuer.example", "signer@example.com", &e);
	/* As if every log were known, so that each timestamp is looked at. */
	const ASN1_OCTET_STRING *ext;
	if (cert_extension(c, "1.3.6.1.4.1.11129.2.4.2", &ext, NULL, &e) == 0 && ext) {
		const uint8_t *p = c->l->ASN1_STRING_get0_data(ext);
		if (c->l->ASN1_STRING_length(ext) >= 2 + 2 + 2 + 1 + SHA256_LEN)
			memcpy(root->ctlogs[0].id, p + 7, SHA256_LEN);
	}
	if (cert_check_sct(c, issuer, root, &e) == 0)
		abort();
	if (cert_check_chain(c, &none, root, 1700000000, issuer, &e) == 0)
		abort();
	return 0;
}
