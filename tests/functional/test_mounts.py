"""Folders and files of the host, volumes and tmpfs in a box: what is seen where, by whom, and what is refused."""

import contextlib
import os
import select
import shutil
import signal
import socket
import stat
import unittest

import images
from a3s import BoxTest, core, kill_hard, wait_for


def odd_layer():
    """The box's, with links where things are going to be mounted."""

    def add(tree):
        images.add_test_files(tree)
        tree.folder("real", 0o755)
        tree.folder("data", 0o711, uid=7, gid=8)
        tree.file("data/from-image", "image\n")
        tree.link("inside", "/real")
        tree.link("nowhere", "made/by/a/link")
        tree.link("outside", "../../../../../../tmp")
        tree.link("loop", "loop")

    return images.busybox_image.busybox_layer(images.PASSWD, images.GROUP, add)


class MountTest(BoxTest):
    def setUp(self):
        super().setUp()
        self.share = self.home.base / "share"
        self.share.mkdir()
        self.give(self.share)

    def tearDown(self):
        try:
            super().tearDown()
        finally:
            shutil.rmtree(self.share, ignore_errors=True)

    def give(self, path):
        """What the test makes belongs to whom the boxes run as."""
        if self.home.uid is not None:
            os.chown(path, self.home.uid, self.home.uid, follow_symlinks=False)

    def write(self, name, text="", mode=0o644):
        path = self.share / name
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        self.give(path)
        return path

    def folder(self, name):
        path = self.share / name
        path.mkdir()
        self.give(path)
        return path

    def sh(self, script, *options, image="box"):
        return self.home.run("run", "--rm", *options, image, "sh", "-c", script)

    @contextlib.contextmanager
    def running(self, *options, image="box"):
        box = self.home.run_detached(*options, image, "sleep", "100000")
        try:
            yield box
        finally:
            self.home.run("rm", "-f", box)

    def exec(self, box, script, *options):
        return self.home.run("exec", *options, box, "sh", "-c", script)

    @property
    def owner(self):
        return self.home.uid if self.home.uid is not None else os.geteuid()


