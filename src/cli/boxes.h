/* SPDX-License-Identifier: MIT */
/* One command for several boxes: found first, then asked at the same time, then reported in the order given. */
#ifndef CLI_BOXES_H
#define CLI_BOXES_H

#include "app.h"

struct batch_item {
	const char *ref; /* as the user names it */
	struct box *box; /* NULL: not found */
	int result;	 /* 0 or -errno with err set */
	int status;	 /* the exit status that a failure makes, 0: 1 */
	struct err err;
	size_t same; /* index of the first item with this box: the one that counts */
};
struct batch {
	const struct cmd *cmd;
	struct app app;
	struct batch_item *v;
	size_t n;
	bool missing_is_fine; /* a box that is not there is told, but is no failure */
};

/*
 * Opens the home and finds the boxes of argv[1..argc). Who is not there has his result. 0; or the exit status, with the error
 * printed.
 */
int batch_open(struct batch *bt, const struct cmd *c, int argc, char **argv, bool with_images);
/*
 * Asks all supervisors at once. prepare fills call->req and mode for a box and returns 1, or 0 or -errno with e set when there
 * is nothing to ask. That a box ended before it was reached (-ESRCH) is the result `over`.
 */
void batch_call(struct batch *bt,
	int (*prepare)(const struct box *b, struct box_call *call, void *data, struct err *e), void *data,
	int over);
/* Whether item i is one to work on, and its results as of box_call_many (owners[k]: the item of calls[k]), for other ways. */
bool batch_wants(const struct batch *bt, size_t i);
void batch_take(struct batch *bt, const struct box_call *calls, const size_t *owners, size_t n);
void batch_out_of_memory(struct batch *bt);
/* Prints each name that worked and the errors of the others, and closes. Returns the exit status. */
int batch_finish(struct batch *bt);
/* Closes only. */
void batch_close(struct batch *bt);

#endif
