"""What each transform makes of files."""

import contextlib
import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from accelerator_engine import java_regex
from accelerator_engine.engine import Project, generate
from accelerator_engine.tree import EXECUTABLE, Resource

from .running import LOG, REFUSALS, Fragment, engine, loaded, paths, project, refused, run, trace

ABC = ["a", "b", "c/d"]

Transform = Mapping[str, Any]


def one(transform: str | Transform, content: str | bytes, variables: Mapping[str, Any] | None = None) -> bytes:
    """Return what a transform makes of the file `x`."""
    return found(project(engine(transform), {"x": content}, variables), "x").content


def found(done: Project, path: str) -> Resource:
    return next(file for file in done.files if file.path == path)


# The frame


def test_a_tree_without_a_manifest_is_returned_as_it_is() -> None:
    assert paths(None, ABC) == ABC


def test_a_manifest_without_an_engine_returns_all_but_itself() -> None:
    assert paths("accelerator: {displayName: x}", ABC) == ABC


def test_an_engine_under_accelerator_is_ignored() -> None:
    assert paths("accelerator:\n  engine: {include: [a]}\n", ABC) == ABC


def test_only_the_root_manifests_are_left_out() -> None:
    files = [*ABC, "accelerator.axl", "x/accelerator.yaml", "x/accelerator.axl"]
    assert paths("engine: {include: ['**']}", files) == [*ABC, "x/accelerator.axl", "x/accelerator.yaml"]


def test_the_manifest_never_reaches_a_transform() -> None:
    assert paths(engine("type: RewritePath\nrewriteTo: \"'m/' + #g0\""), ["a"]) == ["m/a"]


def test_a_byte_order_mark_and_a_leading_document_line_are_tolerated() -> None:
    manifest = "\ufeff---\nengine: {include: [a]}\n".encode()
    assert paths(manifest, ABC) == ["a"]


def test_unknown_keys_are_ignored_everywhere() -> None:
    manifest = """
        other: 1
        accelerator: {name: x, options: [{name: a, display: true, other: [1]}], more: {}}
        engine: {name: label, nonsense: 5, include: [a], chain: [{type: Chain, x: y}]}
        """
    assert paths(manifest, ABC) == ["a"]


def test_duplicates_that_are_left_at_the_end_are_an_error_that_names_the_path() -> None:
    sentence = refused(engine("type: Merge\nsources: [{include: ['**']}, {include: [c/d]}]"), ABC)
    assert "c/d" in sentence
    assert "'a'" not in sentence


def test_paths_that_are_one_when_written_are_duplicates() -> None:
    sentence = refused(engine("type: RewritePath\nrewriteTo: \"#g0 == 'a' ? 'x//y' : #g0\""), ["a", "x/y"])
    assert "x/y" in sentence


def test_double_slashes_collapse_when_written() -> None:
    assert paths(engine("type: RewritePath\nrewriteTo: \"'x//' + #g0\""), ["a"]) == ["x/a"]


def test_a_file_that_would_be_a_folder_is_an_error() -> None:
    sentence = refused(engine("type: RewritePath\nrewriteTo: \"#g0 == 'a' ? 'b/c' : #g0\""), ["a", "b"])
    assert "'b'" in sentence


@pytest.mark.parametrize("path", ["/a", "../a", "x/../../a", "x/..", "..", "/", "a\\0b"])
def test_a_path_outside_the_project_is_refused(path: str) -> None:
    variables = {"path": path.replace("\\0", "\0")}
    sentence = refused(engine("type: RewritePath\nrewriteTo: '#path'"), ["a"], variables)
    assert "path" in sentence


def test_a_path_that_no_archive_can_hold_is_refused() -> None:
    assert "\\ud800" in refused(engine("type: RewritePath\nrewriteTo: '#path'"), ["a"], {"path": "a\ud800"})


def test_an_unsafe_path_on_the_way_is_nobodys_business() -> None:
    transform = """
        chain:
          - {type: RewritePath, rewriteTo: "'../' + #g0"}
          - {type: RewritePath, regex: "\\\\.\\\\./(.*)", rewriteTo: "#g1"}
        """
    assert paths(engine(transform), ABC) == ABC


# Conditions

TRANSFORMS = {
    "Include": "{type: Include, patterns: [nothing]",
    "Exclude": "{type: Exclude, patterns: ['**']",
    "Chain": "{type: Chain, transformations: [{type: Exclude, patterns: ['**']}]",
    "Merge": "{type: Merge, sources: []",
    "Combo": "{include: [nothing]",
    "typed Combo": "{type: Combo, exclude: ['**']",
    "Let": "{type: Let, symbols: [{name: n, expression: '1'}], in: {type: Exclude, patterns: ['**']}",
    "Loop": "{type: Loop, on: '{1}', doAsChain: {type: Exclude, patterns: ['**']}",
    "UniquePath": "{type: UniquePath, strategy: Append",
    "ReplaceText": "{type: ReplaceText, substitutions: [{text: a, with: \"'changed'\"}]",
    "RewritePath": "{type: RewritePath, rewriteTo: \"'changed'\"",
    "UseEncoding": "{type: UseEncoding, encoding: UTF-8",
    "OpenRewriteRecipe": "{type: OpenRewriteRecipe, recipe: org.openrewrite.x",
    "YTT": "{type: YTT",
    "InvokeFragment": "{type: InvokeFragment, reference: f",
    "Provenance": "{type: Provenance",
}
DROPS_ALL = {"f": Fragment("engine: {exclude: ['**']}")}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
class TestAFalseCondition:
    def test_is_identity_in_a_chain(self, transform: str) -> None:
        manifest = (
            f"{{accelerator: {{imports: [{{name: f}}]}}, engine: {{chain: [{transform}, condition: 'false'}}]}}}}"
        )
        assert run(manifest, ABC, {}, DROPS_ALL) == {path: path for path in ABC}

    def test_is_nothing_in_a_merge(self, transform: str) -> None:
        manifest = (
            f"{{accelerator: {{imports: [{{name: f}}]}}, engine: {{merge: [{transform}, condition: 'false'}}]}}}}"
        )
        assert run(manifest, ABC, {}, DROPS_ALL) == {}

    def test_is_nothing_in_a_plain_merge(self, transform: str) -> None:
        engine_ = f"{{type: Merge, sources: [{transform}, condition: 'false'}}, {{include: [a]}}]}}"
        manifest = f"{{accelerator: {{imports: [{{name: f}}]}}, engine: {engine_}}}"
        assert paths(manifest, ABC, {}, DROPS_ALL) == ["a"]

    def test_is_identity_at_the_root(self, transform: str) -> None:
        manifest = f"{{accelerator: {{imports: [{{name: f}}]}}, engine: {transform}, condition: 'false'}}}}"
        assert paths(manifest, ABC, {}, DROPS_ALL) == ABC


@pytest.mark.parametrize("kind", sorted(TRANSFORMS.keys() - {"OpenRewriteRecipe", "YTT", "Provenance"}))
def test_a_true_condition_changes_nothing(kind: str) -> None:
    transform = TRANSFORMS[kind]
    with_condition = f"{{accelerator: {{imports: [{{name: f}}]}}, engine: {transform}, condition: 'true'}}}}"
    without = f"{{accelerator: {{imports: [{{name: f}}]}}, engine: {transform}}}}}"
    assert run(with_condition, ["a"], {}, DROPS_ALL) == run(without, ["a"], {}, DROPS_ALL)


