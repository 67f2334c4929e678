/* SPDX-License-Identifier: MIT */
/* From options and image to what a box runs with: Docker's rules, and what is refused before anything starts. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "spec.h"

static void join(char *dst, size_t size, const struct strv *l)
{
	size_t n = 0;

	dst[0] = '\0';
	for (size_t i = 0; i < l->n; i++)
		n += (size_t)snprintf(dst + n, size - n, "%s%s", i ? " " : "", l->v[i]);
}

static const struct {
	struct run_opts o;
	const char *why; /* part of the message, NULL: accepted */
} checks[] = {
	{{0}, NULL},
	{{.limits.cpus = "1"}, NULL},
	{{.limits.cpus = "2.0"}, NULL},
	{{.limits.cpus = "0"}, "--cpus 0"},
	{{.limits.cpus = "33"}, "--cpus 33"},
	{{.limits.cpus = "1.5"}, NULL},
	{{.limits.cpus = "0.001"}, "--cpus 0.001: expected a number from 0.01 to 32"},
	{{.limits.cpus = "1.0000000001"}, "--cpus"},
	{{.limits.cpus = "1", .limits.cpu_quota = "5000"}, "--cpus and --cpu-quota"},
	{{.limits.cpu_quota = "999"}, "--cpu-quota 999"},
	{{.limits.cpu_quota = "-1"}, NULL},
	{{.limits.cpu_period = "999"}, "--cpu-period 999"},
	{{.limits.cpu_period = "1000001"}, "--cpu-period 1000001"},
	{{.limits.cpu_shares = "1"}, "--cpu-shares 1"},
	{{.limits.cpu_shares = "262144"}, NULL},
	{{.limits.cpuset = "0-1"}, NULL},
	{{.limits.cpuset = "0,1"}, NULL},
	{{.limits.cpuset = "2"}, "--cpuset-cpus 2"},
	{{.limits.cpuset = "1-0"}, "--cpuset-cpus"},
	{{.limits.cpuset = "0,"}, "--cpuset-cpus"},
	{{.limits.cpuset = "x"}, "--cpuset-cpus"},
	{{.limits.cpuset = "0-"}, "--cpuset-cpus"},
	{{.limits.cpuset = "99999999999999999999"}, "--cpuset-cpus"},
	{{.limits.reservation = "1g"}, "--memory-reservation 1g"},
	{{.limits.reservation = "100m"}, NULL},
	{{.limits.swap = "100m"}, "--memory-swap 100m"},
	{{.limits.swap = "-1"}, NULL},
	{{.limits.pids = "many"}, "--pids-limit many"},
	{{.limits.pids = "-1"}, NULL},
	{{.limits.pids = "-2"}, "--pids-limit -2"},
	{{.limits.restart = "sometimes"}, "--restart sometimes"},
	{{.limits.restart = "always:3"}, "--restart always:3"},
	{{.limits.restart = "on-failure:x"}, "--restart on-failure:x"},
	{{.limits.restart = "on-failure:3"}, NULL},
	{{.limits.restart = "always", .rm = true}, "--restart and --rm"},
	{{.limits.restart = "no", .rm = true}, NULL},
	{{.oom_score_adj = "-1001"}, "--oom-score-adj -1001"},
	{{.oom_score_adj = "-1000"}, NULL},
	{{.oom_score_adj = "--1"}, "--oom-score-adj"},
	{{.shm_size = "0"}, "--shm-size 0"},
	{{.timeout = "5m"}, NULL},
	{{.timeout = "soon"}, "--timeout soon"},
	{{.stop_timeout = "-1"}, NULL},
	{{.gpus = "all"}, "--gpus all"},
	{{.userns = "remap"}, "--userns remap"},
	{{.userns = "private", .privileged = true}, "--userns private and --privileged"},
	{{.detach_keys = "ctrl-"}, "--detach-keys"},
	{{.cidfile = ""}, "--cidfile"},
	{{.log_driver = "journald"}, "--log-driver journald"},
	{{.health_interval = "1us"}, "--health-interval 1us"},
	{{.health_retries = "-1"}, "--health-retries -1"},
	{{.no_healthcheck = true, .health_cmd = "true"}, "--no-healthcheck and --health-cmd"},
	{{.no_healthcheck = true, .health_retries = "1"}, "--no-healthcheck and --health-retries"},
	{{.limits.cpus = "-1"}, "--cpus -1"},
	{{.limits.cpus = "2."}, "--cpus 2."},
	{{.limits.cpus = ""}, "--cpus"},
	{{.limits.memory = "64m"}, NULL},
	{{.limits.memory = "100000000"}, NULL},
	{{.limits.memory = "63m"}, "too small"},
	{{.limits.memory = "0"}, "too small"},
	{{.limits.memory = "1000p"}, "more than this host has"},
	{{.limits.memory = "lots"}, "expected a size"},
	{{.limits.memory = "99999999999999999999"}, "expected a size"},
	{{.user = "root"}, NULL},
	{{.user = "0:0"}, NULL},
	{{.user = ""}, "--user"},
	{{.user = ":0"}, "--user"},
	{{.user = "a:"}, "--user"},
	{{.user = "a:b:c"}, "--user"},
	{{.user = "a b"}, "--user"},
	{{.user = "a\n"}, "--user"},
	{{.name = "web-1"}, NULL},
	{{.name = "-web"}, "--name"},
	{{.name = ""}, "--name"},
	{{.hostname = "a.example.org"}, NULL},
	{{.hostname = "a_b"}, "--hostname"},
	{{.hostname = ""}, "--hostname"},
	{{.hostname = "-a"}, "--hostname"},
	{{.workdir = "/w"}, NULL},
	{{.workdir = "w"}, "--workdir"},
	{{.workdir = ""}, "--workdir"},
	{{.accel = "tcg"}, NULL},
	{{.accel = "xen"}, "--accel xen"},
	{{.stop_signal = "SIGQUIT"}, NULL},
	{{.stop_signal = "SIGNOPE"}, "--stop-signal"},
	{{.stop_timeout = "3"}, NULL},
	{{.stop_timeout = "soon"}, "--stop-timeout"},
};

