"""What is trained and how: one `Recipe` per model. Budgets are in steps, so a loaded machine yields the same models."""

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
"""How often a kind of question is trained on if not once: reading is learned most slowly."""

FOCUS_FAMILIES = (0.36, 0.13, 0.37, 0.14)
FOCUS_WEIGHTS = {
    **{"sttext.read_by_color": 4.0, "sttext.place_by_color": 2.5, "sttext.object_by_color": 2.0},
    **{"sttext.color_by_text": 3.0, "sttext.place_by_text": 3.0, "sttext.longer": 2.0, "sttext.same": 1.5},
    **{"chart.value_by_label": 4.0, "chart.value_by_color": 4.0, "chart.compare": 3.0, "chart.trend": 3.0},
    **{"chart.color": 2.0, "chart.extreme_color": 2.0, "chart.color_by_value": 0.5},
    **{"chart.type": 0.3, "chart.orientation": 0.3},
    **{"text.read": 3.0, "text.first": 2.0, "text.last": 2.0, "text.length": 1.5},
    **{"know.name": 3.0, "know.count": 2.0, "know.habitat": 2.0, "know.travels": 2.0, "know.diet": 1.5},
}
"""The same for the next stage: finding one of several things by its colour or its text needs the most examples."""

LOOKUP_WEIGHTS = {
    **{"chart.value_by_label": 6.0, "chart.value_by_color": 6.0, "chart.compare": 5.0, "chart.color": 4.0},
    **{"chart.trend": 2.0, "chart.label_by_value": 1.0, "chart.extreme_value": 1.0, "chart.extreme_color": 1.0},
    **{"chart.type": 0.2, "chart.orientation": 0.2, "chart.count": 0.3, "chart.color_by_value": 1.0},
    **{"sttext.read_by_color": 6.0, "sttext.place_by_color": 5.0, "sttext.place_by_text": 5.0, "sttext.same": 3.0},
    **{"sttext.longer": 2.0, "sttext.color_by_text": 1.5, "sttext.color_by_place": 0.5},
    **{"sttext.object_by_place": 0.4, "sttext.object_by_color": 0.7},
    **{"text.read": 3.0, "text.first": 2.0, "text.last": 2.0, "know.name": 3.0, "know.count": 2.0, "know.diet": 1.5},
}
CHART_WEIGHTS = {
    **{"chart.value_by_label": 10.0, "chart.value_by_color": 10.0, "chart.color": 3.0, "chart.compare": 2.0},
    **{"chart.extreme_value": 0.2, "chart.extreme_label": 0.2, "chart.extreme_color": 0.2, "chart.count": 0.1},
    **{"chart.type": 0.1, "chart.orientation": 0.1, "chart.trend": 0.3, "chart.label_by_value": 0.3},
    **{"chart.color_by_value": 0.3},
}
COLOR_WEIGHTS = LOOKUP_WEIGHTS | {"chart.value_by_color": 12.0, "chart.compare": 8.0, "chart.color": 8.0}
VALUE_WEIGHTS = CHART_WEIGHTS | {"chart.value_by_color": 14.0, "chart.value_by_label": 3.0, "chart.color": 2.0}
FINISH_WEIGHTS = FOCUS_WEIGHTS | {"chart.value_by_color": 6.0, "chart.value_by_label": 2.0, "sttext.read_by_place": 2.0}
COLOR_LOOKUP_WEIGHTS = FINISH_WEIGHTS | {
    **{"sttext.read_by_color": 14.0, "sttext.color_by_text": 6.0, "chart.value_by_color": 12.0, "chart.color": 8.0},
}
ONLY_COLOR_WEIGHTS = {
    **{"sttext.read_by_color": 40.0, "chart.value_by_color": 40.0, "sttext.color_by_text": 4.0, "chart.color": 4.0},
}

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
class Stage:
    """A stretch of training with an optimizer of its own: rate up over ``warmup``, flat to ``hold``, then down to 0
    at step ``zero`` (``steps`` if not given).

    ``warm`` stages train the vision tower on dense labels alone, the others train everything on questions, with
    ``dense_weight`` times the dense loss on top, falling to nothing at step ``dense_until``. ``link_words``: see
    `demo.training.words`; ``soften``: factor of the language model's attention scores at the start, see
    `demo.training.train.soften_attention`; ``rounded``: the stage starts from weights as they are exported.
    ``explained``: for how many questions about each image the reason of the answer is learned too. Batches are per
    process.
    """

    name: str
    steps: int
    warmup: int
    hold: int
    batch: int = 32
    rate: float = 0.7
    families: tuple[float, float, float, float] = (0.3, 0.2, 0.3, 0.2)
    answer_weights: dict[str, float] = field(default_factory=lambda: dict(ANSWER_WEIGHTS))
    refusal_share: float = 0.09
    ask_share: float = 0.0
    ask_and_answer_share: float = 0.0
    explained: int = 0
    dense_weight: float = 0.3
    dense_until: int = 0
    link_words: bool = False
    zero: int = 0
    soften: float = 1.0
    rounded: bool = False

    @property
    def is_warm(self) -> bool:
        return self.name == "warm"

    def rate_factor(self, step: int) -> float:
        """Factor of the learning rates in step ``step`` (0, 1, ...)."""
        done = step + 1
        zero = self.zero or self.steps
        falling = 1.0 if done <= self.hold else (zero - done) / (zero - self.hold)
        return self.rate * min(1.0, done / self.warmup) * falling

    def dense_factor(self, step: int) -> float:
        """Weight of the dense loss in step ``step`` of a stage that is not ``warm``."""
        return self.dense_weight * max(0.0, 1 - step / self.dense_until) if self.dense_until else 0.0


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a model's weights."""

    name: str
    size: Size
    seed: int
    stages: tuple[Stage, ...]
    questions: int = 7
    withheld: frozenset[str] = frozenset()
    learning_rate: float = 2e-3
    muon_rate: float = 0.02
    save_every: int = 100
    evaluate_every: int = 200


