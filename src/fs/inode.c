/* SPDX-License-Identifier: MIT */
/*
 * What the guest may name. A node is one file of the host, whatever its names; it has a descriptor (O_PATH) or can be found
 * again by the name that it was seen under last, and is then compared: another file in its place is -ESTALE, on which the
 * guest's kernel looks the name up anew.
 */
#include "server.h"

#include <fcntl.h>
#include <string.h>

#include "base/io.h"

pthread_mutex_t *node_lock(struct fs_server *s, const struct node *n)
{
	return &s->stripes[n->id % NODE_STRIPES];
}

static size_t hash_u64(uint64_t v)
{
	return (size_t)((v * 0x9e3779b97f4a7c15ull) >> 20);
}

static struct node **id_slot(struct fs_server *s, uint64_t id)
{
	return &s->by_id[hash_u64(id) & (s->buckets - 1)];
}

static struct node **key_slot(struct fs_server *s, const struct export *x, dev_t dev, ino_t ino)
{
	return &s->by_key[hash_u64(ino ^ (uint64_t)dev << 40 ^ (uint64_t)(x - s->exports) << 24) &
			  (s->buckets - 1)];
}

static void lru_remove(struct node *n)
{
	if (!n->lru_next)
		return;
	n->lru_next->lru_prev = n->lru_prev;
	n->lru_prev->lru_next = n->lru_next;
	n->lru_next = n->lru_prev = NULL;
}

static void lru_add(struct fs_server *s, struct node *n)
{
	if (n->lru_next || n->fd < 0 || n->pinned || n->uses || !n->parent)
		return;
	n->lru_next = s->lru.lru_next;
	n->lru_prev = &s->lru;
	n->lru_next->lru_prev = n;
	s->lru.lru_next = n;
}

/* Closes what was used longest ago until at most `max` descriptors are left. They have names: closing them waits for nothing. */
static bool lru_shrink(struct fs_server *s, unsigned max)
{
	bool any = false;

	while (s->n_fds > max && s->lru.lru_prev != &s->lru) {
		struct node *n = s->lru.lru_prev;
		lru_remove(n);
		close_fd(&n->fd);
		s->n_fds--;
		any = true;
	}
	return any;
}

bool node_fds_shrink(struct fs_server *s)
{
	bool any;

	pthread_mutex_lock(&s->lock);
	any = lru_shrink(s, s->n_fds - s->n_fds / 4 - (s->n_fds ? 1 : 0));
	pthread_mutex_unlock(&s->lock);
	return any;
}

static void unlink_from(struct node **slot, struct node *n, bool by_id)
{
	for (; *slot; slot = by_id ? &(*slot)->id_next : &(*slot)->key_next)
		if (*slot == n) {
			*slot = by_id ? n->id_next : n->key_next;
			return;
		}
}

static void unhash(struct fs_server *s, struct node *n)
{
	if (!n->hashed)
		return;
	unlink_from(id_slot(s, n->id), n, true);
	if (n->export)
		unlink_from(key_slot(s, n->export, n->dev, n->ino), n, false);
	n->hashed = false;
	s->n_nodes--;
}

/* Takes it away, and then perhaps its parent, if nothing refers to it any more. */
static void node_reap(struct fs_server *s, struct node *n)
{
	while (n && !n->refs && !n->lookups && n != s->root && !(n->export && n->export->node == n)) {
		struct node *parent = n->parent;
		unhash(s, n);
		lru_remove(n);
		if (n->fd >= 0)
			s->n_fds--;
		n->id_next = s->dead;
		s->dead = n;
		if (parent)
			parent->refs--;
		n = parent;
	}
}

/* The end of every use of the lock: what was taken away is closed outside of it, as a file without a name goes with that. */
static void unlock(struct fs_server *s)
{
	struct node *dead = s->dead;

	s->dead = NULL;
	pthread_mutex_unlock(&s->lock);
	while (dead) {
		struct node *n = dead;
		dead = n->id_next;
		locks_drop_all(s, n);
		watch_drop(s, n);
		close_fd(&n->fd);
		free(n->name);
		free(n);
	}
}

