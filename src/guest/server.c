/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * A list of sessions, each of which is a connection, a process, or both. The first process with `main` is the
 * workload; there is one per boot, and others can only be started while it runs. SIGCHLD comes through a
 * signalfd, and every child that is ready is reaped: sessions' processes report to their session, anything
 * else (none is expected: namespaces have their own init) is forgotten.
 *
 * The workload's process exists before its START (spawn.c), and is the box's until a session takes it.
 *
 * A session with neither connection nor process frees itself, so the list holds what matters and no more. One that
 * waits for START has nothing to show for the 4 MiB that it may have buffered: there are at most SERVER_NEW_MAX of
 * them, further ones wait in the socket's queue, and each has SERVER_START_NS to say what it wants.
 *
 * A connection that asks about the box goes to a process of its own, which is a session without a connection; so does one
 * that is carried into the box's network, takes or gives files, or holds the disk still.
 *
 * Only one process at a time holds the disk still. A connection that asks for it while there is one waits (SESSION_QUEUED) until
 * that one is reaped, which is a moment after its host has closed: commands one after another do not get in each other's way.
 */
#include "server.h"

#include <linux/vm_sockets.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "cgroup.h"
#include "copy.h"
#include "forward.h"
#include "freeze.h"
#include "net.h"
#include "query.h"
#include "rootfs.h"
#include "session.h"

#define BEGUN_NS 300000000ull /* what has run so long is hardly a quick `run --rm`, whose disk nobody keeps */

struct server {
	struct loop *loop;
	struct spawn_box *box;
	loop_fn on_reaped;
	void *data;

	struct session *sessions;
	pid_t main_pid;	   /* 0: none */
	bool main_started; /* its program ran: no second one in this boot */
	bool main_running; /* it can be joined */
	pid_t syncing_pid; /* rootfs_sync_ahead; 0: none */
	bool stopping;
	uint64_t oom_kills; /* when last looked at */

	uint64_t start_timeout_ns;
	int listen_fd, signal_fd;
	struct loop_source *listen_source, *signal_source, *begun_timer;
	uint8_t scratch[WIRE_HEADER_SIZE + WIRE_DATA_MAX];
};

struct loop *server_loop(struct server *server)
{
	return server->loop;
}

uint8_t *server_scratch(struct server *server)
{
	return server->scratch;
}

int server_spawn(struct server *server, struct session *s, const struct wire_process *p, struct spawn *ret)
{
	int r;

	if (server->stopping || (!p->main && !server->main_running))
		return -ESRCH;
	if (p->main && (server->main_started || server->main_pid))
		return -EBUSY;
	r = spawn_start(server->box, p, ret);
	if (r == 0 && p->main) {
		server->main_pid = ret->pid;
		server->box->main_pidfd = ret->pidfd;
	}
	return r;
}

pid_t server_help(struct server *server, enum session_helper kind, int fd, const struct buf *in)
{
	static const unsigned int most[] = {[HELPER_QUERY] = QUERY_MAX,
		[HELPER_FORWARD] = FORWARD_MAX,
		[HELPER_COPY] = COPY_MAX,
		[HELPER_FREEZE] = 1};
	unsigned int n = 0;

	for (struct session *s = server->sessions; s; s = s->next)
		n += s->helper == kind && s->pid;
	if (server->stopping)
		return -ESRCH;
	if (n >= most[kind])
		return -EMFILE;
	switch (kind) {
	case HELPER_QUERY:
		return query_start(server->box, fd, in);
	case HELPER_FORWARD:
		return forward_start(fd, in);
	case HELPER_COPY:
		/* Its files are seen from its own namespace, which is there when its first program is. */
		return server->main_running || server->box->bare ? copy_start(server->box, fd, in)
								 : -ENOTCONN;
	case HELPER_FREEZE:
		return freeze_start(fd, in);
	case HELPER_NONE:
		break;
	}
	return -EINVAL;
}

void server_thaw(struct server *server)
{
	struct session *next;

	for (struct session *s = server->sessions; s; s = next) {
		next = s->next;
		if (s->helper == HELPER_FREEZE && s->pid)
			kill(s->pid, SIGKILL); /* and when it is reaped, freeze_end */
		else if (s->state == SESSION_QUEUED)
			session_refuse(s, "box is being stopped"); /* it would hold the disk still again */
	}
}

/* Whose turn it is to hold the disk still: of those that wait, the one that came first. */
static void serve_queue(struct server *server)
{
	struct session *first;

	do {
		first = NULL;
		for (struct session *s = server->sessions; s; s = s->next) {
			if (s->helper == HELPER_FREEZE && s->pid)
				return;
			if (s->state == SESSION_QUEUED)
				first = s; /* the list begins with the latest */
		}
		if (first)
			session_retry(first);
	} while (first);
}

void server_sync_ahead(struct server *server)
{
	if (server->box->bare || server->syncing_pid)
		return;
	pid_t pid = rootfs_sync_ahead();

	server->syncing_pid = MAX_OF(pid, 0);
}

bool server_oom_killed(struct server *server, bool in_this_boot)
{
	uint64_t before = in_this_boot ? 0 : server->oom_kills;

	server->oom_kills = cgroup_oom_kills(server->box->cgroup);
	return server->oom_kills > before;
}

bool server_is_bare(const struct server *server)
{
	return server->box->bare;
}

int server_proc(const struct server *server)
{
	return server->box->proc;
}

static void on_begun(void *data)
{
	server_sync_ahead(data);
}

