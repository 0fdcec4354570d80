// Imports the programs that are built from this module, so that go.mod and go.sum pin them.

//go:build tools

package tools

import (
	_ "carvel.dev/kapp/cmd/kapp"
	_ "carvel.dev/vendir/cmd/vendir"
)
