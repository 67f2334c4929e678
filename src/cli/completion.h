/* SPDX-License-Identifier: MIT */
#ifndef CLI_COMPLETION_H
#define CLI_COMPLETION_H

#include "app.h"

/* Prints what the last of the words behind "a3s-box" may become, a candidate a line. Returns the exit status. */
int completion_words(const struct cmd *commands, size_t n_commands, int argc, char **argv);

#endif
