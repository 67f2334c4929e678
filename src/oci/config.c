/* SPDX-License-Identifier: MIT */
/* The image configuration (image-spec config.md): what to run, and which layers it is made of. */
#include <string.h>
#include <time.h>

#include "base/io.h"
#include "manifest.h"

#define DATE_YEAR_MAX 2262 /* last full year that nanoseconds in 64 bits can tell is 2261 */

/* n digits at *p. */
static bool take_digits(const char **p, int n, int *ret)
{
	*ret = 0;
	for (; n > 0; n--, (*p)++) {
		if (**p < '0' || **p > '9')
			return false;
		*ret = *ret * 10 + (**p - '0');
	}
	return true;
}

static bool take_char(const char **p, const char *set)
{
	return **p && strchr(set, *(*p)++);
}

static bool take_zone(const char **p, int *ret_seconds)
{
	int h, m, sign = **p == '-' ? -1 : 1;

	*ret_seconds = 0;
	if (**p == 'Z' || **p == 'z') {
		(*p)++;
		return true;
	}
	if (!take_char(p, "+-") || !take_digits(p, 2, &h) || !take_char(p, ":") || !take_digits(p, 2, &m))
		return false;
	*ret_seconds = sign * (h * 3600 + m * 60);
	return h < 24 && m < 60;
}

int64_t oci_time_parse(const char *s)
{
	struct tm tm = {0};
	int64_t ns = 0, scale = 100000000;
	int zone = 0;

	if (!s || !take_digits(&s, 4, &tm.tm_year) || !take_char(&s, "-") ||
		!take_digits(&s, 2, &tm.tm_mon) || !take_char(&s, "-") || !take_digits(&s, 2, &tm.tm_mday) ||
		!take_char(&s, "Tt ") || !take_digits(&s, 2, &tm.tm_hour) || !take_char(&s, ":") ||
		!take_digits(&s, 2, &tm.tm_min) || !take_char(&s, ":") || !take_digits(&s, 2, &tm.tm_sec))
		return 0;
	if (*s == '.')
		for (s++; *s >= '0' && *s <= '9'; s++, scale /= 10)
			ns += (*s - '0') * scale;
	if (!take_zone(&s, &zone) || *s || tm.tm_year < 1678 || tm.tm_year >= DATE_YEAR_MAX ||
		tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour > 23 ||
		tm.tm_min > 59 || tm.tm_sec > 60)
		return 0;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	return (int64_t)(timegm(&tm) - zone) * 1000000000 + ns;
}

/* Docker writes null for absent lists and maps. */
static bool absent(const json_t *j)
{
	return !j || json_is_null(j);
}

static int check_strings(const char *key, const json_t *v, struct err *e)
{
	size_t i;
	json_t *item;

	if (!json_is_array(v) || json_array_size(v) > OCI_STRINGS_MAX)
		return err_set(e, -EBADMSG, "image configuration: %s is not a list of strings", key);
	json_array_foreach (v, i, item)
		if (!json_is_string(item))
			return err_set(e, -EBADMSG, "image configuration: %s is not a list of strings", key);
	return 0;
}

/*
 * Healthcheck (Docker's image specification v1.2; no part of OCI's) cannot be worked with unless it is well-formed: one
 * that is not is left out, as if there were none, rather than the image refused.
 */
static bool health_valid(const json_t *h)
{
	static const char *const numbers[] = {
		"Interval", "Timeout", "StartPeriod", "StartInterval", "Retries"};
	const json_t *test = json_object_get(h, "Test");
	const char *kind = json_string_value(json_array_get(test, 0));
	size_t n = json_array_size(test);

	if (!kind || n > OCI_STRINGS_MAX)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!json_is_string(json_array_get(test, i)))
			return false;
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
		const json_t *v = json_object_get(h, numbers[i]);
		if (!absent(v) && (!json_is_integer(v) || json_integer_value(v) < 0))
			return false;
	}
	return strcmp(kind, "NONE") == 0 || (strcmp(kind, "CMD") == 0 && n > 1) ||
	       (strcmp(kind, "CMD-SHELL") == 0 && n == 2);
}

