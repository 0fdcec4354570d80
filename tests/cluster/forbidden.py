"""Commands of kubectl that the accounts of a project may not run."""

from .delivery import APP_IMAGE, NAME, NAMESPACE

# The kubectl commands that no account of the project may run; POD is a pod of the API.
FORBIDDEN = [
    ["get", "secret", f"{NAME}-trainer"],
    ["get", "secrets"],
    ["create", "secret", "generic", "x"],
    ["delete", "secret", f"{NAME}-trainer"],
    ["exec", "POD", "--", "true"],
    ["logs", "POD"],
    ["delete", "pod", "POD"],
    ["get", "pods"],
    ["run", "x", f"--image={APP_IMAGE}"],
    ["create", "serviceaccount", "x"],
    ["create", "token", f"{NAME}-deployer"],
    ["get", "roles"],
    ["delete", "app", NAME],
    ["get", "app", NAME],
    ["get", "nodes"],
    ["get", "workflowtaskresults"],
    ["create", "--filename=-"],
]
FORBIDDEN_EXCEPT_FOR_THE_DEPLOYER = [
    ["get", "workflows"],
    ["get", "configmaps"],
    ["delete", "workflow", f"{NAME}-pipeline-ver-8"],
]
FORBIDDEN_ELSEWHERE = [["get", "configmaps", "--namespace=argo"], ["get", "workflows", "--namespace=argo"]]
# The object that `create --filename=-` would create.
MORE_RIGHTS = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "Role",
    "metadata": {"name": "more", "namespace": NAMESPACE},
    "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}],
}
