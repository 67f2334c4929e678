/* SPDX-License-Identifier: MIT */
/* Records of networks and of who is on them. */
#include "box/network.h"

#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/io.h"
#include "base/proc.h"
#include "run.h"
#include "state/event.h"
#include "test-home.h"

static struct box_network *make(const char *name, const char *subnet4, const char *subnet6)
{
	struct box_network want = {
		.name = (char *)name, .subnet4 = (char *)subnet4, .subnet6 = (char *)subnet6};
	struct box_network *n = NULL;

	expect(box_network_create(st, &want, &n, &err), 0);
	return n;
}

static int try_make(const struct box_network *want)
{
	struct box_network *n = NULL;
	int r = box_network_create(st, want, &n, &err);

	box_network_free(n);
	return r;
}

static int join(const char *network, const char *box, const char *ip4)
{
	const struct box_endpoint ep = {
		.network = (char *)network, .box = (char *)box, .ip4_asked = (char *)ip4};
	return box_endpoint_add(st, &ep, &err);
}

/* "link ip4 ip6 name…" of a box's endpoints, with ";" between. */
static const char *endpoints_of(const char *box)
{
	static char text[1024];
	struct box_endpoint *v = NULL;
	size_t n = 0, used = 0;

	expect(box_endpoints_of_box(st, box, &v, &n, &err), 0);
	text[0] = '\0';
	for (size_t i = 0; i < n; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%u %s %s %s", i ? ";" : "",
			v[i].link, v[i].ip4 ? v[i].ip4 : "-", v[i].ip6 ? v[i].ip6 : "-", v[i].network_name);
	box_endpoints_free(v, n);
	return text;
}

static int note_event(const struct event *ev, void *data)
{
	struct buf *b = data;
	const char *box = strv_getenv(&ev->attrs, "container");

	if (strcmp(ev->type, "network") == 0) {
		CLEANUP_FREE char *line = str_printf("%s %s %s %s\n", ev->action,
			strv_getenv(&ev->attrs, "name"), strv_getenv(&ev->attrs, "type"), box ? "box" : "-");
		buf_append(b, line, strlen(line));
	}
	return 0;
}

static void networks_come_and_go(void **state)
{
	CLEANUP(buf_done) struct buf events = {0};
	CLEANUP(box_network_freep) struct box_network *n = NULL;
	CLEANUP(box_network_freep) struct box_network *found = NULL;
	struct box_network want = {.name = (char *)"front",
		.internal = true,
		.isolation = NET_ISOLATION_CUSTOM,
		.policy = (char *)"{ \"egress\": [{\"action\": \"allow\"}] }"};

	strv_push(&want.labels, "a=b");
	strv_push(&want.opts, "x=\xff");
	expect(box_network_create(st, &want, &n, &err), 0);
	strv_done(&want.labels);
	strv_done(&want.opts);
	assert_int_equal(strlen(n->id), 64);
	expect(box_network_find(st, "front", &found, &err), 0);
	assert_string_equal(found->id, n->id);
	assert_string_equal(found->driver, "bridge");
	assert_true(strncmp(found->subnet4, "10.", 3) == 0 && strstr(found->subnet4, ".0/24"));
	assert_true(strncmp(found->subnet6, "fda3:5b0c:", 10) == 0 && strstr(found->subnet6, "::/64"));
	assert_true(strstr(found->gateway4, ".1") && strstr(found->gateway6, "::1"));
	assert_true(found->internal);
	assert_int_equal(found->isolation, NET_ISOLATION_CUSTOM);
	assert_string_equal(found->policy, "{\"egress\":[{\"action\":\"allow\"}],\"ingress\":[]}");
	assert_string_equal(found->labels.v[0], "a=b");
	assert_string_equal(found->opts.v[0], "x=\xff");
	assert_true(found->created_ns > 0);
	box_network_free(TAKE_PTR(found));
	n->id[10] = '\0'; /* a prefix of the ID */
	expect(box_network_find(st, n->id, &found, &err), 0);
	assert_string_equal(found->name, "front");
	expect(box_network_remove(st, found, &err), 0);
	expect(box_network_remove(st, found, &err), -ENOENT);
	box_network_free(TAKE_PTR(found));
	expect(box_network_find(st, "front", &found, &err), -ENOENT);
	assert_int_equal(count_rows("networks"), 0);
	expect(event_read(st, 0, 0, note_event, &events, NULL, &err), 0);
	buf_append(&events, "", 1);
	assert_string_equal((char *)buf_data(&events), "create front bridge -\ndestroy front bridge -\n");
}

