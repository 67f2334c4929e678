"""kill -9 at random moments: the next command tells the truth, rm works, and nothing is left behind.

The moments come from a generator whose seed every test prints on failure; A3S_TEST_SEED repeats it.
"""

import json
import os
import random
import re
import signal
import subprocess
import time

from a3s import EMULATION_WARNING, BoxTest, core, kill_hard, slow, wait_for

ROUNDS = 30
CORE_ROUNDS = 4
SEED = int(os.environ.get("A3S_TEST_SEED", random.SystemRandom().randrange(1 << 32)))
STATES = {"created", "running", "exited", "dead"}


class CrashTest(BoxTest):
    """Shared by the three: start a box, kill something, look."""

    def rounds(self, count, victim):
        rng = random.Random("%d %s" % (SEED, victim))
        # The first box makes what stays, the database and the caches; the second takes as long as those to come.
        self.home.ok("run", "--rm", "box", "true")
        start = time.monotonic()
        self.home.ok("run", "--rm", "box", "true")
        whole_s = time.monotonic() - start
        before = self.home.rest()
        for n in range(count):
            moment_s = rng.uniform(0, whole_s * 1.3)
            detached = rng.random() < 0.5 and victim != "command line"
            with self.subTest(seed=SEED, round=n, victim=victim, moment_s=round(moment_s, 3), detached=detached):
                self.one_round(victim, moment_s, detached)
                self.assertEqual(self.home.settle(before), "")

    def victims(self, victim):
        return self.home.find_machines() if victim == "machine" else self.home.find_process(victim)

    def one_round(self, victim, moment_s, detached):
        # It ends by itself after a while, so that some moments fall into its end.
        workload = ["box", "sh", "-c", "echo up; sleep 0.3; echo down"]
        flags = ["-d"] if detached else []
        p = self.home.popen("run", *flags, "--name", "victim", *workload)
        killed = False
        try:
            deadline = time.monotonic() + moment_s
            while time.monotonic() < deadline:
                time.sleep(min(0.01, max(0, deadline - time.monotonic())))
            if victim == "command line":
                killed = p.poll() is None
                p.kill()
            else:
                for pid in self.victims(victim):
                    killed |= kill_hard(pid)
            out, err = p.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            p.kill()
            out, err = p.communicate()
            self.fail("run hangs after %s was killed: %r %r" % (victim, out, err))
        if killed and victim != "command line" and not detached and p.returncode != 0:
            told = EMULATION_WARNING.sub(b"", err)
            self.assertRegex(told, rb"(?m)^a3s-box: [^\n]+$", "run failed without a word")
        self.look(victim, killed)

    def look(self, victim, killed):
        """The next command's picture: consistent in itself and with what lives."""
        listing = self.home.ok("ps", "-a")
        ids = self.home.boxes()
        if not ids:
            return  # killed before there was a record, or the box was removed
        (box,) = ids
        seen = self.home.inspect(box)
        status = seen["State"]["Status"]
        text = "%s\n%s" % (listing, json.dumps(seen["State"], indent=1))
        self.assertIn(status, STATES | {"starting", "creating", "stopping"}, text)
        if victim == "command line" and status in ("creating", "starting", "running", "stopping"):
            # Its supervisor lives on, or its start was undone: it must reach a resting state by itself.
            wait_for("a box without its command line to rest", lambda: self.home.status(box) in
                     ("created", "exited", "dead"), 60, 0.1)
        elif killed and victim == "a3s-box-shim":
            self.assertNotIn(status, ("running", "starting", "stopping"), text)
        else:
            self.home.wait_status(box, "created", "exited", "dead", timeout_s=60)
        # What rests has no process.
        wait_for("the processes of a resting box to end",
                 lambda: not self.home.find_process("a3s-box-shim") and not self.home.find_machines(), 10)
        line = self.home.ok("ps", "-a").lines[1]
        self.assertRegex(line, r"Created|Exited \(\d+\)|Dead", text)
        if self.home.status(box) == "exited":
            self.assertIsInstance(self.home.inspect(box)["State"]["ExitCode"], int)
        self.home.ok("rm", "-f", "victim")
        self.assertEqual(self.home.boxes(), [])


