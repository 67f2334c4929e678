/* SPDX-License-Identifier: MIT */
/* The log of a box: no byte is lost or changed on the way through it, whatever a crash or a rotation does to its files. */
#include "test-home.h"

#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "log.h"
#include "run.h"

enum { LIMIT_S = 120, OUT_MAX = 64 << 20, FILE_MAX = 1 << 20, FILES = 3 };

static struct box *b;
static int lock_fd, box_dir;
static char *out_text, *err_text; /* what box_logs printed last */
static size_t out_len, err_len;

static int set_up(void **state)
{
	if (home_set_up(state) < 0)
		return -1;
	lock_fd = -1;
	b = make_box("b", false, BOX_CREATED, &lock_fd);
	b->config.log = (struct box_log_config){.max_size = FILE_MAX, .max_files = FILES};
	box_dir = box_open_box_dir(st, b->id, true, &err);
	return box_dir < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	free(TAKE_PTR(out_text));
	free(TAKE_PTR(err_text));
	close_fd(&box_dir);
	box_unlock(st, b->id, &lock_fd);
	box_free(b);
	return home_tear_down(state);
}

/* Takes it along. */
static void set_opt(const char *opt)
{
	assert_int_equal(strv_push(&b->config.log.opts, opt), 0);
}

static struct log_writer open_writer(void)
{
	struct log_writer w;
	expect(log_writer_open(&w, box_dir, b, &err), 0);
	return w;
}

static void put(struct log_writer *w, int stream, const char *text)
{
	log_writer_put(w, stream, (const uint8_t *)text, strlen(text));
	log_writer_flush(w);
}

static void put_and_close(const char *text)
{
	struct log_writer w = open_writer();
	put(&w, 0, text);
	log_writer_close(&w);
}

/* ---- what box_logs prints ---- */

static int temp_fd(void)
{
	int fd = (int)syscall(SYS_memfd_create, "output", 0u);
	assert_true(fd >= 0);
	return fd;
}

static void take_output(int fd, char **text, size_t *len)
{
	struct stat s;

	assert_int_equal(fstat(fd, &s), 0);
	free(*text);
	*text = malloc((size_t)s.st_size + 1);
	assert_non_null(*text);
	*len = (size_t)s.st_size;
	assert_int_equal(io_pread_full(fd, *text, *len, 0), (ssize_t)*len);
	(*text)[*len] = '\0';
	close(fd);
}

static void read_logs_with(const struct box_log_opts *o)
{
	int out = temp_fd(), errors = temp_fd(), saved[2];

	fflush(stdout);
	for (int i = 0; i < 2; i++) {
		saved[i] = dup(i + 1);
		dup2(i ? errors : out, i + 1);
	}
	int r = box_logs(st, b, o, &err);
	for (int i = 0; i < 2; i++) {
		dup2(saved[i], i + 1);
		close(saved[i]);
	}
	take_output(out, &out_text, &out_len);
	take_output(errors, &err_text, &err_len);
	expect(r, 0);
}

static void read_logs(void)
{
	struct box_log_opts o = {.tail = -1};
	read_logs_with(&o);
}

static void assert_out(const char *want)
{
	assert_string_equal(out_text, want);
	assert_int_equal(out_len, strlen(want));
}

/* ---- the files ---- */

static int open_log(const char *name, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "logs/%s", name);
	int fd = openat(box_dir, path, flags | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	return fd;
}

static void append_raw(const char *name, const void *data, size_t len)
{
	int fd = open_log(name, O_WRONLY | O_CREAT | O_APPEND);
	assert_int_equal(io_write_full(fd, data, len), 0);
	close(fd);
}

/* Each line of the current file as JSON; NULL behind the last. Releases with free_entries. */
static json_t **entries(void)
{
	static json_t *list[4096];
	char *text = NULL, *save;
	size_t n = 0;

	assert_int_equal(io_read_file_at(box_dir, "logs/box.log", OUT_MAX, &text, NULL), 0);
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		assert_true(n + 1 < ARRAY_LEN(list));
		list[n] = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
		assert_non_null(list[n]);
		n++;
	}
	list[n] = NULL;
	free(text);
	return list;
}

