"""Every command in every state of a box; then the same steps with something killed at random moments.

The moments come from a generator whose seed is printed on failure; A3S_TEST_SEED repeats it. A3S_TEST_FULL makes the long
sweeps; without it each state is visited, and the kills are a sample.
"""

import os
import random
import re
import subprocess
import time

from a3s import FULL, BoxTest, core, kill_hard, slow, wait_for

SEED = int(os.environ.get("A3S_TEST_SEED", random.SystemRandom().randrange(1 << 32)))
BLOCKS = "blocks"
GONE = "gone"
KILL_ROUNDS = 60 if FULL else 4

# (status, what standard error says, the state afterwards); None: nothing is said, the state stays. BLOCKS: it waits for the
# box, which is left as it is. What a command without a box to run in says is in test_commands.
NOT_RUNNING = {
    "stop": (0, None, None), "kill": (1, "is not running", None), "pause": (1, "is not running", None),
    "unpause": (1, "is not running", None), "wait": (0, None, None), "exec": (125, "is not running", None),
    "attach": (1, "is not running", None), "logs": (0, None, None), "inspect": (0, None, None),
    "rename": (0, None, None), "start": (0, None, "running"), "restart": (0, None, "running"), "rm": (0, None, GONE),
    "rm -f": (0, None, GONE)}
LIVE = {
    "start": (0, None, None), "rename": (0, None, None), "wait": BLOCKS, "logs": (0, None, None), "inspect": (0, None, None),
    "rm": (1, "stop it first", None), "stop": (0, None, "exited"), "kill": (0, None, "exited"),
    "restart": (0, None, "running"), "rm -f": (0, None, GONE)}
TABLE = {
    "created": NOT_RUNNING,
    "exited": NOT_RUNNING,
    "running": {**LIVE, "exec": (0, None, None), "attach": BLOCKS, "pause": (0, None, "paused"),
                "unpause": (1, "not paused", None)},
    "paused": {**LIVE, "start": (1, "is paused .*unpause", None), "exec": (125, "is paused", None),
               "attach": (1, "is paused", None),
               "pause": (1, "paused already", None), "unpause": (0, None, "running")},
    # Docker knows no such state: its commands wait for the stop. Here they say what goes on, and a second stop joins in.
    "stopping": {**LIVE, "start": (1, "is stopping", None), "exec": (125, "not running|stopping", None), "attach": BLOCKS,
                 "pause": (1, "stopping", None), "unpause": (1, "stopping", None)},
    # Its next run is as short as the last: wherever it is asked for, it is back in restarting soon.
    "restarting": {**LIVE, "wait": (0, None, None), "exec": (125, "restarting", None), "attach": (1, "restarting", None),
                   "pause": (1, "restarting", None), "unpause": (1, "restarting", None), "restart": (0, None, "restarting")},
}
COMMANDS = ("start", "stop", "restart", "kill", "pause", "unpause", "rm", "rm -f", "rename", "wait", "exec", "attach", "logs",
            "inspect")
# Without A3S_TEST_FULL: what ends a box is tried in these states only; everything else in all.
SHORT_ENDS = {"created": ("rm -f", "rm"), "exited": ("start", "rm"), "running": ("restart", "pause", "rm -f"),
              "paused": ("unpause", "kill"), "stopping": ("kill",), "restarting": ("stop",)}


