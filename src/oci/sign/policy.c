/* SPDX-License-Identifier: MIT */
#include "sign/policy.h"

#include <fcntl.h>
#include <string.h>
#include <strings.h>

#include "base/io.h"
#include "digest.h"
#include "sign/key.h"
#include "sign/root.h"

#define WHAT	   "policy"
#define RULES_MAX  64	/* requirements of one list */
#define SCOPES_MAX 4096 /* scopes of the policy */

#define MEMBERS(name, ...) static const char *const name[] = {__VA_ARGS__, NULL}

/* What a rule points to. */
struct rule_own {
	struct sign_key *key;
	struct sign_root *root;
	char *issuer, *identity;
};

struct scope {
	char *name; /* NULL: the global default; "": that of the transport */
	struct sign_rule *rules;
	struct rule_own *own;
	size_t n;
};

struct sign_policy {
	struct scope *scopes;
	size_t n;
};
DEFINE_CLEANUP(struct sign_policy *, sign_policy_free)

void sign_policy_free(struct sign_policy *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->n; i++) {
		struct scope *s = &p->scopes[i];
		for (size_t k = 0; k < s->n; k++) {
			sign_key_free(s->own[k].key);
			sign_root_free(s->own[k].root);
			free(s->own[k].issuer);
			free(s->own[k].identity);
			free(s->rules[k].identity_name);
		}
		free(s->own);
		free(s->rules);
		free(s->name);
	}
	free(p->scopes);
	free(p);
}

/* ---- what a requirement names ---- */

/* The content of PREFIXPath or PREFIXData, whichever is there; p NULL if neither is. */
static int take_material(const json_t *o, const char *prefix, struct bytes *ret, struct err *e)
{
	char path_key[32], data_key[32];
	const char *path;

	snprintf(path_key, sizeof(path_key), "%sPath", prefix);
	snprintf(data_key, sizeof(data_key), "%sData", prefix);
	const json_t *data = json_object_get(o, data_key);
	if (!json_object_get(o, path_key))
		return data ? doc_bytes(WHAT, o, data_key, ret, e) : 0;
	if (data)
		return err_set(e, -EBADMSG, WHAT " has both \"%s\" and \"%s\"", path_key, data_key);
	int r = doc_str(WHAT, o, path_key, &path, e);
	if (r < 0)
		return r;
	if (*path != '/')
		return err_set(e, -EBADMSG, WHAT " names the file \"%s\" without an absolute path", path);
	char *text;
	size_t n;
	r = io_read_file_at(AT_FDCWD, path, SIGN_DOCUMENT_MAX, &text, &n);
	if (r < 0)
		return err_sys(e, r, "cannot read %s, which the policy names", path);
	*ret = (struct bytes){.p = (uint8_t *)text, .n = n};
	return strlen(text) == n ? 0 : err_set(e, -EBADMSG, "%s, which the policy names, is not text", path);
}

/* How to name it in messages: its file. */
static const char *material_name(const json_t *o, const char *key, const char *otherwise)
{
	const char *path = json_string_value(json_object_get(o, key));

	return path ? path : otherwise;
}

static const char *text_of(const struct bytes *b)
{
	return (const char *)b->p;
}

static int take_text(const json_t *o, const char *key, char **ret, struct err *e)
{
	const char *s;
	int r = doc_str(WHAT, o, key, &s, e);

	if (r < 0)
		return r;
	if (!*s)
		return err_set(e, -EBADMSG, WHAT " has an empty \"%s\"", key);
	*ret = strdup(s);
	return *ret ? 0 : err_oom(e);
}

static int parse_fulcio(const json_t *o, struct bytes *ret_ca, struct rule_own *own, struct err *e)
{
	MEMBERS(members, "caPath", "caData", "oidcIssuer", "subjectEmail", "subject");
	int r = doc_members(WHAT, o, members, e);

	if (r < 0 || (r = take_material(o, "ca", ret_ca, e)) < 0 ||
		(r = take_text(o, "oidcIssuer", &own->issuer, e)) < 0)
		return r;
	bool email = json_object_get(o, "subjectEmail"), subject = json_object_get(o, "subject");
	if (email == subject)
		return err_set(e, -EBADMSG, WHAT " must have one of \"subjectEmail\" and \"subject\"");
	return take_text(o, email ? "subjectEmail" : "subject", &own->identity, e);
}

