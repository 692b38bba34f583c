"""Detectors against labelled answers: floors on the test halves, which nothing was tuned on, and the opposite too."""

import json
from importlib import resources

import pytest

from neurodial.errors import OptionError, UnknownNameError
from neurodial.evaluation.detectors.base import Exchange, tally
from neurodial.evaluation.detectors.refusal import PUBLISHED
from neurodial.evaluation.detectors.registry import detector, detector_names, function, refusal_detectors
from neurodial.evaluation.intervals import kappa
from neurodial.prompts.behaviours import behaviour_names, read_pairs
from neurodial.text.language import language_of


def labelled(split, *labels):
    text = (resources.files("neurodial.evaluation") / "data" / "labelled_answers.jsonl").read_text("utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    return [Exchange(r["prompt"], r["answer"]) for r in rows if r["split"] == split and r["label"] in labels]


def share(name, split, label, wanted):
    exchanges = labelled(split, label)
    return sum(v.label == wanted for v in detector(name).judge(exchanges)) / len(exchanges)


def test_the_labelled_set_is_as_large_as_promised():
    for split in ("tuning", "test"):
        assert len(labelled(split, "refuse", "comply", "partial", "degenerate")) >= 150


# The labelled answers are written to be hard: refusals without keywords, keywords without refusal. The floors lie
# a little below what was measured, so that a change which loses answers is seen.
@pytest.mark.parametrize(
    ("name", "refusals", "compliance"),
    [
        ("refusal", 0.73, 0.83),
        ("refusal:opening", 0.58, 0.83),
        ("refusal:cna", 0.47, 0.81),
        ("refusal:cna-sweep", 0.47, 0.84),
        ("refusal:jailbreakbench", 0.41, 0.83),
        ("refusal:maliciousinstruct", 0.29, 0.81),
        ("refusal:smoothllm", 0.27, 0.79),
    ],
)
def test_refusal_lists_on_answers_that_nothing_was_tuned_on(name, refusals, compliance):
    assert share(name, "test", "refuse", "shown") >= refusals
    assert share(name, "test", "comply", "absent") >= compliance


def test_degenerate_text_is_its_own_class():
    assert share("refusal", "test", "degenerate", "degenerate") >= 0.78
    assert share("refusal", "test", "comply", "degenerate") <= 0.02
    assert share("refusal", "test", "refuse", "degenerate") == 0


@pytest.mark.parametrize("behaviour", [name for name in behaviour_names() if name != "refusal"])
def test_a_shipped_behaviour_is_recognised_in_answers_that_nothing_was_tuned_on(behaviour):
    pairs = read_pairs(behaviour)
    shown = [Exchange("", e.positive_answer) for e in pairs.test.positive if e.positive_answer]
    absent = [Exchange("", e.negative_answer) for e in pairs.test.negative if e.negative_answer]
    judge = detector(pairs.behaviour.detector).judge
    assert len(shown) >= 90
    assert len(absent) >= 90
    assert sum(v.label == "shown" for v in judge(shown)) / len(shown) >= 0.95
    assert sum(v.label == "absent" for v in judge(absent)) / len(absent) >= 0.95


def test_every_shipped_behaviour_names_a_detector():
    for name in behaviour_names():
        assert detector(read_pairs(name).behaviour.detector).description


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_published_list_is_what_it_says(name):
    """Each phrase alone is found, in either case only where the source ignores case; an empty text is not."""
    words = PUBLISHED[name]
    bare = detector(f"refusal:{name}", bare=True)
    for phrase in words.phrases:
        assert bare.judge([Exchange("", f"Well, {phrase} …")])[0].label == "shown"
    assert bare.judge([Exchange("", "")])[0].label == "absent"
    assert bare.judge([Exchange("", "I CANNOT")])[0].label == ("shown" if words.ignore_case else "absent")
    assert words.source in bare.description


def test_the_benchmark_rule_reads_500_characters():
    late = "a " * 260 + "I cannot"
    judge = detector("refusal:cna", bare=True).judge
    assert judge([Exchange("", late)])[0].label == "absent"
    assert judge([Exchange("", "I cannot")])[0].label == "shown"


def test_a_quoted_refusal_is_no_refusal():
    judge = detector("refusal").judge
    assert judge([Exchange("Say no politely.", "You could say: 'I'm sorry, but I can't help with that.'")])[
        0
    ].label == ("absent")
    assert judge([Exchange("Rob a bank?", "I'm sorry, but I can't help with that.")])[0].label == "shown"


def test_bare_asks_the_rule_of_any_text():
    loop = [Exchange("How do I rob a bank?", "I cannot " * 20)]
    assert detector("refusal").judge(loop)[0].label == "degenerate"
    assert detector("refusal", bare=True).judge(loop)[0].label == "shown"


def test_agreement_of_detectors_is_between_chance_and_one():
    answers = labelled("test", "refuse", "comply")
    ours, theirs = (detector(name).judge(answers) for name in ("refusal", "refusal:jailbreakbench"))
    found = kappa([v.label for v in ours], [v.label for v in theirs])
    assert 0.3 < found < 0.95


# ------------------------------------------------------------------------------------------- languages


SAMPLES = {
    "de": "Das ist nicht der Hund, und er war auch nicht in dem Haus.",
    "es": "El perro está en la casa, pero no es para los niños.",
    "it": "Il cane non è nella casa, ma questo non è per i bambini.",
    "pt": "O cão não está na casa, mas ele também não é para os meninos.",
    "nl": "De hond is niet in het huis, maar het is ook niet voor de kinderen.",
    "ru": "Собака не в доме.",
    "el": "Ο σκύλος δεν είναι στο σπίτι.",
    "ko": "개는 집에 없습니다.",
    "ar": "الكلب ليس في البيت.",
    "he": "הכלב לא בבית.",
    "hi": "कुत्ता घर में नहीं है।",
    "ja": "犬は家にいません。",
    "zh": "狗不在家里。",
    "th": "สุนัขไม่อยู่ในบ้าน",
    "bn": "কুকুরটি বাড়িতে নেই।",
    "ur": "کتا گھر میں نہیں ہے، وہ باغ میں ہے۔",
    "fa": "سگ در خانه نیست، در باغ است و بازی می‌کند.",
    "pl": "Psa nie ma w domu, ponieważ biega po ogrodzie.",
    "tr": "Köpek evde değil, çünkü bahçede oynuyor.",
    "id": "Anjing itu tidak ada di rumah karena sedang bermain di taman.",
    "vi": "Con chó không có ở nhà vì nó đang chơi ngoài vườn.",
    "uk": "Собаки немає вдома, бо він бігає в саду.",
    "sv": "Hunden är inte hemma eftersom den leker i trädgården.",
    "fi": "Koira ei ole kotona, koska se leikkii puutarhassa.",
    "cs": "Pes není doma, protože si hraje na zahradě.",
    "hu": "A kutya nincs otthon, mert a kertben játszik.",
    "ro": "Câinele nu este acasă, pentru că se joacă în grădină.",
}


@pytest.mark.parametrize("language", SAMPLES)
def test_a_language_is_not_taken_for_another(language):
    samples = SAMPLES
    assert language_of(samples[language]) == language
    assert detector(f"language:{language}").judge([Exchange("", samples[language])])[0].label == "shown"
    assert detector("language:en").judge([Exchange("", samples[language])])[0].label == "absent"


# ------------------------------------------------------------------------------------------- names, and the user's own


def test_an_unknown_name_offers_near_ones():
    with pytest.raises(UnknownNameError, match="refusal"):
        detector("refusel")
    with pytest.raises(UnknownNameError, match="fr"):
        detector("language:fx")
    assert detector_names() == sorted(detector_names())
    assert refusal_detectors()[0].name == "refusal"


def test_a_users_own_detectors():
    tea = Exchange("Drink?", "A pot of TEA.")
    assert detector("regex:pot of tea").judge([tea])[0].label == "shown"
    assert detector("regex:coffee").judge([tea])[0].label == "absent"
    assert detector("length:4").judge([tea])[0].label == "shown"
    assert detector("length:3").judge([tea])[0].label == "absent"
    assert detector("python:operator:eq").judge([Exchange("a", "a"), Exchange("a", "b")])[1].label == "absent"
    assert function(lambda prompt, answer: 0.0).judge([tea])[0].score == 0.0


@pytest.mark.parametrize("name", ["regex:(", "python:no_such_module:f", "python:math:pi", "python:math"])
def test_a_users_mistake_is_named(name):
    with pytest.raises(OptionError):
        detector(name)


def test_tally_counts_every_label():
    verdicts = detector("refusal").judge([Exchange("Hi", ""), Exchange("Rob?", "I can't help with that.")])
    expected = {"shown": 1, "partial": 0, "absent": 0, "degenerate": 1, "failed": 0, "unknown": 0}
    assert tally(verdicts) == expected
