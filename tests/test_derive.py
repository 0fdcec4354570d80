"""cookiecutter.json, template.yaml and docs/reference/options.md are derived from accelerator.yaml."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import FOLDER, ROOT, Sandbox, change
from tools import doors

from accelerator_engine.derive import derived, plan, stale
from accelerator_engine.manifest import InvalidManifest
from accelerator_engine.options import Option

OPTION = "    - name: trainingDatabase\n"
NEW_OPTION = (
    "    - {name: hasExtra, label: Extra, description: More, x-group: Databases, dataType: boolean,"
    " defaultValue: false}\n"
)
SUBSTITUTION = "            - text: '{{ cookiecutter.owner }}'\n"
NEW_SUBSTITUTION = "            - {text: '{{ cookiecutter.hasExtra }}', with: '#hasExtra'}\n"
NAMES = ["cookiecutter.json", "template.yaml", "docs/reference/options.md"]


@pytest.fixture
def template(tmp_path: Path) -> Path:
    return doors.clone(ROOT, tmp_path / "template")


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """The text of each derived file of this template by its path."""
    return {str(path.relative_to(ROOT)): text for path, text in derived(ROOT).items()}


def test_the_derived_files_are_not_stale(texts: dict[str, str]) -> None:
    assert list(stale({ROOT / path: text for path, text in texts.items()})) == []
    assert texts.keys() > set(NAMES)


def test_edited_files_are_reported_and_rewritten(sandbox: Sandbox, template: Path) -> None:
    """The two edited files alone, though the template has more derived ones."""
    edited = [template / "cookiecutter.json", template / "docs" / "reference" / "options.md"]
    good = [path.read_text(encoding="utf-8") for path in edited]
    for path, text in zip(edited, good, strict=True):
        path.write_text(text + " ", encoding="utf-8")
    completed = sandbox.engine("derive", "--check", template)
    reported = "".join(f"{path} is out of date; run make derive\n" for path in edited)
    assert (completed.returncode, completed.stdout, completed.stderr) == (1, reported, "")
    assert sandbox.engine_here("derive", template) == (0, "".join(f"{path} written\n" for path in edited), "")
    assert [path.read_text(encoding="utf-8") for path in edited] == good
    assert sandbox.engine_here("derive", "--check", template) == (0, "", "")


@pytest.mark.parametrize("name", NAMES)
def test_only_the_edited_file_is_stale(template: Path, texts: dict[str, str], name: str) -> None:
    files = {template / path: text for path, text in texts.items()}
    (template / name).write_text(texts[name] + " ", encoding="utf-8")
    assert list(stale(files)) == [template / name]
    (template / name).unlink()
    assert list(stale(files)) == [template / name]


def test_the_version_is_that_of_pyproject(template: Path) -> None:
    """Projects record it, and Backstage shows it."""
    change(template / "pyproject.toml", f'version = "{plan(template).version}"', 'version = "9.8.7"')
    texts = derived(template)
    assert "\ntemplateVersion: 9.8.7\n" in texts[template / FOLDER / ".provenance.yaml"]
    annotations = yaml.safe_load(texts[template / "template.yaml"])["metadata"]["annotations"]
    assert annotations["app.kubernetes.io/version"] == "9.8.7"


def test_a_new_question_is_recorded(template: Path) -> None:
    change(template / "accelerator.yaml", OPTION, f"{NEW_OPTION}{OPTION}")
    change(template / "accelerator.yaml", SUBSTITUTION, f"{NEW_SUBSTITUTION}{SUBSTITUTION}")
    record = derived(template)[template / FOLDER / ".provenance.yaml"]
    assert (
        "\n  hasExtra: {{ cookiecutter.hasExtra }}\n  trainingDatabase: '{{ cookiecutter.trainingDatabase }}'\n"
        in record
    )


CHANGES: dict[str, Callable[[Path], None]] = {
    "a default": lambda root: change(root / "accelerator.yaml", "defaultValue: ml-team", "defaultValue: data-team"),
    "a label": lambda root: change(root / "accelerator.yaml", "label: Owner", "label: Team"),
    "a pattern": lambda root: change(root / "accelerator.yaml", "{1,38}", "{1,30}"),
    "a choice": lambda root: change(root / "accelerator.yaml", "text: Staging", "text: Rehearsal"),
    "a file with braces": lambda root: change(root / FOLDER / "Makefile", "\n", "\n# {{ x }}\n"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_changed_source_makes_files_stale(template: Path, case: str) -> None:
    CHANGES[case](template)
    assert list(stale(derived(template))) != []


def test_an_equivalent_rule_derives_the_same_files(template: Path) -> None:
    change(template / "accelerator.yaml", "\"#dataset != 'digits'\"", "\"!#dataset.startsWith('digit')\"")
    assert list(stale(derived(template))) == []


def test_cookiecutter_asks_the_questions_of_accelerator_yaml(options: dict[str, Option]) -> None:
    context = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))
    questions = {name: value for name, value in context.items() if not name.startswith("_")}
    assert list(questions) == list(options)
    table = ("sourceSchema", "sourceTable", "labelColumn", "featureColumns")
    when = {**dict.fromkeys(table, " (table only)"), "storeInputs": " (monitoring only)"}
    for option in options.values():
        assert questions[option.name] == (list(option.values) or option.default)
        prompt = context["__prompts__"][option.name]
        texts = {choice.value: choice.text for choice in option.choices}
        label = option.label + when.get(option.name, "")
        assert prompt == ({"__prompt__": label, **texts} if texts else label)


def test_cookiecutter_offers_the_default_first(template: Path) -> None:
    change(template / "accelerator.yaml", "defaultValue: staging", "defaultValue: production")
    context = json.loads(derived(template)[template / "cookiecutter.json"])
    assert context["promotionStage"] == ["production", "staging"]


def parts(page: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a page and its parts that depend on an answer."""
    return [page, *(rule["then"] for rule in page.get("allOf", []))]


