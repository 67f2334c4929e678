"""Layers of every kind that there is, laid over each other: the disk has what umoci unpacks as root, file for file."""

import gzip
import hashlib
import io
import json
import os
import shutil
import struct
import subprocess
import tarfile
import unittest
import zlib

import erofs
import trees
from a3s import BoxTest, core

CAPABILITY = struct.pack("<IIIII", 0x02000000, 1 << 10, 0, 0, 0)  # cap_net_bind_service
MEDIA = "application/vnd.oci.image.layer.v1.tar"


def octal(value, width):
    """As GNU writes what does not fit: base 256, which also knows what is below zero."""
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    return ((1 << (width * 8 - 1)) | (value & ((1 << (width * 8 - 1)) - 1))).to_bytes(width, "big")


def pax(records):
    body = b""
    for key, value in records.items():
        line = b" %s=%s\n" % (key, value)
        n = len(line)
        while len(b"%d" % n) + len(line) != n:
            n = len(b"%d" % n) + len(line)
        body += b"%d%s" % (n, line)
    return body


class Layer:
    """A tar archive, written byte for byte."""

    def __init__(self):
        self.out = io.BytesIO()

    def put(self, name, type=b"0", data=b"", mode=0o644, uid=0, gid=0, time=1700000000, link=b"", major=0, minor=0,
            magic=b"ustar\00000", size=None, rest=b"", **records):
        if records:
            self.put(b"pax", b"x", pax({k.replace("__", ".").encode(): v for k, v in records.items()}))
        head = struct.pack("100s8s8s8s12s12s8sc100s8s32s32s8s8s", name[:100], octal(mode, 8), octal(uid, 8),
                           octal(gid, 8), octal(len(data) if size is None else size, 12), octal(time, 12), b" " * 8,
                           type, link[:100], magic, b"root", b"root", octal(major, 8), octal(minor, 8)) + rest
        head = head.ljust(512, b"\0")
        head = head[:148] + b"%06o\0 " % sum(head) + head[156:]
        self.out.write(head + data + bytes(-len(data) % 512))
        return self

    def folder(self, name, mode=0o755, **more):
        return self.put(name, b"5", mode=mode, **more)

    def link(self, name, target, **more):
        return self.put(name, b"2", mode=0o777, link=target, **more)

    def hard(self, name, target, **more):
        return self.put(name, b"1", link=target, **more)

    def raw(self, data):
        self.out.write(data)
        return self

    def done(self):
        return self.out.getvalue() + bytes(1024)


def gnu_long(kind, text):
    """GNU's way for names beyond 100 bytes."""
    return Layer().put(b"././@LongLink", kind, text + b"\0", magic=b"ustar  \0").out.getvalue()


def packed_gzip(data):
    """Several members, as pigz and estargz write them."""
    return b"".join(gzip.compress(data[at:at + 3000], mtime=0) for at in range(0, len(data), 3000))


def packed_zstd(data):
    p = subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE, check=True)
    return p.stdout


PACKED = {"": lambda data: data, "+gzip": packed_gzip, "+zstd": packed_zstd}


