/* SPDX-License-Identifier: MIT */
/* The control connection to the host: boot handshake, then commands. See wire.h, CONTROL. */
#ifndef GUEST_CONTROL_H
#define GUEST_CONTROL_H

#include <stdbool.h>

#include "wire/wire.h"

/* Begins to connect to the host; does not wait. Returns the socket or -errno. */
int control_connect(void);
/* Waits for the connection and says HELLO. 0 or -errno. */
int control_hello(int fd);
/* Waits for CONFIG; what follows it stays in *rest. 0 or -errno. */
int control_config(int fd, struct buf *rest, struct wire_config *ret);
/* Sends one complete buffer of frames, waiting at most a few seconds. 0 or -errno. */
int control_send(int fd, const struct buf *frames);
/* After the last frame: waits until the device has taken it, or the host has closed; bounded. */
void control_drain(int fd);
/* A socket that listens for sessions. Descriptor or -errno. */
int control_listen_sessions(void);

#endif
