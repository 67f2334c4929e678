"""What a box's root can reach of its guest, with default settings; what options change about it; --init and nsexec."""

import signal

from a3s import BoxTest, core, wait_for
from test_isolation import DEFAULT_MASK, DEV, NONE

# System calls by their numbers on x86_64, as perl can make them. Prints what was not refused, then how much was tried.
ATTACKS = r"""
use strict;
my %refused = map { $_ => 1 } (1, 2, 3, 6, 13, 19, 30, 38); # EPERM ENOENT ESRCH ENXIO EACCES ENODEV EROFS ENOSYS
my ($done, $buf) = (0, "\0" x 4096);
$| = 1;
sub attempt {
    my ($name, @call) = @_;
    $done++;
    $! = 0;
    my $r = syscall($call[0], @call[1 .. $#call]);
    print "NOT REFUSED $name ", $! + 0, "\n" if $r >= 0 || !$refused{$! + 0};
}
sub change {
    my ($path, $text) = @_;
    $done++;
    if (open(my $f, ">", $path)) {
        return if !defined(syswrite($f, $text)) && $refused{$! + 0};
        print "NOT REFUSED $path\n";
    } elsif (!$refused{$! + 0}) {
        print "NOT REFUSED $path ", $! + 0, "\n";
    }
}
# The guest's own processes are in the PID namespace around ours: they have no number here.
opendir(my $proc, "/proc");
my %own = map { $_ => 1 } grep { /^\d+$/ } readdir($proc);
print "PROCESSES @{[sort keys %own]}\n" if keys %own > 1;
print "PARENT ", getppid(), "\n" if getppid();
for my $pid (grep { !$own{$_} } 2 .. 300) {
    attempt("kill $pid", 62, $pid, 0);
    attempt("pidfd_open $pid", 434, $pid, 0);
}
attempt("ptrace", 101, 16, 2, 0, 0);
my $iov = pack("QQ", unpack("Q", pack("P", $buf)), 16);
attempt("process_vm_readv", 310, 2, $iov, 1, $iov, 1, 0);
attempt(@$_) for (
    ["bpf", 321, 0, $buf, 72], ["mount", 165, "x", "/tmp", "tmpfs", 0, 0], ["umount2", 166, "/proc/sys", 0],
    ["open_tree", 428, -100, "/", 1], ["move_mount", 429, -100, "/", -100, "/tmp", 0], ["fsopen", 430, "tmpfs", 0],
    ["mount_setattr", 442, -100, "/", 0, $buf, 32], ["pivot_root", 155, "/tmp", "/tmp"],
    ["unshare user", 272, 0x10000000], ["unshare mount", 272, 0x20000], ["setns", 308, 0, 0],
    ["clone user", 56, 0x10000000 | 17, 0, 0, 0, 0], ["clone3", 435, $buf, 88],
    ["init_module", 175, $buf, 10, ""], ["finit_module", 313, 0, "", 0], ["delete_module", 176, "x", 0],
    ["kexec_load", 246, 0, 0, 0, 0], ["reboot", 169, 0xfee1dead, 0x28121969, 0, 0], ["swapon", 167, "/tmp/x", 0],
    ["iopl", 172, 3], ["ioperm", 173, 0, 1024, 1], ["add_key", 248, "user", "a", "b", 1, -3],
    ["keyctl", 250, 0, -3, 1], ["request_key", 249, "user", "a", 0, -3], ["perf_event_open", 298, $buf, 0, -1, -1, 0],
    ["userfaultfd", 323, 0], ["open_by_handle_at", 304, 3, $buf, 0], ["syslog", 103, 3, $buf, 10],
    ["settimeofday", 164, $buf, 0], ["sethostname", 170, "x", 1], ["quotactl", 179, 0, 0, 0, 0],
    ["acct", 163, 0], ["vhangup", 153], ["io_uring_setup", 425, 8, $buf], ["kcmp", 312, 1, 1, 0, 0, 0],
    ["fanotify_init", 300, 0, 0], ["lookup_dcookie", 212, 0, $buf, 10], ["move_pages", 279, 1, 0, 0, 0, 0, 0],
    ["prctl CAP_AMBIENT", 157, 47, 2, 21, 0, 0], ["capset", 126, pack("LL", 0x20080522, 0), "\xff" x 24]);
change(@$_) for (
    ["/proc/sys/kernel/core_pattern", "|/tmp/x"], ["/proc/sys/kernel/modprobe", "/tmp/x"], ["/proc/sysrq-trigger", "b"],
    ["/sys/kernel/uevent_helper", "/tmp/x"], ["/sys/fs/cgroup/release_agent", "/tmp/x"],
    ["/sys/fs/cgroup/memory.max", "max"], ["/sys/fs/cgroup/cgroup.procs", "1"],
    ["/proc/sys/fs/binfmt_misc/register", ":x:M::x::/x:"], ["/sys/block/vda/queue/scheduler", "none"],
    ["/proc/1/oom_score_adj", "-1000"], ["/proc/sys/kernel/core_uses_pid", "1"]);
# Memory, ports, console and disks, by nodes of our own: the list, and what the kernel says it has.
my @disks = map { /^\s*(\d+)\s+(\d+)\s/ ? [060600, $1, $2] : () } do { open(my $f, "<", "/proc/partitions"); <$f> };
print "NO DISKS\n" if @disks < 2;
for ([020600, 1, 1], [020600, 1, 2], [020600, 1, 4], [020600, 1, 11], [020600, 4, 64], [020600, 10, 237],
     [060600, 7, 0], @disks) {
    my ($mode, $major, $minor) = @$_;
    my $node = "/tmp/node";
    syscall(133, $node, $mode, $major << 8 | $minor);
    attempt("open $major:$minor", 2, "/tmp/node", 0, 0);
    unlink("/tmp/node");
}
my $core;
print "KCORE\n" if open($core, "<", "/proc/kcore") && sysread($core, $buf, 1);
# The root of a process is the box again, from above too.
print "ROOT\n" if (stat("/proc/1/root/"))[1] != (stat("/"))[1] || -e "/proc/1/root/../run/scratch" || -e "/init";
print "attempts $done\n";
"""


