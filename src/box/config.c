/* SPDX-License-Identifier: MIT */
/* A box's configuration as JSON. Strings that are not UTF-8 are kept as {"b64"}: argv and environment are bytes. */
#include "config.h"

#include <jansson.h>
#include <string.h>

#include "base/b64.h"
#include "box/caps.h"
#include "box/network.h"

void box_mount_done(struct box_mount *m)
{
	free(m->source);
	free(m->target);
	free(m->subpath);
	strv_done(&m->labels);
	strv_done(&m->opts);
	*m = (struct box_mount){0};
}

void box_config_done(struct box_config *c)
{
	strv_done(&c->entrypoint);
	strv_done(&c->cmd);
	wire_process_done(&c->process);
	free(c->hostname);
	strv_done(&c->labels);
	wire_limits_done(&c->limits);
	strv_done(&c->health.test);
	strv_done(&c->log.opts);
	strv_done(&c->tmpfs);
	strv_done(&c->sysctls);
	strv_done(&c->devices);
	for (size_t i = 0; i < c->n_mounts; i++)
		box_mount_done(&c->mounts[i]);
	free(c->mounts);
	strv_done(&c->add_hosts);
	strv_done(&c->dns);
	strv_done(&c->dns_search);
	strv_done(&c->dns_opts);
	strv_done(&c->cap_add);
	strv_done(&c->cap_drop);
	strv_done(&c->security_opts);
	strv_done(&c->annotations);
	strv_done(&c->exposed_ports);
	free(c->network);
	box_endpoints_free(c->endpoints, c->n_endpoints);
	free(c->scratch);
	strv_done(&c->publish);
	free(c->publish_address);
	strv_done(&c->egress_allow);
	strv_done(&c->network_opts);
	*c = (struct box_config){0};
}

static json_t *bytes_json(const char *s)
{
	if (!s)
		return json_null();
	json_t *str = json_string(s);
	if (str)
		return str;
	size_t n = strlen(s);
	CLEANUP_FREE char *b64 = malloc(B64_SIZE(n));
	if (!b64)
		return NULL;
	b64_encode(b64, s, n);
	return json_pack("{s:s}", "b64", b64);
}

static int bytes_from_json(const json_t *j, char **ret)
{
	*ret = NULL;
	if (json_is_null(j) || !j)
		return 0;
	if (json_is_string(j)) {
		*ret = strdup(json_string_value(j));
		return *ret ? 0 : -ENOMEM;
	}
	const char *b64 = json_string_value(json_object_get(j, "b64"));
	if (!b64)
		return -EBADMSG;
	size_t n = strlen(b64);
	char *out = malloc(n + 1);
	if (!out)
		return -ENOMEM;
	ssize_t len = b64_decode(out, b64, n);
	if (len < 0) {
		free(out);
		return -EBADMSG;
	}
	out[len] = '\0';
	*ret = out;
	return 0;
}

static json_t *list_json(const struct strv *l)
{
	json_t *a = json_array();
	for (size_t i = 0; i < l->n; i++)
		json_array_append_new(a, bytes_json(l->v[i]));
	return a;
}

static int list_from_json(const json_t *a, struct strv *ret)
{
	size_t n = json_array_size(a);
	if (a && !json_is_array(a))
		return -EBADMSG;
	for (size_t i = 0; i < n; i++) {
		CLEANUP_FREE char *s = NULL;
		int r = bytes_from_json(json_array_get(a, i), &s);
		if (r == 0)
			r = strv_push(ret, s ? s : "");
		if (r < 0)
			return r;
	}
	return 0;
}

/* Numbers are 64 bits there and back: JSON's integers have a sign, so that the upper half comes out negative. */
static json_t *number_json(uint64_t v)
{
	return json_integer((json_int_t)v);
}

/* ---- the table of what is stored under which name ---- */

enum field_kind { FIELD_LIST, FIELD_TEXT, FIELD_FLAG, FIELD_U32, FIELD_U64, FIELD_INT };

