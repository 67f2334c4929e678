/* SPDX-License-Identifier: MIT */
#include "box/caps.h"

#include <string.h>
#include <strings.h>

/* By number, see include/uapi/linux/capability.h of Linux. */
static const char *const names[BOX_CAPS_N] = {
	"CAP_CHOWN",
	"CAP_DAC_OVERRIDE",
	"CAP_DAC_READ_SEARCH",
	"CAP_FOWNER",
	"CAP_FSETID",
	"CAP_KILL",
	"CAP_SETGID",
	"CAP_SETUID",
	"CAP_SETPCAP",
	"CAP_LINUX_IMMUTABLE",
	"CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST",
	"CAP_NET_ADMIN",
	"CAP_NET_RAW",
	"CAP_IPC_LOCK",
	"CAP_IPC_OWNER",
	"CAP_SYS_MODULE",
	"CAP_SYS_RAWIO",
	"CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE",
	"CAP_SYS_PACCT",
	"CAP_SYS_ADMIN",
	"CAP_SYS_BOOT",
	"CAP_SYS_NICE",
	"CAP_SYS_RESOURCE",
	"CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG",
	"CAP_MKNOD",
	"CAP_LEASE",
	"CAP_AUDIT_WRITE",
	"CAP_AUDIT_CONTROL",
	"CAP_SETFCAP",
	"CAP_MAC_OVERRIDE",
	"CAP_MAC_ADMIN",
	"CAP_SYSLOG",
	"CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ",
	"CAP_PERFMON",
	"CAP_BPF",
	"CAP_CHECKPOINT_RESTORE",
};

const char *box_cap_name(unsigned cap)
{
	return cap < BOX_CAPS_N ? names[cap] : NULL;
}

int box_cap_number(const char *name)
{
	if (strncasecmp(name, "CAP_", 4) == 0)
		name += 4;
	for (int i = 0; i < BOX_CAPS_N; i++) {
		if (strcasecmp(names[i] + 4, name) == 0)
			return i;
	}
	return -1;
}

/* The bits of a list; "ALL" is no bit but *ret_all. */
static int parse(const struct strv *list, const char *flag, uint64_t *ret, bool *ret_all, struct err *e)
{
	*ret = 0;
	*ret_all = false;
	for (size_t i = 0; i < list->n; i++) {
		const char *s = list->v[i];
		if (strcasecmp(s, "ALL") == 0 || strcasecmp(s, "CAP_ALL") == 0) {
			*ret_all = true;
			continue;
		}
		int cap = box_cap_number(s);
		if (cap < 0) {
			err_set(e, -EINVAL, "%s %s: no such capability", flag, s);
			return err_hint(e, "give ALL or a name of capabilities(7), like NET_ADMIN");
		}
		*ret |= UINT64_C(1) << cap;
	}
	return 0;
}

int box_caps_from_lists(const struct strv *add, const struct strv *drop, uint64_t *ret, struct err *e)
{
	uint64_t added, dropped;
	bool add_all, drop_all;

	int r = parse(add, "--cap-add", &added, &add_all, e);
	if (r == 0)
		r = parse(drop, "--cap-drop", &dropped, &drop_all, e);
	if (r < 0)
		return r;
	if (add_all)
		*ret = BOX_CAPS_ALL & ~dropped;
	else if (drop_all)
		*ret = added;
	else
		*ret = (BOX_CAPS_DEFAULT & ~dropped) | added;
	return 0;
}

int box_caps_names(uint64_t caps, struct strv *ret)
{
	for (unsigned i = 0; i < BOX_CAPS_N; i++) {
		if ((caps >> i & 1) && strv_push(ret, names[i]) < 0)
			return -ENOMEM;
	}
	return 0;
}
