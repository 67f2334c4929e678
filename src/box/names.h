/* SPDX-License-Identifier: MIT */
#ifndef BOX_NAMES_H
#define BOX_NAMES_H

/* A random name, "brave_otter". malloc'd or NULL. The attempt number widens the choice. */
char *box_make_name(unsigned attempt);

#endif
