"""Fine-tuning by the recipe `tail`: the stages after a stored one and a head, from cubes; nothing is decoded."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from ...cache.place import StorePath
from ...cache.store import Store, open_store
from ...extract.backbones.base import Backbone
from ...extract.recipe import make_spec
from ...fewshot.cubes.banks import Banks
from ...fewshot.cubes.views import training_views
from ..errors import PipelineError
from .episode_run import EpisodeAsked, EpisodeOptions, Split, episode_ready
from .heads import live_spec, plan_head, selects
from .running import Ready, Start, carry_out, loader, start
from .sources import StoredSource
from .videos import require_train_classes


def tune_tail(
    *,
    features: StorePath | None = None,
    allow_partial: bool = False,
    bank: str | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    revision: str | None = None,
    time: str = "keep",
    precision: str = "auto",
    device: str = "auto",
    weights_dtype: str = "float32",
    seed: int = 0,
    out: Path | None = None,
    **asked: Unpack[EpisodeAsked],
) -> dict[str, Any]:
    """Train as `tune_by_episodes` does with the front of the network frozen and its cubes rounded to float16.

    features: a store of the cubes of a stage in the middle (`mastaf-extract --layer layer3`), whose weights are those
    that the network is loaded with; its views are drawn. allow_partial, bank: as in stage two; the rest as in
    `tune_by_episodes`.
    """
    if features is None:
        raise PipelineError("features must be a store of a middle stage: mastaf-extract --layer layer3 makes one")
    options, rest = EpisodeOptions.of(asked)
    store = open_store(features)
    layer = store.spec.layer
    began = start(
        recipe="tail",
        out=out or Path("runs") / f"{store.path.stem}_tail",
        load=_loader(store, backbone, revision, time, seed),
        weights=weights,
        layers=lambda base: _after(base, layer, store),
        asked=rest,
        precision=precision,
        device=device,
        seed=seed,
        weights_dtype=weights_dtype,
        videos={
            "dataset": store.header.dataset,
            "root": store.header.provenance.get("root"),
            "sampling": store.spec.sampling,
        },
    )
    _require_front(store, began.base)
    require_train_classes(store.index.classes_of("train"), options.way, store.header.dataset, "the data set")

    def prepare() -> Ready:
        return _prepare(began, store, options, allow_partial=allow_partial, bank=bank)

    return carry_out(began, prepare, store=store.digest, **options.settings())


def _loader(store: Store, backbone: str | None, revision: str | None, time: str, seed: int) -> Any:
    """Loads the network of a store for clips as the store's were."""
    spec = store.spec
    if backbone not in (None, spec.backbone):
        raise PipelineError(f"backbone ({backbone}) must be that of {store.path}, '{spec.backbone}'; leave it out")
    how = {"frames": spec.frames, "size": spec.size, "resize": spec.resize, "time": time, "seed": seed}
    return loader(spec.backbone, revision=revision or spec.revision or None, **how)


def _after(base: Backbone, layer: str, store: Store) -> tuple[str, ...]:
    """The stages after that of the store."""
    if layer not in base.layers:
        raise PipelineError(f"{store.path} holds cubes of '{layer}', which is no stage of '{base.name}'")
    later = base.layers[base.layers.index(layer) + 1 : base.layers.index(base.layer) + 1]
    if not later or store.spec.time != "keep":
        what = f"'{layer}'" if not later else f"'{layer}' averaged over time"
        raise PipelineError(
            f"features ({store.path}) hold cubes of {what}, after which nothing is left to train; extract those of "
            f"an earlier stage, mastaf-extract --layer {base.layers[max(0, len(base.layers) - 2)]}"
        )
    return later


def _require_front(store: Store, base: Backbone) -> None:
    """Refuse a store that was not made by this network with these weights."""
    spec = store.spec
    front = base.at(spec.layer, time="keep")
    made = {"views": spec.views, "sampling": spec.sampling, "precision": spec.precision, "store_dtype": spec.dtype}
    make_spec(front, **made).require_equal(spec, here="the network that is to be tuned", there=f"store {store.path}")


def _prepare(began: Start, store: Store, options: EpisodeOptions, *, allow_partial: bool, bank: str | None) -> Ready:
    base, spec, notes = began.base, store.spec, list[str]()
    classes = store.index.classes_of("train")
    plan = plan_head(base, classes, **options.of_head())
    # The cubes go to the device a batch at a time: beside network and activations there is no room for all.
    banks = Banks(store, device="cpu", allow_partial=allow_partial, bank=bank, say=True)
    train = banks.open("train", views=training_views(store.header))
    banks.announce(train)
    val = None
    if selects(options.select_on, store.index.classes_of("val"), options.way, notes):
        val = StoredSource(banks.open("val"), base, spec.layer)
    final = replace(live_spec(base, began.precision), sampling=spec.sampling)
    return episode_ready(
        began,
        plan,
        options,
        train=StoredSource(train, base, spec.layer),
        val=val,
        data=Split(store.header.dataset, store.header.split_scheme, tuple(store.index.keys), tuple(classes)),
        extra={"features": str(store.path), "layer": spec.layer},
        notes=notes,
        close=lambda: None,
        front=spec.layer,
        spec=final,
    )
