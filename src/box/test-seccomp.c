/* SPDX-License-Identifier: MIT */
/* Seccomp profiles: Docker's default, name by name, and profiles of every form, by running what they compile to. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <linux/audit.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/socket.h>

#include "box/caps.h"
#include "box/seccomp.h"
#include "test-seccomp-run.h"
#include "wire/wire.h"

#define ALLOW	SECCOMP_RET_ALLOW
#define EPERM_	(SECCOMP_RET_ERRNO | EPERM)
#define ENOSYS_ (SECCOMP_RET_ERRNO | ENOSYS)
#define CAP(n)	(UINT64_C(1) << (n))

enum { SYS_ADMIN = 21, SYS_PTRACE = 19, SYS_CHROOT = 18 };

struct filter {
	struct sock_filter *f;
	size_t n;
	unsigned longest; /* steps of the longest run so far */
};

static struct filter compile_for(const char *profile, uint64_t caps, uint32_t arch)
{
	struct filter f = {0};
	struct err e = {0};
	uint8_t *bytes = NULL;
	size_t len = 0;

	int r = box_seccomp_compile(profile, strlen(profile), caps, arch, &bytes, &len, &e);
	if (r < 0)
		fail_msg("%s: %d %s", profile, r, e.msg);
	assert_true(len % sizeof(struct sock_filter) == 0 && len <= WIRE_SECCOMP_MAX);
	f.f = (struct sock_filter *)(void *)bytes;
	f.n = len / sizeof(struct sock_filter);
	assert_true(filter_valid(f.f, f.n));
	return f;
}

static struct filter compile(const char *profile)
{
	return compile_for(profile, BOX_CAPS_DEFAULT, AUDIT_ARCH_X86_64);
}

static uint32_t run(struct filter *f, uint32_t arch, int nr, uint64_t a0, uint64_t a1)
{
	struct seccomp_data d = {.nr = nr, .arch = arch, .args = {a0, a1}};
	unsigned steps = 0;
	uint32_t r = filter_run(f->f, &d, &steps);

	f->longest = MAX_OF(f->longest, steps);
	return r;
}

static struct filter default_for(uint64_t caps, uint32_t arch)
{
	CLEANUP_FREE char *text = strndup(box_seccomp_default_profile, box_seccomp_default_profile_len);
	return compile_for(text, caps, arch);
}

static int number(uint32_t arch, const char *name)
{
	static const struct {
		const char *name;
		int nr;
	} newer[] = {{"cachestat", 451}, {"fchmodat2", 452}, {"futex_wait", 455}, {"statmount", 457},
		{"listmount", 458}, {"lsm_list_modules", 461}, {"mseal", 462}};
	for (size_t i = 0; i < ARRAY_LEN(newer); i++) {
		if (strcmp(newer[i].name, name) == 0)
			return newer[i].nr;
	}
	return seccomp_syscall_resolve_name_arch(arch, name);
}

/* ---- Docker's default ---- */

