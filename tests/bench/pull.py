"""Benchmarks of images' way in, run by tests/bench/run: a pull to ready-to-run against skopeo with umoci, and podman,
all from one docker-registry on the loopback address; the pull of an image that shares all but one layer; a long
listing.

Ours ends with the layers on the disk (fsync), and leaves what can be made of them to the kernel; the others leave
most of all to it. What was not written is written between the rounds, out of everybody's time. The image is real: a
Debian root with compilers, Python, git, Node.js, taken apart into layers by package. It is made once, and kept under
the hash of what makes it.
"""

import contextlib
import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOAL_RATIO = 0.5
GOAL_PEAK_MIB = 128
GOAL_SHARED = 0.2
GOAL_LISTING_MS = 30
LISTED = 500

# Says what a program and its children took. They are forked here, because a process inherits the peak of the one that
# forked it.
MEASURE = """
import os, sys, time
start = time.monotonic()
pid = os.fork()
if not pid:
    os.execvp(sys.argv[2], sys.argv[2:])
_, status, usage = os.wait4(pid, 0)
with open(sys.argv[1], "w") as f:
    f.write("%f %f %d" % (time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status) and 1)
"""


# ---- the image

PACKAGES = "build-essential,git,python3,curl,cmake,vim-nox,nodejs"
# The first that matches a package's name has it; each is a layer, upwards. What none has is the base.
LAYERS = (
    ("libraries", None),  # all that the base does not need
    ("python", r"(lib)?python"),
    ("git", r"git|perl|libperl|liberror|curl|libcurl"),
    ("compilers", r"gcc|g\+\+|cpp|binutils|libbinutils|libc6-dev|libc-dev|libstdc\+\+-|libgcc-|linux-libc|make|dpkg-dev|"
                  r"build-essential|lib(asan|tsan|lsan|ubsan|cc1|gomp|itm|atomic|quadmath|isl|mpc|mpfr|ctf)"),
    ("tools", r"cmake|vim|nodejs|libnode|libuv|ruby|libruby|libicu"),
)
BASE_PRIORITIES = ("required", "important")
APP_BYTES = 20 << 20
CONFIG = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["/bin/sh"]}


def packages_of(root):
    """{package: its layer's name}, from the database in the tar."""
    status = root.extractfile("./var/lib/dpkg/status").read().decode()
    found = {}
    for entry in status.split("\n\n"):
        fields = dict(re.findall(r"(?m)^(Package|Priority|Essential): (.*)$", entry))
        if not fields:
            continue
        name = fields["Package"]
        layer = next((layer for layer, pattern in LAYERS if pattern and re.match(pattern, name)), None)
        if fields.get("Priority") in BASE_PRIORITIES or fields.get("Essential") == "yes":
            layer = "base"
        found[name] = layer or "libraries"
    return found, status


def owners_of(root, packages):
    """{path in the tar: layer}"""
    owners = {}
    for member in root:
        info = re.fullmatch(r"\./var/lib/dpkg/info/([^/]+?)(?::[a-z0-9]+)?\.([a-z0-9]+)", member.name)
        if not info:
            continue
        layer = packages.get(info[1], "base")
        owners[member.name] = layer
        if info[2] == "list":
            for path in root.extractfile(member).read().decode().splitlines():
                owners.setdefault("." + path, layer)
                # Packages still name what a merged /usr has moved.
                owners.setdefault("." + re.sub("^/(bin|sbin|lib|lib64)/", r"/usr/\1/", path), layer)
    return owners


