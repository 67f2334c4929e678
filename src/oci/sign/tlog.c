/* SPDX-License-Identifier: MIT */
/*
 * The transparency log (Rekor): its promise to include an entry, and its proof of having done so.
 *
 * A promise (signed entry timestamp) is the log's signature over the canonical JSON (RFC 8785) of body, time, log and
 * index. A proof is a Merkle path from the entry to a root hash, which a checkpoint vouches for: a signed note
 * (C2SP signed-note.md, tlog-checkpoint.md),
 *
 *     ORIGIN \n SIZE \n ROOT_HASH \n [more lines \n] \n — NAME BASE64(HINT:4 SIGNATURE) \n …
 */
#include <inttypes.h>
#include <string.h>

#include "base/b64.h"
#include "base/io.h"
#include "sign/evidence.h"

#define SIGNATURE_LINE "\xe2\x80\x94 " /* an em dash */
#define NOTE_LINES_MAX 64

static int refuse(struct err *e, const char *why)
{
	return err_set(e, -EKEYREJECTED, "the transparency log's %s", why);
}

/* ---- proof ---- */

static bool hash_pair(
	const struct signlib *l, const uint8_t *left, const uint8_t *right, uint8_t ret[SHA256_LEN])
{
	uint8_t node[1 + 2 * SHA256_LEN] = {1};

	memcpy(node + 1, left, SHA256_LEN);
	memcpy(node + 1 + SHA256_LEN, right, SHA256_LEN);
	return l->EVP_Digest(node, sizeof(node), ret, NULL, l->EVP_sha256(), NULL);
}

bool tlog_proof_good(const struct log_entry *t)
{
	const struct signlib *l = signlib_get(NULL);
	uint8_t hash[SHA256_LEN];

	if (!l || t->proof_index < 0 || t->proof_index >= t->tree_size)
		return false;
	uint8_t *leaf = malloc(t->body.n + 1);
	if (!leaf)
		return false;
	leaf[0] = 0;
	memcpy(leaf + 1, t->body.p, t->body.n);
	bool ok = l->EVP_Digest(leaf, t->body.n + 1, hash, NULL, l->EVP_sha256(), NULL);
	free(leaf);
	uint64_t node = (uint64_t)t->proof_index, last = (uint64_t)t->tree_size - 1;
	for (size_t i = 0; ok && i < t->n_hashes; i++) {
		if (last == 0)
			return false;
		if ((node & 1) || node == last) {
			ok = hash_pair(l, t->hashes[i], hash, hash);
			while (!(node & 1) && node) {
				node >>= 1;
				last >>= 1;
			}
		} else {
			ok = hash_pair(l, hash, t->hashes[i], hash);
		}
		node >>= 1;
		last >>= 1;
	}
	return ok && last == 0 && memcmp(hash, t->root_hash, SHA256_LEN) == 0;
}

/* The line at *p without its end, and *p behind it. NULL: there is none that ends. */
static const char *take_line(const char **p, size_t *ret_n)
{
	const char *line = *p, *nl = strchr(line, '\n');

	if (!nl)
		return NULL;
	*ret_n = (size_t)(nl - line);
	*p = nl + 1;
	return line;
}

static bool line_is(const char *line, size_t n, const char *want)
{
	return line && n == strlen(want) && memcmp(line, want, n) == 0;
}

/* A log's notes begin with its name, and perhaps " - " and which of its trees it is. */
static bool name_is_origin(const char *name, size_t n, const char *text)
{
	return n && strncmp(text, name, n) == 0 && (text[n] == '\n' || text[n] == ' ');
}

/* One signature of a note: whether it is this log's. */
static bool signed_by(const char *line, size_t n, const char *text, size_t text_n, const struct sign_log *log)
{
	CLEANUP(bytes_done) struct bytes b = {0};
	size_t k = strlen(SIGNATURE_LINE);
	const char *space =
		n > k && memcmp(line, SIGNATURE_LINE, k) == 0 ? memchr(line + k, ' ', n - k) : NULL;

	if (!space || !name_is_origin(line + k, (size_t)(space - line) - k, text) ||
		b64_bytes(space + 1, (size_t)(line + n - space - 1), &b) < 0 || b.n <= NOTE_HINT_LEN ||
		memcmp(b.p, log->hint, NOTE_HINT_LEN) != 0)
		return false;
	memmove(b.p, b.p + NOTE_HINT_LEN, b.n - NOTE_HINT_LEN);
	b.n -= NOTE_HINT_LEN;
	return key_verify(log->key, text, text_n, &b, NULL) == 0;
}

