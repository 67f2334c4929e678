/* SPDX-License-Identifier: MIT */
/*
 * One line is one option: "t" and a --tmpfs, "d" and a --device, "s" and a --sysctl, "u" and a --ulimit. What is accepted is
 * safe to hand to the guest; what is not adds nothing and says why.
 */
#include <string.h>

#include "spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(cond) \
	do { \
		if (!(cond)) \
			__builtin_trap(); \
	} while (0)

/* An absolute path below something, which leads nowhere else. */
static void check_path(const char *s, size_t len)
{
	CHECK(len > 1 && s[0] == '/');
	for (size_t i = 0; i < len; i++) {
		size_t n = strcspn(s + i, "/:");
		CHECK(!(n == 1 && s[i] == '.') && !(n == 2 && s[i] == '.' && s[i + 1] == '.'));
		i += n;
	}
}

static void check_tmpfs(const char *s)
{
	size_t n = strcspn(s, ":");

	check_path(s, n);
	CHECK(!s[n] ||
		strspn(s + n + 1, "abcdefghijklmnopqrstuvwxyz_=0123456789kKmMgG%,") == strlen(s + n + 1));
}

static void check_device(const char *s)
{
	size_t from = strcspn(s, ":");
	CHECK(s[from] == ':' && strncmp(s, "/dev/", 5) == 0);
	size_t to = strcspn(s + from + 1, ":");
	const char *mode = s + from + 1 + to;
	check_path(s, from);
	check_path(s + from + 1, to);
	CHECK(mode[0] == ':' && mode[1] && strspn(mode + 1, "rwm") == strlen(mode + 1) && strlen(mode) <= 4);
}

static void check_sysctl(const char *s)
{
	size_t n = strcspn(s, "=");

	CHECK(s[n] == '=' && strcspn(s, "/") >= n && !memmem(s, n, "..", 2));
	CHECK(strncmp(s, "net.", 4) == 0 || strncmp(s, "fs.mqueue.", 10) == 0 ||
		strncmp(s, "kernel.", 7) == 0);
}

static void check_one(const struct box_config *c)
{
	const struct wire_process *p = &c->process;

	CHECK(c->tmpfs.n + c->devices.n + c->sysctls.n + p->n_rlimits == 1);
	if (c->tmpfs.n)
		check_tmpfs(c->tmpfs.v[0]);
	else if (c->devices.n)
		check_device(c->devices.v[0]);
	else if (c->sysctls.n)
		check_sysctl(c->sysctls.v[0]);
	else
		CHECK(p->rlimits[0].resource < 16 && p->rlimits[0].soft <= p->rlimits[0].hard);
}

static void try_one(char kind, const char *value)
{
	char unconfined[] = "seccomp=unconfined", *filter[] = {unconfined}, *values[] = {(char *)value};
	struct run_opts o = {
		.security_opts = {filter, 1}}; /* compiling a filter each time would take all the time */
	struct strv *list = kind == 't'	  ? &o.tmpfs
			    : kind == 'd' ? &o.devices
			    : kind == 's' ? &o.sysctls
					  : &o.ulimits;
	CLEANUP(box_config_done) struct box_config c = {0};
	struct err e = {0};

	*list = (struct strv){values, 1};
	int r = spec_security(&o, &c, &e);
	if (r == 0)
		r = spec_process_limits(&o, &c, &e);
	CHECK(r <= 0);
	if (r == 0)
		check_one(&c);
	else
		CHECK(e.msg[0] && c.tmpfs.n + c.devices.n + c.sysctls.n + c.process.n_rlimits == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *rest = text, *line;

	CHECK(text);
	memcpy(text, data, size);
	text[size] = '\0';
	while ((line = strsep(&rest, "\n"))) {
		if (line[0])
			try_one(line[0], line + 1);
	}
	free(text);
	return 0;
}
