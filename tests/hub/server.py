"""A small hub on loopback: the calls that sharing and loading a model make, with branches, rights, LFS and failures.

`with Hub() as hub:` serves until the block ends; other processes reach it by `HF_ENDPOINT=hub.url`. What it holds and
what it was asked is in plain attributes. Faults cut the connection where a test wants it cut.
"""

import base64
import hashlib
import json
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, unquote, urlsplit

import yaml


class User(NamedTuple):
    name: str
    writes: bool


TOKENS = {
    "hf_writer": User("user", writes=True),
    "hf_reader": User("user", writes=False),
    "hf_stranger": User("stranger", writes=True),
}
FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)


class Refused(Exception):
    """An answer that is an error, as the hub words it."""

    def __init__(self, status: int, message: str, code: str = ""):
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


@dataclass(frozen=True)
class Commit:
    sha: str
    message: str
    files: Mapping[str, bytes]
    in_lfs: frozenset[str]


@dataclass
class Repo:
    private: bool = False
    gated: bool = False
    branches: dict[str, list[Commit]] = field(default_factory=dict)

    def commit(self, branch: str, message: str, files: Mapping[str, bytes], in_lfs: frozenset[str]) -> Commit:
        history = self.branches.setdefault(branch, [])
        text = f"{branch} {len(history)} {message} {sorted(files)}"
        made = Commit(hashlib.sha1(text.encode()).hexdigest(), message, dict(files), in_lfs)
        history.append(made)
        return made

    def at(self, revision: str) -> Commit:
        if revision in self.branches:
            return self.branches[revision][-1]
        for commit in (commit for history in self.branches.values() for commit in history):
            if commit.sha == revision:
                return commit
        raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")


@dataclass
class Fault:
    """Cuts the connection of matching requests after so many bytes of the body, which way it flows; None: at its end.

    An upload that is cut at its end has been dealt with: only the answer is lost.
    """

    method: str
    path: str  # a regular expression
    after: int | None = 0
    times: int = 1000


