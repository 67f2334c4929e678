/* SPDX-License-Identifier: MIT */
/* Runs a parsed template over JSON. Every value is a reference of its own; NULL means that the error is set. */
#include "template.h"

#include <string.h>

#include "template-tree.h"

enum flow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE }; /* or -errno */

static json_t *eval_pipe(struct exec *x, const struct pipe *p, json_t *dot, bool declare);
static int run_list(struct exec *x, const struct node *n, json_t *dot);

/* ---- values ---- */

/* Fields of a missing or wrong value are an error, as on Go's nil. See template.h for keys that are not there. */
static json_t *get_field(struct exec *x, json_t *from, const char *name)
{
	if (!json_is_object(from))
		return func_error(x, -EINVAL, "template: %s has no field \"%s\"", value_kind(from), name);
	json_t *v = json_object_get(from, name);
	if (!v && from == x->root && x->labels)
		v = json_object_get(x->labels->more, name);
	if (v)
		return json_incref(v);
	if (name[0] >= 'A' && name[0] <= 'Z')
		return func_error(x, -EINVAL, "template: there is no field \"%s\"", name);
	return json_null();
}

/* The last part of the name, as a heading: what Docker prints above {{.Label "x"}}. */
static json_t *label_heading(struct exec *x, const char *name)
{
	const char *dot = strrchr(name, '.');
	CLEANUP_FREE char *text = strdup(dot ? dot + 1 : name);

	if (!text)
		return func_error(x, -ENOMEM, "out of memory");
	for (char *c = text; *c; c++) {
		if (*c == '-' || *c == '_')
			*c = ' ';
	}
	return json_string(text);
}

static json_t *call_label(struct exec *x, json_t *name)
{
	if (!json_is_string(name))
		return func_error(x, -EINVAL, "template: Label: a name is needed");
	if (!x->labels || x->labels->more)
		return func_error(x, -EINVAL, "template: there is no field \"Label\"");
	if (x->labels->headings)
		return label_heading(x, json_string_value(name));
	json_t *v = json_object_get(x->labels->map, json_string_value(name));
	return v ? json_incref(v) : json_string("");
}

static json_t *get_var(const struct exec *x, const char *name)
{
	if (!*name)
		return json_incref(x->root);
	for (size_t i = x->n_vars; i-- > 0;) {
		if (strcmp(x->vars[i].name, name) == 0)
			return json_incref(x->vars[i].value);
	}
	return json_null(); /* declared in a branch not taken; the parser knows all names */
}

static int push_var(struct exec *x, const char *name, json_t *value)
{
	if (x->n_vars == TEMPLATE_VARS_MAX)
		return err_set(x->e, -E2BIG, "template: too many variables");
	x->vars[x->n_vars].name = name;
	x->vars[x->n_vars++].value = json_incref(value);
	return 0;
}

static void pop_vars(struct exec *x, size_t n)
{
	while (x->n_vars > n)
		json_decref(x->vars[--x->n_vars].value);
}

static void set_var(struct exec *x, const char *name, json_t *value)
{
	for (size_t i = x->n_vars; i-- > 0;) {
		if (strcmp(x->vars[i].name, name) == 0) {
			json_decref(x->vars[i].value);
			x->vars[i].value = json_incref(value);
			return;
		}
	}
}

/* ---- operands, commands, pipelines ---- */

static json_t *eval_start(struct exec *x, const struct operand *o, json_t *dot)
{
	switch (o->kind) {
	case OPERAND_DOT:
		return json_incref(dot);
	case OPERAND_VAR:
		return get_var(x, o->var);
	case OPERAND_LITERAL:
		return json_incref(o->literal);
	case OPERAND_PIPE:
		return eval_pipe(x, o->pipe, dot, true);
	case OPERAND_FUNC:
		return o->func->fn ? o->func->fn(x, NULL, 0)
				   : func_error(x, -EINVAL, "template: %s needs arguments", o->func->name);
	}
	return NULL;
}

