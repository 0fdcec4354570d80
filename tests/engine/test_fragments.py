"""Fragments: what they are given, what they return, and what their importers ask for them."""

from collections.abc import Mapping
from typing import Any

import pytest

from accelerator_engine.tree import EXECUTABLE, Resource

from .running import File, Fragment, loaded, paths, project, refused, run, trace


def importing(engine: str, imports: str = "[{name: f}]", options: str = "[]") -> str:
    return f"{{accelerator: {{imports: {imports}, options: {options}}}, engine: {engine}}}"


INVOKE = "{type: InvokeFragment, reference: f}"


def invoked(
    fragment: str | None,
    own: Mapping[str, File] | list[str],
    files: Mapping[str, File] | list[str],
    given: dict[str, Any] | None = None,
    call: str = INVOKE,
) -> dict[str, str]:
    """Return what an accelerator makes of files that only invokes a fragment."""
    return run(importing(call), files, given, {"f": Fragment(fragment, own)})


# Its files


def test_a_fragment_sees_the_callers_files_and_then_its_own() -> None:
    engine = "{chain: [{type: RewritePath, rewriteTo: \"'x'\"}, {type: UniquePath, strategy: Append}]}"
    assert invoked(f"engine: {engine}", {"own": "O", "a": "o"}, {"a": "A", "z": "Z"}) == {"x": "AZoO"}


def test_a_fragments_manifest_is_left_out_and_a_nested_one_is_not() -> None:
    own = ["own", "x/accelerator.yaml", "accelerator.axl"]
    assert sorted(invoked("engine: {exclude: [nothing]}", own, ["a"])) == ["a", "own", "x/accelerator.yaml"]


@pytest.mark.parametrize("manifest", [None, "accelerator: {}", "accelerator: {engine: {exclude: ['**']}}"])
def test_a_fragment_without_an_engine_adds_its_files(manifest: str | None) -> None:
    assert sorted(invoked(manifest, ["own"], ["a"])) == ["a", "own"]


def test_files_that_a_fragment_does_not_select_leak_into_the_result() -> None:
    fragment = "engine: {chain: [{applyTo: [Tiltfile], chain: [{type: ReplaceText}]}]}"
    own = {"README.md": "the fragment's", "Tiltfile": "t"}
    call = f"{{merge: [{{include: ['**']}}, {INVOKE}]}}"
    assert invoked(fragment, own, {"README.md": "mine"}, call=call)["README.md"] == "the fragment's"


def test_a_leaking_file_that_meets_another_is_an_error_without_a_merge() -> None:
    sentence = refused(importing(INVOKE), ["README.md"], {}, {"f": Fragment("engine: {chain: []}", ["README.md"])})
    assert "README.md" in sentence


def test_a_callers_files_can_be_restored_after_a_leak() -> None:
    call = f"{{merge: [{INVOKE}, {{include: [README.md]}}]}}"
    fragment = "engine: {merge: [{include: ['**']}]}"
    assert invoked(fragment, {"README.md": "the fragment's"}, {"README.md": "mine"}, call=call) == {"README.md": "mine"}


def test_a_fragment_wins_over_the_rest_with_use_first() -> None:
    call = f"{{merge: [{INVOKE}, {{include: ['**']}}], onConflict: UseFirst}}"
    fragment = "engine: {include: [a], chain: [{type: UniquePath, strategy: UseLast}]}"
    assert invoked(fragment, {"a": "new"}, {"a": "old", "b": "b"}, call=call) == {"a": "new", "b": "b"}


def test_what_a_fragment_drops_is_gone_in_a_chain() -> None:
    assert invoked("engine: {include: [own]}", ["own"], ["a"]) == {"own": "own"}


def test_permission_bits_come_with_a_fragments_files() -> None:
    engine = "{include: [mvnw], chain: [{type: RewritePath, rewriteTo: \"'app/' + #g0\"}]}"
    own = {"mvnw": Resource("mvnw", b"#!", EXECUTABLE)}
    done = project(importing(INVOKE), ["a"], {}, {"f": Fragment(f"engine: {engine}", own)})
    assert [(file.path, file.mode) for file in done.files if file.path != "accelerator-log.md"] == [("app/mvnw", 0o755)]


