/* SPDX-License-Identifier: MIT */
/* Records of networks (box/network.h). */
#include "box/network.h"

#include <dirent.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <string.h>
#include <sys/file.h>

#include "base/io.h"
#include "base/log.h"
#include "config.h"
#include "run.h"
#include "schema.h"
#include "state/event.h"

/* Subnets that are chosen: 10.88.0.0/24 to 10.95.255.0/24; for hosts that are in 10.0.0.0/8, 172.28.0.0/24 to 172.31.255.0/24. */
static const struct {
	uint8_t net;
	unsigned first, last;
} pools[] = {{10, 88, 95}, {172, 28, 31}};
enum { ATTEMPTS6 = 4096 };
/* What is given: at least an address for the gateway and one for a box. */
enum { BITS4_MIN = 8, BITS4_MAX = 30, BITS6_MIN = 16, BITS6_MAX = 126 };
/* For a netd to answer; and where nobody has asked for it, as then every command would wait. */
#define TELL_NS	      10000000000ull
#define TELL_AGAIN_NS 100000000ull
enum { ID_BYTES = 32, ID_LEN = 2 * ID_BYTES, NAMES_IN_HINT = 5, TELL_ATTEMPTS = 10 };

#define COLUMNS \
	"id,name,driver,subnet4,gateway4,subnet6,gateway6,internal,isolation,policy,labels,opts,created," \
	"revision"

void box_network_free(struct box_network *n)
{
	if (!n)
		return;
	free(n->id);
	free(n->name);
	free(n->driver);
	free(n->subnet4);
	free(n->gateway4);
	free(n->subnet6);
	free(n->gateway6);
	free(n->policy);
	strv_done(&n->labels);
	strv_done(&n->opts);
	free(n);
}

void box_network_list_free(struct box_network **list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		box_network_free(list[i]);
	free(list);
}

int box_networks_init(struct state *st, struct err *e)
{
	static const char *const parts[] = {
		NETWORK_SCHEMA, ENDPOINT_SCHEMA, ENDPOINT_INDEX4, ENDPOINT_INDEX6, NETWORK_CHANGE_SCHEMA};
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(parts); i++)
		r = state_exec(st, e, parts[i], "");
	return r;
}

/* ---- those that are always there ---- */

static const struct predefined {
	const char *name, *driver, *subnet4, *gateway4, *subnet6, *gateway6;
} predefined[] = {
	{BOX_NETWORK_DEFAULT, "bridge", BOX_DEFAULT_SUBNET4, BOX_DEFAULT_GATEWAY4, BOX_DEFAULT_SUBNET6,
		BOX_DEFAULT_GATEWAY6},
	{BOX_NETWORK_NONE, "null", NULL, NULL, NULL, NULL},
};

static int make_predefined(const struct predefined *p, struct box_network **ret, struct err *e)
{
	CLEANUP(box_network_freep) struct box_network *n = calloc(1, sizeof(*n));

	if (!n)
		return err_oom(e);
	n->id = strdup(p->name);
	n->name = strdup(p->name);
	n->driver = strdup(p->driver);
	n->subnet4 = str_dup(p->subnet4);
	n->gateway4 = str_dup(p->gateway4);
	n->subnet6 = str_dup(p->subnet6);
	n->gateway6 = str_dup(p->gateway6);
	if (!n->id || !n->name || !n->driver || (p->subnet4 && (!n->subnet4 || !n->gateway4)) ||
		(p->subnet6 && (!n->subnet6 || !n->gateway6)))
		return err_oom(e);
	*ret = TAKE_PTR(n);
	return 0;
}

static const struct predefined *find_predefined(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(predefined); i++) {
		if (strcmp(predefined[i].name, name) == 0)
			return &predefined[i];
	}
	return NULL;
}

static int no_host_network(struct err *e)
{
	err_set(e, -ENOTSUP, "there is no network \"host\": a box has a kernel of its own");
	err_hint(e, "publish ports with -p, or reach this host as " NET_HOST_NAME);
	return -ENOTSUP;
}