def test_what_another_merge_child_selects_stays_when_a_condition_is_false() -> None:
    transform = """
        merge:
          - include: ["**"]
          - condition: "#maven"
            include: [pom.xml]
            chain: [{type: ReplaceText, substitutions: [{text: pom, with: "'changed'"}]}]
        """
    assert run(engine(transform), ["pom.xml", "b"], {"maven": False}) == {"pom.xml": "pom.xml", "b": "b"}
    assert run(engine(transform), ["pom.xml"], {"maven": True}) == {"pom.xml": "changed.xml"}


def test_a_condition_is_evaluated_outside_the_combos_own_let() -> None:
    transform = "let: [{name: on, expression: 'true'}]\ncondition: '#on'\ninclude: [a]"
    assert paths(engine(transform), ABC, {"on": False}) == ABC
    assert paths(engine(transform), ABC, {"on": True}) == ["a"]


def test_a_false_condition_keeps_let_from_being_evaluated() -> None:
    transform = "let: [{name: n, expression: '#missing.name'}]\ncondition: 'false'\ninclude: [a]"
    assert "Adding symbol" not in trace(engine(transform), ABC)


def test_a_condition_may_be_written_without_quotes() -> None:
    assert paths(engine("condition: false\nmerge: [{include: [a]}]"), ABC) == ABC
    assert paths(engine("condition: true\nmerge: [{include: [a]}]"), ABC) == ["a"]


@pytest.mark.parametrize(("word", "there"), [("true", True), ("false", False), ("TRUE", True)])
def test_a_text_can_be_a_condition(word: str, there: bool) -> None:
    assert paths(engine("condition: '#v'\ninclude: [a]"), ABC, {"v": word}) == (["a"] if there else ABC)


def test_a_condition_that_is_neither_is_an_error() -> None:
    assert refused(engine("condition: '#v'\ninclude: [a]"), ABC, {"v": "maybe"}).startswith("accelerator.yaml:2: ")


@pytest.mark.parametrize("broken", ["with: '#missing.name'", "with: '#missing'"])
def test_the_expressions_of_a_deactivated_transform_are_not_evaluated(broken: str) -> None:
    transform = f"type: ReplaceText\nsubstitutions: [{{text: a, {broken}}}]\ncondition: '#on'"
    assert run(engine(transform), ["a"], {"on": False}) == {"a": "a"}
    assert refused(engine(transform), ["a"], {"on": True})


def test_the_expressions_of_a_deactivated_transform_are_parsed() -> None:
    assert "parse" in refused(engine("condition: false\nlet: [{name: n, expression: '1 +'}]"), ["a"])


# Include and Exclude


def test_include_keeps_what_matches_any_pattern() -> None:
    assert paths(engine("type: Include\npatterns: [a, 'c/*']"), ABC) == ["a", "c/d"]


def test_exclude_drops_what_matches_any_pattern() -> None:
    assert paths(engine("type: Exclude\npatterns: [a, 'c/*']"), ABC) == ["b"]


def test_a_single_pattern_may_stand_without_a_list() -> None:
    assert paths(engine("type: Include\npatterns: '*'"), ABC) == ["a", "b"]
    assert paths(engine("include: '*'\nexclude: b"), ABC) == ["a"]


def test_include_of_nothing_keeps_nothing() -> None:
    assert paths(engine("include: []"), ABC) == []


def test_exclude_of_nothing_keeps_everything() -> None:
    assert paths(engine("exclude: []"), ABC) == ABC


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("**", ["..b", ".x/y", "A.csproj", "a/b/templates/t", "templates/x"]),
        ("**/*", ["..b", ".x/y", "A.csproj", "a/b/templates/t", "templates/x"]),
        ("**/templates/**", ["a/b/templates/t", "templates/x"]),
        ("*.csproj", ["A.csproj"]),
        ("*", ["..b", "A.csproj"]),
        ("**.csproj", ["A.csproj"]),
        ("a.csproj", []),
        ("?.csproj", ["A.csproj"]),
        ("templates/**", ["templates/x"]),
        ("templates", []),
        ("/templates/x", []),
    ],
)
def test_patterns_are_those_of_ant(pattern: str, wanted: list[str]) -> None:
    files = ["..b", ".x/y", "A.csproj", "a/b/templates/t", "templates/x"]
    assert paths(engine(f"include: ['{pattern}']"), files) == wanted


# Chain, Merge and Combo


def test_an_empty_chain_is_identity() -> None:
    assert paths(engine("type: Chain\ntransformations: []"), ABC) == ABC


def test_an_empty_merge_is_nothing() -> None:
    assert paths(engine("type: Merge\nsources: []"), ABC) == []


def test_an_empty_merge_of_a_combo_is_no_merge() -> None:
    assert paths(engine("merge: []"), ABC) == ABC


def test_an_empty_chain_of_a_combo_is_identity() -> None:
    assert paths(engine("chain: []"), ABC) == ABC


def test_a_combo_with_a_condition_alone_is_identity() -> None:
    assert paths(engine("condition: 'true'"), ABC) == ABC


@pytest.mark.parametrize("combo", ["{}", "{name: x}", "{type: Combo}"])
def test_a_combo_needs_a_property(combo: str) -> None:
    assert refused(f"engine: {combo}", ABC).startswith("accelerator.yaml:1: ")


def test_a_chain_feeds_each_transform_with_what_the_one_before_left() -> None:
    transform = """
        type: Chain
        transformations:
          - {type: RewritePath, rewriteTo: "#g0 + '.1'"}
          - {type: RewritePath, rewriteTo: "#g0 + '.2'"}
        """
    assert paths(engine(transform), ["a"]) == ["a.1.2"]


def test_a_chains_apply_to_lets_the_rest_pass_by() -> None:
    transform = "type: Chain\napplyTo: [a]\ntransformations: [{type: RewritePath, rewriteTo: \"'new'\"}]"
    assert run(engine(transform), ABC) == {"new": "a", "b": "b", "c/d": "c/d"}


def test_apply_to_puts_what_passes_by_before_the_rest() -> None:
    transform = """
        chain:
          - {applyTo: [a], chain: [{type: ReplaceText}]}
          - {type: RewritePath, rewriteTo: "'x'"}
          - {type: UniquePath, strategy: Append}
        """
    assert run(engine(transform), {"a": "A", "b": "B", "c": "C"}) == {"x": "BCA"}


def test_a_merge_gives_each_child_the_whole_input_and_keeps_their_order() -> None:
    transform = """
        chain:
          - type: Merge
            sources:
              - {type: RewritePath, rewriteTo: "'x'"}
              - {type: ReplaceText, substitutions: [{text: A, with: "'B'"}]}
          - {type: RewritePath, rewriteTo: "'x'"}
          - {type: UniquePath, strategy: Append}
        """
    assert run(engine(transform), {"a": "A", "c": "C"}) == {"x": "ACBC"}


def test_combo_goes_through_include_exclude_merge_and_chain_in_this_order() -> None:
    transform = """
        chain: [{type: RewritePath, rewriteTo: "#g0 + '.chain'"}]
        merge: [{include: [b, c], chain: [{type: RewritePath, rewriteTo: "#g0 + '.merge'"}]}]
        exclude: [c]
        include: [a, b, c]
        """
    assert paths(engine(transform), ["a", "b", "c", "d"]) == ["b.merge.chain"]


