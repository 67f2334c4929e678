/* SPDX-License-Identifier: MIT */
/*
 * a3s-box-netd from its start to its end (net/net.h).
 *
 * It ends when its connection does, or, where it listens, when nothing has been attached for NETD_LINGER_NS: then its socket's
 * name goes first, so that who comes from now on starts another; who has connected just before is reset, and comes again.
 * The lock of the folder, which is the working folder, is free when the process is gone. The folder stays.
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/log.h"
#include "base/proc.h"
#include "control.h"
#include "dns.h"

enum { FD_CONFIG = 3, FD_SOCKET = 4, FD_LOCK = 5, CONFIG_MAX = 256 << 10 };
enum { STATUS_FAILED = 125 };
#define SOCKET_NAME "ctl.sock"

struct netd {
	struct loop *loop;
	struct engine *engine;
	struct control *control;
	bool listens;
	struct loop_source *accepting, *linger, *signals;
	int signal_fd;
};

/* ---- inherited descriptors ---- */

static int read_config(struct netd_config *ret, struct err *e)
{
	CLEANUP_FREE char *text = malloc(CONFIG_MAX);

	if (!text)
		return err_oom(e);
	ssize_t n = io_pread_full(FD_CONFIG, text, CONFIG_MAX, 0);
	int r = n < 0 ? (int)n : netd_config_parse(text, (size_t)n, ret);
	close(FD_CONFIG);
	return r < 0 ? err_sys(e, r, "configuration") : 0;
}

static int option(int what)
{
	int value;
	socklen_t len = sizeof(value);

	return getsockopt(FD_SOCKET, SOL_SOCKET, what, &value, &len) < 0 ? -errno : value;
}

/* 1: it listens, 0: it is connected, or -errno. */
static int judge_socket(struct err *e)
{
	int type = option(SO_TYPE), listens = option(SO_ACCEPTCONN);

	if (type < 0)
		return err_sys(e, type, "socket");
	if (type != SOCK_SEQPACKET || option(SO_DOMAIN) != AF_UNIX)
		return err_set(e, -EBADF, "socket: not of its kind");
	if (listens > 0 && fcntl(FD_LOCK, F_GETFD) < 0)
		return err_sys(e, -errno, "lock");
	for (int fd = FD_SOCKET; fd <= (listens > 0 ? FD_LOCK : FD_SOCKET); fd++)
		(void)io_set_cloexec(fd, true);
	return listens;
}

/* ---- coming and going ---- */

static void on_accept(void *data, int fd, uint32_t events)
{
	struct netd *d = data;
	int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (client >= 0)
		control_add(d->control, client);
	else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
		/* No descriptors are left: those who wait are not looked at for a while, or until somebody goes. */
		log_warn("accept: %s", strerror(errno));
		(void)loop_set_events(d->accepting, 0);
		loop_set_timer(d->linger, NETD_LINGER_NS);
	}
}

static void on_linger(void *data)
{
	struct netd *d = data;

	(void)loop_set_events(d->accepting, EPOLLIN);
	if (d->engine->n_ports)
		return;
	if (control_expects(d->control))
		loop_set_timer(d->linger, NETD_LINGER_NS / 4);
	else
		loop_quit(d->loop, 0);
}

static void on_change(void *data)
{
	struct netd *d = data;

	if (!d->listens) {
		if (control_clients(d->control) == 0)
			loop_quit(d->loop, 0);
		return;
	}
	(void)loop_set_events(d->accepting, EPOLLIN);
	if (!d->engine->n_ports)
		loop_set_timer(d->linger, NETD_LINGER_NS);
}

static void on_signal(void *data, int fd, uint32_t events)
{
	struct netd *d = data;

	loop_quit(d->loop, 0);
}

static int watch_signals(struct netd *d)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	signal(SIGPIPE, SIG_IGN);
	d->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return d->signal_fd < 0 ? -errno
				: loop_add_io(d->loop, d->signal_fd, EPOLLIN, on_signal, d, &d->signals);
}

/* ---- the whole ---- */

static int start(struct netd *d, struct netd_config *config, struct err *e)
{
	int r = loop_new(&d->loop);

	if (r == 0)
		r = watch_signals(d);
	if (r < 0)
		return err_sys(e, r, "start");
	r = engine_new(d->loop, config, &d->engine, e);
	if (r < 0)
		return r;
	r = control_new(d->engine, on_change, d, &d->control);
	if (r == 0 && d->listens)
		r = io_set_nonblock(FD_SOCKET, true);
	if (r == 0 && d->listens)
		r = loop_add_io(d->loop, FD_SOCKET, EPOLLIN, on_accept, d, &d->accepting);
	if (r == 0 && d->listens)
		r = loop_add_timer(d->loop, NETD_LINGER_NS, on_linger, d, &d->linger);
	if (r < 0)
		return err_sys(e, r, "start");
	if (!d->listens)
		control_add(d->control, FD_SOCKET);
	(void)resolvconf_get(&d->engine->dns->resolvconf); /* the jail may have no files */
	return jail_enter_netd(d->listens, e);
}

static void finish(struct netd *d)
{
	if (d->listens)
		(void)unlink(SOCKET_NAME); /* before anything else */
	control_free(d->control);
	engine_free(d->engine);
	loop_source_free(d->accepting);
	loop_source_free(d->linger);
	loop_source_free(d->signals);
	loop_free(d->loop);
	close_fd(&d->signal_fd);
}

int netd_main(void)
{
	static struct netd d = {.signal_fd = -1};
	struct netd_config config = {0};
	struct err e = {0};

	log_init("a3s-box-netd");
	proc_raise_descriptor_limit();
	int r = judge_socket(&e);
	d.listens = r > 0;
	if (r >= 0)
		r = read_config(&config, &e);
	if (r == 0)
		r = start(&d, &config, &e);
	if (r == 0)
		r = loop_run(d.loop);
	else
		log_error("%s", e.msg);
	finish(&d);
	netd_config_done(&config);
	return r == 0 ? 0 : STATUS_FAILED;
}
