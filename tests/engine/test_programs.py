"""YTT and OpenRewriteRecipe."""

import contextlib
import re

import pytest

from accelerator_engine.tree import EXECUTABLE, Resource

from .running import (
    ABC,
    REFUSALS,
    engine,
    file_at,
    paths,
    project,
    refused,
    run,
    trace,
)

# OpenRewriteRecipe


def test_a_recipe_is_refused_with_its_name() -> None:
    sentence = refused(engine("type: OpenRewriteRecipe\nrecipe: org.openrewrite.java.ChangePackage"), ABC)
    assert sentence.startswith("accelerator.yaml:2: ")
    assert "org.openrewrite.java.ChangePackage" in sentence


def test_an_inactive_recipe_is_allowed() -> None:
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

    def test_logs_its_run(self) -> None:
        page = trace(engine("type: YTT\nextraArgs: [\"'--debug'\"]"), {"x.yaml": "a: 1\n"}, {"projectName": "p"})
        assert re.search(r"Info Shelling out to YTT with args: \[ytt, -f, .*, --data-values-file, .*--debug\]", page)
        assert "Debug Wrote values file with json content:   {" in page

    def test_keeps_permission_bits(self) -> None:
        generated = project(engine("type: YTT"), {"x.yaml": Resource("x.yaml", b"a: 1\n", EXECUTABLE)})
        assert file_at(generated, "x.yaml").mode == EXECUTABLE

    def test_its_output_is_the_whole_result(self) -> None:
        files = {
            ".gitignore": "*\n",
            "build/x.yaml": "a: 1\n",
            "x.txt": "x",
            "values.yml": "#@data/values\n---\na: 1\n",
        }
        assert paths(engine("type: YTT"), files) == ["build/x.yaml", "x.txt"]

    def test_normalizes_the_paths_of_its_input(self) -> None:
        files = {"x.yaml": Resource("x.yaml", b"a: 1\n", EXECUTABLE)}
        generated = project(engine("chain: [{type: RewritePath, rewriteTo: \"'d//' + #g0\"}, {type: YTT}]"), files)
        assert file_at(generated, "d/x.yaml").mode == EXECUTABLE

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
    def test_may_not_read_outside_the_project(self, argument: str) -> None:
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
    def test_a_value_outside_json_causes_no_crash(self, expression: str) -> None:
        manifest = engine(f'let: [{{name: n, expression: "{expression}"}}]\nchain: [{{type: YTT}}]')
        with contextlib.suppress(*REFUSALS):
            assert run(manifest, {"x.yaml": "a: 1\n"}, {"huge": 10**40}) == {"x.yaml": "a: 1\n"}


def test_a_missing_ytt_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "ytt" in refused(engine("type: YTT"), ABC)
    assert paths(engine("type: YTT\ncondition: false"), ABC) == ABC
