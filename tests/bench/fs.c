/* SPDX-License-Identifier: MIT */
/*
 * What a request costs in a box's file server, without the queues that bring it.
 *
 *     bench-fs FOLDER [SECONDS]
 *
 * Serves a folder of its own below FOLDER and does each kind of request in a loop, in one thread. One line each: what, requests
 * per second, nanoseconds of one.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "server.h"

static struct fs_server *server;
static char reply[1 << 20];
static uint32_t user;

static int call(uint32_t op, uint64_t node, const void *body, size_t len, const void *data, size_t data_len,
	size_t room)
{
	struct fuse_in_header h = {.len = (uint32_t)(sizeof(h) + len + data_len),
		.opcode = op,
		.nodeid = node,
		.uid = user,
		.gid = user};
	struct iovec out[] = {{&h, sizeof(h)}, {(void *)(uintptr_t)body, len},
		{(void *)(uintptr_t)data, data_len}},
		     in[] = {{reply, sizeof(struct fuse_out_header)},
			     {reply + sizeof(struct fuse_out_header), room}};
	struct fuse_out_header o = {0};

	fs_handle(server, &h, out, 3, in, 2, NULL);
	memcpy(&o, reply, sizeof(o));
	return o.error;
}

static void need(int r, const char *what)
{
	if (r < 0) {
		fprintf(stderr, "bench-fs: %s: %s\n", what, strerror(-r));
		exit(1);
	}
}

static void *payload(void)
{
	return reply + sizeof(struct fuse_out_header);
}

static uint64_t create(uint64_t dir, const char *name, uint64_t *fh)
{
	char body[64] = {0};
	struct fuse_create_in in = {.flags = O_RDWR, .mode = 0644};
	struct fuse_entry_out en;
	struct fuse_open_out o;

	memcpy(body, &in, sizeof(in));
	snprintf(body + sizeof(in), sizeof(body) - sizeof(in), "%s", name);
	need(call(FUSE_CREATE, dir, body, sizeof(in) + strlen(name) + 1, NULL, 0, sizeof(en) + sizeof(o)),
		"create");
	memcpy(&en, payload(), sizeof(en));
	memcpy(&o, (char *)payload() + sizeof(en), sizeof(o));
	*fh = o.fh;
	return en.nodeid;
}

static void close_file(uint64_t node, uint64_t fh)
{
	struct fuse_release_in in = {.fh = fh};

	need(call(FUSE_RELEASE, node, &in, sizeof(in), NULL, 0, 0), "release");
}

static void forget(uint64_t node)
{
	struct fuse_forget_in in = {.nlookup = 1};

	call(FUSE_FORGET, node, &in, sizeof(in), NULL, 0, 0);
}

enum kind { LOOKUP_GETATTR, READ_4K, WRITE_4K, READ_1M, CREATE_ROOT, CREATE_USER, KINDS };
static const char *const names[] = {"lookup+getattr+forget", "read 4 KiB", "write 4 KiB", "read 1 MiB",
	"create+unlink (root)", "create+unlink (user 999)"};

static void once(enum kind k, uint64_t dir, uint64_t node, uint64_t fh)
{
	static const char data[4096];
	struct fuse_read_in rd = {.fh = fh, .size = k == READ_1M ? (1 << 20) - 64 : 4096};
	struct fuse_write_in wr = {.fh = fh, .size = 4096};
	uint64_t n, h;

	switch (k) {
	case LOOKUP_GETATTR:
		need(call(FUSE_LOOKUP, dir, "f", 2, NULL, 0, sizeof(struct fuse_entry_out)), "lookup");
		need(call(FUSE_GETATTR, node, NULL, 0, NULL, 0, sizeof(struct fuse_attr_out)), "getattr");
		forget(node);
		break;
	case READ_4K:
	case READ_1M:
		need(call(FUSE_READ, node, &rd, sizeof(rd), NULL, 0, rd.size), "read");
		break;
	case WRITE_4K:
		need(call(FUSE_WRITE, node, &wr, sizeof(wr), data, sizeof(data),
			     sizeof(struct fuse_write_out)),
			"write");
		break;
	default:
		user = k == CREATE_USER ? 999 : 0;
		n = create(dir, "new", &h);
		close_file(n, h);
		need(call(FUSE_UNLINK, dir, "new", 4, NULL, 0, 0), "unlink");
		forget(n);
		user = 0;
	}
}

int main(int argc, char **argv)
{
	uint64_t seconds = argc > 2 ? strtoull(argv[2], NULL, 10) : 2, fh;
	struct fs_export x = {.use_fd = -1};
	struct err e = {0};
	char path[PATH_MAX];

	if (argc < 2 || snprintf(path, sizeof(path), "%s/bench-fs-XXXXXX", argv[1]) >= (int)sizeof(path) ||
		!mkdtemp(path)) {
		fprintf(stderr, "usage: bench-fs FOLDER [SECONDS]\n");
		return 1;
	}
	char *real = realpath(path, NULL); /* the server changes the working folder */
	int proc = open("/proc/self/fd", O_PATH | O_CLOEXEC);
	x.fd = open(path, O_PATH | O_CLOEXEC);
	if (!real || fs_server_new(&x, 1, proc, 1000, &server, &e) < 0) {
		err_print("bench-fs", &e);
		return 1;
	}
	struct fuse_init_in init = {.major = 7, .minor = 41, .flags = UINT32_MAX, .flags2 = UINT32_MAX};
	need(call(FUSE_INIT, 0, &init, sizeof(init), NULL, 0, sizeof(struct fuse_init_out)), "init");
	need(call(FUSE_LOOKUP, FUSE_ROOT_ID, "0", 2, NULL, 0, sizeof(struct fuse_entry_out)), "lookup");
	uint64_t dir = ((struct fuse_entry_out *)payload())->nodeid, node = create(dir, "f", &fh);
	struct fuse_setattr_in size = {.valid = FATTR_SIZE, .size = 1 << 20};
	need(call(FUSE_SETATTR, node, &size, sizeof(size), NULL, 0, sizeof(struct fuse_attr_out)), "setattr");
	for (enum kind k = 0; k < KINDS; k++) {
		uint64_t start = time_mono_ns(), n = 0, t;
		while ((t = time_mono_ns() - start) < seconds * 1000000000ull)
			for (unsigned i = 0; i < 16; i++, n++)
				once(k, dir, node, fh);
		printf("%-26s %9.0f per second  %8.0f ns\n", names[k], (double)n * 1e9 / (double)t,
			(double)t / (double)n);
	}
	fs_server_free(server);
	io_remove_tree_at(AT_FDCWD, real);
	free(real);
	return 0;
}