RECIPES = (
    Recipe(
        "teacher",
        TEACHER,
        seed=0,
        stages=(
            Stage("warm", steps=1200, warmup=36, hold=540, batch=48, rate=1.0),
            Stage("joint", 500, 45, 500, ask_share=0.5, ask_and_answer_share=0.4, dense_until=1250),
            Stage(
                "focus",
                600,
                20,
                300,
                zero=800,
                families=FOCUS_FAMILIES,
                answer_weights=FOCUS_WEIGHTS,
                ask_share=0.3,
                ask_and_answer_share=0.2,
                dense_weight=0.15,
                dense_until=600,
                link_words=True,
            ),
            Stage(
                "lookup",
                500,
                15,
                200,
                rate=0.45,
                families=(0.44, 0.08, 0.4, 0.08),
                answer_weights=LOOKUP_WEIGHTS,
                refusal_share=0.06,
                ask_share=0.15,
                ask_and_answer_share=0.1,
            ),
            Stage(
                "charts",
                120,
                10,
                120,
                rate=0.4,
                families=(0.7, 0.08, 0.14, 0.08),
                answer_weights=CHART_WEIGHTS,
                refusal_share=0.0,
                ask_share=0.05,
                ask_and_answer_share=0.05,
                soften=0.4,
            ),
            Stage(
                "finish",
                280,
                10,
                80,
                rate=0.4,
                families=(0.4, 0.17, 0.25, 0.18),
                answer_weights=LOOKUP_WEIGHTS,
                ask_share=0.4,
                ask_and_answer_share=0.25,
            ),
            Stage(
                "colors",
                300,
                10,
                120,
                rate=0.35,
                families=(0.55, 0.1, 0.22, 0.13),
                answer_weights=COLOR_WEIGHTS,
                ask_share=0.3,
                ask_and_answer_share=0.2,
                soften=0.5,
            ),
            Stage(
                "values",
                160,
                10,
                160,
                rate=0.4,
                families=(0.7, 0.08, 0.14, 0.08),
                answer_weights=VALUE_WEIGHTS,
                refusal_share=0.0,
                ask_share=0.05,
                ask_and_answer_share=0.05,
                soften=0.4,
            ),
            Stage(
                "settle",
                300,
                10,
                100,
                rate=0.4,
                families=(0.46, 0.14, 0.24, 0.16),
                answer_weights=COLOR_WEIGHTS,
                ask_share=0.4,
                ask_and_answer_share=0.25,
            ),
            Stage(
                "explain",
                500,
                10,
                150,
                rate=0.3,
                families=(0.42, 0.15, 0.26, 0.17),
                answer_weights=COLOR_WEIGHTS,
                ask_share=0.4,
                ask_and_answer_share=0.25,
                explained=3,
                rounded=True,
            ),
        ),
    ),
    Recipe(
        "student",
        STUDENT,
        seed=1,
        withheld=NEVER_TAUGHT,
        stages=(
            Stage("warm", steps=900, warmup=27, hold=405, batch=48, rate=1.0),
            Stage("joint", 900, 27, 405, dense_until=750),
            Stage("focus", 400, 20, 150, families=FOCUS_FAMILIES, answer_weights=FOCUS_WEIGHTS, link_words=True),
            Stage(
                "finish",
                300,
                15,
                60,
                rate=0.5,
                families=FOCUS_FAMILIES,
                answer_weights=FINISH_WEIGHTS,
                refusal_share=0.0,
            ),
            Stage(
                "soften",
                200,
                10,
                60,
                rate=0.4,
                families=FOCUS_FAMILIES,
                answer_weights=FINISH_WEIGHTS,
                refusal_share=0.0,
                soften=0.5,
            ),
            Stage(
                "lookup",
                300,
                10,
                140,
                rate=0.45,
                families=(0.34, 0.12, 0.42, 0.12),
                answer_weights=COLOR_LOOKUP_WEIGHTS,
                refusal_share=0.0,
                soften=0.5,
            ),
            Stage(
                "colors",
                300,
                10,
                300,
                rate=0.5,
                families=(0.34, 0.08, 0.5, 0.08),
                answer_weights=ONLY_COLOR_WEIGHTS,
                refusal_share=0.0,
                soften=0.4,
            ),
            Stage(
                "settle",
                200,
                10,
                60,
                rate=0.4,
                families=FOCUS_FAMILIES,
                answer_weights=COLOR_LOOKUP_WEIGHTS,
                refusal_share=0.0,
            ),
        ),
    ),
)
