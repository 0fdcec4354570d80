"""Findings of lint in manifests that the engine accepts."""

from pathlib import Path

import pytest
from conftest import ROOT, Sandbox

from accelerator_engine.lint import findings

GOOD = """\
accelerator:
  displayName: Car
  x-anything: of another tool
  options:
    - name: colour
      inputType: select
      choices: [{text: Red, value: red}, {value: blue}]
      defaultValue: red
      validationRegex: ^(red|blue)$
    - name: doors
      dataType: number
      defaultValue: 4
      dependsOn: {name: colour, value: blue}
engine:
  let:
    - name: half
      expression: '#doors / 2'
  merge:
    - include: ['*.txt']
    - condition: "#colour == 'blue'"
      include: [blue/**]
      chain:
        - type: RewritePath
          regex: blue/(?<rest>.*)
          rewriteTo: '#rest + #g0'
  chain:
    - type: Loop
      on: '{1, 2}'
      var: number
      doAsChain:
        type: ReplaceText
        substitutions: [{text: HALF, with: '#half + #number'}]
"""


def lint(tmp_path: Path, manifest: str, fragments: dict[str, dict[str, str]] | None = None) -> list[str]:
    folders = {}
    for name, files in {"car": {"accelerator.yaml": manifest}, **(fragments or {})}.items():
        folders[name] = tmp_path / name
        for path, text in files.items():
            (folders[name] / path).parent.mkdir(parents=True, exist_ok=True)
            (folders[name] / path).write_text(text)
    for path in ("a.txt", "blue/b.txt"):
        (folders["car"] / path).parent.mkdir(exist_ok=True)
        (folders["car"] / path).write_text("HALF")
    return [str(finding) for finding in findings(folders.pop("car"), folders)]


def test_a_good_manifest_has_no_findings(tmp_path: Path) -> None:
    assert lint(tmp_path, GOOD) == []


def test_this_repositorys_manifest_has_no_findings() -> None:
    assert findings(ROOT) == []


