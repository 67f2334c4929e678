"""What run's, create's and container-update's options do, and what they refuse."""

import json
import os
import re

from a3s import BoxTest, core

DENY_MKDIR = {"defaultAction": "SCMP_ACT_ALLOW",
              "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}]}


class Options(BoxTest):
    def status_fields(self, text):
        return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)

    @core
    def test_they_reach_the_guest(self):
        cid = self.home.tmp / "cid"
        script = ("grep -E '^(Cap|Seccomp|NoNew)' /proc/self/status; cat /etc/hosts /etc/resolv.conf; ulimit -n; "
                  "ulimit -Hn; df /t /dev/shm; cat /proc/sys/net/ipv4/ip_forward /proc/self/oom_score_adj; "
                  "cd /sys/fs/cgroup; cat cpu.max pids.max cpuset.cpus.effective; nproc; hostname; id; echo $A-$B; "
                  "unshare -U true; mkdir /t/dir && echo made")
        env = self.home.tmp / "env"
        env.write_text("# comment\nA=from file\nB=file\n")
        result = self.home.ok(
            "run", "--rm", "--cpus", "1.5", "--cpuset-cpus", "0", "--pids-limit", "40", "--ulimit", "nofile=100:200",
            "--oom-score-adj", "250", "--add-host", "db:10.0.0.9", "--dns", "9.9.9.9", "--dns-search", "x.org",
            "--dns-option", "ndots:2", "--tmpfs", "/t:size=1m,mode=700", "--shm-size", "8m", "--group-add", "1234",
            "--sysctl", "net.ipv4.ip_forward=1", "--cidfile", cid, "-h", "named", "--env-file", env, "-e", "B=option",
            "box", "sh", "-c", script)
        fields = self.status_fields(result.text)
        self.assertEqual(fields["CapBnd"], "00000000a80425fb")
        self.assertEqual(fields["CapEff"], "00000000a80425fb")
        self.assertEqual(fields["CapAmb"], "0" * 16)
        self.assertEqual((fields["Seccomp"], fields["NoNewPrivs"]), ("2", "0"))
        for line in ("10.0.0.9\tdb", "nameserver 10.87.0.1", "search x.org", "options ndots:2", "100", "200", "250",
                     "150000 100000", "40", "named", "from file-option", "made"):
            self.assertIn(line, result.lines)
        self.assertRegex(result.text, r"(?m)^tmpfs +1024 .* /t$")
        self.assertRegex(result.text, r"(?m)^shm +8192 .* /dev/shm$")
        self.assertRegex(result.text, r"groups=.*\b1234\b")
        self.assertIn(b"Operation not permitted", result.err)  # unshare: the seccomp filter
        self.assertRegex(cid.read_text(), "^[0-9a-f]{64}$")
        cid.unlink()
        env.unlink()

    @core
    def test_capabilities_and_filters_of_ones_own(self):
        profile = self.home.tmp / "profile.json"
        profile.write_text(json.dumps(DENY_MKDIR))
        box = self.home.run_detached("--cap-drop", "ALL", "--cap-add", "net_admin", "--security-opt", "no-new-privileges",
                                     "--security-opt", "seccomp=%s" % profile, "box", "sleep", "1000")
        profile.unlink()  # it was read once and for all
        try:
            result = self.home.run("exec", box, "sh", "-c",
                                   "grep -E '^(Cap|Seccomp|NoNew)' /proc/self/status; mkdir /tmp/x; echo $?")
            fields = self.status_fields(result.text)
            self.assertEqual(fields["CapBnd"], "%016x" % (1 << 12))
            self.assertEqual((fields["Seccomp"], fields["NoNewPrivs"]), ("2", "1"))
            self.assertIn(b"Permission denied", result.err)
            self.assertEqual(result.lines[-1], "1")
            self.assertTrue((self.home.path / "boxes" / box / "seccomp.bpf").exists())
        finally:
            self.home.ok("rm", "-f", box)

    def test_privileged(self):
        result = self.home.ok("run", "--rm", "--privileged", "box", "sh", "-c",
                              "grep -E '^(Cap|Seccomp)' /proc/self/status; mount -t tmpfs x /tmp && echo mounted")
        fields = self.status_fields(result.text)
        self.assertEqual((fields["CapEff"], fields["Seccomp"]), ("000001ffffffffff", "0"))
        self.assertIn("mounted", result.lines)

    @core
    def test_what_is_wrong_is_refused_by_name_before_anything_happens(self):
        bad = self.home.tmp / "bad.json"
        bad.write_text('{"defaultAction":"SCMP_ACT_MAYBE"}')
        cases = [
            ("--cpus", "0"), ("--cpus", "many"), ("--cpu-quota", "5"), ("--cpu-period", "5"), ("--cpu-shares", "1"),
            ("--cpuset-cpus", "7"), ("--memory", "1k"), ("--memory-reservation", "9g"), ("--memory-swap", "1m"),
            ("--pids-limit", "x"), ("--ulimit", "files=3"), ("--shm-size", "0"), ("--tmpfs", "x"), ("--sysctl", "x"),
            ("--sysctl", "vm.swappiness=1"), ("--device", "/etc/passwd"), ("--gpus", "all"), ("--cap-add", "NOPE"),
            ("--cap-drop", "NOPE"), ("--security-opt", "seccomp=/nonexistent"), ("--security-opt", "what=x"),
            ("--security-opt", "seccomp=%s" % bad), ("--userns", "x"), ("--group-add", ":"), ("--annotation", "x"),
            ("--label", "=x"), ("--label-file", "/nonexistent"), ("--env-file", "/nonexistent"), ("--env", "=x"),
            ("--add-host", "a:host-gate"), ("--publish", "8080:80/sctp"), ("--publish", "x:80"), ("--network", "host"),
            ("--network", "nosuch"), ("--ip", "10.1.0.2"), ("--mac-address", "02:00:00:00:00:01"), ("--egress-allow", "x:y"),
            ("--network-opt", "x=y"), ("--add-host", "a"), ("--dns", "x"), ("--dns-search", "a b"),
            ("--dns-option", ""), ("--restart", "perhaps"), ("--health-interval", "x"), ("--health-retries", "x"),
            ("--health-cmd=true", "--no-healthcheck"), ("--log-driver", "x"), ("--log-opt", "x=y"),
            ("--stop-signal", "NOPE"), ("--stop-timeout", "x"), ("--timeout", "x"), ("--oom-score-adj", "2000"),
            ("--pull", "maybe"), ("--platform", "plan9/mips"), ("--expose", "x"), ("--accel", "x"),
            ("--detach-keys", "ctrl-ctrl"), ("--hostname", "a_b"), ("--user", ""), ("--cidfile", ""),
        ]
        before = self.home.inventory()
        for flag, value in cases:
            with self.subTest(flag=flag, value=value):
                result = self.home.run("run", flag, value, "box", "true")
                self.assert_one_line(result, 125, re.escape(flag.split("=")[0]))
        self.assert_one_line(self.home.run("run", "--rm", "--restart", "always", "box", "true"), 125, "--rm")
        # known once the image is
        self.assert_one_line(self.home.run("run", "--health-retries", "3", "box", "true"), 125, "--health-retries")
        self.assertEqual(self.home.boxes(), [])
        self.assertEqual(self.home.settle(before), "")
        bad.unlink()

    def test_create_records_them(self):
        labels = self.home.tmp / "labels"
        labels.write_text("from.file=1\nboth=file\n")
        box = self.home.ok("create", "--label-file", labels, "-l", "both=option", "-l", "bare", "--annotation", "a=b",
                           "--health-cmd", "true", "--restart", "on-failure:3", "-e", "X=1", "box", "true").text.strip()
        labels.unlink()
        config = self.home.inspect(box)["Config"]
        self.assertLessEqual({"from.file": "1", "both": "option", "bare": ""}.items(), config["Labels"].items())
        self.assertIn("X=1", config["Env"])
        self.home.ok("rm", box)

    def test_cidfile(self):
        cid = self.home.tmp / "cid"
        box = self.home.ok("create", "--name", "taken", "--cidfile", cid, "box", "true").text.strip()
        self.assertEqual(cid.read_text(), box)
        self.assert_one_line(self.home.run("create", "--cidfile", cid, "box", "true"), 125, "--cidfile .*exists")
        self.assertEqual(cid.read_text(), box)
        other = self.home.tmp / "other"
        self.assert_one_line(self.home.run("create", "--name", "taken", "--cidfile", other, "box", "true"), 125)
        self.assertFalse(other.exists())
        self.assert_one_line(self.home.run("create", "--cidfile", "/nonexistent/cid", "box", "true"), 125, "--cidfile")
        self.assertEqual(self.home.boxes(), [box])
        cid.unlink()
        self.home.ok("rm", box)

    def test_options_can_be_listed(self):
        for command in ("run", "create", "container-update", "start", "ps"):
            lines = self.home.ok(command, "--help=options").lines
            self.assertTrue(lines)
            for line in lines:
                letter, name, _, text = line.split("\t")
                self.assertLessEqual(len(letter), 1)
                self.assertTrue(name and text, line)
        text = self.home.ok("run", "--help").text
        self.assertIn("\nSecurity:\n", text)
        self.assertIn("--cap-add NAME", text)