static void options_are_checked_before_anything_starts(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
		struct box_config c = {0};
		struct err e = {0};
		int r = spec_from_opts(&checks[i].o, &c, &e);
		if (checks[i].why ? r >= 0 || !strstr(e.msg, checks[i].why) : r < 0)
			fail_msg("case %zu: %d \"%s\", want \"%s\"", i, r, e.msg,
				checks[i].why ? checks[i].why : "");
		box_config_done(&c);
	}
}

static void values_and_defaults_arrive(void **state)
{
	struct run_opts o = {.limits = {.cpus = "3", .memory = "100000000"},
		.interactive = true,
		.rm = true,
		.stop_signal = "9",
		.stop_timeout = "1m"};
	struct box_config c = {0}, d = {0};
	struct err e = {0};

	assert_int_equal(spec_from_opts(&o, &c, &e), 0);
	assert_int_equal(c.vcpus, 3);
	assert_int_equal(c.mem_bytes, 96ull << 20); /* whole MiB, never less than asked for */
	assert_int_equal(c.stop_signal, SIGKILL);
	assert_int_equal(c.stop_timeout_ns, 60000000000);
	assert_true(c.auto_remove && c.stdin_once && c.process.open_stdin && !c.process.tty);
	box_config_done(&c);
	o = (struct run_opts){.interactive = true, .detach = true};
	assert_int_equal(spec_from_opts(&o, &d, &e), 0);
	assert_int_equal(d.accel, ACCEL_AUTO);
	assert_int_equal(d.stop_timeout_ns, 10000000000);
	assert_false(d.stdin_once || d.auto_remove); /* detached: later clients may still type */
	box_config_done(&d);
}

