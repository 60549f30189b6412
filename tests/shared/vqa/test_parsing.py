"""Reading what teachers write."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.vqa.parsing import LONGEST_QUESTION, clean_answer, parse_pair, parse_question

WHAT, RED = "What colour is the bus?", "red"
PAIRS = {
    "one line": "question: What colour is the bus? answer: red",
    "two lines": "Question: What colour is the bus?\nAnswer: red",
    "blank lines between": "Question:\n\nWhat colour is the bus?\n\n\nAnswer:\n\n  red\n",
    "bold tags": "**Question:** What colour is the bus?\n**Answer:** red",
    "bold words": "**Question**: What colour is the bus?\n**Answer**: **red**",
    "headings": "### Question\nWhat colour is the bus?\n### Answer\nred",
    "short tags": "Q: What colour is the bus?\nA: red",
    "numbered tags": "Question 1: What colour is the bus?\nAnswer 1: red",
    "numbered lines": "1. Question: What colour is the bus?\n   Answer: red\n2. Question: What else?\n   Answer: blue",
    "bullets": "- Question: What colour is the bus?\n- Answer: red",
    "quotes": 'Question: "What colour is the bus?"\nAnswer: "red"',
    "chatter": "Sure! Here is one.\n\nQuestion: What colour is the bus?\nAnswer: red.\n\nI hope that helps!",
    "explained": "Question: What colour is the bus? Answer: red\nExplanation: it looks red.",
    "full-width colon": "Question：What colour is the bus?\nAnswer：red",
    "capitals": "QUESTION: What colour is the bus? ANSWER: red",
    "numbered letters": "Q1. What colour is the bus?\nA1. red",
    "list items": "- Question: What colour is the bus?\n- Answer: red",
    "xml": "<question>What colour is the bus?</question>\n<answer>red</answer>",
    "no question tag": "What colour is the bus? Answer: red",
    "chatter and no question tag": "Here it is.\nWhat colour is the bus?\nAnswer: red",
    "a second pair on the line": "Question: What colour is the bus? Answer: red Question: Is it? Answer: no",
    "special tokens": "Question: What colour is the bus?<|im_end|>\nAnswer: red</s><|im_end|>",
    "reasoning first": "<think>Question: is it? Answer: no.</think>\nQuestion: What colour is the bus? Answer: red",
    "answered as a sentence": "Question: What colour is the bus?\nAnswer: The answer is red.",
    "json": '{"question": "What colour is the bus?", "answer": "red"}',
    "json in a fence": '```json\n{"question": "What colour is the bus?",\n "answer": "red"}\n```',
    "json with other keys": '{"Q": "What colour is the bus?", "confidence": 0.9, "A": "red"}',
    "json in a list": '[{"question": "What colour is the bus?", "answer": "red"}, {"question": "b?", "answer": "c"}]',
    "json in single quotes": "{'question': 'What colour is the bus?', 'answer': 'red'}",
    "json cut off": '{"question": "What colour is the bus?", "answer": "red", "reason": "It is',
    "json after reasoning": '<think>{"question": "a?"}</think>{"question": "What colour is the bus?", "answer": "red"}',
    "json after chatter": 'Here {it} is: {"question": "What colour is the bus?", "answer": "red"} Bye!',
}


@pytest.mark.parametrize("text", PAIRS.values(), ids=PAIRS.keys())
def test_pairs_are_read_in_many_layouts(text: str) -> None:
    assert parse_pair(text, "tagged") == (WHAT, RED)
    assert parse_question(text, "tagged") == WHAT


@pytest.mark.parametrize("name", PAIRS)
def test_the_json_parser_reads_json_alone(name: str) -> None:
    expected = (WHAT, RED) if name.startswith("json") else None
    assert parse_pair(PAIRS[name], "json") == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n ",
        "lorem ipsum dolor",
        "What colour is the bus? red",
        "question: answer:",
        "question: answer: red",
        "question: What is it? answer:",
        "question: What is it? answer: .",
        "question: ??? answer: red",
        "answer: red question: What colour is the bus?",
        "Question: What is this?\nQuestion: And that?\nAnswer: red",
        '{"question": "What?"}',
        '{"question": "", "answer": "red"}',
        '{"question": ["What?"], "answer": "red"}',
        '{"question": "What?", "answer": null}',
        '{"question": "What?", "answer": {"text": "red"}}',
        '{"question": "What',
        '{"question": "What is it?", "answer": "a bu',
        "What is it?\nThe bus",
        "Not a question. Answer: red",
        "Question: " + "x" * (LONGEST_QUESTION + 1) + "? Answer: red",
    ],
)
def test_what_is_no_pair_is_none(text: str) -> None:
    assert parse_pair(text, "tagged") is None


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("what is this?", "what is this?"),
        ("1. What is this?\n2. What is that?", "What is this?"),
        ("What is this? It is a bus.", "What is this?"),
        ('"What is this?"', "What is this?"),
        ("Here is my question\nWhat is this?", "What is this?"),
        ("Question: Name the brand", "Name the brand"),
        ("**Question:** What is this?", "What is this?"),
        ("question: What is this? answer: a bus", "What is this?"),
        ("这是什么？", "这是什么？"),
        ("Here is one:\n\n**What is this?**", "What is this?"),
        ("What is this?<|im_end|>", "What is this?"),
        ("Question: What is the answer: 3 or 4? Answer: 3", "What is the answer: 3 or 4?"),
        ('{"question": "What is this?", "answer": "a b', "What is this?"),
        ("What is the number on the", None),
        ("x" * LONGEST_QUESTION + "?", None),
        ("a bus", None),
        ("???", None),
        ("", None),
        ("Question:", None),
    ],
)
def test_questions_alone(text: str, question: str | None) -> None:
    assert parse_question(text, "tagged") == question


def test_numbers_and_truth_values_are_answers_in_json() -> None:
    assert parse_pair('{"question": "How many?", "answer": 7}', "json") == ("How many?", "7")
    assert parse_pair('{"question": "Is it?", "answer": true}', "json") == ("Is it?", "yes")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" red ", "red"),
        ("Red.", "Red"),
        ("U.S.A.", "U.S.A."),
        ("3.5", "3.5"),
        ("Answer: red", "red"),
        ("**Answer:** red", "red"),
        ("A: red", "red"),
        ("The answer is red.", "red"),
        ("<answer>red</answer>", "red"),
        ("red<|im_end|>", "red"),
        ("<think>red? no</think>\nblue", "blue"),
        ("the answer", "the answer"),
        ("A", "A"),
        ("answer", "answer"),
        ('"STOP"', "STOP"),
        ("“STOP”", "STOP"),
        ('6"', '6"'),
        ("red\nbecause it is", "red"),
        ("\n\n red", "red"),
        ("a  b", "a b"),
        ('{"answer": "red"}', "red"),
        ('{"answer": 4}', "4"),
        ("-5", "-5"),
        ("10:30", "10:30"),
        ("", ""),
        (" . ", ""),
    ],
)
def test_answers_are_cleaned(text: str, answer: str) -> None:
    assert clean_answer(text) == answer


words = st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789 ", min_size=1, max_size=30).map(str.strip).filter(bool)


plain_words = words.filter(lambda w: not {"question", "answer"} & set(w.split()))  # the layout's own are taken for it


@given(words.filter(lambda w: any(c.isalpha() for c in w)), plain_words)
def test_what_is_written_in_the_layout_comes_back(question: str, answer: str) -> None:
    for text in (f"question: {question}? answer: {answer}", f"Question: {question}?\nAnswer: {answer}\n"):
        assert parse_pair(text, "tagged") == (" ".join(f"{question}?".split()), " ".join(answer.split()))


@given(words.filter(lambda w: any(c.isalpha() for c in w)), plain_words, st.sampled_from([None, 1, 4]))
def test_json_comes_back(question: str, answer: str, indent: int | None) -> None:
    text = json.dumps({"question": question, "answer": answer}, indent=indent)
    assert parse_pair(f"Sure: {text}\nBye", "json") == (" ".join(question.split()), " ".join(answer.split()))


@given(st.text(), st.sampled_from(["tagged", "json"]))
def test_no_text_breaks_the_parsers(text: str, kind: str) -> None:
    pair = parse_pair(text, kind)  # type: ignore[arg-type]
    assert pair is None or all(pair)
    question = parse_question(text, kind)  # type: ignore[arg-type]
    assert question is None or question.strip() == question != ""


@given(st.text(alphabet='questionansw:?."{}[]*_#\n 1a', max_size=80))
def test_no_tangle_of_tags_breaks_the_parsers(text: str) -> None:
    for kind in ("tagged", "json"):
        pair = parse_pair(text, kind)
        assert pair is None or all(pair)
    assert "\n" not in clean_answer(text)


@given(st.text())
def test_a_cleaned_answer_is_one_trimmed_line(text: str) -> None:
    answer = clean_answer(text)
    assert answer == " ".join(answer.split())


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000 + '{"question":',
        '{"a":' * 20_000,
        "question " * 20_000,
        "q" + " " * 100_000 + "x",
        "\n" * 100_000,
        "* " * 50_000 + "answer",
        "question: " + "answer" + " " * 100_000,
        '"' * 100_000,
        "answer: " * 20_000,
        '"question": "' * 10_000,
        "'question': '" * 10_000,
        "<think>" * 20_000,
    ],
)
@pytest.mark.timeout(10)
def test_hostile_texts_are_read_in_little_time(text: str) -> None:
    assert parse_pair(text, "tagged") is None
    assert parse_question(text, "json") is None
    clean_answer(text)
