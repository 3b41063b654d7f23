package vfio_test

import (
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

func TestFeatures(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.EDU)
		have, err := d.Features()
		require.NoError(t, err)
		want := []vfio.FeatureInfo{
			{Feature: vfio.FeatureLowPowerEntry, Set: true},
			{Feature: vfio.FeatureLowPowerEntryWakes, Set: true},
			{Feature: vfio.FeatureLowPowerExit, Set: true},
		}
		if m.Version == vfiotest.Newest {
			want = append(want, vfio.FeatureInfo{Feature: vfio.FeatureDMABuf, Get: true})
		}
		assert.Equal(t, want, have)
		assert.Equal(t, "LOW_POWER_EXIT", vfio.FeatureLowPowerExit.String())
		assert.Equal(t, "feature 99", vfio.Feature(99).String())

		_, err = d.GetFeature(vfio.FeatureMigration, make([]byte, 8))
		require.ErrorIs(t, err, vfio.ErrNotSupported)
		require.ErrorIs(t, err, unix.ENOTTY)
		require.ErrorContains(t, err, "MIGRATION")
		require.ErrorIs(t, d.SetVFToken(vfio.VFToken{1}), vfio.ErrNotSupported, "it is no physical function")
		require.NoError(t, d.SetFeature(vfio.FeatureLowPowerExit, nil))
		for _, f := range []vfio.Feature{vfio.FeatureDMALoggingStart, vfio.FeatureDMALoggingReport} {
			_, err = d.GetFeature(f, make([]byte, 32))
			require.ErrorIs(t, err, vfio.ErrNotSupported)
			require.ErrorContains(t, err, "addresses")
		}
		require.NoError(t, d.Close())
		_, err = d.Features()
		require.ErrorIs(t, err, os.ErrClosed)
	})
}

func TestFeaturesFail(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	d := m.Open(t, m.EDU)
	for n := range 2 {
		m.Fake.Fail("DeviceFeature", unix.EIO, 1+n)
		_, err := d.Features()
		require.ErrorIs(t, err, unix.EIO)
	}
}

func TestLowPower(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.E1000E)
		regs := bar0(t, d)
		require.True(t, regs.Mapped())
		require.NoError(t, d.EnterLowPower(-1))
		_, err := regs.Read32(8)
		require.ErrorIs(t, err, unix.EFAULT)
		require.ErrorContains(t, err, "low power")
		err = d.EnterLowPower(-1)
		require.ErrorIs(t, err, unix.EINVAL)
		require.ErrorContains(t, err, "in low power already")
		require.NoError(t, d.ExitLowPower())
		require.NoError(t, d.ExitLowPower(), "a second time")
		_, err = regs.Read32(8)
		require.NoError(t, err)

		fd := newEventFD(t)
		err = d.EnterLowPower(1_000_000)
		require.ErrorIs(t, err, unix.EBADF)
		require.NoError(t, d.EnterLowPower(fd))
		require.Eventually(t, func() bool { // it takes a moment to fall asleep
			dev, err := m.Host.Device(m.E1000E)
			return err == nil && dev.PowerState == "D3hot"
		}, 10*time.Second, time.Millisecond)
		assert.Zero(t, count(t, fd))
		_, err = d.Config()
		require.NoError(t, err)
		assert.Equal(t, uint64(1), wait(t, fd))
		_, err = regs.Read32(8)
		require.NoError(t, err, "it is awake for good")
	})
}

func TestExportDMABuf(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.E1000E)
		regs := bar0(t, d)
		all, err := regs.ExportDMABuf()
		if m.Version == vfiotest.V6_1 {
			require.ErrorIs(t, err, vfio.ErrNotSupported)
			return
		}
		require.NoError(t, err)
		size, err := all.Seek(0, io.SeekEnd)
		require.NoError(t, err)
		assert.Equal(t, int64(regs.Size()), size)
		require.NoError(t, all.Close())
		two, err := regs.ExportDMABuf(vfio.Area{Offset: 0x4000, Size: 0x1000}, vfio.Area{Size: 0x2000})
		require.NoError(t, err)
		size, err = two.Seek(0, io.SeekEnd)
		require.NoError(t, err)
		assert.Equal(t, int64(0x3000), size)
		require.NoError(t, d.Close(), "before it")
		require.NoError(t, two.Close())
	})
}

