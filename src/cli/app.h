/* SPDX-License-Identifier: MIT */
/* What commands share: the opened home, output of tables and JSON. */
#ifndef CLI_APP_H
#define CLI_APP_H

#include <jansson.h>

#include "box/box.h"
#include "opts.h"

#define STATUS_FAILED 125 /* a3s-box failed before the workload started */

struct app {
	struct state *st;
	struct oci_store *store; /* NULL unless asked for */
};

/* Opens the home folder and repairs what dead owners left; with images also the image store. */
int app_open(struct app *a, bool with_images, struct err *e);
void app_close(struct app *a);

/* Prints e with the command's name before it. Returns status. */
int app_fail(const struct cmd *c, struct err *e, int status);
/* Fills e with why a box that has to be running is not, and what to do. start: the command that would. Returns its code. */
int app_not_running(const struct box *b, const char *start, struct err *e);
/* "requires …" for a wrong number of arguments. Returns c->usage_status. */
int app_usage(const struct cmd *c, const char *what);
/*
 * Does it to each of argv[1..]: fn returns 0, and the name is printed; 1: nothing is to be said; or -errno with e set, which is
 * told, and the others follow. Returns the command's status.
 */
int app_each(const struct cmd *c, struct app *a, int argc, char **argv, bool force,
	int (*fn)(struct app *a, const char *ref, bool force, struct err *e));

/* A table as Docker prints it: upper-case headings, columns three spaces apart. Cells are copied. */
struct table;
struct table *table_new(const char *const *headings, size_t n);
void table_row(struct table *t, const char *const *cells);
void table_print(struct table *t); /* and frees */
void table_free(struct table *t);

/* Prints JSON with a newline; takes the reference. Returns 0, or 1 when standard output fails. */
int json_print(json_t *j, size_t indent);
json_t *json_from_strv(const struct strv *l);
/* A string that may hold any bytes, NULL included: what is not UTF-8 is shown escaped. */
json_t *json_from_text(const char *s);
/* The list as one text. NULL: out of memory. */
json_t *json_from_joined(const struct strv *l, const char *separator);

/*
 * Everything for a box that exists to be started, but its supervisor: lock held, record starting, disk there (run.c). Then
 * box_start. 0 or -errno.
 */
int start_prepare(struct app *a, const struct box *b, int *lock, struct err *e);

/* A map of "key=value" pairs; the last of a key wins. */
json_t *json_from_pairs(const struct strv *l);

/* Commands. */
int cmd_attach(const struct cmd *c, int argc, char **argv);
int cmd_prune(const struct cmd *c, int argc, char **argv);
int cmd_rename(const struct cmd *c, int argc, char **argv);
int cmd_restart(const struct cmd *c, int argc, char **argv);
int cmd_shell(const struct cmd *c, int argc, char **argv);
int cmd_run(const struct cmd *c, int argc, char **argv);
int cmd_container_update(const struct cmd *c, int argc, char **argv);
int cmd_cp(const struct cmd *c, int argc, char **argv);
int cmd_create(const struct cmd *c, int argc, char **argv);
int cmd_commit(const struct cmd *c, int argc, char **argv);
int cmd_export(const struct cmd *c, int argc, char **argv);
int cmd_snapshot_create(const struct cmd *c, int argc, char **argv);
int cmd_snapshot_fork(const struct cmd *c, int argc, char **argv);
int cmd_snapshot_inspect(const struct cmd *c, int argc, char **argv);
int cmd_snapshot_ls(const struct cmd *c, int argc, char **argv);
int cmd_snapshot_prune(const struct cmd *c, int argc, char **argv);
int cmd_snapshot_restore(const struct cmd *c, int argc, char **argv);
int cmd_snapshot_rm(const struct cmd *c, int argc, char **argv);
int cmd_start(const struct cmd *c, int argc, char **argv);
int cmd_exec(const struct cmd *c, int argc, char **argv);
int cmd_network_connect(const struct cmd *c, int argc, char **argv);
int cmd_network_create(const struct cmd *c, int argc, char **argv);
int cmd_network_disconnect(const struct cmd *c, int argc, char **argv);
int cmd_network_inspect(const struct cmd *c, int argc, char **argv);
int cmd_network_ls(const struct cmd *c, int argc, char **argv);
int cmd_network_prune(const struct cmd *c, int argc, char **argv);
int cmd_network_rm(const struct cmd *c, int argc, char **argv);
int cmd_network_update(const struct cmd *c, int argc, char **argv);
int cmd_monitor(const struct cmd *c, int argc, char **argv);
int cmd_pause(const struct cmd *c, int argc, char **argv);
int cmd_ps(const struct cmd *c, int argc, char **argv);
int cmd_logs(const struct cmd *c, int argc, char **argv);
int cmd_stop(const struct cmd *c, int argc, char **argv);
int cmd_kill(const struct cmd *c, int argc, char **argv);
int cmd_rm(const struct cmd *c, int argc, char **argv);
int cmd_wait(const struct cmd *c, int argc, char **argv);
int cmd_inspect(const struct cmd *c, int argc, char **argv);
int cmd_history(const struct cmd *c, int argc, char **argv);
int cmd_image_check(const struct cmd *c, int argc, char **argv);
int cmd_image_inspect(const struct cmd *c, int argc, char **argv);
int cmd_image_prune(const struct cmd *c, int argc, char **argv);
int cmd_images(const struct cmd *c, int argc, char **argv);
int cmd_import(const struct cmd *c, int argc, char **argv);
int cmd_events(const struct cmd *c, int argc, char **argv);
int cmd_audit(const struct cmd *c, int argc, char **argv);
int cmd_df(const struct cmd *c, int argc, char **argv);
int cmd_diff(const struct cmd *c, int argc, char **argv);
int cmd_port(const struct cmd *c, int argc, char **argv);
int cmd_port_forward(const struct cmd *c, int argc, char **argv);
int cmd_rmi(const struct cmd *c, int argc, char **argv);
int cmd_load(const struct cmd *c, int argc, char **argv);
int cmd_login(const struct cmd *c, int argc, char **argv);
int cmd_logout(const struct cmd *c, int argc, char **argv);
int cmd_pull(const struct cmd *c, int argc, char **argv);
int cmd_push(const struct cmd *c, int argc, char **argv);
int cmd_save(const struct cmd *c, int argc, char **argv);
int cmd_tag(const struct cmd *c, int argc, char **argv);
int cmd_completion(const struct cmd *c, int argc, char **argv);
int cmd_info(const struct cmd *c, int argc, char **argv);
int cmd_stats(const struct cmd *c, int argc, char **argv);
int cmd_system_prune(const struct cmd *c, int argc, char **argv);
int cmd_top(const struct cmd *c, int argc, char **argv);
int cmd_unpause(const struct cmd *c, int argc, char **argv);
int cmd_volume_create(const struct cmd *c, int argc, char **argv);
int cmd_volume_inspect(const struct cmd *c, int argc, char **argv);
int cmd_volume_ls(const struct cmd *c, int argc, char **argv);
int cmd_volume_prune(const struct cmd *c, int argc, char **argv);
int cmd_volume_rm(const struct cmd *c, int argc, char **argv);
int cmd_version(const struct cmd *c, int argc, char **argv);

#endif
