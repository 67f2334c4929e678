/* SPDX-License-Identifier: MIT */
#ifndef CLI_NETWORK_H
#define CLI_NETWORK_H

#include "app.h"
#include "box/network.h"

/*
 * An endpoint has no ID of its own: the two that it joins name it, 32 digits of each; its box alone on the default network,
 * which has no digits.
 */
static inline void network_endpoint_id(char ret[static 65], const char *network, const char *box)
{
	bool own = strcmp(network, BOX_NETWORK_DEFAULT) == 0;
	snprintf(ret, 65, "%.32s%.32s", own && strlen(box) > 32 ? box + 32 : network, box);
}

/* What `inspect` shows of a network, with what its process says while it has one. A new reference; NULL with e set. */
json_t *network_json(const struct app *a, const struct box_network *n, struct err *e);

#endif