class Binds(MountTest):
    """Folders and files of the host."""

    @core
    def test_a_folder_both_ways(self):
        self.write("a", "one\n")
        with self.running("-v", "%s:/mnt" % self.share) as box:
            self.assert_out(self.exec(box, "cat /mnt/a; ls /mnt"), "one\na\n")
            self.write("a", "twenty two\n")
            self.write("b", "new\n")
            self.assert_out(self.exec(box, "cat /mnt/a; stat -c %s /mnt/a; ls /mnt"), "twenty two\n11\na\nb\n")
            (self.share / "b").rename(self.share / "c")
            (self.share / "a").unlink()
            self.folder("d")
            self.assert_out(self.exec(box, "ls /mnt; cat /mnt/b 2>&1"), "c\nd\ncat: can't open '/mnt/b': "
                            "No such file or directory\n", 1)
            self.assert_out(self.exec(box, "echo in the box > /mnt/d/x; mkdir -p /mnt/e/f; mv /mnt/c /mnt/e/f/g"), "")
            self.assertEqual((self.share / "d/x").read_text(), "in the box\n")
            self.assertEqual((self.share / "e/f/g").read_text(), "new\n")
            self.assert_out(self.exec(box, "rm -r /mnt/d /mnt/e"), "")
            self.assertEqual(os.listdir(self.share), [])

    @core
    def test_a_file(self):
        greeting = self.write("greeting", "hello\n")
        self.write("neighbour", "not for the box\n")
        with self.running("-v", "%s:/etc/plain" % greeting, "-v", "%s:/new/place/file:ro" % greeting) as box:
            self.assert_out(self.exec(box, "cat /etc/plain /new/place/file; ls /new/place"), "hello\nhello\nfile\n")
            self.write("greeting", "changed\n")
            self.assert_out(self.exec(box, "cat /etc/plain"), "changed\n")
            self.assert_out(self.exec(box, "echo back > /etc/plain"), "")
            self.assertEqual(greeting.read_text(), "back\n")
            self.assertNotEqual(self.exec(box, "echo x > /new/place/file").rc, 0)
            self.assertEqual(greeting.read_text(), "back\n")

    def test_kinds_must_fit(self):
        self.write("f")
        self.assert_one_line(self.sh("true", "-v", "%s/f:/work" % self.share), 125, "file cannot be mounted on a folder")
        self.assert_one_line(self.sh("true", "-v", "%s:/etc/plain" % self.share), 125,
                             "folder cannot be mounted on a file")

    @core
    def test_read_only_is_not_the_boxs_to_change(self):
        self.write("f", "kept\n")
        script = ("cd /mnt; for i in 1 2 3; do echo x > f; touch new; rm f; chmod 777 f; mkdir d; mv f g; ln f h; "
                  "mount -o remount,rw,bind /mnt; mount -o remount,rw /mnt; done; "
                  "mkdir /again; mount -t virtiofs a3s /again && (cd /again/0; echo y > f; rm f; touch new); cat /mnt/f")
        for options in ((), ("--privileged",)):
            with self.subTest(options):
                result = self.sh("(%s) 2>/dev/null" % script, "-v", "%s:/mnt:ro" % self.share, *options)
                self.assert_out(result, "kept\n")
                self.assertEqual((self.share / "f").read_text(), "kept\n")
                self.assertEqual(os.listdir(self.share), ["f"])
        result = self.sh("touch /mnt/new", "-v", "%s:/mnt:ro" % self.share)
        self.assertIn(b"Read-only file system", result.err)

    @core
    def test_owners_are_the_boxs_and_files_the_users(self):
        self.write("mine", "x")
        bind = ("-v", "%s:/mnt" % self.share)
        self.assert_out(self.sh("cd /mnt; stat -c '%u %g' mine; chmod 777 .; echo x > a; chown 999:998 a; chmod 6755 a; "
                                "mkdir d; chown 5 d; mknod p p; mknod n c 1 3; stat -c '%u %g %a' a d", *bind),
                        "0 0\n999 998 6755\n5 0 755\n")
        for name in ("a", "d", "p", "n"):
            now = (self.share / name).lstat()
            self.assertEqual(now.st_uid, self.owner, name)
            self.assertEqual(now.st_mode & 0o7000, 0, name)
        self.assertTrue(stat.S_ISREG((self.share / "n").lstat().st_mode))
        self.assert_out(self.sh("cd /mnt; stat -c '%u %g %a %F' a d p n", *bind),
                        "999 998 6755 regular file\n5 0 755 directory\n0 0 644 fifo\n0 0 644 character special file\n")

    @core
    def test_another_user_in_the_box(self):
        bind = ("-v", "%s:/mnt" % self.share)
        self.assertNotEqual(self.sh("touch /mnt/x", "-u", "999", *bind).rc, 0)
        self.assert_out(self.sh("mkdir /mnt/own && chown 999:999 /mnt/own", *bind), "")
        self.assert_out(self.sh("cd /mnt/own; echo me > f; stat -c '%u %g' f; chmod 600 f; cat f", "-u", "999:999", *bind),
                        "999 999\nme\n")
        self.assertNotEqual(self.sh("cat /mnt/own/f", "-u", "1000", *bind).rc, 0)
        self.assertEqual((self.share / "own/f").stat().st_uid, self.owner)

    def test_chown_of_a_tree(self):
        script = ("cd /mnt; for i in 1 2 3; do mkdir -p t/$i/s; for k in 1 2 3 4 5; do echo $k > t/$i/s/$k; done; done; "
                  "ln -s nowhere t/l; chown -R 1234:4321 t; find t ! -type l ! -user 1234 | wc -l; find t -group 4321 "
                  "-type f | wc -l")
        self.assert_out(self.sh(script, "-v", "%s:/mnt" % self.share), "0\n15\n")
        self.assert_out(self.sh("find /mnt/t -user 1234 -type f | wc -l", "-v", "%s:/mnt" % self.share), "15\n")

    @core
    def test_links_lead_nowhere_on_the_host(self):
        secret = self.home.base / "secret"
        secret.write_text("secret\n", encoding="utf-8")
        try:
            for name, target in (("abs", secret), ("rel", "../secret"), ("up", ".."), ("own", "/opt-marker"),
                                 ("proc", "/proc/self/root/%s" % secret)):
                os.symlink(target, self.share / name)
                self.give(self.share / name)
            result = self.sh("cd /mnt; cat own; for l in abs rel proc up/secret up/share/../secret; do cat $l; done 2>/dev/null;"
                             " echo x > abs; echo x > rel; readlink abs", "-v", "%s:/mnt" % self.share)
            self.assert_out(result, "lower\n%s\n" % secret)
            self.assertEqual(secret.read_text(), "secret\n")
            # The box's own links, followed by nobody on the host.
            self.assert_out(self.sh("ln -s %s /mnt/made; ln -s / /mnt/root; cat /mnt/made 2>&1 | grep -c 'No such'; "
                                    "ls /mnt/root | grep -c opt-marker" % secret, "-v", "%s:/mnt" % self.share), "1\n1\n")
            self.assertEqual(os.readlink(self.share / "made"), str(secret))
        finally:
            secret.unlink()

    @core
    def test_sources(self):
        missing = self.share / "made/below"
        self.assert_out(self.sh("touch /mnt/x", "-v", "%s:/mnt" % missing), "")
        self.assertEqual(os.listdir(missing), ["x"])
        # A link is the user's, and means what it means.
        os.symlink(missing, self.share / "link")
        self.assert_out(self.sh("ls /mnt", "-v", "%s/link:/mnt" % self.share), "x\n")
        nothing = self.share / "nothing"
        self.assert_one_line(self.sh("true", "--mount", "type=bind,src=%s,dst=/mnt" % nothing), 125,
                             "bind source path does not exist")
        self.assertFalse(nothing.exists())
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(str(self.share / "sock"))
            self.assert_one_line(self.sh("true", "-v", "%s/sock:/mnt" % self.share), 125, "is a socket")
        os.mkfifo(self.share / "fifo")
        self.assert_one_line(self.sh("true", "-v", "%s/fifo:/mnt" % self.share), 125, "is a FIFO")
        self.assert_one_line(self.sh("true", "-v", "/dev/null:/mnt"), 125, "is a character device")
        # Relative to where the command is run, which is the base.
        self.assert_out(self.sh("ls /mnt", "-v", "./share/made:/mnt"), "below\n")

    def test_a_source_that_went_away_fails_the_start(self):
        gone = self.folder("gone")
        box = self.home.ok("create", "--mount", "type=bind,src=%s,dst=/mnt" % gone, "box", "ls", "/mnt").text.strip()
        try:
            gone.rmdir()
            self.assert_one_line(self.home.run("start", box), 125, "bind source path does not exist")
            gone.mkdir()
            self.give(gone)
            self.assert_rc(self.home.run("start", "-a", box), 0)
        finally:
            self.home.run("rm", "-f", box)

    def test_restart(self):
        self.write("f", "first\n")
        with self.running("-v", "%s:/mnt" % self.share) as box:
            self.home.ok("stop", "-t", "0", box)
            self.write("f", "second\n")
            self.home.ok("start", box)
            self.assert_out(self.exec(box, "cat /mnt/f"), "second\n")
            self.home.ok("restart", "-t", "0", box)
            self.assert_out(self.exec(box, "cat /mnt/f; echo third > /mnt/f"), "second\n")
        self.assertEqual((self.share / "f").read_text(), "third\n")

    def test_what_a_killed_box_wrote_is_there(self):
        with self.running("-v", "%s:/mnt" % self.share) as box:
            self.assert_out(self.exec(box, "echo written > /mnt/f"), "")
            for pid in self.home.find_machines():
                kill_hard(pid)
            self.home.wait_status(box, "exited")
        self.assertEqual((self.share / "f").read_text(), "written\n")

    def test_a_killed_server_ends_the_run_and_says_so(self):
        with self.running("-v", "%s:/mnt" % self.share) as box:
            servers = self.home.find_process("a3s-box-fsd", box)
            self.assertEqual(len(servers), 1)
            kill_hard(servers[0])
            self.home.wait_status(box, "exited")
            state = self.home.inspect(box)["State"]
            self.assertIn("mounted files", state["Error"])
            self.assertEqual(state["ExitCode"], 137)
            self.home.ok("start", box)
            self.assert_out(self.exec(box, "touch /mnt/again"), "")
        self.assertEqual(os.listdir(self.share), ["again"])

    def test_a_server_that_does_not_answer(self):
        """As when a file system of the host hangs: who uses its files waits, the rest goes on, and the box can be ended."""
        box = self.home.run_detached("-v", "%s:/mnt" % self.share, "box", "sh", "-c",
                                     "while :; do date >/mnt/alive; sleep 0.1; done")
        try:
            for end in (("stop", "-t", "0"), ("rm", "-f")):
                with self.subTest(end[0]):
                    wait_for("the box to write", (self.share / "alive").exists, 60)
                    (server,) = self.home.find_process("a3s-box-fsd", box)
                    os.kill(server, signal.SIGSTOP)
                    self.assert_out(self.home.run("exec", box, "echo", "here"), "here\n")
                    self.assertEqual(self.home.status(box), "running")
                    # Ten seconds to the workload's end, which waits for its file even then; generously.
                    self.home.ok(*end, box, timeout=45)
                    if end[0] != "rm":
                        self.home.wait_status(box, "exited")
                        self.assertEqual(self.home.inspect(box)["State"]["ExitCode"], 137)
                        (self.share / "alive").unlink()
                        self.home.ok("start", box)
        finally:
            self.home.run("rm", "-f", box)

    def test_a_killed_supervisor_takes_its_server_along(self):
        with self.running("-v", "%s:/mnt" % self.share, "-v", "kept:/vol") as box:
            self.assert_out(self.exec(box, "echo a > /mnt/a; echo v > /vol/v"), "")
            for pid in self.home.find_process("a3s-box-shim", box):
                kill_hard(pid)
            wait_for("the server to end", lambda: not self.home.find_process("a3s-box-fsd"), 10)
            self.assertEqual(self.home.status(box), "exited")
            self.home.ok("start", box)
            self.assert_out(self.exec(box, "cat /mnt/a /vol/v"), "a\nv\n")
        self.home.ok("volume", "rm", "kept")

    def test_a_box_without_mounts_has_no_server(self):
        with self.running("--tmpfs", "/t") as box:
            self.assertEqual(self.home.find_process("a3s-box-fsd"), [])
            self.assertIsNone(self.home.inspect(box)["Machine"]["FileServer"])

    def test_inspect_and_ps(self):
        with self.running("-v", "%s:/mnt:ro" % self.share, "--mount", "type=volume,src=stuff,dst=/vol,volume-label=a=b", "-v",
                          "/anonymous", "--name", "seen") as box:
            j = self.home.inspect(box)
            mounts = {m["Destination"]: m for m in j["Mounts"]}
            self.assertEqual(mounts["/mnt"], {"Type": "bind", "Source": str(self.share), "Destination": "/mnt", "Mode": "ro",
                                              "RW": False, "Propagation": "rprivate"})
            self.assertEqual((mounts["/vol"]["Type"], mounts["/vol"]["Name"], mounts["/vol"]["Driver"],
                              mounts["/vol"]["RW"]), ("volume", "stuff", "local", True))
            self.assertRegex(mounts["/anonymous"]["Name"], "^[0-9a-f]{64}$")
            self.assertEqual(j["HostConfig"]["Binds"], ["%s:/mnt:ro" % self.share])
            self.assertEqual(j["HostConfig"]["Mounts"][0]["VolumeOptions"]["Labels"], {"a": "b"})
            self.assertEqual(j["Config"]["Volumes"], {"/anonymous": {}})
            server = j["Machine"]["FileServer"]
            self.assertLessEqual({"seccomp", "no-new-privileges"}, set(server["Confinement"]), server)
            volume = self.home.ok("volume", "inspect", "stuff", "-f", "{{json .Labels}}").text
            self.assertEqual(volume, '{"a":"b"}\n')
            row = self.home.ok("ps", "--no-trunc", "--format", "{{.Names}} {{.LocalVolumes}} {{.Mounts}}").text
            self.assertIn("seen 2 ", row)
            for value in ("stuff", "/vol", self.share, "/mnt"):
                self.assertEqual(self.home.ok("ps", "-q", "--no-trunc", "--filter", "volume=%s" % value).text.strip(), box)
            self.assertEqual(self.home.ok("ps", "-q", "--filter", "volume=other").text, "")
        self.home.run("volume", "rm", "stuff")


