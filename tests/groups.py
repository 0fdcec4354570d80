"""Which tests run in one process when two processes share the slow tests."""

from pathlib import PurePosixPath

from xdist.scheduler import LoadScopeScheduling

# Groups of end_to_end. The first two start default_project for themselves and take about the same time.
TRAINING, SERVING, OWN_SERVERS = "end_to_end training", "end_to_end serving", "end_to_end own servers"
SUITES = {
    SERVING: (
        "test_api", "test_browser", "test_datahub", "test_kubeflow_run", "test_notebook", "test_orchestration",
        "test_page", "test_pgadmin", "test_predict", "test_table",
    ),
    OWN_SERVERS: ("test_mlflow_backend", "test_tutorial"),
}  # fmt: skip
# Started last, one of them would leave the other process without work.
SLOWEST_GROUPS = (TRAINING, SERVING, OWN_SERVERS, "tests/test_generated_project.py", "tests/test_parity.py")
# The servers of both are searched for passwords: test_secrets.py runs once in each.
WITH_DEFAULT_PROJECT = (TRAINING, SERVING)


def group_of(nodeid: str) -> str:
    """Return the group of a test; tests that share servers or a module's fixtures have the same."""
    file, _, test = nodeid.partition("::")
    path = PurePosixPath(file)
    if path.parent.name == "kubeflow":
        return "kubeflow"
    if path.parent.name != "end_to_end":
        return str(path)
    if path.stem == "test_secrets":
        return next(group for group in WITH_DEFAULT_PROJECT if test.endswith(f"[{group}]"))
    return next((group for group, suites in SUITES.items() if path.stem.startswith(suites)), TRAINING)


def start_order(nodeid: str) -> int:
    """Return the position at which a test's group starts; groups outside SLOWEST_GROUPS share the last one."""
    group = group_of(nodeid)
    return SLOWEST_GROUPS.index(group) if group in SLOWEST_GROUPS else len(SLOWEST_GROUPS)


class Groups(LoadScopeScheduling):
    """A process runs the tests of a group in their order; the groups of SLOWEST_GROUPS come first.

    xdist passes the groups of its own marks on in `_nodeid`, which items no longer have in pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
