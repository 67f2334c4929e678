/* SPDX-License-Identifier: MIT */
/*
 * What signatures need of libcrypto, and of libsodium for cosign's own private keys: tables as in libs.h, loaded only
 * when the first signature is looked at. Each function returns its table, or NULL with *e set.
 */
#ifndef OCI_SIGN_LIB_H
#define OCI_SIGN_LIB_H

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/ts.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <sodium.h>

#include "libs.h"

#define SIGNLIB_FUNCTIONS(X) \
	X(ASN1_OBJECT_free) \
	X(ASN1_STRING_get0_data) \
	X(ASN1_STRING_length) \
	X(ASN1_STRING_type) \
	X(ASN1_STRING_free) \
	X(ASN1_TIME_to_tm) \
	X(BIO_free) \
	X(BIO_new_mem_buf) \
	X(CRYPTO_free) \
	X(ERR_clear_error) \
	X(EVP_Digest) \
	X(EVP_DigestSign) \
	X(EVP_DigestSignInit) \
	X(EVP_DigestVerify) \
	X(EVP_DigestVerifyInit) \
	X(EVP_MD_CTX_free) \
	X(EVP_MD_CTX_new) \
	X(EVP_PBE_scrypt) \
	X(EVP_PKEY_CTX_free) \
	X(EVP_PKEY_CTX_new) \
	X(EVP_PKEY_CTX_set_rsa_padding) \
	X(EVP_PKEY_CTX_set_rsa_pss_saltlen) \
	X(EVP_PKEY_CTX_set_signature_md) \
	X(EVP_PKEY_free) \
	X(EVP_PKEY_get_bits) \
	X(EVP_PKEY_get_group_name) \
	X(EVP_PKEY_is_a) \
	X(EVP_PKEY_up_ref) \
	X(EVP_PKEY_verify) \
	X(EVP_PKEY_verify_init) \
	X(EVP_sha256) \
	X(EVP_sha384) \
	X(EVP_sha512) \
	X(GENERAL_NAMES_free) \
	X(OBJ_cmp) \
	X(OBJ_obj2nid) \
	X(OBJ_txt2obj) \
	X(OPENSSL_cleanse) \
	X(OPENSSL_sk_free) \
	X(OPENSSL_sk_new_null) \
	X(OPENSSL_sk_num) \
	X(OPENSSL_sk_push) \
	X(OPENSSL_sk_value) \
	X(PEM_read_bio_PrivateKey) \
	X(PKCS7_get0_signers) \
	X(TS_MSG_IMPRINT_get_algo) \
	X(TS_RESP_free) \
	X(TS_RESP_get_token) \
	X(TS_RESP_get_tst_info) \
	X(TS_RESP_verify_response) \
	X(TS_TST_INFO_get_msg_imprint) \
	X(TS_TST_INFO_get_time) \
	X(TS_VERIFY_CTX_free) \
	X(TS_VERIFY_CTX_new) \
	X(TS_VERIFY_CTX_set_certs) \
	X(TS_VERIFY_CTX_set_data) \
	X(TS_VERIFY_CTX_set_flags) \
	X(TS_VERIFY_CTX_set_store) \
	X(X509_ALGOR_get0) \
	X(X509_EXTENSION_free) \
	X(X509_EXTENSION_get_data) \
	X(X509_STORE_CTX_free) \
	X(X509_STORE_CTX_get0_chain) \
	X(X509_STORE_CTX_get_error) \
	X(X509_STORE_CTX_init) \
	X(X509_STORE_CTX_new) \
	X(X509_STORE_add_cert) \
	X(X509_STORE_free) \
	X(X509_STORE_new) \
	X(X509_STORE_set1_param) \
	X(X509_VERIFY_PARAM_free) \
	X(X509_VERIFY_PARAM_new) \
	X(X509_VERIFY_PARAM_set_auth_level) \
	X(X509_VERIFY_PARAM_set_depth) \
	X(X509_VERIFY_PARAM_set_flags) \
	X(X509_VERIFY_PARAM_set_time) \
	X(X509_cmp) \
	X(X509_delete_ext) \
	X(X509_dup) \
	X(X509_free) \
	X(X509_get0_pubkey) \
	X(X509_get_ext) \
	X(X509_get_ext_by_OBJ) \
	X(X509_get_ext_d2i) \
	X(X509_get_extended_key_usage) \
	X(X509_get_extension_flags) \
	X(X509_get_key_usage) \
	X(X509_up_ref) \
	X(X509_verify_cert) \
	X(X509_verify_cert_error_string) \
	X(d2i_ASN1_OCTET_STRING) \
	X(d2i_ASN1_UTF8STRING) \
	X(d2i_AutoPrivateKey) \
	X(d2i_PUBKEY) \
	X(d2i_PublicKey) \
	X(d2i_TS_RESP) \
	X(d2i_X509) \
	X(i2d_PUBKEY) \
	X(i2d_X509) \
	X(i2d_re_X509_tbs)

#define SODIUM_FUNCTIONS(X) \
	X(sodium_init) \
	X(sodium_memzero) \
	X(crypto_secretbox_open_easy)

struct signlib {
	SIGNLIB_FUNCTIONS(LIB_FIELD)
};
struct sodium {
	SODIUM_FUNCTIONS(LIB_FIELD)
};

const struct signlib *signlib_get(struct err *e);
const struct sodium *sodium_get(struct err *e);

/* SHA-256. 0 or -errno with *e set. */
#define SHA256_LEN 32
int sign_sha256(const void *data, size_t n, uint8_t ret[SHA256_LEN], struct err *e);

#endif
