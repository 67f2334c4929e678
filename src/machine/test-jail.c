/* SPDX-License-Identifier: MIT */
/*
 * The jail: this program starts itself as a monitor would be, goes to jail, and tries things.
 * Each trial is made by root and by an ordinary user, as far as we are root.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>
#include <seccomp.h>

#include "base/emulator.h"
#include "base/io.h"
#include "base/landlock.h"
#include "jail.h"
#include "test-jail-trials.h"

/* ---- outside ---- */

static char top[64], outer[128], run_dir[128];
static int status_pipe[2], letter = -1, sockets[3] = {-1, -1, -1};

static int listen_at(const struct sockaddr_un *a, size_t len)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && bind(fd, (const struct sockaddr *)a, (socklen_t)len) == 0 && listen(fd, 100) == 0)
		return fd;
	return -1;
}

static int set_up(void **state)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	strcpy(top, "/tmp/test-jail-XXXXXX");
	if (!mkdtemp(top))
		return -1;
	snprintf(outer, sizeof(outer), "%s/outer.sock", top);
	snprintf(run_dir, sizeof(run_dir), "%s/run", top);
	if (mkdir(run_dir, 0700) < 0 || chdir(run_dir) < 0)
		return -1;
	strcpy(a.sun_path, "../outer.sock");
	sockets[0] = listen_at(&a, sizeof(a));
	strcpy(a.sun_path, "vsock.sock_7");
	sockets[1] = listen_at(&a, sizeof(a));
	memcpy(a.sun_path, "\0" ABSTRACT, sizeof(ABSTRACT));
	sockets[2] = listen_at(&a, offsetof(struct sockaddr_un, sun_path) + sizeof(ABSTRACT));
	letter = memfd_create("letter", MFD_CLOEXEC);
	if (sockets[0] < 0 || sockets[1] < 0 || letter < 0 || pwrite(letter, "k", 1, 0) != 1 ||
		io_write_file_at(AT_FDCWD, "plain", "p", 1, 0644) < 0 || pipe2(status_pipe, O_CLOEXEC) < 0)
		return -1;
	return 0;
}

/* The run folder belongs to who runs the box. */
static bool give_to(unsigned id)
{
	return geteuid() != 0 || (chown(top, id, id) == 0 && chown(outer, id, id) == 0 &&
					 chown(run_dir, id, id) == 0 && chown("vsock.sock_7", id, id) == 0);
}

static int tear_down(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(sockets); i++)
		close_fd(&sockets[i]);
	close_fd(&letter);
	close_fd(&status_pipe[0]);
	close_fd(&status_pipe[1]);
	return chdir("/") < 0 ? -1 : io_remove_tree_at(AT_FDCWD, top);
}

/* The monitor's start. Returns its wait status. */
static int spawn_trial(const struct trial *t, struct proc_confine *confine)
{
	char role[16];
	int status;

	snprintf(role, sizeof(role), "%d", t->role);
	const char *argv[] = {"test-jail", "--inside", t->name, role, NULL};
	const struct proc_fd fds[] = {{letter, FD_LETTER}, {status_pipe[1], FD_STATUS}, {2, 2}};
	struct proc_opts o = {.path = "/proc/self/exe",
		.argv = argv,
		.fds = fds,
		.n_fds = ARRAY_LEN(fds),
		.die_with_parent = true,
		.new_session = true,
		.no_new_privs = true,
		.confine = confine};
	pid_t pid = proc_spawn(&o, NULL);
	assert_true(pid > 0);
	assert_int_equal(proc_wait(pid, &status), 0);
	return status;
}

/* What the one inside reported, with what the start did. */
static struct machine_status take_status(const struct proc_confine *confine)
{
	struct machine_status s = {0}, theirs;

	assert_int_equal(io_read_full(status_pipe[0], &theirs, sizeof(theirs)), sizeof(theirs));
	if (confine)
		jail_namespaces_report(confine, &s);
	jail_merge(&s, &theirs);
	return s;
}

static bool has(const struct machine_status *s, enum machine_confinement c)
{
	return s->confined & 1u << c;
}

