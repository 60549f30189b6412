"""One spelling for every way to write the same characters: Unicode forms, quotes, dashes, digits, spaces and case.

Unicode's own rules come first: NFKC (UAX #15), decimal digits and full case folding (The Unicode Standard, 3.13). The
tables here add what Unicode keeps apart and a reader does not.
"""

from __future__ import annotations

import re
import unicodedata

_APOSTROPHES = "’‘‛ʼʻ＇`´′‵＇ʹ"
_QUOTES = "“”„‟«»″‶〝〞＂"
_BRACKETS = dict.fromkeys("「『《〈【", "(") | dict.fromkeys("」』》〉】", ")")
_DASHES = "‐‑‒–—―−⁃﹣－"
_PUNCTUATION = {
    "。": ".",
    "।": ".",
    "،": ",",
    "、": ",",
    "؛": ";",
    "؟": "?",
    "٫": ".",
    "٬": ",",
    "٪": "%",
    "・": " ",
    "·": " ",
    "•": " ",
    "×": "x",
    "⁄": "/",
}
_SILENT = "™®©℠"  # NFKC would turn ™ into letters
_SPELT = str.maketrans(
    dict.fromkeys(_APOSTROPHES, "'")
    | dict.fromkeys(_QUOTES, '"')
    | dict.fromkeys(_DASHES, "-")
    | _BRACKETS
    | _PUNCTUATION
)
_RAISED = re.compile("(?<=\\w)⁻?[⁰¹²³⁴-⁹]+")
_BEFORE_NFKC = _SPELT | dict.fromkeys(map(ord, _SILENT), None)
_FRACTION = re.compile(r"(\d?)([¼½¾⅐-⅞])")
# Vowel points of Arabic and Hebrew, and the stroke that stretches an Arabic word: most writers leave them out.
_OPTIONAL_MARKS = re.compile("[\u0640\u064b-\u0652\u0670\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7]")
_GREEK_ACCENT = re.compile("(?<=[\u03b1-\u03c9])\u0301")
_GREEK = re.compile("[\u0370-\u03ff]")
_VARIATION_SELECTORS = frozenset(map(chr, (*range(0xFE00, 0xFE10), 0x180B, 0x180C, 0x180D)))


def fold(text: str) -> str:
    """``text`` with one form for each character and single spaces; upper and lower case are kept.

    "café" in NFC and NFD, "don’t" and "don't", "１２" and "١٢" and "12", a no-break space and a space become equal.
    A raised digit is marked ("5²" is "5^2"), and a vulgar fraction is spelt out ("5½" is "5 1/2").
    """
    if text.isascii():
        return " ".join(text.translate(_SPELT).replace("''", '"').split())
    text = unicodedata.normalize("NFC", text)
    text = _RAISED.sub(lambda found: f"^{unicodedata.normalize('NFKC', found[0])}", text)
    text = _FRACTION.sub(lambda found: f"{found[1]} {unicodedata.normalize('NFKC', found[2])}", text)
    text = "".join(map(_plain_character, text.translate(_BEFORE_NFKC)))
    text = unicodedata.normalize("NFKC", text).translate(_SPELT)
    return " ".join(_OPTIONAL_MARKS.sub("", text).replace("''", '"').split())


def caseless(text: str) -> str:
    """``text`` without differences of case: "STRASSE" and "Straße", "ΑΘΗΝΑ" and "Αθήνα", "İzmir" and "izmir"."""
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKC", text.casefold()).replace("i\u0307", "i").replace("ı", "i")
    if _GREEK.search(folded):
        # Capitals are written without the accent.
        folded = _GREEK_ACCENT.sub("", unicodedata.normalize("NFD", folded))
    return unicodedata.normalize("NFC", folded)


def _plain_character(char: str) -> str:
    """An ASCII digit for a decimal digit of any script, and nothing for what has no shape of its own."""
    if char.isascii():
        return char
    category = unicodedata.category(char)
    if category == "Nd":
        return str(unicodedata.decimal(char))
    return "" if category == "Cf" or char in _VARIATION_SELECTORS else char
