"""Images for the tests, none of them written by the code under test; kept outside the tree, under the hash of what
decides their content (this file, the busybox script, the suite of Debian).

    box       busybox with the users and files that the tests need (oci: scripts/busybox-image)
    buildah   the same content, built by buildah (docker media types)
    debian    Debian minbase                          mmdebstrap, packed by umoci
    nginx, redis, python                              the same, with that program
"""

import contextlib
import fcntl
import hashlib
import importlib.machinery
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
SUITE = "bookworm"
KEEP = 2  # sets of images in the cache


def load_script(path):
    loader = importlib.machinery.SourceFileLoader(path.name.replace("-", "_"), str(path))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    module = importlib.util.module_from_spec(spec)
    sys.dont_write_bytecode = True
    loader.exec_module(module)
    return module


busybox_image = load_script(ROOT / "scripts/busybox-image")

PASSWD = busybox_image.PASSWD + "app:x:1000:1000:An App:/home/app:/bin/sh\n"
GROUP = busybox_image.GROUP + "app:x:1000:\nextra:x:2000:app\nother:x:2001:\n"


def add_test_files(tree):
    tree.folder("home/app", 0o755, uid=1000, gid=1000)
    tree.file("home/app/mine", "app\n", 0o600, uid=1000, gid=1000)
    tree.file("etc/plain", "not a program\n", 0o644)
    tree.file("etc/script", "#!/bin/sh\necho script \"$@\"\n", 0o755)
    tree.file("etc/no-interpreter", "#!/bin/missing\n", 0o755)
    tree.folder("work", 0o755)
    tree.file("opt-marker", "lower\n")


def box_layer():
    return busybox_image.busybox_layer(PASSWD, GROUP, add_test_files)


BOX_CONFIG = {"Env": ["PATH=/bin:/usr/bin", "FROM_IMAGE=yes"], "Cmd": ["echo", "default command"]}

PROGRAMS = {
    "debian": ("minbase", "", ["--config.cmd", "/bin/sh"]),
    "nginx": ("essential", "nginx-light,curl", [
        "--config.cmd", "nginx", "--config.cmd", "-g", "--config.cmd", "daemon off;",
        "--config.stopsignal", "SIGQUIT", "--config.exposedports", "80/tcp"]),
    "redis": ("essential", "redis-server", [
        "--config.entrypoint", "redis-server", "--config.cmd", "--save", "--config.cmd", "",
        "--config.user", "redis", "--config.workingdir", "/var/lib/redis"]),
    "python": ("essential", "python3-minimal,libpython3-stdlib", ["--config.cmd", "python3"]),
}


def cache_root():
    base = os.environ.get("A3S_BUILD_CACHE")
    if not base:
        base = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "a3s-box")
    return pathlib.Path(base) / "images"


def cache_key():
    h = hashlib.sha256()
    for path in (pathlib.Path(__file__), ROOT / "scripts/busybox-image", pathlib.Path(busybox_image.find_busybox())):
        h.update(path.read_bytes())
    return h.hexdigest()[:16]


def folder():
    path = cache_root() / cache_key()
    path.mkdir(parents=True, exist_ok=True)
    return path


def tool(*argv, **options):
    p = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True, errors="replace", timeout=900, check=False, **options)
    if p.returncode:
        raise RuntimeError("%s failed:\n%s" % (" ".join(map(str, argv)), p.stdout[-4000:]))
    return p.stdout


def debian_mirrors():
    """The host's own sources of this suite, as lines; none: mmdebstrap knows where to look."""
    try:
        listed = tool("apt-get", "indextargets", "--format", "$(ORIGIN)|$(REPO_URI)|$(CODENAME)|$(COMPONENT)",
                      "Created-By: Packages")
    except (OSError, RuntimeError):
        return []
    lines = []
    for line in listed.splitlines():
        origin, uri, codename, component = line.split("|")
        new = "deb %s %s main" % (uri, codename)
        if origin == "Debian" and component == "main" and codename.startswith(SUITE) and new not in lines and \
                "backports" not in codename:
            lines.append(new)
    return lines if any(" %s main" % SUITE in line for line in lines) else []


def make_root(tarball, variant, include):
    """A Debian root as a tar file, also for a user with no more than his own ID."""
    modes = ["root", "unshare", "fakechroot"] if os.geteuid() == 0 else ["unshare", "fakechroot"]
    failures = []
    env = dict(os.environ, PATH="/usr/sbin:/sbin:" + os.environ.get("PATH", "/usr/bin:/bin"), SOURCE_DATE_EPOCH="0")
    for mode in modes:
        argv = ["mmdebstrap", "--mode=" + mode, "--variant=" + variant, "--format=tar",
                "--aptopt=Acquire::Retries \"3\"", "--dpkgopt=path-exclude=/usr/share/doc/*",
                "--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=path-exclude=/usr/share/man/*"]
        if include:
            argv.append("--include=" + include)
        try:
            tool(*argv, SUITE, tarball, *debian_mirrors(), env=env)
            return
        except RuntimeError as e:
            failures.append(str(e))
            pathlib.Path(tarball).unlink(missing_ok=True)
    raise RuntimeError("\n".join(failures))


def build_box(out, tmp):
    manifest, blobs = busybox_image.image_blobs([box_layer()], BOX_CONFIG)
    busybox_image.write_archive(out, "box:latest", manifest, blobs)


