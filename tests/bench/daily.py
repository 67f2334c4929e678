"""Benchmarks of the daily commands, run by tests/bench/run: exec, logs, ps, stop, rm, and a soak of execs.

Each takes the Bench that it measures in. What it starts it removes, however it ends; the home goes with its boxes.
"""

import contextlib
import math
import os
import pathlib
import shutil
import sqlite3
import statistics
import subprocess
import time

SMALL = ("-m", "128m", "--cpus", "1")
PODMAN_TIMEOUT_S = 120
PS_BOXES = 1000
RM_BOXES = 20
LOG_MB = 100  # what the writer says, in a box with a log and in one without
LOG_GOAL_MB_S = 50
SOAK_EXECS = 10000
SOAK_WARM = 200  # the first ones fill caches, here and there


class Bench:
    def __init__(self, home, numbers, rounds, say, tmp):
        self.home, self.numbers, self.rounds, self.say, self.tmp = home, numbers, rounds, say, tmp


def median_ms(values):
    return statistics.median(values) * 1000


def p99_ms(values):
    return sorted(values)[math.ceil(len(values) * 0.99) - 1] * 1000


def summary(values):
    return "median %.1f ms, p99 %.1f ms, %d times" % (median_ms(values), p99_ms(values), len(values))


@contextlib.contextmanager
def running(home, *args):
    """A box that runs meanwhile."""
    box = home.run_detached(*args)
    try:
        yield box
    finally:
        home.run("rm", "-f", box)


# ---- exec ----


class Podman:
    """Containers of podman with runc, in folders of their own: nothing of theirs lies elsewhere, but their cgroups."""

    def __init__(self, folder):
        folder.mkdir()
        (folder / "containers.conf").write_text('[engine]\nlock_type = "file"\n')
        self.env = {**os.environ, "CONTAINERS_CONF": str(folder / "containers.conf")}
        self.cgroup = folder.parent.name
        self.options = ["podman", "--root", folder / "root", "--runroot", folder / "run", "--tmpdir", folder / "tmp",
                        "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none",
                        "--runtime", "runc", "--runtime-flag", "root=%s" % (folder / "runc")]

    def run(self, *args):
        start = time.monotonic()
        p = subprocess.run([str(a) for a in (*self.options, *args)], stdin=subprocess.DEVNULL, capture_output=True,
                           timeout=PODMAN_TIMEOUT_S, env=self.env, check=False)
        seconds = time.monotonic() - start
        if p.returncode:
            raise OSError("podman %s: %s" % (args[0], p.stderr.decode(errors="replace").strip()))
        return seconds

    @contextlib.contextmanager
    def container(self, archive):
        """The name of a container of this image that runs meanwhile."""
        self.run("pull", "-q", "oci-archive:%s" % archive)
        try:
            # Limits as ours, which a caller without CAP_SYS_RESOURCE may set as well.
            self.run("run", "-d", "--name", "bench", "--network", "none", "--cgroup-parent", "/" + self.cgroup,
                     "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", "box", "sleep", "100000")
            yield "bench"
        finally:
            self.run("rm", "-f", "-t", "0", "--all")
            self.remove_cgroups()

    def remove_cgroups(self):
        """Once the last of podman's helpers is out of them."""
        for _ in range(50):
            left = list(pathlib.Path("/sys/fs/cgroup").glob("**/%s/" % self.cgroup))
            for folder in [child for cgroup in left for child in cgroup.glob("*/")] + left:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            if not left:
                return
            time.sleep(0.1)


def exec_floor(home):
    """Seconds that no exec can do without: to start a program here, and to fork and execute one in the guest."""
    here = statistics.median(home.ok("version").seconds for _ in range(20))
    script = "read a b </proc/uptime; for i in $(seq 100); do /bin/true; done; read c d </proc/uptime; echo $a $c"
    before, after = map(float, home.ok("exec", "bench", "sh", "-c", script).text.split())
    return here, (after - before) / 100


def exec_against_podman(bench, archive):
    podman, theirs, ours = None, [], []
    with contextlib.ExitStack() as stack:
        stack.enter_context(running(bench.home, "--name", "bench", "box", "sleep", "100000"))
        if shutil.which("podman") and shutil.which("runc"):
            try:
                podman = Podman(bench.tmp / "podman")
                stack.enter_context(podman.container(archive))
            except OSError as e:
                bench.say("no comparison, podman does not run here: %s" % e)
                podman = None
        else:
            bench.say("no comparison: podman and runc are not installed")
        for _ in range(bench.rounds * 20):
            ours.append(bench.home.ok("exec", "bench", "true").seconds)
            if podman:
                theirs.append(podman.run("exec", "bench", "true"))
        here, there = exec_floor(bench.home)
    bench.say("exec BOX true:                       " + summary(ours))
    bench.say("  floor: %.1f ms to start a program here, %.1f ms to execute one in the guest" % (
        here * 1000, there * 1000))
    bench.numbers.add("exec BOX true / its floor", statistics.median(ours) / (here + there))
    if theirs:
        bench.say("podman exec, runc:                   " + summary(theirs))
        bench.numbers.add("exec BOX true / podman exec with runc, median", median_ms(ours) / median_ms(theirs), 1)
        bench.numbers.add("exec BOX true / podman exec with runc, p99", p99_ms(ours) / p99_ms(theirs), 1)


