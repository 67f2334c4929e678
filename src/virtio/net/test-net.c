/* SPDX-License-Identifier: MIT */
/* The network device (virtio 1.2 section 5.1): frames both ways, waiting both ways, and the link. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "net/test-link.h"

static int setup(void **state)
{
	struct link *k = malloc(sizeof(*k));

	link_init(k, false, LINK_MTU);
	link_start(k, LINK_PLAIN | VIRTIO_F_EVENT_IDX);
	*state = k;
	return 0;
}

static int setup_mergeable(void **state)
{
	struct link *k = malloc(sizeof(*k));

	link_init(k, true, LINK_MTU);
	link_start(k, LINK_FEATURES | NET_F_MRG_RXBUF);
	*state = k;
	return 0;
}

static int teardown(void **state)
{
	link_done(*state);
	free(*state);
	return 0;
}

/* ---- 5.1.3, 5.1.4 ---- */

static void s5_1_4_configuration(void **state)
{
	static const uint8_t want[12] = {2, 0, 0, 1, 2, 3, 1, 0, 1, 0, LINK_MTU & 0xff, LINK_MTU >> 8};
	struct link *k = *state;
	uint8_t got[16];

	tdrv_config(&k->d, 0, got, sizeof(got));
	assert_memory_equal(got, want, sizeof(want));
	assert_memory_equal(got + 12, "\0\0\0\0", 4);
}

static void s5_1_3_features(void **state)
{
	struct link *k = *state;

	assert_true(tdrv_negotiate(&k->d, UINT64_MAX));
	/* A plain peer cannot send what has to be cut. */
	assert_false(k->d.features & (NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6));
	assert_true(k->d.features & NET_F_HOST_TSO4);
	assert_false(k->d.features & (1ULL << 17)); /* CTRL_VQ */
	const struct net_config c = {.mtu = 67};
	struct net_dev *n = NULL;
	assert_int_equal(net_new(k->loop, &c, &n), -EINVAL); /* 5.1.4.1 */
}

/* ---- frames ---- */

static void frames_go_both_ways(void **state)
{
	struct link *k = *state;
	uint8_t frame[LINK_FRAME], got[LINK_FRAME];
	uint64_t bytes = 0;

	for (unsigned i = 0; i < 300; i++) {
		size_t len = NET_ETH_LEN + link_random(k) % (LINK_MTU + 1);
		link_fill(k, frame, len);
		link_send(k, NULL, frame, len, link_random(k) % 20);
		assert_int_equal(peer_receive(k, got, sizeof(got)), len);
		assert_memory_equal(got, frame, len);
		link_reap(k);

		link_fill(k, frame, len);
		link_post(k, NET_HDR_LEN + LINK_FRAME, i & 1 ? 1 + link_random(k) % 400 + 100 : 0);
		link_kick_rx(k);
		peer_send(k, NULL, frame, len);
		struct net_hdr h;
		assert_int_equal(link_receive(k, &h, got, sizeof(got)), len);
		assert_memory_equal(got, frame, len);
		assert_true(h.flags == 0 && h.gso_type == 0 && h.num_buffers == 1);
		bytes += len;
	}
	struct net_stats s = link_stats(k);
	assert_true(s.rx_frames == 300 && s.tx_frames == 300 && s.rx_dropped == 0 && s.tx_dropped == 0);
	assert_true(s.rx_bytes == bytes && s.tx_bytes == bytes);
}

static void many_small_frames_keep_their_order(void **state)
{
	struct link *k = *state;
	uint8_t frame[64] = {0}, got[64];

	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 48; i++) {
			frame[20] = (uint8_t)i;
			link_send(k, NULL, frame, 21 + i % 40, 0);
		}
		for (unsigned i = 0; i < 48; i++) {
			assert_int_equal(peer_receive(k, got, sizeof(got)), 21 + i % 40);
			assert_int_equal(got[20], i);
		}
		tdrv_settle(&k->d);
		assert_int_equal(link_reap(k), 48);
	}
}

