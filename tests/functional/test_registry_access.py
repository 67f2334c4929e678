"""Who may ask a registry, and how it is reached: logins, tokens, credential helpers, TLS, mirrors, proxies."""

import base64
import json
import os
import shutil
import ssl
import stat
import subprocess
import unittest

import images
import netns
import registries
import registry_fake
from a3s import core
from registries import PASSWORD, USER
from test_images import ImageTest

SCRIPT = images.busybox_image

# Keeps what it is told in a file beside itself, in the protocol of docker-credential-helpers, and the calls in another.
HELPER = """#!/usr/bin/env python3
import json, os, sys
folder = os.path.dirname(os.path.abspath(__file__))
path = os.path.join(folder, "secrets.json")
try:
    with open(path) as f:
        secrets = json.load(f)
except OSError:
    secrets = {}
data = sys.stdin.read()
with open(os.path.join(folder, "calls"), "a") as f:
    f.write(sys.argv[1] + "\\n")
if sys.argv[1] == "store":
    new = json.loads(data)
    secrets[new["ServerURL"]] = new
elif sys.argv[1] == "get":
    if data.strip() not in secrets:
        print("credentials not found in native keychain")
        sys.exit(1)
    print(json.dumps(secrets[data.strip()]))
elif sys.argv[1] == "erase":
    secrets.pop(data.strip(), None)
with open(path, "w") as f:
    json.dump(secrets, f)
"""


class AccessTest(ImageTest):
    def setUp(self):
        super().setUp()
        self.docker = self.home.user_home / ".docker"

    def tearDown(self):
        shutil.rmtree(self.docker, ignore_errors=True)
        (self.home.path / "registries.json").unlink(missing_ok=True)
        super().tearDown()

    def config(self):
        try:
            return json.loads((self.docker / "config.json").read_text())
        except FileNotFoundError:
            return {}

    def write_config(self, value):
        self.docker.mkdir(exist_ok=True)
        (self.docker / "config.json").write_text(json.dumps(value))

    def registries_json(self, **value):
        (self.home.path / "registries.json").write_text(json.dumps(value))

    def log_in(self, registry, *more, password=PASSWORD, **options):
        return self.home.run("login", "-u", USER, "--password-stdin", *more, registry.host, input=password.encode() + b"\n",
                             **options)

    def assert_refused(self, match, *args, **options):
        """One line, and the store as before."""
        before = self.store()
        self.assert_one_line(self.home.run(*args, **options), 1, match)
        self.assertEqual(self.store(), before)


def close_all(cls, names):
    for name in names:
        if hasattr(cls, name):
            getattr(cls, name).close()


class PasswordTest(AccessTest):
    """docker-registry with a file of passwords."""

    @classmethod
    def prepare(cls):
        registries.need("skopeo")
        cls.registry = registries.DockerRegistry(cls.home.base / "registry", htpasswd=True)
        cls.registry.skopeo("copy", "oci-archive:%s" % cls.image_file("box"), "docker://" + cls.registry.name("box:1"),
                            creds="%s:%s" % (USER, PASSWORD))

    @classmethod
    def tearDownClass(cls):
        close_all(cls, ("registry",))
        super().tearDownClass()