# A change of the good manifest, and the start of its finding after the file's name.
MISTAKES = {
    "engine below accelerator": (
        "engine:\n",
        "  engine:\n    include: ['**']\nother:\n",
        "14: engine below accelerator is ignored; move it to the first column",
    ),
    "a key of the manifest": ("engine:\n", "engin: {}\nengine:\n", "14: the manifest has no key 'engin'"),
    "a key of accelerator": ("displayName", "displayname", "2: accelerator has no key 'displayname'"),
    "a key of an option": ("dataType: number", "type: number", "11: option doors has no key 'type'"),
    "a key of a choice": ("{value: blue}", "{value: blue, tex: Blue}", "7: a choice has no key 'tex'"),
    "a key of a transform": ("      chain:\n", "      chains:\n", "22: Combo has no key 'chains'"),
    "a key of a type": ("      doAsChain:", "      as: x\n      doAsChain:", "30: Loop has no key 'as'"),
    "a key deep down": ("text: HALF, with", "text: HALF, by: x, with", "32: substitutions has no key 'by'"),
    "a repeated key": (
        "  displayName: Car\n",
        "  displayName: Car\n  displayName: Bus\n",
        "3: 'displayName' occurs a second",
    ),
    "an unused option": ("'#doors / 2'", "'4'", "10: option doors is asked, but nothing reads it"),
    "an undeclared name": ("#doors / 2", "#door / 2", "15: #door is neither an option nor a symbol, so it is null"),
    "a symbol out of scope": ("'#rest + #g0'", "'#rest + #number'", "23: #number is neither an option nor a symbol"),
    "dependsOn without an option": ("{name: colour, value", "{name: color, value", "10: dependsOn names color, which"),
    "an unknown choice": ("#colour == 'blue'", "#colour == 'Blue'", "20: #colour is compared with 'Blue', wh"),
    "a forbidden default": ("defaultValue: red", "defaultValue: RED", "5: option colour forbids its own"),
    "a forbidden choice": ("^(red|blue)$", "^red$", "5: option colour forbids its own choice 'blue'"),
    "a select without choices": (
        "choices: [{text: Red, value: red}, {value: blue}]",
        "choices: []",
        "5: option colour is a select without choices",
    ),
    "a repeated option": (
        "engine:\n",
        "    - {name: doors, dependsOn: {name: colour, value: blue}}\nengine:\n",
        "14: option doors",
    ),
    "a default of another type": (
        "dataType: number",
        "dataType: boolean",
        "10: option doors forbids its own defaultValue",
    ),
    "onConflict without a merge": (
        "      chain:\n",
        "      onConflict: UseLast\n      chain:\n",
        "22: onConflict does nothing",
    ),
    "an include without a match": ("'*.txt'", "'*.txt', '*.md'", "19: the pattern '*.md' matches no file"),
    "an include without a match for a choice": ("blue/**", "bleu/**", "20: the pattern 'bleu/**' matches no file"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_lint_finds_a_mistake(tmp_path: Path, mistake: str) -> None:
    old, new, expected = MISTAKES[mistake]
    assert old in GOOD
    lines = lint(tmp_path, GOOD.replace(old, new, 1))
    assert any(line.startswith(f"accelerator.yaml:{expected}") for line in lines), lines


FRAGMENT = {
    "accelerator.yaml": "accelerator: {}\nengine: {chain: [{type: ReplaceText}]}\n",
    "README.md": "of the fragment",
    "payload.txt": "x",
}
CALLER = """\
accelerator:
  imports: [{name: part}]
engine:
  merge:
    - include: ['**']
    - {type: InvokeFragment, reference: part}
"""


def test_lint_finds_leaking_files_of_a_fragment(tmp_path: Path) -> None:
    lines = lint(tmp_path, CALLER, {"part": FRAGMENT})
    assert [line for line in lines if "README" in line] == [
        "accelerator.yaml:6: README.md of the fragment part leaks into the project; no pattern selects it"
    ]


@pytest.mark.parametrize(
    "engine",
    ["{include: [payload.txt]}", "{exclude: [README.md], include: [payload.txt]}", "{merge: [{include: [pay*]}]}"],
)
def test_selected_files_do_not_leak(tmp_path: Path, engine: str) -> None:
    fragment = {**FRAGMENT, "accelerator.yaml": f"accelerator: {{}}\nengine: {engine}\n"}
    assert lint(tmp_path, CALLER, {"part": fragment}) == []


def test_lint_finds_a_fragment_that_is_never_invoked(tmp_path: Path) -> None:
    manifest = CALLER.replace("    - {type: InvokeFragment, reference: part}\n", "")
    assert lint(tmp_path, manifest, {"part": FRAGMENT}) == [
        "accelerator.yaml:2: the fragment part is imported, but never invoked"
    ]


def test_a_symbol_of_the_caller_is_known_in_a_fragment(tmp_path: Path) -> None:
    manifest = CALLER.replace("reference: part", "reference: part, let: [{name: x, expression: \"'1'\"}]")
    engine = "{include: [payload.txt], chain: [{type: ReplaceText, substitutions: [{text: x, with: '#x'}]}]}"
    fragment = {**FRAGMENT, "accelerator.yaml": f"accelerator: {{}}\nengine: {engine}\n"}
    assert lint(tmp_path, manifest, {"part": fragment}) == []


def test_lint_reports_that_no_run_succeeds(tmp_path: Path) -> None:
    manifest = GOOD.replace("'#half + #number'", "'#half.nothing()'")
    assert any("patterns were not checked, because no run succeeds: " in line for line in lint(tmp_path, manifest))


def test_the_command_exits_with_1_if_there_are_findings(sandbox: Sandbox, tmp_path: Path) -> None:
    lint(tmp_path, GOOD.replace("displayName", "name"))
    completed = sandbox.engine("lint", tmp_path / "car")
    assert (completed.returncode, completed.stdout, completed.stderr) == (
        1, "accelerator.yaml:2: accelerator has no key 'name', which is ignored\n", "",
    )  # fmt: skip
    lint(tmp_path, GOOD)
    assert sandbox.engine_here("lint", tmp_path / "car") == (0, "", "")
