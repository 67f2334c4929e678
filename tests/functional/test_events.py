"""Events: recorded as they happen, streamed at once, each one once."""

import contextlib
import json
import os
import signal
import sqlite3
import threading
import time

from a3s import BoxTest, core, wait_for


class Events(BoxTest):
    def setUp(self):
        super().setUp()
        self.since = "%.6f" % time.time()

    def history(self, *args, since=None):
        return [json.loads(line) for line in
                self.home.ok("events", "--since", since or self.since, "--until", "0s", "--json", *args).lines]

    @core
    def test_history_and_filters(self):
        box = self.home.ok("create", "--name", "ev", "-l", "color=red", "box", "true").text.strip()
        self.home.ok("rename", "ev", "ev2")
        self.home.ok("rm", "ev2")
        seen = self.history()
        self.assertEqual([(e["Type"], e["Action"]) for e in seen],
                         [("container", "create"), ("container", "rename"), ("container", "destroy")])
        created = seen[0]
        self.assertEqual((created["status"], created["id"], created["from"], created["scope"]), ("create", box, "box", "local"))
        self.assertEqual(created["Actor"]["ID"], box)
        self.assertEqual({k: created["Actor"]["Attributes"][k] for k in ("image", "name", "color")},
                         {"image": "box", "name": "ev", "color": "red"})
        self.assertEqual(created["timeNano"] // 10**9, created["time"])
        for args, want in [(["type=image"], []), (["type=container"], ["create", "rename", "destroy"]),
                           (["event=create"], ["create"]), (["event=create", "event=destroy"], ["create", "destroy"]),
                           (["container=" + box[:12]], ["create", "rename", "destroy"]), (["box=nosuch"], []),
                           (["label=color=red"], ["create", "rename", "destroy"]), (["label=color=blue"], []),
                           (["image=box", "type=container"], ["create", "rename", "destroy"])]:
            flags = [x for a in args for x in ("--filter", a)]
            self.assertEqual([e["Action"] for e in self.history(*flags)], want, args)
        (load,) = self.history("-f", "image=box", "-f", "event=load", since="1h")[-1:]
        self.assertEqual((load["Action"], load["Actor"]["Attributes"]), ("load", {"name": "box:latest"}))
        text = self.home.ok("events", "--since", self.since, "--until", "0s", "-f", "event=create").text
        self.assertRegex(text, r"\A\d{4}-\d\d-\d\dT[0-9:.]+Z container create %s \(color=red, image=box, name=ev\)\n\Z" % box)
        self.assert_out(self.home.run("events", "--since", self.since, "--until", "0s", "-f", "event=create", "--format",
                                      "{{.Type}} {{.Action}} {{.Actor.Attributes.name}} {{.From}}"), "container create ev box\n")
        both = self.home.ok("events", "--since", self.since, "--until", "0s", "-f", "event=create", "--format",
                            "{{.ID}} {{.Type}} {{json .}}").text.split(" ", 2)
        self.assertEqual((both[0], both[1], json.loads(both[2])), (box, "container", created))
        for bad in (["--since", "x"], ["--filter", "x=y"], ["--filter", "x"], ["--format", "{{"], ["more"],
                    ["--format", "{{.Nope}}"]):
            self.assert_one_line(self.home.run("events", *bad), 1)

    def test_images(self):
        (load,) = self.history("-f", "type=image", since="1h")[-1:]
        self.home.ok("rmi", "box")
        self.home.load(self.image_file("box"))
        self.assertEqual([(e["Action"], e["id"], e["Actor"]["Attributes"]["name"]) for e in self.history()],
                         [("untag", load["id"], "box:latest"), ("delete", load["id"], load["id"]),
                          ("load", load["id"], "box:latest")])

    @contextlib.contextmanager
    def follower(self, *args):
        """Follows with these arguments, and does so when the block begins."""
        with self.home.popen("events", "--json", "--since", self.since, *args) as p:
            try:
                wait_for("the follower to watch", lambda: "inotify" in self.descriptors(p.pid))
                yield p
            finally:
                p.kill()

    @staticmethod
    def descriptors(pid):
        names = []
        for fd in os.listdir("/proc/%d/fd" % pid):
            with contextlib.suppress(OSError):
                names.append(os.readlink("/proc/%d/fd/%s" % (pid, fd)))
        return " ".join(names)

    def test_a_run_from_create_to_destroy(self):
        with self.follower("--filter", "type=container") as p:
            box = self.home.run_detached("--rm", "box", "sh", "-c", "exit 3")
            actions = []
            while "destroy" not in actions:
                e = json.loads(p.stdout.readline())
                self.assertEqual(e["Actor"]["ID"], box)
                actions.append(e["Action"])
                if e["Action"] == "die":
                    self.assertEqual(e["Actor"]["Attributes"]["exitCode"], "3")
        self.assertEqual(actions, ["create", "start", "die", "destroy"])

    def test_none_is_missed_or_repeated(self):
        """Several writers at once, as fast as they can, and a follower from before to after."""
        writers, each = 4, 250

        def write(who):
            db = sqlite3.connect(self.home.path / "state.db", timeout=60)
            for n in range(each):
                with db:
                    db.execute("BEGIN IMMEDIATE")
                    db.execute("INSERT INTO events(time,type,action,actor,attrs) VALUES(?,'test',?,?,x'')",
                               (time.time_ns(), str(n), str(who)))
            db.close()

        threads = [threading.Thread(target=write, args=(who,)) for who in range(writers)]
        seen = {str(who): [] for who in range(writers)}
        with self.follower("--filter", "type=test") as p:
            for t in threads:
                t.start()
            for _ in range(writers * each):
                e = json.loads(p.stdout.readline())
                seen[e["Actor"]["ID"]].append(int(e["Action"]))
        for t in threads:
            t.join()
        self.assertEqual(seen, {str(who): list(range(each)) for who in range(writers)})
        again = self.home.ok("events", "--since", "1h", "--until", "0s", "-f", "type=test", "--format", "{{.Action}}").lines
        self.assertEqual(len(again), writers * each)

    def test_ends(self):
        """At its time, or when nobody reads on."""
        start = time.monotonic()
        until = "%.3f" % (time.time() + 1.5)
        self.assert_out(self.home.run("events", "--until", until, "-f", "type=none"), "")
        self.assertGreater(time.monotonic() - start, 1)
        p = self.home.popen("events", "-f", "type=none")
        p.stdout.close()
        p.stderr.close()
        self.assertIsNotNone(p.wait(20))
        p = self.home.popen("events")
        time.sleep(0.2)
        p.send_signal(signal.SIGINT)
        self.assertEqual(p.wait(20), -signal.SIGINT)
        p.stdout.close()
        p.stderr.close()
