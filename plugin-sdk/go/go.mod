module wasaba.dev/plugin

go 1.24
