/* SPDX-License-Identifier: MIT */
#include "prompt.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <termios.h>

#include "base/io.h"

enum { LINE_MAX_BYTES = 4096, INPUT_MAX_BYTES = 65536 };

/* Those that end a command, and come to a person's mind. */
static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};
static volatile sig_atomic_t caught;

static void on_signal(int sig)
{
	caught = sig;
}

/*
 * One line without its end into line. Its length, or -errno; -EINTR: a signal was caught. Signals are blocked but while it
 * waits, with mask: none can come between a look at them and the wait.
 */
static ssize_t read_line(int fd, const sigset_t *mask, char *line, size_t size)
{
	size_t n = 0;

	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		char c;
		if (ppoll(&p, 1, NULL, mask) < 0)
			return -errno;
		ssize_t r = read(fd, &c, 1);
		if (r < 0)
			return -errno;
		if (r == 0 && n == 0)
			return -ECANCELED;
		if (r == 0 || c == '\n')
			break;
		if (n + 1 == size)
			return -E2BIG;
		line[n++] = c;
	}
	line[n] = '\0';
	return (ssize_t)n;
}

static ssize_t ask(int tty, const char *question, bool secret, char *line, size_t size)
{
	struct sigaction sa = {.sa_handler = on_signal}, saved[ARRAY_LEN(signals)];
	struct termios was, quiet;
	bool hidden = secret && tcgetattr(tty, &was) == 0;
	sigset_t blocked, mask;

	caught = 0;
	sigemptyset(&blocked);
	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		sigaddset(&blocked, signals[i]);
	sigprocmask(SIG_BLOCK, &blocked, &mask);
	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		sigaction(signals[i], &sa, &saved[i]);
	if (hidden) {
		quiet = was;
		quiet.c_lflag &= ~(tcflag_t)(ECHO | ECHONL);
		tcsetattr(tty, TCSAFLUSH, &quiet);
	}
	ssize_t n = io_write_full(tty, question, strlen(question));
	if (n == 0)
		n = read_line(tty, &mask, line, size);
	if (hidden) {
		tcsetattr(tty, TCSAFLUSH, &was);
		io_write_full(tty, "\n", 1);
	}
	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		sigaction(signals[i], &saved[i], NULL);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	return n;
}

int prompt_line(const char *question, bool secret, char **ret, struct err *e)
{
	char line[LINE_MAX_BYTES];
	CLEANUP_CLOSE int tty = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
	ssize_t n;

	if (tty < 0)
		return err_set(e, -ENOTTY, "there is no terminal to ask on");
	do {
		n = ask(tty, question, secret, line, sizeof(line));
		if (caught)
			raise(caught); /* ^Z and then fg: asked again */
	} while (n == -EINTR);
	if (n == -ECANCELED) {
		if (!secret)
			io_write_full(tty, "\n", 1);
		return err_set(e, -ECANCELED, "no answer was given");
	}
	if (n == -E2BIG)
		return err_set(e, -E2BIG, "the answer is longer than %d bytes", LINE_MAX_BYTES - 1);
	if (n < 0)
		return err_sys(e, (int)n, "cannot read the answer");
	*ret = strdup(line);
	explicit_bzero(line, sizeof(line));
	return *ret ? 0 : err_oom(e);
}

int prompt_stdin(char **ret, struct err *e)
{
	CLEANUP(prompt_freep) char *text = calloc(1, INPUT_MAX_BYTES + 1);

	if (!text)
		return err_oom(e);
	ssize_t n = io_read_full(STDIN_FILENO, text, INPUT_MAX_BYTES + 1);
	if (n < 0)
		return err_sys(e, (int)n, "cannot read standard input");
	if (n > INPUT_MAX_BYTES)
		return err_set(e, -E2BIG, "standard input is longer than %d bytes", INPUT_MAX_BYTES);
	if (memchr(text, '\0', (size_t)n))
		return err_set(e, -EINVAL, "standard input is no text");
	while (n && (text[n - 1] == '\n' || text[n - 1] == '\r'))
		text[--n] = '\0';
	*ret = TAKE_PTR(text);
	return 0;
}

void prompt_free(char *secret)
{
	if (secret)
		explicit_bzero(secret, strlen(secret));
	free(secret);
}
