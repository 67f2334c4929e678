/* SPDX-License-Identifier: MIT */
/*
 * Removing images, as Docker does: by a tag, that goes, and with the last one of a repository the digests that are known
 * for it there; by repository@digest, that; by ID, all names at once. With the last name goes the image, unless a box
 * needs it.
 */
#include <string.h>

#include "base/io.h"
#include "image.h"
#include "reference.h"
#include "state/event.h"

#define OF_IMAGE " manifest IN (SELECT digest FROM image_manifests WHERE config = ?1) "

void oci_removal_done(struct oci_removal *rm)
{
	strv_done(&rm->untagged);
	strv_done(&rm->deleted);
}

/* ---- rows ---- */

static bool told(const struct strv *list, const char *text)
{
	for (size_t i = 0; i < list->n; i++)
		if (strcmp(list->v[i], text) == 0)
			return true;
	return false;
}

static int note_untagged(struct oci_removal *rm, const char *name, struct err *e)
{
	return !told(&rm->untagged, name) && strv_push(&rm->untagged, name) < 0 ? err_oom(e) : 0;
}

static int untag(struct oci_removal *rm, const struct strv *names, struct err *e)
{
	int r = 0;

	for (size_t k = 0; r == 0 && k < names->n; k++) {
		r = state_exec(rm->s->st, e, "DELETE FROM image_names WHERE name = ?", "s", names->v[k]);
		if (r == 0)
			r = note_untagged(rm, names->v[k], e);
	}
	return r;
}

/* Forgets what registries serve the image as: in one repository or, with NULL, in all; the same for the digest. */
static int forget_remotes(
	struct oci_removal *rm, const char *id, const char *repo, const char *digest, struct err *e)
{
	CLEANUP(strv_done) struct strv names = {0};
	int r = oci_query_texts(rm->s, &names, e,
		"SELECT DISTINCT repo || '@' || digest FROM image_remotes WHERE" OF_IMAGE
		"AND repo = coalesce(?2, repo) AND digest = coalesce(?3, digest) ORDER BY 1",
		id, repo, digest);

	for (size_t k = 0; r == 0 && k < names.n; k++)
		r = note_untagged(rm, names.v[k], e);
	if (r == 0 && names.n)
		r = state_exec(rm->s->st, e,
			"DELETE FROM image_remotes WHERE" OF_IMAGE
			"AND repo = coalesce(?2, repo) AND digest = coalesce(?3, digest)",
			"sss", id, repo, digest);
	return r;
}

/* The image has no name left: gone, or hidden while a holder needs it. */
static int drop_manifest(struct oci_removal *rm, const char *manifest, struct err *e)
{
	int64_t holders;
	int r = oci_query_number(rm->s, &holders, e, "SELECT count(*) FROM image_refs WHERE manifest = ?1",
		manifest, NULL, NULL);

	if (r < 0)
		return r;
	if (holders > 0)
		return state_exec(rm->s->st, e, "UPDATE image_manifests SET doomed = 1 WHERE digest = ?", "s",
			manifest);
	r = oci_store_sweep_due(rm->s, e);
	if (r == 0)
		r = state_exec(rm->s->st, e, "DELETE FROM image_blobs WHERE manifest = ?", "s", manifest);
	if (r == 0)
		r = state_exec(rm->s->st, e, "DELETE FROM image_use WHERE manifest = ?", "s", manifest);
	if (r == 0)
		r = state_exec(rm->s->st, e, "DELETE FROM image_manifests WHERE digest = ?", "s", manifest);
	return r;
}

static int note_if_gone(struct oci_removal *rm, const char *id, struct err *e)
{
	int64_t left;
	int r = oci_query_number(
		rm->s, &left, e, "SELECT count(*) FROM image_manifests WHERE config = ?1", id, NULL, NULL);

	if (r == 0 && left == 0 && strv_push(&rm->deleted, id) < 0)
		r = err_oom(e);
	return r;
}

static int add_event(
	struct oci_removal *rm, const char *action, const char *id, const char *name, struct err *e)
{
	return event_add(rm->s->st, e, "image", action, id, "name", name, "reason", rm->reason, NULL);
}

