/* SPDX-License-Identifier: MIT */
/* Messages as nobody should write them, names, and what a resolv.conf says. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "dns-message.h"
#include "resolvconf.h"

/* A message in memory that ends where it ends, so that the sanitizer sees what is beyond. */
static uint8_t *exact(const void *data, size_t len)
{
	uint8_t *p = malloc(len ? len : 1);

	assert_non_null(p);
	memcpy(p, data, len);
	return p;
}

static int parse(const void *data, size_t len, struct dns_question *q)
{
	uint8_t *p = exact(data, len);
	int r = dns_question_parse(q, p, len);

	free(p);
	return r;
}
#define PARSE(s, q) parse(s, sizeof(s) - 1, q)

#define HDR   "\x12\x34\x01\x00\0\x01\0\0\0\0\0\0"
#define HDR_X "\x12\x34\x01\x00\0\x01\0\0\0\0\0\x01"
#define NAME  "\3wWw\7example\3org\0"
#define A_IN  "\0\x01\0\x01"

static void test_question(void **state)
{
	struct dns_question q;

	assert_int_equal(PARSE(HDR NAME A_IN, &q), 0);
	assert_int_equal(q.id, 0x1234);
	assert_string_equal(q.text, "www.example.org");
	assert_int_equal(q.type, DNS_A);
	assert_int_equal(q.end, 12 + 17 + 4);
	assert_false(q.edns);
	assert_int_equal(q.udp_size, 512);

	assert_int_equal(PARSE(HDR_X NAME A_IN "\0\0\x29\x04\xd0\0\0\0\0\0\0", &q), 0);
	assert_true(q.edns);
	assert_int_equal(q.udp_size, 1232);
	assert_int_equal(q.edns_at, 12 + 17 + 4 + 3);
	assert_int_equal(PARSE(HDR_X NAME A_IN "\0\0\x29\0\x05\0\0\0\0\0\0", &q), 0);
	assert_int_equal(q.udp_size, 512);
	assert_int_equal(PARSE(HDR_X NAME A_IN "\0\0\x29\xff\xff\0\0\0\0\0\0", &q), 0);
	assert_int_equal(q.udp_size, 4096);
	assert_int_equal(PARSE(HDR "\0" A_IN, &q), 0);
	assert_string_equal(q.text, "");
}

