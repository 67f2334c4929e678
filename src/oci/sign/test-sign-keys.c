/* SPDX-License-Identifier: MIT */
/* Keys, documents and signing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/b64.h"
#include "base/io.h"
#include "sign/key.h"
#include "sign/root.h"
#include "sign/test-sign-world.h"

/* ---- public keys ---- */

static int parse_key(const char *pem, struct err *e)
{
	struct sign_key *k = NULL;
	int r = sign_key_parse(pem, strlen(pem), "file.pub", &k, e);

	if (r == 0)
		sign_key_free(k);
	else
		assert_null(k);
	return r;
}

static void expect_key(const char *pem, const char *why)
{
	struct err e = {0};
	int r = parse_key(pem, &e);

	if (why ? r != -EINVAL || !strstr(e.msg, why) : r < 0)
		fail_msg("%d \"%s\" instead of \"%s\": %s", r, e.msg, why ? why : "good", pem);
}

static void test_public_keys(void **state)
{
	static const struct {
		const char *kind, *why;
	} kinds[] = {{"P-256", NULL}, {"P-384", NULL}, {"RSA", NULL}, {"ED25519", NULL},
		{"P-521", "kind that is not"}, {"secp256k1", "kind that is not"},
		{"RSA1024", "RSA key of 1024 bits"}};

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		EVP_PKEY *key = world_key(kinds[i].kind);
		CLEANUP_FREE char *pem = world_pem(key);
		expect_key(pem, kinds[i].why);
		EVP_PKEY_free(key);
	}
}

