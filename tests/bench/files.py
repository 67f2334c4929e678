"""Benchmarks of files, run by tests/bench/run: fio and a tree of small files on a box's root, a named volume, a bind
mount and tmpfs, against the disk of a bare QEMU: the same kernel, the same memory and disk options, the same ext4.

All of fio's reads and writes are direct, so that it is the way to the host that is measured and not the guest's memory;
that a host caches its disk is the same for all. The guest's own clock measures the tree, in the first round only: it takes
minutes, so that what disturbs it is little of it.
"""

import contextlib
import json
import pathlib
import shutil
import statistics
import subprocess
import tarfile
import time
import io

import bare

ROOT = pathlib.Path(__file__).resolve().parents[2]
MEMORY_MIB = 1024
DISK_BYTES = 4 << 30
TREE_FILES = 50000
ROUNDS = 3
GUEST_TIMEOUT_S = 1500
GOAL = 1.1  # of bare virtio-blk's time
FIO = (("sequential write", "write", "--bs=1M --iodepth=4 --size=256M"),
       ("sequential read", "read", "--bs=1M --iodepth=4 --size=256M"),
       ("random write", "randwrite", "--bs=4k --iodepth=16 --size=128M --time_based --runtime=5"),
       ("random read", "randread", "--bs=4k --iodepth=16 --size=128M --time_based --runtime=5"))
TREE = ("unpack the tree", "delete the tree")

SCRIPT = """#!/bin/sh
# bench.sh FOLDER [tree]: what it measures comes as lines that begin with a mark.
cd "$1" || exit 1
now() { date +%s%N; }
""" + "".join("""
echo "@fio %s"
fio --name=x --filename=fio.%s --rw=%s %s --ioengine=libaio --direct=1 --output-format=json
echo "@end"
""" % (name, "seq" if "sequential" in name else "rand", rw, options) for name, rw, options in FIO) + """
rm -f fio.seq fio.rand; sync
[ "$2" = tree ] || { echo "@done"; exit; }
start=$(now); mkdir tree && tar -C tree -xf /tree.tar && sync; echo "@unpack $(($(now) - start))"
start=$(now); rm -rf tree && sync; echo "@delete $(($(now) - start))"
echo "@done"
"""

INIT = """#!/busybox sh
/busybox mkdir -p /dev /root
/busybox mount -t devtmpfs dev /dev
exec </dev/null >/dev/ttyS0 2>&1
/busybox mount -t ext4 -o noatime,noinit_itable /dev/vda /root || /busybox reboot -f
/busybox mount -t proc proc /root/proc
/busybox mount -t devtmpfs dev /root/dev
/busybox mount -t ext4 -o noatime,noinit_itable /dev/vdb /root/mnt || /busybox reboot -f
PATH=/usr/sbin:/usr/bin:/sbin:/bin /busybox chroot /root /bin/sh /bench.sh /mnt $tree
/busybox reboot -f
"""


