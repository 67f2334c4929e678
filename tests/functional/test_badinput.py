"""What cannot work gets one clear line and a non-zero status, and changes nothing."""

import os
import shutil

import a3s
from a3s import BoxTest, core


class BadInput(BoxTest):
    def refuse(self, result, rc=None, match=None):
        self.assert_one_line(result, rc, match)
        self.assertEqual(self.home.boxes(), [])

    def copied_programs(self, without=()):
        """A copy of the build tree's programs in which something is missing, readable for everybody."""
        folder = self.home.tmp / "programs"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        folder.chmod(0o755)
        for name in ("a3s-box", "a3s-box-shim", "a3s-box-vmm", "a3s-box-netd", "a3s-box-fsd", "a3s-box-qemu.so",
                     "vmlinux", "initramfs.cpio"):
            if name not in without:
                shutil.copy(a3s.BUILD / name, folder)
                (folder / name).chmod(0o755)
        return folder

    def with_programs(self, folder, *args):
        saved = self.home.program
        self.home.program = str(folder / "a3s-box")
        try:
            return self.home.run(*args)
        finally:
            self.home.program = saved

    @core
    def test_no_qemu(self):
        self.refuse(self.home.run("run", "--rm", "--accel", "tcg", "box", "true", env={"PATH": "/nonexistent"}), 125,
                    "qemu")

    def test_a_qemu_that_is_none(self):
        for path in ("/nonexistent/qemu", "/bin/false", "/etc/passwd"):
            with self.subTest(path):
                self.refuse(self.home.run("run", "--rm", "--accel", "tcg", "box", "true", env={"A3S_QEMU": path}), 125,
                            "qemu|machine")

    def test_without_qemu_the_rest_works(self):
        env = {"PATH": "/nonexistent"}
        self.home.ok("ps", env=env)
        self.home.ok("images", env=env)
        self.home.ok("version", env=env)
        self.home.ok("info", env=env)

    @core
    def test_missing_parts(self):
        for name, match in (("vmlinux", "kernel|vmlinux"), ("initramfs.cpio", "initramfs"), ("a3s-box-shim", "shim")):
            with self.subTest(name):
                self.refuse(self.with_programs(self.copied_programs([name]), "run", "--rm", "box", "true"), 125, match)

    def test_a_copy_elsewhere_works(self):
        self.assert_out(self.with_programs(self.copied_programs(), "run", "--rm", "box", "echo", "moved"), "moved\n")

    def test_a_kernel_that_is_none(self):
        folder = self.copied_programs(["vmlinux"])
        (folder / "vmlinux").write_bytes(b"not a kernel\n" * 1000)
        self.refuse(self.with_programs(folder, "run", "--rm", "box", "true"), 125)

    @core
    def test_unreadable_home(self):
        where = self.home.base / "file"
        where.write_text("not a folder\n")
        for path in (where, where / "below", "/proc/nosuch/home"):
            with self.subTest(str(path)):
                for command in (("ps",), ("images",), ("run", "--rm", "box", "true")):
                    self.assert_one_line(self.home.run(*command, env={"A3S_HOME": str(path)}))

    def test_a_home_without_permission(self):
        if os.geteuid() == 0 and self.home.uid is None:
            self.skipTest("root may read everything")
        where = self.home.base / "closed"
        where.mkdir(mode=0o000)
        self.assert_one_line(self.home.run("ps", env={"A3S_HOME": str(where)}), match="closed|ermission")
        where.rmdir()

    @core
    def test_a_very_long_home(self):
        """It works, or says in one line that it cannot."""
        where = str(self.home.base / ("x" * 200))
        env = {"A3S_HOME": where}
        result = self.home.run("load", "-i", self.image_file("box"), env=env)
        if result.rc == 0:
            result = self.home.run("run", "--rm", "box", "echo", "works", env=env)
            if result.rc == 0:
                self.assert_out(result, "works\n")
                shutil.rmtree(where)
                return
        self.assert_one_line(result, match="long|socket|path|name")
        shutil.rmtree(where, ignore_errors=True)

    def test_a_home_below_a_name_with_odd_characters(self):
        where = self.home.base / "a b,c=d'e"
        env = {"A3S_HOME": str(where)}
        self.home.ok("load", "-i", self.image_file("box"), env=env)
        self.assert_out(self.home.run("run", "--rm", "box", "echo", "fine", env=env), "fine\n")
        shutil.rmtree(where)

    def test_a_relative_home(self):
        """Either refused or taken relative to where the command runs; never two different homes."""
        result = self.home.run("ps", env={"A3S_HOME": "relative"})
        if result.rc:
            self.assert_one_line(result)
        shutil.rmtree(self.home.base / "relative", ignore_errors=True)

    @core
    def test_commands_and_flags(self):
        for args in (("nosuch",), ("ps", "--nosuch"), ("ps", "-z"), ("stop",), ("rm",), ("load", "-i"), ("inspect",),
                     ("stop", "-t", "soon", "x"), ("images", "--nosuch"), ("--nosuch",), ("exec",), ("wait",), ("pull",),
                     ("rmi",), ("kill",), ("logs",)):
            with self.subTest(args):
                self.assert_one_line(self.home.run(*args))

    def test_docker_flags_not_yet_built_are_refused(self):
        """Promise 2: never accepted and ignored."""
        for args in (("-v", "/tmp:/tmp:shared"), ("--network", "host"), ("--mount", "type=npipe,target=/x")):
            with self.subTest(args):
                self.refuse(self.home.run("run", "--rm", *args, "box", "true"), 125)

    def test_no_command_shows_what_there_is(self):
        result = self.home.run()
        self.assertIn(b"run", result.out + result.err_all)

    @core
    def test_accel_that_cannot_be_had(self):
        self.refuse(self.home.run("run", "--rm", "--accel", "nosuch", "box", "true"), 125, "nosuch|accel")
        mine = os.geteuid() if self.home.uid is None else self.home.uid
        if not os.path.exists("/dev/kvm") or (mine != 0 and not os.stat("/dev/kvm").st_mode & 0o006):
            self.refuse(self.home.run("run", "--rm", "--accel", "kvm", "box", "true"), 125, "kvm")

    def test_control_characters_do_not_reach_the_terminal(self):
        result = self.home.run("run", "--rm", "--pull", "never", "box", "\x1b[31mred")
        self.assertNotIn(b"\x1b", result.err_all)

    def test_closed_standard_streams(self):
        """No descriptor of ours ends up where a standard stream was."""
        result = self.home.run("run", "--rm", "box", "echo", "x", wrap=["sh", "-c", 'exec "$@" <&- 2>&-', "sh"])
        self.assertEqual(result.out, b"x\n")

    def test_full_output_device(self):
        result = self.home.run("ps", wrap=["sh", "-c", 'exec "$@" >/dev/full', "sh"])
        self.assert_one_line(result)
