/* SPDX-License-Identifier: MIT */
#include "ctl.h"

enum { REQ_OP = 1, REQ_STDIN = 2, REQ_SIGNAL = 3, REQ_TIMEOUT = 4, REQ_DISCARD = 5, REQ_NETWORKS = 6 };
enum { REPLY_CODE = 1, REPLY_TEXT = 2 };

int box_put_request(struct buf *out, const struct box_request *r)
{
	struct buf msg = {0};
	int res = wire_field_u64(&msg, REQ_OP, r->op);
	if (res == 0)
		res = wire_field_u64(&msg, REQ_STDIN, r->attach_stdin);
	if (res == 0)
		res = wire_field_u64(&msg, REQ_SIGNAL, (uint64_t)r->signal);
	if (res == 0)
		res = wire_field_u64(&msg, REQ_TIMEOUT, r->timeout_ns);
	if (res == 0)
		res = wire_field_u64(&msg, REQ_DISCARD, r->discard);
	if (res == 0)
		res = wire_field_u64(&msg, REQ_NETWORKS, r->networks);
	if (res == 0)
		res = wire_put(out, WIRE_CTL_REQUEST, buf_data(&msg), msg.len);
	buf_done(&msg);
	return res;
}

int ctl_get_request(const struct wire_frame *f, struct box_request *ret)
{
	const uint8_t *p = f->payload, *end = p + f->len;
	struct box_request req = {0};
	struct wire_field field;
	uint64_t v;
	int r;

	while ((r = wire_field_next(&p, end, &field)) > 0) {
		if (field.tag < REQ_OP || field.tag > REQ_NETWORKS)
			continue;
		r = wire_field_get_u64(&field, &v);
		if (r < 0)
			return r;
		if (field.tag == REQ_OP && v >= BOX_OP_ATTACH && v <= BOX_OP_EXEC)
			req.op = (enum box_op)v;
		else if (field.tag == REQ_STDIN)
			req.attach_stdin = v != 0;
		else if (field.tag == REQ_SIGNAL && v <= 64)
			req.signal = (int)v;
		else if (field.tag == REQ_TIMEOUT)
			req.timeout_ns = v;
		else if (field.tag == REQ_DISCARD)
			req.discard = v != 0;
		else if (field.tag == REQ_NETWORKS)
			req.networks = v != 0;
	}
	if (r < 0 || req.op == 0)
		return -EBADMSG;
	if (req.signal == 0 && (req.op == BOX_OP_STOP || req.op == BOX_OP_SIGNAL || req.op == BOX_OP_RESTART))
		return -EBADMSG; /* the guest would take it for a broken protocol */
	*ret = req;
	return 0;
}

int ctl_put_reply(struct buf *out, int code, const char *text)
{
	struct buf msg = {0};
	int r = wire_field_u64(&msg, REPLY_CODE, (uint64_t)-code);
	if (r == 0)
		r = wire_field_str(&msg, REPLY_TEXT, text);
	if (r == 0)
		r = wire_put(out, WIRE_CTL_REPLY, buf_data(&msg), msg.len);
	buf_done(&msg);
	return r;
}

int ctl_get_reply(const struct wire_frame *f, struct err *e)
{
	const uint8_t *p = f->payload, *end = p + f->len;
	struct wire_field field;
	CLEANUP_FREE char *text = NULL;
	uint64_t code = 0;
	int r;

	while ((r = wire_field_next(&p, end, &field)) > 0) {
		if (field.tag == REPLY_CODE)
			r = wire_field_get_u64(&field, &code);
		else if (field.tag == REPLY_TEXT)
			r = wire_field_get_str(&field, &text);
		if (r < 0)
			break;
	}
	if (r < 0 || code > 4095)
		return err_set(e, -EBADMSG, "the supervisor's answer is malformed");
	if (code == 0)
		return 0;
	return text ? err_set(e, -(int)code, "%s", text) : err_sys(e, -(int)code, "refused");
}
