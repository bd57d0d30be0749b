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


PICTURES: dict[str, Callable[[Path, Any], bytes]] = {"report": report}


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
