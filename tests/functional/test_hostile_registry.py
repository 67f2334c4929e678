"""Registries that do what they should not: each ends in one line, in bounded time and memory, with the store as before.

What takes a limit of the client to end (stalls, drips) takes as long as that limit, and is marked slow.
"""

import base64
import gzip
import itertools
import json
import os
import shutil
import socket
import ssl
import struct
import sys
import time
import zlib

import images
import registries
import registry_fake
from a3s import SLOW, core, slow
from registry_fake import MANIFEST_TYPE
from test_images import ImageTest

SCRIPT = images.busybox_image
MEMORY_MIB = 256  # what no registry can make a command take
USUAL_S = 30  # more than this takes a reason: pauses between tries are seconds
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
ZEROS = b"\0" * (1 << 20)

# Says what a program took, which no longer can be asked once it has ended. The program is forked here, because a process
# inherits the peak of the one that forked it.
MEASURE = """
import os, sys
pid = os.fork()
if not pid:
    os.execv(sys.argv[2], sys.argv[2:])
_, status, usage = os.wait4(pid, 0)
with open(sys.argv[1], "w") as f:
    f.write("%d" % usage.ru_maxrss)
code = os.waitstatus_to_exitcode(status)
sys.exit(code if code >= 0 else 128 - code)
"""


class HostileTest(ImageTest):
    def setUp(self):
        super().setUp()
        tree = SCRIPT.Tree()
        tree.file("f", os.urandom(100000))
        self.image = SCRIPT.image_blobs([tree.bytes()])
        self.registry = registry_fake.Registry(*self.image)
        self.other = registry_fake.Registry(*self.image)

    def tearDown(self):
        self.registry.close()
        self.other.close()
        shutil.rmtree(self.home.user_home / ".docker", ignore_errors=True)
        self.forget_downloads()
        super().tearDown()

    def forget_downloads(self):
        """What was kept of a download would be all of it once, and the next attempt succeed."""
        for path in (self.home.path / "images/partial").glob("*"):
            path.unlink()

    def store(self):
        """What is stored, but for downloads that may go on."""
        listing, files = super().store()
        return listing, {name: size for name, size in files.items() if not name.startswith("images/partial/")}

    def measured(self, *args, **options):
        """run(), and the peak of memory in MiB."""
        told = self.home.tmp / "peak"
        result = self.home.run(*args, wrap=(sys.executable, "-S", "-E", "-c", MEASURE, told), **options)
        peak_mib = int(told.read_text()) / 1024
        told.unlink()
        self.home.transcript.append("peak %.0f MiB" % peak_mib)
        return result, peak_mib

    def refuse(self, match, hook=None, args=(), seconds=USUAL_S, name=None, **options):
        """A pull that ends well for all but the registry."""
        self.forget_downloads()
        before = self.store()
        self.registry.hook = hook
        result, peak_mib = self.measured("pull", *args, name or self.registry.name, timeout=seconds + 60, **options)
        self.assert_one_line(result, 1, match)
        # One line also of what somebody else wrote: no control characters, no novel.
        self.assertRegex(result.err.splitlines()[-1], rb"\A[^\x00-\x1f\x7f]{10,2000}\Z", result)
        self.assertLess(result.seconds, seconds * SLOW, result)
        if "A3S_TEST_REPORTS" not in os.environ:  # a sanitizer's own memory is nobody's concern
            self.assertLess(peak_mib, MEMORY_MIB, result)
        self.assertEqual(self.store(), before)
        self.home.ok("image-check")
        return result

    def log_in(self):
        """Credentials for the registry; the header that carries them."""
        folder = self.home.user_home / ".docker"
        folder.mkdir()
        auth = base64.b64encode(b"user:password").decode()
        (folder / "config.json").write_text(json.dumps({"auths": {self.registry.host: {"auth": auth}}}))
        for path in (folder, folder / "config.json"):
            path.chmod(0o755)
        return "Basic " + auth

    @staticmethod
    def for_path(part, action):
        """A hook that acts on requests for what has part in its path."""

        def hook(request):
            if part not in request.path:
                return False
            action(request)
            return True

        return hook

    def for_layer(self, action):
        return self.for_path(self.registry.layers[0], action)

    def serve(self, layers, media_type="layer.v1.tar+gzip", config=None, tag="bad", sizes=None):
        """An image of layers that are packed already: (packed, diff ID) each. Returns its name. sizes: what the manifest
        says instead."""
        blobs, described = {}, []
        for n, (packed, _) in enumerate(layers):
            blobs[SCRIPT.sha256(packed)] = packed
            described.append(SCRIPT.descriptor(media_type, packed))
            if sizes:
                described[-1]["size"] = sizes[n]
        conf = SCRIPT.dump(config or {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]},
                                      "rootfs": {"type": "layers", "diff_ids": [diff for _, diff in layers]}})
        manifest = SCRIPT.dump({"schemaVersion": 2, "mediaType": MANIFEST_TYPE,
                                "config": SCRIPT.descriptor("config.v1+json", conf), "layers": described})
        blobs[SCRIPT.sha256(conf)] = conf
        blobs[SCRIPT.sha256(manifest)] = manifest
        self.registry.add(tag, SCRIPT.descriptor("manifest.v1+json", manifest), blobs)
        return "%s/x:%s" % (self.registry.host, tag)


