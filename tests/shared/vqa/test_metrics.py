"""The official metrics: worked cases, among them those of the public code's own tests, and properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidInput
from shared.vqa.metrics import (
    METRIC_NAMES,
    Metric,
    anls,
    exact_match,
    levenshtein,
    metric_for,
    relaxed_accuracy,
    vqa_accuracy,
)

texts = st.text(max_size=24)
answer_lists = st.lists(texts, min_size=1, max_size=12)
metrics = st.sampled_from([vqa_accuracy, anls, relaxed_accuracy, exact_match])


def ten(right: int, answer: str = "red") -> list[str]:
    """Ten answers of which ``right`` are ``answer``."""
    return [answer] * right + [f"other {i}" for i in range(10 - right)]


class TestVqaAccuracy:
    @pytest.mark.parametrize(
        ("right", "score"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (5, 1.0), (9, 1.0), (10, 1.0)]
    )
    def test_leaves_each_of_ten_answers_out_once(self, right: int, score: float) -> None:
        assert vqa_accuracy("red", ten(right)) == pytest.approx(score)

    def test_both_sides_are_normalised(self) -> None:
        answers = ["The two dogs.", "2 dogs", "two dogs!", "a two dogs", *ten(0)[:6]]
        assert vqa_accuracy("2 Dogs", answers) == 1.0

    def test_punctuation_is_processed_even_where_all_answers_agree(self) -> None:
        assert vqa_accuracy("coca-cola", ["Coca Cola"] * 10) == 1.0

    def test_with_another_number_of_answers_the_formula_stands(self) -> None:
        assert vqa_accuracy("red", ["red"]) == 0.0
        assert vqa_accuracy("red", ["red"] * 3) == pytest.approx(2 / 3)
        assert vqa_accuracy("red", ["red"] * 4) == 1.0
        assert vqa_accuracy("red", ["red", "blue", "green"]) == pytest.approx(2 / 9)

    def test_answers_that_are_articles_alone_are_equal(self) -> None:
        assert vqa_accuracy("a", ["the"] * 10) == 1.0, "as the public code has it"


class TestAnls:
    @pytest.mark.parametrize(
        ("prediction", "answers", "score"),
        [
            ("abc", ["abc"], 1.0),
            ("ABC", ["abc"], 1.0),
            ("  abc ", ["abc"], 1.0),
            ("new  york", ["new york"], 1.0),
            ("Don't", ["Won't"], 0.8),
            ("100%", ["96%"], 0.0),
            ("100%", ["0.96"], 0.0),
            ("coca cala", ["coca cola"], 8 / 9),
            ("hello", ["help", "hello world", "hallo"], 0.8),
            ("ab", ["ac"], 0.5),
            ("abc", ["adc"], 2 / 3),
            ("abcde", ["abxyz"], 0.0),
            ("", ["abc"], 0.0),
            ("", [""], 1.0),
            ("3", ["3"], 1.0),
        ],
    )
    def test_worked_cases(self, prediction: str, answers: list[str], score: float) -> None:
        assert anls(prediction, answers) == pytest.approx(score)

    def test_lengths_are_those_of_the_texts_as_given(self) -> None:
        assert anls("abcd  ", ["abxd"]) == pytest.approx(1 - 1 / 6)

    def test_lengths_are_those_in_upper_case(self) -> None:
        assert anls("ß", ["x"]) == 0.5, "one substitution in the two letters of SS, as the official script has it"

    @given(texts, answer_lists)
    def test_nothing_lies_between_zero_and_one_half(self, prediction: str, answers: list[str]) -> None:
        score = anls(prediction, answers)
        assert score == 0.0 or 0.5 <= score <= 1.0


class TestRelaxedAccuracy:
    @pytest.mark.parametrize(
        ("prediction", "answers", "score"),
        [
            ("abc", ["abc"], 1),
            ("Abc", ["abc"], 1),
            ("100%", ["96%"], 1),
            ("100%", ["94%"], 0),
            ("100%", ["0.96"], 1),
            ("100%", ["0.94"], 0),
            ("Don't", ["Won't"], 0),
            ("105", ["100"], 1),
            ("95", ["100"], 1),
            ("105.1", ["100"], 0),
            ("-105", ["-100"], 1),
            ("5", ["-5"], 0),
            ("50", ["50%"], 0),
            ("0.5", ["50%"], 1),
            ("0", ["0"], 1),
            ("0.0", ["0"], 0),
            ("0.01", ["0"], 0),
            ("1e2", ["100"], 1),
            ("1,000", ["1000"], 0),
            ("1,000", ["1,000"], 1),
            ("12 km", ["12"], 0),
            ("2019", ["2020"], 1),
            ("red", ["blue", "RED"], 1),
            ("three", ["3"], 0),
            ("nan", ["nan"], 0),
            (" 7", ["7"], 1),
            (" red", ["red"], 0),
            ("%", ["%"], 1),
        ],
    )
    def test_worked_cases(self, prediction: str, answers: list[str], score: int) -> None:
        assert relaxed_accuracy(prediction, answers) == score

    @given(
        st.floats(min_value=1e-6, max_value=1e6),
        st.floats(min_value=-0.049, max_value=0.049),
    )
    def test_numbers_within_five_percent_are_right(self, gold: float, off: float) -> None:
        assert relaxed_accuracy(repr(gold * (1 + off)), [repr(gold)]) == 1.0
        assert relaxed_accuracy(repr(gold * 1.06), [repr(gold)]) == 0.0


class TestExactMatch:
    @pytest.mark.parametrize(
        ("prediction", "answers", "score"),
        [("STOP", ["stop"], 1), ("a  b.", ["A b"], 1), ("the", ["a"], 0), ("two", ["2"], 0), (".", ["."], 1)],
    )
    def test_worked_cases(self, prediction: str, answers: list[str], score: int) -> None:
        assert exact_match(prediction, answers) == score


class TestAllMetrics:
    @given(metrics, texts, answer_lists)
    def test_scores_lie_between_zero_and_one(self, metric: Metric, prediction: str, answers: list[str]) -> None:
        score = metric(prediction, answers)
        assert isinstance(score, float) and 0.0 <= score <= 1.0

    @given(metrics, texts, answer_lists, st.randoms())
    def test_the_order_of_the_answers_makes_no_difference(
        self, metric: Metric, prediction: str, answers: list[str], random: object
    ) -> None:
        shuffled = sorted(answers, key=lambda _: random.random())  # type: ignore[attr-defined]
        assert metric(prediction, shuffled) == pytest.approx(metric(prediction, answers))

    @given(st.sampled_from([anls, exact_match]), texts)
    def test_the_answer_itself_is_right(self, metric: Metric, answer: str) -> None:
        assert metric(answer, [answer]) == 1.0

    @pytest.mark.parametrize("name", METRIC_NAMES)
    def test_no_answers_are_an_error_that_says_so(self, name: str) -> None:
        with pytest.raises(InvalidInput, match="gold answers is empty"):
            metric_for(name)("red", [])

    def test_each_name_has_its_metric(self) -> None:
        wanted = {"vqa": vqa_accuracy, "anls": anls, "relaxed": relaxed_accuracy, "exact": exact_match}
        assert {name: metric_for(name) for name in METRIC_NAMES} == wanted

    def test_an_unknown_metric_names_those_that_exist(self) -> None:
        with pytest.raises(InvalidInput, match=r"'bleu'.*vqa, anls, relaxed, exact"):
            metric_for("bleu")


class TestLevenshtein:
    @pytest.mark.parametrize(
        ("a", "b", "distance"), [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "abc", 0), ("flaw", "lawn", 2)]
    )
    def test_worked_cases(self, a: str, b: str, distance: int) -> None:
        assert levenshtein(a, b) == levenshtein(b, a) == distance

    @given(texts, texts, texts)
    def test_is_a_metric_between_texts(self, a: str, b: str, c: str) -> None:
        assert (levenshtein(a, b) == 0) == (a == b)
        assert abs(len(a) - len(b)) <= levenshtein(a, b) <= max(len(a), len(b))
        assert levenshtein(a, c) <= levenshtein(a, b) + levenshtein(b, c)
