"""Which language a text is in.

1. Scripts that only one language uses decide (Hangul, kana, Thai, …).
2. Else a statistical identifier, py3langid (naive Bayes over byte n-grams after Lui & Baldwin 2012), of which we ask
   the languages in `LANGUAGES`; beside them it knows a class for text in no language.
3. Function words of seven languages speak with it where a text is too short for statistics.
Where neither is sure, the answer is None: a language is never guessed.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from neurodial.text.words import words_of

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

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
_LANGUAGES_OF_WORD = {
    word: tuple(language for language, known in _WORDS.items() if word in known)
    for word in frozenset().union(*_WORDS.values())
}
_NO_LETTERS = {code: None for code in range(128) if not chr(code).isalpha()}
_SCRIPTS = {
    "GREEK": "el",
    "HANGUL": "ko",
    "HEBREW": "he",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "CJK": "zh",
    "THAI": "th",
    "BENGALI": "bn",
    "TAMIL": "ta",
    "TELUGU": "te",
    "GUJARATI": "gu",
    "KANNADA": "kn",
    "MALAYALAM": "ml",
    "GURMUKHI": "pa",
    "ARMENIAN": "hy",
    "GEORGIAN": "ka",
    "KHMER": "km",
    "LAO": "lo",
    "MYANMAR": "my",
}
_SHARED = {"CYRILLIC": "ru", "ARABIC": "ar", "DEVANAGARI": "hi"}
"""Scripts of several languages, with the language to take for a text that is too short."""
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
    "bn": "bengali",
    "ur": "urdu",
    "fa": "persian",
    "pl": "polish",
    "tr": "turkish",
    "id": "indonesian",
    "vi": "vietnamese",
    "uk": "ukrainian",
    "sv": "swedish",
    "da": "danish",
    "no": "norwegian",
    "fi": "finnish",
    "cs": "czech",
    "sk": "slovak",
    "hu": "hungarian",
    "ro": "romanian",
    "bg": "bulgarian",
    "sr": "serbian",
    "hr": "croatian",
    "sl": "slovenian",
    "lt": "lithuanian",
    "lv": "latvian",
    "et": "estonian",
    "ca": "catalan",
    "sw": "swahili",
    "tl": "tagalog",
    "mr": "marathi",
    "ne": "nepali",
    "ta": "tamil",
    "te": "telugu",
    "gu": "gujarati",
    "kn": "kannada",
    "ml": "malayalam",
    "pa": "punjabi",
    "hy": "armenian",
    "ka": "georgian",
    "km": "khmer",
    "lo": "lao",
    "my": "burmese",
    "kk": "kazakh",
    "az": "azeri",
    "af": "afrikaans",
    "sq": "albanian",
    "eu": "basque",
    "gl": "galician",
    "is": "icelandic",
    "ha": "hausa",
    "yo": "yoruba",
    "am": "amharic",
    "si": "sinhala",
    "mn": "mongolian",
    "uz": "uzbek",
    "ku": "kurdish",
}
_NO_LANGUAGE = "zxx"
_SURE, _VERY_SURE = 0.8, 0.95
_CHARACTERS = 300  # enough to tell, and all that is read

LANGUAGES: tuple[str, ...] = tuple(sorted(_NAMES))
"""Languages that can be told apart, as ISO 639-1 codes."""

_ASKS_FOR_A_LANGUAGE = re.compile(
    rf"\b(?:translat\w*|traduis\w*|übersetz\w*|traduce\w*|languages?|latin|{'|'.join(_NAMES.values())})\b",
    re.IGNORECASE,
)


def language_of(text: str, *, guess: bool = True) -> str | None:
    """The ISO 639-1 code of the language that a text begins in, or None where there is too little evidence.

    Args:
        text: any text.
        guess: take the most used language of a script that several share where a text is too short to tell, and say a
            language from a probability of 0.8 on; without it, from 0.95 on.

    Example:
        >>> language_of("La lumière voyage plus vite que le son."), language_of("Light is faster than the sound of it.")
        ('fr', 'en')
        >>> language_of("Nie mogę pomóc w tej sprawie."), language_of("42")
        ('pl', None)
    """
    return _language(text[:_CHARACTERS], guess)


@lru_cache(maxsize=4096)
def _language(text: str, guess: bool) -> str | None:  # noqa: FBT001  # cached by position
    scripts = scripts_of(text)
    if not scripts:
        return None
    script, count = scripts.most_common(1)[0]
    if count <= sum(scripts.values()) / 2:
        return None
    if script in _SCRIPTS:
        return "ja" if scripts["HIRAGANA"] + scripts["KATAKANA"] > 0 and script == "CJK" else _SCRIPTS[script]
    if script == "LATIN" and (plain := _by_function_words(words_of(text))) is not None:
        return plain
    identified, share = _identified(text)
    sure = _SURE if guess else _VERY_SURE
    if script in _SHARED:
        return identified if share >= sure and identified is not None else _SHARED[script] if guess else None
    return _latin(words_of(text), identified, share, sure)


def scripts_of(text: str) -> Counter[str]:
    """How many letters of each script a text has.

    Example:
        >>> scripts_of("aé я")["LATIN"]
        2
    """
    if text.isascii():
        letters = len(text.translate(_NO_LETTERS))
        return Counter({"LATIN": letters} if letters else {})
    counts: Counter[str] = Counter()
    for letter, count in Counter(text).items():
        if letter.isalpha():
            counts[_script(letter)] += count
    return counts


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


def _by_function_words(words: list[str]) -> str | None:
    """The language whose function words make a quarter of the text, and three times those of any other."""
    hits = sorted(((count, language) for language, count in _function_words(words).items()), reverse=True)
    (most, best), (next_most, _) = hits[0], hits[1]
    return best if most >= 5 and most >= 0.25 * len(words) and most >= 3 * next_most else None


def _function_words(words: list[str]) -> Counter[str]:
    """How many function words of each language there are."""
    hits = Counter(dict.fromkeys(_WORDS, 0))
    for word in words:
        for language in _LANGUAGES_OF_WORD.get(word, ()):
            hits[language] += 1
    return hits


def _latin(words: list[str], identified: str | None, share: float, sure: float) -> str | None:
    """Both ways agree, or one of them is sure: at least two function words, more than of any other language."""
    hits = _function_words(words)
    ranked = hits.most_common(2)
    (best, most), (_, next_most) = ranked[0], ranked[1]
    is_clear = most >= 2 and most > next_most and most >= 0.1 * len(words)
    if is_clear and (identified == best or share < _VERY_SURE):
        return best
    return identified if identified is not None and share >= sure else None


def _identified(text: str) -> tuple[str | None, float]:
    """The likeliest language with its probability; None where it is likelier to be none."""
    language, share = _identifier().classify(text)
    return (None if language == _NO_LANGUAGE else str(language)), float(share)


@cache
def _identifier() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages([*(code for code in LANGUAGES if code in identifier.labels), _NO_LANGUAGE])
    return identifier


@cache
def _script(letter: str) -> str:
    return unicodedata.name(letter, "UNKNOWN").split()[0]
