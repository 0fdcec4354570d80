"""The manifests in deploy/ of a generated project, rendered with ytt and validated with Argo's own code."""
