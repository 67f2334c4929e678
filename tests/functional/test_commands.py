"""Conformance: each command's exit status, standard output and standard error, compared with what Docker documents.

A case is a line of a table: the arguments, the status, a pattern for all of standard output and one for all of standard error
(both empty unless said), and, where it is not what Docker does, why. Cases of a group share their boxes and run in order.
"""

import collections
import re

from a3s import BoxTest, core

ID = r"[0-9a-f]{64}\n"
Case = collections.namedtuple("Case", "args status out err deviation input")


def case(args, status=0, out="", err="", deviation=None, input=None):
    return Case(args if isinstance(args, (list, tuple)) else args.split(), status, out, err, deviation, input)


def refused(args, what, status=1, deviation=None):
    """One line on standard error that begins with program and command and says `what`; nothing on standard output."""
    words = args.split() if isinstance(args, str) else args
    known = words[0] in ("network", "snapshot", "volume") and words[1] != "nosuch"
    name = " ".join(words[:2]) if known else words[0]
    return case(args, status, "", r"a3s-box: %s: [^\n]*(?:%s)[^\n]*\n" % (re.escape(name), what), deviation)


ONE_LINE = "Docker adds its usage, or \"See 'docker X --help'\": here the line itself says what is allowed"
STATUS_125 = "Docker says 1: here 125 is all that went wrong before the workload started (exec, shell, run, create)"
ASKS_ON_STDERR = "Docker warns and asks on standard output: here a warning never goes there"
TABLE = "headings name what is listed here"

