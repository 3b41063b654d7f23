package host

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRecordRoundTrip(t *testing.T) {
	a := addr(t, "10000:e1:00.0")
	want := newRecord(Device{Address: a, VendorID: 0x8086, DeviceID: 0xffff, Driver: `odd "driver"`, DriverOverride: "x"})
	text, err := want.text()
	require.NoError(t, err)
	got, err := parseRecord([]byte(text+"\n"), a)
	require.NoError(t, err)
	assert.Equal(t, want, *got)
	assert.Equal(t, `driver odd "driver" with driver_override x`, got.String())
}

func TestRecordIsReadStrictly(t *testing.T) {
	a := addr(t, "0000:00:05.0")
	good := `{"schema":1,"address":"0000:00:05.0","vendor":32902,"device":4307,"driver":"e1000e","driverOverride":""}`
	_, err := parseRecord([]byte(good), a)
	require.NoError(t, err)
	_, err = parseRecord([]byte(good[:len(good)-1]+`,"nodes":[{"path":"/dev/vfio/1","from":0,"to":1},{"path":"/dev/vfio/devices/vfio0","from":2,"to":4294967295}]}`), a)
	require.NoError(t, err)
	for text, want := range map[string]string{
		"":                                      "EOF",
		"\x00\x00":                              "invalid character",
		"null":                                  "its schema is 0",
		"{}":                                    "its schema is 0",
		"[]":                                    "cannot unmarshal",
		good[:40]:                               "unexpected EOF",
		good + "{}":                             "there is more after the record",
		good + "x":                              "there is more after the record",
		`{"schema":2,"address":"0000:00:05.0"}`: "its schema is 2",
		`{"schema":1,"address":"0000:00:04.0"}`: "it is about 0000:00:04.0",
		`{"schema":1,"address":"eth0"}`:         "eth0",
		`{"schema":1,"address":"0000:00:05.0","more":1}`:                   "unknown field",
		`{"schema":1,"address":"0000:00:05.0","driver":"../../../../etc"}`: "is not the name of a driver",
		`{"schema":1,"address":"0000:00:05.0","driver":".."}`:              "is not the name of a driver",
		`{"schema":1,"address":"0000:00:05.0","driverOverride":"a\nb"}`:    "is not the name of a driver",
		`{"schema":1,"address":"0000:00:05.0","vendor":65536}`:             "cannot unmarshal",

		`{"schema":1,"address":"0000:00:05.0","nodes":[{"path":"/etc/passwd","from":0,"to":1000}]}`:              `"/etc/passwd" is not a node of VFIO`,
		`{"schema":1,"address":"0000:00:05.0","nodes":[{"path":"/dev/vfio/devices/vfio1/../../sda","to":1000}]}`: "is not a node of VFIO",
		`{"schema":1,"address":"0000:00:05.0","nodes":[{"path":"/dev/vfio/","to":1000}]}`:                        "is not a node of VFIO",
		`{"schema":1,"address":"0000:00:05.0","nodes":[{"path":"/dev/vfio/vfio","to":1000}]}`:                    "is not a node of VFIO",
		`{"schema":1,"address":"0000:00:05.0","nodes":[{"path":"/dev/vfio/1","from":-1}]}`:                       "cannot unmarshal",
		`{"schema":1,"address":"0000:00:05.0","nodes":[{"path":"/dev/vfio/1","group":12}]}`:                      "unknown field",
	} {
		_, err := parseRecord([]byte(text), a)
		require.ErrorContains(t, err, want, "%s", text)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"schema":1,"address":"0000:00:00.0","vendor":1,"device":2,"driver":"e1000e","driverOverride":""}`))
	f.Add([]byte(`{"schema":1,"address":"0000:00:00.0","vendor":1,"device":2,"driver":"","driverOverride":"","nodes":[{"path":"/dev/vfio/1","from":0,"to":1}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b, addr(t, "0000:00:00.0"))
		if err != nil {
			return
		}
		require.NotContains(t, r.Driver+r.DriverOverride, "/")
		for _, n := range r.Nodes {
			require.Regexp(t, `^/dev/vfio/(devices/vfio)?[0-9]+$`, n.Path)
		}
		text, err := r.text()
		require.NoError(t, err)
		again, err := parseRecord([]byte(text), r.Address)
		require.NoError(t, err)
		require.Equal(t, r, again)
	})
}