/* Events, in the transaction that makes them true. */
static int add_events(struct oci_removal *rm, const char *id, struct err *e)
{
	int r = 0;

	for (; r == 0 && rm->noted_untagged < rm->untagged.n; rm->noted_untagged++) {
		CLEANUP_FREE char *name = oci_ref_familiar(rm->untagged.v[rm->noted_untagged]);
		r = name ? add_event(rm, "untag", id, name, e) : err_oom(e);
	}
	for (; r == 0 && rm->noted_deleted < rm->deleted.n; rm->noted_deleted++) {
		const char *gone = rm->deleted.v[rm->noted_deleted];
		r = add_event(rm, "delete", gone, gone, e);
	}
	return r;
}

void oci_removal_tell(const struct oci_removal *rm,
	void (*on_removed)(void *data, const char *key, const char *value), void *data)
{
	for (size_t k = 0; on_removed && k < rm->untagged.n; k++) {
		CLEANUP_FREE char *name = oci_ref_familiar(rm->untagged.v[k]);
		on_removed(data, "Untagged", name ? name : rm->untagged.v[k]);
	}
	for (size_t k = 0; on_removed && k < rm->deleted.n; k++)
		on_removed(data, "Deleted", rm->deleted.v[k]);
}

int oci_removal_manifest(struct oci_removal *rm, const char *manifest, const char *id, struct err *e)
{
	CLEANUP(strv_done) struct strv names = {0}, remotes = {0};
	int r = oci_query_texts(rm->s, &names, e,
		"SELECT name FROM image_names WHERE manifest = ?1 ORDER BY name", manifest, NULL, NULL);

	if (r == 0)
		r = untag(rm, &names, e);
	if (r == 0)
		r = oci_query_texts(rm->s, &remotes, e,
			"SELECT DISTINCT repo || '@' || digest FROM image_remotes WHERE manifest = ?1 ORDER "
			"BY 1",
			manifest, NULL, NULL);
	for (size_t k = 0; r == 0 && k < remotes.n; k++)
		r = note_untagged(rm, remotes.v[k], e);
	if (r == 0)
		r = state_exec(rm->s->st, e, "DELETE FROM image_remotes WHERE manifest = ?", "s", manifest);
	if (r == 0)
		r = drop_manifest(rm, manifest, e);
	if (r == 0)
		r = note_if_gone(rm, id, e);
	return r < 0 ? r : add_events(rm, id, e);
}

/* ---- what is asked for ---- */

struct request {
	const struct oci_image *image;
	const char *ref; /* as the user wrote it */
	bool force;
};

/* For pruning: what must still be so when it happens. */
struct prune_check {
	const char *id;
	bool tagged; /* a name with a tag is no obstacle */
};

static int refuse_if_held(struct oci_removal *rm, const struct request *rq, struct err *e)
{
	CLEANUP(strv_done) struct strv holders = {0};
	int r = oci_query_texts(rm->s, &holders, e, "SELECT holder FROM image_refs WHERE" OF_IMAGE "LIMIT 1",
		rq->image->id, NULL, NULL);

	if (r < 0 || holders.n == 0)
		return r;
	size_t prefix = strlen(OCI_HOLDER_SNAPSHOT);
	bool snapshot = strncmp(holders.v[0], OCI_HOLDER_SNAPSHOT, prefix) == 0;
	const char *kind = snapshot ? "snapshot" : "box";
	err_set(e, -EBUSY, "cannot remove image %s: %s %.12s uses it", rq->ref, kind,
		holders.v[0] + (snapshot ? prefix : 0));
	return err_hint(e, "remove the %s first, or use force", kind);
}

static int refuse_names(const struct request *rq, size_t n, struct err *e)
{
	err_set(e, -EBUSY, "cannot remove image %s: it has %zu names", rq->ref, n);
	return err_hint(e, "remove it by name, or use force to remove them all");
}

