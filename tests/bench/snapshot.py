"""Benchmark of commit and snapshot create, run by tests/bench/run: of a box that changed 100 MB and runs; how long its
writes stand still meanwhile; and what a snapshot takes."""

import json
import statistics

import daily

CHANGED_BYTES = 100_000_000
ROUNDS = 5
# Writes to the disk again and again, and notes when, in hundredths of a second; a gap is a write that had to wait.
PROBE = ("head -c %d /dev/urandom > /changed; sync; touch /dev/shm/ready; "
         "while [ ! -e /dev/shm/end ]; do echo x > /probe; read u _ < /proc/uptime; echo $u; done >> /dev/shm/times" %
         CHANGED_BYTES)


def longest_gap(times):
    seconds = [float(t) for t in times.split()]
    return max(b - a for a, b in zip(seconds, seconds[1:]))


def one(bench, args):
    """Seconds of the command, and the longest time that a write in the box took meanwhile."""
    home = bench.home
    home.ok("exec", "changed", "sh", "-c", ": > /dev/shm/times")
    seconds = home.ok(*args, timeout=600).seconds
    gap = longest_gap(home.ok("exec", "changed", "cat", "/dev/shm/times").text)
    home.transcript.clear()
    return seconds, gap


def measure(bench):
    home = bench.home
    wanted = {"snapshot create": lambda n: ("snapshot", "create", "changed", "bench%d" % n),
              "commit": lambda n: ("commit", "-m", "round %d" % n, "changed", "bench:%d" % n)}
    with daily.running(home, "--name", "changed", "box", "sh", "-c", PROBE):
        home.ok("exec", "changed", "sh", "-c", "while [ ! -e /dev/shm/ready ]; do sleep 0.1; done", timeout=300)
        for name, args in wanted.items():
            rounds = [one(bench, args(n)) for n in range(ROUNDS)]
            bench.say("%-15s 100 MB changed: median %.2f s of %d; a write waited at most %.2f s" % (
                name, statistics.median(s for s, _ in rounds), ROUNDS, max(g for _, g in rounds)))
        size = json.loads(home.ok("snapshot", "inspect", "bench0").out)[0]["Size"]
        bench.say("a snapshot of it takes %.1f MB" % (size / 1e6))
        for n in range(ROUNDS):
            home.ok("snapshot", "rm", "bench%d" % n)
            home.ok("rmi", "-f", "bench:%d" % n)
