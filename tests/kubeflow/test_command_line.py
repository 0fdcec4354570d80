"""The command line: users' mistakes, and calls of Kubeflow's API."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools import ytt
from tools.manifests import CHOSEN, VALUES, merged

from .pipelines import chosen, kfp
from .server import Kubeflow

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("words", "more", "message"),
    [
        (["compile", "tarin", "--output", "x"], {}, "there is no pipeline tarin; there are train, step, monitor"),
        (["compile", "--output", "x.txt"], {}, "--output is x.txt; a pipeline's file ends with .yaml"),
        (["submit", "-P", "train_model_epochs"], {}, "-P train_model_epochs has no value; write it as NAME=VALUE"),
        (["submit", "step"], {}, "step is ''; -P step=NAME names one of deploy_training_code, "),
        (["submit", "step", "-P", "step=rollbak"], {}, "step is 'rollbak'; -P step=NAME names one of "),
        (["submit", "-P", "epochs=3"], {}, "train takes no parameter epochs; it takes upload_dataset_seed, "),
        (
            ["compile", "--output", "x"],
            {"pipeline": {"image": "x:latest"}},
            "ytt does not take deploy/values.yaml and ",
        ),
        (["compile", "--output", "/nowhere/x.yaml"], {}, "/nowhere/x.yaml"),
        (
            ["schedule"],
            {"monitoring": {"timezone": "Europe/Berlin"}},
            "monitoring.timezone is Europe/Berlin; Kubeflow's",
        ),
        (["compile", "--output", "x"], {"git": {"url": "ssh://git@git.example.com/a.git", "secret": "x"}}, "https://"),
        (["local"], {}, "is on no branch of a git repository: commit what is to run"),
        (["--host", "http://127.0.0.1:9", "submit"], {}, "Kubeflow does not answer at http://127.0.0.1:9"),
    ],
)
def test_a_mistake_is_reported_without_a_traceback(
    project: Path, tmp_path: Path, words: list[str], more: dict[str, Any], message: str
) -> None:
    process = kfp(project, "--values", VALUES, "--values", str(chosen(tmp_path, more)), *words)
    assert process.returncode == 1, process.stdout
    assert "Traceback" not in process.stdout + process.stderr
    assert message in process.stderr.splitlines()[-1] if "ytt" not in message else message in process.stderr


def test_a_schedule_replaces_the_one_before(project: Path, tmp_path: Path) -> None:
    """A server in Kubeflow's place records the requests."""
    with Kubeflow() as server:
        values = ["--values", VALUES, "--values", str(chosen(tmp_path, {})), "--host", server.address]
        for _ in range(2):
            process = kfp(project, *values, "--multi-user", "schedule")
            assert process.returncode == 0, process.stdout + process.stderr
            assert process.stdout.endswith("image-classifier-monitor: 0 0 3 * * *\n")
        (job,) = server.jobs.values()
        assert job["display_name"] == "image-classifier-monitor"
        assert job["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * *"
        assert (job["max_concurrency"], job["no_catchup"], job["mode"]) == (1, True, "ENABLE")
        assert job["pipeline_spec"]["pipeline_spec"]["pipelineInfo"]["name"] == "image-classifier-monitor"
        assert server.namespaces == {"ml"}
        process = kfp(project, *values, "submit", "-P", "train_model_epochs=3")
        assert process.returncode == 0, process.stdout + process.stderr
        (run,) = server.runs
        assert run["runtime_config"]["parameters"] == {"train_model_epochs": "3"}
        off = chosen(tmp_path, {"monitoring": {"enabled": False}})
        process = kfp(project, "--values", VALUES, "--values", str(off), "--host", server.address, "schedule")
        assert process.stdout.endswith("image-classifier-monitor: not scheduled\n"), process.stderr
        assert not server.jobs
        server.refusing = True
        process = kfp(project, *values, "submit")
        assert process.returncode == 1
        assert process.stderr.splitlines()[-1].startswith("error: Kubeflow refuses: 403 Forbidden")


def test_the_pages_commands_do_what_the_page_says(copied: Path) -> None:
    """Every command of the page, run against a server in Kubeflow's place."""
    page = (copied / "docs" / "how-to" / "orchestrator.md").read_text(encoding="utf-8")
    shortened, commands, *_ = re.findall(r"^```bash\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    values = yaml.safe_load((copied / VALUES).read_text(encoding="utf-8"))
    (copied / VALUES).write_text(yaml.safe_dump(merged(values, CHOSEN)), encoding="utf-8")
    with Kubeflow() as server:
        script = f"set -e\n{shortened}{commands}".replace("https://KUBEFLOW", server.address)
        path = f"{ytt.folder()}{os.pathsep}{os.environ['PATH']}"
        process = subprocess.run(
            ["bash", "-c", script], cwd=copied, env={**os.environ, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert process.returncode == 0, process.stdout + process.stderr
        assert yaml.safe_load_all((copied.parent / "train.yaml").read_text(encoding="utf-8"))
        assert [run["runtime_config"].get("parameters", {}) for run in server.runs] == [
            {},
            {"train_model_epochs": "20"},
            {"step": "rollback", "options": "--to-version 1"},
        ]
        assert len(server.jobs) == 1
    # Compiled pipelines are not for git: they derive from committed files.
    assert not list(copied.rglob("*train*.yaml"))
