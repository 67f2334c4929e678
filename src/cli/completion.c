/* SPDX-License-Identifier: MIT */
/*
 * completion: a script for a shell, which asks the hidden command `__complete WORD…` for every candidate. The words are
 * those behind "a3s-box", the last being the one at the cursor. An answer is a line "VALUE<TAB>DESCRIPTION"; the line
 * ":files<TAB>PART" asks the shell for names of files besides, for the word without PART ("--cidfile="). So the scripts
 * know nothing, and nothing can be out of date.
 */
#include "completion.h"

#include <string.h>

#include "base/io.h"
#include "box/caps.h"
#include "box/network.h"
#include "box/snapshot.h"
#include "box/volume.h"
#include "oci/oci.h"

static const char bash_script[] =
	"# bash completion for a3s-box. Load it with: source <(a3s-box completion bash)\n"
	"_a3s_box()\n"
	"{\n"
	"\tlocal line cur word before cut= breaks= i words=() rest=${COMP_LINE:0:COMP_POINT}\n"
	"\t# \"=\" and \":\" divide words for bash; they do not for us: what has no blank before it is one "
	"word.\n"
	"\tfor ((i = 0; i <= COMP_CWORD; i++)); do\n"
	"\t\tline=$rest\n"
	"\t\trest=${rest#\"${rest%%[![:space:]]*}\"}\n"
	"\t\tword=${COMP_WORDS[i]}\n"
	"\t\t((i < COMP_CWORD)) || word=$rest\n"
	"\t\tif ((i > 0)) && [[ $rest == \"$line\" ]]; then\n"
	"\t\t\twords[${#words[@]}-1]+=$word\n"
	"\t\telse\n"
	"\t\t\twords+=(\"$word\")\n"
	"\t\tfi\n"
	"\t\trest=${rest#\"$word\"}\n"
	"\tdone\n"
	"\tcur=${words[${#words[@]}-1]}\n"
	"\t# And what is offered stands for the part behind them only.\n"
	"\t[[ $COMP_WORDBREAKS == *=* ]] && breaks+==\n"
	"\t[[ $COMP_WORDBREAKS == *:* ]] && breaks+=:\n"
	"\t[[ $breaks ]] && cut=${cur%\"${cur##*[$breaks]}\"}\n"
	"\tCOMPREPLY=()\n"
	"\twhile IFS= read -r line; do\n"
	"\t\tif [[ $line == :files* ]]; then\n"
	"\t\t\tbefore=${line#*$'\\t'}\n"
	"\t\t\twhile IFS= read -r line; do\n"
	"\t\t\t\tcompopt -o filenames 2>/dev/null\n"
	"\t\t\t\tline=$before$line\n"
	"\t\t\t\tCOMPREPLY+=(\"${line#\"$cut\"}\")\n"
	"\t\t\tdone < <(compgen -f -- \"${cur#\"$before\"}\")\n"
	"\t\telse\n"
	"\t\t\tline=${line%%$'\\t'*}\n"
	"\t\t\tCOMPREPLY+=(\"${line#\"$cut\"}\")\n"
	"\t\tfi\n"
	"\tdone < <(a3s-box __complete \"${words[@]:1}\" 2>/dev/null)\n"
	"\t[[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=:] ]] && compopt -o nospace\n"
	"\treturn 0\n"
	"}\n"
	"complete -F _a3s_box a3s-box\n";

static const char zsh_script[] =
	"#compdef a3s-box\n"
	"# zsh completion for a3s-box. Load it with: source <(a3s-box completion zsh)\n"
	"_a3s_box()\n"
	"{\n"
	"\tlocal line value before\n"
	"\tlocal -a found\n"
	"\tlocal files=0\n"
	"\twhile IFS= read -r line; do\n"
	"\t\tif [[ $line == :files* ]]; then\n"
	"\t\t\tbefore=${line#*$'\\t'}\n"
	"\t\t\tfiles=1\n"
	"\t\telse\n"
	"\t\t\tvalue=${line%%$'\\t'*}\n"
	"\t\t\tfound+=(\"${value//:/\\\\:}:${line#*$'\\t'}\")\n"
	"\t\tfi\n"
	"\tdone < <(a3s-box __complete \"${(@)words[2,CURRENT]}\" 2>/dev/null)\n"
	"\t(( ${#found} )) && _describe -V 'a3s-box' found\n"
	"\tif (( files )); then\n"
	"\t\t[[ -n $before ]] && compset -P \"${(b)before}\"\n"
	"\t\t_files\n"
	"\tfi\n"
	"}\n"
	"if (( $+functions[compdef] )); then compdef _a3s_box a3s-box; fi\n";

