/* SPDX-License-Identifier: MIT */
/* The upper layer on a box's disk, read by a process that is confined to it. */
#ifndef STORAGE_READER_H
#define STORAGE_READER_H

#include "walk.h"

/*
 * Sends the upper layer to the sink, and its end. *ret_any false: there is none, and the sink was not called. 0 or -errno with
 * e set; -EUCLEAN for a disk that was not left clean (and the sink was not called), or is damaged.
 */
int reader_run(
	int disk_fd, const struct walk_opts *o, const struct tree_sink *to, bool *ret_any, struct err *e);

/*
 * Gives up all but two descriptors, which become numbers 0 and 1: the process can read them, write to them, compute, and end. It
 * dies with its parent. seconds: of processor time that are left. 0 or -errno.
 */
int reader_confine(int disk_fd, int out_fd, unsigned int seconds);

#endif
