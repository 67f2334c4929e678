/* SPDX-License-Identifier: MIT */
/* Frames, fields and messages: what is written is read back, and nothing malformed or oversized gets through. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fields.h"
#include "wire/tree.h"

/* ---- frames ---- */

static const struct {
	uint8_t type;
	int64_t max;
} limits[] = {{WIRE_HELLO, 4096}, {WIRE_CONFIG, WIRE_MESSAGE_MAX}, {WIRE_READY, 0}, {WIRE_FAIL, 4096},
	{WIRE_SIGNAL, 4}, {WIRE_PING, 0}, {WIRE_PONG, 0}, {WIRE_SHUTDOWN, 0}, {WIRE_BYE, 0},
	{WIRE_START, WIRE_MESSAGE_MAX}, {WIRE_STARTED, 4}, {WIRE_STDIN, WIRE_DATA_MAX}, {WIRE_STDIN_EOF, 0},
	{WIRE_STDIN_CREDIT, 4}, {WIRE_STDOUT, WIRE_DATA_MAX}, {WIRE_STDERR, WIRE_DATA_MAX}, {WIRE_RESIZE, 4},
	{WIRE_EXIT, 4}, {WIRE_DETACH, 0}, {WIRE_UPDATE, 4096}, {WIRE_DONE, 0}, {WIRE_GET_STATS, 0},
	{WIRE_STATS, 4096}, {WIRE_GET_TASKS, 0}, {WIRE_TASKS, WIRE_MESSAGE_MAX},
	{WIRE_NETWORK, WIRE_MESSAGE_MAX}, {WIRE_FORWARD, 4096}, {WIRE_FREEZE, 0}, {WIRE_COPY_OUT, 8192},
	{WIRE_COPY_IN, 8192}, {WIRE_ENTRY, WIRE_ENTRY_MAX}, {WIRE_CONTENT, 8 + WIRE_DATA_MAX},
	{WIRE_TREE_END, 0}, {WIRE_CTL_REQUEST, 65536}, {WIRE_CTL_REPLY, 65536}};

static int64_t limit_of(unsigned type)
{
	for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
		if (limits[i].type == type)
			return limits[i].max;
	}
	return -1;
}

static void every_type_has_its_limit_and_all_others_are_unknown(void **state)
{
	for (unsigned type = 0; type < 256; type++)
		assert_int_equal(wire_max_payload((uint8_t)type), limit_of(type));
}

/* A frame header in a buffer; nothing behind it. */
static int next_of_header(uint8_t type, uint32_t len)
{
	uint8_t header[WIRE_HEADER_SIZE] = {type};
	struct buf in = {0};
	struct wire_frame f;

	put_be32(header + 1, len);
	assert_int_equal(buf_append(&in, header, sizeof(header)), 0);
	int r = wire_next(&in, &f);
	buf_done(&in);
	return r;
}

static void the_header_alone_refuses_unknown_types_and_oversized_payloads(void **state)
{
	for (unsigned type = 0; type < 256; type++) {
		int64_t max = limit_of(type);
		if (max < 0) {
			assert_int_equal(next_of_header((uint8_t)type, 0), -EBADMSG);
			continue;
		}
		assert_int_equal(next_of_header((uint8_t)type, (uint32_t)max), max == 0);
		assert_int_equal(next_of_header((uint8_t)type, (uint32_t)max + 1), -EBADMSG);
		assert_int_equal(next_of_header((uint8_t)type, UINT32_MAX), -EBADMSG);
	}
}

static void the_sender_keeps_the_same_limits(void **state)
{
	static uint8_t data[WIRE_MESSAGE_MAX + 1];
	struct buf out = {0};

	for (unsigned type = 0; type < 256; type++) {
		int64_t max = limit_of(type);
		size_t before = out.len;
		assert_int_equal(wire_put(&out, (enum wire_type)type, data, (size_t)(max + 1)), -EMSGSIZE);
		assert_int_equal(out.len, before);
		if (max < 0)
			continue;
		assert_int_equal(wire_put(&out, (enum wire_type)type, data, (size_t)max), 0);
		assert_int_equal(out.len, before + WIRE_HEADER_SIZE + (size_t)max);
		buf_consume(&out, out.len);
	}
	buf_done(&out);
}

