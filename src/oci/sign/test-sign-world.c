/* SPDX-License-Identifier: MIT */
#include "sign/test-sign-world.h"

#include <inttypes.h>
#include <openssl/ec.h>
#include <string.h>

#include "base/b64.h"
#include "base/buf.h"
#include "base/io.h"

#define must(x) \
	do { \
		if (!(x)) { \
			fprintf(stderr, "%s:%d: %s\n", __func__, __LINE__, #x); \
			abort(); \
		} \
	} while (0)

/* ---- keys ---- */

EVP_PKEY *world_key(const char *kind)
{
	EVP_PKEY *k = NULL;

	if (strcmp(kind, "ED25519") == 0)
		k = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	else if (strncmp(kind, "RSA", 3) == 0)
		k = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", kind[3] ? (size_t)1024 : (size_t)2048);
	else
		k = EVP_PKEY_Q_keygen(NULL, NULL, "EC", kind);
	must(k);
	return k;
}

static char *take_bio(BIO *bio)
{
	char *data, *text;
	long n = BIO_get_mem_data(bio, &data);

	text = strndup(data, (size_t)n);
	BIO_free(bio);
	return text;
}

char *world_pem(EVP_PKEY *key)
{
	BIO *bio = BIO_new(BIO_s_mem());

	must(PEM_write_bio_PUBKEY(bio, key));
	return take_bio(bio);
}

char *world_cert_pem(const X509 *x)
{
	BIO *bio = BIO_new(BIO_s_mem());

	must(PEM_write_bio_X509(bio, (X509 *)x));
	return take_bio(bio);
}

size_t world_sign(EVP_PKEY *key, int padding, const void *data, size_t n, uint8_t sig[1024])
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_PKEY_CTX *pctx;
	size_t len = 1024;

	must(EVP_DigestSignInit(ctx, &pctx, EVP_PKEY_is_a(key, "ED25519") ? NULL : EVP_sha256(), NULL, key) ==
		1);
	if (padding)
		must(EVP_PKEY_CTX_set_rsa_padding(pctx, padding) > 0);
	must(EVP_DigestSign(ctx, sig, &len, data, n) == 1);
	EVP_MD_CTX_free(ctx);
	return len;
}

char *world_b64(const void *data, size_t n)
{
	char *text = malloc(B64_SIZE(n));

	b64_encode(text, data, n);
	return text;
}

static char *signed_b64(EVP_PKEY *key, const void *data, size_t n)
{
	uint8_t sig[1024];

	return world_b64(sig, world_sign(key, 0, data, n, sig));
}

static void key_id(EVP_PKEY *key, uint8_t id[32])
{
	unsigned char *der = NULL;
	int n = i2d_PUBKEY(key, &der);

	must(n > 0 && EVP_Digest(der, (size_t)n, id, NULL, EVP_sha256(), NULL));
	OPENSSL_free(der);
}

static char *spki_b64(EVP_PKEY *key)
{
	unsigned char *der = NULL;
	int n = i2d_PUBKEY(key, &der);
	char *text = world_b64(der, (size_t)n);

	OPENSSL_free(der);
	return text;
}

static char *cert_b64(const X509 *x)
{
	unsigned char *der = NULL;
	int n = i2d_X509(x, &der);
	char *text = world_b64(der, (size_t)n);

	OPENSSL_free(der);
	return text;
}

/* ---- certificates ---- */

static void add_ext(X509 *x, const char *oid, bool critical, const void *data, size_t n)
{
	ASN1_OBJECT *obj = OBJ_txt2obj(oid, 0);
	ASN1_OCTET_STRING *s = ASN1_OCTET_STRING_new();

	must(obj && ASN1_OCTET_STRING_set(s, data, (int)n));
	X509_EXTENSION *ext = X509_EXTENSION_create_by_OBJ(NULL, obj, critical, s);
	must(ext && X509_add_ext(x, ext, -1));
	X509_EXTENSION_free(ext);
	ASN1_OCTET_STRING_free(s);
	ASN1_OBJECT_free(obj);
}

static void add_conf(X509 *x, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;

	X509V3_set_ctx(&ctx, issuer ? issuer : x, x, NULL, NULL, 0);
	X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	must(ext && X509_add_ext(x, ext, -1));
	X509_EXTENSION_free(ext);
}

