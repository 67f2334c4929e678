/* SPDX-License-Identifier: MIT */
/* The gateway's DNS server: names of the network, and what resolvers of the test's own answer. */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/io.h"
#include "dns.h"
#include "test-outside.h"

static char conf[] = "/tmp/a3s-test-dns-XXXXXX";

static void write_conf(struct outside *o, const char *text)
{
	assert_int_equal(io_write_file_at(AT_FDCWD, conf, text, strlen(text), 0600), 0);
	o->g.dns->resolvconf.path = conf;
	o->g.dns->resolvconf.looked_ns = 0;
}

static int setup(void **state)
{
	static struct outside o;

	if (!outside_enter()) {
		print_message("no network namespace of our own: not permitted here\n");
		*state = NULL;
		return 0;
	}
	outside_init(&o);
	write_conf(&o, "nameserver 127.0.0.53\noptions timeout:1\n");
	*state = &o;
	return 0;
}

static int teardown(void **state)
{
	if (*state)
		outside_done(*state);
	return 0;
}

static int make_conf(void **state)
{
	CLEANUP_CLOSE int fd = mkostemp(conf, O_CLOEXEC);

	return fd < 0 ? -1 : 0;
}

static int remove_conf(void **state)
{
	return unlink(conf);
}

#define SETUP(o) \
	struct outside *o = *state; \
	if (!(o)) \
	skip()

/* ---- questions and answers ---- */

enum { ID = 0x4321, SPORT = 3000 };

/* Writes a question; edns 0: without. Returns its length. */
static size_t make(uint8_t *msg, uint16_t id, const char *name, uint16_t type, uint16_t edns)
{
	static const uint8_t opt[11] = {0, 0, DNS_OPT};
	struct dns_name n;

	assert_int_equal(dns_name_parse(name, &n), 0);
	memset(msg, 0, DNS_HDR_LEN);
	dns_put16(msg, id);
	dns_put16(msg + 2, DNS_RD);
	dns_put16(msg + 4, 1);
	memcpy(msg + DNS_HDR_LEN, n.wire, n.len);
	size_t len = DNS_HDR_LEN + n.len;
	/* As it was given: dns_name_parse makes it lower case. */
	for (size_t i = 0, at = DNS_HDR_LEN + 1; name[i]; i++, at++) {
		if (name[i] != '.')
			msg[at] = (uint8_t)name[i];
	}
	dns_put16(msg + len, type);
	dns_put16(msg + len + 2, DNS_IN);
	len += 4;
	if (edns) {
		memcpy(msg + len, opt, sizeof(opt));
		dns_put16(msg + len + 3, edns);
		dns_put16(msg + 10, 1);
		len += sizeof(opt);
	}
	return len;
}

struct answer {
	const uint8_t *msg;
	size_t len;
	int rcode; /* -1: it does not answer the question */
	bool tc, aa;
	unsigned n; /* addresses */
	char v[8][NET_ADDR_TEXT_MAX];
	uint32_t ttl;
};

static void see(void *data, const struct net_addr *a, uint32_t ttl_s)
{
	struct answer *an = data;

	if (an->n < ARRAY_LEN(an->v))
		net_addr_text(a, an->v[an->n]);
	an->n++;
	an->ttl = ttl_s;
}

static struct answer read_answer(const uint8_t *question, size_t question_len, const uint8_t *msg, size_t len)
{
	struct answer an = {.msg = msg, .len = len};
	struct dns_question q;

	assert_int_equal(dns_question_parse(&q, question, question_len), 0);
	an.rcode = dns_answer_match(&q, q.id, msg, len);
	assert_true(len >= DNS_HDR_LEN);
	an.tc = dns_get16(msg + 2) & DNS_TC;
	an.aa = dns_get16(msg + 2) & DNS_AA;
	if (an.rcode >= 0)
		dns_answer_addresses(&q, msg, len, see, &an);
	return an;
}

static void ask(struct outside *o, uint16_t id, const char *name, uint16_t type, uint16_t edns)
{
	uint8_t msg[512];

	outside_box_sends(o, dns_input, "10.9.0.1", SPORT, 53, msg, make(msg, id, name, type, edns));
}

/* What the box gets, to that question. */
static struct answer answer_to(struct outside *o, uint16_t id, const char *name, uint16_t type, uint16_t edns)
{
	const struct pkt *k = outside_receive(o, 0);
	uint8_t msg[512];
	char src[NET_ADDR_TEXT_MAX];

	assert_string_equal(net_addr_text(&k->src, src), "10.9.0.1");
	assert_int_equal(k->sport, 53);
	assert_int_equal(k->dport, SPORT);
	struct answer an =
		read_answer(msg, make(msg, id, name, type, edns), k->frame + k->payload, k->payload_len);
	assert_true(an.rcode >= 0);
	return an;
}

