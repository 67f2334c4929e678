/* SPDX-License-Identifier: MIT */
/* network create, rm, prune, update. */
#include "network.h"

#include <fcntl.h>
#include <string.h>

#include "audit.h"
#include "base/io.h"
#include "prune.h"

/* ---- create ---- */

struct create_opts {
	struct strv subnets, gateways, labels, opts;
	const char *driver, *isolation, *policy;
	const char *ip_range;
	bool internal, ipv6, attachable; /* attachable: any network is */
};

static void create_opts_done(struct create_opts *o)
{
	strv_done(&o->subnets);
	strv_done(&o->gateways);
	strv_done(&o->labels);
	strv_done(&o->opts);
}

static int check_driver(const char *driver, struct err *e)
{
	if (strcmp(driver, "bridge") == 0)
		return 0;
	if (strcmp(driver, "none") == 0 || strcmp(driver, "null") == 0) {
		err_set(e, -ENOTSUP, "--driver %s: a network that nobody can use needs no record", driver);
		return err_hint(e, "run boxes with --network none, or make the network --internal");
	}
	if (strcmp(driver, "tsi") == 0) {
		err_set(e, -ENOTSUP,
			"--driver tsi: a guest's sockets are not passed through, its network card is");
		return err_hint(e, "bridge does what it is for: no privileges, and no packets on the host");
	}
	return err_set(e, -EINVAL, "--driver %s: there is only bridge", driver);
}

/* One of each family, as text or NULL; what is said twice is refused. */
static int one_per_family(
	const char *flag, const struct strv *given, const char **ret4, const char **ret6, struct err *e)
{
	for (size_t i = 0; i < given->n; i++) {
		const char *s = given->v[i], **slot = strchr(s, ':') ? ret6 : ret4;
		if (*s == '\0')
			return err_set(e, -EINVAL, "%s: a value is missing", flag);
		if (*slot && **slot == '\0')
			return err_set(e, -EINVAL, "%s %s: it contradicts --ipv6=false", flag, s);
		if (*slot)
			return err_set(
				e, -EINVAL, "%s %s: there is one of this family already, %s", flag, s, *slot);
		*slot = s;
	}
	return 0;
}

static int take_labels(const struct strv *given, struct strv *ret, struct err *e)
{
	for (size_t i = 0; i < given->n; i++) {
		const char *s = given->v[i];
		CLEANUP_FREE char *kv = strchr(s, '=') ? strdup(s) : str_printf("%s=", s);
		if (*s == '\0' || *s == '=')
			return err_set(e, -EINVAL, "--label \"%s\": expected KEY=VALUE or KEY", s);
		if (!kv || strv_setenv(ret, kv) < 0)
			return err_oom(e);
	}
	return 0;
}

/* What Docker's drivers are told by these has no counterpart here; files that are shared with it should do all the same. */
static int take_opts(const struct strv *given, struct strv *ret, struct err *e)
{
	static const char loopback[] = "host-loopback=", foreign[] = "com.docker.network.";

	for (size_t i = 0; i < given->n; i++) {
		const char *s = given->v[i];
		bool known = strncmp(s, loopback, sizeof(loopback) - 1) == 0;
		const char *value = known ? s + sizeof(loopback) - 1 : NULL;
		if (!known && strncmp(s, foreign, sizeof(foreign) - 1) != 0) {
			err_set(e, -EINVAL, "--opt %s: there is no such option", s);
			return err_hint(
				e, "there is host-loopback=yes: the gateway leads to this host's loopback");
		}
		if (known && strcmp(value, "yes") != 0 && strcmp(value, "no") != 0)
			return err_set(e, -EINVAL, "--opt %s: expected yes or no", s);
		if (!strchr(s, '='))
			return err_set(e, -EINVAL, "--opt %s: expected KEY=VALUE", s);
		if (!known)
			fprintf(stderr, "a3s-box: warning: network create: %.*s has no effect here\n",
				(int)strcspn(s, "="), s);
		if (strv_setenv(ret, s) < 0)
			return err_oom(e);
	}
	return 0;
}

/* A file's content; "-" is standard input. *ret is malloc'd. */
static int read_policy(const char *path, char **ret, struct err *e)
{
	size_t len = 0;
	int r = 0;

	if (*path == '\0')
		return err_set(e, -EINVAL, "--policy \"\": expected a file, or - for standard input");
	if (strcmp(path, "-") == 0) {
		*ret = calloc(1, NET_POLICY_TEXT_MAX + 2);
		if (!*ret)
			return err_oom(e);
		ssize_t n = io_read_full(STDIN_FILENO, *ret, NET_POLICY_TEXT_MAX + 1);
		len = n < 0 ? 0 : (size_t)n;
		r = n < 0 ? (int)n : len > NET_POLICY_TEXT_MAX ? -EFBIG : 0;
	} else {
		r = io_read_file_at(AT_FDCWD, path, NET_POLICY_TEXT_MAX, ret, &len);
	}
	if (r < 0)
		return err_sys(e, r, "--policy %s", path);
	/* What follows a NUL would not be seen. */
	return strlen(*ret) == len ? 0 : err_set(e, -EINVAL, "--policy %s: it is no text", path);
}