static X509 *new_cert(const char *subject, X509 *issuer, EVP_PKEY *key, int64_t start, int64_t end)
{
	static long serial = 100;
	X509 *x = X509_new();
	X509_NAME *name = X509_get_subject_name(x);

	must(X509_set_version(x, 2) && ASN1_INTEGER_set(X509_get_serialNumber(x), ++serial));
	if (subject)
		must(X509_NAME_add_entry_by_txt(
			name, "CN", MBSTRING_UTF8, (const uint8_t *)subject, -1, -1, 0));
	must(X509_set_issuer_name(x, issuer ? X509_get_subject_name(issuer) : name));
	must(ASN1_TIME_set(X509_getm_notBefore(x), (time_t)start) &&
		ASN1_TIME_set(X509_getm_notAfter(x), (time_t)end));
	must(X509_set_pubkey(x, key));
	return x;
}

static X509 *authority(const char *subject, X509 *issuer, EVP_PKEY *key, EVP_PKEY *issuer_key)
{
	X509 *x = new_cert(subject, issuer, key, WORLD_NOW - 1000000, WORLD_NOW + 100000000);

	add_conf(x, issuer, NID_basic_constraints, "critical,CA:TRUE");
	add_conf(x, issuer, NID_key_usage, "critical,keyCertSign,cRLSign");
	add_conf(x, issuer, NID_subject_key_identifier, "hash");
	if (issuer)
		add_conf(x, issuer, NID_ext_key_usage, "codeSigning");
	must(X509_sign(x, issuer_key, EVP_sha256()));
	return x;
}

static X509 *tsa_cert(const struct world *w, const char *subject, EVP_PKEY *key)
{
	X509 *x = new_cert(subject, w->root, key, WORLD_NOW - 1000000, WORLD_NOW + 100000000);

	add_conf(x, w->root, NID_key_usage, "critical,digitalSignature");
	add_conf(x, w->root, NID_ext_key_usage, "critical,timeStamping");
	must(X509_sign(x, w->root_key, EVP_sha256()));
	return x;
}

static void put(struct buf *b, const void *data, size_t n)
{
	must(buf_append(b, data, n) == 0);
}

static void put_be(struct buf *b, uint64_t v, int bytes)
{
	for (int i = bytes - 1; i >= 0; i--)
		put(b, &(uint8_t){(uint8_t)(v >> 8 * i)}, 1);
}

/* RFC 6962: the timestamp goes into the very certificate that it is about. */
static void add_sct(X509 *x, const struct world *w, EVP_PKEY *ca_key, uint64_t how)
{
	EVP_PKEY *log = how & W_OTHER_SCT ? w->other_key : w->ct_key;
	CLEANUP(buf_done) struct buf data = {0}, sct = {0}, list = {0};
	uint8_t id[32], issuer[32], sig[1024];
	unsigned char *tbs = NULL;
	uint64_t ms = (uint64_t)WORLD_NOW * 1000;

	key_id(log, id);
	key_id(ca_key, issuer);
	/* The algorithm is part of what is signed, and only known once the certificate is. */
	must(X509_sign(x, ca_key, EVP_sha256()));
	int n = i2d_re_X509_tbs(x, &tbs);
	put_be(&data, 0, 2);
	put_be(&data, ms, 8);
	put_be(&data, 1, 2);
	put(&data, issuer, sizeof(issuer));
	put_be(&data, (uint64_t)n, 3);
	put(&data, tbs, (size_t)n);
	put_be(&data, how & W_BAD_SCT ? 1 : 0, 2);
	OPENSSL_free(tbs);
	size_t len = world_sign(log, 0, buf_data(&data), data.len, sig);
	put_be(&sct, 0, 1);
	put(&sct, id, sizeof(id));
	put_be(&sct, ms, 8);
	put_be(&sct, 0, 2);
	put_be(&sct, 0x0403, 2);
	put_be(&sct, len, 2);
	put(&sct, sig, len);
	must(sct.len < 125); /* one byte of length */
	put_be(&list, 0x0400 | (sct.len + 4), 2);
	put_be(&list, sct.len + 2, 2);
	put_be(&list, sct.len, 2);
	put(&list, buf_data(&sct), sct.len);
	add_ext(x, "1.3.6.1.4.1.11129.2.4.2", false, buf_data(&list), list.len);
}