class EveryCommandInEveryState(BoxTest):
    """One box as long as it goes: it is made anew, or moved, only when the next case needs another state."""

    def setUp(self):
        super().setUp()
        self.name, self.state, self.renamed, self.stop = None, GONE, 0, None

    def drop(self):
        if self.name:
            self.home.run("rm", "-f", self.name)
        if self.stop:
            self.stop.communicate(timeout=60)
        self.name, self.state, self.stop = None, GONE, None

    def bring_to(self, state):
        if self.state == state:
            return
        if self.state == "running" and state in ("paused", "exited", "stopping"):
            pass
        elif self.state in ("created", "exited") and state == "running":
            self.home.ok("start", self.name)
        else:
            self.drop()
            self.name = "s%d" % self.renamed
            workload = ["box", "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"]
            if state == "created":
                self.home.ok("create", "--name", self.name, *workload)
            elif state == "restarting":
                self.home.run_detached("--name", self.name, "--restart", "always", "box", "sh", "-c", "exit 3")
                # The third wait is long enough to try something in.
                wait_for("the third wait", lambda: self.home.inspect(self.name)["RestartCount"] >= 3, 90)
            else:
                self.home.run_detached("--name", self.name, *workload)
        if state == "paused":
            self.home.ok("pause", self.name)
        elif state == "exited":
            self.home.ok("kill", self.name)
        elif state == "stopping":  # not before the shell ignores the signal
            wait_for("the workload's line", lambda: self.home.ok("logs", self.name).out.endswith(b"up\n"))
            self.stop = self.home.popen("stop", "-t", "1000", self.name)
        self.home.wait_status(self.name, state)
        self.state = state

    def argv(self, command):
        if command == "rename":
            self.renamed += 1
            self.name, old = "s%d" % self.renamed, self.name
            return ["rename", old, self.name]
        extra = {"stop": ["-t", "0"], "restart": ["-t", "0"], "rm -f": ["-f"]}.get(command, [])
        return [command.split()[0], *extra, self.name, *(["true"] if command == "exec" else [])]

    def case(self, state, command):
        expected = TABLE[state][command]
        self.bring_to(state)
        if expected == BLOCKS:
            p = self.home.popen(command, self.name)
            time.sleep(0.7)
            self.assertIsNone(p.poll(), "%s of a box that is %s must wait" % (command, state))
            p.kill()
            p.communicate()
            rc, text, after = 0, None, None
        else:
            rc, text, after = expected
            result = self.home.run(*self.argv(command), timeout=60)
            self.assert_rc(result, rc)
            if text:
                self.assert_one_line(result, match=text)
            elif command != "logs":
                self.assertEqual(result.err, b"", result)
        if after == GONE:
            self.assertEqual(self.home.boxes(), [])
            if self.stop:
                self.stop.communicate(timeout=60)
            self.name, self.state, self.stop = None, GONE, None
            return
        self.state = after or state
        if state == "restarting" and after is None or self.state == "restarting":
            self.assertIn(self.home.status(self.name), ("restarting", "running"))
        else:
            self.assertEqual(self.home.status(self.name), self.state)
        if self.stop and self.state != "stopping":  # it has what it waited for
            self.assertEqual(self.stop.wait(60), 0)
            self.stop.communicate()
            self.stop = None

    def sweep(self, state):
        before = self.home.inventory()
        cases = [c for c in COMMANDS if TABLE[state][c] == BLOCKS or TABLE[state][c][2] is None]
        ends = [c for c in COMMANDS if c not in cases]
        cases += ends if FULL else [c for c in ends if c in SHORT_ENDS[state]]
        self.assertEqual(sorted(TABLE[state]), sorted(COMMANDS))
        for command in cases:
            with self.subTest(state=state, command=command):
                try:
                    self.case(state, command)
                except BaseException:
                    self.drop()
                    raise
        self.drop()
        self.assertEqual(self.home.settle(before), "")

    @core
    def test_created(self):
        self.sweep("created")

    @slow(300)
    def test_running(self):
        self.sweep("running")

    @slow(300)
    def test_paused(self):
        self.sweep("paused")

    @slow(300)
    def test_stopping(self):
        self.sweep("stopping")

    @slow(300)
    def test_exited(self):
        self.sweep("exited")

    @slow(600)
    def test_restarting(self):
        self.sweep("restarting")


