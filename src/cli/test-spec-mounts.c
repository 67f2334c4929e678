/* SPDX-License-Identifier: MIT */
/* -v, --mount, --tmpfs and the image's VOLUME: what they amount to, what is refused, and what wins over what. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "spec.h"

/* "volume data /d ro nocopy", "bind /s /t create", "volume - /v"; of a tmpfs, which is no mount, the option. */
static char *text_of(const struct box_config *c)
{
	char *all = strdup("");

	for (size_t i = 0; i < c->n_mounts; i++) {
		const struct box_mount *m = &c->mounts[i];
		char *more = str_printf("%s%s%s %s %s%s%s%s%s%s%s", all, i ? ", " : "",
			m->type == BOX_MOUNT_BIND ? "bind" : "volume", m->source ? m->source : "-", m->target,
			m->subpath ? " sub=" : "", m->subpath ? m->subpath : "", m->read_only ? " ro" : "",
			m->no_copy ? " nocopy" : "", m->create ? " create" : "",
			m->anonymous != (m->type == BOX_MOUNT_VOLUME && !m->source) ? " WRONG" : "");
		free(all);
		all = more;
	}
	for (size_t i = 0; i < c->tmpfs.n; i++) {
		char *more = str_printf("%s%s%s", all, *all ? ", " : "", c->tmpfs.v[i]);
		free(all);
		all = more;
	}
	return all;
}

struct one {
	const char *given;
	const char *want; /* as text_of; with "!": part of the error or its hint */
};

static const struct one short_ones[] = {
	{"data:/var/lib", "volume data /var/lib"},
	{"/srv:/srv", "bind /srv /srv create"},
	{"/srv:/a/./b//../c/", "bind /srv /a/c create"},
	{"/srv:/../../c", "bind /srv /c create"},
	{"/a b\xff:/c\nd", "bind /a b\xff /c\nd create"},
	{"/v", "volume - /v"},
	{"dd:/v:ro", "volume dd /v ro"},
	{"dd:/v:rw", "volume dd /v"},
	{"dd:/v:ro,nocopy,z,cached", "volume dd /v ro nocopy"},
	{"/s:/v:Z,delegated,rprivate", "bind /s /v create"},
	{"/s:/v:private", "bind /s /v create"},
	{"0_.-:/v", "volume 0_.- /v"},
	{"/s:/dev/shm", "bind /s /dev/shm create"},
	{"/s:/sys/fs/x", "bind /s /sys/fs/x create"},
	{"/s:/process", "bind /s /process create"},
	{"", "!-v : expected [SOURCE:]TARGET[:OPTIONS]"},
	{":", "!expected [SOURCE:]TARGET"},
	{"/s:", "!expected [SOURCE:]TARGET"},
	{":/t", "!expected [SOURCE:]TARGET"},
	{"/s:/t:", "!expected [SOURCE:]TARGET"},
	{"/s:/t:ro:z", "!-v /s:/t:ro:z: expected [SOURCE:]TARGET"},
	{"data", "!\"data\" is not an absolute path of the box"},
	{"./d", "!:TARGET is missing: -v ./d:/TARGET"},
	{"/s:t", "!\"t\" is not an absolute path of the box"},
	{"/s:/", "!nothing can be mounted on the box's /"},
	{"/s:/a/..", "!nothing can be mounted on the box's /"},
	{"/s:/proc", "!/proc is made by the box's own kernel"},
	{"/s:/sys/", "!/sys is made by the box's own kernel"},
	{"/s:/x/../dev", "!/dev is made by the box's own kernel"},
	{"/s:/proc/sys", "!nothing can be mounted inside /proc"},
	{"a/b:/t", "!\"a/b\" is no name of a volume"},
	{"d:/t", "!\"d\" is no name of a volume: expected two bytes or more"},
	{"-x:/t", "!\"-x\" is no name of a volume"},
	{".x:/t", "!\".x\" is no name of a volume"},
	{"~/x:/t", "!\"~/x\" is no name of a volume"},
	{"dd:/t:rx", "!\"rx\" is none of the options"},
	{"dd:/t:ro,rw", "!\"rw\" contradicts or repeats"},
	{"dd:/t:ro,ro", "!\"ro\" contradicts or repeats"},
	{"dd:/t:z,Z", "!\"Z\" contradicts or repeats"},
	{"dd:/t:ro,", "!\"\" is none of the options"},
	{"dd:/t:private", "!\"private\" is none of the options"},
	{"/s:/t:shared", "!no mount propagates"},
	{"/s:/t:ro,rslave", "!no mount propagates"},
};

