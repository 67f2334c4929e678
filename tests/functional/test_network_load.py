"""Many connections, large files, short lives, and a box that sends all it can: what the network does under load, and what is
left of it afterwards. With A3S_TEST_FULL in the numbers that the product promises; else in ones that emulation bears."""

import ast
import concurrent.futures
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import time

from a3s import BoxTest, FULL, core, slow, wait_for
from netlab import DNS, Lab, LabTest, NAMES, OUTSIDE4, SERVE
from test_unprivileged import Unprivileged

FILE_BYTES = (1 << 30) if FULL else 32 << 20
KEEP_ALIVE = 1000
SHORT = 5000 if FULL else 500
RSS_MAX_KIB = 200 << 10
RESOLVER = "127.0.0.77"

NGINX = r"""
cat >/etc/nginx/nginx.conf <<END
user root;
worker_processes 1;
worker_rlimit_nofile 8192;
events { worker_connections 4096; }
http {
    access_log off;
    keepalive_timeout 600s;
    keepalive_requests 100;
    client_max_body_size 0;
    server {
        listen 80 backlog=4096;
        listen [::]:80 backlog=4096;
        root /w;
        client_body_temp_path /w/tmp;
        location /up { dav_methods PUT; }
        location /small { return 200 "small\n"; }
        location /who { return 200 "\$remote_addr\n"; }
    }
}
END
ulimit -n 8192
mkdir -p /w/tmp /w/up
exec nginx -g "daemon off;"
"""

# On the host: holds so many connections at once, and uses each of them thrice.
HOLD = r"""
import resource, selectors, socket, sys
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
ask = b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n"
conns = [socket.create_connection((host, port), timeout=120) for _ in range(count)]
for _ in range(3):
    for c in conns:
        c.sendall(ask)
    for c in conns:
        got = b""
        while not got.endswith(b"\r\n\r\nsmall\n"):
            part = c.recv(4096)
            assert part, got
            got += part
        assert got.startswith(b"HTTP/1.1 200 ") and got.count(b"HTTP/1.1") == 1, got
assert len({c.getsockname() for c in conns}) == count
print("held", count, flush=True)
sys.stdin.read()
"""
# Connects, asks, closes, several at a time.
BRIEF = r"""
import socket, sys, threading
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
todo, wrong = list(range(count)), []
def work():
    while todo:
        try:
            number = todo.pop()
        except IndexError:
            return
        try:
            with socket.create_connection((host, port), timeout=120) as c:
                if number % 5 == 0:
                    continue  # gone before it has asked
                c.sendall(b"GET /small HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                got = b""
                while part := c.recv(4096):
                    got += part
            if not got.endswith(b"\r\n\r\nsmall\n"):
                wrong.append(got)
        except OSError as e:
            wrong.append(repr(e))
threads = [threading.Thread(target=work) for _ in range(16)]
[t.start() for t in threads]
[t.join() for t in threads]
print("wrong", len(wrong), wrong[:3])
"""
# Every size answers in one datagram; what is lost is asked for again.
SIZES = r"""
import os, random, socket, sys
host, port, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(seed)
limit = 65527 if ":" in host else 65507
sizes = [0, 1, 2, 3, 7, 8, 1471, 1472, 1473, 65470, 65471, 65472, 65473, 65491, 65492, 65493, 65500, 65507, limit - 1, limit] + \
    [rng.randrange(limit) for _ in range(40)]
s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
s.settimeout(3)
s.connect((host, port))
for size in sizes:
    data = os.urandom(size)
    for _ in range(5):
        s.send(data)
        try:
            got = s.recv(70000)
            while got != data and len(got) != size:
                got = s.recv(70000)
            assert got == data, (size, len(got))
            break
        except TimeoutError:
            pass
    else:
        raise SystemExit("%d bytes do not come back" % size)
print("all")
"""
# In a box: asks another for as long as it is told, one thing at a time; prints how often it was answered, and the longest wait.
EXCHANGE = r"""
import socket, sys, time
host, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
with socket.create_connection((host, port), timeout=120) as c:
    end, n, longest = time.monotonic() + seconds, 0, 0
    while (now := time.monotonic()) < end:
        c.sendall(b"x" * 1000)
        left = 1000
        while left:
            part = len(c.recv(left))
            assert part
            left -= part
        n += 1
        longest = max(longest, time.monotonic() - now)
print((n, round(longest, 2)))
"""
# In a box: small datagrams to a box and to the outside, and the first packets of connections, as fast as they can be written.
FLOOD = r"""
import os, socket, struct, sys, threading, time
victim, outside = sys.argv[1:3]
def datagrams(to, size):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    data, n = b"f" * size, 0
    while True:
        for port in range(9, 60000):
            try:
                s.sendto(data, (to, port))
            except OSError:
                pass
def connections(to):
    while True:
        held = []
        for port in range(1000):
            c = socket.socket()
            c.setblocking(False)
            c.connect_ex((to, 80))
            held.append(c)
        for c in held:
            c.close()
for fn, args in ((datagrams, (victim, 32)), (datagrams, (outside, 32)), (datagrams, (victim, 60000)), (connections, (victim,)),
                 (connections, (outside,))):
    if os.fork() == 0:
        fn(*args)
print("flooding", flush=True)
time.sleep(100000)
"""


