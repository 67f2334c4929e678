"""snapshot: the disk of a box at one moment, put back, and boxes made of it; --storage-opt and what is given back to the host."""

import io
import json
import os
import random
import signal
import subprocess
import tarfile
import time
import unittest

from a3s import BoxTest, core, slow, wait_for
from test_disk import TAR, WORK, differences, entries

ROUNDS = 20
SEED = int(os.environ.get("A3S_TEST_SEED", random.SystemRandom().randrange(1 << 32)))
MOUNTED = ("", ".", "etc/hosts", "etc/hostname", "etc/resolv.conf", "dev", "proc", "sys")


class SnapshotTest(BoxTest):
    images_wanted = ("box", "debian")

    def setUp(self):
        super().setUp()
        self.made = []

    def tearDown(self):
        if self.made:
            self.home.run("rm", "-f", *self.made)
        for snapshot in self.home.ok("snapshot", "ls", "-q").lines:
            self.home.run("snapshot", "rm", snapshot)
        super().tearDown()

    def box(self, name, *args):
        self.home.ok("run", "--name", name, *args)
        self.made.append(name)
        return name

    def sh(self, box, script, **options):
        return self.home.ok("exec", box, "sh", "-c", script, **options).text

    def snapshot(self, *args):
        return self.home.ok("snapshot", "create", *args).text.strip()

    def inspect(self, name):
        return json.loads(self.home.ok("snapshot", "inspect", name).out)[0]

    def disk(self, box):
        return self.home.path / "boxes" / self.home.inspect(box)["Id"] / "scratch.img"

    def folders(self):
        folder = self.home.path / "snapshots"
        return sorted(os.listdir(folder)) if folder.exists() else []


