// Package profile answers one question: what are the registers of a given board, and how are its interrupts exercised, by
// someone who has its data sheet but no driver? A profile is a small JSON file that names the registers, and says for
// each interrupt how it is enabled, raised, recognised and acknowledged. Parse reads one, Profile.On puts it to work on a
// device's BARs, and the Handler of a message is the body of a service routine that claims an interrupt only when the
// status register says so.
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
//	    "STATUS": {"bar": 0, "offset": "0x24", "width": 32, "access": "ro"},
//	    "ACK":    {"bar": 0, "offset": "0x64", "width": 32, "access": "wo"},
//	    "RAISE":  {"bar": 0, "offset": "0x60", "width": 32, "access": "wo"},
//	    "CTRL":   REGISTER, …
//	  },
//	  "unraisable": "…",                              optional: why no register makes the device interrupt
//	  "interrupts": [                                 optional: left out of a profile that is for registers only
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
//	          "acknowledge": [STEP, …],               [] when reading the status register clears it
//	          "causes":  [CAUSE, …],                  optional
//	          "rate":    {"perSecond": 1000, "tolerance": 5}    optional
//	        }
//	      ]
//	    }
//	  ]
//	}
//
// Comments are not JSON and not allowed. Ids, offsets, masks and values are hexadecimal in quotation marks, as data
// sheets have them; counts are plain numbers.
//
// # Registers
//
//	"CTRL": {
//	  "bar": 0, "offset": "0x0", "width": 32,         0 to 5; 8, 16, 32 or 64 bits, the offset a multiple of that
//	  "access": "rw",                                 optional, "rw" unless it says otherwise
//	  "description": "device control",                optional
//	  "fields": {                                     optional; they do not overlap
//	    "RST":   {"bits": "26", "description": "resets the device"},
//	    "SPEED": {"bits": "9:8", "values": {"0x0": "10 Mb/s", "0x1": "100 Mb/s", "0x2": "1000 Mb/s"}}
//	  }
//	}
//
// Each access is one access of just the register's width. "access" is what data sheets call it:
//
//	rw   is read and written
//	ro   is read; writing does nothing
//	w1c  is read, and writing 1 to a bit clears it
//	wo   is written; what it reads means nothing
//	rc   is cleared by reading
//
// A field has the access of its register unless it says otherwise. "values" gives names to values of the field, counted
// from its lowest bit. The name of a field has no '.', for CTRL.RST is how it is called outside of the file.
//
// # Steps
//
// A step is one of
//
//	{"write": "ACK", "value": "0x1"}                  write the value
//	{"write": "ACK", "value": "status"}               write the bits just seen, status & mask; in "acknowledge" only
//	{"read": "STATUS"}                                read and forget: where reading clears, and to flush writes
//	{"set": "CONTROL", "bits": "0x1"}                 read, set the bits, write
//	{"clear": "CONTROL", "bits": "0x1"}               read, clear the bits, write
//	{"modify": "CONTROL", "mask": "0x300", "value": "0x100"}
//	                                                  read, change the bits of the mask, write
//	{"wait": "STATUS", "mask": "0x1", "value": "0x1", "within": "500ms"}
//	                                                  read until the bits of the mask are the value; it is an error when
//	                                                  that takes longer, for which 1m is the most
//
// and the steps of a list are done in order. Those that read and write leave alone what other fields are, but for fields
// of access w1c: 0 is written to them. A step that goes against a register's access is an error. "acknowledge" covers the
// three ways in which devices are acknowledged: write a value, write the status back (write one to clear), read to clear;
// it has no steps that change bits or wait.
//
// # Causes
//
// A message that is sent for several reasons can have them told and counted apart:
//
//	{
//	  "name": "LSC", "mask": "0x4",                   bits of the message's status
//	  "description": "the link changed",              optional
//	  "raise": [STEP, …],                             optional
//	  "rate": {"perSecond": 1, "tolerance": 50}       optional
//	}
//
// A message is raised by its own steps or, when it has none, by those of its causes in turn.
//
// # Rates
//
// A rate is how many interrupts a second are expected of a device at work, and how far off they may be, in percent.
// `irqbridge connect` compares with it when it does not raise interrupts itself.
//
// # What a service routine does
//
// It reads the status register once. When no bit of the mask is set, it returns false and touches nothing else.
// Otherwise it does the steps of "acknowledge" and returns true; the kernel's mask on a line is lifted only after that.
// All ones in a register of 32 bits or more is what a device that does not answer reads as: it is not claimed, and kept
// as the routine's error.
//
// # Checking
//
// `irqbridge profile check FILE` tells every mistake of a file with its place, and `irqbridge profile schema` prints a JSON
// Schema for editors. The schema knows the form: fields, types, and how numbers are written. That names exist, that
// numbers fit their registers and that steps agree with access, only the reader knows.
//
// # Profiles in the program
//
// The files in profiles/ are part of the program: Embedded lists them, ForDevice finds one by a device's ids.
package profile
