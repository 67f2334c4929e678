/* SPDX-License-Identifier: MIT */
/*
 * Parser of templates: recursive descent without a separate lexer, over the text itself.
 *
 *     list    = { text | action }
 *     action  = "{{" [ "- " ] ( comment | "if" pipe | "range" pipe | "with" pipe | "else" … | "end" | "break" |
 *               "continue" | pipe ) [ " -" ] "}}"
 *     pipe    = [ var [ "," var ] ( ":=" | "=" ) ] command { "|" command }
 *     command = operand { operand }
 *     operand = ( "." | "$name" | literal | function | "(" pipe ")" ) { "." field }
 */
#include <ctype.h>
#include <stddef.h>
#include <string.h>

#include "template-tree.h"

struct pool_block {
	struct pool_block *next;
	max_align_t data[];
};

enum end { END_TEXT, END_END, END_ELSE }; /* what ended a list */

struct parser {
	struct template *t;
	const char *text, *pos;
	bool trim; /* the action before asked for the blanks that follow to go */
	unsigned depth, loops;
	const char *vars[TEMPLATE_VARS_MAX];
	size_t n_vars;
	struct err *e;
};

static int parse_list(struct parser *p, struct node **ret, enum end *ret_end);
static int parse_pipe(struct parser *p, struct pipe **ret);

static void *take(struct parser *p, size_t size)
{
	struct pool_block *b = calloc(1, sizeof(*b) + size);
	if (!b)
		return NULL;
	b->next = p->t->pool;
	p->t->pool = b;
	return b->data;
}

static const char *take_text(struct parser *p, const char *s, size_t n)
{
	char *copy = take(p, n + 1);
	if (copy)
		memcpy(copy, s, n);
	return copy;
}

