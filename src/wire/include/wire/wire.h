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
 *     host  > STDIN_EOF     | RESIZE rows, columns | SIGNAL u32
 *     guest > STDOUT, STDERR
 *     guest > EXIT          u32 status (0-255, 128+N for signal N), after the last output byte; then closes
 *
 * SIGNAL has the effect that it would have on an ordinary process, although the workload is init of its namespace: one
 * that it neither handles, blocks nor ignores ends it (guest/signals.h).
 *
 * If the host closes first, the process loses its input (and its terminal: SIGHUP) and runs on. Output is
 * flow-controlled by the stream: a host that does not read makes the process wait.
 */
#ifndef WIRE_WIRE_H
#define WIRE_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/cleanup.h"

#define WIRE_VERSION	  1
#define WIRE_PORT_CONTROL 4088
#define WIRE_PORT_SESSION 4089

#define WIRE_HEADER_SIZE  5
#define WIRE_DATA_MAX	  65536	  /* bytes in one STDIN, STDOUT or STDERR frame */
#define WIRE_MESSAGE_MAX  4194304 /* bytes in one message: argv and environment may be 2 MiB each in Linux */
#define WIRE_STDIN_WINDOW 262144  /* bytes of STDIN outstanding at most */
#define WIRE_LIST_MAX	  65536	  /* entries of one repeated field */

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

	/* Client to supervisor only; never valid on a guest connection. See box/ctl.h. */
	WIRE_CTL_REQUEST = 0x40,
	WIRE_CTL_REPLY = 0x41,
};

/* Largest payload of a type in bytes; -1 for an unknown type. */
int64_t wire_max_payload(uint8_t type);

/* A list of strings, owned, with a NULL behind the last so that v can serve as argv. */
struct strv {
	char **v;
	size_t n;
};
int strv_push(struct strv *s, const char *str); /* 0 or -ENOMEM */
int strv_copy(struct strv *dst, const struct strv *src);
void strv_done(struct strv *s);
/* Sets NAME=value in an environment list, replacing an earlier NAME. kv holds "NAME=value". 0 or -ENOMEM. */
int strv_setenv(struct strv *s, const char *kv);
/* Value of NAME in an environment list, or NULL. */
const char *strv_getenv(const struct strv *s, const char *name);

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
};
void wire_process_done(struct wire_process *p);

/* What the guest needs before the first process. */
struct wire_config {
	char *hostname;
	struct strv hosts;   /* lines of /etc/hosts after localhost's */
	char *resolv_conf;   /* content, NULL: leave the image's file */
	int64_t real_ns;     /* wall-clock time for a guest without a clock, 0: do not set */
	uint8_t entropy[32]; /* credited to the guest's random pool */
	bool read_only;	     /* root file system without the writable layer */
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
