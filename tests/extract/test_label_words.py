"""Names as words: forms of one word are one, and different words stay different."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mastaf.extract.labels.label_words import phrase_of, stem

# Forms of one word a line.
FORMS = """
dive dives diving dived
smoke smokes smoking smoked
run runs running
sit sits sitting
kick kicks kicking kicked
ski skis skiing
fence fences fencing fenced
dance dances dancing danced
juggle juggles juggling juggled
massage massages massaging
carry carries carrying carried
tie ties tying tied
die dies dying died
dye dyeing
use uses using used
ice icing
swing swings swinging
spring springs
candle candles
glass glasses
dish dishes
axe axes
horse horses
nose noses
shoe shoes
potato potatoes
party parties
gymnastics gymnastic
tap taps tapping tapped
tape tapes taping taped
plan plans planning planned
plane planes planing
kiss kisses kissing kissed
fall falls falling
buzz buzzes buzzing
feed feeds feeding
play plays playing played
row rows rowing
box boxes boxing boxed
canoe canoes canoeing
eye eyes
see sees seeing
sky
king kings
sled sleds
driver drivers
organ organs
organize organizes organizing
push pushes pushing
""".strip().splitlines()


@pytest.mark.parametrize("forms", FORMS)
def test_forms_of_a_word_are_one(forms):
    assert len({stem(form) for form in forms.split()}) == 1


def test_different_words_stay_different():
    stems = [stem(forms.split()[0]) for forms in FORMS]
    assert len(set(stems)) == len(stems)


@given(st.text(max_size=20))
def test_any_text_has_a_stem(word):
    assert bool(stem(word)) == bool(word)
    assert len(stem(word)) <= len(word) + 1


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("BlowingCandles", "blowing out candles"),
        ("HandstandPushups", "handstand pushups"),
        ("brush_hair", "brushing hair"),
        ("brush-hair", "Brushing the hair!"),
        ("CleanAndJerk", "clean and jerk"),
        ("BMXRiding", "bmx riding"),
        ("watchingTV", "watching TV"),
        ("fencing (sport)", "Fencing"),
        ("throwing ball (not baseball or American football)", "throw_ball"),
        ("massaging person's head", "HeadMassage"),
        ("person collecting garbage", "collecting garbage"),
        ("cafe\u0301 visit", "Caf\u00e9Visit"),
        ("[something] falling", "something falling"),
    ],
)
def test_spellings_have_the_same_words(name, like):
    assert set(phrase_of(name).words) == set(phrase_of(like).words)


@pytest.mark.parametrize(("name", "words"), [("over and out", 3), ("person", 1), ("(not)", 0), ("!?", 0), ("", 0)])
def test_words_are_left_out_only_where_others_are_there(name, words):
    assert len(phrase_of(name).words) == words


def test_a_push_up_is_no_push():
    assert set(phrase_of("push up").words) != set(phrase_of("pushing").words)


@given(st.text(max_size=60))
def test_any_name_has_words(name):
    phrase = phrase_of(name)
    assert len(phrase.words) == len(phrase.gerunds)
    assert all(phrase.words)
    assert phrase_of(name.replace(" ", "_")).words == phrase_of(name.replace("_", " ")).words
