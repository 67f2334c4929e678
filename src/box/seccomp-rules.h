/* SPDX-License-Identifier: MIT */
/* Between the reader of profiles (seccomp.c) and the writer of programs (seccomp-bpf.c); private to this room. */
#ifndef BOX_SECCOMP_RULES_H
#define BOX_SECCOMP_RULES_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define SECCOMP_ARGS 6

enum seccomp_op { OP_NE, OP_LT, OP_LE, OP_EQ, OP_GE, OP_GT, OP_MASKED_EQ };

/* All of the argument's 64 bits are compared. OP_MASKED_EQ: (argument & value) == masked. */
struct seccomp_cond {
	unsigned arg;
	enum seccomp_op op;
	uint64_t value, masked;
};

/* What becomes of system call nr if all its conditions (none: always) hold. */
struct seccomp_rule {
	uint32_t nr, action;
	uint32_t order; /* place in the profile */
	unsigned n_conds;
	size_t conds; /* index of the first in the program's */
};

struct seccomp_arch {
	uint32_t token; /* AUDIT_ARCH_* */
	struct seccomp_rule *rules;
	size_t n;
};

struct seccomp_rules {
	uint32_t default_action;
	struct seccomp_arch archs[2]; /* the native one, and its 32-bit sibling if allowed (else token 0) */
	struct seccomp_cond *conds;
	size_t n_conds;
};

/* Writes the program; rules are sorted in place. As box_seccomp_compile. */
int seccomp_assemble(struct seccomp_rules *r, uint8_t **ret, size_t *ret_len, struct err *e);

#endif
