"""Phrases that decline if they are the whole answer, by language: "unknown", "keine Ahnung", "看不清".

They are too short to tell by their beginning: "Unknown Pleasures" and "Keine Ahnung GmbH" are answers. What may follow
one is a place ("in the image") or an explanation, see refusals.py. Compared without case and accents.
"""
# ruff: noqa: E501

from __future__ import annotations

_THING = (
    r"(?:text|writing|date|year|price|name|brand|number|information|info|answer|data|image|label|caption|logo|title|context|details?|"
    r"value|time|location|author|artist|team|colou?r|model|make|plate|license plate|license number)"
)
_SEEN = (
    r"(?:visible|shown|legible|readable|detected|mentioned|displayed|discern[ia]ble|identifiable|recogni[sz]able|indicated|specified|"
    r"stated|listed|decipherable|distinguishable|depicted|seen|pictured)"
)
_ALSO = r"(?:found|available|given|provided|present|included|described|known|clear|answerable|applicable|determinable|sure|certain|evident|apparent|disclosed)"
_BLURRY = r"(?:blurry|blurred|unclear|illegible|unreadable|out of focus|obscured|pixelated|indistinct|fuzzy)"
_HOW = r"(?:too |very |so |quite |really |completely |partially |totally |mostly )?"
_FIND_OUT = r"(?:say|tell|read|see|answer|determine|know|find|identify|decipher|make (?:it |that |this )?out|be (?:determined|seen|read|identified|answered|told))"
_MORE = r"(?:context|information|info|details?|data)"
_CLEARER = r"(?:clearer|better|closer|sharper|larger|higher[- ]resolution)"

