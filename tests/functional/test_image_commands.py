"""Commands on images, as one who knows Docker's expects them: columns, filters, formats, errors, exit statuses."""

import contextlib
import hashlib
import io
import json
import os
import re
import signal
import sqlite3
import stat
import tarfile
import time

import a3s
import images
from a3s import BoxTest, core

SCRIPT = images.busybox_image
NEVER = "0001-01-01T00:00:00Z"


def make_archive(path, name, layers, config=None, created=None, history=None, more=None):
    """An OCI archive of an image with these uncompressed layers. Its ID, and that of its manifest."""
    manifest, blobs = SCRIPT.image_blobs(layers, config)
    old = json.loads(blobs.pop(manifest["digest"]))
    document = json.loads(blobs.pop(old["config"]["digest"]))
    if created:
        document["created"] = created
    if history is not None:
        document["history"] = history
    document.update(more or {})
    packed = SCRIPT.dump(document)
    blobs[SCRIPT.sha256(packed)] = packed
    old["config"] = SCRIPT.descriptor("config.v1+json", packed)
    text = SCRIPT.dump(old)
    blobs[SCRIPT.sha256(text)] = text
    SCRIPT.write_archive(path, name, SCRIPT.descriptor("manifest.v1+json", text), blobs)
    return SCRIPT.sha256(packed), SCRIPT.sha256(text)


def layer(**files):
    tree = SCRIPT.Tree()
    for name, content in files.items():
        tree.file(name, content)
    return tree.bytes()


HISTORY = [
    {"created": "2021-03-04T05:06:07Z", "created_by": "/bin/sh -c #(nop) ADD file:0 in /"},
    {"created": "2022-03-04T05:06:07Z", "created_by": "ENV A=b", "empty_layer": True},
    {"created": "2023-03-04T05:06:07Z", "created_by": "RUN /bin/sh -c echo \u00fc\tone && \\\n  echo two and more than fits",
     "comment": "buildkit.dockerfile.v0"},
]


class ImageCommandTest(BoxTest):
    images_wanted = ()

    def tearDown(self):
        super().tearDown()
        for image in set(self.home.ok("images", "-q").text.split()):
            self.home.ok("rmi", "-f", image)

    def make(self, name, content="x", created="2023-03-04T05:06:07Z", platform="linux/amd64", **options):
        path = self.home.tmp / "made.tar"
        made = make_archive(path, name, [layer(one="one\n"), layer(two=content)], created=created, **options)
        self.home.ok("load", "-i", path, "--platform", platform)
        path.unlink()
        return made

    def lines(self, *args):
        return self.home.ok(*args).lines

    def inspect_image(self, name):
        (found,) = json.loads(self.home.ok("image-inspect", name).out)
        return found


class NoLayers(ImageCommandTest):
    """FROM scratch, and settings only: docker has such images, and there is nothing to run in them."""

    def setUp(self):
        super().setUp()
        path = self.home.tmp / "nothing.tar"
        make_archive(path, "nothing:1", [], config={"Cmd": ["/missing"], "Env": ["A=b"]})
        self.home.ok("load", "-i", path)
        path.unlink()

    @core
    def test_run(self):
        result = self.home.run("run", "--rm", "nothing:1")
        self.assert_rc(result, 127)
        self.assertIn(b"/missing", result.err)

    def test_saved(self):
        """By its repository, with all its tags."""
        path = self.home.tmp / "saved.tar"
        self.home.ok("tag", "nothing:1", "nothing:2")
        self.home.ok("save", "-o", path, "nothing")
        with tarfile.open(path) as t:
            (image,) = json.loads(t.extractfile("manifest.json").read())
        self.assertEqual(image["Layers"], [])
        self.assertEqual(image["RepoTags"], ["docker.io/library/nothing:1", "docker.io/library/nothing:2"])
        self.home.ok("rmi", "nothing:1", "nothing:2")
        self.home.ok("load", "-i", path)
        self.home.ok("image-inspect", "nothing:1", "nothing:2")

    def test_shown(self):
        (image,) = json.loads(self.home.ok("image-inspect", "nothing:1").text)
        self.assertEqual(image["RootFS"]["Layers"] or [], [])
        self.assertEqual(image["Config"]["Env"], ["A=b"])
        self.assertEqual(self.home.ok("history", "-q", "nothing:1").text, "")
        self.home.ok("image-check")

    def test_filled(self):
        """What is put into a box of it makes an image with one layer."""
        box = self.home.ok("create", "nothing:1").text.strip()
        file = self.home.tmp / "file"
        file.write_text("content\n")
        self.home.ok("cp", file, box + ":/file")
        self.assertIn("A /file", self.home.ok("diff", box).text.splitlines())
        self.home.ok("commit", box, "filled:1")
        self.home.ok("rm", box)
        (image,) = json.loads(self.home.ok("image-inspect", "filled:1").text)
        self.assertEqual(len(image["RootFS"]["Layers"]), 1)
        box = self.home.ok("create", "filled:1").text.strip()
        self.home.ok("cp", box + ":/file", self.home.tmp / "again")
        self.assertEqual((self.home.tmp / "again").read_text(), "content\n")
        self.home.ok("rm", box)