class Attacks(BoxTest):
    images_wanted = ("debian",)

    @core
    def test_default_settings_refuse(self):
        result = self.home.run("run", "--rm", "debian", "perl", "-e", ATTACKS)
        self.assert_rc(result, 0)
        self.assertEqual(len(result.lines), 1, result)
        self.assertGreater(int(result.lines[0].split()[1]), 400)


class Confinement(BoxTest):
    def box(self, *args):
        return self.home.run("run", "--rm", *args)

    @core
    def test_filter_and_identity(self):
        """Each process is under one filter, exec's too; a user cannot be given capabilities by it."""
        script = "grep -E '^(Seccomp|NoNewPrivs|CapEff|CapPrm)' /proc/self/status; cat /proc/self/oom_score_adj; ulimit -n"
        wanted = {"Seccomp:": "2", "Seccomp_filters:": "1", "NoNewPrivs:": "0"}
        box = self.home.run_detached("--ulimit", "nofile=70:80", "--oom-score-adj", "100", "box", "sleep", "100000")
        for user, caps in (("0", DEFAULT_MASK), ("1000", NONE)):
            with self.subTest(user):
                result = self.home.run("exec", "-u", user, box, "sh", "-c", script)
                self.assertEqual(dict(line.split() for line in result.lines[:-2]),
                                 {**wanted, "CapEff:": caps, "CapPrm:": caps}, result)
                self.assertEqual(result.lines[-2:], ["100", "70"], result)
        self.assert_rc(self.home.run("exec", "-w", "/proc/self/fd/3", box, "pwd"), 127)
        self.home.ok("rm", "-f", box)
        result = self.box("-u", "1000", "--security-opt", "no-new-privileges", "box", "sh", "-c", script)
        self.assertEqual(dict(line.split() for line in result.lines[:-2]),
                         {**wanted, "NoNewPrivs:": "1", "CapEff:": NONE, "CapPrm:": NONE}, result)

    def test_privileged(self):
        result = self.box("--privileged", "box", "sh", "-c",
                          "grep -E '^(CapEff|Seccomp:)' /proc/self/status; ls /dev; echo --; "
                          "echo 1 > /proc/sys/vm/overcommit_memory && mount -t tmpfs x /tmp && mkdir /sys/fs/cgroup/x && "
                          "head -c 1 /dev/vdb | wc -c; grep -c -E ' /(proc|sys)/' /proc/mounts; "
                          "echo max > /sys/fs/cgroup/memory.max")
        self.assert_rc(result, 1)
        head, tail = result.text.split("--\n")
        self.assertEqual(head.split()[:4], ["CapEff:", "000001ffffffffff", "Seccomp:", "0"])
        self.assertLessEqual(set(DEV) | {"vda", "vdb", "kmsg", "vsock", "loop-control"}, set(head.split()))
        # Of the mounts below /proc and /sys there is only the cgroups'; the box's own limits stay out of reach.
        self.assertEqual(tail, "1\n1\n")
        self.assertIn("not permitted", result.err.decode())

    def test_unmasked(self):
        result = self.box("--security-opt", "systempaths=unconfined", "box", "sh", "-c",
                          "grep -c -E ' /(proc|sys)/' /proc/mounts; echo 1 > /proc/sys/vm/overcommit_memory && echo written; "
                          "echo 1 2>/dev/null > /sys/kernel/uevent_helper || echo sys is read-only")
        self.assertEqual(result.lines, ["1", "written", "sys is read-only"], result)

    @core
    def test_file_systems(self):
        result = self.box(
            "--read-only", "--shm-size", "8m", "--tmpfs", "/a/b:size=1m,mode=700,uid=5", "--tmpfs", "/a", "--tmpfs", "/tmp:exec",
            "--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.msgmax=9000", "-w", "/new/folder", "box", "sh", "-c",
            "pwd; touch /x || echo read-only; touch /a/y /tmp/y /dev/shm/y && echo written; stat -c '%a %u' /a/b /tmp; "
            "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax; df -k /dev/shm /a/b | awk 'NR > 1 {print $2}'; "
            "grep -E ' (/a|/a/b|/tmp) ' /proc/mounts | cut -d' ' -f2,4")
        self.assert_rc(result, 0)
        self.assertEqual(result.lines[:9], ["/new/folder", "read-only", "written", "700 5", "1777 0", "1", "9000", "8192",
                                            "1024"], result)
        self.assertEqual([line.split(",relatime")[0] for line in result.lines[9:]], [
            "/a rw,nosuid,nodev,noexec", "/a/b rw,nosuid,nodev,noexec", "/tmp rw,nosuid,nodev"])

    def test_devices(self):
        result = self.box("--device", "/dev/vsock:/dev/other:r", "--device", "/dev/vda", "box", "sh", "-c",
                          "stat -c %t:%T /dev/other; head -c 1 /dev/vda | wc -c; (: < /dev/other) && echo read; "
                          "(: > /dev/other) 2>/dev/null || echo not written; cd /tmp; mknod b b $(tr : ' ' < "
                          "/sys/block/vdb/dev); head -c 1 b 2>/dev/null || echo not vdb")
        self.assertEqual(result.lines[1:], ["1", "read", "not written", "not vdb"], result)
        self.assert_one_line(self.box("--device", "/dev/nosuch", "box", "true"), 125, "/dev/nosuch")

    def test_user_namespace(self):
        """Root of the box is nobody outside it; its files are its own all the same."""
        result = self.box("--userns", "private", "box", "sh", "-c",
                          "id -u; cat /proc/self/uid_map; stat -c %u / /etc/passwd /etc/hosts /dev /proc; touch /x; "
                          "chown 1000 /x; stat -c %u /x; sed -i s/a/b/ /etc/passwd; stat -c %u /etc/passwd; "
                          "mknod /n c 1 3 2>/dev/null || echo no node; /dev/a3s/nsexec id -u")
        self.assert_rc(result, 0)
        self.assertEqual([" ".join(line.split()) for line in result.lines], [
            "0", "0 100000 65536", "0", "0", "0", "0", "65534", "1000", "0", "no node", "0"])
        result = self.box("--userns", "private", "--read-only", "-u", "1000", "-w", "/new/folder", "box", "sh", "-c",
                          "pwd; stat -c %u .; id -u; touch /x 2>/dev/null || echo read-only")
        self.assertEqual(result.lines, ["/new/folder", "0", "1000", "read-only"], result)

    def test_init(self):
        """PID 1 is ours and reaps; the program is not PID 1, and its status, or why it cannot be run, is the box's."""
        result = self.box("--init", "box", "sh", "-c",
                          "cat /proc/1/comm; echo $$; (sleep 0.1 &); sleep 1; grep -l ^State:.Z /proc/[0-9]*/status; exit 7")
        self.assert_rc(result, 7)
        self.assertEqual(result.lines, ["docker-init", "2"])
        self.assert_one_line(self.box("--init", "box", "no-such-program"), 127, "no-such-program")
        box = self.home.run_detached("--init", "box", "sh", "-c", "trap 'exit 9' USR1; echo up; while :; do sleep 0.1; done")
        wait_for("the trap", lambda: self.home.run("logs", box).text == "up\n")
        self.home.ok("kill", "-s", "USR1", box)
        self.home.wait_status(box, "exited")
        self.assertEqual(self.home.inspect(box)["State"]["ExitCode"], 9)
        self.home.ok("rm", box)


