package diagnosis

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
)

var (
	nic  = pci.Address{Bus: 2}
	port = pci.Address{Device: 0x1c}
)

// function is a configuration space with everything on.
func function(decoded ...any) *pci.Function {
	f := &pci.Function{
		Command: pci.CommandMemory | pci.CommandBusMaster, Size: 4096,
		INTx: &pci.INTx{Pin: 1}, MSI: &pci.MSI{Messages: 1, Address64: true, Maskable: true, Address: 0xfee00000}, MSIX: &pci.MSIX{Messages: 5, Enabled: true},
	}
	for _, d := range decoded {
		f.Capabilities = append(f.Capabilities, pci.Capability{Decoded: d})
	}
	return f
}

// goodDevice is a device behind a port, with two messages of MSI-X connected by process 42, whose threads serve them on CPU 1.
func goodDevice() Device {
	irq := func(message int) IRQ {
		return IRQ{
			Kind: pci.KindMSIX, Message: message, Number: 27 + message,
			Affinity: host.Affinity{Set: host.CPUSetOf(1), Effective: host.CPUSetOf(1)},
		}
	}
	self := host.Device{Address: nic, VendorID: 0x8086, DeviceID: 0x10d3, Driver: "vfio-pci", VFIO: true, Group: 2, PowerState: "D0"}
	bridge := &pci.Function{
		Command: pci.CommandMemory | pci.CommandBusMaster, Size: 4096, Bridge: &pci.Bridge{},
		Capabilities: []pci.Capability{
			{Decoded: &pci.Express{Type: pci.ExpressRootPort, Link: &pci.ExpressLink{Width: 4, MaxWidth: 4, SpeedGTs: 8, MaxSpeedGTs: 8, ActiveReporting: true, Active: true}}},
			{Decoded: &pci.PowerManagement{}},
		},
		ExtendedCapabilities: []pci.ExtendedCapability{
			{Decoded: &pci.ACS{Enabled: pci.ACSServices{RequestRedirect: true, UpstreamForwarding: true}}}, {Decoded: &pci.DPC{}},
		},
	}
	return Device{
		Device: self, Config: function(&pci.PowerManagement{}), Group: &host.Group{ID: 2, Members: []host.Device{self}},
		Above:   []Bridge{{Device: host.Device{Address: port, Bridge: true, PowerState: "D0"}, Enables: 1, Config: bridge}},
		Nodes:   []Node{{Path: "/dev/vfio/vfio"}, {Path: "/dev/vfio/2"}},
		Holders: []host.Process{{ID: 42, Name: "a"}}, Pinned: []host.CPUSet{host.CPUSetOf(1)}, Online: host.CPUSetOf(0, 1), IRQsInUse: 10,
		IRQs: []IRQ{irq(0), irq(1)},
	}
}

// idle makes nobody have the device open.
func idle(d *Device) {
	d.Holders, d.Pinned, d.IRQs, d.Config.MSIX.Enabled = nil, nil, nil, false
}

// byLine makes the device interrupt by its line.
func byLine(d *Device) {
	d.IRQs = d.IRQs[:1]
	d.IRQs[0].Kind, d.Config.MSIX.Enabled, d.LineState = pci.KindINTx, false, LineQuiet
}

// byMSI makes the device interrupt by its one MSI message.
func byMSI(d *Device) {
	d.IRQs = d.IRQs[:1]
	d.IRQs[0].Kind, d.Config.MSIX.Enabled, d.Config.MSI.Enabled = pci.KindMSI, false, true
}

func (f *Device) member(d host.Device) { f.Group.Members = append(f.Group.Members, d) }

