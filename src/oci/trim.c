/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * The store has a size that it should not exceed (A3S_IMAGE_CACHE_SIZE). When it does, after a pull or a load, or once a box
 * holds the image whose missing disk was built for it, what was used longest ago goes: first disks, which cost seconds to
 * build again, then downloads that were cut off, then images, which cost a download. A disk that could not be built again,
 * because content of its image was lost, stays: it is all that is left of it. Neither disk nor image goes while a box in
 * whatever state holds the image; nor does the image that was used last of those that no box holds, because that is the one
 * that somebody has just brought here and is about to use. An image goes only if it can be had again as it is: pulled, and
 * each of its names is one that a registry serves it under.
 *
 * All of it under OCI_LOCK_DELETE, so never while somebody adds; then whoever adds trims at the end. Rows go before files,
 * in one transaction, in which holders are asked for too. Whoever makes a box keeps us away until its record holds the
 * image (oci_store_hold).
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/units.h"
#include "fetch.h"
#include "image.h"

/* Of images that nobody holds, the one used last. */
#define NEWEST \
	"(SELECT i.digest FROM image_manifests i LEFT JOIN image_use v ON v.manifest = i.digest" \
	"  WHERE NOT i.doomed AND i.digest NOT IN (SELECT manifest FROM image_refs)" \
	"  ORDER BY coalesce(v.used_ns, i.added_ns) DESC LIMIT 1)"

int oci_store_limit(uint64_t *ret, struct err *e)
{
	const char *text = getenv(OCI_LIMIT_VARIABLE);

	if (parse_size(text && *text ? text : OCI_LIMIT_DEFAULT, ret) == 0)
		return 0;
	err_set(e, -EINVAL, OCI_LIMIT_VARIABLE ": \"%s\" is no size", text);
	return err_hint(e, "write it like 10g or 500m");
}

/* ---- disks ---- */

static bool has_bytes(struct oci_store *s, const struct oci_desc *d)
{
	struct stat st;
	CLEANUP_CLOSE int fd = oci_store_blob_open(s, d->digest, NULL);

	return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == d->size;
}

/* Whether all layers of a manifest are here, whole as far as can be seen without reading them. */
static bool has_layers(struct oci_store *s, const char *manifest)
{
	CLEANUP(oci_manifest_done) struct oci_manifest m = {0};
	CLEANUP_FREE char *text = NULL;
	size_t n = 0;
	bool all = oci_store_document(s, manifest, &text, &n, NULL) == 0 &&
		   oci_manifest_parse(text, n, &m, NULL) == 0;

	for (size_t i = 0; all && i < m.n_layers; i++)
		all = has_bytes(s, &m.layers[i]);
	return all;
}

/* 1, 0, -errno. */
static int can_rebuild(struct oci_store *s, const char *chain, struct err *e)
{
	CLEANUP(strv_done) struct strv manifests = {0};
	int r = oci_query_texts(
		s, &manifests, e, "SELECT digest FROM image_manifests WHERE chain = ?1", chain, NULL, NULL);

	for (size_t i = 0; r == 0 && i < manifests.n; i++)
		r = has_layers(s, manifests.v[i]);
	return r;
}

static int forget_disks(struct oci_store *s, uint64_t excess, uint64_t *freed, struct err *e)
{
	CLEANUP(strv_done) struct strv chains = {0};
	size_t forgotten = 0;
	int r = oci_query_texts(s, &chains, e,
		"SELECT d.chain FROM image_disks d JOIN image_manifests m ON m.chain = d.chain"
		" LEFT JOIN image_use u ON u.manifest = m.digest WHERE d.chain NOT IN"
		"  (SELECT h.chain FROM image_manifests h WHERE h.digest = " NEWEST
		"   OR h.digest IN (SELECT manifest FROM image_refs))"
		" GROUP BY d.chain ORDER BY max(coalesce(u.used_ns, m.added_ns))",
		NULL, NULL, NULL);

	for (size_t i = 0; r == 0 && i < chains.n && *freed < excess; i++) {
		r = can_rebuild(s, chains.v[i], e);
		if (r <= 0)
			continue;
		log_debug("image store: to make room, the disk of %s goes", chains.v[i]);
		*freed += oci_disk_bytes(s, chains.v[i]);
		forgotten++;
		r = state_exec(s->st, e, "DELETE FROM image_disks WHERE chain = ?", "s", chains.v[i]);
	}
	return r == 0 && forgotten ? oci_store_sweep_due(s, e) : r;
}

/* ---- images ---- */

