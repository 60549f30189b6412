"""How refusals begin, by language, matched from the start of an answer without case and accents.

They name what cannot be seen or told, so that short answers ("no", "none", "not a stop sign") and texts that begin alike
("Sorry, we're closed", "I can't believe it's not butter", "I can't tell you why") stay answers.
"""
# ruff: noqa: E501

from __future__ import annotations

_END = r"(?=$|[\s.,;:!?()–-])(?! (?:my|me|you|your|him|her|us|love|straight|myself|yourself)\b)"
_VERB = (
    r"(?:see|read|determine|identify|answer|make out|find|recogni[sz]e|provide|assist|discern|view|access|"
    r"confirm|verify|be (?:sure|certain|determined|seen|read|identified|answered|confirmed|verified|told|discerned|"
    r"recogni[sz]ed|made out|inferred|established|ascertained)|infer|decipher|distinguish|detect|describe|process|"
    r"analy[sz]e|give|specify|respond|comply|look at|perceive|be of)"
)
_TOLD = r"(?:tell|say|know|help)"
_SHOWN = (
    r"(?:visible|shown|specified|mentioned|legible|readable|clear|identifiable|indicated|discernible|determinable|present|"
    r"displayed|stated|given|provided|depicted|answerable|recogni[sz]able|evident|apparent|pictured|decipherable|known|"
    r"included|listed|described|distinguishable|in (?:the|this) (?:image|picture|photo))"
)
_PICTURE = (
    r"(?:image|picture|photo(?:graph)?|chart|graph|figure|plot|diagram|document|screenshot|scene|video|table|map)"
)
_TEXT = r"(?:text|writing|words?|letters?|numbers?|digits?|information|data|context|details?|evidence|answer|sign|logo|label)"

# What may follow "I can't tell": songs and sayings go on otherwise ("I can't tell you why", "I don't know how to …").
_THEN = (
    r"(?=$|\s*[.,;:!?()–-]| (?:you )?(?:which|who(?! you)|whom|whose|where(?! you)|when|if|whether|how (?:many|much|old|long|tall|far|big)|what(?! (?:you|i|we|love)\b)|"
    r"with|identify|the (?:\w+ ){0,2}?(?:answer|text|sign|image|picture|brand|name|number|colou?r|time|date|price|difference|exact|word|title|type|location|species|breed)|"
    r"this|that|any|it|its|from|on the|in the|at the|for (?:sure|certain)|based|because|due|without|about|exactly|definitively|clearly|certain)\b)"
)
APOLOGIES = (
    r"(?:i'?m|i am|we'?re|we are) (?:very |so |really |truly |terribly )?sorry",
    r"(?:(?:so|very|oh) )?sorry",
    r"(?:i|we|my) apologi[sz]e?(?:s|ies)?",
    r"(?:my )?apologies",
    r"unfortunately|regrettably|regretfully|sadly|i'?m afraid(?: that)?|i am afraid(?: that)?|i regret",
    r"(?:es )?tut mir (?:sehr |wirklich )?leid|entschuldigung|verzeihung|leider|desolee?|je suis (?:vraiment )?desolee?|malheureusement|je regrette|excusez-moi|pardon",
    r"lo siento(?: mucho)?|lo lamento|disculpe|lamentablemente|desafortunadamente|por desgracia|mi (?:di)?spiace|spiacente|purtroppo|scusa(?:te)?|desculpe|sinto muito|infelizmente|lamento",
    r"het spijt me|helaas|jammer genoeg|przykro mi|przepraszam|niestety|съжалявам|извините|простите|прошу прощения|к сожалению|увы|вибачте|на жаль|bohuzel|omlouvam se",
    r"uzgunum|maalesef|ne yazik ki|عذرا|أعتذر|آسف|للأسف|متأسفم|متأسفانه|متاسفانه|סליחה|מצטער|לצערי|क्षमा करें|माफ़ करें|माफ़ कीजिए|क्षमा कीजिए|खेद है|दुर्भाग्य से|দুঃখিত",
    r"很?抱歉|对不起|對不起|不好意思|遗憾的是|很遗憾|申し訳(?:ありません|ございません)(?:が)?|すみません(?:が)?|残念ながら|恐れ入りますが|죄송합니다(?:만)?|죄송하지만|미안하지만|유감스럽게도|안타깝게도",
    r"xin lỗi|rất tiếc|maaf|mohon maaf|sayangnya|ขออภัย|ขอโทษ|tyvärr|desværre|dessverre|valitettavasti|bohužel|sajnos|din păcate|λυπάμαι|δυστυχώς",
)
HEDGES = (
    rf"(?:based on|from|in|looking at|according to|given) (?:the|this) (?:provided |given )?{_PICTURE}(?: provided| alone)?",
    r"(?:from|as far as|based on) (?:what )?i can (?:see|tell)|h?u?m+|well|honestly|actually|ok(?:ay)?",
)
COPULAS = (r"the answer(?: to (?:the|this) question)? is|it is|it's|this is|that is",)

