"""Keys, signatures and what carries them, for the tests of signatures."""

import base64
import ctypes
import ctypes.util
import hashlib
import json
import os
import unittest
import urllib.request

import images
from registries import openssl
from test_registry import INDEX_TYPE, RegistryTest

SCRIPT = images.busybox_image
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
PASSWORD = "correct horse"

KEYS = {"p256": ("EC", "ec_paramgen_curve:P-256"), "p384": ("EC", "ec_paramgen_curve:P-384"),
        "rsa": ("RSA", "rsa_keygen_bits:2048"), "ed25519": ("ED25519", None)}


def make_key(folder, name, kind="p256"):
    """(private, public) files."""
    private, public = folder / (name + ".key"), folder / (name + ".pub")
    algorithm, option = KEYS[kind]
    openssl("genpkey", "-algorithm", algorithm, *(["-pkeyopt", option] if option else []), "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    for path in (private, public):
        path.chmod(0o644)
    return private, public


def sealed_key(private, out, password, label="ENCRYPTED COSIGN PRIVATE KEY"):
    """The key as "cosign generate-key-pair" keeps it: scrypt and NaCl's secretbox."""
    library = ctypes.util.find_library("sodium")
    if not library:
        raise unittest.SkipTest("libsodium is not installed")
    sodium = ctypes.CDLL(library)
    der = openssl("pkcs8", "-topk8", "-nocrypt", "-in", private, "-outform", "DER")
    salt, nonce = os.urandom(32), os.urandom(24)
    key = hashlib.scrypt(password.encode(), salt=salt, n=32768, r=8, p=1, dklen=32, maxmem=1 << 26)
    box = ctypes.create_string_buffer(len(der) + 16)
    sodium.crypto_secretbox_easy(box, der, ctypes.c_ulonglong(len(der)), nonce, key)

    def text(data):
        return base64.b64encode(data).decode()

    sealed = json.dumps({"kdf": {"name": "scrypt", "params": {"N": 32768, "r": 8, "p": 1}, "salt": text(salt)},
                         "cipher": {"name": "nacl/secretbox", "nonce": text(nonce)}, "ciphertext": text(box.raw)})
    lines = base64.encodebytes(sealed.encode()).decode()
    out.write_text("-----BEGIN %s-----\n%s-----END %s-----\n" % (label, lines, label))
    return out


def payload(repository, digest, **critical):
    """As cosign writes it."""
    return json.dumps({"critical": {"identity": {"docker-reference": repository},
                                    "image": {"docker-manifest-digest": digest},
                                    "type": "cosign container image signature", **critical}, "optional": None},
                      separators=(",", ":")).encode()


def sign(private, data):
    return base64.b64encode(openssl("dgst", "-sha256", "-sign", private, data=data)).decode()


def tag_of(digest):
    return digest.replace(":", "-") + ".sig"


class SignatureTest(RegistryTest):
    contents = (("plain:1", "box"), ("other:1", "layers"))

    @classmethod
    def prepare(cls):
        super().prepare()
        cls.folder = cls.home.base / "keys"
        cls.folder.mkdir()
        cls.private, cls.public = make_key(cls.folder, "ours")
        cls.foreign, cls.foreign_public = make_key(cls.folder, "foreign")
        cls.count = 0

    def tearDown(self):
        (self.home.path / "policy.json").unlink(missing_ok=True)
        (self.home.path / "trusted_root.json").unlink(missing_ok=True)
        super().tearDown()

    # ---- the registry, without a client in between

    def request(self, method, path, data=None, content_type=None):
        rq = urllib.request.Request(path if path.startswith("http") else "http://%s/v2/%s" % (self.registry.host, path),
                                    data, {"Content-Type": content_type} if content_type else {}, method=method)
        with urllib.request.urlopen(rq, timeout=30) as answer:
            return answer.read(), answer.headers

    def blob(self, repository, digest):
        return self.request("GET", "%s/blobs/%s" % (repository, digest))[0]

    def put_blob(self, repository, data):
        where = self.request("POST", repository + "/blobs/uploads/", b"")[1]["Location"]
        digest = SCRIPT.sha256(data)
        self.request("PUT", where + ("&" if "?" in where else "?") + "digest=" + digest, data, "application/octet-stream")
        return digest

    def put_manifest(self, repository, reference, manifest, kind=MANIFEST_TYPE):
        data = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
        self.request("PUT", "%s/manifests/%s" % (repository, reference), data, kind)
        return {"mediaType": kind, "digest": SCRIPT.sha256(data), "size": len(data)}

    def put_signatures(self, repository, reference, layers, **more):
        """A manifest of signatures: (type, content, annotations) each."""
        config = json.dumps({"architecture": "", "os": "", "config": {}, "rootfs": {"type": "layers", "diff_ids": [
            SCRIPT.sha256(content) for _, content, _ in layers]}}).encode()
        descriptors = [{"mediaType": kind, "digest": self.put_blob(repository, content), "size": len(content),
                        "annotations": annotations} for kind, content, annotations in layers]
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": {
            "mediaType": CONFIG_TYPE, "digest": self.put_blob(repository, config), "size": len(config)},
            "layers": descriptors, **more}
        return self.put_manifest(repository, reference or SCRIPT.sha256(json.dumps(manifest).encode()), manifest)

    def fresh(self, source="plain:1"):
        """(repository, digest) of an image in a repository that has no signatures."""
        type(self).count += 1
        repository = "fresh/%d" % self.count
        self.registry.skopeo("copy", "--src-tls-verify=false", "docker://" + self.name(source),
                             "docker://" + self.name(repository + ":1"))
        return repository, SCRIPT.sha256(self.registry.raw(repository + ":1"))

    def signed(self, private=None, **critical):
        """A fresh image with a signature, by openssl."""
        repository, digest = self.fresh()
        text = payload(self.name(repository), digest, **critical)
        self.put_signatures(repository, tag_of(digest), [(SIMPLE, text, {SIGNATURE: sign(private or self.private, text)})])
        return repository, digest

    def refer(self, repository, digest, layers, artifact_type):
        """As clients do where the registry has no referrers API: an index under a tag made of the digest."""
        size = len(self.registry.raw("%s@%s" % (repository, digest)))
        entry = self.put_signatures(repository, None, layers, artifactType=artifact_type,
                                    subject={"mediaType": MANIFEST_TYPE, "digest": digest, "size": size})
        self.put_manifest(repository, digest.replace(":", "-"), {
            "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [dict(entry, artifactType=artifact_type)]},
            INDEX_TYPE)

    # ---- judgements

    def accept(self, repository, *options):
        self.home.ok("pull", *options, self.name(repository + ":1"))
        self.assertIn((self.name(repository), "1"), self.rows())
        self.home.ok("rmi", self.name(repository + ":1"))

    def refuse(self, match, repository, *options):
        before = self.store()
        self.assert_one_line(self.home.run("pull", *options, self.name(repository + ":1")), 1, match)
        self.assertEqual(self.store(), before)

    def policy(self, rules, default="reject"):
        """rules: {scope: requirements} of registries; as containers-policy.json(5) has it."""
        text = rules if isinstance(rules, str) else json.dumps(
            {"default": [{"type": default}], "transports": {"docker": rules}})
        (self.home.path / "policy.json").write_text(text)

    def by_key(self, public=None, identity="matchRepository"):
        return [{"type": "sigstoreSigned", "keyPath": str(public or self.public), "signedIdentity": {"type": identity}}]