class Images(ImageCommandTest):
    def setUp(self):
        super().setUp()
        self.old = self.make("old:1", "old", "2020-01-01T00:00:00Z", config={"Labels": {"tier": "web", "team": "a"}})
        self.mid = self.make("mid/er:2", "mid", "2021-01-01T00:00:00Z", config={"Labels": {"tier": "db"}})
        self.new = self.make("registry.example:5000/a/new:3", "new", "2022-01-01T00:00:00Z")

    def names(self, *args):
        return self.lines("images", "--format", "{{.Repository}}:{{.Tag}}", *args)

    @core
    def test_columns(self):
        lines = self.lines("images")
        self.assertRegex(lines[0], r"^REPOSITORY +TAG +IMAGE ID +CREATED +SIZE$")
        self.assertRegex(lines[1], r"^registry.example:5000/a/new +3 +%s +\d years ago +[0-9.]+k?B$" % self.new[0][7:19])
        self.assertRegex(lines[3], r"^old +1 +%s +\d years ago +" % self.old[0][7:19])
        self.assertRegex(self.lines("images", "--digests")[0], r"^REPOSITORY +TAG +DIGEST +IMAGE ID +CREATED +SIZE$")
        self.assertRegex(self.lines("images", "--no-trunc")[3], " %s " % self.old[0])
        self.assertEqual(self.lines("images", "-q"), [x[0][7:19] for x in (self.new, self.mid, self.old)])
        self.assertEqual(self.lines("images", "-aq", "--no-trunc"), [x[0] for x in (self.new, self.mid, self.old)])

    @core
    def test_one_repository(self):
        self.home.ok("tag", "old:1", "old:2")
        self.assertEqual(self.names("old"), ["old:1", "old:2"])
        self.assertEqual(self.names("old:2"), ["old:2"])
        self.assertEqual(self.names("docker.io/library/old"), ["old:1", "old:2"])
        self.assertEqual(self.names("mid/*"), ["mid/er:2"])
        self.assertEqual(self.names("*"), ["old:1", "old:2"])
        self.assertEqual(self.names("nosuch"), [])
        self.assertEqual(len(self.lines("images", "nosuch")), 1)

    @core
    def test_filters(self):
        everything = ["registry.example:5000/a/new:3", "mid/er:2", "old:1"]
        for filters, found in ((["label=tier"], everything[1:]), (["label=tier=web"], ["old:1"]),
                               (["label=tier", "label=team=a"], ["old:1"]), (["label=tier=web", "label=tier=db"], []),
                               (["before=mid/er:2"], ["old:1"]), (["since=mid/er:2"], everything[:1]),
                               (["since=" + self.old[0][7:19]], everything[:2]),
                               (["reference=old"], ["old:1"]), (["reference=*/er:2"], ["mid/er:2"]),
                               (["reference=old", "reference=mid/er"], everything[1:]),
                               (["reference=registry.example:5000/*/*"], everything[:1]), (["reference=ol?:[0-2]"], ["old:1"]),
                               (["dangling=true"], []), (["dangling=false"], everything), (["dangling=0"], everything),
                               (["until=2021-06-01T00:00:00Z"], everything[1:]), (["until=24h"], everything)):
            with self.subTest(filters):
                self.assertEqual(self.names(*[x for f in filters for x in ("--filter", f)]), found)
        for bad, match in (("nosuch=1", "no such filter.*dangling, label"), ("dangling", "no such filter"),
                           ("dangling=perhaps", "true or false"), ("label=", "value is missing"),
                           ("before=nosuch", "no such image: nosuch"), ("until=soon", "duration")):
            with self.subTest(bad):
                self.assert_one_line(self.home.run("images", "-f", bad), 1, match)

    @core
    def test_untagged(self):
        """A name that leads to another image now leaves the first without one."""
        first = self.make("taken:1", "first")
        self.make("taken:1", "second")
        (line,) = [line for line in self.lines("images") if first[0][7:19] in line]
        self.assertRegex(line, "^<none> +<none> ")
        self.assertEqual(self.lines("images", "-q", "--filter", "dangling=true"), [first[0][7:19]])
        self.assertNotIn("<none>:<none>", self.names("--filter", "dangling=false"))
        self.assertEqual(self.inspect_image(first[0])["RepoTags"], [])

    def test_formats(self):
        row = json.loads(self.lines("images", "--format", "json", "old")[0])
        self.assertEqual(set(row), {"Repository", "Tag", "ID", "Digest", "CreatedSince", "CreatedAt", "Size", "VirtualSize",
                                    "SharedSize", "UniqueSize", "Containers", "Platform"})
        self.assertEqual((row["Containers"], row["Platform"], row["CreatedAt"]),
                         ("0", "linux/amd64", "2020-01-01T00:00:00.000000000Z"))
        self.assertEqual(self.lines("images", "--format", "table {{.ID}}\t{{.Containers}}", "old"),
                         ["IMAGE ID       BOXES", self.old[0][7:19] + "   0"])
        self.assert_one_line(self.home.run("images", "--format", "{{.Nosuch}}"), 1, "no field.*Repository Tag")
        self.assert_one_line(self.home.run("images", "a", "b"), 1, "one repository")
        result = self.home.ok("images", "-q", "--format", "json", "old")
        self.assertRegex(result.err, rb"\Aa3s-box: warning: images: [^\n]*--format[^\n]*\n\Z")

    def test_shared_sizes(self):
        """What one image has alone goes with it."""
        size = {}
        for line in self.lines("df", "-v"):
            words = re.split(r" {2,}", line.strip())
            if words[0] in ("old", "mid/er"):
                size[words[0]] = words[4:7]
        before = self.blocks()
        shared, unique = size["old"][1:]
        self.assertNotEqual(shared, "0B")  # the layer that all have
        self.home.ok("rmi", "old:1")
        self.assertAlmostEqual(before - self.blocks(), self.bytes_of(unique), delta=50)  # "28.7kB"

    def blocks(self):
        paths = [self.home.path / "images", *(self.home.path / "images").rglob("*")]
        return sum(p.lstat().st_blocks * 512 for p in paths)

    def files(self):
        return sum(p.is_file() and p.name != "lock" for p in (self.home.path / "images").rglob("*"))

    @staticmethod
    def bytes_of(text):
        number, unit = re.fullmatch(r"([0-9.]+)([kMG]?)B", text).groups()
        return round(float(number) * 1000 ** " kMG".index(unit or " "))

    def test_df(self):
        (row,) = [json.loads(x) for x in self.lines("df", "--format", "json") if "Images" in x]
        self.assertEqual((row["TotalCount"], row["Active"]), ("3", "0"))
        there = self.blocks()
        self.assertAlmostEqual(self.bytes_of(row["Size"]), there, delta=there / 100)
        self.assertRegex(row["Reclaimable"], r"\(\d+%\)$")
        result = self.home.ok("image-prune", "-af")
        freed = int(re.search(r"\((\d+) bytes\)", result.text).group(1))
        self.assertEqual(there - self.blocks(), freed)
        self.assertAlmostEqual(self.bytes_of(row["Reclaimable"].split()[0]), freed, delta=freed / 100)
        self.assertEqual(self.files(), 0)


