/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * execve gives root what the bounding set has, and everybody else nothing (capabilities(7), "Transformation of
 * capabilities during execve", with empty inheritable and ambient sets). What is held before it matters all the same:
 * execve itself is permitted or not by it. So only what root will have is kept, and nothing for others.
 *
 * A filter is installed last, so that it does not have to allow what comes before, and so that the box's own profile
 * decides only about the box's own program. The kernel wants no_new_privs for it, or CAP_SYS_ADMIN, which is therefore
 * kept up to there where it is needed, through the change of the user; execve takes it away, because the bounding set
 * does not have it. It weighs nothing in execve's own decisions.
 *
 * The limits come before the change of the user: raising one needs CAP_SYS_RESOURCE. They come late, since they hold for
 * our own preparations too.
 */
#include "confine.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/magic.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include "base/cleanup.h"
#include "base/io.h"

static int note(int r, char *what, size_t size, const char *text)
{
	if (r < 0)
		snprintf(what, size, "%s", text);
	return r;
}

/* Numbers as on x86 and arm: asm-generic/resource.h. */
static const char *const limit_names[] = {"RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK",
	"RLIMIT_CORE", "RLIMIT_RSS", "RLIMIT_NPROC", "RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "RLIMIT_AS",
	"RLIMIT_LOCKS", "RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_RTPRIO",
	"RLIMIT_RTTIME"};

static int set_rlimits(const struct wire_process *p, char *what, size_t size)
{
	for (size_t i = 0; i < p->n_rlimits; i++) {
		const struct wire_rlimit *l = &p->rlimits[i];
		struct rlimit v = {l->soft, l->hard};

		if (l->resource >= ARRAY_LEN(limit_names)) {
			snprintf(what, size, "resource limit %u", l->resource);
			return -EINVAL;
		}
		if (setrlimit((__rlimit_resource_t)l->resource, &v) < 0)
			return note(-errno, what, size, limit_names[l->resource]);
	}
	return 0;
}

static int set_oom_score_adj(int value)
{
	CLEANUP_CLOSE int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	struct statfs fs;
	char text[16];
	int n = snprintf(text, sizeof(text), "%d", value);

	if (fd < 0 || fstatfs(fd, &fs) < 0)
		return -errno;
	/* The root of a privileged box can mount something else there. */
	return fs.f_type == PROC_SUPER_MAGIC ? io_write_full(fd, text, (size_t)n) : -ENOENT;
}

int confine_limits(const struct wire_process *p, char *what, size_t size)
{
	int r = p->oom_score_adj ? note(set_oom_score_adj(p->oom_score_adj), what, size, "oom_score_adj") : 0;

	return r < 0 ? r : set_rlimits(p, what, size);
}

static int drop_bounding(uint64_t keep)
{
	for (unsigned long cap = 0; cap < 64; cap++) {
		if (keep >> cap & 1)
			continue;
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return errno == EINVAL ? 0 : -errno; /* beyond the last one that this kernel has */
	}
	return 0;
}

/* Permitted and effective; nothing is inheritable, and so nothing ambient. */
static int set_capabilities(uint64_t caps)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {
		{.effective = (uint32_t)caps, .permitted = (uint32_t)caps},
		{.effective = (uint32_t)(caps >> 32), .permitted = (uint32_t)(caps >> 32)},
	};

	return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

int confine_no_capabilities(char *what, size_t size)
{
	int r = drop_bounding(0);

	return note(r < 0 ? r : set_capabilities(0), what, size, "drop capabilities");
}

int confine_identity(const struct wire_process *p, const struct user_ids *ids, char *what, size_t size)
{
	uint64_t held = ids->uid == 0 ? p->caps : 0;
	int r = note(drop_bounding(p->caps), what, size, "drop capabilities");

	if (r < 0)
		return r;
	if (p->seccomp && !p->no_new_privileges)
		held |= UINT64_C(1) << CAP_SYS_ADMIN;
	if (setgroups(ids->n_groups, ids->groups) < 0)
		return note(-errno, what, size, "set supplementary groups");
	if (setresgid(ids->gid, ids->gid, ids->gid) < 0)
		return note(-errno, what, size, "set group");
	/* What is permitted survives the change then; execve ends that. */
	if (ids->uid != 0 && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		return note(-errno, what, size, "keep capabilities");
	if (setresuid(ids->uid, ids->uid, ids->uid) < 0)
		return note(-errno, what, size, "set user");
	r = note(set_capabilities(held), what, size, "set capabilities");
	if (r == 0 && p->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		r = note(-errno, what, size, "no_new_privs");
	return r;
}

int confine_filter(const struct wire_process *p, char *what, size_t size)
{
	struct sock_fprog program = {
		(unsigned short)(p->seccomp_len / sizeof(struct sock_filter)), (void *)p->seccomp};

	if (!p->seccomp || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0)
		return 0;
	return note(-errno, what, size, "install the seccomp filter");
}
