"""The profiles of the four benchmarks. The prompts are in our words, after the paper's (arXiv 2509.16633, appendix).

The paper asks the teacher for one question-answer pair about the image in a fixed layout, with hints on what the
benchmark is about, and has every question answered "with a word or a short phrase".
"""

from __future__ import annotations

from shared.vqa.agreement import AgreementRule
from shared.vqa.metrics import MetricName
from shared.vqa.profiles import PAIR_SCHEMA, Prompts, TaskProfile

_ANSWER = "{question}\nAnswer with a single word or a short phrase, and nothing else."
_EXPLAIN = (
    "{question}\nThe answer is: {answer}\nWrite one short sentence that says what in the image, or what known fact, "
    "makes this the answer, and nothing else."
)
_CHECK = (
    "{question}\nSomebody answered: {answer}\nLook at the image again. Is that answer right? Answer with yes or no, "
    "and nothing else."
)
_ANSWERABLE = (
    "Somebody was asked this about an image: {question}\nThey replied: {answer}\nDoes that reply give an answer, be it "
    "right or wrong? Say no only if it declines, for example because something is unknown or cannot be seen. Answer "
    "with yes or no, and nothing else."
)
_EXAMPLE = "{example}"
_LINE = "Write the question alone, on one line, ending in a question mark."
_LINE_JSON = 'Write one JSON object and nothing else: {"question": "<your question>"}'
_LAYOUT = "Write exactly two lines and nothing else:\nQuestion: <your question>\nAnswer: <its answer>"
_LAYOUT_JSON = 'Write one JSON object and nothing else: {"question": "<your question>", "answer": "<its answer>"}'


def _profile(
    name: str,
    metric: MetricName,
    about: str,
    description: str,
    answer: str = _ANSWER,
    max_answer_tokens: int = 24,
    agreement: AgreementRule | None = None,
) -> TaskProfile:
    ask = (
        f"Look at the image and write one question about it. {about} The question must have a single, short, certain "
        "answer, and nobody should be able to answer it without the image."
    )
    both = (
        f"Look at the image and write one question about it, together with its answer. {about} The answer must be "
        "certain, and a single word, a number or a short phrase."
    )
    return TaskProfile(
        name=name,
        metric=metric,
        prompts=Prompts(
            ask=f"{ask}{_EXAMPLE} {_LINE}",
            ask_and_answer=f"{both}{_EXAMPLE} {_LAYOUT}",
            answer=answer,
            ask_json=f"{ask}{_EXAMPLE} {_LINE_JSON}",
            ask_and_answer_json=f"{both}{_EXAMPLE} {_LAYOUT_JSON}",
            explain=_EXPLAIN,
            check=_CHECK,
            answerable=_ANSWERABLE,
        ),
        max_answer_tokens=max_answer_tokens,
        description=description,
        agreement=agreement,
        json_schema=PAIR_SCHEMA,
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
        agreement=AgreementRule(any_order=True),
    ),
)
