package cli

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/diagnosis"
	"github.com/irqbridge/irqbridge/pci"
)

func TestExplainNamesTheFirstCauseThatFits(t *testing.T) {
	const on = pci.CommandMemory | pci.CommandBusMaster
	function := func(command pci.Command, msi pci.MSI, msix pci.MSIX) *pci.Function {
		return &pci.Function{Command: command, MSI: &msi, MSIX: &msix}
	}
	good := function(on, pci.MSI{Enabled: true}, pci.MSIX{Enabled: true})
	for name, c := range map[string]struct {
		e    evidence
		want string
	}{
		"loopback":           {evidence{raised: 9, kind: pci.KindMSI, loopback: true, config: good}, "the kernel's trigger did not get to the service routine"},
		"fault":              {evidence{raised: 9, kind: pci.KindMSI, config: good, fault: errors.New("gone"), calls: 1}, "could not read the device: gone"},
		"memory":             {evidence{raised: 9, kind: pci.KindMSI, config: function(pci.CommandBusMaster, pci.MSI{}, pci.MSIX{})}, "memory decoding is off"},
		"other cause":        {evidence{raised: 9, kind: pci.KindMSI, config: good, calls: 3, arrived: 3, status: 4, mask: 2}, "ran 3 times and claimed none"},
		"thread":             {evidence{raised: 9, kind: pci.KindMSI, config: good, arrived: 2}, "the host counted 2 deliveries, but the service routine never ran"},
		"late":               {evidence{raised: 9, kind: pci.KindMSI, config: good, calls: 9, claimed: 9}, "later than 2s"},
		"stuck":              {evidence{raised: 1, kind: pci.KindINTx, config: good, calls: 9, claimed: 9, stuck: true, status: 1, mask: 1}, "still asserted after service"},
		"stuck, not known":   {evidence{kind: pci.KindINTx, config: good, calls: 9, stuck: true, status: 1, mask: 2}, "ran 9 times and claimed none"},
		"stuck, loopback":    {evidence{kind: pci.KindINTx, config: good, calls: 9, claimed: 9, stuck: true, loopback: true}, "the device holds its line asserted"},
		"bus master":         {evidence{raised: 9, kind: pci.KindMSIX, config: function(pci.CommandMemory, pci.MSI{}, pci.MSIX{Enabled: true})}, "bus mastering is off"},
		"line needs none":    {evidence{raised: 9, kind: pci.KindINTx, config: function(pci.CommandMemory, pci.MSI{}, pci.MSIX{}), mask: 1}, "does not report it either"},
		"MSI off":            {evidence{raised: 9, kind: pci.KindMSI, config: function(on, pci.MSI{}, pci.MSIX{})}, "MSI is off"},
		"MSI masked":         {evidence{raised: 9, kind: pci.KindMSI, message: 2, config: function(on, pci.MSI{Enabled: true, Maskable: true, Mask: 4}, pci.MSIX{})}, "masked in the MSI capability"},
		"MSI-X off":          {evidence{raised: 9, kind: pci.KindMSIX, config: function(on, pci.MSI{}, pci.MSIX{})}, "MSI-X is off"},
		"MSI-X masked":       {evidence{raised: 9, kind: pci.KindMSIX, config: function(on, pci.MSI{}, pci.MSIX{Enabled: true, FunctionMask: true})}, "masked in the MSI-X capability"},
		"MSI-X entry wiped":  {evidence{raised: 9, kind: pci.KindMSIX, config: good, entry: &diagnosis.TableEntry{Masked: true}}, "the MSI-X table (BAR 0 at 0x0) has address 0 for it"},
		"MSI-X entry masked": {evidence{raised: 9, kind: pci.KindMSIX, message: 2, config: good, entry: &diagnosis.TableEntry{Address: 0xfee00000, Masked: true}}, "it is masked in the MSI-X table (BAR 0 at 0x20)"},
		"MSI-X entry good":   {evidence{raised: 9, kind: pci.KindMSIX, config: good, status: 1, mask: 1, entry: &diagnosis.TableEntry{Address: 0xfee00000}}, "masked in the device, or routed elsewhere"},
		"status unreadable":  {evidence{raised: 9, kind: pci.KindMSI, config: good, readErr: errors.New("fault")}, "the status register cannot be read: fault"},
		"not raised":         {evidence{raised: 9, kind: pci.KindMSI, config: good, register: "S", mask: 1}, "the device does not report it either (S reads 0x0, & 0x1 is 0x0)"},
		"line off":           {evidence{raised: 9, kind: pci.KindINTx, config: function(on|pci.CommandINTxDisable, pci.MSI{}, pci.MSIX{}), status: 1, mask: 1}, "its line is switched off in COMMAND"},
		"not routed":         {evidence{raised: 9, kind: pci.KindMSIX, config: good, status: 1, mask: 1}, "masked in the device, or routed elsewhere"},
		"no config space":    {evidence{raised: 9, kind: pci.KindMSI, status: 1, mask: 1}, "masked in the device, or routed elsewhere"},
	} {
		t.Run(name, func(t *testing.T) {
			what, next := c.e.explain()
			assert.Contains(t, what, c.want)
			assert.NotEmpty(t, next)
		})
	}
}
