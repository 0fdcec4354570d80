"""deploy/ of a generated project, rendered by the real ytt and read by Argo's own validator."""

import copy
import itertools
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from tools import argo, doors
from tools.manifests import (
    AUTHORITY,
    CHOSEN,
    PRODUCTION,
    ROLES,
    VALUES,
    Manifest,
    Refused,
    accounts_and_app,
    chain,
    deployed,
    merged,
    objects,
    of_kind,
    on_event,
    training_inputs,
)

# Each test renders: a quarter of a second, a hundred times.
pytestmark = pytest.mark.slow
CREDENTIALS = ["service-binding", "external-secrets", "kubernetes-secret"]
# What any of these answers changes in deploy/.
ANSWERS = {
    "credentials": CREDENTIALS,
    "appPlatform": ["tap", "kubernetes"],
    "includeUi": [True, False],
    "includeMonitoring": [True, False],
    "storeInputs": [True, False],
}


def generate(place: Path, **answers: object) -> Path:
    """Return a project of the template."""
    folder = doors.accelerator(ROOT, answers, place).folder
    assert folder is not None
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose app runs on plain Kubernetes; nobody changes it."""
    return generate(tmp_path_factory.mktemp("manifests") / "p", appPlatform="kubernetes")


@pytest.fixture
def copied(project: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(project, tmp_path / "copied"))


# Every combination


@pytest.fixture(scope="module")
def combinations(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[dict[str, Any], Path]]:
    """A project for every combination of what deploy/ depends on, the longest name among them."""
    place = tmp_path_factory.mktemp("combinations")
    found = []
    for number, values in enumerate(itertools.product(*ANSWERS.values())):
        answers = dict(zip(ANSWERS, values, strict=True))
        name = "x" * 40 if number % 2 else "image-classifier"
        found.append((answers, generate(place / str(number), projectName=name, **answers)))
    return found


def test_every_combination_renders_and_argo_accepts_it(
    combinations: list[tuple[dict[str, Any], Path]], tmp_path: Path
) -> None:
    """Half a minute: some hundred renderings, each of which another answer may have broken."""
    assert len(combinations) == 48
    for (answers, folder), values in itertools.product(combinations, ([VALUES], [VALUES, PRODUCTION])):
        text = deployed(folder, values)
        file = tmp_path / "deployed.yaml"
        file.write_text(text, encoding="utf-8")
        assert argo.validate([file]) == [], answers
        check_kinds(answers, values, text)
        check_names_and_labels(text)
        assert not re.search(r"password: *[^'\"{\s]", text), "a password stands in the manifests"


def check_kinds(answers: dict[str, Any], values: list[str], text: str) -> None:
    """What is chosen is there, and nothing else."""
    kinds = [found["kind"] for found in objects(text)]
    processes = 1 + answers["includeUi"]
    on_tap = answers["appPlatform"] == "tap"
    expected = {
        "WorkflowTemplate": 1,
        "Workflow": 1,
        "CronWorkflow": int(answers["includeMonitoring"]),
        "Config": 1 + (answers["credentials"] == "external-secrets"),
        "ExternalSecret": len(ROLES) * (answers["credentials"] == "external-secrets"),
        "ConfigMap": len(ROLES) * (answers["credentials"] == "kubernetes-secret"),
        "Workload": processes * on_tap,
        "ResourceClaim": int(on_tap and answers["credentials"] != "kubernetes-secret"),
        "Deployment": processes * (not on_tap),
        "Service": processes * (not on_tap),
        "Ingress": processes * (not on_tap and PRODUCTION in values),
    }
    assert {kind: kinds.count(kind) for kind in {*kinds, *expected}} == expected, answers


def check_names_and_labels(text: str) -> None:
    """Whatever finds the project's objects finds them by one label; no name is longer than Kubernetes allows."""
    for found in objects(text):
        if found["kind"] == "Config":
            continue
        metadata = found["metadata"]
        assert len(metadata["name"]) <= {"CronWorkflow": 52, "Workflow": 57}.get(found["kind"], 63)
        assert metadata["namespace"] in ("ml", "ml-production")
        labels = metadata["labels"]
        assert all(len(value) <= 63 for value in labels.values())
        assert labels["app.kubernetes.io/part-of"] in ("image-classifier", "x" * 40)


# The pipeline


def workflow_template(text: str) -> Manifest:
    (found,) = of_kind(text, "WorkflowTemplate")
    return found


