"""The variables and options of fragments, and the types that they share."""

from typing import Any

import pytest

from .running import INVOKE, Fragment, importing, loaded, paths, refused, run

# Variables

INSERTION = "type: ReplaceText, substitutions: [{text: X, with: \"'' + #o\"}]"


def value_in_fragment(manifest: str, answers: dict[str, Any] | None = None, **fragments: Fragment) -> str:
    return run(manifest, {"x": "X"}, answers, fragments)["x"]


def test_a_fragment_sees_all_variables_of_its_caller() -> None:
    fragment = Fragment(f"engine: {{{INSERTION}}}")
    assert value_in_fragment(importing(INVOKE), {"o": "given"}, f=fragment) == "given"
    call = f"{{let: [{{name: o, expression: \"'let'\"}}], chain: [{INVOKE}]}}"
    assert value_in_fragment(importing(call), {"o": "given"}, f=fragment) == "let"


def test_a_fragment_sees_the_loop_that_invokes_it() -> None:
    call = f"{{type: Loop, on: \"{{'p', 'q'}}\", var: o, doAsMerge: {INVOKE}}}"
    fragment = Fragment("engine: {type: RewritePath, rewriteTo: '#g0 + #o'}")
    assert paths(importing(call), ["x"], {}, {"f": fragment}) == ["xp", "xq"]


def test_only_the_fragment_sees_the_let_of_the_call() -> None:
    call = (
        "{type: InvokeFragment, reference: f, let: [{name: o, expression: \"#o + '1'\"}, {name: p, expression: '#o'}]}"
    )
    insertion = "{type: ReplaceText, substitutions: [{text: Y, with: '#o + (#p == null)'}]}"
    fragment = Fragment("engine: {type: ReplaceText, substitutions: [{text: X, with: '#o + #p'}]}")
    assert run(importing(f"{{chain: [{call}, {insertion}]}}"), {"x": "XY"}, {"o": "g"}, {"f": fragment}) == {
        "x": "g1g1gtrue"
    }


def test_the_caller_does_not_see_a_fragments_let() -> None:
    fragment = Fragment("engine: {let: [{name: o, expression: '1'}], chain: []}")
    insertion = "{type: ReplaceText, substitutions: [{text: X, with: \"'' + #o\"}]}"
    assert value_in_fragment(importing(f"{{chain: [{INVOKE}, {insertion}]}}"), f=fragment) == "null"


WITH_DEFAULT = Fragment(f"{{accelerator: {{options: [{{name: o, defaultValue: d}}]}}, engine: {{{INSERTION}}}}}")


def test_a_fragments_option_has_its_default() -> None:
    assert value_in_fragment(importing(INVOKE), f=WITH_DEFAULT) == "d"


def test_an_answer_to_a_fragments_option() -> None:
    assert value_in_fragment(importing(INVOKE), {"o": "given"}, f=WITH_DEFAULT) == "given"


def test_an_option_that_is_not_exposed_has_its_default_or_a_let() -> None:
    hidden = "[{name: f, expose: []}]"
    assert value_in_fragment(importing(INVOKE, hidden), f=WITH_DEFAULT) == "d"
    call = "{type: InvokeFragment, reference: f, let: [{name: o, expression: \"'let'\"}]}"
    assert value_in_fragment(importing(call, hidden), f=WITH_DEFAULT) == "let"


def test_the_accelerators_own_default_comes_first() -> None:
    manifest = importing(INVOKE, options="[{name: o, defaultValue: mine}]")
    assert value_in_fragment(manifest, f=WITH_DEFAULT) == "mine"


def test_a_missing_required_option_of_a_fragment_is_an_error() -> None:
    fragment = Fragment("{accelerator: {options: [{name: o, required: true}]}, engine: {chain: []}}")
    expected = "Invalid options provided. Expected but not present: [o]"
    assert refused(importing(INVOKE), ["x"], {}, {"f": fragment}) == expected
    assert expected in refused(importing(INVOKE, "[{name: f, expose: []}]"), ["x"], {}, {"f": fragment})


