from __future__ import annotations

from random import Random

import numpy as np
import pytest

from demo.world.canvas import CHANNELS
from demo.world.generator import draw, false_premise, labelled, pile
from demo.world.pictures import Picture, choose_questions, combination_split
from demo.world.vocabulary import FAMILIES, REFUSAL, SIDE, WORDS, Split


def answers(picture: Picture, kind: str) -> dict[str, str]:
    return {question.text: question.answer for question in picture.questions if question.kind == kind}


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    return list(pile(400, 5, Split.TRAIN))


def test_a_pile_is_the_same_each_time_and_another_seed_gives_another() -> None:
    first, again, other = (list(pile(8, seed, Split.TRAIN)) for seed in (3, 3, 4))
    for one, two in zip(first, again, strict=True):
        assert np.array_equal(one.pixels, two.pixels)
        assert np.array_equal(one.dense, two.dense)
        assert one.questions == two.questions
    assert not all(np.array_equal(one.pixels, two.pixels) for one, two in zip(first, other, strict=True))


def test_a_longer_pile_begins_with_the_shorter_one() -> None:
    short, long = list(pile(4, 3, Split.DEV)), list(pile(8, 3, Split.DEV))
    assert len(short) == 4
    assert all(np.array_equal(one.pixels, two.pixels) for one, two in zip(short, long[:4], strict=True))


def test_families_take_turns_and_shapes_are_as_documented(pictures: list[Picture]) -> None:
    assert [picture.family for picture in pictures[:5]] == [*FAMILIES, FAMILIES[0]]
    for picture in pictures:
        assert picture.pixels.shape == (SIDE, SIDE, 3)
        assert picture.pixels.dtype == np.uint8
        assert picture.dense.shape == (len(CHANNELS), 8, 8)
        for index, classes in enumerate(CHANNELS.values()):
            assert picture.dense[index].max() < classes


def test_there_are_at_least_twenty_kinds_of_question_and_some_in_every_family(pictures: list[Picture]) -> None:
    kinds = {question.kind for picture in pictures for question in picture.questions}
    assert len(kinds) >= 40
    assert {kind.split(".")[0] for kind in kinds} == set(FAMILIES)


def test_no_question_has_two_answers(pictures: list[Picture]) -> None:
    for picture in pictures:
        texts = [question.text for question in picture.questions]
        assert len(texts) == len(set(texts))


def _combinations(split: Split) -> set[tuple[str, str, str]]:
    found = set()
    for picture in pile(600, 1, split, ("text",)):
        (text,) = set(answers(picture, "text.read").values())
        (color,) = answers(picture, "text.color").values()
        (place,) = answers(picture, "text.place").values()
        found.add((text, color, place))
    return found


def test_splits_share_no_combination_of_word_colour_and_height() -> None:
    train, dev, test = (_combinations(split) for split in Split)
    assert min(len(train), len(dev), len(test)) > 100
    assert not train & dev
    assert not train & test
    assert not dev & test


def test_every_combination_has_one_split_and_most_are_for_training() -> None:
    splits = [combination_split(a, b, c) for a in range(20) for b in range(9) for c in range(3)]
    assert set(splits) == set(Split)
    assert 0.7 < splits.count(Split.TRAIN) / len(splits) < 0.9


def test_chart_answers_agree_with_the_values_shown(pictures: list[Picture]) -> None:
    checked = 0
    for picture in pictures:
        by_label = {
            text.removeprefix("what is the value of ").removesuffix("?"): int(answer)
            for text, answer in answers(picture, "chart.value_by_label").items()
            if text.startswith("what")
        }
        if not by_label:
            continue
        checked += 1
        extremes = answers(picture, "chart.extreme_value")
        assert extremes["what is the highest value?"] == str(max(by_label.values()))
        assert extremes["what is the lowest value?"] == str(min(by_label.values()))
        assert set(answers(picture, "chart.count").values()) == {str(len(by_label))}
        for text, answer in answers(picture, "chart.compare").items():
            first, second = text.removeprefix("is ").removesuffix("?").split(" greater than ")
            assert answer == ("yes" if by_label[first] > by_label[second] else "no")
        labels = {answer for text, answer in answers(picture, "chart.extreme_label").items() if "highest" in text}
        assert labels == {max(by_label, key=lambda label: by_label[label])}
    assert checked > 40