class Names(ImageCommandTest):
    @core
    def test_tag_and_rmi(self):
        image, _ = self.make("one:1")
        self.assert_out(self.home.run("tag", "one:1", "two"), "")
        self.home.ok("tag", image[7:15], "registry.example/three:3")
        self.assertEqual(self.inspect_image("one:1")["RepoTags"], ["one:1", "two:latest", "registry.example/three:3"])
        self.assert_one_line(self.home.run("rmi", image), 1, "it has 3 names")
        self.assert_out(self.home.run("rmi", "two"), "Untagged: two:latest\n")
        self.assert_out(self.home.run("rmi", "--no-prune", "registry.example/three:3"), "Untagged: registry.example/three:3\n")
        self.assert_out(self.home.run("rmi", "one:1"), "Untagged: one:1\nDeleted: %s\n" % image)

    def test_rmi_of_several(self):
        image, _ = self.make("one:1")
        self.home.ok("tag", "one:1", "two:2")
        result = self.home.run("rmi", "nosuch", "one:1", "two:2")
        self.assert_out(result, "Untagged: one:1\nUntagged: two:2\nDeleted: %s\n" % image, 1)
        self.assertEqual(result.err, b"a3s-box: rmi: no such image: nosuch\n")
        result = self.home.run("rmi", "-f", "nosuch")
        self.assert_rc(result, 0)
        self.assertEqual(result.err, b"a3s-box: rmi: no such image: nosuch\n")

    def test_rmi_by_force(self):
        image, _ = self.make("one:1")
        self.home.ok("tag", "one:1", "two:2")
        self.assert_out(self.home.run("rmi", "-f", image[:20]),
                        "Untagged: one:1\nUntagged: two:2\nDeleted: %s\n" % image)

    def test_bad_use(self):
        self.make("one:1")
        for args, match in ((["tag"], "needed"), (["tag", "one:1"], "needed"), (["tag", "one:1", "a", "b"], "needed"),
                            (["tag", "nosuch", "a"], "no such image: nosuch"), (["tag", "one:1", "UPPER"], "UPPER"),
                            (["tag", "one:1", ""], "reference|name"), (["tag", "one:1", "a@sha256:" + "0" * 64], "digest"),
                            (["tag", "--nosuch", "one:1", "a"], "--nosuch"), (["rmi"], "needed"),
                            (["rmi", "--nosuch", "x"], "--nosuch")):
            with self.subTest(args):
                self.assert_one_line(self.home.run(*args), 1, match)
        self.assertEqual(self.lines("images", "--format", "{{.Repository}}:{{.Tag}}"), ["one:1"])

    def test_events_and_audit(self):
        image, _ = self.make("one:1")
        self.home.ok("tag", "one:1", "two:2")
        self.home.ok("rmi", "two:2")
        lines = self.lines("events", "--json", "--since", "1m", "--until", "0s", "--filter", "type=image")
        events = [json.loads(x) for x in lines]
        self.assertEqual([e["Action"] for e in events[-3:]], ["load", "tag", "untag"])
        entry = json.loads(self.lines("audit", "--json", "--action", "tag")[-1])
        self.assertEqual((entry["images"], entry["outcome"]), ([image], "success"))


