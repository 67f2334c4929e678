"""Images: archives of others' making, listing, removal, and what bad input does (nothing)."""

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile

import a3s
import images
from a3s import BoxTest, core, slow

HEADER = ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]


class ImageTest(BoxTest):
    """Every test begins with an empty store."""

    images_wanted = ()

    def tearDown(self):
        super().tearDown()
        for image in set(self.home.ok("images", "-q").text.split()):
            self.home.ok("rmi", "-f", image)

    def store(self):
        """What is stored: names, files, contents by size."""
        files = {}
        for top, _, names in os.walk(self.home.path / "images"):
            for name in names:
                path = os.path.join(top, name)
                if name != "lock":
                    files[os.path.relpath(path, self.home.path)] = os.path.getsize(path)
        return self.home.ok("images").text, files

    def rows(self):
        """{(repository, tag): image ID}"""
        lines = self.home.ok("images").lines
        self.assertEqual(lines[0].split(), HEADER)
        return {tuple(line.split()[:2]): line.split()[2] for line in lines[1:]}

    def assert_runs(self, image, *command, expect=b"hello\n"):
        self.assert_out(self.home.run("run", "--rm", image, *(command or ("echo", "hello"))), expect)


class Load(ImageTest):
    @core
    def test_oci_archive_of_our_script(self):
        result = self.home.ok("load", "-i", self.image_file("box"))
        self.assertIn("Loaded image: ", result.text)
        self.assertIn("box:latest", result.text)
        self.assertIn(("box", "latest"), self.rows())
        self.assert_runs("box")

    def test_oci_archive_of_skopeo(self):
        self.home.load(self.image_file("box", "oci-skopeo"))
        self.assertIn(("box", "skopeo"), self.rows())
        self.assert_runs("box:skopeo")

    @core
    def test_docker_archive_of_skopeo(self):
        self.home.load(self.image_file("box", "docker"))
        self.assertIn(("box", "docker"), self.rows())
        self.assert_runs("box:docker")

    def test_docker_archive_of_buildah(self):
        self.home.load(self.image_file("buildah"))
        self.assertIn(("localhost/buildah", "1"), self.rows())
        self.assert_runs("localhost/buildah:1", "sh", "-c", "echo $BUILT_BY", expect=b"buildah\n")

    def test_layout_of_umoci(self):
        """No full name in it: the name comes from the layout's tag, or the image is found by its ID."""
        result = self.home.load(self.image_file("box", "layout"))
        found = re.search(r"Loaded image(?: ID)?: (\S+)", result.text)
        self.assertTrue(found, result)
        self.assert_runs(found.group(1), "sh", "-c", "echo $PACKED_BY", expect=b"umoci\n")

    def test_the_same_content_is_stored_once(self):
        self.home.load(self.image_file("box"))
        first = self.store()[1]
        self.home.load(self.image_file("box", "oci-skopeo"))
        ids = self.rows()
        self.assertEqual(ids["box", "latest"], ids["box", "skopeo"])
        disks = [f for f in self.store()[1] if "/disks/" in f]
        self.assertEqual(disks, [f for f in first if "/disks/" in f])

    @core
    def test_standard_input(self):
        with open(self.image_file("box"), "rb") as f:
            self.home.ok("load", stdin=f)
        self.assertIn(("box", "latest"), self.rows())

    def test_standard_input_through_a_pipe(self):
        data = self.image_file("box").read_bytes()
        self.home.ok("load", "-i", "-", input=data)
        self.assertIn(("box", "latest"), self.rows())

    @core
    def test_compressed_archives(self):
        data = self.image_file("box").read_bytes()
        zstd = self.home.tmp / "image.tar.zst"
        packed = {"gzip": gzip.compress(data, 1)}
        if shutil.which("zstd"):
            packed["zstd"] = subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout
        for name, content in packed.items():
            with self.subTest(name):
                zstd.write_bytes(content)
                self.home.load(zstd)
                self.assertIn(("box", "latest"), self.rows())
                self.home.ok("rmi", "box")
        zstd.unlink()

    @core
    def test_layers_are_merged_by_the_overlay_rules(self):
        self.home.load(self.image_file("layers"))
        script = """
            ls -d /gone /removed 2>/dev/null
            ls /opaque
            cat /replaced /kept/one /kept/low
            stat -c '%a %u:%g' /replaced
            stat -c %h /kept/one
            test /kept/one -ef /kept/two && echo same
            stat -c '%a %u:%g' /home/app/mine /tmp
            ls -a / | grep -c '^.wh.'
        """
        expected = "high\nnew\nlinked\nlow\n600 1000:2000\n2\nsame\n600 1000:1000\n1777 0:0\n0\n"
        result = self.home.run("run", "--rm", "layers", "sh", "-c", script)
        self.assertEqual(result.text, expected, result)

    def test_names_are_normalised_as_docker_does(self):
        self.home.load(self.image_file("box"))
        for name in ("box", "box:latest", "library/box", "docker.io/library/box:latest", "docker.io/box"):
            with self.subTest(name):
                self.assertTrue(self.home.ok("run", "--rm", name, "true").rc == 0)