static void test_public_key_form(void **state)
{
	struct world w;

	world_init(&w);
	CLEANUP_FREE char *pem = world_pem(w.leaf_key), *cert = world_cert_pem(w.root);
	CLEANUP_FREE char *twice = str_printf("%s%s", pem, pem), *behind = str_printf("%sx", pem);
	CLEANUP_FREE char *before = str_printf("x\n%s", pem), *spaced = str_printf("\n\r\n%s \n\n", pem);
	CLEANUP_FREE char *cut = strdup(pem);

	expect_key(pem, NULL);
	expect_key(spaced, NULL);
	expect_key(twice, "more than one key");
	expect_key(behind, "something behind the key");
	expect_key(before, "not a public key in PEM format");
	expect_key(cert, "a PEM block \"CERTIFICATE\"");
	expect_key("", "not a public key in PEM format");
	expect_key("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n", "not a public key in PEM");
	expect_key("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
		"file.pub is not a public key");
	expect_key("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END OTHER KEY-----\n", "not a public key in PEM");
	expect_key("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "is a private key");
	strstr(cut, "-----END")[0] = '\0';
	expect_key(cut, "not a public key in PEM format");
	CLEANUP_FREE char *big = malloc(70000);
	memset(big, '\n', 69999);
	big[69999] = '\0';
	expect_key(big, "larger than 64 KiB");
	world_done(&w);
}

/* PSS is accepted beside PKCS#1, as is SHA-384 with P-384. */
static void test_paddings(void **state)
{
	EVP_PKEY *key = world_key("RSA");
	CLEANUP_FREE char *pem = world_pem(key);
	struct sign_key *k = NULL;
	uint8_t sig[1024];

	assert_int_equal(sign_key_parse(pem, strlen(pem), "key", &k, NULL), 0);
	for (int i = 0; i < 2; i++) {
		struct bytes s = {.p = sig};
		s.n = world_sign(key, i ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING, "text", 4, sig);
		assert_int_equal(key_verify(k, "text", 4, &s, NULL), 0);
		assert_int_equal(key_verify(k, "tex", 3, &s, NULL), -EKEYREJECTED);
		uint8_t hash[32];
		assert_int_equal(sign_sha256("text", 4, hash, NULL), 0);
		assert_int_equal(key_verify_sha256(k, hash, &s, NULL), 0);
		hash[0] ^= 1;
		assert_int_equal(key_verify_sha256(k, hash, &s, NULL), -EKEYREJECTED);
		s.n--;
		assert_int_equal(key_verify(k, "text", 4, &s, NULL), -EKEYREJECTED);
		s.n = 0;
		assert_int_equal(key_verify(k, "text", 4, &s, NULL), -EKEYREJECTED);
	}
	sign_key_free(k);
	EVP_PKEY_free(key);
}

/* ---- documents ---- */

static void test_base64(void **state)
{
	static const char *const bad[] = {"A", "AA", "AAA", "AA=", "AAAA=", "AA==AAAA",
		"A===", "AB==", "AAB=", "AA-_", " AAAA", "AAAA\n", "AA A", "====", "AAAA===="};
	struct bytes b = {0};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (b64_bytes(bad[i], strlen(bad[i]), &b) != -EBADMSG)
			fail_msg("%s", bad[i]);
	assert_int_equal(b64_bytes("AQI=", 4, &b), 0);
	assert_int_equal(b.n, 2);
	bytes_done(&b);
}

static void test_times(void **state)
{
	static const char *const bad[] = {"", "2020", "2020-01-01", "2020-01-01T00:00:00",
		"2020-13-01T00:00:00Z", "2020-01-01T00:00:00.Z", "2020-01-01T00:00:00ZZ",
		"20200-01-01T00:00:00Z", "2020-01-01T00:00:00+0100", " 2020-01-01T00:00:00Z",
		"2020-01-01T00:00:00+1:000"};
	int64_t t;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (doc_time(bad[i], &t) == 0)
			fail_msg("%s", bad[i]);
	assert_int_equal(doc_time("2024-02-29T12:00:00.123456789Z", &t), 0);
	assert_int_equal(t, 1709208000);
	assert_int_equal(doc_time("2024-02-29T13:30:00+01:30", &t), 0);
	assert_int_equal(t, 1709208000);
	assert_int_equal(doc_time("9999-12-31T23:59:59Z", &t), 0);
	assert_int_equal(t, 253402300799);
}

static void test_integers(void **state)
{
	static const char *const bad[] = {"-1", "\"-1\"", "\"01\"", "\"\"", "\"9223372036854775808\"", "1.5",
		"\"1 \"", "null", "true", "[]", "\"0x1\""};
	CLEANUP(json_done) json_t *j = NULL;
	int64_t n;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		CLEANUP_FREE char *text = str_printf("{\"n\":%s}", bad[i]);
		CLEANUP(json_done) json_t *o = NULL;
		assert_int_equal(doc_parse("x", text, strlen(text), &o, NULL), 0);
		if (doc_int64("x", o, "n", &n, NULL) == 0)
			fail_msg("%s", bad[i]);
	}
	static const char good[] = "{\"a\":\"9223372036854775807\",\"b\":7}";
	assert_int_equal(doc_parse("x", good, strlen(good), &j, NULL), 0);
	assert_int_equal(doc_int64("x", j, "a", &n, NULL), 0);
	assert_int_equal(n, INT64_MAX);
	assert_int_equal(doc_int64("x", j, "b", &n, NULL), 0);
	assert_int_equal(n, 7);
	assert_int_equal(doc_int64("x", j, "none", &n, NULL), 0);
	assert_int_equal(n, 0);
}