/* ---- reading ---- */

static int from_row(sqlite3_stmt *s, struct box_network **ret, struct err *e)
{
	CLEANUP(box_network_freep) struct box_network *n = calloc(1, sizeof(*n));
	if (!n)
		return err_oom(e);
	n->id = state_column_dup(s, 0);
	n->name = state_column_dup(s, 1);
	n->driver = state_column_dup(s, 2);
	n->subnet4 = state_column_dup(s, 3);
	n->gateway4 = state_column_dup(s, 4);
	n->subnet6 = state_column_dup(s, 5);
	n->gateway6 = state_column_dup(s, 6);
	n->internal = sqlite3_column_int(s, 7);
	n->policy = state_column_dup(s, 9);
	n->created_ns = sqlite3_column_int64(s, 12);
	n->revision = sqlite3_column_int64(s, 13);
	const char *isolation = (const char *)sqlite3_column_text(s, 8);
	const char *labels = (const char *)sqlite3_column_text(s, 10),
		   *opts = (const char *)sqlite3_column_text(s, 11);
	if (!n->id || !n->name || !n->driver || !isolation || !labels || !opts)
		return err_oom(e);
	int r = net_isolation_parse(isolation, &n->isolation) < 0 ? -EBADMSG : 0;
	if (r == 0)
		r = box_config_list(labels, &n->labels);
	if (r == 0)
		r = box_config_list(opts, &n->opts);
	if (r < 0)
		return err_sys(e, r, "record of network %s", n->name);
	*ret = TAKE_PTR(n);
	return 0;
}

static int append(struct box_network ***list, size_t *n, struct box_network *one)
{
	struct box_network **bigger = reallocarray(*list, *n + 1, sizeof(struct box_network *));

	if (!bigger) {
		box_network_free(one);
		return -ENOMEM;
	}
	*list = bigger;
	bigger[(*n)++] = one;
	return 0;
}

/* Appends what s finds. On failure the list stays the caller's. */
static int collect(struct state *st, sqlite3_stmt *s, struct box_network ***list, size_t *n, struct err *e)
{
	int r;

	while ((r = state_step(st, s, e)) > 0) {
		struct box_network *one = NULL;
		r = from_row(s, &one, e);
		if (r == 0 && append(list, n, one) < 0)
			r = err_oom(e);
		if (r < 0)
			break;
	}
	return r;
}

int box_network_list(struct state *st, struct box_network ***ret, size_t *ret_n, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	struct box_network **list = NULL;
	size_t n = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(predefined); i++) {
		struct box_network *one = NULL;
		r = make_predefined(&predefined[i], &one, e);
		if (r == 0 && append(&list, &n, one) < 0)
			r = err_oom(e);
	}
	if (r == 0)
		r = state_prepare(st, &s, e, "SELECT " COLUMNS " FROM networks ORDER BY name", "");
	if (r == 0)
		r = collect(st, s, &list, &n, e);
	if (r < 0) {
		box_network_list_free(list, n);
		return r;
	}
	*ret = list;
	*ret_n = n;
	return 0;
}

static int ambiguous(const char *ref, struct box_network **list, size_t n, struct err *e)
{
	char names[512] = "";
	size_t used = 0;

	for (size_t i = 0; i < n && used < sizeof(names) - 1; i++)
		used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%.*s (%s)", i ? ", " : "",
			BOX_ID_SHORT_LEN, list[i]->id, list[i]->name);
	return err_set(e, -EEXIST, "ambiguous network ID \"%s\": %s", ref, names);
}

