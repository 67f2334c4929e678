/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * A program is first a choice by architecture, then a binary search among the numbers of system calls: ranges of numbers
 * that share a fate are leaves, a call whose arguments matter is a leaf of several instructions. A search of nine steps
 * matters when a filter is installed rather than when it runs: the kernel tries every number once, to know which need no
 * filter at all (seccomp_cache_prepare of Linux).
 *
 * Jumps of BPF only go forward, so the program is written from its end to its beginning: what is jumped to is always
 * there already, and its distance is known. An offset has eight bits; farther goes a jump through an unconditional one.
 */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <string.h>

#include "seccomp-rules.h"

#define X32_BIT	     0x40000000u /* numbers of x86-64's third ABI, which the guest's kernel does not have */
#define NEAR_MAX     254	 /* jump offset, less the one instruction that may still come between */
#define RETURN_REACH 200	 /* how far back an equal return is looked for */

struct program {
	struct sock_filter v[BPF_MAXINSNS];
	size_t at; /* the first instruction so far */
	bool overflow;
};

/* A range of numbers up to the next one's. n_rules 0: action is its fate. */
struct range {
	uint32_t from, action;
	const struct seccomp_rule *rules;
	size_t n_rules;
};

static size_t emit(struct program *p, uint16_t code, uint8_t jt, uint8_t jf, uint32_t k)
{
	if (p->at == 0) {
		p->overflow = true;
		return 0;
	}
	p->v[--p->at] = (struct sock_filter){code, jt, jf, k};
	return p->at;
}

static size_t emit_return(struct program *p, uint32_t action)
{
	for (size_t i = p->at; i < BPF_MAXINSNS && i < p->at + RETURN_REACH; i++) {
		if (p->v[i].code == (BPF_RET | BPF_K) && p->v[i].k == action)
			return i;
	}
	return emit(p, BPF_RET | BPF_K, 0, 0, action);
}

static size_t bring_near(struct program *p, size_t target)
{
	if (target - p->at <= NEAR_MAX)
		return target;
	return emit(p, BPF_JMP | BPF_JA, 0, 0, (uint32_t)(target - p->at));
}

static size_t emit_jump(struct program *p, uint16_t test, uint32_t k, size_t yes, size_t no)
{
	yes = bring_near(p, yes);
	no = bring_near(p, no);
	return emit(p, BPF_JMP | BPF_K | test, (uint8_t)(yes - p->at), (uint8_t)(no - p->at), k);
}

static size_t emit_load(struct program *p, size_t offset)
{
	return emit(p, BPF_LD | BPF_W | BPF_ABS, 0, 0, (uint32_t)offset);
}

/* Loads half an argument, masked if that is asked for. */
static size_t emit_load_arg(struct program *p, const struct seccomp_cond *c, bool high)
{
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the halves of an argument are the other way round"
#endif
	if (c->op == OP_MASKED_EQ)
		emit(p, BPF_ALU | BPF_AND | BPF_K, 0, 0, (uint32_t)(high ? c->value >> 32 : c->value));
	return emit_load(p, offsetof(struct seccomp_data, args) + 8 * c->arg + (high ? 4 : 0));
}

static size_t emit_equal(struct program *p, const struct seccomp_cond *c, size_t yes, size_t no)
{
	uint64_t value = c->op == OP_MASKED_EQ ? c->masked : c->value;

	emit_jump(p, BPF_JEQ, (uint32_t)value, yes, no);
	size_t low = emit_load_arg(p, c, false);
	emit_jump(p, BPF_JEQ, (uint32_t)(value >> 32), low, no);
	return emit_load_arg(p, c, true);
}

/* low_test decides between high halves that are equal: BPF_JGT or BPF_JGE. */
static size_t emit_greater(
	struct program *p, const struct seccomp_cond *c, uint16_t low_test, size_t yes, size_t no)
{
	uint32_t high = (uint32_t)(c->value >> 32);

	emit_jump(p, low_test, (uint32_t)c->value, yes, no);
	size_t low = emit_load_arg(p, c, false);
	size_t equal = emit_jump(p, BPF_JEQ, high, low, no);
	emit_jump(p, BPF_JGT, high, yes, equal);
	return emit_load_arg(p, c, true);
}

static size_t emit_cond(struct program *p, const struct seccomp_cond *c, size_t yes, size_t no)
{
	switch (c->op) {
	case OP_EQ:
	case OP_MASKED_EQ:
		return emit_equal(p, c, yes, no);
	case OP_NE:
		return emit_equal(p, c, no, yes);
	case OP_GT:
		return emit_greater(p, c, BPF_JGT, yes, no);
	case OP_GE:
		return emit_greater(p, c, BPF_JGE, yes, no);
	case OP_LE:
		return emit_greater(p, c, BPF_JGT, no, yes);
	case OP_LT:
		return emit_greater(p, c, BPF_JGE, no, yes);
	}
	return no;
}

