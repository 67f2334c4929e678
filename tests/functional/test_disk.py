"""What a box's disk is read as on the host: diff and export against what the box itself sees, and disks that lie."""

import io
import subprocess
import tarfile

from a3s import BoxTest, core, slow

# Everything that overlayfs treats in a way of its own.
WORK = r"""
set -e
rm /etc/hostname.old 2>/dev/null || true
rm /usr/bin/cksum                                   # a whiteout
rm /usr/bin/factor; echo again > /usr/bin/factor    # over a whiteout
rm -r /etc/cron.daily; mkdir /etc/cron.daily; echo x > /etc/cron.daily/mine    # an opaque folder
rm -r /usr/share/doc; ln -s /nowhere /usr/share/doc # a link instead of a folder
rm /etc/motd; mkdir /etc/motd; echo y > /etc/motd/y # a folder instead of a file
rm -r /etc/apt/preferences.d; echo z > /etc/apt/preferences.d                  # a file instead of a folder
mkdir /etc/opt/a; rmdir /etc/opt/a                  # only a time
mv /etc/skel /etc/skel2                             # EXDEV: copied
mv /etc/issue /etc/issue2
mv /etc/issue2 /etc/issue                           # as it was, but for the time of the folder
chmod 4700 /usr/bin/uniq; chown 7:8 /usr/bin/wc; chmod 700 /usr/share/perl5
touch -d '2001-02-03 04:05:06.789012345' /usr/bin/tail; touch -d '2222-02-02 02:02:02.222222222' /usr/bin/tac
: >> /usr/bin/sort                                  # copied up, not changed
ln /usr/bin/sum /usr/bin/sum2; ln /usr/bin/perl /perl-link
mkdir -p /new/deep/er; head -c 3000000 /dev/urandom > /new/big; truncate -s 100M /new/holes
printf end | dd of=/new/holes bs=1 seek=70000001 conv=notrunc status=none
ln /new/big /new/deep/big2; ln /new/deep/big2 /new/a-big; mkfifo /new/fifo; mknod /new/null c 1 3
ln -s "$(printf %0300d 1)" /new/long; ln -s short /new/short
i=0; while [ $i -lt 800 ]; do : > /new/deep/a-name-of-some-length-$i; i=$((i+1)); done
printf x > "/new/$(printf 'new\nline')"; : > "/new/$(printf '\377')"; : > "/new/$(printf %0255d 1)"
rm -r /usr/lib/systemd; mkdir /new/opaque-parent
mv /new/deep/er /new/er2
mkdir /gone; echo x > /gone/x; rm -r /gone
"""
# 1: /sys changed
TAR = r"tar -C / --one-file-system --format=pax --numeric-owner --xattrs --xattrs-include='*' -cf - . || [ $? = 1 ]"


