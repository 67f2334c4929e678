/* SPDX-License-Identifier: MIT */
/* Child processes: which descriptors they get, how failures of exec come back, and who dies with whom. */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/proc.h"

enum { LIMIT_MS = 60000 };

/* Runs `sh -c script` with fds, of which `out` is its standard output. Returns what it printed. */
/* A skip says why. */
#define SKIP(why) \
	do { \
		print_message(why "\n"); \
		skip(); \
	} while (0)

static const char *output_of(const char *script, const struct proc_fd *fds, size_t n, bool new_session)
{
	static char text[4096];
	int pipe_fds[2], status;
	struct proc_fd all[16];

	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	if (n)
		memcpy(all, fds, n * sizeof(*fds));
	all[n] = (struct proc_fd){pipe_fds[1], STDOUT_FILENO};
	const char *argv[] = {"sh", "-c", script, NULL};
	struct proc_opts o = {
		.path = "/bin/sh", .argv = argv, .fds = all, .n_fds = n + 1, .new_session = new_session};
	pid_t pid = proc_spawn(&o, NULL);
	assert_true(pid > 0);
	close(pipe_fds[1]);
	ssize_t len = io_read_full(pipe_fds[0], text, sizeof(text) - 1);
	assert_true(len >= 0);
	text[len] = '\0';
	close(pipe_fds[0]);
	assert_int_equal(proc_wait(pid, &status), 0);
	assert_int_equal(status, 0);
	return text;
}

/* A descriptor whose content is one letter, at the number `at` (or any if negative). */
static int letter_fd(char c, int at)
{
	int fd = (int)syscall(SYS_memfd_create, "letter", 0u);
	assert_true(fd >= 0);
	assert_int_equal(io_pwrite_full(fd, &c, 1, 0), 0);
	if (at >= 0 && at != fd) {
		assert_int_equal(dup2(fd, at), at);
		close(fd);
		fd = at;
	}
	return fd;
}

/* ---- exec ---- */

static pid_t spawn(const char *path, const char *const *argv)
{
	struct proc_opts o = {.path = path, .argv = argv};
	return proc_spawn(&o, NULL);
}

static void a_program_that_cannot_be_executed_is_reported_with_its_errno(void **state)
{
	static const char *const argv[] = {"x", NULL};
	char path[] = "/tmp/test-proc-XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(spawn("/absent/program", argv), -ENOENT);
	char *old = str_dup(getenv("PATH"));
	setenv("PATH", "/usr/bin:/bin", 1); /* a folder that we may not search would make it EACCES */
	assert_int_equal(spawn("no-such-program-in-path", argv), -ENOENT);
	if (old)
		setenv("PATH", old, 1);
	free(old);
	assert_int_equal(spawn("/", argv), -EACCES);
	assert_int_equal(spawn(path, argv), -EACCES); /* not executable */
	assert_int_equal(fchmod(fd, 0700), 0);
	assert_int_equal(spawn(path, argv), -ETXTBSY); /* open for writing */
	close(fd);
	unlink(path);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no zombie is left */
	assert_int_equal(errno, ECHILD);
}

static void a_bad_descriptor_is_reported_and_leaves_no_child(void **state)
{
	static const char *const argv[] = {"true", NULL};
	struct proc_fd fd = {-1, 3};
	struct proc_opts o = {.path = "true", .argv = argv, .fds = &fd, .n_fds = 1};

	assert_int_equal(proc_spawn(&o, NULL), -EBADF);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	o.n_fds = 1000;
	assert_int_equal(proc_spawn(&o, NULL), -E2BIG);
}

static void status_codes_follow_the_shell(void **state)
{
	static const struct {
		const char *script;
		int code;
	} cases[] = {{"exit 0", 0}, {"exit 7", 7}, {"exit 255", 255}, {"kill -KILL $$", 137},
		{"kill -TERM $$", 143}};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *argv[] = {"sh", "-c", cases[i].script, NULL};
		int status = -1;
		pid_t pid = spawn("sh", argv);
		assert_true(pid > 0);
		assert_int_equal(proc_wait(pid, &status), 0);
		assert_int_equal(proc_status_code(status), cases[i].code);
	}
	int status;
	assert_int_equal(proc_wait(-1, &status), -ECHILD);
}

