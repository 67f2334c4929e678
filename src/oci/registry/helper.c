/* SPDX-License-Identifier: MIT */
#include "registry/helper.h"

#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/proc.h"
#include "manifest.h"

#define ANSWER_MAX (4 * OCI_CREDENTIAL_MAX) /* bytes of what a helper prints */
#define NAME_MAX_  64
#define TOKEN_USER "<token>" /* the user's name when the secret is an identity token */

bool oci_helper_name_valid(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

	return n > 0 && n <= NAME_MAX_ && !name[n] && *name != '.';
}

/* The input as a file: a helper that does not read it ends no pipe, and a script may open /dev/stdin. */
static int input_file(const char *text, struct err *e)
{
	CLEANUP_CLOSE int fd = memfd_create("helper", MFD_CLOEXEC);

	if (fd < 0)
		return err_sys(e, -errno, "cannot make a file in memory");
	int r = io_write_full(fd, text, strlen(text));
	if (r < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return err_sys(e, r < 0 ? r : -errno, "cannot write a file in memory");
	return TAKE_FD(fd);
}

/* Reads what is there. 1 more may come, 0 the end, -errno. */
static int take_output(int fd, struct buf *out)
{
	for (;;) {
		uint8_t *p = buf_reserve(out, 4096);
		if (!p)
			return -ENOMEM;
		ssize_t n = read(fd, p, 4096);
		if (n < 0)
			return errno == EAGAIN ? 1 : errno == EINTR ? 1 : -errno;
		if (n == 0)
			return 0;
		buf_commit(out, (size_t)n);
		if (out->len > ANSWER_MAX)
			return -EFBIG;
	}
}

/* Until the helper has ended, whoever else holds its output; -ETIMEDOUT. */
static int collect(int out_fd, int pidfd, struct buf *out)
{
	uint64_t end = time_mono_ns() + OCI_HELPER_S * 1000000000ull;
	struct pollfd p[2] = {{.fd = out_fd, .events = POLLIN}, {.fd = pidfd, .events = POLLIN}};

	for (;;) {
		uint64_t now = time_mono_ns();
		if (now >= end)
			return -ETIMEDOUT;
		if (poll(p, 2, (int)((end - now) / 1000000 + 1)) < 0 && errno != EINTR)
			return -errno;
		bool ended = p[1].revents;
		int r = p[0].fd >= 0 ? take_output(out_fd, out) : 1;
		if (r < 0)
			return r;
		if (r == 0)
			p[0].fd = -1;
		if (ended)
			return 0;
	}
}

/* Runs it. Returns its status (0 is success) or -errno; *ret: what it printed, malloc'd. */
static int run(const char *name, const char *verb, const char *input, char **ret, struct err *e)
{
	CLEANUP(buf_done) struct buf out = {0};
	CLEANUP_FREE char *program = str_printf("docker-credential-%s", name);
	CLEANUP_CLOSE int in = -1, from = -1, to = -1, pidfd = -1;
	int fds[2], status;

	if (!program)
		return err_oom(e);
	in = input_file(input, e);
	if (in < 0)
		return in;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "cannot make a pipe");
	from = fds[0];
	to = fds[1];
	io_set_nonblock(from, true);
	struct proc_fd map[] = {{in, 0}, {to, 1}};
	const char *argv[] = {program, verb, NULL};
	struct proc_opts o = {.path = program, .argv = argv, .fds = map, .n_fds = 2, .die_with_parent = true};
	pid_t pid = proc_spawn(&o, &pidfd);
	if (pid < 0)
		return err_sys(e, pid, "cannot run the credential helper %s", program);
	close_fd(&to);
	int r = collect(from, pidfd, &out);
	if (r < 0)
		kill(pid, SIGKILL);
	int w = proc_wait(pid, &status);
	if (r < 0)
		return err_sys(e, r, "the credential helper %s", program);
	if (w < 0)
		return err_sys(e, w, "cannot wait for %s", program);
	if (buf_append(&out, "", 1) < 0)
		return err_oom(e);
	*ret = (char *)TAKE_PTR(out.mem); /* nothing was consumed: it begins there */
	return proc_status_code(status);
}

static int failed(const char *name, const char *said, struct err *e)
{
	char text[256];

	text_escape(text, sizeof(text), said);
	text[strcspn(text, "\\")] = '\0'; /* its first line */
	return err_set(e, -EIO, "the credential helper docker-credential-%s failed%s%s", name,
		*text ? ": " : "", text);
}

static int take_answer(const char *name, const char *answer, struct oci_credentials *ret, struct err *e)
{
	CLEANUP(json_done) json_t *j = NULL;
	CLEANUP_FREE char *what = str_printf("the answer of docker-credential-%s", name);

	if (!what)
		return err_oom(e);
	int r = oci_json_parse(what, answer, strlen(answer), &j, e);
	if (r < 0)
		return r;
	const char *user = json_string_value(json_object_get(j, "Username"));
	const char *secret = json_string_value(json_object_get(j, "Secret"));
	if (!user || !secret)
		return err_set(e, -EBADMSG, "%s has no user or no secret", what);
	if (strcmp(user, TOKEN_USER) == 0)
		ret->identity_token = strdup(secret);
	else
		ret->user = strdup(user), ret->password = strdup(secret);
	return ret->identity_token || (ret->user && ret->password) ? 0 : err_oom(e);
}

int oci_helper_get(const char *name, const char *server, struct oci_credentials *ret, struct err *e)
{
	CLEANUP_FREE char *answer = NULL;

	int r = run(name, "get", server, &answer, e);
	if (r < 0)
		return r;
	if (r > 0 && strstr(answer, "credentials not found")) /* in the protocol's own words */
		return 0;
	return r > 0 ? failed(name, answer, e) : take_answer(name, answer, ret, e);
}

int oci_helper_store(
	const char *name, const char *server, const char *user, const char *password, struct err *e)
{
	CLEANUP(json_done)
	json_t *j = json_pack("{s:s, s:s, s:s}", "ServerURL", server, "Username", user, "Secret", password);
	CLEANUP_FREE char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	CLEANUP_FREE char *answer = NULL;

	if (!text)
		return err_set(e, -EINVAL, "the user name or the password is not valid UTF-8");
	int r = run(name, "store", text, &answer, e);
	return r > 0 ? failed(name, answer, e) : r;
}

int oci_helper_erase(const char *name, const char *server, struct err *e)
{
	CLEANUP_FREE char *answer = NULL;

	int r = run(name, "erase", server, &answer, e);
	return r > 0 && !strstr(answer, "credentials not found") ? failed(name, answer, e) : MIN_OF(r, 0);
}
