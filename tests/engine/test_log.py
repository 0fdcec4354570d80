"""The trace of a run, which every result contains as accelerator-log.md."""

import json
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .running import LOG, Fragment, engine, paths, project, trace

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def trace_lines(
    transform: str, files: Any = ("a", "b"), answers: dict[str, Any] | None = None, fragments: Any = None
) -> list[str]:
    """Return the lines of the engine section in a trace, without those of the steps around it."""
    manifest = transform if transform.startswith("accelerator:") else engine(transform)
    lines = trace(manifest, files, answers, fragments).split("## Log\n```\n")[1].removesuffix("\n```\n").split("\n")
    # Around it stand the two lines of the root, one line per file of the manifest's exclusion, and UniquePath.
    return lines[5 + len(files) : -1]


def printed_options(answers: dict[str, Any]) -> str:
    return trace(engine("include: ['**']"), [], answers).split("## Options\n```json\n")[1].split("\n```\n## Log\n")[0]


def lines_of(text: str) -> list[str]:
    return dedent(text).strip("\n").split("\n")


def test_the_page_has_two_parts() -> None:
    page = trace(engine("chain: []"), ["b", "d/a", "a"], {"projectName": "demo", "flag": True, "tags": []})
    assert page == dedent(
        """\
        # Accelerator Log

        ## Options
        ```json
        {
          "projectName" : "demo",
          "flag" : true,
          "tags" : [ ]
        }
        ```
        ## Log
        ```
        ┏ engine (Chain)
        ┃  Info Running Chain(Exclude, GeneratorValidationTransform, UniquePath)
        ┃ ┏ engine.transformations[0] (Exclude)
        ┃ ┃  Info Will exclude [accelerator.yaml, accelerator.axl]
        ┃ ┃ Debug a didn't match [accelerator.yaml, accelerator.axl] -> included
        ┃ ┃ Debug accelerator.yaml matched [accelerator.yaml, accelerator.axl] -> excluded
        ┃ ┃ Debug b didn't match [accelerator.yaml, accelerator.axl] -> included
        ┃ ┗ Debug d/a didn't match [accelerator.yaml, accelerator.axl] -> included
        ┃ ┏ ┏ engine.transformations[1].validated (Combo)
        ┃ ┃ ┃  Info Combo running as Chain
        ┃ ┃ ┃ engine.transformations[1].validated.delegate (Chain)
        ┃ ┗ ┗  Info Running Chain()
        ┗ ╺ engine.transformations[2] (UniquePath)
        ```
        """
    )


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({}, "{ }"),
        ({"a": {}}, '{\n  "a" : { }\n}'),
        ({"a": ["x", 1, True, None]}, '{\n  "a" : [ "x", 1, true, null ]\n}'),
        ({"a": 'é"\n'}, '{\n  "a" : "é\\"\\n"\n}'),
        ({"a": [{"k": 1}, {"k": 2}]}, '{\n  "a" : [ {\n    "k" : 1\n  }, {\n    "k" : 2\n  } ]\n}'),
        ({"z": 1.5, "a": {"k": {"l": []}}}, '{\n  "z" : 1.5,\n  "a" : {\n    "k" : {\n      "l" : [ ]\n    }\n  }\n}'),
    ],
)
def test_options_are_printed_as_jackson_prints_them(answers: dict[str, Any], expected: str) -> None:
    assert printed_options(answers) == expected


@given(
    st.dictionaries(
        st.text(max_size=8).filter(lambda name: name not in ("projectName", "artifactId")), JSON, max_size=4
    )
)
def test_options_are_json(answers: dict[str, Any]) -> None:
    assert json.loads(printed_options(answers)) == json.loads(
        json.dumps(answers, ensure_ascii=False).encode(errors="backslashreplace")
    )


def test_only_given_answers_are_in_the_trace() -> None:
    page = trace("accelerator: {options: [{name: a, defaultValue: x}]}", [], {"projectName": "p"})
    assert '{\n  "projectName" : "p"\n}' in page
    assert "artifactId" not in page


def test_every_result_has_a_trace_which_replaces_a_file_of_its_name() -> None:
    for manifest in (None, "accelerator: {}", engine("include: []")):
        generated = project(manifest, {LOG: "mine", "d/" + LOG: "kept"})
        pages = [file for file in generated.files if file.path == LOG]
        assert [page.content.startswith(b"# Accelerator Log\n\n## Options\n") for page in pages] == [True]
        assert pages[0].mode == 0o644


