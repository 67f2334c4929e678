/* SPDX-License-Identifier: MIT */
/*
 * Progress of long work, on standard error, for struct oci_progress.
 *
 * On a terminal: a line per layer with what is done with it, a bar, bytes and rate, then their total, redrawn in place.
 * All lines are cut to the terminal's width; where it has too few rows, layers that are being worked on come first and
 * the others are counted. After each frame the cursor stands below it, and nothing else of the terminal is changed: an
 * interrupted command leaves nothing to put right. There are no colours.
 *
 * Elsewhere: a plain line when a layer's step begins, one every ten seconds while it lasts, and one when it is over; or
 * nothing at all.
 */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <stdbool.h>
#include <stdio.h>

#include "oci/oci.h"

/* PROGRESS_TERMINAL: nothing where standard error is no terminal. */
enum progress_mode { PROGRESS_QUIET, PROGRESS_TERMINAL, PROGRESS_PLAIN };

struct progress_item;

struct progress {
	FILE *out; /* standard error; tests set another */
	bool tty, plain;
	size_t cols, rows; /* 0: asked of the terminal for each frame */
	struct progress_item *items;
	size_t n, capacity;
	struct progress_item *whole; /* of what is about no layer */
	uint64_t start_ns, drawn_ns, counted_ns;
	uint64_t counted; /* bytes transferred, when the rate was last computed */
	double rate;	  /* bytes per second, smoothed */
	size_t drawn;	  /* lines of the last frame */
};

void progress_init(struct progress *p, enum progress_mode mode);
/* For struct oci_progress; data is a struct progress. */
void progress_show(void *data, const char *item, const char *action, uint64_t done, uint64_t total);
/* Takes the frame off the screen, so that something else can be printed; the next call of progress_show draws it again. */
void progress_pause(struct progress *p);
/* Leaves the last state of the layers on the screen, and of everything else nothing. Frees. */
void progress_done(struct progress *p);

#endif
