"""A world of signatures of one's own: authorities, logs, keys, and what cosign would write with them.

Only the standard library and the `openssl` command. Certificates are put together here rather than by `openssl x509`,
because a certificate log signs them without the timestamp that they then contain.

    world = World(folder)
    world.trusted_root              # trusted_root.json, for pull --verify-root
    key = world.key("signer")       # key.private, key.public: PEM files
    payload, annotations = world.simple(repository, digest, key=key)
    payload, annotations = world.simple(repository, digest, identity="me@example.com", issuer="https://issuer.example")
    document = world.bundle(digest, identity=…, issuer=…)      # a sigstore bundle, version 0.3

What is wrong with a signature is said by `wrong`, a set of:

    expired      entered in the log an hour after the certificate had ended
    no-sct       no certificate log has seen the certificate
    bad-sct      its timestamp is for another certificate
    no-log       without the log's promise or proof
    bad-log      the log's promise is about another time
    other-entry  the log's entry, all in order, is about another signature
    bad-proof    (bundle) the proof leads elsewhere
    predicate    (bundle) a statement about the image that is no signature of it
    signature    one bit of the signature is another

Another World is what somebody else makes for himself: everything in it is in order, and nobody trusts it.
"""

import base64
import hashlib
import json
import pathlib
import subprocess
import time

SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PREDICATE = "https://sigstore.dev/cosign/sign/v1"
HOUR = 3600


def b64(data):
    return base64.b64encode(data).decode()


def openssl(*args, data=None):
    return subprocess.run(["openssl", *map(str, args)], input=data, check=True, capture_output=True).stdout


# ---- DER ----


