/* SPDX-License-Identifier: MIT */
/* Restart policies: decisions only. The supervisor and `monitor` act on them. */
#include "box/box.h"
#include "run.h"

static const char *const policy_names[] = {
	[BOX_RESTART_NO] = "no",
	[BOX_RESTART_ALWAYS] = "always",
	[BOX_RESTART_ON_FAILURE] = "on-failure",
	[BOX_RESTART_UNLESS_STOPPED] = "unless-stopped",
};

const char *box_restart_name(enum box_restart_policy p)
{
	return policy_names[p];
}

bool box_restart_wanted(const struct box_restart *p, int exit_code, uint32_t count)
{
	switch (p->policy) {
	case BOX_RESTART_ALWAYS:
	case BOX_RESTART_UNLESS_STOPPED:
		return true;
	case BOX_RESTART_ON_FAILURE:
		return exit_code != 0 && (p->max_retries == 0 || count < p->max_retries);
	case BOX_RESTART_NO:
		break;
	}
	return false;
}

uint64_t box_backoff_next(struct box_backoff *b, uint64_t ran_ns)
{
	if (b->delay_ns == 0 || ran_ns >= BOX_BACKOFF_GOOD_NS)
		b->delay_ns = BOX_BACKOFF_MIN_NS;
	else
		b->delay_ns = MIN_OF(2 * b->delay_ns, BOX_BACKOFF_MAX_NS);
	return b->delay_ns;
}

bool box_loss_counts(const struct box *b)
{
	/* What ended for want of its owner has failed. */
	return !b->stopped_by_user && !b->config.auto_remove &&
	       box_restart_wanted(&b->config.restart, 137, 0);
}

bool box_wants_revival(const struct box *b)
{
	if (!b->lost || (b->state != BOX_CREATED && b->state != BOX_EXITED))
		return false;
	return box_loss_counts(b);
}
