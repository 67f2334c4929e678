/* SPDX-License-Identifier: MIT */
#include "changes.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/io.h"
#include "base/units.h"
#include "manifest.h"
#include "tree.h"
#include "words.h"

#define INSTRUCTION_MAX (64u << 10)

/* The config's list or map of this name, made empty where it is missing or something else. Borrowed. */
static json_t *member(json_t *config, const char *key, bool list)
{
	json_t *v = json_object_get(config, key);

	if (list ? json_is_array(v) : json_is_object(v))
		return v;
	v = list ? json_array() : json_object();
	return v && json_object_set_new(config, key, v) == 0 ? v : NULL;
}

/* Consumes v. */
static int set_member(json_t *config, const char *key, json_t *v, struct err *e)
{
	return v && json_object_set_new(config, key, v) == 0 ? 0 : err_oom(e);
}

static int set_string(json_t *config, const char *key, const char *s, struct err *e)
{
	return set_member(config, key, json_string(s), e);
}

static int expand(const json_t *config, const char *s, char **ret, struct err *e)
{
	return oci_word_expand(s, json_object_get(config, "Env"), ret, e);
}

/* ---- commands ---- */

/*
 * ["a","b"] as such. What begins like a list and is none is a line for the shell, as in Docker ("[ -f /x ] && y"); but a
 * list of other things than strings is a mistake. *ret: NULL for a line, else a new reference.
 */
static int parse_list(const char *args, json_t **ret, struct err *e)
{
	json_t *j = *args == '[' ? json_loads(args, JSON_REJECT_DUPLICATES, NULL) : NULL;
	size_t i;
	json_t *item;

	*ret = NULL;
	json_array_foreach (j, i, item)
		if (!json_is_string(item)) {
			json_decref(j);
			return err_set(e, -EINVAL, "the list must be one of strings");
		}
	*ret = j;
	return 0;
}

static json_t *shell_command(const json_t *config, const char *line)
{
	const json_t *shell = json_object_get(config, "Shell");
	json_t *v = json_array_size(shell) ? json_array() : json_pack("[s, s]", "/bin/sh", "-c");
	size_t i;
	json_t *item;

	json_array_foreach (shell, i, item)
		if (json_array_append(v, item) < 0)
			break;
	if (json_array_append_new(v, json_string(line)) < 0) {
		json_decref(v);
		return NULL;
	}
	return v;
}

static int change_command(json_t *config, const char *key, const char *args, struct err *e)
{
	json_t *v;
	int r = parse_list(args, &v, e);

	return r < 0 ? r : set_member(config, key, v ? v : shell_command(config, args), e);
}

static int change_cmd(json_t *config, const char *args, struct err *e)
{
	return change_command(config, "Cmd", args, e);
}

static int change_entrypoint(json_t *config, const char *args, struct err *e)
{
	return change_command(config, "Entrypoint", args, e);
}

/* ---- names with values ---- */

static int set_env(json_t *config, const char *name, const char *value, struct err *e)
{
	json_t *list = member(config, "Env", true), *item;
	CLEANUP_FREE char *text = str_printf("%s=%s", name, value);
	json_t *v = text ? json_string(text) : NULL;
	size_t i, n = strlen(name);

	if (!list || !v) {
		json_decref(v);
		return err_oom(e);
	}
	json_array_foreach (list, i, item) {
		const char *s = json_string_value(item);
		if (s && strncmp(s, name, n) == 0 && s[n] == '=')
			return json_array_set_new(list, i, v) < 0 ? err_oom(e) : 0;
	}
	return json_array_append_new(list, v) < 0 ? err_oom(e) : 0;
}

static int set_label(json_t *config, const char *name, const char *value, struct err *e)
{
	json_t *map = member(config, "Labels", false);

	return map ? set_member(map, name, json_string(value), e) : err_oom(e);
}

