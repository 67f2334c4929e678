/* SPDX-License-Identifier: MIT */
/*
 * a3s-box-fsd, the file server of a box (fs.h), from its start to its end (fs/protocol.h). The order of the start is what keeps a
 * hostile guest in: root and mounts first, then whatever is opened by a name, then the rest of the jail, and only then threads
 * and the first byte of the guest.
 */
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/io.h"
#include "base/log.h"
#include "base/proc.h"
#include "device.h"
#include "jail.h"
#include "virtio/vhost-user.h"

enum {
	/* Beyond what the guest names: exports, queues, the few of our own, and those open for the length of a request. */
	DESCRIPTORS_OURS = 512 + 2 * FS_EXPORTS_MAX,
	DESCRIPTORS_FEW = 64,
	/* Each keeps a file of the host in its kernel's memory. */
	DESCRIPTORS_GUEST_MAX = 64 << 10,
	/* A server that has become the only one again notices it after so long at the latest. */
	LEASE_LOOK_S = 5,
};

struct fsd {
	struct fs_export exports[FS_EXPORTS_MAX];
	size_t n_exports;
	bool root, volumes;
	unsigned long nodes;
	int exit_status;
	struct loop *loop;
	struct fs_server *server;
	struct fs_dev *device;
	struct vhost_user *vhost;
};

static int usage(void)
{
	fprintf(stderr,
		"a3s-box-fsd: started by a3s-box for each box that shares files; it has no use of its own\n");
	return 125;
}

/* ro|rw,dir|file,host|volume */
static int parse_export(struct fsd *d, const char *s, int *next)
{
	static const char *const access[] = {"rw", "ro"}, *const kinds[] = {"dir", "file"},
				 *const caches[] = {"host", "volume"};

	if (d->n_exports == FS_EXPORTS_MAX)
		return -EINVAL;
	for (unsigned i = 0; i < 8; i++) {
		char text[24];
		bool ro = i & 1, file = i & 2, volume = i & 4;
		snprintf(text, sizeof(text), "%s,%s,%s", access[ro], kinds[file], caches[volume]);
		if (strcmp(text, s) != 0)
			continue;
		struct fs_export *x = &d->exports[d->n_exports++];
		*x = (struct fs_export){.fd = (*next)++,
			.use_fd = -1,
			.read_only = ro,
			.file = file,
			.cache = volume ? FS_CACHE_VOLUME : FS_CACHE_HOST};
		if (volume)
			x->use_fd = (*next)++;
		d->volumes |= volume;
		return 0;
	}
	return -EINVAL;
}

static int parse_options(int argc, char **argv, struct fsd *d)
{
	static const struct option options[] = {{"export", required_argument, NULL, 'e'},
		{"root", no_argument, NULL, 'r'}, {"name", required_argument, NULL, 'n'},
		{"nodes", required_argument, NULL, 'c'}, {NULL, 0, NULL, 0}};
	int opt, r = 0, next = FS_FD_EXPORTS;

	while (r == 0 && (opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'e':
			r = parse_export(d, optarg, &next);
			break;
		case 'r':
			d->root = true;
			break;
		case 'c':
			d->nodes = strtoul(optarg, NULL, 10);
			break;
		case 'n': /* for those who list processes */
			break;
		default:
			r = -EINVAL;
		}
	}
	for (int fd = FS_FD_VHOST; r == 0 && fd < next; fd++)
		r = io_set_cloexec(fd, true);
	return r < 0 || optind != argc || d->n_exports == 0 || d->nodes == 0 ? -EINVAL : 0;
}

/* How many descriptors the guest may make us keep. */
static unsigned descriptors(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0 || l.rlim_cur < DESCRIPTORS_OURS + DESCRIPTORS_FEW)
		return DESCRIPTORS_FEW;
	return (unsigned)MIN_OF(l.rlim_cur - DESCRIPTORS_OURS, (rlim_t)DESCRIPTORS_GUEST_MAX);
}

/* Those of leases are for their thread alone. */
static int set_up_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGIO);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ,
		SIG_IGN); /* a user's limit on files is to be an error of the box's write(2), and not our end */
	return 0;
}

/* Has a thread of its own, because giving up what a lease allowed waits for the guest's caches. */
static void *leases_main(void *data)
{
	struct fsd *d = data;
	const struct timespec every = {.tv_sec = LEASE_LOOK_S};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGIO);
	for (;;) {
		(void)sigtimedwait(&set, NULL, &every);
		fs_leases_look(d->server);
	}
	return NULL;
}

static int start_leases(struct fsd *d)
{
	sigset_t all, old;
	pthread_t t;

	if (!d->volumes)
		return 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int r = pthread_create(&t, NULL, leases_main, d);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -r;
}

static void on_gone(void *data, const char *reason)
{
	struct fsd *d = data;

	log_debug("vhost-user: %s", reason);
	loop_quit(d->loop, 0);
}

static int start(struct fsd *d, struct fs_status *s, struct err *e)
{
	int r = set_up_signals();
	if (r < 0)
		return err_sys(e, r, "signals");
	proc_raise_descriptor_limit();
	jail_roots(d->exports, d->n_exports, s);
	CLEANUP_CLOSE int proc = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (proc < 0)
		return err_sys(e, -errno, "/proc/self/fd");
	r = fs_server_new(d->exports, d->n_exports, proc, descriptors(), &d->server, e);
	if (r < 0)
		return r;
	(void)TAKE_FD(proc); /* for as long as the server is */
	fs_server_limit(d->server, d->nodes);
	r = jail_close(d->exports, d->n_exports, d->root, s, e);
	if (r < 0)
		return r;
	r = loop_new(&d->loop);
	if (r == 0)
		r = fs_device_new(d->loop, d->server, &d->device);
	if (r == 0)
		r = start_leases(d);
	if (r == 0)
		r = vhost_user_new(
			d->loop, fs_device(d->device), FS_QUEUES, FS_FD_VHOST, on_gone, d, &d->vhost);
	return r < 0 ? err_sys(e, r, "start") : 0;
}

int main(int argc, char **argv)
{
	struct fsd d = {0};
	struct fs_status s = {0};
	struct err e = {0};

	log_init(FS_PROGRAM);
	if (parse_options(argc, argv, &d) < 0)
		return usage();
	mallopt(M_ARENA_MAX, 2); /* an arena for each thread would only be memory */
	int r = start(&d, &s, &e);
	if (r == 0) {
		r = io_write_full(FS_FD_STATUS, &s, sizeof(s));
		if (r == -EPIPE) /* nobody wants to know */
			r = 0;
		close(FS_FD_STATUS);
	}
	if (r == 0)
		r = loop_run(d.loop);
	if (r < 0)
		log_error("%s", e.code ? e.msg : strerror(-r));
	/* What the guest has been told is written is the host's already. */
	_exit(r != 0);
}
