"""A Hub on loopback that speaks the Hub's HTTP interface, for the unchanged client to talk to.

It keeps repositories, commits, branches, tags and large files in memory, checks every hash, and can
be told to fail: the next requests that match a method and a part of a path get an error status, are
cut in the middle, or get no answer. Large files come from another origin, `localhost` beside
`127.0.0.1`, since the Hub stores them elsewhere too.
"""

import base64
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class File:
    """One version of a file."""

    content: bytes
    large: bool

    @property
    def oid(self) -> str:
        blob = b"blob %d\0" % len(self.content) + self.content
        return hashlib.sha1(blob).hexdigest()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.large else self.oid


@dataclass
class Repository:
    """Commits by hash, each a tree of files, and the branches and tags that name some of them."""

    private: bool
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, File], branch: str) -> str:
        told = json.dumps([sorted((n, f.etag) for n, f in files.items()), len(self.history)])
        number = hashlib.sha1(told.encode()).hexdigest()
        self.commits[number] = files
        self.history.append(number)
        self.names[branch] = number
        return number

    def tree(self, revision: str = "main") -> dict[str, File]:
        return self.commits[self.names[revision]]

    def add(self, files: dict[str, bytes]) -> None:
        """Commit files without the client, whatever their names."""
        self.commit({**self.tree(), **{n: File(c, False) for n, c in files.items()}}, "main")

    def find(self, revision: str) -> str | None:
        revision = unquote(revision).removeprefix("refs/heads/")
        if revision in self.names:
            return self.names[revision]
        found = [number for number in self.commits if number.startswith(revision)]
        return found[0] if len(revision) >= 7 and found else None


@dataclass
class Fault:
    """What goes wrong, and how often."""

    method: str
    path: str
    times: int
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut_at: int | None = None
    """Bytes of the answer after which the connection is cut."""
    stall: float = 0.0
    """Seconds without any data before the connection is closed."""
    cut_in: int | None = None
    """Bytes of the request after which the connection is cut."""