/* The place is where the parser stands. */
static int fail(struct parser *p, const char *what)
{
	char near[24];
	size_t n = 0;

	while (n < sizeof(near) - 1 && p->pos[n] && p->pos[n] != '\n')
		n++;
	memcpy(near, p->pos, n);
	near[n] = '\0';
	return err_set(p->e, -EINVAL, "template, character %zu: %s%s%s%s", (size_t)(p->pos - p->text) + 1,
		what, n ? ": \"" : ": at the end", near, n ? "\"" : "");
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void skip_blanks(struct parser *p)
{
	while (is_blank(*p->pos))
		p->pos++;
}

static bool is_word(char c)
{
	/* Go allows letters of any script: all bytes of UTF-8 sequences are taken for such. */
	return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

static size_t word_len(const char *s)
{
	size_t n = 0;
	while (is_word(s[n]))
		n++;
	return n;
}

/* At "}}" or " -}}". */
static bool at_close(const struct parser *p)
{
	return strncmp(p->pos, "}}", 2) == 0 ||
	       (strncmp(p->pos, "-}}", 3) == 0 && p->pos > p->text && is_blank(p->pos[-1]));
}

static int close_action(struct parser *p)
{
	skip_blanks(p);
	if (!at_close(p))
		return fail(p, *p->pos ? "unexpected" : "unclosed action");
	p->trim = *p->pos == '-';
	p->pos += p->trim ? 3 : 2;
	return 0;
}

/* ---- literals ---- */

static int keep(struct parser *p, json_t *value, struct operand *o)
{
	if (!value || json_array_append_new(p->t->literals, value) < 0)
		return err_oom(p->e);
	o->kind = OPERAND_LITERAL;
	o->literal = value;
	return 0;
}

/* One character behind a backslash; p->pos is behind it on return. quote: the one that may be escaped. */
static int parse_escape(struct parser *p, char quote, uint32_t *ret)
{
	static const char plain[] = "abfnrtv\\", values[] = "\a\b\f\n\r\t\v\\";
	char c = *p->pos;
	const char *found = c ? strchr(plain, c) : NULL;

	if (found || c == quote) {
		*ret = found ? (uint32_t)values[found - plain] : (uint32_t)quote;
		p->pos++;
		return 0;
	}
	int digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
	uint32_t v = 0;
	for (int i = 1; i <= digits; i++) {
		if (!isxdigit((unsigned char)p->pos[i]))
			return fail(p, "invalid escape");
		char d = (char)tolower((unsigned char)p->pos[i]);
		v = v << 4 | (uint32_t)(d <= '9' ? d - '0' : d - 'a' + 10);
	}
	/* JSON strings hold no NUL here, and no surrogates anywhere. */
	if (!digits || v == 0 || v > 0x10ffff || (v >= 0xd800 && v < 0xe000))
		return fail(p, "invalid escape");
	p->pos += digits + 1;
	*ret = v;
	return 0;
}

static int parse_quoted(struct parser *p, struct operand *o)
{
	CLEANUP(buf_done) struct buf b = {0};
	char quote = *p->pos++;
	int r = 0;

	while (r == 0 && *p->pos != quote) {
		uint32_t cp;
		char out[4];
		if (!*p->pos || (*p->pos == '\n' && quote == '"'))
			return fail(p, "unterminated string");
		if (*p->pos == '\\' && quote == '"') {
			p->pos++;
			r = parse_escape(p, quote, &cp);
			if (r == 0 && buf_append(&b, out, utf8_encode(out, cp)) < 0)
				r = err_oom(p->e);
		} else if (buf_append(&b, p->pos++, 1) < 0) {
			r = err_oom(p->e);
		}
	}
	if (r < 0)
		return r;
	p->pos++;
	json_t *v = json_stringn(b.len ? (const char *)buf_data(&b) : "", b.len);
	return v ? keep(p, v, o) : fail(p, "text that is not UTF-8 before");
}

/* 'c': a number, as in Go. */
static int parse_rune(struct parser *p, struct operand *o)
{
	uint32_t cp;

	p->pos++;
	if (*p->pos == '\\') {
		p->pos++;
		int r = parse_escape(p, '\'', &cp);
		if (r < 0)
			return r;
	} else {
		size_t n = text_utf8_len((const uint8_t *)p->pos, strlen(p->pos) + 1, &cp);
		if (!*p->pos || !n)
			return fail(p, "invalid character constant");
		p->pos += n;
	}
	if (*p->pos != '\'')
		return fail(p, "unterminated character constant");
	p->pos++;
	return keep(p, json_integer(cp), o);
}

static int parse_number(struct parser *p, struct operand *o)
{
	const char *s = p->pos, *first = s + (*s == '-' || *s == '+');
	char *end = NULL, *real_end = NULL;
	int base = strncmp(first, "0x", 2) == 0 ? 16 : 10;

	if (!isdigit((unsigned char)first[*first == '.']))
		return fail(p, "invalid number");

	errno = 0;
	long long i = strtoll(s, &end, base);
	bool fits = errno == 0;
	errno = 0;
	double d = strtod(s, &real_end);
	if (real_end > end && errno == 0 && base == 10) {
		p->pos = real_end;
		if (!is_word(*p->pos))
			return keep(p, json_real(d), o);
	} else if (end > s && fits) {
		p->pos = end;
		if (!is_word(*p->pos))
			return keep(p, json_integer(i), o);
	}
	return fail(p, "invalid number");
}

/* ---- operands ---- */

static int add_fields(struct parser *p, struct operand *o)
{
	struct field **tail = &o->fields;

	while (*p->pos == '.') {
		size_t n = word_len(p->pos + 1);
		if (n == 0)
			return fail(p, "unexpected");
		struct field *f = take(p, sizeof(*f));
		if (!f || !(f->name = take_text(p, p->pos + 1, n)))
			return err_oom(p->e);
		*tail = f;
		tail = &f->next;
		p->pos += n + 1;
	}
	return 0;
}

static int parse_dot(struct parser *p, struct operand *o)
{
	o->kind = OPERAND_DOT;
	if (word_len(p->pos + 1))
		return add_fields(p, o);
	p->pos++;
	return 0;
}

static bool is_declared(const struct parser *p, const char *name, size_t n)
{
	for (size_t i = 0; i < p->n_vars; i++) {
		if (strlen(p->vars[i]) == n && strncmp(p->vars[i], name, n) == 0)
			return true;
	}
	return n == 0; /* $: the root */
}

static int parse_var(struct parser *p, struct operand *o)
{
	size_t n = word_len(p->pos + 1);

	if (!is_declared(p, p->pos + 1, n))
		return fail(p, "undefined variable");
	o->kind = OPERAND_VAR;
	o->var = take_text(p, p->pos + 1, n);
	p->pos += n + 1;
	return o->var ? add_fields(p, o) : err_oom(p->e);
}

static int parse_word(struct parser *p, struct operand *o)
{
	static const struct {
		const char *word;
		json_t *(*make)(void);
	} constants[] = {{"true", json_true}, {"false", json_false}, {"nil", json_null}};
	size_t n = word_len(p->pos);

	for (size_t i = 0; i < ARRAY_LEN(constants); i++) {
		if (strlen(constants[i].word) == n && strncmp(p->pos, constants[i].word, n) == 0) {
			p->pos += n;
			return keep(p, constants[i].make(), o);
		}
	}
	o->kind = OPERAND_FUNC;
	o->func = template_func(p->pos, n);
	if (!o->func)
		return fail(p, "no such function");
	p->pos += n;
	return 0;
}

static int parse_parentheses(struct parser *p, struct operand *o)
{
	if (++p->depth > TEMPLATE_DEPTH_MAX)
		return fail(p, "nested too deeply");
	p->pos++;
	o->kind = OPERAND_PIPE;
	int r = parse_pipe(p, &o->pipe);
	if (r < 0)
		return r;
	skip_blanks(p);
	if (*p->pos != ')')
		return fail(p, "\")\" expected");
	p->pos++;
	p->depth--;
	return add_fields(p, o);
}

static int parse_operand(struct parser *p, struct operand **ret)
{
	struct operand *o = take(p, sizeof(*o));
	char c = *p->pos;
	int r;

	if (!o)
		return err_oom(p->e);
	if (c == '.' && !isdigit((unsigned char)p->pos[1]))
		r = parse_dot(p, o);
	else if (c == '$')
		r = parse_var(p, o);
	else if (c == '(')
		r = parse_parentheses(p, o);
	else if (c == '"' || c == '`')
		r = parse_quoted(p, o);
	else if (c == '\'')
		r = parse_rune(p, o);
	else if (isdigit((unsigned char)c) || ((c == '-' || c == '+' || c == '.') && p->pos[1]))
		r = parse_number(p, o);
	else if (is_word(c))
		r = parse_word(p, o);
	else
		r = fail(p, c ? "unexpected" : "unclosed action");
	*ret = o;
	return r;
}

/* ---- commands and pipelines ---- */

static bool at_command_end(const struct parser *p)
{
	return at_close(p) || *p->pos == '|' || *p->pos == ')' || !*p->pos;
}

/* .Label is the only method: it takes a name. */
static bool is_method(const struct operand *o)
{
	const struct field *f = o->fields;

	while (f && f->next)
		f = f->next;
	return f && o->kind != OPERAND_LITERAL && strcmp(f->name, "Label") == 0;
}

static int check_command(struct parser *p, const struct command *c, bool piped)
{
	const struct operand *first = c->args;
	size_t n = c->n_args - 1 + piped;

	for (const struct operand *o = first->next; o; o = o->next) {
		if (o->kind == OPERAND_FUNC && o->func->min_args)
			return fail(p, "a function that is an argument needs parentheses, before");
	}
	if (first->kind != OPERAND_FUNC)
		return n == 0 || (n == 1 && is_method(first))
			       ? 0
			       : fail(p, "what takes arguments is no function, before");
	if (n >= first->func->min_args && n <= first->func->max_args)
		return 0;
	char what[96];
	snprintf(what, sizeof(what), "wrong number of arguments for %s, before", first->func->name);
	return fail(p, what);
}

static int parse_command(struct parser *p, bool piped, struct command **ret)
{
	struct command *c = take(p, sizeof(*c));

	if (!c)
		return err_oom(p->e);
	struct operand **tail = &c->args;
	skip_blanks(p);
	while (!at_command_end(p)) {
		int r = parse_operand(p, tail);
		if (r < 0)
			return r;
		tail = &(*tail)->next;
		c->n_args++;
		if (!is_blank(*p->pos) && !at_command_end(p))
			return fail(p, "unexpected");
		skip_blanks(p);
	}
	if (!c->args)
		return fail(p, "a value is missing");
	*ret = c;
	return check_command(p, c, piped);
}

/* "$a, $b :=" in front of a pipeline, if there is one. Variables are declared once the pipeline is parsed. */
static int parse_declaration(struct parser *p, struct pipe *pipe)
{
	const char *start = p->pos;

	while (*p->pos == '$' && pipe->n_vars < ARRAY_LEN(pipe->vars)) {
		size_t n = word_len(p->pos + 1);
		pipe->vars[pipe->n_vars] = take_text(p, p->pos + 1, n);
		if (!pipe->vars[pipe->n_vars++])
			return err_oom(p->e);
		p->pos += n + 1;
		skip_blanks(p);
		if (*p->pos != ',')
			break;
		p->pos++;
		skip_blanks(p);
	}
	bool declare = strncmp(p->pos, ":=", 2) == 0;
	if (pipe->n_vars && (declare || *p->pos == '=')) {
		pipe->assign = !declare;
		p->pos += declare ? 2 : 1;
		for (size_t i = 0; i < pipe->n_vars; i++) {
			const char *name = pipe->vars[i];
			if (!*name)
				return fail(p, "$ cannot be set, before");
			if (pipe->assign && !is_declared(p, name, strlen(name)))
				return fail(p, "undefined variable, before");
		}
		return 0;
	}
	pipe->n_vars = 0;
	p->pos = start;
	return 0;
}

static int parse_pipe(struct parser *p, struct pipe **ret)
{
	struct pipe *pipe = take(p, sizeof(*pipe));

	if (!pipe)
		return err_oom(p->e);
	skip_blanks(p);
	int r = parse_declaration(p, pipe);
	struct command **tail = &pipe->commands;
	bool more = true;
	while (r == 0 && more) {
		r = parse_command(p, pipe->commands != NULL, tail);
		more = r == 0 && *p->pos == '|';
		if (r == 0)
			tail = &(*tail)->next;
		p->pos += more;
	}
	for (size_t i = 0; r == 0 && !pipe->assign && i < pipe->n_vars; i++) {
		if (p->n_vars == TEMPLATE_VARS_MAX)
			return fail(p, "too many variables");
		p->vars[p->n_vars++] = pipe->vars[i];
	}
	*ret = pipe;
	return r;
}

/* ---- actions ---- */

/* Whether the keyword is next; then the parser stands behind it. */
static bool keyword(struct parser *p, const char *word)
{
	size_t n = word_len(p->pos);

	if (n != strlen(word) || strncmp(p->pos, word, n) != 0)
		return false;
	p->pos += n;
	skip_blanks(p);
	return true;
}

static int parse_block(struct parser *p, struct node *n);

/* Behind "else": "}}", or "if" or "with" again, which is a block in the else part that shares this one's end. */
static int parse_else(struct parser *p, struct node *n)
{
	enum end end;

	if ((n->kind == NODE_IF && keyword(p, "if")) || (n->kind == NODE_WITH && keyword(p, "with"))) {
		n->else_list = take(p, sizeof(*n));
		if (!n->else_list)
			return err_oom(p->e);
		n->else_list->kind = n->kind;
		return parse_block(p, n->else_list);
	}
	int r = close_action(p);
	if (r == 0)
		r = parse_list(p, &n->else_list, &end);
	if (r == 0 && end != END_END)
		r = fail(p, end == END_ELSE ? "a second else, before" : "{{end}} is missing");
	return r;
}

/* From behind "if", "range" or "with" to behind its "{{end}}". */
static int parse_block(struct parser *p, struct node *n)
{
	size_t vars = p->n_vars;
	enum end end = END_TEXT;

	if (++p->depth > TEMPLATE_DEPTH_MAX)
		return fail(p, "nested too deeply");
	int r = parse_pipe(p, &n->pipe);
	if (r == 0 && n->pipe->n_vars == 2 && n->kind != NODE_RANGE)
		r = fail(p, "two variables are for range only, before");
	if (r == 0)
		r = close_action(p);
	p->loops += n->kind == NODE_RANGE;
	if (r == 0)
		r = parse_list(p, &n->list, &end);
	p->loops -= n->kind == NODE_RANGE;
	if (r == 0 && end == END_ELSE)
		r = parse_else(p, n);
	else if (r == 0 && end == END_TEXT)
		r = fail(p, "{{end}} is missing");
	p->depth--;
	p->n_vars = vars;
	return r;
}

static int parse_comment(struct parser *p)
{
	const char *end = strstr(p->pos + 2, "*/");

	if (!end)
		return fail(p, "unclosed comment");
	p->pos = end + 2;
	return close_action(p);
}

static int parse_jump(struct parser *p, struct node *n, enum node_kind kind)
{
	n->kind = kind;
	return p->loops ? close_action(p) : fail(p, "break and continue belong into range, before");
}

static int parse_print(struct parser *p, struct node *n)
{
	static const char *const others[] = {"template", "define", "block"};
	size_t len = word_len(p->pos);

	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		if (len == strlen(others[i]) && strncmp(p->pos, others[i], len) == 0)
			return fail(p, "not supported here");
	}
	n->kind = NODE_PRINT;
	int r = parse_pipe(p, &n->pipe);
	if (r == 0 && n->pipe->n_vars == 2)
		r = fail(p, "two variables are for range only, before");
	return r < 0 ? r : close_action(p);
}

/* Behind "{{". *ret_end says whether it ended the list; else *n is filled, as an empty text for a comment. */
static int parse_action(struct parser *p, struct node *n, enum end *ret_end)
{
	static const struct {
		const char *word;
		enum node_kind kind;
	} blocks[] = {{"if", NODE_IF}, {"range", NODE_RANGE}, {"with", NODE_WITH}};

	if (p->pos[0] == '-' && is_blank(p->pos[1]))
		p->pos++; /* the text before has been trimmed */
	skip_blanks(p);
	if (strncmp(p->pos, "/*", 2) == 0)
		return parse_comment(p);
	for (size_t i = 0; i < ARRAY_LEN(blocks); i++) {
		if (keyword(p, blocks[i].word)) {
			n->kind = blocks[i].kind;
			return parse_block(p, n);
		}
	}
	if (keyword(p, "break"))
		return parse_jump(p, n, NODE_BREAK);
	if (keyword(p, "continue"))
		return parse_jump(p, n, NODE_CONTINUE);
	if (keyword(p, "end")) {
		*ret_end = END_END;
		return close_action(p);
	}
	if (keyword(p, "else")) {
		*ret_end = END_ELSE; /* parse_else goes on from here */
		return 0;
	}
	return parse_print(p, n);
}

/* Text up to the next action or the end, trimmed as the actions around it ask. */
static int parse_text(struct parser *p, struct node *n)
{
	const char *start = p->pos, *open = strstr(start, "{{");
	const char *end = open ? open : start + strlen(start);

	p->pos = open ? open + 2 : end;
	if (p->trim) {
		while (start < end && is_blank(*start))
			start++;
	}
	p->trim = false;
	if (open && open[2] == '-' && is_blank(open[3])) {
		while (end > start && is_blank(end[-1]))
			end--;
	}
	n->kind = NODE_TEXT;
	n->len = (size_t)(end - start);
	n->text = take_text(p, start, n->len);
	return n->text ? open != NULL : err_oom(p->e);
}

static int parse_list(struct parser *p, struct node **ret, enum end *ret_end)
{
	struct node **tail = ret;
	size_t vars = p->n_vars;
	const char *end_of_else = NULL;

	*ret_end = END_TEXT;
	for (;;) {
		struct node *text = take(p, sizeof(*text)), *action = take(p, sizeof(*action));
		enum end end = END_TEXT;
		if (!text || !action)
			return err_oom(p->e);
		int r = parse_text(p, text);
		if (r < 0)
			return r;
		if (text->len) {
			*tail = text;
			tail = &text->next;
		}
		if (r == 0)
			break;
		end_of_else = p->pos;
		r = parse_action(p, action, &end);
		if (r < 0)
			return r;
		if (end != END_TEXT) {
			*ret_end = end;
			break;
		}
		if (action->kind != NODE_TEXT) {
			*tail = action;
			tail = &action->next;
		}
	}
	p->n_vars = vars;
	if (*ret_end != END_TEXT && p->depth == 0) {
		p->pos = end_of_else;
		return fail(p, "without a block");
	}
	return 0;
}

int template_parse(const char *text, struct template **ret, struct err *e)
{
	CLEANUP(template_freep) struct template *t = calloc(1, sizeof(*t));
	struct parser p = {.t = t, .text = text, .pos = text, .e = e};
	enum end end;

	if (!t || !(t->literals = json_array()))
		return err_oom(e);
	if (strlen(text) > TEMPLATE_TEXT_MAX)
		return err_set(e, -EINVAL, "template: longer than %d bytes", TEMPLATE_TEXT_MAX);
	int r = parse_list(&p, &t->list, &end);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(t);
	return 0;
}

void template_free(struct template *t)
{
	if (!t)
		return;
	while (t->pool) {
		struct pool_block *next = t->pool->next;
		free(t->pool);
		t->pool = next;
	}
	json_decref(t->literals);
	free(t);
}
