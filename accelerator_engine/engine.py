"""The engine of Application Accelerator: it turns an accelerator and answers into a project.

`load` reads a tree with an accelerator.yaml, of an accelerator or of a fragment; `generate` runs it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from accelerator_engine import java_regex
from accelerator_engine.log import FILE_NAME as LOG_NAME
from accelerator_engine.log import Log
from accelerator_engine.manifest import FILE_NAME, MOST_BITS, InvalidManifest, Map, load_bytes
from accelerator_engine.options import (
    Condition,
    InvalidAnswer,
    MissingAnswers,
    Option,
    check_answer,
    condition_in,
    defaults,
    is_asked,
    maps,
    optional_text,
    parse_options,
    parse_types,
    section,
    text,
)
from accelerator_engine.reading import read_transform
from accelerator_engine.transforms import (
    Exclude,
    GenerationFailed,
    Run,
    Scope,
    Transform,
    UniquePath,
    helpers,
)
from accelerator_engine.tree import InvalidTree, Resource, normal_path, placed, read_folder, write_folder, zipped

AXL = "accelerator.axl"
_MANIFESTS = (FILE_NAME, AXL)
# Answers that the front doors and the engine add.
IMPLICIT = frozenset({"projectName", "artifactId", "artifactVersion", "bsGitRepository", "bsGitBranch"})
_DEEPEST_ANSWER = 50

# Returns the files of the fragment with this name; raises KeyError for an unknown one.
Fragments = Callable[[str], list[Resource]]


@dataclass(frozen=True)
class Import:
    """A fragment that an accelerator may invoke, and the fragment's options that it exposes."""

    fragment: "Accelerator"
    options: tuple[Option, ...]
    line: int
    types: Mapping[str, tuple[Option, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Accelerator:
    """An accelerator or fragment after reading."""

    name: str
    file: str
    files: tuple[Resource, ...]
    content: Map | None
    own_options: tuple[Option, ...] = ()
    # Its own types and those of its imports.
    types: Mapping[str, tuple[Option, ...]] = field(default_factory=dict)
    imports: tuple[Import, ...] = ()
    engine: Transform | None = None
    # The names of a fragment's options, and their names in the importer.
    renamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def fragments(self) -> "dict[str, Accelerator]":
        """The fragments that this accelerator may invoke, by name."""
        return {item.fragment.name: item.fragment for item in self.imports}

    @property
    def options(self) -> tuple[Option, ...]:
        """The accelerator's own options, then those of its imports, in order."""
        return (*self.own_options, *(option for item in self.imports for option in item.options))

    def own_files(self) -> list[Resource]:
        """Return the files without the manifests in the root."""
        if self.content is None:
            return sorted(self.files, key=_by_depth)
        return sorted((resource for resource in self.files if resource.path not in _MANIFESTS), key=_by_depth)

    def checked_variables(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Return a caller's variables with the defaults of the options. Raises InvalidAnswer."""
        return _checked(self.options, {**defaults(self.options), **variables})

    def renamed_variables(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of options that the importer renames, under their own names."""
        return {name: variables[alias] for name, alias in self.renamed.items() if name != alias and alias in variables}


# Reading


def load(files: Iterable[Resource], name: str = "", fragments: Fragments | None = None) -> Accelerator:
    """Read an accelerator and all fragments that it imports.

    Raises InvalidManifest, also for a fragment that `fragments` does not know.
    """
    return _Library(fragments or _no_fragments).load(list(files), name, FILE_NAME, ())


def load_folder(folder: Path, name: str = "", fragments: Mapping[str, Path] | None = None) -> Accelerator:
    """Read an accelerator from a folder, and its fragments from folders by name.

    Raises InvalidManifest and OSError.
    """
    folders = fragments or {}
    return load(read_folder(folder), name or folder.resolve().name, lambda fragment: read_folder(folders[fragment]))


def _no_fragments(name: str) -> list[Resource]:
    raise KeyError(name)


class _Library:
    """Reads accelerators, and each fragment once."""

    def __init__(self, find: Fragments) -> None:
        self._find = find
        self._known: dict[str, Accelerator] = {}

    def load(self, files: list[Resource], name: str, file: str, importing: tuple[str, ...]) -> Accelerator:
        files = [replace(resource, ancestor=resource.content) for resource in files]
        manifest = next((resource for resource in files if resource.path == FILE_NAME), None)
        if manifest is None:
            return Accelerator(name, file, tuple(files), None)
        try:
            return self._read(files, manifest, name, file, importing)
        except InvalidManifest as error:
            error.file = error.file or file
            raise
        except RecursionError as error:
            raise InvalidManifest("transforms are nested too deeply", file=file) from error

    def _read(
        self, files: list[Resource], manifest: Resource, name: str, file: str, importing: tuple[str, ...]
    ) -> Accelerator:
        content: Any = load_bytes(manifest.content)
        accelerator = section(content, "accelerator")
        imports = tuple(
            _import(item, self._fragment(item, importing)) for item in maps(accelerator, "imports", "accelerator")
        )
        imported = {name: fields for item in imports for name, fields in item.types.items()}
        engine = content.get("engine")
        if engine is not None and not isinstance(engine, Map):
            raise InvalidManifest("engine has to be a transform, which is a mapping", content.lines["engine"])
        if engine is None and any(resource.path == AXL for resource in files):
            raise InvalidManifest(f"the engine is written in {AXL}, a language that this program does not support")
        return Accelerator(
            name, file, tuple(files), content,
            own_options=_usable(parse_options(content, imported)),
            types={**imported, **parse_types(content)},
            imports=imports,
            engine=None if engine is None else read_transform(engine),
        )  # fmt: skip

    def _fragment(self, item: Map, importing: tuple[str, ...]) -> Accelerator:
        name = text(item, "name", "an import")
        if name in importing:
            raise InvalidManifest(f"the fragments {' and '.join((*importing, name))} import one another", item.line)
        if name not in self._known:
            try:
                files = self._find(name)
            except KeyError:
                raise InvalidManifest(
                    f"the fragment {name!r} is imported, but its folder is unknown; use --fragment-path {name}=DIR",
                    item.line,
                ) from None
            self._known[name] = self.load(files, name, f"{name}/{FILE_NAME}", (*importing, name))
        return self._known[name]


def _usable(options: tuple[Option, ...]) -> tuple[Option, ...]:
    """Return the options. Raises InvalidManifest for an invalid validationRegex."""
    parts = (part for option in options for part in option.fields)
    for option in (*options, *parts):
        try:
            java_regex.compile(option.pattern)
        except java_regex.InvalidRegex as error:
            reason = f"the validationRegex of option {option.name} is not a pattern: {error}"
            raise InvalidManifest(reason, option.line) from error
    return options


def _import(item: Map, fragment: Accelerator) -> Import:
    """Return an import with the options and types that it exposes, under their new names."""
    types = _exposed(item, "exposeTypes", "type", fragment.name, fragment.types)
    new_type_names = {name: _new_name(name, entry) for name, entry in types.items()}
    entries = _exposed(item, "expose", "option", fragment.name, [option.name for option in fragment.options])
    renamed = {name: _new_name(name, entry) for name, entry in entries.items() if entry is not None}
    exposed = tuple(
        replace(
            option,
            name=renamed.get(option.name, option.name),
            data_type=new_type_names.get(option.data_type, option.data_type),
            condition=_exposed_condition(entries[option.name]) or option.condition,
        )
        for option in fragment.options
        if option.name in entries
    )
    return Import(
        replace(fragment, renamed=renamed),
        exposed,
        item.line,
        {new_type_names[name]: fragment.types[name] for name in types},
    )


def _exposed(item: Map, key: str, kind: str, fragment: str, known: Iterable[str]) -> dict[str, Map | None]:
    """Return the names that an import exposes, each with its entry, or None under `*`."""
    known = list(known)
    if key not in item:
        return dict.fromkeys(known)
    named = {text(entry, "name", key): entry for entry in maps(item, key, "an import")}
    for name, entry in named.items():
        if name != "*" and name not in known:
            raise InvalidManifest(f"the fragment {fragment!r} has no {kind} {name!r}", entry.line)
    return {name: named.get(name) for name in known if name in named or "*" in named}


def _new_name(name: str, entry: Map | None) -> str:
    return name if entry is None else optional_text(entry, "as", f"{name} in expose") or name


def _exposed_condition(entry: Map | None) -> Condition | None:
    return None if entry is None else condition_in(entry, "dependsOn")


# Running


@dataclass(frozen=True)
class Project:
    """The result of a run: files sorted by path, including the trace."""

    name: str
    files: tuple[Resource, ...]
    # Whether each evaluated pattern matched a file, by manifest, line and pattern.
    matched: Mapping[tuple[str, int | None, str], bool] = field(default_factory=dict)

    def zip(self) -> bytes:
        """Return the project as a zip archive. Raises InvalidTree."""
        return zipped(self.files, self.name)

    def write(self, folder: Path) -> None:
        """Write the files below the folder. Raises OSError."""
        write_folder(self.files, folder)


def completed_answers(accelerator: Accelerator, answers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answers with implied and default values.

    Raises InvalidAnswer for a missing or forbidden answer.
    """
    for option, value in answers.items():
        _check_size(option, value)
    default_answers = defaults(accelerator.options)
    result = dict(answers)
    # Without an answer the project has the manifest's default name, or the name of the accelerator.
    name = result.setdefault("projectName", default_answers.get("projectName", accelerator.name))
    if not isinstance(name, str):
        raise InvalidAnswer(f"projectName cannot be {name!r} (not text)")
    # These precede the defaults: the engine ignores an accelerator's own default for artifactId.
    result.setdefault("artifactId", name.replace(" ", "_") or "app")
    result.setdefault("artifactVersion", "0.0.1-beta")
    return _checked(accelerator.options, {**default_answers, **result})


def _check_size(option: str, value: object) -> None:
    """Raise InvalidAnswer for a value that is too deep or too large to print."""
    waiting = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        if depth > _DEEPEST_ANSWER or (isinstance(item, int) and item.bit_length() > MOST_BITS):
            problem = "is nested too deeply" if depth > _DEEPEST_ANSWER else "holds a number of too many digits"
            raise InvalidAnswer(f"the value of {option[:60]!r} {problem}")
        if isinstance(item, list | Mapping):
            waiting += [(part, depth + 1) for part in (item.values() if isinstance(item, Mapping) else item)]


def _checked(options: Iterable[Option], answers: dict[str, Any]) -> dict[str, Any]:
    options = tuple(options)
    missing = [
        option.name
        for option in options
        if option.required and is_asked(option, answers) and answers.get(option.name) is None
    ]
    if missing:
        raise MissingAnswers(list(dict.fromkeys(missing)))
    for option in options:
        if answers.get(option.name) is not None:
            check_answer(option, answers[option.name], java_regex.search)
            answers[option.name] = _with_field_defaults(option, answers[option.name])
    return answers


def _with_field_defaults(option: Option, answer: Any) -> Any:
    """Return an answer of a custom type with the defaults of missing fields."""
    if not option.fields:
        return answer
    field_defaults = defaults(option.fields)
    return [{**field_defaults, **item} for item in answer] if option.is_list else {**field_defaults, **answer}


def generate(
    accelerator: Accelerator, answers: Mapping[str, Any], *, source: str = "", username: str = "", run_id: str = ""
) -> Project:
    """Run an accelerator with these answers.

    Raises InvalidAnswer, InvalidManifest for an invalid validationRegex, and GenerationFailed.
    """
    variables = completed_answers(accelerator, answers)
    name = _root_folder(variables["projectName"])
    run = Run(answers=variables, accelerator=accelerator.name, source=source, username=username)
    run.id = run_id or run.id
    run.imported = frozenset(_imported(accelerator))
    scope = Scope(run, {**variables, **helpers(accelerator.own_files())}, accelerator.file, accelerator.fragments)
    try:
        files = _root(accelerator, scope)
        log = Resource(LOG_NAME, run.log.markdown(answers).encode("utf-8", errors="backslashreplace"))
        by_path = placed([*(file for file in files if file.path != LOG_NAME), log])
    except InvalidTree as error:
        raise GenerationFailed(f"{accelerator.file}: {error}") from error
    except RecursionError as error:
        raise GenerationFailed(f"{accelerator.file}: transforms are nested too deeply") from error
    return Project(name, tuple(replace(by_path[path], path=path) for path in sorted(by_path)), run.matched)


def _imported(accelerator: Accelerator) -> Iterator[str]:
    for name, fragment in accelerator.fragments.items():
        yield name
        yield from _imported(fragment)


def _root_folder(name: str) -> str:
    """Return the project's name. Raises InvalidAnswer unless it can be the name of a folder."""
    try:
        is_valid = normal_path(name) == name and "/" not in name and "\\" not in name and name.isprintable()
    except InvalidTree:
        is_valid = False
    if not is_valid or len(name.encode()) > 255:
        raise InvalidAnswer(f"projectName cannot be {name[:60]!r}; allowed is the name of one folder")
    return name


def _by_depth(resource: Resource) -> tuple[int, str]:
    """Return the sort key of the engine's input; traces of TAP's engine show this order."""
    return resource.path.count("/"), resource.path


def _root(accelerator: Accelerator, scope: Scope) -> list[Resource]:
    """Run the engine section between the steps that drop manifests and check for unique paths."""
    files = sorted(accelerator.files, key=_by_depth)
    if accelerator.content is None:
        return files
    log: Log = scope.log
    with log.node("engine (Chain)"):
        log.info("Running Chain(Exclude, GeneratorValidationTransform, UniquePath)")
        files = Exclude(patterns=_MANIFESTS).apply(files, scope, "engine.transformations[0]")
        if accelerator.engine is not None:
            with log.node():
                files = accelerator.engine.apply(files, scope, "engine.transformations[1].validated")
        return UniquePath().apply(files, scope, "engine.transformations[2]")