/* Keeps what execution needs, in a form of our own: maps of nothing become lists, labels "k=v" stay a map. */
static int slim_config(const json_t *config, char **ret, struct err *e)
{
	static const char *const lists[] = {"Env", "Entrypoint", "Cmd"};
	static const char *const maps[] = {"Labels", "Volumes", "ExposedPorts"};
	static const char *const strings[] = {"WorkingDir", "User", "StopSignal"};
	CLEANUP(json_done) json_t *out = json_object();

	if (!out)
		return err_oom(e);
	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		json_t *v = json_object_get(config, lists[i]);
		if (absent(v))
			continue;
		int r = check_strings(lists[i], v, e);
		if (r < 0)
			return r;
		if (json_object_set(out, lists[i], v) < 0)
			return err_oom(e);
	}
	for (size_t i = 0; i < ARRAY_LEN(maps); i++) {
		json_t *v = json_object_get(config, maps[i]);
		if (absent(v))
			continue;
		if (!json_is_object(v) || json_object_size(v) > OCI_STRINGS_MAX)
			return err_set(e, -EBADMSG, "image configuration: %s is not a map", maps[i]);
		if (json_object_set(out, maps[i], v) < 0)
			return err_oom(e);
	}
	for (size_t i = 0; i < ARRAY_LEN(strings); i++) {
		json_t *v = json_object_get(config, strings[i]);
		if (absent(v))
			continue;
		if (!json_is_string(v))
			return err_set(e, -EBADMSG, "image configuration: %s is not a string", strings[i]);
		if (json_object_set(out, strings[i], v) < 0)
			return err_oom(e);
	}
	json_t *health = json_object_get(config, "Healthcheck");
	if (health_valid(health) && json_object_set(out, "Healthcheck", health) < 0)
		return err_oom(e);
	*ret = json_dumps(out, JSON_COMPACT | JSON_SORT_KEYS);
	return *ret ? 0 : err_oom(e);
}

static int parse_diff_ids(const json_t *rootfs, struct oci_config *c, struct err *e)
{
	const json_t *ids = json_object_get(rootfs, "diff_ids");
	size_t n = json_array_size(ids);

	if (!json_is_object(rootfs) || (!absent(ids) && !json_is_array(ids)))
		return err_set(e, -EBADMSG, "image configuration: rootfs does not list its layers");
	if (n == 0)
		return 0;
	if (n > OCI_LAYERS_MAX)
		return err_set(
			e, -E2BIG, "image has %zu layers (at most %d are supported)", n, OCI_LAYERS_MAX);
	c->diff_ids = calloc(n, sizeof(*c->diff_ids));
	if (!c->diff_ids)
		return err_oom(e);
	for (size_t i = 0; i < n; i++) {
		const char *s = json_string_value(json_array_get(ids, i));
		if (!oci_digest_valid(s))
			return err_set(e, -EBADMSG, "image configuration has an invalid diff ID");
		oci_digest_copy(c->diff_ids[i], s);
	}
	c->n_diff_ids = n;
	return 0;
}

static int dup_member(const json_t *o, const char *key, char **ret)
{
	const char *s = json_string_value(json_object_get(o, key));

	if (!s || !*s)
		return 0;
	*ret = strdup(s);
	return *ret ? 0 : -ENOMEM;
}

int oci_config_parse(const void *data, size_t n, struct oci_config *ret, struct err *e)
{
	CLEANUP(json_done) json_t *j = NULL;
	CLEANUP(oci_config_done) struct oci_config c = {0};
	int r = oci_json_parse("image configuration", data, n, &j, e);

	if (r < 0)
		return r;
	if (dup_member(j, "os", &c.platform.os) < 0 || dup_member(j, "architecture", &c.platform.arch) < 0 ||
		dup_member(j, "variant", &c.platform.variant) < 0)
		return err_oom(e);
	c.created_ns = oci_time_parse(json_string_value(json_object_get(j, "created")));
	r = parse_diff_ids(json_object_get(j, "rootfs"), &c, e);
	if (r == 0)
		r = slim_config(json_object_get(j, "config"), &c.exec_json, e);
	if (r < 0)
		return r;
	*ret = c;
	c = (struct oci_config){0};
	return 0;
}

