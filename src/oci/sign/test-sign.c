/* SPDX-License-Identifier: MIT */
/* Every check of a signature: that it lets the good through, and that it alone stops what is wrong in one thing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/io.h"
#include "sign/evidence.h"
#include "sign/test-sign-world.h"

static struct world w;
static struct sign_root *root;

static int setup(void **state)
{
	struct err e = {0};

	world_init(&w);
	if (sign_root_parse(w.json, strlen(w.json), &root, &e) < 0)
		fail_msg("%s", e.msg);
	return 0;
}

static int teardown(void **state)
{
	sign_root_free(root);
	world_done(&w);
	return 0;
}

static struct sign_requirement keyless(void)
{
	return (struct sign_requirement){.issuer = WORLD_ISSUER, .identity = WORLD_IDENTITY, .root = root};
}

static struct sign_key *public_key(EVP_PKEY *key)
{
	CLEANUP_FREE char *pem = world_pem(key);
	struct sign_key *k = NULL;
	struct err e = {0};

	if (sign_key_parse(pem, strlen(pem), "key", &k, &e) < 0)
		fail_msg("%s", e.msg);
	return k;
}

/* why NULL: it is good. Takes the candidate. */
static void expect(const struct sign_requirement *rq, struct sign_candidate c, const char *why, int line)
{
	struct err e = {0};
	int r = sign_verify(rq, WORLD_DIGEST, &c, &e);

	if (!why && r < 0)
		fail_msg("line %d: refused: %s", line, e.msg);
	if (why && (r != -EKEYREJECTED || e.code != r || !strstr(e.msg, why)))
		fail_msg("line %d: %d \"%s\" instead of \"%s\"", line, r, e.msg, why);
	world_free(&c);
}

#define GOOD(rq, c)	expect(rq, c, NULL, __LINE__)
#define BAD(rq, c, why) expect(rq, c, why, __LINE__)

/* ---- with a key ---- */

static void test_key(void **state)
{
	static const char *const kinds[] = {"P-256", "P-384", "RSA", "ED25519"};
	struct sign_key *other = public_key(w.other_key);

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		EVP_PKEY *key = world_key(kinds[i]);
		struct sign_key *k = public_key(key);
		struct sign_requirement rq = {.key = k}, logged = {.key = k, .root = root};
		struct sign_requirement by_other = {.key = other};
		GOOD(&rq, world_simple(&w, key, 0));
		GOOD(&rq, world_bundle(&w, key, 0));
		GOOD(&rq, world_bundle(&w, key, W_NO_LOG));
		GOOD(&logged, world_simple(&w, key, W_LOGGED));
		GOOD(&logged, world_bundle(&w, key, 0));
		BAD(&logged, world_simple(&w, key, 0), "in no transparency log");
		BAD(&logged, world_bundle(&w, key, W_NO_LOG), "in no transparency log");
		BAD(&by_other, world_simple(&w, key, 0), "not by this key");
		BAD(&by_other, world_bundle(&w, key, 0), "not by this key");
		if (i < 3)
			GOOD(&rq, world_bundle(&w, key, W_MESSAGE | W_HASHEDREKORD_1 | W_NO_LOG));
		sign_key_free(k);
		EVP_PKEY_free(key);
	}
	sign_key_free(other);
}

static void test_key_digest(void **state)
{
	static const char other[] = "sha256:a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a2";
	struct sign_key *k = public_key(w.leaf_key);
	struct sign_requirement rq = {.key = k};
	struct sign_candidate c[] = {world_simple(&w, w.leaf_key, 0), world_bundle(&w, w.leaf_key, 0),
		world_bundle(&w, w.leaf_key, W_MESSAGE | W_NO_LOG)};

	for (size_t i = 0; i < ARRAY_LEN(c); i++) {
		struct err e = {0};
		assert_int_equal(sign_verify(&rq, other, &c[i], &e), -EKEYREJECTED);
		assert_non_null(strstr(e.msg, "for another image"));
		assert_int_equal(sign_verify(&rq, "sha256:a1", &c[i], &e), -EINVAL);
		world_free(&c[i]);
	}
	sign_key_free(k);
}

