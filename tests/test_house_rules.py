"""The promises of the project that a machine can check.

Each rule is a function from a tree to its violations, so that an empty list is the only good answer.
"""

import ast
import dataclasses
import functools
import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import pytest
from cyclopts import App

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "neurodial"

MODULES_OF_AN_IMPORT = 60
"""Of the standard library too: about 45 with Python 3.11."""
HEAVY_LIBRARIES = (
    "accelerate",
    "cyclopts",
    "datasets",
    "fastapi",
    "gguf",
    "huggingface_hub",
    "jinja2",
    "matplotlib",
    "numpy",
    "peft",
    "pydantic",
    "rich",
    "safetensors",
    "scipy",
    "torch",
    "transformers",
)
PICKLING_LIBRARIES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}

# Put together from pieces, so that this file does not break its own rule.
MACHINE_WORDS = (
    "/" + "work/",
    "/tmp/" + "bash_jobs",
    "/root/" + ".pyenv",
    "/opt/" + "wheels",
    "/opt/" + "pypi",
    "pypi" + ".org",
    "pythonhosted" + ".org",
    "registry." + "npmjs.org",
    "deb." + "debian.org",
)


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run this interpreter on this tree's package, as a user's fresh process would."""
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True, env=environment)


@functools.cache
def modules() -> list[tuple[str, ast.Module]]:
    """Every module of the library: its path in the package, and its syntax tree."""
    paths = sorted(PACKAGE.rglob("*.py"))
    assert paths, f"no modules under {PACKAGE}"
    return [(path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text(encoding="utf-8"))) for path in paths]


def public_objects() -> list[tuple[str, object]]:
    import neurodial

    return [(name, getattr(neurodial, name)) for name in neurodial.__all__]


# ------------------------------------------------------------------------------------------- quiet and light


def loaded_by(code: str) -> set[str]:
    """The modules that a fresh process has after some code and not before."""
    script = f"import sys; before = set(sys.modules); {code}; print(*set(sys.modules) - before)"
    return set(run_python("-c", script).stdout.split())


def test_import_is_light():
    """Of the package itself only its own `__init__`; beyond the standard library only what makes names wait."""
    loaded = loaded_by("import neurodial")
    others = {name for name in loaded if name.partition(".")[0] not in sys.stdlib_module_names}
    assert others == {"neurodial", "lazy_loader"}
    assert len(loaded) <= MODULES_OF_AN_IMPORT, sorted(loaded)


def test_a_name_loads_what_it_needs_and_no_more():
    loaded = loaded_by("import neurodial; neurodial.Dose")
    assert "neurodial.methods.dose.options" in loaded
    assert sorted(loaded & set(HEAVY_LIBRARIES)) == []


def test_import_prints_nothing():
    result = run_python("-c", "import neurodial")
    assert (result.stdout, result.stderr) == ("", "")


# ------------------------------------------------------------------------------------------- stages


def stage_packages() -> list[Path]:
    return sorted({path.parent for path in PACKAGE.glob("*/*.py")})


def stage_violations(init: Path) -> Iterator[str]:
    if not init.exists():
        yield "there is no __init__.py"
        return
    tree = ast.parse(init.read_text(encoding="utf-8"))
    lines = (ast.get_docstring(tree) or "").splitlines()
    if len(tree.body) != 1 or not lines:
        yield "it must hold a docstring and nothing else"
    elif [line.split()[0] for line in lines if re.match(r"(Takes|Gives)\b", line)] != ["Takes", "Gives"]:
        yield "its docstring must say what it Takes and then what it Gives, each at the start of a line"


@pytest.mark.parametrize("package", stage_packages(), ids=lambda path: path.name)
def test_a_stage_says_what_it_takes_and_gives(package):
    assert list(stage_violations(package / "__init__.py")) == []


def test_there_are_stages():
    assert {"prompts", "circuit", "model", "activations", "methods", "intervention", "cli"} <= {
        path.name for path in stage_packages()
    }


# ------------------------------------------------------------------------------------------- forbidden code


def settings_in(node: ast.AST) -> list[tuple[object, ast.expr | None]]:
    """Names and values that a node sets: an argument passed, a dictionary's entries, defaults, an annotated field."""
    if isinstance(node, ast.keyword):
        return [(node.arg, node.value)]
    if isinstance(node, ast.Dict):
        keys = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
        return list(zip(keys, node.values, strict=True))
    if isinstance(node, ast.arguments):
        positional = [argument.arg for argument in (*node.posonlyargs, *node.args)]
        with_default = positional[len(positional) - len(node.defaults) :]
        keyword_only = [argument.arg for argument in node.kwonlyargs]
        return [*zip(with_default, node.defaults, strict=True), *zip(keyword_only, node.kw_defaults, strict=True)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [(node.target.id, node.value)]
    return []


def sets_true(node: ast.AST, name: str) -> bool:
    """Whether the node sets `name` to True itself; handing on what a user chose is fine."""
    return any(
        key == name and isinstance(value, ast.Constant) and value.value is True for key, value in settings_in(node)
    )


def imported_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def code_violations(path: str, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        place = f"{path}:{getattr(node, 'lineno', '?')}"
        imported = imported_names(node)
        if {name.split(".")[0] for name in imported} & PICKLING_LIBRARIES:
            yield f"{place}: a pickling library (files are JSON and safetensors)"
        if "torch.load" in imported or (isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load"):
            yield f"{place}: torch.load"
        for setting in ("trust_remote_code", "allow_pickle"):
            if sets_true(node, setting):
                yield f"{place}: {setting}=True that the user did not ask for"
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"{place}: a bare except"
        is_print = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        if is_print and not path.startswith("cli/"):
            yield f"{place}: print (the library logs; only the command line prints)"


def test_no_forbidden_code():
    assert [violation for path, tree in modules() for violation in code_violations(path, tree)] == []


# ------------------------------------------------------------------------------------------- one name, one thing

MODULES_THAT_MAY_STAND_TWICE = {
    "__init__": "every stage has one",
    "base": "the interface of a stage's own kind: detectors, interventions, methods",
    "options": "the frozen dataclasses of one stage's options",
    "paths": "a method's paths from a strength to an intervention: one module in each method's folder",
    "registry": "the list of a stage's own kind: detectors, methods",
}
CLASSES_THAT_MAY_STAND_TWICE: dict[str, str] = {}


def names_that_stand_twice(names: list[tuple[str, str]], allowed: dict[str, str]) -> Iterator[str]:
    """Names with more than one place, and allowed ones that have only one: they leave the list."""
    places: dict[str, list[str]] = {}
    for name, place in names:
        places.setdefault(name, []).append(place)
    for name, found in sorted(places.items()):
        if len(found) > 1 and name not in allowed:
            yield f"{name}: {', '.join(found)}"
    yield from (f"{name} stands once and needs no exception" for name in allowed if len(places.get(name, [])) < 2)


def test_no_module_name_stands_twice():
    names = [(Path(path).stem, path) for path, _ in modules()]
    assert list(names_that_stand_twice(names, MODULES_THAT_MAY_STAND_TWICE)) == []


def test_no_class_name_stands_twice():
    names = [(node.name, path) for path, tree in modules() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert list(names_that_stand_twice(names, CLASSES_THAT_MAY_STAND_TWICE)) == []


def test_a_name_that_stands_twice_is_seen():
    names = [("Row", "a.py"), ("Row", "b.py"), ("Cell", "a.py")]
    assert list(names_that_stand_twice(names, {})) == ["Row: a.py, b.py"]
    assert list(names_that_stand_twice(names, {"Row": "why", "Cell": "why"})) == [
        "Cell stands once and needs no exception"
    ]


def family_names_in(tree: ast.Module, names: set[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in names:
            yield f"line {node.lineno}: {node.value!r}"


def test_only_model_knows_architectures():
    """A name of a family in code outside `model/` is knowledge that belongs into `model/`."""
    from neurodial.model.engine_names import ENGINE_NAMES

    names = {name for names in ENGINE_NAMES for name in (*names.model_types, names.gguf or names.model_types[0])}
    found = [
        f"{path} {line}"
        for path, tree in modules()
        if not path.startswith("model/")
        for line in family_names_in(tree, names)
    ]
    assert found == []
    assert list(family_names_in(ast.parse("if family == 'llama': pass"), names)) == ["line 1: 'llama'"]


def listed_by_the_studio() -> list[dict[str, str]]:
    from neurodial.studio.endpoints import export_formats_view

    return export_formats_view()


def test_command_studio_and_reference_offer_every_export_format():
    """One list: what the command, the studio and the reference offer is what `export.formats` holds."""
    import typing

    from neurodial.cli.export_command import export
    from neurodial.export.formats import FORMATS, format_names

    offered = typing.get_args(typing.get_args(typing.get_type_hints(export, include_extras=True)["as_"])[0])
    assert offered == format_names()
    assert len(set(offered)) == len(offered)
    assert [form["name"] for form in listed_by_the_studio()] == list(offered)
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert [form.name for form in FORMATS if f"| `{form.name}` | {form.title} |" not in page] == []


# ------------------------------------------------------------------------------------------- the public list


def names_in(page: Path) -> set[str]:
    """Names set as code on a page: `load`, `nd.load`, `load(model)` and `load.method` all name load."""
    spans = re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8"))
    return {match[1] for span in spans if (match := re.match(r"(?:nd\.|neurodial\.)?([A-Za-z_]\w*)", span))}


def test_public_list_is_sorted_and_public():
    import neurodial

    assert list(neurodial.__all__) == sorted(set(neurodial.__all__))
    assert [name for name in neurodial.__all__ if name.startswith("_") and name != "__version__"] == []


def test_public_names_can_be_imported():
    missing = []
    for name in importlib.import_module("neurodial").__all__:
        namespace: dict[str, object] = {}
        try:
            exec(f"from neurodial import {name}", namespace)  # noqa: S102 - exactly what a user types
        except ImportError as error:
            missing.append(str(error))
    assert missing == []


def test_public_names_are_seen_by_type_checkers():
    """In a stub a name is handed on where it is imported as itself."""
    tree = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    imported = [alias for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert [alias.name for alias in imported if alias.asname != alias.name] == []


def test_public_names_are_listed_by_dir():
    import neurodial

    assert set(neurodial.__all__) <= set(dir(neurodial))


def lacks_example(value: object) -> bool:
    docstring = inspect.getdoc(value) if inspect.ismodule(value) else getattr(value, "__doc__", None)
    return re.search(r"^\s*(>>> |Example:|Examples:)", docstring or "", re.MULTILINE) is None


def test_public_names_have_an_example():
    assert [name for name, value in public_objects() if not isinstance(value, str) and lacks_example(value)] == []


def test_public_names_are_in_the_reference():
    assert sorted({name for name, _ in public_objects()} - names_in(ROOT / "docs" / "reference.md")) == []


def test_errors_are_documented():
    errors = importlib.import_module("neurodial.errors")
    public = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value)
        and issubclass(value, Exception)
        and value.__module__ == errors.__name__
        and not name.startswith("_")
    }
    assert public, "neurodial.errors defines no error"
    assert sorted(public - names_in(ROOT / "docs" / "errors.md")) == []


# ------------------------------------------------------------------------------------------- options declared once


class Told(NamedTuple):
    """What users are told of an option."""

    choices: tuple[str, ...]
    defaults: frozenset[str]


def scalar_fields(options: object) -> Iterator[tuple[str, Told, bool]]:
    """Name, choices and default of every field of one plain value, nested ones too, and whether the studio has it.

    Read without the code that the rule is about.
    """
    hints = get_type_hints(type(options))
    for field in dataclasses.fields(options):
        notes = field.metadata.get("neurodial")
        value = getattr(options, field.name)
        parts = [part for part in (get_args(hints[field.name]) or [hints[field.name]]) if part is not type(None)]
        is_choice = get_origin(hints[field.name]) is Literal
        if notes is not None and (notes.is_hidden or notes.spelling is not None):
            continue
        if dataclasses.is_dataclass(parts[0]):
            shown = notes is None or notes.in_studio
            inner = list(scalar_fields(value if value is not None else parts[0]()))
            for number, (name, told, inside) in enumerate(inner):
                is_off = value is None and number == 0
                yield name, told._replace(defaults=frozenset({"none"})) if is_off else told, inside and shown
        elif is_choice or parts[0] in {bool, int, float, str}:
            if get_origin(hints[field.name]) is tuple:
                continue
            text = "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
            name = field.name if notes is None or notes.name is None else notes.name
            yield name, Told(tuple(parts) if is_choice else (), frozenset({text})), notes is None or notes.in_studio


def together(*declared: object, studio: bool = False) -> dict[str, Told]:
    """The fields of several dataclasses by name: choices joined, defaults of each."""
    found: dict[str, Told] = {}
    for options in declared:
        for name, told, in_studio in scalar_fields(options):
            if studio and not in_studio:
                continue
            before = found.get(name, Told((), frozenset()))
            choices = dict.fromkeys([*before.choices, *told.choices])
            found[name] = Told(tuple(choices), before.defaults | told.defaults)
    return found


def of_command(command: Any) -> dict[str, Told]:
    """The options of a command, from what its help would say."""
    app = App()
    app.command(command, name="it")
    found = {}
    for argument in app["it"].assemble_argument_collection(parse_docstring=False):
        default = argument.parameter.show_default
        if callable(default):
            texts = (text.rpartition(": ")[2] for text in default(None).split("; "))
            choices = tuple(argument.get_choices() or ())
            found[argument.name.removeprefix("--").replace("-", "_")] = Told(choices, frozenset(texts))
    return found


def of_form(fields: list[dict[str, Any]]) -> dict[str, Told]:
    return {field["name"]: Told(tuple(field["choices"]), frozenset({field["default"]})) for field in fields}


def of_request(model: Any) -> set[str]:
    return set(model.model_fields)


def drift(declared: Mapping[str, Told], told: Mapping[str, Told]) -> list[str]:
    """What is declared and told otherwise; names that ship are choices in a form alone."""
    return [
        f"{name}: declared {wanted}, told {told.get(name)}"
        for name, wanted in declared.items()
        if name not in told
        or told[name].defaults != wanted.defaults
        or (wanted.choices and told[name].choices != wanted.choices)
    ]


def test_the_options_of_methods_are_the_same_everywhere():
    from neurodial.cli.discover_command import discover
    from neurodial.methods.registry import METHODS, presets
    from neurodial.studio.option_forms import form
    from neurodial.studio.requests import MethodOptions

    declared = together(*presets().values())
    assert {"budget", "direction", "score", "folds", "answer_tokens", "draws", "universal_share"} <= set(declared)
    assert drift(declared, of_command(discover)) == []
    assert set(declared) <= of_request(MethodOptions)
    for preset in METHODS.values():
        assert drift(together(preset(), studio=True), of_form(form(preset()))) == []


def test_the_options_of_an_evaluation_are_the_same_everywhere():
    from neurodial.cli.evaluate_command import evaluate
    from neurodial.cli.studies_command import study
    from neurodial.evaluation.options import Evaluation
    from neurodial.studio.option_forms import form
    from neurodial.studio.requests import EvaluationOptions

    declared = together(Evaluation())
    assert {"prompts", "kl_limit", "max_new_tokens", "top_p", "task_limit", "thinking"} <= set(declared)
    for command in (evaluate, study):
        assert drift(declared, of_command(command)) == []
    quick = together(Evaluation.quick(), studio=True)
    assert set(quick) <= of_request(EvaluationOptions)
    assert drift(quick, of_form(form(Evaluation.quick()))) == []
    # Tasks come from files or from the net, and the studio takes neither.
    assert set(declared) - set(quick) == {"task_limit", "fewshot", "task_chat"}


def test_the_pages_forms_name_no_option_but_those_they_put_first():
    """An option that the code of a form names would have to be named there by whoever adds the next one."""
    from neurodial.evaluation.options import Evaluation
    from neurodial.methods.registry import METHODS
    from neurodial.options import options_of

    scripts = PACKAGE / "studio" / "static" / "js"
    paths = [
        path for path in scripts.rglob("*.js") if path.name in {"options.js", "form.js", "discover.js", "measure.js"}
    ]
    quoted = {name for path in paths for name in re.findall(r'"(\w+)"', path.read_text(encoding="utf-8"))}
    names = {option.name for made in (*METHODS.values(), Evaluation) for option in options_of(made())}
    first = {"select", "budget", "direction", "prompts", "max_new_tokens"}
    read_by_the_preview = {"position", "system"}
    assert quoted & names == first | read_by_the_preview


@dataclasses.dataclass(frozen=True)
class Made:
    """Made up.

    Attributes:
        length: how long.
        colour: which.
    """

    length: float | None = 2.5
    colour: Literal["red", "blue"] = "blue"


@dataclasses.dataclass(frozen=True)
class MadeFurther(Made):
    """Made up, with one field more.

    Attributes:
        length: how long.
        colour: which.
        weight: how heavy.
    """

    weight: int = 3


@pytest.mark.parametrize("options", [Made(), MadeFurther()], ids=["made", "further"])
def test_a_field_more_is_an_option_more_everywhere(options):
    from neurodial.cli.declared import command_options
    from neurodial.studio.option_forms import form, request_model

    typed = command_options("Typed", {"made": options}, shared="Made up", module=__name__)

    def command(*, given=None):
        """Do nothing."""

    command.__annotations__["given"] = typed | None

    declared = together(options)
    assert ("weight" in declared) == isinstance(options, MadeFurther)
    assert of_command(command) == of_form(form(options)) == declared
    assert of_request(request_model("Asked", options)) == set(declared)
    lacking = {name: told for name, told in of_command(command).items() if name != "colour"}
    assert len(drift(declared, lacking)) == 1, "the rule sees what lacks"
    otherwise = {**of_command(command), "length": Told((), frozenset({"3"}))}
    assert len(drift(declared, otherwise)) == 1, "and another default"


# ------------------------------------------------------------------------------------------- the tree


def project_files() -> list[Path]:
    """What is, or is about to be, under version control."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout: nothing says which files belong to the project")
    return sorted(ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file())


def text_of(path: Path) -> str:
    """The file's text; nothing for a binary file."""
    content = path.read_bytes()
    return "" if b"\0" in content[:8192] else content.decode("utf-8", errors="ignore")


def word_violations(path: Path) -> Iterator[str]:
    for number, line in enumerate(text_of(path).splitlines(), start=1):
        for word in MACHINE_WORDS:
            if word in line:
                yield f"{path.relative_to(ROOT)}:{number}: {word}"


def test_no_file_names_the_machine_it_was_made_on():
    assert [violation for path in project_files() for violation in word_violations(path)] == []


# ------------------------------------------------------------------------------------------- the first page

README_WORDS = 900


def words_outside_generated_parts(text: str) -> int:
    """Words of a page without what cog writes, and without the code that makes cog write it."""
    return len(re.sub(r"<!-- \[\[\[cog.*?\[\[\[end\]\]\] -->", "", text, flags=re.DOTALL).split())


def test_the_readme_is_short():
    assert words_outside_generated_parts((ROOT / "README.md").read_text(encoding="utf-8")) <= README_WORDS


def test_words_are_counted_outside_generated_parts():
    page = "One two.\n\n<!-- [[[cog\nout(1)\n]]] -->\n| three |\n<!-- [[[end]]] -->\n\n`four`\n"
    assert words_outside_generated_parts(page) == 3
    assert words_outside_generated_parts(page.replace("[[[cog", "")) > 3


# ------------------------------------------------------------------------------------------- the browser code


def page_tools() -> dict[str, Any]:
    return json.loads((ROOT / "package.json").read_text(encoding="utf-8"))


def test_check_includes_the_browser_code():
    command = ["make", "--dry-run", "check"]
    planned = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "check-page" in planned
    assert ("npm run" in planned) == (shutil.which("node") is not None and shutil.which("npm") is not None)
    assert {"prettier", "eslint", "tsc"} <= set(page_tools()["scripts"]["check"].split())


def test_tools_of_the_browser_code_are_pinned_and_name_no_host():
    tools = page_tools()
    assert "dependencies" not in tools, "users need none of them"
    assert [name for name, version in tools["devDependencies"].items() if not re.fullmatch(r"[\d.]+", version)] == []
    lock = json.loads((ROOT / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert [name for name, package in packages.items() if "integrity" not in package] == []


def test_wheel_holds_the_whole_package(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("neurodial/")}
    source = {path.relative_to(PACKAGE.parent).as_posix() for path in project_files() if PACKAGE in path.parents}
    assert sorted(source ^ packed) == []


# ------------------------------------------------------------------------------------------- from text to tokens

_TOKENISES = re.compile(r"import [^\n]*\brender\b|\btokenizer\([^\n]*\)\[\"input_ids\"\]|apply_chat_template\(")
_MAY_TOKENISE = {
    "prompts/render.py", "prompts/template.py", "model/subject.py", "text/thinking.py", "text/answer_parts.py",
    "tracing/question.py",  # pieces of one word, which the subject checks after that
    "nla/injection.py",  # a verbaliser's prompt, checked with its tokenizer alone before weights are read
}  # fmt: skip


def test_prompts_become_tokens_in_one_place():
    """`Subject.render` and `Subject.encode` know template options, ends and the vocabulary; nothing else may."""
    source = ROOT / "src" / "neurodial"
    found = [
        path.relative_to(source).as_posix()
        for path in sorted(source.rglob("*.py"))
        if _TOKENISES.search(path.read_text(encoding="utf-8"))
    ]
    assert set(found) <= _MAY_TOKENISE
    assert {"prompts/render.py", "model/subject.py"} <= set(found)  # the pattern finds what it looks for
