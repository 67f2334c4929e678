/* SPDX-License-Identifier: MIT */
/*
 * The server under Linux's own FUSE file system: /dev/fuse brings the requests that a guest's kernel would put on the queues.
 * Ordinary programs work on the mount; what they see is compared with what they see on the host. Needs root.
 */
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
/* cmocka.h needs the four above. */
#include <cmocka.h>

#include "base/emulator.h"
#include "base/io.h"
#include "server.h"

enum { THREADS = 6, BUF = (1 << 20) + 65536 };

struct mounted {
	char path[64]; /* with "host", what is served, and "guest", where */
	int fuse;
	struct fs_server *s;
	pthread_t threads[THREADS];
};

static void *serve(void *data)
{
	struct mounted *m = data;
	char *req = malloc(BUF), *reply = malloc(BUF);
	ssize_t n;

	while ((n = read(m->fuse, req, BUF)) > 0 || (n < 0 && (errno == EINTR || errno == ENOENT))) {
		if (n < 0)
			continue;
		struct iovec out = {req, (size_t)n}, in[] = {{reply, sizeof(struct fuse_out_header)},
							     {reply + sizeof(struct fuse_out_header),
								     BUF - sizeof(struct fuse_out_header)}};
		struct fuse_in_header h;
		size_t len = fs_header(&out, 1, &h) ? fs_handle(m->s, &h, &out, 1, in, 2, NULL) : 0;
		/* The request's process may have been killed (ENOENT). */
		if (len && write(m->fuse, reply, len) < 0 && errno != ENOENT)
			break;
	}
	free(req);
	free(reply);
	return NULL;
}

static bool start(struct mounted *m)
{
	struct fs_export x = {.use_fd = -1};
	struct err e = {0};
	char text[128];

	*m = (struct mounted){.path = "/tmp/fs-test-kernel-XXXXXX"};
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		(m->fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC)) < 0) {
		print_message("no /dev/fuse, or not permitted to mount\n");
		return false;
	}
	assert_non_null(mkdtemp(m->path));
	assert_int_equal(chmod(m->path, 0755), 0);
	int dir = open(m->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
	    proc = open("/proc/self/fd", O_PATH | O_CLOEXEC);
	assert_int_equal(mkdirat(dir, "host", 0755) | mkdirat(dir, "guest", 0755), 0);
	x.fd = openat(dir, "host", O_PATH | O_CLOEXEC);
	close(dir);
	assert_int_equal(fs_server_new(&x, 1, proc, 32, &m->s, &e), 0);
	snprintf(text, sizeof(text),
		"fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions", m->fuse);
	char guest[96];
	snprintf(guest, sizeof(guest), "%s/guest", m->path);
	if (mount("fuse", guest, "fuse", 0, text) < 0)
		fail_msg("mount: %s", strerror(errno));
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&m->threads[i], NULL, serve, m), 0);
	return true;
}