class Nsexec(BoxTest):
    @classmethod
    def prepare(cls):
        cls.box = cls.home.run_detached("--name", "host", "box", "sleep", "100000")

    @classmethod
    def tearDownClass(cls):
        if hasattr(cls, "box"):
            cls.home.run("rm", "-f", cls.box)
        super().tearDownClass()

    def nsexec(self, *args, user="0", **options):
        return self.home.run("exec", "-u", user, "host", "/dev/a3s/nsexec", *args, **options)

    @core
    def test_isolated(self):
        script = ("id -u; ls /proc | grep -c '^[0-9]'; grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status; touch /tmp/mine; "
                  "for p in 1 2 3 4 5 6 7 8 9; do [ -d /proc/$p ] && readlink /proc/$p/root; done | sort -u; "
                  "unshare -m true 2>/dev/null || mount -t tmpfs x /mnt 2>/dev/null || echo no mount; "
                  "echo x 2>/dev/null > /proc/sys/kernel/core_pattern || echo masked; hostname; "
                  "/dev/a3s/nsexec true 2>/dev/null || echo not nested")
        for user in ("0", "1000"):
            with self.subTest(user):
                result = self.nsexec("sh", "-c", script, user=user)
                self.assert_rc(result, 0)
                lines = result.lines
                self.assertEqual(lines[0], user)
                self.assertLessEqual(int(lines[1]), 5)
                status = dict(line.split() for line in lines[2:9])
                self.assertEqual(status, {"CapInh:": NONE, "CapPrm:": NONE, "CapEff:": NONE, "CapBnd:": NONE, "CapAmb:": NONE,
                                          "NoNewPrivs:": "1", "Seccomp:": "2"})
                self.assertEqual(lines[9:12], ["/", "no mount", "masked"])
                self.assertEqual(lines[-1], "not nested")
        self.assert_rc(self.home.run("exec", "host", "test", "!", "-e", "/tmp/mine"), 0)

    def test_options_and_statuses(self):
        result = self.nsexec("--help")
        self.assert_rc(result, 0)
        self.assertIn("no protection", result.text)
        self.assert_out(self.nsexec("cat", input=b"input"), "")  # exec without -i has no input
        self.assert_rc(self.nsexec("sh", "-c", "exit 9"), 9)
        self.assert_rc(self.nsexec("sh", "-c", "kill -TERM $$"), 128 + signal.SIGTERM)
        self.assert_rc(self.nsexec("no-such-program"), 127)
        self.assert_rc(self.nsexec("/etc"), 126)
        for bad in (["--memory"], ["--memory", "x", "true"], ["--pids=0", "true"], ["--nosuch", "true"], [],
                    ["--pids", "5", "true"]):
            with self.subTest(bad):
                result = self.nsexec(*bad)
                self.assert_rc(result, 125)
                self.assertRegex(result.err.decode(), r"\Ansexec: [^\n]+\n\Z")
        result = self.nsexec("--read-only", "sh", "-c", "touch /x || touch /tmp/x && echo tmp")
        self.assert_out(result, "tmp\n")
        script = "ulimit -v; for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; echo all"
        result = self.nsexec("--memory", "64m", "--pids=4", "sh", "-c", script, user="1000")
        self.assertEqual(result.lines[0], "65536", result)
        self.assertNotIn("all", result.lines[1:])

    def test_it_ends_with_its_caller(self):
        # A pattern that does not match the shell's own command line.
        find = "ps | grep -q 'docker-init --watch [s]leep'"
        script = "/dev/a3s/nsexec sleep 54321 & until %s; do sleep 0.1; done; kill -9 $!; " \
                 "while %s; do sleep 0.1; done; echo gone" % (find, find)
        self.assert_out(self.home.run("exec", "host", "sh", "-c", script), "gone\n")
