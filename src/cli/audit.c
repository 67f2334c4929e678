/* SPDX-License-Identifier: MIT */
/* The audit log: entries of this process, and the command that shows entries. */
#include "audit.h"

#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "audit-args.h"
#include "base/io.h"
#include "base/log.h"
#include "base/units.h"
#include "format.h"
#include "state/audit.h"

enum { OBJECTS_MAX = 200 }; /* boxes, and images, in one entry */

static struct {
	bool open, counts;
	json_t *entry, *boxes, *images;
	struct audit_begun begun;
	const char *outcome;
	char error[ERR_MSG_MAX];
} audit = {.begun = {-1, -1, ""}};

void audit_begin(const char *command, int argc, char **argv)
{
	audit.entry = audit_entry_new(command);
	json_object_set_new(audit.entry, "args", audit_args(command, argc, argv));
	audit.open = audit.entry != NULL;
	audit.boxes = json_object_get(audit.entry, "boxes");
	audit.images = json_object_get(audit.entry, "images");
	audit.outcome = "failure";
}

void audit_box(const struct box *b)
{
	if (!audit.open || json_array_size(audit.boxes) >= OBJECTS_MAX)
		return;
	for (size_t i = 0; i < json_array_size(audit.boxes); i++) {
		const char *id = json_string_value(json_object_get(json_array_get(audit.boxes, i), "id"));
		if (id && strcmp(id, b->id) == 0)
			return;
	}
	json_t *box = json_pack("{s:s, s:s}", "id", b->id, "name", b->name);
	audit_begun_about(&audit.begun, "boxes", json_incref(box));
	json_array_append_new(audit.boxes, box);
}

void audit_image(const char *id)
{
	if (!audit.open || json_array_size(audit.images) >= OBJECTS_MAX)
		return;
	json_t *image = json_from_text(id);
	audit_begun_about(&audit.begun, "images", json_incref(image));
	json_array_append_new(audit.images, image);
}

static bool was_denied(const struct err *e)
{
	return e->code == -EPERM || e->code == -EACCES;
}

void audit_error(const struct err *e)
{
	if (!audit.open || audit.error[0])
		return;
	audit.counts = true;
	snprintf(audit.error, sizeof(audit.error), "%s", e->msg);
	if (was_denied(e))
		audit.outcome = "denied";
}

