"""RewritePath."""

from .running import engine, paths, refused, run


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
    expected = ["d/e/x-f.md.md", "d/x-.x.none", "g.d/x-h.none", "x-Makefile.none", "x-a.b.txt.txt"]
    assert paths(manifest, files) == expected


def test_a_rewrite_without_properties_is_identity() -> None:
    assert paths(engine("type: RewritePath"), ["README", "a/b.c", ".x"]) == [".x", "README", "a/b.c"]


def test_a_missing_folder_adds_no_null_to_a_path() -> None:
    assert paths(engine("type: RewritePath\nrewriteTo: '#folder + #filename'"), ["a/b"]) == ["a/b"]


def test_match_or_fail_refuses_a_path_that_does_not_match() -> None:
    assert paths(rewriting("b", "'x'", matchOrFail=False), ["a"]) == ["a"]
    sentence = refused(rewriting("b", "'x'", matchOrFail=True), ["a"])
    assert sentence.startswith("accelerator.yaml:1: ")
    assert "'a'" in sentence


def test_two_files_with_the_same_new_path_are_an_error() -> None:
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


def test_later_transforms_see_the_new_path() -> None:
    transform = "chain: [{type: RewritePath, rewriteTo: \"'x/' + #g0\"}, {type: Include, patterns: ['x/*']}]"
    assert paths(engine(transform), ["a", "b"]) == ["x/a", "x/b"]