AFTER_APOLOGY: tuple[str, ...] = (
    r"(?:but |however,? )?there(?:'s| is| are| was| were)(?: no|n't| not)\b(?!.*\b(?:parking|smoking|service|entry|exit|access|vacanc\w*|rooms?|refunds?|admission|seats?|tickets?)\b)",
    r"(?:i|we) (?:do not|don't|did not|didn't|can't|cannot|can not|couldn't) (?:see|find|read|tell|make out|identify)",
    r"(?:aber )?(?:da|hier|es|dort|im bild|(?:auf|in) (?:dem|diesem|der|dieser) \w+)? ?(?:ist|sind|gibt es|gibt|sehe ich|ich sehe) (?:\w+ ){0,3}?kein",
    r"(?:mais )?(?:il n'y a|je ne vois|on ne voit) (?:pas|aucun|plus)|(?:pero )?no (?:hay|veo|existe|aparece|encuentro) |(?:ma )?non (?:c'e|ci sono|vedo|trovo) |(?:mas )?nao (?:ha|vejo|existe|encontro) ",
    r"(?:maar )?(?:er (?:is|zijn|staat|staan)|ik zie) (?:\w+ ){0,2}?geen|(?:но )?(?:здесь |тут |там |(?:на|в) (?:\w+ ){1,2})(?:\w+ )?(?:нет|не видно|отсутствует)|(?:ale )?(?:na|tu|w) .{0,30}?nie ma ",
    r".{0,20}?(?:لا (?:يوجد|توجد|أرى|يظهر)|ليس هناك)|.{0,40}?कोई .{1,30}?नहीं(?: है| दिख| दे)|.{0,30}?\byok\b|(?:nhưng )?không (?:có|thấy) |(?:tapi )?tidak (?:ada|terlihat) ",
    r"(?:但是?)?.{0,12}?(?:没有|沒有|没看到|看不到|看不见|不存在|未(?:看到|发现|显示))|.{0,20}?(?:は|が|も)(?:ありません|いません|見当たりません|見えません)|.{0,25}?(?:이|가|은|는) (?:없습니다|보이지 않습니다|없어요)",
)
"""What declines only after an apology or "based on the image": alone, "there is no planet B" is an answer."""

