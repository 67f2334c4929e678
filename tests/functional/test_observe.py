"""What a user sees: ps, inspect, df, port, info and version, templates, and the audit log."""

import json
import os
import re
import resource
import sqlite3

from a3s import BoxTest, core, wait_for


def du(path):
    """Allocated bytes of a tree, as du -B1 counts them."""
    total = os.lstat(path).st_blocks * 512
    for top, folders, files in os.walk(path):
        total += sum(os.lstat(os.path.join(top, name)).st_blocks * 512 for name in folders + files)
    return total


class Created(BoxTest):
    """Boxes that never run: what is shown of them needs no machine."""

    @classmethod
    def prepare(cls):
        home = cls.home
        cls.one = home.ok("create", "--name", "one", "-l", "color=red", "-l", "com.example.some-name=x y", "-e", "A=b",
                          "-m", "256m", "--restart", "on-failure:3", "--ulimit", "nofile=10:20", "--cap-add", "SYS_TIME",
                          "--tmpfs", "/t:size=1m", "--expose", "80", "box", "sleep", "1000").text.strip()
        cls.two = home.ok("create", "--name", "two", "-l", "color=blue", "--health-cmd", "true",
                          "box", "true").text.strip()

    def names(self, *args):
        return sorted(self.home.ok("ps", "--format", "{{.Names}}", *args).text.split())

    def test_ps_filters(self):
        for args, want in [
                (["-a"], ["one", "two"]), ([], []), (["-l"], ["two"]), (["-n", "1"], ["two"]), (["-n", "9"], ["one", "two"]),
                (["-af", "name=on"], ["one"]), (["-af", "name=^/two$"], ["two"]), (["-af", "name=o"], ["one", "two"]),
                (["-af", "label=color"], ["one", "two"]), (["-af", "label=color=red"], ["one"]),
                (["-af", "label=color=red", "-f", "label=color=blue"], []), (["-f", "status=created"], ["one", "two"]),
                (["-af", "status=running"], []), (["-af", "id=" + self.one[:12]], ["one"]), (["-af", "exited=0"], []),
                (["-af", "before=two"], ["one"]), (["-af", "since=one"], ["two"]), (["-af", "ancestor=box"], ["one", "two"]),
                (["-af", "ancestor=other"], []), (["-af", "health=none"], ["one", "two"]),
                (["-af", "network=bridge"], ["one", "two"]), (["-af", "network=x"], []), (["-af", "publish=80"], []),
                (["-af", "volume=x"], []),
                (["-af", "name=one", "-f", "name=two"], ["one", "two"]), (["-af", "name=one", "-f", "label=color=blue"], [])]:
            self.assertEqual(self.names(*args), want, args)
        for bad, says in [("name=(", "regular"), ("nosuch=1", "ancestor, before"), ("status=up", "created"),
                          ("publish=x", "PORT"), ("expose=0", "PORT"), ("exited=x", "exit code"), ("health=ok", "healthy"),
                          ("before=nosuch", "no such box"), ("name", "KEY=VALUE")]:
            self.assert_one_line(self.home.run("ps", "-af", bad), 1, says)
        self.assert_one_line(self.home.run("ps", "-n", "x"), 1, "--last x")

    @core
    def test_ps_formats(self):
        self.assert_out(self.home.run("ps", "-aq", "--no-trunc"), "%s\n%s\n" % (self.two, self.one))
        text = self.home.ok("ps", "-a", "--format", r'table {{.Names}}\t{{upper .State}}\t{{.Label "color"}}\t'
                                                    r'{{.Label "com.example.some-name"}}').lines
        self.assertEqual([re.split("   +", line.strip()) for line in text],
                         [["NAMES", "STATE", "color", "some name"], ["two", "CREATED", "blue"],
                          ["one", "CREATED", "red", "x y"]])
        for form, want in (("table{{lower .Names}}", "NAMES two one"), ("table  {{json .Names}}", 'NAMES "two" "one"'),
                           (r'table{{index (split .Names ",") 0}}', "NAMES two one")):
            self.assertEqual(self.home.ok("ps", "-a", "--format", form).text.split(), want.split())
        rows = [json.loads(line) for line in self.home.ok("ps", "-a", "--format", "{{json .}}").lines]
        self.assertEqual(rows, [json.loads(line) for line in self.home.ok("ps", "-a", "--format", "json").lines])
        self.assertEqual(set(rows[0]), set("ID Image Command CreatedAt RunningFor Ports State Status Size Names Labels Mounts "
                                           "Networks LocalVolumes".split()))
        self.assertEqual(rows[1]["ID"], self.one[:12])
        self.assertEqual(rows[1]["Labels"], "color=red,com.example.some-name=x y")
        self.assertIn("SIZE", self.home.ok("ps", "-as").lines[0])
        quiet = self.home.ok("ps", "-aq", "--format", "{{.Names}}")
        self.assertEqual(quiet.text.split(), [self.two[:12], self.one[:12]])
        self.assertIn(b"--format is ignored", quiet.err)
        for bad, says in [("{{.Nope}}", 'no field "Nope"'), ("{{", "template"), ("xml", "expected table, json"),
                          ("{{nope .ID}}", "no such function")]:
            self.assert_one_line(self.home.run("ps", "-a", "--format", bad), 1, says)
            self.assert_one_line(self.home.run("images", "--format", bad), 1, says)

    def test_inspect(self):
        one = self.home.inspect("one")
        host = one["HostConfig"]
        self.assertEqual((host["Memory"], host["RestartPolicy"], host["CapAdd"], host["Tmpfs"]),
                         (256 << 20, {"Name": "on-failure", "MaximumRetryCount": 3}, ["SYS_TIME"], {"/t": "size=1m"}))
        self.assertEqual(host["Ulimits"], [{"Name": "nofile", "Hard": 20, "Soft": 10}])
        self.assertEqual((one["Config"]["ExposedPorts"], one["State"]["Pid"], one["Mounts"]), ({"80/tcp": {}}, 0, []))
        self.assertEqual(self.home.inspect("two")["Config"]["Healthcheck"]["Test"], ["CMD-SHELL", "true"])
        self.assertEqual(one["Config"]["StopSignal"], "SIGTERM")
        for given, shown in (("9", "SIGKILL"), ("rtmin+3", "SIGRTMIN+3")):
            self.home.ok("create", "--name", "signal", "--stop-signal", given, "box", "--", "echo", "--", "x")
            config = self.home.inspect("signal")["Config"]
            self.assertEqual((config["StopSignal"], config["Cmd"]), (shown, ["echo", "--", "x"]))
            self.home.ok("rm", "signal")
        form = "{{.Name}}|{{.State.Status}}|{{if .State.Health}}{{.State.Health.Status}}{{end}}|" \
               "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}|{{json .Config.Cmd}}|{{index .Config.Labels \"color\"}}"
        result = self.home.run("inspect", "-f", form, "one", "nosuch", "two")
        self.assert_rc(result, 1)
        self.assertEqual(result.lines, ["one|created||color=red;com.example.some-name=x y;|[\"sleep\",\"1000\"]|red",
                                        "two|created|none|color=blue;|[\"true\"]|blue"])
        self.assertEqual(result.err, b"a3s-box: inspect: no such box, image, network, volume or snapshot: nosuch\n")
        both = self.home.run("inspect", "one", "nosuch", "box")
        self.assertEqual((both.rc, [x["Id"][:8] for x in json.loads(both.out)]),
                         (1, [self.one[:8], self.home.inspect("box")["Id"][:8]]))
        self.assert_rc(self.home.run("inspect", "--type", "image", "one"), 1)
        self.assert_rc(self.home.run("inspect", "--type", "container", "box"), 1)
        self.assertIn("SizeRw", json.loads(self.home.ok("inspect", "-s", "--type", "container", "one").out)[0])
        self.assert_one_line(self.home.run("inspect", "--type", "plugin", "one"), 1, "--type plugin")
        self.assert_one_line(self.home.run("inspect", "-f", "{{.State.Nope}}", "one"), 1, "Nope")

    def test_df(self):
        def rows():
            text = self.home.ok("df", "--format", "{{.Type}}|{{.TotalCount}}|{{.Active}}|{{.Size}}|{{.Reclaimable}}")
            return {line.split("|")[0]: line.split("|")[1:] for line in text.lines}

        def size(text):
            value, unit = re.match(r"([0-9.]+)([kMGT]?)B", text).groups()
            return float(value) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[unit]

        # Something of a size that is neither blocks nor sparse nothing: what df adds up must be what du does.
        scratch = self.home.path / "boxes" / self.one / "scratch.img"
        with open(scratch, "wb") as f:
            f.write(b"x" * 300001)
            f.truncate(1 << 30)
        seen = rows()
        self.assertEqual(seen["Images"][:2], ["1", "1"])
        self.assertEqual(seen["Boxes"][:2], ["2", "0"])
        self.assertEqual(seen["Local Volumes"], ["0", "0", "0B", "0B"])
        boxes = sum(du(self.home.path / "boxes" / b) for b in (self.one, self.two))
        for kind, bytes_used in (("Images", du(self.home.path / "images")), ("Boxes", boxes)):
            self.assertAlmostEqual(size(seen[kind][2]), bytes_used, delta=bytes_used * 0.005)
        # To the byte, where the byte is shown.
        self.assertEqual(json.loads(self.home.ok("inspect", "-s", "one").out)[0]["SizeRw"], os.stat(scratch).st_blocks * 512)
        os.unlink(scratch)
        verbose = self.home.ok("df", "-v").text
        self.assertIn("SHARED SIZE", verbose)
        self.assertIn("two", verbose)

    def test_port_info_version(self):
        self.assert_out(self.home.run("port", "one"), "")
        self.assert_one_line(self.home.run("port", "one", "80"), 1, "no public port")
        self.assert_one_line(self.home.run("port", "one", "x"), 1, "expected a port")
        self.assert_one_line(self.home.run("port", "nosuch"), 1, "no such box")
        version = json.loads(self.home.ok("version", "--format", "json").out)["Version"]
        self.assert_out(self.home.run("version", "--format", "{{.Client.Version}}/{{.Version}}"), "%s/%s\n" % (version, version))
        self.assert_out(self.home.run("info", "-f", "{{.Boxes}} {{.Images}}"), "2 1\n")
        self.assert_one_line(self.home.run("info", "-f", "{{.Nope}}"), 1, "Nope")

    def test_ps_of_a_thousand(self):
        """The bound is for processor time on a busy machine; it is some 15 ms on an idle one."""
        db = sqlite3.connect(self.home.path / "state.db", timeout=30)
        with db:
            names = [r[1] for r in db.execute("PRAGMA table_info(boxes)")]
            row = list(db.execute("SELECT * FROM boxes WHERE name='one'").fetchone())
            for i in range(1000):
                row[names.index("id")], row[names.index("name")] = "%064x" % (i + (1 << 200)), "many%d" % i
                db.execute("INSERT INTO boxes VALUES(%s)" % ",".join("?" * len(row)), row)
        try:
            best = 1e9
            for _ in range(5):
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                self.assertEqual(len(self.home.ok("ps", "-a").lines), 1003)
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
                self.home.transcript.clear()
            if not os.environ.get("A3S_TEST_REPORTS"):  # sanitizers cost several times as much
                self.assertLess(best, 0.1)
        finally:
            with db:
                db.execute("DELETE FROM boxes WHERE name LIKE 'many%'")
            db.close()