def layout(folder, layers):
    """An OCI layout of (tar, packing) under the name "x"; returns the configuration."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(data):
        name = hashlib.sha256(data).hexdigest()
        (blobs / name).write_bytes(data)
        return {"digest": "sha256:" + name, "size": len(data)}

    diff_ids, descs = [], []
    for tar, packing in layers:
        diff_ids.append("sha256:" + hashlib.sha256(tar).hexdigest())
        descs.append(dict(put(PACKED[packing](tar)), mediaType=MEDIA + packing))
    arch = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    config = json.dumps({"architecture": arch, "os": "linux", "config": {},
                         "rootfs": {"type": "layers", "diff_ids": diff_ids}}).encode()
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": descs,
        "config": dict(put(config), mediaType="application/vnd.oci.image.config.v1+json")}).encode()
    index = {"schemaVersion": 2, "manifests": [dict(
        put(manifest), mediaType="application/vnd.oci.image.manifest.v1+json",
        annotations={"org.opencontainers.image.ref.name": "x"})]}
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return config


class LayerTest(BoxTest):
    images_wanted = ()

    def setUp(self):
        super().setUp()
        self.folder = self.home.tmp / "layout"

    def tearDown(self):
        super().tearDown()
        for image in set(self.home.ok("images", "-q").text.split()):
            self.home.ok("rmi", "-f", image)
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.home.tmp / "bundle", ignore_errors=True)

    def ours(self, *layers):
        """What our disk has of them; layers are Layer, or a tar's bytes, or either with its packing."""
        pairs = [layer if isinstance(layer, tuple) else (layer, "") for layer in layers]
        self.layers = [(layer if isinstance(layer, bytes) else layer.done(), packing) for layer, packing in pairs]
        shutil.rmtree(self.folder, ignore_errors=True)
        config = layout(self.folder, self.layers)
        archive = self.home.tmp / "layout.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(self.folder, ".")
        self.home.ok("load", "-i", archive)
        archive.unlink()
        return erofs.scan(trees.disk_of(self.home.path, config))

    def theirs(self):
        if os.geteuid() != 0:
            raise unittest.SkipTest("umoci makes devices and foreign owners for root only")
        # It knows no zstd, which changes nothing of what is inside.
        shutil.rmtree(self.folder)
        layout(self.folder, [(tar, packing.replace("zstd", "gzip")) for tar, packing in self.layers])
        bundle = self.home.tmp / "bundle"
        shutil.rmtree(bundle, ignore_errors=True)
        p = subprocess.run(["umoci", "unpack", "--image", "%s:x" % self.folder, bundle], capture_output=True, check=False,
                           timeout=120)
        self.assertEqual(p.returncode, 0, p.stderr.decode(errors="replace"))
        return trees.scan(bundle / "rootfs")

    def compare(self, *layers, ignore=()):
        """ignore: names of which umoci keeps no time, because no entry says one."""
        ours = self.ours(*layers)
        theirs = self.theirs()
        for tree in (ours, theirs):
            for name, what in tree.items():
                what.pop("ns", None)
                if name == "." or name in ignore:
                    what.pop("mtime", None)
        self.assertEqual(trees.differences(ours, theirs), [])
        return ours


