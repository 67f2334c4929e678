/* SPDX-License-Identifier: MIT */
/*
 * PID 1 of the guest.
 *
 * THEORY OF OPERATION
 *
 * Booting is one straight line that waits for the host as late as possible, and that shares the work with the
 * workload's process (spawn.c): connect, own mounts, make that process, HELLO, mount the disks, CONFIG,
 * complete the root file system, listen for sessions, READY. After that one event loop serves the control
 * connection and the sessions.
 *
 * Stopping: everything is killed; when the last process is reaped and its session has got its last byte, or
 * after a time limit, the disks are unmounted, BYE is sent and the machine reset. Everything leads there,
 * and nothing makes this process return: the kernel panics when it does.
 */
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/io.h"
#include "base/loop.h"
#include "cgroup.h"
#include "control.h"
#include "init.h"
#include "isolate.h"
#include "net.h"
#include "nsexec.h"
#include "rootfs.h"
#include "server.h"
#include "settings.h"
#include "system.h"

#define STOP_PROCESSES_NS 5000000000ull /* SIGKILL to reaped */
#define STOP_SESSIONS_NS  2000000000ull /* reaped to last byte with the host */

struct guest {
	struct loop *loop;
	struct loop_source *control_source, *stop_timer;
	struct server *server;
	struct spawn_box box;
	int control; /* -1: gone */
	struct buf in;
	bool stopping, killed;
};

/* Before READY: tells host and console, and ends the machine. */
static _Noreturn void boot_fail(int control, int r, const char *what)
{
	CLEANUP(buf_done) struct buf out = {0};
	char text[256];

	snprintf(text, sizeof(text), "%s: %s", what, strerror(-r));
	system_complain("%s", text);
	if (control >= 0 && wire_put_fail(&out, 125, text) == 0 && control_send(control, &out) == 0)
		control_drain(control);
	system_end();
}

static _Noreturn void finish(struct guest *g)
{
	CLEANUP(buf_done) struct buf out = {0};
	int r = rootfs_unmount();

	if (r < 0)
		system_complain("unmount: %s", strerror(-r));
	/* BYE promises a clean disk. */
	if (g->control >= 0 && r == 0 && wire_put(&out, WIRE_BYE, NULL, 0) == 0 &&
		control_send(g->control, &out) == 0)
		control_drain(g->control);
	system_end();
}

static void check_stopped(void *data)
{
	struct guest *g = data;

	if (!g->stopping || server_has_processes(g->server))
		return;
	if (!g->killed) {
		g->killed = true;
		loop_set_timer(g->stop_timer, STOP_SESSIONS_NS);
	}
	if (!server_has_sessions(g->server))
		finish(g);
}

static void on_stop_timeout(void *data)
{
	finish(data);
}

static void stop(struct guest *g)
{
	if (g->stopping)
		return;
	g->stopping = true;
	server_stop(g->server);
	if (loop_add_timer(g->loop, STOP_PROCESSES_NS, on_stop_timeout, g, &g->stop_timer) < 0)
		finish(g);
}

static int answer(struct guest *g, enum wire_type type)
{
	CLEANUP(buf_done) struct buf out = {0};
	int r = wire_put(&out, type, NULL, 0);

	return r < 0 ? r : control_send(g->control, &out);
}

static int handle_control(struct guest *g, const struct wire_frame *f)
{
	uint32_t sig;
	int r;

	switch (f->type) {
	case WIRE_SIGNAL:
		r = wire_get_u32(f, &sig);
		if (r == 0 && sig >= 1 && sig <= (uint32_t)SIGRTMAX)
			server_signal_main(g->server, (int)sig);
		return r;
	case WIRE_PING:
		return answer(g, WIRE_PONG);
	case WIRE_SHUTDOWN:
		stop(g);
		return 0;
	default:
		return -EPROTO;
	}
}

static int handle_frames(struct guest *g)
{
	struct wire_frame f;
	int r;

	while ((r = wire_next(&g->in, &f)) > 0) {
		r = handle_control(g, &f);
		if (r < 0)
			return r;
		wire_consume(&g->in, &f);
	}
	return r;
}

static void on_control(void *data, int fd, uint32_t events)
{
	struct guest *g = data;
	uint8_t *room = buf_reserve(&g->in, 4096);
	ssize_t n = room ? recv(fd, room, 4096, MSG_DONTWAIT) : 0;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		buf_commit(&g->in, (size_t)n);
		if (handle_frames(g) == 0)
			return;
	}
	/* Whatever happened to the host, this machine has no purpose without it. */
	loop_source_free(TAKE_PTR(g->control_source));
	close_fd(&g->control);
	stop(g);
}

static void greet(struct guest *g)
{
	int r = g->control < 0 ? g->control : control_hello(g->control);

	if (r < 0)
		boot_fail(-1, r, "connect to the host");
}

