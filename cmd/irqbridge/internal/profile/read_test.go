package profile

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
)

// board is a correct profile, one line a field, which the table below damages one place at a time.
const board = `{
  "profile": 1,
  "name": "board",
  "match": [{"vendor": "0x1234", "device": "0xABCD"}],
  "registers": {
    "STATUS": {"bar": 0, "offset": "0x24", "width": 32},
    "SMALL": {"bar": 5, "offset": "0x3", "width": 8}
  },
  "interrupts": [
    {
      "kinds": ["msix"],
      "enable": [{"set": "SMALL", "bits": "0x80"}, {"clear": "SMALL", "bits": "0x1"}, {"read": "STATUS"}],
      "messages": [
        {
          "message": 2047,
          "raise": [{"write": "SMALL", "value": "0x1"}],
          "status": {"register": "STATUS", "mask": "0x2"},
          "acknowledge": [{"write": "STATUS", "value": "status"}]
        }
      ]
    }
  ]
}
`

func TestParseReadsEveryField(t *testing.T) {
	p, err := Parse("board.json", []byte(board))
	require.NoError(t, err)
	assert.Equal(t, &Profile{
		Name:      "board",
		Match:     []ID{{0x1234, 0xabcd}},
		Registers: map[string]Register{"STATUS": {0, 0x24, 32}, "SMALL": {5, 3, 8}},
		Interrupts: []Interrupts{{
			Kinds:  []pci.Kind{pci.KindMSIX},
			Enable: []Step{{Set, "SMALL", 0x80}, {Clear, "SMALL", 1}, {Read, "STATUS", 0}},
			Messages: []Message{{
				Message:     2047,
				Raise:       []Step{{Write, "SMALL", 1}},
				Status:      Status{"STATUS", 2},
				Acknowledge: []Step{{WriteStatus, "STATUS", 0}},
			}},
		}},
	}, p)
	assert.True(t, p.Matches(ID{0x1234, 0xabcd}))
	assert.False(t, p.Matches(ID{0x1234, 0xabce}))
	assert.Equal(t, []pci.Kind{pci.KindMSIX}, p.Kinds())
}

