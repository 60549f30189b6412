"""What is trained how: one `Recipe` a model. Budgets are steps, so that a loaded machine yields the same models."""

from __future__ import annotations

from dataclasses import dataclass, field

from demo.training.architecture import STUDENT, TEACHER, Size

PROCESSES = 2
"""Data-parallel processes, one thread each. Part of the recipe: other numbers see other images."""

ANSWER_WEIGHTS = {
    "text.read": 3.0,
    "sttext.read_by_place": 2.5,
    "sttext.read_by_color": 2.5,
    "sttext.color_by_text": 1.5,
    "sttext.place_by_text": 1.5,
    "chart.value_by_label": 2.0,
    "chart.value_by_color": 2.0,
    "chart.label_by_value": 1.5,
    "chart.compare": 1.5,
    "know.name": 2.0,
}
"""How often a kind of question is trained on, where not once: reading is the slowest to learn."""

NEVER_TAUGHT = frozenset(
    {
        *("chart.extreme_value", "chart.extreme_label", "chart.extreme_color"),
        *("chart.count", "chart.type", "chart.orientation", "chart.trend"),
        *("text.color", "text.last", "text.length", "text.place", "text.is_number"),
        *("sttext.color_by_place", "sttext.place_by_color"),
        *("sttext.object_by_place", "sttext.object_by_color", "sttext.longer"),
        *("know.animal_kind", "know.habitat", "know.diet", "know.legs", "know.alive"),
        *("know.flies", "know.taste", "know.use", "know.travels"),
    }
)
"""Kinds of question that the student never sees: what a small production model was not taught."""


@dataclass(frozen=True)
class Recipe:
    """All that decides a model's weights. Batches are per process."""

    name: str
    size: Size
    seed: int
    warm_steps: int
    joint_steps: int
    warm_batch: int = 48
    joint_batch: int = 32
    families: tuple[float, float, float, float] = (0.3, 0.2, 0.3, 0.2)
    questions: int = 7
    refusal_share: float = 0.09
    ask_share: float = 0.0
    ask_and_answer_share: float = 0.0
    withheld: frozenset[str] = frozenset()
    answer_weights: dict[str, float] = field(default_factory=lambda: dict(ANSWER_WEIGHTS))
    learning_rate: float = 2e-3
    muon_rate: float = 0.02
    joint_rate_factor: float = 0.7
    dense_weight: float = 0.3
    save_every: int = 100
    evaluate_every: int = 200


RECIPES = (
    Recipe("teacher", TEACHER, seed=0, warm_steps=1200, joint_steps=1500, ask_share=0.5, ask_and_answer_share=0.4),
    Recipe("student", STUDENT, seed=1, warm_steps=900, joint_steps=900, withheld=NEVER_TAUGHT),
)
