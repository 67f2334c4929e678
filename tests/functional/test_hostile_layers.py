"""Layers that are small to fetch and large to unpack, or no layers at all: entered within bounded time and memory, or
refused in one line, with the store as before."""

import gzip
import hashlib
import io
import itertools
import json
import os
import struct
import subprocess
import tarfile

import images
import registry_fake
from a3s import SLOW, core, slow
from test_hostile_registry import MEMORY_MIB, SCRIPT, USUAL_S, ZEROS, HostileTest


def tar_header(name, size=0, kind=b"0", mode=0o644):
    """A header block that need not tell the truth. A size beyond octal is written in base 256."""
    octal = b"%011o\0" % size if size < 8 << 30 else b"\x80" + size.to_bytes(11, "big")
    block = bytearray(struct.pack("100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12x", name.encode(), b"%07o\0" % mode,
                                  b"0000000\0", b"0000000\0", octal, b"00000000000\0", b" " * 8, kind, b"", b"ustar\0",
                                  b"00", b"root", b"root", b"0000000\0", b"0000000\0", b""))
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax_record(key, value):
    """A record of an extended header, which begins with its own length."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length += 1
    return b"%d" % length + rest


def packed_stream(pieces, out):
    """Writes pieces as gzip; returns their digest."""
    h = hashlib.sha256()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1, mtime=0) as f:
        for piece in pieces:
            h.update(piece)
            f.write(piece)
    return "sha256:" + h.hexdigest()


def many_files(count):
    """Pieces of a tar of so many empty files, a thousand in each folder."""
    template = bytearray(tar_header("d0000/f0000000"))
    base = sum(template) - sum(template[148:156]) + 8 * 32 - 11 * 48
    piece = bytearray()
    for n in range(count):
        if n % 1000 == 0:
            piece += tar_header("d%04d/" % (n // 1000), 0, b"5", 0o755)
        digits = b"%04d" % (n // 1000), b"%07d" % n
        template[1:5], template[7:14] = digits
        template[148:156] = b"%06o\0 " % (base + sum(digits[0]) + sum(digits[1]))
        piece += template
        if len(piece) > 1 << 20:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece) + b"\0" * 1024


def rle_zstd(size):
    """A zstd frame of so many zeros, four bytes for each 128 KiB (RFC 8878, RLE blocks)."""
    block = 128 << 10
    whole, rest = divmod(size, block)
    frame = struct.pack("<IBB", 0xfd2fb528, 0, 0x58)  # a window of 2 MiB
    blocks = [(block << 3 | 1 << 1).to_bytes(3, "little") + b"\0"] * whole
    return frame + b"".join(blocks) + (rest << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"\0"


class Bombs(HostileTest):
    """Small to fetch, large to unpack."""

    def pull_measured(self, name, seconds):
        """A pull that may be large, and succeeds within the bounds."""
        result, peak_mib = self.measured("pull", name, timeout=seconds + 60)
        self.assert_rc(result, 0)
        self.assertLess(result.seconds, seconds * SLOW)
        if "A3S_TEST_REPORTS" not in os.environ:
            self.assertLess(peak_mib, MEMORY_MIB, result)
        self.home.ok("image-check")
        return peak_mib

    @slow(300)
    def test_a_gigabyte_of_zeros(self):
        """Legal, and takes hardly any room."""
        def pieces():
            yield tar_header("zeros", 1 << 30)
            yield from itertools.repeat(ZEROS, 1 << 10)
            yield b"\0" * 1024

        out = io.BytesIO()
        diff = packed_stream(pieces(), out)
        self.assertLess(len(out.getvalue()), 8 << 20)
        name = self.serve([(out.getvalue(), diff)])
        self.pull_measured(name, 120)
        (disk,) = (self.home.path / "images/disks").iterdir()
        self.assertLess(disk.stat().st_blocks * 512, 2 << 30)

    @core
    def test_10_tb(self):
        """In one file, of which there is a little."""
        def pieces():
            yield tar_header("f", 10 << 40)
            yield from itertools.repeat(ZEROS, 64)

        out = io.BytesIO()
        diff = packed_stream(pieces(), out)
        self.refuse("at most|too large|room|space|truncated", name=self.serve([(out.getvalue(), diff)]))

    @core
    def test_10_tb_with_holes(self):
        """A sparse file costs nothing to write down, in each way that tar has for it, and must cost no more here."""
        for form in ("gnu", "posix"):
            with self.subTest(form):
                plain, packed = self.home.tmp / "holes", self.home.tmp / "holes.tar"
                with open(plain, "wb") as f:
                    f.write(b"x")
                    f.truncate(10 << 40)
                subprocess.run(["tar", "-C", self.home.tmp, "--format", form, "-Scf", packed, "holes"], check=True)
                plain.unlink()
                layer = packed.read_bytes()
                packed.unlink()
                self.assertLess(len(layer), 100000)
                out = io.BytesIO()
                diff = packed_stream([layer], out)
                result, peak_mib = self.measured("pull", self.serve([(out.getvalue(), diff)]))
                if result.rc:
                    self.assert_one_line(result, 1)
                self.assertLess(result.seconds, USUAL_S * SLOW)
                self.assertLess(peak_mib, MEMORY_MIB)
                for disk in (self.home.path / "images/disks").iterdir():
                    self.assertLess(disk.stat().st_blocks * 512, 64 << 20)
                check = self.home.ok("image-check")
                self.assertLess(check.seconds, USUAL_S * SLOW)

    @core
    def test_a_map_of_millions_of_holes(self):
        """What says where the holes of a file are is kept in memory, whole, by whoever reads the archive."""
        count = 20 << 20
        head = b"%d\n" % count
        size = -(-(len(head) + 4 * count) // 512) * 512
        records = b"".join(pax_record(key, value) for key, value in (
            (b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", b"f"),
            (b"GNU.sparse.realsize", b"1")))

        def pieces():
            yield tar_header("pax", len(records), b"x") + records + b"\0" * (-len(records) % 512)
            yield tar_header("GNUSparseFile.0/f", size) + head
            yield from itertools.repeat(b"0\n0\n" * (1 << 18), count >> 18)
            yield b"\0" * (size - len(head) - 4 * count + 1024)

        out = io.BytesIO()
        diff = packed_stream(pieces(), out)
        self.assertLess(len(out.getvalue()), 1 << 20)
        self.refuse("the description of an entry is longer than", name=self.serve([(out.getvalue(), diff)]))

    @slow(400)
    def test_zstd_of_nothing_but_zeros(self):
        """Three megabytes that are a hundred gigabytes: the end of the archive is where it ends, whatever follows."""
        packed = rle_zstd(100 << 30)
        self.refuse("larger than", name=self.serve([(packed, "sha256:" + "0" * 64)], "layer.v1.tar+zstd"), seconds=200)

    @slow(300)
    def test_gzip_members_without_content(self):
        """Half a million empty ones."""
        empty = gzip.compress(b"", mtime=0)
        tree = SCRIPT.Tree()
        tree.file("f", "x")
        layer = tree.bytes()
        name = self.serve([(empty * 500000 + gzip.compress(layer, mtime=0), SCRIPT.sha256(layer))])
        result, peak_mib = self.measured("pull", name)
        if result.rc:
            self.assert_one_line(result, 1)
        self.assertLess(result.seconds, 60 * SLOW)
        self.assertLess(peak_mib, MEMORY_MIB)

    def test_a_zstd_window_of_gigabytes(self):
        """What a decompressor is asked to keep is bounded."""
        frame = struct.pack("<IBB", 0xfd2fb528, 0, 0xa8) + (8 << 3 | 1).to_bytes(3, "little") + b"\0" * 8
        self.refuse("too much memory", name=self.serve([(frame, SCRIPT.sha256(b"\0" * 8))], "layer.v1.tar+zstd"))

    @slow(600)
    def test_a_million_files(self):
        """Within the bounds: entered, or refused in one line."""
        def build(out, tmp):
            with open(tmp / "packed", "wb") as f:
                diff = packed_stream(many_files(1000000), f)
            out.write_bytes(diff.encode() + (tmp / "packed").read_bytes())

        data = images.made("million-files", build).read_bytes()
        name = self.serve([(data[71:], data[:71].decode())])
        before = self.store()
        result, peak_mib = self.measured("pull", name, timeout=300)
        if result.rc:
            self.assert_one_line(result, 1, "files|entries|at most|memory")
            self.assertEqual(self.store(), before)
        self.assertLess(result.seconds, 120 * SLOW)
        self.assertLess(peak_mib, MEMORY_MIB, "%.0f MiB for a million files" % peak_mib)
        self.home.ok("image-check")

    @slow(300)
    def test_names_of_a_megabyte(self):
        """Long names are in PAX headers, which are as long as they say."""
        for length in (5000, 1 << 20, 40 << 20):
            with self.subTest(length):
                name = "a" * length
                out = io.BytesIO()
                tree = SCRIPT.Tree()
                tree.file(name, "x")
                layer = tree.bytes()
                diff = packed_stream([layer], out)
                self.refuse("Special header too large|entry \"a+", name=self.serve([(out.getvalue(), diff)]))

    def test_folders_in_folders(self):
        """Deeper than any path can be."""
        depth = 20000
        tree = SCRIPT.Tree()
        tree.tar.addfile(tarfile.TarInfo("/".join("d" * depth)))
        out = io.BytesIO()
        diff = packed_stream([tree.bytes()], out)
        result, peak_mib = self.measured("pull", self.serve([(out.getvalue(), diff)]))
        if result.rc:
            self.assert_one_line(result, 1)
        self.assertLess(peak_mib, MEMORY_MIB)

    def test_not_a_layer(self):
        """Noise, archives that break off, and headers that nobody wrote."""
        tree = SCRIPT.Tree()
        tree.file("f", os.urandom(100000))
        good = tree.bytes()
        packed = gzip.compress(good, mtime=0)
        for name, layer, diff in (
                ("noise", os.urandom(100000), "sha256:" + "0" * 64),
                ("cut", packed[:50000], SCRIPT.sha256(good)),
                ("checksum", packed[:-8] + b"\0" * 8, SCRIPT.sha256(good)),
                ("noise behind", packed + b"noise", SCRIPT.sha256(good)),
                ("noise inside", gzip.compress(os.urandom(10240), mtime=0), "sha256:" + "0" * 64),
                ("cut inside", gzip.compress(good[:20000], mtime=0), SCRIPT.sha256(good[:20000])),
                ("zip", gzip.compress(b"PK\x03\x04" + b"\0" * 1000, mtime=0), SCRIPT.sha256(b"PK\x03\x04" + b"\0" * 1000))):
            with self.subTest(name):
                self.refuse("corrupt|cut off|not a tar archive|damaged tar archive", name=self.serve([(layer, diff)]))

    def test_layers_of_nothing_at_all(self):
        """Many, each of an empty archive."""
        layer = b"\0" * 1024
        packed = gzip.compress(layer, mtime=0)
        self.pull_measured(self.serve([(packed, SCRIPT.sha256(layer))] * 120), 60)
        self.home.ok("rmi", "-f", self.registry.host + "/x:bad")
        name = self.serve([(packed, SCRIPT.sha256(layer))] * 5000, tag="more")
        self.refuse("entries|layers", name=name)


class Impostors(HostileTest):
    """Content that a registry serves under what belongs to another image."""

    def test_layers_of_a_disk_that_is_there(self):
        """Diff IDs that are known lead to a disk; the blobs beside them are to hold the same."""
        tree = SCRIPT.Tree()
        tree.file("evil", b"evil")
        descriptor, blobs = SCRIPT.image_blobs([tree.bytes()])
        manifest = json.loads(blobs.pop(descriptor["digest"]))
        config = json.loads(blobs.pop(manifest["config"]["digest"]))
        honest = json.loads(self.image[1][json.loads(self.image[1][self.image[0]["digest"]])["config"]["digest"]])
        config["rootfs"]["diff_ids"] = honest["rootfs"]["diff_ids"]
        for document, into in ((config, manifest["config"]), (manifest, descriptor)):
            data = json.dumps(document).encode()
            into.update(digest=registry_fake.digest(data), size=len(data))
            blobs[into["digest"]] = data
        self.home.ok("pull", "-q", self.other.name)
        with registry_fake.Registry(descriptor, blobs) as evil:
            before = self.store()
            self.assert_one_line(self.home.run("pull", "-q", evil.name), 1, "does not match the diff ID")
            self.assertEqual(self.store(), before)
        self.home.ok("image-check")

    def test_what_a_bad_download_left(self):
        """A layer's bytes that were never found right are not what another pull fails for."""
        tree = SCRIPT.Tree()
        tree.file("f", os.urandom(200000))
        descriptor, blobs = SCRIPT.image_blobs([tree.bytes()])
        (layer,) = json.loads(blobs[descriptor["digest"]])["layers"]
        device = tarfile.TarInfo("dev/x")
        device.type, device.devmajor = tarfile.CHRTYPE, 70000
        rubbish = gzip.compress(device.tobuf(tarfile.GNU_FORMAT) + bytes(100000))
        partial = self.home.path / "images/partial" / layer["digest"].replace(":", "-")
        self.home.ok("images")
        partial.write_bytes(rubbish[:layer["size"] // 2])
        with registry_fake.Registry(descriptor, blobs) as good:
            self.home.ok("pull", "-q", good.name)
        self.assertFalse(partial.exists())
        self.home.ok("image-check")