def templates(text: str) -> dict[str, Manifest]:
    return {template["name"]: template for template in workflow_template(text)["spec"]["templates"]}


def pods(text: str) -> dict[str, Manifest]:
    """The templates that are a container of the project's image."""
    return {name: template for name, template in templates(text).items() if "container" in template}


def test_the_steps_are_those_of_mlproject_in_their_order(project: Path) -> None:
    steps = [step for (step,) in templates(deployed(project))["run"]["steps"]]
    assert [step["name"] for step in steps] == ["fetch-git-revision", *chain(project)]
    assert len(steps) == 8
    for step in steps[1:]:
        command = templates(deployed(project))[step["template"]]["container"]["command"]
        assert command == ["python", "-m", "pipeline", step["name"].replace("-", "_")]


def test_a_step_that_is_added_to_mlproject_is_run(copied: Path) -> None:
    file = copied / "MLproject"
    text = file.read_text(encoding="utf-8")
    extra = "  check_fairness:\n    command: python -m pipeline check_fairness\n  promote_model:\n"
    file.write_text(text.replace("  promote_model:\n", extra), encoding="utf-8")
    names = [step["name"] for (step,) in templates(deployed(copied))["run"]["steps"]]
    assert names[-3:] == ["check-fairness", "promote-model", "deploy-inference-db"]


def test_every_step_after_the_first_works_on_its_commit(project: Path) -> None:
    found = templates(deployed(project))
    (first,) = found["fetch-git-revision"]["inputs"]["artifacts"]
    assert "revision" not in first["git"]
    for (step,) in found["run"]["steps"][1:]:
        assert step["arguments"]["parameters"] == [
            {"name": "sha", "value": "{{steps.fetch-git-revision.outputs.parameters.sha}}"}
        ]
        (source,) = found[step["template"]]["inputs"]["artifacts"]
        assert source["git"]["revision"] == "{{inputs.parameters.sha}}"


def test_nothing_is_deployed_when_nothing_is_promoted(project: Path) -> None:
    found = templates(deployed(project))
    conditions = {step["name"]: step.get("when") for (step,) in found["run"]["steps"]}
    promoted = "{{steps.promote-model.outputs.parameters.promoted}} == true"
    assert conditions == dict.fromkeys(conditions) | {"deploy-inference-db": promoted}
    (output,) = found["promote-model"]["outputs"]["parameters"]
    assert output["valueFrom"]["default"] == "false"


def test_pods_may_do_little(project: Path) -> None:
    spec = workflow_template(deployed(project))["spec"]
    (deployment, _) = of_kind(deployed(project), "Deployment")
    for pod in (spec, deployment["spec"]["template"]["spec"]):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    containers = [template["container"] for template in pods(deployed(project)).values()]
    containers += deployment["spec"]["template"]["spec"]["containers"]
    # One of the commit, seven steps, the exit handler, a step by hand, two of monitoring, the app.
    assert len(containers) == 1 + 7 + 1 + 1 + 2 + 1
    for container in containers:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert set(container["resources"]["limits"]) == {"memory"}


def test_parameters_reach_no_script(project: Path) -> None:
    """A parameter is text that is put in: in a command line or a script it would be code."""
    for template in pods(deployed(project)).values():
        assert "{{" not in " ".join(template["container"]["command"])


def test_every_pod_ends_and_is_tried_again(project: Path) -> None:
    spec = workflow_template(deployed(project))["spec"]
    assert spec["activeDeadlineSeconds"] == 24 * 3600
    (run,) = of_kind(deployed(project), "Workflow")
    assert set(run["spec"]["ttlStrategy"].values()) == {10 * 365 * 24 * 3600}
    for name, template in pods(deployed(project)).items():
        assert template["activeDeadlineSeconds"] in (600, 4 * 3600), name
        assert template["retryStrategy"]["limit"] == "3"
        # It counts from the first try's start: no long step would be tried again.
        assert "maxDuration" not in template["retryStrategy"]["backoff"]
        if name != "fetch-git-revision":
            assert "in [75, 137, 143]" in template["retryStrategy"]["expression"]


