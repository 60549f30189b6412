"""When two models gave the same answer: spellings that agree, answers that differ, and what each task forgives."""

from __future__ import annotations

import itertools
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.vqa.agreement import AS_WRITTEN, OFF_A_CHART, AgreementRule, agree
from shared.vqa.agreement.agree import LONGEST

RULES = [AS_WRITTEN, OFF_A_CHART, AgreementRule(any_order=True), AgreementRule(0.1, True, True)]
# Characters and words that the rules look at, so that random texts reach them.
PIECES = [*"aAzß éÉ'’\"“-–.,;:/%$€£&()x?! \u00a0\u200b①²½٣३３"]
PIECES += ["1", "2", "05", "007", "1990", "1,234", "5.0", "km", "m"]
PIECES += ["the", "a", "and", "three", "twenty", "hundred", "pm", "May", "yes", "no", "none", "minus", "v", "million"]
texts = st.one_of(
    st.text(max_size=12),
    st.lists(st.sampled_from(PIECES), max_size=6).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=5).map(" ".join),
)

SAME = """
café | cafe\u0301
don’t | don't
don‘t | dont
McDonald’s | McDonalds
Ａ１２ | a12
ﬁsh | fish
no\u00adon | noon
zero\u200bwidth | zerowidth
two\u00a0dogs | 2 dogs
Coca-Cola™ | Coca Cola
ice-cream | ice cream
ice‑cream | icecream
“stop” | "Stop."
(red) | red
『赤』 | 赤
赤。 | 赤
STOP! | stop
Straße | STRASSE
ΑΘΗΝΑ | Αθήνα
İstanbul | istanbul
الكتاب | الكتــاب
كَتَبَ | كتب
ﾃﾚﾋﾞ | テレビ
the dog | A dog.
in the sky | in sky
U.S.A. | usa
Dr. Smith | Dr Smith
red, blue | red and blue
red; blue | red & blue
TCP/IP | TCP IP
3 x 4 | 3×4
3 | three
3 dogs | Three dogs
21 | twenty-one
21 | twenty one
205 | two hundred and five
2,015 | two thousand fifteen
1995 | nineteen ninety-five
123456 | one hundred twenty-three thousand four hundred fifty-six
100 | a hundred
12 | a dozen
3.5 | three point five
0 | none
-5 | minus five
−5 | -5
3 | ٣
3 | ३
3 | ３
3.5 | ٣٫٥
1234 | 1,234
1234 | 1 234
1234 | 1\u202f234
1234 | 1'234
1234 | １，２３４
1234 | 1.234,00
1234567 | 1.234.567
1234567 | 12,34,567
1.5 | 1,5
5 | 5.0
.5 | 0.50
100000 | 1e5
5½ | 5.5
½ | 1/2
½ | 0.5
5% | 5 %
5% | 5 percent
5% | 5 per cent
5% | ٪٥
5-10% | 5% to 10%
$5 | 5 dollars
$5 | 5.00 USD
$5M | $5,000,000
$5 million | 5 million dollars
5k | 5,000
€5 | 5 euros
£5 | 5 pounds
5 lbs | 5 pounds
₹500 | Rs. 500
5 km | 5km
5 km | 5 kilometers
5 km | five kilometres
5 m² | 5 square meters
100 km/h | 100 kph
20°C | 20 ℃
20°C | 20 degrees Celsius
5'6" | 5 feet 6 inches
27" | 27 inches
10-20 | 10 – 20
10-20 | 10 to 20
10,20 | 10, 20
1st | first
21st | twenty-first
May 5, 2020 | 5 May 2020
May 5th, 2020 | 2020-05-05
25/12/2020 | December 25, 2020
2020年5月5日 | 5 May 2020
05/06/2020 | 5-6-2020
Jan | January
Mon | Monday
5:30 pm | 17:30
5 p.m. | 5:00 PM
17h30 | 17:30
5 o'clock | 5:00
555-123-4567 | (555) 123-4567
555-123-4567 | 5551234567
v1.10 | version 1.10
12A | 12a
Yes. | yes
Yes, it is. | yes
No, there aren't | no
"""