/* Whether this host lets an ordinary user do what most of these tests are about. */
static bool namespaces_possible(void)
{
	static const char *const argv[] = {"true", NULL};
	struct proc_confine c = jail_namespaces();
	struct proc_opts o = {.path = "true", .argv = argv, .confine = &c};
	int status;
	pid_t pid = proc_spawn(&o, NULL);

	assert_true(pid > 0);
	proc_wait(pid, &status);
	return c.got == c.namespaces;
}

/* Runs fn in a child as this user and as an ordinary one. */
static void as_every_user(void (*fn)(void))
{
	const unsigned ids[] = {geteuid(), NOBODY};
	int status;

	for (size_t i = 0; i < (geteuid() == 0 ? 2 : 1); i++) {
		assert_true(give_to(ids[i]));
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			if (ids[i] != geteuid() &&
				(setgroups(0, NULL) < 0 || setresgid(ids[i], ids[i], ids[i]) < 0 ||
					setresuid(ids[i], ids[i], ids[i]) < 0))
				_exit(FAILED);
			prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* as after an exec: its /proc/self is its own */
			fn();
			_exit(0);
		}
		assert_int_equal(proc_wait(pid, &status), 0);
		if (status != 0)
			fail_msg("as user %u: status %#x", ids[i], (unsigned)status);
	}
}

/* In that child a failed assertion has nowhere to go but to its end. */
#define REQUIRE(what, ...) \
	do { \
		if (!(what)) { \
			dprintf(2, "# %s:%d: %s; ", __func__, __LINE__, #what); \
			dprintf(2, __VA_ARGS__); \
			dprintf(2, "\n"); \
			_exit(FAILED); \
		} \
	} while (0)

static void all_peaceful(void)
{
	for (size_t i = 0; i < ARRAY_LEN(peaceful); i++) {
		struct proc_confine c = jail_namespaces();
		int status = spawn_trial(&peaceful[i], &c);
		struct machine_status s = take_status(&c);
		REQUIRE(status == 0, "%s: status %#x; %s", peaceful[i].name, (unsigned)status,
			s.not_confined);
		REQUIRE(has(&s, CONFINED_MOUNT_NS) && has(&s, CONFINED_USER_NS), "%s", s.not_confined);
	}
}

/* A skip says why. */
#define SKIP(why) \
	do { \
		print_message(why "\n"); \
		skip(); \
	} while (0)

static void in_jail_the_monitors_work_goes_on_and_nothing_else(void **state)
{
	if (!namespaces_possible())
		SKIP("this host permits no namespaces");
	as_every_user(all_peaceful);
}

static void all_deadly(void)
{
	for (size_t i = 0; i < ARRAY_LEN(deadly); i++) {
		struct proc_confine c = jail_namespaces();
		int status = spawn_trial(&deadly[i], &c);
		take_status(&c);
		REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "%s, role %d: status %#x",
			deadly[i].name, deadly[i].role, (unsigned)status);
	}
}

static void a_call_that_a_role_has_no_use_for_ends_the_process_recognisably(void **state)
{
	if (SANITIZED)
		SKIP("a sanitizer's runtime asks for what no monitor may");
	as_every_user(all_deadly);
}

/* ---- hosts that permit less ---- */

/* Refuses new user namespaces as containers do (Docker's profile): EPERM from clone(2) and unshare(2). */
static void refuse_user_namespaces(void)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
	const struct scmp_arg_cmp flag = {0, SCMP_CMP_MASKED_EQ, CLONE_NEWUSER, CLONE_NEWUSER};

	REQUIRE(seccomp_rule_add_array(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1, &flag) == 0, "filter");
	REQUIRE(seccomp_rule_add_array(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(unshare), 1, &flag) == 0,
		"filter");
	REQUIRE(seccomp_load(ctx) == 0, "filter");
	seccomp_release(ctx);
}

