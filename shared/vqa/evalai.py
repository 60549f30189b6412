"""The EvalAI answer normalisation of VQA, TextVQA and OK-VQA, quirks included.

The same transformation as ``EvalAIAnswerProcessor`` in facebookresearch/mmf (``mmf/utils/m4c_evaluators.py``), which
TextVQA is scored with. Quirks that are kept because published numbers depend on them:

- The look-behind of the period rule is misspelt in the public code, so it drops every period that no digit follows, and
  because ``re.UNICODE`` (32) is passed as the count, only the first 32 of them.
- A punctuation mark with a space beside it *anywhere* in the text is dropped everywhere; any other becomes a space.
- Contractions are looked up after lower-casing, so the table's entries with a capital ("Im") never apply.
- Commas and question marks are dropped before the thousands rule could see them; "none" becomes "0".
"""

from __future__ import annotations

import re

ARTICLES = frozenset({"a", "an", "the"})
_COUNTED = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {"none": "0", **{word: str(value) for value, word in enumerate(_COUNTED)}}
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
MOST_PERIODS = int(re.UNICODE)
_PERIOD = re.compile(r"(?!<=\d)(\.)(?!\d)")
_THOUSANDS = re.compile(r"(?<=\d)(\,)+(?=\d)")

# Written without their apostrophes → as they should be.
_WHERE_TO_PUT_IT = """
ain't aren't can't could've couldn't couldn'tve:couldn't've couldnt've:couldn't've didn't doesn't don't hadn't
hadnt've:hadn't've hadn'tve:hadn't've hasn't haven't he'd hed've:he'd've he'dve:he'd've he's how'd how'll how's
Id've:I'd've I'dve:I'd've I'm I've isn't it'd itd've:it'd've it'dve:it'd've it'll let's:let's ma'am mightn't
mightnt've:mightn't've mightn'tve:mightn't've might've mustn't must've needn't not've o'clock oughtn't
ow's'at:'ow's'at 'ows'at:'ow's'at 'ow'sat:'ow's'at shan't shed've:she'd've she'dve:she'd've she's:she's should've
shouldn't shouldnt've:shouldn't've shouldn'tve:shouldn't've somebody'd:somebodyd somebodyd've:somebody'd've
somebody'dve:somebody'd've somebody'll somebody's someone'd someoned've:someone'd've someone'dve:someone'd've
someone'll someone's something'd somethingd've:something'd've something'dve:something'd've something'll that's there'd
thered've:there'd've there'dve:there'd've there're there's they'd theyd've:they'd've they'dve:they'd've they'll they're
they've 'twas wasn't wed've:we'd've we'dve:we'd've we've weren't what'll what're what's what've when's where'd where's
where've who'd whod've:who'd've who'dve:who'd've who'll who's who've why'll why're why's won't would've wouldn't
wouldnt've:wouldn't've wouldn'tve:wouldn't've y'all yall'll:y'all'll y'allll:y'all'll yall'd've:y'all'd've
y'alld've:y'all'd've y'all'dve:y'all'd've you'd youd've:you'd've you'dve:you'd've you'll you're you've
"""


def _contractions() -> dict[str, str]:
    table = {}
    for entry in _WHERE_TO_PUT_IT.split():
        written, colon, meant = entry.partition(":")
        table[written if colon else entry.replace("'", "")] = meant if colon else entry
    return table


CONTRACTIONS = _contractions()


def normalise_evalai(text: str) -> str:
    """The processed answer; may be empty ("the")."""
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    text = text.replace("\n", " ").replace("\t", " ").strip()
    return _digits_articles_contractions(_punctuation(text))


def _punctuation(text: str) -> str:
    has_thousands = _THOUSANDS.search(text) is not None
    cleaned = text
    for mark in PUNCTUATION:
        beside_space = f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if beside_space or has_thousands else " ")
    return _PERIOD.sub("", cleaned, count=MOST_PERIODS)


def _digits_articles_contractions(text: str) -> str:
    words = (NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)