static void a_frame_is_complete_with_its_last_byte_and_not_before(void **state)
{
	struct buf out = {0}, in = {0};
	struct wire_frame f;

	assert_int_equal(wire_put(&out, WIRE_STDOUT, "hello", 5), 0);
	assert_int_equal(wire_put(&out, WIRE_PING, NULL, 0), 0);
	for (size_t i = 0; i < out.len; i++) {
		int r = wire_next(&in, &f);
		assert_int_equal(r, i == 10); /* 5 bytes of header, 5 of payload */
		if (r) {
			assert_int_equal(f.type, WIRE_STDOUT);
			assert_int_equal(f.len, 5);
			assert_memory_equal(f.payload, "hello", 5);
			wire_consume(&in, &f);
		}
		assert_int_equal(buf_append(&in, buf_data(&out) + i, 1), 0);
	}
	assert_int_equal(wire_next(&in, &f), 1);
	assert_int_equal(f.type, WIRE_PING);
	assert_int_equal(f.len, 0);
	wire_consume(&in, &f);
	assert_int_equal(wire_next(&in, &f), 0);
	buf_done(&in);
	buf_done(&out);
}

static void looking_at_a_frame_does_not_consume_it(void **state)
{
	struct buf b = {0};
	struct wire_frame f;

	assert_int_equal(wire_put_u32(&b, WIRE_EXIT, 3), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(wire_next(&b, &f), 1);
	wire_consume(&b, &f);
	assert_int_equal(b.len, 0);
	buf_done(&b);
}

static void the_bytes_are_as_the_header_specifies_them(void **state)
{
	static const uint8_t want[] = {
		0x28, 0, 0, 0, 4, 0x01, 0x02, 0x03, 0x04, 0x27, 0, 0, 0, 4, 0, 50, 1, 44};
	static const uint8_t fields[] = {7, 0, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0, 2, 'h', 'i'};
	struct buf b = {0};

	assert_int_equal(wire_put_u32(&b, WIRE_EXIT, 0x01020304), 0);
	assert_int_equal(wire_put_resize(&b, 50, 300), 0);
	assert_int_equal(b.len, sizeof(want));
	assert_memory_equal(buf_data(&b), want, sizeof(want));
	buf_consume(&b, b.len);
	assert_int_equal(wire_field_u64(&b, 7, 0x0102030405060708), 0);
	assert_int_equal(wire_field_str(&b, 9, "hi"), 0);
	assert_int_equal(wire_field_str(&b, 10, NULL), 0); /* absent: not written */
	assert_int_equal(b.len, sizeof(fields));
	assert_memory_equal(buf_data(&b), fields, sizeof(fields));
	buf_done(&b);
}

/* ---- payloads ---- */

/* The only frame in b. */
static struct wire_frame only_frame(const struct buf *b, uint8_t type)
{
	struct wire_frame f;

	assert_int_equal(wire_next(b, &f), 1);
	assert_int_equal(f.type, type);
	assert_int_equal(b->len, WIRE_HEADER_SIZE + f.len);
	return f;
}

static void numbers_survive_and_must_have_their_length(void **state)
{
	static const uint32_t values[] = {0, 1, 0x7fffffff, 0x80000000, UINT32_MAX};
	struct buf b = {0};
	uint32_t v;
	uint16_t rows, cols;

	for (size_t i = 0; i < ARRAY_LEN(values); i++) {
		assert_int_equal(wire_put_u32(&b, WIRE_SIGNAL, values[i]), 0);
		struct wire_frame f = only_frame(&b, WIRE_SIGNAL);
		assert_int_equal(wire_get_u32(&f, &v), 0);
		assert_int_equal(v, values[i]);
		f.len = 3;
		assert_int_equal(wire_get_u32(&f, &v), -EBADMSG);
		assert_int_equal(wire_get_resize(&f, &rows, &cols), -EBADMSG);
		f.len = 0;
		assert_int_equal(wire_get_u32(&f, &v), -EBADMSG);
		buf_consume(&b, b.len);
	}
	assert_int_equal(wire_put_resize(&b, 65535, 1), 0);
	struct wire_frame f = only_frame(&b, WIRE_RESIZE);
	assert_int_equal(wire_get_resize(&f, &rows, &cols), 0);
	assert_int_equal(rows, 65535);
	assert_int_equal(cols, 1);
	buf_done(&b);
}

static void a_failure_survives_the_wire(void **state)
{
	struct buf b = {0};
	uint32_t status = 0;
	char *text = NULL, big[10000];

	assert_int_equal(wire_put_fail(&b, 127, "sh: not found \xff"), 0);
	struct wire_frame f = only_frame(&b, WIRE_FAIL);
	assert_int_equal(wire_get_fail(&f, &status, &text), 0);
	assert_int_equal(status, 127);
	assert_string_equal(text, "sh: not found \xff");
	free(text);
	buf_consume(&b, b.len);

	memset(big, 'x', sizeof(big) - 1); /* text that does not fit is cut, never refused */
	big[sizeof(big) - 1] = '\0';
	assert_int_equal(wire_put_fail(&b, 125, big), 0);
	f = only_frame(&b, WIRE_FAIL);
	assert_int_equal(wire_get_fail(&f, &status, &text), 0);
	assert_true(strlen(text) >= 4000);
	free(text);
	buf_done(&b);
}

static void a_failure_without_fields_has_defaults_and_a_wild_status_is_refused(void **state)
{
	struct wire_frame f = {.type = WIRE_FAIL, .payload = (const uint8_t *)""};
	struct buf b = {0};
	uint32_t status = 0;
	char *text = NULL;

	assert_int_equal(wire_get_fail(&f, &status, &text), 0);
	assert_int_equal(status, 125);
	assert_string_equal(text, "");
	free(text);
	text = NULL;
	assert_int_equal(wire_put_fail(&b, 256, "x"), 0);
	f = only_frame(&b, WIRE_FAIL);
	assert_int_equal(wire_get_fail(&f, &status, &text), -EBADMSG);
	assert_null(text);
	buf_done(&b);
}

static void a_hello_survives_the_wire(void **state)
{
	struct wire_hello h = {.version = WIRE_VERSION, .release = strdup("6.12.1")}, back;
	struct buf b = {0};

	assert_int_equal(wire_put_hello(&b, &h), 0);
	struct wire_frame f = only_frame(&b, WIRE_HELLO);
	assert_int_equal(wire_get_hello(&f, &back), 0);
	assert_int_equal(back.version, WIRE_VERSION);
	assert_string_equal(back.release, "6.12.1");
	wire_hello_done(&back);
	wire_hello_done(&h);
	buf_done(&b);
}

static void a_version_that_is_too_large_is_not_taken_for_another(void **state)
{
	struct buf msg = {0};
	struct wire_hello h;

	assert_int_equal(wire_field_u64(&msg, 1, (1ull << 32) | WIRE_VERSION), 0);
	struct wire_frame f = {.type = WIRE_HELLO, .len = (uint32_t)msg.len, .payload = buf_data(&msg)};
	assert_int_equal(wire_get_hello(&f, &h), -EBADMSG);
	buf_done(&msg);
}

static void assert_strv(const struct strv *a, const struct strv *b)
{
	assert_int_equal(a->n, b->n);
	for (size_t i = 0; i < a->n; i++)
		assert_string_equal(a->v[i], b->v[i]);
	if (a->n)
		assert_null(a->v[a->n]);
}

static void add_nic(struct wire_network *n, uint32_t link, const char *name)
{
	n->nics[n->n_nics++] = (struct wire_nic){.link = link,
		.name = strdup(name),
		.ip4 = strdup("10.87.0.2"),
		.prefix4 = 24,
		.ip6 = strdup("fd00::2"),
		.prefix6 = 64,
		.gateway4 = link ? NULL : strdup("10.87.0.1"),
		.mtu = 65520};
}

static void assert_nic(const struct wire_nic *a, const struct wire_nic *b)
{
	assert_int_equal(a->link, b->link);
	assert_string_equal(a->name, b->name);
	assert_string_equal(a->ip4, b->ip4);
	assert_string_equal(a->ip6, b->ip6);
	assert_int_equal(a->prefix4, b->prefix4);
	assert_int_equal(a->prefix6, b->prefix6);
	assert_int_equal(a->mtu, b->mtu);
	assert_int_equal(a->gateway4 == NULL, b->gateway4 == NULL);
	assert_null(a->gateway6);
}

static void a_network_survives_the_wire(void **state)
{
	struct wire_network n = {0}, back;
	struct buf b = {0};

	for (uint32_t i = 0; i < WIRE_NICS_MAX; i++)
		add_nic(&n, i, i ? "eth1" : "eth0");
	assert_int_equal(strv_push(&n.hosts, "10.87.0.2\tbox"), 0);
	assert_int_equal(wire_put_network(&b, &n), 0);
	struct wire_frame f = only_frame(&b, WIRE_NETWORK);
	assert_int_equal(wire_get_network(&f, &back), 0);
	assert_int_equal(back.n_nics, WIRE_NICS_MAX);
	for (size_t i = 0; i < n.n_nics; i++)
		assert_nic(&back.nics[i], &n.nics[i]);
	assert_strv(&back.hosts, &n.hosts);
	assert_null(back.resolv_conf);
	wire_network_done(&back);

	/* One more than there may be, and a number out of its range. */
	uint8_t nic[] = {1, 0, 0, 0, 0};
	assert_int_equal(buf_append(&b, nic, sizeof(nic)), 0);
	f.len += sizeof(nic);
	f.payload = buf_data(&b) + WIRE_HEADER_SIZE;
	assert_int_equal(wire_get_network(&f, &back), -EBADMSG);
	uint8_t prefix[] = {1, 0, 0, 0, 13, 4, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 33};
	f = (struct wire_frame){.type = WIRE_NETWORK, .len = sizeof(prefix), .payload = prefix};
	assert_int_equal(wire_get_network(&f, &back), -EBADMSG);
	prefix[17] = 32;
	assert_int_equal(wire_get_network(&f, &back), 0);
	wire_network_done(&back);
	wire_network_done(&n);
	buf_done(&b);
}

static void a_forward_survives_the_wire(void **state)
{
	struct wire_forward to = {.port = 65535}, back;
	struct buf b = {0};

	assert_int_equal(wire_put_forward(&b, &to), 0);
	struct wire_frame f = only_frame(&b, WIRE_FORWARD);
	assert_int_equal(wire_get_forward(&f, &back), 0);
	assert_int_equal(back.port, 65535);
	assert_null(back.address);
	wire_forward_done(&back);
	buf_consume(&b, b.len);
	to.port = 0; /* no port */
	assert_int_equal(wire_put_forward(&b, &to), 0);
	f = only_frame(&b, WIRE_FORWARD);
	assert_int_equal(wire_get_forward(&f, &back), -EBADMSG);
	buf_done(&b);
}

static void a_config_survives_the_wire(void **state)
{
	struct wire_config c = {.hostname = strdup("box"),
				   .network.resolv_conf = strdup("nameserver 10.0.2.3\n"),
				   .real_ns = -5,
				   .read_only = true},
			   back;
	struct buf b = {0};

	memset(c.entropy, 0xa5, sizeof(c.entropy));
	add_nic(&c.network, 0, "eth0");
	assert_int_equal(strv_push(&c.network.hosts, "10.0.0.1 a"), 0);
	assert_int_equal(strv_push(&c.network.hosts, ""), 0);
	assert_int_equal(wire_put_config(&b, &c), 0);
	struct wire_frame f = only_frame(&b, WIRE_CONFIG);
	assert_int_equal(wire_get_config(&f, &back), 0);
	assert_string_equal(back.hostname, "box");
	assert_string_equal(back.network.resolv_conf, "nameserver 10.0.2.3\n");
	assert_true(back.real_ns == -5);
	assert_true(back.read_only);
	assert_memory_equal(back.entropy, c.entropy, sizeof(c.entropy));
	assert_strv(&back.network.hosts, &c.network.hosts);
	assert_int_equal(back.network.n_nics, 1);
	assert_nic(&back.network.nics[0], &c.network.nics[0]);
	wire_config_done(&back);
	wire_config_done(&c);

	buf_consume(&b, b.len);
	assert_int_equal(wire_put_config(&b, &c), 0); /* now empty: absent stays absent */
	f = only_frame(&b, WIRE_CONFIG);
	assert_int_equal(wire_get_config(&f, &back), 0);
	assert_null(back.hostname);
	assert_null(back.network.resolv_conf);
	assert_int_equal(back.network.hosts.n, 0);
	assert_false(back.read_only);
	wire_config_done(&back);
	buf_done(&b);
}

static void mounts_survive_the_wire(void **state)
{
	struct wire_config c = {.mounts = calloc(WIRE_MOUNTS_MAX + 1, sizeof(struct wire_mount))}, back;
	struct buf b = {0};

	assert_non_null(c.mounts);
	for (c.n_mounts = 0; c.n_mounts < WIRE_MOUNTS_MAX; c.n_mounts++) {
		struct wire_mount *m = &c.mounts[c.n_mounts];
		m->target = strdup("/a\n\xff");
		m->subpath = c.n_mounts % 3 ? strdup("b/c") : NULL;
		m->read_only = c.n_mounts & 1;
		m->file = c.n_mounts & 2;
	}
	assert_int_equal(wire_put_config(&b, &c), 0);
	struct wire_frame f = only_frame(&b, WIRE_CONFIG);
	assert_int_equal(wire_get_config(&f, &back), 0);
	assert_int_equal(back.n_mounts, WIRE_MOUNTS_MAX);
	for (size_t i = 0; i < back.n_mounts; i++) {
		assert_string_equal(back.mounts[i].target, "/a\n\xff");
		assert_int_equal(back.mounts[i].read_only, i & 1);
		assert_int_equal(back.mounts[i].file, (i & 2) != 0);
		if (i % 3)
			assert_string_equal(back.mounts[i].subpath, "b/c");
		else
			assert_null(back.mounts[i].subpath);
	}
	wire_config_done(&back);
	buf_consume(&b, b.len);
	c.mounts[c.n_mounts++].target = strdup("/one/too/many");
	assert_int_equal(wire_put_config(&b, &c), -EMSGSIZE);
	wire_config_done(&c);
	buf_done(&b);
}

/* One whose target is missing or no path of a root, and more than there may be. */
static void malformed_mounts_are_refused(void **state)
{
	static const char *const targets[] = {NULL, "", "relative"};
	enum { CONFIG_MOUNT = 14, MOUNT_TARGET = 1 };
	struct wire_config c;

	for (size_t i = 0; i <= ARRAY_LEN(targets); i++) {
		struct buf msg = {0}, one = {0}, b = {0};
		size_t n = i < ARRAY_LEN(targets) ? 1 : WIRE_MOUNTS_MAX + 1;
		assert_int_equal(wire_field_str(&one, MOUNT_TARGET, n > 1 ? "/x" : targets[i]), 0);
		for (size_t k = 0; k < n; k++)
			assert_int_equal(wire_field_bytes(&msg, CONFIG_MOUNT, one.mem ? buf_data(&one) : NULL,
						 one.len),
				0);
		assert_int_equal(wire_put(&b, WIRE_CONFIG, buf_data(&msg), msg.len), 0);
		struct wire_frame f = only_frame(&b, WIRE_CONFIG);
		assert_int_equal(wire_get_config(&f, &c), -EBADMSG);
		buf_done(&msg);
		buf_done(&one);
		buf_done(&b);
	}
}

static void a_process_survives_the_wire(void **state)
{
	for (unsigned flags = 0; flags < 8; flags++) {
		struct wire_process p = {.main = flags & 1,
					    .tty = flags & 2,
					    .open_stdin = flags & 4,
					    .cwd = strdup("/w"),
					    .user = strdup(""),
					    .rows = 65535,
					    .cols = 80},
				    back;
		struct buf b = {0};
		for (int i = 0; i < 100; i++)
			assert_int_equal(strv_push(&p.argv, i % 3 ? "arg \xff\n" : ""), 0);
		assert_int_equal(strv_push(&p.env, "A=1"), 0);
		assert_int_equal(strv_push(&p.groups, "wheel"), 0);
		assert_int_equal(wire_put_process(&b, &p), 0);
		struct wire_frame f = only_frame(&b, WIRE_START);
		assert_int_equal(wire_get_process(&f, &back), 0);
		assert_int_equal(back.main, p.main);
		assert_int_equal(back.tty, p.tty);
		assert_int_equal(back.open_stdin, p.open_stdin);
		assert_string_equal(back.cwd, "/w");
		assert_string_equal(back.user, ""); /* empty is not absent */
		assert_int_equal(back.rows, 65535);
		assert_int_equal(back.cols, 80);
		assert_strv(&back.argv, &p.argv);
		assert_strv(&back.env, &p.env);
		assert_strv(&back.groups, &p.groups);
		wire_process_done(&back);
		wire_process_done(&p);
		buf_done(&b);
	}
}

static void a_process_without_arguments_is_refused(void **state)
{
	struct wire_process p = {.cwd = strdup("/")}, back;
	struct buf b = {0};

	assert_int_equal(wire_put_process(&b, &p), 0);
	struct wire_frame f = only_frame(&b, WIRE_START);
	assert_int_equal(wire_get_process(&f, &back), -EBADMSG);
	wire_process_done(&p);
	buf_done(&b);
}

static void what_cannot_be_received_is_not_sent(void **state)
{
	struct wire_process p = {0};
	struct buf b = {0};

	for (int i = 0; i <= WIRE_LIST_MAX; i++)
		assert_int_equal(strv_push(&p.argv, ""), 0);
	assert_int_equal(wire_put_process(&b, &p), -EMSGSIZE); /* one entry too many */
	assert_int_equal(b.len, 0);
	wire_process_done(&p);

	char *big = malloc(WIRE_MESSAGE_MAX + 2);
	assert_non_null(big);
	memset(big, 'x', WIRE_MESSAGE_MAX + 1);
	big[WIRE_MESSAGE_MAX + 1] = '\0';
	assert_int_equal(strv_push(&p.argv, big), 0);
	assert_int_equal(wire_put_process(&b, &p), -EMSGSIZE); /* one string too long */
	p.argv.v[0][WIRE_MESSAGE_MAX / 2] = '\0';
	assert_int_equal(strv_push(&p.argv, p.argv.v[0]), 0);
	assert_int_equal(wire_put_process(&b, &p), -EMSGSIZE); /* each fits, both do not */
	assert_int_equal(b.len, 0);
	wire_process_done(&p);
	free(big);
	buf_done(&b);
}

/* ---- malformed messages ---- */

enum { GET_FAIL, GET_HELLO, GET_CONFIG, GET_NETWORK, GET_PROCESS, GETTERS };

/* Decodes a payload as each message; releases what succeeds. Returns the result. */
static int decode(int getter, const void *payload, size_t len)
{
	/* A copy of its exact length, so that a sanitizer sees a read behind its end. */
	uint8_t *copy = malloc(len + !len);
	assert_non_null(copy);
	memcpy(copy, payload, len);
	struct wire_frame f = {.len = (uint32_t)len, .payload = copy};
	struct wire_hello h;
	struct wire_config c;
	struct wire_network n;
	struct wire_process p;
	uint32_t status;
	char *text = NULL;
	int r = -1;

	switch (getter) {
	case GET_FAIL:
		r = wire_get_fail(&f, &status, &text);
		free(text);
		break;
	case GET_HELLO:
		r = wire_get_hello(&f, &h);
		if (r == 0)
			wire_hello_done(&h);
		break;
	case GET_CONFIG:
		r = wire_get_config(&f, &c);
		if (r == 0)
			wire_config_done(&c);
		break;
	case GET_NETWORK:
		r = wire_get_network(&f, &n);
		if (r == 0)
			wire_network_done(&n);
		break;
	case GET_PROCESS:
		r = wire_get_process(&f, &p);
		if (r == 0)
			wire_process_done(&p);
		break;
	}
	free(copy);
	return r;
}

static void fields_cut_anywhere_are_refused(void **state)
{
	/* A field that every message knows as a string list, string or number is tag-dependent: use an unknown tag. */
	static const uint8_t two[] = {200, 0, 0, 0, 1, 'x', 201, 0, 0, 0, 2, 'y', 'z'};

	for (size_t len = 0; len <= sizeof(two); len++) {
		bool whole = len == 0 || len == 6 || len == sizeof(two);
		for (int g = 0; g < GET_PROCESS; g++)
			assert_int_equal(decode(g, two, len), whole ? 0 : -EBADMSG);
		assert_int_equal(decode(GET_PROCESS, two, len), -EBADMSG); /* it has no argument either way */
	}
}

static void field_lengths_beyond_the_message_are_refused(void **state)
{
	static const uint32_t lengths[] = {2, 0x7fffffff, 0x80000000, UINT32_MAX - 5, UINT32_MAX};

	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		uint8_t m[6] = {200};
		put_be32(m + 1, lengths[i]);
		for (int g = 0; g < GETTERS; g++)
			assert_int_equal(decode(g, m, sizeof(m)), -EBADMSG);
	}
}

