"""Networks as a whole: boxes that reach the outside, ports that reach boxes, boxes that find each other, and what is left of
that when a part is killed. Every test runs in a network namespace of its own (netns.py)."""

import contextlib
import json
import os
import signal
import sqlite3

from a3s import BoxTest, core, slow, wait_for
from netns import HOST4, NetNs, OUTSIDE4, OUTSIDE6

# What Python in a box serves: HTTP with the client's address on port 80 of both families, UDP echo on 5353.
SERVER = r"""
import socket, threading
u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); u.bind(("::", 5353))
def echo():
    while True:
        data, peer = u.recvfrom(65535)
        u.sendto(b"box " + data, peer)
def answer(c, peer):
    text = b""
    while b"\r\n\r\n" not in text:
        data = c.recv(65536)
        if not data:
            return
        text += data
    body = ("box %s %s\n" % (peer[0].replace("::ffff:", ""), text.split()[1].decode())).encode()
    c.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    c.close()
threading.Thread(target=echo, daemon=True).start()
l = socket.socket(socket.AF_INET6, socket.SOCK_STREAM); l.bind(("::", 80)); l.listen(100)
print("serving", flush=True)
while True:
    threading.Thread(target=answer, args=l.accept(), daemon=True).start()
"""
# What a stream on port 9001 brings until its end, and then a datagram on port 9002.
SINK = r"""
import socket
l = socket.create_server(("127.0.0.1", 9001))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("127.0.0.1", 9002)); u.settimeout(10)
print("ready", flush=True)
while True:
    c, peer = l.accept()
    n = 0
    try:
        while data := c.recv(65536):
            n += len(data)
        print(n, u.recv(100).decode(), flush=True)
    except OSError as e:
        print(n, e, flush=True)
"""
HTTPD = "mkdir -p /w && echo %s > /w/index.html && httpd -p 80 -h /w && echo serving && exec sleep 100000"


class NetworkTest(BoxTest):
    """Commands of self.home run in the namespace self.ns."""

    def setUp(self):
        self.ns = NetNs()
        self.addCleanup(self.ns.close)
        super().setUp()

    def ok(self, *args, **options):
        return self.home.ok(*args, wrap=self.ns.wrap, **options)

    def a3s(self, *args, **options):
        return self.home.run(*args, wrap=self.ns.wrap, **options)

    def start(self, *args):
        """run -d; waits until it serves."""
        box = self.ok("run", "-d", "--dns", OUTSIDE4, *args).text.strip()
        self.assertRegex(box, "^[0-9a-f]{64}$")
        wait_for("the box to serve", lambda: b"serving" in self.home.ok("logs", box).out, 60)
        return box

    def sh(self, box, script, rc=0):
        return self.assert_rc(self.a3s("exec", box, "sh", "-c", script), rc)

    def sql(self, text, *values):
        """What the database says, or does, behind everybody's back."""
        with contextlib.closing(sqlite3.connect(self.home.path / "state.db", timeout=60)) as db, db:
            return db.execute(text, values).fetchall()

    def netds(self):
        return self.home.find_process("a3s-box-netd")

    def kill_netd(self):
        """As a crash does. Returns once there is another one."""
        before = set(self.netds())
        self.assertTrue(before)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_for("another netd", lambda: self.netds() and not before & set(self.netds()))


