/* SPDX-License-Identifier: MIT */
/* What a file server can still do once it is confined: each trial is a process of its own. */
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <cmocka.h>

#include "base/emulator.h"
#include "base/io.h"
#include "base/proc.h"
#include "base/sanitized.h"
#include "jail.h"
#include "watch.h"

enum { RW, RO, FILE_RO, EXPORTS };
enum { NO_JAIL = 100 };

struct fixture {
	char dir[40];
	int dirfd;
	struct fs_export exports[EXPORTS];
};

static void make(int dirfd, const char *name, mode_t mode)
{
	CLEANUP_CLOSE int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "text", 4), 4);
}

static int setup(void **state)
{
	static const char *const names[EXPORTS] = {"rw", "ro", "file"};
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/test-fs-jail-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->dirfd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(f->dirfd >= 0);
	make(f->dirfd, "outside", 0644);
	make(f->dirfd, "file", 0644);
	assert_int_equal(mkdirat(f->dirfd, "rw", 0755), 0);
	assert_int_equal(mkdirat(f->dirfd, "rw/d", 0755), 0);
	assert_int_equal(mkdirat(f->dirfd, "ro", 0755), 0);
	make(f->dirfd, "rw/f", 0644);
	make(f->dirfd, "ro/f", 0644);
	for (unsigned i = 0; i < EXPORTS; i++) {
		f->exports[i] = (struct fs_export){.fd = openat(f->dirfd, names[i], O_PATH | O_CLOEXEC),
			.use_fd = -1,
			.read_only = i != RW,
			.file = i == FILE_RO};
		assert_true(f->exports[i].fd >= 0);
	}
	for (unsigned i = RW; i <= RO; i++) {
		f->exports[i].cache = FS_CACHE_VOLUME;
		f->exports[i].use_fd =
			openat(f->dirfd, i == RW ? "use" : "use2", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		assert_true(f->exports[i].use_fd >= 0);
	}
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < EXPORTS; i++)
		close(f->exports[i].fd);
	close(f->exports[RW].use_fd);
	close(f->exports[RO].use_fd);
	close(f->dirfd);
	io_remove_tree_at(AT_FDCWD, f->dir);
	free(f);
	return 0;
}

typedef int (*trial_fn)(const struct fixture *f, const struct fs_status *s);

/* Runs the trial confined; its status as proc_status_code gives it: the trial's value, or 128 + signal. */
static int run(const struct fixture *f, bool root, trial_fn fn)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		struct fs_status s = {0};
		struct err e = {0};
		close(f->dirfd);
		/* The number is nobody's else, as in the program. */
		if (fcntl(FS_FD_HOLD, F_GETFD) < 0 && dup2(f->exports[RW].fd, FS_FD_HOLD) < 0)
			_exit(NO_JAIL);
		jail_roots(f->exports, EXPORTS, &s);
		if (jail_close(f->exports, EXPORTS, root, &s, &e) < 0)
			_exit(NO_JAIL);
		_exit(fn(f, &s));
	}
	assert_int_equal(proc_wait(pid, &status), 0);
	return proc_status_code(status);
}

/* ---- what it needs ---- */

static void *thread_main(void *data)
{
	return data;
}

