"""Signatures of images: what a pull accepts and refuses, and that others' programs (openssl, skopeo) accept what we
sign and we what they do. Whatever is refused leaves the store as it was."""

import base64
import json
import os
import subprocess
import unittest

import images
import registry_fake
import sigworld
from a3s import core
from registries import openssl
from signatures import (SCRIPT, MANIFEST_TYPE, CONFIG_TYPE, SIMPLE, BUNDLE, SIGNATURE, PASSWORD,
                        KEYS, make_key, sealed_key, payload, sign, tag_of, SignatureTest)
from test_registry import multi_platform, write_layout


class Signing(SignatureTest):
    """push --sign-key, judged by us and by programs that know nothing of us."""

    def push_signed(self, target, private=None, password=None, source="plain:1"):
        self.home.ok("pull", self.name(source))
        return self.home.ok("push", "--sign-key", private or self.private, self.name(source), self.name(target),
                            env={"COSIGN_PASSWORD": password})

    def signatures(self, repository, digest):
        """[(payload, signature)] as they are in the registry."""
        manifest = json.loads(self.registry.raw("%s:%s" % (repository, tag_of(digest))))
        return [(self.blob(repository, layer["digest"]), base64.b64decode(layer["annotations"][SIGNATURE]))
                for layer in manifest["layers"]]

    def openssl_accepts(self, public, text, signature, kind="p256"):
        path, data = self.home.tmp / "signature", self.home.tmp / "payload"
        path.write_bytes(signature)
        data.write_bytes(text)
        if kind == "ed25519":
            openssl("pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in", data, "-sigfile", path)
        else:
            openssl("dgst", "-sha256", "-verify", public, "-signature", path, data)

    @core
    def test_each_kind_of_key(self):
        for kind in KEYS:
            with self.subTest(kind):
                private, public = make_key(self.folder, kind, kind)
                target = "kinds/%s" % kind
                self.push_signed(target + ":1", private)
                digest = SCRIPT.sha256(self.registry.raw(target + ":1"))
                ((text, signature),) = self.signatures(target, digest)
                self.openssl_accepts(public, text, signature, kind)
                critical = json.loads(text)["critical"]
                self.assertEqual(critical, {"identity": {"docker-reference": self.name(target)},
                                            "image": {"docker-manifest-digest": digest},
                                            "type": "cosign container image signature"})
                self.home.ok("rmi", "-f", self.name("plain:1"))
                self.accept(target, "--verify-key", public)
                self.refuse("signature|key", target, "--verify-key", self.foreign_public)

    @core
    def test_layout_of_the_signature(self):
        """What cosign looks at: types, annotation, and a configuration that names the layers."""
        self.push_signed("layout:1")
        digest = SCRIPT.sha256(self.registry.raw("layout:1"))
        manifest = json.loads(self.registry.raw("layout:" + tag_of(digest)))
        self.assertEqual(manifest["schemaVersion"], 2)
        self.assertEqual(manifest["mediaType"], MANIFEST_TYPE)
        (layer,) = manifest["layers"]
        self.assertEqual(layer["mediaType"], SIMPLE)
        self.assertEqual(list(layer["annotations"]), [SIGNATURE])
        self.assertEqual(manifest["config"]["mediaType"], CONFIG_TYPE)
        config = json.loads(self.blob("layout", manifest["config"]["digest"]))
        self.assertEqual(config["rootfs"], {"type": "layers", "diff_ids": [layer["digest"]]})

    @core
    def test_joins_those_that_are_there(self):
        self.push_signed("joint:1", self.foreign)
        self.push_signed("joint:1")
        digest = SCRIPT.sha256(self.registry.raw("joint:1"))
        self.assertEqual(len(self.signatures("joint", digest)), 2)
        manifest = json.loads(self.registry.raw("joint:" + tag_of(digest)))
        config = json.loads(self.blob("joint", manifest["config"]["digest"]))
        self.assertEqual(config["rootfs"]["diff_ids"], [layer["digest"] for layer in manifest["layers"]])
        self.home.ok("rmi", "-f", self.name("plain:1"))
        for public in (self.public, self.foreign_public):
            self.accept("joint", "--verify-key", public)

    def test_same_signature_once(self):
        """RSA without salt gives the same each time."""
        private, _ = make_key(self.folder, "again", "rsa")
        self.push_signed("again:1", private)
        self.push_signed("again:1", private)
        self.assertEqual(len(self.signatures("again", SCRIPT.sha256(self.registry.raw("again:1")))), 1)

    @core
    def test_again(self):
        """Most keys make another signature each time: there is one by each of them all the same."""
        for private in (self.private, self.foreign, self.private, self.foreign):
            self.push_signed("repeated:1", private)
        digest = SCRIPT.sha256(self.registry.raw("repeated:1"))
        self.assertEqual(len(self.signatures("repeated", digest)), 2)
        self.home.ok("rmi", "-f", self.name("plain:1"))
        self.accept("repeated", "--verify-key", self.public)
        self.accept("repeated", "--verify-key", self.foreign_public)

    def test_something_else_is_there(self):
        """Found before anything is pushed."""
        _, digest = self.fresh()
        self.home.ok("pull", self.name("plain:1"))
        text = payload(self.name("obstacle"), digest)
        for kind, good in (("application/vnd.oci.image.layer.v1.tar", False), (SIMPLE, True)):
            with self.subTest(kind):
                self.put_signatures("obstacle", tag_of(digest), [(kind, text, {SIGNATURE: sign(self.foreign, text)})])
                result = self.home.run("push", "--sign-key", self.private, self.name("plain:1"), self.name("obstacle:1"))
                if good:
                    self.assert_rc(result, 0)
                    self.assertEqual(len(self.signatures("obstacle", digest)), 2)
                else:
                    self.assert_one_line(result, 1, "something else")
                    with self.assertRaises(AssertionError):
                        self.registry.raw("obstacle:1")

    def test_among_dockers(self):
        """Signatures whose manifest is of Docker's type, as some clients push it, stay in one of that type."""
        docker = "application/vnd.docker.distribution.manifest.v2+json"
        config_type = "application/vnd.docker.container.image.v1+json"
        repository, digest = self.fresh()
        text, config = payload(self.name(repository), digest), b"{}"
        self.put_manifest(repository, tag_of(digest), {
            "schemaVersion": 2, "mediaType": docker,
            "config": {"mediaType": config_type, "digest": self.put_blob(repository, config), "size": len(config)},
            "layers": [{"mediaType": SIMPLE, "digest": self.put_blob(repository, text), "size": len(text),
                        "annotations": {SIGNATURE: sign(self.foreign, text)}}]}, docker)
        self.push_signed(repository + ":1")
        manifest = json.loads(self.registry.raw("%s:%s" % (repository, tag_of(digest))))
        self.assertEqual((manifest["mediaType"], manifest["config"]["mediaType"]), (docker, config_type))
        self.assertEqual(len(manifest["layers"]), 2)
        self.home.ok("rmi", "-f", self.name("plain:1"))
        self.accept(repository, "--verify-key", self.public)
        self.accept(repository, "--verify-key", self.foreign_public)

    @core
    def test_run_after_the_push(self):
        """What was signed here need not be pulled for its own signature."""
        self.home.load(self.image_file("box"))
        name = self.name("own/image:1")
        self.home.ok("tag", "box", name)
        self.policy({self.registry.host: self.by_key()}, "insecureAcceptAnything")
        self.assert_one_line(self.home.run("create", "--pull", "never", name, "true"), 125, "not signed")
        for _ in range(2):
            self.home.ok("push", "--sign-key", self.private, name)
        self.home.ok("rm", self.home.ok("create", "--pull", "never", name, "true").text.strip())
        self.policy({self.registry.host: self.by_key(self.foreign_public)}, "insecureAcceptAnything")
        self.assert_one_line(self.home.run("create", "--pull", "never", name, "true"), 125, "not accepted")

    def test_index(self):
        """The index is signed, and so is whatever is chosen from it."""
        layout = self.home.base / "multi"
        write_layout(layout, "1", *multi_platform())
        self.fill("multi:1", "oci:%s:1" % layout, "--all")
        self.home.ok("pull", "--all-platforms", self.name("multi:1"))
        self.home.ok("push", "--sign-key", self.private, self.name("multi:1"), self.name("signed/multi:1"))
        digest = SCRIPT.sha256(self.registry.raw("signed/multi:1"))
        self.assertEqual(len(self.signatures("signed/multi", digest)), 1)
        self.home.ok("rmi", "-f", self.name("multi:1"))
        self.accept("signed/multi", "--verify-key", self.public)
        self.accept("signed/multi", "--platform", "linux/s390x", "--verify-key", self.public)
        self.refuse("signature|key", "signed/multi", "--verify-key", self.foreign_public)

    def test_encrypted_key(self):
        private, public = make_key(self.folder, "locked")
        locked = self.folder / "locked.pkcs8"
        openssl("pkcs8", "-topk8", "-in", private, "-out", locked, "-passout", "pass:" + PASSWORD)
        self.push_signed("locked:1", locked, PASSWORD)
        self.home.ok("rmi", "-f", self.name("plain:1"))
        self.accept("locked", "--verify-key", public)

    @core
    def test_cosigns_key(self):
        private, public = make_key(self.folder, "cosign")
        for n, label in enumerate(("ENCRYPTED COSIGN PRIVATE KEY", "ENCRYPTED SIGSTORE PRIVATE KEY")):
            with self.subTest(label):
                sealed = sealed_key(private, self.folder / "cosign.sealed", PASSWORD, label)
                self.push_signed("sealed/%d:1" % n, sealed, PASSWORD)
                self.home.ok("rmi", "-f", self.name("plain:1"))
                self.accept("sealed/%d" % n, "--verify-key", public)

    @core
    def test_keys_that_cannot_sign(self):
        """Known before anything is pushed."""
        self.home.ok("pull", self.name("plain:1"))
        sealed = sealed_key(self.private, self.folder / "wrong.sealed", PASSWORD)
        garbage = self.folder / "garbage"
        garbage.write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
        for key, password, match in ((sealed, "wrong", "password"), (garbage, None, "garbage"),
                                     (self.public, None, "key"), (self.folder / "nosuch", None, "nosuch"),
                                     (self.folder, None, "key")):
            with self.subTest(key=key.name):
                result = self.home.run("push", "--sign-key", key, self.name("plain:1"), self.name("unsignable:1"),
                                       env={"COSIGN_PASSWORD": password})
                self.assert_one_line(result, 1, match)
        with self.assertRaises(AssertionError):
            self.registry.raw("unsignable:1")

    # ---- skopeo, which has cosign's formats from another hand

    def skopeo_copies(self, source, public, *options):
        """Whether skopeo takes the image, under a policy that wants this key's signature."""
        more = self.home.base / "registries.d"
        more.mkdir(exist_ok=True)
        (more / "tests.yaml").write_text("docker:\n  %s:\n    use-sigstore-attachments: true\n" % self.registry.host)
        policy = self.home.base / "skopeo-policy.json"
        policy.write_text(json.dumps({"default": [{"type": "reject"}], "transports": {
            "docker": {self.registry.host: self.by_key(public)}, "dir": {"": [{"type": "insecureAcceptAnything"}]}}}))
        out = self.home.tmp / "copied"
        p = subprocess.run(["skopeo", "--policy", policy, "--registries.d", more, "copy", "--src-tls-verify=false", *options,
                            "docker://" + self.name(source), "dir:%s" % out], capture_output=True, check=False,
                           timeout=120, env=dict(os.environ, TMPDIR=str(self.home.tmp)))
        images.tool("rm", "-rf", out)
        return p.returncode == 0, p.stderr.decode(errors="replace")

    def need_sigstore(self, told):
        if "sigstore disabled" in told:
            raise unittest.SkipTest("Debian has taken these signatures out of this skopeo")

    @core
    def test_skopeo_accepts_ours(self):
        self.push_signed("skopeo/reads:1")
        good, told = self.skopeo_copies("skopeo/reads:1", self.public)
        self.need_sigstore(told)
        self.assertTrue(good, told)
        good, told = self.skopeo_copies("skopeo/reads:1", self.foreign_public)
        self.assertFalse(good, told)

    @core
    def test_we_accept_skopeos(self):
        if "--sign-by-sigstore-private-key" not in images.tool("skopeo", "copy", "--help"):
            raise unittest.SkipTest("this skopeo does not sign")
        private, public = make_key(self.folder, "skopeo")
        sealed = sealed_key(private, self.folder / "skopeo.sealed", PASSWORD)
        password = self.folder / "password"
        password.write_text(PASSWORD)
        more = self.home.base / "registries.d"
        more.mkdir(exist_ok=True)
        (more / "tests.yaml").write_text("docker:\n  %s:\n    use-sigstore-attachments: true\n" % self.registry.host)
        p = subprocess.run(["skopeo", "--insecure-policy", "--registries.d", more, "copy", "--src-tls-verify=false",
                            "--dest-tls-verify=false", "--sign-by-sigstore-private-key", sealed,
                            "--sign-passphrase-file", password, "docker://" + self.name("plain:1"),
                            "docker://" + self.name("skopeo/wrote:1")], capture_output=True, check=False, timeout=120,
                           env=dict(os.environ, TMPDIR=str(self.home.tmp)))
        told = p.stderr.decode(errors="replace")
        self.need_sigstore(told)
        self.assertEqual(p.returncode, 0, told)
        self.accept("skopeo/wrote", "--verify-key", public)
        self.refuse("signature|key", "skopeo/wrote", "--verify-key", self.public)
        # It signs for repository and tag: the strictest of the policy's identities takes it.
        self.policy({self.registry.host: self.by_key(public, "matchExact")})
        self.accept("skopeo/wrote")
        # Ours joins it, and both still hold, for skopeo too.
        self.policy({self.registry.host: [{"type": "insecureAcceptAnything"}]})
        self.push_signed("skopeo/wrote:1")
        for key in (public, self.public):
            good, told = self.skopeo_copies("skopeo/wrote:1", key)
            self.assertTrue(good, told)