class Listing(ImageTest):
    def test_columns_and_ids(self):
        self.assertEqual(self.home.ok("images").text.split(), HEADER)
        self.home.load(self.image_file("box"))
        lines = self.home.ok("images").lines
        self.assertEqual(len(lines), 2, lines)
        # Reproducible images have no date.
        self.assertRegex(lines[1], r"^box +latest +[0-9a-f]{12} +N/A +[0-9.]+ ?[kM]?B$")
        short = self.home.ok("images", "-q").text
        self.assertRegex(short, r"^[0-9a-f]{12}\n$")
        self.assertEqual(short.strip(), lines[1].split()[2])
        with tarfile.open(self.image_file("box")) as tar:
            index = json.load(tar.extractfile("index.json"))
            manifest = json.load(tar.extractfile("blobs/sha256/" + index["manifests"][0]["digest"].split(":")[1]))
        self.assertTrue(manifest["config"]["digest"].split(":")[1].startswith(short.strip()),
                        "the image ID is not the digest of its configuration")
        self.home.load(self.image_file("buildah"))
        (line,) = [line for line in self.home.ok("images").lines if "buildah" in line]
        self.assertRegex(line, r"^localhost/buildah +1 +[0-9a-f]{12} +\S.* ago +[0-9.]+ ?[kM]?B$")

    def test_run_by_id_and_by_prefix(self):
        self.home.load(self.image_file("box"))
        image = self.home.ok("images", "-q").text.strip()
        self.assert_runs(image)
        self.assert_runs(image[:6])

    def test_rmi(self):
        self.home.load(self.image_file("box"))
        self.home.load(self.image_file("box", "oci-skopeo"))
        result = self.home.ok("rmi", "box:skopeo")
        self.assertIn("Untagged: ", result.text)
        self.assertNotIn("Deleted: ", result.text)
        result = self.home.ok("rmi", "box")
        self.assertIn("Untagged: ", result.text)
        self.assertRegex(result.text, "Deleted: sha256:[0-9a-f]{64}")
        self.assertEqual(self.home.ok("images", "-q").text, "")
        left = [f for f in self.store()[1] if "/blobs/" in f or "/disks/" in f]
        self.assertEqual(left, [])

    def test_rmi_of_an_unknown_image(self):
        self.assert_one_line(self.home.run("rmi", "nosuch"), match="nosuch")

    @core
    def test_rmi_of_an_image_in_use(self):
        self.home.load(self.image_file("box"))
        box = self.home.run_detached("box", "sleep", "1000")
        before = self.store()
        self.assert_one_line(self.home.run("rmi", "box"), match="in use|used by|uses it")
        self.assertEqual(self.store(), before)
        self.assert_out(self.home.run("exec", box, "echo", "alive"), "alive\n")
        self.home.ok("rm", "-f", box)
        self.home.ok("rmi", "box")


