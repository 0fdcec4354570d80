"""The engine section of accelerator.yaml as tables, from which every front door is derived.

It has this shape:

* let with the default of each conditional question that was not asked,
* include of the body's folder, then a chain of
* a condition on options with a finite number of values, and an exclude of `**/variants/<name>/**`,
* RewritePath without a condition, which lays the body's folder and the overlay folders over the project,
* an applyTo with ReplaceText, whose substitutions are the placeholders.
"""

import itertools
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from accelerator_engine.engine import Accelerator, load
from accelerator_engine.manifest import InvalidManifest, Map
from accelerator_engine.options import InvalidAnswer, Option, check_answer, section
from accelerator_engine.patterns import matches, matches_any
from accelerator_engine.transforms import Combo, ReplaceText, RewritePath, Transform, path_groups
from accelerator_engine.tree import Resource, read_folder

BODY = "{{cookiecutter.projectName}}"
_PLACEHOLDER = re.compile(r"\{\{ cookiecutter\.(\w+) \}\}")
_BRACES = (b"{{", b"{%", b"{#")
# Where a question stands that is the front door's own: the answer says which door it was.
FRONT_DOOR = "_frontDoor"
# The folder of the body that holds the overlay folders, and an exclude of one of them.
OVERLAYS = "variants"
_OVERLAY = re.compile(rf"{OVERLAYS}/([^/]+)/")
_EXCLUDE = re.compile(rf"\*\*/{OVERLAYS}/([^/*?]+)/\*\*")

_SHAPE = "make derive cannot turn this into a table"


# The answers that keep an overlay folder: option → the values that do.
Answers = dict[str, list[Any]]


@dataclass
class Plan:
    """The engine section as tables."""

    # The template's version, as pyproject.toml declares it.
    version: str
    options: tuple[Option, ...]
    display_name: str
    description: str
    tags: list[str]
    backstage: Mapping[str, Any]
    # Overlay folder by name → the answers that keep it.
    variants: dict[str, Answers]
    # File of an overlay folder → its path in the project.
    overlays: dict[str, str]
    # Files in which placeholders are filled in, and files with braces in which nothing is.
    rendered: list[str]
    verbatim: list[str]


def plan(root: Path) -> Plan:
    """Return the tables. Raises InvalidManifest when the engine section cannot be turned into them."""
    files = read_folder(root)
    accelerator = load(files)
    _check_options(accelerator.options)
    body = {
        resource.path.removeprefix(f"{BODY}/"): resource for resource in files if resource.path.startswith(f"{BODY}/")
    }
    reading = _Reading(accelerator, {name: resource.path for name, resource in body.items()})
    reading.read()
    shown = section(accelerator.content, "accelerator")
    verbatim = [
        name
        for name, resource in body.items()
        if name not in reading.rendered and any(braces in resource.content for braces in _BRACES)
    ]
    _check_placeholders(accelerator, body, reading)
    return Plan(
        version=tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"],
        options=accelerator.options,
        display_name=shown.get("displayName", ""),
        description=" ".join(str(shown.get("description", "")).split()),
        tags=list(shown.get("tags", [])),
        backstage=_backstage(shown),
        variants=dict(sorted(reading.variants.items())),
        overlays={name: path for name, path in sorted(reading.paths.items()) if path != name},
        rendered=sorted(reading.rendered),
        verbatim=sorted(verbatim),
    )


def _backstage(shown: Map) -> Map:
    """Return what only Backstage reads: the template's name and owner, and where projects are published."""
    backstage = section(shown, "x-backstage")
    for key in ("name", "owner", "repoVisibility", "publish"):
        if key not in backstage:
            raise InvalidManifest(f"x-backstage of accelerator has no {key}", backstage.line)
    return backstage


def _check_options(options: Sequence[Option]) -> None:
    """Refuse questions that not every front door can ask. Raises InvalidManifest."""
    for option in options:
        requirements = {
            "a dataType of string or boolean, numbers as text": option.data_type in ("string", "boolean")
            and not option.is_list,
            "a defaultValue": option.default is not None,
            "a label": option.label,
            "a description": option.description,
            "an x-group": option.group,
            "a validationRegex": option.pattern or option.data_type == "boolean",
        }
        for requirement, is_met in requirements.items():
            if not is_met:
                raise InvalidManifest(f"option {option.name} needs {requirement}, for every front door", option.line)
        try:
            for value in (option.default, *option.values):
                check_answer(option, value)
        except InvalidAnswer as error:
            raise InvalidManifest(f"option {option.name} refuses a value of its own: {error}", option.line) from error
    groups = [group for group, _ in itertools.groupby(option.group for option in options)]
    for option in options:
        if groups.count(option.group) > 1:
            reason = f"the options of the x-group {option.group} have to stand one after the other"
            raise InvalidManifest(reason, option.line)