class Inspect(ImageCommandTest):
    CONFIG = {"Env": ["A=b", "PATH=/bin"], "Cmd": ["run", "me"], "Entrypoint": ["/init"], "WorkingDir": "/srv", "User": "7:8",
              "Labels": {"k": "v"}, "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Volumes": {"/data": {}},
              "StopSignal": "SIGINT",
              "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5000000000, "Retries": 3}, "OnBuild": ["RUN x"],
              "Shell": ["/bin/bash", "-c"]}

    @core
    def test_everything(self):
        image, manifest = self.make("one:1", config=self.CONFIG, history=HISTORY, platform="linux/amd64/v3",
                                    more={"author": "An Author", "variant": "v3"})
        found = self.inspect_image("one:1")
        expected = {"Id": image, "RepoTags": ["one:1"], "RepoDigests": [], "Created": "2023-03-04T05:06:07.000000000Z",
                    "Author": "An Author", "Architecture": "amd64", "Variant": "v3", "Os": "linux", "Parent": "",
                    "Comment": "buildkit.dockerfile.v0", "Metadata.LastTagTime": NEVER}
        for key, value in expected.items():
            with self.subTest(key):
                at = found
                for part in key.split("."):
                    at = at[part]
                self.assertEqual(at, value)
        self.assertEqual(found["Config"], self.CONFIG)
        self.assertEqual(found["RootFS"], {"Type": "layers", "Layers": [
            "sha256:" + hashlib.sha256(x).hexdigest() for x in (layer(one="one\n"), layer(two="x"))]})
        self.assertEqual(found["Descriptor"]["digest"], manifest)
        self.assertEqual(found["Descriptor"]["mediaType"], "application/vnd.oci.image.manifest.v1+json")
        self.assertGreater(found["Size"], 0)
        self.assertEqual(json.loads(self.home.ok("inspect", "one:1").out), [found])
        self.assertEqual(json.loads(self.home.ok("inspect", "--type", "image", image[7:20]).out), [found])

    def test_little(self):
        """As Docker shows what an image does not say."""
        self.make("one:1", created="0000-00-00", config={"Env": None, "Cmd": None})
        found = self.inspect_image("one:1")
        self.assertEqual(found["Created"], NEVER)
        self.assertEqual(found["Config"], {"Env": [], "Cmd": None, "Entrypoint": None, "User": "", "WorkingDir": "",
                                           "Volumes": None, "Labels": None, "OnBuild": None})
        self.assertNotIn("Variant", found)

    @core
    def test_formats_and_errors(self):
        image, _ = self.make("one:1", config=self.CONFIG)
        template = "{{.Id}} {{json .Config.Cmd}} {{.Variant}}{{.Config.Healthcheck.Retries}}"
        self.assert_out(self.home.run("image-inspect", "-f", template, "one:1", "one:1"), (image + ' ["run","me"] 3\n') * 2)
        result = self.home.run("image-inspect", "-f", "{{.Os}}", "one:1", "nosuch")
        self.assert_out(result, "linux\n", 1)
        self.assertEqual(result.err, b"a3s-box: image-inspect: no such image: nosuch\n")
        result = self.home.run("image-inspect", "nosuch")
        self.assert_out(result, "[]\n", 1)
        self.assert_one_line(self.home.run("image-inspect"), 1, "an image is needed")
        self.assert_one_line(self.home.run("image-inspect", "-f", "{{", "one:1"), 1, "--format")
        self.assert_one_line(self.home.run("image-inspect", "-f", "{{.Nosuch}}", "one:1"), 1, "Nosuch")


