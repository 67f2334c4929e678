/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * One transfer at a time over libcurl's multi interface, which keeps the connections between them. The body
 * of an answer is read when the caller wants it: whoever reads also moves the transfer, and when nobody
 * reads, at most OCI_HTTP_BUFFER bytes wait here, the connection fills up and the server waits. So a layer
 * flows from the registry through digest, decompression and tar into the disk without a thread or a file
 * between them. What is sent comes from memory or a file, so that it can be sent again. HTTP/1.1: with one
 * transfer for each connection, HTTP/2 brings nothing but windows of its own between the server and the
 * reader.
 *
 * Redirects are followed here and not by libcurl: the Authorization header goes only to the scheme, host and
 * port that it is meant for, and never is HTTPS left for HTTP. Nor is a challenge taken from anybody else: it
 * would say where the credentials are to be sent. A request with a body follows 307 and 308 only, which ask
 * for the same request again, and not to another origin if the body is a secret. TLS settings
 * (registry/tls.h) and proxies (registry/proxy.h) are those of the address at hand.
 *
 * What fails on the way there (connection, 5xx, 429) is tried again a few times with growing, jittered
 * pauses, or when the server says (Retry-After), if that is soon; a body that breaks off is resumed with a
 * Range request. Whether the result is right the caller's digest says.
 *
 * No server keeps us for ever: limits on silence, on the average rate, on the time of small answers, on
 * headers, redirects, and resumptions. Time counts only while somebody waits for us here, so that a slow reader
 * is nobody's fault; and all of that counts, because a server may well send without a pause and yet bring nothing.
 * An answer comes in chunks or whole, and never compressed: what we do not ask for we do not unpack.
 */
#ifndef OCI_HTTP_H
#define OCI_HTTP_H

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "registry/auth.h"
#include "registry/url.h"

#define OCI_HTTP_TRIES	       4
#define OCI_HTTP_RESUMES       100 /* of one body, and one more for each MiB that has come */
#define OCI_HTTP_REDIRECTS_MAX 8
#define OCI_HTTP_CONNECT_S     20   /* for a connection, TLS included */
#define OCI_HTTP_STALL_S       30   /* without a byte */
#define OCI_HTTP_SMALL_S       120  /* for a small request, its retries included */
#define OCI_HTTP_RATE_S	       60   /* over which a transfer must bring, on average, */
#define OCI_HTTP_RATE_MIN      1024 /* bytes a second */
#define OCI_HTTP_RETRY_AFTER_S 30   /* that a server may make us wait; who wants more is not asked again */
#define OCI_HTTP_HEADERS_MAX   (128u << 10) /* bytes of all headers of an answer */
#define OCI_HTTP_HEADER_LINES  512
#define OCI_HTTP_ERROR_MAX     (64u << 10) /* bytes kept of an error's body */
#define OCI_HTTP_BUFFER	       (1u << 20)  /* bytes of a body that wait for the reader */

struct oci_registries;
struct oci_http; /* the connections of one registry session; no cookies */

struct oci_http_opts {
	bool plain_ok; /* http:// for any host; loopback always may, and hosts that registries names */
	bool tls_verify;
	const char *cert_dir;  /* see oci_tls_find; NULL: where they usually are; copied */
	const char *cert_host; /* authority that cert_dir's client certificate is for; copied */
	const struct oci_registries *registries; /* borrowed; may be NULL */
};
int oci_http_new(const struct oci_http_opts *o, struct oci_http **ret, struct err *e);
void oci_http_free(struct oci_http *h);
DEFINE_CLEANUP(struct oci_http *, oci_http_free)

/* From any thread, for good: what is going on ends with -ECANCELED, and whatever is begun later. */
void oci_http_cancel(struct oci_http *h);

enum oci_http_method {
	OCI_HTTP_GET,
	OCI_HTTP_HEAD,
	OCI_HTTP_POST,
	OCI_HTTP_PATCH,
	OCI_HTTP_PUT,
	OCI_HTTP_DELETE,
};

/* Borrowed until the answer's headers are there. */
struct oci_http_body {
	const char *type; /* Content-Type, or NULL */
	const void *data; /* in memory; NULL: */
	int fd;		  /* in a file, read by pread from off on */
	uint64_t off, len;
	const char *range;			     /* Content-Range, or NULL */
	bool secret;				     /* for nobody but the origin that was asked */
	void (*on_sent)(void *user, uint64_t bytes); /* so many of this body are on their way; may be NULL */
	void *user;
};

struct oci_http_request {
	enum oci_http_method method;
	const char *url;
	const char *authorization;	  /* header value, or NULL */
	const char *accept;		  /* header value, or NULL */
	uint64_t from;			  /* GET: the first byte that is wanted */
	const struct oci_http_body *body; /* POST, PATCH, PUT: NULL is an empty one */
	bool small;			  /* the whole of it must be over within OCI_HTTP_SMALL_S */
	bool probe;			  /* what tells that the scheme is wrong is not tried again */
	unsigned tries;			  /* 0: OCI_HTTP_TRIES */
	unsigned connect_s;		  /* 0: OCI_HTTP_CONNECT_S */
	unsigned answer_s;		  /* for the answer, once all was sent; 0: OCI_HTTP_STALL_S */
};
struct oci_http_response {
	long status;
	char *content_type;		/* NULL when absent, as all of these */
	char *docker_digest;		/* Docker-Content-Digest */
	char *location;			/* Location, as it came */
	char *range;			/* Range, of an upload */
	char *next;			/* Link with rel="next", as it came */
	char *chunk_min;		/* OCI-Chunk-Min-Length */
	struct oci_challenge challenge; /* with status 401 */
	uint64_t from;	       /* byte of the whole that the body begins with: what was asked for, or 0 */
	int64_t retry_after_s; /* -1: not said */
	bool elsewhere;	       /* a redirect led away from the origin that was asked */
};

/*
 * Sends and waits for the final response's headers; then read. One request at a time: a new one drops the
 * last. HTTP errors are answers, not failures: see status. -ECONNREFUSED when nothing listens there, -EPROTO
 * when it does not speak TLS, -ETIMEDOUT, -EKEYREJECTED (its certificate), -ECANCELED, -EIO and others with
 * *e set.
 */
int oci_http_send(struct oci_http *h, const struct oci_http_request *rq, struct err *e);
const struct oci_http_response *oci_http_response(const struct oci_http *h);
/* Where the answer came from, after redirects: valid until the next request. */
const struct oci_url *oci_http_url(const struct oci_http *h);
/* Bytes of the body, 0 at its end, -errno. */
ssize_t oci_http_read(struct oci_http *h, void *buf, size_t n, struct err *e);
/* The rest of the body, at most max bytes, malloc'd with a NUL behind it. */
int oci_http_read_all(struct oci_http *h, size_t max, char **ret, size_t *ret_n, struct err *e);
/*
 * What an answer that is an error has to say, cut and as far as it comes soon; malloc'd, NULL when out of
 * memory.
 */
char *oci_http_error_body(struct oci_http *h);
/*
 * The pause before try number `again` (from 1 on), or as long as the last answer said. -ECANCELED; -EBUSY,
 * without *e, when that is too long to wait.
 */
int oci_http_pause(struct oci_http *h, unsigned again, struct err *e);

#endif