# ---- logs ----


def cpu_seconds(pid):
    """User and system time of a process so far."""
    with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def write_log(bench, driver):
    """A box says LOG_MB as fast as it can; returns MB/s by its own clock, and its supervisor's seconds per MB."""
    line = "2024-05-01T12:30:00Z INFO worker-7 handled request 0123456789abcdef in 12 ms, status 200, 5120 bytes"
    script = r"""
        yes '%s' | head -c 1000000 >/dev/shm/text
        until [ -e /dev/shm/go ]; do sleep 0.1; done
        read from rest </proc/uptime
        for i in $(seq %d); do cat /dev/shm/text; done
        read to rest </proc/uptime
        echo $from $to >/dev/shm/took
        exec sleep 100000""" % (line, LOG_MB)
    home = bench.home
    options = [] if driver == "none" else ["--log-opt", "max-size=1g"]  # to count the lines at the end
    with running(home, "--log-driver", driver, *options, "box", "sh", "-c", script) as box:
        time.sleep(1)
        supervisor = home.find_process("a3s-box-shim", box)[0]
        before = cpu_seconds(supervisor)
        home.ok("exec", box, "touch", "/dev/shm/go")
        result = home.run("exec", box, "cat", "/dev/shm/took")
        while result.rc:
            time.sleep(1)
            result = home.run("exec", box, "cat", "/dev/shm/took")
        home.transcript.clear()
        start, end = map(float, result.text.split())
        used = cpu_seconds(supervisor) - before
        if driver != "none":
            said = home.ok("logs", box).out.count(b"\n")
            whole = LOG_MB * (1000000 // (len(line) + 1))
            if said < whole:
                raise SystemExit("the log has %d lines, not %d" % (said, whole))
            home.transcript.clear()
        return LOG_MB / (end - start), used / LOG_MB


def logs(bench):
    with_log, without = [], []
    for _ in range(3):
        without.append(write_log(bench, "none"))
        with_log.append(write_log(bench, "json-file"))
    rates = [[statistics.median(r[i] for r in side) for i in (0, 1)] for side in (with_log, without)]
    for name, (rate, cpu) in zip(("json-file", "none     "), rates):
        bench.say("log driver %s:               %.1f MB/s, supervisor %.2f ms of CPU a MB" % (name, rate, cpu * 1000))
    bench.numbers.add("log writer: throughput with json-file / with none", rates[0][0] / rates[1][0])
    bench.numbers.add("log writer: processors the supervisor takes at %d MB/s" % LOG_GOAL_MB_S,
                      rates[0][1] * LOG_GOAL_MB_S, 1)


# ---- ps ----


def ps_of_many(bench):
    """The records are copies of one that was made by create."""
    home, full, running_only = bench.home, [], []
    home.ok("create", "--name", "many", "box", "true")
    with contextlib.closing(sqlite3.connect(home.path / "state.db", timeout=30)) as db, db:
        names = [row[1] for row in db.execute("PRAGMA table_info(boxes)")]
        row = list(db.execute("SELECT * FROM boxes WHERE name = 'many'").fetchone())
        stored = db.execute("SELECT count(*) FROM boxes").fetchone()[0]
        for n in range(PS_BOXES - stored):
            row[names.index("id")], row[names.index("name")] = "%064x" % (n + (1 << 200)), "many%d" % n
            db.execute("INSERT INTO boxes VALUES(%s)" % ",".join("?" * len(row)), row)
    try:
        for _ in range(bench.rounds * 3):
            full.append(home.ok("ps", "-a").seconds)
            running_only.append(home.ok("ps").seconds)
            home.transcript.clear()
        lines = len(home.ok("ps", "-a").lines)
        if lines != PS_BOXES + 1:
            raise SystemExit("ps -a shows %d lines, not %d" % (lines, PS_BOXES + 1))
    finally:
        with contextlib.closing(sqlite3.connect(home.path / "state.db", timeout=30)) as db, db:
            db.execute("DELETE FROM boxes WHERE name LIKE 'many%'")
    bench.say("ps -a, %d boxes:                   %s" % (PS_BOXES, summary(full)))
    bench.numbers.add("ps -a with %d boxes" % PS_BOXES, median_ms(full), 30, unit=" ms")
    bench.numbers.add("ps with %d boxes, none running" % PS_BOXES, median_ms(running_only), 30, unit=" ms")


# ---- stop, rm ----


def stop(bench):
    """Nothing is taken off for the workload's own time: it has no handler, and the signal ends it at once."""
    home, clean, written = bench.home, [], []
    for _ in range(bench.rounds):
        with running(home, "box", "sleep", "100000") as box:
            time.sleep(0.5)
            clean.append(home.ok("stop", box).seconds)
        with running(home, "box", "sleep", "100000") as box:
            home.ok("exec", box, "sh", "-c", "for i in 1 2 3; do head -c 50000 /dev/zero >/work/$i; done")
            time.sleep(0.5)
            written.append(home.ok("stop", box).seconds)
    bench.say("stop, nothing written:               " + summary(clean))
    bench.say("stop, files written before:          " + summary(written))
    bench.numbers.add("stop of a box that exits on the signal", median_ms(clean), 50, unit=" ms")
    bench.numbers.add("the same, after it wrote files", median_ms(written), 50, unit=" ms")


def remove_many(bench):
    home, seconds = bench.home, []
    for _ in range(3):
        boxes = []
        try:
            for _ in range(RM_BOXES):
                boxes.append(home.run_detached(*SMALL, "box", "sleep", "100000"))
            time.sleep(1)
            seconds.append(home.ok("rm", "-f", *boxes).seconds)
            boxes = []
        finally:
            if boxes:
                home.run("rm", "-f", *boxes)
    bench.say("rm -f of %d running boxes:           %.2f s (%.2f to %.2f)" % (
        RM_BOXES, statistics.median(seconds), min(seconds), max(seconds)))
    bench.numbers.add("rm -f of %d running boxes" % RM_BOXES, statistics.median(seconds), 1, unit=" s")


# ---- soak ----


def kib(text, key):
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(key + ":"))