def der(tag, *parts):
    data = b"".join(parts)
    n = len(data)
    if n < 128:
        return bytes([tag, n]) + data
    size = n.to_bytes((n.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + data


def seq(*parts):
    return der(0x30, *parts)


def integer(n):
    return der(2, n.to_bytes(n.bit_length() // 8 + 1, "big"))


def oid(text):
    first, second, *rest = map(int, text.split("."))
    out = bytearray()
    for n in (first * 40 + second, *rest):
        part = [n & 127]
        while n := n >> 7:
            part.append(n & 127 | 128)
        out += bytes(reversed(part))
    return der(6, bytes(out))


def when(seconds):
    return der(0x18, time.strftime("%Y%m%d%H%M%SZ", time.gmtime(seconds)).encode())


def name(text):
    return seq(der(0x31, seq(oid("2.5.4.3"), der(0x0C, text.encode())))) if text else seq()


def extension(which, content, critical=False):
    return seq(oid(which), der(1, b"\xff") if critical else b"", der(4, content))


ECDSA_SHA256 = seq(oid("1.2.840.10045.4.3.2"))


def pem(label, data):
    return f"-----BEGIN {label}-----\n{base64.encodebytes(data).decode()}-----END {label}-----\n"


class Key:
    """An ECDSA key on P-256 (or what kind says to openssl genpkey), as PEM files."""

    def __init__(self, folder, title, kind=("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")):
        self.private = folder / f"{title}.key"
        self.public = folder / f"{title}.pub"
        if not self.private.exists():
            openssl("genpkey", *kind, "-out", self.private)
        self.public.write_bytes(openssl("pkey", "-in", self.private, "-pubout"))
        self.spki = openssl("pkey", "-in", self.private, "-pubout", "-outform", "DER")
        self.id = hashlib.sha256(self.spki).digest()

    def sign(self, data):
        return openssl("dgst", "-sha256", "-sign", self.private, data=data)


class Authority:
    """Who signs certificates: a root, or below another authority."""

    def __init__(self, folder, title, above=None):
        self.key = Key(folder, title)
        self.name = title
        self.above = above or self
        start = int(time.time()) - 1000 * HOUR
        extensions = [
            extension("2.5.29.15", der(3, b"\x01\x06"), True),  # keyCertSign, cRLSign
            extension("2.5.29.19", seq(der(1, b"\xff")), True),
            extension("2.5.29.14", der(4, self.key.id[:20])),
            extension("2.5.29.35", seq(der(0x80, self.above.key.id[:20]))),
        ]
        if above:
            extensions.append(extension("2.5.29.37", seq(oid("1.3.6.1.5.5.7.3.3"))))
        self.certificate = self.above.issue(title, self.key.spki, start, start + 20000 * HOUR, extensions)

    def tbs(self, subject, spki, start, end, extensions):
        return seq(
            der(0xA0, integer(2)),
            integer(int.from_bytes(hashlib.sha256(spki).digest()[:8], "big")),
            ECDSA_SHA256,
            name(self.name),
            seq(when(start), when(end)),
            name(subject),
            spki,
            der(0xA3, seq(*extensions)),
        )

    def issue(self, *args):
        tbs = self.tbs(*args)
        return seq(tbs, ECDSA_SHA256, der(3, b"\0", self.key.sign(tbs)))


# ---- Merkle tree (RFC 9162, 2.1) ----


def tree_hash(leaves):
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + tree_hash(leaves[:k]) + tree_hash(leaves[k:])).digest()


def proof(leaves, i):
    if len(leaves) == 1:
        return []
    k = 1 << (len(leaves) - 1).bit_length() - 1
    if i < k:
        return proof(leaves[:k], i) + [tree_hash(leaves[k:])]
    return proof(leaves[k:], i - k) + [tree_hash(leaves[:k])]


def compact(document):
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


class World:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.root = Authority(self.folder, "root")
        self.ca = Authority(self.folder, "intermediate", self.root)
        self.log = Key(self.folder, "rekor")
        self.ct = Key(self.folder, "ctlog")
        self.trusted_root = self.folder / "trusted_root.json"
        self.trusted_root.write_text(json.dumps(self._trusted_root(), indent=1))
        self.authorities = self.folder / "authorities.pem"
        self.authorities.write_text(pem("CERTIFICATE", self.root.certificate))

    def key(self, title, *kind):
        return Key(self.folder, title, *([kind] if kind else []))

    def _trusted_root(self):
        start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 1000 * HOUR))

        def log(key, url):
            return {
                "baseUrl": url,
                "hashAlgorithm": "SHA2_256",
                "publicKey": {"rawBytes": b64(key.spki), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": {"start": start}},
                "logId": {"keyId": b64(key.id)},
            }

        chain = [{"rawBytes": b64(a.certificate)} for a in (self.ca, self.root)]
        return {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(self.log, "https://rekor.example")],
            "ctlogs": [log(self.ct, "https://ct.example")],
            "certificateAuthorities": [
                {
                    "subject": {"organization": "example", "commonName": "root"},
                    "uri": "https://fulcio.example",
                    "certChain": {"certificates": chain},
                    "validFor": {"start": start},
                }
            ],
        }

    # ---- certificates ----

    def certificate(self, spki, identity, issuer, at, wrong=frozenset()):
        """As Fulcio makes them: ten minutes long, with the log's timestamp inside. DER."""
        kind = 0x86 if "://" in identity else 0x81
        extensions = [
            extension("2.5.29.15", der(3, b"\x07\x80"), True),
            extension("2.5.29.37", seq(oid("1.3.6.1.5.5.7.3.3"))),
            extension("2.5.29.14", der(4, hashlib.sha256(spki).digest()[:20])),
            extension("2.5.29.35", seq(der(0x80, self.ca.key.id[:20]))),
            extension("2.5.29.17", seq(der(kind, identity.encode())), True),
            extension("1.3.6.1.4.1.57264.1.1", issuer.encode()),
            extension("1.3.6.1.4.1.57264.1.8", der(0x0C, issuer.encode())),
        ]
        span = (at - 60, at + 540)
        if "no-sct" not in wrong:
            tbs = self.ca.tbs("", spki, *span, extensions)
            stamp = (at * 1000).to_bytes(8, "big")
            data = b"\0\0" + stamp + b"\0\1" + self.ca.key.id + len(tbs).to_bytes(3, "big") + tbs + b"\0\0"
            signature = self.ct.sign(data + b"!" if "bad-sct" in wrong else data)
            sct = b"\0" + self.ct.id + stamp + b"\0\0\4\3" + len(signature).to_bytes(2, "big") + signature
            one = len(sct).to_bytes(2, "big") + sct
            extensions.append(
                extension("1.3.6.1.4.1.11129.2.4.2", der(4, len(one).to_bytes(2, "big") + one)))
        return self.ca.issue("", spki, *span, extensions)

    # ---- the transparency log ----

    def hashedrekord(self, message, signature, verifier):
        return compact({
            "apiVersion": "0.0.1",
            "kind": "hashedrekord",
            "spec": {
                "data": {"hash": {"algorithm": "sha256", "value": hashlib.sha256(message).hexdigest()}},
                "signature": {"content": b64(signature), "publicKey": {"content": b64(verifier)}},
            },
        })

    def dsse(self, payload, signature, verifier):
        return compact({
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": {"algorithm": "sha256", "value": "0" * 64},
                "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
                "signatures": [{"signature": b64(signature), "verifier": b64(verifier)}],
            },
        })

    def promise(self, body, at, index, wrong=frozenset()):
        entry = {"body": b64(body), "integratedTime": at, "logIndex": index, "logID": self.log.id.hex()}
        signed = dict(entry, integratedTime=at + 1) if "bad-log" in wrong else entry
        return entry, self.log.sign(compact(signed))

    def _signed(self, message, key, identity, issuer, wrong):
        """Signature, certificate (DER or None), verifier for the log (PEM), time of the log."""
        at = int(time.time()) - 24 * HOUR
        ephemeral = key or self.key(f"ephemeral-{hashlib.sha256(message).hexdigest()[:8]}")
        certificate = self.certificate(ephemeral.spki, identity, issuer, at, wrong) if identity else None
        signature = ephemeral.sign(message)
        if "signature" in wrong:
            signature = signature[:-1] + bytes([signature[-1] ^ 1])
        verifier = pem("CERTIFICATE", certificate) if certificate else ephemeral.public.read_text()
        return signature, certificate, verifier.encode(), at + (HOUR if "expired" in wrong else 1)

    # ---- signatures ----

    def simple(self, repository, digest, key=None, identity=None, issuer=None, log=None, wrong=()):
        """Payload and annotations of the layer that cosign would add; log: None means only without a key."""
        wrong = frozenset(wrong)
        payload = json.dumps({
            "critical": {
                "identity": {"docker-reference": repository},
                "image": {"docker-manifest-digest": digest},
                "type": "cosign container image signature",
            },
            "optional": None,
        }, separators=(",", ":")).encode()
        signature, certificate, verifier, at = self._signed(payload, key, identity, issuer, wrong)
        annotations = {"dev.cosignproject.cosign/signature": b64(signature)}
        if certificate:
            annotations["dev.sigstore.cosign/certificate"] = pem("CERTIFICATE", certificate)
            chain = (self.ca.certificate, self.root.certificate)
            annotations["dev.sigstore.cosign/chain"] = "".join(pem("CERTIFICATE", c) for c in chain)
        if (certificate if log is None else log) and "no-log" not in wrong:
            other = b"other" if "other-entry" in wrong else b""
            body = self.hashedrekord(payload + other, signature, verifier)
            entry, promise = self.promise(body, at, 7, wrong)
            annotations["dev.sigstore.cosign/bundle"] = json.dumps(
                {"SignedEntryTimestamp": b64(promise), "Payload": entry})
        return payload, annotations

    def bundle(self, digest, key=None, identity=None, issuer=None, wrong=()):
        """A bundle with an envelope around a statement; bytes."""
        wrong = frozenset(wrong)
        algorithm, value = digest.split(":")
        statement = json.dumps({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"digest": {algorithm: value}}],
            "predicateType": "https://slsa.dev/provenance/v1" if "predicate" in wrong else PREDICATE,
            "predicate": {},
        }).encode()
        kind = "application/vnd.in-toto+json"
        message = f"DSSEv1 {len(kind)} {kind} {len(statement)} ".encode() + statement
        signature, certificate, verifier, at = self._signed(message, key, identity, issuer, wrong)
        material = {"certificate": {"rawBytes": b64(certificate)}} if certificate else {"publicKey": {"hint": ""}}
        if "no-log" not in wrong:
            other = b"other" if "other-entry" in wrong else b""
            material["tlogEntries"] = [self.log_entry(self.dsse(statement + other, signature, verifier), at, wrong)]
        return json.dumps({
            "mediaType": BUNDLE,
            "verificationMaterial": material,
            "dsseEnvelope": {"payload": b64(statement), "payloadType": kind, "signatures": [{"sig": b64(signature)}]},
        }).encode()

    def log_entry(self, body, at, wrong=frozenset()):
        leaves = [b"entry %d" % i for i in range(11)]
        index = 5
        leaves[index] = body
        _, promise = self.promise(body, at, 1005, wrong)
        hashes = proof(leaves, index)
        if "bad-proof" in wrong:
            hashes[0], hashes[1] = hashes[1], hashes[0]
        text = f"rekor.example - 1\n{len(leaves)}\n{b64(tree_hash(leaves))}\n"
        note = text + f"\n\u2014 rekor.example {b64(self.log.id[:4] + self.log.sign(text.encode()))}\n"
        document = json.loads(body)
        return {
            "logIndex": "1005",
            "logId": {"keyId": b64(self.log.id)},
            "kindVersion": {"kind": document["kind"], "version": document["apiVersion"]},
            "integratedTime": str(at),
            "inclusionPromise": {"signedEntryTimestamp": b64(promise)},
            "inclusionProof": {
                "logIndex": str(index),
                "rootHash": b64(tree_hash(leaves)),
                "treeSize": str(len(leaves)),
                "hashes": [b64(h) for h in hashes],
                "checkpoint": {"envelope": note},
            },
            "canonicalizedBody": b64(body),
        }
