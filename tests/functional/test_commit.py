"""commit: an image of what a box changed; and export's ways out."""

import json
import os
import random
import signal
import subprocess
import tarfile
import tempfile
import time

from a3s import BoxTest, core, kill_hard, slow, wait_for
from images import tool
from test_disk import TAR, WORK, differences, entries

ROUNDS = 20
SEED = int(os.environ.get("A3S_TEST_SEED", random.SystemRandom().randrange(1 << 32)))
# What is mounted, or made to mount on it, and the folder whose time that changes.
MOUNTED = ("", ".", "etc", "etc/hosts", "etc/hostname", "etc/resolv.conf", "dev", "proc", "sys")


class CommitTest(BoxTest):
    images_wanted = ("box", "debian")

    def setUp(self):
        super().setUp()
        self.made = []

    def tearDown(self):
        if self.made:
            self.home.run("rm", "-f", *self.made)
        super().tearDown()
        for image in self.home.ok("images", "-q", "--no-trunc", "-f", "label=made").lines:
            self.home.run("rmi", "-f", image)

    def commit(self, *args, **options):
        return self.home.ok("commit", "-c", "LABEL made=here", *args, **options).text.strip()

    def config(self, image):
        return json.loads(self.home.ok("image-inspect", image).out)[0]

    def named(self, name, *args):
        self.home.ok("run", "--name", name, *args)
        self.made.append(name)
        return name

    def full_tar(self, box):
        return entries(self.home.ok("exec", box, "sh", "-c", TAR + " || [ $? = 1 ]", timeout=300).out)

    def inventory(self):
        """Names of what lies in the image store, but for caches that may be made at any time."""
        images = self.home.path / "images"
        return {str(p.relative_to(images)) for p in images.rglob("*") if p.is_file() and p.parent.name != "disks"}


