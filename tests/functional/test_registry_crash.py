"""What interrupts a transfer: kill -9 at random moments, ^C, a full disk. The next command repairs what is to be repaired,
nothing is lost, and nothing is left over.

The moments come from a generator whose seed every test prints on failure; A3S_TEST_SEED repeats it.
"""

import itertools
import os
import random
import signal
import subprocess
import tarfile
import threading
import time

import a3s
import images
import registries
import registry_fake
from a3s import core, slow
from test_images import ImageTest
from test_registry_transfer import MIB, noise_image

SCRIPT = images.busybox_image
ROUNDS = 50
CORE_ROUNDS = 5
MISSES = 3  # rounds for each kill that is wanted
SEED = int(os.environ.get("A3S_TEST_SEED", random.SystemRandom().randrange(1 << 32)))


def write_archive(path, tag, image):
    SCRIPT.write_archive(str(path), tag, *image)


class CrashTest(ImageTest):
    """Shared: begin a command, kill it, look."""

    def left_over(self):
        """What no finished command leaves."""
        left = []
        for folder in ("tmp", "partial"):
            path = self.home.path / "images" / folder
            left += ["%s/%s" % (folder, name) for name in (os.listdir(path) if path.exists() else ())]
        return sorted(left)

    def assert_whole(self, reference):
        """The store is as the command leaves it that nobody interrupts."""
        self.assertEqual(self.left_over(), [])
        self.home.ok("image-check")
        listing, files = self.store()
        self.assertEqual(files, reference[1])
        self.assertEqual(sorted(listing.splitlines()), sorted(reference[0].splitlines()))

    def empty(self):
        """Removes all, and shows that it has gone."""
        self.home.ok("image-prune", "-a", "-f")
        self.assertEqual(self.home.ok("images", "-q").text, "")
        left = [f for f in self.store()[1] if not f.endswith("/lock")]
        self.assertEqual(left, [], "left over after everything was removed")

    def killed(self, rng, whole_s, *args, how=signal.SIGKILL):
        """Starts the command and ends it at a moment of its life; whether it had not ended by itself."""
        moment_s = rng.uniform(0, whole_s * 1.1)
        with self.subTest(moment_s=round(moment_s, 4)):
            p = self.home.popen(*args)
            time.sleep(moment_s)
            there = p.poll() is None
            p.send_signal(how)
            p.communicate(timeout=30)
        return there

    def timed(self, *args):
        return self.home.ok(*args).seconds

    def rounds(self, count, what, one_round):
        """Goes on until the command was killed in its life count times. That the machine is slower or faster by then than
        when the command was timed costs rounds, and only if there is no end to it the test."""
        rng = random.Random("%d %s" % (SEED, what))
        hits = n = 0
        while hits < count and n < MISSES * count:
            with self.subTest(seed=SEED, round=n, what=what):
                n += 1
                hits += bool(one_round(rng))
        self.assertGreater(hits, 0, "not one of %d moments was within the command's life" % n)


class KillPull(CrashTest):
    def setUp(self):
        super().setUp()
        self.registry = registry_fake.Registry(*noise_image(*(MIB,) * 6, below=[images.box_layer()]))

    def tearDown(self):
        self.registry.close()
        super().tearDown()

    def pulls(self, count):
        self.home.ok("pull", self.registry.name)  # the first one makes the database
        self.empty()
        whole_s = self.timed("pull", self.registry.name)
        reference = self.store()
        self.empty()

        def one_round(rng):
            there = self.killed(rng, whole_s, "pull", self.registry.name)
            if self.home.ok("images", "-q").text:
                # It was entered: then it is all there.
                self.home.ok("image-check")
            self.home.ok("pull", self.registry.name)
            self.assert_whole(reference)
            self.empty()
            return there

        self.rounds(count, "pull", one_round)

    @core
    def test_a_few(self):
        self.pulls(CORE_ROUNDS)

    @slow(600)
    def test_50_random_moments(self):
        self.pulls(ROUNDS)

    def test_the_next_command_is_another(self):
        """What a killed pull has left is nobody's, and does not matter to load, images, rmi."""
        rng = random.Random("%d another" % SEED)
        archive = self.home.tmp / "another.tar"
        write_archive(archive, "another:1", noise_image(MIB))
        whole_s = self.timed("pull", self.registry.name)
        self.empty()
        for n in range(10):
            with self.subTest(seed=SEED, round=n):
                self.killed(rng, whole_s, "pull", self.registry.name)
                self.home.load(archive)
                self.assertEqual(os.listdir(self.home.path / "images/tmp"), [])
                self.home.ok("image-check", "--repair")
                self.home.ok("image-check")
                self.home.ok("rmi", "another:1")
                self.empty()
        archive.unlink()


