/* SPDX-License-Identifier: MIT */
/* Reads a profile; the caller of `run` chose it, but may not have written it. */
#include "box/seccomp.h"

#include <dlfcn.h>
#include <jansson.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <string.h>

#include "box/caps.h"
#include "seccomp-rules.h"

/* The guest's kernel, for minKernel. */
#define GUEST_KERNEL_MAJOR 6
#define GUEST_KERNEL_MINOR 12

#define RULES_MAX 65536 /* names with a number, over all rules */

struct arch_names {
	uint32_t token;
	const char *profile;	  /* in architectures and archMap */
	const char *go;		  /* in includes and excludes, NULL where Docker has no host of it */
	uint32_t sibling;	  /* what 32-bit programs are on it */
	const char *sibling_name; /* in a profile */
};
static const struct arch_names known_archs[] = {
	{AUDIT_ARCH_X86_64, "SCMP_ARCH_X86_64", "amd64", AUDIT_ARCH_I386, "SCMP_ARCH_X86"},
	{AUDIT_ARCH_AARCH64, "SCMP_ARCH_AARCH64", "arm64", AUDIT_ARCH_ARM, "SCMP_ARCH_ARM"},
};

/*
 * Calls that libseccomp 2.5 does not know, or for 32-bit x86 only as a part of socketcall and ipc. From 403 on the numbers
 * are the same on all architectures. See arch/x86/entry/syscalls/ of Linux.
 */
static const struct {
	const char *name;
	uint32_t arch; /* 0: all */
	int nr;
} more_calls[] = {
	{"cachestat", 0, 451},
	{"fchmodat2", 0, 452},
	{"map_shadow_stack", 0, 453},
	{"futex_wake", 0, 454},
	{"futex_wait", 0, 455},
	{"futex_requeue", 0, 456},
	{"statmount", 0, 457},
	{"listmount", 0, 458},
	{"lsm_get_self_attr", 0, 459},
	{"lsm_set_self_attr", 0, 460},
	{"lsm_list_modules", 0, 461},
	{"mseal", 0, 462},
	{"setxattrat", 0, 463},
	{"getxattrat", 0, 464},
	{"listxattrat", 0, 465},
	{"removexattrat", 0, 466},
	{"uretprobe", AUDIT_ARCH_X86_64, 335},
	{"recvmmsg", AUDIT_ARCH_I386, 337},
	{"sendmmsg", AUDIT_ARCH_I386, 345},
	{"socket", AUDIT_ARCH_I386, 359},
	{"socketpair", AUDIT_ARCH_I386, 360},
	{"bind", AUDIT_ARCH_I386, 361},
	{"connect", AUDIT_ARCH_I386, 362},
	{"listen", AUDIT_ARCH_I386, 363},
	{"accept4", AUDIT_ARCH_I386, 364},
	{"getsockopt", AUDIT_ARCH_I386, 365},
	{"setsockopt", AUDIT_ARCH_I386, 366},
	{"getsockname", AUDIT_ARCH_I386, 367},
	{"getpeername", AUDIT_ARCH_I386, 368},
	{"sendto", AUDIT_ARCH_I386, 369},
	{"sendmsg", AUDIT_ARCH_I386, 370},
	{"recvfrom", AUDIT_ARCH_I386, 371},
	{"recvmsg", AUDIT_ARCH_I386, 372},
	{"shutdown", AUDIT_ARCH_I386, 373},
	{"semget", AUDIT_ARCH_I386, 393},
	{"semctl", AUDIT_ARCH_I386, 394},
	{"shmget", AUDIT_ARCH_I386, 395},
	{"shmctl", AUDIT_ARCH_I386, 396},
	{"shmat", AUDIT_ARCH_I386, 397},
	{"shmdt", AUDIT_ARCH_I386, 398},
	{"msgget", AUDIT_ARCH_I386, 399},
	{"msgsnd", AUDIT_ARCH_I386, 400},
	{"msgrcv", AUDIT_ARCH_I386, 401},
	{"msgctl", AUDIT_ARCH_I386, 402},
};

/* From the library itself, which is loaded only here: seccomp_syscall_resolve_name_arch(3). */
typedef int resolve_fn(uint32_t arch, const char *name);

