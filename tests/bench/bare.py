"""Machines without the product around them, for comparison: QEMU with the same kernel and the same options."""

import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def cpio(out, files):
    """A cpio archive of programs, {name: bytes}: newc by hand, as cpio itself need not be installed."""
    with open(out, "wb") as f:
        for n, (name, data) in enumerate((*files.items(), ("TRAILER!!!", b""))):
            fields = (n + 1, 0o100755 if data else 0, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
            entry = b"070701" + b"".join(b"%08X" % v for v in fields) + name.encode() + b"\0"
            entry += b"\0" * (-len(entry) % 4) + data
            f.write(entry + b"\0" * (-len(data) % 4))
    return out


def compiled(source, out, *flags):
    """The bytes of a static program made from one file of this folder."""
    subprocess.run(["gcc", "-static", *flags, "-o", out, ROOT / "tests/bench" / source], check=True)
    return out.read_bytes()


def product_options(home, memory_mib):
    """-M, -cpu and -append as a box's own QEMU has them: bare QEMU is to have no disadvantage."""
    box = home.ok("run", "-d", "-m", "%dm" % memory_mib, "box", "sleep", "60").text.strip()
    try:
        for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                argv = entry.read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if "-append" in argv and any(box in word for word in argv):
                value = {key: argv[argv.index(key) + 1] for key in ("-M", "-cpu", "-append")}
                return value["-M"].replace(",memory-backend=mem", ""), value["-cpu"], value["-append"]
    finally:
        home.ok("rm", "-f", box)
    raise SystemExit("the box's QEMU was not found")


def qemu_argv(accel, machine, cpu, memory_mib, kernel, initrd, append):
    return ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-M", machine,
            "-cpu", cpu, "-accel", accel, "-m", str(memory_mib), "-smp", "2", "-kernel", str(kernel),
            "-initrd", str(initrd), "-append", append]
