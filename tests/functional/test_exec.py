"""exec: further processes in a running box."""

import signal
import subprocess
import threading

from a3s import BoxTest, Terminal, core, slow
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
    def test_refusals(self):
        self.assert_one_line(self.exec("nosuch", "true"), match="nosuch")
        self.assert_one_line(self.exec("host"))
        self.assert_one_line(self.exec("--no-such-flag", "host", "true"))
        self.assert_one_line(self.exec("-it", "host", "true"), match="terminal|tty")

    def test_on_a_stopped_box(self):
        self.home.ok("run", "--name", "ended", "box", "true")
        self.assert_one_line(self.exec("ended", "true"), match="not running|exited|stopped")
        self.home.ok("rm", "ended")
