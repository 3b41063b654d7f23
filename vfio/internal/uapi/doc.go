// Package uapi is the boundary between this module and the Linux kernel's VFIO and iommufd interfaces
// (include/uapi/linux/vfio.h and iommufd.h): constants, structures with the kernel's layout, and [Kernel], one method per system call.
//
// [Real] is the running kernel. The fake kernel of vfio/vfiotest implements the same interface, which is why its
// methods take the raw ioctl argument as bytes: the rules about argsz, flags and capability chains lie on this
// boundary and are tested on both sides of it by the same conformance suite.
//
// Nothing here interprets an answer. Errors are bare errnos; their causes and remedies are the business of package vfio.
//
// # The argsz protocol
//
// Every structure starts with its own size, argsz, so that it can grow. The caller sets argsz to the room it has. The
// kernel refuses less than the first version of the structure (EINVAL) and never writes beyond argsz. When a
// capability chain does not fit, the call still succeeds: the flag for capabilities is set, cap_offset is 0, and argsz
// is overwritten with the size to try next. A capability's next field is an offset from the start of the structure.
//
// On /dev/iommu the first field is called size, and the rule is another: what lies behind the structure that the kernel
// knows must be zero (E2BIG).
//
// The layouts and numbers in this package are compared with those of several kernel header versions in
// testdata/abi, which scripts/abi writes.
package uapi
