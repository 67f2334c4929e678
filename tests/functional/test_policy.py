"""Who may talk to whom: a matrix of cases, each tried from inside a box and looked for inside the box it is meant for. Rules
of every kind, both families, fragments, changes of rules under way, a process of the network that is killed, and boxes that
claim to be somebody else."""

import ast
import json
import os
import signal
import sys
import time

from a3s import core, slow, wait_for
from netlab import HOST4, HOST6, Lab, LabTest, OTHER4, OTHER6, OUTSIDE4, OUTSIDE6

PORTS = (80, 443, 8000, 8050, 8099, 8100, 9000)
GATEWAY = ("10.99.0.1", "fd99::1")
ADDRESS = {"web": ("10.99.0.2", "fd99::2"), "db": ("10.99.0.3", "fd99::3"), "other": ("10.99.0.4", "fd99::4"),
           "gateway": GATEWAY, "example": (OUTSIDE4, OUTSIDE6), "outside": (OTHER4, OTHER6), "host": (HOST4, HOST6)}
BOXES = ("web", "db", "other")
# Packets of this size do not fit in one of the network's; what TCP is given does not fit in one segment.
HUGE4, HUGE6, BULK = 65507, 65527, 300000

CUSTOM = {
    "egress": [
        {"box": "box:web", "peer": "box:db", "protocol": "tcp", "ports": "80,8000-8099", "action": "allow"},
        {"box": "label:tier=front", "peer": "label:tier=back", "protocol": "udp", "ports": "9000", "action": "allow"},
        {"box": "box:www", "peer": ["box:nosuch", "box:db"], "protocol": "icmp", "action": "allow"},
        {"peer": "cidr:%s/32" % OTHER4, "protocol": "tcp", "ports": "8050", "action": "log"},
        {"peer": "cidr:%s/32" % OTHER4, "protocol": "tcp", "ports": "8050", "action": "deny"},
        {"peer": "cidr:198.51.100.8/31", "protocol": "tcp", "action": "allow"},
        {"peer": "cidr:2001:db8::8/125", "ports": "8000-9000", "action": "allow"},
        {"box": "label:tier", "peer": "domain:example.test", "protocol": "tcp", "ports": "443", "action": "allow"},
        {"box": "label:tier", "peer": "domain:*.example.test", "action": "allow"},
        {"box": "box:web", "peer": "domain:liar.test", "action": "allow"},
        {"box": "box:web", "peer": "host", "protocol": "tcp", "ports": "9000", "action": "allow"},
        {"box": "box:web", "peer": "box:other", "action": "allow"},
        {"box": "box:other", "peer": "box:db", "action": "deny"},
        {"box": "box:other", "action": "allow"},
    ],
    "ingress": [
        {"box": "box:db", "peer": "label:tier", "action": "allow"},
        {"box": "box:web", "peer": "cidr:10.99.0.4/32", "ports": "80", "action": "allow"},
        {"box": "label:tier=front", "ports": "443", "protocol": "tcp", "action": "allow"},
    ],
}
# from, to, what, port, size, allowed: "4" and "6" families; size None: small
CUSTOM_CASES = [
    ("web", "db", "tcp", 80, None, "46"), ("web", "db", "tcp", 80, BULK, "46"), ("web", "db", "tcp", 443, None, ""),
    ("web", "db", "tcp", 8000, None, "46"), ("web", "db", "tcp", 8050, None, "46"), ("web", "db", "tcp", 8099, None, "46"),
    ("web", "db", "tcp", 8100, None, ""), ("web", "db", "tcp", 9000, None, ""),
    ("web", "db", "udp", 9000, None, "46"), ("web", "db", "udp", 9000, 1, "46"), ("web", "db", "udp", 9000, "huge", "46"),
    ("web", "db", "udp", 80, None, ""), ("web", "db", "udp", 80, "huge", ""),
    ("web", "db", "ping", 0, None, "46"), ("web", "db", "ping", 0, 60000, "46"), ("web", "db", "ping", 0, "huge", "46"),
    ("db", "web", "tcp", 443, None, ""), ("db", "web", "udp", 9000, None, ""), ("db", "web", "ping", 0, None, ""),
    ("db", "web", "ping", 0, "huge", ""),
    ("web", "other", "tcp", 80, None, ""), ("web", "other", "udp", 9000, None, ""), ("web", "other", "ping", 0, None, ""),
    ("other", "web", "tcp", 80, None, "4"), ("other", "web", "udp", 80, None, "4"), ("other", "web", "tcp", 443, None, "46"),
    ("other", "web", "udp", 443, None, ""), ("other", "web", "ping", 0, None, ""), ("other", "web", "udp", 80, "huge", "4"),
    ("other", "db", "tcp", 80, None, ""), ("other", "db", "udp", 9000, "huge", ""), ("other", "db", "ping", 0, None, ""),
    ("other", "example", "tcp", 80, None, "46"), ("other", "example", "udp", 8100, None, "46"),
    ("other", "outside", "tcp", 8050, None, "6"), ("other", "gateway", "tcp", 80, None, ""),
    ("other", "example", "ping", 0, None, "46"),
    ("web", "outside", "tcp", 80, None, "4"), ("web", "outside", "tcp", 8000, None, "46"),
    ("web", "outside", "tcp", 8050, None, "6"), ("web", "outside", "tcp", 8100, None, "46"),
    ("web", "outside", "udp", 8000, None, "6"), ("web", "outside", "udp", 80, None, ""),
    ("web", "outside", "udp", 9000, 60000, "6"), ("web", "outside", "ping", 0, None, ""),
    ("web", "example", "tcp", 80, None, ""), ("web", "example", "tcp", 443, None, ""),
    ("web", "example", "udp", 443, None, ""), ("db", "outside", "tcp", 9000, None, "46"),
    ("web", "gateway", "tcp", 9000, None, "46"), ("web", "gateway", "tcp", 80, None, ""),
    ("web", "gateway", "udp", 9000, None, ""), ("web", "gateway", "ping", 0, None, ""), ("db", "gateway", "tcp", 9000, None, ""),
    # This host by its own address is this host, and "anybody" is not it.
    ("db", "host", "tcp", 9000, None, ""), ("other", "host", "tcp", 9000, None, ""), ("web", "host", "tcp", 9000, None, "46"),
    ("web", "host", "tcp", 80, None, ""),
]
AFTER_NAMES = [
    ("web", "example", "tcp", 443, None, "46"), ("web", "example", "tcp", 80, None, ""),
    ("web", "example", "udp", 443, None, ""), ("db", "example", "tcp", 443, None, ""),
    ("web", "db", "tcp", 443, None, ""),
]
NONE_CASES = [
    ("web", "db", "tcp", 80, BULK, "46"), ("db", "web", "udp", 8100, None, "46"), ("web", "db", "udp", 443, "huge", "46"),
    ("db", "other", "ping", 0, "huge", "46"), ("web", "outside", "tcp", 8050, None, "46"),
    ("web", "gateway", "tcp", 80, None, "46"), ("web", "gateway", "ping", 0, None, "46"),
    ("db", "example", "udp", 80, "huge", "46"), ("db", "example", "udp", 80, 0, "46"), ("web", "db", "udp", 80, 0, "46"),
    ("other", "example", "ping", 0, 1000, "46"), ("other", "example", "ping", 0, "huge", "46"),
]
STRICT = {
    "egress": [
        {"box": "box:web", "peer": "domain:example.test", "ports": "443,80", "action": "allow"},
        {"peer": "box:db", "action": "allow"},
        {"peer": "cidr:10.99.0.0/24", "action": "allow"},
        {"box": "box:other", "peer": "cidr:%s/32" % OTHER4, "protocol": "icmp", "action": "allow"},
        {"box": "box:db", "peer": "cidr:::/0", "protocol": "udp", "action": "allow"},
    ]
}
STRICT_CASES = [
    ("web", "db", "tcp", 80, None, ""), ("web", "db", "udp", 9000, "huge", ""), ("other", "db", "ping", 0, None, ""),
    ("web", "outside", "tcp", 443, None, ""), ("web", "example", "udp", 9000, None, ""),
    ("other", "outside", "ping", 0, None, "4"), ("other", "outside", "tcp", 80, None, ""),
    ("db", "outside", "udp", 8000, None, "6"), ("db", "outside", "udp", 8000, 60000, "6"),
    ("db", "outside", "tcp", 8000, None, ""), ("db", "gateway", "tcp", 9000, None, ""),
]
EMPTY_CASES = [
    ("web", "db", "tcp", 80, None, ""), ("db", "web", "udp", 80, None, ""), ("web", "db", "ping", 0, "huge", ""),
    ("web", "outside", "tcp", 80, None, ""), ("other", "example", "udp", 80, None, ""), ("web", "gateway", "tcp", 80, None, ""),
]

