/* SPDX-License-Identifier: MIT */
/* port: the published ports of a box, as Docker lists them. None to show is no error unless one was named. */
#include <string.h>

#include "app.h"
#include "base/units.h"
#include "box/network.h"

struct query {
	uint16_t port; /* 0: all */
	const char *protocol;
	size_t shown;
};

/* "80", "80/tcp" */
static int parse_query(const char *s, struct query *q, struct err *e)
{
	size_t n = strcspn(s, "/");

	q->protocol = s[n] ? s + n + 1 : "tcp";
	if (parse_port(s, n, &q->port) < 0 || q->port == 0 ||
		(strcmp(q->protocol, "tcp") != 0 && strcmp(q->protocol, "udp") != 0))
		return err_set(e, -EINVAL, "%s: expected a port like 80 or 80/udp", s);
	return 0;
}

static int show(const char *box, const struct box_port *p, void *data)
{
	const char *protocol = box_protocol_name(p->protocol);
	char host[NET_ADDR_HOST_MAX];
	struct query *q = data;

	if (q->port && (q->port != p->guest || strcmp(q->protocol, protocol) != 0))
		return 0;
	if (!q->port)
		printf("%u/%s -> ", p->guest, protocol);
	printf("%s:%u\n", net_addr_host_text(p->ip, host), p->host);
	q->shown++;
	return 0;
}

int cmd_port(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(app_close) struct app a = {0};
	CLEANUP(box_freep) struct box *b = NULL;
	struct opt opts[] = {{0}};
	struct query q = {0};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && (argc < 2 || argc > 3))
		return app_usage(c, "a box is needed, and perhaps a port");
	if (r == 0 && argc == 3)
		r = parse_query(argv[2], &q, &e);
	if (r == 0)
		r = app_open(&a, false, &e);
	if (r == 0)
		r = box_find(a.st, argv[1], &b, &e);
	if (r == 0)
		r = box_ports_read(a.st, b->id, show, &q, &e);
	if (r == 0 && q.port && !q.shown)
		r = err_set(&e, -ENOENT, "no public port '%s' published for %s", argv[2], b->name);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}
