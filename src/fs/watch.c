/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * Programs of the box that wait for changes of files (inotify) hear of those that the host, or another box, makes in what is
 * shared. The guest's kernel says which files and folders somebody in it watches, and for what (FUSE_WATCH); those alone are
 * watched here, so that a box in which nobody does costs nothing. Events are the reply to a request that the guest's kernel
 * always has here (FUSE_WATCH_EVENTS, from its first watch on), on a thread that waits for it. What is heard lies in the
 * kernel's queue until then, which is bounded (fanotify(7), max_queued_events): what does not fit is one event that says so.
 *
 * fanotify(7), as any user may have it: marks of single files and folders. It says who made a change only where that was this
 * very process, which is what is needed: the box's own changes come from here, and its kernel has told of them already. What an
 * event is about is told as a file handle, never by a descriptor; it is compared with that of each watched node, and opens
 * nothing. For a move to be one event, and for an event to name the file as well as its folder, it takes Linux 5.17. An older
 * kernel, or a file system without handles, tells the box nothing.
 *
 * A watch keeps its node's descriptor in use, and goes with the node.
 */
#include "server.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/statfs.h>

#include "watch.h"

#ifndef AT_HANDLE_FID
#define AT_HANDLE_FID AT_REMOVEDIR /* Linux 6.5: also where the handle could open nothing */
#endif

enum {
	WATCHES_MAX =
		8192, /* each keeps a file of the host in its kernel's memory, and a user has a limit for all boxes together */
	REPLY_MAX = 4096,
};

/* What happens to a file and is told to who watches its folder as well; to a file or folder itself. Numbers are inotify's. */
#define OF_CHILDREN (FAN_MODIFY | FAN_ATTRIB | FAN_CLOSE_WRITE)
#define OF_SELF	    (OF_CHILDREN | FAN_MOVE_SELF)

struct handle_id {
	__kernel_fsid_t fsid;
	int type;
	unsigned len;
	const unsigned char *bytes;
};

struct watch {
	struct watch *next;
	struct node *node;
	uint32_t mask;	 /* what the guest waits for */
	uint64_t marked; /* as fanotify_mark(2) has it */
	struct handle_id id;
	unsigned char bytes[MAX_HANDLE_SZ];
};

/* ---- the table ---- */

static struct watch **slot_of(struct watches *w, const struct handle_id *id)
{
	uint64_t h = 0xcbf29ce484222325ull; /* FNV-1a */

	for (unsigned i = 0; i < id->len; i++)
		h = (h ^ id->bytes[i]) * 0x100000001b3ull;
	return &w->table[(h >> 24) % WATCH_SLOTS];
}

static bool is_same(const struct handle_id *a, const struct handle_id *b)
{
	return a->type == b->type && a->len == b->len && memcmp(&a->fsid, &b->fsid, sizeof(a->fsid)) == 0 &&
	       memcmp(a->bytes, b->bytes, a->len) == 0;
}

static int mark(struct fs_server *s, unsigned what, uint64_t mask, int fd)
{
	return fanotify_mark(s->watches.fan_fd, what, mask, s->proc_fd, fd_name(fd).text) < 0 ? -errno : 0;
}

/* Under the lock. One file that is shared twice has two watches and one mark. */
static void unmark(struct fs_server *s, const struct watch *gone)
{
	for (struct watch *o = *slot_of(&s->watches, &gone->id); o; o = o->next)
		if (is_same(&o->id, &gone->id))
			return;
	(void)mark(s, FAN_MARK_REMOVE, gone->marked, gone->node->fd);
}

bool watch_drop(struct fs_server *s, struct node *n)
{
	struct watches *w = &s->watches;
	struct watch *gone, **p;

	pthread_mutex_lock(&w->lock);
	if ((gone = n->watch)) {
		for (p = slot_of(w, &gone->id); *p != gone; p = &(*p)->next)
			;
		*p = gone->next;
		n->watch = NULL;
		w->n--;
		unmark(s, gone);
	}
	pthread_mutex_unlock(&w->lock);
	free(gone);
	return gone != NULL;
}

void watches_reset(struct fs_server *s)
{
	struct watches *w = &s->watches;

	pthread_mutex_lock(&w->lock);
	if (w->fan_fd >= 0)
		(void)fanotify_mark(w->fan_fd, FAN_MARK_FLUSH, 0, s->proc_fd, ".");
	for (size_t i = 0; i < WATCH_SLOTS; i++)
		for (struct watch *gone; (gone = w->table[i]);) {
			w->table[i] = gone->next;
			gone->node->watch = NULL;
			node_done_fd(s, gone->node);
			free(gone);
		}
	w->n = 0;
	pthread_mutex_unlock(&w->lock);
	atomic_store(&w->ended, false);
}

