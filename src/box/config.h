/* SPDX-License-Identifier: MIT */
#ifndef BOX_CONFIG_H
#define BOX_CONFIG_H

#include "box/box.h"

/* malloc'd JSON text, NULL when out of memory. */
char *box_config_to_json(const struct box_config *c);
/* 0, -EBADMSG, -ENOMEM. */
int box_config_from_json(const char *s, struct box_config *ret);
/* One list of it, as JSON text, appended to *ret. 0, -EBADMSG, -ENOMEM. */
int box_config_list(const char *s, struct strv *ret);
/* And back: malloc'd, NULL when out of memory. */
char *box_config_list_text(const struct strv *l);

#endif
