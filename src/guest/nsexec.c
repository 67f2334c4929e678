/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * The command sends what is wanted, and its standard streams, to the socket of isolate.c, hands signals on, and takes the
 * status. If it dies, the connection ends, and with it the subprocess.
 */
#include "nsexec.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/io.h"
#include "child.h"
#include "isolate.h"

static const char usage[] =
	"Usage: nsexec [OPTION…] [--] PROGRAM [ARG…]\n"
	"Runs a program of this box as an isolated subprocess, and ends with its status.\n"
	"\n"
	"  --memory SIZE  address space of each of its processes (RLIMIT_AS): bytes, or with k, m, g\n"
	"  --pids N       processes and threads, not for root (RLIMIT_NPROC)\n"
	"  --read-only    all file systems but its /tmp and /dev/shm\n"
	"  -h, --help     this text\n"
	"\n"
	"It runs as the same user, in mount, PID, IPC, UTS and user namespaces of its own, without "
	"capabilities and with\n"
	"no_new_privs: it does not see the box's other processes and cannot signal or trace them, /proc, "
	"/tmp and /dev/shm\n"
	"are new, set-user-ID programs gain nothing, and everything it started ends with it.\n"
	"It shares with the box: files, by the user's permissions; network; CPU, memory and processes within "
	"the\n"
	"box's limits; open standard streams. It is no protection against a flaw of the kernel.\n"
	"A program that has set no_new_privs cannot use it.\n"
	"\n"
	"Exit status: the program's; 125 nsexec failed, 126 it cannot be executed, 127 it was not found, "
	"128+N signal N.\n";

static int parse_number(const char *text, bool size, uint64_t *ret)
{
	char *end;
	unsigned long long v;
	unsigned int shift = 0;

	if (text[0] < '0' || text[0] > '9')
		return -EINVAL;
	errno = 0;
	v = strtoull(text, &end, 10);
	if (size && *end) {
		const char *units = "kmg", *unit = strchr(units, *end | 0x20);

		if (!unit)
			return -EINVAL;
		shift = (unsigned int)(unit - units + 1) * 10;
		end++;
	}
	if (errno || *end || !v || v > INT64_MAX >> shift)
		return -EINVAL;
	*ret = v << shift;
	return 0;
}

static int set_limit(struct wire_process *p, uint32_t resource, const char *option, const char *text,
	char *why, size_t size)
{
	bool bytes = resource == RLIMIT_AS;
	uint64_t v;

	if (!text || parse_number(text, bytes, &v) < 0) {
		snprintf(why, size, "%s: %s is wanted", option,
			bytes ? "a size such as 64m" : "a number from 1 on");
		return -EINVAL;
	}
	if (p->n_rlimits >= WIRE_RLIMITS_MAX) {
		snprintf(why, size, "%s: given too often", option);
		return -EINVAL;
	}
	p->rlimits[p->n_rlimits++] = (struct wire_rlimit){resource, v, v};
	return 0;
}

/* The value of an option at argv[*i], "--name VALUE" or "--name=VALUE"; NULL if there is none. */
static const char *value_of(int argc, char **argv, int *i)
{
	char *equals = strchr(argv[*i], '=');

	if (equals)
		return equals + 1;
	return *i + 1 < argc ? argv[++*i] : NULL;
}

static bool is_option(const char *arg, const char *name)
{
	size_t n = strlen(name);

	return strncmp(arg, name, n) == 0 && (!arg[n] || arg[n] == '=');
}

int nsexec_parse(int argc, char **argv, struct wire_process *p, bool *ret_read_only, char *why, size_t size)
{
	int i = 1, r = 0;

	for (; r == 0 && i < argc && argv[i][0] == '-'; i++) {
		const char *arg = argv[i];

		if (strcmp(arg, "--") == 0) {
			i++;
			break;
		}
		if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0)
			return 1;
		if (strcmp(arg, "--read-only") == 0) {
			*ret_read_only = true;
		} else if (is_option(arg, "--memory")) {
			r = set_limit(p, RLIMIT_AS, "--memory", value_of(argc, argv, &i), why, size);
		} else if (is_option(arg, "--pids")) {
			r = set_limit(p, RLIMIT_NPROC, "--pids", value_of(argc, argv, &i), why, size);
		} else {
			snprintf(why, size, "%.100s: no such option (see --help)", arg);
			r = -EINVAL;
		}
	}
	if (r == 0 && i >= argc) {
		snprintf(why, size, "a program is wanted (see --help)");
		r = -EINVAL;
	}
	for (; r == 0 && i < argc; i++)
		if (strv_push(&p->argv, argv[i]) < 0) {
			snprintf(why, size, "out of memory");
			r = -EINVAL;
		}
	return r;
}