class Commit(CommitTest):
    @core
    def test_files_and_history(self):
        script = "echo new > /new; rm /etc/plain; mkdir /d; echo x > /d/x"
        box = self.named("made", "-e", "A=b", "-w", "/tmp", "box", "sh", "-c", script)
        image = self.commit("-m", "a message", "-a", "An Author <a@b>", box, "made:1")
        self.assertRegex(image, "^sha256:[0-9a-f]{64}$")
        look = "cat /new /d/x; ls /etc/plain; pwd; echo $A; true"
        self.assertEqual(self.home.ok("run", "--rm", "made:1", "sh", "-c", look).text, "new\nx\n/tmp\nb\n")
        history = self.home.ok("history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", "made:1").lines
        self.assertEqual(history[0], "sh -c %s|a message" % script)
        self.assertEqual(self.config(image)["Author"], "An Author <a@b>")
        self.assertEqual(self.home.ok("diff", box).text, "A /d\nA /d/x\nC /etc\nD /etc/plain\nA /new\n")
        form = "{{.Type}} {{.Action}} {{json .Actor}}"
        events = self.home.ok("events", "--since", "5m", "--until", "0s", "--format", form).text
        self.assertRegex(events, 'container commit .*"comment":"a message".*"imageID":"%s".*"imageRef":"made:1"' % image)

    def test_layers_lie_over_each_other(self):
        """What one commit brings the next deletes; the base's layers are shared, and a commit of nothing adds none."""
        box = self.named("one", "box", "sh", "-c", "mkdir /d; echo 1 > /d/1; echo 2 > /d/2")
        self.commit(box, "made:1")
        box = self.named("two", "made:1", "sh", "-c", "rm /d/1; rm -r /home; mkdir /home; echo 3 > /d/3")
        self.commit(box, "made:2")
        self.assertEqual(self.home.ok("run", "--rm", "made:2", "sh", "-c", "ls /d /home").text, "/d:\n2\n3\n\n/home:\n")
        layers = [self.config(i)["RootFS"]["Layers"] for i in ("box", "made:1", "made:2")]
        self.assertEqual([len(l) for l in layers], [len(layers[0]), len(layers[0]) + 1, len(layers[0]) + 2])
        self.assertEqual(layers[2][:len(layers[1])], layers[1])
        self.home.ok("create", "--name", "idle", "made:2")
        self.made.append("idle")
        self.commit("-m", "nothing", "idle", "made:3")
        self.assertEqual(self.config("made:3")["RootFS"]["Layers"], layers[2])
        self.assert_rc(self.home.run("image-check"), 0)

    @core
    def test_changes(self):
        box = self.named("box", "box", "true")
        lines = ["CMD [\"echo\", \"cmd\"]", "ENTRYPOINT [\"/bin/env\"]", "ENV X=y", "EXPOSE 80/tcp", "LABEL l=v", "USER 5:6",
                 "WORKDIR /tmp", "VOLUME /v", "STOPSIGNAL SIGINT", "ONBUILD RUN x", "HEALTHCHECK CMD true"]
        self.commit(*[a for line in lines for a in ("-c", line)], "-t", "made:c", box)
        c = self.config("made:c")["Config"]
        self.assertEqual((c["Cmd"], c["Entrypoint"], c["User"], c["WorkingDir"], c["StopSignal"]),
                         (["echo", "cmd"], ["/bin/env"], "5:6", "/tmp", "SIGINT"))
        self.assertIn("X=y", c["Env"])
        self.assertEqual((c["ExposedPorts"], c["Volumes"], c["Labels"]["l"]), ({"80/tcp": {}}, {"/v": {}}, "v"))
        self.assertEqual((c["OnBuild"], c["Healthcheck"]["Test"]), (["RUN x"], ["CMD-SHELL", "true"]))

    @core
    def test_refused(self):
        box = self.named("box", "box", "true")
        before = self.inventory()
        for args, why in (((box, "UPPER"), "UPPER"), (("-c", "RUN x", box), "RUN"), ((box, "a@sha256:" + "0" * 64), "digest"),
                          (("nosuch",), "no such box: nosuch"), ((), "a box is needed"), (("-t", "a", box, "b"), "twice"),
                          (("-m", "x" * 100000, box), "message is longer")):
            self.assert_one_line(self.home.run("commit", *args), 1, why)
        self.home.ok("run", "-d", "--name", "whiteout", "box", "sh", "-c", "echo > /.wh.x; sleep 1000")
        self.made.append("whiteout")
        self.home.ok("exec", "whiteout", "sh", "-c", "while [ ! -e /.wh.x ]; do sleep 0.1; done")
        self.assert_one_line(self.home.run("commit", "whiteout"), 1, r"begin with \.wh\.")
        self.assertEqual(self.inventory(), before)

    @core
    def test_a_hole_too_large_for_a_layer(self):
        self.named("hole", "box", "truncate", "-s", str(4 << 40), "/hole")
        before = self.inventory()
        # To read it would take longer.
        self.assert_one_line(self.home.run("commit", "hole", timeout=300), 1, "the layer is larger than 65536 MiB")
        self.assertEqual(self.inventory(), before)

    @core
    def test_refused_before_the_box_is_touched(self):
        """A box that was killed would be booted first, to bring its disk in order, which writes to it."""
        box = self.named("torn", "-d", "box", "sh", "-c", "echo x > /x; sync; sleep 1000")
        self.home.ok("exec", box, "sh", "-c", "while [ ! -e /x ]; do sleep 0.1; done")
        for pid in self.home.find_machines():
            kill_hard(pid)
        self.home.wait_status(box, "exited")
        disk = max((self.home.path / "boxes").rglob("*"), key=lambda p: p.stat().st_size if p.is_file() else 0)
        before = disk.stat().st_mtime_ns
        for args, why in (((box, "UPPER"), "UPPER"), (("-c", "ADD x y", box), "ADD"), (("-c", "USER $NONE", box), "USER"),
                          (("-c", "EXPOSE 99999", box), "EXPOSE"), (("-m", "\udcff", box), "UTF-8")):
            self.assert_one_line(self.home.run("commit", *args), 1, why)
            self.assertEqual(disk.stat().st_mtime_ns, before, args)
        self.commit(box, "made:torn")
        self.assertNotEqual(disk.stat().st_mtime_ns, before)
        # Variables are those of the box.
        self.commit("-c", "WORKDIR $A", "-c", "ENV B=$A/b", self.named("vars", "-e", "A=/var", "box", "true"), "made:v")
        self.assertEqual(self.config("made:v")["Config"]["WorkingDir"], "/var")
        self.assertIn("B=/var/b", self.config("made:v")["Config"]["Env"])

    @slow(600)
    def test_torture(self):
        """Everything that overlayfs treats in a way of its own, running and stopped: a box of the image sees the same."""
        box = self.named("worker", "-d", "debian", "sleep", "1000")
        self.home.ok("exec", box, "sh", "-c", WORK, timeout=300)
        # A log's zeros would be written to the image; the hole is diff's to test.
        self.home.ok("exec", box, "rm", "/new/holes")
        theirs = self.full_tar(box)
        self.commit(box, "made:live")
        self.home.ok("stop", "-t", "1", box)
        self.commit(box, "made:still")
        for image in ("made:live", "made:still"):
            copy = self.named("copy", "-d", image, "sleep", "1000")
            self.assertEqual(differences(self.full_tar(copy), theirs, MOUNTED), [], image)
            self.home.ok("rm", "-f", copy)
        self.others_read("made:still", theirs)

    def others_read(self, image, theirs):
        """skopeo copies it and umoci unpacks it, link by link and owner by owner."""
        with tempfile.TemporaryDirectory(dir=self.home.tmp) as tmp:
            self.home.ok("save", "-o", tmp + "/image.tar", image)
            tool("skopeo", "copy", "-q", "oci-archive:%s/image.tar" % tmp, "oci:%s/layout:x" % tmp)
            if os.geteuid() != 0:
                return
            tool("umoci", "unpack", "--image", tmp + "/layout:x", tmp + "/bundle")
            p = subprocess.run(["tar", "-C", tmp + "/bundle/rootfs", "--format=pax", "--numeric-owner", "--xattrs",
                                "--xattrs-include=*", "-cf", "-", "."], check=True, capture_output=True)
            ours = entries(p.stdout)
            for tree in (ours, theirs):
                for what in tree.values():
                    what["mtime"] = what["mtime"].split(".")[0]  # umoci keeps no fractions
            self.assertEqual(differences(ours, theirs, MOUNTED), [])

    @slow(300)
    def test_a_writer_meanwhile(self):
        """A database with a journal and a file of records, both written all the time: an image of a moment is whole."""
        writer = ("i=0; while :; do i=$((i+1)); printf 'record %08d\\n' $i >> /log; echo $i > /state.new; sync; "
                  "mv /state.new /state; done")
        box = self.named("writer", "-d", "box", "sh", "-c", writer)
        seen = 0
        for n in range(4):
            time.sleep(0.5)
            self.home.ok("exec", box, "sh", "-c", "sync")
            acknowledged = int(self.home.ok("exec", box, "sh", "-c", "cat /state 2>/dev/null || echo 0").text)
            self.commit(box, "made:w%d" % n)
            out = self.home.ok("run", "--rm", "--entrypoint", "", "made:w%d" % n, "sh", "-c", "cat /state; cat /log").lines
            records = [int(line.split()[1]) for line in out[1:]]
            self.assertEqual(records, list(range(1, len(records) + 1)))
            self.assertGreaterEqual(len(records), int(out[0]))
            self.assertGreaterEqual(int(out[0]), acknowledged)
            self.assertGreater(len(records), seen)
            seen = len(records)

    @slow(600)
    def test_killed(self):
        """kill -9 at any moment: the image is there or not, nothing else stays, and the next commit works."""
        rng = random.Random("%d commit" % SEED)
        box = self.named("victim", "debian", "sh", "-c", "head -c 20000000 /dev/urandom > /big")
        start = time.monotonic()
        self.commit(box, "made:first")
        whole = time.monotonic() - start
        self.home.ok("rmi", "made:first")
        before = self.inventory()
        for n in range(ROUNDS):
            moment = rng.uniform(0, whole * 1.1)
            with self.subTest(seed=SEED, round=n, moment=moment):
                p = self.home.popen("commit", "-m", "r%d" % n, box, "made:k", stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL)
                time.sleep(moment)
                p.send_signal(signal.SIGKILL)
                p.wait()
                if self.home.run("image-inspect", "made:k").rc == 0:
                    self.assertEqual(self.home.ok("run", "--rm", "made:k", "sh", "-c", "wc -c < /big").text.strip(), "20000000")
                    self.home.ok("rmi", "-f", "made:k")
        self.commit(box, "made:k")
        self.home.ok("rmi", "made:k")
        self.home.ok("image-prune", "-f")
        # Content without a row goes with a collection, which the last removal made.
        self.assertEqual(self.inventory() - before, set())
        self.assert_rc(self.home.run("image-check"), 0)


