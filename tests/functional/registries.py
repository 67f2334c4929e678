"""Registries to test against: Debian's docker-registry on the loopback address, open, with passwords, behind a token server
of our own, with TLS and client certificates; and an HTTP proxy. Each takes a free port, keeps its files in the folder it
was given, and is ended by close()."""

import base64
import contextlib
import http.server
import json
import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import threading
import time
import unittest
import urllib.parse

import images
from a3s import wait_for

USER, PASSWORD = "alice", "wonderland"
# bcrypt of the password, with the least cost: it protects nothing.
HTPASSWD = USER + ":$2b$04$JTquLNOpBjThVuacd1edouboTI.3VQu.u8Pz7nuykRRv1IRUPiB4q\n"
TOKEN_LEEWAY_S = 60  # docker-registry takes a token for this long after its end
SERVICE = "the registry of the tests"


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            raise unittest.SkipTest(program + " is not installed")


def free_port(host="127.0.0.1"):
    with socket.socket() as s:
        s.bind((host, 0))
        return s.getsockname()[1]


def openssl(*argv, data=None):
    p = subprocess.run(["openssl", *map(str, argv)], input=data, capture_output=True, check=False, timeout=60)
    if p.returncode:
        raise RuntimeError("openssl %s: %s" % (argv[0], p.stderr.decode(errors="replace")))
    return p.stdout


class Certificates:
    """An authority of our own, a server's certificate for the loopback address and further names, and a client's."""

    def __init__(self, folder, names=("IP:127.0.0.1", "DNS:localhost")):
        need("openssl")
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ca, self.ca_key = self.folder / "ca.crt", self.folder / "ca.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
                "/CN=An authority of the tests", "-keyout", self.ca_key, "-out", self.ca)
        self.server = self.issue("server", "subjectAltName=" + ",".join(names))
        self.client = self.issue("client", "extendedKeyUsage=clientAuth")

    def issue(self, name, extension):
        """(certificate, key)"""
        cert, key, request, more = (self.folder / (name + end) for end in (".crt", ".key", ".csr", ".ext"))
        more.write_text(extension + "\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=" + name,
                "-keyout", key, "-out", request)
        openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.ca_key, "-CAcreateserial", "-days", "2",
                "-extfile", more, "-out", cert)
        return cert, key

    def for_client(self, folder, with_client=False):
        """Fills a folder as certs.d/HOST:PORT is laid out."""
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.ca, folder / "ca.crt")
        if with_client:
            shutil.copy(self.client[0], folder / "client.cert")
            shutil.copy(self.client[1], folder / "client.key")
        for path in folder.iterdir():
            path.chmod(0o644)