class Hub:
    """The state of the server, and what tests read and set of it."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.tokens = {"token-owner": "me", "token-other": "other"}
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self.resumed_at: list[int] = []
        self.lies: dict[str, str] = {}
        """Headers of a file, or the `sha` of a repository, in the place of the right ones."""
        self.lock = threading.Lock()
        self.endpoint = ""
        self.store = ""

    def clear(self) -> None:
        self.repositories.clear()
        self.large.clear()
        self.faults.clear()
        self.requests.clear()
        self.resumed_at.clear()
        self.lies.clear()

    def fail(self, method: str, path: str, times: int = 1, **what: Any) -> None:
        self.faults.append(Fault(method, path, times, **what))

    def fault(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.times and fault.method == method and fault.path in path:
                fault.times -= 1
                return fault
        return None


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    # -- answers

    def send(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        fault = self.fault
        self.send_response(status)
        headers = {"Content-Length": str(len(body)), **(headers or {})}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault is not None and fault.cut_at is not None:
            self.wfile.write(body[: fault.cut_at])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
            return
        self.wfile.write(body)

    def answer(self, value: Any, status: int = 200) -> None:
        self.send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def refuse(self, status: int, code: str | None = None, message: str = "") -> None:
        headers = {"X-Error-Code": code} if code else {}
        headers["X-Error-Message"] = message or str(code)
        self.send(status, json.dumps({"error": message or code}).encode(), headers)

    # -- who asks, and for what

    def user(self) -> str | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return self.hub.tokens.get(token)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def repository(self, name: str) -> Repository | None:
        """The repository, if it exists and the caller may see it; otherwise None, after a refusal."""
        found = self.hub.repositories.get(name)
        if found is None or (found.private and self.user() != name.split("/")[-2]):
            self.refuse(401 if self.user() is None else 404, "RepoNotFound", "Repository not found")
            return None
        return found

    def look_up(self, name: str, revision: str) -> tuple[Repository, str] | None:
        """The repository and the commit, if both exist; otherwise None, after a refusal."""
        repository = self.repository(name)
        if repository is None:
            return None
        number = repository.find(revision)
        if number is None:
            self.refuse(404, "RevisionNotFound", "Invalid rev id")
            return None
        return repository, number

    def handle_request(self) -> None:
        parts = urlsplit(self.path)
        self.query = parse_qs(parts.query)
        path = unquote(parts.path)
        self.fault = None
        with self.hub.lock:
            self.hub.requests.append((self.command, path))
            self.fault = self.hub.fault(self.command, path)
        if self.fault is not None and self.fault.stall:
            threading.Event().wait(self.fault.stall)
            # The client has gone. What it asked for must not happen during the next test.
            self.close_connection = True
            return
        if self.fault is not None and self.fault.cut_in is not None:
            self.rfile.read(min(self.fault.cut_in, int(self.headers.get("Content-Length") or 0)))
            self.close_connection = True
            self.connection.shutdown(2)
            return
        data = self.body()
        if self.fault is not None and self.fault.status is not None:
            self.send(self.fault.status, b"{}", self.fault.headers)
            return
        for method, pattern, action in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in method.split():
                action(self, data, *match.groups())
                return
        self.refuse(404, "EntryNotFound", f"no such route {self.command} {path}")

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    # -- routes

    def whoami(self, _: bytes) -> None:
        user = self.user()
        if user is None:
            self.refuse(401, None, "Invalid username or password.")
        else:
            self.answer({"type": "user", "name": user, "orgs": [], "auth": {"type": "access_token"}})

    def create(self, data: bytes) -> None:
        asked = json.loads(data)
        user = self.user()
        if user is None:
            return self.refuse(401, None, "Invalid username or password.")
        owner = asked.get("organization") or user
        if owner != user:
            return self.refuse(403, None, "You don't have the rights to create a model there")
        name = f"{owner}/{asked['name']}"
        url = {"url": f"{self.hub.endpoint}/{name}", "name": name, "id": name}
        if name in self.hub.repositories:
            return self.answer({**url, "error": "You already created this model repo"}, 409)
        private = asked.get("private") or asked.get("visibility") == "private"
        made = Repository(private=bool(private))
        made.commit({".gitattributes": File(b"*.safetensors filter=lfs\n", False)}, "main")
        self.hub.repositories[name] = made
        return self.answer(url)

    def validate(self, _: bytes) -> None:
        self.answer({"errors": [], "warnings": []})

    def preupload(self, data: bytes, name: str, _: str) -> None:
        if not self.may_write(name):
            return
        files = [
            {
                "path": each["path"],
                "uploadMode": "lfs" if self.is_large(each) else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for each in json.loads(data)["files"]
        ]
        self.answer({"files": files})

    @staticmethod
    def is_large(file: dict) -> bool:
        return file["path"].endswith((".safetensors", ".png")) or file["size"] > 10_000_000

    def may_write(self, name: str) -> bool:
        if self.repository(name) is None:
            return False
        if self.user() != name.split("/")[-2]:
            self.refuse(403, None, "You don't have the rights to push to this repository")
            return False
        return True

    def batch(self, data: bytes, name: str) -> None:
        if not self.may_write(name):
            return
        objects = []
        for each in json.loads(data)["objects"]:
            wanted = {"oid": each["oid"], "size": each["size"]}
            if each["oid"] not in self.hub.large:
                wanted["actions"] = {
                    "upload": {"href": f"{self.hub.store}/store/{each['oid']}", "header": {}},
                    "verify": {"href": f"{self.hub.endpoint}/verify/{name}", "header": {}},
                }
            objects.append(wanted)
        self.answer({"transfer": "basic", "objects": objects})

    def put(self, data: bytes, oid: str) -> None:
        if hashlib.sha256(data).hexdigest() != oid:
            return self.refuse(400, None, "the content does not match its hash")
        self.hub.large[oid] = data
        return self.send(200)

    def verify(self, data: bytes, _: str) -> None:
        asked = json.loads(data)
        stored = self.hub.large.get(asked["oid"])
        if stored is None or len(stored) != asked["size"]:
            return self.refuse(404, None, "not found")
        return self.answer({})

    def commit(self, data: bytes, name: str, revision: str) -> None:
        if not self.may_write(name) or (found := self.look_up(name, revision)) is None:
            return None
        repository, number = found
        lines = [json.loads(line) for line in data.decode().splitlines() if line]
        header = next(line["value"] for line in lines if line["key"] == "header")
        if header.get("parentCommit") not in (None, number):
            return self.refuse(412, None, "the branch has moved on")
        files = dict(repository.commits[number])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = File(base64.b64decode(value["content"]), False)
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.large:
                    return self.refuse(400, None, f"large file {value['path']} was not uploaded")
                files[value["path"]] = File(self.hub.large[value["oid"]], True)
            elif line["key"] == "deletedFile":
                files.pop(value["path"], None)
        branch = unquote(revision)
        if self.query.get("create_pr"):
            branch = f"refs/pr/{1 + sum(n.startswith('refs/pr/') for n in repository.names)}"
        made = repository.commit(files, branch)
        told = {"success": True, "commitOid": made, "commitUrl": f"{self.hub.endpoint}/{name}/commit/{made}"}
        if branch.startswith("refs/pr/"):
            told["pullRequestUrl"] = f"{self.hub.endpoint}/{name}/discussions/{branch.split('/')[-1]}"
        return self.answer(told)

    def branch(self, data: bytes, name: str, branch: str) -> None:
        if not self.may_write(name):
            return None
        repository, branch = self.hub.repositories[name], unquote(branch)
        if branch in repository.names:
            return self.refuse(409, None, "Reference already exists")
        asked = json.loads(data) if data else {}
        number = repository.find(asked.get("startingPoint") or "main")
        if number is None:
            return self.refuse(404, "RevisionNotFound", "Invalid rev id")
        repository.names[branch] = number
        return self.answer({})

    def tag(self, data: bytes, name: str, revision: str) -> None:
        if not self.may_write(name) or (found := self.look_up(name, revision)) is None:
            return None
        repository, number = found
        repository.names[json.loads(data)["tag"]] = number
        return self.answer({})

    def info(self, _: bytes, name: str, revision: str | None = None) -> None:
        if (found := self.look_up(name, revision or "main")) is None:
            return None
        repository, number = found
        siblings: list[dict] = []
        for path, file in sorted(repository.commits[number].items()):
            siblings.append({"rfilename": path})
            if "blobs" in self.query:
                siblings[-1] |= {"blobId": file.oid, "size": len(file.content)}
                if file.large:
                    lfs = {"sha256": file.sha256, "size": len(file.content), "pointerSize": 134}
                    siblings[-1]["lfs"] = lfs
        return self.answer(
            {"id": name, "modelId": name, "sha": self.hub.lies.get("sha", number), "private": repository.private,
             "siblings": siblings, "tags": [], "downloads": 0, "likes": 0}
        )  # fmt: skip

    def tree(self, _: bytes, name: str, revision: str) -> None:
        if (found := self.look_up(name, revision)) is None:
            return None
        repository, number = found
        rows = []
        for path, file in sorted(repository.commits[number].items()):
            row = {"type": "file", "oid": file.oid, "size": len(file.content), "path": path}
            if file.large:
                row["lfs"] = {"oid": file.sha256, "size": len(file.content), "pointerSize": 134}
            rows.append(row)
        return self.answer(rows)

    def resolve(self, _: bytes, name: str, revision: str, path: str) -> None:
        if (found := self.look_up(name, revision)) is None:
            return None
        repository, number = found
        file = repository.commits[number].get(path)
        if file is None:
            return self.send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": number})
        headers = {"X-Repo-Commit": number, "ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
        headers |= {key: lie for key, lie in self.hub.lies.items() if key != "sha"}
        if file.large:
            headers |= {
                "X-Linked-Etag": f'"{file.sha256}"',
                "X-Linked-Size": str(len(file.content)),
                "Location": f"{self.hub.store}/store/{file.sha256}",
            }
            return self.send(302, b"", headers)
        return self.ranged(file.content, headers)

    def fetch(self, _: bytes, oid: str) -> None:
        content = self.hub.large.get(oid)
        if content is None:
            return self.refuse(404, None, "not found")
        return self.ranged(content, {"ETag": f'"{oid}"'})

    def ranged(self, content: bytes, headers: dict[str, str]) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            return self.send(200, content, headers)
        start = int(asked[1])
        self.hub.resumed_at.append(start)
        stop = min(int(asked[2]) + 1 if asked[2] else len(content), len(content))
        if start >= len(content):
            return self.send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        return self.send(206, content[start:stop], headers)


NAME = r"((?:datasets/)?[\w.-]+/[\w.-]+)"
API = rf"/api/(?:models/|(?=datasets/)){NAME}"
ROUTES = (
    ("GET", r"/api/whoami-v2", Handler.whoami),
    ("POST", r"/api/repos/create", Handler.create),
    ("POST", r"/api/validate-yaml", Handler.validate),
    ("POST", rf"{API}/preupload/(.+)", Handler.preupload),
    ("POST", rf"/{NAME}\.git/info/lfs/objects/batch", Handler.batch),
    ("PUT", r"/store/([0-9a-f]{64})", Handler.put),
    ("GET HEAD", r"/store/([0-9a-f]{64})", Handler.fetch),
    ("POST", rf"/verify/{NAME}", Handler.verify),
    ("POST", rf"{API}/commit/(.+)", Handler.commit),
    ("POST", rf"{API}/branch/(.+)", Handler.branch),
    ("POST", rf"{API}/tag/(.+)", Handler.tag),
    ("GET", rf"{API}", Handler.info),
    ("GET", rf"{API}/revision/(.+)", Handler.info),
    ("GET", rf"{API}/tree/(.+)", Handler.tree),
    ("GET HEAD", rf"/{NAME}/resolve/([^/]+|refs/pr/\d+)/(.+)", Handler.resolve),
)


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A Hub that runs for the length of a block."""
    hub = Hub()
    handler = type("OwnHandler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    port = server.server_address[1]
    hub.endpoint, hub.store = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def environment(hub: Hub, home: Path) -> dict[str, str]:
    """Variables for a process that uses this Hub, with an empty cache in `home`."""
    return {
        **os.environ,
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PYTHONWARNINGS": "ignore",
    }


def put_repository(hub: Hub, name: str, commit: str, files: dict[str, bytes]) -> None:
    """Make a public repository that others published: one commit of a given hash, safetensors stored as large files."""
    made = Repository(private=False, history=[commit], names={"main": commit})
    made.commits[commit] = {path: File(content, path.endswith(".safetensors")) for path, content in files.items()}
    hub.large |= {file.sha256: file.content for file in made.commits[commit].values() if file.large}
    hub.repositories[name] = made
