"""Refusals in the major languages are told from short answers and from texts that begin like refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidInput
from shared.vqa.reading.refusals import BUILT_IN, comparable, declines
from shared.vqa.tasks import load_profiles

TEXTVQA = load_profiles()["textvqa"]
DECLINED, ANSWERED = (
    yaml.safe_load(Path(__file__).with_name(name).read_text(encoding="utf-8"))
    for name in ("declined.yaml", "answered.yaml")
)
"""Texts by language."""


@pytest.mark.parametrize("language", DECLINED)
def test_refusals(language: str) -> None:
    texts = [variant for text in DECLINED[language] for variant in (text, text.upper(), f" {text} ")]
    assert [text for text in texts if not TEXTVQA.is_refusal(text)] == []


@pytest.mark.parametrize("language", ANSWERED)
def test_answers(language: str) -> None:
    assert [text for text in ANSWERED[language] if TEXTVQA.is_refusal(text)] == []


def test_a_profile_replaces_or_extends_the_built_in_patterns() -> None:
    own = replace(TEXTVQA, refusals=("no idea", "/keine? (?:ahnung|angabe)/"))
    assert own.is_refusal("No idea, sorry") and own.is_refusal("Keine Ahnung!")
    assert not own.is_refusal("I cannot see it")
    both = replace(own, refusals=(*own.refusals, BUILT_IN))
    assert both.is_refusal("Keine Ahnung!") and both.is_refusal("I cannot see it")


def test_a_task_file_names_patterns_and_bad_ones_are_refused(tmp_path: Path) -> None:
    def load(refusals: list[str]) -> bool:
        prompts = {"ask": "a", "ask_and_answer": "b", "answer": "{question}"}
        task = {"name": "signs", "metric": "exact", "prompts": prompts, "refusals": refusals}
        (tmp_path / "tasks.yaml").write_text(yaml.safe_dump({"tasks": [task]}))
        return load_profiles(tmp_path / "tasks.yaml")["signs"].is_refusal("Weiss der Geier")

    assert load([BUILT_IN, "/wei(?:ss|ß) der/"]) and not load([BUILT_IN])
    with pytest.raises(InvalidInput, match=r"refusals\.0.*not a regular expression"):
        load(["/(/"])


@given(st.text(max_size=80))
def test_any_text_is_judged(text: str) -> None:
    assert declines(text, (BUILT_IN,)) in (True, False)
    assert comparable(comparable(text)) == comparable(text)


@given(st.from_regex(r"[0-9]{1,6}([.,][0-9]{1,3})?( ?(km|%|cm|USD|kg))?", fullmatch=True))
def test_no_number_is_a_refusal(text: str) -> None:
    assert not declines(text, (BUILT_IN,))


@pytest.mark.timeout(10)
@pytest.mark.parametrize("text", ["the " * 5000, "i cannot " * 2000, "ich kann " * 2000, "无法" * 5000, " " * 50_000])
def test_hostile_texts_are_judged_in_little_time(text: str) -> None:
    declines(text, (BUILT_IN,))
