"""Patterns of refusals by language, matched from the start of an answer without case and accents.

They name what cannot be seen or told, so that short answers ("no", "none", "not a stop sign") and texts that begin alike
("Sorry, we're closed", "I can't believe it's not butter") stay answers.
"""
# ruff: noqa: E501

from __future__ import annotations

_END = r"(?=$|[\s.,;:!?()–-])"
_VERB = (
    r"(?:see|tell|say|read|determine|identify|answer|make out|find|recogni[sz]e|provide|assist|help|discern|view|access|"
    r"confirm|verify|be (?:sure|certain|determined|seen|read|identified|answered|confirmed|verified|told|discerned|"
    r"recogni[sz]ed|made out|inferred|established|ascertained)|know|infer|decipher|distinguish|detect|describe|process|"
    r"analy[sz]e|give|specify|respond|comply|look at|perceive|be of)"
)
_SHOWN = (
    r"(?:visible|shown|specified|mentioned|legible|readable|clear|identifiable|indicated|discernible|determinable|present|"
    r"displayed|stated|given|provided|depicted|answerable|recogni[sz]able|evident|apparent|pictured|decipherable|known|"
    r"included|listed|described|distinguishable|in (?:the|this) (?:image|picture|photo))"
)
_PICTURE = (
    r"(?:image|picture|photo(?:graph)?|chart|graph|figure|plot|diagram|document|screenshot|scene|video|table|map)"
)
_TEXT = r"(?:text|writing|words?|letters?|numbers?|digits?|information|data|context|details?|evidence|answer|sign|logo|label)"

LEADS = (
    r"(?:i'?m|i am|we'?re|we are) (?:very |so |really |truly )?sorry",
    r"sorry",
    r"(?:i|we|my) apologi[sz]e?(?:s|ies)?",
    r"my apologies|apologies",
    r"unfortunately|regrettably|i'?m afraid(?: that)?|i am afraid(?: that)?",
    rf"(?:based on|from|in|looking at|according to|given) (?:the|this) (?:provided |given )?{_PICTURE}(?: provided| alone)?",
    r"the answer(?: to (?:the|this) question)? is|it is|it's|this is|that is",
    r"(?:es )?tut mir (?:sehr )?leid|entschuldigung|leider|desole|je suis desolee?|malheureusement|je regrette",
    r"lo siento(?: mucho)?|lamentablemente|desafortunadamente|mi dispiace|purtroppo|desculpe|sinto muito|infelizmente|lamento",
    r"sorry|het spijt me|helaas|przykro mi|przepraszam|niestety|омлувамся|извините|простите|к сожалению|вибачте|на жаль",
    r"uzgunum|maalesef|ne yazik ki|عذرا|آسف|للاسف|متاسفم|متأسفانه|متاسفانه|סליחה|מצטער|לצערי|क्षमा करें|माफ़ करें|दुर्भाग्य से",
    r"很?抱歉|对不起|對不起|不好意思|遗憾的是|申し訳(?:ありません|ございません)|すみません|残念ながら|죄송합니다|죄송하지만|유감스럽게도",
    r"xin loi|rat tiec|maaf|sayangnya|ขออภัย|ขอโทษ|tyvarr|desværre|dessverre|valitettavasti|bohužel|sajnos|din pacate",
)

