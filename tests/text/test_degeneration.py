"""Text that has broken down, each reason apart; and good answers that look odd."""

import pytest

from neurodial.text.degeneration import Degeneration, longest_loop


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "empty"),
        (" \n!?…", "empty"),
        ("1.\n2.\n3.\n4.", "empty"),
        ("<|user|> <|assistant|>", "empty"),
        ("How do I boil an egg?", "echo of the prompt"),
        ("Boil it. Boil it. Boil it. Boil it. Boil it.", "looping"),
        ("egg-egg-egg-egg-egg-egg-egg-egg-egg-egg-egg-egg", "looping"),
        ("Man nimmt ein Ei und legt es für acht Minuten in das Wasser.", "wrong language (de)"),
        ("яйцо und egg 卵卵を и das", "several scripts"),
        ("xqzt wvbrk jjfle qqanm zzgra uhhk vvpo", "gibberish"),
    ],
)
def test_degenerate_answers_have_reasons(answer, reason):
    assert Degeneration().find("How do I boil an egg?", answer) == reason


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("How much is six times seven?", "42"),
        ("How do I boil an egg?", "Put it in water. Boil it for eight minutes. Take it out. Peel it."),
        ("Write the letter A ten times.", "A A A A A A A A A A"),
        ("Say it in German: the egg is in the water.", "Das Ei ist in dem Wasser und es ist nicht auf dem Tisch."),
        ("Write a loop.", "```python\nfor i in range(3):\n    print(i)\n    print(i)\n    print(i)\n```"),
        ("Comment cuire un œuf ?", "On met l'œuf dans de l'eau et on attend pendant huit minutes."),
    ],
)
def test_good_answers_are_not_degenerate(prompt, answer):
    assert Degeneration().find(prompt, answer) is None


def test_every_option_of_degeneration_does_something():
    german = "Man nimmt ein Ei und legt es für acht Minuten in das Wasser."
    assert Degeneration(wrong_language=False).find("How do I boil an egg?", german) is None
    thrice = "we boil the egg now we boil the egg now we boil the egg now"
    assert Degeneration(repeats=3, window=99).find("?", thrice) == "looping"
    assert Degeneration(repeats=4, window=99).find("?", thrice) is None
    assert (
        Degeneration(repeats=4, window=12).find("?", "the egg the pan the egg the egg pan the egg the pan") == "looping"
    )
    odd = "xqzt wvbrk jjfle qqanm zzgra uhhk vvpo"
    assert Degeneration(implausible=1.0).find("?", odd) is None


def test_longest_loop_counts_words():
    assert longest_loop(list("abcabcabc"), 3) == 9
    assert longest_loop(list("abcabc"), 3) == 0


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("怎样打开罐子？", "先把盖子放在热水下冲一会儿，然后用力逆时针旋转。如果还是打不开，可以套一根橡皮筋。"),
        ("瓶のふたはどうやって開けますか？", "まずお湯をかけて温め、それから反時計回りに強く回してください。"),
        ("병은 어떻게 여나요?", "뚜껑을 뜨거운 물에 잠시 대었다가 시계 반대 방향으로 세게 돌리세요."),
        ("जार कैसे खोलूँ?", "ढक्कन को गरम पानी में रखें और फिर उसे ज़ोर से घुमाएँ, वह आसानी से खुल जाएगा।"),
        ("เปิดขวดอย่างไร", "นำฝาไปแช่น้ำร้อนสักครู่ แล้วหมุนทวนเข็มนาฬิกาแรงๆ"),
        ("Jak otworzyć słoik?", "Potrzymaj pokrywkę pod ciepłą wodą, a potem mocno ją przekręć w lewo."),
        ("Kavanozu nasıl açarım?", "Kapağı sıcak suyun altında tutun, sonra saat yönünün tersine sertçe çevirin."),
    ],
)
def test_answers_in_other_languages_are_not_broken(prompt, answer):
    assert Degeneration().find(prompt, answer) is None


def test_brokenness_is_half_at_a_limit_and_grows():
    values = [Degeneration(window=99).measure("?", "we boil the egg now " * n).value for n in (1, 2, 3, 4, 8)]
    assert values == sorted(values)
    assert values[0] < 0.5 < values[-1] < 1
    assert values[-1] > values[2]
    found = Degeneration(window=99).measure("?", "boil the egg now " * 2 + "and eat it")
    assert not found.is_degenerate
    eight = Degeneration(window=99).measure("?", "tea now tea now tea now tea now")
    assert (eight.loop, eight.value, eight.sign) == (8, 0.5, "looping")


def test_what_is_measured_beside_it():
    found = Degeneration().measure("How do I boil an egg?", "Put it in water and boil it for eight minutes.")
    assert (found.language, found.words, found.loop, found.repetition) == ("en", 10, 0, 0.0)
    assert Degeneration().measure("How?", "").value == 1.0


def test_an_answer_that_changes_its_language_is_broken():
    mixed = (
        "Put the egg into the water and boil it for eight minutes, then take it out of the pan with a spoon and "
        "danach legt man das Ei in kaltes Wasser und schält es auf einem Teller mit der Hand und isst es."
    )
    assert Degeneration().find("How do I boil an egg?", mixed) == "changes language (de)"
    assert Degeneration(wrong_language=False).find("How do I boil an egg?", mixed) is None
