/* SPDX-License-Identifier: MIT */
/* Questions to whoever sits at the terminal. */
#ifndef CLI_PROMPT_H
#define CLI_PROMPT_H

#include <stdbool.h>

#include "base/err.h"

/*
 * Asks on the controlling terminal, whatever standard input and output are, for one line, which is not shown while it is
 * typed when secret. A signal that ends the command, ^C included, first puts the terminal right. *ret malloc'd, free it
 * with prompt_free. 0; -ENOTTY without a terminal and -ECANCELED at the end of input, with e set.
 */
int prompt_line(const char *question, bool secret, char **ret, struct err *e);
/* All of standard input but line feeds at its end, for --password-stdin. At most 64 KiB. As above. */
int prompt_stdin(char **ret, struct err *e);
/* Overwrites it first. NULL is fine. */
void prompt_free(char *secret);
DEFINE_CLEANUP(char *, prompt_free)

#endif