static const struct {
	const char *entrypoint, *image_entrypoint, *image_cmd, *args, *want;
} commands[] = {
	{NULL, NULL, "sh", "", "sh"},
	{NULL, NULL, "sh", "ls", "ls"},
	{NULL, "init", "serve", "", "init serve"},
	{NULL, "init", "serve", "ls", "init ls"},
	{"own", "init", "serve", "", "own"}, /* a given entrypoint drops the image's command */
	{"own", "init", "serve", "ls", "own ls"},
	{"", "init", "serve", "ls", "ls"},
	{"", "init", "serve", "", NULL},
	{NULL, NULL, NULL, "", NULL},
	{NULL, "init", NULL, "", "init"},
};

static void the_command_follows_dockers_rules(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		struct run_opts o = {.entrypoint = commands[i].entrypoint};
		struct oci_image image = {0};
		struct box_config c = {0};
		struct err e = {0};
		char arg[16], *args[] = {arg}, got[64];
		snprintf(arg, sizeof(arg), "%s", commands[i].args);
		if (commands[i].image_entrypoint)
			assert_int_equal(strv_push(&image.entrypoint, commands[i].image_entrypoint), 0);
		if (commands[i].image_cmd)
			assert_int_equal(strv_push(&image.cmd, commands[i].image_cmd), 0);
		int r = spec_add_image(&c, &o, &image, args, *arg ? 1 : 0, &e);
		join(got, sizeof(got), &c.process.argv);
		if (commands[i].want ? r < 0 || strcmp(got, commands[i].want) != 0 : r != -EINVAL)
			fail_msg("case %zu: %d \"%s\" %s", i, r, got, e.msg);
		if (r == 0) {
			assert_string_equal(c.process.cwd, "/");
			assert_string_equal(c.process.user, "");
			assert_int_equal(c.stop_signal, SIGTERM);
		}
		strv_done(&image.entrypoint);
		strv_done(&image.cmd);
		box_config_done(&c);
	}
}

static void the_image_gives_what_the_options_do_not(void **state)
{
	char workdir[] = "/srv", user[] = "www", stop[] = "SIGQUIT", wild[] = "SIGWILD";
	struct oci_image image = {.workdir = workdir, .user = user, .stop_signal = stop};
	struct run_opts o = {0};
	struct box_config c = {0};
	struct err e = {0};
	char got[128];

	assert_int_equal(strv_push(&image.cmd, "sh"), 0);
	assert_int_equal(strv_push(&image.env, "PATH=/bin"), 0);
	assert_int_equal(strv_push(&image.env, "A=image"), 0);
	assert_int_equal(strv_push(&o.env, "A=mine"), 0);
	assert_int_equal(strv_push(&o.env, "B="), 0);
	assert_int_equal(spec_from_opts(&o, &c, &e), 0);
	assert_int_equal(spec_add_image(&c, &o, &image, NULL, 0, &e), 0);
	assert_string_equal(c.process.cwd, "/srv");
	assert_string_equal(c.process.user, "www");
	assert_int_equal(c.stop_signal, SIGQUIT);
	join(got, sizeof(got), &c.process.env);
	assert_string_equal(got, "PATH=/bin A=mine B=");
	box_config_done(&c);

	o.workdir = "/w";
	o.user = "0";
	image.stop_signal = wild;
	assert_int_equal(spec_add_image(&c, &o, &image, NULL, 0, &e), 0);
	assert_string_equal(c.process.cwd, "/w");
	assert_string_equal(c.process.user, "0");
	assert_int_equal(c.stop_signal, SIGTERM); /* an image cannot make a box that cannot be stopped */
	box_config_done(&c);
	strv_done(&image.cmd);
	strv_done(&image.env);
	run_opts_done(&o);
}

