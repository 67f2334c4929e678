"""cp: files between the host and boxes, running and not."""

import io
import json
import os
import pathlib
import random
import re
import shutil
import signal
import stat
import subprocess
import tarfile
import threading
import time

import a3s
from a3s import BoxTest, Terminal, core, slow, wait_for
from test_unprivileged import Unprivileged
from trees import differences, scan

NO_SUCH = "No such file or directory"

# What both sides have before each case, below one folder.
FIXTURE = """
rm -rf t && mkdir t && cd t || exit 1
printf F >f; mkdir -p d/s D/keep D2 D3/f
printf X >d/x; printf Y >d/s/y; printf old >F0; printf file >D2/d
ln -s f lf; ln -s d ld; ln -s D LD; ln -s F0 LF; ln -s gone LX; ln -s loop loop
"""
D = {"": None, "/s": None, "/s/y": "Y", "/x": "X"}


def under(name):
    return {name + path: what for path, what in D.items()}


# Options, source, destination, and what is new or different then; or what the line says. The rules are those of the reference of
# `docker container cp`; where that is silent, what docker does (cli/command/container/cp.go, pkg/archive/copy.go).
TABLE = (
    # SOURCE is a file. The destination does not exist: it is made of it ...
    ("", "f", "new", {"new": "F"}),
    # ... but not with a slash: an error, the folder must exist
    ("", "f", "new/", "no such folder"),
    # it is a file: overwritten with the content of the source
    ("", "f", "F0", {"F0": "F"}),
    ("", "f", "F0/", "Not a directory|no such folder"),
    # it is a folder: the file is copied into it, under its own name
    ("", "f", "D", {"D/f": "F"}),
    ("", "f", "D/", {"D/f": "F"}),
    ("", "f", "D/.", {"D/f": "F"}),
    # the parent must exist
    ("", "f", "no/new", NO_SUCH),
    ("", "f", "F0/new", "Not a directory"),
    # a slash behind a file
    ("", "f/", "new", "Not a directory"),
    ("", "f/.", "new", "Not a directory"),
    # SOURCE is a folder. The destination does not exist: made, with the content of the source
    ("", "d", "new", under("new")),
    ("", "d", "new/", under("new")),
    ("", "d/.", "new", under("new")),
    ("", "d", "no/new", NO_SUCH),
    # it is a file: an error, a folder cannot be copied to a file
    ("", "d", "F0", "folder"),
    ("", "d/.", "F0", "folder"),
    # it is a folder: the folder goes into it, or with "/." its content
    ("", "d", "D", under("D/d")),
    ("", "d/", "D", under("D/d")),
    ("", "d/.", "D", {"D/s": None, "D/s/y": "Y", "D/x": "X"}),
    ("", "d/.", "D/", {"D/s": None, "D/s/y": "Y", "D/x": "X"}),
    # kinds that do not fit: a folder never replaces a file, nor the reverse
    ("", "d", "D2", "Not a directory|a folder"),
    ("", "f", "D3", "Is a directory|a folder"),
    # Links. At the source it is copied, unless -L or a slash follows it
    ("", "lf", "new", {"new": "->f"}),
    ("", "lf", "D", {"D/lf": "->f"}),
    ("", "ld", "D", {"D/ld": "->d"}),
    ("-L", "lf", "new", {"new": "F"}),
    ("-L", "lf", "D", {"D/lf": "F"}),
    ("-L", "ld", "D", under("D/ld")),
    ("", "ld/", "D", under("D/ld")),
    ("", "ld/.", "D", {"D/s": None, "D/s/y": "Y", "D/x": "X"}),
    ("-L", "loop", "D", "Too many levels|too many"),
    ("-L", "LX", "D", NO_SUCH),
    # At the destination it is followed, also where it leads to nothing
    ("", "f", "LD", {"D/f": "F"}),
    ("", "f", "LF", {"F0": "F"}),
    ("", "f", "LX", {"gone": "F"}),
    ("", "d", "LD", under("D/d")),
    ("", "d/.", "LD", {"D/s": None, "D/s/y": "Y", "D/x": "X"}),
    ("", "d", "LX", under("gone")),
    ("", "f", "loop", "Too many levels"),
    # Nothing there
    ("", "missing", "D", NO_SUCH),
    ("", "no/f", "D", NO_SUCH),
)


