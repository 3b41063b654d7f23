package profile

import (
	"strings"
	"testing"
	"time"

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

// grown is a profile with everything that board has not.
const grown = `{
  "profile": 1,
  "name": "grown",
  "description": "all of it",
  "match": [{"vendor": "0x1", "device": "0x2"}],
  "unraisable": "it takes a cable",
  "registers": {
    "CTRL": {
      "bar": 0, "offset": "0x0", "width": 32, "access": "rw", "description": "control",
      "fields": {
        "SPEED": {"bits": "9:8", "access": "ro", "description": "of the link", "values": {"0x2": "fast", "0x0": "slow"}},
        "RST": {"bits": "0"}
      }
    },
    "ISR": {"bar": 0, "offset": "0x4", "width": 32, "access": "w1c"},
    "ONCE": {"bar": 0, "offset": "0x8", "width": 32, "access": "rc"},
    "KICK": {"bar": 0, "offset": "0xc", "width": 32, "access": "wo"},
    "VER": {"bar": 0, "offset": "0x10", "width": 32, "access": "ro"}
  },
  "interrupts": [
    {
      "kinds": ["msi"],
      "enable": [{"modify": "CTRL", "mask": "0x30", "value": "0x20"}],
      "disable": [{"wait": "VER", "mask": "0x1", "value": "0x0", "within": "1.5s"}],
      "messages": [
        {
          "message": 1,
          "status": {"register": "ISR", "mask": "0x3"},
          "acknowledge": [{"read": "ONCE"}],
          "rate": {"perSecond": 0.5, "tolerance": 10},
          "causes": [
            {"name": "A", "mask": "0x1", "description": "the first", "raise": [{"write": "KICK", "value": "0x1"}], "rate": {"perSecond": 3, "tolerance": 2.5}},
            {"name": "B", "mask": "0x3"}
          ]
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
		Registers: map[string]Register{"STATUS": {Offset: 0x24, Width: 32}, "SMALL": {BAR: 5, Offset: 3, Width: 8}},
		Interrupts: []Interrupts{{
			Kinds: []pci.Kind{pci.KindMSIX},
			Enable: []Step{
				{Action: Set, Register: "SMALL", Value: 0x80},
				{Action: Clear, Register: "SMALL", Value: 1},
				{Action: Read, Register: "STATUS"},
			},
			Messages: []Message{{
				Message:     2047,
				Raise:       []Step{{Action: Write, Register: "SMALL", Value: 1}},
				Status:      Status{"STATUS", 2},
				Acknowledge: []Step{{Action: WriteStatus, Register: "STATUS"}},
			}},
		}},
	}, p)
	assert.True(t, p.Matches(ID{0x1234, 0xabcd}))
	assert.False(t, p.Matches(ID{0x1234, 0xabce}))
	assert.Equal(t, []pci.Kind{pci.KindMSIX}, p.Kinds())
}

func TestParseReadsEveryFieldOfAGrownOne(t *testing.T) {
	p, err := Parse("grown.json", []byte(grown))
	require.NoError(t, err)
	assert.Equal(t, &Profile{
		Name: "grown", Description: "all of it", Unraisable: "it takes a cable",
		Match: []ID{{1, 2}},
		Registers: map[string]Register{
			"CTRL": {Width: 32, Description: "control", Fields: []Field{
				{Name: "RST"},
				{Name: "SPEED", High: 9, Low: 8, Access: ReadOnly, Description: "of the link", Values: []Value{{0, "slow"}, {2, "fast"}}},
			}},
			"ISR":  {Offset: 4, Width: 32, Access: WriteOneToClear},
			"ONCE": {Offset: 8, Width: 32, Access: ReadClears},
			"KICK": {Offset: 12, Width: 32, Access: WriteOnly},
			"VER":  {Offset: 16, Width: 32, Access: ReadOnly},
		},
		Interrupts: []Interrupts{{
			Kinds:   []pci.Kind{pci.KindMSI},
			Enable:  []Step{{Action: Modify, Register: "CTRL", Mask: 0x30, Value: 0x20}},
			Disable: []Step{{Action: Wait, Register: "VER", Mask: 1, Within: 1500 * time.Millisecond}},
			Messages: []Message{{
				Message: 1, Status: Status{"ISR", 3}, Acknowledge: []Step{{Action: Read, Register: "ONCE"}}, Rate: &Rate{0.5, 10},
				Causes: []Cause{
					{Name: "A", Mask: 1, Description: "the first", Raise: []Step{{Action: Write, Register: "KICK", Value: 1}}, Rate: &Rate{3, 2.5}},
					{Name: "B", Mask: 3},
				},
			}},
		}},
	}, p)
	assert.Equal(t, []string{"CTRL", "ISR", "ONCE", "KICK", "VER"}, p.Names())
	ctrl := p.Registers["CTRL"]
	speed := ctrl.Field("SPEED")
	assert.EqualValues(t, 0x300, speed.Mask())
	assert.EqualValues(t, 2, speed.Of(0xfe00))
	assert.Equal(t, "9:8", speed.Bits())
	assert.Equal(t, "fast", speed.ValueName(2))
	assert.Empty(t, speed.ValueName(1))
	assert.Equal(t, "0", ctrl.Field("RST").Bits())
	assert.Nil(t, ctrl.Field("rst"))
	isr := p.Registers["ISR"]
	assert.EqualValues(t, 0xffffffff, isr.Clearing())
	assert.Zero(t, ctrl.Clearing())
	assert.True(t, p.Interrupts[0].Messages[0].CanRaise())
}

func TestParseNamesThePlaceOfAMistake(t *testing.T) {
	for name, c := range map[string]struct{ old, new, want string }{
		"unknown field":           {`"mask"`, `"masc"`, `b:17:44: interrupts[0].messages[0].status.masc: unknown field; known here: register, mask`},
		"unknown field in a step": {`"bits": "0x80"`, `"bit": "0x80"`, `b:12:35: interrupts[0].enable[0].bit: unknown field; known here: write, read, set, clear, modify, wait, value, bits, mask, within`},
		"unknown field at top":    {`"name"`, `"nam"`, `b:3:3: nam: unknown field; known here: profile, name, description, match, registers, interrupts, unraisable`},
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
		"unknown register":        {`"register": "STATUS"`, `"register": "STATSU"`, `b:17:34: interrupts[0].messages[0].status.register: register "STATSU" is not in "registers"; did you mean STATUS?`},
		"unknown register, step":  {`"set": "SMALL"`, `"set": "small"`, `b:12:26: interrupts[0].enable[0].set: register "small" is not in "registers"; did you mean SMALL?`},
		"mask too wide":           {`"0x2"}`, `"0x100000000"}`, `b:17:52: interrupts[0].messages[0].status.mask: 0x100000000 does not fit in 32 bits`},
		"mask 0":                  {`"0x2"}`, `"0x0"}`, `b:17:52: interrupts[0].messages[0].status.mask: a mask of 0 recognises nothing`},
		"value too wide":          {`"value": "0x1"`, `"value": "0x100"`, `b:16:49: interrupts[0].messages[0].raise[0].value: 0x100 does not fit in 8 bits`},
		"status outside":          {`"value": "0x1"`, `"value": "status"`, `b:16:49: interrupts[0].messages[0].raise[0].value: "status" is only known in "acknowledge"; give a hex number such as "0x64"`},
		"status too wide":         {`[{"write": "STATUS", "value": "status"}]`, `[{"write": "SMALL", "value": "status"}]`, `b:18:55: interrupts[0].messages[0].acknowledge[0].value: the status of STATUS does not fit in SMALL (8 bits)`},
		"set to acknowledge":      {`[{"write": "STATUS", "value": "status"}]`, `[{"set": "STATUS", "bits": "0x2"}]`, `b:18:27: interrupts[0].messages[0].acknowledge[0]: an acknowledgement writes or reads a register; it does not change bits of it, nor wait`},
		"step without action":     {`{"read": "STATUS"}`, `{}`, `b:12:87: interrupts[0].enable[2]: wants one of write, read, set, clear, modify and wait`},
		"step with two actions":   {`{"read": "STATUS"}`, `{"read": "STATUS", "set": "SMALL"}`, `b:12:87: interrupts[0].enable[2]: wants one of write, read, set, clear, modify and wait, has "read" and "set"`},
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

func TestParseNamesThePlaceOfAMistakeInAGrownOne(t *testing.T) {
	for name, c := range map[string]struct{ old, new, want string }{
		"unknown access":           {`"access": "w1c"`, `"access": "rw1c"`, `15:63: registers.ISR.access: wants one of rw, ro, w1c, wo, rc, is "rw1c"`},
		"name of a field":          {`"RST": {`, `"R.ST": {`, `12:9: registers.CTRL.fields.R.ST: a field's name is a letter, then letters, digits, '_' or '-'`},
		"fields as list":           {`"RST": {"bits": "0"}`, `"RST": ["0"]`, `12:16: registers.CTRL.fields.RST: wants an object { … }, is a list`},
		"bits as number":           {`{"bits": "0"}`, `{"bits": 0}`, `12:25: registers.CTRL.fields.RST.bits: wants text, is the number 0`},
		"bits of another kind":     {`{"bits": "0"}`, `{"bits": "0-3"}`, `12:25: registers.CTRL.fields.RST.bits: wants a bit such as "3", or bits such as "7:4", is "0-3"`},
		"lower bit first":          {`"9:8"`, `"8:9"`, `11:27: registers.CTRL.fields.SPEED.bits: wants the higher bit first, such as "9:8", is "8:9"`},
		"bit outside":              {`"9:8"`, `"32:8"`, `11:27: registers.CTRL.fields.SPEED.bits: the register has bits 0 to 31, not 32`},
		"bits of another field":    {`{"bits": "0"}`, `{"bits": "8:0"}`, `12:16: registers.CTRL.fields.RST: its bits 8:0 are those of field SPEED (9:8), too`},
		"value of a field":         {`"0x2": "fast"`, `"0x4": "fast"`, `11:91: registers.CTRL.fields.SPEED.values.0x4: 0x4 does not fit in the field's 2 bits`},
		"value that is no number":  {`"0x2": "fast"`, `"2": "fast"`, `11:91: registers.CTRL.fields.SPEED.values.2: wants a hex number such as "0x1" for a name`},
		"value twice":              {`"0x2": "fast"`, `"0x2": "fast", "0x02": "quick"`, `11:106: registers.CTRL.fields.SPEED.values.0x02: 0x2 has a name already, "fast"`},
		"value without a name":     {`"fast"`, `""`, `11:98: registers.CTRL.fields.SPEED.values.0x2: wants a name, is empty`},
		"no interrupts":            {grown[strings.Index(grown, `"interrupts": [`):], "\"interrupts\": []\n}\n", `20:17: interrupts: describes no interrupt: leave it out of a profile that is for registers only`},
		"bits outside of the mask": {`"value": "0x20"`, `"value": "0x21"`, `23:62: interrupts[0].enable[0].value: 0x21 has bits that the mask, 0x30, has not`},
		"mask 0 of a step":         {`"mask": "0x30"`, `"mask": "0x0"`, `23:45: interrupts[0].enable[0].mask: a mask of 0 recognises nothing`},
		"wait without bound":       {`, "within": "1.5s"`, ``, `24:19: interrupts[0].disable[0]: "wait" wants a field "within"`},
		"wait for ever":            {`"1.5s"`, `"61s"`, `24:76: interrupts[0].disable[0].within: wants a time of more than 0 and at most 1m0s, such as "500ms" or "2s", is "61s"`},
		"wait for no time":         {`"1.5s"`, `"0s"`, `24:76: interrupts[0].disable[0].within: wants a time of more than 0 and at most 1m0s, such as "500ms" or "2s", is "0s"`},
		"time without unit":        {`"1.5s"`, `"1.5"`, `24:76: interrupts[0].disable[0].within: wants a time of more than 0 and at most 1m0s, such as "500ms" or "2s", is "1.5"`},
		"time as number":           {`"1.5s"`, `1.5`, `24:76: interrupts[0].disable[0].within: wants text, is the number 1.5`},
		"acknowledge that waits":   {`{"read": "ONCE"}`, `{"wait": "VER", "mask": "0x1", "value": "0x1", "within": "1s"}`, `29:27: interrupts[0].messages[0].acknowledge[0]: an acknowledgement writes or reads a register; it does not change bits of it, nor wait`},
		"status of write only":     {`"register": "ISR"`, `"register": "KICK"`, `28:34: interrupts[0].messages[0].status.register: KICK is write only, and tells nothing when it is read`},
		"write of read only":       {`{"write": "KICK"`, `{"write": "VER"`, `32:90: interrupts[0].messages[0].causes[0].raise[0].write: VER is read only`},
		"modify read only":         {`"modify": "CTRL"`, `"modify": "VER"`, `23:29: interrupts[0].enable[0].modify: VER is read only`},
		"modify write only":        {`"modify": "CTRL"`, `"modify": "KICK"`, `23:29: interrupts[0].enable[0].modify: KICK is write only, so its bits cannot be changed one by one: write it`},
		"modify write to clear":    {`"modify": "CTRL"`, `"modify": "ISR"`, `23:29: interrupts[0].enable[0].modify: ISR is cleared by writing 1, so its bits cannot be changed one by one: write it`},
		"modify read to clear":     {`"modify": "CTRL"`, `"modify": "ONCE"`, `23:29: interrupts[0].enable[0].modify: ONCE is cleared by reading, which changes what is in it`},
		"read of write only":       {`{"read": "ONCE"}`, `{"read": "KICK"}`, `29:36: interrupts[0].messages[0].acknowledge[0].read: KICK is write only, and tells nothing when it is read`},
		"wait on read to clear":    {`"wait": "VER"`, `"wait": "ONCE"`, `24:28: interrupts[0].disable[0].wait: ONCE is cleared by reading, which changes what is in it`},
		"cause outside of status":  {`"mask": "0x3"}` + "\n          ]", `"mask": "0x7"}` + "\n          ]", `33:35: interrupts[0].messages[0].causes[1].mask: 0x7 has bits that the mask of "status", 0x3, has not`},
		"cause twice":              {`"name": "B"`, `"name": "A"`, `33:22: interrupts[0].messages[0].causes[1].name: the message has a cause A already`},
		"cause with a bad name":    {`"name": "B"`, `"name": "B c"`, `33:22: interrupts[0].messages[0].causes[1].name: wants a letter, then letters, digits, '_', '.' or '-', is "B c"`},
		"rate without tolerance":   {`, "tolerance": 10}`, `}`, `30:19: interrupts[0].messages[0].rate: field "tolerance" is missing`},
		"negative rate":            {`"perSecond": 0.5`, `"perSecond": -1`, `30:33: interrupts[0].messages[0].rate.perSecond: wants a number from 0 to 1000000000, is -1`},
		"rate as text":             {`"perSecond": 0.5`, `"perSecond": "5"`, `30:33: interrupts[0].messages[0].rate.perSecond: wants a number, is the text "5"`},
		"rate without bound":       {`"perSecond": 0.5`, `"perSecond": 1e999`, `30:33: interrupts[0].messages[0].rate.perSecond: wants a number from 0 to 1000000000, is 1e999`},
	} {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, grown, c.old)
			_, mistakes := Check("b", []byte(strings.Replace(grown, c.old, c.new, 1)))
			require.Len(t, mistakes, 1, "a mistake is told once: %v", mistakes)
			assert.EqualError(t, mistakes[0], "b:"+c.want)
		})
	}
}

