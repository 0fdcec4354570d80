module in-database-ml-accelerator/tests/tools/minio

go 1.26

require github.com/minio/minio v0.0.0-20250422221226-0d7408fc9969