int box_network_find(struct state *st, const char *ref, struct box_network **ret, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	const struct predefined *p = find_predefined(strcmp(ref, "default") == 0 ? BOX_NETWORK_DEFAULT : ref);
	bool is_hex = *ref && strspn(ref, "0123456789abcdef") == strlen(ref) && strlen(ref) <= ID_LEN;
	struct box_network **list = NULL;
	size_t n = 0;

	if (p)
		return make_predefined(p, ret, e);
	if (strcmp(ref, "host") == 0)
		return no_host_network(e);
	/* An exact ID wins over a name, a name over a prefix, as in Docker. */
	int r = state_prepare(st, &s, e,
		"SELECT " COLUMNS ", (id=?1)*2+(name=?1) AS exact FROM networks"
		" WHERE id=?1 OR name=?1 OR (?2 AND substr(id,1,length(?1))=?1) ORDER BY exact DESC LIMIT 10",
		"si", ref, (int64_t)is_hex);
	if (r == 0)
		r = collect(st, s, &list, &n, e);
	if (r == 0 && n == 0)
		r = err_set(e, -ENOENT, "no such network: %s", ref);
	else if (r == 0 && n > 1 && strcmp(list[0]->id, ref) != 0 && strcmp(list[0]->name, ref) != 0)
		r = ambiguous(ref, list, n, e);
	else if (r == 0)
		*ret = TAKE_PTR(list[0]);
	box_network_list_free(list, n);
	return r;
}

/* ---- subnets ---- */

struct prefixes {
	struct net_prefix *v;
	size_t n;
};

static void prefixes_done(struct prefixes *p)
{
	free(p->v);
}

static int add_prefix(struct prefixes *p, const struct net_prefix *one)
{
	struct net_prefix *bigger = reallocarray(p->v, p->n + 1, sizeof(*p->v));

	if (!bigger)
		return -ENOMEM;
	p->v = bigger;
	bigger[p->n++] = *one;
	return 0;
}

/* Of other networks, and of each box's own, on which it may be as well. */
static int network_prefixes(struct box_network **list, size_t n, struct prefixes *ret)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		struct net_prefix p;
		if (list[i]->subnet4 && net_prefix_parse(list[i]->subnet4, &p) == 0)
			r = add_prefix(ret, &p);
		if (r == 0 && list[i]->subnet6 && net_prefix_parse(list[i]->subnet6, &p) == 0)
			r = add_prefix(ret, &p);
	}
	return r;
}

/* Of the host's interfaces: boxes should reach what is there. */
static int host_prefixes(struct prefixes *ret)
{
	struct ifaddrs *all = NULL;
	int r = 0;

	if (getifaddrs(&all) < 0)
		return -errno;
	for (const struct ifaddrs *i = all; r == 0 && i; i = i->ifa_next) {
		struct sockaddr_storage ss = {0};
		struct net_prefix p = {0};
		struct net_addr mask;
		uint16_t port;
		if (!i->ifa_addr || !i->ifa_netmask ||
			(i->ifa_addr->sa_family != AF_INET && i->ifa_addr->sa_family != AF_INET6))
			continue;
		size_t len = i->ifa_addr->sa_family == AF_INET ? sizeof(struct sockaddr_in)
							       : sizeof(struct sockaddr_in6);
		memcpy(&ss, i->ifa_addr, len);
		if (!net_addr_from_sockaddr(&ss, &p.addr, &port))
			continue;
		memcpy(&ss, i->ifa_netmask, len);
		ss.ss_family = i->ifa_addr->sa_family; /* the mask's is not always set */
		if (!net_addr_from_sockaddr(&ss, &mask, &port))
			continue;
		p.bits = ss.ss_family == AF_INET ? 96 : 0;
		while (p.bits < 128 && mask.b[p.bits / 8] & (0x80 >> p.bits % 8))
			p.bits++;
		r = add_prefix(ret, &p);
	}
	freeifaddrs(all);
	return r;
}

static bool overlaps_any(const struct prefixes *l, const struct net_prefix *p)
{
	for (size_t i = 0; i < l->n; i++) {
		if (net_prefix_overlap(&l->v[i], p))
			return true;
	}
	return false;
}

