"""The root file system of the virtual KVM host: Debian with what the programs and the test suite need at run time,
as an EROFS image. Kept outside the tree, under the hash of what decides its content (this file, the suite of Debian).

    python3 tests/kvm/root.py       makes it, if it is missing, and prints its path
"""

import hashlib
import os
import pathlib
import shutil
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tests/functional"))

import images  # noqa: E402  pylint: disable=wrong-import-position

KEEP = 2  # images in the cache

PACKAGES = [
    "python3",  # the test harness
    "qemu-system-x86", "e2fsprogs",  # what a3s-box starts
    "libjansson4", "libsqlite3-0", "libarchive13", "libisal2", "libzstd1", "libcurl4", "libssl3",
    "libseccomp2", "libcmocka0",
    "mount", "util-linux", "procps", "iproute2",  # set-up of the host, setpriv and unshare in the tests
    "strace",  # for whoever looks into a failure
]

# Comes along and is never opened there. QEMU's firmware stays: one of its programs may be wanted for a comparison.
LEFT_OUT = [
    "./usr/share/perl", "./usr/lib/x86_64-linux-gnu/perl", "./usr/share/iso-codes", "./usr/share/xml", "./usr/share/locale",
    "./usr/share/doc", "./usr/share/man", "./usr/share/icons", "./usr/share/applications", "./usr/share/bash-completion",
    "./usr/lib/x86_64-linux-gnu/gconv", "./usr/lib/python3.11/pydoc_data", "./usr/lib/python3.11/ensurepip",
    "./var/lib/dpkg/info", "./var/cache", "./var/lib/apt", "./usr/lib/ipxe",
]

# The disk that a run brings along holds everything else, so that a change to it needs no new root.
INIT = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
mount -t ext4 /dev/vdb /a3s && exec /a3s/host/init
"""

# Under fakeroot for all alike: only there an ordinary user unpacks the owners and device nodes of a root.
PACK = """
set -eu
mkdir root
tar -C root -xf root.tar $LEFT_OUT
mkdir -p root/a3s root/var/cache root/var/lib/apt
ln -s /a3s/host/busybox root/bin/busybox
printf '%s' "$INIT" >root/init
chmod 755 root root/init root/a3s
rm -f root/etc/hostname root/etc/resolv.conf
echo kvm-host >root/etc/hostname
printf '127.0.0.1 localhost kvm-host\\n::1 localhost\\n' >root/etc/hosts
mkfs.erofs -T0 root.img root >pack.log 2>&1 || { tail -n 5 pack.log >&2; exit 1; }
rm -rf root root.tar
"""


def cache_root():
    return images.cache_root().parent / "host"


def cache_key():
    h = hashlib.sha256(pathlib.Path(__file__).read_bytes())
    h.update(images.SUITE.encode())
    return h.hexdigest()[:16]


def build(out):
    tmp = pathlib.Path(tempfile.mkdtemp(prefix="a3s-host-root-"))
    tmp.chmod(0o755)
    try:
        images.make_root(tmp / "root.tar", "essential", ",".join(PACKAGES))
        env = dict(os.environ, INIT=INIT, LEFT_OUT=" ".join("--exclude=" + path for path in LEFT_OUT),
                   PATH="/usr/sbin:/sbin:" + os.environ.get("PATH", "/usr/bin:/bin"))
        images.tool("fakeroot", "sh", "-c", PACK, cwd=tmp, env=env)
        shutil.copy(tmp / "root.img", str(out) + ".new")
        os.replace(str(out) + ".new", out)
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


def image(say):
    """Path of the image, made when missing; one maker at a time."""
    folder = cache_root() / cache_key()
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / "root.img"
    if not out.exists():
        with images.locked(folder / "lock"):
            if not out.exists():
                start = time.monotonic()
                say("making the root file system of the virtual host (Debian %s), once" % images.SUITE)
                build(out)
                say("made in %.0f s" % (time.monotonic() - start))
    os.utime(folder)
    old = sorted((p for p in cache_root().iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime, reverse=True)
    for path in old[KEEP:]:
        shutil.rmtree(path, ignore_errors=True)
    return out


if __name__ == "__main__":
    print(image(lambda text: print(text, file=sys.stderr)))
