"""What mkdocs does with the documents that it would not by itself. The names of the functions are mkdocs' own.

The pages are written for the repository's web page: links lead to files, also outside of docs/. Here such files become
pages below `project/`, and README.md the first page. Below `commands/` stands a page for each command, made from click.
"""

import posixpath
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parent))

import command_pages  # noqa: E402

_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")
_MARK = re.compile(r"^ *<!-- (run|help|none)(: .+)? -->\n", re.MULTILINE)
_FENCED = re.compile(r"^( *)(```+).*?^\1\2 *$", re.DOTALL | re.MULTILINE)
_LANGUAGES = {".py": "python", ".toml": "toml", ".yml": "yaml", ".cff": "yaml"}

_packages = tempfile.TemporaryDirectory(prefix="mastaf-docs-")
_sources: dict[str, str] = {}  # page of the site -> file of the repository, for those that docs/ has not


@event_priority(100)  # before mkdocstrings reads its settings
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Let mkdocstrings find the four packages, which are folders of other names, and name the commands' pages."""
    namespace = Path(_packages.name) / "mastaf"
    if not namespace.exists():
        namespace.mkdir()
        for package in ("cache", "extract", "fewshot", "pipelines"):
            (namespace / package).symlink_to(ROOT / package)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [_packages.name]
    nav = [command_pages.nav() if entry == {"Commands": "made from click"} else entry for entry in config.nav]
    guides = next(entry["Guides"] for entry in nav if "Guides" in entry)
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    guides += sorted(page for page in pages if f"'{page}'" not in repr(nav))
    config.nav = nav
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the commands' pages, README.md, and what the documents link to outside of docs/."""
    for uri, text in command_pages.pages().items():
        files.append(File.generated(config, uri, content=text))
    _sources.clear()
    _add(files, config, "README.md")
    for page in files.documentation_pages():
        if page.src_uri not in _sources and page.generated_by is None:
            _add_linked(files, config, f"docs/{page.src_uri}", page.content_string)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to pages of the site, and take the marks of code blocks out."""
    here = page.file.src_uri
    source = _sources.get(here, f"docs/{here}")

    def lead(found: re.Match[str]) -> str:
        uri = _uri_of(_repository_path(source, found[1]))
        return posixpath.relpath(uri, posixpath.dirname(here) or ".") if uri else found[1]

    return _MARK.sub("", _outside_fences(markdown, lambda text: _LINK.sub(lead, text)))


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Nothing of a page may come from elsewhere: it is read without a network, and tells nobody that it is."""
    found = re.search(r"<(script|link|img|iframe)[^>]+(src|href)=\"?(https?:)?//[^>]*>", output)
    if found and 'rel="canonical"' not in found[0]:
        raise PluginError(f"{page.file.src_uri} would load {found[0]}")
    return output


def _add(files: Files, config: MkDocsConfig, path: str) -> None:
    uri = _uri_of(path)
    if uri is None or uri in _sources:
        return
    _sources[uri] = path
    text = (ROOT / path).read_text(encoding="utf-8")
    if not path.endswith(".md"):
        text = f"# {path}\n\n````{_LANGUAGES.get(Path(path).suffix, 'text')}\n{text}\n````\n"
    files.append(File.generated(config, uri, content=text))
    _add_linked(files, config, path, text)


def _add_linked(files: Files, config: MkDocsConfig, source: str, text: str) -> None:
    for target in _LINK.findall(_FENCED.sub("", text)):
        path = _repository_path(source, target)
        if not path.startswith("docs/"):
            _add(files, config, path)


def _repository_path(source: str, target: str) -> str:
    """The file of the repository that a link in file `source` leads to; of a folder its README.md."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    return f"{path}/README.md" if (ROOT / path).is_dir() else path


def _uri_of(path: str) -> str | None:
    """The page, or file, of the site that a file of the repository becomes; None where there is no such file."""
    if path.startswith("../") or not (ROOT / path).is_file():
        return None
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path == "README.md":
        return "index.md"
    return f"project/{path}" if path.endswith(".md") else f"project/{path}.md"


def _outside_fences(text: str, change: Any) -> str:
    """Apply `change` to what is not in a fenced code block."""
    done, at = [], 0
    for fenced in _FENCED.finditer(text):
        done += [change(text[at : fenced.start()]), fenced[0]]
        at = fenced.end()
    return "".join([*done, change(text[at:])])