class KilledBetweenSteps(BoxTest):
    """A box's whole life, with its supervisor, its machine or the command killed somewhere in each step."""

    STEPS = (["create"], ["start"], ["pause"], ["unpause"], ["exec"], ["restart", "-t", "1"], ["stop", "-t", "1"], ["start"],
             ["kill"], ["rename"], ["rm"])
    RESTING = ("created", "exited", "dead")

    def kill_one(self, victim, client):
        if victim == "client":
            client.kill()
            return
        pids = self.home.find_machines() if victim == "machine" else self.home.find_process("a3s-box-shim")
        for pid in pids:
            kill_hard(pid)

    def step(self, step, name, moment_s, victim):
        if step[0] == "create":
            args = ["create", "--name", name, "--restart", "no", "box", "sleep", "1000"]
        elif step[0] == "exec":
            args = ["exec", name, "true"]
        elif step[0] == "rename":
            args = ["rename", name, name + "x"]
        else:
            args = [*step, name]
        p = self.home.popen(*args)
        try:
            if victim:
                time.sleep(moment_s)
                self.kill_one(victim, p)
            out, err = p.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            p.kill()
            p.communicate()
            self.fail("%s hangs after %s was killed" % (args, victim))
        text = re.sub(rb"(?m)^a3s-box: warning: .*\n", b"", err)
        self.assertRegex(text, rb"\A(a3s-box: [^\n]+\n)?\Z", "%s: %r" % (args, err))
        if p.returncode == 0:
            self.assertEqual(text, b"", args)
        return p.returncode

    def look(self, name):
        """What the record says is so: a resting box has no process, a running one answers."""
        ids = self.home.boxes()
        if not ids:
            return
        (box,) = ids
        status = self.home.status(box)
        if status in ("starting", "stopping", "removing"):  # its supervisor is at it
            status = wait_for("the end of " + status, lambda: (lambda s: s not in ("starting", "stopping", "removing") and s)(
                self.home.status(box)), 60)
        if status in self.RESTING:
            wait_for("the processes of a box that is %s to go" % status, lambda: not self.home.find_process("a3s-box-shim")
                     and not self.home.find_machines(), 10)
        elif status == "running":
            result = self.home.run("exec", box, "true", timeout=60)
            if result.rc != 0:  # its machine was killed a moment ago
                self.home.wait_status(box, *self.RESTING)

    def rounds(self, count, victim):
        rng = random.Random("%d %s" % (SEED, victim))
        self.home.ok("run", "--rm", "box", "true")
        before = self.home.rest()
        for n in range(count):
            at = rng.randrange(len(self.STEPS))
            with self.subTest(seed=SEED, round=n, victim=victim, step=self.STEPS[at]):
                name = "k%d" % n
                for i, step in enumerate(self.STEPS):
                    long = step[0] in ("start", "restart")
                    moment_s = rng.uniform(0, 2.0 if long else 0.15)
                    self.step(step, name, moment_s, victim if i == at else None)
                    if i == at:
                        self.look(name)
                        break
                ids = self.home.boxes()
                if ids:
                    self.home.ok("rm", "-f", *ids)
                self.assertEqual(self.home.settle(before), "")

    @core
    @slow(1800)
    def test_supervisor(self):
        self.rounds(KILL_ROUNDS, "supervisor")

    @slow(1800)
    def test_machine(self):
        self.rounds(KILL_ROUNDS, "machine")

    @slow(1800)
    def test_client(self):
        self.rounds(KILL_ROUNDS, "client")


class Policy(BoxTest):
    """A restart policy and deaths: of the machine (it is started again), of the supervisor (it is not, until monitor)."""

    @slow(300)
    def test_deaths_in_every_phase(self):
        rng = random.Random("%d policy" % SEED)
        self.home.ok("run", "--rm", "box", "true")
        before = self.home.rest()
        for n in range(10 if FULL else 2):
            with self.subTest(seed=SEED, round=n):
                box = self.home.run_detached("--restart", "always", "box", "sh", "-c", "sleep 0.3; exit 1")
                for victim in ("qemu", "a3s-box-vmm", "a3s-box-shim"):
                    time.sleep(rng.uniform(0, 2))
                    for pid in self.home.find_process(victim):
                        kill_hard(pid)
                self.home.wait_status(box, "exited", "created")
                self.assert_rc(self.home.run("monitor", "--once"), 0)
                self.assertIn(self.home.status(box), ("running", "restarting"))
                self.home.ok("rm", "-f", box)
                self.assertEqual(self.home.settle(before), "")
