/* SPDX-License-Identifier: MIT */
/* The qemu backend, with a script for QEMU that prints its arguments on the console and stays. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/proc.h"
#include "machine/machine.h"
#include "qemu-net.h"

enum { LIMIT_MS = 60000, ARGS_MAX = 128 };

static char top[64], kernel[128], initrd[128], qemu[128], library[512];
static int dir = -1, console[2], logs[2];
static struct loop *loop;
static struct machine_config conf;
static char output[65536], *args[ARGS_MAX];
static size_t n_args;

static void put_script(const char *name, const char *text)
{
	assert_int_equal(io_write_file_at(dir, name, text, strlen(text), 0700), 0);
}

static int set_up(void **state)
{
	strcpy(top, "/tmp/test-qemu-XXXXXX");
	if (!mkdtemp(top))
		return -1;
	dir = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	snprintf(kernel, sizeof(kernel), "%s/vmlinux, of ours", top);
	snprintf(initrd, sizeof(initrd), "%s/initramfs", top);
	snprintf(qemu, sizeof(qemu), "%s/qemu", top);
	if (io_write_file_at(AT_FDCWD, kernel, "k", 1, 0600) < 0 ||
		io_write_file_at(AT_FDCWD, initrd, "i", 1, 0600) < 0 || setenv("A3S_QEMU", qemu, 1) < 0 ||
		pipe2(console, O_CLOEXEC) < 0 || pipe2(logs, O_CLOEXEC) < 0 || loop_new(&loop) < 0)
		return -1;
	put_script("qemu", "#!/bin/sh\nfor a; do printf '%s\\n' \"$a\"; done\necho END\nexec sleep 1000\n");
	CLEANUP_FREE char *self = proc_self_dir();
	snprintf(library, sizeof(library), "%s/../../a3s-box-qemu.so", self ? self : ".");
	conf = (struct machine_config){.kernel = kernel,
		.initrd = initrd,
		.vcpus = 3,
		.mem_bytes = 128 << 20,
		.accel = ACCEL_TCG,
		.vsock_dirfd = dir,
		.restore_state_fd = -1,
		.restore_mem_fd = -1,
		.hold_fd = dir,
		.console_fd = console[1],
		.log_fd = logs[1]};
	return 0;
}

static int tear_down(void **state)
{
	for (int i = 0; i < 2; i++) {
		close_fd(&console[i]);
		close_fd(&logs[i]);
	}
	loop_free(TAKE_PTR(loop));
	close_fd(&dir);
	return io_remove_tree_at(AT_FDCWD, top);
}

static struct machine *start(void)
{
	struct machine *m = NULL;
	struct err e = {0};

	if (machine_start(loop, &conf, &m, &e) < 0)
		fail_msg("%s", e.msg);
	return m;
}

/* Reads from fd into output up to and with the text. */
static void read_until(int fd, const char *text)
{
	size_t len = 0;

	output[0] = '\0';
	while (!strstr(output, text)) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		assert_int_equal(poll(&p, 1, LIMIT_MS), 1);
		ssize_t n = read(fd, output + len, sizeof(output) - 1 - len);
		assert_true(n > 0);
		len += (size_t)n;
		output[len] = '\0';
	}
}

/* Starts and takes the arguments apart. */
static struct machine *start_and_read_args(void)
{
	struct machine *m = start();
	char *save;

	read_until(console[0], "END\n");
	n_args = 0;
	for (char *s = strtok_r(output, "\n", &save); s && strcmp(s, "END") != 0;
		s = strtok_r(NULL, "\n", &save)) {
		assert_true(n_args < ARGS_MAX);
		args[n_args++] = s;
	}
	return m;
}

/* What follows the nth (from 0) appearance of an option; NULL if there is none. */
static const char *value_of(const char *option, int nth)
{
	for (size_t i = 0; i < n_args; i++) {
		if (strcmp(args[i], option) == 0 && nth-- == 0)
			return i + 1 < n_args ? args[i + 1] : "";
	}
	return NULL;
}

