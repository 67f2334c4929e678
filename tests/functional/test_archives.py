"""Archives: save, load and import, and round trips with skopeo, umoci, buildah and podman."""

import gzip
import hashlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import tarfile
import tempfile
import unittest

import images
import trees
from a3s import core, slow
from test_images import ImageTest
from test_registry import multi_platform, write_layout

HOST = "amd64"
OTHER = "s390x"


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Archive:
    """What is in an image archive."""

    def __init__(self, path):
        self.names, self.files = [], {}
        with tarfile.open(path) as t:
            for member in t:
                name = member.name.removeprefix("./")
                self.names.append(name)
                if member.isfile():
                    self.files[name] = t.extractfile(member).read()
        self.index = json.loads(self.files["index.json"])
        self.docker = json.loads(self.files["manifest.json"]) if "manifest.json" in self.files else None

    def blob(self, digest):
        return self.files["blobs/" + digest.replace(":", "/")]

    def blobs(self):
        return {name for name in self.files if name.startswith("blobs/")}

    def document(self):
        """The only manifest or index, as it is."""
        (entry,) = self.index["manifests"]
        return self.blob(entry["digest"])


class ArchiveTest(ImageTest):
    def setUp(self):
        super().setUp()
        self.work = pathlib.Path(tempfile.mkdtemp(dir=self.home.tmp))

    def tearDown(self):
        shutil.rmtree(self.work)
        super().tearDown()

    def save(self, *args):
        out = self.work / ("saved-%d.tar" % len(list(self.work.iterdir())))
        self.home.ok("save", "-o", out, *args)
        return out

    def tool(self, name, *args):
        """One that keeps images in a storage of its own."""
        if os.geteuid() != 0:
            raise unittest.SkipTest("%s needs mapped users, or root" % name)
        if not shutil.which(name):
            raise unittest.SkipTest("%s is not installed" % name)
        config = self.work / "containers.conf"
        config.write_text('[engine]\nlock_type = "file"\nevents_logger = "none"\n')
        env = dict(os.environ, HOME=str(self.work), TMPDIR=str(self.work), XDG_RUNTIME_DIR=str(self.work),
                   CONTAINERS_CONF=str(config))
        argv = [name, "--root", self.work / "store", "--runroot", self.work / "run", "--storage-driver", "vfs"]
        if name == "podman":
            argv += ["--tmpdir", self.work / "podman", "--cgroup-manager", "cgroupfs"]
        return images.tool(*argv, *args, env=env)

    def disk(self, image):
        """The disk's path of an image that is here."""
        config = self.home.path / "images/blobs/sha256" / self.id_of(image)
        layers = json.loads(config.read_bytes())["rootfs"]["diff_ids"]
        return self.home.path / "images/disks" / (trees.chain_id(layers)[7:] + ".img")

    def id_of(self, image):
        return json.loads(self.home.ok("inspect", image).text)[0]["Id"][7:]

    def multi_archive(self):
        """An OCI archive of two platforms and an attestation; returns its path and the index's bytes."""
        descriptor, blobs = multi_platform()
        folder, out = self.work / "layout", self.work / "multi.tar"
        write_layout(folder, "example.com/multi:1", descriptor, blobs)
        images.tool("tar", "-C", folder, "-cf", out, ".")
        shutil.rmtree(folder)
        return out, blobs[descriptor["digest"]]


