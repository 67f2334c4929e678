/* SPDX-License-Identifier: MIT */
/*
 * A registry that gives any bytes as manifests of signatures, lists of referrers, and signatures. The input is cut at
 * NUL bytes: each answer is the next piece. Digests are taken to be right, since no input would ever make them so.
 */
#include <stdint.h>
#include <string.h>

#include "registry/registry.h"

static struct {
	const uint8_t *p;
	size_t left;
	const uint8_t *blob; /* being read */
	size_t blob_left;
	char digest[OCI_DIGEST_MAX]; /* that was asked for last */
} in;

static const uint8_t *piece(size_t *ret_n)
{
	const uint8_t *p = in.p, *end = in.left ? memchr(p, 0, in.left) : NULL;

	*ret_n = end ? (size_t)(end - p) : in.left;
	size_t used = *ret_n + (end ? 1 : 0);
	in.p += used;
	in.left -= used;
	return p;
}

static int fake_document(char **ret, size_t *ret_n)
{
	if (in.left == 0)
		return -ENOENT;
	const uint8_t *p = piece(ret_n);
	*ret = malloc(*ret_n + 1);
	if (!*ret)
		return -ENOMEM;
	memcpy(*ret, p, *ret_n);
	(*ret)[*ret_n] = '\0';
	return 0;
}

static int fake_manifest(struct oci_conn *c, const char *tag_or_digest, char **ret, size_t *ret_n,
	char ret_digest[OCI_DIGEST_MAX], char **ret_type, struct err *e)
{
	(void)c, (void)tag_or_digest, (void)ret_digest, (void)ret_type, (void)e;
	return fake_document(ret, ret_n);
}

static int fake_referrers(struct oci_conn *c, const char *digest, const char *artifact_type, char **ret,
	size_t *ret_n, struct err *e)
{
	(void)c, (void)digest, (void)artifact_type, (void)e;
	return fake_document(ret, ret_n);
}

static int fake_blob(struct oci_conn *c, const char *digest, uint64_t from, uint64_t *ret_from, struct err *e)
{
	(void)c, (void)from, (void)e;
	oci_digest_copy(in.digest, digest);
	in.blob = piece(&in.blob_left);
	*ret_from = 0;
	return 0;
}

static ssize_t fake_read(struct oci_conn *c, void *buf, size_t n, struct err *e)
{
	(void)c, (void)e;
	n = MIN_OF(n, in.blob_left);
	if (n)
		memcpy(buf, in.blob, n);
	in.blob += n;
	in.blob_left -= n;
	return (ssize_t)n;
}

static int fake_digest(const char *like, const void *data, size_t n, char ret[OCI_DIGEST_MAX], struct err *e)
{
	(void)like, (void)data, (void)n, (void)e;
	oci_digest_copy(ret, in.digest);
	return 0;
}

#define oci_conn_manifest    fake_manifest
#define oci_conn_referrers   fake_referrers
#define oci_conn_blob	     fake_blob
#define oci_conn_read	     fake_read
#define oci_digest_like	     fake_digest
#define oci_signature_tag    fuzzed_tag
#define oci_signatures_done  fuzzed_done
#define oci_signatures_keep  fuzzed_keep
#define oci_signatures_fetch fuzzed_fetch
#define oci_found_done	     fuzzed_found_done
#include "verify-fetch.c" /* NOLINT(bugprone-suspicious-include) */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char digest[] =
		"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
	CLEANUP(oci_found_done) struct oci_found f = {0};
	bool odd[SIGN_CANDIDATES_MAX];
	struct err e = {0};

	in.p = data;
	in.left = size;
	(void)oci_signatures_fetch(NULL, digest, &f, &e);
	if (f.all.n > SIGN_CANDIDATES_MAX)
		abort();
	/* Each is what it says: texts that end, payloads that can be read to their end. */
	size_t sum = 0;
	for (size_t i = 0; i < f.all.n; i++) {
		const struct sign_candidate *c = &f.all.v[i];
		const char *texts[] = {c->signature, c->certificate, c->chain, c->log_entry};
		for (size_t k = 0; k < ARRAY_LEN(texts); k++)
			sum += texts[k] ? strlen(texts[k]) : 0;
		for (size_t k = 0; k <= c->payload_len; k++)
			sum += (unsigned char)c->payload[k];
		odd[i] = sum % 2 || strcmp(f.all.digest[i], digest) != 0;
	}
	oci_signatures_keep(&f.all, odd);
	return 0;
}
