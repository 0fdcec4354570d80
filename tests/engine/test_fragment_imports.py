"""Imports of fragments, and their mistakes."""

import pytest

from .running import INVOKE, Fragment, importing, paths, refused, run, trace


def test_a_fragment_has_to_be_imported() -> None:
    sentence = refused(
        "engine:\n  chain:\n    - type: InvokeFragment\n      reference: f\n",
        ["x"],
        {},
        {"f": Fragment("engine: {type: Chain}")},
    )
    assert sentence.startswith("accelerator.yaml:3: ")
    assert "'f'" in sentence


def test_an_unknown_import_is_refused_with_its_line() -> None:
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
def test_cycles_of_imports_are_refused(cycle: list[str]) -> None:
    following = dict(zip(cycle, [*cycle[1:], cycle[0]], strict=True))
    fragments = {name: Fragment(f"accelerator: {{imports: [{{name: {other}}}]}}") for name, other in following.items()}
    sentence = refused(importing("{type: Chain}"), ["x"], {}, fragments)
    assert f"{cycle[-1]}/accelerator.yaml:1: " in sentence


def test_a_long_chain_of_fragments_is_refused() -> None:
    fragments = {
        f"f{number}": Fragment(
            f"{{accelerator: {{imports: [{{name: f{number + 1}}}]}}, "
            f"engine: {{type: InvokeFragment, reference: f{number + 1}}}}}"
        )
        for number in range(2000)
    }
    fragments["f2000"] = Fragment(None)
    assert refused(importing("{type: InvokeFragment, reference: f0}", "[{name: f0}]"), ["x"], {}, fragments)


def test_a_mistake_in_a_fragment_names_the_fragments_file() -> None:
    fragment = Fragment("accelerator: {}\nengine:\n  type: Explode\n")
    assert refused(importing(INVOKE), ["x"], {}, {"f": fragment}).startswith("f/accelerator.yaml:3: ")


def test_a_failure_in_a_fragment_names_the_fragments_line() -> None:
    fragment = Fragment(
        "accelerator: {}\nengine:\n  type: ReplaceText\n  substitutions: [{text: a, with: '#missing'}]\n"
    )
    sentence = refused(importing(INVOKE), ["x"], {}, {"f": fragment})
    assert sentence == "f/accelerator.yaml:3: Expression '#missing' evaluated to null"


def test_an_invalid_pattern_of_a_fragments_option_names_the_fragments_file() -> None:
    fragment = Fragment("accelerator:\n  options:\n    - name: o\n      validationRegex: '('\n")
    assert refused(importing(INVOKE), ["x"], {"o": "x"}, {"f": fragment}).startswith("f/accelerator.yaml:3: ")


def test_a_fragment_written_in_the_other_language_is_refused() -> None:
    sentence = refused(importing(INVOKE), ["x"], {}, {"f": Fragment("accelerator: {}", ["accelerator.axl"])})
    assert "accelerator.axl" in sentence


def test_fragments_that_double_the_invocations_are_stopped() -> None:
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