class Passwords(PasswordTest):
    @core
    def test_login_pull_push_logout(self):
        name = self.registry.name("box:1")
        self.assert_refused("login", "pull", name)
        result = self.log_in(self.registry)
        self.assert_rc(result, 0)
        self.assertIn("Login Succeeded", result.text)
        auth = base64.b64encode(("%s:%s" % (USER, PASSWORD)).encode()).decode()
        self.assertEqual(self.config()["auths"], {self.registry.host: {"auth": auth}})
        self.assertEqual(stat.S_IMODE(os.stat(self.docker / "config.json").st_mode), 0o600)
        self.home.ok("pull", name)
        self.home.ok("push", name, self.registry.name("mine:2"))
        creds = "%s:%s" % (USER, PASSWORD)
        self.assertEqual(self.registry.raw("mine:2", creds), self.registry.raw("box:1", creds))
        self.home.ok("logout", self.registry.host)
        self.assertNotIn(self.registry.host, self.config().get("auths", {}))
        self.assert_refused("login", "pull", name)
        self.assert_refused("login", "push", name, self.registry.name("mine:3"))

    def test_wrong_password(self):
        for password in ("wrong", "", "wonderland ", "w\u00f6nderland"):
            with self.subTest(password):
                self.assert_one_line(self.log_in(self.registry, password=password), 1)
                self.assertEqual(self.config().get("auths", {}), {})
        self.write_config({"auths": {self.registry.host: {"auth": base64.b64encode(b"alice:wrong").decode()}}})
        self.assert_refused("login|credentials|password|unauthorized", "pull", self.registry.name("box:1"))

    def test_a_login_takes_the_place_of_another(self):
        self.write_config({"auths": {self.registry.host: {"auth": base64.b64encode(b"bob:x").decode()},
                                     "other.example": {"auth": "Ym9iOng="}},
                           "HttpHeaders": {"X-Mine": "kept"}, "psFormat": "table {{.ID}}"})
        os.chmod(self.docker / "config.json", 0o640)
        self.assert_rc(self.log_in(self.registry), 0)
        config = self.config()
        self.assertEqual(config["HttpHeaders"], {"X-Mine": "kept"})
        self.assertEqual(config["psFormat"], "table {{.ID}}")
        self.assertEqual(config["auths"]["other.example"], {"auth": "Ym9iOng="})
        self.home.ok("pull", self.registry.name("box:1"))

    def test_a_linked_configuration(self):
        """As people have it whose settings lie in a repository: the link stays, what it leads to changes."""
        self.docker.mkdir()
        target = self.home.user_home / "settings.json"
        target.write_text("{}")
        (self.docker / "config.json").symlink_to(target)
        self.assert_rc(self.log_in(self.registry), 0)
        self.assertTrue((self.docker / "config.json").is_symlink())
        self.assertIn(self.registry.host, json.loads(target.read_text())["auths"])
        target.unlink()

    def test_docker_config_says_where(self):
        folder = self.home.user_home / "elsewhere"
        folder.mkdir()
        self.assert_rc(self.log_in(self.registry, env={"DOCKER_CONFIG": str(folder)}), 0)
        self.assertFalse(self.docker.exists())
        self.home.ok("pull", self.registry.name("box:1"), env={"DOCKER_CONFIG": str(folder)})
        self.assert_refused("login", "pull", self.registry.name("box:1"))
        shutil.rmtree(folder)

    def test_the_same_login_as_skopeos(self):
        """Both write and read one format."""
        config = self.docker / "config.json"
        self.assert_rc(self.log_in(self.registry), 0)
        images.tool("skopeo", "inspect", "--authfile", config, "--tls-verify=false",
                    "docker://" + self.registry.name("box:1"))
        self.home.ok("logout", self.registry.host)
        images.tool("skopeo", "login", "--authfile", config, "--tls-verify=false", "-u", USER, "-p", PASSWORD,
                    self.registry.host)
        self.home.ok("pull", self.registry.name("box:1"))

    def test_many_at_once(self):
        """None of them loses another's entry."""
        others = {"host%d.example" % n: {"auth": "Ym9iOng="} for n in range(50)}
        self.write_config({"auths": others})
        logins = [self.home.popen("login", "-u", USER, "--password-stdin", self.registry.host, stdin=subprocess.PIPE)
                  for _ in range(4)]
        for p in logins:
            p.communicate(PASSWORD.encode() + b"\n", timeout=60)
            self.assertEqual(p.returncode, 0)
        self.assertEqual(set(self.config()["auths"]), {*others, self.registry.host})

    def test_logout_without_a_login(self):
        result = self.home.run("logout", "nosuch.example")
        self.assertLessEqual(result.rc, 1, result)

    def test_bad_configurations(self):
        self.docker.mkdir()
        for text in ("", "{", "[]", '{"auths": 1}', '{"auths": {"%s": 7}}' % self.registry.host,
                     '{"auths": {"%s": {"auth": "!"}}}' % self.registry.host,
                     '{"credsStore": "../../bin/sh"}', '{"credsStore": "nosuch"}'):
            with self.subTest(text):
                (self.docker / "config.json").write_text(text)
                self.assert_refused("", "pull", self.registry.name("box:1"))
                if text in ("{", "[]"):
                    # What is not understood is not written over.
                    self.assert_one_line(self.log_in(self.registry), 1)
                    self.assertEqual((self.docker / "config.json").read_text(), text)


