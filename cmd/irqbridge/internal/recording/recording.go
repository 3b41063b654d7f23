package recording

import (
	"fmt"
	"maps"
	"time"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/histogram"
	"github.com/irqbridge/irqbridge/pci"
)

// Schema is the version of the format.
const Schema = 1

// MaxMessages is how many messages a run can have: those of MSI-X.
const MaxMessages = 2048

// Header is the first line: what ran on what.
type Header struct {
	Schema  int       `json:"schema"` // Schema; NewWriter sets it
	Type    string    `json:"type"`   // "run"; NewWriter sets it
	Time    time.Time `json:"time"`   // when the run started: t is 0
	Program string    `json:"program"`
	Kernel  string    `json:"kernel"` // the release, as of uname -r
	Device  Device    `json:"device"`
	Options Options   `json:"options"`
	Source  string    `json:"source"`  // what raised and served: "loopback", "profile edu", "no profile"
	Profile string    `json:"profile"` // the name of the profile; "" without
	Kind    string    `json:"kind"`    // intx, msi or msix
	// Raw and Translated are the descriptors, as the bytes of 64-bit Windows in hexadecimal: what map and resources read.
	Raw        []string `json:"raw"`
	Translated []string `json:"translated"`
	// Messages are the interrupts, as they were connected, by number from 0 on.
	Messages []Message `json:"messages"`
	// Snapshot is the text of irqbridge snapshot, which a fake of the device is made from; "" without.
	Snapshot string `json:"snapshot"`
}

// Device is what the run was on.
type Device struct {
	Address     pci.Address `json:"address"`
	Vendor      string      `json:"vendor"` // "0x8086"
	Device      string      `json:"device"`
	Class       string      `json:"class"` // "0x020000"
	Description string      `json:"description"`
	Backend     string      `json:"backend"` // iommufd, group or no-iommu
	IOMMUGroup  int         `json:"iommuGroup"`
}

// Options are those of the command line that decided what was connected and raised.
type Options struct {
	Kind       string `json:"kind"`     // as asked for: auto, intx, msi or msix
	Messages   int    `json:"messages"` // at most so many; 0 for all
	CPUs       string `json:"cpus"`     // a list such as "0-3"; "" for all
	Spread     bool   `json:"spread"`
	Loopback   bool   `json:"loopback"`
	Raise      int    `json:"raise"`      // how often each; 0 for none
	DurationNS int64  `json:"durationNS"` // 0 for no limit
}

// Message is one interrupt, as the mapping made it and the host gave it.
type Message struct {
	Vector          uint32 `json:"vector"`
	Irql            uint8  `json:"irql"`
	SynchronizeIrql uint8  `json:"synchronizeIrql"`
	Mode            string `json:"mode"` // Latched or LevelSensitive
	Share           bool   `json:"share"`
	CPUs            string `json:"cpus"`    // that its service routine may run on
	HostIRQ         *int   `json:"hostIRQ"` // null when the host shows none
	Effective       string `json:"effectiveAffinity"`
}

// Counts is what happened to one message, in a tick or in a whole run.
type Counts struct {
	Message   int               `json:"message"`
	Raised    uint64            `json:"raised,omitempty"`
	Serviced  uint64            `json:"serviced,omitempty"` // of those raised
	Calls     uint64            `json:"calls,omitempty"`    // of the service routine
	Claimed   uint64            `json:"claimed,omitempty"`  // calls that found the device's interrupt
	WrongCPU  uint64            `json:"wrongCPU,omitempty"` // calls outside of the CPUs asked for
	Delivered map[string]uint64 `json:"delivered,omitempty"`
	RanOn     map[string]uint64 `json:"ranOn,omitempty"`
	// Latency is that of each call from raise to service routine, as far as it was measured.
	Latency *histogram.Histogram `json:"latency,omitempty"`
}

// Empty tells whether nothing happened.
func (c *Counts) Empty() bool {
	return c.Raised|c.Serviced|c.Calls|c.Claimed|c.WrongCPU == 0 && len(c.Delivered) == 0 && len(c.RanOn) == 0 &&
		(c.Latency == nil || c.Latency.Count() == 0)
}

// Add adds what happened to the same message later.
func (c *Counts) Add(later *Counts) {
	c.Raised += later.Raised
	c.Serviced += later.Serviced
	c.Calls += later.Calls
	c.Claimed += later.Claimed
	c.WrongCPU += later.WrongCPU
	c.Delivered = addByCPU(c.Delivered, later.Delivered)
	c.RanOn = addByCPU(c.RanOn, later.RanOn)
	if later.Latency != nil && later.Latency.Count() > 0 {
		if c.Latency == nil {
			c.Latency = new(histogram.Histogram)
		}
		c.Latency.Merge(later.Latency)
	}
}

func addByCPU(to, more map[string]uint64) map[string]uint64 {
	if len(more) == 0 {
		return to
	}
	if to == nil {
		to = make(map[string]uint64, len(more))
	}
	for cpu, n := range more {
		to[cpu] += n
	}
	return to
}

// equal tells whether both counted the same, latency apart.
func (c *Counts) equal(other *Counts) bool {
	return c.Raised == other.Raised && c.Serviced == other.Serviced && c.Calls == other.Calls && c.Claimed == other.Claimed &&
		c.WrongCPU == other.WrongCPU && maps.Equal(c.Delivered, other.Delivered) && maps.Equal(c.RanOn, other.RanOn)
}

// Tick is what happened since the tick before.
type Tick struct {
	T        time.Duration `json:"t"`
	Messages []Counts      `json:"messages"` // by message; those without a change are left out
}

// The kinds of events.
const (
	EventStorm     = "storm"     // a message, or a line, was called so often that it was silenced
	EventError     = "error"     // Text tells
	EventRequest   = "request"   // the host wants the device back
	EventGone      = "gone"      // the device does not answer any more
	EventInterrupt = "interrupt" // the user ended the run, with Ctrl-C or a signal
)

// Event is what happened once.
type Event struct {
	T       time.Duration `json:"t"`
	Event   string        `json:"event"`             // one of the kinds, or one that a later version has
	Message *int          `json:"message,omitempty"` // nil when it is about the device
	Text    string        `json:"text,omitempty"`    // one line
}

// The outcomes.
const (
	OutcomeDone    = "done"    // all that was asked for
	OutcomePartial = "partial" // in part
	OutcomeStopped = "stopped" // by the user, before all was done
	OutcomeFailed  = "failed"  // Text tells
)

// End is the last line.
type End struct {
	T       time.Duration `json:"t"`
	Outcome string        `json:"outcome"`
	Exit    int           `json:"exit"`           // the program's exit status
	Text    string        `json:"text,omitempty"` // what went wrong, a line each
	Totals  []Counts      `json:"totals"`         // by message, all of them, without their latencies
}

// validate says what makes a header that no run has.
func (h *Header) validate() error {
	switch {
	case len(h.Messages) > MaxMessages:
		return fmt.Errorf("%d messages; a device has %d at most", len(h.Messages), MaxMessages)
	case len(h.Raw) > MaxMessages || len(h.Translated) > MaxMessages:
		return fmt.Errorf("more than %d descriptors", MaxMessages)
	case h.Kind != "intx" && h.Kind != "msi" && h.Kind != "msix":
		return fmt.Errorf("kind %.20q: want intx, msi or msix", h.Kind)
	}
	return nil
}
