"""attach, detaching, and what else happens at the terminal of a session."""

import os
import re
import signal
import subprocess
import termios
import time

from a3s import BoxTest, Terminal, core, wait_for

DETACH = b"\x10\x11"  # ctrl-p, ctrl-q


class Attach(BoxTest):
    def remove(self, *names):
        self.home.ok("rm", "-f", *names)

    def start_cat(self, name, *options):
        """A box that repeats what it is told, with the number of the line; the second one ends it with status 7."""
        script = "for n in 1 2; do read -r line; echo got $n $line; done; exit 7"
        return self.home.run_detached(*options, "--name", name, "box", "sh", "-c", script)

    @core
    def test_output_from_now_input_and_status(self):
        self.start_cat("cat", "-i")
        first = self.home.popen("attach", "cat", stdin=subprocess.PIPE)
        second = self.home.popen("attach", "--no-stdin", "cat")
        try:
            first.stdin.write(b"one\n")
            first.stdin.flush()
            self.assertEqual(first.stdout.readline(), b"got 1 one\n")
            wait_for("the log", lambda: b"got 1 one" in self.home.ok("logs", "cat").out)
            late = self.home.popen("attach", "--no-stdin", "cat")
            # Attached or not cannot be seen from outside; a client that came too late would see only the end.
            time.sleep(0.5)
            first.stdin.write(b"two\n")
            first.stdin.flush()
            out = late.stdout.read()
            self.assertEqual(out, b"got 2 two\n")
            self.assertEqual(first.stdout.read(), b"got 2 two\n")
            self.assertTrue(second.stdout.read().endswith(b"got 2 two\n"))
            for p in (first, second, late):
                self.assertEqual(p.wait(60), 7)
                self.assertEqual(p.stderr.read(), b"")
        finally:
            for p in (first, second, late):
                p.kill()
                p.communicate()
        self.remove("cat")

    def test_refusals(self):
        self.home.ok("create", "--name", "made", "box", "true")
        self.assert_one_line(self.home.run("attach", "made"), 1, "made is not running .*start")
        self.assert_one_line(self.home.run("attach", "--detach-keys", "ctrl-", "made"), 1, "--detach-keys.*ctrl-X")
        self.assert_one_line(self.home.run("attach", "nosuch"), 1, "nosuch")
        self.assert_one_line(self.home.run("attach"), 1, "exactly one box")
        self.assert_one_line(self.home.run("attach", "made", "made"), 1, "exactly one box")
        self.remove("made")
        self.home.run_detached("-it", "--name", "term", "box", "cat")
        self.assert_one_line(self.home.run("attach", "term"), 1, "terminal.*--no-stdin")
        self.home.ok("pause", "term")
        self.assert_one_line(self.home.run("attach", "--no-stdin", "term"), 1, "term is paused .*unpause")
        self.remove("term")

    @core
    def test_detach_and_come_back(self):
        """run -it, detached: status 0; attached again, detached: Docker's 1; other keys; exec: the process goes on."""
        shell = ("--name", "shell", "box", "sh")
        with Terminal(self.home, "run", "-it", *shell, rows=30, cols=90) as t:
            t.read_until(rb"[#$] ")
            saved = termios.tcgetattr(t.master)
            t.send(b"echo a\x10b$((1+1))\n")  # one that is not followed by the other is passed on: history, nothing there
            t.read_until(rb"b2\r\n")
            t.send(DETACH)
            status, rest = t.finish()
            self.assertEqual(status, 0, rest)
            self.assertIn(b"read escape sequence", rest)
            self.assertNotEqual(termios.tcgetattr(t.master)[3] & termios.ECHO, 0, "the terminal was not restored")
            self.assertEqual(saved[3] & termios.ECHO, 0)
        with Terminal(self.home, "attach", "--detach-keys", "a,ctrl-\\", "shell", rows=33, cols=91) as t:
            t.send(b"stty size\n")
            t.read_until(rb"33 91\r\n")
            t.send(b"echo \x10\x11a$((2+2))\n")  # the default keys are ordinary ones now, and an a alone too
            t.read_until(rb"a4")
            t.send(b"a\x1c")
            status, rest = t.finish()
            self.assertEqual(status, 1, rest)
            self.assertIn(b"read escape sequence", rest)
        with Terminal(self.home, "exec", "-it", "shell", "sh", "-c",
                      "echo up; sleep 2; tty > /tmp/still; exec sleep 1000") as t:
            t.read_until(rb"up\r\n")
            t.send(DETACH)
            status, rest = t.finish()
            self.assertEqual(status, 1, rest)
        wait_for("the detached exec to go on with its terminal",
                 lambda: b"/dev/pts/" in self.home.run("exec", "shell", "cat", "/tmp/still").out)
        self.assertEqual(self.home.status("shell"), "running")
        with Terminal(self.home, "start", "-ai", "shell") as t:
            t.send(b"exit 3\n")
            self.assertEqual(t.finish()[0], 3)
        self.remove("shell")

    def test_a_key_that_waits_is_passed_on(self):
        """Docker keeps ctrl-p until the next key; here a second is enough."""
        with Terminal(self.home, "run", "-it", "--name", "keys", "box", "sh", "-c",
                      "stty raw -echo; echo up; dd bs=1 count=1 2>/dev/null | od -An -tx1; echo; echo end") as t:
            t.read_until(rb"up")
            t.send(b"\x10")
            t.read_until(rb"10")
            t.read_until(rb"end")
            self.assertEqual(t.finish()[0], 0)
        self.remove("keys")

    def test_sig_proxy(self):
        """On: the workload's. Off: the signal ends the client, not the box."""
        script = "trap 'echo got INT' INT; trap 'echo got USR1' USR1; echo up; while :; do sleep 0.1; done"
        self.home.run_detached("--name", "sigs", "box", "sh", "-c", script)
        wait_for("the traps", lambda: b"up" in self.home.ok("logs", "sigs").out)
        for option, sig, status, seen in (("--sig-proxy=true", signal.SIGINT, None, b"got INT\n"),
                                          ("--sig-proxy=true", signal.SIGUSR1, None, b"got USR1\n"),
                                          ("--sig-proxy=false", signal.SIGINT, 130, b""),
                                          ("--sig-proxy=false", signal.SIGTERM, 143, b"")):
            with self.subTest(option=option, sig=sig):
                p = self.home.popen("attach", option, "sigs")
                try:
                    wait_for("the handler", lambda: self.catches(p.pid, sig))
                    p.send_signal(sig)
                    if status is None:
                        self.assertEqual(p.stdout.readline(), seen)
                    else:
                        self.assertEqual(p.wait(60), status)
                        self.assertEqual(p.stdout.read() + p.stderr.read(), b"")
                finally:
                    p.kill()
                    p.communicate()
        self.assertEqual(self.home.status("sigs"), "running")
        self.remove("sigs")

    @staticmethod
    def catches(pid, sig):
        with open("/proc/%d/status" % pid, encoding="ascii") as f:
            caught = int(re.search(r"SigCgt:\s*([0-9a-f]+)", f.read()).group(1), 16)
        return caught >> (sig - 1) & 1

    def test_stopped_and_continued(self):
        """Job control: a stopped client leaves the terminal as it was, a continued one takes it again."""
        with Terminal(self.home, "run", "-it", "--name", "jobs", "box", "sh") as t:
            t.read_until(rb"[#$] ")

            def echoes():
                return bool(termios.tcgetattr(t.master)[3] & termios.ECHO)

            self.assertFalse(echoes())
            # ^Z typed is the box's business
            t.send(b"echo $((3+4)); sleep 1000\n")
            t.read_until(rb"7\r\n")
            time.sleep(0.5)  # for the sleep to have the terminal
            t.send(b"\x1a")
            t.read_until(rb"Stopped")
            t.process.send_signal(signal.SIGTSTP)
            os.waitpid(t.process.pid, os.WUNTRACED)
            self.assertTrue(echoes())
            t.resize(44, 99)
            t.process.send_signal(signal.SIGCONT)
            wait_for("the terminal to be raw", lambda: not echoes())
            t.send(b"kill -9 %1; wait; stty size; exit 4\n")
            t.read_until(rb"44 99\r\n")
            self.assertEqual(t.finish()[0], 4)
        self.remove("jobs")
