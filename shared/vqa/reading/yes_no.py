"""Whether a text says yes or no in a major language, also in words that mean the same ("correct", "falsch", "不对")."""

from __future__ import annotations

import json
import re

from shared.vqa.reading.reasoning import set_apart
from shared.vqa.reading.refusals import BUILT_IN, comparable, comparable_pattern, declines
from shared.vqa.reading.tags import ANSWER_PREFIX
from shared.vqa.reading.wrapping import marked_answer, unwrapped

# A word that negates counts as a no wherever it comes first, so "not correct" is one.
_YES = (
    r"yes|yeah|yep|yup|aye|sure|certainly|definitely|absolutely|indeed|of course|correct|right|true|i agree|y(?=\W*$)",
    r"ja|jawohl|jep|doch|richtig|korrekt|stimmt|genau|wahr|oui|exact|exacte|exactement|vrai|vraie|bien sûr|tout à fait",
    r"si|claro|correct[oa]|ciert[oa]|verdader[oa]|exact[oa]|corrett[oa]|giust[oa]|ver[oa]|esatt[oa]|cert[oa]",
    r"sim|corret[oa]|verdadeir[oa]|juist|klopt|waar|tak|prawda|poprawn(?:a|ie)|ano|správně|da|corect|adevărat",
    r"да|верно|верный|правильно|правильный|правда|конечно|так|вірно|igen|helyes|evet|doğru|ναι|σωστ[οά]|jo|riktigt|kyllä|oikein",
    r"نعم|أجل|ایوه|بلی|بله|درست|صحيحة?|ہاں|جی ہاں|כן|נכון|हां|हाँ|जी हां|जी हाँ|सही|ठीक|হ্যাঁ|হ্যা|সঠিক",
    r"có|đúng|vâng|phải|ya|iya|benar|betul",
)
_NO = (
    r"no|nope|nah|not|never|wrong|incorrect|false|untrue|isn't|is not|i disagree|n(?=\W*$)",
    r"nein|ne|nicht|falsch|inkorrekt|unrichtig",
    r"non|pas|n'est pas|faux|fausse|inexacte?|incorrecte|incorrect[oa]|fals[oa]|sbagliat[oa]|errat[oa]|scorrett[oa]",
    r"não|incorret[oa]|errad[oa]|nee|niet|onjuist|fout|onwaar|nie|nieprawda|niepoprawn(?:a|ie)|błędn[aiey]e?|nesprávně",
    r"нет|не|неверно|неверный|неправильно|неправильный|неправда|ложь|ні|невірно|nu|greșit|nem|helytelen|rossz|hayır|yanlış|değil",
    r"لا|كلا|ليست?|خطأ|خاطئة?|غير صحيحة?|خیر|نه|نہیں|غلط|לא|שגוי|नहीं|नही|जी नहीं|गलत|না|নয়|ভুল",
    r"không|chưa|sai|tidak|bukan|salah|όχι|δεν|λάθος|nej|nei|inte|ikke|feil|fel|forkert|ei|väärin",
)
# Scripts that put no space between words.
_YES_WITHOUT_SPACES = (
    r"是(?!否)(?:的|啊)?|对|對|正确|正確|没错|沒錯|属实|確實|确实|当然|當然|はい|ええ|うん|そうです|その通り|正しい|正解|合って",
    r"네|예|응|그렇습니다|맞습니다|맞아요|맞다|정답|옳습니다|정확|ใช่|ถูก",
)
_NO_WITHOUT_SPACES = (
    r"不|否|非|错|錯|没有|沒有|无|無|未|并非|並非|有误|有誤|有错|有錯",
    r"いいえ|いや|違|間違|誤り|正しくな|正しくあ|不正解|そうではな|合っていな",
    r"아니|아닙|아뇨|틀렸|틀립|틀린|맞지 않|옳지 않|오답|정확하지 않|정답이 아[니닙]|그렇지 않|ไม่|ผิด",
)
_LEAD = (
    r"(?:(?:the|that|this|your|his|her|their) )?(?:answer|reply|response|it|that|this)(?: is|'s)?(?: indeed| also)? ",
    r"(?:die |diese )?antwort (?:ist )?|das (?:ist )?|c'est |ce |la réponse (?:est )?",
    r"(?:la respuesta )?(?:es |está )?|(?:la risposta )?(?:è )?",
    r"(?:a resposta )?(?:é |está )?|(?:het |dat )?antwoord (?:is )?|dat (?:is )?",
    r"ответ |это |вс[её] |الإجابة |यह |उत्तर ",
    r"(?:その|この)?(?:答案|回答|答え|答)(?:是|は)?|(?:그 )?(?:답|대답|답변|답안)(?:이|은) ",
)
# "The answer is not right" is a no, although it begins as a refusal may.
_OF_ANSWER = re.compile(
    comparable_pattern(r"(?:\w+ )?(?:answer|antwort|réponse|respuesta|risposta|resposta|antwoord|ответ)\b")
)
_KEYS = ("answer", "answerable", "correct", "right", "result", "verdict", "response")
_BEFORE = " \t.…*_#>\"'“”«»「」()[]¡¿!-–:："


def says_yes(text: str) -> bool | None:
    """True for a yes, False for a no, None for what is neither, such as "not sure".

    The first word decides ("Yes, it says no"). Reasoning, decoration and a tag ("Answer:") before it do not count, and
    JSON counts by its only value or by one named ``answer``.
    """
    said = set_apart(text).said
    said = marked_answer(said) or said
    said = unwrapped(ANSWER_PREFIX.sub("", said.strip(), count=1))
    if said.startswith("{"):
        said = _in_json(said)
    if declines(said, (BUILT_IN,)) and not _OF_ANSWER.match(comparable(said)):
        return None
    said = comparable(said).lstrip(_BEFORE)
    if _FIRST_NO.match(said) or _NEGATED.match(said):
        return False
    return True if _FIRST_YES.match(said) else None


def _first(words: tuple[str, ...], without_spaces: tuple[str, ...]) -> re.Pattern[str]:
    not_negated = r"(?!\w)(?! (?:not|nicht|niet|pas|नहीं)(?!\w))"
    pattern = rf"(?:{'|'.join(_LEAD)})?(?:(?:{'|'.join(words)}){not_negated}|{'|'.join(without_spaces)})"
    return re.compile(comparable_pattern(pattern))


# "Das stimmt nicht": what negates follows.
_NEGATED = re.compile(
    comparable_pattern(rf"(?:{'|'.join(_LEAD)})?(?:{'|'.join(_YES)}) (?:not|nicht|niet|pas|नहीं)(?!\w)")
)
_FIRST_YES, _FIRST_NO = _first(_YES, _YES_WITHOUT_SPACES), _first(_NO, _NO_WITHOUT_SPACES)


def _in_json(text: str) -> str:
    """The answer in an object of JSON, "" if it holds none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if not isinstance(found, dict):
        return text
    values = [found[key] for key in _KEYS if key in found] or (list(found.values()) if len(found) == 1 else [])
    value = values[0] if values else None
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else ""
