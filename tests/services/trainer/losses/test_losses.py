"""The loss's terms against their definitions, and their gradients against finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from services.trainer.losses import IGNORE, PLAIN, Predictions, TargetKind, Term, TopTokens, alignment_loss, terms_of
from services.trainer.losses.answer import answer_cross_entropy
from services.trainer.losses.attention import attention_divergence, jensen_shannon
from services.trainer.losses.candidates import candidate_divergence, vote_shares
from services.trainer.losses.rationale import rationale_cross_entropy
from services.trainer.losses.top_k import bucket_divergence, top_k_divergence
from services.trainer.losses.weights import LEAST, MOST, pair_weights
from shared.contracts import Discrepancy, LossSpec


def predictions(logits: Tensor, labels: Tensor, **more: object) -> Predictions:
    """One answer row a sample, unless said otherwise."""
    rows = len(labels)
    values: dict[str, object] = {
        "sample": torch.arange(rows),
        "kind": torch.full((rows,), int(TargetKind.ANSWER)),
        "is_replay": torch.zeros(rows, dtype=torch.bool),
        "weights": torch.ones(rows),
    }
    return Predictions(logits, labels, **{**values, **more})  # type: ignore[arg-type]


def check_gradient(loss: Callable[[Tensor], Tensor], logits: Tensor) -> None:
    """Autograd's gradient of a scalar against central differences, in float64."""
    assert torch.autograd.gradcheck(loss, (logits.double().requires_grad_(True),), eps=1e-6, atol=1e-7, rtol=1e-5)


def test_cross_entropy_is_the_mean_over_answer_tokens() -> None:
    logits = torch.zeros(2, 3, 4)
    logits[0, 1, 2] = math.log(3)
    labels = torch.tensor([[IGNORE, 2, 0], [1, IGNORE, IGNORE]])
    found = answer_cross_entropy(predictions(logits, labels))
    assert found.tolist() == pytest.approx([(math.log(2) + math.log(4)) / 2, math.log(4)])


def test_a_long_answer_counts_as_much_as_a_short_one() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 6, 5)
    labels = torch.full((2, 6), IGNORE)
    labels[0], labels[1, 0] = torch.tensor([0, 1, 2, 3, 4, 0]), 2
    single = [alignment_loss(predictions(logits[i : i + 1], labels[i : i + 1]))[0] for i in range(2)]
    assert alignment_loss(predictions(logits, labels))[0].item() == pytest.approx(sum(x.item() for x in single) / 2)


def test_terms_add_up_with_their_weights() -> None:
    logits, labels = torch.randn(3, 2, 5), torch.tensor([[1, 2], [3, IGNORE], [0, 4]])
    made = predictions(logits, labels)
    plain, means = alignment_loss(made)
    assert means == {"answer": pytest.approx(plain.item())}
    twice, both = alignment_loss(made, (*PLAIN, Term("more", 0.5, answer_cross_entropy)))
    assert twice.item() == pytest.approx(1.5 * plain.item())
    assert both["more"] == pytest.approx(plain.item())


def test_sample_weights_scale_samples() -> None:
    logits, labels = torch.randn(2, 2, 5), torch.tensor([[1, 2], [3, 4]])
    only_first = predictions(logits, labels, weights=torch.tensor([2.0, 0.0]))
    expected = answer_cross_entropy(predictions(logits, labels))[0].item()
    assert alignment_loss(only_first)[0].item() == pytest.approx(expected)


def test_terms_of_weight_zero_are_left_out() -> None:
    assert [term.name for term in terms_of(LossSpec())] == ["answer"]
    every = terms_of(LossSpec(consistency=0.1, rationale=0.2, attention=0.3))
    assert [(term.name, term.weight) for term in every] == [
        ("answer", 1.0),
        ("consistency", 0.1),
        ("rationale", 0.2),
        ("attention", 0.3),
    ]


def test_weights_that_alter_a_gradient_scale_it() -> None:
    labels, logits = torch.tensor([[1, 2], [3, 4]]), torch.randn(2, 2, 5, requires_grad=True)
    (plain,) = torch.autograd.grad(alignment_loss(predictions(logits, labels))[0], logits)
    heavy = predictions(logits, labels, weights=torch.tensor([3.0, 0.5]))
    (weighed,) = torch.autograd.grad(alignment_loss(heavy)[0], logits)
    assert torch.allclose(weighed, plain * torch.tensor([3.0, 0.5])[:, None, None])