/* The names go, and with the last of an image its content. */
static int remove_names(
	struct oci_removal *rm, const struct request *rq, const struct strv *names, struct err *e)
{
	CLEANUP(strv_done) struct strv manifests = {0};
	const char *id = rq->image->id;
	int64_t all;
	int r = oci_query_number(
		rm->s, &all, e, "SELECT count(*) FROM image_names WHERE" OF_IMAGE, id, NULL, NULL);

	if (r < 0)
		return r;
	bool last = (size_t)all <= names->n;
	if (last && !rq->force)
		r = refuse_if_held(rm, rq, e);
	if (r == 0)
		r = untag(rm, names, e);
	if (r < 0 || !last)
		return r;
	r = forget_remotes(rm, id, NULL, NULL, e);
	if (r == 0)
		r = oci_query_texts(rm->s, &manifests, e,
			"SELECT digest FROM image_manifests WHERE config = ?1", id, NULL, NULL);
	for (size_t k = 0; r == 0 && k < manifests.n; k++)
		r = drop_manifest(rm, manifests.v[k], e);
	return r < 0 ? r : note_if_gone(rm, id, e);
}

/* A digest beside tags of the same repository is no name of its own. */
static int remove_by_id(struct oci_removal *rm, const struct request *rq, struct err *e)
{
	CLEANUP(strv_done) struct strv names = {0};
	int64_t counted;
	int r = oci_query_number(rm->s, &counted, e,
		"SELECT count(*) FROM image_names n WHERE" OF_IMAGE "AND (instr(n.name, '@') = 0"
		" OR NOT EXISTS (SELECT 1 FROM image_names x WHERE x.repo = n.repo AND x.manifest = "
		"n.manifest"
		"  AND instr(x.name, '@') = 0))",
		rq->image->id, NULL, NULL);

	if (r == 0)
		r = oci_query_texts(rm->s, &names, e,
			"SELECT name FROM image_names WHERE" OF_IMAGE "ORDER BY name", rq->image->id, NULL,
			NULL);
	if (r == 0 && !rq->force)
		r = refuse_if_held(rm, rq, e);
	if (r == 0 && counted > 1 && !rq->force)
		return refuse_names(rq, (size_t)counted, e);
	return r < 0 ? r : remove_names(rm, rq, &names, e);
}

static int remove_by_tag(struct oci_removal *rm, const struct request *rq, const char *repo, struct err *e)
{
	CLEANUP(strv_done) struct strv names = {0};
	const char *id = rq->image->id, *name = rq->image->name;
	int64_t others = 0;
	int r = strv_push(&names, name) < 0 ? err_oom(e) : 0;

	if (r == 0)
		r = oci_query_number(rm->s, &others, e,
			"SELECT count(*) FROM image_names WHERE" OF_IMAGE
			"AND repo = ?2 AND name <> ?3 AND instr(name, '@') = 0",
			id, repo, name);
	if (r == 0 && others == 0)
		r = oci_query_texts(rm->s, &names, e,
			"SELECT name FROM image_names WHERE" OF_IMAGE
			"AND repo = ?2 AND name <> ?3 ORDER BY name",
			id, repo, name);
	if (r == 0)
		r = remove_names(rm, rq, &names, e);
	return r == 0 && others == 0 ? forget_remotes(rm, id, repo, NULL, e) : r;
}

static int remove_by_digest(
	struct oci_removal *rm, const struct request *rq, const char *repo, const char *digest, struct err *e)
{
	CLEANUP(strv_done) struct strv names = {0};
	CLEANUP_FREE char *exact = str_printf("%s@%s", repo, digest);
	const char *id = rq->image->id;
	int64_t remotes = 0;

	if (!exact)
		return err_oom(e);
	int r = oci_query_texts(rm->s, &names, e,
		"SELECT name FROM image_names WHERE" OF_IMAGE "AND name = ?2", id, exact, NULL);
	if (r == 0)
		r = oci_query_number(rm->s, &remotes, e,
			"SELECT count(*) FROM image_remotes WHERE" OF_IMAGE "AND repo = ?2 AND digest = ?3",
			id, repo, digest);
	/* No registry's word, but what its tags here lead to: then it stands for them. */
	if (r == 0 && names.n == 0 && remotes == 0)
		r = oci_query_texts(rm->s, &names, e,
			"SELECT name FROM image_names WHERE" OF_IMAGE
			"AND repo = ?2 AND (digest = ?3 OR manifest = ?3) ORDER BY name",
			id, repo, digest);
	if (r == 0 && names.n > 1 && !rq->force)
		return refuse_names(rq, names.n, e);
	if (r == 0)
		r = remove_names(rm, rq, &names, e);
	return r < 0 ? r : forget_remotes(rm, id, repo, digest, e);
}

