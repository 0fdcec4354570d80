module in-database-ml-accelerator/tests/cluster/modules/pause

go 1.26