static void a_field_of_the_wrong_shape_is_refused(void **state)
{
	static const struct {
		int getter;
		uint8_t tag;
		const char *data;
		size_t len;
	} bad[] = {
		{GET_FAIL, 1, "1234567", 7},
		{GET_FAIL, 1, "123456789", 9},
		{GET_FAIL, 1, "", 0},
		{GET_FAIL, 2, "a\0b", 3},
		{GET_FAIL, 2, "a\0", 2},
		{GET_HELLO, 1, "1234", 4},
		{GET_HELLO, 2, "\0", 1},
		{GET_CONFIG, 1, "h\0", 2},
		{GET_CONFIG, 13, "x", 1},
		{GET_NETWORK, 1, "x", 1},
		{GET_NETWORK, 2, "\0h", 2},
		{GET_NETWORK, 3, "x\0y", 3},
		{GET_CONFIG, 4, "", 0},
		{GET_CONFIG, 5, "short", 5},
		{GET_CONFIG, 5, "123456789012345678901234567890123", 33},
		{GET_CONFIG, 6, "1", 1},
		{GET_PROCESS, 1, "1", 1},
		{GET_PROCESS, 2, "a\0b", 3},
		{GET_PROCESS, 3, "A=\0", 3},
		{GET_PROCESS, 4, "/\0", 2},
		{GET_PROCESS, 5, "u\0", 2},
		{GET_PROCESS, 6, "g\0", 2},
		{GET_PROCESS, 7, "1234", 4},
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct buf msg = {0};
		assert_int_equal(
			wire_field_str(&msg, 2, "argument"), 0); /* fields before it must be released */
		assert_int_equal(wire_field_bytes(&msg, bad[i].tag, bad[i].data, bad[i].len), 0);
		int r = decode(bad[i].getter, buf_data(&msg), msg.len);
		if (r != -EBADMSG)
			fail_msg("case %zu: %d", i, r);
		buf_done(&msg);
	}
}

