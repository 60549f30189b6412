"""The profiles of the four benchmarks, their prompts in our own words after the paper's (arXiv 2509.16633, appendix).

The paper asks the teacher for one question-answer pair about the image in a fixed layout, with hints on what the
benchmark is about, and has every question answered "with a word or a short phrase".
"""

from __future__ import annotations

from shared.vqa.metrics import MetricName
from shared.vqa.profiles import Prompts, TaskProfile

_ANSWER = "{question}\nAnswer with a single word or a short phrase, and nothing else."
_LAYOUT = "Write exactly two lines and nothing else:\nQuestion: <your question>\nAnswer: <its answer>"


def _profile(
    name: str, metric: MetricName, about: str, description: str, answer: str = _ANSWER, max_answer_tokens: int = 24
) -> TaskProfile:
    ask = (
        f"Look at the image and write one question about it. {about} The question must have a single, short, certain "
        "answer, and nobody should be able to answer it without the image. Write the question alone, on one line, "
        "ending in a question mark."
    )
    both = (
        f"Look at the image and write one question about it, together with its answer. {about} The answer must be "
        f"certain, and a single word, a number or a short phrase. {_LAYOUT}"
    )
    return TaskProfile(
        name=name,
        metric=metric,
        prompts=Prompts(ask=ask, ask_and_answer=both, answer=answer),
        max_answer_tokens=max_answer_tokens,
        description=description,
    )


BUILT_IN: tuple[TaskProfile, ...] = (
    _profile(
        "textvqa",
        "vqa",
        "It has to be about text that can be read in the image, such as a brand, a title, a number, a time or what a "
        "sign says.",
        "Reading text in photographs (TextVQA).",
    ),
    _profile(
        "stvqa",
        "anls",
        "It has to be about words or numbers written in the scene, and its answer must be such a text, spelt as it "
        "stands there.",
        "Reading scene text, answered with the text itself (ST-VQA).",
        answer="{question}\nAnswer with the text from the image, in a few words, and nothing else.",
    ),
    _profile(
        "chartqa",
        "relaxed",
        "The image shows a chart or a plot: ask for a value, a label, a colour, a count, a difference, a total or a "
        "comparison.",
        "Reading and reasoning over charts (ChartQA).",
        answer="{question}\nAnswer with a single word, number or short phrase from the chart, and nothing else.",
        max_answer_tokens=20,
    ),
    _profile(
        "okvqa",
        "vqa",
        "It has to be about something the image shows, but need general knowledge that the image does not show, such "
        "as what a thing is for, where it comes from or what it is called.",
        "Questions that need outside knowledge (OK-VQA).",
    ),
)
