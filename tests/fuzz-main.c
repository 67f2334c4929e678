/* SPDX-License-Identifier: MIT */
/*
 * Replays fuzz inputs without a fuzzer: the main function of fuzz targets in ordinary builds.
 *
 *     fuzz-NAME FILE-OR-FOLDER...
 *
 * Runs the target once per regular file (folders are read in the order of names, not recursively) and prints
 * TAP. A target reports failure by crashing; an input that takes longer than LIMIT_S ends the run by SIGALRM.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LIMIT_S = 60, INPUT_MAX = 16 << 20 };

static unsigned n_run, n_failed;

static void report(int ok, const char *path, const char *why)
{
	const char *name = strrchr(path, '/');

	n_run++;
	n_failed += !ok;
	printf("%sok %u - %s%s%s\n", ok ? "" : "not ", n_run, name ? name + 1 : path, why ? " # " : "",
		why ? why : "");
	fflush(stdout); /* so that the last line names the input before the one that crashed */
}

static void run_file(const char *path)
{
	FILE *f = fopen(path, "rbe");
	/* Exactly as large as the input, so that the sanitizer sees a read behind its end. */
	struct stat st;
	uint8_t *data = NULL;

	if (!f || fstat(fileno(f), &st) < 0 || st.st_size > INPUT_MAX ||
		!(data = malloc(st.st_size ? st.st_size : 1)) ||
		fread(data, 1, st.st_size, f) != (size_t)st.st_size) {
		report(0, path, "cannot be read");
	} else {
		alarm(LIMIT_S);
		LLVMFuzzerTestOneInput(data, st.st_size);
		alarm(0);
		report(1, path, NULL);
	}
	free(data);
	if (f)
		fclose(f);
}

static void run_folder(const char *path)
{
	struct dirent **entries;
	int n = scandir(path, &entries, NULL, alphasort);

	if (n < 0) {
		report(0, path, strerror(errno));
		return;
	}
	for (int i = 0; i < n; i++) {
		char *file = NULL;
		if (entries[i]->d_name[0] != '.' && asprintf(&file, "%s/%s", path, entries[i]->d_name) >= 0)
			run_file(file);
		free(file);
		free(entries[i]);
	}
	free(entries);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		struct stat st;
		if (stat(argv[i], &st) < 0)
			report(0, argv[i], strerror(errno));
		else if (S_ISDIR(st.st_mode))
			run_folder(argv[i]);
		else
			run_file(argv[i]);
	}
	printf("1..%u\n", n_run);
	return n_failed > 0 || n_run == 0;
}
