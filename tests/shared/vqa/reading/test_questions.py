"""Questions in scripts with marks of their own, and in languages that need none."""

from __future__ import annotations

import pytest

from shared.vqa.parsing import parse_pair, parse_question

QUESTIONS = [
    "ما لون الحافلة؟",
    "بس کا رنگ کیا ہے؟",
    "Τι χρώμα είναι;",
    "Τι χρώμα είναι\u037e",
    "バスは何色ですか。",
    "看板には何と書いてありますか",
    "何人いますか",
    "バスの色は？",
    "これは何か。",
    "这辆车是什么颜色",
    "这是巴士吗。",
    "图中有几个人。",
    "這輛車是什麼顏色？",
    "这是谁",
    "버스는 무슨 색입니까.",
    "버스는 무슨 색인가요",
    "표지판에 뭐라고 써 있나요?",
    "Ի՞նչ գույն է ավտոբուսը։",
    "Ի՞նչ է սա",
    "ይህ ምንድን ነው፧",
    "รถบัสสีอะไร",
    "มีคนกี่คน",
    "ဒါ ဘာလဲ",
    "वह बस किस रंग की है।",
    "बस का रंग क्या है?",
    "¿De qué color es el autobús?",
    "Автобус какого цвета?",
    "Xe buýt màu gì?",
    "What is this⁇",
]


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("layout", ["{}", "1. {}", "**{}**", "Question: {}", "Here it is:\n\n{}\n"])
def test_a_question_is_found(question: str, layout: str) -> None:
    assert parse_question(layout.format(question), "tagged") == question


@pytest.mark.parametrize(
    "text",
    [
        "What is the number on the",
        "这是一辆公交车。",
        "バスは赤いです。",
        "รถบัสสีแดง",
        "Το λεωφορείο είναι κόκκινο",
        "red; blue",
        "std::cout << 5;",
    ],
)
def test_a_statement_is_not_a_question(text: str) -> None:
    assert parse_question(text, "tagged") is None


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("Question: Τι χρώμα είναι;\nAnswer: κόκκινο", ("Τι χρώμα είναι;", "κόκκινο")),
        ("问题：这是什么颜色？\n答案：红色", ("这是什么颜色？", "红色")),
        ("質問：何色ですか。\n答え：赤", ("何色ですか。", "赤")),
        ("السؤال: ما لون الحافلة؟\nالجواب: أحمر", ("ما لون الحافلة؟", "أحمر")),
        ("ما لون الحافلة؟ Answer: أحمر", ("ما لون الحافلة؟", "أحمر")),
        ("Frage: Welche Farbe?\nAntwort: rot", ("Welche Farbe?", "rot")),
        ("**Question:** What?\n**Answer:** 5*", ("What?", "5*")),
        ("Question: What?\nAnswer: __init__", ("What?", "__init__")),
        ("Question: What?\nAnswer: <br>", ("What?", "<br>")),
        ("**Question**\nWhat?\n**Answer**\nred", ("What?", "red")),
    ],
)
def test_pairs_are_read_in_other_languages_and_with_marks_in_the_answer(text: str, pair: tuple[str, str]) -> None:
    assert parse_pair(text, "tagged") == pair
