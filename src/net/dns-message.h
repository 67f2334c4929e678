/* SPDX-License-Identifier: MIT */
/*
 * Messages of the domain name system (RFC 1035 section 4, RFC 6891), read and written. Those of boxes and those of resolvers
 * are alike in that nothing in them is believed: each read is bounded by the message, a name by 255 bytes, and a compression
 * pointer leads to before the name's previous part, so that reading ends.
 */
#ifndef NET_DNS_MESSAGE_H
#define NET_DNS_MESSAGE_H

#include <stddef.h>

#include "net/addr.h"

enum {
	DNS_HDR_LEN = 12,
	DNS_NAME_MAX = 255,  /* on the wire, the root's zero included */
	DNS_TEXT_MAX = 1024, /* as text, escaped, terminator included */
	DNS_PLAIN_MAX = 512, /* by UDP without EDNS */
	DNS_UDP_MAX = 4096,  /* by UDP with EDNS: what we ask for and give at most */
	DNS_MAX = 65535
};
enum {
	DNS_A = 1,
	DNS_CNAME = 5,
	DNS_PTR = 12,
	DNS_AAAA = 28,
	DNS_OPT = 41,
	DNS_IXFR = 251,
	DNS_AXFR = 252,
	DNS_ANY = 255
};
enum { DNS_IN = 1 };
enum {
	DNS_NOERROR = 0,
	DNS_FORMERR = 1,
	DNS_SERVFAIL = 2,
	DNS_NXDOMAIN = 3,
	DNS_NOTIMP = 4,
	DNS_REFUSED = 5,
	DNS_BADVERS = 16
};
/* Second 16 bits of the header. */
enum {
	DNS_QR = 0x8000,
	DNS_OPCODE = 0x7800,
	DNS_AA = 0x0400,
	DNS_TC = 0x0200,
	DNS_RD = 0x0100,
	DNS_RA = 0x0080,
	DNS_CD = 0x0010
};

static inline uint16_t dns_get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}
static inline void dns_put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* A name as on the wire, without compression, in lower case. */
struct dns_name {
	uint8_t wire[DNS_NAME_MAX];
	uint8_t len;
};
/* Reads one at *at, and moves on to what follows. 0 or -EBADMSG. */
int dns_name_read(const uint8_t *msg, size_t len, size_t *at, struct dns_name *ret);
/*
 * "www.example.org", the root as "". Bytes that are not visible, dots within a label and backslashes are \DDD (RFC 1035
 * section 5.1), so that no two names have the same text. buf of DNS_TEXT_MAX. Returns buf.
 */
const char *dns_name_text(const struct dns_name *n, char *buf);
/* From text without escapes; 0 or -EINVAL. */
int dns_name_parse(const char *text, struct dns_name *ret);
/* The address that a name below in-addr.arpa or ip6.arpa stands for (RFC 1035 section 3.5, RFC 3596 section 2.5). */
bool dns_name_reverse(const struct dns_name *n, struct net_addr *ret);

struct dns_question {
	uint16_t id, flags, type, class;
	struct dns_name name;
	char text[DNS_TEXT_MAX]; /* the name's */
	size_t end;		 /* of the question section; 0: none was read */
	bool edns;
	uint8_t edns_version;
	uint16_t udp_size; /* what its sender takes, DNS_PLAIN_MAX to DNS_UDP_MAX */
	size_t edns_at;	   /* offset of OPT's size of payload */
};
/*
 * 0; -EINVAL: not to be answered (no header, or itself an answer); -EBADMSG: DNS_FORMERR; -ENOTSUP: DNS_NOTIMP. With the
 * last two, id and flags are filled in.
 */
int dns_question_parse(struct dns_question *q, const uint8_t *msg, size_t len);

/* An answer being written. */
struct dns_writer {
	uint8_t *buf;
	size_t len, max;
	uint16_t answers;
	bool truncated; /* something did not fit */
};
/* buf of max bytes, DNS_PLAIN_MAX or more; msg is what q was read from. Flags: DNS_AA or 0. */
void dns_write_begin(struct dns_writer *w, uint8_t *buf, size_t max, const uint8_t *msg,
	const struct dns_question *q, uint16_t flags, unsigned rcode);
/* An answer to the question's name. */
void dns_write_address(struct dns_writer *w, const struct net_addr *a, uint32_t ttl);
void dns_write_ptr(struct dns_writer *w, const struct dns_name *target, uint32_t ttl);
/* Returns the message's length. */
size_t dns_write_end(struct dns_writer *w, const struct dns_question *q, unsigned rcode);

/*
 * Whether msg answers that question, which was sent as the id: an answer, with that ID and that question. An answer that says an
 * error may come without the question. Returns its rcode, -EBADMSG if it does not.
 */
int dns_answer_match(const struct dns_question *q, uint16_t id, const uint8_t *msg, size_t len);
/*
 * Addresses that an answer gives for its question's name, following aliases (RFC 1034 section 3.6.2), with the smallest
 * time to live on the way.
 */
void dns_answer_addresses(const struct dns_question *q, const uint8_t *msg, size_t len,
	void (*fn)(void *data, const struct net_addr *a, uint32_t ttl_s), void *data);

#endif