/* Returns the number of the first step that fails, 0 for none. */
static int works(const struct fixture *f, const struct fs_status *s)
{
	int rw = f->exports[RW].fd, ro = f->exports[RO].fd;
	char buf[8], path[40];
	struct stat st;
	pthread_t t;

	int fd = openat(rw, "new", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, "x", 1) != 1 || fsync(fd) < 0 || ftruncate(fd, 0) < 0)
		return 1;
	/* Between folders, which the first Landlock could not allow. */
	if (mkdirat(rw, "made", 0755) < 0 || renameat2(AT_FDCWD, "/nowhere", rw, "x", 0) == 0 ||
		renameat2(rw, "new", rw, "made/new", RENAME_NOREPLACE) < 0 ||
		linkat(rw, "made/new", rw, "d/linked", 0) < 0 || symlinkat("to", rw, "link") < 0 ||
		unlinkat(rw, "d/linked", 0) < 0)
		return 2;
	fd = openat(ro, "f", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, buf, sizeof(buf)) != 4)
		return 3;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->exports[FILE_RO].fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, buf, sizeof(buf)) != 4)
		return 4;
	/* What cannot be opened is reached by its descriptor's name. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", openat(rw, "f", O_PATH | O_CLOEXEC));
	if (stat(path, &st) < 0 || st.st_size != 4 || chmod(path, 0600) < 0)
		return 5;
	if (setxattr(path, "user.a3s.test", "1", 1, 0) < 0 && errno != EOPNOTSUPP)
		return 6;
	if (pthread_create(&t, NULL, thread_main, NULL) != 0 || pthread_join(t, NULL) != 0)
		return 7;
	return 0;
}

/* Changes that others make (watch.c). */
static int watches(const struct fixture *f, const struct fs_status *s)
{
	union {
		struct file_handle h;
		char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} u = {.h.handle_bytes = MAX_HANDLE_SZ};
	char path[40];
	int mount, fd = fanotify_init(WATCH_GROUP_FLAGS, O_RDONLY);

	if (fd < 0)
		return errno == EINVAL || errno == EPERM || errno == EMFILE
			       ? 0
			       : 1; /* not in this kernel, or no more */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->exports[RO].fd);
	if (fanotify_mark(fd, FAN_MARK_ADD, FAN_CREATE | FAN_ONDIR, AT_FDCWD, path) < 0 ||
		fanotify_mark(fd, FAN_MARK_FLUSH, 0, AT_FDCWD, ".") < 0)
		return errno == ENODEV || errno == EOPNOTSUPP ? 0 : 2;
	return name_to_handle_at(AT_FDCWD, path, &u.h, &mount, AT_SYMLINK_FOLLOW) < 0 ? 3 : 0;
}

/* Locks of its own files, whatever their numbers; leases of all volumes. */
static int locks(const struct fixture *f, const struct fs_status *s)
{
	struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd = openat(f->exports[RW].fd, "f", O_RDWR | O_CLOEXEC);

	for (int least = 0; least < 700; least++) {
		int copy = fcntl(fd, F_DUPFD_CLOEXEC, least);
		if (copy < least || copy == FS_FD_HOLD || flock(copy, LOCK_EX) < 0 ||
			flock(copy, LOCK_UN) < 0 || fcntl(copy, F_OFD_SETLK, &range) < 0 ||
			fcntl(copy, F_OFD_GETLK, &range) < 0)
			return 1;
		close(copy);
	}
	for (unsigned i = 0; i < EXPORTS; i++) {
		int use = f->exports[i].use_fd;
		if (use >= 0 && (fcntl(use, F_SETLEASE, F_WRLCK) < 0 || fcntl(use, F_GETLEASE) != F_WRLCK ||
					fcntl(use, F_SETLEASE, F_UNLCK) < 0))
			return 2;
	}
	return 0;
}

static void test_what_it_needs(void **state)
{
	SKIP_IN_EMULATOR();
	assert_int_equal(run(*state, true, works), 0);
	assert_int_equal(run(*state, true, locks), 0);
	assert_int_equal(run(*state, true, watches), 0);
	assert_int_equal(run(*state, false, watches), 0);
}

/* ---- what it reports ---- */

static int reports(const struct fixture *f, const struct fs_status *s)
{
	static const char *const names[] = {
		"mount-namespace", "rlimits", "no-new-privileges", "landlock", "seccomp"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (!strstr(s->confined, names[i]) == !strstr(s->not_confined, names[i]))
			return (int)i + 1; /* in one of both, and not in both */
	}
	return 0;
}

static void test_what_it_reports(void **state)
{
	SKIP_IN_EMULATOR();
	assert_int_equal(run(*state, true, reports), 0);
}

/* ---- what it must not: 0 refused, 1 done, NO_JAIL the host does not give the layer that refuses ---- */

static int writes_read_only(const struct fixture *f, const struct fs_status *s)
{
	int ro = f->exports[RO].fd;
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->exports[FILE_RO].fd);
	return openat(ro, "new", O_WRONLY | O_CREAT | O_CLOEXEC, 0644) >= 0 ||
	       openat(ro, "f", O_WRONLY | O_CLOEXEC) >= 0 ||
	       openat(ro, "f", O_RDONLY | O_TRUNC | O_CLOEXEC) >= 0 || unlinkat(ro, "f", 0) == 0 ||
	       mkdirat(ro, "d", 0755) == 0 || open(path, O_WRONLY | O_CLOEXEC) >= 0 ||
	       linkat(ro, "f", f->exports[RW].fd, "stolen", 0) == 0;
}

