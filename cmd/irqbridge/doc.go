// Command irqbridge shows, binds and exercises the interrupts of PCI devices from user space.
//
//	irqbridge demo                               the whole way on a fake kernel: no hardware, no privileges
//	irqbridge list                               the host's PCI devices and the interrupts that they offer
//	irqbridge show BDF                           capabilities, descriptors, mapping, where the host delivers
//	irqbridge map                                descriptors from standard input to connect parameters
//	irqbridge bind BDF, irqbridge unbind BDF     give a device to vfio-pci, and back to its driver
//	irqbridge connect BDF --raise 100            connect a service routine to every interrupt, raise them, tell what arrived
//	irqbridge doctor BDF                         why no interrupt arrives: the first thing in the way, and what to type next
//	irqbridge cdi BDF                            a specification by which container runtimes give the device to containers
//	irqbridge completion bash                    completion of verbs, devices and the values of flags
//
// Package cli, below internal, holds the verbs and says what the exit statuses mean; package profile there describes the
// file in which a board's registers are named.
package main