/* "Significant syscalls blocked by the default profile" of Docker's documentation, with what lets them pass. */
static const struct {
	const char *name;
	int cap; /* -1: nothing does */
} blocked[] = {{"acct", 20}, {"add_key", -1}, {"bpf", 21}, {"bpf", 39}, {"clock_settime", 25}, {"clone3", 21},
	{"create_module", -1}, {"delete_module", 16}, {"fanotify_init", 21}, {"finit_module", 16},
	{"fsconfig", 21}, {"fsmount", 21}, {"fsopen", 21}, {"fspick", 21}, {"get_kernel_syms", -1},
	{"get_mempolicy", 23}, {"init_module", 16}, {"ioperm", 17}, {"iopl", 17}, {"io_uring_enter", -1},
	{"io_uring_register", -1}, {"io_uring_setup", -1}, {"kcmp", 19}, {"kexec_file_load", -1},
	{"kexec_load", -1}, {"keyctl", -1}, {"lookup_dcookie", 21}, {"lsm_list_modules", 21}, {"mbind", 23},
	{"mount", 21}, {"mount_setattr", 21}, {"move_mount", 21}, {"move_pages", -1}, {"nfsservctl", -1},
	{"open_by_handle_at", 2}, {"open_tree", 21}, {"perf_event_open", 21}, {"perf_event_open", 38},
	{"pidfd_getfd", 19}, {"pivot_root", -1}, {"process_madvise", 19}, {"query_module", -1},
	{"quotactl", 21}, {"quotactl_fd", 21}, {"reboot", 22}, {"request_key", -1}, {"set_mempolicy", 23},
	{"set_mempolicy_home_node", 23}, {"setdomainname", 21}, {"sethostname", 21}, {"setns", 21},
	{"settimeofday", 25}, {"swapon", -1}, {"swapoff", -1}, {"sysfs", -1}, {"syslog", 34}, {"syslog", 21},
	{"_sysctl", -1}, {"umount2", 21}, {"unshare", 21}, {"uselib", -1}, {"userfaultfd", -1}, {"ustat", -1},
	{"vhangup", 26}};

static void the_default_blocks_what_docker_documents(void **state)
{
	struct filter f = default_for(BOX_CAPS_DEFAULT, AUDIT_ARCH_X86_64);

	for (size_t i = 0; i < ARRAY_LEN(blocked); i++) {
		int nr = number(AUDIT_ARCH_X86_64, blocked[i].name);
		uint32_t want = strcmp(blocked[i].name, "clone3") == 0 ? ENOSYS_ : EPERM_;
		if (nr < 0)
			fail_msg("%s has no number", blocked[i].name);
		if (run(&f, AUDIT_ARCH_X86_64, nr, 0, 0) != want)
			fail_msg("%s is not blocked", blocked[i].name);
		if (blocked[i].cap < 0)
			continue;
		struct filter more = default_for(BOX_CAPS_DEFAULT | CAP(blocked[i].cap), AUDIT_ARCH_X86_64);
		if (run(&more, AUDIT_ARCH_X86_64, nr, 0, 0) != ALLOW)
			fail_msg("%s is blocked with %s", blocked[i].name,
				box_cap_name((unsigned)blocked[i].cap));
		free(more.f);
	}
	/* Without any capability chroot goes, too. */
	assert_int_equal(run(&f, AUDIT_ARCH_X86_64, number(AUDIT_ARCH_X86_64, "chroot"), 0, 0), ALLOW);
	struct filter none = default_for(0, AUDIT_ARCH_X86_64);
	assert_int_equal(run(&none, AUDIT_ARCH_X86_64, number(AUDIT_ARCH_X86_64, "chroot"), 0, 0), EPERM_);
	free(none.f);
	free(f.f);
}

/* Names in the profile's first rule, in which no condition stands. */
static size_t each_allowed_name(void (*fn)(const char *name, void *data), void *data)
{
	CLEANUP_FREE char *text = strndup(box_seccomp_default_profile, box_seccomp_default_profile_len);
	char *at = strstr(text, "\"names\""), *end = strchr(at, ']');
	size_t n = 0;

	at = strchr(at, '[');
	*end = '\0';
	for (char *q = strchr(at, '"'); q; n++) {
		char *close = strchr(q + 1, '"');
		*close = '\0';
		fn(q + 1, data);
		q = strchr(close + 1, '"');
	}
	return n;
}

struct allowed {
	struct filter *f;
	uint32_t arch;
	bool seen[600];
	size_t known;
};

static void expect_allowed(const char *name, void *data)
{
	struct allowed *a = data;
	int nr = number(a->arch, name);

	if (nr < 0)
		return; /* not of this architecture, or a part of socketcall and ipc */
	a->known++;
	assert_in_range(nr, 0, 599);
	a->seen[nr] = true;
	if (run(a->f, a->arch, nr, 0, 0) != ALLOW)
		fail_msg("%s (%d) is not allowed", name, nr);
}

