/* SPDX-License-Identifier: MIT */
/* Which boxes are on which networks, and with what addresses (box/network.h). */
#include <string.h>

#include "base/io.h"
#include "box/network.h"
#include "config.h"
#include "run.h"
#include "schema.h"
#include "state/event.h"

enum { ALIAS_MAX_BYTES = 253, LABEL_MAX_BYTES = 63 };

void box_endpoints_free(struct box_endpoint *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(v[i].network);
		free(v[i].network_name);
		free(v[i].box);
		free(v[i].box_name);
		free(v[i].ip4);
		free(v[i].ip6);
		free(v[i].ip4_asked);
		free(v[i].ip6_asked);
		strv_done(&v[i].aliases);
	}
	free(v);
}

void box_mac(const char *box_id, uint8_t ret[static 6])
{
	memset(ret, 0, 6);
	if (strnlen(box_id, 10) == 10)
		hex_decode(ret + 1, box_id, 5);
	ret[0] = 0x02; /* locally administered, for one station: IEEE 802 section 8.2 */
}

/* ---- addresses ---- */

/* a + n, for addresses in a prefix that is large enough. */
static struct net_addr plus(const struct net_addr *a, uint64_t n)
{
	struct net_addr sum = *a;
	uint64_t carry = n;

	for (size_t i = sizeof(sum.b); i-- > 0 && carry;) {
		carry += sum.b[i];
		sum.b[i] = (uint8_t)carry;
		carry >>= 8;
	}
	return sum;
}

/* Whether a box may have it: not the network itself, its gateway, or IPv4's broadcast. */
static bool usable(const struct net_prefix *p, const struct net_addr *gateway, const struct net_addr *a)
{
	bool last = net_addr_is4(a);

	for (unsigned i = p->bits; i < 128; i++)
		last = last && (a->b[i / 8] & (0x80 >> i % 8));
	return net_prefix_has(p, a) && !net_addr_equal(a, &p->addr) && !net_addr_equal(a, gateway) && !last;
}

/* One family of a network, as its record has it. */
struct family {
	struct net_prefix subnet;
	struct net_addr gateway;
	const char *option; /* of the command line */
	const char *sql;    /* addresses in use */
};

static const char sql4[] = "SELECT ip4, box FROM endpoints WHERE network=?1 AND ip4 IS NOT NULL";
static const char sql6[] = "SELECT ip6, box FROM endpoints WHERE network=?1 AND ip6 IS NOT NULL";

/* 1, or 0 when the network does not have it. */
static int family_of(const struct box_network *n, bool is4, struct family *ret, struct err *e)
{
	const char *subnet = is4 ? n->subnet4 : n->subnet6, *gateway = is4 ? n->gateway4 : n->gateway6;

	*ret = (struct family){.option = is4 ? "--ip" : "--ip6", .sql = is4 ? sql4 : sql6};
	if (!subnet)
		return 0;
	if (!gateway || net_prefix_parse(subnet, &ret->subnet) < 0 ||
		net_addr_parse(gateway, &ret->gateway) < 0)
		return err_set(e, -EBADMSG, "record of network %s is damaged", n->name);
	return 1;
}

static int compare_addr(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct net_addr));
}

/* All that are in use, in order; malloc'd. */
static int used_addresses(struct state *st, const char *network, const struct family *f,
	struct net_addr **ret, size_t *ret_n, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	CLEANUP_FREE struct net_addr *v = NULL;
	size_t n = 0, cap = 0;
	int r = state_prepare(st, &s, e, f->sql, "s", network);

	while (r == 0 && (r = state_step(st, s, e)) > 0) {
		const char *text = (const char *)sqlite3_column_text(s, 0);
		r = 0;
		if (n == cap) {
			cap = cap ? 2 * cap : 64;
			struct net_addr *bigger = reallocarray(v, cap, sizeof(*v));
			if (!bigger)
				return err_oom(e);
			v = bigger;
		}
		if (text && net_addr_parse(text, &v[n]) == 0)
			n++;
	}
	if (r < 0)
		return r;
	if (n)
		qsort(v, n, sizeof(*v), compare_addr);
	*ret = TAKE_PTR(v);
	*ret_n = n;
	return 0;
}