static void test_requirement_incomplete(void **state)
{
	struct sign_candidate c = world_simple(&w, NULL, 0);
	struct sign_requirement rqs[] = {{0}, {.root = root},
		{.issuer = WORLD_ISSUER, .identity = WORLD_IDENTITY},
		{.issuer = "", .identity = WORLD_IDENTITY, .root = root},
		{.issuer = WORLD_ISSUER, .identity = "", .root = root},
		{.issuer = WORLD_ISSUER, .root = root}};

	for (size_t i = 0; i < ARRAY_LEN(rqs); i++)
		assert_int_equal(sign_verify(&rqs[i], WORLD_DIGEST, &c, NULL), -EINVAL);
	world_free(&c);
}

/* ---- keyless: certificates ---- */

struct fault {
	uint64_t how;
	const char *why; /* NULL: nothing is wrong */
};

static void each(const struct fault *f, size_t n, bool simple, bool bundle)
{
	struct sign_requirement rq = keyless();

	for (size_t i = 0; i < n; i++) {
		if (simple)
			expect(&rq, world_simple(&w, NULL, f[i].how), f[i].why, (int)i);
		if (bundle)
			expect(&rq, world_bundle(&w, NULL, f[i].how), f[i].why, (int)(1000 + i));
	}
}

static void test_certificates(void **state)
{
	static const struct fault faults[] = {
		{0, NULL},
		{W_NO_CHAIN, NULL}, /* the root has the intermediate */
		{W_OLD_ISSUER, NULL},
		{W_URI, NULL}, /* one name of several */
		{W_SELF_MADE, "not trusted"},
		{W_SELF_MADE | W_NO_CHAIN, "not trusted"},
		{W_EXPIRED, "not trusted: certificate has expired"},
		{W_EARLY, "not trusted: certificate is not yet valid"},
		{W_NO_EKU, "not for signing code"},
		{W_OTHER_EKU, "not for signing code"},
		{W_NO_SIGNING, "not for signatures"},
		{W_CA_LEAF, "that of an authority"},
		{W_NO_SCT, "no timestamp by a certificate log"},
		{W_BAD_SCT, "no valid timestamp by a certificate log"},
		{W_OTHER_SCT, "no timestamp by a trusted certificate log"},
		{W_NO_ISSUER, "which issuer vouched"},
		{W_ISSUERS_DIFFER, "not vouched for by"},
		{W_ISSUER_TWICE, "an extension twice"},
		{W_NO_NAME, "names nobody"},
		{W_OTHER_NAME, "signed by \"" WORLD_OTHER_NAME "\""},
	};

	each(faults, ARRAY_LEN(faults), true, true);
}

static void test_identities(void **state)
{
	struct sign_requirement rq = keyless();
	static const char *const wrong[] = {"signer@example.co", "signer@example.comm", "Signer@example.com",
		" signer@example.com", "*", ".*@example.com", "signer", WORLD_ISSUER};

	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		rq.identity = wrong[i];
		BAD(&rq, world_simple(&w, NULL, 0), "signed by \"" WORLD_IDENTITY "\", not by");
	}
	rq.identity = WORLD_URI;
	GOOD(&rq, world_simple(&w, NULL, W_URI));
	rq.identity = WORLD_OTHER_NAME;
	GOOD(&rq, world_simple(&w, NULL, W_OTHER_NAME));
	rq.identity = WORLD_IDENTITY;
	rq.issuer = WORLD_ISSUER "/";
	BAD(&rq, world_simple(&w, NULL, 0), "not vouched for by");
	BAD(&rq, world_simple(&w, NULL, W_OLD_ISSUER), "not vouched for by");
	rq.issuer = "Https://issuer.example"; /* one of two that differ does not do */
	BAD(&rq, world_simple(&w, NULL, W_ISSUERS_DIFFER), "not vouched for by");
}

/* ---- keyless: the log ---- */

