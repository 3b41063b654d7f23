// Command gendocs writes the manual pages of irqbridge, one for the program and one for each verb:
//
//	go run ./cmd/irqbridge/internal/gendocs
//
// They are committed in cmd/irqbridge/man, and a test of package cli fails when they are not what this would write.
package main