static void unknown_fields_are_skipped(void **state)
{
	struct buf msg = {0};

	assert_int_equal(wire_field_bytes(&msg, 255, "a\0b", 3), 0);
	assert_int_equal(wire_field_str(&msg, 2, "sh"), 0);
	assert_int_equal(wire_field_bytes(&msg, 0, NULL, 0), 0);
	for (int g = 0; g < GETTERS; g++)
		assert_int_equal(decode(g, buf_data(&msg), msg.len), 0);
	buf_done(&msg);
}

static void the_last_of_a_single_field_wins_and_none_leaks(void **state)
{
	struct buf msg = {0};
	struct wire_process p;

	for (int i = 0; i < 3; i++) {
		char cwd[] = "/0";
		cwd[1] = (char)('0' + i);
		assert_int_equal(wire_field_str(&msg, 4, cwd), 0);
	}
	assert_int_equal(wire_field_str(&msg, 2, "sh"), 0);
	struct wire_frame f = {.len = (uint32_t)msg.len, .payload = buf_data(&msg)};
	assert_int_equal(wire_get_process(&f, &p), 0);
	assert_string_equal(p.cwd, "/2");
	wire_process_done(&p);
	buf_done(&msg);
}

static void repeated_fields_are_bounded(void **state)
{
	static const struct {
		int getter;
		uint8_t tag;
	} lists[] = {{GET_CONFIG, 9}, {GET_NETWORK, 2}, {GET_PROCESS, 2}, {GET_PROCESS, 3}, {GET_PROCESS, 6}};

	for (size_t l = 0; l < ARRAY_LEN(lists); l++) {
		struct buf msg = {0};
		assert_int_equal(wire_field_str(&msg, 2, "sh"), 0);
		for (int i = lists[l].tag == 2; i < WIRE_LIST_MAX; i++)
			assert_int_equal(wire_field_bytes(&msg, lists[l].tag, NULL, 0), 0);
		assert_int_equal(decode(lists[l].getter, buf_data(&msg), msg.len), 0);
		assert_int_equal(wire_field_bytes(&msg, lists[l].tag, NULL, 0), 0);
		assert_int_equal(decode(lists[l].getter, buf_data(&msg), msg.len), -EBADMSG);
		buf_done(&msg);
	}
}

