/* SPDX-License-Identifier: MIT */
/* What the guest has open. Numbers are never used twice; what a number means is looked up, never computed. */
#include "server.h"

static struct handle **slot_of(struct fs_server *s, uint64_t id)
{
	return &s->handles[id % HANDLE_SLOTS];
}

static void handle_free(struct fs_server *s, struct handle *h)
{
	close_fd(&h->fd);
	pthread_mutex_destroy(&h->dir_lock);
	free(h->dir_buf);
	node_put(s, h->node);
	free(h);
}

int handle_new(
	struct fs_server *s, struct node *n, int fd, bool folder, bool cached, bool writable, uint64_t *ret)
{
	struct handle *h = calloc(1, sizeof(*h));
	struct handle **slot;

	if (!h) {
		close(fd);
		return -ENOMEM;
	}
	*h = (struct handle){.node = n,
		.fd = fd,
		.refs = 1,
		.folder = folder,
		.cached = cached,
		.writable = writable,
		.dir_off = -1};
	pthread_mutex_init(&h->dir_lock, NULL);
	node_ref(s, n);
	pthread_mutex_lock(&s->lock);
	if (s->n_handles >= HANDLES_MAX) {
		pthread_mutex_unlock(&s->lock);
		handle_free(s, h);
		return -ENFILE;
	}
	*ret = h->id = ++s->next_handle;
	slot = slot_of(s, h->id);
	h->next = *slot;
	*slot = h;
	s->n_handles++;
	pthread_mutex_unlock(&s->lock);
	return 0;
}

struct handle *handle_get(struct fs_server *s, uint64_t id, const struct node *n, bool folder)
{
	struct handle *h;

	pthread_mutex_lock(&s->lock);
	for (h = *slot_of(s, id); h && h->id != id; h = h->next)
		;
	if (h && (h->node != n || h->folder != folder))
		h = NULL;
	if (h)
		h->refs++;
	pthread_mutex_unlock(&s->lock);
	return h;
}

void handle_put(struct fs_server *s, struct handle *h)
{
	unsigned left;

	pthread_mutex_lock(&s->lock);
	left = --h->refs;
	pthread_mutex_unlock(&s->lock);
	if (!left)
		handle_free(s, h);
}

int handle_release(struct fs_server *s, uint64_t id, const struct node *n, bool folder)
{
	struct handle **slot, *h;

	pthread_mutex_lock(&s->lock);
	for (slot = slot_of(s, id); *slot && (*slot)->id != id; slot = &(*slot)->next)
		;
	h = *slot;
	if (h && h->node == n && h->folder == folder) {
		*slot = h->next;
		s->n_handles--;
	} else {
		h = NULL;
	}
	pthread_mutex_unlock(&s->lock);
	if (!h)
		return -EBADF;
	file_mark_closed(s, h);
	handle_put(s, h);
	return 0;
}

void handles_reset(struct fs_server *s)
{
	for (size_t i = 0; i < HANDLE_SLOTS; i++)
		for (;;) {
			struct handle *h;
			pthread_mutex_lock(&s->lock);
			if ((h = s->handles[i])) {
				s->handles[i] = h->next;
				s->n_handles--;
			}
			pthread_mutex_unlock(&s->lock);
			if (!h)
				break;
			file_mark_closed(s, h);
			handle_put(s, h);
		}
}
