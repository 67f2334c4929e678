/* SPDX-License-Identifier: MIT */
/* What a box's configuration means to the guest. */
#include <string.h>

#include "base/io.h"
#include "box/box.h"
#include "box/seccomp.h"
#include "run.h"

/* The filter kept with the box. */
static int read_filter(struct state *st, const struct box *b, struct wire_process *p, struct err *e)
{
	CLEANUP_CLOSE int dir = box_open_box_dir(st, b->id, false, e);
	CLEANUP_FREE char *data = NULL;
	size_t len;

	int r = dir < 0 ? dir : io_read_file_at(dir, BOX_SECCOMP_FILE, WIRE_SECCOMP_MAX, &data, &len);
	if (r < 0)
		return err_sys(e, r, "cannot read the seccomp filter of box %s", b->name);
	if (len == 0 || len % 8)
		return err_set(e, -EBADMSG, "the seccomp filter of box %s is damaged", b->name);
	p->seccomp = (uint8_t *)TAKE_PTR(data);
	p->seccomp_len = len;
	return 0;
}

int box_fill_process(struct state *st, const struct box *b, struct wire_process *p, struct err *e)
{
	const struct wire_process *from = &b->config.process;

	if (p != from) {
		p->caps = from->caps;
		p->no_new_privileges = from->no_new_privileges;
		p->oom_score_adj = from->oom_score_adj;
		memcpy(p->rlimits, from->rlimits, sizeof(p->rlimits));
		p->n_rlimits = from->n_rlimits;
	}
	free(TAKE_PTR(p->seccomp));
	p->seccomp_len = 0;
	if (b->config.seccomp == BOX_SECCOMP_NONE)
		return 0;
	if (b->config.seccomp == BOX_SECCOMP_OWN)
		return read_filter(st, b, p, e);
	p->seccomp = malloc(box_seccomp_default_filter_len);
	if (!p->seccomp)
		return err_oom(e);
	memcpy(p->seccomp, box_seccomp_default_filter, box_seccomp_default_filter_len);
	p->seccomp_len = box_seccomp_default_filter_len;
	return 0;
}

/* ---- struct wire_config ---- */

static int add_host(struct strv *hosts, const char *address, const char *name)
{
	char *line = str_printf("%s\t%s", address, name);
	return line ? strv_take(hosts, line) : -ENOMEM;
}

static int add_hosts(const struct box_config *c, struct strv *hosts)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < c->add_hosts.n; i++) {
		const char *colon = strchr(c->add_hosts.v[i], ':');
		CLEANUP_FREE char *name =
			colon ? strndup(c->add_hosts.v[i], (size_t)(colon - c->add_hosts.v[i])) : NULL;
		r = name ? add_host(hosts, colon + 1, name) : -ENOMEM;
	}
	/* Without a network the box's own name means the loopback: many programs look it up. */
	return r == 0 ? add_host(hosts, "127.0.0.1", c->hostname) : r;
}

/* One line of resolv.conf(5) for each value, or one for all; none for an empty list. */
static int add_lines(struct buf *b, const char *key, const struct strv *values, bool one)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < values->n; i++) {
		CLEANUP_FREE char *text =
			str_printf("%s%s%s%s", i && !one ? "\n" : "", i && one ? "" : key, " ", values->v[i]);
		r = text ? buf_append(b, text, strlen(text)) : -ENOMEM;
	}
	return r == 0 && values->n ? buf_append(b, "\n", 1) : r;
}

static int make_resolv_conf(const struct box_config *c, char **ret)
{
	CLEANUP(buf_done) struct buf b = {0};
	/* Docker's way to ask for no search list at all. */
	bool no_search = c->dns_search.n == 1 && strcmp(c->dns_search.v[0], ".") == 0;
	const struct strv none = {0};

	if (c->dns.n + c->dns_search.n + c->dns_opts.n == 0)
		return 0;
	int r = add_lines(&b, "nameserver", &c->dns, false);
	if (r == 0)
		r = add_lines(&b, "search", no_search ? &none : &c->dns_search, true);
	if (r == 0)
		r = add_lines(&b, "options", &c->dns_opts, true);
	if (r < 0)
		return r;
	*ret = b.len ? strndup((char *)buf_data(&b), b.len) : strdup("");
	return *ret ? 0 : -ENOMEM;
}

int box_fill_config(const struct box *b, struct wire_config *ret)
{
	const struct box_config *c = &b->config;

	*ret = (struct wire_config){.read_only = c->read_only,
		.shm_bytes = c->shm_bytes,
		.privileged = c->privileged,
		.unmasked = c->unmasked,
		.user_namespace = c->user_namespace};
	ret->hostname = str_dup(c->hostname);
	if (!ret->hostname || add_hosts(c, &ret->hosts) < 0 || make_resolv_conf(c, &ret->resolv_conf) < 0 ||
		wire_limits_copy(&ret->limits, &c->limits) < 0 || strv_copy(&ret->tmpfs, &c->tmpfs) < 0 ||
		strv_copy(&ret->sysctls, &c->sysctls) < 0 || strv_copy(&ret->devices, &c->devices) < 0)
		return -ENOMEM;
	return 0;
}