static void a_pidfd_tells_of_the_end_and_is_not_inherited(void **state)
{
	const char *argv[] = {"sh", "-c", "exit 3", NULL};
	struct proc_opts o = {.path = "sh", .argv = argv};
	int pidfd = -1, status;
	pid_t pid = proc_spawn(&o, &pidfd);

	assert_true(pid > 0);
	assert_true(pidfd >= 0);
	assert_int_equal(fcntl(pidfd, F_GETFD), FD_CLOEXEC);
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	assert_int_equal(poll(&p, 1, LIMIT_MS), 1);
	assert_int_equal(proc_wait(pid, &status), 0);
	assert_int_equal(proc_status_code(status), 3);
	close(pidfd);
}

static void the_environment_is_inherited_or_replaced(void **state)
{
	static const char *const argv[] = {"sh", "-c", "echo \"$IT-$HOME\" >&3", NULL};
	static const char *const env[] = {"IT=given", NULL};
	int fds[2], status;
	char text[64];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	struct proc_fd fd = {fds[1], 3};
	struct proc_opts o = {.path = "/bin/sh", .argv = argv, .envp = env, .fds = &fd, .n_fds = 1};
	pid_t pid = proc_spawn(&o, NULL);
	assert_true(pid > 0);
	close(fds[1]);
	ssize_t n = io_read_full(fds[0], text, sizeof(text));
	assert_int_equal(n, 7);
	assert_memory_equal(text, "given-\n", 7);
	close(fds[0]);
	proc_wait(pid, &status);
	assert_int_equal(setenv("IT", "inherited", 1), 0);
	assert_string_equal(output_of("echo $IT", NULL, 0, false), "inherited\n");
	unsetenv("IT");
}

static void dispositions_and_mask_are_the_default_ones(void **state)
{
	sigset_t set, old;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, &old);
	/*
	 * 32 and 33 are the C library's own: make(1) hands them down ignored, and no program can change that. (An
	 * emulator may change one of them.)
	 */
	const char *text = output_of(
		"grep -E '^Sig(Blk|Ign)' /proc/self/status | sed s/0000000[01][08]0000000/0000000000000000/",
		NULL, 0, false);
	assert_string_equal(text, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
	sigset_t now;
	sigprocmask(SIG_SETMASK, &old, &now);
	assert_int_equal(sigismember(&now, SIGTERM), 1); /* and ours are as they were */
	signal(SIGPIPE, SIG_DFL);
}

static void a_new_session_is_led_by_the_child(void **state)
{
	assert_string_equal(
		output_of("test $(cut -d' ' -f6 /proc/$$/stat) = $$ && echo leads", NULL, 0, true),
		"leads\n");
	assert_string_equal(
		output_of("test $(cut -d' ' -f6 /proc/$$/stat) = $$ || echo not", NULL, 0, false), "not\n");
}

/* ---- descriptors ---- */

static void unlisted_standard_descriptors_are_dev_null_and_all_others_closed(void **state)
{
	int low = letter_fd('x', 5), high = letter_fd('x', 40); /* without close-on-exec */

	assert_string_equal(output_of("readlink /proc/self/fd/0 /proc/self/fd/2", NULL, 0, false),
		"/dev/null\n/dev/null\n");
	const char *open_ones = "for i in $(seq 0 60); do test -e /proc/$$/fd/$i && echo $i; done; :";
	assert_string_equal(output_of(open_ones, NULL, 0, false), "0\n1\n2\n");
	struct proc_fd fd = {high, 7}; /* below a target, too */
	assert_string_equal(output_of(open_ones, &fd, 1, false), "0\n1\n2\n7\n");
	close(low);
	close(high);
}

static const int pool[] = {3, 4, 5, 6};