static void test_bad_questions(void **state)
{
	static const uint8_t long_label[] =
		HDR "\x40xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\0" A_IN;
	uint8_t msg[512];
	struct dns_question q;
	size_t len;

	for (size_t n = 0; n < 12; n++)
		assert_int_equal(parse(HDR, n, &q), -EINVAL);
	assert_int_equal(PARSE("\x12\x34\x81\x00\0\x01\0\0\0\0\0\0" NAME A_IN, &q), -EINVAL);
	assert_int_equal(PARSE("\x12\x34\x28\x00\0\x01\0\0\0\0\0\0" NAME A_IN, &q), -ENOTSUP);
	for (size_t n = 12; n < sizeof(HDR NAME A_IN) - 1; n++)
		assert_int_equal(parse(HDR NAME A_IN, n, &q), -EBADMSG);
	assert_int_equal(PARSE(HDR NAME A_IN "x", &q), -EBADMSG);
	assert_int_equal(PARSE("\x12\x34\x01\x00\0\x02\0\0\0\0\0\0" NAME A_IN NAME A_IN, &q), -EBADMSG);
	assert_int_equal(PARSE("\x12\x34\x01\x00\0\0\0\0\0\0\0\0", &q), -EBADMSG);
	assert_int_equal(PARSE("\x12\x34\x01\x00\0\x01\0\x01\0\0\0\0" NAME A_IN, &q), -EBADMSG);
	/* Pointers: to itself, ahead, into the header, in a circle, cut off. */
	assert_int_equal(PARSE(HDR "\xc0\x0c" A_IN, &q), -EBADMSG);
	assert_int_equal(PARSE(HDR "\xc0\x0e\0" A_IN, &q), -EBADMSG);
	assert_int_equal(PARSE(HDR "\xc0\x04" A_IN, &q), -EBADMSG);
	assert_int_equal(PARSE(HDR "\1a\xc0\x0c" A_IN, &q), -EBADMSG);
	assert_int_equal(PARSE(HDR "\1a\xc0", &q), -EBADMSG);
	assert_int_equal(PARSE(HDR "\x80" A_IN, &q), -EBADMSG);
	assert_int_equal(parse(long_label, sizeof(long_label) - 1, &q), -EBADMSG);
	/* EDNS twice, with a name, cut off. */
	assert_int_equal(PARSE("\x12\x34\x01\x00\0\x01\0\0\0\0\0\x02" NAME A_IN "\0\0\x29\x04\xd0\0\0\0\0\0\0"
			       "\0\0\x29\x04\xd0\0\0\0\0\0\0",
				 &q),
		-EBADMSG);
	assert_int_equal(PARSE(HDR_X NAME A_IN "\1a\0\0\x29\x04\xd0\0\0\0\0\0\0", &q), -EBADMSG);
	assert_int_equal(PARSE(HDR_X NAME A_IN "\0\0\x29\x04\xd0\0\0\0\0\0\1", &q), -EBADMSG);
	assert_int_equal(PARSE(HDR_X NAME A_IN "\0\0\x29\x04\xd0\0\0\0\0", &q), -EBADMSG);

	/* 63 and 255 bytes, and one more. */
	for (unsigned extra = 0; extra < 2; extra++) {
		memcpy(msg, HDR, 12);
		len = 12;
		for (unsigned i = 0; i < 4; i++) {
			unsigned n = i < 3 ? 63 : 61 + extra;
			msg[len++] = (uint8_t)n;
			memset(msg + len, 'A', n);
			len += n;
		}
		memcpy(msg + len, "\0" A_IN, 5);
		assert_int_equal(parse(msg, len + 5, &q), extra ? -EBADMSG : 0);
		assert_int_equal(extra ? 253 : strlen(q.text), 253);
	}
}

/* Names that could be taken for others. */
static void test_names(void **state)
{
	struct dns_question q;
	struct dns_name n;
	struct net_addr a;
	char text[NET_ADDR_TEXT_MAX];
	static const struct {
		const char *name, *address;
	} reverse[] = {
		{"4.3.2.10.in-addr.arpa", "10.2.3.4"},
		{"256.3.2.10.in-addr.arpa", NULL},
		{"04.3.2.10.in-addr.arpa", NULL},
		{"3.2.10.in-addr.arpa", NULL},
		{"5.4.3.2.10.in-addr.arpa", NULL},
		{"+4.3.2.10.in-addr.arpa", NULL},
		{"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.9.0.D.f.ip6.arpa", "fd09::2"},
		{"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.9.0.d.ip6.arpa", NULL},
		{"20.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.9.0.d.f.ip6.arpa", NULL},
		{"in-addr.arpa", NULL},
		{"", NULL},
	};

	assert_int_equal(PARSE(HDR "\x0b"
				   "example.org\0" A_IN,
				 &q),
		0);
	assert_string_equal(q.text, "example\\046org");
	assert_int_equal(PARSE(HDR "\5a\\b\0\xff\0" A_IN, &q), 0);
	assert_string_equal(q.text, "a\\092b\\000\\255");
	for (size_t i = 0; i < ARRAY_LEN(reverse); i++) {
		assert_int_equal(dns_name_parse(reverse[i].name, &n), 0);
		bool is = dns_name_reverse(&n, &a);
		assert_int_equal(is, reverse[i].address != NULL);
		if (is)
			assert_string_equal(net_addr_text(&a, text), reverse[i].address);
	}
	assert_int_equal(dns_name_parse("a..b", &n), -EINVAL);
	assert_int_equal(dns_name_parse(".", &n), -EINVAL);
}

/* ---- answers ---- */

struct seen {
	unsigned n;
	struct {
		char text[NET_ADDR_TEXT_MAX];
		uint32_t ttl;
	} v[64];
};

static void see(void *data, const struct net_addr *a, uint32_t ttl_s)
{
	struct seen *s = data;

	assert_true(s->n < ARRAY_LEN(s->v));
	net_addr_text(a, s->v[s->n].text);
	s->v[s->n++].ttl = ttl_s;
}

