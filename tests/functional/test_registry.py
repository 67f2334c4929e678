"""Docker's registry, open and on the loopback address: pulling, and round trips with skopeo, umoci, buildah and podman."""

import json
import os
import re
import socket
import subprocess
import unittest

import images
import registries
import trees
from a3s import core, slow
from test_images import ImageTest

SCRIPT = images.busybox_image
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


def write_layout(folder, tag, descriptor, blobs):
    """An OCI image layout."""
    (folder / "blobs/sha256").mkdir(parents=True)
    (folder / "oci-layout").write_bytes(SCRIPT.dump({"imageLayoutVersion": "1.0.0"}))
    entry = dict(descriptor, annotations={"org.opencontainers.image.ref.name": tag})
    (folder / "index.json").write_bytes(SCRIPT.dump({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry]}))
    for digest, data in blobs.items():
        (folder / "blobs/sha256" / digest[7:]).write_bytes(data)


def multi_platform():
    """(descriptor, blobs) of an index: two platforms that share a layer, and an attestation, as BuildKit makes them."""
    shared, entries, blobs = SCRIPT.Tree(), [], {}
    shared.file("shared", os.urandom(50000))
    shared = shared.bytes()
    for architecture, first in (("s390x", SCRIPT.Tree()), ("amd64", None)):
        if first:
            first.file("architecture", architecture)
        layer = first.bytes() if first else images.box_layer()
        manifest, more = SCRIPT.image_blobs([layer, shared], images.BOX_CONFIG, architecture)
        blobs.update(more)
        entries.append(dict(manifest, platform={"os": "linux", "architecture": architecture}))
    statement = SCRIPT.dump({"_type": "https://in-toto.io/Statement/v0.1", "subject": [], "predicate": {}})
    config = SCRIPT.dump({"architecture": "unknown", "os": "unknown", "config": {},
                          "rootfs": {"type": "layers", "diff_ids": [SCRIPT.sha256(statement)]}})
    attestation = SCRIPT.dump({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": SCRIPT.descriptor("config.v1+json", config),
        "layers": [{"mediaType": "application/vnd.in-toto+json", "digest": SCRIPT.sha256(statement),
                    "size": len(statement)}]})
    for data in (statement, config, attestation):
        blobs[SCRIPT.sha256(data)] = data
    entries.append(dict(SCRIPT.descriptor("manifest.v1+json", attestation), platform={
        "os": "unknown", "architecture": "unknown"}, annotations={
        "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": entries[1]["digest"]}))
    # Spaces that nobody else would write: whoever parses it and writes it again is found out.
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}, indent=3).encode()
    blobs[SCRIPT.sha256(index)] = index
    return SCRIPT.descriptor("index.v1+json", index), blobs


def zstd_layers(layers):
    """(descriptor, blobs) of an image whose layers are compressed with zstd, and the last one not at all."""
    blobs, packed = {}, []
    for n, layer in enumerate(layers):
        kind, data = "layer.v1.tar", layer
        if n < len(layers) - 1:
            kind = "layer.v1.tar+zstd"
            data = subprocess.run(["zstd", "-q", "-c"], input=layer, stdout=subprocess.PIPE, check=True).stdout
        packed.append(SCRIPT.descriptor(kind, data))
        blobs[SCRIPT.sha256(data)] = data
    config = SCRIPT.dump({"architecture": "amd64", "os": "linux", "config": images.BOX_CONFIG,
                          "rootfs": {"type": "layers", "diff_ids": [SCRIPT.sha256(x) for x in layers]}})
    manifest = SCRIPT.dump({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                            "config": SCRIPT.descriptor("config.v1+json", config), "layers": packed})
    for data in (config, manifest):
        blobs[SCRIPT.sha256(data)] = data
    return SCRIPT.descriptor("manifest.v1+json", manifest), blobs


class RegistryTest(ImageTest):
    """A registry, filled by skopeo with contents: (name, source, options) each."""

    contents = ()

    @classmethod
    def prepare(cls):
        registries.need("skopeo")
        cls.registry = registries.DockerRegistry(cls.home.base / "registry")
        for name, source, *options in cls.contents:
            cls.fill(name, source, *options)

    @classmethod
    def fill(cls, name, source, *options):
        if ":" not in source:
            source = "oci-archive:%s" % cls.image_file(source)
        cls.registry.skopeo("copy", *options, source, "docker://" + cls.registry.name(name))

    @classmethod
    def tearDownClass(cls):
        if hasattr(cls, "registry"):
            cls.registry.close()
        super().tearDownClass()

    def name(self, rest):
        return self.registry.name(rest)

    def assert_same_served(self, one, other):
        """The same bytes under both names."""
        a, b = self.registry.raw(one), self.registry.raw(other)
        self.assertEqual(a, b, "%s and %s differ:\n%r\n%r" % (one, other, a[:2000], b[:2000]))
        return a


