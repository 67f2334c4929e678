"""A box whose disk is held still: what waits, what goes on, and what ends it. Over the guest's session port, as its supervisor
would."""

import os
import socket
import struct
import time

from a3s import BoxTest, wait_for

FAIL, DONE, FREEZE = 0x04, 0x31, 0x38
WAIT_S = 60


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

    def freeze(self):
        sock = self.connect()
        sock.sendall(struct.pack(">BI", FREEZE, 0))
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
        # One at a time.
        _, (kind, why) = self.freeze()
        self.assertEqual(kind, FAIL)
        self.assertIn(b"is being copied already", why)
        sock.close()
        self.assertEqual(writer.communicate(timeout=WAIT_S)[0], b"done\n")

        def again():
            sock, (kind, _) = self.freeze()
            sock.close()
            return kind == DONE
        wait_for("the next one", again)

    def test_a_stop_is_not_held_up(self):
        _, (kind, _) = self.freeze()
        self.assertEqual(kind, DONE)
        self.start_writing("b")
        time.sleep(1)  # so that it has come to wait for the disk
        # A process that waits in the kernel is not there to be killed: without a thaw, the machine would have to be.
        result = self.home.ok("stop", "-t", "30", "cold")
        self.assertLess(result.seconds, 25)
        self.assertEqual(self.home.status("cold"), "exited")
        self.home.ok("start", "cold")
        self.home.ok("exec", "cold", "sh", "-c", "echo text >/c; sync")
