"""UniquePath and its strategies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelerator_engine.tree import EXECUTABLE, Resource

from .running import ABC, DOUBLED, LOG, engine, file_at, project, refused, run


def versions(strategy: str) -> str:
    """Return a transform that turns a, b and c into three versions of x, and resolves them."""
    return engine(f"chain: [{{type: RewritePath, rewriteTo: \"'x'\"}}, {{type: UniquePath, strategy: {strategy}}}]")


def test_the_default_strategy_of_unique_path_is_fail() -> None:
    sentence = refused(engine(f"chain: [{DOUBLED}, {{type: UniquePath}}]"), ["a"])
    assert sentence.startswith("accelerator.yaml:2: ")
    assert "'a'" in sentence


@pytest.mark.parametrize(("strategy", "expected"), [("UseFirst", "1"), ("UseLast", "3"), ("Append", "123")])
def test_a_strategy_decides_by_order(strategy: str, expected: str) -> None:
    assert run(versions(strategy), {"a": "1", "b": "2", "c": "3"}) == {"x": expected}


@pytest.mark.parametrize(("strategy", "expected"), [("FavorOwn", "3"), ("FavorForeign", "3")])
def test_outside_fragments_favouring_is_using_the_last(strategy: str, expected: str) -> None:
    assert run(versions(strategy), {"a": "1", "b": "2", "c": "3"}) == {"x": expected}


def test_append_adds_no_separator() -> None:
    parts = {"a": b"no newline", "b": b"\xff\xfe\r\n", "c": b"\n\n"}
    assert file_at(project(versions("Append"), parts), "x").content == b"no newline\xff\xfe\r\n\n\n"


@pytest.mark.parametrize(("strategy", "mode"), [("Append", 0o755), ("UseFirst", 0o755), ("UseLast", 0o600)])
def test_a_strategy_decides_about_permission_bits_too(strategy: str, mode: int) -> None:
    files = {"a": Resource("a", b"1", 0o755), "b": Resource("b", b"2", 0o644), "c": Resource("c", b"3", 0o600)}
    assert file_at(project(versions(strategy), files), "x").mode == mode


def test_unique_paths_stay_unchanged() -> None:
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


def test_nway_diff_merges_equal_changes() -> None:
    assert run(changing(("line 1", "first"), ("line 1", "first")), {"x": LINES}) == {
        "x": LINES.replace("line 1", "first")
    }


def test_nway_diff_refuses_conflicting_changes() -> None:
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
    assert file_at(project(versions("NWayDiff"), files), "x").mode == EXECUTABLE


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
    assert [file_at(once, name) for name, _ in files] == [file_at(twice, name) for name, _ in files]
    assert sorted(file.path for file in once.files if file.path != LOG) == sorted({name for name, _ in files})