/* Landlock does not judge these: the mount does. */
static int changes_read_only(const struct fixture *f, const struct fs_status *s)
{
	if (!strstr(s->confined, "mount-namespace"))
		return NO_JAIL;
	return fchmodat(f->exports[RO].fd, "f", 0777, 0) == 0 ||
	       utimensat(f->exports[RO].fd, "f", NULL, 0) == 0;
}

static int leaves(const struct fixture *f, const struct fs_status *s)
{
	static const char *const names[] = {"../outside", "../../../../../../etc/passwd", "d/../../outside"};

	if (strstr(s->not_confined, "mount-namespace") && strstr(s->not_confined, "landlock"))
		return NO_JAIL;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (openat(f->exports[RW].fd, names[i], O_RDONLY | O_CLOEXEC) >= 0)
			return 1;
	}
	return open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0 ||
	       open("/proc/self/status", O_RDONLY | O_CLOEXEC) >= 0 ||
	       open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC) >= 0;
}

static int changes_outside(const struct fixture *f, const struct fs_status *s)
{
	if (!strstr(s->confined, "mount-namespace"))
		return NO_JAIL;
	struct stat st;
	return fchmodat(f->exports[RW].fd, "../outside", 0777, 0) == 0 ||
	       fstatat(f->exports[RW].fd, "../outside", &st, 0) == 0;
}

static void test_what_it_must_not(void **state)
{
	static const struct {
		const char *what;
		trial_fn fn;
	} trials[] = {{"writes to what is read-only", writes_read_only},
		{"changes attributes of what is read-only", changes_read_only},
		{"leaves its folders", leaves}, {"changes something outside", changes_outside}};

	if (SANITIZED) {
		print_message("# no Landlock beside a sanitizer\n");
		skip();
	}
	for (size_t i = 0; i < ARRAY_LEN(trials); i++) {
		int r = run(*state, true, trials[i].fn);
		if (r == NO_JAIL)
			print_message("not on this host: %s\n", trials[i].what);
		else if (r != 0)
			fail_msg("it %s: %d", trials[i].what, r);
	}
}

/* ---- calls that end it ---- */

static int call_socket(const struct fixture *f, const struct fs_status *s)
{
	return socket(AF_UNIX, SOCK_STREAM, 0) >= 0;
}

static int call_exec(const struct fixture *f, const struct fs_status *s)
{
	char *const argv[] = {(char[]){"x"}, NULL};
	return execv("/bin/true", argv);
}

static int call_fork(const struct fixture *f, const struct fs_status *s)
{
	return (int)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) >= 0;
}

static int call_mmap_exec(const struct fixture *f, const struct fs_status *s)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
}

static int call_ioctl(const struct fixture *f, const struct fs_status *s)
{
	int n;
	return ioctl(0, FIONREAD, &n) == 0;
}

static int call_unshare(const struct fixture *f, const struct fs_status *s)
{
	return unshare(CLONE_NEWUSER) == 0;
}

static int call_mknod(const struct fixture *f, const struct fs_status *s)
{
	return mknodat(f->exports[RW].fd, "null", S_IFCHR | 0666, 0x103) == 0;
}

static int call_chown(const struct fixture *f, const struct fs_status *s)
{
	return fchownat(f->exports[RW].fd, "f", 1, 1, 0) == 0;
}

static int call_kill(const struct fixture *f, const struct fs_status *s)
{
	return kill(getppid(), 0) == 0;
}

static int call_ptrace(const struct fixture *f, const struct fs_status *s)
{
	return syscall(SYS_ptrace, 0, 0, 0, 0) == 0;
}

/* Programs that give their owner's rights away, by each call that takes a mode. */
static int call_open_setuid(const struct fixture *f, const struct fs_status *s)
{
	return openat(f->exports[RW].fd, "new", O_RDWR | O_CREAT | O_CLOEXEC, 04755) >= 0;
}

static int call_tmpfile_setgid(const struct fixture *f, const struct fs_status *s)
{
	return openat(f->exports[RW].fd, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 02755) >= 0;
}

static int call_openat2(const struct fixture *f, const struct fs_status *s)
{
	const struct open_how how = {.flags = O_RDWR | O_CREAT | O_CLOEXEC, .mode = 04755};
	return syscall(SYS_openat2, f->exports[RW].fd, "new", &how, sizeof(how)) >= 0;
}

static int call_mkdir_setgid(const struct fixture *f, const struct fs_status *s)
{
	return mkdirat(f->exports[RW].fd, "made", 02755) == 0;
}

static int call_fchmod_setuid(const struct fixture *f, const struct fs_status *s)
{
	int fd = openat(f->exports[RW].fd, "f", O_RDWR | O_CLOEXEC);
	return fd < 0 || fchmod(fd, 04755) == 0;
}

