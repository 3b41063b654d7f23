package cli

import (
	"fmt"
	"time"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/profile"
)

// causeJSON is one cause of a message, as the profile tells them apart. Raised counts the times that it was raised by itself.
type causeJSON struct {
	Name         string    `json:"name"`
	Raised       uint64    `json:"raised"`
	Seen         uint64    `json:"seen"`
	ExpectedRate *rateJSON `json:"expectedRate,omitempty"`
}

// rateJSON is how many interrupts a second the profile expects, and how far off they may be.
type rateJSON struct {
	PerSecond float64 `json:"perSecond"`
	Tolerance float64 `json:"tolerance"` // in percent
}

func newRateJSON(r *profile.Rate) *rateJSON {
	if r == nil {
		return nil
	}
	return &rateJSON{r.PerSecond, r.Tolerance}
}

func newCausesJSON(counts []profile.CauseCount) []causeJSON {
	var list []causeJSON
	for _, c := range counts {
		list = append(list, causeJSON{c.Name, c.Raised, c.Seen, newRateJSON(c.Rate)})
	}
	return list
}

// causeTable is what was counted by cause, nil when the profile tells none apart.
func (s *session) causeTable() *table {
	var t *table
	for _, r := range s.rows {
		if r.routine.handler == nil {
			continue
		}
		for _, c := range r.routine.handler.Causes() {
			if t == nil {
				t = newTable(">MSG", "CAUSE", ">RAISED", ">SEEN", "EXPECTED")
			}
			raised, expected := "-", "-"
			if c.Own {
				raised = fmt.Sprint(c.Raised)
			}
			if c.Rate != nil {
				expected = c.Rate.String()
			}
			t.add(r.message.Index, c.Name, raised, c.Seen, expected)
		}
	}
	return t
}

// causeProblems are causes that were raised and not seen, and rates that are not as expected.
func (s *session) causeProblems() []problem {
	var problems []problem
	for _, r := range s.rows {
		h := r.routine.handler
		if h == nil {
			continue
		}
		what := fmt.Sprintf("message %d", r.message.Index)
		problems = append(problems, s.rateProblem(what, h.Rate(), r.routine.claimed.Load())...)
		for _, c := range h.Causes() {
			problems = append(problems, s.rateProblem(what+", cause "+c.Name, c.Rate, c.Seen)...)
			if r.serviced.Load() == r.raised.Load() && c.Seen < c.Raised { // else the message itself is the problem
				problems = append(problems, problem{
					fmt.Sprintf("%s, cause %s: raised %s, and seen in the status %d", what, c.Name, plural(int(c.Raised), "time"), c.Seen),
					"check raise and mask of the cause in the profile, and whether the enable steps let it through",
				})
			}
		}
	}
	return problems
}

// rateProblem tells when what was counted without raising it is not as often as the profile expects.
func (s *session) rateProblem(what string, rate *profile.Rate, count uint64) []problem {
	if rate == nil || s.watched == 0 || rate.Fits(count, s.watched) {
		return nil
	}
	return []problem{{
		fmt.Sprintf("%s: %d in %v are %.4g a second; the profile expects %v", what, count, s.watched.Round(time.Millisecond), float64(count)/s.watched.Seconds(), rate),
		"see that the device is at work, or correct the rate in the profile",
	}}
}
