"""Where a pipeline writes unless told."""

from pathlib import Path

from ..extract.out_names import default_out


def default_folder(dataset: str, root: Path | None, backbone: str, recipe: str = "") -> Path:
    """runs/<dataset>_<backbone>, named as the store that mastaf-extract would make, with _<recipe> behind it."""
    name = default_out(dataset, root, backbone).stem
    return Path("runs") / (f"{name}_{recipe}" if recipe else name)
