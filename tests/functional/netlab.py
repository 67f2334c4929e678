"""What the acceptance tests of the network share: hosts outside with several addresses and names, and the two programs that
run in the test's boxes: SERVE answers and writes down what arrives, PROBE tries what it is told to. Both need nothing but the
python image's standard library, which has neither json nor ctypes."""

import ast
import os
import re
import subprocess
import sys
import unittest

from a3s import BoxTest, wait_for
from netns import HOST4, HOST6, NetNs, OUTSIDE4, OUTSIDE6

OTHER4, OTHER6 = "198.51.100.8", "2001:db8::8"
NAMES = {"example.test": (OUTSIDE4, OUTSIDE6), "other.test": (OTHER4, OTHER6), "liar.test": ("10.99.0.3", "fd99::3")}

# Echo on every port of both families and protocols. With "sniff" each packet that comes in is a line: what it is, and its
# number (the source's port, or the identifier of an echo request), which PROBE gives to nothing else.
SERVE = r"""
import selectors, socket, struct, sys, threading
addresses, ports, sniffs = sys.argv[1].split(","), [int(p) for p in sys.argv[2].split(",")], sys.argv[3:] == ["sniff"]

def describe(f):
    kind = struct.unpack(">H", f[12:14])[0]
    if kind == 0x806 and len(f) >= 42:
        return "arp%d %s" % (f[21], socket.inet_ntoa(f[28:32]))
    if kind == 0x800 and len(f) >= 34:
        proto, at, offset, icmp = f[23], 14 + (f[14] & 15) * 4, struct.unpack(">H", f[20:22])[0] & 0x1fff, 8
        who = socket.inet_ntop(socket.AF_INET, f[26:30])
    elif kind == 0x86dd and len(f) >= 54:
        proto, at, offset, icmp = f[20], 54, 0, 128
        who = socket.inet_ntop(socket.AF_INET6, f[22:38])
        while proto in (0, 43, 44, 60) and len(f) >= at + 8 and not offset:
            if proto == 44:
                offset = struct.unpack(">H", f[at + 2:at + 4])[0] >> 3
            proto, at = f[at], at + (8 if proto == 44 else 8 + f[at + 1] * 8)
    else:
        return "type %#x" % kind
    if offset or len(f) < at + 8:
        return ""
    if proto in (6, 17):
        if proto == 6 and f[at + 13] & 0x12 != 2:
            return ""
        return "%s %d %s" % ("tcp" if proto == 6 else "udp", struct.unpack(">H", f[at:at + 2])[0], who)
    if proto in (1, 58):
        if f[at] == icmp:
            return "icmp %d %s" % (struct.unpack(">H", f[at + 4:at + 6])[0], who)
        return "" if f[at] in (0, 129, 135) else "icmp-type %d %s" % (f[at], who)
    return "proto %d %s" % (proto, who)

def sniff():
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    while True:
        frame, where = s.recvfrom(200)
        if where[2] != 4 and where[0] != "lo":
            text = describe(frame)
            if text:
                print("saw", text, flush=True)

poll = selectors.DefaultSelector()
def accept(s):
    c = s.accept()[0]
    poll.register(c, 1, talk)
def talk(c):
    try:
        data = c.recv(65536)
        if data:
            c.sendall(data)
            return
    except OSError:
        pass
    poll.unregister(c)
    c.close()
def echo(s):
    try:
        data, peer = s.recvfrom(65536)
        s.sendto(data, peer)
    except OSError:
        pass
for address in addresses:
    for port in ports:
        for kind, fn in ((socket.SOCK_STREAM, accept), (socket.SOCK_DGRAM, echo)):
            s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((address, port))
            if kind == socket.SOCK_STREAM:
                s.listen(1024)
            poll.register(s, 1, fn)
if sniffs:
    threading.Thread(target=sniff, daemon=True).start()
print("serving", flush=True)
while True:
    for key, _ in poll.select():
        key.data(key.fileobj)
"""

# argv[1]: a list of (number, what, address, port, size). Prints {number: "ok", "refused", "silent"}.
PROBE = r"""
import ast, os, random, socket, struct, sys, threading, time
LIMIT_S, TRIES = 20, 3
results = {}

def family(a):
    return socket.AF_INET6 if ":" in a else socket.AF_INET

def tcp(number, address, port, size):
    with socket.socket(family(address), socket.SOCK_STREAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("", number))
        s.settimeout(LIMIT_S)
        s.connect((address, port))
        data, got = os.urandom(max(size, 1)), b""
        s.sendall(data)
        while len(got) < len(data):
            part = s.recv(65536)
            if not part:
                return "cut off"
            got += part
        return "ok" if got == data else "garbled"

def udp(number, address, port, size):
    with socket.socket(family(address), socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        s.bind(("", number))
        s.connect((address, port))
        data = os.urandom(size)
        for i in range(TRIES):
            s.settimeout(1 + 4 * i)
            try:
                s.send(data)
                return "ok" if s.recv(65536) == data else "garbled"
            except TimeoutError:
                pass
        return "silent"

def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(">%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff

def ping(number, address, port, size):
    six = ":" in address
    data = os.urandom(size)
    with socket.socket(family(address), socket.SOCK_RAW, 58 if six else 1) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        for i in range(TRIES):
            head = struct.pack(">BBHHH", 128 if six else 8, 0, 0, number, i)
            if not six:
                head = head[:2] + struct.pack(">H", checksum(head + data)) + head[4:]
            s.sendto(head + data, (address, 0))
            end = time.monotonic() + 1 + 4 * i
            while (left := end - time.monotonic()) > 0:
                s.settimeout(left)
                try:
                    p, who = s.recvfrom(70000)
                except TimeoutError:
                    break
                if not six:
                    p = p[(p[0] & 15) * 4:]
                if p[0] == (129 if six else 0) and p[4:6] == struct.pack(">H", number):
                    return "ok" if p[8:] == data else "garbled"
                inner = p[8 + 40:] if six else p[8 + 20:]
                if p[0] == (1 if six else 3) and inner[4:6] == struct.pack(">H", number):
                    return "refused"
        return "silent"

def name(number, address, port, size):
    try:
        return "ok" if socket.getaddrinfo(address, None) else "silent"
    except socket.gaierror:
        return "refused"

def run(number, what, *rest):
    try:
        results[number] = globals()[what](number, *rest)
    except TimeoutError:
        results[number] = "silent"
    except OSError as e:
        results[number] = "refused" if e.errno in (111, 113, 13, 1, 101) else repr(e)

# Names come before what needs them; the rest a few at a time.
todo = ast.literal_eval(sys.argv[1])
for case in todo:
    if case[1] == "name":
        run(*case)
rest = [c for c in todo if c[1] != "name"]
def work():
    while rest:
        try:
            case = rest.pop(0)
        except IndexError:
            return
        run(*case)
threads = [threading.Thread(target=work) for _ in range(6)]
[t.start() for t in threads]
[t.join() for t in threads]
print(results)
"""

