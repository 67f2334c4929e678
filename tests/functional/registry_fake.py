"""A registry of our own on the loopback address, which can be told to misbehave. It serves one image, x:1."""

import hashlib
import http.server
import json
import socket
import threading

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def handle(self):
        # A client that tries TLS first gets no answer to wait for.
        try:
            if self.connection.recv(1, socket.MSG_PEEK) != b"\x16":
                super().handle()
        except OSError:
            pass

    def answer(self, status, body=b"", length=None, **headers):
        """length: what is announced, when that is not the truth."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
        if length is not None:
            self.close_connection = True

    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers.get("Authorization")))
        if server.hook and server.hook(self):
            return
        if self.path == "/v2/":
            self.answer(200)
        elif self.path in ("/v2/x/manifests/1", "/v2/x/manifests/" + digest(server.manifest)):
            self.answer(200, server.manifest, Content_Type=MANIFEST_TYPE)
        elif self.path.startswith("/v2/x/blobs/") and self.path[12:] in server.blobs:
            self.answer(200, server.blobs[self.path[12:]])
        else:
            self.answer(404)


class Registry(http.server.ThreadingHTTPServer):
    """hook(handler), if set, may answer a request itself and then returns true. requests: (path, Authorization)."""

    daemon_threads = True

    def __init__(self, descriptor, blobs):
        super().__init__(("127.0.0.1", 0), Handler)
        self.port = self.server_address[1]
        self.origin = "http://127.0.0.1:%d" % self.port
        self.name = "127.0.0.1:%d/x:1" % self.port
        self.blobs = blobs
        self.manifest = blobs[descriptor["digest"]]
        parsed = json.loads(self.manifest)
        self.config, self.layers = parsed["config"]["digest"], [x["digest"] for x in parsed["layers"]]
        self.hook = None
        self.requests = []
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def close(self):
        self.shutdown()
        self.thread.join()
        self.server_close()
