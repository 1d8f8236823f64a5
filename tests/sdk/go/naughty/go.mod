module naughty

go 1.24

require wasaba.dev/plugin v0.2.0

replace wasaba.dev/plugin => ../../../../plugin-sdk/go