struct field {
	const char *name;
	enum field_kind kind;
	size_t offset; /* in struct box_config */
	/* FIELD_INT, FIELD_U32: what is allowed; unset: everything the type holds */
	int64_t min, max;
};

#define AT(member) offsetof(struct box_config, member)

/* Names are part of the stored format: never renamed or used again. What is absent is empty, false or 0. */
static const struct field fields[] = {
	{"entrypoint", FIELD_LIST, AT(entrypoint)},
	{"cmd", FIELD_LIST, AT(cmd)},
	{"argv", FIELD_LIST, AT(process.argv)},
	{"env", FIELD_LIST, AT(process.env)},
	{"groups", FIELD_LIST, AT(process.groups)},
	{"cwd", FIELD_TEXT, AT(process.cwd)},
	{"user", FIELD_TEXT, AT(process.user)},
	{"tty", FIELD_FLAG, AT(process.tty)},
	{"stdin", FIELD_FLAG, AT(process.open_stdin)},
	{"caps", FIELD_U64, AT(process.caps)},
	{"no_new_privileges", FIELD_FLAG, AT(process.no_new_privileges)},
	{"init", FIELD_FLAG, AT(process.init)},
	{"oom_score_adj", FIELD_INT, AT(process.oom_score_adj), -1000, 1000},
	{"stdin_once", FIELD_FLAG, AT(stdin_once)},
	{"hostname", FIELD_TEXT, AT(hostname)},
	{"labels", FIELD_LIST, AT(labels)},
	{"vcpus", FIELD_U32, AT(vcpus)},
	{"memory", FIELD_U64, AT(mem_bytes)},
	{"auto_remove", FIELD_FLAG, AT(auto_remove)},
	{"stop_signal", FIELD_INT, AT(stop_signal), 0, 64},
	{"stop_timeout_ns", FIELD_U64, AT(stop_timeout_ns)},
	{"run_limit_ns", FIELD_U64, AT(run_limit_ns)},
	{"nano_cpus", FIELD_U64, AT(nano_cpus)},
	{"cpu_shares", FIELD_U64, AT(limits.cpu_shares)},
	{"cpu_quota_us", FIELD_U64, AT(limits.cpu_quota_us)},
	{"cpu_period_us", FIELD_U64, AT(limits.cpu_period_us)},
	{"cpuset", FIELD_TEXT, AT(limits.cpuset)},
	{"mem_max", FIELD_U64, AT(limits.mem_max)},
	{"mem_reservation", FIELD_U64, AT(limits.mem_reservation)},
	{"swap_max", FIELD_U64, AT(limits.swap_max)},
	{"pids_max", FIELD_U64, AT(limits.pids_max)},
	{"restart_retries", FIELD_U32, AT(restart.max_retries)},
	{"health_test", FIELD_LIST, AT(health.test)},
	{"health_interval_ns", FIELD_U64, AT(health.interval_ns)},
	{"health_timeout_ns", FIELD_U64, AT(health.timeout_ns)},
	{"health_start_period_ns", FIELD_U64, AT(health.start_period_ns)},
	{"health_start_interval_ns", FIELD_U64, AT(health.start_interval_ns)},
	{"health_retries", FIELD_U32, AT(health.retries)},
	{"log_max_size", FIELD_U64, AT(log.max_size)},
	{"log_max_files", FIELD_U32, AT(log.max_files)},
	{"log_opts", FIELD_LIST, AT(log.opts)},
	{"shm_bytes", FIELD_U64, AT(shm_bytes)},
	{"tmpfs", FIELD_LIST, AT(tmpfs)},
	{"sysctls", FIELD_LIST, AT(sysctls)},
	{"devices", FIELD_LIST, AT(devices)},
	{"disk_bytes", FIELD_U64, AT(disk_bytes)},
	{"add_hosts", FIELD_LIST, AT(add_hosts)},
	{"dns", FIELD_LIST, AT(dns)},
	{"dns_search", FIELD_LIST, AT(dns_search)},
	{"dns_opts", FIELD_LIST, AT(dns_opts)},
	{"cap_add", FIELD_LIST, AT(cap_add)},
	{"cap_drop", FIELD_LIST, AT(cap_drop)},
	{"security_opts", FIELD_LIST, AT(security_opts)},
	{"annotations", FIELD_LIST, AT(annotations)},
	{"exposed_ports", FIELD_LIST, AT(exposed_ports)},
	{"network", FIELD_TEXT, AT(network)},
	{"publish", FIELD_LIST, AT(publish)},
	{"publish_all", FIELD_FLAG, AT(publish_all)},
	{"publish_address", FIELD_TEXT, AT(publish_address)},
	{"egress_allow", FIELD_LIST, AT(egress_allow)},
	{"network_opts", FIELD_LIST, AT(network_opts)},
	{"privileged", FIELD_FLAG, AT(privileged)},
	{"read_only", FIELD_FLAG, AT(read_only)},
	{"unmasked", FIELD_FLAG, AT(unmasked)},
	{"user_namespace", FIELD_FLAG, AT(user_namespace)},
};

