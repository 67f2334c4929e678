"""Pushing, beyond the round trips of test_registry: what is sent and what is not, which of several platforms, broken
connections, passwords, a store that is damaged, and what cannot be pushed at all."""

import concurrent.futures
import contextlib
import json
import os
import re
import select
import socket
import threading

import images
import registries
from a3s import core, slow
from test_registry import INDEX_TYPE, RegistryTest, multi_platform, write_layout

SCRIPT = images.busybox_image


class Wire:
    """Stands between client and registry: counts the bytes that the client sends, and breaks connections."""

    def __init__(self, host, port):
        self.far = (host, port)
        self.sent = 0
        self.cuts = []  # each ends one connection after so many bytes
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.host = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self.relay, args=(near,))
            self.threads.append(thread)
            thread.start()

    def counted(self, n, mine):
        """Whether the connection, which has sent mine bytes, goes on."""
        with self.lock:
            self.sent += n
            if self.cuts and mine > self.cuts[0]:
                self.cuts.pop(0)
                return False
        return True

    def relay(self, near):
        mine = 0
        with near, contextlib.suppress(OSError), socket.create_connection(self.far, 10) as far:
            ends = {near: far, far: near}
            while True:
                for ready in select.select(list(ends), [], [], 60)[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    if ready is near:
                        mine += len(data)
                        if not self.counted(len(data), mine):
                            return
                    ends[ready].sendall(data)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join()


def random_image(*sizes):
    """(descriptor, blobs) of an image with layers of so many random bytes."""
    layers = []
    for n, size in enumerate(sizes):
        tree = SCRIPT.Tree()
        tree.file("random-%d" % n, os.urandom(size))
        layers.append(tree.bytes())
    return SCRIPT.image_blobs(layers, images.BOX_CONFIG)


class PushTest(RegistryTest):
    def load_image(self, name, manifest, blobs):
        path = self.home.tmp / "image.tar"
        SCRIPT.write_archive(path, name, manifest, blobs)
        self.home.load(path)
        path.unlink()

    def requests(self, registry=None):
        """(method, path, status) of all that the registry was asked since forget()."""
        return [(m[1], m[2], int(m[3])) for m in re.finditer(
            r'"(GET|HEAD|POST|PATCH|PUT) (\S+) HTTP/1\.1" ([0-9]+)', (registry or self.registry).told())]

    def uploads(self, registry=None):
        """Requests that brought content: whatever was done at upload addresses but begin and mount."""
        return [rq for rq in self.requests(registry) if rq[0] in ("PATCH", "PUT") and "/blobs/uploads/" in rq[1]]

    def digest(self, rest, **options):
        return SCRIPT.sha256(self.registry.raw(rest, **options))

    def assert_absent(self, rest):
        with self.assertRaises(AssertionError):
            self.registry.raw(rest)


class What(PushTest):
    """What is sent, and under which name."""

    contents = (("box:1", "box"), ("docker:1", "box", "-f", "v2s2"), ("layers:1", "layers"))

    @classmethod
    def prepare(cls):
        super().prepare()
        cls.layout = cls.home.base / "multi"
        write_layout(cls.layout, "1", *multi_platform())
        cls.fill("multi:1", "oci:%s:1" % cls.layout, "--all")

    @core
    def test_its_own_name_and_the_digest(self):
        """What push says is what the registry serves, and a pull by that brings it back."""
        self.home.load(self.image_file("box"))
        self.home.ok("tag", "box", self.name("own:1"))
        said = self.home.ok("push", self.name("own:1"))
        digest = self.digest("own:1")
        self.assertIn(digest, said.text + said.err.decode())
        self.assertEqual(self.home.ok("push", "-q", self.name("own:1")).text.split()[-1:], [digest], said)
        self.home.ok("rmi", "-f", self.name("own:1"))
        self.home.ok("pull", self.name("own@" + digest))
        self.assert_runs(self.name("own@" + digest))

    def test_loaded_from_each_archive(self):
        """An image that never was in a registry has the manifest that it came with, or one of ours; others read both."""
        for transport in ("oci", "docker"):
            with self.subTest(transport):
                self.home.load(self.image_file("box", transport))
                target = "loaded/%s:1" % transport
                self.home.ok("push", "box" + {"oci": "", "docker": ":docker"}[transport], self.name(target))
                folder = self.home.tmp / transport
                self.registry.skopeo("copy", "docker://" + self.name(target), "dir:%s" % folder)
                images.tool("rm", "-r", folder)

    @core
    def test_nothing_twice(self):
        """What is there is asked for with HEAD, and not sent."""
        self.home.ok("pull", self.name("layers:1"))
        self.home.ok("push", self.name("layers:1"), self.name("twice:1"))
        self.registry.forget()
        told = self.home.ok("push", self.name("layers:1"), self.name("twice:2"))
        self.assertEqual(self.uploads(), [])
        self.assertEqual([rq for rq in self.requests() if rq[0] == "POST"], [])
        self.assertIn("already exists", told.err.decode().lower())
        self.assert_same_served("twice:1", "twice:2")

    @core
    def test_mounted_from_another_repository(self):
        """The registry has the layers in the repository that the image was pulled from: nothing is sent."""
        self.home.ok("pull", self.name("layers:1"))
        self.registry.forget()
        told = self.home.ok("push", self.name("layers:1"), self.name("mounted/here:1"))
        self.assertEqual(self.uploads(), [])
        mounts = [rq for rq in self.requests() if rq[0] == "POST" and "mount=" in rq[1]]
        self.assertTrue(mounts and all("from=layers" in path and status == 201 for _, path, status in mounts), mounts)
        self.assertIn("mounted from layers", told.err.decode().lower())
        self.assert_same_served("layers:1", "mounted/here:1")

    def test_mounted_from_the_base_image(self):
        """A new image shares a layer with one that was pulled: only what is new is sent."""
        self.home.ok("pull", self.name("box:1"))
        tree = SCRIPT.Tree()
        tree.file("new", os.urandom(5000))
        self.load_image("derived:1", *SCRIPT.image_blobs([images.box_layer(), tree.bytes()], images.BOX_CONFIG))
        self.registry.forget()
        self.home.ok("push", "derived:1", self.name("derived:1"))
        mounted = [rq for rq in self.requests() if "mount=" in rq[1] and rq[2] == 201]
        self.assertEqual(len(mounted), 1, self.requests())
        manifest = json.loads(self.registry.raw("derived:1"))
        self.assertIn(manifest["layers"][0]["digest"].replace(":", "%3A"), mounted[0][1].replace("sha256:", "sha256%3A"))

    @core
    def test_platforms(self):
        self.home.ok("pull", "--all-platforms", self.name("multi:1"))
        index = json.loads(self.registry.raw("multi:1"))
        for entry in index["manifests"][:2]:
            architecture = entry["platform"]["architecture"]
            with self.subTest(architecture):
                target = "one/%s:1" % architecture
                self.home.ok("push", "--platform", "linux/" + architecture, self.name("multi:1"), self.name(target))
                self.assertEqual(self.digest(target), entry["digest"])
        self.assert_one_line(self.home.run("push", "--platform", "linux/riscv64", self.name("multi:1"),
                                           self.name("one/none:1")), 1, "riscv64.*amd64|amd64.*riscv64")
        self.assert_absent("one/none:1")
        # That it was pushed in part has taken nothing away.
        self.home.ok("push", self.name("multi:1"), self.name("all/multi:1"))
        self.assert_same_served("multi:1", "all/multi:1")

    def test_platform_that_is_not_here(self):
        self.home.ok("pull", self.name("multi:1"))
        told = self.home.ok("push", self.name("multi:1"), self.name("here/one:1")).err.decode()
        self.assertRegex(told, "(?m)^[0-9a-f]{12}: Pushing one platform: the others are not here$")
        self.home.ok("push", "--platform", "linux/amd64", self.name("multi:1"), self.name("here/amd64:1"))
        self.assert_same_served("here/one:1", "here/amd64:1")
        self.assert_one_line(self.home.run("push", "--platform", "linux/s390x", self.name("multi:1"),
                                           self.name("here/s390x:1")), 1, "s390x")
        self.assert_absent("here/s390x:1")

    def test_as_skopeo_copies_all(self):
        self.registry.skopeo("copy", "--all", "oci:%s:1" % self.layout, "docker://" + self.name("theirs:1"))
        self.home.ok("pull", "--all-platforms", self.name("multi:1"))
        self.home.ok("push", self.name("multi:1"), self.name("ours:1"))
        self.assert_same_served("theirs:1", "ours:1")

    def test_index_in_an_index(self):
        inner, blobs = multi_platform()
        index = json.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [
            dict(inner, annotations={"nested": "yes"})]}, indent=1).encode()
        blobs[SCRIPT.sha256(index)] = index
        self.load_image("nested:1", SCRIPT.descriptor("index.v1+json", index), blobs)
        self.home.ok("push", "nested:1", self.name("nested:1"))
        self.assertEqual(self.registry.raw("nested:1"), index)
        self.assertEqual(self.registry.raw("nested@" + inner["digest"]), blobs[inner["digest"]])
        for entry in json.loads(blobs[inner["digest"]])["manifests"]:
            self.assertEqual(self.registry.raw("nested@" + entry["digest"]), blobs[entry["digest"]])

    def test_several_at_once(self):
        """Of the same image to one repository, under names of their own."""
        self.home.ok("pull", self.name("layers:1"))
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: self.home.ok("push", self.name("layers:1"), self.name("parallel:%d" % n)), range(4)))
        for n in range(4):
            self.assert_same_served("layers:1", "parallel:%d" % n)

    def test_event_and_repo_digest(self):
        self.home.load(self.image_file("box"))
        self.home.ok("tag", "box", self.name("noted:1"))
        self.home.ok("push", self.name("noted:1"))
        events = self.home.ok("events", "--since", "5m", "--until", "0s", "--filter", "event=push").text
        self.assertIn(self.name("noted:1"), events)
        (image,) = json.loads(self.home.ok("image-inspect", self.name("noted:1")).out)
        self.assertIn(self.name("noted@" + self.digest("noted:1")), image["RepoDigests"])