def contents(archive):
    """{path: content, "->target", or None for a folder} of a tar archive's t/."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for m in tar:
            name = os.path.normpath(m.name)
            if name.startswith("t/"):
                found[name[2:]] = "->" + m.linkname if m.issym() else None if m.isdir() else tar.extractfile(m).read().decode()
    return found


class Cp(BoxTest):
    """Helpers."""

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.home.base) / "cp"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        if self.unprivileged:
            os.chown(self.folder, a3s.UNPRIVILEGED_ID, a3s.UNPRIVILEGED_ID)

    def tearDown(self):
        self.doCleanups()  # before it is looked at what a test has left
        shutil.rmtree(self.folder, ignore_errors=True)
        super().tearDown()

    def cp(self, *args, **options):
        return self.home.run("cp", *args, **options)

    def cp_ok(self, *args, **options):
        result = self.assert_rc(self.cp(*args, **options), 0)
        self.assertEqual(result.err, b"", result)
        return result

    def sh(self, box, script, **options):
        return self.home.ok("exec", box, "sh", "-c", script, **options)

    def box(self, *args, command=("sleep", "100000")):
        name = "b%d" % random.randrange(1 << 40)
        self.home.run_detached("--name", name, "-m", "256m", *args, "box", *command)
        self.addCleanup(self.home.run, "rm", "-f", name)
        return name

    def created(self, *args, command=("sleep", "100000")):
        name = "c%d" % random.randrange(1 << 40)
        self.home.ok("create", "--name", name, "-m", "256m", *args, "box", *command)
        self.addCleanup(self.home.run, "rm", "-f", name)
        return name


class Table(Cp):
    @classmethod
    def prepare(cls):
        cls.home.run_detached("--name", "table", "box", "sleep", "100000")

    @classmethod
    def tearDownClass(cls):
        cls.home.run("rm", "-f", "table")
        super().tearDownClass()

    def set_up_box(self):
        self.sh("table", "cd /; " + FIXTURE)

    def set_up_host(self):
        subprocess.run(["sh", "-c", FIXTURE], cwd=self.folder, check=True)

    def in_box(self):
        return contents(self.home.ok("exec", "table", "tar", "-c", "-C", "/", "t").out)

    def on_host(self):
        return contents(subprocess.run(["tar", "-c", "t"], cwd=self.folder, check=True, capture_output=True).stdout)

    def check_table(self, argv, reset, look):
        for options, src, dst, expected in TABLE:
            with self.subTest(options=options, src=src, dst=dst):
                reset()
                before = look()
                result = self.cp(*options.split(), *argv(src, dst))
                after = look()
                changed = {p: w for p, w in after.items() if p not in before or before[p] != w}
                self.assertEqual([p for p in before if p not in after], [], result)
                if isinstance(expected, str):
                    self.assert_one_line(result, 1, expected)
                    self.assertEqual(changed, {}, result)
                else:
                    self.assert_rc(result, 0)
                    self.assertEqual((changed, result.err), (expected, b""), result)

    @core
    def test_into_a_box(self):
        self.set_up_host()
        self.check_table(lambda src, dst: (self.folder / "t" / src if src[-1] not in "/." else "%s/t/%s" % (self.folder, src),
                                           "table:/t/" + dst), self.set_up_box, self.in_box)

    @core
    def test_out_of_a_box(self):
        self.set_up_box()
        self.check_table(lambda src, dst: ("table:/t/" + src, "%s/t/%s" % (self.folder, dst)), self.set_up_host, self.on_host)

    def test_whole_roots_and_relative_paths(self):
        (self.folder / "one").write_text("1")
        self.cp_ok(self.folder / "one", "table:")
        self.assertEqual(self.sh("table", "cat /one").out, b"1")
        self.cp_ok("table:one", self.folder / "two")
        self.assertEqual((self.folder / "two").read_text(), "1")
        self.cp_ok("table:../../etc/./x/../plain", self.folder)
        self.assertEqual((self.folder / "plain").read_text(), "not a program\n")
        result = subprocess.run(self.home.argv(["cp", ".", "table:/here"]), cwd=self.folder, env=self.home.env(), check=False)
        self.assertEqual(result.returncode, 0)
        self.assertEqual(self.sh("table", "ls /here").lines, ["one", "plain", "two"])
        self.cp_ok("table:/etc", self.folder / "etc")
        self.assertTrue((self.folder / "etc/passwd").is_file())

    def test_colons(self):
        (self.folder / "a:b").write_text("colon")
        run = {"cwd": self.folder, "env": self.home.env(), "check": False}
        for name in ("./a:b", str(self.folder / "a:b")):
            self.assertEqual(subprocess.run(self.home.argv(["cp", name, "table:/x:y"]), **run).returncode, 0)
            self.assertEqual(self.sh("table", "cat /x:y; rm /x:y").out, b"colon")
        self.assert_one_line(self.cp("a:b", "table:/"), 1, "one box to another")

    def test_devices_are_no_destination(self):
        self.assert_one_line(self.cp("table:/etc/plain", "/dev/null"), 1, "must be a folder or a regular file")
        self.assertTrue(stat.S_ISCHR(os.stat("/dev/null").st_mode))
        self.assert_one_line(self.cp("/etc/hostname", "table:/dev/null"), 1, "must be a folder or a regular file")
        self.sh("table", "test -c /dev/null")

    def test_devices_need_archive(self):
        self.assert_one_line(self.cp("/dev/null", "table:/nul"), 1, r"is a device.* \(give -a\)")
        self.cp_ok("-a", "/dev/null", "table:/nul")
        self.sh("table", "test -c /nul; rm /nul")
        self.assert_one_line(self.cp("table:/dev/null", self.folder / "nul"), 1, r"is a device.* \(.*give -a.*\)")

    def test_what_the_kernel_makes_up(self):
        for path in ("/proc/version", "/proc/cpuinfo", "/sys/class/net/lo/address", "/sys/fs/cgroup/cgroup.controllers"):
            self.cp_ok("table:" + path, self.folder / "out")
            self.assertEqual((self.folder / "out").read_bytes(), self.sh("table", "cat " + path).out, path)
        self.cp_ok("table:/proc/sys/kernel/random", self.folder)
        size = self.sh("table", "cat /proc/sys/kernel/random/poolsize").out
        self.assertEqual((self.folder / "random/poolsize").read_bytes(), size)

    def test_the_whole_box(self):
        """Without what is the kernel's, while processes come and go."""
        self.sh("table", "(while :; do true | cat; done) >/dev/null 2>&1 & echo $! >/loop")
        self.addCleanup(lambda: self.sh("table", "kill $(cat /loop); rm /loop"))
        for options in ((), ("-a",)):
            self.cp_ok(*options, "table:/", self.folder / "all")
            for name in ("proc", "sys", "dev"):
                self.assertEqual(os.listdir(self.folder / "all" / name), [])
            self.assertEqual((self.folder / "all/etc/plain").read_text(), "not a program\n")
            shutil.rmtree(self.folder / "all")
        with tarfile.open(fileobj=io.BytesIO(self.cp_ok("table:/", "-").out)) as tar:
            names = [m.name.strip("./") for m in tar]
        self.assertIn("etc/plain", names)
        self.assertIn("proc", names)
        self.assertEqual([n for n in names if re.match("(proc|sys|dev)/", n)], [])

    def test_events_tell_of_the_copy_and_of_nothing_else(self):
        start = str(time.time())
        self.cp_ok("table:/etc/plain", self.folder)
        self.cp_ok(self.folder / "plain", "table:/tmp/")
        actions = [json.loads(line)["Action"] for line in
                   self.home.ok("events", "--since", start, "--until", str(time.time()), "--format", "{{json .}}").lines]
        self.assertEqual([a for a in actions if not a.startswith("exec")], ["archive-path", "extract-to-dir"])

    def test_progress_is_for_terminals(self):
        (self.folder / "big").write_bytes(b"x" * 3_000_000)
        with Terminal(self.home, "cp", str(self.folder / "big"), "table:/tmp/big") as t:
            status, seen = t.finish()
        self.assertEqual(status, 0, seen)
        self.assertRegex(seen, rb"Successfully copied 3MB to table:/tmp/big\r\n\Z")
        with Terminal(self.home, "cp", "-q", "table:/tmp/big", str(self.folder / "back")) as t:
            status, seen = t.finish()
        self.assertEqual((status, seen), (0, b""))

    def test_names_cannot_drive_the_terminal(self):
        evil = "a\x1b]0;owned\x07\nb"
        self.sh("table", "mkdir -p /evil && touch \"$(printf '/evil/a\\033]0;owned\\007\\nb')\"")
        with Terminal(self.home, "cp", "table:/evil/" + evil, str(self.folder) + "/") as t:
            status, seen = t.finish()
        self.assertEqual(status, 0, seen)
        self.assertNotIn(b"\x1b]", seen)
        self.assertTrue((self.folder / evil).exists())
        with Terminal(self.home, "cp", "table:/evil/nosuch" + evil, str(self.folder) + "/") as t:
            status, seen = t.finish()
        self.assertEqual(status, 1, seen)
        self.assertNotIn(b"\x1b]", seen)
        # A failure about a name of the box's: a folder in place of the file
        (self.folder / "t2" / "evil" / evil).mkdir(parents=True)
        self.assert_one_line(self.cp("table:/evil", self.folder / "t2"), 1, r"\\x1b")

    def test_owners(self):
        (self.folder / "mine").write_text("x")
        os.chown(self.folder / "mine", 1234, 4321)
        self.cp_ok(self.folder / "mine", "table:/tmp/plain")
        self.cp_ok("-a", self.folder / "mine", "table:/tmp/kept")
        self.assertEqual(self.sh("table", "stat -c %u:%g /tmp/plain /tmp/kept").lines, ["0:0", "1234:4321"])
        self.cp_ok("table:/tmp/kept", self.folder / "self")
        self.cp_ok("-a", "table:/tmp/kept", self.folder / "kept")
        owners = [(os.stat(self.folder / n).st_uid, os.stat(self.folder / n).st_gid) for n in ("self", "kept")]
        self.assertEqual(owners, [(os.geteuid(), os.getegid()), (1234, 4321)])

    def test_a_folder_that_is_there_keeps_or_takes_its_mode(self):
        """With its own name it is the source's, "/." leaves it alone."""
        (self.folder / "d").mkdir(mode=0o700)
        self.sh("table", "rm -rf /m; mkdir -p -m 755 /m /m/d")
        self.cp_ok("%s/d/." % self.folder, "table:/m/d")
        self.assertEqual(self.sh("table", "stat -c %a /m/d").lines, ["755"])
        self.cp_ok(self.folder / "d", "table:/m")
        self.assertEqual(self.sh("table", "stat -c %a /m/d").lines, ["700"])

    def test_a_paused_box_is_refused(self):
        self.home.ok("pause", "table")
        try:
            self.assert_one_line(self.cp("table:/etc/plain", self.folder), 1, "paused.*unpause")
            self.assert_one_line(self.cp("/etc/hostname", "table:/"), 1, "paused.*unpause")
        finally:
            self.home.ok("unpause", "table")

    def test_output_that_cannot_be_written(self):
        with open("/dev/full", "wb") as full:
            p = self.home.popen("cp", "table:/etc", "-", stdout=full, stderr=subprocess.PIPE)
            _, err = p.communicate()
        self.assertEqual(p.returncode, 1)
        self.assertRegex(err, rb"a3s-box: cp: [^\n]*No space left on device[^\n]*\n")