static void the_default_allows_its_list_and_nothing_else(void **state)
{
	static const struct {
		uint32_t host, arch;
		size_t least;
		const char *conditional[16]; /* allowed with these arguments, of whatever rule */
	} cases[] = {
		{AUDIT_ARCH_X86_64, AUDIT_ARCH_X86_64, 290,
			{"socket", "personality", "clone", "ptrace", "process_vm_readv", "process_vm_writev",
				"arch_prctl", "modify_ldt", "chroot"}},
		{AUDIT_ARCH_X86_64, AUDIT_ARCH_I386, 310,
			{"personality", "clone", "ptrace", "process_vm_readv", "process_vm_writev",
				"arch_prctl", "modify_ldt", "chroot"}},
		{AUDIT_ARCH_AARCH64, AUDIT_ARCH_AARCH64, 240,
			{"socket", "personality", "clone", "ptrace", "process_vm_readv", "process_vm_writev",
				"chroot", "sync_file_range2"}},
	};

	for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
		struct filter f = default_for(BOX_CAPS_DEFAULT, cases[c].host);
		struct allowed a = {.f = &f, .arch = cases[c].arch};
		size_t names = each_allowed_name(expect_allowed, &a);
		assert_in_range(names, 350, 400);
		if (a.known < cases[c].least)
			fail_msg("%zu of the names are known", a.known);
		for (size_t i = 0; cases[c].conditional[i]; i++) {
			int nr = number(a.arch, cases[c].conditional[i]);
			if (nr >= 0)
				a.seen[nr] = true;
		}
		if (a.arch ==
			AUDIT_ARCH_I386) /* what glibc does by itself rather than through the multiplexers */
			for (int nr = 337; nr <= 402; nr++)
				a.seen[nr] = true;
		for (int nr = 0; nr < 600; nr++) {
			uint32_t r = run(&f, a.arch, nr, 0, 0);
			bool wants_more = nr >= 451; /* newer than the library: by number in the test above */
			if (!a.seen[nr] && r == ALLOW && !wants_more && nr != 335)
				fail_msg("architecture %x: %d is allowed", a.arch, nr);
			if (nr > 466 && r != ENOSYS_)
				fail_msg("architecture %x: %d is not unknown", a.arch, nr);
		}
		assert_true(f.longest < 40);
		free(f.f);
	}
}

static void the_built_in_filter_is_the_profile_compiled(void **state)
{
	struct filter f = default_for(BOX_CAPS_DEFAULT, box_seccomp_native_arch());

	assert_int_equal(f.n * sizeof(struct sock_filter), box_seccomp_default_filter_len);
	assert_memory_equal(f.f, box_seccomp_default_filter, box_seccomp_default_filter_len);
	free(f.f);
}

static void arguments_decide_where_docker_looks_at_them(void **state)
{
	struct filter f = default_for(BOX_CAPS_DEFAULT, AUDIT_ARCH_X86_64);
	const uint32_t arch = AUDIT_ARCH_X86_64;
	const int socket_nr = number(arch, "socket"), clone_nr = number(arch, "clone"),
		  personality_nr = number(arch, "personality");

	for (uint64_t family = 0; family < 12; family++)
		assert_int_equal(run(&f, arch, socket_nr, family, 0), ALLOW);
	assert_int_equal(run(&f, arch, socket_nr, AF_PACKET, 0), ALLOW);
	assert_int_equal(run(&f, arch, socket_nr, 38 /* AF_ALG */, 0), EPERM_);
	assert_int_equal(run(&f, arch, socket_nr, AF_VSOCK, 0), EPERM_);
	/* The kernel takes the lower half: the upper one must not hide the family. */
	assert_int_equal(run(&f, arch, socket_nr, (UINT64_C(1) << 32) | AF_VSOCK, 0), EPERM_);
	assert_int_equal(run(&f, arch, clone_nr, SIGCHLD, 0), ALLOW);
	assert_int_equal(run(&f, arch, clone_nr, CLONE_VM | CLONE_THREAD, 0), ALLOW);
	for (unsigned b = 0; b < 32; b++) {
		const uint64_t new_any = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
					 CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP;
		uint64_t flag = UINT64_C(1) << b;
		assert_int_equal(run(&f, arch, clone_nr, flag | SIGCHLD, 0), flag & new_any ? EPERM_ : ALLOW);
	}
	assert_int_equal(run(&f, arch, personality_nr, 0x20008, 0), ALLOW);
	assert_int_equal(run(&f, arch, personality_nr, 0xffffffff, 0), ALLOW);
	assert_int_equal(run(&f, arch, personality_nr, 0x40000 /* ADDR_NO_RANDOMIZE */, 0), EPERM_);
	free(f.f);
}

