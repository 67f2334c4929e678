/* SPDX-License-Identifier: MIT */
/*
 * The links of the network device: which frames are whose (IEEE 802.1Q), whose turn it is, who comes and goes.
 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "net/test-link.h"

struct links {
	struct link k; /* whose peer is the one that speaks */
	int peers[NET_LINKS_MAX];
};

/* From here on k->peer is that link's. */
static struct link *as(struct links *s, unsigned link)
{
	s->peers[s->k.at] = s->k.peer;
	s->k.at = link;
	s->k.peer = s->peers[link];
	return &s->k;
}

static void join(struct links *s, unsigned link, bool small)
{
	struct link *k = as(s, link);

	assert_int_equal(net_connect(k->n, link, link_pair(k, small)), 0);
}

static int start(void **state, bool vnet_hdr, uint64_t features)
{
	struct links *s = malloc(sizeof(*s));

	link_init(&s->k, vnet_hdr, LINK_MTU);
	for (unsigned i = 0; i < NET_LINKS_MAX; i++)
		s->peers[i] = -1;
	s->peers[0] = s->k.peer;
	link_start(&s->k, features);
	*state = s;
	return 0;
}

static int setup(void **state)
{
	return start(state, false, LINK_PLAIN | VIRTIO_F_EVENT_IDX);
}

static int setup_mergeable(void **state)
{
	return start(state, true, LINK_FEATURES | NET_F_MRG_RXBUF);
}

static int teardown(void **state)
{
	struct links *s = *state;

	as(s, 0);
	for (unsigned i = 1; i < NET_LINKS_MAX; i++)
		close_fd(&s->peers[i]);
	link_done(&s->k);
	free(s);
	return 0;
}

/*
 * A frame of len bytes (without tags) with up to two tags, each given as type << 16 | TCI; 0: none. Its length.
 */
static size_t make(struct link *k, uint8_t *frame, size_t len, uint32_t tag, uint32_t second)
{
	uint8_t plain[LINK_FRAME];
	size_t at = 12;

	link_fill(k, plain, len);
	plain[12] = 8; /* of no type that is a tag */
	memcpy(frame, plain, 12);
	const uint32_t tags[] = {htonl(tag), htonl(second)};
	for (unsigned i = 0; i < 2 && tags[i]; i++, at += 4)
		memcpy(frame + at, &tags[i], 4);
	memcpy(frame + at, plain + 12, len - 12);
	return len + at - 12;
}

enum { VLAN = 0x81000000u, QINQ = 0x88a80000u };

/* ---- frames ---- */

static void every_link_has_its_own_frames(void **state)
{
	struct links *s = *state;
	uint8_t frame[LINK_FRAME + 4], got[LINK_FRAME + 4], want[LINK_FRAME + 4];

	for (unsigned i = 1; i < NET_LINKS_MAX; i++)
		join(s, i, false);
	for (unsigned i = 0; i < 200; i++) {
		unsigned link = link_random(&s->k) % NET_LINKS_MAX;
		struct link *k = as(s, link);
		size_t len = NET_ETH_LEN + link_random(k) % (LINK_MTU + 1), tag = link ? 4 : 0;
		/* Priority and drop eligibility are no part of the ID. */
		uint32_t tci = VLAN | (link_random(k) & 0xf000) | link;
		make(k, frame, len, link ? tci : 0, 0);
		link_send(k, NULL, frame, len + tag, link_random(k) % 20);
		assert_int_equal(peer_receive(k, got, sizeof(got)), len);
		assert_memory_equal(got, frame, 12);
		assert_memory_equal(got + 12, frame + 12 + tag, len - 12);
		link_reap(k);

		make(k, frame, len, 0, 0);
		link_post(k, NET_HDR_LEN + LINK_FRAME + 4, i & 1 ? 1 + link_random(k) % 400 + 100 : 0);
		link_kick_rx(k);
		peer_send(k, NULL, frame, len);
		assert_int_equal(link_receive(k, NULL, got, sizeof(got)), len + tag);
		memcpy(want, frame, 12);
		memcpy(want + 12, (uint8_t[]){0x81, 0, 0, (uint8_t)link}, 4);
		memcpy(want + 12 + tag, frame + 12, len - 12);
		assert_memory_equal(got, want, len + tag);
	}
	for (unsigned i = 0; i < NET_LINKS_MAX; i++)
		peer_expect_nothing(as(s, i));
	assert_true(link_stats(&s->k).tx_dropped == 0 && link_stats(&s->k).rx_dropped == 0);
}