class Export(CommitTest):
    @core
    def test_output(self):
        box = self.named("box", "box", "sh", "-c", "echo hi > /hi; truncate -s 2G /hole; echo end >> /hole")
        with tempfile.TemporaryDirectory(dir=self.home.tmp) as tmp:
            path = os.path.join(tmp, "x.tar")
            self.home.ok("export", "-o", path, box)
            self.assertEqual(os.listdir(tmp), ["x.tar"])
            self.assertLess(os.stat(path).st_size, 20_000_000)
            with open(path, "rb") as f:
                self.assertEqual(f.read(), self.home.ok("export", box).out)
            with tarfile.open(path) as t:
                self.assertEqual(t.getmember("hole").size, (2 << 30) + 4)
                self.assertEqual(t.extractfile("hi").read(), b"hi\n")
            # GNU tar makes holes of it again.
            subprocess.run(["tar", "-C", tmp, "-xf", path, "hole"], check=True)
            st = os.stat(os.path.join(tmp, "hole"))
            self.assertEqual((st.st_size, st.st_blocks < 100), ((2 << 30) + 4, True))
            self.assert_one_line(self.home.run("export", "-o", tmp, box), 1, "directory")
            self.assert_one_line(self.home.run("export", "-o", tmp + "/no/x", box), 1, "No such file")
            self.assert_one_line(self.home.run("export", "-o", tmp + "/y", "nosuch"), 1, "no such box")
            self.assertEqual(sorted(os.listdir(tmp)), ["hole", "x.tar"])
            self.assert_one_line(self.home.run("export", "-o", "/dev/full", box), 1, "No space left")

    def test_into_an_image(self):
        """import of an export is the box again."""
        box = self.named("box", "box", "sh", "-c", "echo hi > /hi; chmod 4711 /hi; ln /hi /hi2")
        out = self.home.ok("export", box).out
        image = self.home.ok("import", "-c", "LABEL made=here", "-", input=out).text.strip()
        copy = self.named("copy", image, "true")
        self.assertEqual(differences(entries(self.home.ok("export", copy).out), entries(out), MOUNTED), [])