def test_half_precision_logits_give_single_precision_losses() -> None:
    labels = torch.tensor([[1, 2], [3, 0], [0, 4]])
    rows = {
        "sample": torch.tensor([0, 0, 1]),
        "kind": torch.tensor([TargetKind.ANSWER, TargetKind.CANDIDATE, TargetKind.ANSWER]),
    }
    made = predictions(
        torch.randn(3, 2, 5).bfloat16(),
        labels,
        **rows,
        is_replay=torch.zeros(2),
        weights=torch.ones(2),
        shares=torch.tensor([0.7, 0.3, math.nan]),
        top=TopTokens(torch.zeros(3, 2, 1, dtype=torch.long), torch.full((3, 2, 1), -0.5)),
        teacher_maps=torch.rand(2, 4),
        student_maps=torch.rand(2, 4).bfloat16(),
    )
    every = terms_of(LossSpec(consistency=0.1, rationale=0.2, attention=0.3))
    assert all(term.compute(made).dtype == torch.float32 for term in every)
    assert torch.isfinite(alignment_loss(made, every)[0])


def test_the_gradient_of_cross_entropy() -> None:
    labels = torch.tensor([[IGNORE, 2], [1, 0]])
    check_gradient(lambda x: alignment_loss(predictions(x, labels))[0], torch.randn(2, 2, 4))


def test_a_rationale_is_its_samples_and_no_answer() -> None:
    logits, labels = torch.randn(3, 2, 5), torch.tensor([[1, 2], [3, 0], [0, 4]])
    rows = {
        "sample": torch.tensor([0, 0, 1]),
        "kind": torch.tensor([TargetKind.ANSWER, TargetKind.RATIONALE, TargetKind.ANSWER]),
    }
    made = predictions(logits, labels, **rows, is_replay=torch.zeros(2), weights=torch.ones(2))
    expected = answer_cross_entropy(predictions(logits, labels))
    assert rationale_cross_entropy(made).tolist() == pytest.approx([expected[1].item(), 0.0])
    assert answer_cross_entropy(made).tolist() == pytest.approx([expected[0].item(), expected[2].item()])
    check_gradient(
        lambda x: rationale_cross_entropy(predictions(x, labels, **rows, is_replay=torch.zeros(2))).sum(), logits
    )


def full_divergence(teacher: Tensor, student: Tensor) -> Tensor:
    return (teacher.exp() * (teacher - student)).sum(-1)


def test_top_k_of_the_whole_vocabulary_is_the_full_divergence() -> None:
    torch.manual_seed(1)
    teacher, student = torch.randn(4, 6).log_softmax(-1), torch.randn(4, 6)
    ids = torch.arange(6).expand(4, 6)
    found = bucket_divergence(student, ids, teacher)
    assert torch.allclose(found, full_divergence(teacher, student.log_softmax(-1)), atol=1e-4)