class Default(NetworkTest):
    images_wanted = ("box", "python")

    @core
    def test_a_box_reaches_what_the_host_reaches(self):
        for where in (OUTSIDE4, OUTSIDE6):
            self.ns.serve(where, 8000, 7000, "example.test" if where == OUTSIDE4 else "")
        self.ns.serve(HOST4, 8001)
        self.ns.serve("127.0.0.1", 8002)
        script = r"""
            wget -qO- http://%s:8000/four; wget -qO- http://[%s]:8000/six; wget -qO- http://example.test:8000/name
            wget -qO- http://host.a3s.internal:8001/host; wget -qO- http://gw:8001/gw
            wget -qO- http://host.a3s.internal:8002/loopback || echo no loopback
            wget -qO- http://%s:9/ || echo refused; nslookup nosuch.test >/dev/null || echo unknown
            ping -c 1 -W 5 10.87.0.1 >/dev/null && echo ping; ping6 -c 1 -W 5 fda3:5b0c::1 >/dev/null && echo ping6
            cat /etc/resolv.conf; ip addr show eth0; cat /sys/class/net/eth0/mtu /sys/class/net/eth0/address
        """ % (OUTSIDE4, OUTSIDE6, OUTSIDE4)
        result = self.ok("run", "--rm", "--dns", OUTSIDE4, "--add-host", "gw:host-gateway", "-h", "named", "box", "sh", "-c",
                         script)
        for line in ("%s /four" % HOST4, "2001:db8:1::1 /six", "no loopback", "refused", "unknown", "ping", "ping6",
                     "nameserver 10.87.0.1", "65520"):
            self.assertIn(line, result.lines, result)
        for path in ("/name", "/host", "/gw"):
            self.assertRegex(result.text, "(?m)^[0-9a-f.:]+ %s$" % path)
        self.assertRegex(result.text, r"inet 10\.87\.0\.2/24 ")
        self.assertRegex(result.text, r"inet6 fda3:5b0c::2/64 ")
        self.assertRegex(result.text, "(?m)^02:[0-9a-f:]{14}$")

    def test_what_a_box_sends_last_arrives(self):
        """A datagram, and a stream of more than any window at the beginning; the box ends at once, and its machine with it."""
        sink = self.ns.start(SINK)
        script = r"""
import os, socket
stream = socket.create_connection(("host.a3s.internal", %d))
stream.sendall(b"x" * 65536)
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"last", ("host.a3s.internal", %d))
os._exit(0)
""" % (9001, 9002)
        for _ in range(2):
            self.ok("run", "--rm", "--network-opt", "host-loopback=yes", "python", "python3", "-c", script)
            self.assertEqual(sink.stdout.readline(), b"65536 last\n")

    def test_the_hosts_loopback_when_asked_for(self):
        self.ns.serve("127.0.0.1", 8002)
        result = self.ok("run", "--rm", "--network-opt", "host-loopback=yes", "box", "wget", "-qO-",
                         "http://host.a3s.internal:8002/x")
        self.assertEqual(result.text, "127.0.0.1 /x\n")

    @core
    def test_none(self):
        result = self.ok("run", "--rm", "--network", "none", "box", "sh", "-c", "ls /sys/class/net; cat /etc/hosts")
        self.assertEqual(result.lines[0], "lo")
        self.assertNotIn("host.a3s.internal", result.text)
        self.assertEqual(self.netds(), [])
        box = self.ok("create", "--network", "none", "box").text.strip()
        info = self.home.inspect(box)
        self.assertEqual(list(info["NetworkSettings"]["Networks"]), ["none"])
        self.assertEqual(info["HostConfig"]["NetworkMode"], "none")
        self.assertEqual(self.ok("ps", "-a", "--format", "{{.Networks}}").text, "none\n")
        self.ok("rm", box)

    def test_egress_allow_and_what_is_told_of_denials(self):
        self.ns.serve(OUTSIDE4, 8000, 0, "example.test")
        self.ns.serve(OUTSIDE4, 8001)
        box = self.ok("run", "-d", "--name", "kept", "--dns", OUTSIDE4, "--egress-allow", "example.test:8000", "box",
                      "sleep", "100000").text.strip()
        self.assertEqual(self.sh(box, "wget -qO- http://example.test:8000/x").text, "%s /x\n" % HOST4)
        self.assertEqual(self.sh(box, "wget -qO- http://example.test:8001/x || echo denied").lines, ["denied"])
        self.assertEqual(self.sh(box, "wget -qO- http://[%s]:8001/ || echo denied" % OUTSIDE6).lines, ["denied"])

        def denials():
            lines = self.ok("audit", "--action", "network", "--json").lines
            return [json.loads(line) for line in lines]

        wait_for("the denials in the audit log", lambda: len(denials()) >= 2)
        entry = next(e for e in denials() if e["network"]["peer"] == OUTSIDE4)
        self.assertEqual((entry["outcome"], entry["boxes"][0]["name"]), ("denied", "kept"))
        self.assertEqual(entry["network"], {"name": "bridge", "direction": "egress", "protocol": "tcp", "peer": OUTSIDE4,
                                            "port": 8001, "rule": None, "count": entry["network"]["count"], "left_out": 0})
        self.assertEqual(self.home.inspect(box)["HostConfig"]["EgressAllow"], ["example.test:8000"])
        self.ok("rm", "-f", box)