class Verifying(SignatureTest):
    @core
    def test_good(self):
        repository, digest = self.signed()
        self.accept(repository, "--verify-key", self.public)
        name = self.name("%s@%s" % (repository, digest))
        self.home.ok("pull", "--verify-key", self.public, name)

    @core
    def test_refused(self):
        repository, _ = self.fresh()
        self.refuse("not signed", repository, "--verify-key", self.public)
        repository, _ = self.signed(self.foreign)
        self.refuse("signature", repository, "--verify-key", self.public)
        other = SCRIPT.sha256(self.registry.raw("other:1"))
        for change in ({"image": {"docker-manifest-digest": other}}, {"image": {}}, {"type": "atomic container signature"},
                       {"type": ""}, {"image": {"docker-manifest-digest": other.upper()}}):
            with self.subTest(change):
                repository, _ = self.signed(**change)
                self.refuse("signature", repository, "--verify-key", self.public)

    @core
    def test_of_another_image(self):
        """A good signature, but under the tag of an image that it does not speak of."""
        repository, digest = self.signed()
        other, other_digest = self.fresh("other:1")
        manifest = json.loads(self.registry.raw("%s:%s" % (repository, tag_of(digest))))
        layer = manifest["layers"][0]
        self.put_signatures(other, tag_of(other_digest), [(
            SIMPLE, self.blob(repository, layer["digest"]), layer["annotations"])])
        self.refuse("digest|another", other, "--verify-key", self.public)

    def test_tampered(self):
        repository, digest = self.fresh()
        text = payload(self.name(repository), digest)
        good = sign(self.private, text)
        raw = base64.b64decode(good)
        for name, content, annotation in (
                ("payload", text.replace(b"cosign container", b"Cosign container"), good),
                ("payload's space", text + b" ", good),
                ("signature", text, base64.b64encode(raw[:-1] + bytes([raw[-1] ^ 1])).decode()),
                ("longer", text, base64.b64encode(raw + b"\0").decode()),
                ("no base64", text, good[:-4] + "****"), ("line break", text, good[:20] + "\n" + good[20:]),
                ("empty", text, ""), ("no payload", b"", good)):
            with self.subTest(name):
                self.put_signatures(repository, tag_of(digest), [(SIMPLE, content, {SIGNATURE: annotation})])
                self.refuse("sign", repository, "--verify-key", self.public)
        self.put_signatures(repository, tag_of(digest), [(SIMPLE, text, {})])
        self.refuse("sign", repository, "--verify-key", self.public)
        self.put_signatures(repository, tag_of(digest), [("application/octet-stream", text, {SIGNATURE: good})])
        self.refuse("not signed", repository, "--verify-key", self.public)
        self.put_signatures(repository, tag_of(digest), [(SIMPLE, text, {SIGNATURE: good})])
        self.accept(repository, "--verify-key", self.public)

    @core
    def test_one_good_among_many(self):
        repository, digest = self.fresh()
        text = payload(self.name(repository), digest)
        bad = [(SIMPLE, text + b" " * n, {SIGNATURE: sign(self.foreign, text + b" " * n)}) for n in range(9)]
        self.put_signatures(repository, tag_of(digest), bad)
        self.refuse("none of its 9 signatures", repository, "--verify-key", self.public)
        self.put_signatures(repository, tag_of(digest), bad + [(SIMPLE, text, {SIGNATURE: sign(self.private, text)})])
        self.accept(repository, "--verify-key", self.public)

    def test_more_than_are_looked_at(self):
        repository, digest = self.fresh()
        text = payload(self.name(repository), digest)
        bad = [(SIMPLE, text, {SIGNATURE: base64.b64encode(b"%d" % n).decode()}) for n in range(200)]
        self.put_signatures(repository, tag_of(digest), bad)
        self.refuse("none of its first 64 signatures", repository, "--verify-key", self.public)

    def bundle(self, private, digest, predicate="https://sigstore.dev/cosign/sign/v1"):
        """A sigstore bundle of a key, without a log: a DSSE envelope around an in-toto statement."""
        kind = "application/vnd.in-toto+json"
        statement = json.dumps({"_type": "https://in-toto.io/Statement/v1", "predicateType": predicate, "predicate": {},
                                "subject": [{"name": "", "digest": {"sha256": digest[7:]}}]}).encode()
        pae = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(statement), statement)
        return json.dumps({
            "mediaType": BUNDLE, "verificationMaterial": {"publicKey": {"hint": "a key"}, "tlogEntries": []},
            "dsseEnvelope": {"payload": base64.b64encode(statement).decode(), "payloadType": kind,
                             "signatures": [{"sig": sign(private, pae)}]}}).encode()

    @core
    def test_referrers(self):
        """Signatures that refer to the image: in the tag's form, and as bundles."""
        for name, good in (("simple", True), ("bundle", True), ("bundle", False), ("other", False)):
            with self.subTest(name=name, good=good):
                repository, digest = self.fresh()
                private = self.private if good else self.foreign
                text = payload(self.name(repository), digest)
                layer, kind = {
                    "simple": ((SIMPLE, text, {SIGNATURE: sign(private, text)}),
                               "application/vnd.dev.cosign.artifact.sig.v1+json"),
                    "bundle": ((BUNDLE, self.bundle(private, digest), {}), BUNDLE),
                    # A statement about the image, a list of its software for instance, is no signature of it.
                    "other": ((BUNDLE, self.bundle(self.private, digest, "https://spdx.dev/Document"), {}), BUNDLE),
                }[name]
                self.refer(repository, digest, [layer], kind)
                if good:
                    self.accept(repository, "--verify-key", self.public)
                else:
                    self.refuse("signature", repository, "--verify-key", self.public)

    def test_wrong_use(self):
        before = self.store()
        for options, match in ((["--verify-key", self.folder / "nosuch"], "nosuch"),
                               (["--verify-key", self.private], "key"),
                               (["--verify-key", "/dev/null"], "key"),
                               (["--verify-issuer", "https://issuer"], "identity"),
                               (["--verify-identity", "me@example.com"], "issuer"),
                               (["--verify-key", self.public, "--verify-identity", "a", "--verify-issuer", "b"], "exclude"),
                               (["--verify-identity", "a", "--verify-issuer", "b"], "--verify-root"),
                               (["--verify-root", "/dev/null"], "alone|needs|key"),
                               (["--verify-identity", "a", "--verify-issuer", "b", "--verify-root", "/dev/null"], "null")):
            with self.subTest(options):
                self.assert_one_line(self.home.run("pull", *options, self.name("plain:1")), match=match)
                self.assertEqual(self.store(), before)


