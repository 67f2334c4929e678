"""Locks of files that a box shares with others: waits that are interrupted, killed, or can never end; and whose a lock is."""

import contextlib
import fcntl
import os
import shutil
import textwrap

from a3s import BoxTest, wait_for

# Within a box. A child that waits says so a moment before it does; that it is still there then is seen by wchan's sleep.
PRELUDE = textwrap.dedent("""\
    import errno, fcntl, os, select, signal, struct, sys, time

    def waiting(take, handler=None, restart=False, rounds=1):
        'A child that waits for a lock: its pid once it sleeps in that, and a pipe of what it says at the end.'
        r, w = os.pipe()
        pid = os.fork()
        if pid == 0:
            if handler:
                signal.signal(signal.SIGUSR1, handler)
                signal.siginterrupt(signal.SIGUSR1, not restart)
            try:
                take()
                os.write(w, b'locked')
            except BaseException as e:
                os.write(w, (type(e).__name__ + ' ' + errno.errorcode.get(getattr(e, 'errno', 0), '')).strip().encode())
            os._exit(0)
        os.close(w)
        asleep(pid)
        return pid, r

    def asleep(pid):
        'Sleeps, three looks in a row, as what it does before is short.'
        seen = 0
        while seen < 3:
            state = open('/proc/%d/stat' % pid).read().rsplit(')', 1)[1].split()[0]
            seen = seen + 1 if state in 'SD' else 0
            time.sleep(0.05)

    def ends(pid, r, within=20):
        'What it said, and the signal that killed it or 0.'
        if not select.select([r], [], [], within)[0]:
            print('still waiting'); sys.exit(1)
        said = os.read(r, 100).decode()
        return said, os.waitpid(pid, 0)[1] & 127

    def opened(name):
        return os.open(name, os.O_RDWR | os.O_CREAT, 0o644)

    def free(name):
        'Whether a process of its own gets it at once.'
        pid = os.fork()
        if pid == 0:
            f = opened(name)
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os._exit(1)
            os._exit(0)
        return os.waitpid(pid, 0)[1] == 0
    """)

WAITS = PRELUDE + textwrap.dedent("""\
    f, g = opened('/d/lock'), opened('/d/lock')   # two open files, so that flock keeps them apart
    for name, take in (('flock', lambda: fcntl.flock(g, fcntl.LOCK_EX)), ('fcntl', lambda: fcntl.lockf(g, fcntl.LOCK_EX))):
        def raises(*_):
            raise InterruptedError(errno.EINTR, 'handler')
        pid, r = waiting(take, raises)
        os.kill(pid, signal.SIGUSR1)
        print(name, 'interrupted', *ends(pid, r))
        pid, r = waiting(take)
        os.kill(pid, signal.SIGTERM)
        print(name, 'ended', *ends(pid, r))
        pid, r = waiting(take)
        os.kill(pid, signal.SIGKILL)
        print(name, 'killed', *ends(pid, r))
        # Stopped and continued, or with a handler that only returns, it goes on waiting.
        pid, r = waiting(take, lambda *_: None, True)
        os.kill(pid, signal.SIGUSR1)
        os.kill(pid, signal.SIGSTOP)
        os.kill(pid, signal.SIGCONT)
        asleep(pid)
        print(name, 'goes on', select.select([r], [], [], 0.2)[0] == [])
        os.kill(pid, signal.SIGKILL)
        ends(pid, r)
    """)

WAITED = "".join("%s interrupted InterruptedError EINTR 0\n%s ended  15\n%s killed  9\n%s goes on True\n" % ((n,) * 4)
                 for n in ("flock", "fcntl"))

DEADLOCK = PRELUDE + textwrap.dedent("""\
    def take(f):
        fcntl.lockf(f, fcntl.LOCK_EX)

    a, b = opened('/d/a'), opened('/d/b')
    take(a)
    back, go = os.pipe()
    def second():
        take(b)
        os.write(go, b'x')
        take(a)
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        second()
        os.write(w, b'locked')
        os._exit(0)
    os.read(back, 1)
    asleep(pid)
    # Whose it is that is in the way.
    lk = struct.pack('hhqqi4x', fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    print('owner', struct.unpack('hhqqi4x', fcntl.fcntl(b, fcntl.F_GETLK, lk))[4] == pid)
    try:
        take(b)
        print('locked')
    except OSError as e:
        print('deadlock', e.errno == errno.EDEADLK)
    fcntl.lockf(a, fcntl.LOCK_UN)
    print(*ends(pid, r))
    """)


