"""Benchmarks of the network, run by tests/bench/run: boxes against bare QEMU with `-netdev user`, and with passt.

The same program (net-guest.c) is served by all guests; each comparison takes its turn, and medians are compared. All of
it happens on the loopback of a network namespace of its own, which needs privileges.

    default    a box on its own default network, with a published port
    network    two boxes on a network made by `network create`
    user       bare QEMU with `-netdev user` and hostfwd; its MTU cannot be other than 1500
    passt      bare QEMU with passt by `-netdev stream`, MTU 65520

A guest of bare QEMU reaches another by that one's port on the host: it has no other way. On a host
that is not idle otherwise, latencies say more of its scheduler than of any side.
"""

import contextlib
import ctypes
import json
import os
import shutil
import socket
import statistics
import struct
import subprocess
import threading
import time

import bare
import daily

CLONE_NEWNET = 0x40000000
HOST, ROUTER = "203.0.113.1", "203.0.113.254"  # RFC 5737; nobody is at the second
PORT = 7000  # net-guest.c
FIRST_PORT = 7001  # on the host
MEMORY_MIB = 256
READY_S = 60
REPLY_S = 120
CHUNK = 1 << 20
TURN_S = 0.4  # what one measurement should take
PACKETS = 20000
LOOKUPS = 100
NAME = "host.example.test"
RULES, RULES_BYTES, RULES_TRIPS, RULES_CONNECTIONS = 100, 30 << 20, 300, 50
BENCH_NETD_S = 10


# ---- a network namespace ----


@contextlib.contextmanager
def namespace():
    """This thread, and what it starts, is in a network namespace with HOST on its loopback meanwhile."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(CLONE_NEWNET) < 0:
            raise PermissionError(ctypes.get_errno(), "unshare")
        try:
            for line in ("link set lo up", "link add out type veth peer name in", "link set out up", "link set in up",
                         "addr add %s/24 dev out" % HOST, "route add default via %s" % ROUTER):
                subprocess.run(["ip", *line.split()], check=True)
            yield
        finally:
            libc.setns(before, CLONE_NEWNET)
    finally:
        os.close(before)


# ---- one end: the program in a guest, seen from the host ----


def receive(sock, count):
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise EOFError("the guest ended the connection")
        data += more
    return data


class Guest:
    """A server in a guest, at a port of HOST; `inside` is where another guest of its kind reaches it."""

    zeros = memoryview(bytes(CHUNK))
    buffer = bytearray(CHUNK)

    def __init__(self, port, inside=None):
        self.port = port
        self.inside = inside or (HOST, port)
        self.helpers, self.machines = [], []

    def dial(self, what):
        sock = socket.create_connection((HOST, self.port), timeout=REPLY_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(what)
        return sock

    def wait(self):
        """Until it answers: both slirp and passt accept connections before the guest does."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, EOFError):
                with self.dial(b"") as sock:
                    sock.settimeout(2)
                    sock.sendall(b"R")
                    receive(sock, 1)
                    return self
            time.sleep(0.1)
        raise SystemExit("the guest at port %d does not answer" % self.port)

    def ask(self, *line):
        """Has it be the client of another; returns seconds."""
        with self.dial(("C%s\n" % " ".join(map(str, line))).encode()) as sock:
            reply = sock.makefile("r").readline()
        if not reply.strip().isdigit():
            raise SystemExit("%s of the guest at port %d: %r" % (line, self.port, reply))
        return int(reply) / 1e9

    # Each takes a count, and returns the seconds it took.

    def sink(self, count):
        with self.dial(b"K") as sock:
            start = time.monotonic()
            for at in range(0, count, CHUNK):
                sock.sendall(self.zeros[:min(CHUNK, count - at)])
            sock.shutdown(socket.SHUT_WR)
            receive(sock, 1)
            return time.monotonic() - start

    def source(self, count):
        with self.dial(b"S") as sock:
            start = time.monotonic()
            sock.sendall(struct.pack(">Q", count))
            got = 0
            while got < count:
                n = sock.recv_into(self.buffer)
                if n == 0:
                    raise SystemExit("the guest sent %d bytes, not %d" % (got, count))
                got += n
            return time.monotonic() - start

    def echo(self, count):
        with self.dial(b"E") as sock:
            start = time.monotonic()
            for _ in range(count):
                sock.sendall(b"x")
                receive(sock, 1)
            return time.monotonic() - start

    def requests(self, count):
        start = time.monotonic()
        for _ in range(count):
            with self.dial(b"R") as sock:
                receive(sock, 1)
        return time.monotonic() - start

    def datagrams(self, sender):
        """Datagrams a second that arrive of the other guest's."""
        with self.dial(b"U") as sock:
            receive(sock, 1)
            sender.ask("F", *self.inside, PACKETS)
            n, took = map(int, sock.makefile("r").readline().split())
        return n * 1e9 / max(took, 1)


