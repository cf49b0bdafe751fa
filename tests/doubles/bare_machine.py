"""A folder as a machine on which K3s is installed, with doubles of systemd and of K3s' release."""

import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.doubles.http_server import serving

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "ops" / "k3s" / "install-k3s.sh"
PINNED = re.findall(r"^pinned=(.*)$", SCRIPT.read_text(), re.MULTILINE)[0]
SUMS = "sha256sum-amd64.txt"
IMAGES = "k3s-airgap-images-amd64.tar.zst"
UNIT = Path("etc/systemd/system/k3s.service")
AGENT_UNIT = Path("etc/systemd/system/k3s-agent.service")
CONFIG = Path("etc/rancher/k3s/config.yaml")
AGENT = ("--server", "https://192.0.2.1:6443", "--token-file")
INOTIFY = {"proc/sys/fs/inotify/max_user_instances": 128, "proc/sys/fs/inotify/max_user_watches": 8192}

# The only programs of the machine that the script finds.
TOOLS = (
    *("awk", "bash", "cat", "chmod", "cp", "curl", "cut", "dirname", "grep", "install", "ln", "mkdir", "mktemp"),
    *("mv", "readlink", "rm", "rmdir", "sed", "sha256sum", "sort", "stat", "tail", "touch"),
)

K3S = """#!/bin/sh
echo "k3s $*" >>"$CALLS"
case "$*" in
  --version) echo "k3s version VERSION (0123abcd)"; echo "go version go1.26" ;;
  *whoami*) [ -e "$K3S_ROOT/run/version" ] && printf system:node:here ;;
  *"deployment coredns"*) cat "$K3S_ROOT/run/dns" || echo True ;;
  *"get node here "*) printf '%s %s' "$(cat "$K3S_ROOT/run/version")" "$(cat "$K3S_ROOT/run/ready" || echo True)" ;;
esac
"""
DOUBLES = {
    "id": "echo 0",
    "uname": '[ "$1" = -s ] && echo Linux || echo x86_64',
    "sleep": "exec /bin/sleep 0.02",
    "ip": "",
    "umount": 'grep -v " ${1#"$K3S_ROOT"} " "$K3S_ROOT/proc/self/mounts" >"$K3S_ROOT/left"\n'
    'mv "$K3S_ROOT/left" "$K3S_ROOT/proc/self/mounts"',
    "systemctl": """case "$*" in
  is-active*--quiet*) [ -e "$K3S_ROOT/run/active/${*##* }" ] ;;
  is-active*) [ -e "$K3S_ROOT/run/version" ] && echo active || { echo inactive; exit 3; } ;;
  restart*) "$K3S_ROOT/usr/local/bin/k3s" --version | awk 'NR == 1 {print $3}' >"$K3S_ROOT/run/version" ;;
  disable*) rm -f "$K3S_ROOT/run/version" ;;
esac""",
}

DISTRIBUTIONS = {
    "debian 12": 'ID=debian\nVERSION_ID="12"\n',
    "ubuntu 22.04": 'ID=ubuntu\nID_LIKE=debian\nVERSION_ID="22.04"\n',
    "ubuntu 24.04": 'ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\n',
    "rocky 9": 'ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.5"\n',
    "rhel 10": 'ID="rhel"\nID_LIKE="centos fedora"\nVERSION_ID="10.0"\n',
    "fedora 42": "ID=fedora\nVERSION_ID=42\n",
    "leap 15": 'ID="opensuse-leap"\nID_LIKE="suse opensuse"\nVERSION_ID="15.6"\n',
    "alpine": "ID=alpine\nVERSION_ID=3.22.1\n",
}


