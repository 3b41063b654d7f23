// Package manpage writes manual pages of commands from what their --help shows. They have no date, so that they change only
// with the help. cobra has a generator too, which goes through Markdown: this one keeps what the help has in columns, and
// says what each page should.
package manpage