static void other_architectures_do_not_get_around_it(void **state)
{
	struct filter f = default_for(BOX_CAPS_DEFAULT, AUDIT_ARCH_X86_64);
	int mount = number(AUDIT_ARCH_I386, "mount");

	assert_int_equal(run(&f, AUDIT_ARCH_I386, mount, 0, 0), EPERM_);
	assert_int_equal(run(&f, AUDIT_ARCH_I386, number(AUDIT_ARCH_I386, "read"), 0, 0), ALLOW);
	assert_int_equal(run(&f, AUDIT_ARCH_I386, 359 /* socket */, AF_VSOCK, 0), EPERM_);
	assert_int_equal(run(&f, AUDIT_ARCH_AARCH64, 63, 0, 0), SECCOMP_RET_KILL_PROCESS);
	assert_int_equal(run(&f, AUDIT_ARCH_X86_64, 0x40000000, 0, 0), ENOSYS_); /* x32 */
	assert_int_equal(run(&f, AUDIT_ARCH_X86_64, -1, 0, 0), ENOSYS_);
	free(f.f);
}

/* ---- profiles ---- */

#define PROFILE(rules)	"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[" rules "]}"
#define RULE(args)	PROFILE("{\"name\":\"read\",\"action\":\"SCMP_ACT_ALLOW\",\"args\":[" args "]}")
#define COND(op, value) "{\"index\":1,\"op\":\"SCMP_CMP_" op "\",\"value\":" value "}"

static const struct {
	const char *profile;
	uint64_t value; /* of read's second argument */
	bool allowed;
} conditions[] = {
	{RULE(COND("EQ", "4294967297")), 4294967297, true},
	{RULE(COND("EQ", "4294967297")), 1, false},
	{RULE(COND("EQ", "1")), 4294967297, false},
	{RULE(COND("NE", "4294967297")), 4294967297, false},
	{RULE(COND("NE", "4294967297")), 1, true},
	{RULE(COND("NE", "4294967297")), 4294967296, true},
	{RULE(COND("LT", "4294967297")), 4294967296, true},
	{RULE(COND("LT", "4294967297")), 4294967297, false},
	{RULE(COND("LT", "4294967297")), 5, true},
	{RULE(COND("LE", "4294967297")), 4294967297, true},
	{RULE(COND("LE", "4294967297")), 4294967298, false},
	{RULE(COND("LE", "1")), 4294967296, false},
	{RULE(COND("GT", "4294967297")), 4294967298, true},
	{RULE(COND("GT", "4294967297")), 4294967297, false},
	{RULE(COND("GT", "4294967297")), 8589934592, true},
	{RULE(COND("GE", "4294967297")), 4294967297, true},
	{RULE(COND("GE", "4294967297")), 4294967296, false},
	{RULE("{\"index\":1,\"op\":\"SCMP_CMP_MASKED_EQ\",\"value\":4294967299,\"valueTwo\":4294967297}"),
		0x100000005, true},
	{RULE("{\"index\":1,\"op\":\"SCMP_CMP_MASKED_EQ\",\"value\":4294967299,\"valueTwo\":4294967297}"),
		0x100000003, false},
	{RULE("{\"index\":1,\"op\":\"SCMP_CMP_MASKED_EQ\",\"value\":4294967299,\"valueTwo\":4294967297}"), 1,
		false},
	/* on different arguments all must hold (the first is 7), on one argument any */
	{RULE("{\"index\":0,\"op\":\"SCMP_CMP_EQ\",\"value\":7}," COND("EQ", "3")), 3, true},
	{RULE("{\"index\":0,\"op\":\"SCMP_CMP_EQ\",\"value\":7}," COND("EQ", "3")), 4, false},
	{RULE("{\"index\":0,\"op\":\"SCMP_CMP_EQ\",\"value\":8}," COND("EQ", "3")), 3, false},
	{RULE(COND("EQ", "3") "," COND("EQ", "5")), 5, true},
	{RULE(COND("EQ", "3") "," COND("EQ", "5")), 4, false},
};