class Content(HostileTest):
    """What is served is not what was promised."""

    @core
    def test_honest(self):
        self.home.ok("pull", self.registry.name)
        self.assertIn((self.registry.host + "/x", "1"), self.rows())

    @core
    def test_wrong_content(self):
        for what in (self.registry.config, self.registry.layers[0]):
            good = self.registry.blobs[what]
            for bad in (good[:-9] + bytes([good[-9] ^ 1]) + good[-8:], good[:-1], good + b"x", b""):
                with self.subTest(what=what, length=len(bad) - len(good)):
                    self.refuse("sha256:" + what[7:15], self.for_path(what, lambda rq, bad=bad: rq.answer(200, bad)))
                    self.assertEqual([p.stat().st_size for p in (self.home.path / "images/partial").glob("*")
                                      if len(bad) >= len(good)], [], "what is wrong is not kept")

    def test_manifest_of_another_digest(self):
        manifest = self.registry.manifest
        self.refuse("digest", self.for_path("/manifests/", lambda rq: rq.answer(
            200, manifest + b" ", Content_Type=MANIFEST_TYPE, Docker_Content_Digest=registry_fake.digest(manifest))))

    def test_lengths_that_are_not_true(self):
        """Announced: more, less, nothing, nonsense."""
        data = self.registry.blobs[self.registry.layers[0]]
        for length in (len(data) + 1000, len(data) - 1000, 0, 1 << 62, -1, "x", "1, 2"):
            with self.subTest(length):
                self.refuse("sha256:" + self.registry.layers[0][7:15], self.for_layer(
                    lambda rq, length=length: rq.answer(200, data, length)))

    @core
    def test_a_body_without_end(self):
        """Said to be longer, and not said at all: ended where the manifest says."""
        def announced(request):
            request.head(200, 1 << 40)
            for _ in range(1 << 20):
                request.wfile.write(ZEROS)

        def chunked(request):
            request.head(200, None, Transfer_Encoding="chunked")
            request.chunks(itertools.repeat(ZEROS))

        def closing(request):
            request.send_response(200)
            request.send_header("Connection", "close")
            request.end_headers()
            for _ in range(1 << 20):
                request.wfile.write(ZEROS)

        for action in (announced, chunked, closing):
            for path in ("/manifests/", self.registry.config, self.registry.layers[0]):
                with self.subTest(action.__name__, path=path):
                    self.refuse("longer than", self.for_path(path, action))

    @core
    def test_a_body_that_always_breaks_off(self):
        """At the same place, so that nothing is won by going on."""
        data = self.registry.blobs[self.registry.layers[0]]

        def action(request):
            start = int((request.headers.get("Range") or "bytes=0-")[6:-1])
            more = {"Content_Range": "bytes %d-%d/%d" % (start, len(data) - 1, len(data))} if start else {}
            request.answer(206 if start else 200, data[start:50000], len(data) - start, **more)

        for path_action in (action, lambda rq: rq.answer(200, data[:50000], len(data))):
            self.refuse("127.0.0.1|sha256", self.for_layer(path_action), seconds=60)
        for part in (0, 1, 100):
            with self.subTest(part=part):
                manifest = self.registry.manifest
                self.refuse("127.0.0.1", self.for_path("/manifests/", lambda rq, part=part: rq.answer(
                    200, manifest[:part], len(manifest), Content_Type=MANIFEST_TYPE)), seconds=60)

    def test_bodies_that_are_compressed_once_more(self):
        """A coding that nobody asked for: content is compared as it is stored."""
        data = self.registry.blobs[self.registry.layers[0]]
        self.refuse("longer than|coding that was not asked for", self.for_layer(
            lambda rq: rq.answer(200, gzip.compress(data), Content_Encoding="gzip")))
        bomb = zlib.compress(b"\0" * (1 << 28))
        self.refuse("not valid JSON|coding that was not asked for", self.for_path("/manifests/", lambda rq: rq.answer(
            200, bomb, Content_Type=MANIFEST_TYPE, Content_Encoding="deflate")))

    def test_ranges_that_nobody_asked_for(self):
        data = self.registry.blobs[self.registry.layers[0]]
        for value in ("bytes 10-20/30", "bytes 0-99999999999999999999/5", "x", "", None):
            with self.subTest(value):
                more = {"Content_Range": value} if value is not None else {}
                before = self.store()
                self.registry.hook = self.for_layer(lambda rq, more=more: rq.answer(206, data[10:], **more))
                self.forget_downloads()
                self.assert_one_line(self.home.run("pull", self.registry.name), 1)
                self.assertEqual(self.store(), before)


