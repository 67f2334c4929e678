/* SPDX-License-Identifier: MIT */
/*
 * Paths of cp, by Docker's rules (the reference of `docker container cp`): what a trailing "/" and "/." mean, and where a copy
 * goes by what there is at its destination.
 */
#ifndef CLI_CP_PATHS_H
#define CLI_CP_PATHS_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

#define CP_LINKS_MAX 40 /* followed at the end of a path, as in Linux */

/*
 * Takes "BOX:PATH" apart: *ret_box malloc'd, NULL for a path of the host, and *ret_path points into arg. A path of the host with
 * a colon in it begins with "/" or ".".
 */
int cp_split(const char *arg, char **ret_box, const char **ret_path, struct err *e);

struct cp_path {
	char *path; /* absolute; without "." and ".." (taken away by name, as Docker does), and without a "/" at its end */
	bool folder;  /* "/" or "/." was at its end: it has to be one */
	bool content; /* "/." was, or it is "/" itself: not the folder, but what is in it */
};
void cp_path_done(struct cp_path *p);
/* text is relative to `base`, absolute. 0 or -ENOMEM. */
int cp_path_set(struct cp_path *p, const char *base, const char *text);
/* A path of the host, relative to our working folder. */
int cp_path_local(struct cp_path *p, const char *text, struct err *e);
/* Its last component, which points into it; "" of "/". */
const char *cp_path_name(const struct cp_path *p);
/* With what was at its end: how the guest is to be told of it. malloc'd, or NULL. */
char *cp_path_text(const struct cp_path *p);
/* p/name, malloc'd, or NULL. */
char *cp_path_join(const struct cp_path *p, const char *name);

/* Something of the host: opened, so that what happens to folders on the way to it does not matter any more. */
struct cp_place {
	int dir;     /* O_PATH; -1: not set */
	char *name;  /* its entry in dir; "": dir itself, a folder */
	bool exists; /* else the folder does that it would lie in */
	mode_t type; /* S_IFMT, where it exists */
};
void cp_place_done(struct cp_place *p);
/* follow: a link at the end is followed, also to what is not there. *ret empty on failure. */
int cp_place_find(const struct cp_path *p, bool follow, struct cp_place *ret, struct err *e);

/* What is copied, and what there is at the destination. */
struct cp_case {
	const char *src_name; /* as it is called */
	bool src_folder, src_content;
	bool dst_exists, dst_is_folder;
	bool dst_folder; /* it was said to be one: struct cp_path */
};
enum cp_where {
	CP_ONTO, /* the destination itself: a folder that is there is filled, anything else made or replaced */
	CP_INTO, /* below the destination, under the source's name */
};
/* -ENOTDIR, -ENOENT with e set where that is not to be. dst: what the user calls it. */
int cp_decide(const struct cp_case *c, const char *dst, enum cp_where *ret, struct err *e);

#endif