WHO, VOUCHED = "builder@example.com", "https://issuer.example"
WORKFLOW = "https://forge.example/team/project/.forge/workflows/release.yml@refs/heads/main"


class Keyless(SignatureTest):
    """Certificates, certificate log and transparency log of a world of our own (sigworld.py)."""

    @classmethod
    def prepare(cls):
        super().prepare()
        cls.world = sigworld.World(cls.folder / "world")
        cls.forged = sigworld.World(cls.folder / "forged")

    def options(self, identity=WHO, issuer=VOUCHED, world=None):
        return ["--verify-identity", identity, "--verify-issuer", issuer, "--verify-root",
                (world or self.world).trusted_root]

    def made(self, bundle=False, world=None, identity=WHO, issuer=VOUCHED, **more):
        """A fresh image, signed."""
        repository, digest = self.fresh()
        world = world or self.world
        if bundle:
            self.refer(repository, digest, [(BUNDLE, world.bundle(digest, identity=identity, issuer=issuer, **more), {})],
                       BUNDLE)
        else:
            text, annotations = world.simple(self.name(repository), digest, identity=identity, issuer=issuer, **more)
            self.put_signatures(repository, tag_of(digest), [(SIMPLE, text, annotations)])
        return repository

    @core
    def test_good(self):
        for bundle in (False, True):
            for identity in (WHO, WORKFLOW):
                with self.subTest(bundle=bundle, identity=identity):
                    repository = self.made(bundle, identity=identity)
                    self.accept(repository, *self.options(identity))
                    self.refuse("signature", repository, *self.options("somebody@example.com"))
                    self.refuse("signature", repository, *self.options(identity, "https://issuer.example/"))
                    self.refuse("signature", repository, *self.options(identity, world=self.forged))
                    self.refuse("signature", repository, "--verify-key", self.public)

    @core
    def test_self_made(self):
        """In order in all things, but by authorities of somebody's own."""
        for bundle in (False, True):
            with self.subTest(bundle=bundle):
                repository = self.made(bundle, self.forged)
                self.refuse("signature", repository, *self.options())
                self.accept(repository, *self.options(world=self.forged))

    @core
    def test_expired_and_the_like(self):
        both = ["expired", "no-sct", "bad-sct", "no-log", "bad-log", "other-entry", "signature"]
        for bundle, wrongs in ((False, both), (True, [*both, "bad-proof", "predicate"])):
            for wrong in wrongs:
                with self.subTest(bundle=bundle, wrong=wrong):
                    self.refuse("signature", self.made(bundle, wrong={wrong}), *self.options())

    def test_root_in_the_home_folder(self):
        repository = self.made()
        options = ["--verify-identity", WHO, "--verify-issuer", VOUCHED]
        self.refuse("trusted_root.json", repository, *options)
        (self.home.path / "trusted_root.json").write_bytes(self.world.trusted_root.read_bytes())
        self.accept(repository, *options)
        (self.home.path / "trusted_root.json").write_bytes(self.forged.trusted_root.read_bytes())
        self.refuse("signature", repository, *options)

    def test_key_and_log(self):
        """A key together with a trusted root: the log must know of it, too."""
        key = self.world.key("logged")
        for log in (True, False):
            with self.subTest(log=log):
                repository, digest = self.fresh()
                text, annotations = self.world.simple(self.name(repository), digest, key=key, log=log)
                self.put_signatures(repository, tag_of(digest), [(SIMPLE, text, annotations)])
                self.accept(repository, "--verify-key", key.public)
                options = ["--verify-key", key.public, "--verify-root", self.world.trusted_root]
                if log:
                    self.accept(repository, *options)
                    self.refuse("signature", repository, *options[:3], self.forged.trusted_root)
                else:
                    self.refuse("log", repository, *options)

    @core
    def test_policy(self):
        """What was found good at the pull is good for the run, and not for another identity."""
        for bundle in (False, True):
            with self.subTest(bundle=bundle):
                repository = self.made(bundle, identity=WORKFLOW)
                rule = {"type": "sigstoreSigned", "trustedRootPath": str(self.world.trusted_root),
                        "fulcio": {"oidcIssuer": VOUCHED, "subject": WORKFLOW},
                        "signedIdentity": {"type": "matchDigest" if bundle else "matchRepository"}}
                self.policy({self.registry.host: [rule]})
                name = self.name(repository + ":1")
                self.home.ok("pull", name)
                box = self.home.ok("create", "--pull", "never", name, "true").text.strip()
                self.home.ok("rm", box)
                rule["fulcio"]["subject"] = WORKFLOW + "x"
                self.policy({self.registry.host: [rule]})
                self.assert_one_line(self.home.run("create", "--pull", "never", name, "true"), 125, "policy.json")
                (self.home.path / "policy.json").unlink()
                self.home.ok("rmi", name)


