"""What is in a folder, or on an image's disk, file for file, so that two can be compared.

    trees.py FOLDER        the description as JSON, for other namespaces
"""

import hashlib
import json
import os
import pathlib
import stat
import subprocess
import sys
import tempfile
import unittest


def content(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        while piece := f.read(1 << 20):
            h.update(piece)
    return h.hexdigest()


def scan(root):
    """{path: description} with all that an image decides; text that is no UTF-8 is escaped."""
    root = os.fsencode(str(root))
    found, groups = {}, {}

    def describe(path, short):
        st = os.lstat(path)
        what = {"type": stat.S_IFMT(st.st_mode), "mode": stat.S_IMODE(st.st_mode), "uid": st.st_uid, "gid": st.st_gid}
        if short != b".":
            what["mtime"] = int(st.st_mtime)  # umoci keeps no fractions
        if stat.S_ISREG(st.st_mode):
            what.update(size=st.st_size, content=content(path))
        elif stat.S_ISLNK(st.st_mode):
            what["target"] = os.readlink(path).decode(errors="backslashreplace")
        elif stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
            what["device"] = "%d:%d" % (os.major(st.st_rdev), os.minor(st.st_rdev))
        what["xattrs"] = {name: os.getxattr(path, name, follow_symlinks=False).hex()
                          for name in sorted(os.listxattr(path, follow_symlinks=False)) if name != "security.selinux"}
        if st.st_nlink > 1 and not stat.S_ISDIR(st.st_mode):
            groups.setdefault((st.st_dev, st.st_ino), []).append(short)
        found[short.decode(errors="backslashreplace")] = what

    describe(root, b".")
    for top, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(top, name)
            describe(path, os.path.relpath(path, root))
    for names in groups.values():
        # A link whose other names are all outside is none.
        if len(names) > 1:
            names = sorted(n.decode(errors="backslashreplace") for n in names)
            for name in names:
                found[name]["links"] = names
    return found


def scan_disk(disk):
    """The same of an image's disk, mounted in a namespace of its own."""
    if os.geteuid() != 0:
        raise unittest.SkipTest("only root can mount a disk to compare it")
    with tempfile.TemporaryDirectory(prefix="a3s-disk-") as folder:
        argv = ["unshare", "-m", "sh", "-c", 'mount -t erofs -o ro,loop "$1" "$2" || exit 99; exec "$3" "$4" "$2"', "sh",
                str(disk), folder, sys.executable, __file__]
        p = subprocess.run(argv, capture_output=True, check=False, timeout=300)
    if p.returncode == 99:
        raise unittest.SkipTest("this kernel does not mount EROFS: " + p.stderr.decode(errors="replace").strip())
    if p.returncode:
        raise AssertionError("cannot read %s: %s" % (disk, p.stderr.decode(errors="replace")))
    return json.loads(p.stdout)


def chain_id(diff_ids):
    """image-spec config.md: the name of what the layers make together."""
    chain = diff_ids[0]
    for diff in diff_ids[1:]:
        chain = "sha256:" + hashlib.sha256(("%s %s" % (chain, diff)).encode()).hexdigest()
    return chain


def disk_of(home, config):
    """The disk of an image with this configuration (bytes) in an A3S_HOME."""
    return pathlib.Path(home) / "images/disks" / (chain_id(json.loads(config)["rootfs"]["diff_ids"])[7:] + ".img")


def differences(ours, theirs, limit=20):
    """Lines that say what differs."""
    lines = []
    for name in sorted(set(ours) | set(theirs)):
        if ours.get(name) != theirs.get(name):
            a, b = ours.get(name) or {}, theirs.get(name) or {}
            what = sorted(k for k in set(a) | set(b) if a.get(k) != b.get(k))
            lines.append("%s: %s" % (name, ", ".join("%s %r, not %r" % (k, a.get(k), b.get(k)) for k in what)))
    return lines[:limit] + (["… and %d more" % (len(lines) - limit)] if len(lines) > limit else [])


if __name__ == "__main__":
    json.dump(scan(sys.argv[1]), sys.stdout)
