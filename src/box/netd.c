/* SPDX-License-Identifier: MIT */
/*
 * The way to a3s-box-netd (net/net.h): finding the one of a network, starting it, and talking to it.
 *
 * THEORY OF OPERATION
 *
 * run/net/ID/lock says whether a network has a netd: it inherits the lock, and holds it while it lives. Who wants one connects
 * to run/net/ID/ctl.sock; where that fails, he tries to lock. Who gets the lock is the only one, and what lies beside it is a
 * dead netd's: he binds a new socket, and starts a netd that inherits socket and lock. Who does not get it waits for the one
 * who did. The socket listens before the program is even started, so that nobody waits for more than the fork. A netd that
 * ends removes its socket before it gives the lock up; connections that came in between are reset, and made again.
 */
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include <jansson.h>

#include "base/io.h"
#include "base/proc.h"
#include "box/network.h"
#include "run.h"

enum { NETD_CONFIG_FD = 3, NETD_SOCKET_FD = 4, NETD_LOCK_FD = 5 };
enum { NETD_BACKLOG = 1024 };

#define NETD_PROGRAM  "a3s-box-netd"
#define NETD_SOCKET   "ctl.sock"
#define CALL_LIMIT_NS 10000000000ull

/* ---- its process ---- */

/* The configuration as a file that has no name. fd or -errno. */
static int config_file(const struct netd_config *c)
{
	CLEANUP_FREE char *text = netd_config_text(c);
	CLEANUP_CLOSE int fd = text ? memfd_create("netd-config", MFD_CLOEXEC) : -1;

	if (!text)
		return -ENOMEM;
	if (fd < 0)
		return -errno;
	int r = io_write_full(fd, text, strlen(text));
	if (r < 0)
		return r;
	/* It reads from the start, through the same open file. */
	return lseek(fd, 0, SEEK_SET) < 0 ? -errno : TAKE_FD(fd);
}

/* dir: what shows in the list of processes whose it is, and the working folder of one that listens. */
static pid_t spawn(const struct netd_config *c, const char *dir, int config, int socket_fd, int lock,
	const char *path, int *ret_pidfd)
{
	const char *argv[] = {NETD_PROGRAM, dir, c->name, NULL};
	struct proc_fd fds[] = {{STDERR_FILENO, STDERR_FILENO}, {config, NETD_CONFIG_FD},
		{socket_fd, NETD_SOCKET_FD}, {lock, NETD_LOCK_FD}};
	bool alone = lock < 0;
	struct proc_opts o = {.path = path,
		.argv = argv,
		/* One that outlives us has no use of our terminal, or log. */
		.fds = alone ? fds : fds + 1,
		.n_fds = ARRAY_LEN(fds) - 1,
		.cwd = alone ? NULL : dir,
		.die_with_parent = alone,
		.new_session = !alone,
		.no_new_privs = true};

	return proc_spawn(&o, ret_pidfd);
}

/* lock < 0: for one box, as our child. Else it is nobody's, as it may outlive us, and we may outlive it. */
static int start_program(
	const struct netd_config *c, const char *dir, int socket_fd, int lock, int *ret_pidfd, struct err *e)
{
	CLEANUP_FREE char *path = box_find_asset(NETD_PROGRAM, e);
	if (!path)
		return e ? e->code : -ENOENT;
	CLEANUP_CLOSE int config = config_file(c);
	if (config < 0)
		return err_sys(e, config, "cannot start %s", NETD_PROGRAM);
	pid_t pid;
	int r = 0, status;
	if (lock < 0) {
		pid = spawn(c, dir, config, socket_fd, lock, path, ret_pidfd);
	} else if ((pid = fork()) == 0) {
		pid = spawn(c, dir, config, socket_fd, lock, path, NULL);
		_exit(pid < 0 ? MIN_OF((int)-pid, 255) : 0);
	} else if (pid < 0) {
		pid = -errno;
	} else {
		r = proc_wait(pid, &status);
		if (r == 0)
			r = WIFEXITED(status) ? -WEXITSTATUS(status) : -ECHILD;
	}
	r = pid < 0 ? (int)pid : r;
	return r < 0 ? err_sys(e, r, "cannot start %s", path) : 0;
}

int box_netd_start_private(struct netd_config *config, int *ret_pidfd, struct err *e)
{
	CLEANUP_FREE char *dir = str_printf("%s/run/%s", config->home, config->id);
	int pair[2];

	if (!dir)
		return err_oom(e);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, -errno, "cannot start %s", NETD_PROGRAM);
	CLEANUP_CLOSE int ours = pair[0];
	CLEANUP_CLOSE int theirs = pair[1];
	int r = start_program(config, dir, theirs, -1, ret_pidfd, e);
	return r < 0 ? r : TAKE_FD(ours);
}

