"""The process of a network without a box: this test is the box, which writes its frames itself. Names and datagrams through the
program as it is, confined and all, in a network namespace of its own, without privilege."""

import json
import os
import socket
import struct
import subprocess
import sys
import time

BOX4, GATEWAY4, OUTSIDE4 = "10.9.0.2", "10.9.0.1", "198.51.100.7"
BOX6, GATEWAY6, OUTSIDE6 = "fd09::2", "fd09::1", "2001:db8::7"
MAC = bytes.fromhex("020000000002")
LIMIT_S = 60


# ---- what runs in the namespace ----

def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def pack(address):
    return socket.inet_pton(family(address), address)


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(">%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def question(number, name, kind, flags=0x100):
    labels = b"".join(bytes([len(x)]) + x.encode() for x in name.split("."))
    return struct.pack(">HHHHHH", number, flags, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)


class Box:
    """One that is attached; frames as in virtio/net.h."""

    def __init__(self, control, published=(), **more):
        self.frames, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.frames.settimeout(LIMIT_S)
        attach = dict(op="attach", box="0123456789ab" + "c" * 52, name="web", hostname="web", mac=MAC.hex(), ip4=BOX4, ip6=BOX6,
                      publish=["%d/udp" % port for port, _ in published], **more)
        socket.send_fds(control, [json.dumps(attach).encode()], [peer.fileno()] + [s.fileno() for _, s in published])
        answer = json.loads(control.recv(1 << 18))
        assert answer["error"] is None, answer
        peer.close()
        # The gateway's address, as the first thing a kernel asks for (RFC 826).
        self.gateway = b"\xff" * 6
        self.send_frame(b"\x08\x06" + struct.pack(">HHBBH", 1, 0x800, 6, 4, 1) + MAC + pack(BOX4) + bytes(6) + pack(GATEWAY4))
        self.gateway = self.receive_frame()[6:12]

    def send_frame(self, rest):
        frame = bytes(12) + self.gateway + MAC + rest
        self.frames.sendall(struct.pack(">I", len(frame)) + frame)

    def read(self, length):
        data = b""
        while len(data) < length:
            part = self.frames.recv(length - len(data))
            assert part, "netd closed the box's socket"
            data += part
        return data

    def receive_frame(self):
        return self.read(struct.unpack(">I", self.read(4))[0])[12:]

    def send(self, to, sport, dport, data):
        source = BOX6 if ":" in to else BOX4
        udp = struct.pack(">HHHH", sport, dport, 8 + len(data), 0) + data
        pseudo = pack(source) + pack(to) + struct.pack(">IHBB", len(udp), 0, 0, 17)
        udp = udp[:6] + struct.pack(">H", checksum(pseudo + udp) or 0xffff) + data
        if ":" in to:
            self.send_frame(b"\x86\xdd" + struct.pack(">IHBB", 6 << 28, len(udp), 17, 64) + pack(source) + pack(to) + udp)
            return
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0) + pack(source) + pack(to)
        self.send_frame(b"\x08\x00" + ip[:10] + struct.pack(">H", checksum(ip)) + ip[12:] + udp)

    def receive_ip(self):
        """Source, protocol, and what is in the next packet, which is put together if it comes in pieces."""
        parts, more = {}, True
        while more or sum(map(len, parts.values())) < total:
            frame = self.receive_frame()
            assert frame[:6] == MAC
            if frame[12:14] == b"\x86\xdd":
                kind, at = frame[20], 54
                offset, more = 0, False
                if kind == 44:
                    kind, at = frame[54], 62
                    offset, more = struct.unpack(">H", frame[56:58])[0] & 0xfff8, frame[57] & 1
                source = socket.inet_ntop(socket.AF_INET6, frame[22:38])
            else:
                field, kind, at = struct.unpack(">H", frame[20:22])[0], frame[23], 34
                offset, more = (field & 0x1fff) * 8, field & 0x2000
                source = socket.inet_ntop(socket.AF_INET, frame[26:30])
            if kind in (58, 1) and frame[at] in (134, 135, 136):
                more = True
                continue
            parts[offset] = frame[at:]
            if not more:
                total = offset + len(frame) - at
        return source, kind, b"".join(parts[k] for k in sorted(parts))

    def receive(self):
        source, kind, data = self.receive_ip()
        assert kind == 17, (source, kind, data[:40])
        return (source, *struct.unpack(">HH", data[:4])), data[8:]

    def ask(self, name, kind=1, gateway=GATEWAY4):
        """The answer's code, and its addresses."""
        self.send(gateway, 3000, 53, question(77, name, kind))
        source, data = self.receive()
        assert source == (gateway, 53, 3000), source
        number, flags, _, answers = struct.unpack(">HHHH", data[:8])
        assert number == 77
        size = {1: 4, 28: 16}[kind]
        at = len(data) - answers * (12 + size)
        return flags & 15, [socket.inet_ntop(family("::" if kind == 28 else ""), data[at + i * (12 + size) + 12:][:size])
                            for i in range(answers)]