bool tlog_checkpoint_good(const struct log_entry *t, const struct sign_log *log)
{
	const char *p = t->checkpoint;
	char size[24], root[B64_SIZE(SHA256_LEN)];
	size_t n = 0;
	const char *line = take_line(&p, &n);

	if (!line || n == 0) /* the origin; whose log it is the key says */
		return false;
	snprintf(size, sizeof(size), "%" PRId64, t->tree_size);
	line = take_line(&p, &n);
	if (!line_is(line, n, size))
		return false;
	b64_encode(root, t->root_hash, SHA256_LEN);
	line = take_line(&p, &n);
	if (!line_is(line, n, root))
		return false;
	for (int i = 0; (line = take_line(&p, &n)) && n; i++)
		if (i == NOTE_LINES_MAX)
			return false;
	if (!line)
		return false;
	size_t text_n = (size_t)(line - t->checkpoint);
	bool good = false;
	for (int i = 0; !good && i < NOTE_LINES_MAX && (line = take_line(&p, &n)); i++)
		good = signed_by(line, n, t->checkpoint, text_n, log);
	return good;
}

/* ---- promise ---- */

/* Base64 and hex need no escaping, so that this is canonical JSON. */
static char *promise_text(const struct log_entry *t)
{
	char id[2 * SHA256_LEN + 1];
	CLEANUP_FREE char *body = malloc(B64_SIZE(t->body.n));

	if (!body)
		return NULL;
	b64_encode(body, t->body.p, t->body.n);
	hex_encode(id, t->log_id, SHA256_LEN);
	return str_printf("{\"body\":\"%s\",\"integratedTime\":%" PRId64
			  ",\"logID\":\"%s\",\"logIndex\":%" PRId64 "}",
		body, t->integrated_time, id, t->log_index);
}

static const struct sign_log *log_of(const struct sign_root *root, const struct log_entry *t)
{
	for (size_t i = 0; i < root->n_tlogs; i++)
		if (memcmp(root->tlogs[i].id, t->log_id, SHA256_LEN) == 0)
			return &root->tlogs[i];
	return NULL;
}

static int check_promise(const struct log_entry *t, const struct sign_log *log, struct err *e)
{
	CLEANUP_FREE char *text = promise_text(t);

	if (!text)
		return err_oom(e);
	if (key_verify(log->key, text, strlen(text), &t->promise, NULL) < 0)
		return refuse(e, "promise of inclusion is not signed by it");
	if (t->integrated_time <= 0 || !valid_at(&log->valid, t->integrated_time))
		return refuse(e, "key was not in use at the time of its promise");
	return 0;
}

static int check_proof(const struct log_entry *t, const struct sign_log *log, struct err *e)
{
	if (!tlog_proof_good(t))
		return refuse(e, "proof of inclusion does not lead to the signature");
	if (t->checkpoint && !tlog_checkpoint_good(t, log))
		return refuse(e, "checkpoint is not signed by it, or of another tree");
	/* Without a checkpoint nobody has vouched for the root hash. */
	if (!t->checkpoint && !t->promise.p)
		return refuse(e, "proof of inclusion has no checkpoint");
	return 0;
}

int tlog_check(const struct log_entry *t, const struct sign_root *root, const struct evidence *v,
	const struct sign_key *key, const struct sign_cert *leaf, const struct sign_log **ret_log,
	int64_t *ret_time, struct err *e)
{
	const struct sign_log *log = log_of(root, t);

	if (!log)
		return err_set(
			e, -EKEYREJECTED, "the signature is in a transparency log that is not trusted");
	if (!t->promise.p && !t->has_proof)
		return refuse(e, "promise and proof of inclusion are both missing");
	int r = t->promise.p ? check_promise(t, log, e) : 0;
	if (r == 0 && t->has_proof)
		r = check_proof(t, log, e);
	if (r == 0)
		r = tlog_body_check(t, v, key, leaf, e);
	if (r < 0)
		return r;
	*ret_log = log;
	*ret_time = t->promise.p ? t->integrated_time : 0;
	return 0;
}