class AtRest(Cp):
    """Boxes that do not run: their machine is booted, and nothing tells of it afterwards."""

    def record(self, box):
        j = self.home.inspect(box)
        return {k: v for k, v in j.items() if k != "SizeRw"}

    @core
    def test_created_and_exited(self):
        box = self.created(command=("sh", "-c", "cat /data/x; echo ran >/ran"))
        (self.folder / "data").mkdir()
        (self.folder / "data/x").write_text("from the host\n")
        before, record, start = self.home.inventory(), self.record(box), str(time.time())
        self.cp_ok(self.folder / "data", "%s:/" % box)
        self.assertEqual(self.record(box), record)
        self.cp_ok("%s:/data" % box, self.folder / "back")
        self.assertEqual((self.folder / "back/x").read_text(), "from the host\n")
        self.assert_one_line(self.cp("%s:/ran" % box, self.folder), 1, NO_SUCH)
        self.assertEqual(self.record(box), record)
        lines = self.home.ok("events", "--since", start, "--until", str(time.time()), "--format", "{{.Action}}").lines
        self.assertEqual(lines, ["extract-to-dir", "archive-path"])
        shutil.rmtree(self.folder / "back")
        now = self.home.rest()
        self.assertEqual([f for f in now.files if f not in before.files], [f for f in now.files if f.endswith("scratch.img")])
        self.assert_out(self.home.run("start", "-a", box), "from the host\n")
        record = self.record(box)
        self.cp_ok("%s:/ran" % box, self.folder)
        self.assertEqual((self.folder / "ran").read_text(), "ran\n")
        self.assertEqual(self.record(box), record)

    def test_read_only_box(self):
        box = self.created("--read-only")
        self.cp_ok("%s:/etc/plain" % box, self.folder)
        self.assert_one_line(self.cp(self.folder / "plain", "%s:/" % box), 1, "Read-only file system")

    def test_volumes_binds_and_tmpfs(self):
        host = self.folder / "host"
        host.mkdir()
        (self.folder / "f").write_text("F")
        box = self.created("-v", "%s:/bind" % host, "-v", "cpvol:/vol", "-v", "%s:/ro:ro" % host)
        self.addCleanup(self.home.run, "volume", "rm", "cpvol")
        for target in ("bind", "vol"):
            self.cp_ok(self.folder / "f", "%s:/%s/" % (box, target))
            self.cp_ok("%s:/%s/f" % (box, target), self.folder / target)
            self.assertEqual((self.folder / target).read_text(), "F")
        self.assertEqual((host / "f").read_text(), "F")
        self.assert_one_line(self.cp(self.folder / "f", "%s:/ro/g" % box), 1, "Read-only file system")
        running = self.box("-v", "cpvol:/vol", "--tmpfs", "/scratch")
        self.assertEqual(self.sh(running, "cat /vol/f").out, b"F")
        self.cp_ok(self.folder / "f", "%s:/scratch/g" % running)
        self.assertEqual(self.sh(running, "cat /scratch/g").out, b"F")

    def test_others_hear_that_it_is_busy(self):
        box = self.created()
        p = self.home.popen("cp", "-", "%s:/" % box, stdin=subprocess.PIPE)
        try:
            wait_for("its machine", lambda: self.home.find_machines())
            busy = r"box %s is in use by another command \(try again when that has ended\)" % box
            for command in (("start",), ("rm",), ("rm", "-f"), ("diff",)):
                self.assert_one_line(self.home.run(*command, box), 1, busy)
            self.assert_one_line(self.cp("%s:/etc/plain" % box, self.folder), 1, busy)
            self.assertEqual(self.home.status(box), "created")
        finally:
            out, err = p.communicate(self.archive())
        self.assertEqual(p.returncode, 0, err)
        self.home.ok("start", box)
        self.assertEqual(self.sh(box, "cat /x").out, b"x")

    def archive(self):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            m = tarfile.TarInfo("x")
            m.size = 1
            tar.addfile(m, io.BytesIO(b"x"))
        return out.getvalue()

    def test_what_is_in_memory_only_is_refused(self):
        (self.folder / "f").write_text("F")
        (self.folder / "d/tmp/in").mkdir(parents=True)
        (self.folder / "d/tmp/f").write_text("F")
        box = self.created("--tmpfs", "/tmp")
        for source, target in (("f", "/tmp/"), ("f", "/dev/shm/g"), ("d", "/tmp/new"), ("d/.", "/")):
            self.assert_one_line(self.cp("%s/%s" % (self.folder, source), box + ":" + target), 1,
                                 r"would be in memory, and the box does not run \(start the box first\)")
        self.cp_ok(self.folder / "f", box + ":/root/")
        self.home.ok("start", box)
        self.cp_ok("%s/d/." % self.folder, box + ":/")
        self.assertEqual(self.sh(box, "cat /tmp/f").out, b"F")

    def test_a_hint_comes_through(self):
        host = self.folder / "host"
        host.mkdir()
        box = self.created("--mount", "type=bind,source=%s,target=/bind" % host)
        host.rmdir()
        start = self.home.run("start", box).err.decode()
        hint = start[start.rindex(" ("):]
        self.assert_one_line(self.cp(box + ":/etc/plain", self.folder), 1, re.escape(hint.strip()))

    def test_after_a_killed_machine(self):
        box = self.box()
        self.sh(box, "echo kept >/kept; sync")
        a3s.kill_hard(self.home.find_process("a3s-box-shim", self.home.inspect(box)["Id"])[0])
        self.home.wait_status(box, "exited")
        self.cp_ok("%s:/kept" % box, self.folder)
        self.assertEqual((self.folder / "kept").read_text(), "kept\n")