static void predefined_ones_are_there(void **state)
{
	struct box_network **list = NULL;
	struct box_network *n = NULL;
	size_t count = 0;

	box_network_free(make("zz", NULL, NULL));
	box_network_free(make("aa", NULL, NULL));
	expect(box_network_list(st, &list, &count, &err), 0);
	assert_int_equal(count, 4);
	const char *const names[] = {"bridge", "none", "aa", "zz"};
	for (size_t i = 0; i < count; i++)
		assert_string_equal(list[i]->name, names[i]);
	assert_string_equal(list[0]->subnet4, BOX_DEFAULT_SUBNET4);
	box_network_list_free(list, count);
	for (size_t i = 0; i < 2; i++) {
		expect(box_network_find(st, names[i], &n, &err), 0);
		assert_string_equal(n->id, names[i]);
		expect(box_network_remove(st, n, &err), -EPERM);
		expect(box_network_set_policy(st, n, NET_ISOLATION_NONE, NULL, &err), -EPERM);
		box_network_free(TAKE_PTR(n));
	}
	expect(box_network_find(st, "host", &n, &err), -ENOTSUP);
	expect(box_network_find(st, "", &n, &err), -ENOENT);
}

static void bad_networks_are_refused(void **state)
{
	static const struct {
		struct box_network want;
		int code;
	} cases[] = {
		{{.name = (char *)"bridge"}, -EPERM},
		{{.name = (char *)"host"}, -EPERM},
		{{.name = (char *)"default"}, -EPERM},
		{{.name = (char *)""}, -EINVAL},
		{{.name = (char *)"-x"}, -EINVAL},
		{{.name = (char *)"a/b"}, -EINVAL},
		{{.name = (char *)"there"}, -EEXIST},
		{{.name = (char *)"n", .subnet4 = (char *)"10.1.0.0/33"}, -EINVAL},
		{{.name = (char *)"n", .subnet4 = (char *)"10.1.0.1/24"}, -EINVAL},
		{{.name = (char *)"n", .subnet4 = (char *)"10.1.0.0/31"}, -EINVAL},
		{{.name = (char *)"n", .subnet4 = (char *)"0.0.0.0/0"}, -EINVAL},
		{{.name = (char *)"n", .subnet4 = (char *)"127.1.0.0/16"}, -EINVAL},
		{{.name = (char *)"n", .subnet4 = (char *)"224.1.0.0/16"}, -EINVAL},
		{{.name = (char *)"n", .subnet4 = (char *)"169.254.1.0/24"}, -EINVAL},
		{{.name = (char *)"n", .subnet4 = (char *)"fd00::/64"}, -EINVAL},
		{{.name = (char *)"n", .subnet6 = (char *)"10.1.0.0/24"}, -EINVAL},
		{{.name = (char *)"n", .subnet6 = (char *)"fe80::/64"}, -EINVAL},
		{{.name = (char *)"n", .subnet6 = (char *)"fd00::/127"}, -EINVAL},
		{{.name = (char *)"n", .subnet6 = (char *)"fd00::/8"}, -EINVAL},
		{{.name = (char *)"n", .subnet4 = (char *)"10.87.0.0/16"}, -EADDRINUSE}, /* each box's own */
		{{.name = (char *)"n", .subnet4 = (char *)"172.20.5.0/24"}, -EADDRINUSE},
		{{.name = (char *)"n", .subnet4 = (char *)"172.0.0.0/8"}, -EADDRINUSE},
		{{.name = (char *)"n", .subnet6 = (char *)"fd01:2::/32"}, -EADDRINUSE},
		{{.name = (char *)"n", .subnet4 = (char *)"10.1.0.0/24", .gateway4 = (char *)"10.1.1.1"},
			-EINVAL},
		{{.name = (char *)"n", .subnet4 = (char *)"10.1.0.0/24", .gateway4 = (char *)"10.1.0.0"},
			-EINVAL},
		{{.name = (char *)"n", .subnet4 = (char *)"10.1.0.0/24", .gateway4 = (char *)"10.1.0.255"},
			-EINVAL},
		{{.name = (char *)"n", .subnet4 = (char *)"10.1.0.0/24", .gateway4 = (char *)"x"}, -EINVAL},
		{{.name = (char *)"n", .subnet4 = (char *)"10.1.0.0/24", .gateway4 = (char *)"fd00::1"},
			-EINVAL},
		{{.name = (char *)"n", .subnet6 = (char *)"", .gateway6 = (char *)"fd00::1"}, -EINVAL},
		{{.name = (char *)"n", .subnet4 = (char *)"", .subnet6 = (char *)""}, -EINVAL},
		{{.name = (char *)"n", .policy = (char *)"{\"egress\": 1}"}, -EINVAL},
	};

	box_network_free(make("there", "172.20.0.0/16", "fd01:2:3::/64"));
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int r = try_make(&cases[i].want);
		if (r != cases[i].code || !err.msg[0])
			fail_msg("case %zu: %d, want %d: %s", i, r, cases[i].code, err.msg);
	}
	assert_int_equal(count_rows("networks"), 1);
	assert_int_equal(count_rows("events"), 1);
	/* One family is enough. */
	CLEANUP(box_network_freep) struct box_network *n = make("four", "10.1.0.0/30", "");
	assert_null(n->subnet6);
	assert_string_equal(n->gateway4, "10.1.0.1");
	CLEANUP(box_network_freep) struct box_network *six = make("six", "", "fd01::/126");
	assert_null(six->subnet4);
	assert_string_equal(six->gateway6, "fd01::1");
}

