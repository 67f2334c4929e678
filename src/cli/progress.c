/* SPDX-License-Identifier: MIT */
#include "progress.h"

#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/log.h"
#include "base/units.h"

#define FRAME_NS    100000000ull   /* between frames, unless a layer's step changes */
#define CHANGE_NS   20000000ull	   /* then this */
#define PLAIN_NS    10000000000ull /* between plain lines of one step */
#define RATE_NS	    2000000000ull  /* what a rate is smoothed over */
#define RATE_MIN_NS 250000000ull   /* between two looks at it */
#define SECOND_NS   1000000000ull

enum {
	ITEMS_MAX =
		4096, /* an image has 127 layers at most, an index some tens of images; others are not shown */
	ROWS_DEFAULT = 24,
	COLS_DEFAULT = 80,
	COLS_MIN = 20,
	LINE_MAX_BYTES = 256,
	SHORT_ID = 12,
	BAR = 25,
	BAR_COLS = 80, /* of a terminal that is wide enough for bars */
	RATE_COLS = 56,
	ACTION_WIDTH = 18,
};

struct progress_item {
	char id[SHORT_ID + 1];
	char *digest; /* NULL: of the whole */
	char action[80];
	uint64_t done, total;
	/* What went over the network of it, which later steps do not count anew; first: what was there already. */
	bool transfer;
	uint64_t moved, size, first;
	uint64_t said_ns, counted_ns, counted;
	double rate;
};

/*
 * The one that has the terminal: what is logged meanwhile, by any thread, goes above its frame. The mutex guards which one
 * it is, and its frame.
 */
static pthread_mutex_t screen = PTHREAD_MUTEX_INITIALIZER;
static struct progress *on_screen;

static void clear_screen(void)
{
	pthread_mutex_lock(&screen);
	if (on_screen)
		progress_pause(on_screen);
	pthread_mutex_unlock(&screen);
}

static void take_screen(struct progress *p)
{
	pthread_mutex_lock(&screen);
	on_screen = p;
	pthread_mutex_unlock(&screen);
	log_set_before(p ? clear_screen : NULL);
}

void progress_init(struct progress *p, enum progress_mode mode)
{
	const char *term = getenv("TERM");
	bool tty = mode != PROGRESS_QUIET && isatty(STDERR_FILENO) && !(term && strcmp(term, "dumb") == 0);

	*p = (struct progress){.out = stderr,
		.tty = tty,
		.plain = !tty && mode == PROGRESS_PLAIN,
		.start_ns = time_mono_ns()};
	if (tty)
		take_screen(p);
}

static void item_free(struct progress_item *it)
{
	if (it)
		free(it->digest);
}

/* ---- what is known ---- */

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), k = strlen(end);
	return n >= k && strcmp(s + n - k, end) == 0;
}

/* Steps are named by whoever does them; these end a layer. */
static bool is_over(const struct progress_item *it)
{
	return ends_with(it->action, "complete") || ends_with(it->action, "exists") ||
	       strncmp(it->action, "Mounted", 7) == 0 || strcmp(it->action, "Pushed") == 0;
}

static bool is_waiting(const struct progress_item *it)
{
	return strncmp(it->action, "Waiting", 7) == 0 || strcmp(it->action, "Pulling fs layer") == 0;
}

static bool is_transfer(const char *action)
{
	return strcmp(action, "Downloading") == 0 || strcmp(action, "Uploading") == 0 ||
	       strcmp(action, "Pushing") == 0;
}

static struct progress_item *add_item(struct progress *p, const char *digest)
{
	if (p->n == p->capacity) {
		size_t capacity = p->capacity ? 2 * p->capacity : 16;
		struct progress_item *bigger = reallocarray(p->items, capacity, sizeof(*bigger));
		if (!bigger)
			return NULL;
		p->items = bigger;
		p->capacity = capacity;
	}
	const char *colon = strchr(digest, ':');
	struct progress_item *it = &p->items[p->n];
	*it = (struct progress_item){.digest = strdup(digest)};
	if (!it->digest)
		return NULL;
	snprintf(it->id, sizeof(it->id), "%s", colon ? colon + 1 : digest);
	p->n++;
	return it;
}

static struct progress_item *find_item(struct progress *p, const char *digest)
{
	if (!digest) {
		if (!p->whole)
			p->whole = calloc(1, sizeof(*p->whole));
		return p->whole;
	}
	for (size_t i = 0; i < p->n; i++) {
		if (strcmp(p->items[i].digest, digest) == 0)
			return &p->items[i];
	}
	return p->n < ITEMS_MAX ? add_item(p, digest) : NULL;
}

/* Returns whether it is another step now. */
static bool note(struct progress_item *it, const char *action, uint64_t done, uint64_t total)
{
	char safe[sizeof(it->action)];

	text_escape(safe, sizeof(safe), action);
	bool changed = strcmp(it->action, safe) != 0;
	memcpy(it->action, safe, sizeof(safe));
	it->done = done;
	it->total = total;
	if (is_transfer(action)) {
		if (!it->transfer) {
			it->transfer = true;
			it->first = it->counted = done;
			it->counted_ns = time_mono_ns();
		}
		it->moved = MAX_OF(it->moved, done);
		it->size = MAX_OF(it->size, total);
	} else if (is_over(it)) { /* by us, or there already */
		it->moved = it->size = it->transfer ? MAX_OF(it->moved, it->size) : 0;
	} else if (is_waiting(it)) {
		it->size = MAX_OF(it->size, total);
	}
	return changed;
}