/* method: the argument of a Label at the end of the fields; NULL: all are fields. */
static json_t *eval_operand(struct exec *x, const struct operand *o, json_t *dot, json_t *method)
{
	if (++x->steps > TEMPLATE_STEPS_MAX)
		return func_error(x, -E2BIG, "template: takes too long");
	json_t *v = eval_start(x, o, dot);
	for (const struct field *f = o->fields; v && f; f = f->next) {
		json_t *next;
		if (method && !f->next)
			next = v == x->root ? call_label(x, method) : get_field(x, v, f->name);
		else
			next = get_field(x, v, f->name);
		json_decref(v);
		v = next;
	}
	return v;
}

/* `and` and `or`: the first value that decides, else the last. */
static json_t *eval_lazy(struct exec *x, const struct command *c, json_t *dot, json_t *piped)
{
	bool is_and = strcmp(c->args->func->name, "and") == 0;
	json_t *v = NULL;

	for (const struct operand *o = c->args->next; o; o = o->next) {
		json_decref(v);
		v = eval_operand(x, o, dot, NULL);
		if (!v || value_true(v) != is_and)
			return v;
	}
	if (piped) {
		json_decref(v);
		v = json_incref(piped);
	}
	return v;
}

enum { ARGS_MAX = 64 };

/* In a table's headings, what would change a cell leaves its heading as it is, as in Docker. */
static bool leaves_heading(const struct exec *x, const struct func *func, json_t *const *args, size_t n)
{
	static const char *const names[] = {
		"index", "join", "json", "lower", "slice", "split", "title", "truncate", "upper"};

	if (!x->labels || !x->labels->headings || n == 0 || !json_is_string(args[0]))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strcmp(func->name, names[i]) == 0)
			return true;
	}
	return false;
}

static json_t *eval_func(struct exec *x, const struct command *c, json_t *dot, json_t *piped)
{
	const struct func *func = c->args->func;
	json_t *args[ARGS_MAX], *v = NULL;
	size_t n = 0;
	bool ok = c->n_args <= ARGS_MAX;

	if (!func->fn)
		return eval_lazy(x, c, dot, piped);
	if (!ok)
		return func_error(
			x, -E2BIG, "template: %s: more than %d arguments", func->name, ARGS_MAX - 1);
	if (++x->steps > TEMPLATE_STEPS_MAX)
		return func_error(x, -E2BIG, "template: takes too long");
	for (const struct operand *o = c->args->next; ok && o; o = o->next) {
		args[n] = eval_operand(x, o, dot, NULL);
		ok = args[n] != NULL;
		n += ok;
	}
	if (ok && piped)
		args[n++] = json_incref(piped);
	if (ok)
		v = leaves_heading(x, func, args, n) ? json_incref(args[0]) : func->fn(x, args, n);
	while (n)
		json_decref(args[--n]);
	return v;
}

static json_t *eval_command(struct exec *x, const struct command *c, json_t *dot, json_t *piped)
{
	const struct operand *first = c->args;

	if (first->kind == OPERAND_FUNC)
		return eval_func(x, c, dot, piped);
	if (!first->next && !piped)
		return eval_operand(x, first, dot, NULL);
	json_t *arg = piped ? json_incref(piped) : eval_operand(x, first->next, dot, NULL);
	json_t *v = arg ? eval_operand(x, first, dot, arg) : NULL;
	json_decref(arg);
	return v;
}

/* declare false: range, which sets the variables itself. */
static json_t *eval_pipe(struct exec *x, const struct pipe *p, json_t *dot, bool declare)
{
	json_t *v = NULL;

	for (const struct command *c = p->commands; c; c = c->next) {
		json_t *next = eval_command(x, c, dot, v);
		json_decref(v);
		v = next;
		if (!v)
			return NULL;
	}
	for (size_t i = 0; declare && i < p->n_vars; i++) {
		if (p->assign) {
			set_var(x, p->vars[i], v);
		} else if (push_var(x, p->vars[i], v) < 0) {
			json_decref(v);
			return NULL;
		}
	}
	return v;
}

/* ---- actions ---- */

static int out_error(struct exec *x, int r)
{
	return r == -E2BIG ? err_set(x->e, r, "template: prints more than %d MiB", TEMPLATE_OUTPUT_MAX >> 20)
	       : r < 0	   ? err_oom(x->e)
			   : 0;
}

