/* SPDX-License-Identifier: MIT */
/* Who holds an image. Apart from all else, so that the supervisor, which lets go, links nothing of the rest. */
#include "oci/oci.h"

int oci_ref_add(struct state *st, const char *holder, const char *manifest, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *q = NULL;
	int r = state_prepare(st, &q, e, "SELECT 1 FROM image_manifests WHERE digest = ?", "s", manifest);

	if (r == 0)
		r = state_step(st, q, e);
	if (r < 0)
		return r;
	if (r == 0)
		return err_set(e, -ENOENT, "image %.19s was removed meanwhile", manifest);
	return state_exec(st, e, "INSERT OR IGNORE INTO image_refs(holder, manifest) VALUES(?, ?)", "ss",
		holder, manifest);
}

int oci_ref_drop(struct state *st, const char *holder, struct err *e)
{
	return state_exec(st, e, "DELETE FROM image_refs WHERE holder = ?", "s", holder);
}
