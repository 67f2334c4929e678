/* SPDX-License-Identifier: MIT */
#include "put.h"

#include <string.h>

#include "base/log.h"

int oci_put_spool(struct oci_spool *sp, struct err *e)
{
	if (!sp || !sp->tmp[0])
		return 0;
	int r = oci_spool_commit(
		sp, oci_store_blob_dir(sp->store, sp->digest), oci_digest_hex(sp->digest), e);
	oci_spool_close(sp);
	return r;
}

int oci_put(struct oci_store *s, const void *data, size_t n, char ret_digest[OCI_DIGEST_MAX], struct err *e)
{
	CLEANUP(oci_spool_freep) struct oci_spool *sp = NULL;
	int r = oci_spool_new(s, true, NULL, &sp, e);

	if (r == 0)
		r = oci_spool_write(sp, data, n, e);
	if (r == 0)
		r = oci_spool_finish(sp, e);
	if (r == 0 && ret_digest)
		oci_digest_copy(ret_digest, sp->digest);
	return r < 0 ? r : oci_put_spool(sp, e);
}

json_t *oci_descriptor_json(const char *type, const char *digest, uint64_t size)
{
	return json_pack("{s:s, s:s, s:I}", "mediaType", type, "digest", digest, "size", (json_int_t)size);
}

int oci_put_documents(struct oci_store *s, const char *config, json_t *layers, const struct oci_config *c,
	struct oci_manifest *m, struct oci_entry *en, struct err *e)
{
	CLEANUP_FREE char *manifest = NULL;
	json_t *j;
	int r = layers ? oci_put(s, config, strlen(config), en->config, e) : err_oom(e);

	if (r < 0) {
		json_decref(layers);
		return r;
	}
	j = json_pack("{s:i, s:s, s:o, s:o}", "schemaVersion", 2, "mediaType", OCI_TYPE_MANIFEST, "config",
		oci_descriptor_json(OCI_TYPE_CONFIG, en->config, strlen(config)), "layers", layers);
	manifest = j ? json_dumps(j, JSON_COMPACT) : NULL;
	json_decref(j);
	if (!manifest)
		return err_oom(e);
	r = oci_manifest_parse(manifest, strlen(manifest), m, e);
	if (r == 0)
		r = oci_put(s, manifest, strlen(manifest), en->manifest, e);
	oci_digest_copy(en->served, en->manifest);
	en->m = m;
	en->c = c;
	return r;
}

/* ---- trimming ---- */

static void note_untagged(void *data, const char *key, const char *value)
{
	if (strcmp(key, "Untagged") == 0)
		(void)strv_push(data, value);
}

/* Whether a tag of its repository went, too: a digest beside it is no name of its own. */
static bool goes_with_tag(const struct strv *names, const char *name)
{
	size_t n = strcspn(name, "@");

	for (size_t i = 0; name[n] && i < names->n; i++) {
		const char *other = names->v[i];
		if (strncmp(name, other, n) == 0 && other[n] == ':' && !strchr(other, '@'))
			return true;
	}
	return false;
}

void oci_put_trim(struct oci_store *s)
{
	CLEANUP(strv_done) struct strv names = {0};
	const char *given = getenv(OCI_LIMIT_VARIABLE);
	struct err e = {0};
	uint64_t limit;
	int r = oci_store_limit(&limit, &e);

	if (r == 0)
		r = oci_store_trim(s, limit, note_untagged, &names, &e);
	if (r < 0)
		log_warn("cannot keep the image store below its limit: %s", e.msg);
	for (size_t i = 0; i < names.n; i++) {
		if (!goes_with_tag(&names, names.v[i]))
			log_warn("%s was removed to keep the image store below %s", names.v[i],
				given && *given ? given : OCI_LIMIT_DEFAULT);
	}
}
