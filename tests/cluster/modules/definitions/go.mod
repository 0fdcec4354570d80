module in-database-ml-accelerator/tests/cluster/modules/definitions

go 1.26

require (
	github.com/external-secrets/external-secrets v0.17.0
	github.com/servicebinding/runtime v1.0.0
	github.com/vmware-tanzu/cartographer v0.7.0
)