class HostServer:
    """What guests connect to on the host: one request and its answer."""

    def __init__(self):
        self.sock = socket.create_server((HOST, 0), backlog=128)
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                client = self.sock.accept()[0]
            except OSError:
                return
            with client, contextlib.suppress(OSError):
                client.recv(1)
                client.sendall(b"r")


class Resolver:
    """Knows one name."""

    def __init__(self):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((HOST, 53))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            query, peer = self.sock.recvfrom(4096)
            end = query.index(b"\0", 12) + 5
            answer = b"\xc0\x0c" + struct.pack(">HHIH4s", 1, 1, 0, 4, socket.inet_aton("203.0.113.9"))
            self.sock.sendto(query[:2] + struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0) + query[12:end] + answer, peer)


# ---- the sides ----


class Sides:
    def __init__(self, bench, accel, build, stack):
        self.bench, self.home, self.stack = bench, bench.home, stack
        self.ports = iter(range(FIRST_PORT, FIRST_PORT + 100))
        self.program = bare.compiled("net-guest.c", bench.tmp / "net-guest", "-O2")
        self.accel, self.kernel = accel, build / "vmlinux"
        self.initrd = bare.cpio(bench.tmp / "net.cpio", {"init": self.program})
        self.options = bare.product_options(self.home, MEMORY_MIB)

    def start(self, argv, fds=()):
        process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, pass_fds=fds)
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return process.pid

    def machine(self, guest, mtu, netdev, fds=()):
        machine, cpu, append = self.options
        append += " BENCH_IP=10.0.2.15 BENCH_GW=10.0.2.2 BENCH_MTU=%d" % mtu
        argv = bare.qemu_argv(self.accel, machine, cpu, MEMORY_MIB, self.kernel, self.initrd, append)
        argv += ["-global", "virtio-mmio.force-legacy=false", "-netdev", netdev,
                 "-device", "virtio-net-device,netdev=n"]
        guest.machines.append(self.start(argv, fds))
        return guest

    def user(self):
        guest = Guest(next(self.ports))
        return self.machine(guest, 1500, "user,id=n,hostfwd=tcp:%s:%d-:%d" % (HOST, guest.port, PORT))

    def passt(self):
        guest = Guest(next(self.ports))
        ours, theirs = socket.socketpair()
        with ours, theirs:
            guest.helpers.append(self.start(
                ["passt", "-f", "-q", "-F", theirs.fileno(), "--runas", "%d:%d" % (os.getuid(), os.getgid()),
                 "-a", "10.0.2.15", "-n", "24", "-g", "10.0.2.2", "-m", "65520", "-4",
                 "-t", "%s/%d:%d" % (HOST, guest.port, PORT)], (theirs.fileno(),)))
            netdev = "stream,id=n,server=off,addr.type=fd,addr.str=%d" % ours.fileno()
            return self.machine(guest, 65520, netdev, (ours.fileno(),))

    def box(self, name, *options):
        port = next(self.ports)
        self.home.run_detached("--name", name, "-m", "%dm" % MEMORY_MIB, "--dns", HOST, "-p",
                               "%s:%d:%d" % (HOST, port, PORT), *options, "box", "sleep", "100000")
        self.stack.callback(self.home.run, "rm", "-f", name)
        self.home.ok("exec", "-i", name, "sh", "-c", "cat >/net-guest && chmod 755 /net-guest", input=self.program)
        self.home.ok("exec", "-d", name, "/net-guest")
        box = self.home.inspect(name)
        guest = Guest(port)
        guest.helpers = self.home.find_process("a3s-box-shim", box["Id"]) + self.home.find_process("a3s-box-netd")
        guest.machines = [pid for pid in self.home.find_machines() if self.home.belongs(pid, box["Id"])]
        networks = box["NetworkSettings"]["Networks"]
        guest.inside = (next(iter(networks.values()))["IPAddress"], PORT)
        guest.gateway = next(iter(networks.values()))["Gateway"]
        return guest