def test_a_fragment_can_be_invoked_twice() -> None:
    call = f"{{chain: [{INVOKE}, {INVOKE}]}}"
    engine = "{include: [own, 'own.*', a], chain: [{type: RewritePath, regex: 'own(.*)', rewriteTo: \"#g0 + '.1'\"}]}"
    assert sorted(invoked(f"engine: {engine}", ["own"], ["a"], call=call)) == ["a", "own.1", "own.1.1"]


def test_a_fragments_files_can_be_read_by_its_expressions() -> None:
    engine = (
        "{include: [a], chain: [{type: ReplaceText, substitutions: [{text: X, with: \"#files.contentsOf('part')\"}]}]}"
    )
    assert invoked(f"engine: {engine}", {"part": "own"}, {"a": "X", "part": "caller's"}) == {"a": "own"}


def test_the_callers_own_files_are_read_again_after_a_fragment() -> None:
    reads = "{type: ReplaceText, substitutions: [{text: X, with: \"#files.contentsOf('part')\"}]}"
    call = f"{{chain: [{INVOKE}, {reads}]}}"
    assert invoked("engine: {include: [a]}", {"part": "own"}, {"a": "X", "part": "caller's"}, call=call) == {
        "a": "caller's"
    }


# Conditions


FALSE_ROOT = "engine: {condition: 'false', include: [nothing]}"


def test_a_false_root_condition_contributes_nothing_to_a_merge() -> None:
    call = f"{{merge: [{{include: [a]}}, {INVOKE}]}}"
    assert invoked(FALSE_ROOT, ["own"], ["a", "b"], call=call) == {"a": "a"}


def test_a_false_root_condition_leaves_the_callers_and_its_own_files_in_a_chain() -> None:
    assert sorted(invoked(FALSE_ROOT, ["own"], ["a", "b"])) == ["a", "b", "own"]


@pytest.mark.parametrize("root", ["{type: Provenance", "{type: ReplaceText", "{type: Merge, sources: []", "{chain: []"])
def test_a_false_root_condition_does_so_for_each_type(root: str) -> None:
    fragment = f"engine: {root}, condition: 'false'}}"
    assert sorted(invoked(fragment, ["own"], ["a"])) == ["a", "own"]
    assert invoked(fragment, ["own"], ["a"], call=f"{{merge: [{INVOKE}]}}") == {}


def test_a_false_condition_at_the_call_adds_no_files() -> None:
    call = "{type: InvokeFragment, reference: f, condition: 'false'}"
    assert invoked("engine: {chain: []}", ["own"], ["a"], call=call) == {"a": "a"}
    assert invoked("engine: {chain: []}", ["own"], ["a"], call=f"{{merge: [{call}]}}") == {}


def test_a_condition_at_the_call_does_not_see_the_calls_let() -> None:
    call = "{type: InvokeFragment, reference: f, condition: '#on', let: [{name: on, expression: 'true'}]}"
    assert invoked("engine: {chain: []}", ["own"], ["a"], {"on": False}, call) == {"a": "a"}
    assert sorted(invoked("engine: {chain: []}", ["own"], ["a"], {"on": True}, call)) == ["a", "own"]


def test_a_call_that_is_not_reached_needs_no_answers() -> None:
    fragment = "{accelerator: {options: [{name: o, required: true}]}, engine: {chain: []}}"
    manifest = importing("{type: InvokeFragment, reference: f, condition: 'false'}", "[{name: f, expose: []}]")
    assert paths(manifest, ["a"], {}, {"f": Fragment(fragment)}) == ["a"]


def test_provenance_as_a_fragments_root_is_the_file_alone_in_a_merge() -> None:
    call = f"{{merge: [{{include: [a]}}, {INVOKE}]}}"
    assert sorted(invoked("engine: {type: Provenance}", ["own"], ["a", "b"], call=call)) == [
        "a",
        "accelerator-info.yaml",
    ]
    assert sorted(invoked("engine: {type: Provenance}", [], ["a", "b"])) == ["a", "accelerator-info.yaml", "b"]


# Anchors


def test_an_anchor_is_the_folder_in_which_a_fragment_works() -> None:
    call = "{type: InvokeFragment, reference: f, anchor: app/web}"
    engine = "{chain: [{type: RewritePath, regex: 'a|own', rewriteTo: \"#g0 + '.x'\"}]}"
    files = ["app/web/a", "app/web/b/a", "app/webber/a", "a"]
    assert invoked(f"engine: {engine}", ["own"], files, call=call) == {
        "app/web/a.x": "app/web/a", "app/web/b/a": "app/web/b/a", "app/web/own.x": "own",
        "app/webber/a": "app/webber/a", "a": "a",
    }  # fmt: skip


