/* SPDX-License-Identifier: MIT */
/*
 * What the files behind registry.h share: the places where a registry's content can be had, and requests to
 * them.
 */
#ifndef OCI_REGISTRY_CONN_H
#define OCI_REGISTRY_CONN_H

#include <pthread.h>

#include "registry/config.h"
#include "registry/credentials.h"
#include "registry/registry.h"

/* What a token is good for. */
enum oci_scope {
	OCI_SCOPE_REPOSITORY, /* this repository, as the registry was opened */
	OCI_SCOPE_MOUNT,      /* and to read the one that blobs are mounted from */
	OCI_SCOPE_LOGIN,      /* nothing: whether the credentials are good */
	OCI_SCOPES,
};

/* A registry, or a mirror of it. */
struct oci_place {
	char *domain;	  /* as credentials are stored for it, and as it is called in messages */
	char *host;	  /* authority that is connected to */
	char *prefix;	  /* path before "/v2/" */
	char *repository; /* path behind it */
	bool mirror;
	bool may_be_plain; /* without TLS, where it has none */

	/* Under the registry's lock: */
	bool plain, settled; /* no TLS; and that is known, and not only a guess */
	bool bad;	     /* a mirror that failed */
	bool basic;	     /* it wants a password with each request */
	char *realm, *service;
	struct {
		char *authorization; /* header value, or NULL */
		uint64_t expires_ns;
	} tokens[OCI_SCOPES];
	char *failure; /* why it is bad */

	/* Under the lock for credentials: */
	bool asked; /* for them */
	struct oci_credentials credentials;
	char *no_credentials; /* why they could not be read, or NULL */
};

struct oci_registry {
	struct oci_remote_opts opts; /* its text is ours */
	char *cert_dir;
	struct oci_registries *registries;
	enum oci_access access;
	char *name; /* domain and path, for messages */
	char *from;
	struct oci_place *places; /* mirrors, in order; last the registry itself */
	size_t n_places;
	pthread_mutex_t lock, credentials_lock;
	size_t preferred; /* place that the first manifest came from */
	bool has_preferred;
};

struct oci_conn {
	struct oci_registry *r;
	struct oci_http *http;
	struct oci_place *at; /* of the last answer */
	/* the blob that is read */
	char digest[OCI_DIGEST_MAX];
	uint64_t position, since_open;
	char *upload; /* address of one that a refused mount began, or NULL */
};

/* The registry itself. */
static inline struct oci_place *oci_conn_origin(const struct oci_conn *c)
{
	return &c->r->places[c->r->n_places - 1];
}

struct oci_place_request {
	enum oci_http_method method;
	const char *path; /* behind "/v2/REPOSITORY/", or with base set behind "/v2/"; NULL: */
	const char *url;  /* absolute, as the registry gave it */
	bool base;
	const char *accept;
	const struct oci_http_body *body;
	uint64_t from;
	enum oci_scope scope;
	bool small;
	unsigned tries, answer_s; /* as in struct oci_http_request */
};
/* Sends, with what the place wants to know of us. The answer, whatever its status, is in c->http. */
int oci_place_send(
	struct oci_conn *c, struct oci_place *p, const struct oci_place_request *rq, struct err *e);
/* The answer at hand as an error: what was asked for, e.g. "manifest 3.20". Returns its code. */
int oci_place_refused(struct oci_conn *c, const struct oci_place *p, const char *what, struct err *e);

/*
 * Calls fn for one place after the other, beginning with the one that manifests come from, until it succeeds.
 * What fails at a mirror is kept for the error of the last. Returns fn's result.
 */
int oci_conn_try(struct oci_conn *c,
	int (*fn)(struct oci_conn *c, struct oci_place *p, void *data, struct err *e), void *data,
	struct err *e);

#endif
