/* SPDX-License-Identifier: MIT */
/*
 * Build-time tool: Docker's default profile as C, and what it compiles to under Docker's default capabilities.
 *
 *     mkseccomp x86_64|aarch64 PROFILE FILTER.c PROFILE.c
 *
 * Two files, so that the supervisor is linked with the filter alone.
 */
#include <linux/audit.h>
#include <stdbool.h>
#include <string.h>

#include "box/caps.h"
#include "box/seccomp.h"

static int write_array(const char *path, const char *type, const char *name, const void *data, size_t len)
{
	const uint8_t *p = data;
	FILE *f = fopen(path, "we");

	if (!f)
		return -errno;
	/* Instructions of the filter are read in place. */
	fprintf(f, "/* Made by mkseccomp. */\n#include \"box/seccomp.h\"\n\n_Alignas(8) const %s %s[] = {",
		type, name);
	for (size_t i = 0; i < len; i++)
		fprintf(f, "%s%u,", i % 24 ? "" : "\n\t", p[i]);
	fprintf(f, "\n};\nconst size_t %s_len = %zu;\n", name, len);
	bool failed = ferror(f);
	return fclose(f) != 0 || failed ? -EIO : 0;
}

int main(int argc, char **argv)
{
	static char profile[BOX_SECCOMP_PROFILE_MAX];
	uint8_t *filter = NULL;
	size_t filter_len = 0;
	struct err e = {0};

	if (argc != 5) {
		fprintf(stderr, "usage: mkseccomp ARCH PROFILE FILTER.c PROFILE.c\n");
		return 1;
	}
	FILE *f = fopen(argv[2], "re");
	size_t len = f ? fread(profile, 1, sizeof(profile), f) : 0;
	if (!f || ferror(f)) {
		perror(argv[2]);
		return 1;
	}
	fclose(f);
	uint32_t arch = strcmp(argv[1], "aarch64") == 0 ? AUDIT_ARCH_AARCH64 : AUDIT_ARCH_X86_64;
	int r = box_seccomp_compile(profile, len, BOX_CAPS_DEFAULT, arch, &filter, &filter_len, &e);
	if (r < 0) {
		fprintf(stderr, "%s: %s\n", argv[2], e.msg);
		return 1;
	}
	r = write_array(argv[3], "uint8_t", "box_seccomp_default_filter", filter, filter_len);
	if (r == 0)
		r = write_array(argv[4], "char", "box_seccomp_default_profile", profile, len);
	free(filter);
	if (r < 0)
		fprintf(stderr, "mkseccomp: %s\n", strerror(-r));
	return r < 0;
}