static size_t free_entries(json_t **list)
{
	size_t n = 0;
	while (list[n])
		json_decref(list[n++]);
	return n;
}

/* ---- writing ---- */

static void streams_are_kept_apart_and_each_line_is_an_entry(void **state)
{
	struct log_writer w = open_writer();

	put(&w, 0, "one\ntw");
	put(&w, 1, "error\n");
	put(&w, 0, "o\n\n");
	log_writer_close(&w);
	read_logs();
	assert_out("one\ntwo\n\n");
	assert_string_equal(err_text, "error\n");
	json_t **list = entries();
	assert_string_equal(json_string_value(json_object_get(list[0], "log")), "one\n");
	assert_string_equal(json_string_value(json_object_get(list[0], "stream")), "stdout");
	assert_string_equal(json_string_value(json_object_get(list[1], "stream")), "stderr");
	assert_string_equal(json_string_value(json_object_get(list[2], "log")), "two\n");
	const char *t = json_string_value(json_object_get(list[3], "time"));
	assert_int_equal(strlen(t), strlen("2024-02-29T12:34:56.123456789Z"));
	assert_true(t[10] == 'T' && t[19] == '.' && t[29] == 'Z');
	assert_int_equal(free_entries(list), 4);
}

static void a_line_may_arrive_byte_by_byte(void **state)
{
	static const char line[] = "gr\xc3\xbc\xc3\x9f you\n";
	struct log_writer w = open_writer();

	for (const char *p = line; *p; p++)
		log_writer_put(&w, 0, (const uint8_t *)p, 1);
	log_writer_close(&w);
	json_t **list = entries();
	assert_string_equal(
		json_string_value(json_object_get(list[0], "log")), line); /* as text: no character was cut */
	assert_int_equal(free_entries(list), 1);
}

static void a_line_is_split_where_it_is_too_long(void **state)
{
	static const size_t lengths[] = {
		LOG_LINE_MAX - 1, LOG_LINE_MAX, LOG_LINE_MAX + 1, 3 * LOG_LINE_MAX + 7};
	struct log_writer w = open_writer();
	char *want = malloc(8 * LOG_LINE_MAX);
	size_t len = 0, pieces = 0;

	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		memset(want + len, 'a' + (int)i, lengths[i]);
		len += lengths[i];
		want[len++] = '\n';
		pieces += (lengths[i] + 1 + LOG_LINE_MAX - 1) / LOG_LINE_MAX;
	}
	for (size_t at = 0; at < len; at += 5000)
		log_writer_put(&w, 0, (uint8_t *)want + at, MIN_OF(len - at, (size_t)5000));
	log_writer_close(&w);
	read_logs();
	assert_int_equal(out_len, len);
	assert_memory_equal(out_text, want, len);
	json_t **list = entries();
	for (json_t **e = list; *e; e++)
		assert_true(json_string_length(json_object_get(*e, "log")) <= LOG_LINE_MAX);
	assert_int_equal(free_entries(list), pieces);
	free(want);
}

static void every_byte_survives_also_what_is_no_text(void **state)
{
	static const char *const awkward[] = {"\xff\xfe\n", "\xc3\n", "\xed\xa0\x80\n", "\xc0\xaf\n",
		"\xf4\x90\x80\x80\n", "\"quote\\back/slash\n", "\001\033[31m\177\r\n",
		"\xe2\x80\xa8\xf0\x9f\x98\x80\n", "{\"log\":\"x\"}\n"};
	struct log_writer w = open_writer();
	uint8_t all[1024];
	size_t len = 0;
	char want[4096];

	for (size_t i = 0; i < ARRAY_LEN(awkward); i++) {
		put(&w, 0, awkward[i]);
		memcpy(want + len, awkward[i], strlen(awkward[i]));
		len += strlen(awkward[i]);
	}
	for (size_t i = 0; i < sizeof(all); i++)
		all[i] = (uint8_t)(i * 7); /* NUL and line feeds, too */
	log_writer_put(&w, 0, all, sizeof(all));
	memcpy(want + len, all, sizeof(all));
	len += sizeof(all);
	log_writer_close(&w);
	free_entries(entries()); /* every line is JSON */
	read_logs();
	assert_int_equal(out_len, len);
	assert_memory_equal(out_text, want, len);
}