def torture(top):
    """A tree of everything that a file can be."""
    top.mkdir()
    (top / "empty").touch()
    (top / "data").write_bytes(os.urandom(200_000))
    (top / "deep").mkdir()
    deep = top / "deep"
    for i in range(60):
        deep = deep / ("level%d" % i)
        deep.mkdir()
    (deep / "bottom").write_text("deep")
    (top / ("n" * 255)).write_text("long name")
    for name in (b"new\nline", b"esc\x1b[31m", b"\xff\xfe not utf-8", b" blank ", b"-dash", b"back\\slash", b"quote'\"",
                 b"*?[x]"):
        with open(os.path.join(os.fsencode(top), name), "wb") as f:
            f.write(name)
    with open(top / "sparse", "wb") as f:
        f.write(b"begin")
        f.seek(64 << 20)
        f.write(b"middle")
        f.truncate(100 << 20)
    with open(top / "hole", "wb") as f:
        f.truncate(50 << 20)
    os.link(top / "data", top / "hard")
    os.link(top / "data", top / "deep" / "hard")
    os.symlink("/etc/passwd", top / "absolute")
    os.symlink("../../../../etc/shadow", top / "upward")
    os.symlink("nowhere", top / "dangling")
    os.symlink("x" * 4000, top / "long-link")
    os.symlink("link\n\x1b[0m", top / "odd-link")
    os.link(top / "dangling", top / "second-link", follow_symlinks=False)
    for mode in (0o000, 0o400, 0o644, 0o777, 0o1644, 0o2755, 0o4755, 0o6711):
        path = top / ("mode%o" % mode)
        path.write_text(oct(mode))
        path.chmod(mode)
    (top / "closed").mkdir()
    (top / "closed" / "inside").write_text("in a read-only folder")
    (top / "sticky").mkdir()
    (top / "sticky").chmod(0o1777)
    os.setxattr(top / "data", "user.plain", b"value")
    os.setxattr(top / "data", "user.binary", bytes(range(256)))
    os.setxattr(top / "deep", "user.folder", b"")
    for i, path in enumerate(("empty", "closed", "mode644", "sticky")):
        os.chown(top / path, 1000 + i, 2000 + i)
    os.lchown(top / "absolute", 70000, 80000)
    (top / "times").write_text("t")
    os.utime(top / "times", ns=(1_000_000_007, 1_234_567_890_123_456_789))
    os.utime(top / "empty", ns=(0, -86_400_000_000_000))
    os.utime(top / "dangling", ns=(5_000_000_000, 5_000_000_001), follow_symlinks=False)
    os.mkfifo(top / "fifo")
    os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (top / "closed").chmod(0o555)
    os.utime(top / "closed", ns=(3_000_000_000, 3_000_000_003))
    os.utime(top / "deep", ns=(4_000_000_000, 4_000_000_004))