static struct node *node_new(struct fs_server *s, struct export *x, int fd, const struct file_stat *fs)
{
	struct node *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->id = s->next_id++;
	n->export = x;
	n->fd = fd;
	if (fs) {
		n->dev = fs->st.st_dev;
		n->ino = fs->st.st_ino;
		n->btime_ns = fs->btime_ns;
		n->type = fs->st.st_mode & S_IFMT;
	}
	n->id_next = *id_slot(s, n->id);
	*id_slot(s, n->id) = n;
	if (x) {
		struct node **slot = key_slot(s, x, n->dev, n->ino);
		n->key_next = *slot;
		*slot = n;
	}
	n->hashed = true;
	s->n_nodes++;
	return n;
}

static struct node *find_key(struct fs_server *s, const struct export *x, const struct file_stat *fs)
{
	struct node *n = *key_slot(s, x, fs->st.st_dev, fs->st.st_ino);

	for (; n; n = n->key_next)
		if (n->export == x && n->dev == fs->st.st_dev && n->ino == fs->st.st_ino &&
			(n->fd >= 0 || (n->btime_ns == fs->btime_ns && n->type == (fs->st.st_mode & S_IFMT))))
			return n;
	return NULL;
}

/* More chains when there are many nodes; without memory the chains stay long. */
static void grow(struct fs_server *s)
{
	size_t old = s->buckets, want = old * 4;
	struct node **by_id, **by_key, **old_id = s->by_id, **old_key = s->by_key;

	if (s->n_nodes < old * 2)
		return;
	by_id = calloc(want, sizeof(*by_id));
	by_key = calloc(want, sizeof(*by_key));
	if (!by_id || !by_key) {
		free(by_id);
		free(by_key);
		return;
	}
	s->by_id = by_id;
	s->by_key = by_key;
	s->buckets = want;
	for (size_t i = 0; i < old; i++) {
		for (struct node *n = old_id[i], *next; n; n = next) {
			struct node **slot = id_slot(s, n->id);
			next = n->id_next;
			n->id_next = *slot;
			*slot = n;
		}
		for (struct node *n = old_key[i], *next; n; n = next) {
			struct node **slot = key_slot(s, n->export, n->dev, n->ino);
			next = n->key_next;
			n->key_next = *slot;
			*slot = n;
		}
	}
	free(old_id);
	free(old_key);
}

int nodes_init(struct fs_server *s)
{
	s->buckets = 1024;
	s->max_nodes = NODES_MAX;
	s->by_id = calloc(s->buckets, sizeof(struct node *));
	s->by_key = calloc(s->buckets, sizeof(struct node *));
	s->lru.lru_next = s->lru.lru_prev = &s->lru;
	s->next_id = FUSE_ROOT_ID;
	if (!s->by_id || !s->by_key || !(s->root = node_new(s, NULL, -1, NULL)))
		return -ENOMEM;
	s->root->type = S_IFDIR;
	for (size_t i = 0; i < s->n_exports; i++) {
		struct export *x = &s->exports[i];
		struct file_stat fs;
		int r = get_stat(x->e.fd, &fs);
		if (r < 0)
			return r;
		if (x->e.file ? !S_ISREG(fs.st.st_mode) : !S_ISDIR(fs.st.st_mode))
			return x->e.file ? -EINVAL : -ENOTDIR;
		if (!(x->node = node_new(s, x, x->e.fd, &fs)))
			return -ENOMEM;
		x->node->pinned = true;
	}
	return 0;
}

