/* SPDX-License-Identifier: MIT */
/*
 * Libraries that are loaded when they are first needed.
 *
 * Most commands (ps, logs, exec) never touch an image's content, and linking these libraries would cost each
 * of them milliseconds of relocation: measured on a 2-core machine, libcurl with its dependencies about 10
 * ms, libcrypto 3 ms, libarchive 3 ms, libzstd 1 ms. So each is a table of the few functions used, typed from
 * the library's own header and filled by dlopen; thread-safe, and never unloaded.
 *
 * Each function below returns its table, or NULL with *e set when the library is not installed.
 */
#ifndef OCI_LIBS_H
#define OCI_LIBS_H

#include <archive.h>
#include <archive_entry.h>
#include <isa-l/igzip_lib.h>
#include <openssl/evp.h>
#include <zstd.h>

#include "base/err.h"

#define LIB_FIELD(f) __typeof__(f) *f; /* NOLINT(bugprone-macro-parentheses) */

#define LIBARCHIVE_FUNCTIONS(X) \
	X(archive_read_new) \
	X(archive_read_free) \
	X(archive_read_support_format_tar) \
	X(archive_read_support_format_empty) \
	X(archive_read_set_callback_data) \
	X(archive_read_set_read_callback) \
	X(archive_read_open1) \
	X(archive_read_next_header) \
	X(archive_read_data_block) \
	X(archive_read_data_skip) \
	X(archive_error_string) \
	X(archive_errno) \
	X(archive_set_error) \
	X(archive_entry_pathname) \
	X(archive_entry_hardlink) \
	X(archive_entry_symlink) \
	X(archive_entry_filetype) \
	X(archive_entry_mode) \
	X(archive_entry_uid) \
	X(archive_entry_gid) \
	X(archive_entry_size) \
	X(archive_entry_mtime) \
	X(archive_entry_mtime_nsec) \
	X(archive_entry_rdevmajor) \
	X(archive_entry_rdevminor) \
	X(archive_entry_acl_reset) \
	X(archive_entry_acl_next) \
	X(archive_entry_xattr_reset) \
	X(archive_entry_xattr_next)

#define LIBCRYPTO_FUNCTIONS(X) \
	X(EVP_MD_CTX_new) \
	X(EVP_MD_CTX_free) \
	X(EVP_DigestInit_ex) \
	X(EVP_DigestUpdate) \
	X(EVP_DigestFinal_ex) \
	X(EVP_sha256) \
	X(EVP_sha512)

#define LIBISAL_FUNCTIONS(X) \
	X(isal_inflate_init) \
	X(isal_inflate_reset) \
	X(isal_inflate) \
	X(isal_deflate_init) \
	X(isal_deflate)

#define LIBZSTD_FUNCTIONS(X) \
	X(ZSTD_createDStream) \
	X(ZSTD_freeDStream) \
	X(ZSTD_decompressStream) \
	X(ZSTD_isError) \
	X(ZSTD_getErrorName) \
	X(ZSTD_DCtx_setParameter)

struct libarchive {
	LIBARCHIVE_FUNCTIONS(LIB_FIELD)
};
struct libcrypto {
	LIBCRYPTO_FUNCTIONS(LIB_FIELD)
};
struct libisal {
	LIBISAL_FUNCTIONS(LIB_FIELD)
};
struct libzstd {
	LIBZSTD_FUNCTIONS(LIB_FIELD)
};

const struct libarchive *libarchive_get(struct err *e);
const struct libcrypto *libcrypto_get(struct err *e);
const struct libisal *libisal_get(struct err *e);
const struct libzstd *libzstd_get(struct err *e);

/* Fills n function pointers at table from the library; used by the tables above and by the registry's. */
int lib_load(const char *soname, const char *const *names, void **table, size_t n, struct err *e);

/*
 * Defines name_get() for struct name and NAME_FUNCTIONS. A failed load is tried again the next time, so the
 * table is built aside and only published when complete.
 */
#define LIB_NAME(f) #f,
#define LIB_DEFINE(lib, FUNCTIONS, soname) \
	const struct lib *lib##_get(struct err *e) \
	{ \
		static const char *const names[] = {FUNCTIONS(LIB_NAME)}; \
		static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; \
		static union { \
			struct lib t; \
			void *p[ARRAY_LEN(names)]; \
		} table; \
		static bool loaded; \
\
		pthread_mutex_lock(&mutex); \
		if (!loaded) \
			loaded = lib_load(soname, names, table.p, ARRAY_LEN(names), e) == 0; \
		bool ok = loaded; \
		pthread_mutex_unlock(&mutex); \
		return ok ? &table.t : NULL; \
	}

#endif
