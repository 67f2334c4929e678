/* SPDX-License-Identifier: MIT */
/* Any text as an instruction that changes a configuration; behind a first line, which is the configuration. */
#include <stdint.h>
#include <string.h>

#include "base/io.h"
#include "changes.h"
#include "manifest.h"

#define ROOTFS \
	"\"rootfs\":{\"diff_ids\":[\"sha256:" \
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"]}}"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A configuration that was good is so afterwards: an image made with it can be used. */
static void check(json_t *config, bool good)
{
	CLEANUP(oci_config_done) struct oci_config c = {0};
	CLEANUP_FREE char *text = json_dumps(config, JSON_COMPACT);
	CLEANUP_FREE char *whole = text ? str_printf("{\"config\":%s,%s", text, ROOTFS) : NULL;
	struct err e = {0};

	if (whole && strlen(whole) < OCI_JSON_MAX && oci_config_parse(whole, strlen(whole), &c, &e) < 0 &&
		good)
		abort();
}

static bool is_good(json_t *config)
{
	CLEANUP(oci_config_done) struct oci_config c = {0};
	CLEANUP_FREE char *text = json_dumps(config, JSON_COMPACT);
	CLEANUP_FREE char *whole = text ? str_printf("{\"config\":%s,%s", text, ROOTFS) : NULL;

	return whole && oci_config_parse(whole, strlen(whole), &c, NULL) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_FREE char *text = malloc(size + 1);
	struct err e = {0};

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	char *line = strchr(text, '\n');
	json_t *config = line ? json_loadb(text, (size_t)(line - text), 0, NULL) : NULL;
	if (!json_is_object(config)) {
		json_decref(config);
		config = json_object();
		line = NULL;
	}
	bool good = is_good(config);
	if (oci_config_change(config, line ? line + 1 : text, &e) == 0)
		check(config, good);
	else if (e.code >= 0)
		abort();
	json_decref(config);
	return 0;
}
