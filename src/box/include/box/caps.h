/* SPDX-License-Identifier: MIT */
/* Linux capabilities (capabilities(7)) of a box's processes, as sets of a bit each. */
#ifndef BOX_CAPS_H
#define BOX_CAPS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/strv.h"

#define BOX_CAPS_N   41 /* Linux 6.12, which the guest runs: CAP_CHOWN to CAP_CHECKPOINT_RESTORE */
#define BOX_CAPS_ALL ((UINT64_C(1) << BOX_CAPS_N) - 1)
/* What Docker gives a container that asks for nothing. */
#define BOX_CAPS_DEFAULT \
	(1u << 0 /* CHOWN */ | 1u << 1 /* DAC_OVERRIDE */ | 1u << 3 /* FOWNER */ | 1u << 4 /* FSETID */ | \
		1u << 5 /* KILL */ | 1u << 6 /* SETGID */ | 1u << 7 /* SETUID */ | 1u << 8 /* SETPCAP */ | \
		1u << 10 /* NET_BIND_SERVICE */ | 1u << 13 /* NET_RAW */ | 1u << 18 /* SYS_CHROOT */ | \
		1u << 27 /* MKNOD */ | 1u << 29 /* AUDIT_WRITE */ | 1u << 31 /* SETFCAP */)

/* "CAP_CHOWN" of a number below BOX_CAPS_N, else NULL. */
const char *box_cap_name(unsigned cap);
/* The number of "CAP_CHOWN", "chown", in any case; -1 if there is none of this name. */
int box_cap_number(const char *name);

/*
 * The default set with these names dropped, then added, as Docker does it: "ALL" in add means every capability but those
 * dropped by name, else "ALL" in drop means those added by name and no other. 0; -EINVAL with e set, which names the flag
 * and the name that is none.
 */
int box_caps_from_lists(const struct strv *add, const struct strv *drop, uint64_t *ret, struct err *e);

/* Appends the names of a set, in the order of their numbers. 0 or -ENOMEM. */
int box_caps_names(uint64_t caps, struct strv *ret);

#endif