static void the_worst_line_fits_its_entry(void **state)
{
	struct log_writer w = open_writer();
	uint8_t *data = malloc(LOG_LINE_MAX);

	for (int kind = 0; kind < 2; kind++) {
		memset(data, kind ? 0xff : 0x01, LOG_LINE_MAX); /* six bytes each as text; base64 */
		log_writer_put(&w, 0, data, LOG_LINE_MAX);
	}
	log_writer_close(&w);
	read_logs();
	assert_int_equal(out_len, 2 * LOG_LINE_MAX);
	assert_int_equal(out_text[LOG_LINE_MAX - 1], 1);
	assert_int_equal((uint8_t)out_text[LOG_LINE_MAX], 0xff);
	free(data);
}

static void an_unfinished_line_is_written_at_the_end(void **state)
{
	struct log_writer w = open_writer();

	put(&w, 0, "prompt> ");
	put(&w, 1, "cut");
	read_logs();
	assert_out("");
	log_writer_close(&w);
	read_logs();
	assert_out("prompt> ");
	assert_string_equal(err_text, "cut");
}

static void the_next_run_appends(void **state)
{
	put_and_close("first run\n");
	put_and_close("second run\n");
	read_logs();
	assert_out("first run\nsecond run\n");
}

static void a_line_torn_by_a_crash_is_skipped_and_the_next_one_is_not_lost(void **state)
{
	static const char torn[] = "{\"log\":\"half a li";

	put_and_close("before\n");
	append_raw("box.log", torn, strlen(torn));
	read_logs();
	assert_out("before\n");
	put_and_close("after\nand more\n");
	read_logs();
	assert_out("before\nafter\nand more\n");
}

/* From now on no file can grow beyond `bytes`; 0: as before. */
static void limit_files(rlim_t bytes)
{
	static struct rlimit old;

	if (bytes) {
		signal(SIGXFSZ, SIG_IGN);
		assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	}
	struct rlimit now = {bytes ? bytes : old.rlim_cur, old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &now), 0);
	if (!bytes)
		signal(SIGXFSZ, SIG_DFL);
}

static void what_a_full_disk_does_not_take_waits(void **state)
{
	struct log_writer w = open_writer();
	char want[4096] = "before\n", line[200];

	put(&w, 0, "before\n");
	limit_files(1000);
	memset(line, 'x', sizeof(line));
	line[sizeof(line) - 2] = '\n';
	line[sizeof(line) - 1] = '\0';
	for (int i = 0; i < 10; i++) {
		put(&w, 0, line); /* one of them is cut */
		strcat(want, line);
	}
	assert_int_equal(log_writer_flush(&w), -EFBIG);
	assert_true(log_writer_pending(&w) > 1000);
	limit_files(0);
	assert_int_equal(log_writer_flush(&w), 0);
	assert_int_equal(log_writer_pending(&w), 0);
	put(&w, 0, "after\n");
	log_writer_close(&w);
	strcat(want, "after\n");
	read_logs();
	assert_out(want);
	assert_int_equal(err_len, 0);
}

static void what_is_given_up_is_said(void **state)
{
	struct log_writer w = open_writer();
	char line[1001];

	put(&w, 0, "before\n");
	limit_files(300);
	memset(line, 'x', sizeof(line));
	line[sizeof(line) - 2] = '\n';
	line[sizeof(line) - 1] = '\0';
	put(&w, 0, line);
	put(&w, 1, line);
	log_writer_drop(&w);
	assert_int_equal(log_writer_pending(&w), 0);
	assert_int_equal(log_writer_flush(&w), -EFBIG); /* nor can that be said yet */
	put(&w, 0, "12345\n");
	log_writer_drop(&w);
	limit_files(0);
	put(&w, 0, "after\n");
	log_writer_close(&w);
	read_logs();
	assert_out("before\nafter\n");
	assert_string_equal(
		err_text, "a3s-box: 2006 bytes of output are missing here: they could not be logged\n");
}