def test_include_and_exclude_log_each_decision() -> None:
    assert trace_lines("include: [a, 'x*']") == lines_of("""
        ┃ ┏ ┏ engine.transformations[1].validated (Combo)
        ┃ ┃ ┃  Info Combo running as Include
        ┃ ┃ ┃ engine.transformations[1].validated.delegate (Include)
        ┃ ┃ ┃  Info Will include [a, x*]
        ┃ ┃ ┃ Debug a matched [a, x*] -> included
        ┃ ┗ ┗ Debug b didn't match [a, x*] -> excluded
        """)
    assert trace_lines("type: Exclude\npatterns: [a]") == lines_of("""
        ┃ ┏ ┏ engine.transformations[1].validated (Exclude)
        ┃ ┃ ┃  Info Will exclude [a]
        ┃ ┃ ┃ Debug a matched [a] -> excluded
        ┃ ┗ ┗ Debug b didn't match [a] -> included
        """)


def test_an_inactive_transform_logs_its_condition() -> None:
    assert trace_lines("condition: \"#x == 'y'\"\ninclude: [a]") == lines_of("""
        ┃ ┏ ┏ engine.transformations[1].validated (Combo)
        ┃ ┃ ┃  Info Condition (#x == 'y') evaluated to false
        ┃ ┗ ┗ null ()
        """)


def test_an_active_transform_logs_its_condition() -> None:
    assert trace_lines(
        "condition: '#x'\nlet: [{name: n, expression: '#x'}]\ninclude: [a]", ["a"], {"x": True}
    ) == lines_of("""
        ┃ ┏ ┏ engine.transformations[1].validated (Combo)
        ┃ ┃ ┃  Info Condition (#x) evaluated to true
        ┃ ┃ ┃  Info Combo running as Let
        ┃ ┃ ┃ engine.transformations[1].validated.delegate (Let)
        ┃ ┃ ┃ Debug Adding symbol n with value 'true'
        ┃ ┃ ┃ ┏ engine.transformations[1].validated.delegate.in (Chain)
        ┃ ┃ ┃ ┃  Info Running Chain(Include)
        ┃ ┃ ┃ ┃ ┏ engine.transformations[1].validated.delegate.in.transformations[0] (Include)
        ┃ ┃ ┃ ┃ ┃  Info Will include [a]
        ┃ ┗ ┗ ┗ ┗ Debug a matched [a] -> included
        """)


def test_a_combo_numbers_its_parts_and_the_chain_follows_in_the_same_node() -> None:
    transform = """
        include: ["**"]
        exclude: [b]
        merge: [{type: ReplaceText}, {type: ReplaceText}]
        chain: [{type: ReplaceText}, {type: Provenance}]
        """
    assert trace_lines(transform, ["a"]) == lines_of(
        """
        ┃ ┏ ┏ engine.transformations[1].validated (Combo)
        ┃ ┃ ┃  Info Combo running as Chain
        ┃ ┃ ┃ engine.transformations[1].validated.delegate (Chain)
        ┃ ┃ ┃  Info Running Chain(Include, Exclude, Merge, UniquePath, ReplaceText, Provenance)
        ┃ ┃ ┃ ┏ engine.transformations[1].validated.delegate.transformations[0] (Include)
        ┃ ┃ ┃ ┃  Info Will include [**]
        ┃ ┃ ┃ ┗ Debug a matched [**] -> included
        ┃ ┃ ┃ ┏ engine.transformations[1].validated.delegate.transformations[1] (Exclude)
        ┃ ┃ ┃ ┃  Info Will exclude [b]
        ┃ ┃ ┃ ┗ Debug a didn't match [b] -> included
        ┃ ┃ ┃ ┏ engine.transformations[1].validated.delegate.transformations[2] (Merge)
        ┃ ┃ ┃ ┃  Info Running Merge(ReplaceText, ReplaceText)
        ┃ ┃ ┃ ┃ ╺ engine.transformations[1].validated.delegate.transformations[2].sources[0] (ReplaceText)
        ┃ ┃ ┃ ┗ ╺ engine.transformations[1].validated.delegate.transformations[2].sources[1] (ReplaceText)
        ┃ ┃ ┃ ┏ engine.transformations[1].validated.delegate.transformations[3] (UniquePath)
        ┃ ┃ ┃ ┗ Debug Multiple representations for path 'a', will use the one appearing last_
        ┃ ┃ ┃ ╺ engine.transformations[1].validated.delegate.transformations[4] (ReplaceText)
        ┃ ┗ ┗ ╺ engine.transformations[1].validated.delegate.transformations[5] (Provenance)
        """.replace("last_", "last ")
    )


def test_apply_to_is_not_logged() -> None:
    with_apply_to = trace_lines("applyTo: ['**']\nchain: [{type: ReplaceText}]", ["a"])
    assert with_apply_to == trace_lines("chain: [{type: ReplaceText}]", ["a"])
    assert any("Running Chain(ReplaceText)" in line for line in with_apply_to)


def test_the_title_of_a_named_transform_is_its_name() -> None:
    lines = trace_lines("name: README\nchain: [{name: last one, type: ReplaceText}, {type: Provenance}]", [])
    assert lines == lines_of("""
        ┃ ┏ ┏ README (Combo)
        ┃ ┃ ┃  Info Combo running as Chain
        ┃ ┃ ┃ README.delegate (Chain)
        ┃ ┃ ┃  Info Running Chain(ReplaceText, Provenance)
        ┃ ┃ ┃ ╺ last one (ReplaceText)
        ┃ ┗ ┗ ╺ README.delegate.transformations[1] (Provenance)
        """)