class RoundTrips(ArchiveTest):
    @core
    def test_save_and_load_again(self):
        for name in ("box", "layers"):
            self.home.load(self.image_file(name))
        first = self.save("box", "layers")
        names = Archive(first).names
        self.assertEqual(names, names[:3] + sorted(names[3:]))
        self.assertEqual(self.save("layers", "box", "box").read_bytes(), first.read_bytes())
        ids = self.rows()
        self.home.ok("rmi", "box", "layers")
        self.home.load(first)
        self.assertEqual(self.rows(), ids)
        self.assertEqual(self.save("box", "layers").read_bytes(), first.read_bytes())
        self.assert_runs("layers", "cat", "/replaced", expect=b"new\n")

    def test_compressed_and_through_pipes(self):
        self.home.load(self.image_file("layers"))
        saved = self.home.ok("save", "layers").out
        self.home.ok("rmi", "layers")
        self.home.ok("load", input=gzip.compress(saved, 1))
        self.assertEqual(self.home.ok("save", "layers").out, saved)

    def test_entries_of_both_lists(self):
        self.home.load(self.image_file("box"))
        self.home.ok("tag", "box", "example.com:5000/deep/er/box:v1")
        a = Archive(self.save("box", "example.com:5000/deep/er/box:v1"))
        self.assertEqual([e["annotations"] for e in a.index["manifests"]], [
            {"io.containerd.image.name": "docker.io/library/box:latest", "org.opencontainers.image.ref.name": "latest"},
            {"io.containerd.image.name": "example.com:5000/deep/er/box:v1", "org.opencontainers.image.ref.name": "v1"}])
        (entry,) = a.docker
        self.assertEqual(entry["RepoTags"], ["docker.io/library/box:latest", "example.com:5000/deep/er/box:v1"])
        for name in [entry["Config"], *entry["Layers"]]:
            self.assertEqual(name, "blobs/" + digest_of(a.files[name]).replace(":", "/"))
        a = Archive(self.save("--format", "oci-archive", self.id_of("box")))
        self.assertIsNone(a.docker)
        self.assertNotIn("annotations", a.index["manifests"][0])

    @core
    def test_skopeo(self):
        self.home.load(self.image_file("layers"))
        manifest = Archive(self.save("layers")).document()
        saved = self.save("layers")
        raw = images.tool("skopeo", "inspect", "--raw", "oci-archive:%s" % saved)
        self.assertEqual(raw.encode(), manifest)
        for source, form in (("docker-archive:%s:layers:latest" % saved, "v2s2"), ("oci-archive:%s" % saved, "oci")):
            with self.subTest(source):
                ours = trees.scan_disk(self.disk("layers"))
                # a file that skopeo writes of it, and what we make of that
                back = self.work / (form + ".tar")
                images.tool("skopeo", "copy", source, "%s-archive:%s:example.com/back:%s" % (
                    "docker" if form == "v2s2" else "oci", back, form))
                self.home.load(back)
                name = "example.com/back:" + form
                self.assertEqual(trees.differences(ours, trees.scan_disk(self.disk(name))), [])

    def test_umoci(self):
        self.home.load(self.image_file("layers"))
        layout = self.work / "layout"
        layout.mkdir()
        images.tool("tar", "-C", layout, "-xf", self.save("layers"))
        bundle = self.work / "bundle"
        images.tool("umoci", "unpack", *(["--rootless"] if os.geteuid() else []), "--image", "%s:latest" % layout, bundle)
        if os.geteuid() == 0:
            self.assertEqual(trees.differences(trees.scan_disk(self.disk("layers")), trees.scan(bundle / "rootfs")), [])
        # and one that umoci adds to it
        images.tool("umoci", "config", "--image", "%s:latest" % layout, "--tag", "again", "--config.env", "BY=umoci")
        images.tool("umoci", "rm", "--image", "%s:latest" % layout)
        images.tool("umoci", "gc", "--layout", layout)
        (layout / "manifest.json").unlink()
        images.tool("tar", "-C", layout, "-cf", self.work / "umoci.tar", ".")
        loaded = self.home.load(self.work / "umoci.tar").text.split()[-1]
        self.assertIn("BY=umoci", json.loads(self.home.ok("inspect", loaded).text)[0]["Config"]["Env"])

    @slow(300)
    def test_podman(self):
        for name in ("box", "layers"):
            self.home.load(self.image_file(name))
        ids = {name: self.id_of(name) for name in ("box", "layers")}
        ours = trees.scan_disk(self.disk("layers"))
        for form in ("docker-archive", "oci-archive"):
            with self.subTest(form):
                self.tool("podman", "load", "-i", self.save("--format", form, "layers"))
                told = self.tool("podman", "images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").split()
                self.assertEqual(told, ["docker.io/library/layers:latest", "sha256:" + ids["layers"]])
                back = self.work / "podman.tar"
                self.tool("podman", "save", "--format", form, "-o", back, "layers")
                self.home.ok("rmi", "layers")
                self.home.load(back)
                self.assertEqual(self.id_of("layers"), ids["layers"])
                self.assertEqual(trees.differences(ours, trees.scan_disk(self.disk("layers"))), [])
                self.tool("podman", "rmi", "-a", "-f")
                back.unlink()
        self.tool("podman", "load", "-i", self.save("box", "layers"))
        self.assertEqual(len(self.tool("podman", "images", "-q").split()), 2)
        back = self.work / "both.tar"
        self.tool("podman", "save", "--multi-image-archive", "-o", back, "box", "layers")
        self.home.ok("rmi", "box", "layers")
        self.home.load(back)
        self.assertEqual({name: self.id_of(name) for name in ids}, ids)

    def test_buildah(self):
        self.home.load(self.image_file("layers"))
        saved = self.save("layers")
        for transport in ("docker-archive", "oci-archive"):
            with self.subTest(transport):
                container = self.tool("buildah", "from", "%s:%s" % (transport, saved)).split()[-1]
                self.tool("buildah", "config", "--env", "BY=" + transport, container)
                back = self.work / (transport + ".tar")
                self.tool("buildah", "commit", container, "%s:%s:example.com/back:%s" % (transport, back, transport))
                self.home.load(back)
                name = "example.com/back:" + transport
                self.assertIn("BY=" + transport, json.loads(self.home.ok("inspect", name).text)[0]["Config"]["Env"])