static struct answer asked(struct outside *o, const char *name, uint16_t type)
{
	ask(o, ID, name, type, 0);
	return answer_to(o, ID, name, type, 0);
}

/* ---- a resolver ---- */

struct query {
	uint8_t msg[DNS_MAX];
	size_t len;
	struct sockaddr_storage from;
	socklen_t from_len;
};

static void wait_readable(struct outside *o, int fd)
{
	struct pollfd p = {fd, POLLIN, 0};
	uint64_t end = time_mono_ns() + 10000000000ull;

	while (poll(&p, 1, 0) == 0 && time_mono_ns() < end)
		loop_turn(o->g.loop, 5);
	assert_true(p.revents);
}

static void upstream_receive(struct outside *o, int fd, struct query *q)
{
	wait_readable(o, fd);
	q->from_len = sizeof(q->from);
	ssize_t n = recvfrom(fd, q->msg, sizeof(q->msg), 0, (struct sockaddr *)&q->from, &q->from_len);
	assert_true(n >= DNS_HDR_LEN);
	q->len = (size_t)n;
}

static void upstream_send(int fd, const struct query *q, const void *msg, size_t len)
{
	assert_int_equal(sendto(fd, msg, len, 0, (const struct sockaddr *)&q->from, q->from_len), len);
}

/* Makes an answer of a question in place, with these records. Returns its length. */
static size_t to_answer(
	uint8_t *msg, size_t len, unsigned rcode, unsigned n, const void *records, size_t records_len)
{
	struct dns_question q;

	assert_int_equal(dns_question_parse(&q, msg, len), 0);
	dns_put16(msg + 2, DNS_QR | DNS_RD | DNS_RA | rcode);
	dns_put16(msg + 6, n);
	dns_put16(msg + 10, 0);
	if (records_len)
		memcpy(msg + q.end, records, records_len);
	return q.end + records_len;
}

static const uint8_t a_record[] = "\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc6\x12\0\1"; /* 198.18.0.1, 60 s */
#define A_LEN 16

static void upstream_answer(struct outside *o, int fd, unsigned rcode)
{
	struct query q;

	upstream_receive(o, fd, &q);
	bool ok = rcode == DNS_NOERROR;
	size_t len = to_answer(q.msg, q.len, rcode, ok, a_record, ok ? A_LEN : 0);
	upstream_send(fd, &q, q.msg, len);
}

/* ---- tests ---- */

