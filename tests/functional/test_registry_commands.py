"""The commands that talk to registries: pull, push, login, logout; what they print, refuse and ask for."""

import json
import re
import signal
import termios

import a3s
import registries
import registry_fake
from a3s import core
from test_image_commands import ImageCommandTest, make_archive, layer, SCRIPT


class Registries(ImageCommandTest):
    def setUp(self):
        super().setUp()
        self.registry = registry_fake.Registry(*SCRIPT.image_blobs([layer(f="f" * 100000), layer(g="g")]))
        self.digest = registry_fake.digest(self.registry.manifest)

    def tearDown(self):
        self.registry.close()
        super().tearDown()

    @core
    def test_what_pull_prints(self):
        name = self.registry.name
        result = self.home.ok("pull", name)
        self.assertEqual(result.text, name + "\n")
        err = result.err.decode().splitlines()
        self.assertEqual(err[-2:], ["Digest: " + self.digest, "Status: Downloaded newer image for " + name])
        for one in self.registry.layers:
            self.assertIn("%s: Download complete" % one[7:19], err)
        result = self.home.ok("pull", name)
        self.assertEqual(result.err.decode().splitlines()[-1], "Status: Image is up to date for " + name)
        result = self.home.ok("pull", "-q", name)
        self.assertEqual((result.text, result.err), (name + "\n", b""))
        (line,) = self.lines("images", "--format", "{{.Digest}}")
        self.assertEqual(line, self.digest)
        self.assertEqual(self.inspect_image(name)["RepoDigests"], ["%s@%s" % (name[:-2], self.digest)])

    def test_by_digest(self):
        """It is a row of its own only while no tag of the repository leads there."""
        repository = self.registry.name[:-2]
        self.home.ok("pull", "-q", "%s@%s" % (repository, self.digest))
        row = self.lines("images", "--digests")[1].split()
        self.assertEqual(row[:3], [repository, "<none>", self.digest])
        self.assertEqual(len(self.lines("images", "-q", "-f", "dangling=true")), 1)
        self.home.ok("pull", "-q", self.registry.name)
        self.assertEqual([x.split()[:2] for x in self.lines("images")[1:]], [[repository, "1"]])

    @core
    def test_what_is_evicted_is_said(self):
        """By a load and by a pull, a line for each name; the events say why."""
        small = {"A3S_IMAGE_CACHE_SIZE": "1k"}
        name = self.registry.name
        said = b"a3s-box: warning: %s was removed to keep the image store below 1k\n" % name.encode()
        self.home.ok("pull", "-q", name)
        make_archive(self.home.tmp / "made.tar", "loaded:1", [layer(one="1")])
        result = self.home.ok("load", "-q", "-i", self.home.tmp / "made.tar", env=small)
        self.assertEqual(result.err.count(said), 1, result)
        self.assertEqual(self.lines("images", "--format", "{{.Repository}}"), ["loaded"])
        events = [json.loads(line) for line in self.lines("events", "--since", "1h", "--until", "0s", "--format", "json")]
        gone = {e["Action"]: e["Actor"]["Attributes"].get("reason") for e in events if e["Type"] == "image"}
        self.assertEqual((gone["untag"], gone["delete"], gone["pull"]), ("evicted", "evicted", None))

        self.home.ok("pull", "-q", name)
        self.registry.add("2", *SCRIPT.image_blobs([layer(other="x")]))
        result = self.home.ok("pull", "-q", name[:-1] + "2", env=small)
        self.assertEqual((result.text, result.err), (name[:-1] + "2\n", said))
        self.home.ok("pull", "-q", name)
        with a3s.Terminal(self.home, "pull", name[:-1] + "3", env=small, rows=24, cols=100) as t:
            self.registry.add("3", *SCRIPT.image_blobs([layer(third="x")]))
            status, seen = t.finish()
        self.assertEqual(status, 0, seen)
        # Above the frame, which is drawn anew below it.
        self.assertRegex(seen, rb"\x1b\[J(a3s-box: warning: .*\r\n)*" + said.replace(b"\n", b"\r\n") +
                         rb"(a3s-box: warning: .*\r\n)*[0-9a-f]{12}: Download complete")
        result = self.home.ok("pull", "-q", name, env={"A3S_IMAGE_CACHE_SIZE": "much"})
        self.assertEqual(result.err.count(b"\n"), 1, result)
        self.assertIn(b'A3S_IMAGE_CACHE_SIZE: "much" is no size', result.err)

    def test_on_a_terminal(self):
        """A line for each layer, redrawn; the last frame stays."""
        with a3s.Terminal(self.home, "pull", self.registry.name, rows=24, cols=100) as t:
            status, seen = t.finish()
        self.assertEqual(status, 0, seen)
        frame = seen.decode().rpartition("\r")[0].rpartition("\x1b[")[0]
        for one in self.registry.layers:
            self.assertIn("%s: Download complete" % one[7:19], frame)
        self.assertRegex(seen, rb"Total: [0-9]+B/[0-9]+B[^\n]* in [0-9.]+s\x1b\[K\r\n\x1b\[JDigest: ")

    @core
    def test_bad_use(self):
        name = self.registry.name
        key = self.home.tmp / "key.pub"
        key.write_text("x")
        for args, match in (
                ([], "exactly one image"), (["a", "b"], "exactly one image"), (["--nosuch", "a"], "--nosuch"),
                (["-a", name], "--all-tags takes a repository"),
                (["--all-platforms", "--platform", "linux/amd64", name], "exclude each other"),
                (["--verify-key", key, "--verify-identity", "x", name], "--verify-key excludes"),
                (["--verify-identity", "x", name], "--verify-identity needs --verify-issuer"),
                (["--verify-issuer", "x", name], "--verify-issuer needs --verify-identity"),
                (["--verify-root", key, name], "--verify-root needs"),
                (["--verify-key", "/nosuch", name], "/nosuch"), (["--verify-key", key, name], "key"),
                (["--platform", "a/b/c/d", name], "platform"),
                (["docker://" + name], r"invalid image name .*\(leave out docker://\)"),
                (["https://registry.example/x"], r"\(leave out https://\)")):
            with self.subTest(args):
                self.assert_one_line(self.home.run("pull", *args), 1, match)
        self.registry.hook = lambda rq: rq.answer(400) or True
        self.assert_one_line(self.home.run("pull", "--plain-http", name), 1, r"\(it may speak TLS: leave out --plain-http\)")
        for args, match in (([], "needed"), (["a", "b", "c"], "needed"), (["nosuch"], "no such image: nosuch"),
                            (["-a", name], "--all-tags takes one repository"),
                            (["-a", "x", "y"], "--all-tags takes one repository"),
                            (["-a", "nosuch"], "no image of repository nosuch is here")):
            with self.subTest(args):
                self.assert_one_line(self.home.run("push", *args), 1, match)
        self.assertEqual(self.lines("images", "-q"), [])

    def test_login_bad_use(self):
        for args, match in ((["a", "b"], "one registry"), (["-u", "me", "-p", "x", "--password-stdin"], "exclude each other"),
                            (["--password-stdin"], "needs --username"), (["-u", "", "-p", "x"], "--username is empty"),
                            (["-u", "a:b", "--password-stdin"], "no colon"),
                            (["-u", "me", "--password-stdin", "https://"], "no address of a registry"),
                            (["-u", "me", "--password-stdin", self.registry.origin], "password is empty")):
            with self.subTest(args):
                self.assert_one_line(self.home.run("login", *args, input=b"\n"), 1, match)
        setsid = ("setsid", "-w")
        self.assert_one_line(self.home.run("login", wrap=setsid), 1, "no terminal.*--username")
        self.assert_one_line(self.home.run("login", "-u", "me", wrap=setsid), 1, "no terminal.*--password-stdin")
        self.assert_one_line(self.home.run("logout", "a", "b"), 1, "one registry")
        self.assert_out(self.home.run("logout", "registry.example"), "Not logged in to registry.example\n")

    def test_login_by_any_name(self):
        """Docker Hub's, a browser's, and in capitals."""
        for given in ((), ("docker.io",), ("https://index.docker.io/v1/",), ("REGISTRY-1.docker.io",),
                      ("registry.hub.docker.com",)):
            self.assert_out(self.home.run("logout", *given), "Not logged in to docker.io\n")
        self.assert_out(self.home.run("logout", "HTTPS://Registry.Example:5000/v2/"),
                        "Not logged in to registry.example:5000\n")

    def test_login_on_a_terminal(self):
        """The password is not shown, and an interrupted question leaves the terminal as it was."""
        host = "127.0.0.1:%d" % self.registry.port
        with a3s.Terminal(self.home, "login", host) as t:
            t.read_until(rb"User name at [^:]+:[0-9]+: ")
            t.send(b"me\r")
            t.read_until(b"Password: ")
            t.send(b"secret\r")
            self.assertNotIn(b"secret", t.read_until(b"(?s).*Login Succeeded").group())
            self.assertEqual(t.finish()[0], 0)
        self.home.ok("logout", self.registry.origin + "/v1/")
        with a3s.Terminal(self.home, "login", "-u", "me", host) as t:
            t.read_until(b"Password: ")
            self.assertFalse(termios.tcgetattr(t.master)[3] & termios.ECHO)
            t.send(b"\x03")
            self.assertEqual(t.finish()[0], -signal.SIGINT)
            self.assertTrue(termios.tcgetattr(t.master)[3] & termios.ECHO)