class BadArchives(ImageTest):
    """One line, a non-zero status, and the store as before."""

    def refuse(self, path, match=None, **options):
        before = self.store()
        self.assert_one_line(self.home.run("load", "-i", path, **options), match=match)
        self.assertEqual(self.store(), before)

    def rewritten(self, change, name="bad.tar"):
        """The box image with change(name, data) applied to each file; None drops it."""
        out = self.home.tmp / name
        with tarfile.open(self.image_file("box")) as source, tarfile.open(out, "w") as target:
            for member in source:
                data = source.extractfile(member).read() if member.isfile() else b""
                new = change(member.name, data)
                if new is None:
                    continue
                member.size = len(new)
                target.addfile(member, io.BytesIO(new))
        return out

    def blob_names(self):
        """(manifest, config, layer) as file names in the archive."""
        with tarfile.open(self.image_file("box")) as tar:
            index = json.load(tar.extractfile("index.json"))
            manifest_name = "blobs/sha256/" + index["manifests"][0]["digest"].split(":")[1]
            manifest = json.load(tar.extractfile(manifest_name))
        return (manifest_name, "blobs/sha256/" + manifest["config"]["digest"].split(":")[1],
                "blobs/sha256/" + manifest["layers"][0]["digest"].split(":")[1])

    def test_missing_file(self):
        self.refuse(self.home.tmp / "nosuch.tar", "nosuch.tar")

    def test_a_folder(self):
        self.refuse(self.home.tmp)

    def test_an_empty_file(self):
        (self.home.tmp / "empty").write_bytes(b"")
        self.refuse(self.home.tmp / "empty")

    def test_not_an_archive(self):
        path = self.home.tmp / "text"
        path.write_bytes(b"this is no archive at all\n" * 1000)
        self.refuse(path)

    def test_random_bytes(self):
        path = self.home.tmp / "noise"
        path.write_bytes(os.urandom(100000))
        self.refuse(path)

    def test_an_archive_of_something_else(self):
        path = self.home.tmp / "other.tar"
        with tarfile.open(path, "w") as tar:
            tar.addfile(tarfile.TarInfo("hello"))
        self.refuse(path)

    @core
    def test_truncated(self):
        data = self.image_file("box").read_bytes()
        path = self.home.tmp / "cut.tar"
        for part in (0.01, 0.3, 0.7, 0.95):
            with self.subTest(part=part):
                path.write_bytes(data[:int(len(data) * part)])
                self.refuse(path)

    def test_truncated_gzip(self):
        data = gzip.compress(self.image_file("box").read_bytes(), 1)
        path = self.home.tmp / "cut.tar.gz"
        path.write_bytes(data[:len(data) // 2])
        self.refuse(path)

    @core
    def test_wrong_digest(self):
        for what, target in zip(("manifest", "config", "layer"), self.blob_names()):
            with self.subTest(what):
                def flip(name, data, target=target):
                    if name != target:
                        return data
                    # Still valid JSON for the first two: one digit of a date or a space.
                    if data[:1] == b"{":
                        return data.replace(b'"linux"', b'"linuz"') if b'"linux"' in data else data + b" "
                    middle = len(data) // 2
                    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1:]

                self.refuse(self.rewritten(flip), "digest|checksum|sha256|mismatch|size")

    def test_a_blob_is_missing(self):
        for what, target in zip(("manifest", "config", "layer"), self.blob_names()):
            with self.subTest(what):
                self.refuse(self.rewritten(lambda name, data, target=target: None if name == target else data))

    def test_broken_json(self):
        self.refuse(self.rewritten(lambda name, data: b"{" if name == "index.json" else data))

    def test_wrong_diff_id(self):
        """The layer is as the manifest says, but its content is not what the configuration names."""
        script = images.busybox_image
        manifest, blobs = script.image_blobs([script.Tree().bytes()])
        config_name = next(d for d, data in blobs.items() if b"diff_ids" in data)
        config = json.loads(blobs.pop(config_name))
        config["rootfs"]["diff_ids"] = ["sha256:" + hashlib.sha256(b"other").hexdigest()]
        new = script.dump(config)
        blobs[script.sha256(new)] = new
        body = json.loads(blobs.pop(manifest["digest"]))
        body["config"] = script.descriptor("config.v1+json", new)
        packed = script.dump(body)
        blobs[script.sha256(packed)] = packed
        path = self.home.tmp / "diffid.tar"
        script.write_archive(path, "bad:latest", script.descriptor("manifest.v1+json", packed), blobs)
        self.refuse(path)

    @core
    def test_blob_that_is_a_link(self):
        """A layer's name that stands for other content, in an image that claims the first one's layers."""
        script = images.busybox_image
        honest, hostile = script.Tree(), script.Tree()
        honest.file("f", "honest\n")
        hostile.file("f", "HOSTILE\n")
        layer, other = honest.bytes(), hostile.bytes()
        manifest, blobs = script.image_blobs([layer])
        body = json.loads(blobs.pop(manifest["digest"]))
        body["layers"] = [script.descriptor("layer.v1.tar", layer)]
        self.assertEqual(len(layer), len(other))
        packed = script.dump(body)
        blobs = {script.sha256(x): x for x in (*blobs.values(), packed, layer, other)}
        good, bad = self.home.tmp / "good.tar", self.home.tmp / "bad.tar"
        script.write_archive(good, "x:1", script.descriptor("manifest.v1+json", packed), blobs)
        for kind in (tarfile.LNKTYPE, tarfile.SYMTYPE):
            with tarfile.open(good) as source, tarfile.open(bad, "w") as target:
                for member in source:
                    data = io.BytesIO(source.extractfile(member).read()) if member.isfile() else None
                    if member.name.endswith(script.sha256(layer)[7:]):
                        member.type, member.size, data = kind, 0, None
                        member.linkname = "blobs/sha256/" * (kind == tarfile.LNKTYPE) + script.sha256(other)[7:]
                    target.addfile(member, data)
            self.refuse(bad, "link")
        self.home.load(good)
        (disk,) = (self.home.path / "images/disks").iterdir()
        self.assertIn(b"honest", disk.read_bytes())
        self.assertNotIn(b"HOSTILE", disk.read_bytes())

    def test_sparse_entry(self):
        """A few kilobytes that say they are gigabytes."""
        path, plain = self.home.tmp / "sparse.tar", self.home.tmp / "unwanted"
        with open(plain, "wb") as f:
            f.write(b"x")
            f.truncate(1 << 30)
            f.seek(1 << 29)
            f.write(b"y")
        for form in ("gnu", "posix"):
            with self.subTest(form):
                subprocess.run(["tar", "-C", self.home.tmp, "--format", form, "-Scf", path, "unwanted"], check=True)
                self.assertLess(path.stat().st_size, 100000)
                self.refuse(path, "sparse|No space")
        plain.unlink()

    @core
    def test_hostile_layer(self):
        """Names that climb out of the root are refused or stay inside; the host's files are safe either way."""
        script = images.busybox_image
        victim = self.home.base / "victim"
        for name, add in (("dots", lambda t: t.file("../../../../../../../.." + str(victim), "x")),
                          ("absolute", lambda t: t.file(str(victim), "x")),
                          ("link", lambda t: (t.link("out", str(self.home.base)), t.file("out/victim", "x")))):
            with self.subTest(name):
                tree = script.Tree()
                add(tree)
                manifest, blobs = script.image_blobs([tree.bytes()])
                path = self.home.tmp / "hostile.tar"
                script.write_archive(path, "hostile:latest", manifest, blobs)
                result = self.home.run("load", "-i", path)
                if result.rc:
                    self.assert_one_line(result)
                self.assertFalse(victim.exists())

    @core
    def test_other_architecture(self):
        self.refuse(self.image_file("otherarch"), "s390x|amd64|architecture|platform")

    def test_unknown_image(self):
        self.assert_one_line(self.home.run("run", "--rm", "--pull", "never", "nosuch", "true"), 125, "nosuch")

    def test_bad_reference(self):
        for name in ("", "UPPER", "a b", "x" * 300, "box:", "box@sha256:12", "-x:y:z", "../up"):
            with self.subTest(name):
                self.assert_one_line(self.home.run("run", "--rm", "--pull", "never", "--", name, "true"), 125)

    @slow(120)
    def test_disk_full(self):
        """The home on a small file system, in a mount namespace of its own."""
        namespace = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
        mount = self.home.base / "small"
        mount.mkdir(exist_ok=True)
        test = subprocess.run([*namespace, "mount", "-t", "tmpfs", "none", mount], capture_output=True, check=False)
        if test.returncode:
            self.skipTest("no mount namespace here: " + test.stderr.decode(errors="replace").strip())
        archive = self.image_file("box")
        fresh_refusals = 0
        # From too small for the database to nearly enough.
        for size_kib in (64, 512, 900, 1400, 2000, 2600):
            with self.subTest(size_kib=size_kib):
                script = """
                    mount -t tmpfs -o size=64m none "$1" && head -c %dk /dev/zero >"$1/ballast" || exit 99
                    export A3S_HOME=$1/h
                    "$2" load -i "$3"; status=$?
                    echo "status $status" >&3
                    [ $status = 0 ] && exit 0
                    # Without room even for the database, listing may fail.
                    "$2" images -q >&3 2>/dev/null
                    echo "left $(find "$1/h/images" -type f 2>/dev/null | wc -l)" >&3
                    # With room again, the same store works.
                    rm "$1/ballast" && "$2" load -i "$3" >/dev/null && "$2" images -q | sed 's/^/image /' >&3
                    exit 1
                """ % (65536 - size_kib)
                read, write = os.pipe()
                with open(read, "rb") as told:
                    result = subprocess.run(
                        [*namespace, "sh", "-c", "exec 3>&%d; %s" % (write, script), "sh", mount, self.home.program,
                         archive], pass_fds=[write], capture_output=True, env=self.home.env(), check=False)
                    os.close(write)
                    said = told.read().decode()
                shown = a3s.Result(["load", "with %d KiB" % size_kib], result.returncode, result.stdout + said.encode(),
                                   result.stderr, 0)
                if "status 0" in said:
                    continue
                fresh_refusals += 1
                self.assertRegex(result.stderr, rb"\Aa3s-box: [^\n]+\n\Z", shown)
                self.assertRegex(said, r"left [0-9]\n", shown)
                self.assertRegex(said, r"image [0-9a-f]{12}\n", shown)
        self.assertGreater(fresh_refusals, 0, "the image fits everywhere; make the file systems smaller")