static void test_names(void **state)
{
	static struct port db, db2;
	SETUP(o);

	db = (struct port){.g = &o->g,
		.slot = 5,
		.a = {.box = (char *)"ffffffffffffffffff",
			.name = (char *)"db",
			.hostname = (char *)"web",
			.ip4 = outside_addr("10.9.0.5"),
			.ip6 = outside_addr("fd09::5")}};
	db2 = (struct port){.g = &o->g,
		.slot = 900,
		.a = {.box = (char *)"eeeeeeeeeeeeeeeeee",
			.name = (char *)"db2",
			.hostname = (char *)"inner.example",
			.ip4 = outside_addr("10.9.0.6")}};
	assert_int_equal(strv_push(&db.a.aliases, "Store"), 0);
	assert_int_equal(strv_push(&db2.a.aliases, "store"), 0);
	assert_int_equal(strv_push(&o->box.a.hosts, "mine:192.0.2.9"), 0);
	assert_int_equal(strv_push(&o->box.a.hosts, "Mine:[2001:db8::9]"), 0);
	assert_int_equal(strv_push(&o->box.a.hosts, "db2:2001:db8::7"), 0);
	assert_int_equal(strv_push(&o->box.a.hosts, "broken:x"), 0);
	o->g.ports[5] = &db;
	o->g.ports[900] = &db2;
	o->g.n_ports = 3;

	static const struct {
		const char *name;
		uint16_t type;
		int rcode;
		const char *want[4];
	} cases[] = {
		{"db", DNS_A, DNS_NOERROR, {"10.9.0.5"}},
		{"DB", DNS_AAAA, DNS_NOERROR, {"fd09::5"}},
		{"db", DNS_ANY, DNS_NOERROR, {"10.9.0.5", "fd09::5"}},
		{"db", 15, DNS_NOERROR, {0}},
		{"db.mynet", DNS_A, DNS_NOERROR, {"10.9.0.5"}},
		{"db.MyNet", DNS_A, DNS_NOERROR, {"10.9.0.5"}},
		{"ffffffffffff", DNS_A, DNS_NOERROR, {"10.9.0.5"}},
		{"ffffffffffff.mynet", DNS_A, DNS_NOERROR, {"10.9.0.5"}},
		{"inner.example", DNS_A, DNS_NOERROR, {"10.9.0.6"}},
		{"inner.example", DNS_AAAA, DNS_NOERROR, {0}},
		{"web", DNS_A, DNS_NOERROR, {"10.9.0.2"}}, /* a name comes before a hostname */
		{"store", DNS_AAAA, DNS_NOERROR, {"fd09::5"}},
		{"mine", DNS_A, DNS_NOERROR, {"192.0.2.9"}},
		{"mine", DNS_AAAA, DNS_NOERROR, {"2001:db8::9"}},
		{"db2", DNS_A, DNS_NOERROR, {0}}, /* --add-host comes before the box */
		{"db2", DNS_AAAA, DNS_NOERROR, {"2001:db8::7"}},
		{"host.a3s.internal", DNS_A, DNS_NOERROR, {"10.9.0.1"}},
		{"HOST.a3s.internal", DNS_AAAA, DNS_NOERROR, {"fd09::1"}},
		{"77.0.9.10.in-addr.arpa", DNS_PTR, DNS_NXDOMAIN, {0}},
		{"db", DNS_AXFR, DNS_REFUSED, {0}},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct answer an = asked(o, cases[i].name, cases[i].type);
		unsigned n = 0;
		assert_int_equal(an.rcode, cases[i].rcode);
		while (n < ARRAY_LEN(cases[i].want) && cases[i].want[n])
			n++;
		if (an.n != n)
			fail_msg("%s: %u addresses", cases[i].name, an.n);
		assert_int_equal(dns_get16(an.msg + 6), n);
		/* They come in turns. */
		for (unsigned j = 0; j < n; j++)
			assert_true(strcmp(an.v[0], cases[i].want[j]) == 0 ||
				    (n == 2 && strcmp(an.v[1], cases[i].want[j]) == 0));
		assert_true(an.ttl <= 5);
		assert_int_equal(an.aa, cases[i].rcode != DNS_REFUSED);
	}
	/* Several boxes of one alias, each first in its turn. */
	unsigned first[2] = {0};
	for (unsigned i = 0; i < 8; i++) {
		struct answer an = asked(o, "store", DNS_A);
		assert_int_equal(an.n, 2);
		assert_string_not_equal(an.v[0], an.v[1]);
		first[strcmp(an.v[0], "10.9.0.5") == 0]++;
	}
	assert_int_equal(first[0], 4);
	/* On an internal network nobody else is asked. */
	o->g.config.internal = true;
	o->g.n_ports = 2;
	o->g.ports[5] = NULL;
	assert_int_equal(asked(o, "db", DNS_A).rcode, DNS_NXDOMAIN);
	strv_done(&db.a.aliases);
	strv_done(&db2.a.aliases);
	strv_done(&o->box.a.hosts);
}

static void test_reverse(void **state)
{
	SETUP(o);
	static const struct {
		const char *name, *target;
	} cases[] = {{"2.0.9.10.in-addr.arpa", "web.mynet"}, {"1.0.9.10.in-addr.arpa", "host.a3s.internal"},
		{"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.9.0.D.f.ip6.arpa", "web.mynet"}};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct answer an = asked(o, cases[i].name, DNS_PTR);
		uint8_t msg[512];
		struct dns_name target;
		char text[DNS_TEXT_MAX];
		size_t at = make(msg, ID, cases[i].name, DNS_PTR, 0) + 12;
		assert_int_equal(an.rcode, DNS_NOERROR);
		assert_int_equal(dns_get16(an.msg + 6), 1);
		assert_int_equal(dns_name_read(an.msg, an.len, &at, &target), 0);
		assert_int_equal(at, an.len);
		assert_string_equal(dns_name_text(&target, text), cases[i].target);
	}
}