class Pushes(ImageCommandTest):
    @classmethod
    def prepare(cls):
        cls.registry = registries.DockerRegistry(cls.home.base / "registry")

    @classmethod
    def tearDownClass(cls):
        if hasattr(cls, "registry"):
            cls.registry.close()
        super().tearDownClass()

    @core
    def test_what_push_prints(self):
        name = self.registry.name("mine:1")
        self.make(name)
        result = self.home.ok("push", name)
        self.assertRegex(result.text, r"\Asha256:[0-9a-f]{64}\n\Z")
        self.assertEqual(len(re.findall(rb"(?m)^[0-9a-f]{12}: Pushed$", result.err)), 2, result)
        again = self.home.ok("push", name)
        self.assertEqual((again.text, b": Layer already exists" in again.err), (result.text, True))
        quiet = self.home.ok("push", "-q", name, self.registry.name("other:2"))
        self.assertEqual((quiet.text, quiet.err), (result.text, b""))

    def test_all_tags(self):
        first, second = (self.registry.name("all/of:%d" % n) for n in (1, 2))
        self.make(first)
        self.make(second, "other")
        self.home.ok("tag", first, self.registry.name("all/of/others:1"))
        result = self.home.ok("push", "-aq", self.registry.name("all/of"))
        names = [line.partition("@")[0] for line in result.lines]
        self.assertEqual(sorted(names), [first, second])
        for line in result.lines:
            self.assertRegex(line, "@sha256:[0-9a-f]{64}$")
        self.home.ok("image-prune", "-af")
        result = self.home.ok("pull", "-aq", self.registry.name("all/of"))
        self.assertEqual(sorted(result.lines), [first, second])

    def test_run_pulls(self):
        """As lines that begin with a layer, or with -q silently."""
        name = self.registry.name("run:1")
        self.make(name)
        self.home.ok("push", "-q", name)
        for args, said in (([], rb"([0-9a-f]{12}: [^\n]+\n)+"), (["-q"], b"")):
            self.home.ok("rmi", name)
            result = self.home.ok("create", "--name", "made", *args, name, "/one")
            self.assertRegex(result.err, rb"\A%s\Z" % said)
            self.home.ok("rm", "made")

    @core
    def test_password_of_a_key(self):
        """From the environment, else from the terminal, and without one a line that says so."""
        name = self.registry.name("signed:1")
        self.make(name)
        key = self.home.tmp / "key.pem"
        plain = registries.openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
        key.write_bytes(registries.openssl("pkcs8", "-topk8", "-passout", "pass:secret", data=plain))
        key.chmod(0o644)
        self.home.ok("push", "--sign-key", key, name, env={"COSIGN_PASSWORD": "secret"})
        self.assert_one_line(self.home.run("push", "--sign-key", key, name, env={"COSIGN_PASSWORD": "wrong"}), 1, "key.pem")
        self.assert_one_line(self.home.run("push", "--sign-key", key, name, wrap=("setsid", "-w")), 1,
                             "key.pem: it is encrypted: there is no terminal.*COSIGN_PASSWORD")
        with a3s.Terminal(self.home, "push", "-q", "--sign-key", key, name) as t:
            t.read_until(b"Password of [^\n]*key.pem: ")
            t.send(b"secret\r")
            status, seen = t.finish()
        self.assertEqual(status, 0, seen)
        self.assertNotIn(b"secret", seen)
