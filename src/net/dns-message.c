/* SPDX-License-Identifier: MIT */
#include "dns-message.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

enum {
	OPT_LEN = 11, /* of one without options */
	RR_LEN = 10,  /* type, class, time to live, length: what follows a record's name */
	LABEL_MAX = 63,
	POINTERS_MAX = 127, /* of one name: as many as it can have labels */
	RECORDS_MAX = 64,   /* looked at in an answer */
	ALIASES_MAX = 12    /* followed */
};

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)dns_get16(p) << 16 | dns_get16(p + 2);
}

static uint8_t lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

/* ---- names ---- */

int dns_name_read(const uint8_t *msg, size_t len, size_t *at, struct dns_name *ret)
{
	size_t pos = *at, begin = pos, end = 0; /* end: behind the first pointer */
	unsigned n = 0, pointers = 0;

	for (;;) {
		if (pos >= len)
			return -EBADMSG;
		uint8_t c = msg[pos];
		if ((c & 0xc0) == 0xc0) {
			if (len - pos < 2)
				return -EBADMSG;
			size_t to = (size_t)(c & 0x3f) << 8 | msg[pos + 1];
			if (to >= begin || ++pointers > POINTERS_MAX)
				return -EBADMSG;
			if (!end)
				end = pos + 2;
			pos = begin = to;
			continue;
		}
		if (c > LABEL_MAX || len - pos < 1u + c || n + 1u + c > DNS_NAME_MAX)
			return -EBADMSG;
		ret->wire[n++] = c;
		for (unsigned i = 1; i <= c; i++)
			ret->wire[n++] = lower(msg[pos + i]);
		pos += 1u + c;
		if (c == 0)
			break;
	}
	ret->len = (uint8_t)n;
	*at = end ? end : pos;
	return 0;
}

const char *dns_name_text(const struct dns_name *n, char *buf)
{
	char *to = buf;

	for (unsigned i = 0; n->wire[i]; i += 1u + n->wire[i]) {
		if (i)
			*to++ = '.';
		for (unsigned j = 1; j <= n->wire[i]; j++) {
			uint8_t c = n->wire[i + j];
			if (c > ' ' && c < 0x7f && c != '.' && c != '\\') {
				*to++ = (char)c;
			} else {
				*to++ = '\\';
				*to++ = (char)('0' + c / 100);
				*to++ = (char)('0' + c / 10 % 10);
				*to++ = (char)('0' + c % 10);
			}
		}
	}
	*to = 0;
	return buf;
}

int dns_name_parse(const char *text, struct dns_name *ret)
{
	unsigned n = 0;

	while (*text) {
		size_t label = strcspn(text, ".");
		if (label == 0 || label > LABEL_MAX || n + 1 + label + 1 > DNS_NAME_MAX)
			return -EINVAL;
		ret->wire[n++] = (uint8_t)label;
		for (size_t i = 0; i < label; i++)
			ret->wire[n++] = lower((uint8_t)text[i]);
		text += label;
		if (*text == '.')
			text++;
	}
	ret->wire[n++] = 0;
	ret->len = (uint8_t)n;
	return 0;
}

static bool reverse4(const char *text, struct net_addr *ret)
{
	uint8_t b[4];

	for (int i = 3; i >= 0; i--) {
		char *end;
		if (!isdigit((unsigned char)*text) || (*text == '0' && isdigit((unsigned char)text[1])))
			return false;
		unsigned long v = strtoul(text, &end, 10);
		if (v > 255 || *end != '.')
			return false;
		b[i] = (uint8_t)v;
		text = end + 1;
	}
	if (strcmp(text, "in-addr.arpa") != 0)
		return false;
	*ret = net_addr_from4(b);
	return true;
}

static bool reverse6(const char *text, struct net_addr *ret)
{
	static const char digits[] = "0123456789abcdef";
	uint8_t b[16] = {0};

	for (int i = 31; i >= 0; i--, text += 2) {
		const char *d = *text ? strchr(digits, *text) : NULL;
		if (!d || text[1] != '.')
			return false;
		b[i / 2] |= (uint8_t)((d - digits) << (i % 2 ? 0 : 4));
	}
	if (strcmp(text, "ip6.arpa") != 0)
		return false;
	*ret = net_addr_from6(b);
	return true;
}

bool dns_name_reverse(const struct dns_name *n, struct net_addr *ret)
{
	char text[DNS_TEXT_MAX];

	dns_name_text(n, text);
	return reverse4(text, ret) || reverse6(text, ret);
}

/* ---- records ---- */

struct record {
	uint16_t type, class;
	uint32_t ttl;
	size_t at, data, data_len; /* at: of its type */
};