/* More addresses than a datagram takes, and EDNS. */
static void test_sizes(void **state)
{
	enum { N = 200 };
	static struct port many[N];
	SETUP(o);

	for (unsigned i = 0; i < N; i++) {
		const uint8_t a[4] = {10, 9, 0, (uint8_t)(i + 10)};
		many[i] = (struct port){.g = &o->g, .a = {.name = (char *)"many", .ip4 = net_addr_from4(a)}};
		o->g.ports[10 + i] = &many[i];
	}
	o->g.n_ports += N;
	static const struct {
		uint16_t edns;
		unsigned n;
	} cases[] = {{0, (512 - 22) / 16}, {1232, (1232 - 22 - 11) / 16}, {9000, N}};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		ask(o, ID, "many", DNS_A, cases[i].edns);
		struct answer an = answer_to(o, ID, "many", DNS_A, cases[i].edns);
		assert_int_equal(dns_get16(an.msg + 6), cases[i].n);
		assert_int_equal(an.n, MIN_OF(cases[i].n, 64u)); /* as many as are read */
		assert_int_equal(an.tc, cases[i].n < N);
		assert_int_equal(dns_get16(an.msg + 10), cases[i].edns != 0);
	}
	/* A version of EDNS that is not there yet (RFC 6891 section 6.1.3). */
	uint8_t msg[512];
	size_t len = make(msg, ID, "many", DNS_A, 1232);
	msg[len - 5] = 1;
	outside_box_sends(o, dns_input, "10.9.0.1", SPORT, 53, msg, len);
	const struct pkt *k = outside_receive(o, 0);
	assert_int_equal(k->frame[k->payload + 3] & 15, 0);
	assert_int_equal(k->frame[k->payload + k->payload_len - 6], 1);
	memset(o->g.ports + 10, 0, N * sizeof(*o->g.ports));
	o->g.n_ports = 1;
}

static void test_malformed(void **state)
{
	uint8_t msg[512];
	SETUP(o);

	size_t len = make(msg, ID, "web", DNS_A, 0);
	outside_box_sends(o, dns_input, "10.9.0.1", SPORT, 53, msg, len - 1);
	const struct pkt *k = outside_receive(o, 0);
	assert_int_equal(k->payload_len, DNS_HDR_LEN);
	assert_int_equal(dns_get16(k->frame + k->payload), ID);
	assert_int_equal(k->frame[k->payload + 3] & 15, DNS_FORMERR);
	msg[2] = 0x28;
	outside_box_sends(o, dns_input, "10.9.0.1", SPORT, 53, msg, len);
	k = outside_receive(o, 0);
	assert_int_equal(k->frame[k->payload + 3] & 15, DNS_NOTIMP);
	/* Answers are not answered: two servers would talk for ever. */
	msg[2] = 0x80;
	outside_box_sends(o, dns_input, "10.9.0.1", SPORT, 53, msg, len);
	outside_box_sends(o, dns_input, "10.9.0.1", SPORT, 53, msg, 5);
	assert_null(outside_receive(o, 20));
}

static void test_forward(void **state)
{
	struct query q, second;
	SETUP(o);
	CLEANUP_CLOSE int fd = outside_socket(SOCK_DGRAM, "127.0.0.53", 53);
	CLEANUP_CLOSE int liar = outside_socket(SOCK_DGRAM, "127.0.0.54", 53);
	unsigned fds = outside_count_fds();

	ask(o, ID, "wWw.Example.org", DNS_A, 9000);
	upstream_receive(o, fd, &q);
	/* As it came, but for ID and size. */
	uint8_t want[512];
	size_t len = make(want, dns_get16(q.msg), "wWw.Example.org", DNS_A, DNS_UDP_MAX);
	assert_int_equal(q.len, len);
	assert_memory_equal(q.msg, want, len);
	/* The box asks again: that is one question. */
	ask(o, ID, "www.example.org", DNS_A, 9000);
	assert_int_equal(o->box.n_dns, 1);
	/* Lies: from elsewhere, another ID, another question, a question. */
	uint8_t lie[512];
	memcpy(lie, q.msg, q.len);
	len = to_answer(lie, q.len, DNS_NOERROR, 1, a_record, A_LEN);
	upstream_send(liar, &q, lie, len);
	lie[0] ^= 1;
	upstream_send(fd, &q, lie, len);
	lie[0] ^= 1;
	lie[13] ^= 1;
	upstream_send(fd, &q, lie, len);
	lie[13] ^= 1;
	lie[2] &= 0x7f;
	upstream_send(fd, &q, lie, len);
	upstream_send(fd, &q, "x", 1);
	assert_null(outside_receive(o, 30));
	assert_int_equal(o->n_learned, 0);
	/* The truth, its question in lower case; the box gets its own. */
	len = to_answer(q.msg, q.len, DNS_NOERROR, 1, a_record, A_LEN);
	q.msg[14] = 'w';
	upstream_send(fd, &q, q.msg, len);
	struct answer an = answer_to(o, ID, "wWw.Example.org", DNS_A, 9000);
	assert_int_equal(an.n, 1);
	assert_string_equal(an.v[0], "198.18.0.1");
	assert_int_equal(an.ttl, 60);
	assert_memory_equal(an.msg + 12, "\3wWw\7Example\3org", 16);
	assert_int_equal(o->n_learned, 1);
	assert_string_equal(o->learned[0].name, "www.example.org");
	assert_int_equal(o->learned[0].ttl_s, 60);
	assert_int_equal(o->box.n_dns, 0);
	assert_int_equal(outside_count_fds(), fds);

	/* Another socket and another ID each time. */
	ask(o, ID, "a.example.org", DNS_A, 0);
	ask(o, ID, "b.example.org", DNS_A, 0);
	upstream_receive(o, fd, &q);
	upstream_receive(o, fd, &second);
	assert_memory_not_equal(&q.from, &second.from, sizeof(struct sockaddr_in));
	upstream_send(fd, &second, second.msg, to_answer(second.msg, second.len, DNS_NXDOMAIN, 0, NULL, 0));
	assert_int_equal(answer_to(o, ID, "b.example.org", DNS_A, 0).rcode, DNS_NXDOMAIN);
	/* Too large for who asked: nothing, and the word to come by TCP. */
	uint8_t *large = malloc(64 * A_LEN);
	for (unsigned i = 0; i < 64; i++)
		memcpy(large + i * A_LEN, a_record, A_LEN);
	upstream_send(fd, &q, q.msg, to_answer(q.msg, q.len, DNS_NOERROR, 64, large, 64 * A_LEN));
	free(large);
	an = answer_to(o, ID, "a.example.org", DNS_A, 0);
	assert_true(an.tc);
	assert_int_equal(an.n, 0);
}

