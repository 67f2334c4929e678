/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "progress.h"

#define A "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

/*
 * A terminal as far as frames need one: rows that scroll off its top stay as they are. Any other control character or
 * sequence is a failure.
 */
struct screen {
	char lines[256][256];
	size_t rows, cols, row, col, top; /* top: the first line that can be reached */
};

static void put(struct screen *s, char c)
{
	assert_true(s->col + 1 < s->cols); /* a full line would make some terminals wrap */
	assert_true(c >= 0x20 && c < 0x7f);
	size_t n = strlen(s->lines[s->row]);
	while (n < s->col)
		s->lines[s->row][n++] = ' ';
	if (s->col >= strlen(s->lines[s->row]))
		s->lines[s->row][s->col + 1] = '\0';
	s->lines[s->row][s->col++] = c;
}

static const char *control(struct screen *s, const char *p)
{
	size_t n = 0;

	assert_int_equal(*p++, '[');
	while (*p >= '0' && *p <= '9')
		n = n * 10 + (size_t)(*p++ - '0');
	switch (*p) {
	case 'A':
		assert_true(s->row >= n && s->row - n >= s->top);
		s->row -= n;
		break;
	case 'K':
		s->lines[s->row][s->col] = '\0';
		break;
	case 'J':
		s->lines[s->row][s->col] = '\0';
		for (size_t i = s->row + 1; i < 256; i++)
			s->lines[i][0] = '\0';
		break;
	default:
		fail_msg("sequence %c", *p);
	}
	return p + 1;
}

static void play(struct screen *s, const char *p)
{
	while (*p) {
		char c = *p++;
		if (c == '\033') {
			p = control(s, p);
		} else if (c == '\r') {
			s->col = 0;
		} else if (c == '\n') {
			s->col = 0;
			s->row++;
			assert_true(s->row < 256);
			if (s->row >= s->top + s->rows)
				s->top = s->row + 1 - s->rows;
		} else {
			put(s, c);
		}
	}
	assert_int_equal(s->col, 0); /* after each frame, whoever ends the program leaves a sane screen */
}

struct stage {
	struct progress p;
	char *text;
	size_t len;
};

static void begin(struct stage *st, bool tty, size_t cols, size_t rows)
{
	progress_init(&st->p, PROGRESS_QUIET);
	st->p.tty = tty;
	st->p.plain = !tty;
	st->p.cols = cols;
	st->p.rows = rows;
	st->p.out = open_memstream(&st->text, &st->len);
	assert_non_null(st->p.out);
}

static void end(struct stage *st)
{
	progress_done(&st->p);
	fclose(st->p.out);
	st->p.out = NULL;
}

/* As if so much time had gone by. */
static void show(struct stage *st, const char *item, const char *action, uint64_t done, uint64_t total)
{
	st->p.drawn_ns = 0;
	progress_show(&st->p, item, action, done, total);
}

static size_t lines_shown(const struct screen *s)
{
	size_t n = 0;
	for (size_t i = 0; i < 256; i++)
		n += s->lines[i][0] != '\0';
	return n;
}

static void frames_are_redrawn_in_place(void **state)
{
	struct screen s = {.rows = 24, .cols = 100};
	struct stage st;

	(void)state;
	begin(&st, true, s.cols, s.rows);
	show(&st, A, "Downloading", 0, 1000000);
	show(&st, B, "Waiting", 0, 0);
	show(&st, A, "Downloading", 500000, 1000000);
	show(&st, B, "Already exists", 0, 0);
	show(&st, A, "Downloading", 900000, 1000000);
	fflush(st.p.out);
	play(&s, st.text);
	assert_int_equal(lines_shown(&s), 3);
	assert_string_equal(
		strtok(s.lines[0], "]"), "aaaaaaaaaaaa: Downloading        [======================>  ");
	assert_non_null(strstr(strtok(NULL, ""), "900kB/1MB"));
	assert_string_equal(s.lines[1], "bbbbbbbbbbbb: Already exists ");
	assert_int_equal(strncmp(s.lines[2], "Total: 900kB/1MB", 16), 0);
	end(&st);
	free(st.text);
}

/* What waits is part of the total, unless it turns out to be here. */
static void the_total_foresees(void **state)
{
	struct screen s = {.rows = 24, .cols = 60};
	struct stage st;

	(void)state;
	begin(&st, true, s.cols, s.rows);
	show(&st, A, "Pulling fs layer", 0, 3000);
	show(&st, B, "Pulling fs layer", 0, 5000);
	show(&st, A, "Downloading", 1000, 3000);
	fflush(st.p.out);
	play(&s, st.text);
	assert_string_equal(s.lines[1], "bbbbbbbbbbbb: Pulling fs layer ");
	assert_int_equal(strncmp(s.lines[2], "Total: 1kB/8kB", 14), 0);
	show(&st, B, "Already exists", 5000, 5000);
	end(&st);
	memset(&s, 0, sizeof(s));
	s.rows = 24;
	s.cols = 60;
	play(&s, st.text);
	assert_int_equal(strncmp(s.lines[2], "Total: 1kB/3kB", 14), 0);
	free(st.text);
}