/* Enumerations are stored by name, so that their numbers are ours to change. */
static const char *restart_name(int i)
{
	return box_restart_name((enum box_restart_policy)i);
}
static const char *log_name(int i)
{
	return box_log_driver_name((enum box_log_driver)i);
}
static const char *seccomp_name(int i)
{
	static const char *const names[] = {
		[BOX_SECCOMP_DEFAULT] = "default", [BOX_SECCOMP_OWN] = "own", [BOX_SECCOMP_NONE] = "none"};
	return names[i];
}

static json_t *field_json(const struct field *f, const void *p)
{
	switch (f->kind) {
	case FIELD_LIST:
		return list_json(p);
	case FIELD_TEXT:
		return bytes_json(*(char *const *)p);
	case FIELD_FLAG:
		return json_boolean(*(const bool *)p);
	case FIELD_U32:
		return json_integer(*(const uint32_t *)p);
	case FIELD_U64:
		return number_json(*(const uint64_t *)p);
	case FIELD_INT:
		return json_integer(*(const int *)p);
	}
	return NULL;
}

static json_t *rlimits_json(const struct wire_process *p)
{
	json_t *a = json_array();
	for (size_t i = 0; i < p->n_rlimits; i++)
		json_array_append_new(
			a, json_pack("[I, I, I]", (json_int_t)p->rlimits[i].resource,
				   (json_int_t)p->rlimits[i].soft, (json_int_t)p->rlimits[i].hard));
	return a;
}

static const char *mount_type_name(enum box_mount_type t)
{
	return t == BOX_MOUNT_BIND ? "bind" : "volume";
}

/* Flags that are not set are left out, as are texts that there are none of. */
static json_t *mount_json(const struct box_mount *m)
{
	const struct {
		const char *name;
		bool set;
	} flags[] = {{"ro", m->read_only}, {"no_copy", m->no_copy}, {"anonymous", m->anonymous},
		{"create", m->create}};
	json_t *j = json_object();
	bool whole = j && json_object_set_new(j, "type", json_string(mount_type_name(m->type))) == 0 &&
		     json_object_set_new(j, "target", bytes_json(m->target)) == 0 &&
		     (!m->source || json_object_set_new(j, "source", bytes_json(m->source)) == 0) &&
		     (!m->subpath || json_object_set_new(j, "subpath", bytes_json(m->subpath)) == 0) &&
		     (!m->labels.n || json_object_set_new(j, "labels", list_json(&m->labels)) == 0) &&
		     (!m->opts.n || json_object_set_new(j, "opts", list_json(&m->opts)) == 0);

	for (size_t i = 0; whole && i < ARRAY_LEN(flags); i++)
		whole = !flags[i].set || json_object_set_new(j, flags[i].name, json_true()) == 0;
	if (whole)
		return j;
	json_decref(j);
	return NULL;
}

static json_t *mounts_json(const struct box_config *c)
{
	json_t *a = json_array();

	for (size_t i = 0; i < c->n_mounts; i++) {
		if (json_array_append_new(a, mount_json(&c->mounts[i])) < 0) {
			json_decref(a);
			return NULL;
		}
	}
	return a;
}

