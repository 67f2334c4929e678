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

int box_fill_config(const struct box *b, struct wire_config *ret)
{
	const struct box_config *c = &b->config;

	*ret = (struct wire_config){.read_only = c->read_only,
		.shm_bytes = c->shm_bytes,
		.privileged = c->privileged,
		.unmasked = c->unmasked,
		.user_namespace = c->user_namespace};
	ret->hostname = str_dup(c->hostname);
	if (!ret->hostname || wire_limits_copy(&ret->limits, &c->limits) < 0 ||
		strv_copy(&ret->tmpfs, &c->tmpfs) < 0 || strv_copy(&ret->sysctls, &c->sysctls) < 0 ||
		strv_copy(&ret->devices, &c->devices) < 0)
		return -ENOMEM;
	return 0;
}
