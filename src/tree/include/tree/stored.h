/* SPDX-License-Identifier: MIT */
/*
 * What a user of the host may not do to a file, kept in its extended attributes: how the files of boxes look that lie in a
 * volume or a folder of the host.
 *
 * A file that a box made belongs to the user who runs the box, whoever made it inside. Owner, mode and device number as the box
 * sees them are text in the attribute STORED_STAT: "MODE UID GID MAJOR:MINOR", mode in octal with the type, the rest decimal, as
 * in "100644 999 999 0:0". A device, FIFO or socket is an empty regular file with its type there.
 *
 * A symbolic link cannot have such an attribute. One whose owner is kept is an empty regular file of that type, too, and has its
 * target in STORED_LINK, as it is, 1 to PATH_MAX - 1 bytes. (As content it would be on the disk later than its name.) A real link
 * belongs to the owner of its folder as that has it in its attribute; to give it to another succeeds, and changes nothing.
 *
 *     in a volume               links are kept: nothing but boxes uses it
 *     in a folder of the host   links are real ones, for programs of the host to follow; only in a sticky folder, where it
 *                               matters who owns an entry, one that would not belong to who made it is kept
 *
 * Where the file system cannot keep one (no attributes, no O_TMPFILE, a target that is too long for it) it is a real one as well.
 *
 * The file's own mode is that of the box without setuid, setgid and sticky, and always lets its owner read and write (and
 * search, if it is a folder). Where the attribute is missing, the file is as the host has it: of the user who runs the box, then
 * it is root's in the box, or else nobody's (65534); of root who runs the box, it keeps its owner. Who writes may leave it away
 * where that says the same: then what the host changes of the file's mode is seen in the box.
 *
 * An extended attribute that a user may not set, one not of the namespace "user.", is kept as STORED_XATTR with its full name
 * behind it. None of these can be seen or set from inside of a box.
 */
#ifndef TREE_STORED_H
#define TREE_STORED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#define STORED_PREFIX	"user.a3s."
#define STORED_STAT	"user.a3s.stat"
#define STORED_LINK	"user.a3s.link"
#define STORED_XATTR	"user.a3s.x."
#define STORED_NOBODY	65534u
#define STORED_TEXT_MAX 64

struct stored_stat {
	uint32_t mode; /* with the type */
	uint32_t uid, gid;
	uint32_t major, minor;
};

/* text: STORED_TEXT_MAX bytes. Returns its length. */
size_t stored_format(char *text, const struct stored_stat *s);
/* text has no NUL behind it. 0, or -EBADMSG: then it counts as missing. */
int stored_parse(const char *text, size_t len, struct stored_stat *ret);
/* The mode that a file of this kind gets on the host. */
mode_t stored_real_mode(uint32_t mode);
/* After setting STORED_LINK has failed with r (-errno): whether it can be a real link instead. */
bool stored_link_refused(int r);
/* As a file without the attribute is seen in the box that user runs. */
void stored_default(const struct stat *st, uid_t user, struct stored_stat *ret);
/*
 * The name under which the host keeps an attribute of the box, in dst (XATTR_NAME_MAX + 1 bytes): 0, -EPERM for one of ours,
 * -ERANGE when it is too long. And back: the box's name, or NULL for one that is not seen there.
 */
int stored_xattr_name(const char *name, char *dst);
const char *stored_xattr_back(const char *host_name);

#endif
