/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/io.h"

char *str_printf(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	char *s;
	int n = vasprintf(&s, fmt, ap);
	va_end(ap);
	return n < 0 ? NULL : s;
}

char *str_dup(const char *s)
{
	return s ? strdup(s) : NULL;
}

void io_random(void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = getrandom((char *)buf + done, len - done, 0);
		if (n > 0)
			done += (size_t)n;
		else if (errno != EINTR)
			abort(); /* no kernel this program supports lacks getrandom */
	}
}

void hex_encode(char *dst, const void *src, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *s = src;

	for (size_t i = 0; i < len; i++) {
		dst[2 * i] = digits[s[i] >> 4];
		dst[2 * i + 1] = digits[s[i] & 15];
	}
	dst[2 * len] = '\0';
}

int hex_decode(void *dst, const char *src, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	uint8_t *d = dst;

	for (size_t i = 0; i < len; i++) {
		const char *hi = src[2 * i] ? strchr(digits, src[2 * i]) : NULL;
		const char *lo = hi && src[2 * i + 1] ? strchr(digits, src[2 * i + 1]) : NULL;
		if (!lo)
			return -EINVAL;
		d[i] = (uint8_t)((hi - digits) << 4 | (lo - digits));
	}
	return 0;
}

static uint64_t clock_ns(clockid_t id)
{
	struct timespec ts;
	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t time_mono_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

int64_t time_real_ns(void)
{
	return (int64_t)clock_ns(CLOCK_REALTIME);
}