/* The host's own addresses are not taken, in a namespace where we choose them. */
static void chosen_subnets_avoid_the_host_and_each_other(void **state)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct ifreq ifr = {.ifr_name = "lo"};
		struct sockaddr_in *in = (struct sockaddr_in *)&ifr.ifr_addr;
		int fd = unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0 ? -1 : socket(AF_INET, SOCK_DGRAM, 0);
		in->sin_family = AF_INET;
		in->sin_addr.s_addr = htonl(0x0a580001); /* 10.88.0.1/16 */
		if (fd < 0 || ioctl(fd, SIOCSIFADDR, &ifr) < 0)
			_exit(77);
		in->sin_addr.s_addr = htonl(0xffff0000);
		if (ioctl(fd, SIOCSIFNETMASK, &ifr) < 0)
			_exit(77);
		struct state *s = home_reopen();
		struct box_network *a = NULL, *b = NULL, *c = NULL;
		const struct box_network one = {.name = (char *)"one"}, two = {.name = (char *)"two"},
					 own = {.name = (char *)"own", .subnet4 = (char *)"10.89.1.0/24"};
		if (box_network_create(s, &one, &a, NULL) < 0 || box_network_create(s, &own, &b, NULL) < 0 ||
			box_network_create(s, &two, &c, NULL) < 0)
			_exit(1);
		_exit(strcmp(a->subnet4, "10.89.0.0/24") ? 2 : strcmp(c->subnet4, "10.89.2.0/24") ? 3 : 0);
	}
	assert_int_equal(proc_wait(pid, &status), 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(status, 0);
}

