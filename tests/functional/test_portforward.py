"""port-forward: connections from the host into a box, whatever its network."""

import os
import re
import signal
import socket
import threading

from a3s import BoxTest, COMMAND_TIMEOUT_S, SLOW, core, wait_for

# Services of busybox, a process for each connection: echo, a lot of output, a count of the input.
SERVE = """
printf 'cat\necho bye\n' >/tmp/echo
nc -ll -p 7 -e sh /tmp/echo & nc -ll -p 8 -e dd if=/dev/zero bs=64k count=64 & nc -ll -p 9 -e wc -c &
until [ $(netstat -ltn | grep -c LISTEN) = 3 ]; do sleep 0.1; done; echo serving; exec sleep 100000
"""
LINE = re.compile(rb"^Forwarding from (127\.0\.0\.1|\[::1\]):(\d+) -> (\d+)\n$")


def talk(address, data, close=True):
    """Sends the data and its end, while reading to the end."""
    with socket.create_connection(address, timeout=COMMAND_TIMEOUT_S * SLOW) as s:
        def send():
            s.sendall(data)
            if close:
                s.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        got = bytearray()
        while chunk := s.recv(1 << 20):
            got += chunk
        sender.join()
        return bytes(got)


class PortForward(BoxTest):
    def forward(self, *args, lines):
        """A running port-forward, and {port of the box: [(address, port)]}."""
        p = self.home.popen("port-forward", *args)
        self.addCleanup(p.wait)
        self.addCleanup(p.kill)
        self.addCleanup(p.stdout.close)
        self.addCleanup(p.stderr.close)
        where = {}
        for _ in range(lines):
            line = p.stdout.readline()
            m = LINE.match(line)
            if not m:
                p.kill()
                self.fail("%r %r" % (line, p.stderr.read()))
            where.setdefault(int(m[3]), []).append((m[1].decode().strip("[]"), int(m[2])))
        return p, where

    def serve(self):
        box = self.home.run_detached("--network", "none", "box", "sh", "-c", SERVE)
        wait_for("the box to serve", lambda: b"serving" in self.home.ok("logs", box).out, 60)
        return box

    @core
    def test_it_carries_both_ways_without_a_network(self):
        box = self.serve()
        six = socket.has_ipv6 and os.path.exists("/proc/net/if_inet6") and "lo" in open("/proc/net/if_inet6").read()
        p, where = self.forward(box, ":7", ":8", ":9", ":11", lines=8 if six else 4)
        for address in where[7]:
            self.assertEqual(talk(address, b"hello\n"), b"hello\nbye\n")  # the end of one direction, and of the other
        self.assertEqual(talk(where[8][0], b""), bytes(4 << 20))
        self.assertEqual(talk(where[9][0], bytes(4 << 20)).split(), [b"%d" % (4 << 20)])

        # Many at once; and one that does not read holds up nobody.
        with socket.create_connection(where[8][0]):
            got = [None] * 8

            def one(i):
                got[i] = len(talk(where[8][0], b""))

            threads = [threading.Thread(target=one, args=(i,)) for i in range(len(got))]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            self.assertEqual(got, [4 << 20] * len(got))

        # Nobody listens: the client hears it, and the user.
        self.assertEqual(talk(where[11][0], b"", close=False), b"")
        self.assertEqual(p.stderr.readline().decode(), "a3s-box: port-forward: port 11 of box %s: Connection refused\n"
                         % self.home.inspect(box)["Name"].lstrip("/"))

        # The same port once more is refused before anything is carried.
        taken = self.home.run("port-forward", box, ":7", "%d:9" % where[7][0][1])
        self.assertEqual((taken.rc, taken.out), (1, b""))
        self.assertRegex(taken.err, rb"^a3s-box: port-forward: port %d/tcp on 127.0.0.1 is in use[^\n]*\n$"
                         % where[7][0][1])

        # It ends with the box, and says so.
        self.home.ok("rm", "-f", box)
        self.assertEqual(p.wait(COMMAND_TIMEOUT_S), 1)
        self.assertRegex(p.stderr.read(), rb"^a3s-box: port-forward: box [^ ]+ has ended\n$")
        with self.assertRaises(OSError):
            socket.create_connection(where[7][0])

    def test_interrupt_and_bad_use(self):
        box = self.serve()
        for bad in ("", "x", "0", "65536", "1:", "1:0", "1:2:3", "host:1:2", "[::1:1:2", "::1:1:2:3:4:5:6:7:8:9", "80/udp"):
            r = self.home.run("port-forward", box, bad)
            self.assertEqual((r.rc, r.out), (1, b""), bad)
            self.assertIn(b"expected [[ADDRESS:]HOST-PORT:]BOX-PORT", r.err)
            self.assertEqual(r.err.count(b"\n"), 1)
        p, where = self.forward(box, "127.0.0.1::7", lines=1)
        self.assertEqual(talk(where[7][0], b"x"), b"xbye\n")
        p.send_signal(signal.SIGINT)
        self.assertEqual(p.wait(COMMAND_TIMEOUT_S), -signal.SIGINT)
        self.home.ok("stop", "-t", "0", box)
        r = self.home.run("port-forward", box, "7")
        self.assertEqual((r.rc, r.out), (1, b""))
        self.assertRegex(r.err, rb"^a3s-box: port-forward: box [^ ]+ is not running[^\n]*\n$")
        self.home.ok("rm", box)