/* Tagged frames in merged buffers, with boundaries anywhere, the tag's middle included. */
static void merged_buffers_of_any_size_hold_tagged_frames(void **state)
{
	struct links *s = *state;
	uint8_t frame[LINK_FRAME], got[LINK_FRAME + 4];
	const struct net_hdr none = {0};

	join(s, 5, false);
	for (uint32_t size = NET_HDR_LEN; size < NET_HDR_LEN + 30; size++) {
		struct link *k = as(s, 5);
		size_t len = 300;
		struct net_hdr h;
		make(k, frame, len, 0, 0);
		unsigned need = (unsigned)((NET_HDR_LEN + len + 4 + size - 1) / size);
		for (unsigned i = 0; i < need; i++)
			link_post(k, size, size & 1 ? size / 2 + 1 : 0);
		link_kick_rx(k);
		peer_send(k, &none, frame, len);
		assert_int_equal(link_receive(k, &h, got, sizeof(got)), len + 4);
		assert_int_equal(h.num_buffers, need);
		assert_memory_equal(got, frame, 12);
		assert_memory_equal(got + 12, "\x81\0\0\5", 4);
		assert_memory_equal(got + 16, frame + 12, len - 12);
	}
}

static void frames_of_no_link_are_dropped(void **state)
{
	struct links *s = *state;
	static const struct {
		uint32_t tag, second;
		size_t len;
	} bad[] = {
		{VLAN | 2, 0, 100},					/* no peer */
		{VLAN | NET_LINKS_MAX, 0, 100}, {VLAN | 0xfff, 0, 100}, /* no link */
		{VLAN, 0, 100},						/* a priority alone */
		{VLAN | 0x101, 0, 100},					/* not cut to eight bits */
		{QINQ | 1, 0, 100},					/* another kind of tag */
		{VLAN | 1, VLAN | 1, 100}, {VLAN | 1, QINQ | 1, 100}, {QINQ | 1, VLAN | 1, 100},
		{VLAN | 1, 0, 13}, /* less than a header without it */
	};
	uint8_t frame[LINK_FRAME + 8], got[LINK_FRAME];
	struct link *k = &s->k;

	join(s, 1, false);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		size_t len = make(k, frame, bad[i].len, bad[i].tag, bad[i].second);
		link_send(k, NULL, frame, len, i % 3 * 5);
	}
	for (size_t len = 14; len < 18; len++) { /* cut short in or behind the tag */
		make(k, frame, 100, VLAN | 1, 0);
		link_send(k, NULL, frame, len, 0);
	}
	peer_expect_nothing(as(s, 0));
	peer_expect_nothing(as(s, 1));
	assert_int_equal(link_stats(k).tx_dropped, ARRAY_LEN(bad) + 4);

	/* What a peer sends goes to its own link, whatever tag it brings. */
	for (unsigned link = 0; link < 2; link++) {
		as(s, link);
		link_post(k, 2000, 0);
		link_kick_rx(k);
		for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
			size_t len = make(k, frame, bad[i].len, bad[i].tag, bad[i].second);
			peer_send(k, NULL, frame, len);
		}
		size_t len = make(k, frame, 60, 0, 0);
		peer_send(k, NULL, frame, len);
		assert_int_equal(link_receive(k, NULL, got, sizeof(got)), len + (link ? 4 : 0));
	}
	assert_int_equal(link_stats(k).rx_dropped, 2 * ARRAY_LEN(bad));
}

static void s5_1_4_2_a_tag_is_no_part_of_the_mtu(void **state)
{
	struct links *s = *state;
	struct link *k = &s->k;
	uint8_t frame[LINK_FRAME + 8] = {0}, got[LINK_FRAME + 8];

	join(s, 7, false);
	memcpy(frame + 12, "\x81\0\0\7", 4);
	link_send(k, NULL, frame, LINK_FRAME + 5, 0);
	link_send(k, NULL, frame, LINK_FRAME + 4, 0);
	assert_int_equal(peer_receive(k, got, sizeof(got)), LINK_FRAME);
	assert_int_equal(link_stats(k).tx_dropped, 1);
	memset(frame, 0, sizeof(frame));
	link_post(k, 4000, 0);
	link_kick_rx(k);
	peer_send(k, NULL, frame, LINK_FRAME + 1);
	peer_send(k, NULL, frame, LINK_FRAME);
	assert_int_equal(link_receive(k, NULL, got, sizeof(got)), LINK_FRAME + 4);
	assert_int_equal(link_stats(k).rx_dropped, 1);
}