static void boxes_join_and_leave(void **state)
{
	CLEANUP_FREE char *web = make_idle_box("web");
	CLEANUP_FREE char *app = make_idle_box("app");
	CLEANUP(box_network_freep) struct box_network *n = make("net", "10.200.0.0/24", "fd02::/64");
	CLEANUP(box_network_freep) struct box_network *m = make("more", "10.201.0.0/24", "");
	CLEANUP(buf_done) struct buf events = {0};

	expect(join(BOX_NETWORK_DEFAULT, web, NULL), 0);
	expect(join(BOX_NETWORK_DEFAULT, app, NULL), 0); /* the same addresses, each for itself */
	expect(join("net", web, NULL), 0);
	expect(join(m->id, web, "10.201.0.77"), 0);
	assert_string_equal(endpoints_of(web),
		"0 10.87.0.2 fda3:5b0c::2 bridge;1 10.200.0.2 fd02::2 net;2 10.201.0.77 - more");
	expect(join("net", web, NULL), -EEXIST);
	expect(join("net", app, "10.200.0.2"), -EADDRINUSE);
	expect(join("net", app, "10.200.0.1"), -EADDRINUSE);
	expect(join("net", app, "10.200.0.0"), -ERANGE);
	expect(join("net", app, "10.200.0.255"), -ERANGE);
	expect(join("net", app, "10.201.0.5"), -ERANGE);
	expect(join("net", app, "fd02::5"), -ERANGE);
	expect(join("net", app, "x"), -EINVAL);
	expect(join("nosuch", app, NULL), -ENOENT);
	expect(join("net", "nosuch", NULL), -ENOENT);
	expect(join(BOX_NETWORK_NONE, app, NULL), -ENOTSUP);
	expect(join("host", app, NULL), -ENOTSUP);
	expect(box_endpoint_remove(st, n->id, app, &err), -ENOENT);
	expect(box_network_remove(st, n, &err), -EBUSY);
	assert_non_null(strstr(err.hint, "web"));
	/* What was left is the next one's, link and address. */
	expect(box_endpoint_remove(st, BOX_NETWORK_DEFAULT, web, &err), 0);
	expect(box_endpoint_remove(st, "net", web, &err), 0);
	expect(join("net", app, NULL), 0);
	expect(join("net", web, NULL), 0);
	assert_string_equal(endpoints_of(web), "0 10.200.0.3 fd02::3 net;2 10.201.0.77 - more");
	assert_string_equal(endpoints_of(app), "0 10.87.0.2 fda3:5b0c::2 bridge;1 10.200.0.2 fd02::2 net");
	/* Aliases. */
	struct box_endpoint ep = {.network = m->id, .box = app};
	strv_push(&ep.aliases, "a b");
	expect(box_endpoint_add(st, &ep, &err), -EINVAL);
	strv_done(&ep.aliases);
	strv_push(&ep.aliases, "api.v1");
	expect(box_endpoint_add(st, &ep, &err), 0);
	strv_done(&ep.aliases);
	struct box_endpoint *v = NULL;
	size_t count = 0;
	expect(box_endpoints_of_network(st, m->id, &v, &count, &err), 0);
	assert_int_equal(count, 2);
	assert_string_equal(v[0].box_name, "app"); /* by address */
	assert_string_equal(v[0].aliases.v[0], "api.v1");
	assert_string_equal(v[1].ip4_asked, "10.201.0.77");
	box_endpoints_free(v, count);
	expect(event_read(st, 0, 0, note_event, &events, NULL, &err), 0);
	buf_append(&events, "", 1);
	assert_string_equal((char *)buf_data(&events),
		"create net bridge -\ncreate more bridge -\nconnect net bridge box\nconnect more bridge box\n"
		"disconnect net bridge box\nconnect net bridge box\nconnect net bridge box\nconnect more "
		"bridge box\n");
}

static void a_box_takes_its_places_along(void **state)
{
	CLEANUP_FREE char *web = make_idle_box("web");
	CLEANUP(box_network_freep) struct box_network *n = make("net", NULL, NULL);
	int lock = -1;

	expect(join(BOX_NETWORK_DEFAULT, web, NULL), 0);
	expect(join("net", web, NULL), 0);
	assert_int_equal(count_rows("endpoints"), 2);
	expect(box_lock(st, web, &lock, &err), 0);
	expect(box_remove_locked(st, web, &lock, &err), 0);
	assert_int_equal(count_rows("endpoints"), 0);
	expect(box_network_remove(st, n, &err), 0);
	/* One whose removal a crash interrupted. */
	CLEANUP_FREE char *gone = make_idle_box("gone");
	expect(join(BOX_NETWORK_DEFAULT, gone, NULL), 0);
	force_state(gone, BOX_REMOVING);
	expect(box_reconcile(st, &err), 0);
	assert_int_equal(count_rows("endpoints"), 0);
	/* And nothing is left of a change that is given up. */
	CLEANUP_FREE char *other = make_idle_box("other");
	expect(state_begin(st, &err), 0);
	expect(join(BOX_NETWORK_DEFAULT, other, NULL), 0);
	assert_int_equal(state_end(st, -EINTR, &err), -EINTR);
	assert_int_equal(count_rows("endpoints"), 0);
}

