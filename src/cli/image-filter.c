/* SPDX-License-Identifier: MIT */
#include "image-filter.h"

#include <fnmatch.h>
#include <string.h>

#include "base/io.h"
#include "base/units.h"
#include "filter.h"

static const char *const keys[] = {"dangling", "label", "label!", "before", "since", "reference", "until"};

struct condition {
	size_t key;	   /* the index of its name, and its bit in enum image_filter_key */
	const char *value; /* borrowed from the options */
	int64_t time_ns;   /* BEFORE, SINCE, UNTIL */
	bool yes;	   /* DANGLING */
};

struct image_filter {
	struct condition *conditions;
	size_t n;
};

void image_filter_free(struct image_filter *f)
{
	if (!f)
		return;
	free(f->conditions);
	free(f);
}

static unsigned bit(const struct condition *c)
{
	return 1u << c->key;
}

static int parse_value(const char *given, struct condition *c, struct err *e)
{
	switch (bit(c)) {
	case IMAGE_FILTER_DANGLING:
		c->yes = strcmp(c->value, "true") == 0 || strcmp(c->value, "1") == 0;
		if (!c->yes && strcmp(c->value, "false") != 0 && strcmp(c->value, "0") != 0)
			return err_set(e, -EINVAL, "--filter %s: expected true or false", given);
		return 0;
	case IMAGE_FILTER_UNTIL:
		if (parse_time_ns(c->value, time_real_ns(), &c->time_ns) < 0)
			return err_set(e, -EINVAL,
				"--filter %s: expected a duration like 24h, or a time like "
				"2024-05-01T12:30:00Z",
				given);
		return 0;
	default:
		return 0;
	}
}

static int no_such_key(const char *given, unsigned allowed, struct err *e)
{
	char list[160] = "";
	size_t len = 0;

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		if (allowed & 1u << i)
			len += (size_t)snprintf(
				list + len, sizeof(list) - len, "%s%s", len ? ", " : "", keys[i]);
	}
	err_set(e, -EINVAL, "--filter %s: no such filter", given);
	return err_hint(e, "there are %s, each with =VALUE", list);
}

static int parse_condition(const char *given, unsigned allowed, struct condition *c, struct err *e)
{
	size_t n = strcspn(given, "=");

	for (size_t i = 0; given[n] && i < ARRAY_LEN(keys); i++) {
		if (!(allowed & 1u << i) || strlen(keys[i]) != n || strncmp(keys[i], given, n) != 0)
			continue;
		*c = (struct condition){.key = i, .value = given + n + 1};
		if (!*c->value)
			return err_set(e, -EINVAL, "--filter %s: a value is missing", given);
		return parse_value(given, c, e);
	}
	return no_such_key(given, allowed, e);
}

int image_filter_parse(const struct strv *given, const char *reference, unsigned allowed,
	struct image_filter **ret, struct err *e)
{
	CLEANUP(image_filter_freep) struct image_filter *f = calloc(1, sizeof(*f));

	if (!f)
		return err_oom(e);
	f->conditions = calloc(given->n + 1, sizeof(*f->conditions));
	if (!f->conditions)
		return err_oom(e);
	for (size_t i = 0; i < given->n; i++) {
		int r = parse_condition(given->v[i], allowed, &f->conditions[f->n++], e);
		if (r < 0)
			return r;
	}
	if (reference)
		f->conditions[f->n++] = (struct condition){
			.key = (size_t)__builtin_ctz(IMAGE_FILTER_REFERENCE), .value = reference};
	*ret = TAKE_PTR(f);
	return 0;
}

int image_filter_take_dangling(struct image_filter *f)
{
	size_t kept = 0;
	int r = -1;

	for (size_t i = 0; i < f->n; i++) {
		if (bit(&f->conditions[i]) == IMAGE_FILTER_DANGLING)
			r = r == 1 || f->conditions[i].yes;
		else
			f->conditions[kept++] = f->conditions[i];
	}
	f->n = kept;
	return r;
}

int image_filter_resolve(struct image_filter *f, struct app *a, struct err *e)
{
	for (size_t i = 0; i < f->n; i++) {
		struct condition *c = &f->conditions[i];
		CLEANUP(oci_image_freep) struct oci_image *image = NULL;
		if (!(bit(c) & (IMAGE_FILTER_BEFORE | IMAGE_FILTER_SINCE)))
			continue;
		int r = oci_image_find(a->store, c->value, &image, e);
		if (r < 0)
			return err_wrap(e, "--filter %s=%s", keys[c->key], c->value);
		c->time_ns = image->created_ns;
	}
	return 0;
}

static bool glob_fits(const char *pattern, const char *name)
{
	return fnmatch(pattern, name, FNM_PATHNAME) == 0;
}

/* As Docker: the whole familiar name, or the repository alone; and here the name in full, too. */
static bool reference_fits(const char *pattern, const char *name)
{
	CLEANUP_FREE char *familiar = name ? oci_ref_familiar(name) : NULL;
	CLEANUP_FREE char *full = str_dup(name);

	if (!familiar || !full)
		return false;
	char *both[] = {familiar, full};
	for (size_t i = 0; i < ARRAY_LEN(both); i++) {
		if (glob_fits(pattern, both[i]))
			return true;
		char *at = strchr(both[i], '@'), *colon;
		if (at)
			*at = '\0';
		colon = strrchr(both[i], ':');
		if (colon && !strchr(colon, '/'))
			*colon = '\0';
		if (glob_fits(pattern, both[i]))
			return true;
	}
	return false;
}

static bool fits(const struct condition *c, const struct image_filter_subject *s)
{
	switch (bit(c)) {
	case IMAGE_FILTER_DANGLING:
		return !s->tagged == c->yes;
	case IMAGE_FILTER_LABEL:
		return strv_has_pair(s->labels, c->value);
	case IMAGE_FILTER_NO_LABEL:
		return !strv_has_pair(s->labels, c->value);
	case IMAGE_FILTER_SINCE:
		return s->created_ns > c->time_ns;
	case IMAGE_FILTER_REFERENCE:
		return reference_fits(c->value, s->name);
	default:
		return s->created_ns < c->time_ns;
	}
}

bool image_filter_match(const struct image_filter *f, const struct image_filter_subject *s)
{
	/* A second one of these narrows what the first selects. */
	const unsigned all = IMAGE_FILTER_LABEL | IMAGE_FILTER_NO_LABEL | IMAGE_FILTER_UNTIL;
	struct filter_tally t = {0};

	for (size_t k = 0; k < f->n; k++)
		filter_tally_add(&t, (unsigned)f->conditions[k].key, fits(&f->conditions[k], s),
			bit(&f->conditions[k]) & all);
	return filter_tally_fits(&t);
}