static X509 *leaf(const struct world *w, EVP_PKEY *key, uint64_t how)
{
	X509 *ca = how & W_SELF_MADE ? w->fake_ca : w->ca;
	EVP_PKEY *ca_key = how & W_SELF_MADE ? w->fake_key : w->ca_key;
	X509 *x = new_cert(NULL, ca, key, WORLD_NOW - 60, WORLD_NOW - 60 + WORLD_LEAF_SPAN);
	const char *issuer = WORLD_ISSUER;
	char names[512];

	if (how & W_CA_LEAF)
		add_conf(x, ca, NID_basic_constraints, "critical,CA:TRUE");
	add_conf(x, ca, NID_key_usage,
		how & W_NO_SIGNING ? "critical,keyEncipherment" : "critical,digitalSignature");
	if (!(how & W_NO_EKU))
		add_conf(x, ca, NID_ext_key_usage, how & W_OTHER_EKU ? "serverAuth" : "codeSigning");
	if (!(how & W_NO_NAME)) {
		snprintf(names, sizeof(names), "critical,%s%s%s",
			how & W_OTHER_NAME ? "otherName:1.3.6.1.4.1.57264.1.7;UTF8:" WORLD_OTHER_NAME
					   : "email:" WORLD_IDENTITY,
			how & W_URI ? ",URI:" WORLD_URI : "", "");
		add_conf(x, ca, NID_subject_alt_name, names);
	}
	if (!(how & W_NO_ISSUER)) {
		add_ext(x, "1.3.6.1.4.1.57264.1.1", false, issuer, strlen(issuer));
		if (!(how & W_OLD_ISSUER)) {
			char der[64] = {0x0c, (char)strlen(issuer)};
			memcpy(der + 2, issuer, strlen(issuer));
			if (how & W_ISSUERS_DIFFER)
				der[2] = 'H';
			add_ext(x, "1.3.6.1.4.1.57264.1.8", false, der, 2 + strlen(issuer));
			if (how & W_ISSUER_TWICE)
				add_ext(x, "1.3.6.1.4.1.57264.1.8", false, der, 2 + strlen(issuer));
		}
	}
	if (!(how & W_NO_SCT))
		add_sct(x, w, ca_key, how);
	must(X509_sign(x, ca_key, EVP_sha256()));
	return x;
}

/* ---- the root ---- */

static char *log_json(EVP_PKEY *key, const char *end)
{
	uint8_t id[32];
	CLEANUP_FREE char *spki = spki_b64(key), *id64 = NULL;

	key_id(key, id);
	id64 = world_b64(id, sizeof(id));
	return str_printf("{\"baseUrl\":\"https://"
			  "log.example\",\"hashAlgorithm\":\"SHA2_256\",\"publicKey\":{\"rawBytes\":"
			  "\"%s\",\"keyDetails\":\"PKIX_ECDSA_P256_SHA_256\",\"validFor\":{\"start\":"
			  "\"2020-01-01T00:00:00.000Z\"%s%s%s}},\"logId\":{\"keyId\":\"%s\"}}",
		spki, end ? ",\"end\":\"" : "", end ? end : "", end ? "\"" : "", id64);
}

static char *authority_json(const X509 *lower, const X509 *root, const char *end)
{
	CLEANUP_FREE char *a = cert_b64(lower), *b = cert_b64(root);

	return str_printf(
		"{\"uri\":\"https://ca.example\",\"certChain\":{\"certificates\":[{\"rawBytes\":\"%s\"},"
		"{\"rawBytes\":\"%s\"}]},\"validFor\":{\"start\":\"2020-01-01T00:00:00Z\"%s%s%s}}",
		a, b, end ? ",\"end\":\"" : "", end ? end : "", end ? "\"" : "");
}

char *world_root(const struct world *w, bool tsa, const char *log_end, const char *ct_end, const char *ca_end,
	const char *tsa_end)
{
	CLEANUP_FREE char *log = log_json(w->log_key, log_end), *ct = log_json(w->ct_key, ct_end);
	CLEANUP_FREE char *ca = authority_json(w->ca, w->root, ca_end),
			  *ts = authority_json(w->tsa, w->root, tsa_end);

	return str_printf(
		"{\"mediaType\":\"application/vnd.dev.sigstore.trustedroot+json;version=0.1\",\"tlogs\":[%s],"
		"\"certificateAuthorities\":[%s],\"ctlogs\":[%s],\"timestampAuthorities\":[%s]}",
		log, ca, ct, tsa ? ts : "");
}

void world_init(struct world *w)
{
	EVP_PKEY **keys[] = {&w->root_key, &w->ca_key, &w->log_key, &w->ct_key, &w->tsa_key, &w->leaf_key,
		&w->other_key, &w->fake_key};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		*keys[i] = world_key("P-256");
	w->root = authority("root", NULL, w->root_key, w->root_key);
	w->ca = authority("intermediate", w->root, w->ca_key, w->root_key);
	w->tsa = tsa_cert(w, "timestamps", w->tsa_key);
	w->fake_root = authority("root", NULL, w->other_key, w->other_key);
	w->fake_ca = authority("intermediate", w->fake_root, w->fake_key, w->other_key);
	w->json = world_root(w, true, NULL, NULL, NULL, NULL);
}

