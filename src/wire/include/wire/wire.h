/* SPDX-License-Identifier: MIT */
/*
 * The guest-host protocol, used by both sides, and by the supervisor towards its clients.
 *
 * THEORY OF OPERATION
 *
 * Everything travels in frames on a byte stream (vsock or Unix socket):
 *
 *     offset 0  u8       type (enum wire_type)
 *     offset 1  u32 BE   payload length, at most the limit of its type (wire_max_payload)
 *     offset 5  payload
 *
 * A frame of unknown type or over its limit is a protocol error: the receiver closes the connection.
 * Payloads are either raw bytes (STDIN, STDOUT, STDERR), one u32 BE (as the type says), or a message:
 * a sequence of fields
 *
 *     u8 tag, u32 BE length, bytes
 *
 * Numbers in fields are u64 BE (length 8); strings have no NUL inside and none at the end; a field that may
 * repeat (argv, environment) is repeated in order. Unknown tags are skipped, so that either side may be newer.
 *
 * CONTROL (guest connects to host port WIRE_PORT_CONTROL once PID 1 runs; this is what readiness means)
 *
 *     guest > HELLO     kernel release, protocol version
 *     host  > CONFIG    struct wire_config
 *     guest > READY     root file system mounted, session server listening      | FAIL and power off
 *     host  > SIGNAL    u32: to the workload's PID 1 | PING, answered PONG
 *     host  > SHUTDOWN  stop what runs, sync, unmount, answer BYE, power off
 *     guest > BYE       scratch disk clean; the host may end the machine
 *
 * The end of this connection, for whatever reason, makes the guest shut down.
 *
 * SESSION (host connects to guest port WIRE_PORT_SESSION; one process each, the workload itself being the
 * first; PTY sessions are the same with `tty` set)
 *
 *     host  > START         struct wire_process
 *     guest > STARTED | FAIL (status 125, 126 or 127)
 *     guest > STDIN_CREDIT  u32: the host may send that many more bytes of STDIN
 *     host  > STDIN         within the credit; so that SIGNAL and RESIZE never queue behind unread input
 *     host  > STDIN_EOF     | RESIZE rows, columns | SIGNAL u32 (WIRE_SIGNAL_GROUP added: to the process and its children)
 *     host  > DETACH        no more output is wanted; if the host closes, the process keeps its terminal
 *     guest > STDOUT, STDERR
 *     guest > EXIT          u32 status (0-255, 128+N for signal N; WIRE_EXIT_OOM added when the kernel killed it for
 *                           want of memory), after the last output byte; then closes
 *
 * SIGNAL has the effect that it would have on an ordinary process, although the workload is init of its namespace: one
 * that it neither handles, blocks nor ignores ends it (guest/signals.h).
 *
 * QUERY (the same port: a connection whose first frame is one of these is none of a process; any number, answered in turn)
 *
 *     host  > UPDATE        struct wire_limits: all of the box's limits, in place of those it has
 *     host  > NETWORK       struct wire_network: what is to be, in place of what is
 *     host  > GET_STATS     | GET_TASKS
 *     guest > DONE          to UPDATE and NETWORK                                           | FAIL, text says why
 *     guest > STATS         struct wire_stats
 *     guest > TASKS         struct wire_task of each process of the box, at most WIRE_TASKS_MAX
 *
 * FORWARD (the same port; a connection of its own for each)
 *
 *     host  > FORWARD       struct wire_forward
 *     guest > DONE          connected: from here on both ways are the bytes of the connection, without frames | FAIL
 *
 * FREEZE (the same port; a connection of its own)
 *
 *     host  > FREEZE        writes wait, and everything written so far is on the scratch disk, as after an unmount. While another
 *                           connection's FREEZE lasts, this one waits for its end, for 10 s
 *     guest > DONE          until the host closes, or WIRE_FREEZE_MAX_S have passed: then the guest closes | FAIL
 *     host  > FREEZE        again, when it has its copy
 *     guest > DONE          nothing was written all the time; from here on it may be, and the guest closes | FAIL. Without this
 *                           DONE the copy is worth nothing: the guest's closing comes after it has thawed
 *
 * COPY (the same port; a connection of its own for each). Paths are the box's, seen with its mounts; links in them are
 * followed inside of it.
 *
 *     host  > COPY_OUT      struct wire_copy
 *     guest > DONE          then a tree (wire/tree.h): what is at the path | FAIL, its status an errno of Linux. What is mounted
 *                           at /proc, /sys and /dev comes as empty folders, unless it is at the path, or the path leads there
 *
 *     host  > COPY_IN       struct wire_copy
 *     guest > DONE          the host sends a tree, which is put at the path | FAIL likewise
 *     guest > DONE          all of it is there | FAIL: it is there in part
 *
 * If the host closes first, the process loses its input (and, without DETACH, its terminal: SIGHUP) and runs on. Output is
 * flow-controlled by the stream: a host that does not read makes the process wait.
 */
