"""The pipelines of Kubeflow: `python -m deploy.pipeline_kfp compile|submit|schedule|local`."""
