/* SPDX-License-Identifier: MIT */
#include "fetch.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "base/io.h"
#include "base/log.h"
#include "erofs.h"
#include "progress.h"

#define BLOCK (256u << 10) /* bytes read and written at a time */
#define WRITEBACK_STEP \
	(8u << 20)	 /* bytes after which writing to the disk is begun, so that the last sync is short */
#define LOCK_WAIT_MS 100 /* between two looks at a lock that somebody else holds */
#define COPIES_MAX   4	 /* of one blob on its way, because others are stuck */
#define NAME_SIZE    (OCI_DIGEST_MAX + 4)

enum job_state { JOB_QUEUED, JOB_RUNNING, JOB_DONE, JOB_FAILED };

struct job {
	const struct oci_desc *desc;
	enum job_state state;
	int fd;		/* the partial file, or the blob; only while it is running */
	uint64_t have;	/* bytes from the beginning that are there */
	bool repeated;	/* began again from nothing */
	struct err err; /* why it failed */
};

struct reader {
	struct oci_fetch *f;
	struct job *job;
	int fd; /* -1 before the first byte */
	uint64_t off;
	bool canceled;
};

struct worker {
	struct oci_fetch *f;
	pthread_t thread;
	struct oci_conn *conn;
	uint8_t *buf;
};

struct oci_fetch {
	struct oci_store *s;
	const struct oci_progress *progress;
	struct job *jobs;
	size_t *job_of; /* for each descriptor */
	size_t n_jobs, next;
	uint64_t missing;
	struct worker workers[OCI_FETCH_THREADS];
	size_t n_workers;
	struct reader reader;
	/* Guards states, have, fd, next and stop; moved whenever one of them changes. */
	pthread_mutex_t mutex;
	pthread_cond_t moved;
	bool stop;		  /* by the caller, or after a failure */
	const struct job *failed; /* the first to fail */
};

/* One attempt at a blob, by the thread that holds the lock of its partial file. */
struct attempt {
	struct worker *w;
	struct job *job;
	struct oci_hash *hash;
	char name[NAME_SIZE];
	uint64_t at;	 /* bytes that are there and hashed */
	uint64_t synced; /* of these, begun to be written to the disk */
	uint64_t kept;	 /* of these, from an earlier download */
	bool asked;	 /* the registry, since it began */
	unsigned copy;	 /* of the partial file, where the holders of those before it are stuck */
	uint64_t seen;	 /* bytes that the holder has, when it last had more */
	uint64_t seen_ns;
};

/* copy: 0, but where somebody who is stuck holds that. */
static void partial_name(const char *digest, unsigned copy, char ret[NAME_SIZE])
{
	int n = snprintf(ret, NAME_SIZE, "%s-%s", oci_digest_alg(digest), oci_digest_hex(digest));

	if (copy > 0)
		snprintf(ret + n, NAME_SIZE - (size_t)n, ".%u", copy);
}

static bool stopped(struct oci_fetch *f)
{
	pthread_mutex_lock(&f->mutex);
	bool stop = f->stop;
	pthread_mutex_unlock(&f->mutex);
	return stop;
}

static int canceled(struct err *e)
{
	return err_set(e, -ECANCELED, "the download was stopped");
}

static void set_have(struct oci_fetch *f, struct job *j, uint64_t have)
{
	pthread_mutex_lock(&f->mutex);
	j->have = have;
	pthread_cond_broadcast(&f->moved);
	pthread_mutex_unlock(&f->mutex);
}

static void set_fd(struct oci_fetch *f, struct job *j, int fd)
{
	pthread_mutex_lock(&f->mutex);
	j->fd = fd;
	pthread_mutex_unlock(&f->mutex);
}

/* ---- the partial file ---- */

/* Whether the descriptor's file is the one that the name leads to: not renamed or deleted since it was opened. */
static bool still_there(int dirfd, const char *name, int fd)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && fstatat(dirfd, name, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
	       a.st_ino == b.st_ino && a.st_dev == b.st_dev && S_ISREG(a.st_mode);
}

