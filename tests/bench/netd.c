/* SPDX-License-Identifier: MIT */
/*
 * What a frame from box to box costs in a network's process.
 *
 *     bench-netd [SECONDS]
 *
 * A whole engine with two boxes, which are threads at the ends of stream sockets: one writes frames as fast as it can, the
 * other reads. Measured is the engine's own processor time, so that what else the host does matters little, and the wall
 * clock. With no policy at all, with one rule, and with 100 rules of which the last allows; the flow is established, so rules
 * should cost nothing. One line each: frame size, rules, frames per second, bytes per second, nanoseconds of processor time.
 */
#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/io.h"
#include "test-world.h"

enum { BATCH_BYTES = 256 << 10, ROUNDS = 5 };

struct side {
	int fd;
	const uint8_t *batch;
	size_t len;
	atomic_ullong bytes;
	atomic_bool stop;
};

static void *writer(void *data)
{
	struct side *s = data;

	while (!s->stop && io_write_full(s->fd, s->batch, s->len) == 0)
		;
	return NULL;
}

static void *reader(void *data)
{
	static uint8_t buf[1 << 20];
	struct side *s = data;
	ssize_t n;

	while ((n = read(s->fd, buf, sizeof(buf))) > 0)
		s->bytes += (unsigned long long)n;
	return NULL;
}

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* n rules of which only the last is about the packet, and allows it. */
static char *rules(unsigned n)
{
	char *text = str_printf("{\"egress\":[");

	for (unsigned i = 0; i < n && text; i++) {
		char *more =
			i + 1 < n ? str_printf("%s{\"box\":\"box:b0\",\"peer\":\"cidr:10.77.%u.0/"
					       "24\",\"ports\":\"%u\","
					       "\"action\":\"deny\"},",
					    text, i, 1000 + i)
				  : str_printf(
					    "%s{\"action\":\"allow\"}],\"ingress\":[{\"action\":\"allow\"}]}",
					    text);
		free(text);
		text = more;
	}
	return text;
}

/* One round. Returns nanoseconds of processor time per frame. */
static double measure(struct world *w, size_t payload, uint64_t ns, double *ret_frames, double *ret_bytes)
{
	static uint8_t batch[BATCH_BYTES + PKT_FRAME_MAX];
	struct side out = {.fd = w->fd[0], .batch = batch}, in = {.fd = w->fd[1]};
	const struct frame_of f = {.from = 0,
		.dst = world_addr(11, true),
		.proto = IPPROTO_UDP,
		.sport = 4000,
		.dport = 5000,
		.payload = payload};
	uint8_t *frame = batch + 4 + VNET_HDR_LEN;
	size_t len = frame_make(frame, &f), unit = 4 + VNET_HDR_LEN + len;
	const uint32_t n = htonl((uint32_t)(VNET_HDR_LEN + len));
	pthread_t threads[2];

	memset(batch, 0, 4 + VNET_HDR_LEN);
	memcpy(batch, &n, 4);
	for (out.len = unit; out.len + unit <= BATCH_BYTES; out.len += unit)
		memcpy(batch + out.len, batch, unit);
	const uint64_t rx = w->p[1]->stats.rx_frames, bytes = w->p[1]->stats.rx_bytes;
	const uint64_t tx = w->p[0]->stats.tx_frames;
	pthread_create(&threads[0], NULL, writer, &out);
	pthread_create(&threads[1], NULL, reader, &in);
	const uint64_t t0 = time_mono_ns(), c0 = cpu_ns();
	while (time_mono_ns() - t0 < ns)
		loop_turn(w->loop, 100);
	const uint64_t t1 = time_mono_ns(), c1 = cpu_ns();
	const double frames = (double)(w->p[1]->stats.rx_frames - rx);
	const double cost = (double)(c1 - c0) / (double)(w->p[0]->stats.tx_frames - tx);
	*ret_frames = frames / ((double)(t1 - t0) / 1e9);
	*ret_bytes = (double)(w->p[1]->stats.rx_bytes - bytes) / ((double)(t1 - t0) / 1e9);
	out.stop = true;
	port_free(w->p[0]);
	port_free(w->p[1]);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < 2; i++) {
		close_fd(&w->fd[i]);
		world_add(w, i, 0);
		io_set_nonblock(w->fd[i], false);
	}
	return cost;
}

int main(int argc, char **argv)
{
	static const size_t sizes[] = {18, 1400, 9000, 60000};
	static const unsigned counts[] = {0, 1, 100};
	const uint64_t ns = (uint64_t)((argc > 1 ? atof(argv[1]) : 5.0) * 1e9 / ROUNDS / ARRAY_LEN(sizes) /
				       ARRAY_LEN(counts));
	struct world w[ARRAY_LEN(counts)];

	signal(SIGPIPE, SIG_IGN);
	for (size_t c = 0; c < ARRAY_LEN(counts); c++) {
		char *text = counts[c] ? rules(counts[c]) : NULL;
		world_init(&w[c], counts[c] ? NET_ISOLATION_CUSTOM : NET_ISOLATION_NONE, text, 2);
		for (unsigned i = 0; i < 2; i++)
			io_set_nonblock(w[c].fd[i], false);
		free(text);
	}
	for (size_t s = 0; s < ARRAY_LEN(sizes); s++) {
		double best[ARRAY_LEN(counts)] = {0}, frames[ARRAY_LEN(counts)], bytes[ARRAY_LEN(counts)];
		for (int round = 0; round < ROUNDS; round++) { /* in turns: all have the same weather */
			for (size_t c = 0; c < ARRAY_LEN(counts); c++) {
				double f, b, cost = measure(&w[c], sizes[s], ns, &f, &b);
				if (best[c] != 0 && cost >= best[c])
					continue;
				best[c] = cost;
				frames[c] = f;
				bytes[c] = b;
			}
		}
		for (size_t c = 0; c < ARRAY_LEN(counts); c++)
			printf("%5zu bytes, %3u rules: %9.0f frames/s %7.1f MB/s %7.1f ns/frame, %.3f of "
			       "none\n",
				sizes[s] + 42, counts[c], frames[c], bytes[c] / 1e6, best[c],
				best[c] / best[0]);
	}
	for (size_t c = 0; c < ARRAY_LEN(counts); c++)
		world_done(&w[c]);
	return 0;
}
