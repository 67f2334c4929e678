/* SPDX-License-Identifier: MIT */
#include "libs.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>

int lib_load(const char *soname, const char *const *names, void **table, size_t n, struct err *e)
{
	void *handle = dlopen(soname, RTLD_NOW | RTLD_LOCAL);

	if (!handle)
		return err_set(e, -ENOENT, "cannot load %s: %s", soname, dlerror());
	for (size_t i = 0; i < n; i++) {
		table[i] = dlsym(handle, names[i]);
		if (!table[i])
			return err_set(e, -ENOSYS, "%s has no function %s", soname, names[i]);
	}
	return 0;
}

LIB_DEFINE(libarchive, LIBARCHIVE_FUNCTIONS, "libarchive.so.13")
LIB_DEFINE(libcrypto, LIBCRYPTO_FUNCTIONS, "libcrypto.so.3")
LIB_DEFINE(libisal, LIBISAL_FUNCTIONS, "libisal.so.2")
LIB_DEFINE(libzstd, LIBZSTD_FUNCTIONS, "libzstd.so.1")