/* What follows a record's name. 0 or -EBADMSG. */
static int record_read(const uint8_t *msg, size_t len, size_t *at, struct record *ret)
{
	if (len - *at < RR_LEN)
		return -EBADMSG;
	const uint8_t *p = msg + *at;
	*ret = (struct record){.type = dns_get16(p),
		.class = dns_get16(p + 2),
		.ttl = get32(p + 4),
		.at = *at,
		.data = *at + RR_LEN,
		.data_len = dns_get16(p + 8)};
	if (len - ret->data < ret->data_len)
		return -EBADMSG;
	*at = ret->data + ret->data_len;
	return 0;
}

/* ---- questions ---- */

/* The additional section of a question: OPT, and what we do not know. */
static int read_additional(struct dns_question *q, const uint8_t *msg, size_t len, size_t *at, unsigned n)
{
	struct dns_name owner;
	struct record r;

	for (unsigned i = 0; i < n; i++) {
		if (dns_name_read(msg, len, at, &owner) < 0 || record_read(msg, len, at, &r) < 0)
			return -EBADMSG;
		if (r.type != DNS_OPT)
			continue;
		if (q->edns || owner.len != 1) /* RFC 6891 section 6.1.1 */
			return -EBADMSG;
		q->edns = true;
		q->edns_version = (uint8_t)(r.ttl >> 16);
		q->edns_at = r.at + 2;
		q->udp_size = MIN_OF(MAX_OF(r.class, DNS_PLAIN_MAX), DNS_UDP_MAX);
	}
	return 0;
}

int dns_question_parse(struct dns_question *q, const uint8_t *msg, size_t len)
{
	size_t at = DNS_HDR_LEN;

	q->end = 0;
	q->edns = false;
	q->edns_version = 0;
	q->edns_at = 0;
	q->udp_size = DNS_PLAIN_MAX;
	if (len < DNS_HDR_LEN)
		return -EINVAL;
	q->id = dns_get16(msg);
	q->flags = dns_get16(msg + 2);
	if (q->flags & DNS_QR)
		return -EINVAL;
	if (q->flags & DNS_OPCODE)
		return -ENOTSUP;
	/* One question, no answers, no authorities. */
	if (dns_get16(msg + 4) != 1 || dns_get16(msg + 6) || dns_get16(msg + 8))
		return -EBADMSG;
	if (dns_name_read(msg, len, &at, &q->name) < 0 || at != DNS_HDR_LEN + q->name.len || len - at < 4)
		return -EBADMSG; /* what a question's name could point to is no name */
	q->type = dns_get16(msg + at);
	q->class = dns_get16(msg + at + 2);
	at += 4;
	size_t end = at;
	if (read_additional(q, msg, len, &at, dns_get16(msg + 10)) < 0 || at != len)
		return -EBADMSG;
	dns_name_text(&q->name, q->text);
	q->end = end;
	return 0;
}

/* ---- writing ---- */

void dns_write_begin(struct dns_writer *w, uint8_t *buf, size_t max, const uint8_t *msg,
	const struct dns_question *q, uint16_t flags, unsigned rcode)
{
	size_t question = q->end ? q->end - DNS_HDR_LEN : 0;

	*w = (struct dns_writer){.buf = buf, .len = DNS_HDR_LEN + question, .max = max};
	memset(buf, 0, DNS_HDR_LEN);
	dns_put16(buf, q->id);
	dns_put16(buf + 2,
		DNS_QR | (q->flags & (DNS_OPCODE | DNS_RD | DNS_CD)) | flags | DNS_RA | (rcode & 15));
	dns_put16(buf + 4, question != 0);
	if (question)
		memcpy(buf + DNS_HDR_LEN, msg + DNS_HDR_LEN, question);
	if (q->edns && question)
		w->max -= OPT_LEN;
}

/* Room for a record with n bytes of data, which is the question's name's; NULL when there is none. */
static uint8_t *put_record(struct dns_writer *w, unsigned type, uint32_t ttl, size_t n)
{
	if (w->truncated || w->max - w->len < 2 + RR_LEN + n) {
		w->truncated = true;
		return NULL;
	}
	uint8_t *p = w->buf + w->len;
	dns_put16(p, 0xc000 | DNS_HDR_LEN);
	dns_put16(p + 2, type);
	dns_put16(p + 4, DNS_IN);
	dns_put16(p + 6, ttl >> 16);
	dns_put16(p + 8, ttl & 0xffff);
	dns_put16(p + 10, (unsigned)n);
	w->len += 2 + RR_LEN + n;
	w->answers++;
	return p + 2 + RR_LEN;
}

void dns_write_address(struct dns_writer *w, const struct net_addr *a, uint32_t ttl)
{
	bool is4 = net_addr_is4(a);
	uint8_t *data = put_record(w, is4 ? DNS_A : DNS_AAAA, ttl, is4 ? 4 : 16);

	if (data)
		memcpy(data, a->b + (is4 ? 12 : 0), is4 ? 4 : 16);
}