int watches_init(struct fs_server *s)
{
	struct watches *w = &s->watches;

	pthread_mutex_init(&w->lock, NULL);
	w->fan_fd = -1;
	w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return w->wake_fd < 0 ? -errno : 0;
}

void watches_done(struct fs_server *s)
{
	close_fd(&s->watches.fan_fd);
	close_fd(&s->watches.wake_fd);
	pthread_mutex_destroy(&s->watches.lock);
}

void watches_wake(struct fs_server *s)
{
	const uint64_t one = 1;

	(void)!write(s->watches.wake_fd, &one, sizeof(one));
}

/* ---- what is to be watched ---- */

/* Not before somebody watches: a user has 128 of these (fanotify(7), max_user_groups). -ENOSYS: not in this kernel. */
static int open_group(struct watches *w)
{
	int r = 0;

	pthread_mutex_lock(&w->lock);
	if (w->fan_fd < 0) {
		w->fan_fd = fanotify_init(WATCH_GROUP_FLAGS, O_RDONLY);
		if (w->fan_fd < 0)
			r = errno == EINVAL || errno == EPERM ? -ENOSYS : -errno;
	}
	pthread_mutex_unlock(&w->lock);
	return r;
}

static int get_handle(struct fs_server *s, int fd, struct watch *ret)
{
	union {
		struct file_handle h;
		char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} u = {.h.handle_bytes = MAX_HANDLE_SZ};
	struct fd_name name = fd_name(fd);
	struct statfs fs;
	int mount, r;

	r = name_to_handle_at(s->proc_fd, name.text, &u.h, &mount, AT_SYMLINK_FOLLOW | AT_HANDLE_FID);
	if (r < 0 && errno == EINVAL) {
		u.h.handle_bytes = MAX_HANDLE_SZ;
		r = name_to_handle_at(s->proc_fd, name.text, &u.h, &mount, AT_SYMLINK_FOLLOW);
	}
	if (r < 0 || fstatfs(fd, &fs) < 0)
		return -errno;
	if (u.h.handle_bytes > MAX_HANDLE_SZ)
		return -EOVERFLOW;
	memcpy(ret->bytes, u.h.f_handle, u.h.handle_bytes);
	ret->id = (struct handle_id){.type = u.h.handle_type, .len = u.h.handle_bytes, .bytes = ret->bytes};
	memcpy(&ret->id.fsid, &fs.f_fsid, sizeof(ret->id.fsid));
	return 0;
}

/* Of what the guest waits for. That a link goes is an attribute's change, and may be the end of the file (told). */
static uint64_t mask_of(const struct node *n, uint32_t wanted)
{
	uint64_t mask = (wanted & OF_SELF) | FAN_ATTRIB;

	if (n->type != S_IFDIR)
		return mask;
	/* The end of a watched folder is told as the end of an entry in the one above, if that is watched. */
	mask |= (wanted & FAN_CREATE) | FAN_DELETE | FAN_ONDIR | (wanted & FAN_EVENT_ON_CHILD);
	return wanted & (FAN_MOVED_FROM | FAN_MOVED_TO) ? mask | FAN_RENAME : mask;
}

/*
 * Marks and notes it, both under the lock: a file may be shared twice, and the end of its other watch must not take this mark
 * along. A use of the node's descriptor becomes the watch's. 1: it had one already. What is waited for only grows then, as
 * requests of several processes of the box may overtake each other.
 */
static int insert(struct fs_server *s, struct watch *new, int fd)
{
	struct watches *w = &s->watches;
	struct watch *have, **slot = slot_of(w, &new->id);
	int r = 0;

	pthread_mutex_lock(&w->lock);
	have = new->node->watch;
	if (!have && w->n >= MIN_OF(s->max_fds / 2, (unsigned)WATCHES_MAX))
		r = -ENOSPC;
	else
		r = mark(s, FAN_MARK_ADD, new->marked, fd);
	if (r == 0 && have) {
		have->mask |= new->mask;
		have->marked |= new->marked;
		r = 1;
	} else if (r == 0) {
		new->next = *slot;
		*slot = new;
		new->node->watch = new;
		w->n++;
	}
	pthread_mutex_unlock(&w->lock);
	return r;
}

static int watch_add(struct fs_server *s, struct node *n, int fd, uint32_t wanted)
{
	struct watch *new;
	int r = open_group(&s->watches);

	if (r < 0)
		return r;
	if (!(new = calloc(1, sizeof(*new))))
		return -ENOMEM;
	new->node = n;
	new->mask = wanted;
	new->marked = mask_of(n, wanted);
	r = get_handle(s, fd, new);
	if (r == 0)
		r = insert(s, new, fd);
	if (r != 0)
		free(new);
	return r;
}