static const struct one long_ones[] = {
	{"target=/t", "volume - /t"},
	{"type=volume,src=dd,dst=/t", "volume dd /t"},
	{"source=dd,destination=/t,readonly", "volume dd /t ro"},
	{"src=dd,dst=/t,ro=false,volume-nocopy", "volume dd /t nocopy"},
	{"src=dd,dst=/t,RO=1,Volume-NoCopy=F", "volume dd /t ro"},
	{"src=dd,dst=/t,volume-subpath=a/./b", "volume dd /t sub=a/./b"},
	{"src=dd,dst=/t,volume-driver=local,volume-label=a=b,volume-opt=type=none", "volume dd /t"},
	{"type=bind,src=/s,dst=/t", "bind /s /t"},
	{"type=bind,src=/s,dst=/t,bind-propagation=rprivate,consistency=cached", "bind /s /t"},
	{"type=bind,src=/s,dst=/t,bind-create-src,bind-recursive=enabled", "bind /s /t create"},
	{"type=bind,src=/s,dst=/t,bind-nonrecursive=0", "bind /s /t"},
	{"type=bind,\"src=/a,b\",\"dst=/q\"\"q\"", "bind /a,b /q\"q"},
	{"type=bind,src=/a=b:c,dst=/t:u", "bind /a=b:c /t:u"},
	{"type=tmpfs,dst=/t", "/t:rw"},
	{"type=tmpfs,dst=/t/,tmpfs-size=1m,tmpfs-mode=1700,readonly", "/t:ro,size=1048576,mode=1700"},
	{"", "!\"\" is no option of a mount"},
	{"type=bind,src=/s", "!target is missing"},
	{"type=bind,dst=/t", "!source is missing"},
	{"type=bind,src=,dst=/t", "!source is missing"},
	{"type=bind,src=dd,dst=/t", "!source \"dd\": expected an absolute path"},
	{"type=tape,dst=/t", "!type=tape: expected bind, volume or tmpfs"},
	{"src=a/b,dst=/t", "!\"a/b\" is no name of a volume"},
	{"src=dd,dst=t", "!\"t\" is not an absolute path of the box"},
	{"src=dd,dst=/proc", "!/proc is made by the box's own kernel"},
	{"src=dd,dst=/t,ro=yes", "!ro=yes: expected true or false"},
	{"src=dd,dst", "!dst: expected dst=VALUE"},
	{"src=dd,dst=/t,speed=high", "!\"speed\" is no option of a mount"},
	{"src=dd,dst=/t,tmpfs-size=1m", "!tmpfs-size is no option of type=volume"},
	{"src=dd,dst=/t,bind-propagation=private", "!bind-propagation is no option of type=volume"},
	{"type=bind,src=/s,dst=/t,volume-nocopy", "!volume-nocopy is no option of type=bind"},
	{"type=bind,src=/s,dst=/t,bind-propagation=shared", "!no mount propagates"},
	{"type=bind,src=/s,dst=/t,bind-propagation=both", "!expected private or rprivate"},
	{"type=bind,src=/s,dst=/t,bind-nonrecursive", "!below the source is part of it"},
	{"type=bind,src=/s,dst=/t,bind-recursive=disabled", "!expected enabled"},
	{"type=bind,src=/s,dst=/t,consistency=odd", "!expected consistent, cached or delegated"},
	{"src=dd,dst=/t,volume-subpath=../x", "!volume-subpath=../x: expected a relative path"},
	{"src=dd,dst=/t,volume-subpath=/x", "!expected a relative path"},
	{"src=dd,dst=/t,volume-subpath=", "!expected a relative path"},
	{"src=dd,dst=/t,volume-driver=nfs", "!volume-driver=nfs: only local is there"},
	{"src=dd,dst=/t,volume-opt=x", "!volume-opt=x: expected KEY=VALUE"},
	{"src=dd,dst=/t,volume-label==x", "!volume-label==x: expected KEY=VALUE"},
	{"type=tmpfs,src=x,dst=/t", "!a tmpfs has no source"},
	{"type=tmpfs,dst=/t:u", "!cannot have a colon"},
	{"type=tmpfs,dst=/t,tmpfs-size=big", "!tmpfs-size=big: expected a size"},
	{"type=tmpfs,dst=/t,tmpfs-mode=8", "!tmpfs-mode=8: expected an octal mode"},
	{"type=tmpfs,dst=/t,tmpfs-mode=17777", "!expected an octal mode"},
	{"type=tmpfs,dst=/t,tmpfs-mode=", "!expected an octal mode"},
	{"\"src=dd,dst=/t", "!a quote does not end"},
	{"src=\"dd\",dst=/t", "!a quote does not end, or stands inside a field"},
	{"\"src=dd\"x,dst=/t", "!a quote does not end, or stands inside a field"},
	{"src=dd,dst=/t\n", "!a quote does not end"},
};

