/* SPDX-License-Identifier: MIT */
#include "machine/machine.h"

#include "backend.h"

int machine_start(const struct machine_config *c, struct machine **ret, struct err *e)
{
	if (c->vcpus < 1 || c->vcpus > MACHINE_VCPUS_MAX)
		return err_set(e, -EINVAL, "%u vCPUs: must be 1 to %d", c->vcpus, MACHINE_VCPUS_MAX);
	if (c->n_disks > MACHINE_DISKS_MAX)
		return err_set(e, -EINVAL, "%zu disks: must be at most %d", c->n_disks, MACHINE_DISKS_MAX);
	if (c->mem_bytes < MACHINE_MEM_MIN || c->mem_bytes % (1 << 20))
		return err_set(
			e, -EINVAL, "memory of %llu bytes is not possible", (unsigned long long)c->mem_bytes);
	return machine_qemu_ops.start(c, ret, e);
}

int machine_end_fd(const struct machine *m)
{
	return m->end_fd;
}

pid_t machine_pid(const struct machine *m)
{
	return m->pid;
}

void machine_kill(struct machine *m)
{
	m->ops->kill(m);
}

void machine_free(struct machine *m)
{
	if (m)
		m->ops->free(m);
}