@pytest.mark.parametrize("key", ["merge", "sources"])
def test_merge_has_an_alias_in_a_combo(key: str) -> None:
    assert run(engine(f"{key}: [{{include: [a]}}, {{include: [a, b]}}]"), ABC) == {"a": "a", "b": "b"}


@pytest.mark.parametrize("key", ["include", "includes"])
def test_include_has_an_alias_in_a_combo(key: str) -> None:
    assert paths(engine(f"{key}: [a]"), ABC) == ["a"]


@pytest.mark.parametrize("key", ["exclude", "excludes"])
def test_exclude_has_an_alias_in_a_combo(key: str) -> None:
    assert paths(engine(f"{key}: [a]"), ABC) == ["b", "c/d"]


def test_the_last_version_wins_where_a_combo_says_nothing() -> None:
    transform = "merge: [{include: [a]}, {type: ReplaceText, substitutions: [{text: a, with: \"'new'\"}]}]"
    assert run(engine(transform), ["a"]) == {"a": "new"}


TWICE = "{type: Merge, sources: [{include: [a]}, {type: ReplaceText, substitutions: [{text: a, with: \"'new'\"}]}]}"


@pytest.mark.parametrize("strategy", ["UseFirst", "UseLast", "Append"])
def test_on_conflict_without_merge_does_nothing(strategy: str) -> None:
    assert "'a'" in refused(engine(f"chain: [{TWICE}, {{onConflict: {strategy}, include: ['**']}}]"), ["a"])


def test_on_conflict_needs_a_merge_even_if_it_changes_nothing() -> None:
    transform = f"chain: [{TWICE}, {{onConflict: UseFirst, merge: [{{type: ReplaceText}}]}}]"
    assert run(engine(transform), ["a"]) == {"a": "a"}


def test_apply_to_concerns_a_combos_chain_and_not_its_merge() -> None:
    transform = """
        applyTo: [a]
        merge: [{type: RewritePath, regex: b, rewriteTo: "'merged'"}]
        chain: [{type: ReplaceText, substitutions: [{text: a, with: "'A'"}, {text: b, with: "'B'"}]}]
        """
    assert run(engine(transform), ["a", "b"]) == {"a": "A", "merged": "b"}


def test_apply_to_is_matched_after_the_merge() -> None:
    transform = """
        applyTo: [merged]
        merge: [{type: RewritePath, regex: b, rewriteTo: "'merged'"}]
        chain: [{type: ReplaceText, substitutions: [{text: b, with: "'B'"}]}]
        """
    assert run(engine(transform), ["a", "b"]) == {"a": "a", "merged": "B"}


def test_apply_to_is_matched_after_include_and_exclude() -> None:
    transform = "applyTo: [a]\nexclude: [b]\nchain: [{type: Exclude, patterns: ['**']}]"
    assert paths(engine(transform), ABC) == ["c/d"]


def test_apply_to_without_a_chain_does_nothing() -> None:
    assert paths(engine("applyTo: [a]\ninclude: ['*']"), ABC) == ["a", "b"]


def test_an_empty_apply_to_applies_to_nothing() -> None:
    assert paths(engine("applyTo: []\nchain: [{type: Exclude, patterns: ['**']}]"), ABC) == ABC


def test_an_unknown_transform_is_refused_with_its_line() -> None:
    assert refused("engine:\n  chain:\n    - type: Explode\n", ABC).startswith("accelerator.yaml:3: ")


SELECTIONS = st.lists(st.sampled_from(["a", "b", "c", "*", "d/**", "**/a", "**", "x/*", "?"]), max_size=3)
FEWER = settings(max_examples=40)
PLACES = st.sets(st.sampled_from(["a", "b", "c", "d/a", "d/e/f", "x/a", "x/y"]))


def chosen(files: set[str], *transforms: str) -> list[str]:
    return paths(f"engine: {{type: Chain, transformations: [{', '.join(transforms)}]}}", files)


@FEWER
@given(PLACES, SELECTIONS, SELECTIONS)
def test_include_after_include_is_the_intersection(files: set[str], first: list[str], second: list[str]) -> None:
    p, q = f"{{type: Include, patterns: {first}}}", f"{{type: Include, patterns: {second}}}"
    assert set(chosen(files, p, q)) == set(chosen(files, p)) & set(chosen(files, q))


@FEWER
@given(PLACES, SELECTIONS)
def test_exclude_is_the_complement_of_include(files: set[str], patterns: list[str]) -> None:
    kept = chosen(files, f"{{type: Include, patterns: {patterns}}}")
    dropped = chosen(files, f"{{type: Exclude, patterns: {patterns}}}")
    assert sorted([*kept, *dropped]) == sorted(files)


@FEWER
@given(PLACES, SELECTIONS, SELECTIONS)
def test_merge_concatenates_what_its_children_return(files: set[str], first: list[str], second: list[str]) -> None:
    p, q = f"{{type: Include, patterns: {first}}}", f"{{type: Include, patterns: {second}}}"
    append = "{type: UniquePath, strategy: Append}"
    result = run(f"engine: {{type: Chain, transformations: [{{type: Merge, sources: [{p}, {q}]}}, {append}]}}", files)
    counts = {path: (path in chosen(files, p)) + (path in chosen(files, q)) for path in files}
    assert result == {path: path * count for path, count in counts.items() if count}


STEPS = st.lists(
    st.sampled_from(
        [
            "{type: Include, patterns: ['*', 'd/**']}",
            "{type: Exclude, patterns: [b]}",
            "{type: RewritePath, regex: '(.*)/(.*)', rewriteTo: \"'r/' + #g2 + '-' + #g1\"}",
            "{type: ReplaceText, substitutions: [{text: a, with: \"'aa'\"}]}",
            "{type: UniquePath, strategy: Append}",
            "{merge: [{include: ['a', 'd/*']}, {include: ['**']}], onConflict: UseFirst}",
            "{type: Merge, sources: [{type: Chain}, {condition: 'false'}]}",
        ]
    ),
    max_size=5,
)


@FEWER
@given(PLACES, STEPS, st.integers(0, 5), st.integers(0, 5))
def test_chain_is_associative(files: set[str], steps: list[str], first: int, last: int) -> None:
    low, high = sorted((first, last))
    inner = f"{{type: Chain, transformations: [{', '.join(steps[low:high])}]}}"
    end = "{type: UniquePath, strategy: Append}"

    def result(parts: list[str]) -> dict[str, str]:
        return run(f"engine: {{type: Chain, transformations: [{', '.join([*parts, end])}]}}", files)

    assert result(steps) == result([*steps[:low], inner, *steps[high:]])


# UniquePath


def versions(strategy: str) -> str:
    """Return a transform that turns a, b and c into three versions of x, and resolves them."""
    return engine(f"chain: [{{type: RewritePath, rewriteTo: \"'x'\"}}, {{type: UniquePath, strategy: {strategy}}}]")


def test_unique_path_fails_where_it_says_nothing() -> None:
    sentence = refused(engine(f"chain: [{TWICE}, {{type: UniquePath}}]"), ["a"])
    assert sentence.startswith("accelerator.yaml:2: ")
    assert "'a'" in sentence


