"""The card of a run on the hub: what it is, what it needs, what it scored, and how to use it."""

import shlex
from collections.abc import Sequence
from typing import Any

from ...cache.checks import brief
from ...cache.console import table
from ..checkpoint import TrainSummary
from ..records import ResultRecord
from ..statistics.table import interval, percent
from ..training.run_config import RunConfig

_CUBES = ("backbone", "weights", "layer", "time", "frames", "sampling", "size", "resize", "precision", "dtype")
TAGS = ("mastaf", "few-shot-learning", "video-classification")


def card_of(
    repo: str, config: RunConfig, summary: TrainSummary, records: Sequence[ResultRecord], *, licence: str | None
) -> str:
    """The text of README.md, its metadata first."""
    return f"---\n{_metadata(repo, config, records, licence)}\n---\n\n{_text(repo, config, summary, records)}\n"


def _metadata(repo: str, config: RunConfig, records: Sequence[ResultRecord], licence: str | None) -> str:
    """YAML that the hub reads."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="video-classification",
            task_name="few-shot video classification",
            dataset_type=r.dataset,
            dataset_name=r.dataset,
            dataset_split=r.split,
            metric_type="accuracy",
            metric_name=f"{r.way}-way {r.shot}-shot accuracy, {r.episodes} episodes, ± {r.ci95:.4f}",
            metric_value=r.accuracy,
        )
        for r in records
    ]
    named: dict[str, Any] = {"model_name": repo, "eval_results": results} if results else {}
    data = ModelCardData(
        library_name="mastaf", license=licence, pipeline_tag="video-classification", tags=list(TAGS), **named
    )
    return data.to_yaml()


def _text(repo: str, config: RunConfig, summary: TrainSummary, records: Sequence[ResultRecord]) -> str:
    head = _head(config)
    parts = [
        f"# {repo}",
        f"A few-shot head of mastaf: {head}, for {config.way}-way {config.shot}-shot episodes, trained on cubes of "
        f"`{_word(config.dataset)}` ({len(config.train_classes)} train classes, seed {config.seed}). It recognises "
        "classes that it has never seen from a few examples of each.",
        "## Results",
        _results(records),
        "## The cubes that it needs",
        f"Recipe `{config.spec.recipe}`, of {' x '.join(map(str, config.spec.cube_shape))} [c, t, h, w]. Cubes of "
        "another recipe are refused, and the differing fields are named.",
        table([[name, _word(str(getattr(config.spec, name)))] for name in _CUBES], ["field", "value"]),
        "## Use",
        _use(repo, config),
        "## Where it is from",
        _origin(config, summary),
    ]
    return "\n\n".join(parts)


def _head(config: RunConfig) -> str:
    words = f"`{_word(config.method)}`"
    variant = config.keywords.get("variant")
    words += f" ({_word(str(variant))})" if variant else ""
    return words + (" behind an adapter" if config.keywords.get("adapter") else "")


def _results(records: Sequence[ResultRecord]) -> str:
    if not records:
        return "None were pushed: `mastaf-fewshot evaluate`, then push again."
    lines = [
        [
            f"{_word(r.dataset)}, {_word(r.split)}",
            f"{r.way}-way {r.shot}-shot",
            percent(r.accuracy, r.ci95),
            interval(*r.ci95_clustered),
            f"{r.episodes}",
            r.selected_on,
            f"`{r.episode_list[:12]}`",
        ]
        for r in records
    ]
    heads = ["classes", "episodes", "accuracy %", "clustered", "n", "weights selected on", "list"]
    return (
        f"{table(lines, heads)}\n\n+- is the 95 % half width over n episodes; the clustered interval is by class and "
        "video. Records and predictions are in `results/`."
    )


def _use(repo: str, config: RunConfig) -> str:
    name = f"hf:{repo}"
    spec = config.spec
    plugin = config.plugin.get("distribution")
    needs = f"The head is code of the plug-in `{_word(plugin)}`: install it first.\n\n" if plugin else ""
    extract = ["mastaf-extract", "--backbone", spec.backbone, "--dataset", config.dataset]
    extract += ["--layer", spec.layer, "--time", spec.time, "--frames", str(spec.frames), "--size", str(spec.size)]
    extract += ["--resize", spec.resize, "--precision", spec.precision, "--out", "cubes.zarr"]
    lines = [
        shlex.join(extract),
        f"mastaf-fewshot evaluate --features cubes.zarr --checkpoint {name}",
        f"mastaf enrol --support my_classes/ --checkpoint {name} --out my.classes",
    ]
    code = "\n".join(f"    {line}" for line in lines)
    weights = f"The backbone's weights must be those of sha256 `{spec.weights[:16]}...` (`--weights`)."
    return f"{needs}{code}\n\n{weights}"


def _origin(config: RunConfig, summary: TrainSummary) -> str:
    val = "nothing was selected"
    if summary.val_accuracy is not None and summary.val_ci95 is not None:
        val = (
            f"{percent(summary.val_accuracy, summary.val_ci95)} % on the {config.val_episodes} {summary.selected_on} "
            "episodes that selected the weights, so too high"
        )
    versions = config.provenance.get("versions")
    made = ", ".join(f"{k} {v}" for k, v in versions.items()) if isinstance(versions, dict) else "unknown"
    lines = [
        f"- trained on {summary.episodes} episodes with {_word(config.optimiser)}, learning rate {config.lr}; {val}",
        f"- store `{config.store}`, split scheme `{_word(config.split_scheme)}`",
        f"- versions: {_word(made)}",
        "- every setting is in `config.json`, how the run ended in `summary.json`; weights are safetensors",
    ]
    return "\n".join(lines)


def _word(text: str) -> str:
    """A word of a run in Markdown, which it must not break."""
    return brief(text, 120).translate({ord(c): "" for c in "`|<>"})
