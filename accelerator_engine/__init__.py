"""The YAML engine of Application Accelerator: options and their validation."""