static void what_gathers_is_bounded(void **state)
{
	struct link *k = *state;
	uint8_t frame[1024] = {0}, got[1024];

	for (unsigned i = 0; i < TDRV_QSIZE; i++) { /* more than NET_OUT_GATHER, in one turn */
		frame[20] = (uint8_t)i;
		link_send(k, NULL, frame, sizeof(frame), 0);
	}
	for (unsigned i = 0; i < TDRV_QSIZE; i++) {
		assert_int_equal(peer_receive(k, got, sizeof(got)), sizeof(frame));
		assert_int_equal(got[20], i);
	}
}

static void a_byte_at_a_time(void **state)
{
	struct link *k = *state;
	uint8_t frame[LINK_FRAME], got[LINK_FRAME];
	uint32_t prefix;

	for (size_t len = 14; len < 120; len += 53) {
		link_fill(k, frame, len);
		link_post(k, NET_HDR_LEN + LINK_FRAME, 0);
		prefix = htonl((uint32_t)len);
		for (size_t i = 0; i < 4 + len; i++) {
			peer_write(k, i < 4 ? (uint8_t *)&prefix + i : frame + i - 4, 1);
			assert_false(tdrv_used(&k->d, NET_RX, NULL, NULL));
			for (int turn = 0; turn < 3; turn++)
				assert_int_equal(loop_turn(k->loop, 0), 0);
		}
		assert_int_equal(link_receive(k, NULL, got, sizeof(got)), len);
		assert_memory_equal(got, frame, len);
	}
}

static void s5_1_6_2_malformed_chains_are_dropped(void **state)
{
	struct link *k = *state;
	static uint8_t big[NET_FRAME_MAX + 1];

	link_send(k, NULL, big, 0, 0);
	link_send(k, NULL, big, NET_ETH_LEN - 1, 0);
	link_send(k, NULL, big, LINK_FRAME + 1, 0);
	link_send(k, NULL, big, NET_FRAME_MAX, 0);
	link_send(k, NULL, big, NET_FRAME_MAX + 1, 0);
	const struct tdrv_buf none[2] = {
		{tdrv_alloc(&k->d, 64, NULL), 11, false}, {tdrv_alloc(&k->d, 64, NULL), 64, true}};
	tdrv_add(&k->d, NET_TX, none, 1);
	tdrv_add(&k->d, NET_TX, none + 1, 1);
	tdrv_kick(&k->d, NET_TX);
	peer_expect_nothing(k);
	assert_int_equal(link_stats(k).tx_dropped, 7);
	assert_int_equal(link_reap(k), 7);
	link_send(k, NULL, big, LINK_FRAME, 0);
	assert_int_equal(peer_receive(k, big, sizeof(big)), LINK_FRAME);
}

static void s2_7_5_descriptor_outside_of_memory(void **state)
{
	struct link *k = *state;
	const struct tdrv_buf bad = {TDRV_GPA + TDRV_MEM_LEN - 50, 100, false};
	uint8_t frame[100] = {0}, got[100];

	link_send(k, NULL, frame, 60, 0);
	tdrv_add(&k->d, NET_TX, &bad, 1);
	tdrv_kick(&k->d, NET_TX);
	tdrv_expect_broken(&k->d);
	assert_int_equal(peer_receive(k, got, sizeof(got)), 60); /* what came before it is sent */
	link_start(k, LINK_PLAIN);
	link_send(k, NULL, frame, 70, 0);
	assert_int_equal(peer_receive(k, got, sizeof(got)), 70);
}

/* ---- receive buffers: 5.1.6.3 ---- */

static void s5_1_6_3_1_too_small_a_buffer_drops_the_frame(void **state)
{
	struct link *k = *state;
	uint8_t frame[1000], got[1000];

	memset(frame, 1, sizeof(frame));
	link_post(k, NET_HDR_LEN + 999, 0);
	link_kick_rx(k);
	peer_send(k, NULL, frame, 1000);
	peer_send(k, NULL, frame, 999);
	assert_int_equal(link_receive(k, NULL, got, sizeof(got)), 999);
	assert_int_equal(link_stats(k).rx_dropped, 1);
	peer_send(k, NULL, frame, NET_ETH_LEN - 1); /* no Ethernet frame at all */
	peer_send(k, NULL, frame, 0);
	link_post(k, NET_HDR_LEN + 1000, 0);
	link_kick_rx(k);
	peer_send(k, NULL, frame, 500);
	assert_int_equal(link_receive(k, NULL, got, sizeof(got)), 500);
	assert_int_equal(link_stats(k).rx_dropped, 3);
}

