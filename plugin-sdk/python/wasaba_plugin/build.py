"""Makes the component: `python -m wasaba_plugin build queue_plugin.py -o build/queue.wasm`.

The plugin is imported natively first, so that its mistakes are reported with their line, and so that the component's world can be made of
what it uses: a component imports from the agent what its world has, used or not.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib
import importlib.metadata
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import _wire
from ._errors import Mistake
from ._plugin import Plugin, made

WIT = Path(__file__).parent / "wit"

CAPABILITIES = ("http", "tcp", "kv", "log", "files", "crypto", "call")

# Modules that the component has under these names.
_TAKEN = {"wasaba_plugin", "wasaba_entry", "wit_world", "componentize_py_types", "componentize_py_runtime", "poll_loop"}


class Refused(Exception):
    """Why nothing was built: for the author."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m wasaba_plugin", description="builds plugins for the wasaba agent")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("build", help="make a component of a plugin")
    command.add_argument("file", nargs="?", help="the module with the Plugin; by default the *_plugin.py here")
    command.add_argument("-o", "--output", help="the component; by default build/NAME.wasm")
    command.add_argument("-q", "--quiet", action="store_true", help="say nothing unless something is wrong")
    given = parser.parse_args(arguments)
    try:
        output, imports, warnings = build(given.file, given.output)
    except (Refused, Mistake) as error:
        place = getattr(error, "place", None) or _wire.place_in(error.__traceback__)
        print(f"error: {place}: {error}" if place else f"error: {error}", file=sys.stderr)
        return 1
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    size = output.stat().st_size / 1e6
    if not given.quiet:
        print(f"{output}: {size:.1f} MB, imports {', '.join(imports) or 'nothing'}")
    return 0


def build(file: str | None, output: str | None) -> tuple[Path, list[str], list[str]]:
    """Makes a component, and returns its path, which capabilities it imports, and warnings."""
    source = chosen(file)
    folder = source.parent
    refuse_names(folder, source)
    plugin, own = load(source)
    imports = used(own)
    exports = plugin.does()
    if not exports:
        raise Refused(f"{source.name} does nothing: decorate a function with @plugin.collect, @plugin.check or @plugin.metadata")
    refuse_reach(plugin.reaches, imports)
    target = Path(output) if output else Path("build") / f"{plugin.name}.wasm"
    target.parent.mkdir(parents=True, exist_ok=True)
    made_of = digest(source, imports, exports)
    if not is_made_of(target, made_of):
        # What is interrupted leaves no component that looks like one.
        part = target.with_name(f"{target.name}.part")
        componentize(source, own, imports, exports, part)
        with part.open("ab") as end:
            end.write(section(made_of))
        part.replace(target)
    return target, imports, late_imports(own.values())


def chosen(file: str | None) -> Path:
    if file is None:
        found = sorted(path for path in Path().glob("*_plugin.py"))
        if len(found) != 1:
            raise Refused("name the plugin's file: python -m wasaba_plugin build queue_plugin.py")
        return found[0].resolve()
    path = Path(file)
    if not path.is_file():
        raise Refused(f"there is no file `{file}`")
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise Refused(f"`{path.name}` cannot be imported: name it like queue_plugin.py")
    return path.resolve()


def refuse_names(folder: Path, source: Path) -> None:
    """A module beside the plugin hides one of Python's own with the same name from everything in the component."""
    for path in sorted(folder.iterdir()):
        name = path.stem if path.suffix == ".py" else path.name if (path / "__init__.py").is_file() else None
        if name in sys.stdlib_module_names or name in _TAKEN:
            # The folder of this SDK, as `wasaba plugin new` copies it, is not a package.
            whose = "Python's own" if name in sys.stdlib_module_names else "the SDK's"
            raise Refused(f"`{path.name}` would hide {whose} module `{name}`: rename it, for example to {name}_plugin.py")


# The files that the plugin opens while it is imported.
opened: set[Path] = set()