/* Endpoints, changes. */
static const char *rows(void)
{
	static char text[32];

	snprintf(text, sizeof(text), "%d %d", (int)count_rows("endpoints"),
		(int)count_rows("network_changes"));
	return text;
}

static void a_live_box_keeps_its_address_until_it_has_left(void **state)
{
	CLEANUP_FREE char *web = make_idle_box("web");
	CLEANUP_FREE char *app = make_idle_box("app");
	CLEANUP(box_network_freep) struct box_network *n = make("net", "10.205.0.0/29", "");
	struct box_endpoint *v = NULL;
	int64_t first, second;
	size_t count = 0;

	expect(join("net", web, NULL), 0);
	expect(box_networks_changed(st, web, &first, &err), 0);
	assert_int_equal(first, 0); /* it does not run */
	force_state(web, BOX_RUNNING);
	expect(box_endpoint_remove(st, "net", web, &err), 0);
	expect(box_networks_changed(st, web, &first, &err), 0);
	assert_true(first > 0);
	assert_string_equal(endpoints_of(web), "");
	expect(box_endpoints_of_network(st, n->id, &v, &count, &err), 0);
	assert_int_equal(count, 0);
	box_endpoints_free(v, count);
	/* It is in use nevertheless. */
	expect(join("net", app, "10.205.0.2"), -EADDRINUSE);
	expect(join("net", app, NULL), 0);
	assert_string_equal(endpoints_of(app), "0 10.205.0.3 - net");
	expect(box_endpoint_remove(st, "net", app, &err), 0);
	expect(join("net", web, NULL), -EBUSY);
	expect(box_endpoint_remove(st, "net", web, &err), -ENOENT);
	expect(box_network_remove(st, n, &err), -EBUSY);
	assert_non_null(strstr(err.msg, "web"));
	/* Taken back, and done again: what was acted on before the second is no word about it. */
	expect(box_endpoint_restore(st, "net", web, &err), 0);
	assert_string_equal(endpoints_of(web), "0 10.205.0.2 - net");
	expect(box_endpoint_restore(st, "net", web, &err), -ENOENT);
	expect(box_endpoint_remove(st, "net", web, &err), 0);
	expect(box_networks_settled(st, web, first, &err), 0);
	assert_string_equal(rows(), "1 1");
	expect(box_networks_changed(st, web, &second, &err), 0);
	assert_true(second > first);
	expect(box_networks_settled(st, web, second, &err), 0);
	assert_string_equal(rows(), "0 0");
	/* No number comes twice. */
	expect(join("net", web, NULL), 0);
	expect(box_networks_changed(st, web, &first, &err), 0);
	assert_true(first > second);
	expect(box_networks_settled(st, web, first, &err), 0);
	assert_string_equal(rows(), "1 0");
}

static void changes_that_nobody_acted_on(void **state)
{
	CLEANUP_FREE char *web = make_idle_box("web");
	CLEANUP_FREE char *old = make_idle_box("old");
	CLEANUP(box_network_freep) struct box_network *n = make("net", NULL, NULL);
	CLEANUP(box_freep) struct box *b = NULL;
	int lock = -1;

	expect(join("net", web, NULL), 0);
	force_state(web, BOX_RUNNING);
	expect(box_endpoint_remove(st, "net", web, &err), 0);
	assert_string_equal(rows(), "1 1");
	force_state(web, BOX_EXITED); /* as its supervisor does with its end */
	expect(box_reconcile(st, &err), 0);
	assert_string_equal(rows(), "0 0");
	/* Whoever removes the box removes them as well; a new name is one. */
	expect(join(BOX_NETWORK_DEFAULT, web, NULL), 0);
	expect(join("net", web, NULL), 0);
	force_state(web, BOX_RUNNING);
	expect(box_find(st, web, &b, &err), 0);
	expect(box_rename(st, b, "new", &err), 0);
	assert_string_equal(rows(), "2 1");
	expect(box_endpoint_remove(st, "net", web, &err), 0);
	force_state(web, BOX_EXITED);
	expect(box_lock(st, web, &lock, &err), 0);
	expect(box_remove_locked(st, web, &lock, &err), 0);
	assert_string_equal(rows(), "0 0");
	expect(box_network_remove(st, n, &err), 0);
	/* A box without a network device cannot be connected, and its new name is nobody's matter. */
	expect(state_exec(st, &err, "UPDATE boxes SET config=json_remove(config,'$.network')", ""), 0);
	expect(join(BOX_NETWORK_DEFAULT, old, NULL), -ENOTSUP);
	assert_non_null(strstr(err.hint, "--network"));
	force_state(old, BOX_RUNNING);
	box_free(TAKE_PTR(b));
	expect(box_find(st, old, &b, &err), 0);
	expect(box_rename(st, b, "older", &err), 0);
	assert_string_equal(rows(), "0 0");
	force_state(old, BOX_EXITED);
}

