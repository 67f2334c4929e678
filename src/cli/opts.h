/* SPDX-License-Identifier: MIT */
/* Options of a command, in one table that parses and documents them. */
#ifndef CLI_OPTS_H
#define CLI_OPTS_H

#include <stdbool.h>
#include <string.h>

#include "base/err.h"
#include "wire/wire.h" /* struct strv */

/* OPT_GROUP is a heading in the help, of what follows it: its help is the text. */
enum opt_kind { OPT_FLAG, OPT_STR, OPT_LIST, OPT_GROUP };

struct opt {
	char letter;	  /* 0: none */
	const char *name; /* NULL ends the table; "" for a group */
	enum opt_kind kind;
	void *value;	 /* bool *, const char **, struct strv * */
	const char *arg; /* placeholder in the help */
	const char *help;
	const char *alias; /* Docker's other name for it, which nothing shows; NULL */
};
#define OPT_HEADING(text) \
	{ \
		0, "", OPT_GROUP, NULL, NULL, text \
	}

/* What a command's arguments name, for completion. */
enum operands {
	OPERANDS_NONE,
	OPERANDS_BOX,	      /* one, then nothing that could be completed */
	OPERANDS_LIVE_BOX,    /* the same, a running one */
	OPERANDS_BOX_COMMAND, /* a running box, then a program and its arguments */
	OPERANDS_BOXES,
	OPERANDS_IMAGE, /* one, then a program and its arguments */
	OPERANDS_IMAGES,
	OPERANDS_ANY, /* boxes, images, networks and volumes */
	OPERANDS_NETWORKS,
	OPERANDS_VOLUMES,
	OPERANDS_SNAPSHOT, /* one */
	OPERANDS_SNAPSHOTS,
	OPERANDS_BOX_SNAPSHOT, /* a box or a snapshot, then a snapshot */
	OPERANDS_NETWORK_BOX,  /* a network, then a box */
	OPERANDS_FILE_IMAGE,   /* a file, then an image */
	OPERANDS_COPY,	       /* two files: of this host, or behind a box and ":" */
	OPERANDS_REGISTRY,     /* one that an image came from */
};

struct cmd {
	const char *name;
	const char *usage;   /* behind "a3s-box NAME " */
	const char *summary; /* one line, lower case */
	int (*run)(const struct cmd *c, int argc, char **argv);
	int usage_status; /* exit status for bad use: 125 where the workload's own status passes through, else 1 */
	enum operands operands;
	bool only_reads; /* changes nothing, and so is not in the audit log */
	/* Of a command that only has others below it ("network"), whose names are "network create" and so on; run is NULL. */
	const struct cmd *subs;
	size_t n_subs;
	const char *
		alias; /* of one below another: Docker's other name for its last word, which nothing lists; NULL */
};

/* "create" of "network create". */
static inline const char *cmd_last_name(const struct cmd *c)
{
	const char *blank = strchr(c->name, ' ');
	return blank ? blank + 1 : c->name;
}

/* Whether a word names it, by its last name or by its alias. */
static inline bool cmd_is(const struct cmd *c, const char *word)
{
	return strcmp(word, cmd_last_name(c)) == 0 || (c->alias && strcmp(word, c->alias) == 0);
}

enum { OPTS_MIXED = 0, OPTS_FIRST = 1 }; /* options anywhere, or only before the first other argument */

/*
 * Parses argv[1..]: --name value, --name=value, -x value, -xvalue, -xyz, --flag=false; "--" ends the options. The other
 * arguments are moved to argv[1..*ret_argc). Returns 0; 1 when --help was printed; -EINVAL with e set.
 *
 * For completion scripts and manual pages, --help=options as the first argument prints the table instead, an option a line:
 * letter, name, placeholder (empty for a flag) and help, separated by tabs.
 */
int opts_parse(const struct cmd *c, const struct opt *opts, int order, int *argc, char **argv, struct err *e);

/* Of "IMAGE -- COMMAND": a "--" in argv[2] is dropped, once. */
void opts_drop_dashes(int *argc, char **argv);

#endif
