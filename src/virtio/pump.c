/* SPDX-License-Identifier: MIT */
#include "pump.h"

#include <string.h>

#include "base/cleanup.h"

void pump_notify(struct virtio_device *d, unsigned queue)
{
	if (d->transport_ops && vq_should_notify(&d->vqs[queue]))
		d->transport_ops->notify_driver(d->transport, queue);
}

void pump_config_changed(struct virtio_device *d)
{
	if (d->transport_ops && d->transport_ops->config_changed)
		d->transport_ops->config_changed(d->transport);
}

/* 2.1.2: after an error that only a reset mends, nothing more is done for the driver on any queue. */
static enum pump_end queue_broken(struct virtio_device *d, unsigned queue)
{
	const char *why = d->vqs[queue].why;

	for (unsigned i = 0; i < d->n_queues; i++)
		vq_break(&d->vqs[i], why);
	if (d->transport_ops)
		d->transport_ops->needs_reset(d->transport, queue, why);
	return PUMP_BROKEN;
}

enum pump_end pump_run(
	struct virtio_device *d, unsigned queue, struct vq_chain *scratch, unsigned budget, pump_fn fn)
{
	struct vq *q = &d->vqs[queue];
	enum pump_end end = PUMP_MORE;
	bool pushed = false;

	if (!vq_usable(q))
		return PUMP_EMPTY;
	vq_disable_notify(q);
	while (end == PUMP_MORE && budget > 0) {
		uint32_t written = 0;
		int r = vq_pop(q, scratch);
		if (r < 0)
			return queue_broken(d, queue);
		if (r == 0) {
			if (!vq_enable_notify(q))
				end = PUMP_EMPTY;
			else
				vq_disable_notify(q);
			continue;
		}
		budget--;
		switch (fn(d, queue, scratch, &written)) {
		case PUMP_USED:
			vq_push(q, scratch->head, written);
			pushed = true;
			break;
		case PUMP_HOLD:
			end = PUMP_STOPPED;
			break;
		case PUMP_LATER:
			vq_unpop(q);
			end = PUMP_STOPPED;
			break;
		}
	}
	if (pushed)
		pump_notify(d, queue);
	return end;
}

void pump_read_config(const void *config, size_t config_len, uint32_t off, void *buf, uint32_t len)
{
	memset(buf, 0, len);
	if (off < config_len)
		memcpy(buf, (const uint8_t *)config + off, MIN_OF(len, config_len - off));
}