class Hub:
    """The state of the hub, and its server while a `with` block runs."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.stored: dict[str, bytes] = {}  # LFS objects by sha256
        self.requests: list[tuple[str, str]] = []
        self.faults: list[Fault] = []
        self.lfs_above: int | None = None  # size in bytes from which a file is uploaded by LFS
        self.leaked_tokens: list[str] = []  # sent to the storage, which is another host

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.storage_url = f"http://localhost:{self._server.server_port}/storage"
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, name: str, files: Mapping[str, bytes], **options: Any) -> Repo:
        """A repository that is there already."""
        repo = self.repos[name] = Repo(**options)
        repo.commit("main", "initial commit", {".gitattributes": b"", **files}, frozenset())
        return repo

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        return dict(self.repos[name].at(revision).files)

    def cut(self, method: str, path: str, after: int | None = 0, times: int = 1000) -> None:
        """Hang up on such requests: see Fault."""
        self.faults.append(Fault(method, path, after, times))

    def fault(self, method: str, path: str, sent: bool) -> Fault | None:
        for fault in self.faults:
            if fault.times and fault.method == method and re.search(fault.path, path):
                if sent != (method in ("GET", "HEAD")):
                    return None
                fault.times -= 1
                return fault
        return None

    # What the hub answers. `user` is None without a token.

    def repo(self, name: str, user: User | None, write: bool = False) -> Repo:
        owner = name.removeprefix("spaces/").split("/")[0]
        found = self.repos.get(name)
        if found is None or (found.private and (user is None or user.name != owner)):
            if user is None:
                raise Refused(401, "Invalid username or password.", "RepoNotFound")
            raise Refused(404, "Repository not found", "RepoNotFound")
        if write and (user is None or user.name != owner or not user.writes):
            raise Refused(401 if user is None else 403, "you must use a write token to write to this repository")
        return found

    def create(self, user: User | None, body: Mapping[str, Any]) -> dict[str, Any]:
        if user is None:
            raise Refused(401, "Invalid username or password.")
        owner = body.get("organization") or user.name
        name = f"{owner}/{body['name']}"
        if body.get("type") == "space":
            if body.get("sdk") not in ("gradio", "static", "docker"):
                raise Refused(400, '"sdk" must be one of gradio, static, docker')
            name = f"spaces/{name}"
        if owner != user.name or not user.writes:
            raise Refused(403, f'You don\'t have the rights to create a model under the namespace "{owner}"')
        if name in self.repos:
            told = {"error": "You already created this model repo", "url": f"{self.url}/{name}"}
            raise Refused(409, json.dumps(told))
        self.add(name, {}, private=body.get("visibility") == "private" or bool(body.get("private")))
        return {"url": f"{self.url}/{name}", "name": name}

    def validate(self, content: str, kind: str = "model") -> dict[str, Any]:
        """The checks that the hub makes of a card's metadata, as far as a card of ours can fail them."""
        errors = list(card_errors(content, kind))
        if errors:
            raise Refused(400, json.dumps({"errors": [{"message": error} for error in errors], "warnings": []}))
        return {"errors": [], "warnings": []}

    def preupload(self, repo: Repo, revision: str, files: list[dict[str, Any]]) -> dict[str, Any]:
        there = repo.at(revision)
        answers = []
        for file in files:
            lfs = self.lfs_above is not None and file["size"] >= self.lfs_above
            content = there.files.get(file["path"])
            oid = None if content is None else hashlib.sha256(content).hexdigest() if lfs else git_oid(content)
            mode = "lfs" if lfs else "regular"
            answers.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": answers}

    def lfs_batch(self, objects: list[dict[str, Any]]) -> dict[str, Any]:
        answers = []
        for wanted in objects:
            answer = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.stored:
                upload = {"href": f"{self.storage_url}/{wanted['oid']}"}
                verify = {"href": f"{self.url}/lfs/verify"}
                answer["actions"] = {"upload": upload, "verify": verify}
            answers.append(answer)
        return {"transfer": "basic", "objects": answers}

    def commit(self, name: str, repo: Repo, revision: str, lines: list[dict[str, Any]], as_request: bool) -> dict:
        """All operations of one commit, or none."""
        parent = repo.at(revision)
        files, in_lfs, message = dict(parent.files), set(parent.in_lfs), ""
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
                if value.get("parentCommit") not in (None, parent.sha):
                    raise Refused(412, "A commit has happened since. Please refresh and try again.")
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
                in_lfs.discard(value["path"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.stored:
                    raise Refused(400, f"the object of {value['path']} was not uploaded")
                files[value["path"]] = self.stored[value["oid"]]
                in_lfs.add(value["path"])
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        branch = revision
        if as_request:
            branch = f"refs/pr/{1 + sum(ref.startswith('refs/pr/') for ref in repo.branches)}"
            repo.branches[branch] = list(repo.branches[revision])
        made = repo.commit(branch, message, files, frozenset(in_lfs))
        answer = {"success": True, "commitOid": made.sha, "commitUrl": f"{self.url}/{name}/commit/{made.sha}"}
        return answer | ({"pullRequestUrl": f"{self.url}/{name}/discussions/1"} if as_request else {})


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def card_errors(content: str, kind: str = "model") -> Iterator[str]:
    """What is wrong with the metadata of a card."""
    found = FRONT_MATTER.match(content)
    try:
        data = yaml.safe_load(found.group(1)) if found else None
    except yaml.YAMLError as error:
        yield f"bad yaml: {error}"
        return
    if not isinstance(data, dict):
        yield "no metadata"
        return
    for key in ("library_name", "license", "pipeline_tag"):
        if not isinstance(data.get(key, ""), str):
            yield f'"{key}" must be a string'
    for key in ("title", "sdk", "sdk_version", "app_file") if kind == "space" else ():
        if not isinstance(data.get(key), str):
            yield f'"{key}" must be a string'
    if not all(isinstance(tag, str) for tag in data.get("tags", [])):
        yield '"tags" must be an array of strings'
    for model in data.get("model-index", []):
        if not isinstance(model.get("name"), str) or not model["name"]:
            yield '"model-index[0].name" must be a string'
        for result in model.get("results", []):
            for part, required in (("task", ["type"]), ("dataset", ["type", "name"])):
                for key in required:
                    if not isinstance(result.get(part, {}).get(key), str):
                        yield f'"model-index[0].results[0].{part}.{key}" is required'
            for metric in result.get("metrics", []):
                if not isinstance(metric.get("type"), str) or "value" not in metric:
                    yield '"model-index[0].results[0].metrics[0]" needs a type and a value'


class _Handler(BaseHTTPRequestHandler):
    """One connection. Paths are those of the hub's HTTP API."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *unused: object) -> None:
        pass

    def do_GET(self) -> None:
        self._handle()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 (the names of http.server)

    def _handle(self) -> None:
        url = urlsplit(self.path)
        self.place, self.query = unquote(url.path), parse_qs(url.query)
        self.hub.requests.append((self.command, self.place))
        fault = self.hub.fault(self.command, self.place, sent=False)
        try:
            body = self._read(fault)
            status, headers, content = self._answer(body)
        except Refused as refused:
            is_json = refused.message.startswith("{")
            content = (refused.message if is_json else json.dumps({"error": refused.message})).encode()
            headers = {"X-Error-Code": refused.code, "X-Error-Message": "" if is_json else refused.message}
            status, headers = refused.status, {name: value for name, value in headers.items() if value}
        except _Cut:
            return self._hang_up()
        if fault is not None:  # dealt with, and the answer lost
            return self._hang_up()
        self._send(status, headers, content, self.hub.fault(self.command, self.place, sent=True))

    def _read(self, fault: Fault | None) -> bytes:
        """The body of the request; as much of it as a fault lets through, and then no answer."""
        length = int(self.headers.get("Content-Length", 0))
        if fault is not None and fault.after is not None:
            self.rfile.read(min(length, fault.after))
            raise _Cut
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(length)
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _send(self, status: int, headers: Mapping[str, str], content: bytes, fault: Fault | None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content if fault is None else content[: fault.after])
        if fault is not None:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def _user(self) -> User | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in TOKENS:
            raise Refused(401, "Invalid credentials in Authorization header")
        return TOKENS.get(token)

    def _answer(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if found := re.fullmatch(r"/storage/(\w+)", self.place):
            return self._storage(found.group(1), body)
        user = self._user()
        if found := re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/(.+?)/([\w./-]+)", self.place):
            return self._resolve(user, *found.groups())
        answer = self._api(user, body)
        return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()

    def _api(self, user: User | None, body: bytes) -> Any:
        hub, method = self.hub, self.command
        if (method, self.place) == ("POST", "/api/repos/create"):
            return hub.create(user, json.loads(body))
        if (method, self.place) == ("POST", "/api/validate-yaml"):
            asked = json.loads(body)
            return hub.validate(asked["content"], asked.get("repoType", "model"))
        if (method, self.place) == ("POST", "/lfs/verify"):
            return {}
        if found := re.fullmatch(r"/((?:spaces/)?[\w.-]+/[\w.-]+)\.git/info/lfs/objects/batch", self.place):
            hub.repo(found.group(1), user, write=True)
            return hub.lfs_batch(json.loads(body)["objects"])
        found = re.fullmatch(r"/api/(models|spaces)/([\w.-]+/[\w.-]+)(?:/(\w+))?(?:/(.+))?", self.place)
        if not found:
            raise Refused(404, f"{method} {self.place} is not of this hub")
        name, verb, revision = found.group(2), found.group(3) or "revision", found.group(4) or "main"
        name = f"spaces/{name}" if found.group(1) == "spaces" else name
        as_request = "create_pr" in self.query
        repo = hub.repo(name, user, write=method == "POST" and not as_request)
        if user is None and method == "POST":
            raise Refused(401, "Invalid username or password.")
        match method, verb:
            case "POST", "preupload":
                return hub.preupload(repo, revision, json.loads(body)["files"])
            case "POST", "commit":
                lines = [json.loads(line) for line in body.splitlines()]
                return hub.commit(name, repo, revision, lines, as_request)
            case "POST", "branch":
                if revision in repo.branches:
                    raise Refused(409, "Reference already exists")
                repo.branches[revision] = list(repo.branches["main"])
                return {}
            case "GET", "refs":
                branches = [{"name": ref, "ref": f"refs/heads/{ref}", "targetCommit": repo.at(ref).sha}
                            for ref in repo.branches]  # fmt: skip
                return {"branches": branches, "converts": [], "tags": []}
            case "GET", "revision":
                commit = repo.at(revision)
                siblings = [{"rfilename": path} for path in commit.files]
                return {"id": name, "modelId": name, "sha": commit.sha, "private": repo.private, "gated": repo.gated,
                        "siblings": siblings, "tags": []}  # fmt: skip
            case "GET", "tree":
                commit = repo.at(revision.split("/")[0] if revision not in repo.branches else revision)
                return [tree_entry(path, content, path in commit.in_lfs) for path, content in commit.files.items()]
        raise Refused(404, f"{method} {self.place} is not of this hub")

    def _resolve(self, user: User | None, name: str, revision: str, path: str) -> tuple[int, dict[str, str], bytes]:
        repo = self.hub.repo(name, user)
        if repo.gated and (user is None or user.name != name.split("/")[0]):
            message = f"Access to model {name} is restricted. You must have access to it and be authenticated."
            raise Refused(401 if user is None else 403, message, "GatedRepo")
        commit = repo.at(revision)
        if path not in commit.files:
            raise Refused(404, "Entry not found", "EntryNotFound")
        content = commit.files[path]
        headers = {"X-Repo-Commit": commit.sha, "ETag": f'"{git_oid(content)}"'}
        if path not in commit.in_lfs:
            return self._part(content, headers)
        oid = hashlib.sha256(content).hexdigest()
        headers |= {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(content))}
        return 302, headers | {"Location": f"{self.hub.storage_url}/{oid}"}, b""

    def _storage(self, oid: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Another host, which must not see tokens."""
        self.hub.leaked_tokens += self.headers.get_all("Authorization", [])
        if self.command == "PUT":
            if hashlib.sha256(body).hexdigest() != oid:
                raise Refused(400, "the object is not what its name says")
            self.hub.stored[oid] = body
            return 200, {}, b""
        return self._part(self.hub.stored[oid], {"ETag": f'"{oid}"'})

    def _part(self, content: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        """All of a file, or the rest of it that a resumed download asks for."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(found.group(1)) if found else 0
        if found:
            headers = headers | {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        return 206 if found else 200, headers, content[start:]


class _Cut(Exception):
    pass


def tree_entry(path: str, content: bytes, in_lfs: bool) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}
    lfs = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return entry | ({"lfs": lfs} if in_lfs else {})
