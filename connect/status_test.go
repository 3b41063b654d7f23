package connect_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/connect"
)

// The constants have the values of wdm.h and ntstatus.h.
func TestConstants(t *testing.T) {
	t.Run("versions", func(t *testing.T) {
		assert.Equal(t, []uint32{1, 2, 3, 4, 5}, []uint32{
			connect.VersionFullySpecified, connect.VersionLineBased, connect.VersionMessageBased,
			connect.VersionFullySpecifiedGroup, connect.VersionMessageBasedPassive,
		})
	})
	t.Run("modes and levels", func(t *testing.T) {
		assert.EqualValues(t, 0, connect.LevelSensitive)
		assert.EqualValues(t, 1, connect.Latched)
		assert.Equal(t, []connect.KIRQL{0, 1, 2, 15}, []connect.KIRQL{
			connect.PassiveLevel, connect.APCLevel, connect.DispatchLevel, connect.HighLevel,
		})
	})
	t.Run("statuses", func(t *testing.T) {
		for status, name := range map[connect.Status]string{
			0x00000000: "STATUS_SUCCESS",
			0xC0000001: "STATUS_UNSUCCESSFUL",
			0xC000000D: "STATUS_INVALID_PARAMETER",
			0xC0000010: "STATUS_INVALID_DEVICE_REQUEST",
			0xC000009A: "STATUS_INSUFFICIENT_RESOURCES",
			0xC00000BB: "STATUS_NOT_SUPPORTED",
			0xC00000EF: "STATUS_INVALID_PARAMETER_1",
			0xC00000F8: "STATUS_INVALID_PARAMETER_10",
			0xC0000225: "STATUS_NOT_FOUND",
		} {
			assert.Equal(t, name, status.String())
			assert.Equal(t, name, status.Error())
			assert.Equal(t, status == 0, status.Success(), name)
		}
		assert.True(t, connect.Status(0x40000000).Success())
		assert.False(t, connect.Status(0x80000005).Success())
		assert.Equal(t, "NTSTATUS(0x80000005)", connect.Status(0x80000005).String())
	})
}

func TestModeString(t *testing.T) {
	assert.Equal(t, "LevelSensitive", connect.LevelSensitive.String())
	assert.Equal(t, "Latched", connect.Latched.String())
	assert.Equal(t, "Mode(2)", connect.Mode(2).String())
}

func TestErrorsSayWhat(t *testing.T) {
	status := &connect.StatusError{Status: connect.StatusNotFound, Op: "connect", Reason: "vector 0x92", Err: unix.ENODEV}
	assert.EqualError(t, status, "connect: STATUS_NOT_FOUND: vector 0x92: no such device")
	wrapped := fmt.Errorf("driver: %w", status)
	require.ErrorIs(t, wrapped, connect.StatusNotFound)
	require.ErrorIs(t, wrapped, unix.ENODEV)
	require.NotErrorIs(t, wrapped, connect.StatusUnsuccessful)
	for code, want := range map[uint32]string{
		0xF:   "bug check 0xF (SPIN_LOCK_ALREADY_OWNED): why",
		0xCA:  "bug check 0xCA (PNP_DETECTED_FATAL_ERROR): why",
		0xF2:  "bug check 0xF2 (HARDWARE_INTERRUPT_STORM): why",
		0x121: "bug check 0x121 (DRIVER_VIOLATION): why",
		0x133: "bug check 0x133 (DPC_WATCHDOG_VIOLATION): why",
		0x1:   "bug check 0x1: why",
	} {
		assert.EqualError(t, &connect.BugCheckError{Code: code, Reason: "why"}, want)
	}
}