struct reader {
	const struct arch_names *arch;
	uint64_t caps;
	resolve_fn *resolve;
	struct seccomp_rules rules;
	size_t rules_cap[ARRAY_LEN(((struct seccomp_rules *)0)->archs)], conds_cap;
	size_t n_names;
	struct err *e;
};

uint32_t box_seccomp_native_arch(void)
{
#ifdef __aarch64__
	return AUDIT_ARCH_AARCH64;
#else
	return AUDIT_ARCH_X86_64;
#endif
}

static resolve_fn *load_resolver(struct err *e)
{
	void *lib = dlopen("libseccomp.so.2", RTLD_NOW | RTLD_LOCAL);
	resolve_fn *f = lib ? (resolve_fn *)dlsym(lib, "seccomp_syscall_resolve_name_arch") : NULL;

	if (!f) {
		err_set(e, -ENOENT, "cannot load libseccomp: %s", dlerror());
		err_hint(
			e, "other capabilities than the default, and profiles, need the package libseccomp2");
	}
	return f;
}

/* Number of a call on this architecture, -1 when it has none. */
static int call_number(struct reader *r, uint32_t arch, const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(more_calls); i++) {
		if ((more_calls[i].arch == 0 || more_calls[i].arch == arch) &&
			strcmp(more_calls[i].name, name) == 0)
			return more_calls[i].nr;
	}
	int nr = r->resolve(arch, name);
	return nr >= 0 ? nr : -1; /* what the library takes for a part of another call is negative, too */
}

static int bad(struct reader *r, const char *what)
{
	return err_set(r->e, -EINVAL, "%s", what);
}

/* ---- values ---- */

/* An absent field is absent; one of another type is an error. */
static int get_string(struct reader *r, const json_t *o, const char *key, const char **ret)
{
	const json_t *v = json_object_get(o, key);

	*ret = json_string_value(v);
	if (v && !json_is_null(v) && !*ret)
		return err_set(r->e, -EINVAL, "%s is not a string", key);
	return 0;
}

static int get_array(struct reader *r, const json_t *o, const char *key, const json_t **ret)
{
	const json_t *v = json_object_get(o, key);

	*ret = v && !json_is_null(v) ? v : NULL;
	if (*ret && !json_is_array(v))
		return err_set(r->e, -EINVAL, "%s is not a list", key);
	return 0;
}

/* 0 when absent. */
static int get_number(struct reader *r, const json_t *o, const char *key, uint64_t max, uint64_t *ret)
{
	const json_t *v = json_object_get(o, key);
	json_int_t n = json_integer_value(v);

	*ret = (uint64_t)n;
	if (v && !json_is_null(v) && (!json_is_integer(v) || n < 0 || (uint64_t)n > max))
		return err_set(
			r->e, -EINVAL, "%s is not a number from 0 to %llu", key, (unsigned long long)max);
	return 0;
}

/* errno_key: where a number for SCMP_ACT_ERRNO and SCMP_ACT_TRACE may stand beside it; without one it is EPERM. */
static int get_action(
	struct reader *r, const json_t *o, const char *key, const char *errno_key, uint32_t *ret)
{
	static const struct {
		const char *name;
		uint32_t action;
		bool has_errno;
	} actions[] = {{"SCMP_ACT_KILL", SECCOMP_RET_KILL_THREAD, false},
		{"SCMP_ACT_KILL_THREAD", SECCOMP_RET_KILL_THREAD, false},
		{"SCMP_ACT_KILL_PROCESS", SECCOMP_RET_KILL_PROCESS, false},
		{"SCMP_ACT_TRAP", SECCOMP_RET_TRAP, false}, {"SCMP_ACT_ERRNO", SECCOMP_RET_ERRNO, true},
		{"SCMP_ACT_TRACE", SECCOMP_RET_TRACE, true}, {"SCMP_ACT_LOG", SECCOMP_RET_LOG, false},
		{"SCMP_ACT_ALLOW", SECCOMP_RET_ALLOW, false}};
	const json_t *given = json_object_get(o, errno_key);
	const char *name;
	uint64_t value;