char *box_config_to_json(const struct box_config *c)
{
	json_t *j = json_object();

	for (size_t i = 0; i < ARRAY_LEN(fields); i++)
		json_object_set_new(
			j, fields[i].name, field_json(&fields[i], (const char *)c + fields[i].offset));
	json_object_set_new(j, "rlimits", rlimits_json(&c->process));
	json_object_set_new(j, "accel", json_string(accel_name(c->accel)));
	json_object_set_new(j, "restart", json_string(restart_name((int)c->restart.policy)));
	json_object_set_new(j, "log", json_string(log_name((int)c->log.driver)));
	json_object_set_new(j, "seccomp", json_string(seccomp_name((int)c->seccomp)));
	json_object_set_new(j, "mounts", mounts_json(c));
	/* Without memory one of them is missing: what cannot be written in full is not written. */
	bool whole = json_object_size(j) == ARRAY_LEN(fields) + 6;
	char *s = whole ? json_dumps(j, JSON_COMPACT) : NULL;
	json_decref(j);
	return s;
}

/* ---- reading ---- */

static int field_from_json(const struct field *f, const json_t *v, void *p)
{
	if (!v)
		return 0;
	switch (f->kind) {
	case FIELD_LIST:
		return list_from_json(v, p);
	case FIELD_TEXT:
		return bytes_from_json(v, p);
	case FIELD_FLAG:
		*(bool *)p = json_is_true(v);
		return json_is_boolean(v) ? 0 : -EBADMSG;
	default:
		break;
	}
	json_int_t n = json_integer_value(v);
	if (!json_is_integer(v))
		return -EBADMSG;
	if (f->kind == FIELD_U64) {
		*(uint64_t *)p = (uint64_t)n;
	} else if (f->kind == FIELD_U32) {
		*(uint32_t *)p = (uint32_t)n;
		return n >= 0 && n <= UINT32_MAX ? 0 : -EBADMSG;
	} else {
		*(int *)p = (int)n;
		return n >= f->min && n <= f->max ? 0 : -EBADMSG;
	}
	return 0;
}

static int rlimits_from_json(const json_t *a, struct wire_process *p)
{
	size_t n = json_array_size(a);

	if (a && (!json_is_array(a) || n > WIRE_RLIMITS_MAX))
		return -EBADMSG;
	for (size_t i = 0; i < n; i++) {
		const json_t *one = json_array_get(a, i);
		json_int_t v[3];
		for (size_t k = 0; k < ARRAY_LEN(v); k++) {
			const json_t *number = json_array_get(one, k);
			if (!json_is_integer(number))
				return -EBADMSG;
			v[k] = json_integer_value(number);
		}
		if (v[0] < 0 || v[0] >= WIRE_RLIMITS_MAX)
			return -EBADMSG;
		p->rlimits[p->n_rlimits++] = (struct wire_rlimit){
			.resource = (uint32_t)v[0], .soft = (uint64_t)v[1], .hard = (uint64_t)v[2]};
	}
	return 0;
}

static int flag_from_json(const json_t *j, const char *name, bool *ret)
{
	const json_t *v = json_object_get(j, name);

	*ret = json_is_true(v);
	return !v || json_is_boolean(v) ? 0 : -EBADMSG;
}

