"""Runs on the hub: pushed to, and taken back from, a server on loopback that speaks the hub's own protocol."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, jsonify, request
from werkzeug.serving import make_server


@dataclass
class Repo:
    """files: of each commit, newest last."""

    private: bool
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)

    @property
    def head(self) -> dict[str, bytes]:
        return self.commits[-1][1]

    def add(self, files: dict[str, bytes]) -> str:
        name = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits.append((name, files))
        return name


@dataclass
class FakeHub:
    """The part of the hub's HTTP API that is asked for. requests: method and path of each; refuse: status of writes."""

    repos: dict[str, Repo] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    refuse: int = 0
    endpoint: str = ""

    def put(self, name: str, files: dict[str, bytes]) -> str:
        """A repository that somebody else made."""
        self.repos[name] = Repo(private=False)
        return self.repos[name].add(files)

    def app(self) -> Flask:
        app = Flask("hub")
        app.before_request(lambda: self.requests.append(f"{request.method} {request.path}"))
        app.post("/api/repos/create")(self._create)
        app.post("/api/validate-yaml")(lambda: jsonify({"errors": [], "warnings": []}))
        app.post("/api/models/<user>/<repo>/preupload/<revision>")(self._preupload)
        app.post("/api/models/<user>/<repo>/commit/<revision>")(self._commit)
        app.get("/api/models/<user>/<repo>")(self._info)
        app.get("/api/models/<user>/<repo>/revision/<revision>")(self._info)
        app.get("/api/models/<user>/<repo>/tree/<revision>")(self._tree)
        app.get("/<user>/<repo>/resolve/<revision>/<path:path>")(self._file)
        return app

    def _refused(self) -> Response | None:
        if self.refuse or request.headers.get("Authorization") != "Bearer hf_right":
            return Response("{}", status=self.refuse or 401)
        return None

    def _create(self) -> Any:
        if refused := self._refused():
            return refused
        asked = request.get_json()
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        private = asked.get("private") or asked.get("visibility") == "private"
        self.repos.setdefault(name, Repo(bool(private))).add({".gitattributes": b""})
        return jsonify({"url": f"{self.endpoint}/{name}", "name": name, "id": name})

    def _preupload(self, **_: str) -> Any:
        files = request.get_json()["files"]
        return jsonify({"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]})

    def _commit(self, user: str, repo: str, revision: str) -> Any:
        if refused := self._refused():
            return refused
        files = dict(self.repos[f"{user}/{repo}"].head)
        for line in request.get_data().splitlines():
            said = json.loads(line)
            if said["key"] == "file":
                files[said["value"]["path"]] = base64.b64decode(said["value"]["content"])
            elif said["key"] == "deletedFile":
                del files[said["value"]["path"]]
        oid = self.repos[f"{user}/{repo}"].add(files)
        url = f"{self.endpoint}/{user}/{repo}/commit/{oid}"
        return jsonify({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})

    def _find(self, user: str, repo: str, revision: str) -> tuple[Repo, str, dict[str, bytes]] | Response:
        found = self.repos.get(f"{user}/{repo}")
        if found is None or (found.private and request.headers.get("Authorization") != "Bearer hf_right"):
            return Response("{}", status=404, headers={"X-Error-Code": "RepoNotFound"})
        for oid, files in [found.commits[-1]] if revision == "main" else found.commits:
            if revision in ("main", oid):
                return found, oid, files
        return Response("{}", status=404, headers={"X-Error-Code": "RevisionNotFound"})

    def _info(self, user: str, repo: str, revision: str = "main") -> Any:
        found = self._find(user, repo, revision)
        if isinstance(found, Response):
            return found
        siblings = [{"rfilename": name} for name in sorted(found[2])]
        return jsonify({"id": f"{user}/{repo}", "sha": found[1], "private": found[0].private, "siblings": siblings})

    def _tree(self, user: str, repo: str, revision: str) -> Any:
        found = self._find(user, repo, revision)
        if isinstance(found, Response):
            return found
        return jsonify(
            [{"type": "file", "path": k, "size": len(v), "oid": "0" * 40} for k, v in sorted(found[2].items())]
        )

    def _file(self, user: str, repo: str, revision: str, path: str) -> Any:
        found = self._find(user, repo, revision)
        if isinstance(found, Response):
            return found
        if path not in found[2]:
            return Response("", status=404, headers={"X-Error-Code": "EntryNotFound"})
        tag = f'"{hashlib.sha1(found[2][path]).hexdigest()}"'
        return Response(found[2][path], headers={"ETag": tag, "X-Repo-Commit": found[1]})


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeHub]:
    """A hub that everybody shares; repositories of a test have names of their own."""
    found = FakeHub()
    server = make_server("127.0.0.1", 0, found.app(), threaded=True)
    found.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


COMMANDS = """
import contextlib, io, json, os, sys
from mastaf.cache import console
from mastaf.fewshot.cli import cli
for line in sys.stdin:
    folder, commands = json.loads(line)
    os.chdir(folder)
    for token, words in commands:
        os.environ["HF_TOKEN"] = token
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                console.run(cli, words)
            except SystemExit as left:
                status = left.code or 0
        print(json.dumps([status, out.getvalue(), err.getvalue()]), flush=True)
"""
Call = Callable[..., list[tuple[int, str, str]]]


@contextmanager
def commander(endpoint: str, cache: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that runs commands of the hub at an address, which its client reads when it is imported."""
    away = ("HF_TOKEN", "HF_HUB_OFFLINE", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY")
    environment = {name: value for name, value in os.environ.items() if name not in away}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "OMP_NUM_THREADS": "1"}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", COMMANDS], env=environment, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What was fetched from the hub."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def at_the_hub(hub: FakeHub, cache: Path) -> Iterator[subprocess.Popen[str]]:
    """One process for all tests: its imports take seconds."""
    with commander(hub.endpoint, cache) as process:
        yield process


@pytest.fixture
def call(at_the_hub: subprocess.Popen[str], cache: Path, tmp_path: Path) -> Call:
    """call(words, ...) -> (status, stdout, stderr) of commands run one after another in tmp_path. tokens: of each
    command; endpoint: of another hub."""

    def ask(process: subprocess.Popen[str], asked: list[tuple[str, list[str]]]) -> list[tuple[int, str, str]]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([str(tmp_path), asked]) + "\n")
        process.stdin.flush()
        return [tuple(json.loads(process.stdout.readline())) for _ in asked]

    def run(*commands: list[Any], tokens: list[str] | None = None, endpoint: str = "") -> list[tuple[int, str, str]]:
        given = tokens or ["hf_right"] * len(commands)
        asked = [(token, [str(w) for w in words]) for token, words in zip(given, commands, strict=True)]
        if not endpoint:
            return ask(at_the_hub, asked)
        with commander(endpoint, cache) as process:
            return ask(process, asked)

    return run


@pytest.fixture(scope="module")
def run(toy_store: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run with a result; never change it."""
    import torch
    from mastaf.fewshot.evaluate import evaluate
    from mastaf.fewshot.train import train

    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("trained") / "my run"
    train(toy_store, out=out, way=3, train_episodes=8, val_episodes=10, progress=False)
    evaluate(toy_store, out, episodes=40, progress=False)
    return out


def _score(path: Path) -> dict[str, Any]:
    (found,) = path.glob("results/*.json")
    return json.loads(found.read_text())


def test_a_run_comes_back_as_it_was(hub: FakeHub, call: Call, run: Path, toy_store: Any, tmp_path: Path) -> None:
    score = ["evaluate", "--features", toy_store.path, "--episodes", 40, "--checkpoint"]
    pushed, scored = call(
        ["push", run, "--to", "me/one", "--private", "--license", "apache-2.0"], [*score, "hf:me/one"]
    )
    assert pushed[0] == scored[0] == 0, (pushed, scored)
    repo, files = hub.repos["me/one"], hub.repos["me/one"].head
    assert repo.private
    oid = repo.commits[-1][0]
    assert f"hf:me/one, or this very state with @{oid}" in pushed[1]
    result = next(run.glob("results/*.json"))
    assert set(files) == {
        ".gitattributes",
        *("README.md", "config.json", "summary.json", "best.safetensors"),
        *(f"results/{result.name}", f"results/{result.stem}.npz"),
    }
    assert files["best.safetensors"] == (run / "best.safetensors").read_bytes()
    assert not [name for name, data in files.items() if str(run.parent).encode() in data]
    assert not [name for name, data in files.items() if str(toy_store.path.parent).encode() in data]
    mine, back = _score(run), _score(tmp_path / "runs" / f"me_one_{oid[:8]}")
    assert back["predictions"]["sha256"] == mine["predictions"]["sha256"]
    assert {k for k in mine if mine[k] != back[k]} <= {"seconds"}

    # Without a network what was fetched is there, and what was not is one line.
    nowhere = "http://127.0.0.1:9"
    again, never = call([*score, "hf:me/one"], [*score, "hf:me/two"], endpoint=nowhere)
    assert again[0] == 0
    assert never[0] == 2
    assert "could not be fetched from the hub" in never[2]
    assert never[2].count("\n") == 1


def test_the_card_says_what_the_run_is_and_scored(run: Path) -> None:
    import yaml
    from mastaf.fewshot.sharing.push import pack_run

    text = pack_run(run, "me/x", licence="mit").files["README.md"].decode()
    _, metadata, body = text.split("---\n", 2)
    facts, record = yaml.safe_load(metadata), _score(run)
    assert (facts["library_name"], facts["license"], facts["pipeline_tag"]) == ("mastaf", "mit", "video-classification")
    (result,) = facts["model-index"][0]["results"]
    assert result["dataset"]["type"] == record["dataset"]
    assert result["metrics"][0]["value"] == record["accuracy"]
    assert f"{100 * record['accuracy']:.1f} +- {100 * record['ci95']:.1f}" in body
    assert record["recipe"] in body
    assert "--checkpoint hf:me/x" in body
    assert "plug-in" not in body


def test_what_is_not_of_these_weights_stays_here(run: Path, tmp_path: Path, toy_store: Any) -> None:
    from mastaf.fewshot.evaluate import evaluate
    from mastaf.fewshot.sharing.push import pack_run

    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    evaluate(toy_store, copy / "last.safetensors", episodes=20, progress=False)
    (edited,) = copy.glob("results/*_40_*.json")
    edited.write_text(json.dumps(json.loads(edited.read_text()) | {"accuracy": 0.123}))
    parcel = pack_run(copy, "me/x")
    assert parcel.results == 0
    assert sorted("do not follow" in reason for reason in parcel.left_out) == [False, True]
    assert not [name for name in parcel.files if name.startswith("results/")]
    assert "None were pushed" in parcel.files["README.md"].decode()


def test_a_second_push_replaces_the_first(hub: FakeHub, call: Call, run: Path, tmp_path: Path) -> None:
    old = {"config.json": b"{}", "last.safetensors": b"old", "results/old.json": b"{}", ".gitattributes": b""}
    hub.put("me/again", old)
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    shutil.rmtree(copy / "results")
    refused, (status, said, _) = call(
        ["push", copy, "--to", "me/again", "--private"], ["push", copy, "--to", "me/again"]
    )
    assert refused[0] == 2
    assert "'me/again' is there and public" in refused[2]
    assert status == 0
    assert "with 0 results" in said
    assert set(hub.repos["me/again"].head) == {
        *(".gitattributes", "README.md", "config.json", "summary.json", "best.safetensors")
    }


def test_what_cannot_be_is_one_line(hub: FakeHub, call: Call, run: Path, toy_store: Any, tmp_path: Path) -> None:
    own = {name: (run / name).read_bytes() for name in ("config.json", "summary.json", "best.safetensors")}
    config = json.loads(own["config.json"])
    plugin = json.dumps(config | {"method": "diagonal", "plugin": {"distribution": "mastaf-diagonal 1.0"}}).encode()
    odd = json.dumps(config | {"method": "next_years"}).encode()
    unfinished = Path(shutil.copytree(run, tmp_path / "unfinished"))
    (unfinished / "summary.json").unlink()
    oid = hub.put("you/run", own)
    hub.put("you/pickle", {"config.json": own["config.json"], "summary.json": own["summary.json"], "best.pt": b"\x80"})
    hub.put("you/other", {"config.json": b'{"model_type": "vit"}', "model.safetensors": b""})
    hub.put("you/cut", own | {"best.safetensors": own["best.safetensors"][:50]})
    hub.put("you/plugin", own | {"config.json": plugin})
    hub.put("you/odd", own | {"config.json": odd})
    score = ["evaluate", "--features", toy_store.path, "--episodes", 40, "--checkpoint"]
    cases = {
        "hf:you/absent": "is not on the hub, or private",
        "hf:you/run@v9": "has no such branch, tag or commit; mend what stands after @",
        "hf:you": "must be USER/REPO",
        "hf:you/run@../x": "must be a branch, tag or commit",
        "hf:you/pickle": "holds no run of mastaf (it has no weights as safetensors)",
        "hf:you/other": "holds no run of mastaf (it has no summary.json)",
        "hf:you/cut": "is not a safetensors file of mastaf, or is damaged",
        "hf:you/plugin": "of the plug-in mastaf-diagonal 1.0, which is not installed",
        "hf:you/odd": "this version of mastaf has not",
        f"hf:you/run@{oid}": "",
    }
    pushes = {
        ("you/other", "hf_right", run): "holds other files (model.safetensors)",
        ("me", "hf_right", run): "must be USER/REPO",
        ("me/x", "hf_right", unfinished): "is not finished",
        ("me/x", "hf_right", tmp_path): "must be the folder that mastaf-fewshot train wrote: it has no config.json",
        ("me/x", "", run): "no token of the Hugging Face hub; run `hf auth login`",
        ("me/x", "hf_wrong", run): "could not be pushed to",
    }
    commands = [[*score, name] for name in cases] + [["push", folder, "--to", to] for to, _, folder in pushes]
    tokens = ["hf_right"] * len(cases) + [token for _, token, _ in pushes]
    expected = [*cases.values(), *pushes.values()]
    for words, (status, _, complaint) in zip(expected, call(*commands, tokens=tokens), strict=True):
        assert status == (2 if words else 0), complaint
        assert words in complaint
        assert complaint.count("\n") == bool(words)
    assert not [line for line in hub.requests if line.endswith(".pt")]
    assert "me/x" not in hub.repos


def test_every_option_that_takes_a_run_takes_one_of_the_hub() -> None:
    from mastaf.fewshot.cli import cli as fewshot
    from mastaf.fewshot.sharing.cli import RUN
    from mastaf.pipelines.cli import cli as pipelines

    commands = {**fewshot.commands, **pipelines.commands}
    options = {
        (name, option): parameter.type
        for name, command in commands.items()
        for parameter in command.params
        for option in parameter.opts
        if option in ("--checkpoint", "--head")
    }
    assert {name for name, _ in options} >= {"evaluate", "finetune", "enrol", "explain", "serve"}
    assert set(options.values()) == {RUN}