def test_an_anchor_holds_for_all_that_a_fragment_returns() -> None:
    call = "{type: InvokeFragment, reference: f, anchor: new}"
    assert sorted(invoked(None, ["own", "d/own"], [], call=call)) == ["new/d/own", "new/own"]


def test_an_anchor_holds_when_the_root_condition_is_false() -> None:
    call = "{type: InvokeFragment, reference: f, anchor: app}"
    assert sorted(invoked(FALSE_ROOT, ["own"], ["app/a", "b"], call=call)) == ["app/a", "app/own", "b"]


def test_anchors_nest() -> None:
    fragments = {
        "f": Fragment("{accelerator: {imports: [{name: g}]}, engine: {type: InvokeFragment, reference: g, anchor: y}}"),
        "g": Fragment("engine: {chain: [{type: RewritePath, regex: a, rewriteTo: \"'b'\"}]}", ["own"]),
    }
    manifest = importing("{type: InvokeFragment, reference: f, anchor: x}")
    assert paths(manifest, ["x/y/a", "x/a"], {}, fragments) == ["x/a", "x/y/b", "x/y/own"]


@pytest.mark.parametrize("anchor", ["..", "x/../..", "5", "[a]"])
def test_an_anchor_is_a_folder_of_the_project(anchor: str) -> None:
    manifest = importing(f"{{type: InvokeFragment, reference: f, anchor: {anchor}}}")
    assert refused(manifest, ["a"], {}, {"f": Fragment(None)}).startswith("accelerator.yaml:1: ")


# FavorOwn and FavorForeign


@pytest.mark.parametrize(
    ("strategy", "own", "callers", "wanted"),
    [
        ("FavorOwn", "own", "caller's", "own"),
        ("FavorForeign", "own", "caller's", "caller's"),
        ("FavorOwn", None, "caller's", "caller's"),
        ("FavorForeign", "own", None, "own"),
    ],
)
@pytest.mark.parametrize("order", [["own", "callers"], ["callers", "own"]])
def test_a_fragment_favours_own_or_foreign_in_any_order(
    strategy: str, own: str | None, callers: str | None, wanted: str, order: list[str]
) -> None:
    moves = (f"{{include: [{path}], chain: [{{type: RewritePath, rewriteTo: \"'x'\"}}]}}" for path in order)
    fragment = f"engine: {{merge: [{', '.join(moves)}], onConflict: {strategy}}}"
    own_files = {} if own is None else {"own": own}
    assert invoked(fragment, own_files, {} if callers is None else {"callers": callers}) == {"x": wanted}


def test_a_no_op_merge_is_enough_to_favour() -> None:
    fragment = "engine: {merge: [{type: ReplaceText}], onConflict: FavorForeign}"
    assert invoked(fragment, {"x": "own", "y": "own"}, {"x": "caller's"}) == {"x": "caller's", "y": "own"}


def test_a_file_stays_own_or_foreign_when_it_is_moved_and_changed() -> None:
    moved = "{type: RewritePath, rewriteTo: \"'x'\"}, {type: ReplaceText, substitutions: [{text: c, with: \"'C'\"}]}"
    fragment = f"engine: {{chain: [{moved}, {{type: UniquePath, strategy: FavorForeign}}]}}"
    assert invoked(fragment, {"own": "own"}, {"a": "callers"}) == {"x": "Callers"}


def nested(strategy: str, inner: str = "{chain: []}") -> dict[str, Fragment]:
    """Return f, which invokes g and then decides."""
    steps = f"{{type: InvokeFragment, reference: g}}, {{type: UniquePath, strategy: {strategy}}}"
    return {
        "f": Fragment(f"{{accelerator: {{imports: [{{name: g}}]}}, engine: {{chain: [{steps}]}}}}", {"x": "f"}),
        "g": Fragment(f"engine: {inner}", {"x": "g"}),
    }


def test_the_caller_is_foreign_to_a_fragment_that_invokes_others() -> None:
    assert run(importing(INVOKE), {"x": "a"}, {}, nested("FavorForeign")) == {"x": "a"}


