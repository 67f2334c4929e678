"""Real programs from images that others packed."""

from a3s import BoxTest, slow, wait_for


class Programs(BoxTest):
    images_wanted = ("debian", "nginx", "redis", "python")

    def test_debian(self):
        result = self.home.run("run", "--rm", "debian", "sh", "-c", "dpkg -l | wc -l; . /etc/os-release; echo $ID $VERSION_ID")
        self.assert_rc(result, 0)
        self.assertGreater(int(result.lines[0]), 60)
        self.assertEqual(result.lines[1], "debian 12")

    def test_owners_modes_and_links_of_a_whole_distribution(self):
        """What the package manager recorded holds in the box."""
        result = self.home.run("run", "--rm", "debian", "sh", "-c",
                               "dpkg --verify | grep -v /usr/share; stat -c '%a %U:%G %n' /usr/bin/passwd /etc/shadow /tmp;"
                               "readlink /bin")
        self.assert_out(result, "4755 root:root /usr/bin/passwd\n640 root:shadow /etc/shadow\n1777 root:root /tmp\n"
                                "usr/bin\n")

    @slow(300)
    def test_python_computes(self):
        code = "import hashlib, sys; print(sum(i * i for i in range(100000)), hashlib.sha256(b'a3s').hexdigest())"
        import hashlib  # pylint: disable=import-outside-toplevel
        expected = "%d %s\n" % (sum(i * i for i in range(100000)), hashlib.sha256(b"a3s").hexdigest())
        self.assert_out(self.home.run("run", "--rm", "python", "python3", "-c", code), expected)
        self.assert_out(self.home.run("run", "--rm", "-i", "python", input=b"print(2**100)"), "%d\n" % 2 ** 100)

    @slow(300)
    def test_redis_answers(self):
        box = self.home.run_detached("--name", "redis", "redis")
        wait_for("redis", lambda: self.home.run("exec", "redis", "redis-cli", "ping").out == b"PONG\n", 60, 0.3)
        self.assert_out(self.home.run("exec", "redis", "redis-cli", "set", "k", "v"), "OK\n")
        self.assert_out(self.home.run("exec", "redis", "redis-cli", "get", "k"), "v\n")
        self.assertNotEqual(self.home.ok("exec", "redis", "id", "-u").text, "0\n", "the image's user is redis")
        result = self.home.ok("stop", "redis")
        self.assertLess(result.seconds, 10)
        self.assertEqual(self.home.inspect(box)["State"]["ExitCode"], 0)
        self.assertIn(b"Ready to accept connections", self.home.ok("logs", "redis").out)
        self.home.ok("rm", "redis")

    @slow(300)
    def test_nginx_serves(self):
        self.home.run_detached("--name", "nginx", "nginx")
        page = wait_for("nginx", lambda: self.home.run("exec", "nginx", "curl", "-s", "http://127.0.0.1/").out, 60, 0.3)
        self.assertIn(b"<h1>Welcome to nginx", page)
        self.home.ok("stop", "nginx")
        self.home.ok("rm", "nginx")
