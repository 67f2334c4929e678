/* SPDX-License-Identifier: MIT */
/*
 * From run's and create's options, and the image's own configuration, to a box's.
 *
 * Every value is checked before anything changes, and refused with one line that names the flag, the value, and the
 * allowed form. Values are kept as given until then: NULL is an option that was not. spec-*.c each turn one group of
 * options into their part of struct box_config.
 */
#ifndef CLI_SPEC_H
#define CLI_SPEC_H

#include "app.h"
#include "box/network.h"

/* What container-update can change, too. */
struct limit_opts {
	const char *cpus, *cpu_shares, *cpu_quota, *cpu_period, *cpuset, *memory, *reservation, *swap, *pids;
	const char *restart;
};

struct run_opts {
	bool detach, interactive, tty, rm, sig_proxy, quiet;
	bool init, read_only, privileged, no_healthcheck, publish_all;
	const char *name, *workdir, *user, *entrypoint, *accel, *pull, *platform, *hostname, *stop_signal,
		*stop_timeout, *timeout, *cidfile, *oom_score_adj, *shm_size, *userns, *gpus, *log_driver,
		*detach_keys, *ip, *ip6, *mac_address;
	const char *health_cmd, *health_interval, *health_timeout, *health_start_period,
		*health_start_interval, *health_retries;
	struct limit_opts limits;
	struct strv env, env_files, labels, label_files, annotations, groups;
	struct strv cap_add, cap_drop, security_opts, devices, sysctls, ulimits, tmpfs;
	struct strv add_hosts, dns, dns_search, dns_opts, expose, log_opts;
	struct strv publish, networks, network_aliases, network_opts, egress_allow;
	struct strv storage_opts;
	struct strv volumes, mounts, volumes_from;
	const char *volume_driver;
};
void run_opts_done(struct run_opts *o);

/* ---- tables (spec-opts.c): each appends to t, with headings, and returns the number of entries ---- */
enum { SPEC_OPTS_MAX = 96 };
size_t spec_limit_opts(struct limit_opts *o, struct opt *t);
/* What run and create share. The end of the table is the caller's to add. */
size_t spec_common_opts(struct run_opts *o, struct opt *t);

/* Checks everything that needs no image and no host state. 0 or -errno. */
int spec_from_opts(const struct run_opts *o, struct box_config *ret, struct err *e);
/* Adds what the image says and the command line (args[0..n), may be empty). 0 or -errno. */
int spec_add_image(struct box_config *c, const struct run_opts *o, const struct oci_image *image,
	char *const *args, size_t n, struct err *e);
/* The --user forms that can be checked before the box exists: not empty parts, no control characters. */
int spec_check_user(const char *user, struct err *e);

/* Checks and adds each of an option's values; add: 0 or -errno with e set. The first failure ends it. */
int spec_add_each(const struct strv *given, int (*add)(const char *, struct strv *, struct err *),
	struct strv *dst, struct err *e);

/* ---- spec-limits.c ---- */
/* What a box has that was asked for nothing. */
void spec_limits_default(struct box_config *c);
/* Changes what is given. With update, for a box that exists: its memory bounds the limit, and it may get more CPUs. */
int spec_limits(const struct limit_opts *o, bool update, struct box_config *c, struct err *e);
/* Ulimits, shared memory, OOM score, size of the disk. */
int spec_process_limits(const struct run_opts *o, struct box_config *c, struct err *e);

/* ---- spec-security.c: capabilities, seccomp, namespaces, devices, sysctls, file systems ---- */
int spec_security(const struct run_opts *o, struct box_config *c, struct err *e);

/* ---- spec-mounts.c: what is mounted, but for --tmpfs ---- */
/* After spec_security, whose tmpfs have targets too. */
int spec_mounts(const struct run_opts *o, struct box_config *c, struct err *e);
/* Adds one -v, or one --mount. 0 or -errno. */
int spec_add_volume(const char *s, struct box_config *c, struct err *e);
int spec_add_mount(const char *s, struct box_config *c, struct err *e);
/* Adds the mounts of other boxes, where nothing has their target. */
int spec_volumes_from(const struct run_opts *o, struct box_config *c, struct state *st, struct err *e);
/* -ENOENT where a source is not there that is not to be made: known before anything is done for the box. */
int spec_check_sources(const struct box_config *c, struct err *e);
/* Last: an anonymous volume for each VOLUME of the image that nothing is mounted on. */
int spec_add_image_volumes(struct box_config *c, const struct oci_image *image, struct err *e);

/* ---- spec-network.c: host name, hosts, DNS, networks ---- */
int spec_network(const struct run_opts *o, struct box_config *c, struct err *e);
/* Finds the networks that were named; from then on they are known by ID. 0 or -errno. */
int spec_resolve_networks(struct box_config *c, struct state *st, struct err *e);

/* ---- spec-publish.c ---- */
/* The image's ports beside those of --expose. */
int spec_add_image_ports(struct box_config *c, const struct oci_image *image, struct err *e);
int spec_add_expose(const char *s, struct strv *dst, struct err *e);
/* Adds the ports of one --publish; address (NULL: all) where it has none. */
int spec_add_publish(const char *s, const char *address, struct strv *dst, struct err *e);
/* A3S_PUBLISH_ADDRESS, malloc'd; NULL: not set. */
int spec_publish_address(char **ret, struct err *e);

/* ---- spec-run.c: restart policy, health check, log, stopping ---- */
int spec_restart(const char *s, struct box_restart *ret, struct err *e);
int spec_run(const struct run_opts *o, struct box_config *c, struct err *e);
int spec_add_image_health(
	struct box_config *c, const struct run_opts *o, const struct oci_image *image, struct err *e);

/* ---- spec-env.c: environment, labels, annotations ---- */
/* "NAME=value" into env; "NAME" alone takes the value from our own environment, or nothing. 0 or -errno. */
int spec_add_env(struct strv *env, const struct strv *given, struct err *e);
/*
 * Files in Docker's format, a variable a line as for --env, "#" lines and empty ones skipped, nothing quoted. 0 or -errno.
 */
int spec_add_env_files(struct strv *env, const struct strv *files, struct err *e);
/* Labels from files and options, and annotations. */
int spec_labels(const struct run_opts *o, struct box_config *c, struct err *e);

#endif
