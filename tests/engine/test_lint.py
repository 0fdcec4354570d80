"""What lint says about manifests that the engine would run without a word."""

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


def test_a_good_manifest_leaves_nothing_to_say(tmp_path: Path) -> None:
    assert lint(tmp_path, GOOD) == []


def test_our_own_manifest_leaves_nothing_to_say() -> None:
    assert findings(ROOT) == []


# What is changed into what, and how the sentence about it begins behind the file's name.
FOUND = {
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
    "a key twice": (
        "  displayName: Car\n",
        "  displayName: Car\n  displayName: Bus\n",
        "3: 'displayName' occurs a second",
    ),
    "an option for nothing": ("'#doors / 2'", "'4'", "10: option doors is asked, but nothing reads it"),
    "a name of nobody": ("#doors / 2", "#door / 2", "15: #door is neither an option nor a symbol, so it is null"),
    "a symbol elsewhere": ("'#rest + #g0'", "'#rest + #number'", "23: #number is neither an option nor a symbol"),
    "dependsOn nothing": ("{name: colour, value", "{name: color, value", "10: dependsOn names color, which"),
    "no such choice": ("#colour == 'blue'", "#colour == 'Blue'", "20: #colour is compared with 'Blue', wh"),
    "a default that is refused": ("defaultValue: red", "defaultValue: RED", "5: option colour forbids its own"),
    "a choice that is refused": ("^(red|blue)$", "^red$", "5: option colour forbids its own choice 'blue'"),
    "a select without choices": (
        "choices: [{text: Red, value: red}, {value: blue}]",
        "choices: []",
        "5: option colour is a select without choices",
    ),
    "an option twice": (
        "engine:\n",
        "    - {name: doors, dependsOn: {name: colour, value: blue}}\nengine:\n",
        "14: option doors",
    ),
    "a default of another type": (
        "dataType: number",
        "dataType: boolean",
        "10: option doors forbids its own defaultValue",
    ),
    "onConflict for nothing": (
        "      chain:\n",
        "      onConflict: UseLast\n      chain:\n",
        "22: onConflict does nothing",
    ),
    "include of nothing": ("'*.txt'", "'*.txt', '*.md'", "19: the pattern '*.md' matches no file"),
    "include of nothing for a choice": ("blue/**", "bleu/**", "20: the pattern 'bleu/**' matches no file"),
}


@pytest.mark.parametrize("what", FOUND)
def test_it_is_found(tmp_path: Path, what: str) -> None:
    old, new, expected = FOUND[what]
    assert old in GOOD
    said = lint(tmp_path, GOOD.replace(old, new, 1))
    assert any(line.startswith(f"accelerator.yaml:{expected}") for line in said), said


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


def test_files_of_a_fragment_that_leak_are_found(tmp_path: Path) -> None:
    said = lint(tmp_path, CALLER, {"part": FRAGMENT})
    assert [line for line in said if "README" in line] == [
        "accelerator.yaml:6: README.md of the fragment part leaks into the project; no pattern selects it"
    ]


@pytest.mark.parametrize(
    "engine",
    ["{include: [payload.txt]}", "{exclude: [README.md], include: [payload.txt]}", "{merge: [{include: [pay*]}]}"],
)
def test_files_that_are_selected_do_not_leak(tmp_path: Path, engine: str) -> None:
    fragment = {**FRAGMENT, "accelerator.yaml": f"accelerator: {{}}\nengine: {engine}\n"}
    assert lint(tmp_path, CALLER, {"part": fragment}) == []


def test_a_fragment_that_is_never_invoked_is_found(tmp_path: Path) -> None:
    manifest = CALLER.replace("    - {type: InvokeFragment, reference: part}\n", "")
    assert lint(tmp_path, manifest, {"part": FRAGMENT}) == [
        "accelerator.yaml:2: the fragment part is imported, but never invoked"
    ]


def test_a_symbol_of_the_caller_is_known_in_a_fragment(tmp_path: Path) -> None:
    manifest = CALLER.replace("reference: part", "reference: part, let: [{name: x, expression: \"'1'\"}]")
    engine = "{include: [payload.txt], chain: [{type: ReplaceText, substitutions: [{text: x, with: '#x'}]}]}"
    fragment = {**FRAGMENT, "accelerator.yaml": f"accelerator: {{}}\nengine: {engine}\n"}
    assert lint(tmp_path, manifest, {"part": fragment}) == []


def test_what_does_not_run_is_said(tmp_path: Path) -> None:
    manifest = GOOD.replace("'#half + #number'", "'#half.nothing()'")
    assert any("patterns were not checked, because no run succeeds: " in line for line in lint(tmp_path, manifest))


def test_the_command_exits_with_1_when_there_is_something(sandbox: Sandbox, tmp_path: Path) -> None:
    lint(tmp_path, GOOD.replace("displayName", "name"))
    done = sandbox.engine("lint", tmp_path / "car")
    assert (done.returncode, done.stdout, done.stderr) == (
        1, "accelerator.yaml:2: accelerator has no key 'name', which is ignored\n", "",
    )  # fmt: skip
    done = sandbox.engine("lint", ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
