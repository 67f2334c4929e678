"""policy.json: which signatures images must have, to be pulled and to be run."""

import json
import re

import sigworld
from a3s import ROOT, core
from signatures import SIMPLE, BUNDLE, SIGNATURE, payload, sign, tag_of, SignatureTest


class Policies(SignatureTest):
    """policy.json in the home folder."""

    def allowed(self, image):
        result = self.home.run("create", "--pull", "never", image, "true")
        if result.rc == 0:
            self.home.ok("rm", result.text.strip())
        return result

    def assert_allowed(self, image):
        self.assert_rc(self.allowed(image), 0)

    def assert_denied(self, image, match="policy.json"):
        boxes = self.home.boxes()
        self.assert_one_line(self.allowed(image), 125, match)
        self.assertEqual(self.home.boxes(), boxes)

    @core
    def test_pull(self):
        signed, _ = self.signed()
        foreign, _ = self.signed(self.foreign)
        self.policy({self.name(signed): self.by_key(), self.name(foreign): self.by_key(),
                     self.name("plain"): [{"type": "insecureAcceptAnything"}]})
        self.accept(signed)
        self.accept("plain")
        self.refuse("policy.json.*signature", foreign)
        self.refuse("policy.json.*reject", "other")

    @core
    def test_all_must_be_met(self):
        repository, digest = self.signed()
        both = self.by_key() + self.by_key(self.foreign_public)
        self.policy({self.registry.host: both})
        self.refuse("signature", repository)
        # An option adds to the policy, and cannot take away from it.
        self.policy({self.registry.host: self.by_key(self.foreign_public)})
        self.refuse("signature", repository, "--verify-key", self.public)
        text = payload(self.name(repository), digest)
        self.put_signatures(repository, tag_of(digest), [(SIMPLE, text, {SIGNATURE: sign(key, text)})
                                                         for key in (self.private, self.foreign)])
        self.policy({self.registry.host: both})
        self.accept(repository)

    def test_identity(self):
        """The signer meant another repository: a copy with its signature is not what was signed."""
        repository, digest = self.signed()
        manifest = json.loads(self.registry.raw("%s:%s" % (repository, tag_of(digest))))
        layer = manifest["layers"][0]
        copy, _ = self.fresh()
        self.put_signatures(copy, tag_of(digest), [(SIMPLE, self.blob(repository, layer["digest"]), layer["annotations"])])
        self.policy({self.registry.host: self.by_key()})
        self.accept(repository)
        self.refuse("policy.json", copy)
        self.policy({self.registry.host: [dict(self.by_key()[0], signedIdentity={
            "type": "exactRepository", "dockerRepository": self.name(repository)})]})
        self.accept(copy)

    @core
    def test_run(self):
        """A pull keeps what was good: runs are judged by it, without the registry, by the policy as it is then."""
        repository, _ = self.signed()
        name = self.name(repository + ":1")
        self.policy({self.registry.host: self.by_key()})
        self.home.ok("pull", name)
        image = self.home.ok("images", "-q").text.strip()
        self.assert_allowed(name)
        self.assert_allowed(image)
        self.assert_runs(name)
        self.policy({self.registry.host: self.by_key(self.foreign_public)})
        for wanted in (name, image):
            self.assert_denied(wanted, "policy.json.*its signature is not accepted")
            self.assertNotIn("pull it again", self.allowed(wanted).err.decode())
        self.policy({}, "reject")
        self.assert_denied(name, "policy.json.*reject")
        self.policy({}, "insecureAcceptAnything")
        self.assert_allowed(name)
        (self.home.path / "policy.json").unlink()
        self.assert_allowed(name)

    @core
    def test_came_before_the_policy(self):
        """A pull of what is there already fetches the signatures that are missed."""
        repository, _ = self.signed()
        name = self.name(repository + ":1")
        self.home.ok("pull", name)
        self.policy({self.registry.host: self.by_key()})
        self.assert_denied(name, "not signed.*pull it again")
        self.home.ok("pull", name)
        self.assert_allowed(name)

    def test_a_box_that_is_there_goes_on(self):
        self.home.load(self.image_file("box"))
        box = self.home.ok("create", "box", "echo", "hello").text.strip()
        self.policy({}, "reject")
        self.assert_out(self.home.run("start", "-a", box), "hello\n")
        self.home.ok("rm", box)

    @core
    def test_loaded(self):
        """What never was in a registry has no signature."""
        self.policy({"docker.io": self.by_key()}, "insecureAcceptAnything")
        self.home.load(self.image_file("box"))
        image = self.home.ok("images", "-q").text.strip()
        self.assert_denied("box", "policy.json.*not signed")
        self.assert_denied(image, "policy.json.*not signed")
        self.assert_one_line(self.home.run("run", "--rm", "box", "true"), 125, "policy.json")
        # Another name, other rules: names are the user's own to give.
        self.home.ok("tag", "box", "localhost/box:1")
        self.assert_allowed("localhost/box:1")
        self.assert_denied("box")

    @core
    def test_the_name_that_is_used(self):
        """Not another that the image has, or had: the tag has moved on, and the digest leads here all the same."""
        accept = [{"type": "insecureAcceptAnything"}]
        repository, digest = self.fresh()
        name, exact = self.name(repository + ":1"), self.name(repository + "@" + digest)
        self.home.ok("pull", name)
        self.policy({exact: [{"type": "reject"}]}, "insecureAcceptAnything")
        self.assert_allowed(name)
        self.assert_denied(exact, "policy.json.*reject")
        self.home.ok("tag", name, "localhost/other:1")
        self.registry.skopeo("copy", "--src-tls-verify=false", "docker://" + self.name("other:1"), "docker://" + name)
        self.home.ok("pull", name)
        self.policy({self.registry.host: self.by_key()}, "insecureAcceptAnything")
        self.assert_denied(exact, "image %s.*not signed" % exact)
        self.assert_allowed("localhost/other:1")
        self.home.ok("rmi", "localhost/other:1")
        self.policy({self.registry.host: self.by_key(), self.name(repository + ":1"): accept}, "insecureAcceptAnything")
        self.assert_allowed(name)
        self.assert_refused_by_digest(exact)

    def assert_refused_by_digest(self, exact):
        """By a pull and by a run alike."""
        self.assert_one_line(self.home.run("pull", exact), 1, "policy.json.*not signed")
        if self.home.run("image-inspect", exact).rc == 0:
            self.assert_denied(exact, "policy.json.*not signed")

    def test_tag_beside_a_digest(self):
        """It says nothing, to the policy as to the registry."""
        repository, digest = self.fresh()
        self.policy({self.registry.host: self.by_key(),
                     self.name(repository + ":dev"): [{"type": "insecureAcceptAnything"}]})
        for tag in ("", ":dev"):
            self.assert_refused_by_digest(self.name("%s%s@%s" % (repository, tag, digest)))

    @core
    def test_pull_and_run_agree(self):
        """cosign signs a repository, and without signedIdentity that is enough where a digest is asked for."""
        repository, digest = self.signed()
        name, exact = self.name(repository + ":1"), self.name(repository + "@" + digest)
        self.home.ok("pull", name)
        self.policy({self.registry.host: [{"type": "sigstoreSigned", "keyPath": str(self.public)}]})
        self.home.ok("pull", exact)
        self.assert_allowed(exact)
        self.home.ok("rm", self.home.ok("create", "--pull", "always", exact, "true").text.strip())
        self.assert_one_line(self.home.run("pull", name), 1, "another name")
        self.assert_denied(name, "another name")

    def test_hosts_in_any_case(self):
        repository, _ = self.fresh()
        port = self.registry.host.rpartition(":")[2]
        for scope in ("localhost:" + port, "LocalHost:" + port):
            self.policy({scope: self.by_key()}, "insecureAcceptAnything")
            for host in ("localhost:", "LOCALHOST:"):
                with self.subTest(scope=scope, host=host):
                    self.assert_one_line(self.home.run("pull", "%s%s/%s:1" % (host, port, repository)), 1, "not signed")
        (self.home.path / "policy.json").unlink()
        name = "LOCALHOST:%s/%s:1" % (port, repository)
        self.assert_out(self.home.run("pull", "-q", name), name.lower() + "\n")
        self.home.ok("pull", name)
        self.assertEqual([row[0] for row in self.rows()], ["localhost:%s/%s" % (port, repository)])
        self.assert_allowed(name)

    @core
    def test_by_id(self):
        """Under each of its names; without one, as each registry calls it; with neither by default."""
        good, _ = self.signed()
        name = self.name(good + ":1")
        self.policy({self.registry.host: self.by_key()})
        self.home.ok("pull", name)
        image = self.home.ok("images", "-q", "--no-trunc").text.strip()
        self.assert_allowed(image)
        self.home.ok("tag", name, "localhost/other:1")
        self.assert_allowed(name)
        self.assert_denied(image, "as localhost/other:1: it rejects")
        self.home.ok("rmi", "localhost/other:1")
        self.assert_allowed(image)
        # Its only name leads elsewhere; what the registry served it as is still known.
        self.registry.skopeo("copy", "--src-tls-verify=false", "docker://" + self.name("other:1"), "docker://" + name)
        self.policy({}, "insecureAcceptAnything")
        self.home.ok("pull", name)
        self.policy({self.registry.host: self.by_key()}, "reject")
        self.assert_allowed(image)
        self.policy({self.registry.host: self.by_key(self.foreign_public)}, "insecureAcceptAnything")
        self.assert_denied(image, "as %s@sha256:.*not accepted" % self.name(good))

    @core
    def test_example_of_the_documentation(self):
        """Literally, but for host and key: signatures by us and by cosign are accepted, by tag."""
        text = (ROOT / "docs/commands.md").read_text()
        examples = [block.replace("\n    ", "\n").strip() for block in re.findall(
            r'\n\n    (\{"default".*?)\n\n', text.partition("### policy.json")[2], re.DOTALL)]
        self.assertEqual(len(examples), 2)
        by_key, keyless = (example.replace("registry.example", self.registry.host) for example in examples)
        self.assertIn("/etc/a3s/cosign.pub", by_key)
        self.assertIn("/etc/a3s/trusted_root.json", keyless)
        self.policy(by_key.replace("/etc/a3s/cosign.pub", str(self.public)))
        theirs, _ = self.signed()
        foreign, _ = self.signed(self.foreign)
        self.accept(theirs)
        self.refuse("policy.json.*signature", foreign)
        self.refuse("policy.json.*not signed", "plain")
        self.home.load(self.image_file("box"))
        name = self.name("documented:1")
        self.home.ok("tag", "box", name)
        self.home.ok("push", "--sign-key", self.private, name)
        self.assert_allowed(name)
        self.home.ok("rmi", "-f", name, "box")
        self.accept("documented")
        world = sigworld.World(self.folder / "documented")
        self.policy(keyless.replace("/etc/a3s/trusted_root.json", str(world.trusted_root)))
        for who, good in (("me@example.org", True), ("you@example.org", False)):
            repository, digest = self.fresh()
            self.refer(repository, digest, [(BUNDLE, world.bundle(
                digest, identity=who, issuer="https://accounts.google.com"), {})], BUNDLE)
            if good:
                self.accept(repository)
            else:
                self.refuse("policy.json.*signature", repository)

    def test_archives(self):
        """What a policy says of them is either nothing or refused: it would not be kept."""
        self.home.load(self.image_file("box"))
        accept, reject = [{"type": "insecureAcceptAnything"}], [{"type": "reject"}]
        for transport in ("docker-archive", "oci-archive"):
            for rules, good in ((accept, True), (reject, False)):
                with self.subTest(transport=transport, good=good):
                    self.policy(json.dumps({"default": accept, "transports": {transport: {"": rules}}}))
                    if good:
                        self.assert_allowed("box")
                    else:
                        self.assert_denied("box", "policy.json.*%s.*archives are not judged" % transport)

    def test_without_a_name(self):
        self.home.load(self.image_file("box"))
        image = self.home.ok("images", "-q", "--no-trunc").text.strip()
        self.home.load(self.image_file("layers"))
        self.home.ok("tag", "layers", "box:latest")
        for default, good in (("insecureAcceptAnything", True), ("reject", False)):
            self.policy({}, default)
            if good:
                self.assert_allowed(image)
            else:
                self.assert_denied(image)
        self.policy(json.dumps({"default": self.by_key()}))
        self.assert_denied(image, "not signed")

    @core
    def test_policy_that_is_not_understood(self):
        self.home.load(self.image_file("box"))
        repository, _ = self.signed()
        for text in ("", "{", "[]", "{}", '{"default":[]}', '{"default":[{"type":"signedBy"}]}',
                     '{"default":[{"type":"insecureAcceptAnything"}],"more":1}',
                     '{"default":[{"type":"insecureAcceptAnything"}],"default":[{"type":"reject"}]}',
                     '{"default":[{"type":"sigstoreSigned","keyPath":"/nosuch"}]}'):
            with self.subTest(text):
                self.policy(text)
                self.refuse("policy.json", repository)
                self.assert_denied("box")
        path = self.home.path / "policy.json"
        path.unlink()
        path.mkdir()
        try:
            self.refuse("policy.json", repository)
            self.assert_denied("box")
        finally:
            path.rmdir()
        path.symlink_to("nosuch")
        self.refuse("policy.json", repository)
        self.assert_denied("box")
