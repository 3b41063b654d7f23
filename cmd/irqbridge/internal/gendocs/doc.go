// Command gendocs writes the manual pages of irqbridge, one for the program and one for each verb, from what --help shows:
//
//	go run ./cmd/irqbridge/internal/gendocs
//
// They are committed in cmd/irqbridge/man, and a test fails when they are not what this would write. They have no date, so
// that they change only with the help. cobra has a generator too, which goes through Markdown: this one keeps what the help
// has in columns, and says what each page should.
package main