/* Never made for this alone, and only in a home that is ours: a command that was refused at once changes nothing. */
static int open_home(void)
{
	CLEANUP_FREE char *path = NULL;
	struct stat st;

	if (state_home_path(&path, NULL) < 0)
		return -ENOENT;
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_uid != geteuid() ||
		faccessat(fd, "state.db", F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return -ENOENT;
	return TAKE_FD(fd);
}

/* From now on it has an entry even if it is killed. What killed ones have left is due by now. */
void audit_opened(void)
{
	if (!audit.open || audit.counts)
		return;
	audit.counts = true;
	CLEANUP_CLOSE int home = open_home();
	if (home < 0)
		return;
	/* If they fail, so does the entry at the end, and that is said. */
	audit_repair(home, NULL);
	audit_begun_new(home, audit.entry, &audit.begun);
}

/* Takes entry. Never fails the command, and says nothing besides the error of one that has failed. */
static void put_entry(json_t *entry, const char *outcome, const int *status, const char *error)
{
	struct err e = {0};
	CLEANUP_CLOSE int home = open_home();
	int r = audit_entry_write(home, entry, outcome, status, error, &e);

	if (r < 0 && (!status || *status == 0)) {
		char safe[ERR_MSG_MAX];
		text_escape(safe, sizeof(safe), e.msg);
		fprintf(stderr, "a3s-box: warning: %s\n", safe);
	}
}

/* status NULL: not known, as the workload still runs. */
static void write_entry(const int *status)
{
	if (!audit.open)
		return;
	audit.open = false;
	if (!audit.counts) { /* --help */
		json_decref(audit.entry);
		return;
	}
	put_entry(audit.entry, audit.outcome, status, audit.error);
	audit_begun_end(&audit.begun);
}

void audit_part(const char *id, const char *name, const struct err *failed)
{
	char time[40];
	json_t *entry = audit.open ? json_copy(audit.entry) : NULL;
	int status = failed ? 1 : 0;

	if (!entry)
		return;
	json_object_set_new(
		entry, "time", json_string(format_time_rfc3339(time, sizeof(time), time_real_ns())));
	json_object_set_new(entry, "boxes", json_pack("[{s:s, s:s}]", "id", id, "name", name));
	put_entry(entry,
		!failed		     ? "success"
		: was_denied(failed) ? "denied"
				     : "failure",
		&status, failed ? failed->msg : "");
}

void audit_started(void)
{
	audit.outcome = "success";
	write_entry(NULL);
}

void audit_end(int status)
{
	if (status == 0)
		audit.outcome = "success";
	write_entry(&status);
}

/* ---- the command ---- */

enum { LIMIT_MAX = 100000, LIMIT_DEFAULT = 50 };

struct query {
	const char *action, *box, *outcome;
	int64_t since_ns;
	uint64_t limit;
	json_t *found; /* newest first */
};

static const char *text_of(const json_t *entry, const char *key)
{
	const char *s = json_string_value(json_object_get(entry, key));
	return s ? s : "";
}

static bool is_about(const json_t *entry, const char *ref)
{
	const json_t *boxes = json_object_get(entry, "boxes"), *args = json_object_get(entry, "args");
	size_t n = strlen(ref);

	for (size_t i = 0; i < json_array_size(boxes); i++) {
		const json_t *b = json_array_get(boxes, i);
		if (strcmp(text_of(b, "name"), ref) == 0 || strncmp(text_of(b, "id"), ref, n) == 0)
			return true;
	}
	/* One that was never found has no ID: then what was typed counts. */
	for (size_t i = 0; json_array_size(boxes) == 0 && i < json_array_size(args); i++) {
		const char *arg = json_string_value(json_array_get(args, i));
		if (arg && strcmp(arg, ref) == 0)
			return true;
	}
	return false;
}

static int take_line(const char *line, void *data)
{
	struct query *q = data;
	int64_t time_ns;
	json_t *j = json_loads(line, JSON_REJECT_DUPLICATES, NULL);

	/* Torn, or written by somebody else: passed over. */
	if (!json_is_object(j) || parse_time_ns(text_of(j, "time"), 0, &time_ns) < 0 ||
		(q->action && strcmp(q->action, text_of(j, "command")) != 0) ||
		(q->outcome && strcmp(q->outcome, text_of(j, "outcome")) != 0) || time_ns < q->since_ns ||
		(q->box && !is_about(j, q->box)))
		json_decref(j);
	else
		json_array_append_new(q->found, j);
	return json_array_size(q->found) >= q->limit;
}

static const struct format_field fields[] = {{"Time", "TIME"}, {"User", "USER"}, {"Action", "ACTION"},
	{"Outcome", "OUTCOME"}, {"Status", "STATUS"}, {"Boxes", "BOXES"}, {"Images", "IMAGES"},
	{"Args", "ARGS"}, {"Error", "ERROR"}, {"PID", "PID"}, {NULL, NULL}};

/* The strings of a list, or one member of each of its objects, with blanks between. */
static json_t *joined(const json_t *list, const char *member)
{
	CLEANUP(buf_done) struct buf b = {0};

	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *v = json_array_get(list, i);
		const char *s = json_string_value(member ? json_object_get(v, member) : v);
		if (s && ((b.len && buf_append(&b, " ", 1) < 0) || buf_append(&b, s, strlen(s)) < 0))
			return NULL;
	}
	return buf_append(&b, "", 1) < 0 ? NULL : json_string((const char *)buf_data(&b));
}

