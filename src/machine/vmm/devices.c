/* SPDX-License-Identifier: MIT */
/* The devices of a box's machine. Their order decides names in the guest (/dev/vda first) and the layout of snapshots. */
#include "vmm.h"

#include <endian.h>
#include <fcntl.h>
#include <string.h>

#include "base/io.h"
#include "base/log.h"

/* What a peer gets to take what is left for it after the guest's end. */
enum { DRAIN_LIMIT_MS = 2000, DRAIN_STEP_MS = 20 };

int vmm_open_vsock(struct vmm *v, struct err *e)
{
	if (fchdir(VMM_FD_VSOCK_DIR) < 0)
		return err_sys(e, -errno, "vsock folder");
	close(VMM_FD_VSOCK_DIR); /* an open folder would lead out of the jail */
	int r = vsock_new(v->loop, AT_FDCWD, &v->vsock);
	return r < 0 ? err_sys(e, r, "cannot set up the vsock device") : 0;
}

static int filter_disk_thread(void *data)
{
	return jail_filter(JAIL_DISK);
}

static int add(struct vmm *v, struct virtio_device *d, struct err *e)
{
	struct virtio_mmio **slot = &v->mmio[v->n_mmio];
	int r = virtio_mmio_new(v->loop, d, vm_mem(v->vm), slot);

	if (r < 0)
		return err_sys(e, r, "virtio device %u", (unsigned)d->id);
	v->n_mmio++;
	return vm_add_device(v->vm, *slot, e);
}

static int add_disk(struct vmm *v, unsigned i, struct err *e)
{
	const struct blk_config c = {
		.fd = VMM_FD_DISKS + (int)i,
		.read_only = v->o.read_only[i],
		.n_queues = v->o.vcpus < BLK_QUEUES_MAX ? v->o.vcpus : BLK_QUEUES_MAX,
		.on_thread = filter_disk_thread,
	};
	int r = blk_new(&c, &v->disks[i], e);
	return r < 0 ? r : add(v, blk_device(v->disks[i]), e);
}

/* With the peers that are there already. */
static int add_net(struct vmm *v, struct err *e)
{
	int fd = vmm_fd_net(&v->o);

	if (v->o.net.mtu == 0)
		return 0;
	int r = net_new(v->loop, &v->o.net, &v->net);
	for (unsigned i = 0; r == 0 && i < NET_LINKS_MAX; i++) {
		if (v->o.links & 1u << i)
			r = net_connect(v->net, i, fd++);
	}
	if (r < 0)
		return err_sys(e, r, "cannot set up the network device");
	net_on_disconnect(v->net, vmm_control_net_gone, v);
	return add(v, net_device(v->net), e);
}

/* The guest waits for answers that nobody gives any more: its supervisor ends the run. */
static void on_fs_gone(void *data, const char *why)
{
	struct vmm *v = data;

	log_error("the file server: %s", why);
	loop_quit(v->loop, 1);
}

/* Served by another process (virtio 1.2 section 5.11.4 has the configuration). */
static int add_fs(struct vmm *v, struct err *e)
{
	struct {
		char tag[VMM_FS_TAG_MAX];
		uint32_t num_request_queues;
	} space = {.num_request_queues = htole32(FS_REQUEST_QUEUES)};

	if (!v->o.fs_tag)
		return 0;
	memcpy(space.tag, v->o.fs_tag, strlen(v->o.fs_tag)); /* no longer: options */
	const struct vhost_front_config c = {.id = VIRTIO_ID_FS,
		.features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX,
		.n_queues = 1 + FS_REQUEST_QUEUES, /* and one of high priority: 5.11.2 */
		.space = &space,
		.space_len = sizeof(space),
		.mem = vm_mem(v->vm),
		.mem_fd = vm_mem_fd(v->vm),
		.on_gone = on_fs_gone,
		.data = v};
	int r = vhost_front_new(v->loop, &c, vmm_fd_fs(&v->o), &v->fs);
	return r < 0 ? err_sys(e, r, "cannot set up the file system device")
		     : add(v, vhost_front_device(v->fs), e);
}

int vmm_add_devices(struct vmm *v, struct err *e)
{
	const struct console_config console = {.in_fd = -1, .out_fd = STDOUT_FILENO};
	const struct balloon_config balloon = {
		.mem_bytes = v->o.mem_bytes, .discard = vm_discard, .data = v->vm};
	int r = 0;

	for (unsigned i = 0; r == 0 && i < v->o.n_disks; i++)
		r = add_disk(v, i, e);
	if (r < 0)
		return r;
	if (console_new(v->loop, &console, &v->console) < 0 || rng_new(v->loop, &v->rng) < 0 ||
		balloon_new(v->loop, &balloon, &v->balloon) < 0)
		return err_oom(e);
	r = add(v, console_device(v->console), e);
	if (r == 0)
		r = add(v, vsock_device(v->vsock), e);
	if (r == 0)
		r = add(v, rng_device(v->rng), e);
	if (r == 0)
		r = add(v, balloon_device(v->balloon), e);
	if (r == 0)
		r = add_net(v, e);
	if (r == 0)
		r = add_fs(v, e);
	return r;
}

void vmm_drain(struct vmm *v)
{
	/* Stopping a queue takes what the driver has put into it. */
	for (unsigned i = 0; i < v->n_mmio; i++)
		virtio_mmio_free(TAKE_PTR(v->mmio[i]));
	v->n_mmio = 0;
	for (int ms = 0; ms < DRAIN_LIMIT_MS && vsock_unsent(v->vsock); ms += DRAIN_STEP_MS) {
		if (loop_turn(v->loop, DRAIN_STEP_MS) < 0)
			break;
	}
}

void vmm_device_stats(const struct vmm *v, struct machine_stats *s)
{
	for (unsigned i = 0; i < v->n_mmio; i++) {
		struct virtio_mmio_stats m;
		virtio_mmio_stats(v->mmio[i], &m);
		s->kicks += m.kicks;
		s->interrupts += m.interrupts;
	}
	for (unsigned i = 0; i < v->o.n_disks; i++) {
		struct blk_stats b;
		blk_stats(v->disks[i], &b);
		s->kicks += b.kicks;
		s->disk_requests += b.requests;
		s->disk_read_bytes += b.read_bytes;
		s->disk_write_bytes += b.write_bytes;
	}
}
