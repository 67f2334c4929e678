/* SPDX-License-Identifier: MIT */
/*
 * The file server of a box: folders and files of the host, served to its guest as a FUSE file system over virtio-fs
 * (virtio 1.2 section 5.11; Linux, include/uapi/linux/fuse.h).
 *
 * THEORY OF OPERATION
 *
 * a3s-box-fsd is a process of its own, started by the box's supervisor and confined (jail.c) before it reads the first byte of
 * the guest. It serves one device, whose root folder is made up: it has an entry for each export, named "0", "1", …, and nothing
 * can be made in it. The guest mounts that once, and the exports from there to where they belong. Why our own and not virtiofsd:
 * without root that cannot give a file to a user of the box, it does not survive its guest's mistakes without one thread pool per
 * box, and what a shared volume needs (below) cannot be told to it.
 *
 *     device.c     the virtqueues: takes requests off them, hands them to threads where they may take long
 *     request.c    a FUSE request: parsed, bounded, dispatched; the reply
 *     inode.c      what the guest may name: node IDs, lookup counts, a descriptor each
 *     watch.c      what others change, for those in the box who wait for it
 *     …            operations by kind
 *
 * Every path is one component, below a descriptor of a folder, and never followed if it is a link. So what the guest, or another
 * process of the host, does to the tree meanwhile can lead nowhere. Owners, modes and devices are kept as tree/stored.h says;
 * permissions inside of the box are its kernel's to judge (default_permissions); those of the host hold as for any program of
 * the user.
 *
 * Caching, by export:
 *
 *     FS_CACHE_HOST     others may change it at any time (bind mounts): nothing is believed without asking; file content stays
 *                       in the guest while size and times say that it is the same
 *     FS_CACHE_VOLUME   only boxes change it. As long as this is the only one, attributes and names are believed for a second,
 *                       and content stays. When another box comes, all of that is given up, and files are read and written
 *                       directly, so that locks between boxes mean what they mean. Who is there is a question to
 *                       the kernel: a write lease (F_SETLEASE) on the volume's file `use`, which each server has open, is had
 *                       by one that is alone; the other's open waits until it has been given up.
 *
 * Writes always go through to the host's kernel: what a guest's write(2) has returned for is not lost with its machine.
 */
#ifndef FS_FS_H
#define FS_FS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/err.h"
#include "fs/protocol.h"

/* Requests that wait for locks at once: there have to be more threads than that. */
#define FS_WAITERS_MAX 200

struct fs_server;
/*
 * exports: their descriptors are the server's from now on; on failure they stay the caller's. proc_fd: /proc/self/fd, O_PATH,
 * borrowed, opened by this very process: how an O_PATH descriptor is opened again. It becomes the working folder, as
 * extended attributes are reached by a name there (getxattr("N")). Before the jail; starts no thread; sets the umask to 0
 * and blocks SIGIO in the calling thread and so in those started by it. SIGXFSZ has to be ignored. max_fds: how many
 * descriptors it may keep for what the guest names; beyond that, those used longest ago are found again by their names.
 */
int fs_server_new(const struct fs_export *exports, size_t n, int proc_fd, unsigned max_fds,
	struct fs_server **ret, struct err *e);
void fs_server_free(struct fs_server *s);
/*
 * How many files and folders the guest may keep at once, if that is fewer than the 4 million that it may by itself; looking up
 * one more is -ENOMEM. Before the first request.
 */
void fs_server_limit(struct fs_server *s, size_t nodes);

struct fuse_in_header; /* linux/fuse.h */

/*
 * Copies a request's header: out is what the driver wrote, which may change under our hands. So this is done once for each, and
 * all that is decided about it goes by the copy. False: it is too short for one, and gets no reply.
 */
bool fs_header(const struct iovec *out, unsigned n_out, struct fuse_in_header *ret);
/*
 * Whether a request may wait for others, or take long: it needs a thread (locks, fsync, large reads and writes). Of lock waits
 * the header alone tells.
 */
bool fs_may_block(const struct fuse_in_header *h, const struct iovec *out, unsigned n_out);
/*
 * Does one request: h is its header as fs_header copied it from out, in is room for the reply (virtio 5.11.6.1). From any thread,
 * many at once. Content goes straight between the buffers and the file; of the rest a copy is made before it is looked at.
 * interrupted: NULL, or this request's own flag for fs_interrupt.
 * Returns the bytes of the reply, 0 for a request that has none (FORGET) or room for none.
 */
size_t fs_handle(struct fs_server *s, const struct fuse_in_header *h, const struct iovec *out, unsigned n_out,
	const struct iovec *in, unsigned n_in, const atomic_bool *interrupted);
/*
 * The number of the request that is to be interrupted. False: this is none that interrupts (FUSE_INTERRUPT). To find that request
 * is the caller's, fs_handle does nothing for it.
 */
bool fs_interrupts(
	const struct fuse_in_header *h, const struct iovec *out, unsigned n_out, uint64_t *ret_unique);
/*
 * Sets the flag that a request was given, or will be: if it waits for a lock, or is about to, it ends with -EINTR. Anything else
 * is done as if nothing had been said. From any thread; does not wait.
 */
void fs_interrupt(struct fs_server *s, atomic_bool *flag);
/*
 * The driver has forgotten everything: so does the server. Ends requests that wait for locks (-EINTR), and returns when none is
 * under way; any that comes meanwhile is answered with an error.
 */
void fs_reset(struct fs_server *s);
/*
 * SIGIO of a lease (on its own thread or loop, after sigtimedwait or signalfd): gives up being alone where others have come. May
 * take a second. And whether it is alone again, every now and then.
 */
void fs_leases_look(struct fs_server *s);

#endif
