/* SPDX-License-Identifier: MIT */
/* Detach keys: the key sequence with which a user leaves a terminal session without ending it. */
#ifndef CLI_DETACH_H
#define CLI_DETACH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define DETACH_KEYS_DEFAULT "ctrl-p,ctrl-q"
#define DETACH_HELP	    "keys that leave it running, \"\" for none [" DETACH_KEYS_DEFAULT "]"

enum { DETACH_KEYS_MAX = 16 };

struct detach {
	uint8_t keys[DETACH_KEYS_MAX];
	size_t n;    /* 0: nothing detaches */
	size_t held; /* keys[0..held) were typed, and not passed on yet */
};

/*
 * Reads Docker's notation: keys separated by commas, each one character or ctrl-X with X of a-z @ [ \ ] ^ _. NULL means the
 * default, "" none. ret may be NULL, to check only. 0 or -EINVAL, whose message names --detach-keys.
 */
int detach_parse(const char *s, struct detach *ret, struct err *e);
/*
 * Takes typed bytes; writes what is to be passed on to out, which has room for n + DETACH_KEYS_MAX bytes. Returns how many
 * that are. *ret_detached becomes true at the last key of the sequence; what follows it is dropped.
 */
size_t detach_filter(struct detach *d, const uint8_t *in, size_t n, uint8_t *out, bool *ret_detached);
/* Gives up on the sequence begun: writes the keys held to out, returns how many. */
size_t detach_release(struct detach *d, uint8_t *out);

#endif