static double smooth(double rate, uint64_t bytes, uint64_t ns)
{
	double now = (double)bytes * SECOND_NS / (double)ns, weight = (double)ns / (double)(ns + RATE_NS);
	return rate > 0 ? rate + (now - rate) * weight : now;
}

/* moved: bytes of all since the beginning. */
static void count_rates(struct progress *p, uint64_t now)
{
	uint64_t moved = 0;

	for (size_t i = 0; i < p->n; i++) {
		struct progress_item *it = &p->items[i];
		moved += it->moved - it->first;
		if (it->transfer && now - it->counted_ns >= RATE_MIN_NS) {
			it->rate = smooth(it->rate, it->moved - it->counted, now - it->counted_ns);
			it->counted = it->moved;
			it->counted_ns = now;
		}
	}
	if (!p->counted_ns)
		p->counted_ns = p->start_ns;
	if (now - p->counted_ns >= RATE_MIN_NS) {
		p->rate = smooth(p->rate, moved - p->counted, now - p->counted_ns);
		p->counted = moved;
		p->counted_ns = now;
	}
}

/* ---- a frame ---- */

struct frame {
	struct buf text;
	size_t cols, lines;
};

/* One line, cut to the width: a line that wraps would not be where the next frame looks for it. All is ASCII. */
static void put_line(struct frame *f, const char *line)
{
	size_t n = MIN_OF(strlen(line), f->cols - 1);

	buf_append(&f->text, line, n);
	buf_append(&f->text, "\033[K\n", 4);
	f->lines++;
}

static void add_text(char *line, const char *text)
{
	size_t n = strlen(line);
	snprintf(line + n, LINE_MAX_BYTES - n, "%s", text);
}

static void add_bar(char *line, uint64_t done, uint64_t total)
{
	char bar[BAR + 1];
	size_t n = total ? (size_t)((double)MIN_OF(done, total) / (double)total * BAR) : 0;

	for (size_t i = 0; i < BAR; i++)
		bar[i] = i < n ? '=' : i == n ? '>' : ' ';
	bar[BAR] = '\0';
	add_text(line, "[");
	add_text(line, bar);
	add_text(line, "] ");
}

/* "12.3MB/45.6MB  3.2MB/s" */
static void add_bytes(char *line, uint64_t done, uint64_t total, double rate)
{
	char d[16], t[16], r[16], text[64];

	if (total)
		snprintf(text, sizeof(text), "%s/%s", format_size(d, sizeof(d), done),
			format_size(t, sizeof(t), total));
	else
		snprintf(text, sizeof(text), "%s", format_size(d, sizeof(d), done));
	add_text(line, text);
	if (rate >= 1) {
		snprintf(text, sizeof(text), "  %s/s", format_size(r, sizeof(r), (uint64_t)rate));
		add_text(line, text);
	}
}

static void put_item(struct frame *f, const struct progress_item *it)
{
	char line[LINE_MAX_BYTES];
	bool counted = !is_over(it) && !is_waiting(it) && (it->done || it->total);

	snprintf(line, sizeof(line), "%s: %-*s ", it->id, counted ? ACTION_WIDTH : 0, it->action);
	if (counted) {
		if (it->total && f->cols >= BAR_COLS)
			add_bar(line, it->done, it->total);
		add_bytes(line, it->done, it->total,
			is_transfer(it->action) && f->cols >= RATE_COLS ? it->rate : 0);
	}
	put_line(f, line);
}

/* What the network has brought and is still to bring. Nothing, where it has nothing to do. */
static void put_total(struct frame *f, const struct progress *p, bool last)
{
	uint64_t moved = 0, size = 0, first = 0, spent = time_mono_ns() - p->start_ns;
	char line[LINE_MAX_BYTES] = "Total: ", text[48];

	for (size_t i = 0; i < p->n; i++) {
		moved += p->items[i].moved;
		size += p->items[i].size;
		first += p->items[i].first;
	}
	if (!size && !moved)
		return;
	double rate = last && spent ? (double)(moved - first) * SECOND_NS / (double)spent : p->rate;
	add_bytes(line, moved, size, rate);
	if (size && !last) {
		snprintf(text, sizeof(text), "  %d%%",
			(int)((double)MIN_OF(moved, size) * 100 / (double)size));
		add_text(line, text);
	} else if (last) {
		snprintf(text, sizeof(text), " in %llu.%llus", (unsigned long long)(spent / SECOND_NS),
			(unsigned long long)(spent % SECOND_NS / (SECOND_NS / 10)));
		add_text(line, text);
	}
	put_line(f, line);
}