static void test_log(void **state)
{
	static const struct fault faults[] = {
		{W_NO_LOG, "in no transparency log"},
		{W_BAD_PROMISE, "promise of inclusion is not signed by it"},
		{W_OTHER_CONTENT, "about another content"},
		{W_OTHER_SIGNATURE, "about another signature"},
		{W_OTHER_SIGNER, "about another certificate"},
	};
	static const struct fault proofs[] = {
		{W_BAD_PROOF, "does not lead to the signature"},
		{W_BAD_CHECKPOINT, "checkpoint is not signed by it"},
		{W_NO_PROMISE, "nobody trusted says when"},
		{W_NO_CHECKPOINT, "without proof of inclusion"},
		{W_NO_PROOF, "without proof of inclusion"},
		{W_V1 | W_NO_PROOF, NULL},
		{W_V1 | W_NO_CHECKPOINT, NULL},
		{W_V1, NULL},
		{W_V1 | W_NO_PROMISE, "without promise of inclusion"},
		{W_V1 | W_BAD_PROOF, "does not lead to the signature"},
		{W_V1 | W_BAD_PROMISE | W_NO_PROOF, "promise of inclusion is not signed by it"},
		{W_MESSAGE | W_HASHEDREKORD_1, NULL},
		{W_MESSAGE | W_HASHEDREKORD_2, NULL},
		{W_MESSAGE | W_HASHEDREKORD_1 | W_OTHER_CONTENT, "about another content"},
		{W_MESSAGE | W_HASHEDREKORD_2 | W_OTHER_CONTENT, "about another content"},
		{W_MESSAGE | W_HASHEDREKORD_2 | W_OTHER_SIGNER, "about another certificate"},
		{W_MESSAGE | W_DSSE_2, "about another kind of thing"},
		{W_PREDICATE, "does not sign it"},
	};

	each(faults, ARRAY_LEN(faults), true, true);
	each(proofs, ARRAY_LEN(proofs), false, true);
}

/* Each kind of entry, and each thing that it must be about. */
static void test_log_kinds(void **state)
{
	static const uint64_t kinds[] = {0, W_HASHEDREKORD_1, W_HASHEDREKORD_2, W_DSSE_2, W_INTOTO_2};
	struct sign_requirement rq = keyless();

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		GOOD(&rq, world_bundle(&w, NULL, kinds[i]));
		BAD(&rq, world_bundle(&w, NULL, kinds[i] | W_OTHER_CONTENT), "about another content");
		BAD(&rq, world_bundle(&w, NULL, kinds[i] | W_OTHER_SIGNATURE), "about another signature");
		BAD(&rq, world_bundle(&w, NULL, kinds[i] | W_OTHER_SIGNER), "about another certificate");
	}
	BAD(&rq, world_bundle(&w, NULL, W_INTOTO_1), "cannot be checked");

	struct sign_key *k = public_key(w.leaf_key);
	struct sign_requirement keyed = {.key = k, .root = root};
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		GOOD(&keyed, world_bundle(&w, w.leaf_key, kinds[i]));
		BAD(&keyed, world_bundle(&w, w.leaf_key, kinds[i] | W_OTHER_SIGNER), "about another key");
	}
	/* A keyless signature also is one by its key, for whoever asks for that key. */
	GOOD(&keyed, world_simple(&w, NULL, 0));
	sign_key_free(k);
}

/* In protobuf's JSON null is what is not there. What is needed is needed all the same. */
static void test_nulls(void **state)
{
	static const struct fault faults[] = {
		{W_NULLS, NULL},
		{W_NULLS | W_TIMESTAMP | W_NO_PROMISE, NULL},
		{W_NULLS | W_NO_PROMISE, "nobody trusted says when"},
		{W_NULLS | W_NO_LOG, "in no transparency log"},
	};
	struct sign_key *k = public_key(w.leaf_key);
	struct sign_requirement keyed = {.key = k};

	each(faults, ARRAY_LEN(faults), false, true);
	GOOD(&keyed, world_bundle(&w, w.leaf_key, W_NULLS | W_NO_LOG));
	GOOD(&keyed, world_bundle(&w, w.leaf_key, W_NULLS | W_NO_LOG | W_MESSAGE));
	struct sign_candidate c = world_bundle(&w, w.leaf_key, W_NO_LOG);
	CLEANUP_FREE char *more = str_printf("{\"more\":null,%s", c.payload + 1);
	struct sign_candidate odd = {.is_bundle = true, .payload = more, .payload_len = strlen(more)};
	assert_int_equal(sign_verify(&keyed, WORLD_DIGEST, &odd, NULL), -EKEYREJECTED);
	world_free(&c);
	sign_key_free(k);
}