@given(st.integers(1, 7), st.integers(0, 10_000))
def test_buckets_bound_the_full_divergence_from_below_and_vanish_at_the_teacher(k: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    teacher = (3 * torch.randn(3, 8, generator=generator)).log_softmax(-1)
    student = 3 * torch.randn(3, 8, generator=generator)
    top = teacher.topk(k, -1)
    found = bucket_divergence(student, top.indices, top.values)
    assert (found >= -1e-4).all()
    assert (found <= full_divergence(teacher, student.log_softmax(-1)) + 1e-4).all()
    assert bucket_divergence(teacher, top.indices, top.values).abs().max() < 1e-4


def test_the_tail_is_pulled_as_a_whole_and_not_in_its_parts() -> None:
    teacher = torch.tensor([[0.5, 0.2, 0.2, 0.1]]).log()
    ids, values = torch.tensor([[0, 1]]), teacher[:, :2]
    spread_otherwise = torch.tensor([[0.5, 0.2, 0.05, 0.25]]).log()
    assert bucket_divergence(spread_otherwise, ids, values).item() == pytest.approx(0.0, abs=1e-6)
    renormalised = torch.tensor([[5 / 7, 2 / 7, 1e-9, 1e-9]]).log()
    assert bucket_divergence(renormalised, ids, values).item() > 1.0


def test_padding_of_alternatives_counts_for_nothing() -> None:
    logits = torch.randn(1, 5)
    ids, values = torch.tensor([[3, 1]]), torch.tensor([[-0.3, -2.0]])
    padded = torch.tensor([[3, 1, 0, 0]]), torch.tensor([[-0.3, -2.0, -math.inf, -math.inf]])
    assert torch.allclose(bucket_divergence(logits, ids, values), bucket_divergence(logits, *padded))


def test_the_gradient_of_top_k() -> None:
    torch.manual_seed(2)
    labels = torch.tensor([[IGNORE, 2, 1], [1, IGNORE, IGNORE]])
    teacher = torch.randn(2, 3, 6).log_softmax(-1).topk(3, -1)
    values = teacher.values.clone()
    values[0, 2] = -math.inf  # a position that the teacher said nothing of
    top = TopTokens(teacher.indices, values)
    check_gradient(lambda x: top_k_divergence(predictions(x, labels, top=top)).sum(), torch.randn(2, 3, 6))


def test_the_gradient_of_the_buckets_is_that_of_the_summed_tail() -> None:
    """q - p for a listed token; for the others their part of the tail's q - p."""
    torch.manual_seed(4)
    logits = torch.randn(1, 6, dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([[0.6, 0.3]], dtype=torch.float64)
    bucket_divergence(logits, torch.tensor([[4, 1]]), teacher.log()).sum().backward()
    student = logits.detach().softmax(-1)[0]
    listed = torch.zeros(6, dtype=torch.float64)
    listed[[4, 1]] = teacher[0]
    others = torch.tensor([True, False, True, True, False, True])
    expected = torch.where(others, student - 0.1 * student / student[others].sum(), student - listed)
    assert torch.allclose(logits.grad[0], expected)  # type: ignore[index]


@pytest.mark.parametrize("lead", [5.0, 20.0, 60.0])
def test_a_student_whose_tail_is_tiny_is_still_pulled_to_the_teachers(lead: float) -> None:
    logits = torch.tensor([[lead, 0.0, 0.0]], requires_grad=True)
    loss = bucket_divergence(logits, torch.tensor([[0]]), torch.tensor([[math.log(0.5)]])).sum()
    loss.backward()
    tail = math.log(2) - math.log(math.exp(lead) + 2)
    head = lead - math.log(math.exp(lead) + 2)
    assert loss.item() == pytest.approx(-math.log(2) - 0.5 * (head + tail), rel=1e-5)
    assert logits.grad[0, 0].item() == pytest.approx(0.5, abs=0.02)  # type: ignore[index]


def test_a_teacher_without_a_tail_over_the_whole_vocabulary_gives_finite_gradients() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    loss = bucket_divergence(logits, torch.arange(3).expand(2, 3), torch.randn(2, 3).log_softmax(-1)).sum()
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()  # type: ignore[arg-type]


def candidate_rows(logits: Tensor) -> Predictions:
    """Sample 0 with three candidates of one or two tokens, sample 1 with none."""
    labels = torch.tensor([[1, IGNORE], [2, 0], [3, IGNORE], [1, 2]])
    return predictions(
        logits,
        labels,
        sample=torch.tensor([0, 0, 0, 1]),
        kind=torch.tensor([TargetKind.ANSWER, TargetKind.CANDIDATE, TargetKind.CANDIDATE, TargetKind.ANSWER]),
        is_replay=torch.zeros(2, dtype=torch.bool),
        weights=torch.ones(2),
        shares=torch.tensor([0.6, 0.3, 0.1, math.nan]),
    )


def test_candidates_are_compared_by_their_sequence_probabilities() -> None:
    torch.manual_seed(3)
    logits = torch.randn(4, 2, 5)
    logprobs = logits.log_softmax(-1)
    whole = torch.stack([logprobs[0, 0, 1], logprobs[1, 0, 2] + logprobs[1, 1, 0], logprobs[2, 0, 3]])
    shares = torch.tensor([0.6, 0.3, 0.1])
    expected = (shares * (shares.log() - whole.log_softmax(0))).sum()
    assert candidate_divergence(candidate_rows(logits)).tolist() == pytest.approx([expected.item(), 0.0], abs=1e-5)


def test_the_gradient_of_candidates() -> None:
    check_gradient(lambda x: candidate_divergence(candidate_rows(x)).sum(), torch.randn(4, 2, 5))


def test_vote_shares_hold_the_answer_the_votes_and_what_the_student_said() -> None:
    shares = vote_shares("Red", ["red", "dark red", "red "], "blue")
    assert list(shares) == ["Red", "blue", "dark red"]
    assert shares["Red"] == pytest.approx(3.1 / 4.3)
    assert shares["blue"] == pytest.approx(0.1 / 4.3)
    assert vote_shares("red", ["red"], "RED") == {"red": 1.0}


@given(st.text(min_size=1, max_size=5), st.lists(st.text(max_size=5), max_size=16), st.none() | st.text(max_size=5))
def test_vote_shares_are_a_distribution(answer: str, votes: list[str], student: str | None) -> None:
    shares = vote_shares(answer, votes, student)
    assert next(iter(shares)) == answer
    assert 1 <= len(shares) <= 4
    assert sum(shares.values()) == pytest.approx(1.0)
    assert all(value > 0 for value in shares.values())


def test_jensen_shannon_is_zero_for_equal_maps_and_one_for_disjoint_ones() -> None:
    one = torch.tensor([[0.5, 0.5, 0.0, 0.0]])
    other = torch.tensor([[0.0, 0.0, 0.5, 0.5]])
    assert jensen_shannon(one, one).item() == pytest.approx(0.0, abs=1e-6)
    assert jensen_shannon(one, other).item() == pytest.approx(1.0, abs=1e-5)


def test_samples_without_both_maps_have_no_attention_loss() -> None:
    teacher = torch.tensor([[0.9, 0.1], [math.nan, math.nan]])
    student = torch.tensor([[0.2, 0.8], [0.5, 0.5]])
    made = predictions(
        torch.zeros(2, 1, 3), torch.ones(2, 1, dtype=torch.long), teacher_maps=teacher, student_maps=student
    )
    assert attention_divergence(made).tolist() == pytest.approx([jensen_shannon(teacher, student)[0].item(), 0.0])


def test_the_gradient_of_attention() -> None:
    teacher = torch.rand(2, 6).softmax(-1)

    def loss(x: Tensor) -> Tensor:
        labels = torch.ones(2, 1, dtype=torch.long)
        maps = {"teacher_maps": teacher, "student_maps": x.softmax(-1)}
        return attention_divergence(predictions(torch.zeros(2, 1, 3, dtype=torch.float64), labels, **maps)).sum()

    check_gradient(loss, torch.randn(2, 6))


def test_weights_grow_with_what_they_are_weighed_by() -> None:
    pairs = [{"vote_share": 1.0, "confidence": 0.9}, {"vote_share": 1 / 3, "confidence": 0.1}, {"vote_share": 1.0}]
    by_votes = pair_weights(pairs, ["vote_share"])  # type: ignore[arg-type]
    assert by_votes[0] == by_votes[2] > by_votes[1]
    by_both = pair_weights(pairs, ["vote_share", "confidence"])  # type: ignore[arg-type]
    assert by_both[0] > by_both[2] > by_both[1]


@given(st.lists(st.floats(0, 1) | st.none(), min_size=1, max_size=30))
def test_weights_have_mean_one_and_bounds(values: list[float | None]) -> None:
    weights = pair_weights([{"confidence": value} for value in values], ["confidence"])
    assert sum(weights) / len(weights) == pytest.approx(1.0)
    assert min(weights) >= LEAST and max(weights) <= MOST
    assert pair_weights([{} for _ in values], ["confidence"]) == pytest.approx([1.0] * len(values))


@given(st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=30))
def test_weights_keep_mean_and_bounds_however_far_apart_the_pairs_are(values: list[tuple[float, ...]]) -> None:
    names: list[Discrepancy] = ["vote_share", "confidence", "reasoning", "attention"]
    weights = pair_weights([dict(zip(names, one, strict=True)) for one in values], names)
    assert sum(weights) / len(weights) == pytest.approx(1.0)
    assert min(weights) >= LEAST and max(weights) <= MOST


def test_one_heavy_pair_among_many_light_ones_is_held_at_the_bound() -> None:
    names: list[Discrepancy] = ["vote_share", "confidence"]
    light: dict[Discrepancy, float | None] = {"vote_share": 0.01, "confidence": 0.0}
    heavy: dict[Discrepancy, float | None] = {"vote_share": 1.0, "confidence": 1.0}
    weights = pair_weights([*[light] * 99, heavy], names)
    assert weights[-1] == MOST
    assert weights[0] == pytest.approx(96 / 99)