class _Reading:
    """Follows the body's files through the engine section."""

    def __init__(self, accelerator: Accelerator, paths: dict[str, str]) -> None:
        self._accelerator = accelerator
        # Each file's name in the body, and its path so far.
        self.paths = paths
        self.variants: dict[str, Answers] = {}
        self.rendered: set[str] = set()
        self.substitutions: set[str] = set()

    def read(self) -> None:
        engine = self._accelerator.engine
        if not isinstance(engine, Combo) or engine.include is None or engine.condition or engine.merge:
            raise InvalidManifest(f"{_SHAPE}: engine has to be an include and a chain", engine.line if engine else None)
        self._check_symbols(engine)
        outside = [name for name, path in self.paths.items() if not matches_any(engine.include, path)]
        if outside:
            raise InvalidManifest(f"{_SHAPE}: the include leaves out {outside[0]}", engine.line)
        for transform in engine.chain:
            self._step(transform)

    def _check_overlays(self, line: int | None) -> None:
        """Refuse a body whose files do not land where their overlay folders say, or land twice for some answers."""
        placed: dict[str, list[str]] = {}
        for name, path in self.paths.items():
            variants = variants_of(name)
            expected = "/".join(name.split("/")[2 * len(variants) :])
            _check_name(name, expected)
            if path != expected:
                raise InvalidManifest(f"{_SHAPE}: {name} becomes {path}, not {expected}", line)
            unknown = [variant for variant in variants if variant not in self.variants]
            if unknown:
                raise InvalidManifest(f"no answer excludes the folder {OVERLAYS}/{unknown[0]}", line)
            if not all(self._needed([name]).values()):
                raise InvalidManifest(f"no answers keep {name}", line)
            placed.setdefault(path, []).append(name)
        for path, names in placed.items():
            # A file in the place of a folder, too.
            above = [name for parent in PurePosixPath(path).parents for name in placed.get(str(parent), [])]
            for pair in itertools.chain(itertools.combinations(names, 2), itertools.product(above, names)):
                if all(self._needed(pair).values()):
                    raise InvalidManifest(f"some answers keep both {' and '.join(pair)}", line)

    def _needed(self, names: Iterable[str]) -> Answers:
        """Return the answers that keep all of these files."""
        return combined(self.variants[variant] for name in names for variant in variants_of(name))

    def _check_symbols(self, engine: Combo) -> None:
        """Refuse a conditional question that could be answered although it was not asked."""
        symbols = {symbol.name: symbol.expression for symbol in engine.let}
        conditional = {option.name: option for option in self._accelerator.options if option.condition}
        if symbols.keys() != conditional.keys():
            differing = ", ".join(sorted(symbols.keys() ^ conditional.keys()))
            raise InvalidManifest(f"{_SHAPE}: let has to define just what has a dependsOn: {differing}", engine.line)
        for name, option in conditional.items():
            condition = option.condition
            assert condition is not None  # noqa: S101, just chosen by it
            for value in self._domain(condition.name, engine):
                # Any text will do for an answer: it has to come through unless the condition is not met.
                for answer in (False, True) if option.data_type == "boolean" else ("any", "text"):
                    expected = answer if value == condition.value else option.default
                    if symbols[name].value({condition.name: value, name: answer}) != expected:
                        reason = f"the symbol {name} has to be the answer, or the default when it was not asked"
                        raise InvalidManifest(f"{_SHAPE}: {reason}", engine.line)

    def _step(self, transform: Transform) -> None:
        if isinstance(transform, RewritePath) and transform.condition is None:
            self._rewrite(transform)
        elif isinstance(transform, Combo) and transform.exclude and transform.condition and not transform.chain:
            self._drop(transform)
        elif isinstance(transform, Combo) and transform.apply_to and transform.condition is None:
            self._render(transform)
        else:
            raise InvalidManifest(
                f"{_SHAPE}: allowed are RewritePath, a condition with an exclude, and an applyTo with ReplaceText",
                transform.line,
            )

    def _rewrite(self, transform: RewritePath) -> None:
        for name, path in self.paths.items():
            groups = path_groups(transform.regex, path)
            if groups is not None:
                self.paths[name] = transform.rewrite_to.text(groups)
        self._check_overlays(transform.line)

    def _drop(self, transform: Combo) -> None:
        when = self._answers(transform)
        for pattern in transform.exclude or ():
            excluded = _EXCLUDE.fullmatch(pattern)
            if not excluded:
                raise InvalidManifest(f"{_SHAPE}: {pattern!r} is not **/{OVERLAYS}/<name>/**", transform.line)
            if not any(matches(pattern, path) for path in self.paths.values()):
                raise InvalidManifest(f"the exclude pattern {pattern!r} matches no file", transform.line)
            name = excluded[1]
            self.variants[name] = combined([self.variants.get(name, {}), when])

    def _answers(self, transform: Combo) -> dict[str, list[Any]]:
        """Return the answers for which the condition is false: they keep the files that it excludes."""
        condition = transform.condition
        assert condition is not None  # noqa: S101, _step asked
        domains = {name: self._domain(name, transform) for name in sorted(condition.names)}
        combinations = [dict(zip(domains, values, strict=True)) for values in itertools.product(*domains.values())]
        keeping = [answers for answers in combinations if not condition.condition(answers)]
        when = {
            name: [value for value in domain if any(answers[name] == value for answers in keeping)]
            for name, domain in domains.items()
        }
        if not keeping or len(keeping) == len(combinations) or math.prod(map(len, when.values())) != len(keeping):
            raise InvalidManifest(f"{_SHAPE}: {condition.source} is no table of answers", transform.line)
        return {name: values for name, values in when.items() if values != domains[name]}

    def _domain(self, name: str, transform: Combo) -> list[Any]:
        option = next((option for option in self._accelerator.options if option.name == name), None)
        if option is None:
            raise InvalidManifest(f"the condition names {name}, which is no option", transform.line)
        values = [False, True] if option.data_type == "boolean" else list(option.values)
        if not values:
            raise InvalidManifest(f"{_SHAPE}: the condition names {name}, which has no list of choices", transform.line)
        return values

    def _render(self, transform: Combo) -> None:
        if not all(isinstance(step, ReplaceText) and step.regex is None for step in transform.chain):
            raise InvalidManifest(f"{_SHAPE}: an applyTo takes ReplaceText with substitutions", transform.line)
        for pattern in transform.apply_to or ():
            names = [name for name, path in self.paths.items() if matches(pattern, path)]
            if not names:
                raise InvalidManifest(f"the applyTo pattern {pattern!r} matches no file", transform.line)
            self.rendered.update(names)
        for step in transform.chain:
            if isinstance(step, ReplaceText):
                self._check_substitutions(step)

    def _check_substitutions(self, transform: ReplaceText) -> None:
        for item in transform.substitutions:
            placeholder = _PLACEHOLDER.fullmatch(item.text)
            name = placeholder[1] if placeholder else ""
            expected = "'accelerator'" if name == FRONT_DOOR else f"#{name}"
            if not name or item.replacement.source.strip() != expected:
                raise InvalidManifest(
                    f"{_SHAPE}: {item.text!r} with {item.replacement.source} is no placeholder and its option",
                    transform.line,
                )
            self.substitutions.add(name)