int op_watch(struct request *r)
{
	struct fuse_watch_in in;
	struct node *n = r->node;
	int fd, err;

	memcpy(&in, r->body, sizeof(in));
	if (n == r->s->root) {
		if (in.mask)
			return -EINVAL;
		atomic_store(&r->s->watches.ended, true);
		watches_wake(r->s);
		return 0;
	}
	if (n->type != S_IFDIR && n->type != S_IFREG)
		return -EOPNOTSUPP;
	if (!in.mask) {
		if (watch_drop(r->s, n))
			node_done_fd(r->s, n);
		return 0;
	}
	if ((fd = node_fd(r->s, n)) < 0)
		return fd;
	err = watch_add(r->s, n, fd, in.mask);
	if (err != 0)
		node_done_fd(r->s, n);
	return err < 0 ? err : 0;
}

/* ---- what has happened ---- */

struct told {
	bool lost;
	size_t len;
	char buf[REPLY_MAX];
};

static void add_record(
	struct told *t, uint64_t node, uint32_t mask, uint32_t cookie, const char *name, bool gone)
{
	struct fuse_watch_event ev = {.nodeid = node,
		.mask = mask,
		.cookie = cookie,
		.namelen = (uint32_t)(name ? strlen(name) : 0),
		.flags = gone ? FUSE_WATCH_GONE : 0};
	size_t len = FUSE_WATCH_EVENT_LEN(ev.namelen);

	if (ev.namelen > FS_NAME_MAX || len > sizeof(t->buf) - t->len) {
		t->lost = true;
		return;
	}
	memset(t->buf + t->len, 0, len);
	memcpy(t->buf + t->len, &ev, sizeof(ev));
	if (name)
		memcpy(t->buf + t->len + sizeof(ev), name, ev.namelen);
	t->len += len;
}

/* What the guest watches has no name left. As the kernel knows it: no server of files is asked. */
static bool is_gone(const struct node *n)
{
	struct statx x;

	return n->export->node != n &&
	       statx(n->fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_NLINK, &x) == 0 &&
	       (x.stx_mask & STATX_NLINK) && x.stx_nlink == 0;
}

/* Each kind is a record of its own, in the order in which they mostly come: the kernel puts equal events together. */
static void tell(struct fs_server *s, struct told *t, const struct handle_id *id, uint32_t mask,
	uint32_t cookie, const char *name, bool may_be_gone)
{
	static const uint32_t kinds[] = {FAN_CREATE, FAN_MODIFY, FAN_ATTRIB, FAN_CLOSE_WRITE, FAN_MOVED_FROM,
		FAN_MOVED_TO, FAN_DELETE, FAN_MOVE_SELF};
	struct watches *w = &s->watches;

	pthread_mutex_lock(&w->lock);
	for (const struct watch *a = *slot_of(w, id); a; a = a->next) {
		if (!is_same(&a->id, id))
			continue;
		for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
			if (mask & a->mask & kinds[i])
				add_record(
					t, a->node->id, kinds[i] | (mask & FAN_ONDIR), cookie, name, false);
		if (may_be_gone && is_gone(a->node))
			add_record(t, a->node->id, 0, 0, NULL, true);
	}
	pthread_mutex_unlock(&w->lock);
}

/* One piece of an event: a file or folder, or an entry of a folder. False: it is not as it should be. */
static bool tell_info(struct fs_server *s, struct told *t, uint32_t mask, const char *at, size_t len)
{
	struct fanotify_event_info_fid info;
	struct file_handle h;
	const size_t head = offsetof(struct fanotify_event_info_fid, handle) + sizeof(h);
	const char *name = NULL;

	if (len < head)
		return false;
	memcpy(&info, at, offsetof(struct fanotify_event_info_fid, handle));
	memcpy(&h, at + offsetof(struct fanotify_event_info_fid, handle), sizeof(h));
	if (h.handle_bytes > len - head)
		return false;
	const struct handle_id id = {.fsid = info.fsid,
		.type = h.handle_type,
		.len = h.handle_bytes,
		.bytes = (const unsigned char *)at + head};
	const uint32_t ondir = mask & FAN_ONDIR;

	switch (info.hdr.info_type) {
	case FAN_EVENT_INFO_TYPE_DFID_NAME:
	case FAN_EVENT_INFO_TYPE_OLD_DFID_NAME:
	case FAN_EVENT_INFO_TYPE_NEW_DFID_NAME:
		name = at + head + h.handle_bytes;
		if (!memchr(name, '\0', len - head - h.handle_bytes))
			return false;
	}
	if (info.hdr.info_type == FAN_EVENT_INFO_TYPE_OLD_DFID_NAME)
		tell(s, t, &id, FAN_MOVED_FROM | ondir, s->watches.cookie, name, false);
	else if (info.hdr.info_type == FAN_EVENT_INFO_TYPE_NEW_DFID_NAME)
		tell(s, t, &id, FAN_MOVED_TO | ondir, s->watches.cookie, name, false);
	else if (name && strcmp(name, ".") != 0)
		tell(s, t, &id, mask & (OF_CHILDREN | FAN_CREATE | FAN_DELETE | FAN_ONDIR), 0, name, false);
	else
		tell(s, t, &id, mask & (OF_SELF | FAN_ONDIR), 0, NULL, mask & (FAN_ATTRIB | FAN_DELETE));
	return true;
}

