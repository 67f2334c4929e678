"""Harness of the functional tests: a home folder, commands in it, and the proof that nothing is left behind.

A test class derives from BoxTest. Its home (A3S_HOME, HOME and TMPDIR in one fresh folder below /tmp) lives as long
as the class; every test must leave it as it found it, which tearDown checks: boxes, processes, sockets.
"""

import collections
import contextlib
import fcntl
import json
import os
import pathlib
import re
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import time
import unittest

import images

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("A3S_TEST_BUILD", ROOT / "build")).resolve()
FULL = bool(os.environ.get("A3S_TEST_FULL"))
PREFIX = os.environ.get("A3S_TEST_PREFIX", "a3s-")
UNPRIVILEGED_ID = 65534
# What boxes run on where the test does not say: without it a loaded host may measure its KVM as too slow, and fall back.
ACCEL = os.environ.get("A3S_TEST_ACCEL")
# All limits are multiplied by this, where everything is slow (tests/kvm/run).
SLOW = float(os.environ.get("A3S_TEST_SLOW") or 1)
# Emulated, a loaded machine boots a box in seconds; only a hang takes this long.
COMMAND_TIMEOUT_S = 120
# What a process may take to go once its box is gone.
EXIT_GRACE_S = 5

EMULATION_WARNING = re.compile(rb"^a3s-box: warning: .*emulat.*\n", re.MULTILINE | re.IGNORECASE)


def core(test):
    """Marks a test as one of those that also run under sanitizers."""
    test.core = True
    return test


def slow(seconds):
    """A test that may take longer than the default of the runner."""

    def mark(test):
        test.timeout_s = seconds
        return test

    return mark


class Result:
    """What one command did. err is without the line that warns about emulation; err_all has it."""

    def __init__(self, argv, rc, out, err, seconds):
        self.argv, self.rc, self.out, self.err_all, self.seconds = argv, rc, out, err, seconds
        self.err = EMULATION_WARNING.sub(b"", err)
        self.warnings = len(EMULATION_WARNING.findall(err))

    @property
    def text(self):
        return self.out.decode(errors="replace")

    @property
    def lines(self):
        return self.text.splitlines()

    def __str__(self):
        def show(data):
            return data.decode(errors="backslashreplace") if len(data) < 4000 else \
                "%s\n… (%d bytes)" % (data[:3000].decode(errors="backslashreplace"), len(data))

        return "$ %s\nstatus %s after %.1f s\n--- standard output\n%s\n--- standard error\n%s" % (
            " ".join(map(str, self.argv)), self.rc, self.seconds, show(self.out), show(self.err_all))


