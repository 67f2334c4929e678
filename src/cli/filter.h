/* SPDX-License-Identifier: MIT */
/* Several --filter at once, as Docker takes them: of the conditions of one key any has to fit, but of labels all. */
#ifndef CLI_FILTER_H
#define CLI_FILTER_H

#include <stdbool.h>

struct filter_tally {
	unsigned asked, met; /* a bit per key */
	bool failed;
};

static inline void filter_tally_add(struct filter_tally *t, unsigned key, bool fits, bool all)
{
	t->asked |= 1u << key;
	t->met |= fits ? 1u << key : 0;
	t->failed |= all && !fits;
}

static inline bool filter_tally_fits(const struct filter_tally *t)
{
	return !t->failed && t->met == t->asked;
}

#endif