static void put_whole(struct frame *f, const struct progress_item *it)
{
	char line[LINE_MAX_BYTES], text[16];

	if (!it || !it->action[0])
		return;
	snprintf(line, sizeof(line), "%s", it->action);
	if (it->done || it->total) {
		add_text(line, ": ");
		add_bytes(line, it->done, it->total, 0);
	}
	if (it->total) {
		snprintf(text, sizeof(text), "  %d%%",
			(int)((double)MIN_OF(it->done, it->total) * 100 / (double)it->total));
		add_text(line, text);
	}
	put_line(f, line);
}

/* Those that are worked on, as many as there is room for, and how many there are besides. */
static void put_some(struct frame *f, const struct progress *p, size_t room)
{
	size_t waiting = 0, over = 0, shown = 0;
	char line[LINE_MAX_BYTES];

	for (size_t i = 0; i < p->n; i++) {
		const struct progress_item *it = &p->items[i];
		if (is_over(it)) {
			over++;
		} else if (is_waiting(it)) {
			waiting++;
		} else if (shown + 1 < room) {
			put_item(f, it);
			shown++;
		}
	}
	snprintf(line, sizeof(line), "%zu layers: %zu complete, %zu at work, %zu waiting", p->n, over,
		p->n - over - waiting, waiting);
	put_line(f, line);
}

static void terminal_size(const struct progress *p, size_t *cols, size_t *rows)
{
	struct winsize ws = {0};

	*cols = p->cols;
	*rows = p->rows;
	if (!*cols && ioctl(fileno(p->out), TIOCGWINSZ, &ws) == 0) {
		*cols = ws.ws_col;
		*rows = ws.ws_row;
	}
	*cols = MAX_OF(*cols ? *cols : COLS_DEFAULT, (size_t)COLS_MIN);
	*rows = *rows ? *rows : ROWS_DEFAULT;
}

static void draw(struct progress *p, bool last)
{
	struct frame f = {0};
	size_t rows;
	char up[24];

	terminal_size(p, &f.cols, &rows);
	count_rates(p, time_mono_ns());
	pthread_mutex_lock(&screen);
	if (p->drawn) {
		/* No further than the screen goes, if the terminal has become smaller. */
		int n = snprintf(up, sizeof(up), "\033[%zuA\r", MIN_OF(p->drawn, rows > 1 ? rows - 1 : 1));
		buf_append(&f.text, up, (size_t)n);
	}
	/* The cursor's line, the total and the whole. */
	size_t room = rows > 4 ? rows - 3 : 1;
	if (p->n <= room) {
		for (size_t i = 0; i < p->n; i++)
			put_item(&f, &p->items[i]);
	} else {
		put_some(&f, p, room);
	}
	put_total(&f, p, last);
	if (!last)
		put_whole(&f, p->whole);
	buf_append(&f.text, "\033[J", 3); /* what is left of a longer frame */
	fwrite(buf_data(&f.text), 1, f.text.len, p->out);
	fflush(p->out);
	p->drawn = f.lines;
	p->drawn_ns = time_mono_ns();
	pthread_mutex_unlock(&screen);
	buf_done(&f.text);
}

/* ---- plain ---- */

static void say(struct progress *p, struct progress_item *it, bool changed)
{
	char line[LINE_MAX_BYTES];
	uint64_t now = time_mono_ns();

	if (is_waiting(it) || (!changed && (now - it->said_ns < PLAIN_NS || !it->done)))
		return;
	it->said_ns = now;
	snprintf(line, sizeof(line), "%s: %s", it->id, it->action);
	if (!is_over(it) && changed && it->total) {
		add_text(line, " ");
		add_bytes(line, it->total, 0, 0);
	} else if (!is_over(it) && !changed) {
		count_rates(p, now);
		add_text(line, " ");
		add_bytes(line, it->done, it->total, is_transfer(it->action) ? it->rate : 0);
	}
	fprintf(p->out, "%s\n", line);
}

/* ---- */

void progress_show(void *data, const char *digest, const char *action, uint64_t done, uint64_t total)
{
	struct progress *p = data;

	if (!p->tty && (!p->plain || !digest))
		return;
	struct progress_item *it = find_item(p, digest);
	if (!it)
		return;
	bool changed = note(it, action, done, total);
	if (p->plain)
		say(p, it, changed);
	else if (time_mono_ns() - p->drawn_ns >= (changed ? CHANGE_NS : FRAME_NS))
		draw(p, false);
}

void progress_pause(struct progress *p)
{
	if (p->tty && p->drawn)
		fprintf(p->out, "\033[%zuA\r\033[J", p->drawn);
	fflush(p->out);
	p->drawn = 0;
	p->drawn_ns = 0;
}

void progress_done(struct progress *p)
{
	if (p->tty && (p->drawn || p->n))
		draw(p, true);
	if (on_screen == p)
		take_screen(NULL);
	for (size_t i = 0; i < p->n; i++)
		item_free(&p->items[i]);
	free(p->items);
	free(p->whole);
	p->items = NULL;
	p->whole = NULL;
	p->n = p->capacity = p->drawn = 0;
}
