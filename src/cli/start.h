/* SPDX-License-Identifier: MIT */
/* Starting boxes that exist: start, restart. */
#ifndef CLI_START_H
#define CLI_START_H

#include "boxes.h"

/*
 * Starts a box that is not live, or joins one that is, also while another command starts it; waits some seconds for whoever
 * else is at it. *ret_fd is connected with its supervisor, and a client that has not asked for anything yet. 0 or -errno.
 */
int start_attached(struct app *a, const char *ref, struct box **ret, int *ret_fd, struct err *e);

/*
 * Starts the boxes of all items for which wanted returns true, some at a time, and waits until their workloads run. Results
 * are in the batch, with the status of one that did not start; a box that runs already has 0.
 */
void batch_start(struct batch *bt, bool (*wanted)(const struct batch *bt, size_t i));

#endif
