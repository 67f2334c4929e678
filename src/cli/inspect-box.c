/* SPDX-License-Identifier: MIT */
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/units.h"
#include "box/volume.h"
#include "inspect.h"
#include "ports.h"
#include "usage.h"

enum { HEALTH_FILE_MAX = 256 << 10 };

json_t *inspect_time_json(int64_t ns)
{
	char text[40];
	return json_string(ns ? format_time_rfc3339(text, sizeof(text), ns) : "0001-01-01T00:00:00Z");
}

/* As Docker shows a list that was not given. */
static json_t *list_or_null(const struct strv *l)
{
	return l->n ? json_from_strv(l) : json_null();
}

/* ---- State ---- */

/* The supervisor's: whoever listens for the box's clients. 0 when nobody does. */
static pid_t supervisor_pid(const struct app *a, const struct box *b)
{
	struct ucred peer = {0};
	socklen_t len = sizeof(peer);

	if (!box_is_live(b))
		return 0;
	CLEANUP_CLOSE int fd = box_connect(a->st, b, NULL);
	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return 0;
	return peer.pid;
}

/* The supervisor's file has Docker's form; it is believed only so far. NULL without a health check. */
static json_t *health_json(const struct app *a, const struct box *b)
{
	CLEANUP_FREE char *path = str_printf("boxes/%s/health.json", b->id);
	CLEANUP_FREE char *text = NULL;
	json_t *j = json_pack(
		"{s:s, s:i, s:[]}", "Status", b->health ? b->health : "none", "FailingStreak", 0, "Log");
	size_t len;

	if (b->config.health.test.n == 0 || strcmp(b->config.health.test.v[0], "NONE") == 0) {
		json_decref(j);
		return NULL;
	}
	if (!path || io_read_file_at(a->st->home_fd, path, HEALTH_FILE_MAX, &text, &len) < 0)
		return j;
	json_t *stored = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	json_t *streak = json_object_get(stored, "FailingStreak"), *log = json_object_get(stored, "Log"),
	       *status = json_object_get(stored, "Status");
	if (json_is_integer(streak))
		json_object_set(j, "FailingStreak", streak);
	if (json_is_array(log))
		json_object_set(j, "Log", log);
	if (json_is_string(status) && !b->health) /* of the last run */
		json_object_set(j, "Status", status);
	json_decref(stored);
	return j;
}

static json_t *state_json(const struct app *a, const struct box *b)
{
	json_t *j = json_pack("{s:s, s:b, s:b, s:b, s:b, s:b, s:I, s:i, s:o, s:o, s:o}", "Status",
		box_state_name(b->state), "Running", b->state >= BOX_RUNNING && b->state <= BOX_STOPPING,
		"Paused", b->state == BOX_PAUSED, "Restarting", b->state == BOX_RESTARTING, "OOMKilled",
		b->oom_killed, "Dead", b->state == BOX_DEAD, "Pid", (json_int_t)supervisor_pid(a, b),
		"ExitCode", b->exit_code, "Error", json_from_text(b->error ? b->error : ""), "StartedAt",
		inspect_time_json(b->started_ns), "FinishedAt", inspect_time_json(b->finished_ns));
	json_t *health = health_json(a, b);

	if (health)
		json_object_set_new(j, "Health", health);
	/* Ours: it waits because its log cannot be written. */
	json_object_set_new(j, "LogStalled", json_boolean(box_is_live(b) && box_log_stalled(a->st, b)));
	return j;
}

/* ---- Mounts ---- */

static const char *mount_type(const struct box_mount *m)
{
	return m->type == BOX_MOUNT_BIND ? "bind" : "volume";
}

