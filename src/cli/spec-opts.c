/* SPDX-License-Identifier: MIT */
/* The options of run, create and container-update. */
#include <string.h>

#include "detach.h"
#include "spec.h"

#define APPEND(t, n, list) (memcpy((t) + (n), (list), sizeof(list)), (n) + ARRAY_LEN(list))

size_t spec_limit_opts(struct limit_opts *o, struct opt *t)
{
	const struct opt opts[] = {
		OPT_HEADING("Resources"),
		{0, "cpus", OPT_STR, &o->cpus, "N",
			"virtual CPUs; of a fraction, the share that may be used [2]"},
		{0, "cpu-shares", OPT_STR, &o->cpu_shares, "N",
			"weight among the processes of the machine [1024]"},
		{0, "cpu-quota", OPT_STR, &o->cpu_quota, "US", "CPU time in each period, microseconds"},
		{0, "cpu-period", OPT_STR, &o->cpu_period, "US", "length of a period [100000]"},
		{0, "cpuset-cpus", OPT_STR, &o->cpuset, "LIST", "which of the box's CPUs to use, like 0-2,4"},
		{'m', "memory", OPT_STR, &o->memory, "SIZE",
			"memory of the machine, its kernel's included [512m]"},
		{0, "memory-reservation", OPT_STR, &o->reservation, "SIZE",
			"memory that is taken away last when it gets scarce"},
		{0, "memory-swap", OPT_STR, &o->swap, "SIZE", "memory and swap together, -1 for no limit"},
		{0, "pids-limit", OPT_STR, &o->pids, "N", "how many processes there may be, -1 for no limit"},
		{0, "restart", OPT_STR, &o->restart, "POLICY",
			"no, always, on-failure[:TIMES] or unless-stopped [no]"},
	};
	return APPEND(t, 0, opts);
}

static size_t general_opts(struct run_opts *o, struct opt *t)
{
	const struct opt opts[] = {
		{0, "accel", OPT_STR, &o->accel, "MODE", "auto, kvm, qemu-kvm or tcg (emulated) [auto]"},
		{0, "annotation", OPT_LIST, &o->annotations, "KEY=VALUE", "note something about the box"},
		{0, "cidfile", OPT_STR, &o->cidfile, "FILE", "write the box's ID to a new file"},
		{0, "entrypoint", OPT_STR, &o->entrypoint, "PROGRAM", "instead of the image's entrypoint"},
		{'e', "env", OPT_LIST, &o->env, "NAME=VALUE",
			"set an environment variable; NAME alone passes ours on"},
		{0, "env-file", OPT_LIST, &o->env_files, "FILE", "the same for each line of a file"},
		{0, "group-add", OPT_LIST, &o->groups, "GROUP", "a further group of the process"},
		{0, "init", OPT_FLAG, &o->init, NULL,
			"a small init runs it, passes signals on and reaps orphans"},
		{'i', "interactive", OPT_FLAG, &o->interactive, NULL, "pass standard input to the process"},
		{'l', "label", OPT_LIST, &o->labels, "KEY=VALUE", "set a label"},
		{0, "label-file", OPT_LIST, &o->label_files, "FILE", "the same for each line of a file"},
		{0, "log-driver", OPT_STR, &o->log_driver, "NAME", "json-file, none or syslog [json-file]"},
		{0, "log-opt", OPT_LIST, &o->log_opts, "NAME=VALUE",
			"option of the log driver, like max-size=10m or max-file=3"},
		{0, "name", OPT_STR, &o->name, "NAME", "name of the box [made up]"},
		{0, "platform", OPT_STR, &o->platform, "OS/ARCH",
			"when pulling: which of the image's platforms [the host's]"},
		{0, "pull", OPT_STR, &o->pull, "WHEN", "pull the image: missing, always or never [missing]"},
		{'q', "quiet", OPT_FLAG, &o->quiet, NULL, "when pulling: no progress"},
		{0, "rm", OPT_FLAG, &o->rm, NULL, "remove the box when it has ended"},
		{0, "stop-signal", OPT_STR, &o->stop_signal, "SIGNAL",
			"signal that asks it to stop [the image's, TERM]"},
		{0, "stop-timeout", OPT_STR, &o->stop_timeout, "SECONDS",
			"wait before it is killed, -1: for ever [10]"},
		{'t', "tty", OPT_FLAG, &o->tty, NULL, "give the process a terminal"},
		{'u', "user", OPT_STR, &o->user, "USER[:GROUP]", "run as this user, by name or number"},
		{'w', "workdir", OPT_STR, &o->workdir, "PATH", "working directory"},
	};
	return APPEND(t, 0, opts);
}