static int choose4(const struct prefixes *taken, struct net_prefix *ret, struct err *e)
{
	for (size_t k = 0; k < ARRAY_LEN(pools); k++) {
		for (unsigned i = pools[k].first << 8; i <= (pools[k].last << 8) + 255; i++) {
			const uint8_t b[] = {pools[k].net, (uint8_t)(i >> 8), (uint8_t)i, 0};
			*ret = (struct net_prefix){.addr = net_addr_from4(b), .bits = 120};
			if (!overlaps_any(taken, ret))
				return 0;
		}
	}
	err_set(e, -EADDRNOTAVAIL, "there is no free subnet in 10.88.0.0 to 10.95.255.255");
	err_hint(e, "give one with --subnet");
	return -EADDRNOTAVAIL;
}

static int choose6(const struct prefixes *taken, const uint8_t *id, struct net_prefix *ret, struct err *e)
{
	for (unsigned i = 0; i < ATTEMPTS6; i++) {
		unsigned last = ((unsigned)id[2] << 8 | id[3]) + i;
		const uint8_t b[16] = {
			0xfd, 0xa3, 0x5b, 0x0c, id[0], id[1], (uint8_t)(last >> 8), (uint8_t)last};
		*ret = (struct net_prefix){.addr = net_addr_from6(b), .bits = 64};
		if (!overlaps_any(taken, ret))
			return 0;
	}
	err_set(e, -EADDRNOTAVAIL, "there is no free IPv6 subnet in fda3:5b0c::/32");
	err_hint(e, "give one with --subnet");
	return -EADDRNOTAVAIL;
}

/* What a network can be made of: whole, unicast, and not this host's own. */
static int check_given(const char *text, bool is4, struct net_prefix *ret, struct err *e)
{
	static const char *const reserved[] = {
		"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/8", "fe80::/10", "ff00::/8"};
	unsigned len;

	if (net_prefix_parse(text, ret) < 0 || net_addr_is4(&ret->addr) != is4) {
		err_set(e, -EINVAL, "--subnet %s: expected a network like %s", text,
			is4 ? "10.90.0.0/24" : "fd00:1::/64");
		err_hint(e, "no bits may be set behind the prefix");
		return -EINVAL;
	}
	len = net_prefix_len(ret);
	if (len < (is4 ? BITS4_MIN : BITS6_MIN) || len > (is4 ? BITS4_MAX : BITS6_MAX))
		return err_set(e, -EINVAL, "--subnet %s: a prefix is from /%d to /%d long", text,
			is4 ? BITS4_MIN : BITS6_MIN, is4 ? BITS4_MAX : BITS6_MAX);
	for (size_t i = 0; i < ARRAY_LEN(reserved); i++) {
		struct net_prefix p;
		if (net_prefix_parse(reserved[i], &p) == 0 && net_prefix_overlap(&p, ret))
			return err_set(
				e, -EINVAL, "--subnet %s: %s is reserved (RFC 6890)", text, reserved[i]);
	}
	return 0;
}

/* The first address, or the one that was given. */
static int check_gateway(
	const char *text, const struct net_prefix *subnet, struct net_addr *ret, struct err *e)
{
	*ret = subnet->addr;
	ret->b[15] |= 1;
	if (!text)
		return 0;
	if (net_addr_parse(text, ret) < 0)
		return err_set(e, -EINVAL, "--gateway %s: expected an address", text);
	bool last = net_addr_is4(ret);
	for (unsigned i = subnet->bits; i < 128; i++)
		last = last && (ret->b[i / 8] & (0x80 >> i % 8));
	if (!net_prefix_has(subnet, ret) || net_addr_equal(ret, &subnet->addr) || last) {
		char p[NET_ADDR_TEXT_MAX + 4];
		return err_set(e, -EINVAL, "--gateway %s: it is no address for the gateway of %s", text,
			net_prefix_text(subnet, p));
	}
	return 0;
}