@pytest.mark.parametrize(("strategy", "wanted"), [("UseFirst", "1"), ("UseLast", "3"), ("Append", "123")])
def test_a_strategy_decides_by_order(strategy: str, wanted: str) -> None:
    assert run(versions(strategy), {"a": "1", "b": "2", "c": "3"}) == {"x": wanted}


@pytest.mark.parametrize(("strategy", "wanted"), [("FavorOwn", "3"), ("FavorForeign", "3")])
def test_outside_fragments_favouring_is_using_the_last(strategy: str, wanted: str) -> None:
    assert run(versions(strategy), {"a": "1", "b": "2", "c": "3"}) == {"x": wanted}


def test_append_puts_nothing_between() -> None:
    parts = {"a": b"no newline", "b": b"\xff\xfe\r\n", "c": b"\n\n"}
    assert found(project(versions("Append"), parts), "x").content == b"no newline\xff\xfe\r\n\n\n"


@pytest.mark.parametrize(("strategy", "mode"), [("Append", 0o755), ("UseFirst", 0o755), ("UseLast", 0o600)])
def test_a_strategy_decides_about_permission_bits_as_well(strategy: str, mode: int) -> None:
    files = {"a": Resource("a", b"1", 0o755), "b": Resource("b", b"2", 0o644), "c": Resource("c", b"3", 0o600)}
    assert found(project(versions(strategy), files), "x").mode == mode


def test_other_paths_are_left_alone() -> None:
    transform = "merge: [{include: [a]}, {include: [a, b]}]\nonConflict: Append"
    assert run(engine(transform), ["a", "b"]) == {"a": "aa", "b": "b"}


def test_an_unknown_strategy_is_refused_with_its_line() -> None:
    assert refused(engine("merge: [{include: [a]}]\nonConflict: Best"), ABC).startswith("accelerator.yaml:3: ")
    assert refused(engine("type: UniquePath\nstrategy: Best"), ABC).startswith("accelerator.yaml:3: ")


LINES = "".join(f"line {number}\n" for number in range(1, 8))


def changing(*pairs: tuple[str, str]) -> str:
    """Return a merge in which each child changes a line of its own."""
    children = (f"{{type: ReplaceText, substitutions: [{{text: {old}, with: \"'{new}'\"}}]}}" for old, new in pairs)
    return engine(f"merge: [{', '.join(children)}]\nonConflict: NWayDiff")


def test_nway_diff_merges_changes_in_different_places() -> None:
    result = run(changing(("line 1", "first"), ("line 4", "middle"), ("line 7", "last")), {"x": LINES})
    assert result == {"x": LINES.replace("line 1", "first").replace("line 4", "middle").replace("line 7", "last")}


def test_nway_diff_takes_the_same_change_twice_as_one() -> None:
    assert run(changing(("line 1", "first"), ("line 1", "first")), {"x": LINES}) == {
        "x": LINES.replace("line 1", "first")
    }


def test_nway_diff_refuses_changes_that_contradict_each_other() -> None:
    sentence = refused(changing(("line 4", "this"), ("line 4", "that")), {"x": LINES})
    assert sentence.startswith("accelerator.yaml:2: ")
    assert "'x'" in sentence


def test_nway_diff_keeps_line_ends_and_a_missing_one_at_the_end() -> None:
    text = LINES.replace("\n", "\r\n").rstrip()
    assert run(changing(("line 1", "1"), ("line 5", "5")), {"x": text}) == {
        "x": text.replace("line 1", "1").replace("line 5", "5")
    }


def test_nway_diff_keeps_the_attributes_of_the_first() -> None:
    files = {"a": Resource("a", LINES.encode(), EXECUTABLE), "b": Resource("b", LINES.encode(), 0o644)}
    assert found(project(versions("NWayDiff"), files), "x").mode == EXECUTABLE


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.binary(max_size=3)), max_size=6),
    st.sampled_from(["UseFirst", "UseLast", "Append", "FavorOwn", "FavorForeign"]),
)
def test_unique_path_is_idempotent(files: list[tuple[str, bytes]], strategy: str) -> None:
    tree = {f"{number}/{name}": content for number, (name, content) in enumerate(files)}
    flat = "{type: RewritePath, regex: '.*/(.)', rewriteTo: '#g1'}"
    step = f"{{type: UniquePath, strategy: {strategy}}}"
    once = project(f"engine: {{chain: [{flat}, {step}]}}", tree)
    twice = project(f"engine: {{chain: [{flat}, {step}, {step}]}}", tree)
    assert [found(once, name) for name, _ in files] == [found(twice, name) for name, _ in files]
    assert sorted(file.path for file in once.files if file.path != LOG) == sorted({name for name, _ in files})


# Let


def put(symbols: str, inner: str = "#n", more: str = "") -> str:
    """Return an engine that puts the value of an expression in place of X, below a let."""
    replacing = f'{{type: ReplaceText, substitutions: [{{text: X, with: "{inner}"}}]}}'
    return engine(f"let: [{symbols}]\n{more}chain: [{replacing}]")


def test_a_symbol_sees_those_before_it() -> None:
    assert run(put("{name: m, expression: \"'a'\"}, {name: n, expression: \"#m + 'b'\"}"), {"x": "X"}) == {"x": "ab"}


def test_a_symbol_does_not_see_those_after_it() -> None:
    manifest = put("{name: n, expression: \"'' + #m\"}, {name: m, expression: \"'a'\"}")
    assert run(manifest, {"x": "X"}) == {"x": "null"}


def test_a_symbol_may_be_made_of_what_it_shadows() -> None:
    assert run(put("{name: n, expression: \"#n + '!'\"}"), {"x": "X"}, {"n": "outer"}) == {"x": "outer!"}


def test_a_symbol_is_gone_after_its_body() -> None:
    transform = """
        chain:
          - let: [{name: n, expression: "'inner'"}]
            chain: [{type: ReplaceText, substitutions: [{text: X, with: "#n"}]}]
          - {type: ReplaceText, substitutions: [{text: Y, with: "#n"}]}
        """
    assert run(engine(transform), {"x": "XY"}, {"n": "outer"}) == {"x": "innerouter"}


def test_a_symbol_may_be_written_with_value() -> None:
    assert run(put("{name: n, value: \"'a'\"}"), {"x": "X"}) == {"x": "a"}


@pytest.mark.parametrize(
    ("expression", "inner", "wanted"),
    [
        ("true", "#n ? 'yes' : 'no'", "yes"),
        ("1", "#n + 1", "2"),
        ("{'a','b'}", "#n[1]", "b"),
        ("#map", "#n['k']", "v"),
        ("'1'", "#n + 1", "11"),
    ],
)
def test_a_symbol_keeps_its_type(expression: str, inner: str, wanted: str) -> None:
    manifest = put(f'{{name: n, expression: "{expression}"}}', inner)
    assert run(manifest, {"x": "X"}, {"map": {"k": "v"}}) == {"x": wanted}


def test_let_is_a_transform_too() -> None:
    transform = """
        type: Let
        symbols: [{name: n, expression: "'a'"}]
        in: {type: ReplaceText, substitutions: [{text: X, with: "#n"}]}
        """
    assert run(engine(transform), {"x": "X"}) == {"x": "a"}