static void assert_ended(const struct machine *m)
{
	struct pollfd p = {.fd = machine_end_fd(m), .events = POLLIN};
	assert_int_equal(poll(&p, 1, LIMIT_MS), 1);
}

/* ---- arguments ---- */

static void the_machine_is_as_configured(void **state)
{
	struct machine *m = start_and_read_args();

	assert_string_equal(value_of("-smp", 0), "3");
	assert_string_equal(value_of("-m", 0), "128M");
	assert_non_null(strstr(value_of("-object", 0), "size=128M,share=on"));
	assert_string_equal(value_of("-kernel", 0), kernel); /* a path by itself: its comma is no separator */
	assert_string_equal(value_of("-initrd", 0), initrd);
	assert_non_null(strstr(value_of("-accel", 0), "tcg"));
	machine_free(m);
}

static void the_guest_gets_nothing_but_what_was_asked_for(void **state)
{
	static const char *const never[] = {"-monitor", "-qmp", "-netdev", "-nic", "-net", "-vnc", "-spice",
		"-gdb", "-s", "-virtfs", "-usb", "-blockdev", "-drive"};
	struct machine *m = start_and_read_args();

	for (size_t i = 0; i < ARRAY_LEN(never); i++)
		assert_null(value_of(never[i], 0));
	assert_non_null(value_of("-nodefaults", 0));
	assert_non_null(value_of("-no-user-config", 0));
	assert_non_null(value_of("-no-reboot", 0)); /* a reset ends the machine */
	assert_string_equal(value_of("-display", 0), "none");
	assert_non_null(strstr(value_of("-sandbox", 0), "on,"));
	assert_non_null(strstr(value_of("-sandbox", 0), "spawn=deny"));
	machine_free(m);
}

static void commas_in_disk_paths_cannot_become_options(void **state)
{
	char want[256];

	conf.n_disks = 2;
	conf.disks[0] = (struct machine_disk){"/a,read-only=off,,x", true};
	conf.disks[1] = (struct machine_disk){"/b", false};
	struct machine *m = start_and_read_args();
	const char *first = value_of("-blockdev", 0), *second = value_of("-blockdev", 1);
	snprintf(want, sizeof(want), "file.filename=/a,,read-only=off,,,,x,file.locking");
	assert_non_null(strstr(first, want));
	assert_non_null(strstr(first, ",read-only=on,"));
	assert_non_null(strstr(second, ",read-only=off,"));
	assert_non_null(strstr(second, "file.filename=/b,file.locking"));
	assert_non_null(strstr(value_of("-device", 0), "drive=d0"));
	assert_non_null(strstr(value_of("-device", 1), "drive=d1"));
	assert_null(value_of("-blockdev", 2));
	machine_free(m);
}

static void as_many_disks_as_promised_can_be_attached(void **state)
{
	conf.n_disks = MACHINE_DISKS_MAX;
	for (size_t i = 0; i < conf.n_disks; i++)
		conf.disks[i] = (struct machine_disk){"/d", false};
	struct machine *m = start_and_read_args();
	assert_non_null(value_of("-blockdev", MACHINE_DISKS_MAX - 1));
	assert_non_null(value_of("-serial", 0)); /* nothing was dropped at the end */
	machine_free(m);
}

static void only_an_emulated_guest_is_told_the_hosts_clock(void **state)
{
	static const struct {
		enum accel accel;
		uint64_t khz;
		bool told;
	} cases[] = {{ACCEL_TCG, 2100000, true}, {ACCEL_TCG, 0, false}, {ACCEL_QEMU_KVM, 2100000, false}};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		conf.accel = cases[i].accel;
		conf.tsc_khz = cases[i].khz;
		struct machine *m = start_and_read_args();
		assert_int_equal(
			strstr(value_of("-append", 0), "tsc_early_khz=2100000") != NULL, cases[i].told);
		assert_int_equal(
			strncmp(value_of("-accel", 0), "kvm", 3) == 0, cases[i].accel == ACCEL_QEMU_KVM);
		assert_int_equal(strcmp(value_of("-cpu", 0), "host") == 0, cases[i].accel == ACCEL_QEMU_KVM);
		machine_free(m);
	}
}

