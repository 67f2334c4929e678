/* SPDX-License-Identifier: MIT */
#ifndef WIRE_FIELDS_H
#define WIRE_FIELDS_H

#include "wire/wire.h"

void put_be32(uint8_t *p, uint32_t v);
uint32_t get_be32(const uint8_t *p);
/* Appends a string field to a list of at most WIRE_LIST_MAX entries. */
int wire_field_push_str(const struct wire_field *f, struct strv *list);

#endif