/* Options that may be given several times, by their field. */
#define LIST(field) offsetof(struct run_opts, field)
static const struct {
	size_t list;
	const char *value;
	const char *why; /* part of the message, NULL: accepted */
} list_checks[] = {
	{LIST(env), "=x", "--env \"\""},
	{LIST(env_files), "/nonexistent", "--env-file /nonexistent"},
	{LIST(label_files), "/", "--label-file /"},
	{LIST(labels), "=v", "--label \"\""},
	{LIST(labels), "k", NULL},
	{LIST(annotations), "k", "--annotation \"k\""},
	{LIST(annotations), "k=", NULL},
	{LIST(groups), "", "--group-add"},
	{LIST(groups), "a:b", "--group-add"},
	{LIST(groups), "wheel", NULL},
	{LIST(cap_add), "NOPE", "--cap-add NOPE"},
	{LIST(cap_drop), "cap_chown", NULL},
	{LIST(security_opts), "no-new-privileges", NULL},
	{LIST(security_opts), "no-new-privileges:false", NULL},
	{LIST(security_opts), "no-new-privileges=maybe", "--security-opt no-new-privileges=maybe: expected"},
	{LIST(security_opts), "seccomp=unconfined", NULL},
	{LIST(security_opts), "seccomp=/nonexistent", "--security-opt seccomp=/nonexistent"},
	{LIST(security_opts), "seccomp=", "--security-opt seccomp="},
	{LIST(security_opts), "systempaths=unconfined", NULL},
	{LIST(security_opts), "apparmor=unconfined", NULL},
	{LIST(security_opts), "apparmor=mine", "no AppArmor"},
	{LIST(security_opts), "label=type:x", "no SELinux"},
	{LIST(security_opts), "label=disable", NULL},
	{LIST(security_opts), "writable-cgroups", "--security-opt writable-cgroups"},
	{LIST(devices), "/dev/fuse", NULL},
	{LIST(devices), "/dev/fuse:rw", NULL},
	{LIST(devices), "/dev/fuse:/dev/x", NULL},
	{LIST(devices), "/dev/fuse:/dev/x:r", NULL},
	{LIST(devices), "/dev/fuse:/dev/x:r:w", "--device"},
	{LIST(devices), "/dev/fuse:/x/y:m", NULL},
	{LIST(devices), "/dev/fuse:rr", "--device"},
	{LIST(devices), "/dev/fuse:x", "--device /dev/fuse:x"},
	{LIST(devices), "/dev/../etc", "--device"},
	{LIST(devices), "/dev/", "--device"},
	{LIST(devices), "fuse", "--device fuse"},
	{LIST(devices), "/dev/a/..", "--device"},
	{LIST(sysctls), "net.ipv4.ip_forward=1", NULL},
	{LIST(sysctls), "kernel.shm_rmid_forced=1", NULL},
	{LIST(sysctls), "vm.max_map_count=262144", "--sysctl vm.max_map_count=262144"},
	{LIST(sysctls), "net/ipv4/ip_forward=1", "--sysctl"},
	{LIST(sysctls), "net.ipv4.ip_forward", "--sysctl net.ipv4.ip_forward"},
	{LIST(sysctls), "../../etc=1", "--sysctl"},
	{LIST(sysctls), "=1", "--sysctl"},
	{LIST(sysctls), "kernel.core_pattern=|/x", "not a box's own"},
	{LIST(ulimits), "nofile=1024", NULL},
	{LIST(ulimits), "nofile=1024:2048", NULL},
	{LIST(ulimits), "core=-1", NULL},
	{LIST(ulimits), "memlock=-1:-1", NULL},
	{LIST(ulimits), "nofile=2048:1024", "--ulimit nofile=2048:1024"},
	{LIST(ulimits), "nofile=-1:5", "--ulimit"},
	{LIST(ulimits), "nofiles=1", "--ulimit nofiles=1"},
	{LIST(ulimits), "nofile", "--ulimit nofile"},
	{LIST(ulimits), "nofile=", "--ulimit nofile="},
	{LIST(ulimits), "nofile=1:", "--ulimit"},
	{LIST(tmpfs), "/run", NULL},
	{LIST(tmpfs), "/run:size=64m,mode=1777,noexec", NULL},
	{LIST(tmpfs), "/run:bind", "--tmpfs /run:bind"},
	{LIST(tmpfs), "/run:size=", "--tmpfs"},
	{LIST(tmpfs), "/run:rw,", "--tmpfs"},
	{LIST(tmpfs), "run", "--tmpfs run"},
	{LIST(tmpfs), "/", "--tmpfs /"},
	{LIST(tmpfs), "/a/../b", "--tmpfs"},
	{LIST(tmpfs), "/a:sync", "--tmpfs"},
	{LIST(add_hosts), "a:1.2.3.4", NULL},
	{LIST(add_hosts), "a=1.2.3.4", NULL},
	{LIST(add_hosts), "my_db:::1", NULL},
	{LIST(add_hosts), "a:[::1]", NULL},
	{LIST(add_hosts), "a:host-gateway", NULL},
	{LIST(add_hosts), "a:host-gate", "--add-host a:host-gate"},
	{LIST(add_hosts), "a", "--add-host a"},
	{LIST(add_hosts), ":1.2.3.4", "--add-host"},
	{LIST(add_hosts), "a b:1.2.3.4", "--add-host"},
	{LIST(add_hosts), "a:1.2.3", "--add-host a:1.2.3"},
	{LIST(dns), "8.8.8.8", NULL},
	{LIST(dns), "dns.example", "--dns dns.example"},
	{LIST(dns_search), "example.org", NULL},
	{LIST(dns_search), ".", NULL},
	{LIST(dns_search), "a b", "--dns-search a b"},
	{LIST(dns_opts), "ndots:2", NULL},
	{LIST(dns_opts), "ndots 2", "--dns-option"},
	{LIST(expose), "80", NULL},
	{LIST(expose), "80-90/udp", NULL},
	{LIST(expose), "0", "--expose 0"},
	{LIST(expose), "90-80", "--expose 90-80"},
	{LIST(expose), "80/icmp", "--expose 80/icmp"},
	{LIST(expose), "65536", "--expose 65536"},
	{LIST(expose), "80-", "--expose 80-"},
	{LIST(log_opts), "max-size=5m", NULL},
	{LIST(log_opts), "max-size=none", "--log-opt max-size=none"},
	{LIST(log_opts), "nosuch=1", "--log-opt nosuch=1"},
};