/* The lowest that is free. */
static int pick_free(struct state *st, const struct box_network *n, const struct family *f,
	struct net_addr *ret, struct err *e)
{
	CLEANUP_FREE struct net_addr *used = NULL;
	size_t n_used = 0, next = 0;
	int r = used_addresses(st, n->id, f, &used, &n_used, e);

	if (r < 0)
		return r;
	/* Of so many candidates one is neither in use, nor the gateway, unless the subnet ends before. */
	for (uint64_t i = 1; i <= n_used + 2; i++) {
		struct net_addr a = plus(&f->subnet.addr, i);
		while (next < n_used && compare_addr(&used[next], &a) < 0)
			next++;
		bool taken = next < n_used && net_addr_equal(&used[next], &a);
		if (!taken && usable(&f->subnet, &f->gateway, &a)) {
			*ret = a;
			return 0;
		}
	}
	char text[NET_ADDR_TEXT_MAX + 4];
	err_set(e, -ENOSPC, "network %s has no free address in %s", n->name,
		net_prefix_text(&f->subnet, text));
	err_hint(e, "remove boxes from it, or create one with a larger --subnet");
	return -ENOSPC;
}

static int take_asked(struct state *st, const struct box_network *n, const struct family *f,
	const char *asked, struct net_addr *ret, struct err *e)
{
	CLEANUP_FREE struct net_addr *used = NULL;
	char text[NET_ADDR_TEXT_MAX + 4];
	size_t n_used = 0;

	if (net_addr_parse(asked, ret) < 0)
		return err_set(e, -EINVAL, "%s %s: expected an address", f->option, asked);
	if (!net_prefix_has(&f->subnet, ret))
		return err_set(e, -ERANGE, "%s %s: network %s has %s", f->option, asked, n->name,
			net_prefix_text(&f->subnet, text));
	if (net_addr_equal(ret, &f->gateway))
		return err_set(
			e, -EADDRINUSE, "%s %s: it is the gateway of network %s", f->option, asked, n->name);
	if (!usable(&f->subnet, &f->gateway, ret))
		return err_set(e, -ERANGE, "%s %s: no box can have the first or last address of a network",
			f->option, asked);
	int r = used_addresses(st, n->id, f, &used, &n_used, e);
	if (r == 0 && n_used && bsearch(ret, used, n_used, sizeof(*used), compare_addr))
		r = err_set(
			e, -EADDRINUSE, "%s %s: another box on network %s has it", f->option, asked, n->name);
	return r;
}

/* *ret_text stays NULL where the network has no such family; else malloc'd. */
static int allocate(struct state *st, const struct box_network *n, bool is4, const char *asked,
	char **ret_text, struct err *e)
{
	char text[NET_ADDR_TEXT_MAX];
	struct net_addr a;
	struct family f;
	int r = family_of(n, is4, &f, e);

	if (r == 0 && asked)
		return err_set(e, -ERANGE, "%s %s: network %s has no %s", f.option, asked, n->name,
			is4 ? "IPv4" : "IPv6");
	if (r <= 0)
		return r;
	r = asked ? take_asked(st, n, &f, asked, &a, e) : pick_free(st, n, &f, &a, e);
	if (r < 0)
		return r;
	*ret_text = strdup(net_addr_text(&a, text));
	return *ret_text ? 0 : err_oom(e);
}

/* ---- joining and leaving ---- */

static bool is_predefined(const char *network)
{
	return strcmp(network, BOX_NETWORK_DEFAULT) == 0 || strcmp(network, BOX_NETWORK_NONE) == 0;
}

/* Its own network is nobody else's matter: Docker tells of that at every start and end, which is told already. */
static int tell(
	struct state *st, const struct box_network *n, const struct box *b, const char *action, struct err *e)
{
	if (is_predefined(n->id))
		return 0;
	return event_add(st, e, "network", action, n->id, "container", b->id, "name", n->name, "type",
		n->driver, NULL);
}

bool box_alias_valid(const char *s)
{
	static const char chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

	if (*s == '-' || strlen(s) > ALIAS_MAX_BYTES)
		return false;
	for (;; s++) {
		size_t n = strspn(s, chars);
		if (n == 0 || n > LABEL_MAX_BYTES || (s[n] && s[n] != '.'))
			return false;
		s += n;
		if (!*s)
			return true;
	}
}