# Frames that web writes itself. Those named "true" are the proof that the others would have arrived; number: as in PROBE.
FORGE = r"""
import socket, struct, sys
first = int(sys.argv[1])
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
own = s.getsockname()[4]
boxes = {"db": sys.argv[2], "gw": sys.argv[3]}
mac = {k: bytes.fromhex(v.replace(":", "")) for k, v in boxes.items()}
ALL, ALL6 = b"\xff" * 6, bytes.fromhex("333300000001")
WEB, DB, OTHER, GW, OUT = (socket.inet_aton(a) for a in ("10.99.0.2", "10.99.0.3", "10.99.0.4", "10.99.0.1", "198.51.100.7"))
six = lambda a: socket.inet_pton(socket.AF_INET6, a)
WEB6, DB6, OTHER6, GW6, OUT6, LINK6 = map(six, ("fd99::2", "fd99::3", "fd99::4", "fd99::1", "2001:db8::7", "fe80::1234"))

def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(">%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
def ip4(src, dst, proto, data, frag=0, ident=7):
    h = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(data), ident, frag, 64, proto, 0) + src + dst
    return b"\x08\x00" + h[:10] + struct.pack(">H", checksum(h)) + h[12:] + data
def ip6(src, dst, proto, data, hops=64):
    return b"\x86\xdd" + struct.pack(">IHBB", 6 << 28, len(data), proto, hops) + src + dst + data
def icmp6(src, dst, data):
    pseudo = src + dst + struct.pack(">II", len(data), 58)
    return ip6(src, dst, 58, data[:2] + struct.pack(">H", checksum(pseudo + data)) + data[4:], 255)
def udp(number, port=8000, data=b"forged", src=None, dst=None):
    u = struct.pack(">HHHH", number, port, 8 + len(data), 0) + data
    if src is None:
        return u
    sum_ = checksum(src + dst + struct.pack(">II", len(u), 17) + u)
    return u[:6] + struct.pack(">H", sum_ or 0xffff) + data
def arp(op, sha, spa, tha, tpa):
    return b"\x08\x06" + struct.pack(">HHBBH", 1, 0x800, 6, 4, op) + sha + spa + tha + tpa
def syn(number, port=80):
    t = struct.pack(">HHIIBBHHH", number, port, 1, 0, 0x50, 2, 1000, 0, 0)
    return t

def send(dst, rest, src=None):
    s.send(dst + (src or own) + rest)

number = first
def fresh():
    global number
    number += 1
    return number - 1
names = {}
def case(name, dst, make, src=None):
    n = fresh()
    names[n] = name
    for frame in make(n):
        send(dst, frame, src)

"""
FORGE_IN_NONE = r"""
case("true udp4", mac["db"], lambda n: [ip4(WEB, DB, 17, udp(n))])
case("true udp4 to the gateway's address", mac["gw"], lambda n: [ip4(WEB, DB, 17, udp(n))])
case("true udp6", mac["db"], lambda n: [ip6(WEB6, DB6, 17, udp(n, 8000, b"x", WEB6, DB6))])
case("true fragments", mac["db"], lambda n: [
    ip4(WEB, DB, 17, (u := udp(n, 8000, b"f" * 2000))[:1480], 0x2000, n), ip4(WEB, DB, 17, u[1480:], 1480 // 8, n)])
case("source of a box, IPv4", mac["db"], lambda n: [ip4(OTHER, DB, 17, udp(n))])
case("source of the gateway, IPv4", mac["db"], lambda n: [ip4(GW, DB, 17, udp(n))])
case("source outside, IPv4", mac["db"], lambda n: [ip4(OUT, DB, 17, udp(n))])
case("source of the target itself", mac["db"], lambda n: [ip4(DB, DB, 17, udp(n))])
case("source of a box, IPv6", mac["db"], lambda n: [ip6(OTHER6, DB6, 17, udp(n, 8000, b"x", OTHER6, DB6))])
case("source of the gateway, IPv6", mac["db"], lambda n: [ip6(GW6, DB6, 17, udp(n, 8000, b"x", GW6, DB6))])
case("source outside, IPv6", mac["db"], lambda n: [ip6(OUT6, DB6, 17, udp(n, 8000, b"x", OUT6, DB6))])
case("source of the link, IPv6", mac["db"], lambda n: [ip6(LINK6, DB6, 17, udp(n, 8000, b"x", LINK6, DB6))])
case("no source, DHCP discover", ALL, lambda n: [ip4(bytes(4), b"\xff" * 4, 17, udp(68, 67))])
case("DHCP offer to all", ALL, lambda n: [ip4(WEB, b"\xff" * 4, 17, udp(67, 68))])
case("DHCP offer as the gateway", mac["db"], lambda n: [ip4(GW, DB, 17, udp(67, 68))])
case("another box's Ethernet address", mac["db"], lambda n: [ip4(WEB, DB, 17, udp(n))], mac["db"])
case("the gateway's Ethernet address", mac["db"], lambda n: [ip4(WEB, DB, 17, udp(n))], mac["gw"])
case("TCP of another box", mac["db"], lambda n: [ip4(OTHER, DB, 6, syn(n))])
case("fragments of another box", mac["db"], lambda n: [
    ip4(OTHER, DB, 17, (u := udp(n, 8000, b"f" * 2000))[:1480], 0x2000, n), ip4(OTHER, DB, 17, u[1480:], 1480 // 8, n)])
case("second fragment as another box", mac["db"], lambda n: [
    ip4(WEB, DB, 17, (u := udp(n, 8000, b"f" * 2000))[:1480], 0x2000, n), ip4(OTHER, DB, 17, u[1480:], 1480 // 8, n)])
case("overlapping fragments", mac["db"], lambda n: [
    ip4(WEB, DB, 17, (u := udp(n, 8000, b"f" * 2000))[:1480], 0x2000, n), ip4(WEB, DB, 17, u[800:1488], 0x2000 | 100, n),
    ip4(WEB, DB, 17, u[1480:], 1480 // 8, n)])
case("half a packet", mac["db"], lambda n: [ip4(WEB, DB, 17, udp(n, 8000, b"f" * 2000)[:1480], 0x2000, n)])
case("more than 64 KiB of fragments", mac["db"], lambda n: [
    ip4(WEB, DB, 17, udp(n, 8000, b"f" * 2000)[:1480], 0x2000, n), ip4(WEB, DB, 17, b"f" * 1480, 0x1fff, n)])
case("a tag of a network it is not on", mac["db"], lambda n: [b"\x81\x00\x00\x03" + ip4(WEB, DB, 17, udp(n))])
case("two tags", mac["db"], lambda n: [b"\x81\x00\x00\x01\x81\x00\x00\x02" + ip4(WEB, DB, 17, udp(n))])
case("IPv4 to all", ALL, lambda n: [ip4(WEB, b"\xff" * 4, 17, udp(n))])
case("to all with an address of one", ALL, lambda n: [ip4(WEB, DB, 17, udp(n))])
case("IPv4 to a group", bytes.fromhex("01005e000001"), lambda n: [ip4(WEB, socket.inet_aton("224.0.0.1"), 17, udp(n))])
case("IPv6 to a group", ALL6, lambda n: [ip6(WEB6, six("ff02::1"), 17, udp(n, 8000, b"x", WEB6, six("ff02::1")))])
case("header longer than the packet", mac["db"], lambda n: [(p := ip4(WEB, DB, 17, udp(n)))[:2] + b"\x4f" + p[3:24]])
case("ARP answer: the gateway is here, to one", mac["db"], lambda n: [arp(2, own, GW, mac["db"], DB)])
case("ARP answer: the gateway is here, to all", ALL, lambda n: [arp(2, own, GW, ALL, GW)])
case("ARP question as the gateway", ALL, lambda n: [arp(1, own, GW, bytes(6), DB)])
case("ARP question as another", ALL, lambda n: [arp(1, own, OTHER, bytes(6), DB)])
case("ARP with a false Ethernet address in it", mac["db"], lambda n: [arp(2, mac["gw"], WEB, mac["db"], DB)])
na = lambda target: b"\x88\0\0\0\xa0\0\0\0" + target + b"\2\1" + own
case("neighbour advertisement for the gateway, to one", mac["db"], lambda n: [icmp6(WEB6, DB6, na(GW6))])
case("neighbour advertisement for the gateway, to all", ALL6, lambda n: [icmp6(WEB6, six("ff02::1"), na(GW6))])
case("neighbour advertisement as the gateway", mac["db"], lambda n: [icmp6(GW6, DB6, na(GW6))])
ra = b"\x86\0\0\0\x40\x00\x07\x08" + bytes(8) + b"\1\1" + own
case("router advertisement to all", ALL6, lambda n: [icmp6(LINK6, six("ff02::1"), ra)])
case("router advertisement to one", mac["db"], lambda n: [icmp6(WEB6, DB6, ra)])
case("redirect, IPv6", mac["db"], lambda n: [icmp6(LINK6, DB6, b"\x89\0\0\0\0\0\0\0" + WEB6 + OUT6)])
case("redirect, IPv4", mac["db"], lambda n: [ip4(GW, DB, 1, b"\5\1" + struct.pack(">H", 0) + WEB + bytes(28))])
case("spanning tree", bytes.fromhex("0180c2000000"), lambda n: [b"\x00\x26\x42\x42\x03" + bytes(40)])
case("another kind of frame", mac["db"], lambda n: [b"\x88\xb5" + b"anything" * 8])
case("a frame of no length", mac["db"], lambda n: [b"\x08\x00"])
case("true last", mac["db"], lambda n: [ip4(WEB, DB, 17, udp(n))])
print(names)
"""
# Under CUSTOM: web may talk to port 9000 of db by UDP, and not to port 80.
FORGE_IN_CUSTOM = r"""
udp6 = lambda n, port: udp(n, port, b"x", WEB6, DB6)
def options4(n, port):
    u = udp(n, port)
    h = struct.pack(">BBHHHBBH", 0x46, 0, 24 + len(u), 7, 0, 64, 17, 0) + WEB + DB + b"\1\1\1\0"
    return b"\x08\x00" + h[:10] + struct.pack(">H", checksum(h)) + h[12:] + u
frag6 = lambda n, kind, offset, data: ip6(WEB6, DB6, 44, struct.pack(">BBHI", kind, 0, offset, n) + data)
pad = b"\1\4\0\0\0\0"
for word, port in (("true ", 9000), ("denied ", 80)):
    case(word + "plain", mac["db"], lambda n: [ip4(WEB, DB, 17, udp(n, port))])
    case(word + "options of IPv4", mac["db"], lambda n: [options4(n, port)])
    case(word + "destination options, IPv6", mac["db"], lambda n: [ip6(WEB6, DB6, 60, b"\x11\0" + pad + udp6(n, port))])
    case(word + "one fragment, IPv6", mac["db"], lambda n: [frag6(n, 17, 0, udp6(n, port))])
    case(word + "options in fragments, IPv6", mac["db"], lambda n: [
        frag6(n, 60, 1, (d := b"\x11\0" + pad + udp6(n, port) + b"")[:16]), frag6(n, 60, 16, d[16:])])
case("denied hop-by-hop options", mac["db"], lambda n: [ip6(WEB6, DB6, 0, b"\x11\0" + pad + udp6(n, 80))])
case("denied route", mac["db"], lambda n: [ip6(WEB6, DB6, 43, b"\x11\2\0\1\0\0\0\0" + OTHER6 + udp6(n, 9000))])
case("denied options that hide the ports from the first fragment", mac["db"], lambda n: [
    frag6(n, 60, 1, b"\x11\0" + pad), frag6(n, 60, 8, udp6(n, 9000))])
case("denied fragment in a fragment", mac["db"], lambda n: [
    frag6(n, 44, 0, struct.pack(">BBHI", 17, 0, 0, n) + udp6(n, 9000))])
case("denied TCP in fragments", mac["db"], lambda n: [
    ip4(WEB, DB, 6, (t := syn(n, 443))[:8], 0x2000, n), ip4(WEB, DB, 6, t[8:], 1, n)])
case("denied IPv6 in IPv4", mac["db"], lambda n: [ip4(WEB, DB, 41, ip6(WEB6, DB6, 17, udp6(n, 9000))[2:])])
case("denied GRE", mac["db"], lambda n: [ip4(WEB, DB, 47, bytes(4))])
case("denied SCTP", mac["db"], lambda n: [ip4(WEB, DB, 132, struct.pack(">HHII", n, 9000, 0, 0))])
case("denied protocol of IPv6", mac["db"], lambda n: [ip6(WEB6, DB6, 253, bytes(16))])
def icmp4(kind, rest):
    m = bytes([kind, 0, 0, 0]) + rest
    return ip4(WEB, DB, 1, m[:2] + struct.pack(">H", checksum(m)) + m[4:])
case("denied error about nothing", mac["db"], lambda n: [icmp4(12, bytes(4) + ip4(DB, WEB, 17, udp(n))[2:30])])
case("denied question for the time", mac["db"], lambda n: [icmp4(13, bytes(16))])
case("true last", mac["db"], lambda n: [ip4(WEB, DB, 17, udp(n, 9000))])
print(names)
"""

