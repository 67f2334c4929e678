"""The suites again as a user who is not root and may not open /dev/kvm, on an installed copy."""

import os
import shutil
import subprocess
import unittest

import a3s
import test_badinput
import test_crash
import test_exec
import test_images
import test_lifecycle
import test_mounts
import test_programs
import test_run


def reason():
    if os.geteuid() != 0:
        return "all tests run as an unprivileged user already"
    if not shutil.which("setpriv"):
        return "setpriv is missing"
    probe = subprocess.run(["setpriv", "--reuid=%d" % a3s.UNPRIVILEGED_ID, "--regid=%d" % a3s.UNPRIVILEGED_ID,
                            "--clear-groups", "true"], capture_output=True, check=False)
    return "cannot become another user: " + probe.stderr.decode(errors="replace").strip() if probe.returncode else ""


class Unprivileged:
    unprivileged = True

    @classmethod
    def setUpClass(cls):
        why = reason()
        if why:
            raise unittest.SkipTest(why)
        super().setUpClass()


class Load(Unprivileged, test_images.Load):
    pass


class Output(Unprivileged, test_run.Output):
    pass


class Settings(Unprivileged, test_run.Settings):
    pass


class Tty(Unprivileged, test_run.Tty):
    pass


class Exec(Unprivileged, test_exec.Exec):
    test_1_gib_through_cat = None


class Lifecycle(Unprivileged, test_lifecycle.Lifecycle):
    pass


class Many(Unprivileged, test_lifecycle.Many):
    test_20_running_at_once = None


class KillSupervisor(Unprivileged, test_crash.KillSupervisor):
    test_30_random_moments = None


class KillMachine(Unprivileged, test_crash.KillMachine):
    test_30_random_moments = None


class KillCommandLine(Unprivileged, test_crash.KillCommandLine):
    test_30_random_moments = None


class Programs(Unprivileged, test_programs.Programs):
    pass


class BadInput(Unprivileged, test_badinput.BadInput):
    pass


class Binds(Unprivileged, test_mounts.Binds):
    pass


class Targets(Unprivileged, test_mounts.Targets):
    pass
