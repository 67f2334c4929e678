"""Folders and files of the host, volumes and tmpfs in a box: what is seen where, by whom, and what is refused."""

import contextlib
import os
import shutil
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


if __name__ == "__main__":
    unittest.main()