def test_monitoring_collects_labels_only_where_inputs_are_kept(project: Path, tmp_path: Path) -> None:
    steps = [step["name"] for (step,) in templates(deployed(project))["monitor"]["steps"]]
    assert steps == ["fetch-git-revision", "monitor-model", "collect-labels", "retrain"]
    without = generate(tmp_path / "p", appPlatform="kubernetes", storeInputs=False)
    steps = [step["name"] for (step,) in templates(deployed(without))["monitor"]["steps"]]
    assert steps == ["fetch-git-revision", "monitor-model", "retrain"]


def test_the_run_that_monitoring_starts_is_valid_too(project: Path, tmp_path: Path) -> None:
    text = deployed(project)
    manifest = templates(text)["retrain"]["resource"]["manifest"]
    file = tmp_path / "retrain.yaml"
    file.write_text(f"{text}\n---\n{manifest}\n", encoding="utf-8")
    assert argo.validate([file]) == []
    file.write_text(f"{text}\n---\n{manifest.replace('-pipeline', '-other')}\n", encoding="utf-8")
    (line,) = argo.validate([file])
    assert "image-classifier-other" in line


# What an event starts


def test_argo_accepts_what_an_event_starts(project: Path, tmp_path: Path) -> None:
    """The binding, and the run that it submits from the template that is deployed."""
    file = tmp_path / "event.yaml"
    file.write_text(f"{deployed(project)}\n---\n{on_event(project)}", encoding="utf-8")
    assert argo.validate([file]) == []
    (binding,) = of_kind(on_event(project), "WorkflowEventBinding")
    assert binding["spec"]["submit"]["workflowTemplateRef"]["name"] == "image-classifier-pipeline"


@pytest.mark.parametrize(
    ("given", "broken", "said"),
    [
        (
            "name: image-classifier-pipeline",
            "name: image-classifier-other",
            'no WorkflowTemplate "image-classifier-other"',
        ),
        ("selector: discriminator", "selector: discriminato", "selector: "),
        ('-retrain"', '-train"', 'the selector does not take an event to "image-classifier-retrain"'),
        ("event: '\"event\"'", "event: payload.why", "parameter reason: payload.why is no text"),
        ("  submit:", "  sumbit:", 'unknown field "spec.sumbit"'),
    ],
)
def test_argo_refuses_a_broken_binding(project: Path, tmp_path: Path, given: str, broken: str, said: str) -> None:
    binding = on_event(project).partition("\n---\n")[0]
    assert given in binding
    file = tmp_path / "event.yaml"
    file.write_text(f"{deployed(project)}\n---\n{binding.replace(given, broken)}", encoding="utf-8")
    assert said in "\n".join(argo.validate([file]))


def test_who_sends_an_event_may_submit_and_nothing_else(project: Path) -> None:
    text = on_event(project)
    assert rules(text, "submitter") == {
        ("argoproj.io", "workfloweventbindings", "list"),
        ("argoproj.io", "workflowtemplates", "get"),
        ("argoproj.io", "workflows", "create"),
    }
    (role,) = of_kind(text, "Role")
    (template,) = [rule for rule in role["rules"] if rule["resources"] == ["workflowtemplates"]]
    assert template["resourceNames"] == ["image-classifier-pipeline"]
    (account,) = of_kind(text, "ServiceAccount")
    assert account["automountServiceAccountToken"] is False
    assert {found["kind"] for found in objects(text)} == {
        "WorkflowEventBinding",
        "ServiceAccount",
        "Role",
        "RoleBinding",
    }


Break = Callable[[Manifest], None]


def step_of_run(template: Manifest, name: str) -> Manifest:
    run = next(found for found in template["spec"]["templates"] if found["name"] == "run")
    return next(step for (step,) in run["steps"] if step["name"] == name)


def a_parameter_is_missing(template: Manifest) -> None:
    del step_of_run(template, "train-model")["arguments"]


def a_template_is_unknown(template: Manifest) -> None:
    step_of_run(template, "train-model")["template"] = "train-modle"


def steps_wait_for_each_other(template: Manifest) -> None:
    run = next(found for found in template["spec"]["templates"] if found["name"] == "run")
    tasks = [copy.deepcopy(step) for (step,) in run.pop("steps")]
    for task, other in zip(tasks, [*tasks[1:], tasks[0]], strict=True):
        task["dependencies"] = [other["name"]]
        task.pop("when", None)
        if "arguments" in task:
            task["arguments"] = {"parameters": [{"name": "sha", "value": "x"}]}
    run["dag"] = {"tasks": tasks}


def a_field_is_unknown(template: Manifest) -> None:
    template["spec"]["mutex"] = {"name": "x"}