class Targets(MountTest):
    """Where things are mounted, and in which order."""

    @classmethod
    def prepare(cls):
        layer = cls.home.base / "layer.tar"
        layer.write_bytes(odd_layer())
        cls.home.ok("import", "-c", 'VOLUME ["/data", "/cache"]', "-c", "ENV PATH=/bin:/usr/bin", layer, "odd")
        layer.unlink()

    @core
    def test_nested(self):
        outer, inner = self.folder("outer"), self.folder("inner")
        self.write("inner/f", "inner\n")
        result = self.sh("cat /m/sub/f; touch /m/o /m/sub/i /m/sub/t/x /m/p/y; grep -c ' /m' /proc/self/mounts", "-v",
                         "%s:/m/sub" % inner, "--tmpfs", "/m/sub/t", "-v", "%s:/m" % outer, "--tmpfs", "/m/p")
        self.assert_out(result, "inner\n4\n")
        self.assertEqual(sorted(os.listdir(outer)), ["o", "p", "sub"])
        self.assertEqual(sorted(os.listdir(inner)), ["f", "i", "t"])
        self.assertEqual(os.listdir(inner / "t"), [])
        self.assert_out(self.sh("cat /t/f; cat /t/b/f", "--tmpfs", "/t", "-v", "%s:/t/b" % inner, "-v",
                                "%s/f:/t/f" % inner), "inner\ninner\n")

    @core
    def test_links_of_the_image_stay_in_the_box(self):
        self.write("f", "x\n")
        for target, seen in (("/inside", "/real"), ("/inside/deep", "/real/deep"), ("/nowhere", "/made/by/a/link"),
                             ("/outside/new", "/tmp/new")):
            with self.subTest(target):
                result = self.sh("cat %s/f; grep ' %s virtiofs' /proc/self/mounts | wc -l" % (seen, seen), "-v",
                                 "%s:%s" % (self.share, target), image="odd")
                self.assert_out(result, "x\n1\n")
        self.assert_one_line(self.sh("true", "-v", "%s:/loop" % self.share, image="odd"), 125, "symbolic links")
        self.assertEqual(os.listdir(self.share), ["f"])

    @core
    def test_volume_of_the_image(self):
        script = "cat /data/from-image; stat -c '%u %g %a' /data; echo x > /data/new; touch /cache/y; " \
                 "grep -c virtiofs /proc/self/mounts"
        self.assert_out(self.sh(script, image="odd"), "image\n7 8 711\n2\n")
        self.assertEqual(self.home.ok("volume", "ls", "-q").text, "")
        self.assert_out(self.sh("ls /data; grep -c virtiofs /proc/self/mounts", "-v", "%s:/data" % self.share, "--tmpfs",
                                "/cache", image="odd"), "1\n")

    @core
    def test_working_folder_is_made_in_the_mount(self):
        self.assert_out(self.sh("pwd; touch here", "-v", "%s:/mnt" % self.share, "-w", "/mnt/a/b"), "/mnt/a/b\n")
        self.assertTrue((self.share / "a/b/here").exists())

    @core
    def test_own_hosts_file_wins(self):
        hosts = self.write("hosts", "10.1.2.3 chosen\n")
        self.assert_out(self.sh("cat /etc/hosts; cat /etc/hostname | wc -l", "-v", "%s:/etc/hosts:ro" % hosts),
                        "10.1.2.3 chosen\n1\n")

    @core
    def test_own_files_lie_on_a_mount_of_etc(self):
        """hosts, hostname and resolv.conf are the box's, as in Docker, and what has their names there stays as it is."""
        etc = self.folder("etc")
        self.write("etc/hosts", "10.9.9.9 not-this\n")
        self.write("etc/passwd", "root:x:0:0::/:/bin/sh\n")
        options = ("--hostname", "named", "--add-host", "peer:127.0.0.9")
        look = ("cat /etc/hostname; grep -c nameserver /etc/resolv.conf; grep -c not-this /etc/hosts; "
                "ping -c 1 -W 5 peer | head -1")
        seen = "named\n1\n0\nPING peer (127.0.0.9): 56 data bytes\n"
        for more in ((), ("--read-only",), ("--userns", "private")):
            with self.subTest(more):
                script = look + "; echo new > /etc/new && rm /etc/new"
                self.assert_out(self.sh(script, "-v", "%s:/etc" % etc, *options, *more), seen)
                self.assertEqual((etc / "hosts").read_text(), "10.9.9.9 not-this\n")
                self.assertEqual(sorted(os.listdir(etc)), ["hostname", "hosts", "passwd", "resolv.conf"])
                self.assertEqual(((etc / "hostname").read_bytes(), (etc / "resolv.conf").read_bytes()), (b"", b""))
        # All that they want is there now.
        self.assert_out(self.sh(look, "-v", "%s:/etc:ro" % etc, *options), seen)
        self.assert_out(self.sh(look, "--tmpfs", "/etc", *options), seen)
        self.assert_out(self.sh(look, "-v", "etc:/etc", *options), seen)
        self.home.ok("volume", "rm", "etc")
        # One that is mounted for itself wins there, too.
        chosen = self.write("chosen", "10.1.2.3 chosen\n")
        self.assert_out(self.sh("cat /etc/hosts /etc/hostname", "-v", "%s:/etc/hosts" % chosen, "-v", "%s:/etc" % etc, *options),
                        "10.1.2.3 chosen\nnamed\n")
        (etc / "hosts").unlink()
        self.assert_one_line(self.sh("true", "-v", "%s:/etc:ro" % etc), 125, '"/etc/hosts" is hidden by a read-only mount')

    def test_own_files_where_links_lead(self):
        etc = self.folder("etc")
        self.folder("run")
        os.symlink("../run/names/resolv.conf", etc / "resolv.conf")
        os.symlink("../../../../../../../../hosts-of-the-box", etc / "hosts")
        mounts = ("-v", "%s:/etc" % etc, "-v", "%s/run:/run" % self.share)
        self.assert_out(self.sh("grep -c nameserver /etc/resolv.conf /run/names/resolv.conf; grep -c localhost /hosts-of-the-box",
                                *mounts), "/etc/resolv.conf:1\n/run/names/resolv.conf:1\n2\n")
        self.assertEqual(os.stat(self.share / "run/names/resolv.conf").st_size, 0)
        self.assertFalse(os.path.lexists("/hosts-of-the-box"))

    @core
    def test_read_only_box(self):
        result = self.sh("touch /x 2>/dev/null || echo sealed; echo y > /new/place/f; touch /t/z; cat /new/place/f",
                         "--read-only", "-v", "%s:/new/place" % self.share, "--tmpfs", "/t")
        self.assert_out(result, "sealed\ny\n")

    @core
    def test_user_namespace(self):
        self.write("f", "x\n")
        bind = ("-v", "%s:/mnt/new" % self.share)
        self.assert_out(self.sh("cd /mnt/new; stat -c '%u %g' . f ..; echo y > g; chown 999:9 g; stat -c '%u %g' g; "
                                "cat /proc/self/uid_map | tr -s ' '", "--userns", "private", *bind),
                        "0 0\n0 0\n0 0\n999 9\n 0 100000 65536\n")
        self.assertEqual((self.share / "g").stat().st_uid, self.owner)
        self.assert_out(self.sh("stat -c '%u %g' /mnt/new/g", *bind), "999 9\n")

    @core
    def test_mount_forms(self):
        odd = self.folder("a,b \"c\"")
        (odd / "f").write_text("odd\n", encoding="utf-8")
        quoted = str(odd).replace('"', '""')
        self.assert_out(self.sh("cat '/x=y:z/f'; touch '/x=y:z/g' 2>/dev/null || echo ro", "--mount",
                                'type=bind,"src=%s",dst=/x=y:z,readonly' % quoted), "odd\nro\n")
        self.assert_out(self.sh("stat -c %a /t; grep -c ' /t tmpfs.*size=1024k' /proc/self/mounts; touch /t/x", "--mount",
                                "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1700"), "1700\n1\n")
        for read_only in ("", ",ro"):
            result = self.sh("echo x >> /v/f && wc -l < /v/f", "--mount", "src=forms,dst=/v" + read_only)
            self.assertEqual(result.rc == 0, not read_only, result)
        self.assert_out(self.sh("touch /v/h; ls -R /w", "--mount", "src=forms,dst=/v,volume-subpath=a/b", "-v", "forms:/w"),
                        "/w:\na\nf\n\n/w/a:\nb\n\n/w/a/b:\nh\n")
        self.home.ok("volume", "rm", "forms")

    def test_a_subpath_leads_through_no_link(self):
        self.assert_out(self.sh("mkdir /v/d; ln -s /etc /v/abs; ln -s d /v/rel; ln -s .. /v/up", "-v", "linked:/v"), "")
        for path in ("abs", "rel", "up", "rel/x"):
            with self.subTest(path):
                self.assert_one_line(self.sh("true", "--mount", "src=linked,dst=/v,volume-subpath=" + path), 125, "subpath")
        self.home.ok("volume", "rm", "linked")

    def test_volumes_from(self):
        self.write("f", "x\n")
        with self.running("-v", "%s:/mnt" % self.share, "-v", "/anonymous", "-v", "shared:/vol") as box:
            self.assert_out(self.exec(box, "echo a > /anonymous/a; echo v > /vol/v"), "")
            self.assert_out(self.sh("cat /mnt/f /anonymous/a /vol/v; echo y > /vol/w; cat /vol/w", "--volumes-from", box),
                            "x\na\nv\ny\n")
            self.assert_out(self.sh("for d in mnt anonymous vol; do touch /$d/x 2>/dev/null || echo ro; done",
                                    "--volumes-from", box + ":ro"), "ro\nro\nro\n")
            self.assert_out(self.sh("ls /vol; cat /mnt/f", "--volumes-from", box, "--tmpfs", "/vol"), "x\n")
            # It was made for the other box, and stays with it.
            self.assert_out(self.exec(box, "cat /anonymous/a"), "a\n")
            self.home.ok("rm", "-f", "-v", box)
        self.home.ok("volume", "rm", "shared")
        self.assert_one_line(self.sh("true", "--volumes-from", "nobody"), 125, "no such box")

    @core
    def test_bad_values_change_nothing(self):
        for options, why in (
                (("-v", "x y:/t"), "no name of a volume"), (("-v", "/a:/t:ro:x"), "expected [SOURCE:]TARGET"),
                (("-v", "/a:relative"), "not an absolute path"), (("-v", "/a:/"), "nothing can be mounted"),
                (("-v", "/a:/proc"), "own kernel"), (("-v", "/a:/t:shared"), "propagates"),
                (("-v", "vol:/t", "--tmpfs", "/t"), "Duplicate mount point: /t"),
                (("--mount", "dst=/t,size=1"), "no option of a mount"), (("--mount", "type=bind,dst=/t"), "source is missing"),
                (("--volume-driver", "nfs", "-v", "vol:/t"), "only local is there"),
                (("--volumes-from", "x:y:z"), "expected BOX"), (("--mount", '"dst=/t'), "quote")):
            with self.subTest(options):
                self.assertIn(why, self.assert_one_line(self.sh("true", *options), 125).err.decode())
        self.assertEqual(self.home.ok("volume", "ls", "-q").text, "")