static void test_timestamps(void **state)
{
	static const struct fault faults[] = {
		{W_TIMESTAMP, NULL},
		{W_TIMESTAMP | W_NO_PROMISE, NULL}, /* as in logs of the second generation */
		{W_TIMESTAMP | W_NO_PROMISE | W_HASHEDREKORD_2, NULL},
		{W_TIMESTAMP | W_BAD_TIMESTAMP, "timestamp is not by an authority"},
		{W_TIMESTAMP | W_OTHER_TSA, "timestamp is not by an authority"},
		{W_TIMESTAMP | W_SIBLING_TSA, "timestamp is not by an authority"},
		{W_TIMESTAMP | W_LATE_TIMESTAMP,
			"certificate has expired"}, /* although the log was in time */
		{W_TIMESTAMP | W_LATE_TIMESTAMP | W_NO_PROMISE, "certificate has expired"},
		{W_TIMESTAMP | W_EXPIRED, "certificate has expired"}, /* although the timestamp was */
		{W_TIMESTAMP | W_NO_LOG, "in no transparency log"},
	};

	each(faults, ARRAY_LEN(faults), false, true);
}

/* ---- what is trusted, and when ---- */

static void test_windows(void **state)
{
	static const char before[] = "2023-11-14T22:13:19Z", at[] = "2023-11-14T22:13:20Z"; /* WORLD_NOW */
	static const struct {
		const char *log, *ct, *ca, *tsa, *why;
		uint64_t how;
	} cases[] = {
		{at, at, at, NULL, NULL, 0},
		{before, NULL, NULL, NULL, "key was not in use", 0},
		{NULL, before, NULL, NULL, "no timestamp by a trusted certificate log", 0},
		{NULL, NULL, before, NULL, "no authority was trusted", 0},
		{NULL, NULL, NULL, before, "timestamp is not by an authority", W_TIMESTAMP},
		{before, NULL, NULL, NULL, "key was not in use", W_TIMESTAMP | W_NO_PROMISE},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		CLEANUP_FREE char *json =
			world_root(&w, true, cases[i].log, cases[i].ct, cases[i].ca, cases[i].tsa);
		struct sign_root *r = NULL;
		assert_int_equal(sign_root_parse(json, strlen(json), &r, NULL), 0);
		struct sign_requirement rq = keyless();
		rq.root = r;
		expect(&rq, world_bundle(&w, NULL, cases[i].how), cases[i].why, (int)i);
		sign_root_free(r);
	}
}

static void test_root_from_pem(void **state)
{
	CLEANUP_FREE char *root_pem = world_cert_pem(w.root), *fake_pem = world_cert_pem(w.fake_root);
	CLEANUP_FREE char *log = world_pem(w.log_key), *ct = world_pem(w.ct_key),
			  *other = world_pem(w.other_key);
	CLEANUP_FREE char *commented = str_printf("# ours\n%s\nand another:\n%s", root_pem, fake_pem);
	const struct {
		const char *ca, *log, *ct, *why;
		uint64_t how;
	} cases[] = {
		{root_pem, log, ct, NULL, 0},
		{commented, log, ct, NULL, 0},
		{root_pem, log, NULL, NULL, 0},
		{root_pem, log, NULL, NULL,
			W_NO_SCT}, /* no certificate log is known: none can be asked for */
		{root_pem, log, ct, "no timestamp by a certificate log", W_NO_SCT},
		{root_pem, log, other, "no timestamp by a trusted certificate log", 0},
		{root_pem, other, ct, "log that is not trusted", 0},
		{root_pem, NULL, ct, "has no transparency log", 0},
		{root_pem, log, ct, "not trusted", W_NO_CHAIN}, /* nobody has the intermediate */
		{fake_pem, log, ct, "not trusted", 0},
		{NULL, log, ct, "no authority was trusted", 0},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct sign_root *r = NULL;
		struct sign_requirement rq = keyless();
		assert_int_equal(sign_root_from_pem(cases[i].ca, cases[i].log, cases[i].ct, &r, NULL), 0);
		rq.root = r;
		expect(&rq, world_simple(&w, NULL, cases[i].how), cases[i].why, (int)i);
		sign_root_free(r);
	}
	struct sign_root *r = NULL;
	assert_int_equal(sign_root_from_pem("x", NULL, NULL, &r, NULL), -EBADMSG);
	assert_int_equal(sign_root_from_pem(log, NULL, NULL, &r, NULL), -EBADMSG);
	assert_int_equal(sign_root_from_pem(NULL, root_pem, NULL, &r, NULL), -EINVAL);
}