static void test_root_refused(void **state)
{
	static const char *const bad[] = {"", "[]", "{}", "{\"mediaType\":\"application/json\"}",
		"{\"mediaType\":\"application/vnd.dev.sigstore.trustedroot+json;version=9\"}",
#define TYPE "\"mediaType\":\"application/vnd.dev.sigstore.trustedroot+json;version=0.1\""
		"{" TYPE ",\"tlogs\":{}}", "{" TYPE ",\"tlogs\":[{}]}",
		"{" TYPE ",\"tlogs\":[{\"publicKey\":{}}]}",
		"{" TYPE ",\"tlogs\":[{\"publicKey\":{\"rawBytes\":\"AAAA\",\"validFor\":{}}}]}",
		"{" TYPE ",\"tlogs\":[{\"publicKey\":{\"rawBytes\":\"AAAA\"}}]}",
		"{" TYPE ",\"tlogs\":[{\"publicKey\":{\"rawBytes\":\"*\",\"validFor\":{\"start\":\"2020-01-"
		"01T00:00:00Z\"}}}]}",
		"{" TYPE ",\"tlogs\":[{\"publicKey\":{\"rawBytes\":\"AAAA\",\"validFor\":{\"start\":"
		"\"yesterday\"}}}]}",
		"{" TYPE ",\"tlogs\":[{\"publicKey\":{\"rawBytes\":\"AAAA\",\"validFor\":{\"start\":"
		"\"2020-01-01T00:00:00Z\",\"end\":7}}}]}",
		"{" TYPE ",\"certificateAuthorities\":[{\"validFor\":{\"start\":\"2020-01-01T00:00:00Z\"}}]}",
		"{" TYPE ",\"certificateAuthorities\":[{\"validFor\":{\"start\":\"2020-01-01T00:00:00Z\"},"
		"\"certChain\":{"
		"\"certificates\":[{\"rawBytes\":\"AAAA\"}]}}]}"};
	struct sign_root *r = NULL;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err e = {0};
		if (sign_root_parse(bad[i], strlen(bad[i]), &r, &e) != -EBADMSG || !*e.msg)
			fail_msg("%s", bad[i]);
	}
	/* A log whose key is of a kind that is not known vouches for nothing, but does not spoil the others. */
	static const char unknown[] =
		"{" TYPE ",\"ctlogs\":[{\"publicKey\":{\"rawBytes\":\"AAAA\",\"validFor\":{\"start\":"
		"\"2020-01-01T00:00:00Z\"}}}]}";
	assert_int_equal(sign_root_parse(unknown, strlen(unknown), &r, NULL), 0);
	assert_int_equal(r->n_ctlogs, 0);
	assert_true(r->need_sct);
	sign_root_free(r);
}

/* ---- signing ---- */

static char *private_pem(EVP_PKEY *key, const char *password)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *data;

	assert_int_equal(PEM_write_bio_PKCS8PrivateKey(bio, key, password ? EVP_aes_256_cbc() : NULL, NULL, 0,
				 NULL, (void *)password),
		1);
	long n = BIO_get_mem_data(bio, &data);
	char *pem = strndup(data, (size_t)n);
	BIO_free(bio);
	return pem;
}

/* What we sign we verify, and it is what cosign would have written. */
static void round_trip(const struct sign_private *private, EVP_PKEY *key)
{
	CLEANUP_FREE char *payload = NULL, *signature = NULL, *pem = world_pem(key);
	struct sign_key *k = NULL;
	struct err e = {0};

	assert_int_equal(sign_simple(private, WORLD_REPOSITORY, WORLD_DIGEST, &payload, &signature, &e), 0);
	assert_string_equal(payload,
		"{\"critical\":{\"identity\":{\"docker-reference\":\"" WORLD_REPOSITORY "\"},\"image\":{"
		"\"docker-manifest-digest\":\"" WORLD_DIGEST
		"\"},\"type\":\"cosign container image signature\"},"
		"\"optional\":null}");
	assert_int_equal(sign_key_parse(pem, strlen(pem), "key", &k, &e), 0);
	struct sign_requirement rq = {.key = k};
	struct sign_candidate c = {
		.payload = payload, .payload_len = strlen(payload), .signature = signature};
	if (sign_verify(&rq, WORLD_DIGEST, &c, &e) < 0)
		fail_msg("%s", e.msg);
	sign_key_free(k);
}