# inotify(7) by its numbers, as Debian's smallest image has no more than perl: a line for each event of the paths.
WATCH = r"""
$| = 1;
my $fd = syscall(253); my %path;
for my $p (@ARGV) { my $wd = syscall(254, $fd, $p, 0xfce); die "$p: $!" if $wd < 0; $path{$wd} = $p; }
open(my $in, "<&=", $fd) or die; print "ready $$\n";
while (sysread($in, my $buf, 65536)) {
	while (length $buf) {
		my ($wd, $mask, $cookie, $len) = unpack("iIII", $buf);
		printf("%s %x %u %s\n", $path{$wd} // "-", $mask, $cookie, unpack("Z*", substr($buf, 16, $len)));
		substr($buf, 0, 16 + $len) = "";
	}
}
"""
EVENTS = {0x2: "modify", 0x4: "attrib", 0x8: "close", 0x40: "from", 0x80: "to", 0x100: "create", 0x200: "delete",
          0x400: "delete-self", 0x800: "move-self", 0x4000: "overflow", 0x8000: "ignored"}


class Watcher:
    """A program of a box that waits for changes; events are (path, kind, name)."""

    def __init__(self, home, box, *paths):
        self.process = home.popen("exec", box, "perl", "-e", WATCH, *paths)
        self.cookies = []
        self.rest = b""
        self.pid = self.line().split()[1]

    def line(self, timeout_s=60):
        while b"\n" not in self.rest:
            if not select.select([self.process.stdout], [], [], timeout_s)[0]:
                raise TimeoutError("no event in %d s" % timeout_s)
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                raise AssertionError("the watcher has ended: %r" % self.process.stderr.read())
            self.rest += data
        line, self.rest = self.rest.split(b"\n", 1)
        return line.decode()

    def until(self, kind, name):
        """The events up to the first of that kind and name."""
        seen = []
        while not seen or seen[-1][1:] != (kind, name):
            path, mask, cookie, what = self.line().split(" ", 3)
            mask = int(mask, 16)
            seen.append((path, EVENTS[mask & ~0x40000000] + ("-folder" if mask & 0x40000000 else ""), what))
            if cookie != "0":
                self.cookies.append(cookie)
        return seen

    def close(self):
        self.process.kill()
        self.process.communicate()


