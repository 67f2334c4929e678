/* SPDX-License-Identifier: MIT */
#ifndef BOX_SCHEMA_H
#define BOX_SCHEMA_H

/* Times are ns since the epoch; config is JSON (config.c), and so is machine (sup-machine.c). */
/* States in which somebody owns the box: box_is_live. */
#define BOX_LIVE_SQL "('starting','running','paused','restarting','stopping')"

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

#endif