static const char fish_script[] =
	"# fish completion for a3s-box. Load it with: a3s-box completion fish | source\n"
	"function __a3s_box_complete\n"
	"\tset -l words (commandline -opc) (commandline -ct)\n"
	"\tfor line in (a3s-box __complete $words[2..-1] 2>/dev/null)\n"
	"\t\tif string match -q ':files*' -- $line\n"
	"\t\t\tset -l before (string split \\t -- $line)[2]\n"
	"\t\t\tfor path in (__fish_complete_path (string replace -- \"$before\" '' (commandline -ct)))\n"
	"\t\t\t\techo \"$before$path\"\n"
	"\t\t\tend\n"
	"\t\telse\n"
	"\t\t\techo $line\n"
	"\t\tend\n"
	"\tend\n"
	"end\n"
	"complete -c a3s-box -f -a '(__a3s_box_complete)'\n";

/* ---- candidates ---- */

/* The part of the word before the candidates ("--pull=" of "--pull=al"), and what they must begin with. */
struct word {
	const char *before;
	size_t before_len;
	const char *prefix;
};

static void offer(const struct word *w, const char *value, const char *description)
{
	if (strncmp(value, w->prefix, strlen(w->prefix)) != 0)
		return;
	for (const char *p = value; *p; p++) {
		if ((unsigned char)*p < 0x21 || *p == 0x7f)
			return; /* nothing we made, and nothing a shell could take */
	}
	printf("%.*s%s\t%s\n", (int)w->before_len, w->before, value, description);
}

static void offer_list(const struct word *w, const char *const *values)
{
	for (; *values; values++)
		offer(w, *values, "");
}

static void offer_boxes(const struct word *w, struct app *a, bool live_only)
{
	struct box **list = NULL;
	size_t n = 0;

	if (box_list(a->st, !live_only, &list, &n, NULL) < 0)
		return;
	for (size_t i = 0; i < n; i++) {
		char id[BOX_ID_SHORT_LEN + 1];
		snprintf(id, sizeof(id), "%s", list[i]->id);
		offer(w, list[i]->name, box_state_name(list[i]->state));
		if (w->prefix[0])
			offer(w, id, list[i]->name);
	}
	box_list_free(list, n);
}

static void offer_images(const struct word *w, struct app *a)
{
	struct oci_image **list = NULL;
	size_t n = 0;

	if (oci_image_list(a->store, &list, &n, NULL) < 0)
		return;
	for (size_t i = 0; i < n; i++) {
		CLEANUP_FREE char *familiar = list[i]->name ? oci_ref_familiar(list[i]->name) : NULL;
		if (familiar)
			offer(w, familiar, "image");
	}
	oci_image_list_free(list, n);
}

/* Of the names that images have: everything before the repository. A listing has those of one registry together, mostly. */
static void offer_registries(const struct word *w, struct app *a)
{
	struct oci_image **list = NULL;
	CLEANUP(strv_done) struct strv seen = {0};
	size_t n = 0;

	if (oci_image_list(a->store, &list, &n, NULL) < 0)
		return;
	for (size_t i = 0; i < n; i++) {
		CLEANUP_FREE char *name = list[i]->name ? strdup(list[i]->name) : NULL;
		bool known = !name;
		if (name)
			name[strcspn(name, "/")] = '\0';
		for (size_t k = 0; !known && k < seen.n; k++)
			known = strcmp(seen.v[k], name) == 0;
		if (!known && strv_push(&seen, name) == 0)
			offer(w, name, "registry");
	}
	oci_image_list_free(list, n);
}

static void offer_networks(const struct word *w, struct app *a, bool none)
{
	struct box_network **list = NULL;
	size_t n = 0;

	if (box_network_list(a->st, &list, &n, NULL) < 0)
		return;
	for (size_t i = 0; i < n; i++) {
		if (none || strcmp(list[i]->name, BOX_NETWORK_NONE) != 0)
			offer(w, list[i]->name, "network");
	}
	box_network_list_free(list, n);
}

static void offer_volumes(const struct word *w, struct app *a)
{
	struct box_volume **list = NULL;
	size_t n = 0;

	if (box_volume_list(a->st, &list, &n, NULL) < 0)
		return;
	for (size_t i = 0; i < n; i++)
		offer(w, list[i]->name, "volume");
	box_volume_list_free(list, n);
}