/* As Docker's, with Name and Driver of volumes alone. */
static json_t *mount_json(const struct app *a, const struct box_mount *m)
{
	bool bind = m->type == BOX_MOUNT_BIND;
	CLEANUP(box_volume_freep) struct box_volume *v = NULL;
	CLEANUP_FREE char *path = NULL;
	json_t *j = json_pack("{s:s}", "Type", mount_type(m));

	if (!bind) {
		if (m->source && box_volume_find(a->st, m->source, &v, NULL) == 0)
			path = box_volume_path(a->st, v);
		json_object_set_new(j, "Name", json_from_text(m->source ? m->source : ""));
	}
	json_object_set_new(j, "Source", json_from_text(bind ? m->source : path ? path : ""));
	json_object_set_new(j, "Destination", json_from_text(m->target));
	if (!bind)
		json_object_set_new(j, "Driver", json_string(v ? v->driver : "local"));
	json_object_set_new(j, "Mode", json_string(m->read_only ? "ro" : ""));
	json_object_set_new(j, "RW", json_boolean(!m->read_only));
	json_object_set_new(j, "Propagation", json_string(bind ? "rprivate" : ""));
	return j;
}

static json_t *mounts_json(const struct app *a, const struct box_config *c)
{
	json_t *list = json_array();

	for (size_t i = 0; i < c->n_mounts; i++)
		json_array_append_new(list, mount_json(a, &c->mounts[i]));
	return list;
}

/* What -v cannot say. */
static bool is_long(const struct box_mount *m)
{
	return m->subpath || m->labels.n || m->opts.n || (m->type == BOX_MOUNT_BIND && !m->create);
}

/* HostConfig.Mounts: as the option had it. */
static json_t *long_mount_json(const struct box_mount *m)
{
	json_t *j = json_pack("{s:s, s:o, s:o}", "Type", mount_type(m), "Source",
		json_from_text(m->source ? m->source : ""), "Target", json_from_text(m->target));

	if (m->read_only)
		json_object_set_new(j, "ReadOnly", json_true());
	if (m->type == BOX_MOUNT_BIND)
		return j;
	json_t *options = json_object();
	if (m->no_copy)
		json_object_set_new(options, "NoCopy", json_true());
	if (m->labels.n)
		json_object_set_new(options, "Labels", json_from_pairs(&m->labels));
	if (m->opts.n)
		json_object_set_new(options, "DriverConfig",
			json_pack("{s:s, s:o}", "Name", "local", "Options", json_from_pairs(&m->opts)));
	if (m->subpath)
		json_object_set_new(options, "Subpath", json_from_text(m->subpath));
	json_object_set_new(j, "VolumeOptions", options);
	return j;
}

/* Anonymous volumes are in Config.Volumes alone. */
static void add_binds(json_t *j, const struct box_config *c)
{
	json_t *binds = json_array(), *mounts = json_array();

	for (size_t i = 0; i < c->n_mounts; i++) {
		const struct box_mount *m = &c->mounts[i];
		const char *mode = m->read_only && m->no_copy ? ":ro,nocopy"
				   : m->read_only	      ? ":ro"
				   : m->no_copy		      ? ":nocopy"
							      : "";
		if (is_long(m)) {
			json_array_append_new(mounts, long_mount_json(m));
		} else if (!m->anonymous && m->source) {
			CLEANUP_FREE char *text = str_printf("%s:%s%s", m->source, m->target, mode);
			json_array_append_new(binds, json_from_text(text ? text : ""));
		}
	}
	json_object_set_new(j, "Binds", json_array_size(binds) ? json_incref(binds) : json_null());
	if (json_array_size(mounts))
		json_object_set(j, "Mounts", mounts);
	json_object_set_new(j, "VolumeDriver", json_string(""));
	json_object_set_new(j, "VolumesFrom", json_null()); /* by now they are among the others */
	json_decref(binds);
	json_decref(mounts);
}

/* Config.Volumes: those that have no name of the user's. */
static json_t *volumes_json(const struct box_config *c)
{
	json_t *j = json_object();

	for (size_t i = 0; i < c->n_mounts; i++) {
		CLEANUP_FREE char *target = text_escape_dup(c->mounts[i].target);
		if (c->mounts[i].anonymous && target)
			json_object_set_new(j, target, json_object());
	}
	if (json_object_size(j))
		return j;
	json_decref(j);
	return json_null();
}

/* ---- HostConfig ---- */

