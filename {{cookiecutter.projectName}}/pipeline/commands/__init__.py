"""Commands beside the steps: `./run doctor`. A module's docstring is its help, `main` takes its arguments."""