static void a_log_that_is_a_link_is_refused(void **state)
{
	struct log_writer w;

	assert_int_equal(mkdirat(box_dir, "logs", 0700), 0);
	assert_int_equal(symlinkat("../elsewhere", box_dir, "logs/box.log"), 0);
	assert_int_equal(log_writer_open(&w, box_dir, b, &err), -ELOOP);
	assert_int_equal(faccessat(box_dir, "elsewhere", F_OK, 0), -1);
}

/* ---- reading ---- */

static void a_box_that_never_ran_has_an_empty_log(void **state)
{
	read_logs();
	assert_int_equal(out_len + err_len, 0);
}

static void what_is_no_entry_is_skipped(void **state)
{
	static const char junk[] =
		"\n{}\nnull\n[1]\n\"text\"\n{\"log\":1,\"stream\":\"stdout\",\"time\":\"x\"}\n"
		"{\"log\":1,\"b64\":2,\"stream\":\"stdout\",\"time\":\"x\"}\n"
		"{\"log\":\"no stream\",\"time\":\"x\"}\n{\"log\":\"no time\",\"stream\":\"stdout\"}\n"
		"{\"log\":\"a\",\"log\":\"b\",\"stream\":\"stdout\",\"time\":\"x\"}\n\xff\xfe\n\0\0\0\n";
	char *big = malloc(1 << 20);

	put_and_close("before\n");
	append_raw("box.log", junk, sizeof(junk) - 1);
	memset(big, 'z', 1 << 20);
	append_raw("box.log", big, 1 << 20);
	append_raw("box.log", "\n", 1);
	put_and_close("after\n");
	read_logs();
	assert_out("before\nafter\n");
	free(big);
}

static void the_tail_is_the_last_lines(void **state)
{
	static const struct {
		int64_t tail;
		const char *want;
	} cases[] = {{0, ""}, {1, "4\n"}, {2, "3\n4\n"}, {4, "1\n2\n3\n4\n"}, {5, "1\n2\n3\n4\n"},
		{1000000, "1\n2\n3\n4\n"}, {-1, "1\n2\n3\n4\n"}};

	put_and_close("1\n2\n3\n4\n");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct box_log_opts o = {.tail = cases[i].tail};
		read_logs_with(&o);
		assert_out(cases[i].want);
	}
}

static void entries_can_be_limited_by_time_and_shown_with_it(void **state)
{
	static const char old[] =
		"{\"log\":\"old\\n\",\"stream\":\"stdout\",\"time\":\"2020-01-01T00:00:00.000000000Z\"}\n"
		"{\"log\":\"new\\n\",\"stream\":\"stdout\",\"time\":\"2020-01-01T00:00:00.000000001Z\"}\n";
	struct box_log_opts since = {.tail = -1, .since_ns = 1577836800000000001},
			    both = {.tail = -1, .timestamps = true};

	assert_int_equal(mkdirat(box_dir, "logs", 0700), 0);
	append_raw("box.log", old, strlen(old));
	read_logs_with(&since);
	assert_out("new\n");
	read_logs_with(&both);
	assert_out("2020-01-01T00:00:00.000000000Z old\n2020-01-01T00:00:00.000000001Z new\n");
}

static void the_tail_can_be_limited_by_time_too(void **state)
{
	struct box_log_opts o = {.tail = 2, .since_ns = 1577836801000000000, .until_ns = 1577836805000000000};
	char entry[160];

	assert_int_equal(mkdirat(box_dir, "logs", 0700), 0);
	for (int i = 0; i < 10; i++) {
		snprintf(entry, sizeof(entry),
			"{\"log\":\"%d\\n\",\"stream\":\"stdout\",\"time\":\"2020-01-01T00:00:0%d."
			"000000000Z\"}\n",
			i, i);
		append_raw(i < 5 ? "box.log.1" : "box.log", entry, strlen(entry));
	}
	read_logs_with(&o);
	assert_out("4\n5\n");
	o.tail = -1;
	read_logs_with(&o);
	assert_out("1\n2\n3\n4\n5\n");
	o.tail = 100;
	read_logs_with(&o);
	assert_out("1\n2\n3\n4\n5\n");
}

