"""A registry of our own on the loopback address, which can be told to misbehave. It serves images under any repository's
name; the first one is x:1."""

import collections
import hashlib
import http.server
import json
import re
import socket
import ssl
import sys
import threading
import time

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
PIECE = 16384

Logged = collections.namedtuple("Logged", "method path headers")


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def handle(self):
        server = self.server
        try:
            if server.greeting and server.greeting(self.connection):
                return
            # A client that tries TLS first gets no answer to wait for.
            if server.tls or self.connection.recv(1, socket.MSG_PEEK) != b"\x16":
                super().handle()
        except (OSError, ValueError):
            pass  # the client has gone

    def head(self, status, length, **headers):
        """length: what is announced; None: nothing."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def answer(self, status, body=b"", length=None, **headers):
        """length: what is announced, when that is not the truth."""
        self.head(status, len(body) if length is None else length, **headers)
        if self.command != "HEAD":
            self.wfile.write(body)
        if length is not None:
            self.close_connection = True

    def chunks(self, pieces):
        """A body of which nobody says the length in advance."""
        for piece in pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def raw(self, data):
        self.close_connection = True
        self.wfile.write(data)

    def blob(self, name):
        """With ranges, and at the pace that the server was told."""
        server, data = self.server, self.server.blobs[name]
        wanted = re.fullmatch("bytes=([0-9]+)-", self.headers.get("Range") or "")
        start = int(wanted.group(1)) if wanted else 0
        if start > len(data):
            self.answer(416)
            return
        more = {"Content_Range": "bytes %d-%d/%d" % (start, len(data) - 1, len(data))} if wanted else {}
        self.head(206 if wanted else 200, len(data) - start, Content_Type="application/octet-stream", **more)
        if self.command == "HEAD":
            return
        with server.lock:
            server.served[name] += 1
        for at in range(start, len(data), PIECE):
            piece = data[at:at + PIECE]
            self.wfile.write(piece)
            with server.lock:
                server.sent[name] += len(piece)
            if server.pace:
                time.sleep(len(piece) / server.pace)

    def do_GET(self):
        server = self.server
        with server.lock:
            server.requests.append((self.path, self.headers.get("Authorization")))
            server.log.append(Logged(self.command, self.path, dict(self.headers.items())))
        if server.hook and server.hook(self):
            return
        path = self.path.partition("?")[0]
        match = re.fullmatch(".*/v2/(.+)/(manifests|blobs|tags)/([^/]+)", path)
        if path == "/v2/":
            self.answer(200, b"{}")
        elif not match:
            self.answer(404)
        elif match[2] == "manifests" and server.tags.get(match[3], match[3]) in server.blobs:
            data = server.blobs[server.tags.get(match[3], match[3])]
            self.answer(200, data, Content_Type=json.loads(data)["mediaType"], Docker_Content_Digest=digest(data))
        elif match[2] == "blobs" and match[3] in server.blobs:
            self.blob(match[3])
        elif match[2] == "tags" and match[3] == "list":
            self.answer(200, json.dumps({"name": match[1], "tags": sorted(server.tags)}).encode(),
                        Content_Type="application/json")
        else:
            self.answer(404)

    do_HEAD = do_GET


class Registry(http.server.ThreadingHTTPServer):
    """
    hook(handler), if set, may answer a request itself and then returns true. greeting(connection) comes before anything
    is read, and ends the connection when it returns true. pace: bytes a second of each blob. requests: (path,
    Authorization) of each; log: the same with all headers. served, sent: how often each blob was asked for, and bytes.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, descriptor, blobs, tls=None, address=("127.0.0.1", 0)):
        self.tls = tls
        super().__init__(address, Handler)
        self.port = self.server_address[1]
        self.host = "%s:%d" % self.server_address[:2]
        self.origin = "%s://%s" % ("https" if tls else "http", self.host)
        self.name = self.host + "/x:1"
        self.blobs = dict(blobs)
        self.tags = {"1": descriptor["digest"]}
        self.manifest = blobs[descriptor["digest"]]
        parsed = json.loads(self.manifest)
        self.config = parsed.get("config", {}).get("digest")
        self.layers = [x["digest"] for x in parsed.get("layers", ())]
        self.hook = self.greeting = self.pace = None
        self.lock = threading.Lock()
        self.forget()
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def add(self, tag, descriptor, blobs):
        self.blobs.update(blobs)
        self.tags[tag] = descriptor["digest"]

    def forget(self):
        self.requests, self.log = [], []
        self.served, self.sent = collections.Counter(), collections.Counter()

    def finish_request(self, request, client_address):
        # In the connection's own thread: a client that does not shake hands keeps nobody else waiting.
        if not self.tls:
            super().finish_request(request, client_address)
            return
        request.settimeout(30)
        with self.tls.wrap_socket(request, server_side=True) as secure:
            super().finish_request(secure, client_address)

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], (OSError, ssl.SSLError)):
            super().handle_error(request, client_address)

    def close(self):
        self.shutdown()
        self.thread.join()
        self.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
