"""The same answers give the same project, byte for byte and mode for mode, through every front door.

The cases come from accelerator.yaml, so a new option is covered without a change here. One test adds kinds
of options and rules that the template does not have to a copy of it.
"""

import ast
import itertools
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import BODY, FOLDER, ROOT, in_project
from tools import doors
from tools.backstage.scaffolder import Scaffolder
from tools.doors import Answers, Result

from accelerator_engine.derive import Plan, derived, plan, variants_of
from accelerator_engine.options import completed, defaults, read_options

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Generated:
    """The projects that the doors generated from the same cases."""

    template: Path
    cases: list[dict[str, Any]]
    results: dict[str, list[Result]]

    def folders(self) -> Iterator[tuple[Answers, Path]]:
        """Yield the answers and one project per case; the projects of all doors are equal."""
        options = read_options(self.template / "accelerator.yaml")
        for case, result in zip(self.cases, self.results["accelerator"], strict=True):
            assert result.folder is not None, result.refusal
            yield completed(options, case), result.folder


def generate(scaffolder: Scaffolder, template: Path, cases: list[dict[str, Any]], place: Path) -> Generated:
    """Generate every case with every door."""
    results = {
        "accelerator": [doors.accelerator(template, case, place / f"a{n}") for n, case in enumerate(cases)],
        "cookiecutter": doors.cookiecutter_all(template, cases, place / "c"),
        "backstage": doors.backstage(scaffolder, template, cases, place / "b"),
    }
    return Generated(template, cases, results)


def differences(generated: Generated) -> list[str]:
    """Return the files that differ from the first door's project, with the door and the answers."""
    problems = []
    for number, case in enumerate(generated.cases):
        trees = {}
        for door, results in generated.results.items():
            folder = results[number].folder
            assert folder is not None, (door, case, results[number].refusal)
            trees[door] = doors.tree(folder)
        first = trees["accelerator"]
        for door, tree in trees.items():
            names = [name for name in sorted(first.keys() | tree.keys()) if first.get(name) != tree.get(name)]
            problems += [f"{door} differs in {name} for {case}" for name in names]
    return problems


@pytest.fixture(scope="module")
def generated(scaffolder: Scaffolder, tmp_path_factory: pytest.TempPathFactory) -> Generated:
    """Generate about thirty sets of answers through three doors, which takes a minute."""
    place = tmp_path_factory.mktemp("parity")
    cases = doors.cases(read_options(ROOT / "accelerator.yaml"))
    return generate(scaffolder, doors.clone(ROOT, place / "template"), cases, place)


def test_every_pair_of_values_is_among_the_cases(generated: Generated) -> None:
    options = read_options(ROOT / "accelerator.yaml")
    assert len(generated.cases) >= len(options) + 1
    assert list(doors.pairs_covered(options, generated.cases)) == []


def test_three_doors_generate_the_same(generated: Generated) -> None:
    assert differences(generated) == []


def unanswered(pages: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the answers of Backstage's unchanged form: the defaults, those of conditional questions too."""
    form: dict[str, Any] = {}
    for page in pages:
        form |= {name: field["default"] for name, field in page["properties"].items() if "default" in field}
        for rule in page.get("allOf", []):
            is_asked = all(form[name] == wanted["const"] for name, wanted in rule["if"]["properties"].items())
            form |= {name: field["default"] for name, field in rule["then"]["properties"].items() if is_asked}
    return form


def test_the_doors_have_the_same_defaults(generated: Generated, scaffolder: Scaffolder, tmp_path: Path) -> None:
    """Each door reads its own defaults: Backstage's form has them from template.yaml."""
    entity = yaml.safe_load((generated.template / "template.yaml").read_text(encoding="utf-8"))
    form = unanswered(entity["spec"]["parameters"])
    results = {
        "accelerator": [doors.accelerator(generated.template, {}, tmp_path / "a")],
        "cookiecutter": [doors.cookiecutter(generated.template, {}, tmp_path / "c")],
        "backstage": doors.backstage(scaffolder, generated.template, [form], tmp_path / "b"),
    }
    assert differences(Generated(generated.template, [{}], results)) == []


def test_no_door_leaves_an_empty_folder(generated: Generated) -> None:
    """The folders of an excluded variant disappear with its files."""
    for result in itertools.chain.from_iterable(generated.results.values()):
        assert result.folder is not None
        assert not [path for path in result.folder.rglob("*") if path.is_dir() and not any(path.iterdir())]


def test_the_project_is_named_after_the_answer(generated: Generated) -> None:
    for door in ("accelerator", "cookiecutter"):
        names = [result.folder.name for result in generated.results[door] if result.folder]
        assert names == [case["projectName"] for case in generated.cases]


def test_each_project_can_be_generated_again(generated: Generated, tmp_path: Path) -> None:
    """The answers in .provenance.yaml give the same bytes, whichever door generated the project."""
    options = read_options(generated.template / "accelerator.yaml")
    for number in range(0, len(generated.cases), 7):
        for door, results in generated.results.items():
            folder = results[number].folder
            assert folder is not None
            provenance = yaml.safe_load((folder / ".provenance.yaml").read_text(encoding="utf-8"))
            assert provenance["frontDoor"] == door
            assert provenance["answers"] == completed(options, generated.cases[number])
            repeated = doors.accelerator(generated.template, provenance["answers"], tmp_path / f"{door}{number}")
            assert repeated.folder is not None
            assert doors.tree(repeated.folder) == doors.tree(folder)


PARSERS = {
    ".json": json.loads,
    ".toml": tomllib.loads,
    ".yaml": lambda text: list(yaml.safe_load_all(text)),
    ".yml": lambda text: list(yaml.safe_load_all(text)),
    ".py": ast.parse,
}


def test_each_file_parses_and_contains_no_placeholder(generated: Generated) -> None:
    verbatim = {in_project(name) for name in plan(generated.template).verbatim}
    checked = set()
    for _, folder in generated.folders():
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in doors.OWN):
            text = path.read_text(encoding="utf-8")
            if (path.relative_to(folder), text) in checked:
                continue
            checked.add((path.relative_to(folder), text))
            if path.suffix in PARSERS or path.name == "MLproject":
                PARSERS.get(path.suffix, yaml.safe_load)(text)
            if str(path.relative_to(folder)) not in verbatim:
                assert not re.search(r"\{[{%#]|\bcookiecutter\.", text), path