/* Spawns with sources at `from` and targets at `to`, four each, and checks each target's letter. */
static void check_placement(const int *from, const int *to)
{
	struct proc_fd fds[4];
	char want[16];
	size_t n = 0;

	for (int i = 0; i < 4; i++) {
		fds[i] = (struct proc_fd){from[i], to[i]};
	}
	for (int fd = 3; fd < 8; fd++) {
		for (int i = 0; i < 4; i++) {
			if (to[i] == fd)
				want[n++] = (char)('a' + from[i] - 3);
		}
	}
	want[n] = '\0';
	const char *got =
		output_of("for i in 3 4 5 6 7; do test -e /proc/$$/fd/$i && cat /proc/$$/fd/$i; done; :", fds,
			4, false);
	if (strcmp(got, want) != 0)
		fail_msg("from %d %d %d %d to %d %d %d %d: got %s, want %s", from[0], from[1], from[2],
			from[3], to[0], to[1], to[2], to[3], got, want);
}

static void next_permutation(int *p, unsigned k)
{
	int items[4];
	memcpy(items, pool, sizeof(items));
	for (unsigned i = 0, left = 4; i < 4; i++, left--) {
		unsigned j = k % left;
		k /= left;
		p[i] = items[j];
		memmove(items + j, items + j + 1, (left - j - 1) * sizeof(int));
	}
}

/* Sources and targets overlap in every way: the order of the list must not matter. */
static void descriptors_reach_their_numbers_in_every_permutation(void **state)
{
	for (int i = 0; i < 5; i++)
		letter_fd((char)('a' + i), 3 + i);
	for (unsigned k = 0; k < 24; k++) {
		int from[4], to[4] = {3, 4, 5, 6};
		next_permutation(from, k);
		check_placement(from, to);
		to[k % 4] =
			7; /* one target that is no source, one source that is no target: it must be closed */
		check_placement(from, to);
	}
	for (int i = 0; i < 5; i++)
		close(3 + i);
}

static void one_descriptor_may_go_to_several_numbers(void **state)
{
	int fd = letter_fd('q', -1);
	struct proc_fd fds[] = {{fd, 3}, {fd, 0}, {fd, 9}};

	assert_string_equal(output_of("cat <&3; cat /proc/$$/fd/9; cat /proc/$$/fd/0", fds, 3, false), "qqq");
	close(fd);
}

/* The error pipe takes the lowest free numbers, so here it collides with the targets. */
static void spawning_works_when_our_own_standard_descriptors_are_closed(void **state)
{
	int status, to = letter_fd('k', 20);

	pid_t middle = fork();
	if (middle == 0) {
		static const char *const argv[] = {"sh", "-c",
			"exec 5<&1; test \"$(cat <&5)\" = k && test -e /proc/$$/fd/0 && test -e "
			"/proc/$$/fd/2",
			NULL};
		static const char *const bad[] = {"absent", NULL};
		struct proc_fd fd = {to, 1};
		struct proc_opts o = {.path = "/bin/sh", .argv = argv, .fds = &fd, .n_fds = 1};
		for (int i = 0; i < 3; i++)
			close(i);
		pid_t pid = proc_spawn(&o, NULL);
		if (pid < 0 || proc_wait(pid, &status) < 0 || status != 0)
			_exit(1);
		o = (struct proc_opts){.path = "/absent", .argv = bad, .fds = &fd, .n_fds = 1};
		_exit(proc_spawn(&o, NULL) == -ENOENT ? 0 : 2);
	}
	assert_int_equal(proc_wait(middle, &status), 0);
	assert_int_equal(proc_status_code(status), 0);
	close(to);
}

/* ---- dying ---- */

