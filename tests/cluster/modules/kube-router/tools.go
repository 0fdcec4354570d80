// Imports the program that is built from this module, so that go.mod and go.sum pin it.

//go:build tools

package tools

import _ "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router"