static int call_fchmodat_setuid(const struct fixture *f, const struct fs_status *s)
{
	return fchmodat(f->exports[RW].fd, "f", 04755, 0) == 0;
}

#ifdef SYS_chmod
static int call_chmod_setuid(const struct fixture *f, const struct fs_status *s)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", openat(f->exports[RW].fd, "f", O_PATH | O_CLOEXEC));
	return syscall(SYS_chmod, path, 04755) == 0;
}
#endif

/* What it was given it has in common with the supervisor, whose locks these are. */
static int call_unlock_hold(const struct fixture *f, const struct fs_status *s)
{
	return flock(FS_FD_HOLD, LOCK_UN) == 0;
}

static int call_unlock_use(const struct fixture *f, const struct fs_status *s)
{
	return flock(f->exports[RW].use_fd, LOCK_UN) == 0;
}

static int call_unlock_second(const struct fixture *f, const struct fs_status *s)
{
	return flock(f->exports[RO].use_fd, LOCK_UN) == 0;
}

/* The kernel looks at 32 bits of it only. */
static int call_unlock_long(const struct fixture *f, const struct fs_status *s)
{
	return syscall(SYS_flock, 1l << 32 | f->exports[RW].use_fd, LOCK_UN) == 0;
}

static int call_range_unlock_use(const struct fixture *f, const struct fs_status *s)
{
	struct flock all = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
	return fcntl(f->exports[RW].use_fd, F_OFD_SETLK, &all) == 0;
}

static int call_copy_use(const struct fixture *f, const struct fs_status *s)
{
	return fcntl(f->exports[RW].use_fd, F_DUPFD_CLOEXEC, 100) >= 0;
}

/* The host's programs would wait for it. */
static int call_lease_shared(const struct fixture *f, const struct fs_status *s)
{
	int fd = openat(f->exports[RW].fd, "f", O_RDWR | O_CLOEXEC);
	return fd < 0 || fcntl(fd, F_SETLEASE, F_WRLCK) == 0;
}

/* All of a file system, of which the box has a part. */
static int call_mark_filesystem(const struct fixture *f, const struct fs_status *s)
{
	return fanotify_mark(100, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_CREATE, AT_FDCWD, "/") == 0;
}

/* Events with descriptors. */
static int call_fanotify_descriptors(const struct fixture *f, const struct fs_status *s)
{
	return fanotify_init(FAN_CLASS_NOTIF, O_RDWR) >= 0;
}

static void test_calls_that_end_it(void **state)
{
	SKIP_IN_EMULATOR();
	static const trial_fn calls[] = {call_socket, call_exec, call_fork, call_mmap_exec, call_ioctl,
		call_unshare, call_mknod, call_chown, call_kill, call_ptrace, call_open_setuid,
		call_tmpfile_setgid, call_openat2, call_mkdir_setgid, call_fchmod_setuid,
		call_fchmodat_setuid,
#ifdef SYS_chmod
		call_chmod_setuid,
#endif
		call_unlock_hold, call_unlock_use, call_unlock_long, call_range_unlock_use, call_copy_use,
		call_unlock_second, call_lease_shared, call_mark_filesystem, call_fanotify_descriptors};

	if (SANITIZED) /* then there is no filter, and jail_close says so */
		skip();
	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		int r = run(*state, true, calls[i]);
		if (r != 128 + SIGSYS)
			fail_msg("call %zu of the list: %d", i, r);
	}
}

/* ---- root's files and those of others ---- */

static int reads_foreign(const struct fixture *f, const struct fs_status *s)
{
	return openat(f->exports[RW].fd, "foreign", O_RDWR | O_CLOEXEC) < 0;
}

static void test_capabilities(void **state)
{
	SKIP_IN_EMULATOR();
	const struct fixture *f = *state;

	if (geteuid() != 0)
		skip();
	make(f->dirfd, "rw/foreign", 0600);
	if (fchownat(f->dirfd, "rw/foreign", 12345, 12345, 0) < 0) /* a namespace has no others */
		skip();
	assert_int_equal(run(f, true, reads_foreign), 0);
	assert_int_equal(run(f, false, reads_foreign), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_it_needs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_it_reports, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_it_must_not, setup, teardown),
		cmocka_unit_test_setup_teardown(test_calls_that_end_it, setup, teardown),
		cmocka_unit_test_setup_teardown(test_capabilities, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