/* Opens and locks the partial file. 1, or 0 when somebody else holds it, or -errno. */
static int try_lock(struct attempt *a, int *ret_fd, struct err *e)
{
	struct oci_store *s = a->w->f->s;

	for (;;) {
		CLEANUP_CLOSE int fd = openat(
			s->partial_fd, a->name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
		if (fd < 0)
			return oci_write_error(-errno, e);
		if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
			if (errno == EINTR)
				continue;
			return errno == EWOULDBLOCK ? 0 : err_sys(e, -errno, "cannot lock a download");
		}
		if (still_there(s->partial_fd, a->name, fd)) {
			*ret_fd = TAKE_FD(fd);
			return 1;
		}
		/* Its holder finished between our opening and our locking. Whatever is no file is in the way. */
		struct stat st;
		if (fstat(fd, &st) == 0 && !S_ISREG(st.st_mode))
			return err_set(e, -EINVAL, "images/partial/%s is not a file", a->name);
	}
}

/* The blob, if it has come into the store. 1, 0, -errno. */
static int find_blob(struct oci_fetch *f, struct job *j, struct err *e)
{
	struct stat st;
	CLEANUP_CLOSE int fd = oci_store_blob_open(f->s, j->desc->digest, e);

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	if (fstat(fd, &st) < 0)
		return err_sys(e, -errno, "cannot look at %s", j->desc->digest);
	/* Of another length it is damaged, or not what is announced: as good as none, and the digest decides. */
	return (uint64_t)st.st_size == j->desc->size;
}

/*
 * Whether the holder of the partial file has written nothing for longer than a server may be silent. It hangs, or was stopped
 * with ^Z, and may never go on: the blob is downloaded once more, into a file of its own.
 */
static bool is_stuck(struct attempt *a)
{
	struct oci_store *s = a->w->f->s;
	uint64_t now = time_mono_ns();
	struct stat st = {0};

	if (fstatat(s->partial_fd, a->name, &st, AT_SYMLINK_NOFOLLOW) < 0 || a->seen_ns == 0 ||
		(uint64_t)st.st_size != a->seen) {
		a->seen = (uint64_t)st.st_size;
		a->seen_ns = now;
	}
	return now - a->seen_ns > s->stuck_ns;
}

/* Until a partial file is ours (1), or the blob has come by another way (0). */
static int lock_or_find(struct attempt *a, struct err *e)
{
	struct oci_fetch *f = a->w->f;
	CLEANUP_CLOSE int fd = -1;
	int r;

	while ((r = try_lock(a, &fd, e)) == 0) {
		static const struct timespec pause = {0, LOCK_WAIT_MS * 1000000l};
		if (stopped(f))
			return canceled(e);
		/* Another one than the holder that is waited for may have brought it. */
		r = find_blob(f, a->job, e);
		if (r != 0)
			return MIN_OF(r, 0);
		if (a->copy + 1 < COPIES_MAX && is_stuck(a)) {
			log_debug("image store: whoever downloads %s is stuck", a->name);
			partial_name(a->job->desc->digest, ++a->copy, a->name);
			a->seen_ns = 0;
			continue;
		}
		oci_tell(f->progress, a->job->desc->digest, "Waiting for another command", 0, 0);
		(void)nanosleep(&pause, NULL);
	}
	if (r < 0)
		return r;
	r = find_blob(f, a->job, e);
	if (r == 1) {
		(void)unlinkat(f->s->partial_fd, a->name, 0);
		return 0;
	}
	if (r < 0)
		return r;
	set_fd(f, a->job, TAKE_FD(fd));
	return 1;
}

static int begin_again(struct attempt *a, struct err *e)
{
	struct oci_fetch *f = a->w->f;

	oci_hash_free(a->hash);
	a->hash = NULL;
	pthread_mutex_lock(&f->mutex);
	a->job->repeated |= a->job->have > 0;
	a->job->have = 0;
	pthread_mutex_unlock(&f->mutex);
	a->at = a->synced = a->kept = 0;
	a->asked = false;
	if (ftruncate(a->job->fd, 0) < 0)
		return oci_write_error(-errno, e);
	return oci_hash_new(a->job->desc->digest, &a->hash, e);
}