class Platforms(ArchiveTest):
    @core
    def test_an_index_survives(self):
        archive, index = self.multi_archive()
        before = Archive(archive)
        self.home.load(archive)
        saved = Archive(self.save("example.com/multi:1"))
        self.assertEqual(saved.document(), index)
        self.assertEqual(saved.blobs(), before.blobs())
        (entry,) = saved.docker
        self.assertEqual(json.loads(saved.files[entry["Config"]])["architecture"], HOST)
        self.assert_runs("example.com/multi:1")
        # Removed, it leaves nothing.
        self.home.ok("rmi", "example.com/multi:1")
        self.assertEqual([f for f in self.store()[1] if "/blobs/" in f or "/disks/" in f], [])

    def test_skopeo_reads_all_of_it(self):
        archive, index = self.multi_archive()
        self.home.load(archive)
        saved = self.save("example.com/multi:1")
        folder = self.work / "dir"
        images.tool("skopeo", "copy", "--all", "oci-archive:%s" % saved, "dir:%s" % folder)
        self.assertEqual((folder / "manifest.json").read_bytes(), index)
        back = self.work / "back.tar"
        images.tool("skopeo", "copy", "--all", "dir:%s" % folder, "oci-archive:%s:example.com/back:1" % back)
        self.home.load(back)
        self.assertEqual(Archive(self.save("example.com/back:1")).document(), index)

    def test_one_of_several(self):
        archive, index = self.multi_archive()
        self.home.load(archive)
        for platform, architecture in (("linux/" + OTHER, OTHER), (HOST, HOST)):
            with self.subTest(platform):
                a = Archive(self.save("--platform", platform, "example.com/multi:1"))
                config = json.loads(a.document())["config"]["digest"]
                self.assertEqual(json.loads(a.blob(config))["architecture"], architecture)
                self.assertNotIn(digest_of(index)[7:], " ".join(a.names))
        out = self.work / "none.tar"
        self.assert_one_line(self.home.run("save", "-o", out, "--platform", "linux/mips", "example.com/multi:1"),
                             match="no variant for linux/mips, only for")
        self.assertFalse(out.exists())
        self.home.ok("rmi", "example.com/multi:1")
        self.home.ok("load", "-q", "--platform", "linux/" + OTHER, "-i", archive)
        self.assertEqual(json.loads(self.home.ok("inspect", "example.com/multi:1").text)[0]["Architecture"], OTHER)
        self.assertEqual(Archive(self.save("example.com/multi:1")).document(), index)

    def test_what_is_missing_is_not_promised(self):
        archive, index = self.multi_archive_without(OTHER)
        self.home.load(archive)
        a = Archive(self.save("example.com/multi:1"))
        self.assertNotEqual(a.document(), index)
        self.assertEqual(json.loads(a.blob(json.loads(a.document())["config"]["digest"]))["architecture"], HOST)
        self.assert_one_line(self.home.run("load", "--platform", OTHER, "-i", archive), match="missing from the archive")

    def multi_archive_without(self, architecture):
        """One without the manifest of a platform, as `docker save` makes of an image that is here for one only."""
        archive, index = self.multi_archive()
        gone = next(e["digest"] for e in json.loads(index)["manifests"] if e["platform"]["architecture"] == architecture)
        out = self.work / "partial.tar"
        with tarfile.open(archive) as src, tarfile.open(out, "w") as dst:
            for member in src:
                if gone[7:] not in member.name:
                    dst.addfile(member, src.extractfile(member) if member.isfile() else None)
        return out, index

    def test_other_platform_alone(self):
        archive = self.image_file("otherarch")
        before = self.store()
        result = self.assert_one_line(self.home.run("load", "-i", archive), match="s390x.*this host is linux/amd64")
        self.assertIn("--platform linux/s390x", result.err.decode())
        self.assertEqual(self.store(), before)
        self.home.ok("load", "--platform", "linux/s390x", "-i", archive)
        self.assertIn(("otherarch", "latest"), self.rows())


