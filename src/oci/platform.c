/* SPDX-License-Identifier: MIT */
/* Platforms in Go's words, as images name them; variants are compared as in containerd. */
#include <ctype.h>
#include <string.h>
#include <strings.h>
#include <sys/utsname.h>

#include "manifest.h"

/* What people and kernels call an architecture, Go's name for it, and the variant that this says, if any. */
static const struct {
	const char *word, *arch, *variant;
} words[] = {
	{"x86_64", "amd64", NULL},
	{"x86-64", "amd64", NULL},
	{"aarch64", "arm64", NULL},
	{"armhf", "arm", "v7"},
	{"armel", "arm", "v6"},
	{"armv5l", "arm", "v5"},
	{"armv6l", "arm", "v6"},
	{"armv7l", "arm", "v7"},
	{"armv8l", "arm", "v8"},
	{"i386", "386", NULL},
	{"i686", "386", NULL},
	{"loongarch64", "loong64", NULL},
};

static const char *const systems[] = {"linux", "windows", "darwin", "freebsd", "netbsd", "openbsd",
	"dragonfly", "solaris", "illumos", "aix", "wasip1"};
static const char *const architectures[] = {"amd64", "arm64", "arm", "386", "riscv64", "ppc64le", "ppc64",
	"s390x", "loong64", "mips", "mipsle", "mips64", "mips64le", "wasm"};

static bool is_one_of(const char *s, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(s, list[i]) == 0)
			return true;
	return false;
}

/* Go's name of an architecture; *variant (malloc'd) is set where the word says one and none is given. */
static int translate_arch(char **arch, char **variant)
{
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (strcmp(*arch, words[i].word) != 0)
			continue;
		free(*arch);
		*arch = strdup(words[i].arch);
		if (words[i].variant && !*variant) {
			*variant = strdup(words[i].variant);
			if (!*variant)
				return -ENOMEM;
		}
		return *arch ? 0 : -ENOMEM;
	}
	return 0;
}

/* Fills in what is missing. */
static int complete(struct oci_platform *p, struct err *e)
{
	struct utsname u;

	if (!p->os) {
		p->os = strdup("linux");
		if (!p->os)
			return err_oom(e);
	}
	if (!p->arch) {
		if (uname(&u) < 0)
			return err_sys(e, -errno, "cannot learn the host's architecture");
		p->arch = strdup(u.machine);
	}
	return p->arch && translate_arch(&p->arch, &p->variant) == 0 ? 0 : err_oom(e);
}

static char *take_word(const char *s, size_t n)
{
	char *w = n > 0 && n <= 64 ? strndup(s, n) : NULL;

	for (size_t i = 0; w && i < n; i++) {
		if (!isascii(w[i]) || (!isalnum((unsigned char)w[i]) && !strchr("._-", w[i]))) {
			free(w);
			return NULL;
		}
		w[i] = (char)tolower((unsigned char)w[i]);
	}
	return w;
}

static int parse_words(const char *s, struct oci_platform *p)
{
	char **fields[] = {&p->os, &p->arch, &p->variant};
	size_t n = 0;

	for (const char *w = s;; w++) {
		size_t len = strcspn(w, "/");
		if (n == ARRAY_LEN(fields))
			return -EINVAL;
		*fields[n] = take_word(w, len);
		if (!*fields[n++])
			return -EINVAL;
		w += len;
		if (!*w)
			break;
	}
	if (n > 1 || is_one_of(p->os, systems, ARRAY_LEN(systems)))
		return 0;
	/* One word alone may be an architecture. */
	p->arch = TAKE_PTR(p->os);
	int r = translate_arch(&p->arch, &p->variant);
	if (r < 0)
		return r;
	return is_one_of(p->arch, architectures, ARRAY_LEN(architectures)) ? 0 : -EINVAL;
}

int oci_platform_parse(const char *s, struct oci_platform *ret, struct err *e)
{
	CLEANUP(oci_platform_done) struct oci_platform p = {0};

	if (s && parse_words(s, &p) < 0)
		return err_set(
			e, -EINVAL, "invalid platform \"%.100s\": expected os/architecture[/variant]", s);
	int r = complete(&p, e);
	if (r < 0)
		return r;
	*ret = p;
	p = (struct oci_platform){0};
	return 0;
}

void oci_platform_done(struct oci_platform *p)
{
	free(p->os);
	free(p->arch);
	free(p->variant);
	*p = (struct oci_platform){0};
}

/* "v8.2" or "8.2" in tenths, 82; 0 for what is no number. */
static unsigned level_of(const char *variant)
{
	const char *s = variant + (*variant == 'v');
	unsigned major = 0, minor = 0;

	if (s[0] < '1' || s[0] > '9')
		return 0;
	major = (unsigned)(s[0] - '0');
	if (s[1] == '.' && s[2] >= '0' && s[2] <= '9' && !s[3])
		minor = (unsigned)(s[2] - '0');
	else if (s[1])
		return 0;
	return major * 10 + minor;
}

/* Where a variant is a level that contains all lower ones: the one that is meant when none is written. */
static unsigned implied_level(const char *arch)
{
	if (strcmp(arch, "amd64") == 0)
		return 10;
	if (strcmp(arch, "arm64") == 0)
		return 80;
	return strcmp(arch, "arm") == 0 ? 70 : 0;
}

static unsigned rank_variant(const char *arch, const char *have, const char *want)
{
	unsigned implied = implied_level(arch);

	if (implied) {
		unsigned h = have ? level_of(have) : implied, w = want ? level_of(want) : implied;
		if (h && w)
			return h <= w ? 1000 - (w - h) : 0;
	}
	if (have && want)
		return strcmp(have, want) == 0 ? 1000 : 0;
	return !have && !want ? 1000 : 800;
}

unsigned oci_platform_rank(const struct oci_platform *have, const struct oci_platform *want)
{
	if (!have->os || !have->arch || strcasecmp(have->os, want->os) != 0)
		return 0;
	const char *arch = have->arch, *variant = have->variant;
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (strcasecmp(arch, words[i].word) == 0) {
			arch = words[i].arch;
			variant = variant ? variant : words[i].variant;
			break;
		}
	if (strcasecmp(arch, want->arch) != 0)
		return 0;
	unsigned rank = rank_variant(want->arch, variant, want->variant);
	/* No feature is defined for Linux: what asks for one is taken when there is nothing else. */
	return rank && have->features ? rank - 500 : rank;
}

bool oci_platform_matches(const struct oci_platform *have, const struct oci_platform *want)
{
	struct oci_platform same = *have;

	/* A configuration may leave out what the index says of it. */
	if (!same.variant)
		same.variant = want->variant;
	return oci_platform_rank(&same, want) > 0;
}

char *oci_platform_text(const struct oci_platform *p, char *buf, size_t size)
{
	snprintf(buf, size, "%s/%s%s%s", p->os ? p->os : "?", p->arch ? p->arch : "?", p->variant ? "/" : "",
		p->variant ? p->variant : "");
	return buf;
}