class Helpers(PasswordTest):
    """The password is in a program's keeping."""

    def setUp(self):
        super().setUp()
        self.bin = self.home.base / "bin"
        self.bin.mkdir()
        self.env = {"PATH": "%s:%s" % (self.bin, os.environ["PATH"])}
        self.helper(HELPER)

    def tearDown(self):
        shutil.rmtree(self.bin)
        super().tearDown()

    def helper(self, script):
        path = self.bin / "docker-credential-test"
        path.write_text(script)
        path.chmod(0o755)

    @core
    def test_a_helper_for_all(self):
        self.write_config({"credsStore": "test", "auths": {}})
        self.assert_rc(self.log_in(self.registry, env=self.env), 0)
        self.assertNotIn("auth", self.config().get("auths", {}).get(self.registry.host, {}))
        secrets = json.loads((self.bin / "secrets.json").read_text())
        self.assertEqual({(s["Username"], s["Secret"]) for s in secrets.values()}, {(USER, PASSWORD)})
        self.home.ok("pull", self.registry.name("box:1"), env=self.env)
        self.home.ok("logout", self.registry.host, env=self.env)
        self.assertEqual(json.loads((self.bin / "secrets.json").read_text()), {})
        self.assert_refused("login", "pull", self.registry.name("box:1"), env=self.env)

    def test_a_helper_for_one_registry(self):
        self.write_config({"credHelpers": {self.registry.host: "test"}, "credsStore": "nosuch"})
        self.assert_rc(self.log_in(self.registry, env=self.env), 0)
        self.home.ok("pull", self.registry.name("box:1"), env=self.env)
        self.assertIn("get", (self.bin / "calls").read_text())

    def test_helpers_that_fail(self):
        self.write_config({"credsStore": "test"})
        for script in ("#!/bin/sh\nexit 3\n", "#!/bin/sh\necho no json\n", "#!/bin/sh\necho '[]'\n",
                       "#!/bin/sh\necho '{\"Username\": 1}'\n", "#!/bin/sh\nkill -9 $$\n", "#!/bin/sh\nexec cat /dev/zero\n",
                       "#!/bin/sh\nprintf '\\033[31mred\\nand more\\n'; exit 1\n"):
            with self.subTest(script):
                self.helper(script)
                self.assert_refused("", "pull", self.registry.name("box:1"), env=self.env)
                if "exit" in script or "kill" in script:
                    self.assert_one_line(self.log_in(self.registry, env=self.env), 1)

    def test_a_helper_that_hangs(self):
        self.write_config({"credsStore": "test"})
        self.helper("#!/bin/sh\nexec sleep 1000\n")
        result = self.home.run("pull", self.registry.name("box:1"), env=self.env)
        self.assert_one_line(result, 1, "test")
        self.assertLess(result.seconds, 60)