static void stop(struct mounted *m)
{
	char guest[96];

	snprintf(guest, sizeof(guest), "%s/guest", m->path);
	assert_int_equal(umount(guest), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(m->threads[i], NULL);
	close(m->fuse);
	/* What the kernel still had to forget or close it keeps to itself at the end. */
	fs_reset(m->s);
	assert_int_equal(m->s->n_handles, 0);
	assert_int_equal(m->s->n_nodes, 2);
	assert_int_equal(m->s->n_owners, 0);
	fs_server_free(m->s);
	assert_int_equal(io_remove_tree_at(AT_FDCWD, m->path), 0);
}

/* In the mount's first export; $H is the same folder of the host. */
static void run(const struct mounted *m, const char *script)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		char dir[96], host[96];
		snprintf(dir, sizeof(dir), "%s/guest/0", m->path);
		snprintf(host, sizeof(host), "%s/host", m->path);
		setenv("H", host, 1);
		setenv("LC_ALL", "C", 1);
		umask(022); /* the server's is 0 */
		if (chdir(dir) == 0)
			execl("/bin/sh", "sh", "-euc", script, (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (status)
		fail_msg("status %d of: %s", status, script);
}

static void test_programs(void **state)
{
	SKIP_IN_EMULATOR();
	struct mounted m;

	if (!start(&m))
		skip();
	run(&m, "echo hello > f; test \"$(cat f)\" = hello; test \"$(cat $H/f)\" = hello; echo more >> f; "
		"test $(wc -l < f) = 2");
	run(&m, "echo host > $H/f; test \"$(cat f)\" = host; rm $H/f; test ! -e f");
	/* Owners, modes, devices. */
	run(&m, "touch o; chown 999:998 o; chmod 4751 o; test \"$(stat -c '%u %g %a' o)\" = '999 998 4751';"
		"test \"$(stat -c '%u %a' $H/o)\" = '0 751'; chown 5 o; test \"$(stat -c %a o)\" = 751");
	run(&m, "mknod n c 1 3; mkfifo p; test \"$(stat -c '%F %t %T' n)\" = 'character special file 1 3';"
		"(echo through > p) & test \"$(cat p)\" = through; wait; test -f $H/p; find . -type p | grep "
		"-q p");
	run(&m, "ln -s /nowhere l; test \"$(readlink l)\" = /nowhere; ln -s o s; ln o h; test $(stat -c %h "
		"o) = 2; mv h h2;"
		"test o -ef h2; rm o n p l s h2; test -z \"$(ls -A)\"; test -z \"$(ls -A $H)\"");
	/* Another user of the box: his files are his, others' are not. */
	run(&m, "mkdir t; chmod 1777 t; echo mine > t/root; chmod 600 t/root;"
		"if setpriv --reuid 999 --regid 999 --clear-groups cat t/root 2>/dev/null; then exit 1; fi;"
		"if setpriv --reuid 999 --regid 999 --clear-groups rm -f t/root 2>/dev/null; then exit 1; fi;"
		"setpriv --reuid 999 --regid 999 --clear-groups sh -c 'echo x > t/u; mkdir t/d; echo y > "
		"t/d/f; chmod 400 t/u';"
		"test \"$(stat -c '%u %g %a' t/u t/d)\" = \"$(printf '999 999 400\\n999 999 755')\"; rm -r "
		"t");
	/* Setuid goes with a write of another user. */
	run(&m, "echo x > w; chmod 6777 w; setpriv --reuid 7 --regid 7 --clear-groups sh -c 'echo y >> w';"
		"test $(stat -c %a w) = 777; rm w");
	/* Open files without names, holes, copies. */
	run(&m, "exec 3<> gone; echo data >&3; rm gone; test \"$(cat /proc/self/fd/3)\" = data; test "
		"\"$(stat -L -c %h /proc/self/fd/3)\" = 0");
	run(&m, "truncate -s 10M big; printf x | dd of=big bs=1 seek=5000000 conv=notrunc 2>/dev/null; cp "
		"--sparse=auto big copy;"
		"cmp big copy; cmp copy $H/big; fallocate -p -o 4999680 -l 8192 big; if cmp -s big copy; "
		"then exit 1; fi; rm big copy");
	stop(&m);
}

static void test_tree(void **state)
{
	struct mounted m;

	if (!start(&m))
		skip();
	/* More files than the server keeps descriptors. */
	run(&m, "mkdir a; i=0; while [ $i -lt 300 ]; do d=a/$((i % 7))/$((i % 3)); mkdir -p $d; echo $i > "
		"$d/f$i; ln $d/f$i $d/h$i;"
		"ln -s f$i $d/l$i; chown -h $((i % 5)):$((i % 4)) $d/f$i; chmod $((i % 8))4$((i % 8)) "
		"$d/f$i; i=$((i + 1)); done");
	run(&m, "cp -a a b; diff -r a b; tar cf t.tar a; mkdir c; tar xpf t.tar -C c --same-owner;"
		"list() { (cd $1 && find . -printf '%p %y %m %U %G %s %l %n\\n' | sort); };"
		"list a > A; list b > B; list c/a > C; diff A B; diff A C; test $(wc -l < A) = 929");
	run(&m, "find a -name 'f*' -exec cat {} + > /dev/null; mv a/1 a/2/moved; find a > /dev/null; rm -r a "
		"b c A B C t.tar; test -z \"$(ls -A $H)\"");
	stop(&m);
}

static void test_locks_and_appends(void **state)
{
	SKIP_IN_EMULATOR();
	struct mounted m;

	if (!start(&m))
		skip();
	run(&m, "echo 0 > n; for p in 1 2 3 4; do (i=0; while [ $i -lt 25 ]; do flock lock sh -c 'read v < "
		"n; echo $((v + 1)) > n';"
		"i=$((i + 1)); done) & done; wait; test \"$(cat n)\" = 100");
	run(&m, "for p in 1 2 3 4; do (i=0; while [ $i -lt 50 ]; do echo line >> log; echo line >> $H/log; "
		"i=$((i + 1)); done) & done;"
		"wait; test $(grep -c '^line$' log) = 400; test $(wc -l < log) = 400");
	stop(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_programs),
		cmocka_unit_test(test_tree),
		cmocka_unit_test(test_locks_and_appends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