#ifndef WIRE_WIRE_H
#define WIRE_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/strv.h"

#define WIRE_VERSION	  1
#define WIRE_PORT_CONTROL 4088
#define WIRE_PORT_SESSION 4089

#define WIRE_HEADER_SIZE   5
#define WIRE_DATA_MAX	   65536   /* bytes in one STDIN, STDOUT or STDERR frame */
#define WIRE_MESSAGE_MAX   4194304 /* bytes in one message: argv and environment may be 2 MiB each in Linux */
#define WIRE_STDIN_WINDOW  262144  /* bytes of STDIN outstanding at most */
#define WIRE_LIST_MAX	   65536   /* entries of one repeated field */
#define WIRE_TASKS_MAX	   4096	   /* processes that a TASKS lists; further ones are left out */
#define WIRE_TASK_ARGS_MAX 512	   /* bytes of a process's command line in it */
#define WIRE_SECCOMP_MAX   32768   /* bytes of a seccomp filter: BPF_MAXINSNS instructions */
#define WIRE_RLIMITS_MAX   16
#define WIRE_EXIT_OOM	   0x10000u
#define WIRE_SIGNAL_GROUP \
	0x100u /* to the process group; what is left of it when the process ends is killed */

enum wire_type {
	WIRE_HELLO = 0x01,
	WIRE_CONFIG = 0x02,
	WIRE_READY = 0x03,
	WIRE_FAIL = 0x04, /* message: status, text */
	WIRE_SIGNAL = 0x05,
	WIRE_PING = 0x06,
	WIRE_PONG = 0x07,
	WIRE_SHUTDOWN = 0x08,
	WIRE_BYE = 0x09,

	WIRE_START = 0x20,
	WIRE_STARTED = 0x21, /* u32: PID as the workload sees it */
	WIRE_STDIN = 0x22,
	WIRE_STDIN_EOF = 0x23,
	WIRE_STDIN_CREDIT = 0x24,
	WIRE_STDOUT = 0x25,
	WIRE_STDERR = 0x26,
	WIRE_RESIZE = 0x27, /* u16 BE rows, u16 BE columns */
	WIRE_EXIT = 0x28,
	WIRE_DETACH = 0x29,

	WIRE_UPDATE = 0x30,
	WIRE_DONE = 0x31,
	WIRE_GET_STATS = 0x32,
	WIRE_STATS = 0x33,
	WIRE_GET_TASKS = 0x34,
	WIRE_TASKS = 0x35,
	WIRE_NETWORK = 0x36,
	WIRE_FORWARD = 0x37,
	WIRE_FREEZE = 0x38,
	WIRE_COPY_OUT = 0x39,
	WIRE_COPY_IN = 0x3a,

	/* A tree of files, see wire/tree.h. */
	WIRE_ENTRY = 0x50,
	WIRE_CONTENT = 0x51, /* u64 BE offset, then 1 to WIRE_DATA_MAX bytes of the last entry's content */
	WIRE_TREE_END = 0x52,

