"""exec: further processes in a running box."""

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time

from a3s import FULL, BoxTest, Terminal, core, slow, wait_for
from test_run import MIB, stream_through


class Exec(BoxTest):
    @classmethod
    def prepare(cls):
        cls.box = cls.home.run_detached("--name", "host", "-e", "OF_BOX=yes", "-w", "/work", "box", "sleep", "100000")

    @classmethod
    def tearDownClass(cls):
        if hasattr(cls, "box"):
            cls.home.run("rm", "-f", cls.box)
        super().tearDownClass()

    def exec(self, *args, **options):
        return self.home.run("exec", *args, **options)

    @core
    def test_output_error_and_status(self):
        result = self.exec("host", "sh", "-c", "echo out; echo err >&2; exit 9")
        self.assert_out(result, "out\n", rc=9)
        self.assertEqual(result.err_all, b"err\n")
        self.assert_out(self.exec("host", "--", "echo", "--", "x"), "-- x\n")

    def test_by_id_and_prefix(self):
        for name in (self.box, self.box[:12], self.box[:4]):
            self.assert_out(self.exec(name, "echo", "x"), "x\n")

    @core
    def test_not_found_and_not_executable(self):
        self.assert_one_line(self.exec("host", "no-such-command"), 127, "no-such-command")
        self.assert_one_line(self.exec("host", "/etc/plain"), 126, "/etc/plain")

    def test_killed_by_a_signal(self):
        self.assert_rc(self.exec("host", "sh", "-c", "kill -9 $$"), 137)

    @core
    def test_settings(self):
        self.assert_out(self.exec("host", "pwd"), "/work\n")
        self.assert_out(self.exec("-w", "/etc", "host", "pwd"), "/etc\n")
        self.assert_out(self.exec("-e", "A=b c", "host", "sh", "-c", "echo $A $OF_BOX $FROM_IMAGE"), "b c yes yes\n")
        self.assert_out(self.exec("-u", "app", "host", "sh", "-c", "id -u; id -G; echo $HOME"),
                        "1000\n1000 2000\n/home/app\n")
        self.assert_one_line(self.exec("-u", "nosuch", "host", "true"))

    def test_it_is_the_same_box(self):
        self.assert_rc(self.exec("host", "sh", "-c", "echo shared > /tmp/shared"), 0)
        self.assert_out(self.exec("host", "cat", "/tmp/shared"), "shared\n")
        self.assert_out(self.exec("host", "sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline"), "sleep 100000 ")

    @core
    def test_input(self):
        self.assert_out(self.exec("-i", "host", "cat", input=b"a\0b"), b"a\0b")
        self.assert_out(self.exec("-i", "host", "cat", input=b""), "")
        self.assert_out(self.exec("host", "wc", "-c", input=b"not read"), "0\n")

    def through_cat(self, total):
        p = self.home.popen("exec", "-i", "host", "cat", stdin=subprocess.PIPE)
        try:
            sent, got, count = stream_through(p, total)
            err = p.stderr.read()
            self.assertEqual((count, got), (total, sent), err)
            self.assertEqual(p.wait(60), 0, err)
        finally:
            p.kill()
            p.stdout.close()
            p.stderr.close()

    @core
    def test_32_mib_through_cat(self):
        self.through_cat(32 * MIB)

    @slow(900)
    def test_1_gib_through_cat(self):
        self.through_cat(1024 * MIB)

    @core
    def test_20_at_once(self):
        results = {}

        def one(n):
            script = "echo start %d; cat; echo end %d >&2; exit %d" % (n, n, n)
            results[n] = self.exec("-i", "host", "sh", "-c", script, input=b"%d\n" % n * 1000)

        threads = [threading.Thread(target=one, args=(n,)) for n in range(20)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(sorted(results), list(range(20)))
        for n, result in results.items():
            self.assert_out(result, b"start %d\n" % n + b"%d\n" % n * 1000, rc=n)
            self.assertEqual(result.err, b"end %d\n" % n)

    def test_one_that_nobody_reads_does_not_hold_up_the_others(self):
        p = self.home.popen("exec", "host", "yes")
        try:
            p.stdout.read(10)
            self.assert_out(self.exec("host", "echo", "through"), "through\n")
        finally:
            p.kill()
            p.communicate()
        self.assert_out(self.exec("host", "echo", "still"), "still\n")

    @core
    def test_terminal(self):
        with Terminal(self.home, "exec", "-it", "host", "sh", rows=31, cols=99) as t:
            t.read_until(rb"[#$] ")
            t.send(b"stty size\n")
            t.read_until(rb"31 99\r\n")
            t.resize(40, 100)
            t.send(b"echo go; sleep 1000\n")
            t.read_until(rb"\ngo\r\n")
            t.send(b"\x03")
            t.read_until(rb"[#$] ")
            t.send(b"stty size; exit 5\n")
            t.read_until(rb"40 100\r\n")
            self.assertEqual(t.finish()[0], 5)

    def test_the_terminal_hangs_up(self):
        """The command line is killed: its shell goes with the terminal, the box stays."""
        with Terminal(self.home, "exec", "-it", "host", "sh", "-c", "echo $$ > /tmp/shell; echo up; sleep 1000") as t:
            t.read_until(rb"up\r\n")
            t.process.send_signal(signal.SIGKILL)
            t.process.wait()
        script = "for i in 1 2 3 4 5 6 7 8 9 10; do kill -0 $(cat /tmp/shell) 2>/dev/null || exit 0; sleep 0.3; done; exit 1"
        self.assert_rc(self.exec("host", "sh", "-c", script), 0)

    def test_the_sessions_processes_are_reaped(self):
        """As in Docker, orphans fall to the workload; the sessions' own processes do not."""
        for _ in range(5):
            self.exec("host", "true")
        script = "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l"
        self.assert_out(self.exec("host", "sh", "-c", script), "0\n")

    @core
    def test_detached(self):
        """Nothing is printed, the process goes on, with a terminal too."""
        for option in ("-d", "-dt", "-dit"):
            with self.subTest(option):
                result = self.exec(option, "host", "sh", "-c", "echo ignored; sleep 1; tty > /tmp/d%s" % option)
                self.assert_out(result, "")
                self.assertEqual(result.err_all, b"")
                wait_for("it to end", lambda option=option: self.exec("host", "test", "-s", "/tmp/d" + option).rc == 0)
        self.assert_one_line(self.exec("-d", "host", "no-such-command"), 127, "no-such-command")

    @core
    def test_time_limit(self):
        """124 and one line; everything that the command started in its group ends with it."""
        script = "sleep 12345 & trap 'echo caught; exit 5' TERM; echo up; wait"
        result = self.exec("--timeout", "2s", "host", "sh", "-c", script)
        self.assertEqual((result.rc, result.out), (124, b"up\ncaught\n"), result)
        self.assertRegex(result.err, rb"\Aa3s-box: exec: --timeout: [^\n]+\n\Z")
        self.assert_out(self.exec("host", "sh", "-c", "pgrep -f 'sleep 1234[5]' | wc -l"), "0\n")
        self.assert_rc(self.exec("--timeout", "60s", "host", "sh", "-c", "exit 6"), 6)
        stubborn = "trap '' TERM; sleep 12345; sleep 12345"
        self.assert_rc(self.exec("--timeout", "500ms", "host", "sh", "-c", stubborn), 124)
        self.assert_out(self.exec("host", "sh", "-c", "pgrep -f 'sleep 1234[5]' | wc -l"), "0\n")
        for bad in ("0", "-1", "soon", "1x", ""):
            with self.subTest(bad):
                self.assert_one_line(self.exec("--timeout=" + bad, "host", "true"), 125, "--timeout.*duration")
        self.assert_one_line(self.exec("-d", "--timeout=1s", "host", "true"), 125, "--timeout.*--detach")

    def test_time_limit_of_what_does_not_start(self):
        """The box stops whatever comes in, be it before its program runs: that ends all the same, and stays nowhere."""
        box = self.home.run_detached("box", "sh", "-c", "while :; do kill -STOP -1; done")
        try:
            for _ in range(3):
                self.assert_rc(self.home.run("exec", "--timeout", "1s", box, "sleep", "1000"), 124)
            wait_for("them to be gone", lambda: len(self.home.ok("top", box).lines) == 2)
        finally:
            self.home.run("rm", "-f", box)

    def test_time_limit_though_nobody_reads(self):
        p = self.home.popen("exec", "--timeout", "2s", "host", "yes")
        try:
            self.assertEqual(p.wait(60), 124)
        finally:
            p.kill()
            p.communicate()

    def test_env_file_and_privileged(self):
        path = self.home.base / "env"
        path.write_text("# comment\nA=file one\nB=file\n\nOF_BOX=file\n")
        script = 'echo "$A/$B/$OF_BOX"; grep CapEff /proc/self/status'
        both = self.exec("--env-file", path, "-e", "B=option", "host", "sh", "-c", script)
        self.assert_out(both, "file one/option/file\nCapEff:\t00000000a80425fb\n")
        self.assert_one_line(self.exec("--env-file", "/nosuch/file", "host", "true"), 125, "nosuch/file")
        every = self.exec("--privileged", "host", "sh", "-c", "grep -E 'CapEff|Seccomp:' /proc/self/status")
        self.assertRegex(every.text, r"CapEff:\t000001ffffffffff\n")
        self.assertRegex(every.text, r"Seccomp:\t0\n")

    def test_events(self):
        since = time.time()
        self.assert_rc(self.exec("host", "sh", "-c", "exit 4"), 4)
        text = self.home.ok("events", "--since", "%.3f" % since, "--until", "%.3f" % (time.time() + 1)).text
        lines = [line for line in text.splitlines() if "exec_" in line]
        self.assertEqual(len(lines), 3, text)
        ids = [re.search("execID=([0-9a-f]{64})[,)]", line).group(1) for line in lines]
        self.assertEqual(len(set(ids)), 1)
        for line, want in zip(lines, ("exec_create: sh -c exit 4 ", "exec_start: sh -c exit 4 ", "exec_die ")):
            self.assertIn(" container %s" % want, line)
            self.assertIn("name=host", line)
            self.assertIn("image=box", line)
        self.assertIn("exitCode=4", lines[2])

    def exec_events(self, since, box="host"):
        """Of each exec since then: its events, and how it ended."""
        found = {}
        for line in self.home.ok("events", "--since", since, "--until", "0s", "-f", "container=" + box, "--json").lines:
            event = json.loads(line)
            if event["Action"].startswith("exec_"):
                attributes = event["Actor"]["Attributes"]
                found.setdefault(attributes["execID"], []).append((event["Action"], attributes.get("exitCode")))
        return found

    def test_events_of_detached(self):
        """The end too, though nobody waits for it; what it prints holds it up as little as that."""
        since = "%.3f" % time.time()
        self.assert_out(self.exec("-d", "host", "sh", "-c", "yes | head -c 5000000; exit 5"), "")
        self.assert_out(self.exec("-dt", "host", "sh", "-c", "kill -9 $$"), "")
        wait_for("their ends", lambda: all(len(e) == 3 for e in self.exec_events(since).values()))
        one, two = self.exec_events(since).values()
        text = "sh -c yes | head -c 5000000; exit 5"
        self.assertEqual(one, [("exec_create: " + text, None), ("exec_start: " + text, None), ("exec_die", "5")])
        self.assertEqual(two[2], ("exec_die", "137"))
        since = "%.3f" % time.time()
        self.assert_one_line(self.exec("-d", "host", "no-such-command"), 127, "no-such-command")
        self.assertEqual(self.exec_events(since), {})
        box = self.home.run_detached("box", "sleep", "1000")
        self.assert_out(self.exec("-d", box, "sleep", "1000"), "")
        self.home.ok("stop", box)
        (events,) = self.exec_events(since, box).values()
        self.assertEqual(events[1:], [("exec_start: sleep 1000", None), ("exec_die", "137")])
        self.home.ok("rm", box)

    @core
    def test_shell(self):
        with Terminal(self.home, "shell", "-u", "app", "-w", "/etc", "-e", "X=y", "host") as t:
            t.read_until(rb"[#$] ")
            t.send(b"echo $(id -u) $PWD $X ${SHELL##*/} $$; exit 5\n")
            t.read_until(rb"1000 /etc y \w+ \d+\r\n")
            self.assertEqual(t.finish()[0], 5)
        self.assert_out(self.home.run("shell", "host", input=b"echo from; exit 6\n"), "from\n", rc=6)
        self.assert_one_line(self.home.run("shell", "host", "true"), 125, "exactly one box")
        self.assert_one_line(self.home.run("shell", "-e", "PATH=/nosuch", "host"), 127, "no shell")

    def guest_use(self):
        """What is in use in the guest, as far as the box sees it: processes, terminals, KiB free, KiB of the kernel's."""
        script = ("set -- /proc/[0-9]*; echo $#; set -- /dev/pts/*; echo $#;"
                  " awk '/^(MemFree|SUnreclaim):/ {print $2}' /proc/meminfo")
        return [int(x) for x in self.exec("host", "sh", "-c", script).text.split()]

    def host_use(self):
        """Descriptors of each process of this home, and their memory in KiB."""
        use = {}
        for pid in self.home.processes():
            with contextlib.suppress(OSError):
                with open("/proc/%d/statm" % pid, encoding="ascii") as f:
                    use[pid] = (len(os.listdir("/proc/%d/fd" % pid)), int(f.read().split()[1]) * 4)
        return use

    def settled_use(self):
        """host_use once nothing is being closed any more: what the last clients left goes a moment after them."""
        looks = [self.host_use()]

        def same():
            time.sleep(0.5)
            looks.append(self.host_use())
            counts = [{pid: use[0] for pid, use in look.items()} for look in looks[-3:]]
            return len(counts) == 3 and counts[0] == counts[1] == counts[2]

        wait_for("the number of descriptors to stay the same", same)
        return looks[-1]

    @core
    @slow(3600)
    def test_many_leave_nothing(self):
        """100 at once and many in a row: none is lost; descriptors, processes and memory are as before."""
        sequential = 10000 if FULL else 300

        def at_once(n):
            children = [self.home.popen("exec", "host", "sh", "-c", "echo %d; exit %d" % (i, i % 100))
                        for i in range(n)]
            for i, p in enumerate(children):
                out, err = p.communicate(timeout=600)
                self.assertEqual((p.returncode, out, err), (i % 100, b"%d\n" % i, b""))

        at_once(100)  # what is kept for the next time, is there now
        guest, host = self.guest_use(), self.settled_use()
        machines = self.home.find_machines()
        at_once(100)
        for i in range(sequential):
            result = self.exec("host", "echo", i)
            self.assertEqual((result.rc, result.out), (0, b"%d\n" % i), result)
            self.home.transcript.pop()

        def back():
            now = self.host_use()
            return {pid: use[0] for pid, use in now.items()} == {pid: use[0] for pid, use in host.items()}

        wait_for("as many descriptors as before: %s" % host, back)
        for pid, (_, kib) in self.host_use().items():
            # A sanitizer keeps what was freed. A machine's memory is its guest's too, which is looked at below, and an
            # emulator's translations of all that the guest has run.
            allowed = 262144 if "ASAN_OPTIONS" in os.environ or pid in machines else 8192
            self.assertLess(kib, host[pid][1] + allowed, "memory of process %d grew" % pid)
        after = self.guest_use()
        self.assertEqual(after[:2], guest[:2], "processes or terminals in the guest")
        self.assertGreater(after[2], guest[2] - 16384, "free memory of the guest, KiB")
        self.assertLess(after[3], guest[3] + 4096, "kernel memory of the guest, KiB")

    @core
    def test_refusals(self):
        self.assert_one_line(self.exec("nosuch", "true"), match="nosuch")
        self.assert_one_line(self.exec("host"))
        self.assert_one_line(self.exec("--no-such-flag", "host", "true"))
        self.assert_one_line(self.exec("-it", "host", "true"), match="terminal|tty")

    def test_on_a_stopped_box(self):
        self.home.ok("run", "--name", "ended", "box", "true")
        self.assert_one_line(self.exec("ended", "true"), match="not running|exited|stopped")
        self.home.ok("rm", "ended")
