/* SPDX-License-Identifier: MIT */
/* Log options: which there are, and what they mean for a box. */
#include <jansson.h>
#include <string.h>

#include "base/units.h"
#include "log-syslog.h"
#include "log.h"

/* One that a driver does not know is refused, as in Docker: it would be thought to work. */
static const struct {
	const char *name;
	bool json_file, syslog;
} options[] = {
	{"max-size", true, false},
	{"max-file", true, false},
	{"labels", true, false},
	{"env", true, false},
	{"tag", true, true},
	{"syslog-address", false, true},
	{"syslog-facility", false, true},
};

static const char *const driver_names[] = {"json-file", "none", "syslog"};

const char *box_log_driver_name(enum box_log_driver d)
{
	return driver_names[d];
}

int box_log_driver_parse(const char *s, enum box_log_driver *ret)
{
	for (size_t i = 0; i < ARRAY_LEN(driver_names); i++) {
		if (strcmp(s, driver_names[i]) == 0) {
			*ret = (enum box_log_driver)i;
			return 0;
		}
	}
	return -EINVAL;
}

static bool applies(size_t option, enum box_log_driver d)
{
	return (d == BOX_LOG_JSON_FILE && options[option].json_file) ||
	       (d == BOX_LOG_SYSLOG && options[option].syslog);
}

static int refuse_option(const char *opt, enum box_log_driver d, struct err *e)
{
	char list[256] = "";

	for (size_t i = 0; i < ARRAY_LEN(options); i++) {
		size_t n = strlen(list);
		if (applies(i, d))
			snprintf(list + n, sizeof(list) - n, "%s%s", n ? ", " : "", options[i].name);
	}
	err_set(e, -EINVAL, "--log-opt %s: not an option of log driver %s", opt, driver_names[d]);
	return *list ? err_hint(e, "it has %s", list) : err_hint(e, "it has none");
}

static int check_value(const char *opt, const char *name, const char *value, struct err *e)
{
	struct log_syslog_target target;
	uint64_t n;

	if (strcmp(name, "max-size") == 0 && strcmp(value, "-1") != 0 &&
		(parse_size(value, &n) < 0 || n == 0 || n > INT64_MAX))
		return err_set(e, -EINVAL, "--log-opt %s: expected a size like 10m, or -1 for no limit", opt);
	if (strcmp(name, "max-file") == 0 && (parse_u64(value, LOG_FILES_MAX, &n) < 0 || n == 0))
		return err_set(
			e, -EINVAL, "--log-opt %s: expected a number from 1 to %d", opt, LOG_FILES_MAX);
	if (strcmp(name, "syslog-facility") == 0 && log_syslog_facility(value) < 0)
		return err_set(e, -EINVAL,
			"--log-opt %s: expected a facility like daemon, user or local0, or its number from 0 "
			"to 23",
			opt);
	if (strcmp(name, "syslog-address") == 0 && log_syslog_parse_target(value, &target) < 0)
		return err_set(e, -EINVAL,
			"--log-opt %s: expected unix:///PATH, udp://HOST[:PORT] or tcp://HOST[:PORT]", opt);
	if (strcmp(name, "tag") == 0) {
		struct box any = {
			.id = (char *)"", .name = (char *)"", .image = (char *)"", .image_id = (char *)""};
		CLEANUP_FREE char *tag = log_tag(&any, value);
		if (!tag)
			return err_set(e, -EINVAL,
				"--log-opt %s: expected text with {{.ID}}, {{.FullID}}, {{.Name}}, "
				"{{.ImageName}}, "
				"{{.ImageID}} or {{.ImageFullID}}",
				opt);
	}
	return 0;
}

int log_config_check(const struct box_log_config *c, struct err *e)
{
	for (size_t i = 0; i < c->opts.n; i++) {
		const char *opt = c->opts.v[i], *eq = strchr(opt, '=');
		size_t k = 0;

		if (!eq)
			return err_set(e, -EINVAL, "--log-opt %s: expected NAME=VALUE", opt);
		while (k < ARRAY_LEN(options) && (strncmp(options[k].name, opt, (size_t)(eq - opt)) != 0 ||
							 options[k].name[eq - opt] != '\0'))
			k++;
		if (k == ARRAY_LEN(options) || !applies(k, c->driver))
			return refuse_option(opt, c->driver, e);
		int r = check_value(opt, options[k].name, eq + 1, e);
		if (r < 0)
			return r;
	}
	return 0;
}