@pytest.mark.parametrize("name", ["self", "scope", "files", "name", "class", "__init__"])
def test_a_symbol_may_have_any_name(name: str) -> None:
    assert run(put(f"{{name: {name}, expression: \"'a'\"}}", f"#{name}"), {"x": "X"}) == {"x": "a"}


def test_a_symbol_that_is_null_is_an_error() -> None:
    sentence = refused(put("{name: n, expression: '#missing'}"), {"x": "X"})
    assert sentence == "accelerator.yaml:2: Expression '#missing' evaluated to null"


@pytest.mark.parametrize("symbol", ["{expression: '1'}", "{name: n}", "{name: 5, expression: '1'}", "n", "5"])
def test_a_symbol_needs_a_name_and_an_expression(symbol: str) -> None:
    assert refused(put(symbol), {"x": "X"}).startswith("accelerator.yaml:2: ")


# ReplaceText


def replacing(*pairs: tuple[str, str]) -> Transform:
    return {"type": "ReplaceText", "substitutions": [{"text": text, "with": new} for text, new in pairs]}


def test_replace_text_replaces_all_occurrences_literally() -> None:
    assert one(replacing(("a.b", r"'$1\'")), "a.b axb a.b A.B") == b"$1\\ axb $1\\ A.B"


@pytest.mark.parametrize("longest_first", [True, False])
def test_the_longest_token_wins(longest_first: bool) -> None:
    pairs = [("DATA_SPACE", "'ns'"), ("DATA", "'db'")]
    assert one(replacing(*(pairs if longest_first else pairs[::-1])), "DATA DATA_SPACE DATA_") == b"db ns db_"


def test_a_token_within_a_longer_one_is_left_to_it() -> None:
    pairs = [("app", "'x'"), ("<name>app</name>", "'<name>y</name>'")]
    assert one(replacing(*pairs), "app <name>app</name>") == b"x <name>y</name>"


def test_what_was_put_in_is_not_looked_at_again() -> None:
    assert one(replacing(("a", "'b'"), ("b", "'a'")), "abab") == b"baba"
    assert one(replacing(("a", "'aa'")), "aa") == b"aaaa"


def test_two_replace_texts_work_one_after_the_other() -> None:
    transform = """
        chain:
          - {type: ReplaceText, substitutions: [{text: a, with: "'b'"}]}
          - {type: ReplaceText, substitutions: [{text: b, with: "'c'"}]}
        """
    assert one(transform, "ab") == b"cc"


def test_replace_text_without_anything_to_replace_is_identity() -> None:
    assert one("type: ReplaceText", "a") == b"a"
    assert one("type: ReplaceText\nsubstitutions: []", "a") == b"a"


@pytest.mark.parametrize("content", [b"", b"a", b"a\r\nb\r\n", b"a\rb", b"a\nb", b"\n", b"\xef\xbb\xbfa\n"])
def test_replace_text_keeps_line_ends_and_the_end(content: bytes) -> None:
    assert one(replacing(("b", "'B'")), content) == content.replace(b"b", b"B")


def test_replace_text_goes_across_lines() -> None:
    assert one('type: ReplaceText\nsubstitutions: [{text: "a\\nb", with: "\'x\'"}]', "a\nb a\r\nb") == b"x a\r\nb"


@pytest.mark.parametrize("content", [b"\xffa", b"a\x80", bytes(range(256)), b"PK\x03\x04\x00a\xc3"])
def test_what_is_no_text_stays_as_it_is(content: bytes) -> None:
    assert one(replacing(("a", "'b'")), content) == content
    assert one("type: ReplaceText\nregex: {pattern: a, with: \"'b'\"}", content) == content


def test_text_of_many_bytes_is_replaced() -> None:
    assert one(replacing(("é", "'日本'")), "café é").decode() == "caf日本 日本"


def test_a_value_is_turned_into_text() -> None:
    assert one(replacing(("a", "1"), ("b", "true"), ("c", "1.5")), "a b c") == b"1 true 1.5"


def test_a_replacement_is_evaluated_once_for_all_files() -> None:
    assert trace(engine(replacing(("a", "'b'"))), {"x": "a", "y": "a"}).count("Will replace") == 1


def test_a_replacement_that_is_null_is_an_error_also_without_files() -> None:
    sentence = refused(engine(replacing(("a", "#missing"))), [])
    assert sentence == "accelerator.yaml:1: Expression '#missing' evaluated to null"


def test_adding_null_to_a_text_is_no_error() -> None:
    assert one(replacing(("a", "'https://' + #bsGitRepository")), "a") == b"https://null"


def test_an_empty_text_cannot_be_replaced() -> None:
    assert refused(engine(replacing(("", "'b'"))), ["x"]).startswith("accelerator.yaml:1: ")


def test_a_number_may_be_replaced() -> None:
    assert one("type: ReplaceText\nsubstitutions: [{text: 25, with: '#port'}]", "1025", {"port": 8080}) == b"108080"


def by_regex(pattern: str, expression: str) -> Transform:
    return {"type": "ReplaceText", "regex": {"pattern": pattern, "with": expression}}


@pytest.mark.parametrize(
    ("pattern", "expression", "content", "wanted"),
    [
        ("a+", "'x'", "aabaa", "xbx"),
        ("a.c", "'x'", "abc a\nc", "x a\nc"),
        ("^a", "'x'", "a\na", "x\na"),
        ("(?m)^a", "'x'", "a\na", "x\nx"),
        ("a$", "'x'", "a\na", "a\nx"),
        ("(a)(b)", "'$2$1'", "ab ab", "ba ba"),
        ("(?<one>a)", "'<${one}>'", "a", "<a>"),
        ("a", "'\\$1'", "a", "$1"),
        ("a", "'\\\\'", "a", "\\"),
        ("a(?=b)", "'x'", "ab ac", "xb ac"),
        ("\\R", "'|'", "a\r\nb\nc", "a|b|c"),
        ("[\\s\\S]+", "'x'", "a\nb", "x"),
        ("(a)|(b)", "'<$1$2>'", "ab", "<a><b>"),
        ("(a)", "'$10'", "a", "a0"),
    ],
)
def test_a_regex_replaces_as_java_does(pattern: str, expression: str, content: str, wanted: str) -> None:
    assert one(by_regex(pattern, expression), content).decode() == wanted


def test_a_group_that_the_pattern_does_not_have_is_an_error() -> None:
    assert "1" in refused(engine(by_regex("a", "'$1'")), {"x": "a"}).removeprefix("accelerator.yaml:1: ")


def test_a_pattern_that_is_none_is_refused_with_its_line() -> None:
    transform = "type: ReplaceText\nregex:\n  with: '1'\n  pattern: '('"
    assert refused(engine(transform), ["a"]).startswith("accelerator.yaml:5: ")


def test_a_pattern_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java_regex, "SECONDS", 0.2)
    assert "(a|aa)+$" in refused(engine(by_regex("(a|aa)+$", "1")), {"x": "a" * 60 + "c"})


def test_a_file_of_the_accelerator_can_be_put_in_although_it_is_left_out() -> None:
    transform = {"include": ["x"], "chain": [replacing(("X", "#files.contentsOf('d/part')"))]}
    assert run(engine(transform), {"x": "[X]", "d/part": "a\nb\n"}) == {"x": "[a\nb\n]"}