/* Everything but the root file system's content. */
static void boot_begin(struct guest *g)
{
	char what[128] = "";
	int r;

	g->control = control_connect();
	r = rootfs_mount_guest(what, sizeof(what));
	if (r == 0) {
		g->box.cgroup = r = rootfs_open_cgroup();
		snprintf(what, sizeof(what), "cgroup");
	}
	if (r >= 0) {
		r = spawn_prepare(&g->box);
		snprintf(what, sizeof(what), "first process of the box");
	}
	greet(g);
	if (r < 0)
		boot_fail(g->control, r, what);
}

/* What the workload's process has to know of it (spawn.c). */
static int keep_config(struct guest *g, struct wire_config *c)
{
	/* The box has no use for it. */
	explicit_bzero(c->entropy, sizeof(c->entropy));
	g->box.user_namespace = c->user_namespace;
	return settings_unusual(c) ? wire_put_config(&g->box.config, c) : 0;
}

/* The box's root file system as the configuration wants it. */
static int apply_config(struct guest *g, struct wire_config *c, char *what, size_t size)
{
	/* For as long as the machine lives: to make one and to let it go is slow, most of all where that is waited for. */
	int proc = g->box.proc = rootfs_new("proc", "proc", 0, what, size), r = proc;

	if (r >= 0) {
		system_allow_watches(proc);
		r = cgroup_limit(g->box.cgroup, proc, &c->limits, true, what, size);
	}
	if (r == 0 && c->user_namespace)
		r = rootfs_map_ids(what, size);
	if (r == 0)
		r = rootfs_configure(c, what, size);
	if (r == 0)
		r = net_apply(proc, &c->network, true, what, size);
	if (r == 0) {
		r = keep_config(g, c);
		snprintf(what, size, "configuration");
	}
	return r;
}

static void boot(struct guest *g)
{
	struct wire_config config = {0};
	char what[256] = "", report[SPAWN_REPORT_MAX + 1];
	const char *why = "";
	int listener, r;

	boot_begin(g);
	r = rootfs_mount_scratch(what, sizeof(what));
	if (r < 0)
		boot_fail(g->control, r, what);
	r = spawn_wait_base(&g->box, report, &why);
	if (r < 0)
		boot_fail(g->control, r, why);
	r = rootfs_assemble(&g->box.devpts, what, sizeof(what));
	if (r < 0)
		boot_fail(g->control, r, what);
	r = control_config(g->control, &g->in, &config);
	if (r < 0)
		boot_fail(g->control, r, "configuration");
	system_configure(&config);
	r = apply_config(g, &config, what, sizeof(what));
	if (r < 0)
		boot_fail(g->control, r, what);
	wire_config_done(&config);
	spawn_release(&g->box); /* a failure shows at START */
	listener = control_listen_sessions();
	if (listener < 0)
		boot_fail(g->control, listener, "listen for sessions");
	r = server_listen(g->server, listener);
	if (r == 0)
		r = answer(g, WIRE_READY);
	if (r < 0)
		boot_fail(g->control, r, "session server");
	/* Now that the host has something to do. The box does not run before it says so. */
	r = isolate_listen(g->loop, &g->box, ROOTFS_DIR ISOLATE_SOCKET);
	if (r < 0)
		system_complain("nsexec: %s", strerror(-r));
}

/* The box has this program too, under another name. */
static int main_in_box(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], INIT_HOLD) == 0)
		init_hold();
	if (argc > 0 && strcmp(argv[0], INIT_NAME) == 0)
		return init_main(argc, argv);
	return nsexec_main(argc, argv);
}

int main(int argc, char **argv)
{
	struct guest g = {.control = -1,
		.box = {.cgroup = -1,
			.devpts = -1,
			.self_pidfd = -1,
			.proc = -1,
			.main_pidfd = -1,
			.prepared = {0, -1, -1, -1}}};
	int r;

	/* The kernel says so of the first program of all, and of no other. */
	if (getpid() != 1 || argc < 1 || strcmp(argv[0], "/init") != 0)
		return main_in_box(argc, argv);
	umask(0022);
	system_init();
	g.box.self_pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	r = loop_new(&g.loop);
	if (r == 0)
		r = server_new(g.loop, &g.box, check_stopped, &g, &g.server);
	if (r < 0)
		boot_fail(-1, r, "event loop");
	boot(&g);
	r = loop_add_io(g.loop, g.control, EPOLLIN, on_control, &g, &g.control_source);
	if (r < 0 || handle_frames(&g) < 0)
		stop(&g);
	for (;;) {
		if (loop_turn(g.loop, -1) < 0)
			finish(&g);
		check_stopped(&g);
	}
}