void server_main_running(struct server *server)
{
	/* What making the box's root has left to be written is written in a quiet moment, not when its end is waited for. */
	if (!server->box->bare && server->main_pid)
		loop_add_timer(server->loop, BEGUN_NS, on_begun, server, &server->begun_timer);
	server->main_started = true;
	server->main_running = server->main_pid != 0;
}

/* The host may end the machine once it knows. */
static void settle_network(const struct server *server)
{
	if (!server->box->bare && net_has_device())
		net_settle(server->box->proc);
}

void server_main_gone(struct server *server)
{
	settle_network(server);
	server->main_pid = 0;
	server->main_running = false;
	close_fd(&server->box->main_pidfd);
}

static struct session *find_process(struct server *server, pid_t pid)
{
	for (struct session *s = server->sessions; s; s = s->next)
		if (s->pid == pid)
			return s;
	return NULL;
}

static void on_signal(void *data, int fd, uint32_t events)
{
	struct server *server = data;
	struct signalfd_siginfo info[8];
	pid_t pid;
	int status;

	while (read(fd, info, sizeof(info)) > 0)
		; /* several children can hide behind one signal: only waitpid counts */
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct session *s = find_process(server, pid);

		if (s)
			session_reaped(s, status);
		else if (pid == server->syncing_pid)
			server->syncing_pid = 0;
		else if (pid == server->box->prepared.pid)
			spawn_forget(server->box); /* START will make a new one and hear what is wrong */
	}
	serve_queue(server);
	if (server->on_reaped)
		server->on_reaped(server->data);
}

int server_new(struct loop *loop, struct spawn_box *box, loop_fn on_reaped, void *data, struct server **ret)
{
	struct server *server = calloc(1, sizeof(*server));
	sigset_t set;
	int r;

	if (!server)
		return -ENOMEM;
	server->loop = loop;
	server->box = box;
	server->on_reaped = on_reaped;
	server->data = data;
	server->listen_fd = -1;
	server->start_timeout_ns = SERVER_START_NS;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	server->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	r = server->signal_fd < 0 ? -errno
				  : loop_add_io(loop, server->signal_fd, EPOLLIN, on_signal, server,
					    &server->signal_source);
	if (r < 0) {
		server_free(server);
		return r;
	}
	*ret = server;
	return 0;
}

void server_free(struct server *server)
{
	if (!server)
		return;
	while (server->sessions)
		session_free(server->sessions);
	loop_source_free(server->listen_source);
	loop_source_free(server->signal_source);
	loop_source_free(server->begun_timer);
	close_fd(&server->listen_fd);
	close_fd(&server->signal_fd);
	free(server);
}

int server_add(struct server *server, int fd)
{
	struct session *s;
	size_t n = 0;
	int r;

	for (s = server->sessions; s; s = s->next)
		n += s->helper != HELPER_FORWARD;
	if (n >= SERVER_SESSIONS_MAX) {
		close(fd);
		return -EMFILE;
	}
	r = session_new(server, fd, &s);
	if (r < 0)
		return r;
	s->next = server->sessions;
	s->link = &server->sessions;
	if (s->next)
		s->next->link = &s->next;
	server->sessions = s;
	return 0;
}

/* Only the host: the box's own processes reach the port as well, through the local CIDs. */
static bool may_connect(const struct server *server, const struct sockaddr_storage *peer)
{
	const struct sockaddr_vm *vm = (const struct sockaddr_vm *)peer;

	if (peer->ss_family == AF_VSOCK)
		return vm->svm_cid == VMADDR_CID_HOST;
	return server->box->bare;
}

static void on_accept(void *data, int fd, uint32_t events)
{
	struct server *server = data;
	struct sockaddr_storage peer = {0};
	socklen_t len = sizeof(peer);
	CLEANUP_CLOSE int conn = accept4(fd, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (conn >= 0 && may_connect(server, &peer))
		server_add(server, TAKE_FD(conn));
	server_new_changed(server);
}

void server_new_changed(struct server *server)
{
	unsigned int n = 0;

	for (struct session *s = server->sessions; s; s = s->next)
		n += s->state == SESSION_NEW;
	if (server->listen_source)
		loop_set_events(server->listen_source, n < SERVER_NEW_MAX ? EPOLLIN : 0);
}

uint64_t server_start_timeout(const struct server *server)
{
	return server->start_timeout_ns;
}

void server_set_start_timeout(struct server *server, uint64_t ns)
{
	server->start_timeout_ns = ns;
}

int server_listen(struct server *server, int fd)
{
	server->listen_fd = fd;
	return loop_add_io(server->loop, fd, EPOLLIN, on_accept, server, &server->listen_source);
}

int server_signal_main(struct server *server, int sig)
{
	for (struct session *s = server->sessions; s; s = s->next) {
		if (s->main && s->pid) {
			session_signal(s, sig);
			return 0;
		}
	}
	return -ESRCH;
}

void server_stop(struct server *server)
{
	server->stopping = true;
	for (struct session *s = server->sessions; s; s = s->next)
		if (s->pid)
			kill(s->pid, SIGKILL);
	if (server->box->prepared.pid)
		kill(server->box->prepared.pid, SIGKILL);
}

bool server_has_processes(const struct server *server)
{
	for (struct session *s = server->sessions; s; s = s->next)
		if (s->pid)
			return true;
	return server->box->prepared.pid != 0;
}

bool server_has_sessions(const struct server *server)
{
	for (struct session *s = server->sessions; s; s = s->next)
		if (s->state != SESSION_NEW)
			return true;
	return false;
}
