"""A small hub on this machine: as much of its protocol as a folder's way there and back takes.

``python -m tests.packet.hub FOLDER`` prints its port and serves until it is killed.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SHA = "a" * 40


@contextlib.contextmanager
def serving(folder: Path, cache: Path) -> Iterator[dict[str, str]]:
    """A hub over ``folder``; the environment of a client that knows this hub alone."""
    command = [sys.executable, "-m", "tests.packet.hub", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert server.stdout is not None
    port = server.stdout.readline().strip()
    try:
        yield {
            **os.environ,
            "HF_ENDPOINT": f"http://127.0.0.1:{port}",
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(cache),
            "HF_TOKEN": "hf_nobody",
            "HF_HUB_DISABLE_XET": "1",
            "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
        }
    finally:
        server.kill()
        server.wait()


def run(code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A client of the hub, in a separate process."""
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


class Hub(BaseHTTPRequestHandler):
    folder: Path

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if self.path == "/api/repos/create":
            request = json.loads(body)
            name = f"{request['organization']}/{request['name']}" if request.get("organization") else request["name"]
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            self._json({"url": f"https://huggingface.co/{name}"})
        elif "/preupload/" in self.path:
            files = [{"path": f["path"], "uploadMode": "regular"} for f in json.loads(body)["files"]]
            self._json({"files": [f | {"shouldIgnore": False} for f in files]})
        elif "/commit/" in self.path:
            name, _, branch = self.path.removeprefix("/api/models/").split("?")[0].partition("/commit/")
            repo = self.folder / name
            with open(self.folder / "pushes.txt", "a") as pushes:
                pushes.write(f"{name} {branch}\n")
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    (repo / line["value"]["path"]).write_bytes(base64.b64decode(line["value"]["content"]))
            self._json(
                {
                    "commitUrl": f"https://huggingface.co/{repo.relative_to(self.folder)}/commit/{SHA}",
                    "commitOid": SHA,
                }
            )
        elif "/branch/" in self.path:
            self._json({})
        elif self.path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        else:
            self.send_error(404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self.path.startswith("/api/models/"):
            name, _, what = self.path.removeprefix("/api/models/").split("?")[0].partition("/tree/")
            name = name.split("/revision/")[0]
            if not (self.folder / name).is_dir():
                self._absent("RepoNotFound")
                return
            files = sorted((self.folder / name).iterdir())
            if what:
                tree = [{"type": "file", "path": p.name, "size": p.stat().st_size, "oid": SHA} for p in files]
                self._json(tree)
            else:
                self._json({"id": name, "sha": SHA, "siblings": [{"rfilename": p.name} for p in files]})
            return
        name, _, file = self.path.lstrip("/").partition("/resolve/")
        path = self.folder / name / file.split("/", 1)[-1]
        if not path.is_file():
            self._absent("EntryNotFound")
            return
        content = path.read_bytes()
        self.send_response(200)
        self.send_header("X-Repo-Commit", SHA)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def _absent(self, kind: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", kind)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _json(self, data: Any) -> None:
        content = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


if __name__ == "__main__":
    Hub.folder = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
