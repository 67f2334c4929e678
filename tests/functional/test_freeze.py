"""A box whose disk is held still: what waits, what goes on, and what ends it. Over the guest's session port, as its supervisor
would."""

import os
import select
import socket
import struct

from a3s import BoxTest, wait_for

FAIL, DONE, FREEZE = 0x04, 0x31, 0x38
WAIT_S = 60
# Says which processes of the box wait in the kernel (state D).
WAITING = 'for f in /proc/[0-9]*/stat; do read -r line < $f && case $line in *") D "*) echo "$line";; esac; done; true'


def receive(sock, size):
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def frame(sock):
    kind, size = struct.unpack(">BI", receive(sock, 5))
    return kind, receive(sock, size)


class Freeze(BoxTest):
    def setUp(self):
        super().setUp()
        self.box = self.home.run_detached("--name", "cold", "box", "sleep", "100000")

    def tearDown(self):
        self.home.run("rm", "-f", "cold")
        super().tearDown()

    def connect(self):
        """A connection to the guest's session port. The path is too long for a socket's address."""
        sock = socket.socket(socket.AF_UNIX)
        self.addCleanup(sock.close)
        sock.settimeout(WAIT_S)
        folder = os.open(os.path.join(self.home.path, "run", self.box, "vsock"), os.O_PATH)
        try:
            sock.connect(f"/proc/self/fd/{folder}/vsock.sock")
        finally:
            os.close(folder)
        sock.sendall(b"CONNECT 4089\n")
        line = b""
        while not line.endswith(b"\n"):
            line += receive(sock, 1)
        self.assertTrue(line.startswith(b"OK "), line)
        return sock

    def ask(self):
        sock = self.connect()
        sock.sendall(struct.pack(">BI", FREEZE, 0))
        return sock

    def freeze(self):
        sock = self.ask()
        return sock, frame(sock)

    def start_writing(self, name):
        """A process of the box that says when it is about to write to the disk."""
        writer = self.home.popen("exec", "cold", "sh", "-c", f"echo ready; echo text >/{name}; echo done")
        self.addCleanup(writer.kill)
        self.assertEqual(writer.stdout.readline(), b"ready\n")
        return writer

    def test_only_writing_waits(self):
        sock, (kind, _) = self.freeze()
        self.assertEqual(kind, DONE)
        writer = self.start_writing("a")
        # Everything else answers; what it writes to memory alone is written.
        self.assert_out(self.home.run("exec", "cold", "sh", "-c", "echo x >/dev/shm/x; cat /dev/shm/x /etc/hostname"),
                        f"x\n{self.box[:12]}\n")
        self.assertIn("sleep 100000", self.home.ok("top", "cold").text)
        self.assertIn("cold", self.home.ok("stats", "--no-stream", "cold").text)
        self.assertIsNone(writer.poll())
        sock.close()
        self.assertEqual(writer.communicate(timeout=WAIT_S)[0], b"done\n")

    def test_one_after_another(self):
        for _ in range(10):
            sock, (kind, why) = self.freeze()
            self.assertEqual(kind, DONE, why)
            sock.close()
        for n in range(4):
            self.home.ok("snapshot", "create", "cold", "snap%d" % n)
        self.home.ok("snapshot", "rm", *("snap%d" % n for n in range(4)))

    def test_only_one_at_a_time(self):
        first, (kind, _) = self.freeze()
        self.assertEqual(kind, DONE)
        gone, second, third = self.ask(), self.ask(), self.ask()
        # The guest has taken them, and they wait.
        self.assertEqual(select.select([gone, second, third], [], [], 1)[0], [])
        gone.close()
        first.close()
        self.assertEqual(frame(second)[0], DONE)
        kind, why = frame(third)
        self.assertEqual(kind, FAIL)
        self.assertIn(b"is being copied already", why)
        self.assertRaises(EOFError, frame, third)
        second.close()
        self.assertEqual(self.freeze()[1][0], DONE)

    def test_says_whether_it_was_still(self):
        sock, (kind, _) = self.freeze()
        self.assertEqual(kind, DONE)
        writer = self.start_writing("d")
        sock.sendall(struct.pack(">BI", FREEZE, 0))
        self.assertEqual(frame(sock), (DONE, b""))
        self.assertEqual(sock.recv(1), b"")
        self.assertEqual(writer.communicate(timeout=WAIT_S)[0], b"done\n")
        # One whose box is stopped meanwhile closes without a word.
        sock, (kind, _) = self.freeze()
        self.assertEqual(kind, DONE)
        self.home.ok("stop", "-t", "30", "cold")
        try:
            sock.sendall(struct.pack(">BI", FREEZE, 0))
            self.assertEqual(sock.recv(1), b"")
        except (BrokenPipeError, ConnectionResetError):
            pass

    def test_a_stop_is_not_held_up(self):
        _, (kind, _) = self.freeze()
        self.assertEqual(kind, DONE)
        waiting = [self.ask() for _ in range(3)]
        self.start_writing("b")
        wait_for("the writer to wait for the disk", lambda: self.home.ok("exec", "cold", "sh", "-c", WAITING).text)
        # A process that waits in the kernel is not there to be killed: without a thaw, the machine would have to be.
        result = self.home.ok("stop", "-t", "30", "cold")
        self.assertLess(result.seconds, 25)
        self.assertEqual(self.home.status("cold"), "exited")
        for sock in waiting:
            self.assertEqual(frame(sock)[0], FAIL)
        self.home.ok("start", "cold")
        self.home.ok("exec", "cold", "sh", "-c", "echo text >/c; sync")