static void without_user_namespaces(void)
{
	struct proc_confine c = jail_namespaces();
	bool root = geteuid() == 0;

	refuse_user_namespaces();
	for (size_t i = 0; i < ARRAY_LEN(deadly); i += 5) {
		int status = spawn_trial(&deadly[i], &c);
		take_status(&c);
		REQUIRE(SANITIZED || (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS), "%s: status %#x",
			deadly[i].name, (unsigned)status);
	}
	int status = spawn_trial(find_trial("what_it_has_goes_on_working", JAIL_LOOP), &c);
	struct machine_status s = take_status(&c);
	REQUIRE(status == 0, "status %#x", (unsigned)status);
	REQUIRE(!has(&s, CONFINED_USER_NS), "confined %#x", s.confined);
	/* Root makes the others without; who is not root has none of them. */
	REQUIRE(has(&s, CONFINED_PID_NS) == root, "confined %#x", s.confined);
	REQUIRE(has(&s, CONFINED_NET_NS) == root, "confined %#x", s.confined);
	REQUIRE(has(&s, CONFINED_MOUNT_NS) == root, "confined %#x", s.confined);
	REQUIRE(has(&s, CONFINED_RLIMITS) && has(&s, CONFINED_NO_NEW_PRIVS), "confined %#x", s.confined);
	const char *want =
		root ? "user-namespace: not permitted here; "
		     : "user-namespace, network-namespace, pid-namespace, ipc-namespace: not permitted "
		       "here; mount-namespace: not permitted here; ";
	REQUIRE(strncmp(s.not_confined, want, strlen(want)) == 0, "\"%s\"", s.not_confined);
	status = spawn_trial(find_trial("it_has_and_gets_no_privileges", -1), &c);
	take_status(&c);
	REQUIRE(status == 0, "status %#x", (unsigned)status);
}

static void without_user_namespaces_it_works_and_says_so(void **state)
{
	as_every_user(without_user_namespaces);
}

static void beyond_the_limit(void)
{
	static const char *const argv[] = {"true", NULL};
	struct proc_confine outer_ns = {.namespaces = CLONE_NEWUSER, .capabilities = true, .landlock_fd = -1};
	struct proc_confine c = jail_namespaces();
	struct proc_opts o = {.path = "true", .argv = argv, .confine = &c};
	struct machine_status s = {0};
	int status;

	/* What proc_spawn does to its children against namespaces below theirs, done to ourselves. */
	REQUIRE(unshare(outer_ns.namespaces) == 0, "unshare: %s", strerror(errno));
	int fd = open("/proc/sys/user/max_user_namespaces", O_WRONLY | O_CLOEXEC);
	REQUIRE(fd >= 0 && write(fd, "0", 1) == 1, "limit: %s", strerror(errno));
	close(fd);
	pid_t pid = proc_spawn(&o, NULL);
	REQUIRE(pid > 0 && proc_wait(pid, &status) == 0 && status == 0, "%d", pid);
	jail_namespaces_report(&c, &s);
	REQUIRE(strstr(s.not_confined, "user-namespace: the host's limit is reached"), "\"%s\"",
		s.not_confined);
	REQUIRE(c.got == (c.namespaces & ~(unsigned)CLONE_NEWUSER), "%#x", c.got);
}

static void a_reached_limit_is_named(void **state)
{
	if (SANITIZED || !namespaces_possible()) /* a sanitizer's own threads forbid unshare(2) */
		SKIP("a sanitizer's threads, or this host, forbid namespaces");
	as_every_user(beyond_the_limit);
}

/* ---- QEMU's part ---- */

static struct machine_config qemu_config;
static char kernel[256], initrd[256], image[256], scratch[256], secret[256];

static void put(char path[256], const char *name, const char *text)
{
	snprintf(path, 256, "%s/%s", run_dir, name);
	REQUIRE(io_write_file_at(AT_FDCWD, path, text, strlen(text), 0600) == 0, "%s", path);
}

static void prepare_files(void)
{
	put(kernel, "vmlinux", "kernel");
	put(initrd, "initramfs", "initrd");
	put(image, "image", "image");
	put(scratch, "scratch", "scratch");
	put(secret, "secret", "secret");
	qemu_config = (struct machine_config){.kernel = kernel,
		.initrd = initrd,
		.mem_bytes = 64 << 20,
		.accel = ACCEL_TCG,
		.n_disks = 2,
		.disks = {{image, true}, {scratch, false}}};
}

