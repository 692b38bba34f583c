"""Which language a text is in, by its script and its function words; accurate enough to notice a wrong one."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from neurodial.text.words import words_of

_FUNCTION_WORDS = {
    "en": "the of and to a in is that it for you was on are with as be this have from or by not but what all were we "
    "when your can there an which do how if will up about out them then she my they her his had has who him i he at "
    "me so no would could should don't i'm it's than into just very because its their our most some any more these",
    "fr": "le la les un une des de du et à est dans que qui en pour pas sur il elle ne se ce au aux avec par plus sont "
    "vous nous je mais ou où cette ces son sa ses leur très être avoir fait comme c'est d'un d'une n'est qu'il l'eau "
    "peut donc ils elles on tout aussi bien si votre notre mon ma mes y été ainsi entre sans même",
    "de": "der die das und ist in zu den mit von nicht ein eine für auf es sie ich wir dem des sich auch als an er so "
    "dass wie aus bei oder aber einen einer eines werden wird sind war hat haben kann nur noch nach durch man mehr "
    "wenn über um zum zur ihr im am vom",
    "es": "el la los las un una de del y que en es se no por con para su al lo como más pero sus le ya o este sí "
    "porque "
    "esta entre cuando muy sin sobre también me hasta hay donde quien desde todo nos durante uno ni contra ese eso "
    "está son fue ser tiene puede si",
    "it": "il lo la i gli le un una di e che è in per non con da del della dei delle al alla si sono come più ma anche "
    "nel nella questo questa se ha ho su tra dal dalla sia loro suo sua essere molto può quando ci ne quindi",
    "pt": "o a os as um uma de do da dos das e que em é não para com por se na no mais como mas ao ele ela seu sua ou "
    "ser quando muito nos já está também só pelo pela até isso entre depois sem mesmo aos são você pode ter foi",
    "nl": "de het een en van in is dat op te voor met niet zijn aan er ook als maar om dan door over bij uit naar nog "
    "wel geen kan ik je hij ze we dit die worden wordt heeft hebben was meer deze tot",
}
_WORDS = {language: frozenset(words.split()) for language, words in _FUNCTION_WORDS.items()}
_SCRIPTS = {
    "CYRILLIC": "ru",
    "GREEK": "el",
    "HANGUL": "ko",
    "ARABIC": "ar",
    "HEBREW": "he",
    "DEVANAGARI": "hi",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "CJK": "zh",
    "THAI": "th",
}
_NAMES = {
    "en": "english",
    "fr": "french",
    "de": "german",
    "es": "spanish",
    "it": "italian",
    "pt": "portuguese",
    "nl": "dutch",
    "ru": "russian",
    "el": "greek",
    "ko": "korean",
    "ar": "arabic",
    "he": "hebrew",
    "hi": "hindi",
    "ja": "japanese",
    "zh": "chinese",
    "th": "thai",
}

LANGUAGES: tuple[str, ...] = tuple(sorted(_NAMES))
"""Languages that can be told apart, as ISO 639-1 codes."""

_ASKS_FOR_A_LANGUAGE = re.compile(
    rf"\b(?:translat\w*|traduis\w*|übersetz\w*|traduce\w*|languages?|latin|{'|'.join(_NAMES.values())})\b",
    re.IGNORECASE,
)


def language_of(text: str) -> str | None:
    """The ISO 639-1 code of a text's language, or None where there is too little evidence.

    Non-Latin scripts decide by themselves; Latin ones by the share of function words, of which there must be
    at least two, and more than of any other language.

    Example:
        >>> language_of("La lumière voyage plus vite que le son."), language_of("Light is faster than the sound of it.")
        ('fr', 'en')
        >>> language_of("42") is None
        True
    """
    scripts = scripts_of(text)
    if scripts:
        script, count = scripts.most_common(1)[0]
        if count > sum(scripts.values()) / 2 and script != "LATIN":
            return "ja" if scripts["HIRAGANA"] + scripts["KATAKANA"] > 0 and script == "CJK" else _SCRIPTS.get(script)
    words = words_of(text)
    hits = Counter({language: sum(word in known for word in words) for language, known in _WORDS.items()})
    ranked = hits.most_common(2)
    (best, most), (_, next_most) = ranked[0], ranked[1]
    is_clear = most >= 2 and most > next_most and most >= 0.1 * len(words)
    return best if is_clear else None


def scripts_of(text: str) -> Counter[str]:
    """How many letters of each script a text has.

    Example:
        >>> scripts_of("aé я")["LATIN"]
        2
    """
    return Counter(unicodedata.name(letter, "UNKNOWN").split()[0] for letter in text if letter.isalpha())


def asks_for_a_language(prompt: str) -> bool:
    """Whether a prompt names a language, so that an answer in another language is no mistake.

    Example:
        >>> asks_for_a_language("Say it in German."), asks_for_a_language("Say it.")
        (True, False)
    """
    return _ASKS_FOR_A_LANGUAGE.search(prompt) is not None


def function_word_share(words: list[str], language: str) -> float:
    """The share of words that are function words of a language."""
    known = _WORDS.get(language, frozenset())
    return sum(word in known for word in words) / len(words) if words else 0.0