PHRASES: dict[str, tuple[str, ...]] = {
    "en": (
        r"(?:unanswerable|unknown|unclear|unreadable|illegible|indeterminate|indeterminable|undetermined|uncertain|unsure|inconclusive|undeterminable|"
        r"unidentifiable|unidentified|unspecified|undisclosed|undefined|null|n/a|n\.a|idk|dunno|beats me|none of the above|invalid question|unanswerable question|does not apply)",
        rf"not (?:\w+ly )?(?:{_SEEN}|{_ALSO}|possible to {_FIND_OUT})",
        rf"{_HOW}{_BLURRY}(?: (?:image|picture|photo|text))?|(?:image|picture|photo|text) {_HOW}(?:{_BLURRY}|small|dark|low)|too (?:small|blurry|dark|far away) to {_FIND_OUT}",
        r"(?:unknown|illegible|unreadable|unclear|unidentifiable) (?:brand|name|date|year|price|text|handwriting|writing|value|author|artist|location|person|answer)|no (?:match|matches|results?|answer) found",
        rf"(?:the )?(?:text|writing|image|picture|photo|font|lettering|label|sign|(?:image |picture |photo )?(?:quality|resolution)) (?:is |are )?(?:too|very) (?:small|dark|low|poor|blurry|faint|far away|bad|{_BLURRY})(?: to {_FIND_OUT}(?: the (?:text|sign|label))?)?",
        r"nothing (?:can be|could be) (?:seen|read|made out)",
        r"(?:too )?low[- ]resolution(?: image)?|(?:the )?(?:image )?(?:resolution|quality) (?:is )?too low|not (?:in|on) (?:the|this) (?:image|picture|photo|chart|graph|document)",
        rf"(?:no|insufficient|not enough|inadequate) (?:visible |legible |readable |clear |relevant |sufficient )?(?:text|writing|answer|{_MORE}|clue|idea)"
        r"(?: (?:available|provided|given|found|visible|shown|detected|here))?",
        rf"no (?:visible |legible |readable |clear |specific )?{_THING} (?:is |was )?(?:{_SEEN}|{_ALSO})|none (?:{_SEEN}|{_ALSO})",
        rf"no (?!(?:one|body|thing)\b)[\w-]+(?: [\w-]+)? (?:is |are |was |were )?{_SEEN}|no such (?!thing|luck)[\w-]+",
        rf"(?:the )?{_THING} (?:is )?(?:unknown|unclear|missing|not (?:\w+ly )?(?:{_SEEN}|{_ALSO}))",
        r"(?:i |we )?(?:really |honestly |just )?(?:do not|don't) know|i dunno|(?:i have |i've |i've got )?(?:absolutely )?no (?:clue|idea)",
        r"(?:i am |i'm )?(?:not (?:\w+ly )?(?:sure|certain)|unsure|uncertain)",
        rf"(?:(?:i |we |it |this |that )?(?:can ?not|can't|could not|couldn't)|(?:it is |it's )?(?:unable|impossible|hard|difficult|tough|not possible) (?:for me )?to) (?:really |clearly )?{_FIND_OUT}"
        r"(?: it| that| this| anything| one| for sure| with certainty)?",
        rf"(?:i |we )?(?:need|require|want) (?:(?:more|additional|further|some more) {_MORE}|an? {_CLEARER} (?:image|picture|photo|view|look))",
        rf"(?:more|additional|further|some more) {_MORE} (?:is |are )?(?:needed|required|necessary)|(?:i )?need more {_MORE}",
        r"(?:it|the sign|the text|the label|the chart|the image) (?:does not|doesn't|did not|didn't) say|(?:that|it|this)(?: is|'s) (?:not|unclear)(?: shown| there| visible| clear| legible)",
        r"(?:i )?(?:see|find) (?:nothing|none)|i (?:do not|don't|can't|cannot) see (?:one|it|that|any|anything)|nothing (?:is )?(?:visible|written|shown|legible|readable)",
        rf"(?:image|picture|photo) (?:is )?(?:not (?:available|found|provided|loaded|visible|clear)|unavailable|missing)|{_THING} unavailable",
    ),
    "de": (
        r"(?:unbekannt|unklar|unleserlich|ungewiss|unscharf|verschwommen|unkenntlich|unbestimmt|nichts zu (?:sehen|erkennen|lesen))",
        r"(?:leider )?(?:\w+ )?nicht (?:gut |klar |eindeutig |deutlich |genau )?(?:erkennbar|lesbar|sichtbar|zu (?:erkennen|sehen|lesen|entziffern|bestimmen|finden|beantworten)|ersichtlich|angegeben|"
        r"bestimmbar|beantwortbar|moglich|feststellbar|genannt|verfugbar|eindeutig|gefunden|vorhanden|bekannt|erwahnt|abgebildet|ermittelbar|dargestellt|entzifferbar)",
        r"(?:das |es )?(?:geht )?aus dem (?:bild|foto|text) nicht (?:ersichtlich|hervor|erkennbar|zu erkennen)|(?:das |es )?geht (?:nicht )?aus dem (?:bild|foto|text) (?:nicht )?hervor|(?:ich )?bin (?:mir )?(?:leider )?nicht sicher",
        r"(?:die schrift|der text|das bild|die schilder) (?:ist|sind) (?:zu|sehr) (?:klein|unscharf|dunkel|undeutlich)|(?:dazu|hierzu) liegen keine (?:informationen|angaben|daten) vor",
        r"nicht (?:im|auf dem|auf diesem|in diesem) (?:bild|foto) (?:\w+ )?(?:zu (?:sehen|erkennen|lesen|finden)|sichtbar|erkennbar|vorhanden|angegeben|enthalten)",
        r"(?:im|auf dem|auf diesem) (?:bild|foto) (?:ist )?(?:das |es )?nicht (?:zu (?:sehen|erkennen|lesen|finden)|sichtbar|erkennbar|vorhanden|angegeben|lesbar)",
        r"(?:ich )?(?:habe )?(?:da |leider )?keine (?:ahnung|angaben?|antwort|information(?:en)?|daten)(?: (?:vorhanden|verfugbar|moglich|dazu))?|k\. ?a",
        r"kein(?:e|en|er)? [\w-]+ (?:zu (?:sehen|erkennen|finden|lesen)|sichtbar|erkennbar|lesbar|angegeben|gefunden|abgebildet|(?:im|auf dem|auf diesem) (?:bild|foto))",
        r"kein (?:text|schriftzug)(?: (?:vorhanden))?|(?:zu |sehr |leider )(?:unscharf|verschwommen|undeutlich|dunkel|klein)",
        r"(?:das |es )?(?:kann|konnte) (?:ich|man|wir) (?:leider |das |es |so |hier )*(?:nicht|kaum) (?:\w+ )?(?:sagen|lesen|erkennen|sehen|beantworten|bestimmen|beurteilen|entziffern)",
        r"(?:man|ich|wir) (?:kann|konnte) (?:\w+ ){0,4}?nicht (?:\w+ )?(?:sagen|lesen|erkennen|sehen|beantworten|bestimmen|beurteilen|entziffern)",
        r"(?:das |es )?(?:weiss|weiß) ich (?:leider |es )*nicht|(?:ich )?(?:weiss|weiß)(?: es| das)? (?:leider )?nicht|(?:ich bin )?(?:mir )?nicht sicher",
        r"(?:ich |man )?(?:brauche|brauchte|benotige|benotigt|brauchte) (?:dafur |dazu |noch )?(?:mehr|weitere|weiteren) (?:kontext|informationen|infos|angaben|details)(?: dafur| dazu)?",
        r"(?:mehr|weitere) (?:kontext|informationen|angaben) (?:notig|erforderlich|benotigt|notwendig)|(?:nicht genug|nicht genugend|zu wenig|unzureichende|keine ausreichenden) (?:informationen|information|daten|angaben|kontext)",
        r"(?:das ist )?(?:schwer|schwierig|unmoglich|kaum) zu (?:sagen|erkennen|lesen|beantworten|bestimmen|entziffern)",
        r"(?:das |es )?steht (?:da |dort |hier )?nicht (?:da|dort|drauf|auf dem schild|im bild|dabei|fest)|(?:dazu|hierzu|daruber) gibt es keine (?:angabe|angaben|information|informationen)",
    ),
    "fr": (
        r"(?:inconnue?|illisible|indeterminee?|introuvable|indisponible|imprecise?|sans reponse|je l'ignore|aucune idee|(?:je n'en ai )?aucune idee|je ne sais pas|(?:trop |tres )?floue?|n/a)",
        r"non (?:visible|lisible|precise|specifie|mentionne|indique|determine|communique|disponible|applicable|repondable|trouve|renseigne|identifiable|reconnaissable)e?",
        r"pas (?:tres |assez |clairement )?(?:visible|lisible|clair|mentionne|indique|precise|net|trouve|specifie|sur|certain|disponible)e?",
        r"(?:ce|cela|ca|il|elle) n'est pas (?:tres |assez )?(?:visible|lisible|claire?|mentionnee?|indiquee?|precisee?|nette?|possible|specifiee?)",
        r"(?:l'|la |le |les |cette |ce )[\w-]+ (?:\w+ )?(?:n'est|ne sont) pas (?:\w+ment )?(?:visible|lisible|claire?|indiquee?|mentionnee?|precisee?|affichee?|specifiee?|connue?|disponible)s?",
        r"(?:reponse|donnees?|informations?|date|marque|texte|nom|annee) (?:inconnue?s?|indisponibles?|insuffisante?s?|manquante?s?|illisibles?|introuvables?|non disponibles?)",
        r"(?:image|photo) (?:trop )?floue|(?:le |la |l')?(?:texte|panneau|numero|plaque|inscription|marque|date) (?:est )?(?:illisible|trop floue?|floue?|inconnue?|invisible)",
        r"rien (?:n'est |de )?(?:visible|lisible|indique)|texte (?:non|pas|peu) (?:lisible|visible)|aucune? [\w-]+ (?:\w+ )?(?:visible|lisible|indiquee?|mentionnee?|trouvee?|disponible)|aucune? (?:texte|information|reponse|donnee|mot)|pas (?:de |d')(?:texte|information|informations|reponse|donnees)",
        r"(?:j'aurais|j'ai) besoin de plus (?:de contexte|d'informations?|de details)|il (?:me )?(?:faudrait|faut) plus (?:de contexte|d'informations?|de details)|(?:pas assez|manque|plus) (?:d'informations?|de contexte)(?: necessaires?)?",
        r"(?:il est |c'est )?(?:difficile|impossible|dur) (?:a|de) (?:le |la )?(?:dire|lire|determiner|savoir|voir|repondre|distinguer|preciser|identifier)",
    ),
    "es": (
        r"(?:desconocid[oa]|ilegible|indeterminad[oa]|indefinid[oa]|sin (?:respuesta|texto|informacion|datos|especificar|determinar)|ni idea|no (?:tengo|tengo ni) idea|no tengo la menor idea|n/d|n/a)",
        r"(?:demasiado |muy )?borros[oa]|imagen (?:demasiado |muy )?borrosa|(?:la )?(?:imagen|foto) (?:esta |es )?(?:demasiado |muy )?(?:borrosa|oscura|desenfocada)",
        r"no (?:visible|legible|especificad[oa]|mencionad[oa]|determinad[oa]|aplica|aplicable|disponible|encontrad[oa]|indicad[oa]|identificable|identificad[oa]|presente|claro|proporcionad[oa])",
        r"no (?:se )?(?:ve|muestra|menciona|especifica|indica|aprecia|distingue|sabe|lee|observa|encontro|encuentra|aparece|figura|consta|puede (?:ver|leer|saber|determinar)|lo se|se|sabria decir(?:lo)?|estoy segur[oa])",
        r"no (?:es|esta|queda) (?:posible|visible|legible|claro|clara|indicad[oa]|especificad[oa])|(?:el |la )?(?:texto|letrero|cartel|numero|matricula|nombre) (?:es |esta )?(?:ilegible|borros[oa]|desconocid[oa])",
        r"(?:la |el |los |las )[\w-]+ (?:\w+ )?no (?:es|esta|estan|son|se) (?:\w+mente )?(?:visible|legible|clar[oa]|indicad[oa]|especificad[oa]|muestra|ve|lee|aprecia|distingue|menciona|indica|disponible)s?",
        r"(?:respuesta|informacion|dato|fecha|marca|nombre) (?:desconocid[oa]|no disponible|ilegible)|no hay (?:suficientes? )?(?:datos|informacion)",
        r"(?:necesito|necesitaria|se necesita|hace falta|hacen falta|falta|se requiere) (?:mas )?(?:contexto|informacion|detalles|datos)|(?:informacion|datos|contexto) insuficientes?",
        r"(?:es )?(?:dificil|imposible) (?:de |decirlo|saberlo)?(?:decir|leer|saber|ver|determinar|distinguir|responder|)",
    ),
    "it": (
        r"(?:sconosciut[oa]|illeggibile|indeterminat[oa]|indefinit[oa]|nessuna? (?:testo|risposta|idea|informazione|dato)|nessun (?:testo|dato)(?: visibile)?|non ne ho (?:la minima )?idea|n/d)",
        r"(?:troppo |molto )?sfocat[oa]|immagine (?:troppo |molto )?sfocata|(?:l')?(?:immagine|la foto) (?:e )?(?:troppo |molto )?(?:sfocata|scura|sgranata)",
        r"non (?:visibile|leggibile|specificat[oa]|menzionat[oa]|indicat[oa]|determinabile|disponibile|applicabile|trovat[oa]|presente|identificabile|riconoscibile|chiar[oa]|fornit[oa])",
        r"non (?:si (?:vede|legge|sa|capisce|distingue|trova)|lo so|so|saprei(?: dire| dirlo)?|compare|e (?:possibile|visibile|leggibile|chiar[oa]|specificat[oa]|indicat[oa]|riportat[oa]|presente)|sono sicur[oa])",
        r"(?:il |la |l')?(?:testo|cartello|scritta|numero|targa|nome|informazione) (?:e )?(?:illeggibile|sfocat[oa]|sconosciut[oa]|non (?:disponibile|visibile|leggibile))",
        r"(?:la |il |lo |l'|i |le )[\w-]+ (?:\w+ )?non (?:e|sono|si) (?:\w+mente )?(?:visibil[ei]|leggibil[ei]|chiar[oa]|indicat[oa]|specificat[oa]|disponibil[ei]|ved[eo]\w*|legge|distingue|riportat[oa]|mostrat[oa])",
        r"(?:informazion[ei]|risposta|dat[oi]) (?:non )?(?:disponibil[ei]|insufficient[ei]|sconosciut[ae]|mancant[ei])",
        r"(?:ho|avrei) bisogno di (?:piu|maggiori|ulteriori) (?:contesto|informazioni|dettagli)|(?:servono|servirebbero|occorrono) (?:piu|maggiori|ulteriori) (?:informazioni|dettagli)|informazioni insufficienti",
        r"(?:e )?(?:difficile|impossibile) (?:da |a )?(?:dire|dirlo|leggere|saperlo|vedere|stabilirlo|determinare)",
    ),
    "pt": (
        r"(?:desconhecid[oa]|ilegivel|indeterminad[oa]|indefinid[oa]|sem (?:resposta|texto|informacao|dados|ideia)|nem ideia|nao (?:faco|tenho) (?:a menor )?ideia|n/d)",
        r"(?:muito |demasiado )?(?:desfocad[oa]|embacad[oa]|borrad[oa]|turv[oa])|(?:a )?(?:imagem|foto) (?:esta |e )?(?:muito |demasiado )?(?:desfocada|embacada|borrada|escura|turva)",
        r"nao (?:visivel|legivel|especificad[oa]|mencionad[oa]|informad[oa]|determinad[oa]|disponivel|aplicavel|encontrad[oa]|indicad[oa]|identificad[oa]|identificavel|presente|clar[oa]|fornecid[oa])",
        r"nao (?:se (?:ve|sabe|aplica|le|distingue)|sei(?: dizer)?|aparece|consta|(?:e|esta) (?:possivel|visivel|legivel|clar[oa]|indicad[oa]|especificad[oa])|tenho certeza|da para (?:ver|ler|saber|dizer))",
        r"(?:o |a )?(?:texto|placa|numero|nome|data|marca) (?:esta |e )?(?:ilegivel|desfocad[oa]|desconhecid[oa]|nao (?:visivel|legivel))",
        r"(?:a |o |as |os )[\w-]+ (?:\w+ )?nao (?:e|esta|sao|se|foi) (?:\w+mente )?(?:visivel|legivel|clar[oa]|indicad[oa]|especificad[oa]|mostrad[oa]|disponivel|informad[oa]|ve|le)",
        r"(?:informac(?:ao|oes)|resposta|dados?) (?:nao )?(?:disponive(?:l|is)|insuficientes?|desconhecid[oa]s?|encontrad[oa]s?)",
        r"(?:eu )?(?:preciso|precisaria) de mais (?:contexto|informac(?:oes|ao)|detalhes)|informac(?:oes|ao) insuficientes?|(?:sao|e) necessari[ao]s? mais (?:informacoes|contexto)",
        r"(?:e )?(?:dificil|impossivel) (?:de )?(?:dizer|ler|saber|ver|determinar|responder)",
    ),
    "nl": (
        r"(?:onbekend|onduidelijk|onleesbaar|onbepaald|onscherp|wazig|(?:te |erg )(?:onscherp|wazig|donker|klein|vaag)|(?:ik heb )?geen (?:idee|antwoord|informatie|gegevens|tekst(?: zichtbaar)?)|n\.?v\.?t)",
        r"niet (?:goed |duidelijk )?(?:zichtbaar|leesbaar|te (?:zien|lezen|bepalen|zeggen|herkennen|vinden)|vermeld|bekend|duidelijk|aangegeven|mogelijk|van toepassing|gevonden|aanwezig|beschikbaar|genoemd|zeker)",
        r"niet (?:op|in) (?:de|deze|het|dit) (?:afbeelding|foto|plaatje) (?:te (?:zien|lezen|vinden)|zichtbaar|aanwezig)",
        r"(?:dat )?(?:weet|kan) ik niet(?: (?:zien|lezen|zeggen|bepalen|beantwoorden))?|ik weet (?:het|dat) niet|geen \w+ (?:te zien|zichtbaar)",
        r"(?:de |het )[\w-]+ is niet (?:goed |duidelijk )?(?:zichtbaar|leesbaar|te (?:zien|lezen)|duidelijk|vermeld|bekend|aangegeven)|(?:informatie|antwoord|tekst) (?:is )?niet (?:beschikbaar|bekend|zichtbaar|leesbaar)",
        r"(?:ik )?(?:zou |heb )?meer (?:context|informatie|gegevens)(?: (?:nodig|vereist))(?: hebben)?|(?:niet genoeg|onvoldoende|te weinig) (?:informatie|context|gegevens)",
        r"(?:het is |dat is )?(?:moeilijk|lastig|onmogelijk) te (?:zeggen|zien|lezen|bepalen)|(?:de )?(?:afbeelding|foto|tekst) (?:is )?(?:te |erg )?(?:wazig|onscherp|donker|onleesbaar|onduidelijk)",
    ),
    "pl_cs": (
        r"(?:nieznan[yea]|nieczyteln[yea]|niewidoczn[yea]|niejasn[yea]|rozmazan[yea]|nie (?:wiadomo|widac|wiem|dotyczy|podano|okreslono|znaleziono|mam pojecia|jest (?:jasne|widoczne|podane)|jestem (?:pewien|pewna))|brak (?:odpowiedzi|danych|informacji|tekstu))",
        r"(?:obraz|zdjecie) jest (?:zbyt |bardzo )?(?:rozmazan[ye]|nieostr[ye]|niewyrazn[ye]|ciemn[ye])|potrzebuje wiecej (?:informacji|kontekstu)|trudno (?:powiedziec|okreslic|odczytac)|za malo (?:informacji|danych)",
        r"(?:neznam[ey]|necitelne|nevim|nelze (?:urcit|precist)|neni (?:videt|viditeln[ey]|znam[ao])|nenalezeno|rozmazane)",
    ),
    "ru_uk": (
        r"(?:неизвест(?:но|ен|на|ны)|неясно|непонятно|неразборчив[оаы]?|нечитаем[оаы]?|невідомо|незрозуміло|нерозбірливо|(?:слишком |очень )?(?:размыт[оаы]?|нечетко|расплывчато)|н/д)",
        r"не (?:видно|указан\w?|определен\w?|ясно|знаю|применимо|виден|видна|читается|найден\w?|обозначен\w?|упомянут\w?|уверен\w?|вказано|визначено|знайдено|видно)|(?:я )?не знаю",
        r"(?:\w+ ){0,2}(?:не (?:указан\w*|вид(?:ен|на|но|ны)|читается|обозначен\w*|упомянут\w*|определен\w*)|неизвест(?:ен|на|но|ны)|неразборчив\w*)|(?:данных|информации|ответа) нет|затрудняюсь (?:ответить|сказать)",
        r"(?:данные|информация|текст|ответ) отсутству\w+|отсутствует|(?:нет|недостаточно) (?:ответа|данных|информации|текста|сведений)|(?:не имею понятия|понятия не имею|без понятия)",
        r"(?:мне )?(?:нужно|требуется|необходимо) (?:больше|дополнительная|дополнительно) (?:контекста|информации|информация|данных)|(?:мне )?нужен (?:контекст|больший контекст)|недостаточно (?:информации|данных|контекста)",
        r"(?:я )?не (?:могу|можу|смог\w*) (?:\w+ )?(?:сказать|разобрать|прочитать|прочесть|определить|ответить|увидеть|понять|разглядеть|сказати|прочитати)(?: текст| это| надпись)?",
        r"(?:изображение|фото|фотография|картинка|снимок) (?:слишком |очень )?(?:размыт\w*|нечетк\w*|темн\w*|расплывчат\w*)|(?:текст|номер|надпись) (?:не )?(?:неразборчив\w?|нечитаем\w*|размыт\w?|виден|видна|читается)",
    ),
    "tr": (
        r"(?:bilinmiyor|belirsiz|okunamıyor|okunaksız|görünmüyor|görülmüyor|belirtilmemiş|bilmiyorum|cevap yok|cevaplanamaz|uygulanamaz|metin yok|net değil|belli değil|bulanık|bulunamadı|emin değilim|(?:hiçbir )?fikrim yok)",
        r"(?:görsel|görüntü|resim|fotoğraf) (?:çok )?(?:bulanık|net değil|karanlık)|daha fazla (?:bilgi|bilgiye|bağlam|bağlama) (?:ihtiyacım var|gerekli|gerekiyor)|yetersiz bilgi",
    ),
    "ar": (
        r"(?:ال\w+ )?غير (?:معروف\w*|واضح\w*|مرئي\w*|مقروء\w*|محدد\w*|ممكن|متوفر\w*|متاح\w*|مذكور\w*|موجود\w*|ظاهر\w*|قابل للقراءة|قابل للتحديد|كافي\w*)|مجهول|ضبابي\w*|(?:معلومات|بيانات) غير كافية",
        r"لا (?:أعرف|أدري|أعلم|فكرة لدي)|ليس لدي (?:أي )?فكرة|ليس واضحا|غير مؤكد\w*|لست متأكدا|لا (?:يوجد|توجد) (?:نص|جواب|إجابة|معلومات(?: كافية)?|بيانات)|لم يتم العثور(?: عليه| عليها)?|لا (?:يظهر|تظهر)|لا أرى(?: \w+)?",
        r"(?:هذه )?الصورة (?:غير واضحة|ضبابية|مشوشة|مظلمة)(?: جدا)?|(?:أنا )?أحتاج(?: إلى)? (?:مزيد|المزيد)(?: من)? (?:السياق|المعلومات|التفاصيل)",
        r"من الصعب (?:القول|التحديد|القراءة)|لا (?:يمكن|أستطيع) (?:\w+ )?(?:قراءته|قراءتها|تحديده|تحديد ذلك|القراءة|معرفته|رؤيته|رؤية ذلك|الإجابة)",
    ),
    "hi_bn": (
        r"(?:अज्ञात|अस्पष्ट|(?:बहुत )?धुंधला|धुंधली|अपठनीय|पता नहीं|नहीं पता|(?:मुझे )?(?:नहीं पता|पता नहीं)(?: है)?|ज्ञात नहीं|मालूम नहीं|नहीं मिला|लागू नहीं|(?:मैं )?नहीं जानता|मैं नहीं जानती)",
        r"(?:मुझे यकीन नहीं(?: है)?)|(?:\S+ )?(?:ज्ञात|स्पष्ट|उपलब्ध|दिखाई|उल्लेख|उल्लेखित|पढ़ने योग्य|निर्दिष्ट|दृश्यमान) नहीं(?: है| दे रहा| दे रही| देता| देती)?(?: है)?|कोई (?:पाठ|टेक्स्ट|उत्तर|जानकारी) नहीं(?: है)?",
        r"(?:छवि|चित्र|तस्वीर|फोटो|इमेज) (?:बहुत )?(?:धुंधली|धुंधला|अस्पष्ट|स्पष्ट नहीं)(?: है)?|(?:मुझे )?(?:और|अधिक) (?:संदर्भ|जानकारी)(?: की आवश्यकता)?(?: चाहिए| है)|(?:अपर्याप्त|पर्याप्त नहीं) जानकारी",
        r"(?:यह )?कहना (?:मुश्किल|कठिन|संभव नहीं) है|कह नहीं सकते|(?:मैं )?(?:पढ़|देख|बता|कह) नहीं (?:सकता|सकती|सकते)|অজানা|অস্পষ্ট|জানি না|দেখা যাচ্ছে না",
    ),
    "zh": (
        r".{0,6}?(?:看不清|看不到|看不见|看不出|看不清楚|模糊|模糊不清|不清晰|不明确|未知|不详)(?:了)?|.{0,4}(?:分辨率|清晰度|像素|解析度)(?:太|过|過)低|(?:没有|沒有|无)(?:任何)?.{1,6}(?:显示|标注|信息|文字)",
        r"(?:我|这|這|太|很|字迹|文字|图片|圖片|图像|照片|画面|图|并)*(?:看不清|看不到|看不见|看不出|看不清楚|看不出来|不清楚|不知道|不清晰|不明确|不明確|不明|不详|不詳|不可见|不可見|不确定|不確定|不适用|不適用|太模糊|模糊|模糊不清|不太清楚|未知)(?:了|的|啊|楚|。)*",
        r"(?:我)?(?:找不到|未找到|没找到|没有找到|沒有找到|没有看到|没看到|沒有看到|未发现|没有发现|没写|没有写|未显示|未顯示|未提及|未注明|未标明|未说明|没有注明|没有标明|没有提到|没有说明|没有显示)(?:了|到|。)*",
        r"(?:无|無|暂无|没有|沒有)(?:相关|相關|足够的?|可见|任何)?(?:的)?(?:信息|資訊|答案|数据|內容|内容|文字|文本)|暂无|無法|无法|(?:信息|資訊|资料)(?:不足|不够|不夠)|(?:很难|很難|难以|難以|不好)(?:说|說|判断|辨认|确定)",
        r"(?:我)?(?:还)?(?:需要|缺少|缺乏)(?:更多|更多的|足够的|额外的|其他)?(?:上下文|信息|資訊|背景|细节|资料)(?:才能.{0,10})?",
    ),
    "ja": (
        r"(?:不明(?:です|瞭(?:です)?)?|判読不能|回答不可|判別不能|不詳|未記載|記載なし|該当なし|.{1,8}(?:は|が)不明(?:です)?|確認不可|不鮮明(?:です)?|ピンボケ(?:です)?|ぼやけて(?:います|いる|おります)|(?:見つから|わから|分から|判ら)ない(?:です)?|知りません|情報なし|文字なし|データなし)",
        r".{0,20}?(?:見つかり|わかり|分かり|判り|読め|読み取れ|見え|見当たり|はっきりし|はっきり見え|写ってい|書かれてい|記載されてい|表示されてい|示されてい|言え|答えられ|明記されてい|確認でき)(?:ません|ませんでした|ない|ないです|なかった)",
        r".{0,12}?(?:情報|文脈|詳細|コンテキスト)(?:が|は)?(?:必要です|足りません|不足(?:しています|です)?|ありません|が必要)|(?:画像|写真)(?:が|は)?(?:不鮮明|ぼやけて|ぼけて|ピンボケ|暗すぎ|小さすぎ).{0,8}",
    ),
    "ko": (
        r"(?:불명|불분명|불명확|미상|모름|흐릿함|흐림|해당 없음|정보 없음|텍스트 없음|글자 없음|정보 부족|판독 불가(?:능)?|식별 불가(?:능)?|확인 불가(?:능)?|답변 불가(?:능)?|알 수 없음|찾을 수 없음|보이지 않음|표시되지 않음|언급되지 않음|명시되지 않음|확인되지 않음|없음\()",
        r".{0,30}?(?:모르겠(?:습니다|어요|음|네요)|모릅니다|몰라요|불(?:분)?명확?합니다|흐릿(?:합니다|해요|하다|하네요)|흐려요|흐립니다|명확하지 않습니다|확실하지 않습니다|안 보(?:여요|입니다|임|인다)|보이지 않(?:습니다|아요|네요|는다)|(?:읽|알|말하|판단하|확인하|식별하)기(?:가)? 어렵습니다)",
        r".{0,30}?(?:표시|언급|기재|명시|나와|적혀|쓰여)(?:되어)? ?(?:있지 않(?:습니다|아요|음)|되지 않(?:았습니다|습니다|음))|.{0,12}?(?:정보|맥락|문맥)(?:가|이)? (?:더 )?(?:필요합니다|부족합니다|필요해요)",
    ),
    "vi": (
        r"(?:không (?:biết|rõ|xác định|nhìn thấy|tìm thấy|đọc được|áp dụng|khả dụng|chắc|đủ thông tin|có (?:văn bản|chữ|thông tin|câu trả lời))|chưa (?:biết|rõ)|(?:hình ảnh|ảnh|hình) (?:bị )?(?:quá )?mờ|(?:tôi )?cần thêm (?:thông tin|ngữ cảnh)|bị mờ)",
    ),
    "id": (
        r"(?:tidak (?:diketahui|jelas|terlihat|terbaca|disebutkan|tersedia|tahu|ditemukan|ditampilkan|berlaku|yakin|pasti|ada (?:teks|jawaban|informasi|tulisan))|tak (?:diketahui|jelas|terlihat)|(?:gambar|foto)(?: ini)? (?:terlalu )?(?:buram|kabur)|(?:saya )?(?:butuh|perlu|memerlukan|membutuhkan) (?:lebih banyak )?(?:informasi|konteks)(?: lebih lanjut| tambahan)?|buram)",
    ),
    "nordic": (
        r"(?:okand|okänt|ukjent|ukendt|oklart|uklart|olasligt|uleselig\w*|ulæselig\w*|tuntematon|epaselva|ei (?:tiedossa|nay|nakyvissa|tieda|luettavissa)|vet (?:ej|inte|ikke)|ved ikke|en tieda)",
    ),
    "hu_ro": (
        r"(?:ismeretlen|nem (?:lathato|olvashato|ismert|tudom|megallapithato|egyertelmu|talalhato)|necunoscut|ilizibil|neclar|nu (?:se (?:vede|stie)|stiu|este (?:vizibil|clar|posibil)))",
    ),
    "el": (r"(?:άγνωστο|ασαφές|δυσανάγνωστο|δεν (?:γνωρίζω|ξέρω|φαίνεται|είναι (?:ορατό|σαφές|γνωστό)))",),
}