def an_output_is_read_that_no_step_gives(template: Manifest) -> None:
    when = "{{steps.evaluate-model.outputs.parameters.promoted}} == true"
    step_of_run(template, "deploy-inference-db")["when"] = when


BROKEN: dict[Break, str] = {
    a_parameter_is_missing: "inputs.parameters.sha was not supplied",
    a_template_is_unknown: "template name 'train-modle' undefined",
    steps_wait_for_each_other: "cycle",
    a_field_is_unknown: 'unknown field "spec.mutex"',
    an_output_is_read_that_no_step_gives: "steps.evaluate-model.outputs.parameters.promoted",
}


@pytest.mark.parametrize("change", BROKEN)
def test_argo_refuses_what_is_broken(project: Path, tmp_path: Path, change: Break) -> None:
    found = list(objects(deployed(project)))
    change(next(each for each in found if each["kind"] == "WorkflowTemplate"))
    file = tmp_path / "broken.yaml"
    file.write_text(yaml.safe_dump_all(found), encoding="utf-8")
    assert BROKEN[change] in "\n".join(argo.validate([file]))


# What starts a run


CHANGES_OF_THE_MODEL = {
    "epochs": ("MLproject", "epochs: {type: int, default: 10}", "epochs: {type: int, default: 15}"),
    "the model": ("model.py", "\n", "\n# another\n"),
    "the data": ("dataset.py", "\n", "\n# another\n"),
    "an answer": ("project.yaml", "minimumAccuracy: 0.5", "minimumAccuracy: 0.6"),
    "a step": ("pipeline/steps/train_model.py", "\n", "\n# another\n"),
    "SQL": ("database/training/002-dataset.sql", "\n", "\n-- another\n"),
    "a changelog": ("database/inference/changelog.yaml", "\n", "\n# another\n"),
    "a lock file": ("requirements/training-db.txt", "\n", "\n# another\n"),
    "the stage": (VALUES, "stage: 'staging'", "stage: 'production'"),
    "a database": (VALUES, "database: null", "database: null\n      port: 6432"),
}
OTHER_CHANGES = {
    "README": ("README.md", "\n", "\nanother\n"),
    "the app": ("app/api.py", "\n", "\n# another\n"),
    "the app's lock file": ("requirements/app.txt", "\n", "\n# another\n"),
    "a test": ("tests/test_settings.py", "\n", "\n# another\n"),
    "hosts": (VALUES, "host: 'image-classifier.example.com'", "host: 'other.example.com'"),
    "a manifest": ("deploy/config/pipeline.yaml", "\n", "\n#! another\n"),
}


def change_file(project: Path, name: str, old: str, new: str) -> None:
    text = (project / name).read_text(encoding="utf-8")
    assert old in text, (name, old)
    (project / name).write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize("what", CHANGES_OF_THE_MODEL)
def test_a_change_of_what_a_model_comes_from_starts_a_run(project: Path, copied: Path, what: str) -> None:
    change_file(copied, *CHANGES_OF_THE_MODEL[what])
    before, after = deployed(project), deployed(copied)
    assert training_inputs(before) != training_inputs(after)


@pytest.mark.parametrize("what", OTHER_CHANGES)
def test_no_other_change_does(project: Path, copied: Path, what: str) -> None:
    change_file(copied, *OTHER_CHANGES[what])
    before, after = of_kind(deployed(project), "Workflow"), of_kind(deployed(copied), "Workflow")
    assert before == after


def test_a_module_beside_the_model_starts_a_run(project: Path, copied: Path) -> None:
    (copied / "layers.py").write_text("SIZE = 3\n")
    assert training_inputs(deployed(project)) != training_inputs(deployed(copied))


def test_a_file_that_moves_starts_a_run(project: Path, copied: Path) -> None:
    (copied / "pipeline" / "errors.py").rename(copied / "pipeline" / "mistakes.py")
    assert training_inputs(deployed(project)) != training_inputs(deployed(copied))


# Values


def value(path: str, found: Any) -> dict[str, Any]:
    """Return the values with one of them set."""
    first, _, rest = path.partition(".")
    return {first: value(rest, found) if rest else found}


