/* SPDX-License-Identifier: MIT */
/* One try of a request, as libcurl is told of it. */
#include <string.h>
#include <strings.h>

#include "base/io.h"
#include "registry/config.h"
#include "registry/http-internal.h"
#include "registry/proxy.h"

#define USER_AGENT	"a3s-box"
#define TRANSFER_BUFFER (256L << 10)

static int add_header(struct oci_http *h, const char *name, const char *value, struct err *e)
{
	if (!value)
		return 0;
	/* An empty value takes away a header that libcurl would send by itself. */
	CLEANUP_FREE char *line = *value ? str_printf("%s: %s", name, value) : str_printf("%s:", name);
	struct curl_slist *l = line ? h->lib->curl_slist_append(h->headers, line) : NULL;
	if (!l)
		return err_oom(e);
	h->headers = l;
	return 0;
}

static int set_headers(struct oci_http *h, struct err *e)
{
	bool sends = h->rq.method >= OCI_HTTP_POST && h->rq.method <= OCI_HTTP_PUT;

	if (h->headers)
		h->lib->curl_slist_free_all(h->headers);
	h->headers = NULL;
	int r = add_header(h, "Authorization", h->authorization, e);
	if (r == 0)
		r = add_header(h, "Accept", h->accept, e);
	if (r == 0 && sends)
		r = add_header(h, "Content-Type", h->send.type ? h->send.type : "", e);
	if (r == 0 && sends)
		r = add_header(h, "Content-Range", h->send.range, e);
	if (r == 0 && sends) /* it would cost a second where a server does not answer that */
		r = add_header(h, "Expect", "", e);
	if (r == 0)
		h->lib->curl_easy_setopt(h->easy, CURLOPT_HTTPHEADER, h->headers);
	return r;
}

/* The TLS settings for a host, read once. */
static int host_tls(struct oci_http *h, const char *authority, const struct oci_tls **ret, struct err *e)
{
	for (size_t i = 0; i < h->n_hosts; i++)
		if (strcmp(h->hosts[i].authority, authority) == 0) {
			*ret = &h->hosts[i];
			return 0;
		}
	if (h->n_hosts == OCI_HTTP_HOSTS_MAX)
		oci_tls_done(&h->hosts[--h->n_hosts]);
	bool show = h->cert_host && strcasecmp(h->cert_host, authority) == 0;
	int r = oci_tls_find(authority, h->cert_dir, show, &h->hosts[h->n_hosts], e);
	if (r == 0)
		*ret = &h->hosts[h->n_hosts++];
	return r;
}

static int set_tls(struct oci_http *h, struct err *e)
{
	bool verify = h->opts.tls_verify && !oci_registries_insecure(h->opts.registries, h->url.authority);
	const struct oci_tls *t = NULL;

	if (!h->url.tls)
		return 0;
	int r = host_tls(h, h->url.authority, &t, e);
	if (r < 0 || !t)
		return r;
	h->lib->curl_easy_setopt(h->easy, CURLOPT_SSL_VERIFYPEER, verify ? 1L : 0L);
	h->lib->curl_easy_setopt(h->easy, CURLOPT_SSL_VERIFYHOST, verify ? 2L : 0L);
	if (!verify) { /* then there is no need to read the system's CAs, which takes long */
		h->lib->curl_easy_setopt(h->easy, CURLOPT_CAINFO, NULL);
		h->lib->curl_easy_setopt(h->easy, CURLOPT_CAPATH, NULL);
	} else if (t->cas) {
		struct curl_blob blob = {t->cas, t->n_cas, CURL_BLOB_NOCOPY};
		h->lib->curl_easy_setopt(h->easy, CURLOPT_CAINFO_BLOB, &blob);
		h->lib->curl_easy_setopt(h->easy, CURLOPT_CAPATH, NULL);
	}
	if (t->cert) {
		h->lib->curl_easy_setopt(h->easy, CURLOPT_SSLCERT, t->cert);
		h->lib->curl_easy_setopt(h->easy, CURLOPT_SSLKEY, t->key);
		/* A key with a passphrase is refused, not asked about on a terminal. */
		h->lib->curl_easy_setopt(h->easy, CURLOPT_KEYPASSWD, "");
	}
	return 0;
}

