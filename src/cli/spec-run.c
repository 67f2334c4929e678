/* SPDX-License-Identifier: MIT */
/* When a box is restarted, checked, stopped, and what becomes of its output. */
#include <signal.h>
#include <string.h>

#include "base/io.h"
#include "base/units.h"
#include "detach.h"
#include "spec.h"

#define SECOND_NS	1000000000ull
#define DURATION_MAX_NS (100ull * 365 * 86400 * SECOND_NS) /* for ever, in numbers that can still be added */
#define DEFAULT_STOP_NS (10 * SECOND_NS)

#define HEALTH_INTERVAL_NS	 (30 * SECOND_NS)
#define HEALTH_TIMEOUT_NS	 (5 * SECOND_NS)
#define HEALTH_IMAGE_TIMEOUT_NS	 (30 * SECOND_NS) /* Docker's default, which an image's author had in mind */
#define HEALTH_START_INTERVAL_NS (5 * SECOND_NS)
#define HEALTH_RETRIES		 3
#define HEALTH_LEAST_NS		 1000000 /* as in Docker */

#define LOG_SIZE  (10ull << 20)
#define LOG_FILES 3

/* Leaves *ret alone when the option was not given. */
static int set_duration(
	const char *flag, const char *s, uint64_t least_ns, const char *form, uint64_t *ret, struct err *e)
{
	uint64_t ns;

	if (!s)
		return 0;
	if (parse_duration_ns(s, &ns) < 0 || (ns && ns < least_ns) || ns > DURATION_MAX_NS)
		return err_set(e, -EINVAL, "%s %s: expected %s", flag, s, form);
	*ret = ns;
	return 0;
}

/* ---- restart policy ---- */

int spec_restart(const char *s, struct box_restart *ret, struct err *e)
{
	const char *colon = strchr(s, ':');
	size_t len = colon ? (size_t)(colon - s) : strlen(s);
	uint64_t retries = 0;

	for (int p = BOX_RESTART_NO; p <= BOX_RESTART_UNLESS_STOPPED; p++) {
		const char *name = box_restart_name((enum box_restart_policy)p);
		if (strlen(name) != len || memcmp(name, s, len) != 0)
			continue;
		if (colon && (p != BOX_RESTART_ON_FAILURE || parse_u64(colon + 1, INT32_MAX, &retries) < 0))
			break;
		*ret = (struct box_restart){(enum box_restart_policy)p, (uint32_t)retries};
		return 0;
	}
	return err_set(
		e, -EINVAL, "--restart %s: expected no, always, on-failure[:TIMES] or unless-stopped", s);
}

/* ---- health check ---- */

/* What was given for it beside the command; NULL: nothing. */
static const char *health_flag(const struct run_opts *o)
{
	return o->health_interval	  ? "--health-interval"
	       : o->health_timeout	  ? "--health-timeout"
	       : o->health_start_period	  ? "--health-start-period"
	       : o->health_start_interval ? "--health-start-interval"
	       : o->health_retries	  ? "--health-retries"
					  : NULL;
}

static int set_health(const struct run_opts *o, struct box_health_check *h, struct err *e)
{
	static const char form[] = "a duration of at least 1ms, like 30s";
	uint64_t n;

	if (o->no_healthcheck && (o->health_cmd || health_flag(o)))
		return err_set(e, -EINVAL, "--no-healthcheck and %s contradict each other: give one of them",
			o->health_cmd ? "--health-cmd" : health_flag(o));
	int r = set_duration(
		"--health-interval", o->health_interval, HEALTH_LEAST_NS, form, &h->interval_ns, e);
	if (r == 0)
		r = set_duration(
			"--health-timeout", o->health_timeout, HEALTH_LEAST_NS, form, &h->timeout_ns, e);
	if (r == 0)
		r = set_duration("--health-start-period", o->health_start_period, HEALTH_LEAST_NS, form,
			&h->start_period_ns, e);
	if (r == 0)
		r = set_duration("--health-start-interval", o->health_start_interval, HEALTH_LEAST_NS, form,
			&h->start_interval_ns, e);
	if (r < 0)
		return r;
	if (o->health_retries) {
		if (parse_u64(o->health_retries, 1000000, &n) < 0)
			return err_set(e, -EINVAL,
				"--health-retries %s: expected a number of failures in a row",
				o->health_retries);
		h->retries = (uint32_t)n;
	}
	if (o->health_cmd && *o->health_cmd &&
		(strv_push(&h->test, "CMD-SHELL") < 0 || strv_push(&h->test, o->health_cmd) < 0))
		return err_oom(e);
	return 0;
}

