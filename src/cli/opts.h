/* SPDX-License-Identifier: MIT */
/* Options of a command, in one table that parses and documents them. */
#ifndef CLI_OPTS_H
#define CLI_OPTS_H

#include <stdbool.h>

#include "base/err.h"
#include "wire/wire.h" /* struct strv */

enum opt_kind { OPT_FLAG, OPT_STR, OPT_LIST };

struct opt {
	char letter;	  /* 0: none */
	const char *name; /* NULL ends the table */
	enum opt_kind kind;
	void *value;	 /* bool *, const char **, struct strv * */
	const char *arg; /* placeholder in the help */
	const char *help;
};

struct cmd {
	const char *name;
	const char *usage;   /* behind "a3s-box NAME " */
	const char *summary; /* one line, lower case */
	int (*run)(const struct cmd *c, int argc, char **argv);
	int usage_status; /* exit status for bad use: 125 where the workload's own status passes through, else 1 */
};

enum { OPTS_MIXED = 0, OPTS_FIRST = 1 }; /* options anywhere, or only before the first other argument */

/*
 * Parses argv[1..]: --name value, --name=value, -x value, -xvalue, -xyz, --flag=false; "--" ends the options. The other
 * arguments are moved to argv[1..*ret_argc). Returns 0; 1 when --help was printed; -EINVAL with e set.
 */
int opts_parse(const struct cmd *c, const struct opt *opts, int order, int *argc, char **argv, struct err *e);

#endif
