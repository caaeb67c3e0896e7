module fn/shim

go 1.19