/* ---- turns ---- */

/* Writes as much as the socket takes of copies of one frame; *sent is how far that got. */
static void flood(struct link *k, const uint8_t *frame, size_t len, size_t *sent)
{
	uint8_t one[4 + LINK_FRAME];
	const uint32_t prefix = htonl((uint32_t)len);
	ssize_t n;

	memcpy(one, &prefix, 4);
	memcpy(one + 4, frame, len);
	do {
		size_t at = *sent % (4 + len);
		n = send(k->peer, one + at, 4 + len - at, MSG_NOSIGNAL | MSG_DONTWAIT);
		*sent += n > 0 ? (size_t)n : 0;
	} while (n > 0);
}

/* Three that always have something, with frames of different lengths, share what buffers the guest gives. */
static void links_take_turns(void **state)
{
	struct links *s = *state;
	static const unsigned link[] = {0, 3, 4};
	static const size_t len[] = {LINK_FRAME, 500, 1000};
	size_t sent[3] = {0}, bytes[NET_LINKS_MAX] = {0};
	uint8_t frame[LINK_FRAME] = {0}, got[LINK_FRAME + 4];
	struct link *k = &s->k;

	join(s, 3, false);
	join(s, 4, false);
	for (unsigned i = 0; i < 4000; i++) {
		for (unsigned p = 0; p < 3; p++)
			flood(as(s, link[p]), frame, len[p], &sent[p]);
		link_post(k, 2000, 0);
		link_kick_rx(k);
		size_t n = link_receive(k, NULL, got, sizeof(got));
		bytes[got[12] == 0x81 ? got[15] : 0] += n;
	}
	for (unsigned p = 0; p < 3; p++)
		assert_in_range(bytes[link[p]], 800000, 1400000); /* of some 3.3 million */
}

static void a_peer_that_does_not_read_makes_the_guest_wait_until_it_goes(void **state)
{
	struct links *s = *state;
	uint8_t frame[LINK_FRAME + 4] = {0}, got[LINK_FRAME];
	struct link *k = &s->k;
	unsigned sent = 0;

	for (unsigned how = 0; how < 2; how++) {
		join(s, 2, true);
		memcpy(frame + 12, "\x81\0\0\2", 4);
		for (unsigned i = 0; i < 30; i++, sent++)
			link_send(k, NULL, frame, sizeof(frame), 0);
		memset(frame + 12, 0, 4);
		link_send(k, NULL, frame, 100, 0);
		sent++;
		as(s, 0);
		peer_expect_nothing(k);
		sent -= link_reap(k);
		assert_true(sent > 1);
		if (how == 0)
			net_disconnect(k->n, 2);
		else
			close_fd(&s->peers[2]);
		assert_int_equal(peer_receive(k, got, sizeof(got)), 100);
		tdrv_settle(&k->d);
		sent -= link_reap(k);
		assert_int_equal(sent, 0);
		assert_int_equal(k->gone, how);
	}
}

/* ---- who comes and goes ---- */

static uint8_t status_of(struct link *k)
{
	uint8_t status;

	tdrv_config(&k->d, 6, &status, 1);
	return status;
}

/* Whether the driver has been told that the configuration changed since it was asked last. */
static bool told(struct link *k)
{
	tdrv_settle(&k->d);
	bool yes = tdrv_read(&k->d, MMIO_INT_STATUS) & VIRTIO_MMIO_INT_CONFIG;
	tdrv_write(&k->d, MMIO_INT_ACK, VIRTIO_MMIO_INT_CONFIG);
	return yes;
}

static void s5_1_4_the_link_is_up_while_there_is_a_peer(void **state)
{
	struct links *s = *state;
	struct link *k = &s->k;

	told(k);
	join(s, 6, false);
	assert_false(told(k));
	net_disconnect(k->n, 0);
	assert_false(told(k));
	assert_int_equal(status_of(k), 1);
	assert_int_equal(k->gone, 0); /* who takes it away knows */
	close_fd(&k->peer);
	assert_true(told(k));
	assert_int_equal(status_of(k), 0);
	assert_int_equal(k->gone, 1);
	assert_int_equal(k->gone_link, 6);
	join(s, 1, false);
	assert_true(told(k));
	assert_int_equal(status_of(k), 1);
	net_disconnect(k->n, 1);
	assert_true(told(k));
	net_disconnect(k->n, 1); /* no error */
	assert_int_equal(status_of(k), 0);
	assert_int_equal(k->gone, 1);
}