/* Kills the parent of a sleeping child; tells whether the child ended too, within the limit. */
static bool child_ends_with_parent(bool die_with_parent, struct proc_confine *confine, int limit_ms)
{
	int fds[2], status;
	pid_t child;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid_t middle = fork();
	if (middle == 0) {
		static const char *const argv[] = {"sleep", "1000", NULL};
		struct proc_opts o = {.path = "sleep",
			.argv = argv,
			.die_with_parent = die_with_parent,
			.confine = confine};
		pid_t pid = proc_spawn(&o, NULL);
		if (io_write_full(fds[1], &pid, sizeof(pid)) < 0)
			_exit(1);
		for (;;)
			pause();
	}
	close(fds[1]);
	assert_int_equal(io_read_full(fds[0], &child, sizeof(child)), sizeof(child));
	close(fds[0]);
	assert_true(child > 0);
	int pidfd = (int)syscall(SYS_pidfd_open, child, 0);
	assert_true(pidfd >= 0);
	assert_int_equal(kill(middle, SIGKILL), 0);
	assert_int_equal(proc_wait(middle, &status), 0);
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	bool ended = poll(&p, 1, limit_ms) == 1;
	if (!ended)
		assert_int_equal(syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0), 0);
	close(pidfd);
	return ended;
}

static void a_child_dies_with_its_parent_when_asked_to(void **state)
{
	assert_true(child_ends_with_parent(true, NULL, LIMIT_MS));
}

static void a_child_otherwise_survives_its_parent(void **state)
{
	assert_false(child_ends_with_parent(false, NULL, 100));
}

/* ---- namespaces ---- */

enum { SPACES = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS };

/* Runs a script so confined, with its output and one more descriptor, and returns what it printed. */
static const char *confined_output(const char *script, struct proc_confine *c)
{
	static char text[4096];
	const char *argv[] = {"sh", "-c", script, NULL};
	int fds[2], status, more = letter_fd('l', -1);

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	const struct proc_fd list[] = {{fds[1], 1}, {more, 9}};
	struct proc_opts o = {.path = "/bin/sh",
		.argv = argv,
		.fds = list,
		.n_fds = ARRAY_LEN(list),
		.new_session = true,
		.die_with_parent = true,
		.no_new_privs = true,
		.confine = c};
	pid_t pid = proc_spawn(&o, NULL);
	assert_true(pid > 0);
	close(fds[1]);
	close(more);
	ssize_t len = io_read_full(fds[0], text, sizeof(text) - 1);
	text[len > 0 ? len : 0] = '\0';
	close(fds[0]);
	assert_int_equal(proc_wait(pid, &status), 0);
	assert_int_equal(status, 0);
	return text;
}

/* Whether this host permits them; the tests of what is in them are of no use where it does not. */
static bool namespaces_possible(void)
{
	struct proc_confine c = {.namespaces = SPACES, .landlock_fd = -1};
	confined_output(":", &c);
	assert_int_equal(c.got == c.namespaces, c.namespaces_error == 0);
	return c.got == c.namespaces;
}

static void in_new_namespaces_a_child_is_alone(void **state)
{
	struct proc_confine c = {.namespaces = SPACES, .capabilities = true, .landlock_fd = -1};

	if (!namespaces_possible())
		SKIP("this host permits no namespaces");
	assert_string_equal(
		confined_output("echo $$ $PPID; id -u; id -g; cat <&9; grep -c : /proc/self/net/dev;"
				"grep -E '^(CapEff|NoNewPrivs)' /proc/self/status | grep -c -v '\t0*$'",
			&c),
		"1 0\n0\n0\nl1\n2\n");
	assert_int_equal(c.got, SPACES);
}

static void a_child_without_capabilities_can_get_none(void **state)
{
	struct proc_confine c = {.namespaces = SPACES, .landlock_fd = -1};
	const char *script = "grep -E '^Cap' /proc/self/status | grep -v '\t0*$';"
			     "unshare -U true 2>/dev/null || echo no more";

	if (!namespaces_possible())
		SKIP("this host permits no namespaces");
	assert_string_equal(confined_output(script, &c), "no more\n");
	/*
	 * Root stays root outside of a user namespace, and so gets nothing by exec only if it cannot get
	 * anything.
	 */
	c.namespaces = 0;
	assert_string_equal(confined_output("id -u >/dev/null; grep -E '^CapEff' /proc/self/status", &c),
		"CapEff:\t0000000000000000\n");
	assert_int_equal(c.got, 0);
	assert_int_equal(c.namespaces_error, 0);
}

