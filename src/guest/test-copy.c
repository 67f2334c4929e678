/* SPDX-License-Identifier: MIT */
/* Files into a box and out of it, over connections of the session server; the box is a folder here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/io.h"
#include "copy.h"
#include "server.h"
#include "tree/tree.h"

static struct loop *loop;
static struct server *server;
static struct spawn_box box;
static char folder[64];
static int root, host; /* the box, and a folder of the host */

static void write_file(int dir, const char *path, const char *text)
{
	CLEANUP_CLOSE int fd = openat(dir, path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(io_write_full(fd, text, strlen(text)), 0);
}

static void assert_text(int dir, const char *path, const char *text)
{
	CLEANUP_FREE char *got = NULL;

	assert_int_equal(io_read_file_at(dir, path, 1 << 20, &got, NULL), 0);
	assert_string_equal(got, text);
}

static int open_folder(const char *path)
{
	assert_true(mkdir(path, 0755) == 0 || errno == EEXIST);
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static int setup(void **state)
{
	snprintf(folder, sizeof(folder), "/tmp/a3s-test-copy-XXXXXX");
	assert_non_null(mkdtemp(folder));
	assert_int_equal(chdir(folder), 0);
	root = open_folder("root");
	host = open_folder("host");
	write_file(AT_FDCWD, "secret", "outside");
	assert_int_equal(chdir("root"), 0); /* see copy.c */
	box = (struct spawn_box){
		.cgroup = -1, .devpts = -1, .self_pidfd = -1, .main_pidfd = -1, .bare = true};
	box.prepared = (struct spawn_prepared){0, -1, -1, -1};
	assert_int_equal(loop_new(&loop), 0);
	assert_int_equal(server_new(loop, &box, NULL, NULL, &server), 0);
	return 0;
}

static int teardown(void **state)
{
	server_free(TAKE_PTR(server));
	loop_free(TAKE_PTR(loop));
	close_fd(&root);
	close_fd(&host);
	assert_int_equal(chdir("/"), 0);
	io_remove_tree_at(AT_FDCWD, folder);
	return 0;
}

/* A connection that has said this, and is served by a process. */
static int connect_with(struct buf *out)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(io_set_nonblock(fds[1], true), 0);
	assert_int_equal(server_add(server, fds[1]), 0);
	assert_int_equal(io_write_full(fds[0], buf_data(out), out->len), 0);
	buf_done(out);
	for (int i = 0; i < 6000 && !server_has_processes(server); i++)
		assert_int_equal(loop_turn(loop, 10), 0);
	return fds[0];
}

static int ask(enum wire_type type, const struct wire_copy *c)
{
	struct buf out = {0};

	assert_int_equal(wire_put_copy(&out, type, c), 0);
	return connect_with(&out);
}

static void run_down(void)
{
	for (int i = 0; i < 6000 && server_has_processes(server); i++)
		assert_int_equal(loop_turn(loop, 10), 0);
	assert_false(server_has_processes(server));
	assert_false(server_has_sessions(server));
}

/* The next answer: 0, or what FAIL says; text may be NULL. */
static int receive(int fd, struct buf *in, char **text)
{
	CLEANUP_FREE char *why = NULL;
	struct wire_frame f;
	uint32_t status = 0;

	while (wire_next(in, &f) == 0) {
		uint8_t *room = buf_reserve(in, 4096);
		ssize_t n = read(fd, room, 1); /* no more than the answer: what follows is the tree's */

		assert_int_equal(n, 1);
		buf_commit(in, 1);
	}
	if (f.type == WIRE_FAIL)
		assert_int_equal(wire_get_fail(&f, &status, &why), 0);
	else
		assert_int_equal(f.type, WIRE_DONE);
	wire_consume(in, &f);
	if (text)
		*text = TAKE_PTR(why);
	return (int)status;
}

static int copy_out(const struct wire_copy *c, int dir, const char *name, struct err *e)
{
	const struct tree_write_opts o = {.owner = TREE_OWNER_SELF};
	CLEANUP_CLOSE int fd = ask(WIRE_COPY_OUT, c);
	CLEANUP(tree_writer_freep) struct tree_writer *w = NULL;
	CLEANUP(buf_done) struct buf in = {0};
	int r = -receive(fd, &in, NULL);

	*e = (struct err){0};
	if (r == 0) {
		assert_int_equal(tree_writer_new(dir, name, &o, &w, e), 0);
		r = tree_read_stream(fd, &in, tree_writer_sink(w), e);
	}
	run_down();
	return r;
}

static int copy_in(const struct wire_copy *c, int dir, const char *name, char **text)
{
	const struct tree_read_opts o = {0};
	CLEANUP_CLOSE int fd = ask(WIRE_COPY_IN, c);
	CLEANUP(tree_stream_freep) struct tree_stream *s = NULL;
	CLEANUP(buf_done) struct buf in = {0};
	struct err e = {0};
	int r = -receive(fd, &in, text);

	if (r == 0) {
		assert_int_equal(tree_stream_new(fd, &s, &e), 0);
		tree_read_folder(dir, name, &o, tree_stream_sink(s), &e); /* may break off */
		if (text)
			free(*text);
		r = -receive(fd, &in, text);
	}
	run_down();
	return r;
}

static void trees_go_both_ways(void **state)
{
	struct err e;
	char *text = NULL;

	assert_int_equal(mkdirat(root, "d", 0755), 0);
	write_file(root, "d/f", "content");
	assert_int_equal(symlinkat("f", root, "d/l"), 0);
	assert_int_equal(copy_out(&(struct wire_copy){.path = (char *)"/d"}, host, "d", &e), 0);
	assert_text(host, "d/f", "content");
	assert_int_equal(copy_out(&(struct wire_copy){.path = (char *)"/d/f"}, host, "g", &e), 0);
	assert_text(host, "g", "content");
	assert_int_equal(copy_in(&(struct wire_copy){.path = (char *)"/new"}, host, "d", &text), 0);
	assert_null(text);
	assert_text(root, "new/f", "content");
	assert_text(root, "new/l", "content");
	assert_int_equal(copy_in(&(struct wire_copy){.path = (char *)"/new/."}, host, "d", &text), 0);
	assert_int_equal(copy_in(&(struct wire_copy){.path = (char *)"/"}, host, "d", &text), 0);
	assert_text(root, "f", "content");
}

static void failures_have_their_number(void **state)
{
	char *text = NULL;
	struct err e;

	write_file(root, "file", "x");
	write_file(host, "f", "y");
	assert_int_equal(mkdirat(root, "d", 0755), 0);
	assert_int_equal(copy_out(&(struct wire_copy){.path = (char *)"/absent"}, host, "x", &e), -ENOENT);
	assert_int_equal(copy_out(&(struct wire_copy){.path = (char *)"/file/."}, host, "x", &e), -ENOTDIR);
	assert_int_equal(
		copy_out(&(struct wire_copy){.path = (char *)"/file/below"}, host, "x", &e), -ENOTDIR);
	assert_int_equal(
		copy_in(&(struct wire_copy){.path = (char *)"/absent/x"}, host, "f", &text), -ENOENT);
	assert_string_equal(text, "/absent/x: No such file or directory");
	free(TAKE_PTR(text));
	assert_int_equal(copy_in(&(struct wire_copy){.path = (char *)"/d"}, host, "f", &text), -EISDIR);
	assert_non_null(text);
	free(TAKE_PTR(text));
	assert_int_equal(copy_in(&(struct wire_copy){.path = (char *)"/file"}, host, "", &text), -ENOTDIR);
	free(TAKE_PTR(text));
	assert_text(root, "file", "x");
}

static void links_stay_inside(void **state)
{
	char *text = NULL;
	struct err e;

	write_file(host, "f", "new");
	write_file(root, "real", "inside");
	assert_int_equal(symlinkat("../../../../../../secret", root, "up"), 0);
	assert_int_equal(symlinkat("/real", root, "absolute"), 0);
	assert_int_equal(symlinkat("absolute", root, "twice"), 0);
	assert_int_equal(symlinkat("loop", root, "loop"), 0);
	assert_int_equal(symlinkat("..", root, "above"), 0);
	assert_int_equal(symlinkat("made", root, "dangling"), 0);
	assert_int_equal(
		copy_out(&(struct wire_copy){.path = (char *)"/up", .follow = true}, host, "x", &e), -ENOENT);
	assert_int_equal(
		copy_out(&(struct wire_copy){.path = (char *)"/above/secret"}, host, "x", &e), -ENOENT);
	assert_int_equal(copy_out(&(struct wire_copy){.path = (char *)"/../secret"}, host, "x", &e), -ENOENT);
	assert_int_equal(
		copy_out(&(struct wire_copy){.path = (char *)"/loop", .follow = true}, host, "x", &e),
		-ELOOP);
	assert_int_equal(
		copy_out(&(struct wire_copy){.path = (char *)"/twice", .follow = true}, host, "x", &e), 0);
	assert_text(host, "x", "inside");
	/* Not followed, it comes as a link, and is replaced as one. */
	assert_int_equal(
		copy_in(&(struct wire_copy){.path = (char *)"/twice", .follow = true}, host, "f", &text), 0);
	assert_text(root, "real", "new");
	assert_int_equal(
		copy_in(&(struct wire_copy){.path = (char *)"/dangling", .follow = true}, host, "f", &text),
		0);
	assert_text(root, "made", "new");
	assert_int_equal(copy_in(&(struct wire_copy){.path = (char *)"/up"}, host, "f", &text), 0);
	assert_text(root, "up", "new");
	assert_text(AT_FDCWD, "../secret", "outside");
}

static void only_what_it_is(void **state)
{
	struct wire_copy c = {.path = (char *)"/d", .no_content = true};
	struct err e;

	assert_int_equal(mkdirat(root, "d", 0750), 0);
	write_file(root, "d/f", "content");
	assert_int_equal(copy_out(&c, host, "d", &e), 0);
	assert_int_equal(faccessat(host, "d/f", F_OK, 0), -1);
}

/* What the host may have sent in the same breath as the question is not lost. */
static void a_tree_right_behind_the_question(void **state)
{
	const struct wire_entry top = {.path = (char *)"", .mode = S_IFREG | 0600, .size = 2};
	CLEANUP(buf_done) struct buf in = {0};
	struct buf out = {0};

	assert_int_equal(wire_put_copy(&out, WIRE_COPY_IN, &(struct wire_copy){.path = (char *)"/f"}), 0);
	assert_int_equal(wire_put_entry(&out, &top), 0);
	assert_int_equal(wire_put_content(&out, 0, "ab", 2), 0);
	assert_int_equal(wire_put(&out, WIRE_TREE_END, NULL, 0), 0);
	CLEANUP_CLOSE int fd = connect_with(&out);
	assert_int_equal(receive(fd, &in, NULL), 0);
	assert_int_equal(receive(fd, &in, NULL), 0);
	assert_text(root, "f", "ab");
	run_down();
}

static void a_host_that_goes_leaves_nothing_behind(void **state)
{
	const struct wire_entry top = {.path = (char *)"", .mode = S_IFREG | 0600, .size = 2};
	struct buf out = {0};

	assert_int_equal(wire_put_copy(&out, WIRE_COPY_IN, &(struct wire_copy){.path = (char *)"/f"}), 0);
	assert_int_equal(wire_put_entry(&out, &top), 0);
	assert_int_equal(wire_put_content(&out, 0, "a", 1), 0);
	CLEANUP_CLOSE int fd = connect_with(&out);
	close_fd(&fd);
	run_down();
	assert_int_equal(rmdir("../root"), 0); /* it is empty */
}

static void no_more_than(void **state)
{
	const struct wire_copy c = {.path = (char *)"/x"};
	CLEANUP(buf_done) struct buf in = {0};
	int fds[COPY_MAX + 1];

	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		fds[i] = ask(WIRE_COPY_IN, &c);
		for (int turns = 0; turns < 20; turns++)
			assert_int_equal(loop_turn(loop, 10), 0);
		assert_int_equal(receive(fds[i], &in, NULL), i < COPY_MAX ? 0 : EBUSY);
	}
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		close_fd(&fds[i]);
	run_down();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
		CASE(trees_go_both_ways),
		CASE(failures_have_their_number),
		CASE(links_stay_inside),
		CASE(only_what_it_is),
		CASE(a_tree_right_behind_the_question),
		CASE(a_host_that_goes_leaves_nothing_behind),
		CASE(no_more_than),
	};
	struct copy_place at;
	int r = copy_find(AT_FDCWD, "/", false, &at);

	if (r == -ENOSYS) {
		printf("# openat2(2) is missing here: skipped\n");
		return 0;
	}
	close_fd(&at.dir);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