def tree_tar(path):
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for n in range(TREE_FILES):
            if n % 100 == 0:
                info = tarfile.TarInfo("d%03d" % (n // 100))
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
            data = b"%07d\n" % n * (n % 400)
            info = tarfile.TarInfo("d%03d/f%05d" % (n // 100, n))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def fio_root(images):
    """A Debian root with fio, as a tar, with the script and the tree in it."""
    def build(out, tmp):
        images.make_root(out, "essential", "fio")
        tree_tar(tmp / "tree.tar")
        with tarfile.open(out, "a") as tar:
            tar.add(tmp / "tree.tar", "./tree.tar")

    return images.made("bench-fio-%d.tar" % TREE_FILES, build)


def parse(text):
    """{what: seconds for the whole, or MB/s as its reciprocal}: smaller is better everywhere."""
    found, fio = {}, None
    for line in text.replace("\r", "").splitlines():
        if line.startswith("@fio "):
            fio, body = line[5:], []
        elif line == "@end":
            job = json.loads("\n".join(body[body.index("{"):]))["jobs"][0]
            found[fio] = 1 / (max(job["read"]["bw_bytes"], job["write"]["bw_bytes"]) / 1e6)
            fio = None
        elif line.startswith("@unpack "):
            found[TREE[0]] = int(line.split()[1]) / 1e9
        elif line.startswith("@delete "):
            found[TREE[1]] = int(line.split()[1]) / 1e9
        elif fio:
            body.append(line)
    if "@done" not in text or any(f[0] not in found for f in FIO):
        raise SystemExit("the guest did not measure everything:\n%s" % text[-3000:])
    return found


def make_disk(path, root=None):
    with open(path, "wb") as f:
        f.truncate(DISK_BYTES)
    argv = ["/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-J", "size=32"]
    subprocess.run([*argv, *(["-d", root] if root else []), path], check=True)


class Bare:
    """The machine without the product: a root disk with fio, and a second one to measure on."""

    def __init__(self, accel, build, tmp, tar, options):
        self.accel, self.kernel, self.tmp, self.options = accel, build / "vmlinux", tmp, options
        root = tmp / "bare-root"
        root.mkdir()
        subprocess.run(["tar", "-C", root, "-xf", tar, "--exclude=./dev/*"], check=True)
        (root / "bench.sh").write_text(SCRIPT)
        self.root = tmp / "root.img"
        make_disk(self.root, root)
        shutil.rmtree(root)
        busybox = pathlib.Path(shutil.which("busybox")).read_bytes()
        self.initrd = bare.cpio(tmp / "bare.cpio", {"init": INIT.encode(), "busybox": busybox})

    def run(self, tree):
        disk = self.tmp / "bare.img"
        make_disk(disk)
        machine, cpu, append = self.options
        append += " tree=" + tree  # to PID 1's environment
        argv = bare.qemu_argv(self.accel, machine, cpu, MEMORY_MIB, self.kernel, self.initrd, append)
        for n, path in enumerate((self.root, disk)):
            argv += ["-blockdev", "driver=raw,node-name=d%d,file.driver=file,file.filename=%s,file.locking=off,"
                     "discard=unmap,detect-zeroes=off" % (n, path), "-device", "virtio-blk-device,drive=d%d" % n]
        p = subprocess.run([*argv, "-global", "virtio-mmio.force-legacy=false", "-serial", "stdio"],
                           stdin=subprocess.DEVNULL, capture_output=True, timeout=GUEST_TIMEOUT_S, check=False)
        disk.unlink()
        return parse(p.stdout.decode(errors="replace"))


def measure(bench, accel, build, images):
    home, say, tmp = bench.home, bench.say, bench.tmp
    tar = fio_root(images)
    if not any("bench-fio" in line for line in home.ok("images").lines):
        home.ok("import", tar, "bench-fio")
    options = bare.product_options(home, MEMORY_MIB)
    other = Bare(accel, build, tmp, tar, options)
    bind = tmp / "bind"
    bind.mkdir()
    script = tmp / "bench.sh"
    script.write_text(SCRIPT)
    home.run_detached("--name", "files", "-m", "%dm" % MEMORY_MIB, "--cpus", "2", "-v", "bench:/volume",
                      "-v", "%s:/bind" % bind, "--tmpfs", "/tmpfs:size=700m,exec", "-v", "%s:/bench.sh:ro" % script,
                      "bench-fio", "sleep", "100000")
    results = {}
    with contextlib.ExitStack() as stack:
        stack.callback(home.run, "rm", "-f", "files")
        for n in range(ROUNDS):
            tree = "" if n else "tree"
            for place, folder in (("root", "/var/tmp"), ("volume", "/volume"), ("bind mount", "/bind"), ("tmpfs", "/tmpfs")):
                start = time.monotonic()
                p = home.ok("exec", "files", "sh", "/bench.sh", folder, tree, timeout=GUEST_TIMEOUT_S)
                results.setdefault(place, []).append(parse(p.text))
                say("round %d, %s: %.0f s" % (n + 1, place, time.monotonic() - start))
            results.setdefault("bare", []).append(other.run(tree))
    show(bench, results)


def show(bench, results):
    median = {place: {what: statistics.median(r[what] for r in rounds if what in r) for what in rounds[0]}
              for place, rounds in results.items()}
    for what in (*(f[0] for f in FIO), *TREE):
        cells = []
        for place, values in median.items():
            cells.append("%s %s" % (place, "%.2f s" % values[what] if what in TREE else "%.1f MB/s" % (1 / values[what])))
        bench.say("%-17s %s" % (what + ":", ", ".join(cells)))
    for place in ("root", "volume", "bind mount", "tmpfs"):
        for what in median[place]:
            bench.numbers.add("%s, %s: time / bare QEMU's virtio-blk" % (place, what),
                              median[place][what] / median["bare"][what], GOAL if place in ("root", "volume") else None)
