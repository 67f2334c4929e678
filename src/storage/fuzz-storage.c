/* SPDX-License-Identifier: MIT */
/*
 * The upper layer of disks that lie: what comes of one is a tree that may be sent, or an error with a reason. Without the process
 * that confines it, so that the library's faults are seen. Input: the disk.
 */
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
	struct buf frame;
	uint64_t size, next; /* of the last file */
	bool ended;
};

static int on_entry(void *data, const struct wire_entry *en, struct err *e)
{
	struct seen *s = data;

	s->size = S_ISREG(en->mode) ? en->size : 0;
	s->next = 0;
	buf_consume(&s->frame, s->frame.len);
	return wire_put_entry(&s->frame, en) < 0 ? err_set(e, -EBADMSG, "an entry that cannot be sent") : 0;
}

static int on_content(void *data, uint64_t offset, const void *bytes, size_t len, struct err *e)
{
	struct seen *s = data;
	volatile uint8_t byte = *(const uint8_t *)bytes + ((const uint8_t *)bytes)[len - 1];

	(void)byte, (void)e;
	if (offset < s->next || len > s->size || offset > s->size - len)
		abort();
	s->next = offset + len;
	return 0;
}

static int on_end(void *data, struct err *e)
{
	(void)e;
	((struct seen *)data)->ended = true;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err e = {0};
	const struct ext2 *lib = ext2_get(&e);
	int fd = memfd_create("disk", MFD_CLOEXEC);

	if (!lib || fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	for (int content = 0; content < 2; content++) {
		struct seen s = {0};
		struct tree_sink to = {on_entry, on_content, on_end, &s};
		struct walk_opts o = {.content = content};
		e = (struct err){0};
		int r = walk_upper(lib, fd, size, &o, &to, &e);
		if (r < 0 ? s.ended || (!e.msg[0] && r != -ENOENT) : !s.ended)
			abort();
		buf_done(&s.frame);
	}
	close(fd);
	return 0;
}