class Indexes(SignatureTest):
    """Images with several platforms: what was signed of them, and what therefore may be kept."""

    def published(self):
        """(repository, index digest, digest of this platform's manifest) of an image that nobody has signed."""
        type(self).count += 1
        layout, repository = self.home.tmp / "layout", "indexed/%d" % self.count
        write_layout(layout, "1", *multi_platform())
        self.fill(repository + ":1", "oci:%s:1" % layout, "--all")
        images.tool("rm", "-r", layout)
        index = self.registry.raw(repository + ":1")
        (manifest,) = [entry["digest"] for entry in json.loads(index)["manifests"]
                       if entry["platform"]["architecture"] == "amd64"]
        return repository, SCRIPT.sha256(index), manifest

    def sign_one(self, repository, digest, private=None):
        text = payload(self.name(repository), digest)
        self.put_signatures(repository, tag_of(digest), [(SIMPLE, text, {SIGNATURE: sign(private or self.private, text)})])

    @core
    def test_all_platforms(self):
        """Whoever signed one platform has not vouched for the others."""
        repository, index, manifest = self.published()
        self.sign_one(repository, manifest)
        self.refuse("not signed|not accepted", repository, "--all-platforms", "--verify-key", self.public)
        self.refuse("signature|not signed", repository, "--platform", "linux/s390x", "--verify-key", self.public)
        self.sign_one(repository, index)
        self.accept(repository, "--all-platforms", "--verify-key", self.public)

    @core
    def test_manifest_alone(self):
        """Then the index that led to it is not kept, and cannot be passed on under our own signature."""
        repository, index, manifest = self.published()
        self.sign_one(repository, manifest)
        name, options = self.name(repository + ":1"), ("--verify-key", self.public)
        told = self.home.ok("pull", *options, name).err.decode()
        self.assertIn("Digest: " + manifest, told)
        self.assertIn("newer", told)
        self.assertFalse((self.home.path / "images/blobs/sha256" / index[7:]).exists())
        (image,) = json.loads(self.home.ok("image-inspect", name).out)
        self.assertEqual(image["RepoDigests"], [self.name(repository + "@" + manifest)])
        self.assertIn("up to date", self.home.ok("pull", *options, name).err.decode())
        self.home.ok("push", "--sign-key", self.private, name, self.name("passed/on:1"))
        self.assertEqual(SCRIPT.sha256(self.registry.raw("passed/on:1")), manifest)
        # An index that was here without a check goes, too.
        self.home.ok("pull", name)
        self.assertTrue((self.home.path / "images/blobs/sha256" / index[7:]).exists())
        self.home.ok("pull", *options, name)
        (image,) = [row for row in json.loads(self.home.ok("image-inspect", name).out)]
        self.home.ok("push", name, self.name("passed/on:2"))
        self.assertEqual(SCRIPT.sha256(self.registry.raw("passed/on:2")), manifest)

    def test_manifest_alone_by_the_digest_of_the_index(self):
        repository, index, manifest = self.published()
        self.sign_one(repository, manifest)
        self.policy({self.registry.host: self.by_key()})
        name = self.name(repository + "@" + index)
        self.home.ok("pull", name)
        self.home.ok("rm", self.home.ok("create", "--pull", "never", name, "true").text.strip())
        self.home.ok("rm", self.home.ok("create", "--pull", "always", name, "true").text.strip())
        self.home.ok("rmi", name)
        self.assertFalse(self.rows())

    def test_in_parts(self):
        repository, index, manifest = self.published()
        self.sign_one(repository, index)
        self.sign_one(repository, manifest, self.foreign)
        self.policy({self.registry.host: self.by_key() + self.by_key(self.foreign_public)})
        self.refuse("in part", repository)

    @core
    def test_run_by_the_index(self):
        repository, index, manifest = self.published()
        self.sign_one(repository, index)
        self.policy({self.registry.host: self.by_key()})
        self.home.ok("pull", self.name(repository + ":1"))
        image = self.home.ok("images", "-q").text.strip()
        for wanted in (self.name(repository + ":1"), self.name(repository + "@" + index),
                       self.name(repository + "@" + manifest), image):
            self.home.ok("rm", self.home.ok("create", "--pull", "never", wanted, "true").text.strip())


