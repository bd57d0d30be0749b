"""The page itself: what is on it, and what its buttons do. Nothing here knows of networks."""

from pathlib import Path
from typing import Any

from ...fewshot.errors import FailedError
from ..errors import PipelineError
from .desk import MOST_NAME, Desk, Visit
from .words import answer_html, classes_html, picture_html, problems_html

TITLE = "mastaf: recognise an action from a few clips"
_KEPT_S = 3600  # what a visitor enrolled, after the last time that it was used

# Two requests decode while the network serves another; more would only crowd the machine.
_IN_TURN: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": 2, "concurrency_id": "desk"}

_CSS = """
.quiet { opacity: .75; font-weight: normal; }
.label { font-size: 1.6rem; margin: .2rem 0; overflow-wrap: anywhere; }
.label .quiet { font-size: 1rem; }
.problems { color: var(--error-text-color, #b91c1c); overflow-wrap: anywhere; }
.scores, .classes { width: 100%; border-collapse: collapse; }
.scores td, .classes td, .classes th { padding: .25rem .5rem; text-align: left; overflow-wrap: anywhere; }
.scores caption { text-align: left; padding: .25rem .5rem; opacity: .75; }
.scores td:first-child { min-width: 7rem; }
.scores .bar { width: 30%; }
.scores .number { white-space: nowrap; }
.scores .bar div { height: .8rem; background: #0b57a4; border-radius: 2px; min-width: 1px; }
.grid { margin: 0; overflow-x: auto; }
.grid img { min-width: 46rem; width: 100%; }
"""


def build_page(desk: Desk) -> tuple[Any, dict[str, Any]]:
    """(the page of a desk, how it looks: keyword arguments of `mount_gradio_app`)."""
    import gradio as gr
    from gradio.themes import Default

    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(60, 600), fill_width=True) as page:
        visit = gr.State(Visit(), time_to_live=_KEPT_S)
        gr.Markdown(
            f"# {TITLE}\n1. Name a class, drop a few clips of it, and add them. Do so for two classes or more.\n"
            "2. Drop a query, and see which class it is like, and where the network looked.\n\n"
            f"Clips stay on this machine and are deleted once they were read. At most {desk.limits.clip_mb} MB a clip."
        )
        with gr.Row():
            with gr.Column(min_width=320):
                _place_classes(desk, visit)
            with gr.Column(min_width=320):
                query = gr.File(label="Query", height=140)
                ask = gr.Button("Classify", variant="primary")
                answer = gr.HTML()
        picture = gr.HTML()

        def on_ask(here: Visit, dropped: str | None) -> tuple[Any, ...]:
            try:
                if dropped is None:
                    raise PipelineError("drop a query first")
                explanation = desk.ask(here, Path(dropped))
            except (PipelineError, FailedError) as error:
                return None, problems_html([str(error)]), ""
            return None, answer_html(explanation), picture_html(explanation)

        ask.click(on_ask, [visit, query], [query, answer, picture], **_IN_TURN)
    font = ("ui-sans-serif", "system-ui", "sans-serif")  # names of no font that would have to be fetched
    mono = ("ui-monospace", "monospace")
    return page, {"theme": Default(font=font, font_mono=mono), "css": _CSS}


def _place_classes(desk: Desk, visit: Any) -> None:
    """Put what makes classes on the page that is being built."""
    import gradio as gr

    name = gr.Textbox(label="Class", placeholder="such as: open the door", max_length=MOST_NAME)
    clips = gr.File(label="Clips of this class", file_count="multiple", height=140)
    add = gr.Button("Add to the class", variant="primary")
    trouble = gr.HTML()
    classes = gr.HTML(classes_html({}))
    with gr.Row():
        known = gr.Dropdown([], label="A class to remove", interactive=True, filterable=False)
        remove = gr.Button("Remove")

    def shown_classes(here: Visit) -> tuple[str, Any]:
        names = list(here.classes)
        return classes_html(here.classes), gr.Dropdown(names, value=names[0] if names else None)

    def on_add(here: Visit, called: str, dropped: list[str] | None) -> tuple[Any, ...]:
        problems = desk.add(here, called or "", [Path(path) for path in dropped or []])
        return here, None, problems_html(problems), *shown_classes(here)

    def on_remove(here: Visit, called: str | None) -> tuple[Any, ...]:
        desk.remove(here, called or "")
        return here, *shown_classes(here)

    add.click(on_add, [visit, name, clips], [visit, clips, trouble, classes, known], **_IN_TURN)
    remove.click(on_remove, [visit, known], [visit, classes, known], **_IN_TURN)
