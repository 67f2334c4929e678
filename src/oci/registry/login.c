/* SPDX-License-Identifier: MIT */
/* Logging in to registries, and out. */
#include <string.h>
#include <strings.h>

#include "base/io.h"
#include "oci/transfer.h"
#include "registry/conn.h"
#include "store.h"

#define DOCKER_HUB "docker.io"

int oci_registry_domain(const char *text, char **ret, struct err *e)
{
	static const char *const hub[] = {
		DOCKER_HUB, "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"};
	CLEANUP(oci_reference_done) struct oci_reference ref = {0};
	const char *host = text ? text : DOCKER_HUB;

	if (strncasecmp(host, "https://", 8) == 0 || strncasecmp(host, "http://", 7) == 0)
		host = strstr(host, "://") + 3;
	CLEANUP_FREE char *domain = strndup(host, strcspn(host, "/"));
	if (!domain)
		return err_oom(e);
	for (size_t i = 0; i < ARRAY_LEN(hub); i++) {
		if (strcasecmp(domain, hub[i]) != 0)
			continue;
		*ret = strdup(DOCKER_HUB);
		return *ret ? 0 : err_oom(e);
	}
	/*
	 * "host/x" alone is Docker Hub's "host/x": what stands alone must be a domain by its looks, or made
	 * one.
	 */
	CLEANUP_FREE char *name = str_printf("%s/x", domain);
	if (!name)
		return err_oom(e);
	if (oci_reference_parse(name, &ref, NULL) < 0 || strcasecmp(ref.domain, domain) != 0)
		return err_set(e, -EINVAL, "\"%.200s\" is no address of a registry", text ? text : "");
	*ret = TAKE_PTR(ref.domain);
	return 0;
}

static int open_registry(const char *domain, const struct oci_remote_opts *o, int home_fd,
	struct oci_registry **ret, struct err *e)
{
	CLEANUP(oci_reference_done) struct oci_reference ref = {0};
	CLEANUP_FREE char *name = str_printf("%s/login", domain);

	if (!name)
		return err_oom(e);
	int r = oci_reference_parse(name, &ref, e);
	/* Not through mirrors. */
	return r < 0 ? r : oci_registry_open(&ref, o, home_fd, OCI_ACCESS_PUSH, NULL, ret, e);
}

/* Whether the registry, or its token server, takes these credentials. */
static int check(struct oci_registry *r, const char *user, const char *password, struct err *e)
{
	CLEANUP(oci_conn_freep) struct oci_conn *c = NULL;

	int rc = oci_conn_new(r, &c, e);
	if (rc < 0)
		return rc;
	struct oci_place *p = oci_conn_origin(c);
	p->asked = true; /* not those that may be stored */
	p->credentials.user = strdup(user);
	p->credentials.password = strdup(password);
	if (!p->credentials.user || !p->credentials.password)
		return err_oom(e);
	struct oci_place_request rq = {.path = "", .base = true, .scope = OCI_SCOPE_LOGIN, .small = true};
	rc = oci_place_send(c, p, &rq, e);
	if (rc < 0)
		return rc;
	long status = oci_http_response(c->http)->status;
	if (status == 200)
		return 0;
	if (status == 401 || status == 403)
		return err_set(e, -EACCES, "%s does not know this user, or the password is wrong", p->domain);
	if (status == 404)
		return err_set(e, -EPROTO, "%s is no registry", p->domain);
	return oci_place_refused(c, p, "a login", e);
}

int oci_login(struct oci_store *s, const char *domain, const char *user, const char *password,
	const struct oci_remote_opts *o, char **ret_where, struct err *e)
{
	CLEANUP(oci_registry_closep) struct oci_registry *r = NULL;
	CLEANUP_FREE char *name = NULL;

	if (!*user || !*password)
		return err_set(e, -EINVAL, "the user name and the password must not be empty");
	int rc = oci_registry_domain(domain, &name, e);
	if (rc == 0)
		rc = open_registry(name, o, s ? s->st->home_fd : -1, &r, e);
	if (rc == 0)
		rc = check(r, user, password, e);
	return rc < 0 ? rc : oci_credentials_store(name, user, password, ret_where, e);
}

int oci_logout(const char *domain, struct err *e)
{
	CLEANUP_FREE char *name = NULL;

	int r = oci_registry_domain(domain, &name, e);
	return r < 0 ? r : oci_credentials_erase(name, e);
}

int oci_login_user(const char *domain, char **ret, struct err *e)
{
	CLEANUP(oci_credentials_done) struct oci_credentials c = {0};
	CLEANUP_FREE char *name = NULL;

	*ret = NULL;
	int r = oci_registry_domain(domain, &name, e);
	if (r == 0)
		r = oci_credentials_find(name, NULL, &c, e);
	if (r == 0)
		*ret = TAKE_PTR(c.user);
	return r;
}
