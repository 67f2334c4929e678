/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/io.h"
#include "inside.h"
#include "test-copy.h"

bool copy_possible(void)
{
	CLEANUP_CLOSE int fd = tree_open(AT_FDCWD, ".", O_PATH | O_DIRECTORY, 0);

	if (fd == -ENOSYS)
		printf("# openat2(2) is missing here: skipped\n");
	return fd != -ENOSYS;
}

void copy_world_new(struct copy_world *w)
{
	snprintf(w->path, sizeof(w->path), "/tmp/a3s-test-tree-XXXXXX");
	assert_non_null(mkdtemp(w->path));
	w->dir = open(w->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(w->dir >= 0);
}

void copy_world_done(struct copy_world *w)
{
	close_fd(&w->dir);
	io_remove_tree_at(AT_FDCWD, w->path);
}

int copy_folder(const struct copy_world *w, const char *name)
{
	assert_true(mkdirat(w->dir, name, 0755) == 0 || errno == EEXIST);
	int fd = openat(w->dir, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

void copy_file(int dir, const char *path, const char *text, mode_t mode)
{
	CLEANUP_CLOSE int fd = openat(dir, path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(io_write_full(fd, text, strlen(text)), 0);
	assert_int_equal(fchmod(fd, mode), 0);
}

void copy_assert_text(int dir, const char *path, const char *text)
{
	CLEANUP_FREE char *got = NULL;

	assert_int_equal(io_read_file_at(dir, path, 1 << 20, &got, NULL), 0);
	assert_string_equal(got, text);
}

static uint64_t sum_of(int dir, const char *name)
{
	CLEANUP_CLOSE int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	static uint8_t data[65536];
	uint64_t sum = 0;
	ssize_t n;

	while ((n = read(fd, data, sizeof(data))) > 0)
		for (ssize_t i = 0; i < n; i++)
			sum = sum * 31 + data[i];
	return sum;
}

static void describe(FILE *out, int dir, const char *prefix)
{
	struct dirent **list = NULL;
	int n = scandirat(dir, ".", &list, NULL, alphasort);

	assert_true(n >= 0);
	for (int i = 0; i < n; i++) {
		CLEANUP_FREE char *path = str_printf("%s/%s", prefix, list[i]->d_name);
		const char *name = list[i]->d_name;
		char target[4096] = "";
		struct stat st;

		if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
			assert_int_equal(fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW), 0);
			if (S_ISLNK(st.st_mode))
				assert_true(readlinkat(dir, name, target, sizeof(target) - 1) > 0);
			fprintf(out, "%s %o %lld %lld.%09ld %d:%d %ld \"%s\" %llx\n", path, st.st_mode,
				S_ISREG(st.st_mode) ? (long long)st.st_size : 0, (long long)st.st_mtim.tv_sec,
				st.st_mtim.tv_nsec, (int)st.st_uid, (int)st.st_gid,
				S_ISDIR(st.st_mode) ? 0L : (long)st.st_nlink, target,
				S_ISREG(st.st_mode) ? (unsigned long long)sum_of(dir, name)
						    : (unsigned long long)st.st_rdev);
			if (S_ISDIR(st.st_mode)) {
				CLEANUP_CLOSE int sub =
					openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
				describe(out, sub, path);
			}
		}
		free(list[i]);
	}
	free(list);
}

char *copy_describe(int dir)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	assert_non_null(out);
	describe(out, dir, "");
	fclose(out);
	return text;
}