func TestParseNamesThePlaceOfAMistake(t *testing.T) {
	for name, c := range map[string]struct{ old, new, want string }{
		"unknown field":           {`"mask"`, `"masc"`, `b:17:44: interrupts[0].messages[0].status.masc: unknown field; known here: register, mask`},
		"unknown field in a step": {`"bits": "0x80"`, `"bit": "0x80"`, `b:12:35: interrupts[0].enable[0].bit: unknown field; known here: write, read, set, clear, value, bits`},
		"unknown field at top":    {`"name"`, `"nam"`, `b:3:3: nam: unknown field; known here: profile, name, description, match, registers, interrupts`},
		"unprintable field":       {`"mask"`, `"ma\nsk"`, `b:17:44: interrupts[0].messages[0].status."ma\nsk": unknown field; known here: register, mask`},
		"missing field":           {`, "mask": "0x2"`, ``, `b:17:21: interrupts[0].messages[0].status: field "mask" is missing`},
		"missing acknowledge":     {",\n          \"acknowledge\": [{\"write\": \"STATUS\", \"value\": \"status\"}]", ``, `b:14:9: interrupts[0].messages[0]: field "acknowledge" is missing`},
		"field twice":             {`"bar": 5,`, `"bar": 5, "bar": 5,`, `b:7:25: registers.SMALL.bar: given twice`},
		"register twice":          {`"SMALL": {`, `"STATUS": {`, `b:7:5: registers.STATUS: given twice`},
		"later version":           {`"profile": 1`, `"profile": 2`, `b:2:14: profile: this program reads version 1 of the format, the file says 2`},
		"version as text":         {`"profile": 1`, `"profile": "1"`, `b:2:14: profile: wants a number, is the text "1"`},
		"bad name":                {`"board"`, `"my board"`, `b:3:11: name: wants a letter, then letters, digits, '_', '.' or '-', is "my board"`},
		"bad register name":       {`"SMALL": {`, `"": {`, `b:7:5: registers.: a register's name is a letter, then letters, digits, '_', '.' or '-'`},
		"hex as number":           {`"0x24"`, `36`, `b:6:36: registers.STATUS.offset: wants a hex number in quotation marks such as "0x64", is the number 36`},
		"hex without 0x":          {`"0x24"`, `"24"`, `b:6:36: registers.STATUS.offset: wants a hex number such as "0x64", is "24"`},
		"not hex":                 {`"0x24"`, `"0x2g"`, `b:6:36: registers.STATUS.offset: wants a hex number such as "0x64", is "0x2g"`},
		"hex with underscore":     {`"0x24"`, `"0x2_4"`, `b:6:36: registers.STATUS.offset: wants a hex number such as "0x64", is "0x2_4"`},
		"negative hex":            {`"0x24"`, `"-0x24"`, `b:6:36: registers.STATUS.offset: wants a hex number such as "0x64", is "-0x24"`},
		"hex with a sign inside":  {`"0x24"`, `"0x+24"`, `b:6:36: registers.STATUS.offset: wants a hex number such as "0x64", is "0x+24"`},
		"65 bits":                 {`"0x24"`, `"0x10000000000000000"`, `b:6:36: registers.STATUS.offset: 0x10000000000000000 does not fit in 64 bits`},
		"unaligned offset":        {`"0x24"`, `"0x22"`, `b:6:36: registers.STATUS.offset: 0x22 is not a multiple of the register's 4 bytes`},
		"vendor too long":         {`"0x1234"`, `"0x12345"`, `b:4:24: match[0].vendor: 0x12345 does not fit in 16 bits`},
		"no match":                {`[{"vendor": "0x1234", "device": "0xABCD"}]`, `[]`, `b:4:12: match: names no device: give at least one {"vendor": "0x…", "device": "0x…"}`},
		"BAR 6":                   {`"bar": 5`, `"bar": 6`, `b:7:22: registers.SMALL.bar: wants a whole number from 0 to 5, is 6`},
		"BAR with a fraction":     {`"bar": 5`, `"bar": 0.5`, `b:7:22: registers.SMALL.bar: wants a whole number from 0 to 5, is 0.5`},
		"24 bits wide":            {`"width": 8`, `"width": 24`, `b:7:51: registers.SMALL.width: wants 8, 16, 32 or 64 bits, is 24`},
		"unknown kind":            {`"msix"`, `"msi-x"`, `b:11:17: interrupts[0].kinds[0]: wants one of intx, msi, msix, is "msi-x"`},
		"kind twice":              {`["msix"]`, `["msix", "msix"]`, `b:11:25: interrupts[0].kinds[1]: msix is described twice`},
		"no kind":                 {`["msix"]`, `[]`, `b:11:16: interrupts[0].kinds: names no kind: give "intx", "msi" or "msix"`},
		"message too high":        {`2047`, `2048`, `b:15:22: interrupts[0].messages[0].message: wants a whole number from 0 to 2047, is 2048`},
		"message of the line":     {`"msix"`, `"intx"`, `b:15:22: interrupts[0].messages[0].message: wants a whole number from 0 to 0, is 2047`},
		"unknown register":        {`"register": "STATUS"`, `"register": "STATSU"`, `b:17:34: interrupts[0].messages[0].status.register: register "STATSU" is not in "registers"`},
		"unknown register, step":  {`"set": "SMALL"`, `"set": "small"`, `b:12:26: interrupts[0].enable[0].set: register "small" is not in "registers"`},
		"mask too wide":           {`"0x2"}`, `"0x100000000"}`, `b:17:52: interrupts[0].messages[0].status.mask: 0x100000000 does not fit in 32 bits`},
		"mask 0":                  {`"0x2"}`, `"0x0"}`, `b:17:52: interrupts[0].messages[0].status.mask: a mask of 0 recognises nothing`},
		"value too wide":          {`"value": "0x1"`, `"value": "0x100"`, `b:16:49: interrupts[0].messages[0].raise[0].value: 0x100 does not fit in 8 bits`},
		"status outside":          {`"value": "0x1"`, `"value": "status"`, `b:16:49: interrupts[0].messages[0].raise[0].value: "status" is only known in "acknowledge"; give a hex number such as "0x64"`},
		"status too wide":         {`[{"write": "STATUS", "value": "status"}]`, `[{"write": "SMALL", "value": "status"}]`, `b:18:55: interrupts[0].messages[0].acknowledge[0].value: the status of STATUS does not fit in SMALL (8 bits)`},
		"set to acknowledge":      {`[{"write": "STATUS", "value": "status"}]`, `[{"set": "STATUS", "bits": "0x2"}]`, `b:18:27: interrupts[0].messages[0].acknowledge[0]: an acknowledgement writes or reads a register; it does not change bits of it`},
		"step without action":     {`{"read": "STATUS"}`, `{}`, `b:12:87: interrupts[0].enable[2]: wants one of write, read, set and clear`},
		"step with two actions":   {`{"read": "STATUS"}`, `{"read": "STATUS", "set": "SMALL"}`, `b:12:87: interrupts[0].enable[2]: wants one of write, read, set and clear, has "read" and "set"`},
		"step without operand":    {`"SMALL", "bits": "0x1"`, `"SMALL"`, `b:12:52: interrupts[0].enable[1]: "clear" wants a field "bits"`},
		"foreign operand":         {`"SMALL", "bits": "0x1"`, `"SMALL", "bits": "0x1", "value": "0x1"`, `b:12:95: interrupts[0].enable[1].value: does not belong to "clear"`},
		"null":                    {`[{"write": "SMALL", "value": "0x1"}]`, `null`, `b:16:20: interrupts[0].messages[0].raise: wants a list [ … ], is null`},
		"list for object":         {`{"register": "STATUS", "mask": "0x2"}`, `["STATUS"]`, `b:17:21: interrupts[0].messages[0].status: wants an object { … }, is a list`},
		"comment":                 {`"profile": 1,`, `"profile": 1, // one`, `b:2:17: comments are not allowed in JSON`},
		"trailing comma":          {`"width": 8}`, `"width": 8},`, `b:8:3: a comma before the closing bracket is not allowed in JSON`},
		"missing comma":           {`"profile": 1,`, `"profile": 1`, `b:3:3: invalid character '"' after object key:value pair`},
		"trailing data":           {"  ]\n}\n", "  ]\n}\n{}", `b:24:1: text after the end of the profile`},
		"truncated":               {"  ]\n}\n", "  ]\n", `b:23:1: the file ends before the value does: a bracket or quotation mark is not closed`},
		"not UTF-8":               {`"board"`, "\"b\xffard\"", `b:3:13: not UTF-8 text`},
	} {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, board, c.old)
			_, err := Parse("b", []byte(strings.Replace(board, c.old, c.new, 1)))
			assert.EqualError(t, err, c.want)
		})
	}
}

