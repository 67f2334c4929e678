/* SPDX-License-Identifier: MIT */
/*
 * Downloads of blobs into the store, several at once.
 *
 * THEORY OF OPERATION
 *
 *     images/partial/ALG-HEX[.N]    what has arrived of a blob; flock(2)ed by whoever downloads it
 *
 * Threads take one blob after the other. A blob is downloaded by whoever holds the lock of its partial file; all
 * others, in this process or another, wait for the lock and then find the blob in the store, or go on where the last
 * one stopped: what is there is hashed again, and the rest asked for by range. The file becomes the blob (fsync, rename)
 * when length and digest are right, and is deleted when they are not. So a download goes on after a cut, a signal, or a
 * kill. Partial files that nobody has touched for a day go with the next collection. A thread never waits for a lock
 * while it holds another, so there is no circle. A holder whose file does not grow for OCI_STUCK_NS is no longer waited for: the
 * next name is taken, and whoever is first brings the blob.
 *
 * The builder of the disk reads a blob while it arrives, in order, and stands still where it ends so far: what it makes
 * of it counts for nothing before the blob has been found right (oci_fetch_wait).
 *
 * All of it under OCI_LOCK_ADD: a blob that was put in its place stays until the image is entered.
 */
#ifndef OCI_FETCH_H
#define OCI_FETCH_H

#include "registry/registry.h"
#include "store.h"

#define OCI_FETCH_THREADS 3 /* downloads at once, as in Docker */

struct oci_fetch;
/*
 * Starts downloading what the store lacks of descs[0..n), which are borrowed; duplicates are downloaded once. p may be
 * NULL; it is called from several threads at once (progress.h makes one call after the other of that). Free to stop;
 * what has arrived is kept.
 */
int oci_fetch_new(struct oci_store *s, struct oci_registry *r, const struct oci_desc *const *descs, size_t n,
	const struct oci_progress *p, struct oci_fetch **ret, struct err *e);
void oci_fetch_free(struct oci_fetch *f);
DEFINE_CLEANUP(struct oci_fetch *, oci_fetch_free)
/* A source of the bytes of descs[i], from its beginning, as they arrive. One at a time. */
void oci_fetch_read(struct oci_fetch *f, size_t i, struct oci_source *ret);
/* Waits until descs[i] is in the store, verified. */
int oci_fetch_wait(struct oci_fetch *f, size_t i, struct err *e);
/* Bytes that were or are to be downloaded: of what the store lacked. */
uint64_t oci_fetch_missing(const struct oci_fetch *f);
/*
 * Whether bytes that oci_fetch_read handed out turned out to be wrong and were downloaded again: what an earlier,
 * damaged download had left, or what a mirror sent. Then what was made of them failed for no fault of the image. Known
 * after oci_fetch_wait.
 */
bool oci_fetch_repeated(struct oci_fetch *f, size_t i);

/*
 * Makes a partial file of a blob again that no row names, so that the next pull finds it. Needs OCI_LOCK_DELETE. Failures
 * cost a download, no more.
 */
void oci_partial_keep(struct oci_store *s, const char *digest);
/* Deletes a partial file. Needs OCI_LOCK_DELETE. */
void oci_partial_drop(struct oci_store *s, const char *digest);
/* Deletes partial files that nobody works on and that are older (0: all). Needs OCI_LOCK_DELETE. */
void oci_partial_clean(struct oci_store *s, int64_t older_than_ns);

#endif