static json_t *ulimits_json(const struct wire_process *p)
{
	static const char *const names[] = {"cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile",
		"memlock", "as", "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime"};
	json_t *a = json_array();

	for (size_t i = 0; i < p->n_rlimits; i++) {
		const struct wire_rlimit *l = &p->rlimits[i];
		if (l->resource < ARRAY_LEN(names)) /* no limit is -1 */
			json_array_append_new(
				a, json_pack("{s:s, s:I, s:I}", "Name", names[l->resource], "Hard",
					   (json_int_t)l->hard, "Soft", (json_int_t)l->soft));
	}
	return a;
}

/* "/path:options" */
static json_t *tmpfs_json(const struct strv *l)
{
	json_t *j = json_object();

	for (size_t i = 0; i < l->n; i++) {
		size_t n = strcspn(l->v[i], ":");
		CLEANUP_FREE char *path = strndup(l->v[i], n);
		if (path)
			json_object_set_new(j, path, json_from_text(l->v[i] + n + (l->v[i][n] == ':')));
	}
	return j;
}

/* "/dev/x:/dev/y:rwm" */
static json_t *devices_json(const struct strv *l)
{
	json_t *a = json_array();

	for (size_t i = 0; i < l->n; i++) {
		CLEANUP_FREE char *copy = strdup(l->v[i]);
		char *save = NULL;
		if (!copy)
			continue;
		const char *from = strtok_r(copy, ":", &save);
		const char *to = strtok_r(NULL, ":", &save), *mode = to ? strtok_r(NULL, ":", &save) : NULL;
		json_array_append_new(a, json_pack("{s:o, s:o, s:o}", "PathOnHost",
						 json_from_text(from ? from : ""), "PathInContainer",
						 json_from_text(to     ? to
								: from ? from
								       : ""),
						 "CgroupPermissions", json_from_text(mode ? mode : "rwm")));
	}
	return a;
}

/* Docker's MemorySwap: memory and swap together; 0: not set. */
static json_int_t memory_swap(const struct box_config *c)
{
	uint64_t memory = c->limits.mem_max ? c->limits.mem_max : c->mem_bytes;
	return c->limits.swap_max > (uint64_t)INT64_MAX - memory ? 0
								 : (json_int_t)(c->limits.swap_max + memory);
}

static void add_resources(json_t *j, const struct box_config *c)
{
	const struct wire_limits *l = &c->limits;

	json_object_set_new(j, "Memory", json_integer((json_int_t)(l->mem_max ? l->mem_max : c->mem_bytes)));
	json_object_set_new(j, "NanoCpus",
		json_integer(c->nano_cpus ? (json_int_t)c->nano_cpus : (json_int_t)c->vcpus * 1000000000));
	json_object_set_new(j, "CpuShares", json_integer((json_int_t)l->cpu_shares));
	/* A fraction of --cpus is kept as a quota, but was not given as one. */
	json_object_set_new(j, "CpuPeriod", json_integer(c->nano_cpus ? 0 : (json_int_t)l->cpu_period_us));
	json_object_set_new(j, "CpuQuota", json_integer(c->nano_cpus ? 0 : (json_int_t)l->cpu_quota_us));
	json_object_set_new(j, "CpusetCpus", json_from_text(l->cpuset ? l->cpuset : ""));
	json_object_set_new(j, "MemoryReservation", json_integer((json_int_t)l->mem_reservation));
	json_object_set_new(j, "MemorySwap", json_integer(memory_swap(c)));
	json_object_set_new(
		j, "PidsLimit", l->pids_max ? json_integer((json_int_t)l->pids_max) : json_null());
	json_object_set_new(j, "Ulimits", ulimits_json(&c->process));
	json_object_set_new(j, "OomScoreAdj", json_integer(c->process.oom_score_adj));
	json_object_set_new(j, "ShmSize", json_integer(c->shm_bytes ? (json_int_t)c->shm_bytes : 64 << 20));
}

