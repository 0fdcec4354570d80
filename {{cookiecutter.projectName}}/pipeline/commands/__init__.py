"""What a person or the Makefile calls beside the steps."""
