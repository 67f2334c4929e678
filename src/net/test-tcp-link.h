/* SPDX-License-Identifier: MIT */
/* One connection of the box in test-tcp-box.h with a listener on this host, and what is expected on it. Failures end the test. */
#ifndef NET_TEST_TCP_LINK_H
#define NET_TEST_TCP_LINK_H

#include "test-tcp-box.h"

#define MS 1000000ull

extern int listener; /* of this host, made for each test */
extern uint16_t listener_port;
/* For cmocka_unit_test_setup_teardown. */
int link_start(void **state);
int link_finish(void **state);

struct link {	      /* as the box knows it */
	struct seg s; /* the next to be sent */
	uint32_t iss; /* of the engine */
	int host;
};

#define expect(flags, seq, ack) expect_at(flags, seq, ack, __LINE__)
const struct seg *expect_at(uint8_t flags, uint32_t seq, uint32_t ack, int line);
void expect_nothing(void);
/* An acknowledgement that waited in vain for an answer to carry it. */
void expect_delayed(uint32_t seq, uint32_t ack);
/* What l->s says, and its numbers moved on. */
void send_flags(struct link *l, uint8_t flags);
void send_text(struct link *l, const char *text);
/* A handshake that begins with first, and the host's end of it. */
struct link open_with(struct seg first);
struct link open_one(void);
/* On the host's end. */
void expect_text(int fd, const char *text);
void expect_reset(int *fd); /* and closes it */
/* Nothing of any connection is left in the engine. */
void expect_gone(void);

#endif
