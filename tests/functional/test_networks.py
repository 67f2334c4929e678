"""Networks: their records and commands. What goes over them is the matter of test_network."""

import json
import os
import re
import signal
import socket
import sqlite3
import textwrap
import threading
import time

from a3s import ROOT, BoxTest, core, wait_for


class Networks(BoxTest):
    def setUp(self):
        super().setUp()
        self.since = "%.6f" % time.time()

    def tearDown(self):
        for line in self.home.ok("network", "ls", "--filter", "type=custom", "--format", "{{.Name}}").lines:
            self.home.run("network", "rm", line)
        super().tearDown()

    def create(self, *args, **options):
        result = self.home.ok("network", "create", *args, **options)
        self.assertRegex(result.text, r"\A[0-9a-f]{64}\n\Z")
        return result.text.strip()

    def net(self, name):
        (value,) = json.loads(self.home.ok("network", "inspect", name).out)
        return value

    def names(self, *filters):
        flags = [x for f in filters for x in ("--filter", f)]
        return self.home.ok("network", "ls", "--format", "{{.Name}}", *flags).lines

    def events(self):
        lines = self.home.ok("events", "--since", self.since, "--until", "0s", "--json", "-f", "type=network").lines
        return [json.loads(line) for line in lines]

    @core
    def test_a_network_and_a_box_on_it(self):
        shop = self.create("--label", "tier=1", "shop")
        box = self.home.ok("create", "--name", "web", "--network", "shop", "box").text.strip()
        n = self.net("shop")
        self.assertEqual((n["Id"], n["Name"], n["Driver"], n["Scope"], n["Internal"], n["EnableIPv6"], n["Labels"], n["Options"]),
                         (shop, "shop", "bridge", "local", False, True, {"tier": "1"}, {}))
        self.assertEqual((n["Isolation"], n["Policy"], n["Counters"]), ("none", None, None))
        four, six = n["IPAM"]["Config"]
        self.assertRegex(four["Subnet"], r"\A10\.(8[89]|9[0-5])\.\d+\.0/24\Z|\A172\.")
        self.assertRegex(six["Subnet"], r"\Afda3:5b0c:[0-9a-f:]+::/64\Z")
        member = n["Containers"][box]
        self.assertEqual((member["Name"], member["IPv4Address"], member["IPv6Address"]),
                         ("web", four["Subnet"].replace(".0/", ".2/"), six["Subnet"].replace("::/", "::2/")))
        self.assertEqual(member["MacAddress"], "02:" + ":".join(re.findall("..", box[:10])))
        self.assertEqual(self.home.ok("inspect", "--type", "network", shop[:12]).out, self.home.ok("inspect", "shop").out)
        self.assert_one_line(self.home.run("network", "rm", "shop"), 1, r"in use by 1 box \(web: disconnect or remove")

        # A second network, with what is asked for; and what is not to be had changes nothing.
        self.create("--subnet", "10.99.7.0/29", "--gateway", "10.99.7.6", "--ipv6=false", "--internal", "back")
        back = self.net("back")
        self.assertEqual((back["IPAM"]["Config"], back["Internal"], back["EnableIPv6"]),
                         ([{"Subnet": "10.99.7.0/29", "Gateway": "10.99.7.6"}], True, False))
        for ip, why in (("10.99.7.6", "gateway"), ("10.99.7.7", "first or last"), ("10.99.8.1", "10.99.7.0/29"),
                        ("x", "expected an address")):
            self.assert_one_line(self.home.run("network", "connect", "--ip", ip, "back", "web"), 1, "--ip %s: .*%s" % (ip, why))
        self.assert_one_line(self.home.run("network", "connect", "--ip6", "fd00::1", "back", "web"), 1, "no IPv6")
        self.assertEqual(self.net("back")["Containers"], {})
        self.home.ok("network", "connect", "--ip", "10.99.7.3", "--alias", "db", "--alias", "sql", "back", "web")
        member = self.net("back")["Containers"][box]
        self.assertEqual((member["IPv4Address"], member["IPv6Address"], member["Aliases"]), ("10.99.7.3/29", "", ["db", "sql"]))
        self.assert_one_line(self.home.run("network", "connect", "back", "web"), 1, "web is on network back already")
        self.assert_out(self.home.run("network", "disconnect", "shop", "web"), "")
        self.assert_one_line(self.home.run("network", "disconnect", "shop", "web"), 1, "web is not on network shop")
        self.assert_out(self.home.run("network", "rm", "shop"), "shop\n")

        # What is there goes with the box, and is told.
        self.home.ok("rm", "web")
        self.assertEqual(self.net("back")["Containers"], {})
        self.home.ok("network", "rm", "back")
        seen = self.events()
        self.assertEqual([(e["Action"], e["Actor"]["Attributes"]["name"]) for e in seen],
                         [("create", "shop"), ("connect", "shop"), ("create", "back"), ("connect", "back"),
                          ("disconnect", "shop"), ("destroy", "shop"), ("disconnect", "back"), ("destroy", "back")])
        self.assertEqual((seen[1]["Actor"]["ID"], seen[1]["Actor"]["Attributes"]),
                         (shop, {"container": box, "name": "shop", "type": "bridge"}))
        with sqlite3.connect(self.home.path / "state.db") as db:
            self.assertEqual(db.execute("SELECT (SELECT count(*) FROM networks), (SELECT count(*) FROM endpoints)").fetchone(),
                             (0, 0))

    def test_listing_and_filters(self):
        shop = self.create("--label", "a=1", "--label", "b", "shop")
        self.create("--isolation", "strict", "shop2")
        self.home.ok("create", "--name", "web", "--network", "shop", "box")
        self.assertEqual(self.home.ok("network", "ls").lines[0].split(), ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"])
        for filters, want in (([], ["bridge", "none", "shop", "shop2"]), (["name=hop"], ["shop", "shop2"]),
                              (["name=shop2", "name=non"], ["none", "shop2"]), (["id=" + shop[:6]], ["shop"]),
                              (["driver=null"], ["none"]), (["driver=bridge", "type=builtin"], ["bridge"]),
                              (["label=a=1", "label=b"], ["shop"]), (["label=a=2"], []), (["scope=swarm"], []),
                              (["dangling=true"], ["shop2"]), (["dangling=false"], ["bridge", "none", "shop"])):
            with self.subTest(filters):
                self.assertEqual(self.names(*filters), want)
        self.assertEqual(self.home.ok("network", "ls", "-q", "-f", "name=shop").lines[0], shop[:12])
        self.assertIn(shop, self.home.ok("network", "ls", "-q", "--no-trunc").lines)
        row = json.loads(self.home.ok("network", "ls", "--format", "json", "-f", "id=" + shop).out)
        self.assertEqual((row["Name"], row["Labels"], row["IPv6"], row["Internal"]), ("shop", "a=1,b=", "true", "false"))
        self.assert_out(self.home.run("network", "ls", "-f", "label=a", "--format", '{{.Label "a"}}'), "1\n")
        self.assert_out(self.home.run("network", "inspect", "-f", "{{.Isolation}}", "shop", "shop2"), "none\nstrict\n")
        self.assertEqual(sorted(line.split("\t")[0] for line in self.home.ok("__complete", "network", "rm", "s").lines),
                         ["shop", "shop2"])
        self.home.ok("rm", "web")

    def test_prune(self):
        for name in ("used", "old", "kept"):
            self.create("--label", name, name)
        self.home.ok("create", "--name", "web", "--network", "used", "box")
        self.assert_out(self.home.run("network", "prune", "-f", "--filter", "until=1h"), "")
        self.assert_out(self.home.run("network", "prune", "-f", "--filter", "label!=kept"), "Deleted Networks:\nold\n\n")
        result = self.home.ok("network", "prune", input=b"y\n")
        self.assertEqual(result.err, b"WARNING! This will remove all networks that no box is on.\n"
                                     b"Are you sure you want to continue? [y/N] ")
        self.assertEqual(result.text, "Deleted Networks:\nkept\n\n")
        self.assertEqual(self.names("type=custom"), ["used"])
        self.home.ok("rm", "web")

    def test_rules(self):
        # The example of the manual is one that works.
        text = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
        example = textwrap.dedent(re.search(r"^    \{\n.*?^    \}\n", text, re.M | re.S).group())
        rules = self.home.base / "rules.json"
        rules.write_text(example, encoding="utf-8")
        self.create("--policy", rules, "shop")
        n = self.net("shop")
        self.assertEqual((n["Isolation"], n["Policy"]), ("custom", json.loads(example)))
        # Bad rules name file and rule, and change nothing.
        for bad, why in (('{"egress": [{"action": "allow"}, {"action": "allow", "ports": "http"}]}', r"egress\[1\]: \"ports\""),
                         ('{"egress": [', "line 1"), ('{"in": []}', "no such member"), ("x" * 140000, "File too large")):
            rules.write_text(bad, encoding="utf-8")
            for command in (("create", "other"), ("update", "shop")):
                result = self.home.run("network", command[0], "--policy", rules, command[1])
                self.assert_one_line(result, 1, r"--policy .*rules\.json: (policy: )?.*%s" % why)
        rules.unlink()
        self.assert_one_line(self.home.run("network", "update", "--policy", rules, "shop"), 1, "No such file")
        self.assertEqual(self.names("type=custom"), ["shop"])
        self.assertEqual(self.net("shop"), n)
        # A change of one thing leaves the other.
        self.assert_out(self.home.run("network", "update", "--isolation", "strict", "shop"), "shop\n")
        self.assertEqual((self.net("shop")["Isolation"], self.net("shop")["Policy"]), ("strict", n["Policy"]))
        self.home.ok("network", "update", "--policy", "-", "shop", input=b'{"egress":[{"action":"deny"}]}')
        self.assertEqual((self.net("shop")["Isolation"], self.net("shop")["Policy"]),
                         ("strict", {"egress": [{"action": "deny"}], "ingress": []}))
        self.home.ok("network", "update", "--isolation", "none", "shop")
        self.assert_one_line(self.home.run("network", "update", "--isolation", "none", "--policy", "-", "shop"), 1, "no meaning")
        self.assert_one_line(self.home.run("network", "update", "--isolation", "none", "bridge"), 1, "predefined")
        self.assert_one_line(self.home.run("network", "update", "shop"), 1, "nothing is given")
        entries = [json.loads(line) for line in self.home.ok("audit", "--action", "network update", "--json").lines]
        self.assertEqual([e["outcome"] for e in entries].count("success"), 3)
        self.assertIn("denied", [e["outcome"] for e in entries])

    def netd(self, network):
        """PIDs of the network's process."""
        return [pid for pid in self.home.find_process("a3s-box-netd") if self.home.belongs(pid, network)]

    @core
    def test_rules_of_a_running_box(self):
        """Rules hold at once, also in a new process, and are counted and noted."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]

            def serve():
                while True:
                    try:
                        conn, _ = server.accept()
                    except OSError:
                        return
                    with conn:
                        conn.sendall(b"hello\n")

            threading.Thread(target=serve, daemon=True).start()
            ask = ["exec", "web", "nc", "-w", "10", "host.a3s.internal", str(port)]
            shop = self.create("--isolation", "strict", "--opt", "host-loopback=yes", "shop")
            self.home.run_detached("--name", "web", "--network", "shop", "box", "sleep", "100000")
            self.assertNotEqual(self.home.run(*ask).rc, 0)
            counters = self.net("shop")["Counters"]
            self.assertGreater(counters["DeniedByDefault"], 0)
            self.assertEqual([b["Name"] for b in counters["Boxes"].values()], ["web"])
            entry = wait_for("the audit log to have it", lambda: self.home.ok("audit", "--outcome", "denied", "--json").lines)[-1]
            self.assertRegex(entry, r'"network".*"web".*\b%d\b' % port)

            allow = json.dumps({"egress": [{"peer": "host", "protocol": "tcp", "ports": str(port), "action": "allow"}]})
            self.home.ok("network", "update", "--policy", "-", "shop", input=allow.encode())
            self.assert_out(self.home.run(*ask), "hello\n")
            self.assertEqual(self.net("shop")["Counters"]["Denied"], 0)  # counted anew
            (pid,) = self.netd(shop)
            os.kill(pid, signal.SIGKILL)
            wait_for("another process", lambda: self.netd(shop) not in ([], [pid]))
            wait_for("the way to be there again", lambda: self.home.run(*ask).out == b"hello\n")
            self.home.ok("network", "update", "--policy", "-", "shop", input=b"{}")
            self.assertNotEqual(self.home.run(*ask).rc, 0)
            self.home.ok("network", "update", "--isolation", "none", "shop")
            self.assert_out(self.home.run(*ask), "hello\n")
            self.assert_one_line(self.home.run("network", "rm", "shop"), 1, "in use by 1 box")
            self.home.ok("rm", "-f", "web")
            self.home.ok("network", "rm", "shop")
        wait_for("the process to end", lambda: not self.netd(shop), 10)
        self.home.ok("ps")
        self.assertFalse((self.home.path / "run/net").exists())

    def test_many_at_once(self):
        """Subnets that are chosen at the same time are different ones."""
        running = [self.home.popen("network", "create", "n%d" % i) for i in range(12)]
        for p in running:
            _, err = p.communicate(timeout=60)
            self.assertEqual((p.returncode, err), (0, b""))
        lines = self.home.ok("network", "inspect", "-f", "{{range .IPAM.Config}}{{.Subnet}} {{end}}",
                             *["n%d" % i for i in range(12)]).text.split()
        self.assertEqual((len(lines), len(set(lines))), (24, 24))
        self.assert_one_line(self.home.run("network", "create", "--subnet", lines[0], "again"), 1, "overlaps network n")
        # What is gone is free again.
        self.home.ok("network", "rm", *["n%d" % i for i in range(12)])
        self.create("--subnet", lines[0], "again")