class Update(BoxTest):
    @core
    def test_live(self):
        box = self.home.run_detached("--name", "changing", "-m", "256m", "box", "sleep", "1000")

        def limits():
            return self.home.ok("exec", box, "sh", "-c",
                                "cd /sys/fs/cgroup; cat cpu.max memory.max pids.max").text.split()

        try:
            self.assert_out(self.home.run("container-update", "--cpus", ".5", "-m", "200m", "--pids-limit", "33",
                                          "--restart", "on-failure:2", "changing"), "changing\n")
            self.assertEqual(limits(), ["50000", "100000", str(200 << 20), "33"])
            self.home.ok("container-update", "-m", "256m", "--cpus", "2", "--pids-limit", "-1", box)
            wide = limits()
            self.assertEqual(wide[0], "max")
            self.assertGreater(int(wide[3]), 1000)  # but for what the kernel can make, less a reserve
            self.assertGreater(int(wide[2]), 200 << 20)  # what the kernel left of the machine's memory
            self.assert_one_line(self.home.run("container-update", "-m", "1g", box), 1, "--memory 1g.*256m")
            self.assert_one_line(self.home.run("container-update", "--cpus", "99", box), 1, "--cpus 99")
            self.assert_one_line(self.home.run("container-update", box), 1)
            self.assert_one_line(self.home.run("container-update", "--pids-limit", "5", "nosuch"), 1, "nosuch")
            self.assertEqual(limits(), wide)
            result = self.home.ok("container-update", "--cpus", "3", box)
            self.assertIn(b"has 2 CPUs until it is started again, then 3", result.err)
        finally:
            self.home.ok("rm", "-f", box)

    def test_one_that_does_not_run(self):
        box = self.home.ok("create", "-m", "128m", "box", "cat", "/sys/fs/cgroup/pids.max").text.strip()
        self.home.ok("container-update", "--pids-limit", "21", box)
        result = self.home.run("start", "-a", box)
        self.assert_out(result, "21\n")
        self.assertFalse(os.path.exists(self.home.path / "boxes" / box / "seccomp.bpf"))
        self.home.ok("rm", box)
