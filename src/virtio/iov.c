/* SPDX-License-Identifier: MIT */
/* Byte ranges of scattered buffers. Message framing is the driver's choice (virtio 1.2 section 2.7.4.1). */
#include <string.h>

#include "base/cleanup.h"
#include "virtio/virtqueue.h"

size_t iov_read(const struct iovec *iov, unsigned n, size_t off, void *dst, size_t len)
{
	size_t done = 0;

	for (unsigned i = 0; i < n && done < len; i++) {
		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		size_t part = MIN_OF(iov[i].iov_len - off, len - done);
		memcpy((uint8_t *)dst + done, (const uint8_t *)iov[i].iov_base + off, part);
		done += part;
		off = 0;
	}
	return done;
}

size_t iov_write(const struct iovec *iov, unsigned n, size_t off, const void *src, size_t len)
{
	size_t done = 0;

	for (unsigned i = 0; i < n && done < len; i++) {
		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		size_t part = MIN_OF(iov[i].iov_len - off, len - done);
		memcpy((uint8_t *)iov[i].iov_base + off, (const uint8_t *)src + done, part);
		done += part;
		off = 0;
	}
	return done;
}

unsigned iov_slice(struct iovec *dst, const struct iovec *iov, unsigned n, size_t off, size_t len)
{
	unsigned used = 0;

	for (unsigned i = 0; i < n && len > 0; i++) {
		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		size_t part = MIN_OF(iov[i].iov_len - off, len);
		dst[used++] = (struct iovec){.iov_base = (uint8_t *)iov[i].iov_base + off, .iov_len = part};
		len -= part;
		off = 0;
	}
	return used;
}