class Refused(PushTest):
    contents = (("box:1", "box"),)

    @core
    def test_one_line(self):
        self.home.load(self.image_file("box"))
        image = self.home.ok("images", "-q").text.strip()
        digest = "sha256:" + "0" * 64
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            closed = "127.0.0.1:%d" % s.getsockname()[1]
        for argv, match in (
                (["nosuch", self.name("x:1")], "no such image.*nosuch"),
                ([image], "where to.*name the target"),
                (["box", self.name("x@" + digest)], "digest"),
                (["box", self.name("X:1")], "X|reference|name|upper|lower"),
                (["box", closed + "/x:1"], closed),
                (["--platform", "linux/s390x", "box", self.name("x:1")], "s390x"),
                (["--platform", "/", "box", self.name("x:1")], "platform")):
            with self.subTest(argv):
                self.assert_one_line(self.home.run("push", *argv), match=match)
        self.assert_absent("x:1")

    def test_pulled_by_digest(self):
        name = self.name("box@" + self.digest("box:1"))
        self.home.ok("pull", name)
        self.assert_one_line(self.home.run("push", name), match="digest")
        self.home.ok("push", name, self.name("from/digest:1"))
        self.assert_same_served("box:1", "from/digest:1")

    @core
    def test_damaged_store(self):
        """What is not what its digest says is not sent to anybody."""
        descriptor, blobs = random_image(50000)
        manifest = json.loads(blobs[descriptor["digest"]])
        for what in (manifest["layers"][0]["digest"], manifest["config"]["digest"], descriptor["digest"]):
            for how in ("changed", "cut", "gone"):
                with self.subTest(what=what, how=how):
                    self.load_image("damaged:1", descriptor, blobs)
                    path = self.home.path / "images/blobs/sha256" / what[7:]
                    data = path.read_bytes()
                    path.unlink()
                    if how != "gone":
                        path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:] if how == "changed" else data[:-1])
                    self.assert_one_line(self.home.run("push", "damaged:1", self.name("damaged:1")), 1,
                                         "%s.*%s.*image-check" % (what[:19], "missing" if how == "gone" else "damaged"))
                    self.assert_absent("damaged:1")
                    path.unlink(missing_ok=True)
                    path.write_bytes(data)
                    self.home.ok("rmi", "-f", "damaged:1")