static void addresses(const void *data, size_t len, struct seen *s)
{
	struct dns_question q;
	uint8_t *p = exact(data, len);

	*s = (struct seen){0};
	assert_int_equal(PARSE(HDR NAME A_IN, &q), 0);
	dns_answer_addresses(&q, p, len, see, s);
	free(p);
}
#define ADDRESSES(m, s) addresses(m, sizeof(m) - 1, s)

#define ANSWERS(n)	   "\x12\x34\x81\x80\0\x01\0" n "\0\0\0\0" NAME A_IN
#define RR(type, ttl, len) "\0" type "\0\x01\0\0\0" ttl "\0" len

static void test_addresses(void **state)
{
	struct seen s;

	/* Two, of another class and another name none. */
	ADDRESSES(ANSWERS("\4") "\xc0\x0c" RR("\1", "\x3c", "\4") "\1\2\3\4" NAME RR("\1", "\x3d",
			  "\4") "\1\2\3\5"
				"\xc0\x10" RR("\1", "\x3c", "\4") "\1\2\3\6"
								  "\xc0\x0c\0\1\0\3\0\0\0\x3c\0\4\1\2\3\7",
		&s);
	assert_int_equal(s.n, 2);
	assert_string_equal(s.v[0].text, "1.2.3.4");
	assert_string_equal(s.v[1].text, "1.2.3.5");
	assert_int_equal(s.v[1].ttl, 0x3d);
	/* An alias, wherever it stands; the smaller time counts. Offsets: answers begin at 33. */
	ADDRESSES(ANSWERS("\2") "\1b\xc0\x10" RR(
			  "\x1c", "\x3c", "\x10") "\xfd\x09\0\0\0\0\0\0\0\0\0\0\0\0\0\2"
						  "\xc0\x0c" RR("\5", "\x05", "\2") "\xc0\x21",
		&s);
	assert_int_equal(s.n, 1);
	assert_string_equal(s.v[0].text, "fd09::2");
	assert_int_equal(s.v[0].ttl, 5);
	/* Aliases in a circle, or of themselves. */
	ADDRESSES(ANSWERS("\1") "\xc0\x0c" RR("\5", "\x05", "\2") "\xc0\x0c", &s);
	assert_int_equal(s.n, 0);
	ADDRESSES(
		ANSWERS("\2") "\xc0\x0c" RR("\5", "\x05", "\4") "\1b\xc0\x10"
								"\xc0\x2d" RR("\5", "\x05", "\2") "\xc0\x0c",
		&s);
	assert_int_equal(s.n, 0);
	/* A time that is negative, a length that is wrong, a mapped address, a record that is cut off. */
	ADDRESSES(ANSWERS("\1") "\xc0\x0c\0\1\0\1\x80\0\0\1\0\4\1\2\3\4", &s);
	assert_int_equal(s.v[0].ttl, 0);
	ADDRESSES(ANSWERS("\1") "\xc0\x0c" RR("\1", "\x3c", "\5") "\1\2\3\4\5", &s);
	assert_int_equal(s.n, 0);
	ADDRESSES(
		ANSWERS("\1") "\xc0\x0c" RR("\x1c", "\x3c", "\x10") "\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\1",
		&s);
	assert_int_equal(s.n, 0);
	ADDRESSES(ANSWERS("\2") "\xc0\x0c" RR("\1", "\x3c", "\4") "\1\2\3\4\xc0\x0c" RR(
			  "\1", "\x3c", "\4") "\1\2\3",
		&s);
	assert_int_equal(s.n, 1);
	/* A name that points ahead, to where the right one is. */
	ADDRESSES(ANSWERS("\2") "\xc0\x31" RR("\1", "\x3c", "\4") "\1\2\3\4" NAME RR(
			  "\1", "\x3c", "\4") "\1\2\3\5",
		&s);
	assert_int_equal(s.n, 0);
	ADDRESSES(ANSWERS("\xff"), &s);
	assert_int_equal(s.n, 0);
}