class Snapshot(SnapshotTest):
    def content(self, box):
        """Of /big, without booting it."""
        with tarfile.open(fileobj=io.BytesIO(self.home.ok("export", box).out)) as t:
            return t.extractfile("big").read()

    @core
    def test_there_and_back(self):
        box = self.box("web", "-d", "-e", "X=1", "--hostname", "host", "box", "sleep", "1000")
        self.sh(box, "echo one > /f")
        first = self.snapshot(box, "first", "--description", "what for")
        self.sh(box, "echo two > /f; echo > /g")
        self.snapshot(box, "second")
        self.assert_one_line(self.home.run("snapshot", "restore", box, "first"), 1, "box web is running.*stop it first")
        self.home.ok("stop", "-t", "1", box)
        self.assert_out(self.home.run("snapshot", "restore", box, "first"), "web\n")
        self.home.ok("start", box)
        self.assertEqual(self.sh(box, "cat /f; ls /g 2>/dev/null; true"), "one\n")
        j = self.inspect(first[:12])
        self.assertEqual((j["Id"], j["Name"], j["Description"], j["Box"]["Name"], j["Running"]),
                         (first, "first", "what for", "web", True))
        # The old box may go: what a snapshot is of stays, and so does its image.
        self.home.ok("rm", "-f", box)
        self.assert_one_line(self.home.run("rmi", "box"), 1, "snapshot [0-9a-f]{12} uses it")
        new = self.home.ok("snapshot", "restore", "second", "--name", "again").text.strip()
        self.made.append("again")
        self.assertEqual(self.home.inspect("again")["Id"], new)
        self.home.ok("start", "again")
        self.assertEqual(self.sh("again", "cat /f; ls /g; echo $X; hostname"), "two\n/g\n1\nhost\n")
        events = self.home.ok("events", "--since", "5m", "--until", "0s", "--filter", "type=snapshot").lines
        self.assertEqual([line.split()[2] for line in events][-3:], ["create", "create", "restore"])

    @core
    def test_listing(self):
        a, b = self.box("a", "box", "true"), self.box("b", "box", "true")
        for name in ("a1", "a2", "a3"):
            self.snapshot(a, name)
        self.snapshot(b, "b1")
        made = self.snapshot(b)
        self.assertEqual(self.home.ok("snapshot", "ls", "--format", "{{.Name}} {{.Box}}", "-f", "box=a").lines,
                         ["a3 a", "a2 a", "a1 a"])
        self.assertEqual(len(self.home.ok("snapshot", "ls", "-q").lines), 5)
        self.assertRegex(self.home.ok("snapshot", "ls").text.splitlines()[0], "^SNAPSHOT ID +NAME +BOX +CREATED +SIZE$")
        self.assertRegex(self.inspect(made)["Name"], r"^b-\d{8}-\d{6}(-\d+)?$")
        for args, why in ((("create", "a", "a1"), 'name "a1" is taken'), (("create", "a", "-x"), "-x"),
                          (("create", "nosuch"), "no such box"), (("create", "a", "n/n"), "no name for a snapshot"),
                          (("create", "--memory", "a"), "--memory"), (("restore", "nosuch"), "no such snapshot: nosuch"),
                          (("restore", "a", "a1", "--name", "x"), "--name x"), (("restore", "a1", "--name", "b"), '"b"'),
                          (("fork", "-n", "0", "a1"), "--number 0"), (("prune", "-f"), "--keep"),
                          (("prune", "-f", "--keep", "x"), "--keep x"), (("ls", "--filter", "x=y"), "x=y"),
                          (("rm",), "is needed")):
            self.assert_one_line(self.home.run("snapshot", *args), 1, why)
        self.assertEqual(self.home.run("snapshot", "rm", "nosuch", "b1").out, b"b1\n")
        self.home.ok("snapshot", "prune", "-f", "--keep", "2")
        self.assertEqual(self.home.ok("snapshot", "ls", "--format", "{{.Name}}", "-f", "box=a").lines, ["a3", "a2"])
        self.assertIn("Total reclaimed space: ", self.home.ok("snapshot", "prune", "-f", "--max-bytes", "0").text)
        self.assertEqual((self.home.ok("snapshot", "ls", "-q").lines, self.folders()), ([], []))

    @core
    def test_fork(self):
        """So many new boxes, each with a disk of its own; of one that never wrote anything too."""
        box = self.box("seed", "box", "sh", "-c", "[ -e /x ] || echo seed > /x; echo $HOSTNAME >> /x; cat /x")
        self.snapshot(box, "s")
        ids = self.home.ok("snapshot", "fork", "-n", "2", "s").lines
        self.home.ok("create", "--name", "never", "box", "cat", "/etc/plain")
        self.snapshot("never", "n")
        self.assertEqual(os.listdir(self.home.path / "snapshots" / self.inspect("n")["Id"]), [])
        ids += self.home.ok("snapshot", "fork", "n").lines
        self.made += ["never", *ids]
        for n in (0, 1):
            self.assertEqual(self.home.ok("start", "-a", ids[n]).text,
                             "seed\n%s\n%s\n" % (self.home.inspect(box)["Id"][:12], ids[n][:12]))
        self.home.ok("start", "-a", ids[2])
        # Back to nothing written, too.
        self.home.ok("start", "-a", "never")
        self.assert_out(self.home.run("snapshot", "restore", "never", "n"), "never\n")
        self.assertEqual(self.home.ok("diff", "never").text, "")
        # A box is put back to what it was itself: not to what a box of the same image was, not even when that is gone.
        self.home.ok("rm", box)
        self.made.remove(box)
        for other in (self.box("other", "debian", "true"), "never", ids[0]):
            before = self.home.ok("export", other).out
            self.assert_one_line(self.home.run("snapshot", "restore", other, "s"), 1,
                                 r"snapshot s is of box seed \([0-9a-f]{12}\) \(make a new box of it: "
                                 r"a3s-box snapshot restore s --name")
            self.assertEqual(self.home.ok("export", other).out, before)

    def full_tar(self, box):
        return entries(self.home.ok("exec", box, "sh", "-c", TAR + " || [ $? = 1 ]", timeout=300).out)

    @slow(600)
    def test_torture(self):
        """All that files can be, by what tar says in the box: a snapshot of it running, put back and as a new box."""
        box = self.box("worker", "-d", "debian", "sleep", "1000")
        self.sh(box, WORK, timeout=300)
        theirs = self.full_tar(box)
        self.snapshot(box, "live")
        self.sh(box, "rm -r /new; echo changed > /usr/bin/wc; rm -r /etc/cron.daily")
        self.home.ok("stop", "-t", "1", box)
        self.home.ok("snapshot", "restore", box, "live")
        self.home.ok("start", box)
        self.assertEqual(differences(self.full_tar(box), theirs, MOUNTED), [])
        self.home.ok("snapshot", "restore", "live", "--name", "copy")
        self.made.append("copy")
        self.home.ok("start", "copy")
        self.assertEqual(differences(self.full_tar("copy"), theirs, MOUNTED), [])

    @slow(300)
    def test_cost(self):
        """A snapshot of a box that wrote 50 MB takes 50 MB, and not the holes that its disk is mostly made of."""
        box = self.box("writer", "box", "sh", "-c", "head -c 50000000 /dev/urandom > /big")
        self.snapshot(box, "s")
        size = self.inspect("s")["Size"]
        self.assertGreater(size, 50_000_000)
        self.assertLess(size, 52_000_000)
        self.snapshot(self.box("idle", "box", "true"), "i")
        self.assertLess(self.inspect("i")["Size"], 1_000_000)

    @slow(600)
    def test_killed(self):
        """kill -9 at any moment of each command: a snapshot is there or not, a box is whole, and nothing else stays."""
        rng = random.Random("%d snapshot" % SEED)
        box = self.box("victim", "box", "sh", "-c", "head -c 40000000 /dev/urandom > /big")
        whole = self.content(box)
        self.assertEqual(len(whole), 40_000_000)
        self.snapshot(box, "keep")
        commands = {"create": ("create", box, "made"), "restore": ("restore", box, "keep"),
                    "fork": ("restore", "keep", "--name", "forked"), "rm": ("rm", "made")}
        for n in range(ROUNDS * 2):
            name = rng.choice(sorted(commands))
            moment = rng.uniform(0, 0.25)
            with self.subTest(seed=SEED, round=n, command=name, moment=moment):
                if name == "rm":
                    self.home.run("snapshot", "create", box, "made")
                p = self.home.popen("snapshot", *commands[name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                time.sleep(moment)
                p.send_signal(signal.SIGKILL)
                p.wait()
                there = self.home.ok("snapshot", "ls", "-q", "--no-trunc").lines
                wait_for("what was half-made to go", lambda t=there: self.home.ok("ps", "-q") and self.folders() == sorted(t))
                if "made" in self.home.ok("snapshot", "ls", "--format", "{{.Name}}").lines:
                    self.home.ok("snapshot", "restore", box, "made")
                    self.home.ok("snapshot", "rm", "made")
                for victim in ("forked", box) if self.home.run("inspect", "forked").rc == 0 else (box,):
                    self.assertTrue(self.content(victim) == whole, victim)
                self.home.run("rm", "-f", "forked")
        self.assertEqual(sorted(os.listdir(self.home.path / "boxes")), [self.home.inspect(box)["Id"]])
        self.assert_rc(self.home.run("image-check"), 0)


class Full(SnapshotTest):
    images_wanted = ("box",)

    def test_disk_full(self):
        """A snapshot that does not fit is none, and takes nothing; a restore that does not fit changes nothing; the box lives."""
        mount = self.home.path / "snapshots"
        mount.mkdir(exist_ok=True)
        if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "x", mount], check=False).returncode:
            raise unittest.SkipTest("no file system can be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", mount], check=True)
        box = self.box("big", "-d", "box", "sleep", "1000")
        self.sh(box, "echo small > /f")
        self.snapshot(box, "small")
        self.sh(box, "head -c 40000000 /dev/urandom > /big; sync")
        self.assert_one_line(self.home.run("snapshot", "create", box), 1, "No space left on device")
        self.assertEqual(self.folders(), [self.inspect("small")["Id"]])
        self.assertEqual(self.sh(box, "cat /f; echo alive > /f; cat /f"), "small\nalive\n")
        self.home.ok("stop", "-t", "1", box)
        self.home.ok("snapshot", "restore", box, "small")
        self.home.ok("start", box)
        self.assertEqual(self.sh(box, "cat /f; ls /big 2>/dev/null; true"), "small\n")


