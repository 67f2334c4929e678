/* SPDX-License-Identifier: MIT */
/*
 * cp: files between this host and a box.
 *
 * THEORY OF OPERATION
 *
 * What is of the host is opened first (cp-paths.h): from then on no name of it is looked up but below those descriptors. What is
 * of the box is its guest's to look up, and never leaves it (box/files.h). A tree goes from a source to a sink (tree/tree.h):
 *
 *     into a box     folder or archive  ->  counter  ->  guest
 *     out of a box   guest  ->  receiver, which decides with the first entry where it goes  ->  folder or archive
 *
 * A signal that would end us ends the copy: its half-made file goes, and the guest of a box that does not run unmounts its
 * disk. A second one ends us as it would anybody.
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#include "app.h"
#include "base/io.h"
#include "base/log.h"
#include "base/units.h"
#include "box/files.h"
#include "cp-paths.h"
#include "oci/content.h"
#include "progress.h"
#include "tree/tree.h"

#define FRAME_NS 100000000ull /* between two looks at what was copied */

struct cp {
	const char *box_ref; /* as the user calls it */
	bool archive, follow, quiet;
	struct cp_path local, remote; /* local.path NULL: standard input or output */
	struct cp_place place;

	struct app app;
	struct box *box;
	struct box_files *files;

	/* The sink that counts, and where it hands on to. */
	struct tree_sink to;
	struct tree_writer *writer;
	struct oci_tar_sink *tar;
	bool begun; /* the root's entry was there */
	bool in;

	bool show; /* on a terminal */
	const char *label;
	uint64_t bytes, shown_ns;
};

static void cp_done(struct cp *c)
{
	tree_writer_free(c->writer);
	oci_tar_sink_free(c->tar);
	box_files_free(c->files);
	box_free(c->box);
	app_close(&c->app);
	cp_path_done(&c->local);
	cp_path_done(&c->remote);
	cp_place_done(&c->place);
}

/* ---- signals ---- */

static struct box_files *volatile interruptible;
static volatile sig_atomic_t signalled;
static int null_fd = -1;

static void on_signal(int sig)
{
	int saved = errno;

	signalled = sig;
	if (interruptible)
		box_files_interrupt(interruptible);
	/* Whoever waits for one of these waits no more. */
	dup2(null_fd, STDIN_FILENO);
	dup2(null_fd, STDOUT_FILENO);
	errno = saved;
}

static const int ending_signals[] = {SIGINT, SIGTERM, SIGHUP};

static int catch_signals(struct cp *c, struct err *e)
{
	struct sigaction sa = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};

	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null_fd < 0)
		return err_sys(e, -errno, "cannot open /dev/null");
	interruptible = c->files;
	for (size_t i = 0; i < ARRAY_LEN(ending_signals); i++) {
		struct sigaction before;
		sigaction(ending_signals[i], NULL, &before);
		if (before.sa_handler != SIG_IGN) /* nohup */
			sigaction(ending_signals[i], &sa, NULL);
	}
	return 0;
}

/* ---- progress ---- */

static void show(struct cp *c)
{
	char size[16];

	fprintf(stderr, "\r\033[K%s - %s", c->label, format_size(size, sizeof(size), c->bytes));
	fflush(stderr);
}

static void count(struct cp *c, size_t bytes)
{
	c->bytes += bytes;
	if (!c->show)
		return;
	uint64_t now = time_mono_ns();
	if (now - c->shown_ns < FRAME_NS)
		return;
	c->shown_ns = now;
	show(c);
}

static void show_end(struct cp *c, bool good, const char *to)
{
	char size[16];

	if (!c->show)
		return;
	fprintf(stderr, "\r\033[K");
	CLEANUP_FREE char *name = good ? text_escape_dup(to) : NULL;
	if (name)
		fprintf(stderr, "Successfully copied %s to %s\n", format_size(size, sizeof(size), c->bytes),
			name);
	fflush(stderr);
}

/* ---- the sink between ---- */

static int begin_output(struct cp *c, const struct wire_entry *root, struct err *e);

/* Who makes it has its own word on that, but cannot know what would help. */
static int check_device(const struct cp *c, const struct wire_entry *en, struct err *e)
{
	const struct cp_path *from = c->in ? &c->local : &c->remote;
	bool root = c->in || geteuid() == 0;
	bool archive = !c->local.path; /* owners and devices are kept */

	if (en->link || (!S_ISCHR(en->mode) && !S_ISBLK(en->mode)) || archive || (c->archive && root))
		return 0;
	err_set(e, -EPERM, "\"%s\" is a device, which only root can make",
		*en->path ? en->path : cp_path_name(from));
	return err_hint(e, root ? "give -a" : "leave it out, or give -a as root");
}