static void options_in_lists_are_checked_too(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(list_checks); i++) {
		struct run_opts o = {0};
		struct box_config c = {0};
		struct err e = {0};
		assert_int_equal(strv_push((struct strv *)(void *)((char *)&o + list_checks[i].list),
					 list_checks[i].value),
			0);
		int r = spec_from_opts(&o, &c, &e);
		if (list_checks[i].why ? r >= 0 || !strstr(e.msg, list_checks[i].why) : r < 0)
			fail_msg("%s: %d \"%s\", want \"%s\"", list_checks[i].value, r, e.msg,
				list_checks[i].why ? list_checks[i].why : "");
		box_config_done(&c);
		run_opts_done(&o);
	}
}

static void limits_become_what_the_guest_takes(void **state)
{
	struct limit_opts half = {.cpus = "1.5",
				  .memory = "256m",
				  .swap = "300m",
				  .pids = "50",
				  .cpuset = "0-1"},
			  quota = {.cpu_quota = "20000"}, more = {.cpus = "4"},
			  less = {.cpus = "1", .memory = "128m"}, beyond = {.memory = "257m"};
	struct box_config c = {0};
	struct err e = {0};

	spec_limits_default(&c);
	assert_int_equal(spec_limits(&half, false, &c, &e), 0);
	assert_int_equal(c.vcpus, 2);
	assert_int_equal(c.nano_cpus, 1500000000);
	assert_int_equal(c.limits.cpu_quota_us, 150000);
	assert_int_equal(c.limits.cpu_period_us, 100000);
	assert_int_equal(c.mem_bytes, 256ull << 20);
	assert_int_equal(c.limits.mem_max, 0); /* the machine has no more */
	assert_int_equal(c.limits.swap_max, 44ull << 20);
	assert_int_equal(c.limits.pids_max, 50);
	assert_string_equal(c.limits.cpuset, "0-1");
	/* an update: the machine stays as it is, until it starts anew with more CPUs */
	assert_int_equal(spec_limits(&less, true, &c, &e), 0);
	assert_int_equal(c.vcpus, 2);
	assert_int_equal(c.limits.cpu_quota_us, 100000);
	assert_int_equal(c.limits.mem_max, 128ull << 20);
	assert_int_equal(c.mem_bytes, 256ull << 20);
	assert_int_equal(spec_limits(&beyond, true, &c, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "the box's machine has 256m"));
	c.limits.mem_reservation = 130ull << 20; /* of the record */
	assert_int_equal(spec_limits(&less, true, &c, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "below the memory reservation"));
	c.limits.mem_reservation = 0;
	assert_int_equal(spec_limits(&quota, true, &c, &e), 0);
	assert_int_equal(c.nano_cpus, 0);
	assert_int_equal(c.limits.cpu_quota_us, 20000);
	assert_int_equal(spec_limits(&more, true, &c, &e), 0);
	assert_int_equal(c.vcpus, 4);
	assert_int_equal(c.limits.cpu_quota_us, 0);
	box_config_done(&c);
}