def fine(root):
    """{path: nanoseconds} of all times, which scan() rounds."""
    return {os.path.relpath(p, os.fsencode(root)): os.lstat(p).st_mtime_ns
            for top, folders, files in os.walk(os.fsencode(root)) for p in
            [top] + [os.path.join(top, n) for n in folders + files]}


class Torture(Cp):
    @core
    def test_there_and_back(self):
        """All of it, by cp both ways, running and stopped, and by archives written and read by GNU tar."""
        torture(self.folder / "src")
        src = scan(self.folder / "src")
        box = self.box()
        self.cp_ok("-a", self.folder / "src", box + ":/")
        self.cp_ok("-a", box + ":/src", self.folder / "back")
        self.assertEqual(differences(scan(self.folder / "back"), src), [])
        self.assertEqual(fine(self.folder / "back"), fine(self.folder / "src"))
        for name in ("sparse", "hole"):
            self.assertLess(os.stat(self.folder / "back" / name).st_blocks, 4096, name)
            self.assertLess(int(self.sh(box, "stat -c %%b /src/%s" % name).text), 4096, name)
        self.assertEqual(self.sh(box, "stat -c '%F %t:%T' /src/null").lines, ["character special file 1:3"])
        self.archives(box, src)
        self.home.ok("stop", "-t", "1", box)
        self.cp_ok("-a", box + ":/src", self.folder / "later")
        self.assertEqual(differences(scan(self.folder / "later"), src), [])
        self.cp_ok("-a", self.folder / "later", box + ":/src2")
        self.cp_ok("-a", box + ":/src2/.", self.folder / "last")
        self.assertEqual(differences(scan(self.folder / "last"), src), [])

    def archives(self, box, src):
        tar = ["tar", "--xattrs", "--xattrs-include=*", "--numeric-owner"]
        made = subprocess.run([*tar, "--sparse", "--format=pax", "-c", "src"], cwd=self.folder, check=True,
                              capture_output=True).stdout
        self.sh(box, "mkdir /in")
        self.cp_ok("-", box + ":/in", input=made)
        got = self.cp_ok(box + ":/in/src", "-").out
        (self.folder / "tar").mkdir()
        subprocess.run([*tar, "-xp"], input=got, cwd=self.folder / "tar", check=True)
        self.assertEqual(differences(scan(self.folder / "tar/src"), src), [])
        self.assertEqual(fine(self.folder / "tar/src"), fine(self.folder / "src"))
        self.assertLess(len(got), 40 << 20, "holes are none any more")
        with tarfile.open(fileobj=io.BytesIO(self.cp_ok(box + ":/in/src/sticky/.", "-").out)) as t:
            self.assertLessEqual({os.path.normpath(n) for n in t.getnames()}, {"."})

    def test_into_oneself(self):
        """Without -a: owners of the one side and of the other."""
        (self.folder / "d").mkdir()
        (self.folder / "d/set").write_text("x")
        (self.folder / "d/set").chmod(0o4755)
        os.chown(self.folder / "d", 5, 6)
        box = self.box()
        self.cp_ok(self.folder / "d", box + ":/d")
        self.assertEqual(self.sh(box, "stat -c %u:%g /d /d/set").lines, ["0:0", "0:0"])
        self.sh(box, "chown 1000:1000 /d/set; chmod 4755 /d/set")
        self.cp_ok(box + ":/d", self.folder / "back")
        st = os.stat(self.folder / "back/set")
        self.assertEqual((st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)), (os.geteuid(), os.getegid(), 0o755))

    def test_many_files(self):
        (self.folder / "many").mkdir()
        for i in range(3000):
            (self.folder / "many" / ("f%d" % i)).write_text(str(i))
        box = self.box()
        self.cp_ok(self.folder / "many", box + ":/many")
        self.cp_ok(box + ":/many", self.folder / "back")
        self.assertEqual(scan(self.folder / "back"), scan(self.folder / "many"))

    def test_a_file_that_is_replaced_is_a_new_one(self):
        """Who has the old one open keeps it; a file with another name too is not written through."""
        (self.folder / "old").write_text("old")
        os.link(self.folder / "old", self.folder / "other")
        box = self.box()
        self.sh(box, "printf new >/new")
        self.cp_ok(box + ":/new", self.folder / "old")
        self.assertEqual([(self.folder / n).read_text() for n in ("old", "other")], ["new", "old"])


