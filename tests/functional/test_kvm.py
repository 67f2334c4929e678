"""Our own monitor: what only it has. Skipped, and counted, on hosts whose KVM is not usable; `make test-kvm` brings one."""

import hashlib
import os
import re
import subprocess
import unittest

from a3s import BoxTest, slow, wait_for

# What the guest may cost from spawn to the workload's first byte, and what a box may cost beyond its guest.
EXITS_MAX = 1000
PRIVATE_MAX_KIB = 6 * 1024


def proc_fields(path):
    with open(path, encoding="ascii", errors="replace") as f:
        return dict(line.rstrip("\n").split(":", 1) for line in f if ":" in line)


class KvmTest(BoxTest):
    images_wanted = ("box",)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        info = cls.home.ok("info").text
        if not re.search(r"(?m)^Accelerator:\s+kvm$", info):
            cls.tearDownClass()
            raise unittest.SkipTest("KVM is not usable on this host")


class Monitor(KvmTest):
    def start(self, *args, env=None):
        box = self.home.ok("run", "-d", "box", *args, env=env).text.strip()
        (vmm,) = self.home.find_process("a3s-box-vmm", box)
        return box, vmm

    def test_it_is_chosen_and_confined(self):
        box, vmm = self.start("sleep", "1000")
        machine = self.home.inspect(box)["Machine"]
        self.assertEqual((machine["Backend"], machine["Accelerator"]), ("kvm", "kvm"))
        self.assertIs(machine["HardwareIsolation"], True)
        print("# confinement: %s; missing: %s" % (
            " ".join(machine["Confinement"]), machine["ConfinementMissing"] or "nothing"))
        # As the kernel sees it, for every thread.
        threads = os.listdir("/proc/%d/task" % vmm)
        self.assertGreaterEqual(len(threads), 4)  # loop, two processors, a disk queue or more
        for thread in threads:
            status = proc_fields("/proc/%d/task/%s/status" % (vmm, thread))
            self.assertEqual(status["Seccomp"].strip(), "2", status["Name"])
            self.assertEqual(status["NoNewPrivs"].strip(), "1", status["Name"])
            self.assertEqual(int(status["CapEff"], 16), 0, status["Name"])
        # What it could take of the host's memory, if it were the guest's.
        with open("/proc/%d/limits" % vmm, encoding="ascii") as f:
            self.assertRegex(f.read(), r"(?m)^Max address space +\d+ +\d+ +bytes")
        # Nothing named is open but the disks; its root is empty where namespaces were to be had.
        if "mount-namespace" in machine["Confinement"]:
            self.assertEqual(os.listdir("/proc/%d/root" % vmm), [])
        self.home.ok("rm", "-f", box)

    def test_few_exits_and_little_memory(self):
        box, _ = self.start("sh", "-c", "echo first; sleep 1000", env={"A3S_LOG": "debug"})
        log = self.home.path / "boxes" / box / "supervisor.log"
        text = wait_for("the figures", lambda: (lambda t: "set-up" in t and t)(log.read_text()))
        exits = int(re.search(r"exits (\d+)", text).group(1))
        for line in re.findall(r"machine: (.*)", text):
            print("# " + line)
        self.assertLess(exits, EXITS_MAX)
        (shim,) = self.home.find_process("a3s-box-shim", box)
        monitor = int(re.search(r"(\d+) KiB private", text).group(1))
        supervisor = int(proc_fields("/proc/%d/status" % shim)["RssAnon"].split()[0])
        self.assertGreater(monitor, 0)
        print("# private memory: monitor %d KiB, supervisor %d KiB" % (monitor, supervisor))
        self.assertLess(monitor + supervisor, PRIVATE_MAX_KIB)
        self.home.ok("rm", "-f", box)

    def test_4_processors_busy(self):
        script = (
            "nproc; for i in 1 2 3 4; do (n=0; while [ $n -lt 20000 ]; do n=$((n+1)); done; echo done) & done; wait; "
            "grep -E '^cpu[0-9]' /proc/stat | while read c u n s rest; do [ $((u + n + s)) -gt 0 ] && echo busy; done")
        result = self.home.ok("run", "--rm", "--cpus", "4", "box", "sh", "-c", script)
        self.assertEqual(result.lines, ["4"] + ["done"] * 4 + ["busy"] * 4, result)

    def test_processors_and_memory_as_asked(self):
        for cpus, mem in ((1, "128m"), (3, "512m"), (2, "4g")):
            with self.subTest(cpus=cpus, mem=mem):
                result = self.home.ok("run", "--rm", "--cpus", cpus, "-m", mem, "box", "sh", "-c",
                                      "nproc; grep MemTotal /proc/meminfo")
                lines = result.lines
                self.assertEqual(lines[0], str(cpus), result)
                total = int(lines[1].split()[1]) * 1024
                wanted = int(mem[:-1]) << (30 if mem[-1] == "g" else 20)
                self.assertGreater(total, wanted * 0.85, result)
                self.assertLessEqual(total, wanted, result)

    def test_memory_comes_back_to_the_host(self):
        """Free page reporting: what the guest used and freed is not the monitor's for long."""
        box, vmm = self.start("sleep", "1000")

        def resident_kib():
            return int(proc_fields("/proc/%d/status" % vmm)["VmRSS"].split()[0])

        before = resident_kib()
        self.home.ok("exec", box, "sh", "-c", "dd if=/dev/zero of=/dev/shm/big bs=1M count=48 2>/dev/null; true")
        filled = resident_kib()
        self.assertGreater(filled, before + 40 * 1024)
        self.home.ok("exec", box, "rm", "/dev/shm/big")
        wait_for("the memory to come back", lambda: resident_kib() < filled - 24 * 1024, 60)
        self.home.ok("rm", "-f", box)

    @slow(400)
    def test_10_at_once(self):
        commands = [self.home.popen("run", "--rm", "box", "sh", "-c", "echo box %d; sleep 1" % n) for n in range(10)]
        for n, p in enumerate(commands):
            out, err = p.communicate(timeout=300)
            self.assertEqual((p.returncode, out), (0, b"box %d\n" % n), err)

    @slow(400)
    def test_64_mib_through_standard_input(self):
        chunk = os.urandom(1 << 20)
        p = self.home.popen("run", "--rm", "-i", "box", "sha256sum", stdin=subprocess.PIPE)
        h = hashlib.sha256()
        for _ in range(64):
            p.stdin.write(chunk)
            h.update(chunk)
        p.stdin.close()
        out = p.stdout.read()
        self.assertEqual(p.wait(300), 0, p.stderr.read())
        p.stdout.close()
        p.stderr.close()
        self.assertEqual(out.split()[0].decode(), h.hexdigest())