def entries(data):
    """{name: what an archive says of it}; links by their group of names, because either name may come first."""
    found, groups = {}, {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r|", errors="surrogateescape") as tar:
        for m in tar:
            name = m.name.strip("/")
            name = name[2:] if name.startswith("./") else name
            if m.islnk():
                target = m.linkname[2:] if m.linkname.startswith("./") else m.linkname
                groups.setdefault(target, {target}).add(name)
                continue
            what = {"type": m.type, "mode": m.mode & 0o7777, "owner": (m.uid, m.gid), "target": m.linkname,
                    "mtime": m.pax_headers.get("mtime", str(m.mtime)),
                    "xattrs": {k: v for k, v in m.pax_headers.items() if k.startswith("SCHILY.xattr.")}}
            if m.issym():
                what["mode"] = 0o777
            if m.ischr() or m.isblk():
                what["device"] = (m.devmajor, m.devminor)
            if m.isfile() or m.issparse():
                what.update(type=b"0", size=m.size, content=hash_of(tar, m))
            found[name] = what
    for target, names in groups.items():
        for name in names:
            found[name] = dict(found[target], links=sorted(names))
    return found


def hash_of(tar, member):
    total, offset = 0, 0
    with tar.extractfile(member) as f:
        while piece := f.read(1 << 20):
            # A sum in which a hole is what zeros are, at any place: cheap for a file of holes.
            if piece.count(0) != len(piece):
                total ^= hash((offset, piece))
            offset += len(piece)
    return total


def differences(ours, theirs, but=()):
    lines = []
    for name in sorted(set(ours) | set(theirs)):
        a, b = ours.get(name), theirs.get(name)
        if a != b and name not in but and not name.startswith("dev/"):
            what = sorted(k for k in set(a or {}) | set(b or {}) if (a or {}).get(k) != (b or {}).get(k))
            lines.append("%r: %s" % (name, ", ".join("%s %r, not %r" % (k, (a or {}).get(k), (b or {}).get(k)) for k in what)))
    return lines[:20]


class DiskTest(BoxTest):
    images_wanted = ("box", "debian")

    def diff(self, box):
        return self.home.ok("diff", box).text

    def exported(self, box):
        return entries(self.home.ok("export", box).out)

    def scratch(self, box):
        return self.home.path / "boxes" / self.home.inspect(box)["Id"] / "scratch.img"

    def tearDown(self):
        self.home.run("rm", "-f", "-v", *(self.home.ok("ps", "-aq").text.split() or ["none"]))
        super().tearDown()


class Diff(DiskTest):
    @core
    def test_untouched(self):
        """What the guest makes itself, to mount on it, is not told."""
        self.home.ok("create", "--name", "never", "box")
        self.assertEqual(self.diff("never"), "")
        self.home.ok("run", "--name", "plain", "box", "true")
        self.assertEqual(self.diff("plain"), "")
        self.home.ok("run", "--name", "mounts", "--tmpfs", "/some/where", "-v", "/data/volume", "-v", "named:/work",
                     "box", "sh", "-c", "touch /some/where/x /data/volume/x /work/x")
        self.assertEqual(self.diff("mounts"), "")
        self.home.ok("run", "--name", "shifted", "--userns", "private", "box", "true")
        self.assertEqual(self.diff("shifted"), "")

    @core
    def test_table(self):
        script = r"""
            rm /etc/plain; echo x >> /etc/passwd; echo n > /etc/new; chmod 750 /root
            mkdir -p /a/b; echo f > /a/b/f; rm -r /home; mkdir /home; echo h > /home/h
            touch /bin/busybox; rm /opt-marker; mkdir /opt-marker; rm -r /work; : > /work
            mkdir /tmp/x; rmdir /tmp/x; mv /var/tmp /var/tmp2; printf '' > "/a/$(printf 'l1\nl2\033[31m')"
            rm /bin/true; ln -s busybox /bin/true; chown 5 /etc/script; touch /proc/x 2>/dev/null; : > /dev/shm/x
        """
        self.home.ok("run", "--name", "changed", "box", "sh", "-c", script)
        self.assertEqual(self.diff("changed").splitlines(), [
            "A /a", "A /a/b", "A /a/b/f", r"A /a/l1\x0al2\x1b[31m", "C /bin", "C /bin/busybox", "C /bin/true",
            "C /etc", "A /etc/new", "C /etc/passwd", "D /etc/plain", "C /etc/script",
            "C /home", "D /home/app", "A /home/h", "C /opt-marker", "C /root", "C /var", "D /var/tmp", "A /var/tmp2",
            "C /work"])

    def test_running(self):
        """The disk of this moment, and the box goes on."""
        self.home.ok("run", "-d", "--name", "live", "box", "sh", "-c", "echo 1 > /one; sleep 1000")
        self.home.ok("exec", "live", "sh", "-c", "while [ ! -e /one ]; do sleep 0.1; done; echo 2 > /two")
        self.assertEqual(self.diff("live"), "A /one\nA /two\n")
        self.home.ok("exec", "live", "rm", "/one", "/etc/plain")
        self.assertEqual(self.diff("live"), "C /etc\nD /etc/plain\nA /two\n")
        # In place: a disk of which no copy could be made is no matter, and the box writes again afterwards.
        self.home.ok("exec", "live", "sh", "-c", "head -c 50000000 /dev/urandom >/big; sync")
        size = self.scratch("live").stat().st_size
        limit = "ulimit -f %d; exec \"$@\"" % 1000
        self.assertGreater(size, 1024000)
        result = subprocess.run(["sh", "-c", limit, "sh", *self.home.argv(["diff", "live"])], env=self.home.env(),
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        self.assertEqual((result.returncode, result.stdout), (0, b"A /big\nC /etc\nD /etc/plain\nA /two\n"))
        self.home.ok("exec", "live", "sh", "-c", "echo 3 >/three; sync")
        self.assertEqual(self.home.status("live"), "running")


class AsTheBoxSees(DiskTest):
    @slow(400)
    def test_export(self):
        """The archive is what tar makes in the box, by content, attributes, links and times."""
        result = self.home.ok("run", "--name", "worker", "debian", "sh", "-c", "{ %s\n} >&2; %s" % (WORK, TAR), timeout=300)
        theirs = entries(result.out)
        ours = self.exported("worker")
        # The root's own entry is left out; what is mounted is not in either, or only what it is mounted on.
        but = ("", ".", "etc/hosts", "etc/hostname", "etc/resolv.conf", "dev", "proc", "sys")
        self.assertEqual(differences(ours, theirs, but), [])
        self.assertGreater(len(ours), 3000)
        self.assertIn("links", ours["new/a-big"])
        self.assertNotIn("usr/bin/cksum", ours)
        diff = self.diff("worker").splitlines()
        for line in ("D /usr/bin/cksum", "C /usr/bin/factor", "C /usr/share/doc", "D /etc/skel", "A /etc/skel2",
                     "C /usr/bin/uniq", "C /usr/bin/wc", "C /usr/bin/tac", "A /perl-link", "A /new/fifo", "D /usr/lib/systemd",
                      "C /etc/cron.daily",
                     "A /etc/cron.daily/mine", "C /etc/motd", "A /etc/motd/y", "C /etc/apt/preferences.d"):
            self.assertIn(line, diff)
        for line in ("C /usr/bin/sort", "C /usr/bin/sum", "C /etc/opt", "A /gone"):
            self.assertNotIn(line, diff)

        # The layer over the image is the same again.
        self.home.ok("commit", "worker", "again:1")
        self.home.ok("run", "--name", "again", "again:1", "true")
        self.assertEqual(self.diff("again"), "")
        again = self.exported("again")
        # In /etc its guest made files to mount on once more.
        self.assertEqual(differences(again, ours, but + ("etc",)), [])
        self.home.ok("rm", "again")
        self.home.ok("rmi", "again:1")


class Lies(DiskTest):
    """A disk is the guest's to write."""

    def refused(self, box, match):
        for command in ("diff", "export"):
            self.assert_one_line(self.home.run(command, box), rc=1, match=match)

    def debugfs(self, box, command):
        subprocess.run(["debugfs", "-w", "-R", command, str(self.scratch(box))], check=True, capture_output=True,
                       env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"})

    def test_disks(self):
        self.home.ok("run", "--name", "liar", "box", "sh", "-c", "mkdir -p /a/b; echo x > /a/file")
        self.debugfs("liar", "sif /upper/a/file size 0x1000000000000000")
        self.refused("liar", "file system is damaged.*/a/file")
        self.debugfs("liar", "sif /upper/a/file size 2")
        self.assertIn("A /a/file", self.diff("liar"))
        self.debugfs("liar", "link /upper/a /upper/a/b/loop")
        self.refused("liar", "a folder has several names")
        with open(self.scratch("liar"), "r+b") as f:
            f.seek(1024 + 0x38)
            f.write(b"xx")
        self.refused("liar", "Structure needs cleaning|no file system")
        self.home.ok("rm", "liar")