static void namespaces_change_nothing_about_failures(void **state)
{
	static const char *const argv[] = {"x", NULL};
	struct proc_confine c = {.namespaces = SPACES, .landlock_fd = -1};
	struct proc_opts o = {.path = "/absent/program", .argv = argv, .confine = &c};

	assert_int_equal(proc_spawn(&o, NULL), -ENOENT);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	/* A ruleset that is none is reported, and the child does without. */
	c.landlock_fd = letter_fd('x', -1);
	assert_string_equal(confined_output("echo runs", &c), "runs\n");
	assert_int_not_equal(c.landlock_error, 0);
	close(c.landlock_fd);
}

static void the_init_of_a_namespace_dies_with_its_parent(void **state)
{
	struct proc_confine c = {.namespaces = SPACES, .landlock_fd = -1};

	assert_true(child_ends_with_parent(true, &c, LIMIT_MS));
	c.capabilities = true;
	assert_true(child_ends_with_parent(true, &c, LIMIT_MS));
}

/*
 * Nothing but what is sent from outside reaches the init of a namespace, and of that the two that nobody can
 * refuse.
 */
static void the_init_of_a_namespace_can_be_stopped_and_killed(void **state)
{
	static const char *const argv[] = {"sleep", "1000", NULL};
	struct proc_confine c = {.namespaces = SPACES, .landlock_fd = -1};
	struct proc_opts o = {.path = "sleep", .argv = argv, .confine = &c};
	int pidfd, status;
	pid_t pid = proc_spawn(&o, &pidfd);

	assert_true(pid > 0);
	assert_int_equal(kill(pid, SIGSTOP), 0);
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	assert_true(WIFSTOPPED(status));
	assert_int_equal(kill(pid, SIGCONT), 0);
	assert_int_equal(waitpid(pid, &status, WCONTINUED), pid);
	assert_true(WIFCONTINUED(status));
	assert_int_equal(kill(pid, SIGKILL), 0);
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	assert_int_equal(poll(&p, 1, LIMIT_MS), 1);
	assert_int_equal(proc_wait(pid, &status), 0);
	assert_int_equal(proc_status_code(status), 128 + SIGKILL);
	close(pidfd);
}

static void the_folder_of_the_program_is_known(void **state)
{
	char exe[4096];
	char *self = proc_self_dir();
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	assert_non_null(self);
	assert_true(n > 0);
	exe[n] = '\0';
	assert_true(strlen(self) > 0 && strncmp(exe, self, strlen(self)) == 0 && exe[strlen(self)] == '/');
	assert_null(strchr(exe + strlen(self) + 1, '/'));
	free(self);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_program_that_cannot_be_executed_is_reported_with_its_errno),
		cmocka_unit_test(a_bad_descriptor_is_reported_and_leaves_no_child),
		cmocka_unit_test(status_codes_follow_the_shell),
		cmocka_unit_test(a_pidfd_tells_of_the_end_and_is_not_inherited),
		cmocka_unit_test(the_environment_is_inherited_or_replaced),
		cmocka_unit_test(dispositions_and_mask_are_the_default_ones),
		cmocka_unit_test(a_new_session_is_led_by_the_child),
		cmocka_unit_test(unlisted_standard_descriptors_are_dev_null_and_all_others_closed),
		cmocka_unit_test(descriptors_reach_their_numbers_in_every_permutation),
		cmocka_unit_test(one_descriptor_may_go_to_several_numbers),
		cmocka_unit_test(spawning_works_when_our_own_standard_descriptors_are_closed),
		cmocka_unit_test(a_child_dies_with_its_parent_when_asked_to),
		cmocka_unit_test(a_child_otherwise_survives_its_parent),
		cmocka_unit_test(in_new_namespaces_a_child_is_alone),
		cmocka_unit_test(a_child_without_capabilities_can_get_none),
		cmocka_unit_test(namespaces_change_nothing_about_failures),
		cmocka_unit_test(the_init_of_a_namespace_dies_with_its_parent),
		cmocka_unit_test(the_init_of_a_namespace_can_be_stopped_and_killed),
		cmocka_unit_test(the_folder_of_the_program_is_known),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