class Ports(NetworkTest):
    images_wanted = ("box", "python")

    @core
    @slow(300)
    def test_ports(self):
        self.ns.run("sysctl", "-q", "-w", "net.ipv4.ip_local_port_range=20000 40000")
        box = self.start("--name", "web", "-p", "8080:80", "-p", "127.0.0.1:9000-9005:80", "-p", "0:5353/udp",
                         "--expose", "7", "python", "python3", "-c", SERVER)
        self.assertEqual(self.ns.http("127.0.0.1", 8080, "/four"), "box 10.87.0.1 /four\n")
        self.assertEqual(self.ns.http("::1", 8080, "/six"), "box fda3:5b0c::1 /six\n")
        self.assertEqual(self.ns.http("127.0.0.1", 9000), "box 10.87.0.1 /\n")
        self.assertEqual(self.ns.connect("127.0.0.2", 9000), "ConnectionRefusedError")
        port = self.ok("port", "web", "5353/udp").lines
        self.assertEqual(len(port), 2)
        udp = int(port[0].removeprefix("0.0.0.0:"))
        self.assertIn(udp, range(20000, 40001))
        self.assertEqual(port[1], "[::]:%d" % udp)
        self.assertEqual(self.ns.udp("127.0.0.1", udp, "ping"), "box ping")
        self.assertEqual(self.ns.udp("::1", udp, "ping6"), "box ping6")

        # what is shown
        self.assertEqual(self.ok("port", "web").lines,
                         ["80/tcp -> 0.0.0.0:8080", "80/tcp -> 127.0.0.1:9000", "80/tcp -> [::]:8080",
                          "5353/udp -> 0.0.0.0:%d" % udp, "5353/udp -> [::]:%d" % udp])
        self.assert_one_line(self.a3s("port", "web", "81"), 1, "81.*web")
        self.assertEqual(self.ok("ps", "--format", "{{.Ports}}").text,
                         "7/tcp, 0.0.0.0:8080->80/tcp, 127.0.0.1:9000->80/tcp, [::]:8080->80/tcp, "
                         "0.0.0.0:%d->5353/udp, [::]:%d->5353/udp\n" % (udp, udp))
        for text, n in (("publish=80", 1), ("publish=80/udp", 0), ("publish=70-90", 1), ("expose=7", 1), ("expose=8", 0),
                        ("network=bridge", 1), ("network=none", 0)):
            self.assertEqual(len(self.ok("ps", "-q", "--filter", text).lines), n, text)
        info = self.home.inspect(box)
        self.assertEqual(info["NetworkSettings"]["Ports"]["80/tcp"],
                         [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "127.0.0.1", "HostPort": "9000"},
                          {"HostIp": "::", "HostPort": "8080"}])
        self.assertIsNone(info["NetworkSettings"]["Ports"]["7/tcp"])
        self.assertEqual(info["NetworkSettings"]["IPAddress"], "10.87.0.2")
        self.assertEqual(info["HostConfig"]["PortBindings"]["5353/udp"], [{"HostIp": "", "HostPort": ""}])
        self.assertEqual(info["HostConfig"]["PortBindings"]["80/tcp"][1], {"HostIp": "127.0.0.1", "HostPort": "9000-9005"})

        # a conflict changes nothing; in a range there is another one
        before = self.home.boxes()
        self.assert_one_line(self.a3s("run", "--rm", "-p", "8080:80", "box", "true"), 125,
                             r"run: port 8080/tcp on 0\.0\.0\.0 is in use \(box web publishes it\)")
        self.assert_one_line(self.a3s("run", "--rm", "-p", "127.0.0.1:8080:80", "box", "true"), 125,
                             r"run: port 8080/tcp on 127\.0\.0\.1 is in use \(box web publishes it\)")
        self.assertEqual(self.home.boxes(), before)
        second = self.ok("run", "-d", "-p", "127.0.0.1:9000-9005:80", "box", "sleep", "100000").text.strip()
        self.assertEqual(self.ok("port", second).text, "80/tcp -> 127.0.0.1:9001\n")
        # nobody listens in it: nothing comes, and it ends
        self.assertEqual(self.ns.answer("127.0.0.1", 9001), "")
        self.ok("rm", "-f", second)

        # netd's death and a restart lose no port
        self.kill_netd()
        self.assertEqual(self.ns.http("127.0.0.1", 8080, "/again"), "box 10.87.0.1 /again\n")
        self.assertEqual(self.ns.udp("127.0.0.1", udp, "again"), "box again")
        self.ok("restart", "-t", "1", "web")
        self.assertEqual(self.ns.http("::1", 8080, "/restarted"), "box fda3:5b0c::1 /restarted\n")
        self.assertEqual(self.ok("port", "web", "5353/udp").lines, port)
        self.ok("stop", "-t", "1", "web")
        self.assertEqual(self.ok("port", "web").text, "")
        self.assertEqual(self.ns.connect("127.0.0.1", 8080), "ConnectionRefusedError")
        self.assertEqual(self.home.inspect(box)["NetworkSettings"]["Ports"], {})
        self.assertEqual(self.netds(), [])
        self.ok("rm", "web")