static void the_child_has_console_log_and_vsock_and_nothing_else(void **state)
{
	char want[256];

	put_script("qemu",
		"#!/bin/sh\necho to the log >&2\ntest -S /proc/self/fd/3 && echo socket\n"
		"for i in 3 4 5 6 7 8 9 60; do test -e /proc/self/fd/$i && echo $i; done\n" /* the shell has the script at 10 or so */
		"readlink /proc/self/fd/0 /proc/self/fd/4\necho END\nexec sleep 1000\n");
	int leak = fcntl(dir, F_DUPFD, 60); /* without close-on-exec */
	struct machine *m = start();
	read_until(console[0], "END\n");
	close(leak);
	snprintf(want, sizeof(want), "socket\n3\n4\n/dev/null\n%s\nEND\n", top); /* 4: what it holds for us */
	assert_string_equal(output, want);
	read_until(logs[0], "to the log\n");
	machine_free(m);
}

static void qemu_gets_neither_our_environment_nor_new_privileges(void **state)
{
	put_script("qemu", "#!/bin/sh\nenv\nsetpriv --dump\necho END\n");
	setenv("SECRET", "of the user", 1);
	struct machine *m = start();
	read_until(console[0], "END\n");
	unsetenv("SECRET");
	assert_null(strstr(output, "SECRET"));
	assert_null(strstr(output, "A3S_"));
	assert_non_null(strstr(output, "no_new_privs: 1\n"));
	machine_free(m);
}

/* ---- network ---- */

static int answers, last_result;

static void on_done(void *data, int result)
{
	answers++;
	last_result = result;
}

static unsigned gone, gone_link;

static void on_gone(void *data, unsigned link)
{
	gone++;
	gone_link = link;
}

static void turn(void)
{
	for (int i = 0; i < 10; i++)
		assert_int_equal(loop_turn(loop, 1), 0);
}

static void add_net(void)
{
	conf.qemu_net = library;
	conf.net = (struct machine_net){.present = true, .mac = {2, 0xa, 0xb0, 1, 2, 3}, .mtu = 65520};
}