void nodes_reset(struct fs_server *s)
{
	/* What goes is collected first: reaping a node may reap others, and empties chains. */
	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < s->buckets; i++) {
		struct node *n = s->by_id[i];
		while (n) {
			struct node *next = n->id_next;
			n->lookups = 0;
			if (!n->refs && n != s->root && !(n->export && n->export->node == n)) {
				/* Its parents may be anywhere, also `next`: begin this chain again. */
				node_reap(s, n);
				next = s->by_id[i];
			}
			n = next;
		}
	}
	unlock(s);
}

void nodes_done(struct fs_server *s)
{
	if (!s->by_id || !s->by_key)
		goto out;
	nodes_reset(s);
	for (size_t i = 0; i < s->n_exports; i++)
		if (s->exports[i].node) {
			locks_drop_all(s, s->exports[i].node);
			free(s->exports[i].node);
		}
	free(s->root);
out:
	free(s->by_id);
	free(s->by_key);
}

struct node *node_get(struct fs_server *s, uint64_t id)
{
	struct node *n;

	pthread_mutex_lock(&s->lock);
	for (n = *id_slot(s, id); n && n->id != id; n = n->id_next)
		;
	/* What only something below it keeps is not the guest's to name. */
	if (n && !n->lookups && n != s->root && !(n->export && n->export->node == n))
		n = NULL;
	if (n)
		n->refs++;
	unlock(s);
	return n;
}

void node_ref(struct fs_server *s, struct node *n)
{
	pthread_mutex_lock(&s->lock);
	n->refs++;
	unlock(s);
}

void node_put(struct fs_server *s, struct node *n)
{
	if (!n)
		return;
	pthread_mutex_lock(&s->lock);
	n->refs--;
	node_reap(s, n);
	unlock(s);
}

struct node *node_parent(struct fs_server *s, struct node *n)
{
	struct node *parent;

	pthread_mutex_lock(&s->lock);
	if ((parent = n->parent))
		parent->refs++;
	unlock(s);
	return parent;
}

static bool use_fd(struct node *n)
{
	if (n->fd < 0)
		return false;
	n->uses++;
	lru_remove(n);
	return true;
}

void node_done_fd(struct fs_server *s, struct node *n)
{
	pthread_mutex_lock(&s->lock);
	if (--n->uses == 0) {
		lru_add(s, n);
		lru_shrink(s, s->max_fds);
	}
	unlock(s);
}

/* Gives n, whose parent has a descriptor, its own again. Under the lock, let go meanwhile; the caller has a reference. */
static int find_again(struct fs_server *s, struct node *n)
{
	struct node *parent = n->parent;
	char name[FS_NAME_MAX + 1];
	struct file_stat fs;
	int fd;

	snprintf(name, sizeof(name), "%s", n->name);
	use_fd(parent);
	parent->refs++;
	unlock(s);
	fd = open_child(s, parent->fd, name, &fs);
	pthread_mutex_lock(&s->lock);
	if (--parent->uses == 0)
		lru_add(s, parent);
	parent->refs--;
	node_reap(s, parent);
	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR ? -ESTALE : fd;
	if (fs.st.st_dev != n->dev || fs.st.st_ino != n->ino || fs.btime_ns != n->btime_ns ||
		(fs.st.st_mode & S_IFMT) != n->type) {
		close(fd);
		return -ESTALE;
	}
	if (n->fd >= 0) { /* another thread was faster */
		close(fd);
		return 0;
	}
	n->fd = fd;
	s->n_fds++;
	lru_add(s, n);
	return 0;
}

int node_fd(struct fs_server *s, struct node *n)
{
	int r = 0;

	if (n == s->root)
		return -EINVAL;
	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; r == 0 && !use_fd(n); i++) {
		struct node *top = n;
		unsigned depth = 0;
		while (top->parent && top->parent->fd < 0 && depth++ < DEPTH_MAX)
			top = top->parent;
		if (!top->parent || depth > DEPTH_MAX || i > 2 * DEPTH_MAX) {
			r = -ESTALE;
			break;
		}
		top->refs++;
		r = find_again(s, top);
		top->refs--;
		/* Not reaped here: what it is above of, or n itself, still refers to it; if not, it has lookups or the caller's. */
		if (top != n)
			node_reap(s, top);
	}
	unlock(s);
	return r < 0 ? r : n->fd;
}