class KillLoad(CrashTest):
    def loads(self, count):
        archive = self.home.tmp / "load.tar"
        image = noise_image(*(MIB,) * 5, below=[images.box_layer()])
        write_archive(archive, "load:1", image)
        self.home.load(archive)
        self.empty()
        whole_s = self.timed("load", "-i", archive)
        reference = self.store()
        self.empty()

        def one_round(rng):
            there = self.killed(rng, whole_s, "load", "-i", archive)
            self.home.ok("images")
            self.home.load(archive)
            self.assert_whole(reference)
            self.empty()
            return there

        self.rounds(count, "load", one_round)
        archive.unlink()

    @core
    def test_a_few(self):
        self.loads(CORE_ROUNDS)

    @slow(600)
    def test_50_random_moments(self):
        self.loads(ROUNDS)

    def test_interrupted(self):
        """^C while it waits for the rest of an archive."""
        p = self.home.popen("load", stdin=subprocess.PIPE)
        p.stdin.write(self.image_file("box").read_bytes()[:500000])
        p.stdin.flush()
        time.sleep(0.5)
        start = time.monotonic()
        p.send_signal(signal.SIGINT)
        p.wait(30)
        self.assertLess(time.monotonic() - start, 3)
        _, err = p.communicate()
        self.assertNotEqual(p.returncode, 0)
        self.assertLessEqual(err.count(b"a3s-box: "), 1, err)
        self.home.load(self.image_file("box"))
        self.assertEqual(self.left_over(), [])


class KillPush(CrashTest):
    @classmethod
    def prepare(cls):
        registries.need("skopeo")
        cls.registry = registries.DockerRegistry(cls.home.base / "registry")

    @classmethod
    def tearDownClass(cls):
        if hasattr(cls, "registry"):
            cls.registry.close()
        super().tearDownClass()

    def pushes(self, count):
        archive = self.home.tmp / "push.tar"
        descriptor, blobs = noise_image(*(2 * MIB,) * 4, below=[images.box_layer()])
        write_archive(archive, "push:1", (descriptor, blobs))
        self.home.load(archive)
        self.home.ok("push", "push:1", self.registry.name("warm:1"))
        whole_s = self.timed("push", "push:1", self.registry.name("up/warm:2"))
        files = self.store()[1]
        numbers = itertools.count()

        def one_round(rng):
            # Another repository each time: there its blobs are not.
            target = "up/n%d:1" % next(numbers)
            there = self.killed(rng, whole_s, "push", "push:1", self.registry.name(target))
            self.home.ok("push", "push:1", self.registry.name(target))
            self.assertEqual(SCRIPT.sha256(self.registry.raw(target)), descriptor["digest"])
            self.assertEqual(self.store()[1], files)
            return there

        self.rounds(count, "push", one_round)
        self.home.ok("image-check")
        layout = self.home.tmp / "out"
        self.registry.skopeo("copy", "docker://" + self.registry.name("up/n0:1"), "oci:%s:1" % layout)
        images.tool("rm", "-r", layout, archive)

    @core
    def test_a_few(self):
        self.pushes(CORE_ROUNDS)

    @slow(600)
    def test_50_random_moments(self):
        self.pushes(ROUNDS)

    def test_interrupted(self):
        """^C while the registry is silent."""
        archive = self.home.tmp / "push.tar"
        write_archive(archive, "push:1", noise_image(MIB))
        self.home.load(archive)
        archive.unlink()
        held = threading.Event()
        with registry_fake.Registry(*noise_image(100)) as silent:
            silent.hook = lambda request: request.path != "/v2/" and held.wait(60)
            p = self.home.popen("push", "push:1", silent.host + "/x:2")
            time.sleep(0.7)
            start = time.monotonic()
            p.send_signal(signal.SIGINT)
            p.wait(30)
            self.assertLess(time.monotonic() - start, 3)
            held.set()
        _, err = p.communicate()
        self.assertNotEqual(p.returncode, 0)
        self.assertLessEqual(err.count(b"a3s-box: "), 1, err)


