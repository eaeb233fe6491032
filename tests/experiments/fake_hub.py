"""A small Hugging Face hub over HTTP on this machine: what making a dataset and uploading a folder ask for."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

import yaml


@dataclass
class FakeHub:
    """What it holds, and what it was asked.

    Attributes:
        url: where it listens.
        private: whether each dataset is, by name.
        files: contents of each dataset by path; of large files, the sha256.
        blobs: large files, by sha256.
        uploads: sha256 of every large file that was sent, in order.
        token: what must be shown to write.
        large: whether it wants images and tables sent apart, as large files.
        room: large files after which it refuses to take more; None for no end.
    """

    url: str = ""
    private: dict[str, bool] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    uploads: list[str] = field(default_factory=list)
    token: str = "hf_secret"  # noqa: S105 - of this hub alone
    large: bool = True
    room: int | None = None
    _lock: Lock = field(default_factory=Lock)

    def contents(self, name: str) -> dict[str, bytes]:
        """Return the files of a dataset, large ones too."""
        return {path: self.blobs.get(data.decode("latin-1"), data) for path, data in self.files[name].items()}

    def answer(self, method: str, path: str, body: bytes) -> Any:
        path = path.partition("?")[0]
        if method == "PUT":
            return self._take(path.rpartition("/")[2], body)
        asked = json.loads(body) if body[:1] == b"{" and b"\n{" not in body else {}
        if path == "/api/repos/create":
            name = f"{asked['organization']}/{asked['name']}"
            if name in self.private:
                return 409, {"url": f"{self.url}/datasets/{name}"}
            self.private[name], self.files[name] = asked.get("visibility") == "private", {}
            return 200, {"url": f"{self.url}/datasets/{name}"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        found = re.fullmatch(r"/(?:api/)?datasets/([^/]+/[^/.]+)(?:\.git)?(/.*)?", path)
        if not found or found[1] not in self.private:
            return 404, {}
        name, rest = found[1], found[2] or ""
        if rest == "/info/lfs/objects/batch":
            return 200, {"objects": [self._missing(each) for each in asked["objects"]]}
        if rest.startswith("/preupload/"):
            return 200, {
                "files": [
                    {"path": each["path"], "uploadMode": self._mode(each["path"]), "shouldIgnore": False}
                    for each in asked["files"]
                ]
            }
        if rest.startswith("/commit/"):
            return self._commit(name, body)
        if rest.startswith("/tree/"):
            return 200, [
                {"type": "file", "path": path, "oid": "0" * 40, "size": len(data)}
                for path, data in self.files[name].items()
            ]
        return 200, self._info(name)

    def _mode(self, path: str) -> str:
        return "lfs" if self.large and path.endswith((".parquet", ".png")) else "regular"

    def _missing(self, asked: dict[str, Any]) -> dict[str, Any]:
        upload = {"upload": {"href": f"{self.url}/blobs/{asked['oid']}"}}
        return asked if asked["oid"] in self.blobs else asked | {"actions": upload}

    def _take(self, oid: str, body: bytes) -> Any:
        with self._lock:
            if self.room is not None and len(self.uploads) >= self.room:
                return 403, {"error": "no room"}
            self.uploads.append(oid)
        if hashlib.sha256(body).hexdigest() != oid:
            return 400, {"error": "other bytes"}
        self.blobs[oid] = body
        return 200, {}

    def _commit(self, name: str, body: bytes) -> Any:
        files = self.files[name]
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = value["oid"].encode()
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        return 200, {"commitUrl": f"{self.url}/datasets/{name}/commit/1", "commitOid": "1", "pullRequestUrl": None}

    def _info(self, name: str) -> dict[str, Any]:
        readme = self.files[name].get("README.md", b"").decode()
        tags = yaml.safe_load(readme.split("---\n")[1]).get("tags", []) if readme.startswith("---\n") else []
        siblings = [{"rfilename": path} for path in self.files[name]]
        return {"id": name, "private": self.private[name], "tags": tags, "siblings": siblings, "sha": "1"}


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """Give a hub that listens on the loopback interface."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            allowed = self.command == "PUT" or self.headers.get("Authorization") == f"Bearer {hub.token}"
            status, value = hub.answer(self.command, self.path, body) if allowed else (401, {"error": "who are you?"})
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_HEAD = _answer

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