/* Where it is found again. Under the lock. */
static void set_name(struct fs_server *s, struct node *n, struct node *parent, const char *name)
{
	struct node *old = n->parent;
	char *copy;

	if (n->export->node == n || (old == parent && n->name && strcmp(n->name, name) == 0))
		return;
	/* A folder cannot lie below itself: the host may have moved them between two looks at them. */
	for (struct node *up = parent; up; up = up->parent)
		if (up == n)
			return;
	if (!(copy = strdup(name)))
		return; /* the old one is a guess as good */
	free(n->name);
	n->name = copy;
	parent->refs++;
	n->parent = parent;
	if (old) {
		old->refs--;
		node_reap(s, old);
	}
}

int node_found(struct fs_server *s, struct export *x, struct node *parent, const char *name, int fd,
	const struct file_stat *fs, uint64_t lookups, struct node **ret)
{
	struct node *n;
	int r = 0;

	pthread_mutex_lock(&s->lock);
	n = find_key(s, x, fs);
	if (!n) {
		if (s->n_nodes >= s->max_nodes || !(n = node_new(s, x, fd, fs))) {
			r = -ENOMEM;
			goto out;
		}
		fd = -1;
		s->n_fds++;
		grow(s);
	} else if (n->fd < 0) {
		n->fd = fd;
		fd = -1;
		s->n_fds++;
	}
	if (name && parent) {
		set_name(s, n, parent, name);
		n->pinned = n->export->node == n || !n->parent;
	} else if (!n->parent) {
		n->pinned = true;
	}
	n->lookups += lookups;
	n->refs++;
	lru_add(s, n);
	lru_shrink(s, s->max_fds);
	*ret = n;
out:
	unlock(s);
	close_fd(&fd);
	return r;
}

void node_unnamed(struct fs_server *s, struct export *x, int fd)
{
	struct file_stat fs;
	struct node *n;

	if (get_stat(fd, &fs) == 0) {
		pthread_mutex_lock(&s->lock);
		if ((n = find_key(s, x, &fs)) && n->export->node != n) {
			if (n->fd < 0) {
				n->fd = fd;
				fd = -1;
				s->n_fds++;
			}
			n->pinned = true;
			lru_remove(n);
		}
		unlock(s);
	}
	close_fd(&fd);
}

void node_forget(struct fs_server *s, uint64_t id, uint64_t count)
{
	struct node *n;

	pthread_mutex_lock(&s->lock);
	for (n = *id_slot(s, id); n && n->id != id; n = n->id_next)
		;
	if (n && n != s->root && n->export->node != n) {
		n->lookups -= MIN_OF(n->lookups, count);
		node_reap(s, n);
	}
	unlock(s);
}

int reopen(struct fs_server *s, int fd, int flags)
{
	struct fd_name name = fd_name(fd);

	for (;;) {
		/* A link in proc(5) to what the descriptor is: followed it is that file, wherever it has gone. */
		int new = openat(s->proc_fd, name.text, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
		if (new >= 0)
			return new;
		if (errno == EINTR)
			continue;
		if (errno != EMFILE || !node_fds_shrink(s))
			return errno == EMFILE ? -ENFILE : -errno;
	}
}

int open_child(struct fs_server *s, int dirfd, const char *name, struct file_stat *ret)
{
	for (;;) {
		/* Of one component this follows nothing. Not openat2, whose mode the jail's filter could not see. */
		int fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		fd = fd < 0 ? -errno : fd;
		if (fd == -EINTR || (fd == -EMFILE && node_fds_shrink(s)))
			continue;
		if (fd < 0)
			return fd == -EMFILE ? -ENFILE : fd;
		int r = get_stat(fd, ret);
		if (r < 0) {
			close(fd);
			return r;
		}
		return fd;
	}
}