class KillRemoval(CrashTest):
    """Three images that share a layer; removed, and pruned."""

    def removals(self, count, command):
        shared = SCRIPT.Tree()
        shared.file("shared", os.urandom(MIB))
        shared = shared.bytes()
        archives = []
        for n in range(3):
            archives.append(self.home.tmp / ("remove%d.tar" % n))
            write_archive(archives[-1], "remove%d:1" % n, noise_image(MIB, below=[shared]))

        def fill():
            for archive in archives:
                self.home.load(archive)

        fill()
        reference = self.store()
        whole_s = self.timed(*command)

        def one_round(rng):
            fill()
            there = self.killed(rng, whole_s, *command)
            names = {name for name, _ in self.rows()}
            self.assertLessEqual(names, {"remove0", "remove1", "remove2", "<none>"})
            for name in names - {"<none>"}:
                # What is still named is still good.
                out = self.home.tmp / "saved.tar"
                self.home.ok("save", "-o", out, name + ":1")
                out.unlink()
            fill()
            self.home.ok("image-prune", "-f")
            self.assert_whole(reference)
            self.empty()
            return there

        self.empty()
        self.rounds(count, command[0], one_round)
        for archive in archives:
            archive.unlink()

    RMI = ("rmi", "remove0:1", "remove1:1", "remove2:1")
    PRUNE = ("image-prune", "-a", "-f")

    @core
    def test_a_few(self):
        self.removals(CORE_ROUNDS, self.RMI)

    @core
    def test_a_few_prunes(self):
        self.removals(CORE_ROUNDS, self.PRUNE)

    @slow(600)
    def test_50_random_moments_of_rmi(self):
        self.removals(ROUNDS, self.RMI)

    @slow(600)
    def test_50_random_moments_of_image_prune(self):
        self.removals(ROUNDS, self.PRUNE)


class KillSave(CrashTest):
    @slow(300)
    def test_20_random_moments(self):
        """The file is there as a whole, or as it was before."""
        archive, out = self.home.tmp / "save.tar", self.home.tmp / "out.tar"
        write_archive(archive, "save:1", noise_image(*(MIB,) * 4))
        self.home.load(archive)
        archive.unlink()
        whole_s = self.timed("save", "-o", out, "save:1")
        whole = out.read_bytes()

        def one_round(rng):
            out.write_bytes(b"as it was")
            there = self.killed(rng, whole_s, "save", "-o", out, "save:1")
            self.assertIn(out.read_bytes(), (whole, b"as it was"))
            self.home.ok("save", "-o", out, "save:1")
            self.assertEqual(out.read_bytes(), whole)
            return there

        self.rounds(20, "save", one_round)
        for path in self.home.tmp.iterdir():
            path.unlink()


class Storm(CrashTest):
    @slow(300)
    def test_many_at_once(self):
        """Pulls, loads, removals and prunes side by side, each of them killed now and then: at the end all is well."""
        shared = SCRIPT.Tree()
        shared.file("shared", os.urandom(MIB))
        shared = shared.bytes()
        registry = registry_fake.Registry(*noise_image(MIB, MIB, below=[shared]))
        archive = self.home.tmp / "storm.tar"
        write_archive(archive, "storm:1", noise_image(MIB, below=[shared]))
        self.home.load(archive)
        commands = [("pull", "-q", registry.name), ("load", "-i", archive), ("rmi", "-f", registry.name),
                    ("rmi", "-f", "storm:1"), ("image-prune", "-a", "-f"), ("images",),
                    ("tag", "storm:1", "storm:2"), ("image-check",)]
        end = time.monotonic() + 20
        wrong = []

        def worker(n):
            rng = random.Random("%d storm %d" % (SEED, n))
            while time.monotonic() < end:
                command = rng.choice(commands)
                p = self.home.popen(*command)
                try:
                    if rng.random() < 0.4:
                        time.sleep(rng.uniform(0, 0.3))
                        p.kill()
                    _, err = p.communicate(timeout=60)
                    # What is not there, or no longer, may be refused; a pull or a load not.
                    if p.returncode > 0 and command[0] in ("pull", "load", "images", "image-prune"):
                        wrong.append((command, err))
                    if p.returncode < 0 and p.returncode != -signal.SIGKILL:
                        wrong.append((command, p.returncode, err))
                except subprocess.TimeoutExpired:
                    p.kill()
                    wrong.append((command, "hangs", p.communicate()))

        workers = [threading.Thread(target=worker, args=(n,)) for n in range(4)]
        try:
            for w in workers:
                w.start()
            for w in workers:
                w.join()
            self.assertEqual(wrong, [], "seed %d" % SEED)
            self.home.ok("pull", registry.name)
            self.home.load(archive)
            self.assertEqual(self.left_over(), [])
            self.home.ok("image-prune", "-f")
            self.home.ok("image-check")
            self.empty()
        finally:
            registry.close()
            archive.unlink()