class History(ImageCommandTest):
    @core
    def test_columns(self):
        image, _ = self.make("one:1", "x" * 5000, history=HISTORY)
        lines = self.lines("history", "one:1")
        self.assertRegex(lines[0], r"^IMAGE +CREATED +CREATED BY +SIZE +COMMENT$")
        self.assertRegex(lines[1], r"^%s +\d years ago +RUN /bin/sh -c echo \u00fc one && \\   echo two an… +5kB +buildkit" %
                         image[7:19])
        self.assertRegex(lines[2], r"^<missing> +\d years ago +ENV A=b +0B +$")
        self.assertRegex(lines[3], r"^<missing> +\d years ago +/bin/sh -c #\(nop\) ADD file:0 in / +4B +$")
        self.assertEqual(len(lines), 4)
        self.assertEqual(self.lines("history", "-q", "--no-trunc", "one:1"), [image, "<missing>", "<missing>"])

    def test_options(self):
        image, _ = self.make("one:1", "x" * 5000, history=HISTORY)
        lines = self.lines("history", "--human=false", "--no-trunc", "one:1")
        self.assertRegex(lines[1], r"^%s +2023-03-04T05:06:07.000000000Z +RUN .*more than fits +5000 +buildkit" % image)
        self.assertEqual(self.lines("history", "--format", "{{.CreatedAt}} {{.Size}}", "one:1")[-1],
                         "2021-03-04T05:06:07.000000000Z 4B")
        row = json.loads(self.lines("history", "--format", "json", "one:1")[0])
        self.assertEqual(set(row), {"ID", "CreatedSince", "CreatedAt", "CreatedBy", "Size", "Comment"})
        for args, match in ((["history"], "needed"), (["history", "a", "b"], "needed"), (["history", "nosuch"], "no such image"),
                            (["history", "--format", "{{.X}}", "one:1"], "no field")):
            with self.subTest(args):
                self.assert_one_line(self.home.run(*args), 1, match)

    def test_a_terminal_is_not_driven(self):
        self.make("one:1", history=[{"created_by": "\x1b[2J\x07evil", "comment": "a\nb\x9b"}, {"created_by": "x"}])
        result = self.home.ok("history", "one:1")
        self.assertNotRegex(result.out, rb"[\x00-\x09\x0b-\x1f\x7f]")