class Published(NetworkTest):
    images_wanted = ("nginx",)

    def test_all_that_nginx_exposes(self):
        env = {"A3S_PUBLISH_ADDRESS": "127.0.0.1"}
        box = self.ok("run", "-d", "-P", "--expose", "81/tcp", "nginx", "nginx", "-g", "daemon off;", env=env).text.strip()
        ports = dict(line.split(" -> ") for line in self.ok("port", box).lines)
        self.assertIn("81/tcp", ports)
        self.assertIn("80/tcp", ports)
        address, port = ports["80/tcp"].split(":")
        self.assertEqual(address, "127.0.0.1")
        wait_for("nginx", lambda: "nginx" in self.ns.http("127.0.0.1", int(port)), 60)
        self.assertTrue(self.home.inspect(box)["HostConfig"]["PublishAllPorts"])
        self.ok("rm", "-f", box)


class User(NetworkTest):
    def names(self, box, *names):
        """What each name means to the box, by its own resolver."""
        script = "; ".join("nslookup -type=a %s 2>/dev/null | tail -n +3 | grep ^Address || echo none" % n for n in names)
        return [line.split()[-1] for line in self.sh(box, script).lines]

    @core
    @slow(400)
    def test_boxes_find_each_other(self):
        self.ns.serve(OUTSIDE4, 8000, 0, "example.test")
        self.ok("network", "create", "--subnet", "10.99.0.0/24", "front")
        self.ok("network", "create", "--internal", "back")
        web = self.start("--name", "web", "--network", "front", "--network-alias", "www", "-p", "8080:80", "box", "sh", "-c",
                         HTTPD % "web")
        app = self.start("--name", "app", "--network", "name=front,ip=10.99.0.50", "--network", "back", "box", "sh", "-c",
                         HTTPD % "app")
        redis = self.start("--name", "redis", "--network", "back", "--network-alias", "db", "box", "sh", "-c",
                           HTTPD % "redis")
        get = "wget -qO- http://%s/ || echo unreachable"
        self.assertEqual(self.sh(app, "; ".join(get % n for n in ("web", "www", web[:12], "redis", "db"))).lines,
                         ["web", "web", "web", "redis", "redis"])
        self.assertEqual(self.sh(web, "; ".join(get % n for n in ("app", "10.99.0.50", "redis", "db"))).lines,
                         ["app", "app", "unreachable", "unreachable"])
        self.assertEqual(self.ns.http("127.0.0.1", 8080), "web\n")
        self.assertEqual(self.sh(app, "wget -qO- http://example.test:8000/x").text, HOST4 + " /x\n")
        info = self.home.inspect(app)["NetworkSettings"]["Networks"]
        self.assertEqual(sorted(info), ["back", "front"])
        self.assertEqual((info["front"]["IPAddress"], info["front"]["Gateway"]), ("10.99.0.50", "10.99.0.1"))
        self.assertEqual(self.ok("ps", "--filter", "network=back", "--format", "{{.Names}} {{.Networks}}").lines,
                         ["redis back", "app front,back"])

        # live: another network, a fourth box, a new name, and away again
        self.ok("network", "connect", "--alias", "cache", "front", "redis")
        self.assertEqual(self.sh(web, get % "cache").lines, ["redis"])
        self.assertEqual(self.sh(redis, get % "web").lines, ["web"])
        late = self.start("--name", "late", "--network", "front", "box", "sh", "-c", HTTPD % "late")
        self.assertEqual(self.sh(web, get % "late").lines, ["late"])
        self.ok("rename", "late", "later")
        self.assertEqual(self.sh(web, "; ".join(get % n for n in ("later", "late"))).lines, ["late", "unreachable"])
        self.ok("network", "disconnect", "front", "redis")
        self.assertEqual(self.sh(web, get % "cache").lines, ["unreachable"])
        self.assertEqual(self.sh(app, get % "redis").lines, ["redis"])
        self.assertNotIn("eth1", self.sh(redis, "ls /sys/class/net").lines)
        self.assert_one_line(self.a3s("network", "disconnect", "front", "redis"), 1)

        # a crash of all networks at once: boxes go on, and come back
        self.kill_netd()
        self.assertEqual(wait_for("web to be reached again",
                                  lambda: "web" in self.sh(app, get % "web").lines, 30), True)
        self.assertEqual(self.sh(app, get % "db").lines, ["redis"])
        self.assertEqual(self.ns.http("127.0.0.1", 8080), "web\n")
        for box in (web, app, redis, late):
            self.assertEqual(self.home.inspect(box)["RestartCount"], 0)

        self.ok("rm", "-f", web, app, redis, late)
        wait_for("the networks' processes to end", lambda: not self.netds(), 10)
        self.ok("network", "rm", "front", "back")

    def test_what_cannot_be_connected(self):
        self.ok("network", "create", "net")
        lonely = self.ok("run", "-d", "--name", "lonely", "--network", "none", "box", "sleep", "100000").text.strip()
        self.assert_one_line(self.a3s("network", "connect", "net", "lonely"), 1, "lonely")
        self.assert_one_line(self.a3s("run", "--rm", "--network", "nosuch", "box", "true"), 125, "nosuch")
        self.assert_one_line(self.a3s("run", "--rm", "--network", "net", "--network", "net", "box", "true"), 125, "twice")
        self.ok("pause", "lonely")
        self.ok("rm", "-f", lonely)
        # paused: it cannot be told
        box = self.ok("run", "-d", "--name", "still", "--network", "bridge", "box", "sleep", "100000").text.strip()
        self.ok("pause", "still")
        self.assert_one_line(self.a3s("network", "connect", "net", "still"), 1, "paused")
        self.ok("unpause", "still")
        self.assertEqual(list(self.home.inspect(box)["NetworkSettings"]["Networks"]), ["bridge"])
        self.ok("network", "connect", "net", "still")
        self.assertEqual(sorted(self.home.inspect(box)["NetworkSettings"]["Networks"]), ["bridge", "net"])
        self.assertIn("eth1", self.sh(box, "ls /sys/class/net").lines)
        # a disconnect that was killed between the record and the box: the next command finishes it
        self.sql("INSERT INTO network_changes(box) VALUES(?)", box)
        self.sql("UPDATE endpoints SET leaving=(SELECT max(change) FROM network_changes) WHERE box=? AND link=1", box)
        self.assertEqual(self.home.ok("ps", "--format", "{{.Networks}}").lines, ["bridge"])
        wait_for("the box to have left", lambda: not self.sql("SELECT 1 FROM endpoints WHERE leaving"), 30)
        self.assertNotIn("eth1", self.sh(box, "ls /sys/class/net").lines)
        self.ok("rm", "-f", box)
        self.ok("network", "rm", "net")

    def test_a_box_of_before_there_were_networks(self):
        self.ok("create", "--name", "old", "box", "true")
        self.sql("DELETE FROM endpoints")
        self.sql("UPDATE boxes SET config=json_remove(config, '$.network')")
        self.assert_one_line(self.a3s("network", "connect", "bridge", "old"), 1, "before there were networks.*anew")
        self.ok("start", "-a", "old")
        self.ok("rm", "old")
