"""Implied, default, missing and custom options of any accelerator."""

import json
from typing import Any

import pytest
import yaml

from accelerator_engine.engine import generate
from accelerator_engine.options import InvalidAnswer

from .running import engine, loaded, paths, project, refused, run, trace


def options(*entries: str, types: str = "[]") -> str:
    """Return a manifest that writes its options to accelerator-info.yaml."""
    listed = ", ".join(f"{{{entry}}}" for entry in entries)
    return f"{{accelerator: {{options: [{listed}], types: {types}}}, engine: {{type: Provenance}}}}"


def values(manifest: str, answers: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the values of all options in a run."""
    page = run(manifest, [], answers)["accelerator-info.yaml"]
    result: dict[str, Any] = yaml.safe_load(page)["options"]
    return result


IMPLIED = {"projectName": "sample", "artifactId": "sample", "artifactVersion": "0.0.1-beta"}


# Implied options


def test_a_project_is_named_after_its_accelerator() -> None:
    assert values(options()) == IMPLIED
    assert project(options()).name == "sample"


def test_the_answer_for_the_project_name_is_the_name_of_the_folder() -> None:
    assert project(options(), [], {"projectName": "my project"}).name == "my project"


@pytest.mark.parametrize(("name", "artifact"), [("demo", "demo"), ("my old demo", "my_old_demo"), ("a-b", "a-b")])
def test_the_artifact_is_named_after_the_project(name: str, artifact: str) -> None:
    assert values(options(), {"projectName": name})["artifactId"] == artifact


def test_the_implied_artifact_wins_over_a_declared_default() -> None:
    manifest = options("name: artifactId, defaultValue: other")
    assert values(manifest, {"projectName": "demo"})["artifactId"] == "demo"
    assert values(manifest)["artifactId"] == "sample"


def test_an_answer_for_the_artifact_wins() -> None:
    manifest = options("name: artifactId, defaultValue: other")
    answers = {"projectName": "demo", "artifactId": "mine", "artifactVersion": "2"}
    assert values(manifest, answers) == answers


def test_a_declared_default_names_a_project_without_an_answer() -> None:
    result = values(options("name: projectName, defaultValue: other"))
    assert (result["projectName"], result["artifactId"]) == ("other", "other")


def test_defaults_complete_the_answers() -> None:
    manifest = options("name: a, defaultValue: x", "name: b, defaultValue: y", "name: c")
    assert values(manifest, {"b": "given"}) == {**IMPLIED, "a": "x", "b": "given"}


def test_undeclared_answers_are_variables() -> None:
    answers = {"workloadURL": "u", "bsGitBranch": "", "nested": {"k": ["v"]}, "on": True}
    transform = "type: ReplaceText\nsubstitutions: [{text: X, with: \"#workloadURL + #bsGitBranch + #nested['k'][0]\"}]"
    assert run(engine(transform), {"x": "X"}, answers) == {"x": "uv"}


def test_a_missing_variable_is_null() -> None:
    assert paths(engine("condition: '#bsGitRepository != null'\ninclude: [a]"), ["a", "b"]) == ["a", "b"]
    assert paths(engine("condition: '#bsGitRepository == null'\ninclude: [a]"), ["a", "b"]) == ["a"]


def test_text_that_looks_like_a_number_stays_text() -> None:
    transform = "type: ReplaceText\nsubstitutions: [{text: X, with: '#javaVersion + 1'}]"
    manifest = f'accelerator: {{options: [{{name: javaVersion, defaultValue: "17"}}]}}\n{engine(transform)}'
    assert run(manifest, {"x": "X"}) == {"x": "171"}


def test_answers_are_not_changed_by_a_run() -> None:
    answers = {"a": "x", "list": [1]}
    project(options("name: b, defaultValue: y"), [], answers)
    assert answers == {"a": "x", "list": [1]}


@pytest.mark.parametrize("name", ["a/b", "..", ".", "", "a\\b", "a\0b", "a\nb", "\ud800", "x" * 300, 5, None, ["a"]])
def test_a_project_name_that_cannot_be_a_folder_is_refused(name: object) -> None:
    assert "projectName" in refused(options(), [], {"projectName": name})


@pytest.mark.parametrize("name", ["A b", "ünï", "demo_1", "my.project", "x" * 255])
def test_most_names_are_folders(name: str) -> None:
    assert project(options(), [], {"projectName": name}).name == name


# Missing options


def test_missing_options_have_the_message_of_the_real_engine() -> None:
    manifest = options(
        "name: a, required: true", "name: b", "name: c, required: true, defaultValue: x", "name: d, required: true"
    )
    assert refused(manifest) == "Invalid options provided. Expected but not present: [a, d]"


def test_an_option_that_is_not_required_may_be_missing_and_is_null() -> None:
    manifest = "{accelerator: {options: [{name: a}]}, engine: {condition: '#a == null', include: [x]}}"
    assert paths(manifest, ["x", "y"]) == ["x"]


@pytest.mark.parametrize("needs", ["name: on", "name: on, value: true"])
def test_a_hidden_required_option_is_exempt(needs: str) -> None:
    manifest = options("name: on, dataType: boolean", f"name: a, required: true, dependsOn: {{{needs}}}")
    assert "a" not in values(manifest, {"on": False})
    assert "a" not in values(manifest)
    assert refused(manifest, [], {"on": True}) == "Invalid options provided. Expected but not present: [a]"


@pytest.mark.parametrize(
    ("value", "answer", "is_asked"),
    [
        ("maven", "maven", True),
        ("maven", "Maven", False),
        ("'true'", True, False),
        ("true", True, True),
        ("true", "true", False),
        ("true", 1, False),
        ("1", 1, True),
        ("1", 1.0, True),
        ("1", True, False),
        ("[a, b]", ["a", "b"], True),
        ("[a, b]", ["b", "a"], False),
        ("[a]", ["a", "b"], False),
        ("[1]", [True], False),
        ("[]", [], True),
        ("{k: v}", {"k": "v"}, True),
    ],
)
def test_an_option_is_asked_when_another_strictly_has_the_value(value: str, answer: object, is_asked: bool) -> None:
    manifest = options(f"name: a, required: true, dependsOn: {{name: other, value: {value}}}")
    if is_asked:
        assert "[a]" in refused(manifest, [], {"other": answer})
    else:
        assert "a" not in values(manifest, {"other": answer})


def test_defaults_decide_whether_an_option_is_asked() -> None:
    manifest = options("name: kind, defaultValue: x", "name: a, required: true, dependsOn: {name: kind, value: x}")
    assert "[a]" in refused(manifest)
    assert "a" not in values(manifest, {"kind": "y"})


def test_two_options_may_have_the_same_name() -> None:
    manifest = options(
        "name: db, defaultValue: one, dependsOn: {name: kind, value: a}",
        "name: db, defaultValue: one, dependsOn: {name: kind, value: b}",
    )
    assert values(manifest)["db"] == "one"


# Types


@pytest.mark.parametrize(
    ("declared", "good", "bad"),
    [
        ("string", ["", "a", "17", "a\nb"], [1, True, ["a"], {"a": 1}]),
        ("boolean", [True, False], ["true", 1, 0, "", []]),
        ("number", [1, 0, -5, 1.5], ["1", True, [1], ""]),
        ("[string]", [[], ["a", ""]], ["a", [1], ["a", True], {"a": "b"}, [["a"]]]),
        ("[number]", [[], [1, 2.5]], [1, ["1"], [True]]),
        ("[boolean]", [[True]], [True, ["true"]]),
    ],
)
def test_an_answer_has_its_type(declared: str, good: list[object], bad: list[object]) -> None:
    manifest = options(f"name: a, dataType: {declared}")
    for answer in good:
        assert values(manifest, {"a": answer})["a"] == answer
    for answer in bad:
        assert refused(manifest, [], {"a": answer}).startswith("a cannot be ")


def test_the_default_type_is_text() -> None:
    assert refused(options("name: a"), [], {"a": 5}).startswith("a cannot be 5 ")


def test_null_is_a_missing_answer() -> None:
    assert refused(options("name: a, required: true"), [], {"a": None}).endswith("[a]")
    manifest = "{accelerator: {options: [{name: a}]}, engine: {condition: '#a == null', include: [x]}}"
    assert paths(manifest, ["x", "y"], {"a": None}) == ["x"]


@pytest.mark.parametrize("kind", ["text", "textarea", "checkbox", "select", "radio"])
def test_the_five_input_types(kind: str) -> None:
    assert values(options(f"name: a, inputType: {kind}")) == IMPLIED


@pytest.mark.parametrize("kind", ["tag", "Text", "5", "[text]"])
def test_another_input_type_is_refused(kind: str) -> None:
    sentence = refused(f"accelerator:\n  options:\n    - name: a\n      inputType: {kind}\n")
    assert sentence.startswith("accelerator.yaml:4: ")


@pytest.mark.parametrize("kind", ["integer", "Task", "[a, b]", "[]", "{}", "5", "[[string]]", "[Task]"])
def test_an_unknown_data_type_is_refused(kind: str) -> None:
    assert refused(f"accelerator:\n  options:\n    - name: a\n      dataType: {kind}\n").startswith("accelerator.yaml:")


def test_choices_are_not_enforced() -> None:
    manifest = options("name: a, inputType: select, choices: [{text: eight, value: '8'}, {value: '17'}]")
    assert values(manifest, {"a": "11"})["a"] == "11"


def test_snake_case_names_work() -> None:
    assert values(options("name: backstage_source_namespace, defaultValue: x"))["backstage_source_namespace"] == "x"


def test_an_option_needs_a_name() -> None:
    for entry in ("defaultValue: x", "name: ''", "name: 5", "name: [a]", "name: null"):
        assert refused(options(entry)).startswith("accelerator.yaml:1: ")


# validationRegex


def test_a_pattern_may_match_anywhere() -> None:
    manifest = options("name: a, validationRegex: '[a-z ]+'")
    assert values(manifest, {"a": "Hello World"})["a"] == "Hello World"
    assert "[a-z ]+" in refused(manifest, [], {"a": "HELLO"})


def test_an_anchored_pattern_is_anchored() -> None:
    assert refused(options("name: a, validationRegex: '^[a-z]+$'"), [], {"a": "Hello"})


@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
def test_a_blank_answer_is_not_checked_against_a_pattern(blank: str) -> None:
    assert values(options("name: a, validationRegex: '^x$'"), {"a": blank})["a"] == blank


def test_a_missing_answer_is_not_checked_against_a_pattern() -> None:
    assert values(options("name: a, validationRegex: '^x$'")) == IMPLIED


@pytest.mark.parametrize(("kind", "pattern", "answer"), [("number", "^8[0-9]+$", 8080), ("boolean", "^true$", True)])
def test_a_pattern_checks_the_value_as_text(kind: str, pattern: str, answer: object) -> None:
    manifest = options(f"name: a, dataType: {kind}, validationRegex: '{pattern}'")
    assert values(manifest, {"a": answer})["a"] == answer


def test_a_pattern_has_the_syntax_of_java() -> None:
    manifest = options("name: a, validationRegex: '^(?<w>\\p{Lower}++)\\k<w>$'")
    assert values(manifest, {"a": "Hello"} | {"a": ""})["a"] == ""
    assert values(options("name: a, validationRegex: '^(?<w>ab)\\k<w>$'"), {"a": "abab"})["a"] == "abab"


def test_an_invalid_pattern_is_refused_with_its_line() -> None:
    manifest = "accelerator:\n  options:\n    - name: b\n    - name: a\n      validationRegex: '('\n"
    assert refused(manifest, [], {"a": "x"}).startswith("accelerator.yaml:4: ")


def test_a_refusal_is_one_line_also_for_a_long_description() -> None:
    entry = "name: a, description: \"First.\\nSecond.\", defaultValue: x, validationRegex: '^x$'"
    assert refused(options(entry), [], {"a": "y\nz"}).startswith("a cannot be 'y\\nz'")


# Custom types

TASK = "[{name: Task, struct: [{name: title, validationRegex: '^[A-Z]'}, {name: done, dataType: boolean}]}]"


def test_a_custom_type_is_a_mapping() -> None:
    task = {"title": "Write", "done": True, "more": 5}
    assert values(options("name: a, dataType: Task", types=TASK), {"a": task})["a"] == task


@pytest.mark.parametrize(
    "answer", ["x", 5, [], [{"title": "X"}], {"title": 5}, {"title": "write"}, {"done": "yes"}], ids=repr
)
def test_an_answer_of_another_type_than_the_custom_one_is_refused(answer: object) -> None:
    assert refused(options("name: a, dataType: Task", types=TASK), [], {"a": answer}).split()[1:3] == ["cannot", "be"]


def test_a_list_of_a_custom_type_is_a_list_of_mappings() -> None:
    manifest = options("name: a, dataType: [Task]", types=TASK)
    assert values(manifest, {"a": [{"title": "X"}, {}]})["a"] == [{"title": "X"}, {}]
    for answer in ({"title": "X"}, [5], [{"title": 5}]):
        assert refused(manifest, [], {"a": answer})


def test_a_custom_type_may_have_a_default() -> None:
    manifest = options("name: a, dataType: [Task], defaultValue: [{title: X, done: false}]", types=TASK)
    assert values(manifest)["a"] == [{"title": "X", "done": False}]


def test_a_field_of_a_custom_type_can_be_read() -> None:
    transform = "type: ReplaceText\nsubstitutions: [{text: X, with: \"#a[0]['title']\"}]"
    manifest = f"accelerator:\n  options: [{{name: a, dataType: [Task]}}]\n  types: {TASK}\n{engine(transform)}"
    assert run(manifest, {"x": "X"}, {"a": [{"title": "Write"}]}) == {"x": "Write"}


@pytest.mark.parametrize("struct", ["struct: []", "struct: null", "other: 1"])
def test_a_custom_type_without_fields_is_any_mapping(struct: str) -> None:
    manifest = options("name: a, dataType: Empty", types=f"[{{name: Empty, {struct}}}]")
    assert values(manifest, {"a": {"k": "v"}})["a"] == {"k": "v"}
    assert refused(manifest, [], {"a": "text"})


@pytest.mark.parametrize("kind", ["Other", "Task", "[Task]", "nonsense"])
def test_a_field_of_a_custom_type_is_a_scalar(kind: str) -> None:
    types = f"[{{name: Other, struct: [{{name: x}}]}}, {{name: Task, struct: [{{name: t, dataType: {kind}}}]}}]"
    manifest = options("name: a, dataType: Task", types=types)
    assert refused(manifest, [], {"a": {"t": {"x": "1"}}}).startswith("accelerator.yaml:1: ")


# The trace


def test_the_trace_shows_the_answers_unchanged() -> None:
    manifest = options("name: a, defaultValue: x")
    page = trace(manifest, [], {"b": "y", "n": 1})
    assert json.loads(page.split("```json\n")[1].split("\n```")[0]) == {"b": "y", "n": 1}


def test_a_refused_answer_is_an_invalid_answer() -> None:
    accelerator = loaded(options("name: a, dataType: number"))
    with pytest.raises(InvalidAnswer):
        generate(accelerator, {"a": "x"})


@pytest.mark.parametrize(
    ("answers", "expected"),
    [({"t": {}}, {"size": "m", "n": 1}), ({"t": {"n": 5}}, {"size": "m", "n": 5}), ({}, {"size": "xl"})],
)
def test_missing_fields_have_their_defaults(answers: dict[str, Any], expected: dict[str, Any]) -> None:
    """A default of the whole option gets the defaults of its fields, like an answer."""
    types = "[{name: T, struct: [{name: size, defaultValue: m}, {name: n, dataType: number, defaultValue: 1}]}]"
    result = values(options("name: t, dataType: T, defaultValue: {size: xl}", types=types), answers)
    assert result["t"] == {"n": 1, **expected}


def test_a_field_is_named_with_its_option() -> None:
    message = refused(options("name: t, dataType: [Task]", types=TASK), [], {"t": [{"title": "x"}]})
    assert message.startswith("t.title cannot be 'x'")