def test_backstage_has_a_page_for_each_group(options: dict[str, Option]) -> None:
    pages = yaml.safe_load((ROOT / "template.yaml").read_text(encoding="utf-8"))["spec"]["parameters"]
    titles = ["Project", "Model", "Databases", "Delivery", "App", "Tools", "Repository"]
    assert [page["title"] for page in pages] == titles
    shown = {name: fields for page in pages for part in parts(page) for name, fields in part["properties"].items()}
    # Questions that depend on an answer come last on their page.
    order = sorted(options.values(), key=lambda option: (titles.index(option.group), option.condition is not None))
    assert list(shown) == [*(option.name for option in order), "repoUrl"]
    for option in options.values():
        assert shown[option.name]["type"] == option.data_type
        assert shown[option.name]["default"] == option.default
        assert shown[option.name].get("enum", []) == list(option.values)


def test_a_question_with_a_condition_is_in_an_if(template: Path) -> None:
    """Its page asks for it under the condition, and otherwise the step uses the default."""
    manifest = template / "accelerator.yaml"
    change(manifest, "      x-group: Model\n      label: Epochs", "      dependsOn: {name: dataset, value: cifar10}\n"
           "      x-group: Model\n      label: Epochs")  # fmt: skip
    change(manifest, "  let:\n", "  let:\n    - name: epochs\n"
           "      expression: \"#dataset == 'cifar10' ? #epochs : '10'\"\n")  # fmt: skip
    entity = yaml.safe_load(derived(template)[template / "template.yaml"])
    page = entity["spec"]["parameters"][1]
    assert "epochs" not in page["properties"]
    (rule,) = [rule for rule in page["allOf"] if rule["if"]["properties"]["dataset"] == {"const": "cifar10"}]
    assert rule["if"]["required"] == ["dataset"]
    assert list(rule["then"]["properties"]) == rule["then"]["required"] == ["epochs"]
    values = entity["spec"]["steps"][0]["input"]["values"]
    assert values["epochs"] == "${{ parameters.epochs if parameters.dataset === 'cifar10' else '10' }}"


