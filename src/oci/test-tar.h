/* SPDX-License-Identifier: MIT */
/* For tests: writes tar archives into memory, byte by byte as asked. */
#ifndef OCI_TEST_TAR_H
#define OCI_TEST_TAR_H

#include <stdio.h>
#include <string.h>

#include "base/buf.h"

struct tar_entry {
	const char *name, *link;
	char type; /* '0' file, '1' hard link, '2' symbolic link, '3' '4' devices, '5' folder, '6' FIFO; 0:
		      file */
	unsigned mode, uid, gid, major, minor;
	long long mtime;
	const void *data;
	size_t size;
};

static inline void tar_pad(struct buf *b)
{
	static const char zeros[512];

	if (b->len % 512)
		buf_append(b, zeros, 512 - b->len % 512);
}

static inline void tar_octal(char *dst, int digits, unsigned long long v)
{
	while (digits-- > 0) {
		dst[digits] = (char)('0' + (v & 7));
		v >>= 3;
	}
}

/* Records for the next entry, which all go into one extended header. */
static char tar_records[8192];
static size_t tar_records_len;

static inline void tar_put(struct buf *b, const struct tar_entry *t)
{
	char h[512] = {0};
	unsigned sum = 0;

	if (tar_records_len) {
		size_t n = tar_records_len;
		tar_records_len = 0;
		tar_put(b, &(struct tar_entry){.name = "pax", .type = 'x', .data = tar_records, .size = n});
	}
	strncpy(h, t->name, 100);
	tar_octal(h + 100, 7, t->mode ? t->mode : 0644);
	tar_octal(h + 108, 7, t->uid);
	tar_octal(h + 116, 7, t->gid);
	tar_octal(h + 124, 11, t->size);
	tar_octal(h + 136, 11, t->mtime);
	memset(h + 148, ' ', 8);
	h[156] = t->type ? t->type : '0';
	if (t->link)
		strncpy(h + 157, t->link, 100);
	memcpy(h + 257, "ustar\00000", 8);
	tar_octal(h + 329, 7, t->major);
	tar_octal(h + 337, 7, t->minor);
	for (int i = 0; i < 512; i++)
		sum += (unsigned char)h[i];
	tar_octal(h + 148, 6, sum);
	buf_append(b, h, sizeof(h));
	if (t->size)
		buf_append(b, t->data, t->size);
	tar_pad(b);
}

/* A pax record for the next entry; value may hold any bytes. */
static inline void tar_pax(const char *key, const void *value, size_t n)
{
	char *record = tar_records + tar_records_len;
	size_t len = strlen(key) + n + 3, digits = 1, total;

	for (;; digits++) {
		char text[32];
		total = len + digits;
		if ((size_t)snprintf(text, sizeof(text), "%zu", total) == digits)
			break;
	}
	int k = sprintf(record, "%zu %s=", total, key);
	memcpy(record + k, value, n);
	record[total - 1] = '\n';
	tar_records_len += total;
}

static inline void tar_file(struct buf *b, const char *name, const void *data, size_t n)
{
	tar_put(b, &(struct tar_entry){.name = name, .data = data, .size = n});
}

static inline void tar_text(struct buf *b, const char *name, const char *text)
{
	tar_file(b, name, text, strlen(text));
}

static inline void tar_end(struct buf *b)
{
	static const char zeros[1024];

	buf_append(b, zeros, sizeof(zeros));
}

#endif
