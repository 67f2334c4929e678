/* SPDX-License-Identifier: MIT */
#include "audit-args.h"

#include <stdbool.h>
#include <string.h>

#include "base/err.h"

enum {
	ARGS_MAX = 100,
	ARG_MAX_BYTES = 400,
	TEXT_MAX = 16 << 10, /* of all, as JSON in ASCII: an entry stays well below AUDIT_LINE_MAX */
};

/* HIDE_SECRET: behind "=" if what is before it sounds like a secret; HIDE_VALUE: behind "=" anyway. */
enum hide { HIDE_SECRET, HIDE_VALUE, HIDE_ALL };

static const struct {
	const char *name;
	enum hide hide;
} options[] = {{"env", HIDE_VALUE}, {"build-arg", HIDE_VALUE}, {"secret", HIDE_VALUE}, {"password", HIDE_ALL},
	{"nonce", HIDE_ALL}, {"data", HIDE_ALL}, {"label", HIDE_SECRET}, {"annotation", HIDE_SECRET},
	{"log-opt", HIDE_SECRET}, {"sysctl", HIDE_SECRET}, {"ulimit", HIDE_SECRET}, {"filter", HIDE_SECRET},
	{"security-opt", HIDE_SECRET}, {"tmpfs", HIDE_SECRET}, {"format", HIDE_SECRET},
	{"health-cmd", HIDE_SECRET}, {"entrypoint", HIDE_SECRET}, {"detach-keys", HIDE_SECRET}};

/* "--env" or "--env=…": what is to be done with the value. An option that is not known may be "--env", mistyped. */
static enum hide long_option(const char *arg)
{
	size_t n = strcspn(arg, "=");

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		if (n == strlen(options[i].name) + 2 && strncmp(arg + 2, options[i].name, n - 2) == 0)
			return options[i].hide;
	}
	return HIDE_VALUE;
}

/* The letter of a short option that takes a secret value: the first in "-ite" behind letters of flags, or NULL. */
static const char *short_option(const char *command, const char *arg, enum hide *ret)
{
	bool login = strcmp(command, "login") == 0;

	for (const char *c = arg + 1; *c; c++) {
		if (*c == (login ? 'p' : 'e')) {
			*ret = login ? HIDE_ALL : HIDE_VALUE;
			return c;
		}
		if (!strchr("dfiqt", *c))
			break; /* takes a value itself: what follows is that */
	}
	return NULL;
}

/* NAME=value, where the name sounds like a secret, or cannot be told. */
static bool sounds_secret(const char *arg)
{
	static const char *const words[] = {
		"password", "passwd", "secret", "token", "credential", "api_key", "apikey"};
	size_t n = strcspn(arg, "=");
	char name[ARG_MAX_BYTES];

	if (!arg[n] || n >= sizeof(name))
		return arg[n] != '\0';
	memcpy(name, arg, n);
	name[n] = '\0';
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcasestr(name, words[i]))
			return true;
	}
	return false;
}

/* Appends prefix_len bytes of arg, and of the rest what may be seen. */
static void add(json_t *list, const char *arg, size_t prefix_len, enum hide hide)
{
	char text[ARG_MAX_BYTES + 8], safe[4 * sizeof(text)];
	size_t eq = prefix_len + strcspn(arg + prefix_len, "=");
	bool hide_value = hide == HIDE_VALUE || (hide == HIDE_SECRET && sounds_secret(arg + prefix_len));
	size_t keep = hide == HIDE_ALL ? prefix_len : hide_value && arg[eq] ? eq + 1 : strlen(arg);
	bool hidden = keep < strlen(arg);

	if (keep > ARG_MAX_BYTES) {
		keep = ARG_MAX_BYTES;
		while (keep && ((unsigned char)arg[keep] & 0xc0) == 0x80)
			keep--;
		snprintf(text, sizeof(text), "%.*s…", (int)keep, arg);
	} else {
		snprintf(text, sizeof(text), "%.*s%s", (int)keep, arg, hidden ? AUDIT_HIDDEN : "");
	}
	text_escape(safe, sizeof(safe), text);
	json_array_append_new(list, json_string(safe));
}

/* Bytes of the last string, as JSON in ASCII. */
static size_t last_size(const json_t *list)
{
	const json_t *last = json_array_get(list, json_array_size(list) - 1);
	return json_dumpb(last, NULL, 0, JSON_ENSURE_ASCII | JSON_ENCODE_ANY) + 1;
}

json_t *audit_args(const char *command, int argc, char **argv)
{
	json_t *list = json_array();
	enum hide next = HIDE_SECRET;
	size_t size = 0;

	for (int i = 1; i < argc; i++) {
		const char *arg = argv[i], *letter = NULL;
		enum hide hide = next;
		if (i > ARGS_MAX) {
			json_array_append_new(list, json_string("…"));
			break;
		}
		next = HIDE_SECRET;
		/* The value of the option before; if that is unknown, it may as well be a flag. */
		if (hide == HIDE_ALL || (hide == HIDE_VALUE && arg[0] != '-')) {
			add(list, arg, 0, hide);
		} else if (strncmp(arg, "--", 2) == 0) {
			size_t n = strcspn(arg, "=");
			hide = long_option(arg);
			if (!arg[n] && arg[2])
				next = hide;
			add(list, arg, arg[n] ? n + 1 : n, arg[n] ? hide : HIDE_SECRET);
		} else if (arg[0] == '-' && arg[1] != '-' && (letter = short_option(command, arg, &hide))) {
			if (!letter[1])
				next = hide;
			add(list, arg, (size_t)(letter + 1 - arg) + (letter[1] == '='),
				letter[1] ? hide : HIDE_SECRET);
		} else {
			add(list, arg, 0, HIDE_SECRET);
		}
		size += last_size(list);
		if (size > TEXT_MAX) {
			json_array_set_new(list, json_array_size(list) - 1, json_string("…"));
			break;
		}
	}
	return list;
}
