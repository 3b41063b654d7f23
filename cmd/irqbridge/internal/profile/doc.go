// Package profile answers one question: how are the interrupts of a given board exercised, by someone who has its data
// sheet but no driver? A profile is a small JSON file that names the registers, and says for each interrupt how it is
// enabled, raised, recognised and acknowledged. Parse reads one, Profile.On puts it to work on a device's BARs, and the
// Handler of a message is the body of a service routine that claims an interrupt only when the status register says so.
//
// # The file
//
// One JSON object, read strictly: unknown, missing and repeated fields, wrong types and numbers that do not fit are
// errors with line, column and field. Names, numbers and lists in it:
//
//	{
//	  "profile": 1,                                   version of this format
//	  "name": "myboard",                              letters, digits, '_', '.', '-'
//	  "description": "…",                             optional, one line
//	  "match": [{"vendor": "0x1234", "device": "0x11e8"}],
//	  "registers": {
//	    "STATUS": {"bar": 0, "offset": "0x24", "width": 32},
//	    "ACK":    {"bar": 0, "offset": "0x64", "width": 32},
//	    "RAISE":  {"bar": 0, "offset": "0x60", "width": 32}
//	  },
//	  "interrupts": [
//	    {
//	      "kinds": ["intx", "msi"],                   of "intx", "msi", "msix"; each at most once in the file
//	      "enable":  [STEP, …],                       optional, before any message is enabled
//	      "disable": [STEP, …],                       optional, after every message was disabled
//	      "messages": [
//	        {
//	          "message": 0,                           the message number, 0 for the line
//	          "enable":  [STEP, …],                   optional
//	          "disable": [STEP, …],                   optional
//	          "raise":   [STEP, …],                   optional: makes the device interrupt
//	          "status":  {"register": "STATUS", "mask": "0x1"},
//	          "acknowledge": [STEP, …]                [] when reading the status register clears it
//	        }
//	      ]
//	    }
//	  ]
//	}
//
// Comments are not JSON and not allowed. Ids, offsets, masks and values are hexadecimal in quotation marks, as data
// sheets have them; counts are plain numbers. A register has a width of 8, 16, 32 or 64 bits, its offset is a multiple
// of that, and each access is one access of just that width.
//
// # Steps
//
// A step is one of
//
//	{"write": "ACK", "value": "0x1"}                  write the value
//	{"write": "ACK", "value": "status"}               write the bits just seen, status & mask; in "acknowledge" only
//	{"read": "STATUS"}                                read and forget: where reading clears, and to flush writes
//	{"set": "CONTROL", "bits": "0x1"}                 read, set the bits, write; not in "acknowledge"
//	{"clear": "CONTROL", "bits": "0x1"}               read, clear the bits, write; not in "acknowledge"
//
// and the steps of a list are done in order. "acknowledge" covers the three ways in which devices are acknowledged:
// write a value, write the status back (write one to clear), read to clear.
//
// # What a service routine does
//
// It reads the status register once. When no bit of the mask is set, it returns false and touches nothing else.
// Otherwise it does the steps of "acknowledge" and returns true; the kernel's mask on a line is lifted only after that.
// All ones in a register of 32 bits or more is what a device that does not answer reads as: it is not claimed, and kept
// as the routine's error.
//
// # Profiles in the program
//
// The files in profiles/ are part of the program: Embedded lists them, ForDevice finds one by a device's ids.
package profile
