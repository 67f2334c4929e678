/* SPDX-License-Identifier: MIT */
#ifndef BOX_SCHEMA_H
#define BOX_SCHEMA_H

/* Times are ns since the epoch; config is JSON (config.c), and so is machine (sup-machine.c). */
/* States in which somebody owns the box: box_is_live. */
#define BOX_LIVE_SQL "('starting','running','paused','restarting','stopping')"

/* The table that is made last (snapshot.c): with it, all are there. */
#define BOX_SCHEMA_PROBE "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'snapshots'"

#define BOX_SCHEMA \
	"CREATE TABLE IF NOT EXISTS boxes (" \
	" id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE," \
	" image TEXT NOT NULL, image_id TEXT NOT NULL, manifest TEXT NOT NULL, disk TEXT NOT NULL," \
	" state TEXT NOT NULL, exit_code INTEGER NOT NULL DEFAULT 0, error TEXT, accel TEXT," \
	" machine TEXT," \
	" created INTEGER NOT NULL, started INTEGER NOT NULL DEFAULT 0, finished INTEGER NOT NULL DEFAULT " \
	"0," \
	" auto_remove INTEGER NOT NULL, config TEXT NOT NULL," \
	" oom_killed INTEGER NOT NULL DEFAULT 0, stopped_by_user INTEGER NOT NULL DEFAULT 0," \
	" restart_count INTEGER NOT NULL DEFAULT 0, health TEXT, lost INTEGER NOT NULL DEFAULT 0) WITHOUT " \
	"ROWID;"

/*
 * Lists are JSON (config.c), isolation and policy as in net/policy.h, revision theirs. changed: its netd may not know of them
 * yet.
 */
#define NETWORK_SCHEMA \
	"CREATE TABLE IF NOT EXISTS networks (" \
	" id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, driver TEXT NOT NULL," \
	" subnet4 TEXT, gateway4 TEXT, subnet6 TEXT, gateway6 TEXT, internal INTEGER NOT NULL," \
	" isolation TEXT NOT NULL, policy TEXT, labels TEXT NOT NULL, opts TEXT NOT NULL," \
	" created INTEGER NOT NULL, changed INTEGER NOT NULL DEFAULT 0," \
	" revision INTEGER NOT NULL DEFAULT 1) WITHOUT ROWID;"

/* network: an ID, or "bridge", where every box has the same addresses. leaving: 0, or the change by which it goes. */
#define ENDPOINT_SCHEMA \
	"CREATE TABLE IF NOT EXISTS endpoints (" \
	" box TEXT NOT NULL REFERENCES boxes(id) ON DELETE CASCADE," \
	" network TEXT NOT NULL, link INTEGER NOT NULL," \
	" ip4 TEXT, ip6 TEXT, ip4_asked TEXT, ip6_asked TEXT, aliases TEXT NOT NULL," \
	" leaving INTEGER NOT NULL DEFAULT 0," \
	" PRIMARY KEY (box, network), UNIQUE (box, link)) WITHOUT ROWID;"
#define ENDPOINT_INDEX4 \
	"CREATE UNIQUE INDEX IF NOT EXISTS endpoints_ip4 ON endpoints(network, ip4) WHERE " \
	"network<>'bridge';"
#define ENDPOINT_INDEX6 \
	"CREATE UNIQUE INDEX IF NOT EXISTS endpoints_ip6 ON endpoints(network, ip6) WHERE " \
	"network<>'bridge';"

/* Live boxes whose supervisor has not acted on the last change, and its number, which no other change ever has. */
#define NETWORK_CHANGE_SCHEMA \
	"CREATE TABLE IF NOT EXISTS network_changes (" \
	" change INTEGER PRIMARY KEY AUTOINCREMENT," \
	" box TEXT NOT NULL UNIQUE REFERENCES boxes(id) ON DELETE CASCADE);"

/* labels and opts are lists in JSON (config.c). removing: it is nobody's any more, and goes. */
#define VOLUME_SCHEMA \
	"CREATE TABLE IF NOT EXISTS volumes (" \
	" name TEXT PRIMARY KEY, driver TEXT NOT NULL, labels TEXT NOT NULL, opts TEXT NOT NULL," \
	" created INTEGER NOT NULL, anonymous INTEGER NOT NULL," \
	" removing INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;"
#define VOLUME_REMOVING_INDEX \
	"CREATE INDEX IF NOT EXISTS volumes_removing ON volumes(removing) WHERE removing;"

/* Which box needs which. own: made for the box; goes: such a one is removed with it. */
#define VOLUME_USE_INDEX "CREATE INDEX IF NOT EXISTS volume_uses_volume ON volume_uses(volume);"
#define VOLUME_USE_SCHEMA \
	"CREATE TABLE IF NOT EXISTS volume_uses (" \
	" box TEXT NOT NULL REFERENCES boxes(id) ON DELETE CASCADE," \
	" volume TEXT NOT NULL REFERENCES volumes(name)," \
	" own INTEGER NOT NULL, goes INTEGER NOT NULL DEFAULT 0," \
	" PRIMARY KEY (box, volume)) WITHOUT ROWID;"

/* Of boxes that may be gone. endpoints: what it asked of its networks, as JSON (snapshot.c). */
#define SNAPSHOT_SCHEMA \
	"CREATE TABLE IF NOT EXISTS snapshots (" \
	" id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE," \
	" box_id TEXT NOT NULL, box_name TEXT NOT NULL," \
	" image TEXT NOT NULL, image_id TEXT NOT NULL, manifest TEXT NOT NULL, disk TEXT NOT NULL," \
	" description TEXT, created INTEGER NOT NULL, running INTEGER NOT NULL, config TEXT NOT NULL," \
	" endpoints TEXT NOT NULL) WITHOUT ROWID;"

#endif
