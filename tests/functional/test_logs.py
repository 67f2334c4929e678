"""logs: what comes out is what was printed, whatever happens to the files meanwhile."""

import contextlib
import json
import os
import re
import socket
import subprocess
import time

from a3s import BoxTest, core, slow, wait_for

STAMP = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z "


class Logs(BoxTest):
    @core
    def test_streams_bytes_lines_and_times(self):
        """One box says everything; many ways to read it."""
        script = r"""
            echo out1; sleep 0.3; echo err1 >&2; sleep 0.3; printf '\000\377\303\n'; echo out3; sleep 0.3
            head -c 100000 /dev/zero | tr '\000' x; echo; sleep 0.3; printf 'no newline'"""
        box = self.home.ok("create", "--name", "l", "-l", "a=b", "-e", "LEVEL=5", "--log-opt", "labels=a",
                           "--log-opt", "env=LEVEL", "--log-opt", "tag={{.Name}}", "box", "sh", "-c", script).text.strip()
        self.assert_out(self.home.run("logs", "l"), "")
        self.assert_out(self.home.run("logs", "-f", "l"), "")
        self.home.ok("start", "l")
        result = self.home.run("logs", "-f", "l")
        long = b"x" * 100000 + b"\n"
        whole = b"out1\n\0\xff\xc3\nout3\n" + long + b"no newline"
        self.assert_out(result, whole)
        self.assertEqual(result.err, b"err1\n")
        self.home.ok("wait", "l")
        self.assert_out(self.home.run("logs", "l"), whole)

        self.assert_out(self.home.run("logs", "--tail", "0", "l"), "")
        self.assert_out(self.home.run("logs", "-n", "1", "l"), "no newline")
        self.assert_out(self.home.run("logs", "-n2", "l"), long + b"no newline")
        self.assert_out(self.home.run("logs", "--tail=3", "l"), b"out3\n" + long + b"no newline")
        self.assert_out(self.home.run("logs", "--tail", "all", "l"), whole)

        result = self.home.ok("logs", "-t", "l")
        self.assertEqual(len(re.findall(STAMP, result.out)), 5, result)
        self.assertRegex(result.err, rb"\A" + STAMP + rb"err1\n\Z")
        self.assert_out(self.home.run("logs", "--details", "--tail", "1", "l"), "LEVEL=5,a=b,tag=l no newline")

        stamps = [s.decode().strip() for s in re.findall(STAMP, result.out)]
        self.assert_out(self.home.run("logs", "--since", stamps[2], "l"), b"out3\n" + long + b"no newline")
        result = self.home.ok("logs", "--until", stamps[0], "l")
        self.assertEqual((result.out, result.err), (b"out1\n", b""))
        self.assert_out(self.home.run("logs", "--since", stamps[1], "--until", stamps[2], "l"), b"\0\xff\xc3\nout3\n")
        self.assert_out(self.home.run("logs", "--since", "1h", "l"), whole)
        self.assert_out(self.home.run("logs", "--since", "0s", "l"), "")
        self.assert_out(self.home.run("logs", "--until", "1970-01-02", "l"), "")
        self.assert_out(self.home.run("logs", "--since", "%.3f" % (time.time() + 1), "l"), "")
        start = time.monotonic()  # a follower ends at the time it was given, and with the box anyway
        self.assert_out(self.home.run("logs", "-f", "--until", "%.3f" % (time.time() + 100), "l"), whole)
        self.assertLess(time.monotonic() - start, 60)
        self.home.ok("rm", box)

    def test_refusals(self):
        box = self.home.ok("create", "--name", "r", "box", "true").text.strip()
        for args in (("--tail", "x"), ("--tail", "-2"), ("--since", "yesterday"), ("--until", "2024-02-30"), ("--since", "-1m")):
            self.assert_one_line(self.home.run("logs", *args, "r"), match=args[0])
        self.assert_one_line(self.home.run("logs"), match="one box")
        self.assert_one_line(self.home.run("logs", "r", "r"), match="one box")
        self.home.ok("rm", box)
        for args, match in ((("--log-driver", "journald"), "log-driver"), (("--log-opt", "max-size=x"), "max-size"),
                            (("--log-opt", "max-file=0"), "max-file"), (("--log-opt", "mode=blocking"), "max-size, max-file"),
                            (("--log-driver", "none", "--log-opt", "max-size=1m"), "none"),
                            (("--log-driver", "syslog", "--log-opt", "syslog-address=x"), "syslog-address")):
            self.assert_one_line(self.home.run("run", "--rm", *args, "box", "true"), match=match)
        self.assertEqual(self.home.boxes(), [])

    def test_none_keeps_nothing(self):
        self.assert_out(self.home.run("run", "--name", "n", "--log-driver", "none", "box", "echo", "seen"), "seen\n")
        self.assert_one_line(self.home.run("logs", "n"), match="none")
        self.home.ok("rm", "n")

    @core
    def test_a_follower_sees_rotation_through(self):
        """Half a megabyte through files of 64 KiB, as fast as the follower reads: every line once, in order."""
        lines = 8000
        script = "i=0; while [ $i -lt %d ]; do seq $((i+1)) $((i+400)) | sed 's/$/ %s/'; i=$((i+400)); sleep 0.1; done" % (
            lines, "x" * 50)
        box = self.home.ok("create", "--log-opt", "max-size=128k", "--log-opt", "max-file=4", "box", "sh", "-c",
                           script).text.strip()
        self.home.ok("start", box)
        result = self.home.run("logs", "-f", box)
        self.assert_rc(result, 0)
        self.assertEqual([int(line.split()[0]) for line in result.lines], list(range(1, lines + 1)))
        files = sorted(os.listdir(self.home.path / "boxes" / box / "logs"))
        self.assertEqual(files, ["box.log", "box.log.1", "box.log.2", "box.log.3"])
        for name in files:
            self.assertLess((self.home.path / "boxes" / box / "logs" / name).stat().st_size, 512 << 10)
        numbers = [int(line.split()[0]) for line in self.home.ok("logs", box).lines]
        self.assertEqual(numbers, list(range(numbers[0], lines + 1)))
        self.assertGreater(numbers[0], 1)
        tail = [int(line.split()[0]) for line in self.home.ok("logs", "--tail", "1500", box).lines]
        self.assertEqual(tail, list(range(lines - 1499, lines + 1)))
        self.home.ok("rm", box)

    def test_a_follower_goes_on_over_restarts(self):
        script = "echo again >> /work/runs; wc -l < /work/runs; [ $(wc -l < /work/runs) -ge 3 ] && exit 0; exit 1"
        box = self.home.run_detached("--restart", "on-failure", "box", "sh", "-c", script)
        result = self.home.run("logs", "-f", box)
        self.assert_out(result, "1\n2\n3\n")
        self.home.ok("rm", "-f", box)

    def test_a_full_disk_slows_and_loses_nothing(self):
        """The limit of a file's size stands for the full disk: what it does not take waits, and a stop does not."""
        script = "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo $i; done; echo end; sleep 1000"
        box = self.home.run_detached("--name", "full", "--log-opt", "max-size=-1", "box", "sh", "-c", script)
        log = self.home.path / "boxes" / box / "logs" / "box.log"
        (shim,) = self.home.find_process("a3s-box-shim", box)
        wait_for("the end", lambda: self.home.ok("logs", "--tail", "1", "full").out == b"end\n", 60)
        size = log.stat().st_size
        subprocess.run(["prlimit", "--pid", str(shim), "--fsize=%d:" % (size + 1000)], check=True)
        self.home.ok("exec", "full", "sh", "-c", "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo more $i; done > /proc/1/fd/1 &")
        stalled = self.home.path / "run" / box / "log-stalled"
        wait_for("the log to be full", stalled.exists, 60)
        self.assertLessEqual(log.stat().st_size, size + 1000)
        self.assertTrue(self.home.inspect("full")["State"]["LogStalled"])
        subprocess.run(["prlimit", "--pid", str(shim), "--fsize=unlimited:"], check=True)
        wait_for("the rest", lambda: self.home.ok("logs", "--tail", "1", "full").out == b"more 2000\n", 60)
        self.assertFalse(stalled.exists())
        lines = self.home.ok("logs", "full").lines
        self.assertEqual(lines, [str(n) for n in range(1, 301)] + ["end"] + ["more %d" % n for n in range(1, 2001)])
        events = self.home.ok("events", "--since", "1h", "--until", "0s", "--filter", "container=" + box).text
        self.assertEqual((events.count("log_stalled"), events.count("log_resumed")), (1, 1))
        # Full again, and told to stop: it stops at once, and the log says what is missing.
        subprocess.run(["prlimit", "--pid", str(shim), "--fsize=%d:" % (log.stat().st_size + 500)], check=True)
        self.home.ok("exec", "full", "sh", "-c", "while :; do echo much; done > /proc/1/fd/1 &")
        wait_for("the log to be full", stalled.exists, 60)
        result = self.home.ok("stop", "-t", "5", "full")
        self.assertLess(result.seconds, 60)
        self.assertNotEqual(self.home.status("full"), "running")
        self.home.ok("rm", "full")

    @slow(300)
    def test_empty_lines_with_much_beside_them_take_no_memory(self):
        """A frame of line feeds is 65536 entries of kilobytes each."""
        box = self.home.run_detached("--label", "big=" + "x" * 4000, "--log-opt", "labels=big", "--log-opt", "max-size=1m",
                                     "box", "sh", "-c", "head -c 262144 /dev/zero | tr '\\000' '\\n'; echo end; sleep 100000")
        (shim,) = self.home.find_process("a3s-box-shim", box)
        wait_for("the end", lambda: self.home.ok("logs", "--tail", "1", box).text == "end\n", 120)
        with open("/proc/%d/status" % shim, encoding="ascii") as f:
            peak = next(int(line.split()[1]) for line in f if line.startswith("VmHWM:"))
        self.assertLess(peak, 64 << 10)
        self.home.ok("rm", "-f", box)

    def test_syslog(self):
        path = str(self.home.tmp / "syslog")
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as server:
            server.bind(path)
            server.settimeout(30)
            self.home.ok("run", "--name", "s", "--log-driver", "syslog", "--log-opt", "syslog-address=unix://" + path,
                         "--log-opt", "tag=t/{{.Name}}", "box", "sh", "-c", "echo out; sleep 0.2; echo err >&2; printf rest")
            got = [server.recv(65536) for _ in range(3)]
        os.unlink(path)
        self.assertRegex(got[0], rb"\A<30>\w{3} [ \d]\d \d\d:\d\d:\d\d t/s\[\d+\]: out\Z")
        self.assertRegex(got[1], rb"\A<27>.* t/s\[\d+\]: err\Z")
        self.assertRegex(got[2], rb"\A<30>.* t/s\[\d+\]: rest\Z")
        self.assert_one_line(self.home.run("logs", "s"), match="syslog")
        self.assert_one_line(self.home.run("start", "s"), match="syslog")  # nobody is there any more
        self.home.ok("rm", "s")

    def test_a_syslog_server_that_does_not_read_hangs_nobody(self):
        with contextlib.closing(socket.socket()) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            server.bind(("127.0.0.1", 0))
            server.listen()
            result = self.home.run("run", "--rm", "--log-driver", "syslog", "--log-opt",
                                   "syslog-address=tcp://127.0.0.1:%d" % server.getsockname()[1], "box", "sh", "-c",
                                   "head -c 12000000 /dev/zero | tr '\\000' x | fold -w 1000 > /proc/self/fd/1; echo; echo end")
        self.assert_rc(result, 0)
        self.assertTrue(result.out.endswith(b"\nend\n"))

    def test_the_format_is_dockers(self):
        self.home.ok("run", "--name", "f", "box", "echo", 'a "quoted" line\\')
        box = self.home.inspect("f")["Id"]
        (line,) = (self.home.path / "boxes" / box / "logs" / "box.log").read_text().splitlines()
        entry = json.loads(line)
        self.assertEqual((entry.pop("log"), entry.pop("stream")), ('a "quoted" line\\\n', "stdout"))
        self.assertRegex(entry.pop("time").encode() + b" ", rb"\A" + STAMP + rb"\Z")
        self.assertEqual(entry, {})
        self.home.ok("rm", "f")
