/* SPDX-License-Identifier: MIT */
#include "ports.h"

#include <string.h>

#include "base/io.h"
#include "box/network.h"

/* Exposed, or (with an address) published with the same number: a run of them. */
struct run {
	char ip[NET_ADDR_TEXT_MAX];
	char protocol[8];
	unsigned first, last;
};

static bool is_published(const struct box *b, unsigned guest, const char *protocol)
{
	struct box_port p;

	for (size_t i = 0; i < b->ports.n; i++) {
		if (box_port_parse(b->ports.v[i], &p) == 0 && p.guest == guest &&
			strcmp(box_protocol_name(p.protocol), protocol) == 0)
			return true;
	}
	return false;
}

static int add_text(struct buf *out, const char *text)
{
	int r = out->len ? buf_append(out, ", ", 2) : 0;
	return r < 0 ? r : buf_append(out, text, strlen(text));
}

/* Joins what follows a run to it, wherever that is. */
static void add_to_runs(struct run *runs, size_t *n, const char *ip, unsigned port, const char *protocol)
{
	for (size_t i = 0; i < *n; i++) {
		if (strcmp(runs[i].ip, ip) == 0 && strcmp(runs[i].protocol, protocol) == 0 &&
			runs[i].last + 1 == port) {
			runs[i].last = port;
			return;
		}
	}
	struct run *r = &runs[(*n)++];
	*r = (struct run){.first = port, .last = port};
	snprintf(r->ip, sizeof(r->ip), "%s", ip);
	snprintf(r->protocol, sizeof(r->protocol), "%s", protocol);
}

static int add_run(struct buf *out, const struct run *r)
{
	char range[24], ip[NET_ADDR_HOST_MAX], text[128];

	if (r->first == r->last)
		snprintf(range, sizeof(range), "%u", r->first);
	else
		snprintf(range, sizeof(range), "%u-%u", r->first, r->last);
	if (*r->ip)
		snprintf(text, sizeof(text), "%s:%s->%s/%s", net_addr_host_text(r->ip, ip), range, range,
			r->protocol);
	else
		snprintf(text, sizeof(text), "%s/%s", range, r->protocol);
	return add_text(out, text);
}

static int by_number(const void *a, const void *b)
{
	unsigned x = (unsigned)strtoul(*(char *const *)a, NULL, 10);
	unsigned y = (unsigned)strtoul(*(char *const *)b, NULL, 10);

	return x < y ? -1 : x > y ? 1 : strcmp(*(char *const *)a, *(char *const *)b);
}

/* What is only exposed: first, as its address is empty. */
static int expose_runs(const struct box *b, struct run *runs, size_t *n)
{
	CLEANUP_FREE char **sorted = calloc(b->config.exposed_ports.n + 1, sizeof(*sorted));

	if (!sorted)
		return -ENOMEM;
	if (b->config.exposed_ports.n) {
		memcpy(sorted, b->config.exposed_ports.v, b->config.exposed_ports.n * sizeof(*sorted));
		qsort(sorted, b->config.exposed_ports.n, sizeof(*sorted), by_number);
	}
	for (size_t i = 0; i < b->config.exposed_ports.n; i++) {
		char *slash;
		unsigned port = (unsigned)strtoul(sorted[i], &slash, 10);
		if (*slash == '/' && !is_published(b, port, slash + 1))
			add_to_runs(runs, n, "", port, slash + 1);
	}
	return 0;
}

char *ports_text(const struct box *b)
{
	CLEANUP_FREE struct run *runs = calloc(b->ports.n + b->config.exposed_ports.n + 1, sizeof(*runs));
	CLEANUP(buf_done) struct buf out = {0}, mapped = {0};
	size_t n = 0;

	if (!box_is_live(b))
		return strdup("");
	int r = runs ? expose_runs(b, runs, &n) : -ENOMEM;
	for (size_t i = 0; r == 0 && i < b->ports.n; i++) {
		char ip[NET_ADDR_HOST_MAX], text[128];
		struct box_port p;
		if (box_port_parse(b->ports.v[i], &p) < 0)
			continue;
		if (p.host == p.guest) {
			add_to_runs(runs, &n, p.ip, p.guest, box_protocol_name(p.protocol));
			continue;
		}
		net_addr_host_text(p.ip, ip);
		snprintf(text, sizeof(text), "%s%s%u->%u/%s", ip, *ip ? ":" : "", p.host, p.guest,
			box_protocol_name(p.protocol));
		r = add_text(&mapped, text);
	}
	for (size_t i = 0; r == 0 && i < n; i++)
		r = add_run(&out, &runs[i]);
	if (r == 0 && mapped.len) {
		r = buf_append(&mapped, "", 1);
		if (r == 0)
			r = add_text(&out, (const char *)buf_data(&mapped));
	}
	return r < 0 || buf_append(&out, "", 1) < 0 ? NULL : strdup((const char *)buf_data(&out));
}