int spec_add_image_health(
	struct box_config *c, const struct run_opts *o, const struct oci_image *image, struct err *e)
{
	struct box_health_check *h = &c->health;
	const struct oci_health_check *i = &image->health;
	bool from_image = h->test.n == 0;

	if (o->no_healthcheck) {
		*h = (struct box_health_check){0};
		return 0;
	}
	/* {"NONE"}: the image takes its base image's check away. */
	if (from_image && i->test.n && strcmp(i->test.v[0], "NONE") != 0 && strv_copy(&h->test, &i->test) < 0)
		return err_oom(e);
	if (h->test.n == 0) {
		if (health_flag(o)) {
			err_set(e, -EINVAL, "%s: there is no health check: the image has none",
				health_flag(o));
			return err_hint(e, "give its command with --health-cmd");
		}
		*h = (struct box_health_check){0};
		return 0;
	}
	/* What is not given comes from the image, also for a command of one's own, as in Docker. */
	if (!h->interval_ns)
		h->interval_ns = i->interval_ns ? i->interval_ns : HEALTH_INTERVAL_NS;
	if (!h->timeout_ns)
		h->timeout_ns = i->timeout_ns ? i->timeout_ns
				: from_image  ? HEALTH_IMAGE_TIMEOUT_NS
					      : HEALTH_TIMEOUT_NS;
	if (!o->health_start_period)
		h->start_period_ns = i->start_period_ns;
	if (!h->start_interval_ns)
		h->start_interval_ns = i->start_interval_ns ? i->start_interval_ns : HEALTH_START_INTERVAL_NS;
	if (!h->retries)
		h->retries = i->retries ? i->retries : HEALTH_RETRIES;
	return 0;
}

/* ---- log ---- */

/* The value of the last option of this name. */
static const char *log_value(const struct strv *opts, const char *name)
{
	return strv_getenv(opts, name);
}

static int set_log(const struct run_opts *o, struct box_log_config *l, struct err *e)
{
	uint64_t n = 0;

	if (o->log_driver && box_log_driver_parse(o->log_driver, &l->driver) < 0)
		return err_set(
			e, -EINVAL, "--log-driver %s: expected json-file, none or syslog", o->log_driver);
	for (size_t i = 0; i < o->log_opts.n; i++) {
		if (strv_setenv(&l->opts, o->log_opts.v[i]) < 0)
			return err_oom(e);
	}
	int r = log_config_check(l, e);
	if (r < 0 || l->driver != BOX_LOG_JSON_FILE)
		return r;
	/* Checked above. */
	const char *size = log_value(&l->opts, "max-size"), *files = log_value(&l->opts, "max-file");
	l->max_size = LOG_SIZE;
	l->max_files = LOG_FILES;
	if (size && strcmp(size, "-1") == 0)
		l->max_size = 0;
	else if (size)
		parse_size(size, &l->max_size);
	if (files && parse_u64(files, UINT32_MAX, &n) == 0)
		l->max_files = (uint32_t)n;
	return 0;
}

int spec_run(const struct run_opts *o, struct box_config *c, struct err *e)
{
	if (o->stop_signal && parse_signal(o->stop_signal, &c->stop_signal) < 0)
		return err_set(e, -EINVAL, "--stop-signal %s: no such signal", o->stop_signal);
	c->stop_timeout_ns = DEFAULT_STOP_NS;
	int r = 0;
	if (o->stop_timeout && strcmp(o->stop_timeout, "-1") == 0)
		c->stop_timeout_ns = DURATION_MAX_NS;
	else
		r = set_duration("--stop-timeout", o->stop_timeout, 0, "seconds, or -1 to wait for ever",
			&c->stop_timeout_ns, e);
	if (r == 0)
		r = set_duration(
			"--timeout", o->timeout, 0, "seconds, or a duration like 5m", &c->run_limit_ns, e);
	if (r == 0 && o->detach_keys)
		r = detach_parse(o->detach_keys, NULL, e);
	if (r == 0)
		r = set_health(o, &c->health, e);
	if (r == 0)
		r = set_log(o, &c->log, e);
	return r;
}