def test_a_fragment_refuses_a_let_that_is_not_of_its_type() -> None:
    call = "{type: InvokeFragment, reference: f, let: [{name: o, expression: '5'}]}"
    assert "o cannot be 5" in refused(importing(call), ["x"], {}, {"f": WITH_DEFAULT})


# Imports

THREE = Fragment(
    "{accelerator: {options: [{name: a, label: A, defaultValue: a}, {name: b, dataType: number, required: true}, "
    "{name: c, dependsOn: {name: a, value: x}}]}, engine: {type: Chain}}"
)


def names(expose: str, options: str = "[]") -> list[str]:
    manifest = importing(INVOKE, f"[{{name: f{expose}}}]", options)
    return [option.name for option in loaded(manifest, [], {"f": THREE}).options]


@pytest.mark.parametrize(
    ("expose", "expected"),
    [
        ("", ["a", "b", "c"]),
        (", expose: [{name: '*'}]", ["a", "b", "c"]),
        (", expose: []", []),
        (", expose: [{name: b}]", ["b"]),
        (", expose: [{name: c}, {name: a}]", ["a", "c"]),
        (", expose: [{name: b, as: B}]", ["B"]),
        (", expose: [{name: b, as: B}, {name: '*'}]", ["a", "B", "c"]),
        (", expose: [{name: '*'}, {name: b, as: B}]", ["a", "B", "c"]),
    ],
)
def test_an_import_exposes_options(expose: str, expected: list[str]) -> None:
    assert sorted(names(expose)) == sorted(expected)


def test_a_fragments_options_come_after_the_accelerators_in_import_order() -> None:
    fragments = {name: Fragment(f"accelerator: {{options: [{{name: {name}1}}, {{name: {name}2}}]}}") for name in "fgh"}
    manifest = importing("{type: Chain}", "[{name: g}, {name: f}, {name: h}]", "[{name: z}, {name: y}]")
    listed = [option.name for option in loaded(manifest, [], fragments).options]
    assert listed == ["z", "y", "g1", "g2", "f1", "f2", "h1", "h2"]


def test_a_renamed_option_keeps_all_else() -> None:
    (option,) = loaded(importing(INVOKE, "[{name: f, expose: [{name: b, as: B}]}]"), [], {"f": THREE}).options
    assert (option.name, option.data_type, option.required) == ("B", "number", True)


def test_an_exposed_option_takes_the_condition_of_the_import() -> None:
    imports = "[{name: f, expose: [{name: b, dependsOn: {name: kind, value: x}}, {name: '*'}]}]"
    manifest = importing("{type: Chain}", imports)
    by_name = {option.name: option.condition for option in loaded(manifest, [], {"f": THREE}).options}
    assert (by_name["b"].name, by_name["b"].value) == ("kind", "x")
    assert (by_name["c"].name, by_name["c"].value) == ("a", "x")
    assert paths(manifest, ["x"], {"kind": "y"}, {"f": THREE}) == ["x"]
    assert refused(manifest, ["x"], {"kind": "x"}, {"f": THREE}).endswith("[b]")


def test_the_default_value_of_an_imports_condition_is_true() -> None:
    imports = "[{name: f, expose: [{name: b, dependsOn: {name: kind}}]}]"
    (option,) = loaded(importing(INVOKE, imports), [], {"f": THREE}).options
    assert option.condition is not None
    assert option.condition.value is True


def test_a_renamed_option_reaches_the_fragment_under_its_own_name() -> None:
    imports = "[{name: f, expose: [{name: o, as: outer}]}]"
    assert value_in_fragment(importing(INVOKE, imports), {"outer": "given"}, f=WITH_DEFAULT) == "given"
    assert value_in_fragment(importing(INVOKE, imports), {}, f=WITH_DEFAULT) == "d"


def test_a_renamed_option_is_not_the_callers_option_of_the_old_name() -> None:
    imports = "[{name: f, expose: [{name: o, as: outer}]}]"
    manifest = importing(INVOKE, imports, "[{name: o, defaultValue: other}]")
    assert value_in_fragment(manifest, {"outer": "given"}, f=WITH_DEFAULT) == "given"
    assert value_in_fragment(manifest, {}, f=WITH_DEFAULT) == "d"


