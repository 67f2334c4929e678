/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * oci_store_check goes over the store in three passes:
 *
 *     structure  under OCI_LOCK_DELETE, a moment: the database by itself, then rows and files against each other
 *     content    under a shared lock, as long as it takes: each blob against its digest, documents against rows, each disk
 *                against what its layers make. Others add meanwhile; nobody deletes
 *     repair     if asked for. Disks that boxes hold are first built again beside those who add, each in the place of the
 *                bad one. Then, under OCI_LOCK_DELETE, for which this waits: what was found bad is looked at once more,
 *                since somebody may have brought it anew meanwhile, and goes
 *
 * What cannot be brought again stays: damaged content of an image that no registry has, which may still be worth something
 * to somebody, in images/damaged/ as long as the image is here, and a disk whose layers are lost. What cannot be read now may be read by the next try, and stays too.
 *
 * What a process that died left behind and the next one cleans up or goes on with by itself is no fault: files in tmp/,
 * downloads, and whole files that no row names, unless they are so old that whoever adds should have deleted them.
 *
 * Memory is bounded: rows are asked for one after the other, and of bad files at most CHECK_BAD_MAX are remembered; the
 * next check finds the rest.
 */
#ifndef OCI_CHECK_H
#define OCI_CHECK_H

#include "image.h"
#include "unsynced.h"

#define CHECK_BAD_MAX	  4096
#define CHECK_FRESH_NS	  (2 * OCI_LEFTOVER_NS) /* each day what is a day old goes */
#define CHECK_PATIENCE_NS 10000000000ull	/* wait for those who are at work */

/* After a power cut these count as missing, whatever their files hold: no fault (unsynced.h). ?1: oci_boot. */
#define CHECK_MISSING_DISKS "SELECT chain FROM image_disks_unsynced WHERE boot <> ?1 OR boot = ''"

struct check {
	struct oci_store *s;
	bool repair;
	const struct oci_progress *progress;
	void (*on_fault)(void *data, const char *what, const char *fault);
	void *data;
	size_t faults, left;
	int lock;
	uint64_t done, total; /* bytes */
	uint8_t *buf;	      /* OCI_STREAM_BLOCK bytes */
	struct strv bad_blobs, bad_disks,
		stray; /* digests, chain IDs, "FOLDER/NAME" of files that nothing needs */
};

/* Tells a fault; left: it stays, as far as is known. */
void check_fault(struct check *c, const char *what, bool left, const char *fmt, ...) PRINTF(4, 5);
/*
 * Whether the content of a blob is as its name says: 1, 0, -ENOENT (no error set) when there is none, -EIO (neither) when
 * it cannot be read, or -errno.
 */
int check_blob(struct check *c, const char *digest, struct err *e);
/* "alpine:3.20", or what else to call an image that needs a blob or a disk; malloc'd, NULL when out of memory. */
char *check_user_of(struct check *c, const char *digest);

/* Whether a row speaks of a file, given as "FOLDER/NAME". */
bool check_has_row(struct check *c, const char *path);

int check_structure(struct check *c, struct err *e);
int check_content(struct check *c, struct err *e);
/* Builds the bad disks that boxes hold again. Under OCI_LOCK_ADD. */
int check_remake(struct check *c, struct err *e);
int check_repair(struct check *c, struct err *e);

#endif