static int match(const void *data, size_t len)
{
	struct dns_question q;
	uint8_t *p = exact(data, len);

	assert_int_equal(PARSE(HDR NAME A_IN, &q), 0);
	int r = dns_answer_match(&q, 0x1234, p, len);
	free(p);
	return r;
}
#define MATCH(m) match(m, sizeof(m) - 1)

static void test_match(void **state)
{
	assert_int_equal(MATCH(ANSWERS("\0")), DNS_NOERROR);
	assert_int_equal(MATCH("\x12\x34\x81\x83\0\x01\0\0\0\0\0\0\3WWW\7EXAMPLE\3org\0" A_IN), DNS_NXDOMAIN);
	assert_int_equal(MATCH("\x12\x34\x81\x85\0\0\0\0\0\0\0\0"), DNS_REFUSED);
	assert_int_equal(MATCH("\x12\x34\x81\x80\0\0\0\0\0\0\0\0"), -EBADMSG);
	assert_int_equal(MATCH("\x12\x35\x81\x80\0\x01\0\0\0\0\0\0" NAME A_IN), -EBADMSG);
	assert_int_equal(MATCH("\x12\x34\x01\x80\0\x01\0\0\0\0\0\0" NAME A_IN), -EBADMSG);
	assert_int_equal(MATCH("\x12\x34\x81\x80\0\x02\0\0\0\0\0\0" NAME A_IN), -EBADMSG);
	assert_int_equal(MATCH("\x12\x34\x81\x80\0\x01\0\0\0\0\0\0" NAME "\0\x1c\0\x01"), -EBADMSG);
	assert_int_equal(MATCH("\x12\x34\x81\x80\0\x01\0\0\0\0\0\0\3wwx\7example\3org\0" A_IN), -EBADMSG);
	assert_int_equal(MATCH("\x12\x34\x81\x80\0\x01\0\0\0\0\0\0\3www\7example\3org\0\0\1\0"), -EBADMSG);
}

static void test_resolvconf(void **state)
{
	static const char text[] = "# nameserver 9.9.9.9\n; nameserver 9.9.9.8\nsearch a b\n\n"
				   "nameserver 10.0.0.1\r\n\tnameserver   fd00::53 # note\nnameserver "
				   "fe80::1%lo\nnameserver bad\n"
				   "nameserver\nnameserver 10.0.0.1%lo\nnameserver fe80::1%\nnameserver "
				   "fe80::1%7x\nnameserver fe80::2%7\n"
				   "options ndots:3 timeout:30 attempts:2 rotate\nnameserver 10.0.0.2";
	struct resolvers r;
	struct net_addr a;
	uint16_t port;
	char buf[NET_ADDR_TEXT_MAX];
	static const char *const want[] = {"10.0.0.1", "fd00::53", "fe80::1", "fe80::2", "10.0.0.2"};
	char *many = malloc(100000);

	resolvers_parse(text, sizeof(text) - 1, &r);
	assert_int_equal(r.n, ARRAY_LEN(want));
	for (size_t i = 0; i < r.n; i++) {
		assert_true(net_addr_from_sockaddr(&r.v[i].addr, &a, &port));
		assert_string_equal(net_addr_text(&a, buf), want[i]);
		assert_int_equal(port, 53);
	}
	assert_int_equal(((struct sockaddr_in6 *)&r.v[2].addr)->sin6_scope_id, 1);
	assert_int_equal(((struct sockaddr_in6 *)&r.v[3].addr)->sin6_scope_id, 7);
	assert_int_equal(r.timeout_s, 5);
	assert_int_equal(r.attempts, 2);
	assert_true(r.rotate);

	size_t n = 0;
	for (unsigned i = 0; i < 100; i++)
		n += (size_t)sprintf(many + n, "nameserver 10.0.0.%u\n", i);
	resolvers_parse(many, n, &r);
	assert_int_equal(r.n, NETD_UPSTREAMS_MAX);
	memset(many, 'x', 100000);
	resolvers_parse(many, 100000, &r);
	assert_int_equal(r.n, 0);
	free(many);
	resolvers_parse("", 0, &r);
	assert_int_equal(r.n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_question),
		cmocka_unit_test(test_bad_questions),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_match),
		cmocka_unit_test(test_resolvconf),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
