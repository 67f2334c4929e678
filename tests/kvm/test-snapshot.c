/* SPDX-License-Identifier: MIT */
/*
 * A machine is paused, saved and killed; another process goes on with it, its memory mapped copy-on-write from the file. Needs a
 * KVM that runs a kernel: `make test-kvm` brings one.
 */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/proc.h"
#include "machine/machine.h"

enum { LIMIT_MS = 120000, DISK_BYTES = 1 << 20, TEXT_MAX = 1 << 20 };

static char top[64], kernel[512], initrd[512], monitor[512], disk[128];
static int dir = -1, logs = -1, state_fd = -1, mem_fd = -1;
static struct loop *loop;
static struct machine_config conf;

struct guest {
	struct machine *m;
	int console;
	char text[TEXT_MAX];
	size_t len;
};

struct tick {
	unsigned n;
	long long ms;
};

static int open_new(const char *name)
{
	int fd = openat(dir, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	return fd;
}

static int set_up(void **state)
{
	unsigned char *content = malloc(DISK_BYTES);
	CLEANUP_FREE char *self = proc_self_dir();

	strcpy(top, "/tmp/test-snapshot-XXXXXX");
	if (!content || !self || !mkdtemp(top))
		return -1;
	dir = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	snprintf(kernel, sizeof(kernel), "%s/../../vmlinux", self);
	snprintf(monitor, sizeof(monitor), "%s/../../a3s-box-vmm", self);
	snprintf(initrd, sizeof(initrd), "%s/snapshot.cpio", self);
	snprintf(disk, sizeof(disk), "%s/disk", top);
	for (size_t i = 0; i < DISK_BYTES; i++)
		content[i] = (unsigned char)(i / 512 + i % 512);
	int r = io_write_file_at(dir, "disk", (const char *)content, DISK_BYTES, 0600);
	free(content);
	if (r < 0 || loop_new(&loop) < 0)
		return -1;
	logs = open_new("log");
	state_fd = open_new("state");
	mem_fd = open_new("memory");
	conf = (struct machine_config){.kernel = kernel,
		.initrd = initrd,
		.monitor = monitor,
		.vcpus = 2,
		.mem_bytes = 128 << 20,
		.disks = {{.path = disk, .read_only = true}},
		.n_disks = 1,
		.accel = ACCEL_KVM,
		.net = {.present = true, .mac = {2, 0, 0, 0, 0, 2}, .mtu = 65520},
		.vsock_dirfd = dir,
		.hold_fd = dir,
		.log_fd = logs,
		.restore_state_fd = -1,
		.restore_mem_fd = -1};
	return 0;
}

static int tear_down(void **state)
{
	loop_free(TAKE_PTR(loop));
	close_fd(&dir);
	close_fd(&logs);
	close_fd(&state_fd);
	close_fd(&mem_fd);
	return io_remove_tree_at(AT_FDCWD, top);
}

static void start(struct guest *g)
{
	int fds[2];
	struct err e = {0};

	g->len = 0;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	conf.console_fd = fds[1];
	if (machine_start(loop, &conf, &g->m, &e) < 0)
		fail_msg("%s", e.msg);
	close(fds[1]);
	g->console = fds[0];
}

static void end(struct guest *g)
{
	machine_free(g->m);
	close(g->console);
}

static void show_log(void)
{
	CLEANUP_FREE char *text = NULL;

	if (io_read_file_at(dir, "log", 65536, &text, NULL) == 0 && *text)
		print_message("monitor: %s", text);
}

/* The next line of the guest, or NULL at its end. Valid until the next call. */
static char *next_line(struct guest *g)
{
	static char line[512];

	for (;;) {
		char *nl = memchr(g->text, '\n', g->len);
		if (nl) {
			size_t n = (size_t)(nl - g->text);
			snprintf(line, sizeof(line), "%.*s", (int)n, g->text);
			memmove(g->text, nl + 1, g->len - n - 1);
			g->len -= n + 1;
			return line;
		}
		struct pollfd p = {.fd = g->console, .events = POLLIN};
		if (poll(&p, 1, LIMIT_MS) != 1) {
			show_log();
			fail_msg("the guest says nothing; so far: %.*s", (int)g->len, g->text);
		}
		ssize_t n = read(g->console, g->text + g->len, sizeof(g->text) - g->len);
		if (n <= 0)
			return NULL;
		g->len += (size_t)n;
	}
}

static struct tick next_tick(struct guest *g)
{
	struct tick t;
	char disk_says[64];

	for (;;) {
		char *line = next_line(g);
		if (!line) {
			show_log();
			fail_msg("the guest ended");
		}
		if (sscanf(line, "tick %u %lld %63[^\r\n]", &t.n, &t.ms, disk_says) == 3) {
			assert_string_equal(disk_says, "ok");
			return t;
		}
	}
}

struct answer {
	bool there;
	int result;
};

static void on_done(void *data, int result)
{
	*(struct answer *)data = (struct answer){true, result};
}

static void await(int r, struct answer *a)
{
	assert_int_equal(r, 0);
	while (!a->there)
		assert_int_equal(loop_turn(loop, LIMIT_MS), 0);
	if (a->result != 0)
		show_log();
	assert_int_equal(a->result, 0);
}

static void pause_machine(struct guest *g)
{
	struct answer a = {0};
	await(machine_pause(g->m, on_done, &a), &a);
}

static void resume_machine(struct guest *g)
{
	struct answer a = {0};
	await(machine_resume(g->m, on_done, &a), &a);
}

/* What it said before it stood still. */
static struct tick last_tick(struct guest *g, struct tick t)
{
	struct pollfd p = {.fd = g->console, .events = POLLIN};

	while (memchr(g->text, '\n', g->len) || poll(&p, 1, 500) == 1)
		t = next_tick(g);
	return t;
}

static void skip_without_kvm(void)
{
	struct accel_info info;

	accel_probe(-1, &info);
	if (!info.kvm_usable) {
		print_message("%s\n", info.kvm_reason);
		skip();
	}
}

static struct guest one, two;

/* Boots, counts, is paused and saved. Returns the last tick. */
static struct tick save_one(void)
{
	struct tick t = {0};
	struct answer a = {0};

	start(&one);
	while (t.n < 10)
		t = next_tick(&one);
	pause_machine(&one);
	t = last_tick(&one, t);
	await(machine_save(one.m, state_fd, mem_fd, on_done, &a), &a);
	return t;
}

static void goes_on_after(struct guest *g, struct tick before)
{
	struct tick t = next_tick(g);

	assert_int_equal(t.n, before.n + 1);
	/* Time stood still for it: the nap under way ends, and no more has passed. */
	assert_in_range(t.ms, before.ms, before.ms + 10000);
	for (unsigned i = 2; i < 20; i++) {
		struct tick next = next_tick(g);
		assert_int_equal(next.n, before.n + i);
		assert_true(next.ms > t.ms);
		t = next;
	}
}

static void a_saved_machine_goes_on_in_another_process(void **state)
{
	struct stat before, after;

	skip_without_kvm();
	struct tick t = save_one();
	end(&one);
	fstat(mem_fd, &before);
	assert_int_equal(before.st_size, conf.mem_bytes);
	assert_true(before.st_blocks * 512 < before.st_size); /* what was never used is a hole */
	conf.restore_state_fd = state_fd;
	conf.restore_mem_fd = mem_fd;
	/* Twice: the file is a template that running machines do not change. */
	for (int i = 0; i < 2; i++) {
		assert_int_equal(lseek(state_fd, 0, SEEK_SET), 0);
		start(&two);
		goes_on_after(&two, t);
		end(&two);
	}
	fstat(mem_fd, &after);
	assert_int_equal(before.st_mtim.tv_sec, after.st_mtim.tv_sec);
	assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
}

static void on_gone(void *data, unsigned link)
{
	*(unsigned *)data |= 1u << link;
}

/* Links are no part of what is saved: they are given again. */
static void links_of_a_saved_machine_are_down_until_given(void **state)
{
	struct answer a = {0}, b = {0};
	unsigned gone = 0;
	int pair[2];

	skip_without_kvm();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	conf.net.fds[0] = pair[1];
	struct tick t = save_one();
	end(&one);
	close(pair[1]);
	char byte;
	assert_int_equal(recv(pair[0], &byte, 1, MSG_DONTWAIT), 0); /* nobody has it any more */
	close(pair[0]);
	conf.net.fds[0] = 0;
	conf.restore_state_fd = state_fd;
	conf.restore_mem_fd = mem_fd;
	assert_int_equal(lseek(state_fd, 0, SEEK_SET), 0);
	start(&two);
	machine_net_on_gone(two.m, on_gone, &gone);
	goes_on_after(&two, t);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	await(machine_net_connect(two.m, 3, pair[1], on_done, &a), &a);
	next_tick(&two);
	close(pair[0]);
	while (!gone)
		assert_int_equal(loop_turn(loop, LIMIT_MS), 0);
	assert_int_equal(gone, 1 << 3);
	await(machine_net_connect(two.m, 3, -1, on_done, &b), &b);
	next_tick(&two);
	end(&two);
}

static void two_machines_go_on_from_one_snapshot_side_by_side(void **state)
{
	skip_without_kvm();
	struct tick t = save_one();
	end(&one);
	conf.restore_state_fd = state_fd;
	conf.restore_mem_fd = mem_fd;
	assert_int_equal(lseek(state_fd, 0, SEEK_SET), 0);
	start(&one);
	goes_on_after(&one, t);
	/* The second has its own vsock folder. */
	assert_int_equal(mkdirat(dir, "second", 0700), 0);
	CLEANUP_CLOSE int second = openat(dir, "second", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	conf.vsock_dirfd = second;
	assert_int_equal(lseek(state_fd, 0, SEEK_SET), 0);
	start(&two);
	goes_on_after(&two, t);
	next_tick(&one);
	end(&two);
	end(&one);
}

static void the_saved_machine_itself_goes_on_too(void **state)
{
	skip_without_kvm();
	struct tick t = save_one();
	resume_machine(&one);
	goes_on_after(&one, t);
	end(&one);
}

static void pause_and_resume_many_times(void **state)
{
	struct tick t = {0};

	skip_without_kvm();
	start(&one);
	for (int i = 0; i < 20; i++) {
		t = next_tick(&one);
		pause_machine(&one);
		t = last_tick(&one, t);
		resume_machine(&one);
		struct tick next = next_tick(&one);
		assert_int_equal(next.n, t.n + 1);
	}
	end(&one);
}

static void only_a_paused_machine_is_saved(void **state)
{
	struct answer a = {0};

	skip_without_kvm();
	start(&one);
	next_tick(&one);
	assert_int_equal(machine_save(one.m, state_fd, mem_fd, on_done, &a), 0);
	while (!a.there)
		assert_int_equal(loop_turn(loop, LIMIT_MS), 0);
	assert_int_equal(a.result, -EBUSY);
	next_tick(&one);
	end(&one);
}

/* A machine that is given this state must end with a word, not run. */
static void expect_refused(void)
{
	assert_int_equal(lseek(state_fd, 0, SEEK_SET), 0);
	start(&two);
	struct pollfd p = {.fd = machine_end_fd(two.m), .events = POLLIN};
	assert_int_equal(poll(&p, 1, LIMIT_MS), 1);
	end(&two);
}

static void damaged_snapshots_are_refused(void **state)
{
	struct stat st;
	CLEANUP_FREE unsigned char *whole = NULL;

	skip_without_kvm();
	save_one();
	end(&one);
	assert_int_equal(fstat(state_fd, &st), 0);
	whole = malloc((size_t)st.st_size);
	assert_int_equal(pread(state_fd, whole, (size_t)st.st_size, 0), st.st_size);
	conf.restore_state_fd = state_fd;
	conf.restore_mem_fd = mem_fd;
	const off_t cuts[] = {0, 1, 16, st.st_size / 2, st.st_size - 1};
	for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
		assert_int_equal(ftruncate(state_fd, cuts[i]), 0);
		expect_refused();
		assert_int_equal(pwrite(state_fd, whole, (size_t)st.st_size, 0), st.st_size);
	}
	/* Another machine than it was made of. */
	conf.mem_bytes = 256 << 20;
	expect_refused();
	conf.mem_bytes = 128 << 20;
	conf.vcpus = 1;
	expect_refused();
	conf.vcpus = 2;
	conf.n_disks = 0;
	expect_refused();
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_saved_machine_goes_on_in_another_process),
		TEST(links_of_a_saved_machine_are_down_until_given),
		TEST(two_machines_go_on_from_one_snapshot_side_by_side),
		TEST(the_saved_machine_itself_goes_on_too),
		TEST(pause_and_resume_many_times),
		TEST(only_a_paused_machine_is_saved),
		TEST(damaged_snapshots_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