def test_a_fragment_that_invokes_another_is_foreign_to_it() -> None:
    inner = "{merge: [{type: ReplaceText}], onConflict: FavorOwn}"
    assert run(importing(INVOKE), {"x": "a"}, {}, nested("UseLast", inner)) == {"x": "g"}
    inner = "{chain: [{type: UniquePath, strategy: FavorForeign}]}"
    assert run(importing(INVOKE), {"y": "a"}, {}, nested("Fail", inner)) == {"x": "f", "y": "a"}


def test_what_one_fragment_left_is_foreign_to_the_next() -> None:
    call = "{chain: [{type: InvokeFragment, reference: f}, {type: InvokeFragment, reference: g}]}"
    fragments = {
        "f": Fragment(None, {"x": "f"}),
        "g": Fragment("engine: {merge: [{type: ReplaceText}], onConflict: FavorForeign}", {"x": "g"}),
    }
    assert run(importing(call, "[{name: f}, {name: g}]"), [], {}, fragments) == {"x": "f"}


# Variables

TELLS = "type: ReplaceText, substitutions: [{text: X, with: \"'' + #o\"}]"


def told(manifest: str, given: dict[str, Any] | None = None, **fragments: Fragment) -> str:
    return run(manifest, {"x": "X"}, given, fragments)["x"]


def test_a_fragment_sees_all_variables_of_its_caller() -> None:
    fragment = Fragment(f"engine: {{{TELLS}}}")
    assert told(importing(INVOKE), {"o": "given"}, f=fragment) == "given"
    call = f"{{let: [{{name: o, expression: \"'let'\"}}], chain: [{INVOKE}]}}"
    assert told(importing(call), {"o": "given"}, f=fragment) == "let"


def test_a_fragment_sees_the_loop_that_invokes_it() -> None:
    call = f"{{type: Loop, on: \"{{'p', 'q'}}\", var: o, doAsMerge: {INVOKE}}}"
    fragment = Fragment("engine: {type: RewritePath, rewriteTo: '#g0 + #o'}")
    assert paths(importing(call), ["x"], {}, {"f": fragment}) == ["xp", "xq"]


def test_let_at_the_call_is_seen_by_the_fragment_alone() -> None:
    call = (
        "{type: InvokeFragment, reference: f, let: [{name: o, expression: \"#o + '1'\"}, {name: p, expression: '#o'}]}"
    )
    tells = "{type: ReplaceText, substitutions: [{text: Y, with: '#o + (#p == null)'}]}"
    fragment = Fragment("engine: {type: ReplaceText, substitutions: [{text: X, with: '#o + #p'}]}")
    assert run(importing(f"{{chain: [{call}, {tells}]}}"), {"x": "XY"}, {"o": "g"}, {"f": fragment}) == {
        "x": "g1g1gtrue"
    }


def test_a_fragments_let_is_not_seen_by_its_caller() -> None:
    fragment = Fragment("engine: {let: [{name: o, expression: '1'}], chain: []}")
    tells = "{type: ReplaceText, substitutions: [{text: X, with: \"'' + #o\"}]}"
    assert told(importing(f"{{chain: [{INVOKE}, {tells}]}}"), f=fragment) == "null"


WITH_DEFAULT = Fragment(f"{{accelerator: {{options: [{{name: o, defaultValue: d}}]}}, engine: {{{TELLS}}}}}")


def test_a_fragments_option_has_its_default() -> None:
    assert told(importing(INVOKE), f=WITH_DEFAULT) == "d"


def test_a_fragments_option_can_be_given() -> None:
    assert told(importing(INVOKE), {"o": "given"}, f=WITH_DEFAULT) == "given"


def test_an_option_that_is_not_exposed_has_its_default_or_a_let() -> None:
    hidden = "[{name: f, expose: []}]"
    assert told(importing(INVOKE, hidden), f=WITH_DEFAULT) == "d"
    call = "{type: InvokeFragment, reference: f, let: [{name: o, expression: \"'let'\"}]}"
    assert told(importing(call, hidden), f=WITH_DEFAULT) == "let"


def test_the_accelerators_own_default_comes_first() -> None:
    manifest = importing(INVOKE, options="[{name: o, defaultValue: mine}]")
    assert told(manifest, f=WITH_DEFAULT) == "mine"