class Prune(ImageCommandTest):
    def setUp(self):
        super().setUp()
        self.dangling = self.make("taken:1", "first")[0]
        self.named = self.make("taken:1", "second", config={"Labels": {"keep": "yes"}})[0]

    def ids(self):
        return set(self.lines("images", "-q", "--no-trunc"))

    @core
    def test_dangling(self):
        result = self.home.run("image-prune", input=b"n\n")
        self.assert_rc(result, 0)
        self.assertRegex(result.err, rb"\AWARNING! This will remove all images without a name\.\n.*\[y/N\] \Z")
        self.assertEqual(result.text, "Total reclaimed space: 0B\n")
        result = self.home.run("image-prune")
        self.assert_rc(result, 1)
        self.assertEqual(result.text, "")
        self.assertRegex(result.err, rb"\AWARNING! [^\n]*\n[^\n]*\[y/N\] \n"
                                     rb"a3s-box: image-prune: nobody confirmed it \([^\n]*-f[^\n]*\)\n\Z")
        self.assertEqual(self.ids(), {self.dangling, self.named})
        result = self.home.run("image-prune", input=b"y\n")
        self.assertRegex(result.text, r"\ADeleted Images:\ndeleted: %s\n\nTotal reclaimed space: [0-9.]+kB \(\d+ bytes\)\n\Z" %
                         self.dangling)
        self.assertEqual(self.ids(), {self.named})
        self.assert_out(self.home.run("image-prune", "-f"), "Total reclaimed space: 0B\n")

    @core
    def test_all_but_what_is_needed(self):
        other = self.make("other:1", "other")[0]
        self.home.ok("create", "--name", "holder", "other:1", "/one")
        result = self.home.run("image-prune", "-a", input=b"\n")
        self.assertIn(b"This will remove all images that no box needs.", result.err)
        result = self.home.ok("image-prune", "--all", "--force")
        self.assertEqual(set(result.lines[1:4]), {"deleted: " + self.dangling, "untagged: taken:1", "deleted: " + self.named})
        self.assertEqual(self.ids(), {other})
        self.home.ok("rm", "holder")
        self.home.ok("image-prune", "-af")
        self.assertEqual(self.ids(), set())
        self.home.ok("image-check")

    def test_several_names(self):
        self.home.ok("tag", "taken:1", "more:1")
        result = self.home.ok("image-prune", "-af")
        self.assertEqual(set(result.lines[1:5]), {"deleted: " + self.dangling, "untagged: taken:1", "untagged: more:1",
                                                  "deleted: " + self.named})

    def test_filters(self):
        for filters, left in (("label!=keep", {self.named}), ("label=nosuch", {self.named}),
                              ("until=2020-01-01T00:00:00Z", {self.named}), ("label=keep=yes", set())):
            with self.subTest(filters):
                self.home.ok("image-prune", "-af", "--filter", filters)
                self.assertEqual(self.ids(), left)
        for wrong, match in (("dangling=x", "expected true or false"), ("reference=x", "no such filter.*dangling, label, label!"),
                             ("label=", "a value is missing"), ("label", "no such filter")):
            with self.subTest(wrong):
                self.assert_one_line(self.home.run("image-prune", "-f", "--filter", wrong), 1, match)
        self.assert_one_line(self.home.run("image-prune", "-f", "x"), 1, "no arguments")

    def test_dangling_as_a_filter(self):
        """As -a and its contrary; where both are said, less goes."""
        result = self.home.run("image-prune", "--filter", "dangling=false", input=b"n\n")
        self.assertIn(b"This will remove all images that no box needs that the filters select.", result.err)
        self.home.ok("image-prune", "-f", "--filter", "dangling=false", "--filter", "label!=keep")
        self.assertEqual(self.ids(), {self.named})
        for args in (("-a", "--filter", "dangling=true"), ("--filter", "dangling=false", "--filter", "dangling=true"), ()):
            self.home.ok("image-prune", "-f", *args)
            self.assertEqual(self.ids(), {self.named})
        self.home.ok("image-prune", "-f", "--filter", "dangling=false")
        self.assertEqual(self.ids(), set())

    def test_what_only_a_box_still_needs(self):
        """Its names are gone, and its space is not: images -a and df -v show it."""
        self.home.ok("create", "--name", "holder", "taken:1", "/one")
        self.home.ok("rmi", "-f", "taken:1")
        self.assertEqual(self.ids(), {self.dangling})
        self.assertEqual(set(self.lines("images", "-aq", "--no-trunc")), {self.dangling, self.named})
        self.assertEqual(self.lines("images", "-a", "--filter", "label=keep", "--format", "{{.Repository}} {{.Containers}}"),
                         ["<none> 1"])
        self.assertRegex(self.home.ok("df", "-v").text, r"(?m)^<none> +<none> +%s .* 1$" % self.named[7:19])
        self.home.ok("rm", "holder")
        self.assertEqual(self.lines("images", "-aq", "--no-trunc"), [self.dangling])

    def test_downloads_that_were_cut_off(self):
        partial = self.home.path / "images" / "partial"
        partial.mkdir(exist_ok=True)
        if os.geteuid() == 0:
            info = (self.home.path / "images").stat()
            os.chown(partial, info.st_uid, info.st_gid)
        (partial / ("sha256-" + "0" * 64)).write_bytes(os.urandom(100000))
        result = self.home.ok("image-prune", "-f", "--filter", "label=nosuch")
        self.assertEqual(list(partial.iterdir()), [])
        self.assertRegex(result.text, r"\((10[0-9]{4}) bytes\)")