class LockTest(BoxTest):
    images_wanted = ("debian", "python")

    def setUp(self):
        super().setUp()
        self.share = self.home.base / "share"
        self.share.mkdir()
        (self.share / "lock").touch(mode=0o644)
        if self.home.uid is not None:
            os.chown(self.share, self.home.uid, self.home.uid)
            os.chown(self.share / "lock", self.home.uid, self.home.uid)

    def tearDown(self):
        try:
            super().tearDown()
        finally:
            shutil.rmtree(self.share, ignore_errors=True)

    def python(self, script, *options):
        return self.home.run("run", "--rm", "-m", "192m", *options, "python", "python3", "-c", script)

    @contextlib.contextmanager
    def by_a_process_of_the_box(self, where):
        yield "fcntl.flock(f, fcntl.LOCK_EX); fcntl.lockf(f, fcntl.LOCK_EX)"

    @contextlib.contextmanager
    def by_the_host(self, where):
        with open(self.share / "lock", "r+b") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            fcntl.lockf(f, fcntl.LOCK_EX)
            yield "pass"

    @contextlib.contextmanager
    def by_another_box(self, where):
        script = ("import fcntl, os, time\nf = os.open('/d/lock', os.O_RDWR | os.O_CREAT, 0o644)\n"
                  "fcntl.flock(f, fcntl.LOCK_EX); fcntl.lockf(f, fcntl.LOCK_EX)\n"
                  "print('has it', flush=True)\ntime.sleep(100000)\n")
        box = self.home.run_detached("-m", "192m", "-v", "%s:/d" % where, "python", "python3", "-c", script)
        try:
            wait_for("the other box's lock", lambda: "has it" in self.home.ok("logs", box).text, 60)
            yield "pass"
        finally:
            self.home.run("rm", "-f", box)

    def check(self, holder, where):
        with holder(where) as hold:
            # In its own process for fcntl's sake: a parent's locks are in its children's way.
            self.assert_out(self.python(WAITS.replace("for name, take", hold + "\nfor name, take", 1), "-v", "%s:/d" % where),
                            WAITED)
        self.assert_out(self.python(PRELUDE + "print(free('/d/lock'))\n", "-v", "%s:/d" % where), "True\n")

    def test_wait_for_a_process_of_the_box(self):
        self.check(self.by_a_process_of_the_box, self.share)

    def test_wait_for_the_host(self):
        self.check(self.by_the_host, self.share)

    def test_wait_for_another_box(self):
        self.check(self.by_another_box, "vol")

    def test_killed_it_takes_no_lock(self):
        """Those who waited are gone, also for the locks: who asks next has it, while the box goes on."""
        script = PRELUDE + textwrap.dedent("""\
            f = opened('/d/lock')
            fcntl.flock(f, fcntl.LOCK_EX)
            all = [waiting(lambda: fcntl.flock(opened('/d/lock'), fcntl.LOCK_EX)) for _ in range(20)]
            for pid, r in all:
                os.kill(pid, signal.SIGKILL)
            print(sorted({ends(pid, r) for pid, r in all}))
            fcntl.flock(f, fcntl.LOCK_UN)
            print(free('/d/lock'))
            """)
        self.assert_out(self.python(script, "-v", "%s:/d" % self.share), "[('', 9)]\nTrue\n")

    def test_commands_give_up(self):
        """As a script has it: flock's own time limit, and another's, which gives 124."""
        with self.by_the_host(self.share):
            script = "".join("%sflock %s/d/lock true; echo $?\n" % how for how in (
                ("", "-w 1 "), ("timeout -s INT 1 ", ""), ("timeout --foreground -s KILL 1 ", ""), ("", "-n ")))
            result = self.home.run("run", "--rm", "-v", "%s:/d" % self.share, "debian", "sh", "-c", script)
            self.assert_out(result, "1\n124\n137\n1\n")

    def test_deadlock(self):
        self.assert_out(self.python(DEADLOCK, "-v", "%s:/d" % self.share), "owner True\ndeadlock True\nlocked 0\n")
