// Names what is built from here, so that go.mod and go.sum pin it.

//go:build tools

package tools

import _ "github.com/minio/minio"