class Failures(ArchiveTest):
    def test_a_damaged_store_makes_no_archive(self):
        self.home.load(self.image_file("layers"))
        before = self.save("layers")
        whole = before.read_bytes()
        layer = max((self.home.path / "images/blobs/sha256").iterdir(), key=lambda p: p.stat().st_size)
        content = layer.read_bytes()
        layer.chmod(0o600)
        layer.write_bytes(content[:1000] + b"?" + content[1001:])
        try:
            result = self.assert_one_line(self.home.run("save", "-o", before, "layers"), match="damaged")
            self.assertIn("image-check", result.err.decode())
            self.assertEqual(before.read_bytes(), whole)
            with open(self.work / "half.tar", "wb") as out:
                p = self.home.popen("save", "layers", stdout=out)
                self.assertNotEqual(p.wait(60), 0)
                p.stderr.close()
            self.home.ok("rmi", "layers")
            self.assert_one_line(self.home.run("load", "-i", self.work / "half.tar"))
        finally:
            if layer.exists():
                layer.write_bytes(content)

    def test_nobody_reads(self):
        self.home.load(self.image_file("box"))
        r, w = os.pipe()
        os.close(r)
        try:
            p = self.home.popen("save", "box", stdout=w)
            _, err = p.communicate(timeout=60)
        finally:
            os.close(w)
        self.assertNotEqual(p.returncode, 0)
        self.assertRegex(err.decode(), r"\Aa3s-box: [^\n]*Broken pipe\n\Z")

    def test_names_that_are_not_here(self):
        self.home.load(self.image_file("box"))
        out = self.work / "out.tar"
        self.assert_one_line(self.home.run("save", "-o", out, "box", "nosuch"), match="nosuch")
        self.assertFalse(out.exists())


class Import(ArchiveTest):
    def root(self):
        """A root file system as a tar: that of the image box."""
        return images.box_layer()

    @core
    def test_run_what_was_imported(self):
        tar = self.work / "root.tar"
        tar.write_bytes(self.root())
        self.home.ok("import", "-c", 'CMD ["sh", "-c", "echo $WHO"]', "--change", "ENV WHO=imported PATH=/bin",
                     "-m", "made by hand", tar, "made:1")
        self.assert_out(self.home.run("run", "--rm", "made:1"), b"imported\n")
        a = Archive(self.save("made:1"))
        manifest = json.loads(a.document())
        (layer,) = manifest["layers"]
        self.assertEqual(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip")
        self.assertEqual(gzip.decompress(a.blob(layer["digest"])), tar.read_bytes())
        config = json.loads(a.blob(manifest["config"]["digest"]))
        self.assertEqual(config["rootfs"]["diff_ids"], [digest_of(tar.read_bytes())])
        self.assertEqual(config["history"][0]["comment"], "made by hand")

    def test_forms(self):
        data = self.root()
        packed = {"plain": data, "gzip": gzip.compress(data, 1)}
        if shutil.which("zstd"):
            packed["zstd"] = subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout
        for name, content in packed.items():
            with self.subTest(name):
                told = self.home.ok("import", "-", "forms:" + name, input=content).text.strip()
                self.assertRegex(told, r"\Asha256:[0-9a-f]{64}\Z")
                a = Archive(self.save("forms:" + name))
                blob = a.blob(json.loads(a.document())["layers"][0]["digest"])
                self.assertEqual(blob == content, name != "plain")
        # as others read it
        for name in packed:
            images.tool("skopeo", "copy", "docker-archive:%s" % self.save("forms:" + name), "dir:%s" % (self.work / name))

    def test_refusals(self):
        bad = io.BytesIO()
        with tarfile.open(fileobj=bad, mode="w") as t:
            t.addfile(tarfile.TarInfo("x"))
        good, before = bad.getvalue(), self.store()
        for args, data, match in (((), b"", "empty"), ((), b"no tar", "tar"), ((), good[:300], "tar|cut off|trunc"),
                                  (("-c", "RUN x"), good, "RUN"), (("-c", "ENV x"), good, "ENV"),
                                  (("--platform", "a/b/c/d"), good, "platform")):
            with self.subTest(args=args, data=data[:10]):
                self.assert_one_line(self.home.run("import", *args, "-", "bad:1", input=data), match=match)
                self.assertEqual(self.store(), before)
        self.assert_one_line(self.home.run("import", "-", "BAD", input=good), match="BAD|name")
        self.assertEqual(self.store(), before)
