/* SPDX-License-Identifier: MIT */
/* Published ports: text, records, sockets; and the way to netd's answers. */
#include "test-home.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "box/network.h"

static void text_there_and_back(void **state)
{
	static const char *const good[] = {"80:80/tcp", "0:80/udp", "127.0.0.1:8080:80/tcp",
		"[::1]:8080:80/tcp", "[::]:0:1/udp", "8000-8010:80/tcp", "[fd00::1]:1-65535:65535/tcp"};
	static const char *const bad[] = {"", "80", "80/tcp", ":80/tcp", "80:/tcp", "80:80", "80:80/",
		"80:80/sctp", "80:0/tcp", "65536:80/tcp", "80:65536/tcp", "-1:80/tcp", "8010-8000:80/tcp",
		"0-5:80/tcp", "80-:80/tcp", "80:80-81/tcp", "::1:80:80/tcp", "[127.0.0.1]:80:80/tcp",
		"[::1]80:80/tcp", "[::1:80:80/tcp", "x:80:80/tcp", ":80:80/tcp", "80:80/tcp ", " 80:80/tcp",
		"+80:80/tcp", "1.2.3.4:5:6:7/tcp", "[]:80:80/tcp", "000000000080:80/tcp"};

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		char text[BOX_PORT_TEXT_MAX];
		struct box_port p;
		assert_int_equal(box_port_parse(good[i], &p), 0);
		assert_string_equal(box_port_text(&p, text), good[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct box_port p = {.guest = 7};
		if (box_port_parse(bad[i], &p) != -EINVAL)
			fail_msg("accepted: %s", bad[i]);
		assert_int_equal(p.guest, 7); /* untouched */
	}
}

static struct box_port port(const char *text)
{
	struct box_port p;

	assert_int_equal(box_port_parse(text, &p), 0);
	return p;
}

static int collect(const char *box, const struct box_port *p, void *data)
{
	char text[BOX_PORT_TEXT_MAX], *all = data;

	sprintf(all + strlen(all), "%s%.1s %s", *all ? ", " : "", box, box_port_text(p, text));
	return 0;
}

static void insert_box(const char *id)
{
	assert_int_equal(
		state_exec(st, NULL,
			"INSERT INTO "
			"boxes(id,name,image,image_id,manifest,disk,state,created,auto_remove,config)"
			" VALUES(?1,?1,'i','i','m','d','running',1,0,'{\"publish\":[\"0:80/tcp\"]}')",
			"s", id),
		0);
}

static void records_are_the_boxs(void **state)
{
	struct box_port v[] = {
		port("0.0.0.0:9000:90/tcp"), port("[::]:80:80/udp"), port("0.0.0.0:80:80/tcp")};
	struct box **boxes;
	char all[512] = "";
	struct err e = {0};
	size_t n;

	insert_box("a");
	insert_box("b");
	assert_int_equal(box_ports_set(st, "a", v, 3, &e), 0);
	assert_int_equal(box_ports_set(st, "b", v, 1, &e), 0);
	assert_int_equal(box_ports_set(st, "nobody", v, 1, &e), -EEXIST); /* no such box */
	assert_int_equal(box_ports_read(st, NULL, collect, all, &e), 0);
	assert_string_equal(all, "a 0.0.0.0:80:80/tcp, a [::]:80:80/udp, a 0.0.0.0:9000:90/tcp, b "
				 "0.0.0.0:9000:90/tcp");
	all[0] = '\0';
	assert_int_equal(box_ports_read(st, "b", collect, all, &e), 0);
	assert_string_equal(all, "b 0.0.0.0:9000:90/tcp");

	assert_int_equal(box_list_brief(st, true, BOX_PART_PORTS | BOX_PART_NETWORKS, &boxes, &n, &e), 0);
	assert_int_equal(n, 2);
	assert_int_equal(boxes[0]->ports.n, 3);
	assert_string_equal(boxes[0]->ports.v[1], "[::]:80:80/udp");
	assert_string_equal(boxes[0]->config.publish.v[0], "0:80/tcp");
	assert_string_equal(boxes[0]->networks.v[0], "none"); /* a record of before there were any */
	box_list_free(boxes, n);

	assert_int_equal(box_set_exited(st, "b", 0, NULL, &e), 0);		       /* with the run */
	assert_int_equal(state_exec(st, &e, "DELETE FROM boxes WHERE id='a'", ""), 0); /* with the box */
	all[0] = '\0';
	assert_int_equal(box_ports_read(st, NULL, collect, all, &e), 0);
	assert_string_equal(all, "");
}

static void sockets_hold_ports_of_both_families(void **state)
{
	struct box_port any = port("0:80/tcp"), same, local = port("127.0.0.1:0:80/udp");
	struct box_listener a[2], b[2];
	struct err e = {0};

	int n = box_port_bind(NULL, &any, a, &e);
	assert_in_range(n, 1, 2);
	assert_string_equal(a[0].port.ip, "0.0.0.0");
	assert_true(a[0].port.host != 0 && a[0].port.guest == 80);
	if (n == 2) {
		assert_string_equal(a[1].port.ip, "::");
		assert_int_equal(a[1].port.host, a[0].port.host);
	}
	same = any;
	same.host = a[0].port.host;
	assert_int_equal(box_port_bind(NULL, &same, b, &e), -EADDRINUSE);
	assert_non_null(strstr(e.msg, "/tcp on 0.0.0.0 is in use"));
	same.protocol = IPPROTO_UDP; /* is another */
	assert_int_equal(box_port_bind(NULL, &same, b, &e), n);
	box_listeners_close(b, (size_t)n);

	/* Of a range that begins with it, the next free one. */
	same.protocol = IPPROTO_TCP;
	same.host_last = (uint16_t)MIN_OF(same.host + 50, 65535);
	if (same.host_last > same.host) {
		assert_int_equal(box_port_bind(NULL, &same, b, &e), n);
		assert_true(b[0].port.host > same.host && b[0].port.host <= same.host_last);
		assert_int_equal(b[0].port.host_last, 0);
		box_listeners_close(b, (size_t)n);
	}
	box_listeners_close(a, (size_t)n);
	assert_int_equal(box_port_bind(NULL, &local, b, &e), 1);
	assert_string_equal(b[0].port.ip, "127.0.0.1");
	box_listeners_close(b, 1);
	snprintf(local.ip, sizeof(local.ip), "192.0.2.1"); /* RFC 5737: nobody's */
	assert_int_equal(box_port_bind(NULL, &local, b, &e), -EADDRNOTAVAIL);
}

/* Half of one family must not stay. */
static void a_conflict_in_one_family_leaves_nothing(void **state)
{
	struct box_port six = port("[::]:0:80/tcp"), all = port("0:80/tcp");
	struct box_listener a[2], b[2];
	struct err e = {0};

	if (box_port_bind(NULL, &six, a, &e) < 0)
		skip(); /* no IPv6 here */
	all.host = a[0].port.host;
	assert_int_equal(box_port_bind(NULL, &all, b, &e), -EADDRINUSE);
	assert_non_null(strstr(e.msg, "/tcp on [::] is in use"));
	snprintf(all.ip, sizeof(all.ip), "0.0.0.0");
	assert_int_equal(box_port_bind(NULL, &all, b, &e), 1);
	box_listeners_close(b, 1);
	box_listeners_close(a, 1);
}

static void who_has_a_port_is_named(void **state)
{
	struct box_port p = port("127.0.0.1:0:80/tcp");
	struct box_listener a[2], b[2];
	struct err e = {0};

	insert_box("web");
	assert_int_equal(box_port_bind(st, &p, a, &e), 1);
	assert_int_equal(box_ports_set(st, "web", &a[0].port, 1, &e), 0);
	p.host = a[0].port.host;
	assert_int_equal(box_port_bind(st, &p, b, &e), -EADDRINUSE);
	assert_string_equal(e.hint, "box web publishes it");
	box_listeners_close(a, 1);
}

/* netd has copies of the sockets, and may outlive the box by a moment. */
static void who_has_a_copy_keeps_no_port(void **state)
{
	struct box_port p = port("127.0.0.1:0:80/tcp");
	struct box_listener a[2], b[2];
	struct err e = {0};
	int status;

	assert_int_equal(box_port_bind(NULL, &p, a, &e), 1);
	p.host = a[0].port.host;
	int copy = dup(a[0].fd);
	box_listeners_close(a, 1);
	assert_int_equal(box_port_bind(NULL, &p, b, &e), 1);
	close(copy);
	/* Of a datagram socket nobody can take it away: it is waited for. */
	box_listeners_close(b, 1);
	p.protocol = IPPROTO_UDP;
	p.host = 0;
	assert_int_equal(box_port_bind(NULL, &p, a, &e), 1);
	p.host = a[0].port.host;
	pid_t pid = fork();
	if (pid == 0) {
		nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
		_exit(0);
	}
	box_listeners_close(a, 1);
	assert_int_equal(box_port_bind(NULL, &p, b, &e), 1);
	box_listeners_close(b, 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
}

/* What cannot be removed, as its folder cannot, has no ports any more. */
static void a_dead_box_has_no_ports(void **state)
{
	const struct box_port p = port("127.0.0.1:9000:80/tcp");
	CLEANUP_FREE char *id = make_idle_box("web");
	char all[512] = "";
	struct err e = {0};

	assert_int_equal(box_ports_set(st, id, &p, 1, &e), 0);
	force_state(id, BOX_REMOVING);
	/* A file where the folder's parent should be a folder. */
	CLEANUP_FREE char *parent = str_printf("%s/boxes", st->home);
	CLEANUP_FREE char *aside = str_printf("%s/aside", st->home);
	assert_int_equal(rename(parent, aside), 0);
	assert_int_equal(close(open(parent, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)), 0);
	assert_int_equal(box_reconcile(st, &e), 0);
	assert_int_equal(state_of(id), BOX_DEAD);
	assert_int_equal(box_ports_read(st, id, collect, all, &e), 0);
	assert_string_equal(all, "");
	assert_int_equal(unlink(parent), 0);
	assert_int_equal(rename(aside, parent), 0);
}

/* ---- netd ---- */

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), 0), strlen(text));
}

