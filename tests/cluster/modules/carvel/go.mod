module in-database-ml-accelerator/tests/cluster/modules/carvel

go 1.26

require (
	carvel.dev/kapp v0.64.2
	carvel.dev/vendir v0.43.0
)