def soak_figures(home, box):
    """What a leak would show in, as name: (value, what it may grow by)."""
    supervisor = pathlib.Path("/proc/%d" % home.find_process("a3s-box-shim", box)[0])
    machine = pathlib.Path("/proc/%d" % home.find_machines()[0])
    # What the kernel gives back when asked is no leak. Only a privileged box may ask.
    home.ok("exec", "--privileged", box, "sh", "-c", "sync; echo 3 >/proc/sys/vm/drop_caches; sleep 1")
    guest = home.ok("exec", box, "cat", "/proc/meminfo").text
    used = kib(guest, "MemTotal") - kib(guest, "MemFree") - kib(guest, "Buffers") - kib(guest, "Cached")
    threads = home.ok("exec", box, "cat", "/proc/loadavg").text.split()[3].split("/")[1]
    return {
        "supervisor: descriptors": (len(os.listdir(supervisor / "fd")), 0),
        "supervisor: memory, KiB": (kib((supervisor / "status").read_text(), "RssAnon"), 256),
        "supervisor: threads": (kib((supervisor / "status").read_text(), "Threads"), 0),
        "machine: descriptors": (len(os.listdir(machine / "fd")), 0),
        # The kernel's stores of free objects grow and shrink by some 2 MiB by themselves.
        "guest: memory in use, KiB": (used, 4096),
        "guest: kernel memory, KiB": (kib(guest, "SUnreclaim"), 4096),
        # Of the kernel too, whose workers come and go.
        "guest: threads": (int(threads), 8),
        "box: processes": (len(home.ok("top", box).lines) - 1, 0),
        "here: processes": (len(home.processes()), 0),
    }


def soak(bench):
    home, lost, seconds = bench.home, 0, []
    with running(home, "--privileged", "box", "sleep", "100000") as box:
        def execs(count):
            nonlocal lost
            for n in range(count):
                result = home.run("exec", box, "echo", n)
                seconds.append(result.seconds)
                if result.rc or result.out != b"%d\n" % n:
                    lost += 1
                    bench.say("lost: %s" % result)
                home.transcript.clear()

        execs(SOAK_WARM)
        before = soak_figures(home, box)
        seconds.clear()
        execs(SOAK_EXECS)
        time.sleep(1)
        after = soak_figures(home, box)
    bench.say("%d execs in sequence:              %s" % (SOAK_EXECS, summary(seconds)))
    bench.say("  the first 500: %.1f ms; the last: %.1f ms" % (median_ms(seconds[:500]), median_ms(seconds[-500:])))
    for name, (was, may_grow) in before.items():
        bench.say("  %-30s %8d before, %8d after" % (name, was, after[name][0]))
        bench.numbers.add("soak: growth of " + name, after[name][0] - was, may_grow)
    bench.numbers.add("soak: execs lost", lost, 0)
