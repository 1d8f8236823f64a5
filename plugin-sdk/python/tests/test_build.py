"""What `python -m wasaba_plugin build` refuses and sees, without making a component."""

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
