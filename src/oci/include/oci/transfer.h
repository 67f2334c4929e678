/* SPDX-License-Identifier: MIT */
/* Images on their way in and out: registries, archives, credentials. */
#ifndef OCI_TRANSFER_H
#define OCI_TRANSFER_H

#include "oci/oci.h"

/* How registries are spoken to. All text is borrowed; NULL and false are the defaults. */
struct oci_remote_opts {
	bool plain_http; /* HTTP for any host; loopback always may, and hosts that registries.json calls insecure */
	bool tls_verify; /* check certificates */
	const char *
		cert_dir; /* folder with *.crt (CAs), NAME.cert and NAME.key (client), instead of those found */
};

#define OCI_KEY_FILE_MAX (64u << 10) /* bytes of a key's file, public or private */

/* Which signatures are asked for. None of key and identity: none, beyond what the policy file wants. */
struct oci_verify_opts {
	const char *key;      /* file: a public key, PEM */
	const char *issuer;   /* keyless: who vouched for the signer, an OIDC issuer's URL; needs identity */
	const char *identity; /* keyless: who signed, e-mail address or URI of the certificate */
	const char *
		root; /* file: sigstore's trusted_root.json. With a key, demands the log's proof too. NULL: for
				 an identity, trusted_root.json in the home folder */
};

struct oci_pull_opts {
	struct oci_remote_opts remote;
	struct oci_verify_opts verify;
	const char *platform; /* "linux/amd64"; NULL: the host's */
	bool all_platforms;   /* keep everything that the image's index names, for push and save */
};
/* What a pull found out. */
struct oci_pull_result {
	struct oci_image *image;
	char digest
		[160]; /* of what the registry serves under the reference: manifest or index. The manifest of the
			     platform alone, where signatures were asked for and only that has them */
	bool newer;    /* it was not here before under this name */
};
void oci_pull_result_done(struct oci_pull_result *r);

/* Pulls ref and builds its disk. ret may be NULL. Nothing enters the store unless all of it is good. */
int oci_pull(struct oci_store *s, const char *ref, const struct oci_pull_opts *o,
	const struct oci_progress *p, struct oci_pull_result *ret, struct err *e);
/* All tags of ref's repository, as normalised references. */
int oci_remote_tags(struct oci_store *s, const char *ref, const struct oci_remote_opts *o, struct strv *ret,
	struct err *e);

struct oci_push_opts {
	struct oci_remote_opts remote;
	const char *platform; /* of an image with several: only this one; NULL: all that is here */
	const char
		*sign_key; /* file: private key to sign with (PEM: PKCS#8, or cosign's own); NULL: unsigned */
	const char *sign_password; /* of that key, NULL if it has none */
};
/*
 * Pushes the image under its own name, or under target: with everything that its index names, where all of that is here.
 * ret_digest (160 bytes; may be NULL): what it is now served as.
 */
int oci_push(struct oci_store *s, const char *ref, const char *target, const struct oci_push_opts *o,
	const struct oci_progress *p, char *ret_digest, struct err *e);

/*
 * Whether the policy file lets this image run: 0, or -EKEYREJECTED. Without a policy file one faccessat(2). The rules are
 * those of i->asked, the name that the user gave. An image found by its ID must be allowed under each of its names; without
 * a name, by each repository@digest that a registry served it as; without these, too, by the default rules. The signatures
 * are those that a pull stored, or a push made.
 */
int oci_image_allowed(struct oci_store *s, const struct oci_image *i, struct err *e);

struct oci_load_opts {
	const char *platform; /* NULL: the host's */
};
/*
 * Reads a docker-archive or OCI archive (plain, gzip or zstd; a stream, no seeking needed) from fd and enters its
 * images, with everything that their indexes name where the archive has all of it. Disks are built here, so that a
 * later run does not wait. on_image is called for every image entered, with its normalised name (or NULL) and ID.
 * Nothing enters the store unless the whole archive is good.
 */
int oci_load(struct oci_store *s, int fd, const struct oci_load_opts *o, const struct oci_progress *p,
	void (*on_image)(void *data, const char *name, const char *id), void *data, struct err *e);

struct oci_save_opts {
	bool oci_only; /* only an OCI layout; else also the manifest.json that docker and podman read */
	const char *platform; /* of images with several: only this one; NULL: all that is here */
};
/*
 * What refs stand for, to be saved: of a repository without a tag the names of all its tags, as in Docker; all else, which need
 * not exist, as it is. *ret is the caller's to free.
 */
int oci_save_names(struct oci_store *s, const char *const *refs, size_t n, struct strv *ret, struct err *e);
/* Writes the images as a tar to fd, a stream. The same images give the same bytes. */
int oci_save(struct oci_store *s, int fd, const char *const *refs, size_t n, const struct oci_save_opts *o,
	const struct oci_progress *p, struct err *e);

struct oci_import_opts {
	const char *ref;	    /* its name, or NULL */
	const struct strv *changes; /* Dockerfile instructions, see oci_config_change; NULL: none */
	const char *message;	    /* for the history, or NULL */
	const char *platform;	    /* "linux/amd64"; NULL: the host's */
};
/* An image of one layer from a tar (plain, gzip or zstd) of a root file system. *ret_id malloc'd. */
int oci_import(struct oci_store *s, int fd, const struct oci_import_opts *o, const struct oci_progress *p,
	char **ret_id, struct err *e);

/*
 * "docker.io" or "host:port" of what a person or an old configuration calls a registry: "https://host/v1/" as well. NULL is
 * Docker Hub. malloc'd in *ret. 0, -EINVAL or -ENOMEM.
 */
int oci_registry_domain(const char *text, char **ret, struct err *e);
/*
 * Checks the credentials with the registry, then keeps them where docker and podman look: in the helper that the
 * Docker configuration names for this registry, else in the file itself ($DOCKER_CONFIG or ~/.docker). *ret_where:
 * for a person, malloc'd: the file's path or the helper's name. domain NULL: Docker Hub.
 */
int oci_login(struct oci_store *s, const char *domain, const char *user, const char *password,
	const struct oci_remote_opts *o, char **ret_where, struct err *e);
/* -ENOENT (with *e) when there are none. */
int oci_logout(const char *domain, struct err *e);
/* The user name that is stored for a registry; *ret NULL: none. */
int oci_login_user(const char *domain, char **ret, struct err *e);

#endif
