"""Names of actions as words that can be compared: `BlowingCandles` and `blow_candle` have the same words."""

import re
import unicodedata
from dataclasses import dataclass

# Words that say how the others hang together. `up` and `down` are not among them: a push up is no push.
FUNCTION_WORDS = frozenset(
    (
        "a",
        "an",
        "and",
        "at",
        "by",
        "for",
        "from",
        "in",
        "into",
        "is",
        "it",
        "its",
        "of",
        "off",
        "on",
        "onto",
        "or",
        "out",
    )
    + ("out", "over", "the", "through", "to", "while", "with")
)
# Whoever acts, where the action is what counts.
ACTORS = frozenset(("human", "people", "person", "someone"))
# A vowel between consonants, as in `tap` and `tape`: there English doubles the consonant, or keeps the e.
_SHORT = re.compile(r"[^aeiou]*[aeiouy][^aeiouwxy]")


@dataclass(frozen=True)
class Phrase:
    """words: stems, in order, without function words; gerunds: whether each was an -ing form."""

    words: tuple[str, ...]
    gerunds: tuple[bool, ...]

    @property
    def pairs(self) -> dict[str, int]:
        """Each two neighbours written as one word (`push up`: pushup) -> place of the first."""
        return {one + other: place for place, (one, other) in enumerate(zip(self.words, self.words[1:], strict=False))}

    def joined(self, place: int) -> "Phrase":
        """The phrase with the words at `place` and after it written as one."""
        word = self.words[place] + self.words[place + 1]
        words = (*self.words[:place], word, *self.words[place + 2 :])
        return Phrase(words, (*self.gerunds[:place], *self.gerunds[place + 1 :]))


def phrase_of(name: str) -> Phrase:
    """The words of a name.

    CamelCase is taken apart, underscores and punctuation part words, case and accents' encoding do not matter. What
    stands in round brackets only qualifies, and often says what is *not* meant (`throwing ball (not baseball)`), so it
    is left out. Function words and actors are left out unless nothing else is there. The rest is stemmed.
    """
    text = re.sub(r"\([^()]*\)", " ", name)
    text = _apart(unicodedata.normalize("NFKC", text)).casefold()
    text = re.sub(r"['’]s\b|['’]", "", text)
    found = re.findall(r"[^\W_]+", text)
    telling = [word for word in found if word not in FUNCTION_WORDS | ACTORS] or found
    return Phrase(tuple(map(stem, telling)), tuple(_is_gerund(word) for word in telling))


def _apart(name: str) -> str:
    """CamelCase with spaces: `BlowingCandles` -> `Blowing Candles`, `BMXRiding` -> `BMX Riding`."""
    parts = [name[:1]]
    for before, letter, after in zip(name, name[1:], name[2:] + " ", strict=False):
        starts = letter.isupper() and (before.islower() or before.isdigit() or (before.isupper() and after.islower()))
        parts.append(f" {letter}" if starts else letter)
    return "".join(parts)


def stem(word: str) -> str:
    """A lower-case English word without plural or verb ending: diving, dives, dived -> dive; candles -> candl.

    Endings of inflection alone (after steps 1 and 5a of M. Porter, An algorithm for suffix stripping, 1980), so that
    `driver` and `drive`, `organ` and `organize` stay different words. What is left need not be a word: it only has to
    be the same for all forms of one.
    """
    if not (word.isascii() and word.isalpha()) or len(word) < 3:
        return word
    word = _without_plural(word)
    if _is_gerund(word):
        word = re.sub(r"^(.)y$", r"\1ie", word[:-3])  # tying, dying, lying
        word = _bare(word)
    elif word.endswith("ied") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith("ed") and not word.endswith("eed") and re.search("[aeiouy]", word[:-2]):
        word = _bare(word[:-2])
    if word.endswith("e") and not _SHORT.fullmatch(word[:-1]):
        word = word[:-1]
    return word


def _is_gerund(word: str) -> bool:
    # Without a vowel before it, -ing belongs to the word: king, spring, swing.
    return word.endswith("ing") and re.search("[aeiouy]", word[:-3]) is not None


def _without_plural(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes", "zzes")):
        return word[:-2]
    if word.endswith(("ss", "us")) or (word.endswith("is") and len(word) > 4):  # tennis, but skis
        return word
    return word[:-1] if word.endswith("s") and len(word) > 3 else word


def _bare(word: str) -> str:
    """The verb of what stood before -ing or -ed: tapp -> tap, tap -> tape, kick -> kick."""
    if len(word) > 2 and word[-1] == word[-2] and word[-1] not in "aeioulsz":
        return word[:-1]
    return word + "e" if _SHORT.fullmatch(word) else word