class Documents(HostileTest):
    """Manifests, indexes and configurations."""

    def manifest(self, body):
        return self.for_path("/manifests/", lambda rq: rq.answer(200, body, Content_Type=MANIFEST_TYPE))

    @core
    def test_not_what_was_asked_for(self):
        for body in (b"", b"{", b"[]", b"{}", b"<html>hello</html>", b"\xff" * 100, b"[" * 100000, b"null", b"7",
                     b'{"schemaVersion":1}', b'{"schemaVersion":2}', self.registry.manifest + b"x",
                     self.registry.manifest.replace(b'"layers":[', b'"layers":{'),
                     self.registry.manifest.replace(b'"size":', b'"size":-'),
                     self.registry.manifest.replace(b"sha256:", b"sha256:../../../"),
                     self.registry.manifest.replace(b"sha256:", b"md5:")):
            with self.subTest(body[:60]):
                self.refuse("image manifest", self.manifest(body))
        for status in (400, 404, 403, 401, 418, 204, 304, 300):
            with self.subTest(status):
                self.refuse("127.0.0.1", self.for_path("/manifests/", lambda rq, status=status: rq.answer(status)))

    @core
    def test_a_huge_manifest(self):
        """A gigabyte, announced or not, of which nobody waits for the end."""
        def announced(request):
            request.head(200, 1 << 30, Content_Type=MANIFEST_TYPE)
            for _ in range(1 << 10):
                request.wfile.write(b" " * (1 << 20))

        def chunked(request):
            request.head(200, None, Content_Type=MANIFEST_TYPE, Transfer_Encoding="chunked")
            request.chunks(b" " * (1 << 20) for _ in range(1 << 10))

        for action in (announced, chunked):
            self.refuse("longer than|too long|too large", self.for_path("/manifests/", action))

    @core
    def test_deep_json(self):
        for body in (b'{"a":' * 100000, b'{"a":' * 200000 + b"1" + b"}" * 200000, b"[" * 1000000 + b"]" * 1000000,
                     b'{"schemaVersion":2,"config":' + b"[" * 1000000):
            self.refuse("more than 128 levels deep", self.manifest(body))
        deep = json.loads(self.registry.manifest)
        for depth in (10000, 100000):
            body = json.dumps(deep)[:-1].encode() + b',"annotations":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"
            self.refuse("more than 128 levels deep", self.manifest(body))

    def test_many_layers(self):
        """As many as there is room for, and more."""
        layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "size": 1}
        for count in (10000, 100000):
            manifest = json.loads(self.registry.manifest)
            manifest["layers"] = [dict(layer, digest="sha256:%064x" % n) for n in range(count)]
            self.refuse("entries|layers|longer than", self.manifest(SCRIPT.dump(manifest)))
        index = SCRIPT.dump({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [
            {"mediaType": MANIFEST_TYPE, "digest": "sha256:%064x" % n, "size": 1,
             "platform": {"os": "linux", "architecture": "other%d" % n}} for n in range(20000)]})
        self.refuse("index has 20000 entries", self.for_path(
            "/manifests/1", lambda rq: rq.answer(200, index, Content_Type=INDEX_TYPE)))

    def test_an_index_of_itself(self):
        """Indexes in indexes, further than anybody follows."""
        depth = 200
        inner, blobs = self.image[0], {}
        for _ in range(depth):
            index = SCRIPT.dump({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [
                dict(inner, platform={"os": "linux", "architecture": "amd64"})]})
            blobs[SCRIPT.sha256(index)] = index
            inner = dict(SCRIPT.descriptor("index.v1+json", index), mediaType=INDEX_TYPE)
        self.registry.add("deep", inner, blobs)
        for args in ((), ("--all-platforms",)):
            self.refuse("index", args=args, name=self.registry.host + "/x:deep")
        self.assertLess(len(self.registry.requests), 60)

    def test_a_million_platforms_for_all(self):
        """--all-platforms of an index that names very much."""
        count = 15000
        index = SCRIPT.dump({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [
            dict(self.image[0], platform={"os": "linux", "architecture": "amd64"})] + [
            {"mediaType": MANIFEST_TYPE, "digest": "sha256:%064x" % n, "size": 500,
             "platform": {"os": "linux", "architecture": "o"}} for n in range(count)]})
        self.registry.add("wide", SCRIPT.descriptor("index.v1+json", index), {SCRIPT.sha256(index): index})
        self.refuse("index has 15001 entries", args=("--all-platforms",), name=self.registry.host + "/x:wide")

    def test_sizes_that_do_not_fit(self):
        for size in (1 << 40, 1 << 62, (1 << 63) - 1, (1 << 63), -1, 1.5, "7", None):
            with self.subTest(size):
                manifest = json.loads(self.registry.manifest)
                manifest["layers"][0]["size"] = size
                self.refuse("invalid size|too big|supported at most", self.manifest(SCRIPT.dump(manifest)))
        manifest = json.loads(self.registry.manifest)
        manifest["layers"] = [dict(manifest["layers"][0], size=(1 << 62), digest="sha256:%064x" % n) for n in range(4)]
        self.refuse("impossible layer sizes", self.manifest(SCRIPT.dump(manifest)))

    def test_other_things_than_images(self):
        """A chart, a signature, a manifest of Docker's first schema."""
        manifest = json.loads(self.registry.manifest)
        chart = json.loads(SCRIPT.dump(manifest))
        chart["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json"
        chart["layers"][0]["mediaType"] = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
        artifact = dict(manifest, artifactType="application/x.something")
        artifact["config"] = {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2,
                              "digest": SCRIPT.sha256(b"{}"), "data": "e30="}
        first = {"schemaVersion": 1, "name": "x", "tag": "1", "architecture": "amd64", "fsLayers": [], "history": []}
        for value, kind in ((chart, MANIFEST_TYPE), (artifact, MANIFEST_TYPE),
                            (first, "application/vnd.docker.distribution.manifest.v1+prettyjws")):
            body = SCRIPT.dump(value)
            self.refuse("not an image|image|schema", self.for_path("/manifests/", lambda rq, body=body, kind=kind: rq.answer(
                200, body, Content_Type=kind)))

    def test_configurations(self):
        packed = gzip.compress(SCRIPT.Tree().bytes(), mtime=0)
        layer = (packed, SCRIPT.sha256(gzip.decompress(packed)))
        for config in ([], {"rootfs": {}}, {"os": "linux", "architecture": "amd64"},
                       {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}},
                       {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [layer[1]] * 2}},
                       {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": ["x"]}},
                       {"os": "linux", "architecture": "amd64", "config": {"Env": ["A" * (5 << 20)]},
                        "rootfs": {"type": "layers", "diff_ids": [layer[1]]}}):
            with self.subTest(str(config)[:80]):
                name = self.serve([layer], config=config or [0])
                self.refuse(r"image configuration|its configuration names [02]\b|image is for \?/\?", name=name)

    def test_wrong_diff_id(self):
        packed = gzip.compress(SCRIPT.Tree().bytes(), mtime=0)
        self.refuse("does not match the diff ID", name=self.serve([(packed, SCRIPT.sha256(b"something else"))]))

    def test_tags_without_end(self):
        """Each page leads to another."""
        count = itertools.count()

        def action(request):
            n = next(count)
            body = SCRIPT.dump({"name": "x", "tags": ["t%d" % (n * 1000 + i) for i in range(1000)]})
            request.answer(200, body, Content_Type="application/json",
                           Link='</v2/x/tags/list?n=1000&last=t%d>; rel="next"' % n)

        self.refuse("tags", self.for_path("/tags/list", action), args=("-a",), name=self.registry.host + "/x", seconds=60)

        def same(request):
            request.answer(200, b'{"name":"x","tags":["1"]}', Content_Type="application/json",
                           Link='</v2/x/tags/list>; rel="next"')

        self.refuse("tags", self.for_path("/tags/list", same), args=("-a",), name=self.registry.host + "/x", seconds=60)

    def test_tags_that_are_none(self):
        for body in (b"", b"{}", b"[]", b'{"tags":null}', b'{"tags":[1]}', b'{"tags":["../../x"]}', b'{"tags":["a b"]}',
                     b'{"tags":{}}', b"[" * 100000):
            with self.subTest(body[:30]):
                self.refuse("has no tags|cannot list the tags", self.for_path(
                    "/tags/list", lambda rq, body=body: rq.answer(200, body)), args=("-a",), name=self.registry.host + "/x")

    def test_more_pages_on_another_server(self):
        """The way to the next page is not the way to another server with our credentials."""
        basic = self.log_in()
        self.other.hook = lambda rq: rq.answer(200, b'{"tags":["evil"]}') or True
        self.registry.hook = self.for_path("/tags/list", lambda rq: rq.answer(
            200, b'{"name":"x","tags":["1"]}', Link="<%s/v2/x/tags/list>; rel=next" % self.other.origin))
        self.home.run("pull", "-a", self.registry.host + "/x")
        self.assertNotIn(basic, [auth for _, auth in self.other.requests])

    def test_signatures_that_are_rubbish(self):
        """With a key asked for: whatever is said to be a signature is none, and no layer is fetched."""
        registries.need("openssl")
        key = self.home.base / "key.pub"
        private = self.home.base / "key"
        registries.openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private)
        registries.openssl("ec", "-in", private, "-pubout", "-out", key)
        tag = self.registry.tags["1"].replace(":", "-") + ".sig"
        many = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [
            {"mediaType": MANIFEST_TYPE, "digest": "sha256:%064x" % n, "size": 500,
             "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json"} for n in range(10000)]}
        bodies = [b"", b"{}", b"[]", b"[" * 100000, b"\xff" * 1000, SCRIPT.dump(many),
                  SCRIPT.dump({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [1]})]
        for part in ("/referrers/", tag):
            for body in bodies:
                with self.subTest(part, body=body[:40]):
                    self.registry.forget()
                    self.refuse("it is not signed|its signatures cannot be fetched", self.for_path(
                        part, lambda rq, body=body: rq.answer(
                            200, body, Content_Type=INDEX_TYPE if "referrers" in rq.path else MANIFEST_TYPE)),
                                args=("--verify-key", key), seconds=60)
                    self.assertEqual(self.registry.served[self.registry.layers[0]], 0)
                    self.assertLess(len(self.registry.requests), 200)
            for status in (500, 401, 403, 418):
                with self.subTest(part, status=status):
                    self.refuse("its signatures cannot be fetched",
                                self.for_path(part, lambda rq, status=status: rq.answer(status)),
                                args=("--verify-key", key), seconds=90)


