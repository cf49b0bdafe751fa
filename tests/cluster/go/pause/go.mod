// The process that holds a pod's namespaces open.
module cluster/pause

go 1.26.0
