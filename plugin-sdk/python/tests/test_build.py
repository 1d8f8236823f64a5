"""What `python -m wasaba_plugin build` refuses and sees, without making a component."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from wasaba_plugin import build

SDK = Path(__file__).parents[1]

PLUGIN = """
from wasaba_plugin import Plugin
plugin = Plugin("q", "1", "")

@plugin.collect
def collect(settings):
    return []
"""

# Prints what the component would import, in a process of its own: modules are imported once.
ASK = """
import sys
from pathlib import Path
from wasaba_plugin import build
source = Path(sys.argv[1])
build.refuse_names(source.parent, source)
plugin, own = build.load(source)
imports = build.used(own)
build.refuse_reach(plugin.reaches, imports)
print(" ".join(imports), "/", " ".join(sorted(own)), "/", len(build.late_imports(own.values())))
"""


def ask(folder: Path, text: str, name: str = "q_plugin.py") -> subprocess.CompletedProcess:
    (folder / name).write_text(text)
    command = [sys.executable, "-c", ASK, str(folder / name)]
    return subprocess.run(command, capture_output=True, text=True, cwd=SDK)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("from wasaba_plugin import kv", "kv"),
        ("import wasaba_plugin.call", "call"),
        ("from wasaba_plugin import up", "kv log"),
        ("from wasaba_plugin import growth", "kv"),
        ("import logging", "log"),
        ("from wasaba_plugin import log", "log"),
        ("from wasaba_plugin import log\ndef f(): log.warning_daily('a', 'b')", "kv log"),
    ],
)
def test_a_component_imports_what_the_plugin_uses(tmp_path, text, expected):
    result = ask(tmp_path, text + PLUGIN)
    assert result.stdout.split("/")[0].strip() == expected, result.stderr


def test_modules_beside_the_plugin_are_the_authors_too(tmp_path):
    (tmp_path / "helper.py").write_text("import logging\ndef late():\n    import json\n")
    result = ask(tmp_path, "import helper" + PLUGIN)
    assert result.stdout.strip() == "log / helper q_plugin / 1", result.stderr


@pytest.mark.parametrize(
    ("name", "says"),
    [("queue.py", "Python's own module `queue`"), ("wasaba_plugin.py", "the SDK's module"), ("json.py", "`json`")],
)
def test_a_name_that_would_hide_a_module_is_refused(tmp_path, name, says):
    (tmp_path / name).write_text("")
    source = tmp_path / "q_plugin.py"
    with pytest.raises(build.Refused, match=says):
        build.refuse_names(tmp_path, source)


def test_a_capability_that_the_plugin_does_not_say_it_reaches_is_refused(tmp_path):
    result = ask(tmp_path, "from wasaba_plugin import http" + PLUGIN)
    assert 'add "http"' in result.stderr
    (tmp_path / "2").mkdir()
    result = ask(tmp_path / "2", PLUGIN.replace('""', '"", reaches=["file"]'))
    assert 'says that it reaches "file"' in result.stderr


def test_what_cannot_be_imported_is_told_with_the_authors_line(tmp_path):
    result = ask(tmp_path, "x = 1\ny = x.z\n")
    assert 'q_plugin.py", line 2' in result.stderr and "importlib" not in result.stderr.split("Refused:")[1]


def test_a_mistake_is_told_with_its_line(tmp_path):
    (tmp_path / "q_plugin.py").write_text("from wasaba_plugin import Graph\n\nGraph('a', 'A', 'bites')\n")
    command = [sys.executable, "-m", "wasaba_plugin", "build", str(tmp_path / "q_plugin.py")]
    result = subprocess.run(command, capture_output=True, text=True, cwd=SDK)
    assert result.returncode == 1
    assert result.stderr.startswith("error: q_plugin.py:3: the unit of graph `a` must be one of float, "), result.stderr


def test_the_contract_in_the_package_is_the_contract():
    ours = {path.name: path.read_bytes() for path in build.WIT.iterdir()}
    assert ours == {path.name: path.read_bytes() for path in (SDK.parents[1] / "wit").iterdir()}


# Builds with a tool that makes something else each time, as the real one does: Python's hash seed is in a component.
BUILD = """
import os, sys
from pathlib import Path
from wasaba_plugin import build
build.componentize = lambda source, own, imports, exports, target: target.write_bytes(os.urandom(64))
sys.exit(build.main(["build", *sys.argv[1:]]))
"""


def test_what_is_made_of_the_same_is_not_made_again(tmp_path):
    folder, target = tmp_path / "q", tmp_path / "q" / "build" / "q.wasm"
    folder.mkdir()
    (folder / "helper.py").write_text("import pathlib\nWORDS = pathlib.Path(__file__).with_name('words.txt').read_text()\n")
    (folder / "words.txt").write_text("a")
    (folder / "tests.toml").write_text("")
    (folder / "q_plugin.py").write_text("import helper" + PLUGIN)

    def built(*more: str) -> bytes:
        command = [sys.executable, "-c", BUILD, "q_plugin.py", "-o", str(target), *more]
        result = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=os.environ | {"PYTHONPATH": str(SDK)})
        assert (result.returncode, result.stderr) == (0, ""), result.stderr
        assert result.stdout.count("\n") == (0 if more else 1), result.stdout
        return target.read_bytes()

    first = built()
    (folder / "tests.toml").write_text("# other cases")
    (folder / "test_q.py").write_text("# other tests")
    assert built("--quiet") == first
    seen = {first}
    for name in ("q_plugin.py", "helper.py", "words.txt"):
        with (folder / name).open("a") as file:
            file.write("# changed\n")
        seen.add(built())
        assert built() in seen
    assert len(seen) == 4
    target.write_bytes(first[:-1])
    assert built() not in seen, "a component that is cut is made again"
    assert [path.name for path in target.parent.iterdir()] == ["q.wasm"]


def build_of(folder: Path, text: str) -> str:
    """What `build` says of a plugin that it refuses."""
    (folder / "q_plugin.py").write_text(text)
    command = [sys.executable, "-m", "wasaba_plugin", "build", str(folder / "q_plugin.py")]
    result = subprocess.run(command, capture_output=True, text=True, cwd=SDK)
    assert result.returncode == 1
    return result.stderr


def test_a_syntax_error_is_told_without_the_machinery_of_the_import(tmp_path):
    # The SDK may be in the plugin's folder: its frames are not the author's.
    shutil.copytree(SDK / "wasaba_plugin", tmp_path / ".venv" / "site-packages" / "wasaba_plugin")
    (tmp_path / "q_plugin.py").write_text("x = 1\ndef f(:\n")
    command = [sys.executable, "-m", "wasaba_plugin", "build", "q_plugin.py"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / ".venv" / "site-packages")}
    said = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment).stderr
    lines = said.splitlines()
    assert lines[0] == "error: q_plugin.py cannot be imported:" and lines[1].endswith('q_plugin.py", line 2'), said
    assert "importlib" not in said and "build.py" not in said and lines[-1].startswith("SyntaxError: "), said


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("Graph('a', 'A', 'float').gauge('hit ratio')", "the name of a metric must not be 'hit ratio': letters, digits, - and _ are allowed"),
        ("Graph('a', 'A', 'float').gauge('b.c')", "the name of a metric must not be 'b.c'"),
        ("Graph('a b', 'A', 'float')", "graph `a b` has the invalid segment 'a b'"),
        ("Graph('a..b', 'A', 'float')", "graph `a..b` has the invalid segment ''"),
        ("Graph('custom.a', 'A', 'float')", "graph `custom.a` must not begin with `custom.`"),
        ("Graph('a.#.#', 'A', 'float')", "graph `a.#.#` has `#` twice"),
        ("Graph('a', 'A' * 256, 'float')", "the label of graph `a` has 256 bytes, more than 255"),
        ("Plugin('a b', '1', '')", "a plugin's name must not be 'a b'"),
        ("Setting.text('a b')", "a setting's key must not be 'a b'"),
        ("Setting.url('u', default='localhost:80')", "the default of setting `u` must be an http or https URL, not 'localhost:80'"),
        ("Setting.endpoint('e', default='db')", "the default of setting `e` must be a host and a port like db:5432, not 'db'"),
        ("Setting.port('p', default=0)", "the default of setting `p` must be a port from 1 to 65535, not '0'"),
        ("Setting.integer('i', default='many')", "the default of setting `i` must be a whole number of 64 bits"),
        ("Setting.duration('d', default='5 minutes')", "the default of setting `d` must be a duration like 500ms, 10s or 5m"),
        ("Setting.file('f', default='a.log')", "the default of setting `f` must be an absolute path"),
        ("Setting.tls_mode('t', default='on')", "the default of setting `t` must be one of off, encrypt, ca, full"),
        ("Setting('s', 'secret', default='x')", "setting `s` is a secret, which cannot have a default"),
    ],
)
def test_what_the_agent_would_refuse_is_a_mistake_with_its_line(tmp_path, line, says):
    said = build_of(tmp_path, f"from wasaba_plugin import Graph, Plugin, Setting\n\n{line}\n")
    assert said.startswith(f"error: q_plugin.py:3: {says}"), said