static void offer_snapshots(const struct word *w, struct app *a)
{
	struct box_snapshot **list = NULL;
	size_t n = 0;

	if (box_snapshot_list(a->st, NULL, &list, &n, NULL) < 0)
		return;
	for (size_t i = 0; i < n; i++)
		offer(w, list[i]->name, list[i]->box_name);
	box_snapshot_list_free(list, n);
}

static bool is_of_snapshots(const struct cmd *c)
{
	return c->operands == OPERANDS_SNAPSHOT || c->operands == OPERANDS_SNAPSHOTS ||
	       c->operands == OPERANDS_BOX_SNAPSHOT;
}

/* Of the commands that are about snapshots: those, and where a box may come first, boxes. */
static void offer_snapshot_operand(const struct word *w, const struct cmd *c, size_t index)
{
	struct err e = {0};
	struct app a = {0};

	if ((c->operands == OPERANDS_SNAPSHOT && index > 0) ||
		(c->operands == OPERANDS_BOX_SNAPSHOT && index > 1) || app_open(&a, false, &e) < 0)
		return;
	offer_snapshots(w, &a);
	if (c->operands == OPERANDS_BOX_SNAPSHOT && index == 0)
		offer_boxes(w, &a, false);
	app_close(&a);
}

/* The shell offers them, for the word without the part before. */
static void offer_files(const struct word *w)
{
	printf(":files\t%.*s\n", (int)w->before_len, w->before_len ? w->before : "");
}

/* Of cp: a box's files are not known, but which boxes have some. */
static void offer_copy_operand(const struct word *w, size_t index)
{
	struct box **list = NULL;
	struct err e = {0};
	struct app a = {0};
	size_t n = 0;

	if (index > 1 || strchr(w->prefix, ':'))
		return;
	offer_files(w);
	if (strchr("/.", w->prefix[0]) && w->prefix[0])
		return;
	if (app_open(&a, false, &e) < 0)
		return;
	if (box_list(a.st, true, &list, &n, NULL) == 0) {
		for (size_t i = 0; i < n; i++) {
			CLEANUP_FREE char *name = str_printf("%s:", list[i]->name);
			if (name)
				offer(w, name, box_state_name(list[i]->state));
		}
		box_list_free(list, n);
	}
	app_close(&a);
}

/* What follows the first operand is a command's, options too. */
static bool runs_command(const struct cmd *c)
{
	return c->operands == OPERANDS_BOX_COMMAND || c->operands == OPERANDS_IMAGE;
}

static void offer_operand(const struct word *w, const struct cmd *c, size_t index)
{
	struct err e = {0};
	struct app a = {0};

	if (c->operands == OPERANDS_NONE)
		return;
	if (is_of_snapshots(c)) {
		offer_snapshot_operand(w, c, index);
		return;
	}
	if (c->operands == OPERANDS_COPY) {
		offer_copy_operand(w, index);
		return;
	}
	if (runs_command(c) && index > 0) {
		offer_files(w); /* a program and its arguments */
		return;
	}
	if ((c->operands == OPERANDS_BOX || c->operands == OPERANDS_LIVE_BOX ||
		    c->operands == OPERANDS_REGISTRY) &&
		index > 0)
		return;
	if (c->operands == OPERANDS_FILE_IMAGE && index == 0) {
		offer_files(w);
		return;
	}
	bool network =
		c->operands == OPERANDS_NETWORKS || (c->operands == OPERANDS_NETWORK_BOX && index == 0);
	if (c->operands == OPERANDS_NETWORK_BOX && index > 1)
		return;
	bool registries = c->operands == OPERANDS_REGISTRY;
	bool images = c->operands == OPERANDS_IMAGE || c->operands == OPERANDS_IMAGES ||
		      c->operands == OPERANDS_FILE_IMAGE || c->operands == OPERANDS_ANY || registries;
	if (app_open(&a, images, &e) < 0)
		return;
	if (registries) {
		offer_registries(w, &a);
		app_close(&a);
		return;
	}
	if (network || c->operands == OPERANDS_ANY)
		offer_networks(w, &a, c->operands != OPERANDS_NETWORK_BOX);
	if (c->operands == OPERANDS_VOLUMES || c->operands == OPERANDS_ANY)
		offer_volumes(w, &a);
	if (!network && c->operands != OPERANDS_VOLUMES && (!images || c->operands == OPERANDS_ANY))
		offer_boxes(w, &a, c->operands == OPERANDS_LIVE_BOX || c->operands == OPERANDS_BOX_COMMAND);
	if (images)
		offer_images(w, &a);
	app_close(&a);
}

