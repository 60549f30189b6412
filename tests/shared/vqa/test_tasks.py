"""Task profiles: the built-in ones, and custom ones from a file with errors that say where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.errors import InvalidInput
from shared.vqa.agreement import AgreementRule
from shared.vqa.metrics import metric_for
from shared.vqa.profiles import PAIR_SCHEMA
from shared.vqa.tasks import Prompts, TaskProfile, load_profiles

BUILT_IN = {"textvqa": "vqa", "stvqa": "anls", "chartqa": "relaxed", "okvqa": "vqa"}
GOOD: dict[str, Any] = {
    "name": "signs",
    "metric": "exact",
    "prompts": {"ask": "ask.", "ask_and_answer": "ask and answer.", "answer": "{question}"},
}


def write(folder: Path, *tasks: Any, **more: Any) -> Path:
    path = folder / "tasks.yaml"
    path.write_text(yaml.safe_dump({"tasks": list(tasks), **more}))
    return path


class TestBuiltIn:
    def test_the_four_benchmarks_have_their_metrics(self) -> None:
        profiles = load_profiles()
        assert {name: profile.metric for name, profile in profiles.items()} == BUILT_IN
        assert all(profile.name == name for name, profile in profiles.items())

    @pytest.mark.parametrize("name", BUILT_IN)
    def test_the_prompts_ask_for_a_layout_that_the_parser_reads(self, name: str) -> None:
        profile = load_profiles()[name]
        layout = profile.ask_and_answer_prompt().splitlines()[-2:]
        reply = "\n".join(layout).replace("<your question>", "What is it?").replace("<its answer>", "a bus")
        assert profile.parse_pair(reply) == ("What is it?", "a bus")
        assert profile.parse_question("What is it?") == "What is it?"

    @pytest.mark.parametrize("name", BUILT_IN)
    def test_a_question_is_asked_for_a_short_answer(self, name: str) -> None:
        prompt = load_profiles()[name].answer_prompt("What is {this}?")
        assert prompt.startswith("What is {this}?\n") and "and nothing else" in prompt

    def test_profiles_are_values(self) -> None:
        assert load_profiles()["okvqa"] == load_profiles()["okvqa"]
        assert len({*load_profiles().values()}) == 4

    @pytest.mark.parametrize(
        ("answer", "refused"),
        [
            ("unanswerable", True),
            ("Unanswerable.", True),
            ("unanswerable, the image is blurred", True),
            ("Unknown", True),
            ("unknown soldier", False),
            ("I cannot tell from the image", True),
            ("I can’t see it", True),
            ("Sorry, I cannot help with that", True),
            ("I'm sorry, but I can't", True),
            ("not enough information", True),
            ("It is not possible to say", True),
            ("i cannoth", False),
            ("red", False),
            ("no", False),
            ("", False),
        ],
    )
    def test_refusals(self, answer: str, refused: bool) -> None:
        assert load_profiles()["textvqa"].is_refusal(answer) is refused


class TestCustom:
    def test_defaults_are_filled_in_and_the_built_in_ones_stay(self, tmp_path: Path) -> None:
        profiles = load_profiles(write(tmp_path, GOOD))
        assert [*profiles] == [*BUILT_IN, "signs"]
        signs = profiles["signs"]
        assert (signs.metric, signs.parser, signs.json_schema) == ("exact", "tagged", None)
        assert signs.prompts == Prompts("ask.", "ask and answer.", "{question}")
        assert signs.answer_prompt("why?") == "why?" and signs.is_refusal("I cannot say")

    def test_all_fields_are_read(self, tmp_path: Path) -> None:
        more = {
            "description": "Signs.",
            "parser": "json",
            "max_question_tokens": 7,
            "max_answer_tokens": 3,
            "refusals": ["no idea"],
        }
        signs = load_profiles(write(tmp_path, {**GOOD, **more}))["signs"]
        assert (signs.description, signs.max_question_tokens, signs.max_answer_tokens) == ("Signs.", 7, 3)
        assert signs.is_refusal("no idea, sorry") and not signs.is_refusal("I cannot say")
        assert signs.json_schema is not None and signs.json_schema["required"] == ["question", "answer"]
        assert signs.parse_pair('{"question": "what?", "answer": "x"}') == ("what?", "x")
        assert signs.parse_pair("question: what? answer: x") is None

    def test_what_is_forgiven_follows_from_the_metric_unless_it_is_given(self, tmp_path: Path) -> None:
        def rule(**change: Any) -> AgreementRule:
            return load_profiles(write(tmp_path, {**GOOD, **change}))["signs"].rule

        assert rule() == AgreementRule()
        assert rule(metric="relaxed") == AgreementRule(tolerance=0.05, optional_units=True)
        assert rule(metric="relaxed", agreement={"tolerance": 0.01}) == AgreementRule(tolerance=0.01)
        assert rule(agreement={"any_order": True}) == load_profiles()["okvqa"].rule == AgreementRule(any_order=True)

    def test_structured_questions_are_wanted_by_parser_schema_or_name(self, tmp_path: Path) -> None:
        def wanted(**change: Any) -> Any:
            return load_profiles(write(tmp_path, {**GOOD, **change}))["signs"].response_format(pair=True)

        mine = {**PAIR_SCHEMA, "properties": {"question": {"enum": ["what?"]}, "answer": {"type": "integer"}}}
        assert wanted() is None
        assert wanted(parser="json", structured=False) is None
        assert wanted(parser="json")["json_schema"]["schema"] == PAIR_SCHEMA
        assert wanted(structured=True)["json_schema"]["schema"] == PAIR_SCHEMA
        assert wanted(json_schema=mine)["json_schema"]["schema"] == mine
        signs = load_profiles(write(tmp_path, {**GOOD, "json_schema": mine}))["signs"]
        alone = signs.response_format(pair=False)
        assert alone is not None and alone["json_schema"]["schema"]["properties"] == {"question": {"enum": ["what?"]}}

    def test_words_for_json_are_used_only_with_a_schema(self, tmp_path: Path) -> None:
        prompts = {**GOOD["prompts"], "ask_json": "ask in JSON."}
        signs = load_profiles(write(tmp_path, {**GOOD, "prompts": prompts}))["signs"]
        assert (signs.ask_prompt(), signs.ask_prompt(as_json=True)) == ("ask.", "ask in JSON.")
        assert signs.ask_and_answer_prompt(as_json=True) == "ask and answer."

    def test_the_demos_file_is_valid(self) -> None:
        profiles = load_profiles(Path("demo/tasks.yaml"))
        assert {"chart", "text", "sttext", "know"} < profiles.keys()
        for name in ("chart", "text", "sttext", "know"):
            assert metric_for(profiles[name].metric)("a", ["a"]) == 1.0
            assert profiles[name].parse_pair("question: what is this? answer: a bus") == ("what is this?", "a bus")
            assert profiles[name].is_refusal("unanswerable")

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"colour": "red"}, "field colour: unknown field"),
            ({"prompts": {**GOOD["prompts"], "asks": "x"}}, "field prompts.asks: unknown field"),
            ({"metric": "bleu"}, "field metric: must be one of vqa, anls, relaxed, exact"),
            ({"metric": None}, "field metric"),
            ({"agreement": {"tolerance": 5}}, "field agreement.tolerance"),
            ({"agreement": {"tolerence": 0.1}}, "field agreement.tolerence: unknown field"),
            ({"parser": "regex"}, "field parser"),
            ({"prompts": {"ask": "a", "answer": "{question}"}}, "field prompts.ask_and_answer: is missing"),
            ({"prompts": {**GOOD["prompts"], "answer": "Answer it."}}, "must contain the placeholder {question}"),
            ({"prompts": {**GOOD["prompts"], "ask": " "}}, "field prompts.ask"),
            ({"prompts": "ask"}, "field prompts"),
            ({"max_answer_tokens": 0}, "field max_answer_tokens"),
            ({"max_answer_tokens": "12"}, "field max_answer_tokens"),
            ({"max_question_tokens": 1e9}, "field max_question_tokens"),
            ({"refusals": "unanswerable"}, "field refusals"),
            ({"refusals": [""]}, "field refusals.0"),
            ({"json_schema": {"type": "string"}}, "field json_schema: must be the schema of an object"),
            ({"json_schema": {"type": "object", "properties": {"question": {}}}}, "properties question and answer"),
            ({"structured": "yes"}, "field structured"),
        ],
    )
    def test_an_error_names_file_task_and_field(self, tmp_path: Path, change: dict[str, Any], words: str) -> None:
        path = write(tmp_path, {**GOOD, **change})
        with pytest.raises(InvalidInput) as caught:
            load_profiles(path)
        assert str(path) in caught.value.detail
        assert "task 'signs'" in caught.value.detail
        assert words in caught.value.detail

    def test_all_wrong_fields_are_named_at_once(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput) as caught:
            load_profiles(write(tmp_path, {**GOOD, "metric": "bleu", "parser": "regex"}))
        assert "field metric" in caught.value.detail and "field parser" in caught.value.detail

    @pytest.mark.parametrize("name", [None, "", "two words", "../up", 7])
    def test_a_task_without_a_good_name_is_told_by_its_place(self, tmp_path: Path, name: object) -> None:
        with pytest.raises(InvalidInput, match="field name"):
            load_profiles(write(tmp_path, {**GOOD, "name": name}))
        with pytest.raises(InvalidInput, match="task number 2: must be a mapping"):
            load_profiles(write(tmp_path, GOOD, "signs"))

    def test_names_are_taken_once(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="'signs': defined twice"):
            load_profiles(write(tmp_path, GOOD, GOOD))
        with pytest.raises(InvalidInput, match="'textvqa': this name is built in"):
            load_profiles(write(tmp_path, {**GOOD, "name": "textvqa"}))

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("", "at least one task under the key 'tasks'"),
            ("tasks: []", "at least one task"),
            ("tasks: {a: 1}", "at least one task"),
            ("- 1", "at least one task"),
            ("tasks: [{name: a}]\nmore: 1", "unknown field 'more'"),
            ("tasks: [", "not valid YAML"),
            ("tasks: !!python/object/apply:os.system ['true']", "not valid YAML"),
        ],
    )
    def test_a_file_of_another_shape_is_refused(self, tmp_path: Path, content: str, words: str) -> None:
        path = tmp_path / "tasks.yaml"
        path.write_text(content)
        with pytest.raises(InvalidInput) as caught:
            load_profiles(path)
        assert str(path) in caught.value.detail and words in caught.value.detail

    def test_a_file_that_cannot_be_read_names_the_setting(self, tmp_path: Path) -> None:
        for path in (tmp_path / "none.yaml", tmp_path):
            with pytest.raises(InvalidInput, match="MPA_TASKS_FILE"):
                load_profiles(path)
        binary = tmp_path / "binary.yaml"
        binary.write_bytes(b"\xff\xfe\x00tasks")
        with pytest.raises(InvalidInput, match=r"binary\.yaml"):
            load_profiles(binary)


def test_braces_in_a_question_mean_nothing() -> None:
    profile = TaskProfile("t", "exact", Prompts("ask", "both", "Q: {question}"))
    assert profile.answer_prompt("what is {question} or {0}?") == "Q: what is {question} or {0}?"