class Sqlite(CommitTest):
    images_wanted = ("python",)

    @slow(300)
    def test_database(self):
        """SQLite with fsync, committed while it is written: what was acknowledged before is there, and it is no wreck."""
        program = ("import sqlite3,time\n"
                   "d=sqlite3.connect('/db');d.execute('pragma journal_mode=wal');d.execute('create table if not exists t(n)')\n"
                   "n=0\nwhile True:\n n+=1;d.execute('insert into t values(?)',(n,));d.commit();print(n,flush=True)\n")
        self.home.ok("run", "-d", "--name", "db", "python", "python3", "-c", program)
        self.made.append("db")
        wait_for("the first row", lambda: self.home.ok("logs", "db").lines, 60)
        for n in range(3):
            time.sleep(1)
            acknowledged = int((self.home.ok("logs", "--tail", "1", "db").lines or ["0"])[-1])
            self.home.ok("commit", "-c", "LABEL made=here", "db", "made:db%d" % n)
            out = self.home.ok("run", "--rm", "made:db%d" % n, "python3", "-c",
                               "import sqlite3;d=sqlite3.connect('/db');print(d.execute('pragma integrity_check').fetchone()[0]);"
                               "print(*d.execute('select count(*),max(n) from t').fetchone())").lines
            self.assertEqual(out[0], "ok")
            count, last = map(int, out[1].split())
            self.assertEqual(count, last)
            self.assertGreaterEqual(last, acknowledged)
