/* SPDX-License-Identifier: MIT */
/* Ports of boxes, as Docker shows them. */
#ifndef CLI_PORTS_H
#define CLI_PORTS_H

#include "app.h"

/*
 * Of a running box from box_list_brief with its ports: "80-81/tcp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp": ports that follow
 * each other are one entry, where the host's numbers are the box's. malloc'd; NULL when out of memory.
 */
char *ports_text(const struct box *b);

/* ---- inspect-network.c ---- */
/* NetworkSettings: ports and networks. */
json_t *inspect_network_settings(const struct app *a, const struct box *b);
/* HostConfig's NetworkMode, PortBindings, PublishAllPorts. */
void inspect_add_network_config(json_t *host_config, const struct app *a, const struct box *b);

#endif