static void add_security(json_t *j, const struct box_config *c)
{
	json_object_set_new(j, "Privileged", json_boolean(c->privileged));
	json_object_set_new(j, "ReadonlyRootfs", json_boolean(c->read_only));
	json_object_set_new(j, "CapAdd", list_or_null(&c->cap_add));
	json_object_set_new(j, "CapDrop", list_or_null(&c->cap_drop));
	json_object_set_new(j, "SecurityOpt", list_or_null(&c->security_opts));
	json_object_set_new(j, "GroupAdd", list_or_null(&c->process.groups));
	json_object_set_new(j, "UsernsMode", json_string(c->user_namespace ? "private" : ""));
	json_object_set_new(j, "Sysctls", json_from_pairs(&c->sysctls));
	json_object_set_new(j, "Devices", devices_json(&c->devices));
	json_object_set_new(j, "Tmpfs", tmpfs_json(&c->tmpfs));
}

static json_t *host_config_json(const struct app *a, const struct box *b)
{
	const struct box_config *c = &b->config;
	json_t *j = json_object();

	add_binds(j, c);
	json_object_set_new(j, "LogConfig",
		json_pack("{s:s, s:o}", "Type", box_log_driver_name(c->log.driver), "Config",
			json_from_pairs(&c->log.opts)));
	inspect_add_network_config(j, a, b);
	json_object_set_new(j, "RestartPolicy",
		json_pack("{s:s, s:I}", "Name", box_restart_name(c->restart.policy), "MaximumRetryCount",
			(json_int_t)c->restart.max_retries));
	json_object_set_new(j, "AutoRemove", json_boolean(c->auto_remove));
	json_object_set_new(j, "Init", json_boolean(c->process.init));
	json_object_set_new(j, "Dns", json_from_strv(&c->dns));
	json_object_set_new(j, "DnsOptions", json_from_strv(&c->dns_opts));
	json_object_set_new(j, "DnsSearch", json_from_strv(&c->dns_search));
	json_object_set_new(j, "ExtraHosts", list_or_null(&c->add_hosts));
	if (c->disk_bytes) {
		char size[32];
		snprintf(size, sizeof(size), "%llu", (unsigned long long)c->disk_bytes);
		json_object_set_new(j, "StorageOpt", json_pack("{s:s}", "size", size));
	}
	json_object_set_new(j, "Annotations", json_from_pairs(&c->annotations));
	add_resources(j, c);
	add_security(j, c);
	return j;
}

/* ---- Config ---- */

static json_t *check_json(const struct box_health_check *h)
{
	return json_pack("{s:o, s:I, s:I, s:I, s:I, s:I}", "Test", json_from_strv(&h->test), "Interval",
		(json_int_t)h->interval_ns, "Timeout", (json_int_t)h->timeout_ns, "StartPeriod",
		(json_int_t)h->start_period_ns, "StartInterval", (json_int_t)h->start_interval_ns, "Retries",
		(json_int_t)h->retries);
}

static json_t *ports_json(const struct strv *ports)
{
	json_t *j = json_object();
	for (size_t i = 0; i < ports->n; i++)
		json_object_set_new(j, ports->v[i], json_object());
	return j;
}

/* "SIGTERM", "SIGRTMIN+3" */
static json_t *signal_json(int sig)
{
	const char *name = sigabbrev_np(sig);
	char text[32];

	if (name)
		snprintf(text, sizeof(text), "SIG%s", name);
	else if (sig == SIGRTMIN)
		snprintf(text, sizeof(text), "SIGRTMIN");
	else if (sig > SIGRTMIN && sig <= SIGRTMAX)
		snprintf(text, sizeof(text), "SIGRTMIN+%d", sig - SIGRTMIN);
	else
		snprintf(text, sizeof(text), "%d", sig);
	return json_string(text);
}

