"""Build wheel and source distribution, check them, and install them in empty environments.

Usage: python -m scripts.try_package [--constraints FILE] [--resolve-only] [PYTHON ...]

Each PYTHON is an interpreter (by default this one): it gets an environment with the wheel and its dependencies, in
which a circuit is found, steered and written. `--resolve-only` asks pip alone whether everything can be had for 3.11,
3.12 and 3.13, without installing. Twine goes into an environment of its own.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("3.11", "3.12", "3.13")
TRIED = """
import neurodial as nd
from neurodial.model.tiny import tiny_subject
subject, pairs = tiny_subject(), nd.PairSet.read("formality")
circuit = nd.discover(subject, pairs.discovery, select=nd.Count(5))
circuit.write("formality.circuit.json", overwrite=True)
with nd.steer(subject, nd.Scale(circuit)):
    nd.generate(subject, ["Hello"], decoding=nd.Decoding(max_new_tokens=2))
print(f"neurodial {nd.__version__}: {len(circuit)} neurons found and steered")
"""


def call(*command: object, cwd: Path = ROOT) -> str:
    """Run a command, show what it printed where it fails, and give its stdout."""
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


def environment(python: str, folder: Path) -> Path:
    """An empty environment of an interpreter; gives its own."""
    call(python, "-m", "venv", folder)
    return folder / "bin" / "python"


def install(python: Path, *words: object) -> None:
    """Install with pip."""
    call(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words)


def main(words: list[str]) -> int:
    """Build, check, and try in each environment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--constraints", type=Path, help="exact versions, such as constraints.txt")
    parser.add_argument("--resolve-only", action="store_true", help="install nothing")
    parser.add_argument("pythons", nargs="*", default=[sys.executable], metavar="PYTHON")
    asked = parser.parse_args(words)
    held = [] if asked.constraints is None else ["-c", asked.constraints.resolve()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        call(sys.executable, "-m", "hatchling", "build", "-d", folder / "dist")
        [wheel], [source] = ((folder / "dist").glob(pattern) for pattern in ("*.whl", "*.tar.gz"))
        checker = environment(sys.executable, folder / "twine")
        install(checker, "twine")
        print(call(checker, "-m", "twine", "check", "--strict", wheel, source).strip())
        if asked.resolve_only:
            for version in VERSIONS:
                target = ["--target", folder / "none", "--python-version", version, "--only-binary=:all:"]
                install(checker, "--dry-run", *target, *held, wheel)
                print(f"Python {version}: everything can be had")
            return 0
        for number, python in enumerate(asked.pythons):
            own = environment(python, folder / f"env-{number}")
            install(own, *held, wheel)
            print(call(own, "--version").strip(), "wheel:", call(own, "-c", TRIED, cwd=folder).strip())
            print(call(own, "-m", "pip", "check", cwd=folder).strip())
            install(own, "--force-reinstall", "--no-deps", source)
            print(call(own, "--version").strip(), "source:", call(own, "-c", TRIED, cwd=folder).strip())
            print(call(own.with_name("neurodial"), "models", "llama", cwd=folder).splitlines()[0])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