class Size(SnapshotTest):
    images_wanted = ("box",)

    @core
    def test_storage_opt(self):
        box = self.box("small", "-d", "--storage-opt", "size=64m", "box", "sleep", "1000")
        blocks = int(self.sh(box, "df -k / | tail -n 1").split()[1])
        self.assertTrue(50 << 10 < blocks < 64 << 10, blocks)
        full = self.home.run("exec", box, "dd", "if=/dev/zero", "of=/x", "bs=1M", "count=100")
        self.assertIn(b"No space left", full.err)
        self.assertEqual(self.sh(box, "rm /x; echo alive > /y; cat /y"), "alive\n")
        self.assertEqual(self.home.inspect(box)["HostConfig"]["StorageOpt"], {"size": str(64 << 20)})
        self.assertEqual(os.stat(self.disk(box)).st_size, 64 << 20)
        # A box of its snapshot has a disk of that size.
        self.home.ok("stop", "-t", "1", box)
        self.snapshot(box, "s")
        self.home.ok("snapshot", "restore", "s", "--name", "copy")
        self.made.append("copy")
        self.assertEqual(os.stat(self.disk("copy")).st_size, 64 << 20)
        for given, why in (("size=1m", "from 32m"), ("size=9000g", "to 8192g"), ("size=x", "expected a size"),
                           ("foo=1", "no such option")):
            self.assert_one_line(self.home.run("run", "--rm", "--storage-opt", given, "box", "true"), 125, why)

    @slow(300)
    def test_given_back(self):
        """What is deleted in the box is free on the host, while it runs."""
        box = self.box("trim", "-d", "box", "sleep", "1000")
        disk = self.disk(box)
        self.sh(box, "head -c 200000000 /dev/urandom > /x; sync", timeout=120)
        self.assertGreater(os.stat(disk).st_blocks * 512, 190_000_000)
        self.sh(box, "rm /x; sync")
        wait_for("the blocks to come back", lambda: os.stat(disk).st_blocks * 512 < 20_000_000, 60)
