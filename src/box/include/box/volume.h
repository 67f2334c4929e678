/* SPDX-License-Identifier: MIT */
/*
 * Volumes: folders of ours that outlive boxes and that several can use at once.
 *
 * THEORY OF OPERATION
 *
 * A volume is a row and a folder volumes/NAME with
 *
 *     data/     its files, owners and modes as in tree/stored.h
 *     use       empty; open in every file server that serves it (fs/fs.h, FS_CACHE_VOLUME). Made last, when all the rest is on
 *               the disk: nobody uses a volume without it
 *     fill/     what data/ is about to be replaced by; else left by somebody who was killed
 *
 * The row comes first, so that the volumes of a box come into being with the box, in its transaction. The folder is made by
 * whoever needs it first, in .gone, and renamed to its place, which is never without a row: a row without a folder is an empty
 * volume. That a box needs a volume is a row too (volume_uses), made in the same transaction and gone with the box; a volume with
 * such a row cannot be removed.
 *
 * Removing goes in three steps, and whoever comes across what a killed process left goes on with it (box_reconcile):
 *
 *     1. the row says so (removing), which is the decision: nobody can use the volume any more
 *     2. in one transaction the folder is renamed to volumes/.gone/RANDOM, and the row goes: the name is free
 *     3. what lies in .gone is deleted, each folder by one process at a time, which holds a lock (flock) of it
 *
 * An anonymous volume has a name of 64 hex digits. It goes with the box that it was made for (rm -v, --rm): step 1 is then part
 * of the transaction that removes the box.
 *
 * A volume is filled when a box that mounts it on a folder of its image starts for the first time and it is empty: from the
 * image's disk, here on the host, under the lock of its folder and with nobody using it (whoever does has a shared lock of
 * `use`); beside data/, which the new folder then replaces (rename(2) onto an empty folder), so that it is filled
 * altogether or not at all.
 */
#ifndef BOX_VOLUME_H
#define BOX_VOLUME_H

#include "box/box.h"

#define BOX_VOLUME_NAME_MAX 255
#define BOX_VOLUMES_MAX	    65536

struct box_volume {
	char *name;
	char *driver;		  /* "local" */
	struct strv labels, opts; /* "key=value" */
	int64_t created_ns;
	bool anonymous;
	size_t users; /* boxes that need it */
};
void box_volume_free(struct box_volume *v);
DEFINE_CLEANUP(struct box_volume *, box_volume_free)
void box_volume_list_free(struct box_volume **list, size_t n);

/* [a-zA-Z0-9][a-zA-Z0-9_.-]+, at most BOX_VOLUME_NAME_MAX bytes: as in Docker, one letter is not enough. */
bool box_volume_name_valid(const char *name);
/*
 * Creates one; name NULL: anonymous. One that is there with the same options is left as it is (*created false); with
 * others -EEXIST. opts: none, or of Docker's local driver type=none,o=bind[,ro],device=/FOLDER (the volume's files are there)
 * and type=tmpfs,device=tmpfs[,o=OPTIONS] (each box gets a tmpfs of its own); others are -ENOTSUP. Records the event.
 */
int box_volume_create(struct state *st, const char *name, const struct strv *labels, const struct strv *opts,
	struct box_volume **ret, bool *created, struct err *e);
/* By name, or by a unique beginning of an anonymous one's. -ENOENT, -EEXIST. */
int box_volume_find(struct state *st, const char *name, struct box_volume **ret, struct err *e);
/* By name. */
int box_volume_list(struct state *st, struct box_volume ***ret, size_t *ret_n, struct err *e);
/* Names of the boxes that need it. */
int box_volume_users(struct state *st, const char *name, struct strv *ret, struct err *e);
/*
 * -EBUSY while a box needs it (the hint names them). Records the event. Another failure after it is gone says so: then what
 * is left of its files is deleted later.
 */
int box_volume_remove(struct state *st, const char *name, struct err *e);
/* Where its files are on the host, malloc'd; for people. */
char *box_volume_path(const struct state *st, const struct box_volume *v);
/* What it takes on disk: allocated blocks, each file once. A folder of the host's (o=bind) counts nothing. */
uint64_t box_volume_bytes(struct state *st, const struct box_volume *v);
/* `rm -v`: with the box go the anonymous volumes that were made for it and that no other needs; or, with go false, not. */
int box_volumes_go(struct state *st, const char *box, bool go, struct err *e);

/* ---- for boxes (this room) ---- */

/*
 * Before the record of a box is made (box_create does it): anonymous volumes get their names, volumes with options of the
 * mount's are made, and a mount of a volume of type tmpfs becomes an entry of c->tmpfs, with its name in *held, to be freed
 * by the caller.
 */
int box_volumes_prepare(struct state *st, struct box_config *c, struct strv *held, struct err *e);
/*
 * In the transaction that makes the box: it needs them, the ones in held too. Those that are not there are made, with their
 * events.
 */
int box_volumes_hold(struct state *st, const char *box, const struct box_config *c, const struct strv *held,
	struct err *e);
/* In the transaction that removes it. What is to go with it is in removing then: box_volumes_repair does the rest. */
int box_volumes_release(struct state *st, const struct box *b, struct err *e);
/* Events "mount", when the box has started, and "unmount", when it has ended. */
int box_volumes_event(struct state *st, const struct box *b, const char *action, struct err *e);

/* Creates the tables when missing, and what box_reconcile does for volumes. */
int box_volumes_init(struct state *st, struct err *e);
void box_volumes_repair(struct state *st);

/*
 * For the file server of a box that starts: fills the volume if it is to be, and opens it. Waits while another box's start
 * fills it, and for `use` a second, while another server gives up being alone. b->disk is on the host. The caller closes
 * both.
 */
struct box_volume_files {
	int data;	/* O_PATH, the folder (with m->subpath still to be looked up) */
	int use;	/* open for reading and writing; -1 for a volume that is a folder of the host */
	bool read_only; /* by the volume's own options (o=bind,ro) */
};
int box_volume_open(struct state *st, const struct box *b, const struct box_mount *m,
	struct box_volume_files *ret, struct err *e);

#endif