class Broken(PushTest):
    """Connections that break, and registries that go away."""

    def setUp(self):
        super().setUp()
        self.wire = Wire("127.0.0.1", self.registry.port)

    def tearDown(self):
        self.wire.close()
        super().tearDown()

    @core
    @slow(240)
    def test_goes_on_where_it_stopped(self):
        descriptor, blobs = random_image(40 << 20, 3 << 20, 1 << 20)
        total = sum(map(len, blobs.values()))
        self.load_image("large:1", descriptor, blobs)
        self.wire.cuts = [1 << 20, 22 << 20, 10 << 20]
        self.home.ok("push", "large:1", self.wire.host + "/large:1", timeout=200)
        self.assertEqual(self.wire.cuts, [], "nothing was cut")
        self.assertEqual(self.registry.raw("large:1"), blobs[descriptor["digest"]])
        # A chunk that broke off may come again, the whole may not.
        self.assertLess(self.wire.sent, total * 2)
        layout = self.home.tmp / "large"
        self.registry.skopeo("copy", "docker://" + self.name("large:1"), "oci:%s:1" % layout)
        images.tool("rm", "-r", layout)

    @slow(240)
    def test_always_broken(self):
        """It ends, in one line, and the tag is not there."""
        self.load_image("broken:1", *random_image(3 << 20))
        self.wire.cuts = [1 << 20] * 1000
        self.assert_one_line(self.home.run("push", "broken:1", self.wire.host + "/broken:1", timeout=200), 1, "broken")
        self.assert_absent("broken:1")
        self.wire.cuts = []
        self.home.ok("push", "broken:1", self.wire.host + "/broken:1")