static void test_signing(void **state)
{
	static const char *const kinds[] = {"P-256", "P-384", "RSA", "ED25519"};

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		EVP_PKEY *key = world_key(kinds[i]);
		CLEANUP_FREE char *plain = private_pem(key, NULL), *sealed = private_pem(key, "secret");
		struct sign_private *p = NULL;
		struct err e = {0};
		assert_int_equal(sign_private_parse(plain, strlen(plain), NULL, &p, &e), 0);
		round_trip(p, key);
		sign_private_free(p);
		assert_int_equal(sign_private_parse(plain, strlen(plain), "unused", &p, &e), 0);
		sign_private_free(p);
		assert_int_equal(sign_private_parse(sealed, strlen(sealed), "secret", &p, &e), 0);
		round_trip(p, key);
		sign_private_free(p);
		assert_int_equal(sign_private_parse(sealed, strlen(sealed), "Secret", &p, &e), -EACCES);
		assert_non_null(strstr(e.msg, "does not open"));
		assert_int_equal(sign_private_parse(sealed, strlen(sealed), NULL, &p, &e), -EACCES);
		assert_non_null(strstr(e.msg, "needs a password"));
		EVP_PKEY_free(key);
	}
}

static void test_private_refused(void **state)
{
	EVP_PKEY *small = world_key("RSA1024"), *key = world_key("P-256");
	CLEANUP_FREE char *small_pem = private_pem(small, NULL), *public = world_pem(key);
	struct sign_private *p = NULL;
	struct err e = {0};

	assert_int_equal(sign_private_parse(small_pem, strlen(small_pem), NULL, &p, &e), -EINVAL);
	assert_int_equal(sign_private_parse(public, strlen(public), NULL, &p, &e), -EINVAL);
	assert_int_equal(sign_private_parse("", 0, NULL, &p, &e), -EINVAL);
	EVP_PKEY_free(small);
	EVP_PKEY_free(key);
}

/* A key for tests that cosign has made, with an empty password (from conforma/cli, internal/validate/vsa tests). */
static const char cosign_key[] = "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n"
				 "eyJrZGYiOnsibmFtZSI6InNjcnlwdCIsInBhcmFtcyI6eyJOIjo2NTUzNiwiciI6\n"
				 "OCwicCI6MX0sInNhbHQiOiJLYU9OQzduQVJLOVgxM1FoaWFucjAwTTBGYys2Sitr\n"
				 "dnAxN1FuanpiVk9nPSJ9LCJjaXBoZXIiOnsibmFtZSI6Im5hY2wvc2VjcmV0Ym94\n"
				 "Iiwibm9uY2UiOiJVOHZqWWtqMlZOUFZGdlZFZWZ3bXZ5VGloUERrelBoaCJ9LCJj\n"
				 "aXBoZXJ0ZXh0IjoidWNWMnQ4TTZVNFJvb29FOXc0d3dkc3E1RDYrS2RKY245dERT\n"
				 "KzFwRDRGN040SVJOWEgzSTBua3h1a3NackFOUHR1emIvTkVYQ201dUp3Zjh3Qzl1\n"
				 "VlprbXdwNU5jRUZ6b3ZNS3JCZmNvdXdjaEkrMzkrQ0NhbVZPbzBucmRnZjhvcmpK\n"
				 "dXdrWDBYL1phY0RUTERGaUxyc1laMWVMMmlqMGU1MVRpZmVQNTl4WXNPK1FnM1Jv\n"
				 "OURRVjNQMk9ndDFDaVFHeGg1VXhUZytGc3c9PSJ9\n"
				 "-----END ENCRYPTED SIGSTORE PRIVATE KEY-----";

