"""An explanation as a page: what the whole circuit does first, then each neuron."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from neurodial.circuit.site import Neuron
from neurodial.evaluation.report.page import (
    ColouredText,
    Column,
    Figure,
    FirstScreen,
    KeyNumber,
    Page,
    Section,
    Table,
)
from neurodial.explain.corpus import SIDES
from neurodial.explain.dial_effects import Effect
from neurodial.explain.explanation import NO_DIAL, AnswerCourse, CircuitExplanation, Firing, NeuronExplanation, Snippet
from neurodial.explain.judged_words import JudgedWords
from neurodial.explain.likeness import Neighbour
from neurodial.explain.vector_section import vector_section
from neurodial.tracing.neuron import WrittenToken

_COLOURS = ("#d9772b", "#2f86e0", "#868c95")
_WIDTH, _HEIGHT = 440, 120
_MARGIN = Column("margin", "Change of the mean margin in nats when only these neurons are turned to dial 1.")
_DAMAGE = Column("damage", "KL from the unsteered model on its own answers to neutral prompts, nats per token.")
_LENS = (
    "Tokens through the unembedding, with the gain of the final norm: what one unit of activation adds to the token's "
    "logit if nothing came after it. What is read: the row times the gain of the norm before the MLP, times the "
    "token's embedding. On small models such lists often look random; what a dial does is what is certain."
)


def explanation_page(explanation: CircuitExplanation) -> Page:
    """The page.

    Args:
        explanation: what is known of the circuit.
    """
    sections = [
        _circuit_section(explanation),
        vector_section(explanation.vectors),
        _firing_section("Where the circuit drives", explanation.firing, _DRIVE),
        _course_section(explanation.course),
        _group_section(explanation),
        _overview(explanation),
        *(_neuron_section(neuron, explanation) for neuron in explanation.neurons),
    ]
    first = FirstScreen(_verdict(explanation), _numbers(explanation))
    title = f"What {explanation.name} does, neuron by neuron"
    return Page(title, first, tuple(sections), about=_read(explanation))


def drive_page(explanation: CircuitExplanation) -> Page:
    """The page of a circuit as a whole, without its neurons' own parts.

    Args:
        explanation: what is known of the circuit.
    """
    sections = (
        _circuit_section(explanation),
        vector_section(explanation.vectors),
        _firing_section("Where the circuit drives", explanation.firing, _DRIVE),
        replace(_overview(explanation), folded=True),
    )
    first = FirstScreen(_verdict(explanation), _numbers(explanation))
    return Page(f"What {explanation.name} does as a whole", first, sections, about=_read(explanation))


def _read(explanation: CircuitExplanation) -> str:
    """On what the circuit was watched."""
    texts = ", ".join(f"{count} {side}" for side, count in explanation.texts.items() if count)
    return (
        f"{explanation.model}; {explanation.corpus}: {texts} texts, {explanation.tokens} tokens, "
        f"{explanation.passes:.2f} passes over them"
    )


def neuron_page(neuron: NeuronExplanation, explanation: CircuitExplanation) -> Page:
    """The page of one neuron.

    Args:
        neuron: what is known of it.
        explanation: of the circuit that it belongs to, which says what was read; its vectors in words are shown.
    """
    promotes = ", ".join(repr(token.text) for token in neuron.writes[:3])
    numbers = []
    if neuron.firing.auroc is not None:
        small = f"AUROC at the last token, ± {neuron.firing.auroc_error:.1g} from binning; 0.5 is chance"
        numbers.append(KeyNumber("tells the sides apart", f"{neuron.firing.auroc:.3f}", small))
    if neuron.effect is not None:
        error = f"± {neuron.effect.damage_error:.1g} nats per token on neutral answers"
        alone = f"nats, its dial alone at 1, dose {neuron.dose:.3g}"
        numbers.append(KeyNumber("moves the margin", f"{neuron.effect.margin:+.3f}", alone))
        numbers.append(KeyNumber("damage", f"{neuron.effect.damage:.3g}", error))
    section = replace(_neuron_section(neuron, explanation), heading="What it writes, reads and fires on", folded=False)
    first = FirstScreen(f"Promotes {promotes}; score {neuron.score:.3g}, dose {neuron.dose:.3g}.", tuple(numbers))
    listed = [note for note in explanation.notes if neuron.effect is None or note != NO_DIAL]
    notes = Section("What a reader should know", (_LENS, *(f"Note: {note}." for note in listed)))
    return Page(
        f"{neuron.name} of {explanation.name}",
        first,
        (section, vector_section(explanation.vectors), notes),
        about=_read(explanation),
    )


_DRIVE = (
    "The circuit's drive at a token: how far along its direction all that dial 1 takes out there reaches. Its "
    "direction is the sum of what its neurons write, each at the difference of its means on both sides, times its dose."
)


def _verdict(explanation: CircuitExplanation) -> str:
    shown = len(explanation.neurons)
    listed = "" if shown == explanation.size else f", of which the {shown} of largest score have a part of their own"
    what = f"{explanation.size} neurons{listed}."
    effects = explanation.effects
    if effects is None:
        return f"{what} No dial was turned."
    whole = effects.circuit
    strongest = max(effects.neurons, key=lambda channel: abs(effects.neurons[channel].margin), default=None)
    words = f"{what} At dial 1 the margin moves by {whole.margin:+.2f} nats at {whole.damage:.3g} nats per token."
    if strongest is None or not whole.margin:
        return words
    alone = effects.neurons[strongest].margin
    neuron = next(n for n, channel in zip(explanation.neurons, effects.neurons, strict=True) if channel == strongest)
    return f"{words} The strongest alone, {neuron.name}, moves it by {alone:+.2f} ({alone / whole.margin:.0%})."


def _numbers(explanation: CircuitExplanation) -> tuple[KeyNumber, ...]:
    numbers = []
    if explanation.firing.auroc is not None:
        numbers.append(
            KeyNumber(
                "tells the sides apart",
                f"{explanation.firing.auroc:.3f}",
                f"AUROC of the drive at the last token, ± {explanation.firing.auroc_error:.1g} from binning",
                "0.5 is chance, 1 means that every prompt with the behaviour drives more than every prompt without.",
            )
        )
    together = sum(len(group) > 1 for group in explanation.groups)
    alone = len(explanation.groups) - together
    numbers.append(KeyNumber("groups of like neurons", str(together), f"and {alone} neurons that are like no other"))
    effects = explanation.effects
    if effects is not None:
        numbers.append(
            KeyNumber(
                "margin at dial 1",
                f"{effects.before:+.2f} → {effects.before + effects.circuit.margin:+.2f}",
                f"nats, over {effects.prompts} development prompts",
                effects.margin,
            )
        )
        error = effects.circuit.damage_error
        numbers.append(
            KeyNumber("damage", f"{effects.circuit.damage:.3g}", f"± {error:.1g} nats, {effects.tokens} tokens")
        )
    return tuple(numbers)


def _circuit_section(explanation: CircuitExplanation) -> Section:
    tables = (_token_table(explanation.writes, explanation.holds_down, {}),)
    notes = tuple(f"Note: {note}." for note in explanation.notes)
    return Section("What it writes", (*_said(explanation.words), _LENS, *notes), tables=tables)


def _said(words: JudgedWords | None) -> tuple[str, ...]:
    """Words with their score, or why there are none."""
    if words is None:
        return ()
    if words.text and words.is_scored:
        return (f"In words ({words.model}, from {words.shown} places): {words.text} — {words.verdict}.",)
    return (f"In words: nothing that could be scored ({'; '.join(words.problems) or words.verdict}).",)


def _token_table(
    up: Sequence[WrittenToken], down: Sequence[WrittenToken], reads: dict[str, tuple[WrittenToken, ...]]
) -> Table:
    columns = {"promotes": up, "holds down": down, **{f"{name} reads": tokens for name, tokens in reads.items()}}
    count = max(map(len, columns.values()), default=0)
    rows = tuple(
        tuple(f"{tokens[k].text!r} {tokens[k].weight:+.3g}" if k < len(tokens) else None for tokens in columns.values())
        for k in range(count)
    )
    return Table(tuple(Column(name) for name in columns), rows)


def _firing_section(heading: str, firing: Firing, text: str, name: str = "circuit") -> Section:
    return Section(heading, (text,), figures=_histogram(firing, name), coloured=_coloured(firing))


def _coloured(firing: Firing) -> tuple[ColouredText, ...]:
    parts = {"strongest": firing.strongest, "middle": firing.middle, "weakest": firing.weakest}
    values = [abs(value) for snippets in parts.values() for snippet in snippets for value in snippet.values]
    largest = max(values, default=0.0) or 1.0
    return tuple(_colour(f"{name}, {snippet.side}", snippet, largest) for name, s in parts.items() for snippet in s)


def _colour(label: str, snippet: Snippet, largest: float) -> ColouredText:
    pairs = zip(snippet.tokens, snippet.values, strict=True)
    tokens = tuple((text.replace("\n", "↵"), value, value / largest) for text, value in pairs)
    return ColouredText(f"{label} ({snippet.values[snippet.at]:+.3g})", tokens, snippet.at)


def _histogram(firing: Firing, name: str) -> tuple[Figure, ...]:
    if not any(map(sum, firing.counts)):
        return ()
    shares = [[count / max(1, sum(side)) for count in side] for side in firing.counts]
    top = max(max(side) for side in shares) or 1.0
    bins = len(firing.edges) - 1
    step = _WIDTH / bins
    bars = []
    for side, colour in zip(shares, _COLOURS, strict=True):
        for number, share in enumerate(side):
            if share:
                height = (_HEIGHT - 18) * share / top
                bars.append(
                    f'<rect x="{number * step:.1f}" y="{_HEIGHT - 16 - height:.1f}" width="{step:.1f}" '
                    f'height="{height:.1f}" fill="{colour}" fill-opacity="0.5"/>'
                )
    ends = (
        f'<text x="0" y="{_HEIGHT - 3}" font-size="11" fill="currentColor">{firing.edges[0]:.3g}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT - 3}" font-size="11" text-anchor="end" fill="currentColor">'
        f"{firing.edges[-1]:.3g}</text>"
    )
    svg = f'<svg class="histogram" viewBox="0 0 {_WIDTH} {_HEIGHT}">{"".join(bars)}{ends}</svg>'
    area = "" if firing.auroc is None else f" AUROC {firing.auroc:.3f}."
    sides = [
        f"{side} {('orange', 'blue', 'grey')[k]} (n = {sum(firing.counts[k])})"
        for k, side in enumerate(SIDES)
        if sum(firing.counts[k])
    ]
    return (Figure(svg, f"At the last token, shares of texts: {', '.join(sides)}.{area}", f"histogram-{name}"),)


def _course_section(courses: Sequence[AnswerCourse]) -> Section:
    if not courses:
        return Section("When in an answer it acts")
    steps = max(len(course.drive) for course in courses)
    columns = [Column("token")]
    for course in courses:
        columns.append(Column(f"drive, {course.side}", f"Mean over own answers to {course.answers} prompts."))
        columns.append(Column(f"answers, {course.side}", "Answers that are that long."))
    rows = []
    for step in range(steps):
        cells: list[str | int | float | None] = ["last of the prompt" if step == 0 else f"answer {step}"]
        for course in courses:
            has = step < len(course.drive)
            cells += [course.drive[step] if has else None, course.counts[step] if has else None]
        rows.append(tuple(cells))
    text = "The drive at the last token of the prompt, and at each token of the model's own unsteered answer."
    return Section("When in an answer it acts", (text,), tables=(Table(tuple(columns), tuple(rows)),))


def _group_section(explanation: CircuitExplanation) -> Section:
    effects = explanation.effects
    if effects is None or not effects.groups:
        return Section("Groups of like neurons")
    columns = (
        Column("group"),
        Column("neurons"),
        _MARGIN,
        _DAMAGE,
        Column("share", "Of the circuit's change of the margin, what is lost without the group.", is_share=True),
    )
    rows = []
    for number, group in enumerate(effects.groups):
        places = explanation.groups[number]
        listed = ", ".join(_short(place) for place in places[:12]) + (", …" if len(places) > 12 else "")
        rows.append((f"{number}: {len(places)}", listed, group.alone.margin, group.alone.damage, group.share))
    text = (
        "Neurons whose activations correlate over all tokens of the corpus, by average linkage. Margin and damage are "
        "the group's alone at dial 1; shares need not add up to 100 %."
    )
    return Section("Groups of like neurons", (text,), tables=(Table(columns, tuple(rows)),))


def _short(place: tuple[int, ...]) -> str:
    layer, *expert, index = place
    return Neuron(layer, expert[0] if expert else None, index).short


def _overview(explanation: CircuitExplanation) -> Section:
    columns = (
        Column("neuron"),
        Column("score"),
        Column("dose"),
        _MARGIN,
        _DAMAGE,
        Column("AUROC", "How well its activation at the last token tells the sides apart; 0.5 is chance."),
        Column("group"),
        Column("promotes"),
    )
    rows = tuple(
        (
            n.neuron.short, n.score, n.dose, *_effect(n.effect), n.firing.auroc, n.group,
            " ".join(repr(token.text) for token in n.writes[:3]),
        )
        for n in explanation.neurons
    )  # fmt: skip
    return Section("The neurons", tables=(Table(columns, rows),))


def _effect(effect: Effect | None) -> tuple[float | None, float | None]:
    return (None, None) if effect is None else (effect.margin, effect.damage)


def _neuron_section(neuron: NeuronExplanation, explanation: CircuitExplanation) -> Section:
    text = [*_said(neuron.words)]
    if neuron.effect is not None:
        text.append(
            f"Its dial alone at 1 (dose {neuron.dose:.3g}): margin {neuron.effect.margin:+.3f} nats, damage "
            f"{neuron.effect.damage:.3g} ± {neuron.effect.damage_error:.1g} nats per token."
        )
    text.append(f"Varies with {_names(neuron.correlated)}. Writes like {_names(neuron.alike)}. * is of the circuit.")
    text.append(_group(neuron, explanation))
    name = neuron.neuron.short.replace(".", "-")
    return Section(
        neuron.name.capitalize(),
        tuple(text),
        tables=(_token_table(neuron.writes, neuron.holds_down, neuron.reads),),
        figures=_histogram(neuron.firing, name),
        coloured=_coloured(neuron.firing),
        folded=True,
    )


def _group(neuron: NeuronExplanation, explanation: CircuitExplanation) -> str:
    """The group of like neurons that it belongs to."""
    group = explanation.groups[neuron.group]
    members = [Neuron(place[0], place[1] if len(place) > 2 else None, place[-1]) for place in group]
    others = [one.short for one in members if one != neuron.neuron]
    if not others:
        return "Like no other neuron of the circuit."
    listed = ", ".join(others[:12]) + (", …" if len(others) > 12 else "")
    return f"Group {neuron.group} of {len(group)} neurons, with {listed}."


def _names(neighbours: Sequence[Neighbour]) -> str:
    return ", ".join(f"{n.neuron.short}{'*' if n.in_circuit else ''} ({n.likeness:+.2f})" for n in neighbours)