static void s5_1_4_1_nothing_beyond_the_mtu_is_passed(void **state)
{
	struct link *k = *state;
	uint8_t frame[3000] = {0}, got[3000];

	link_post(k, 4000, 0);
	link_kick_rx(k);
	peer_send(k, NULL, frame, LINK_FRAME + 1);
	peer_send(k, NULL, frame, LINK_FRAME);
	assert_int_equal(link_receive(k, NULL, got, sizeof(got)), LINK_FRAME);
	assert_int_equal(link_stats(k).rx_dropped, 1);
}

static const struct net_hdr no_hdr;

static void s5_1_6_4_1_merged_buffers_are_filled_and_returned_together(void **state)
{
	struct link *k = *state;
	uint8_t frame[LINK_FRAME], got[LINK_FRAME];
	struct net_hdr h;

	for (unsigned round = 0; round < 100; round++) {
		size_t len = NET_ETH_LEN + link_random(k) % (LINK_MTU + 1);
		link_fill(k, frame, len);
		uint32_t size = 12 + link_random(k) % 600;
		unsigned need = (unsigned)((NET_HDR_LEN + len + size - 1) / size);
		while (need > 60) {
			size *= 2;
			need = (unsigned)((NET_HDR_LEN + len + size - 1) / size);
		}
		for (unsigned i = 0; i < need; i++)
			link_post(k, size, round & 1 ? size / 2 + 1 : 0);
		link_kick_rx(k);
		peer_send(k, &no_hdr, frame, len);
		assert_int_equal(link_receive(k, &h, got, sizeof(got)), len);
		assert_int_equal(h.num_buffers, need);
		assert_memory_equal(got, frame, len);
		assert_false(tdrv_used(&k->d, NET_RX, NULL, NULL));
	}
}

static void merged_buffers_may_come_late(void **state)
{
	struct link *k = *state;
	uint8_t frame[LINK_FRAME], got[LINK_FRAME];
	struct net_hdr h;

	link_fill(k, frame, sizeof(frame));
	peer_send(k, &no_hdr, frame, sizeof(frame));
	for (unsigned i = 0; i < 8; i++) { /* 8 * 200 bytes hold 1526 */
		tdrv_settle(&k->d);
		assert_false(tdrv_used(&k->d, NET_RX, NULL, NULL));
		link_post(k, 200, 0);
		link_kick_rx(k);
	}
	assert_int_equal(link_receive(k, &h, got, sizeof(got)), sizeof(frame));
	assert_int_equal(h.num_buffers, 8);
	assert_memory_equal(got, frame, sizeof(frame));
}

static void s2_7_10_a_starved_device_asks_for_the_next_buffer(void **state)
{
	struct link *k = *state;
	uint8_t frame[LINK_FRAME] = {0};
	uint16_t event;

	link_post(k, 200, 0);
	link_post(k, 200, 0);
	link_kick_rx(k);
	peer_send(k, &no_hdr, frame, sizeof(frame));
	tdrv_settle(&k->d);
	/* avail_event: behind what is there, although all of that is still the driver's to count on */
	memcpy(&event, tdrv_at(&k->d, k->d.q[NET_RX].used + 4 + 8 * k->d.q[NET_RX].size), 2);
	assert_int_equal(event, 2);
	/* A reset finds nothing half used. */
	assert_false(tdrv_used(&k->d, NET_RX, NULL, NULL));
	link_start(k, LINK_FEATURES | NET_F_MRG_RXBUF);
	link_post(k, 2000, 0);
	link_kick_rx(k);
	assert_int_equal(link_receive(k, NULL, frame, sizeof(frame)), sizeof(frame));
}

