"""The house has one direction of dependency, and a few things never happen in it.

A room may import only from the rooms below it. Everything is read from the source with `ast`, so
imports inside functions and under TYPE_CHECKING count as well.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "dynexit"
MAXIMUM_LINES = 300

FLOORS = [  # low to high; rooms on one floor don't import each other
    {"errors"},
    {"files"},
    {"digests", "locks", "workers"},
    {"reference"},
    {"models"},
    {"exits"},
    {"inference"},
    {"training"},
    {"calibration"},
    {"evaluation"},
    {"serving", "reporting"},
    {"api"},  # what Python users call, and commands where they do the same
    {"commands"},
    {"cli"},
    {"__init__", "__main__"},  # the package's own face: may show anything, is imported by nothing
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
REPORTERS = {"reporting", "api", "commands", "cli", "__init__", "__main__"}
RECIPE = "dynexit.reference.recipe"  # trains with the models that it makes, so it is exempt
PICKLES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib"}


def sources(*directories: Path) -> Iterator[tuple[Path, ast.Module]]:
    for directory in directories:
        for path in sorted(directory.rglob("*.py")):
            yield path, ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def room(module: str) -> str:
    """`dynexit.models.cache` is in `models`; the package itself is `__init__`."""
    return [*module.split("."), "__init__"][1]


def is_module(name: str) -> bool:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def imports(path: Path, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and full name of each module of dynexit that a file imports."""
    package = module_name(path) if path.name == "__init__.py" else module_name(path.parent)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                above = parts[: len(parts) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            names = [alias.name for alias in node.names if alias.name != "__version__"]
            found = [n if is_module(n := f"{base}.{name}") else base for name in names]
        else:
            continue
        yield from ((node.lineno, name) for name in found if is_within(name, "dynexit"))


def forbidden(importer: str, imported: str) -> str | None:
    """Why `importer` may not import `imported`, or None if it may."""
    here, there = room(importer), room(imported)
    if is_within(importer, RECIPE):
        return None
    if is_within(imported, RECIPE):
        return "the recipe is run, not imported"
    if there not in FLOOR:
        return f"{there} is no room of the house"
    if there == "reporting" and here not in REPORTERS:
        return "only the command and Python's own face report"
    if here == "models" and is_within(imported, "dynexit.reference.corpus"):
        return "models need the reference pair's place, not its corpus"
    if here != there and FLOOR[there] >= FLOOR[here]:
        return f"{there} is not below {here}"
    return None


def test_every_file_is_in_a_known_room() -> None:
    strangers = {room(module_name(path)) for path in PACKAGE.rglob("*.py")} - set(FLOOR)
    assert not strangers, f"give these a floor in FLOORS, or move them into a room: {strangers}"


def test_a_room_imports_only_from_rooms_below() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {imported}: {why}"
        for path, tree in sources(PACKAGE)
        if room(module_name(path)) in FLOOR
        for line, imported in imports(path, tree)
        if (why := forbidden(module_name(path), imported))
    ]
    assert not wrong, "\n".join(wrong)


def test_the_rule_itself() -> None:
    allowed = [
        ("dynexit.training.fit", "dynexit.inference.engine"),
        ("dynexit.models.cache", "dynexit.models.config"),
        ("dynexit.models.loading", "dynexit.reference.paths"),
        ("dynexit.reference.recipe.train", "dynexit.models"),
        ("dynexit.commands.demo", "dynexit.reporting.html"),
        ("dynexit.cli", "dynexit.commands.demo"),
        ("dynexit", "dynexit.api"),
        ("dynexit.api", "dynexit.reporting.notebook"),
        ("dynexit.commands.chat", "dynexit.api"),
        ("dynexit.__main__", "dynexit.cli"),
    ]
    refused = [
        ("dynexit.inference.engine", "dynexit.training.fit"),
        ("dynexit.models.cache", "dynexit.exits"),
        ("dynexit.models.loading", "dynexit.reference.corpus.facts"),
        ("dynexit.reference.corpus.facts", "dynexit.models"),
        ("dynexit.evaluation.sweep", "dynexit.reporting.html"),
        ("dynexit.serving.server", "dynexit.reporting.html"),
        ("dynexit.reporting.html", "dynexit.serving.server"),
        ("dynexit.inference.generation", "dynexit.api"),
        ("dynexit.cli", "dynexit.reference.recipe"),
        ("dynexit.models.cache", "dynexit"),
        ("dynexit.models.cache", "dynexit.attic"),
        ("dynexit.errors", "dynexit.files"),
    ]
    assert [pair for pair in allowed if forbidden(*pair)] == []
    assert [pair for pair in refused if not forbidden(*pair)] == []


def test_imports_are_seen_in_every_form() -> None:
    source = """
import dynexit.exits.policy
from dynexit import models, __version__
from ..errors import UserError
from . import cache
def late():
    from dynexit.files import read_json
import torch
"""
    found = [name for _, name in imports(PACKAGE / "models" / "block.py", ast.parse(source))]
    assert sorted(found) == [
        "dynexit.errors",
        "dynexit.exits.policy",
        "dynexit.files",
        "dynexit.models",
        "dynexit.models.cache",
    ]


def test_no_attic() -> None:
    attics = [path.relative_to(ROOT) for path in PACKAGE.rglob("utils*")]
    assert not attics, f"name the file for the one thing in it: {attics}"


def test_files_are_short() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in PACKAGE.rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) >= MAXIMUM_LINES
    }
    assert not long, f"files must stay under {MAXIMUM_LINES} lines; split by thing: {long}"


def dangers(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of each thing that could run code out of a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = {alias.name.split(".")[0] for alias in node.names}
            yield from ((node.lineno, f"import {name}") for name in names & PICKLES)
        elif isinstance(node, ast.ImportFrom):
            if node.module and node.module.split(".")[0] in PICKLES:
                yield node.lineno, f"import {node.module}"
            if node.module == "torch" and any(alias.name == "load" for alias in node.names):
                yield node.lineno, "torch.load"
        elif isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load":
            yield node.lineno, "torch.load"


def test_nothing_is_unpickled() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {what}"
        for path, tree in sources(PACKAGE, ROOT / "studies", ROOT / "benchmarks")
        for line, what in dangers(tree)
    ]
    assert not wrong, "\n".join(wrong)


def trusts(tree: ast.Module) -> Iterator[int]:
    """Lines that set `trust_remote_code` to something other than a plain False."""
    for node in ast.walk(tree):
        pairs: list[tuple[object, ast.expr]] = []
        if isinstance(node, ast.keyword):
            pairs = [(node.arg, node.value)]
        elif isinstance(node, ast.Dict):
            keys = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
            pairs = list(zip(keys, node.values, strict=True))
        for name, value in pairs:
            plain_false = isinstance(value, ast.Constant) and value.value is False
            if name == "trust_remote_code" and not plain_false:
                yield value.lineno


def test_no_remote_code() -> None:
    everywhere = (PACKAGE, ROOT / "tests", ROOT / "studies", ROOT / "benchmarks")
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path, tree in sources(*everywhere)
        for line in trusts(tree)
    ]
    assert not wrong, "\n".join(wrong)


def test_dangers_are_seen() -> None:
    source = """
import pickle
from dill import loads
from torch import load
torch.load(path)
load(trust_remote_code=True)
load(**{"trust_remote_code": flag})
load(trust_remote_code=False)
"""
    tree = ast.parse(source)
    assert sorted(line for line, _ in dangers(tree)) == [2, 3, 4, 5]
    assert sorted(trusts(tree)) == [6, 7]
