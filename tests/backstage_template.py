"""A small template for Backstage, which the tests of the scaffolder's harness change and run."""

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from conftest import FOLDER
from tools.backstage.scaffolder import Outcome, Scaffolder

FETCH = {
    "id": "fetch",
    "action": "fetch:template",
    "input": {
        "url": f"./{FOLDER}",
        "cookiecutterCompat": True,
        "values": {"projectName": "${{ parameters.projectName }}"},
        "copyWithoutTemplating": ["verbatim.yaml"],
    },
}
PROPERTIES = {
    "projectName": {"type": "string", "pattern": "^[a-z][a-z0-9-]{1,38}[a-z0-9]$"},
    "dataset": {"type": "string", "enum": ["digits", "table"], "default": "digits"},
}
FILES = {
    "README.md": "# {{ cookiecutter.projectName }}\n",
    ".hidden/.file": "{{cookiecutter.projectName}}",
    "verbatim.yaml": "{{ inputs.parameters.x }}\n",
    "{{cookiecutter.projectName}}.txt": "",
    "part/a": "a\r\n",
    "part/deep/b": "b",
    "run-me": "#!/bin/sh\n",
}


class Template:
    """A template.yaml with a body of a few files, which a test changes and runs."""

    def __init__(self, folder: Path, scaffolder: Scaffolder) -> None:
        self.file = folder / "template" / "template.yaml"
        self.body = self.file.with_name(FOLDER)
        self.output = folder / "generated"
        self.scaffolder = scaffolder
        page = {"title": "Project", "required": ["projectName"], "properties": PROPERTIES}
        self.entity: dict[str, Any] = {
            "apiVersion": "scaffolder.backstage.io/v1beta3",
            "kind": "Template",
            "metadata": {"name": "probe"},
            "spec": {"type": "service", "parameters": [page], "steps": [FETCH]},
        }
        for name, text in FILES.items():
            self.write(name, text)
        (self.body / "run-me").chmod(0o755)

    def write(self, name: str, text: str) -> None:
        """Add a file to the body."""
        path = self.body / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
        path.chmod(0o644)

    def add_step(self, action: str, inputs: Mapping[str, object], **more: object) -> None:
        """Add a step to the template."""
        steps = self.entity["spec"]["steps"]
        self.entity["spec"]["steps"] = [*steps, {"id": f"s{len(steps)}", "action": action, "input": inputs, **more}]

    def save(self) -> Path:
        """Write template.yaml."""
        self.file.write_text(yaml.safe_dump(self.entity, sort_keys=False), encoding="utf-8")
        return self.file

    def run(self, *cases: Mapping[str, object], **more: Any) -> list[Outcome]:
        """Generate a project per case."""
        return self.scaffolder.generate(self.save(), cases, self.output, **more)

    def tree(self) -> dict[str, tuple[int, bytes]]:
        """Generate a project with valid answers; return mode and content of each file."""
        (outcome,) = self.run({"projectName": "abc"})
        assert (outcome.refused, outcome.error) == ([], None), outcome.log
        assert outcome.folder == self.output / "0"
        assert outcome.unrendered == []
        return {
            str(path.relative_to(outcome.folder)): (stat.S_IMODE(path.stat().st_mode), path.read_bytes())
            for path in outcome.folder.rglob("*")
            if path.is_file()
        }

    def failure(self) -> Outcome:
        """Generate with valid answers; expect an error and no file."""
        (outcome,) = self.run({"projectName": "abc"})
        assert (outcome.folder, outcome.refused) == (None, [])
        assert not list(self.output.iterdir())
        return outcome