static json_t *get_field(void *data, size_t row, size_t field)
{
	const struct query *q = data;
	const json_t *j = json_array_get(q->found, json_array_size(q->found) - 1 - row); /* oldest first */
	const json_t *user = json_object_get(j, "user"), *status = json_object_get(j, "status");
	char number[32];

	switch (field) {
	case 1:
		if (*text_of(user, "name"))
			return json_string(text_of(user, "name"));
		snprintf(number, sizeof(number), "%lld",
			(long long)json_integer_value(json_object_get(user, "uid")));
		return json_string(number);
	case 2:
		return json_string(text_of(j, "command"));
	case 3:
		return json_string(text_of(j, "outcome"));
	case 4: /* none: it went on running */
		snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(status));
		return json_string(json_is_integer(status) ? number : "-");
	case 5:
		return joined(json_object_get(j, "boxes"), "name");
	case 6:
		return joined(json_object_get(j, "images"), NULL);
	case 7:
		return joined(json_object_get(j, "args"), NULL);
	case 8:
		return json_string(text_of(j, "error"));
	case 9:
		return json_integer(json_integer_value(json_object_get(j, "pid")));
	default:
		return json_string(text_of(j, "time"));
	}
}

static int check_query(struct query *q, const char *limit, const char *since, struct err *e)
{
	static const char *const outcomes[] = {"success", "failure", "denied", "interrupted"};
	bool known = !q->outcome;

	for (size_t i = 0; !known && i < ARRAY_LEN(outcomes); i++)
		known = strcmp(q->outcome, outcomes[i]) == 0;
	if (!known)
		return err_set(e, -EINVAL, "--outcome %s: expected success, failure, denied or interrupted",
			q->outcome);
	if (limit && (parse_u64(limit, LIMIT_MAX, &q->limit) < 0 || q->limit == 0))
		return err_set(e, -EINVAL, "-n %s: expected a number from 1 to %d", limit, LIMIT_MAX);
	if (since && parse_time_ns(since, time_real_ns(), &q->since_ns) < 0)
		return err_set(e, -EINVAL,
			"--since %s: expected a time like 2024-05-01T12:30:00 or a duration like 10m", since);
	return 0;
}

static int show(struct query *q, const struct format *format, bool json, const struct format_source *src,
	struct err *e)
{
	CLEANUP(app_close) struct app a = {0};
	int r = state_open(&a.st, e);

	struct err repair = {0};

	if (r == 0 && audit_repair(a.st->home_fd, &repair) < 0)
		log_warn("%s", repair.msg);
	if (r == 0)
		r = audit_read(a.st->home_fd, take_line, q, e);
	if (r < 0)
		return r;
	size_t n = json_array_size(q->found);
	if (!json)
		return format_print(format, src, n, e);
	for (size_t i = n; i-- > 0;)
		json_print(json_incref(json_array_get(q->found, i)), 0);
	return 0;
}

int cmd_audit(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(format_freep) struct format *f = NULL;
	struct query q = {.limit = LIMIT_DEFAULT, .found = json_array()};
	const char *limit = NULL, *since = NULL, *format = NULL;
	bool json = false;
	struct opt opts[] = {{0, "action", OPT_STR, &q.action, "COMMAND", "only this command"},
		{0, "box", OPT_STR, &q.box, "BOX", "only what was done to this box, by name or ID"},
		{0, "format", OPT_STR, &format, "FORMAT", FORMAT_HELP("Action")},
		{0, "json", OPT_FLAG, &json, NULL, "entries as they are in the log, one per line"},
		{'n', "limit", OPT_STR, &limit, "N", "the last N [50]"},
		{0, "outcome", OPT_STR, &q.outcome, "OUTCOME",
			"only success, failure, denied or interrupted"},
		{0, "since", OPT_STR, &since, "TIME", "only what happened since then"}, {0}};
	struct format_source src = {.fields = fields,
		.table = "{{.Time}}\t{{.User}}\t{{.Action}}\t{{.Outcome}}\t{{.Status}}\t{{.Boxes}}\t{{.Args}}"
			 "\t{{.Error}}",
		.get = get_field,
		.data = &q};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r == 0 && argc > 1)
		r = err_set(&e, -EINVAL, "no arguments are taken");
	if (r == 0)
		r = check_query(&q, limit, since, &e);
	if (r == 0)
		r = format_parse(format, &src, &f, &e);
	if (r == 0)
		r = show(&q, f, json, &src, &e);
	json_decref(q.found);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}