def kill_hard(pid):
    """kill -9 of what may just have ended by itself. Returns whether it was still there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def wait_for(what, condition, timeout_s=30, interval_s=0.05):
    """Returns the first true value of condition()."""
    deadline = time.monotonic() + timeout_s * SLOW
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("waited %g s in vain for %s" % (timeout_s, what))
        time.sleep(interval_s)


def processes_of(needle):
    """{pid: command line} of every living process that names this path in its arguments or environment."""
    found = {}
    needle = os.fsencode(str(needle))
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            with open("/proc/%s/cmdline" % entry, "rb") as f:
                cmdline = f.read()
            if not cmdline:
                continue  # kernel thread or zombie
            with open("/proc/%s/environ" % entry, "rb") as f:
                environ = f.read()
        except PermissionError:
            environ = b""
        except OSError:
            continue
        if needle in cmdline or needle in environ:
            found[int(entry)] = cmdline.replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def program_of(pid):
    try:
        return os.path.basename(os.readlink("/proc/%d/exe" % pid))
    except OSError:
        pass
    try:  # one that is not dumpable
        with open("/proc/%d/comm" % pid, encoding="utf-8", errors="replace") as f:
            return f.read().strip()
    except OSError:
        return ""


def own_build_env():
    """Sanitizer settings and the like go on to the programs under test."""
    return {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS") or k == "A3S_QEMU"}


class Process(subprocess.Popen):
    """A command whose limits, as tests name them, are multiplied by SLOW."""

    def wait(self, timeout=None):
        return super().wait(None if timeout is None else timeout * SLOW)

    def communicate(self, input=None, timeout=None):
        return super().communicate(input, None if timeout is None else timeout * SLOW)


Inventory = collections.namedtuple("Inventory", "processes files sockets locks shm")


class Home:
    """An A3S_HOME of its own, and commands in it."""

    def __init__(self, bindir=None, uid=None, path=None):
        # Short: Unix sockets allow 107 bytes of path.
        # The runner finds by the prefix what a worker that was killed has left.
        self.base = pathlib.Path(path or tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))
        self.path = self.base / "h"
        self.tmp = self.base / "tmp"
        self.user_home = self.base / "user"
        # Beside the home, where no test looks for what is left: the logs of boxes that are gone.
        self.kept = self.base.with_name(self.base.name + "-logs")
        self.uid = uid
        for folder in (self.tmp, self.user_home, self.kept):
            folder.mkdir(exist_ok=True)
        if uid is not None:
            for folder in (self.base, self.tmp, self.user_home, self.kept):
                os.chown(folder, uid, uid)
        self.program = str((bindir or BUILD) / "a3s-box")
        self.transcript = []
        self.asan = pathlib.Path(os.environ["A3S_TEST_REPORTS"]) if "A3S_TEST_REPORTS" in os.environ else None

    # ---- commands

    def env(self, extra=None):
        env = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.user_home),
            "TMPDIR": str(self.tmp),
            "A3S_HOME": str(self.path),
            "A3S_DEBUG_KEEP_LOGS": str(self.kept),
            "LANG": "C.UTF-8",
            "TERM": "xterm",
        }
        env.update(own_build_env())
        env.update(extra or {})
        return {k: v for k, v in env.items() if v is not None}

    def argv(self, args):
        argv = [self.program, *map(str, args)]
        if ACCEL and argv[1:2] in (["run"], ["create"]) and "--accel" not in argv and "--help=options" not in argv:
            argv[2:2] = ["--accel", ACCEL]
        if self.uid is not None:
            argv = [shutil.which("setpriv"), "--reuid=%d" % self.uid, "--regid=%d" % self.uid, "--clear-groups", *argv]
        return argv

    def popen(self, *args, env=None, wrap=(), **options):
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        options.setdefault("cwd", self.base)
        argv = [*wrap, *self.argv(args)]
        self.transcript.append("$ " + " ".join(map(str, args)) + "   (started)")
        return Process(argv, env=self.env(env), **options)

    def run(self, *args, input=None, stdin=None, timeout=COMMAND_TIMEOUT_S, env=None, wrap=()):
        """Runs a3s-box with these arguments to its end."""
        start = time.monotonic()
        argv = [*wrap, *self.argv(args)]
        if input is not None:
            stdin = subprocess.PIPE
        elif stdin is None:
            stdin = subprocess.DEVNULL
        with Process(argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.env(env),
                     cwd=self.base) as p:
            try:
                out, err = p.communicate(input, timeout=timeout)
            except subprocess.TimeoutExpired:
                p.kill()
                out, err = p.communicate()
                seconds = time.monotonic() - start
                raise AssertionError("no end after %.0f s:\n%s" % (
                    seconds, Result(args, "killed", out, err, seconds))) from None
            except BaseException:
                p.kill()
                out, err = p.communicate()
                self.transcript.append(str(Result(args, "killed", out, err, time.monotonic() - start)))
                raise
        result = Result(["a3s-box", *args], p.returncode, out, err, time.monotonic() - start)
        self.transcript.append(str(result))
        return result

    def ok(self, *args, **options):
        """run() that must succeed."""
        result = self.run(*args, **options)
        if result.rc != 0:
            raise AssertionError("failed:\n%s" % result)
        return result

    def load(self, archive):
        return self.ok("load", "-i", archive)

    def run_detached(self, *args, timeout=COMMAND_TIMEOUT_S):
        """run -d; returns the ID."""
        result = self.ok("run", "-d", *args, timeout=timeout)
        box = result.text.strip()
        if not re.fullmatch("[0-9a-f]{64}", box):
            raise AssertionError("run -d must print the ID and nothing else:\n%s" % result)
        return box

    # ---- questions

    def boxes(self):
        ids = self.ok("ps", "-a", "-q", "--no-trunc").text.split()
        self.transcript.pop()  # the harness asks often
        return ids

    def inspect(self, box):
        value = json.loads(self.ok("inspect", box).out)
        return value[0] if isinstance(value, list) else value

    def status(self, box):
        return self.inspect(box)["State"]["Status"]

    @contextlib.contextmanager
    def locked(self, box):
        """Meanwhile somebody else works on a box that does not run; box is its ID."""
        folder = self.path / "run" / box
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "lock", "wb") as f:
            for path in (folder.parent, folder, f.name) if self.uid is not None else ():
                os.chown(path, self.uid, self.uid)
            fcntl.flock(f, fcntl.LOCK_EX)
            try:
                yield
            finally:
                os.unlink(f.name)
                with contextlib.suppress(OSError):  # it is the next one's already
                    folder.rmdir()

    def wait_status(self, box, *wanted, timeout_s=30):
        return wait_for("%s to be %s" % (box[:12], " or ".join(wanted)),
                        lambda: self.status(box) in wanted, timeout_s, 0.1)

    def processes(self):
        return processes_of(self.base)

    def find_process(self, program, box_id=""):
        """PIDs of this program (a3s-box-shim, qemu…) of this home, or of one box in it."""
        return [pid for pid, cmdline in self.processes().items()
                if program_of(pid).startswith(program) and self.belongs(pid, box_id)]

    def find_machines(self):
        """PIDs of what holds a guest: QEMU, or our own monitor."""
        return self.find_process("qemu") + self.find_process("a3s-box-vmm")

    @staticmethod
    def belongs(pid, box_id):
        """Whether the process names the box, itself or by a file it has open."""
        if not box_id:
            return True
        names = []
        with contextlib.suppress(OSError):
            with open("/proc/%d/cmdline" % pid, "rb") as f:
                names.append(f.read().decode(errors="replace"))
            for fd in os.listdir("/proc/%d/fd" % pid):
                with contextlib.suppress(OSError):
                    names.append(os.readlink("/proc/%d/fd/%s" % (pid, fd)))
        return any(box_id[:12] in n for n in names)

    def inventory(self):
        """All that a box may leave behind. The database's own files and the images are not of a box."""
        files, inodes = [], {}
        for top, names, others in os.walk(self.base):
            for name in names + others:
                path = os.path.join(top, name)
                short = os.path.relpath(path, self.base)
                with contextlib.suppress(OSError):
                    inodes[os.lstat(path).st_ino] = short
                if short not in ("h/boxes", "h/run", "h/images", "h/cache") and \
                        not short.startswith(("h/state.db", "h/images/", "h/cache/", "h/audit/begun", "user/.cache")):
                    files.append(short)
        sockets = []
        with open("/proc/net/unix", encoding="utf-8", errors="replace") as f:
            sockets = sorted({line.split()[-1] for line in f if str(self.base) in line})
        locks = []
        with open("/proc/locks", encoding="ascii") as f:
            for line in f:
                fields = line.split()
                inode = fields[-3].rsplit(":", 1)[-1] if len(fields) >= 8 else ""
                if inode.isdigit() and int(inode) in inodes and "state.db" not in inodes[int(inode)]:
                    locks.append(inodes[int(inode)])
        shm = sorted(n for n in os.listdir("/dev/shm") if "a3s" in n)
        return Inventory(sorted(self.processes().values()), sorted(files), sockets, sorted(locks), shm)

    def rest(self):
        """The inventory once no process is left: a supervisor outlives the answer to its client by a moment."""
        wait_for("the last processes to go", lambda: not self.processes(), EXIT_GRACE_S)
        return self.inventory()

    def settle(self, before, timeout_s=EXIT_GRACE_S):
        """Waits until the inventory is as it was; returns a description of what differs, or nothing."""
        deadline = time.monotonic() + timeout_s * SLOW
        while True:
            now = self.inventory()
            if now == before:
                return ""
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        text = []
        for name in Inventory._fields:
            was, now_is = collections.Counter(getattr(before, name)), collections.Counter(getattr(now, name))
            text += ["left over (%s): %s" % (name, x) for x in (now_is - was).elements()]
            text += ["gone (%s): %s" % (name, x) for x in (was - now_is).elements()]
        return "\n".join(text)

    # ---- end

    def box_logs(self):
        """The last lines that guests, machines and supervisors left, of the boxes last heard of: for a failure's report."""
        logs = []
        for log in [*self.path.glob("boxes/*/*.log"), *self.kept.glob("*.log")]:
            with contextlib.suppress(OSError):
                logs.append((log.stat().st_mtime, log, log.read_bytes()[-1500:].decode(errors="replace").strip()))
        for _, log, tail in sorted(log for log in logs if log[2])[-6:]:
            yield "--- %s\n%s" % (log.relative_to(self.base.parent), tail)

    def forget_logs(self):
        for log in self.kept.glob("*.log"):
            log.unlink()

    def sanitizer_reports(self):
        text = []
        if self.asan:
            for report in sorted(self.asan.glob("*")):
                told = report.read_text(errors="replace")[:6000]
                report.unlink()
                # Of a process that was killed while its leaks were looked for: that is all it says.
                if not re.fullmatch(r"(==\d+==Unable to get registers from thread \d+\.\s*)*", told):
                    text.append(told)
        return "\n".join(text)

    def kill_all(self):
        for pid in self.processes():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def close(self):
        self.kill_all()
        wait_for("the last processes to go", lambda: not self.processes(), EXIT_GRACE_S)
        shutil.rmtree(self.base, ignore_errors=True)
        shutil.rmtree(self.kept, ignore_errors=True)


