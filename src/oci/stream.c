/* SPDX-License-Identifier: MIT */
#include "stream.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/io.h"
#include "libs.h"

#define INPUT_SIZE	(256u << 10)
#define ZSTD_WINDOW_LOG 27 /* 128 MiB, zstd's own default bound; --ultra --long needs asking for */

/* A ring of blocks between the thread that fills them and the reader. */
struct ahead {
	pthread_t thread;
	pthread_mutex_t mutex; /* guards what follows, but for the blocks that are in somebody's hands */
	pthread_cond_t moved;
	uint8_t *blocks[OCI_STREAM_AHEAD + 1]; /* the reader holds one */
	ssize_t len[OCI_STREAM_AHEAD + 1];
	size_t filled, taken; /* blocks so far; the reader's is taken - 1 */
	bool stop;
	struct err err; /* of a block of negative length, which is the last */
};

struct oci_stream {
	char *what;
	struct oci_source src;
	uint64_t max, bytes_out;
	_Atomic uint64_t bytes_in; /* the thread's; progress looks at it */
	struct ahead *ahead;
	bool sniffed, src_eof, done;
	bool in_member; /* inside a gzip member or zstd frame: the input may not end here */
	enum oci_compression kind;
	uint8_t *in;  /* INPUT_SIZE */
	uint8_t *out; /* OCI_STREAM_BLOCK: its own, or the ring's block that is being filled */
	uint8_t *own;
	size_t in_pos, in_len;
	struct oci_hash *hash;
	const struct libisal *isal;
	struct inflate_state *inflate;
	const struct libzstd *zstd;
	ZSTD_DStream *zds;
};

ssize_t oci_source_fd(void *fd, void *buf, size_t n, struct err *e)
{
	/* One read may be short on a pipe; a full buffer keeps blocks large. */
	ssize_t r = io_read_full(*(int *)fd, buf, n);

	return r < 0 ? err_sys(e, (int)r, "cannot read") : r;
}

int oci_stream_new(const char *what, const struct oci_source *src, const char *hash_like, uint64_t max,
	struct oci_stream **ret, struct err *e)
{
	CLEANUP(oci_stream_freep) struct oci_stream *s = calloc(1, sizeof(*s));

	if (!s)
		return err_oom(e);
	s->src = *src;
	s->max = max;
	s->what = strdup(what);
	s->in = malloc(INPUT_SIZE);
	s->out = s->own = malloc(OCI_STREAM_BLOCK);
	if (!s->what || !s->in || !s->own)
		return err_oom(e);
	if (hash_like) {
		int r = oci_hash_new(hash_like, &s->hash, e);
		if (r < 0)
			return r;
	}
	*ret = TAKE_PTR(s);
	return 0;
}

static void ahead_free(struct ahead *a)
{
	for (size_t i = 0; i < ARRAY_LEN(a->blocks); i++)
		free(a->blocks[i]);
	pthread_cond_destroy(&a->moved);
	pthread_mutex_destroy(&a->mutex);
	free(a);
}

static void ahead_stop(struct oci_stream *s)
{
	struct ahead *a = s->ahead;

	pthread_mutex_lock(&a->mutex);
	a->stop = true;
	pthread_cond_broadcast(&a->moved);
	pthread_mutex_unlock(&a->mutex);
	if (s->src.cancel)
		s->src.cancel(s->src.data);
	pthread_join(a->thread, NULL);
	ahead_free(a);
	s->ahead = NULL;
}

void oci_stream_free(struct oci_stream *s)
{
	if (!s)
		return;
	if (s->ahead)
		ahead_stop(s);
	if (s->zds)
		s->zstd->ZSTD_freeDStream(s->zds);
	oci_hash_free(s->hash);
	free(s->inflate);
	free(s->what);
	free(s->in);
	free(s->own);
	free(s);
}

int oci_sniff(const char *what, const uint8_t *p, size_t n, enum oci_compression *ret, struct err *e)
{
	static const struct {
		const char *magic;
		size_t n;
		const char *name;
	} others[] = {
		{"BZh", 3, "bzip2"},
		{"\xfd\x37zXZ", 5, "xz"},
		{"\x04\x22\x4d\x18", 4, "lz4"},
	};

	*ret = OCI_PLAIN;
	if (n >= 2 && p[0] == 0x1f && p[1] == 0x8b)
		*ret = OCI_GZIP;
	/* A stream may also start with a skippable frame, as zstd:chunked does. */
	else if (n >= 4 && (memcmp(p, "\x28\xb5\x2f\xfd", 4) == 0 ||
				   ((p[0] & 0xf0) == 0x50 && memcmp(p + 1, "\x2a\x4d\x18", 3) == 0)))
		*ret = OCI_ZSTD;
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		if (n < others[i].n || memcmp(p, others[i].magic, others[i].n) != 0)
			continue;
		err_set(e, -EOPNOTSUPP, "%s is compressed with %s: only gzip and zstd are supported", what,
			others[i].name);
		if (strcmp(what, OCI_STREAM_ARCHIVE) == 0)
			err_hint(e, "unpack it on the way: %s -dc FILE | a3s-box load, or import -",
				others[i].name);
		return -EOPNOTSUPP;
	}
	return 0;
}