/* Hashes what an earlier download left. It is not trusted: the digest decides at the end. */
static int take_up(struct attempt *a, struct err *e)
{
	struct oci_fetch *f = a->w->f;
	struct stat st;
	int r = oci_hash_new(a->job->desc->digest, &a->hash, e);

	if (r == 0 && fstat(a->job->fd, &st) < 0)
		r = err_sys(e, -errno, "cannot look at a partial download");
	if (r < 0)
		return r;
	if ((uint64_t)st.st_size > a->job->desc->size)
		return begin_again(a, e);
	while (a->at < (uint64_t)st.st_size) {
		size_t want = (size_t)MIN_OF((uint64_t)st.st_size - a->at, (uint64_t)BLOCK);
		ssize_t n =
			stopped(f) ? canceled(e) : io_pread_full(a->job->fd, a->w->buf, want, (off_t)a->at);
		if (n == -ECANCELED)
			return (int)n;
		if (n <= 0)
			return begin_again(a, e); /* unreadable: as good as none */
		oci_hash_update(a->hash, a->w->buf, (size_t)n);
		a->at += (uint64_t)n;
		set_have(f, a->job, a->at);
	}
	a->kept = a->at;
	return 0;
}

/* ---- the download ---- */

static int take_bytes(struct attempt *a, const uint8_t *p, size_t n, struct err *e)
{
	struct oci_fetch *f = a->w->f;
	const struct oci_desc *d = a->job->desc;

	if (n > d->size - a->at)
		return err_set(e, -EBADMSG, "%.19s is longer than the %llu bytes announced", d->digest,
			(unsigned long long)d->size);
	int r = io_pwrite_full(a->job->fd, p, n, (off_t)a->at);
	if (r < 0)
		return oci_write_error(r, e);
	oci_hash_update(a->hash, p, n);
	a->at += n;
	set_have(f, a->job, a->at);
	oci_tell(f->progress, d->digest, "Downloading", a->at, d->size);
	if (a->at - a->synced >= WRITEBACK_STEP) {
		(void)sync_file_range(
			a->job->fd, (off_t)a->synced, (off_t)(a->at - a->synced), SYNC_FILE_RANGE_WRITE);
		a->synced = a->at;
	}
	return 0;
}

static int download(struct attempt *a, struct err *e)
{
	struct oci_fetch *f = a->w->f;
	uint64_t from = a->at;
	size_t len = 0;
	ssize_t n;
	int r = oci_store_room(f->s, a->job->desc->size - a->at, e);

	if (r == 0)
		a->asked = true;
	if (r == 0)
		r = oci_conn_blob(a->w->conn, a->job->desc->digest, a->at, &from, e);
	if (r == 0 && from != a->at)
		r = from == 0 ? begin_again(a, e)
			      : err_set(e, -EPROTO,
					"%.19s: the registry sends another part of it than was asked for",
					a->job->desc->digest);
	if (r < 0)
		return r;
	/* The client hands out what has arrived, often little. */
	while ((n = oci_conn_read(a->w->conn, a->w->buf + len, BLOCK - len, e)) > 0) {
		len += (size_t)n;
		if (len < BLOCK && a->at + len < a->job->desc->size)
			continue;
		r = take_bytes(a, a->w->buf, len, e);
		len = 0;
		if (r < 0)
			return r;
	}
	struct err ignored = {0};
	if (len > 0)
		r = take_bytes(a, a->w->buf, len, n < 0 ? &ignored : e);
	return n < 0 ? (int)n : r;
}

/* 0 when the content is what was asked for, -EBADMSG when not. The hash is used up. */
static int check(struct attempt *a, struct err *e)
{
	const struct oci_desc *d = a->job->desc;
	char digest[OCI_DIGEST_MAX];

	if (a->at != d->size)
		return err_set(e, -EBADMSG, "%.19s ends after %llu of %llu bytes", d->digest,
			(unsigned long long)a->at, (unsigned long long)d->size);
	oci_hash_final(a->hash, digest);
	return strcmp(digest, d->digest) == 0 ? 0 : err_set(e, -EBADMSG, "%.19s arrived damaged", d->digest);
}