/* m: a copy of what the event begins with, as that may be at an address that is a multiple of four only. */
static void tell_event(
	struct fs_server *s, struct told *t, const struct fanotify_event_metadata *m, const char *event)
{
	const char *at = event + m->metadata_len, *end = event + m->event_len;

	*t = (struct told){.lost = (m->mask & FAN_Q_OVERFLOW) != 0};
	/* Done here, for the box: its kernel has told already. */
	if (m->pid == getpid() && !t->lost)
		return;
	if ((m->mask & FAN_RENAME) && ++s->watches.cookie == 0)
		s->watches.cookie = 1;
	while (!t->lost && end - at >= (ptrdiff_t)sizeof(struct fanotify_event_info_header)) {
		struct fanotify_event_info_header h;
		memcpy(&h, at, sizeof(h));
		if (h.len < sizeof(h) || h.len > end - at || !tell_info(s, t, (uint32_t)m->mask, at, h.len))
			t->lost = true;
		at += h.len;
	}
	if (t->lost) {
		t->lost = false;
		t->len = 0;
		add_record(t, 0, FAN_Q_OVERFLOW, 0, NULL, false);
	}
}

/* Waits until there are events. 1, or -EINTR: this request is to end, -ENOTCONN: and none comes after it. */
static int wait_events(struct request *r)
{
	struct watches *w = &r->s->watches;
	uint64_t n;

	for (;;) {
		if (atomic_load(&w->ended))
			return -ENOTCONN;
		if (atomic_load(&r->s->ending) || (r->interrupted && atomic_load(r->interrupted)))
			return -EINTR;
		pthread_mutex_lock(&w->lock);
		struct pollfd p[] = {
			{.fd = w->wake_fd, .events = POLLIN}, {.fd = w->fan_fd, .events = POLLIN}};
		pthread_mutex_unlock(&w->lock);
		if (poll(p, ARRAY_LEN(p), -1) < 0)
			return -errno;
		if (p[1].revents)
			return 1;
		(void)!read(w->wake_fd, &n, sizeof(n));
	}
}

/* 1: there are some, 0: none now, or -errno. */
static int read_events(struct watches *w)
{
	pthread_mutex_lock(&w->lock);
	const int fd = w->fan_fd;
	pthread_mutex_unlock(&w->lock);
	ssize_t n = fd < 0 ? 0 : read(fd, w->buf, sizeof(w->buf));
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	w->at = 0;
	w->len = (size_t)n;
	return n > 0;
}

/* What was read and not yet told. False: no room for the next. */
static bool tell_read(struct request *r)
{
	struct watches *w = &r->s->watches;
	struct told t;

	while (w->at < w->len) {
		struct fanotify_event_metadata m;
		if (w->len - w->at < sizeof(m))
			break;
		memcpy(&m, w->buf + w->at, sizeof(m));
		if (m.event_len < sizeof(m) || m.event_len > w->len - w->at || m.metadata_len > m.event_len)
			break;
		tell_event(r->s, &t, &m, (const char *)w->buf + w->at);
		if (t.len > reply_room(r)) {
			if (r->payload)
				return false;
			t.len = 0; /* it would never fit */
			add_record(&t, 0, FAN_Q_OVERFLOW, 0, NULL, false);
		}
		(void)reply_add(r, t.buf, t.len);
		w->at += m.event_len;
	}
	w->at = w->len = 0;
	return true;
}

int op_watch_events(struct request *r)
{
	struct watches *w = &r->s->watches;
	int err = 1;

	if (atomic_exchange(&w->waiting, true))
		return -EINTR; /* on which the guest asks again, later */
	while (err > 0 && tell_read(r)) {
		err = read_events(w);
		if (err == 0 && r->payload == 0)
			err = wait_events(r);
	}
	atomic_store(&w->waiting, false);
	return r->payload ? 0 : err;
}