class Protocol(HostileTest):
    """HTTP, and what is none."""

    @core
    def test_redirects_without_end(self):
        self.refuse("too many redirects", self.for_path("/blobs/", lambda rq: rq.answer(307, Location=rq.path)))
        self.refuse("redirect", self.for_path("/blobs/", lambda rq: rq.answer(307)))
        self.refuse("redirect.*no HTTP address", self.for_path(
            "/blobs/", lambda rq: rq.answer(307, Location="file:///etc/passwd")))
        self.refuse("redirect.*not encrypted", self.for_path(
            "/blobs/", lambda rq: rq.answer(307, Location="http://192.0.2.1/x")))
        self.refuse("redirect.*credentials", self.for_path(
            "/blobs/", lambda rq: rq.answer(307, Location="https://a:b@127.0.0.1:1/x")))
        for path in ("/manifests/", "/v2/"):
            self.refuse("redirect", self.for_path(path, lambda rq: rq.answer(302, Location=rq.path + "x")))
        self.refuse("redirect", self.for_path("/blobs/", lambda rq: rq.answer(307, Location="/" + "x" * 60000)))
        # Two that send each other the client.
        self.other.hook = lambda rq: rq.answer(307, Location=self.registry.origin + rq.path) or True
        self.refuse("redirect", self.for_path("/blobs/", lambda rq: rq.answer(307, Location=self.other.origin + rq.path)))
        self.assertLess(len(self.other.requests), 100)

    def test_redirect_to_another_server(self):
        """As object storage does it."""
        self.registry.hook = self.for_path("/blobs/", lambda rq: rq.answer(307, Location=self.other.origin + rq.path))
        self.home.ok("pull", self.registry.name)
        self.assertEqual({path.split("/")[3] for path, _ in self.other.requests}, {"blobs"})

    def test_a_redirect_that_changes(self):
        """Each request leads elsewhere, and what comes there is other content each time."""
        data = self.registry.blobs[self.registry.layers[0]]
        count = itertools.count()
        self.other.hook = lambda rq: rq.answer(200, os.urandom(1000), len(data)) or True
        self.refuse("127.0.0.1|sha256", self.for_layer(lambda rq: rq.answer(
            307, Location="%s/%d" % (self.other.origin, next(count)))), seconds=60)
        self.assertLess(len(self.other.requests), 30)

    @core
    def test_401_without_end(self):
        self.log_in()
        for header in ('Basic realm="x"', 'Bearer realm="%s/token",service="s"' % self.other.origin, "Bearer", "Negotiate",
                       "", "Bearer " + "a," * 5000, 'Basic realm="' + "x" * 60000 + '"'):
            with self.subTest(header[:40]):
                self.registry.forget()
                self.other.forget()
                self.other.hook = self.for_path("/token", lambda rq: rq.answer(200, b'{"token":"never good"}'))
                self.refuse("refused access|where to get one|has no token", self.for_path(
                    "/v2/", lambda rq, header=header: rq.answer(401, WWW_Authenticate=header)))
                self.assertLess(len(self.registry.requests), 20)
                self.assertLess(len(self.other.requests), 20)

    def test_401_now_and_then(self):
        """A token is good for one request each: nothing of it can be had in this way for ever, but all of it is fair."""
        self.other.hook = self.for_path("/token", lambda rq: rq.answer(
            200, b'{"token":"%d"}' % len(self.other.requests)))
        used = set()

        def hook(request):
            auth = request.headers.get("Authorization")
            if auth and auth not in used:
                used.add(auth)
                return False
            self.challenge(request, self.other)
            return True

        self.registry.hook = hook
        self.home.ok("pull", self.registry.name)

    def challenge(self, request, server):
        request.answer(401, WWW_Authenticate='Bearer realm="%s/token",service="s",scope="ignored"' % server.origin)

    @core
    def test_token(self):
        basic = self.log_in()

        def registry(request):
            if "/v2/x/" not in request.path or request.headers.get("Authorization") == "Bearer letmein":
                return False
            self.challenge(request, self.other)
            return True

        self.registry.hook = registry
        self.other.hook = self.for_path("/token", lambda rq: rq.answer(200, b'{"token":"letmein"}'))
        self.home.ok("pull", self.registry.name)
        ((path, auth),) = self.other.requests
        self.assertIn("service=s", path)
        self.assertRegex(path, "scope=repository(:|%3A)x(:|%3A)pull")
        self.assertEqual(auth, basic)
        self.assertNotIn(basic, [auth for _, auth in self.registry.requests])

    @core
    def test_token_server_that_refuses(self):
        for name, action in (("refused", lambda rq: rq.answer(403)), ("broken", lambda rq: rq.answer(200, b"{}")),
                             ("rubbish", lambda rq: rq.answer(200, b"\xff\x00" * 1000)),
                             ("deep", lambda rq: rq.answer(200, b"[" * 100000)),
                             ("number", lambda rq: rq.answer(200, b'{"token":7}')),
                             ("empty", lambda rq: rq.answer(200, b'{"token":""}')),
                             ("header", lambda rq: rq.answer(200, b'{"token":"a\\r\\nX: y"}')),
                             ("long", lambda rq: rq.answer(200, b'{"token":"' + b"x" * (1 << 19) + b'"}')),
                             ("itself", lambda rq: self.challenge(rq, self.other)),
                             ("away", lambda rq: rq.answer(307, Location=rq.path)),
                             ("longer than", lambda rq: rq.answer(200, b" " * (2 << 20)))):
            with self.subTest(name):
                self.other.hook = self.for_path("/token", action)
                self.refuse("token|credentials|longer|redirect|unauthorized|denied|login|431", self.for_path(
                    "/v2/x/", lambda rq: self.challenge(rq, self.other)))

    def test_realms_that_lead_elsewhere(self):
        """Where the password would be sent is the challenge's word."""
        self.log_in()
        for realm in ("http://192.0.2.1/token", "file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1:1/", "", "x",
                      "https://a:b@127.0.0.1:1/", "http://127.0.0.1:1/\\r\\nx", "http://127.0.0.1:99999/"):
            with self.subTest(realm):
                header = 'Bearer realm="%s",service="s"' % realm
                self.refuse("token server|where to get one|127.0.0.1:1: ",
                            self.for_path("/v2/", lambda rq, header=header: rq.answer(401, WWW_Authenticate=header)),
                            seconds=60)

    @core
    def test_credentials_stay_with_the_registry(self):
        """A server that a redirect leads to asks for a token, and would get the registry's password."""
        basic = self.log_in()
        for form in ("Bearer", "Basic"):
            with self.subTest(form):
                self.other.hook = lambda rq, form=form: (
                    self.challenge(rq, self.other) if form == "Bearer"
                    else rq.answer(401, WWW_Authenticate='Basic realm="x"')) or True
                self.refuse("redirected to a server that refused", self.for_path(
                    "/blobs/", lambda rq: rq.answer(307, Location=self.other.origin + rq.path)))
        self.assertTrue(self.other.requests)
        self.assertEqual({auth for _, auth in self.other.requests}, {None})
        self.assertNotIn(basic, [auth for _, auth in self.registry.requests])

    def test_too_many_requests(self):
        """As asked, the client waits, and then all is well."""
        count = itertools.count()

        def hook(request):
            if next(count) % 2:
                return False
            request.answer(429, Retry_After="1")
            return True

        self.registry.hook = hook
        result = self.home.ok("pull", self.registry.name)
        self.assertLess(result.seconds, 60 * SLOW)

    @slow(400)
    def test_too_many_requests_for_ever(self):
        """However long it is asked to wait, the end is not far."""
        for value in ("0", "1", "31536000", "-5", "x", "99999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT", None):
            with self.subTest(value):
                more = {"Retry_After": value} if value is not None else {}
                self.registry.forget()
                self.refuse("limiting requests", self.for_path("/v2/", lambda rq, more=more: rq.answer(429, **more)),
                            seconds=150)
                self.assertLess(len(self.registry.requests), 30)

    @slow(300)
    def test_storms_of_5xx(self):
        for status in (500, 502, 503, 504):
            with self.subTest(status):
                self.refuse(str(status), self.for_path("/v2/", lambda rq, status=status: rq.answer(
                    status, b"<html>\x1b[31moops\n</html>")), seconds=60)
        # Now and then is no storm.
        count = itertools.count()

        def hook(request):
            if next(count) % 2:
                return False
            request.answer(503)
            return True

        self.registry.hook = hook
        self.home.ok("pull", self.registry.name)

    def test_what_the_registry_says_of_errors(self):
        """Its words are shown, and are no more than words."""
        for body, match in ((b'{"errors":[{"code":"DENIED","message":"no \\u001b[31mway\\nback"}]}', "no .*way"),
                            (b'{"errors":[{"code":"DENIED","message":"%s"}]}' % (b"x" * 500000), "denied|x"),
                            (b'{"errors":[{"code":7}]}', "refused access"), (b'{"errors":{}}', "refused access"),
                            (b"[" * 100000, "refused access"),
                            (b'{"errors":[' + b'{"code":"A"},' * 50000 + b'{"code":"A"}]}', "refused access")):
            with self.subTest(body[:40]):
                self.refuse(match, self.for_path("/manifests/", lambda rq, body=body: rq.answer(
                    403, body, Content_Type="application/json")))

    def test_headers_of_megabytes(self):
        def one(request):
            request.raw(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * (8 << 20) + b"\r\nContent-Length: 0\r\n\r\n")

        def many(request):
            request.raw(b"HTTP/1.1 200 OK\r\n")
            for n in range(200000):
                request.wfile.write(b"X-Header-%d: some value\r\n" % n)
            request.wfile.write(b"Content-Length: 0\r\n\r\n")

        def endless(request):
            request.raw(b"HTTP/1.1 200 OK\r\n")
            while True:
                request.wfile.write(b"X-Header: some value\r\n" * 1000)

        def informational(request):
            while True:
                request.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)

        def trailers(request):
            request.head(200, None, Content_Type=MANIFEST_TYPE, Transfer_Encoding="chunked")
            request.wfile.write(b"0\r\n")
            while True:
                request.wfile.write(b"X-Trailer: some value\r\n" * 1000)

        for action in (one, many, endless, informational, trailers):
            with self.subTest(action.__name__):
                self.refuse("headers|header|memory", self.for_path("/manifests/", action), seconds=150)

    def test_old_http(self):
        """HTTP/1.0, whose bodies end with the connection, is good enough."""
        def hook(request):
            request.protocol_version = "HTTP/1.0"
            request.close_connection = True
            path = request.path.rpartition("/")[2]
            data = self.registry.blobs.get(self.registry.tags.get(path, path))
            if data is None:
                return False
            kind = MANIFEST_TYPE if "manifests" in request.path else "application/octet-stream"
            request.raw(b"HTTP/1.0 200 OK\r\nContent-Type: " + kind.encode() + b"\r\n\r\n" + data)
            return True

        self.registry.hook = hook
        self.home.ok("pull", self.registry.name)

    @core
    def test_garbage_instead_of_http(self):
        for data in (b"", b"\0" * 100, os.urandom(5000), b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/9.9 200 OK\r\n\r\n",
                     b"HTTP/1.1 999999 x\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"220 mail.example ESMTP\r\n"):
            with self.subTest(data[:20]):
                self.refuse("/v2/x/manifests/1: .*(HTTP|reply)",
                            self.for_path("/", lambda rq, data=data: rq.raw(data)), seconds=60)

    @core
    def test_connections_that_end_at_once(self):
        self.registry.greeting = lambda connection: True
        self.refuse("127.0.0.1", seconds=60)

        def reset(connection):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return True

        self.registry.greeting = reset
        self.refuse("127.0.0.1", seconds=60)

    @slow(200)
    def test_garbage_instead_of_tls(self):
        """What is said before anything was asked."""
        for data in (b"SSH-2.0-OpenSSH_9.2\r\n", os.urandom(1000), b"\x16\x03\x01\xff\xff" + b"\0" * 65535,
                     b"\x15\x03\x01\x00\x02\x02\x28"):
            def greet(connection, data=data):
                connection.sendall(data)
                return True

            with self.subTest(data[:10]):
                self.registry.greeting = greet
                self.refuse("127.0.0.1", seconds=60)

    def test_tls_where_none_can_be_trusted(self):
        registries.need("openssl")
        certs = registries.Certificates(self.home.base / "certs")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*map(str, certs.server))
        with registry_fake.Registry(*self.image, tls=context) as secure:
            self.refuse("certificate", name=secure.name)
            self.home.ok("pull", "--tls-verify=false", secure.name)
            self.home.ok("rmi", secure.name)
        shutil.rmtree(certs.folder)

    def test_plain_http_where_tls_began(self):
        """A registry that answers with TLS must not lead back to plain HTTP, not on this machine either."""
        registries.need("openssl")
        certs = registries.Certificates(self.home.base / "certs")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*map(str, certs.server))
        with registry_fake.Registry(*self.image, tls=context) as secure:
            secure.hook = self.for_path("/blobs/", lambda rq: rq.answer(307, Location=self.registry.origin + rq.path))
            self.refuse("redirect|encrypted|HTTP", name=secure.name, args=("--tls-verify=false",))
        shutil.rmtree(certs.folder)