class KillSupervisor(CrashTest):
    @core
    def test_a_few(self):
        self.rounds(CORE_ROUNDS, "a3s-box-shim")

    @slow(600)
    def test_30_random_moments(self):
        self.rounds(ROUNDS, "a3s-box-shim")

    def test_a_running_box(self):
        """The plainest case: it was up, its supervisor died."""
        before = self.home.rest()
        box = self.home.run_detached("--name", "v", "box", "sleep", "1000")
        (shim,) = self.home.find_process("a3s-box-shim")
        os.kill(shim, signal.SIGKILL)
        state = self.home.inspect(box)["State"]
        self.assertIn(state["Status"], ("exited", "dead"))
        self.assertIs(state["Running"], False)
        self.assert_one_line(self.home.run("exec", "v", "true"))
        self.home.ok("rm", "v")
        self.assertEqual(self.home.settle(before), "")


class KillMachine(CrashTest):
    @core
    def test_a_few(self):
        self.rounds(CORE_ROUNDS, "machine")

    @slow(600)
    def test_30_random_moments(self):
        self.rounds(ROUNDS, "machine")

    def test_a_running_box(self):
        p = self.home.popen("run", "--name", "v", "box", "sh", "-c", "echo up; sleep 1000")
        self.assertEqual(p.stdout.readline(), b"up\n")
        (machine,) = self.home.find_machines()
        os.kill(machine, signal.SIGKILL)
        _, err = p.communicate(timeout=60)
        self.assertNotEqual(p.returncode, 0)
        self.assertRegex(EMULATION_WARNING.sub(b"", err), rb"(?m)^a3s-box: [^\n]*(machine|signal)[^\n]*$")
        self.assertIn(self.home.status("v"), ("exited", "dead"))
        self.home.ok("rm", "v")


class KillCommandLine(CrashTest):
    @core
    def test_a_few(self):
        self.rounds(CORE_ROUNDS, "command line")

    @slow(600)
    def test_30_random_moments(self):
        self.rounds(ROUNDS, "command line")

    def test_the_box_lives_on(self):
        """As in Docker: the command line is a window, not the box."""
        p = self.home.popen("run", "--name", "v", "box", "sh", "-c", "echo up; sleep 1000")
        self.assertEqual(p.stdout.readline(), b"up\n")
        p.kill()
        p.communicate()
        self.assertEqual(self.home.status("v"), "running")
        self.assert_out(self.home.run("exec", "v", "echo", "alive"), "alive\n")
        self.home.ok("rm", "-f", "v")

    def test_a_box_with_rm_goes_by_itself(self):
        before = self.home.rest()
        p = self.home.popen("run", "--rm", "--name", "v", "box", "sh", "-c", "echo up; sleep 3")
        self.assertEqual(p.stdout.readline(), b"up\n")
        p.kill()
        p.communicate()
        wait_for("the box to go", lambda: not self.home.boxes(), 60, 0.2)
        self.assertEqual(self.home.settle(before), "")

    @slow(300)
    def test_during_other_commands(self):
        """load, rm and stop cut off: the store and the boxes stay consistent."""
        rng = random.Random("%d others" % SEED)
        archive = self.image_file("layers")
        for n in range(10):
            with self.subTest(seed=SEED, round=n):
                p = self.home.popen("load", "-i", archive)
                time.sleep(rng.uniform(0, 0.4))
                p.kill()
                p.communicate()
                names = re.findall(r"^layers\s+latest", self.home.ok("images").text, re.MULTILINE)
                if names:
                    self.assert_out(self.home.run("run", "--rm", "layers", "cat", "/replaced"), "new\n")
                    self.home.ok("rmi", "layers")
        self.home.load(archive)
        self.home.ok("rmi", "layers")
        left = sorted(p.name for p in (self.home.path / "images").rglob("*")
                      if p.is_file() and ("tmp" in p.name or "." in p.name) and p.suffix != ".img")
        self.assertEqual(left, [], "temporary files")