/* Makes sure that input is there. Returns 1, 0 at the end of it, -errno. */
static int fill(struct oci_stream *s, struct err *e)
{
	if (s->in_pos < s->in_len)
		return 1;
	if (s->src_eof)
		return 0;
	ssize_t n = s->src.read(s->src.data, s->in, INPUT_SIZE, e);
	if (n < 0) {
		err_wrap(e, "%s", s->what);
		return (int)n;
	}
	s->src_eof = n == 0;
	s->in_pos = 0;
	s->in_len = (size_t)n;
	s->bytes_in += (uint64_t)n;
	return n > 0;
}

static int start_gzip(struct oci_stream *s, struct err *e)
{
	s->isal = libisal_get(e);
	if (!s->isal)
		return -ENOENT;
	s->inflate = malloc(sizeof(*s->inflate));
	if (!s->inflate)
		return err_oom(e);
	s->isal->isal_inflate_init(s->inflate);
	s->inflate->crc_flag = ISAL_GZIP;
	s->in_member = true;
	return 0;
}

static int start_zstd(struct oci_stream *s, struct err *e)
{
	s->zstd = libzstd_get(e);
	if (!s->zstd)
		return -ENOENT;
	s->zds = s->zstd->ZSTD_createDStream();
	if (!s->zds)
		return err_oom(e);
	s->zstd->ZSTD_DCtx_setParameter(s->zds, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG);
	s->in_member = true;
	return 0;
}

static int sniff(struct oci_stream *s, struct err *e)
{
	int r = fill(s, e);

	s->sniffed = true;
	if (r <= 0)
		return r;
	r = oci_sniff(s->what, s->in, s->in_len, &s->kind, e);
	if (r < 0)
		return r;
	if (s->kind == OCI_GZIP)
		return start_gzip(s, e);
	return s->kind == OCI_ZSTD ? start_zstd(s, e) : 0;
}

static int truncated(struct oci_stream *s, struct err *e)
{
	return err_set(e, -EBADMSG, "%s is cut off", s->what);
}

static int corrupt(struct oci_stream *s, const char *why, struct err *e)
{
	return err_set(e, -EBADMSG, "%s is corrupt: %s", s->what, why);
}

static const char *inflate_error(int r)
{
	switch (r) {
	case ISAL_INVALID_WRAPPER:
	case ISAL_UNSUPPORTED_METHOD:
		return "bad gzip header";
	case ISAL_INCORRECT_CHECKSUM:
		return "gzip checksum mismatch";
	default:
		return "bad deflate data";
	}
}

/* After a member: another one, padding with zeros (as gzip itself allows), or the end. 1 another, 0 end. */
static int next_member(struct oci_stream *s, struct err *e)
{
	for (;;) {
		int r = fill(s, e);
		if (r <= 0)
			return r;
		if (s->in[s->in_pos] != 0)
			break;
		s->in_pos++;
	}
	s->isal->isal_inflate_reset(s->inflate);
	s->inflate->crc_flag = ISAL_GZIP;
	s->in_member = true;
	return 1;
}

static ssize_t read_gzip(struct oci_stream *s, struct err *e)
{
	struct inflate_state *st = s->inflate;

	st->next_out = s->out;
	st->avail_out = OCI_STREAM_BLOCK;
	while (st->avail_out > 0) {
		if (!s->in_member) {
			int r = next_member(s, e);
			if (r < 0)
				return r;
			if (r == 0)
				break;
		}
		int r = fill(s, e);
		if (r < 0)
			return r;
		size_t n = s->in_len - s->in_pos;
		uint32_t out_before = st->avail_out;
		st->next_in = s->in + s->in_pos;
		st->avail_in = (uint32_t)n;
		int z = s->isal->isal_inflate(st);
		if (z != ISAL_DECOMP_OK && z != ISAL_END_INPUT)
			return corrupt(s, inflate_error(z), e);
		s->in_pos = s->in_len - st->avail_in;
		if (st->block_state == ISAL_BLOCK_FINISH)
			s->in_member = false;
		else if (r == 0 && st->avail_out == out_before)
			return truncated(s, e);
	}
	return OCI_STREAM_BLOCK - st->avail_out;
}

static ssize_t read_zstd(struct oci_stream *s, struct err *e)
{
	ZSTD_outBuffer out = {s->out, OCI_STREAM_BLOCK, 0};

	while (out.pos < out.size) {
		int r = fill(s, e);
		if (r < 0)
			return r;
		if (r == 0 && !s->in_member)
			break;
		ZSTD_inBuffer in = {s->in, s->in_len, s->in_pos};
		size_t out_before = out.pos;
		size_t z = s->zstd->ZSTD_decompressStream(s->zds, &out, &in);
		if (s->zstd->ZSTD_isError(z))
			return corrupt(s, s->zstd->ZSTD_getErrorName(z), e);
		s->in_pos = in.pos;
		s->in_member = z != 0;
		if (r == 0 && s->in_member && out.pos == out_before)
			return truncated(s, e);
	}
	return (ssize_t)out.pos;
}