static int check_aliases(const struct strv *aliases, struct err *e)
{
	if (aliases->n > BOX_ALIASES_MAX)
		return err_set(e, -E2BIG, "more than %d aliases", BOX_ALIASES_MAX);
	for (size_t i = 0; i < aliases->n; i++) {
		if (!box_alias_valid(aliases->v[i]))
			return err_set(e, -EINVAL,
				"alias \"%s\": expected up to 63 letters, digits, - and _, or several such "
				"with dots",
				aliases->v[i]);
	}
	return 0;
}

/* What does not depend on addresses. */
static int check_new(
	const struct box_network *n, const struct box *b, const struct box_endpoint *ep, struct err *e)
{
	bool own = strcmp(n->id, BOX_NETWORK_DEFAULT) == 0;
	const char *first = b->config.network; /* NULL: it was made before there were networks */

	if (strcmp(n->id, BOX_NETWORK_NONE) == 0)
		return err_set(e, -ENOTSUP, "a box cannot be put on \"none\", which is no network");
	if (!first || strcmp(first, BOX_NETWORK_NONE) == 0) {
		err_set(e, -ENOTSUP, "box %s was made without a network device%s", b->name,
			first ? " (--network none)" : ", before there were networks");
		err_hint(e, "make it anew with another --network");
		return -ENOTSUP;
	}
	if (own && (ep->ip4_asked || ep->ip6_asked || ep->aliases.n)) {
		err_set(e, -ENOTSUP,
			"addresses and aliases are for networks of your own: each box has \"%s\" to itself",
			n->name);
		err_hint(e, "see a3s-box network create --help");
		return -ENOTSUP;
	}
	return check_aliases(&ep->aliases, e);
}

/* The lowest link that the box has free. */
static int free_link(struct state *st, const struct box *b, unsigned *ret, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	unsigned used = 0;
	int r = state_prepare(st, &s, e, "SELECT link FROM endpoints WHERE box=?1", "s", b->id);

	while (r == 0 && (r = state_step(st, s, e)) > 0) {
		unsigned link = (unsigned)sqlite3_column_int(s, 0);
		used |= link < BOX_LINKS_MAX ? 1u << link : 0;
		r = 0;
	}
	if (r < 0)
		return r;
	for (*ret = 0; *ret < BOX_LINKS_MAX; ++*ret) {
		if (!(used & 1u << *ret))
			return 0;
	}
	return err_set(e, -EMLINK, "box %s is on %d networks already", b->name, BOX_LINKS_MAX);
}

#define INSERT \
	"INSERT INTO endpoints(box,network,link,ip4,ip6,ip4_asked,ip6_asked,aliases)" \
	" VALUES(?1,?2,?3,?4,?5,?6,?7,?8)"

static int insert(struct state *st, const struct box_network *n, const struct box *b,
	const struct box_endpoint *ep, struct err *e)
{
	bool own = strcmp(n->id, BOX_NETWORK_DEFAULT) == 0;
	CLEANUP_FREE char *ip4 = own ? strdup(BOX_DEFAULT_IP4) : NULL;
	CLEANUP_FREE char *ip6 = own ? strdup(BOX_DEFAULT_IP6) : NULL;
	CLEANUP_FREE char *aliases = box_config_list_text(&ep->aliases);
	unsigned link;

	if (!aliases || (own && (!ip4 || !ip6)))
		return err_oom(e);
	int r = free_link(st, b, &link, e);
	if (r == 0 && !own)
		r = allocate(st, n, true, ep->ip4_asked, &ip4, e);
	if (r == 0 && !own)
		r = allocate(st, n, false, ep->ip6_asked, &ip6, e);
	if (r < 0)
		return r;
	return state_exec(st, e, INSERT, "ssisssss", b->id, n->id, (int64_t)link, ip4, ip6, ep->ip4_asked,
		ep->ip6_asked, aliases);
}

enum place { PLACE_NONE, PLACE_ON, PLACE_LEAVING };

/* enum place, or -errno. */
static int place_of(struct state *st, const char *network, const char *box, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	int r = state_prepare(
		st, &s, e, "SELECT leaving FROM endpoints WHERE box=?1 AND network=?2", "ss", box, network);

	if (r == 0)
		r = state_step(st, s, e);
	if (r <= 0)
		return r < 0 ? r : PLACE_NONE;
	return sqlite3_column_int64(s, 0) ? PLACE_LEAVING : PLACE_ON;
}

