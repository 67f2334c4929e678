/* SPDX-License-Identifier: MIT */
#include "resolvconf.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/io.h"

enum { DNS_PORT = 53, TIMEOUT_MAX_S = 5, ATTEMPTS_MAX = 5, WORD_MAX = 256 };

/*
 * The index of an interface, 0: there is none. By means of a socket that is bound to it (socket(7)), as if_nametoindex needs
 * system calls that this process has given up.
 */
static unsigned interface_index(const char *name)
{
	CLEANUP_CLOSE int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int index = 0;
	socklen_t len = sizeof(index);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, (socklen_t)strlen(name) + 1) < 0 ||
		getsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &index, &len) < 0 || index < 0)
		return 0;
	return (unsigned)index;
}

int resolver_parse(const char *text, struct resolver *ret)
{
	char copy[NET_ADDR_TEXT_MAX];
	const char *scope = strchr(text, '%');
	size_t n = scope ? (size_t)(scope - text) : strlen(text);
	struct net_addr a;

	if (n >= sizeof(copy))
		return -EINVAL;
	memcpy(copy, text, n);
	copy[n] = 0;
	if (net_addr_parse(copy, &a) < 0)
		return -EINVAL;
	ret->len = net_addr_sockaddr(&a, DNS_PORT, &ret->addr);
	if (!scope)
		return 0;
	if (net_addr_is4(&a))
		return -EINVAL;
	unsigned index = interface_index(scope + 1);
	if (!index) {
		char *end;
		unsigned long v = strtoul(scope + 1, &end, 10);
		if (scope[1] < '0' || scope[1] > '9' || *end || v == 0 || v > INT32_MAX)
			return -EINVAL;
		index = (unsigned)v;
	}
	((struct sockaddr_in6 *)&ret->addr)->sin6_scope_id = index;
	return 0;
}

/* The number behind "name:", at most max; 0 when word is another option. */
static unsigned option(const char *word, const char *name, unsigned max)
{
	size_t n = strlen(name);

	if (strncmp(word, name, n) != 0 || word[n] < '0' || word[n] > '9')
		return 0;
	unsigned long v = strtoul(word + n, NULL, 10);
	return v > max ? max : (unsigned)v;
}

static void parse_line(char *line, struct resolvers *ret)
{
	char *rest = NULL, *word = strtok_r(line, " \t\r\v\f", &rest);

	if (!word)
		return;
	if (strcmp(word, "nameserver") == 0) {
		word = strtok_r(NULL, " \t\r\v\f", &rest);
		if (word && ret->n < NETD_UPSTREAMS_MAX && resolver_parse(word, &ret->v[ret->n]) == 0)
			ret->n++;
	} else if (strcmp(word, "options") == 0) {
		while ((word = strtok_r(NULL, " \t\r\v\f", &rest))) {
			unsigned timeout = option(word, "timeout:", TIMEOUT_MAX_S);
			unsigned attempts = option(word, "attempts:", ATTEMPTS_MAX);
			ret->timeout_s = timeout ? timeout : ret->timeout_s;
			ret->attempts = attempts ? attempts : ret->attempts;
			ret->rotate |= strcmp(word, "rotate") == 0;
		}
	}
}

void resolvers_parse(const char *text, size_t len, struct resolvers *ret)
{
	*ret = (struct resolvers){0};
	while (len) {
		const char *nl = memchr(text, '\n', len);
		size_t n = nl ? (size_t)(nl - text) : len;
		char line[WORD_MAX];

		if (n < sizeof(line) && !memchr(text, 0, n)) {
			memcpy(line, text, n);
			line[n] = 0;
			parse_line(line, ret);
		}
		n += nl != NULL;
		text += n;
		len -= n;
	}
}

const struct resolvers *resolvconf_get(struct resolvconf *r)
{
	uint64_t now = time_mono_ns();
	struct stat st;

	if (r->looked_ns && now - r->looked_ns < RESOLVCONF_LOOK_NS)
		return &r->resolvers;
	r->looked_ns = now;
	if (stat(r->path, &st) < 0)
		return &r->resolvers;
	__typeof__(r->seen) is;
	memset(&is, 0, sizeof(is));
	is.dev = st.st_dev;
	is.ino = st.st_ino;
	is.size = (uint64_t)st.st_size;
	is.mtime = st.st_mtim;
	is.ctime = st.st_ctim;
	if (memcmp(&is, &r->seen, sizeof(is)) == 0)
		return &r->resolvers;
	CLEANUP_FREE char *text = NULL;
	size_t len;
	/* Of a file that changes while it is read, the next look sees a later time. */
	if (io_read_file_at(AT_FDCWD, r->path, RESOLVCONF_MAX, &text, &len) < 0)
		return &r->resolvers;
	resolvers_parse(text, len, &r->resolvers);
	r->seen = is;
	return &r->resolvers;
}