static void a_tail_counts_lines_whatever_their_length(void **state)
{
	struct log_writer w = open_writer();
	struct box_log_opts o = {.tail = 2, .timestamps = true};
	size_t len = 5 * LOG_LINE_MAX + 3;
	char *line = malloc(len + 1);

	memset(line, 'y', len);
	line[len - 1] = '\n';
	line[len] = '\0';
	put(&w, 0, "first\n");
	put(&w, 0, line);
	put(&w, 0, "last");
	log_writer_close(&w);
	read_logs_with(&o);
	/* A time stands before each line, not before each of its pieces. */
	assert_int_equal(out_len, 31 + len + 31 + 4);
	assert_memory_equal(out_text + 31, line, len);
	assert_memory_equal(out_text + out_len - 4, "last", 4);
	o.tail = 1;
	read_logs_with(&o);
	assert_int_equal(out_len, 31 + 4);
	free(line);
}

static void details_are_what_the_options_ask_for(void **state)
{
	struct box_log_opts o = {.tail = -1, .details = true};

	assert_int_equal(strv_push(&b->config.labels, "com.example.a=1 & 2"), 0);
	assert_int_equal(strv_push(&b->config.labels, "other=x"), 0);
	assert_int_equal(strv_push(&b->config.process.env, "LEVEL=\xff,"), 0);
	set_opt("labels=none,com.example.a");
	set_opt("env=LEVEL");
	set_opt("tag=t-{{ .Name }}");
	put_and_close("text\n");
	read_logs_with(&o);
	assert_out("LEVEL=%5Cxff%2C,com.example.a=1+%26+2,tag=t-b text\n");
	read_logs();
	assert_out("text\n");
}

/* ---- rotation ---- */

/* Lines "NNNNNNN xxx…\n" of 4 KiB, numbered from `from`. */
static int put_numbers(struct log_writer *w, int from, int n)
{
	char line[4097];

	memset(line, 'x', sizeof(line));
	line[4095] = '\n';
	line[4096] = '\0';
	for (int i = 0; i < n; i++) {
		snprintf(line, 9, "%08d", from + i);
		line[8] = ' ';
		put(w, 0, line);
	}
	return from + n;
}

/* The numbers printed are one ascending row without a gap that ends with `last`. Returns the first. */
static int assert_numbers(const char *text, size_t len, int last)
{
	assert_int_equal(len % 4096, 0);
	assert_true(len > 0);
	int first = atoi(text);
	for (size_t i = 0; i < len / 4096; i++)
		assert_int_equal(atoi(text + i * 4096), first + (int)i);
	assert_int_equal(first + (int)(len / 4096) - 1, last);
	return first;
}

static void old_parts_are_dropped_and_the_rest_is_read_in_order(void **state)
{
	struct log_writer w = open_writer();
	int per_file = FILE_MAX / 4096, last = put_numbers(&w, 1, per_file * (FILES + 1)) - 1;
	struct stat s;
	struct box_log_opts o = {.tail = 300};

	log_writer_close(&w);
	for (int i = 0; i <= FILES; i++) {
		char name[32];
		snprintf(name, sizeof(name), i ? "logs/box.log.%d" : "logs/box.log", i);
		int r = fstatat(box_dir, name, &s, 0);
		assert_int_equal(r, i < FILES ? 0 : -1);
		if (r == 0)
			assert_true(s.st_size < FILE_MAX + 65536);
	}
	read_logs();
	int first = assert_numbers(out_text, out_len, last);
	assert_true(first > 1 && last - first >= (FILES - 1) * (per_file - 20));
	read_logs_with(&o); /* a tail that begins in an older part */
	assert_int_equal(assert_numbers(out_text, out_len, last), last - 299);
}