static void s5_1_6_3_1_merged_buffer_without_room_for_a_header(void **state)
{
	struct link *k = *state;
	uint8_t frame[100] = {0};

	link_post(k, NET_HDR_LEN - 1, 0);
	link_kick_rx(k);
	peer_send(k, &no_hdr, frame, sizeof(frame));
	tdrv_expect_broken(&k->d);
	link_start(k, LINK_FEATURES | NET_F_MRG_RXBUF);
	link_post(k, 200, 0);
	link_kick_rx(k);
	assert_int_equal(link_receive(k, NULL, frame, sizeof(frame)), 100);
}

static void a_queue_full_of_too_small_buffers_drops_the_frame(void **state)
{
	struct link *k = *state;
	uint8_t frame[LINK_FRAME] = {0}, got[LINK_FRAME];

	for (unsigned i = 0; i < TDRV_QSIZE; i++)
		link_post(k, 16, 0);
	link_kick_rx(k);
	peer_send(k, &no_hdr, frame, sizeof(frame));
	peer_send(k, &no_hdr, frame, 100);
	assert_int_equal(link_receive(k, NULL, got, sizeof(got)), 100);
	assert_int_equal(link_stats(k).rx_dropped, 1);
}

/* ---- waiting ---- */

static void the_peer_waits_while_the_guest_has_no_buffers(void **state)
{
	enum { FRAMES = 2000, LEN = 1000 };
	struct link *k = *state;
	uint8_t frame[4 + LEN] = {0, 0, LEN >> 8, LEN & 0xff}, got[LEN];
	size_t written = 0, total = (size_t)FRAMES * sizeof(frame);
	unsigned received = 0;

	/* Whole frames that carry their number. */
	uint8_t *all = malloc(total);
	for (unsigned i = 0; i < FRAMES; i++) {
		memcpy(frame + 24, &i, 4);
		memcpy(all + (size_t)i * sizeof(frame), frame, sizeof(frame));
	}
	for (int quiet = 0; quiet < 5; quiet++) {
		ssize_t n = send(k->peer, all + written, total - written, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n > 0) {
			written += (size_t)n;
			quiet = 0;
		}
		assert_int_equal(loop_turn(k->loop, 0), 0);
	}
	assert_true(written < total); /* it is made to wait, and what is held is bounded */
	while (received < FRAMES) {
		ssize_t n = written < total ? send(k->peer, all + written, total - written, MSG_NOSIGNAL) : 0;
		written += n > 0 ? (size_t)n : 0;
		for (int i = 0; i < 7; i++)
			link_post(k, NET_HDR_LEN + LEN, 0);
		link_kick_rx(k);
		for (int i = 0; i < 7 && received < FRAMES; i++, received++) {
			unsigned number;
			assert_int_equal(link_receive(k, NULL, got, sizeof(got)), LEN);
			memcpy(&number, got + 20, 4);
			assert_int_equal(number, received);
			n = written < total ? send(k->peer, all + written, total - written, MSG_NOSIGNAL) : 0;
			written += n > 0 ? (size_t)n : 0;
		}
	}
	free(all);
}

static void the_guest_waits_while_the_peer_does_not_read(void **state)
{
	enum { FRAMES = 600 };
	struct link *k = *state;
	uint8_t frame[LINK_FRAME] = {0}, got[LINK_FRAME];
	unsigned sent = 0, received = 0, done = 0;

	close_fd(&k->peer);
	tdrv_settle(&k->d);
	assert_int_equal(net_connect(k->n, 0, link_pair(k, true)), 0);
	while (received < FRAMES) {
		while (sent < FRAMES && sent - done < 40) {
			memcpy(frame + 14, &sent, 4);
			link_send(k, NULL, frame, 100 + sent * 37 % 1400, sent % 8);
			sent++;
		}
		for (int i = 0; i < 10; i++)
			assert_int_equal(loop_turn(k->loop, 0), 0);
		done += link_reap(k);
		if (sent < FRAMES)
			assert_true(sent - done > 0); /* the queue is full: it waits */
		for (int i = 0; i < 3 && received < FRAMES; i++, received++) {
			unsigned number;
			uint32_t len;
			for (int b = 0; b < 4; b++) /* in pieces */
				peer_read(k, (uint8_t *)&len + b, 1);
			assert_int_equal(ntohl(len), 100 + received * 37 % 1400);
			peer_read(k, got, 50);
			peer_read(k, got + 50, ntohl(len) - 50);
			memcpy(&number, got + 14, 4);
			assert_int_equal(number, received);
		}
		done += link_reap(k);
	}
	peer_expect_nothing(k);
	assert_int_equal(done + link_reap(k), FRAMES);
	assert_int_equal(link_stats(k).tx_frames, FRAMES);
}

