/* SPDX-License-Identifier: MIT */
/* Log options: what is refused before anything happens; and a syslog server, as it should be and as it should not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "log-syslog.h"
#include "log.h"

static char id[] = "0123456789abcdef", name[] = "b", image[] = "box:latest",
	    image_id[] = "sha256:fedcba9876543210";

static void options_are_checked(void **state)
{
	static const struct {
		enum box_log_driver driver;
		const char *opt;
		int want;
		const char *says;
	} cases[] = {
		{BOX_LOG_JSON_FILE, "max-size=10m", 0, NULL},
		{BOX_LOG_JSON_FILE, "max-size=-1", 0, NULL},
		{BOX_LOG_JSON_FILE, "max-size=0", -EINVAL, "a size like 10m"},
		{BOX_LOG_JSON_FILE, "max-size=much", -EINVAL, "a size like 10m"},
		{BOX_LOG_JSON_FILE, "max-size", -EINVAL, "NAME=VALUE"},
		{BOX_LOG_JSON_FILE, "max-file=1", 0, NULL},
		{BOX_LOG_JSON_FILE, "max-file=0", -EINVAL, "1 to 1000"},
		{BOX_LOG_JSON_FILE, "max-file=1001", -EINVAL, "1 to 1000"},
		{BOX_LOG_JSON_FILE, "max-files=3", -EINVAL, "json-file"},
		{BOX_LOG_JSON_FILE, "max=3", -EINVAL, "json-file"},
		{BOX_LOG_JSON_FILE, "=3", -EINVAL, "json-file"},
		{BOX_LOG_JSON_FILE, "labels=a,b", 0, NULL},
		{BOX_LOG_JSON_FILE, "env=", 0, NULL},
		{BOX_LOG_JSON_FILE, "tag={{.Name}}/{{ .ID }}", 0, NULL},
		{BOX_LOG_JSON_FILE, "tag={{.Names}}", -EINVAL, "ImageName"},
		{BOX_LOG_JSON_FILE, "tag={{.Name", -EINVAL, "ImageName"},
		{BOX_LOG_JSON_FILE, "tag={{}}", -EINVAL, "ImageName"},
		{BOX_LOG_JSON_FILE, "syslog-address=udp://h", -EINVAL, "json-file"},
		{BOX_LOG_NONE, "max-size=10m", -EINVAL, "none"},
		{BOX_LOG_SYSLOG, "max-size=10m", -EINVAL, "syslog"},
		{BOX_LOG_SYSLOG, "tag=x", 0, NULL},
		{BOX_LOG_SYSLOG, "syslog-facility=local7", 0, NULL},
		{BOX_LOG_SYSLOG, "syslog-facility=23", 0, NULL},
		{BOX_LOG_SYSLOG, "syslog-facility=24", -EINVAL, "local0"},
		{BOX_LOG_SYSLOG, "syslog-facility=local", -EINVAL, "local0"},
		{BOX_LOG_SYSLOG, "syslog-address=unix:///run/x", 0, NULL},
		{BOX_LOG_SYSLOG, "syslog-address=unix://x", -EINVAL, "unix:///PATH"},
		{BOX_LOG_SYSLOG, "syslog-address=udp://host:514", 0, NULL},
		{BOX_LOG_SYSLOG, "syslog-address=tcp://[::1]:1514", 0, NULL},
		{BOX_LOG_SYSLOG, "syslog-address=tcp://[::1", -EINVAL, "unix:///PATH"},
		{BOX_LOG_SYSLOG, "syslog-address=tcp://host:0", -EINVAL, "unix:///PATH"},
		{BOX_LOG_SYSLOG, "syslog-address=tcp://host:99999", -EINVAL, "unix:///PATH"},
		{BOX_LOG_SYSLOG, "syslog-address=tcp://:514", -EINVAL, "unix:///PATH"},
		{BOX_LOG_SYSLOG, "syslog-address=host:514", -EINVAL, "unix:///PATH"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char *opts[] = {(char *)cases[i].opt, NULL};
		struct box_log_config c = {.driver = cases[i].driver, .opts = {opts, 1}};
		struct err e = {0};
		assert_int_equal(log_config_check(&c, &e), cases[i].want);
		if (cases[i].says) {
			assert_non_null(strstr(e.msg, cases[i].opt));
			assert_non_null(strstr(e.msg, cases[i].says));
		}
	}
}

static void driver_names_go_both_ways(void **state)
{
	enum box_log_driver d;

	for (enum box_log_driver i = BOX_LOG_JSON_FILE; i <= BOX_LOG_SYSLOG; i++) {
		assert_int_equal(box_log_driver_parse(box_log_driver_name(i), &d), 0);
		assert_int_equal(d, i);
	}
	assert_int_equal(box_log_driver_parse("journald", &d), -EINVAL);
}

static void tags_are_filled_in(void **state)
{
	struct box b = {.id = id, .name = name, .image = image, .image_id = image_id};
	static const char *const cases[][2] = {{"", ""}, {"plain", "plain"}, {"{{.ID}}", "0123456789ab"},
		{"{{.FullID}}", "0123456789abcdef"}, {"a{{.Name}}{{ .ImageName }}z", "abbox:latestz"},
		{"{{.ImageID}}", "fedcba987654"}, {"{{.ImageFullID}}", "sha256:fedcba9876543210"}};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char *tag = log_tag(&b, cases[i][0]);
		assert_non_null(tag);
		assert_string_equal(tag, cases[i][1]);
		free(tag);
	}
}

/* ---- syslog ---- */