def test_a_missing_required_option_of_a_fragment_is_told() -> None:
    fragment = Fragment("{accelerator: {options: [{name: o, required: true}]}, engine: {chain: []}}")
    wanted = "Invalid options provided. Expected but not present: [o]"
    assert refused(importing(INVOKE), ["x"], {}, {"f": fragment}) == wanted
    assert wanted in refused(importing(INVOKE, "[{name: f, expose: []}]"), ["x"], {}, {"f": fragment})


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
    ("expose", "wanted"),
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
def test_an_import_exposes_options(expose: str, wanted: list[str]) -> None:
    assert sorted(names(expose)) == sorted(wanted)


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


def test_a_condition_of_an_import_means_true_where_it_names_no_value() -> None:
    imports = "[{name: f, expose: [{name: b, dependsOn: {name: kind}}]}]"
    (option,) = loaded(importing(INVOKE, imports), [], {"f": THREE}).options
    assert option.condition is not None
    assert option.condition.value is True


def test_a_renamed_option_reaches_the_fragment_under_its_own_name() -> None:
    imports = "[{name: f, expose: [{name: o, as: outer}]}]"
    assert told(importing(INVOKE, imports), {"outer": "given"}, f=WITH_DEFAULT) == "given"
    assert told(importing(INVOKE, imports), {}, f=WITH_DEFAULT) == "d"


def test_a_renamed_option_is_not_the_callers_option_of_the_old_name() -> None:
    imports = "[{name: f, expose: [{name: o, as: outer}]}]"
    manifest = importing(INVOKE, imports, "[{name: o, defaultValue: other}]")
    assert told(manifest, {"outer": "given"}, f=WITH_DEFAULT) == "given"
    assert told(manifest, {}, f=WITH_DEFAULT) == "d"


def test_let_at_the_call_beats_a_renamed_option() -> None:
    imports = "[{name: f, expose: [{name: o, as: outer}]}]"
    call = "{type: InvokeFragment, reference: f, let: [{name: o, expression: \"#outer + '!'\"}]}"
    assert told(importing(call, imports), {"outer": "given"}, f=WITH_DEFAULT) == "given!"


def test_an_option_can_be_renamed_twice() -> None:
    middle = Fragment(importing("{type: InvokeFragment, reference: g}", "[{name: g, expose: [{name: o, as: p}]}]"))
    manifest = importing(INVOKE, "[{name: f, expose: [{name: p, as: q}]}]")
    assert told(manifest, {"q": "given"}, f=middle, g=WITH_DEFAULT) == "given"


def test_two_fragments_may_have_an_option_of_one_name() -> None:
    def fragment(sign: str) -> Fragment:
        tells = f"type: ReplaceText, substitutions: [{{text: {sign}, with: '#o'}}]"
        return Fragment(f"{{accelerator: {{options: [{{name: o, defaultValue: d{sign}}}]}}, engine: {{{tells}}}}}")

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


# Importing and nesting


def test_a_fragment_has_to_be_imported() -> None:
    sentence = refused("engine:\n  chain:\n    - type: InvokeFragment\n      reference: f\n", ["x"], {}, {"f": THREE})
    assert sentence.startswith("accelerator.yaml:3: ")
    assert "'f'" in sentence


def test_an_import_that_is_nowhere_is_refused_with_its_line() -> None:
    sentence = refused("accelerator:\n  imports:\n    - name: nowhere\n", ["x"])
    assert sentence.startswith("accelerator.yaml:3: ")
    assert "'nowhere'" in sentence


def test_an_import_of_a_callers_import_is_not_enough() -> None:
    middle = Fragment("{accelerator: {imports: [{name: g}]}, engine: {type: Chain}}")
    call = "{type: InvokeFragment, reference: g}"
    assert "'g'" in refused(importing(call), ["x"], {}, {"f": middle, "g": Fragment(None)})


def test_the_callers_imports_are_not_the_fragments() -> None:
    middle = Fragment("{engine: {type: InvokeFragment, reference: g}}")
    sentence = refused(importing(INVOKE, "[{name: f}, {name: g}]"), ["x"], {}, {"f": middle, "g": Fragment(None)})
    assert sentence.startswith("f/accelerator.yaml:1: ")


