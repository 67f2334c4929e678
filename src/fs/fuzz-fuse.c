/* SPDX-License-Identifier: MIT */
/*
 * Sequences of requests against a folder. Beside what is served lies what a guest must not reach: its content, mode, and names
 * have to be as before. Bytes of the input:
 *
 *     kind, node, flags, then by kind: a name's number, numbers; or, with RAW, a length and that many bytes of a request
 *
 * Nodes and handles are mostly those that the server told before, so that sequences mean something.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

enum { KNOWN = 16, REQUESTS_MAX = 200, RAW = 0x80 };

struct input {
	const uint8_t *p;
	size_t left;
};

struct guest {
	struct fs_server *s;
	uint64_t nodes[KNOWN], handles[KNOWN];
	unsigned n_nodes, n_handles;
};

static int top = -1, proc_fd, working_folder;
static char path[] = "/tmp/fuzz-fuse-XXXXXX";

static uint8_t byte(struct input *in)
{
	if (!in->left)
		return 0;
	in->left--;
	return *in->p++;
}

static uint32_t word(struct input *in)
{
	uint32_t v = byte(in);

	return v < 0xf0 ? v : v << 24 | (uint32_t)byte(in) << 16 | (uint32_t)byte(in) << 8 | byte(in);
}

static void check(bool ok)
{
	if (!ok)
		__builtin_trap();
}

static void clean_up(void)
{
	io_remove_tree_at(AT_FDCWD, path);
}

static void set_up(void)
{
	if (top >= 0)
		return;
	check(mkdtemp(path) != NULL);
	atexit(clean_up);
	top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	proc_fd = open("/proc/self/fd", O_PATH | O_CLOEXEC);
	working_folder = open(".", O_PATH | O_CLOEXEC);
	check(top >= 0 && proc_fd >= 0 && working_folder >= 0);
	check(io_write_file_at(top, "secret", "secret", 6, 0600) == 0);
	umask(0);
}

/* A finding is written while the server has changed the working folder: where to must not depend on that. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const char option[] = "-artifact_prefix=";
	char *cwd = realpath(".", NULL);

	for (int i = 1; i < *argc; i++) {
		const char *value = (*argv)[i] + sizeof(option) - 1;
		if (strncmp((*argv)[i], option, sizeof(option) - 1) == 0 && *value != '/')
			check(cwd && ((*argv)[i] = str_printf("%s%s/%s", option, cwd, value)) != NULL);
	}
	free(cwd);
	return 0;
}

/* What is served: made anew each time, with a link to what is outside. */
static int folder(void)
{
	int fd;

	check(mkdirat(top, "served", 0755) == 0);
	fd = openat(top, "served", O_PATH | O_DIRECTORY | O_CLOEXEC);
	check(fd >= 0 && symlinkat("..", fd, "up") == 0 && symlinkat("../secret", fd, "link") == 0);
	check(mkdirat(fd, "a", 0755) == 0 && io_write_file_at(fd, "b", "content", 7, 0644) == 0);
	return fd;
}

static void check_outside(void)
{
	struct stat st;
	char *text;
	size_t len;
	unsigned n = 0;
	DIR *d = fdopendir(openat(top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));

	check(d != NULL);
	for (const struct dirent *e; (e = readdir(d));)
		n++;
	closedir(d);
	check(n == 4); /* ".", "..", secret, served */
	check(fstatat(top, "secret", &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode));
	check((st.st_mode & 07777) == 0600 && st.st_nlink == 1 && st.st_size == 6);
	check(io_read_file_at(top, "secret", 100, &text, &len) == 0 && len == 6 &&
		memcmp(text, "secret", 6) == 0);
	free(text);
}

static const char *name_of(struct input *in)
{
	static const char *const names[] = {"a", "b", "c", "up", "link", "..", ".", "a/b", "", "../secret",
		"0", "1", "user.x", "security.capability", "user.a3s.stat", "trusted.t"};

	return names[byte(in) % ARRAY_LEN(names)];
}

