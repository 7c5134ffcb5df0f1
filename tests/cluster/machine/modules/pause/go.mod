module hivewire.dev/cluster-tools/pause

go 1.26.0
