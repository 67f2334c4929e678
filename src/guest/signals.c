/* SPDX-License-Identifier: MIT */
#include "signals.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"

enum { STATUS_MAX = 16384 };

/* Default action is to do nothing, to stop or to continue: signal(7). SIGKILL needs no help. */
static bool ends_by_default(int sig)
{
	switch (sig) {
	case SIGCHLD:
	case SIGURG:
	case SIGWINCH:
	case SIGCONT:
	case SIGSTOP:
	case SIGTSTP:
	case SIGTTIN:
	case SIGTTOU:
	case SIGKILL:
		return false;
	default:
		return true;
	}
}

bool signals_default_action(const char *status, int sig)
{
	static const char *const sets[] = {"\nSigBlk:\t", "\nSigIgn:\t", "\nSigCgt:\t"};
	uint64_t handled = 0;

	for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
		const char *at = strstr(status, sets[i]);
		char *end;

		if (!at)
			return false;
		at += strlen(sets[i]);
		handled |= strtoull(at, &end, 16);
		if (end != at + 16)
			return false;
	}
	return !(handled >> (sig - 1) & 1);
}

bool signals_to_init(int proc, pid_t pid, int sig)
{
	CLEANUP_FREE char *status = NULL;
	char path[32];

	if (ends_by_default(sig)) {
		snprintf(path, sizeof(path), "%d/status", (int)pid);
		if (io_read_file_at(proc, path, STATUS_MAX, &status, NULL) == 0 &&
			signals_default_action(status, sig)) {
			kill(pid, SIGKILL);
			return true;
		}
	}
	kill(pid, sig);
	return false;
}
