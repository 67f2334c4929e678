/* SPDX-License-Identifier: MIT */
/* Signals to the workload, which is init of its PID namespace. */
#ifndef GUEST_SIGNALS_H
#define GUEST_SIGNALS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Sends sig to the init of a PID namespace below ours, with the effect that it would have on any other process: the
 * kernel drops a signal whose default action is to end an init that installed no handler (pid_namespaces(7)), so
 * that a plain `sleep` could only be killed. Such a signal is turned into SIGKILL. Returns true if it was; the
 * process then ends as if by sig. proc: /proc of our own namespace, in which pid is looked up.
 */
bool signals_to_init(int proc, pid_t pid, int sig);

/*
 * Whether the text of /proc/PID/status says that sig would have its default action: neither caught, ignored nor
 * blocked. False for text that does not say.
 */
bool signals_default_action(const char *status, int sig);

#endif
