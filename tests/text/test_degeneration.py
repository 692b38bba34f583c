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