/* What of these blobs nobody needs any more, in this transaction. */
static int sum_unneeded(struct oci_store *s, const struct strv *blobs, uint64_t *sum, struct err *e)
{
	int64_t needed;
	int r = 0;

	for (size_t i = 0; r == 0 && i < blobs->n; i++) {
		r = oci_query_number(s, &needed, e,
			"SELECT EXISTS(SELECT 1 FROM image_blobs WHERE digest = ?1) OR EXISTS(SELECT 1"
			" FROM image_index_blobs x JOIN image_names n ON n.digest = x.idx WHERE x.digest = "
			"?1)",
			blobs->v[i], NULL, NULL);
		if (r == 0 && !needed)
			*sum += oci_blob_bytes(s, blobs->v[i]);
	}
	return r;
}

static int evict(struct oci_removal *rm, const char *manifest, uint64_t *freed, struct err *e)
{
	CLEANUP(strv_done) struct strv blobs = {0}, id = {0};
	int r = oci_query_texts(rm->s, &blobs, e,
		"SELECT digest FROM image_blobs WHERE manifest = ?1 UNION SELECT x.digest FROM "
		"image_index_blobs x"
		" JOIN image_names n ON n.digest = x.idx WHERE n.manifest = ?1",
		manifest, NULL, NULL);

	if (r == 0)
		r = oci_query_texts(rm->s, &id, e, "SELECT config FROM image_manifests WHERE digest = ?1",
			manifest, NULL, NULL);
	if (r == 0 && id.n)
		r = oci_removal_manifest(rm, manifest, id.v[0], e);
	return r < 0 ? r : sum_unneeded(rm->s, &blobs, freed, e);
}

static int forget_images(struct oci_removal *rm, uint64_t excess, struct err *e)
{
	CLEANUP(strv_done) struct strv manifests = {0};
	uint64_t freed = 0;
	int r = oci_query_texts(rm->s, &manifests, e,
		"SELECT m.digest FROM image_manifests m JOIN image_use u ON u.manifest = m.digest"
		" WHERE u.pulled AND NOT m.doomed AND m.digest <> " NEWEST
		" AND m.digest NOT IN (SELECT manifest FROM image_refs)"
		" AND EXISTS (SELECT 1 FROM image_remotes r WHERE r.manifest = m.digest)"
		" AND NOT EXISTS (SELECT 1 FROM image_names n WHERE n.manifest = m.digest AND NOT EXISTS"
		"  (SELECT 1 FROM image_remotes r WHERE r.manifest = n.manifest AND r.name = n.name"
		"   AND r.digest = n.digest))"
		" ORDER BY u.used_ns",
		NULL, NULL, NULL);

	for (size_t i = 0; r == 0 && i < manifests.n && freed < excess; i++)
		r = evict(rm, manifests.v[i], &freed, e);
	return r;
}

/* ---- both ---- */

/* Rows only, under the lock: the collection that follows deletes the files. */
static int trim_locked(struct oci_removal *rm, uint64_t limit, struct err *e)
{
	uint64_t bytes = 0, freed = 0;
	int r = oci_store_collect(rm->s, e);

	if (r == 0)
		r = oci_store_bytes(rm->s, &bytes, e);
	if (r < 0 || bytes <= limit)
		return r;
	r = state_begin(rm->s->st, e);
	if (r < 0)
		return r;
	r = forget_disks(rm->s, bytes - limit, &freed, e);
	if (r == 0 && freed < bytes - limit) {
		oci_partial_clean(rm->s, 0);
		r = oci_store_bytes(rm->s, &bytes, e);
		if (r == 0 && bytes > limit && freed < bytes - limit)
			r = forget_images(rm, bytes - limit - freed, e);
	}
	return state_end(rm->s->st, r, e);
}

int oci_store_trim(struct oci_store *s, uint64_t limit,
	void (*on_removed)(void *data, const char *key, const char *value), void *data, struct err *e)
{
	CLEANUP(oci_removal_done) struct oci_removal rm = {.s = s, .reason = "evicted"};
	CLEANUP_CLOSE int lock = -1;
	uint64_t bytes;
	int r = oci_store_bytes(s, &bytes, e);

	if (r < 0 || bytes <= limit)
		return r;
	r = oci_store_lock(s, OCI_LOCK_DELETE, &lock, e);
	if (r < 0)
		return r == -EBUSY ? 0 : r;
	r = trim_locked(&rm, limit, e);
	if (r < 0)
		return r;
	oci_removal_tell(&rm, on_removed, data);
	close_fd(&lock);
	return oci_store_gc_if_due(s, e);
}