static void answers_are_told_from_events(void **state)
{
	CLEANUP_FREE char *answer = NULL;
	int pair[2], passed, fds[1];
	char text[64], space[CMSG_SPACE(sizeof(int))];
	struct iovec iov = {text, sizeof(text)};
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space)};
	struct err e = {0};

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	fds[0] = pair[0];
	say(pair[1], "{\"event\":\"denied\"}");
	say(pair[1], "{\"error\":null,\"x\":1}");
	say(pair[1], "{\"error\":\"no room\"}");
	say(pair[1], "[]");
	assert_int_equal(box_netd_call(pair[0], "{\"op\":\"inspect\"}", fds, 1, &answer, &e), 0);
	assert_string_equal(answer, "{\"error\":null,\"x\":1}");
	assert_int_equal(recvmsg(pair[1], &m, MSG_CMSG_CLOEXEC), 16);
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	assert_non_null(c);
	if (!c)
		return;
	memcpy(&passed, CMSG_DATA(c), sizeof(passed));
	assert_true(passed > 2);
	close(passed);
	assert_int_equal(box_netd_call(pair[0], "{}", NULL, 0, NULL, &e), -EIO);
	assert_string_equal(e.msg, "no room");
	assert_int_equal(box_netd_call(pair[0], "{}", NULL, 0, NULL, &e), -EBADMSG);
	close(pair[1]);
	int r = box_netd_call(pair[0], "{}", NULL, 0, NULL, &e);
	assert_true(r == -EPIPE || r == -ECONNRESET);
	close(pair[0]);
}

static void a_network_without_a_process_says_so(void **state)
{
	struct err e = {0};

	assert_int_equal(box_netd_connect(st, "0123456789abcdef", &e), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_there_and_back),
		HOME_TEST(records_are_the_boxs),
		cmocka_unit_test(sockets_hold_ports_of_both_families),
		cmocka_unit_test(a_conflict_in_one_family_leaves_nothing),
		HOME_TEST(who_has_a_port_is_named),
		cmocka_unit_test(who_has_a_copy_keeps_no_port),
		HOME_TEST(a_dead_box_has_no_ports),
		cmocka_unit_test(answers_are_told_from_events),
		HOME_TEST(a_network_without_a_process_says_so),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