class Passwords(PushTest):
    @classmethod
    def prepare(cls):
        cls.tokens = registries.TokenServer(cls.home.base / "tokens")
        cls.guarded = registries.DockerRegistry(cls.home.base / "guarded", token=cls.tokens)
        cls.registry = registries.DockerRegistry(cls.home.base / "registry", htpasswd=True)

    @classmethod
    def tearDownClass(cls):
        for name in ("guarded", "tokens"):
            if hasattr(cls, name):
                getattr(cls, name).close()
        super().tearDownClass()

    def log_in(self, registry):
        self.home.ok("login", "-u", registries.USER, "--password-stdin", registry.host, input=registries.PASSWORD.encode())
        self.addCleanup(self.home.ok, "logout", registry.host)

    def setUp(self):
        super().setUp()
        self.home.load(self.image_file("layers"))

    @core
    def test_htpasswd(self):
        self.assert_one_line(self.home.run("push", "layers", self.name("x:1")), 1, "a3s-box login " + self.registry.host)
        self.log_in(self.registry)
        self.home.ok("push", "layers", self.name("x:1"))
        creds = registries.USER + ":" + registries.PASSWORD
        self.registry.raw("x:1", creds=creds)

    @core
    def test_token(self):
        """A token for pulling and pushing; mounting asks for one that can read the other repository, too."""
        self.assert_one_line(self.home.run("push", "layers", self.guarded.name("team/x:1")), 1, "login")
        self.log_in(self.guarded)
        self.home.ok("push", "layers", self.guarded.name("team/x:1"))
        self.assert_one_line(self.home.run("push", "layers", self.guarded.name("others/x:1")), 1, "others/x|denied|login")
        self.home.ok("pull", self.guarded.name("team/x:1"))
        self.guarded.forget()
        self.home.ok("push", self.guarded.name("team/x:1"), self.guarded.name("team/y:1"))
        self.assertEqual(self.uploads(self.guarded), [])
        self.assertIn("repository:team/x:pull", [scope for _, _, scopes in self.tokens.asked for scope in scopes])

    def test_tokens_that_end_soon(self):
        """The server says one second: it is asked again, and nobody notices."""
        self.log_in(self.guarded)
        self.addCleanup(setattr, self.tokens, "expires_in", self.tokens.expires_in)
        self.tokens.expires_in = 1
        self.load_image("slow:1", *random_image(*[200000] * 5))
        self.home.ok("push", "slow:1", self.guarded.name("team/slow:1"))