void world_done(struct world *w)
{
	EVP_PKEY *keys[] = {w->root_key, w->ca_key, w->log_key, w->ct_key, w->tsa_key, w->leaf_key,
		w->other_key, w->fake_key};
	X509 *certs[] = {w->root, w->ca, w->tsa, w->fake_root, w->fake_ca};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		EVP_PKEY_free(keys[i]);
	for (size_t i = 0; i < ARRAY_LEN(certs); i++)
		X509_free(certs[i]);
	free(w->json);
}

/* ---- the log's entries ---- */

static void sha256_hex(const void *data, size_t n, char hex[65])
{
	uint8_t hash[32];

	must(EVP_Digest(data, n, hash, NULL, EVP_sha256(), NULL));
	hex_encode(hex, hash, sizeof(hash));
}

static char *sha256_b64(const void *data, size_t n)
{
	uint8_t hash[32];

	must(EVP_Digest(data, n, hash, NULL, EVP_sha256(), NULL));
	return world_b64(hash, sizeof(hash));
}

struct signature {
	const void *message; /* what was signed; NULL: hash is of it */
	size_t message_n;
	const void *payload; /* of an envelope */
	size_t payload_n;
	const char *hash_hex; /* of a bare signature */
	char *sig;	      /* base64 */
	char *verifier;	      /* PEM */
	char *verifier_der;   /* base64 */
	bool is_cert;
};

static char *body_json(const struct signature *s, uint64_t how)
{
	char hex[65], payload_hex[65];
	const char *member = s->is_cert ? "x509Certificate" : "publicKey";
	CLEANUP_FREE char *verifier = world_b64(s->verifier, strlen(s->verifier));
	CLEANUP_FREE char *hash64 = NULL, *payload64 = sha256_b64(s->payload, s->payload_n);
	CLEANUP_FREE char *sig64 = world_b64(s->sig, strlen(s->sig));

	sha256_hex(s->message, s->message_n, hex);
	sha256_hex(s->payload, s->payload_n, payload_hex);
	if (s->hash_hex)
		memcpy(hex, s->hash_hex, sizeof(hex));
	uint8_t raw[32];
	must(hex_decode(raw, hex, 32) == 0);
	if (how & W_OTHER_CONTENT) {
		hex[0] = payload_hex[0] = hex[0] == '0' ? '1' : '0';
		raw[0] ^= 1;
		payload64[0] = payload64[0] == 'A' ? 'B' : 'A';
	}
	hash64 = world_b64(raw, sizeof(raw));
	if (how & W_HASHEDREKORD_2)
		return str_printf(
			"{\"apiVersion\":\"0.0.2\",\"kind\":\"hashedrekord\",\"spec\":{\"hashedRekordV002\":{"
			"\"data\":"
			"{\"algorithm\":\"SHA2_256\",\"digest\":\"%s\"},\"signature\":{\"content\":\"%s\","
			"\"verifier\":{\"keyDetails\":\"PKIX_ECDSA_P256_SHA_256\",\"%s\":{\"rawBytes\":\"%"
			"s\"}}}}}}",
			hash64, s->sig, member, s->verifier_der);
	if (how & W_DSSE_2)
		return str_printf(
			"{\"apiVersion\":\"0.0.2\",\"kind\":\"dsse\",\"spec\":{\"dsseV002\":{\"payloadHash\":"
			"{\"algorithm\":\"SHA2_256\",\"digest\":\"%s\"},\"signatures\":[{\"content\":\"%s\","
			"\"verifier\":{\"%s\":{\"rawBytes\":\"%s\"}}}]}}}",
			payload64, s->sig, member, s->verifier_der);
	if (how & (W_INTOTO_1 | W_INTOTO_2))
		return str_printf(
			"{\"apiVersion\":\"0.0.%d\",\"kind\":\"intoto\",\"spec\":{\"content\":{\"envelope\":{"
			"\"payloadType\":\"application/"
			"vnd.in-toto+json\",\"signatures\":[{\"publicKey\":\"%s\","
			"\"sig\":\"%s\"}]},\"payloadHash\":{\"algorithm\":\"sha256\",\"value\":\"%s\"}}}}",
			how & W_INTOTO_1 ? 1 : 2, verifier, sig64, payload_hex);
	if (s->payload && !(how & W_HASHEDREKORD_1))
		return str_printf("{\"apiVersion\":\"0.0.1\",\"kind\":\"dsse\",\"spec\":{\"envelopeHash\":{"
				  "\"algorithm\":"
				  "\"sha256\",\"value\":\"%s\"},\"payloadHash\":{\"algorithm\":\"sha256\","
				  "\"value\":\"%s\"},"
				  "\"signatures\":[{\"signature\":\"%s\",\"verifier\":\"%s\"}]}}",
			hex, payload_hex, s->sig, verifier);
	return str_printf(
		"{\"apiVersion\":\"0.0.1\",\"kind\":\"hashedrekord\",\"spec\":{\"data\":{\"hash\":{"
		"\"algorithm\":"
		"\"sha256\",\"value\":\"%s\"}},\"signature\":{\"content\":\"%s\",\"publicKey\":{\"content\":"
		"\"%s\"}}}}",
		hex, s->sig, verifier);
}