def build_buildah(out, tmp):
    """All files are root's, so that a user with one ID can build it too."""
    (tmp / "layer.tar").write_bytes(busybox_image.busybox_layer())
    store = ["buildah", "--storage-driver", "vfs", "--root", tmp / "store", "--runroot", tmp / "run"]
    env = dict(os.environ, HOME=str(tmp), XDG_RUNTIME_DIR=str(tmp), TMPDIR=str(tmp))
    try:
        container = tool(*store, "from", "scratch", env=env).splitlines()[-1]
        tool(*store, "add", container, tmp / "layer.tar", "/", env=env)
        tool(*store, "config", "--cmd", '["sh"]', "--env", "BUILT_BY=buildah", container, env=env)
        tool(*store, "commit", "--format", "docker", container, "docker-archive:%s:localhost/buildah:1" % out, env=env)
    finally:
        # Mapped owners inside are not this user's to remove.
        if os.geteuid() != 0:
            with contextlib.suppress(OSError, RuntimeError):
                tool("buildah", "unshare", "rm", "-rf", tmp / "store", tmp / "run", env=env)


def build_program(name):
    def build(out, tmp):
        variant, include, config = PROGRAMS[name]
        make_root(tmp / "root.tar", variant, include)
        layout = tmp / "layout"
        tool("umoci", "init", "--layout", layout)
        tool("umoci", "new", "--image", "%s:latest" % layout)
        tool("umoci", "raw", "add-layer", "--image", "%s:latest" % layout, tmp / "root.tar")
        tool("umoci", "config", "--image", "%s:latest" % layout,
             "--config.env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *config)
        tool("umoci", "gc", "--layout", layout)
        tool("skopeo", "copy", "oci:%s:latest" % layout, "oci-archive:%s:%s:latest" % (out, name))

    return build


def build_two_layers(out, tmp):
    """What overlays are about: a whiteout, an opaque folder, a replaced file, a hard link."""
    lower = busybox_image.Tree()
    for d in ("gone", "opaque", "kept"):
        lower.folder(d)
        lower.file(d + "/low", "low\n")
    lower.file("replaced", "old\n")
    lower.file("removed", "still here\n")
    upper = busybox_image.Tree()
    upper.file(".wh.removed", "")
    upper.file(".wh.gone", "")
    upper.folder("opaque")
    upper.file("opaque/.wh..wh..opq", "")
    upper.file("opaque/high", "high\n")
    upper.file("replaced", "new\n", mode=0o600, uid=1000, gid=2000)
    upper.file("kept/one", "linked\n")
    upper.add("kept/two", tarfile.LNKTYPE, 0o644, link="kept/one")
    manifest, blobs = busybox_image.image_blobs([box_layer(), lower.bytes(), upper.bytes()], BOX_CONFIG)
    busybox_image.write_archive(out, "layers:latest", manifest, blobs)


def build_other_arch(out, tmp):
    manifest, blobs = busybox_image.image_blobs([box_layer()], BOX_CONFIG, architecture="s390x")
    busybox_image.write_archive(out, "otherarch:latest", manifest, blobs)


RECIPES = {
    "box": build_box, "buildah": build_buildah, "layers": build_two_layers, "otherarch": build_other_arch,
    **{name: build_program(name) for name in PROGRAMS},
}


@contextlib.contextmanager
def locked(path):
    with open(path, "w", encoding="ascii") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


def made(name, build):
    """The file of this name in the cache, made by build(out, tmp) when missing; one maker at a time."""
    out = folder() / name
    if out.exists():
        return out
    with locked(folder() / (name + ".lock")):
        if out.exists():
            return out
        tmp = pathlib.Path(tempfile.mkdtemp(prefix="a3s-image-"))
        tmp.chmod(0o755)
        try:
            build(tmp / "out.tar", tmp)
            shutil.copy(tmp / "out.tar", str(out) + ".new")
            os.replace(str(out) + ".new", out)
        finally:
            shutil.rmtree(tmp, ignore_errors=True)
    return out


def archive(name, transport="oci"):
    """Path of the image as an archive. transport: oci as made, docker (docker-archive by skopeo), oci-skopeo,
    layout (an umoci layout as a tar file)."""
    if transport == "oci":
        return made(name + ".tar", RECIPES[name])

    def convert(out, tmp):
        source = "%s:%s" % ("docker-archive" if name == "buildah" else "oci-archive", archive(name))
        env = dict(os.environ, HOME=str(tmp), TMPDIR=str(tmp))
        if transport == "docker":
            tool("skopeo", "copy", source, "docker-archive:%s:%s:docker" % (out, name), env=env)
        elif transport == "oci-skopeo":
            tool("skopeo", "copy", source, "oci-archive:%s:%s:skopeo" % (out, name), env=env)
        elif transport == "layout":
            layout = tmp / "layout"
            tool("skopeo", "copy", source, "oci:%s:umoci" % layout, env=env)
            tool("umoci", "config", "--image", "%s:umoci" % layout, "--config.env", "PACKED_BY=umoci", env=env)
            tool("umoci", "gc", "--layout", layout, env=env)
            tool("tar", "-C", layout, "-cf", out, ".")
        else:
            raise ValueError(transport)

    return made("%s.%s.tar" % (name, transport), convert)


def prepare(names, say):
    """Makes what is missing, with progress; drops old sets."""
    for name in names:
        if not (folder() / (name + ".tar")).exists():
            start = time.monotonic()
            archive(name)
            say("image %s made in %.0f s" % (name, time.monotonic() - start))
    os.utime(folder())
    sets = sorted((p for p in cache_root().iterdir() if p.is_dir() and len(p.name) == 16),
                  key=lambda p: p.stat().st_mtime, reverse=True)
    for old in sets[KEEP:]:
        shutil.rmtree(old, ignore_errors=True)


if __name__ == "__main__":
    prepare(sys.argv[1:] or list(RECIPES), print)
    print(folder())