STEP = "    - type: RewritePath\n      regex: '[^/]"
OWNER = "            - text: '{{ cookiecutter.owner }}'\n              with: '#owner'\n"
DIGITS = """    - {condition: "#dataset != 'digits'", exclude: ['**/variants/digits/**']}\n"""
CIFAR10_ON_DIGITS = DIGITS.replace("#dataset != 'digits'", "#dataset != 'cifar10'")
# Old text, new text, and the message.
UNSUITABLE: dict[str, tuple[str, str, str]] = {
    "a merge": ("engine:\n", "engine:\n  merge: [{include: ['**']}]\n", "has to be an include and a chain"),
    "another transform": (STEP, f"    - {{type: Provenance}}\n{STEP}", "allowed are RewritePath, "),
    "free text decides": ("#dataset != 'digits'", "#owner != 'x'", "names owner, which has no list of choices"),
    "no option decides": ("#dataset != 'digits'", "#data != 'x'", "the condition names data, which is no option"),
    "always": ("#dataset != 'digits'", "#dataset != 'none'", "is no table of answers"),
    "no folder": ("**/variants/digits/**", "**/variants/digit/**", "'**/variants/digit/**' matches no file"),
    "an exclude of a file": ("**/variants/digits/**", "**/dataset.py", "'**/dataset.py' is not **/variants/<name>/**"),
    "a folder without an answer": (DIGITS, "", "no answer excludes the folder variants/digits"),
    "two files with one path": (DIGITS, CIFAR10_ON_DIGITS, "some answers keep both variants/cifar10/dataset.py and "),
    "another path": (
        "rewriteTo: '#path'",
        "rewriteTo: \"'x/' + #path\"",
        "becomes x/.devcontainer/Dockerfile, not .devcontainer/Dockerfile",
    ),
    "no file to fill in": ("- MLproject", "- MLprojekt", "the applyTo pattern 'MLprojekt' matches no file"),
    "another value": ("with: '#owner'", "with: '#projectName'", "is no placeholder and its option"),
    "a placeholder left out": (OWNER, "", "no substitution of the engine section fills in {{ cookiecutter.owner }}"),
    "a let for nothing": ("  let:\n", "  let:\n    - {name: x, expression: '1'}\n", "has a dependsOn: x"),
}


@pytest.mark.parametrize("case", UNSUITABLE)
def test_an_unsuitable_engine_section_is_refused_with_its_line(sandbox: Sandbox, template: Path, case: str) -> None:
    old, new, expected = UNSUITABLE[case]
    before = {name: (template / name).read_bytes() for name in NAMES}
    change(template / "accelerator.yaml", old, new)
    code, printed, output = sandbox.engine_here("derive", template)
    assert (code, printed) == (1, "")
    assert output.startswith("Error: accelerator.yaml:")
    assert expected in output
    assert output.count("\n") == 1
    assert {name: (template / name).read_bytes() for name in NAMES} == before


# Keys of an added option, and the message.
UNASKABLE = {
    "dataType: number, defaultValue: 3": "needs a dataType of string or boolean, numbers as text",
    "dataType: '[string]', defaultValue: a": "has the dataType '[string]'; known are",
    "dataType: [string], defaultValue: [a]": "needs a dataType of string or boolean, numbers as text",
    "validationRegex: a": "needs a defaultValue",
    "defaultValue: a": "needs a validationRegex",
    "defaultValue: a, validationRegex: a, x-group: Project": "the options of the x-group Project have to stand one",
    "defaultValue: a, validationRegex: a, x-group: ''": "needs an x-group",
    "defaultValue: b, validationRegex: a": "refuses a value of its own: extra cannot be 'b'",
    "defaultValue: a, validationRegex: a, choices: [{value: a}, {value: b}]": "refuses a value of its own: extra cann",
    "defaultValue: a, validationRegex: a, label: ''": "needs a label",
    "defaultValue: a, validationRegex: a, description: ''": "needs a description",
}