class DiskFull(CrashTest):
    """The home on a small file system, in a mount namespace of its own."""

    SCRIPT = """
        mount -t tmpfs -o size=64m none "$1" || exit 99
        export A3S_HOME=$1/h
        mount=$1 program=$2 size=$3 prepare=$4
        shift 4
        [ -z "$prepare" ] || "$program" load -i "$prepare" >/dev/null || exit 98
        free=$(df --output=avail -k "$mount" | tail -n 1)
        head -c $((free - size))k /dev/zero >"$mount/ballast" || exit 97
        cd "$mount"
        "$program" "$@"; status=$?
        echo "status $status" >&3
        [ $status = 0 ] && exit 0
        find h/images -type f ! -name lock ! -path '*/partial/*' -printf 'left %p\\n' >&3 2>/dev/null
        find . -maxdepth 1 -type f ! -name ballast -printf 'beside %f\\n' >&3
        rm ballast
        "$program" "$@" >/dev/null 2>&4; echo "again $?" >&3
        "$program" image-check >/dev/null 2>&4; echo "check $?" >&3
        find h/images/tmp h/images/partial -type f -printf 'over %p\\n' >&3
        exit 1
    """

    def setUp(self):
        super().setUp()
        self.namespace = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
        self.mount = self.home.base / "small"
        self.mount.mkdir(exist_ok=True)
        test = subprocess.run([*self.namespace, "mount", "-t", "tmpfs", "none", self.mount], capture_output=True,
                              check=False)
        if test.returncode:
            self.skipTest("no mount namespace here: " + test.stderr.decode(errors="replace").strip())
        self.image = noise_image(*(MIB // 2,) * 4, below=[images.box_layer()])
        self.archive = self.home.tmp / "full.tar"
        write_archive(self.archive, "full:1", self.image)

    def tearDown(self):
        self.archive.unlink(missing_ok=True)
        super().tearDown()

    def attempt(self, size_kib, prepare, *args):
        """Returns what the script said, or None when there was room enough."""
        read, write = os.pipe()
        second = os.open(self.home.tmp / "second", os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600)
        with open(read, "rb") as told:
            result = subprocess.run(
                [*self.namespace, "sh", "-c", "exec 3>&%d 4>&%d; %s" % (write, second, self.SCRIPT), "sh", self.mount,
                 self.home.program, str(size_kib), prepare, *args], pass_fds=[write, second], capture_output=True,
                env=self.home.env(), check=False, timeout=120)
            os.close(write)
            said = told.read().decode()
        os.close(second)
        shown = "%s\n%s" % (a3s.Result([*args, "with %d KiB" % size_kib], result.returncode, result.stdout + said.encode(),
                                       result.stderr, 0), (self.home.tmp / "second").read_text(errors="replace"))
        self.assertIn("status", said, shown)
        if "status 0" in said:
            return None, shown
        # The last line is the refusal; what comes before it is progress.
        lines = result.stderr.decode(errors="replace").splitlines()
        self.assertEqual(len([line for line in lines if line.startswith("a3s-box: ")]), 1, shown)
        self.assertTrue(lines[-1].startswith("a3s-box: "), shown)
        self.assertIn("again 0", said, shown)
        self.assertIn("check 0", said, shown)
        self.assertNotIn("over ", said, shown)
        return said, shown

    def fills(self, sizes_kib, prepare, *args):
        refusals = 0
        for size_kib in sizes_kib:
            with self.subTest(size_kib=size_kib):
                said, shown = self.attempt(size_kib, prepare, *args)
                if said is None:
                    continue
                refusals += 1
                self.assertNotIn("beside ", said, shown)
                if not prepare:
                    self.assertLess(said.count("left "), 10, shown)
        return refusals

    SIZES = (64, 512, 1000, 1500, 2000, 2600, 3200, 4000, 4600, 5200, 6000, 7000)

    @slow(300)
    def test_pull(self):
        with registry_fake.Registry(*self.image) as registry:
            self.assertGreater(self.fills(self.SIZES, "", "pull", registry.name), 5)

    @slow(300)
    def test_load(self):
        self.assertGreater(self.fills(self.SIZES, "", "load", "-i", self.archive), 5)

    @slow(300)
    def test_save(self):
        self.assertGreater(self.fills((0, 64, 512, 1000, 2000, 2600), self.archive, "save", "-o", "out.tar", "full:1"), 2)

    @slow(300)
    def test_import(self):
        root = self.home.tmp / "root.tar"
        with tarfile.open(self.archive) as source:
            root.write_bytes(source.extractfile(max(source.getmembers(), key=lambda m: m.size)).read())
        self.assertGreater(self.fills((64, 512, 1000, 2000), "", "import", root, "imported:1"), 2)
        root.unlink()

    @slow(300)
    def test_push(self):
        """Needs no room, but for the event."""
        registries.need("docker-registry")
        registry = registries.DockerRegistry(self.home.base / "registry")
        try:
            self.fills((0, 8, 64), self.archive, "push", "full:1", registry.name("full:1"))
        finally:
            registry.close()
