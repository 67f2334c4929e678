"""Databases in volumes: supervisor, machine or file server are killed while they write; what they have acknowledged is
there afterwards. A3S_TEST_FULL: 50 times each."""

import os
import random
import re
import subprocess
import threading
import time

from a3s import BoxTest, kill_hard, slow, wait_for

ROUNDS = 50 if os.environ.get("A3S_TEST_FULL") else 6
SEED = int(os.environ.get("A3S_TEST_SEED", random.SystemRandom().randrange(1 << 32)))
VICTIMS = ("a3s-box-shim", "machine", "a3s-box-fsd")

# Each line on standard output is a commit that SQLite has returned from.
SQLITE_WRITER = """
import sqlite3, sys
db = sqlite3.connect("/data/db", isolation_level=None)
db.execute("PRAGMA journal_mode=%s" % sys.argv[1])
db.execute("PRAGMA synchronous=FULL")
db.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, filler BLOB)")
last = db.execute("SELECT coalesce(max(n), 0) FROM t").fetchone()[0]
while True:
    last += 1
    db.execute("INSERT INTO t VALUES (?, randomblob(300))", (last,))
    print(last, flush=True)
"""

SQLITE_CHECK = """
import sqlite3
db = sqlite3.connect("/data/db")
print(db.execute("PRAGMA integrity_check").fetchone()[0], *db.execute("SELECT count(*), coalesce(max(n), 0) FROM t").fetchone())
"""


class DurabilityTest(BoxTest):
    def kill(self, victim):
        pids = self.home.find_machines() if victim == "machine" else self.home.find_process(victim)
        self.assertTrue(pids, "no %s to kill" % victim)
        return any([kill_hard(pid) for pid in pids])

    def gone(self):
        wait_for("the box's processes to end", lambda: not self.home.processes(), 60)

    def killed_while_it_writes(self, p, victim, delay_s):
        """The lines that p had printed, each something acknowledged, when the victim was killed."""
        acknowledged = []
        reader = threading.Thread(target=lambda: acknowledged.extend(p.stdout))
        reader.start()
        try:
            wait_for("a first write", lambda: acknowledged or p.poll() is not None, 120)
            time.sleep(delay_s)
            self.kill(victim)
            p.wait(60)
        finally:
            p.kill()
            reader.join()
            p.stdout.close()
        self.gone()
        return acknowledged

    def each_round(self, one):
        rng = random.Random("%d %s" % (SEED, type(self).__name__))
        for n in range(ROUNDS):
            victim = VICTIMS[n % len(VICTIMS)]
            delay_s = rng.uniform(0, 1.5)
            with self.subTest(seed=SEED, round=n, victim=victim, delay_s=round(delay_s, 3)):
                one(victim, delay_s)


class Sqlite(DurabilityTest):
    images_wanted = ("python",)

    def one(self, journal, victim, delay_s):
        p = self.home.popen("run", "--rm", "-v", "data:/data", "-v", "%s:/w.py:ro" % self.writer, "python", "python3",
                            "/w.py", journal, stderr=subprocess.DEVNULL)
        acknowledged = self.killed_while_it_writes(p, victim, delay_s)
        # A line may have been cut; all before it were whole.
        last = max(int(line) for line in acknowledged if line.endswith(b"\n"))
        text = self.home.ok("run", "--rm", "-v", "data:/data", "python", "python3", "-c", SQLITE_CHECK).text
        verdict, count, highest = text.split()
        self.assertEqual(verdict, "ok")
        self.assertGreaterEqual(int(highest), last)
        self.assertEqual(int(count), int(highest), "commits are missing in between")

    def rounds(self, journal):
        self.writer = self.home.tmp / "w.py"
        self.writer.write_text(SQLITE_WRITER)
        self.each_round(lambda victim, delay_s: self.one(journal, victim, delay_s))
        self.home.ok("volume", "rm", "data")

    @slow(1500)
    def test_rollback_journal(self):
        self.rounds("DELETE")

    @slow(1500)
    def test_write_ahead_log(self):
        self.rounds("WAL")


class Redis(DurabilityTest):
    images_wanted = ("redis",)

    def start(self, *args):
        self.home.ok(*args)
        wait_for("redis", lambda: self.home.run("exec", "db", "redis-cli", "ping").out == b"PONG\n", 60, 0.2)

    def one(self, victim, delay_s):
        # INCR answers with the number: each line is a write that redis has acknowledged after its fsync.
        p = self.home.popen("exec", "db", "redis-cli", "-r", "1000000", "incr", "n", stderr=subprocess.DEVNULL)
        acknowledged = self.killed_while_it_writes(p, victim, delay_s)
        numbers = [int(m[1]) for line in acknowledged if (m := re.fullmatch(rb"(?:\(integer\) )?(\d+)\n", line))]
        self.assertTrue(numbers, acknowledged[:3])
        self.start("start", "db")
        got = int(re.search(r"\d+", self.home.ok("exec", "db", "redis-cli", "get", "n").text)[0])
        self.assertGreaterEqual(got, max(numbers))

    @slow(1500)
    def test_append_only_file(self):
        self.start("run", "-d", "--name", "db", "-v", "redis:/var/lib/redis", "redis", "--appendonly", "yes",
                   "--appendfsync", "always")
        self.each_round(self.one)
        self.home.ok("rm", "-f", "db")
        self.home.ok("volume", "rm", "redis")