static void a_rotation_cut_off_by_a_crash_loses_nothing(void **state)
{
	static const char *const names[] = {"box.log.2", "box.log.1", "box.log"};

	/* The names move one by one: every gap that this leaves. */
	for (int missing = 0; missing < 3; missing++) {
		char want[32] = "";
		for (int i = 0; i < 3; i++) {
			put_and_close("x"); /* makes the folder */
			int fd = open_log(names[i], O_WRONLY | O_CREAT | O_TRUNC);
			close(fd);
		}
		for (int i = 0; i < 3; i++) {
			char entry[128], path[64];
			snprintf(path, sizeof(path), "logs/%s", names[i]);
			if (i == missing) {
				assert_int_equal(unlinkat(box_dir, path, 0), 0);
				continue;
			}
			snprintf(entry, sizeof(entry),
				"{\"log\":\"%d\\n\",\"stream\":\"stdout\",\"time\":\"2020\"}\n", i);
			append_raw(names[i], entry, strlen(entry));
			snprintf(want + strlen(want), sizeof(want) - strlen(want), "%d\n", i);
		}
		read_logs();
		assert_out(want);
	}
}

static void without_older_parts_all_is_in_one_file(void **state)
{
	for (int rotated = 0; rotated < 2; rotated++) {
		b->config.log.max_files = rotated ? 1 : FILES;
		b->config.log.max_size = rotated ? FILE_MAX : 0;
		struct log_writer w = open_writer();
		int last = put_numbers(&w, 1, 600) - 1;
		log_writer_close(&w);
		assert_int_equal(faccessat(box_dir, "logs/box.log.1", F_OK, 0), -1);
		assert_int_equal(faccessat(box_dir, "logs/box.log.new", F_OK, 0), -1);
		read_logs();
		assert_int_equal(assert_numbers(out_text, out_len, last) > 1, rotated);
		assert_int_equal(unlinkat(box_dir, "logs/box.log", 0), 0);
	}
}

/* ---- following ---- */

struct follower {
	pid_t pid;
	int out;
};

static struct follower follow(int64_t tail)
{
	struct follower f = {.out = temp_fd()};

	fflush(stdout);
	f.pid = fork();
	if (f.pid == 0) {
		struct box_log_opts o = {.follow = true, .tail = tail};
		close_fd(&lock_fd); /* it is the parent's */
		dup2(f.out, STDOUT_FILENO);
		alarm(2 * LIMIT_S);
		_exit(box_logs(home_reopen(), b, &o, NULL) < 0);
	}
	return f;
}

static size_t printed(const struct follower *f)
{
	struct stat s;
	assert_int_equal(fstat(f->out, &s), 0);
	return (size_t)s.st_size;
}

static void wait_printed(const struct follower *f, size_t len)
{
	for (uint64_t until = time_mono_ns() + LIMIT_S * 1000000000ull;
		printed(f) < len && time_mono_ns() < until;)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	assert_true(printed(f) >= len);
}

static void wait_follower(struct follower *f)
{
	int status;
	assert_int_equal(waitpid(f->pid, &status, 0), f->pid);
	assert_int_equal(status, 0);
	take_output(f->out, &out_text, &out_len);
}

static void end_box(void)
{
	force_state(b->id, BOX_EXITED);
}

static void a_follower_sees_new_lines_until_the_box_ends(void **state)
{
	struct log_writer w = open_writer();

	force_state(b->id, BOX_RUNNING);
	b->state = BOX_RUNNING;
	put(&w, 0, "1\n2\n");
	struct follower f = follow(1);
	wait_printed(&f, 2);
	put(&w, 0, "3\n4");
	wait_printed(&f, 4);
	put(&w, 0, "\n");
	put(&w, 0, "last");
	log_writer_close(&w);
	end_box();
	wait_follower(&f);
	assert_out("2\n3\n4\nlast");
}

static void a_follower_of_a_box_that_is_over_ends_at_once(void **state)
{
	put_and_close("all\n");
	struct follower f = follow(-1);
	wait_follower(&f);
	assert_out("all\n");
}