func TestParseOfNothing(t *testing.T) {
	for text, want := range map[string]string{
		"":         "b:1:1: the file is empty",
		" \n":      "b:1:1: the file is empty",
		"7":        `b:1:1: wants an object { … }, is the number 7`,
		"\"é\" []": "b:1:5: text after the end of the profile", // columns are characters
	} {
		_, err := Parse("b", []byte(text))
		assert.EqualError(t, err, want, "%q", text)
	}
}

func TestEachMessageIsDescribedOnceAndOneIs(t *testing.T) {
	message := board[strings.Index(board, "        {\n          \"message\""):strings.Index(board, "      ]\n    }")]
	_, err := Parse("b", []byte(strings.Replace(board, message, strings.TrimSuffix(message, "\n")+",\n"+message, 1)))
	require.EqualError(t, err, "b:20:9: interrupts[0].messages[1]: message 2047 is described twice")
	_, err = Parse("b", []byte(strings.Replace(board, message, "", 1)))
	assert.EqualError(t, err, "b:13:19: interrupts[0].messages: describes no message")
}

func TestMessagesAreInOrder(t *testing.T) {
	message := board[strings.Index(board, "        {\n          \"message\""):strings.Index(board, "      ]\n    }")]
	p, err := Parse("b", []byte(strings.Replace(board, message, strings.TrimSuffix(message, "\n")+",\n"+strings.Replace(message, "2047", "3", 1), 1)))
	require.NoError(t, err)
	require.Len(t, p.Interrupts[0].Messages, 2)
	assert.Equal(t, 3, p.Interrupts[0].Messages[0].Message)
}

func TestEmbeddedProfilesAreReadAndFound(t *testing.T) {
	require.NotEmpty(t, Embedded())
	for _, p := range Embedded() {
		_, err := files.Open("profiles/" + p.Name + ".json")
		require.NoError(t, err, "a profile has the name of its file")
		assert.Same(t, p, Named(p.Name))
		for _, id := range p.Match {
			assert.Same(t, p, ForDevice(id))
		}
		for _, i := range p.Interrupts {
			for _, m := range i.Messages {
				assert.NotEmpty(t, m.Raise, "%s: every message can be raised", p.Name)
				assert.NotEmpty(t, m.Acknowledge, "%s: none is cleared by reading", p.Name)
			}
		}
	}
	assert.Nil(t, Named("nonesuch"))
	assert.Nil(t, ForDevice(ID{0xffff, 0xffff}))
	assert.Len(t, Named("e1000e").Interrupts[1].Messages, 5)
}

func FuzzParse(f *testing.F) {
	f.Add(board)
	f.Add(`{"a":[1,{"b":null}],"a":2}`)
	for _, p := range Embedded() {
		data, err := files.ReadFile("profiles/" + p.Name + ".json")
		require.NoError(f, err)
		f.Add(string(data))
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse("f", []byte(text))
		if err != nil {
			var at *Error
			require.ErrorAs(t, err, &at)
			require.LessOrEqual(t, at.Line, 1+strings.Count(text, "\n"))
			require.GreaterOrEqual(t, at.Column, 1)
			require.NotContains(t, at.Text, "\n")
			return
		}
		// Whatever is accepted can be used: on BARs that are large enough, every kind resolves.
		for _, kind := range p.Kinds() {
			_, err := p.On(kind, func(int) (BAR, error) { return hugeBAR{}, nil })
			require.NoError(t, err)
		}
	})
}