/* ---- one byte ---- */

/* Where changes do not count, because nothing is decided by it. */
static bool in_skipped(const char *text, size_t i, const char *skip)
{
	const char *from = skip ? strstr(text, skip) : NULL;

	return from && i >= (size_t)(from - text) && i < (size_t)(from - text) + strlen(skip);
}

/* Every byte of one of a candidate's texts, changed in two ways; and its end cut off. */
static void flip(
	const struct sign_requirement *rq, const struct sign_candidate *good, size_t member, const char *skip)
{
	struct sign_candidate c = *good;
	const char **field = (const char **)(void *)((char *)&c + member);
	const char *text = *field;
	size_t n = strlen(text);
	CLEANUP_FREE char *copy = strdup(text);

	if (sign_verify(rq, WORLD_DIGEST, good, NULL) < 0)
		fail_msg("not good to begin with");
	*field = copy;
	for (size_t i = 0; i < n; i++) {
		for (int k = 0; k < 2 && !in_skipped(text, i, skip); k++) {
			copy[i] = (char)(text[i] ^ (k ? 0x20 : 1));
			if (copy[i] && sign_verify(rq, WORLD_DIGEST, &c, NULL) == 0)
				fail_msg("byte %zu may be '%c' instead of '%c': %.80s", i, copy[i], text[i],
					text + (i > 40 ? i - 40 : 0));
		}
		copy[i] = text[i];
	}
	for (size_t len = n > 200 ? n - 200 : 0; len < n - 1; len++) {
		CLEANUP_FREE char *cut = strndup(text, len);
		*field = cut;
		if (member == offsetof(struct sign_candidate, payload))
			c.payload_len = len;
		if (sign_verify(rq, WORLD_DIGEST, &c, NULL) == 0)
			fail_msg("%zu of %zu bytes are enough", len, n);
	}
}

static void test_flip_simple(void **state)
{
	static const size_t members[] = {offsetof(struct sign_candidate, payload),
		offsetof(struct sign_candidate, signature), offsetof(struct sign_candidate, certificate),
		offsetof(struct sign_candidate, log_entry)};
	struct sign_requirement rq = keyless();
	struct sign_candidate c = world_simple(&w, NULL, W_NO_CHAIN);
	struct sign_key *k = public_key(w.leaf_key);
	struct sign_requirement keyed = {.key = k};

	for (size_t i = 0; i < ARRAY_LEN(members); i++)
		flip(&rq, &c, members[i], NULL);
	world_free(&c);
	c = world_simple(&w, w.leaf_key, 0);
	for (size_t i = 0; i < 2; i++)
		flip(&keyed, &c, members[i], NULL);
	world_free(&c);
	sign_key_free(k);
}

static void test_flip_bundle(void **state)
{
	struct sign_requirement rq = keyless();
	struct sign_key *k = public_key(w.leaf_key);
	struct sign_requirement keyed = {.key = k};
	struct sign_candidate c = world_bundle(&w, NULL, 0);

	/* The version says no more than which proofs must be there. */
	flip(&rq, &c, offsetof(struct sign_candidate, payload), ".v0.3+json");
	world_free(&c);
	c = world_bundle(&w, w.leaf_key, W_MESSAGE | W_NO_LOG);
	flip(&keyed, &c, offsetof(struct sign_candidate, payload), ".v0.3+json");
	world_free(&c);
	sign_key_free(k);
}

