// Package cdi reads what `irqbridge cdi` prints as podman, containerd and Kubernetes' DRA drivers do, with the CDI project's
// own library. It is a module of its own, so that the library is not among the program's requirements.
package cdi