static void set_method(struct oci_http *h)
{
	char range[32];
	static const char *const names[] = {"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE"};

	switch (h->rq.method) {
	case OCI_HTTP_GET:
		snprintf(range, sizeof(range), "%llu-", (unsigned long long)h->position);
		if (h->position)
			h->lib->curl_easy_setopt(h->easy, CURLOPT_RANGE, range);
		break;
	case OCI_HTTP_HEAD:
		h->lib->curl_easy_setopt(h->easy, CURLOPT_NOBODY, 1L);
		break;
	case OCI_HTTP_DELETE:
		h->lib->curl_easy_setopt(h->easy, CURLOPT_CUSTOMREQUEST, names[h->rq.method]);
		break;
	case OCI_HTTP_POST:
	case OCI_HTTP_PATCH:
	case OCI_HTTP_PUT:
		h->lib->curl_easy_setopt(h->easy, CURLOPT_UPLOAD, 1L);
		h->lib->curl_easy_setopt(h->easy, CURLOPT_CUSTOMREQUEST, names[h->rq.method]);
		h->lib->curl_easy_setopt(h->easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)h->send.len);
		h->lib->curl_easy_setopt(h->easy, CURLOPT_READFUNCTION, oci_http_on_send);
		h->lib->curl_easy_setopt(h->easy, CURLOPT_READDATA, h);
		h->lib->curl_easy_setopt(h->easy, CURLOPT_SEEKFUNCTION, oci_http_on_seek);
		h->lib->curl_easy_setopt(h->easy, CURLOPT_SEEKDATA, h);
		h->lib->curl_easy_setopt(h->easy, CURLOPT_UPLOAD_BUFFERSIZE, TRANSFER_BUFFER);
		break;
	}
}

static void set_common(struct oci_http *h)
{
	const struct libcurl *lib = h->lib;

	lib->curl_easy_reset(h->easy); /* connections stay: they are the multi handle's */
	h->curl_error[0] = '\0';
	lib->curl_easy_setopt(h->easy, CURLOPT_NOSIGNAL, 1L);
	lib->curl_easy_setopt(
		h->easy, CURLOPT_QUICK_EXIT, 1L); /* a name server that is silent holds up no cancel */
	lib->curl_easy_setopt(h->easy, CURLOPT_ERRORBUFFER, h->curl_error);
	lib->curl_easy_setopt(h->easy, CURLOPT_USERAGENT, USER_AGENT);
	lib->curl_easy_setopt(h->easy, CURLOPT_PROTOCOLS_STR, "http,https");
	lib->curl_easy_setopt(h->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	lib->curl_easy_setopt(h->easy, CURLOPT_FOLLOWLOCATION, 0L);
	lib->curl_easy_setopt(h->easy, CURLOPT_CONNECTTIMEOUT,
		h->rq.connect_s ? (long)h->rq.connect_s : (long)OCI_HTTP_CONNECT_S);
	lib->curl_easy_setopt(h->easy, CURLOPT_BUFFERSIZE, TRANSFER_BUFFER);
	lib->curl_easy_setopt(h->easy, CURLOPT_WRITEFUNCTION, oci_http_on_body);
	lib->curl_easy_setopt(h->easy, CURLOPT_WRITEDATA, h);
	lib->curl_easy_setopt(h->easy, CURLOPT_HEADERFUNCTION, oci_http_on_header);
	lib->curl_easy_setopt(h->easy, CURLOPT_HEADERDATA, h);
	lib->curl_easy_setopt(h->easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	lib->curl_easy_setopt(h->easy, CURLOPT_URL, h->url.text);
	/* What the environment says of proxies is read by us. */
	lib->curl_easy_setopt(h->easy, CURLOPT_PROXY, h->proxy ? h->proxy : "");
	lib->curl_easy_setopt(h->easy, CURLOPT_NOPROXY, "");
}

int oci_http_setup(struct oci_http *h, struct err *e)
{
	free(TAKE_PTR(h->proxy));
	int r = oci_proxy_find(&h->url, &h->proxy, e);
	if (r < 0)
		return r;
	set_common(h);
	set_method(h);
	r = set_tls(h, e);
	return r < 0 ? r : set_headers(h, e);
}
