"""How layers come: several at once, each once, and after a cut from where it stopped. Counted at the registry."""

import os
import signal
import subprocess
import threading
import time

import images
import registry_fake
from a3s import core, slow, wait_for
from test_images import ImageTest

SCRIPT = images.busybox_image
MIB = 1 << 20


def noise_image(*sizes, below=()):
    """(descriptor, blobs) of an image whose layers do not compress; below: further layers under them."""
    layers = list(below)
    for n, size in enumerate(sizes):
        tree = SCRIPT.Tree()
        tree.file("noise%d" % n, os.urandom(size))
        layers.append(tree.bytes())
    return SCRIPT.image_blobs(layers, images.BOX_CONFIG)


class TransferTest(ImageTest):
    sizes = (3 * MIB, 2 * MIB, MIB)

    def setUp(self):
        super().setUp()
        self.registry = registry_fake.Registry(*noise_image(*self.sizes))

    def tearDown(self):
        self.registry.close()
        super().tearDown()

    def partial(self):
        """{name: bytes} of the downloads that are not finished."""
        folder = self.home.path / "images/partial"
        return {p.name: p.stat().st_size for p in folder.iterdir()} if folder.exists() else {}

    def assert_nothing_left(self):
        self.assertEqual(self.partial(), {})
        self.assertEqual(os.listdir(self.home.path / "images/tmp"), [])
        self.home.ok("image-check")


class Sharing(TransferTest):
    @core
    def test_two_pulls_at_once(self):
        """Of the same image, by two processes: each layer is asked for once, and both succeed. The configuration is a
        document, which each reads before it begins."""
        self.registry.pace = 3 * MIB
        pulls = [self.home.popen("pull", self.registry.name) for _ in range(2)]
        for p in pulls:
            _, err = p.communicate(timeout=120)
            self.assertEqual(p.returncode, 0, err)
        self.assertLessEqual(self.registry.served.pop(self.registry.config), 2)
        self.assertEqual(dict(self.registry.served), {d: 1 for d in self.registry.layers})
        self.assertEqual(len(self.rows()), 1)
        self.assert_nothing_left()

    def test_two_images_that_share_a_layer(self):
        tree = SCRIPT.Tree()
        tree.file("more", os.urandom(MIB))
        below = SCRIPT.Tree()
        below.file("shared", os.urandom(2 * MIB))
        below = below.bytes()
        for tag in ("2", "3"):
            self.registry.add(tag, *noise_image(MIB, below=[below]))
        self.registry.pace = 3 * MIB
        pulls = [self.home.popen("pull", "%s/x:%s" % (self.registry.host, tag)) for tag in ("2", "3")]
        for p in pulls:
            _, err = p.communicate(timeout=120)
            self.assertEqual(p.returncode, 0, err)
        self.assertEqual(set(self.registry.served.values()), {1})
        self.assertEqual(len(self.registry.served), 5)
        self.assert_nothing_left()

    def test_one_of_two_is_killed(self):
        """The other takes over where it stopped."""
        self.registry.pace = MIB
        first, second = (self.home.popen("pull", self.registry.name) for _ in range(2))
        wait_for("the downloads to be half done", lambda: sum(self.registry.sent.values()) > 2 * MIB)
        first.kill()
        first.communicate()
        _, err = second.communicate(timeout=120)
        self.assertEqual(second.returncode, 0, err)
        for layer in self.registry.layers:
            self.assertLessEqual(self.registry.served[layer], 2)
        # What the first one left in tmp/ goes with the next that brings something: this one was at work already.
        self.home.load(self.image_file("box"))
        self.assert_nothing_left()

    @core
    def test_what_is_here_is_not_asked_for(self):
        self.home.ok("pull", self.registry.name)
        self.registry.forget()
        result = self.home.ok("pull", self.registry.name)
        self.assertEqual(dict(self.registry.served), {})
        self.assertLessEqual(len(self.registry.requests), 4, self.registry.requests)
        self.assertLess(result.seconds, 5)
        # A further image brings only what is new.
        descriptor, blobs = SCRIPT.image_blobs([images.box_layer()])
        self.registry.add("2", descriptor, blobs)
        self.home.ok("pull", self.registry.host + "/x:2")
        self.registry.forget()
        self.registry.tags["other"] = self.registry.tags["2"]
        self.home.ok("pull", self.registry.host + "/y/z:other")
        self.assertEqual(dict(self.registry.served), {})

    def test_layers_come_side_by_side(self):
        """Each of three layers is held back until all three have been asked for."""
        meeting = threading.Barrier(3)

        def hook(request):
            if any(layer in request.path for layer in self.registry.layers) and request.command == "GET":
                meeting.wait(30)
            return False

        self.registry.hook = hook
        self.home.ok("pull", self.registry.name)
        self.assertFalse(meeting.broken)

    def test_a_layer_that_occurs_twice(self):
        tree = SCRIPT.Tree()
        tree.file("f", os.urandom(MIB))
        layer = tree.bytes()
        self.registry.add("2", *SCRIPT.image_blobs([layer, images.box_layer(), layer]))
        self.home.ok("pull", self.registry.host + "/x:2")
        self.assertEqual(set(self.registry.served.values()), {1})