PATTERNS: dict[str, tuple[str, ...]] = {
    "en": (
        r"(?:unanswerable|unknown|unclear|unreadable|illegible|indeterminate|indeterminable|undetermined|uncertain|unsure|"
        r"inconclusive|undeterminable|unidentifiable|unspecified|n/a|n\.a\.?|idk|not answerable|not applicable|not sure|"
        r"no answer|no idea|none of the above|no clue|none visible)(?:$|\s*[.,;:(–-])",
        rf"(?:i|we)(?: really| simply| just| still)? (?:can ?not|can't|could not|couldn't|am unable to|am not able to)"
        rf" (?:\w+ ){{0,2}}?{_VERB}{_END}",
        r"(?:i'm|i am|we are)(?: currently)? (?:unable|not able) to ",
        rf"(?:i|we) (?:see|find|can see) no (?:visible |readable |clear )?{_TEXT}",
        r"(?:i|we) (?:can ?not|can't|could not|couldn't|do not|don't)$",
        rf"(?:i|we) (?:do not|don't|did not|didn't) (?:\w+ ){{0,1}}?(?:know|see|have (?:enough|sufficient|the|any|access)){_END}",
        r"(?:i'm|i am) (?:not |un)(?:sure|certain)",
        rf"(?:can ?not|can't|could not|couldn't|unable to|not able to|impossible to|not possible to) (?:\w+ ){{0,1}}?{_VERB}{_END}",
        rf"(?:not possible|impossible|difficult|hard|tough|unclear|challenging) (?:for me )?to "
        rf"(?:\w+ ){{0,1}}?{_VERB}{_END}",
        rf"(?:it|this|that|the (?:\w+ ){{1,6}}?)(?: is| are|'s| was)? ?(?:can ?not|can't|could not) {_VERB}{_END}",
        r"(?:the (?:\w+ ){1,6}?|it |this |that )(?:is|are|isn't|aren't|was)(?: not)? ?(?:\w+ly )?"
        r"(?:unclear|unknown|illegible|unreadable|uncertain|unspecified|indeterminate|unanswerable|too (?:blurry|small|dark))",
        rf"(?:the (?:\w+ ){{1,6}}?|it |this |that )(?:is not|isn't|are not|aren't|was not) (?:\w+ly )?(?:{_SHOWN}|possible){_END}",
        rf"not (?:\w+ly )?{_SHOWN}(?:$|[.,;:(]| (?:in|on|from|here|enough|at|by|what|which|who|if|whether))",
        r"too (?:blurry|small|dark|blurred|far away|unclear) to ",
        rf"there(?:'s| is| are| was| were)(?: no|n't| not)(?: any| a| an| enough| sufficient)? (?:[\w-]+ ){{0,6}}?"
        rf"(?:(?:in|on|within) (?:the|this) (?:\w+ )?{_PICTURE}|visible|shown|legible|readable|enough information|information"
        rf"|discernible)",
        rf"there(?:'s| is| are)(?: no|n't| not)(?: any| enough)? (?:visible |readable |legible |clear )?{_TEXT}"
        rf"(?:$|[.,]| (?:in|on|to|visible|that))",
        rf"(?:no|no visible|no legible|no readable|no clear|no discernible|no specific|no enough|nothing) ?(?:{_TEXT})?"
        rf"(?: is| are)?(?: clearly)? (?:visible|shown|legible|readable|discernible|in (?:the|this) {_PICTURE})",
        r"no (?:visible |legible |readable |clear )?(?:text|writing|information)$",
        rf"no (?:[\w-]+ ){{1,3}}(?:is |are )?(?:visible|in (?:the|this) {_PICTURE}|can be (?:seen|read))",
        rf"(?:the|this) (?:provided |given )?(?:{_PICTURE}|question|text|caption|context|information)(?: provided)? (?:does not|doesn't|do not"
        r"|did not|has no|contains no|shows no|provides no|gives no|lacks|is too (?:blurry|small|dark|low|blurred|unclear)|is "
        r"not clear|isn't clear|is unclear|can ?not be|can't be|cannot|is unanswerable|is not answerable)",
        r"(?:insufficient|not enough|inadequate|lack of) (?:information|context|data|details?|evidence|resolution)",
        r"(?:more|additional|further) (?:information|context|details?) (?:is|are|would be) (?:needed|required|necessary)",
        r"as an? (?:ai|artificial|language model|large language|text-based|virtual|assistant)",
        rf"please (?:provide|upload|share|send|give)(?: me)?(?: with)?(?: the| a| an| more| another)?(?: \w+)? ?"
        rf"(?:{_PICTURE}|context|information|details)",
        r"i'?m sorry$|i am sorry$|i have no (?:idea|information|way)|i (?:was|were) (?:unable|not able) to |unanswerable question",
        r"(?:[\w-]+ ){1,3}(?:is |are )?not (?:\w+ly )?(?:visible|legible|readable|discernible|decipherable)(?:$|[.,;(]| in | here)",
        r"(?:answer|information|data|text|number|name|date|brand) (?:is |are )?not (?:found|available|provided|given|shown|specified|mentioned|stated|included|in (?:the|this) )",
        r"no (?:relevant|sufficient|such|specific|explicit|further) (?:text|information|data|answer|details?)(?:$|[.,;]| (?:in|is|was|on) )",
        r"none of the (?:text|words|letters|numbers|writing|details) (?:is|are|can) ",
        rf"not available in (?:the|this) {_PICTURE}|that information is not |it (?:doesn't|does not) say$",
        r"i(?:'m| am) (?:just |only )?an? (?:ai|artificial|language model|large language|text-based|virtual)",
        r"without (?:more|additional|further|seeing)",
    ),
    "de": (
        r"(?:unbekannt|unklar|unleserlich|nicht (?:erkennbar|lesbar|sichtbar|zu erkennen|zu sehen|zu lesen|ersichtlich|angegeben"
        r"|bestimmbar|beantwortbar|moglich|feststellbar|genannt|verfugbar|eindeutig)|keine (?:angabe|ahnung|antwort)|k\. ?a\.?)"
        rf"{_END}",
        r"(?:ich|wir) (?:kann|konnen|konnte) (?:\w+ ){0,8}?(?:nicht|kein\w*)",
        r"ich wei(?:ss|ß) (?:es )?nicht|ich bin (?:mir )?nicht sicher|weiss nicht$",
        r"(?:es|das|der text|die \w+|der \w+) (?:ist|sind|lasst sich|kann|konnen|wird) (?:\w+ ){0,5}?(?:nicht|unklar|unleserlich|unmoglich)"
        r" ?(?:moglich|erkenn\w*|bestimm\w*|sichtbar|lesbar|zu |erkannt|ersichtlich|angegeben|beantwort\w*|gezeigt|$)?",
        r"(?:auf|in) (?:dem|diesem|der) (?:bild|foto|diagramm|grafik|abbildung) (?:ist|sind|gibt es|steht|befindet sich) "
        r"(?:\w+ ){0,3}?(?:nicht|kein\w*)",
        r"(?:das|dieses|die|der) (?:bild|foto|diagramm|grafik) (?:zeigt|enthalt|hat|ist) (?:\w+ ){0,3}?(?:nicht|kein\w*|zu)",
        r"(?:es gibt|es ist|es sind) kein\w* (?:\w+ ){0,2}?(?:text|schrift|information\w*|sichtbar\w*|\w+ (?:im|auf dem) bild)",
        r"kein (?:text|schriftzug)(?: (?:sichtbar|vorhanden|im bild|erkennbar|auf dem bild)|$)",
        r"(?:nicht genug|nicht genugend|zu wenig|keine ausreichenden) (?:information|daten|angaben)|als (?:ki|sprachmodell)",
    ),
    "fr": (
        r"(?:inconnue?|illisible|indetermine[e]?|non (?:visible|lisible|precise|specifie|mentionne|indique|determine|communique|"
        rf"disponible|applicable|repondable)e?|pas (?:visible|lisible|clair|mentionne|indique|precise)e?|sans reponse){_END}",
        r"(?:il (?:est|n'est pas|m'est) |c'est |ce n'est pas )?(?:impossible|pas possible|difficile) (?:de|d'|a) ?",
        r"(?:je|nous|on) n(?:e|') ?(?:peux|peut|pouvons|suis|sais|vois|voit|dispose|parviens|arrive|ai)(?: \w+){0,3}? pas",
        r"je ne (?:sais|peux|vois|distingue)(?: pas)?|je suis incapable",
        r"(?:l'|cette |la |le |les )(?:image|photo|question|graphique|texte|reponse|information)s? (?:ne|n'est|n'est pas|n'a|n'indique|"
        r"n'affiche|ne contient|ne montre|est (?:illisible|floue|trop|inconnue))",
        r"il n'?y a (?:pas|aucun\w*) (?:\w+ |d'|de ){0,4}?(?:texte|information|visible|l'image|image|photo|assez|suffisamment)",
        r"(?:aucune? |pas de |pas d')(?:texte|information|reponse|mot|ecriture)|pas assez d'information|on ne (?:voit|peut)",
        r"en tant qu(?:e |')(?:ia|intelligence|modele)",
    ),
    "es": (
        r"(?:desconocid[oa]|ilegible|indeterminad[oa]|no (?:visible|legible|especificad[oa]|mencionad[oa]|determinad[oa]|aplica|"
        rf"disponible|aplicable|se (?:ve|muestra|menciona|especifica|indica|aprecia|distingue|sabe|lee|observa)|lo se|es (?:posible|visible|"
        rf"legible|claro|clara))|sin respuesta|sin texto|n/d){_END}",
        r"no (?:se )?(?:puedo|puede|pueden|podemos|logro|soy capaz|es posible|resulta posible|alcanzo|distingo|tengo (?:suficiente|la |"
        r"informacion|acceso)|veo|hay (?:\w+ ){0,3}?(?:texto|informacion|visible|imagen|suficiente|foto)|se (?:puede|pudo|ve|logra))",
        r"(?:es |resulta )?(?:imposible|dificil) (?:de )?(?:determinar|saber|decir|ver|leer|identificar|responder|distinguir)",
        r"(?:la|esta|el|este) (?:imagen|foto|fotografia|pregunta|grafico|texto|respuesta|informacion) no ",
        r"(?:informacion|datos) insuficientes?|falta informacion|como (?:una )?(?:ia|inteligencia|modelo)",
    ),
    "it": (
        r"(?:sconosciut[oa]|illeggibile|indeterminat[oa]|non (?:visibile|leggibile|specificat[oa]|menzionat[oa]|indicat[oa]|determinabile|"
        rf"disponibile|applicabile|si (?:vede|legge|sa|capisce)|lo so|e (?:possibile|visibile|leggibile|chiaro|chiara|specificat[oa]))|"
        rf"nessun testo|nessuna risposta){_END}",
        r"non (?:si )?(?:posso|puo|riesco|possiamo|sono in grado|ho (?:abbastanza|informazioni|accesso)|vedo|c'e (?:\w+ ){0,3}?"
        r"(?:testo|scritta|informazion\w*|immagine|visibile)|ci sono (?:\w+ ){0,3}?(?:informazioni|testi|immagine|visibili|scritte))",
        r"(?:e )?(?:impossibile|difficile) (?:determinare|dire|sapere|vedere|leggere|stabilire|rispondere|identificare)",
        r"(?:l'|la |questa |il |lo )(?:immagine|foto|domanda|grafico|testo|risposta) non |informazioni insufficienti|come (?:ia|modello)",
    ),
    "pt": (
        r"(?:desconhecid[oa]|ilegivel|indeterminad[oa]|nao (?:visivel|legivel|especificad[oa]|mencionad[oa]|informad[oa]|determinad[oa]|"
        rf"disponivel|aplicavel|se (?:ve|sabe|aplica)|sei|e (?:possivel|visivel|legivel|claro))|sem resposta|sem texto){_END}",
        r"(?:eu )?nao (?:posso|pode|podemos|consigo|e possivel|sou capaz|da para|vejo|tenho (?:informac|acesso|como)|ha (?:\w+ ){0,3}?"
        r"(?:texto|informac\w*|imagem|visivel|suficiente|foto)|existe (?:\w+ ){0,2}?(?:texto|informac))",
        r"(?:e )?(?:impossivel|dificil) (?:de )?(?:determinar|dizer|saber|ver|ler|identificar|responder)",
        r"(?:a|esta|o|este) (?:imagem|foto|pergunta|grafico|texto|resposta) nao |informac(?:ao|oes) insuficientes?|como (?:uma )?(?:ia|modelo)",
    ),
    "nl": (
        rf"(?:onbekend|onduidelijk|onleesbaar|niet (?:zichtbaar|leesbaar|te (?:zien|lezen|bepalen|zeggen|herkennen)|vermeld|bekend|"
        rf"duidelijk|aangegeven|mogelijk|van toepassing)|geen (?:idee|antwoord|tekst|informatie|tekst zichtbaar)|n\.?v\.?t\.?){_END}",
        r"(?:ik|we|men) (?:kan|kunnen|weet|zie|ben) (?:\w+ ){0,6}?(?:niet|geen)",
        r"(?:het|dat|dit) is (?:\w+ )?(?:niet|onmogelijk|onduidelijk|moeilijk)(?: mogelijk)? ?(?:om|te|duidelijk|zichtbaar|leesbaar)",
        r"(?:de|deze|het|dit) (?:afbeelding|foto|vraag|grafiek|tekst|antwoord|beeld) (?:\w+ ){1,3}?(?:niet|geen|onleesbaar)",
        r"er (?:is|zijn|staat) (?:geen|niet) (?:\w+ ){0,3}?(?:tekst|informatie|zichtbaar|afbeelding|foto)|onvoldoende informatie|kan niet worden",
    ),
    "pl_cs": (
        rf"(?:nieznan[yea]|nieczyteln[yea]|niewidoczn[yea]|nie (?:wiadomo|widac|wiem|dotyczy|podano|okreslono)|brak (?:odpowiedzi|danych|"
        rf"informacji|tekstu)|neznam[ey]|necitelne|nevim|nelze (?:urcit|precist)|neni (?:videt|viditeln[ey]|znam[ao])){_END}",
        r"nie (?:moge|mozna|jestem w stanie|jest mozliwe|da sie|potrafie|widze|ma (?:\w+ ){0,3}?(?:tekst\w*|informacji|obraz\w*|zdjeci\w*))",
        r"(?:obraz|zdjecie|pytanie|wykres|tekst|na (?:obrazie|zdjeciu)) (?:\w+ )?nie |niemozliwe do|trudno (?:powiedziec|okreslic)|nie jestem pew",
        r"(?:nemohu|nemuzu|nedokazu) |obrazek ne|na obrazku ne",
    ),
    "ru_uk": (
        r"(?:неизвестно|неясно|непонятно|неразборчиво|невідомо|незрозуміло|нерозбірливо|не (?:видно|указано|определено|ясно|знаю|"
        rf"применимо|виден|видна|читается|указан\w?|вказано|визначено)|нет (?:ответа|данных|информации|текста)|н/д){_END}",
        r"(?:я |мы |ми )?не (?:могу|можу|можем|можемо|могли|вижу|бачу|знаю|в состоянии|удается|вдалося|удалось|уверен|впевнен)",
        r"(?:ответить |определить )?(?:невозможно|неможливо|нельзя|трудно|сложно|важко) ?(?:определить|сказать|прочитать|увидеть|разобрать|"
        r"ответить|визначити|сказати|прочитати|понять|установить|побачити|розібрати|відповісти|$)",
        r"(?:на |в )?(?:этом |данном |цьому )?(?:изображени[еи]|фото|фотографии|картинке|рисунке|зображенн[іія]|графике) (?:\w+ ){0,2}?(?:нет|не|немає|отсутств\w*)",
        r"(?:изображение|зображення|вопрос|текст|запитання) (?:\w+ ){0,2}?не |недостаточно (?:информации|данных)|недостатньо (?:інформації|даних)|немає (?:тексту|інформації|відповіді)|как (?:ии|языковая)",
        r"(?:в|на) \w+ (?:нет|немає) (?:текста|тексту)",
    ),
    "tr": (
        r"(?:bilinmiyor|belirsiz|okunamıyor|okunaksız|görünmüyor|görülmüyor|belirtilmemiş|bilmiyorum|cevap yok|cevaplanamaz|uygulanamaz|"
        rf"metin yok|net değil|belli değil){_END}",
        r".{0,60}?(?:belirlenemiyor|belirleyemiyorum|okuyamıyorum|göremiyorum|söyleyemem|söyleyemiyorum|belirlemek mümkün değil|mümkün değil|"
        r"bulunmuyor|bulunmamaktadır|anlaşılmıyor|yeterli bilgi yok|cevaplayamam|cevaplayamıyorum|yanıtlayamam|tespit edilemiyor|"
        r"görünmüyor|yardımcı olamam)",
        r"(?:görüntüde|resimde|görselde|fotoğrafta|grafikte) .{0,30}?(?:yok|değil)",
    ),
    "ar": (
        r"(?:غير (?:معروف\w*|واضح\w*|مرئي\w*|مقروء\w*|محدد\w*|ممكن|متوفر\w*|مذكور\w*|قابل)|مجهول|لا (?:اعرف|ادري|اعلم|يوجد (?:نص|جواب|اجابه|إجابة|معلومات))|ليس واضحا)",
        r"(?:لا|لم|لن) (?:\w+ ){0,2}?(?:يمكن\w*|استطيع|أستطيع|يمكننا|اتمكن|أتمكن|نستطيع|تظهر|تحتوي|تتوفر|توجد معلومات)",
        r"(?:لا يوجد|لا توجد|ليس هناك|ليست هناك) .{0,30}?(?:الصورة|نص|معلومات)|(?:الصورة|السؤال|النص) (?:لا|ليس|غير|ليست)|من (?:غير الممكن|الصعب|المستحيل)|المعلومات غير|تعذر",
    ),
    "he": (
        r"(?:לא (?:ידוע|ברור|נראה|קריא|מצוין|צוין|יודע\w*|ניתן|אפשר|יכול\w*|רואה|בטוח\w*|רלוונטי|מופיע)|אי אפשר|בלתי אפשרי|אין (?:תשובה|טקסט|מספיק|מידע))",
        r"אני לא (?:יכול|יודע|רואה|מצליח|בטוח)|אינני|(?:התמונה|השאלה|בתמונה) (?:לא|אינה|אין)|קשה (?:לומר|לקבוע)|לא ניתן",
    ),
    "fa_ur": (
        r"(?:نامشخص|ناشناخته|ناخوانا|معلوم نیست|مشخص نیست|نمیدانم|نمی دانم|نمی‌?دانم|نامعلوم|غیر واضح|معلوم نہیں|واضح نہیں|متن ندارد|نظر نہیں آ|پتہ نہیں)",
        r".{0,60}?(?:نمی ?توان\w*|نمی‌توان\w*|قابل (?:تشخیص|خواندن|مشاهده|رؤیت|رویت|تعیین) نیست|امکان ?پذیر نیست|ممکن نیست|وجود ندارد|نہیں (?:کر سکتا|دیکھ سکتا|بتا سکتا|پڑھ سکتا|کیا جا سکتا|ہے اس تصویر)|ممکن نہیں|کوئی متن نہیں)",
    ),
    "hi_bn": (
        r"(?:अज्ञात|अस्पष्ट|पता नहीं|ज्ञात नहीं|स्पष्ट नहीं|दिखाई नहीं|मालूम नहीं|मुझे नहीं पता|मुझे पता नहीं|उपलब्ध नहीं|कोई (?:पाठ|टेक्स्ट|उत्तर|जानकारी) नहीं|অজানা|জানি না|স্পষ্ট নয়|অস্পষ্ট)",
        r".{0,60}?(?:नहीं (?:किया जा सकता|जा सकता|कर सकता|कर सकती|पढ़ सकता|देख सकता|बता सकता|दे सकता|दिख रहा|है इस)|संभव नहीं|असंभव|पर्याप्त जानकारी नहीं|পারছি না|সম্ভব নয়|যাচ্ছে না|কোনো লেখা নেই)",
        r"(?:छवि|चित्र|तस्वीर|इमेज|फोटो) (?:में|से) .{0,40}?नहीं",
    ),
    "zh": (
        r"(?:我|我们|這|这|从图(?:片|中)?(?:中)?|從圖(?:片|中)?(?:中)?|根据(?:图片|图像)?.{0,6}|目前|答案)?[,，]?(?:并|並)?(?:无法|無法|不能|难以|難以|没法|沒法|没办法|沒辦法|不可能)(?:$|。|.{0,14}?(?:确定|確定|判断|判斷|识别|識別|看|回答|辨|读|讀|得知|知道|提供|确认|確認|分辨|推断|推斷|说|說|查看|获取|獲取|告诉|訪|访|解答|认))",
        r"(?:在|从|從)?(?:这|這|该|該|此)?[张張幅]?(?:图|圖|照片|画面|畫面)[片像表中裡里上内內]{0,3}(?:[中里裡上内內]|显示|顯示)?(?:并|並|中)?(?:没有|沒有|未|无|無|看不|不|没|沒)",
        r"(?:不知道|不清楚|看不清|看不到|看不出|未知|不明确|不明確|不明|不可见|不可見|不确定|不確定|不详|不詳|无法|無法|不适用|不適用|没有(?:答案|文字|足够|相关|显示|提供|可见)|沒有(?:答案|文字|足夠|相關|顯示|提供|可見)|无(?:答案|文字|法|可见)|無(?:答案|文字|可見)|信息不足|資訊不足|未(?:显示|顯示|提及|提供|知|标明|標明)|模糊不清|我不知道|我不确定|作为(?:一个)?(?:ai|人工智能|语言模型)|難以|难以)",
        r"没有.{0,10}(?:图片|图像|图中|照片)|(?:图片|图像|文字|文本|问题|答案|信息)(?:不|太|过于|過於|无法|無法|没有|沒有|未)",
    ),
    "ja": (
        r".{0,40}?(?:判断|特定|確認|回答|識別|判別|認識|断定|お答え|推測|判読|読み取り|提供|お手伝い|対応)(?:すること)?(?:が|は|も)?(?:でき|出来)(?:ません|ない|ず|かね)",
        r".{0,30}?(?:わか|分か|判)(?:りません|らない|りかね)|.{0,20}?(?:読め|読み取れ|見え|見つけられ|見当たり|答えられ|見て取れ)(?:ません|ない)",
        r"(?:不明(?:です|$|。|瞭)|判読不能|回答不可|判別不能|不可能|該当なし|情報(?:が|は)?(?:不足|ありません|足りません)|不詳|未記載|記載なし|記載(?:が|は)ありません|確認不可)",
        r"(?:この|その)?(?:画像|写真|図|グラフ|絵|映像|問題|質問)(?:内|の中|中|上)?(?:に|から|で|は|が)(?:は|も)?.{0,30}?(?:ありません|ない|ません|いません)",
        r"(?:文字|テキスト|情報)(?:が|は).{0,12}?(?:ありません|ません|ない)",
    ),
    "ko": (
        r".{0,40}?(?:수 없|수가 없|모르겠|불가능|불가|보이지 않|않습니다|알기 어렵|판단하기 어렵)",
        r"(?:알 수 없음|불명|불분명|미상|모름|모릅니다|없음\(|해당 없음|답변 불가|(?:해당 )?정보(?:가)? (?:부족|없)|텍스트(?:가)? 없|글자(?:가)? 없|명확하지 않|확실하지 않)",
        r"(?:이 )?(?:이미지|사진|그림|차트|그래프|영상|질문)(?:에|에는|에서|에서는|는|은|가)? .{0,30}?(?:없|않|못)",
    ),
    "vi": (
        r"(?:khong (?:biet|ro|xac đinh|nhin thay|the|đu thong tin|co (?:van ban|chu|thong tin|cau tra loi)|hien thi|đoc đuoc|ap dung|kha dung|thay|chac)|chua (?:biet|ro)|khong co .{0,20}? trong (?:hinh|anh|buc))",
        r"(?:toi|chung toi) khong|(?:hinh anh|anh|buc anh|hinh|cau hoi) (?:nay )?khong|trong (?:hinh|anh|buc anh).{0,20}? khong|thieu thong tin|khong the",
    ),
    "id": (
        rf"(?:tidak (?:diketahui|jelas|terlihat|terbaca|dapat|bisa|ada (?:teks|jawaban|informasi|tulisan)|disebutkan|tersedia|tahu|mungkin|ditampilkan|berlaku|yakin|pasti)|tak (?:diketahui|jelas|terlihat)){_END}",
        r"(?:saya|kami) (?:tidak|tak)|(?:gambar|foto|pertanyaan|grafik)(?: ini)? tidak|mustahil|tidak ada .{0,20}? (?:di|dalam|pada) (?:gambar|foto)|informasi tidak cukup|sulit (?:untuk )?(?:menentukan|dikatakan)",
    ),
    "th": (
        r"(?:ไม่(?:ทราบ|รู้|ชัดเจน|แน่ใจ|สามารถ|เห็น|ปรากฏ|ระบุ|มี(?:ข้อความ|ข้อมูล|คำตอบ|ตัวอักษร)|อาจ|พบ)|ไม่ได้ระบุ|มองไม่เห็น|อ่านไม่ออก|บอกไม่ได้)",
        r"(?:ฉัน|ผม|ดิฉัน|เรา)ไม่|(?:ใน)?(?:ภาพ|รูป|รูปภาพ)(?:นี้)?ไม่|ข้อมูลไม่เพียงพอ",
    ),
    "el": (
        r"(?:αγνωστο|ασαφες|δυσαναγνωστο|δεν (?:ειναι|φαινεται|μπορω|μπορει|γνωριζω|ξερω|διακρινεται|υπαρχει κειμενο|αναφερεται|βλεπω|υπαρχουν αρκετ)|αδυνατ\w+|η εικονα δεν|στην εικονα δεν)",
    ),
    "nordic": (
        rf"(?:okand|okänt|ukjent|ukendt|oklart|uklart|olasligt|uleselig\w*|ulæselig\w*|tuntematon|epaselva|ei (?:tiedossa|nay|nakyvissa|tieda|luettavissa)|vet ej|vet inte|vet ikke|ved ikke|en tieda){_END}",
        r"(?:jag|jeg|vi) (?:kan|vet|ved|ser) (?:\w+ ){0,3}?(?:inte|ikke|ej)|(?:det|bilden|bildet|billedet|fragan|sporsmalet) (?:\w+ ){1,3}?(?:inte|ikke|ej)|(?:inte|ikke) (?:synlig\w*|lasbar\w*|mulig|mojligt|tydlig\w*)|en (?:voi|pysty|nae)|(?:kan|gar|gär) (?:inte|ikke|ej) |kuvassa ei|ei ole mahdollista",
    ),
    "hu_ro": (
        rf"(?:ismeretlen|nem (?:lathato|olvashato|ismert|tudom|megallapithato|egyertelmu|lehet)|necunoscut|ilizibil|neclar|nu (?:se (?:vede|poate|stie)|stiu|pot|este (?:vizibil|clar|posibil)|exista (?:text|informatii))|imaginea nu|a kep nem|kepen nem){_END}",
    ),
}