/* The last one of the fields of a --mount, a key or the type. */
static void offer_mount(const struct word *w)
{
	static const char *const keys[] = {"type=", "source=", "target=", "readonly", "bind-create-src",
		"volume-nocopy",
		"volume-subpath=", "volume-label=", "volume-opt=", "tmpfs-size=", "tmpfs-mode=", NULL},
				 *const types[] = {"bind", "volume", "tmpfs", NULL};
	const char *comma = strrchr(w->prefix, ','), *start = comma ? comma + 1 : w->prefix;
	bool is_type = strncmp(start, "type=", 5) == 0;

	if (is_type)
		start += 5;
	const struct word last = {.before = w->before_len ? w->before : w->prefix,
		.before_len = w->before_len + (size_t)(start - w->prefix),
		.prefix = start};
	offer_list(&last, is_type ? types : keys);
}

/* What an option's value may be, by its name: the ones with few. */
static void offer_value(
	const struct cmd *c, const struct word *w, const char *option, const char *placeholder)
{
	static const char *const pull[] = {"always", "missing", "never", NULL},
				 *const accel[] = {"auto", "kvm", "qemu-kvm", "tcg", NULL},
				 *const restart[] = {"no", "always", "on-failure", "unless-stopped", NULL},
				 *const drivers[] = {"json-file", "none", "syslog", NULL},
				 *const format[] = {"json", "table", NULL},
				 *const archive[] = {"docker-archive", "oci-archive", NULL},
				 *const platform[] = {"linux/amd64", "linux/arm64", NULL},
				 *const outcome[] = {"success", "failure", "denied", NULL},
				 *const type[] = {"container", "image", "network", "volume", "snapshot",
					 NULL},
				 *const isolation[] = {"none", "strict", "custom", NULL},
				 *const signals[] = {"HUP", "INT", "QUIT", "KILL", "USR1", "USR2", "TERM",
					 "STOP", "CONT", "WINCH", NULL};
	const struct {
		const char *option;
		const char *const *values;
	} lists[] = {{"pull", pull}, {"accel", accel}, {"restart", restart}, {"log-driver", drivers},
		{"format", strcmp(c->name, "save") == 0 ? archive : format}, {"platform", platform},
		{"outcome", outcome}, {"type", type}, {"isolation", isolation}, {"signal", signals},
		{"stop-signal", signals}};

	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		if (strcmp(option, lists[i].option) == 0) {
			offer_list(w, lists[i].values);
			return;
		}
	}
	if (strcmp(option, "mount") == 0) {
		offer_mount(w);
	} else if (strcmp(option, "cap-add") == 0 || strcmp(option, "cap-drop") == 0) {
		for (unsigned cap = 0; box_cap_name(cap); cap++)
			offer(w, box_cap_name(cap), "");
		offer(w, "ALL", "");
	} else if (strcmp(option, "network") == 0 || strcmp(option, "volumes-from") == 0 ||
		   (strcmp(option, "volume") == 0 && !strpbrk(w->prefix, "./"))) {
		struct err e = {0};
		struct app a = {0};
		if (app_open(&a, false, &e) < 0)
			return;
		if (strcmp(option, "network") == 0)
			offer_networks(w, &a, true);
		else if (strcmp(option, "volume") == 0)
			offer_volumes(w, &a);
		else
			offer_boxes(w, &a, false);
		app_close(&a);
	} else if (strcmp(option, "volume") == 0 || strcmp(placeholder, "FILE") == 0 ||
		   strcmp(placeholder, "FOLDER") == 0 || strcmp(option, "security-opt") == 0) {
		offer_files(w);
	}
}

/* ---- options of a command, from its own table ---- */

struct options {
	char *text; /* as --help=options prints it */
	size_t len;
};

static int read_options(const struct cmd *c, struct options *ret)
{
	char *argv[] = {(char *)c->name, (char *)"--help=options", NULL};
	FILE *saved = stdout, *mem = open_memstream(&ret->text, &ret->len);

	if (!mem)
		return -ENOMEM;
	stdout = mem;
	c->run(c, 2, argv);
	stdout = saved;
	return fclose(mem) == 0 ? 0 : -ENOMEM;
}