WRONG_VALUES = [
    ("name", "X", "3 to 40 lower-case letters"),
    ("namespace", "a.b", "a DNS label"),
    ("valuesFiles", [], "length >= 1"),
    ("namespace", "kube-system", "does not begin with kube-"),
    ("syncPeriod", "soon", "a time of 30s at least"),
    ("syncPeriod", "5s", "a time of 30s at least"),
    ("imagePullSecret", "A b", "the name of a Secret"),
    ("git.url", "git@github.com:a/b.git", "begins with https://"),
    ("git.url", "https://me:secret@github.com/a/b.git", "without credentials"),
    ("git", {"url": "http://git.example.com/a.git", "secret": "x"}, "with an https:// or ssh:// address"),
    ("git.branch", "-x", "from a letter or digit on"),
    ("git.branch", "a..b", "without .."),
    ("git.secret", "a b", "the name of a Secret"),
    ("credentials", "vault", "one of"),
    *((f"secrets.{role}", "A b", "the name of a Secret") for role in ROLES),
    ("externalSecrets.store", "A b", "the name of a store"),
    ("externalSecrets.kind", "Vault", "one of"),
    ("externalSecrets.refreshInterval", "1", "a time like 30s"),
    ("training.stage", "Staging", "one of"),
    ("training.mlflow.url", None, "not null"),
    ("training.mlflow.url", "mlflow:5000", "begins with http"),
    ("training.mlflow.secret", "A b", "the name of a Secret"),
    ("training.databases.training.type", "mysql", "one of"),
    ("training.databases.inference.caCertificate", "", "which sslmode verify-ca and verify-full need"),
    ("training.databases.inference.type", "greenplum", "one of"),
    ("training.databases.training.host", "a b", "a host name"),
    ("training.databases.training.port", 0, "value >= 1"),
    ("training.databases.training.port", 70000, "value <= 65535"),
    ("training.databases.training.port", "5432", "expected: integer"),
    ("training.databases.inference.database", "", "length >= 1"),
    ("training.databases.inference.sslmode", "prefer", "one of"),
    ("training.databases.inference.caCertificate", "/etc/ca.crt", "a certificate in PEM"),
    ("pipeline.orchestrator", "airflow", "one of"),
    ("pipeline.image", None, "not null"),
    ("pipeline.image", "registry.example.com/ml/pipeline", "a tag other than latest"),
    ("pipeline.image", "registry.example.com/ml/pipeline:latest", "a tag other than latest"),
    ("pipeline.resources.requests.cpu", "much", "a quantity like"),
    ("pipeline.resources.requests.memory", "1GB", "a quantity like"),
    ("pipeline.resources.limits.memory", "1 Gi", "a quantity like"),
    ("pipeline.retries", 11, "value <= 10"),
    ("pipeline.retries", -1, "value >= 0"),
    ("pipeline.stepDeadline", "1d", "a time like 30s"),
    ("pipeline.runDeadline", "0s", "a time like 30s"),
    ("pipeline.keptRuns", 0, "value >= 1"),
    ("monitoring.schedule", "daily", "five fields"),
    ("monitoring.timezone", "", "length >= 1"),
    ("monitoring.enabled", "sometimes", "expected: boolean"),
    ("app.platform", "knative", "one of"),
    ("app.image", None, "not null"),
    ("app.replicas", 101, "value <= 100"),
    ("app.host", "a_b", "a DNS name"),
    ("app.corsOrigins", ["example.com"], "origins like"),
    ("app.ingress.className", "A b", "the name of an ingress class"),
    ("app.ingress.tlsSecret", "A b", "the name of a Secret"),
    ("app.color", "red", "not declared in schema"),
]


@pytest.mark.parametrize(("path", "given", "said"), WRONG_VALUES)
def test_a_wrong_value_is_refused_with_the_reason(project: Path, path: str, given: object, said: str) -> None:
    # What is for other credentials alone is not looked at with service bindings.
    elsewhere = {"credentials": "external-secrets" if path.startswith("externalSecrets") else "kubernetes-secret"}
    with pytest.raises(Refused) as refused:
        accounts_and_app(project, more=merged(merged(CHOSEN, elsewhere), value(path, given)))
    text = str(refused.value)
    assert said in text
    assert path.rpartition(".")[2] in text


def schema_rules(schema: str) -> Iterator[str]:
    """Return the value after each validation of the schema."""
    lines = schema.splitlines()
    for number, line in enumerate(lines):
        if line.lstrip().startswith("#@schema/validation"):
            following = (found.strip() for found in lines[number + 1 :])
            yield next(found for found in following if not found.startswith("#")).partition(":")[0]