class Slow(HostileTest):
    """What only time can tell: these take as long as the client's limits (http.h)."""

    waits = True
    DRIP_S = 400

    @slow(900)
    def test_a_drip_in_a_layer(self):
        """A byte a second is no stall, and still ends."""
        data = self.registry.blobs[self.registry.layers[0]]

        def action(request):
            start = int((request.headers.get("Range") or "bytes=0-")[6:-1])
            more = {"Content_Range": "bytes %d-%d/%d" % (start, len(data) - 1, len(data))} if start else {}
            request.head(206 if start else 200, len(data) - start, **more)
            for n in range(start, len(data)):
                request.wfile.write(data[n:n + 1])
                time.sleep(1)

        self.refuse("slow|time|stall", self.for_layer(action), seconds=self.DRIP_S)

    @slow(900)
    def test_a_drip_in_a_manifest(self):
        def action(request):
            request.head(200, len(self.registry.manifest), Content_Type=MANIFEST_TYPE)
            for n in range(len(self.registry.manifest)):
                request.wfile.write(self.registry.manifest[n:n + 1])
                time.sleep(1)

        self.refuse("slow|time|stall", self.for_path("/manifests/", action), seconds=self.DRIP_S)

    @slow(900)
    def test_a_drip_in_the_headers(self):
        def action(request):
            request.wfile.write(b"HTTP/1.1 200 OK\r\n")
            for n in range(3000):
                request.wfile.write(b"X-%d: 1\r\n" % n)
                time.sleep(1)

        self.refuse("slow|did not answer|stall", self.for_path("/manifests/", action), seconds=self.DRIP_S)

    @slow(900)
    def test_silence(self):
        self.refuse("time|stall|did not answer", self.for_path("/manifests/", lambda rq: time.sleep(300)),
                    seconds=self.DRIP_S)

    @slow(900)
    def test_silence_in_a_layer(self):
        data = self.registry.blobs[self.registry.layers[0]]

        def action(request):
            request.head(200, len(data))
            request.wfile.write(data[:1000])
            time.sleep(300)

        self.refuse("time|stall|slow", self.for_layer(action), seconds=self.DRIP_S)

    @slow(900)
    def test_a_handshake_that_never_ends(self):
        def greet(connection):
            connection.recv(1)
            time.sleep(300)
            return True

        self.registry.greeting = greet
        self.refuse("time|handshake|stall|127.0.0.1", seconds=self.DRIP_S)
