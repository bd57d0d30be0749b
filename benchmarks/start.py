"""How long `--help` takes: of every command and subcommand, from the start of the process to its end. Goal: 0.3 s.

python benchmarks/start.py --rounds 5
"""

import argparse
import importlib
import resource
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import click

GOAL = 0.3


def commands() -> list[list[str]]:
    """The words of each command: those that mastaf's distribution names, and their subcommands."""
    found = []
    for point in metadata.distribution("mastaf").entry_points.select(group="console_scripts"):
        module = importlib.import_module(point.module)
        command = getattr(module, "cli", None) or module.command
        found.append([point.name])
        if isinstance(command, click.Group):
            found += [[point.name, name] for name in command.list_commands(click.Context(command))]
    return found


def one_start(words: list[str]) -> tuple[float, float]:
    """Seconds by the clock and of the processor."""
    program = str(Path(sys.executable).with_name(words[0]))
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([program, *words[1:], "--help"], stdout=subprocess.DEVNULL, check=True)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print("| command | median, s | fastest, s | processor, s |\n|---|---|---|---|")
    slow = []
    for words in commands():
        measured = [one_start(words) for _ in range(rounds)]
        seconds, processor = (statistics.median(column) for column in zip(*measured, strict=True))
        print(f"| `{' '.join(words)}` | {seconds:.2f} | {min(measured)[0]:.2f} | {processor:.2f} |", flush=True)
        if seconds > GOAL:
            slow.append(" ".join(words))
    print(f"above {GOAL} s: {', '.join(slow) or 'none'}")


if __name__ == "__main__":
    main()