class DockerRegistry:
    """htpasswd: USER and PASSWORD are asked for. token: a TokenServer. tls: Certificates; client_certs: the client must
    have one too. wrap: what to start it with, for another network namespace."""

    def __init__(self, folder, htpasswd=False, token=None, tls=None, client_certs=False, host="127.0.0.1", wrap=(),
                 port=None):
        need("docker-registry")
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.tls, self.wrap, self.address = tls, wrap, host
        self.http = {}
        if tls:
            self.http["tls"] = {"certificate": str(tls.server[0]), "key": str(tls.server[1])}
            if client_certs:
                self.http["tls"]["clientcas"] = [str(tls.ca)]
        self.auth = {}
        if htpasswd:
            (self.folder / "htpasswd").write_text(HTPASSWD)
            self.auth = {"htpasswd": {"realm": "tests", "path": str(self.folder / "htpasswd")}}
        elif token:
            self.auth = {"token": {"realm": token.realm, "service": SERVICE, "issuer": token.issuer,
                                   "rootcertbundle": str(token.cert)}}
        self.log = open(self.folder / "log", "wb")
        self.process = None
        try:
            self.start(port)
        except BaseException:
            self.close()
            raise

    def start(self, port=None):
        # Somebody else may have taken the port that was free: then another one.
        for _ in range(5):
            self.port = port or free_port("127.0.0.1" if self.wrap else self.address)
            self.host = "%s:%d" % (self.address, self.port)
            config = {"version": "0.1", "log": {"level": "info"}, "http": {"addr": self.host, **self.http},
                      "storage": {"filesystem": {"rootdirectory": str(self.folder / "data")},
                                  "delete": {"enabled": True}}}
            if self.auth:
                config["auth"] = self.auth
            (self.folder / "config.yml").write_text(json.dumps(config))
            self.process = subprocess.Popen(
                [*self.wrap, "docker-registry", "serve", str(self.folder / "config.yml")], stdin=subprocess.DEVNULL,
                stdout=self.log, stderr=subprocess.STDOUT, env={"PATH": os.environ["PATH"], "HOME": str(self.folder)})
            if wait_for("docker-registry", self.answers) == "answers":
                return
        raise AssertionError("docker-registry does not start: " + self.told()[-2000:])

    def answers(self):
        if self.process.poll() is not None:
            return "ended"
        if self.wrap:
            probe = [*self.wrap, "bash", "-c", "exec 3<>/dev/tcp/%s/%d" % (self.address, self.port)]
            return "answers" if subprocess.run(probe, stderr=subprocess.DEVNULL, check=False).returncode == 0 else None
        with contextlib.suppress(OSError), socket.create_connection((self.address, self.port), 1):
            return "answers"
        return None

    def told(self):
        return (self.folder / "log").read_text(errors="replace")

    def forget(self):
        """Drops the log so far."""
        os.truncate(self.folder / "log", 0)
        self.log.seek(0)

    def name(self, rest):
        return "%s/%s" % (self.host, rest)

    def skopeo(self, *argv, creds=None):
        """skopeo with what it needs to reach this registry, for the one side that is a registry."""
        command, *rest = argv
        side = {"copy": "dest-" if str(rest[-1]).startswith("docker://") else "src-"}.get(command, "")
        options = []
        if self.tls:
            folder = self.folder / "skopeo-certs"
            self.tls.for_client(folder, with_client=True)
            options = ["--%scert-dir" % side, folder]
        else:
            options = ["--%stls-verify=false" % side]
        if creds:
            options += ["--%screds" % side, creds]
        return images.tool(*self.wrap, "skopeo", command, *options, *rest,
                           env=dict(os.environ, TMPDIR=str(self.folder), HOME=str(self.folder)))

    def raw(self, rest, creds=None):
        """What the registry serves under this name, as bytes."""
        options = ["--tls-verify=false"]
        if self.tls:
            folder = self.folder / "skopeo-certs"
            self.tls.for_client(folder, with_client=True)
            options = ["--cert-dir", str(folder)]
        if creds:
            options += ["--creds", creds]
        p = subprocess.run([*self.wrap, "skopeo", "inspect", "--raw", *options, "docker://" + self.name(rest)],
                           capture_output=True, check=False, timeout=60)
        if p.returncode:
            raise AssertionError("skopeo inspect --raw %s: %s" % (rest, p.stderr.decode(errors="replace")))
        return p.stdout

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()


class TokenHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def give(self, query, user):
        server = self.server
        scopes = [s for value in query.get("scope", ()) for s in value.split()]
        server.asked.append((self.command, user, scopes))
        if query.get("service") != [SERVICE]:
            self.answer(400, {"errors": [{"code": "UNSUPPORTED", "message": "no such service"}]})
            return
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":", 2)
            granted = [a for a in actions.split(",") if server.allows(user, name, a)] if kind == "repository" else []
            access.append({"type": kind, "name": name, "actions": granted})
        self.answer(200, {"token": server.token(user, access), "expires_in": server.expires_in,
                          **({"refresh_token": server.identity} if query.get("offline_token") == ["true"] else {})})

    def do_GET(self):
        if self.path.partition("?")[0] != "/token":
            self.answer(404, {})
            return
        query = urllib.parse.parse_qs(self.path.partition("?")[2])
        auth = self.headers.get("Authorization")
        if auth is None:
            self.give(query, "")
            return
        scheme, _, value = auth.partition(" ")
        with contextlib.suppress(ValueError):
            if scheme.lower() == "basic" and base64.b64decode(value, validate=True).decode() == USER + ":" + PASSWORD:
                self.give(query, USER)
                return
        self.answer(401, {"errors": [{"code": "UNAUTHORIZED", "message": "wrong user or password"}]})

    def do_POST(self):
        """OAuth2: an identity token, which Docker calls a refresh token."""
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode())
        if form.get("grant_type") == ["refresh_token"] and form.get("refresh_token") == [self.server.identity]:
            self.give(form, USER)
        elif form.get("grant_type") == ["password"] and form.get("username") == [USER] and \
                form.get("password") == [PASSWORD]:
            self.give(form, USER)
        else:
            self.answer(401, {"error": "invalid_grant"})