static int mount_from_json(const json_t *j, struct box_mount *m)
{
	const char *type = json_string_value(json_object_get(j, "type"));
	int r = bytes_from_json(json_object_get(j, "target"), &m->target);

	if (!type || (strcmp(type, "bind") != 0 && strcmp(type, "volume") != 0))
		return -EBADMSG;
	m->type = strcmp(type, "bind") == 0 ? BOX_MOUNT_BIND : BOX_MOUNT_VOLUME;
	if (r == 0)
		r = bytes_from_json(json_object_get(j, "source"), &m->source);
	if (r == 0)
		r = bytes_from_json(json_object_get(j, "subpath"), &m->subpath);
	if (r == 0)
		r = list_from_json(json_object_get(j, "labels"), &m->labels);
	if (r == 0)
		r = list_from_json(json_object_get(j, "opts"), &m->opts);
	if (r == 0)
		r = flag_from_json(j, "ro", &m->read_only);
	if (r == 0)
		r = flag_from_json(j, "no_copy", &m->no_copy);
	if (r == 0)
		r = flag_from_json(j, "anonymous", &m->anonymous);
	if (r == 0)
		r = flag_from_json(j, "create", &m->create);
	if (r == 0 && (!m->target || m->target[0] != '/' || (m->type == BOX_MOUNT_BIND && !m->source)))
		r = -EBADMSG;
	return r;
}

static int mounts_from_json(const json_t *a, struct box_config *c)
{
	size_t n = json_array_size(a);
	int r = 0;

	if (!n)
		return !a || json_is_array(a) ? 0 : -EBADMSG;
	if (n > BOX_MOUNTS_MAX)
		return -EBADMSG;
	c->mounts = calloc(n, sizeof(*c->mounts));
	if (!c->mounts)
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < n; i++)
		r = mount_from_json(json_array_get(a, i), &c->mounts[c->n_mounts++]);
	return r;
}

/* Absent: 0, the default. */
static int name_from_json(const json_t *j, const char *key, const char *name_of(int), int last, int *ret)
{
	const json_t *v = json_object_get(j, key);
	const char *s = json_string_value(v);

	*ret = 0;
	for (int i = 0; s && i <= last; i++) {
		if (strcmp(name_of(i), s) == 0) {
			*ret = i;
			return 0;
		}
	}
	return v ? -EBADMSG : 0;
}

static int config_from_object(const json_t *j, struct box_config *c)
{
	const char *accel = json_string_value(json_object_get(j, "accel"));
	int r = 0, restart = 0, log = 0, seccomp = 0;

	/* Records of before there were limits. */
	c->process.caps = BOX_CAPS_DEFAULT;
	c->limits.swap_max = UINT64_MAX;
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(fields); i++)
		r = field_from_json(
			&fields[i], json_object_get(j, fields[i].name), (char *)c + fields[i].offset);
	if (r == 0)
		r = rlimits_from_json(json_object_get(j, "rlimits"), &c->process);
	if (r == 0)
		r = mounts_from_json(json_object_get(j, "mounts"), c);
	if (r == 0)
		r = name_from_json(j, "restart", restart_name, BOX_RESTART_UNLESS_STOPPED, &restart);
	if (r == 0)
		r = name_from_json(j, "log", log_name, BOX_LOG_SYSLOG, &log);
	if (r == 0)
		r = name_from_json(j, "seccomp", seccomp_name, BOX_SECCOMP_NONE, &seccomp);
	if (r == 0 && accel_parse(accel ? accel : "auto", &c->accel) < 0)
		r = -EBADMSG;
	c->restart.policy = (enum box_restart_policy)restart;
	c->log.driver = (enum box_log_driver)log;
	c->seccomp = (enum box_seccomp)seccomp;
	return r;
}

int box_config_from_json(const char *s, struct box_config *ret)
{
	struct box_config c = {0};
	json_t *j = json_loads(s, JSON_REJECT_DUPLICATES, NULL);
	int r = json_is_object(j) ? config_from_object(j, &c) : -EBADMSG;

	json_decref(j);
	if (r < 0) {
		box_config_done(&c);
		return r;
	}
	*ret = c;
	return 0;
}

int box_config_list(const char *s, struct strv *ret)
{
	json_t *j = json_loads(s, JSON_REJECT_DUPLICATES, NULL);
	int r = json_is_array(j) ? list_from_json(j, ret) : -EBADMSG;

	json_decref(j);
	return r;
}

char *box_config_list_text(const struct strv *l)
{
	json_t *j = list_json(l);
	char *s = json_array_size(j) == l->n ? json_dumps(j, JSON_COMPACT) : NULL;

	json_decref(j);
	return s;
}