def test_every_validation_of_the_schema_is_tried(project: Path) -> None:
    schema = (project / "deploy" / "config" / "schema.yaml").read_text(encoding="utf-8")
    tried = {path.rpartition(".")[2] for path, _, _ in WRONG_VALUES}
    rules = list(schema_rules(schema))
    assert len(rules) > 30
    assert set(rules) <= tried


def test_what_has_to_be_chosen_is_named(project: Path) -> None:
    with pytest.raises(Refused) as refused:
        accounts_and_app(project, more={})
    named = re.findall(r"^  ([a-zA-Z.]+)$", str(refused.value), re.MULTILINE)
    assert named == ["training.mlflow.url", "pipeline.image", "app.image"]


def test_a_platform_that_nothing_was_generated_for_is_refused(project: Path) -> None:
    with pytest.raises(Refused, match=r"app\.platform is tap, but deploy/app was generated for the other one"):
        deployed(project, more=merged(CHOSEN, {"app": {"platform": "tap"}}))


def test_an_orchestrator_that_nothing_was_generated_for_is_refused(project: Path) -> None:
    with pytest.raises(
        Refused, match=r"pipeline\.orchestrator is kubeflow, but deploy/ was generated for the other one"
    ):
        deployed(project, more=merged(CHOSEN, value("pipeline.orchestrator", "kubeflow")))


def test_another_kind_of_training_database_than_the_code_expects_is_refused(project: Path) -> None:
    more = merged(CHOSEN, value("training.databases.training.type", "postgresql"))
    with pytest.raises(Refused, match=r"is not project\.yaml's trainingDatabase, greenplum"):
        deployed(project, more=more)


def test_production_has_addresses_of_its_own(project: Path) -> None:
    """Those of values.yaml would let it change the other environment's databases."""
    address = {"host": "staging.example.com", "database": "ml", "caCertificate": AUTHORITY}
    chosen = {**CHOSEN, "training": {"mlflow": {"url": "http://mlflow:5000"}}, "credentials": "kubernetes-secret"}
    file = project.parent / "staging.yaml"
    databases = {"training": {"databases": {"training": address, "inference": address}}}
    file.write_text(yaml.safe_dump(databases), encoding="utf-8")
    accounts_and_app(project, [VALUES, str(file)], chosen)
    with pytest.raises(Refused, match=r"training\.databases\.inference\.host"):
        accounts_and_app(project, [VALUES, str(file), PRODUCTION], chosen)


def test_tap_takes_labels_and_parameters_of_the_platform(tmp_path: Path) -> None:
    folder = generate(tmp_path / "p", appPlatform="tap", credentials="kubernetes-secret")
    more = {
        "labels": {"apps.tanzu.vmware.com/has-tests": "true"},
        "params": [{"name": "gitops_ssh_secret", "value": "x"}],
    }
    (workload, _) = of_kind(deployed(folder, more=merged(CHOSEN, {"app": more})), "Workload")
    assert workload["metadata"]["labels"]["apps.tanzu.vmware.com/has-tests"] == "true"
    assert {"name": "gitops_ssh_secret", "value": "x"} in workload["spec"]["params"]
    (authority,) = [each["value"] for each in workload["spec"]["env"] if each["name"] == "PGSSLROOTCERT_PEM"]
    assert authority == AUTHORITY


@pytest.mark.parametrize("credentials", CREDENTIALS)
def test_addresses_are_asked_for_where_the_secrets_do_not_hold_them(project: Path, credentials: str) -> None:
    chosen = {key: found for key, found in CHOSEN.items() if key in ("pipeline", "app")}
    chosen |= {"training": {"mlflow": {"url": "http://mlflow:5000"}}, "credentials": credentials}
    if credentials == "service-binding":
        accounts_and_app(project, more=chosen)
        return
    with pytest.raises(Refused) as refused:
        accounts_and_app(project, more=chosen)
    for database, key in itertools.product(("training", "inference"), ("host", "database", "caCertificate")):
        assert f"training.databases.{database}.{key}" in str(refused.value)
    assert ("externalSecrets.store" in str(refused.value)) == (credentials == "external-secrets")


def test_every_value_is_described(project: Path) -> None:
    """The schema is the reference: every leaf or the section above it says what it is."""
    schema = (project / "deploy" / "config" / "schema.yaml").read_text(encoding="utf-8")
    assert schema.count("#@schema/desc") > 30


