"""run: output, input, status, settings, terminal."""

import hashlib
import os
import signal
import subprocess
import termios
import threading
import time

from a3s import BoxTest, Terminal, core, slow

MIB = 1 << 20
BLOCK = hashlib.sha512(b"a3s-box").digest() * (MIB // 64)


def stream_through(process, total):
    """Feeds total bytes and reads them back; returns (SHA-256 in, SHA-256 out, bytes out)."""
    sent, got = hashlib.sha256(), hashlib.sha256()

    def feed():
        left, counter = total, 0
        try:
            while left:
                # Every block differs, so that a lost, doubled or swapped one is seen.
                block = (counter.to_bytes(8, "big") + BLOCK[8:])[:min(left, MIB)]
                sent.update(block)
                process.stdin.write(block)
                left -= len(block)
                counter += 1
            process.stdin.close()
        except BrokenPipeError:
            pass

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    count = 0
    while True:
        data = process.stdout.read(MIB)
        if not data:
            break
        got.update(data)
        count += len(data)
    feeder.join(30)
    return sent.hexdigest(), got.hexdigest(), count


class Output(BoxTest):
    @core
    def test_output_and_error_are_separate(self):
        result = self.home.run("run", "--rm", "box", "sh", "-c", "echo out; echo err >&2; echo out2")
        self.assert_out(result, "out\nout2\n")
        self.assertEqual(result.err, b"err\n", result)

    @core
    def test_complete_to_the_last_byte(self):
        script = "yes 0123456789 | head -c 3000000; yes abcdefghi | head -c 2000001 >&2"
        result = self.home.run("run", "--rm", "box", "sh", "-c", script)
        self.assert_rc(result, 0)
        self.assertEqual(len(result.out), 3000000)
        self.assertEqual(len(result.err), 2000001)
        self.assertEqual(set(result.out.split(b"\n")[:-1]), {b"0123456789"})

    def test_no_newline_at_the_end(self):
        self.assert_out(self.home.run("run", "--rm", "box", "printf", "abc"), "abc")

    def test_binary_output(self):
        result = self.home.run("run", "--rm", "box", "sh", "-c", r"printf '\000\001\377\r\n\033'")
        self.assert_out(result, b"\x00\x01\xff\r\n\x1b")

    def test_output_comes_at_once(self):
        """Unbuffered: the first line is there while the workload still runs."""
        p = self.home.popen("run", "--rm", "-i", "box", "sh", "-c", "echo first; cat; echo last",
                            stdin=subprocess.PIPE)
        try:
            self.assertEqual(p.stdout.readline(), b"first\n")
            p.stdin.close()
            self.assertEqual(p.stdout.read(), b"last\n")
            self.assertEqual(p.wait(60), 0)
        finally:
            p.kill()
            p.stdout.close()
            p.stderr.close()

    def test_output_of_a_process_that_outlives_its_parent(self):
        """The box ends with its first process, and takes the rest along."""
        result = self.home.run("run", "--rm", "box", "sh", "-c", "sleep 1000 & echo done")
        self.assert_out(result, "done\n")
        self.assertLess(result.seconds, 60)

    def test_a_reader_that_goes_away(self):
        p = self.home.popen("run", "--rm", "box", "yes")
        p.stdout.read(1000)
        p.stdout.close()
        try:
            self.assertNotEqual(p.wait(60), 0)
        finally:
            p.kill()
            p.stderr.close()

    @core
    def test_the_warning_about_emulation(self):
        emulated = "tcg" in self.home.ok("info").text.lower()
        result = self.home.ok("run", "--rm", "box", "true")
        self.assertEqual(result.warnings, 1 if emulated else 0, result)
        self.assertEqual(result.out, b"")
        self.assertEqual(result.err, b"")

    @core
    def test_the_kernel_is_the_boxes_own(self):
        host = os.uname()
        guest = self.home.ok("run", "--rm", "box", "uname", "-r").text.strip()
        self.assertTrue(guest)
        self.assertNotEqual(guest, host.release)
        self.assertNotEqual(self.home.ok("run", "--rm", "box", "cat", "/proc/sys/kernel/random/boot_id").text,
                            open("/proc/sys/kernel/random/boot_id", encoding="ascii").read())


class Status(BoxTest):
    @core
    def test_the_workloads_own(self):
        for code in (0, 1, 42, 255):
            with self.subTest(code):
                self.assert_rc(self.home.run("run", "--rm", "box", "sh", "-c", "exit %d" % code), code)

    @core
    def test_not_found(self):
        self.assert_one_line(self.home.run("run", "--rm", "box", "no-such-command"), 127, "no-such-command")
        self.assert_one_line(self.home.run("run", "--rm", "box", "/no/such/command"), 127, "/no/such/command")

    @core
    def test_not_executable(self):
        self.assert_one_line(self.home.run("run", "--rm", "box", "/etc/plain"), 126, "/etc/plain")
        self.assert_one_line(self.home.run("run", "--rm", "box", "/etc"), 126, "/etc")

    def test_a_script(self):
        self.assert_out(self.home.run("run", "--rm", "box", "/etc/script", "a b"), "script a b\n")

    def test_a_script_without_its_interpreter(self):
        result = self.home.run("run", "--rm", "box", "/etc/no-interpreter")
        self.assertIn(result.rc, (126, 127), result)
        self.assert_one_line(result)

    @core
    def test_killed_by_a_signal(self):
        for name in ("KILL", "TERM", "SEGV"):
            with self.subTest(name):
                # The first process of a PID namespace ignores what it has no handler for; its child does not.
                result = self.home.run("run", "--rm", "box", "sh", "-c", "sh -c 'kill -%s $$'; exit $?" % name)
                self.assert_rc(result, 128 + getattr(signal, "SIG" + name))

    def test_refused_before_the_start(self):
        for args in (("--no-such-flag", "box"), ("--cpus", "lots", "box"), ("-m", "tiny", "box"), (),
                     ("--name", "bad name!", "box"), ("-w", "relative", "box"), ("-e", "=x", "box", "true")):
            with self.subTest(args):
                self.assert_one_line(self.home.run("run", "--rm", *args), 125)

    def test_no_command_at_all(self):
        """The image's own is used."""
        self.assert_out(self.home.run("run", "--rm", "box"), "default command\n")


class Settings(BoxTest):
    @core
    def test_environment(self):
        result = self.home.run("run", "--rm", "-e", "A=1", "-e", "B=x y=z", "-e", "FROM_HOST", "-e", "EMPTY=", "box",
                               "env", env={"FROM_HOST": "yes indeed", "OTHER": "no"})
        self.assert_rc(result, 0)
        got = dict(line.split("=", 1) for line in result.lines)
        self.assertEqual((got.get("A"), got.get("B"), got.get("FROM_HOST"), got.get("EMPTY")),
                         ("1", "x y=z", "yes indeed", ""))
        self.assertEqual(got.get("FROM_IMAGE"), "yes")
        self.assertEqual(got.get("PATH"), "/bin:/usr/bin")
        self.assertEqual(got.get("HOME"), "/root")
        self.assertNotIn("OTHER", got)
        self.assertNotIn("A3S_HOME", got)

    def test_environment_overrides_the_images(self):
        self.assert_out(self.home.run("run", "--rm", "-e", "FROM_IMAGE=no", "box", "sh", "-c", "echo $FROM_IMAGE"),
                        "no\n")

    @core
    def test_working_folder(self):
        self.assert_out(self.home.run("run", "--rm", "box", "pwd"), "/\n")
        self.assert_out(self.home.run("run", "--rm", "-w", "/etc", "box", "pwd"), "/etc\n")
        self.assert_out(self.home.run("run", "--rm", "-w", "/new/one", "box", "pwd"), "/new/one\n")

    @core
    def test_user(self):
        script = "id -u; id -g; id -G; echo $HOME"
        for user, expected in (("app", "1000\n1000\n1000 2000\n/home/app\n"), ("1000", "1000\n1000\n1000 2000\n/home/app\n"),
                               ("app:extra", "1000\n2000\n"), ("1000:2001", "1000\n2001\n"),
                               ("4242", "4242\n0\n"), ("4242:4343", "4242\n4343\n")):
            with self.subTest(user):
                result = self.home.run("run", "--rm", "-u", user, "box", "sh", "-c", script)
                self.assert_rc(result, 0)
                self.assertTrue(result.text.startswith(expected), result)

    def test_a_user_who_may_not(self):
        result = self.home.run("run", "--rm", "-u", "4242", "box", "cat", "/home/app/mine")
        self.assert_rc(result, 1)
        self.assert_out(self.home.run("run", "--rm", "-u", "app", "box", "cat", "/home/app/mine"), "app\n")

    def test_unknown_user_or_group(self):
        for user in ("nosuch", "app:nosuch", "app:", ":", "99999999999"):
            with self.subTest(user):
                self.assert_one_line(self.home.run("run", "--rm", "-u", user, "box", "true"))

    def test_entrypoint(self):
        self.assert_out(self.home.run("run", "--rm", "--entrypoint", "echo", "box", "a", "b"), "a b\n")
        # With another entry point the image's Cmd no longer applies.
        self.assert_out(self.home.run("run", "--rm", "--entrypoint", "pwd", "box"), "/\n")

    def test_flags_end_at_the_image(self):
        self.assert_out(self.home.run("run", "--rm", "box", "echo", "-e", "--rm", "--"), "--rm --\n")
        self.assert_out(self.home.run("run", "--rm", "--", "box", "echo", "x"), "x\n")
        self.assert_out(self.home.run("run", "--rm", "box", "--", "echo", "--", "x"), "-- x\n")
        self.assert_out(self.home.run("run", "--rm", "-e=A=2", "--workdir=/etc", "box", "sh", "-c", "echo $A $PWD"),
                        "2 /etc\n")

    def test_odd_arguments_arrive_as_they_are(self):
        odd = ["", " ", "a b", "'", '"', "$HOME", "*", "ä€", "\n", "x" * 100000]
        result = self.home.run("run", "--rm", "box", "printf", "[%s]", *odd)
        self.assert_out(result, "".join("[%s]" % o for o in odd))

    @core
    def test_name(self):
        box = self.home.run_detached("--name", "one", "box", "sleep", "1000")
        self.assertEqual(self.home.inspect("one")["Id"], box)
        before = self.home.boxes()
        self.assert_one_line(self.home.run("run", "--rm", "--name", "one", "box", "true"), 125, "one")
        self.assertEqual(self.home.boxes(), before)
        self.home.ok("rm", "-f", "one")

    @core
    def test_rm_leaves_nothing(self):
        self.home.ok("run", "--rm", "box", "true")
        before = self.home.rest()
        self.home.ok("run", "--rm", "box", "sh", "-c", "echo x > /file; dd if=/dev/zero of=/big bs=1M count=20")
        self.assertEqual(self.home.settle(before), "")
        self.assertEqual(self.home.boxes(), [])

    def test_rm_leaves_nothing_after_a_failure(self):
        before = self.home.rest()
        self.assert_rc(self.home.run("run", "--rm", "box", "nosuch"), 127)
        self.assertEqual(self.home.settle(before), "")

    @core
    def test_cpus_and_memory(self):
        for cpus, memory in ((1, 128), (2, 300)):
            with self.subTest(cpus=cpus, memory=memory):
                result = self.home.run("run", "--rm", "--cpus", cpus, "-m", "%dm" % memory, "box", "sh", "-c",
                                       "nproc; grep MemTotal /proc/meminfo")
                self.assert_rc(result, 0)
                self.assertEqual(result.lines[0], str(cpus))
                total_mib = int(result.lines[1].split()[1]) / 1024
                # The kernel keeps its own part.
                self.assertLess(total_mib, memory)
                self.assertGreater(total_mib, memory - 64)

    def test_default_memory(self):
        result = self.home.ok("run", "--rm", "box", "grep", "MemTotal", "/proc/meminfo")
        self.assertAlmostEqual(int(result.text.split()[1]) / 1024, 512, delta=64)

    def test_least_memory(self):
        self.assert_out(self.home.run("run", "--rm", "-m", "96m", "box", "echo", "fits"), "fits\n")

    @core
    def test_memory_too_small(self):
        for size in ("1m", "1", "0"):
            with self.subTest(size):
                self.assert_one_line(self.home.run("run", "--rm", "-m", size, "box", "true"), 125, "memory")
        self.assertEqual(self.home.boxes(), [])

    def test_the_root_is_writable_and_private(self):
        self.assert_out(self.home.run("run", "--rm", "box", "sh", "-c",
                                      "echo changed > /opt-marker; rm /etc/plain; cat /opt-marker; ls /etc/plain"),
                        "changed\n", rc=1)
        self.assert_out(self.home.run("run", "--rm", "box", "sh", "-c", "cat /opt-marker; ls /etc/plain"),
                        "lower\n/etc/plain\n")

    @core
    def test_inside(self):
        """What a program expects to find around it."""
        script = """
            tr '\\0' ' ' < /proc/1/cmdline; echo
            ls /sys/class/net
            for f in /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty; do test -c $f || echo no $f; done
            for d in /proc /sys /dev /dev/pts /dev/shm; do grep -q " $d " /proc/mounts || echo no $d; done
            test -w /tmp || echo no tmp
            for l in stdin stdout stderr fd; do test -L /dev/$l || echo no /dev/$l; done
            echo x > /dev/shm/x || echo no shm
            grep -q localhost /etc/hosts || echo no hosts
            ip -o addr show lo | grep -o 127.0.0.1 | head -n 1
            touch /written && echo root is writable
        """
        result = self.home.run("run", "--rm", "box", "sh", "-c", script)
        self.assert_rc(result, 0)
        self.assertRegex(result.text, r"\Ash -c ")
        rest = result.text.split("touch /written", 1)[-1].split("\n", 1)[1].strip().splitlines()
        self.assertEqual([line.strip() for line in rest if line.strip()],
                         ["eth0", "lo", "127.0.0.1", "root is writable"], result)

    def test_a_clock(self):
        guest = int(self.home.ok("run", "--rm", "box", "date", "+%s").text)
        self.assertAlmostEqual(guest, time.time(), delta=30)

    def test_hostname(self):
        box = self.home.run_detached("box", "sleep", "1000")
        self.assertEqual(self.home.ok("exec", box, "hostname").text.strip(), box[:12])
        self.home.ok("rm", "-f", box)
        result = self.home.run("run", "--rm", "-h", "given", "box", "sh", "-c",
                               "hostname; cat /etc/hostname; ping -c 1 given | head -n 1")
        self.assert_rc(result, 0)
        self.assertRegex(result.text, r"\Agiven\ngiven\nPING given \(10\.87\.0\.2\)", result)
        result = self.home.run("run", "--rm", "--network", "none", "-h", "given", "box", "sh", "-c",
                               "ping -c 1 given | head -n 1")
        self.assertRegex(result.text, r"\APING given \(127\.", result)

    def test_further_groups(self):
        result = self.home.run("run", "--rm", "-u", "4242", "--group-add", "extra", "--group-add", "99", "box", "id", "-G")
        self.assertEqual(sorted(result.text.split()), ["0", "2000", "99"], result)

    def test_random_differs(self):
        script = "head -c 16 /dev/urandom | od -An -tx1"
        self.assertNotEqual(self.home.ok("run", "--rm", "box", "sh", "-c", script).out,
                            self.home.ok("run", "--rm", "box", "sh", "-c", script).out)


class Input(BoxTest):
    @core
    def test_end_of_file(self):
        self.assert_out(self.home.run("run", "--rm", "-i", "box", "cat", input=b"a\nb"), "a\nb")
        self.assert_out(self.home.run("run", "--rm", "-i", "box", "cat", input=b""), "")

    def test_without_i_there_is_no_input(self):
        self.assert_out(self.home.run("run", "--rm", "box", "wc", "-c", input=b"not for you"), "0\n")

    def test_a_workload_that_does_not_read(self):
        result = self.home.run("run", "--rm", "-i", "box", "true", input=b"x" * (4 * MIB))
        self.assert_rc(result, 0)

    def test_input_that_never_ends(self):
        """The box's end is the command's, whatever still is on its standard input."""
        p = self.home.popen("run", "--rm", "-i", "box", "head", "-n", "1", stdin=subprocess.PIPE)
        try:
            p.stdin.write(b"line\nmore\n")
            p.stdin.flush()
            self.assertEqual(p.stdout.read(), b"line\n")
            self.assertEqual(p.wait(60), 0)
        finally:
            p.kill()
            p.stdin.close()
            p.stdout.close()
            p.stderr.close()

    def through_cat(self, total):
        p = self.home.popen("run", "--rm", "-i", "box", "cat", stdin=subprocess.PIPE)
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


class Signals(BoxTest):
    TRAP = "trap 'echo got %s; exit 7' %s; echo ready; while :; do sleep 0.1; done"

    def signalled(self, name, *flags):
        p = self.home.popen("run", "--rm", *flags, "box", "sh", "-c", self.TRAP % (name, name))
        try:
            self.assertEqual(p.stdout.readline(), b"ready\n", "no first line")
            p.send_signal(getattr(signal, "SIG" + name))
            out, err = p.communicate(timeout=60)
            self.assertEqual((p.returncode, out), (7, b"got %s\n" % name.encode()), err)
        finally:
            p.kill()
            p.communicate()

    @core
    def test_passed_on(self):
        for name in ("TERM", "INT", "HUP", "USR1"):
            with self.subTest(name):
                self.signalled(name)

    @core
    def test_without_a_handler(self):
        """It ends by the signal, although it is PID 1 of the box, which the kernel would spare."""
        for name in ("TERM", "INT"):
            with self.subTest(name):
                p = self.home.popen("run", "--rm", "box", "sh", "-c", "echo ready; exec sleep 1000")
                try:
                    self.assertEqual(p.stdout.readline(), b"ready\n")
                    p.send_signal(getattr(signal, "SIG" + name))
                    try:
                        p.wait(10)
                    except subprocess.TimeoutExpired:
                        # The first one met the shell, which handles it, on its way to become sleep.
                        p.send_signal(getattr(signal, "SIG" + name))
                    self.assertEqual(p.wait(60), 128 + getattr(signal, "SIG" + name))
                finally:
                    p.kill()
                    p.communicate()

    def test_ignored(self):
        """What the workload ignores does nothing; SIGKILL by the kill command ends it."""
        script = "trap '' TERM; echo ready; while read x; do echo $x; done; while :; do sleep 1; done"
        p = self.home.popen("run", "--rm", "-i", "--name", "stubborn", "box", "sh", "-c", script, stdin=subprocess.PIPE)
        try:
            self.assertEqual(p.stdout.readline(), b"ready\n")
            p.send_signal(signal.SIGTERM)
            p.stdin.write(b"goes on\n")
            p.stdin.flush()
            self.assertEqual(p.stdout.readline(), b"goes on\n")
            self.home.ok("kill", "stubborn")
            self.assertEqual(p.wait(60), 137)
        finally:
            p.kill()
            for f in (p.stdin, p.stdout, p.stderr):
                f.close()


class Tty(BoxTest):
    @core
    def test_it_is_a_terminal_of_this_size(self):
        with Terminal(self.home, "run", "--rm", "-it", "box", "sh", "-c",
                      "test -t 0 && test -t 1 && test -t 2 && echo yes; stty size; tty", rows=37, cols=101) as t:
            t.read_until(rb"yes\r\n37 101\r\n/dev/(pts/\d+|console)\r\n")
            self.assertEqual(t.finish()[0], 0)

    @core
    def test_resize(self):
        script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.1; done"
        with Terminal(self.home, "run", "--rm", "-it", "--name", "resized", "box", "sh", "-c", script) as t:
            t.read_until(rb"ready\r\n")
            t.resize(50, 132)
            t.read_until(rb"50 132\r\n")
            self.home.ok("rm", "-f", "resized")
            t.finish()

    @core
    def test_control_c_reaches_the_foreground(self):
        with Terminal(self.home, "run", "--rm", "-it", "box", "sh") as t:
            t.read_until(rb"[#$] ")
            # Said by what ^C is for: between fork and exec a shell's child would miss it.
            t.send(b"sh -c 'echo go; exec sleep 1000'\n")
            t.read_until(rb"\ngo\r\n")
            t.send(b"\x03")
            t.read_until(rb"[#$] ")
            t.send(b"echo status=$?\n")
            t.read_until(rb"status=130\r\n")
            t.send(b"exit 3\n")
            self.assertEqual(t.finish()[0], 3)

    def test_control_d_ends_the_shell(self):
        with Terminal(self.home, "run", "--rm", "-it", "box", "sh") as t:
            t.read_until(rb"[#$] ")
            t.send(b"\x04")
            self.assertEqual(t.finish()[0], 0)

    def test_the_users_terminal_is_as_before(self):
        with Terminal(self.home, "run", "--rm", "-it", "box", "true") as t:
            settings = termios.tcgetattr(t.master)
            self.assertEqual(t.finish()[0], 0)
            self.assertEqual(termios.tcgetattr(t.master), settings)

    def test_t_without_a_terminal(self):
        self.assert_one_line(self.home.run("run", "--rm", "-it", "box", "true"), 125, "terminal|tty")

    def test_colours_and_editing(self):
        with Terminal(self.home, "run", "--rm", "-it", "box", "sh", "-c", "echo $TERM; read x; echo got $x") as t:
            t.read_until(rb"xterm\r\n")
            t.send(b"abd\x7fc\n")
            t.read_until(rb"got abc\r\n")
            self.assertEqual(t.finish()[0], 0)
