"""The words that announce a question or an answer: "Question:", "A:", "**Antwort:**", "答：", <answer>."""

from __future__ import annotations

import re

# All repetitions are bounded: what a teacher writes must not be able to make a pattern backtrack for long.
_LEAD = r"^[ \t>*_#\-–•(\[\d.)]{0,12}"
_EMPHASIS = r"(?:\*\*|__|\*)?"
_COLON = r"[:\uff1a]"
_QUESTIONS = (
    "frage|pregunta|domanda|pergunta|vraag|pytanie|вопрос|питання|въпрос|soru|سؤال|السؤال|پرسش|שאלה|प्रश्न|सवाल|প্রশ্ন|"
    "问题|問題|问|問|質問|질문|문제|câu hỏi|pertanyaan|คำถาม|ερώτηση|fråga|spørgsmål|spørsmål|kysymys|kérdés|"
    "otázka|întrebare"
)
_ANSWERS = (
    "antwort|réponse|respuesta|risposta|resposta|antwoord|odpowiedź|odpověď|odpoveď|ответ|відповідь|отговор|cevap|yanıt|"
    "إجابة|الإجابة|جواب|الجواب|پاسخ|תשובה|उत्तर|जवाब|উত্তর|答案|回答|答え|答|정답|답변|답|trả lời|đáp án|câu trả lời|"
    "jawaban|คำตอบ|απάντηση|svar|vastaus|válasz|răspuns"
)


def _tag(short: str, word: str, others: str) -> re.Pattern[str]:
    """``word:`` or ``<word>`` anywhere, ``short:`` and ``others:`` at the start of a line (``others:`` also after a
    question), ``word`` alone on a line, perhaps numbered.
    """
    number = r"\s{0,4}\d{0,3}"
    before = rf"(?:{_LEAD}{short}|\b{word}|{_LEAD}(?:{others})|(?<=[?\uff1f\u061f;]) {{0,4}}(?:{others}))"
    tagged = rf"{before}{number}[)\]]?{_EMPHASIS}\s{{0,4}}{_COLON}"
    alone = rf"{_LEAD}(?:{word}|{others}){number}{_EMPHASIS}[ \t]{{0,8}}$"
    pattern = rf"{tagged}|<{word}>|{_LEAD}{short}\d{{1,3}}\.[ \t]|{alone}"
    return re.compile(pattern, re.IGNORECASE | re.MULTILINE)


QUESTION_TAG = _tag("q(?:uestion)?", "question", _QUESTIONS)
ANSWER_TAG = _tag("a(?:ns(?:wer)?)?", "answer", _ANSWERS)
# Before an answer that stands alone. "A2:B5" and "A1: 20 km" are answers, so a bare letter needs a space after it.
ANSWER_PREFIX = re.compile(
    rf"^[ \t>*_#]{{0,8}}(?:(?:(?:the|my|final|short)[ ]){{0,2}}(?:answer|ans|{_ANSWERS}){_EMPHASIS}\s{{0,4}}{_COLON}"
    rf"|a{_EMPHASIS}{_COLON}(?=[\s*])|(?:final )?answer{_EMPHASIS}[ \t]{{0,8}}\n)",
    re.IGNORECASE | re.MULTILINE,
)


def after(text: str, tag: re.Match[str]) -> str:
    """The text after ``tag``, without the second half of an emphasis that the tag opens ("**Question:** …")."""
    rest = text[tag.end() :]
    for mark in ("**", "__"):
        if tag.group().count(mark) % 2:
            return rest.replace(mark, "", 1)
    return rest