/* What rules there are to be. *ret_policy, NULL or malloc'd; with rules alone the isolation is theirs. */
static int take_rules(
	const char *isolation, const char *file, enum net_isolation *ret, char **ret_policy, struct err *e)
{
	if (isolation && net_isolation_parse(isolation, ret) < 0)
		return err_set(e, -EINVAL, "--isolation %s: expected none, strict or custom", isolation);
	if (!file)
		return 0;
	if (!isolation && *ret == NET_ISOLATION_NONE)
		*ret = NET_ISOLATION_CUSTOM;
	if (*ret == NET_ISOLATION_NONE) {
		err_set(e, -EINVAL, "--policy %s: rules have no meaning with --isolation none", file);
		return err_hint(e, "use --isolation strict or custom");
	}
	int r = read_policy(file, ret_policy, e);
	if (r == 0) { /* here, so that the error names the file */
		CLEANUP(net_policy_freep) struct net_policy *p = NULL;
		r = net_policy_parse(*ret, *ret_policy, &p, e);
		if (r == -EINVAL || r == -E2BIG)
			err_wrap(e, "--policy %s", file);
	}
	return r;
}

static int create(const char *name, const struct create_opts *o, struct err *e)
{
	const char *subnet4 = NULL, *subnet6 = o->ipv6 ? NULL : "", *gateway4 = NULL, *gateway6 = NULL;
	CLEANUP(box_network_freep) struct box_network *made = NULL;
	CLEANUP(strv_done) struct strv labels = {0};
	CLEANUP(strv_done) struct strv opts = {0};
	CLEANUP(app_close) struct app a = {0};
	CLEANUP_FREE char *policy = NULL;
	enum net_isolation isolation = NET_ISOLATION_NONE;

	int r = check_driver(o->driver, e);
	if (r == 0 && o->ip_range) {
		r = err_set(e, -ENOTSUP, "--ip-range %s: addresses are given out of the whole subnet",
			o->ip_range);
		err_hint(e, "make a smaller --subnet, or choose addresses with --ip");
	}
	if (r == 0)
		r = one_per_family("--subnet", &o->subnets, &subnet4, &subnet6, e);
	if (r == 0)
		r = one_per_family("--gateway", &o->gateways, &gateway4, &gateway6, e);
	if (r == 0 && ((gateway4 && !subnet4) || (gateway6 && !subnet6)))
		r = err_set(e, -EINVAL, "--gateway %s: it needs the --subnet that it is in",
			gateway4 && !subnet4 ? gateway4 : gateway6);
	if (r == 0)
		r = take_labels(&o->labels, &labels, e);
	if (r == 0)
		r = take_opts(&o->opts, &opts, e);
	if (r == 0)
		r = take_rules(o->isolation, o->policy, &isolation, &policy, e);
	if (r == 0)
		r = app_open(&a, false, e);
	if (r < 0)
		return r;
	const struct box_network want = {.name = (char *)name,
		.subnet4 = (char *)subnet4,
		.subnet6 = (char *)subnet6,
		.gateway4 = (char *)gateway4,
		.gateway6 = (char *)gateway6,
		.internal = o->internal,
		.isolation = isolation,
		.policy = policy,
		.labels = labels,
		.opts = opts};
	r = box_network_create(a.st, &want, &made, e);
	if (r == 0)
		printf("%s\n", made->id);
	return r;
}

