"""Benchmark of cp, run by tests/bench/run: one large file and many small ones, both ways, against podman cp to and from a
running container with runc; and how long writes of a box stand still while its disk is copied.

What is copied is in the host's memory before, on both sides; each side writes to an empty folder of the same file system.
"""

import contextlib
import os
import shutil
import statistics

import daily

LARGE_BYTES = 1 << 30
SMALL_FILES, SMALL_BYTES = 20000, 4096
ROUNDS = 3


def sources(tmp):
    """{name: folder or file}, with data that no file system can leave out."""
    large, small = tmp / "large", tmp / "small"
    piece = os.urandom(1 << 20)
    with open(large, "wb") as f:
        for i in range(LARGE_BYTES >> 20):
            f.write(i.to_bytes(8, "little") + piece[8:])
    for i in range(SMALL_FILES):
        folder = small / ("d%d" % (i // 200))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ("f%d" % i)).write_bytes(piece[i % 1000:i % 1000 + SMALL_BYTES])
    return {"1 GiB": large, "%d files of 4 KiB" % SMALL_FILES: small}


class Ours:
    name = "a3s-box cp"

    def __init__(self, home):
        self.home = home

    def cp(self, src, dst):
        seconds = self.home.ok("cp", src, dst, timeout=1800).seconds
        self.home.transcript.clear()
        return seconds

    def clear(self):
        self.home.ok("exec", "cp", "sh", "-c", "rm -rf /w; mkdir /w; sync", timeout=600)


class Theirs:
    name = "podman cp"

    def __init__(self, podman):
        self.podman = podman

    def cp(self, src, dst):
        return self.podman.run("cp", str(src).replace("cp:", "bench:"), str(dst).replace("cp:", "bench:"))

    def clear(self):
        self.podman.run("exec", "bench", "sh", "-c", "rm -rf /w; mkdir /w")


def measure(bench, archive):
    wanted, out = sources(bench.tmp), bench.tmp / "out"
    with contextlib.ExitStack() as stack:
        stack.enter_context(daily.running(bench.home, "--name", "cp", "-m", "512m", "box", "sleep", "100000"))
        sides = [Ours(bench.home)]
        if shutil.which("podman") and shutil.which("runc"):
            try:
                podman = daily.Podman(bench.tmp / "podman")
                stack.enter_context(podman.container(archive))
                sides.append(Theirs(podman))
            except OSError as e:
                bench.say("no comparison, podman does not run here: %s" % e)
        else:
            bench.say("no comparison: podman and runc are not installed")
        for name, path in wanted.items():
            into = {side: [] for side in sides}
            back = {side: [] for side in sides}
            for _ in range(ROUNDS):
                for side in sides:
                    side.clear()
                    os.sync()
                    into[side].append(side.cp(path, "cp:/w/x"))
                    back[side].append(side.cp("cp:/w/x", out))
                    if out.is_dir():
                        shutil.rmtree(out)
                    else:
                        out.unlink()
            for way, times in (("into", into), ("out of", back)):
                for side in sides:
                    bench.say("%-14s %-22s %-7s the box: median %.2f s of %d" % (
                        side.name, name, way, statistics.median(times[side]), ROUNDS))
                if len(sides) > 1:
                    ours, theirs = (statistics.median(times[side]) for side in sides)
                    bench.numbers.add("cp of %s %s a box / podman cp" % (name, way), ours / theirs)
