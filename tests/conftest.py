"""Small stores of made-up cubes, small models in the hub's format, object storage, a browser, one thread: for tests."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# A job in the background of a shell ignores interrupts, and so would the processes that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Waiting for a disk thousands of times was a tenth of the time, and nothing here cuts the power. Tests of what is
# flushed, and of a disk that refuses, put something of their own here.
os.fsync = lambda fd: None

SPEC: dict[str, Any] = {
    "backbone": "r3d-tiny",
    "revision": "",
    "weights": "ab" * 32,
    "layer": "layer4",
    "time": "keep",
    "frames": 16,
    "sampling": "even",
    "resize": "squash",
    "resize_size": 128,
    "size": 112,
    "scaler": "bilinear",
    "scale": 1 / 255,
    "offset": 0.0,
    "mean": (0.4, 0.5, 0.6),
    "std": (0.2, 0.2, 0.2),
    "precision": "fp32",
    "dtype": "float16",
}
SPLIT_CLASSES = {
    "train": ("bow", "clap", "dig", "eat", "fold", "grin"),
    "val": ("hop", "jump", "kick"),
    "test": ("lift", "mop", "nod", "open"),
}


def write_store(
    path: Path,
    *,
    split_classes: Mapping[str, Sequence[str]] = SPLIT_CLASSES,
    videos: int | Mapping[str, int] = 8,
    cube_shape: tuple[int, int, int, int] = (6, 1, 2, 2),
    separation: float = 10.0,
    views: Sequence[str] = ("plain",),
    failed: Sequence[str] = (),
    missing_shards: Sequence[int] = (),
    compress: str = "",
    shard_rows: int = 7,
    seed: int = 0,
    dataset: str = "toy",
    flip_keeps_class: bool = True,
    group_of: Callable[[str], str] = lambda key: "",
    **spec: Any,
) -> Any:
    """A store in which class n's cubes are noise plus `separation` times the class's own direction.

    videos: of each class, or by class name (8 where not named); separation 0 makes labels meaningless; view v of a
    video is its view 0 plus v, so that tests can tell them apart. `failed` names keys; group_of: source of a key.
    """
    from mastaf.cache.index import DONE, FAILED, VideoIndex
    from mastaf.cache.packing import pack
    from mastaf.cache.spec import FeatureSpec
    from mastaf.cache.store import StoreHeader, create_store

    rng = np.random.Generator(np.random.Philox(key=seed))
    counts = (
        videos if isinstance(videos, Mapping) else dict.fromkeys(sum(map(tuple, split_classes.values()), ()), videos)
    )
    rows = [
        (f"{name}/{i:03d}", name, split)
        for split, names in split_classes.items()
        for name in names
        for i in range(counts.get(name, 8))
    ]
    keys, classes, splits = (tuple(column) for column in zip(*rows, strict=True))
    index = VideoIndex(tuple(f"{key}.mp4" for key in keys), keys, classes, splits, tuple(map(group_of, keys)))
    header = StoreHeader(
        spec=FeatureSpec(**SPEC | {"views": tuple(views), "cube_shape": cube_shape} | spec),
        dataset=dataset,
        split_scheme=dataset,
        flip_keeps_class=flip_keeps_class,
        shard_rows=shard_rows,
        compress=compress,
        batch=1,
        threads=1,
    )
    store = create_store(path, header=header, index=index)
    directions = {name: rng.standard_normal(cube_shape[0]) for name in sorted(set(classes))}  # [c] each
    for shard in range(store.n_shards):
        numbers = store.shard_range(shard)
        if shard in missing_shards:
            continue
        noise = rng.standard_normal((len(numbers), *cube_shape))
        means = np.stack([directions[classes[row]] for row in numbers])[:, :, None, None, None]  # [r, c, 1, 1, 1]
        plain = noise + separation * means  # [r, c, t, h, w]
        cubes = np.stack([plain + v for v in range(len(views))], axis=1).astype(np.float16)
        states = [FAILED if keys[row] in failed else DONE for row in numbers]
        reasons = {row: "made to fail" for row, state in zip(numbers, states, strict=True) if state == FAILED}
        packed = pack(cubes.astype(np.float32), store.spec.dtype)[0]
        about = {"states": states, "reasons": reasons, "notes": {}, "device": "cpu"}
        store.write_shard(shard, packed.numbers, scales=packed.scales, **about)
    return store


@pytest.fixture(scope="session")
def spec_fields() -> dict[str, Any]:
    """A recipe, without views and cube shape."""
    return dict(SPEC)


@pytest.fixture(scope="session")
def make_store() -> Callable[..., Any]:
    """`make_store(path, ...)`: see `write_store`."""
    return write_store


@pytest.fixture(scope="session")
def toy_store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A separable store that no test changes: six train, three val, four test classes of eight videos."""
    return write_store(tmp_path_factory.mktemp("toy") / "toy.zarr")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small tensors are faster on one thread, and other tests may be running."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


PROCESSOR: dict[str, Any] = {
    "do_resize": True,
    "size": {"height": 32, "width": 32},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.25, 0.2, 0.3],
}