static int check_place(struct state *st, const struct box_network *n, const struct box *b, struct err *e)
{
	int place = place_of(st, n->id, b->id, e);

	if (place == PLACE_ON)
		return err_set(e, -EEXIST, "box %s is on network %s already", b->name, n->name);
	if (place == PLACE_LEAVING) {
		err_set(e, -EBUSY, "box %s is leaving network %s", b->name, n->name);
		err_hint(e,
			b->state == BOX_PAUSED ? "it can only once it goes on: a3s-box unpause %s"
					       : "try again in a moment, or when %s was stopped",
			b->name);
		return -EBUSY;
	}
	return place;
}

/* Opens a transaction, which state_end ends, and finds both in it. On failure none is open. */
static int begin(struct state *st, const char *network, const char *box, struct box_network **n,
	struct box **b, struct err *e)
{
	int r = state_begin(st, e);
	if (r < 0)
		return r;
	r = box_network_find(st, network, n, e);
	if (r == 0)
		r = box_find_quiet(st, box, b, e);
	return r < 0 ? state_end(st, r, e) : 0;
}

static int join(struct state *st, const struct box_endpoint *ep, bool is_new, struct err *e)
{
	CLEANUP(box_network_freep) struct box_network *n = NULL;
	CLEANUP(box_freep) struct box *b = NULL;
	int64_t change;

	int r = begin(st, ep->network, ep->box, &n, &b, e);
	if (r < 0)
		return r;
	r = check_new(n, b, ep, e);
	if (r == 0)
		r = check_place(st, n, b, e);
	if (r == 0)
		r = insert(st, n, b, ep, e);
	if (r == 0 && !is_new)
		r = box_networks_note(st, b->id, &change, e);
	if (r == 0)
		r = tell(st, n, b, "connect", e);
	return state_end(st, r, e);
}

int box_endpoint_add(struct state *st, const struct box_endpoint *ep, struct err *e)
{
	return join(st, ep, false, e);
}

int box_endpoint_insert(struct state *st, const struct box_endpoint *ep, struct err *e)
{
	return join(st, ep, true, e);
}

/* Of a live box it stays until the supervisor has acted: others could be given the address while it is in use. */
static int leave(struct state *st, const char *network, const char *box, struct err *e)
{
	int64_t change;
	int r = box_networks_note(st, box, &change, e);

	if (r < 0)
		return r;
	if (change)
		return state_exec(st, e, "UPDATE endpoints SET leaving=?3 WHERE box=?1 AND network=?2", "ssi",
			box, network, change);
	return state_exec(st, e, "DELETE FROM endpoints WHERE box=?1 AND network=?2", "ss", box, network);
}

int box_endpoint_remove(struct state *st, const char *network, const char *box, struct err *e)
{
	CLEANUP(box_network_freep) struct box_network *n = NULL;
	CLEANUP(box_freep) struct box *b = NULL;

	int r = begin(st, network, box, &n, &b, e);
	if (r < 0)
		return r;
	r = place_of(st, n->id, b->id, e);
	if (r >= 0 && r != PLACE_ON)
		r = err_set(e, -ENOENT, "box %s is not on network %s", b->name, n->name);
	if (r >= 0)
		r = leave(st, n->id, b->id, e);
	if (r == 0)
		r = tell(st, n, b, "disconnect", e);
	return state_end(st, r, e);
}

int box_endpoint_restore(struct state *st, const char *network, const char *box, struct err *e)
{
	CLEANUP(box_network_freep) struct box_network *n = NULL;
	CLEANUP(box_freep) struct box *b = NULL;
	int64_t change;

	int r = begin(st, network, box, &n, &b, e);
	if (r < 0)
		return r;
	r = state_exec(st, e, "UPDATE endpoints SET leaving=0 WHERE box=?1 AND network=?2 AND leaving<>0",
		"ss", b->id, n->id);
	if (r == 0 && sqlite3_changes(st->db) == 0)
		r = err_set(e, -ENOENT, "box %s has left network %s", b->name, n->name);
	if (r == 0)
		r = box_networks_note(st, b->id, &change, e);
	if (r == 0)
		r = tell(st, n, b, "connect", e);
	return state_end(st, r, e);
}

/* ---- reading ---- */

