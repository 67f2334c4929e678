"""Volumes: folders that outlive boxes and that several use at once. Made, filled, shared, kept and removed, also when something
is killed half-way or there is no room; and what df and system-prune say of them, to the byte."""

import contextlib
import io
import json
import os
import random
import signal
import sqlite3
import subprocess
import tarfile
import threading
import time

from a3s import EMULATION_WARNING, BoxTest, core, slow, wait_for

SEED = int(os.environ.get("A3S_TEST_SEED", random.SystemRandom().randrange(1 << 32)))
KILLS = 50
BIG = 6_000_000


def du(*paths):
    """Allocated bytes of trees, each file once."""
    argv = ["du", "-s", "--block-size=1", "--", *map(str, paths)]
    out = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return sum(int(line.split()[0]) for line in out.splitlines())


def image(home, archive, ref, tree, *changes):
    """An image of the busybox in archive and more: tree is a list of (path, type, mode, uid, gid, content or target, pax)."""
    base = home.tmp / "base.tar"
    if not base.exists():
        with tarfile.open(archive) as layout:
            index = json.load(layout.extractfile("index.json"))
            while "manifests" in index:
                index = json.load(layout.extractfile("blobs/" + index["manifests"][0]["digest"].replace(":", "/")))
            (layer,) = index["layers"]
            base.write_bytes(layout.extractfile("blobs/" + layer["digest"].replace(":", "/")).read())
    path = home.tmp / "image.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as out:
        with tarfile.open(base) as old:
            for m in old:
                out.addfile(m, old.extractfile(m) if m.isreg() else None)
        for name, kind, mode, uid, gid, what, pax in tree:
            m = tarfile.TarInfo(name)
            m.type, m.mode, m.uid, m.gid, m.mtime, m.pax_headers = kind, mode, uid, gid, 1_600_000_000, dict(pax)
            if kind == tarfile.REGTYPE:
                m.size = len(what)
            elif kind == tarfile.CHRTYPE:
                m.devmajor, m.devminor = what
            elif what:
                m.linkname = what
            out.addfile(m, io.BytesIO(what) if kind == tarfile.REGTYPE else None)
    args = [x for c in ("ENV PATH=/bin:/usr/bin", *changes) for x in ("-c", c)]
    home.ok("import", *args, path, ref)
    path.unlink()


DIR, REG, SYM, LNK, FIFO, CHR = (tarfile.DIRTYPE, tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE,
                                 tarfile.CHRTYPE)