static void links_and_addresses_run_out(void **state)
{
	CLEANUP_FREE char *web = make_idle_box("web");
	char name[16];

	for (unsigned i = 0; i <= BOX_LINKS_MAX; i++) {
		snprintf(name, sizeof(name), "n%u", i);
		box_network_free(make(name, NULL, ""));
		expect(join(name, web, NULL), i < BOX_LINKS_MAX ? 0 : -EMLINK);
	}
	/* A /29 has eight, of which five are for boxes; one of six leaves again. */
	box_network_free(make("small", "10.202.0.0/29", ""));
	for (unsigned i = 0; i < 6; i++) {
		snprintf(name, sizeof(name), "b%u", i);
		CLEANUP_FREE char *box = make_idle_box(name);
		expect(join("small", box, NULL), 0);
		if (i == 2)
			expect(box_endpoint_remove(st, "small", box, &err), 0);
		if (i == 3)
			expect(join("small", box, NULL), -EEXIST);
	}
	CLEANUP_FREE char *last = make_idle_box("last");
	expect(join("small", last, NULL), -ENOSPC);
	/* The gateway may be anywhere. */
	const struct box_network want = {.name = (char *)"odd",
		.subnet4 = (char *)"10.203.0.0/29",
		.gateway4 = (char *)"10.203.0.3",
		.subnet6 = (char *)""};
	expect(try_make(&want), 0);
	expect(join("odd", last, NULL), 0);
	assert_string_equal(endpoints_of(last), "0 10.203.0.1 - odd");
}

enum { CHILDREN = 8, EACH = 64 };

/* One of several processes that put boxes on a network at the same time. */
static int join_many(unsigned child)
{
	st = home_reopen();
	for (unsigned i = 0; i < EACH; i++) {
		char id[BOX_ID_LEN + 1];
		snprintf(id, sizeof(id), "%064x", child * EACH + i + 1);
		if (join("busy", id, NULL) < 0)
			return 1;
	}
	return 0;
}

static void nobody_gets_the_same_address(void **state)
{
	pid_t pids[CHILDREN];

	box_network_free(make("busy", "10.204.0.0/16", "fd03::/64"));
	expect(state_begin(st, &err), 0);
	for (unsigned i = 1; i <= CHILDREN * EACH; i++) {
		char id[BOX_ID_LEN + 1], name[16];
		snprintf(id, sizeof(id), "%064x", i);
		snprintf(name, sizeof(name), "p%u", i);
		expect(state_exec(st, &err,
			       "INSERT INTO "
			       "boxes(id,name,image,image_id,manifest,disk,state,created,auto_remove,config)"
			       " VALUES(?1,?2,'i','i','m','d','created',1,0,'{\"network\":\"bridge\"}')",
			       "ss", id, name),
			0);
	}
	expect(state_end(st, 0, &err), 0);
	for (unsigned i = 0; i < CHILDREN; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			_exit(join_many(i));
	}
	for (unsigned i = 0; i < CHILDREN; i++) {
		int status;
		assert_int_equal(proc_wait(pids[i], &status), 0);
		assert_int_equal(status, 0);
	}
	struct box_endpoint *v = NULL;
	size_t n = 0;
	expect(box_endpoints_of_network(st, "busy", &v, &n, &err), 0);
	assert_int_equal(n, 0); /* by ID, not by name */
	CLEANUP(box_network_freep) struct box_network *busy = NULL;
	expect(box_network_find(st, "busy", &busy, &err), 0);
	expect(box_endpoints_of_network(st, busy->id, &v, &n, &err), 0);
	assert_int_equal(n, CHILDREN * EACH);
	for (size_t i = 0; i < n; i++) { /* all different, and without a gap */
		struct net_addr a, want4;
		const uint8_t b[] = {10, 204, (uint8_t)((i + 2) >> 8), (uint8_t)(i + 2)};
		want4 = net_addr_from4(b);
		assert_int_equal(net_addr_parse(v[i].ip4, &a), 0);
		assert_true(net_addr_equal(&a, &want4));
		assert_non_null(v[i].ip6);
	}
	box_endpoints_free(v, n);
}

