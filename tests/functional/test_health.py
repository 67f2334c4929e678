"""Health checks: what the probes see, and what follows from it."""

import json
import time

from a3s import BoxTest, core, wait_for


class Health(BoxTest):
    def start(self, *args, script="sleep 100000"):
        return self.home.run_detached("--name", "h", *args, "box", "sh", "-c", script)

    def state(self, box):
        path = self.home.path / "boxes" / box / "health.json"
        return json.loads(path.read_text()) if path.exists() else {"Status": "none", "FailingStreak": 0, "Log": []}

    def wait_health(self, box, status):
        wait_for("(%s) in ps" % status, lambda: "(%s)" % status in self.home.ok("ps").text, 60)
        return self.state(box)

    @core
    def test_from_starting_to_healthy_to_unhealthy_and_back(self):
        check = "echo probed by $(id -un) in $PWD; cat /tmp/ok && echo fine >&2"
        box = self.start("--health-cmd", check, "-u", "app", "-w", "/work", "--health-interval", "300ms",
                         "--health-retries", "2", "--health-timeout", "60s")
        state = self.wait_health(box, "unhealthy")  # without /tmp/ok
        self.assertGreaterEqual(state["FailingStreak"], 2)
        self.assertEqual(state["Log"][-1]["ExitCode"], 1)
        self.assertIn("probed by app in /work\n", state["Log"][-1]["Output"])
        self.assertRegex(state["Log"][-1]["Start"], r"^\d{4}-\d\d-\d\dT.*Z$")
        self.assertLess(state["Log"][-1]["Start"], state["Log"][-1]["End"])
        self.home.ok("exec", "h", "sh", "-c", "echo yes > /tmp/ok")
        state = self.wait_health(box, "healthy")
        self.assertEqual(state["FailingStreak"], 0)
        self.assertEqual((state["Log"][-1]["ExitCode"], state["Log"][-1]["Output"]), (0, "probed by app in /work\nyes\nfine\n"))
        wait_for("five probes", lambda: len(self.state(box)["Log"]) == 5)
        health = self.home.inspect("h")["State"]["Health"]
        self.assertEqual(health["Status"], "healthy")
        self.assertEqual(sorted(health), ["FailingStreak", "Log", "Status"])
        self.assertEqual(len(health["Log"]), 5)

        self.home.ok("pause", "h")  # no probe sees a machine that stands still
        last = self.state(box)["Log"][-1]
        time.sleep(1)  # three intervals
        self.assertEqual(self.state(box)["Log"][-1], last)
        self.home.ok("unpause", "h")
        wait_for("the next probe", lambda: self.state(box)["Log"][-1] != last)
        self.assertEqual(self.state(box)["Status"], "healthy")

        self.home.ok("exec", "h", "rm", "/tmp/ok")
        self.wait_health(box, "unhealthy")
        self.assertEqual(self.home.status("h"), "running")  # no policy wants it restarted
        events = self.home.ok("events", "--since", "1h", "--until", "0s", "--filter", "container=" + box).text
        self.assertEqual(events.count("health_status: unhealthy"), 2)
        self.assertEqual(events.count("health_status: healthy"), 1)
        self.home.ok("rm", "-f", "h")

    def test_a_probe_that_takes_too_long_is_killed(self):
        box = self.start("--health-cmd", "echo begun; sleep 1000; echo ended", "--health-interval", "500ms",
                         "--health-timeout", "1s", "--health-retries", "1")
        state = self.wait_health(box, "unhealthy")
        self.assertEqual(state["Log"][0]["ExitCode"], -1)
        self.assertEqual(state["Log"][0]["Output"], "Health check exceeded timeout (1s): begun\n")
        # Its shell and what that started are gone; at most those of the next probe are there.
        result = self.home.ok("exec", "h", "sh", "-c", "cat /proc/[0-9]*/comm | grep -c sleep")
        self.assertLessEqual(int(result.text), 2, result)
        self.home.ok("rm", "-f", "h")

    def test_output_is_bounded_and_the_start_period_forgives(self):
        box = self.start("--health-cmd", "head -c 500000 /dev/zero | tr '\\000' y; exit 3", "--health-interval", "300ms",
                         "--health-timeout", "60s", "--health-start-period", "1h", "--health-start-interval", "300ms")
        entry = wait_for("a probe", lambda: self.state(box)["Log"], 60)[0]
        self.assertEqual((entry["ExitCode"], entry["Output"]), (3, "y" * 4096 + "..."))
        wait_for("more probes", lambda: len(self.state(box)["Log"]) >= 4, 60)
        self.assertEqual((self.state(box)["Status"], self.state(box)["FailingStreak"]), ("starting", 0))  # start period
        self.assertIn("(health: starting)", self.home.ok("ps").text)
        self.assertLess(self.home.ok("stop", "-t", "10", "h").seconds, 60)
        self.home.ok("rm", "h")

    def test_an_unhealthy_box_is_restarted_where_its_policy_says_so(self):
        box = self.start("--restart", "on-failure", "--health-cmd", "test $(wc -l < /work/runs) -gt 1",
                         "--health-interval", "500ms",
                         "--health-retries", "1", "--health-timeout", "60s", script="echo x >> /work/runs; exec sleep 100000")
        self.wait_health(box, "healthy")
        self.assert_out(self.home.run("exec", "h", "wc", "-l", "/work/runs"), "2 /work/runs\n")
        self.assertEqual(self.home.inspect("h")["RestartCount"], 1)
        self.home.ok("rm", "-f", "h")

    def test_without_a_check_there_is_none(self):
        box = self.start("--no-healthcheck")
        self.assertFalse((self.home.path / "boxes" / box / "health.json").exists())
        self.assertNotIn("Health", self.home.inspect("h")["State"])
        self.home.ok("rm", "-f", "h")
