package vfiotest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// The devices that few tests need, as the host sees them and as VFIO tells.
func TestMoreDevices(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		if _, err := m.Host.Device(m.PF); m.Real && err != nil {
			t.Skip("only with --devices more")
		}
		if m.Real && m.Host.HasIOMMUFD() && m.Backend != vfio.BackendIOMMUFD {
			t.Skip("the devices are not as after boot any more: opened once, each has the number of its line")
		}
		var b strings.Builder
		for _, a := range []pci.Address{m.Vectors, m.RootPort, m.PF, m.E1000E} {
			d, err := m.Host.Device(a)
			require.NoError(t, err)
			fmt.Fprintf(&b, "%v %04x:%04x class %06x driver %q group %d irq %d\n", a, d.VendorID, d.DeviceID, d.Class, d.Driver, d.Group, d.IRQ)
			s, dir := files(t, m), busDir+"devices/"+a.String()
			method, err := s.readFile(dir + "/reset_method")
			fmt.Fprintf(&b, "  reset_method %q, %s\n", method, errno(err))
			messages, err := s.readDir(dir + "/msi_irqs")
			fmt.Fprintf(&b, "  msi_irqs %v, %s\n", messages, errno(err))
		}
		groups, err := m.Host.Groups()
		require.NoError(t, err)
		for _, g := range groups {
			fmt.Fprintf(&b, "group %d:", g.ID)
			for _, d := range g.Members {
				fmt.Fprintf(&b, " %v", d.Address)
			}
			b.WriteByte('\n')
		}
		for _, a := range []pci.Address{m.Vectors, m.PF} {
			r := openRaw(t, m, a)
			b.WriteString(infoOf(r, a))
			r.close()
		}
		golden(t, m, "more", b.String())
	}, vfiotest.MoreDevices())
}
