"""Two network namespaces, joined by a cable: a host, and all that is outside of it, with addresses that nobody else has
(RFC 5737, RFC 3849) and a test's own servers. What is to happen on the host is started with `wrap` in front."""

import subprocess
import sys

OUTSIDE4, OUTSIDE6 = "198.51.100.7", "2001:db8::7"
HOST4, HOST6 = "203.0.113.1", "2001:db8:1::1"

# HTTP says who asks and for what; UDP comes back with who sent it; DNS knows one name of both families.
SERVER = r"""
import http.server, json, socket, socketserver, struct, sys, threading

where, http_port, udp_port, name = sys.argv[1:5]
family = socket.AF_INET6 if ":" in where else socket.AF_INET

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = ("%s %s\n" % (self.client_address[0], self.path)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass

class Web(http.server.ThreadingHTTPServer):
    address_family = family
    daemon_threads = True
    request_queue_size = 1024
    def server_bind(self):
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

def echo(sock):
    while True:
        data, peer = sock.recvfrom(65535)
        sock.sendto(b"%s %s" % (peer[0].encode(), data), peer)

def dns(sock):
    while True:
        data, peer = sock.recvfrom(65535)
        end, labels = 12, []
        while data[end]:
            labels.append(data[end + 1:end + 1 + data[end]].decode().lower())
            end += 1 + data[end]
        kind = struct.unpack(">H", data[end + 1:end + 3])[0]
        answers = {1: socket.inet_pton(socket.AF_INET, "198.51.100.7"),
                   28: socket.inet_pton(socket.AF_INET6, "2001:db8::7")}
        known = ".".join(labels) == name
        answer = b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 30, len(answers[kind])) + answers[kind] \
            if known and kind in answers else b""
        flags = 0x8180 if known else 0x8183
        sock.sendto(data[:2] + struct.pack(">HHHHH", flags, 1, 1 if answer else 0, 0, 0) + data[12:end + 5] + answer, peer)

def serve(port, fn):
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((where, port))
    threading.Thread(target=fn, args=(sock,), daemon=True).start()

web = Web((where, int(http_port)), Handler)
if udp_port != "0":
    serve(int(udp_port), echo)
if name:
    serve(53, dns)
print("ready", flush=True)
web.serve_forever()
"""

CLIENT = r"""
import json, socket, sys, urllib.request

what, address, port = sys.argv[1:4]
port = int(port)
if what == "http":
    host = "[%s]" % address if ":" in address else address
    print(urllib.request.urlopen("http://%s:%d%s" % (host, port, sys.argv[4]), timeout=60).read().decode(), end="")
elif what == "udp":
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(2)
    for _ in range(30):
        try:
            sock.sendto(sys.argv[4].encode(), (address, port))
            print(sock.recv(65535).decode(), end="")
            break
        except OSError:
            pass
elif what == "answer":
    try:
        with socket.create_connection((address, port), timeout=60) as sock:
            print(sock.recv(65535).decode(), end="")
    except ConnectionError:
        pass
elif what == "refused":
    try:
        socket.create_connection((address, port), timeout=20).close()
        print("connected")
    except OSError as e:
        print(type(e).__name__)
"""


def hold():
    """A process that keeps a namespace."""
    holder = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep 100000"], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE)
    holder.stdout.readline()
    return holder


class NetNs:
    """Ends everything in it when closed. Making it needs privileges."""

    def __init__(self):
        self.servers = []
        self.host, self.outside = hold(), hold()
        self.wrap = ("nsenter", "-t", str(self.host.pid), "-n")
        try:
            self.join()
        except BaseException:
            self.close()
            raise

    def join(self):
        away = ("nsenter", "-t", str(self.outside.pid), "-n")
        self.run("ip", "link", "add", "out", "type", "veth", "peer", "name", "in", "netns", str(self.outside.pid))
        for wrap, name, four, six, peer in ((self.wrap, "out", HOST4, HOST6, OUTSIDE4), (away, "in", OUTSIDE4, OUTSIDE6, HOST4)):
            for line in ("link set lo up", "link set %s up" % name, "addr add %s peer %s dev %s" % (four, peer, name),
                         "-6 addr add %s/32 dev %s nodad" % (six, name), "route add default dev %s" % name,
                         "-6 route add default dev %s" % name):
                self.run("ip", *line.split(), wrap=wrap)

    def run(self, *argv, check=True, wrap=None):
        result = subprocess.run([*(wrap or self.wrap), *argv], capture_output=True, check=False, timeout=120)
        if check and result.returncode:
            raise AssertionError("%s: %s" % (" ".join(argv), result.stderr.decode(errors="replace")))
        return result.stdout.decode()

    def serve(self, where, http_port, udp_port=0, name=""):
        wrap = ("nsenter", "-t", str(self.outside.pid), "-n") if where in (OUTSIDE4, OUTSIDE6) else self.wrap
        return self.start(SERVER, where, str(http_port), str(udp_port), name, wrap=wrap)

    def start(self, script, *args, wrap=None):
        """A server in Python, which says when it is ready; on the host."""
        server = subprocess.Popen([*(wrap or self.wrap), sys.executable, "-c", script, *args], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE)
        self.servers.append(server)
        if server.stdout.readline() != b"ready\n":
            raise AssertionError("a server of the test did not start: %s" % " ".join(args))
        return server

    def http(self, address, port, path="/"):
        return self.run(sys.executable, "-c", CLIENT, "http", address, str(port), path)

    def udp(self, address, port, text):
        return self.run(sys.executable, "-c", CLIENT, "udp", address, str(port), text)

    def answer(self, address, port):
        """What comes at once, and "" when the connection ends instead, within a minute."""
        return self.run(sys.executable, "-c", CLIENT, "answer", address, str(port))

    def connect(self, address, port):
        """"connected", or the name of the error."""
        return self.run(sys.executable, "-c", CLIENT, "refused", address, str(port)).strip()

    def close(self):
        for p in (*self.servers, self.host, self.outside):
            p.kill()
            p.wait()
            p.stdout.close()