class Unreachable(SignatureTest):
    """A registry that has the image, but does not tell of its signatures."""

    contents = ()

    def setUp(self):
        super().setUp()
        tree = SCRIPT.Tree()
        tree.file("f", os.urandom(1000))
        self.fake = registry_fake.Registry(*SCRIPT.image_blobs([tree.bytes()]))

    def tearDown(self):
        self.fake.close()
        super().tearDown()

    @core
    def test_fails_closed(self):
        before = self.store()
        for status, body in ((500, b""), (403, b""), (200, b"rubbish"), (200, b"{}"), (200, b'{"layers":[{}]}'),
                             (200, b'{"layers":[{"mediaType":"%s"}]}' % SIMPLE.encode()), (404, b"")):
            with self.subTest(status=status, body=body):
                def hook(request, status=status, body=body):
                    if ".sig" not in request.path and "/referrers/" not in request.path and \
                            not request.path.endswith("/sha256-" + registry_fake.digest(self.fake.manifest)[7:]):
                        return False
                    request.answer(status, body, Content_Type=MANIFEST_TYPE)
                    return True

                self.fake.hook = hook
                self.assert_one_line(self.home.run("pull", "--verify-key", self.public, self.fake.name), 1,
                                     "not signed" if status == 404 or body == b"{}" else "sign")
                self.assertEqual(self.store(), before)
        # Of the image nothing was fetched but its manifest.
        self.assertEqual([path for path, _ in self.fake.requests if "/blobs/" in path], [])