static void a_filter_is_compiled_only_where_it_differs(void **state)
{
	static const struct {
		const char *cap, *opt;
		bool privileged;
		enum box_seccomp want;
	} cases[] = {
		{NULL, NULL, false, BOX_SECCOMP_DEFAULT},
		{"CHOWN", NULL, false, BOX_SECCOMP_DEFAULT},
		{"SYS_PTRACE", NULL, false, BOX_SECCOMP_OWN},
		{"NET_ADMIN", NULL, false, BOX_SECCOMP_DEFAULT},
		{NULL, "seccomp=unconfined", false, BOX_SECCOMP_NONE},
		{"SYS_ADMIN", "seccomp=unconfined", false, BOX_SECCOMP_NONE},
		{NULL, "seccomp=builtin", false, BOX_SECCOMP_DEFAULT},
		{NULL, NULL, true, BOX_SECCOMP_NONE},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct run_opts o = {.privileged = cases[i].privileged};
		struct box_config c = {0};
		struct err e = {0};
		if (cases[i].cap)
			assert_int_equal(strv_push(&o.cap_add, cases[i].cap), 0);
		if (cases[i].opt)
			assert_int_equal(strv_push(&o.security_opts, cases[i].opt), 0);
		assert_int_equal(spec_from_opts(&o, &c, &e), 0);
		assert_int_equal(c.seccomp, cases[i].want);
		assert_int_equal(c.process.seccomp != NULL, cases[i].want == BOX_SECCOMP_OWN);
		box_config_done(&c);
		run_opts_done(&o);
	}
}

static void a_health_check_comes_from_image_and_options(void **state)
{
	struct oci_image image = {.health = {.interval_ns = 7000000000, .retries = 9}};
	struct run_opts o = {.health_retries = "2"}, none = {.no_healthcheck = true},
			own = {.health_cmd = "test -e /ok"};
	struct box_config c = {0};
	struct err e = {0};

	assert_int_equal(spec_from_opts(&o, &c, &e), 0);
	assert_int_equal(spec_add_image_health(&c, &o, &image, &e), -EINVAL); /* a number, but no check */
	assert_non_null(strstr(e.msg, "--health-retries"));
	assert_int_equal(strv_push(&image.health.test, "CMD"), 0);
	assert_int_equal(strv_push(&image.health.test, "/check"), 0);
	assert_int_equal(spec_add_image_health(&c, &o, &image, &e), 0);
	assert_int_equal(c.health.test.n, 2);
	assert_int_equal(c.health.retries, 2);
	assert_int_equal(c.health.interval_ns, 7000000000);
	assert_int_equal(c.health.timeout_ns, 30000000000);
	box_config_done(&c);
	assert_int_equal(spec_from_opts(&none, &c, &e), 0);
	assert_int_equal(spec_add_image_health(&c, &none, &image, &e), 0);
	assert_int_equal(c.health.test.n, 0);
	box_config_done(&c);
	assert_int_equal(spec_from_opts(&own, &c, &e), 0);
	assert_int_equal(spec_add_image_health(&c, &own, &image, &e), 0);
	assert_string_equal(c.health.test.v[0], "CMD-SHELL");
	assert_string_equal(c.health.test.v[1], "test -e /ok");
	assert_int_equal(c.health.timeout_ns, 5000000000);
	box_config_done(&c);
	strv_done(&image.health.test);
}