/* The trusted root of a requirement: whole from one file, or authorities and log key one by one. */
static int parse_root(
	const json_t *o, const struct bytes *ca, bool keyless, struct rule_own *own, struct err *e)
{
	CLEANUP(bytes_done) struct bytes root = {0}, rekor = {0};
	int r = take_material(o, "trustedRoot", &root, e);

	if (r == 0)
		r = take_material(o, "rekorPublicKey", &rekor, e);
	if (r < 0)
		return r;
	if (root.p) {
		if (rekor.p || ca->p)
			return err_set(e, -EBADMSG, WHAT " has a trusted root and also parts of one");
		r = sign_root_parse(text_of(&root), root.n, &own->root, e);
		return r < 0 ? err_wrap(e, "%s", material_name(o, "trustedRootPath", "trustedRootData")) : 0;
	}
	if (keyless && (!ca->p || !rekor.p))
		return err_set(e, -EBADMSG, WHAT " has \"fulcio\" without %s",
			ca->p ? "\"rekorPublicKeyPath\"" : "\"caPath\"");
	if (!rekor.p)
		return 0;
	r = sign_root_from_pem(text_of(ca), text_of(&rekor), NULL, &own->root, e);
	return r < 0 ? err_wrap(e, WHAT) : 0;
}

/* ---- identities ---- */

static int parse_identity(const json_t *o, struct sign_rule *rule, struct err *e)
{
	static const struct {
		const char *type, *member;
		enum sign_identity identity;
	} types[] = {
		{"matchRepoDigestOrExact", NULL, SIGN_MATCH_REPO_DIGEST_OR_EXACT},
		{"matchExact", NULL, SIGN_MATCH_EXACT},
		{"matchRepository", NULL, SIGN_MATCH_REPOSITORY},
		{"matchDigest", NULL, SIGN_MATCH_DIGEST},
		{"exactReference", "dockerReference", SIGN_EXACT_REFERENCE},
		{"exactRepository", "dockerRepository", SIGN_EXACT_REPOSITORY},
	};
	CLEANUP(oci_reference_done) struct oci_reference ref = {0};
	const char *type;
	size_t i = 0;

	int r = doc_str(WHAT, o, "type", &type, e);
	if (r < 0)
		return r;
	while (i < ARRAY_LEN(types) && strcmp(types[i].type, type) != 0)
		i++;
	if (i == ARRAY_LEN(types))
		return err_set(e, -EBADMSG, WHAT " has the unknown signedIdentity \"%.100s\"", type);
	const char *const members[] = {"type", types[i].member, NULL};
	r = doc_members(WHAT, o, members, e);
	rule->identity = types[i].identity;
	if (r < 0 || !types[i].member)
		return r;
	r = take_text(o, types[i].member, &rule->identity_name, e);
	return r < 0 ? r : oci_reference_parse(rule->identity_name, &ref, e);
}

/* ---- requirements ---- */

static int parse_signed(const json_t *o, struct sign_rule *rule, struct rule_own *own, struct err *e)
{
	MEMBERS(members, "type", "keyPath", "keyData", "fulcio", "rekorPublicKeyPath", "rekorPublicKeyData",
		"trustedRootPath", "trustedRootData", "signedIdentity");
	CLEANUP(bytes_done) struct bytes key = {0}, ca = {0};
	const json_t *fulcio = json_object_get(o, "fulcio"), *identity = json_object_get(o, "signedIdentity");
	int r = doc_members(WHAT, o, members, e);

	if (r < 0 || (r = take_material(o, "key", &key, e)) < 0)
		return r;
	if (!key.p == !fulcio)
		return err_set(e, -EBADMSG, WHAT " must have one of \"keyPath\", \"keyData\" and \"fulcio\"");
	if (key.p)
		r = sign_key_parse(
			text_of(&key), key.n, material_name(o, "keyPath", "policy's keyData"), &own->key, e);
	else
		r = parse_fulcio(fulcio, &ca, own, e);
	if (r == 0)
		r = parse_root(o, &ca, fulcio, own, e);
	if (r == 0 && identity)
		r = parse_identity(identity, rule, e);
	rule->rq = (struct sign_requirement){
		.key = own->key, .issuer = own->issuer, .identity = own->identity, .root = own->root};
	return r;
}

static int parse_rule(const json_t *o, struct sign_rule *rule, struct rule_own *own, struct err *e)
{
	MEMBERS(bare, "type");
	const char *type;
	int r = doc_str(WHAT, o, "type", &type, e);

	if (r < 0)
		return r;
	if (strcmp(type, "sigstoreSigned") == 0) {
		rule->kind = SIGN_SIGNED;
		return parse_signed(o, rule, own, e);
	}
	if (strcmp(type, "insecureAcceptAnything") == 0)
		rule->kind = SIGN_ACCEPT;
	else if (strcmp(type, "reject") == 0)
		rule->kind = SIGN_REJECT;
	else
		return err_set(
			e, -EBADMSG, WHAT " has the requirement \"%.100s\", which is not supported", type);
	return doc_members(WHAT, o, bare, e);
}

