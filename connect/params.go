package connect

import (
	"fmt"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
)

// The versions of IO_CONNECT_INTERRUPT_PARAMETERS (wdm.h). [Connect] takes the two fully specified ones. A system
// that has no other answers the rest with an error and Version = 1, which is what Windows documents for the systems
// before Vista, so that a driver can fall back. It does so when Version has come back as VersionFullySpecified; the text of
// the page about older systems has it the other way round, and its code right.
const (
	// VersionFullySpecified is CONNECT_FULLY_SPECIFIED: every property stated, processor group 0.
	VersionFullySpecified uint32 = 1
	// VersionLineBased is CONNECT_LINE_BASED.
	VersionLineBased uint32 = 2
	// VersionMessageBased is CONNECT_MESSAGE_BASED.
	VersionMessageBased uint32 = 3
	// VersionFullySpecifiedGroup is CONNECT_FULLY_SPECIFIED_GROUP: as 1, with Group. The list of versions on the page of
	// IoConnectInterruptEx leaves it out, and that of IoDisconnectInterruptEx too.
	VersionFullySpecifiedGroup uint32 = 4
	// VersionMessageBasedPassive is CONNECT_MESSAGE_BASED_PASSIVE.
	VersionMessageBasedPassive uint32 = 5
)

// Mode is KINTERRUPT_MODE: how the interrupt signals.
type Mode uint8

const (
	// LevelSensitive is a line that stays asserted until the device is served. It is masked when it fires, and
	// unmasked after its service routines ran.
	LevelSensitive Mode = 0
	// Latched is an edge: every message is one.
	Latched Mode = 1
)

// String returns the name that wdm.h gives the mode.
func (m Mode) String() string {
	switch m {
	case LevelSensitive:
		return "LevelSensitive"
	case Latched:
		return "Latched"
	}
	return fmt.Sprintf("Mode(%d)", uint8(m))
}

// ServiceRoutine is an ISR: the KSERVICE_ROUTINE of wdm.h. It gets the interrupt it was connected with and the
// ServiceContext, and returns whether the interrupt was its device's.
//
// It runs on a pinned OS thread, under the interrupt's lock, never twice at once. It should find out whether its
// device interrupts, return false at once if not, else quiet the device, keep what it needs and return true. It must
// not block, and must not call Connect, Disconnect, the device's Close, or Synchronize of its own lock.
//
// Whose interrupt it is only the device can say. A Windows page has the routine compare its context with the one that
// was given at the connect; the two are always the same.
//
// A passive-level routine (Irql 0) runs in a goroutine that is not pinned, and may block: its line is masked meanwhile,
// and other sources are served. Otherwise the same holds for it; Disconnect and Close wait until it has returned.
//
// A panic in a routine is caught: the source stays masked, and the panic becomes the interrupt's error. The same
// happens when it ends its goroutine, as a test's FailNow does.
type ServiceRoutine func(i *Interrupt, context any) bool

// Parameters is the IO_CONNECT_INTERRUPT_PARAMETERS of wdm.h with its FullySpecified member, in the order of that
// struct. [FullySpecified] and [FromDescriptor] fill in what a resource descriptor says; the device, the out
// variable, the routine and its context are the caller's.
type Parameters struct {
	// Version is VersionFullySpecified or VersionFullySpecifiedGroup. Connect changes it only where Windows
	// documents so: 2, 3 and 5 become 1.
	Version uint32
	// PhysicalDeviceObject is the device, opened and with resources from [Assign]. A driver for Windows has several
	// device objects, of which this is the bus driver's (PDO) and not its own (FDO); here there is only one to pass.
	PhysicalDeviceObject *vfio.Device
	// InterruptObject is where Connect puts the connected interrupt, before the first service routine can run. What it
	// points to is nil after every failure. It is refused if it is nil itself, which Windows writes through.
	InterruptObject **Interrupt
	// ServiceRoutine is called for each interrupt.
	ServiceRoutine ServiceRoutine
	// ServiceContext is handed to the service routine unchanged, and may be nil.
	ServiceContext any
	// SpinLock is held while the service routine runs. nil makes a lock for this interrupt alone, and is what a
	// passive-level routine must have. The page says that most drivers can do with nil: those whose service routines
	// share no data with each other. Others need one lock, and [LockGroup].
	SpinLock *SpinLock
	// SynchronizeIrql is the level that the service routine runs at: Irql for a private lock, the highest Irql of
	// the group for a shared one ([LockGroup]), 0 for a passive-level routine. This is exact, while the member of the
	// same name in the line- and message-based versions is a minimum. The page of the structure has its two cases in the
	// wrong order.
	SynchronizeIrql KIRQL
	// FloatingSave has no effect on amd64 and arm64, where the kernel always saves the floating point state.
	FloatingSave bool
	// ShareVector says that other service routines may be connected to the same vector. The page of the structure
	// advises to share messages, yet their descriptors say exclusive; the descriptor is followed.
	ShareVector bool
	// Vector is the interrupt vector from the translated descriptor. It is never 0, which Microsoft's framework takes for
	// "no interrupt" without a word; FromDescriptor refuses it.
	Vector uint32
	// Irql is the interrupt's level, its DIRQL; of a line also 0, PASSIVE_LEVEL, for a routine that may block.
	Irql KIRQL
	// InterruptMode is how the interrupt signals; it must be the source's mode.
	InterruptMode Mode
	// ProcessorEnableMask has a bit for each processor of the group that may run the service routine. Which of them does
	// is not for the driver to know, and may change. 0 is StatusInvalidParameter10.
	ProcessorEnableMask uint64
	// Group is the processor group, Linux CPUs 64*Group to 64*Group+63. Version 1 ignores it: its group is 0. The page
	// never copies the descriptor's; FromDescriptor does.
	Group uint16
}

