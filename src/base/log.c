/* SPDX-License-Identifier: MIT */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>

#include "base/err.h"

static enum log_level current = LOG_LVL_WARN;
static const char *prog_name = "a3s-box";
static void (*_Atomic before)(void);

void log_init(const char *prog)
{
	static const char *const names[] = {"error", "warn", "info", "debug"};
	const char *env = getenv("A3S_LOG");

	prog_name = prog;
	for (size_t i = 0; env && i < ARRAY_LEN(names); i++) {
		if (strcmp(env, names[i]) == 0)
			current = (enum log_level)i;
	}
}

enum log_level log_get_level(void)
{
	return current;
}

void log_set_before(void (*fn)(void))
{
	atomic_store(&before, fn);
}

void log_write(enum log_level level, const char *fmt, ...)
{
	if (level > current)
		return;
	va_list ap;
	va_start(ap, fmt);
	char msg[1024], safe[4096], line[4352];
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	text_escape(safe, sizeof(safe), msg);
	int n = snprintf(
		line, sizeof(line), "%s: %s%s\n", prog_name, level == LOG_LVL_WARN ? "warning: " : "", safe);
	void (*clear)(void) = atomic_load(&before);
	if (clear)
		clear();
	if (n > 0 && write(STDERR_FILENO, line, (size_t)n) < 0)
		return;
}