class Terminal:
    """A command on a pseudo terminal of its own."""

    def __init__(self, home, *args, rows=24, cols=80, env=None):
        self.master, slave = os.openpty()
        self.resize(rows, cols)

        def controlling():
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        home.transcript.append("$ " + " ".join(map(str, args)) + "   (on a terminal)")
        self.process = Process(home.argv(args), stdin=slave, stdout=slave, stderr=slave, env=home.env(env),
                               start_new_session=True, preexec_fn=controlling, cwd=home.base)
        os.close(slave)
        self.seen = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)

    def resize(self, rows, cols):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def send(self, data):
        os.write(self.master, data)

    def read_until(self, pattern, timeout_s=60):
        """Reads to the first match of the regular expression; returns the match. What follows it stays unread."""
        deadline = time.monotonic() + timeout_s * SLOW
        pattern = re.compile(pattern)
        while True:
            match = pattern.search(self.seen)
            if match:
                self.seen = self.seen[match.end():]
                return match
            ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise AssertionError("terminal: waited %g s in vain for %r; seen %r" % (
                    timeout_s, pattern.pattern, self.seen))
            try:
                data = os.read(self.master, 65536)
            except OSError:
                data = b""
            if not data:
                raise AssertionError("terminal: ended before %r; seen %r" % (pattern.pattern, self.seen))
            self.seen += data

    def finish(self, timeout_s=60):
        """Reads to the end; returns (status, the rest of the output)."""
        deadline = time.monotonic() + timeout_s * SLOW
        while time.monotonic() < deadline:
            ready, _, _ = select.select([self.master], [], [], 0.2)
            if ready:
                try:
                    data = os.read(self.master, 65536)
                except OSError:
                    data = b""
                self.seen += data
                if not data:
                    break
            elif self.process.poll() is not None:
                break
        return self.process.wait(max(1, deadline - time.monotonic())), self.seen


