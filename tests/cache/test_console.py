"""Exit statuses and one-line errors, the same for every command line."""

import errno
import json
import signal

import click
import pytest
from mastaf.cache import console
from mastaf.cache.errors import CacheError, CorruptStoreError, MissingRowsError, SpecMismatchError, StoppedError


def _status(capsys, action, arguments=()):
    @click.command()
    @click.option("--count", type=int)
    def command(count):
        return action()

    with pytest.raises(SystemExit) as leaving:
        console.run(command, list(arguments))
    return leaving.value.code, capsys.readouterr().err


def _raise(error):
    def action():
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (CacheError("way (6) must\n be 5"), 2, "error: way (6) must be 5\n"),
        (SpecMismatchError("differ"), 2, "error: differ\n"),
        (MissingRowsError("missing"), 2, "error: missing\n"),
        (CorruptStoreError("damaged"), 2, "error: damaged\n"),
        (StoppedError("disk full"), 75, "error: disk full\n"),
        (OSError(errno.ENOSPC, "No space left on device", "x"), 75, "error: x: No space left on device\n"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 2, "error: x: Permission denied\n"),
        (KeyboardInterrupt(), 130, "\nerror: interrupted; the same command continues where it stopped\n"),
    ],
)
def test_known_errors_are_one_line(capsys, error, status, text):
    assert _status(capsys, _raise(error)) == (status, text)


def test_sigterm_cleans_up_and_asks_to_continue(capsys):
    before, cleaned = signal.getsignal(signal.SIGTERM), []

    def action():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            cleaned.append(True)

    status, err = _status(capsys, action)
    assert (status, err) == (75, "\nerror: ended by SIGTERM; the same command continues where it stopped\n")
    assert cleaned
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("number", "status", "words"), [(signal.SIGINT, 0, ""), (signal.SIGTERM, 75, "error: ended by SIGTERM")]
)
def test_where_ctrl_c_is_the_usual_end_it_is_no_error(capsys, number, status, words):
    def action():
        with console.until_interrupted():
            signal.raise_signal(number)

    ended, err = _status(capsys, action)
    assert ended == status
    assert "error" not in err or words
    assert words in err


def test_a_fault_of_ours_shows_where(capsys):
    status, err = _status(capsys, _raise(ZeroDivisionError("oops")))
    assert status == 70
    assert "Traceback" in err
    assert "ZeroDivisionError: oops" in err


def test_wrong_usage_is_one_line(capsys):
    status, err = _status(capsys, lambda: None, ["--count", "x"])
    assert status == 2
    assert err.count("\n") == 1
    assert "--help" in err


def test_a_group_alone_shows_its_help_as_help(capsys):
    group = click.Group("tool", help="What it is for.", commands=[click.Command("go", help="Goes.")])
    with pytest.raises(SystemExit) as leaving:
        console.run(group, [])
    err = capsys.readouterr().err
    assert leaving.value.code == 2
    assert err.startswith("Usage: ")
    assert "\n  go  Goes.\n" in err
    assert "error" not in err


def test_a_command_gives_its_own_status(capsys):
    assert _status(capsys, lambda: 1) == (1, "")
    assert _status(capsys, lambda: None) == (0, "")


def test_unknown_names_get_the_closest():
    assert console.unknown_name("backbone", "r3d-tine", ["r3d", "r3d-tiny", "tsn"]).endswith(
        "did you mean r3d-tiny or r3d?"
    )
    assert console.unknown_name("backbone", "qqq", ["r3d", "tsn"]) == "unknown backbone 'qqq'; known: r3d, tsn"


def test_progress_prints_plain_lines_where_there_is_no_terminal(capsys):
    with console.Progress(4, "extract", "videos", every_s=0) as progress:
        progress.advance(1)
        progress.advance(3, note="1 failed")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("extract: 1/4 videos, ")
    assert lines[-1].startswith("extract: 4/4 videos, ")
    assert lines[-1].endswith("1 failed")


def test_summaries_are_json(tmp_path):
    console.write_summary(None, {"a": 1})
    console.write_summary(tmp_path / "new" / "s.json", {"a": 1})
    assert json.loads((tmp_path / "new" / "s.json").read_text()) == {"a": 1}


def test_a_json_file_that_cannot_be_is_an_error_before_the_work_begins(tmp_path, capsys):
    began = []

    @click.command()
    @console.json_option
    def work(json_file):
        began.append(json_file)

    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as left:
        console.run(work, ["--json", str(tmp_path / "file" / "s.json")])
    assert left.value.code == console.USAGE
    assert capsys.readouterr().err.startswith("error: ")
    assert began == []


def test_printed_text_cannot_command_the_terminal(capsys):
    console.say("one\x1b[31m two\nthree")
    assert capsys.readouterr().out == "one\\x1b[31m two\nthree\n"
