"""Local services for tests, each a process: a broker, PostgreSQL, an OCI registry, an S3 server."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAMS = {"postgres": ("initdb", "postgresql"), "registry": ("docker-registry", "docker-registry")}
POSTGRES = ("initdb", "postgres", "pg_ctl", "psql")
TIMEOUT = 60.0


def free_port() -> int:
    """An unused port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_program(name: str) -> str | None:
    """Path of a program, or None; Debian installs PostgreSQL outside PATH."""
    folders = [
        os.environ.get("PATH", ""),
        *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True),
    ]
    return shutil.which(name, path=os.pathsep.join(folders))


def program(name: str, package: str) -> str:
    """Path of a program; the error names the Debian package."""
    path = find_program(name)
    if path is None:
        raise RuntimeError(f"{name} is not installed: apt-get install {package}")
    return path


def wait_until(ready: Callable[[], bool], what: str, process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until a condition holds; fail when the process ends or the timeout passes."""
    until = time.monotonic() + TIMEOUT
    while not ready():
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"{what} ended with {process.returncode}")
        if time.monotonic() > until:
            raise RuntimeError(f"{what} did not happen within {TIMEOUT:.0f} s")
        time.sleep(0.05)


def answers(url: str) -> bool:
    """Whether an HTTP server responds with a status below 500."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False


def m2kt(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process."""
    return subprocess.run(
        [sys.executable, "-m", "m2kt.cli", *command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@dataclass
class Server:
    """A broker in a process."""

    data: Path
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.data / "test-server.log"

    def storage_options(self) -> list[str]:
        """The options of database and store, without those of ``m2kt serve`` alone."""
        pairs = zip(self.options[::2], self.options[1::2], strict=False)
        return [word for pair in pairs if pair[0] in ("--database", "--store") for word in pair]

    def key(self, name: str, role: str) -> str:
        """Create an API key."""
        command = [
            "broker",
            "keys",
            "new",
            name,
            "--role",
            role,
            "--json",
            "--data",
            str(self.data),
            *self.storage_options(),
        ]
        made = m2kt(*command, **self.environment)
        assert made.returncode == 0, made.stderr
        return str(json.loads(made.stdout)["key"])

    def start(self) -> Server:
        self.data.mkdir(parents=True, exist_ok=True)
        command = ["serve", "--data", str(self.data), "--port", str(self.port), *self.options]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "m2kt.cli", *command],
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
            )
        wait_until(lambda: answers(f"{self.url}/readyz"), f"the broker ({self.log})", self.process)
        return self

    def kill(self, sent: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal and return the exit code."""
        assert self.process is not None
        self.process.send_signal(sent)
        return self.process.wait(timeout=TIMEOUT)


@dataclass
class Postgres:
    """A PostgreSQL cluster in a folder. PostgreSQL refuses to run as root, so root runs it as the user postgres."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self._as: list[str] = []
        if os.geteuid() == 0:
            self._as = [program("runuser", "util-linux"), "-u", "postgres", "--"]
            shutil.chown(self.folder, "postgres")
        command = [
            program("initdb", "postgresql"),
            "-D",
            str(self.folder / "data"),
            "-A",
            "trust",
            "-U",
            "m2kt",
        ]
        subprocess.run([*self._as, *command], check=True, capture_output=True, cwd="/")

    @property
    def url(self) -> str:
        return f"postgresql://m2kt@127.0.0.1:{self.port}/postgres"

    def start(self) -> Postgres:
        options = ["-D", str(self.folder / "data"), "-p", str(self.port), "-k", "", "-h", "127.0.0.1"]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [*self._as, program("postgres", "postgresql"), *options], stdout=log, stderr=log, cwd="/"
            )
        wait_until(self._accepts_connections, "PostgreSQL", self.process)
        return self

    def new_database(self, name: str) -> str:
        """Create a database and return its URL."""
        command = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "m2kt", "-d", "postgres", "-c"]
        query = f'create database "{name}" encoding utf8 template template0'
        subprocess.run([program("psql", "postgresql"), *command, query], check=True, capture_output=True)
        return f"postgresql://m2kt@127.0.0.1:{self.port}/{name}"

    def kill(self) -> None:
        """Kill all processes of the cluster, as a power failure would."""
        assert self.process is not None
        main = int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        for pid in (main, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(timeout=TIMEOUT)

    def _accepts_connections(self) -> bool:
        command = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "m2kt", "-d", "postgres", "-c", "select 1"]
        return (
            subprocess.run([program("psql", "postgresql"), *command], capture_output=True, check=False).returncode == 0
        )


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """PostgreSQL in a temporary folder; other users cannot read those of pytest."""
    with tempfile.TemporaryDirectory(prefix="m2kt-pg-", ignore_cleanup_errors=True) as folder:
        server = Postgres(Path(folder)).start()
        try:
            yield server
        finally:
            assert server.process is not None
            if server.process.poll() is None:
                server.kill()


@contextlib.contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Debian's docker-registry without authentication; yields ``host:port``."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    configuration = folder / "registry.yml"
    configuration.write_text(
        f"version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {folder / 'blobs'}}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    command = [program("docker-registry", "docker-registry"), "serve", str(configuration)]
    with _running(command, folder / "registry.log", f"http://127.0.0.1:{port}/v2/"):
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def s3(folder: Path) -> Iterator[dict[str, str]]:
    """moto's S3 server with the bucket ``packets``; yields the environment variables of a client."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(command, folder / "s3.log", url):
        urllib.request.urlopen(urllib.request.Request(f"{url}/packets", method="PUT"))
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }


@contextlib.contextmanager
def _running(command: list[str], log: Path, url: str) -> Iterator[None]:
    with open(log, "ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        wait_until(lambda: answers(url), f"{command[0]} ({log})", process)
        yield
    finally:
        process.kill()
        process.wait(timeout=TIMEOUT)