class Tokens(AccessTest):
    """docker-registry behind a token server: who may do what is in the token."""

    @classmethod
    def prepare(cls):
        registries.need("skopeo")
        cls.tokens = registries.TokenServer(cls.home.base / "tokens")
        cls.registry = registries.DockerRegistry(cls.home.base / "registry", token=cls.tokens)
        for name in ("team/box:1", "public/box:1"):
            cls.registry.skopeo("copy", "oci-archive:%s" % cls.image_file("layers"), "docker://" + cls.registry.name(name),
                                creds="%s:%s" % (USER, PASSWORD))

    @classmethod
    def tearDownClass(cls):
        close_all(cls, ("registry", "tokens"))
        super().tearDownClass()

    def setUp(self):
        super().setUp()
        self.tokens.asked.clear()
        self.tokens.lifetime_s = self.tokens.expires_in = 300

    @core
    def test_anonymous(self):
        self.home.ok("pull", self.registry.name("public/box:1"))
        self.assertEqual(self.tokens.asked, [("GET", "", ["repository:public/box:pull"])])
        self.assert_refused("login|denied|unauthorized", "pull", self.registry.name("team/box:1"))

    @core
    def test_login_pull_push(self):
        self.assert_one_line(self.log_in(self.registry, password="wrong"), 1)
        self.assert_rc(self.log_in(self.registry), 0)
        self.tokens.asked.clear()
        self.home.ok("pull", self.registry.name("team/box:1"))
        self.assertEqual(self.tokens.asked, [("GET", USER, ["repository:team/box:pull"])])
        self.tokens.asked.clear()
        self.home.ok("push", self.registry.name("team/box:1"), self.registry.name("team/new:1"))
        for _, user, scopes in self.tokens.asked:
            self.assertEqual(user, USER)
            for scope in scopes:
                self.assertIn(scope, ("repository:team/new:pull,push", "repository:team/box:pull"))
        creds = "%s:%s" % (USER, PASSWORD)
        self.assertEqual(self.registry.raw("team/new:1", creds), self.registry.raw("team/box:1", creds))
        self.assert_refused("denied|login|unauthorized|access", "push", self.registry.name("team/box:1"),
                            self.registry.name("others/box:1"))

    def test_identity_token(self):
        """What a login by the browser leaves behind."""
        self.write_config({"auths": {self.registry.host: {
            "auth": base64.b64encode(b"00000000-0000-0000-0000-000000000000:").decode(),
            "identitytoken": self.tokens.identity}}})
        self.home.ok("pull", self.registry.name("team/box:1"))
        self.assertIn("POST", [method for method, _, _ in self.tokens.asked])

    def test_tokens_that_end_early(self):
        """It was said to be good for long, and is not: asked for again, once each time."""
        self.assert_rc(self.log_in(self.registry), 0)
        self.tokens.lifetime_s, self.tokens.expires_in = 1, 300
        for name in ("team/box:1", "public/box:1"):
            self.home.ok("pull", self.registry.name(name))

    def test_a_token_that_is_never_good(self):
        self.assert_rc(self.log_in(self.registry), 0)
        self.tokens.asked.clear()
        self.tokens.lifetime_s = -1000
        self.assert_refused("", "pull", self.registry.name("team/box:1"))
        self.assertLess(len(self.tokens.asked), 10)


class Tls(AccessTest):
    """docker-registry with a certificate of our own authority, with and without one of the client."""

    @classmethod
    def prepare(cls):
        registries.need("skopeo", "openssl")
        cls.certs = registries.Certificates(cls.home.base / "certs")
        cls.others = registries.Certificates(cls.home.base / "others")
        cls.open = registries.DockerRegistry(cls.home.base / "open", tls=cls.certs)
        cls.closed = registries.DockerRegistry(cls.home.base / "closed", tls=cls.certs, client_certs=True)
        for registry in (cls.open, cls.closed):
            registry.skopeo("copy", "oci-archive:%s" % cls.image_file("box"), "docker://" + registry.name("box:1"))

    @classmethod
    def tearDownClass(cls):
        close_all(cls, ("open", "closed"))
        super().tearDownClass()

    def certs_d(self, registry):
        return self.docker / "certs.d" / registry.host

    @core
    def test_an_authority(self):
        name = self.open.name("box:1")
        self.assert_refused("certificate", "pull", name)
        self.home.ok("pull", "--tls-verify=false", name)
        self.home.ok("rmi", name)
        self.certs.for_client(self.certs_d(self.open))
        self.home.ok("pull", name)
        self.home.ok("push", name, self.open.name("mine:1"))
        self.assertEqual(self.open.raw("mine:1"), self.open.raw("box:1"))

    def test_another_authority(self):
        self.others.for_client(self.certs_d(self.open))
        self.assert_refused("certificate", "pull", self.open.name("box:1"))

    def test_a_name_that_the_certificate_does_not_have(self):
        self.certs.for_client(self.docker / "certs.d" / ("127.0.0.2:%d" % self.open.port))
        with registry_fake.Registry(*SCRIPT.image_blobs([SCRIPT.Tree().bytes()]), tls=self.server_context(),
                                    address=("127.0.0.2", 0)) as fake:
            self.certs.for_client(self.docker / "certs.d" / fake.host)
            self.assert_refused("certificate", "pull", fake.name)

    def server_context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*map(str, self.certs.server))
        return context

    def test_a_folder_on_request(self):
        folder = self.home.base / "given"
        self.certs.for_client(folder, with_client=True)
        for registry in (self.open, self.closed):
            self.home.ok("pull", "--cert-dir", folder, registry.name("box:1"))
        self.assert_refused("certificate", "pull", self.open.name("box:1"))
        shutil.rmtree(folder)

    @core
    def test_client_certificate(self):
        name = self.closed.name("box:1")
        self.certs.for_client(self.certs_d(self.closed))
        self.assert_refused("certificate|handshake|alert|TLS|SSL", "pull", name)
        self.certs.for_client(self.certs_d(self.closed), with_client=True)
        self.home.ok("pull", name)

    def test_a_client_certificate_without_its_key(self):
        self.certs.for_client(self.certs_d(self.closed), with_client=True)
        (self.certs_d(self.closed) / "client.key").unlink()
        self.assert_refused("client.key|client.cert", "pull", self.closed.name("box:1"))
        (self.certs_d(self.closed) / "client.key").write_text("no key\n")
        self.assert_refused("", "pull", self.closed.name("box:1"))


