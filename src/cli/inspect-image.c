/* SPDX-License-Identifier: MIT */
/* What inspect shows of an image: Docker's fields, from the image's own documents. */
#include <string.h>

#include "base/io.h"
#include "inspect.h"

#define MANIFEST_TYPE "application/vnd.oci.image.manifest.v1+json"

/* Nothing but JSON that the store has parsed before, so that only memory is missing when this fails. */
static int read_document(struct app *a, const struct oci_image *i, enum oci_document which, json_t **ret,
	size_t *ret_n, struct err *e)
{
	CLEANUP_FREE char *text = NULL;
	json_error_t why;

	int r = oci_image_document(a->store, i, which, &text, ret_n, e);
	if (r < 0)
		return r;
	*ret = json_loadb(text, *ret_n, 0, &why);
	return json_is_object(*ret)
		       ? 0
		       : err_set(e, -EBADMSG, "image %s: its JSON is damaged: %s", i->id, why.text);
}

/* "docker.io/library/x:1" as "x:1". */
static json_t *familiar_json(const struct strv *names)
{
	json_t *list = json_array();

	for (size_t k = 0; k < names->n; k++) {
		CLEANUP_FREE char *familiar = oci_ref_familiar(names->v[k]);
		json_array_append_new(list, json_from_text(familiar ? familiar : names->v[k]));
	}
	return list;
}

/* The member of from, where it is a text. */
static json_t *text_of(const json_t *from, const char *key)
{
	json_t *v = json_object_get(from, key);
	return json_is_string(v) ? json_incref(v) : json_string("");
}

static json_t *or_null(bool there, json_t *v)
{
	if (there)
		return v;
	json_decref(v);
	return json_null();
}

/* {"80/tcp": {}}, or null. */
static json_t *set_json(const struct strv *keys)
{
	json_t *set = json_object();

	for (size_t k = 0; k < keys->n; k++) {
		json_t *key = json_from_text(keys->v[k]);
		if (json_is_string(key))
			json_object_set_new(set, json_string_value(key), json_object());
		json_decref(key);
	}
	return set;
}

/*
 * What boxes are made with is shown as this program understood it; the rest, which means nothing to it (OnBuild, Shell, …),
 * as it stands in the document.
 */
static json_t *config_json(const struct oci_image *i, const json_t *document)
{
	json_t *given = json_object_get(document, "config");
	json_t *config = json_is_object(given) ? json_copy(given) : json_object();

	json_object_set_new(config, "User", json_from_text(i->user ? i->user : ""));
	json_object_set_new(config, "Env", json_from_strv(&i->env));
	json_object_set_new(config, "Cmd", or_null(i->cmd.n > 0, json_from_strv(&i->cmd)));
	json_object_set_new(
		config, "Entrypoint", or_null(i->entrypoint.n > 0, json_from_strv(&i->entrypoint)));
	json_object_set_new(config, "WorkingDir", json_from_text(i->workdir ? i->workdir : ""));
	json_object_set_new(config, "Volumes", or_null(i->volumes.n > 0, set_json(&i->volumes)));
	json_object_set_new(config, "Labels", or_null(i->labels.n > 0, json_from_pairs(&i->labels)));
	if (i->exposed_ports.n)
		json_object_set_new(config, "ExposedPorts", set_json(&i->exposed_ports));
	if (i->stop_signal)
		json_object_set_new(config, "StopSignal", json_from_text(i->stop_signal));
	if (!json_object_get(config, "OnBuild"))
		json_object_set_new(config, "OnBuild", json_null());
	return config;
}

static json_t *root_json(const json_t *document)
{
	json_t *layers = json_object_get(json_object_get(document, "rootfs"), "diff_ids");
	json_t *root = json_pack("{s:s}", "Type", "layers");

	json_object_set(root, "Layers", layers);
	return root;
}

/* The comment of the newest step, as in Docker. */
static json_t *comment_json(const json_t *document)
{
	const json_t *history = json_object_get(document, "history");
	size_t n = json_array_size(history);

	return text_of(n ? json_array_get(history, n - 1) : NULL, "comment");
}

static json_t *descriptor_json(const struct oci_image *i, const json_t *manifest, size_t size)
{
	json_t *type = json_object_get(manifest, "mediaType");

	return json_pack("{s:o, s:s, s:I}", "mediaType",
		json_is_string(type) ? json_incref(type) : json_string(MANIFEST_TYPE), "digest", i->manifest,
		"size", (json_int_t)size);
}

static json_t *metadata_json(const struct oci_image *i)
{
	return json_pack(
		"{s:o, s:o}", "LastTagTime", inspect_time_json(0), "LastUsed", inspect_time_json(i->used_ns));
}

int inspect_image_json(struct app *a, const struct oci_image *i, json_t **ret, struct err *e)
{
	CLEANUP(strv_done) struct strv tags = {0}, digests = {0};
	json_t *config = NULL, *manifest = NULL;
	size_t config_size = 0, manifest_size = 0;

	int r = oci_image_names(a->store, i, &tags, &digests, e);
	if (r == 0)
		r = read_document(a, i, OCI_DOC_CONFIG, &config, &config_size, e);
	if (r == 0)
		r = read_document(a, i, OCI_DOC_MANIFEST, &manifest, &manifest_size, e);
	if (r == 0) {
		json_t *j = json_object();
		json_object_set_new(j, "Id", json_string(i->id));
		json_object_set_new(j, "RepoTags", familiar_json(&tags));
		json_object_set_new(j, "RepoDigests", familiar_json(&digests));
		json_object_set_new(j, "Parent", json_string(""));
		json_object_set_new(j, "Comment", comment_json(config));
		json_object_set_new(j, "Created", inspect_time_json(i->created_ns));
		json_object_set_new(j, "DockerVersion", text_of(config, "docker_version"));
		json_object_set_new(j, "Author", text_of(config, "author"));
		json_object_set_new(j, "Config", config_json(i, config));
		json_object_set_new(j, "Architecture", json_from_text(i->arch ? i->arch : ""));
		if (i->variant && *i->variant)
			json_object_set_new(j, "Variant", json_from_text(i->variant));
		json_object_set_new(j, "Os", json_from_text(i->os ? i->os : ""));
		if (json_object_get(config, "os.version"))
			json_object_set_new(j, "OsVersion", text_of(config, "os.version"));
		json_object_set_new(j, "Size", json_integer((json_int_t)i->size));
		json_object_set_new(j, "VirtualSize", json_integer((json_int_t)i->size));
		json_object_set_new(j, "GraphDriver",
			json_pack("{s:s, s:{s:s}}", "Name", "erofs", "Data", "ChainId", i->chain_id));
		json_object_set_new(j, "RootFS", root_json(config));
		json_object_set_new(j, "Metadata", metadata_json(i));
		json_object_set_new(j, "Descriptor", descriptor_json(i, manifest, manifest_size));
		json_object_set_new(j, "Digest", json_string(i->manifest));
		*ret = j;
	}
	json_decref(config);
	json_decref(manifest);
	return r;
}