OPENINGS: dict[str, tuple[str, ...]] = {
    "en": (
        rf"(?:i|we)(?: really| simply| just| still)? (?:can ?not|can't|could not|couldn't|am unable to|am not able to)"
        rf" (?:\w+ly ){{0,2}}?(?:{_TOLD}{_THEN}|{_VERB}{_END})",
        r"(?:i'm|i am|we are)(?: currently)? (?:unable|not able) to ",
        rf"(?:i|we) (?:see|find|can see) no (?:visible |readable |clear )?{_TEXT}",
        r"(?:i|we) (?:can ?not|can't|could not|couldn't|do not|don't)$",
        rf"(?:i|we) (?:do not|don't|did not|didn't) (?:\w+ ){{0,1}}?(?:know{_THEN}|see (?:any|a |an |the |it\b|that\b|what|where|one\b|anything)|have (?:enough|sufficient|any|access|the (?:answer|information|context)){_END})",
        r"(?:i'm|i am) (?:not |un)(?:sure|certain)",
        rf"(?:can ?not|can't|could not|couldn't|unable to|not able to|impossible to|not possible to) (?:(?:\w+ly|quite|even|for sure) )?(?:{_TOLD}{_THEN}|{_VERB}{_END})",
        rf"(?:not possible|impossible|difficult|hard|tough|unclear|challenging) (?:for me )?to "
        rf"(?:(?:\w+ly|quite|even|for sure) )?(?:{_TOLD}{_THEN}|{_VERB}{_END})",
        rf"(?:it|this|that|the (?:\w+ ){{1,6}}?)(?: is| are|'s| was)? ?(?:can ?not|can't|could not) {_VERB}{_END}",
        r"(?:the (?:\w+ ){1,6}?|it |this |that )(?:is|are|isn't|aren't|was)(?: not)? ?(?:\w+ly )?"
        r"(?:unclear|unknown|illegible|unreadable|uncertain|unspecified|indeterminate|unanswerable|too (?:blurry|small|dark))",
        rf"(?:the (?:\w+ ){{1,6}}?|it |this |that )(?:is not|isn't|are not|aren't|was not) (?:\w+ly )?(?:{_SHOWN}|possible){_END}",
        rf"not (?:\w+ly )?{_SHOWN} (?:what|which|who|if|whether|enough to|from)\b",
        r"(?:it is |it's |the (?:\w+ ){1,3}?(?:is|are) )?too (?:blurry|small|dark|blurred|far away|unclear|low|distant|faint) (?:for me )?to (?:\w+ )?(?:see|read|tell|say|make|be (?:seen|read)|identify|determine|discern|distinguish|recogni[sz]e|decipher|know)(?:$|[.,;]| (?:the|it|any|anything|what|who|which|if|in|from|clearly|text|properly|well|out)\b)",
        r"(?:it is |it's |the (?:\w+ ){1,3}?(?:is|are) )(?:too |very |partially |partly |completely )?(?:blurry|blurred|out of focus|obscured|cut off|illegible|unreadable|hidden|pixelated|covered up|cropped)(?:$|[.,;]| (?:and|so|by|in|to|here))",
        r"(?:(?:image|picture|photo|it|this|that)(?: is|'s)? )?(?:un)?clear(?:ly)? (?:what|which|who|if|whether) ",
        rf"(?:i|we)(?:'d|'ll| would| will)? (?:need|require|have) (?:to (?:see|have) )?(?:some )?(?:more|additional|further|an? (?:clearer|better|closer|sharper|larger|higher)) (?:\w+ )?(?:{_PICTURE}|context|information|info|details?|data|view|look)",
        rf"(?:could|can|would) you (?:please )?(?:provide|upload|share|send|give|attach|re-?upload)(?: me)?(?: with)?(?: the| a| an| more| another)?(?: \w+)? ?(?:{_PICTURE}|context|information|details)",
        rf"no {_PICTURE} (?:was |is |has been )?(?:provided|attached|given|available|uploaded|found|visible|included)|the {_PICTURE} (?:failed to|won't|will not|could not be|couldn't be|is not|isn't|did not|didn't) (?:load|loading|display|available|opened|loaded|provided|attached)",
        r"there (?:does not|doesn't|do not|don't) (?:appear|seem) to be |there (?:appears?|seems?) to be no |i (?:do not|don't) (?:think|believe) there (?:is|are) |there is (?:insufficient|not enough|too little) (?:information|detail|context|data)",
        rf"(?:the|this) {_PICTURE} (?:appears|seems) to (?:have|contain|show) no |i(?:'d| would) (?:need|have) to see |(?:that|this|the) (?:information|answer|detail|text) (?:is not|isn't|is) (?:not )?(?:available|provided|given|shown|visible|included|present)",
        r"(?:the (?:\w+ ){1,3}?|it |this |that |they )(?:is |are |'s )(?:very |too |quite |really |so )?(?:hard|difficult|impossible|tough|not easy) (?:for me )?to (?:read|see|make|decipher|tell|identify|determine|discern|recogni[sz]e)",
        r"i(?:'m| am) having (?:trouble|difficulty|a hard time) (?:reading|seeing|identifying|making|determining)|there(?:'s| is) nothing (?:written|visible|legible|readable|shown|there)",
        r"i (?:won't|will not) (?:identify|name|answer|speculate|guess)|i(?:'d| would)? (?:prefer|rather) not (?:to )?(?:answer|say|speculate|guess|identify)|i (?:was not|wasn't) able to (?:find|see|read|identify|determine|locate|answer)",
        rf"there(?:'s| is| are| was| were)(?: no|n't| not)(?: any| a| an| enough| sufficient)? (?:[\w-]+ ){{0,6}}?"
        rf"(?:(?:in|on|within) (?:the|this) (?:\w+ )?{_PICTURE}|visible|shown|legible|readable|mentioned|indicated|specified|enough information|information"
        rf"|discernible)",
        rf"there(?:'s| is| are)(?: no|n't| not)(?: any| enough)? (?:visible |readable |legible |clear )?{_TEXT}"
        rf"(?:$|[.,]| (?:in|on|to|visible|that))",
        rf"(?:no|no visible|no legible|no readable|no clear|no discernible|no specific|no enough|nothing) ?(?:{_TEXT})?"
        rf"(?: is| are)?(?: clearly)? (?:visible|shown|legible|readable|discernible|in (?:the|this) {_PICTURE})",
        rf"no (?:[\w-]+ ){{1,3}}(?:is |are )?(?:visible|in (?:the|this) {_PICTURE}|can be (?:seen|read))",
        rf"(?:the|this) (?:provided |given )?(?:{_PICTURE}|question|text|caption|context|information)(?: provided)? (?:does not|doesn't|do not"
        r"|did not|has no|contains no|shows no|provides no|gives no|lacks|is too (?:blurry|small|dark|low|blurred|unclear)|is "
        r"not clear|isn't clear|is unclear|can ?not be|can't be|cannot|is unanswerable|is not answerable)",
        r"(?:insufficient|not enough|inadequate|lack of) (?:information|context|data|details?|evidence|resolution)",
        r"(?:more|additional|further) (?:information|context|details?) (?:is |are |would be )?(?:needed|required|necessary)",
        r"as an? (?:ai|artificial|language model|large language|text-based|virtual|assistant)",
        rf"please (?:provide|upload|share|send|give)(?: me)?(?: with)?(?: the| a| an| more| another)?(?: \w+)? ?"
        rf"(?:{_PICTURE}|context|information|details)",
        r"i'?m sorry$|i am sorry$|i have no (?:idea|information|way)|i (?:was|were) (?:unable|not able) to |unanswerable question",
        r"(?:[\w-]+ ){1,3}(?:is |are )?not (?:\w+ly )?(?:visible|legible|readable|discernible|decipherable)(?:$|[.,;(]| in (?:the|this) | here)",
        r"no (?:relevant|sufficient|such|specific|explicit|further) (?:text|information|data|answer|details?)(?:$|[.,;]| (?:in|is|was|on) )",
        r"none of the (?:text|words|letters|numbers|writing|details) (?:is|are|can) ",
        rf"not available in (?:the|this) {_PICTURE}|that information is not |it (?:doesn't|does not) say$",
        r"i(?:'m| am) (?:just |only )?an? (?:ai|artificial|language model|large language|text-based|virtual)",
        r"without (?:more|additional|further|seeing)",
    ),
    "de": (
        r"(?:ich|wir) (?:sehe|erkenne|finde|weiss) (?:\w+ ){0,8}?(?:nicht|kein\w*)|(?:ich|wir) (?:kann|konnen|konnte) (?:\w+ ){0,8}?(?:nicht|kein\w*)(?:$|[.,]|.{0,40}?(?:erkenn|seh|les|sag|bestimm|beantwort|entziff|beurteil|helf|identif|find|angeb|feststell|antwort|ausmach|ablesen))",
        r"ich weiss (?:es |das )?(?:leider )?nicht(?:$|[.,]| genau| sicher)|ich bin (?:mir )?nicht sicher|man (?:kann|konnte) (?:\w+ ){0,4}?(?:nicht|kein\w*) (?:\w+ ){0,2}?(?:erkenn|seh|les|sag|bestimm|entziff)",
        r"(?:es|das|(?:das|die|der|dieser?|dieses) \w+) (?:ist|sind|lasst sich|lassen sich|kann|konnen|wird|geht) (?:\w+ ){0,5}?(?:unklar|unleserlich|unmoglich|unscharf|verschwommen|unbekannt|(?:nicht|kaum|schwer) (?:\w+ )?"
        r"(?:moglich|erkenn\w*|bestimm\w*|sichtbar|lesbar|zu (?:\w+ )?(?:sehen|erkennen|lesen|entziffern|bestimmen|sagen|finden)|erkannt|ersichtlich|angegeben|beantwort\w*|gezeigt|sagen|lesen|gelesen|sehen|gesehen|hervor|bekannt|klar|eindeutig))",
        r"(?:auf|in) (?:dem|diesem|der) (?:bild|foto|diagramm|grafik|abbildung) (?:ist|sind|gibt es|steht|befindet sich) "
        r"(?:\w+ ){0,3}?(?:nicht|kein\w*)",
        r"(?:das|dieses|die|der) (?:bild|foto|diagramm|grafik) (?:zeigt|enthalt|hat|ist) (?:\w+ ){0,3}?(?:nicht|kein\w*|(?:zu|sehr) (?:unscharf|dunkel|klein|verschwommen|undeutlich)|unscharf|verschwommen|unklar)",
        r"(?:ist|sind) (?:das|die|der) \w+ (?:leider )?(?:zu |sehr |nicht )(?:unscharf|verschwommen|dunkel|klein|undeutlich|lesbar|erkennbar|sichtbar|zu (?:sehen|erkennen|lesen))|bitte (?:laden|geben|senden|stellen|schicken) sie .{0,40}?(?:bild|foto|informationen|kontext)|(?:ich |man )(?:brauche|brauchte|benotige) (?:\w+ ){0,2}?(?:mehr|weitere|klareres|scharferes) ",
        r"(?:es gibt|es ist|es sind) kein\w* (?:\w+ ){0,2}?(?:text|schrift|information\w*|sichtbar\w*|\w+ (?:im|auf dem) bild)",
        r"kein (?:text|schriftzug)(?: (?:sichtbar|vorhanden|im bild|erkennbar|auf dem bild)|$)",
        r"(?:nicht genug|nicht genugend|zu wenig|keine ausreichenden) (?:information|daten|angaben)|als (?:ki|sprachmodell)",
    ),
    "fr": (
        r"(?:il (?:est|n'est pas|m'est) |c'est |ce n'est pas )?(?:impossible|pas possible|difficile) (?:de |d'|a )(?:le |la |les |l')?(?:\w+ )?(?:dire|lire|voir|determiner|savoir|repondre|identifier|distinguer|dechiffrer|preciser|confirmer|reconnaitre|trouver|discerner)",
        r"(?:je|nous|on) n(?:e|') ?(?:peux|peut|pouvons|sais|vois|voit|dispose|parviens|arrive|distingue|distingues|trouve|reconnais)(?: \w+){0,3}? pas",
        r"(?:je|nous|on) n(?:e |')(?:suis|sommes|est|ai|avons|a) pas (?:en mesure|capable|sure?|certaine?|assez|suffisamment|acces|d'information|la reponse|cette information)",
        r"veuillez (?:fournir|telecharger|envoyer|partager) |pourriez-vous (?:fournir|envoyer|partager) ",
        r"je ne (?:sais|peux|vois|distingue|trouve) (?:pas|aucun|rien)|je suis incapable|il n'est pas possible de ",
        r"(?:l'|cette |la |le |les )(?:image|photo|question|graphique|texte|reponse|information)s? (?:ne|n'est|n'est pas|n'a|n'indique|"
        r"n'affiche|ne contient|ne montre|est (?:trop )?(?:illisible|floue?|sombre|inconnue?|petite?))",
        r"il n'?y a (?:pas|aucun\w*) (?:\w+ |d'|de ){0,4}?(?:texte|information|visible|l'image|image|photo|assez|suffisamment)",
        r"(?:aucune? |pas de |pas d')(?:texte|information|reponse|mot|ecriture)|pas assez d'information|on ne (?:voit|peut)",
        r"en tant qu(?:e |')(?:ia|intelligence|modele)",
    ),
    "es": (
        r"no (?:se )?(?:puedo|puede|pueden|podemos|logro|soy capaz|es posible|resulta posible|alcanzo|distingo|tengo (?:suficiente|"
        r"informacion|acceso)|veo|hay (?:\w+ ){0,3}?(?:texto|informacion|visible|imagen|suficiente|foto)|se (?:puede|pudo|ve|logra))\b",
        r"por favor,? (?:proporcione|suba|envie|comparta) |(?:la|esta) (?:imagen|foto) (?:es|esta) (?:demasiado |muy )",
        r"(?:necesito|necesitaria|se necesita|hace falta|se requiere) (?:mas |una )(?:contexto|informacion|detalles|imagen|foto)\b|no (?:hay (?:ningun|ninguna) \w+ (?:en|visible)|aparece (?:ningun|ninguna) )",
        r"(?:es |resulta )?(?:imposible|dificil) (?:de )?(?:determinar|saber|decir|ver|leer|identificar|responder|distinguir)",
        r"(?:la|esta|el|este) (?:imagen|foto|fotografia|pregunta|grafico|texto|respuesta|informacion) no ",
        r"(?:informacion|datos) insuficientes?|falta informacion|como (?:una )?(?:ia|inteligencia|modelo)",
    ),
    "it": (
        r"non (?:si )?(?:posso|puo|riesco|possiamo|sono in grado|ho (?:abbastanza|informazioni|accesso)|vedo|c'e (?:\w+ ){0,3}?"
        r"(?:testo|scritta|informazion\w*|immagine|visibile)|ci sono (?:\w+ ){0,3}?(?:informazioni|testi|immagine|visibili|scritte))",
        r"non (?:e|sia|sarebbe) possibile (?:determin|sap|dir|legg|stabil|ved|identif|rispond|distin)|(?:fornisca|fornisci|carica|carichi|invia|invii) |(?:ho|avrei) bisogno di (?:piu|maggiori|ulteriori|un'immagine) |non c'e (?:nessun|alcun)\w* ?\w+ (?:nell|in quest|visibile)",
        r"(?:e )?(?:impossibile|difficile) (?:determinare|dire|sapere|vedere|leggere|stabilire|rispondere|identificare)",
        r"(?:l'|la |questa |il |lo )(?:immagine|foto|domanda|grafico|testo|risposta) non |informazioni insufficienti|come (?:ia|modello)",
    ),
    "pt": (
        r"(?:eu )?nao (?:posso|pode|podemos|consigo|e possivel|sou capaz|da para|vejo|tenho (?:informac|acesso|como)|ha (?:\w+ ){0,3}?"
        r"(?:texto|informac\w*|imagem|visivel|suficiente|foto)|existe (?:\w+ ){0,2}?(?:texto|informac))",
        r"por favor,? (?:forneca|envie|compartilhe|carregue) |(?:eu )?(?:preciso|precisaria) de (?:mais|uma imagem) ",
        r"(?:e )?(?:impossivel|dificil) (?:de )?(?:determinar|dizer|saber|ver|ler|identificar|responder)",
        r"(?:a|esta|o|este) (?:imagem|foto|pergunta|grafico|texto|resposta) nao |informac(?:ao|oes) insuficientes?|como (?:uma )?(?:ia|modelo)",
    ),
    "nl": (
        r"(?:ik|we|men) (?:weet|zie) (?:\w+ ){0,6}?(?:niet|geen)|(?:ik|we|men) (?:kan|kunnen) (?:\w+ ){0,6}?(?:niet|geen)(?:$|[.,]|.{0,40}?(?:zien|lezen|zeggen|bepalen|herkennen|vinden|beantwoorden|helpen|identificeren))|ik ben (?:er )?niet (?:zeker|in staat)",
        r"(?:ik )?(?:zou|heb) (?:\w+ ){0,2}?meer (?:context|informatie) nodig|geef (?:een|meer) |upload een ",
        r"(?:het|dat|dit) is (?:\w+ )?(?:niet|onmogelijk|onduidelijk|moeilijk)(?: mogelijk)? ?(?:om|te|duidelijk|zichtbaar|leesbaar)",
        r"(?:de|deze|het|dit) (?:afbeelding|foto|vraag|grafiek|tekst|antwoord|beeld) (?:\w+ ){1,3}?(?:niet|geen|onleesbaar)",
        r"er (?:is|zijn|staat) (?:geen|niet) (?:\w+ ){0,3}?(?:tekst|informatie|zichtbaar|afbeelding|foto)|onvoldoende informatie|kan niet worden",
    ),
    "pl_cs": (
        r"nie (?:moge|mozna|jestem w stanie|jest mozliwe|da sie|potrafie|widze|ma (?:\w+ ){0,3}?(?:tekst\w*|informacji|obraz\w*|zdjeci\w*))",
        r"(?:obraz|zdjecie|pytanie|wykres|tekst|na (?:obrazie|zdjeciu)) (?:\w+ )?nie |niemozliwe do|trudno (?:powiedziec|okreslic)|nie jestem pew",
        r"(?:nemohu|nemuzu|nedokazu) |obrazek ne|na obrazku ne",
    ),
    "ru_uk": (
        r"(?:я |мы |ми )?не (?:могу|можу|можем|можемо|могли|удается|вдалося|удалось) (?:\w+ ){0,2}?(?:сказ|прочит|прочес|разобр|определ|ответ|помо|увид|видеть|распозн|идентиф|установ|предостав|найти|понять|узнать|рассмотр|дать|отвеч|визнач|сказат|відпов|розібр|допомо)",
        r"(?:я |мы |ми )?не (?:вижу|бачу|в состоянии|уверен|впевнен)|(?:я )?не знаю,? (?:что (?:написано|изображено|это|там|здесь)|как(?:ой|ая|ое)|сколько|кто (?:это|изображен))",
        r"(?:мне )?(?:нужно|требуется|необходимо) (?:больше|дополнительн\w+) (?:контекст|информац|данных)|пожалуйста,? (?:предоставьте|загрузите|пришлите|отправьте)|отсутствует (?:на|в) ",
        r"(?:ответить |определить )?(?:невозможно|неможливо|нельзя|трудно|сложно|важко) ?(?:определить|сказать|прочитать|увидеть|разобрать|"
        r"ответить|визначити|сказати|прочитати|понять|установить|побачити|розібрати|відповісти|$)",
        r"(?:на |в )?(?:этом |этой |данном |цьому )?(?:изображени[еи]|фото|фотографии|картинке|рисунке|зображенн[іія]|графике) (?:\w+ ){0,2}?(?:нет|не|немає|отсутств\w*)",
        r"(?:изображение|зображення|вопрос|текст|запитання) (?:\w+ ){0,2}?не |недостаточно (?:информации|данных)|недостатньо (?:інформації|даних)|немає (?:тексту|інформації|відповіді)|как (?:ии|языковая)",
        r"(?:в|на) \w+ (?:нет|немає) (?:текста|тексту)",
    ),
    "tr": (
        r".{0,60}?(?:belirlenemiyor|belirleyemiyorum|okuyamıyorum|göremiyorum|söyleyemem|söyleyemiyorum|belirlemek mümkün değil|mümkün değil|"
        r"bulunmuyor|bulunmamaktadır|anlaşılmıyor|yeterli bilgi yok|cevaplayamam|cevaplayamıyorum|yanıtlayamam|tespit edilemiyor|"
        r"görünmüyor|yardımcı olamam)",
        r"(?:görüntüde|resimde|görselde|fotoğrafta|grafikte) .{0,30}?(?:yok|değil)",
    ),
    "ar": (
        r"(?:لا|لم|لن) (?:\w+ ){0,2}?(?:يمكن\w*|استطيع|أستطيع|يمكننا|اتمكن|أتمكن|نستطيع|تظهر|تحتوي|تتوفر|توجد معلومات)",
        r"(?:لا يوجد|لا توجد|ليس هناك|ليست هناك) .{0,30}?(?:الصورة|نص|معلومات)|(?:الصورة|السؤال|النص) (?:لا|ليس|غير|ليست)|من (?:غير الممكن|الصعب|المستحيل)|المعلومات غير|تعذر|يرجى (?:تقديم|تحميل|إرسال)|أحتاج (?:إلى )?(?:مزيد|المزيد)|لا (?:يظهر|تظهر) .{0,20}?الصورة",
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
        r".{0,60}?(?:नहीं (?:किया जा सकता|जा सकता|कर सकता|कर सकती|पढ़ सकता|देख सकता|बता सकता|दे सकता|दिख रहा|है इस)|संभव नहीं|असंभव|पर्याप्त जानकारी नहीं|পারছি না|সম্ভব নয়|যাচ্ছে না|কোনো লেখা নেই)",
        r"(?:छवि|चित्र|तस्वीर|इमेज|फोटो) (?:में|से) .{0,40}?नहीं",
    ),
    "zh": (
        r"(?:我|我们|這|这|从图(?:片|中)?(?:中)?|從圖(?:片|中)?(?:中)?|根据(?:图片|图像)?.{0,6}|目前|答案)?[,，]?(?:并|並)?(?:无法|無法|不能|难以|難以|没法|沒法|没办法|沒辦法|不可能)(?:$|。|.{0,14}?(?:确定|確定|判断|判斷|识别|識別|看|回答|辨|读|讀|得知|知道|提供|确认|確認|分辨|推断|推斷|说|說|查看|获取|獲取|告诉|訪|访|解答|认))",
        r"(?:在|从|從)?(?:这|這|该|該|此)?[张張幅]?(?:图|圖|照片|画面|畫面)[片像表中裡里上内內]{0,3}(?:[中里裡上内內]|显示|顯示)?(?:并|並|中)?(?:没有|沒有|未|无|無|看不|不|没|沒)",
        r"(?:我)?(?:还)?需要(?:更多|更清晰|额外)(?:的)?(?:上下文|信息|資訊|背景|细节|资料|图)|请(?:您)?(?:提供|上传|发送)(?:更|一张|清晰|完整|图)|作为(?:一个)?(?:AI|人工智能|语言模型)",
        r"(?:我)?(?:看不清|看不到|看不見|看不见|没看到)(?:任何|图|圖|文字|字|车牌|招牌|内容|具体|清楚)",
        r"没有.{0,10}(?:图片|图像|图中|照片)|(?:这个|這個|该|该张|此)?(?:图片|图像|文字|文本|问题|答案|信息)(?:不|太|过于|過於|无法|無法|没有|沒有|未)",
    ),
    "ja": (
        r".{0,40}?(?:判断|特定|確認|回答|識別|判別|認識|断定|お答え|推測|判読|読み取り|提供|お手伝い|対応)(?:すること)?(?:が|は|も)?(?:でき|出来)(?:ません|ない|ず|かね)",
        r".{0,30}?(?:わか|分か|判)(?:りません|りかね)|.{0,20}?(?:読め|読み取れ|見え|見つけられ|見当たり|答えられ|見て取れ)ません",
        r"(?:もっと|より|もう少し).{0,10}?(?:情報|画像|写真|文脈|詳細).{0,12}?(?:必要|提供|送って|アップロード|ください)|(?:該当する|関連する).{0,8}?ありません",
        r"(?:この|その)?(?:画像|写真|図|グラフ|絵|映像|問題|質問)(?:内|の中|中|上)?(?:に|から|で|は|が)(?:は|も)?.{0,30}?(?:ありません|ない|ません|いません)",
        r"(?:文字|テキスト|情報|記載|表示|答え)(?:が|は).{0,12}?(?:ありません|ません|ない)",
    ),
    "ko": (
        r"(?:더 |추가 |추가적인 )(?:많은 |자세한 |선명한 )?(?:정보|맥락|문맥|이미지|사진).{0,14}?(?:필요|제공|주세요|부족)|.{0,30}?(?:알|확인할|판단할|식별할|읽을|답변할|찾을|볼|특정할|파악할) 수(?:가)? 없(?:습니다|어요|음|다|네요|지만)",
        r"(?:(?:해당 )?정보(?:가)? (?:부족|없)|텍스트(?:가)? 없|글자(?:가)? 없|명확하지 않|확실하지 않)",
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
