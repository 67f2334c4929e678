/* SPDX-License-Identifier: MIT */
/*
 * Bytes as a box's question, as a resolver's answer to one, and as a resolv.conf; the first byte says which. A question that is
 * accepted can be answered, and its answer answers it.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "dns-message.h"
#include "resolvconf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void address(void *data, const struct net_addr *a, uint32_t ttl_s)
{
	unsigned *n = data;
	char text[NET_ADDR_TEXT_MAX];
	struct net_addr again;

	check(ttl_s <= INT32_MAX);
	check(net_addr_parse(net_addr_text(a, text), &again) == 0 && net_addr_equal(a, &again));
	++*n;
}

static void as_question(const uint8_t *data, size_t size)
{
	static uint8_t buf[DNS_MAX];
	static const uint8_t four[4] = {10, 1, 2, 3};
	struct dns_question q;
	struct dns_writer w;
	struct net_addr a;
	int r = dns_question_parse(&q, data, size);

	if (r == -EINVAL)
		return;
	check(q.udp_size >= DNS_PLAIN_MAX && q.udp_size <= DNS_UDP_MAX);
	dns_write_begin(&w, buf, q.udp_size, data, &q, DNS_AA, r < 0 ? DNS_FORMERR : DNS_NOERROR);
	bool reverse = r == 0 && dns_name_reverse(&q.name, &a);
	if (!reverse)
		a = net_addr_from4(four);
	for (unsigned i = 0; r == 0 && i < 40; i++)
		dns_write_address(&w, &a, 5);
	if (reverse)
		dns_write_ptr(&w, &q.name, 5);
	size_t len = dns_write_end(&w, &q, DNS_NOERROR);
	check(len >= DNS_HDR_LEN && len <= q.udp_size);
	if (r < 0)
		return;
	check(strlen(q.text) < DNS_TEXT_MAX && q.end <= size && q.edns_at + 8 <= size);
	check(dns_answer_match(&q, q.id, buf, len) == DNS_NOERROR);
	unsigned n = 0;
	dns_answer_addresses(&q, buf, len, address, &n);
	check(n <= 40 && n > 0);
}

/* The answer follows a question to which it may be one. */
static void as_answer(const uint8_t *data, size_t size)
{
	static const uint8_t question[] = "\x12\x34\1\0\0\1\0\0\0\0\0\0\1a\2bc\0\0\1\0\1";
	struct dns_question q;
	unsigned n = 0;

	check(dns_question_parse(&q, question, sizeof(question) - 1) == 0);
	int rcode = dns_answer_match(&q, 0x1234, data, size);
	check(rcode < 16);
	dns_answer_addresses(&q, data, size, address, &n);
	check(n <= 512 * 12);
	if (rcode >= 0 && size > DNS_HDR_LEN)
		check(size >= q.end);
}

static void as_resolvconf(const uint8_t *data, size_t size)
{
	struct resolvers r;

	resolvers_parse((const char *)data, size, &r);
	check(r.n <= NETD_UPSTREAMS_MAX && r.timeout_s <= 5 && r.attempts <= 5);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	switch (data[0] % 3) {
	case 0:
		as_question(data + 1, size - 1);
		break;
	case 1:
		as_answer(data + 1, size - 1);
		break;
	default:
		as_resolvconf(data + 1, size - 1);
	}
	return 0;
}
