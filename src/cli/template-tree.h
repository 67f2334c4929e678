/* SPDX-License-Identifier: MIT */
/* A parsed template. All of it lives in the template's pool and is freed with it. */
#ifndef CLI_TEMPLATE_TREE_H
#define CLI_TEMPLATE_TREE_H

#include <stdint.h>

#include "base/buf.h"
#include "template.h"

enum {
	TEMPLATE_TEXT_MAX = 64 << 10,	/* bytes of a template */
	TEMPLATE_DEPTH_MAX = 32,	/* of blocks and parentheses together */
	TEMPLATE_VARS_MAX = 64,		/* at one time */
	TEMPLATE_STEPS_MAX = 1000000,	/* values computed for one print */
	TEMPLATE_OUTPUT_MAX = 16 << 20, /* bytes of one print, and of any string on the way */
};

struct exec;

struct func {
	const char *name;
	size_t min_args, max_args;
	/* Returns a new reference, or NULL with the error set. NULL: `and` and `or`, which compute what they need only. */
	json_t *(*fn)(struct exec *x, json_t *const *args, size_t n);
};

struct field {
	const char *name;
	struct field *next;
};

enum operand_kind { OPERAND_DOT, OPERAND_VAR, OPERAND_LITERAL, OPERAND_FUNC, OPERAND_PIPE };

struct operand {
	enum operand_kind kind;
	const char *var; /* without "$"; empty: the root */
	json_t *literal; /* borrowed from the template's list */
	const struct func *func;
	struct pipe *pipe;    /* in parentheses */
	struct field *fields; /* what follows: .A.B */
	struct operand *next;
};

struct command {
	struct operand *args; /* the first may be a function, or a method: .Label */
	size_t n_args;
	struct command *next;
};

struct pipe {
	const char *vars[2]; /* declared or set */
	size_t n_vars;
	bool assign; /* "=", not ":=" */
	struct command *commands;
};

enum node_kind { NODE_TEXT, NODE_PRINT, NODE_IF, NODE_RANGE, NODE_WITH, NODE_BREAK, NODE_CONTINUE };

struct node {
	enum node_kind kind;
	const char *text;
	size_t len;
	struct pipe *pipe;
	struct node *list, *else_list;
	struct node *next;
};

struct template
{
	struct pool_block *pool;
	json_t *literals; /* array */
	struct node *list;
};

/* A run of a template. */
struct exec {
	json_t *root;
	const struct template_labels *labels; /* NULL: no .Label */
	struct {
		const char *name;
		json_t *value;
	} vars[TEMPLATE_VARS_MAX];
	size_t n_vars;
	unsigned steps;
	bool escape;
	struct buf out;
	struct err *e;
};

/* ---- template-func.c ---- */

/* Writes a valid code point as UTF-8 (RFC 3629) to dst, of at least 4 bytes. Returns its length. */
size_t utf8_encode(char *dst, uint32_t cp);

const struct func *template_func(const char *name, size_t len);
bool value_true(const json_t *v);
/* Appends the text of v as Go's %v. top: not inside of a list or map. 0, -E2BIG, -ENOMEM. */
int value_put(struct buf *out, const json_t *v, bool top);
/* Appends within TEMPLATE_OUTPUT_MAX. 0, -E2BIG, -ENOMEM. */
int value_append(struct buf *out, const char *s, size_t n);
/* "a list", "nothing": for errors. */
const char *value_kind(const json_t *v);
/* For qsort over const char *. */
int value_compare_keys(const void *a, const void *b);
/* A string of these bytes, consumed; an error of how they were made becomes the template's. */
json_t *value_take(struct exec *x, struct buf *b, int r);
json_t *func_error(struct exec *x, int code, const char *fmt, ...) PRINTF(3, 4);

/* ---- template-printf.c ---- */

/* Go's fmt.Sprintf with the verbs v s q d x X o b c t f F g G e E. */
json_t *func_printf(struct exec *x, json_t *const *args, size_t n);
/* Appends a number as Go's %v: the shortest text that reads back the same. */
int value_put_real(struct buf *out, double d);

#endif