static void test_learning(void **state)
{
	struct query q;
	SETUP(o);
	CLEANUP_CLOSE int fd = outside_socket(SOCK_DGRAM, "127.0.0.53", 53);
	/* x.example.org: alias (5 s) of y.<name>, which has 198.18.0.2 (one week), this host's loopback, and the gateway. */
	static const uint8_t records[] = "\xc0\x0c\0\5\0\1\0\0\0\5\0\4\1y\xc0\x0c"
					 "\xc0\x2b\0\1\0\1\0\x09\x3a\x80\0\4\xc6\x12\0\2"
					 "\xc0\x2b\0\1\0\1\0\0\0\5\0\4\x7f\0\0\1"
					 "\xc0\x2b\0\1\0\1\0\0\0\5\0\4\x0a\x09\0\1"
					 "\1z\xc0\x2b\0\1\0\1\0\0\0\5\0\4\xc6\x12\0\3";

	ask(o, ID, "x.example.org", DNS_A, 0);
	upstream_receive(o, fd, &q);
	upstream_send(fd, &q, q.msg, to_answer(q.msg, q.len, DNS_NOERROR, 5, records, sizeof(records) - 1));
	struct answer an = answer_to(o, ID, "x.example.org", DNS_A, 0);
	assert_int_equal(dns_get16(an.msg + 6), 5);
	assert_int_equal(o->n_learned, 1);
	assert_string_equal(o->learned[0].name, "x.example.org");
	assert_int_equal(o->learned[0].ttl_s, DNS_LEARN_MIN_S);
	struct net_addr want = outside_addr("198.18.0.2");
	assert_true(net_addr_equal(&o->learned[0].addr, &want));

	static const uint8_t near[] = "\xc0\x0c\0\1\0\1\0\0\0\5\0\4\xc0\xa8\1\5"
				      "\xc0\x0c\0\1\0\1\0\0\0\5\0\4\xa9\xfe\xa9\xfe"
				      "\xc0\x0c\0\1\0\1\0\0\0\5\0\4\xc6\x12\0\4";
	o->host_addr = "192.168.1.5";
	for (unsigned i = 0; i < 2; i++) {
		o->no_domains = i == 0; /* then nothing is to be learned */
		ask(o, (uint16_t)(ID + 1 + i), "x.example.org", DNS_A, 0);
		upstream_receive(o, fd, &q);
		upstream_send(fd, &q, q.msg, to_answer(q.msg, q.len, DNS_NOERROR, 3, near, sizeof(near) - 1));
		answer_to(o, (uint16_t)(ID + 1 + i), "x.example.org", DNS_A, 0);
		assert_int_equal(o->n_learned, 1 + i);
	}
	want = outside_addr("198.18.0.4");
	assert_true(net_addr_equal(&o->learned[1].addr, &want));
	o->deny_name = "secret.example.org";
	assert_int_equal(asked(o, "SECRET.example.org", DNS_A).rcode, DNS_REFUSED);
	assert_int_equal(o->box.n_dns, 0);
}

