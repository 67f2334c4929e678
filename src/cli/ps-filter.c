/* SPDX-License-Identifier: MIT */
#include "ps-filter.h"

#include <regex.h>
#include <string.h>

#include "base/units.h"
#include "box/network.h"
#include "filter.h"

enum key {
	KEY_ANCESTOR,
	KEY_BEFORE,
	KEY_EXITED,
	KEY_EXPOSE,
	KEY_HEALTH,
	KEY_ID,
	KEY_LABEL,
	KEY_NAME,
	KEY_NETWORK,
	KEY_PUBLISH,
	KEY_SINCE,
	KEY_STATUS,
	KEY_VOLUME,
	N_KEYS
};

static const char *const keys[N_KEYS] = {"ancestor", "before", "exited", "expose", "health", "id", "label",
	"name", "network", "publish", "since", "status", "volume"};

struct condition {
	enum key key;
	const char *value; /* borrowed from the options */
	regex_t regex;	   /* ID and NAME */
	int code;	   /* EXITED */
	int64_t time_ns;   /* BEFORE and SINCE: when that box was created */
	char *image;	   /* ANCESTOR: the image's ID, NULL when there is none of that name */
	char *network;	   /* NETWORK: its name, NULL when there is none */
	uint16_t from, to; /* EXPOSE and PUBLISH: ports of the box */
	const char *protocol;
};

struct ps_filter {
	struct condition *conditions;
	size_t n;
};

void ps_filter_free(struct ps_filter *f)
{
	if (!f)
		return;
	for (size_t i = 0; i < f->n; i++) {
		struct condition *c = &f->conditions[i];
		if (c->key == KEY_ID || c->key == KEY_NAME)
			regfree(&c->regex);
		free(c->image);
		free(c->network);
	}
	free(f->conditions);
	free(f);
}

static int find_key(const char *given, size_t len, enum key *ret, struct err *e)
{
	for (size_t i = 0; i < N_KEYS; i++) {
		if (strlen(keys[i]) == len && strncmp(keys[i], given, len) == 0) {
			*ret = (enum key)i;
			return 0;
		}
	}
	err_set(e, -EINVAL, "--filter %s: no such filter", given);
	return err_hint(e, "there are ancestor, before, exited, expose, health, id, label, name, network, "
			   "publish, since, status and volume");
}

static int parse_regex(struct condition *c, const char *given, struct err *e)
{
	char why[128];
	int r = regcomp(&c->regex, c->value, REG_EXTENDED | REG_NOSUB);

	if (r == 0)
		return 0;
	regerror(r, &c->regex, why, sizeof(why));
	return err_set(e, -EINVAL, "--filter %s: not a regular expression: %s", given, why);
}

static int one_of(const char *given, const char *value, const char *const *words, size_t n, struct err *e)
{
	char list[160] = "";
	size_t used = 0;

	for (size_t i = 0; i < n; i++) {
		if (strcmp(value, words[i]) == 0)
			return 0;
		used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i ? ", " : "", words[i]);
	}
	return err_set(e, -EINVAL, "--filter %s: expected one of %s", given, list);
}

/* "80", "80/udp", "8000-8010" */
static int parse_ports(struct condition *c, const char *given, struct err *e)
{
	size_t n = strcspn(c->value, "/");

	c->protocol = c->value[n] ? c->value + n + 1 : "tcp";
	if (parse_port_range(c->value, n, &c->from, &c->to) < 0 || c->from == 0 ||
		(strcmp(c->protocol, "tcp") != 0 && strcmp(c->protocol, "udp") != 0 &&
			strcmp(c->protocol, "sctp") != 0))
		return err_set(e, -EINVAL, "--filter %s: expected PORT[-PORT][/PROTOCOL]", given);
	return 0;
}

static int parse_condition(struct condition *c, const char *given, struct err *e)
{
	static const char *const health[] = {"healthy", "none", "starting", "unhealthy"};
	const char *states[BOX_DEAD + 1];
	uint64_t code;

	switch (c->key) {
	case KEY_EXITED:
		if (parse_u64(c->value, 255, &code) < 0)
			return err_set(e, -EINVAL, "--filter %s: expected an exit code, 0 to 255", given);
		c->code = (int)code;
		return 0;
	case KEY_HEALTH:
		return one_of(given, c->value, health, ARRAY_LEN(health), e);
	case KEY_STATUS:
		for (size_t i = 0; i < ARRAY_LEN(states); i++)
			states[i] = box_state_name((enum box_state)i);
		return one_of(given, c->value, states, ARRAY_LEN(states), e);
	case KEY_EXPOSE:
	case KEY_PUBLISH:
		return parse_ports(c, given, e);
	case KEY_ID:
	case KEY_NAME:
		return parse_regex(c, given, e);
	default:
		return *c->value ? 0 : err_set(e, -EINVAL, "--filter %s: a value is missing", given);
	}
}

int ps_filter_parse(const struct strv *given, struct ps_filter **ret, struct err *e)
{
	CLEANUP(ps_filter_freep) struct ps_filter *f = calloc(1, sizeof(*f));

	if (!f || !(f->conditions = calloc(given->n + 1, sizeof(*f->conditions))))
		return err_oom(e);
	for (size_t i = 0; i < given->n; i++) {
		const char *eq = strchr(given->v[i], '=');
		struct condition c = {0};
		if (!eq)
			return err_set(e, -EINVAL, "--filter %s: expected KEY=VALUE", given->v[i]);
		int r = find_key(given->v[i], (size_t)(eq - given->v[i]), &c.key, e);
		c.value = eq + 1;
		if (r == 0)
			r = parse_condition(&c, given->v[i], e);
		if (r < 0)
			return r;
		f->conditions[f->n++] = c;
	}
	*ret = TAKE_PTR(f);
	return 0;
}