static int on_entry(void *data, const struct wire_entry *en, struct err *e)
{
	struct cp *c = data;
	int r = check_device(c, en, e);

	if (r < 0)
		return r;
	if (!c->begun) {
		r = c->to.entry ? 0 : begin_output(c, en, e);
		if (r < 0)
			return r;
		c->begun = true;
	}
	count(c, 0);
	return c->to.entry(c->to.data, en, e);
}

static int on_content(void *data, uint64_t offset, const void *bytes, size_t len, struct err *e)
{
	struct cp *c = data;

	count(c, len);
	return c->to.content(c->to.data, offset, bytes, len, e);
}

static int on_end(void *data, struct err *e)
{
	struct cp *c = data;

	return c->to.end(c->to.data, e);
}

static struct tree_sink counter(struct cp *c)
{
	return (struct tree_sink){.entry = on_entry, .content = on_content, .end = on_end, .data = c};
}

/* ---- the box ---- */

static int open_box(struct cp *c, struct err *e)
{
	int r = app_open(&c->app, true, e);

	if (r == 0)
		r = box_find(c->app.st, c->box_ref, &c->box, e);
	if (r == 0 && !box_is_live(c->box)) { /* it may have been lost, as before a start */
		struct progress p;
		progress_init(&p, c->quiet ? PROGRESS_QUIET : PROGRESS_TERMINAL);
		struct oci_progress op = {progress_show, &p};
		r = oci_ref_disk(c->app.store, c->box->manifest, &op, e);
		progress_done(&p);
	}
	if (r == 0)
		r = box_files_open(c->app.st, c->box, &c->files, e);
	return r == 0 ? catch_signals(c, e) : r;
}

static int finish(struct cp *c, const char *event, struct err *e)
{
	int r = box_files_close(c->files, e);

	return r == 0 ? box_event(c->app.st, e, c->box, event, NULL) : r;
}

struct look {
	bool any;
	mode_t type;
	char *target; /* of a link */
};

static int on_look(void *data, const struct wire_entry *en, struct err *e)
{
	struct look *l = data;

	if (l->any)
		return err_set(e, -EBADMSG, "the guest broke the protocol");
	l->any = true;
	l->type = en->mode & S_IFMT;
	l->target = str_dup(en->target);
	return en->target && !l->target ? err_oom(e) : 0;
}

static int on_look_content(void *data, uint64_t offset, const void *bytes, size_t len, struct err *e)
{
	return err_set(e, -EBADMSG, "the guest broke the protocol");
}

static int on_look_end(void *data, struct err *e)
{
	return 0;
}

/*
 * What is at a path of the box: *ret_type, 0 for nothing. A link at its end is followed, and the path becomes where it leads, be
 * something there or not.
 */
static int look_in_box(struct cp *c, struct cp_path *p, mode_t *ret_type, struct err *e)
{
	for (int i = 0; i <= CP_LINKS_MAX; i++) {
		struct look l = {0};
		const struct tree_sink sink = {on_look, on_look_content, on_look_end, &l};
		CLEANUP_FREE char *path = cp_path_text(p);
		struct wire_copy what = {.path = path, .no_content = true};
		int r = path ? box_files_read(c->files, &what, &sink, e) : err_oom(e);
		CLEANUP_FREE char *target = l.target;

		*ret_type = r == 0 ? l.type : 0;
		if (r == -ENOENT)
			return 0;
		if (r < 0)
			return err_wrap(e, "cannot copy to %s:%s", c->box_ref, p->path);
		if (!l.any)
			return err_set(e, -EBADMSG, "the guest broke the protocol");
		if (!S_ISLNK(l.type) || !target)
			return 0;
		CLEANUP_FREE char *parent = strndup(p->path, (size_t)(cp_path_name(p) - p->path));
		if (!parent || cp_path_set(p, parent, target) < 0)
			return err_oom(e);
	}
	return err_sys(e, -ELOOP, "%s:%s", c->box_ref, p->path);
}

/* ---- into a box ---- */

