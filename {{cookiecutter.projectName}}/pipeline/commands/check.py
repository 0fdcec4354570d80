"""Check your own files, without any server.

They are project.yaml, MLproject, model.py and dataset.py. `./run STEP` and `make demo` check them before a server
starts. Without the pipeline's environment, only model.py and dataset.py can be checked.
"""

import importlib.util
import sys

from pipeline import code_files
from pipeline.errors import StepError

# The steps that run code of each file; `all` and `retrain` run several of them.
CHAINS = ("all", "retrain")
USERS = {
    "model": (*CHAINS, "deploy_training_code", "deploy_training_db", "train_model", "search", "learning_curve"),
    "dataset": (*CHAINS, "deploy_training_code", "deploy_training_db", "upload_dataset", "demo"),
}


def main(*names: str) -> None:
    """Check the files that these steps read; without names, check all and print which. Raises StepError."""
    check(names or CHAINS)
    if not names:
        files = ["project.yaml", "MLproject"] if has_packages() else []
        files += [f"{name}.py" for name in USERS if code_files.exists(name)]
        print(f"no mistake found: {', '.join(files)}")


def check(names: tuple[str, ...]) -> None:
    """Check the files that the steps read. Raises StepError with the first mistake."""
    is_table = not code_files.exists("dataset")
    if has_packages():
        is_table = _check_yaml(names)
    for module, users in USERS.items():
        if set(names) & set(users) and not (module == "dataset" and is_table):
            code_files.require(module)
            if has_packages():
                code_files.require_imports(module)


def has_packages() -> bool:
    """Return whether this Python has the packages of the pipeline."""
    return all(importlib.util.find_spec(name) for name in ("numpy", "psycopg2", "yaml"))


def _check_yaml(names: tuple[str, ...]) -> bool:
    """Check project.yaml and MLproject; return whether the rows come from a table. Raises StepError."""
    # These modules import packages.
    from pipeline.mlproject import chain, require_modules, steps
    from pipeline.settings import declared_range, section, settings

    is_table = settings().source is not None
    declared_range()
    require_modules()
    if set(names) & set(CHAINS):
        chain()
    if set(names) & {*CHAINS, "search"}:
        from pipeline.training.run import check_parameters
        from pipeline.training.search_space import configurations

        train = steps().get("train_model")
        if train:
            check_parameters(train.defaults)
            if section("search") is not None:
                configurations(section("search"), train)
    return is_table


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except StepError as error:
        sys.exit(f"error: {error}")