DNS = r"""
import ast, socket, struct, sys
names = ast.literal_eval(sys.argv[2])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], 53))
print("serving", flush=True)
while True:
    data, peer = s.recvfrom(4096)
    end, labels = 12, []
    while data[end]:
        labels.append(data[end + 1:end + 1 + data[end]].decode().lower())
        end += 1 + data[end]
    kind = struct.unpack(">H", data[end + 1:end + 3])[0]
    known = names.get(".".join(labels))
    answer = b""
    if known and kind in (1, 28):
        a = socket.inet_pton(socket.AF_INET, known[0]) if kind == 1 else socket.inet_pton(socket.AF_INET6, known[1])
        answer = b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 300, len(a)) + a
    flags = 0x8180 if known else 0x8183
    s.sendto(data[:2] + struct.pack(">HHHHH", flags, 1, 1 if answer else 0, 0, 0) + data[12:end + 5] + answer, peer)
"""


class Lab(NetNs):
    """Two hosts outside with names, and servers of these ports on them and on the host."""

    def __init__(self, ports, host_ports=()):
        super().__init__()
        try:
            self.run("sysctl", "-q", "-w", "net.ipv4.ping_group_range=0 2147483647")
            away = ("nsenter", "-t", str(self.outside.pid), "-n")
            self.run("ip", "addr", "add", OTHER4 + "/32", "dev", "in", wrap=away)
            self.run("ip", "-6", "addr", "add", OTHER6 + "/128", "dev", "in", "nodad", wrap=away)
            self.start_server(away, SERVE, ",".join((OUTSIDE4, OUTSIDE6, OTHER4, OTHER6)), ",".join(map(str, ports)))
            self.start_server(away, DNS, OUTSIDE4, repr(NAMES))
            if host_ports:
                self.start_server(self.wrap, SERVE, ",".join((HOST4, HOST6)), ",".join(map(str, host_ports)))
        except BaseException:
            self.close()
            raise

    def start_server(self, wrap, program, *args):
        server = subprocess.Popen([*wrap, sys.executable, "-c", program, *args], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE)
        self.servers.append(server)
        if server.stdout.readline() != b"serving\n":
            raise AssertionError("a server of the test did not start")
        return server


class LabTest(BoxTest):
    """Commands run in the namespace of self.ns."""

    ns = None

    @classmethod
    def setUpClass(cls):
        if os.geteuid() != 0:
            raise unittest.SkipTest("network namespaces joined by a cable need root")
        super().setUpClass()

    def ok(self, *args, **options):
        return self.home.ok(*args, wrap=self.ns.wrap, **options)

    def a3s(self, *args, **options):
        return self.home.run(*args, wrap=self.ns.wrap, **options)

    def netds(self):
        return self.home.find_process("a3s-box-netd")

    @classmethod
    def serve(cls, *args, ports=(), program=SERVE, sniff=True):
        """A box with SERVE on these ports; returns its ID."""
        more = ["sniff"] if sniff else []
        box = cls.home.ok("run", "-d", "--dns", OUTSIDE4, *args, "python", "python3", "-c", program, "::",
                          ",".join(map(str, ports)), *more, wrap=cls.ns.wrap).text.strip()
        wait_for("the box to serve", lambda: b"serving" in cls.home.ok("logs", box).out, 90, 0.2)
        return box

    def probe(self, cases):
        """cases: {number: (box, what, address, port, size)}; returns {number: result}. Boxes work side by side."""
        running, results = [], {}
        for box in sorted({c[0] for c in cases.values()}):
            todo = [(n, *c[1:]) for n, c in cases.items() if c[0] == box]
            running.append((box, self.home.popen("exec", box, "python3", "-c", PROBE, repr(todo), wrap=self.ns.wrap)))
        for box, p in running:
            out, err = p.communicate(timeout=150)
            if p.returncode:
                self.fail("the probe in %s failed: %s" % (box, err.decode(errors="replace")))
            results.update(ast.literal_eval(out.decode()))
        return results

    def saw(self, box):
        """Everything that SERVE in the box has written down."""
        return [m[1] for m in re.finditer(r"(?m)^saw (.*)$", self.home.ok("logs", box).text)]


__all__ = ["DNS", "HOST4", "HOST6", "Lab", "LabTest", "NAMES", "OTHER4", "OTHER6", "OUTSIDE4", "OUTSIDE6", "PROBE", "SERVE"]