/* The name of a network is its ID where it has no row. */
#define COLUMNS \
	"e.network, coalesce(n.name, e.network), e.box, b.name, e.link, e.ip4, e.ip6, e.ip4_asked, " \
	"e.ip6_asked," \
	" e.aliases FROM endpoints e JOIN boxes b ON b.id=e.box LEFT JOIN networks n ON n.id=e.network "

static int from_row(sqlite3_stmt *s, struct box_endpoint *ep, struct err *e)
{
	const char *aliases = (const char *)sqlite3_column_text(s, 9);

	*ep = (struct box_endpoint){.network = state_column_dup(s, 0),
		.network_name = state_column_dup(s, 1),
		.box = state_column_dup(s, 2),
		.box_name = state_column_dup(s, 3),
		.link = (unsigned)sqlite3_column_int(s, 4),
		.ip4 = state_column_dup(s, 5),
		.ip6 = state_column_dup(s, 6),
		.ip4_asked = state_column_dup(s, 7),
		.ip6_asked = state_column_dup(s, 8)};
	if (!ep->network || !ep->network_name || !ep->box || !ep->box_name || !aliases)
		return err_oom(e);
	int r = box_config_list(aliases, &ep->aliases);
	if (r == 0 && ep->link >= BOX_LINKS_MAX)
		r = -EBADMSG;
	return r < 0 ? err_sys(e, r, "record of box %s on network %s", ep->box_name, ep->network_name) : 0;
}

static int collect(struct state *st, sqlite3_stmt *s, struct box_endpoint **ret, size_t *ret_n, struct err *e)
{
	struct box_endpoint *v = NULL;
	size_t n = 0, cap = 0;
	int r;

	while ((r = state_step(st, s, e)) > 0) {
		if (n == cap) {
			cap = cap ? 2 * cap : 8;
			struct box_endpoint *bigger = reallocarray(v, cap, sizeof(*v));
			if (!bigger) {
				r = err_oom(e);
				break;
			}
			v = bigger;
		}
		r = from_row(s, &v[n++], e);
		if (r < 0)
			break;
	}
	if (r < 0) {
		box_endpoints_free(v, n);
		return r;
	}
	*ret = v;
	*ret_n = n;
	return 0;
}

int box_endpoints_of_box(
	struct state *st, const char *box, struct box_endpoint **ret, size_t *ret_n, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	int r = state_prepare(
		st, &s, e, "SELECT " COLUMNS "WHERE e.box=?1 AND e.leaving=0 ORDER BY e.link", "s", box);
	return r < 0 ? r : collect(st, s, ret, ret_n, e);
}

static int compare_endpoints(const void *a, const void *b)
{
	const struct box_endpoint *x = a, *y = b;
	struct net_addr ax = {0}, ay = {0};

	if (x->ip4 ? net_addr_parse(x->ip4, &ax) < 0 : x->ip6 && net_addr_parse(x->ip6, &ax) < 0)
		ax = (struct net_addr){0};
	if (y->ip4 ? net_addr_parse(y->ip4, &ay) < 0 : y->ip6 && net_addr_parse(y->ip6, &ay) < 0)
		ay = (struct net_addr){0};
	int c = compare_addr(&ax, &ay);
	return c ? c : strcmp(x->box_name, y->box_name);
}

int box_endpoints_of_network(
	struct state *st, const char *network, struct box_endpoint **ret, size_t *ret_n, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	int r = state_prepare(
		st, &s, e, "SELECT " COLUMNS "WHERE e.network=?1 AND e.leaving=0", "s", network);

	if (r == 0)
		r = collect(st, s, ret, ret_n, e);
	if (r == 0 && *ret_n)
		qsort(*ret, *ret_n, sizeof(**ret), compare_endpoints);
	return r;
}

int box_endpoints_drop(struct state *st, const struct box *b, struct err *e)
{
	struct box_endpoint *v = NULL;
	size_t n = 0;
	int r = box_endpoints_of_box(st, b->id, &v, &n, e);

	for (size_t i = 0; r == 0 && i < n; i++) { /* what is leaving was told of */
		CLEANUP(box_network_freep) struct box_network *net = NULL;
		r = box_network_find(st, v[i].network, &net, e);
		if (r == 0)
			r = tell(st, net, b, "disconnect", e);
	}
	box_endpoints_free(v, n);
	return r < 0 ? r : state_exec(st, e, "DELETE FROM endpoints WHERE box=?1", "s", b->id);
}