static void test_cosign_key(void **state)
{
	struct sign_private *p = NULL;
	struct err e = {0};
	CLEANUP_FREE char *payload = NULL, *signature = NULL;

	if (sign_private_parse(cosign_key, strlen(cosign_key), "", &p, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(sign_simple(p, WORLD_REPOSITORY, WORLD_DIGEST, &payload, &signature, &e), 0);
	sign_private_free(p);
	assert_int_equal(sign_private_parse(cosign_key, strlen(cosign_key), "x", &p, &e), -EACCES);
	assert_int_equal(sign_private_parse(cosign_key, strlen(cosign_key), NULL, &p, &e), -EACCES);
	CLEANUP_FREE char *twice = str_printf("%s\n%s", cosign_key, cosign_key);
	assert_int_equal(sign_private_parse(twice, strlen(twice), "", &p, &e), -EINVAL);
}

/* Sealed as cosign does it, with cheap parameters. */
static char *seal(EVP_PKEY *key, const char *password, int n, int r, int p, const char *kdf)
{
	uint8_t salt[32] = {1, 2, 3}, nonce[crypto_secretbox_NONCEBYTES] = {4}, secret[32], box[512];
	unsigned char *der = NULL;
	BIO *bio = BIO_new(BIO_s_mem());

	assert_int_equal(i2d_PKCS8PrivateKey_bio(bio, key, NULL, NULL, 0, NULL, NULL), 1);
	long len = BIO_get_mem_data(bio, (char **)&der);
	assert_int_equal(
		EVP_PBE_scrypt(password, strlen(password), salt, sizeof(salt), 1024, 8, 1, 0, secret, 32), 1);
	assert_int_equal(crypto_secretbox_easy(box, der, (unsigned long long)len, nonce, secret), 0);
	CLEANUP_FREE char *s = world_b64(salt, sizeof(salt)), *o = world_b64(nonce, sizeof(nonce));
	CLEANUP_FREE char *c = world_b64(box, (size_t)len + crypto_secretbox_MACBYTES);
	CLEANUP_FREE char *json = str_printf(
		"{\"kdf\":{\"name\":\"%s\",\"params\":{\"N\":%d,\"r\":%d,\"p\":%d},\"salt\":\"%s\"},"
		"\"cipher\":{\"name\":\"nacl/secretbox\",\"nonce\":\"%s\"},\"ciphertext\":\"%s\"}",
		kdf, n, r, p, s, o, c);
	CLEANUP_FREE char *body = world_b64(json, strlen(json));
	BIO_free(bio);
	return str_printf("-----BEGIN ENCRYPTED COSIGN PRIVATE KEY-----\n%s\n-----END ENCRYPTED COSIGN "
			  "PRIVATE KEY-----\n",
		body);
}

static void test_cosign_key_form(void **state)
{
	static const struct {
		int n, r, p;
		const char *kdf;
	} bad[] = {{1000, 8, 1, "scrypt"}, {0, 8, 1, "scrypt"}, {1024, 0, 1, "scrypt"},
		{1024, 8, 0, "scrypt"}, {1 << 30, 8, 1, "scrypt"}, {1 << 18, 8, 1, "scrypt"},
		{1024, 8, 1 << 20, "scrypt"}, {1024, 1 << 20, 1, "scrypt"}, {1024, 8, 1, "argon2"}};
	EVP_PKEY *key = world_key("P-256");
	struct sign_private *p = NULL;
	struct err e = {0};
	CLEANUP_FREE char *good = seal(key, "secret", 1024, 8, 1, "scrypt");

	assert_int_equal(sodium_get(&e) != NULL, 1);
	if (sign_private_parse(good, strlen(good), "secret", &p, &e) < 0)
		fail_msg("%s", e.msg);
	round_trip(p, key);
	sign_private_free(p);
	assert_int_equal(sign_private_parse(good, strlen(good), "Secret", &p, &e), -EACCES);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		CLEANUP_FREE char *pem = seal(key, "secret", bad[i].n, bad[i].r, bad[i].p, bad[i].kdf);
		if (sign_private_parse(pem, strlen(pem), "secret", &p, &e) != -EINVAL)
			fail_msg("case %zu", i);
	}
	EVP_PKEY_free(key);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_public_keys),
		cmocka_unit_test(test_public_key_form),
		cmocka_unit_test(test_paddings),
		cmocka_unit_test(test_base64),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_integers),
		cmocka_unit_test(test_root_refused),
		cmocka_unit_test(test_signing),
		cmocka_unit_test(test_private_refused),
		cmocka_unit_test(test_cosign_key),
		cmocka_unit_test(test_cosign_key_form),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