static int place(struct attempt *a, struct err *e)
{
	struct oci_store *s = a->w->f->s;
	const char *digest = a->job->desc->digest;

	if (fsync(a->job->fd) < 0)
		return oci_write_error(-errno, e);
	if (renameat(s->partial_fd, a->name, oci_store_blob_dir(s, digest), oci_digest_hex(digest)) < 0)
		return oci_write_error(-errno, e);
	/* Not before: a partial file stays writable, whenever its writer is killed. */
	return fchmod(a->job->fd, 0400) < 0 ? oci_write_error(-errno, e) : 0;
}

/* With the partial file locked. */
static int fill(struct attempt *a, struct err *e)
{
	int r = take_up(a, e);

	for (;;) {
		if (r == 0 && a->at < a->job->desc->size)
			r = download(a, e);
		if (r == 0)
			r = check(a, e);
		if (r == 0)
			return place(a, e);
		if (r != -EBADMSG)
			return r;
		/*
		 * What was left may have been damaged by whatever ended its download, and what came now by a mirror:
		 * once more, all of it. Each mirror is asked for that once.
		 */
		if (a->kept == 0 && !(a->asked && oci_conn_distrust(a->w->conn))) {
			(void)unlinkat(a->w->f->s->partial_fd, a->name, 0);
			return r;
		}
		log_debug("image store: %.19s is fetched again from its beginning", a->job->desc->digest);
		r = begin_again(a, e);
	}
}

static int run_job(struct worker *w, struct job *j, struct err *e)
{
	struct attempt a = {.w = w, .job = j};

	partial_name(j->desc->digest, 0, a.name);
	int r = lock_or_find(&a, e);
	if (r == 0) {
		oci_tell(w->f->progress, j->desc->digest, "Already exists", j->desc->size, j->desc->size);
		return 0;
	}
	if (r < 0)
		return r;
	r = fill(&a, e);
	/* The reader may have a descriptor of it too; the lock has done its work. work() closes ours. */
	(void)flock(j->fd, LOCK_UN);
	oci_hash_free(a.hash);
	if (r == 0)
		oci_tell(w->f->progress, j->desc->digest, "Download complete", j->desc->size, j->desc->size);
	return r;
}

/* ---- threads ---- */

static void cancel_all(struct oci_fetch *f)
{
	for (size_t i = 0; i < f->n_workers; i++)
		oci_conn_cancel(f->workers[i].conn);
}

static void *work(void *data)
{
	struct worker *w = data;
	struct oci_fetch *f = w->f;

	pthread_mutex_lock(&f->mutex);
	while (!f->stop) {
		while (f->next < f->n_jobs && f->jobs[f->next].state != JOB_QUEUED)
			f->next++;
		if (f->next == f->n_jobs)
			break;
		struct job *j = &f->jobs[f->next++];
		j->state = JOB_RUNNING;
		pthread_mutex_unlock(&f->mutex);
		struct err e = {0};
		int r = run_job(w, j, &e);
		pthread_mutex_lock(&f->mutex);
		/* At once, so that no reader finds neither file nor verdict. */
		close_fd(&j->fd);
		j->err = e;
		j->state = r < 0 ? JOB_FAILED : JOB_DONE;
		if (r < 0 && !f->stop) {
			f->failed = j;
			f->stop = true;
			cancel_all(f);
		}
		pthread_cond_broadcast(&f->moved);
	}
	pthread_mutex_unlock(&f->mutex);
	return NULL;
}

static int start_worker(struct oci_fetch *f, struct oci_registry *r, struct err *e)
{
	struct worker *w = &f->workers[f->n_workers];

	w->f = f;
	w->buf = malloc(BLOCK);
	int rc = w->buf ? oci_conn_new(r, &w->conn, e) : err_oom(e);
	return rc;
}

