"""Let and Loop."""

import pytest

from .running import engine, paths, refused, run

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


def test_a_symbol_may_use_the_variable_that_it_shadows() -> None:
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
    ("expression", "inner", "expected"),
    [
        ("true", "#n ? 'yes' : 'no'", "yes"),
        ("1", "#n + 1", "2"),
        ("{'a','b'}", "#n[1]", "b"),
        ("#map", "#n['k']", "v"),
        ("'1'", "#n + 1", "11"),
    ],
)
def test_a_symbol_keeps_its_type(expression: str, inner: str, expected: str) -> None:
    manifest = put(f'{{name: n, expression: "{expression}"}}', inner)
    assert run(manifest, {"x": "X"}, {"map": {"k": "v"}}) == {"x": expected}


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


def test_symbols_that_double_a_list_are_stopped() -> None:
    symbols = "{name: n, expression: '{1}'}, " + ", ".join(["{name: n, expression: '{#n, #n}'}"] * 60)
    assert refused(put(symbols, "#n"), {"x": "X"})


# Loop

LIST = {"list": ["p", "q", "r"]}


def test_do_as_chain_passes_each_result_to_the_next_round() -> None:
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


@pytest.mark.parametrize(("kind", "expected"), [("doAsMerge", []), ("doAsChain", ["a"])])
def test_a_loop_over_nothing(kind: str, expected: list[str]) -> None:
    assert paths(engine(f"type: Loop\non: '#list'\n{kind}: {{type: Chain}}"), ["a"], {"list": []}) == expected


def test_a_bare_name_is_a_variable() -> None:
    transform = "type: Loop\non: list\nvar: v\ndoAsChain: {type: RewritePath, rewriteTo: '#g0 + #v'}"
    assert paths(engine(transform), ["a"], LIST) == ["apqr"]


def test_a_loop_over_mappings() -> None:
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
def test_a_loop_needs_exactly_one_body(body: str) -> None:
    assert refused(engine(f"type: Loop\non: '#list'\n{body}"), ["a"], LIST).startswith("accelerator.yaml:2: ")


@pytest.mark.parametrize("answer", ["text", 5, True, {"a": 1}])
def test_a_loop_needs_a_list(answer: object) -> None:
    transform = "type: Loop\non: '#list'\ndoAsChain: {type: Chain}"
    assert refused(engine(transform), ["a"], {"list": answer}).startswith("accelerator.yaml:2: ")


def test_a_loop_over_null_is_an_error() -> None:
    assert "evaluated to null" in refused(engine("type: Loop\non: '#list'\ndoAsChain: {type: Chain}"), ["a"])
