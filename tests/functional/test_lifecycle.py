"""Boxes from run -d to rm, and what the commands say about them on the way."""

import json
import re
import threading
import time

from a3s import BoxTest, core, slow, wait_for

HEADER = ["BOX ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]


def table(text):
    """Rows of a table as dictionaries, by where the header's columns begin."""
    lines = text.splitlines()
    starts = [lines[0].index(h) for h in HEADER] + [None]
    rows = []
    for line in lines[1:]:
        rows.append({h: line[starts[i]:starts[i + 1]].strip() for i, h in enumerate(HEADER)})
    return rows


class Lifecycle(BoxTest):
    @core
    def test_from_run_to_rm(self):
        box = self.home.run_detached("--name", "web", "box", "sh", "-c", "echo up; exec sleep 1000")
        (row,) = table(self.home.ok("ps").text)
        self.assertEqual(row["BOX ID"], box[:12])
        self.assertEqual(row["IMAGE"], "box")
        self.assertTrue(row["COMMAND"].startswith('"sh -c'), row)
        self.assertRegex(row["CREATED"], "ago$")
        self.assertRegex(row["STATUS"], "^Up ")
        self.assertEqual(row["PORTS"], "")
        self.assertEqual(row["NAMES"], "web")
        self.assertEqual(self.home.ok("ps", "-q").text, box[:12] + "\n")
        self.assertEqual(self.home.ok("ps", "-q", "--no-trunc").text, box + "\n")

        wait_for("the first line", lambda: self.home.ok("logs", "web").out == b"up\n")
        self.assert_out(self.home.run("stop", "web"), "web\n")
        self.assertEqual(table(self.home.ok("ps").text), [])
        (row,) = table(self.home.ok("ps", "-a").text)
        self.assertRegex(row["STATUS"], r"^Exited \(143\) .* ago$")
        self.assert_out(self.home.run("logs", "web"), "up\n")
        self.assert_out(self.home.run("rm", "web"), "web\n")
        self.assertEqual(self.home.ok("ps", "-a", "-q").text, "")

    def test_detached_prints_the_id_after_the_start(self):
        """What cannot start says so at once, and is not reported as started."""
        result = self.home.run("run", "-d", "box", "nosuch")
        self.assertEqual(result.rc, 127, result)
        self.assertRegex(result.err, rb"\Aa3s-box: [^\n]*nosuch[^\n]*\n\Z", result)
        for box in self.home.boxes():
            self.home.ok("rm", "-f", box)

    @core
    def test_stop_asks_first(self):
        script = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done"
        box = self.home.run_detached("box", "sh", "-c", script)
        wait_for("the first line", lambda: self.home.ok("logs", box).out == b"up\n")
        result = self.home.ok("stop", box)
        self.assertLess(result.seconds, 9)
        self.assertEqual(self.home.inspect(box)["State"]["ExitCode"], 3)
        self.assert_out(self.home.run("logs", box), "up\nbye\n")
        self.home.ok("stop", box)  # once more is no error
        self.home.ok("rm", box)

    def test_stop_kills_after_its_time(self):
        box = self.home.run_detached("box", "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done")
        wait_for("the first line", lambda: self.home.ok("logs", box).out == b"up\n")
        result = self.home.ok("stop", "-t", "1", box)
        self.assertGreater(result.seconds, 0.9)
        self.assertEqual(self.home.inspect(box)["State"]["ExitCode"], 137)
        self.home.ok("rm", box)

    @core
    def test_kill(self):
        script = "trap 'exit 4' USR1; echo up; while :; do sleep 0.1; done"
        box = self.home.run_detached("--name", "k", "box", "sh", "-c", script)
        wait_for("the first line", lambda: self.home.ok("logs", box).out == b"up\n")
        self.assert_out(self.home.run("kill", "-s", "SIGUSR1", "k"), "k\n")
        self.assert_out(self.home.run("wait", "k"), "4\n")
        self.assert_one_line(self.home.run("kill", "k"), match="not running|exited")
        self.home.ok("rm", "k")

        box = self.home.run_detached("box", "sleep", "1000")
        self.assert_one_line(self.home.run("kill", "-s", "NOSUCH", box), match="NOSUCH|signal")
        self.home.ok("kill", box)
        self.assert_out(self.home.run("wait", box), "137\n")
        self.home.ok("rm", box)

    def test_rm_of_a_running_box(self):
        box = self.home.run_detached("box", "sleep", "1000")
        self.assert_one_line(self.home.run("rm", box), match="running")
        self.assertEqual(self.home.status(box), "running")
        self.home.ok("rm", "-f", box)
        self.assertEqual(self.home.boxes(), [])

    @core
    def test_wait(self):
        box = self.home.run_detached("box", "sh", "-c", "sleep 2; exit 21")
        result = self.home.run("wait", box)
        self.assert_out(result, "21\n")
        self.assert_out(self.home.run("wait", box), "21\n")
        self.home.ok("rm", box)

    def test_wait_for_the_removal(self):
        box = self.home.run_detached("--rm", "box", "sh", "-c", "sleep 1; exit 3")
        result = self.home.ok("wait", "--condition", "removed", box)
        self.assertIn(result.text, ("3\n", "0\n"))  # when it ended first, its code went with it
        self.assertEqual(self.home.boxes(), [])

    def test_several_boxes_in_one_call(self):
        boxes = [self.home.run_detached("box", "sh", "-c", "exit %d" % n) for n in (1, 2, 3)]
        self.assert_out(self.home.run("wait", *boxes), "1\n2\n3\n")
        result = self.home.run("rm", boxes[0], "nosuch", boxes[1], boxes[2])
        self.assertNotEqual(result.rc, 0, result)
        self.assertRegex(result.err, rb"\Aa3s-box: [^\n]*nosuch[^\n]*\n\Z", result)
        self.assertEqual(self.home.boxes(), [])

    @core
    def test_logs(self):
        box = self.home.run_detached("box", "sh", "-c", "echo out; echo err >&2; printf 'no newline'")
        self.home.ok("wait", box)
        result = self.home.run("logs", box)
        self.assert_out(result, "out\nno newline")
        self.assertEqual(result.err, b"err\n", result)
        self.home.ok("rm", box)

    def test_logs_followed(self):
        """From the beginning, as it comes, to the box's end."""
        box = self.home.run_detached("box", "sh", "-c", "echo one; sleep 1; echo two; sleep 1; printf three")
        result = self.home.run("logs", "-f", box)
        self.assert_out(result, "one\ntwo\nthree")
        self.assertEqual(self.home.status(box), "exited")
        self.home.ok("rm", box)

    def test_ps_as_json(self):
        box = self.home.run_detached("--name", "j", "box", "sleep", "1000")
        (line,) = self.home.ok("ps", "--format", "json").lines
        row = json.loads(line)
        self.assertEqual((row["ID"][:12], row["Names"], row["State"]), (box[:12], "j", "running"))
        self.home.ok("rm", "-f", box)

    def test_create_and_start(self):
        box = self.home.ok("create", "--name", "c", "box", "sh", "-c", "echo started; exit 6").text.strip()
        self.assertRegex(box, "^[0-9a-f]{64}$")
        self.assertEqual(self.home.status(box), "created")
        self.assertRegex(self.home.ok("ps", "-a").lines[1], r" Created ")
        for _ in range(2):  # an ended box starts again
            self.home.ok("start", "c")
            self.assert_out(self.home.run("wait", "c"), "6\n")
        self.assert_rc(self.home.run("start", "-a", "c"), 6)
        self.home.ok("rm", "c")

    def test_logs_of_a_foreground_box(self):
        self.home.ok("run", "--name", "fg", "box", "echo", "seen")
        self.assert_out(self.home.run("logs", "fg"), "seen\n")
        self.home.ok("rm", "fg")

    def test_logs_of_much_output(self):
        box = self.home.run_detached("box", "sh", "-c", "seq 1 100000")
        self.home.ok("wait", box)
        self.assert_out(self.home.run("logs", box), "".join("%d\n" % n for n in range(1, 100001)))
        self.home.ok("rm", box)

    @core
    def test_inspect(self):
        box = self.home.run_detached("--name", "seen", "-e", "A=b", "-w", "/etc", "-u", "app", "box", "sleep", "1000")
        result = self.home.ok("inspect", "seen")
        value = json.loads(result.out)
        self.assertIsInstance(value, list)
        (seen,) = value
        self.assertEqual(seen["Id"], box)
        self.assertEqual(seen["Name"].lstrip("/"), "seen")
        self.assertEqual(seen["State"]["Status"], "running")
        self.assertIs(seen["State"]["Running"], True)
        self.assertEqual(seen["State"]["ExitCode"], 0)
        self.assertEqual(seen["Config"]["Cmd"], ["sleep", "1000"])
        self.assertIn("A=b", seen["Config"]["Env"])
        self.assertEqual(seen["Config"]["WorkingDir"], "/etc")
        self.assertEqual(seen["Config"]["User"], "app")
        self.assertRegex(seen["Created"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
        self.assertRegex(seen["Image"], r"^sha256:[0-9a-f]{64}$")
        # What isolates the box is named.
        machine = seen["Machine"]
        self.assertIn(machine["Accelerator"], ("tcg", "qemu-kvm", "kvm"))
        self.assertIs(machine["HardwareIsolation"], machine["Accelerator"] != "tcg")
        self.assertEqual(machine["Backend"], "kvm" if machine["Accelerator"] == "kvm" else "qemu")
        # What confines the process that holds the guest, and what could not be had.
        self.assertIn("seccomp", machine["Confinement"])
        self.assertIn("no-new-privileges", machine["Confinement"])
        self.assertIsInstance(machine["ConfinementMissing"], str)
        self.home.ok("rm", "-f", box)

    @core
    def test_info_and_version(self):
        self.assertRegex(self.home.ok("info").text, "(?i)\\b(tcg|kvm)\\b")
        self.assertRegex(self.home.ok("version").text, r"\d+\.\d+\.\d+")
        self.assertRegex(self.home.ok("--version").text, r"\d+\.\d+\.\d+")
        self.assertIn("run", self.home.ok("--help").text)
        for command in ("run", "ps", "logs", "stop", "kill", "rm", "exec", "wait", "inspect", "load", "pull", "images",
                        "rmi", "info", "version", "create", "start", "pause", "unpause"):
            with self.subTest(command):
                self.assertIn(command, self.home.ok(command, "--help").text)

    def test_prefixes(self):
        boxes = []
        try:
            # Seventeen IDs: two begin with the same digit.
            for _ in range(17):
                boxes.append(self.home.ok("create", "box", "true").text.strip())
            first = {}
            for box in boxes:
                first.setdefault(box[0], []).append(box)
            same = next(group for group in first.values() if len(group) > 1)
            result = self.home.run("inspect", same[0][0])
            self.assertNotEqual(result.rc, 0)
            for box in same[:2]:
                self.assertIn(box[:12].encode(), result.err, result)
            self.assertEqual(self.home.inspect(same[0][:12])["Id"], same[0])
        finally:
            for box in boxes:
                self.home.run("rm", "-f", box)

    def test_a_name_like_an_id_prefix(self):
        """A name wins over an ID's prefix."""
        first = self.home.run_detached("box", "sleep", "1000")
        second = self.home.run_detached("--name", first[:6], "box", "sleep", "1000")
        self.assertEqual(self.home.inspect(first[:6])["Id"], second)
        self.home.ok("rm", "-f", first, second)

    @core
    def test_unknown_box(self):
        for command in ("stop", "kill", "rm", "wait", "logs", "inspect"):
            with self.subTest(command):
                result = self.home.run(command, "nosuch")
                self.assertNotEqual(result.rc, 0, result)
                self.assertRegex(result.err, rb"\Aa3s-box: [^\n]*nosuch[^\n]*\n\Z", result)

    def test_generated_names_differ(self):
        boxes = [self.home.run_detached("box", "true") for _ in range(3)]
        names = {self.home.inspect(b)["Name"].lstrip("/") for b in boxes}
        self.assertEqual(len(names), 3)
        for name in names:
            self.assertRegex(name, r"^[a-z0-9][a-z0-9_.-]+$")
        self.home.ok("rm", "-f", *boxes)

    def test_detached_with_rm(self):
        before = self.home.rest()
        box = self.home.run_detached("--rm", "box", "true")
        wait_for("the box to be gone", lambda: box not in self.home.boxes())
        self.assertEqual(self.home.settle(before), "")

    def test_it_survives_the_terminal_that_started_it(self):
        from a3s import Terminal  # pylint: disable=import-outside-toplevel
        with Terminal(self.home, "run", "-d", "--name", "bg", "box", "sleep", "1000") as t:
            t.read_until(rb"[0-9a-f]{64}\r\n")
            self.assertEqual(t.finish()[0], 0)
        self.assert_out(self.home.run("exec", "bg", "echo", "alive"), "alive\n")
        self.home.ok("rm", "-f", "bg")


class Together(BoxTest):
    def test_several_start_it(self):
        self.home.ok("create", "--name", "s", "box", "sleep", "1000")
        starts = [self.home.popen("start", "s") for _ in range(4)]
        for p in starts:
            out, _ = p.communicate(timeout=120)
            self.assertEqual((p.returncode, out), (0, b"s\n"))
            self.assertEqual(self.home.status("s"), "running")
        self.home.ok("rm", "-f", "s")

    def test_they_start_side_by_side(self):
        """One that cannot start yet keeps nobody waiting; what is printed has the order of the arguments."""
        ids = [self.home.ok("create", "--name", n, "box", "sleep", "1000").text.strip() for n in ("a", "b")]
        self.home.ok("create", "--name", "bad", "box", "/nosuch")
        with self.home.locked(ids[0]):
            p = self.home.popen("start", "a", "nosuch", "b", "bad", "b")
            self.home.wait_status("b", "running", timeout_s=60)
            self.assertEqual(self.home.status("a"), "created")
        out, err = p.communicate(timeout=120)
        self.assertEqual((p.returncode, out), (127, b"a\nb\nb\n"), err)
        self.assertRegex(err, rb"\A(a3s-box: warning: [^\n]*\n)?a3s-box: start: [^\n]*nosuch\n[^\n]*/nosuch[^\n]*\n\Z")
        self.assertEqual(self.home.status("a"), "running")
        self.home.ok("stop", "-t", "0", "a")
        with self.home.locked(ids[0]):
            p = self.home.popen("restart", "a", "b")
            wait_for("the other to be restarted", lambda: self.started("b") > 1)
        out, _ = p.communicate(timeout=120)
        self.assertEqual((p.returncode, out), (0, b"a\nb\n"))
        self.home.ok("rm", "-f", "a", "b", "bad")

    def started(self, box):
        """How often."""
        return len(self.home.ok("events", "--since", "1h", "--until", "0s", "-f", "event=start", "-f", "container=" + box).lines)

    def test_several_stop_in_the_time_of_one(self):
        """None is killed before all were asked."""
        stubborn = "trap '' TERM; echo up; while :; do sleep 0.1; done"
        boxes = [self.home.run_detached("box", "sh", "-c", stubborn) for _ in range(3)]
        for box in boxes:
            wait_for("the trap", lambda box=box: self.home.ok("logs", box).out == b"up\n")
        self.assert_out(self.home.run("stop", "-t", "3", *boxes), "".join(box + "\n" for box in boxes))
        events = [json.loads(line) for line in
                  self.home.ok("events", "--since", "1h", "--until", "0s", "-f", "event=kill", "--json").lines]
        signals = [e["Actor"]["Attributes"]["signal"] for e in events if e["Actor"]["ID"] in boxes]
        self.assertEqual(signals, ["15"] * 3 + ["9"] * 3)
        self.home.ok("rm", *boxes)

    def test_the_least_patience_counts(self):
        box = self.home.run_detached("box", "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done")
        wait_for("the trap", lambda: self.home.ok("logs", box).out == b"up\n")
        first = self.home.popen("stop", "-t", "4", box)
        self.home.wait_status(box, "stopping")
        self.assertLess(self.home.ok("stop", "-t", "1000", box, timeout=60).seconds, 20)
        self.assertEqual(first.wait(30), 0)
        first.communicate()
        self.home.ok("rm", box)

    def test_the_next_exit_of_one_that_is_started(self):
        self.home.ok("create", "--name", "n", "box", "sh", "-c", "sleep 3; exit 9")
        self.home.ok("start", "n")
        self.home.ok("stop", "-t", "0", "n")
        wait = self.home.popen("wait", "--condition", "next-exit", "n")
        time.sleep(0.5)
        self.home.ok("start", "n")
        out, _ = wait.communicate(timeout=60)
        self.assertEqual(out, b"9\n")
        self.home.ok("rm", "n")


class Pause(BoxTest):
    COUNT = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.1; done"

    def counting(self, *options):
        box = self.home.run_detached(*options, "box", "sh", "-c", self.COUNT)
        wait_for("a few lines", lambda: self.lines(box) > 3)
        return box

    def lines(self, box):
        return len(self.home.ok("logs", box).lines)

    @core
    def test_it_stands_still_and_goes_on(self):
        box = self.counting("--name", "p")
        self.assert_out(self.home.run("pause", "p"), "p\n")
        state = self.home.inspect(box)["State"]
        self.assertEqual((state["Status"], state["Running"], state["Paused"]), ("paused", True, True))
        (row,) = table(self.home.ok("ps").text)
        self.assertRegex(row["STATUS"], r"^Up .* \(Paused\)$")
        before = self.lines(box)
        for _ in range(20):  # what was under way when it stopped
            time.sleep(0.5)
            before, last = self.lines(box), before
            if before == last:
                break
        time.sleep(1.5)
        self.assertEqual(self.lines(box), before)
        result = self.home.run("exec", "p", "true")
        self.assertEqual(result.rc, 125, result)
        self.assertRegex(result.err, rb"\Aa3s-box: (exec: )?box p is paused \([^\n]*unpause p\)\n\Z")
        self.assert_out(self.home.run("unpause", "p"), "p\n")
        self.assertEqual(self.home.inspect(box)["State"]["Status"], "running")
        wait_for("it to go on", lambda: self.lines(box) > before + 3)
        numbers = [int(n) for n in self.home.ok("logs", box).lines]
        self.assertEqual(numbers, list(range(len(numbers))))
        self.home.ok("exec", "p", "true")
        self.home.ok("rm", "-f", box)

    def test_again_and_again(self):
        box = self.counting()
        for _ in range(10):
            self.home.ok("pause", box)
            self.home.ok("unpause", box)
        before = self.lines(box)
        wait_for("it to go on", lambda: self.lines(box) > before + 3)
        self.home.ok("rm", "-f", box)

    def test_a_paused_box_ends_like_any_other(self):
        box = self.counting()
        self.home.ok("pause", box)
        result = self.home.ok("stop", box)
        self.assertLess(result.seconds, 9)
        self.assertEqual(self.home.inspect(box)["State"]["ExitCode"], 143)
        self.home.ok("rm", box)
        box = self.counting()
        self.home.ok("pause", box)
        self.home.ok("kill", box)
        self.assertEqual(self.home.inspect(box)["State"]["ExitCode"], 137)
        self.home.ok("rm", box)
        box = self.counting("--rm")
        self.home.ok("pause", box)
        self.home.ok("rm", "-f", box)
        self.assertEqual(self.home.ok("ps", "-a", "-q").text, "")

    def test_a_signal_that_ends_it_lets_it_go_on(self):
        box = self.home.run_detached("--restart", "always", "box", "sleep", "1000")
        self.home.ok("pause", box)
        self.home.ok("kill", "-s", "HUP", box)  # like any other process that stands still
        self.assertEqual(self.home.status(box), "paused")
        self.home.ok("unpause", box)
        wait_for("the restart", lambda: self.home.inspect(box)["RestartCount"] == 1)
        self.home.wait_status(box, "running")
        self.home.ok("pause", box)
        self.home.ok("kill", "-s", "TERM", box)
        self.home.wait_status(box, "exited")
        self.assertEqual(self.home.inspect(box)["State"]["ExitCode"], 143)
        self.home.ok("rm", box)

    def test_it_ends_while_it_is_paused(self):
        """What it wrote last, and its end, wait behind a client that does not read."""
        script = "while ! test -e /go; do sleep 0.1; done; head -c %d /dev/zero; exit 7" % (1500 << 10)
        box = self.home.run_detached("box", "sh", "-c", script)
        client = self.home.popen("attach", "--no-stdin", box)
        time.sleep(1)
        self.home.ok("exec", box, "touch", "/go")
        time.sleep(3)
        self.home.ok("pause", box)
        out, _ = client.communicate(timeout=60)
        self.assertEqual(len(out), 1500 << 10)
        start = time.monotonic()
        self.home.wait_status(box, "exited")
        self.assertLess(time.monotonic() - start, 15)
        state = self.home.inspect(box)["State"]
        self.assertEqual((state["ExitCode"], state["Error"]), (7, ""))
        self.home.ok("rm", box)

    def test_refusals(self):
        box = self.counting("--name", "r")
        for command, text in (("unpause", "not paused"), ("pause", None), ("pause", "paused already"),
                              ("unpause", None), ("stop", None), ("pause", "not running"), ("unpause", "not running")):
            result = self.home.run(command, "r")
            self.assertEqual(result.rc, 1 if text else 0, result)
            if text:
                self.assertRegex(result.err, rb"\Aa3s-box: (%s: )?box r[^\n]*%s[^\n]*\n\Z" % (command.encode(), text.encode()))
        self.home.ok("rm", box)


class Many(BoxTest):
    @slow(600)
    def test_20_at_once(self):
        count = 20
        results = {}
        wrong = []
        done = threading.Event()

        def one(n):
            results[n] = self.home.run(
                "run", "--name", "m%d" % n, "-m", "128m", "-i", "box", "sh", "-c",
                "echo here is %d; cat; sleep 1; echo %d >&2; exit %d" % (n, n, n), input=b"%d" % n * 5000, timeout=400)

        def watch():
            """Every ps is a true picture: known boxes only, each once, and none seen running that has been seen to end."""
            ended = set()
            while not done.is_set():
                sure = set(results)  # these have returned: from now on they must be shown as exited
                result = self.home.run("ps", "-a", timeout=60)
                if result.rc or result.err:
                    wrong.append(str(result))
                    continue
                rows = {row["NAMES"]: row["STATUS"] for row in table(result.text)}
                names = [row["NAMES"] for row in table(result.text)]
                if len(names) != len(rows):
                    wrong.append("a box twice:\n" + result.text)
                for name, status in rows.items():
                    if not re.match(r"(Created|Starting|Up |Exited \(\d+\)|Stopping)", status):
                        wrong.append("%s: %s" % (name, status))
                    if name in ended and not status.startswith("Exited"):
                        wrong.append("%s is back: %s" % (name, status))
                    if status.startswith("Exited"):
                        ended.add(name)
                for n in sure:
                    if not rows.get("m%d" % n, "").startswith("Exited (%d)" % n):
                        wrong.append("m%d has ended with %d, ps says %r" % (n, n, rows.get("m%d" % n)))
                running = sum(status.startswith("Up ") for status in rows.values())
                most[0] = max(most[0], running)
                time.sleep(0.1)

        most = [0]
        threads = [threading.Thread(target=one, args=(n,)) for n in range(count)]
        watcher = threading.Thread(target=watch)
        watcher.start()
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        done.set()
        watcher.join()
        try:
            self.assertEqual(sorted(results), list(range(count)))
            for n, result in results.items():
                self.assert_out(result, b"here is %d\n" % n + b"%d" % n * 5000, rc=n)
                self.assertEqual(result.err, b"%d\n" % n)
            self.assertEqual(wrong[:5], [])
            self.assertGreater(most[0], 1, "no two boxes were ever seen running at once")
        finally:
            self.home.ok("rm", "-f", *["m%d" % n for n in range(count)])

    @slow(600)
    def test_20_running_at_once(self):
        """All of them alive at the same moment."""
        boxes = {}

        def one(n):
            boxes[n] = self.home.run_detached("--name", "r%d" % n, "-m", "128m", "box", "sleep", "100000", timeout=400)

        threads = [threading.Thread(target=one, args=(n,)) for n in range(20)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        try:
            self.assertEqual(len(boxes), 20)
            rows = table(self.home.ok("ps").text)
            self.assertEqual(sorted(row["NAMES"] for row in rows), sorted("r%d" % n for n in range(20)))
            self.assertTrue(all(row["STATUS"].startswith("Up ") for row in rows), rows)
            for n in range(20):
                self.assert_out(self.home.run("exec", "r%d" % n, "hostname"), boxes[n][:12] + "\n")
        finally:
            self.home.ok("rm", "-f", *["r%d" % n for n in range(20)], timeout=300)
        self.assertEqual(self.home.boxes(), [])