static struct loop *loop;
static struct log_syslog *l;
static int room_calls;

static void on_room(void *data)
{
	room_calls++;
}

static void open_log(const char *address, const char *more)
{
	char option[200];
	char *opts[] = {option, (char *)more, NULL};
	struct box b = {.id = id, .name = name, .image = image, .image_id = image_id};
	struct err e = {0};

	snprintf(option, sizeof(option), "syslog-address=%s", address);
	b.config.log = (struct box_log_config){.driver = BOX_LOG_SYSLOG, .opts = {opts, more ? 2 : 1}};
	assert_int_equal(log_config_check(&b.config.log, &e), 0);
	assert_int_equal(loop_new(&loop), 0);
	room_calls = 0;
	assert_int_equal(log_syslog_open(loop, &b, on_room, NULL, &l, &e), 0);
}

static void close_log(void)
{
	log_syslog_close(TAKE_PTR(l));
	loop_free(TAKE_PTR(loop));
}

static void put(int stream, const char *text)
{
	log_syslog_put(l, stream, (const uint8_t *)text, strlen(text));
}

static void turns(int n)
{
	while (n--)
		assert_int_equal(loop_turn(loop, 10), 0);
}

/* What arrives on fd next, as a string. */
static char *receive(int fd)
{
	static char text[65536];
	struct pollfd p = {.fd = fd, .events = POLLIN};

	assert_int_equal(poll(&p, 1, 10000), 1);
	ssize_t n = recv(fd, text, sizeof(text) - 1, 0);
	assert_true(n >= 0);
	text[n] = '\0';
	return text;
}

static int listen_unix(int type, char *path, size_t size)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	char dir[] = "/tmp/a3s-test-XXXXXX";
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	assert_non_null(mkdtemp(dir));
	snprintf(path, size, "%s/log", dir);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, 8), 0);
	return fd;
}

static void remove_unix(int fd, char *path)
{
	close(fd);
	unlink(path);
	*strrchr(path, '/') = '\0';
	assert_int_equal(rmdir(path), 0);
}

static int listen_inet(int type, const char *scheme, char *address, size_t size)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, 8), 0);
	snprintf(address, size, "%s://127.0.0.1:%d", scheme, ntohs(addr.sin_port));
	return fd;
}

static void a_local_daemon_gets_rfc_3164(void **state)
{
	char path[100], address[120], pid[32];
	int fd = listen_unix(SOCK_DGRAM, path, sizeof(path));

	snprintf(address, sizeof(address), "unix://%s", path);
	open_log(address, "tag=my tag");
	put(0, "first\nsec");
	char *text = receive(fd);
	snprintf(pid, sizeof(pid), " my_tag[%d]: first", (int)getpid());
	assert_memory_equal(text, "<30>", 4); /* daemon, informational */
	assert_string_equal(text + 4 + strlen("Jan  1 00:00:00"), pid);
	put(1, "error\n");
	assert_memory_equal(receive(fd), "<27>", 4);
	put(0, "ond\n");
	assert_non_null(strstr(receive(fd), ": second"));
	put(0, "unfinished");
	close_log();
	assert_non_null(strstr(receive(fd), ": unfinished"));
	remove_unix(fd, path);
}

