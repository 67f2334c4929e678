/* SPDX-License-Identifier: MIT */
#ifndef WIRE_FIELDS_H
#define WIRE_FIELDS_H

#include "wire/wire.h"

void put_be32(uint8_t *p, uint32_t v);
uint32_t get_be32(const uint8_t *p);
void put_be64(uint8_t *p, uint64_t v);
uint64_t get_be64(const uint8_t *p);
/* Puts msg as one frame if r is 0, and releases msg either way. Returns r, or why the frame could not be put. */
int wire_put_message(struct buf *out, enum wire_type type, struct buf *msg, int r);
/* A repeated field. */
int wire_field_list(struct buf *msg, uint8_t tag, const struct strv *list);
/* The fields of limits, without a frame around them. */
int wire_limits_fields(struct buf *msg, const struct wire_limits *l);
/* Into an empty *ret, which is empty again on failure. */
int wire_limits_parse(const uint8_t *p, size_t len, struct wire_limits *ret);
/* The same of networks. */
int wire_network_fields(struct buf *msg, const struct wire_network *n);
int wire_network_parse(const uint8_t *p, size_t len, struct wire_network *ret);
/* Mounts, a field with this tag each; and one of them, appended to *v, which the first one makes. */
int wire_mounts_fields(struct buf *msg, uint8_t tag, const struct wire_mount *v, size_t n);
int wire_mounts_push(const struct wire_field *f, struct wire_mount **v, size_t *n);
/* Appends a string field to a list of at most WIRE_LIST_MAX entries. */
int wire_field_push_str(const struct wire_field *f, struct strv *list);

#endif