// group is the processor group that counts: "If Version is CONNECT_FULLY_SPECIFIED, the group number is always 0".
func (p *Parameters) group() uint16 {
	if p.Version == VersionFullySpecifiedGroup {
		return p.Group
	}
	return 0
}

// DisconnectParameters is IO_DISCONNECT_INTERRUPT_PARAMETERS.
type DisconnectParameters struct {
	// Version is VersionFullySpecified or VersionFullySpecifiedGroup; either takes down an interrupt that was
	// connected with either. The page of IoDisconnectInterruptEx does not say which goes with the second.
	Version uint32
	// ConnectionContext is what Connect stored through InterruptObject.
	ConnectionContext *Interrupt
}

// FullySpecified is the mapping of the page "Using the CONNECT_FULLY_SPECIFIED Version of IoConnectInterruptEx", bit
// for bit and nothing more: it looks neither at the descriptor's Type nor at its Group, and copies nonsense
// faithfully. In particular a Level of 0x100 becomes Irql 0, as the page's (KIRQL) cast makes it, and a message without
// the flag latched becomes LevelSensitive. [FromDescriptor] is the one to use where bad descriptors are to be refused.
//
// The page's table says that ShareVector is ShareDisposition and InterruptMode is Flags & CM_RESOURCE_INTERRUPT_LATCHED;
// its code, which is followed here, compares and chooses. A byte copy would make "device exclusive", 1, mean shared. The
// table does not mention SynchronizeIrql, which the code sets to the Level: right for a lock of one interrupt only, see
// [LockGroup].
//
// The page does not say which of the two lists that a driver gets it means. It is the translated one; a descriptor of
// the raw list has another type here, so it cannot be passed. The list of a Windows driver also holds memory and ports,
// which the page's code would map like interrupts; that of [Assign] has interrupts only. And the page's promise of a
// descriptor for each interrupt does not hold for MSI, whose messages have one: pass the descriptors that Expand of
// [Resources] gives, not those of the list.
func FullySpecified(d pci.TranslatedDescriptor) Parameters {
	// The page reads u.MessageInterrupt.Translated for a message and u.Interrupt for a line. The two members of the
	// union have one layout, and TranslatedDescriptor has one set of fields for both.
	p := Parameters{
		Version:             VersionFullySpecified,
		Vector:              d.Vector,
		Irql:                KIRQL(d.Level),
		SynchronizeIrql:     KIRQL(d.Level),
		ProcessorEnableMask: d.Affinity,
		InterruptMode:       LevelSensitive,
		ShareVector:         d.Share == pci.ShareShared,
	}
	if d.Flags&pci.InterruptLatched != 0 {
		p.InterruptMode = Latched
	}
	return p
}

// FromDescriptor is [FullySpecified] for a descriptor that makes sense: it refuses one that
// [pci.TranslatedDescriptor.Validate] refuses, such as a level that the cast to KIRQL would cut to passive level, a message
// that is not latched, and vector 0. And it uses VersionFullySpecifiedGroup with the descriptor's Group where
// that is not 0, which the page's own code would lose.
func FromDescriptor(d pci.TranslatedDescriptor) (Parameters, error) {
	if err := d.Validate(); err != nil {
		return Parameters{}, err
	}
	p := FullySpecified(d)
	if d.Group != 0 {
		p.Version, p.Group = VersionFullySpecifiedGroup, d.Group
	}
	return p, nil
}