func TestExportDMABufRefuses(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	d := m.Open(t, m.E1000E)
	for _, a := range []vfio.Area{{}, {Size: 0x100}, {Offset: 0x10, Size: 0x1000}, {Offset: 0x20000, Size: 0x1000}, {Size: 1 << 40}} {
		_, err := bar0(t, d).ExportDMABuf(a)
		require.ErrorIs(t, err, unix.EINVAL)
		require.ErrorContains(t, err, "whole pages")
	}
	m.Fake.Fail("DeviceFeature", unix.EINVAL, 1)
	_, err := bar0(t, d).ExportDMABuf()
	require.ErrorContains(t, err, "I/O ports")
}

// An eventfd rings a register of edu, which raises an interrupt, and another one takes it back.
func TestWriteOnEventFD(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.EDU)
		regs := bar0(t, d)
		irq, raise, ack := newEventFD(t), newEventFD(t), newEventFD(t)
		require.NoError(t, d.EnableIRQs(vfio.MSI, 0, []int{irq}))
		require.NoError(t, regs.WriteOnEventFD(eduRaise, 4, 1, raise))
		require.NoError(t, regs.WriteOnEventFD(eduAck, 4, 1, ack))
		ring := func(fd int) {
			_, err := unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
			require.NoError(t, err)
		}
		ring(raise)
		assert.Equal(t, uint64(1), wait(t, irq))
		assert.Equal(t, uint32(1), read32(t, regs, eduStatus))
		ring(ack)
		require.Eventually(t, func() bool { return read32(t, regs, eduStatus) == 0 }, 10*time.Second, time.Millisecond)

		err := regs.WriteOnEventFD(eduRaise, 4, 1, ack)
		require.ErrorIs(t, err, vfio.ErrBusy)
		require.ErrorIs(t, err, unix.EEXIST)
		require.NoError(t, regs.WriteOnEventFD(eduRaise, 4, 1, -1))
		err = regs.WriteOnEventFD(eduRaise, 4, 1, -1)
		require.ErrorIs(t, err, vfio.ErrNotFound)
		require.ErrorIs(t, regs.WriteOnEventFD(eduRaise, 4, 1, 1_000_000), unix.EBADF)
		null, err := os.Open(os.DevNull)
		require.NoError(t, err)
		require.ErrorContains(t, regs.WriteOnEventFD(eduRaise, 4, 1, int(null.Fd())), "is not an eventfd")
		require.NoError(t, null.Close())
		require.ErrorContains(t, regs.WriteOnEventFD(eduRaise, 3, 1, raise), "writes of 1, 2, 4 and 8 bytes")
		require.ErrorContains(t, regs.WriteOnEventFD(eduRaise+2, 4, 1, raise), "not a multiple")
		require.ErrorIs(t, regs.WriteOnEventFD(1<<20, 4, 1, raise), unix.EINVAL)
		require.NoError(t, d.Close())
		require.ErrorIs(t, regs.WriteOnEventFD(eduRaise, 4, 1, raise), os.ErrClosed)
	})
}

func TestParseVFToken(t *testing.T) {
	const text = "00112233-4455-6677-8899-aabbccddeeff"
	token, err := vfio.ParseVFToken("00112233-4455-6677-8899-AABBccddeeff")
	require.NoError(t, err)
	assert.Equal(t, text, token.String())
	for _, s := range []string{"", text + "0", text + "00", text[1:], "0011223344556677-8899-aabbccddeeff", "g" + text[1:], "00112233-4455-6677-8899-aabbccddee--"} {
		_, err := vfio.ParseVFToken(s)
		require.ErrorIs(t, err, unix.EINVAL, s)
	}
}