	int res = get_string(r, o, key, &name);
	if (res == 0)
		res = get_number(r, o, errno_key, 4095, &value);
	if (res < 0)
		return res;
	if (!name)
		return err_set(r->e, -EINVAL, "%s is missing", key);
	if (strcmp(name, "SCMP_ACT_NOTIFY") == 0)
		return err_set(r->e, -ENOTSUP, "SCMP_ACT_NOTIFY needs a listener, and a box has none");
	for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
		if (strcmp(actions[i].name, name) != 0)
			continue;
		*ret = actions[i].action;
		if (actions[i].has_errno)
			*ret |= given && !json_is_null(given) ? (uint32_t)value : EPERM;
		return 0;
	}
	return err_set(r->e, -EINVAL, "%s: there is no action %.40s", key, name);
}

/* ---- conditions on a rule ---- */

/* "4.8": whether the guest's kernel is at least that. */
static int kernel_reached(struct reader *r, const char *s, bool *ret)
{
	size_t dot = strspn(s, "0123456789"), rest = s[dot] == '.' ? strspn(s + dot + 1, "0123456789") : 0;

	if (dot == 0 || dot > 3 || rest == 0 || rest > 3 || s[dot + 1 + rest])
		return bad(r, "minKernel is not of the form \"6.12\"");
	unsigned long major = strtoul(s, NULL, 10), minor = strtoul(s + dot + 1, NULL, 10);
	*ret = GUEST_KERNEL_MAJOR > major || (GUEST_KERNEL_MAJOR == major && GUEST_KERNEL_MINOR >= minor);
	return 0;
}

/* How many of a list's strings fit: this architecture, or capabilities that the box has. */
static int count_fits(
	struct reader *r, const json_t *o, const char *key, bool caps, size_t *ret, size_t *ret_n)
{
	const json_t *list;
	int res = get_array(r, o, key, &list);

	*ret = 0;
	*ret_n = res < 0 ? 0 : json_array_size(list);
	for (size_t i = 0; res == 0 && i < *ret_n; i++) {
		const char *s = json_string_value(json_array_get(list, i));
		if (!s)
			return err_set(r->e, -EINVAL, "%s is not a list of strings", key);
		if (caps) {
			int cap = box_cap_number(s);
			*ret += cap >= 0 && (r->caps >> cap & 1);
		} else {
			*ret += strcmp(s, r->arch->go) == 0;
		}
	}
	return res;
}

/* includes: all that is named must fit; excludes: nothing may. */
static int check_filter(struct reader *r, const json_t *rule, const char *key, bool include, bool *applies)
{
	const json_t *o = json_object_get(rule, key);
	size_t archs, n_archs, caps, n_caps;
	const char *kernel;
	bool reached = include;

	if (!o || json_is_null(o))
		return 0;
	if (!json_is_object(o))
		return err_set(r->e, -EINVAL, "%s is not an object", key);
	int res = count_fits(r, o, "arches", false, &archs, &n_archs);
	if (res == 0)
		res = count_fits(r, o, "caps", true, &caps, &n_caps);
	if (res == 0)
		res = get_string(r, o, "minKernel", &kernel);
	if (res == 0 && kernel && *kernel)
		res = kernel_reached(r, kernel, &reached);
	if (res < 0)
		return res;
	if (include)
		*applies &= (n_archs == 0 || archs) && caps == n_caps && reached;
	else
		*applies &= archs == 0 && caps == 0 && !reached;
	return 0;
}

/* ---- rules ---- */

static int grow(void **v, size_t n, size_t *cap, size_t size)
{
	if (n < *cap)
		return 0;
	size_t more = *cap ? 2 * *cap : 64;
	void *bigger = reallocarray(*v, more, size);
	if (!bigger)
		return -ENOMEM;
	*v = bigger;
	*cap = more;
	return 0;
}

static int add_rule(struct reader *r, const char *name, uint32_t action, size_t conds, unsigned n_conds)
{
	for (size_t i = 0; i < ARRAY_LEN(r->rules.archs); i++) {
		struct seccomp_arch *a = &r->rules.archs[i];
		int nr = a->token ? call_number(r, a->token, name) : -1;
		if (nr < 0)
			continue; /* no such call here: Docker leaves it out, too */
		if (grow((void **)&a->rules, a->n, &r->rules_cap[i], sizeof(*a->rules)) < 0)
			return err_oom(r->e);
		a->rules[a->n] = (struct seccomp_rule){.nr = (uint32_t)nr,
			.action = action,
			.order = (uint32_t)a->n,
			.n_conds = n_conds,
			.conds = conds};
		a->n++;
	}
	return 0;
}

