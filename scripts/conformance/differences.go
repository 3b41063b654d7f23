package main

import (
	"fmt"
	"slices"
	"strings"
)

// difference is what the newest kernel answers another way than Linux 6.1, and the requests of which that is true.
type difference struct {
	change   string // "idle EINVAL -> ok", of a matrix with all its states; empty where a line stands for itself
	requests []string
	cells    int
}

// differences lists them, those with the same change together.
func (r golden) differences() []difference {
	switch {
	case r.old == nil:
		return nil
	case r.isMatrix():
		return r.matrixDifferences()
	}
	var list []difference
	old, newest := byKey(r.old), byKey(r.newest)
	for _, key := range keys(r.old, r.newest) {
		was, hadWas := old[key]
		is, hasIs := newest[key]
		if was == is && hadWas == hasIs {
			continue
		}
		text := "only 6.1"
		switch {
		case hadWas && hasIs:
			a, b := elide(was, is)
			text = a + " -> " + b
		case hasIs:
			text = "only newest"
		}
		request, _, _ := strings.Cut(key, "\x00")
		list = append(list, difference{requests: []string{strings.TrimSpace(request) + ": " + text}, cells: 1})
	}
	return list
}

// matrixDifferences compares state by state. A request that is not recorded is EINVAL in each.
func (r golden) matrixDifferences() []difference {
	var list []difference
	old, newest := byRequest(r.old), byRequest(r.newest)
	for _, request := range requests(r.old, r.newest) {
		was, is := old[request], newest[request]
		var changes []string
		for i := range max(len(was), len(is)) {
			a, b := "EINVAL", "EINVAL"
			state := ""
			if was != nil {
				state, a, _ = strings.Cut(was[i], ": ")
			}
			if is != nil {
				state, b, _ = strings.Cut(is[i], ": ")
			}
			if a != b {
				changes = append(changes, fmt.Sprintf("%s: %s -> %s", state, a, b))
			}
		}
		if len(changes) == 0 {
			continue
		}
		change := strings.Join(changes, "; ")
		n := slices.IndexFunc(list, func(d difference) bool { return d.change == change })
		if n < 0 {
			n = len(list)
			list = append(list, difference{change: change})
		}
		list[n].requests = append(list[n].requests, request)
		list[n].cells += len(changes)
	}
	return list
}

// byRequest is a matrix: the states by request.
func byRequest(lines []string) map[string][]string {
	m := map[string][]string{}
	for _, line := range lines {
		f := strings.Split(line, " | ")
		m[f[0]] = f[1:]
	}
	return m
}

// requests are those of both, in order.
func requests(lists ...[]string) []string {
	var all []string
	for _, lines := range lists {
		for _, line := range lines {
			request, _, _ := strings.Cut(line, " | ")
			if !slices.Contains(all, request) {
				all = append(all, request)
			}
		}
	}
	slices.Sort(all)
	return all
}

// split divides a line into what was asked and what was answered. What was asked before by the same words, as within the part
// of another device, gets a number behind it.
func split(lines []string, f func(key, answer string)) {
	seen := map[string]int{}
	for _, line := range lines {
		asked, answer, _ := strings.Cut(line, ": ")
		seen[asked]++
		f(fmt.Sprintf("%s\x00%d", asked, seen[asked]), answer)
	}
}

func byKey(lines []string) map[string]string {
	m := map[string]string{}
	split(lines, func(key, answer string) { m[key] = answer })
	return m
}

func keys(lists ...[]string) []string {
	var all []string
	for _, lines := range lists {
		split(lines, func(key, _ string) {
			if !slices.Contains(all, key) {
				all = append(all, key)
			}
		})
	}
	return all
}

// elide leaves out what two long answers begin and end with, and the rest of what is still long.
func elide(a, b string) (x, y string) {
	const keep, most = 6, 60
	if len(a)+len(b) < 100 {
		return a, b
	}
	start := 0
	for start < min(len(a), len(b)) && a[start] == b[start] {
		start++
	}
	end := 0
	for end < min(len(a), len(b))-start && a[len(a)-1-end] == b[len(b)-1-end] {
		end++
	}
	start, end = max(start-keep, 0), max(end-keep, 0)
	cut := func(s string) string {
		s = s[start : len(s)-end]
		if start > 0 {
			s = "…" + s
		}
		if end > 0 {
			s += "…"
		}
		if len(s) > most {
			s = s[:most] + "…"
		}
		return s
	}
	return cut(a), cut(b)
}

// vfioDifferences is the list of what the kernels answer differently, for people.
func vfioDifferences(files []golden) string {
	const shown = 3
	var b strings.Builder
	b.WriteString("\nWhere newest answers another way than 6.1:\n")
	for _, f := range files {
		for i, d := range f.differences() {
			if i == 0 {
				fmt.Fprintf(&b, "%s\n", f.name)
			}
			if d.change == "" {
				fmt.Fprintf(&b, "  %s\n", d.requests[0])
				continue
			}
			list := d.requests
			if n := len(list); n > shown {
				list = []string{list[0], fmt.Sprintf("%d more", n-2), list[n-1]}
			}
			fmt.Fprintf(&b, "  %s\n    %s\n", d.change, strings.Join(list, ", "))
		}
	}
	return b.String()
}
