module pack

go 1.24
