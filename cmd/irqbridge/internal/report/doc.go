// Package report makes one HTML page of a recorded run: what ran on what, whether it did what it was to do, what came when, on
// which CPUs, and how long it took.
//
// The page stands alone: its style and its pictures, which are SVG, are in it, it has no scripts, and it loads nothing. It can be
// read on a telephone, on paper and in the dark. All text of the recording is escaped by html/template.
package report
