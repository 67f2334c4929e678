/* SPDX-License-Identifier: MIT */
#include "paths.h"

#include <stdlib.h>

#include "base/io.h"
#include "text-hash.h"

#define BUCKETS_MIN 64

void oci_paths_done(struct oci_paths *p)
{
	for (size_t k = 0; k < p->n_buckets; k++)
		for (struct oci_path *i = p->buckets[k], *next; i; i = next) {
			next = i->next;
			free(i);
		}
	free(p->buckets);
	*p = (struct oci_paths){0};
}

struct oci_path *oci_paths_find(const struct oci_paths *p, const char *text, size_t n)
{
	if (!p->n_buckets)
		return NULL;
	uint64_t h = oci_text_hash(p->key, text, n);
	for (struct oci_path *i = p->buckets[h & (p->n_buckets - 1)]; i; i = i->next)
		if (i->hash == h && i->len == n && memcmp(i->text, text, n) == 0)
			return i;
	return NULL;
}

static int charge(struct oci_paths *p, uint64_t n, struct err *e)
{
	if (p->n >= OCI_PATHS_MAX || n > OCI_PATHS_MEMORY_MAX - p->memory)
		return err_set(e, -E2BIG, "too many files (over %u, or %llu MiB of names)", OCI_PATHS_MAX,
			OCI_PATHS_MEMORY_MAX >> 20);
	p->memory += n;
	return 0;
}

static int grow(struct oci_paths *p, struct err *e)
{
	size_t n = p->n_buckets ? 2 * p->n_buckets : BUCKETS_MIN;
	int r = charge(p, (n - p->n_buckets) * sizeof(*p->buckets), e);

	if (r < 0)
		return r;
	struct oci_path **b = calloc(n, sizeof(struct oci_path *));
	if (!b)
		return err_oom(e);
	for (size_t k = 0; k < p->n_buckets; k++)
		for (struct oci_path *i = p->buckets[k], *next; i; i = next) {
			next = i->next;
			i->next = b[i->hash & (n - 1)];
			b[i->hash & (n - 1)] = i;
		}
	free(p->buckets);
	p->buckets = b;
	p->n_buckets = n;
	return 0;
}

int oci_paths_add(struct oci_paths *p, const char *text, size_t n, struct oci_path **ret, struct err *e)
{
	struct oci_path *i = oci_paths_find(p, text, n);

	if (i) {
		*ret = i;
		return 0;
	}
	if (!p->n_buckets)
		io_random(p->key, sizeof(p->key));
	int r = p->n >= p->n_buckets ? grow(p, e) : 0;
	if (r == 0 && n > UINT16_MAX)
		r = err_set(e, -ENAMETOOLONG, "a path is longer than %d bytes", UINT16_MAX);
	if (r == 0)
		r = charge(p, sizeof(*i) + n, e);
	if (r < 0)
		return r;
	i = calloc(1, sizeof(*i) + n);
	if (!i)
		return err_oom(e);
	i->hash = oci_text_hash(p->key, text, n);
	i->len = (uint16_t)n;
	if (n)
		memcpy(i->text, text, n);
	i->next = p->buckets[i->hash & (p->n_buckets - 1)];
	p->buckets[i->hash & (p->n_buckets - 1)] = i;
	p->n++;
	*ret = i;
	return 0;
}