def test_sql_is_the_same_in_every_project(generated: Generated) -> None:
    """So `make lint` covers the SQL of every project. Each kind of data has files of its own."""
    kinds = {
        kind: {
            str(path.relative_to(BODY / "variants" / kind)): path.read_bytes()
            for path in (BODY / "variants" / kind).rglob("*.sql")
        }
        for kind in ("images", "table")
    }
    assert all(kinds.values())
    own = {str(path.relative_to(BODY)): path.read_bytes() for path in (BODY / "database").rglob("*.sql")}
    for case, folder in generated.folders():
        expected = own | kinds["table" if case["dataset"] == "table" else "images"]
        assert {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.sql")} == expected


def test_ruff_passes(generated: Generated) -> None:
    ruff = Path(sys.executable).parent / "ruff"
    folders = [folder for _, folder in generated.folders()]
    for command in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        result = subprocess.run([ruff, *command, *folders], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr


def holds(when: dict[str, list[Any]], case: Answers) -> bool:
    """Return whether the answers keep a variant."""
    return all(case[option] in values for option, values in when.items())


def test_projects_have_exactly_the_files_of_their_variants(generated: Generated) -> None:
    tables = plan(generated.template)
    for case, folder in generated.folders():
        wanted = {
            path
            for name, path in tables.overlays.items()
            if all(holds(tables.variants[variant], case) for variant in variants_of(name))
        }
        unwanted = set(tables.overlays.values()) - wanted
        assert all((folder / path).exists() for path in wanted)
        assert not any((folder / path).exists() for path in unwanted)
        assert not (folder / "variants").exists()


def dead_branches(tables: Plan) -> list[str]:
    """Return choices of a deciding question that keep no variant, and variants that no answers keep.

    The choices false and `none` are meant to keep no variant.
    """
    deciding: dict[str, set[Any]] = {}
    for when in tables.variants.values():
        for option, values in when.items():
            deciding.setdefault(option, set()).update(values)
    choices = {option.name: set(option.values) or {True} for option in tables.options}
    dead = [
        f"{name}={value}"
        for name, values in deciding.items()
        for value in choices[name] ^ values
        if value not in (False, "none")
    ]
    return dead + [name for name, when in tables.variants.items() if not all(when.values())]


def test_no_branch_is_dead() -> None:
    assert dead_branches(plan(ROOT)) == []


# Kinds of options and rules that the template does not have

MORE_OPTIONS = """\
    - name: includeExtra
      x-group: More
      label: Extra
      description: Whether the extra folder is there
      dataType: boolean
      defaultValue: false

    - name: flavour
      x-group: More
      label: Flavour
      description: The flavour, one of three
      dataType: string
      inputType: select
      choices:
        - {text: Vanilla, value: vanilla}
        - {text: Lemon, value: lemon}
        - {text: Plain, value: plain}
      defaultValue: lemon
      required: true
      validationRegex: '^(vanilla|lemon|plain)(?![\\s\\S])'

    - name: tableName
      x-group: More
      label: Table
      description: A table of 1 to 20 lower-case letters
      dataType: string
      defaultValue: rows
      required: true
      dependsOn: {name: flavour, value: plain}
      validationRegex: '^[a-z]{1,20}(?![\\s\\S])'

    - name: cold
      x-group: More
      label: Cold
      description: Whether it is cold
      dataType: boolean
      defaultValue: true
      dependsOn: {name: includeExtra}

"""
MORE_SYMBOLS = """\
  let:
    - name: tableName
      expression: "#flavour == 'plain' ? #tableName : 'rows'"
    - {name: cold, expression: '!#includeExtra || #cold'}
"""
MORE_RULES = """\
    - {condition: '!#includeExtra', exclude: ['**/variants/extra/**']}
    - {condition: "#flavour == 'plain' || #includeExtra == false", exclude: ['**/variants/sweet/**']}
    - {condition: '!#cold', exclude: ['**/variants/cold/**']}
"""


MORE_NAMES = ["includeExtra", "flavour", "tableName", "cold"]


def extend_manifest(template: Path) -> None:
    """Add the options, symbols and rules to accelerator.yaml."""
    manifest = (template / "accelerator.yaml").read_text(encoding="utf-8")
    placeholders = "".join(
        f"            - {{text: '{{{{ cookiecutter.{name} }}}}', with: '#{name}'}}\n" for name in MORE_NAMES
    )
    manifest = manifest.replace("# `make derive` turns", MORE_OPTIONS + "# `make derive` turns")
    manifest = manifest.replace("  let:\n", MORE_SYMBOLS)
    manifest = manifest.replace("    # The body's folder becomes", MORE_RULES + "    # The body's folder becomes")
    listed = "".join(f"        - {name}\n" for name in ("extra/deeper/answers.yaml", "answers.yaml"))
    manifest = manifest.replace("- applyTo:\n", f"- applyTo:\n{listed}")
    manifest = manifest.rstrip("\n") + "\n" + placeholders
    (template / "accelerator.yaml").write_text(manifest, encoding="utf-8")


def extend_body(body: Path) -> None:
    """Add files of three variants, one of them within another, and files with the new answers."""
    extra = body / "variants" / "extra" / "extra"
    cold = body / "variants" / "cold" / "deep" / "down"
    # A variant within a variant needs both answers.
    sweet = body / "variants" / "extra" / "variants" / "sweet" / "extra"
    for folder in (extra / "deeper", cold, sweet):
        folder.mkdir(parents=True)
    answers = "".join(f"  {name}: '{{{{ cookiecutter.{name} }}}}'\n" for name in MORE_NAMES)
    for path in (body / "answers.yaml", extra / "deeper" / "answers.yaml"):
        path.write_text(f"answers:\n{answers}", encoding="utf-8")
    for path in (sweet / "sweet.txt", extra / ".hidden", cold / "ice.txt"):
        path.write_text(path.name)
    (extra / "argo.yaml").write_text("name: '{{inputs.parameters.x}}' # {% raw %} {#\n\n\n")
    (extra / "run").write_text("#!/bin/sh\necho ${#a[@]}")
    (extra / "run").chmod(0o755)


def test_more_kinds_of_options_and_rules(scaffolder: Scaffolder, tmp_path: Path) -> None:
    """Toggles, conditional questions, three choices, whole folders, nested rules, braces, executables."""
    template = doors.clone(ROOT, tmp_path / "template")
    extend_manifest(template)
    extend_body(template / FOLDER)
    for path, text in derived(template).items():
        path.write_text(text, encoding="utf-8")

    assert scaffolder.validate(template / "template.yaml") == []
    options = read_options(template / "accelerator.yaml")
    # All pairs of the new options; the others have their defaults.
    added = doors.cases([option for option in options if option.name in MORE_NAMES])
    generated = generate(scaffolder, template, [{**defaults(options), **case} for case in added], tmp_path)
    assert differences(generated) == []
    shown = {
        tuple(yaml.safe_load((folder / "answers.yaml").read_text())["answers"].values())
        for _, folder in generated.folders()
    }
    assert {row[0] for row in shown} == {"true", "false"}
    assert {row[2] for row in shown if row[1] != "plain"} == {"rows"}
    assert len({row[2] for row in shown if row[1] == "plain"}) > 1
    assert {row[3] for row in shown if row[0] == "false"} == {"true"}
    test_no_door_leaves_an_empty_folder(generated)
    folders = [folder for case, folder in generated.folders() if case["includeExtra"]]
    assert folders
    assert all((folder / "extra" / "argo.yaml").read_text().startswith("name: '{{inputs") for folder in folders)
    assert all((folder / "extra" / "run").stat().st_mode & 0o777 == 0o755 for folder in folders)
    assert any((folder / "deep" / "down" / "ice.txt").exists() for folder in folders)