/* ---- lists of strings ---- */

static void a_list_grows_and_stays_terminated(void **state)
{
	struct strv s = {0}, copy = {0};

	strv_done(&s);
	for (size_t i = 0; i < 1000; i++) {
		char str[16];
		snprintf(str, sizeof(str), "%zu", i);
		assert_int_equal(strv_push(&s, str), 0);
		assert_int_equal(s.n, i + 1);
		assert_null(s.v[s.n]);
	}
	assert_int_equal(strv_copy(&copy, &s), 0);
	assert_strv(&copy, &s);
	assert_ptr_not_equal(copy.v[7], s.v[7]);
	strv_done(&s);
	strv_done(&s);
	assert_string_equal(copy.v[999], "999");
	strv_done(&copy);
}

static void an_environment_replaces_by_whole_name(void **state)
{
	struct strv e = {0};

	assert_int_equal(strv_setenv(&e, "AB=1"), 0);
	assert_int_equal(strv_setenv(&e, "A=2"), 0);
	assert_int_equal(strv_setenv(&e, "ABC="), 0);
	assert_int_equal(e.n, 3);
	assert_string_equal(strv_getenv(&e, "A"), "2");
	assert_string_equal(strv_getenv(&e, "AB"), "1");
	assert_string_equal(strv_getenv(&e, "ABC"), "");
	assert_null(strv_getenv(&e, "ABCD"));
	assert_int_equal(strv_setenv(&e, "A=x=y"), 0);
	assert_int_equal(e.n, 3);
	assert_string_equal(e.v[1], "A=x=y");
	assert_string_equal(strv_getenv(&e, "A"), "x=y");
	strv_done(&e);
	assert_null(strv_getenv(&e, "A"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_type_has_its_limit_and_all_others_are_unknown),
		cmocka_unit_test(the_header_alone_refuses_unknown_types_and_oversized_payloads),
		cmocka_unit_test(the_sender_keeps_the_same_limits),
		cmocka_unit_test(a_frame_is_complete_with_its_last_byte_and_not_before),
		cmocka_unit_test(looking_at_a_frame_does_not_consume_it),
		cmocka_unit_test(the_bytes_are_as_the_header_specifies_them),
		cmocka_unit_test(numbers_survive_and_must_have_their_length),
		cmocka_unit_test(a_failure_survives_the_wire),
		cmocka_unit_test(a_failure_without_fields_has_defaults_and_a_wild_status_is_refused),
		cmocka_unit_test(a_hello_survives_the_wire),
		cmocka_unit_test(a_version_that_is_too_large_is_not_taken_for_another),
		cmocka_unit_test(a_config_survives_the_wire),
		cmocka_unit_test(mounts_survive_the_wire),
		cmocka_unit_test(malformed_mounts_are_refused),
		cmocka_unit_test(a_network_survives_the_wire),
		cmocka_unit_test(a_forward_survives_the_wire),
		cmocka_unit_test(a_process_survives_the_wire),
		cmocka_unit_test(a_process_without_arguments_is_refused),
		cmocka_unit_test(what_cannot_be_received_is_not_sent),
		cmocka_unit_test(fields_cut_anywhere_are_refused),
		cmocka_unit_test(field_lengths_beyond_the_message_are_refused),
		cmocka_unit_test(a_field_of_the_wrong_shape_is_refused),
		cmocka_unit_test(unknown_fields_are_skipped),
		cmocka_unit_test(the_last_of_a_single_field_wins_and_none_leaks),
		cmocka_unit_test(repeated_fields_are_bounded),
		cmocka_unit_test(a_list_grows_and_stays_terminated),
		cmocka_unit_test(an_environment_replaces_by_whole_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