static void a_local_daemon_may_listen_on_a_stream(void **state)
{
	char path[100], address[120];
	int fd = listen_unix(SOCK_STREAM, path, sizeof(path));

	snprintf(address, sizeof(address), "unix://%s", path);
	open_log(address, NULL);
	put(0, "text\n");
	int conn = accept(fd, NULL, NULL);
	assert_non_null(strstr(receive(conn), " 0123456789ab["));
	close_log();
	close(conn);
	remove_unix(fd, path);
}

static void a_daemon_that_is_not_there_is_said_at_once(void **state)
{
	char opt[] = "syslog-address=unix:///nowhere/log";
	char *opts[] = {opt, NULL};
	struct box b = {.id = id, .name = name, .image = image, .image_id = image_id};
	struct err e = {0};

	b.config.log = (struct box_log_config){.driver = BOX_LOG_SYSLOG, .opts = {opts, 1}};
	assert_int_equal(loop_new(&loop), 0);
	assert_int_equal(log_syslog_open(loop, &b, on_room, NULL, &l, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "/nowhere/log"));
	loop_free(TAKE_PTR(loop));
}

static void udp_gets_rfc_5424(void **state)
{
	char address[64];
	int fd = listen_inet(SOCK_DGRAM, "udp", address, sizeof(address));

	open_log(address, "syslog-facility=local0");
	put(0, "text \xc3\xbc\n");
	char *text = receive(fd);
	assert_memory_equal(text, "<134>1 20", 9);
	assert_non_null(strstr(text, "Z "));
	assert_non_null(strstr(text, " 0123456789ab "));
	assert_string_equal(text + strlen(text) - 12, " - - text \xc3\xbc");
	close(fd);
	for (int i = 0; i < 20; i++) /* nobody is there any more: that holds nobody up */
		put(0, "more\n");
	turns(3);
	assert_false(log_syslog_full(l));
	close_log();
}

static void tcp_gets_lines_also_after_its_server_came_back(void **state)
{
	char address[64];
	int fd = listen_inet(SOCK_STREAM, "tcp", address, sizeof(address));

	open_log(address, NULL);
	put(0, "one\n");
	int conn = accept(fd, NULL, NULL);
	turns(2);
	char *text = receive(conn);
	assert_string_equal(text + strlen(text) - 8, "- - one\n");
	close(conn);
	turns(2);
	put(0, "two\n"); /* waits for a connection */
	for (int i = 0; i < 300; i++) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		turns(1);
		if (poll(&p, 1, 0) > 0)
			break;
	}
	conn = accept(fd, NULL, NULL);
	turns(2);
	text = receive(conn);
	assert_string_equal(text + strlen(text) - 8, "- - two\n");
	close_log();
	close(conn);
	close(fd);
}

static void a_slow_server_slows_and_loses_nothing(void **state)
{
	enum { LINES = 200 };
	char address[64], line[10001];
	int fd = listen_inet(SOCK_STREAM, "tcp", address, sizeof(address)), n = 0, got = 0;

	memset(line, 'x', sizeof(line));
	line[9999] = '\n';
	line[10000] = '\0';
	open_log(address, NULL);
	turns(2);
	int conn = accept(fd, NULL, NULL);
	assert_int_equal(setsockopt(conn, SOL_SOCKET, SO_RCVBUF, &(int){65536}, sizeof(int)), 0);
	while (!log_syslog_full(l) && n < 10 * LINES * 100) {
		put(0, line);
		n++;
	}
	assert_true(log_syslog_full(l));
	for (bool closed = false; !closed || got < n;) {
		struct pollfd p = {.fd = conn, .events = POLLIN};
		if (!closed) {
			turns(1);
			closed = !log_syslog_full(l);
			if (closed)
				assert_int_equal(room_calls, 1);
		}
		while (poll(&p, 1, closed ? 0 : 0) > 0) {
			char *text = receive(conn);
			if (!*text)
				break;
			for (char *c = text; *c; c++)
				got += *c == '\n';
		}
		if (closed && got < n)
			turns(1);
	}
	assert_int_equal(got, n);
	close_log();
	close(conn);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_are_checked),
		cmocka_unit_test(driver_names_go_both_ways),
		cmocka_unit_test(tags_are_filled_in),
		cmocka_unit_test(a_local_daemon_gets_rfc_3164),
		cmocka_unit_test(a_local_daemon_may_listen_on_a_stream),
		cmocka_unit_test(a_daemon_that_is_not_there_is_said_at_once),
		cmocka_unit_test(udp_gets_rfc_5424),
		cmocka_unit_test(tcp_gets_lines_also_after_its_server_came_back),
		cmocka_unit_test(a_slow_server_slows_and_loses_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
