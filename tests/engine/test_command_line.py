"""The command line: files that it writes, and one sentence per mistake."""

import json
import socket
import stat
from pathlib import Path

import pytest
from conftest import ROOT, Sandbox

MANIFEST = """\
accelerator:
  options:
    - name: colour
      defaultValue: red
      validationRegex: ^[a-z]+$
  imports:
    - name: licence
engine:
  merge:
    - include: ['**']
    - type: InvokeFragment
      reference: licence
  chain:
    - type: ReplaceText
      substitutions: [{text: COLOUR, with: '#colour'}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An accelerator, and a fragment beside it."""
    accelerator, fragment = tmp_path / "car", tmp_path / "licence"
    for path in (accelerator, fragment):
        path.mkdir()
    (accelerator / "accelerator.yaml").write_text(MANIFEST)
    (accelerator / "run").write_text("#!/bin/sh\necho COLOUR\n")
    (accelerator / "run").chmod(0o755)
    (accelerator / ".gitignore").write_text("secret\n")
    (accelerator / "secret").write_text("COLOUR")
    (fragment / "accelerator.yaml").write_text("accelerator: {}\nengine: {include: [LICENCE]}\n")
    (fragment / "LICENCE").write_text("COLOUR is free\n")
    return accelerator


def generate(folder: Path) -> tuple[str | Path, ...]:
    return "generate", "--accelerator-path", folder, "--fragment-path", f"licence={folder.parent / 'licence'}"


def run(sandbox: Sandbox, folder: Path, *arguments: str | Path) -> tuple[int, str, str]:
    return sandbox.engine_here(*generate(folder), *arguments)


def test_a_project_is_written_below_its_name(sandbox: Sandbox, folder: Path) -> None:
    answers = ("--options", '{"projectName": "beetle", "colour": "blue"}')
    completed = sandbox.engine(*generate(folder), *answers, "-o", "out")
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "generated project out/beetle\n", "")
    project = sandbox.output / "out" / "beetle"
    assert sorted(path.name for path in project.iterdir()) == [".gitignore", "LICENCE", "accelerator-log.md", "run"]
    assert (project / "run").read_text() == "#!/bin/sh\necho blue\n"
    assert stat.S_IMODE((project / "run").stat().st_mode) == 0o755
    assert (project / "LICENCE").read_text() == "blue is free\n"
    assert sandbox.written() == [
        "output/out",
        "output/out/beetle",
        *sorted(f"output/out/beetle/{path.name}" for path in project.iterdir()),
    ]


def test_answers_come_from_a_file(sandbox: Sandbox, folder: Path) -> None:
    answers = folder.parent / "answers.json"
    answers.write_text('{"projectName": "beetle", "colour": "green"}')
    assert run(sandbox, folder, "--options-file", answers)[0] == 0
    assert (sandbox.output / "beetle" / "LICENCE").read_text() == "green is free\n"


def test_the_default_name_of_a_project_is_the_accelerators(sandbox: Sandbox, folder: Path) -> None:
    assert run(sandbox, folder) == (0, "generated project car\n", "")


def test_an_unknown_answer_causes_a_warning(sandbox: Sandbox, folder: Path) -> None:
    """TAP's engine takes it as a variable, but it is probably a typing error."""
    warning = "Warning: color is not an option of this accelerator (did you mean colour?).\n"
    assert run(sandbox, folder, "--options", '{"color": "blue"}') == (0, "generated project car\n", warning)


def test_a_manifest_without_an_engine_causes_a_warning(sandbox: Sandbox, folder: Path) -> None:
    (folder / "accelerator.yaml").write_text("accelerator: {}\nengin: {}\n")
    warning = "Warning: there is no engine in accelerator.yaml, so every file is copied unchanged.\n"
    assert run(sandbox, folder) == (0, "generated project car\n", warning)


def test_only_force_changes_a_folder_with_files(sandbox: Sandbox, folder: Path) -> None:
    (sandbox.output / "car").mkdir()
    (sandbox.output / "car" / "mine").write_text("mine")
    (sandbox.output / "car" / "run").write_text("old")
    assert run(sandbox, folder) == (1, "", "Error: path car is not empty, use --force to overwrite\n")
    assert (sandbox.output / "car" / "run").read_text() == "old"
    assert run(sandbox, folder, "--force")[0] == 0
    assert (sandbox.output / "car" / "mine").read_text() == "mine"
    assert (sandbox.output / "car" / "run").read_text() == "#!/bin/sh\necho red\n"


