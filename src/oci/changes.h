/* SPDX-License-Identifier: MIT */
/* Changes to an image's configuration (image-spec config.md), as import and commit take them. */
#ifndef OCI_CHANGES_H
#define OCI_CHANGES_H

#include <jansson.h>

#include "base/err.h"
#include "wire/wire.h" /* struct strv */

/*
 * One Dockerfile instruction: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME,
 * WORKDIR, in shell or JSON form, with quotes and with variables of the configuration's own Env, as in Docker; several
 * if the text has several lines. "CMD=…" is taken as podman takes it. config: the image configuration's "config" object,
 * of whose members nothing is believed. On failure it may be changed in part.
 */
int oci_config_change(json_t *config, const char *instruction, struct err *e);
/*
 * Several in turn. A new entry point clears the command it was not written for, unless one of the changes sets that
 * too. *e names the one that failed.
 */
int oci_config_changes(json_t *config, const struct strv *instructions, struct err *e);

#endif
