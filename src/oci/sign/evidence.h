/* SPDX-License-Identifier: MIT */
/*
 * One signature taken apart: what was signed, by whom it claims to be, and what is brought along to prove it. Nothing in
 * it is believed yet. Failures are -EBADMSG for what cannot be read, -EKEYREJECTED for what is readable and wrong.
 */
#ifndef OCI_SIGN_EVIDENCE_H
#define OCI_SIGN_EVIDENCE_H

#include "sign/cert.h"
#include "sign/root.h"

#define ENTRIES_MAX    8  /* log entries of one signature */
#define TIMESTAMPS_MAX 8  /* RFC 3161 timestamps of one signature */
#define PROOF_MAX      64 /* hashes of an inclusion proof: the depth of a tree of 2^64 entries */
#define CHECKPOINT_MAX (16u << 10)

/* That an entry is in a transparency log (Rekor). */
struct log_entry {
	struct bytes body; /* JSON of the entry, as the log stores it */
	uint8_t log_id[SHA256_LEN];
	int64_t log_index, integrated_time;
	struct bytes promise; /* signed entry timestamp; p NULL if there is none */
	bool has_proof;
	int64_t proof_index, tree_size;
	uint8_t root_hash[SHA256_LEN];
	uint8_t (*hashes)[SHA256_LEN];
	size_t n_hashes;
	char *checkpoint;     /* signed note; NULL if there is none */
	char *kind, *version; /* what the bundle calls the body; NULL: it does not */
};

struct evidence {
	struct bytes
		message; /* what was signed: the payload, or the envelope's pre-authentication encoding; p NULL if
				  only its hash is known */
	uint8_t hash[SHA256_LEN]; /* SHA-256 of that */
	struct bytes payload;	  /* of an envelope */
	bool is_envelope;
	struct bytes signature;
	struct sign_cert *leaf; /* NULL if none came along */
	struct cert_list others;
	struct log_entry *entries;
	size_t n_entries;
	struct bytes *timestamps; /* RFC 3161 responses, DER */
	size_t n_timestamps;
	char *reference; /* docker-reference of a simple-signing payload, or NULL */
};
void evidence_done(struct evidence *v);

/* Takes a candidate apart and checks that it speaks of this manifest. */
int evidence_simple(const struct sign_candidate *c, const char *digest, struct evidence *ret, struct err *e);
int evidence_bundle(const struct sign_candidate *c, const char *digest, struct evidence *ret, struct err *e);
/* The payload alone: what it says it signs must be digest. *ret_reference malloc'd. */
int simple_parse(const void *payload, size_t n, const char *digest, char **ret_reference, struct err *e);

/*
 * That an entry is in a log of the root, and is about this signature by this key; of a keyless signature leaf is its
 * certificate, else NULL. *ret_log is the log; *ret_time when it took the entry, or 0 if it has not signed a time: then
 * whether its key was in use is left to be judged by another time. -EKEYREJECTED.
 */
int tlog_check(const struct log_entry *t, const struct sign_root *root, const struct evidence *v,
	const struct sign_key *key, const struct sign_cert *leaf, const struct sign_log **ret_log,
	int64_t *ret_time, struct err *e);
/* Whether the proof leads from the body to root_hash (RFC 9162, 2.1.3.2). */
bool tlog_proof_good(const struct log_entry *t);
/* Whether the checkpoint is this log's, of that tree. */
bool tlog_checkpoint_good(const struct log_entry *t, const struct sign_log *log);
/* That the entry's body is about this signature. -EKEYREJECTED. */
int tlog_body_check(const struct log_entry *t, const struct evidence *v, const struct sign_key *key,
	const struct sign_cert *leaf, struct err *e);

/* That an authority of the root has seen the signature at *ret_time. -EKEYREJECTED. */
int timestamp_check(const struct bytes *response, const struct bytes *signature, const struct sign_root *root,
	int64_t *ret_time, struct err *e);

/* The same as sign_verify, and the name that was signed: NULL where the form has none. */
int sign_verify_reference(const struct sign_requirement *rq, const char *digest,
	const struct sign_candidate *c, char **ret_reference, struct err *e);

#endif