def test_text_answers_agree_with_the_text_read(pictures: list[Picture]) -> None:
    for picture in pictures:
        if picture.family != "text":
            continue
        (text,) = set(answers(picture, "text.read").values())
        assert text in WORDS or text.isdigit()
        assert set(answers(picture, "text.first").values()) == {text[0]}
        assert set(answers(picture, "text.last").values()) == {text[-1]}
        assert set(answers(picture, "text.length").values()) == {str(len(text))}
        assert set(answers(picture, "text.is_number").values()) == {"yes" if text.isdigit() else "no"}


def test_scene_text_questions_about_the_same_board_agree(pictures: list[Picture]) -> None:
    for picture in pictures:
        if picture.family != "sttext":
            continue
        for text, color in answers(picture, "sttext.color_by_place").items():
            place = text.removeprefix("what color is the ").removesuffix(" object?")
            assert picture.truth(f"where is the {color} object?") == place
            word = picture.truth(f"what is written on the {place} object?")
            assert picture.truth(f"what is written on the {color} object?") == word
        both = set(answers(picture, "sttext.read_by_place").values())
        assert picture.truth("do both objects say the same?") == ("yes" if len(both) == 1 else "no")


def test_know_counts_the_copies_that_were_pasted() -> None:
    fours = 0
    for picture in pile(40, 2, Split.TRAIN, ("know",)):
        shown = picture.dense[list(CHANNELS).index("object")] > 0
        assert shown.any()
        if picture.truth("how many objects are there?") == "4":
            fours += 1
            assert shown[:4, :4].any()
            assert shown[:4, 4:].any()
            assert shown[4:, :4].any()
            assert shown[4:, 4:].any()
    assert fours > 0


def test_truth_is_the_listed_answer_or_a_refusal(pictures: list[Picture]) -> None:
    picture = pictures[0]
    for question in picture.questions:
        assert picture.truth(question.text) == question.answer
    assert picture.truth("  " + picture.questions[0].text.replace(" ", "  ")) == picture.questions[0].answer
    assert picture.truth("what does the whale sing?") == REFUSAL


def test_false_premises_do_not_apply_to_the_image(pictures: list[Picture]) -> None:
    rng = Random(1)
    found = [false_premise(picture, pictures, rng) for picture in pictures[:40]]
    assert sum(question is not None for question in found) > 30
    for picture, question in zip(pictures, found, strict=False):
        if question is not None:
            assert question.answer == REFUSAL
            assert picture.truth(question.text) == REFUSAL


def test_chosen_questions_differ_and_are_spread_over_the_kinds(pictures: list[Picture]) -> None:
    chosen = [choose_questions(picture.questions, 3, Random(index)) for index, picture in enumerate(pictures)]
    assert all(len({question.text for question in three}) == 3 for three in chosen)
    assert len({question.kind for three in chosen for question in three}) >= 40
    assert choose_questions(pictures[0].questions, 1000, Random(0)) != []
    assert len(choose_questions(pictures[0].questions, 1000, Random(0))) == len(pictures[0].questions)


def test_labelled_examples_are_true(pictures: list[Picture]) -> None:
    examples = labelled(pictures, 9)
    assert len(examples) == 2 * len(pictures)
    assert all(pictures[one.index].truth(one.question.text) == one.question.answer for one in examples)


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(KeyError):
        draw("maps", Random(0), Split.TRAIN)


def test_every_question_has_a_short_rationale_that_goes_beyond_its_prompt(pictures: list[Picture]) -> None:
    for picture in pictures:
        for question in picture.questions:
            assert 3 <= len(question.rationale.split()) <= 12, question
            assert not question.rationale.endswith("."), question


def test_rationales_name_what_the_answer_rests_on(pictures: list[Picture]) -> None:
    kinds = {question.kind for picture in pictures for question in picture.questions}
    assert kinds >= {"chart.compare", "know.name", "know.use", "know.diet", "sttext.same", "text.read"}
    assert kinds >= {"sttext.read_by_place", "chart.value_by_label"}
    for picture in pictures:
        for question in picture.questions:
            if question.kind == "chart.compare":
                (first, one), (second, two) = (part.split(" is ") for part in question.rationale.split(" and "))
                assert question.answer == ("yes" if int(one) > int(two) else "no")
                assert first in question.text
                assert second in question.text
            if question.kind in ("know.name", "know.use", "know.diet"):
                assert question.rationale.startswith(picture.truth("what is this?"))
            if question.kind == "sttext.same":
                words = [part.split(" says ")[1] for part in question.rationale.split(" and ")]
                assert question.answer == ("yes" if words[0] == words[1] else "no")
            if question.kind in ("text.read", "sttext.read_by_place", "chart.value_by_label"):
                assert question.answer in question.rationale