func TestAGoodDevicePasses(t *testing.T) {
	for name, change := range map[string]func(*Device){
		"by MSI-X": func(*Device) {}, "by MSI": byMSI, "by its line": byLine, "idle": idle,
		"asleep": func(d *Device) {
			idle(d)
			d.Config.Capabilities[0].Decoded = &pci.PowerManagement{State: 3}
			d.Config.Command = 0
			d.Above[0].Config.Capabilities[1].Decoded = &pci.PowerManagement{State: 3}
			d.Above[0].Enables, d.Above[0].Config.Command = 0, 0
		},
		"conventional, on the root bus": func(d *Device) { d.Above, d.Config.Capabilities = nil, nil },
		"with I/O BARs only": func(d *Device) {
			byLine(d)
			d.Config.Command, d.Config.BARs = pci.CommandIO, []pci.BAR{{Type: pci.BARIO}}
		},
		"a virtual function":                                   func(d *Device) { d.Config.VendorID, d.Config.Command = 0xffff, pci.CommandBusMaster },
		"not known to be open":                                 func(d *Device) { idle(d); d.Possible = []host.Process{{ID: 43, Name: "b"}} },
		"a line that is at work":                               func(d *Device) { byLine(d); d.LineState = LineMoving },
		"a message that nobody has connected is masked":        func(d *Device) { byMSI(d); d.Config.MSI.Mask = 0xfffffffe },
		"known only to the driver of the host by its messages": func(d *Device) { d.Holders, d.Pinned = nil, nil },
		"on an isolated CPU, where there is no other":          func(d *Device) { d.Isolated, d.Pinned = d.Online, nil },
		"leftovers of finding devices": func(d *Device) {
			d.Config.ExtendedCapabilities = []pci.ExtendedCapability{{Decoded: &pci.AER{Uncorrectable: pci.UncorrectableErrors{UnsupportedRequest: true}}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := goodDevice()
			change(&d)
			seen := map[string]bool{}
			for _, c := range d.Checks(goodHost()) {
				assert.Equal(t, OK, c.Status, "%s: %s", c.ID, c.Cause)
				assert.NotEmpty(t, c.Cause, c.ID)
				assert.Empty(t, c.Next, c.ID)
				assert.False(t, seen[c.ID], "%s is there twice", c.ID)
				seen[c.ID] = true
			}
		})
	}
}

func openedByIOMMUFD(d *Device) {
	d.Nodes = []Node{{Path: "/dev/iommu"}, {Path: "/dev/vfio/devices/vfio0"}}
}

func TestDevice(t *testing.T) {
	other := host.Device{Address: pci.Address{Bus: 2, Function: 1}, Driver: "e1000", Group: 2}
	for name, c := range map[string]struct {
		change func(*Device)
		on     func(*Host)
		id     string
		status Status
		cause  string
		next   string
	}{
		"gone": {
			change: func(d *Device) { d.Config, d.ConfigErr = nil, pci.ErrNoAnswer },
			on:     func(h *Host) { h.HasIOMMU = false }, // which comes after
			id:     "device", cause: "its configuration space reads all ones", next: "echo 1 | sudo tee /sys/bus/pci/devices/0000:02:00.0/remove /sys/bus/pci/rescan",
		},
		"without power": {
			change: func(d *Device) { d.Config, d.ConfigErr, d.PowerState = nil, pci.ErrNoAnswer, "D3cold" },
			id:     "device", cause: "it sleeps without power (D3cold)", next: "echo on | sudo tee /sys/bus/pci/devices/0000:02:00.0/power/control",
		},
		"not readable": {
			change: func(d *Device) { d.Config, d.ConfigErr = nil, errors.New("bad") },
			id:     "device", status: Unknown, cause: "bad", next: "sudo irqbridge doctor 0000:02:00.0",
		},
		"vanished meanwhile": {
			change: func(d *Device) { d.Config, d.ConfigErr = nil, fs.ErrNotExist },
			id:     "device", status: Unknown, cause: "file does not exist", next: "irqbridge list",
		},
		"not readable to its end": {
			change: func(d *Device) { d.Config.Size, d.Config.Truncated = 64, true },
			id:     "device", status: Unknown, cause: "only 64 bytes of configuration space are readable by this user", next: "sudo irqbridge doctor 0000:02:00.0",
		},
		"link down": {
			change: func(d *Device) { pci.Find[pci.Express](d.Above[0].Config).Link.Active = false },
			id:     "link", cause: "the link of the port 0000:00:1c.0 above the device is down", next: "sudo dmesg | grep -e 0000:00:1c.0 -e pciehp",
		},
		"link disabled": {
			change: func(d *Device) { pci.Find[pci.Express](d.Above[0].Config).Link.Disabled = true },
			id:     "link", cause: "the link of the port 0000:00:1c.0 is disabled", next: "sudo setpci -s 0000:00:1c.0 CAP_EXP+10.W=0:10",
		},
		"link contained": {
			change: func(d *Device) {
				dpc := pci.Find[pci.DPC](d.Above[0].Config)
				dpc.Triggered, dpc.Reason = true, "ERR_FATAL"
			},
			id: "link", cause: "taken its link down because of an error (DPC: ERR_FATAL)", next: "sudo dmesg",
		},
		"no IOMMU": {
			change: func(d *Device) { d.Device.Group, d.Group, d.VFIO, d.Driver = -1, nil, false, "" },
			on:     func(h *Host) { h.HasIOMMU = false },
			id:     "iommu", cause: "there is no IOMMU: it is off", next: "switch it on",
		},
		"no remapping": {
			on: func(h *Host) { h.Remapping = host.RemappingOff },
			id: "remapping", cause: "VFIO hands out no device", next: "switch it on",
		},
		"no remapping, which only containers do without": {
			change: openedByIOMMUFD,
			on: func(h *Host) {
				h.Remapping, h.Unsafe = host.RemappingOff, []string{"/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts"}
			},
			id: "remapping", cause: "VFIO hands out no device", next: "switch it on",
		},
		"no remapping, which iommufd does without": {
			change: openedByIOMMUFD,
			on: func(h *Host) {
				h.Remapping, h.Unsafe = host.RemappingOff, []string{"/sys/module/iommufd/parameters/allow_unsafe_interrupts"}
			},
			id: "remapping", status: Warning, cause: "iommufd/parameters/allow_unsafe_interrupts is on", next: "switch it on",
		},
		"module missing": {
			change: func(d *Device) { d.VFIO, d.Driver = false, "" },
			on:     func(h *Host) { h.Driver, h.PCI = false, host.ModuleNotLoaded },
			id:     "modules", cause: "the module vfio_pci is not loaded", next: "sudo modprobe vfio-pci",
		},
		"in no group": {
			change: func(d *Device) { d.Device.Group, d.Group = -1, nil },
			id:     "group", cause: "in no IOMMU group, although others are", next: "sudo dmesg",
		},
		"group not readable": {
			change: func(d *Device) { d.Group, d.GroupErr = nil, errors.New("bad") },
			id:     "group", status: Unknown, cause: "bad", next: "sudo irqbridge doctor 0000:02:00.0",
		},
		"group not viable": {
			change: func(d *Device) { d.member(other) },
			id:     "group", cause: "apart from 0000:02:00.1, bound to e1000", next: "sudo irqbridge bind 0000:02:00.1",
		},
		"group not viable because of a bridge": {
			change: func(d *Device) {
				b := other
				b.Bridge, b.Driver = true, "shpchp"
				d.member(b)
			},
			id: "group", cause: "apart from 0000:02:00.1, bound to shpchp", next: "echo 0000:02:00.1 | sudo tee /sys/bus/pci/drivers/shpchp/unbind",
		},
		"group not viable comes before the driver": {
			change: func(d *Device) { d.VFIO, d.Driver = false, ""; d.member(other) },
			id:     "group", cause: "group 2 is not viable", next: "sudo irqbridge bind 0000:02:00.1",
		},
		"no driver": {
			change: func(d *Device) { idle(d); d.VFIO, d.Driver = false, "" },
			id:     "driver", cause: "the device has no driver, and wants a VFIO driver", next: "sudo irqbridge bind 0000:02:00.0",
		},
		"another driver": {
			change: func(d *Device) { idle(d); d.VFIO, d.Driver = false, "e1000e" },
			id:     "driver", cause: "the device is bound to e1000e, and wants a VFIO driver", next: "sudo irqbridge bind 0000:02:00.0",
		},
		"a bridge": {
			change: func(d *Device) { idle(d); d.VFIO, d.Driver, d.Bridge = false, "pcieport", true },
			id:     "driver", cause: "the device is a bridge, which no VFIO driver takes", next: "irqbridge list",
		},
		"node closed": {
			change: func(d *Device) {
				d.Nodes[1].Err, d.Nodes[1].Denial = fs.ErrPermission, host.Denial{Cause: "for root alone", Command: "sudo chown"}
			},
			id: "nodes", cause: "/dev/vfio/2 is closed to this user: for root alone", next: "sudo chown",
		},
		"node closed, and no group that could open it": {
			change: func(d *Device) {
				d.Nodes[1].Err, d.Nodes[1].Denial = fs.ErrPermission, host.Denial{Cause: "for root alone", Command: "sudo chown", Rule: "RULE"}
			},
			id: "nodes", cause: "/dev/vfio/2 is closed to this user: for root alone", next: "sudo irqbridge bind --user $USER 0000:02:00.0",
		},
		"node of all devices closed": {
			change: func(d *Device) {
				d.Nodes[0].Err, d.Nodes[0].Denial = fs.ErrPermission, host.Denial{Cause: "for root alone", Command: "sudo chown", Rule: "RULE"}
				d.Nodes[1] = d.Nodes[0]
			},
			id: "nodes", cause: "/dev/vfio/vfio is closed to this user: for root alone", next: "sudo chown",
		},
		"open, and nothing enabled": {
			change: func(d *Device) { d.IRQs, d.Config.MSIX.Enabled = nil, false },
			id:     "user", cause: "process 42 (a) has the device or its group open, but no interrupt of the device is enabled", next: "have it enable some",
		},
		"host IRQs not readable": {
			change: func(d *Device) { idle(d); d.IRQsErr = errors.New("bad") },
			id:     "user", status: Unknown, cause: "bad", next: "sudo irqbridge doctor 0000:02:00.0",
		},
		"no interrupts": {
			change: func(d *Device) { idle(d); d.Config.INTx, d.Config.MSI, d.Config.MSIX = nil, nil, nil },
			id:     "interrupts", cause: "its interrupt pin is 0, and it has neither MSI nor MSI-X", next: "irqbridge show -v 0000:02:00.0",
		},
		"messages not allowed": {
			change: func(d *Device) { d.NoMessages = advice{"not allowed", "allow it"} },
			id:     "messages-allowed", cause: "not allowed", next: "allow it",
		},
		"more messages than vectors": {
			change: func(d *Device) { idle(d); d.Config.MSIX.Messages = 2048 },
			id:     "vectors", cause: "the device offers 2048 messages, and the 2 CPUs have about 390 interrupt vectors left", next: "irqbridge connect 0000:02:00.0 --messages 256",
		},
		"no vectors": {
			change: func(d *Device) { idle(d); d.IRQsInUse = 500 },
			id:     "vectors", cause: "about 0 interrupt vectors left", next: "irqbridge connect 0000:02:00.0 --messages 1",
		},
		"one of several": {
			change: func(d *Device) { idle(d); d.Config.MSIX, d.Config.MSI.Messages = nil, 16 },
			on:     func(h *Host) { h.Remapping, h.Unsafe = host.RemappingOff, []string{"FILE"} },
			id:     "remapping", status: Warning, cause: "FILE is on", next: "switch it on", // and the next is
		},
		"bridge gone": {
			change: func(d *Device) { d.Above[0].Config, d.Above[0].ConfigErr = nil, pci.ErrNoAnswer },
			id:     "bridge-power", cause: "the bridge 0000:00:1c.0 above the device does not answer", next: "echo on | sudo tee /sys/bus/pci/devices/0000:00:1c.0/power/control",
		},
		"bridges not readable": {
			change: func(d *Device) { d.Above, d.AboveErr = nil, errors.New("bad") },
			id:     "bridges", status: Unknown, cause: "bad", next: "sudo irqbridge doctor 0000:02:00.0",
		},
		"bridge not readable": {
			change: func(d *Device) { d.Above[0].Config, d.Above[0].ConfigErr = nil, errors.New("bad") },
			id:     "bridge-power", status: Unknown, cause: "bad", next: "sudo irqbridge doctor 0000:02:00.0",
		},
		"CPUs not readable": {
			change: func(d *Device) { idle(d); d.Online = host.CPUSet{} },
			id:     "vectors", status: Unknown, cause: "which CPUs are online could not be read", next: "cat /sys/devices/system/cpu/online",
		},
		"bridge asleep": {
			change: func(d *Device) { d.Above[0].Config.Capabilities[1].Decoded = &pci.PowerManagement{State: 3} },
			id:     "bridge-power", cause: "the bridge 0000:00:1c.0 above the device is in D3hot, where it passes nothing on", next: "sudo setpci -s 0000:00:1c.0 CAP_PM+4.W=0:3",
		},
		"bridge suspended, seen without root": {
			change: func(d *Device) {
				d.Above[0].PowerState, d.Above[0].Runtime.Status, d.Above[0].Config.Capabilities = "D3hot", "suspended", nil
			},
			id: "bridge-power", cause: "is in D3hot", next: "echo on | sudo tee /sys/bus/pci/devices/0000:00:1c.0/power/control",
		},
		"bus in reset": {
			change: func(d *Device) { idle(d); d.Above[0].Config.Bridge.Control.Reset = true },
			id:     "bridge-reset", cause: "the bridge 0000:00:1c.0 holds the bus behind it in reset", next: "sudo setpci -s 0000:00:1c.0 BRIDGE_CONTROL=0:40",
		},
		"bridge without memory": {
			change: func(d *Device) { d.Above[0].Config.Command = pci.CommandBusMaster },
			id:     "bridge-memory", cause: "the bridge 0000:00:1c.0 above the device has no memory decoding", next: "sudo setpci -s 0000:00:1c.0 COMMAND=2:2",
		},
		"bridge without bus mastering": {
			change: func(d *Device) { d.Above[0].Config.Command = pci.CommandMemory; d.Config.Command = pci.CommandMemory },
			id:     "bridge-bus-master", cause: "has no bus mastering, so the messages of every device behind it are lost", next: "sudo setpci -s 0000:00:1c.0 COMMAND=4:4",
		},
		"bridge without bus mastering, which counts as enabled": {
			change: func(d *Device) { idle(d); d.Above[0].Config.Command = pci.CommandMemory },
			id:     "bridge-bus-master", cause: "has no bus mastering", next: "sudo setpci -s 0000:00:1c.0 COMMAND=4:4",
		},
		"the bridge next to the root comes first": {
			change: func(d *Device) {
				d.Above[0].Config.Command = 0
				d.Above = append(d.Above, Bridge{Device: host.Device{Address: pci.Address{Device: 1}}, Config: &pci.Function{}})
			},
			id: "bridge-memory", cause: "the bridge 0000:00:01.0 above the device has no memory decoding", next: "sudo setpci -s 0000:00:01.0 COMMAND=2:2",
		},
		"asleep": {
			change: func(d *Device) { d.Config.Capabilities[0].Decoded = &pci.PowerManagement{State: 3} },
			id:     "power", cause: "the device is in D3hot, where it neither answers at its BARs nor interrupts", next: "sudo setpci -s 0000:02:00.0 CAP_PM+4.W=0:3",
		},
		"suspended": {
			change: func(d *Device) {
				d.Config.Capabilities[0].Decoded, d.Runtime.Status = &pci.PowerManagement{State: 3}, "suspended"
			},
			id: "power", cause: "the device is in D3hot", next: "echo on | sudo tee /sys/bus/pci/devices/0000:02:00.0/power/control",
		},
		"memory off": {
			change: func(d *Device) { d.Config.Command = pci.CommandBusMaster },
			id:     "memory", cause: "memory decoding is off, so register writes do not reach the device", next: "sudo setpci -s 0000:02:00.0 COMMAND=2:2",
		},
		"bus mastering off": {
			change: func(d *Device) { d.Config.Command = pci.CommandMemory },
			id:     "bus-master", cause: "bus mastering is off, so the device's messages are lost without a trace", next: "sudo setpci -s 0000:02:00.0 COMMAND=4:4",
		},
		"MSI-X off behind the host's back": {
			change: func(d *Device) { d.Config.MSIX.Enabled = false },
			id:     "enabled", cause: "MSI-X is off in the device's capability, while the host has it on", next: "start its program anew, or: irqbridge connect 0000:02:00.0",
		},
		"MSI off behind the host's back": {
			change: func(d *Device) { byMSI(d); d.Config.MSI.Enabled = false },
			id:     "enabled", cause: "MSI is off in the device's capability", next: "start its program anew, or: irqbridge connect 0000:02:00.0",
		},
		"MSI-X masked": {
			change: func(d *Device) { d.Config.MSIX.FunctionMask = true },
			id:     "masked", cause: "all messages are masked in the MSI-X capability", next: "sudo setpci -s 0000:02:00.0 CAP_MSIX+2.W=0:4000",
		},
		"MSI masked": {
			change: func(d *Device) { byMSI(d); d.Config.MSI.Mask = 0xffffffff },
			id:     "masked", cause: "messages are masked in the MSI capability (mask 0xffffffff, pending 0x0)", next: "sudo setpci -s 0000:02:00.0 CAP_MSI+10.L=0:1",
		},
		"MSI masked, 32 bits": {
			change: func(d *Device) { byMSI(d); d.Config.MSI.Mask, d.Config.MSI.Address64 = 1, false },
			id:     "masked", cause: "masked in the MSI capability", next: "sudo setpci -s 0000:02:00.0 CAP_MSI+c.L=0:1",
		},
		"MSI to address 0": {
			change: func(d *Device) { byMSI(d); d.Config.MSI.Address = 0 },
			id:     "message-address", cause: "MSI is enabled with address 0", next: "start its program anew, or: irqbridge connect 0000:02:00.0",
		},
		"line masked": {
			change: func(d *Device) { byLine(d); d.LineState = LineMasked },
			id:     "line", cause: "the line is switched off in COMMAND", next: "acknowledge the device",
		},
		"line pending": {
			change: func(d *Device) { byLine(d); d.LineState = LinePending },
			id:     "line", cause: "its program has not unmasked it", next: "acknowledge the device",
		},
		"line not heard": {
			change: func(d *Device) { byLine(d); d.LineState = LineUnheard },
			id:     "line", cause: "the host has switched it off, or it is routed elsewhere", next: "sudo dmesg | grep -i -e 'nobody cared' -e 'irq 27'",
		},
		"errors": {
			change: func(d *Device) {
				d.Config.ExtendedCapabilities = []pci.ExtendedCapability{{Decoded: &pci.AER{Uncorrectable: pci.UncorrectableErrors{CompletionTimeout: true}}}}
			},
			id: "errors", status: Warning, cause: "uncorrectable errors", next: "irqbridge show -vv 0000:02:00.0",
		},
		"moved": {
			change: func(d *Device) {
				d.IRQs[1].Affinity = host.Affinity{Set: host.CPUSetOf(0), Effective: host.CPUSetOf(0)}
			},
			id: "affinity", status: Warning, cause: "MSI-X message 1 (host IRQ 28) is delivered on CPU 0, and the threads that serve it are pinned to CPU 1",
			next: "echo 1 | sudo tee /proc/irq/28/smp_affinity_list",
		},
		"moved, by irqbalance perhaps": {
			change: func(d *Device) {
				d.IRQs[1].Affinity = host.Affinity{Set: host.CPUSetOf(0), Effective: host.CPUSetOf(0)}
			},
			on: func(h *Host) { h.IRQBalance = 712 },
			id: "affinity", status: Warning, cause: "is delivered on CPU 0", next: "echo 1 | sudo tee /proc/irq/28/smp_affinity_list",
		},
		"not moved yet": {
			change: func(d *Device) { d.IRQs[0].Affinity.Set, d.Pinned = host.CPUSetOf(0), nil },
			id:     "affinity", status: Warning, cause: "is set to CPU 0 and still delivered on CPU 1", next: "cat /proc/irq/27/effective_affinity_list",
		},
		"on an isolated CPU": {
			change: func(d *Device) { d.Isolated, d.Pinned = host.CPUSetOf(1), nil },
			id:     "affinity", status: Warning, cause: "is delivered on CPU 1, which is isolated", next: "echo 0 | sudo tee /proc/irq/27/smp_affinity_list",
		},
		"affinity not readable": {
			change: func(d *Device) { d.IRQs[0].AffinityErr = errors.New("bad") },
			id:     "affinity", status: Unknown, cause: "bad", next: "sudo irqbridge doctor 0000:02:00.0",
		},
		"irqbalance": {
			on: func(h *Host) { h.IRQBalance = 712 },
			id: "irqbalance", status: Warning, cause: "irqbalance (process 712)", next: "sudo systemctl stop irqbalance",
		},
	} {
		t.Run(name, func(t *testing.T) {
			d, h := goodDevice(), goodHost()
			if c.change != nil {
				c.change(&d)
			}
			if c.on != nil {
				c.on(&h)
			}
			got := first(d.Checks(h))
			assert.Equal(t, c.id, got.ID)
			if c.status == OK {
				c.status = Failure
			}
			assert.Equal(t, c.status, got.Status)
			assert.Contains(t, got.Cause, c.cause)
			assert.Contains(t, got.Next, c.next)
		})
	}
}

func TestOneOfSeveralMessages(t *testing.T) {
	d, h := goodDevice(), goodHost()
	idle(&d)
	d.Config.MSIX, d.Config.MSI.Messages = nil, 16
	h.Remapping, h.Unsafe = host.RemappingOff, []string{"FILE"}
	c := find(t, d.Checks(h), "vectors")
	assert.Equal(t, Warning, c.Status)
	assert.Contains(t, c.Cause, "the device gets 1 of its 16 messages of MSI")
}

// What is not known is not called good: without root nothing is said about messages.
func TestWhatIsCutOffIsNotJudged(t *testing.T) {
	d := goodDevice()
	idle(&d)
	d.Config = &pci.Function{Size: 64, Truncated: true}
	for _, c := range d.Checks(goodHost()) {
		assert.NotContains(t, []string{"interrupts", "vectors", "enabled", "masked", "bus-master", "memory", "errors"}, c.ID)
	}
}

func TestJoined(t *testing.T) {
	d := goodDevice()
	assert.Empty(t, d.joined())
	d.member(host.Device{Address: pci.Address{Bus: 2, Function: 1}})
	assert.Equal(t, "group 2 is viable, with 1 more", d.group().Cause)
	pci.Find[pci.ACS](d.Above[0].Config).Enabled.RequestRedirect = false
	assert.Equal(t, "the port 0000:00:1c.0 does not send requests between devices up to the IOMMU (ACS)", d.group().Detail)
	d.Above[0].Config.Capabilities = nil
	assert.Equal(t, "behind 0000:00:1c.0, a bridge to conventional PCI, all devices look the same to the IOMMU", d.group().Detail)
	d.Above[0].Config = nil
	assert.Empty(t, d.joined())
}

func TestNotLookedAt(t *testing.T) {
	d := goodDevice()
	d.Config.MSIX.Table = pci.Location{BAR: 3, Offset: 0x2000}
	assert.Contains(t, d.NotLookedAt(), "the table of MSI-X in BAR 3 at 0x2000")
	idle(&d)
	assert.Empty(t, d.NotLookedAt())
}
