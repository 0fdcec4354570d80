"""The Dockerfiles of the template body, read into instructions."""

import re
import shlex
from dataclasses import dataclass

from conftest import in_body

NAMES = ("app", "inference-db", "mlflow", "notebook", "pgadmin", "pipeline")


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile and its stage, which is empty before the first FROM."""

    stage: str
    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """The words of the text."""
        return self.text.split()


def instructions(image: str) -> list[Instruction]:
    """Return an image's instructions; the last stage is named `image`."""
    text = in_body(f"deploy/images/{image}.Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    parsed, stage = [], ""
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        name, _, rest = line.partition(" ")
        if name == "FROM":
            stage = rest.partition(" AS ")[2] or "image"
        parsed.append(Instruction(stage, name, rest))
    return parsed


def named(image: str, name: str, stage: str = "") -> list[Instruction]:
    """Return the instructions of this name, of all stages or one."""
    return [
        instruction
        for instruction in instructions(image)
        if instruction.name == name and stage in ("", instruction.stage)
    ]


def variables(image: str) -> dict[str, str]:
    """Return the environment variables that an image sets."""
    return dict(
        word.split("=", 1) for instruction in named(image, "ENV", "image") for word in shlex.split(instruction.text)
    )
