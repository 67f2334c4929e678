"""Limits of boxes: set at the start, changed while they run, and what happens to those who reach them."""

import json

from a3s import BoxTest, core, slow, wait_for

FILES = "cpu.weight cpu.max pids.max memory.low"
# Takes memory and touches it, in steps.
HOG = "x = []\nwhile True: x.append(bytearray(1 << 20))"


class Limits(BoxTest):
    images_wanted = ("box", "python")

    def files(self, box, names=FILES):
        return self.home.ok("exec", box, "sh", "-c", "cd /sys/fs/cgroup; for f in %s; do cat $f; done" % names).lines

    @core
    def test_given_and_changed(self):
        box = self.home.run_detached("--cpu-shares", "512", "--cpu-quota", "150000", "--pids-limit", "50", "-m", "256m",
                                     "--memory-reservation", "64m", "box", "sleep", "100000")
        try:
            self.assertEqual(self.files(box), ["59", "150000 100000", "50", str(64 << 20)])
            self.home.ok("container-update", "--cpu-shares", "2048", "--pids-limit", "7", "-m", "128m", box)
            self.assertEqual(self.files(box, FILES + " memory.max"),
                             ["174", "150000 100000", "7", str(64 << 20), str(128 << 20)])
            # Seven are the first, the shell, and five of its children; at the sixth it gives up.
            result = self.home.run("exec", box, "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; true")
            self.assertIn(b"fork", result.err)
            self.assertEqual(self.home.ok("stats", "--no-stream", "--format", "{{.PIDs}}", box).text, "6\n")
        finally:
            self.home.run("rm", "-f", box)

    @slow(300)
    def test_what_a_box_without_limits_takes_leaves_the_host_in(self):
        """As many threads as there can be, or epoll watches: PID 1 has both of the same user's."""
        threads = ("import threading, time\nthreading.stack_size(32768)\ntry:\n"
                   " while True: threading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()\n"
                   "except RuntimeError: print('full', flush=True)\ntime.sleep(1e6)")
        watches = ("import os, select, time\nr, w = os.pipe()\nfds = [os.dup(r) for i in range(1000)]\nall = []\n"
                   "for i in range(150):\n all.append(select.epoll())\n for fd in fds: all[-1].register(fd)\n"
                   "print('full', flush=True)\ntime.sleep(1e6)")
        for script in (threads, watches):
            box = self.home.run_detached("-m", "256m", "python", "python3", "-c", script)
            try:
                wait_for("it to be full", lambda box=box: self.home.ok("logs", box).text == "full\n", 120)
                self.assert_out(self.home.run("exec", box, "echo", "in"), "in\n")
                self.home.ok("top", box)
                self.home.ok("container-update", "--pids-limit", "100", box)
                self.assert_out(self.home.run("exec", box, "cat", "/sys/fs/cgroup/pids.max"), "100\n")
            finally:
                self.home.run("rm", "-f", box)

    def test_memory_below_what_is_used_is_refused(self):
        box = self.home.run_detached("-m", "128m", "python", "python3", "-c",
                                     "x = bytearray(50 << 20); print('ready', flush=True); import time; time.sleep(1e6)")
        try:
            wait_for("the memory to be taken", lambda: "ready" in self.home.ok("logs", box).text, 60)
            before = self.files(box, "memory.max pids.max")
            result = self.home.run("container-update", "-m", "40m", "--pids-limit", "33", box)
            self.assert_one_line(result, 1, "uses")
            self.assertEqual(self.files(box, "memory.max pids.max"), before)
            self.assertEqual(self.home.status(box), "running")
            # What it only caches is given back for it.
            self.home.ok("exec", box, "sh", "-c", "head -c 25000000 /dev/zero > /tmp/cached")
            self.home.ok("container-update", "-m", "75m", box)
            self.assertEqual(self.files(box, "memory.max"), [str(75 << 20)])
            self.assertEqual(self.home.status(box), "running")
        finally:
            self.home.run("rm", "-f", box)

    @core
    @slow(300)
    def test_out_of_memory(self):
        result = self.home.run("run", "--name", "hog", "-m", "128m", "python", "python3", "-c", HOG)
        try:
            self.assert_rc(result, 137)
            state = self.home.inspect("hog")["State"]
            self.assertEqual((state["OOMKilled"], state["ExitCode"], state["Status"]), (True, 137, "exited"))
        finally:
            self.home.ok("rm", "hog")

    @slow(300)
    def test_out_of_memory_below_a_shell_and_in_exec(self):
        # The shell hands its child's status on, which is how most images start what they run.
        box = self.home.run_detached("-m", "128m", "python", "sh", "-c",
                                     "while [ ! -e /tmp/go ]; do sleep 0.2; done; python3 -c '%s'; exit $?" % HOG)
        try:
            self.assert_rc(self.home.run("exec", box, "python3", "-c", HOG), 137)
            # The box goes on: it was not its first process.
            self.assert_out(self.home.run("exec", box, "echo", "alive"), "alive\n")
            self.home.ok("exec", box, "touch", "/tmp/go")
            self.assertEqual(self.home.ok("wait", box).text.strip(), "137")
            self.assertTrue(self.home.inspect(box)["State"]["OOMKilled"])
            # A signal is no want of memory.
            self.home.ok("start", box)
            self.home.ok("kill", box)
            self.home.run("wait", box)
            state = json.loads(self.home.ok("inspect", box).out)[0]["State"]
            self.assertEqual((state["OOMKilled"], state["ExitCode"]), (False, 137))
        finally:
            self.home.run("rm", "-f", box)
