"""Where a model of the hub is found: a server on loopback that speaks the hub's own protocol, its cache, folders."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import transformers as hub
from mastaf.extract.backbones.hub.files import find_model
from mastaf.extract.backbones.registry import load_backbone
from mastaf.extract.errors import ExtractError

COMMIT = "0123456789" * 4
VIT = hub.ViTConfig(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, image_size=32, patch_size=8
)


class Hub(BaseHTTPRequestHandler):
    """One repository, `owner/model`, with one commit behind the names `main` and `v1`."""

    def log_message(self, *_args):
        pass

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def _answer(self, *, with_body):
        status, headers, body = self._found()
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _found(self):
        if self.path == "/away":
            threading.Thread(target=self.server.end).start()
            return 200, {}, b""
        folder, path = self.server.folder, self.path.split("?")[0]
        files = [
            {"rfilename": p.name, "path": p.name, "type": "file", "size": p.stat().st_size, "oid": "0" * 40}
            for p in sorted(folder.iterdir())
        ]
        if path in (f"/api/models/owner/model/revision/{name}" for name in ("main", "v1", COMMIT)):
            return (
                200,
                {"Content-Type": "application/json"},
                json.dumps({"id": "owner/model", "sha": COMMIT, "siblings": files}).encode(),
            )
        if path == f"/api/models/owner/model/tree/{COMMIT}":
            return 200, {"Content-Type": "application/json"}, json.dumps(files).encode()
        if path.startswith(f"/owner/model/resolve/{COMMIT}/") and (folder / path.split("/")[-1]).is_file():
            body = (folder / path.split("/")[-1]).read_bytes()
            return 200, {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(body).hexdigest()}"'}, body
        gated = path.startswith("/api/models/owner/gated")
        code = "GatedRepo" if gated else ("RevisionNotFound" if "owner/model" in path else "RepoNotFound")
        return (403 if gated else 404), {"X-Error-Code": code}, b""


CASES = """
import json, os, sys, urllib.request
from mastaf.extract.backbones.registry import load_backbone
for name, keywords in json.loads(sys.argv[1]):
    if name == "away":
        try:
            while True:
                urllib.request.urlopen(os.environ["HF_ENDPOINT"] + "/away", timeout=1).close()
        except OSError:
            continue
    try:
        b = load_backbone(name, **keywords)
        print(json.dumps([b.cube_shape, b.revision, b.weights_source, b.weights_sha256]))
    except Exception as error:
        print(json.dumps([type(error).__name__, str(error)]))
