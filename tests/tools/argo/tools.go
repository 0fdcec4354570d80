// Names what else is built from this module, so that go.mod and go.sum pin it.

//go:build tools

package main

import (
	_ "github.com/argoproj/argo-workflows/v3/cmd/workflow-controller"
)
