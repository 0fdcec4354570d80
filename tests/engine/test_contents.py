"""ReplaceText and UseEncoding."""

import pytest

from accelerator_engine import java_regex

from .running import Transform, engine, paths, refused, replacing, run, trace, transformed

# ReplaceText


def test_replace_text_replaces_all_occurrences_literally() -> None:
    assert transformed(replacing(("a.b", r"'$1\'")), "a.b axb a.b A.B") == b"$1\\ axb $1\\ A.B"


@pytest.mark.parametrize("longest_first", [True, False])
def test_the_longest_token_wins(longest_first: bool) -> None:
    pairs = [("DATA_SPACE", "'ns'"), ("DATA", "'db'")]
    assert transformed(replacing(*(pairs if longest_first else pairs[::-1])), "DATA DATA_SPACE DATA_") == b"db ns db_"


def test_a_token_within_a_longer_one_is_not_replaced() -> None:
    pairs = [("app", "'x'"), ("<name>app</name>", "'<name>y</name>'")]
    assert transformed(replacing(*pairs), "app <name>app</name>") == b"x <name>y</name>"


def test_replacements_are_not_replaced_again() -> None:
    assert transformed(replacing(("a", "'b'"), ("b", "'a'")), "abab") == b"baba"
    assert transformed(replacing(("a", "'aa'")), "aa") == b"aaaa"


def test_two_replace_texts_run_in_order() -> None:
    transform = """
        chain:
          - {type: ReplaceText, substitutions: [{text: a, with: "'b'"}]}
          - {type: ReplaceText, substitutions: [{text: b, with: "'c'"}]}
        """
    assert transformed(transform, "ab") == b"cc"


def test_replace_text_without_anything_to_replace_is_identity() -> None:
    assert transformed("type: ReplaceText", "a") == b"a"
    assert transformed("type: ReplaceText\nsubstitutions: []", "a") == b"a"


@pytest.mark.parametrize("content", [b"", b"a", b"a\r\nb\r\n", b"a\rb", b"a\nb", b"\n", b"\xef\xbb\xbfa\n"])
def test_replace_text_keeps_line_ends_and_the_end(content: bytes) -> None:
    assert transformed(replacing(("b", "'B'")), content) == content.replace(b"b", b"B")


def test_replace_text_goes_across_lines() -> None:
    assert (
        transformed('type: ReplaceText\nsubstitutions: [{text: "a\\nb", with: "\'x\'"}]', "a\nb a\r\nb") == b"x a\r\nb"
    )


@pytest.mark.parametrize("content", [b"\xffa", b"a\x80", bytes(range(256)), b"PK\x03\x04\x00a\xc3"])
def test_files_that_are_not_text_stay_unchanged(content: bytes) -> None:
    assert transformed(replacing(("a", "'b'")), content) == content
    assert transformed("type: ReplaceText\nregex: {pattern: a, with: \"'b'\"}", content) == content


def test_text_of_many_bytes_is_replaced() -> None:
    assert transformed(replacing(("é", "'日本'")), "café é").decode() == "caf日本 日本"


def test_a_value_converts_to_text() -> None:
    assert transformed(replacing(("a", "1"), ("b", "true"), ("c", "1.5")), "a b c") == b"1 true 1.5"


def test_a_replacement_is_evaluated_once_for_all_files() -> None:
    assert trace(engine(replacing(("a", "'b'"))), {"x": "a", "y": "a"}).count("Will replace") == 1


def test_a_replacement_that_is_null_is_an_error_also_without_files() -> None:
    sentence = refused(engine(replacing(("a", "#missing"))), [])
    assert sentence == "accelerator.yaml:1: Expression '#missing' evaluated to null"


def test_null_concatenates_with_a_text() -> None:
    assert transformed(replacing(("a", "'https://' + #bsGitRepository")), "a") == b"https://null"


def test_an_empty_text_cannot_be_replaced() -> None:
    assert refused(engine(replacing(("", "'b'"))), ["x"]).startswith("accelerator.yaml:1: ")


def test_a_number_may_be_replaced() -> None:
    assert (
        transformed("type: ReplaceText\nsubstitutions: [{text: 25, with: '#port'}]", "1025", {"port": 8080})
        == b"108080"
    )


def by_regex(pattern: str, expression: str) -> Transform:
    return {"type": "ReplaceText", "regex": {"pattern": pattern, "with": expression}}


@pytest.mark.parametrize(
    ("pattern", "expression", "content", "expected"),
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
def test_a_regex_replaces_like_java(pattern: str, expression: str, content: str, expected: str) -> None:
    assert transformed(by_regex(pattern, expression), content).decode() == expected


def test_an_unknown_group_is_an_error() -> None:
    assert "1" in refused(engine(by_regex("a", "'$1'")), {"x": "a"}).removeprefix("accelerator.yaml:1: ")


def test_an_invalid_pattern_is_refused_with_its_line() -> None:
    transform = "type: ReplaceText\nregex:\n  with: '1'\n  pattern: '('"
    assert refused(engine(transform), ["a"]).startswith("accelerator.yaml:5: ")


def test_endless_backtracking_in_a_regex_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java_regex, "SECONDS", 0.2)
    assert "(a|aa)+$" in refused(engine(by_regex("(a|aa)+$", "1")), {"x": "a" * 60 + "c"})


def test_a_replacement_may_be_a_file_that_is_not_selected() -> None:
    transform = {"include": ["x"], "chain": [replacing(("X", "#files.contentsOf('d/part')"))]}
    assert run(engine(transform), {"x": "[X]", "d/part": "a\nb\n"}) == {"x": "[a\nb\n]"}


def test_a_replacement_by_a_missing_file_is_an_error() -> None:
    assert "'nowhere'" in refused(engine(replacing(("X", "#files.contentsOf('nowhere')"))), {"x": "X"})


# UseEncoding


def test_a_charset_is_used_to_read_and_to_write() -> None:
    transform = {"chain": [{"type": "UseEncoding", "encoding": "ISO-8859-1"}, replacing(("ä", "'öß'"))]}
    assert transformed(transform, b"a\xe4\xff") == b"a\xf6\xdf\xff"


@pytest.mark.parametrize(
    "name", ["UTF-8", "utf8", "ISO-8859-1", "ISO8859_1", "windows-1252", "Cp1252", "US-ASCII", "UTF-16LE"]
)
def test_charsets_have_the_names_that_java_gives_them(name: str) -> None:
    assert transformed(f"type: UseEncoding\nencoding: {name}", "a") == b"a"


def test_a_charset_alone_changes_nothing() -> None:
    assert transformed("type: UseEncoding\nencoding: UTF-16", b"\xff\x00a") == b"\xff\x00a"


def test_a_replacement_outside_the_charset_leaves_the_file_unchanged() -> None:
    transform = {"chain": [{"type": "UseEncoding", "encoding": "ISO-8859-1"}, replacing(("a", "'日'"))]}
    assert transformed(transform, b"a\xe4") == b"a\xe4"


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
