/* SPDX-License-Identifier: MIT */
/* Platforms in Go's words, as images name them. */
#include <string.h>
#include <strings.h>
#include <sys/utsname.h>

#include "manifest.h"

/* kernel machine name, Go's architecture, and the variant that is implied when none is written */
static const struct {
	const char *machine, *arch, *variant;
} machines[] = {
	{"x86_64", "amd64", NULL},
	{"aarch64", "arm64", "v8"},
	{"armv7l", "arm", "v7"},
	{"riscv64", "riscv64", NULL},
};

static const char *implied_variant(const char *arch)
{
	for (size_t i = 0; i < ARRAY_LEN(machines); i++)
		if (strcmp(arch, machines[i].arch) == 0)
			return machines[i].variant;
	return NULL;
}

static int host_platform(struct oci_platform *p, struct err *e)
{
	struct utsname u;

	if (uname(&u) < 0)
		return err_sys(e, -errno, "cannot learn the host's architecture");
	const char *arch = u.machine;
	for (size_t i = 0; i < ARRAY_LEN(machines); i++)
		if (strcmp(u.machine, machines[i].machine) == 0)
			arch = machines[i].arch;
	p->os = strdup("linux");
	p->arch = strdup(arch);
	return p->os && p->arch ? 0 : err_oom(e);
}

static bool word_valid(const char *s, size_t n)
{
	if (n == 0 || n > 64)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') ||
			    (s[i] >= '0' && s[i] <= '9') || strchr("._-", s[i])))
			return false;
	return true;
}

static int parse_words(const char *s, struct oci_platform *p, struct err *e)
{
	char **fields[] = {&p->os, &p->arch, &p->variant};
	size_t i = 0;

	for (const char *w = s;; w++) {
		size_t n = strcspn(w, "/");
		if (i == ARRAY_LEN(fields) || !word_valid(w, n))
			return err_set(
				e, -EINVAL, "invalid platform \"%s\": expected os/architecture[/variant]", s);
		*fields[i] = strndup(w, n);
		if (!*fields[i++])
			return err_oom(e);
		w += n;
		if (!*w)
			break;
	}
	if (i < 2)
		return err_set(e, -EINVAL, "invalid platform \"%s\": expected os/architecture[/variant]", s);
	for (size_t k = 0; k < ARRAY_LEN(machines); k++)
		if (strcasecmp(p->arch, machines[k].machine) == 0) {
			free(p->arch);
			p->arch = strdup(machines[k].arch);
			return p->arch ? 0 : err_oom(e);
		}
	return 0;
}

int oci_platform_parse(const char *s, struct oci_platform *ret, struct err *e)
{
	struct oci_platform p = {0};
	int r = s ? parse_words(s, &p, e) : host_platform(&p, e);

	if (r < 0) {
		oci_platform_done(&p);
		return r;
	}
	*ret = p;
	return 0;
}

void oci_platform_done(struct oci_platform *p)
{
	free(p->os);
	free(p->arch);
	free(p->variant);
	*p = (struct oci_platform){0};
}

bool oci_platform_matches(const struct oci_platform *have, const struct oci_platform *want)
{
	if (!have->os || !have->arch || strcmp(have->os, want->os) != 0 ||
		strcmp(have->arch, want->arch) != 0)
		return false;
	const char *h = have->variant ? have->variant : implied_variant(have->arch);
	const char *w = want->variant ? want->variant : implied_variant(want->arch);
	/* amd64/v2 and the like ask for more than every machine has; without them anything goes. */
	if (!h || !w)
		return !h || (!w && strcmp(have->arch, "amd64") != 0);
	return strcmp(h, w) == 0;
}

char *oci_platform_text(const struct oci_platform *p, char *buf, size_t size)
{
	snprintf(buf, size, "%s/%s%s%s", p->os ? p->os : "?", p->arch ? p->arch : "?", p->variant ? "/" : "",
		p->variant ? p->variant : "");
	return buf;
}