/* A certificate's own bytes, each of its bits: the log's entry follows, so that only the certificate can object. */
static void test_flip_certificate(void **state)
{
	struct sign_requirement rq = keyless();
	struct sign_candidate c = world_simple(&w, NULL, W_NO_CHAIN);
	const char *p = c.certificate;
	char label[PEM_LABEL_MAX];
	struct bytes der = {0};
	uint8_t issuer[SHA256_LEN];

	assert_int_equal(pem_next(&p, p + strlen(p), false, label, &der), 0);
	for (size_t i = 0; i < der.n * 8; i++) {
		struct sign_cert *x = NULL;
		der.p[i / 8] ^= (uint8_t)(1 << i % 8);
		if (cert_from_der(&der, "x", &x, NULL) == 0) {
			struct cert_list none = {0};
			if (cert_check_chain(x, &none, root, WORLD_NOW, issuer, NULL) == 0)
				fail_msg("bit %zu of the certificate does not count", i);
			(void)cert_check_usage(x, NULL);
			(void)cert_check_identity(x, rq.issuer, rq.identity, NULL);
			(void)cert_check_sct(x, issuer, root, NULL);
		}
		sign_cert_free(x);
		der.p[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	bytes_done(&der);
	world_free(&c);
}

/* ---- form ---- */

static void test_documents_refused(void **state)
{
	struct sign_key *k = public_key(w.leaf_key);
	struct sign_requirement rq = {.key = k};
	static const char *const payloads[] = {"", "[]", "{}", "null", "{\"critical\":{}}",
		"{\"critical\":{\"identity\":{\"docker-reference\":\"x\"},\"image\":{\"docker-manifest-"
		"digest\":\"" WORLD_DIGEST "\"},\"type\":\"atomic container signature\"},\"optional\":null}",
		"{\"critical\":{\"identity\":{\"docker-reference\":\"x\"},\"image\":{\"docker-manifest-"
		"digest\":\"" WORLD_DIGEST
		"\"},\"type\":\"cosign container image signature\",\"more\":1},\"optional\":null}",
		"{\"critical\":{\"identity\":{\"docker-reference\":\"x\"},\"image\":{\"docker-manifest-"
		"digest\":\"" WORLD_DIGEST
		"\"},\"type\":\"cosign container image signature\"},\"optional\":1}",
		"{\"critical\":{\"identity\":{\"docker-reference\":\"x\"},\"image\":{\"docker-manifest-"
		"digest\":\"" WORLD_DIGEST "\",\"docker-manifest-digest\":\"" WORLD_DIGEST
		"\"},\"type\":\"cosign container image signature\"},\"optional\":null}"};

	/* Each is signed properly: it is the content that is refused. */
	for (size_t i = 0; i < ARRAY_LEN(payloads); i++) {
		uint8_t sig[1024];
		size_t n = world_sign(w.leaf_key, 0, payloads[i], strlen(payloads[i]), sig);
		CLEANUP_FREE char *text = world_b64(sig, n);
		struct sign_candidate c = {
			.payload = payloads[i], .payload_len = strlen(payloads[i]), .signature = text};
		assert_int_equal(sign_verify(&rq, WORLD_DIGEST, &c, NULL), -EKEYREJECTED);
		c.is_bundle = true;
		assert_int_equal(sign_verify(&rq, WORLD_DIGEST, &c, NULL), -EKEYREJECTED);
	}
	struct sign_candidate c = world_simple(&w, w.leaf_key, 0);
	free((char *)c.signature);
	c.signature = NULL;
	BAD(&rq, c, "signature is missing");
	CLEANUP_FREE char *big = malloc(SIGN_DOCUMENT_MAX + 2);
	memset(big, ' ', SIGN_DOCUMENT_MAX + 1);
	big[SIGN_DOCUMENT_MAX + 1] = '\0';
	c = (struct sign_candidate){
		.payload = big, .payload_len = SIGN_DOCUMENT_MAX + 1, .signature = "AAAA"};
	assert_int_equal(sign_verify(&rq, WORLD_DIGEST, &c, NULL), -EKEYREJECTED);
	c.is_bundle = true;
	assert_int_equal(sign_verify(&rq, WORLD_DIGEST, &c, NULL), -EKEYREJECTED);
	c = (struct sign_candidate){.payload = "{}", .payload_len = 2, .signature = big};
	assert_int_equal(sign_verify(&rq, WORLD_DIGEST, &c, NULL), -EKEYREJECTED);
	sign_key_free(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_key),
		cmocka_unit_test(test_key_digest),
		cmocka_unit_test(test_requirement_incomplete),
		cmocka_unit_test(test_certificates),
		cmocka_unit_test(test_identities),
		cmocka_unit_test(test_log),
		cmocka_unit_test(test_log_kinds),
		cmocka_unit_test(test_timestamps),
		cmocka_unit_test(test_nulls),
		cmocka_unit_test(test_windows),
		cmocka_unit_test(test_root_from_pem),
		cmocka_unit_test(test_flip_simple),
		cmocka_unit_test(test_flip_bundle),
		cmocka_unit_test(test_flip_certificate),
		cmocka_unit_test(test_documents_refused),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
