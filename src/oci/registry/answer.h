/* SPDX-License-Identifier: MIT */
/* What a registry's error says (distribution specification, "Error Codes"). */
#ifndef OCI_REGISTRY_ANSWER_H
#define OCI_REGISTRY_ANSWER_H

#include <stddef.h>

/*
 * For a person, one line, bounded, without control characters: "manifest unknown: …" of {"errors": [{code,
 * message}]}, or what a token server says ("details", "error_description"), or the first line of plain text;
 * empty for anything else. type: Content-Type, or NULL. Returns buf.
 */
char *oci_answer_text(const char *body, const char *type, char *buf, size_t size);

#endif
