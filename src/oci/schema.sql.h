/* SPDX-License-Identifier: MIT */
/*
 * The images' part of the database.
 *
 *   image_manifests  one row per image; everything that listing and running need, so that neither reads a blob
 *   image_names      normalised name ("docker.io/library/alpine:3.20", or "…@sha256:…") to manifest; digest is what
 *                    the registry serves under it, which for a multi-platform image is that of its index
 *   image_blobs      content that a manifest needs, itself and its configuration included
 *   image_disks      disks that are complete, with the bytes of content in each
 *   image_refs       boxes that need an image
 *
 * A row of image_manifests with doomed = 1 was removed by the user while a box held it: it is hidden, and
 * goes when the last holder does.
 */
#ifndef OCI_SCHEMA_SQL_H
#define OCI_SCHEMA_SQL_H

#define OCI_SCHEMA_PROBE "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'image_refs'"

/* clang-format off */
#define OCI_SCHEMA \
	"CREATE TABLE IF NOT EXISTS image_manifests(" \
	"  digest TEXT PRIMARY KEY, config TEXT NOT NULL, chain TEXT NOT NULL, size INTEGER NOT NULL," \
	"  created_ns INTEGER NOT NULL, added_ns INTEGER NOT NULL, os TEXT, arch TEXT, variant TEXT," \
	"  exec TEXT NOT NULL, doomed INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;" \
	"CREATE INDEX IF NOT EXISTS image_manifests_config ON image_manifests(config);" \
	"CREATE INDEX IF NOT EXISTS image_manifests_chain ON image_manifests(chain);" \
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
	"CREATE INDEX IF NOT EXISTS image_refs_manifest ON image_refs(manifest);"
/* clang-format on */

#endif