func TestCheckTellsEveryMistakeByPlace(t *testing.T) {
	_, mistakes := Check("b", []byte(`{
  "profile": 1, "nam": "x",
  "match": [{"vendor": "1", "device": "0x12345"}],
  "registers": {
    "A": {"bar": 9, "offset": "0x1", "width": 33, "fields": {"F": {"bits": "40"}}},
    "B": {"bar": 0, "offset": "0x2", "width": 32, "bar": 1}
  },
  "interrupts": [
    {
      "kinds": ["msi", "line"],
      "messages": [
        {"message": 40, "status": {"register": "A", "mask": "0xffffffffff"}, "acknowledge": [{"write": "C", "value": "0x1"}]},
        {"message": 1, "status": {"register": "B"}, "acknowledge": [{"jump": "B"}, 7]}
      ]
    }
  ]
}`))
	var got []string
	for _, m := range mistakes {
		got = append(got, m.Error())
	}
	assert.Equal(t, []string{
		`b:2:17: nam: unknown field; known here: profile, name, description, match, registers, interrupts, unraisable`,
		`b:3:24: match[0].vendor: wants a hex number such as "0x64", is "1"`,
		`b:3:39: match[0].device: 0x12345 does not fit in 16 bits`,
		`b:5:18: registers.A.bar: wants a whole number from 0 to 5, is 9`,
		`b:5:47: registers.A.width: wants 8, 16, 32 or 64 bits, is 33`,
		`b:6:31: registers.B.offset: 0x2 is not a multiple of the register's 4 bytes`,
		`b:6:51: registers.B.bar: given twice`,
		`b:10:24: interrupts[0].kinds[1]: wants one of intx, msi, msix, is "line"`,
		`b:12:21: interrupts[0].messages[0].message: wants a whole number from 0 to 31, is 40`,
		`b:12:104: interrupts[0].messages[0].acknowledge[0].write: register "C" is not in "registers"`,
		`b:13:34: interrupts[0].messages[1].status: field "mask" is missing`,
		`b:13:69: interrupts[0].messages[1].acknowledge[0]: wants one of write, read, set, clear, modify and wait`,
		`b:13:70: interrupts[0].messages[1].acknowledge[0].jump: unknown field; known here: write, read, set, clear, modify, wait, value, bits, mask, within`,
		`b:13:84: interrupts[0].messages[1].acknowledge[1]: wants an object { … }, is the number 7`,
	}, got)

	p, mistakes := Check("b", []byte(board))
	assert.Empty(t, mistakes)
	assert.Equal(t, "board", p.Name)
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
				assert.True(t, m.CanRaise(), "%s: every message can be raised", p.Name)
				if len(m.Acknowledge) == 0 {
					assert.Equal(t, ReadClears, p.Registers[m.Status.Register].Access, p.Name)
				}
			}
		}
		assert.Equal(t, len(p.Interrupts) == 0, p.Unraisable != "", "%s: it says why it has no interrupts", p.Name)
		again, err := Parse(p.Name, Source(p.Name))
		require.NoError(t, err)
		assert.Equal(t, p, again)
	}
	assert.Nil(t, Source("nonesuch"))
	assert.Nil(t, Named("nonesuch"))
	assert.Nil(t, ForDevice(ID{0xffff, 0xffff}))
	assert.Len(t, Named("e1000e").Interrupts[1].Messages, 5)
}

func FuzzParse(f *testing.F) {
	f.Add(board)
	f.Add(grown)
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
			_, mistakes := Check("f", []byte(text))
			require.Contains(t, mistakes, at, "the first of them")
			return
		}
		// Whatever is accepted can be used: on BARs that are large enough, every kind resolves.
		for _, kind := range p.Kinds() {
			_, err := p.On(kind, func(int) (BAR, error) { return hugeBAR{}, nil })
			require.NoError(t, err)
		}
	})
}