/* Whether an image is still what somebody listed as one to be pruned. */
static int check_pruned(
	struct oci_removal *rm, const struct prune_check *pc, const struct request *rq, struct err *e)
{
	int64_t tagged = 0;

	if (strcmp(pc->id, rq->image->id) != 0)
		return err_set(e, -ENOENT, "%s is another image by now", rq->ref);
	int r = refuse_if_held(rm, rq, e);
	if (r == 0 && !pc->tagged)
		r = oci_query_number(rm->s, &tagged, e,
			"SELECT EXISTS(SELECT 1 FROM image_names WHERE" OF_IMAGE "AND instr(name, '@') = 0)",
			pc->id, NULL, NULL);
	return r == 0 && tagged ? err_set(e, -EBUSY, "image %s has a tag by now", rq->ref) : r;
}

static int remove_in_tx(
	struct oci_removal *rm, const char *ref, bool force, const struct prune_check *pc, struct err *e)
{
	CLEANUP(oci_reference_done) struct oci_reference parsed = {0};
	CLEANUP(oci_image_freep) struct oci_image *i = NULL;
	CLEANUP_FREE char *repo = NULL;
	int r = oci_image_maybe_name(ref) ? oci_image_find_name(rm->s, ref, &i, e) : -ENOENT;
	bool by_name = r == 0;

	if (r == -ENOENT)
		r = oci_image_find_id(rm->s, ref, &i, e);
	if (r < 0)
		return r == -ENOENT ? oci_image_not_found(ref, e) : r;
	struct request rq = {.image = i, .ref = ref, .force = force};
	r = pc ? check_pruned(rm, pc, &rq, e) : 0;
	if (r < 0)
		return r;
	if (by_name) {
		r = oci_reference_parse(ref, &parsed, e);
		if (r < 0)
			return r;
		repo = oci_reference_repo(&parsed);
		if (!repo)
			return err_oom(e);
		r = parsed.digest ? remove_by_digest(rm, &rq, repo, parsed.digest, e)
				  : remove_by_tag(rm, &rq, repo, e);
	} else {
		r = remove_by_id(rm, &rq, e);
	}
	return r < 0 ? r : add_events(rm, i->id, e);
}

static int remove_image(struct oci_store *s, const char *ref, bool force, const struct prune_check *pc,
	void (*on_removed)(void *data, const char *key, const char *value), void *data, struct err *e)
{
	CLEANUP(oci_removal_done) struct oci_removal rm = {.s = s};
	int r = state_begin(s->st, e);

	if (r < 0)
		return r;
	r = remove_in_tx(&rm, ref, force, pc, e);
	if (r == 0)
		r = oci_store_note_index(s, e);
	r = state_end(s->st, r, e);
	if (r < 0) {
		/* It may be gone because one like this died before it had deleted the files. */
		(void)oci_store_gc_if_due(s, NULL);
		return r;
	}
	oci_removal_tell(&rm, on_removed, data);
	return oci_store_gc_if_due(s, e);
}

int oci_image_remove(struct oci_store *s, const char *ref, bool force,
	void (*on_removed)(void *data, const char *key, const char *value), void *data, struct err *e)
{
	return remove_image(s, ref, force, NULL, on_removed, data, e);
}

int oci_image_prune(struct oci_store *s, const struct oci_image *i, bool tagged,
	void (*on_removed)(void *data, const char *key, const char *value), void *data, struct err *e)
{
	const struct prune_check pc = {i->id, tagged};

	return remove_image(s, i->name ? i->name : i->id, false, &pc, on_removed, data, e);
}