static void impossible_links(void **state)
{
	struct links *s = *state;
	struct link *k = &s->k;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(net_connect(k->n, NET_LINKS_MAX, pair[0]), -EINVAL);
	assert_int_equal(net_connect(k->n, 0, pair[1]), -EISCONN);
	/* Both were consumed. */
	assert_int_equal(close(pair[0]), -1);
	assert_int_equal(close(pair[1]), -1);
	assert_int_equal(net_connect(k->n, 1, -1), -EINVAL);
	net_disconnect(k->n, NET_LINKS_MAX);
}

static void of_many_that_go_each_is_told(void **state)
{
	struct links *s = *state;
	struct link *k = &s->k;

	for (unsigned i = 1; i < NET_LINKS_MAX; i++)
		join(s, i, false);
	as(s, 0);
	for (unsigned i = 1; i < NET_LINKS_MAX; i++)
		close_fd(&s->peers[i]);
	tdrv_settle(&k->d);
	assert_int_equal(k->gone, NET_LINKS_MAX - 1);
	assert_int_equal(k->gone_link, NET_LINKS_MAX - 1);
	assert_int_equal(status_of(k), 1);
}

static void free_device(void *data, unsigned link)
{
	struct link *k = data;

	k->gone++;
	net_free(TAKE_PTR(k->n));
}

static void freed_when_the_first_of_many_goes(void **state)
{
	struct links *s = *state;
	struct link *k = &s->k;

	join(s, 1, false);
	join(s, 2, false);
	net_on_disconnect(k->n, free_device, k);
	for (unsigned i = 0; i < 3; i++)
		close_fd(&as(s, i)->peer);
	tdrv_settle(&k->d);
	assert_int_equal(k->gone, 1);
}

static void reconnect(void *data, unsigned link)
{
	struct links *s = data;

	s->k.gone++;
	join(s, link, false);
}

static void another_peer_begins_afresh(void **state)
{
	struct links *s = *state;
	struct link *k = &s->k;
	uint8_t frame[LINK_FRAME + 4] = {0}, got[LINK_FRAME];

	net_on_disconnect(k->n, reconnect, s);
	join(s, 1, true);
	memcpy(frame + 12, "\x81\0\0\1", 4);
	for (unsigned i = 0; i < 20; i++) /* one of them will be cut short */
		link_send(k, NULL, frame, sizeof(frame), 0);
	peer_write(k, "\0\0\1\0half", 8);
	tdrv_settle(&k->d);
	close_fd(&k->peer);
	tdrv_settle(&k->d);
	assert_int_equal(k->gone, 1);
	link_post(k, 2000, 0);
	link_kick_rx(k);
	peer_send(k, NULL, frame + 20, 70);
	assert_int_equal(link_receive(k, NULL, got, sizeof(got)), 74);
	for (unsigned left = 20 - (unsigned)(link_stats(k).tx_frames + link_stats(k).tx_dropped); left--;)
		assert_int_equal(peer_receive(k, got, sizeof(got)), LINK_FRAME);
	link_reap(k);
	link_send(k, NULL, frame, 104, 0);
	size_t len;
	do /* what was taken after the change */
		len = peer_receive(k, got, sizeof(got));
	while (len == LINK_FRAME);
	assert_int_equal(len, 100);
}

#define PLAIN(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
#define MERGE(t) cmocka_unit_test_setup_teardown(t, setup_mergeable, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PLAIN(every_link_has_its_own_frames),
		MERGE(merged_buffers_of_any_size_hold_tagged_frames),
		PLAIN(frames_of_no_link_are_dropped),
		PLAIN(s5_1_4_2_a_tag_is_no_part_of_the_mtu),
		PLAIN(links_take_turns),
		PLAIN(a_peer_that_does_not_read_makes_the_guest_wait_until_it_goes),
		PLAIN(s5_1_4_the_link_is_up_while_there_is_a_peer),
		PLAIN(impossible_links),
		PLAIN(of_many_that_go_each_is_told),
		PLAIN(freed_when_the_first_of_many_goes),
		PLAIN(another_peer_begins_afresh),
	};
	return cmocka_run_group_tests_name("net-links", tests, NULL, NULL);
}