static void check(int (*add)(const char *, struct box_config *, struct err *), const struct one *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct box_config c = {0};
		struct err e = {0};
		int r = add(v[i].given, &c, &e);
		char *got = text_of(&c);
		bool told = strstr(e.msg, v[i].want + 1) || strstr(e.hint, v[i].want + 1);
		if (v[i].want[0] == '!' ? r >= 0 || !told || *got : r < 0 || strcmp(got, v[i].want) != 0)
			fail_msg("\"%s\": %d \"%s\" \"%s\", want \"%s\"", v[i].given, r, got, e.msg,
				v[i].want);
		free(got);
		box_config_done(&c);
	}
}

static void each_form_means_what_it_does_in_docker(void **state)
{
	check(spec_add_volume, short_ones, ARRAY_LEN(short_ones));
	check(spec_add_mount, long_ones, ARRAY_LEN(long_ones));
}

static void labels_and_options_of_a_volume_are_kept(void **state)
{
	struct box_config c = {0};
	struct err e = {0};

	assert_int_equal(spec_add_mount("src=dd,dst=/t,volume-label=a=b,volume-label=c,volume-label=a=x,"
					"volume-opt=type=none,\"volume-opt=o=bind,ro\"",
				 &c, &e),
		0);
	assert_int_equal(c.mounts[0].labels.n, 2);
	assert_string_equal(c.mounts[0].labels.v[0], "a=x");
	assert_string_equal(c.mounts[0].labels.v[1], "c");
	assert_int_equal(c.mounts[0].opts.n, 2);
	assert_string_equal(c.mounts[0].opts.v[1], "o=bind,ro");
	box_config_done(&c);
}

static void a_source_with_a_dot_is_below_the_working_folder(void **state)
{
	static const char *const given[] = {".:/t", "./:/t", "./a/./b:/t", "type=bind,src=.,dst=/t"};
	static const char *const want[] = {"", "", "/a/b", ""};
	char here[PATH_MAX], all[2 * PATH_MAX];

	assert_int_equal(chdir("/usr/lib"), 0);
	assert_non_null(getcwd(here, sizeof(here)));
	for (size_t i = 0; i < ARRAY_LEN(given); i++) {
		struct box_config c = {0};
		struct err e = {0};
		assert_int_equal((i < 3 ? spec_add_volume : spec_add_mount)(given[i], &c, &e), 0);
		snprintf(all, sizeof(all), "%s%s", here, want[i]);
		assert_string_equal(c.mounts[0].source, all);
		box_config_done(&c);
	}
	/* A link before ".." decides where it leads. */
	struct box_config c = {0};
	struct err e = {0};
	assert_int_equal(spec_add_volume("../x:/t", &c, &e), 0);
	snprintf(all, sizeof(all), "%s/../x", here);
	assert_string_equal(c.mounts[0].source, all);
	box_config_done(&c);
}

