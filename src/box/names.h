/* SPDX-License-Identifier: MIT */
#ifndef BOX_NAMES_H
#define BOX_NAMES_H

#include "base/err.h"

/* A random name, "brave_otter". malloc'd or NULL. The attempt number widens the choice. */
char *box_make_name(unsigned attempt);
/* The error of a name that another box has. Returns -EEXIST. */
int box_name_taken(const char *name, struct err *e);

#endif