def test_replace_text_logs_its_replacements() -> None:
    transform = """
        type: ReplaceText
        substitutions: [{text: a, with: "'12345678901234567890'"}, {text: a long text is not cut, with: "#long"}]
        """
    assert trace_lines(transform, [], {"long": "x" * 21})[-1] == (
        f"┃ ┗ ┗  Info Will replace [a->12345678901234567890, a long text is not cut->{'x' * 20}...(truncated)]"
    )


def test_a_replacement_of_several_lines_is_logged_on_several_lines() -> None:
    transform = 'type: ReplaceText\nsubstitutions: [{text: "a\\nb", with: "\'x\'"}]'
    assert trace_lines(transform, [])[1:] == ["┃ ┃ ┃  Info Will replace [a", "┃ ┗ ┗  Info b->x]"]


def test_a_regex_is_logged_with_its_replacement() -> None:
    transform = "type: ReplaceText\nregex: {pattern: '(a)\\\\.', with: \"'$1-and-some-more-text'\"}".replace(
        "\\\\", "\\"
    )
    assert trace_lines(transform, [])[1:] == [
        "┃ ┗ ┗  Info Will replace regex '(a)\\.' with '$1-and-some-more-tex...(truncated)'"
    ]


def test_rewrite_path_logs_the_groups_of_each_match() -> None:
    transform = "type: RewritePath\nregex: '(?<n>a)?(b)?'\nrewriteTo: \"#n + '.x'\""
    assert trace_lines(transform, ["a", "c"])[1:] == [
        "┃ ┗ ┗ Debug Path 'a' matched '(?<n>a)?(b)?' with groups {n=a, g0=a, g1=a, g2=null} and was rewritten to 'a.x'"
    ]


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ("UseFirst", "use the one appearing first "),
        ("UseLast", "use the one appearing last "),
        ("Append", "concatenate them together"),
    ],
)
def test_unique_path_logs_each_conflict(strategy: str, words: str) -> None:
    lines = trace_lines(f"merge: [{{type: ReplaceText}}, {{include: [a]}}]\nonConflict: {strategy}")
    assert [line.partition("Debug Multiple ")[2] for line in lines if "Multiple" in line] == [
        f"representations for path 'a', will {words}"
    ]


def test_a_fragments_engine_is_a_node_below_the_call() -> None:
    manifest = "accelerator: {imports: [{name: f}]}\nengine: {merge: [{type: InvokeFragment, reference: f}]}"
    page = trace(manifest, ["b"], {}, {"f": Fragment("engine: {condition: 'false', include: [a]}", ["own"])})
    place = "engine.transformations[1].validated.delegate.transformations[0].sources[0]"
    assert (
        "\n".join(
            [
                f"┃ ┃ ┃ ┃ ┏ {place} (InvokeFragment)",
                f"┃ ┃ ┃ ┃ ┃ ┏ {place}.validated (Combo)",
                "┃ ┃ ┃ ┃ ┃ ┃  Info Condition (false) evaluated to false",
                "┃ ┃ ┃ ┗ ┗ ┗ null ()",
            ]
        )
        in page
    )


def test_the_input_is_sorted_by_depth_and_then_by_name() -> None:
    files = ["b/z", ".x", "a", "B", "b/a/c", "a-b", "Z/a"]
    lines = trace_lines("include: ['**']", files)
    assert [line.split()[4] for line in lines if "matched" in line] == [".x", "B", "a", "a-b", "Z/a", "b/z", "b/a/c"]


MESSY = st.text(st.sampled_from("a\n\r\u2028┃┏`# \x00\t"), max_size=8)


@given(MESSY, MESSY, MESSY)
def test_every_line_of_the_tree_has_a_bracket(name: str, text: str, value: str) -> None:
    transform = {
        "name": name,
        "condition": "true or\n false",
        "let": [{"name": "n", "expression": "#v"}],
        "merge": [{"type": "ReplaceText", "name": text, "substitutions": [{"text": f"t{text}", "with": "#v"}]}],
    }
    page = trace(engine(transform), ["a"], {"v": value})
    lines = page.split("## Log\n```\n", 1)[1].removesuffix("\n```\n").split("\n")
    assert {line[:2] for line in lines} <= {"┏ ", "┃ ", "┗ ", "╺ "}
    assert (lines[0][0], lines[-1][0]) == ("┏", "┗")


def test_the_length_of_a_trace_is_limited() -> None:
    transform = {
        "type": "Loop",
        "on": "#list",
        "doAsChain": {"let": [{"name": "n", "expression": "'x'.repeat(9000000)"}], "chain": []},
    }
    with pytest.raises(Exception, match="trace"):
        paths(engine(transform), [], {"list": list(range(100))})
