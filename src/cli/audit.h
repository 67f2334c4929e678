/* SPDX-License-Identifier: MIT */
/*
 * What a command is remembered by in the audit log (state/audit.h): who did what to which boxes and images, and how it
 * went. One per process. Without audit_begin all of these do nothing.
 */
#ifndef CLI_AUDIT_H
#define CLI_AUDIT_H

#include "app.h"

/* The command line, as main got it; values that may be secret are not kept. */
void audit_begin(const char *command, int argc, char **argv);
/* The home is open: from here on, the command counts even if it comes to nothing. */
void audit_opened(void);
/* Boxes and images that it is about. */
void audit_box(const struct box *b);
void audit_image(const char *id);
/* The first error is the one that is remembered. */
void audit_error(const struct err *e);
/* The workload runs: its own end, days later perhaps, is not this command's outcome. Writes the entry. */
void audit_started(void);
/*
 * For a command that stays: an entry of its own for what it has done to one box, or failed to (failed not NULL). The entry of
 * the whole is still to come.
 */
void audit_part(const char *id, const char *name, const struct err *failed);
/* The command has ended with this status. Writes the entry, unless it is written. */
void audit_end(int status);

#endif