def bad_tar(*members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, kind, link in members:
            m = tarfile.TarInfo(name)
            m.type, m.linkname = kind, link
            m.size = 4 if kind == tarfile.REGTYPE else 0
            tar.addfile(m, io.BytesIO(b"evil") if m.size else None)
    return out.getvalue()


class Hostile(Cp):
    @classmethod
    def prepare(cls):
        cls.home.run_detached("--name", "hostile", "-m", "256m", "box", "sleep", "100000")

    @classmethod
    def tearDownClass(cls):
        cls.home.run("rm", "-f", "hostile")
        super().tearDownClass()

    def test_archives_that_lead_out(self):
        self.sh("hostile", "mkdir -p /jail /outside; echo good >/outside/file")
        reg, sym, hard = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
        for members in (
                [("../outside/file", reg, "")],
                [("a/../../outside/file", reg, "")],
                [("h", hard, "../outside/file")],
                [("h", hard, "/outside/file")],
                [("l", sym, "/outside"), ("l/file", reg, "")],
                [("l", sym, "../outside"), ("l/file", reg, "")]):
            with self.subTest(members=members):
                self.assert_one_line(self.cp("-", "hostile:/jail", input=bad_tar(*members)), 1)
                self.assertEqual(self.sh("hostile", "cat /outside/file; ls /outside").text, "good\nfile\n")
                self.sh("hostile", "rm -rf /jail; mkdir /jail")
        self.cp("-", "hostile:/jail", input=bad_tar(("/absolute", reg, "")))
        self.sh("hostile", "test ! -e /absolute")

    def test_what_is_no_archive(self):
        self.assert_one_line(self.cp("-", "hostile:/tmp", input=b""), 1, "no archive on standard input")
        self.cp_ok("-", "hostile:/tmp", input=bytes(1024))  # an archive of nothing
        for data in (b"x" * 5000, b"\x1f\x8b" + b"x" * 600):
            self.assert_one_line(self.cp("-", "hostile:/", input=data), 1)
        whole = bad_tar(*[("f%d" % i, tarfile.REGTYPE, "") for i in range(10)])
        self.assert_one_line(self.cp("-", "hostile:/tmp", input=whole[:1500]), 1)

    def test_archive_with_a_folder_of_the_box_as_a_link(self):
        """A link that was in the box before leads no further than the box."""
        self.sh("hostile", "rm -rf /jail; mkdir /jail; ln -s /../../../../.. /jail/up")
        self.cp("-", "hostile:/jail", input=bad_tar(("up/cp-was-here", tarfile.REGTYPE, "")))
        self.assertFalse(os.path.exists("/cp-was-here"))

    def swap(self, loop):
        p = self.home.popen("exec", "hostile", "sh", "-c", loop)

        def end():
            p.kill()  # the loop goes on without us
            p.communicate()
            self.home.run("exec", "hostile", "sh", "-c", "kill -9 -1")

        self.addCleanup(end)

    def test_the_box_swaps_folders_for_links_while_it_is_read(self):
        secret = self.folder / "secret"
        secret.mkdir()
        (secret / "file").write_text("of the host")
        self.sh("hostile", "rm -rf /r; mkdir -p /r/real; for i in $(seq 50); do echo box >/r/real/f$i; done")
        self.swap("cd /r; while :; do mv real a; ln -s %s real; rm real; mv a real; done" % secret)
        for i in range(50):
            target = self.folder / ("out%d" % i)
            result = self.cp("hostile:/r", target)
            self.assertLessEqual(result.err.count(b"\n"), 1, result)
            for top, _, files in os.walk(target):
                for name in files:
                    path = os.path.join(top, name)
                    if not os.path.islink(path):
                        with open(path, encoding="utf-8") as f:
                            self.assertEqual(f.read(), "box\n")
            shutil.rmtree(target, ignore_errors=True)
        self.assertEqual(os.listdir(secret), ["file"])

    def test_the_box_swaps_folders_for_links_while_it_is_written(self):
        (self.folder / "tree" / "sub").mkdir(parents=True)
        for i in range(50):
            (self.folder / "tree" / "sub" / ("f%d" % i)).write_text("x")
        before = set(os.listdir("/"))
        self.sh("hostile", "rm -rf /w; mkdir -p /w/tree/sub")
        self.swap("cd /w/tree; while :; do mv sub a; ln -s /../../.. sub; rm sub; mv a sub; done")
        for _ in range(50):
            result = self.cp(self.folder / "tree", "hostile:/w")
            self.assertLessEqual(result.err.count(b"\n"), 1, result)
        self.assertEqual(set(os.listdir("/")), before)

    def test_a_target_with_links_in_it(self):
        """The box brings a folder under the name of a link of the host's: it is not followed."""
        outside = self.folder / "outside"
        (self.folder / "target").mkdir()
        outside.mkdir()
        os.symlink("../outside", self.folder / "target" / "sub")
        self.sh("hostile", "rm -rf /k; mkdir -p /k/sub; echo evil >/k/sub/f")
        self.assert_one_line(self.cp("hostile:/k/.", self.folder / "target"), 1)
        self.assertEqual(os.listdir(outside), [])

    def test_the_host_swaps_its_target(self):
        """Whoever can write to the target's parent cannot redirect what is being written."""
        outside, target = self.folder / "outside", self.folder / "target"
        outside.mkdir()
        target.mkdir()
        self.sh("hostile", "rm -rf /k; mkdir -p /k/sub; for i in $(seq 100); do echo evil >/k/sub/f$i; done")
        stop = threading.Event()

        def swap():
            while not stop.is_set():
                try:
                    os.rename(target / "sub", target / "was")
                    os.symlink("../outside", target / "sub")
                    time.sleep(0.001)
                    os.unlink(target / "sub")
                    os.rename(target / "was", target / "sub")
                except OSError:
                    shutil.rmtree(target / "was", ignore_errors=True)

        thread = threading.Thread(target=swap)
        thread.start()
        try:
            for _ in range(30):
                self.cp("hostile:/k/.", target)
        finally:
            stop.set()
            thread.join()
        self.assertEqual(os.listdir(outside), [])


class Full(Cp):
    """No room: one line, nothing half-made, and the box goes on."""

    def mount(self, size):
        where = self.folder / "full"
        where.mkdir()
        if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=" + size, "x", where], check=False).returncode:
            self.skipTest("no file system can be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", where], check=True)
        return where

    def test_the_host_is_full(self):
        where = self.mount("4m")
        box = self.box()
        self.sh(box, "mkdir /d; echo small >/d/a; head -c 8000000 /dev/urandom >/d/b")
        self.assert_one_line(self.cp(box + ":/d/b", where), 1, "No space left on device")
        self.assertEqual(os.listdir(where), [])
        self.assert_one_line(self.cp(box + ":/d", where), 1, "No space left on device")
        self.assertEqual([f for _, _, files in os.walk(where) for f in files], ["a"])
        self.assert_out(self.home.run("exec", box, "echo", "alive"), "alive\n")

    def test_the_box_is_full(self):
        (self.folder / "big").write_bytes(os.urandom(8_000_000))
        box = self.box("--tmpfs", "/small:size=4m")
        self.assert_one_line(self.cp(self.folder / "big", box + ":/small/"), 1, "No space left on device")
        self.assertEqual(self.sh(box, "ls -A /small").text, "")
        self.assert_out(self.home.run("exec", box, "echo", "alive"), "alive\n")