def status_kib(pid, field):
    """RssAnon is a process's own memory: a supervisor that serves a device has the guest's memory mapped as well."""
    with open("/proc/%d/status" % pid, encoding="ascii") as f:
        return int(re.search(r"(?m)^%s:\s+(\d+) kB$" % field, f.read())[1])


def descriptors(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


class HostTest(LabTest):
    def host(self, program, *args, timeout=400):
        """A program of the host, on the side of the published ports."""
        p = subprocess.run([*self.ns.wrap, sys.executable, "-c", program, *map(str, args)], capture_output=True, check=False,
                           timeout=timeout)
        if p.returncode:
            self.fail(p.stderr.decode(errors="replace")[-2000:] + p.stdout.decode(errors="replace")[-500:])
        return p.stdout.decode().strip()

    def curl(self, *args):
        p = subprocess.run([*self.ns.wrap, "curl", "-sS", "-f", "-g", "--max-time", "600", *args], capture_output=True,
                           check=False)
        if p.returncode:
            self.fail("curl %s: %s" % (" ".join(args), p.stderr.decode(errors="replace")))
        return p.stdout


class Published(HostTest):
    """A server in a box, by its published port."""

    images_wanted = ("nginx", "python")

    @classmethod
    def prepare(cls):
        cls.ns = Lab((80,))
        cls.addClassCleanup(cls.ns.close)
        cls.box = cls.home.ok("run", "-d", "--name", "web", "-m", "512m", "-p", "8080:80", "nginx", "sh", "-c", NGINX,
                              wrap=cls.ns.wrap).text.strip()
        wait_for("nginx", lambda: subprocess.run([*cls.ns.wrap, "curl", "-sf", "http://127.0.0.1:8080/small"], check=False,
                                                 capture_output=True).stdout == b"small\n", 60, 0.3)

    def watched(self):
        """The processes that must not grow: [netd, supervisor] of the box."""
        return self.home.find_process("a3s-box-netd") + self.home.find_process("a3s-box-shim", self.box)

    @slow(300)
    def test_a_thousand_connections_held(self):
        (netd, shim) = self.watched()
        before = descriptors(netd), descriptors(shim)
        for host in ("127.0.0.1", "::1"):
            self.assertEqual(self.curl("http://%s:8080/small" % ("[::1]" if host == "::1" else host)), b"small\n")
            with subprocess.Popen([*self.ns.wrap, sys.executable, "-c", HOLD, host, "8080", str(KEEP_ALIVE)],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as p:
                try:
                    line = p.stdout.readline()
                    if line != b"held %d\n" % KEEP_ALIVE:
                        p.kill()
                        self.fail(p.stderr.read().decode(errors="replace")[-2000:])
                    self.assertGreaterEqual(descriptors(netd), KEEP_ALIVE)
                    # While they are held, there is room for others.
                    self.assertEqual(self.curl("http://127.0.0.1:8080/small"), b"small\n")
                finally:
                    p.kill()
            wait_for("the connections to be closed", lambda: descriptors(netd) <= before[0] + 3, 60)
        self.assertEqual(descriptors(shim), before[1])

    @slow(1200 if FULL else 300)
    def test_a_large_file_both_ways(self):
        path = self.home.tmp / "file"
        block = os.urandom(1 << 20)
        with open(path, "wb") as f:
            for i in range(FILE_BYTES >> 20):
                f.write(i.to_bytes(8, "big") + block[8:])
        with open(path, "rb") as f:
            wanted = hashlib.file_digest(f, "sha256").hexdigest()
        try:
            for host in ("127.0.0.1", "[::1]"):
                self.curl("-T", str(path), "-H", "Expect:", "http://%s:8080/up/file" % host)
                inside = self.ok("exec", "web", "sha256sum", "/w/up/file", timeout=600).text.split()[0]
                self.assertEqual(inside, wanted)
                with subprocess.Popen([*self.ns.wrap, "curl", "-sS", "-f", "-g", "http://%s:8080/up/file" % host],
                                      stdout=subprocess.PIPE) as p:
                    digest = hashlib.sha256()
                    while data := p.stdout.read(1 << 20):
                        digest.update(data)
                self.assertEqual((p.returncode, digest.hexdigest()), (0, wanted))
            self.ok("exec", "web", "rm", "/w/up/file")
        finally:
            path.unlink()
        for pid in self.watched():
            self.assertLess(status_kib(pid, "RssAnon"), RSS_MAX_KIB)

    @core
    @slow(600 if FULL else 300)
    def test_many_short_connections_leave_nothing(self):
        self.assertEqual(self.host(BRIEF, "127.0.0.1", 8080, 100), "wrong 0 []")  # what grows once has grown
        pids = self.watched()
        self.assertEqual(len(pids), 2)
        idle = lambda: [descriptors(pid) for pid in pids]
        wait_for("them to be idle", lambda: max(idle()) < 100, 60)
        time.sleep(1)
        before, memory = idle(), [status_kib(pid, "RssAnon") for pid in pids]
        for host in ("127.0.0.1", "::1"):
            self.assertEqual(self.host(BRIEF, host, 8080, SHORT // 2), "wrong 0 []")
        wait_for("the descriptors to be as many as before", lambda: all(n <= b for n, b in zip(idle(), before)), 90, 0.5)
        # A sanitizer keeps what was freed.
        allowed = 262144 if "ASAN_OPTIONS" in os.environ else 4096
        for pid, kib in zip(pids, memory):
            self.assertLess(status_kib(pid, "RssAnon") - kib, allowed)
        # What nginx has left of them is nothing, either.
        wait_for("the box to have no connections", lambda: len(re.findall(
            r"(?m)^ *\d+: \S+ \S+ 01 ", self.ok("exec", "web", "cat", "/proc/net/tcp", "/proc/net/tcp6").text)) == 0, 30, 0.5)

    @slow(300)
    def test_datagrams_of_all_sizes(self):
        ports = ["9001"]
        box = self.serve("--name", "echo", "-p", "9001:9001/udp", ports=ports, sniff=False)
        seed = int(os.environ.get("A3S_TEST_SEED") or time.time())
        for host in ("127.0.0.1", "::1"):
            with self.subTest("%s, A3S_TEST_SEED=%d" % (host, seed)):
                self.assertEqual(self.host(SIZES, host, 9001, seed), "all")
        self.ok("rm", "-f", box)


class Flood(HostTest):
    """Two boxes that talk, and a third that sends all it can to one of them and to the outside."""

    images_wanted = ("python",)

    @classmethod
    def prepare(cls):
        cls.ns = Lab((80,))
        cls.addClassCleanup(cls.ns.close)

    @slow(400)
    def test_others_keep_their_share(self):
        self.ok("network", "create", "--subnet", "10.99.0.0/24", "--isolation", "custom", "--policy", "-", "net",
                input=b'{"egress": [{"action": "allow"}], "ingress": [{"action": "allow"}]}')
        boxes = {name: self.serve("--name", name, "--network", "net", "--ip", ip, "-p", "%d:80" % port, ports=(80,), sniff=False)
                 for name, ip, port in (("one", "10.99.0.2", 8081), ("two", "10.99.0.3", 8082), ("bad", "10.99.0.4", 8083))}

        def exchange():
            return ast.literal_eval(self.ok("exec", "one", "python3", "-c", EXCHANGE, "10.99.0.3", 80, 3).text)

        (netd,) = self.netds()
        alone = exchange()
        flood = self.home.popen("exec", "bad", "python3", "-c", FLOOD, "10.99.0.3", OUTSIDE4, wrap=self.ns.wrap)
        try:
            self.assertEqual(flood.stdout.readline(), b"flooding\n")
            time.sleep(1)
            frames = self.frames(boxes["bad"])
            under = [exchange() for _ in range(2)]
            frames, most = self.frames(boxes["bad"]) - frames, status_kib(netd, "VmHWM")
            told = "alone %s, under the flood %s; %d frames of it, netd %d KiB" % (alone, under, frames, most)
            self.assertGreater(frames, 2000, told)
            # How much they get depends on the host; that they are starved would not.
            self.assertGreater(min(u[0] for u in under), 2, told)
            self.assertLess(most, RSS_MAX_KIB, told)
            # From the host the flooded box is still reached, and so is the flooding one.
            for port in (8081, 8082):
                self.assertEqual(self.ns.connect("127.0.0.1", port), "connected", told)
        finally:
            flood.kill()
            flood.communicate()
        self.ok("rm", "-f", *boxes.values())
        wait_for("the network's process to end", lambda: not self.netds(), 20)
        self.ok("network", "rm", "net")

    def frames(self, box):
        (value,) = json.loads(self.ok("network", "inspect", "net").out)
        return value["Counters"]["Boxes"][box]["TxFrames"]


class Rootless(Unprivileged, BoxTest):
    """Another user, without a tun device and without rights over the firewall: in this host's own network, on loopback."""

    images_wanted = ("box", "python")

    @slow(300)
    def test_ports_names_and_networks(self):
        self.home.ok("network", "create", "--opt", "host-loopback=yes", "net")
        resolver = subprocess.Popen([sys.executable, "-c", DNS, RESOLVER, repr(NAMES)], stdout=subprocess.PIPE)
        self.addCleanup(lambda: (resolver.kill(), resolver.wait(), resolver.stdout.close()))
        self.assertEqual(resolver.stdout.readline(), b"serving\n")
        with socket.create_server(("127.0.0.1", 0)) as server:
            box = self.home.run_detached("--name", "web", "--network", "net", "--network-alias", "www", "-p", "127.0.0.1:0:80",
                                         "-p", "127.0.0.1:0:81/udp", "python", "python3", "-c", SERVE, "::", "80,81")
            wait_for("the box to serve", lambda: b"serving" in self.home.ok("logs", box).out, 60)
            ports = {line.split(" -> ")[0]: int(line.rsplit(":", 1)[1]) for line in self.home.ok("port", box).lines}
            with socket.create_connection(("127.0.0.1", ports["80/tcp"]), timeout=60) as c:
                c.sendall(b"hello")
                self.assertEqual(c.recv(100), b"hello")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as u:
                u.settimeout(20)
                u.connect(("127.0.0.1", ports["81/udp"]))
                u.send(b"hello")
                self.assertEqual(u.recv(100), b"hello")
            # The one that is asked for leads to the other, to the gateway, and to what listens on this host's loopback.
            with concurrent.futures.ThreadPoolExecutor() as pool:
                got = pool.submit(lambda: server.accept()[0].close())
                script = "nslookup www | tail -n +3 | grep -c ^Address; ping -c 1 -W 10 web >/dev/null && echo ping; " \
                    "ping -c 1 -W 10 host.a3s.internal >/dev/null && echo gateway; " \
                    "echo hi | nc -w 20 web 80; nc -w 20 host.a3s.internal %d </dev/null && echo host" % server.getsockname()[1]
                script += "; nslookup -type=a example.test | grep ^Address | tail -1"
                result = self.home.ok("run", "--rm", "--dns", RESOLVER, "--network", "net", "box", "sh", "-c", script)
                self.assertEqual(result.text.split("\n")[:5], ["2", "ping", "gateway", "hi", "host"])
                self.assertIn(OUTSIDE4, result.text)
                got.result(60)
            netds = self.home.find_process("a3s-box-netd")
            self.assertEqual(len(netds), 1)
            with open("/proc/%d/status" % netds[0], encoding="ascii") as f:
                status = f.read()
            self.assertRegex(status, r"(?m)^CapEff:\t0+$")
            self.assertRegex(status, r"(?m)^Uid:\t%d\t" % self.home.uid)
            opened = [os.readlink("/proc/%d/fd/%s" % (netds[0], fd)) for fd in os.listdir("/proc/%d/fd" % netds[0])]
            self.assertNotIn("/dev/net/tun", opened)
            self.home.ok("rm", "-f", box)
            self.home.ok("network", "rm", "net")