static void test_resolvers(void **state)
{
	SETUP(o);
	CLEANUP_CLOSE int first = outside_socket(SOCK_DGRAM, "127.0.0.53", 53);
	CLEANUP_CLOSE int other = outside_socket(SOCK_DGRAM, "127.0.0.54", 53);
	CLEANUP_CLOSE int six = outside_socket(SOCK_DGRAM, "::1", 53);
	struct query q;

	/* The file changed. An answer that is none leads to the next resolver, and the last one's is passed on. */
	write_conf(o, "nameserver 127.0.0.53\nnameserver 127.0.0.54\noptions timeout:1\n");
	ask(o, ID, "a.example.org", DNS_A, 0);
	upstream_answer(o, first, DNS_SERVFAIL);
	upstream_answer(o, other, DNS_NOERROR);
	assert_int_equal(answer_to(o, ID, "a.example.org", DNS_A, 0).n, 1);
	ask(o, ID, "a.example.org", DNS_A, 0);
	upstream_answer(o, first, DNS_REFUSED);
	upstream_answer(o, other, DNS_SERVFAIL);
	assert_int_equal(answer_to(o, ID, "a.example.org", DNS_A, 0).rcode, DNS_SERVFAIL);
	/* Nobody listens there: the next, at once. One that is silent: the next, after its second. */
	write_conf(o, "nameserver 127.0.0.99\nnameserver 127.0.0.53\nnameserver ::1\noptions timeout:1\n");
	ask(o, ID, "a.example.org", DNS_A, 0);
	upstream_receive(o, first, &q);
	upstream_answer(o, six, DNS_NOERROR);
	assert_int_equal(answer_to(o, ID, "a.example.org", DNS_A, 0).n, 1);
	/* The file is gone for a moment: what was known holds. */
	write_conf(o, "nameserver 127.0.0.54\n");
	for (unsigned gone = 0; gone < 2; gone++) {
		ask(o, ID, "a.example.org", DNS_A, 0);
		upstream_answer(o, other, DNS_NOERROR);
		answer_to(o, ID, "a.example.org", DNS_A, 0);
		o->g.dns->resolvconf.path = "/nonexistent";
		o->g.dns->resolvconf.looked_ns = 0;
	}
	/* --dns comes before the host's. */
	assert_int_equal(strv_push(&o->box.a.upstreams, "127.0.0.53"), 0);
	ask(o, ID, "a.example.org", DNS_A, 0);
	upstream_answer(o, first, DNS_NOERROR);
	answer_to(o, ID, "a.example.org", DNS_A, 0);
	strv_done(&o->box.a.upstreams);
	/* Only ones that cannot be: no answer can come. */
	assert_int_equal(strv_push(&o->box.a.upstreams, "10.9.0.1"), 0);
	assert_int_equal(asked(o, "a.example.org", DNS_A).rcode, DNS_SERVFAIL);
	strv_done(&o->box.a.upstreams);
	write_conf(o, "nameserver 127.0.0.99\n");
	assert_int_equal(asked(o, "a.example.org", DNS_A).rcode, DNS_SERVFAIL);
	assert_int_equal(o->box.n_dns, 0);
}

static void test_bounds(void **state)
{
	SETUP(o);
	CLEANUP_CLOSE int fd = outside_socket(SOCK_DGRAM, "127.0.0.53", 53);
	unsigned fds = outside_count_fds();
	char name[32];

	assert_true(fd >= 0); /* listens, and says nothing */
	for (unsigned i = 0; i < ENGINE_DNS_PER_PORT; i++) {
		snprintf(name, sizeof(name), "n%u.example.org", i);
		ask(o, (uint16_t)i, name, DNS_A, 0);
	}
	assert_int_equal(o->box.n_dns, ENGINE_DNS_PER_PORT);
	assert_int_equal(asked(o, "more.example.org", DNS_A).rcode, DNS_SERVFAIL);
	/* Nobody answers: it ends (in ten seconds, which do not have to be waited for). */
	assert_false(dns_forward_tick(o->g.dns, time_mono_ns() + DNS_TOTAL_NS));
	assert_int_equal(o->box.n_dns, 0);
	assert_int_equal(outside_count_fds(), fds);
	/* With the box all goes: teardown looks. */
	ask(o, ID, "last.example.org", DNS_A, 0);
	assert_int_equal(o->box.n_dns, 1);
}

/* ---- streams ---- */

static size_t framed(uint8_t *buf, uint16_t id, const char *name, uint16_t type)
{
	size_t len = make(buf + 2, id, name, type, 0);

	dns_put16(buf, (unsigned)len);
	return len + 2;
}

/* Reads a message of a stream that the loop serves. */
static size_t stream_receive(struct outside *o, int fd, uint8_t *buf)
{
	size_t have = 0;

	while (have < 2 || have < 2u + dns_get16(buf)) {
		wait_readable(o, fd);
		ssize_t n = read(fd, buf + have, have < 2 ? 2 - have : 2u + dns_get16(buf) - have);
		assert_true(n > 0);
		have += (size_t)n;
	}
	return have - 2;
}