static void a_follower_ends_when_the_supervisor_dies(void **state)
{
	put_and_close("all\n");
	force_state(b->id, BOX_RUNNING);
	struct follower f = follow(-1);
	wait_printed(&f, 4);
	close_fd(&lock_fd);
	wait_follower(&f);
	assert_out("all\n");
	assert_int_equal(state_of(b->id), BOX_EXITED);
}

static void a_follower_waits_for_the_rest_of_an_entry(void **state)
{
	static const char entry[] = "{\"log\":\"whole\\n\",\"stream\":\"stdout\",\"time\":\"2020\"}\n";

	put_and_close("before\n");
	force_state(b->id, BOX_RUNNING);
	struct follower f = follow(-1);
	wait_printed(&f, 7);
	for (size_t i = 0; i < strlen(entry); i++) {
		append_raw("box.log", entry + i, 1);
		if (i == 20)
			nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	}
	end_box();
	wait_follower(&f);
	assert_out("before\nwhole\n");
}

static void a_follower_of_nothing_yet_misses_nothing(void **state)
{
	static const char half[] = "{\"log\":\"whole\\n\",\"stream\":\"stdo";
	static const char rest[] = "ut\",\"time\":\"2020-01-01T00:00:00Z\"}\n";

	put_and_close("before\n");
	append_raw("box.log", half, strlen(half)); /* an entry is being written at that moment */
	force_state(b->id, BOX_RUNNING);
	struct follower f = follow(0);
	nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
	append_raw("box.log", rest, strlen(rest));
	wait_printed(&f, 6);
	end_box();
	wait_follower(&f);
	assert_out("whole\n");
}

static void a_follower_sees_through_rotations(void **state)
{
	enum { STEPS = 40, STEP = 26 }; /* 4 MiB: it passes through every file */
	struct log_writer w = open_writer();
	int next = 1;

	force_state(b->id, BOX_RUNNING);
	struct follower f = follow(-1);
	for (int i = 0; i < STEPS; i++) {
		next = put_numbers(&w, next, STEP);
		/* It may be late by less than one file, or what it needs is rotated away. */
		size_t written = (size_t)(next - 1) * 4096;
		if (written > FILE_MAX / 2)
			wait_printed(&f, written - FILE_MAX / 2);
	}
	log_writer_close(&w);
	end_box();
	wait_follower(&f);
	assert_int_equal(assert_numbers(out_text, out_len, next - 1), 1);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(streams_are_kept_apart_and_each_line_is_an_entry),
		TEST(a_line_may_arrive_byte_by_byte),
		TEST(a_line_is_split_where_it_is_too_long),
		TEST(every_byte_survives_also_what_is_no_text),
		TEST(the_worst_line_fits_its_entry),
		TEST(an_unfinished_line_is_written_at_the_end),
		TEST(the_next_run_appends),
		TEST(a_line_torn_by_a_crash_is_skipped_and_the_next_one_is_not_lost),
		TEST(what_a_full_disk_does_not_take_waits),
		TEST(what_is_given_up_is_said),
		TEST(a_log_that_is_a_link_is_refused),
		TEST(a_box_that_never_ran_has_an_empty_log),
		TEST(what_is_no_entry_is_skipped),
		TEST(the_tail_is_the_last_lines),
		TEST(entries_can_be_limited_by_time_and_shown_with_it),
		TEST(the_tail_can_be_limited_by_time_too),
		TEST(a_tail_counts_lines_whatever_their_length),
		TEST(details_are_what_the_options_ask_for),
		TEST(old_parts_are_dropped_and_the_rest_is_read_in_order),
		TEST(a_rotation_cut_off_by_a_crash_loses_nothing),
		TEST(without_older_parts_all_is_in_one_file),
		TEST(a_follower_sees_new_lines_until_the_box_ends),
		TEST(a_follower_of_a_box_that_is_over_ends_at_once),
		TEST(a_follower_ends_when_the_supervisor_dies),
		TEST(a_follower_waits_for_the_rest_of_an_entry),
		TEST(a_follower_of_nothing_yet_misses_nothing),
		TEST(a_follower_sees_through_rotations),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
