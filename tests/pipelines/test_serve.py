"""`mastaf serve`: the page in a browser, what it does with hostile uploads, and what reaches it at all."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mastaf.pipelines.errors import PipelineError
from mastaf.pipelines.own_videos.live import LiveNetwork
from mastaf.pipelines.serving.desk import Desk, Limits, Visit
from mastaf.pipelines.serving.guard import Guard
from mastaf.pipelines.serving.words import answer_html, classes_html, picture_html, problems_html

pytestmark = pytest.mark.usefixtures("one_thread")
BOLD = "<b onclick=alert(1)>chase</b>"


@pytest.fixture(scope="module")
def desk() -> Desk:
    return Desk(device="cpu", limits=Limits(classes=3, clips=3, all_clips=8))


@pytest.fixture
def upload(small_motion, tmp_path) -> Any:
    """upload(class, number) -> a clip in a folder of its own, as the page library leaves it."""

    def make(name: str, number: int, called: str = "") -> Path:
        folder = tmp_path / "uploads" / f"{name}{number}"
        folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(small_motion / "test" / name / f"clip{number:03d}.mp4", folder / (called or "c.mp4")))

    return make


def test_uploads_become_classes_and_answers_and_are_deleted(desk, upload, tmp_path):
    visit = Visit()
    for name, of in ((BOLD, "chase"), ("stop & go", "stop_go")):
        assert desk.add(visit, name, [upload(of, 0), upload(of, 1)]) == []
    query = upload("chase", 0, "<img src=x>.mp4")
    found = desk.ask(visit, query)
    assert found.classes[found.ranking(0)[0]] == BOLD  # the query is one of the examples
    assert found.calibrated is not None
    assert [len(shots) for shots in found.supports] == [1, 1]
    assert not [path for path in (tmp_path / "uploads").rglob("*") if path.is_file()]
    for page in (classes_html(visit.classes), answer_html(found), problems_html([BOLD])):
        assert "<b onclick" not in page
        assert "&lt;b onclick=alert(1)&gt;chase&lt;/b&gt;" in page
    assert re.match(
        r"<figure class='grid'><img src='data:image/png;base64,[\w+/=]+' alt='[\w ]+'></figure>$", picture_html(found)
    )
    desk.remove(visit, BOLD)
    assert visit.classes == {"stop & go": 2}
    with pytest.raises(PipelineError, match="two classes or more"):
        desk.ask(visit, upload("chase", 0))


def test_what_cannot_be_enrolled_is_a_line_and_is_deleted(desk, upload, tmp_path):
    visit, pipe = Visit(), tmp_path / "uploads" / "p" / "pipe.mp4"
    assert desk.add(visit, "a", [upload("chase", 2)]) == []
    text = upload("chase", 3, "text.mp4")
    text.write_text("#EXTM3U\nfile:///etc/passwd\n")
    empty = upload("chase", 4, "empty.mp4")
    empty.write_bytes(b"")
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    problems = desk.add(visit, "b", [text, empty, pipe])
    assert [problem.split(":")[0] for problem in problems] == ["text.mp4", "empty.mp4", "pipe.mp4"]
    assert "not a video" in problems[0]
    assert "in two classes" in desk.add(visit, "b", [upload("chase", 2)])[0]
    assert "must not be blank" in desk.add(visit, " ", [upload("chase", 5)])[0]
    assert "at most 200 letters" in desk.add(visit, "x" * 201, [upload("chase", 5)])[0]
    assert "3 clips at most" in desk.add(visit, "a", [upload("chase", n) for n in (5, 6, 7)])[0]
    assert "drop a clip" in desk.add(visit, "b", [])[0]
    assert visit.classes == {"a": 1}
    assert not [path for path in (tmp_path / "uploads").rglob("*") if not path.is_dir()]


def test_visitors_at_once_do_not_mix_and_share_the_network_in_turn(desk, upload, monkeypatch):
    inside, most = threading.Semaphore(1), []
    plain = LiveNetwork.cube

    def watched(self: LiveNetwork, clip: Any) -> Any:
        most.append(inside.acquire(blocking=False))
        time.sleep(0.01)
        found = plain(self, clip)
        inside.release()
        return found

    monkeypatch.setattr(LiveNetwork, "cube", watched)
    visits = [Visit(), Visit()]
    files = [[upload("chase", 0), upload("chase", 1)], [upload("stop_go", 0), upload("stop_go", 1)]]
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(desk.add, visits[n], f"{k}", [files[n][k]]) for n in (0, 1) for k in (0, 1)]
        assert [job.result() for job in jobs] == [[]] * 4
    assert all(most)
    assert [sorted(visit.classes) for visit in visits] == [["0", "1"]] * 2
    again = [desk.ask(visits[0], upload("chase", k)) for k in (0, 1)]
    assert [one.classes[one.ranking(0)[0]] for one in again] == ["0", "1"]


def test_a_head_without_maps_is_refused_before_the_page_opens():
    with pytest.raises(PipelineError, match=r"method 'mastaf' \(neighbor\) has no attention maps to show"):
        Desk(device="cpu", limits=Limits(), method_keywords={"variant": "neighbor"})


def ask(guard: Guard, method: str, path: str, body: bytes = b"", **headers: str) -> int:
    """The status that a request gets."""
    return asyncio.run(status_of(guard, method, path, body, **headers))


async def status_of(guard: Guard, method: str, path: str, body: bytes = b"", **headers: str) -> int:
    sent: list[Any] = []
    given = [{"type": "http.request", "body": body, "more_body": False}]
    pairs = [
        (name.replace("_", "-").encode(), value.encode()) for name, value in {"host": "localhost:1", **headers}.items()
    ]

    async def receive() -> Any:
        if body == b"stalls":
            await asyncio.sleep(5)
        return given.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": pairs}
    await guard(scope, receive, send)
    return sent[0]["status"]


async def behind(scope: Any, receive: Any, send: Any) -> None:
    """A page that takes its time with an upload, and reads what it is sent."""
    if scope["path"].endswith("upload"):
        await asyncio.sleep(0.2 if b"slow" in (await receive())["body"] else 0)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_only_what_the_page_asks_for_reaches_it(tmp_path):
    guard = Guard(behind, folder=tmp_path, waiting_bytes=100, timeout_s=60, local=True)
    for path in ("/", "/config", "/theme.css", "/assets/index-1.js", "/gradio_api/queue/data"):
        assert ask(guard, "GET", path) == 200
    for path in (
        *("/gradio_api/file=/etc/passwd", "/gradio_api/proxy=http://x", "/gradio_api/runs", "/gradio_api/vibe-code/"),
        *("/assets/../../../etc/passwd", "/file=x", "/gradio_api/stream/1/2/3/playlist.m3u8", "/docs", "//etc/passwd"),
    ):
        assert ask(guard, "GET", path) == 404
    assert ask(guard, "PUT", "/") == 404
    assert ask(guard, "GET", "/", host="evil.example:7860") == 403
    assert ask(guard, "GET", "/", x_forwarded_host="evil.example") == 403
    assert ask(guard, "POST", "/gradio_api/queue/join", b"{}", origin="http://evil.example") == 403
    assert ask(guard, "POST", "/gradio_api/queue/join", b"{}", origin="http://localhost:1") == 200
    elsewhere = Guard(behind, folder=tmp_path, waiting_bytes=100, timeout_s=60, local=False)
    assert ask(elsewhere, "GET", "/", host="machine.example:7860") == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("{folder}/a/c.mp4", 200),
        ("/etc/passwd", 400),
        ("{folder}/../x", 400),
        ("http://x/y", 400),
        ("c.mp4", 400),
        (7, 400),
    ],
)
def test_a_request_can_name_uploads_alone(tmp_path, path, status):
    guard = Guard(behind, folder=tmp_path, waiting_bytes=100, timeout_s=60, local=True)
    named = path.format(folder=tmp_path) if isinstance(path, str) else path
    body = json.dumps({"data": ["a", [{"path": named, "meta": {"_type": "gradio.FileData"}}]]}).encode()
    assert ask(guard, "POST", "/gradio_api/queue/join", body) == status
    assert ask(guard, "POST", "/gradio_api/queue/join", b"[" * 100_000) == 400
    assert ask(guard, "POST", "/gradio_api/queue/join", b" " * (1 << 19)) == 413


def test_uploads_are_bounded_in_size_and_time(tmp_path):
    folder = tmp_path / "uploads"
    folder.mkdir()
    guard = Guard(behind, folder=folder, waiting_bytes=100, timeout_s=0.05, local=True)
    assert ask(guard, "POST", "/gradio_api/upload", b"x", content_length="60") == 200
    (folder / "waits").write_bytes(b"x" * 50)
    assert ask(guard, "POST", "/gradio_api/upload", b"x", content_length="60") == 413
    os.utime(folder / "waits", (0, 0))  # nobody asked about it
    assert ask(guard, "POST", "/gradio_api/upload", b"x", content_length="60") == 200
    assert not (folder / "waits").exists()
    assert ask(guard, "POST", "/gradio_api/upload", b"x") == 411
    assert ask(guard, "POST", "/gradio_api/upload", b"slow", content_length="4") == 408
    assert ask(guard, "POST", "/gradio_api/queue/join", b"stalls") == 408
    assert ask(guard, "POST", "/gradio_api/upload", b"x", content_length="9" * 5000) == 411


def test_uploads_at_once_count_together(tmp_path):
    seen = []

    async def first(scope: Any, receive: Any, send: Any) -> None:
        """While it is at work, another one comes."""
        if not seen:
            seen.append(await status_of(guard, "POST", "/gradio_api/upload", b"x", content_length="60"))
        await behind(scope, receive, send)

    guard = Guard(first, folder=tmp_path, waiting_bytes=100, timeout_s=60, local=True)
    assert ask(guard, "POST", "/gradio_api/upload", b"x", content_length="60") == 200
    assert seen == [413]
    assert ask(guard, "POST", "/gradio_api/upload", b"x", content_length="60") == 200  # the first one is through


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """The command at work: its address, and the folder that its uploads are in."""
    folder = tmp_path_factory.mktemp("served")
    program = (
        "import sys; sys.addaudithook(lambda what, about: what in ('socket.connect', 'socket.getaddrinfo') and "
        "print('NETWORK', about, flush=True)); from mastaf.pipelines.cli import main; main()"
    )
    command = [sys.executable, "-c", program, "serve", "--port", "0", "--device", "cpu", "--max-mb", "2"]
    variables = os.environ | {"TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables
    ) as process:
        try:
            assert process.stdout is not None
            said: list[str] = []
            while not (found := re.search(r"http://[\d.:]+/", "".join(said[-1:]))):
                said.append(process.stdout.readline())
                assert said[-1], "the server ended before it served"
            yield found[0], folder
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 75
            assert list(folder.iterdir()) == []
            assert "NETWORK" not in "".join([*said, *process.stdout])  # nothing was asked of another machine
        finally:
            process.kill()


def test_the_page_from_clips_to_an_answer_in_a_browser(served, small_motion, browser_page, tmp_path):
    address, folder = served
    visit = browser_page(address)
    page = visit.page
    drops = page.locator("input[type=file]")
    add = page.get_by_role("button", name="Add to the class")
    for name, of in ((BOLD, "chase"), ("走る", "stop_go")):
        page.get_by_label("Class", exact=True).fill(name)
        drops.first.set_input_files([small_motion / "test" / of / f"clip00{n}.mp4" for n in (0, 1)])
        page.get_by_text("clip001").wait_for()
        add.click()
        page.locator(".classes td").get_by_text(name, exact=True).wait_for()
    no_video = tmp_path / "broken <i>x.mp4"
    no_video.write_text("no video")
    drops.last.set_input_files(no_video)
    page.get_by_text("broken").first.wait_for()
    page.get_by_role("button", name="Classify").click()
    page.locator(".problems li").wait_for()
    assert "not a video" in page.locator(".problems li").inner_text()
    drops.last.set_input_files(small_motion / "test" / "chase" / "clip001.mp4")
    page.get_by_text("clip001").first.wait_for()
    page.get_by_role("button", name="Classify").click()
    picture = page.locator(".grid img")
    picture.wait_for()
    assert page.locator(".label strong").inner_text() == BOLD
    scores = [float(text.split()[0]) for text in page.locator(".scores td:nth-child(3)").all_inner_texts()]
    assert sum(scores) == pytest.approx(100, abs=0.2)
    assert scores[0] > scores[1]
    assert picture.evaluate("image => image.complete && image.naturalWidth") > 500
    page.set_viewport_size({"width": 390, "height": 800})
    assert not visit.is_too_wide
    assert visit.errors == []
    assert [url for url in visit.requests if not url.startswith((address, "data:", "blob:"))] == []
    assert [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size] == []


def test_no_file_of_the_machine_and_no_large_upload(served, tmp_path):
    address, folder = served
    for path in ("gradio_api/file=/etc/hostname", f"gradio_api/file={__file__}", "gradio_api/runs"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(address + path, timeout=30)
    part = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.mp4"\r\n\r\n'
        + bytes(3_000_000)
        + b"\r\n--x--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    request = urllib.request.Request(f"{address}gradio_api/upload", data=part, headers=headers)
    with pytest.raises(urllib.error.HTTPError, match="413"):
        urllib.request.urlopen(request, timeout=30)
    assert [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size] == []


def test_an_address_that_cannot_be_had_is_said(mastaf):
    status, _, error = mastaf("serve", "--host", "203.0.113.1", "--port", 1)
    assert (status, error.count("\n")) == (2, 1)
    assert "host (203.0.113.1) and port (1) must be free here" in error