PLACES = (
    r"(?:in|on|from|within|at|by|for) (?:the|this|that|your|my) (?:[\w-]+ )?(?:image|picture|photo(?:graph)?|chart|graph|figure|plot|diagram|document|screenshot|scene|video|table|map|text|sign|question)",
    r"(?:here|there|anywhere|clearly|at all|to me|enough|alone|exactly|given the|based on|because|as the|due to)\b",
    r"(?:im|am|auf dem|auf diesem|in diesem|in dem|aus dem|auf der|in der|auf einem) (?:bild|foto|schild|diagramm|ausschnitt|abbildung|grafik|aufnahme|text)|hier\b|darauf\b",
    r"(?:sur|dans|a partir de) (?:l'|la |cette |le |ce )(?:image|photo|photographie|graphique|panneau|texte)|ici\b",
    r"(?:en|de|desde|por) (?:la|esta|el|este) (?:imagen|foto|fotografia|grafico|texto)|(?:nell'|nella |in questa |in questo |nel |dall'|dalla )(?:immagine|foto|grafico|testo)",
    r"(?:na|nesta|no|neste|pela) (?:imagem|foto|fotografia|grafico|texto)|(?:op|in|uit) (?:de|deze|het|dit) (?:afbeelding|foto|plaatje|grafiek|beeld)",
    r"(?:на|в|из) (?:этом |этой |данном |данной )?(?:изображени[ияе]|фото|фотографии|картинке|снимке|графике)|(?:в|على|من|في) (?:هذه )?(?:الصورة|النص)",
    r"(?:इस )?(?:छवि|चित्र|तस्वीर|फोटो|इमेज) (?:में|से)|(?:na|w) (?:tym )?(?:obrazie|zdjeciu|obrazku)|trong (?:hình|ảnh)|(?:di|dalam|pada) (?:gambar|foto)|sure$|i can't say",
)
"""Where something is not to be seen: this may follow a phrase."""
