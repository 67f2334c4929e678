"""What a box may not do to its guest's kernel and to PID 1, as root and as a user; exec the same."""

from a3s import BoxTest, core, slow

# Docker's default capabilities, as the mask of /proc/PID/status.
CAPABILITIES = {
    "chown": 0, "dac_override": 1, "fowner": 3, "fsetid": 4, "kill": 5, "setgid": 6, "setuid": 7, "setpcap": 8,
    "net_bind_service": 10, "net_raw": 13, "sys_chroot": 18, "mknod": 27, "audit_write": 29, "setfcap": 31,
}
DEFAULT_MASK = "%016x" % sum(1 << bit for bit in CAPABILITIES.values())
NONE = "0" * 16

DEV = "a3s core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero".split()

READ_ONLY = "bus fs irq sys sysrq-trigger".split()
MASKED = "acpi asound kcore keys latency_stats sched_debug scsi timer_list timer_stats".split()

# START as wire.h has it: a process (not the workload's) that would leave a file as root.
VSOCK = r"""
import socket, struct, sys
def field(tag, data): return bytes([tag]) + struct.pack(">I", len(data)) + data
BODY = field(1, struct.pack(">Q", 0)) + b"".join(field(2, a) for a in (b"/bin/sh", b"-c", b"id > /tmp/owned"))
START = b"\x20" + struct.pack(">I", len(BODY)) + BODY
def attempt(cid, port):
    s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    s.settimeout(1 if cid == 0xffffffff else 10)
    try:
        s.connect((cid, port))
    except OSError:
        s.close()
        return "refused"
    try:
        s.sendall(START)
        got = s.recv(100)
        return "closed" if not got else "ANSWERED %r" % got
    except socket.timeout:
        return "SILENT"
    except OSError:
        return "closed"
    finally:
        s.close()
own = None
try:
    import fcntl
    with open("/dev/vsock", "rb") as f:
        own = struct.unpack("I", fcntl.ioctl(f, 0x7b9, b"1234"))[0]
except OSError:
    pass
for cid in {1, 2, 0, 3, 0xffffffff, own or 3}:
    for port in (4088, 4089):
        print(cid, port, attempt(cid, port))
# Many that only sit there must not keep the host out.
held = []
for _ in range(600):
    s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    s.settimeout(5)
    try:
        s.connect((1, 4089))
        held.append(s)
    except OSError:
        break
print("flooded", flush=True)
if len(sys.argv) > 1:
    input()
"""


