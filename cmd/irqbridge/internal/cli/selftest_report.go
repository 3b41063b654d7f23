package cli

import (
	"fmt"
	"strings"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// selftestReport is what came of all tests.
type selftestReport struct {
	device *vfio.Device
	how    string // of delivery
	tests  []tested
}

// selftestJSON is the output of selftest --json.
type selftestJSON struct {
	Schema   int          `json:"schema"`
	Address  pci.Address  `json:"address"`
	Backend  string       `json:"backend"`
	Source   string       `json:"source"` // the profile in words
	Messages []testedJSON `json:"messages"`
	Passed   int          `json:"passed"`
	Failed   int          `json:"failed"`
	Skipped  int          `json:"skipped"`
}

// testedJSON is one message.
type testedJSON struct {
	Kind     string       `json:"kind"`
	Message  int          `json:"message"`
	Vector   uint32       `json:"vector"`
	Loopback finding      `json:"loopback"`
	Delivery finding      `json:"delivery"`
	Affinity affinityJSON `json:"affinity"`
}

// affinityJSON is where an interrupt was to go, and where it went.
type affinityJSON struct {
	finding
	HostIRQ   string            `json:"hostIRQ"` // "-" for none
	Wanted    host.CPUSet       `json:"wanted"`
	Set       host.CPUSet       `json:"set"`
	Effective host.CPUSet       `json:"effective"`
	Delivered map[string]uint64 `json:"delivered"`
	RanOn     map[string]uint64 `json:"ranOn"`
}

// aspects are the tests of a message, by name.
func (t *tested) aspects() []struct {
	name string
	*finding
} {
	return []struct {
		name string
		*finding
	}{{"loopback", &t.loopback}, {"delivery", &t.delivery}, {"affinity", &t.affinity}}
}

// print prints the report in the form asked for, and returns the exit status.
func (r *selftestReport) print(a *app, o selftestOptions) int {
	code, counts, unproved := exitOK, [3]int{}, map[string][]string{}
	for i := range r.tests {
		for _, each := range r.tests[i].aspects() {
			counts[each.Result]++
			code = each.Result.exit(code)
			if each.Result == notPossible && each.Unproved != "" {
				unproved[each.Unproved] = append(unproved[each.Unproved], r.tests[i].name())
			}
		}
	}
	switch {
	case o.json:
		r.printJSON(a, counts)
	case o.tap:
		r.printTAP(a)
	default:
		r.printTable(a, counts)
	}
	if !o.tap && !o.json {
		r.tellFindings(a)
	}
	return code
}

func (t *tested) name() string { return fmt.Sprintf("%v %d", vfio.IndexOf(t.kind), t.message) }

func (r *selftestReport) printJSON(a *app, counts [3]int) {
	j := selftestJSON{
		Schema: schema, Address: r.device.Address(), Backend: r.device.Backend().String(), Source: r.how, Messages: []testedJSON{},
		Passed: counts[passed], Failed: counts[failed], Skipped: counts[notPossible],
	}
	for _, t := range r.tests {
		j.Messages = append(j.Messages, testedJSON{t.kind.String(), t.message, t.vector, t.loopback, t.delivery, affinityJSON{
			t.affinity, t.irq, t.wanted, t.set, t.effective, countsByCPU(t.delivered), countsByCPU(t.ran),
		}})
	}
	a.printJSON(j)
}

// printTAP prints the Test Anything Protocol, version 14.
func (r *selftestReport) printTAP(a *app) {
	a.printf("TAP version 14\n1..%d\n# %v  %s  backend %v\n", 3*len(r.tests), r.device.Address(), r.how, r.device.Backend())
	number := 0
	for i := range r.tests {
		t := &r.tests[i]
		for _, each := range t.aspects() {
			number++
			name := fmt.Sprintf("%d - %v %d %s", number, t.kind, t.message, each.name)
			switch each.Result {
			case passed:
				a.printf("ok %s: %s\n", name, tapText(each.Seen))
			case notPossible:
				a.printf("ok %s # SKIP %s%s\n", name, each.Seen, when(each.Unproved != "", "; that leaves unproved: "+each.Unproved))
			case failed:
				a.printf("not ok %s\n  ---\n  message: %q\n  next: %q\n  ...\n", name, each.Seen, each.Next)
			}
		}
	}
}

// tapText is a description in which no directive can be read.
func tapText(s string) string { return strings.NewReplacer(`\`, `\\`, "#", `\#`).Replace(s) }

// printTable is the table for people.
func (r *selftestReport) printTable(a *app, counts [3]int) {
	a.printf("%v  %s  backend %v\n", r.device.Address(), r.how, r.device.Backend())
	t := newTable("KIND", ">MSG", ">VECTOR", ">HOST IRQ", "LOOPBACK", "DELIVERY", "WANTED", "SET", "EFFECTIVE", "DELIVERED", "RAN ON", "AFFINITY")
	for _, each := range r.tests {
		t.add(vfio.IndexOf(each.kind), each.message, fmt.Sprintf("0x%x", each.vector), each.irq, each.loopback.Result, each.delivery.Result,
			each.wanted, orDash(each.set), orDash(each.effective), byCPU(each.delivered), byCPU(each.ran), each.affinity.Result)
	}
	t.print(a.stdout, "", 0)
	a.printf("%d ok, %d failed, %d not possible\n", counts[passed], counts[failed], counts[notPossible])
}

// tellFindings tells what failed, what was not possible, and what that leaves open: once for all messages of a kind.
func (r *selftestReport) tellFindings(a *app) {
	type finding struct {
		kind             pci.Kind
		name, seen, next string
		result           verdict
		unproved         string
	}
	var order []finding
	messages := map[finding]*host.CPUSet{}
	for i := range r.tests {
		t := &r.tests[i]
		for _, each := range t.aspects() {
			if each.Result == passed {
				continue
			}
			f := finding{t.kind, each.name, each.Seen, each.Next, each.Result, each.Unproved}
			if messages[f] == nil {
				order = append(order, f)
				messages[f] = &host.CPUSet{}
			}
			*messages[f] = messages[f].Add(t.message)
		}
	}
	for _, f := range order {
		a.note("%v: %v %s: %s %v: %s%s", r.device.Address(), vfio.IndexOf(f.kind), messages[f], f.name, f.result, f.seen,
			when(f.unproved != "", "; that leaves unproved: "+f.unproved))
		if f.next != "" {
			a.next("%s", f.next)
		}
	}
}