/* Which network of ours it overlaps. */
static int overlap_error(
	struct box_network **list, size_t n, const char *text, const struct net_prefix *p, struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		const char *theirs = net_addr_is4(&p->addr) ? list[i]->subnet4 : list[i]->subnet6;
		struct net_prefix q;
		if (theirs && net_prefix_parse(theirs, &q) == 0 && net_prefix_overlap(p, &q))
			return err_set(e, -EADDRINUSE, "--subnet %s: it overlaps network %s (%s)", text,
				list[i]->name, theirs);
	}
	return 0;
}

/* Both families of a network to be made, in what it is to be. */
static int choose_family(struct box_network *n, bool is4, struct box_network **list, size_t n_list,
	const uint8_t *id, struct err *e)
{
	CLEANUP(prefixes_done) struct prefixes taken = {0};
	char **subnet = is4 ? &n->subnet4 : &n->subnet6, **gateway = is4 ? &n->gateway4 : &n->gateway6;
	char text[NET_ADDR_TEXT_MAX + 4];
	struct net_prefix p;
	struct net_addr gw;
	int r;

	if (*subnet && !**subnet) { /* none */
		if (*gateway)
			return err_set(e, -EINVAL, "--gateway %s: the network has no such family", *gateway);
		free(TAKE_PTR(*subnet));
		return 0;
	}
	if (*subnet) {
		r = check_given(*subnet, is4, &p, e);
		if (r == 0)
			r = overlap_error(list, n_list, *subnet, &p, e);
	} else {
		r = network_prefixes(list, n_list, &taken);
		if (r == 0)
			r = host_prefixes(&taken);
		if (r < 0)
			return err_sys(e, r, "cannot choose a subnet");
		r = is4 ? choose4(&taken, &p, e) : choose6(&taken, id, &p, e);
	}
	if (r == 0)
		r = check_gateway(*gateway, &p, &gw, e);
	if (r < 0)
		return r;
	free(*subnet);
	*subnet = strdup(net_prefix_text(&p, text));
	free(*gateway);
	*gateway = strdup(net_addr_text(&gw, text));
	return *subnet && *gateway ? 0 : err_oom(e);
}

/* ---- creating ---- */

static int check_name(const char *name, struct err *e)
{
	if (!box_name_valid(name)) {
		err_set(e, -EINVAL, "\"%s\" is no name for a network", name);
		err_hint(e, "[a-zA-Z0-9][a-zA-Z0-9_.-]*, at most %d bytes", BOX_NAME_MAX);
		return -EINVAL;
	}
	if (find_predefined(name) || strcmp(name, "host") == 0 || strcmp(name, "default") == 0)
		return err_set(e, -EPERM, "\"%s\" is the name of a predefined network", name);
	return 0;
}

/* Its canonical text, or NULL where there is none; *ret is malloc'd. */
static int check_policy(enum net_isolation isolation, const char *policy, char **ret, struct err *e)
{
	CLEANUP(net_policy_freep) struct net_policy *p = NULL;

	*ret = NULL;
	if (!policy)
		return 0;
	int r = net_policy_parse(isolation, policy, &p, e);
	if (r < 0)
		return r;
	*ret = net_policy_text(p);
	if (!*ret)
		return err_oom(e);
	if (strlen(*ret) > NET_POLICY_TEXT_MAX) {
		free(TAKE_PTR(*ret));
		return err_set(e, -E2BIG, "policy: more than %d KiB", NET_POLICY_TEXT_MAX >> 10);
	}
	return 0;
}

