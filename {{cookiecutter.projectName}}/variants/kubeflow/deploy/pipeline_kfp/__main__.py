"""Runs the command line where kfp is installed: in the environment `kubeflow`."""

import sys

try:
    from deploy.pipeline_kfp.commands import main
except ModuleNotFoundError as error:
    command = "/usr/bin/python3 -m local run --environment kubeflow --no-servers -- python -m deploy.pipeline_kfp …"
    sys.exit(f"error: {error.name} is not installed here: run it from the project's folder as `{command}`")

if __name__ == "__main__":
    main()
