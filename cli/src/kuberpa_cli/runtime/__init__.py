"""The local runtime: stands in for the kubelet of the embedded cluster's nodes, on one machine.

It runs each robot pod's agent as a process of its own unprivileged user, with that pod's environment, volumes and
projected token, and reports the pod's status as a kubelet does. It is no container runtime: images are not pulled,
resource limits are not enforced, the file system is the machine's, only the first container of a pod runs, and pods of
the Windows node run the same Linux agent. `$(VAR)` in environment values is not expanded.
"""