/* All connections exist before the first thread runs, which may have to cancel the others. */
static int start(struct oci_fetch *f, struct oci_registry *r, size_t n, struct err *e)
{
	int rc = 0;

	for (size_t want = MIN_OF(n, (size_t)OCI_FETCH_THREADS); rc == 0 && f->n_workers < want;
		f->n_workers++) {
		rc = start_worker(f, r, e);
		if (rc < 0) {
			free(f->workers[f->n_workers].buf);
			return rc;
		}
	}
	for (size_t i = 0; i < f->n_workers; i++) {
		rc = pthread_create(&f->workers[i].thread, NULL, work, &f->workers[i]);
		if (rc == 0)
			continue;
		pthread_mutex_lock(&f->mutex);
		f->stop = true;
		cancel_all(f);
		pthread_mutex_unlock(&f->mutex);
		for (size_t k = 0; k < i; k++)
			pthread_join(f->workers[k].thread, NULL);
		for (size_t k = 0; k < f->n_workers; k++) {
			oci_conn_free(f->workers[k].conn);
			free(f->workers[k].buf);
		}
		f->n_workers = 0;
		return err_sys(e, -rc, "cannot start a thread");
	}
	return 0;
}

struct named {
	const char *digest;
	size_t index;
};

static int by_digest(const void *a, const void *b)
{
	const struct named *x = a, *y = b;
	int r = strcmp(x->digest, y->digest);

	return r ? r : x->index < y->index ? -1 : 1;
}

/* For each descriptor the first one with its digest, in job_of. */
static int find_duplicates(struct oci_fetch *f, const struct oci_desc *const *descs, size_t n, struct err *e)
{
	CLEANUP_FREE struct named *sorted = calloc(n ? n : 1, sizeof(*sorted));

	if (!sorted)
		return err_oom(e);
	for (size_t i = 0; i < n; i++)
		sorted[i] = (struct named){descs[i]->digest, i};
	qsort(sorted, n, sizeof(*sorted), by_digest);
	for (size_t i = 0, first = 0; i < n; i++) {
		if (strcmp(sorted[i].digest, sorted[first].digest) != 0)
			first = i;
		f->job_of[sorted[i].index] = sorted[first].index;
		if (descs[sorted[i].index]->size != descs[sorted[first].index]->size)
			return err_set(e, -EBADMSG, "%.19s is announced with two sizes", sorted[i].digest);
	}
	return 0;
}