def test_a_file_that_is_not_there_cannot_be_put_in() -> None:
    assert "'nowhere'" in refused(engine(replacing(("X", "#files.contentsOf('nowhere')"))), {"x": "X"})


# RewritePath


def rewriting(regex: str, target: str, **more: bool) -> str:
    return engine({"type": "RewritePath", "regex": regex, "rewriteTo": target, **more})


def test_a_path_is_rewritten_with_its_groups() -> None:
    manifest = rewriting(r"(.*)/(?<name>[^/]+)\.txt", "#name + '/' + #g1 + '/' + #g2 + '/' + #g0")
    assert paths(manifest, ["a/b.txt", "b.txt", "a/b.md"]) == ["a/b.md", "b.txt", "b/a/b/a/b.txt"]


def test_the_whole_path_has_to_match() -> None:
    assert paths(rewriting("b", "'x'"), ["a/b", "bb", "b"]) == ["a/b", "bb", "x"]


def test_a_group_that_matched_nothing_is_null() -> None:
    manifest = rewriting(
        "(?<folder>.*/)?(?<file>[^/]+)", "(#folder != null ? #folder : 'root/') + #file + (#g1 == null)"
    )
    assert paths(manifest, ["a", "b/c"]) == ["b/cfalse", "root/atrue"]


def test_the_default_regex_has_folder_filename_and_ext() -> None:
    target = "(#folder == null ? '' : #folder) + 'x-' + #filename + (#ext == null ? '.none' : #ext)"
    manifest = engine(f'type: RewritePath\nrewriteTo: "{target}"')
    files = ["a.b.txt", "d/e/f.md", "Makefile", "d/.x", "g.d/h"]
    wanted = ["d/e/x-f.md.md", "d/x-.x.none", "g.d/x-h.none", "x-Makefile.none", "x-a.b.txt.txt"]
    assert paths(manifest, files) == wanted


def test_a_rewrite_without_properties_is_identity() -> None:
    assert paths(engine("type: RewritePath"), ["README", "a/b.c", ".x"]) == [".x", "README", "a/b.c"]


def test_a_regex_without_a_target_leaves_no_null_in_paths() -> None:
    assert paths(engine("type: RewritePath\nrewriteTo: '#folder + #filename'"), ["a/b"]) == ["a/b"]


def test_a_path_that_does_not_match_stays_unless_it_has_to() -> None:
    assert paths(rewriting("b", "'x'", matchOrFail=False), ["a"]) == ["a"]
    sentence = refused(rewriting("b", "'x'", matchOrFail=True), ["a"])
    assert sentence.startswith("accelerator.yaml:1: ")
    assert "'a'" in sentence


def test_two_files_that_are_rewritten_onto_one_path_are_an_error() -> None:
    assert "'x'" in refused(rewriting(".*", "'x'"), ["a", "b"])


def test_a_new_path_that_is_null_is_an_error() -> None:
    assert "evaluated to null" in refused(rewriting(".*", "#missing"), ["a"])


def test_groups_shadow_variables_for_the_new_path_alone() -> None:
    transform = """
        chain:
          - {type: RewritePath, regex: "(?<n>.*)", rewriteTo: "#n + '.x'"}
          - {type: ReplaceText, substitutions: [{text: a, with: "#n"}]}
        """
    assert run(engine(transform), ["a"], {"n": "outer"}) == {"a.x": "outer"}


def test_the_new_path_is_seen_by_what_follows() -> None:
    transform = "chain: [{type: RewritePath, rewriteTo: \"'x/' + #g0\"}, {type: Include, patterns: ['x/*']}]"
    assert paths(engine(transform), ["a", "b"]) == ["x/a", "x/b"]


# UseEncoding


def test_a_charset_is_used_to_read_and_to_write() -> None:
    transform = {"chain": [{"type": "UseEncoding", "encoding": "ISO-8859-1"}, replacing(("ä", "'öß'"))]}
    assert one(transform, b"a\xe4\xff") == b"a\xf6\xdf\xff"


@pytest.mark.parametrize(
    "name", ["UTF-8", "utf8", "ISO-8859-1", "ISO8859_1", "windows-1252", "Cp1252", "US-ASCII", "UTF-16LE"]
)
def test_charsets_have_the_names_that_java_gives_them(name: str) -> None:
    assert one(f"type: UseEncoding\nencoding: {name}", "a") == b"a"


def test_a_charset_alone_changes_nothing() -> None:
    assert one("type: UseEncoding\nencoding: UTF-16", b"\xff\x00a") == b"\xff\x00a"


def test_a_text_that_the_charset_cannot_hold_leaves_the_file_as_it_is() -> None:
    transform = {"chain": [{"type": "UseEncoding", "encoding": "ISO-8859-1"}, replacing(("a", "'日'"))]}
    assert one(transform, b"a\xe4") == b"a\xe4"


def test_two_charsets_for_one_file_are_an_error() -> None:
    transform = "chain: [{type: UseEncoding, encoding: UTF-8}, {type: UseEncoding, encoding: UTF-8}]"
    sentence = refused(engine(transform), ["a"])
    assert sentence.startswith("accelerator.yaml:2: ")
    assert "'a'" in sentence


def test_two_charsets_for_different_files_are_fine() -> None:
    transform = """
        merge:
          - {include: [a], chain: [{type: UseEncoding, encoding: UTF-8}]}
          - {include: [b], chain: [{type: UseEncoding, encoding: UTF-16}]}
        """
    assert paths(engine(transform), ["a", "b"]) == ["a", "b"]


@pytest.mark.parametrize("name", ["nonsense", "rot13", "''", "5", "[UTF-8]", '"a\\0b"', '"\\uD800"', "base64"])
def test_an_unknown_charset_is_refused_with_its_line(name: str) -> None:
    assert refused(engine(f"type: UseEncoding\nencoding: {name}"), ["a"]).startswith("accelerator.yaml:3: ")


# Loop

LIST = {"list": ["p", "q", "r"]}


def test_do_as_chain_feeds_each_result_into_the_next_round() -> None:
    transform = 'type: Loop\non: "#list"\nvar: v\ndoAsChain: {type: RewritePath, rewriteTo: "#g0 + #v"}'
    assert paths(engine(transform), ["a"], LIST) == ["apqr"]


def test_do_as_merge_runs_each_round_on_the_input() -> None:
    transform = 'type: Loop\non: "#list"\nvar: v\ndoAsMerge: {type: RewritePath, rewriteTo: "#g0 + #v"}'
    assert paths(engine(transform), ["a", "b"], LIST) == ["ap", "aq", "ar", "bp", "bq", "br"]


def test_do_as_merge_resolves_no_conflicts() -> None:
    transform = 'type: Loop\non: "#list"\ndoAsMerge: {type: Chain}'
    assert "'a'" in refused(engine(transform), ["a"], LIST)


def test_the_index_counts_from_zero() -> None:
    transform = 'type: Loop\non: "#list"\nvar: v\nindex: i\ndoAsMerge: {type: RewritePath, rewriteTo: "#v + #i"}'
    assert paths(engine(transform), ["a"], LIST) == ["p0", "q1", "r2"]


