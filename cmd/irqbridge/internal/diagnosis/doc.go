// Package diagnosis answers why no interrupt arrives. It has two halves: [ReadHost] and [ReadDevice] gather facts, by reading
// alone and without opening anything; [Host.Checks] and [Device.Checks] judge them, as pure functions, so that every
// broken set-up can be a row of a table in a test.
//
// A [Check] has an ID that stays, what was found in words, and what to type next. The order of checks is that in which a
// person fixes things: an IOMMU before the modules that need one, a driver before a node that only it makes, a bridge before
// the device behind it. [Sort] puts those that failed first without changing that order, so that the first line is the
// first thing in the way.
//
// What the hardware does is judged by what it is used for at that moment: a device that nobody has open sleeps, masters no
// bus and has no message enabled, and that is as it should be, because opening it changes all three.
package diagnosis