/* Bytes of it that an earlier download left, and that need no room any more. */
static uint64_t partial_size(struct oci_store *s, const struct oci_desc *d)
{
	char name[NAME_SIZE];
	struct stat st;

	partial_name(d->digest, 0, name);
	if (fstatat(s->partial_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		return 0;
	return MIN_OF((uint64_t)st.st_size, d->size);
}

static int add_job(struct oci_fetch *f, const struct oci_desc *d, size_t *ret_queued, struct err *e)
{
	struct job *j = &f->jobs[f->n_jobs++];

	*j = (struct job){.desc = d, .fd = -1};
	int r = find_blob(f, j, e);
	if (r < 0)
		return r;
	if (r == 1) {
		j->state = JOB_DONE;
		oci_tell(f->progress, d->digest, "Already exists", d->size, d->size);
		return 0;
	}
	++*ret_queued;
	if (__builtin_add_overflow(f->missing, d->size - partial_size(f->s, d), &f->missing))
		return err_set(e, -EFBIG, "the image is too large");
	oci_tell(f->progress, d->digest, "Pulling fs layer", 0, d->size);
	return 0;
}

static int add_jobs(
	struct oci_fetch *f, const struct oci_desc *const *descs, size_t n, size_t *ret_queued, struct err *e)
{
	int r = find_duplicates(f, descs, n, e);

	for (size_t i = 0; r == 0 && i < n; i++) {
		bool first = f->job_of[i] == i;
		f->job_of[i] = first ? f->n_jobs : f->job_of[f->job_of[i]];
		if (first)
			r = add_job(f, descs[i], ret_queued, e);
	}
	return r;
}

int oci_fetch_new(struct oci_store *s, struct oci_registry *r, const struct oci_desc *const *descs, size_t n,
	const struct oci_progress *p, struct oci_fetch **ret, struct err *e)
{
	CLEANUP(oci_fetch_freep) struct oci_fetch *f = calloc(1, sizeof(*f));
	size_t queued = 0;

	if (!f)
		return err_oom(e);
	pthread_mutex_init(&f->mutex, NULL);
	pthread_cond_init(&f->moved, NULL);
	f->reader.fd = -1;
	f->s = s;
	f->progress = p;
	f->jobs = calloc(n ? n : 1, sizeof(*f->jobs));
	f->job_of = calloc(n ? n : 1, sizeof(*f->job_of));
	int rc = f->jobs && f->job_of ? add_jobs(f, descs, n, &queued, e) : err_oom(e);
	if (rc == 0)
		rc = oci_store_room(s, f->missing, e);
	if (rc == 0 && queued)
		rc = start(f, r, queued, e);
	if (rc < 0)
		return rc;
	*ret = TAKE_PTR(f);
	return 0;
}

void oci_fetch_free(struct oci_fetch *f)
{
	if (!f)
		return;
	pthread_mutex_lock(&f->mutex);
	f->stop = true;
	cancel_all(f);
	pthread_mutex_unlock(&f->mutex);
	for (size_t i = 0; i < f->n_workers; i++) {
		if (f->workers[i].thread)
			pthread_join(f->workers[i].thread, NULL);
		oci_conn_free(f->workers[i].conn);
		free(f->workers[i].buf);
	}
	close_fd(&f->reader.fd);
	free(f->jobs);
	free(f->job_of);
	pthread_cond_destroy(&f->moved);
	pthread_mutex_destroy(&f->mutex);
	free(f);
}

/* ---- for the builder ---- */

/* Why a job will not be done, with the mutex held: its own failure, or that of another that ended all. */
static int failure(struct oci_fetch *f, const struct job *j, struct err *e)
{
	const struct job *from = f->failed ? f->failed : j;

	if (!from->err.code)
		return canceled(e);
	if (e)
		*e = from->err;
	return from->err.code;
}

/* Waits, with the mutex held, until the job has more than `off` bytes or is over. 0, or why it is not coming. */
static int await(struct oci_fetch *f, const struct job *j, uint64_t off, const bool *cancel, struct err *e)
{
	while (j->state != JOB_DONE && j->have <= off) {
		if (j->state == JOB_FAILED || f->stop)
			return failure(f, j, e);
		if (cancel && *cancel)
			return canceled(e);
		pthread_cond_wait(&f->moved, &f->mutex);
	}
	return 0;
}

/* A descriptor of our own of the file that is being filled, or of the blob. With the mutex held. */
static int open_reader(struct reader *rd, struct err *e)
{
	if (rd->fd >= 0)
		return 0;
	if (rd->job->fd >= 0) {
		rd->fd = fcntl(rd->job->fd, F_DUPFD_CLOEXEC, 3);
		return rd->fd < 0 ? err_sys(e, -errno, "cannot read what was downloaded") : 0;
	}
	rd->fd = oci_store_blob_open(rd->f->s, rd->job->desc->digest, e);
	if (rd->fd == -ENOENT)
		err_set(e, -ENOENT, "%.19s is missing from the image store", rd->job->desc->digest);
	return MIN_OF(rd->fd, 0);
}

static ssize_t read_arrived(void *data, void *buf, size_t n, struct err *e)
{
	struct reader *rd = data;
	struct job *j = rd->job;

	while (rd->off < j->desc->size) {
		pthread_mutex_lock(&rd->f->mutex);
		int r = await(rd->f, j, rd->off, &rd->canceled, e);
		if (r == 0)
			r = open_reader(rd, e);
		bool done = j->state == JOB_DONE;
		uint64_t have = done ? j->desc->size : j->have;
		pthread_mutex_unlock(&rd->f->mutex);
		if (r < 0)
			return r;
		size_t want = (size_t)MIN_OF((uint64_t)n, have - rd->off);
		ssize_t k = io_pread_full(rd->fd, buf, want, (off_t)rd->off);
		if (k < 0)
			return err_sys(e, (int)k, "cannot read what was downloaded");
		/* Nothing: if it is not done, it was cut to begin again, between our looking and our reading. */
		if (k == 0 && done)
			return err_set(e, -EIO, "%.19s was cut off on the disk", j->desc->digest);
		rd->off += (uint64_t)k;
		if (k > 0)
			return k;
	}
	return 0;
}

static void cancel_reading(void *data)
{
	struct reader *rd = data;

	pthread_mutex_lock(&rd->f->mutex);
	rd->canceled = true;
	pthread_cond_broadcast(&rd->f->moved);
	pthread_mutex_unlock(&rd->f->mutex);
}

void oci_fetch_read(struct oci_fetch *f, size_t i, struct oci_source *ret)
{
	close_fd(&f->reader.fd);
	f->reader = (struct reader){.f = f, .job = &f->jobs[f->job_of[i]], .fd = -1};
	*ret = (struct oci_source){read_arrived, &f->reader, cancel_reading};
}

int oci_fetch_wait(struct oci_fetch *f, size_t i, struct err *e)
{
	struct job *j = &f->jobs[f->job_of[i]];

	pthread_mutex_lock(&f->mutex);
	int r = await(f, j, UINT64_MAX, NULL, e);
	pthread_mutex_unlock(&f->mutex);
	return r;
}

uint64_t oci_fetch_missing(const struct oci_fetch *f)
{
	return f->missing;
}

bool oci_fetch_repeated(struct oci_fetch *f, size_t i)
{
	pthread_mutex_lock(&f->mutex);
	bool repeated = f->jobs[f->job_of[i]].repeated;
	pthread_mutex_unlock(&f->mutex);
	return repeated;
}

/* ---- what is left over ---- */

void oci_partial_keep(struct oci_store *s, const char *digest)
{
	static const char named[] = "SELECT 1 FROM image_blobs WHERE digest = ?1 UNION ALL"
				    " SELECT 1 FROM image_index_blobs WHERE digest = ?1 LIMIT 1";
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	struct err ignored = {0};
	char name[NAME_SIZE];

	if (state_prepare(s->st, &st, &ignored, named, "s", digest) < 0 ||
		state_step(s->st, st, &ignored) != 0)
		return;
	partial_name(digest, 0, name);
	int dir = oci_store_blob_dir(s, digest);
	/* A download writes to it, if only to find that nothing is missing. */
	if (fchmodat(dir, oci_digest_hex(digest), 0600, 0) == 0)
		(void)renameat(dir, oci_digest_hex(digest), s->partial_fd, name);
}

void oci_partial_drop(struct oci_store *s, const char *digest)
{
	char name[NAME_SIZE];

	for (unsigned copy = 0; copy < COPIES_MAX; copy++) {
		partial_name(digest, copy, name);
		(void)unlinkat(s->partial_fd, name, 0);
	}
}

static void clean_one(struct oci_store *s, const char *name, int64_t before_ns)
{
	struct stat st;

	if (fstatat(s->partial_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		(int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec > before_ns)
		return;
	CLEANUP_CLOSE int fd = -1;
	if (S_ISREG(st.st_mode)) {
		fd = openat(s->partial_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 || !still_there(s->partial_fd, name, fd))
			return;
	}
	log_debug("image store: deleting the unfinished download %s", name);
	(void)io_remove_tree_at(s->partial_fd, name);
}

void oci_partial_clean(struct oci_store *s, int64_t older_than_ns)
{
	int fd = openat(s->partial_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	int64_t before_ns = older_than_ns > 0 ? time_real_ns() - older_than_ns : INT64_MAX;

	if (!d) {
		close_fd(&fd);
		return;
	}
	for (struct dirent *de; (de = readdir(d));)
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			clean_one(s, de->d_name, before_ns);
	closedir(d);
}
