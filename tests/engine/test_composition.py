"""Include, Exclude, Chain, Merge and Combo."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .running import ABC, DOUBLED, engine, paths, refused, run

# Include and Exclude


def test_include_keeps_files_that_match_any_pattern() -> None:
    assert paths(engine("type: Include\npatterns: [a, 'c/*']"), ABC) == ["a", "c/d"]


def test_exclude_drops_files_that_match_any_pattern() -> None:
    assert paths(engine("type: Exclude\npatterns: [a, 'c/*']"), ABC) == ["b"]


def test_a_single_pattern_may_stand_without_a_list() -> None:
    assert paths(engine("type: Include\npatterns: '*'"), ABC) == ["a", "b"]
    assert paths(engine("include: '*'\nexclude: b"), ABC) == ["a"]


def test_include_of_nothing_keeps_nothing() -> None:
    assert paths(engine("include: []"), ABC) == []


def test_exclude_of_nothing_keeps_everything() -> None:
    assert paths(engine("exclude: []"), ABC) == ABC


@pytest.mark.parametrize(
    ("pattern", "expected"),
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
def test_patterns_are_those_of_ant(pattern: str, expected: list[str]) -> None:
    files = ["..b", ".x/y", "A.csproj", "a/b/templates/t", "templates/x"]
    assert paths(engine(f"include: ['{pattern}']"), files) == expected


# Chain, Merge and Combo


def test_an_empty_chain_is_identity() -> None:
    assert paths(engine("type: Chain\ntransformations: []"), ABC) == ABC


def test_an_empty_merge_is_nothing() -> None:
    assert paths(engine("type: Merge\nsources: []"), ABC) == []


def test_an_empty_merge_of_a_combo_does_nothing() -> None:
    assert paths(engine("merge: []"), ABC) == ABC


def test_an_empty_chain_of_a_combo_is_identity() -> None:
    assert paths(engine("chain: []"), ABC) == ABC


def test_a_combo_with_a_condition_alone_is_identity() -> None:
    assert paths(engine("condition: 'true'"), ABC) == ABC


@pytest.mark.parametrize("combo", ["{}", "{name: x}", "{type: Combo}"])
def test_a_combo_needs_a_property(combo: str) -> None:
    assert refused(f"engine: {combo}", ABC).startswith("accelerator.yaml:1: ")


def test_a_chain_passes_each_result_to_the_next_transform() -> None:
    transform = """
        type: Chain
        transformations:
          - {type: RewritePath, rewriteTo: "#g0 + '.1'"}
          - {type: RewritePath, rewriteTo: "#g0 + '.2'"}
        """
    assert paths(engine(transform), ["a"]) == ["a.1.2"]


def test_apply_to_leaves_other_files_unchanged() -> None:
    transform = "type: Chain\napplyTo: [a]\ntransformations: [{type: RewritePath, rewriteTo: \"'new'\"}]"
    assert run(engine(transform), ABC) == {"new": "a", "b": "b", "c/d": "c/d"}


def test_apply_to_puts_other_files_first() -> None:
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


def test_combo_runs_include_exclude_merge_and_chain_in_this_order() -> None:
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


def test_the_default_strategy_of_a_combo_is_use_last() -> None:
    transform = "merge: [{include: [a]}, {type: ReplaceText, substitutions: [{text: a, with: \"'new'\"}]}]"
    assert run(engine(transform), ["a"]) == {"a": "new"}


@pytest.mark.parametrize("strategy", ["UseFirst", "UseLast", "Append"])
def test_on_conflict_without_merge_does_nothing(strategy: str) -> None:
    assert "'a'" in refused(engine(f"chain: [{DOUBLED}, {{onConflict: {strategy}, include: ['**']}}]"), ["a"])


def test_on_conflict_needs_a_merge_even_if_it_changes_nothing() -> None:
    transform = f"chain: [{DOUBLED}, {{onConflict: UseFirst, merge: [{{type: ReplaceText}}]}}]"
    assert run(engine(transform), ["a"]) == {"a": "a"}


def test_apply_to_affects_a_combos_chain_and_not_its_merge() -> None:
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


def selected(files: set[str], *transforms: str) -> list[str]:
    return paths(f"engine: {{type: Chain, transformations: [{', '.join(transforms)}]}}", files)


@FEWER
@given(PLACES, SELECTIONS, SELECTIONS)
def test_include_after_include_is_the_intersection(files: set[str], first: list[str], second: list[str]) -> None:
    p, q = f"{{type: Include, patterns: {first}}}", f"{{type: Include, patterns: {second}}}"
    assert set(selected(files, p, q)) == set(selected(files, p)) & set(selected(files, q))


@FEWER
@given(PLACES, SELECTIONS)
def test_exclude_is_the_complement_of_include(files: set[str], patterns: list[str]) -> None:
    included = selected(files, f"{{type: Include, patterns: {patterns}}}")
    dropped = selected(files, f"{{type: Exclude, patterns: {patterns}}}")
    assert sorted([*included, *dropped]) == sorted(files)


@FEWER
@given(PLACES, SELECTIONS, SELECTIONS)
def test_merge_concatenates_the_results_of_its_children(files: set[str], first: list[str], second: list[str]) -> None:
    p, q = f"{{type: Include, patterns: {first}}}", f"{{type: Include, patterns: {second}}}"
    append = "{type: UniquePath, strategy: Append}"
    result = run(f"engine: {{type: Chain, transformations: [{{type: Merge, sources: [{p}, {q}]}}, {append}]}}", files)
    counts = {path: (path in selected(files, p)) + (path in selected(files, q)) for path in files}
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