static int copy_wanted(const struct box_network *want, struct box_network *n, uint8_t *id, struct err *e)
{
	char hex[ID_LEN + 1];

	do { /* a short ID that is all digits would be taken for a number by shells and tools */
		io_random(id, ID_BYTES);
		hex_encode(hex, id, ID_BYTES);
	} while (strspn(hex, "0123456789") >= BOX_ID_SHORT_LEN);
	n->id = strdup(hex);
	n->name = strdup(want->name);
	n->driver = strdup("bridge");
	n->subnet4 = str_dup(want->subnet4);
	n->gateway4 = str_dup(want->gateway4);
	n->subnet6 = str_dup(want->subnet6);
	n->gateway6 = str_dup(want->gateway6);
	n->internal = want->internal;
	n->isolation = want->isolation;
	n->created_ns = time_real_ns();
	n->revision = 1;
	if (!n->id || !n->name || !n->driver || (want->subnet4 && !n->subnet4) ||
		(want->gateway4 && !n->gateway4) || (want->subnet6 && !n->subnet6) ||
		(want->gateway6 && !n->gateway6) || strv_copy(&n->labels, &want->labels) < 0 ||
		strv_copy(&n->opts, &want->opts) < 0)
		return err_oom(e);
	return check_policy(want->isolation, want->policy, &n->policy, e);
}

static int insert(struct state *st, const struct box_network *n, struct err *e)
{
	CLEANUP_FREE char *labels = box_config_list_text(&n->labels);
	CLEANUP_FREE char *opts = box_config_list_text(&n->opts);

	if (!labels || !opts)
		return err_oom(e);
	int r = state_exec(st, e,
		"INSERT INTO networks(" COLUMNS ") VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14)",
		"sssssssissssii", n->id, n->name, n->driver, n->subnet4, n->gateway4, n->subnet6, n->gateway6,
		(int64_t)n->internal, net_isolation_name(n->isolation), n->policy, labels, opts,
		n->created_ns, n->revision);
	return r < 0 ? r
		     : event_add(st, e, "network", "create", n->id, "name", n->name, "type", n->driver, NULL);
}

/* In a transaction, so that nobody else takes the name or the subnet. */
static int create(struct state *st, struct box_network *n, const uint8_t *id, struct err *e)
{
	struct box_network **list = NULL;
	size_t n_list = 0;
	int r = box_network_list(st, &list, &n_list, e);

	for (size_t i = 0; r == 0 && i < n_list; i++) {
		if (strcmp(list[i]->name, n->name) == 0) {
			r = err_set(e, -EEXIST, "there is a network \"%s\" already", n->name);
			err_hint(e, "remove it with: a3s-box network rm %s", n->name);
		}
	}
	if (r == 0 && n_list >= BOX_NETWORKS_MAX)
		r = err_set(
			e, -ENOSPC, "there are %zu networks already, which is the most there can be", n_list);
	if (r == 0)
		r = choose_family(n, true, list, n_list, id, e);
	if (r == 0)
		r = choose_family(n, false, list, n_list, id, e);
	if (r == 0 && !n->subnet4 && !n->subnet6)
		r = err_set(e, -EINVAL, "a network needs IPv4 or IPv6");
	if (r == 0)
		r = insert(st, n, e);
	box_network_list_free(list, n_list);
	return r;
}

int box_network_create(
	struct state *st, const struct box_network *want, struct box_network **ret, struct err *e)
{
	CLEANUP(box_network_freep) struct box_network *n = calloc(1, sizeof(*n));
	uint8_t id[ID_BYTES];

	if (!n)
		return err_oom(e);
	int r = check_name(want->name, e);
	if (r == 0)
		r = copy_wanted(want, n, id, e);
	if (r == 0)
		r = state_begin(st, e);
	if (r < 0)
		return r;
	r = state_end(st, create(st, n, id, e), e);
	if (r == 0)
		*ret = TAKE_PTR(n);
	return r;
}

/* ---- run/net ---- */

/* Removes the folder of a netd that is gone: its lock is free. Who is about to start another one tries again (netd.c). */
static void remove_dead_dir(int net, const char *id)
{
	CLEANUP_CLOSE int dir = io_open_dir_at(net, id, false);
	CLEANUP_CLOSE int lock =
		dir < 0 ? -1 : openat(dir, "lock", O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0)
		io_remove_tree_at(net, id);
}