DIFFERENT = """
café | cafe
big | large
dog | dogs
sofa | couch
now here | nowhere
red | blue
red | red and blue
7 | 8
12 | 21
11 | 1 1
5 | -5
1990 | 2015
1990 | 1991
1.234 | 1234
1.234 | 1,234
9,99 | 999
half | 0.5
5² | 52
A12 | A13
007 | 7
0123 | 123
A+ | A
B- | B
C++ | C
C# | C
5* | 5
#23 | 23
__init__ | init
<br> | br
@home | home
Vitamin A | Vitamin
Vitamin A | Vitamin B
A 12 | 12
1.10.0 | 1.1.0
v1.10 | v1.1
192.168.0.1 | 192.168.0.10
1st | 1
1/2 | 2/4
3:2 | 2:3
16:9 | 16:10
10-20 | 1020
10-20 | 10-30
5% | 5
5% | $5
5% | 0.05
$5 | €5
$5 | 5
$5M | $5
$5m | 5 m
5 km | 5 m
5 km | 5000 m
5 mW | 5 MW
20 °C | 20 °F
5:30 | 5:30 pm
12:30 am | 12:30 pm
5/6/2020 | 6/5/2020
5/6/2020 | 2020-06-05
May 5 | May 6
May 2015 | May 2016
555-1234 | 555-1235
yes | no
no | 0
no | none
कि | का
赤 | 青
? | !
red |
"""


def pairs(lines: str) -> list[tuple[str, str]]:
    return [(a.strip(" "), b.strip(" ")) for a, _, b in (line.partition("|") for line in lines.strip("\n").split("\n"))]


@pytest.mark.parametrize(("a", "b"), pairs(SAME))
def test_spellings_of_one_answer_agree(a: str, b: str) -> None:
    assert all(agree(a, b, rule) and agree(b, a, rule) for rule in RULES)


@pytest.mark.parametrize(("a", "b"), pairs(DIFFERENT))
def test_different_answers_do_not_agree(a: str, b: str) -> None:
    assert not agree(a, b) and not agree(b, a)


@pytest.mark.parametrize(
    ("a", "b", "question", "same"),
    [
        ("3 dogs", "3", "How many dogs are there?", True),
        ("1 dog", "one", "How many dogs are there?", True),
        ("three black dogs", "3", "How many black dogs are there?", True),
        ("3 dogs", "3 cats", "How many dogs are there?", False),
        ("3 dogs", "3", "What is this?", False),
        ("5%", "5", "What percentage of them is red?", True),
        ("5 km", "5", "How many kilometers is it?", True),
        ("$5", "5", "How many dollars is it?", True),
        ("$5", "5", "How much is it?", False),
        ("30 years old", "30", "How old is he?", True),
    ],
)
def test_what_the_question_names_may_be_left_out(a: str, b: str, question: str, same: bool) -> None:
    assert agree(a, b, question=question) is agree(b, a, question=question) is same


def test_a_list_of_equal_items_is_paired_without_trying_every_order() -> None:
    rule = AgreementRule(tolerance=0.05, any_order=True)
    many = ", ".join(["red"] * 11)
    assert agree(f"{many}, blue", f"blue, {many}", rule) and not agree(f"{many}, blue", f"{many}, green", rule)
    assert agree("100, 104, 108", "108, 100, 104", rule)
    assert agree("100, 104", "101, 97", rule), "104 agrees with 101 alone, so 100 has to take 97"


def test_a_long_text_is_compared_by_its_spelling() -> None:
    long = "Ein Café – " + "x" * LONGEST
    assert agree(long, unicodedata.normalize("NFD", long).upper())
    assert not agree(long, f"{long}x") and not agree("3 " + long, "three " + long)


@given(texts, st.sampled_from(RULES), texts)
def test_an_answer_agrees_with_itself(text: str, rule: AgreementRule, question: str) -> None:
    assert agree(text, text, rule, question)
    assert agree(text, unicodedata.normalize("NFC", text)) and agree(text, unicodedata.normalize("NFD", text))


@given(texts, texts, st.sampled_from(RULES), texts)
def test_the_order_of_the_two_does_not_matter(a: str, b: str, rule: AgreementRule, question: str) -> None:
    assert agree(a, b, rule, question) is agree(b, a, rule, question)


@given(texts, texts)
def test_a_task_forgives_more_than_the_spelling(a: str, b: str) -> None:
    if agree(a, b):
        assert all(agree(a, b, rule) for rule in RULES)


@given(texts)
def test_spaces_case_and_a_closing_period_make_no_difference(text: str) -> None:
    assert agree(text, f"  {text}\u00a0")
    assert agree(text, f"{text} .") or not any(char.isalnum() for char in text)


@given(st.integers(-(10**9), 10**9))
def test_a_number_agrees_with_its_notations_and_with_no_other(number: int) -> None:
    for text in (f"{number:,}", f"{number}.0", f"{number:,}".replace(",", " "), f"{number} ."):
        assert agree(str(number), text)
        assert not agree(str(number + 1), text)


@given(st.sampled_from([code for code, _ in pairs(DIFFERENT)]))
def test_letters_and_digits_are_never_lost(text: str) -> None:
    assert not agree(text, f"{text}7") and not agree(text, f"7{text}")


def test_no_two_years_agree() -> None:
    years = [str(year) for year in range(1500, 2101, 7)]
    assert not any(agree(a, b, rule) for a, b in itertools.combinations(years, 2) for rule in RULES)