static int parse_list(const json_t *list, const char *name, struct scope *s, struct err *e)
{
	size_t n = json_array_size(list);

	if (!json_is_array(list) || n == 0 || n > RULES_MAX)
		return err_set(e, -EBADMSG, WHAT " has no list of 1 to %d requirements for \"%.200s\"",
			RULES_MAX, name ? name : "default");
	s->name = str_dup(name);
	s->rules = calloc(n, sizeof(*s->rules));
	s->own = calloc(n, sizeof(*s->own));
	if ((name && !s->name) || !s->rules || !s->own)
		return err_oom(e);
	s->n = n;
	for (size_t i = 0; i < n; i++) {
		int r = parse_rule(json_array_get(list, i), &s->rules[i], &s->own[i], e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- scopes ---- */

/*
 * The scope as it is looked for: its host as references have it. A scope that no image has would be a rule that silently
 * never applies: -EBADMSG, without a message; or -ENOMEM.
 */
static int scope_name(const char *s, char **ret)
{
	CLEANUP(oci_reference_done) struct oci_reference ref = {0};
	CLEANUP_FREE char *text = NULL;
	bool wildcard = s[0] == '*' && s[1] == '.', host_only = !strchr(s, '/');

	if (!*s) {
		*ret = strdup("");
		return *ret ? 0 : -ENOMEM;
	}
	if (strchr(wildcard ? s + 1 : s, '*') || (wildcard && strpbrk(s, "/:@")))
		return -EBADMSG;
	/* A host alone is none without a path; the grammar of what is before the first slash decides. */
	text = host_only ? str_printf("%s%s/x", wildcard ? "a" : "", wildcard ? s + 1 : s) : strdup(s);
	int r = text ? oci_reference_parse(text, &ref, NULL) : -ENOMEM;
	if (r < 0)
		return r == -ENOMEM ? r : -EBADMSG;
	/* What normalises to something else (busybox, index.docker.io) is not the fully expanded form. */
	size_t n = strlen(ref.domain);
	if (strncasecmp(text, ref.domain, n) != 0 || text[n] != '/')
		return -EBADMSG;
	/* docker.io/NAME is the namespace NAME; with a tag it can only be meant as docker.io/library/NAME. */
	if (strncmp(text + n + 1, ref.path, strlen(ref.path)) != 0 && strpbrk(text + n + 1, ":@"))
		return -EBADMSG;
	memcpy(text, ref.domain, n);
	if (host_only)
		text[n] = '\0';
	if (wildcard)
		*text = '*'; /* in the place of the "a" */
	*ret = TAKE_PTR(text);
	return 0;
}

static const struct scope *scope_of(const struct sign_policy *p, const char *name, size_t n)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->scopes[i].name && strlen(p->scopes[i].name) == n &&
			memcmp(p->scopes[i].name, name, n) == 0)
			return &p->scopes[i];
	return NULL;
}

static int parse_docker(const json_t *o, struct sign_policy *p, struct err *e)
{
	const char *key;
	json_t *list;
	bool changed = false;

	if (json_object_size(o) > SCOPES_MAX)
		return err_set(e, -EBADMSG, WHAT " has more than %d scopes", SCOPES_MAX);
	struct scope *v = realloc(p->scopes, (p->n + json_object_size(o)) * sizeof(*v));
	if (!v)
		return err_oom(e);
	p->scopes = v;
	json_object_foreach ((json_t *)o, key, list) {
		CLEANUP_FREE char *name = NULL;
		int r = scope_name(key, &name);
		if (r < 0)
			return r == -ENOMEM ? err_oom(e)
					    : err_set(e, r, WHAT " has the invalid scope \"%.200s\"", key);
		/* No member is there twice as it is written; in another case it may be. */
		changed |= strcmp(name, key) != 0;
		if (changed && scope_of(p, name, strlen(name)))
			return err_set(e, -EBADMSG, WHAT " has the scope \"%.200s\" twice", name);
		v[p->n] = (struct scope){0};
		r = parse_list(list, name, &v[p->n++], e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Transports that never bring an image here; what their policies say is not our matter. */
static bool other_transport(const char *name)
{
	static const char *const known[] = {
		"atomic", "containers-storage", "dir", "docker-daemon", "oci", "ostree", "sif", "tarball"};

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (strcmp(known[i], name) == 0)
			return true;
	return false;
}

/* What load reads is not judged then, but when it is run: a rule that promises more must not seem to be kept. */
static int check_archives(const char *transport, const json_t *o, struct err *e)
{
	const char *key;
	json_t *list;

	json_object_foreach ((json_t *)o, key, list) {
		bool accept = json_array_size(list) > 0;
		for (size_t i = 0; i < json_array_size(list); i++) {
			const json_t *rule = json_array_get(list, i);
			const char *type = json_string_value(json_object_get(rule, "type"));
			accept &= type && strcmp(type, "insecureAcceptAnything") == 0 &&
				  json_object_size(rule) == 1;
		}
		if (!accept)
			return err_set(e, -EBADMSG,
				WHAT
				" has rules for \"%s\" other than \"insecureAcceptAnything\", which are not "
				"supported: archives are not judged when they are loaded, but when their "
				"images are run",
				transport);
	}
	return 0;
}

static int parse_transports(const json_t *o, struct sign_policy *p, struct err *e)
{
	const char *key;
	json_t *scopes;

	json_object_foreach ((json_t *)o, key, scopes) {
		bool docker = strcmp(key, "docker") == 0;
		bool archive = strcmp(key, "docker-archive") == 0 || strcmp(key, "oci-archive") == 0;
		if (!json_is_object(scopes) || (!docker && !archive && !other_transport(key)))
			return err_set(e, -EBADMSG, WHAT " has the unknown transport \"%.100s\"", key);
		int r = docker ? parse_docker(scopes, p, e) : archive ? check_archives(key, scopes, e) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

int sign_policy_parse(const char *json, size_t n, struct sign_policy **ret, struct err *e)
{
	MEMBERS(members, "default", "transports");
	CLEANUP(json_done) json_t *j = NULL;
	CLEANUP(sign_policy_freep) struct sign_policy *p = calloc(1, sizeof(*p));
	const json_t *transports;

	if (!p)
		return err_oom(e);
	int r = doc_parse(WHAT, json, n, &j, e);
	if (r == 0)
		r = doc_members(WHAT, j, members, e);
	if (r == 0) {
		p->scopes = calloc(1, sizeof(*p->scopes));
		if (!p->scopes)
			return err_oom(e);
		p->n = 1;
		r = parse_list(json_object_get(j, "default"), NULL, p->scopes, e);
	}
	if (r == 0 && json_object_get(j, "transports")) {
		r = doc_object(WHAT, j, "transports", &transports, e);
		if (r == 0)
			r = parse_transports(transports, p, e);
	}
	if (r == -EBADMSG && e)
		e->code = -EINVAL;
	if (r < 0)
		return r == -EBADMSG ? -EINVAL : r;
	*ret = TAKE_PTR(p);
	return 0;
}

static int find_wildcard(
	const struct sign_policy *p, const char *domain, const struct scope **ret, struct err *e)
{
	/* An IPv6 address has no dot before a colon, and none that matters after. */
	size_t host = strcspn(domain, ":");

	for (const char *dot = memchr(domain, '.', host); !*ret && dot;
		dot = memchr(dot + 1, '.', host - (size_t)(dot + 1 - domain))) {
		CLEANUP_FREE char *name = str_printf("*%.*s", (int)(host - (size_t)(dot - domain)), dot);
		if (!name)
			return err_oom(e);
		*ret = scope_of(p, name, strlen(name));
	}
	return 0;
}

/* *ret stays NULL where no scope is the reference's. */
static int find_scope(
	const struct sign_policy *p, const struct oci_reference *ref, const struct scope **ret, struct err *e)
{
	CLEANUP_FREE char *repo = oci_reference_repo(ref);
	CLEANUP_FREE char *name = oci_reference_name(ref); /* a tag beside a digest says nothing */

	if (!repo || !name)
		return err_oom(e);
	*ret = scope_of(p, name, strlen(name));
	for (size_t n = strlen(repo); !*ret && n;) {
		*ret = scope_of(p, repo, n);
		const char *slash = memrchr(repo, '/', n);
		n = slash ? (size_t)(slash - repo) : 0;
	}
	int r = *ret ? 0 : find_wildcard(p, ref->domain, ret, e);
	if (r == 0 && !*ret)
		*ret = scope_of(p, "", 0);
	return r;
}

int sign_policy_find(const struct sign_policy *p, const struct oci_reference *ref,
	const struct sign_rule **ret, size_t *ret_n, struct err *e)
{
	const struct scope *s = NULL;
	int r = ref ? find_scope(p, ref, &s, e) : 0;

	if (r < 0)
		return r;
	if (!s)
		s = &p->scopes[0];
	*ret = s->rules;
	*ret_n = s->n;
	return 0;
}
