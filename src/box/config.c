/* SPDX-License-Identifier: MIT */
/* A box's configuration as JSON. Strings that are not UTF-8 are kept as {"b64"}: argv and environment are bytes. */
#include "config.h"

#include <jansson.h>
#include <string.h>

#include "base/b64.h"

void box_config_done(struct box_config *c)
{
	strv_done(&c->entrypoint);
	strv_done(&c->cmd);
	wire_process_done(&c->process);
	strv_done(&c->labels);
	free(c->hostname);
	*c = (struct box_config){0};
}

static json_t *bytes_json(const char *s)
{
	if (!s)
		return json_null();
	json_t *str = json_string(s);
	if (str)
		return str;
	size_t n = strlen(s);
	CLEANUP_FREE char *b64 = malloc(B64_SIZE(n));
	if (!b64)
		return NULL;
	b64_encode(b64, s, n);
	return json_pack("{s:s}", "b64", b64);
}

static int bytes_from_json(const json_t *j, char **ret)
{
	*ret = NULL;
	if (json_is_null(j) || !j)
		return 0;
	if (json_is_string(j)) {
		*ret = strdup(json_string_value(j));
		return *ret ? 0 : -ENOMEM;
	}
	const char *b64 = json_string_value(json_object_get(j, "b64"));
	if (!b64)
		return -EBADMSG;
	size_t n = strlen(b64);
	char *out = malloc(n + 1);
	if (!out)
		return -ENOMEM;
	ssize_t len = b64_decode(out, b64, n);
	if (len < 0) {
		free(out);
		return -EBADMSG;
	}
	out[len] = '\0';
	*ret = out;
	return 0;
}

static json_t *list_json(const struct strv *l)
{
	json_t *a = json_array();
	for (size_t i = 0; i < l->n; i++)
		json_array_append_new(a, bytes_json(l->v[i]));
	return a;
}

static int list_from_json(const json_t *a, struct strv *ret)
{
	size_t n = json_array_size(a);
	if (a && !json_is_array(a))
		return -EBADMSG;
	for (size_t i = 0; i < n; i++) {
		CLEANUP_FREE char *s = NULL;
		int r = bytes_from_json(json_array_get(a, i), &s);
		if (r == 0)
			r = strv_push(ret, s ? s : "");
		if (r < 0)
			return r;
	}
	return 0;
}

char *box_config_to_json(const struct box_config *c)
{
	json_t *j = json_object();
	json_object_set_new(j, "entrypoint", list_json(&c->entrypoint));
	json_object_set_new(j, "cmd", list_json(&c->cmd));
	json_object_set_new(j, "argv", list_json(&c->process.argv));
	json_object_set_new(j, "env", list_json(&c->process.env));
	json_object_set_new(j, "groups", list_json(&c->process.groups));
	json_object_set_new(j, "cwd", bytes_json(c->process.cwd));
	json_object_set_new(j, "user", bytes_json(c->process.user));
	json_object_set_new(j, "tty", json_boolean(c->process.tty));
	json_object_set_new(j, "stdin", json_boolean(c->process.open_stdin));
	json_object_set_new(j, "stdin_once", json_boolean(c->stdin_once));
	json_object_set_new(j, "hostname", bytes_json(c->hostname));
	json_object_set_new(j, "labels", list_json(&c->labels));
	json_object_set_new(j, "vcpus", json_integer(c->vcpus));
	json_object_set_new(j, "memory", json_integer((json_int_t)c->mem_bytes));
	json_object_set_new(j, "accel", json_string(accel_name(c->accel)));
	json_object_set_new(j, "auto_remove", json_boolean(c->auto_remove));
	json_object_set_new(j, "stop_signal", json_integer(c->stop_signal));
	json_object_set_new(j, "stop_timeout_ns", json_integer((json_int_t)c->stop_timeout_ns));
	char *s = json_dumps(j, JSON_COMPACT);
	json_decref(j);
	return s;
}

static int config_from_object(const json_t *j, struct box_config *c)
{
	const char *accel = json_string_value(json_object_get(j, "accel"));
	int r = list_from_json(json_object_get(j, "entrypoint"), &c->entrypoint);

	if (r == 0)
		r = list_from_json(json_object_get(j, "cmd"), &c->cmd);
	if (r == 0)
		r = list_from_json(json_object_get(j, "argv"), &c->process.argv);
	if (r == 0)
		r = list_from_json(json_object_get(j, "env"), &c->process.env);
	if (r == 0)
		r = list_from_json(json_object_get(j, "groups"), &c->process.groups);
	if (r == 0)
		r = list_from_json(json_object_get(j, "labels"), &c->labels);
	if (r == 0)
		r = bytes_from_json(json_object_get(j, "cwd"), &c->process.cwd);
	if (r == 0)
		r = bytes_from_json(json_object_get(j, "user"), &c->process.user);
	if (r == 0)
		r = bytes_from_json(json_object_get(j, "hostname"), &c->hostname);
	if (r < 0)
		return r;
	c->process.tty = json_is_true(json_object_get(j, "tty"));
	c->process.open_stdin = json_is_true(json_object_get(j, "stdin"));
	c->stdin_once = json_is_true(json_object_get(j, "stdin_once"));
	c->auto_remove = json_is_true(json_object_get(j, "auto_remove"));
	c->vcpus = (uint32_t)json_integer_value(json_object_get(j, "vcpus"));
	c->mem_bytes = (uint64_t)json_integer_value(json_object_get(j, "memory"));
	c->stop_signal = (int)json_integer_value(json_object_get(j, "stop_signal"));
	c->stop_timeout_ns = (uint64_t)json_integer_value(json_object_get(j, "stop_timeout_ns"));
	return accel_parse(accel ? accel : "auto", &c->accel);
}

int box_config_from_json(const char *s, struct box_config *ret)
{
	struct box_config c = {0};
	json_t *j = json_loads(s, JSON_REJECT_DUPLICATES, NULL);
	int r = json_is_object(j) ? config_from_object(j, &c) : -EBADMSG;

	json_decref(j);
	if (r < 0) {
		box_config_done(&c);
		return r;
	}
	*ret = c;
	return 0;
}