static ssize_t read_plain(struct oci_stream *s, struct err *e)
{
	/* What was read ahead to look at it, then straight from the source. */
	if (s->in_pos < s->in_len) {
		size_t n = s->in_len - s->in_pos;
		memcpy(s->out, s->in + s->in_pos, n);
		s->in_pos = s->in_len;
		return (ssize_t)n;
	}
	ssize_t n = s->src_eof ? 0 : s->src.read(s->src.data, s->out, OCI_STREAM_BLOCK, e);
	if (n < 0) {
		err_wrap(e, "%s", s->what);
		return n;
	}
	s->src_eof = n == 0;
	s->bytes_in += (uint64_t)n;
	return n;
}

/* The next block into s->out. */
static ssize_t produce(struct oci_stream *s, struct err *e)
{
	if (!s->sniffed) {
		int r = sniff(s, e);
		if (r < 0)
			return r;
	}
	if (s->kind == OCI_GZIP)
		return read_gzip(s, e);
	return s->kind == OCI_ZSTD ? read_zstd(s, e) : read_plain(s, e);
}

/* ---- running ahead ---- */

static void *run_ahead(void *data)
{
	struct oci_stream *s = data;
	struct ahead *a = s->ahead;
	ssize_t n = 1;

	while (n > 0) {
		pthread_mutex_lock(&a->mutex);
		/* One block stays with the reader. */
		while (!a->stop && a->filled - a->taken == OCI_STREAM_AHEAD)
			pthread_cond_wait(&a->moved, &a->mutex);
		bool stop = a->stop;
		size_t k = a->filled % ARRAY_LEN(a->blocks);
		pthread_mutex_unlock(&a->mutex);
		if (stop)
			break;
		struct err e = {0};
		s->out = a->blocks[k];
		n = produce(s, &e);
		pthread_mutex_lock(&a->mutex);
		a->len[k] = n;
		if (n < 0)
			a->err = e;
		a->filled++;
		pthread_cond_broadcast(&a->moved);
		pthread_mutex_unlock(&a->mutex);
	}
	return NULL;
}

static ssize_t take_ahead(struct ahead *a, const uint8_t **ret, struct err *e)
{
	pthread_mutex_lock(&a->mutex);
	while (a->filled == a->taken)
		pthread_cond_wait(&a->moved, &a->mutex);
	size_t k = a->taken % ARRAY_LEN(a->blocks);
	ssize_t n = a->len[k];
	if (n < 0 && e)
		*e = a->err;
	/* What comes after the last block is that block again. */
	if (n > 0)
		a->taken++;
	pthread_cond_broadcast(&a->moved);
	pthread_mutex_unlock(&a->mutex);
	*ret = a->blocks[k];
	return n;
}

int oci_stream_ahead(struct oci_stream *s, struct err *e)
{
	struct ahead *a = calloc(1, sizeof(*a));
	int r = 0;

	if (!a)
		return err_oom(e);
	pthread_mutex_init(&a->mutex, NULL);
	pthread_cond_init(&a->moved, NULL);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(a->blocks); i++) {
		a->blocks[i] = malloc(OCI_STREAM_BLOCK);
		if (!a->blocks[i])
			r = err_oom(e);
	}
	s->ahead = a;
	if (r == 0) {
		r = -pthread_create(&a->thread, NULL, run_ahead, s);
		if (r < 0)
			err_sys(e, r, "cannot start a thread");
	}
	if (r < 0) {
		ahead_free(a);
		s->ahead = NULL;
	}
	return r;
}

ssize_t oci_stream_read(struct oci_stream *s, const void **ret, struct err *e)
{
	const uint8_t *block = s->own;

	if (s->done)
		return 0;
	ssize_t n = s->ahead ? take_ahead(s->ahead, &block, e) : produce(s, e);
	if (n < 0)
		return n;
	s->done = n == 0;
	s->bytes_out += (uint64_t)n;
	if (s->bytes_out > s->max)
		return err_set(e, -EFBIG, "%s is larger than the %llu MiB allowed", s->what,
			(unsigned long long)(s->max >> 20));
	if (s->hash)
		oci_hash_update(s->hash, block, (size_t)n);
	*ret = block;
	return n;
}

int oci_stream_drain(struct oci_stream *s, struct err *e)
{
	const void *block;
	ssize_t n;

	do
		n = oci_stream_read(s, &block, e);
	while (n > 0);
	return (int)n;
}

void oci_stream_digest(struct oci_stream *s, char ret[OCI_DIGEST_MAX])
{
	oci_hash_final(s->hash, ret);
}

uint64_t oci_stream_bytes_in(const struct oci_stream *s)
{
	return s->bytes_in;
}

uint64_t oci_stream_bytes_out(const struct oci_stream *s)
{
	return s->bytes_out;
}

enum oci_compression oci_stream_compression(const struct oci_stream *s)
{
	return s->kind;
}