def test_fragments_import_fragments() -> None:
    fragments = {
        "f": Fragment("{accelerator: {imports: [{name: g}]}, engine: {type: InvokeFragment, reference: g}}", ["f"]),
        "g": Fragment("{accelerator: {imports: [{name: h}]}, engine: {type: InvokeFragment, reference: h}}", ["g"]),
        "h": Fragment("engine: {type: RewritePath, rewriteTo: \"'h/' + #g0\"}", ["h"]),
    }
    assert paths(importing(INVOKE), ["x"], {}, fragments) == ["h/f", "h/g", "h/h", "h/x"]


def test_one_fragment_may_be_imported_by_several() -> None:
    fragments = {
        "f": Fragment("{accelerator: {imports: [{name: h}]}, engine: {type: Chain}}"),
        "g": Fragment("{accelerator: {imports: [{name: h}]}, engine: {type: Chain}}"),
        "h": Fragment(None, ["h"]),
    }
    call = "{type: InvokeFragment, reference: h}"
    assert paths(importing(call, "[{name: f}, {name: g}, {name: h}]"), ["x"], {}, fragments) == ["h", "x"]


@pytest.mark.parametrize("cycle", [["f"], ["f", "g"], ["f", "g", "h"]])
def test_fragments_that_import_one_another_are_refused(cycle: list[str]) -> None:
    following = dict(zip(cycle, [*cycle[1:], cycle[0]], strict=True))
    fragments = {name: Fragment(f"accelerator: {{imports: [{{name: {other}}}]}}") for name, other in following.items()}
    sentence = refused(importing("{type: Chain}"), ["x"], {}, fragments)
    assert f"{cycle[-1]}/accelerator.yaml:1: " in sentence


def test_a_chain_of_many_fragments_has_an_end() -> None:
    fragments = {
        f"f{number}": Fragment(
            f"{{accelerator: {{imports: [{{name: f{number + 1}}}]}}, "
            f"engine: {{type: InvokeFragment, reference: f{number + 1}}}}}"
        )
        for number in range(2000)
    }
    fragments["f2000"] = Fragment(None)
    assert refused(importing("{type: InvokeFragment, reference: f0}", "[{name: f0}]"), ["x"], {}, fragments)


def test_a_mistake_in_a_fragment_is_told_with_the_fragments_file() -> None:
    fragment = Fragment("accelerator: {}\nengine:\n  type: Explode\n")
    assert refused(importing(INVOKE), ["x"], {}, {"f": fragment}).startswith("f/accelerator.yaml:3: ")


def test_a_failure_in_a_fragment_is_told_with_the_fragments_line() -> None:
    fragment = Fragment(
        "accelerator: {}\nengine:\n  type: ReplaceText\n  substitutions: [{text: a, with: '#missing'}]\n"
    )
    sentence = refused(importing(INVOKE), ["x"], {}, {"f": fragment})
    assert sentence == "f/accelerator.yaml:3: Expression '#missing' evaluated to null"


def test_a_wrong_pattern_of_a_fragments_option_is_told_with_the_fragments_file() -> None:
    fragment = Fragment("accelerator:\n  options:\n    - name: o\n      validationRegex: '('\n")
    assert refused(importing(INVOKE), ["x"], {"o": "x"}, {"f": fragment}).startswith("f/accelerator.yaml:3: ")


def test_a_fragment_written_in_the_other_language_is_refused() -> None:
    sentence = refused(importing(INVOKE), ["x"], {}, {"f": Fragment("accelerator: {}", ["accelerator.axl"])})
    assert "accelerator.axl" in sentence


def test_fragments_that_double_one_another_are_stopped() -> None:
    call = "{{type: InvokeFragment, reference: f{0}}}"
    fragments = {
        f"f{number}": Fragment(
            f"{{accelerator: {{imports: [{{name: f{number + 1}}}]}}, "
            f"engine: {{chain: [{call.format(number + 1)}, {call.format(number + 1)}]}}}}"
        )
        for number in range(25)
    }
    fragments["f25"] = Fragment("engine: {type: Chain}")
    assert refused(importing(call.format(0), "[{name: f0}]"), ["x"], {}, fragments)


def test_the_trace_shows_a_fragments_engine_as_validated() -> None:
    page = trace(importing(INVOKE), ["x"], {}, {"f": Fragment("engine: {type: Chain}")})
    assert "engine.transformations[1].validated.validated (Chain)" in page


def test_provenance_names_the_fragments() -> None:
    page = run(importing("{type: Provenance}"), [], {}, {"f": Fragment(None)})["accelerator-info.yaml"]
    assert "fragments:\n- name: f\n" in page
