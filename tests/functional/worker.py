"""Runs one test class in a process of its own and reports on standard output, one JSON object a line.

    worker.py --list              {"class": "module.Class", "tests": [{"id", "core", "timeout"}…], "waits", "images"}
    worker.py CLASS [TEST…]       {"start": id} and {"id", "result": passed/failed/skipped, "seconds", "text"};
                                  {"fixture": failed/skipped, "text"}: the class's set-up or end

Started by tests/run.
"""

import faulthandler
import inspect
import json
import os
import pathlib
import signal
import sys
import time
import traceback
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True

SLOW = float(os.environ.get("A3S_TEST_SLOW") or 1)
DEFAULT_TIMEOUT_S = 180
FIXTURE_TIMEOUT_S = 300 * SLOW
# After its time is up a test may clean up for this long before the next alarm hits it.
CLEANUP_S = 60


class TestTimeout(BaseException):
    """Not an Exception, so that no handler in a test swallows it."""


def on_alarm(signum, frame):
    raise TestTimeout("the test's time is up")


def timeout_s(method):
    return getattr(method, "timeout_s", DEFAULT_TIMEOUT_S) * SLOW


def set_alarm(seconds):
    signal.setitimer(signal.ITIMER_REAL, seconds, CLEANUP_S)


def describe(err):
    """The exception and where in our files it came from."""
    kind, value, _ = err
    told = traceback.TracebackException(*err)
    here = [f for f in told.stack if f.filename.startswith(str(HERE))]
    lines = ["%s:%d in %s: %s" % (os.path.basename(f.filename), f.lineno, f.name, f.line) for f in here]
    name = "" if kind is AssertionError else kind.__name__ + ": "
    return "\n".join(lines + ["%s%s" % (name, value), *getattr(value, "__notes__", ())]) + "\n"


class Reporter(unittest.TestResult):
    def __init__(self, out):
        super().__init__()
        self.out = out
        self.started = 0
        self.outcome = None
        self.text = ""

    def send(self, **fields):
        self.out.write(json.dumps(fields) + "\n")
        self.out.flush()

    def startTest(self, test):
        super().startTest(test)
        self.outcome, self.text = "passed", ""
        self.started = time.monotonic()
        self.send(start=test.id())
        set_alarm(timeout_s(getattr(test, test._testMethodName)))

    def stopTest(self, test):
        set_alarm(FIXTURE_TIMEOUT_S)
        super().stopTest(test)
        home = getattr(test, "home", None)
        if self.outcome == "failed" and home:
            told = "\n".join(home.transcript[-6:])
            self.text += "\n=== the last commands\n%s\n%s" % (told, "\n".join(home.box_logs()))
        self.send(id=test.id(), result=self.outcome, seconds=time.monotonic() - self.started, text=self.text)
        self.outcome = None

    def fail(self, test, err):
        text = describe(err)
        if self.outcome is None:  # a class's set-up or end
            self.send(fixture="failed", text=text)
            return
        self.outcome = "failed"
        self.text += text

    def addError(self, test, err):
        self.fail(test, err)

    def addFailure(self, test, err):
        self.fail(test, err)

    def addSubTest(self, test, subtest, err):
        if err:
            self.text += "in %s\n" % subtest._subDescription()
            self.fail(test, err)

    def addSkip(self, test, reason):
        if self.outcome is None:
            self.send(fixture="skipped", text=reason)
            return
        if self.outcome != "failed":
            self.outcome = "skipped"
            self.text = reason

    def addExpectedFailure(self, test, err):
        pass

    def addUnexpectedSuccess(self, test):
        self.outcome, self.text = "failed", "passes, but is marked as an expected failure"


def classes():
    loader = unittest.TestLoader()
    for path in sorted(HERE.glob("test_*.py")):
        module = __import__(path.stem)
        for name, cls in sorted(vars(module).items()):
            if inspect.isclass(cls) and issubclass(cls, unittest.TestCase) and cls.__module__ == path.stem:
                names = loader.getTestCaseNames(cls)
                if names:
                    yield cls, names


def main():
    faulthandler.enable()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # What a test prints must not mix with the reports.
    os.dup2(2, 1)
    if sys.argv[1] == "--list":
        for cls, names in classes():
            tests = []
            for name in names:
                method = getattr(cls, name)
                tests.append({
                    "id": "%s.%s.%s" % (cls.__module__, cls.__qualname__, name),
                    "core": getattr(method, "core", False) and not getattr(cls, "unprivileged", False),
                    "timeout": timeout_s(method),
                })
            print(json.dumps({"class": "%s.%s" % (cls.__module__, cls.__qualname__), "tests": tests,
                              "waits": getattr(cls, "waits", False),
                              "images": sorted(getattr(cls, "images_wanted", ()))}), file=out, flush=True)
        return
    signal.signal(signal.SIGALRM, on_alarm)
    # The runner's SIGTERM must still run the clean-up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    module, cls_name = sys.argv[1].split(".")
    cls = getattr(__import__(module), cls_name)
    suite = unittest.TestSuite(cls(i.rsplit(".", 1)[1]) for i in sys.argv[2:])
    reporter = Reporter(out)
    set_alarm(FIXTURE_TIMEOUT_S)
    suite.run(reporter)
    signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    main()