/* Splits "name=value" where it stands, both parts expanded into pairs. */
static int push_pair(const json_t *env, char *word, struct strv *pairs, struct err *e)
{
	char *eq = strchr(word, '=');
	CLEANUP_FREE char *name = NULL, *value = NULL;

	if (!eq)
		return err_set(e, -EINVAL, "\"%.200s\" has no \"=\": expected NAME=VALUE", word);
	*eq = '\0';
	int r = oci_word_expand(word, env, &name, e);
	if (r == 0)
		r = oci_word_expand(eq + 1, env, &value, e);
	if (r < 0)
		return r;
	if (!*name)
		return err_set(e, -EINVAL, "a name is empty");
	return strv_push(pairs, name) < 0 || strv_push(pairs, value) < 0 ? err_oom(e) : 0;
}

/* "A=b C=d", or of old "A everything else". */
static int parse_pairs(const json_t *env, const char *args, struct strv *pairs, struct err *e)
{
	CLEANUP(strv_done) struct strv words = {0};
	int r = oci_words_split(args, &words, e);

	if (r < 0)
		return r;
	if (words.n > 0 && !strchr(words.v[0], '=')) {
		if (words.n == 1)
			return err_set(e, -EINVAL, "\"%.200s\" has no value", words.v[0]);
		const char *rest = args + strlen(words.v[0]);
		CLEANUP_FREE char *pair = str_printf("%s=%s", words.v[0], rest + strspn(rest, " \t"));
		return pair ? push_pair(env, pair, pairs, e) : err_oom(e);
	}
	for (size_t i = 0; r == 0 && i < words.n; i++)
		r = push_pair(env, words.v[i], pairs, e);
	return r;
}

/* All are expanded by what was there before any of them. */
static int change_pairs(json_t *config, const char *args,
	int (*set)(json_t *config, const char *name, const char *value, struct err *e), struct err *e)
{
	CLEANUP(strv_done) struct strv pairs = {0};
	int r = parse_pairs(json_object_get(config, "Env"), args, &pairs, e);

	for (size_t i = 0; r == 0 && i + 1 < pairs.n; i += 2)
		r = set(config, pairs.v[i], pairs.v[i + 1], e);
	return r;
}

static int change_env(json_t *config, const char *args, struct err *e)
{
	return change_pairs(config, args, set_env, e);
}

static int change_label(json_t *config, const char *args, struct err *e)
{
	return change_pairs(config, args, set_label, e);
}

/* ---- maps of nothing ---- */

static int add_key(json_t *map, const char *key, struct err *e)
{
	return map ? set_member(map, key, json_object(), e) : err_oom(e);
}

