module weft.dev/cluster/images

go 1.26.0