static int put_folder(void *data, const struct tree_sink *to, struct err *e)
{
	struct cp *c = data;
	const struct tree_read_opts o = {0};

	c->to = *to;
	const struct tree_sink sink = counter(c);
	return tree_read_folder(c->place.dir, c->place.name, &o, &sink, e);
}

static int put_archive(void *data, const struct tree_sink *to, struct err *e)
{
	struct cp *c = data;

	c->to = *to;
	const struct tree_sink sink = counter(c);
	int r = oci_tar_read(STDIN_FILENO, &sink, e);
	return r == -ENODATA ? err_set(e, r, "there is no archive on standard input") : r;
}

/* Where in the box it goes: what->path, malloc'd, and root_attr. */
static int choose_in_box(struct cp *c, struct wire_copy *what, const char *name, struct err *e)
{
	mode_t type = 0;
	enum cp_where where = CP_ONTO;
	int r = look_in_box(c, &c->remote, &type, e);

	if (r < 0)
		return r;
	if (type && !S_ISDIR(type) && !S_ISREG(type))
		return err_set(e, -EINVAL, "%s must be a folder or a regular file", name);
	if (!c->local.path && !S_ISDIR(type)) {
		err_set(e, type ? -ENOTDIR : -ENOENT, "%s must be a folder", name);
		return err_hint(e, "an archive is unpacked into a folder that is there");
	}
	struct cp_case k = {
		.src_name = c->local.path ? cp_path_name(&c->local) : "",
		.src_folder = !c->local.path || S_ISDIR(c->place.type),
		.src_content = !c->local.path || c->local.content,
		.dst_exists = type != 0,
		.dst_is_folder = S_ISDIR(type),
		.dst_folder = c->remote.folder,
	};
	r = cp_decide(&k, name, &where, e);
	if (r < 0)
		return r;
	what->root_attr = where == CP_INTO;
	what->path = where == CP_INTO ? cp_path_join(&c->remote, k.src_name) : strdup(c->remote.path);
	return what->path ? 0 : err_oom(e);
}

static int copy_in(struct cp *c, const char *name, struct err *e)
{
	struct wire_copy what = {.keep_owner = c->archive || !c->local.path};
	int r;

	c->label = "Copying to box";
	if (!c->local.path && isatty(STDIN_FILENO))
		return err_set(e, -EINVAL, "standard input is a terminal: an archive is expected there");
	if (c->local.path) {
		r = cp_place_find(&c->local, c->follow, &c->place, e);
		if (r == 0 && !c->place.exists)
			r = err_sys(e, -ENOENT, "cannot open %s", c->local.path);
		if (r < 0)
			return r;
	}
	r = open_box(c, e);
	if (r == 0)
		r = choose_in_box(c, &what, name, e);
	if (r == 0) {
		r = box_files_write(c->files, &what, c->local.path ? put_folder : put_archive, c, e);
		if (r < 0)
			err_wrap(e, "cannot copy to %s", name);
	}
	free(what.path);
	return r == 0 ? finish(c, "extract-to-dir", e) : r;
}

/* ---- out of a box ---- */

static int begin_archive(struct cp *c, struct err *e)
{
	const struct oci_tar_opts o = {.prefix = c->remote.content ? NULL : cp_path_name(&c->remote)};
	int r = oci_tar_sink_new(STDOUT_FILENO, &o, &c->tar, e);

	if (r == 0)
		c->to = *oci_tar_sink(c->tar);
	return r;
}

/* What comes is known now, and so where it goes. */
static int begin_output(struct cp *c, const struct wire_entry *root, struct err *e)
{
	enum cp_where where = CP_ONTO;

	if (!c->local.path)
		return begin_archive(c, e);
	const struct cp_case k = {
		.src_name = cp_path_name(&c->remote),
		.src_folder = S_ISDIR(root->mode),
		.src_content = c->remote.content,
		.dst_exists = c->place.exists,
		.dst_is_folder = S_ISDIR(c->place.type),
		.dst_folder = c->local.folder,
	};
	int r = k.src_content && !k.src_folder ? err_set(e, -EBADMSG, "the guest broke the protocol")
					       : cp_decide(&k, c->local.path, &where, e);
	if (r < 0)
		return r;
	struct tree_write_opts o = {
		.owner = c->archive && geteuid() == 0 ? TREE_OWNER_KEEP : TREE_OWNER_SELF,
		.root_attr = where == CP_INTO,
	};
	r = tree_writer_new(c->place.dir, where == CP_INTO ? k.src_name : c->place.name, &o, &c->writer, e);
	if (r == 0)
		c->to = *tree_writer_sink(c->writer);
	return r;
}