int ps_filter_resolve(struct ps_filter *f, struct app *a, struct err *e)
{
	for (size_t i = 0; i < f->n; i++) {
		struct condition *c = &f->conditions[i];
		if (c->key == KEY_BEFORE || c->key == KEY_SINCE) {
			CLEANUP(box_freep) struct box *b = NULL;
			int r = box_find(a->st, c->value, &b, e);
			if (r < 0)
				return err_wrap(e, "--filter %s", keys[c->key]);
			c->time_ns = b->created_ns;
		} else if (c->key == KEY_NETWORK) {
			CLEANUP(box_network_freep) struct box_network *n = NULL;
			if (box_network_find(a->st, c->value, &n, NULL) == 0)
				c->network = TAKE_PTR(n->name);
		} else if (c->key == KEY_ANCESTOR) {
			CLEANUP(oci_image_freep) struct oci_image *image = NULL;
			if (oci_image_find(a->store, c->value, &image, NULL) == 0)
				c->image = TAKE_PTR(image->id);
		}
	}
	return 0;
}

static bool has_key(const struct ps_filter *f, enum key key)
{
	for (size_t i = 0; i < f->n; i++) {
		if (f->conditions[i].key == key)
			return true;
	}
	return false;
}

bool ps_filter_wants_all(const struct ps_filter *f)
{
	return has_key(f, KEY_STATUS) || has_key(f, KEY_EXITED);
}

bool ps_filter_wants_images(const struct ps_filter *f)
{
	return has_key(f, KEY_ANCESTOR);
}

unsigned ps_filter_parts(const struct ps_filter *f)
{
	return (has_key(f, KEY_LABEL) ? BOX_PART_LABELS : 0u) |
	       (has_key(f, KEY_EXPOSE) || has_key(f, KEY_PUBLISH) ? BOX_PART_PORTS : 0u) |
	       (has_key(f, KEY_NETWORK) ? BOX_PART_NETWORKS : 0u) |
	       (has_key(f, KEY_VOLUME) ? BOX_PART_MOUNTS : 0u);
}

static bool fits_regex(const struct condition *c, const char *s)
{
	return regexec(&c->regex, s, 0, NULL, 0) == 0;
}

/* "80/tcp" */
static bool is_exposed(const struct condition *c, const struct strv *ports)
{
	for (size_t i = 0; i < ports->n; i++) {
		size_t n = strcspn(ports->v[i], "/");
		unsigned long port = strtoul(ports->v[i], NULL, 10);
		if (port >= c->from && port <= c->to && ports->v[i][n] &&
			strcmp(ports->v[i] + n + 1, c->protocol) == 0)
			return true;
	}
	return false;
}

static bool is_published(const struct condition *c, const struct strv *ports)
{
	struct box_port p;

	for (size_t i = 0; i < ports->n; i++) {
		if (box_port_parse(ports->v[i], &p) == 0 && p.guest >= c->from && p.guest <= c->to &&
			strcmp(box_protocol_name(p.protocol), c->protocol) == 0)
			return true;
	}
	return false;
}

static bool is_on(const char *network, const struct strv *networks)
{
	for (size_t i = 0; network && i < networks->n; i++) {
		if (strcmp(networks->v[i], network) == 0)
			return true;
	}
	return false;
}

/* By a volume's name, a folder of the host, or where it is mounted. */
static bool is_mounted(const char *value, const struct strv *texts)
{
	for (size_t i = 0; i + 2 < texts->n; i += 3) {
		if (strcmp(texts->v[i + 1], value) == 0 || strcmp(texts->v[i + 2], value) == 0)
			return true;
	}
	return false;
}

static bool fits(const struct condition *c, const struct box *b)
{
	char slashed[BOX_NAME_MAX + 2];

	switch (c->key) {
	case KEY_ANCESTOR:
		return (c->image && strcmp(c->image, b->image_id) == 0) || strcmp(c->value, b->image) == 0;
	case KEY_BEFORE:
		return b->created_ns < c->time_ns;
	case KEY_SINCE:
		return b->created_ns > c->time_ns;
	case KEY_EXITED:
		return b->state == BOX_EXITED && b->exit_code == c->code;
	case KEY_HEALTH:
		return strcmp(c->value, b->health ? b->health : "none") == 0;
	case KEY_EXPOSE: /* as in Docker, what is published is exposed */
		return is_exposed(c, &b->config.exposed_ports) || is_published(c, &b->config.publish) ||
		       is_published(c, &b->ports);
	case KEY_PUBLISH:
		return is_published(c, &b->config.publish) || is_published(c, &b->ports);
	case KEY_NETWORK:
		return is_on(c->network, &b->networks);
	case KEY_ID:
		return fits_regex(c, b->id);
	case KEY_LABEL:
		return strv_has_pair(&b->config.labels, c->value);
	case KEY_NAME: /* Docker's names begin with a slash, and patterns may count on it */
		snprintf(slashed, sizeof(slashed), "/%s", b->name);
		return fits_regex(c, b->name) || fits_regex(c, slashed);
	case KEY_STATUS:
		return strcmp(c->value, box_state_name(b->state)) == 0;
	case KEY_VOLUME:
		return is_mounted(c->value, &b->mount_texts);
	case N_KEYS:
		break;
	}
	return false;
}

bool ps_filter_match(const struct ps_filter *f, const struct box *b)
{
	struct filter_tally t = {0};

	for (size_t i = 0; i < f->n; i++) {
		const struct condition *c = &f->conditions[i];
		filter_tally_add(&t, c->key, fits(c, b), c->key == KEY_LABEL);
	}
	return filter_tally_fits(&t);
}
