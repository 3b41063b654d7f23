package vfiotest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// openWithToken opens a device that is bound to vfio-pci, with a VF token or nil, and returns what the kernel says to that.
func openWithToken(t *testing.T, m *vfiotest.Machine, mode iommuMode, a pci.Address, token *vfio.VFToken) (*raw, error) {
	t.Helper()
	r := newRaw(t, m, a)
	return r, r.open(mode, token)
}

// setToken sets the token of a physical function.
func (r *raw) setToken(token vfio.VFToken) error {
	_, err := r.feature(uapi.FeaturePCIVFToken|uapi.FeatureSet, token[:]...)
	return err
}

// A virtual function can be opened only with the token of the physical function, which is the one that was given with its last
// open, or set since, and stays when it is closed.
func TestVFToken(t *testing.T) {
	first, second := vfio.VFToken{0x52, 0xac, 15: 0x97}, vfio.VFToken{0x88, 0x59, 15: 0x8a}
	inEachMode(t, func(t *testing.T, m *vfiotest.Machine, mode iommuMode) {
		vf := m.VirtualFunctions(t, 1)[0]
		for name, prepare := range map[string]func(t *testing.T, pf *raw) vfio.VFToken{
			"init_token_match": func(*testing.T, *raw) vfio.VFToken { return first },
			"pf_early_close": func(_ *testing.T, pf *raw) vfio.VFToken {
				pf.close()
				return first
			},
			"override_token": func(t *testing.T, pf *raw) vfio.VFToken {
				t.Helper()
				require.NoError(t, pf.setToken(second))
				return second
			},
		} {
			for variant, token := range map[string]*vfio.VFToken{"same_uuid": &first, "diff_uuid": &second, "null_uuid": nil} {
				t.Run(name+"/"+variant, func(t *testing.T) {
					pf, err := openWithToken(t, m, mode, m.PF, &first)
					require.NoError(t, err)
					valid := prepare(t, pf)
					r, err := openWithToken(t, m, mode, vf, token)
					if token != nil && *token == valid {
						require.NoError(t, err)
						assert.Equal(t, "ok", errno(pfOpens(t, m, mode, pf, &valid)), "the physical function with the token that is in use")
						assert.Equal(t, "EACCES", errno(pfOpens(t, m, mode, pf, nil)), "without it")
					} else {
						assert.Equal(t, "EACCES", errno(err))
					}
					r.close()
				})
			}
		}
	})
}

// pfOpens opens the physical function, which is closed before if it is open, with a token.
func pfOpens(t *testing.T, m *vfiotest.Machine, mode iommuMode, pf *raw, token *vfio.VFToken) error {
	t.Helper()
	pf.close()
	again, err := openWithToken(t, m, mode, m.PF, token)
	again.close()
	return err
}

// A token for what has no use for one, and for a physical function.
func TestVFTokenOfDevice(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		mode := modeType1v2
		if m.Backend == vfio.BackendIOMMUFD {
			mode = modeIOMMUFD
		}
		token := vfio.VFToken{1}
		m.Bind(t, m.EDU)
		r, err := openWithToken(t, m, mode, m.EDU, &token)
		assert.Equal(t, "EINVAL", errno(err))
		r.close()
		r, err = openWithToken(t, m, mode, m.EDU, nil)
		require.NoError(t, err)
		assert.Equal(t, "ENOTTY", errno(r.setToken(token)))

		if _, err := m.Host.Device(m.PF); err != nil {
			return // it takes --devices more
		}
		m.Bind(t, m.PF)
		pf, err := openWithToken(t, m, mode, m.PF, &token)
		require.NoError(t, err)
		require.NoError(t, pf.setToken(vfio.VFToken{2}))
		for _, c := range []struct {
			flags uint32
			data  []byte
			want  string
		}{
			{uapi.FeatureGet, token[:], "EINVAL"}, // it cannot be got
			{uapi.FeatureSet, token[:15], "EINVAL"},
			{uapi.FeatureSet, append(token[:], 0), "ok"},
			{uapi.FeatureSet | uapi.FeatureProbe, nil, "ok"},
			{uapi.FeatureGet | uapi.FeatureProbe, nil, "EINVAL"},
			{uapi.FeatureProbe, nil, "ok"},
		} {
			_, err = pf.feature(uapi.FeaturePCIVFToken|c.flags, c.data...)
			assert.Equal(t, c.want, errno(err), "flags 0x%x, %d bytes", c.flags, len(c.data))
		}
		if pf.group < 0 {
			return
		}
		name, text := m.PF.String(), token.String()
		for suffix, want := range map[string]string{
			"": "ok", " ": "ok", "  vf_token=" + text + " ": "ok", " vf_token=" + text: "ok", " vf_token=" + "ABCDEFAB" + text[8:]: "ok",
			"x": "ENODEV", " x": "EINVAL", " vf_token": "EINVAL", " vf_token=": "EINVAL", " vf_token=" + text[1:]: "EINVAL", " vf_token=g" + text[1:]: "EINVAL",
			" vf_token=" + text + "0": "EINVAL", " vf_token=" + text + " vf_token=" + text: "EINVAL", " vf_token=" + text + " x": "EINVAL",
		} {
			fd, err := pf.k.GroupGetDeviceFD(pf.group, name+suffix)
			assert.Equal(t, want, errno(err), "%q", suffix)
			if err == nil {
				require.NoError(t, pf.k.Close(fd))
			}
		}
	}, vfiotest.MoreDevices())
}

// A virtual function has no token of its own, and no bus is reset with one on it.
func TestVirtualFunction(t *testing.T) {
	inEachMode(t, func(t *testing.T, m *vfiotest.Machine, mode iommuMode) {
		vf := m.VirtualFunctions(t, 1)[0]
		token := vfio.VFToken{1}
		pf, err := openWithToken(t, m, mode, m.PF, &token)
		require.NoError(t, err)
		r, err := openWithToken(t, m, mode, vf, &token)
		require.NoError(t, err)
		assert.Equal(t, "ENOTTY", errno(r.setToken(token)))
		assert.Equal(t, "EINVAL", errno(pf.ownHotReset()))
		if pf.group >= 0 {
			assert.Equal(t, "EINVAL", errno(pf.hotReset(pf.group, r.group)))
			assert.Equal(t, "EINVAL", errno(r.hotReset(pf.group, r.group)))
		}
	})
}