class Watches(MountTest):
    """inotify in a box: what the host and other boxes do in what is shared."""

    images_wanted = ("debian",)

    @contextlib.contextmanager
    def watching(self, box, *paths):
        watcher = Watcher(self.home, box, *paths)
        try:
            yield watcher
        finally:
            watcher.close()

    def test_the_hosts_changes(self):
        self.folder("sub")
        with self.running("-v", "%s:/mnt" % self.share, image="debian") as box, \
                self.watching(box, "/mnt", "/mnt/sub") as watcher:
            self.write("f", "text")
            self.assertEqual([e for e in watcher.until("close", "f") if e[1] != "attrib"],
                             [("/mnt", "create", "f"), ("/mnt", "modify", "f"), ("/mnt", "close", "f")])
            (self.share / "f").chmod(0o600)
            watcher.until("attrib", "f")
            (self.share / "f").rename(self.share / "g")
            self.assertEqual(watcher.until("to", "g")[-2:], [("/mnt", "from", "f"), ("/mnt", "to", "g")])
            (self.share / "g").rename(self.share / "sub/h")
            self.assertEqual(watcher.until("to", "h"), [("/mnt", "from", "g"), ("/mnt/sub", "to", "h")])
            self.assertEqual(len(watcher.cookies), 4)
            self.assertEqual(len(set(watcher.cookies)), 2)
            # Who has heard of it sees it.
            self.assert_out(self.exec(box, "cat /mnt/sub/h; ls /mnt"), "textsub\n")
            (self.share / "sub/h").unlink()
            self.assertEqual(watcher.until("delete", "h"), [("/mnt/sub", "delete", "h")])
            self.folder("new")
            self.assertEqual(watcher.until("create-folder", "new"), [("/mnt", "create-folder", "new")])
            (self.share / "new").rmdir()
            self.assertEqual(watcher.until("delete-folder", "new")[-1:], [("/mnt", "delete-folder", "new")])
            (self.share / "sub").rmdir()
            self.assertEqual(watcher.until("ignored", ""), [("/mnt", "delete-folder", "sub"), ("/mnt/sub", "delete-self", ""),
                                                            ("/mnt/sub", "ignored", "")])

    def test_its_own_changes_once(self):
        with self.running("-v", "%s:/mnt" % self.share, image="debian") as box, self.watching(box, "/mnt") as watcher:
            self.assert_out(self.exec(box, "cd /mnt; echo x > own; chmod 4711 own; chown 7:8 own; mv own other; rm other"), "")
            self.write("end")
            kinds = [kind for path, kind, name in watcher.until("create", "end")]
            self.assertEqual(kinds, ["create", "modify", "close", "attrib", "attrib", "from", "to", "delete", "create"])

    def test_a_file(self):
        plain = self.write("plain", "1\n")
        with self.running("-v", "%s:/file" % plain, "-v", "%s:/mnt" % self.share, image="debian") as box, \
                self.watching(box, "/file", "/mnt/plain") as watcher:
            with open(plain, "a", encoding="utf-8") as f:
                f.write("2\n")
            seen = watcher.until("close", "") + watcher.until("close", "")
            self.assertEqual(sorted(seen), [("/file", "close", ""), ("/file", "modify", ""), ("/mnt/plain", "close", ""),
                                            ("/mnt/plain", "modify", "")])
            # As editors save: another file comes into its place.
            self.write("new", "3\n").rename(plain)
            seen = watcher.until("ignored", "")
            self.assertIn(("/mnt/plain", "delete-self", ""), seen)
            self.assertEqual(seen[-1][0], "/mnt/plain")

    def test_another_boxs_changes(self):
        with self.running("-v", "%s:/mnt" % self.share, "-v", "shared:/vol", image="debian") as box, \
                self.running("-v", "%s:/mnt" % self.share, "-v", "shared:/vol", image="debian") as other, \
                self.watching(box, "/mnt", "/vol") as watcher:
            self.assert_out(self.exec(other, "mkdir /mnt/d; mv /mnt/d /mnt/e"), "")
            self.assertEqual(watcher.until("to-folder", "e"), [("/mnt", "create-folder", "d"), ("/mnt", "from-folder", "d"),
                                                               ("/mnt", "to-folder", "e")])
            self.assert_out(self.exec(other, "echo x > /vol/f"), "")
            self.assertEqual([e for e in watcher.until("close", "f") if e[1] != "attrib"],
                             [("/vol", "create", "f"), ("/vol", "modify", "f"), ("/vol", "close", "f")])
        self.home.run("volume", "rm", "shared")

    def test_a_storm(self):
        self.folder("d")
        with self.running("-v", "%s:/mnt" % self.share, image="debian") as box, \
                self.watching(box, "/mnt", "/mnt/d") as watcher:
            server = self.home.find_process("a3s-box-fsd", box)[0]

            def resident_kib():
                with open("/proc/%d/status" % server, encoding="utf-8") as f:
                    return int(next(line for line in f if line.startswith("RssAnon:")).split()[1])

            before = resident_kib()
            # All of it in full would be read for minutes: who does not come along hears what the kernels have kept.
            self.assert_out(self.exec(box, "kill -STOP %s" % watcher.pid), "")
            for i in range(100000 if os.environ.get("A3S_TEST_FULL") else 20000):
                os.mknod(self.share / ("d/%d" % (i % 5000)))
                if i % 5000 == 4999:
                    for entry in os.scandir(self.share / "d"):
                        os.unlink(entry)
            self.write("end")
            self.assert_out(self.exec(box, "kill -CONT %s" % watcher.pid), "")
            while True:
                path, mask, cookie, name = watcher.line().split(" ", 3)
                if EVENTS[int(mask, 16) & 0xffff] == "overflow" or name == "end":
                    break

            def heard_again():
                (self.share / "again").touch()
                (self.share / "again").unlink()
                with contextlib.suppress(TimeoutError):
                    while True:
                        if watcher.line(1).endswith(" again"):
                            return True
                return False

            wait_for("a change after the storm", heard_again, 120, 0)
            self.assertLess(resident_kib() - before, 4096)
            self.assert_out(self.exec(box, "ls /mnt"), "d\nend\n")

    def test_a_watched_box_stops(self):
        with self.running("-v", "%s:/mnt" % self.share, image="debian") as box, self.watching(box, "/mnt") as watcher:
            self.write("f")
            watcher.until("create", "f")
            self.home.ok("stop", "-t", "30", box)
            self.assertEqual(self.home.inspect(box)["State"]["ExitCode"], 143)
            self.home.ok("start", box)
            with self.watching(box, "/mnt") as again:
                self.write("g")
                again.until("create", "g")


if __name__ == "__main__":
    unittest.main()