# ---- what is measured ----


class Quantity:
    """The same of several sides, each a function that takes a count and returns seconds, and the guests at work."""

    def __init__(self, name, unit, sides, first, most):
        self.name, self.unit, self.sides = name, unit, sides
        self.counts, self.values = {}, {side: [] for side in sides}
        self.used = {side: {"helpers": 0, "machines": 0, "seconds": 0} for side in sides}
        for side, (fn, _) in sides.items():
            fn(first)
            self.counts[side] = int(min(max(first * TURN_S / fn(first), 10), most))

    @staticmethod
    def cpu(guests, which):
        return sum(daily.cpu_seconds(pid) for pid in {pid for guest in guests for pid in getattr(guest, which)})

    def turn(self):
        for side, (fn, guests) in self.sides.items():
            before = {which: self.cpu(guests, which) for which in ("helpers", "machines")}
            count, used = self.counts[side], self.used[side]
            seconds = fn(count)
            for which, was in before.items():
                used[which] += self.cpu(guests, which) - was
            used["seconds"] += seconds
            self.values[side].append(count / seconds / 1e6 if self.unit == "MB/s" else seconds / count * 1e6)

    def median(self, side):
        return statistics.median(self.values[side])

    def say(self, bench):
        bench.say(self.name)
        for side, values in self.values.items():
            used = self.used[side]
            bench.say("  %-8s %9.1f %s (%.1f to %.1f); processors: machines %.2f, helpers %.2f" % (
                side, self.median(side), self.unit, min(values), max(values), used["machines"] / used["seconds"],
                used["helpers"] / used["seconds"]))


def megabytes(name, sides):
    return Quantity(name, "MB/s", sides, 2 << 20, 1 << 31)


def each_us(name, sides):
    return Quantity(name, "us", sides, 20, 20000)


def against_others(bench, sides):
    """Boxes against bare QEMU."""
    server = HostServer()
    sides.stack.callback(server.sock.close)
    user, passt = (sides.user(), sides.user()), (sides.passt(), sides.passt())
    default, network = sides.box("bench-default"), (sides.box("bench-a", "--network", "bench"),
                                                    sides.box("bench-b", "--network", "bench"))
    for guest in (*user, *passt, default, *network):
        guest.wait()
    firsts = {"user": user[0], "passt": passt[0], "default": default, "network": network[0]}
    pairs = {"user": user, "passt": passt, "network": network}

    def by_host(method):
        return {side: (getattr(guest, method), [guest]) for side, guest in firsts.items()}

    def by_guest(what, *where):
        return {side: (lambda n, g=guest: g.ask(what, *where, n), [guest]) for side, guest in firsts.items()}

    def by_pair(what):
        return {side: (lambda n, p=pair: p[0].ask(what, *p[1].inside, n), pair) for side, pair in pairs.items()}

    quantities = [megabytes("TCP, host to box", by_host("sink")),
                  megabytes("TCP, box to host", by_host("source")),
                  megabytes("TCP, box to box", by_pair("K")),
                  each_us("round trip of one byte, host and box", by_host("echo")),
                  each_us("round trip of one byte, box and box", by_pair("E")),
                  each_us("connect, request, answer, end: host to box", by_host("requests")),
                  each_us("connect, request, answer, end: box to host", by_guest("R", HOST, server.port)),
                  each_us("connect, request, answer, end: box to box", by_pair("R"))]
    for _ in range(bench.rounds):
        for quantity in quantities:
            quantity.turn()
    for quantity in quantities:
        quantity.say(bench)
        up = quantity.unit == "MB/s"
        others = (max if up else min)(quantity.median(side) for side in ("user", "passt"))
        for side in ("default", "network"):
            if side in quantity.sides:
                bench.numbers.add("%s, %s / better of user, passt" % (quantity.name, side),
                                  quantity.median(side) / others, 1, lower_is_better=not up)
    return network, user[0]