static void remove_dead_dirs(struct state *st)
{
	CLEANUP_CLOSE int run = io_open_dir_at(st->home_fd, "run", false);
	CLEANUP(strv_done) struct strv ids = {0};
	int net = run < 0 ? -1 : io_open_dir_at(run, "net", false);
	DIR *d = net < 0 ? NULL : fdopendir(net);

	if (!d) {
		close_fd(&net);
		return;
	}
	for (struct dirent *de; (de = readdir(d));) {
		if (strlen(de->d_name) == ID_LEN && strv_push(&ids, de->d_name) < 0)
			break;
	}
	for (size_t i = 0; i < ids.n; i++)
		remove_dead_dir(net, ids.v[i]);
	closedir(d);
	unlinkat(run, "net", AT_REMOVEDIR); /* if it is empty */
}

/* ---- removing ---- */

static int in_use(const struct box_network *n, const struct box_endpoint *eps, size_t n_eps, struct err *e)
{
	char names[160] = "";
	size_t used = 0;

	for (size_t i = 0; i < n_eps && i < NAMES_IN_HINT && used < sizeof(names) - 1; i++)
		used += (size_t)snprintf(
			names + used, sizeof(names) - used, "%s%s", i ? ", " : "", eps[i].box_name);
	err_set(e, -EBUSY, "network %s is in use by %zu box%s", n->name, n_eps, n_eps == 1 ? "" : "es");
	err_hint(e, "%s%s: disconnect or remove them first", names, n_eps > NAMES_IN_HINT ? ", …" : "");
	return -EBUSY;
}

/* One that is leaving it is on it still, as far as the network's process goes. */
static int check_leaving(struct state *st, const struct box_network *n, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	int r = state_prepare(st, &s, e,
		"SELECT b.name FROM endpoints e JOIN boxes b ON b.id=e.box WHERE e.network=?1 AND "
		"e.leaving<>0",
		"s", n->id);

	if (r == 0)
		r = state_step(st, s, e);
	if (r <= 0)
		return r;
	err_set(e, -EBUSY, "network %s is in use: box %s is leaving it", n->name,
		(const char *)sqlite3_column_text(s, 0));
	err_hint(e, "try again in a moment, or when the box was stopped");
	return -EBUSY;
}

int box_network_remove(struct state *st, const struct box_network *n, struct err *e)
{
	struct box_endpoint *eps = NULL;
	size_t n_eps = 0;

	if (find_predefined(n->id))
		return err_set(e, -EPERM, "network %s is predefined and cannot be removed", n->name);
	int r = state_begin(st, e);
	if (r < 0)
		return r;
	r = box_endpoints_of_network(st, n->id, &eps, &n_eps, e);
	if (r == 0 && n_eps)
		r = in_use(n, eps, n_eps, e);
	box_endpoints_free(eps, n_eps);
	if (r == 0)
		r = check_leaving(st, n, e);
	if (r == 0)
		r = state_exec(st, e, "DELETE FROM networks WHERE id=?1", "s", n->id);
	if (r == 0 && sqlite3_changes(st->db) == 0)
		r = err_set(e, -ENOENT, "no such network: %s", n->name);
	if (r == 0)
		r = event_add(st, e, "network", "destroy", n->id, "name", n->name, "type", n->driver, NULL);
	r = state_end(st, r, e);
	if (r == 0)
		remove_dead_dirs(st);
	return r;
}

/* ---- rules ---- */

/* -EPIPE, -ECONNRESET: it ended meanwhile. */
static int tell_once(
	struct state *st, const struct box_network *n, const char *text, uint64_t limit_ns, struct err *e)
{
	CLEANUP_CLOSE int fd = box_netd_connect(st, n->id, e);

	return fd < 0 ? fd : box_netd_call_within(fd, text, limit_ns, e);
}