static void the_end_leaves_the_layers(void **state)
{
	struct screen s = {.rows = 24, .cols = 60};
	struct stage st;

	(void)state;
	begin(&st, true, s.cols, s.rows);
	show(&st, A, "Downloading", 10, 1000);
	show(&st, A, "Download complete", 0, 0);
	show(&st, NULL, "Building disk", 10, 100);
	end(&st);
	play(&s, st.text);
	assert_int_equal(lines_shown(&s), 2);
	assert_string_equal(s.lines[0], "aaaaaaaaaaaa: Download complete ");
	assert_int_equal(strncmp(s.lines[1], "Total: 1kB/1kB", 14), 0);
	free(st.text);
}

static void the_end_leaves_nothing_else(void **state)
{
	struct screen s = {.rows = 24, .cols = 60};
	struct stage st;

	(void)state;
	begin(&st, true, s.cols, s.rows);
	show(&st, NULL, "Building disk", 10, 100);
	show(&st, NULL, "Building disk", 100, 100);
	end(&st);
	play(&s, st.text);
	assert_int_equal(lines_shown(&s), 0);
	assert_int_equal(s.row, 0);
	free(st.text);
}

static void more_layers_than_rows(void **state)
{
	struct screen s = {.rows = 10, .cols = 80};
	struct stage st;
	char digest[80];

	(void)state;
	begin(&st, true, s.cols, s.rows);
	for (int step = 0; step < 3; step++) {
		for (int i = 0; i < 40; i++) {
			snprintf(digest, sizeof(digest), "sha256:%064d", i + 1000000);
			snprintf(digest + 7, sizeof(digest) - 7, "%012d", i);
			show(&st, digest,
				step == 0   ? "Waiting"
				: step == 1 ? "Downloading"
					    : "Download complete",
				step == 1 ? 5 : 0, 10);
		}
	}
	end(&st);
	play(&s, st.text);
	assert_int_equal(s.top, 0); /* nothing has scrolled away */
	assert_string_equal(s.lines[0], "40 layers: 40 complete, 0 at work, 0 waiting");
	free(st.text);
}

static void narrow_terminals_cut(void **state)
{
	struct stage st;

	(void)state;
	for (size_t cols = 1; cols < 130; cols++) {
		struct screen s = {.rows = 24, .cols = cols < 20 ? 20 : cols};
		begin(&st, true, cols, s.rows);
		show(&st, A, "Downloading", 123456789, 987654321);
		show(&st, NULL, "An action with a long, long name indeed, that goes on and on and on", 1,
			1000000);
		show(&st, B, "Uploading", 999999999999, 999999999999);
		end(&st);
		play(&s, st.text);
		free(st.text);
	}
}

/* Names come from registries. */
static void nothing_drives_the_terminal(void **state)
{
	struct screen s = {.rows = 24, .cols = 80};
	struct stage st;

	(void)state;
	begin(&st, true, s.cols, s.rows);
	show(&st, A, "Down\033[2Jloading\n\xff", 1, 2);
	end(&st);
	play(&s, st.text);
	assert_int_equal(lines_shown(&s), 1);
	free(st.text);
}

static void plain_lines(void **state)
{
	struct stage st;

	(void)state;
	begin(&st, false, 0, 0);
	show(&st, A, "Waiting", 0, 0);
	show(&st, A, "Downloading", 0, 1500000);
	show(&st, A, "Downloading", 1000, 1500000);
	show(&st, B, "Already exists", 0, 0);
	show(&st, NULL, "Building disk", 10, 100);
	show(&st, A, "Downloading", 1400000, 1500000);
	show(&st, A, "Download complete", 0, 0);
	show(&st, A, "Download complete", 0, 0);
	end(&st);
	assert_string_equal(st.text, "aaaaaaaaaaaa: Downloading 1.5MB\n"
				     "bbbbbbbbbbbb: Already exists\n"
				     "aaaaaaaaaaaa: Download complete\n");
	free(st.text);
}

static void quiet(void **state)
{
	struct stage st;

	(void)state;
	begin(&st, false, 0, 0);
	st.p.plain = false;
	show(&st, A, "Downloading", 0, 1500000);
	end(&st);
	assert_int_equal(st.len, 0);
	free(st.text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_are_redrawn_in_place),
		cmocka_unit_test(the_total_foresees),
		cmocka_unit_test(the_end_leaves_the_layers),
		cmocka_unit_test(the_end_leaves_nothing_else),
		cmocka_unit_test(more_layers_than_rows),
		cmocka_unit_test(narrow_terminals_cut),
		cmocka_unit_test(nothing_drives_the_terminal),
		cmocka_unit_test(plain_lines),
		cmocka_unit_test(quiet),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
