"""The transforms of an engine section: each turns a list of resources into another.

Several resources may share a path until UniquePath resolves the conflict. A transform with a false
condition contributes nothing to a Merge, and changes nothing in a Chain.
"""

from accelerator_engine.transforms.composition import Chain, Combo, Let, Loop, Merge, Symbol
from accelerator_engine.transforms.conflicts import STRATEGIES, UniquePath
from accelerator_engine.transforms.contents import ReplaceText, Substitution, UseEncoding
from accelerator_engine.transforms.fragments import InvokeFragment, Provenance
from accelerator_engine.transforms.frame import GenerationFailed, Run, Scope, Transform, helpers
from accelerator_engine.transforms.paths import DEFAULT_PATH_REGEX, RewritePath, path_groups
from accelerator_engine.transforms.programs import YTT, OpenRewriteRecipe
from accelerator_engine.transforms.selection import Exclude, Include, Selection

__all__ = [
    "DEFAULT_PATH_REGEX",
    "STRATEGIES",
    "YTT",
    "Chain",
    "Combo",
    "Exclude",
    "GenerationFailed",
    "Include",
    "InvokeFragment",
    "Let",
    "Loop",
    "Merge",
    "OpenRewriteRecipe",
    "Provenance",
    "ReplaceText",
    "RewritePath",
    "Run",
    "Scope",
    "Selection",
    "Substitution",
    "Symbol",
    "Transform",
    "UniquePath",
    "UseEncoding",
    "helpers",
    "path_groups",
]