def test_a_forced_run_does_not_follow_a_link(sandbox: Sandbox, folder: Path) -> None:
    (sandbox.output / "car").mkdir()
    (sandbox.output / "car" / "run").symlink_to(sandbox.output.parent / "victim.txt")
    assert run(sandbox, folder, "--force")[0] == 0
    assert (sandbox.output.parent / "victim.txt").read_text() == "precious"
    assert not (sandbox.output / "car" / "run").is_symlink()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--options", '{"colour": "RED"}'], "colour cannot be 'RED'; allowed is text that matches ^[a-z]+$."),
        (
            ["--options", '{"colour": 1}'],
            'colour cannot be 1 (a number, not text: write "1"); allowed is text that matches ^[a-z]+$.',
        ),
        (
            ["--options", '{"projectName": "../evil"}'],
            "projectName cannot be '../evil'; allowed is the name of one folder",
        ),
        (["--options", '{"projectName": "a/b"}'], "projectName cannot be 'a/b'; allowed is the name of one folder"),
        (["--options", "{"], "--options is not JSON: "),
        (["--options", "[]"], "--options is not a JSON object of option names and values."),
        (["--options", "{}", "--options-file", "/dev/null"], "use --options or --options-file, not both."),
        (
            ["--accelerator-path", "nowhere"],
            "Invalid value for '--accelerator-path': Directory 'nowhere' does not exist.",
        ),
        (
            ["--fragment-path", "x"],
            "Invalid value for '--fragment-path': 'x' is not name=folder with a folder that exists.",
        ),
    ],
)
def test_a_mistake_prints_one_sentence_and_writes_nothing(
    sandbox: Sandbox, folder: Path, arguments: list[str], sentence: str
) -> None:
    code, output, error = run(sandbox, folder, *arguments)
    assert code in (1, 2)
    assert output == ""
    assert error.splitlines()[-1].startswith(f"Error: {sentence}")
    assert sandbox.untouched()


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("reference: licence", "reference: license", "accelerator.yaml:11: the fragment 'license' is not imported"),
        (
            "name: licence",
            "name: other",
            "accelerator.yaml:7: the fragment 'other' is imported, but its folder is unknown",
        ),
        ("'#colour'", "'#colour ='", "accelerator.yaml:15: with of a substitution: could not parse SpEL expression"),
        (
            "type: ReplaceText",
            "type: Replace",
            "accelerator.yaml:14: there is no transform 'Replace'; use one of Include",
        ),
        ("- name: colour", "- label: colour", "accelerator.yaml:3: an option has no name"),
        ("engine:", "engine: [", "accelerator.yaml:"),
        ("'#colour'", "'#color'", "accelerator.yaml:14: Expression '#color' evaluated to null"),
    ],
)
def test_a_mistake_in_the_manifest_prints_one_sentence_with_its_line(
    sandbox: Sandbox, folder: Path, old: str, new: str, sentence: str
) -> None:
    (folder / "accelerator.yaml").write_text(MANIFEST.replace(old, new))
    code, output, error = run(sandbox, folder)
    assert (code, output, error.count("\n")) == (1, "", 1)
    assert error.startswith(f"Error: {sentence}")
    assert sandbox.untouched()


def test_an_unwritable_output_prints_one_sentence(sandbox: Sandbox, folder: Path) -> None:
    (sandbox.output / "file").write_text("")
    completed = sandbox.engine(*generate(folder), "-o", "file/below")
    assert (completed.returncode, completed.stderr.count("\n")) == (1, 1)
    assert completed.stderr.startswith("Error: file")


def test_the_command_generates_this_template(sandbox: Sandbox) -> None:
    completed = sandbox.engine(
        "generate", "--accelerator-path", ROOT, "-o", ".",
        "--options", json.dumps({"projectName": "abc"}),
    )  # fmt: skip
    assert (completed.returncode, completed.stdout) == (0, "generated project abc\n"), completed.stderr
    assert (sandbox.output / "abc" / "dataset.py").is_file()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--accelerator-path", "nowhere"], "nowhere is not a folder"),
        (["--fragment-path", "a=nowhere"], "nowhere is not a folder"),
        (["--accelerator-path", "a=", "--port", "0"], "'a=' has to be NAME=FOLDER or FOLDER"),
        (["--port", "65536"], "Invalid value for '--port': 65536 is not in the range 0<=x<=65535."),
    ],
)
def test_a_server_that_cannot_start_prints_one_sentence(sandbox: Sandbox, arguments: list[str], sentence: str) -> None:
    completed = sandbox.engine("serve", *arguments)
    assert completed.returncode in (1, 2)
    assert completed.stderr.splitlines()[-1] == f"Error: {sentence}"


def test_a_port_in_use_prints_one_sentence(sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])
        completed = sandbox.engine("serve", "--accelerator-path", str(ROOT), "--port", port)
    assert (completed.returncode, completed.stdout) == (1, "")
    assert completed.stderr == f"Error: cannot listen on port {port} of 127.0.0.1: Address already in use\n"