static json_t *config_json(const struct box *b)
{
	const struct box_config *c = &b->config;
	json_t *j = json_pack("{s:o, s:o, s:b, s:b, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:i}", "Hostname",
		json_from_text(c->hostname), "User", json_from_text(c->process.user), "Tty", c->process.tty,
		"OpenStdin", c->process.open_stdin, "StdinOnce", c->stdin_once, "Env",
		json_from_strv(&c->process.env), "Cmd", json_from_strv(&c->cmd), "Image",
		json_from_text(b->image), "WorkingDir", json_from_text(c->process.cwd), "Entrypoint",
		json_from_strv(&c->entrypoint), "Labels", json_from_pairs(&c->labels), "StopSignal",
		signal_json(c->stop_signal), "StopTimeout", (int)(c->stop_timeout_ns / 1000000000));

	json_object_set_new(j, "Volumes", volumes_json(c));
	if (c->exposed_ports.n)
		json_object_set_new(j, "ExposedPorts", ports_json(&c->exposed_ports));
	if (c->health.test.n)
		json_object_set_new(j, "Healthcheck", check_json(&c->health));
	if (c->run_limit_ns)
		json_object_set_new(j, "Timeout", json_integer((json_int_t)c->run_limit_ns));
	return j;
}

/* What holds the guest, and what holds that. null until it has run: it is only known then. */
static json_t *machine_json(const struct box *b)
{
	enum accel accel = ACCEL_AUTO;
	json_t *j = json_pack("{s:s, s:i, s:I, s:n, s:n, s:n, s:n, s:n, s:n}", "AcceleratorRequested",
		accel_name(b->config.accel), "VCPUs", (int)b->config.vcpus, "Memory",
		(json_int_t)b->config.mem_bytes, "Backend", "Accelerator", "HardwareIsolation", "Confinement",
		"ConfinementMissing", "FileServer");

	if (!b->accel || accel_parse(b->accel, &accel) < 0)
		return j;
	json_object_set_new(j, "Accelerator", json_string(b->accel));
	json_object_set_new(j, "HardwareIsolation", json_boolean(accel_isolates(accel)));
	json_t *recorded = b->machine ? json_loads(b->machine, JSON_REJECT_DUPLICATES, NULL) : NULL;
	if (recorded)
		json_object_update_existing(j, recorded);
	json_decref(recorded);
	return j;
}

json_t *inspect_box_json(const struct app *a, const struct box *b, bool with_size)
{
	const struct box_config *c = &b->config;
	size_t n = c->process.argv.n;
	struct strv args = {.v = n ? c->process.argv.v + 1 : NULL, .n = n ? n - 1 : 0};
	bool has_log = c->log.driver == BOX_LOG_JSON_FILE;
	CLEANUP_FREE char *log = str_printf("%s/boxes/%s/logs/box.log", a->st->home, b->id);
	json_t *j = json_object();

	json_object_set_new(j, "Id", json_string(b->id));
	json_object_set_new(j, "Name", json_string(b->name));
	json_object_set_new(j, "Created", inspect_time_json(b->created_ns));
	json_object_set_new(j, "Path", json_from_text(n ? c->process.argv.v[0] : ""));
	json_object_set_new(j, "Args", json_from_strv(&args));
	json_object_set_new(j, "State", state_json(a, b));
	json_object_set_new(j, "Image", json_string(b->image_id));
	json_object_set_new(j, "LogPath", json_from_text(has_log && log ? log : ""));
	json_object_set_new(j, "RestartCount", json_integer(b->restart_count));
	json_object_set_new(j, "Platform", json_string("linux"));
	json_object_set_new(j, "ExecIDs", json_null());
	json_object_set_new(j, "HostConfig", host_config_json(a, b));
	if (with_size) {
		uint64_t own = usage_scratch_bytes(a, b->id);
		uint64_t all = own + usage_tree_bytes(a->st->home_fd, b->disk);
		json_object_set_new(j, "SizeRw", json_integer((json_int_t)own));
		json_object_set_new(j, "SizeRootFs", json_integer((json_int_t)all));
	}
	json_object_set_new(j, "Mounts", mounts_json(a, c));
	json_object_set_new(j, "Config", config_json(b));
	json_object_set_new(j, "NetworkSettings", inspect_network_settings(a, b));
	json_object_set_new(j, "Machine", machine_json(b));
	return j;
}