class Mirrors(AccessTest):
    """registries.json: where a registry's content is looked for first."""

    def setUp(self):
        super().setUp()
        tree = SCRIPT.Tree()
        tree.file("f", os.urandom(100000))
        self.image = SCRIPT.image_blobs([images.box_layer(), tree.bytes()])
        self.servers = [registry_fake.Registry(*self.image) for _ in range(3)]
        self.registry, self.one, self.two = self.servers

    def tearDown(self):
        for server in self.servers:
            server.close()
        super().tearDown()

    def mirrors(self, *servers, of=None):
        self.registries_json(mirrors={of or self.registry.host: [s.origin for s in servers]})

    @core
    def test_a_mirror_of_docker_hub(self):
        self.mirrors(self.one, of="docker.io")
        self.one.tags["latest"] = self.image[0]["digest"]
        self.home.ok("pull", "mirrored")
        self.assertIn(("mirrored", "latest"), self.rows())
        self.assertTrue(all("/library/mirrored/" in path or path == "/v2/" for path, _ in self.one.requests),
                        self.one.requests)
        self.assert_runs("mirrored")

    @core
    def test_the_mirrors_come_first_and_in_order(self):
        self.mirrors(self.one, self.two)
        self.home.ok("pull", self.registry.name)
        self.assertIn((self.registry.host + "/x", "1"), self.rows())
        self.assertTrue(self.one.requests)
        self.assertEqual((self.two.served, self.registry.served), ({}, {}))

    def test_a_mirror_with_a_path(self):
        self.registries_json(mirrors={self.registry.host: [self.one.origin + "/some/where"]})
        self.home.ok("pull", self.registry.name)
        self.assertIn("/some/where/v2/x/manifests/1", [path for path, _ in self.one.requests])
        self.assertEqual(self.registry.served, {})

    @core
    def test_mirrors_that_fail_are_passed_over(self):
        with_errors = {
            "nothing there": lambda rq: rq.answer(404),
            "broken": lambda rq: rq.answer(400),
            "forbidden": lambda rq: rq.answer(403),
            "garbage": lambda rq: rq.answer(200, b"\xff" * 1000),
            "closed": lambda rq: rq.raw(b""),
            "wrong content": lambda rq: "/blobs/" in rq.path and rq.answer(200, b"x" * 100),
        }
        for name, action in with_errors.items():
            with self.subTest(name):
                for server in self.servers:
                    server.forget()
                self.one.hook = lambda rq, action=action: action(rq) is not False
                self.mirrors(self.one)
                self.home.ok("pull", self.registry.name)
                self.assertTrue(self.one.requests)
                self.assertTrue(self.registry.requests)
                self.home.ok("rmi", self.registry.name)
        dead = registries.free_port()
        self.registries_json(mirrors={self.registry.host: ["http://127.0.0.1:%d" % dead, self.two.origin]})
        self.home.ok("pull", self.registry.name)
        self.assertTrue(self.two.served)

    def test_all_fail(self):
        for server in self.servers:
            server.hook = lambda rq: rq.answer(404) or True
        self.mirrors(self.one, self.two)
        self.assert_refused("127.0.0.1", "pull", self.registry.name)

    def test_the_registrys_password_is_not_the_mirrors(self):
        self.write_config({"auths": {self.registry.host: {"auth": base64.b64encode(b"user:password").decode()}}})
        self.mirrors(self.one)
        self.one.hook = lambda rq: rq.answer(401, WWW_Authenticate='Basic realm="x"') or True
        self.home.ok("pull", self.registry.name)
        self.assertEqual({auth for _, auth in self.one.requests}, {None})

    def test_digests_are_checked(self):
        """What a mirror says a tag is, is believed; not so what it says a digest is."""
        other = SCRIPT.image_blobs([SCRIPT.Tree().bytes()])
        wrong = other[1][other[0]["digest"]]
        self.one.hook = lambda rq: "/manifests/" in rq.path and (
            rq.answer(200, wrong, Content_Type=registry_fake.MANIFEST_TYPE) or True)
        self.mirrors(self.one)
        self.home.ok("pull", "%s/x@%s" % (self.registry.host, self.image[0]["digest"]))
        self.assertTrue(self.registry.served)

    def test_damaged_content(self):
        """What of a mirror's does not fit its digest comes from the next place, and nothing of the mirror's is kept."""
        for damage in (lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], lambda data: data[:-1],
                       lambda data: data + b"x", lambda data: b""):
            with self.subTest(damage(b"0123456789abcdef")):
                self.one.hook = lambda rq, damage=damage: "/blobs/" in rq.path and (
                    rq.answer(200, damage(self.registry.blobs[rq.path.rpartition("/")[2]])) or True)
                for server in self.servers:
                    server.forget()
                self.mirrors(self.one)
                self.home.ok("pull", self.registry.name)
                self.assertTrue(any("/blobs/" in path for path, _ in self.one.requests))
                self.assertTrue(self.registry.served)
                self.home.ok("image-check")
                self.home.ok("rmi", self.registry.name)

    def test_bad_settings(self):
        for text in ("", "{", "[]", '{"mirors": {}}', '{"mirrors": []}', '{"mirrors": {"docker.io": "x"}}',
                     '{"mirrors": {"docker.io": ["ftp://x"]}}', '{"insecure": "x"}', '{"insecure": [1]}',
                     '{"mirrors": {"docker.io": ["http://user:password@x"]}}'):
            with self.subTest(text):
                (self.home.path / "registries.json").write_text(text)
                self.assert_refused("registries.json", "pull", self.registry.name)


