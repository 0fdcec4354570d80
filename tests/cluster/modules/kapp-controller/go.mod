module in-database-ml-accelerator/tests/cluster/modules/kapp-controller

go 1.26

require github.com/vmware-tanzu/carvel-kapp-controller v0.51.0
