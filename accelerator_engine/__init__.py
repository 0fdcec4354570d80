"""An engine for the accelerator.yaml of Application Accelerator."""
