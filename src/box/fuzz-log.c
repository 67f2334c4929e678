/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as a log file, read forwards and backwards: the tail is a tail of the whole. And any bytes as output: what
 * is read is what was written.
 */
#include <fcntl.h>
#include <jansson.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "log-read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int dir = -1; /* logs/ in `folder` */
static char folder[] = "/tmp/a3s-fuzz-XXXXXX";

static void remove_folder(void)
{
	io_remove_tree_at(AT_FDCWD, folder);
}

static void make_folder(void)
{
	char logs[64];

	if (!mkdtemp(folder))
		abort();
	atexit(remove_folder);
	snprintf(logs, sizeof(logs), "%s/logs", folder);
	dir = io_open_dir_at(AT_FDCWD, logs, true);
	if (dir < 0)
		abort();
}

/* A general reader of JSON finds the same in what we understand. It cannot have a NUL in a name, as one of attrs may. */
static void compare(const char *line, size_t len, const struct log_entry *en)
{
	json_error_t error;
	json_t *j = json_loadb(line, len, JSON_ALLOW_NUL, &error), *text = json_object_get(j, "log");

	if (!j && json_error_code(&error) == json_error_null_byte_in_key)
		return;
	if (text && (json_string_length(text) != en->len ||
			    memcmp(json_string_value(text), en->data, en->len) != 0))
		abort();
	if (!text && !json_is_string(json_object_get(j, "b64")))
		abort();
	json_decref(j);
}

static int collect(void *data, const char *line, size_t len)
{
	struct log_entry en;

	if (!log_entry_parse(line, len, true, &en))
		return 0;
	if (en.len > len)
		abort();
	compare(line, len, &en);
	buf_append(data, en.data, en.len);
	log_entry_done(&en);
	return 0;
}

/* All of the output in the file, or its last lines. */
static void read_back(struct buf *out, int64_t tail)
{
	struct log_reader rd = {.dirfd = dir, .fd = -1, .files = 1};

	if ((tail >= 0 && log_reader_seek_tail(&rd, tail, 0, 0) < 0) || log_reader_run(&rd, collect, out) < 0)
		abort();
	log_reader_done(&rd);
}

static void as_file(const uint8_t *data, size_t size)
{
	CLEANUP(buf_done) struct buf all = {0};
	CLEANUP(buf_done) struct buf tail = {0};
	CLEANUP_CLOSE int fd = openat(dir, "box.log", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || io_write_full(fd, data, size) < 0)
		abort();
	read_back(&all, -1);
	read_back(&tail, size % 5);
	if (tail.len > all.len ||
		(tail.len && memcmp(buf_data(&all) + all.len - tail.len, buf_data(&tail), tail.len) != 0))
		abort();
	tail.len = 0;
	read_back(&tail, INT64_MAX);
	if (tail.len != all.len)
		abort();
}

static void as_output(const uint8_t *data, size_t size)
{
	CLEANUP(buf_done) struct buf all = {0};
	struct box b = {0};
	struct log_writer w;

	unlinkat(dir, "box.log", 0);
	CLEANUP_CLOSE int above = openat(dir, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (log_writer_open(&w, above, &b, NULL) < 0)
		abort();
	log_writer_put(&w, 0, data, size / 2);
	log_writer_put(&w, 0, data + size / 2, size - size / 2);
	log_writer_close(&w);
	read_back(&all, -1);
	if (all.len != size || (size && memcmp(buf_data(&all), data, size) != 0))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (dir < 0)
		make_folder();
	as_file(data, size);
	as_output(data, size);
	return 0;
}
