"""A hub in this process: the few routes that huggingface_hub uses to make, write and read a model.

It keeps the files of each branch in memory, and refuses what a test asks it to.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

TOKEN = "hf_" + "t" * 34


class Hub(ThreadingHTTPServer):
    """The server, and what was done to it.

    Attributes:
        repos: the files of each branch of each repository.
        private: the repositories that are private.
        commits: the operations of each commit, as (operation, path).
        large: the files that were uploaded as LFS objects, by sha256.
        refuses: the status of every answer; None answers.
        messages: of commits.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, dict[str, dict[str, bytes]]] = {}
        self.private: set[str] = set()
        self.commits: list[list[tuple[str, str]]] = []
        self.messages: list[str] = []
        self.large: dict[str, bytes] = {}
        self.refuses: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """Answers for the hub."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""

    def answer(self, value: Any, status: int = 200, **headers: str) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.refuses or self.headers["Authorization"] != f"Bearer {TOKEN}":
            self.answer({"error": "no"}, self.server.refuses or 401)
            return
        path, repos = self.path, self.server.repos
        if path == "/api/repos/create":
            given = json.loads(body)
            name = f"{given['organization']}/{given['name']}"
            url = f"{self.server.url}/{name}"
            if name in repos:
                self.answer({"url": url}, 409)
                return
            repos[name] = {"main": {}}
            if given.get("visibility") == "private":
                self.server.private.add(name)
            self.answer({"url": url})
        elif path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif found := re.fullmatch(r"/api/models/(.+)/branch/(.+)", path):
            there = found[2] in repos[found[1]]
            repos[found[1]].setdefault(found[2], dict(repos[found[1]]["main"]))
            self.answer({}, 409 if there else 200)
        elif re.search("/preupload/", path):
            self.answer({"files": [self._mode(each["path"]) for each in json.loads(body)["files"]]})
        elif path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**each, "actions": {"upload": {"href": f"{self.server.url}/lfs/{each['oid']}"}}}
                for each in json.loads(body)["objects"]
            ]
            self.answer({"transfer": "basic", "objects": objects})
        elif found := re.fullmatch(r"/api/models/(.+)/commit/(.+)", path):
            self._commit(body, repos[found[1]][found[2]])
            self.answer({"commitUrl": f"{self.server.url}/{found[1]}/commit/1", "commitOid": "1"})
        else:
            raise AssertionError(path)

    @staticmethod
    def _mode(path: str) -> dict[str, Any]:
        mode = "lfs" if path.endswith(".safetensors") else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": False}

    def _commit(self, body: bytes, files: dict[str, bytes]) -> None:
        done = []
        for line in body.splitlines():
            operation = json.loads(line)
            key, value = operation["key"], operation["value"]
            if key == "header":
                self.server.messages.append(value["summary"])
                continue
            done.append((key, value["path"]))
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
            else:
                del files[value["path"]]
        self.server.commits.append(done)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert hashlib.sha256(body).hexdigest() == self.path.removeprefix("/lfs/")
        self.server.large[self.path.removeprefix("/lfs/")] = body
        self.answer({})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        repos, path = self.server.repos, self.path.partition("?")[0]
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            files = self._branch(repos.get(found[1], {}), found[2])
            if files is None or found[3] not in files:
                self.answer({}, 404, X_Error_Code="EntryNotFound" if files else "RepoNotFound")
                return
            body = files[found[3]]
            etag = f'"{hashlib.sha256(body).hexdigest()}"'
            self.answer(body, X_Repo_Commit=_sha(files), ETag=etag)
            return
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)(/tree|/revision)?(?:/([^/]+))?", path)
        if found is None:
            self.answer({}, 404)
            return
        files = self._branch(repos.get(found[1], {}), found[3] or "main")
        if files is None:
            self.answer({}, 404, X_Error_Code="RepoNotFound")
        elif found[2] == "/tree":
            self.answer(
                [
                    {"type": "file", "path": name, "size": len(body), "oid": "1"}
                    for name, body in files.items()
                ]
            )
        else:
            siblings = [{"rfilename": name} for name in files]
            about = {"id": found[1], "sha": _sha(files), "siblings": siblings}
            self.answer({**about, "private": found[1] in self.server.private})

    @staticmethod
    def _branch(repo: dict[str, dict[str, bytes]], name: str) -> dict[str, bytes] | None:
        return {**repo, **{_sha(files): files for files in repo.values()}}.get(name)


def _sha(files: dict[str, bytes]) -> str:
    parts = [part for name in sorted(files) for part in (name.encode(), files[name])]
    return hashlib.sha1(b"\0".join(parts)).hexdigest()


@contextmanager
def a_hub(patch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Serve a hub, and let huggingface_hub use it with a token."""
    from huggingface_hub import constants, hf_api

    with Hub() as hub:
        threading.Thread(target=hub.serve_forever, args=(0.01,), daemon=True).start()
        patch.setattr(constants, "ENDPOINT", hub.url)
        patch.setattr(hf_api.HfApi, "endpoint", hub.url, raising=False)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setenv("HF_TOKEN", TOKEN)
        try:
            yield hub
        finally:
            hub.shutdown()