static uint64_t node_of(const struct guest *g, struct input *in)
{
	uint8_t b = byte(in);

	return b < 0xf0 && g->n_nodes ? g->nodes[b % g->n_nodes] : b & 7;
}

static uint64_t handle_of(const struct guest *g, struct input *in)
{
	uint8_t b = byte(in);

	return b < 0xf0 && g->n_handles ? g->handles[b % g->n_handles] : b & 7;
}

static void learn(uint64_t *known, unsigned *n, uint64_t v)
{
	known[*n < KNOWN ? *n : v % KNOWN] = v;
	if (*n < KNOWN)
		++*n;
}

static size_t add(char *body, size_t at, const void *p, size_t len)
{
	memcpy(body + at, p, len);
	return at + len;
}

static size_t add_name(char *body, size_t at, const char *name)
{
	return add(body, at, name, strlen(name) + 1);
}

/* A body that makes some sense for the kind. */
static size_t fill(const struct guest *g, struct input *in, uint32_t op, char *body)
{
	uint32_t w[24];
	uint64_t h;
	size_t at = 0, len = 0;

	memset(w, 0, sizeof(w));
	switch (op) {
	case FUSE_LOOKUP:
	case FUSE_UNLINK:
	case FUSE_RMDIR:
	case FUSE_REMOVEXATTR:
		return add_name(body, 0, name_of(in));
	case FUSE_SYMLINK:
		at = add_name(body, 0, name_of(in));
		return add_name(body, at, name_of(in));
	case FUSE_RENAME:
	case FUSE_RENAME2:
		h = node_of(g, in);
		at = add(body, 0, &h, sizeof(h));
		w[0] = byte(in);
		if (op == FUSE_RENAME2)
			at = add(body, at, w, 8);
		at = add_name(body, at, name_of(in));
		return add_name(body, at, name_of(in));
	case FUSE_LINK:
		h = node_of(g, in);
		at = add(body, 0, &h, sizeof(h));
		return add_name(body, at, name_of(in));
	case FUSE_MKNOD:
	case FUSE_CREATE:
	case FUSE_TMPFILE:
	case FUSE_SETXATTR:
		len = 16;
		break;
	case FUSE_WATCH:
		w[0] = word(in);
		return add(body, 0, w, 8);
	case FUSE_MKDIR:
	case FUSE_GETXATTR:
		len = 8;
		break;
	default:
		/* A handle, then numbers. */
		h = handle_of(g, in);
		if (op == FUSE_SETATTR) {
			w[0] = word(in);
			at = add(body, 0, w, 8);
			w[0] = 0;
		}
		at = add(body, at, &h, sizeof(h));
		for (unsigned i = 0; i < 20; i++)
			w[i] = i < 8 ? word(in) : 0;
		return add(body, at, w, 80);
	}
	for (unsigned i = 0; i < len / 4; i++)
		w[i] = word(in);
	if (op == FUSE_MKNOD)
		w[0] = (uint32_t)byte(in) << 12 | (w[0] & 07777);
	at = add(body, 0, w, len);
	at = add_name(body, at, name_of(in));
	return op == FUSE_SETXATTR ? add_name(body, at, name_of(in)) : at;
}

static void hear(struct guest *g, uint32_t op, const char *reply, size_t len)
{
	const size_t head = sizeof(struct fuse_out_header);
	struct fuse_out_header h;
	struct fuse_entry_out en;
	struct fuse_open_out o;

	if (len == 0)
		return;
	check(len >= head);
	memcpy(&h, reply, sizeof(h));
	check(h.len == len && h.error <= 0 && h.error > -512 && (!h.error || len == head));
	if (h.error)
		return;
	if (op == FUSE_OPEN || op == FUSE_OPENDIR) {
		memcpy(&o, reply + head, sizeof(o));
		learn(g->handles, &g->n_handles, o.fh);
	} else if (op == FUSE_LOOKUP || op == FUSE_MKDIR || op == FUSE_MKNOD || op == FUSE_SYMLINK ||
		   op == FUSE_CREATE) {
		memcpy(&en, reply + head, sizeof(en));
		learn(g->nodes, &g->n_nodes, en.nodeid);
		if (op == FUSE_CREATE) {
			memcpy(&o, reply + head + sizeof(en), sizeof(o));
			learn(g->handles, &g->n_handles, o.fh);
		}
	}
}