/* Control characters become visible, but those that lay text out. */
static int put_escaped(struct buf *out, const char *s, size_t n)
{
	int r = 0;

	while (r == 0 && n) {
		char part[257], safe[4 * 256 + 1];
		size_t k = 0;
		while (k < n && k < 256 && s[k] != '\n' && s[k] != '\t')
			k++;
		for (bool full = k == 256; full && k > 252 && k < n && ((unsigned char)s[k] & 0xc0) == 0x80;)
			k--; /* not inside a character */
		memcpy(part, s, k);
		part[k] = '\0';
		text_escape(safe, sizeof(safe), part);
		r = value_append(out, safe, strlen(safe));
		for (; r == 0 && k < n && (s[k] == '\n' || s[k] == '\t'); k++)
			r = value_append(out, s + k, 1);
		s += k;
		n -= k;
	}
	return r;
}

static int run_print(struct exec *x, const struct node *n, json_t *dot)
{
	CLEANUP(buf_done) struct buf text = {0};
	json_t *v = eval_pipe(x, n->pipe, dot, true);
	int r = 0;

	if (!v)
		return x->e->code;
	if (n->pipe->n_vars == 0) { /* an assignment prints nothing */
		r = value_put(x->escape ? &text : &x->out, v, true);
		if (r == 0 && text.len)
			r = put_escaped(&x->out, (const char *)buf_data(&text), text.len);
		else if (r == 0 && x->out.len > TEMPLATE_OUTPUT_MAX)
			r = -E2BIG;
	}
	json_decref(v);
	return out_error(x, r);
}

static int run_branch(struct exec *x, const struct node *n, json_t *dot)
{
	size_t vars = x->n_vars;
	json_t *v = eval_pipe(x, n->pipe, dot, true);

	if (!v)
		return x->e->code;
	bool yes = value_true(v);
	int r = run_list(x, yes ? n->list : n->else_list, yes && n->kind == NODE_WITH ? v : dot);
	json_decref(v);
	pop_vars(x, vars);
	return r;
}

/* One turn of a range. Returns FLOW_BREAK when it was the last. */
static int run_turn(struct exec *x, const struct node *n, json_t *key, json_t *value)
{
	const struct pipe *p = n->pipe;
	json_t *pair[2] = {p->n_vars == 1 ? value : key, value};
	size_t vars = x->n_vars;
	int r = 0;

	for (size_t i = 0; r == 0 && i < p->n_vars; i++) {
		if (p->assign)
			set_var(x, p->vars[i], pair[i]);
		else
			r = push_var(x, p->vars[i], pair[i]);
	}
	if (r == 0 && ++x->steps > TEMPLATE_STEPS_MAX)
		r = err_set(x->e, -E2BIG, "template: takes too long");
	if (r == 0)
		r = run_list(x, n->list, value);
	pop_vars(x, vars);
	return r == FLOW_CONTINUE ? FLOW_NEXT : r;
}

static int range_object(struct exec *x, const struct node *n, json_t *o)
{
	size_t count = 0;
	const char **keys = calloc(json_object_size(o) + 1, sizeof(*keys));
	const char *key;
	json_t *value;
	int r = FLOW_NEXT;

	if (!keys)
		return err_oom(x->e);
	json_object_foreach (o, key, value)
		keys[count++] = key;
	qsort(keys, count, sizeof(*keys), value_compare_keys);
	for (size_t i = 0; r == FLOW_NEXT && i < count; i++) {
		json_t *k = json_string(keys[i]);
		r = k ? run_turn(x, n, k, json_object_get(o, keys[i])) : err_oom(x->e);
		json_decref(k);
	}
	free(keys);
	return r;
}

/* A list, or a number: 0 to n - 1. */
static int range_list(struct exec *x, const struct node *n, json_t *v, size_t count)
{
	int r = FLOW_NEXT;

	for (size_t i = 0; r == FLOW_NEXT && i < count; i++) {
		json_t *k = json_integer((json_int_t)i);
		r = k ? run_turn(x, n, k, json_is_array(v) ? json_array_get(v, i) : k) : err_oom(x->e);
		json_decref(k);
	}
	return r;
}

