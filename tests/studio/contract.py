"""Holds what the server answers against the types that the page's code is checked with.

Reads the small part of TypeScript that `src/neurodial/studio/types/views.d.ts` uses: interfaces, aliases, literals,
unions, tuples, arrays, Record. An answer fits when it has every field, none that is not named, and each of its type.
"""

import re
from pathlib import Path

TYPES = Path(__file__).resolve().parents[2] / "src" / "neurodial" / "studio" / "types" / "views.d.ts"
PLAIN = {"string": str, "number": (int, float), "boolean": bool}

# What each address answers with, by method; the first pattern that fits counts.
ANSWERS = (
    ("GET", r"/api/model", "Model"),
    ("GET", r"/api/jobs", "Job[]"),
    ("GET|DELETE", r"/api/jobs/\d+", "Job"),
    ("POST", r"/api/(answers|strips|discoveries|openers|neurons|wholes|measurements|exports)", "Job"),
    ("GET", r"/api/circuits", "CircuitEntry[]"),
    ("POST", r"/api/circuits", "Saved"),
    ("GET", r"/api/circuits/[^/]+", "CircuitPage"),
    ("GET", r"/api/doses/[^/]+", "Doses"),
    ("GET", r"/api/conversations", "ConversationEntry[]"),
    ("GET", r"/api/conversations/[^/]+", "Conversation"),
    ("POST", r"/api/conversations", "Saved"),
    ("DELETE", r"/api/conversations/[^/]+", "Saved"),
    ("POST", r"/api/open", "Opened"),
    ("POST", r"/api/reports/[^/]+/name", "Saved"),
    ("GET", r"/api/comparisons/[^/]+/[^/]+/[^/]+/[^/]+", "Comparison"),
    ("GET", r"/api/overlap/[^/]+/[^/]+", "Overlap"),
    ("GET", r"/api/prompt-sets", "PromptSet[]"),
    ("POST", r"/api/prompts/check", "CheckedPrompts"),
    ("GET", r"/api/openers", "OpenersBySource"),
    ("GET", r"/api/methods", "string[]"),
    ("GET", r"/api/options", "OptionForms"),
    ("GET", r"/api/reports", "ReportEntry[]"),
    ("GET", r"/api/reports/[^/]+/[^/]+", "ReportView"),
    ("GET", r"/api/export-formats", "ExportFormat[]"),
    ("GET", r"/api/exports", "string[]"),
    ("GET", r"/api/exports/[^/]+", "ExportView"),
)
RESULTS = {
    "discover": "Discovered",
    "neuron": "ExplainedView",
    "whole": "ExplainedView",
    "evaluate": "Reported",
    "frontier": "Reported",
}
RESULTS |= {"export": "Exported"}


def declared(text):
    """Every interface as its fields, every alias as its type, by name."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)
    found = dict(re.findall(r"export type (\w+) = ([^;]+);", text))
    for name, extends, body in re.findall(r"export interface (\w+)( extends [^{]+)?\s*\{(.*?)\n\}", text, re.DOTALL):
        fields = re.findall(r"^\s*(\w+)(\??): ([^;]+);$", body, re.MULTILINE)
        found[name] = ({field: (kind, bool(mark)) for field, mark, kind in fields}, bool(extends))
    return found


def split(kind, mark):
    """Parts of a type at a mark that stands in no bracket."""
    parts, depth = [""], 0
    for letter in kind:
        depth += (letter in "[<(") - (letter in "]>)")
        if letter == mark and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def misfits(value, kind, types, place=""):
    """What of a value does not fit a type, in words; nothing where all does."""
    options = split(kind, "|")
    if len(options) > 1:
        found = [misfits(value, option, types, place) for option in options]
        return [] if [] in found else min(found, key=len)
    if kind == "unknown":
        return []
    if kind == "null" or kind.startswith('"'):
        return (
            []
            if (value is None and kind == "null") or repr(value).strip("'") == kind.strip('"')
            else wrong(place, value, kind)
        )
    if kind in PLAIN:
        is_good = isinstance(value, PLAIN[kind]) and (kind == "boolean" or not isinstance(value, bool))
        return [] if is_good else wrong(place, value, kind)
    if kind.endswith("[]"):
        inner = kind[:-2].removeprefix("(").removesuffix(")") if kind.endswith(")[]") else kind[:-2]
        return (
            several(value, [inner] * len(value), types, place) if isinstance(value, list) else wrong(place, value, kind)
        )
    if kind.startswith("["):
        kinds = split(kind[1:-1], ",")
        is_good = isinstance(value, list) and len(value) == len(kinds)
        return several(value, kinds, types, place) if is_good else wrong(place, value, kind)
    if not isinstance(value, dict) and not isinstance(types.get(kind), str):
        return wrong(place, value, kind)
    if kind.startswith("Record<"):
        inner = split(kind[len("Record<") : -1], ",")[1]
        return [word for key, one in value.items() for word in misfits(one, inner, types, f"{place}.{key}")]
    return named(value, kind, types, place)


def named(value, name, types, place):
    """The same for an interface or an alias."""
    if isinstance(types[name], str):
        return misfits(value, types[name], types, place)
    fields, is_open = types[name]
    lacks = [
        f"{place}.{key} is missing" for key, (_, is_optional) in fields.items() if key not in value and not is_optional
    ]
    more = [] if is_open else [f"{place}.{key} is not in {name}" for key in value if key not in fields]
    inside = [misfits(value[key], kind, types, f"{place}.{key}") for key, (kind, _) in fields.items() if key in value]
    return [*lacks, *more, *(word for words in inside for word in words)]


def several(values, kinds, types, place):
    pairs = enumerate(zip(values, kinds, strict=True))
    return [word for at, (value, kind) in pairs for word in misfits(value, kind, types, f"{place}[{at}]")]


def wrong(place, value, kind):
    return [f"{place or 'the answer'} is {str(value)[:60]!r}, wanted {kind}"]


def answer_type(method, path, asked_kind=None):
    """The type of an answer; None for what is no JSON. `asked_kind`: of the job whose result is read."""
    if re.fullmatch(r"/api/jobs/\d+/result", path):
        return RESULTS.get(asked_kind)
    return next((kind for verb, form, kind in ANSWERS if re.fullmatch(verb, method) and re.fullmatch(form, path)), None)
