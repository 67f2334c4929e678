/* SPDX-License-Identifier: MIT */
/*
 * A decompressing reader: plain, gzip (several members) or zstd (several frames), told apart by their first
 * bytes. It can hash what comes out (the diff ID of a layer), and it bounds it, because a small file can
 * expand a thousandfold and more.
 *
 * A stream may run ahead of its reader (oci_stream_ahead): a thread of its own reads the source and decompresses into a
 * ring of blocks, and the reader, who takes them out, hashes them. So inflating, which costs the most, has a core for
 * itself while the other one parses, hashes, and writes.
 */
#ifndef OCI_STREAM_H
#define OCI_STREAM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "digest.h"

#define OCI_STREAM_BLOCK (1u << 20) /* bytes handed out at most at a time */
#define OCI_STREAM_AHEAD 6	    /* blocks that a stream runs ahead */

/* What oci_stream_new and oci_sniff call a file that a person gave us. */
#define OCI_STREAM_ARCHIVE "the archive"

enum oci_compression { OCI_PLAIN, OCI_GZIP, OCI_ZSTD };

/*
 * Where compressed bytes come from. read returns bytes, 0 at the end, or -errno with *e set. cancel, which may be NULL,
 * makes a read in another thread end soon; whatever it returns then is not used.
 */
struct oci_source {
	ssize_t (*read)(void *data, void *buf, size_t n, struct err *e);
	void *data;
	void (*cancel)(void *data);
};
/* A source that reads a descriptor, given as a pointer to int. */
ssize_t oci_source_fd(void *fd, void *buf, size_t n, struct err *e);

struct oci_stream;
/*
 * what names the stream in errors and is copied. hash_like: digest whose algorithm hashes the output, or NULL
 * for none. max: bytes of output allowed.
 */
int oci_stream_new(const char *what, const struct oci_source *src, const char *hash_like, uint64_t max,
	struct oci_stream **ret, struct err *e);
void oci_stream_free(struct oci_stream *s);
DEFINE_CLEANUP(struct oci_stream *, oci_stream_free)

/* Before the first read: lets it run ahead, from now on. The source is then read from that thread only. */
int oci_stream_ahead(struct oci_stream *s, struct err *e);

/* The next block, valid until the next call. Returns its length, 0 at the end, -errno. */
ssize_t oci_stream_read(struct oci_stream *s, const void **ret, struct err *e);
/* Reads and drops the rest, so that the hash covers everything. */
int oci_stream_drain(struct oci_stream *s, struct err *e);
/* Digest of all output; once, after the end. */
void oci_stream_digest(struct oci_stream *s, char ret[OCI_DIGEST_MAX]);

uint64_t oci_stream_bytes_in(const struct oci_stream *s);
uint64_t oci_stream_bytes_out(const struct oci_stream *s);
/* Known after the first read. */
enum oci_compression oci_stream_compression(const struct oci_stream *s);
/* By the first bytes of a file, at least 4 of them; -EOPNOTSUPP with *e for a compression we cannot read. */
int oci_sniff(const char *what, const uint8_t *p, size_t n, enum oci_compression *ret, struct err *e);

#endif