def names(bench, network, other):
    """Names of boxes, and those that netd asks another server for; bare QEMU's guest asks that server itself."""
    asked = {"a box's name": (network[0], network[0].gateway, "bench-b"),
             "forwarded": (network[0], network[0].gateway, NAME),
             "user, asking the server itself": (other, HOST, NAME)}
    took = {name: [] for name in asked}
    for _ in range(bench.rounds):
        for name, (guest, *question) in asked.items():
            took[name].append(guest.ask("D", *question, LOOKUPS) * 1e6)
    bench.say("DNS, medians of %d look-ups" % LOOKUPS)
    for name, values in took.items():
        bench.say("  %-32s %9.1f us (%.1f to %.1f)" % (name, statistics.median(values), min(values), max(values)))
    bench.numbers.add("DNS answer, a box's name", statistics.median(took["a box's name"]) / 1000, unit=" ms")
    bench.numbers.add("DNS answer, forwarded", statistics.median(took["forwarded"]) / 1000, unit=" ms")


def rules(bench, network, build):
    """Between two boxes, with a policy of RULES rules of which only the last says something of them, and with none."""
    denied = [{"box": "box:bench-a", "peer": "cidr:10.200.%d.0/24" % n, "ports": "%d" % (1000 + n), "action": "deny"}
              for n in range(RULES - 1)]
    policy = bench.tmp / "rules.json"
    policy.write_text(json.dumps({"egress": [*denied, {"action": "allow"}], "ingress": [{"action": "allow"}]}))
    settings = {"none": ("--isolation", "none"), "rules": ("--isolation", "custom", "--policy", policy)}
    a, b = network
    fns = {
        "MB/s": lambda: RULES_BYTES / a.ask("K", *b.inside, RULES_BYTES) / 1e6,
        "datagrams/s": lambda: b.datagrams(a),
        "us a round trip": lambda: a.ask("E", *b.inside, RULES_TRIPS) / RULES_TRIPS * 1e6,
        "us a connection": lambda: a.ask("R", *b.inside, RULES_CONNECTIONS) / RULES_CONNECTIONS * 1e6,
    }
    values = {name: {key: [] for key in fns} for name in settings}
    for _ in range(bench.rounds):
        for name, options in settings.items():
            bench.home.ok("network", "update", *options, "bench")
            for key, fn in fns.items():
                values[name][key].append(fn())
    for key in fns:
        none, some = (statistics.median(values[name][key]) for name in ("none", "rules"))
        bench.say("box to box, no rules / %d rules:      %.1f / %.1f %s" % (RULES, none, some, key))
        # Only a connection's first packet is held against the rules.
        bench.numbers.add("cost of %d rules, %s" % (RULES, key), none / some if key.endswith("/s") else some / none,
                          None if key.endswith("connection") else 1.05)
    # What only netd does, to the nanosecond: the guests above hide it.
    subprocess.run(["ninja", "-C", str(build), "--quiet", "src/net/bench-netd"], check=True)
    out = subprocess.run([build / "src/net/bench-netd", str(BENCH_NETD_S)], stdout=subprocess.PIPE, check=True,
                         text=True).stdout
    for line in out.splitlines():
        bench.say("netd: " + line)
        words = line.replace(",", "").split()
        if words[2] == str(RULES):
            bench.numbers.add("cost of %d rules, netd's time for a frame of %s bytes" % (RULES, words[0]),
                              float(words[-3]), 1.05)


def measure(bench, accel, build):
    if not shutil.which("passt"):
        bench.say("no benchmarks of the network: passt is not installed")
        return
    try:
        with namespace(), contextlib.ExitStack() as stack:
            bench.home.ok("network", "create", "bench")
            stack.callback(bench.home.run, "network", "rm", "bench")
            stack.callback(Resolver().sock.close)
            network, other = against_others(bench, Sides(bench, accel, build, stack))
            names(bench, network, other)
            rules(bench, network, build)
    except PermissionError as e:
        bench.say("no benchmarks of the network: a network namespace needs privileges: %s" % e)