class Layer:
    """A tar of members of the root, its folders before them, times as they are there."""

    def __init__(self):
        self.file = tempfile.TemporaryFile()
        self.tar = tarfile.open(fileobj=self.file, mode="w", format=tarfile.PAX_FORMAT)
        self.have = set()

    def add(self, root, member, folders):
        for n in range(1, member.name.count("/")):
            parent = "/".join(member.name.split("/")[:n + 1])
            if parent not in self.have and parent in folders:
                self.have.add(parent)
                self.tar.addfile(folders[parent])
        self.have.add(member.name)
        self.tar.addfile(member, root.extractfile(member) if member.isreg() else None)

    def add_file(self, name, data):
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self.tar.addfile(info, io.BytesIO(data))

    def pack(self, blobs):
        """Writes the blob; returns (descriptor, diff ID, bytes of content)."""
        self.tar.close()
        size, diff = self.file.tell(), hashlib.sha256()
        self.file.seek(0)
        packed, digest = blobs / "new", hashlib.sha256()
        with open(packed, "wb") as out:
            with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=6, mtime=0, filename="") as f:
                while piece := self.file.read(1 << 20):
                    diff.update(piece)
                    f.write(piece)
        with open(packed, "rb") as f:
            while piece := f.read(1 << 20):
                digest.update(piece)
        self.file.close()
        descriptor = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:" + digest.hexdigest(),
                      "size": packed.stat().st_size}
        packed.rename(blobs / digest.hexdigest())
        return descriptor, "sha256:" + diff.hexdigest(), size


def app(version):
    """The topmost layer: what its users build again and again, of the size of a middling program."""
    layer, done, n = Layer(), 0, 0
    words = [hashlib.sha256(b"%d" % i).hexdigest()[:3 + i % 9].encode() for i in range(4096)]
    while done < APP_BYTES:
        seed = hashlib.sha512(b"%s %d" % (version, n)).digest()
        text = b" ".join(words[int.from_bytes(hashlib.md5(seed + b"%d" % i).digest()[:2], "big") % 4096]
                         for i in range(2000))
        layer.add_file("opt/app/part%02d/file%04d" % (n % 40, n), text)
        done += len(text)
        n += 1
    return layer


