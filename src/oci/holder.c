/* SPDX-License-Identifier: MIT */
/* Who holds an image. Apart from all else, so that the supervisor, which lets go, links nothing of the rest. */
#include "base/io.h"
#include "oci/oci.h"

/*
 * Whoever holds the store (oci_store_hold) since it found image and disk finds both here. For others, room may have been
 * made since (oci_store_trim). That deletes the row before the file, and no row that is held: so whoever sees the row
 * here keeps the file. The use is the last one, whatever the clock says.
 */
int oci_ref_add(struct state *st, const char *holder, const char *manifest, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *q = NULL;
	int r = state_prepare(st, &q, e,
		"SELECT EXISTS(SELECT 1 FROM image_disks d WHERE d.chain = m.chain)"
		" FROM image_manifests m WHERE m.digest = ?",
		"s", manifest);

	if (r == 0)
		r = state_step(st, q, e);
	if (r < 0)
		return r;
	if (r == 0)
		return err_set(e, -ENOENT, "image %.19s was removed meanwhile", manifest);
	if (!sqlite3_column_int(q, 0)) {
		err_set(e, -ENOENT, "the disk of image %.19s was removed meanwhile, to make room", manifest);
		return err_hint(e, "try again");
	}
	r = state_exec(st, e, "INSERT OR IGNORE INTO image_refs(holder, manifest) VALUES(?, ?)", "ss", holder,
		manifest);
	if (r == 0)
		r = state_exec(st, e,
			"INSERT INTO image_use(manifest, used_ns, pulled)"
			" SELECT ?1, max(?2, coalesce(max(used_ns), 0) + 1), 0 FROM image_use WHERE true"
			" ON CONFLICT(manifest) DO UPDATE SET used_ns = excluded.used_ns",
			"si", manifest, time_real_ns());
	return r;
}

int oci_ref_drop(struct state *st, const char *holder, struct err *e)
{
	return state_exec(st, e, "DELETE FROM image_refs WHERE holder = ?", "s", holder);
}
