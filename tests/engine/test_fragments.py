"""Fragments: their files, conditions, anchors and imports."""

from collections.abc import Mapping
from typing import Any

import pytest

from accelerator_engine.tree import EXECUTABLE, Resource

from .running import INVOKE, File, Fragment, importing, paths, project, refused, run


def invoked(
    fragment: str | None,
    own: Mapping[str, File] | list[str],
    files: Mapping[str, File] | list[str],
    answers: dict[str, Any] | None = None,
    call: str = INVOKE,
) -> dict[str, str]:
    """Run an accelerator that only invokes a fragment; return the texts by path."""
    return run(importing(call), files, answers, {"f": Fragment(fragment, own)})


# Files


def test_a_fragment_sees_the_callers_files_and_then_its_own() -> None:
    engine = "{chain: [{type: RewritePath, rewriteTo: \"'x'\"}, {type: UniquePath, strategy: Append}]}"
    assert invoked(f"engine: {engine}", {"own": "O", "a": "o"}, {"a": "A", "z": "Z"}) == {"x": "AZoO"}


def test_only_the_root_manifest_of_a_fragment_is_left_out() -> None:
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


def test_files_that_a_fragment_drops_are_gone_in_a_chain() -> None:
    assert invoked("engine: {include: [own]}", ["own"], ["a"]) == {"own": "own"}


def test_permission_bits_come_with_a_fragments_files() -> None:
    engine = "{include: [mvnw], chain: [{type: RewritePath, rewriteTo: \"'app/' + #g0\"}]}"
    own = {"mvnw": Resource("mvnw", b"#!", EXECUTABLE)}
    generated = project(importing(INVOKE), ["a"], {}, {"f": Fragment(f"engine: {engine}", own)})
    assert [(file.path, file.mode) for file in generated.files if file.path != "accelerator-log.md"] == [
        ("app/mvnw", 0o755)
    ]


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


def test_an_inactive_call_needs_no_answers() -> None:
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
    ("strategy", "own", "callers", "expected"),
    [
        ("FavorOwn", "own", "caller's", "own"),
        ("FavorForeign", "own", "caller's", "caller's"),
        ("FavorOwn", None, "caller's", "caller's"),
        ("FavorForeign", "own", None, "own"),
    ],
)
@pytest.mark.parametrize("order", [["own", "callers"], ["callers", "own"]])
def test_a_fragment_favours_own_or_foreign_in_any_order(
    strategy: str, own: str | None, callers: str | None, expected: str, order: list[str]
) -> None:
    moves = (f"{{include: [{path}], chain: [{{type: RewritePath, rewriteTo: \"'x'\"}}]}}" for path in order)
    fragment = f"engine: {{merge: [{', '.join(moves)}], onConflict: {strategy}}}"
    own_files = {} if own is None else {"own": own}
    assert invoked(fragment, own_files, {} if callers is None else {"callers": callers}) == {"x": expected}


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


def test_files_of_a_fragment_are_foreign_to_the_next_one() -> None:
    call = "{chain: [{type: InvokeFragment, reference: f}, {type: InvokeFragment, reference: g}]}"
    fragments = {
        "f": Fragment(None, {"x": "f"}),
        "g": Fragment("engine: {merge: [{type: ReplaceText}], onConflict: FavorForeign}", {"x": "g"}),
    }
    assert run(importing(call, "[{name: f}, {name: g}]"), [], {}, fragments) == {"x": "f"}