struct option {
	char letter[8], name[64], arg[64], help[256];
};

/* Takes the next line off *text. */
static bool next_option(const char **text, struct option *ret)
{
	char *fields[] = {ret->letter, ret->name, ret->arg, ret->help};
	const size_t sizes[] = {sizeof(ret->letter), sizeof(ret->name), sizeof(ret->arg), sizeof(ret->help)};
	const char *p = *text;

	if (!*p)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		size_t n = strcspn(p, i + 1 < ARRAY_LEN(fields) ? "\t\n" : "\n");
		snprintf(fields[i], sizes[i], "%.*s", (int)n, p);
		p += n + (p[n] == '\t');
	}
	*text = p + (*p == '\n');
	return true;
}

static void offer_options(const struct word *w, const struct options *o)
{
	struct option opt;

	for (const char *p = o->text; next_option(&p, &opt);) {
		char shown[80];
		snprintf(shown, sizeof(shown), "--%s", opt.name);
		offer(w, shown, opt.help);
	}
	offer(w, "--help", "show this command's options");
}

/* The option that word names, if it takes a value and has none in it. */
static bool wants_value(const struct options *o, const char *word, struct option *ret)
{
	if (word[0] != '-' || !word[1])
		return false;
	for (const char *p = o->text; next_option(&p, ret);) {
		bool named = word[1] == '-' ? strcmp(word + 2, ret->name) == 0
					    : ret->letter[0] && word[strlen(word) - 1] == ret->letter[0];
		if (named)
			return ret->arg[0];
	}
	return false;
}

static void complete_command(const struct cmd *c, char **words, size_t n)
{
	CLEANUP_FREE char *text = NULL;
	struct options o = {0};
	struct option opt;
	struct word w = {.prefix = words[n - 1]};
	size_t operands = 0;
	bool ended = false; /* by "--", or the first operand of a command that runs another */

	if (read_options(c, &o) < 0)
		return;
	text = o.text;
	for (size_t i = 0; i + 1 < n; i++) {
		if (!ended && wants_value(&o, words[i], &opt)) {
			if (i + 2 == n) {
				offer_value(c, &w, opt.name, opt.arg);
				return;
			}
			i++;
		} else if (!ended && strcmp(words[i], "--") == 0) {
			ended = true;
		} else if (ended || words[i][0] != '-') {
			operands++;
			ended |= runs_command(c);
		}
	}
	const char *eq = strchr(w.prefix, '=');
	if (!ended && eq && strncmp(w.prefix, "--", 2) == 0) {
		CLEANUP_FREE char *name = strndup(w.prefix, (size_t)(eq - w.prefix));
		struct word value = {
			.before = w.prefix, .before_len = (size_t)(eq + 1 - w.prefix), .prefix = eq + 1};
		if (name && wants_value(&o, name, &opt))
			offer_value(c, &value, opt.name, opt.arg);
	} else if (!ended && w.prefix[0] == '-') {
		offer_options(&w, &o);
	} else {
		offer_operand(&w, c, operands);
	}
}

int completion_words(const struct cmd *commands, size_t n_commands, int argc, char **argv)
{
	struct word w = {.prefix = argc ? argv[argc - 1] : ""};

	if (argc <= 1) {
		for (size_t i = 0; i < n_commands; i++)
			offer(&w, cmd_last_name(&commands[i]), commands[i].summary);
		return 0;
	}
	for (size_t i = 0; i < n_commands; i++) {
		if (!cmd_is(&commands[i], argv[0]))
			continue;
		if (commands[i].subs)
			return completion_words(commands[i].subs, commands[i].n_subs, argc - 1, argv + 1);
		else
			complete_command(&commands[i], argv + 1, (size_t)argc - 1);
	}
	return 0;
}

int cmd_completion(const struct cmd *c, int argc, char **argv)
{
	struct opt opts[] = {{0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r)
		return r < 0 ? app_fail(c, &e, 1) : 0;
	const char *shell = argc == 2 ? argv[1] : "";
	const char *text = strcmp(shell, "bash") == 0	? bash_script
			   : strcmp(shell, "zsh") == 0	? zsh_script
			   : strcmp(shell, "fish") == 0 ? fish_script
							: NULL;
	if (!text)
		return app_usage(c, "a shell is needed: bash, zsh or fish");
	fputs(text, stdout);
	return 0;
}