static int expose(json_t *map, const char *word, struct err *e)
{
	const char *slash = strchr(word, '/');
	size_t len = slash ? (size_t)(slash - word) : strlen(word);
	uint16_t from, to;
	char proto[8] = "tcp", key[32];

	if (slash) {
		snprintf(proto, sizeof(proto), "%s", slash + 1);
		for (char *p = proto; *p; p++)
			*p = (char)tolower((unsigned char)*p);
	}
	if (parse_port_range(word, len, &from, &to) < 0 || from == 0 || (slash && strlen(slash + 1) > 4) ||
		(strcmp(proto, "tcp") != 0 && strcmp(proto, "udp") != 0 && strcmp(proto, "sctp") != 0))
		return err_set(e, -EINVAL,
			"invalid port \"%.100s\": expected PORT or FIRST-LAST, and /tcp, /udp or /sctp",
			word);
	for (unsigned port = from; port <= to; port++) {
		snprintf(key, sizeof(key), "%u/%s", port, proto);
		int r = add_key(map, key, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int change_expose(json_t *config, const char *args, struct err *e)
{
	CLEANUP(strv_done) struct strv words = {0};
	int r = oci_words_split(args, &words, e);

	for (size_t i = 0; r == 0 && i < words.n; i++) {
		CLEANUP_FREE char *word = NULL;
		r = expand(config, words.v[i], &word, e);
		if (r == 0)
			r = expose(member(config, "ExposedPorts", false), word, e);
	}
	return r;
}

static int add_volume(json_t *config, const char *word, struct err *e)
{
	CLEANUP_FREE char *path = NULL;
	int r = expand(config, word, &path, e);

	if (r < 0)
		return r;
	if (!*path)
		return err_set(e, -EINVAL, "a path is empty");
	return add_key(member(config, "Volumes", false), path, e);
}

static int change_volume(json_t *config, const char *args, struct err *e)
{
	CLEANUP(strv_done) struct strv words = {0};
	CLEANUP(json_done) json_t *list = NULL;
	size_t i;
	json_t *item;
	int r = parse_list(args, &list, e);

	if (r == 0 && !list)
		r = oci_words_split(args, &words, e);
	json_array_foreach (list, i, item)
		if (r == 0)
			r = add_volume(config, json_string_value(item), e);
	for (i = 0; r == 0 && i < words.n; i++)
		r = add_volume(config, words.v[i], e);
	return r;
}

/* ---- single values ---- */

static int change_user(json_t *config, const char *args, struct err *e)
{
	CLEANUP_FREE char *user = NULL;
	int r = expand(config, args, &user, e);

	if (r < 0)
		return r;
	if (!*user || strpbrk(user, " \t\n"))
		return err_set(e, -EINVAL, "expected one user, as NAME or ID, and perhaps :GROUP");
	return set_string(config, "User", user, e);
}

/* One that is relative begins at the previous one. */
static int change_workdir(json_t *config, const char *args, struct err *e)
{
	CLEANUP_FREE char *dir = NULL, *joined = NULL;
	char clean[OCI_TREE_PATH_MAX], out[OCI_TREE_PATH_MAX + 1];
	const char *now = json_string_value(json_object_get(config, "WorkingDir"));
	int r = expand(config, args, &dir, e);

	if (r < 0)
		return r;
	if (!*dir)
		return err_set(e, -EINVAL, "the path is empty");
	joined = str_printf("%s/%s", *dir == '/' || !now ? "" : now, dir);
	r = joined ? oci_path_clean(joined, clean, e) : err_oom(e);
	if (r < 0)
		return r;
	snprintf(out, sizeof(out), "/%s", clean);
	return set_string(config, "WorkingDir", out, e);
}

static int change_stopsignal(json_t *config, const char *args, struct err *e)
{
	CLEANUP_FREE char *name = NULL;
	int signal, r = expand(config, args, &name, e);

	if (r < 0)
		return r;
	if (parse_signal(name, &signal) < 0)
		return err_set(e, -EINVAL, "\"%.100s\" is no signal", name);
	return set_string(config, "StopSignal", name, e);
}

/* ---- health ---- */

static int set_health_time(
	json_t *health, const char *key, const char *option, const char *value, struct err *e)
{
	uint64_t ns;

	if (parse_duration_ns(value, &ns) < 0 || ns > INT64_MAX || (ns > 0 && ns < 1000000))
		return err_set(e, -EINVAL,
			"invalid %s \"%.100s\": expected a duration such as 30s, of 1ms or more", option,
			value);
	return set_member(health, key, json_integer((json_int_t)ns), e);
}

static int health_option(json_t *health, const char *word, size_t n, struct err *e)
{
	static const struct {
		const char *option, *key;
	} times[] = {{"--interval", "Interval"}, {"--timeout", "Timeout"}, {"--start-period", "StartPeriod"},
		{"--start-interval", "StartInterval"}};
	CLEANUP_FREE char *option = strndup(word, n);
	uint64_t retries;

	if (!option)
		return err_oom(e);
	char *value = strchr(option, '=');
	if (!value)
		return err_set(e, -EINVAL, "option \"%.100s\" has no value", option);
	*value++ = '\0';
	for (size_t i = 0; i < ARRAY_LEN(times); i++)
		if (strcmp(option, times[i].option) == 0)
			return set_health_time(health, times[i].key, option, value, e);
	if (strcmp(option, "--retries") != 0)
		return err_set(e, -EINVAL, "unknown option \"%.100s\"", option);
	if (parse_u64(value, INT32_MAX, &retries) < 0)
		return err_set(e, -EINVAL, "invalid --retries \"%.100s\": expected a number", value);
	return set_member(health, "Retries", json_integer((json_int_t)retries), e);
}

static int set_health_test(json_t *health, const char *args, struct err *e)
{
	CLEANUP(json_done) json_t *list = NULL;
	size_t n = strcspn(args, " \t");
	const char *rest = args + n + strspn(args + n, " \t");

	if (n == 4 && strncasecmp(args, "NONE", n) == 0) {
		if (*rest || json_object_size(health))
			return err_set(e, -EINVAL, "NONE takes neither options nor arguments");
		return set_member(health, "Test", json_pack("[s]", "NONE"), e);
	}
	if (n != 3 || strncasecmp(args, "CMD", n) != 0)
		return err_set(
			e, -EINVAL, "expected CMD or NONE, not \"%.*s\"", (int)(n < 100 ? n : 100), args);
	int r = parse_list(rest, &list, e);
	if (r < 0)
		return r;
	if (!*rest || (list && json_array_size(list) == 0))
		return err_set(e, -EINVAL, "CMD needs a command");
	if (!list)
		return set_member(health, "Test", json_pack("[s, s]", "CMD-SHELL", rest), e);
	if (json_array_insert_new(list, 0, json_string("CMD")) < 0)
		return err_oom(e);
	return set_member(health, "Test", json_incref(list), e);
}

static int change_healthcheck(json_t *config, const char *args, struct err *e)
{
	CLEANUP(json_done) json_t *health = json_object();
	int r = health ? 0 : err_oom(e);

	while (r == 0 && strncmp(args, "--", 2) == 0) {
		size_t n = strcspn(args, " \t");
		r = health_option(health, args, n, e);
		args += n + strspn(args + n, " \t");
	}
	if (r == 0)
		r = set_health_test(health, args, e);
	return r < 0 ? r : set_member(config, "Healthcheck", json_incref(health), e);
}

/* ---- instructions ---- */

static int change_onbuild(json_t *config, const char *args, struct err *e)
{
	static const char *const triggers[] = {"ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE",
		"HEALTHCHECK", "LABEL", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"};
	size_t n = strcspn(args, " \t");

	for (size_t i = 0; i < ARRAY_LEN(triggers); i++) {
		if (strlen(triggers[i]) != n || strncasecmp(args, triggers[i], n) != 0)
			continue;
		if (!args[n])
			return err_set(e, -EINVAL, "%s needs an argument", triggers[i]);
		json_t *list = member(config, "OnBuild", true);
		return list && json_array_append_new(list, json_string(args)) == 0 ? 0 : err_oom(e);
	}
	return err_set(e, -EINVAL, "\"%.*s\" cannot be put off to a build", (int)(n < 100 ? n : 100), args);
}

static const struct instruction {
	const char *name;
	int (*apply)(json_t *config, const char *args, struct err *e);
} instructions[] = {
	{"CMD", change_cmd},
	{"ENTRYPOINT", change_entrypoint},
	{"ENV", change_env},
	{"EXPOSE", change_expose},
	{"HEALTHCHECK", change_healthcheck},
	{"LABEL", change_label},
	{"ONBUILD", change_onbuild},
	{"STOPSIGNAL", change_stopsignal},
	{"USER", change_user},
	{"VOLUME", change_volume},
	{"WORKDIR", change_workdir},
};

/* What has been said so far of the command, which decides what an entry point does to it. */
struct change {
	json_t *config;
	bool has_cmd, clears_cmd;
};

/* What is made must be what an image may have. */
static int check_sizes(const json_t *config, struct err *e)
{
	static const char *const keys[] = {"Env", "ExposedPorts", "Labels", "OnBuild", "Volumes"};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		const json_t *v = json_object_get(config, keys[i]);
		if (json_array_size(v) > OCI_STRINGS_MAX || json_object_size(v) > OCI_STRINGS_MAX)
			return err_set(
				e, -E2BIG, "%s would have more than %d entries", keys[i], OCI_STRINGS_MAX);
	}
	return 0;
}

static int apply_line(struct change *c, char *line, struct err *e)
{
	size_t n = 0;

	while (isascii(line[n]) && isalpha((unsigned char)line[n]))
		n++;
	char *args = line + n;
	args += *args == '=' ? 1 : strspn(args, " \t");
	for (size_t i = 0; i < ARRAY_LEN(instructions); i++) {
		const struct instruction *in = &instructions[i];
		if (strlen(in->name) != n || strncasecmp(line, in->name, n) != 0 ||
			(args == line + n && *args))
			continue;
		int r = *args ? in->apply(c->config, args, e) : err_set(e, -EINVAL, "it needs an argument");
		if (r == 0)
			r = check_sizes(c->config, e);
		if (r < 0)
			return err_wrap(e, "%s", in->name);
		c->has_cmd |= in->apply == change_cmd;
		c->clears_cmd |= in->apply == change_entrypoint;
		return 0;
	}
	n = strcspn(line, " \t=");
	err_set(e, -EINVAL, "\"%.*s\" is no instruction that changes an image's configuration",
		(int)(n < 100 ? n : 100), line);
	return err_hint(e, "CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, "
			   "VOLUME or WORKDIR");
}

static bool is_utf8(const char *s)
{
	size_t left = strlen(s);

	while (left > 0) {
		size_t n = text_utf8_len((const uint8_t *)s, left, NULL);
		if (n == 0)
			return false;
		s += n;
		left -= n;
	}
	return true;
}

/* Takes one line off *text, of which a backslash at its end is the continuation. It is changed in place. */
static char *next_line(char **text)
{
	char *line = *text, *from = *text, *to = *text;

	while (*from && *from != '\n') {
		size_t blank = from[0] == '\\' ? strspn(from + 1, " \t\r") : 0;
		if (from[0] == '\\' && from[1 + blank] == '\n')
			from += blank + 2;
		else
			*to++ = *from++;
	}
	*text = from + (*from == '\n');
	*to = '\0';
	while (to > line && strchr(" \t\r", to[-1]))
		*--to = '\0';
	return line + strspn(line, " \t\r");
}

static int apply_text(struct change *c, const char *text, struct err *e)
{
	if (strlen(text) > INSTRUCTION_MAX)
		return err_set(e, -E2BIG, "an instruction is longer than %u KiB", INSTRUCTION_MAX >> 10);
	if (!is_utf8(text))
		return err_set(e, -EINVAL, "instruction \"%.100s\" is not in UTF-8", text);
	CLEANUP_FREE char *copy = strdup(text);
	if (!copy)
		return err_oom(e);
	size_t done = 0;
	for (char *rest = copy; *rest;) {
		char *line = next_line(&rest);
		if (!*line || *line == '#')
			continue;
		int r = apply_line(c, line, e);
		if (r < 0)
			return r;
		done++;
	}
	return done ? 0 : err_set(e, -EINVAL, "the instruction is empty");
}

static void finish(struct change *c)
{
	if (c->clears_cmd && !c->has_cmd)
		(void)json_object_del(c->config, "Cmd");
}

int oci_config_change(json_t *config, const char *instruction, struct err *e)
{
	struct change c = {.config = config};
	int r = apply_text(&c, instruction, e);

	if (r == 0)
		finish(&c);
	return r;
}

int oci_config_changes(json_t *config, const struct strv *list, struct err *e)
{
	struct change c = {.config = config};

	for (size_t i = 0; i < list->n; i++) {
		int r = apply_text(&c, list->v[i], e);
		if (r < 0)
			return r;
	}
	finish(&c);
	return 0;
}
