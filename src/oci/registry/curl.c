/* SPDX-License-Identifier: MIT */
#include "registry/curl.h"

#include <pthread.h>
#include <stdbool.h>

static LIB_DEFINE(libcurl, LIBCURL_FUNCTIONS, "libcurl.so.4")

	const struct libcurl *oci_curl(struct err *e)
{
	static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	static bool initialised;
	const struct libcurl *lib = libcurl_get(e);

	if (!lib)
		return NULL;
	pthread_mutex_lock(&mutex);
	if (!initialised)
		initialised = lib->curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
	bool ok = initialised;
	pthread_mutex_unlock(&mutex);
	if (!ok)
		err_set(e, -EIO, "cannot set up the HTTP client");
	return ok ? lib : NULL;
}
