// Imports the other programs that are built from this module, so that go.mod and go.sum pin them.

//go:build tools

package main

import (
	_ "github.com/argoproj/argo-workflows/v3/cmd/workflow-controller"
)
