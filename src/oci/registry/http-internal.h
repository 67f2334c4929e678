/* SPDX-License-Identifier: MIT */
/*
 * A transfer, for the files behind http.h: http.c moves it, http-setup.c begins it, http-answer.c takes what
 * comes.
 */
#ifndef OCI_REGISTRY_HTTP_INTERNAL_H
#define OCI_REGISTRY_HTTP_INTERNAL_H

#include <stdatomic.h>

#include "base/buf.h"
#include "registry/curl.h"
#include "registry/http.h"
#include "registry/tls.h"

#define OCI_HTTP_HOSTS_MAX 16 /* whose TLS settings are remembered */

struct oci_http {
	const struct libcurl *lib;
	struct oci_http_opts opts;
	char *cert_dir, *cert_host;
	CURL *easy;
	CURLM *multi;
	bool attached;
	atomic_bool cancelled;
	char curl_error[CURL_ERROR_SIZE];
	struct oci_tls hosts[OCI_HTTP_HOSTS_MAX];
	size_t n_hosts;
	/* the request */
	struct oci_http_request rq; /* its text is not kept, but for: */
	struct oci_http_body send;
	struct oci_url url, first_url; /* after redirects, before */
	char *authorization, *accept, *proxy;
	struct curl_slist *headers;
	uint64_t sent, reported;
	bool cannot_read; /* what is to be sent */
	/* the response */
	struct oci_http_response resp;
	struct buf body;
	uint8_t *dst; /* where the reader wants it, at once; NULL: in body */
	size_t dst_left;
	size_t header_bytes, header_lines;
	bool headers_done, finished, paused, oom, overflow;
	bool foreign_coding; /* it comes in a coding that was not asked for */
	unsigned silent_s;   /* it was ended after so many seconds of silence; 0: it was not */
	bool good;	     /* the body is what was asked for */
	bool bad_range;	     /* it is another part of it */
	CURLcode result;
	/* over all tries */
	uint64_t position;  /* byte of the whole that the reader gets next */
	uint64_t skip;	    /* bytes to pass over, when a server ignored the range */
	unsigned tries;	    /* in a row without progress */
	unsigned resumes;   /* in all */
	uint64_t progress;  /* bytes since the last failure */
	uint64_t waited_ns; /* for the network, in all: what passed here, and not with the reader */
	uint64_t clock_ns;  /* until when that is counted */
	uint64_t active_ns; /* on that clock: when something came or went last */
	uint64_t sent_ns;   /* when the last of the request went */
	uint64_t window_ns, window_bytes; /* since when the rate is measured, and what came and went since */
};

/* Sets everything that libcurl is to know of the request at h->url, from byte h->position on. */
int oci_http_setup(struct oci_http *h, struct err *e);

/* libcurl's callbacks. */
size_t oci_http_on_body(char *data, size_t size, size_t n, void *user);
size_t oci_http_on_header(char *line, size_t size, size_t n, void *user);
size_t oci_http_on_send(char *to, size_t size, size_t n, void *user);
int oci_http_on_seek(void *user, curl_off_t off, int origin);
/* Empties the response. */
void oci_http_response_done(struct oci_http_response *r);

#endif