static int read_env(const char *content, size_t len, struct strv *env, struct err *e)
{
	char path[] = "/tmp/a3s-test-spec-XXXXXX";
	struct strv files = {0};
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, len), (ssize_t)len);
	close(fd);
	assert_int_equal(strv_push(&files, path), 0);
	int r = spec_add_env_files(env, &files, e);
	unlink(path);
	strv_done(&files);
	return r;
}

static void environment_files_are_dockers(void **state)
{
	static const char good[] =
		"\xef\xbb\xbf# comment\n\n  A=1\nB=two words \r\nC=\"quoted\"\nSET_HERE\nNOT_SET_HERE\n"
		"D=x=y\nA=2\nE=",
			  *const bad[] = {"A B=1\n", "=1\n", "OK=1\nA B\n", "A=\xff\n"};
	struct strv env = {0};
	struct err e = {0};
	char got[256];

	setenv("SET_HERE", "here", 1);
	unsetenv("NOT_SET_HERE");
	assert_int_equal(read_env(good, sizeof(good) - 1, &env, &e), 0);
	join(got, sizeof(got), &env);
	assert_string_equal(got, "A=2 B=two words  C=\"quoted\" SET_HERE=here D=x=y E=");
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(read_env(bad[i], strlen(bad[i]), &env, &e), -EINVAL);
	assert_int_equal(read_env("A=\0b", 4, &env, &e), -EINVAL);
	strv_done(&env);
}

static void variables_without_a_value_are_taken_from_our_environment(void **state)
{
	static const char *const given[] = {"SET_HERE", "NOT_SET_HERE", "X=1"}, *const bad[] = {
											"", "=x", "="};
	struct strv env = {0}, list = {0};
	struct err e = {0};
	char got[128];

	setenv("SET_HERE", "a b=c", 1);
	unsetenv("NOT_SET_HERE");
	for (size_t i = 0; i < ARRAY_LEN(given); i++)
		assert_int_equal(strv_push(&list, given[i]), 0);
	assert_int_equal(spec_add_env(&env, &list, &e), 0);
	join(got, sizeof(got), &env);
	assert_string_equal(got, "SET_HERE=a b=c X=1");
	strv_done(&list);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(strv_push(&list, bad[i]), 0);
		assert_int_equal(spec_add_env(&env, &list, &e), -EINVAL);
		strv_done(&list);
	}
	strv_done(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_are_checked_before_anything_starts),
		cmocka_unit_test(values_and_defaults_arrive),
		cmocka_unit_test(the_command_follows_dockers_rules),
		cmocka_unit_test(the_image_gives_what_the_options_do_not),
		cmocka_unit_test(options_in_lists_are_checked_too),
		cmocka_unit_test(limits_become_what_the_guest_takes),
		cmocka_unit_test(a_filter_is_compiled_only_where_it_differs),
		cmocka_unit_test(a_health_check_comes_from_image_and_options),
		cmocka_unit_test(environment_files_are_dockers),
		cmocka_unit_test(variables_without_a_value_are_taken_from_our_environment),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