static void rules_change(void **state)
{
	CLEANUP(box_network_freep) struct box_network *n = make("net", NULL, NULL);
	CLEANUP(box_network_freep) struct box_network *now = NULL;

	expect(box_network_set_policy(
		       st, n, NET_ISOLATION_STRICT, "{\"egress\":[{\"action\":\"deny\"}]}", &err),
		0);
	expect(box_network_find(st, "net", &now, &err), 0);
	assert_int_equal(now->isolation, NET_ISOLATION_STRICT);
	assert_string_equal(now->policy, "{\"egress\":[{\"action\":\"deny\"}],\"ingress\":[]}");
	expect(box_network_set_policy(st, n, NET_ISOLATION_CUSTOM, "{\"egress\":[{}]}", &err), -EINVAL);
	box_network_free(TAKE_PTR(now));
	expect(box_network_find(st, "net", &now, &err), 0);
	assert_int_equal(now->isolation, NET_ISOLATION_STRICT);
	box_network_free(TAKE_PTR(now));
	/* One that died between record and netd is finished by the next command. */
	expect(state_exec(st, &err, "UPDATE networks SET changed=1", ""), 0);
	expect(box_reconcile(st, &err), 0);
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	expect(state_prepare(st, &s, &err, "SELECT changed FROM networks", ""), 0);
	expect(state_step(st, s, &err), 1);
	assert_int_equal(sqlite3_column_int(s, 0), 0);
}

struct fake_netd {
	pid_t pid;
	int lock;
};

/* Something that listens where a network's netd would: it says answer to all, or, NULL, nothing. */
static void start_fake_netd(const char *network, const char *answer, struct fake_netd *ret)
{
	CLEANUP_FREE char *path = str_printf("%s/run/net/%s", st->home, network);
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	assert_int_equal(io_mkdir_p(path, 0700), 0);
	CLEANUP_CLOSE int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	ret->lock = openat(dir, "lock", O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(flock(ret->lock, LOCK_EX), 0);
	CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/ctl.sock", dir);
	unlinkat(dir, "ctl.sock", 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 16), 0);
	ret->pid = fork();
	if (ret->pid == 0) {
		static char text[NETD_MESSAGE_MAX];
		for (;;) {
			int client = accept(fd, NULL, NULL);
			if (client < 0 || recv(client, text, sizeof(text), 0) <= 0)
				_exit(1);
			if (answer && send(client, answer, strlen(answer), MSG_NOSIGNAL) < 0)
				_exit(1);
		}
	}
	assert_true(ret->pid > 0);
}

static void stop_fake_netd(struct fake_netd *f)
{
	int status;

	kill(f->pid, SIGKILL);
	assert_int_equal(proc_wait(f->pid, &status), 0);
	close(f->lock);
}

static void expect_rules(enum net_isolation isolation, int64_t revision, bool changed)
{
	CLEANUP(box_network_freep) struct box_network *now = NULL;
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;

	expect(box_network_find(st, "net", &now, &err), 0);
	assert_int_equal(now->isolation, isolation);
	assert_int_equal(now->revision, revision);
	expect(state_prepare(st, &s, &err, "SELECT changed FROM networks", ""), 0);
	expect(state_step(st, s, &err), 1);
	assert_int_equal(sqlite3_column_int(s, 0), changed);
}

