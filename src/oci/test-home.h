/* SPDX-License-Identifier: MIT */
/* For tests: an image store in a home folder of its own, removed at the end. */
#ifndef OCI_TEST_HOME_H
#define OCI_TEST_HOME_H

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "state/event.h"
#include "store.h"

struct home {
	char path[64];
	struct state *st;
	struct oci_store *s;
};

static inline int home_open(struct home *h)
{
	struct err e = {0};

	if (state_open(&h->st, &e) < 0 || event_init(h->st, &e) < 0 || oci_store_open(h->st, &h->s, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		return -1;
	}
	return 0;
}

static inline void home_close(struct home *h)
{
	oci_store_close(h->s);
	state_close(h->st);
	h->s = NULL;
	h->st = NULL;
}

static inline int home_setup(void **state)
{
	struct home *h = calloc(1, sizeof(*h));
	const char *tmp = getenv("TMPDIR");

	*state = h;
	snprintf(h->path, sizeof(h->path), "%.40s/a3s-oci-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(h->path))
		return -1;
	setenv("A3S_HOME", h->path, 1);
	return home_open(h);
}

static inline int home_teardown(void **state)
{
	struct home *h = *state;

	home_close(h);
	int r = io_remove_tree_at(AT_FDCWD, h->path);
	free(h);
	return r;
}

/* Files in a folder of the store. */
static inline size_t home_count(int dirfd)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fdopendir(fd);
	size_t n = 0;

	for (struct dirent *de; (de = readdir(d));)
		n += de->d_name[0] != '.';
	closedir(d);
	return n;
}

static inline size_t home_files(struct home *h)
{
	return home_count(h->s->sha256_fd) + home_count(h->s->sha512_fd) + home_count(h->s->disks_fd) +
	       home_count(h->s->tmp_fd);
}

#endif