static void a_reset_does_not_cut_a_frame_short(void **state)
{
	struct link *k = *state;
	uint8_t frame[LINK_FRAME], got[LINK_FRAME];
	unsigned n = 0;

	close_fd(&k->peer);
	tdrv_settle(&k->d);
	assert_int_equal(net_connect(k->n, 0, link_pair(k, true)), 0);
	memset(frame, 0x11, sizeof(frame));
	for (unsigned i = 0; i < 60; i++)
		link_send(k, NULL, frame, sizeof(frame), 0);
	tdrv_settle(&k->d);
	n = link_reap(k);
	assert_true(n < 60);
	link_start(k, LINK_PLAIN);
	memset(k->d.host + 0x40000, 0xcc, TDRV_MEM_LEN - 0x40000); /* what was taken is not read again */
	n = (unsigned)link_stats(k).tx_frames;
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(peer_receive(k, got, sizeof(got)), sizeof(frame));
		assert_memory_equal(got, frame, sizeof(frame));
	}
	link_send(k, NULL, frame, 100, 0);
	assert_int_equal(peer_receive(k, got, sizeof(got)), 100);
}

/* ---- the link ---- */

static uint8_t status_of(struct link *k)
{
	uint8_t s;

	tdrv_config(&k->d, 6, &s, 1);
	return s;
}