def note_opened(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        opened.add(Path(os.fsdecode(arguments[0])).absolute())


def load(source: Path) -> tuple[Plugin, dict[str, Path]]:
    """Imports the plugin natively. Returns it, and the author's modules with their files."""
    folder = source.parent
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    _wire.authors.add(source.stem)
    sys.addaudithook(note_opened)
    try:
        importlib.import_module(source.stem)
    except Mistake:
        raise
    except Exception as error:
        # Only what begins in the author's code: not the machinery of the import. Of a syntax error, that is the error itself.
        told = traceback.TracebackException.from_exception(error)
        frames = [frame for frame in told.stack if not frame.filename.startswith("<frozen importlib")]
        first = next((number for number, frame in enumerate(frames) if is_below(Path(frame.filename), folder)), len(frames))
        lines = [*traceback.format_list(frames[first:]), *told.format_exception_only()]
        raise Refused(f"{source.name} cannot be imported:\n" + "".join(lines).rstrip()) from None
    if len(made) != 1:
        raise Refused(f"{source.name} makes {len(made) or 'no'} Plugin{'s' if made else ''}: it must make one")
    own = {}
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path and is_below(Path(path), folder) and not name.startswith("wasaba_plugin"):
            own[name] = Path(path)
    return made[0], own


def is_below(path: Path, folder: Path) -> bool:
    path = path.resolve()
    # A virtual environment, or the SDK itself, may be in the plugin's folder, too.
    return path.is_relative_to(folder) and not {"site-packages", "dist-packages", "wasaba"} & set(path.relative_to(folder).parts)


def used(own: dict[str, Path]) -> list[str]:
    """The capabilities that the plugin imports: those whose modules it has loaded. Who uses `logging` uses the log."""
    trees = [ast.parse(path.read_bytes()) for path in own.values()]
    if any(mentions(tree, "logging") for tree in trees):
        importlib.import_module("wasaba_plugin.log")
    if any(mentions(tree, "warning_daily") for tree in trees):
        importlib.import_module("wasaba_plugin._daily")
    return [name for name in CAPABILITIES if f"wasaba_plugin.{name}" in sys.modules]


def mentions(tree: ast.AST, word: str) -> bool:
    """Whether the code imports something of this name, or uses an attribute of this name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(alias.name.partition(".")[0] == word for alias in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and not node.level:
            if (node.module or "").partition(".")[0] == word or any(alias.name == word for alias in node.names):
                return True
        if isinstance(node, ast.Attribute) and node.attr == word:
            return True
    return False


def late_imports(files: Iterable[Path]) -> list[str]:
    """Imports inside functions: in the component there is nothing to import from, unless it is loaded already."""
    found = []
    for path in files:
        tree = ast.parse(path.read_bytes())
        for function in ast.walk(tree):
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                for node in ast.walk(function):
                    if isinstance(node, (ast.Import, ast.ImportFrom)):
                        name = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                        found.append((path.name, node.lineno, name))
    return [
        f"{file}:{line}: the import of `{name}` inside a function fails in the component: move it to the top of the file"
        for file, line, name in sorted(set(found))
    ]


def refuse_reach(reaches: Iterable[str], imports: list[str]) -> None:
    for capability, words in (("http", ["http"]), ("tcp", ["tcp", "unix"]), ("files", ["file"])):
        says = [word for word in words if word in reaches]
        if capability in imports and not says:
            wanted = " or ".join(f'"{word}"' for word in words)
            raise Refused(f"the plugin uses {capability}, which is denied unless it says so: add {wanted} to Plugin(reaches=[...])")
        # Python's own sockets are in every component, and reach what `tcp` does; there are no unix sockets among them.
        says = [word for word in says if word != "tcp"]
        if says and capability not in imports:
            raise Refused(f'the plugin says that it reaches "{says[0]}", but does not import wasaba_plugin.{capability}')


# The digest of what a component is made of stands at its end. Python's hash seed, which the tool draws for each component and which
# cannot be given to it, is part of a component, so that another one of the same source has other bytes, and the agent compiles it again.
SECTION = b"\x0awasaba-src"


def section(made_of: bytes) -> bytes:
    """A custom section of WebAssembly."""
    return bytes([0, len(SECTION) + len(made_of)]) + SECTION + made_of


def is_made_of(target: Path, made_of: bytes) -> bool:
    wanted = section(made_of)
    try:
        with target.open("rb") as file:
            file.seek(-len(wanted), os.SEEK_END)
            return file.read() == wanted
    except OSError:
        return False


def digest(source: Path, imports: list[str], exports: list[str]) -> bytes:
    """The digest of everything that a component is made of: the modules that are loaded, the other files that they opened, the contract,
    the tool, and what of the SDK runs in the component only."""
    folder = source.parent
    modules = {Path(file).absolute() for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    # Python's own modules are the tool's.
    own = Path(os.__file__).parent

    def is_own(file: Path) -> bool:
        return file.is_relative_to(own) and not {"site-packages", "dist-packages"} & set(file.parts)

    data = {file for file in opened if file.is_relative_to(folder) and file.suffix not in (".py", ".pyc")}
    ours = {path for path in Path(__file__).parent.rglob("*") if path.suffix in (".py", ".wit") and path.name != "testing.py"}
    tool = importlib.metadata.version("componentize-py")
    result = hashlib.sha256(repr((tool, source.stem, imports, exports)).encode())
    for file in sorted(file for file in modules | data | ours if not is_own(file) and file.is_file()):
        # Not where the folders are: the same source in another folder is the same.
        name = file.relative_to(folder) if file.is_relative_to(folder) else Path(file.parent.name, file.name)
        result.update(f"{name}\0{file.stat().st_size}\0".encode())
        result.update(file.read_bytes())
    return result.digest()


def componentize(source: Path, own: dict[str, Path], imports: list[str], exports: list[str], target: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wit = folder / "wit"
        wit.mkdir()
        for file in WIT.glob("*.wit"):
            (wit / file.name).write_bytes(file.read_bytes())
        # `types` is imported by the others.
        lines = [f"    import {name};" for name in ("types", *imports)] + [f"    export {name};" for name in ("about", *exports)]
        (wit / "made.wit").write_text("\n".join(["world made-for-the-plugin {", *lines, "}", ""]))
        entry = folder / "entry"
        entry.mkdir()
        classes = ["About", *(name.capitalize() for name in exports)]
        text = [
            "import wasaba_plugin._wire",
            f"wasaba_plugin._wire.authors |= {set(own)!r}",
            *(f"import {name}" for name in ("wasaba_plugin.log", "wasaba_plugin._daily") if name in sys.modules),
            f"import {source.stem}",
            f"from wasaba_plugin._component import {', '.join(classes)}",
        ]
        (entry / "wasaba_entry.py").write_text("\n".join(text) + "\n")
        paths = [str(entry), str(source.parent), str(Path(__file__).parent.parent)]
        command = [
            tool(),
            "--quiet",
            f"--wit-path={wit}",
            "--world=made-for-the-plugin",
            "componentize",
            *(f"--python-path={path}" for path in paths),
            "wasaba_entry",
            f"--output={target.resolve()}",
        ]
        # The virtual environment's packages are added by the tool itself.
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
        if sys.prefix != sys.base_prefix:
            environment["VIRTUAL_ENV"] = sys.prefix
        result = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder)
        if result.returncode:
            raise Refused(f"componentize-py failed:\n{result.stdout}{result.stderr}".strip())


def tool() -> str:
    beside = Path(sys.executable).parent / ("componentize-py.exe" if os.name == "nt" else "componentize-py")
    if beside.is_file():
        return str(beside)
    from shutil import which

    found = which("componentize-py")
    if found is None:
        raise Refused("componentize-py is missing: pip install componentize-py==0.25.1")
    return found