@pytest.mark.parametrize(("kind", "wanted"), [("doAsMerge", []), ("doAsChain", ["a"])])
def test_a_loop_over_nothing(kind: str, wanted: list[str]) -> None:
    assert paths(engine(f"type: Loop\non: '#list'\n{kind}: {{type: Chain}}"), ["a"], {"list": []}) == wanted


def test_a_bare_name_is_a_variable() -> None:
    transform = "type: Loop\non: list\nvar: v\ndoAsChain: {type: RewritePath, rewriteTo: '#g0 + #v'}"
    assert paths(engine(transform), ["a"], LIST) == ["apqr"]


def test_a_loop_goes_over_mappings() -> None:
    transform = (
        "type: Loop\non: '#tasks'\nvar: t\ndoAsMerge: {type: RewritePath, rewriteTo: \"#t['name'] + #t['done']\"}"
    )
    tasks = [{"name": "x", "done": True}, {"name": "y", "done": False}]
    assert paths(engine(transform), ["a"], {"tasks": tasks}) == ["xtrue", "yfalse"]


def test_a_variable_of_a_loop_shadows_and_is_gone_after_it() -> None:
    transform = """
        chain:
          - {type: Loop, on: "#list", var: v, doAsChain: {type: RewritePath, rewriteTo: "#g0 + #v"}}
          - {type: RewritePath, rewriteTo: "#g0 + #v"}
        """
    assert paths(engine(transform), ["a"], {**LIST, "v": "-outer"}) == ["apqr-outer"]


def test_a_condition_within_do_as_merge_chooses_rounds() -> None:
    transform = """
        type: Loop
        on: "#list"
        var: v
        doAsMerge: {condition: "#v != 'q'", chain: [{type: RewritePath, rewriteTo: "#v"}]}
        """
    assert paths(engine(transform), ["a"], LIST) == ["p", "r"]


def test_a_condition_within_do_as_chain_skips_rounds() -> None:
    transform = """
        type: Loop
        on: "#list"
        var: v
        doAsChain: {condition: "#v != 'q'", chain: [{type: RewritePath, rewriteTo: "#g0 + #v"}]}
        """
    assert paths(engine(transform), ["a"], LIST) == ["apr"]


@pytest.mark.parametrize("body", ["", "doAsMerge: {type: Chain}\ndoAsChain: {type: Chain}"])
def test_a_loop_does_exactly_one_of_two(body: str) -> None:
    assert refused(engine(f"type: Loop\non: '#list'\n{body}"), ["a"], LIST).startswith("accelerator.yaml:2: ")


@pytest.mark.parametrize("answer", ["text", 5, True, {"a": 1}])
def test_a_loop_needs_a_list(answer: object) -> None:
    transform = "type: Loop\non: '#list'\ndoAsChain: {type: Chain}"
    assert refused(engine(transform), ["a"], {"list": answer}).startswith("accelerator.yaml:2: ")


def test_a_loop_over_null_is_an_error() -> None:
    assert "evaluated to null" in refused(engine("type: Loop\non: '#list'\ndoAsChain: {type: Chain}"), ["a"])


# Provenance


def test_provenance_in_a_chain_adds_a_file() -> None:
    assert paths(engine("chain: [{include: [a]}, {type: Provenance}]"), ABC) == ["a", "accelerator-info.yaml"]


def test_provenance_in_a_merge_is_the_file_alone() -> None:
    assert paths(engine("merge: [{include: [a]}, {type: Provenance}]"), ABC) == ["a", "accelerator-info.yaml"]
    assert paths(engine("merge: [{type: Provenance}]"), ABC) == ["accelerator-info.yaml"]


def test_provenance_can_be_the_whole_engine() -> None:
    assert paths(engine("type: Provenance"), ABC) == ["a", "accelerator-info.yaml", "b", "c/d"]


def test_provenance_tells_the_options_and_the_accelerator() -> None:
    page = run(engine("type: Provenance"), [], {"projectName": "x", "flag": True, "size": 17, "list": ["a"]})
    told = yaml.safe_load(page["accelerator-info.yaml"])
    assert told["options"].items() >= {"projectName": "x", "flag": True, "size": 17, "list": ["a"]}.items()
    assert told["accelerator"]["name"] == "sample"
    assert re.fullmatch(r"[0-9a-f-]{36}", told["id"])
    assert re.match(r"\d{4}-\d\d-\d\dT", str(told["timestamp"]).replace(" ", "T"))


# OpenRewriteRecipe


def test_a_recipe_is_refused_by_its_name() -> None:
    sentence = refused(engine("type: OpenRewriteRecipe\nrecipe: org.openrewrite.java.ChangePackage"), ABC)
    assert sentence.startswith("accelerator.yaml:2: ")
    assert "org.openrewrite.java.ChangePackage" in sentence


def test_a_recipe_that_is_not_reached_is_no_mistake() -> None:
    recipe = "{type: OpenRewriteRecipe, recipe: org.x, options: {a: \"'b'\"}}"
    assert paths(engine(f"condition: 'false'\nchain: [{recipe}]"), ABC) == ABC


# YTT

TEMPLATE = "#@ load('@ytt:data', 'data')\nname: #@ data.values.projectName\nsize: #@ data.values.size + 1\n"
NO_SCHEMA = {"projectName": "demo", "size": 2}