# A second environment


def test_production_is_another_place(project: Path) -> None:
    staging, production = deployed(project), deployed(project, [VALUES, PRODUCTION])
    (app,) = of_kind(accounts_and_app(project, [VALUES, PRODUCTION]), "App")
    assert app["metadata"]["namespace"] == "ml-production"
    assert app["spec"]["template"][0]["ytt"]["valuesFrom"] == [{"path": VALUES}, {"path": PRODUCTION}]
    stages = {
        variable["value"]
        for found in of_kind(production, "Deployment")
        for variable in found["spec"]["template"]["spec"]["containers"][0]["env"]
        if variable["name"] == "MODEL_STAGE"
    }
    assert stages == {"production"}
    assert {found["spec"]["replicas"] for found in of_kind(production, "Deployment")} == {2}
    assert [found["spec"]["rules"][0]["host"] for found in of_kind(production, "Ingress")] == [
        "image-classifier.production.example.com",
        "ui-image-classifier.production.example.com",
    ]
    assert not of_kind(staging, "Ingress")
    assert training_inputs(staging) != training_inputs(production)


# Accounts


def rules(text: str, account: str) -> set[tuple[str, str, str]]:
    """Return what an account may do: API group, resource, verb."""
    (role,) = [found for found in of_kind(text, "Role") if found["metadata"]["name"] == f"image-classifier-{account}"]
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group, resource, verb in itertools.product(rule["apiGroups"], rule["resources"], rule["verbs"])
    }


@pytest.mark.parametrize("platform", ANSWERS["appPlatform"])
@pytest.mark.parametrize("credentials", CREDENTIALS)
def test_the_deployer_may_deploy_what_is_rendered_and_nothing_else(
    tmp_path: Path, platform: str, credentials: str
) -> None:
    project = generate(tmp_path / "p", appPlatform=platform, credentials=credentials)
    ingress = merged(CHOSEN, {"app": {"ingress": {"enabled": True}}})
    may = {(group, resource) for group, resource, _ in rules(accounts_and_app(project, more=ingress), "deployer")}
    needed = {("", "configmaps")}
    for found in objects(deployed(project, more=ingress)):
        group = found["apiVersion"].rpartition("/")[0]
        plural = found["kind"].lower() + ("es" if found["kind"] == "Ingress" else "s")
        if found["kind"] != "Config":
            needed.add((group, plural))
    assert may == needed


def test_pods_may_report_and_monitoring_may_start_a_run(project: Path) -> None:
    text = accounts_and_app(project)
    report = {("argoproj.io", "workflowtaskresults", verb) for verb in ("create", "patch")}
    assert rules(text, "pipeline") == report
    assert rules(text, "monitor") == report | {("argoproj.io", "workflows", "create")}
    assert not of_kind(text, "ClusterRole")
    assert not of_kind(text, "ClusterRoleBinding")


def test_without_monitoring_there_is_no_account_for_it(tmp_path: Path) -> None:
    text = accounts_and_app(generate(tmp_path / "p", includeMonitoring=False))
    names = {found["metadata"]["name"] for found in objects(text)}
    assert not [name for name in names if name.endswith("-monitor")]


@pytest.mark.parametrize(
    ("url", "keys"),
    [
        ("https://git.example.com/a/b.git", {"usernameSecret": "username", "passwordSecret": "password"}),
        ("ssh://git@git.example.com/a/b.git", {"sshPrivateKeySecret": "ssh-privatekey"}),
    ],
)
def test_a_private_repository_is_read_by_a_secrets_name(project: Path, url: str, keys: dict[str, str]) -> None:
    more = merged(CHOSEN, {"git": {"url": url, "secret": "repository"}})
    (app,) = of_kind(accounts_and_app(project, more=more), "App")
    assert app["spec"]["fetch"][0]["git"]["secretRef"] == {"name": "repository"}
    for template in pods(deployed(project, more=more)).values():
        (source,) = template["inputs"]["artifacts"]
        assert {name: source["git"][name] for name in keys} == {
            name: {"name": "repository", "key": key} for name, key in keys.items()
        }


def test_no_secret_is_made_here(project: Path) -> None:
    """Secrets are named, never written."""
    for more in (CHOSEN, merged(CHOSEN, {"credentials": "kubernetes-secret"})):
        assert not of_kind(deployed(project, more=more) + "\n---\n" + accounts_and_app(project, more=more), "Secret")
