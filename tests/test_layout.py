"""The shape of the project: which package imports which, what is packaged, and what importing costs."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# Each package, and which others it may import. The store is all that the two stages share.
MAY_IMPORT = {
    "cache": {"cache"},
    "extract": {"extract", "cache"},
    "fewshot": {"fewshot", "cache"},
    "pipelines": {"pipelines", "extract", "fewshot", "cache"},
}
FILES = [path for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]
# Distributions whose import name is another.
IMPORT_NAMES = {"ffmpeg-python": "ffmpeg", "imageio-ffmpeg": "imageio_ffmpeg"}


@dataclass(frozen=True)
class Import:
    """One import in a file. name: absolute, dotted; at_top: whether importing the file runs it."""

    name: str
    at_top: bool
    line: int


def _imports(path: Path) -> Iterator[Import]:
    package = ("mastaf", *path.parent.relative_to(ROOT).parts)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    late = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _for_types_only(node)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            names = [f"{module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # Name tables hold modules as text: "mastaf.extract.backbones.r3d:load".
            names = re.findall(r"^(mastaf\.[\w.]+):\w+$", node.value)
        for name in names:
            at_top = id(node) not in late and not isinstance(node, ast.Constant)
            yield Import(name, at_top, getattr(node, "lineno", 0))


def _for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _third_party(name: str) -> str | None:
    top = name.split(".")[0]
    return None if top in sys.stdlib_module_names or top in ("mastaf", "__future__") else top


def _import_name(requirement: str) -> str:
    name = re.split(r"[\s<>=!~;\[]", requirement, maxsplit=1)[0]
    return IMPORT_NAMES.get(name, name.replace("-", "_"))


REQUIRED = {_import_name(line) for line in FACTS["project"]["dependencies"]}
EXTRAS = FACTS["project"]["optional-dependencies"]
OPTIONAL = {_import_name(line) for name in EXTRAS if name not in ("test", "dev") for line in EXTRAS[name]}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_direction_of_dependency(path):
    package = path.relative_to(ROOT).parts[0]
    for found in _imports(path):
        parts = found.name.split(".")
        assert parts[0] not in MAY_IMPORT, f"line {found.line}: '{found.name}' only works from the repository root"
        if parts[0] == "mastaf":
            other = parts[1] if len(parts) > 1 else ""
            assert other in MAY_IMPORT[package], f"line {found.line}: {package} must not import {found.name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_are_declared(path):
    for found in _imports(path):
        name = _third_party(found.name)
        if name is None or name in REQUIRED:
            continue
        # Only extras bring anything else (torchvision, torchcodec): inside a function, so that nothing else needs it.
        assert name in OPTIONAL, f"line {found.line}: {name} is no dependency in pyproject.toml"
        assert not found.at_top, f"line {found.line}: {name} comes with an extra; import it where it is used"


@pytest.mark.parametrize("path", sorted((ROOT / "cache").rglob("*.py")), ids=lambda path: path.name)
def test_the_store_knows_no_torch(path):
    assert not [found for found in _imports(path) if _third_party(found.name) in ("torch", "torchvision", "torchcodec")]


def test_the_checks_see_what_they_look_for():
    """The reader of imports on a file that has every kind."""
    path = ROOT / "fewshot" / "methods" / "imaginary.py"
    text = (
        "import torch.nn, json\nfrom . import base\nfrom ..episode import Episode\nfrom ...extract.run import extract\n"
        "def f():\n    from mastaf.extract import views\nTABLE = {'a': 'mastaf.extract.datasets:find'}\n"
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import zarr\n"
    )

    class Fake:
        parent = path.parent

        def read_text(self, encoding):
            return text

    found = {(item.name, item.at_top) for item in _imports(Fake())}  # pyright: ignore[reportArgumentType]
    assert found == {
        ("torch.nn", True),
        ("json", True),
        ("mastaf.fewshot.methods.base", True),
        ("mastaf.fewshot.episode.Episode", True),
        ("mastaf.extract.run.extract", True),
        ("mastaf.extract.views", False),
        ("mastaf.extract.datasets", False),
        ("typing.TYPE_CHECKING", True),
        ("zarr", False),
    }


def test_torchvision_and_torchcodec_are_never_required():
    assert not REQUIRED & {"torchvision", "torchcodec"}


def test_every_package_is_packaged():
    setuptools = FACTS["tool"]["setuptools"]
    folders = {
        ".".join(("mastaf", *init.parent.relative_to(ROOT).parts))
        for package in MAY_IMPORT
        for init in (ROOT / package).rglob("__init__.py")
    }
    assert set(setuptools["packages"]) == folders
    assert len(setuptools["packages"]) == len(folders)
    assert setuptools["package-dir"] == {f"mastaf.{package}": package for package in MAY_IMPORT}
    assert set(FACTS["tool"]["pyright"]["include"]) == set(MAY_IMPORT)


def test_every_folder_with_code_is_a_package():
    missing = {path.parent for path in FILES if not (path.parent / "__init__.py").is_file()}
    assert missing == set()


def test_every_package_is_typed():
    for package in MAY_IMPORT:
        assert (ROOT / package / "py.typed").is_file()
        assert "py.typed" in FACTS["tool"]["setuptools"]["package-data"][f"mastaf.{package}"]


def test_mastaf_stays_a_namespace():
    """A folder of that name would hide the installed packages from whoever stands in the repository."""
    assert not (ROOT / "mastaf").exists()
    assert not (ROOT / "mastaf.py").exists()
    assert not (ROOT / "__init__.py").exists()
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_console_scripts_are_the_clis():
    assert FACTS["project"]["scripts"] == {
        "mastaf-extract": "mastaf.extract.cli:main",
        "mastaf-cache": "mastaf.cache.cli:main",
        "mastaf-fewshot": "mastaf.fewshot.cli:main",
        "mastaf": "mastaf.pipelines.cli:main",
    }


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_importing_a_cli_imports_nothing_heavy(package):
    program = (
        f"import sys, mastaf.{package}.cli as cli, mastaf.{package}\n"
        "assert callable(cli.main)\n"
        "print(*sorted({'torch', 'transformers', 'zarr', 'h5py', 'joblib', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_init_files_hold_a_docstring_and_at_most_a_name_table():
    for init in (path for path in FILES if path.name == "__init__.py"):
        tree = ast.parse(init.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), init
        rest = tree.body[1:]
        assert len(rest) <= 1, init
        assert all(isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict) for node in rest), init


def test_source_files_stay_small():
    long = {str(path.relative_to(ROOT)): count for path in FILES if (count := len(path.read_text().splitlines())) > 300}
    assert long == {}