static int run_range(struct exec *x, const struct node *n, json_t *dot)
{
	json_t *v = eval_pipe(x, n->pipe, dot, false);
	int r;

	if (!v)
		return x->e->code;
	json_int_t i = json_integer_value(v);
	size_t count = json_is_array(v)	   ? json_array_size(v)
		       : json_is_object(v) ? json_object_size(v)
		       : i > 0		   ? (size_t)i
					   : 0;
	if (!json_is_array(v) && !json_is_object(v) && !json_is_integer(v) && !json_is_null(v))
		r = err_set(x->e, -EINVAL, "template: range cannot go over %s", value_kind(v));
	else if (count == 0)
		r = run_list(x, n->else_list, dot);
	else
		r = json_is_object(v) ? range_object(x, n, v) : range_list(x, n, v, count);
	json_decref(v);
	return count && r == FLOW_BREAK ? FLOW_NEXT : r;
}

static int run_node(struct exec *x, const struct node *n, json_t *dot)
{
	switch (n->kind) {
	case NODE_TEXT:
		return out_error(x, value_append(&x->out, n->text, n->len));
	case NODE_PRINT:
		return run_print(x, n, dot);
	case NODE_IF:
	case NODE_WITH:
		return run_branch(x, n, dot);
	case NODE_RANGE:
		return run_range(x, n, dot);
	case NODE_BREAK:
		return FLOW_BREAK;
	case NODE_CONTINUE:
		return FLOW_CONTINUE;
	}
	return 0;
}

static int run_list(struct exec *x, const struct node *n, json_t *dot)
{
	size_t vars = x->n_vars;
	int r = FLOW_NEXT;

	for (; r == FLOW_NEXT && n; n = n->next)
		r = run_node(x, n, dot);
	pop_vars(x, vars);
	return r;
}

int template_text(const struct template *t, json_t *root, const struct template_labels *labels, bool escape,
	char **ret, struct err *e)
{
	struct err own = {0};
	struct exec x = {.root = root, .labels = labels, .escape = escape, .e = e ? e : &own};
	int r = run_list(&x, t->list, root);

	if (r >= 0)
		r = buf_append(&x.out, "", 1) < 0 ? err_oom(x.e) : 0;
	if (r == 0) {
		*ret = strdup((const char *)buf_data(&x.out));
		r = *ret ? 0 : err_oom(x.e);
	}
	buf_done(&x.out);
	return r;
}

int template_print(const struct template *t, json_t *root, FILE *f, struct err *e)
{
	CLEANUP_FREE char *text = NULL;
	int r = template_text(t, root, NULL, isatty(fileno(f)), &text, e);

	if (r == 0)
		fputs(text, f); /* whether it arrived is checked once, at the end of the command */
	return r;
}

/* ---- what it looks at ---- */

struct survey {
	void (*fn)(void *data, const char *name, bool certain);
	void *data;
	bool whole;
};

static void survey_pipe(struct survey *s, const struct pipe *p, bool at_root);

static void survey_operand(struct survey *s, const struct operand *o, bool at_root, bool is_method)
{
	if (o->kind == OPERAND_PIPE)
		survey_pipe(s, o->pipe, at_root);
	bool is_root = o->kind == OPERAND_VAR && !*o->var;
	if (o->kind != OPERAND_DOT && o->kind != OPERAND_VAR && o->kind != OPERAND_PIPE)
		return;
	if (!o->fields) {
		s->whole |= o->kind == OPERAND_VAR ? is_root : o->kind == OPERAND_DOT && at_root;
	} else {
		bool label = is_method && !o->fields->next;
		if (s->fn)
			s->fn(s->data, o->fields->name,
				!label && (is_root || (o->kind == OPERAND_DOT && at_root)));
	}
}

static void survey_pipe(struct survey *s, const struct pipe *p, bool at_root)
{
	for (const struct command *c = p->commands; c; c = c->next) {
		for (const struct operand *o = c->args; o; o = o->next)
			survey_operand(s, o, at_root, o == c->args && (o->next || c != p->commands));
	}
}

static void survey_list(struct survey *s, const struct node *n, bool at_root)
{
	for (; n; n = n->next) {
		if (n->pipe)
			survey_pipe(s, n->pipe, at_root);
		bool moves = n->kind == NODE_RANGE || n->kind == NODE_WITH;
		survey_list(s, n->list, at_root && !moves);
		survey_list(s, n->else_list, at_root);
	}
}

bool template_fields(
	const struct template *t, void (*fn)(void *data, const char *name, bool certain), void *data)
{
	struct survey s = {.fn = fn, .data = data};

	survey_list(&s, t->list, true);
	return s.whole;
}