static int stream(struct outside *o)
{
	int s[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	io_set_nonblock(s[1], true);
	assert_int_equal(dns_serve_stream(&o->box, s[1]), 0);
	return s[0];
}

static void test_stream(void **state)
{
	static uint8_t buf[2 + DNS_MAX], question[2 + 512];
	uint8_t bytes[1024];
	SETUP(o);
	CLEANUP_CLOSE int listener = outside_socket(SOCK_STREAM, "127.0.0.53", 53);
	unsigned fds = outside_count_fds();
	int fd = stream(o);

	/* Three at once, the first to be forwarded, cut anywhere: the local ones do not wait for it. */
	size_t len = framed(bytes, 1, "a.example.org", DNS_A);
	len += framed(bytes + len, 2, "web", DNS_A);
	len += framed(bytes + len, 3, "web.mynet", DNS_AAAA);
	for (size_t at = 0; at < len; at += 7) {
		assert_int_equal(io_write_full(fd, bytes + at, MIN_OF(len - at, 7u)), 0);
		loop_turn(o->g.loop, 0);
	}
	for (uint16_t id = 2; id < 4; id++) {
		size_t n = stream_receive(o, fd, buf);
		size_t q = framed(question, id, id == 2 ? "web" : "web.mynet", id == 2 ? DNS_A : DNS_AAAA);
		assert_int_equal(read_answer(question + 2, q - 2, buf + 2, n).n, 1);
	}
	wait_readable(o, listener);
	CLEANUP_CLOSE int up = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	len = stream_receive(o, up, buf);
	/* 4000 addresses, in pieces. */
	enum { N = 4000 };
	uint8_t *records = malloc(N * A_LEN);
	for (unsigned i = 0; i < N; i++)
		memcpy(records + i * A_LEN, a_record, A_LEN);
	len = to_answer(buf + 2, len, DNS_NOERROR, N, records, N * A_LEN);
	free(records);
	dns_put16(buf, (unsigned)len);
	for (size_t at = 0; at < 2 + len; at += 5000) {
		assert_int_equal(io_write_full(up, buf + at, MIN_OF(2 + len - at, (size_t)5000)), 0);
		loop_turn(o->g.loop, 0);
	}
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	size_t n = stream_receive(o, fd, buf);
	assert_int_equal(n, len);
	len = framed(question, 1, "a.example.org", DNS_A);
	assert_int_equal(read_answer(question + 2, len - 2, buf + 2, n).rcode, DNS_NOERROR);
	assert_int_equal(dns_get16(buf + 2 + 6), N);
	/* It ended with its last answer. */
	wait_readable(o, fd);
	assert_int_equal(read(fd, buf, 1), 0);
	close(fd);
	assert_int_equal(outside_count_fds(), fds + 1);
	assert_int_equal(o->box.n_dns, 0);
}

static void test_stream_bounds(void **state)
{
	uint8_t bytes[512], buf[2 + DNS_QUESTION_MAX];
	int fd[DNS_STREAMS_PER_PORT], s[2];
	SETUP(o);
	CLEANUP_CLOSE int listener = outside_socket(SOCK_STREAM, "127.0.0.53", 53);
	unsigned fds = outside_count_fds();

	assert_true(listener >= 0); /* accepts nothing */
	for (unsigned i = 0; i < ARRAY_LEN(fd); i++)
		fd[i] = stream(o);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	assert_int_equal(dns_serve_stream(&o->box, s[1]), -EMFILE);
	close(s[0]);
	/* Not more than so many of one stream are under way. */
	for (unsigned i = 0; i < 7; i++)
		assert_int_equal(
			io_write_full(fd[0], bytes, framed(bytes, (uint16_t)i, "a.example.org", DNS_A)), 0);
	outside_settle(o);
	assert_int_equal(o->box.n_dns, 2);
	/* Its end is theirs. */
	close(fd[0]);
	outside_settle(o);
	assert_int_equal(o->box.n_dns, 0);
	/* A length that no question has ends a stream, an unanswerable question does not. */
	assert_int_equal(io_write_full(fd[1], "\xff\xff", 2), 0);
	wait_readable(o, fd[1]);
	assert_int_equal(read(fd[1], buf, 1), 0);
	assert_int_equal(io_write_full(fd[2], "\0\0\0\1x", 5), 0);
	assert_int_equal(io_write_full(fd[2], bytes, framed(bytes, 9, "web", DNS_A)), 0);
	assert_int_equal(stream_receive(o, fd[2], buf), 12 + 5 + 4 + 16);
	/* Idle ones end. */
	for (struct dns_stream *st = o->g.dns->streams[o->box.slot]; st; st = st->next)
		st->last_ns -= DNS_IDLE_NS + 1;
	wait_readable(o, fd[3]);
	assert_int_equal(read(fd[3], buf, 1), 0);
	assert_null(o->g.dns->streams[o->box.slot]);
	for (unsigned i = 1; i < ARRAY_LEN(fd); i++)
		close(fd[i]);
	assert_int_equal(outside_count_fds(), fds);
}

/* A reader that does not read is not read from. */
static void test_stream_slow(void **state)
{
	uint8_t bytes[512];
	SETUP(o);
	CLEANUP_CLOSE int fd = stream(o);
	size_t len = framed(bytes, 1, "web", DNS_ANY), sent = 0, got = 0;
	static uint8_t sink[65536];

	io_set_nonblock(fd, true);
	for (unsigned idle = 0; idle < 20;) {
		ssize_t n = write(fd, bytes + sent % len, len - sent % len);
		idle = n > 0 ? 0 : idle + 1;
		sent += n > 0 ? (size_t)n : 0;
		loop_turn(o->g.loop, 0);
		assert_true(o->g.dns->streams[o->box.slot]->out.len < 2 * DNS_OUT_MAX);
		assert_true(sent < 64 << 20);
	}
	sent -= sent % len; /* whole ones */
	size_t each = 2 + 12 + 5 + 4 + 16 + 28;
	uint64_t end = time_mono_ns() + 10000000000ull;
	while (got < sent / len * each && time_mono_ns() < end) {
		ssize_t n = read(fd, sink, sizeof(sink));
		got += n > 0 ? (size_t)n : 0;
		loop_turn(o->g.loop, 0);
	}
	assert_int_equal(got, sent / len * each);
	/* Who takes no answer for long is cut off, even if it goes on asking. */
	struct dns_stream *st = o->g.dns->streams[o->box.slot];
	while (!st->out.len) {
		assert_true(write(fd, bytes, len) == (ssize_t)len);
		loop_turn(o->g.loop, 0);
	}
	st->last_ns = time_mono_ns();
	st->wrote_ns -= DNS_IDLE_NS + 1;
	for (end = time_mono_ns() + 10000000000ull; o->g.dns->streams[3] && time_mono_ns() < end;)
		loop_turn(o->g.loop, 10);
	assert_null(o->g.dns->streams[3]);
}

/* How long a local name takes, the fakes included; for the record. */
static void test_time(void **state)
{
	enum { BOXES = 1000, ROUNDS = 2000 };
	static struct port many[BOXES];
	static char names[BOXES][16];
	uint8_t msg[512];
	SETUP(o);

	for (unsigned i = 0; i < BOXES; i++) {
		snprintf(names[i], sizeof(names[i]), "box-%u", i);
		many[i] = (struct port){
			.g = &o->g, .a = {.box = names[i], .name = names[i], .hostname = names[i]}};
		o->g.ports[10 + i] = &many[i];
	}
	many[BOXES - 1].a.ip4 = outside_addr("10.9.0.99");
	const struct dns_client c = {
		.port = &o->box, .addr = o->box.a.ip4, .gateway = o->g.config.gateway4, .sport = SPORT};
	for (unsigned n = 1; n <= BOXES; n = n == 1 ? BOXES : BOXES + 1) {
		o->g.n_ports = 1 + n;
		memset(o->g.ports + 10, 0, BOXES * sizeof(*o->g.ports));
		for (unsigned i = 0; i < n; i++)
			o->g.ports[10 + i] = &many[BOXES - n + i];
		size_t len = make(msg, ID, "box-999", DNS_A, 0);
		uint64_t begin = time_mono_ns();
		for (unsigned i = 0; i < ROUNDS; i++) {
			struct dns_question q;
			assert_int_equal(dns_question_parse(&q, msg, len), 0);
			assert_true(dns_local(o->g.dns, &c, msg, &q));
		}
		assert_true(time_mono_ns() - begin < ROUNDS * 1000000ull);
		print_message("a local name among %u boxes: %.1f us\n", n,
			(double)(time_mono_ns() - begin) / ROUNDS / 1000);
	}
	memset(o->g.ports + 10, 0, BOXES * sizeof(*o->g.ports));
	o->g.n_ports = 1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reverse, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sizes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_malformed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forward, setup, teardown),
		cmocka_unit_test_setup_teardown(test_learning, setup, teardown),
		cmocka_unit_test_setup_teardown(test_resolvers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stream, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stream_bounds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stream_slow, setup, teardown),
		cmocka_unit_test_setup_teardown(test_time, setup, teardown),
	};
	return cmocka_run_group_tests(tests, make_conf, remove_conf);
}
