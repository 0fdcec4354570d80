"""The groups of tests that two processes share."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT
from groups import OWN_SERVERS, SERVING, SLOWEST_GROUPS, SUITES, TRAINING, group_of, start_order

END_TO_END = ROOT / "tests" / "end_to_end"


@pytest.mark.parametrize(
    ("test", "group"),
    [
        ("test_search.py::test_ctrl_c", TRAINING),
        ("test_api_abuse.py::test_a_hostile_file_is_refused_with_a_sentence[bomb]", SERVING),
        ("test_tutorial.py::test_every_page", OWN_SERVERS),
        (f"test_secrets.py::test_no_password_is_printed[{TRAINING}]", TRAINING),
        (f"test_secrets.py::test_no_password_is_printed[{SERVING}]", SERVING),
    ],
)
def test_suites_of_end_to_end_have_three_groups(test: str, group: str) -> None:
    assert group_of(f"tests/end_to_end/{test}") == group


def test_other_modules_are_groups() -> None:
    assert group_of("tests/test_ci.py::test_a") == "tests/test_ci.py" != group_of("tests/engine/test_ci.py::test_a")
    assert group_of("tests/kubeflow/test_traces.py::test_a") == group_of("tests/kubeflow/test_secrets.py::test_a[1]")


def test_the_longest_groups_come_first() -> None:
    """SLOWEST_GROUPS names existing groups, and tests of other groups come after them."""
    assert [start_order(f"{group}::test_a") for group in SLOWEST_GROUPS[3:]] == [3, 4]
    assert all((ROOT / group).is_file() for group in SLOWEST_GROUPS[3:])
    assert start_order("tests/end_to_end/test_search.py::test_ctrl_c") < start_order(
        "tests/end_to_end/test_api.py::test_a"
    )
    assert start_order("tests/test_ci.py::test_a") == len(SLOWEST_GROUPS)


def test_every_named_suite_exists_and_uses_the_servers_of_its_group() -> None:
    names = [path.stem for path in END_TO_END.glob("test_*.py")]
    for suites in SUITES.values():
        assert all(any(name.startswith(suite) for name in names) for suite in suites), suites
    for path in END_TO_END.glob("test_*.py"):
        if path.stem.startswith(SUITES[OWN_SERVERS]):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"\b(default_project|trained|first_run|named_projects|long_epochs)\b", text), path


@pytest.mark.slow
def test_a_module_runs_in_one_process() -> None:
    """Two processes run two modules, as `make test` lets them run the slow tests."""
    modules = ["tests/test_hooks.py", "tests/test_sql_copies.py"]
    completed = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", "-n", "2", "--dist", "loadgroup", *modules],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert completed.returncode == 0, completed.stdout
    processes: dict[str, set[str]] = {}
    for process, module in re.findall(r"^\[(gw\d)\].* (tests/\w+\.py)::", completed.stdout, re.MULTILINE):
        processes.setdefault(module, set()).add(process)
    assert sorted(map(len, processes.values())) == [1, 1]
    assert len(set.union(*processes.values())) == 2


@pytest.mark.slow
def test_no_test_is_in_neither_run() -> None:
    """`make test-fast` leaves out the folders of SLOW_FOLDERS, so every test there must be slow or need a cluster."""
    listed = re.search(r"^SLOW_FOLDERS := (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert listed
    folders = [f"tests/{name}" for name in listed[1].split()]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "not slow and not cluster", *folders]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert completed.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, completed.stdout[-2000:]