def start(netd):
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    control.settimeout(LIMIT_S)
    config = os.memfd_create("config")
    os.write(config, json.dumps(dict(
        id="a" * 64, name="mynet", subnet4="10.9.0.0/24", subnet6="fd09::/64", gateway4=GATEWAY4, gateway6=GATEWAY6,
        internal=False, host_loopback=True, isolation="none", home=os.environ["A3S_HOME"])).encode())
    high = [os.dup2(fd, 50 + i, inheritable=False) for i, fd in enumerate((config, theirs.fileno()))]
    pid = os.posix_spawn(netd, [netd], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, fd, 3 + i) for i, fd in enumerate(high)])
    for fd in (*high, config):
        os.close(fd)
    theirs.close()
    return pid, control


def bound(address, port=0):
    sock = socket.socket(family(address), socket.SOCK_DGRAM)
    sock.settimeout(LIMIT_S)
    sock.bind((address, port))
    return sock


def resolver_says(sock, name, address):
    """Answers the next question, which must be for that name."""
    data, peer = sock.recvfrom(4096)
    assert data[12:] == question(0, name, 1)[12:], data
    sock.sendto(data[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + data[12:] + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + pack(address), peer)


def check_names(box, resolvers):
    assert box.ask("web") == (0, [BOX4])
    assert box.ask("WEB.mynet", 28, GATEWAY6) == (0, [BOX6])
    assert box.ask("host.a3s.internal") == (0, [GATEWAY4])
    assert box.ask("extra") == (0, ["192.0.2.5"])
    # Followed while the process is confined: the file now names another resolver, and one of an interface.
    for i, text in enumerate(("nameserver 127.0.0.53\n", "nameserver 127.0.0.54\nnameserver fe80::1%lo\n")):
        with open("/etc/resolv.conf", "w", encoding="ascii") as f:
            f.write(text)
        time.sleep(1.1)
        box.send(GATEWAY4, 3000, 53, question(77, "example.test", 1))
        resolver_says(resolvers[i], "example.test", OUTSIDE4)
        source, data = box.receive()
        assert source == (GATEWAY4, 53, 3000) and data.endswith(pack(OUTSIDE4)), (source, data)


def check_outbound(box):
    for outside in (OUTSIDE4, OUTSIDE6):
        servers = [bound(outside), bound(outside)]
        seen = set()
        for server in servers:
            port = server.getsockname()[1]
            for size in (0, 1, 1472, 9000, 65400):
                data = bytes(i % 251 for i in range(size))
                box.send(outside, 4000, port, data)
                got, peer = server.recvfrom(1 << 16)
                assert got == data
                seen.add(peer)
                back = data + bytes(65500 - size if size == 65400 and outside == OUTSIDE4 else 0)
                server.sendto(back, peer)
                assert box.receive() == ((outside, port, 4000), back)
        assert len(seen) == 1, seen
        for server in servers:
            server.close()
        box.send(outside, 4000, port, b"x")
        _, kind, data = box.receive_ip()
        assert (kind, *data[:2]) in ((1, 3, 3), (58, 1, 4)), (kind, data[:8])


def check_published(box, sock):
    port = sock.getsockname()[1]
    for client, to, seen_as in ((bound(OUTSIDE4), OUTSIDE4, OUTSIDE4), (bound("127.0.0.1"), "127.0.0.9", GATEWAY4)):
        client.sendto(b"hello", (to, port))
        (source, sport, dport), data = box.receive()
        assert (source, dport, data) == (seen_as, 53, b"hello"), source
        box.send(source, 53, sport, b"welcome")
        assert client.recvfrom(100) == (b"welcome", (to, port))


def inside(netd):
    for line in ("link set lo up", "addr add %s/32 dev lo" % OUTSIDE4, "-6 addr add %s/128 dev lo nodad" % OUTSIDE6):
        subprocess.run(["ip", *line.split()], check=True)
    own = os.environ["TMPDIR"] + "/resolv.conf"
    with open(own, "w", encoding="ascii"):
        pass
    subprocess.run(["mount", "--bind", own, os.path.realpath("/etc/resolv.conf")], check=True)
    resolvers = [bound("127.0.0.53", 53), bound("127.0.0.54", 53)]
    published = bound("0.0.0.0")
    pid, control = start(netd)
    box = Box(control, [(53, published)], hosts=["extra:192.0.2.5"])
    check_names(box, resolvers)
    check_outbound(box)
    check_published(box, published)
    with open("/proc/%d/status" % pid, encoding="ascii") as f:
        print("confined" if "Seccomp:\t2" in f.read() else "open")
    control.close()
    assert os.waitpid(pid, 0)[1] == 0
    os.unlink(own)
    print("fine")


if __name__ == "__main__":
    inside(sys.argv[1])
else:
    from a3s import BUILD, BoxTest

    class Netd(BoxTest):
        images_wanted = ()

        def test_names_and_datagrams(self):
            argv = ["unshare", "-rnm", sys.executable, __file__, BUILD / "a3s-box-netd"]
            if subprocess.run(["unshare", "-rnm", "true"], capture_output=True, check=False).returncode:
                self.skipTest("no namespaces of our own are permitted here")
            env = {**os.environ, "A3S_HOME": str(self.home.path), "TMPDIR": str(self.home.tmp)}
            done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=100, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertEqual(done.stdout.split()[-1], "fine")
            if "sanitize" not in str(BUILD) and "asan" not in str(BUILD):
                self.assertIn("confined", done.stdout)