@pytest.mark.parametrize("keys", UNASKABLE)
def test_a_question_that_a_door_cannot_ask_is_refused(tmp_path: Path, keys: str) -> None:
    """The options are checked before any file of the body is needed."""
    option = f"    - {{name: extra, label: Extra, description: More, x-group: Model, {keys}}}\n"
    shutil.copy(ROOT / "accelerator.yaml", tmp_path)
    change(tmp_path / "accelerator.yaml", OPTION, option + OPTION)
    with pytest.raises(InvalidManifest) as raised:
        plan(tmp_path)
    assert UNASKABLE[keys] in str(raised.value)
    assert str(raised.value).startswith("accelerator.yaml:")


# A file to add, and the message.
UNSUITABLE_NAMES = {
    "variants/README.md": "/variants/README.md: a folder variants holds overlay folders only",
    "app/variants/table/notes.md": "/app/variants/table/notes.md: a folder variants holds overlay folders only",
    "variants/ui/app/variants/own/notes.md": "/notes.md: a folder variants holds overlay folders only",
    "{{ cookiecutter.owner }}.md": "}}.md: a path with braces is not the same in every front door",
    "variants/ui/{% raw %}/notes.md": "/notes.md: a path with braces is not the same in every front door",
    "variants/ui/Makefile/notes.md": "some answers keep both Makefile and variants/ui/Makefile/notes.md",
    "variants/ui/variants/api-only/notes.md": "no answers keep variants/ui/variants/api-only/notes.md",
}


@pytest.mark.parametrize("name", UNSUITABLE_NAMES)
def test_a_name_that_is_not_the_same_in_every_front_door_is_refused(
    sandbox: Sandbox, template: Path, name: str
) -> None:
    (template / FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
    (template / FOLDER / name).write_text("notes\n")
    code, *streams = sandbox.engine_here("derive", template)
    output = "".join(streams)
    assert code == 1
    assert UNSUITABLE_NAMES[name] in output
    assert output.count("\n") == 1


def test_a_placeholder_in_a_file_outside_apply_to_is_refused(template: Path) -> None:
    """The project would get the placeholder itself: only files named in applyTo are filled in."""
    (template / FOLDER / "notes.md").write_text("one\n# {{ cookiecutter.owner }}\n")
    with pytest.raises(InvalidManifest, match=r"notes.md:2: .* is not filled in, because no applyTo names the file$"):
        plan(template)


def test_backstage_publishes_to_the_hosts_of_accelerator_yaml(template: Path) -> None:
    change(template / "accelerator.yaml", "gitlab.com: publish:gitlab", "git.example.com: publish:github")
    spec = yaml.safe_load(derived(template)[template / "template.yaml"])["spec"]
    assert spec["parameters"][-1]["properties"]["repoUrl"]["ui:options"]["allowedHosts"] == [
        "github.com",
        "git.example.com",
    ]
    steps = [step for step in spec["steps"] if step["action"].startswith("publish:")]
    assert [step["action"] for step in steps] == ["publish:github", "publish:github"]
    assert "host === 'git.example.com'" in steps[1]["if"]


def test_an_unknown_placeholder_is_refused(template: Path) -> None:
    """Backstage would replace it by nothing."""
    change(template / FOLDER / "MLproject", "cookiecutter.epochs", "cookiecutter.epoch")
    with pytest.raises(InvalidManifest, match=r"MLproject:\d+: .*cookiecutter\.epoch .* is no placeholder"):
        plan(template)


def test_a_file_with_braces_is_copied_as_it_is(template: Path) -> None:
    (template / FOLDER / "argo.yaml").write_text("x: '{{inputs.parameters.x}}'\n")
    tables = plan(template)
    assert "argo.yaml" in tables.verbatim
    assert "argo.yaml" in json.loads(derived(template)[template / "cookiecutter.json"])["_copy_without_render"]