int cmd_network_create(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(create_opts_done) struct create_opts o = {.driver = "bridge", .ipv6 = true};
	struct opt opts[] = {{0, "attachable", OPT_FLAG, &o.attachable, NULL, "no effect: every network is"},
		{'d', "driver", OPT_STR, &o.driver, "DRIVER", "there is only bridge [bridge]"},
		{0, "gateway", OPT_LIST, &o.gateways, "ADDRESS", "of a subnet [its first address]"},
		{0, "internal", OPT_FLAG, &o.internal, NULL, "no way to the outside"},
		{0, "ip-range", OPT_STR, &o.ip_range, "NETWORK", "refused: see --subnet"},
		{0, "ipv6", OPT_FLAG, &o.ipv6, NULL, "with IPv6 [true]"},
		{0, "isolation", OPT_STR, &o.isolation, "KIND",
			"none: all may talk; strict: no box to another, and to the outside by rule; custom: "
			"by rule "
			"[none, or custom with --policy]"},
		{'l', "label", OPT_LIST, &o.labels, "KEY=VALUE", "set a label"},
		{'o', "opt", OPT_LIST, &o.opts, "KEY=VALUE",
			"host-loopback=yes: the gateway's address leads to this host's loopback"},
		{0, "policy", OPT_STR, &o.policy, "FILE", "rules, see a3s-box-network(1); -: standard input"},
		{0, "subnet", OPT_LIST, &o.subnets, "NETWORK",
			"one of each family, like 10.90.0.0/24 or fd00:1::/64 [one that is free]"},
		{0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc != 2)
		return app_usage(c, "exactly one name is needed");
	if (r == 0)
		r = create(argv[1], &o, &e);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}

/* ---- rm ---- */

static int remove_one(struct app *a, const char *ref, bool force, struct err *e)
{
	CLEANUP(box_network_freep) struct box_network *n = NULL;
	int r = box_network_find(a->st, ref, &n, e);

	if (r == 0)
		r = box_network_remove(a->st, n, e);
	return r == -ENOENT && force ? 1 : r;
}

int cmd_network_rm(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(app_close) struct app a = {0};
	bool force = false;
	struct opt opts[] = {
		{'f', "force", OPT_FLAG, &force, NULL, "a network that is not there is no failure"}, {0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc < 2)
		return app_usage(c, "a network is needed");
	if (r == 0)
		r = app_open(&a, false, &e);
	if (r < 0)
		return app_fail(c, &e, 1);
	return app_each(c, &a, argc, argv, force, remove_one);
}

/* ---- prune ---- */

int prune_networks(const struct cmd *c, struct app *a, const struct prune *p, struct err *e)
{
	struct box_network **list = NULL;
	size_t n = 0, removed = 0;
	int status = 0;
	int r = box_network_list(a->st, &list, &n, e);

	for (size_t i = 0; r == 0 && i < n; i++) {
		struct err one = {0};
		if (!prune_fits(p, list[i]->created_ns, &list[i]->labels))
			continue;
		int k = box_network_remove(a->st, list[i], &one);
		if (k == 0)
			printf("%s%s\n", removed++ ? "" : "Deleted Networks:\n", list[i]->name);
		else if (k != -EBUSY && k != -EPERM && k != -ENOENT) /* in use, predefined, or gone */
			status = app_fail(c, &one, 1);
	}
	box_network_list_free(list, n);
	if (removed)
		putchar('\n');
	return r < 0 ? r : status;
}

int cmd_network_prune(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(prune_done) struct prune p = {0};
	CLEANUP(app_close) struct app a = {0};
	struct err e = {0};
	int status;

	if (prune_begin(c, &p, "all networks that no box is on", argc, argv, &status) != PRUNE_YES)
		return status;
	int r = app_open(&a, false, &e);
	if (r == 0)
		r = prune_networks(c, &a, &p, &e);
	return r < 0 ? app_fail(c, &e, 1) : r;
}

/* ---- update ---- */

static int update(const char *ref, const char *isolation, const char *file, struct err *e)
{
	CLEANUP(app_close) struct app a = {0};
	CLEANUP(box_network_freep) struct box_network *n = NULL;
	CLEANUP_FREE char *policy = NULL;

	int r = app_open(&a, false, e);
	if (r == 0)
		r = box_network_find(a.st, ref, &n, e);
	if (r < 0)
		return r;
	enum net_isolation wanted = n->isolation;
	r = take_rules(isolation, file, &wanted, &policy, e);
	return r < 0 ? r : box_network_set_policy(a.st, n, wanted, file ? policy : n->policy, e);
}

int cmd_network_update(const struct cmd *c, int argc, char **argv)
{
	const char *isolation = NULL, *policy = NULL;
	struct opt opts[] = {{0, "isolation", OPT_STR, &isolation, "KIND", "none, strict or custom"},
		{0, "policy", OPT_STR, &policy, "FILE",
			"rules in place of those there are, {\"egress\": [RULE...], \"ingress\": [RULE...]}: "
			"see "
			"a3s-box-network(1); -: standard input"},
		{0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc != 2)
		return app_usage(c, "exactly one network is needed");
	if (r == 0 && !isolation && !policy)
		return app_usage(c, "nothing is given that should change");
	if (r == 0)
		r = update(argv[1], isolation, policy, &e);
	if (r < 0)
		return app_fail(c, &e, 1);
	printf("%s\n", argv[1]);
	return 0;
}