	/* Client to supervisor only; never valid on a guest connection. See box/ctl.h. */
	WIRE_CTL_REQUEST = 0x40,
	WIRE_CTL_REPLY = 0x41,
};

/* Largest payload of a type in bytes; -1 for an unknown type. */
int64_t wire_max_payload(uint8_t type);

/* A resource limit, as of prlimit(2); RLIM_INFINITY is UINT64_MAX on both sides. */
struct wire_rlimit {
	uint32_t resource; /* RLIMIT_* of Linux on x86 and arm */
	uint64_t soft, hard;
};

/* A process to start in the guest. Strings may be NULL (absent). */
struct wire_process {
	bool main;	     /* the workload: its end is the box's end. Exactly one per boot, the first. */
	bool tty;	     /* allocate a pseudo terminal; standard error joins standard output */
	bool open_stdin;     /* else standard input is /dev/null (ignored with tty) */
	struct strv argv;    /* at least one entry; argv[0] is searched in PATH of env, inside the box */
	struct strv env;     /* complete; the guest adds HOME, and TERM with tty, when absent */
	char *cwd;	     /* absolute; created for the workload when missing, as Docker does */
	char *user;	     /* "", name or UID, optionally ":group or GID" */
	struct strv groups;  /* supplementary groups beside those of /etc/group: names or GIDs */
	uint16_t rows, cols; /* initial terminal size, 0 if unknown */

	uint64_t caps; /* bounding set, a bit per capability; what root gets by execve */
	bool no_new_privileges;
	bool init;	   /* main only: a small init runs it, reaps orphans and passes signals on */
	int oom_score_adj; /* -1000 to 1000 */
	struct wire_rlimit rlimits[WIRE_RLIMITS_MAX];
	size_t n_rlimits;
	uint8_t *seccomp;   /* struct sock_filter[], for the guest's architecture; NULL: no filter */
	size_t seccomp_len; /* bytes */
};
void wire_process_done(struct wire_process *p);

/* Limits of the box's cgroup in the guest. 0 means none, but where said otherwise. */
struct wire_limits {
	uint64_t cpu_shares;		      /* Docker's: 2 to 262144, 1024 is usual */
	uint64_t cpu_quota_us, cpu_period_us; /* CPU time per period; period 0: 100000 */
	char *cpuset;			      /* list of CPUs, "0-2,4"; NULL: all */
	uint64_t mem_max, mem_reservation;    /* bytes */
	uint64_t swap_max;		      /* bytes of swap beside memory; UINT64_MAX: none set */
	uint64_t pids_max;
};
void wire_limits_done(struct wire_limits *l);
int wire_limits_copy(struct wire_limits *dst, const struct wire_limits *src); /* 0 or -ENOMEM */

/* What the box has used since it started, and uses now. Times in ns, sizes in bytes. */
struct wire_stats {
	uint64_t uptime_ns; /* of the guest */
	uint64_t cpu_usage_ns, cpu_user_ns, cpu_system_ns, cpu_throttled_ns;
	uint64_t cpus; /* online */
	uint64_t mem_usage,
		mem_cache;  /* cache: the part of usage that is file pages not used of late (inactive_file) */
	uint64_t mem_limit; /* the box's, else the guest's memory */
	uint64_t blk_read, blk_written, net_received, net_sent;
	uint64_t pids, pids_limit;
	uint64_t oom_kills;
};

/* One process of the box, numbers as the box sees them. */
struct wire_task {
	uint32_t pid, ppid, uid, gid, threads;
	int32_t nice;
	char state;		   /* as in /proc/PID/stat */
	uint64_t start_ns;	   /* since the guest's boot */
	uint64_t cpu_ns, vsz, rss; /* bytes */
	char *tty;		   /* "pts/0", NULL: none */
	char *name;		   /* /proc/PID/comm */
	char *args; /* command line, arguments joined by spaces, cut to WIRE_TASK_ARGS_MAX; "" for none */
};
struct wire_tasks {
	struct wire_task *v;
	size_t n;
};
void wire_tasks_done(struct wire_tasks *t);

