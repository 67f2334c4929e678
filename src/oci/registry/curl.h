/* SPDX-License-Identifier: MIT */
/* libcurl, loaded when it is first needed (libs.h). */
#ifndef OCI_REGISTRY_CURL_H
#define OCI_REGISTRY_CURL_H

#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>

#include "libs.h"

#define LIBCURL_FUNCTIONS(X) \
	X(curl_global_init) \
	X(curl_easy_init) \
	X(curl_easy_cleanup) \
	X(curl_easy_reset) \
	X(curl_easy_setopt) \
	X(curl_easy_getinfo) \
	X(curl_easy_pause) \
	X(curl_easy_strerror) \
	X(curl_multi_init) \
	X(curl_multi_cleanup) \
	X(curl_multi_setopt) \
	X(curl_multi_add_handle) \
	X(curl_multi_remove_handle) \
	X(curl_multi_perform) \
	X(curl_multi_poll) \
	X(curl_multi_wakeup) \
	X(curl_multi_info_read) \
	X(curl_slist_append) \
	X(curl_slist_free_all) \
	X(curl_url) \
	X(curl_url_cleanup) \
	X(curl_url_set) \
	X(curl_url_get) \
	X(curl_free)

struct libcurl {
	LIBCURL_FUNCTIONS(LIB_FIELD)
};

/* The table, with the library initialised; NULL with *e set. Thread-safe. */
const struct libcurl *oci_curl(struct err *e);

#endif
