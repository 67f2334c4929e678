/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * A GET whose body is read when the caller wants it, over libcurl's multi interface: whoever reads also moves
 * the transfer, and when nobody reads the connection fills up and the server waits. So a layer flows from the
 * registry through digest, decompression and tar into the disk without a thread or a buffer of its own.
 *
 * Redirects are followed here and not by libcurl: the Authorization header goes only to the scheme, host and
 * port that it is meant for, and never is HTTPS left for HTTP. Nor is a challenge taken from anybody else: it
 * would say where the credentials are to be sent.
 *
 * What fails on the way there (connection, 5xx, 429) is tried again a few times with growing pauses; a body
 * that breaks off is resumed with a Range request. Whether the result is right the caller's digest says.
 */
#ifndef OCI_HTTP_H
#define OCI_HTTP_H

#include <stdint.h>
#include <sys/types.h>

#include "auth.h"
#include "base/err.h"

#define OCI_HTTP_TRIES	       4
#define OCI_HTTP_REDIRECTS_MAX 8
#define OCI_HTTP_CONNECT_S     20 /* for a connection */
#define OCI_HTTP_STALL_S       30 /* without a byte */

struct oci_http; /* connections and cookies-free state of one registry session */

struct oci_http_opts {
	bool plain_ok; /* http:// for any host; loopback always may */
	bool tls_verify;
};
int oci_http_new(const struct oci_http_opts *o, struct oci_http **ret, struct err *e);
void oci_http_free(struct oci_http *h);
DEFINE_CLEANUP(struct oci_http *, oci_http_free)

struct oci_http_request {
	const char *url;
	const char *authorization; /* header value, or NULL */
	const char *accept;	   /* header value, or NULL */
};
struct oci_http_response {
	long status;
	char *content_type;		/* NULL when absent */
	char *docker_digest;		/* Docker-Content-Digest, NULL when absent */
	struct oci_challenge challenge; /* with status 401 */
	bool elsewhere;			/* a redirect led away from the origin that was asked */
};

/*
 * Sends and waits for the final response's headers; then read. One request at a time: a new one drops the
 * last. HTTP errors are answers, not failures: see status. -ECONNREFUSED when nothing listens there, -EPROTO
 * when it does not speak TLS, -EIO and others with *e set.
 */
int oci_http_get(struct oci_http *h, const struct oci_http_request *rq, struct err *e);
const struct oci_http_response *oci_http_response(const struct oci_http *h);
/* Bytes of the body, 0 at its end, -errno. */
ssize_t oci_http_read(struct oci_http *h, void *buf, size_t n, struct err *e);
/* The rest of the body, at most max bytes, malloc'd with a NUL behind it. */
int oci_http_read_all(struct oci_http *h, size_t max, char **ret, size_t *ret_n, struct err *e);

/* Whether an authority ("127.0.0.1:5000", "[::1]", "localhost") is this machine. */
bool oci_http_is_loopback(const char *authority);

#endif