# No box runs in this group: it is quick.
AT_REST = (
    # The box `made` was created; `over` ended with status 3.

    # -- bad use: nothing changes, one line that names the flag or what is missing
    *(refused(c, "needed", 125 if c in ("run", "create", "exec", "shell", "exec made") else 1, ONE_LINE)
      for c in ("run", "create", "start", "stop", "restart", "kill", "rm", "pause", "unpause", "rename", "rename made",
                "rename made a b", "cp", "cp made:/x", "cp a b c", "port-forward", "port-forward made", "wait", "exec",
                "exec made", "shell", "attach", "attach made over", "logs", "logs made over", "inspect", "history",
                "history a b", "image-inspect", "import",
                "import a b c", "pull", "pull a b", "push", "push a b c", "rmi", "save", "tag", "tag box", "tag box a b")),
    *(refused(c + " --nosuch made x", "--nosuch", 125 if c in ("run", "create", "exec", "shell") else 1, ONE_LINE)
      for c in ("run", "create", "start", "stop", "restart", "kill", "rm", "pause", "unpause", "rename", "wait", "exec",
                "shell", "attach", "logs", "ps", "inspect", "prune", "events", "port", "port-forward", "stats", "top",
                "commit", "container-update", "cp", "export", "history", "image-check", "image-inspect", "image-prune",
                "images", "import", "load", "login", "logout", "pull", "push", "rmi", "save", "tag")),
    refused("nosuch", "unknown command", 125, "Docker says 1; " + STATUS_125)._replace(
        err=r"a3s-box: unknown command: nosuch[^\n]*\n"),
    refused("stop -t soon made", "--time soon: expected seconds"),
    refused("stop -s NOSUCH made", "--signal NOSUCH: expected a signal"),
    refused("restart -t 1x made", "--time 1x: expected seconds"),
    refused("kill -s SIGNOSUCH made", "--signal SIGNOSUCH: expected a signal"),
    refused("kill -s 0 made", "--signal 0: expected a signal"),
    refused("kill -s 65 made", "--signal 65: expected a signal"),
    refused("kill -s RTMIN+31 made", "expected a signal"),
    refused("wait --condition never made", "--condition never: expected not-running, next-exit or removed"),
    refused("exec -w relative made true", "--workdir .*absolute", 125, STATUS_125),
    refused("exec --detach-keys ctrl-1 made true", "--detach-keys .*ctrl-X", 125, STATUS_125),
    refused("attach --detach-keys abc made", "--detach-keys .*ctrl-X"),
    refused("exec --timeout never made true", "--timeout never: expected a duration", 125,
            "Docker's exec has no --timeout"),
    refused("exec -it made true", "-t needs a terminal", 125, STATUS_125),
    refused("prune --filter nosuch=1", r"--filter nosuch=1: no such filter \(there are label, label!, until,"),
    refused("prune --filter until=soon", "--filter until=soon: expected a duration"),
    refused("prune made", "no arguments"),
    refused("diff", "one box is needed", deviation=ONE_LINE),
    refused("diff made over", "one box is needed", deviation=ONE_LINE),
    refused("diff --nosuch made", "--nosuch", deviation=ONE_LINE),
    refused("diff nosuch", "no such box: nosuch"),
    refused("export", "one box is needed", deviation=ONE_LINE),
    refused("export nosuch", "no such box: nosuch"),
    refused("export -o / made", "Is a directory"),
    refused(["export", "-o", "", "made"], "a file name is missing"),
    refused("commit", "a box is needed", deviation=ONE_LINE),
    refused("commit nosuch", "no such box: nosuch"),
    refused("commit made UPPER", "UPPER"),
    refused(["commit", "-c", "RUN x", "made"], '"RUN" is no instruction'),
    refused("commit -t a made b", "given twice", deviation="Docker has no -t here"),
    refused("snapshot create", "a box is needed"),
    refused("snapshot create nosuch", "no such box: nosuch"),
    refused("snapshot create made a/b", '"a/b" is no name for a snapshot'),
    refused("snapshot create --memory made", "--memory: this version keeps the disk"),
    case("snapshot create made snap", 0, ID),
    refused("snapshot create made snap", 'the name "snap" is taken by another snapshot'),
    case("snapshot ls", 0, r"SNAPSHOT ID +NAME +BOX +CREATED +SIZE\n[0-9a-f]{12} +snap +made +.*\n"),
    case(["snapshot", "ls", "--format", "{{.Name}} {{.Box}}", "-f", "box=made"], 0, "snap made\n"),
    refused("snapshot ls -f name=x", "--filter name=x: no such filter"),
    case(["snapshot", "inspect", "-f", "{{.Box.Name}}", "snap"], 0, "made\n"),
    case(["snapshot", "inspect", "-f", "{{range $k, $v := .}}{{$k}} {{end}}", "snap"], 0,
         "Box Created Description Id Image ImageID Name Path Running Size \n"),
    refused("snapshot restore", "a snapshot is needed"),
    refused("snapshot restore nosuch", "no such snapshot: nosuch"),
    refused("snapshot restore made snap --name x", "no new box is made"),
    case("snapshot restore made snap", 0, "made\n"),
    refused("snapshot fork -n 0 snap", "--number 0: expected a number from 1"),
    refused("snapshot prune -f", "nothing says which snapshots may stay"),
    refused("snapshot prune -f --keep x", "--keep x: expected a number"),
    case("snapshot prune -f --keep 1", 0, "Total reclaimed space: 0B\n"),
    case("snapshot rm snap", 0, "snap\n"),
    refused("snapshot rm snap", "no such snapshot: snap"),
    refused("run --storage-opt size=1m box true", "--storage-opt size=1m: expected a size from 32m", 125, STATUS_125),
    case("diff made"),
    case("diff over"),
    refused("cp made:/a over:/b", "one box to another"),
    refused("cp /a /b", "neither /a nor /b is of a box"),
    refused("cp :/a /b", "name is missing"),
    refused("cp /nosuch-at-all made:/", "/nosuch-at-all: No such file or directory"),
    refused("cp made:/etc/passwd /nosuch-at-all/x", "/nosuch-at-all: No such file or directory"),
    refused("cp nosuch:/etc/passwd /tmp", "no such box: nosuch"),
    refused("logs --tail many made", "--tail many: expected a number"),
    refused("logs --since never made", "--since never: expected"),
    refused("ps --filter nosuch=1", "nosuch"),

    # -- a box that is not there: named, status 1; others of the same call are served
    *(refused(c, "no such box: nosuch|nosuch", 125 if c.startswith(("exec", "shell")) else 1,
              STATUS_125 if c.startswith(("exec", "shell")) else None)
      for c in ("start nosuch", "stop nosuch", "restart nosuch", "kill nosuch", "rm nosuch", "pause nosuch", "unpause nosuch",
                "rename nosuch new", "wait nosuch", "exec nosuch true", "shell nosuch", "attach nosuch", "logs nosuch")),
    case("rm -f nosuch", 0, "", r"a3s-box: rm: [^\n]*nosuch[^\n]*\n"),
    case("stop nosuch made over", 1, "made\nover\n", r"a3s-box: stop: [^\n]*nosuch[^\n]*\n"),
    case("wait over nosuch over", 1, "3\n3\n", r"a3s-box: wait: [^\n]*nosuch[^\n]*\n",
         "Docker ends at the first error"),

    # -- what needs a running box, on ones that do not run
    case("stop made over", 0, "made\nover\n"),
    case("stop over over", 0, "over\nover\n"),
    refused("kill over", "over is not running"),
    refused("pause made", "made is not running"),
    refused("unpause over", "over is not running"),
    refused("attach over", r"over is not running \(start it"),
    refused("exec over true", r"over is not running \(start it", 125, STATUS_125),
    refused("shell made", r"made is not running \(start it", 125, STATUS_125),
    case("wait over", 0, "3\n"),
    case("logs over", 0, "o\n", "e\n"),
    case("logs --tail 0 over"),
    case("logs made"),

    # -- names
    refused("rename made over", "over.*already|already.*over|in use"),
    refused("rename made -- -x", "name"),
    refused(["rename", "made", "a b"], "name"),
    refused(["rename", "made", ""], "name"),
    case("rename made maid"),
    refused("rename nosuch made", "nosuch"),
    case("rename maid made"),
    refused("rename made made", "made"),

    # -- images: `box` is the one there is
    refused("images a b", "one repository"),
    refused("images --filter nosuch=1", "--filter nosuch=1: no such filter"),
    refused("image-prune -f --filter nosuch=1", r"--filter nosuch=1: no such filter \(there are dangling, label, label!, until,"),
    refused("image-prune x", "no arguments"),
    refused("image-check x", "no arguments"),
    refused("load x", "no arguments"),
    refused("save --format zip box", "--format zip: expected docker-archive or oci-archive"),
    refused("import http://127.0.0.1/x", "only a file or standard input", deviation="Docker downloads it, unchecked"),
    refused("pull -a box:latest", "--all-tags takes a repository"),
    refused("pull --verify-identity x box", "--verify-identity needs --verify-issuer"),
    refused("login a b", "one registry"),
    refused("login --password-stdin", "--password-stdin needs --username"),
    *(refused(c, "no such image: nosuch")
      for c in ("history nosuch", "push nosuch", "rmi nosuch", "save nosuch", "tag nosuch x")),
    case("image-inspect nosuch", 1, r"\[\]\n", r"a3s-box: image-inspect: no such image: nosuch\n"),
    case("rmi -f nosuch", 0, "", r"a3s-box: rmi: no such image: nosuch\n"),
    refused("rmi box", r"box [0-9a-f]{12} uses it \([^)]*\)"),
    case("images", 0, r"REPOSITORY +TAG +IMAGE ID +CREATED +SIZE\n(.*\n)*box +latest +[0-9a-f]{12} +N/A +[0-9.]+[kM]B\n(.*\n)*"),
    case("images -q box", 0, r"[0-9a-f]{12}\n"),
    case("images -q nosuch"),
    case("tag box second:1"),
    case(["image-inspect", "-f", "{{json .RepoTags}}", "second:1"], 0, r"\[.*\"box:latest\".*\"second:1\".*\]\n"),
    case("rmi second:1", 0, r"Untagged: second:1\n"),
    case("history -q box", 0, r"[0-9a-f]{12}\n(<missing>\n)*"),
    case("image-prune", 0, r"Total reclaimed space: 0B\n", r"WARNING! This will remove all images without a name\.\n.*\[y/N\] ",
         ASKS_ON_STDERR + "; Docker calls them dangling", b"n\n"),
    case("image-prune -f --filter label=nosuch", 0, "Total reclaimed space: 0B\n"),
    case("logout registry.example", 0, "Not logged in to registry.example\n"),

    # -- listings
    case("ps", 0, r"BOX ID +IMAGE +COMMAND +CREATED +STATUS +PORTS +NAMES *\n", "", TABLE),
    case("ps -aq --no-trunc", 0, r"(%s){2}" % ID),
    case(["ps", "-a", "--filter", "name=over", "--format", "{{.Names}}: {{.Status}}"], 0, r"over: Exited \(3\) [^\n]* ago\n"),
    case(["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "over", "made"], 0, "exited 3\ncreated 0\n"),
    case("inspect nosuch", 1, r"\[\]\n", r"a3s-box: inspect: [^\n]*nosuch[^\n]*\n"),

    # -- create, rm, prune
    refused("create --name over box", "over", 125, STATUS_125),
    case("create --name spare box", 0, ID),
    case("rm spare nosuch", 1, "spare\n", r"a3s-box: rm: [^\n]*nosuch[^\n]*\n"),
    case("create --name spare -l keep box", 0, ID),
    case("create --name spare2 -l x=1 box", 0, ID),
    case("rm -v spare2 spare2", 0, "spare2\nspare2\n", "", "Docker fails for the second: it is gone, as was asked for"),
    case("prune", 0, r"Total reclaimed space: 0B\n", r"WARNING! This will remove all stopped boxes\.\n.*\[y/N\] ",
         ASKS_ON_STDERR, input=b"n\n"),
    case("prune", 1, "", r"WARNING! [^\n]*\n.*\[y/N\] \na3s-box: prune: nobody confirmed it \([^\n]*-f[^\n]*\)\n",
         ASKS_ON_STDERR + "; Docker takes the end of input as no, and is silent"),
    case("prune -f --filter until=1h", 0, "Total reclaimed space: 0B\n"),
    case("prune -f --filter label=nosuch", 0, "Total reclaimed space: 0B\n"),
    case("prune -f --filter label=keep --filter label!=x", 0,
         r"Deleted Boxes:\n%s\nTotal reclaimed space: [^\n]*B( \(\d+ bytes\))?\n" % ID, "",
         "Docker prints no exact number of bytes; its heading is Deleted Containers"),
)

VOLUME = (
    # -- bad use
    case("volume", 0, r"Usage: a3s-box volume COMMAND\n(.*\n)+"),
    refused("volume nosuch", "unknown command: nosuch", 1),
    *(refused(c, "needed|at most one", 1, ONE_LINE) for c in ("volume create a b", "volume rm", "volume inspect")),
    *(refused("volume " + c + " --nosuch x", "--nosuch", 1, ONE_LINE) for c in ("create", "rm", "ls", "inspect", "prune")),
    refused("volume ls v1", "no arguments"),
    refused("volume prune v1", "no arguments"),
    refused("volume ls --filter nosuch=1", "--filter nosuch=1: no such filter"),
    refused("volume ls --filter dangling=perhaps", "expected true or false"),
    refused("volume prune -f --filter until=1h", r"--filter until=1h: no such filter \(there are label, label!,"),
    refused("volume prune -f --filter all=perhaps", "expected true or false"),
    refused("volume create -d nfs v1", "--driver nfs: there is only local"),
    refused("volume create --label =x v1", "--label"),
    refused("volume create -o x=y v1", "--opt x=y: there is no such option"),
    refused("volume create -o type=nfs -o o=addr=10.0.0.1 -o device=:/x v1", "not mounted here",
            deviation="Docker mounts any file system; without privileges on the host only folders and tmpfs can be had"),
    refused("volume create -o o=bind v1", "needs device=/FOLDER"),
    refused("volume create -o type=tmpfs -o o=sync v1", '"sync" is no option of a tmpfs'),
    refused("volume create x", '"x" is no name for a volume'),
    refused("volume create a/b", r'"a/b" is no name for a volume \(\[a-zA-Z0-9\]\[a-zA-Z0-9_\.-\]\+, at most 255 bytes\)'),
    refused("system-prune x", "no arguments"),
    *(case(c, 0, r"Usage: a3s-box system COMMAND\n(.*\n)+  df +.*\n  events +.*\n  info +.*\n  prune +.*\n(.*\n)+")
      for c in ("system", "system --help", "system -h", "system help")),
    refused("system nosuch", r"unknown command: nosuch \(see a3s-box system --help\)"),
    refused("system prune x", "no arguments")._replace(err="a3s-box: system-prune: [^\n]*no arguments[^\n]*\n"),
    refused("system-prune -f --filter nosuch=1", r"--filter nosuch=1: no such filter \(there are label, label!, until,"),
    refused("system-prune -f --volumes --filter until=1h", "--filter until=1h: it is not for --volumes"),

    # -- volumes: the box `made` needs v9
    case("volume create", 0, ID),
    case("volume create --label x --label a=b v1", 0, "v1\n"),
    case("volume create v1", 0, "v1\n"),
    case("volume create --name v2", 0, "v2\n"),
    refused("volume create -o o=bind,ro -o device=/etc v1", 'there is a volume "v1" already, with other options',
            deviation="Docker ignores the options and prints the name"),
    case("volume create -o o=bind,ro -o device=/etc v3", 0, "v3\n"),
    case("volume ls", 0, r"DRIVER +VOLUME NAME\nlocal +[0-9a-f]{64}\nlocal +v1\nlocal +v2\nlocal +v3\nlocal +v9\n"),
    case("volume list -q --filter name=v", 0, "v1\nv2\nv3\nv9\n"),
    case("volume ls -q --filter label=a=b --filter driver=local", 0, "v1\n"),
    case("volume ls -q --filter dangling=false", 0, "v9\n"),
    case("volume ls -q --format json", 0, r"(\S+\n){5}", "a3s-box: warning: volume ls: --format is ignored with --quiet\n"),
    case(["volume", "ls", "--filter", "name=v1", "--format", '{{.Name}} {{.Labels}} {{.Label "a"}} {{.Mountpoint}}'], 0,
         r"v1 x=,a=b b /\S+/volumes/v1/data\n"),
    case("volume inspect v1", 0, r'\[\n +\{\n +"CreatedAt": "[^"]+",\n +"Driver": "local",\n +"Labels": \{\n +"x": "",\n'
         r' +"a": "b"\n +\},\n +"Mountpoint": "[^"]+/volumes/v1/data",\n +"Name": "v1",\n +"Options": \{\},\n'
         r' +"Scope": "local"\n +\}\n\]\n'),
    case(["volume", "inspect", "-f", "{{.Options.device}} {{.Mountpoint}}", "v3", "nosuch"], 1, "/etc /etc\n",
         "a3s-box: volume inspect: no such volume: nosuch\n"),
    case(["inspect", "--type", "volume", "-f", "{{.Name}}", "v1"], 0, "v1\n"),
    case(["inspect", "-f", "{{.Name}}", "v1"], 0, "v1\n"),
    case("inspect --type volume made", 1, r"\[\]\n", "a3s-box: inspect: no such volume: made\n"),
    refused("volume rm v9", r"volume v9 is in use by 1 box \(made: remove them first"),
    case("volume rm v3 nosuch", 1, "v3\n", "a3s-box: volume rm: no such volume: nosuch\n"),
    case("volume rm -f nosuch", 0, "nosuch\n"),
    case("volume remove v2", 0, "v2\n"),
    case("volume prune", 0, "Total reclaimed space: 0B\n",
         r"WARNING! This will remove all anonymous volumes that no box needs\.\n.*\[y/N\] ", ASKS_ON_STDERR, input=b"n\n"),
    case("volume prune -f --filter label=nosuch", 0, "Total reclaimed space: 0B\n"),
    case("volume prune -f", 0, r"Deleted Volumes:\n%s\nTotal reclaimed space: [^\n]*\n" % ID, "",
         "Docker prints no exact number of bytes"),
    case("volume prune -a", 0, "Total reclaimed space: 0B\n",
         r"WARNING! This will remove all volumes that no box needs\.\n.*\[y/N\] ", ASKS_ON_STDERR, input=b"n\n"),
    case("volume prune -f --filter all=true --filter label!=nosuch", 0,
         "Deleted Volumes:\nv1\n\nTotal reclaimed space: [^\n]*\n", "", "Docker prints no exact number of bytes"),
    case(["df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}}"], 0,
         r"(.*\n)*Local Volumes 1 1\n(.*\n)*Build Cache 0 0\n"),
    case(["df", "-v", "--format", "{{range .Volumes}}{{.Name}} {{.Links}}{{end}}"], 0, "v9 1\n"),
    case("df -v", 0, r"Images space usage:\n(.*\n)+VOLUME NAME +LINKS +SIZE\nv9 +1 +\S+\n(.*\n)*Build cache usage: 0B\n"),
    case(["system", "df", "--format", "{{.Type}}"], 0, r"Images\n(.*\n)+"),

    # -- system-prune
    case("system-prune", 0, "Total reclaimed space: 0B\n",
         r"WARNING! This will remove:\n  - all stopped boxes\n  - all networks that no box is on\n"
         r"  - all images without a name that no box needs\n\n.*\[y/N\] ", ASKS_ON_STDERR, input=b"n\n"),
    case("system prune -a --volumes --filter label=x", 0, "Total reclaimed space: 0B\n",
         r"WARNING! This will remove:\n  - all stopped boxes\n  - all networks that no box is on\n"
         r"  - all anonymous volumes that no box needs\n  - all images that no box needs\n\n"
         r"  Only what these filters select:\n  - label=x\n\n.*\[y/N\] ", ASKS_ON_STDERR, input=b"n\n"),
    case("system-prune -f --filter label=nosuch", 0, "Total reclaimed space: 0B\n"),
    case("system-prune -f --volumes", 0,
         r"Deleted Boxes:\n%s\nTotal reclaimed space: [^\n]*\n" % ID, "", "Docker's heading is Deleted Containers"),
    case("volume ls -q", 0, "v9\n"),
)

NETWORK = (
    # -- bad use
    case("network", 0, r"Usage: a3s-box network COMMAND\n(.*\n)+"),
    refused("network nosuch", "unknown command: nosuch", 1),
    *(refused(c, "needed", 1, ONE_LINE)
      for c in ("network create", "network create a b", "network rm", "network inspect", "network connect", "network connect a",
                "network connect a b c", "network disconnect a", "network update", "network update a b")),
    *(refused("network " + c + " --nosuch made x", "--nosuch", 1, ONE_LINE)
      for c in ("create", "rm", "ls", "inspect", "connect", "disconnect", "prune", "update")),
    refused("network ls made", "no arguments"),
    refused("network prune made", "no arguments"),
    refused("network ls --filter nosuch=1", "--filter nosuch=1: no such filter"),
    refused("network ls --filter dangling=perhaps", "expected true or false"),
    refused("network prune -f --filter nosuch=1", r"--filter nosuch=1: no such filter \(there are label, label!, until,"),
    refused("network create -d macvlan n", "--driver macvlan: there is only bridge"),
    refused("network create -d tsi n", "--driver tsi"),
    refused("network create -d none n", r"--driver none.*\(run boxes with --network none"),
    refused("network create --isolation some n", "--isolation some: expected none, strict or custom"),
    refused("network create --opt x=y n", "--opt x=y: there is no such option",
            deviation="Docker takes options of any name, and ignores those that its driver does not know"),
    refused("network create --label =x n", "--label"),
    refused("network create --subnet 10.1.0.0 n", "--subnet 10.1.0.0.*a prefix is"),
    refused("network create --subnet 10.1.0.1/24 n", "--subnet 10.1.0.1/24: expected a network"),
    refused("network create --subnet 10.1.0.0/24 --subnet 10.2.0.0/24 n", "one of this family already",
            deviation="Docker says so only of the same subnet twice, and then takes one of them"),
    refused("network create --gateway 10.1.0.1 n", "--gateway 10.1.0.1: it needs the --subnet"),
    refused("network create --ipv6=false --subnet fd00:1::/64 n", "contradicts --ipv6=false"),
    refused("network create bridge", '"bridge" is the name of a predefined network'),
    refused("network create -- -n", "is no name"),
    refused("network rm bridge", "predefined"),
    refused("network connect none made", '"none"'),
    refused("network connect host made", 'no network "host"'),
    refused("network connect --alias x bridge made", "already|addresses and aliases"),

    # -- networks
    case("network create --attachable --label x n1", 0, ID),
    refused("network create --ip-range 10.99.1.0/25 n2", "--ip-range 10.99.1.0/25: addresses are given out of the whole",
            deviation="Docker chooses addresses from a part of the subnet"),
    refused("network create n1", r'there is a network "n1" already'),
    case("network create --subnet 10.99.1.0/24 n2", 0, ID),
    refused("network create --subnet 10.99.0.0/16 n3", r"overlaps network n2 \(10\.99\.1\.0/24\)"),
    case("network ls", 0, r"NETWORK ID +NAME +DRIVER +SCOPE\n(.*\n){4}"),
    case("network list -q", 0, r"(.*\n){4}"),
    case("network connect n1 made"),
    refused("network connect n1 made", "already"),
    refused("network connect n1 nosuch", "no such box: nosuch"),
    refused("network connect nosuch made", "no such network: nosuch"),
    case("network connect --ip 10.99.1.9 --alias a n2 made"),
    case(["network", "inspect", "-f", "{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}", "n2"], 0, "made 10.99.1.9/24\n"),
    refused("network rm n1", r"network n1 is in use by 1 box \(made: "),
    case("network disconnect n1 made"),
    refused("network disconnect n1 made", "made is not on network n1"),
    case("network update --isolation strict n1", 0, "n1\n", "", "Docker has no network update"),
    case(["network", "inspect", "-f", "{{.Isolation}}", "n1", "nosuch"], 1, "strict\n",
         r"a3s-box: network inspect: no such network: nosuch\n"),
    case("network inspect nosuch", 1, r"\[\]\n", r"a3s-box: network inspect: no such network: nosuch\n"),
    case("network rm n1 nosuch", 1, "n1\n", r"a3s-box: network rm: no such network: nosuch\n"),
    case("network rm -f nosuch"),
    case("network remove -f nosuch"),
    case("network prune -f"),
    case("network disconnect n2 made"),
    case("network prune", 0, "", r"WARNING! [^\n]*\n.*\[y/N\] ", ASKS_ON_STDERR, input=b"n\n"),
    case("network prune -f", 0, "Deleted Networks:\nn2\n\n"),
)

# Until the shell in `up` has set its last trap: that of signal 37.
READY = case(["exec", "up", "sh", "-c", "until grep -q 'SigCgt:.*[13579bdf].........$' /proc/1/status; do sleep 0.1; done"])

RUNNING = (
    # The box `up` runs: a shell with traps. `over` ended with status 3.
    READY,
    case("start up", 0, "up\n"),
    refused("rm up", r"up is running \(stop it first, or use rm -f\)"),
    case("exec up sh -c".split() + ["echo o; echo e >&2; exit 9"], 9, "o\n", "e\n"),
    refused("exec up no-such-command", "no-such-command", 127),
    refused("exec up /etc/plain", "/etc/plain", 126),
    case("exec -d up sleep 100000"),
    case("exec up sh -c".split() + ["kill -TERM $$"], 143),
    case("kill -s USR1 up up", 0, "up\nup\n"),
    case("kill -s SIGRTMIN+3 up", 0, "up\n"),
    case("kill --signal=37 up", 0, "up\n"),
    case("kill -s winch up", 0, "up\n"),
    case("kill -s HUP up over", 1, "up\n", r"a3s-box: kill: box over is not running[^\n]*\n"),
    case("pause up nosuch", 1, "up\n", r"a3s-box: pause: [^\n]*nosuch[^\n]*\n"),
    refused("pause up", "up.*paused"),
    refused("exec up true", r"up is paused \([^\n]*unpause", 125, STATUS_125),
    refused("attach up", r"up is paused \([^\n]*unpause"),
    case(["ps", "--format", "{{.Names}} {{.Status}}"], 0, r"up Up [^\n]* \(Paused\)\n"),
    case("unpause up", 0, "up\n"),
    refused("unpause up", "up.*not paused"),
    case("rename up high"),
    case("rename high up"),
    case("restart -t 5 up", 0, "up\n"),
    case(["inspect", "-f", "{{.State.Running}} {{.RestartCount}}", "up"], 0, "true 0\n"),
    READY,
    case("stop -t 20 -s INT up", 0, "up\n"),
    case("wait up", 0, "4\n"),
    case("restart up", 0, "up\n"),
    case("kill up", 0, "up\n"),
    case("wait --condition not-running up over", 0, "137\n3\n"),
    case("start -a over", 3, "o\n", "e\n"),
    case("rm -f up over", 0, "up\nover\n"),
)

RUN = (
    case(["run", "--rm", "box", "sh", "-c", "echo o; echo e >&2; exit 7"], 7, "o\n", "e\n"),
    refused("run --rm box no-such-command", "no-such-command", 127),
    refused("run --rm box /etc/plain", "/etc/plain", 126),
    refused("run --rm no-such-image:1 true", "no-such-image", 125),
    refused("run --rm --memory much box", "--memory", 125),
    refused("run --rm -v x box", "-v x: \"x\" is not an absolute path", 125),
    refused("run --rm -v /a:/b:shared box", "no mount propagates", 125,
            deviation="in Docker the box has the host's kernel, and mounts can propagate"),
    refused("run --rm -v one:/b -v two:/b box", "Duplicate mount point: /b", 125),
    refused("run --rm --mount type=bind,src=/does-not-exist,dst=/b box", "bind source path does not exist: /does-not-exist", 125),
    refused("run --rm --mount type=cluster,src=a,dst=/b box", "type=cluster", 125),
    refused("run --rm --volumes-from no-such-box box", "--volumes-from no-such-box: no such box", 125),
    refused("run --rm --name -x box", "--name|name", 125),
    refused("run --rm --detach-keys abc box", "--detach-keys", 125),
    refused("run --rm -it box", "-t needs a terminal", 125, STATUS_125),
)


class Conformance(BoxTest):
    def check(self, table):
        for c in table:
            with self.subTest(" ".join(c.args)):
                result = self.home.run(*c.args, input=c.input)
                self.assertEqual(result.rc, c.status, result)
                for name, pattern, data in (("output", c.out, result.out), ("error", c.err, result.err)):
                    if not re.fullmatch(pattern, data.decode(errors="replace")):
                        self.fail("standard %s is not %r:\n%s" % (name, pattern, result))

    @core
    def test_at_rest(self):
        self.home.ok("create", "--name", "made", "box", "true")
        self.home.run("run", "--name", "over", "box", "sh", "-c", "echo o; echo e >&2; exit 3")
        self.check(AT_REST)
        self.home.ok("rm", "made", "over")

    @core
    def test_running(self):
        script = "trap 'exit 4' INT; trap : USR1 HUP; trap : 37; while :; do sleep 0.1; done"
        self.home.run("run", "--name", "over", "box", "sh", "-c", "echo o; echo e >&2; exit 3")
        self.home.run_detached("--name", "up", "box", "sh", "-c", script)
        self.check(RUNNING)

    def test_network(self):
        self.home.ok("create", "--name", "made", "box", "true")
        self.check(NETWORK)
        self.home.ok("rm", "made")

    def test_volume(self):
        self.home.ok("create", "--name", "made", "-v", "v9:/data", "box", "true")
        self.check(VOLUME)

    def test_run(self):
        self.check(RUN)

    def test_every_deviation_has_its_reason(self):
        for c in AT_REST + RUNNING + NETWORK + VOLUME + RUN:
            self.assertTrue(c.deviation is None or len(c.deviation) > 10, c)


class Prune(BoxTest):
    def test_what_is_reclaimed_is_what_was_there(self):
        self.home.ok("run", "--name", "full", "box", "sh", "-c", "head -c 3000000 /dev/urandom > /file")
        box = self.home.inspect("full")["Id"]
        folder = self.home.path / "boxes" / box
        paths = [folder, *folder.rglob("*")]
        there = sum(p.lstat().st_blocks * 512 for p in paths)
        self.assertGreater(there, 3000000)
        result = self.home.ok("prune", "-f")
        self.assertIn(box + "\n", result.text)
        self.assertIn("(%d bytes)\n" % there, result.text)
        self.assertFalse(folder.exists())
