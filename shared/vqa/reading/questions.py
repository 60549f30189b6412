"""Where a line asks something, in scripts with their own question marks and in languages that need none."""

from __future__ import annotations

import re

from shared.vqa.reading.wrapping import unwrapped

# Latin, full-width, small and vertical forms, Arabic, Greek (U+037E), Ethiopic, Coptic, Vai, Bamum, reversed, doubled.
MARKS = "?\uff1f\ufe56\ufe16\u061f\u037e\u1367\u2cfa\u2cfb\ua60f\ua6f7\u2e2e\u2047\u2048\u2049\u203d\u2753\u2754"
_CLOSING = "\"'”’»」』）)*_`"
_MARKED = re.compile(rf"[^{MARKS}]*[{MARKS}][{re.escape(_CLOSING)}]{{0,3}}")
# The Greek question mark is usually typed as a semicolon. The Armenian one stands inside the word that is stressed.
_GREEK = re.compile(r"(?=[^;]{0,400}[\u0370-\u03ff\u1f00-\u1fff])[^;]{1,400};")
_ARMENIAN = re.compile(r"[^\u055e]{0,300}\u055e[^\u0589:]{0,300}[\u0589:]?")
_JAPANESE = re.compile(
    r".{0,300}?(?:(?:です|ます|でしょう|だろう|ました|でした|ません|ある|いる|する|した|の|なの|もの|何|誰|どれ|いくつ|どこ)か"
    r"|かしら|かな|でしょう)[。．.!！]?(?=$|[\s」』])|.{0,300}?(?:何|誰|どこ|どれ|どの|いつ|いくつ|いくら|なぜ).{0,100}[。．]"
)
_CHINESE = re.compile(
    r".{0,300}?(?:吗|嗎|呢)[。．.]?(?=$|[\s”」])"
    r"|.{0,300}?(?:什么|什麼|甚么|甚麼|多少|几|幾|谁|誰|哪|怎么|怎麼|怎样|怎樣|为何|為何|何时|何時|是否|是不是|有没有|有沒有|为什么|為什麼)"
    r"[^。．]{0,200}(?:[。．]|$)"
)
_KOREAN = re.compile(
    r".{0,300}?(?:(?:습|입|합|됩|갑|릅|십)?니까|[나은는인을가]가요|나요|까요|[인는은던]지요|무엇인가|누구인가|어디인가|얼마인가)[.。]?(?=$|\s)"
)
_THAI = re.compile(
    r".{0,300}?(?:อะไร|ไหม|มั้ย|กี่|ใคร|ที่ไหน|ไหน|เมื่อไร|เมื่อไหร่|เท่าไร|เท่าไหร่|เท่าใด|อย่างไร|ยังไง|ทำไม|หรือไม่|หรือเปล่า|ใด).{0,200}"
)
_LAO_KHMER_BURMESE = re.compile(r".{0,300}?(?:ຫຍັງ|ໃຜ|ໃສ|ຈັກ|ບໍ່|ເທົ່າໃດ|អ្វី|នរណា|ណា|ប៉ុន្មាន|ដែរឬទេ|ဘာ|ဘယ်|လား|လဲ|သလဲ|နည်း).{0,200}")
_INDIC = re.compile(
    r".{0,300}?(?:क्या|कौन|कितन[ेीा]|कहाँ|कहां|कब|क्यों|कैस[ेीा]|किस|কি|কী|কে|কোন|কত|কোথায়|কখন|কেন)(?=[\s।]).{0,200}।"
)
_UNMARKED = (_JAPANESE, _CHINESE, _KOREAN, _THAI, _LAO_KHMER_BURMESE, _INDIC)
_KANA = re.compile(r"[\u3041-\u30ff]")


def asking_part(line: str) -> str | None:
    """The part of ``line`` up to the end of its first question; None if it asks nothing.

    A question without a mark counts only in languages that need none, and there only by its own words.
    """
    marked = marked_part(line)
    if marked is not None:
        return marked
    line = unwrapped(line)
    for pattern in _UNMARKED:
        if pattern is _CHINESE and _KANA.search(line):
            continue
        found = pattern.match(line)
        if found is not None:
            return found.group()
    return None


def marked_part(line: str) -> str | None:
    """The part of ``line`` up to its first question mark; None if it has none."""
    for pattern in (_MARKED, _GREEK, _ARMENIAN):
        found = pattern.match(line)
        if found is not None:
            return found.group()
    return None


def ends_with_mark(text: str) -> bool:
    return text.endswith((*MARKS, ";"))
