/* SPDX-License-Identifier: MIT */
#include "machine/machine.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "backend.h"
#include "base/io.h"
#include "base/proc.h"
#include "virtio/net.h"

_Static_assert(MACHINE_LINKS_MAX == NET_LINKS_MAX, "all links of the device can be used");

enum { MTU_MIN = 68 };	  /* virtio 1.2 section 5.1.4.1 */
enum { FS_TAG_MAX = 36 }; /* 5.11.4 */

int machine_start(struct loop *loop, const struct machine_config *c, struct machine **ret, struct err *e)
{
	if (c->vcpus < 1 || c->vcpus > MACHINE_VCPUS_MAX)
		return err_set(e, -EINVAL, "%u vCPUs: must be 1 to %d", c->vcpus, MACHINE_VCPUS_MAX);
	if (c->n_disks > MACHINE_DISKS_MAX)
		return err_set(e, -EINVAL, "%zu disks: must be at most %d", c->n_disks, MACHINE_DISKS_MAX);
	if (c->mem_bytes < MACHINE_MEM_MIN || c->mem_bytes > MACHINE_MEM_MAX || c->mem_bytes % (1 << 20))
		return err_set(
			e, -EINVAL, "memory of %llu bytes is not possible", (unsigned long long)c->mem_bytes);
	if (c->net.present && c->net.mtu < MTU_MIN)
		return err_set(e, -EINVAL, "MTU of %u: must be at least %d", c->net.mtu, MTU_MIN);
	if (c->restore_state_fd >= 0 && c->accel != ACCEL_KVM)
		return err_set(e, -ENOTSUP, "a saved machine goes on with the accelerator kvm only");
	if (c->fs_fd > 0 && c->restore_state_fd >= 0)
		return err_set(e, -ENOTSUP, "a machine with shared folders cannot go on from a saved one");
	/* A comma would begin another of QEMU's options. */
	if (c->fs_fd > 0 &&
		(!c->fs_tag || !*c->fs_tag || strlen(c->fs_tag) > FS_TAG_MAX || strchr(c->fs_tag, ',')))
		return err_set(e, -EINVAL, "a file system's tag has 1 to %d bytes, and no comma", FS_TAG_MAX);
	return (c->accel == ACCEL_KVM ? machine_kvm_ops : machine_qemu_ops).start(loop, c, ret, e);
}

int machine_end_fd(const struct machine *m)
{
	return m->end_fd;
}

pid_t machine_pid(const struct machine *m)
{
	return m->pid;
}

pid_t machine_end(struct machine *m)
{
	pid_t pid = MAX_OF(m->pid, 0);

	if (pid)
		kill(pid, SIGKILL); /* still our unreaped child: the PID cannot have been reused */
	m->pid = 0;
	return pid;
}

void machine_kill(struct machine *m)
{
	int status;
	pid_t pid = machine_end(m);

	if (pid)
		proc_wait(pid, &status);
}

void machine_free(struct machine *m)
{
	int status;

	if (!m)
		return;
	/* The kernel takes its process apart while we release our part: both have the guest's memory to unmap. */
	pid_t pid = machine_end(m);
	int end_fd = m->end_fd;
	m->end_fd = -1;
	m->ops->free(m);
	if (pid)
		proc_wait(pid, &status);
	close_fd(&end_fd);
}

bool machine_status(struct machine *m, struct machine_status *ret)
{
	return m->ops->status(m, ret);
}

int machine_pause(struct machine *m, machine_done_fn fn, void *data)
{
	return m->pid <= 0 ? -ESRCH : m->ops->pause(m, true, fn, data);
}

int machine_resume(struct machine *m, machine_done_fn fn, void *data)
{
	return m->pid <= 0 ? -ESRCH : m->ops->pause(m, false, fn, data);
}

int machine_stats(struct machine *m, machine_stats_fn fn, void *data)
{
	return m->pid <= 0 ? -ESRCH : m->ops->stats(m, fn, data);
}

int machine_save(struct machine *m, int state_fd, int mem_fd, machine_done_fn fn, void *data)
{
	if (m->pid <= 0)
		return -ESRCH;
	return m->ops->save ? m->ops->save(m, state_fd, mem_fd, fn, data) : -ENOTSUP;
}

int machine_balloon(struct machine *m, uint64_t bytes, machine_done_fn fn, void *data)
{
	if (m->pid <= 0)
		return -ESRCH;
	return m->ops->balloon ? m->ops->balloon(m, bytes, fn, data) : -ENOTSUP;
}

int machine_net_connect(struct machine *m, unsigned link, int fd, machine_done_fn fn, void *data)
{
	CLEANUP_CLOSE int sock = fd;

	if (m->pid <= 0)
		return -ESRCH;
	if (!m->has_net)
		return -ENOTSUP;
	return link < MACHINE_LINKS_MAX ? m->ops->net_connect(m, link, TAKE_FD(sock), fn, data) : -EINVAL;
}

void machine_net_on_gone(struct machine *m, void (*fn)(void *data, unsigned link), void *data)
{
	m->net_gone = fn;
	m->net_gone_data = data;
}

int machine_process_stats(const struct machine *m, struct machine_stats *ret)
{
	char path[40], *at;
	CLEANUP_FREE char *text = NULL;
	clockid_t clock;
	struct timespec t;

	snprintf(path, sizeof(path), "/proc/%d/statm", (int)m->pid);
	int r = io_read_file_at(AT_FDCWD, path, 256, &text, NULL);
	if (r < 0)
		return r;
	/* size resident shared …, in pages; shared is what has a file behind it, memory in a memfd included */
	strtoull(text, &at, 10);
	uint64_t resident = strtoull(at, &at, 10), shared = strtoull(at, &at, 10);
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	ret->resident = resident * page;
	/* A guest that was restored shares what it has not written: then this is too little rather than too much. */
	uint64_t private = resident > shared ? (resident - shared) * page : 0;
	ret->private_bytes = private > ret->guest_private ? private - ret->guest_private : 0;
	if (clock_getcpuclockid(m->pid, &clock) == 0 && clock_gettime(clock, &t) == 0)
		ret->cpu_ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
	return 0;
}

int machine_open_file(const char *what, const char *path, int flags, struct err *e)
{
	int fd = open(path, flags | O_CLOEXEC);
	if (fd < 0) {
		err_sys(e, -errno, "%s: cannot open %s", what, path);
		return err_hint(e, "build or install a3s-box again");
	}
	return fd;
}