/* ---- the one of a network ---- */

static int net_dir(struct state *st, const char *network, bool create)
{
	CLEANUP_CLOSE int run = io_open_dir_at(st->home_fd, "run", create);
	CLEANUP_CLOSE int net = run < 0 ? run : io_open_dir_at(run, "net", create);

	return net < 0 ? net : io_open_dir_at(net, network, create);
}

/* Through /proc, so that the path may have any length. */
static void socket_addr(struct sockaddr_un *a, int dir)
{
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(a->sun_path, sizeof(a->sun_path), "/proc/self/fd/%d/" NETD_SOCKET, dir);
}

/* A blocking socket, but it does not wait for one whose queue is full: -EAGAIN. */
static int connect_in(int dir)
{
	CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un a;

	socket_addr(&a, dir);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return -errno;
	int r = io_set_nonblock(fd, false);
	return r < 0 ? r : TAKE_FD(fd);
}

static int listen_in(int dir)
{
	CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un a;

	socket_addr(&a, dir);
	if (fd < 0 || (unlinkat(dir, NETD_SOCKET, 0) < 0 && errno != ENOENT) ||
		bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, NETD_BACKLOG) < 0)
		return -errno;
	return TAKE_FD(fd);
}

/* The lock, if nobody has it. -EWOULDBLOCK: somebody has; -ESTALE: its file was removed meanwhile. */
static int try_lock(int dir)
{
	struct stat ours, now;
	CLEANUP_CLOSE int fd = openat(dir, "lock", O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return errno == ENOENT ? -ESTALE : -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0 || fstat(fd, &ours) < 0)
		return -errno;
	if (fstatat(dir, "lock", &now, AT_SYMLINK_NOFOLLOW) < 0 || now.st_ino != ours.st_ino ||
		now.st_dev != ours.st_dev)
		return -ESTALE;
	return TAKE_FD(fd);
}

/* What a network's record says, as its process reads it. Strings are borrowed. */
static int config_of(
	const struct state *st, const struct box_network *n, struct netd_config *ret, struct err *e)
{
	int r = 0;

	*ret = (struct netd_config){.id = n->id,
		.name = n->name,
		.internal = n->internal,
		.isolation = n->isolation,
		.policy = n->policy,
		.revision = (uint64_t)n->revision,
		.home = st->home};
	if (n->subnet4)
		r = net_prefix_parse(n->subnet4, &ret->subnet4);
	if (r == 0 && n->subnet6)
		r = net_prefix_parse(n->subnet6, &ret->subnet6);
	if (r == 0 && n->gateway4)
		r = net_addr_parse(n->gateway4, &ret->gateway4);
	if (r == 0 && n->gateway6)
		r = net_addr_parse(n->gateway6, &ret->gateway6);
	for (size_t i = 0; i < n->opts.n; i++)
		ret->host_loopback |= strcmp(n->opts.v[i], BOX_NETWORK_HOST_LOOPBACK) == 0;
	return r < 0 ? err_sys(e, r, "record of network %s", n->name) : 0;
}

int box_netd_try(struct state *st, const struct box_network *n, struct err *e)
{
	CLEANUP_FREE char *path = str_printf("%s/run/net/%s", st->home, n->id);
	CLEANUP_CLOSE int dir = net_dir(st, n->id, true);
	struct netd_config config;
	if (!path)
		return err_oom(e);
	if (dir < 0)
		return dir == -ENOENT ? -EAGAIN : err_sys(e, dir, "cannot open %s", path);

	int fd = connect_in(dir);
	if (fd >= 0)
		return fd;
	CLEANUP_CLOSE int lock = try_lock(dir);
	if (lock == -EWOULDBLOCK || lock == -ESTALE)
		return -EAGAIN;
	if (lock < 0)
		return err_sys(e, lock, "cannot lock network %s", n->name);
	CLEANUP_CLOSE int socket_fd = listen_in(dir);
	if (socket_fd < 0)
		return err_sys(e, socket_fd, "cannot make the socket of network %s", n->name);
	/* n may be older than the last change of rules. Who changes them from now on finds the socket, and tells the new one. */
	CLEANUP(box_network_freep) struct box_network *now = NULL;
	int r = box_network_find(st, n->id, &now, e);
	if (r == 0)
		r = config_of(st, now, &config, e);
	if (r == 0)
		r = start_program(&config, path, socket_fd, lock, NULL, e);
	if (r < 0) {
		unlinkat(dir, NETD_SOCKET, 0);
		return r;
	}
	fd = connect_in(dir);
	return fd < 0 ? -EAGAIN : fd;
}

