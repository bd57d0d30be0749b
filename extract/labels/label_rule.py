"""When the name of a test class is near-identical to a label that the weights were pretrained on: a rule of words.

Three steps, each looser than the one before. A class gets the grade of the first step at which a label fits, and the
labels that fit at that step:

    step      grade  what fits                                           class               label
    words     same   both have the same words                            SkyDiving           skydiving
                                                                         BlowingCandles      blowing out candles
    part      near   the words of one are all among those of the other,  kick                side kick
                     and are at least a third of them                    RockClimbingIndoor  rock climbing
                     (`playing` and `doing` do not count here)           TennisSwing         playing tennis
    opening   near   both have two words, the first is the same name,    GolfSwing           golf driving
                     and one of them goes on with a verb in -ing         SalsaSpin           salsa dancing

See label_words.py for what a word is. Drawn for the class `RockClimbingIndoor` and the label `rock climbing`:

    RockClimbingIndoor  ->  rock climbing indoor  ->  {rock, climb, indoor}
    rock climbing                                 ->  {rock, climb}          all of it is above, 2 of 3 words: part

A rule of words sees no synonyms (`JumpRope`, `skipping rope`), no kinds of a thing (`CuttingInKitchen`, `slicing
onion`) and no videos; and it takes the same word for the same action (`draw_sword`, `drawing`).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ...cache.label_overlap import MOST_LABELS, NEAR, NONE, SAME
from .label_words import Phrase, phrase_of, stem

RULE = "words 1"
WORDS, PART, OPENING = "same words", "words of one within the other", "same name before a verb"
GRADES = {WORDS: SAME, PART: NEAR, OPENING: NEAR}
# Verbs that say of a sport, a game or an instrument only that it is played.
_LIGHT = frozenset(map(stem, ("do", "perform", "play", "practice", "practise")))


def step_of(name: str, label: str) -> str | None:
    """The first step at which the names fit (WORDS, PART or OPENING), None where none does. The order is no matter."""
    return _step(phrase_of(name), phrase_of(label))


def grade_classes(classes: Iterable[str], labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Class -> {grade, why, labels, more}, as `LabelOverlap` has it; labels stand in the order of their list."""
    phrases = [phrase_of(label) for label in labels]
    index: defaultdict[str, list[int]] = defaultdict(list)
    for number, phrase in enumerate(phrases):
        for word in _handles(phrase):
            index[word].append(number)
    return {name: _graded(name, labels, phrases, index) for name in classes}


def _graded(
    name: str, labels: Sequence[str], phrases: Sequence[Phrase], index: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    own = phrase_of(name)
    candidates = sorted({number for word in _handles(own) for number in index.get(word, ())})
    fitting: defaultdict[str, list[str]] = defaultdict(list)
    for number in candidates:
        step = _step(own, phrases[number])
        if step is not None:
            fitting[step].append(labels[number])
    for step, grade in GRADES.items():
        if fitting[step]:
            found = fitting[step]
            return {
                "grade": grade,
                "why": step,
                "labels": found[:MOST_LABELS],
                "more": max(0, len(found) - MOST_LABELS),
            }
    return {"grade": NONE, "why": "", "labels": [], "more": 0}


def _handles(phrase: Phrase) -> Iterator[str]:
    """What another phrase must share one of: its words, and two neighbours written as one."""
    yield from {*phrase.words, *phrase.pairs}


def _step(one: Phrase, other: Phrase) -> str | None:
    # Two words are written as one only where the other name writes them so: `push up`, `pushup`; never `sit`, `situp`.
    one, other = _joined_as(one, other), _joined_as(other, one)
    if not one.words or not other.words:
        return None
    if set(one.words) == set(other.words):
        return WORDS
    few, many = sorted((_telling(one), _telling(other)), key=len)
    if few <= many and 3 * len(few) >= len(many):
        return PART
    return OPENING if _open_alike(one, other) else None


def _joined_as(phrase: Phrase, other: Phrase) -> Phrase:
    for word in other.words:
        if word in phrase.pairs:
            phrase = phrase.joined(phrase.pairs[word])
    return phrase


def _telling(phrase: Phrase) -> set[str]:
    return set(phrase.words) - _LIGHT or set(phrase.words)


def _open_alike(one: Phrase, other: Phrase) -> bool:
    return (
        len(one.words) == len(other.words) == 2
        and one.words[0] == other.words[0]
        and not (one.gerunds[0] or other.gerunds[0])
        and (one.gerunds[1] or other.gerunds[1])
    )
