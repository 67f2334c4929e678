/* SPDX-License-Identifier: MIT */
/* Classic BPF as seccomp(2) allows it: checked as the kernel does, and run. For tests. */
#ifndef BOX_TEST_SECCOMP_RUN_H
#define BOX_TEST_SECCOMP_RUN_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <string.h>

/* What bpf_check_classic and seccomp_check_filter of Linux ask for, of the instructions that we use. */
static inline bool filter_valid(const struct sock_filter *f, size_t n)
{
	if (n == 0 || n > BPF_MAXINSNS || f[n - 1].code != (BPF_RET | BPF_K))
		return false;
	for (size_t i = 0; i < n; i++) {
		size_t left = n - i - 1;
		switch (f[i].code) {
		case BPF_LD | BPF_W | BPF_ABS:
			if (f[i].k % 4 || f[i].k >= sizeof(struct seccomp_data))
				return false;
			break;
		case BPF_JMP | BPF_JA:
			if (f[i].k >= left)
				return false;
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
		case BPF_JMP | BPF_JGT | BPF_K:
		case BPF_JMP | BPF_JGE | BPF_K:
			if (f[i].jt >= left || f[i].jf >= left)
				return false;
			break;
		case BPF_ALU | BPF_AND | BPF_K:
		case BPF_RET | BPF_K:
			break;
		default:
			return false;
		}
	}
	return true;
}

/* The program's answer; it must be valid. */
static inline uint32_t filter_run(const struct sock_filter *f, const struct seccomp_data *d, unsigned *steps)
{
	uint32_t a = 0;

	for (size_t i = 0;; i++) {
		++*steps;
		switch (f[i].code) {
		case BPF_LD | BPF_W | BPF_ABS:
			memcpy(&a, (const char *)d + f[i].k, 4);
			break;
		case BPF_JMP | BPF_JA:
			i += f[i].k;
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
			i += a == f[i].k ? f[i].jt : f[i].jf;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			i += a > f[i].k ? f[i].jt : f[i].jf;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			i += a >= f[i].k ? f[i].jt : f[i].jf;
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= f[i].k;
			break;
		default:
			return f[i].k;
		}
	}
}

#endif
