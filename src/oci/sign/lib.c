/* SPDX-License-Identifier: MIT */
#include "sign/lib.h"

#include <pthread.h>
#include <stdbool.h>

LIB_DEFINE(signlib, SIGNLIB_FUNCTIONS, "libcrypto.so.3")
LIB_DEFINE(sodium, SODIUM_FUNCTIONS, "libsodium.so.23")

int sign_sha256(const void *data, size_t n, uint8_t ret[SHA256_LEN], struct err *e)
{
	const struct signlib *l = signlib_get(e);

	if (!l)
		return -ENOENT;
	if (!l->EVP_Digest(data, n, ret, NULL, l->EVP_sha256(), NULL))
		return err_set(e, -EIO, "cannot compute a digest");
	return 0;
}