class Killed(Cp):
    def random_moments(self, box, rounds, longest):
        (self.folder / "src").mkdir()
        for i in range(200):
            (self.folder / "src" / ("f%d" % i)).write_bytes(os.urandom(20_000))
        target = self.folder / "target"
        self.cp_ok(self.folder / "src", box + ":/src")
        before = self.home.inventory()
        for i in range(rounds):
            target.mkdir()
            argv = [self.folder / "src", box + ":/dst"] if i % 2 else [box + ":/src", target]
            p = self.home.popen("cp", *argv)
            time.sleep(random.random() * longest)
            sig = random.choice([signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
            p.send_signal(sig)
            p.communicate(timeout=60)
            if sig != signal.SIGKILL and p.returncode:
                self.assertEqual(p.returncode, -sig)
                # what was half-made is gone
                self.assertEqual([f for _, _, files in os.walk(target) for f in files if not re.fullmatch(r"f\d+", f)], [])
            shutil.rmtree(target)

            def repaired():
                """By any command that comes when its machine has gone, which takes a moment."""
                self.home.ok("ps")
                return self.home.inventory() == before

            wait_for("nothing to be left, round %d, signal %d" % (i, sig), repaired)
        self.cp_ok(box + ":/src", target)
        self.assertEqual(differences(scan(target), scan(self.folder / "src")), [])

    @slow(60)
    def test_20_random_moments_running(self):
        self.random_moments(self.box(), 20, 0.4)

    @slow(120)
    def test_20_random_moments_at_rest(self):
        self.random_moments(self.created(), 20, 3)


class AsUser(Unprivileged, Cp):
    """Of a user who is not root: everything that does not need root, and no more."""

    def test_there_and_back(self):
        box = self.created()
        (self.folder / "d").mkdir()
        (self.folder / "d" / "f").write_text("mine")
        os.chown(self.folder / "d", a3s.UNPRIVILEGED_ID, a3s.UNPRIVILEGED_ID)
        self.cp_ok(self.folder / "d", box + ":/srv")
        self.home.ok("start", box)
        self.assertEqual(self.sh(box, "stat -c %u /srv/f; cat /srv/f").text, "0\nmine")
        self.sh(box, "chown -R 33:33 /srv; chmod 6755 /srv/f; chmod 555 /srv")
        self.cp_ok(box + ":/srv", self.folder / "back")
        for name, mode in (("back", 0o555), ("back/f", 0o755)):
            st = os.stat(self.folder / name)
            self.assertEqual((st.st_uid, stat.S_IMODE(st.st_mode)), (a3s.UNPRIVILEGED_ID, mode))
        result = self.assert_rc(self.cp("-a", box + ":/srv", self.folder / "again"), 0)
        self.assertRegex(result.err, rb"only root can give files to others")
        self.assertEqual(os.stat(self.folder / "again/f").st_uid, a3s.UNPRIVILEGED_ID)

    def test_what_is_not_ours(self):
        box = self.created()
        self.assert_one_line(self.cp("/etc/shadow", box + ":/"), 1, "Permission denied")
        self.assert_one_line(self.cp(box + ":/etc/plain", "/etc/"), 1, "Permission denied")