/* The entry that goes to the log: of this signature, or of one that differs in one thing. */
static char *log_body(const struct world *w, const struct signature *s, uint64_t how)
{
	struct signature other = *s;
	CLEANUP_FREE char *pem = world_pem(w->other_key), *spki = spki_b64(w->other_key);
	CLEANUP_FREE char *sig = signed_b64(w->leaf_key, "else", 4);

	if (how & W_OTHER_SIGNATURE)
		other.sig = sig;
	if (how & W_OTHER_SIGNER) {
		other.verifier = pem;
		other.verifier_der = spki;
		other.is_cert = false;
	}
	return body_json(&other, how);
}

static int64_t log_time(uint64_t how)
{
	return WORLD_NOW + (how & W_EXPIRED ? 3600 : how & W_EARLY ? -3600 : 0);
}

/* Signed entry timestamp, base64. */
static char *promise(const struct world *w, const char *body64, uint64_t how)
{
	uint8_t id[32];
	char hex[65];

	key_id(w->log_key, id);
	hex_encode(hex, id, sizeof(id));
	CLEANUP_FREE char *text = str_printf("{\"body\":\"%s\",\"integratedTime\":%" PRId64
					     ",\"logID\":\"%s\",\"logIndex\":%d}",
		body64, log_time(how) + (how & W_BAD_PROMISE ? 1 : 0), hex, 1005);
	return signed_b64(w->log_key, text, strlen(text));
}

static void leaf_hash(const void *data, size_t n, uint8_t ret[32])
{
	CLEANUP(buf_done) struct buf b = {0};

	put_be(&b, 0, 1);
	put(&b, data, n);
	must(EVP_Digest(buf_data(&b), b.len, ret, NULL, EVP_sha256(), NULL));
}

static void pair_hash(const uint8_t l[32], const uint8_t r[32], uint8_t ret[32])
{
	uint8_t b[65] = {1};

	memcpy(b + 1, l, 32);
	memcpy(b + 33, r, 32);
	must(EVP_Digest(b, sizeof(b), ret, NULL, EVP_sha256(), NULL));
}

/* A tree of six: ((0 1) (2 3)) (4 5); the entry is number 4, so that both directions and a short side occur. */
static char *proof_json(const struct world *w, const char *body, uint64_t how)
{
	uint8_t h[6][32], p01[32], p23[32], left[32], right[32], root[32], id[32];

	for (int i = 0; i < 6; i++)
		leaf_hash(&i, sizeof(i), h[i]);
	leaf_hash(body, strlen(body), h[4]);
	pair_hash(h[0], h[1], p01);
	pair_hash(h[2], h[3], p23);
	pair_hash(p01, p23, left);
	pair_hash(h[4], h[5], right);
	pair_hash(left, right, root);
	if (how & W_BAD_PROOF)
		h[5][0] ^= 1;
	CLEANUP_FREE char *h5 = world_b64(h[5], 32), *l = world_b64(left, 32), *r = world_b64(root, 32);
	CLEANUP_FREE char *text = str_printf("log.example - 1\n%d\n%s\n", how & W_BAD_CHECKPOINT ? 7 : 6, r);
	struct {
		uint8_t hint[4], sig[1024];
	} line;
	key_id(w->log_key, id);
	memcpy(line.hint, id, 4);
	size_t n = world_sign(w->log_key, 0, text, strlen(text), line.sig);
	CLEANUP_FREE char *note = world_b64(&line, n + 4);
	CLEANUP_FREE char *lines =
		str_printf("log.example - 1\\n%d\\n%s\\n", how & W_BAD_CHECKPOINT ? 7 : 6, r);
	CLEANUP_FREE char *checkpoint = str_printf(
		",\"checkpoint\":{\"envelope\":\"%s\\n\xe2\x80\x94 log.example %s\\n\"}", lines, note);
	return str_printf(
		"{\"logIndex\":\"4\",\"rootHash\":\"%s\",\"treeSize\":\"6\",\"hashes\":[\"%s\",\"%s\"]%s}", r,
		h5, l, how & W_NO_CHECKPOINT ? "" : checkpoint);
}