static void rules_that_a_netd_does_not_take(void **state)
{
	CLEANUP(box_network_freep) struct box_network *n = make("net", NULL, NULL);
	struct fake_netd netd;

	start_fake_netd(n->id, "{\"error\":\"no\"}", &netd);
	expect(box_network_set_policy(st, n, NET_ISOLATION_STRICT, NULL, &err), -EIO);
	expect_rules(NET_ISOLATION_NONE, 3, true); /* undone, which it does not take either */
	stop_fake_netd(&netd);
	start_fake_netd(n->id, "{\"error\":null}", &netd);
	expect(box_reconcile(st, &err), 0);
	expect_rules(NET_ISOLATION_NONE, 3, false);
	expect(box_network_set_policy(st, n, NET_ISOLATION_STRICT, NULL, &err), 0);
	expect_rules(NET_ISOLATION_STRICT, 4, false);
	stop_fake_netd(&netd);
	/* One that says nothing holds neither the next command up, nor the database. */
	start_fake_netd(n->id, NULL, &netd);
	expect(state_exec(st, &err, "UPDATE networks SET changed=1", ""), 0);
	uint64_t before = time_mono_ns();
	expect(box_reconcile(st, &err), 0);
	assert_true(time_mono_ns() - before < 5000000000ull);
	expect_rules(NET_ISOLATION_STRICT, 4, true);
	pid_t pid = fork();
	if (pid == 0) {
		st = home_reopen();
		_exit(box_network_set_policy(st, n, NET_ISOLATION_NONE, NULL, &err) < 0);
	}
	CLEANUP(box_network_freep) struct box_network *now = NULL;
	do { /* until it has written, and talks */
		box_network_free(TAKE_PTR(now));
		expect(box_network_find(st, "net", &now, &err), 0);
	} while (now->revision < 5);
	before = time_mono_ns();
	expect(state_exec(st, &err, "UPDATE networks SET isolation='custom', revision=revision+1", ""), 0);
	assert_true(time_mono_ns() - before < 5000000000ull);
	stop_fake_netd(&netd);
	int status;
	assert_int_equal(proc_wait(pid, &status), 0);
	/* The other one failed, or found nobody to tell; what came after it stays. */
	expect_rules(NET_ISOLATION_CUSTOM, 6, true);
}

static void dead_processes_leave_nothing(void **state)
{
	CLEANUP(box_network_freep) struct box_network *n = make("net", NULL, NULL);
	CLEANUP(box_network_freep) struct box_network *m = make("other", NULL, NULL);
	const char *const ids[] = {n->id, m->id};
	int locks[2];

	for (size_t i = 0; i < 2; i++) {
		CLEANUP_FREE char *dir = str_printf("%s/run/net/%s", st->home, ids[i]);
		CLEANUP_FREE char *lock = str_printf("%s/lock", dir);
		assert_int_equal(io_mkdir_p(dir, 0700), 0);
		locks[i] = open(lock, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
		assert_int_equal(flock(locks[i], LOCK_EX), 0);
	}
	close(locks[0]);
	expect(box_reconcile(st, &err), 0);
	assert_false(exists("run/net", n->id, NULL));
	assert_true(exists("run/net", m->id, "lock")); /* somebody has it */
	expect(box_network_remove(st, m, &err), 0);
	assert_true(exists("run/net", m->id, "lock"));
	close(locks[1]);
	expect(box_reconcile(st, &err), 0);
	assert_false(exists("run", "net", NULL));
}

static void addresses_of_cards(void **state)
{
	uint8_t a[6], b[6];

	box_mac("0123456789abcdef", a);
	const uint8_t want[] = {2, 0x01, 0x23, 0x45, 0x67, 0x89};
	assert_memory_equal(a, want, 6);
	box_mac("ff23456789abcdef", b);
	assert_memory_not_equal(a, b, 6);
	box_mac("x", a);
	assert_int_equal(a[0], 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		HOME_TEST(networks_come_and_go),
		HOME_TEST(predefined_ones_are_there),
		HOME_TEST(bad_networks_are_refused),
		HOME_TEST(chosen_subnets_avoid_the_host_and_each_other),
		HOME_TEST(boxes_join_and_leave),
		HOME_TEST(a_box_takes_its_places_along),
		HOME_TEST(a_live_box_keeps_its_address_until_it_has_left),
		HOME_TEST(changes_that_nobody_acted_on),
		HOME_TEST(links_and_addresses_run_out),
		HOME_TEST(nobody_gets_the_same_address),
		HOME_TEST(rules_change),
		HOME_TEST(rules_that_a_netd_does_not_take),
		HOME_TEST(dead_processes_leave_nothing),
		HOME_TEST(addresses_of_cards),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
