"""Reads EROFS images as our disks are, written from the kernel's documentation; for hosts that cannot mount them."""

import hashlib
import mmap
import stat
import struct

BLOCK = 4096
NULL = 0xFFFFFFFF
PREFIXES = {1: b"user.", 2: b"system.posix_acl_access", 3: b"system.posix_acl_default", 4: b"trusted.", 6: b"security."}


class Image:
    def __init__(self, path):
        with open(path, "rb") as f:
            self.data = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
        magic, = self.read("<I", 1024)
        assert magic == 0xE0F5E1E2, "no EROFS image"
        self.root, = self.read("<H", 1024 + 14)
        self.meta = self.read("<I", 1024 + 40)[0] * BLOCK

    def read(self, fmt, at):
        return struct.unpack_from(fmt, self.data, at)

    def inode(self, nid):
        return Inode(self, nid)


class Inode:
    def __init__(self, image, nid):
        self.image, self.nid = image, nid
        at = image.meta + nid * 32
        fmt, icount, self.mode, _, self.size, self.u, _, self.uid, self.gid, self.mtime, self.nsec, self.nlink = \
            image.read("<HHHHQIIIIqII", at)
        assert fmt & 1, "only extended inodes are written"
        self.layout = fmt >> 1
        self.xattrs_at = at + 64
        self.xattrs_len = 12 + 4 * (icount - 1) if icount else 0
        self.data_at = self.xattrs_at + self.xattrs_len

    def xattrs(self):
        found, at, end = {}, self.xattrs_at + 12, self.xattrs_at + self.xattrs_len
        while self.xattrs_len and at < end:
            name_len, index, size = self.image.read("<BBH", at)
            name = PREFIXES[index] + self.image.data[at + 4:at + 4 + name_len]
            found[name.decode()] = self.image.data[at + 4 + name_len:at + 4 + name_len + size].hex()
            at += (4 + name_len + size + 3) // 4 * 4
        return dict(sorted(found.items()))

    def pieces(self):
        """The content, in pieces."""
        data = self.image.data
        if self.layout == 4:
            chunk = BLOCK << (self.u & 31)
            for k in range(-(-self.size // chunk)):
                address, = self.image.read("<I", self.data_at + 4 * k)
                n = min(chunk, self.size - k * chunk)
                yield bytes(n) if address == NULL else data[address * BLOCK:address * BLOCK + n]
            return
        tail = self.size % BLOCK if self.layout == 2 else 0
        for at in range(0, self.size - tail, 1 << 20):
            n = min(1 << 20, self.size - tail - at)
            yield data[self.u * BLOCK + at:self.u * BLOCK + at + n]
        yield data[self.data_at:self.data_at + tail]

    def content(self):
        return b"".join(self.pieces())

    def entries(self):
        content = self.content()
        for start in range(0, len(content), BLOCK):
            block = content[start:start + BLOCK]
            n = struct.unpack_from("<H", block, 8)[0] // 12
            offsets = [struct.unpack_from("<H", block, 12 * k + 8)[0] for k in range(n)] + [len(block)]
            for k in range(n):
                name = block[offsets[k]:offsets[k + 1]].rstrip(b"\0")
                if name not in (b".", b".."):
                    yield name, struct.unpack_from("<Q", block, 12 * k)[0]


def scan(path):
    """As trees.scan, with the nanoseconds of each time under "ns" and of the root folder everything."""
    image = Image(path)
    found, groups = {}, {}

    def describe(name, inode):
        what = {"type": stat.S_IFMT(inode.mode), "mode": stat.S_IMODE(inode.mode), "uid": inode.uid, "gid": inode.gid,
                "mtime": inode.mtime, "ns": inode.nsec, "xattrs": inode.xattrs()}
        if stat.S_ISREG(inode.mode):
            h = hashlib.sha256()
            for piece in inode.pieces():
                h.update(piece)
            what.update(size=inode.size, content=h.hexdigest())
        elif stat.S_ISLNK(inode.mode):
            what["target"] = inode.content().decode(errors="backslashreplace")
        elif stat.S_ISCHR(inode.mode) or stat.S_ISBLK(inode.mode):
            major, minor = inode.u >> 8 & 0xFFF, inode.u & 0xFF | inode.u >> 12 & ~0xFF
            what["device"] = "%d:%d" % (major, minor)
        if not stat.S_ISDIR(inode.mode):
            groups.setdefault(inode.nid, []).append(name)
        found[name.decode(errors="backslashreplace")] = what

    def walk(prefix, inode):
        for name, nid in inode.entries():
            child = image.inode(nid)
            describe(prefix + name, child)
            if stat.S_ISDIR(child.mode):
                walk(prefix + name + b"/", child)

    root = image.inode(image.root)
    describe(b".", root)
    walk(b"", root)
    for nid, names in groups.items():
        assert image.inode(nid).nlink == len(names), names
        if len(names) > 1:
            names = sorted(n.decode(errors="backslashreplace") for n in names)
            for name in names:
                found[name]["links"] = names
    return found
