"""Restart policies, restart, --timeout and monitor: what comes after a box's end."""

import contextlib
import json
import os
import pathlib
import select
import signal
import sqlite3
import time

from a3s import SLOW, BoxTest, core, slow, wait_for

NS = 10 ** 9


class RestartTest(BoxTest):
    def events(self, box):
        """[(action, time in ns)] of a box, oldest first."""
        with contextlib.closing(sqlite3.connect(self.home.path / "state.db")) as db:
            return db.execute("SELECT action, time FROM events WHERE actor=? ORDER BY id", (box,)).fetchall()

    def actions(self, box):
        return [action for action, _ in self.events(box)]

    def wait_runs(self, box, count, timeout_s=60):
        wait_for("%d runs of %s" % (count, box[:12]), lambda: self.actions(box).count("start") >= count, timeout_s)

    def restart_count(self, box):
        return self.home.inspect(box)["RestartCount"]

    def kill_supervisors(self):
        for pid in self.home.find_process("a3s-box-shim"):
            with contextlib.suppress(ProcessLookupError):
                fd = os.pidfd_open(pid)
                try:
                    os.kill(pid, signal.SIGKILL)
                    select.select([fd], [], [], 30)  # until then it may seem to be there
                finally:
                    os.close(fd)


class Policies(RestartTest):
    @core
    @slow(300)
    def test_always(self):
        box = self.home.run_detached("--name", "r", "--restart", "always", "box", "sh", "-c", "echo up; exit 3")
        logs = self.home.popen("logs", "-f", "r")
        self.assert_out(self.home.run("wait", "r"), "3\n")  # the first end, not the last
        self.home.wait_status(box, "restarting")
        self.wait_runs(box, 5)  # it waits for 16 s then: time for some commands
        self.home.wait_status(box, "restarting")
        state = self.home.inspect(box)["State"]
        self.assertIs(state["Restarting"], True, state)
        self.assertEqual(state["ExitCode"], 3)
        self.assertGreaterEqual(self.restart_count(box), 4)
        self.assertRegex(self.home.ok("ps").lines[1], r" Restarting \(3\) ")
        for command in (["pause", "r"], ["attach", "r"], ["exec", "r", "true"]):
            self.assert_one_line(self.home.run(*command), match="restarting")
        # While it waits, there is nothing to be waited for.
        result = self.home.ok("stop", "r")
        self.assertLess(result.seconds, 8 * SLOW)
        self.assertEqual(self.home.status("r"), "exited")
        out, _ = logs.communicate(timeout=30)  # a follower goes on over restarts, and ends with the box
        runs = self.actions(box).count("start")
        self.assertEqual(out, b"up\n" * runs)
        # The waits: a second, then twice as long each.
        times = self.events(box)
        ends = [t for action, t in times if action == "die"]
        starts = [t for action, t in times if action == "start"]
        waits = [(start - end) / NS for end, start in zip(ends, starts[1:])]
        self.assertGreater(waits[0], 1)
        self.assertGreater(waits[1], 2)
        time.sleep(1.5)  # a manual stop stays
        self.assertEqual(self.home.status("r"), "exited")
        self.assertEqual(self.actions(box).count("start"), runs)
        self.home.ok("start", "r")
        self.assertEqual(self.restart_count(box), 0)
        self.home.wait_status(box, "restarting")
        self.home.ok("rm", "-f", "r")
        self.assertEqual(self.actions(box)[-1], "destroy")

    @slow(300)
    def test_on_failure(self):
        bad = self.home.run_detached("--restart", "on-failure:1", "box", "sh", "-c", "echo run; exit 5")
        good = self.home.run_detached("--restart", "on-failure", "box", "sh", "-c", "echo run")
        self.home.wait_status(good, "exited")
        self.assertEqual(self.restart_count(good), 0)
        self.home.wait_status(bad, "exited", timeout_s=60)
        self.assertEqual(self.restart_count(bad), 1)
        self.assertEqual(self.home.inspect(bad)["State"]["ExitCode"], 5)
        self.assert_out(self.home.run("logs", bad), "run\nrun\n")
        self.home.ok("rm", bad, good)

    @slow(300)
    def test_a_users_signal_is_a_stop(self):
        """By SIGKILL or the stop signal; another signal that ends the workload is a failure like any other."""
        box = self.home.run_detached("--restart", "unless-stopped", "box", "sleep", "1000")
        self.home.ok("kill", "-s", "HUP", box)
        self.wait_runs(box, 2)
        self.home.wait_status(box, "running")
        self.home.ok("kill", "-s", "TERM", box)
        self.home.wait_status(box, "exited")
        self.home.ok("start", box)
        self.home.ok("kill", box)
        self.assertEqual(self.home.status(box), "exited")
        self.home.ok("start", box)
        machines = self.home.find_machines()
        for pid in machines:  # the machine's end is none of a user's
            os.kill(pid, signal.SIGKILL)
        self.wait_runs(box, 5)
        self.home.ok("rm", "-f", box)

    def test_a_first_start_that_fails_is_no_case_for_a_policy(self):
        result = self.home.run("run", "-d", "--name", "x", "--restart", "always", "box", "nosuch")
        self.assert_one_line(result, rc=127, match="nosuch")
        self.assertEqual(self.home.status("x"), "created")
        self.home.ok("rm", "x")

    @slow(300)
    def test_unhealthy(self):
        box = self.home.run_detached("--restart", "on-failure", "--health-cmd", "false", "--health-interval", "1s",
                                     "--health-retries", "1", "box", "sleep", "1000")
        self.wait_runs(box, 2, 90)
        self.assertGreaterEqual(self.restart_count(box), 1)
        self.home.ok("rm", "-f", box)