/*
 * An interface of the box: link 0 of the network device itself, or a VLAN of it whose ID is the link (virtio/net.h).
 * Addresses as text, NULL for none; prefixes in bits.
 */
#define WIRE_NICS_MAX 8
struct wire_nic {
	uint32_t link;
	char *name; /* "eth0" */
	char *ip4, *ip6;
	uint32_t prefix4, prefix6;
	char *gateway4, *gateway6; /* of the default route; at most one interface has them */
	uint32_t mtu;
};
/* What the box has of networks, all of it: from CONFIG at first, then from each NETWORK. */
struct wire_network {
	struct wire_nic nics[WIRE_NICS_MAX];
	size_t n_nics;
	struct strv hosts; /* lines of /etc/hosts after localhost's */
	char *resolv_conf; /* content, NULL: leave the image's file */
};
void wire_network_done(struct wire_network *n);

/* A connection to make inside the guest, in the box's view of it. */
struct wire_forward {
	char *address; /* NULL: 127.0.0.1, and then ::1 */
	uint16_t port; /* TCP */
};
void wire_forward_done(struct wire_forward *f);

/*
 * What is at `path` itself is the tree's root, whose entry has the path "". Where `path` ends with "/." or "/", or follow is set,
 * a link there is followed.
 */
struct wire_copy {
	char *path;	 /* absolute */
	bool follow;	 /* a link at the path is followed */
	bool no_content; /* OUT: only the root's entry comes, without content: what is it? */
	/*
	 * IN: the root's entry is made at `path`, in the folder that contains it, which must be there. A folder that is there
	 * already is kept as it is and filled, unless its attributes are to be taken over too. A file replaces a file, never a
	 * folder; nothing but a folder is ever put in the place of one.
	 */
	bool keep_owner; /* IN: entries keep their owners; else all belong to root */
	bool root_attr;	 /* IN: a root folder that is there gets the entry's mode, owner and times */
	bool durable; /* IN: what would be in memory (tmpfs), and gone with the machine, is refused: ENOMEDIUM */
};
void wire_copy_done(struct wire_copy *c);

/* A folder or file of the host in the box, by the export of its file server (fs.h of the room fs). */
#define WIRE_MOUNTS_MAX	  128
#define WIRE_MOUNTS_TAG	  "a3s" /* of the virtio-fs device whose root has the exports, named by their numbers */
#define WIRE_FREEZE_MAX_S 60
struct wire_mount {
	char *target; /* absolute; links are followed inside of the box, what is missing is made */
	bool read_only;
	bool file;     /* a file, not a folder */
	char *subpath; /* below the export; NULL: itself. Made when missing (folders only) */
};
void wire_mount_done(struct wire_mount *m);

/* What the guest needs before the first process. */
struct wire_config {
	char *hostname;
	struct wire_network network;
	int64_t real_ns;     /* wall-clock time for a guest without a clock, 0: do not set */
	uint8_t entropy[32]; /* credited to the guest's random pool */
	bool read_only;	     /* root file system without the writable layer */

	struct wire_limits limits;
	uint64_t shm_bytes; /* size of /dev/shm, 0: 64 MiB */
	struct strv tmpfs;  /* "/path" or "/path:mount options", as in Docker's --tmpfs */
	struct wire_mount
		*mounts; /* mounts[i] is export i. With tmpfs: those that contain others are mounted first */
	size_t n_mounts;
	struct strv sysctls; /* "net.ipv4.ip_forward=1" */
	struct strv devices; /* "/dev/x:/dev/y:rwm": of the guest, to be seen in the box */
	bool privileged;     /* all devices, and writable /sys, /proc/sys and cgroup */
	bool unmasked;	     /* no path of /proc and /sys is hidden or read-only (privileged implies it) */
	bool user_namespace; /* root in the box is nobody outside it */
};
void wire_config_done(struct wire_config *c);

