/* SPDX-License-Identifier: MIT */
/*
 * The supervisor's part in networks (private to sup-*.c).
 *
 * THEORY OF OPERATION
 *
 * A box has a link for each network that it is on, and for each a netd (net/net.h) that is the other end: a process of its own
 * for the default network, our child; the shared one of a network that was made. Two connections lead there: the control
 * connection, whose end means that netd is gone, and the frames' socket, of which the machine's device has the other end.
 *
 *     DOWN     nothing; the timer, if set, is the time of the next attempt
 *     ASKED    netd was asked to attach the box, and has not answered yet
 *     UP       attached. The machine has the socket, or gets it as soon as it takes it (taking)
 *
 * A link that is lost goes DOWN and is made again, after a moment that grows; nothing else of the box notices but that frames
 * are lost. Attempts never wait: netd's socket listens before its program runs.
 *
 * At the start of a run the sockets are made first, the machine is started with its ends, and netd is started and asked while
 * the guest boots. The workload starts when all links are up (sup_net_ready): what it sends first has a network.
 *
 * Published ports are bound, and listen, before anything else happens, and are ours until the supervisor ends: neither a
 * restart nor netd's death loses one, and connections wait meanwhile. One link's netd, the publisher, has copies of them.
 *
 * That the box's networks were changed (BOX_OP_RELOAD) is acted upon one change at a time: what is new is attached first, then
 * the guest is told (NETWORK), then what is not wanted any more goes. Whatever fails before the last step is undone, but for
 * what the guest was told: it is told what is, as a change of its own, until it has answered (guest_stale).
 *
 * A private netd is not killed when its link ends: it may have frames yet that the box sent last. It ends by itself when it
 * has passed them on, as its connections are closed, or is killed a moment later (s->leaving).
 */
#ifndef BOX_SUP_NET_H
#define BOX_SUP_NET_H

#include "box/network.h"
#include "supervisor.h"

#define SUP_NET_START_LIMIT_NS	60000000000ull /* until all links are up, before the workload starts */
#define SUP_NET_ANSWER_LIMIT_NS 20000000000ull /* for netd, or the guest, to answer */
#define SUP_NET_RETRY_MIN_NS	5000000ull     /* between attempts, doubled each time */
#define SUP_NET_RETRY_MAX_NS	2000000000ull
#define SUP_NET_RETRY_HUNG_NS	60000000000ull /* at most, to one that takes connections and does not answer */
#define SUP_NET_LEAVE_NS	300000000ull   /* for a private netd to end by itself */
#define SUP_NET_REPAIR_MIN_NS \
	1000000000ull /* between attempts to tell a guest that did not answer, doubled */
#define SUP_NET_REPAIR_MAX_NS 60000000000ull

/*
 * Messages of a netd in a second, beyond which the link is lost: it was taken over, and keeps us busy. More than its socket
 * holds, so that what waited while we did something else is not too much; a sane one says some thirty.
 */
#define SUP_NET_MESSAGES 1000

/* Denials in the audit log, of each direction: so many at once, then one each so often; what is left out is counted. */
#define SUP_NET_DENIALS		 50
#define SUP_NET_DENIAL_REFILL_NS 10000000000ull
/* The same for warnings in supervisor.log. */
#define SUP_NET_WARNINGS	  20
#define SUP_NET_WARNING_REFILL_NS 600000000000ull

struct sup_bucket {
	unsigned tokens;
	uint64_t filled_ns, left_out;
};

enum sup_link_phase { LINK_DOWN, LINK_ASKED, LINK_UP };

struct sup_link {
	struct sup_net *net;
	bool used;
	bool fresh;  /* of the change under way: not told to the guest yet */
	bool doomed; /* of the change under way: to go with its last step */
	bool stale;  /* netd does not have the names of now */
	enum sup_link_phase phase;
	struct box_endpoint *ep;
	struct box_network *network; /* its record; NULL: the default one */

	int control;
	struct loop_source *control_io, *timer; /* timer: DOWN: the next attempt; ASKED: its limit */
	uint64_t delay_ns, up_ns;		/* the last delay; monotonic */
	uint64_t second_ns;			/* when the second began of which the messages are counted */
	unsigned n_messages;
	unsigned n_hung;   /* answers that did not come, one after the other */
	int pidfd;	   /* of a netd of our own, -1 */
	int peer;	   /* netd's end, until it was sent; -1 */
	size_t ports_sent; /* if it is the publisher */

	int taking; /* the machine's end, until it took it; -1 */
	bool drop;  /* the machine is to give its present one up first */
};

struct sup_net {
	struct supervisor *s;
	struct sup_link links[BOX_LINKS_MAX];
	struct sup_link *publisher;  /* NULL: no link, or no ports */
	struct sup_link *connecting; /* the machine was asked about it, and has not answered yet */
	bool giving;		     /* to take a socket for it; else to give one up */
	bool machine_runs;
	struct loop_source
		*pump; /* deferred: what the machine answers at once must find nobody in the middle */
	struct loop_source *limit; /* of the start; then of a change */
	char *name;		   /* the box's, as netds know it */
	char why[ERR_MSG_MAX];	   /* the last attempt's error */

	struct box_listener *ports; /* held as long as we live */
	size_t n_ports;

	/* A change. */
	bool again; /* the record is to be looked at, once that is possible: whoever asked may be gone by then */
	bool guest_stale;	    /* the guest was told something that it may not be */
	struct loop_source *repair; /* while it is, and nothing is under way */
	uint64_t repair_ns;	    /* the last delay */
	bool changing;
	int64_t change; /* its number in the record */
	bool guest_asked;
	int guest_fd;
	struct handshake handshake;
	struct loop_source *guest_io;
	struct wire_conn *guest;

	struct sup_bucket denials[NET_DIRECTIONS], warnings;
};

/* ---- sup-net.c: links ---- */
/* Starts or continues to make it; why it does not work now is in net->why, and it is tried again. */
void sup_link_begin(struct sup_link *l);
/* Takes it down for good. */
void sup_link_end(struct sup_link *l);
/* Lets the publisher's netd have what it does not have yet; chooses a publisher if there is none. */
void sup_net_publish(struct sup_net *net);
/* An endpoint with its network's record, as a link that is down. The endpoint moves in. 0 or -errno. */
int sup_link_set(struct sup_net *net, struct box_endpoint *ep, struct err *e);
/* A link was attached, the machine took a socket, or one of them failed: the change goes on. */
void sup_net_progress(struct sup_net *net);

/* ---- sup-net-ask.c: what is said to netd, and what it says ---- */
/* Asks to attach; l->peer is sent. 0 or -errno. */
int sup_link_ask(struct sup_link *l, struct err *e);
/* Sends the next ports. 1; 0: it has all; or -errno. */
int sup_link_send_ports(struct sup_link *l, struct err *e);
/* Names and aliases, if they are stale and it is attached; what cannot be sent now is with the next answer. */
void sup_link_tell_names(struct sup_link *l);
/* Connects to its netd, started if need be. fd; -EAGAIN: not yet; or -errno. */
int sup_link_connect(struct sup_link *l, struct err *e);
/* Something that is no answer: a denial. */
void sup_link_event(struct sup_link *l, const char *text, size_t len);
/* One line in supervisor.log, unless there have been too many. */
void sup_net_warn(struct sup_net *net, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- sup-net-change.c ---- */
void sup_net_change_step(struct sup_net *net);
/* It cannot be done, or not any more: what was done of it is undone. */
void sup_net_change_failed(struct sup_net *net, int code, const char *why);
void sup_net_change_drop(struct sup_net *net);

#endif