class Audit(BoxTest):
    def entries(self, *args):
        return [json.loads(line) for line in self.home.ok("audit", "--json", *args).lines]

    @core
    def test_who_did_what(self):
        self.assertEqual([e["command"] for e in self.entries("--action", "load")], ["load"])
        self.assertRegex(self.entries("--action", "load")[0]["images"][0], "^sha256:")
        before = len(self.entries())
        box = self.home.ok("create", "--name", "a1", "-e", "KEY=hunter2", "--env=X=hunter2", "box", "sh", "-c",
                           "exit 3").text.strip()
        self.home.ok("ps", "-a")
        self.home.ok("rm", "--help")
        self.assert_rc(self.home.run("rm", "nosuch"), 1)
        self.assert_rc(self.home.run("start", "-a", "a1"), 3)
        self.home.ok("rename", "a1", "a2")
        self.home.ok("rm", "a2")
        entries = self.entries()[before - 1:]
        self.assertEqual([(e["command"], e["outcome"]) for e in entries[1:]],
                         [("create", "success"), ("rm", "failure"), ("start", "success"), ("rename", "success"),
                          ("rm", "success")])
        self.assertNotIn("hunter2", json.dumps(entries))
        self.assertEqual(entries[1]["args"][:5], ["--name", "a1", "-e", "KEY=***", "--env=X=***"])
        self.assertEqual(entries[1]["boxes"], [{"id": box, "name": "a1"}])
        self.assertEqual(entries[1]["user"]["uid"], os.getuid() if self.home.uid is None else self.home.uid)
        self.assertEqual((entries[2]["status"], entries[2]["error"]), (1, "rm: no such box: nosuch"))
        self.assertIs(entries[3]["status"], None)  # written when it had started
        self.assertEqual(len(self.entries("--box", box[:12])), 4)
        self.assertEqual(len(self.entries("--box", "a2")), 1)
        self.assertEqual(len(self.entries("--action", "rm", "--box", "nosuch")), 1)
        self.assertEqual(self.entries("--outcome", "failure", "--action", "start"), [])
        self.assertEqual(len(self.entries("--since", "1h", "-n", "2")), 2)
        self.assertEqual(self.entries("--since", "2100-01-01"), [])
        self.assertIn("no such box", self.home.ok("audit", "-n", "5").text)
        for args in (["--outcome", "x"], ["-n", "0"], ["--since", "x"], ["more"]):
            self.assert_one_line(self.home.run("audit", *args), 1)

    def test_what_is_killed_half_way_has_an_entry(self):
        """A start that waits for somebody who works on the box."""
        box = self.home.ok("create", "--name", "k", "box", "true").text.strip()
        begun = self.home.path / "audit" / "begun"
        with self.home.locked(box):
            p = self.home.popen("start", "k")
            wait_for("the box to be found", lambda: any(box.encode() in f.read_bytes() for f in begun.iterdir()))
            p.kill()
            p.communicate()
        entry = self.entries("-n", "1")[0]
        self.assertEqual((entry["command"], entry["outcome"], entry["status"], entry["args"], entry["boxes"]),
                         ("start", "interrupted", None, ["k"], [{"id": box, "name": "k"}]))
        self.assertEqual(list(begun.iterdir()), [])
        self.home.ok("rm", "k")
        self.assertEqual([e["command"] for e in self.entries("-n", "2")], ["start", "rm"])

    def test_hostile_and_torn(self):
        self.assert_rc(self.home.run("rm", "a\x1b[2J\nb", "é"), 1)
        self.assertEqual(self.entries("-n", "1")[0]["args"], ["a\\x1b[2J\\x0ab", "é"])
        with open(self.home.path / "audit" / "audit.log", "ab") as f:
            f.write(b'{"time":"2024')
        self.assert_rc(self.home.run("rm", "after"), 1)
        self.assertEqual([e["args"] for e in self.entries("-n", "2")], [["a\\x1b[2J\\x0ab", "é"], ["after"]])

    def test_no_command_fails_for_it(self):
        box = self.home.ok("create", "box").text.strip()
        log = self.home.path / "audit" / "audit.log"
        os.rename(log, str(log) + ".away")
        os.mkdir(log)
        try:
            result = self.home.ok("rm", box)
            self.assertEqual(result.text, box + "\n")
            self.assertRegex(result.err, rb"\Aa3s-box: warning: audit log: [^\n]*\n\Z")
        finally:
            os.rmdir(log)
            os.rename(str(log) + ".away", log)