class Check(ImageCommandTest):
    def blob(self, digest):
        return self.home.path / "images" / "blobs" / "sha256" / digest[7:]

    @core
    def test_good(self):
        self.assert_out(self.home.run("image-check"), "No faults\n")
        self.make("one:1")
        self.assert_out(self.home.run("image-check", "-q"), "No faults\n")
        self.assert_one_line(self.home.run("image-check", "x"), 1, "no arguments")

    @core
    def test_damaged(self):
        image, _ = self.make("one:1")
        self.make("two:2", "two")
        path = self.blob(image)
        data = path.read_bytes()
        path.chmod(0o600)
        path.write_bytes(data[:-1] + b" ")
        result = self.home.run("image-check")
        self.assertEqual(result.rc, 1)
        self.assertIn(image, result.text)
        self.assertRegex(result.text, r"Faults: \d+\n\Z")
        self.assertRegex(result.err, rb"\Aa3s-box: image-check: \d+ faults? (is|are) left in the image store "
                         rb"\([^\n]*--repair\)\n\Z")
        self.assertEqual(self.home.run("image-check", "--repair").rc, 1)  # it came from no registry
        self.assertIn("two:2", self.lines("images", "--format", "{{.Repository}}:{{.Tag}}"))
        self.make("one:1")
        self.assert_out(self.home.run("image-check"), "No faults\n")

    def test_damaged_disk(self):
        self.make("one:1")
        (disk,) = (self.home.path / "images" / "disks").iterdir()
        disk.chmod(0o600)
        with open(disk, "r+b") as f:
            f.truncate(4096)
        self.assertEqual(self.home.run("image-check").rc, 1)
        result = self.home.ok("image-check", "--repair")
        self.assertRegex(result.text, r"Faults: (\d+), repaired: \1\n\Z")
        self.assert_out(self.home.run("image-check"), "No faults\n")


class Archives(ImageCommandTest):
    def members(self, path):
        with tarfile.open(path) as tar:
            return set(tar.getnames())

    @core
    def test_save_to_a_file(self):
        self.make("one:1")
        path = self.home.tmp / "saved.tar"
        path.write_bytes(b"old")
        before = set(self.home.tmp.iterdir())
        self.assert_out(self.home.run("save", "-o", path, "one:1"), "")
        self.assertEqual(set(self.home.tmp.iterdir()), before)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertLessEqual({"manifest.json", "index.json", "oci-layout"}, self.members(path))
        self.assertEqual(self.home.ok("save", "one:1").out, path.read_bytes())
        self.assertEqual(self.home.ok("save", "-o", "-", "one:1").out, path.read_bytes())
        self.home.ok("save", "--format", "oci-archive", "--output", path, "one:1")
        self.assertNotIn("manifest.json", self.members(path))
        self.home.ok("rmi", "one:1")
        self.home.load(path)
        self.assertIn("one:1", self.lines("images", "--format", "{{.Repository}}:{{.Tag}}"))

    @core
    def test_save_that_fails_leaves_the_old_file(self):
        self.make("one:1")
        path = self.home.tmp / "saved.tar"
        path.write_bytes(b"old")
        before = set(self.home.tmp.iterdir())
        for args, match in ((["-o", path, "nosuch"], "no such image: nosuch"), (["-o", path, "one:1", "nosuch"], "nosuch"),
                            (["-o", path, "--platform", "linux/s390x", "one:1"], "s390x"),
                            (["-o", path, "--format", "zip", "one:1"], "docker-archive or oci-archive"),
                            (["-o", self.home.tmp, "one:1"], "directory"), (["-o", path / "x", "one:1"], "saved.tar/x"),
                            (["-o", "", "one:1"], "--output"), (["-o", path], "needed"), ([], "needed"),
                            (["-o", "/nosuch/x", "one:1"], "/nosuch/x: No such file")):
            with self.subTest(args):
                self.assert_one_line(self.home.run("save", *args), 1, match)
                self.assertEqual(path.read_bytes(), b"old")
                self.assertEqual(set(self.home.tmp.iterdir()), before)
        to_full = ("sh", "-c", '"$@" >/dev/full', "sh")
        self.assert_one_line(self.home.run("save", "one:1", wrap=to_full), 1, "No space left")

    def test_save_through_a_link_and_to_a_device(self):
        self.make("one:1")
        path, link = self.home.tmp / "saved.tar", self.home.tmp / "link"
        path.write_bytes(b"old")
        link.symlink_to("saved.tar")
        self.home.ok("save", "-o", link, "one:1")
        self.assertTrue(link.is_symlink())
        self.assertIn("manifest.json", self.members(path))
        self.home.ok("save", "-o", "/dev/null", "one:1")
        self.assertTrue(stat.S_ISCHR(os.stat("/dev/null").st_mode))

    def test_save_that_is_killed(self):
        self.make("one:1", os.urandom(3000000))
        before = {p.name for p in self.home.tmp.iterdir()} | {"saved.tar"}
        for _ in range(5):
            p = self.home.popen("save", "-o", self.home.tmp / "saved.tar", "one:1")
            time.sleep(0.01)
            p.send_signal(signal.SIGKILL)
            p.communicate()
            if p.returncode:
                self.assertLessEqual({p.name for p in self.home.tmp.iterdir()}, before)

    @core
    def test_load(self):
        path = self.home.tmp / "a.tar"
        image, _ = make_archive(path, "one:1", [layer(a="a")])
        self.assert_out(self.home.run("load", "-qi", path), "Loaded image: one:1\n")
        for args, match in ((["load", "-i", "/nosuch"], "/nosuch"), (["load", "x"], "no arguments"),
                            (["load", "-i", path, "--platform", "linux/s390x"], "s390x"),
                            (["load", "-i", self.home.tmp], "directory")):
            with self.subTest(args):
                self.assert_one_line(self.home.run(*args), 1, match)
        self.assertEqual(self.inspect_image("one:1")["Id"], image)

    def root(self):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for name in ("etc/passwd", "one"):
                info = tarfile.TarInfo(name)
                info.size = 4
                tar.addfile(info, io.BytesIO(b"text"))
        return out.getvalue()

    @core
    def test_import(self):
        path = self.home.tmp / "root.tar"
        path.write_bytes(self.root())
        result = self.home.ok("import", "-c", 'CMD ["/one"]', "-c", "ENV A=b", "-m", "a message", path, "made:1")
        self.assertRegex(result.text, r"\Asha256:[0-9a-f]{64}\n\Z")
        found = self.inspect_image("made:1")
        self.assertEqual((found["Id"], found["Config"]["Cmd"], found["Comment"]), (result.text.strip(), ["/one"], "a message"))
        self.assertIn("A=b", found["Config"]["Env"])
        self.assertRegex(self.lines("history", "made:1")[1], "a message")
        again = self.home.ok("import", "-", input=self.root())
        self.assertIn(again.text.strip(), self.lines("images", "-q", "--no-trunc", "-f", "dangling=true"))
        self.home.ok("image-check")

    def test_import_errors(self):
        path = self.home.tmp / "root.tar"
        path.write_bytes(self.root())
        for args, match in ((["import"], "needed"), (["import", "a", "b", "c"], "needed"), (["import", "/nosuch"], "/nosuch"),
                            (["import", "https://x.example/root.tar"], "only a file"), (["import", path, "UPPER"], "UPPER"),
                            (["import", "-c", "FROM x", path], "FROM"),
                            (["import", "-c", "EXPOSE 80/zip", path, "x"], "EXPOSE|80/zip"),
                            (["import", "--platform", "nosuch", path], "platform|nosuch")):
            with self.subTest(args):
                self.assert_one_line(self.home.run(*args), 1, match)
        self.assert_one_line(self.home.run("import", "-", input=b"no tar" * 1000), 1, "standard input")
        self.assertEqual(self.lines("images", "-q"), [])

    def test_terminals(self):
        self.make("one:1")
        for args, said in ((["save", "one:1"], b"standard output is a terminal.*-o FILE"),
                           (["load"], b"standard input is a terminal"),
                           (["import", "-"], b"standard input is a terminal")):
            with self.subTest(args), a3s.Terminal(self.home, *args) as t:
                t.read_until(said)