static int read_cond(struct reader *r, const json_t *o, struct seccomp_cond *c)
{
	static const char *const ops[] = {[OP_NE] = "SCMP_CMP_NE",
		[OP_LT] = "SCMP_CMP_LT",
		[OP_LE] = "SCMP_CMP_LE",
		[OP_EQ] = "SCMP_CMP_EQ",
		[OP_GE] = "SCMP_CMP_GE",
		[OP_GT] = "SCMP_CMP_GT",
		[OP_MASKED_EQ] = "SCMP_CMP_MASKED_EQ"};
	uint64_t index;
	const char *op;

	if (!json_is_object(o))
		return bad(r, "args is not a list of objects");
	int res = get_number(r, o, "index", SECCOMP_ARGS - 1, &index);
	if (res == 0)
		res = get_number(r, o, "value", INT64_MAX, &c->value);
	if (res == 0)
		res = get_number(r, o, "valueTwo", INT64_MAX, &c->masked);
	if (res == 0)
		res = get_string(r, o, "op", &op);
	if (res < 0)
		return res;
	c->arg = (unsigned)index;
	for (size_t i = 0; op && i < ARRAY_LEN(ops); i++) {
		if (strcmp(ops[i], op) == 0) {
			c->op = (enum seccomp_op)i;
			return 0;
		}
	}
	return err_set(r->e, -EINVAL, "op: there is no comparison %.40s", op ? op : "without a name");
}

/* Reads args into the pool. *alternatives: two of them are on one argument. */
static int read_conds(struct reader *r, const json_t *rule, unsigned *ret_n, bool *alternatives)
{
	const json_t *args;
	unsigned seen = 0;

	*ret_n = 0;
	*alternatives = false;
	int res = get_array(r, rule, "args", &args);
	size_t n = res < 0 ? 0 : json_array_size(args);
	if (n > 64)
		return bad(r, "args has more than 64 conditions");
	for (size_t i = 0; res == 0 && i < n; i++) {
		struct seccomp_rules *s = &r->rules;
		if (grow((void **)&s->conds, s->n_conds, &r->conds_cap, sizeof(*s->conds)) < 0)
			return err_oom(r->e);
		struct seccomp_cond *c = &s->conds[s->n_conds];
		res = read_cond(r, json_array_get(args, i), c);
		if (res == 0) {
			*alternatives |= seen >> c->arg & 1;
			seen |= 1u << c->arg;
			s->n_conds++;
			++*ret_n;
		}
	}
	return res;
}

/* One name of a rule. */
static int add_name(struct reader *r, const char *name, uint32_t action, size_t conds, unsigned n_conds,
	bool alternatives)
{
	unsigned rules = alternatives ? n_conds : 1;
	int res = 0;

	r->n_names += rules;
	if (r->n_names > RULES_MAX)
		return err_set(r->e, -E2BIG, "it has more than %d rules", RULES_MAX);
	for (unsigned i = 0; res == 0 && i < rules; i++)
		res = add_rule(r, name, action, conds + (alternatives ? i : 0), alternatives ? 1 : n_conds);
	return res;
}

static int read_names(struct reader *r, const json_t *rule, const json_t **ret_list, const char **ret_one)
{
	int res = get_array(r, rule, "names", ret_list);
	if (res == 0)
		res = get_string(r, rule, "name", ret_one); /* of old profiles */
	if (res < 0)
		return res;
	if (*ret_one && *ret_list)
		return bad(r, "a rule has both name and names");
	if (!*ret_one && json_array_size(*ret_list) == 0)
		return bad(r, "a rule has no names");
	return 0;
}

static int read_rule(struct reader *r, const json_t *rule)
{
	const size_t conds = r->rules.n_conds;
	const json_t *list;
	const char *one;
	uint32_t action;
	unsigned n_conds = 0;
	bool applies = true, alternatives = false;

	if (!json_is_object(rule))
		return bad(r, "syscalls is not a list of objects");
	int res = read_names(r, rule, &list, &one);
	if (res == 0)
		res = get_action(r, rule, "action", "errnoRet", &action);
	if (res == 0)
		res = check_filter(r, rule, "includes", true, &applies);
	if (res == 0)
		res = check_filter(r, rule, "excludes", false, &applies);
	if (res == 0)
		res = read_conds(r, rule, &n_conds, &alternatives);
	if (res < 0)
		return res;
	applies &= action != r->rules.default_action;
	for (size_t i = 0; res == 0 && i < (one ? 1 : json_array_size(list)); i++) {
		const char *name = one ? one : json_string_value(json_array_get(list, i));
		if (!name)
			return bad(r, "names is not a list of strings");
		if (applies)
			res = add_name(r, name, action, conds, n_conds, alternatives);
	}
	return res;
}

