/* SPDX-License-Identifier: MIT */
#include "net/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const uint8_t mapped[12] = {[10] = 0xff, 0xff};

bool net_addr_is4(const struct net_addr *a)
{
	return !memcmp(a->b, mapped, sizeof(mapped));
}

bool net_addr_is_zero(const struct net_addr *a)
{
	return !memcmp(a->b, (const uint8_t[16]){0}, 16);
}

bool net_addr_equal(const struct net_addr *a, const struct net_addr *b)
{
	return !memcmp(a->b, b->b, 16);
}

struct net_addr net_addr_from4(const void *network_order_4)
{
	struct net_addr a;

	memcpy(a.b, mapped, sizeof(mapped));
	memcpy(a.b + 12, network_order_4, 4);
	return a;
}

struct net_addr net_addr_from6(const void *network_order_16)
{
	struct net_addr a;

	memcpy(a.b, network_order_16, 16);
	return a;
}

int net_addr_parse(const char *s, struct net_addr *ret)
{
	struct net_addr a;
	uint8_t raw[4];

	if (inet_pton(AF_INET, s, raw) == 1)
		a = net_addr_from4(raw);
	else if (inet_pton(AF_INET6, s, a.b) != 1 || net_addr_is4(&a))
		return -EINVAL;
	*ret = a;
	return 0;
}

const char *net_addr_text(const struct net_addr *a, char *buf)
{
	if (net_addr_is4(a))
		inet_ntop(AF_INET, a->b + 12, buf, NET_ADDR_TEXT_MAX);
	else
		inet_ntop(AF_INET6, a->b, buf, NET_ADDR_TEXT_MAX);
	return buf;
}

const char *net_addr_host_text(const char *text, char *buf)
{
	bool six = strchr(text, ':') != NULL;

	snprintf(buf, NET_ADDR_HOST_MAX, "%s%s%s", six ? "[" : "", text, six ? "]" : "");
	return buf;
}

/* ---- prefixes ---- */

/* Whether the first bits of both are the same. */
static bool same_bits(const struct net_addr *a, const struct net_addr *b, unsigned bits)
{
	unsigned bytes = bits / 8, rest = bits % 8;

	if (memcmp(a->b, b->b, bytes) != 0)
		return false;
	return !rest || !((a->b[bytes] ^ b->b[bytes]) & (0xff00 >> rest) & 0xff);
}

int net_prefix_parse(const char *s, struct net_prefix *ret)
{
	const char *slash = strchr(s, '/');
	size_t len = slash ? (size_t)(slash - s) : strlen(s);
	char text[NET_ADDR_TEXT_MAX];
	struct net_prefix p;

	if (len >= sizeof(text))
		return -EINVAL;
	memcpy(text, s, len);
	text[len] = '\0';
	if (net_addr_parse(text, &p.addr) < 0)
		return -EINVAL;

	unsigned max = net_addr_is4(&p.addr) ? 32 : 128, bits = slash ? 0 : max;
	if (slash) {
		const char *d = slash + 1;
		if (!*d || strlen(d) > 3 || (*d == '0' && d[1]))
			return -EINVAL;
		for (; *d; d++) {
			if (*d < '0' || *d > '9')
				return -EINVAL;
			bits = bits * 10 + (unsigned)(*d - '0');
		}
		if (bits > max)
			return -EINVAL;
	}
	p.bits = (uint8_t)(128 - max + bits);
	for (unsigned i = p.bits; i < 128; i++)
		if (p.addr.b[i / 8] & (0x80 >> i % 8))
			return -EINVAL;
	*ret = p;
	return 0;
}

const char *net_prefix_text(const struct net_prefix *p, char *buf)
{
	net_addr_text(&p->addr, buf);
	size_t len = strlen(buf);
	snprintf(buf + len, NET_ADDR_TEXT_MAX + 4 - len, "/%u", net_prefix_len(p));
	return buf;
}

bool net_prefix_has(const struct net_prefix *p, const struct net_addr *a)
{
	/* ::/0 is every IPv6 address and no IPv4 one, although the form has those below ::/80. */
	return net_addr_is4(&p->addr) == net_addr_is4(a) && same_bits(&p->addr, a, p->bits);
}

bool net_prefix_overlap(const struct net_prefix *a, const struct net_prefix *b)
{
	return net_addr_is4(&a->addr) == net_addr_is4(&b->addr) &&
	       same_bits(&a->addr, &b->addr, a->bits < b->bits ? a->bits : b->bits);
}

unsigned net_prefix_len(const struct net_prefix *p)
{
	if (!net_addr_is4(&p->addr))
		return p->bits;
	return p->bits > 96 ? p->bits - 96U : 0;
}

/* ---- sockets ---- */

socklen_t net_addr_sockaddr(const struct net_addr *a, uint16_t port, struct sockaddr_storage *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (net_addr_is4(a)) {
		struct sockaddr_in *in = (struct sockaddr_in *)ret;
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		memcpy(&in->sin_addr, a->b + 12, 4);
		return sizeof(*in);
	}
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(port);
	memcpy(&in6->sin6_addr, a->b, 16);
	return sizeof(*in6);
}

bool net_addr_from_sockaddr(const struct sockaddr_storage *ss, struct net_addr *ret, uint16_t *ret_port)
{
	if (ss->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)ss;
		*ret = net_addr_from4(&in->sin_addr);
		*ret_port = ntohs(in->sin_port);
		return true;
	}
	if (ss->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)ss;
		*ret = net_addr_from6(&in6->sin6_addr);
		*ret_port = ntohs(in6->sin6_port);
		return true;
	}
	return false;
}

/* ---- kinds (RFC 6890) ---- */

bool net_addr_is_martian(const struct net_addr *a)
{
	if (!net_addr_is4(a)) /* ::/96 has ::, ::1 and, long deprecated, IPv4-compatible addresses */
		return a->b[0] == 0xff || !memcmp(a->b, (const uint8_t[12]){0}, 12);
	const uint8_t *b = a->b + 12;
	return b[0] == 0 || b[0] == 127 || (b[0] & 0xf0) == 224 || !memcmp(b, "\xff\xff\xff\xff", 4);
}

bool net_addr_is_link_local(const struct net_addr *a)
{
	if (net_addr_is4(a))
		return a->b[12] == 169 && a->b[13] == 254;
	return a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0x80;
}

bool net_addr_is_private(const struct net_addr *a)
{
	if (!net_addr_is4(a))
		return (a->b[0] & 0xfe) == 0xfc;
	const uint8_t *b = a->b + 12;
	return b[0] == 10 || (b[0] == 172 && (b[1] & 0xf0) == 16) || (b[0] == 192 && b[1] == 168) ||
	       (b[0] == 100 && (b[1] & 0xc0) == 64);
}

bool net_addr_is_translated(const struct net_addr *a)
{
	static const uint8_t nat64[12] = {0, 0x64, 0xff, 0x9b}, nat64_local[6] = {0, 0x64, 0xff, 0x9b, 0, 1},
			     sixto4[2] = {0x20, 0x02}, teredo[4] = {0x20, 0x01};

	return !memcmp(a->b, nat64, sizeof(nat64)) || !memcmp(a->b, nat64_local, sizeof(nat64_local)) ||
	       !memcmp(a->b, sixto4, sizeof(sixto4)) || !memcmp(a->b, teredo, sizeof(teredo));
}

bool net_addr_is_loopback(const struct net_addr *a)
{
	if (net_addr_is4(a))
		return a->b[12] == 127;
	return !memcmp(a->b, &in6addr_loopback, 16);
}
