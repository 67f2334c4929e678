/* SPDX-License-Identifier: MIT */
/*
 * The images' part of the database.
 *
 *   image_manifests  one row per image; everything that listing and running need, so that neither reads a blob
 *   image_names      normalised name ("docker.io/library/alpine:3.20", or "…@sha256:…") to manifest; digest is what
 *                    the registry serves under it, which for a multi-platform image is that of its index
 *   image_blobs      content that a manifest needs, itself and its configuration included
 *   image_disks      disks that are complete, with the bytes of content in each
 *   image_refs       boxes and snapshots (their ID behind "snapshot:") that need an image
 *   image_remotes    names under which registries serve an image: it was pulled or pushed so. Docker's RepoDigests
 *   image_use        when an image was last used, and whether it came from a registry and may be evicted
 *   image_indexes    indexes that names lead to; complete: everything that they name is here
 *   image_index_blobs   content that such an index needs beyond the image that was chosen from it, itself included
 *   image_layers     bytes of content that a layer (diff ID) brings
 *   image_signatures signatures that were found good for a served digest: kind "simple" or "bundle", and its texts
 *   image_disks_unsynced   disks that a power cut may have torn, with the boot that they are good in: unsynced.h
 *   image_sweep      a row for each change that left files without rows, until they have been deleted
 *
 * Rows of image_remotes, image_use, image_layers and image_signatures, and indexes, serve names or manifests: they go with
 * the last one that needs them.
 *
 * A row of image_manifests with doomed = 1 was removed by the user while a box held it: it is hidden, and
 * goes when the last holder does.
 */
#ifndef OCI_SCHEMA_SQL_H
#define OCI_SCHEMA_SQL_H

/* What came last: a home that has it has everything. */
#define OCI_SCHEMA_PROBE "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'image_disks_unsynced'"

/* clang-format off */
#define OCI_SCHEMA \
	"CREATE TABLE IF NOT EXISTS image_manifests(" \
	"  digest TEXT PRIMARY KEY, config TEXT NOT NULL, chain TEXT NOT NULL, size INTEGER NOT NULL," \
	"  created_ns INTEGER NOT NULL, added_ns INTEGER NOT NULL, os TEXT, arch TEXT, variant TEXT," \
	"  exec TEXT NOT NULL, doomed INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;" \
	"CREATE INDEX IF NOT EXISTS image_manifests_config ON image_manifests(config);" \
	"CREATE INDEX IF NOT EXISTS image_manifests_chain ON image_manifests(chain);" \
	"CREATE INDEX IF NOT EXISTS image_manifests_doomed ON image_manifests(digest) WHERE doomed;" \
	"CREATE TABLE IF NOT EXISTS image_names(" \
	"  name TEXT PRIMARY KEY, repo TEXT NOT NULL, digest TEXT NOT NULL, manifest TEXT NOT NULL) WITHOUT ROWID;" \
	"CREATE INDEX IF NOT EXISTS image_names_manifest ON image_names(manifest);" \
	"CREATE INDEX IF NOT EXISTS image_names_repo ON image_names(repo);" \
	"CREATE TABLE IF NOT EXISTS image_blobs(" \
	"  manifest TEXT NOT NULL, pos INTEGER NOT NULL, digest TEXT NOT NULL, diff TEXT," \
	"  PRIMARY KEY(manifest, pos)) WITHOUT ROWID;" \
	"CREATE INDEX IF NOT EXISTS image_blobs_digest ON image_blobs(digest);" \
	"CREATE TABLE IF NOT EXISTS image_disks(chain TEXT PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID;" \
	"CREATE TABLE IF NOT EXISTS image_refs(" \
	"  holder TEXT NOT NULL, manifest TEXT NOT NULL, PRIMARY KEY(holder, manifest)) WITHOUT ROWID;" \
	"CREATE INDEX IF NOT EXISTS image_refs_manifest ON image_refs(manifest);" \
	"CREATE TABLE IF NOT EXISTS image_use(" \
	"  manifest TEXT PRIMARY KEY, used_ns INTEGER NOT NULL, pulled INTEGER NOT NULL) WITHOUT ROWID;" \
	"CREATE TABLE IF NOT EXISTS image_indexes(digest TEXT PRIMARY KEY, complete INTEGER NOT NULL) WITHOUT ROWID;" \
	"CREATE TABLE IF NOT EXISTS image_index_blobs(" \
	"  idx TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY(idx, digest)) WITHOUT ROWID;" \
	"CREATE INDEX IF NOT EXISTS image_index_blobs_digest ON image_index_blobs(digest);" \
	"CREATE TABLE IF NOT EXISTS image_layers(diff TEXT PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID;" \
	"CREATE TABLE IF NOT EXISTS image_signatures(" \
	"  digest TEXT NOT NULL, pos INTEGER NOT NULL, kind TEXT NOT NULL, payload BLOB NOT NULL, signature TEXT," \
	"  certificate TEXT, chain TEXT, log_entry TEXT, PRIMARY KEY(digest, pos)) WITHOUT ROWID;" \
	"CREATE TABLE IF NOT EXISTS image_remotes(" \
	"  manifest TEXT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL, repo TEXT NOT NULL," \
	"  PRIMARY KEY(manifest, name, digest)) WITHOUT ROWID;" \
	"CREATE INDEX IF NOT EXISTS image_remotes_repo ON image_remotes(repo);" \
	"CREATE INDEX IF NOT EXISTS image_names_digest ON image_names(digest);" \
	"CREATE TABLE IF NOT EXISTS image_sweep(id INTEGER PRIMARY KEY);" \
	"CREATE TABLE IF NOT EXISTS image_disks_unsynced(chain TEXT PRIMARY KEY, boot TEXT NOT NULL) WITHOUT ROWID;"
/* clang-format on */

#endif