/* ---- timestamps ---- */

static ASN1_INTEGER *serial(struct TS_resp_ctx *ctx, void *data)
{
	ASN1_INTEGER *i = ASN1_INTEGER_new();

	ASN1_INTEGER_set(i, 7);
	return i;
}

static int stamp_time(struct TS_resp_ctx *ctx, void *data, long *sec, long *usec)
{
	*sec = *(long *)data;
	*usec = 0;
	return 1;
}

/* A request for this signature, answered by the authority. Base64. */
static char *timestamp(const struct world *w, const char *sig64, uint64_t how)
{
	uint8_t raw[1024], hash[32];
	long at = WORLD_NOW + (how & W_LATE_TIMESTAMP ? 3600 : 1);
	ssize_t n = b64_decode(raw, sig64, strlen(sig64));

	must(n > 0);
	if (how & W_BAD_TIMESTAMP)
		raw[0] ^= 1;
	must(EVP_Digest(raw, (size_t)n, hash, NULL, EVP_sha256(), NULL));
	TS_REQ *req = TS_REQ_new();
	TS_MSG_IMPRINT *imprint = TS_MSG_IMPRINT_new();
	X509_ALGOR *algorithm = X509_ALGOR_new();
	must(X509_ALGOR_set0(algorithm, OBJ_nid2obj(NID_sha256), V_ASN1_NULL, NULL) &&
		TS_MSG_IMPRINT_set_algo(imprint, algorithm) && TS_MSG_IMPRINT_set_msg(imprint, hash, 32) &&
		TS_REQ_set_version(req, 1) && TS_REQ_set_msg_imprint(req, imprint) &&
		TS_REQ_set_cert_req(req, 1));
	BIO *in = BIO_new(BIO_s_mem());
	must(i2d_TS_REQ_bio(in, req));
	TS_RESP_CTX *ctx = TS_RESP_CTX_new();
	ASN1_OBJECT *policy = OBJ_txt2obj("1.2.3.4", 1);
	bool other = how & (W_OTHER_TSA | W_SIBLING_TSA);
	X509 *cert = how & W_SIBLING_TSA ? tsa_cert(w, "more timestamps", w->other_key) : X509_dup(w->tsa);
	if (how & W_OTHER_TSA) {
		must(X509_set_pubkey(cert, w->other_key));
		must(X509_sign(cert, w->other_key, EVP_sha256()));
	}
	must(TS_RESP_CTX_set_signer_cert(ctx, cert));
	must(TS_RESP_CTX_set_signer_key(ctx, other ? w->other_key : w->tsa_key) &&
		TS_RESP_CTX_set_def_policy(ctx, policy) && TS_RESP_CTX_add_md(ctx, EVP_sha256()) &&
		TS_RESP_CTX_set_signer_digest(ctx, EVP_sha256()));
	TS_RESP_CTX_set_serial_cb(ctx, serial, NULL);
	TS_RESP_CTX_set_time_cb(ctx, stamp_time, &at);
	TS_RESP *resp = TS_RESP_create_response(ctx, in);
	unsigned char *der = NULL;
	int len = i2d_TS_RESP(resp, &der);
	must(len > 0);
	char *text = world_b64(der, (size_t)len);
	OPENSSL_free(der);
	TS_RESP_free(resp);
	TS_RESP_CTX_free(ctx);
	X509_free(cert);
	ASN1_OBJECT_free(policy);
	BIO_free(in);
	X509_ALGOR_free(algorithm);
	TS_MSG_IMPRINT_free(imprint);
	TS_REQ_free(req);
	return text;
}

/* ---- candidates ---- */

static X509 *make_verifier(const struct world *w, EVP_PKEY *key, uint64_t how, struct signature *s)
{
	X509 *x = key ? NULL : leaf(w, w->leaf_key, how);

	s->is_cert = x;
	s->verifier = x ? world_cert_pem(x) : world_pem(key);
	s->verifier_der = x ? cert_b64(x) : spki_b64(key);
	return x;
}

