package cli

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"

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
		"loopback":          {evidence{kind: pci.KindMSI, loopback: true, config: good}, "the kernel's trigger did not get to the service routine"},
		"fault":             {evidence{kind: pci.KindMSI, config: good, fault: errors.New("gone"), calls: 1}, "could not read the device: gone"},
		"memory":            {evidence{kind: pci.KindMSI, config: function(pci.CommandBusMaster, pci.MSI{}, pci.MSIX{})}, "memory decoding is off"},
		"other cause":       {evidence{kind: pci.KindMSI, config: good, calls: 3, claimed: 1, arrived: 3, status: 4, mask: 2}, "ran 3 times and claimed 1"},
		"thread":            {evidence{kind: pci.KindMSI, config: good, calls: 1, claimed: 1, arrived: 2}, "the host counted 2 deliveries and the service routine ran 1 times"},
		"bus master":        {evidence{kind: pci.KindMSIX, config: function(pci.CommandMemory, pci.MSI{}, pci.MSIX{Enabled: true})}, "bus mastering is off"},
		"line needs none":   {evidence{kind: pci.KindINTx, config: function(pci.CommandMemory, pci.MSI{}, pci.MSIX{}), mask: 1}, "does not report the interrupt either"},
		"MSI off":           {evidence{kind: pci.KindMSI, config: function(on, pci.MSI{}, pci.MSIX{})}, "MSI is off"},
		"MSI masked":        {evidence{kind: pci.KindMSI, message: 2, config: function(on, pci.MSI{Enabled: true, Mask: 4}, pci.MSIX{})}, "masked in the MSI capability"},
		"MSI-X off":         {evidence{kind: pci.KindMSIX, config: function(on, pci.MSI{}, pci.MSIX{})}, "MSI-X is off"},
		"MSI-X masked":      {evidence{kind: pci.KindMSIX, config: function(on, pci.MSI{}, pci.MSIX{Enabled: true, FunctionMask: true})}, "masked in the MSI-X capability"},
		"status unreadable": {evidence{kind: pci.KindMSI, config: good, readErr: errors.New("fault")}, "the status register cannot be read: fault"},
		"not raised":        {evidence{kind: pci.KindMSI, config: good, register: "S", mask: 1}, "the device does not report the interrupt either (S reads 0x0, & 0x1 is 0x0)"},
		"line off":          {evidence{kind: pci.KindINTx, config: function(on|pci.CommandINTxDisable, pci.MSI{}, pci.MSIX{}), status: 1, mask: 1}, "its line is switched off in COMMAND"},
		"not routed":        {evidence{kind: pci.KindMSIX, config: good, status: 1, mask: 1}, "masked in the device, or routed to another message"},
		"no config space":   {evidence{kind: pci.KindMSI, status: 1, mask: 1}, "masked in the device, or routed to another message"},
	} {
		t.Run(name, func(t *testing.T) {
			what, next := c.e.explain()
			assert.Contains(t, what, c.want)
			assert.NotEmpty(t, next)
		})
	}
}
