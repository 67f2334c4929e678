/* SPDX-License-Identifier: MIT */
/* A command line for the audit log: without secrets, and bounded. */
#ifndef CLI_AUDIT_ARGS_H
#define CLI_AUDIT_ARGS_H

#include <jansson.h>

/*
 * argv[1..argc) as a list of strings. Values of environment variables, build arguments, passwords and secrets are
 * replaced by AUDIT_HIDDEN; names stay. When in doubt, for instance in the command that a box is to run, a value is hidden.
 */
#define AUDIT_HIDDEN "***"
json_t *audit_args(const char *command, int argc, char **argv);

#endif
