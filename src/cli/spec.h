/* SPDX-License-Identifier: MIT */
/* From run's and create's options, and the image's own configuration, to a box's. */
#ifndef CLI_SPEC_H
#define CLI_SPEC_H

#include "app.h"

struct run_opts {
	bool detach, interactive, tty, rm;
	const char *name, *workdir, *user, *entrypoint, *cpus, *memory, *accel, *pull, *platform, *hostname,
		*stop_signal, *stop_timeout;
	struct strv env, labels, groups;
};
void run_opts_done(struct run_opts *o);

/* Checks everything that needs no image and no host state. 0 or -errno. */
int spec_from_opts(const struct run_opts *o, struct box_config *ret, struct err *e);
/* Adds what the image says and the command line (args[0..n), may be empty). 0 or -errno. */
int spec_add_image(struct box_config *c, const struct run_opts *o, const struct oci_image *image,
	char *const *args, size_t n, struct err *e);
/* "NAME=value" into env; "NAME" alone takes the value from our own environment, or nothing. 0 or -errno. */
int spec_add_env(struct strv *env, const struct strv *given, struct err *e);
/* The --user forms that can be checked before the box exists: not empty parts, no control characters. */
int spec_check_user(const char *user, struct err *e);

#endif