CAPABILITY = b"\1\0\0\2\0\4" + bytes(14)  # cap_net_bind_service, effective and permitted
TREE = [
    ("data", DIR, 0o2775, 70, 71, None, {}),
    ("data/file", REG, 0o640, 70, 71, b"content\n", {"SCHILY.xattr.user.note": "x y"}),
    ("data/setuid", REG, 0o4755, 0, 0, b"#!/bin/sh\n", {"SCHILY.xattr.security.capability": CAPABILITY.decode()}),
    ("data/readonly", DIR, 0o555, 1000, 1000, None, {}),
    ("data/readonly/in", REG, 0o400, 1000, 1000, b"in\n", {}),
    ("data/name", LNK, 0, 0, 0, "data/file", {}),
    ("data/link", SYM, 0o777, 5, 71, "file", {}),
    ("data/again", LNK, 0, 0, 0, "data/link", {}),
    ("data/out", SYM, 0o777, 0, 0, "/etc/passwd", {}),
    ("data/fifo", FIFO, 0o622, 5, 6, None, {}),
    ("data/null", CHR, 0o666, 0, 0, (1, 3), {}),
    ("data/odd \n\x1b[31m\xc3\xa9", REG, 0o644, 0, 0, b"odd\n", {}),
    ("empty", DIR, 0o1777, 33, 34, None, {}),
    ("way", SYM, 0o777, 0, 0, "/data/../data", {}),
    ("single", REG, 0o644, 0, 0, b"a file\n", {}),
    ("big", DIR, 0o755, 0, 0, None, {}),
    *[("big/%d" % i, REG, 0o644, 0, 0, bytes([i]) * (BIG // 6), {}) for i in range(6)],
]
# What a box sees of a tree: all of it, sums included.
LOOK = "cd %s && find . -print0 | sort -z | xargs -0 -n 1 sh -c 'stat -c \"%%N %%f %%u %%g %%h %%t:%%T %%Y\" \"$0\"; " \
       "[ -d \"$0\" ] || stat -c %%s \"$0\"; [ -L \"$0\" ] || [ ! -f \"$0\" ] || md5sum <\"$0\"'; true"


class VolumeTest(BoxTest):
    @classmethod
    def image(cls, ref, tree, *changes):
        image(cls.home, cls.image_file("box"), ref, tree, *changes)

    def mount(self, where, options):
        if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", options, "x", where], check=False).returncode:
            self.skipTest("no file system can be mounted here")

    def volume(self, name):
        return self.home.path / "volumes" / name

    def folders(self):
        top = self.home.path / "volumes"
        self.assertEqual(os.listdir(top / ".gone") if (top / ".gone").exists() else [], [])
        return set(os.listdir(top)) - {".gone"} if top.exists() else set()

    def names(self, *args):
        return self.home.ok("volume", "ls", "-q", *args).lines

    def clean(self):
        """No box and no volume is left, and nothing of theirs."""
        for box in self.home.boxes():
            self.home.ok("rm", "-f", "-v", box)
        if self.names():
            self.home.ok("volume", "rm", *self.names())
        self.assertEqual(self.folders(), set())

    def tearDown(self):
        with contextlib.suppress(AssertionError):
            self.clean()
        super().tearDown()

    def sums(self):
        rows = [json.loads(line) for line in self.home.ok("df", "--format", "json").lines]
        return {r["Type"]: r for r in rows}


class Records(VolumeTest):
    """What needs no machine: boxes are made and not started."""

    def create(self, name, *args):
        return self.home.ok("create", "--name", name, *args, "box", "true").text.strip()

    @core
    def test_made_with_the_box(self):
        self.create("a", "-v", "one:/x", "-v", "/y", "--mount", "type=volume,source=two,target=/z,readonly")
        anonymous = [n for n in self.names() if len(n) == 64]
        self.assertEqual((self.names("-f", "name=o"), len(anonymous)), (["one", "two"], 1))
        # A box that cannot be made makes no volume.
        self.assert_one_line(self.home.run("create", "--name", "a", "-v", "three:/x", "box", "true"), 125, "in use|taken|already")
        self.assert_one_line(self.home.run("create", "-v", "x:/x", "box", "true"), 125)
        self.assertNotIn("three", self.names())
        self.assert_one_line(self.home.run("volume", "rm", "one"), 1, r"in use by 1 box \(a: remove them first")
        self.create("b", "-v", "one:/x")
        self.assert_one_line(self.home.run("volume", "rm", "one"), 1, r"in use by 2 boxes \(a, b: ")
        self.assertEqual(self.names("-f", "dangling=true"), [])
        self.home.ok("rm", "a")
        self.assertEqual(sorted(self.names("-f", "dangling=true")), sorted(["two", *anonymous]))
        # By a beginning of its name, like a box.
        self.home.ok("volume", "rm", anonymous[0][:8])
        self.assertEqual(self.names(), ["one", "two"])

    @core
    def test_anonymous_ones_go_with_their_box(self):
        self.create("keep", "-v", "/y")
        (kept,) = self.names()
        self.home.ok("rm", "keep")
        self.assertEqual(self.names(), [kept])
        self.create("a", "-v", "/y", "-v", "named:/n", "-v", kept + ":/k")
        self.create("b", "-v", "/y")
        self.create("c", "--rm", "-v", "/y")
        self.assertEqual(len(self.names()), 5)
        self.assertEqual(self.home.ok("rm", "-v", "a", "b").lines, ["a", "b"])
        self.assertEqual(len(self.names()), 3)  # the one that was there before was not made for it
        self.home.ok("rm", "-f", "c")
        self.assertEqual(sorted(self.names()), sorted([kept, "named"]))
        # One that somebody else needs stays.
        self.create("a", "-v", "/y")
        (shared,) = set(self.names()) - {kept, "named"}
        self.create("b", "-v", shared + ":/y")
        self.home.ok("rm", "-v", "a")
        self.assertIn(shared, self.names())
        self.home.ok("rm", "-v", "b")
        self.assertIn(shared, self.names())

    def test_labels_filters_and_prune(self):
        for name, labels in (("v1", ("a=1", "b")), ("v2", ("a=2",)), ("v3", ())):
            self.home.ok("volume", "create", *[x for label in labels for x in ("--label", label)], name)
        self.create("a", "-v", "v1:/x")
        self.assertEqual(self.names("-f", "label=a"), ["v1", "v2"])
        self.assertEqual(self.names("-f", "label=a", "-f", "label=b"), ["v1"])
        self.assertEqual(self.names("-f", "name=v1", "-f", "name=v3"), ["v1", "v3"])
        self.assertEqual(self.names("-f", "dangling=1", "-f", "label=a=2"), ["v2"])
        anonymous = self.home.ok("volume", "create").text.strip()
        self.assertEqual(self.names("-f", "label=com.docker.volume.anonymous"), [anonymous])
        self.assertIn("Deleted Volumes:\n%s\n\n" % anonymous, self.home.ok("volume", "prune", "-f").text)
        self.assertIn("Deleted Volumes:\nv3\n\n", self.home.ok("volume", "prune", "-a", "-f", "--filter", "label!=a").text)
        self.home.ok("volume", "prune", "-f", "--filter", "all=1", "--filter", "label=a=2")
        self.assertEqual(self.names(), ["v1"])
        seen = json.loads(self.home.ok("volume", "inspect", "v1").out)[0]
        self.assertEqual((seen["Driver"], seen["Labels"], seen["Name"], seen["Options"], seen["Scope"]),
                         ("local", {"a": "1", "b": ""}, "v1", {}, "local"))
        self.assertEqual(seen["Mountpoint"], str(self.volume("v1") / "data"))

    def test_events(self):
        since = str(time.time())
        self.home.ok("volume", "create", "ev")
        self.home.ok("volume", "create", "ev")
        self.create("a", "-v", "ev:/x", "-v", "/y")
        self.home.ok("rm", "-v", "a")
        self.home.ok("volume", "rm", "ev")
        out = self.home.ok("events", "--since", since, "--until", str(time.time() + 1), "--filter", "type=volume", "--format",
                           "{{.Action}} {{len .Actor.ID}} {{.Actor.Attributes.driver}}").lines
        self.assertEqual(out, ["create 2 local", "create 64 local", "destroy 64 local", "destroy 2 local"])

    def fill_by_hand(self, name, size):
        self.home.ok("volume", "create", name)
        data = self.volume(name) / "data"
        (data / "sub").mkdir()
        (data / "sub" / "file").write_bytes(os.urandom(size))
        os.link(data / "sub" / "file", data / "again")
        os.symlink("/", data / "root")
        with open(data / "sparse", "wb") as f:
            f.seek(1 << 30)
            f.write(b"x")
        os.sync()
        return self.volume(name)

    @core
    def test_df_is_what_du_says(self):
        used, unused = self.fill_by_hand("used", 300_001), self.fill_by_hand("unused", 1_234_567)
        self.create("a", "-v", "used:/x", "-v", "used:/y", "-v", "unmade:/z")
        row = self.sums()["Local Volumes"]
        self.assertEqual((row["TotalCount"], row["Active"]), ("3", "2"))
        self.assertEqual(int(row["SizeBytes"]), du(used, unused))
        self.assertEqual(int(row["ReclaimableBytes"]), du(unused))
        one = json.loads(self.home.ok("df", "-v", "--format", "{{json .}}").out)
        self.assertEqual({v["Name"]: (v["Links"], int(v["SizeBytes"])) for v in one["Volumes"]},
                         {"used": ("1", du(used)), "unused": ("0", du(unused)), "unmade": ("1", 0)})
        (box,) = one["Containers"]
        self.assertEqual((box["LocalVolumes"], int(box["SizeBytes"])), ("3", du(self.home.path / "boxes" / self.home.boxes()[0])))
        text = self.home.ok("volume", "prune", "-a", "-f").text
        self.assertEqual(int(self.sums()["Local Volumes"]["ReclaimableBytes"]), 0)
        self.assertRegex(text, r"Total reclaimed space: 1\.\d+MB \(\d+ bytes\)\n")

    def test_prune_reclaims_what_du_says(self):
        unused = self.fill_by_hand("unused", 2_000_000)
        before = du(unused)
        self.assertIn("(%d bytes)" % before, self.home.ok("volume", "prune", "-af").text)
        self.assertFalse(unused.exists())

    @core
    def test_system_prune(self):
        home = self.home.path
        self.image("dangling:1", [("extra", REG, 0o644, 0, 0, os.urandom(500_000), {})])
        self.image("dangling:1", [("extra", REG, 0o644, 0, 0, os.urandom(500_000), {})])
        self.image("named:1", [("extra", REG, 0o644, 0, 0, os.urandom(400_000), {})])
        self.create("stopped", "-v", "/y", "-v", "named:/n")
        (anonymous,) = [n for n in self.names() if len(n) == 64]
        self.home.ok("volume", "create", "lone")
        (self.volume("lone") / "data/file").write_bytes(b"x" * 100_000)
        self.home.ok("volume", "create", anonymous)  # its folder
        (self.volume(anonymous) / "data").mkdir(parents=True, exist_ok=True)
        (self.volume(anonymous) / "data/file").write_bytes(os.urandom(700_000))
        self.home.ok("network", "create", "lonely")
        os.sync()
        places = [home / x for x in ("boxes", "volumes", "images")]
        before = du(*places)
        result = self.home.run("system-prune", "--volumes", input=b"no\n")
        self.assert_out(result, "Total reclaimed space: 0B\n")
        self.assertEqual(du(*places), before)
        text = self.home.ok("system-prune", "--volumes", "-f").text
        for part in ("Deleted Boxes:\n", "Deleted Networks:\nlonely\n\n", "Deleted Volumes:\n%s\n\n" % anonymous,
                     "Deleted Images:\n"):
            self.assertIn(part, text)
        self.assertIn("(%d bytes)" % (before - du(*places)), text)
        self.assertEqual(self.names(), ["lone", "named"])
        self.assertIn("named", self.home.ok("images").text)
        before = du(*places)
        text = self.home.ok("system", "prune", "-a", "-f", "--filter", "label!=nosuch").text
        self.assertIn("(%d bytes)" % (before - du(*places)), text)
        self.assertEqual(len(self.home.ok("images").lines), 1)
        self.assertEqual(self.names(), ["lone", "named"])
        self.home.load(self.image_file("box"))

    def test_commands_killed_at_random(self):
        """Volumes and boxes that need them, made and removed by commands that are killed at any moment."""
        rng = random.Random("%d commands" % SEED)
        self.home.ok("volume", "create", "first")
        self.create("first", "-v", "first:/x")
        self.clean()
        before = self.home.rest()
        for n in range(KILLS):
            with self.subTest(seed=SEED, round=n):
                running = []
                for _ in range(3):
                    args = rng.choice([("volume", "create", "vol"), ("volume", "rm", "vol"), ("volume", "prune", "-af"),
                                       ("create", "--name", "b%d" % rng.randrange(3), "-v", "vol:/x", "-v", "/y", "box", "true"),
                                       ("rm", "-v", "b0", "b1", "b2"), ("rm", "-fv", "b0", "b1"),
                                       ("system-prune", "-f", "--volumes")])
                    running.append(self.home.popen(*args))
                time.sleep(rng.uniform(0, 0.06))
                for p in running:
                    p.kill()
                    p.communicate()
                # What the next command sees is whole: each box has its volumes, and no other is in use.
                used = set()
                for box in self.home.boxes():
                    mounts = self.home.inspect(box)["Mounts"]
                    self.assertEqual(len(mounts), 2)
                    used |= {m["Name"] for m in mounts}
                self.assertEqual(set(self.names("-f", "dangling=false")), used)
                with contextlib.closing(sqlite3.connect(self.home.path / "state.db")) as db:
                    self.assertEqual(db.execute("SELECT count(*) FROM volumes WHERE removing").fetchone(), (0,))
                    known = {name for (name,) in db.execute("SELECT name FROM volumes")}
                self.assertLessEqual(self.folders(), known)
        self.clean()
        self.assertEqual(self.home.settle(before), "")

    def test_no_room(self):
        """A full disk: one line, and nothing is made."""
        where = self.home.path / "volumes"
        where.mkdir(exist_ok=True)
        self.mount(where, "nr_inodes=5")
        try:
            self.home.ok("volume", "create", "fits")
            self.assert_one_line(self.home.run("volume", "create", "more"), 1, "No space left on device")
            self.assertEqual((self.names(), self.folders()), (["fits"], {"fits"}))
            self.home.ok("volume", "rm", "fits")
            self.home.ok("volume", "create", "more")
        finally:
            subprocess.run(["umount", "-l", where], check=True)


class Running(VolumeTest):
    """With boxes that run."""

    @classmethod
    def prepare(cls):
        cls.image("full:1", TREE, "VOLUME /data")

    def sh(self, *args, script):
        return self.home.ok("run", "--rm", *args, "sh", "-c", script)

    @core
    def test_outlives_boxes(self):
        self.sh("-v", "keep:/d", "box",
                script="echo kept >/d/f; chown 70:71 /d/f; chmod 4750 /d/f; ln -s f /d/l; mkdir -m 700 /d/s")
        self.assertEqual(self.sh("-v", "keep:/other", "box", script="cat /other/l; stat -c '%u %g %a' /other/f /other/s").lines,
                         ["kept", "70 71 4750", "0 0 700"])
        # On the host everything is the user's, and nothing is setuid.
        st = os.lstat(self.volume("keep") / "data" / "f")
        self.assertEqual((st.st_uid, st.st_mode & 0o7000), (os.lstat(self.home.path).st_uid, 0))
        self.assertEqual((self.volume("keep") / "data" / "f").read_text(), "kept\n")

    @core
    def test_filled_from_the_image(self):
        """What a new volume has is what the image has, whatever way the mount says it."""
        inside = self.sh("--mount", "type=volume,target=/nothing", "full:1", script=LOOK % "/data").text
        self.assertRegex(inside, r"(?m)^\./file 81a0 70 71 2 ")
        self.assertRegex(inside, r"(?m)^'\./link' -> 'file' a1ff 5 71 2 ")
        self.assertEqual(self.sh("-v", "named:/data", "full:1", script=LOOK % "/data").text, inside)
        self.assertEqual(self.sh("-v", "named:/elsewhere", "box", script=LOOK % "/elsewhere").text, inside)
        # What only the system may set is kept beside what everybody may.
        data = self.volume("named") / "data"
        self.assertEqual(os.getxattr(data / "file", "user.note"), b"x y")
        self.assertEqual(os.getxattr(data / "setuid", "user.a3s.x.security.capability"), CAPABILITY)
        # The image's own folder, without a volume: the image without its VOLUME.
        self.image("plain:1", TREE)
        self.assertEqual(self.sh("plain:1", script=LOOK % "/data").text, inside)
        # By a link of the image.
        self.assertEqual(self.sh("-v", "bylink:/way", "plain:1", script=LOOK % "/way/").text, inside)
        # A folder with nothing in it gives its owner and mode.
        self.assertEqual(self.sh("-v", "empty:/empty", "plain:1", script="stat -c '%u %g %a' /empty").text, "33 34 1777\n")
        # Nothing there: root's, and everybody may look.
        self.assertEqual(self.sh("-v", "none:/not/there", "plain:1", script="stat -c '%u %g %a' /not/there").text, "0 0 755\n")

    @core
    def test_links_have_owners(self):
        """A symbolic link's are its own: made, given away, copied, packed, and asked for where a folder is sticky."""
        box = self.home.run_detached("-v", "links:/v", "box", "sleep", "100000")

        def sh(script, *options):
            result = self.home.run("exec", *options, box, "sh", "-c", script)
            return result.text + result.err.decode()

        look = "(cd %s && find . -type l | sort | xargs stat -c '%%N %%u %%g %%s %%h')"
        try:
            self.assertEqual(sh("mkdir -m 1777 /v/s; cd /v/s; ln -s /nowhere/else root; ln -s t given; chown -h 5:6 given; "
                                "ln given name; readlink name; ls -l | grep -c ^l"), "t\n3\n")
            self.assertEqual(sh("cd /v/s; ln -s a own; ln -s b kept; rm own; mv kept named; readlink named", "-u", "7:8"), "b\n")
            self.assertIn("not permitted", sh("rm -f /v/s/named", "-u", "9:9"))
            seen = sh(look % "/v/s")
            self.assertEqual(seen.splitlines(), ["'./given' -> 't' 5 6 1 2", "'./name' -> 't' 5 6 1 2",
                                                 "'./named' -> 'b' 7 8 1 1", "'./root' -> '/nowhere/else' 0 0 13 1"])
            # To a disk and back.
            sh("cp -a /v/s /disk; cp -a /disk /v/copied")
            self.assertEqual(sh(look % "/v/copied").replace(" 2\n", " 1\n"), seen.replace(" 2\n", " 1\n"))
            self.assertEqual(sh("chown -R 70:71 /v/copied; find /v/copied ! -user 70"), "")
            # Out of the box and into it, by our own hands.
            out = self.home.run("cp", "-a", box + ":/v/s", "-").out
            with tarfile.open(fileobj=io.BytesIO(out)) as t:
                owners = {m.name: (m.uid, m.gid, m.linkname) for m in t if m.issym()}
            self.assertEqual(owners["s/named"], (7, 8, "b"))
            self.assertEqual(owners["s/root"], (0, 0, "/nowhere/else"))
            self.assertEqual(sh("mkdir /v/in"), "")
            self.assertEqual(self.home.run("cp", "-a", "-", box + ":/v/in", input=out).rc, 0)
            self.assertEqual(sh(look % "/v/in/s"), seen)
        finally:
            self.home.run("rm", "-f", box)
            self.home.run("volume", "rm", "links")

    @core
    def test_not_filled(self):
        count = "ls -A %s | wc -l"
        self.assertEqual(self.sh("-v", "n1:/data:nocopy", "full:1", script=count % "/data").text, "0\n")
        self.assertEqual(self.sh("--mount", "type=volume,source=n2,target=/data,volume-nocopy", "full:1",
                                 script=count % "/data").text, "0\n")
        # Something is in it.
        self.sh("-v", "n3:/d", "box", script="touch /d/mine")
        self.assertEqual(self.sh("-v", "n3:/data", "full:1", script="ls -A /data").text, "mine\n")
        # What a box removed does not come back when it starts again.
        self.home.run("run", "--name", "again", "-v", "n4:/empty", "full:1", "sh", "-c",
                      "rmdir /empty/x || mkdir /empty/x; chmod 700 /empty")
        self.home.ok("start", "-a", "again")
        self.assertEqual(self.sh("-v", "n4:/m", "box", script="stat -c %a /m; ls -A /m").lines, ["700"])
        # On a file of the image.
        self.assert_one_line(self.home.run("run", "--rm", "-v", "n5:/single", "full:1", "true"), 125,
                             "/single is a file in the image")

    def test_filled_once_by_boxes_that_start_together(self):
        boxes = [self.home.popen("run", "--rm", "-v", "once:/big", "full:1", "sh", "-c", "cat /big/* | md5sum; ls /big | wc -l")
                 for _ in range(4)]
        seen = {p.communicate(timeout=120)[0] for p in boxes}
        self.assertEqual(len(seen), 1, seen)
        self.assertTrue(seen.pop().endswith(b"\n6\n"))

    def test_image_volumes(self):
        """VOLUME: anonymous, filled, gone with --rm, kept without."""
        self.assertEqual(self.sh("full:1", script="cat /data/file; touch /data/new").text, "content\n")
        self.assertEqual(self.names(), [])
        self.home.ok("run", "--name", "a", "full:1", "touch", "/data/new")
        (name,) = self.names()
        self.assertEqual(self.home.ok("start", "-a", "a").rc, 0)
        self.assertEqual(self.sh("-v", name + ":/d", "box", script="ls /d/new").text, "/d/new\n")
        self.home.ok("rm", "a")
        self.assertEqual(self.names(), [name])

    @core
    def test_read_only_and_subpath(self):
        self.sh("-v", "part:/d", "box", script="mkdir -p /d/a/b; echo deep >/d/a/b/f; ln -s /etc /d/out")
        mount = "type=volume,source=part,target=/m,volume-subpath=a/b"
        self.assertEqual(self.sh("--mount", mount, "box", script="cat /m/f").text, "deep\n")
        for bad in ("out", "../.."):
            mount = "type=volume,source=part,target=/m,volume-subpath=" + bad
            result = self.home.run("run", "--rm", "--mount", mount, "box", "true")
            self.assert_rc(result, 125)
            self.assertRegex(EMULATION_WARNING.sub(b"", result.err), rb"\Aa3s-box: run: [^\n]*subpath[^\n]*\n\Z")
        result = self.home.run("run", "--rm", "-v", "part:/m:ro", "box", "sh", "-c", "cat /m/a/b/f; echo x >/m/a/b/f")
        self.assertEqual((result.text, result.rc), ("deep\n", 1))
        self.assertIn(b"Read-only file system", result.err)

    def test_bind_and_tmpfs_options(self):
        folder = self.home.tmp / "srv"
        folder.mkdir(exist_ok=True)
        (folder / "f").write_text("host\n")
        self.home.ok("volume", "create", "-o", "type=none", "-o", "o=bind,ro", "-o", "device=%s" % folder, "srv")
        self.home.ok("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,mode=1770", "mem")
        result = self.home.run("run", "--rm", "-v", "srv:/srv", "-v", "mem:/mem", "box", "sh", "-c",
                               "cat /srv/f; stat -f -c %T /mem; stat -c %a /mem; echo x >/srv/f")
        self.assertEqual((result.lines, result.rc), (["host", "tmpfs", "1770"], 1))
        self.home.ok("volume", "rm", "srv", "mem")
        self.assertEqual((folder / "f").read_text(), "host\n")
        self.home.ok("volume", "create", "-o", "o=bind", "-o", "device=%s/nosuch" % folder, "srv")
        self.assert_one_line(self.home.run("run", "--rm", "-v", "srv:/srv", "box", "true"), 125,
                             "volume srv: cannot open /.*/nosuch")

    @core
    def test_two_boxes_see_each_other(self):
        box = self.home.run_detached("-v", "both:/d", "box", "sh", "-c",
                                     "until [ -e /d/ask ]; do sleep 0.05; done; cat /d/ask >/d/answer; sleep 100000")
        ask = ("echo hello >/d/ask.new; mv /d/ask.new /d/ask; for i in $(seq 600); do "
               "[ -s /d/answer ] && break; sleep 0.05; done; cat /d/answer")
        self.assertEqual(self.sh("-v", "both:/d", "box", script=ask).text, "hello\n")
        self.home.ok("rm", "-f", box)

    def test_mount_events(self):
        since = str(time.time())
        self.home.ok("run", "--rm", "--name", "ev", "-v", "ev:/x:ro", "box", "true")
        out = self.home.ok("events", "--since", since, "--until", str(time.time() + 1), "--filter", "type=volume", "--format",
                           '{{.Action}} {{index .Actor.Attributes "destination"}} {{index .Actor.Attributes "read/write"}}').lines
        self.assertEqual([" ".join(x.replace("<no value>", "").split()) for x in out],
                         ["create", "mount /x false", "unmount"])

    @slow(600)
    def test_killed_while_it_fills(self):
        """The supervisor is killed at random moments of a first start; the volume is empty or has it all."""
        rng = random.Random("%d fill" % SEED)
        for n in range(8):
            with self.subTest(seed=SEED, round=n):
                p = self.home.popen("run", "--name", "victim", "-v", "fills:/big", "full:1", "true")
                wait_for("a supervisor", lambda: self.home.find_process("a3s-box-shim") or p.poll() is not None, 30, 0.005)
                time.sleep(rng.uniform(0, 0.15))
                for pid in self.home.find_process("a3s-box-shim"):
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGKILL)
                p.communicate(timeout=60)
                data = self.volume("fills") / "data"
                self.assertIn(len(os.listdir(data)) if data.exists() else 0, (0, 6))
                self.home.ok("rm", "-f", "victim")
                self.assertEqual(self.sh("-v", "fills:/big", "full:1", script="cat /big/* | wc -c").text, "%d\n" % BIG)
                self.assertEqual(sorted(os.listdir(self.volume("fills"))), ["data", "use"])
                self.home.ok("volume", "rm", "fills")

    def test_no_room_to_fill(self):
        where = self.home.path / "volumes"
        where.mkdir(exist_ok=True)
        self.mount(where, "size=%d" % (BIG // 2))
        try:
            self.assert_one_line(self.home.run("run", "--rm", "-v", "full:/big", "full:1", "true"), 125,
                                 "cannot fill volume full: .*No space left on device")
            self.assertEqual(os.listdir(where / "full" / "data"), [])
            self.assertFalse((where / "full" / "fill").exists())
            self.home.ok("volume", "rm", "full")
            self.assertEqual(self.folders(), set())
        finally:
            subprocess.run(["umount", "-l", where], check=True)

    def test_a_tree_without_bottom(self):
        """Deeper than a path is long and a process has descriptors: measured, and removed."""
        # In parts, as a path that is too long would be needed otherwise.
        part = "/".join(["d"] * 650)
        self.sh("-v", "deep:/d", "box", script="mkdir -p /d/a/%s /d/b/%s && mv /d/b /d/a/%s/" % (part, part, part))
        self.assertGreater(int(self.sums()["Local Volumes"]["SizeBytes"]), 1300 * 4096)
        self.home.ok("volume", "rm", "deep")
        self.assertEqual(self.folders(), set())


class Python(VolumeTest):
    images_wanted = ("box", "python")

    def count(self, lock, unlock):
        """Ten boxes, each 100 times under a lock: reads, adds one, writes. No update is lost."""
        script = ("import fcntl, os\n"
                  "f = os.open('/d/n', os.O_RDWR)\n"
                  "for i in range(100):\n"
                  "    %s\n"
                  "    n = int(os.pread(f, 10, 0))\n"
                  "    os.pwrite(f, b'%%010d' %% (n + 1), 0)\n"
                  "    %s\n" % (lock, unlock))
        self.home.ok("run", "--rm", "-v", "count:/d", "box", "sh", "-c", "printf 0000000000 >/d/n")
        results = []

        def one():
            results.append(self.home.run("run", "--rm", "-m", "192m", "-v", "count:/d", "python", "python3", "-c", script,
                                         timeout=800))
        threads = [threading.Thread(target=one) for _ in range(10)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        for r in results:
            self.assert_rc(r, 0)
        self.assert_out(self.home.run("run", "--rm", "-v", "count:/d", "box", "cat", "/d/n"), "0000001000")

    @slow(900)
    def test_ten_boxes_count_with_flock(self):
        self.count("fcntl.flock(f, fcntl.LOCK_EX)", "fcntl.flock(f, fcntl.LOCK_UN)")

    @slow(900)
    def test_ten_boxes_count_with_fcntl(self):
        """Record locks, which a database uses."""
        self.count("fcntl.lockf(f, fcntl.LOCK_EX, 10)", "fcntl.lockf(f, fcntl.LOCK_UN, 10)")