class BoxTest(unittest.TestCase):
    """Base of all suites. images_wanted are loaded into the class's home. A class that waits leaves the processors alone for
    nearly all of its time: such ones run beside the others."""

    unprivileged = False
    waits = False
    images_wanted = ("box",)
    maxDiff = 4000

    @classmethod
    def setUpClass(cls):
        cls.installed = None
        uid, bindir = None, None
        if cls.unprivileged:
            uid = UNPRIVILEGED_ID
            # The checkout may be where only its owner can read: use an installed copy.
            cls.installed = pathlib.Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))
            os.chmod(cls.installed, 0o755)
            subprocess.run([ROOT / "scripts/install", BUILD, cls.installed], check=True, capture_output=True)
            bindir = cls.installed / "bin"
        cls.home = Home(bindir=bindir, uid=uid)
        try:
            for name in cls.images_wanted:
                cls.home.load(cls.image_file(name))
            cls.prepare()
        except BaseException as e:
            e.add_note("\n".join(cls.home.box_logs()))
            cls.tearDownClass()
            raise

    @classmethod
    def prepare(cls):
        """What a suite needs once, for instance a running box."""

    @classmethod
    def image_file(cls, name, transport="oci"):
        path = images.archive(name, transport)
        if not cls.unprivileged:
            return path
        copy = cls.home.tmp / path.name
        if not copy.exists():
            shutil.copy(path, copy)
            copy.chmod(0o644)
        return copy

    @classmethod
    def tearDownClass(cls):
        cls.home.kill_all()
        cls.home.close()
        if cls.installed:
            shutil.rmtree(cls.installed, ignore_errors=True)

    def setUp(self):
        self.home.transcript.clear()
        self.home.forget_logs()
        self.boxes_before = set(self.home.boxes())
        self.processes_before = set(self.home.processes())

    def tearDown(self):
        leaks = []
        for box in set(self.home.boxes()) - self.boxes_before:
            leaks.append("box left by the test: " + box[:12])
            self.home.run("rm", "-f", box)
        try:
            wait_for("", lambda: set(self.home.processes()) <= self.processes_before, EXIT_GRACE_S)
        except AssertionError:
            for pid, cmdline in self.home.processes().items():
                if pid not in self.processes_before:
                    leaks.append("process left by the test: %d %s" % (pid, cmdline[:300]))
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGKILL)
        report = self.home.sanitizer_reports()
        if report:
            leaks.append("a sanitizer reported:\n" + report)
        if leaks:
            self.fail("\n".join(leaks))

    # ---- assertions that show what the command did

    def assert_rc(self, result, rc):
        if result.rc != rc:
            self.fail("status %s, not %s:\n%s" % (result.rc, rc, result))
        return result

    def assert_out(self, result, out, rc=0):
        out = out if isinstance(out, bytes) else out.encode()
        self.assert_rc(result, rc)
        if result.out != out:
            self.fail("standard output is not %r:\n%s" % (out, result))
        return result

    def assert_one_line(self, result, rc=None, match=None):
        """A refusal: one line on standard error, nothing on standard output, a non-zero status."""
        if result.rc == 0 or (rc is not None and result.rc != rc):
            self.fail("status %s, expected %s:\n%s" % (result.rc, "a failure" if rc is None else rc, result))
        if result.out:
            self.fail("an error does not belong on standard output:\n%s" % result)
        said = re.sub(rb"\A([0-9a-f]{12}: [^\n]+\n)+", b"", result.err)  # progress of layers may come before
        if not re.fullmatch(rb"a3s-box: [^\n]+\n", said):
            self.fail("not one line that starts with a3s-box:\n%s" % result)
        if match and not re.search(match, said.decode(errors="replace"), re.IGNORECASE):
            self.fail("the line does not say %r:\n%s" % (match, result))
        return result
