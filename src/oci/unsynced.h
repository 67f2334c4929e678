/* SPDX-License-Identifier: MIT */
/*
 * Disks that a power cut may have torn.
 *
 * THEORY OF OPERATION
 *
 * A disk can be made again, so nobody waits for it to be written: it is renamed to its place as it is. The transaction
 * that enters it notes it in image_disks_unsynced, with the ID of this boot. While the host stays up the page cache is
 * what counts, and the disk is good. After a boot it counts as missing, and is built again, whatever its file holds.
 *
 * The note goes once the file was synced, which is not done before the kernel had time to write it by itself: when it is
 * used, with a collection, or by whoever comes to the end of other work on the store (oci_store_release). That takes
 * OCI_LOCK_DELETE, so that nobody is just about to put another file in its place.
 *
 * If the boot's ID is unknown, disks are synced before they are renamed, and what is noted counts as missing.
 */
#ifndef OCI_UNSYNCED_H
#define OCI_UNSYNCED_H

#include "store.h"

/* This boot's ID, or "" when it cannot be known; the same throughout a process. */
const char *oci_boot(void);
/*
 * Before a disk is built: what is there under its chain ID, if it counts as missing, has no row any more, and what will be
 * there has its note. Needs OCI_LOCK_ADD until it is entered.
 */
int oci_unsynced_begin(struct oci_store *s, const char *chain, struct err *e);
/* A disk was renamed to its place, synced if there is no oci_boot; within the transaction that enters it, before that. */
int oci_unsynced_enter(struct oci_store *s, const char *chain, struct err *e);
/*
 * Syncs a disk that is noted and was written a while ago, unless others are at work. 0, or -EIO (no error set) when it
 * could not be written: then it counts as missing.
 */
int oci_unsynced_sync(struct oci_store *s, const char *chain);
/* The same of all; without the lock, and with OCI_LOCK_DELETE. */
void oci_unsynced_sync_all(struct oci_store *s);
void oci_unsynced_sync_all_locked(struct oci_store *s);

#endif