static size_t emit_leaf(struct program *p, const struct seccomp_rules *r, const struct range *g)
{
	size_t next = emit_return(p, g->action);

	for (size_t i = g->n_rules; i > 0; i--) {
		const struct seccomp_rule *rule = &g->rules[i - 1];
		if (rule->n_conds == 0)
			continue; /* it is g->action */
		size_t pos = emit_return(p, rule->action);
		for (unsigned c = rule->n_conds; c > 0; c--)
			pos = emit_cond(p, &r->conds[rule->conds + c - 1], pos, next);
		next = pos;
	}
	return next;
}

static size_t emit_search(struct program *p, const struct seccomp_rules *r, const struct range *g, size_t n)
{
	if (n == 1)
		return emit_leaf(p, r, g);
	size_t above = emit_search(p, r, g + n / 2, n - n / 2);
	size_t below = emit_search(p, r, g, n / 2);
	return emit_jump(p, BPF_JGE, g[n / 2].from, above, below);
}

static int by_number(const void *a, const void *b)
{
	const struct seccomp_rule *x = a, *y = b;

	if (x->nr != y->nr)
		return x->nr < y->nr ? -1 : 1;
	return x->order < y->order ? -1 : x->order > y->order;
}

static void add_range(struct range *g, size_t *n, struct range next)
{
	struct range *last = *n ? &g[*n - 1] : NULL;

	if (last && last->from == next.from) { /* nothing lies between */
		--*n;
		last = *n ? last - 1 : NULL;
	}
	if (!last || last->n_rules || next.n_rules || last->action != next.action)
		g[(*n)++] = next;
}

/* What is newer than the whole profile is not there, rather than forbidden; see box/seccomp.h. */
static uint32_t action_beyond(uint32_t default_action)
{
	return default_action == SECCOMP_RET_ALLOW || default_action == SECCOMP_RET_LOG
		       ? default_action
		       : SECCOMP_RET_ERRNO | ENOSYS;
}

static size_t make_ranges(const struct seccomp_rules *r, struct seccomp_arch *a, struct range *g)
{
	size_t n = 0, end;

	if (a->n)
		qsort(a->rules, a->n, sizeof(*a->rules), by_number);
	add_range(g, &n, (struct range){.action = r->default_action});
	for (size_t i = 0; i < a->n; i = end) {
		struct range one = {.from = a->rules[i].nr, .action = r->default_action};
		bool conds = false, decided = false;
		for (end = i; end < a->n && a->rules[end].nr == one.from; end++) {
			conds |= a->rules[end].n_conds > 0;
			if (a->rules[end].n_conds == 0 && !decided) {
				one.action = a->rules[end].action;
				decided = true;
			}
		}
		if (conds) {
			one.rules = &a->rules[i];
			one.n_rules = end - i;
		}
		add_range(g, &n, one);
		add_range(g, &n,
			(struct range){.from = one.from + 1,
				.action = end < a->n ? r->default_action : action_beyond(r->default_action)});
	}
	return n;
}

/* Everything for one architecture; begins by loading the number. */
static size_t emit_arch(struct program *p, const struct seccomp_rules *r, struct seccomp_arch *a)
{
	struct range *g = calloc(2 * a->n + 1, sizeof(*g));

	if (!g)
		return SIZE_MAX;
	size_t pos = emit_search(p, r, g, make_ranges(r, a, g));
	if (a->token == AUDIT_ARCH_X86_64)
		emit_jump(p, BPF_JGE, X32_BIT, emit_return(p, SECCOMP_RET_ERRNO | ENOSYS), pos);
	else if (pos != p->at)
		emit(p, BPF_JMP | BPF_JA, 0, 0, (uint32_t)(pos - p->at));
	pos = emit_load(p, offsetof(struct seccomp_data, nr));
	free(g);
	return pos;
}

int seccomp_assemble(struct seccomp_rules *r, uint8_t **ret, size_t *ret_len, struct err *e)
{
	CLEANUP_FREE struct program *p = malloc(sizeof(*p));

	if (!p)
		return err_oom(e);
	p->at = BPF_MAXINSNS;
	p->overflow = false;
	size_t no = emit_return(p, SECCOMP_RET_KILL_PROCESS);
	for (size_t i = ARRAY_LEN(r->archs); i > 0; i--) {
		struct seccomp_arch *a = &r->archs[i - 1];
		if (!a->token)
			continue;
		size_t pos = emit_arch(p, r, a);
		if (pos == SIZE_MAX)
			return err_oom(e);
		no = emit_jump(p, BPF_JEQ, a->token, pos, no);
	}
	emit_load(p, offsetof(struct seccomp_data, arch));
	if (p->overflow)
		return err_set(e, -E2BIG, "its filter would have more than %d instructions", BPF_MAXINSNS);
	*ret_len = (BPF_MAXINSNS - p->at) * sizeof(p->v[0]);
	*ret = malloc(*ret_len);
	if (!*ret)
		return err_oom(e);
	memcpy(*ret, p->v + p->at, *ret_len);
	return 0;
}