static void every_comparison_compares_64_bits(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(conditions); i++) {
		struct filter f = compile(conditions[i].profile);
		uint32_t r = run(&f, AUDIT_ARCH_X86_64, 0, 7, conditions[i].value);
		if ((r == ALLOW) != conditions[i].allowed)
			fail_msg("%s with %llu: %x", conditions[i].profile,
				(unsigned long long)conditions[i].value, r);
		free(f.f);
	}
}

static uint32_t read_under(const char *profile)
{
	struct filter f = compile(profile);
	uint32_t r = run(&f, AUDIT_ARCH_X86_64, 0, 0, 0);
	free(f.f);
	return r;
}

static void actions_and_numbers_of_errors(void **state)
{
#define ACTION(action) PROFILE("{\"names\":[\"read\"],\"action\":\"SCMP_ACT_" action "}")
	assert_int_equal(read_under(PROFILE("")), EPERM_);
	assert_int_equal(
		read_under("{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":38}"), ENOSYS_);
	assert_int_equal(read_under("{\"defaultAction\":\"SCMP_ACT_ALLOW\"}"), ALLOW);
	assert_int_equal(read_under(ACTION("KILL\"")), SECCOMP_RET_KILL_THREAD);
	assert_int_equal(read_under(ACTION("KILL_PROCESS\"")), SECCOMP_RET_KILL_PROCESS);
	assert_int_equal(read_under(ACTION("TRAP\"")), SECCOMP_RET_TRAP);
	assert_int_equal(read_under(ACTION("LOG\"")), SECCOMP_RET_LOG);
	assert_int_equal(read_under(ACTION("TRACE\",\"errnoRet\":5")), SECCOMP_RET_TRACE | 5);
	assert_int_equal(read_under(ACTION("ERRNO\",\"errnoRet\":13")), SECCOMP_RET_ERRNO | 13);
	/* a deny list lets new calls pass, and x32 does not get around it */
	struct filter f =
		compile("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"SCMP_ARCH_X86\"],"
			"\"syscalls\":[{\"names\":[\"mount\"],\"action\":\"SCMP_ACT_KILL\"}]}");
	assert_int_equal(run(&f, AUDIT_ARCH_X86_64, 599, 0, 0), ALLOW);
	assert_int_equal(run(&f, AUDIT_ARCH_X86_64, 165, 0, 0), SECCOMP_RET_KILL_THREAD);
	assert_int_equal(run(&f, AUDIT_ARCH_I386, 21, 0, 0), SECCOMP_RET_KILL_THREAD);
	assert_int_equal(run(&f, AUDIT_ARCH_X86_64, 165 | 0x40000000, 0, 0), ENOSYS_);
	free(f.f);
}

static void conditions_on_the_box_are_looked_at(void **state)
{
#define IF(what) PROFILE("{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\"," what "}")
	static const struct {
		const char *profile;
		bool allowed;
	} cases[] = {
		{IF("\"includes\":{\"minKernel\":\"4.8\"}"), true},
		{IF("\"includes\":{\"minKernel\":\"6.12\"}"), true},
		{IF("\"includes\":{\"minKernel\":\"6.13\"}"), false},
		{IF("\"includes\":{\"minKernel\":\"7.0\"}"), false},
		{IF("\"excludes\":{\"minKernel\":\"4.8\"}"), false},
		{IF("\"excludes\":{\"minKernel\":\"6.13\"}"), true},
		{IF("\"includes\":{\"arches\":[\"arm64\",\"amd64\"]}"), true},
		{IF("\"includes\":{\"arches\":[\"arm64\"]}"), false},
		{IF("\"excludes\":{\"arches\":[\"amd64\"]}"), false},
		{IF("\"includes\":{\"caps\":[\"CAP_CHOWN\",\"CAP_KILL\"]}"), true},
		{IF("\"includes\":{\"caps\":[\"CAP_CHOWN\",\"CAP_SYS_ADMIN\"]}"), false},
		{IF("\"includes\":{\"caps\":[\"CAP_NONE_SUCH\"]}"), false},
		{IF("\"excludes\":{\"caps\":[\"CAP_SYS_ADMIN\",\"CAP_CHOWN\"]}"), false},
		{IF("\"excludes\":{\"caps\":[\"CAP_SYS_ADMIN\"]}"), true},
		{IF("\"includes\":null,\"excludes\":{},\"args\":null,\"comment\":\"\""), true},
		{PROFILE("{\"names\":[\"no_such_call\",\"read\"],\"action\":\"SCMP_ACT_ALLOW\"}"), true},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		if ((read_under(cases[i].profile) == ALLOW) != cases[i].allowed)
			fail_msg("%s", cases[i].profile);
	}
}

static void what_is_no_profile_is_refused(void **state)
{
	static const struct {
		const char *profile, *why;
	} bad[] = {
		{"", "line 1"},
		{"{", "line 1"},
		{"[]", "not an object"},
		{"{}", "defaultAction is missing"},
		{"{\"defaultAction\":\"SCMP_ACT_NONE\"}", "there is no action SCMP_ACT_NONE"},
		{"{\"defaultAction\":1}", "defaultAction is not a string"},
		{"{\"defaultAction\":\"SCMP_ACT_NOTIFY\"}", "listener"},
		{"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":70000}", "defaultErrnoRet"},
		{"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":{}}", "syscalls is not a list"},
		{"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"flags\":[\"X\"]}", "flags"},
		{"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"x86\"]}", "architectures"},
		{"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"archMap\":[{}]}", "archMap"},
		{"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"SCMP_ARCH_X86\"],\"archMap\":"
		 "[{\"architecture\":\"SCMP_ARCH_X86_64\"}]}",
			"both"},
		{PROFILE("7"), "rule 1: syscalls"},
		{PROFILE("{}"), "rule 1: a rule has no names"},
		{PROFILE("{\"name\":\"a\",\"names\":[\"b\"]}"), "both name and names"},
		{PROFILE("{\"names\":[1],\"action\":\"SCMP_ACT_ALLOW\"}"), "names is not a list of strings"},
		{PROFILE("{\"names\":[\"read\"]}"), "action is missing"},
		{IF("\"includes\":[]"), "includes is not an object"},
		{IF("\"includes\":{\"caps\":[1]}"), "caps is not a list of strings"},
		{IF("\"includes\":{\"minKernel\":\"new\"}"), "minKernel"},
		{IF("\"includes\":{\"minKernel\":\"4.8.1\"}"), "minKernel"},
		{RULE("{\"index\":6,\"op\":\"SCMP_CMP_EQ\",\"value\":1}"),
			"index is not a number from 0 to 5"},
		{RULE("{\"index\":0,\"op\":\"SCMP_CMP_XX\",\"value\":1}"), "no comparison"},
		{RULE("{\"index\":0,\"value\":1}"), "no comparison"},
		{RULE("{\"index\":0,\"op\":\"SCMP_CMP_EQ\",\"value\":-1}"), "value is not a number"},
		{RULE("{\"index\":0,\"op\":\"SCMP_CMP_EQ\",\"value\":99999999999999999999}"), "line 1"},
		{RULE("3"), "args"},
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err e = {0};
		uint8_t *f = NULL;
		size_t len = 0;
		int r = box_seccomp_compile(
			bad[i].profile, strlen(bad[i].profile), 0, AUDIT_ARCH_X86_64, &f, &len, &e);
		if (r >= 0 || !strstr(e.msg, bad[i].why) || f)
			fail_msg("%s: %d \"%s\", want \"%s\"", bad[i].profile, r, e.msg, bad[i].why);
	}
}

/* As many conditions as it takes to have too many instructions. */
static void what_would_not_fit_is_refused(void **state)
{
	size_t size = 1 << 20, n = 0;
	CLEANUP_FREE char *text = malloc(size);
	struct err e = {0};
	uint8_t *f = NULL;
	size_t len;

	n += (size_t)snprintf(text, size, "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[");
	for (int i = 0; i < 2000; i++)
		n += (size_t)snprintf(text + n, size - n,
			"%s{\"name\":\"read\",\"action\":\"SCMP_ACT_ALLOW\",\"args\":[" COND("EQ", "%d") "]}",
			i ? "," : "", i);
	n += (size_t)snprintf(text + n, size - n, "]}");
	assert_int_equal(box_seccomp_compile(text, n, 0, AUDIT_ARCH_X86_64, &f, &len, &e), -E2BIG);
	assert_non_null(strstr(e.msg, "4096 instructions"));
	assert_int_equal(
		box_seccomp_compile(text, BOX_SECCOMP_PROFILE_MAX + 1, 0, AUDIT_ARCH_X86_64, &f, &len, &e),
		-E2BIG);
}

/* Far jumps: a program of some thousand instructions does what a short one does. */
static void a_large_profile_finds_its_way(void **state)
{
	size_t size = 1 << 20, n = 0;
	CLEANUP_FREE char *text = malloc(size);

	n += (size_t)snprintf(text, size, "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[");
	for (int i = 0; i < 60; i++) {
		CLEANUP_FREE char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, 3 * i);
		for (int v = 0; v < 10; v++)
			n += (size_t)snprintf(text + n, size - n,
				"%s{\"name\":\"%s\",\"action\":\"SCMP_ACT_ALLOW\",\"args\":[" COND(
					"EQ", "%d") "]}",
				i || v ? "," : "", name, i * 100 + v);
	}
	snprintf(text + n, size - n, "]}");
	struct filter f = compile(text);
	assert_in_range(f.n, 2000, BPF_MAXINSNS);
	for (int i = 0; i < 60; i++) {
		assert_int_equal(run(&f, AUDIT_ARCH_X86_64, 3 * i, 0, (uint64_t)i * 100 + 9), ALLOW);
		assert_int_equal(run(&f, AUDIT_ARCH_X86_64, 3 * i, 0, (uint64_t)i * 100 + 10), EPERM_);
		assert_int_equal(run(&f, AUDIT_ARCH_X86_64, 3 * i + 1, 0, (uint64_t)i * 100),
			i == 59 ? ENOSYS_ : EPERM_);
	}
	free(f.f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_default_blocks_what_docker_documents),
		cmocka_unit_test(the_default_allows_its_list_and_nothing_else),
		cmocka_unit_test(the_built_in_filter_is_the_profile_compiled),
		cmocka_unit_test(arguments_decide_where_docker_looks_at_them),
		cmocka_unit_test(other_architectures_do_not_get_around_it),
		cmocka_unit_test(every_comparison_compares_64_bits),
		cmocka_unit_test(actions_and_numbers_of_errors),
		cmocka_unit_test(conditions_on_the_box_are_looked_at),
		cmocka_unit_test(what_is_no_profile_is_refused),
		cmocka_unit_test(what_would_not_fit_is_refused),
		cmocka_unit_test(a_large_profile_finds_its_way),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
