// Command abi prints, as JSON, the structure layouts and constants of the kernel's VFIO and iommufd headers as the C
// compiler sees them. It reads the debug information of the object files that the script update, in this directory,
// compiles from c/vfio.c and c/iommufd.c once per kernel version. The results are testdata/abi, against which vfio/internal/uapi is tested.
package main