static int open_target(struct cp *c, struct err *e)
{
	if (!c->local.path && isatty(STDOUT_FILENO)) {
		err_set(e, -EINVAL, "standard output is a terminal, and an archive would go there");
		return err_hint(e, "send it to a file or a pipe");
	}
	if (!c->local.path)
		return 0;
	int r = cp_place_find(&c->local, true, &c->place, e);
	if (r < 0)
		return r;
	if (c->place.exists && !S_ISDIR(c->place.type) && !S_ISREG(c->place.type)) {
		r = err_set(e, -EINVAL, "%s must be a folder or a regular file", c->local.path);
		return r;
	}
	if (c->archive && geteuid() != 0)
		log_warn("cp -a: only root can give files to others, so all of them will be yours");
	return 0;
}

static int copy_out(struct cp *c, const char *name, struct err *e)
{
	const struct tree_sink sink = counter(c);

	c->label = "Copying from box";
	int r = open_target(c, e);
	if (r == 0)
		r = open_box(c, e);
	if (r < 0)
		return r;
	CLEANUP_FREE char *path = cp_path_text(&c->remote);
	struct wire_copy what = {.path = path, .follow = c->follow};
	r = path ? box_files_read(c->files, &what, &sink, e) : err_oom(e);
	if (r == 0 && !c->begun)
		r = err_set(e, -EBADMSG, "the guest broke the protocol");
	if (r < 0)
		return err_wrap(e, "cannot copy from %s", name);
	return finish(c, "archive-path", e);
}

/* ---- command ---- */

/* in: src is of the host, dst of the box. */
static int copy(struct cp *c, bool in, const char *local, const char *remote, const char *name, struct err *e)
{
	int r = strcmp(local, "-") == 0 ? 0 : cp_path_local(&c->local, local, e);

	c->in = in;
	if (r == 0 && cp_path_set(&c->remote, "/", remote) < 0)
		r = err_oom(e);
	if (r == 0)
		r = in ? copy_in(c, name, e) : copy_out(c, name, e);
	show_end(c, r == 0, in ? name : local);
	return r;
}

static int run(struct cp *c, const char *src, const char *dst, struct err *e)
{
	CLEANUP_FREE char *src_box = NULL;
	CLEANUP_FREE char *dst_box = NULL;
	const char *src_path, *dst_path;
	int r = cp_split(src, &src_box, &src_path, e);

	if (r == 0)
		r = cp_split(dst, &dst_box, &dst_path, e);
	if (r < 0)
		return r;
	if (src_box && dst_box) {
		err_set(e, -ENOTSUP, "copying from one box to another is not supported");
		return err_hint(e, "a3s-box cp %s - | a3s-box cp - %s", src, dst);
	}
	if (!src_box && !dst_box) {
		err_set(e, -EINVAL, "neither %s nor %s is of a box", src, dst);
		return err_hint(e, "write BOX:PATH for one of them");
	}
	c->box_ref = src_box ? src_box : dst_box;
	r = src_box ? copy(c, false, dst_path, src_path, src, e) : copy(c, true, src_path, dst_path, dst, e);
	interruptible = NULL;
	cp_done(c); /* a box that was booted has ended in good order, or is ended now */
	return r;
}

int cmd_cp(const struct cmd *cmd, int argc, char **argv)
{
	struct cp c = {.place.dir = -1};
	struct opt opts[] = {{'a', "archive", OPT_FLAG, &c.archive, NULL,
				     "keep owners; on this host, only root can do that [into a box: root's]"},
		{'L', "follow-link", OPT_FLAG, &c.follow, NULL, "if SOURCE is a link, copy what it leads to"},
		{'q', "quiet", OPT_FLAG, &c.quiet, NULL, "no progress, which is shown on a terminal only"},
		{0}};
	struct err e = {0};

	int r = opts_parse(cmd, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc != 3)
		return app_usage(cmd, "a source and a destination are needed, one of them BOX:PATH");
	c.show = !c.quiet && isatty(STDERR_FILENO);
	if (r == 0)
		r = run(&c, argv[1], argv[2], &e);
	if (signalled) { /* as if it had not been caught */
		signal(signalled, SIG_DFL);
		raise(signalled);
	}
	return r < 0 ? app_fail(cmd, &e, 1) : 0;
}
