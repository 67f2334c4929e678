/* SPDX-License-Identifier: MIT */
/* What PID 1 tells the kernel about the machine. Errors are not fatal to a box and go to the console. */
#ifndef GUEST_SYSTEM_H
#define GUEST_SYSTEM_H

#include <stdbool.h>

#include "wire/wire.h"

/* Limits that every process of the box inherits, and our own protection. */
void system_init(void);
/* Brings up the loopback interface. */
void system_loopback_up(void);
/* Whether the processor is emulated and there are two of them or more: code that runs first is slow then. */
bool system_is_emulated(void);
/* Host name, clock, entropy. */
void system_configure(const struct wire_config *c);
/* One line on the console. */
void system_complain(const char *fmt, ...) PRINTF(1, 2);
/* The box's epoll watches are root's, as ours are: their number must not be what stops our event loop. */
void system_allow_watches(int proc);
/* Ends the machine. */
_Noreturn void system_end(void);

#endif