static void request(struct guest *g, struct input *in)
{
	static char req[8192], reply[8192];
	struct fuse_in_header h = {0};
	uint8_t kind = byte(in), flags = byte(in);
	size_t len, room = flags & 1 ? byte(in) : sizeof(reply);

	h.opcode = kind & 63;
	if (h.opcode >= 62)
		h.opcode = h.opcode == 62 ? FUSE_WATCH : FUSE_WATCH_EVENTS;
	/* Everything of the host is synced by that. */
	if (h.opcode == FUSE_SYNCFS)
		return;
	h.nodeid = node_of(g, in);
	h.unique = 1;
	if (kind & RAW) {
		len = byte(in);
		len = MIN_OF(len, in->left);
		memcpy(req + sizeof(h), in->p, len);
		in->p += len;
		in->left -= len;
	} else {
		len = fill(g, in, h.opcode, req + sizeof(h));
	}
	len += sizeof(h);
	h.len = flags & 2 ? word(in) : (uint32_t)len;
	memcpy(req, &h, sizeof(h));
	/* Sizes of files are the disk's of whoever runs this. */
	if (h.opcode == FUSE_FALLOCATE && len >= sizeof(h) + 24)
		memset(req + sizeof(h) + 18, 0, 6);
	/* Exactly as long as it is, so that a read behind its end is seen. */
	char *exact = malloc(len);
	check(exact != NULL);
	memcpy(exact, req, len);
	size_t first = flags & 4 ? byte(in) : len;
	first = MIN_OF(first, len);
	struct iovec out[2] = {{exact, first}, {exact + first, len - first}}, to = {reply, room};
	struct fuse_in_header copy;
	check(fs_header(out, 2, &copy));
	/* Interrupted from the beginning: one that waits would do so for what nobody gives. */
	atomic_bool interrupted = false;
	fs_interrupt(g->s, &interrupted);
	size_t n = fs_handle(g->s, &copy, out, 2, &to, 1, &interrupted);
	check(n <= room);
	hear(g, h.opcode, reply, n);
	uint64_t unique;
	(void)fs_may_block(&copy, out, 2);
	check(!fs_interrupts(&copy, out, 2, &unique) || h.opcode == FUSE_INTERRUPT);
	free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct guest g = {0};
	struct fs_export exports[2] = {{.use_fd = -1}, {.use_fd = -1, .read_only = true}};
	struct fuse_init_in init = {.major = 7, .minor = 41, .flags = UINT32_MAX, .flags2 = UINT32_MAX};
	struct fuse_in_header h = {.len = sizeof(h) + sizeof(init), .opcode = FUSE_INIT};
	char reply[128];

	set_up();
	/* Of a volume, which keeps links as files, never alone; by the length, as the bytes are requests. */
	exports[0].cache = size & 1 ? FS_CACHE_VOLUME : FS_CACHE_HOST;
	exports[0].fd = folder();
	exports[1].fd = fcntl(exports[0].fd, F_DUPFD_CLOEXEC, 0);
	check(exports[1].fd >= 0 && fs_server_new(exports, 2, proc_fd, 3, &g.s, NULL) == 0);
	struct iovec out[2] = {{&h, sizeof(h)}, {&init, sizeof(init)}}, to = {reply, sizeof(reply)};
	check(fs_handle(g.s, &h, out, 2, &to, 1, NULL) > 0);
	learn(g.nodes, &g.n_nodes, 2);
	for (unsigned i = 0; in.left && i < REQUESTS_MAX; i++)
		request(&g, &in);
	fs_server_free(g.s);
	check(fchdir(working_folder) == 0);
	check_outside();
	check(io_remove_tree_at(top, "served") == 0);
	return 0;
}