def build(folder, images, say):
    """An OCI layout with two images, first and second, which differ in the topmost layer."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)
    images.make_root(folder / "root.tar", "minbase", PACKAGES)
    with tarfile.open(folder / "root.tar") as root:
        packages, status = packages_of(root)
        owners = owners_of(root, packages)
        members = list(root)
        folders = {m.name: m for m in members if m.isdir()}
        layers = {name: Layer() for name in ("base", *(name for name, _ in LAYERS))}
        for member in members:
            if member.isdir():
                # All of them are in the base, and again in the layers that have something in them.
                layers["base"].add(root, member, folders)
            elif member.name.startswith("./dev/"):
                continue
            elif member.islnk():
                layers[owners.get("./" + member.linkname.removeprefix("./"), "base")].add(root, member, folders)
            else:
                layers[owners.get(member.name, "base")].add(root, member, folders)
        # Each layer has installed something, and so wrote the database again.
        have = {"base"}
        for name, _ in LAYERS:
            have.add(name)
            kept = [e for e in status.split("\n\n") if packages.get(e[9:].split("\n")[0], "base") in have]
            layers[name].add_file("var/lib/dpkg/status", "\n\n".join(kept).encode())
        packed = [layer.pack(blobs) for layer in layers.values()]
    (folder / "root.tar").unlink()
    entries = []
    for tag, version in (("first", b"1"), ("second", b"2")):
        parts = packed + [app(version).pack(blobs)]
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": CONFIG,
                             "rootfs": {"type": "layers", "diff_ids": [diff for _, diff, _ in parts]}}).encode()
        manifest = json.dumps({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": len(config),
                       "digest": "sha256:" + hashlib.sha256(config).hexdigest()},
            "layers": [descriptor for descriptor, _, _ in parts]}).encode()
        for data in (config, manifest):
            (blobs / hashlib.sha256(data).hexdigest()).write_bytes(data)
        entries.append({"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": len(manifest),
                        "digest": "sha256:" + hashlib.sha256(manifest).hexdigest(),
                        "annotations": {"org.opencontainers.image.ref.name": tag}})
        say("  %s: %d layers, %.0f MB unpacked, %.0f MB packed" % (
            tag, len(parts), sum(size for _, _, size in parts) / 1e6, sum(d["size"] for d, _, _ in parts) / 1e6))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))


def layout(say):
    import images  # pylint: disable=import-outside-toplevel

    key = hashlib.sha256(re.split(b"# ---- .*\n", pathlib.Path(__file__).read_bytes())[1]).hexdigest()[:16]
    folder = images.cache_root().parent / "bench" / ("pull-" + key)
    if not (folder / "index.json").exists():
        say("making the image to pull (once)")
        new = folder.with_name(folder.name + ".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        for old in folder.parent.glob("pull-" + "[0-9a-f]" * 16):
            shutil.rmtree(old)
        build(new, images, say)
        new.rename(folder)
    return folder


# ---- the rounds


class Took:
    """Of several commands, one after the other: seconds, processor seconds, the highest peak of memory in MiB."""

    def __init__(self):
        self.wall, self.cpu, self.peak_mib = 0, 0, 0

    def add(self, tmp, argv, env):
        told = tmp / "told"
        p = subprocess.run([sys.executable, "-S", "-E", "-c", MEASURE, told, *map(str, argv)], stdin=subprocess.DEVNULL,
                           capture_output=True, env=env, timeout=600, check=False)
        if p.returncode:
            raise OSError("%s: %s" % (" ".join(map(str, argv[:4])), p.stderr.decode(errors="replace")[-1000:]))
        wall, cpu, peak = told.read_text().split()
        self.wall += float(wall)
        self.cpu += float(cpu)
        self.peak_mib = max(self.peak_mib, int(peak) / 1024)
        return self


class Sides:
    def __init__(self, bench, registry):
        self.bench, self.registry = bench, registry
        self.tmp = bench.tmp / "pull"
        self.tmp.mkdir()
        self.env = {**os.environ, "HOME": str(self.tmp), "TMPDIR": str(self.tmp)}
        config = self.tmp / "containers.conf"
        config.write_text('[engine]\nlock_type = "file"\nevents_logger = "none"\n')
        self.env["CONTAINERS_CONF"] = str(config)
        self.driver = "overlay"

    def name(self, tag):
        return self.registry.name("bench:" + tag)

    def fresh(self, *names):
        """Folders that are not there; and nothing of the last round is still on its way to the disk."""
        for name in names:
            shutil.rmtree(self.tmp / name, ignore_errors=True)
        os.sync()

    def ours(self, tag):
        env = {**self.bench.home.env(), "A3S_HOME": str(self.tmp / "home")}
        return Took().add(self.tmp, [self.bench.home.program, "pull", "-q", self.name(tag)], env)

    def umoci(self):
        took = Took().add(self.tmp, ["skopeo", "copy", "-q", "--src-tls-verify=false", "docker://" + self.name("first"),
                                     "oci:%s:1" % (self.tmp / "oci")], self.env)
        return took.add(self.tmp, ["umoci", "unpack", *([] if os.geteuid() == 0 else ["--rootless"]), "--image",
                                   "%s:1" % (self.tmp / "oci"), self.tmp / "bundle"], self.env)

    def podman(self, tag="first"):
        return Took().add(self.tmp, [
            "podman", "--root", self.tmp / "podman", "--runroot", self.tmp / "podman-run", "--tmpdir",
            self.tmp / "podman-tmp", "--storage-driver", self.driver, "pull", "-q", "--tls-verify=false", self.name(tag)],
            self.env)

    def choose_driver(self):
        """overlay where this host can, which writes each layer once."""
        for self.driver in ("overlay", "vfs"):
            try:
                self.fresh("podman")
                self.podman()
                return True
            except OSError as e:
                self.bench.say("podman with %s: %s" % (self.driver, e))
        return False

    def close(self):
        if (self.tmp / "podman/overlay").exists():
            subprocess.run(["umount", self.tmp / "podman/overlay"], capture_output=True, check=False)
        shutil.rmtree(self.tmp, ignore_errors=True)


def median(side, field):
    return statistics.median(getattr(took, field) for took in side)


def show(bench, name, side):
    walls = [took.wall for took in side]
    bench.say("%-36s %.2f s (%.2f to %.2f), processor %.2f s, peak %.0f MiB" % (
        name + ":", statistics.median(walls), min(walls), max(walls), median(side, "cpu"),
        max(took.peak_mib for took in side)))


def pulls(bench):
    import registries  # pylint: disable=import-outside-toplevel

    for program in ("docker-registry", "skopeo", "umoci"):
        if not shutil.which(program):
            bench.say("no comparison: %s is not installed" % program)
            return
    source = layout(bench.say)
    with contextlib.ExitStack() as stack:
        registry = registries.DockerRegistry(bench.tmp / "registry")
        stack.callback(registry.close)
        for tag in ("first", "second"):
            registry.skopeo("copy", "-q", "oci:%s:%s" % (source, tag), "docker://" + registry.name("bench:" + tag))
        sides = Sides(bench, registry)
        stack.callback(sides.close)
        with_podman = shutil.which("podman") and sides.choose_driver()
        ours, shared, umoci, podman = [], [], [], []
        for n in range(max(5, bench.rounds // 2)):
            sides.fresh("home")
            ours.append(sides.ours("first"))
            os.sync()
            shared.append(sides.ours("second"))
            sides.fresh("home", "oci", "bundle")
            umoci.append(sides.umoci())
            sides.fresh("oci", "bundle", "podman")
            if with_podman:
                podman.append(sides.podman())
                sides.fresh("podman")
            bench.say("round %d: %.2f s, sharing all but one layer %.2f s; umoci %.2f s%s" % (
                n + 1, ours[-1].wall, shared[-1].wall, umoci[-1].wall,
                "; podman %.2f s" % podman[-1].wall if with_podman else ""))
        show(bench, "pull", ours)
        show(bench, "pull, all but one layer there", shared)
        show(bench, "skopeo copy, umoci unpack", umoci)
        theirs = [median(umoci, "wall")]
        if with_podman:
            show(bench, "podman pull (%s)" % sides.driver, podman)
            theirs.append(median(podman, "wall"))
            bench.numbers.add("pull / podman pull", median(ours, "wall") / theirs[1])
        bench.numbers.add("pull / skopeo copy and umoci unpack", median(ours, "wall") / theirs[0])
        bench.numbers.add("pull / the better one of them", median(ours, "wall") / min(theirs), GOAL_RATIO)
        bench.numbers.add("pull: peak memory", max(t.peak_mib for t in ours + shared), GOAL_PEAK_MIB, unit=" MiB")
        bench.numbers.add("pull: processors in use", median(ours, "cpu") / median(ours, "wall"))
        bench.numbers.add("pull of an image that shares all but one layer / the first",
                          median(shared, "wall") / median(ours, "wall"), GOAL_SHARED)


def listing(bench):
    """Images of three layers, two of which they share."""
    import a3s  # pylint: disable=import-outside-toplevel
    import images  # pylint: disable=import-outside-toplevel

    script, home = images.busybox_image, a3s.Home()
    try:
        below = []
        for n in range(2):
            tree = script.Tree()
            tree.file("shared%d" % n, os.urandom(10000))
            below.append(tree.bytes())
        archive = home.tmp / "image.tar"
        for n in range(LISTED):
            tree = script.Tree()
            tree.file("own", "%d" % n)
            script.write_archive(str(archive), "listed%d:1" % n, *script.image_blobs([*below, tree.bytes()]))
            home.load(archive)
            home.transcript.clear()
        os.sync()  # what the loads have left to write is not the listing's
        seconds = [home.ok("images").seconds for _ in range(bench.rounds * 3)]
        lines = len(home.ok("images").lines)
        if lines != LISTED + 1:
            raise SystemExit("images shows %d lines, not %d" % (lines, LISTED + 1))
    finally:
        home.close()
    bench.numbers.add("images with %d images" % LISTED, statistics.median(seconds) * 1000, GOAL_LISTING_MS, unit=" ms")


def measure(bench):
    listing(bench)
    pulls(bench)