def test_let_at_the_call_beats_a_renamed_option() -> None:
    imports = "[{name: f, expose: [{name: o, as: outer}]}]"
    call = "{type: InvokeFragment, reference: f, let: [{name: o, expression: \"#outer + '!'\"}]}"
    assert value_in_fragment(importing(call, imports), {"outer": "given"}, f=WITH_DEFAULT) == "given!"


def test_an_option_can_be_renamed_twice() -> None:
    middle = Fragment(importing("{type: InvokeFragment, reference: g}", "[{name: g, expose: [{name: o, as: p}]}]"))
    manifest = importing(INVOKE, "[{name: f, expose: [{name: p, as: q}]}]")
    assert value_in_fragment(manifest, {"q": "given"}, f=middle, g=WITH_DEFAULT) == "given"


def test_two_fragments_may_have_options_of_the_same_name() -> None:
    def fragment(sign: str) -> Fragment:
        insertion = f"type: ReplaceText, substitutions: [{{text: {sign}, with: '#o'}}]"
        return Fragment(f"{{accelerator: {{options: [{{name: o, defaultValue: d{sign}}}]}}, engine: {{{insertion}}}}}")

    imports = "[{name: f, expose: [{name: o, as: p}]}, {name: g, expose: [{name: o, as: q}]}]"
    call = "{chain: [{type: InvokeFragment, reference: f}, {type: InvokeFragment, reference: g}]}"
    result = run(importing(call, imports), {"x": "FG"}, {"q": "given"}, {"f": fragment("F"), "g": fragment("G")})
    assert result == {"x": "dFgiven"}


@pytest.mark.parametrize(
    "expose", ["[{name: nothing}]", "[{as: x}]", "[a]", "a", "[{name: b, as: {}}]", "[{name: b, as: 5}]"]
)
def test_a_wrong_exposure_is_refused(expose: str) -> None:
    manifest = f"accelerator:\n  imports:\n    - name: f\n      expose: {expose}\n"
    assert refused(manifest, [], {}, {"f": THREE}).startswith(("accelerator.yaml:4: ", "accelerator.yaml:3: "))


TYPED = Fragment(
    "{accelerator: {types: [{name: Task, struct: [{name: t}]}, {name: Other, struct: [{name: u}]}], "
    "options: [{name: tasks, dataType: [Task]}]}, engine: {type: Chain}}"
)


def test_a_type_of_a_fragment_can_be_used() -> None:
    manifest = importing("{type: Chain}", options="[{name: one, dataType: Task}]")
    assert paths(manifest, ["x"], {"one": {"t": "x"}}, {"f": TYPED}) == ["x"]
    assert refused(manifest, ["x"], {"one": {"t": 5}}, {"f": TYPED})


@pytest.mark.parametrize(
    ("expose", "known"),
    [
        ("[{name: '*'}]", {"Task", "Other"}),
        ("[]", set()),
        ("[{name: Task}]", {"Task"}),
        ("[{name: Task, as: Job}]", {"Job"}),
        ("[{name: Task, as: Job}, {name: '*'}]", {"Job", "Other"}),
    ],
)
def test_an_import_exposes_types(expose: str, known: set[str]) -> None:
    for name in ("Task", "Other", "Job"):
        manifest = importing(
            "{type: Chain}", f"[{{name: f, exposeTypes: {expose}}}]", f"[{{name: x, dataType: {name}}}]"
        )
        if name in known:
            assert paths(manifest, ["x"], {}, {"f": TYPED}) == ["x"]
        else:
            assert name in refused(manifest, ["x"], {}, {"f": TYPED})


def test_options_follow_a_renamed_type() -> None:
    manifest = importing("{type: Chain}", "[{name: f, exposeTypes: [{name: Task, as: Job}]}]")
    (option,) = loaded(manifest, [], {"f": TYPED}).options
    assert (option.data_type, option.is_list) == ("Job", True)
    assert refused(manifest, [], {"tasks": [{"t": 5}]}, {"f": TYPED})