void dns_write_ptr(struct dns_writer *w, const struct dns_name *target, uint32_t ttl)
{
	uint8_t *data = put_record(w, DNS_PTR, ttl, target->len);

	if (data)
		memcpy(data, target->wire, target->len);
}

size_t dns_write_end(struct dns_writer *w, const struct dns_question *q, unsigned rcode)
{
	if (w->truncated)
		w->buf[2] |= DNS_TC >> 8;
	dns_put16(w->buf + 6, w->answers);
	if (q->edns && q->end) {
		uint8_t *p = w->buf + w->len;
		memset(p, 0, OPT_LEN);
		dns_put16(p + 1, DNS_OPT);
		dns_put16(p + 3, DNS_UDP_MAX);
		p[5] = (uint8_t)(rcode >> 4);
		dns_put16(w->buf + 10, 1);
		w->len += OPT_LEN;
	}
	return w->len;
}

/* ---- answers ---- */

int dns_answer_match(const struct dns_question *q, uint16_t id, const uint8_t *msg, size_t len)
{
	struct dns_name name;
	size_t at = DNS_HDR_LEN;

	if (len < DNS_HDR_LEN || dns_get16(msg) != id)
		return -EBADMSG;
	uint16_t flags = dns_get16(msg + 2);
	if (!(flags & DNS_QR) || (flags & DNS_OPCODE))
		return -EBADMSG;
	if (dns_get16(msg + 4) == 0 && len == DNS_HDR_LEN && (flags & 15) != DNS_NOERROR)
		return flags & 15;
	if (dns_get16(msg + 4) != 1 || dns_name_read(msg, len, &at, &name) < 0 || at + 4 != q->end ||
		len < q->end)
		return -EBADMSG;
	if (name.len != q->name.len || memcmp(name.wire, q->name.wire, name.len) != 0 ||
		dns_get16(msg + at) != q->type || dns_get16(msg + at + 2) != q->class)
		return -EBADMSG;
	return flags & 15;
}

/* Each name is read once, whatever there is to be followed. */
struct answer {
	struct dns_name owner;
	struct record r;
};

/* The answers of class IN, up to what makes no sense. Returns how many. */
static unsigned read_answers(const struct dns_question *q, const uint8_t *msg, size_t len, struct answer *ret)
{
	unsigned said = MIN_OF(dns_get16(msg + 6), RECORDS_MAX), n = 0;
	size_t at = q->end;

	for (unsigned i = 0; i < said; i++) {
		struct answer *a = &ret[n];
		if (dns_name_read(msg, len, &at, &a->owner) < 0 || record_read(msg, len, &at, &a->r) < 0)
			break;
		if (a->r.ttl > INT32_MAX) /* RFC 2181 section 8 */
			a->r.ttl = 0;
		n += a->r.class == DNS_IN;
	}
	return n;
}

/* false: no address. */
static bool read_address(const struct record *r, const uint8_t *msg, struct net_addr *ret)
{
	if (r->type == DNS_A && r->data_len == 4) {
		*ret = net_addr_from4(msg + r->data);
		return true;
	}
	if (r->type != DNS_AAAA || r->data_len != 16)
		return false;
	*ret = net_addr_from6(msg + r->data);
	return !net_addr_is4(ret); /* mapped */
}

void dns_answer_addresses(const struct dns_question *q, const uint8_t *msg, size_t len,
	void (*fn)(void *data, const struct net_addr *a, uint32_t ttl_s), void *data)
{
	struct answer all[RECORDS_MAX];
	struct dns_name name = q->name;
	uint32_t ttl = UINT32_MAX;
	bool alias = true;

	if (len < q->end || len < DNS_HDR_LEN)
		return;
	unsigned n = read_answers(q, msg, len, all);
	for (unsigned follow = 0; alias && follow < ALIASES_MAX; follow++) {
		struct dns_name next;
		uint32_t alias_ttl = ttl;
		alias = false;
		for (unsigned i = 0; i < n; i++) {
			const struct record *r = &all[i].r;
			struct net_addr a;
			size_t at = r->data;
			if (all[i].owner.len != name.len ||
				memcmp(all[i].owner.wire, name.wire, name.len) != 0)
				continue;
			if (read_address(r, msg, &a)) {
				fn(data, &a, MIN_OF(r->ttl, ttl));
			} else if (r->type == DNS_CNAME && !alias &&
				   dns_name_read(msg, r->data + r->data_len, &at, &next) == 0) {
				alias = true;
				alias_ttl = MIN_OF(ttl, r->ttl);
			}
		}
		ttl = alias_ttl;
		if (alias)
			name = next;
	}
}
