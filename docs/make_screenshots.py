"""Make the pictures of docs/screenshots again: `python docs/make_screenshots.py [NAME ...]`.

It renders a small part of the embedded data set into a temporary folder, runs mastaf there, and photographs what comes
out with Debian's Chromium (apt-get install chromium; pip install 'mastaf[test]').
"""

import base64
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "screenshots"


def report(work: Path, browser: Any) -> bytes:
    """The page of a small demo: its tables on a desk, its mistakes on a phone in the dark."""
    from mastaf.pipelines.demo import run_demo

    out = work / "demo"
    settings: dict[str, Any] = {"shots": (1, 5), "episodes": 2000, "train_episodes": 640, "workers": None, "seed": 0}
    run_demo(out=out, root=motion(work), **settings)
    page = (out / "report.html").as_uri()
    desk = photograph(browser, page, "section h2 >> text=/^5-way 1-shot .*motion_r3d-tiny/", width=920, height=1000)
    phone = photograph(
        browser,
        page,
        "section:has(a:text-is('mastaf self')) .mistake p >> text=/^Nearest support of the true/",
        width=380,
        height=1000,
        dark=True,
    )
    return side_by_side(browser, desk, phone)


def explain(work: Path, browser: Any) -> bytes:
    """The grid of an episode in which the head is right."""
    mastaf(
        "mastaf-extract",
        "--dataset",
        "folder",
        "--root",
        motion(work),
        "--backbone",
        "r3d-tiny",
        "--out",
        "e.zarr",
        at=work,
    )
    mastaf(
        "mastaf-fewshot", "train", "--features", "e.zarr", "--way", 3, "--train-episodes", 640, "--out", "run", at=work
    )
    ask = ("--features", "e.zarr", "--episode", 3, "--checkpoint", "run", "--columns", 3, "--no-film", "--out", "o")
    mastaf("mastaf", "explain", *ask, at=work)
    return (work / "o" / "query1.png").read_bytes()


def serve(work: Path, browser: Any) -> bytes:
    """The local page after a query."""
    clips, command = motion(work) / "test", [sys.executable, "-c", "from mastaf.pipelines.cli import main; main()"]
    with (
        subprocess.Popen(
            [*command, "serve", "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as server,
        browser.new_context(viewport={"width": 1000, "height": 900}) as context,
    ):
        try:
            page = context.new_page()
            page.goto(next(line.split()[0] for line in iter(server.stdout.readline, "") if line.startswith("http")))
            for name in ("chase", "spiral_out", "teleport"):
                page.get_by_label("Class", exact=True).fill(name)
                page.locator("input[type=file]").first.set_input_files(
                    [clips / name / f"clip00{n}.mp4" for n in range(5)]
                )
                page.get_by_text("clip004").wait_for()
                page.get_by_role("button", name="Add to the class").click()
                page.locator(".classes td").get_by_text(name, exact=True).wait_for()
            page.locator("input[type=file]").last.set_input_files(clips / "chase" / "clip007.mp4")
            page.get_by_text("clip007").wait_for()
            page.get_by_role("button", name="Classify").click()
            page.locator(".grid img").wait_for()
            page.wait_for_timeout(500)  # what the last button showed while it worked has faded
            return page.screenshot(full_page=True, clip={"x": 0, "y": 0, "width": 1000, "height": 1100})
        finally:
            server.terminate()


def mastaf(command: str, *words: Any, at: Path) -> None:
    """Run one of the commands in a folder."""
    subprocess.run([Path(sys.executable).with_name(command), *map(str, words)], cwd=at, check=True, stdout=sys.stderr)


def motion(work: Path) -> Path:
    """A few clips of each class of the embedded data set."""
    from mastaf.extract.datasets.motion import render_motion

    root = work / "motion"
    if not root.is_dir():
        render_motion(root, clips_per_class={"train": 6, "val": 6, "test": 12})
    return root


def photograph(browser: Any, url: str, at: str, *, width: int, height: int, dark: bool = False) -> bytes:
    """A PNG of a page, scrolled to the first element that `at` selects."""
    size = {"width": width, "height": height}
    with browser.new_context(viewport=size, color_scheme="dark" if dark else "light") as context:
        page = context.new_page()
        page.goto(url)
        page.locator(at).first.evaluate("one => scrollTo(0, one.getBoundingClientRect().top + scrollY - 12)")
        return page.screenshot()


def side_by_side(browser: Any, *pictures: bytes) -> bytes:
    """PNGs of one height as one."""
    shown = [f'<img src="data:image/png;base64,{base64.b64encode(one).decode()}">' for one in pictures]
    with browser.new_context(viewport={"width": 1400, "height": 1100}) as context:
        page = context.new_page()
        style = "body{margin:0;display:inline-flex;gap:12px;background:#888;padding:6px}"
        page.set_content(f"<style>{style}</style>{''.join(shown)}")
        return page.locator("body").screenshot()


def smaller(png: bytes) -> bytes:
    """A PNG with few colours, a third of its size."""
    from mastaf.extract.decoding.ffmpeg import ffmpeg_exe

    palette = "split[a][b];[a]palettegen=max_colors=128[p];[b][p]paletteuse=dither=none"
    command = [ffmpeg_exe(), "-v", "error", "-f", "png_pipe", "-i", "-", "-lavfi", palette, "-f", "image2pipe"]
    return subprocess.run([*command, "-c:v", "png", "-"], input=png, capture_output=True, check=True).stdout


PICTURES: dict[str, Callable[[Path, Any], bytes]] = {"report": report, "explain": explain, "serve": serve}


def main(names: list[str]) -> None:
    """Make the pictures of these names, or all."""
    unknown = sorted(set(names) - set(PICTURES))
    chromium = shutil.which("chromium")
    if unknown or chromium is None:
        sys.exit(f"error: {f'no picture {unknown[0]}' if unknown else 'no browser; apt-get install chromium'}")
    from playwright.sync_api import sync_playwright

    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as work, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name in names or PICTURES:
            (FOLDER / f"{name}.png").write_bytes(smaller(PICTURES[name](Path(work), browser)))
            print(FOLDER / f"{name}.png")


if __name__ == "__main__":
    main(sys.argv[1:])