class Speed(ImageCommandTest):
    def test_many_images(self):
        """Five hundred images are listed at once. Only the database has them: listing reads no more."""
        _, manifest = self.make("many:1", config=Inspect.CONFIG)
        with contextlib.closing(sqlite3.connect(self.home.path / "state.db")) as db, db:
            columns = [row[1] for row in db.execute("PRAGMA table_info(image_manifests)")]
            row = dict(zip(columns, db.execute("SELECT * FROM image_manifests WHERE digest = ?", (manifest,)).fetchone()))
            for n in range(499):
                row.update(digest=SCRIPT.sha256(b"m%d" % n), config=SCRIPT.sha256(b"c%d" % n), created_ns=n * 10**15)
                db.execute("INSERT INTO image_manifests(%s) VALUES(%s)" % (",".join(columns), ",".join("?" * len(columns))),
                           [row[c] for c in columns])
                db.execute("INSERT INTO image_names(name, repo, digest, manifest) VALUES(?, ?, ?, ?)",
                           ("docker.io/of/many%d:1" % n, "docker.io/of/many%d" % n, row["digest"], row["digest"]))
        results = [self.home.ok("images") for _ in range(5)]
        self.assertEqual(len(results[0].lines), 501)
        self.assertEqual(len(self.lines("images", "of/many1?")), 11)
        # The benchmark has the target of 30 ms; this is what a busy host may make of it.
        self.assertLess(min(r.seconds for r in results), 0.15 * a3s.SLOW)
        with contextlib.closing(sqlite3.connect(self.home.path / "state.db")) as db, db:
            db.execute("DELETE FROM image_names WHERE manifest <> ?", (manifest,))
            db.execute("DELETE FROM image_manifests WHERE digest <> ?", (manifest,))
