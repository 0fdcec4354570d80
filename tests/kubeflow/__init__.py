"""The pipelines of Kubeflow: compiled by the real kfp, and compared step by step with Argo's."""