struct wire_hello {
	uint32_t version;
	char *release; /* uname -r of the guest */
};
void wire_hello_done(struct wire_hello *h);

/* ---- writing: appends one whole frame to out. 0, -ENOMEM, or -EMSGSIZE ---- */
int wire_put(struct buf *out, enum wire_type type, const void *payload, size_t len);
int wire_put_u32(struct buf *out, enum wire_type type, uint32_t value);
int wire_put_resize(struct buf *out, uint16_t rows, uint16_t cols);
int wire_put_fail(struct buf *out, uint32_t status, const char *text);
int wire_put_hello(struct buf *out, const struct wire_hello *h);
int wire_put_config(struct buf *out, const struct wire_config *c);
int wire_put_process(struct buf *out, const struct wire_process *p); /* START */
int wire_put_limits(struct buf *out, const struct wire_limits *l);   /* UPDATE */
int wire_put_network(struct buf *out, const struct wire_network *n);
int wire_put_forward(struct buf *out, const struct wire_forward *f);
int wire_put_copy(struct buf *out, enum wire_type type, const struct wire_copy *c); /* COPY_OUT, COPY_IN */
int wire_put_stats(struct buf *out, const struct wire_stats *s);
int wire_put_tasks(struct buf *out, const struct wire_tasks *t);

/* ---- reading ---- */
struct wire_frame {
	uint8_t type;
	uint32_t len;
	const uint8_t *payload; /* points into the buffer given to wire_next */
};

/*
 * Looks at the first frame in `in` without consuming it. Returns 1 and fills *ret when it is complete (then
 * call wire_consume), 0 when more bytes are needed, -EBADMSG for an unknown type or a length over its limit:
 * the header alone decides, so that nothing oversized is ever buffered.
 */
int wire_next(const struct buf *in, struct wire_frame *ret);
void wire_consume(struct buf *in, const struct wire_frame *f);

/*
 * Payload decoders. Return 0, -EBADMSG for a malformed payload, -ENOMEM. On failure *ret is empty and
 * needs no release.
 */
int wire_get_u32(const struct wire_frame *f, uint32_t *ret);
int wire_get_resize(const struct wire_frame *f, uint16_t *rows, uint16_t *cols);
int wire_get_fail(const struct wire_frame *f, uint32_t *status, char **text); /* text malloc'd, never NULL */
int wire_get_hello(const struct wire_frame *f, struct wire_hello *ret);
int wire_get_config(const struct wire_frame *f, struct wire_config *ret);
int wire_get_process(const struct wire_frame *f, struct wire_process *ret);
int wire_get_limits(const struct wire_frame *f, struct wire_limits *ret);
int wire_get_network(const struct wire_frame *f, struct wire_network *ret);
int wire_get_forward(const struct wire_frame *f, struct wire_forward *ret);
int wire_get_copy(const struct wire_frame *f, struct wire_copy *ret);
int wire_get_stats(const struct wire_frame *f, struct wire_stats *ret);
int wire_get_tasks(const struct wire_frame *f, struct wire_tasks *ret);

/* ---- messages of other rooms in the same field format ---- */
int wire_field_u64(struct buf *msg, uint8_t tag, uint64_t value);
int wire_field_str(struct buf *msg, uint8_t tag, const char *s); /* NULL: nothing written */
int wire_field_bytes(struct buf *msg, uint8_t tag, const void *data, size_t len);

struct wire_field {
	uint8_t tag;
	uint32_t len;
	const uint8_t *data;
};
/* Takes the next field off *p. Returns 1, 0 at the end, -EBADMSG. */
int wire_field_next(const uint8_t **p, const uint8_t *end, struct wire_field *ret);
int wire_field_get_u64(const struct wire_field *f, uint64_t *ret);
/* malloc'd copy into *ret, freeing what it held; -EBADMSG if a NUL is inside. */
int wire_field_get_str(const struct wire_field *f, char **ret);

#endif