static void signature_done(struct signature *s)
{
	free(s->sig);
	free(s->verifier);
	free(s->verifier_der);
}

struct sign_candidate world_simple(const struct world *w, EVP_PKEY *key, uint64_t how)
{
	struct sign_candidate c = {0};
	struct signature s = {0};
	char *payload = str_printf(
		"{\"critical\":{\"identity\":{\"docker-reference\":\"%s%s\"},\"image\":{"
		"\"docker-manifest-digest\":\"%s\"},\"type\":\"cosign container image signature\"},"
		"\"optional\":null}",
		WORLD_REPOSITORY, how & W_TAGGED ? ":v1" : "", WORLD_DIGEST);
	X509 *x = make_verifier(w, key, how, &s);

	c.payload = payload;
	c.payload_len = s.message_n = strlen(payload);
	s.message = payload;
	s.sig = signed_b64(key ? key : w->leaf_key, payload, strlen(payload));
	c.signature = strdup(s.sig);
	if (x) {
		CLEANUP_FREE char *a = world_cert_pem(how & W_SELF_MADE ? w->fake_ca : w->ca);
		CLEANUP_FREE char *b = world_cert_pem(how & W_SELF_MADE ? w->fake_root : w->root);
		c.certificate = strdup(s.verifier);
		c.chain = how & W_NO_CHAIN ? NULL : str_printf("%s%s", a, b);
	}
	if ((x || (how & W_LOGGED)) && !(how & W_NO_LOG)) {
		uint8_t id[32];
		char hex[65];
		CLEANUP_FREE char *body = log_body(w, &s, how), *body64 = world_b64(body, strlen(body));
		CLEANUP_FREE char *set = promise(w, body64, how);
		key_id(w->log_key, id);
		hex_encode(hex, id, sizeof(id));
		c.log_entry =
			str_printf("{\"SignedEntryTimestamp\":\"%s\",\"Payload\":{\"body\":\"%s\","
				   "\"integratedTime\":%" PRId64 ",\"logIndex\":1005,\"logID\":\"%s\"}}",
				set, body64, log_time(how), hex);
	}
	X509_free(x);
	signature_done(&s);
	return c;
}

static char *entry_json(const struct world *w, const struct signature *s, uint64_t how)
{
	uint8_t id[32];
	CLEANUP_FREE char *body = log_body(w, s, how), *body64 = world_b64(body, strlen(body));
	CLEANUP_FREE char *set = promise(w, body64, how), *proof = proof_json(w, body, how), *id64 = NULL;
	CLEANUP_FREE char *promised = str_printf(",\"integratedTime\":\"%" PRId64
						 "\",\"inclusionPromise\":{\"signedEntryTimestamp\":\"%s\"}",
		log_time(how), set);
	CLEANUP_FREE char *proved = str_printf(",\"inclusionProof\":%s", proof);
	const char *kind = strstr(body, "\"kind\":\"") + 8, *version = strstr(body, "\"apiVersion\":\"") + 14;

	key_id(w->log_key, id);
	id64 = world_b64(id, sizeof(id));
	return str_printf("{\"logIndex\":\"1005\",\"logId\":{\"keyId\":\"%s\"},\"kindVersion\":{\"kind\":\"%."
			  "*s\",\"version\":"
			  "\"%.*s\"}%s%s,\"canonicalizedBody\":\"%s\"}",
		id64, (int)strcspn(kind, "\""), kind, (int)strcspn(version, "\""), version,
		!(how & W_NO_PROMISE) ? promised
		: how & W_NULLS	      ? ",\"integratedTime\":null,\"inclusionPromise\":null"
				      : "",
		how & W_NO_PROOF ? "" : proved, body64);
}