def _save_encoder(folder: Path, config: Any, *, file: str = "preprocessor_config.json", **processor: Any) -> Path:
    """A small model of the transformers library with random weights, as the hub holds models: config.json,
    model.safetensors and the processor's file with these settings."""
    import torch
    import transformers
    from transformers.utils import logging

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.MODEL_MAPPING[type(config)](config)
        for parameter in model.parameters():  # tables of positions begin at zero, and biases too
            if parameter.requires_grad:
                parameter.data += 0.02 * torch.randn(parameter.shape)
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    logging.enable_progress_bar()
    (folder / file).write_text(json.dumps(PROCESSOR | processor))
    return folder


@pytest.fixture(scope="session")
def save_encoder() -> Callable[..., Path]:
    return _save_encoder


@pytest.fixture(scope="module")
def small_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What each entry of the table of backbones may be tried as, without a network: $MASTAF_WEIGHTS holds a model for
    `hf:tiny-encoder`, and `vivit` is three narrow blocks, as the whole one takes seconds each time."""
    import transformers
    from mastaf.extract.backbones import BACKBONES, vivit

    folder = tmp_path_factory.mktemp("weights")
    column = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
    _save_encoder(folder / "tiny-encoder", transformers.ViTConfig(**column, image_size=32, patch_size=8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MASTAF_WEIGHTS", str(folder))
        patch.setattr(vivit, "published_config", lambda: transformers.VivitConfig(**column))
        yield {name: name.replace("hf:MODEL_ID", "hf:tiny-encoder") for name in BACKBONES}


class Bucket:
    """Object storage on this machine. Every request is a line of `log`."""

    def __init__(self, endpoint: str, log: Path) -> None:
        self.endpoint, self.log = endpoint, log

    def new_place(self) -> Any:
        """An address that nobody else uses."""
        from mastaf.cache.place import ObjectUrl

        return ObjectUrl("bucket", f"a b/ü{uuid.uuid4().hex[:8]}")

    def requests(self, method: str, key: str) -> list[str]:
        """The requests so far whose key ends so."""
        lines = self.log.read_text().splitlines()
        return [line for line in lines if f"{method} /" in line and f"{key} HTTP" in line]

    def objects(self, place: Any) -> dict[str, bytes]:
        """What is below an address, by the rest of its key, as another client sees it."""
        store = self._client(place.key)
        names = [meta["path"] for chunk in store.list() for meta in chunk]
        return {name: bytes(store.get(name).bytes()) for name in names}

    def get(self, url: Any) -> bytes:
        """An object, as another client sees it."""
        return bytes(self._client("").get(url.key).bytes())

    def put(self, url: Any, data: bytes) -> None:
        """Write an object, as another client."""
        self._client("").put(url.key, data)

    def _client(self, prefix: str) -> Any:
        from obstore.store import S3Store

        return S3Store("bucket", prefix=prefix, endpoint=self.endpoint, client_options={"allow_http": True})


@pytest.fixture(scope="session")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    """A bucket of an S3 server of its own; the AWS_* variables lead there."""
    pytest.importorskip("obstore")
    pytest.importorskip("moto")
    pytest.importorskip("flask_cors")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    found = Bucket(f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("s3") / "log")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    variables = {"AWS_ENDPOINT_URL": found.endpoint, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    with found.log.open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            _wait_for(port, server)
            put = urllib.request.Request(f"{found.endpoint}/bucket", method="PUT")
            urllib.request.urlopen(put, timeout=30).close()
            with pytest.MonkeyPatch.context() as patch:
                for name, value in variables.items():
                    patch.setenv(name, value)
                yield found
        finally:
            server.kill()


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while server.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    pytest.fail("the S3 server did not start")


@dataclass
class Visit:
    """A page that headless Chromium has open. page: playwright's; errors: what its console called an error, and what
    no script caught; requests: every address that it asked for, itself first."""

    page: Any
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @property
    def is_too_wide(self) -> bool:
        """Whether the page as a whole scrolls sideways."""
        return self.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")


@pytest.fixture(scope="module")
def _browser() -> Iterator[Any]:
    """Debian's Chromium; ended with its module, as playwright's event loop keeps asyncio from others meanwhile."""
    found = shutil.which("chromium")
    if found is None:
        reason = "needs a browser: apt-get install chromium"
        # Where everything is meant to be checked, a test that did not run must not look like one that passed.
        pytest.fail(reason) if "CI" in os.environ else pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Root, as in containers, may not open Chromium's sandbox.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def browser_page(_browser: Any) -> Iterator[Callable[..., Visit]]:
    """browser_page(url, *, width=1280, height=800, dark=False) -> Visit, loaded; as often as a test wants."""
    contexts = []

    def visit(url: str, *, width: int = 1280, height: int = 800, dark: bool = False) -> Visit:
        scheme = "dark" if dark else "light"
        contexts.append(_browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme))
        found = Visit(contexts[-1].new_page())
        found.page.on("request", lambda request: found.requests.append(request.url))
        found.page.on("pageerror", lambda error: found.errors.append(str(error)))
        found.page.on("console", lambda said: found.errors.append(said.text) if said.type == "error" else None)
        found.page.goto(url)
        return found

    yield visit
    for context in contexts:
        context.close()
