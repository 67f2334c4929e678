/* SPDX-License-Identifier: MIT */
/* port: no port can be published yet, so there is none to show; as in Docker, that is no error unless one was named. */
#include <string.h>

#include "app.h"
#include "base/units.h"

/* "80", "80/tcp" */
static int check_port(const char *s, struct err *e)
{
	const char *slash = strchr(s, '/');
	CLEANUP_FREE char *number = strndup(s, slash ? (size_t)(slash - s) : strlen(s));
	uint64_t port;

	if (!number)
		return err_oom(e);
	if (parse_u64(number, 65535, &port) < 0 || port == 0 ||
		(slash && strcmp(slash, "/tcp") != 0 && strcmp(slash, "/udp") != 0))
		return err_set(e, -EINVAL, "%s: expected a port like 80 or 80/udp", s);
	return 0;
}

int cmd_port(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(app_close) struct app a = {0};
	CLEANUP(box_freep) struct box *b = NULL;
	struct opt opts[] = {{0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && (argc < 2 || argc > 3))
		return app_usage(c, "a box is needed, and perhaps a port");
	if (r == 0 && argc == 3)
		r = check_port(argv[2], &e);
	if (r == 0)
		r = app_open(&a, false, &e);
	if (r == 0)
		r = box_find(a.st, argv[1], &b, &e);
	if (r == 0 && argc == 3)
		r = err_set(&e, -ENOENT, "no public port '%s' published for %s", argv[2], b->name);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}