class Proxies(AccessTest):
    """A registry outside, and a proxy on the way to it, in network namespaces: nobody else's address is asked."""

    PORT, TLS_PORT, PROXY_PORT, LOCKED_PORT = 5000, 5443, 3128, 3129

    @classmethod
    def prepare(cls):
        if os.geteuid() != 0:
            raise unittest.SkipTest("network namespaces need root")
        registries.need("skopeo", "ip", "nsenter")
        cls.net = netns.NetNs()
        away = ("nsenter", "-t", str(cls.net.outside.pid), "-n")
        cls.certs = registries.Certificates(cls.home.base / "certs", ("IP:" + netns.OUTSIDE4,))
        cls.plain = registries.DockerRegistry(cls.home.base / "plain", host=netns.OUTSIDE4, wrap=away, port=cls.PORT)
        cls.tls = registries.DockerRegistry(cls.home.base / "tls", host=netns.OUTSIDE4, wrap=away, port=cls.TLS_PORT,
                                            tls=cls.certs)
        for registry in (cls.plain, cls.tls):
            registry.skopeo("copy", "oci-archive:%s" % cls.image_file("box"), "docker://" + registry.name("box:1"))
        cls.proxy, cls.asked = cls.start_proxy(cls.PROXY_PORT, "")
        cls.locked, cls.locked_asked = cls.start_proxy(cls.LOCKED_PORT, "user:pass")

    @classmethod
    def start_proxy(cls, port, password):
        """(its address, the lines that it says)"""
        p = cls.net.start(registries.PROXY, netns.HOST4, str(port), password)
        os.set_blocking(p.stdout.fileno(), False)
        return "%s:%d" % (netns.HOST4, port), p.stdout

    @classmethod
    def tearDownClass(cls):
        close_all(cls, ("plain", "tls", "net"))
        super().tearDownClass()

    def said(self, stream):
        return (stream.read() or b"").decode()

    def setUp(self):
        super().setUp()
        self.certs.for_client(self.docker / "certs.d" / self.tls.host)
        for stream in (self.asked, self.locked_asked):
            stream.read()

    def pull(self, *args, **env):
        return self.home.run("pull", *args, env=env, wrap=self.net.wrap)

    @core
    def test_plain_http_is_refused_outside(self):
        """Also where TLS fails: what could be listened to needs a word of the user."""
        self.assert_one_line(self.pull(self.plain.name("box:1")), 1, "plain-http|TLS|HTTPS")
        self.assert_rc(self.pull("--plain-http", self.plain.name("box:1")), 0)
        self.home.ok("rmi", self.plain.name("box:1"))
        self.registries_json(insecure=[self.plain.host])
        self.assert_rc(self.pull(self.plain.name("box:1")), 0)

    def test_tls_outside(self):
        self.assert_rc(self.pull(self.tls.name("box:1")), 0)

    @core
    def test_a_tunnel(self):
        for variable in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
            with self.subTest(variable):
                self.assert_rc(self.pull(self.tls.name("box:1"), **{variable: "http://" + self.proxy}), 0)
                self.assertIn("CONNECT " + self.tls.host, self.said(self.asked))
                self.home.ok("rmi", self.tls.name("box:1"))

    def test_plain_http_by_proxy(self):
        self.assert_rc(self.pull("--plain-http", self.plain.name("box:1"), http_proxy="http://" + self.proxy), 0)
        self.assertIn("GET http://%s/v2/" % self.plain.host, self.said(self.asked))

    def test_no_proxy(self):
        for value in (netns.OUTSIDE4, "example.org," + netns.OUTSIDE4, "198.51.100.0/24", "*", self.tls.host):
            with self.subTest(value):
                result = self.pull(self.tls.name("box:1"), HTTPS_PROXY="http://" + self.proxy, NO_PROXY=value)
                self.assert_rc(result, 0)
                self.assertEqual(self.said(self.asked), "")
                self.home.ok("rmi", self.tls.name("box:1"))

    def test_a_password(self):
        result = self.pull(self.tls.name("box:1"), HTTPS_PROXY="http://user:pass@" + self.locked)
        self.assert_rc(result, 0)
        self.home.ok("rmi", self.tls.name("box:1"))
        result = self.pull(self.tls.name("box:1"), HTTPS_PROXY="http://user:topsecret@" + self.locked)
        self.assert_one_line(result, 1, "proxy")
        self.assertNotIn(b"topsecret", result.err)

    def test_a_dead_proxy(self):
        self.assert_one_line(self.pull(self.tls.name("box:1"), HTTPS_PROXY="http://%s:1" % netns.HOST4), 1, "proxy")

    @core
    def test_loopback_is_never_proxied(self):
        with registry_fake.Registry(*SCRIPT.image_blobs([SCRIPT.Tree().bytes()])) as fake:
            everything = {name: "http://127.0.0.1:1" for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY")}
            self.home.ok("pull", fake.name, env=everything)

    def test_a_dead_host(self):
        self.assert_one_line(self.pull("%s:1/box:1" % netns.OUTSIDE4), 1, netns.OUTSIDE4)


class Redirects(AccessTest):
    """What is meant for the registry stays with it."""

    def setUp(self):
        super().setUp()
        image = SCRIPT.image_blobs([SCRIPT.Tree().bytes()])
        self.registry, self.other = registry_fake.Registry(*image), registry_fake.Registry(*image)

    def tearDown(self):
        self.registry.close()
        self.other.close()
        super().tearDown()

    @core
    def test_another_host_gets_no_credentials(self):
        self.write_config({"auths": {self.registry.host: {"auth": base64.b64encode(b"user:password").decode()}}})

        def registry(request):
            if not request.headers.get("Authorization"):
                request.answer(401, WWW_Authenticate='Basic realm="x"')
            elif "/blobs/" in request.path:
                request.answer(307, Location=self.other.origin + request.path)
            else:
                return False
            return True

        self.registry.hook = registry
        self.home.ok("pull", self.registry.name)
        self.assertTrue(self.other.requests)
        self.assertEqual({auth for _, auth in self.other.requests}, {None})
        for entry in self.other.log:
            self.assertNotIn("password", str(entry))
            self.assertNotIn("Cookie", entry.headers)