class Torture(LayerTest):
    @core
    def test_kinds_of_entries(self):
        layer = Layer().folder(b"./", 0o755).folder(b"dev/").put(b"dev/null", b"3", mode=0o666, major=1, minor=3)
        layer.put(b"dev/loop", b"4", mode=0o660, gid=6, major=259, minor=70000).put(b"run.fifo", b"6", mode=0o600)
        layer.put(b"su", data=b"#!", mode=0o4755).put(b"sg", mode=0o2755, gid=5).folder(b"tmp", 0o1777)
        layer.put(b"empty").put(b"big", data=os.urandom(300001), uid=70000, gid=4000000000)
        layer.link(b"link", b"big").link(b"broken", b"../../nowhere").link(b"absolute", b"/dev/null")
        layer.put(b"old", b"\0", data=b"as before POSIX")
        layer.put(b"small", data=b"x" * 2048).put(b"less small", data=b"x" * 2049).put(b"block", data=b"y" * 4096)
        found = self.compare(layer)
        self.assertEqual(found["su"]["mode"], 0o4755)
        self.assertEqual(found["dev/loop"]["device"], "259:70000")
        found = self.ours(Layer().put(b"contiguous", b"7", data=b"which umoci does not know"))
        self.assertEqual(found["contiguous"]["size"], 25)

    @core
    def test_times(self):
        layer = Layer().put(b"1960", time=-300000000).put(b"1969", time=-1).put(b"epoch", time=0)
        layer.put(b"2038", time=1 << 31).put(b"2100", time=4102444800).folder(b"f", time=-86400)
        layer.put(b"pax", mtime=b"1234567890.987654321")
        layer.put(b"pax-old", mtime=b"-12345.25").link(b"link", b"x", time=5)
        found = self.compare(layer, ignore=("pax-old",))
        self.assertEqual((found["1960"]["mtime"], found["2100"]["mtime"]), (-300000000, 4102444800))

    def test_fractions_of_seconds(self):
        found = self.ours(Layer().put(b"a", mtime=b"1234567890.987654321").put(b"b", mtime=b"-12345.25"))
        self.assertEqual((found["a"]["mtime"], found["a"]["ns"]), (1234567890, 987654321))
        self.assertEqual((found["b"]["mtime"], found["b"]["ns"]), (-12346, 750000000))

    @core
    def test_attributes(self):
        layer = Layer().put(b"ping", data=b"p", SCHILY__xattr__security__capability=CAPABILITY)
        layer.put(b"user", SCHILY__xattr__user__comment=b"a\0b\nc", SCHILY__xattr__user__empty=b"")
        layer.folder(b"folder", SCHILY__xattr__user__on_folder=b"v" * 1000)
        over = Layer().folder(b"folder", 0o711).put(b"user", SCHILY__xattr__user__other=b"2")
        found = self.compare(layer, over)
        self.assertEqual(found["ping"]["xattrs"], {"security.capability": CAPABILITY.hex()})
        self.assertEqual(found["user"]["xattrs"], {"user.other": b"2".hex()})

    @core
    def test_names(self):
        deep = b"/".join([b"d" * 50] * 30)
        layer = Layer().put(b"no\xffutf\xfe8", data=b"1", path=b"no\xffutf\xfe8").put(b"raw\xff", data=b"2")
        layer.put(b"short", data=b"3", path=deep + b"/" + b"n" * 255).put(b"s", data=b"4", path="naïve/ü".encode())
        layer.raw(gnu_long(b"L", b"g/" * 60 + b"file")).put(b"g/", data=b"5", magic=b"ustar  \0")
        layer.raw(gnu_long(b"K", b"t" * 300)).put(b"link", b"2", link=b"t", magic=b"ustar  \0")
        layer.put(b"lk", b"2", linkpath=b"u" * 200).put(b"split", data=b"6", rest=b"prefix/of/it".ljust(155, b"\0"))
        layer.put(b"space and \ttab\n", data=b"7").put(b" ", data=b"8").folder(b"trailing///").put(b".//a/.//b", data=b"9")
        ignored = ["/".join(["d" * 50] * n) for n in range(1, 31)] + ["/".join(["g"] * n) for n in range(1, 61)]
        self.compare(layer, ignore=(*ignored, "naïve", "prefix", "prefix/of", "prefix/of/it", "a"))

    @core
    def test_paths_that_lead_out(self):
        layer = Layer().put(b"/absolute", data=b"1").put(b"../../../up", data=b"2").put(b"a/../../b", data=b"3")
        layer.link(b"out", b"/").link(b"far", b"../../../..").folder(b"in").link(b"here", b"in")
        layer.put(b"here/through", data=b"4")
        found = self.ours(layer.put(b"out/root", data=b"5").put(b"far/top", data=b"6"))
        for name in ("absolute", "up", "b", "in/through", "root", "top"):
            self.assertIn(name, found)

    @core
    def test_hard_links(self):
        base = Layer().put(b"a", data=os.urandom(9000), mode=0o640, uid=3).hard(b"b", b"a").folder(b"d").hard(b"d/c", b"./b")
        base.link(b"sym", b"a").put(b"fifo", b"6").hard(b"fifo2", b"fifo").put(b"lone", data=b"x")
        base.put(b"tiny", data=b"t").hard(b"tiny2", b"tiny")
        over = Layer().hard(b"e", b"/d/c").hard(b"late", b"lone").put(b".wh.a").put(b"tiny", data=b"new")
        top = Layer().hard(b"f", b"e").put(b"b", data=b"another")
        found = self.compare(base, (over, "+gzip"), top, ignore=("d",))
        self.assertEqual(found["f"]["links"], ["d/c", "e", "f"])
        self.assertEqual(found["late"]["links"], ["late", "lone"])

    @core
    def test_hard_link_to_a_symbolic_link(self):
        found = self.compare(Layer().put(b"f", data=b"1").link(b"s", b"f").hard(b"h", b"s"))
        self.assertEqual((found["h"]["target"], found["h"]["links"]), ("f", ["h", "s"]))

    @core
    def test_whiteouts(self):
        base = Layer().folder(b"d").put(b"d/gone", data=b"1").put(b"d/stays", data=b"2").folder(b"tree").folder(b"tree/x")
        base.put(b"tree/x/y", data=b"3").folder(b"o").put(b"o/low", data=b"4").folder(b"o/sub").put(b"o/sub/low", data=b"5")
        base.put(b"back", data=b"6").folder(b"opaque").put(b"opaque/a", data=b"7").put(b"link-target", data=b"8")
        base.link(b"link", b"link-target").folder(b"again").put(b"again/old")
        over = Layer().folder(b"d").put(b"d/.wh.gone").put(b".wh.tree").folder(b"o").put(b"o/new", data=b"9")
        over.put(b"o/.wh..wh..opq").put(b".wh.back").put(b"back", data=b"10").folder(b"opaque", 0o700)
        over.put(b"opaque/.wh..wh..opq").put(b"opaque/b", data=b"11").put(b".wh.link")
        over.put(b".wh.again").folder(b"again").put(b"again/new").put(b".wh.never-there")
        self.compare(base, (over, "+zstd"))

    @core
    def test_whiteout_and_what_its_own_layer_brings(self):
        """In whatever order: a whiteout hides lower layers only."""
        base = Layer().put(b"f", data=b"old").folder(b"d").put(b"d/old", data=b"1").folder(b"e").put(b"e/old", data=b"2")
        over = Layer().put(b"f", data=b"new").put(b".wh.f").folder(b"d").put(b"d/new", data=b"3").put(b".wh.d")
        over.put(b"e/new", data=b"4").put(b"e/.wh..wh..opq")
        found = self.ours(base, over)
        self.assertEqual(sorted(found), [".", "d", "d/new", "e", "e/new", "f"])

    @core
    def test_replacing(self):
        base = Layer().put(b"file", data=b"1").folder(b"dir", 0o700).put(b"dir/x", data=b"2").folder(b"merge", 0o700)
        base.put(b"merge/kept", data=b"3").link(b"l", b"merge").put(b"dev", b"3", major=1, minor=5).put(b"plain", data=b"4")
        over = Layer().folder(b"file").put(b"file/inside", data=b"5").put(b"dir", data=b"6").folder(b"merge", 0o711, uid=9)
        over.put(b"l", data=b"7").put(b"dev", data=b"8").link(b"plain", b"l")
        top = Layer().put(b"file", b"6").folder(b"plain").put(b"plain/y", data=b"9")
        self.compare((base, "+gzip"), over, top)

    @core
    def test_duplicates(self):
        layer = Layer().put(b"twice", data=b"1" * 5000, mode=0o600).put(b"other", data=b"x").put(b"twice", data=b"22", uid=7)
        layer.folder(b"d", 0o700).put(b"d/f", data=b"3").folder(b"d", 0o755, gid=8).hard(b"h", b"twice")
        layer.put(b"./d/f", data=b"4")
        self.compare(layer)

    @core
    def test_implied_folders(self):
        layer = Layer().put(b"a/b/c", data=b"1").folder(b"a/later", 0o700).put(b"x/y", data=b"2").folder(b"x", 0o750, uid=4)
        self.compare(layer, ignore=("a", "a/b"))

    def sparse_content(self):
        return os.urandom(512) + bytes(1 << 20) + os.urandom(1000)

    @core
    def test_sparse_files(self):
        """GNU's three formats in pax and its own older one; what they mean is the same file."""
        head, hole, tail = os.urandom(512), 1 << 20, os.urandom(1000)
        content = head + bytes(hole) + tail
        segments = [(0, 512), (512 + hole, 1000)]
        size = b"%d" % len(content)
        layer = Layer()
        # 1.0: the map in front of the data
        numbers = b"".join(b"%d\n" % n for n in [len(segments), *sum(segments, ())])
        layer.put(b"GNUSparseFile.1/one", data=numbers.ljust(512, b"\0") + head + tail, **{
            "GNU__sparse__major": b"1", "GNU__sparse__minor": b"0", "GNU__sparse__name": b"one",
            "GNU__sparse__realsize": size})
        # 0.1: the map in one record
        layer.put(b"GNUSparseFile.1/01", data=head + tail, **{
            "GNU__sparse__size": size, "GNU__sparse__numblocks": b"2", "GNU__sparse__name": b"zero-one",
            "GNU__sparse__map": b",".join(b"%d" % n for n in sum(segments, ()))})
        # old: the map in the header
        old = bytes(41) + b"".join(octal(n, 12) for n in sum(segments, ())) + bytes(48) + b"\0" + octal(len(content), 12)
        layer.put(b"old", b"S", data=head + tail, magic=b"ustar  \0", rest=old)
        found = self.ours(layer)
        for name in ("one", "zero-one", "old"):
            self.assertEqual(found[name]["size"], len(content), name)
            self.assertEqual(found[name]["content"], hashlib.sha256(content).hexdigest(), name)

    def test_sparse_files_that_tar_writes(self):
        folder = self.home.tmp / "sparse"
        folder.mkdir()
        with open(folder / "f", "wb") as f:
            for at in range(0, 8 << 20, 1 << 20):
                f.seek(at)
                f.write(os.urandom(5000))
            f.truncate(10 << 20)
        want = hashlib.sha256((folder / "f").read_bytes()).hexdigest()
        for options in (["--format=gnu"], ["--format=posix", "--sparse-version=0.0"],
                        ["--format=posix", "--sparse-version=0.1"], ["--format=posix", "--sparse-version=1.0"]):
            with self.subTest(options):
                p = subprocess.run(["tar", "-S", *options, "-cf", "-", "-C", folder, "f"], stdout=subprocess.PIPE, check=True)
                self.assertEqual(self.ours(p.stdout)["f"]["content"], want)
        shutil.rmtree(folder)

    @core
    def test_every_packing(self):
        """Of one content: the same disk, whatever the layers were packed with."""
        base = Layer().put(b"a", data=os.urandom(100000)).folder(b"d")
        found = [self.compare((base, packing), Layer().put(b"d/x", data=b"1")) for packing in PACKED]
        self.assertEqual(found[0], found[1])
        self.assertEqual(found[0], found[2])

    def test_a_real_tree(self):
        """Of this host: some thousands of files, by Python's and by GNU's tar."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
            tar.add("/etc", "etc", filter=lambda member: member if member.isreg() or member.isdir() or member.issym() else None)
        p = subprocess.run(["tar", "-C", "/usr/share", "-cf", "-", "zoneinfo"], stdout=subprocess.PIPE, check=True)
        self.compare((out.getvalue(), "+gzip"), (p.stdout, "+zstd"))


class Shared(LayerTest):
    """A disk that is made of another one's first layers is the disk that its own layers make."""

    def disk(self, *layers):
        found = self.ours(*layers)
        config = json.loads(next(b for b in self.blobs() if b"rootfs" in b))
        path = trees.disk_of(self.home.path, json.dumps(config).encode())
        return found, zlib.crc32(path.read_bytes())

    def blobs(self):
        return [p.read_bytes() for p in (self.folder / "blobs/sha256").iterdir()]

    @core
    def test_shared_layers(self):
        data = os.urandom(3 << 20)
        base = Layer().put(b"a", data=data).hard(b"b", b"a").folder(b"d").put(b"d/small", data=b"s").put(
            b"status", data=b"1" * 100000)
        second = Layer().put(b"d/more", data=os.urandom(70000)).put(b"status", data=b"2" * 100000)
        third = Layer().put(b"status", data=b"3" * 100000).put(b".wh.d")
        other = Layer().put(b"d/other", data=b"o" * 5000).put(b"status", data=b"4" * 100000)
        alone = self.disk(base, second, other)
        self.home.ok("rmi", "-f", *set(self.home.ok("images", "-q").text.split()))
        self.disk(base, second, third)
        self.assertEqual(self.disk(base, second, other), alone)
        self.home.ok("image-check")
