/* SPDX-License-Identifier: MIT */
/* What commands that speak with registries have in common. */
#ifndef CLI_REMOTE_H
#define CLI_REMOTE_H

#include "app.h"
#include "oci/transfer.h"

/* The options, as entries of a table; o's tls_verify is true without them. */
#define REMOTE_OPTS(o) \
	{0, "cert-dir", OPT_STR, &(o)->cert_dir, "FOLDER", \
		"certificates of the registry (*.crt) and ours (*.cert, *.key)"}, \
		{0, "plain-http", OPT_FLAG, &(o)->plain_http, NULL, \
			"allow HTTP for any host, not only loopback"}, \
	{ \
		0, "tls-verify", OPT_FLAG, &(o)->tls_verify, NULL, "check the registry's certificate [true]" \
	}

#endif