static size_t process_opts(struct run_opts *o, struct opt *t)
{
	const struct opt opts[] = {
		{0, "oom-score-adj", OPT_STR, &o->oom_score_adj, "N",
			"which processes go first when memory runs out, -1000 (never) to 1000"},
		{0, "shm-size", OPT_STR, &o->shm_size, "SIZE", "size of /dev/shm [64m]"},
		{0, "storage-opt", OPT_LIST, &o->storage_opts, "size=SIZE",
			"how much may be written beside volumes, 32m to 8192g [10g]"},
		{0, "mount", OPT_LIST, &o->mounts, "KEY=VALUE,...",
			"mount something: type=bind, volume or tmpfs; source=, target=, readonly and others"},
		{0, "tmpfs", OPT_LIST, &o->tmpfs, "PATH[:OPTIONS]", "mount a file system in memory"},
		{0, "ulimit", OPT_LIST, &o->ulimits, "NAME=SOFT[:HARD]",
			"limit of each process, like nofile=1024"},
		{'v', "volume", OPT_LIST, &o->volumes, "[SOURCE:]TARGET[:OPTIONS]",
			"mount a volume, or a folder or file of this host; options: ro, nocopy"},
		{0, "volume-driver", OPT_STR, &o->volume_driver, "NAME", "local, the only one there is"},
		{0, "volumes-from", OPT_LIST, &o->volumes_from, "BOX[:ro]",
			"mount what another box has mounted"},
		OPT_HEADING("Security"),
		{0, "cap-add", OPT_LIST, &o->cap_add, "NAME", "add a capability, or ALL"},
		{0, "cap-drop", OPT_LIST, &o->cap_drop, "NAME", "drop a capability, or ALL"},
		{0, "device", OPT_LIST, &o->devices, "DEV[:DEV][:rwm]", "let it use a device of its machine"},
		{0, "gpus", OPT_STR, &o->gpus, "WHICH", "refused: a machine has none"},
		{0, "privileged", OPT_FLAG, &o->privileged, NULL, "let it do everything inside its machine"},
		{0, "read-only", OPT_FLAG, &o->read_only, NULL,
			"do not let it write to the root file system"},
		{0, "security-opt", OPT_LIST, &o->security_opts, "OPTION",
			"seccomp=FILE, seccomp=unconfined, no-new-privileges, systempaths=unconfined"},
		{0, "sysctl", OPT_LIST, &o->sysctls, "NAME=VALUE", "set a parameter of its kernel"},
		{0, "userns", OPT_STR, &o->userns, "MODE",
			"private: a user namespace of its own; host: none [host]"},
	};
	return APPEND(t, 0, opts);
}

static size_t network_opts(struct run_opts *o, struct opt *t)
{
	const struct opt opts[] = {
		OPT_HEADING("Network"),
		{0, "add-host", OPT_LIST, &o->add_hosts, "NAME:ADDRESS",
			"add a line to /etc/hosts; the address host-gateway is the host"},
		{0, "dns", OPT_LIST, &o->dns, "ADDRESS", "a name server to ask [the host's]"},
		{0, "dns-option", OPT_LIST, &o->dns_opts, "OPTION", "an option of resolv.conf"},
		{0, "dns-search", OPT_LIST, &o->dns_search, "DOMAIN", "a search domain; . for none"},
		{0, "egress-allow", OPT_LIST, &o->egress_allow, "PEER[:PORTS]",
			"let it reach only this: a name, *.NAME, address, prefix or host [everything]"},
		{0, "expose", OPT_LIST, &o->expose, "PORT[/PROTO]", "note a port that the box serves"},
		{'h', "hostname", OPT_STR, &o->hostname, "NAME", "host name inside the box [its short ID]"},
		{0, "ip", OPT_STR, &o->ip, "ADDRESS",
			"its IPv4 address on the first network (others: --network name=NET,ip=ADDRESS) "
			"[any free one]"},
		{0, "ip6", OPT_STR, &o->ip6, "ADDRESS",
			"its IPv6 address on the first network (others: --network name=NET,ip6=ADDRESS) "
			"[any free one]"},
		{0, "mac-address", OPT_STR, &o->mac_address, "ADDRESS", "refused: it follows from the ID"},
		{0, "network", OPT_LIST, &o->networks, "NETWORK",
			"bridge (a network of its own), none, or a network; several times for several "
			"[bridge]",
			.alias = "net"},
		{0, "network-alias", OPT_LIST, &o->network_aliases, "NAME",
			"a further name of it on the first network (others: --network name=NET,alias=NAME)",
			.alias = "net-alias"},
		{0, "network-opt", OPT_LIST, &o->network_opts, "NAME=VALUE",
			"rate=BITS a second each way, like 100m; host-loopback=yes: the host's 127.0.0.1 "
			"as " NET_HOST_NAME},
		{'p', "publish", OPT_LIST, &o->publish, "[IP:][PORT:]PORT[/PROTO]",
			"let a port of the host lead to one of the box; ranges, and 0 for any free one; "
			"or target=PORT[,published=PORT][,protocol=PROTO]"},
		{'P', "publish-all", OPT_FLAG, &o->publish_all, NULL,
			"publish all exposed ports, at any free ones of the host"},
	};
	return APPEND(t, 0, opts);
}

static size_t health_opts(struct run_opts *o, struct opt *t)
{
	const struct opt opts[] = {
		OPT_HEADING("Health"),
		{0, "health-cmd", OPT_STR, &o->health_cmd, "COMMAND",
			"tells by its status whether the box is well"},
		{0, "health-interval", OPT_STR, &o->health_interval, "DURATION", "time between checks [30s]"},
		{0, "health-retries", OPT_STR, &o->health_retries, "N",
			"failures in a row that make it unhealthy [3]"},
		{0, "health-start-interval", OPT_STR, &o->health_start_interval, "DURATION",
			"time between checks in the start period [5s]"},
		{0, "health-start-period", OPT_STR, &o->health_start_period, "DURATION",
			"time in which failures do not count [0s]"},
		{0, "health-timeout", OPT_STR, &o->health_timeout, "DURATION",
			"how long a check may take [5s; for the image's own, 30s]"},
		{0, "no-healthcheck", OPT_FLAG, &o->no_healthcheck, NULL, "leave the image's check out"},
	};
	return APPEND(t, 0, opts);
}

size_t spec_common_opts(struct run_opts *o, struct opt *t)
{
	size_t n = general_opts(o, t);
	n += spec_limit_opts(&o->limits, t + n);
	n += process_opts(o, t + n);
	n += network_opts(o, t + n);
	return n + health_opts(o, t + n);
}