static char *material_json(const struct world *w, const struct signature *s, uint64_t how)
{
	CLEANUP_FREE char *entry = how & W_NO_LOG ? NULL : entry_json(w, s, how);
	CLEANUP_FREE char *entries = entry ? str_printf(",\"tlogEntries\":[%s]", entry) : strdup("");
	CLEANUP_FREE char *stamp = how & W_TIMESTAMP ? timestamp(w, s->sig, how) : NULL;
	CLEANUP_FREE char *stamps =
		stamp ? str_printf(",\"timestampVerificationData\":{\"rfc3161Timestamps\":[{"
				   "\"signedTimestamp\":\"%s\"}]}",
				stamp)
		      : strdup("");
	CLEANUP_FREE char *ca = cert_b64(w->ca), *who = NULL;

	if (!s->is_cert)
		who = str_printf("\"publicKey\":{\"hint\":%s}%s", how & W_NULLS ? "null" : "\"\"",
			how & W_NULLS ? ",\"certificate\":null,\"x509CertificateChain\":null" : "");
	else if (how & W_V1)
		who = str_printf("\"x509CertificateChain\":{\"certificates\":[{\"rawBytes\":\"%s\"},{"
				 "\"rawBytes\":\"%s\"}]}",
			s->verifier_der, ca);
	else
		who = str_printf("\"certificate\":{\"rawBytes\":\"%s\"}%s", s->verifier_der,
			how & W_NULLS ? ",\"publicKey\":null" : "");
	if (how & W_NULLS && !*entries) {
		free(entries);
		entries = strdup(",\"tlogEntries\":null");
	}
	if (how & W_NULLS && !*stamps) {
		free(stamps);
		stamps = strdup(",\"timestampVerificationData\":null");
	}
	return str_printf("{%s%s%s}", who, entries, stamps);
}

struct sign_candidate world_bundle(const struct world *w, EVP_PKEY *key, uint64_t how)
{
	static const char type[] = "application/vnd.in-toto+json";
	struct sign_candidate c = {.is_bundle = true};
	struct signature s = {0};
	EVP_PKEY *signer = key ? key : w->leaf_key;
	CLEANUP_FREE char *statement = str_printf("{\"_type\":\"https://in-toto.io/Statement/"
						  "v1\",\"subject\":[{\"digest\":{\"sha256\":\"%s\"}}],"
						  "\"predicateType\":\"%s\",\"predicate\":{}}",
		&WORLD_DIGEST[7],
		how & W_PREDICATE ? "https://slsa.dev/provenance/v1" : "https://sigstore.dev/cosign/sign/v1");
	CLEANUP_FREE char *pae =
		str_printf("DSSEv1 %zu %s %zu %s", strlen(type), type, strlen(statement), statement);
	X509 *x = make_verifier(w, key, how, &s);
	char *content;

	if (how & W_MESSAGE) {
		uint8_t hash[32], sig[1024];
		size_t n = sizeof(sig);
		must(hex_decode(hash, &WORLD_DIGEST[7], 32) == 0);
		EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(signer, NULL);
		must(EVP_PKEY_sign_init(ctx) == 1 && EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()) > 0 &&
			EVP_PKEY_sign(ctx, sig, &n, hash, sizeof(hash)) == 1);
		EVP_PKEY_CTX_free(ctx);
		s.sig = world_b64(sig, n);
		s.hash_hex = &WORLD_DIGEST[7];
		CLEANUP_FREE char *hash64 = world_b64(hash, sizeof(hash));
		content = str_printf("\"messageSignature\":{\"messageDigest\":{\"algorithm\":\"SHA2_256\","
				     "\"digest\":\"%s\"},"
				     "\"signature\":\"%s\"}",
			hash64, s.sig);
	} else {
		s.message = pae;
		s.message_n = strlen(pae);
		s.payload = statement;
		s.payload_n = strlen(statement);
		s.sig = signed_b64(signer, pae, strlen(pae));
		CLEANUP_FREE char *payload64 = world_b64(statement, strlen(statement));
		content = str_printf("\"dsseEnvelope\":{\"payload\":\"%s\",\"payloadType\":\"%s\","
				     "\"signatures\":[{\"sig\":"
				     "\"%s\"}]}",
			payload64, type, s.sig);
	}
	CLEANUP_FREE char *material = material_json(w, &s, how);
	c.payload = str_printf(
		"{\"mediaType\":\"application/vnd.dev.sigstore.bundle%s\",\"verificationMaterial\":%s,%s%s}",
		how & W_V1 ? "+json;version=0.1" : ".v0.3+json", material, content,
		!(how & W_NULLS)  ? ""
		: how & W_MESSAGE ? ",\"dsseEnvelope\":null"
				  : ",\"messageSignature\":null");
	c.payload_len = strlen(c.payload);
	free(content);
	X509_free(x);
	signature_done(&s);
	return c;
}

void world_free(struct sign_candidate *c)
{
	free((char *)c->payload);
	free((char *)c->signature);
	free((char *)c->certificate);
	free((char *)c->chain);
	free((char *)c->log_entry);
	*c = (struct sign_candidate){0};
}