class Pull(RegistryTest):
    contents = (("box:1", "box"), ("deep/er/box:v2", "box", "-f", "v2s2"), ("layers:1", "layers"),
                ("otherarch:1", "otherarch"))

    @core
    def test_pull_and_run(self):
        self.home.ok("pull", self.name("box:1"))
        self.assertIn((self.name("box"), "1"), self.rows())
        self.assert_runs(self.name("box:1"))

    def test_docker_media_types_and_a_deep_name(self):
        self.assertIn(b"vnd.docker.distribution.manifest.v2", self.registry.raw("deep/er/box:v2"))
        self.home.ok("pull", self.name("deep/er/box:v2"))
        self.assert_runs(self.name("deep/er/box:v2"))

    def test_run_pulls_what_is_missing(self):
        result = self.home.run("run", "--rm", self.name("layers:1"), "cat", "/replaced")
        self.assert_out(result, "new\n")

    def digest(self, rest):
        return SCRIPT.sha256(self.registry.raw(rest))

    def test_by_digest(self):
        name = self.name("box@" + self.digest("box:1"))
        self.home.ok("pull", name)
        self.assert_runs(name)

    def test_by_tag_and_digest(self):
        """As in Docker the digest decides, and a tag that leads elsewhere does not matter."""
        digest = self.digest("layers:1")
        self.home.ok("pull", self.name("layers:1@" + digest))
        self.assert_out(self.home.run("run", "--rm", self.name("layers@" + digest), "cat", "/replaced"), "new\n")
        before = self.store()
        wrong = "sha256:" + "0" * 64
        for name in ("layers:1@" + wrong, "layers@" + wrong):
            self.assert_one_line(self.home.run("pull", self.name(name)), 1, "layers")
            self.assertEqual(self.store(), before)

    def test_twice_changes_nothing(self):
        self.home.ok("pull", self.name("box:1"))
        before = self.store()[1]
        self.home.ok("pull", self.name("box:1"))
        self.assertEqual(self.store()[1], before)

    def test_a_tag_that_moves(self):
        """The old image stays, without a name, until it is removed."""
        self.fill("moving:1", "box")
        self.home.ok("pull", self.name("moving:1"))
        (old,) = self.rows().values()
        self.fill("moving:1", "layers")
        self.home.ok("pull", self.name("moving:1"))
        rows = self.rows()
        self.assertNotEqual(rows[self.name("moving"), "1"], old)
        self.assertEqual(rows.get(("<none>", "<none>"), rows.get((self.name("moving"), "<none>"))), old, rows)
        self.assert_out(self.home.run("run", "--rm", self.name("moving:1"), "cat", "/replaced"), "new\n")

    @core
    def test_refusals(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            closed = s.getsockname()[1]
        before = self.store()
        for name, match in ((self.name("nosuch:1"), "nosuch"), (self.name("box:nosuch"), "nosuch"),
                            ("127.0.0.1:%d/box:1" % closed, "127.0.0.1"),
                            (self.name("otherarch:1"), "s390x|amd64|platform|architecture"),
                            ("UPPER/case", "UPPER|reference|name"), ("box:", "reference|tag|name")):
            with self.subTest(name):
                self.assert_one_line(self.home.run("pull", name), match=match)
                self.assertEqual(self.store(), before)

    def test_all_tags(self):
        for tag in ("a", "b"):
            self.fill("many:" + tag, "box")
        self.fill("many:c", "layers")
        self.home.ok("pull", "-a", self.name("many"))
        rows = self.rows()
        self.assertEqual({tag for name, tag in rows if name == self.name("many")}, {"a", "b", "c"})
        self.assertEqual(rows[self.name("many"), "a"], rows[self.name("many"), "b"])


class RoundTrips(RegistryTest):
    """What others put into the registry comes out of us as it went in, and the reverse."""

    contents = (("box:1", "box"), ("docker:1", "box", "-f", "v2s2"), ("layers:1", "layers"))

    @classmethod
    def prepare(cls):
        super().prepare()
        registries.need("umoci", "zstd")
        layout = cls.home.base / "multi"
        write_layout(layout, "1", *multi_platform())
        cls.fill("multi:1", "oci:%s:1" % layout, "--all")
        lower, upper = SCRIPT.Tree(), SCRIPT.Tree()
        lower.file("lower", b"low" * 100000)
        upper.file("upper", "up\n", mode=0o600, uid=1000, gid=2000)
        layout = cls.home.base / "zstd"
        write_layout(layout, "1", *zstd_layers([images.box_layer(), lower.bytes(), upper.bytes()]))
        cls.fill("zstd:1", "oci:%s:1" % layout)

    def setUp(self):
        super().setUp()
        self.work = self.home.base / "work"
        self.work.mkdir()

    def tearDown(self):
        images.tool("rm", "-rf", self.work)
        super().tearDown()

    def umoci_tree(self, rest):
        """What umoci, which knows no zstd, unpacks of an image in the registry."""
        if os.geteuid() != 0:
            raise unittest.SkipTest("umoci unpacks owners and devices as root only")
        layout = self.work / re.sub("[/:]", "_", rest)
        self.registry.skopeo("copy", "docker://" + self.name(rest), "oci:%s:1" % layout)
        bundle = layout.with_name(layout.name + "-bundle")
        images.tool("umoci", "unpack", "--image", "%s:1" % layout, bundle)
        return trees.scan(bundle / "rootfs")

    def our_disk(self, manifest):
        """The disk that was made of an image with this manifest (bytes)."""
        config = json.loads(manifest)["config"]["digest"]
        blob = self.home.path / "images/blobs/sha256" / config[7:]
        return trees.disk_of(self.home.path, blob.read_bytes())

    def assert_same_tree(self, disk, theirs, what):
        different = trees.differences(trees.scan_disk(disk), theirs)
        self.assertEqual(different, [], "our disk is not what %s makes:\n%s" % (what, "\n".join(different)))

    @core
    def test_what_skopeo_put(self):
        for name in ("box:1", "docker:1", "layers:1", "zstd:1"):
            with self.subTest(name):
                self.home.ok("pull", self.name(name))
                self.home.ok("push", self.name(name), self.name("back/" + name))
                self.assert_same_served(name, "back/" + name)

    def test_the_same_tree_as_umoci(self):
        for name in ("box:1", "docker:1", "layers:1"):
            with self.subTest(name):
                self.home.ok("pull", self.name(name))
                self.assert_same_tree(self.our_disk(self.registry.raw(name)), self.umoci_tree(name), "umoci")

    @core
    def test_all_platforms(self):
        """The index and all that it names, attestations too, byte for byte."""
        self.home.ok("pull", "--all-platforms", self.name("multi:1"))
        self.assert_runs(self.name("multi:1"))
        self.home.ok("push", self.name("multi:1"), self.name("back/multi:2"))
        index = json.loads(self.assert_same_served("multi:1", "back/multi:2"))
        for entry in index["manifests"]:
            manifest = json.loads(self.assert_same_served("multi@" + entry["digest"], "back/multi@" + entry["digest"]))
            for blob in (manifest["config"], *manifest["layers"]):
                self.assert_has_blob("back/multi", blob["digest"])
        layout = self.work / "all"
        self.registry.skopeo("copy", "--all", "docker://" + self.name("back/multi:2"), "oci:%s:1" % layout)

    def assert_has_blob(self, repository, digest):
        status = images.tool("curl", "-s", "-o", self.work / "blob", "-w", "%{http_code}",
                             "http://%s/v2/%s/blobs/%s" % (self.registry.host, repository, digest))
        self.assertEqual(status, "200", digest)
        self.assertEqual(SCRIPT.sha256((self.work / "blob").read_bytes()), digest)

    def test_one_of_several_platforms(self):
        index = json.loads(self.registry.raw("multi:1"))
        ours = next(m["digest"] for m in index["manifests"] if m["platform"]["architecture"] == "amd64")
        self.home.ok("pull", self.name("multi:1"))
        self.assert_runs(self.name("multi:1"))
        # Only the host's is here, so only that one goes out.
        self.home.ok("push", self.name("multi:1"), self.name("back/one:1"))
        self.assertEqual(SCRIPT.sha256(self.registry.raw("back/one:1")), ours)
        self.home.ok("pull", "--platform", "linux/s390x", self.name("multi:1"))
        self.assert_one_line(self.home.run("pull", "--platform", "linux/riscv64", self.name("multi:1")), 1, "riscv64")
        self.assert_one_line(self.home.run("pull", "--platform", "unknown/unknown", self.name("multi:1")), 1, "unknown")

    def test_umoci(self):
        """An image that umoci made goes in by skopeo, through us, and out to umoci again."""
        layout = self.work / "made"
        images.tool("skopeo", "copy", "oci-archive:%s" % self.image_file("layers"), "oci:%s:1" % layout)
        bundle = self.work / "made-bundle"
        images.tool("umoci", "unpack", "--image", "%s:1" % layout, bundle)
        root = bundle / "rootfs"
        (root / "new folder").mkdir()
        (root / "new folder/file").write_bytes(os.urandom(70000))
        os.chown(root / "new folder/file", 123, 456)
        os.link(root / "new folder/file", root / "new folder/again")
        (root / "replaced").unlink()
        images.tool("umoci", "repack", "--image", "%s:2" % layout, bundle)
        self.registry.skopeo("copy", "oci:%s:2" % layout, "docker://" + self.name("umoci:2"))
        self.home.ok("pull", self.name("umoci:2"))
        self.home.ok("push", self.name("umoci:2"), self.name("back/umoci:2"))
        manifest = self.assert_same_served("umoci:2", "back/umoci:2")
        self.assert_same_tree(self.our_disk(manifest), self.umoci_tree("back/umoci:2"), "umoci")

    def program(self, name):
        """buildah or podman, with a storage of its own."""
        if os.geteuid() != 0:
            raise unittest.SkipTest("%s needs mapped users, or root" % name)
        registries.need(name)
        config = self.work / "containers.conf"
        config.write_text('[engine]\nlock_type = "file"\nevents_logger = "none"\n')
        env = dict(os.environ, HOME=str(self.work), TMPDIR=str(self.work), XDG_RUNTIME_DIR=str(self.work),
                   CONTAINERS_CONF=str(config))
        argv = [name, "--root", self.work / "store", "--runroot", self.work / "run", "--storage-driver", "vfs"]
        if name == "podman":
            argv += ["--tmpdir", self.work / "tmp", "--cgroup-manager", "cgroupfs"]

        def call(*args):
            out = images.tool(*argv, *args, env=env)
            return out.splitlines()[-1] if out else ""

        return call

    def test_buildah(self):
        buildah = self.program("buildah")
        container = buildah("from", "--tls-verify=false", "docker://" + self.name("layers:1"))
        buildah("config", "--env", "BUILT_BY=buildah", container)
        mounted = buildah("mount", container)
        with open(os.path.join(mounted, "from-buildah"), "wb") as f:
            f.write(b"built\n" * 1000)
        buildah("umount", container)
        for form in ("oci", "docker"):
            with self.subTest(form):
                name = "buildah-%s:1" % form
                buildah("commit", "--format", form, container, "localhost/made:" + form)
                buildah("push", "--tls-verify=false", "localhost/made:" + form, "docker://" + self.name(name))
                self.home.ok("pull", self.name(name))
                self.assert_runs(self.name(name), "sh", "-c", "echo $BUILT_BY", expect=b"buildah\n")
                self.home.ok("push", self.name(name), self.name("back/" + name))
                manifest = self.assert_same_served(name, "back/" + name)
                self.assert_same_tree(self.our_disk(manifest), self.umoci_tree(name), "umoci")
                again = buildah("from", "--tls-verify=false", "--pull-always", "docker://" + self.name("back/" + name))
                self.assert_same_contents(manifest, buildah("mount", again))
                buildah("rm", again)

    def assert_same_contents(self, manifest, mounted):
        """Of what we pushed, in somebody else's storage. Times of folders are not everybody's concern."""
        ours, theirs = trees.scan_disk(self.our_disk(manifest)), trees.scan(mounted)
        for tree in (ours, theirs):
            tree.pop(".")
            for what in tree.values():
                if "size" not in what:
                    what.pop("mtime")
        self.assertEqual(trees.differences(ours, theirs), [])

    @slow(300)
    def test_podman(self):
        podman = self.program("podman")
        for name in ("box:1", "docker:1", "zstd:1", "multi:1"):
            with self.subTest(name):
                self.home.ok("pull", self.name(name))
                self.home.ok("push", self.name(name), self.name("ours/" + name))
                podman("pull", "-q", "--tls-verify=false", self.name("ours/" + name))
                raw = self.registry.raw("ours/" + name)
                told = podman("image", "inspect", "--format", "{{.Digest}}", self.name("ours/" + name))
                self.assertEqual(told, SCRIPT.sha256(raw))
                self.assert_same_contents(raw, podman("image", "mount", self.name("ours/" + name)))
                podman("image", "unmount", "--force", self.name("ours/" + name))
                podman("push", "-q", "--tls-verify=false", self.name("ours/" + name), self.name("podman/" + name))
                self.home.ok("pull", self.name("podman/" + name))
                self.assert_runs(self.name("podman/" + name))
                self.home.ok("push", self.name("podman/" + name), self.name("back/podman/" + name))
                self.assert_same_served("podman/" + name, "back/podman/" + name)
                podman("rmi", "-f", self.name("ours/" + name))