def variants_of(name: str) -> list[str]:
    """Return the overlay folders, outermost first, that hold a file of the body."""
    variants = []
    while match := _OVERLAY.match(name):
        variants.append(match[1])
        name = name[match.end() :]
    return variants


def combined(conditions: Iterable[Answers]) -> Answers:
    """Return the answers that meet all conditions; an option without a value left means that none do."""
    together: Answers = {}
    for when in conditions:
        for option, values in when.items():
            together[option] = [value for value in together.get(option, values) if value in values]
    return together


def _check_placeholders(accelerator: Accelerator, body: Mapping[str, Resource], reading: _Reading) -> None:
    """Refuse a placeholder that nothing fills in: Backstage would leave an empty place."""
    expected = {option.name for option in accelerator.options} | {FRONT_DOOR}
    line = accelerator.engine.line if accelerator.engine else None
    for name in sorted(reading.substitutions ^ expected):
        reason = "no substitution of the engine section fills in" if name in expected else "there is no option for"
        raise InvalidManifest(f"{reason} {{{{ cookiecutter.{name} }}}}", line)
    for name, resource in sorted(body.items()):
        if not any(braces in resource.content for braces in _BRACES):
            continue
        for number, text in enumerate(resource.content.decode(errors="replace").split("\n"), start=1):
            _check_line(text, number, name, expected, rendered=name in reading.rendered)


def _check_name(name: str, path: str) -> None:
    """Refuse a name that the front doors read differently; the path is the name without its overlay folders."""
    file = f"{BODY}/{name}"
    if OVERLAYS in path.split("/"):
        reason = f"a folder {OVERLAYS} holds overlay folders only, and lies in the body or in an overlay folder"
        raise InvalidManifest(f"{file}: {reason}")
    if any(braces.decode() in name for braces in _BRACES):
        raise InvalidManifest(f"{file}: a path with braces is not the same in every front door; rename it")


def _check_line(text: str, number: int, name: str, expected: set[str], *, rendered: bool) -> None:
    """Refuse what stands in braces where it is filled in, and an answer's place where nothing is."""
    known = [placeholder[0] for placeholder in _PLACEHOLDER.finditer(text) if placeholder[1] in expected]
    file = f"{BODY}/{name}"
    if known and not rendered:
        raise InvalidManifest(f"{known[0]} is not filled in, because no applyTo names the file", number, file)
    rest = _PLACEHOLDER.sub(lambda placeholder: "" if placeholder[1] in expected else placeholder[0], text)
    if rendered and any(braces.decode() in rest for braces in _BRACES):
        raise InvalidManifest(f"{rest.strip()[:80]!r} is no placeholder of an option", number, file)


def groups(tables: Plan) -> Iterator[tuple[str, list[Option]]]:
    """Yield each group of questions with its title."""
    for title, options in itertools.groupby(tables.options, lambda option: option.group):
        yield title, list(options)


def allowed(option: Option) -> str:
    """Return the description as the part of a sentence that follows "allowed is"."""
    return option.description[:1].lower() + option.description[1:].rstrip(". ")
