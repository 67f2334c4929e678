/* SPDX-License-Identifier: MIT */
/*
 * Certificates of signers (Fulcio's certificate profile): their chain, whom they name, and whether a certificate log has
 * promised to publish them. All but the trusted root comes from whoever made the signature. Failures of a certificate are
 * -EKEYREJECTED with *e set.
 */
#ifndef OCI_SIGN_CERT_H
#define OCI_SIGN_CERT_H

#include "sign/key.h"

#define CERTS_MAX 64 /* certificates in one list */

struct sign_cert {
	const struct signlib *l;
	X509 *x;
	struct bytes der;
};
void sign_cert_free(struct sign_cert *c);
DEFINE_CLEANUP(struct sign_cert *, sign_cert_free)

struct cert_list {
	struct sign_cert **v;
	size_t n;
};
void cert_list_done(struct cert_list *list);

/* One certificate, without anything behind it. -EBADMSG if it is none. */
int cert_from_der(const struct bytes *der, const char *what, struct sign_cert **ret, struct err *e);
/* Appends; takes the certificate, also on failure. -ENOMEM, or -EBADMSG when there are too many. */
int cert_list_take(struct cert_list *list, struct sign_cert *c);
/* Appends all certificates of a PEM text; text between them is allowed or not (pem_next). -EBADMSG. */
int certs_from_pem(const char *pem, bool with_text, const char *what, struct cert_list *ret, struct err *e);
int cert_key(const struct sign_cert *c, const char *what, struct sign_key **ret, struct err *e);
/* A store that trusts these, to look at at one time; NULL when out of memory. */
X509_STORE *cert_store(const struct signlib *l, const struct cert_list *anchors, int64_t time);
/* A stack of borrowed certificates, NULL when out of memory. */
STACK_OF(X509) * cert_stack(const struct signlib *l, const struct cert_list *a, const struct cert_list *b);

/* Whether a certificate for signing code. */
int cert_check_usage(const struct sign_cert *leaf, struct err *e);
/* Whether it names this identity (any of its alternative names), vouched for by this OIDC issuer. */
int cert_check_identity(
	const struct sign_cert *leaf, const char *issuer, const char *identity, struct err *e);
/*
 * Whether an authority of the root vouched for it at that time. extra: intermediates that came with the signature.
 * *ret_issuer: SHA-256 of the key of whoever signed it.
 */
int cert_check_chain(const struct sign_cert *leaf, const struct cert_list *extra,
	const struct sign_root *root, int64_t time, uint8_t ret_issuer[SHA256_LEN], struct err *e);
/* Whether one of the root's certificate logs has signed a timestamp for it (RFC 6962, 3.2 and 3.3). */
int cert_check_sct(const struct sign_cert *leaf, const uint8_t issuer[SHA256_LEN],
	const struct sign_root *root, struct err *e);

/* An extension's content by its OID; *ret is borrowed, NULL if there is none. -EKEYREJECTED if there are several. */
int cert_extension(const struct sign_cert *c, const char *oid, const ASN1_OCTET_STRING **ret, int *ret_at,
	struct err *e);

#endif