class BareMachine:
    """The machine below `root`, the release of K3s in `release`, and the programs on its PATH in `bin`."""

    def __init__(self, folder: Path) -> None:
        self.root, self.release, self.bin = folder / "root", folder / "release", folder / "bin"
        self.environment: dict[str, str] = {}
        self.calls = folder / "calls"
        self.calls.touch()
        for path in ("run/systemd/system", "proc/net", "proc/self", "sys/fs/cgroup", "var/lib"):
            (self.root / path).mkdir(parents=True)
        self.write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n")
        self.write("proc/self/mounts", "/dev/sda1 / ext4 rw 0 0\n")
        self.listen(22)
        self.route("eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000")
        self.restart()
        self.bin.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(str(shutil.which(tool)))
        for name, body in DOUBLES.items():
            self.double(name, body)
        self.publish(PINNED)

    def write(self, path: str | Path, text: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def read(self, path: str | Path) -> str:
        return (self.root / path).read_text()

    def double(self, name: str, body: str) -> None:
        """Add a program to PATH that records its arguments and runs `body`."""
        (self.bin / name).unlink(missing_ok=True)
        (self.bin / name).write_text(f'#!/bin/sh\nprintf "%s\\n" "{name} $*" >>"$CALLS"\n{body}\n')
        (self.bin / name).chmod(0o755)

    def note_every_call(self) -> None:
        for tool in TOOLS:
            self.double(tool, f'exec {shutil.which(tool)} "$@"')

    def listen(self, port: int, protocol: str = "tcp") -> None:
        """Add a listener to /proc/net."""
        state = {"tcp": "0A", "udp": "07"}[protocol]
        listener = f"   0: 00000000:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 1 1 0\n"
        self.write(f"proc/net/{protocol}", "  sl  local_address rem_address   st tx_queue rx_queue\n" + listener)

    def route(self, *routes: str) -> None:
        """Set the routes in /proc/net/route, beside that of the machine's network."""
        header = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask"
        own = "eth0\t000200C0\t00000000\t0001\t0\t0\t100\t00FFFFFF"
        self.write("proc/net/route", "".join(f"{line}\t0\t0\t0\n" for line in (header, own, *routes)))

    def restart(self) -> None:
        """Restart: reset kernel limits and /run."""
        for name, limit in INOTIFY.items():
            self.write(name, f"{limit}\n")
        shutil.rmtree(self.root / "run")
        (self.root / "run/systemd/system").mkdir(parents=True)

    def run_service(self, name: str) -> None:
        self.write(f"run/active/{name}", "")

    def mount(self, *paths: str) -> None:
        self.write("proc/self/mounts", "".join(f"/dev/sda1 {path} ext4 rw 0 0\n" for path in ("/", *paths)))

    def publish(self, version: str) -> Path:
        """Release a version of K3s: a program, images, and their checksums."""
        folder = self.release / version
        folder.mkdir(parents=True)
        (folder / "k3s").write_text(K3S.replace("VERSION", version))
        (folder / IMAGES).write_text(f"images of {version}")
        sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in ("k3s", IMAGES)]
        (folder / SUMS).write_text("".join(sums))
        return folder

    def run(self, *options: str | Path, script: Path = SCRIPT) -> tuple[int, str]:
        """Run the script; returns exit code and output."""
        own = {"PATH": str(self.bin), "K3S_ROOT": str(self.root), "CALLS": str(self.calls)}
        environment = {**self.environment, **own}
        command = ["bash", str(script), *map(str, options)]
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60
        )
        return done.returncode, done.stdout

    def succeed(self, *options: str | Path, script: Path = SCRIPT) -> str:
        code, said = self.run(*options, script=script)
        assert code == 0, said
        return said

    def install(self, *options: str | Path) -> str:
        """Install from the folder of the release, without a server for downloads."""
        return self.succeed("--from-files", self.release / PINNED, *options)

    def calls_of(self, name: str) -> list[str]:
        return [line for line in self.calls.read_text().splitlines() if line.startswith(name)]

    def content(self) -> dict[str, str]:
        """Every file of the machine, to compare before and after a run."""
        files = [path for path in self.root.rglob("*") if not path.is_dir() or path.is_symlink()]
        return {
            str(path.relative_to(self.root)): str(path.readlink()) if path.is_symlink() else path.read_text()
            for path in files
        }

    @contextmanager
    def mirror(self) -> Iterator[str]:
        """Serve the releases on loopback, and record requests."""
        machine = self

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name in http.server
                with machine.calls.open("a") as calls:
                    calls.write(f"served {self.path}\n")

        with serving(ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(self.release)))) as url:
            yield url