/* Runs a shell as QEMU would be; returns what it printed. */
static const char *as_qemu(const char *script, struct machine_status *s)
{
	static char text[1024];
	const char *argv[] = {"sh", "-c", script, NULL};
	int fds[2], status;
	struct jail_qemu j;

	*s = (struct machine_status){0};
	jail_qemu_prepare(&j, "/bin/sh", &qemu_config);
	REQUIRE(pipe2(fds, O_CLOEXEC) == 0, "pipe");
	struct proc_fd fd = {fds[1], 1};
	struct proc_opts o = {.path = "/bin/sh",
		.argv = argv,
		.fds = &fd,
		.n_fds = 1,
		.die_with_parent = true,
		.no_new_privs = true,
		.confine = &j.confine};
	pid_t pid = proc_spawn(&o, NULL);
	REQUIRE(pid > 0, "%s", strerror(-pid));
	jail_qemu_started(&j, pid, s);
	jail_qemu_done(&j);
	close(fds[1]);
	ssize_t n = io_read_full(fds[0], text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	close(fds[0]);
	proc_wait(pid, &status);
	return text;
}

static void qemu_sockets(void)
{
	static const char *const argv[] = {"test-jail", "--qemu", NULL};
	struct jail_qemu j;
	int status;

	prepare_files();
	jail_qemu_prepare(&j, "/proc/self/exe", &qemu_config);
	const struct proc_fd fd = {2, 2};
	struct proc_opts o = {.path = "/proc/self/exe",
		.argv = argv,
		.fds = &fd,
		.n_fds = 1,
		.no_new_privs = true,
		.confine = &j.confine};
	pid_t pid = proc_spawn(&o, NULL);
	jail_qemu_done(&j);
	REQUIRE(pid > 0, "%s", strerror(-pid));
	REQUIRE(proc_wait(pid, &status) == 0 && status == 0, "status %#x", (unsigned)status);
}

static void qemu_makes_no_sockets(void **state)
{
	if (SANITIZED) /* the runtime wants /proc before all, and complains */
		SKIP("a sanitizer's runtime wants /proc before all");
	as_every_user(qemu_sockets);
}

static void qemu_files(void)
{
	struct machine_status s;

	prepare_files();
	const char *got =
		as_qemu("cat vmlinux initramfs image scratch; echo more >>scratch && echo wrote; "
			"echo more >>image || echo not; cat secret || echo not; cat /etc/passwd || echo not; "
			"ls . || echo not; cat /proc/self/status || echo not; (: >new) || echo not; (: "
			">/dev/null) && echo null",
			&s);
	REQUIRE(strcmp(got, "kernelinitrdimagescratchwrote\nnot\nnot\nnot\nnot\nnot\nnot\nnull\n") == 0,
		"\"%s\"", got);
	REQUIRE(has(&s, CONFINED_LANDLOCK) && has(&s, CONFINED_SECCOMP) && has(&s, CONFINED_RLIMITS), "%#x",
		s.confined);
	REQUIRE(has(&s, CONFINED_USER_NS) && has(&s, CONFINED_PID_NS) && has(&s, CONFINED_NET_NS), "%#x",
		s.confined);
	REQUIRE(strcmp(s.not_confined,
			"mount-namespace: QEMU opens its files by name; cgroup: none of its own") == 0,
		"\"%s\"", s.not_confined);
	got = as_qemu(
		"echo $$; id -u; test -e /proc/self/fd/9 && echo leak; kill -0 2 2>/dev/null || echo alone; "
		"unshare -U true 2>/dev/null || echo no; unshare -n true 2>/dev/null || echo no; "
		"setpriv -d | grep -c '^Cap.*: .none.'",
		&s);
	REQUIRE(strcmp(got, "1\n65534\nalone\nno\nno\n1\n") == 0, "\"%s\"", got);
}

static bool landlock_possible(void)
{
	CLEANUP_CLOSE int fd = landlock_new(true);
	return fd >= 0;
}

static void qemu_reaches_its_files_and_no_other(void **state)
{
	if (!namespaces_possible() || !landlock_possible())
		SKIP("this host permits no namespaces, or has no Landlock");
	as_every_user(qemu_files);
}

static void qemu_without_namespaces(void)
{
	struct machine_status s;

	prepare_files();
	refuse_user_namespaces();
	const char *got = as_qemu("cat vmlinux; cat secret || echo not", &s);
	REQUIRE(strcmp(got, "kernelnot\n") == 0, "\"%s\"", got);
	REQUIRE(has(&s, CONFINED_LANDLOCK) && !has(&s, CONFINED_USER_NS), "%#x", s.confined);
}

static void qemu_is_kept_to_its_files_without_namespaces_too(void **state)
{
	if (!landlock_possible())
		SKIP("this kernel has no Landlock");
	as_every_user(qemu_without_namespaces);
}

/* Root may run boxes whose files it reads by its privileges only: then they are needed. */
static void roots_machine_with_files_of_others_still_starts(void **state)
{
	struct machine_status s;

	if (geteuid() != 0 || !namespaces_possible() || !landlock_possible())
		SKIP("needs root, namespaces and Landlock");
	prepare_files();
	assert_int_equal(chown(scratch, NOBODY, NOBODY), 0);
	const char *got =
		as_qemu("cat scratch; echo more >>scratch && echo wrote; cat secret || echo not", &s);
	assert_string_equal(got, "scratchwrote\nnot\n");
	assert_false(has(&s, CONFINED_USER_NS));
	assert_true(has(&s, CONFINED_PID_NS));
	assert_non_null(strstr(s.not_confined, "user-namespace: files of other users"));
}

/* ---- reports ---- */

static void reports_are_readable(void **state)
{
	struct machine_status s = {0}, other = {0};

	for (unsigned c = 0; c < CONFINED_N; c++)
		assert_true(strlen(machine_confinement_name((enum machine_confinement)c)) > 3);
	assert_string_equal(machine_confinement_name(CONFINED_USER_NS), "user-namespace");
	jail_applied(&s, CONFINED_SECCOMP);
	assert_int_equal(s.confined, 1u << CONFINED_SECCOMP);
	jail_missing(&s, CONFINED_LANDLOCK, "not in this kernel");
	jail_missing(&s, CONFINED_CGROUP, "number %d", 7);
	assert_string_equal(s.not_confined, "landlock: not in this kernel; cgroup: number 7");
	/*
	 * The other one may be anybody: no terminal of ours is driven by it, and nothing read beyond its end.
	 */
	memset(&other, 0xff, sizeof(other));
	memcpy(other.not_confined, "\33[2J", 4);
	jail_merge(&s, &other);
	assert_int_equal(s.confined, (1u << CONFINED_N) - 1);
	assert_null(strchr(s.not_confined, '\33'));
	assert_true(strnlen(s.not_confined, sizeof(s.not_confined)) < sizeof(s.not_confined));
	for (int i = 0; i < 50; i++)
		jail_missing(&s, CONFINED_SECCOMP, "much more than there is room for");
	assert_true(strnlen(s.not_confined, sizeof(s.not_confined)) < sizeof(s.not_confined));
	assert_false(has(&s, CONFINED_SECCOMP));
}

int main(int argc, char **argv)
{
	/* An emulator of user programs has neither filters nor namespaces to show: there is nothing to try. */
	if (!kernel_has_filters()) {
		printf("no seccomp here: %s\n", strerror(errno));
		return 77;
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			in_jail_the_monitors_work_goes_on_and_nothing_else, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			a_call_that_a_role_has_no_use_for_ends_the_process_recognisably, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			without_user_namespaces_it_works_and_says_so, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_reached_limit_is_named, set_up, tear_down),
		cmocka_unit_test_setup_teardown(qemu_reaches_its_files_and_no_other, set_up, tear_down),
		cmocka_unit_test_setup_teardown(qemu_makes_no_sockets, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			qemu_is_kept_to_its_files_without_namespaces_too, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			roots_machine_with_files_of_others_still_starts, set_up, tear_down),
		cmocka_unit_test(reports_are_readable),
	};
	if (argc == 4 && strcmp(argv[1], "--inside") == 0)
		_exit(inside(argv[2], atoi(argv[3])));
	if (argc == 2 && strcmp(argv[1], "--qemu") == 0)
		_exit(qemu_tries_sockets() ? 0 : FAILED);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