# A connection that says something each second, until it is cut off.
TALK = r"""
import socket, sys, threading, time
def talk(address, port):
    name = "%s %s" % (address, port)
    try:
        with socket.create_connection((address, int(port)), timeout=60) as s:
            while True:
                s.sendall(b"x")
                if not s.recv(1):
                    break
                print("alive", name, flush=True)
                time.sleep(0.3)
    except OSError as e:
        print("ended", name, type(e).__name__, flush=True)
        return
    print("ended", name, "closed", flush=True)
for where in sys.argv[1:]:
    threading.Thread(target=talk, args=where.split("/")).start()
"""


class Policy(LabTest):
    images_wanted = ("python",)

    @classmethod
    def prepare(cls):
        cls.ns = Lab(PORTS, PORTS)
        cls.addClassCleanup(cls.ns.close)
        cls.number, cls.ids = 20000, {}
        run = lambda *args: cls.home.ok(*args, wrap=cls.ns.wrap)
        run("network", "create", "--subnet", "10.99.0.0/24", "--subnet", "fd99::/64", "net")
        for name, label, more in (("web", "tier=front", ["--network-alias", "www", "-p", "8443:443", "-p", "8081:80"]),
                                  ("db", "tier=back", ["-p", "18000:8000", "-p", "19000:9000/udp"]), ("other", "kind=x", [])):
            cls.ids[name] = cls.serve("--name", name, "--label", label, "--network", "net", "--ip", ADDRESS[name][0], "--ip6",
                      ADDRESS[name][1], *more, ports=PORTS)

    def update(self, isolation, rules=None):
        args = ["--isolation", isolation] + (["--policy", "-"] if rules is not None else [])
        self.ok("network", "update", *args, "net", input=json.dumps(rules).encode() if rules is not None else None)

    def counters(self):
        (value,) = json.loads(self.ok("network", "inspect", "net").out)
        return value["Counters"]

    def expand(self, table):
        """{number: case}, and {number: whether it is allowed}: both families of each line."""
        cases, wanted = {}, {}
        for source, target, what, port, size, allowed in table:
            for i, mark in enumerate("46"):
                size_now = 20 if size is None else (HUGE4, HUGE6)[i] if size == "huge" else size
                if what == "name":
                    if i:
                        continue
                    cases[Policy.number] = (source, what, target, 0, 0)
                else:
                    cases[Policy.number] = (source, what, ADDRESS[target][i], port, size_now)
                wanted[Policy.number] = mark in allowed
                Policy.number += 1
        return cases, wanted

    def matrix(self, title, table):
        """Tries all, and looks for what has arrived where. Returns how many there were."""
        cases, wanted = self.expand(table)
        results = self.probe(cases)
        # What came back as it was has arrived; who looks on may miss a frame when several large ones come at once.
        arrived = lambda box: set(" ".join(line.split()[:2]) for line in self.saw(self.ids[box]))
        mark = lambda number: "%s %d" % ("icmp" if cases[number][1] == "ping" else cases[number][1], number)
        wrong = []
        seen = {box: arrived(box) for box in BOXES}
        for number, case in cases.items():
            # TCP, and names, are refused at once; of the others the errors are limited in rate.
            fine = ("ok",) if wanted[number] else ("refused",) if case[1] in ("tcp", "name") else ("refused", "silent")
            if results.get(number) not in fine:
                wrong.append("%s: %s, not %s" % (case, results.get(number), " or ".join(fine)))
            wrong += ["%s: seen in %s" % (case, box) for box in BOXES
                      if mark(number) in seen[box] and not (wanted[number] and case[2] in ADDRESS[box])]
        for box in BOXES:
            due = {mark(n) for n, c in cases.items() if wanted[n] and c[2] in ADDRESS[box]}
            if due and not wrong:
                wait_for("%s to see what arrives" % box, lambda: len(due & arrived(box)) * 2 >= len(due), 20)
        if wrong:
            self.fail("%s, %d of %d:\n%s\n%s" % (title, len(wrong), len(cases), "\n".join(wrong),
                                                json.dumps(self.counters())))
        return len(cases)

    @core
    @slow(400)
    def test_matrix(self):
        self.update("none")
        n = self.matrix("none", NONE_CASES)

        self.update("custom", CUSTOM)
        self.since = "%.6f" % time.time()
        n += self.matrix("custom", CUSTOM_CASES)
        # By name: only what was asked for, by who asked; and a name never means another box, whatever it claims.
        n += self.matrix("custom, after names were asked for",
                         [("web", name, "name", 0, None, "46") for name in ("example.test", "liar.test")] + AFTER_NAMES)
        self.assertEqual(self.ns.connect("127.0.0.1", 8443), "connected")
        self.ns.run(sys.executable, "-c", "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
                    "s.bind(('127.0.0.1', %d)); s.sendto(b'hello', ('127.0.0.1', 19000))" % Policy.number)
        counters = self.counters()
        rules = counters["Rules"]
        self.assertEqual([bool(r["Denied"]) for r in rules["egress"]], [i in (4, 12) for i in range(len(CUSTOM["egress"]))])
        self.assertGreater(rules["egress"][3]["Logged"], 0)
        self.assertGreater(counters["DeniedByDefault"], 20)
        self.assertEqual(counters["Denied"], counters["DeniedByDefault"] + sum(r["Denied"] for r in rules["egress"]))
        self.assertTrue(all(b["Denied"] for b in counters["Boxes"].values()))
        self.check_audit()
        self.assertFalse([line for line in self.saw("db") if line.startswith("udp %d " % Policy.number)])
        Policy.number += 1

        self.update("strict", STRICT)
        n += self.matrix("strict", STRICT_CASES)
        n += self.matrix("strict, names", [
            ("web", "example.test", "name", 0, None, "46"), ("web", "other.test", "name", 0, None, ""),
            ("web", "example", "tcp", 80, None, "46"), ("web", "example", "udp", 443, None, "46")])
        self.assertEqual(self.ns.connect("127.0.0.1", 8081), "connected")

        self.update("custom", {})
        n += self.matrix("custom without rules", EMPTY_CASES)
        self.assertGreater(n, 120)

    def check_audit(self):
        def entries():
            lines = self.ok("audit", "--action", "network", "--since", self.since, "--json").lines
            return [json.loads(line) for line in lines]

        wait_for("denials in the audit log", lambda: len(entries()) > 10, 30, 0.3)
        found = {(e["outcome"], e["boxes"][0]["name"], e["network"]["direction"]) for e in entries()}
        self.assertLessEqual({("denied", "web", "egress"), ("denied", "db", "egress")}, found)
        self.assertTrue(all(e["network"]["name"] == "net" for e in entries()))

    @core
    @slow(300)
    def test_forgery(self):
        """Where all may talk to all, nobody may pretend to be another, or to be the router."""
        self.update("none")
        # Both know the way, so that nothing is asked for meanwhile.
        self.matrix("before", [("db", "gateway", "tcp", 80, None, "46"), ("web", "db", "tcp", 80, None, "46")])
        spoofed = self.counters()["Spoofed"]
        self.forge(FORGE_IN_NONE)
        self.assertGreaterEqual(self.counters()["Spoofed"] - spoofed, 20)
        # What db knows of its neighbours is what it was.
        arp = {line.split()[0]: line.split()[3] for line in self.ok("exec", "db", "cat", "/proc/net/arp").lines[1:]}
        self.assertEqual(arp.get("10.99.0.1"), self.gateway_mac())
        self.matrix("after", [("db", "gateway", "tcp", 80, None, "46"), ("db", "web", "tcp", 80, None, "46"),
                              ("db", "outside", "tcp", 80, None, "46")])
        self.update("custom", CUSTOM)
        self.forge(FORGE_IN_CUSTOM)

    def forge(self, cases):
        """web sends frames of its own making; db sees the true ones and nothing else, and other sees nothing."""
        macs = {line.split()[0]: line.split()[3] for line in self.ok("exec", "web", "cat", "/proc/net/arp").lines[1:]}
        first = Policy.number
        Policy.number += 200
        before = len(self.saw("db")), len(self.saw("other"))
        names = ast.literal_eval(self.ok("exec", "web", "python3", "-c", FORGE + cases, first, macs["10.99.0.3"],
                                         self.gateway_mac()).text)
        last = "udp %d 10.99.0.2" % max(names)
        wait_for("the last frame", lambda: last in self.saw("db"), 30)
        # Answers: to questions of db's own, and that web has no such port when it is answered for what it did not ask.
        answers = ("arp2 10.99.0.2", "arp2 10.99.0.1", "icmp-type 3 10.99.0.2", "icmp-type 1 fd99::2", "icmp-type 136 fd99::2",
                   "icmp-type 136 fd99::1")
        seen = {line for line in self.saw("db")[before[0]:] if line not in answers}
        wanted = {"udp %d %s" % (n, "fd99::2" if name.endswith("6") else "10.99.0.2"): name
                  for n, name in names.items() if name.startswith("true")}
        self.assertEqual({line: names.get(int("0" + line.split()[1]) if line.split()[1].isdigit() else 0, "?")
                          for line in seen - set(wanted)}, {})
        self.assertEqual({name for line, name in wanted.items() if line not in seen}, set())
        self.assertEqual(self.saw("other")[before[1]:], [])

    def gateway_mac(self):
        for line in self.ok("exec", "db", "cat", "/proc/net/arp").lines[1:]:
            if line.split()[0] == "10.99.0.1":
                return line.split()[3]
        self.fail("db does not know the gateway")
        return None

    @slow(300)
    def test_changes_under_way(self):
        """What is denied from now on ends, what is allowed goes on; and a new process of the network holds the same rules."""
        self.update("custom", CUSTOM)
        where = ["10.99.0.3/80", "10.99.0.3/8000", "fd99::3/80", "fd99::3/8000", OTHER4 + "/80", OTHER4 + "/9000",
                 OTHER6 + "/8000"]
        p = self.home.popen("exec", "web", "python3", "-c", TALK, *where, wrap=self.ns.wrap)
        lines = []
        os.set_blocking(p.stdout.fileno(), False)

        def told():
            data = p.stdout.read()
            lines.extend((data or b"").decode().splitlines())
            return lines

        def alive(names):
            lines.clear()
            wait_for("%s to be alive" % names, lambda: {"alive %s" % n for n in names} <= set(told()), 30)

        every = [w.replace("/", " ") for w in where]
        try:
            alive(every)
            rules = json.loads(json.dumps(CUSTOM))
            rules["egress"][0]["ports"] = "80"
            rules["egress"][5]["ports"] = "80"
            self.update("custom", rules)
            ended = {"10.99.0.3 8000", "fd99::3 8000", OTHER4 + " 9000"}
            lines.clear()
            gone = lambda: {" ".join(line.split()[1:3]) for line in told() if line.startswith("ended")}
            wait_for("what is denied to end", lambda: gone() == ended, 30)
            kept = [e for e in every if e not in ended]
            alive(kept)
            # A crash: connections between boxes go on, those with the outside end; the rules are the same.
            (pid,) = self.netds()
            os.kill(pid, signal.SIGKILL)
            wait_for("another process", lambda: self.netds() not in ([], [pid]))
            self.processes_before |= set(self.netds())
            alive(["10.99.0.3 80", "fd99::3 80"])
            self.assertNotIn("alive " + OTHER4 + " 9000", lines)
            table = [c for c in CUSTOM_CASES if c[3] in (80, 443, 0) and c[0] == "web"] + \
                [("web", "db", "tcp", 8000, None, ""), ("web", "outside", "tcp", 9000, None, "6"),
                 ("other", "web", "tcp", 80, None, "4"), ("other", "db", "tcp", 80, None, "")]
            self.matrix("after the network's process was killed", table)
            # Rules are about names: another name is another box.
            self.ok("rename", "web", "shop")
            try:
                self.matrix("under another name", [("shop", "db", "tcp", 80, None, ""), ("shop", "db", "ping", 0, None, "46")])
            finally:
                self.ok("rename", "shop", "web")
            self.matrix("under its own name", [("web", "db", "tcp", 80, None, "46")])
            self.update("strict", STRICT)
            wait_for("all to end", lambda: (told(), p.poll())[1] is not None, 60)
        finally:
            p.kill()
            p.communicate()
