/* SPDX-License-Identifier: MIT */
/* Diagnostics for developers and operators, to standard error, filtered by A3S_LOG. Libraries log at debug only. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/cleanup.h"

enum log_level { LOG_LVL_ERROR, LOG_LVL_WARN, LOG_LVL_INFO, LOG_LVL_DEBUG };

/* Reads A3S_LOG (error, warn, info, debug; default warn). prog must stay valid. */
void log_init(const char *prog);
enum log_level log_get_level(void);
/* Called before a line is written, in whatever thread that is, to clear the screen for it; it must not log. NULL: nothing. */
void log_set_before(void (*fn)(void));
void log_write(enum log_level level, const char *fmt, ...) PRINTF(2, 3);

#define log_error(...) log_write(LOG_LVL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_LVL_WARN, __VA_ARGS__)
#define log_info(...)  log_write(LOG_LVL_INFO, __VA_ARGS__)
#define log_debug(...) \
	do { \
		if (log_get_level() >= LOG_LVL_DEBUG) \
			log_write(LOG_LVL_DEBUG, __VA_ARGS__); \
	} while (0)

#endif