static int complain(const char *why)
{
	fprintf(stderr, "nsexec: %s\n", why);
	return 125;
}

static int connect_helper(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX, .sun_path = ISOLATE_SOCKET};
	CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static int send_request(int conn, const struct wire_process *p, bool read_only)
{
	struct child_start start = {.read_only = read_only};
	CLEANUP(buf_done) struct buf frame = {0};
	int fds[3] = {-1, -1, -1}, r = wire_put_process(&frame, p);

	for (int i = 0; i < 3; i++)
		if (fcntl(i, F_GETFD) >= 0)
			fds[i] = i;
	return r < 0 ? r : spawn_send_start(conn, &start, fds, &frame);
}

/* Until the connection ends: signals go there, status and text come. */
static int wait_status(int conn, int signals)
{
	struct pollfd fds[2] = {{.fd = conn, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
	char answer[sizeof(uint32_t) + 1024 + 1];
	uint32_t status;
	size_t len = 0;

	for (;;) {
		struct signalfd_siginfo info;
		ssize_t n;

		if (poll(fds, 2, -1) < 0)
			continue;
		if (read(signals, &info, sizeof(info)) == sizeof(info)) {
			uint8_t sig = (uint8_t)info.ssi_signo;

			(void)!send(conn, &sig, 1, MSG_NOSIGNAL);
		}
		if (!fds[0].revents)
			continue;
		n = len < sizeof(answer) - 1 ? recv(conn, answer + len, sizeof(answer) - 1 - len, 0) : 0;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	if (len < sizeof(status))
		return -1;
	memcpy(&status, answer, sizeof(status));
	answer[len] = '\0';
	if (len > sizeof(status))
		complain(answer + sizeof(status));
	return (int)(status & 0xff);
}

static int take_signals(void)
{
	static const int handed_on[] = {
		SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGCONT, SIGWINCH, SIGALRM};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_LEN(handed_on); i++)
		sigaddset(&set, handed_on[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static bool limits_processes(const struct wire_process *p)
{
	for (size_t i = 0; i < p->n_rlimits; i++)
		if (p->rlimits[i].resource == RLIMIT_NPROC)
			return true;
	return false;
}

int nsexec_main(int argc, char **argv)
{
	struct wire_process p = {0};
	char cwd[PATH_MAX], why[256];
	bool read_only = false;
	CLEANUP_CLOSE int conn = -1;
	CLEANUP_CLOSE int signals = -1;
	int status, r = nsexec_parse(argc, argv, &p, &read_only, why, sizeof(why));

	if (r > 0)
		return fputs(usage, stdout) < 0 || fflush(stdout) != 0 ? 125 : 0;
	if (r < 0)
		return complain(why);
	if (limits_processes(&p) && geteuid() == 0)
		return complain(
			"--pids: the kernel does not count root's processes (run nsexec as another user)");
	p.cwd = getcwd(cwd, sizeof(cwd));
	for (char **e = environ; e && *e; e++)
		if (strv_push(&p.env, *e) < 0)
			return complain("out of memory");
	if (!p.cwd || p.cwd[0] != '/')
		return complain("the working directory has no path here");
	signals = take_signals();
	conn = signals < 0 ? -errno : connect_helper();
	r = conn < 0 ? conn : send_request(conn, &p, read_only);
	if (r == -ENOENT || r == -ECONNREFUSED || r == -EACCES)
		return complain("there is no helper here (inside another nsexec, or not in a box)");
	/* Refused before all was read: why comes. */
	if (r < 0 && r != -EPIPE && r != -ECONNRESET) {
		snprintf(why, sizeof(why), "%s", strerror(-r));
		return complain(why);
	}
	status = wait_status(conn, signals);
	if (status >= 0)
		return status;
	fprintf(stderr, "nsexec: the subprocess was killed, or the box can start no further process\n");
	return 128 + SIGKILL;
}
