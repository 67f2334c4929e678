/* SPDX-License-Identifier: MIT */
#include "machine-parts.h"

#include <stdlib.h>

#include "base/io.h"

void machine_parts_done(struct machine_parts *p)
{
	free(p->kernel);
	free(p->initrd);
	free(p->monitor);
	free(p->image);
	free(p->scratch);
	free(p->run_dir);
}

int machine_parts_find(struct state *st, const struct box *b, struct machine_parts *p,
	struct machine_config *c, struct err *e)
{
	CLEANUP_CLOSE int cache = io_open_dir_at(st->home_fd, "cache", true);
	struct accel_info info;
	enum accel accel;

	accel_probe(cache, &info);
	int r = accel_choose(b->config.accel, &info, &accel, e);
	if (r < 0)
		return r;
	p->kernel = box_find_asset("vmlinux", e);
	p->initrd = p->kernel ? box_find_asset("initramfs.cpio", e) : NULL;
	if (p->initrd && accel == ACCEL_KVM)
		p->monitor = box_find_asset("a3s-box-vmm", e);
	if (!p->initrd || (accel == ACCEL_KVM && !p->monitor))
		return e->code;
	p->image = str_printf("%s/%s", st->home, b->disk);
	p->scratch = str_printf("%s/boxes/%s/scratch.img", st->home, b->id);
	p->run_dir = str_printf("%s/run/%s", st->home, b->id);
	if (!p->image || !p->scratch || !p->run_dir)
		return err_oom(e);
	*c = (struct machine_config){
		.name = p->run_dir,
		.kernel = p->kernel,
		.initrd = p->initrd,
		.monitor = p->monitor,
		.vcpus = b->config.vcpus,
		.mem_bytes = b->config.mem_bytes,
		.disks = {{.path = p->image, .read_only = true}, {.path = p->scratch}},
		.n_disks = 2,
		.accel = accel,
		.tsc_khz = info.tsc_khz,
		.restore_state_fd = -1,
		.restore_mem_fd = -1,
	};
	return 0;
}