static void pair(int fds[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
}

static void the_network_device_is_as_configured(void **state)
{
	add_net();
	struct machine *m = start_and_read_args();
	const char *device = value_of("-device", 1);

	assert_string_equal(value_of("-netdev", 0), "vhost-user,id=net,chardev=net,queues=1");
	assert_non_null(strstr(device, "virtio-net-device,netdev=net,mac=02:0a:b0:01:02:03,host_mtu=65520,"));
	static const char *const off[] = {"ctrl_vq", "mq", "guest_announce", "guest_ufo"};
	for (size_t i = 0; i < ARRAY_LEN(off); i++) {
		char want[64];
		snprintf(want, sizeof(want), ",%s=off", off[i]);
		assert_non_null(strstr(device, want));
	}
	machine_free(m);
}

/* Who may neither make nor connect sockets has one: any Unix stream socket is what it inherits, and that once. */
static void qemu_connects_to_what_it_inherits(void **state)
{
	add_net();
	put_script("qemu", "#!/bin/sh\nfor i in 3 4 5 6 7 8 9; do test -e /proc/self/fd/$i && echo $i; done\n"
			   "readlink /proc/self/fd/6\n"
			   "python3 -c '\n"
			   "import socket\n"
			   "def attempt(path, family=socket.AF_UNIX, kind=socket.SOCK_STREAM):\n"
			   "    try:\n"
			   "        s = socket.socket(family, kind)\n"
			   "        s.connect(path)\n"
			   "        print(\"connected\", s.getpeername() == \"\")\n"
			   "        return s\n"
			   "    except OSError as e:\n"
			   "        print(e.strerror)\n"
			   "attempt(\"/tmp/x\")\n"
			   "attempt(\"" QEMU_NET_PATH "x\")\n"
			   "attempt(\"" QEMU_NET_PATH "\", kind=socket.SOCK_DGRAM)\n"
			   "attempt((\"127.0.0.1\", 1), socket.AF_INET)\n"
			   "s = attempt(\"" QEMU_NET_PATH "\")\n"
			   "attempt(\"" QEMU_NET_PATH "\")\n"
			   "'\ntest -e /proc/self/fd/5 && echo kept\necho END\nexec sleep 1000\n");
	struct machine *m = start();
	char want[1024];

	read_until(console[0], "END\n");
	if (!strstr(output, "connected True\n")) {
		machine_free(m);
		skip(); /* no Python, or one that is linked statically */
	}
	CLEANUP_FREE char *real = realpath(library, NULL);
	snprintf(want, sizeof(want),
		"3\n4\n5\n6\n%s\n"
		"Operation not permitted\n"
		"Operation not permitted\n"
		"Operation not permitted\n"
		"Operation not permitted\n"
		"connected True\n"
		"Operation not permitted\n"
		"kept\nEND\n",
		real);
	assert_string_equal(output, want);
	machine_free(m);
}

static void links_are_given_and_taken_away(void **state)
{
	int first[2], second[2];
	char c;

	add_net();
	pair(first);
	conf.net.fds[3] = first[1];
	struct machine *m = start_and_read_args();
	machine_net_on_gone(m, on_gone, NULL);
	answers = 0;
	gone = 0;
	assert_true(fcntl(first[1], F_GETFD) >= 0); /* borrowed */
	close(first[1]);
	turn();
	assert_int_equal(recv(first[0], &c, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN); /* and still somebody's */

	pair(second);
	assert_int_equal(machine_net_connect(m, 3, dup(second[1]), on_done, NULL), 0);
	assert_true(answers == 1 && last_result == -EISCONN);
	assert_int_equal(machine_net_connect(m, 3, -1, on_done, NULL), 0);
	assert_true(answers == 2 && last_result == 0);
	assert_int_equal(recv(first[0], &c, 1, 0), 0);
	assert_int_equal(machine_net_connect(m, 3, second[1], on_done, NULL), 0);
	assert_true(answers == 3 && last_result == 0);
	turn();
	assert_int_equal(gone, 0);
	close(second[0]);
	turn();
	assert_true(gone == 1 && gone_link == 3);
	assert_int_equal(machine_net_connect(m, MACHINE_LINKS_MAX, dup(dir), on_done, NULL), -EINVAL);
	machine_kill(m);
	assert_int_equal(machine_net_connect(m, 0, dup(dir), on_done, NULL), -ESRCH);
	assert_int_equal(answers, 3);
	machine_free(m);
	close(first[0]);
}

static void free_machine(void *data, unsigned link)
{
	machine_free(*(struct machine **)data);
	*(struct machine **)data = NULL;
}

static void a_link_that_goes_may_take_the_machine_along(void **state)
{
	int fds[2];

	add_net();
	pair(fds);
	conf.net.fds[0] = fds[1];
	struct machine *m = start();
	machine_net_on_gone(m, free_machine, &m);
	close(fds[0]);
	close(fds[1]);
	turn();
	assert_null(m);
}

static void without_the_device_there_are_no_links(void **state)
{
	struct machine *m = start();
	int fds[2];

	pair(fds);
	assert_int_equal(machine_net_connect(m, 0, fds[1], on_done, NULL), -ENOTSUP);
	assert_int_equal(fcntl(fds[1], F_GETFD), -1); /* consumed */
	close(fds[0]);
	machine_free(m);
}

/* ---- refusals ---- */

static void assert_refused(int code, const char *text)
{
	struct machine *m = NULL;
	struct err e = {0};
	int r = machine_start(loop, &conf, &m, &e);

	if (r != code || !strstr(e.msg, text))
		fail_msg("%d, \"%s\": want %d, \"%s\"", r, e.msg, code, text);
	assert_null(m);
}

static void impossible_machines_are_refused(void **state)
{
	conf.vcpus = 0;
	assert_refused(-EINVAL, "vCPU");
	conf.vcpus = MACHINE_VCPUS_MAX + 1;
	assert_refused(-EINVAL, "vCPU");
	conf.vcpus = 1;
	conf.mem_bytes = MACHINE_MEM_MIN - (1 << 20);
	assert_refused(-EINVAL, "memory");
	conf.mem_bytes = MACHINE_MEM_MIN + 1;
	assert_refused(-EINVAL, "memory");
	conf.mem_bytes = MACHINE_MEM_MIN;
	conf.n_disks = MACHINE_DISKS_MAX + 1;
	assert_refused(-EINVAL, "disks");
	conf.n_disks = 0;
	add_net();
	conf.net.mtu = 67;
	assert_refused(-EINVAL, "MTU");
	conf.net.mtu = 68;
	conf.fs_fd = 99;
	assert_refused(-EINVAL, "tag");
	conf.fs_tag = "";
	assert_refused(-EINVAL, "tag");
	conf.fs_tag = "a tag of more than thirty-six bytes, which is too long";
	assert_refused(-EINVAL, "tag");
	conf.fs_tag = "tag,with=options";
	assert_refused(-EINVAL, "tag");
	conf.fs_tag = NULL;
	conf.fs_fd = -1;
	conf.qemu_net = "/absent/library";
	assert_refused(-ENOENT, "/absent/library");
}

static void missing_files_are_named(void **state)
{
	assert_int_equal(unlink(kernel), 0);
	assert_refused(-ENOENT, kernel);
	assert_int_equal(io_write_file_at(AT_FDCWD, kernel, "k", 1, 0600), 0);
	assert_int_equal(unlink(initrd), 0);
	assert_refused(-ENOENT, initrd);
}

static void a_missing_qemu_is_named_with_a_hint(void **state)
{
	struct err e = {0};

	setenv("A3S_QEMU", "/absent/qemu", 1);
	assert_refused(-ENOENT, "/absent/qemu");
	assert_null(machine_qemu_path(&e));
	assert_true(e.hint[0]);
	setenv("A3S_QEMU", "no-such-program", 1);
	assert_refused(-ENOENT, "no-such-program");
	setenv("A3S_QEMU", top, 1);
	assert_refused(-EACCES, top); /* a folder */
	setenv("A3S_QEMU", qemu, 1);
	assert_int_equal(chmod(qemu, 0600), 0);
	assert_refused(-ENOENT, qemu);
	put_script("qemu", "#!/absent/interpreter\n");
	assert_refused(-ENOENT, qemu);
}

static void qemu_is_searched_in_path_for_a_regular_program(void **state)
{
	char path[512], sub[128], *old = str_dup(getenv("PATH")), *got;
	struct err e = {0};

	snprintf(sub, sizeof(sub), "%s/sub", top);
	assert_int_equal(mkdir(sub, 0700), 0);
	assert_int_equal(mkdirat(dir, "sub/my-qemu", 0700), 0); /* a folder of that name does not count */
	put_script("my-qemu", "#!/bin/sh\n");
	setenv("A3S_QEMU", "my-qemu", 1);
	snprintf(path, sizeof(path), ":/absent:%s:%s:/bin", sub, top);
	setenv("PATH", path, 1);
	got = machine_qemu_path(&e);
	snprintf(path, sizeof(path), "%s/my-qemu", top);
	assert_string_equal(got, path);
	free(got);
	setenv("PATH", sub, 1);
	assert_null(machine_qemu_path(&e));
	if (old)
		setenv("PATH", old, 1);
	free(old);
}

/* ---- life and death ---- */

static void a_machine_that_ends_by_itself_is_noticed(void **state)
{
	put_script("qemu", "#!/bin/sh\nexit 3\n");
	struct machine *m = start();
	assert_ended(m);
	machine_kill(m);
	machine_free(m);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no zombie */
}

static void killing_waits_until_all_of_it_is_gone(void **state)
{
	struct machine *m = start();
	pid_t pid = machine_pid(m);

	assert_true(pid > 1);
	struct pollfd p = {.fd = machine_end_fd(m), .events = POLLIN};
	assert_int_equal(poll(&p, 1, 0), 0);
	machine_kill(m);
	assert_int_equal(kill(pid, 0), -1);
	assert_int_equal(errno, ESRCH);
	assert_ended(m);
	machine_kill(m); /* again is no error */
	machine_free(m);
	machine_free(NULL);
}

static void freeing_a_running_machine_kills_it(void **state)
{
	struct machine *m = start();
	pid_t pid = machine_pid(m);

	machine_free(m);
	assert_int_equal(kill(pid, 0), -1);
}

static void the_end_can_be_waited_for_by_others(void **state)
{
	struct machine *m = start();
	pid_t pid = machine_pid(m);
	int status;

	assert_int_equal(machine_end(m), pid);
	assert_int_equal(machine_pid(m), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(machine_end(m), 0);
	machine_free(m);
}

static void a_killed_supervisor_takes_its_machine_along(void **state)
{
	int fds[2], status;
	pid_t child;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid_t middle = fork();
	if (middle == 0) {
		struct machine *m = NULL;
		if (machine_start(loop, &conf, &m, NULL) < 0)
			_exit(1);
		child = machine_pid(m);
		if (io_write_full(fds[1], &child, sizeof(child)) < 0)
			_exit(1);
		for (;;)
			pause();
	}
	close(fds[1]);
	assert_int_equal(io_read_full(fds[0], &child, sizeof(child)), sizeof(child));
	close(fds[0]);
	int pidfd = (int)syscall(SYS_pidfd_open, child, 0);
	assert_true(pidfd >= 0);
	read_until(console[0], "END\n"); /* it is past the script: `exec` keeps the bond */
	assert_int_equal(kill(middle, SIGKILL), 0);
	assert_int_equal(waitpid(middle, &status, 0), middle);
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	assert_int_equal(poll(&p, 1, LIMIT_MS), 1);
	close(pidfd);
}

static void *start_in_thread(void *data)
{
	return machine_start(loop, &conf, data, NULL) < 0 ? NULL : data;
}

static void a_machine_dies_with_the_thread_that_started_it(void **state)
{
	struct machine *m = NULL;
	pthread_t t;
	void *ok = NULL;

	assert_int_equal(pthread_create(&t, NULL, start_in_thread, &m), 0);
	assert_int_equal(pthread_join(t, &ok), 0);
	assert_non_null(ok);
	assert_ended(m);
	machine_free(m);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_machine_is_as_configured),
		TEST(the_guest_gets_nothing_but_what_was_asked_for),
		TEST(commas_in_disk_paths_cannot_become_options),
		TEST(as_many_disks_as_promised_can_be_attached),
		TEST(only_an_emulated_guest_is_told_the_hosts_clock),
		TEST(the_child_has_console_log_and_vsock_and_nothing_else),
		TEST(qemu_gets_neither_our_environment_nor_new_privileges),
		TEST(the_network_device_is_as_configured),
		TEST(qemu_connects_to_what_it_inherits),
		TEST(links_are_given_and_taken_away),
		TEST(a_link_that_goes_may_take_the_machine_along),
		TEST(without_the_device_there_are_no_links),
		TEST(impossible_machines_are_refused),
		TEST(missing_files_are_named),
		TEST(a_missing_qemu_is_named_with_a_hint),
		TEST(qemu_is_searched_in_path_for_a_regular_program),
		TEST(a_machine_that_ends_by_itself_is_noticed),
		TEST(killing_waits_until_all_of_it_is_gone),
		TEST(freeing_a_running_machine_kills_it),
		TEST(the_end_can_be_waited_for_by_others),
		TEST(a_killed_supervisor_takes_its_machine_along),
		TEST(a_machine_dies_with_the_thread_that_started_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