class Isolation(BoxTest):
    @classmethod
    def prepare(cls):
        cls.box = cls.home.run_detached("--name", "host", "box", "sleep", "100000")

    @classmethod
    def tearDownClass(cls):
        if hasattr(cls, "box"):
            cls.home.run("rm", "-f", cls.box)
        super().tearDownClass()

    def each(self, script, *options):
        """The script as the workload and as a further process."""
        yield "run", self.home.run("run", "--rm", *options, "box", "sh", "-c", script)
        yield "exec", self.home.run("exec", *options, "host", "sh", "-c", script)

    @core
    def test_kernel_settings_are_read_only(self):
        script = ("cd /proc; for f in sys/kernel/core_pattern sys/kernel/modprobe sys/vm/panic_on_oom "
                  "sys/kernel/hostname irq/default_smp_affinity sysrq-trigger; do (echo '|/x' > $f) 2>/dev/null "
                  "&& echo written $f; done; for d in %s; do [ ! -e $d ] || grep -q \" /proc/$d proc ro,\" self/mounts || "
                  "echo writable $d; done; cat sys/kernel/core_pattern" % " ".join(READ_ONLY))
        for how, result in self.each(script):
            with self.subTest(how):
                self.assert_out(result, "core\n")

    @core
    def test_masked(self):
        script = ("cd /proc; for f in %s; do if [ -d $f ]; then ls -A $f; elif [ -e $f ]; then "
                  "[ -c $f ] || echo not masked $f; cat $f; fi; done; ls -A /sys/firmware; "
                  "[ ! -e /sys/devices/virtual/powercap ] || ls -A /sys/devices/virtual/powercap; "
                  "head -c 1 /dev/core 2>/dev/null | wc -c" % " ".join(MASKED))
        for how, result in self.each(script):
            with self.subTest(how):
                self.assert_out(result, "0\n")

    @core
    def test_mounts(self):
        for how, result in self.each("cat /proc/self/mounts"):
            with self.subTest(how):
                self.assert_rc(result, 0)
                flags = {}
                for line in result.lines:
                    _, where, _, options = line.split()[:4]
                    flags[where] = set(options.split(","))
                for where in ("/proc", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm"):
                    self.assertLessEqual({"nosuid", "nodev", "noexec"}, flags[where], where)
                self.assertLessEqual({"nosuid", "noexec"}, flags["/dev/pts"])
                self.assertIn("nosuid", flags["/dev"])
                for where in ("/sys", "/sys/fs/cgroup", "/proc/sys"):
                    self.assertIn("ro", flags[where], where)
                self.assertFalse([w for w in flags if w.startswith("/run/") or w == "/run"], "mounts of PID 1")

    @core
    def test_no_mount_can_be_changed(self):
        script = ("mount -o remount,rw /proc/sys; mount -o remount,rw /sys; umount /proc/sys; umount /proc/keys; "
                  "mount -t proc proc /mnt; mount -t tmpfs x /tmp; umount -l /sys/firmware; "
                  "echo 1 > /sys/fs/cgroup/cgroup.procs; grep -c ' /proc/sys proc ro,' /proc/self/mounts")
        for how, result in self.each("(%s) 2>/dev/null" % script):
            with self.subTest(how):
                self.assert_out(result, "1\n")

    def test_a_user_namespace_shows_no_more(self):
        script = ("unshare -Urmpf sh -c 'mount -t proc proc /proc && echo x > /proc/sys/kernel/core_pattern "
                  "|| umount /proc/sys && echo x > /proc/sys/kernel/core_pattern || "
                  "mount -o remount,rw,bind /proc/sys && echo x > /proc/sys/kernel/core_pattern'; "
                  "cat /proc/sys/kernel/core_pattern")
        for how, result in self.each("(%s) 2>/dev/null" % script):
            with self.subTest(how):
                self.assert_out(result, "core\n")

    @core
    def test_devices(self):
        """Any node can be made; only Docker's can be opened, by whatever name."""
        script = ("cd /tmp; rm -f n; try() { mknod n $1 $2 $3 || echo no mknod; "
                  "(: < n) 2>/dev/null && echo opened $*; (: >> n) 2>/dev/null && echo opened $* to write; rm -f n; }; "
                  "for d in vda vdb; do try b $(tr : ' ' < /sys/block/$d/dev); done; "
                  "try b 7 0; try c 1 1; try c 1 4; try c 1 11; try c 10 237; try c 10 200; try c 4 64; try c 202 0; "
                  "try c 229 0; try c 5 3; mknod n c 1 3; echo x > n; cat n; rm n; "
                  "mknod n b $(tr : ' ' < /sys/block/vdb/dev); head -c 1 n 2>&1; dd if=/dev/zero of=n count=1 2>&1")
        for how, result in self.each(script):
            with self.subTest(how):
                denied = [line for line in result.lines if "Operation not permitted" in line]
                self.assertEqual(len(denied), 2, result)
                self.assertEqual(len(result.lines), 2, result)

    @core
    def test_the_content_of_dev(self):
        for how, result in self.each("ls -A /dev"):
            with self.subTest(how):
                self.assert_rc(result, 0)
                self.assertEqual(sorted(result.text.split()), DEV)
        result = self.home.run("run", "--rm", "box", "sh", "-c",
                               "for d in null zero full random urandom tty; do stat -c '%n %a %t:%T %U' /dev/$d; done; "
                               "for l in core fd ptmx stdin stdout stderr; do readlink /dev/$l; done; "
                               "head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; echo x > /dev/full")
        self.assert_rc(result, 1)
        self.assertEqual(result.lines, [
            "/dev/null 666 1:3 root", "/dev/zero 666 1:5 root", "/dev/full 666 1:7 root", "/dev/random 666 1:8 root",
            "/dev/urandom 666 1:9 root", "/dev/tty 666 5:0 root", "/proc/kcore", "/proc/self/fd", "pts/ptmx",
            "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2", "3", "3"])

    @core
    def test_capabilities(self):
        """Root has Docker's default set and can get no other; a user has none."""
        self.assertEqual(DEFAULT_MASK, "00000000a80425fb")
        script = "grep ^Cap /proc/self/status"
        for user, own in (("0", DEFAULT_MASK), ("1000", NONE)):
            for how, result in self.each(script, "-u", user):
                with self.subTest(how=how, user=user):
                    self.assertEqual(dict(line.split() for line in result.lines), {
                        "CapInh:": NONE, "CapPrm:": own, "CapEff:": own, "CapBnd:": DEFAULT_MASK, "CapAmb:": NONE})

    @core
    def test_the_kernels_own_restrictions(self):
        script = ("cat /proc/self/oom_score_adj /proc/sys/kernel/dmesg_restrict; "
                  "[ $(cat /proc/sys/kernel/unprivileged_bpf_disabled) -ge 1 ] && echo bpf; "
                  "[ $(cat /proc/sys/kernel/perf_event_paranoid) -ge 2 ] && echo perf; dmesg 2>&1 | head -n 1")
        for how, result in self.each(script):
            with self.subTest(how):
                self.assertEqual(result.lines[:4], ["0", "1", "bpf", "perf"], result)
                self.assertIn("not permitted", result.lines[4])

    @core
    def test_one_cgroup_and_no_way_to_the_guests_own_processes(self):
        script = ("cat /proc/self/cgroup; for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done | "
                  "grep -c -e /init -e a3s; ls -A /sys/fs/cgroup/box 2>&1 | grep -c .; readlink /proc/1/root")
        for how, result in self.each(script):
            with self.subTest(how):
                self.assertEqual(result.lines[0], "0::/", result)
                self.assertEqual(result.lines[2], "1", result)
                self.assertEqual(result.lines[3], "/", result)
        self.assert_out(self.home.run("exec", "host", "sh", "-c", "cmp /proc/1/cgroup /proc/self/cgroup && "
                                      "cmp /proc/1/mounts /proc/self/mounts && echo same"), "same\n")


class Vsock(BoxTest):
    images_wanted = ("python",)

    @core
    @slow(300)
    def test_nobody_but_the_host_starts_processes(self):
        # Docker's filter refuses the sockets themselves; here it is the guest that is tried.
        box = self.home.run_detached("--name", "py", "--security-opt", "seccomp=unconfined", "python", "sleep", "100000")
        for user in ("1000", "0"):
            with self.subTest(user=user):
                result = self.home.run("exec", "-u", user, "py", "python3", "-c", VSOCK)
                self.assert_rc(result, 0)
                self.assertEqual(result.lines[-1], "flooded", result)
                for line in result.lines[:-1]:
                    self.assertIn(line.split()[2], ("refused", "closed"), result)
        # Connections that are still held keep nobody out.
        p = self.home.popen("exec", "-i", "-u", "1000", "py", "python3", "-c", VSOCK, "hold", stdin=-1)
        try:
            for line in p.stdout:
                if line == b"flooded\n":
                    break
            self.assert_out(self.home.run("exec", "py", "echo", "still here"), "still here\n")
        finally:
            p.communicate(b"\n")
        self.assert_rc(self.home.run("exec", "py", "test", "!", "-e", "/tmp/owned"), 0)
        self.home.ok("rm", "-f", box)
