"""Write an episode list from video keys alone, in plain Python: the recipe of docs/episode_lists.md, spelled out.

    python examples/episodes_by_hand.py videos.csv --split test --way 5 --shot 1 --episodes 10000 > list.jsonl

videos.csv has the columns key, class and, for --disjoint, group (the recording a clip is cut from). The lines are
those of the file that `mastaf-fewshot episodes` writes for a store of these videos, after its first line; their sha256
is the list's name in result records.
"""

import argparse
import csv
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

MASK = 2**32 - 1


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10: four words of 32 bits, encrypted."""
    a, b, c, d = counter
    k0, k1 = key
    for _ in range(10):
        p, q = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (q >> 32) ^ b ^ k0, q & MASK, (p >> 32) ^ d ^ k1, p & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return [a, b, c, d]


def words(name: str, number: int, *parts: object) -> Iterator[int]:
    """The random words of 64 bits of one episode: stream `name`, episode `number`."""
    digest = hashlib.sha256(json.dumps([name, *parts]).encode()).digest()
    key = [int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")]
    block = 0
    while True:
        a, b, c, d = philox([block, 0, number & MASK, number >> 32], key)
        yield a | b << 32
        yield c | d << 32
        block += 1


def pop(left: list[str], word: int) -> str:
    """Take one of what is left: the word, as a fraction of 2^64, says which."""
    return left.pop(word * len(left) >> 64)


def episode(
    number: int, videos: dict[str, list[str]], group: dict[str, str], options: argparse.Namespace
) -> list[object]:
    """[ways, queries]: for each way its support keys; for each query its key and its way."""
    seed, way, shot, queries = options.list_seed, options.way, options.shot, options.queries
    parts = (seed, options.split, way, shot, options.query_mode, queries)
    draw = words("mastaf episodes 1", number, *parts)
    names = sorted(videos)
    ways = [pop(names, next(draw)) for _ in range(way)]
    asked = next(draw) * way >> 64  # the way of the only query; drawn in both modes
    support, rest = [], []
    for name in ways:
        left = sorted(videos[name])
        taken = [pop(left, next(draw)) for _ in range(shot + queries)]
        support.append(taken[:shot])
        rest.append(taken[shot:])
    single = options.query_mode == "single"
    query = [[rest[asked][0], asked]] if single else [[key, w] for w, keys in enumerate(rest) for key in keys]
    if options.disjoint:
        again = words("mastaf source-disjoint 1", number, *parts)
        replace_shared(ways, support, query, videos, group, again)
    return [support, query]


def replace_shared(
    ways: list[str],
    support: list[list[str]],
    query: list[list[object]],
    videos: dict[str, list[str]],
    group: dict[str, str],
    draw: Iterator[int],
) -> None:
    """Replace each support that is of one source with a query of its way. Each place has a word, needed or not."""
    for w, keys in enumerate(support):
        sources = {group[str(key)] for key, label in query if label == w}
        kept = [key for key in keys if group[key] not in sources]
        left = [key for key in sorted(videos[ways[w]]) if group[key] not in sources and key not in kept]
        for place, key in enumerate(keys):
            word = next(draw)
            if group[key] in sources:
                keys[place] = pop(left, word)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the lines of an episode list.")
    parser.add_argument("videos", help="CSV file with the columns key, class and, for --disjoint, group")
    parser.add_argument("--split", default="test")
    parser.add_argument("--way", type=int, default=5)
    parser.add_argument("--shot", type=int, default=1)
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--list-seed", type=int, default=0)
    parser.add_argument("--query-mode", choices=["single", "per_class"], default="single")
    parser.add_argument("--queries", type=int, default=1)
    parser.add_argument("--disjoint", action="store_true", help="source-disjoint episodes")
    options = parser.parse_args()
    videos: dict[str, list[str]] = {}
    group: dict[str, str] = {}
    with Path(options.videos).open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            videos.setdefault(row["class"], []).append(row["key"])
            group[row["key"]] = row.get("group") or row["key"]  # not known: a source of its own
    digest = hashlib.sha256()
    for number in range(options.episodes):
        line = (json.dumps(episode(number, videos, group, options), ensure_ascii=False) + "\n").encode()
        digest.update(line)
        sys.stdout.buffer.write(line)
    print(f"sha256 {digest.hexdigest()}", file=sys.stderr)


if __name__ == "__main__":
    main()