const char *log_opt(const struct box_log_config *c, const char *name)
{
	size_t n = strlen(name);

	for (size_t i = c->opts.n; i > 0; i--) { /* the last one counts */
		const char *opt = c->opts.v[i - 1];
		if (strncmp(opt, name, n) == 0 && opt[n] == '=')
			return opt + n + 1;
	}
	return NULL;
}

unsigned log_files(const struct box_log_config *c)
{
	return c->max_files == 0 ? LOG_FILES : MIN_OF(c->max_files, (uint32_t)LOG_FILES_MAX);
}

/* ---- tag ---- */

static const char *tag_value(const struct box *b, const char *name, size_t len, char *scratch, size_t size)
{
	const char *digest = strchr(b->image_id, ':');
	const struct {
		const char *name, *value;
		int digits;
	} values[] = {
		{"ID", b->id, BOX_ID_SHORT_LEN},
		{"FullID", b->id, -1},
		{"Name", b->name, -1},
		{"ImageName", b->image, -1},
		{"ImageID", digest ? digest + 1 : b->image_id, BOX_ID_SHORT_LEN},
		{"ImageFullID", b->image_id, -1},
	};

	for (size_t i = 0; i < ARRAY_LEN(values); i++) {
		if (strlen(values[i].name) != len || memcmp(values[i].name, name, len) != 0)
			continue;
		if (values[i].digits < 0)
			return values[i].value;
		snprintf(scratch, size, "%.*s", values[i].digits, values[i].value);
		return scratch;
	}
	return NULL;
}

char *log_tag(const struct box *b, const char *tag)
{
	CLEANUP(buf_done) struct buf out = {0};
	char scratch[BOX_ID_SHORT_LEN + 1];

	while (*tag) {
		const char *open = strstr(tag, "{{"), *end = open ? strstr(open, "}}") : NULL;
		size_t plain = open ? (size_t)(open - tag) : strlen(tag);
		if (buf_append(&out, tag, plain) < 0 || (open && !end))
			return NULL;
		tag += plain;
		if (!open)
			break;
		const char *name = open + 2, *stop = end;
		while (*name == ' ')
			name++;
		while (stop > name && stop[-1] == ' ')
			stop--;
		const char *value =
			*name == '.' && stop > name
				? tag_value(b, name + 1, (size_t)(stop - name) - 1, scratch, sizeof(scratch))
				: NULL;
		if (!value || buf_append(&out, value, strlen(value)) < 0)
			return NULL;
		tag = end + 2;
	}
	return out.len ? strndup((const char *)buf_data(&out), out.len) : strdup("");
}

/* ---- attributes ---- */

static void set_attr(json_t *j, const char *name, size_t name_len, const char *value)
{
	char *text = malloc(4 * strlen(value) + 1);
	json_t *v = json_string(value);

	if (!v && text) { /* not UTF-8 */
		text_escape(text, 4 * strlen(value) + 1, value);
		v = json_string(text);
	}
	free(text);
	CLEANUP_FREE char *key = strndup(name, name_len);
	if (v && key)
		json_object_set_new(j, key, v);
	else
		json_decref(v);
}

/* Those of list ("key=value") whose keys are named in names ("a,b"). */
static void select_attrs(json_t *j, const struct strv *list, const char *names)
{
	for (const char *p = names; p && *p;) {
		size_t n = strcspn(p, ",");
		for (size_t i = 0; n && i < list->n; i++) {
			const char *kv = list->v[i];
			if (strncmp(kv, p, n) == 0 && kv[n] == '=')
				set_attr(j, p, n, kv + n + 1);
		}
		p += n + (p[n] == ',');
	}
}

int log_attrs(const struct box *b, char **ret, struct err *e)
{
	const struct box_log_config *c = &b->config.log;
	const char *tag = log_opt(c, "tag");
	CLEANUP_FREE char *tag_text = tag ? log_tag(b, tag) : NULL;
	json_t *j = json_object();
	CLEANUP_FREE char *text = NULL;

	if (tag_text)
		set_attr(j, "tag", 3, tag_text);
	select_attrs(j, &b->config.labels, log_opt(c, "labels"));
	select_attrs(j, &b->config.process.env, log_opt(c, "env"));
	text = json_object_size(j) ? json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS) : strdup("");
	json_decref(j);
	if (!text)
		return err_oom(e);
	if (strlen(text) > LOG_ATTRS_MAX)
		return err_set(e, -E2BIG,
			"the labels and variables that --log-opt asks for are longer than %d bytes",
			LOG_ATTRS_MAX);
	*ret = TAKE_PTR(text);
	return 0;
}