class BusyDatabase(RestartTest):
    @slow(300)
    def test_an_end_is_written_late_rather_than_never(self):
        box = self.home.run_detached("box", "sh", "-c", "sleep 2; exit 5")
        with contextlib.closing(sqlite3.connect(self.home.path / "state.db", isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            time.sleep(16)
            db.execute("ROLLBACK")
        self.home.wait_status(box, "exited")
        state = self.home.inspect(box)["State"]
        self.assertEqual((state["ExitCode"], state["Error"]), (5, ""))
        self.home.ok("rm", box)


class Restart(RestartTest):
    @core
    @slow(300)
    def test_restart(self):
        """The same box, its files kept; who waited for the end is told of it."""
        script = "test -e /kept && echo again || echo first; touch /kept; exec sleep 1000"
        box = self.home.run_detached("--name", "r", "box", "sh", "-c", script)
        wait_for("the first run's line", lambda: self.home.ok("logs", "r").out == b"first\n")
        waiting = self.home.popen("wait", "r")
        time.sleep(0.5)
        self.assert_out(self.home.run("restart", "r"), "r\n")
        out, _ = waiting.communicate(timeout=30)
        self.assertEqual(out, b"143\n")
        self.assertEqual(self.home.status("r"), "running")
        self.assertEqual(self.actions(box)[-5:], ["kill", "die", "stop", "start", "restart"])
        wait_for("the second run's line", lambda: self.home.ok("logs", "r").out == b"first\nagain\n")
        self.home.ok("pause", "r")
        self.home.ok("restart", "r")  # a paused one too
        self.assertEqual(self.home.status("r"), "running")
        self.home.ok("stop", "r")
        self.home.ok("restart", "r")  # and one that does not run
        self.assertEqual(self.home.status("r"), "running")
        self.assertEqual(self.restart_count(box), 0)
        self.home.ok("rm", "-f", "r")

    def test_one_with_rm_stays(self):
        box = self.home.run_detached("--rm", "box", "sleep", "1000")
        self.home.ok("restart", box)
        self.assertEqual(self.home.status(box), "running")
        self.home.ok("stop", box)
        self.assertEqual(self.home.boxes(), [])

    def test_time_limit(self):
        result = self.home.run("run", "--rm", "--timeout", "1", "box", "sh", "-c", "echo up; sleep 1000")
        self.assert_out(result, "up\n", rc=124)
        result = self.home.run("run", "--timeout", "1", "--stop-timeout", "1", "--name", "t", "--restart", "always", "box", "sh",
                               "-c", "trap '' TERM; while :; do sleep 0.1; done")
        self.assert_rc(result, 124)
        state = self.home.inspect("t")["State"]
        self.assertEqual((state["Status"], state["ExitCode"]), ("exited", 124))
        self.home.ok("rm", "t")


class Monitor(RestartTest):
    @core
    @slow(300)
    def test_what_should_run_is_brought_back(self):
        always = self.home.run_detached("--name", "a", "--restart", "always", "box", "sleep", "1000")
        stopped = self.home.run_detached("--name", "s", "--restart", "always", "box", "sleep", "1000")
        plain = self.home.run_detached("--name", "p", "box", "sleep", "1000")
        self.home.ok("stop", stopped)
        self.kill_supervisors()
        self.assert_out(self.home.run("monitor", "--once"), "started a\n")
        self.assertEqual([self.home.status(b) for b in (always, stopped, plain)], ["running", "exited", "exited"])
        self.assert_out(self.home.run("monitor", "--once"), "")
        # It lost its supervisor, but then a user stopped it.
        self.kill_supervisors()
        self.home.ok("stop", always)
        self.assert_out(self.home.run("monitor", "--once"), "")
        self.assertEqual(self.home.status(always), "exited")
        # A supervisor that is told to end by the host, also while a restart goes on.
        self.home.ok("start", always)
        restart = self.home.popen("restart", always)
        time.sleep(0.3)
        for pid in self.home.find_process("a3s-box-shim"):
            os.kill(pid, signal.SIGTERM)
        restart.communicate(timeout=60)
        self.home.wait_status(always, "exited")
        self.assert_out(self.home.run("monitor", "--once"), "started a\n")
        self.kill_supervisors()
        self.assertEqual(self.home.run("kill", always).rc, 1)  # it does not run, and is not to
        self.assert_out(self.home.run("monitor", "--once"), "")
        # One that cannot start is said.
        self.home.ok("start", always)
        self.kill_supervisors()
        scratch = self.home.path / "boxes" / always / "scratch.img"
        scratch.unlink()
        scratch.mkdir()
        self.assert_one_line(self.home.run("monitor", "--once"), rc=1, match="a: ")
        scratch.rmdir()
        self.home.ok("rm", "-f", "a", "s", "p")

    @slow(300)
    def test_two_that_watch(self):
        """Both in the foreground: each death is made good once; and they need next to no processor time."""
        box = self.home.run_detached("--name", "w", "--restart", "unless-stopped", "box", "sleep", "1000")
        monitors = [self.home.popen("monitor") for _ in range(2)]
        try:
            for runs in (2, 3):
                time.sleep(1)
                self.kill_supervisors()
                self.wait_runs(box, runs)
                self.home.wait_status(box, "running")
            time.sleep(3)
            self.assertEqual(self.actions(box).count("start"), 3)
            for m in monitors:
                for task in pathlib.Path("/proc/%d/task/%d/children" % (m.pid, m.pid)).read_text().split():
                    self.assertNotIn(") Z ", pathlib.Path("/proc/%s/stat" % task).read_text())
                with open("/proc/%d/stat" % m.pid, encoding="ascii") as f:
                    ticks = sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13]))
                self.assertLess(ticks / os.sysconf("SC_CLK_TCK"), 1)
        finally:
            for m in monitors:
                m.send_signal(signal.SIGTERM)
            outs = [m.communicate(timeout=30) for m in monitors]
            self.home.ok("rm", "-f", "w")
        self.assertEqual(sorted(b"".join(out for out, _ in outs).splitlines()), [b"started w"] * 2, outs)
        self.assertEqual([err for _, err in outs], [b"", b""])
        entries = [json.loads(line) for line in self.home.ok("audit", "--json", "--action", "monitor").lines]
        ours = [e for e in entries if e["pid"] in [m.pid for m in monitors]]
        self.assertEqual([(e["boxes"], e["outcome"]) for e in ours if e["boxes"]][:2],
                         [([{"id": box, "name": "w"}], "success")] * 2)
        self.assertEqual(len(ours), 4, entries)  # and one for each monitor

    def test_bad_use(self):
        self.assert_one_line(self.home.run("monitor", "x"), rc=1, match="argument")
        self.assert_one_line(self.home.run("monitor", "--twice"), rc=1, match="twice")