/* ---- architectures ---- */

/* Whether a list names the 32-bit sibling. */
static int find_sibling(struct reader *r, const json_t *o, const char *key, bool *ret)
{
	const json_t *list;
	int res = get_array(r, o, key, &list);

	for (size_t i = 0; res == 0 && i < json_array_size(list); i++) {
		const char *s = json_string_value(json_array_get(list, i));
		if (!s || strncmp(s, "SCMP_ARCH_", 10) != 0)
			return err_set(r->e, -EINVAL, "%s is not a list of architectures", key);
		*ret |= strcmp(s, r->arch->sibling_name) == 0;
	}
	return res;
}

static int read_archs(struct reader *r, const json_t *j)
{
	const json_t *map, *list;
	bool sibling = false;

	int res = get_array(r, j, "archMap", &map);
	if (res == 0)
		res = get_array(r, j, "architectures", &list);
	if (res == 0 && json_array_size(map) && json_array_size(list))
		res = bad(r, "it has both architectures and archMap");
	if (res == 0)
		res = find_sibling(r, j, "architectures", &sibling);
	for (size_t i = 0; res == 0 && i < json_array_size(map); i++) {
		const json_t *o = json_array_get(map, i);
		const char *arch = json_string_value(json_object_get(o, "architecture"));
		if (!arch)
			return bad(r, "archMap is not a list of architectures");
		if (strcmp(arch, r->arch->profile) == 0)
			res = find_sibling(r, o, "subArchitectures", &sibling);
	}
	r->rules.archs[0].token = r->arch->token;
	r->rules.archs[1].token = sibling ? r->arch->sibling : 0;
	return res;
}

static int read_profile(struct reader *r, const json_t *j)
{
	const json_t *calls, *flags;
	const char *listener;

	if (!json_is_object(j))
		return bad(r, "it is not an object");
	int res = get_action(r, j, "defaultAction", "defaultErrnoRet", &r->rules.default_action);
	if (res == 0)
		res = get_array(r, j, "flags", &flags);
	if (res == 0)
		res = get_string(r, j, "listenerPath", &listener);
	if (res == 0 && (json_array_size(flags) || listener))
		res = err_set(r->e, -ENOTSUP, "flags and listenerPath have no meaning in a box");
	if (res == 0)
		res = read_archs(r, j);
	if (res == 0)
		res = get_array(r, j, "syscalls", &calls);
	for (size_t i = 0; res == 0 && i < json_array_size(calls); i++) {
		res = read_rule(r, json_array_get(calls, i));
		if (res < 0)
			err_wrap(r->e, "rule %zu", i + 1);
	}
	return res;
}

int box_seccomp_compile(const char *profile, size_t len, uint64_t caps, uint32_t arch, uint8_t **ret,
	size_t *ret_len, struct err *e)
{
	struct reader r = {.caps = caps, .e = e};
	json_error_t error;

	for (size_t i = 0; i < ARRAY_LEN(known_archs); i++) {
		if (known_archs[i].token == arch)
			r.arch = &known_archs[i];
	}
	if (!r.arch)
		return err_set(e, -EINVAL, "unknown architecture");
	if (len > BOX_SECCOMP_PROFILE_MAX)
		return err_set(e, -E2BIG, "it is larger than %u bytes", BOX_SECCOMP_PROFILE_MAX);
	json_t *j = json_loadb(profile, len, JSON_REJECT_DUPLICATES, &error);
	if (!j)
		return err_set(e, -EINVAL, "line %d: %s", error.line, error.text);
	r.resolve = load_resolver(e);
	int res = r.resolve ? read_profile(&r, j) : -ENOENT;
	json_decref(j);
	if (res == 0)
		res = seccomp_assemble(&r.rules, ret, ret_len, e);
	for (size_t i = 0; i < ARRAY_LEN(r.rules.archs); i++)
		free(r.rules.archs[i].rules);
	free(r.rules.conds);
	return res;
}
