/* SPDX-License-Identifier: MIT */
/* What is trusted: the content of a struct sign_root. */
#ifndef OCI_SIGN_ROOT_H
#define OCI_SIGN_ROOT_H

#include "sign/cert.h"

#define ROOT_ENTRIES_MAX 64 /* authorities, logs, of each kind */
#define NOTE_HINT_LEN	 4  /* of a key in a signed note: a checkpoint */

/* When something was in use; seconds since the epoch, both inclusive. */
struct validity {
	int64_t start, end;
};

struct sign_authority {
	struct cert_list anchors, others;
	const struct sign_cert
		*signer; /* one of these: its chain begins with whoever signs; NULL: with an authority */
	struct validity valid;
};

struct sign_log {
	struct sign_key *key;
	uint8_t id[SHA256_LEN];
	uint8_t hint[NOTE_HINT_LEN];
	struct validity valid;
};

struct sign_root {
	struct sign_authority *cas, *tsas;
	size_t n_cas, n_tsas;
	struct sign_log *tlogs, *ctlogs;
	size_t n_tlogs, n_ctlogs;
	bool need_sct; /* a certificate without a log's promise is none */
};
DEFINE_CLEANUP(struct sign_root *, sign_root_free)

static inline bool valid_at(const struct validity *v, int64_t time)
{
	return time >= v->start && time <= v->end;
}

#endif