static void expect_down(struct link *k, unsigned gone)
{
	tdrv_settle(&k->d);
	assert_int_equal(k->gone, gone);
	assert_int_equal(status_of(k), 0);
	assert_true(tdrv_read(&k->d, MMIO_INT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
	tdrv_write(&k->d, MMIO_INT_ACK, VIRTIO_MMIO_INT_CONFIG);
}

static void s5_1_4_link_goes_down_and_up(void **state)
{
	struct link *k = *state;
	uint8_t frame[100] = {0}, got[100];

	assert_int_equal(status_of(k), 1);
	assert_int_equal(net_connect(k->n, 0, dup(k->peer)), -EISCONN);
	link_post(k, 200, 0);
	link_kick_rx(k);
	peer_send(k, NULL, frame, 60); /* what was sent before it went arrives */
	peer_write(k, "\0\0\0\x20half", 8);
	close_fd(&k->peer);
	assert_int_equal(link_receive(k, NULL, got, sizeof(got)), 60);
	expect_down(k, 1);
	link_send(k, NULL, frame, 100, 0); /* discarded */
	tdrv_settle(&k->d);
	assert_int_equal(link_reap(k), 1);
	assert_int_equal(link_stats(k).tx_dropped, 1);

	assert_int_equal(net_connect(k->n, 0, link_pair(k, false)), 0);
	assert_int_equal(status_of(k), 1);
	assert_true(tdrv_read(&k->d, MMIO_INT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
	link_send(k, NULL, frame, 100, 0);
	assert_int_equal(peer_receive(k, got, sizeof(got)), 100);
	link_post(k, 200, 0);
	link_kick_rx(k);
	peer_send(k, NULL, frame, 70); /* the half frame of the other connection is forgotten */
	assert_int_equal(link_receive(k, NULL, got, sizeof(got)), 70);
	assert_int_equal(k->gone, 1);
}

static void broken_framing_ends_the_connection(void **state)
{
	struct link *k = *state;
	static const uint32_t bad[] = {NET_FRAME_MAX + 1, 1 << 24, UINT32_MAX};

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		uint32_t len = htonl(bad[i]);
		link_post(k, 2000, 0);
		link_kick_rx(k);
		peer_write(k, &len, 4);
		expect_down(k, i + 1);
		uint8_t b;
		assert_int_equal(recv(k->peer, &b, 1, 0), 0);
		assert_int_equal(net_connect(k->n, 0, link_pair(k, false)), 0);
	}
	/* With a header, a frame cannot be shorter than that. */
	link_done(k);
	link_init(k, true, LINK_MTU);
	link_start(k, LINK_FEATURES);
	peer_write(k, "\0\0\0\x0b", 4);
	expect_down(k, 1);
}

static void gone_while_the_guest_has_no_buffers(void **state)
{
	struct link *k = *state;
	uint8_t frame[100] = {0};

	peer_send(k, NULL, frame, 100);
	tdrv_settle(&k->d);
	close_fd(&k->peer);
	expect_down(k, 1);
}

static void gone_while_the_driver_is_not_there(void **state)
{
	struct link *k = *state;

	tdrv_write(&k->d, MMIO_STATUS, 0);
	tdrv_settle(&k->d);
	close_fd(&k->peer);
	tdrv_settle(&k->d);
	assert_int_equal(k->gone, 1);
	link_start(k, LINK_PLAIN);
	assert_int_equal(status_of(k), 0);
}

/* The device finds out by writing, with frames that gather and with one that does not. */
static void gone_while_the_guest_sends(void **state)
{
	struct link *k = *state;
	static const size_t lens[] = {100, 1400};
	uint8_t frame[1400] = {0};

	for (unsigned i = 0; i < ARRAY_LEN(lens); i++) {
		close_fd(&k->peer);
		link_send(k, NULL, frame, lens[i], 0);
		link_send(k, NULL, frame, lens[i], 0);
		expect_down(k, i + 1);
		assert_int_equal(link_reap(k), 2);
		assert_int_equal(net_connect(k->n, 0, link_pair(k, false)), 0);
		link_send(k, NULL, frame, 64, 0); /* and nothing of the old ones is left */
		assert_int_equal(peer_receive(k, frame, sizeof(frame)), 64);
		tdrv_wait(&k->d, NET_TX, NULL);
	}
}

static void free_device(void *data, unsigned link)
{
	struct link *k = data;

	k->gone++;
	net_free(TAKE_PTR(k->n));
}

static void freed_by_its_own_callback(void **state)
{
	struct link *k = *state;

	net_on_disconnect(k->n, free_device, k);
	close_fd(&k->peer);
	tdrv_settle(&k->d);
	assert_int_equal(k->gone, 1);
}

static void without_a_peer(void **state)
{
	struct link *k = *state;
	const struct net_config c = {.mtu = LINK_MTU};

	tdrv_done(&k->d);
	net_free(TAKE_PTR(k->n));
	loop_free(TAKE_PTR(k->loop));
	assert_int_equal(loop_new(&k->loop), 0);
	assert_int_equal(net_new(k->loop, &c, &k->n), 0);
	tdrv_init(&k->d, k->loop, net_device(k->n));
	link_start(k, LINK_PLAIN);
	assert_int_equal(status_of(k), 0);
	/* More than one turn takes: the rest follows by itself. */
	static uint8_t big[60000];
	for (unsigned i = 0; i < 40; i++)
		link_send(k, NULL, big, sizeof(big), 0);
	tdrv_settle(&k->d);
	assert_int_equal(link_reap(k), 40);
	assert_int_equal(link_stats(k).tx_dropped, 40);
	assert_int_equal(k->gone, 0);
}

static void saved_and_restored(void **state)
{
	struct link *k = *state;
	struct virtio_device *d = net_device(k->n);
	uint8_t s[VIRTIO_STATE_MAX], bad[VIRTIO_STATE_MAX];

	size_t len = d->ops->save(d, s);
	assert_int_equal(d->ops->restore(d, s, len), 0);
	assert_int_equal(d->ops->restore(d, s, len - 1), -EINVAL);
	static const size_t checked[] = {0, 6, 8, 13};
	for (unsigned i = 0; i < ARRAY_LEN(checked); i++) {
		memcpy(bad, s, len);
		bad[checked[i]] ^= 1;
		assert_int_equal(d->ops->restore(d, bad, len), -EINVAL);
	}
	/* The link was down when it was saved: the driver has to look again. */
	memcpy(bad, s, len);
	bad[4] = 0;
	struct virtio_mmio_state *m = malloc(sizeof(*m));
	tdrv_write(&k->d, MMIO_INT_ACK, VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(virtio_mmio_suspend(k->d.m, m), 0);
	assert_int_equal(d->ops->restore(d, bad, len), 0);
	assert_int_equal(virtio_mmio_resume(k->d.m), 0);
	assert_true(tdrv_read(&k->d, MMIO_INT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
	free(m);
}

/* ---- what the driver is told ---- */

static void small_frames_are_given_back_without_a_word(void **state)
{
	struct link *k = *state;
	uint8_t frame[LINK_FRAME] = {2}, got[LINK_FRAME];

	tdrv_interrupted(&k->d);
	for (unsigned i = 0; i < 15; i++) {
		link_send(k, NULL, frame, 60, 0);
		assert_int_equal(peer_receive(k, got, sizeof(got)), 60);
		assert_int_equal(link_reap(k), 1);
	}
	assert_true(
		k->n->tx_quiet == 15 || tdrv_interrupted(&k->d)); /* or a slow host's millisecond is over */
	/* Many, or one that is large, are told at once. */
	while (k->n->tx_quiet < 15) {
		link_send(k, NULL, frame, 60, 0);
		peer_receive(k, got, sizeof(got));
		link_reap(k);
	}
	tdrv_interrupted(&k->d);
	link_send(k, NULL, frame, 60, 0);
	peer_receive(k, got, sizeof(got));
	link_reap(k);
	assert_true(tdrv_interrupted(&k->d));
	link_send(k, NULL, frame, sizeof(frame), 0);
	peer_receive(k, got, sizeof(got));
	link_reap(k);
	assert_true(tdrv_interrupted(&k->d));
	/* In the end always. */
	link_send(k, NULL, frame, 60, 0);
	peer_receive(k, got, sizeof(got));
	for (unsigned i = 0; i < 500 && !tdrv_interrupted(&k->d); i++) {
		assert_true(i < 499);
		loop_turn(k->loop, 10);
	}
	assert_int_equal(k->n->tx_quiet, 0);
}

#define PLAIN(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
#define MERGE(t) cmocka_unit_test_setup_teardown(t, setup_mergeable, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PLAIN(s5_1_4_configuration),
		PLAIN(s5_1_3_features),
		PLAIN(frames_go_both_ways),
		PLAIN(many_small_frames_keep_their_order),
		PLAIN(what_gathers_is_bounded),
		PLAIN(a_byte_at_a_time),
		PLAIN(s5_1_6_2_malformed_chains_are_dropped),
		PLAIN(s2_7_5_descriptor_outside_of_memory),
		PLAIN(s5_1_6_3_1_too_small_a_buffer_drops_the_frame),
		PLAIN(s5_1_4_1_nothing_beyond_the_mtu_is_passed),
		MERGE(s5_1_6_4_1_merged_buffers_are_filled_and_returned_together),
		MERGE(merged_buffers_may_come_late),
		MERGE(s2_7_10_a_starved_device_asks_for_the_next_buffer),
		MERGE(s5_1_6_3_1_merged_buffer_without_room_for_a_header),
		MERGE(a_queue_full_of_too_small_buffers_drops_the_frame),
		PLAIN(the_peer_waits_while_the_guest_has_no_buffers),
		PLAIN(the_guest_waits_while_the_peer_does_not_read),
		PLAIN(a_reset_does_not_cut_a_frame_short),
		PLAIN(s5_1_4_link_goes_down_and_up),
		PLAIN(broken_framing_ends_the_connection),
		PLAIN(gone_while_the_guest_has_no_buffers),
		PLAIN(gone_while_the_driver_is_not_there),
		PLAIN(gone_while_the_guest_sends),
		PLAIN(freed_by_its_own_callback),
		PLAIN(without_a_peer),
		PLAIN(saved_and_restored),
		PLAIN(small_frames_are_given_back_without_a_word),
	};
	return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}