class Resume(TransferTest):
    def ranges(self):
        """{layer: first bytes that were asked for, other than from the beginning}"""
        found = {}
        for entry in self.registry.log:
            start = entry.headers.get("Range", "")
            if start:
                found.setdefault(entry.path.rpartition("/")[2], []).append(int(start[6:].split("-")[0]))
        return found

    def interrupt(self, how):
        """A pull that ends when about half has come; returns what is there of it."""
        self.registry.pace = MIB
        p = self.home.popen("pull", self.registry.name)
        wait_for("half of the image", lambda: sum(self.partial().values()) > sum(self.sizes) / 3)
        start = time.monotonic()
        p.send_signal(how)
        _, err = p.communicate(timeout=60)
        self.assertLess(time.monotonic() - start, 3)
        self.assertNotEqual(p.returncode, 0)
        self.registry.pace = None
        return self.partial(), err

    def resumed(self, there):
        """The next pull asks for the rest only, and has all of it."""
        self.assertGreater(sum(there.values()), sum(self.sizes) / 3)
        self.registry.forget()
        self.home.ok("pull", self.registry.name)
        ranges = self.ranges()
        for name, size in there.items():
            digest = name.replace("-", ":", 1)
            self.assertEqual(ranges.get(digest, [0]), [size] if size else [0], (there, ranges))
        total = sum(len(self.registry.blobs[layer]) for layer in self.registry.layers)
        # The connections that were cut may count a little more before they notice.
        self.assertLessEqual(sum(self.registry.sent.values()), total - sum(there.values()) + 500000)
        self.assert_nothing_left()
        self.assert_same_content()

    def assert_same_content(self):
        for layer in self.registry.layers:
            self.assertEqual((self.home.path / "images/blobs/sha256" / layer[7:]).read_bytes(), self.registry.blobs[layer])

    @core
    def test_after_a_kill(self):
        there, _ = self.interrupt(signal.SIGKILL)
        self.assertEqual(self.rows(), {})
        self.resumed(there)

    @core
    def test_after_an_interrupt(self):
        """^C: at once, nothing half done, at most a line; and the next pull goes on."""
        for how in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(how):
                there, err = self.interrupt(how)
                self.assertNotIn(b"Traceback", err)
                self.assertEqual(self.rows(), {})
                self.resumed(there)
                self.home.ok("rmi", self.registry.name)

    def test_a_terminal_that_goes_away(self):
        there, _ = self.interrupt(signal.SIGHUP)
        self.resumed(there)

    def test_a_registry_without_ranges(self):
        """All of it again, from the beginning."""
        there, _ = self.interrupt(signal.SIGKILL)
        self.assertTrue(there)

        def hook(request):
            name = request.path.rpartition("/")[2]
            if "/blobs/" not in request.path or request.command != "GET":
                return False
            request.answer(200, self.registry.blobs[name])
            return True

        self.registry.hook = hook
        self.home.ok("pull", self.registry.name)
        self.assert_nothing_left()
        self.assert_same_content()

    def test_a_registry_that_gives_another_range(self):
        there, _ = self.interrupt(signal.SIGKILL)
        self.assertTrue(there)

        def hook(request):
            name = request.path.rpartition("/")[2]
            if not request.headers.get("Range") or "/blobs/" not in request.path:
                return False
            data = self.registry.blobs[name]
            request.answer(206, data, Content_Range="bytes 0-%d/%d" % (len(data) - 1, len(data)))
            return True

        self.registry.hook = hook
        result = self.home.run("pull", self.registry.name)
        if result.rc:
            self.assert_one_line(result, 1)
            self.registry.hook = None
            self.home.ok("pull", self.registry.name)
        self.assert_nothing_left()
        self.assert_same_content()

    def test_what_is_there_was_damaged(self):
        """It is only bytes: the digest finds it out, and the next pull begins anew."""
        self.interrupt(signal.SIGKILL)
        for path in (self.home.path / "images/partial").iterdir():
            data = bytearray(path.read_bytes())
            if data:
                data[len(data) // 2] ^= 1
                path.write_bytes(data)
        result = self.home.run("pull", self.registry.name)
        if result.rc:
            self.assert_one_line(result, 1, "digest|sha256")
            self.assertEqual(self.rows(), {})
            self.home.ok("pull", self.registry.name)
        self.assert_nothing_left()
        self.assert_same_content()

    def test_what_is_there_is_too_long(self):
        self.interrupt(signal.SIGKILL)
        for path in (self.home.path / "images/partial").iterdir():
            with open(path, "ab") as f:
                f.write(os.urandom(5 * MIB))
        result = self.home.run("pull", self.registry.name)
        if result.rc:
            self.assert_one_line(result, 1)
            self.home.ok("pull", self.registry.name)
        self.assert_nothing_left()
        self.assert_same_content()

    def test_links_in_place_of_downloads(self):
        """Nobody but the owner can write there; still nothing is written through a link."""
        victim = self.home.base / "victim"
        victim.write_text("untouched\n")
        self.interrupt(signal.SIGKILL)
        names = list(self.partial())
        for name in names:
            path = self.home.path / "images/partial" / name
            path.unlink()
            path.symlink_to(victim)
        result = self.home.run("pull", self.registry.name)
        self.assertEqual(victim.read_text(), "untouched\n")
        if result.rc:
            self.assert_one_line(result, 1)
            for name in names:
                (self.home.path / "images/partial" / name).unlink(missing_ok=True)
            self.home.ok("pull", self.registry.name)
        victim.unlink()

    @slow(120)
    def test_cut_again_and_again(self):
        """Each connection ends after a while; as long as something comes, it goes on."""
        def hook(request):
            name = request.path.rpartition("/")[2]
            if name not in self.registry.layers or request.command != "GET":
                return False
            data = self.registry.blobs[name]
            start = int((request.headers.get("Range") or "bytes=0-")[6:-1])
            piece = data[start:start + 700000]
            more = {"Content_Range": "bytes %d-%d/%d" % (start, len(data) - 1, len(data))} if start else {}
            request.answer(206 if start else 200, piece, len(data) - start, **more)
            return True

        self.registry.hook = hook
        self.home.ok("pull", self.registry.name)
        self.assert_nothing_left()
        self.assert_same_content()


class Progress(TransferTest):
    def test_lines(self):
        """Not on a terminal: plain lines, all on standard error, the name on standard output."""
        result = self.home.ok("pull", self.registry.name)
        self.assertNotIn(b"\x1b", result.err)
        self.assertNotIn(b"\r", result.err)
        for layer in self.registry.layers:
            self.assertIn(layer[7:19].encode(), result.err)
        self.assertIn(self.registry.name, result.text)

    def test_quiet(self):
        result = self.home.ok("pull", "-q", self.registry.name)
        self.assertEqual(result.err, b"")

    def test_standard_error_is_full(self):
        """What cannot be shown does not matter."""
        with open("/dev/full", "wb") as full:
            p = self.home.popen("pull", self.registry.name, stderr=full, stdout=subprocess.PIPE)
            p.communicate(timeout=60)
            self.assertEqual(p.returncode, 0)
