/* SPDX-License-Identifier: MIT */
/*
 * One line is one option: "m" and a --mount, anything else a -v. What is accepted adds one mount with a clean target that no
 * other has; what is not adds none and says why.
 */
#include <string.h>

#include "spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(cond) \
	do { \
		if (!(cond)) \
			__builtin_trap(); \
	} while (0)

static void check_target(const char *s)
{
	CHECK(s[0] == '/' && s[1] && s[strlen(s) - 1] != '/' && !strstr(s, "//") && !strstr(s, "/./"));
	CHECK(!strstr(s, "/../") && strncmp(s, "/proc/", 6) != 0 && strcmp(s, "/proc") != 0);
	CHECK(strlen(s) < 3 || strcmp(s + strlen(s) - 3, "/..") != 0);
}

static void check(const struct box_config *c)
{
	for (size_t i = 0; i < c->n_mounts; i++) {
		const struct box_mount *m = &c->mounts[i];
		check_target(m->target);
		CHECK(m->type == BOX_MOUNT_VOLUME ? m->anonymous == !m->source
						  : m->source && m->source[0] == '/');
		CHECK(!m->subpath || (m->subpath[0] && m->subpath[0] != '/' && !strstr(m->subpath, "/../")));
		for (size_t k = 0; k < i; k++)
			CHECK(strcmp(m->target, c->mounts[k].target) != 0);
	}
	CHECK(c->n_mounts <= BOX_MOUNTS_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct box_config c = {0};
	char *text = malloc(size + 1), *rest = text, *line;
	struct err e = {0};

	CHECK(text);
	memcpy(text, data, size);
	text[size] = '\0';
	while ((line = strsep(&rest, "\n"))) {
		size_t before = c.n_mounts + c.tmpfs.n;
		int r = line[0] == 'm' ? spec_add_mount(line + 1, &c, &e) : spec_add_volume(line, &c, &e);
		CHECK(r <= 0 && c.n_mounts + c.tmpfs.n == before + (r == 0));
		CHECK(r == 0 || e.msg[0]);
	}
	check(&c);
	box_config_done(&c);
	free(text);
	return 0;
}