"""


def ask(endpoint, cache, cases):
    """What `load_backbone` gives or says for each case, in a process whose hub is `endpoint`."""
    away = ("HF_HUB_OFFLINE", "MASTAF_WEIGHTS", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY")
    environment = {name: value for name, value in os.environ.items() if name not in away}
    environment |= {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", CASES, json.dumps(cases)], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_model_of_the_hub_is_fetched_once_and_pinned(tmp_path, save_encoder):
    folder = save_encoder(tmp_path / "model", VIT)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.folder = folder

    def end():
        server.shutdown()
        server.server_close()

    server.end = end
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    # Behind "away" the network is gone: what was fetched is there, what was not is one line that says what to do.
    cases = [
        ("hf:owner/model", {"revision": "v1"}),
        ("hf:owner/model", {"weights": "random"}),
        ("hf:owner/model", {"revision": "v9"}),
        ("hf:owner/absent", {}),
        ("hf:owner/gated", {}),
        ("away", {}),
        ("hf:owner/model", {}),
        ("hf:owner/model", {"revision": COMMIT}),
        ("hf:owner/other", {}),
    ]
    try:
        found = ask(endpoint, tmp_path / "cache", cases)
    finally:
        end()
        thread.join()
    pinned, random, no_revision, absent, gated, again, by_commit, away = found
    own = load_backbone("hf:owner/model", weights=str(folder))
    assert pinned == [[32, 8, 4, 4], COMMIT, f"hub: owner/model at {COMMIT[:12]}", own.weights_sha256]
    assert own.revision == ""
    assert random[1:3] == [COMMIT, "random (seed 0)"]
    assert no_revision[0] == absent[0] == gated[0] == "ExtractError"
    assert "'owner/model' at revision 'v9' is not on the hub: it has no such branch" in no_revision[1]
    assert "'owner/absent' is not on the hub, or private" in absent[1]
    assert "is gated: accept its licence" in gated[1]
    assert again == by_commit == pinned
    assert away[0] == "ExtractError"
    assert "could not be fetched from the hub (" in away[1]
    assert "hf download owner/other --local-dir DIR" in away[1]
    assert "\n" not in away[1]


def test_a_folder_of_its_name_among_ones_own_weights_needs_no_network(tmp_path, save_encoder, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("MASTAF_WEIGHTS", f"{tmp_path / 'none'}{os.pathsep}{tmp_path / 'mine'}")
    for name in ("model", "owner/model"):
        folder = save_encoder(tmp_path / "mine" / name, VIT)
        assert find_model("owner/model", weights=None, revision=None).path == folder
        assert load_backbone("hf:owner/model").weights_source == str(folder)


@pytest.mark.parametrize(
    ("model", "keywords", "words"),
    [
        ("", {}, "must name a model"),
        ("../../etc/passwd", {}, "must be a name on the Hugging Face hub"),
        ("owner/m", {"weights": "."}, "must be a folder with config.json"),
        ("owner/m", {"weights": "no/such/file.pth"}, "no/such/file.pth"),
        ("owner/m", {"weights": "FOLDER", "revision": "v1"}, "revision (v1) names a commit on the hub, but"),
    ],
)
def test_what_cannot_be_found_is_one_line(tmp_path, save_encoder, monkeypatch, model, keywords, words):
    monkeypatch.chdir(tmp_path)
    if keywords.get("weights") == "FOLDER":
        keywords = keywords | {"weights": str(save_encoder(tmp_path / "m", VIT))}
    with pytest.raises(ExtractError) as caught:
        load_backbone(f"hf:{model}", **keywords)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_revision_of_weights_that_are_not_on_the_hub_is_refused():
    with pytest.raises(ExtractError, match=r"revision \(v1\) is for weights of the hub, which 'r3d-tiny' has not"):
        load_backbone("r3d-tiny", revision="v1")


@pytest.mark.parametrize("name", ["tsn", "vivit"])
@pytest.mark.parametrize("weights", ["random", "w.pth"])
def test_a_revision_is_never_ignored(tmp_path, name, weights):
    (tmp_path / "w.pth").write_bytes(b"never read")
    weights = weights if weights == "random" else str(tmp_path / weights)
    with pytest.raises(ExtractError, match=r"revision \(v1\) names a commit on the hub, and weights"):
        load_backbone(name, weights=weights, revision="v1")


def test_a_home_folder_in_the_path_list_holds_models_too(tmp_path, save_encoder, monkeypatch):
    save_encoder(tmp_path / "weights" / "model", VIT)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MASTAF_WEIGHTS", "~/weights")
    assert find_model("owner/model", weights=None, revision=None).path == tmp_path / "weights" / "model"


def test_a_weights_file_takes_its_configuration_from_beside_it(tmp_path, save_encoder):
    folder = save_encoder(tmp_path / "m", VIT)
    by_file = load_backbone("hf:owner/m", weights=str(folder / "model.safetensors"))
    assert by_file.weights_sha256 == load_backbone("hf:owner/m", weights=str(folder)).weights_sha256


def test_a_file_that_is_named_is_the_one_that_is_read(tmp_path, save_encoder):
    """Not the folder's own weights, whatever its name begins with."""
    import torch
    from safetensors.torch import load_file

    folder = save_encoder(tmp_path / "m", VIT)
    state = load_backbone("hf:owner/m", weights=str(folder)).module.model.state_dict()
    torch.save({name: tensor + 1 for name, tensor in state.items()}, folder / "model_best.pth")
    best = load_backbone("hf:owner/m", weights=str(folder / "model_best.pth"))
    assert best.weights_source.endswith("model_best.pth")
    assert torch.equal(best.module.model.layernorm.weight, state["layernorm.weight"] + 1)
    torch.save({name: tensor + 1 for name, tensor in state.items()}, folder / "pytorch_model.bin")
    assert load_backbone("hf:owner/m", weights=str(folder / "pytorch_model.bin")).weights_sha256 == best.weights_sha256
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    load_backbone("hf:owner/m", weights=str(folder / "pytorch_model.bin"))  # in the hub's names, as the folder's own


def test_fine_tuned_weights_of_a_hub_model_load_again(tmp_path, save_encoder):
    """As `mastaf finetune` writes them: the staged network's state dict, with provenance."""
    import torch
    from mastaf.extract.backbones.weights import write_weights

    folder = save_encoder(tmp_path / "m", VIT)
    base = load_backbone("hf:owner/m", weights=str(folder))
    with torch.no_grad():
        for parameter in base.module.parameters():
            parameter.add_(0.01)
    facts = {"pretraining": ["mine"], "licence": "MIT"}
    file = folder / "backbone.safetensors"
    write_weights(file, base.module.state_dict(), provenance={"backbone": base.name, "facts": facts})
    tuned = load_backbone("hf:owner/m", weights=str(file))
    assert tuned.weights_sha256 != base.weights_sha256
    assert tuned.facts == facts
    clips = torch.randint(0, 256, (1, base.frames, base.size, base.size, 3), dtype=torch.uint8)
    with torch.no_grad():
        assert (
            torch.equal(tuned.forward(clips), load_backbone("hf:owner/m", weights=str(folder)).forward(clips)) is False
        )
        assert torch.allclose(tuned.forward(clips), base.forward(clips), atol=1e-5)


def test_a_connection_that_breaks_off_is_one_line(monkeypatch):
    def broken(*_given, **_named):
        raise httpx2.RemoteProtocolError("peer closed connection without sending complete message body")

    httpx2 = pytest.importorskip("httpx2")
    monkeypatch.setattr("huggingface_hub.snapshot_download", broken)
    with pytest.raises(ExtractError, match=r"could not be fetched from the hub \(peer closed connection"):
        load_backbone("hf:owner/model")