static int with(const char *const *volumes, const char *const *mounts, const char *const *tmpfs,
	struct box_config *c, struct err *e)
{
	struct run_opts o = {0};
	int r;

	for (; *volumes; volumes++)
		assert_int_equal(strv_push(&o.volumes, *volumes), 0);
	for (; *mounts; mounts++)
		assert_int_equal(strv_push(&o.mounts, *mounts), 0);
	for (; *tmpfs; tmpfs++)
		assert_int_equal(strv_push(&o.tmpfs, *tmpfs), 0);
	r = spec_from_opts(&o, c, e);
	run_opts_done(&o);
	return r;
}

static void a_target_is_given_once(void **state)
{
	static const char *const lists[][3][3] = {{{"aa:/t", "bb:/t/"}}, {{"aa:/t"}, {"src=bb,dst=/x/../t"}},
		{{"aa:/t"}, {NULL}, {"/t:size=1m"}}, {{NULL}, {"type=tmpfs,dst=/t"}, {"//t"}},
		{{NULL}, {NULL}, {"/t", "/t/:ro"}}};

	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		struct box_config c = {0};
		struct err e = {0};
		assert_true(with(lists[i][0], lists[i][1], lists[i][2], &c, &e) < 0);
		assert_non_null(strstr(e.msg, "Duplicate mount point: /t"));
		box_config_done(&c);
	}
}

static void the_image_has_a_volume_where_nothing_else_is(void **state)
{
	static const char *const volumes[] = {"mine:/data", NULL}, *const none[] = {NULL},
				 *const tmpfs[] = {"/cache", NULL};
	struct strv in_image = {0}, bad = {0};
	struct oci_image image = {0}, worse = {0};
	struct box_config c = {0};
	struct err e = {0};

	assert_int_equal(strv_push(&in_image, "/data/"), 0);
	assert_int_equal(strv_push(&in_image, "/cache"), 0);
	assert_int_equal(strv_push(&in_image, "/var/lib/db"), 0);
	assert_int_equal(strv_push(&bad, "relative"), 0);
	image.volumes = in_image;
	worse.volumes = bad;
	assert_int_equal(with(volumes, none, tmpfs, &c, &e), 0);
	assert_int_equal(spec_add_image_volumes(&c, &image, &e), 0);
	char *got = text_of(&c);
	assert_string_equal(got, "volume mine /data, volume - /var/lib/db, /cache");
	free(got);
	assert_int_equal(spec_add_image_volumes(&c, &worse, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "VOLUME relative of the image"));
	box_config_done(&c);
	strv_done(&in_image);
	strv_done(&bad);
}

static void there_is_an_end_to_mounts(void **state)
{
	struct box_config c = {0};
	struct err e = {0};
	char text[32];

	for (size_t i = 0; i <= BOX_MOUNTS_MAX; i++) {
		snprintf(text, sizeof(text), "dd:/%zu", i);
		assert_int_equal(spec_add_volume(text, &c, &e), i < BOX_MOUNTS_MAX ? 0 : -E2BIG);
	}
	assert_int_equal(c.n_mounts, BOX_MOUNTS_MAX);
	box_config_done(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_form_means_what_it_does_in_docker),
		cmocka_unit_test(labels_and_options_of_a_volume_are_kept),
		cmocka_unit_test(a_source_with_a_dot_is_below_the_working_folder),
		cmocka_unit_test(a_target_is_given_once),
		cmocka_unit_test(the_image_has_a_volume_where_nothing_else_is),
		cmocka_unit_test(there_is_an_end_to_mounts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