int box_netd_connect(struct state *st, const char *network, struct err *e)
{
	CLEANUP_CLOSE int dir = net_dir(st, network, false);
	int fd = dir < 0 ? dir : connect_in(dir);

	if (fd == -ENOENT || fd == -ECONNREFUSED)
		return err_set(e, -ENOENT, "network %.12s has no process", network);
	if (fd == -EAGAIN)
		return err_set(e, -EAGAIN, "the process of network %.12s does not answer", network);
	return fd < 0 ? err_sys(e, fd, "cannot reach the process of network %.12s", network) : fd;
}

/* ---- talking to it ---- */

int box_netd_send(int fd, const char *text, const int *fds, size_t n_fds)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(NETD_FDS_MAX * sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	if (n_fds > NETD_FDS_MAX || iov.iov_len > NETD_MESSAGE_MAX)
		return -EMSGSIZE;
	if (n_fds) {
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		control.h = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS,
			.cmsg_len = CMSG_LEN(n_fds * sizeof(int))};
		memcpy(CMSG_DATA(&control.h), fds, n_fds * sizeof(int));
	}
	for (;;) {
		if (sendmsg(fd, &m, MSG_NOSIGNAL) >= 0)
			return 0;
		if (errno != EINTR)
			return -errno;
	}
}

int box_netd_receive(int fd, char **ret, size_t *ret_len)
{
	CLEANUP_FREE char *text = malloc(NETD_MESSAGE_MAX + 1);

	if (!text)
		return -ENOMEM;
	ssize_t n = recv(fd, text, NETD_MESSAGE_MAX, MSG_TRUNC | MSG_DONTWAIT);
	if (n < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	if (n == 0)
		return -EPIPE;
	if (n > NETD_MESSAGE_MAX)
		return -EMSGSIZE;
	text[n] = '\0';
	*ret_len = (size_t)n;
	*ret = TAKE_PTR(text);
	return 1;
}

int box_netd_answer(const char *text, size_t len, struct err *e)
{
	json_t *j = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	const json_t *error = json_object_get(j, "error");
	int r = -ENOMSG;

	if (json_is_null(error))
		r = 0;
	else if (json_is_string(error))
		r = err_set(e,
			json_integer_value(json_object_get(j, "code")) == EADDRINUSE ? -EADDRINUSE : -EIO,
			"%s", json_string_value(error));
	else if (!json_is_object(j) || error)
		r = err_set(e, -EBADMSG, "%s: malformed answer", NETD_PROGRAM);
	json_decref(j);
	return r;
}

/* The next answer; what else it says is passed over. */
static int next_answer(int fd, uint64_t limit_ns, char **ret, struct err *e)
{
	for (uint64_t until = time_mono_ns() + limit_ns;;) {
		CLEANUP_FREE char *text = NULL;
		uint64_t now = time_mono_ns();
		struct pollfd p = {.fd = fd, .events = POLLIN};
		size_t len = 0;
		if (now >= until)
			return err_sys(e, -ETIMEDOUT, "%s does not answer", NETD_PROGRAM);
		if (poll(&p, 1, (int)((until - now) / 1000000 + 1)) <= 0)
			continue;
		int r = box_netd_receive(fd, &text, &len);
		if (r == -EAGAIN)
			continue;
		if (r < 0)
			return err_sys(e, r, "%s does not answer", NETD_PROGRAM);
		r = box_netd_answer(text, len, e);
		if (r == -ENOMSG)
			continue;
		if (r == 0 && ret)
			*ret = TAKE_PTR(text);
		return r;
	}
}

int box_netd_call(int fd, const char *text, const int *fds, size_t n_fds, char **ret_answer, struct err *e)
{
	int r = box_netd_send(fd, text, fds, n_fds);

	return r < 0 ? err_sys(e, r, "%s cannot be asked", NETD_PROGRAM)
		     : next_answer(fd, CALL_LIMIT_NS, ret_answer, e);
}

int box_netd_call_within(int fd, const char *text, uint64_t limit_ns, struct err *e)
{
	int r = box_netd_send(fd, text, NULL, 0);

	return r < 0 ? err_sys(e, r, "%s cannot be asked", NETD_PROGRAM) : next_answer(fd, limit_ns, NULL, e);
}