/* 0 also where no netd runs. */
static int tell_netd(struct state *st, const struct box_network *n, uint64_t limit_ns, struct err *e)
{
	CLEANUP_FREE char *text = netd_policy_text(n->isolation, n->policy, (uint64_t)n->revision);
	int r = -EPIPE;

	if (!text)
		return err_oom(e);
	for (unsigned i = 0; (r == -EPIPE || r == -ECONNRESET) && i < TELL_ATTEMPTS; i++)
		r = tell_once(st, n, text, limit_ns, e);
	return r == -ENOENT ? 0 : r;
}

/*
 * Tells the netd what the record says. Nobody waits for the database meanwhile: of several who tell it at the same time, netd
 * keeps what is newest (net/net.h), and who told something older does not say that all is told.
 */
static int push(struct state *st, const char *id, uint64_t limit_ns, struct err *e)
{
	CLEANUP(box_network_freep) struct box_network *now = NULL;
	int r = box_network_find(st, id, &now, e);

	if (r == 0)
		r = tell_netd(st, now, limit_ns, e);
	if (r == 0)
		r = state_exec(st, e, "UPDATE networks SET changed=0 WHERE id=?1 AND revision=?2 AND changed",
			"si", id, now->revision);
	return r;
}

/* What it was before is left in *ret_before. */
static int record_rules(struct state *st, const char *id, enum net_isolation isolation, const char *policy,
	struct box_network **ret_before, struct err *e)
{
	int r = state_begin(st, e);
	if (r < 0)
		return r;
	r = box_network_find(st, id, ret_before, e);
	if (r == 0)
		r = state_exec(st, e,
			"UPDATE networks SET isolation=?2, policy=?3, changed=1, revision=revision+1 WHERE "
			"id=?1",
			"sss", id, net_isolation_name(isolation), policy);
	return state_end(st, r, e);
}

/* As it was, unless somebody has changed it since; what cannot be told now is told later. */
static void undo_rules(struct state *st, const struct box_network *before)
{
	struct err ignored;
	int r = state_exec(st, &ignored,
		"UPDATE networks SET isolation=?2, policy=?3, changed=1, revision=revision+1"
		" WHERE id=?1 AND revision=?4",
		"sssi", before->id, net_isolation_name(before->isolation), before->policy,
		before->revision + 1);

	if (r == 0)
		push(st, before->id, TELL_AGAIN_NS, &ignored);
}

int box_network_set_policy(struct state *st, const struct box_network *n, enum net_isolation isolation,
	const char *policy, struct err *e)
{
	CLEANUP(box_network_freep) struct box_network *before = NULL;
	CLEANUP_FREE char *text = NULL;

	if (find_predefined(n->id)) {
		err_set(e, -EPERM, "network %s is predefined and has no rules", n->name);
		err_hint(e, "run a box with --egress-allow, or on a network of your own");
		return -EPERM;
	}
	int r = check_policy(isolation, policy, &text, e);
	if (r == 0)
		r = record_rules(st, n->id, isolation, text, &before, e);
	if (r < 0)
		return r;
	r = push(st, n->id, TELL_NS, e);
	if (r < 0)
		undo_rules(st, before);
	return r;
}

/* What died before it could tell. */
static void push_again(struct state *st)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	CLEANUP(strv_done) struct strv ids = {0};
	int r = state_prepare(st, &s, NULL, "SELECT id FROM networks WHERE changed", "");

	while (r >= 0 && (r = state_step(st, s, NULL)) > 0) {
		if (strv_push(&ids, (const char *)sqlite3_column_text(s, 0)) < 0)
			return;
	}
	for (size_t i = 0; i < ids.n; i++) {
		struct err e = {0};
		if (push(st, ids.v[i], TELL_AGAIN_NS, &e) < 0)
			log_warn("network %.*s does not know its rules yet: %s", BOX_ID_SHORT_LEN, ids.v[i],
				e.msg);
	}
}

void box_networks_repair(struct state *st)
{
	push_again(st);
	box_network_changes_repair(st);
	remove_dead_dirs(st);
}
