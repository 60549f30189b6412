"""Official metrics, each ``(prediction, answers) -> float`` in 0-1, equal to the public evaluation code.

Sources. VQA, TextVQA, OK-VQA: facebookresearch/mmf ``m4c_evaluators.py`` (``TextVQAAccuracyEvaluator``). ANLS: the
evaluation script of the Robust Reading Competition (ST-VQA, DocVQA). Relaxed accuracy: google-research/pix2struct
``metrics.py`` (``relaxed_correctness``), the one ChartQA numbers are reported with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from shared.errors import InvalidInput
from shared.vqa.evalai import normalise_evalai

MetricName = Literal["vqa", "anls", "relaxed", "exact"]
Metric = Callable[[str, list[str]], float]
METRIC_NAMES: tuple[str, ...] = get_args(MetricName)

ANSWERS_FOR_FULL_SCORE = 3
ANLS_THRESHOLD = 0.5
RELATIVE_TOLERANCE = 0.05


def vqa_accuracy(prediction: str, answers: list[str]) -> float:
    """Mean over the answers of min(1, matches among the *other* answers / 3), after EvalAI normalisation.

    The public evaluator insists on ten answers; with another number its formula is applied as it stands, so that fewer
    than four answers cannot reach 1 and a single one always scores 0. Prediction and answers are always normalised (the
    older VQA v2 script skips that where all answers agree). Raises InvalidInput without answers.
    """
    _require(answers)
    wanted = normalise_evalai(prediction)
    matches = [normalise_evalai(answer) == wanted for answer in answers]
    total = sum(matches)
    if total == 0:
        return 0.0
    scores = [min(1.0, (total - matching) / ANSWERS_FOR_FULL_SCORE) for matching in matches]
    return sum(scores) / len(scores)


def anls(prediction: str, answers: list[str]) -> float:
    """Best normalised Levenshtein similarity over the answers; 0 below 0.5, a similarity of exactly 0.5 counts.

    Distances are between texts in lower case with white space collapsed; lengths, as in the official script, are those
    of the texts as given in upper case ("ß" counts as two). Two empty texts are equal.
    Raises InvalidInput without answers.
    """
    _require(answers)
    similarity = 1.0 - min(_normalised_distance(prediction, answer) for answer in answers)
    return similarity if similarity >= ANLS_THRESHOLD else 0.0


def relaxed_accuracy(prediction: str, answers: list[str]) -> float:
    """1 if any answer is within 5 % (numbers) or equal apart from case (anything else), otherwise 0.

    A trailing "%" divides by 100, so "50%" equals "0.5" and not "50". Kept from the public code: a gold of zero is
    compared as text ("0.0" is wrong for "0"), and only float() decides what a number is ("1,000" and "5 km" are texts).
    Raises InvalidInput without answers.
    """
    _require(answers)
    return float(any(_relaxed(prediction, answer) for answer in answers))


def exact_match(prediction: str, answers: list[str]) -> float:
    """1 if an answer equals the prediction apart from case, white space and a closing period.

    Raises InvalidInput without answers.
    """
    _require(answers)
    wanted = plain(prediction)
    return float(any(plain(answer) == wanted for answer in answers))


def metric_for(name: str) -> Metric:
    """The metric of a profile: vqa, anls, relaxed or exact. Raises InvalidInput for any other."""
    metrics: dict[str, Metric] = {
        "vqa": vqa_accuracy,
        "anls": anls,
        "relaxed": relaxed_accuracy,
        "exact": exact_match,
    }
    if name not in metrics:
        raise InvalidInput(f"There is no metric {name!r}: use one of {', '.join(METRIC_NAMES)}.")
    return metrics[name]


def plain(text: str) -> str:
    """Lower case, white space collapsed, without a closing period."""
    collapsed = " ".join(text.lower().split())
    return collapsed[:-1].rstrip() if collapsed.endswith(".") and collapsed != "." else collapsed


def _require(answers: list[str]) -> None:
    if not answers:
        raise InvalidInput("The list of gold answers is empty: a metric needs at least one answer to compare with.")


def _normalised_distance(prediction: str, answer: str) -> float:
    longest = max(len(prediction.upper()), len(answer.upper()))
    if longest == 0:
        return 0.0
    return levenshtein(" ".join(prediction.lower().split()), " ".join(answer.lower().split())) / longest


def levenshtein(a: str, b: str) -> int:
    """The number of insertions, deletions and substitutions between two texts."""
    if len(a) < len(b):
        a, b = b, a
    row = list(range(len(b) + 1))
    for i, char in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (char != other))
    return row[-1]


def _relaxed(prediction: str, target: str) -> bool:
    predicted, gold = _number(prediction), _number(target)
    if predicted is not None and gold:
        return abs(predicted - gold) / abs(gold) <= RELATIVE_TOLERANCE
    return prediction.lower() == target.lower()


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100.0 if text.endswith("%") else float(text)
    except ValueError:
        return None
