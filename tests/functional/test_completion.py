"""Completion and manual pages: what shells are told, and that every command has its page."""

import os
import shutil
import subprocess
import tempfile
import unittest

from a3s import BUILD, ROOT, BoxTest, core


class Completion(BoxTest):
    def words(self, *words):
        return [line.split("\t")[0] for line in self.home.ok("__complete", *words).lines]

    @core
    def test_commands_options_values(self):
        self.assertIn("run", self.words(""))
        self.assertEqual(self.words("unpa"), ["unpause"])
        self.assertEqual(self.words("run", "--stop-t"), ["--stop-timeout"])
        self.assertEqual(self.words("run", "--pull", ""), ["always", "missing", "never"])
        self.assertEqual(self.words("run", "--pull=a"), ["--pull=always"])
        self.assertEqual(self.words("run", "-e", "A=b", "--restart", "un"), ["unless-stopped"])
        self.assertEqual(self.words("run", "--cap-add", "CAP_NET_R"), ["CAP_NET_RAW"])
        self.assertEqual(self.words("run", "--cidfile", ""), [":files"])
        self.assertEqual(self.words("no-such-command", ""), [])

    def test_boxes_and_images(self):
        self.home.ok("create", "--name", "first", "box")
        self.home.ok("create", "--name", "second", "box")
        self.assertIn("box:latest", self.words("run", "b"))
        self.assertEqual(sorted(self.words("rm", "")), ["first", "second"])
        self.assertEqual(self.words("rm", "first", "sec"), ["second"])
        self.assertEqual(self.words("exec", ""), [])  # none runs
        self.assertEqual(self.words("exec", "first", ""), [":files"])
        for command in ("attach", "shell", "top"):
            self.assertEqual(self.words(command, ""), [])
        for command in ("logs", "rename", "port"):  # any box, and nothing behind it
            self.assertEqual(sorted(self.words(command, "")), ["first", "second"])
            self.assertEqual(self.words(command, "first", ""), [])
        self.assertEqual(self.home.ok("__complete", "run", "--cidfile=/t").lines, [":files\t--cidfile="])
        self.assertIn("first", self.words("inspect", "f"))
        self.home.ok("rm", "first", "second")

    def test_copies_and_mounts(self):
        self.home.ok("create", "--name", "first", "box")
        self.assertEqual(sorted(self.words("cp", "f")), [":files", "first:"])
        self.assertEqual(self.words("cp", "/etc/passwd", "f"), [":files", "first:"])
        self.assertEqual(self.words("cp", "./f"), [":files"])  # no box
        self.assertEqual(self.words("cp", "first:/e"), [])
        self.assertEqual(self.words("cp", "a", "b", ""), [])
        self.home.ok("rm", "first")
        self.assertEqual(self.words("run", "--mount", "ty"), ["type="])
        self.assertEqual(self.words("run", "--mount", "type="), ["type=bind", "type=volume", "type=tmpfs"])
        self.assertEqual(self.words("run", "--mount=type=bind,s"), ["--mount=type=bind,source="])

    def test_image_commands(self):
        for command in ("history", "image-inspect", "images", "pull", "push", "rmi", "save", "tag"):
            self.assertIn("box:latest", self.words(command, "b"))
        self.assertEqual(self.words("import", ""), [":files"])
        self.assertIn("box:latest", self.words("import", "root.tar", ""))
        self.assertEqual(self.words("load", "-i", ""), [":files"])
        self.assertEqual(self.words("pull", "--cert-dir", ""), [":files"])
        self.assertEqual(self.words("save", "--format", "o"), ["oci-archive"])
        self.assertEqual(self.words("images", "--format", "j"), ["json"])
        self.assertEqual(self.words("push", "--platform", "linux/am"), ["linux/amd64"])
        self.assertEqual(self.words("login", ""), ["docker.io"])
        self.assertEqual(self.words("login", "docker.io", ""), [])
        self.assertEqual(self.words("image-"), ["image-check", "image-inspect", "image-prune"])

    def test_networks(self):
        self.assertIn("connect", self.words("network", ""))
        self.assertEqual(self.words("network", "update", "--iso"), ["--isolation"])
        self.assertEqual(self.words("network", "update", "--isolation", "s"), ["strict"])
        self.home.ok("network", "create", "shop")
        self.home.ok("create", "--name", "first", "box")
        self.assertEqual(self.words("network", "connect", "s"), ["shop"])
        self.assertEqual(self.words("network", "connect", "shop", ""), ["first"])
        self.assertEqual(self.words("network", "connect", "shop", "first", ""), [])
        self.assertEqual(self.words("network", "nosuch", ""), [])
        self.home.ok("rm", "first")
        self.home.ok("network", "rm", "shop")

    def test_bash(self):
        script = self.home.ok("completion", "bash")
        ask = ('PATH=%s:$PATH; COMP_WORDBREAKS=$\' \\t\\n"\\\'><=;|&(:\'; COMP_WORDS=(%s); COMP_CWORD=%d; COMP_LINE="%s"; '
               'COMP_POINT=${#COMP_LINE}; compopt() { :; }; _a3s_box; printf "%%s\\n" "${COMPREPLY[@]}"')
        for words, answer in ((["a3s-box", " run", " --pull", " n"], "never"),
                              (["a3s-box", " run", "  --pull", "=", "n"], "never"),
                              (["a3s-box", " run", " --pull", "="], "always\nmissing\nnever"),
                              (["a3s-box", " run", " --rm", " box", ":", "la"], "latest"),
                              (["a3s-box", " run", " --cidfile", "=", "/etc/pass"], "/etc/passwd"),
                              (["a3s-box", " exec", " x", " /etc/pass"], "/etc/passwd"),
                              (["a3s-box", " unp", ""], "unpause")):
            with self.subTest("".join(words)):
                words = [w for w in words if w]
                ran = ask % (BUILD, " ".join("'%s'" % w.strip() for w in words), len(words) - 1, "".join(words))
                p = subprocess.run(["bash", "--norc", "-c", script.out.decode() + ran], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, check=False, env=dict(os.environ, A3S_HOME=str(self.home.path)))
                found = p.stdout.decode().strip().replace("/etc/passwd-\n", "").replace("\n/etc/passwd-", "")
                self.assertEqual((found, p.stderr), (answer, b""))

    def test_other_shells(self):
        for shell in ("zsh", "fish"):
            with self.subTest(shell):
                script = self.home.ok("completion", shell)
                if not shutil.which(shell):
                    continue  # its syntax is checked where there is one
                p = subprocess.run([shell, "-n"], input=script.out, stderr=subprocess.PIPE, check=False)
                self.assertEqual((p.returncode, p.stderr), (0, b""))
        self.assert_one_line(self.home.run("completion", "tcsh"))


class Manual(unittest.TestCase):
    def test_a_page_per_command(self):
        with tempfile.TemporaryDirectory(prefix="a3s-") as tmp:
            p = subprocess.run([ROOT / "scripts/man", BUILD / "a3s-box", ROOT / "docs/commands.md", tmp],
                               stderr=subprocess.PIPE, check=False)
            self.assertEqual((p.returncode, p.stderr), (0, b""))
            if shutil.which("groff"):
                for command in ("run", "exec", "ps", "network", "network-create"):
                    with open("%s/a3s-box-%s.1" % (tmp, command), "rb") as f:
                        g = subprocess.run(["groff", "-man", "-Tascii", "-P-cbou", "-ww"], stdin=f, stdout=subprocess.PIPE,
                                           stderr=subprocess.PIPE, check=False)
                    self.assertEqual((g.returncode, g.stderr), (0, b""))
                    self.assertIn(b"SYNOPSIS", g.stdout)