class TokenServer(http.server.ThreadingHTTPServer):
    """
    Gives out tokens that docker-registry takes (distribution's "token" specification): USER may do everything below
    "team/" and pull below "public/", as anybody may. lifetime_s: how long they are good; expires_in: what it says of
    that. asked: (method, user, scopes) of each request.
    """

    daemon_threads = True

    def __init__(self, folder, lifetime_s=300):
        need("openssl")
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.key, self.cert = folder / "token.key", folder / "token.crt"
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tokens of the tests",
                "-keyout", self.key, "-out", self.cert)
        der = openssl("x509", "-in", self.cert, "-outform", "DER")
        self.chain = [base64.b64encode(der).decode()]
        self.issuer, self.identity = "issuer of the tests", secrets.token_hex(16)
        self.lifetime_s = self.expires_in = lifetime_s
        self.asked = []
        super().__init__(("127.0.0.1", 0), TokenHandler)
        self.realm = "http://127.0.0.1:%d/token" % self.server_address[1]
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    @staticmethod
    def allows(user, name, action):
        if name.startswith("public/"):
            return action == "pull" or user == USER and action == "push"
        return user == USER and name.startswith("team/")

    def token(self, user, access):
        def part(value):
            return base64.urlsafe_b64encode(value).rstrip(b"=")

        now = int(time.time())
        claims = {"iss": self.issuer, "sub": user, "aud": SERVICE, "iat": now, "nbf": now - 10,
                  "exp": now + self.lifetime_s - TOKEN_LEEWAY_S, "jti": secrets.token_hex(8), "access": access}
        header = {"typ": "JWT", "alg": "RS256", "x5c": self.chain}
        signed = part(json.dumps(header).encode()) + b"." + part(json.dumps(claims).encode())
        signature = openssl("dgst", "-sha256", "-sign", self.key, data=signed)
        return (signed + b"." + part(signature)).decode()

    def close(self):
        self.shutdown()
        self.thread.join()
        self.server_close()


# A program of its own, so that it can run in another network namespace: CONNECT and absolute addresses, with or without a
# password. Says what it was asked on standard output.
PROXY = r"""
import base64, http.client, http.server, select, socket, sys, urllib.parse

address, port, password = sys.argv[1], int(sys.argv[2]), sys.argv[3]
wanted = "Basic " + base64.b64encode(password.encode()).decode() if password else None

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *args):
        pass
    def refused(self):
        print(self.command, self.path, flush=True)
        if wanted and self.headers.get("Proxy-Authorization") != wanted:
            self.send_response(407)
            self.send_header("Proxy-Authenticate", "Basic realm=proxy")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return True
        return False
    def do_CONNECT(self):
        if self.refused():
            return
        host, _, port = self.path.rpartition(":")
        self.close_connection = True
        with socket.create_connection((host, int(port)), 10) as far:
            self.send_response(200)
            self.end_headers()
            ends = {self.connection: far, far: self.connection}
            while True:
                for ready in select.select(list(ends), [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    ends[ready].sendall(data)
    def do_GET(self):
        if self.refused():
            return
        url = urllib.parse.urlsplit(self.path)
        far = http.client.HTTPConnection(url.hostname, url.port or 80, timeout=10)
        headers = {k: v for k, v in self.headers.items() if not k.lower().startswith("proxy-")}
        far.request(self.command, urllib.parse.urlunsplit(("", "") + url[2:]), headers=headers)
        answer = far.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        if not answer.getheader("Content-Length"):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
    do_HEAD = do_GET

server = http.server.ThreadingHTTPServer((address, port), Handler)
server.daemon_threads = True
print("ready", flush=True)
server.serve_forever()
"""