@pytest.mark.usefixtures("ytt")
class TestYtt:
    def test_fills_templates_with_all_variables(self) -> None:
        result = run(engine("type: YTT"), {"x.yaml": TEMPLATE}, NO_SCHEMA)
        assert result == {"x.yaml": "name: demo\nsize: 3\n"}

    def test_sees_implied_options_and_symbols(self) -> None:
        template = "#@ load('@ytt:data', 'data')\n#@ v = data.values\nall: #@ [v.artifactId, v.artifactVersion, v.n]\n"
        transform = "let: [{name: n, expression: '{1, true}'}]\nchain: [{type: YTT}]"
        result = run(engine(transform), {"x.yml": template}, NO_SCHEMA)
        assert result == {"x.yml": "all:\n- demo\n- 0.0.1-beta\n- - 1\n  - true\n"}

    def test_sees_no_helper_functions(self) -> None:
        template = "#@ load('@ytt:data', 'data')\nthere: #@ hasattr(data.values, 'files')\n"
        assert run(engine("type: YTT"), {"x.yml": template}, {}) == {"x.yml": "there: false\n"}

    def test_takes_extra_arguments(self) -> None:
        transform = "type: YTT\nextraArgs: [\"'--data-value'\", \"'projectName=' + #projectName + '2'\"]"
        assert run(engine(transform), {"x.yaml": TEMPLATE}, NO_SCHEMA) == {"x.yaml": "name: demo2\nsize: 3\n"}

    def test_says_what_it_did(self) -> None:
        page = trace(engine("type: YTT\nextraArgs: [\"'--debug'\"]"), {"x.yaml": "a: 1\n"}, {"projectName": "p"})
        assert re.search(r"Info Shelling out to YTT with args: \[ytt, -f, .*, --data-values-file, .*--debug\]", page)
        assert "Debug Wrote values file with json content:   {" in page

    def test_keeps_permission_bits(self) -> None:
        done = project(engine("type: YTT"), {"x.yaml": Resource("x.yaml", b"a: 1\n", EXECUTABLE)})
        assert found(done, "x.yaml").mode == EXECUTABLE

    def test_what_it_writes_is_the_whole_result(self) -> None:
        files = {
            ".gitignore": "*\n",
            "build/x.yaml": "a: 1\n",
            "x.txt": "x",
            "values.yml": "#@data/values\n---\na: 1\n",
        }
        assert paths(engine("type: YTT"), files) == ["build/x.yaml", "x.txt"]

    def test_normalizes_the_paths_that_it_reads(self) -> None:
        files = {"x.yaml": Resource("x.yaml", b"a: 1\n", EXECUTABLE)}
        done = project(engine("chain: [{type: RewritePath, rewriteTo: \"'d//' + #g0\"}, {type: YTT}]"), files)
        assert found(done, "d/x.yaml").mode == EXECUTABLE

    def test_a_template_that_fails_is_an_error(self) -> None:
        sentence = refused(engine("type: YTT"), {"x.yaml": "a: #@ nonsense\n"})
        assert sentence.startswith("accelerator.yaml:2: ")
        assert "x.yaml" in sentence

    def test_of_nothing_is_nothing(self) -> None:
        assert paths(engine("chain: [{include: []}, {type: YTT}]"), ["a.yaml"]) == []

    @pytest.mark.parametrize(
        "argument",
        [
            "-f/etc/hostname", "-f../", "-f..", "-f=/etc/hostname", "--file=/etc/hostname", "--file=x=/etc/hostname",
            "--data-value-file=a=/etc/hostname", "--data-values-file=@lib:/etc/hostname", "-fhttps://localhost/x",
            "--output-files=/tmp", "--dangerous-allow-all-symlink-destinations", "/etc/hostname", "..", "~/x",
        ],
    )  # fmt: skip
    def test_may_not_look_outside_the_project(self, argument: str) -> None:
        sentence = refused(engine(f"type: YTT\nextraArgs: [\"'{argument}'\"]"), {"x.yaml": "a: 1\n"})
        assert argument in sentence

    def test_does_not_see_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SECRET_password", "hidden")
        template = "#@ load('@ytt:data', 'data')\nall: #@ data.values\n"
        result = run(engine("type: YTT\nextraArgs: [\"'--data-values-env'\", \"'SECRET'\"]"), {"x.yaml": template})
        assert "hidden" not in result["x.yaml"]

    @pytest.mark.parametrize(
        "expression",
        [
            "T(org.springframework.web.util.UriComponentsBuilder).fromUriString('http://a/b').build(true)",
            "#huge",
            "1.0 / 0",
            "'\\uD800'",
        ],
    )
    def test_a_value_that_json_does_not_know_is_no_crash(self, expression: str) -> None:
        manifest = engine(f'let: [{{name: n, expression: "{expression}"}}]\nchain: [{{type: YTT}}]')
        with contextlib.suppress(*REFUSALS):
            assert run(manifest, {"x.yaml": "a: 1\n"}, {"huge": 10**40}) == {"x.yaml": "a: 1\n"}


def test_ytt_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "ytt" in refused(engine("type: YTT"), ABC)
    assert paths(engine("type: YTT\ncondition: false"), ABC) == ABC


# Bits and bytes

EVERYTHING = {
    "Include": "{include: ['**']}",
    "Exclude": "{exclude: [nothing]}",
    "applyTo": "{applyTo: ['**'], chain: [{type: ReplaceText}]}",
    "merge": "{merge: [{include: ['**']}, {include: ['**']}]}",
    "let": "{let: [{name: n, expression: '1'}], chain: []}",
    "Loop": "{type: Loop, on: '{1, 2}', doAsChain: {type: Chain}}",
    "ReplaceText": "{type: ReplaceText, substitutions: [{text: nothing here, with: \"'x'\"}]}",
    "regex": "{type: ReplaceText, regex: {pattern: nothing here, with: \"'x'\"}}",
    "RewritePath": "{chain: [{type: RewritePath, rewriteTo: \"'x/' + #g0\"}, "
    "{type: RewritePath, regex: 'x/(.*)', rewriteTo: '#g1'}]}",
    "UseEncoding": "{type: UseEncoding, encoding: UTF-16}",
    "InvokeFragment": "{type: InvokeFragment, reference: f}",
    "Provenance": "{chain: [{type: Provenance}, {exclude: [accelerator-info.yaml]}]}",
    "NWayDiff": "{merge: [{include: ['**']}, {include: ['**']}], onConflict: NWayDiff}",
}


@pytest.mark.parametrize("transform", EVERYTHING.values(), ids=EVERYTHING)
@settings(max_examples=10)
@given(content=st.binary(max_size=40), mode=st.sampled_from([0o644, 0o755, 0o600, 0o444, 0o777, 0o400]))
def test_permission_bits_and_bytes_go_through_everything(transform: str, content: bytes, mode: int) -> None:
    files = {"a": Resource("a", content, mode), "d/b": Resource("d/b", content[::-1], 0o644)}
    manifest = f"{{accelerator: {{imports: [{{name: f}}]}}, engine: {transform}}}"
    done = project(manifest, files, {}, {"f": Fragment(None)})
    result = {file.path: (file.content, file.mode) for file in done.files if file.path != "accelerator-log.md"}
    assert result == {"a": (content, mode), "d/b": (content[::-1], 0o644)}


def test_permission_bits_survive_a_move_and_new_contents() -> None:
    transform = {"chain": [{"type": "RewritePath", "rewriteTo": "'bin/' + #g0"}, replacing(("x", "'y'"))]}
    done = project(engine(transform), {"mvnw": Resource("mvnw", b"x", EXECUTABLE)})
    assert dataclasses.replace(found(done, "bin/mvnw"), ancestor=None) == Resource("bin/mvnw", b"y", EXECUTABLE)


def test_the_same_accelerator_can_run_twice() -> None:
    accelerator = loaded(engine(replacing(("a", "#v"))), {"x": "a"})
    assert [found(generate(accelerator, {"v": v}), "x").content for v in ("1", "2")] == [b"1", b"2"]


# Bounds


def test_merges_that_double_the_files_are_stopped() -> None:
    doubling = "{type: Merge, sources: [{type: Chain}, {type: Chain}]}"
    assert refused(engine(f"type: Chain\ntransformations: [{', '.join([doubling] * 60)}]"), ["a"])


def test_appending_that_doubles_a_file_is_stopped() -> None:
    doubling = "{merge: [{type: Chain}, {type: Chain}], onConflict: Append}"
    assert refused(engine(f"chain: [{', '.join([doubling] * 60)}]"), {"a": "x" * 1000})


def test_replacements_that_let_a_file_grow_are_stopped() -> None:
    growing = replacing(("x", "'x'.repeat(1000)"))
    assert refused(engine({"chain": [growing] * 60}), {"a": "x" * 10})


def test_loops_within_loops_are_stopped() -> None:
    body = "{type: Chain}"
    for _ in range(8):
        body = f"{{type: Loop, on: '#list', doAsChain: {body}}}"
    assert refused(f"engine: {body}", ["a"], {"list": list(range(50))})


def test_symbols_that_double_a_list_are_stopped() -> None:
    symbols = "{name: n, expression: '{1}'}, " + ", ".join(["{name: n, expression: '{#n, #n}'}"] * 60)
    assert refused(put(symbols, "#n"), {"x": "X"})
