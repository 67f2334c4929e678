"""stats and top: what boxes use, and that the box itself sees the same."""

import json
import re

from a3s import BoxTest, Terminal, core, wait_for

# Files of the box's cgroup, as its own processes see them.
SEE = "cd /sys/fs/cgroup; for f in memory.max pids.max pids.current; do cat $f; done"
UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def size(text):
    number, unit = re.fullmatch(r"([0-9.e+]+)([A-Za-z]+)", text).groups()
    return float(number) * UNITS[unit]


class Stats(BoxTest):
    @classmethod
    def prepare(cls):
        cls.box = cls.home.run_detached(
            "--name", "host", "-m", "256m", "box", "sh", "-c", "sleep 100000 & sleep 100001 & wait")

    @classmethod
    def tearDownClass(cls):
        if hasattr(cls, "box"):
            cls.home.run("rm", "-f", cls.box)
        super().tearDownClass()

    def rows(self, *args):
        result = self.home.ok("stats", "--no-stream", "--format", "json", *args)
        return [json.loads(line) for line in result.lines]

    @core
    def test_numbers_are_the_boxs_own(self):
        self.home.ok("exec", "-d", "host", "sh", "-c", "while [ ! -e /tmp/stop ]; do :; done")
        row, = self.rows("host")
        self.assertEqual((row["Name"], row["ID"]), ("host", self.box[:12]))
        # That keeps one processor busy, or what a loaded host can give of one.
        self.assertTrue(5 < float(row["CPUPerc"].rstrip("%")) < 150, row)
        limit, most, now = self.home.ok("exec", "host", "sh", "-c", SEE).lines
        used, of = row["MemUsage"].split(" / ")
        self.assertAlmostEqual(size(of) / int(limit), 1, delta=0.01)
        # With the memory that the guest's kernel and PID 1 keep, it is what was asked for at most.
        self.assertTrue(180 << 20 < int(limit) < 256 << 20, limit)
        self.assertTrue(0 < size(used) < size(of), row)
        self.assertAlmostEqual(float(row["MemPerc"].rstrip("%")), 100 * size(used) / size(of), delta=0.1)
        # The shell and the cat that ask come on top. PID 1 keeps some from the box, which is no limit to show.
        self.assertEqual((row["PIDs"], int(now)), ("4", 6))
        self.assertGreater(int(most), 500)
        read, _ = row["BlockIO"].split(" / ")
        self.assertNotEqual(read, "0B")
        # Nobody sends it anything; the kernel itself says something when the interface comes up.
        self.assertRegex(row["NetIO"], r"\A0B / \d+B\Z")
        self.home.ok("exec", "host", "touch", "/tmp/stop")
        wait_for("the loop to end", lambda: self.rows("host")[0]["PIDs"] == "3")

    def test_table_and_which_boxes(self):
        other = self.home.ok("create", "--name", "other", "box", "true").text.strip()
        try:
            result = self.home.ok("stats", "--no-stream")
            self.assertRegex(result.lines[0], r"^BOX ID +NAME +CPU % +MEM USAGE / LIMIT +MEM % +NET I/O +BLOCK I/O +PIDS$")
            self.assertEqual([line.split()[1] for line in result.lines[1:]], ["host"])
            self.assertEqual({r["Name"] for r in self.rows("-a")}, {"host", "other"})
            row, = self.rows("--no-trunc", "other")
            self.assertEqual((row["ID"], row["CPUPerc"], row["MemUsage"], row["PIDs"]), (other, "0.00%", "0B / 0B", "0"))
        finally:
            self.home.ok("rm", other)
        self.assert_out(self.home.run("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "host"), "host 3\n")
        self.assert_one_line(self.home.run("stats", "nosuch"), 1, "nosuch")
        self.assert_one_line(self.home.run("stats", "--format", "{{.Nosuch}}"), 1, "Nosuch")

    def test_streams(self):
        p = self.home.popen("stats", "--format", "{{.Name}} {{.CPUPerc}}", "host")
        try:
            lines = [p.stdout.readline() for _ in range(3)]
            for line in lines[1:]:
                self.assertRegex(line, rb"^host [0-9.]+%\n$")
        finally:
            p.stdout.close()  # nobody reads it any more: it ends by itself
            status = p.wait(30)
            p.stderr.close()
        self.assertEqual(status, 1)

    def test_ends_with_the_last_that_was_named(self):
        box = self.home.ok("create", "box", "true").text.strip()
        stats = self.home.popen("stats", box)
        try:
            self.assertTrue(stats.stdout.readline())
            self.home.ok("rm", box)
            self.assertEqual(stats.wait(30), 0)
        finally:
            stats.kill()
            stats.communicate()

    def test_on_a_terminal(self):
        with Terminal(self.home, "stats", rows=10, cols=120) as t:
            t.read_until(rb"\x1b\[2J")
            for _ in range(2):  # written over, never cleared
                t.read_until(rb"\x1b\[HBOX ID[^\n]*\x1b\[K\r\n[^\n]*host[^\n]*\x1b\[K\r\n\x1b\[J")

    def test_paused(self):
        self.home.ok("pause", "host")
        try:
            row, = self.rows("host")
            self.assertEqual((row["CPUPerc"], row["MemUsage"]), ("--", "-- / --"))
            self.assert_one_line(self.home.run("top", "host"), 1, "paused")
        finally:
            self.home.ok("unpause", "host")

    @core
    def test_top(self):
        result = self.home.ok("top", "host")
        self.assertRegex(result.lines[0], r"^UID +PID +PPID +C +STIME +TTY +TIME +CMD$")
        ours = {line.split()[1]: line.split() for line in result.lines[1:]}
        # The box's ps says the same of its own, but for itself.
        ps = self.home.ok("exec", "-u", "app", "host", "ps", "-o", "pid,ppid,args").lines[1:]
        theirs = {p.split()[0]: p.split() for p in ps if "ps -o" not in p}
        self.assertEqual(set(ours), set(theirs))
        for pid, columns in theirs.items():
            self.assertEqual(ours[pid][2], columns[1])
            self.assertEqual(ours[pid][7:], columns[2:])
            self.assertEqual(ours[pid][0], "root")
        self.assertEqual(ours["1"][2], "0")

    def test_ps_options(self):
        aux = self.home.ok("top", "host", "aux").lines
        self.assertRegex(aux[0], r"^USER +PID +%CPU +%MEM +VSZ +RSS +TTY +STAT +START +TIME +COMMAND$")
        self.assertEqual(len(aux), 4)
        self.assertEqual(self.home.ok("top", "host", "-eo", "pid,comm").lines[:2], ["PID   COMMAND", "1     sh"])
        own = self.home.ok("top", "host", "-o", "pid,nlwp,nice", "-o", "tty=WHERE").lines
        self.assertEqual([own[0].split(), own[1].split()], [["PID", "NLWP", "NI", "WHERE"], ["1", "1", "0", "?"]])
        self.assert_one_line(self.home.run("top", "host", "-o", "pod"), 1, "nlwp")
        self.assert_one_line(self.home.run("top", "host", "--sort"), 1, "aux")
        self.assert_one_line(self.home.run("top", "nosuch"), 1, "nosuch")
        self.assert_one_line(self.home.run("top"), 1, "a box is needed")

    def test_users_terminals_and_hostile_names(self):
        with Terminal(self.home, "exec", "-it", "-u", "app", "host", "sh", "-c", "sleep 66666; true", "a\x1b[2J\nb"):
            def find():
                lines = self.home.ok("top", "host", "-o", "uid,gid,tty,args").lines
                return [line for line in lines if line.startswith("1000")]

            rows = wait_for("the process", lambda: [r for r in find() if "sh -c" in r], 30)
            self.assertRegex(rows[0], r"^1000 +1000 +pts/\d+ +sh -c sleep 66666; true a\\x1b\[2J\\x0ab$")
            self.assertNotIn("\x1b", rows[0])