void oci_config_done(struct oci_config *c)
{
	oci_platform_done(&c->platform);
	free(c->diff_ids);
	free(c->exec_json);
	*c = (struct oci_config){0};
}

static int push_list(struct strv *dst, const json_t *list)
{
	size_t i;
	json_t *item;

	json_array_foreach (list, i, item)
		if (strv_push(dst, json_string_value(item)) < 0)
			return -ENOMEM;
	return 0;
}

/* Keys of a map, with "=value" for strings when values is set. */
static int push_map(struct strv *dst, json_t *map, bool values)
{
	const char *key;
	json_t *v;

	json_object_foreach (map, key, v) {
		const char *s = json_string_value(v);
		CLEANUP_FREE char *kv = values ? str_printf("%s=%s", key, s ? s : "") : strdup(key);
		if (!kv || strv_push(dst, kv) < 0)
			return -ENOMEM;
	}
	return 0;
}

static uint64_t health_number(const json_t *h, const char *key, uint64_t max)
{
	return MIN_OF((uint64_t)json_integer_value(json_object_get(h, key)), max);
}

static int get_health(const json_t *h, struct oci_health_check *ret)
{
	static const uint64_t century_ns = 100ull * 365 * 86400 * 1000000000;

	if (!health_valid(h))
		return 0;
	*ret = (struct oci_health_check){.interval_ns = health_number(h, "Interval", century_ns),
		.timeout_ns = health_number(h, "Timeout", century_ns),
		.start_period_ns = health_number(h, "StartPeriod", century_ns),
		.start_interval_ns = health_number(h, "StartInterval", century_ns),
		.retries = (uint32_t)health_number(h, "Retries", UINT32_MAX)};
	return push_list(&ret->test, json_object_get(h, "Test"));
}

int oci_config_exec(const char *exec_json, struct oci_image *i, struct err *e)
{
	CLEANUP(json_done) json_t *j = NULL;
	int r = oci_json_parse("stored image configuration", exec_json, strlen(exec_json), &j, e);

	if (r < 0)
		return r;
	if (push_list(&i->env, json_object_get(j, "Env")) < 0 ||
		push_list(&i->entrypoint, json_object_get(j, "Entrypoint")) < 0 ||
		push_list(&i->cmd, json_object_get(j, "Cmd")) < 0 ||
		push_map(&i->labels, json_object_get(j, "Labels"), true) < 0 ||
		push_map(&i->volumes, json_object_get(j, "Volumes"), false) < 0 ||
		push_map(&i->exposed_ports, json_object_get(j, "ExposedPorts"), false) < 0 ||
		dup_member(j, "WorkingDir", &i->workdir) < 0 || dup_member(j, "User", &i->user) < 0 ||
		dup_member(j, "StopSignal", &i->stop_signal) < 0 ||
		get_health(json_object_get(j, "Healthcheck"), &i->health) < 0)
		return err_oom(e);
	return 0;
}

int oci_chain_id(const char (*diff_ids)[OCI_DIGEST_MAX], size_t n, char ret[OCI_DIGEST_MAX], struct err *e)
{
	/* The specification has none for no layers. No layer can have this one: its content would be no archive. */
	static const char none[] = "no layers";
	char chain[OCI_DIGEST_MAX], text[2 * OCI_DIGEST_MAX];

	if (n == 0)
		return oci_digest_of(none, strlen(none), ret, e);
	oci_digest_copy(chain, diff_ids[0]);
	for (size_t i = 1; i < n; i++) {
		int len = snprintf(text, sizeof(text), "%s %s", chain, diff_ids[i]);
		int r = oci_digest_of(text, (size_t)len, chain, e);
		if (r < 0)
			return r;
	}
	oci_digest_copy(ret, chain);
	return 0;
}
