package pci

// SRIOV is the single root I/O virtualization capability of a physical function, PCI_EXT_CAP_ID_SRIOV: PCI Express
// Base Specification 9.3.3.
type SRIOV struct {
	// PCI_SRIOV_CAP at 0x04.
	MigrationCapable   bool `json:"migrationCapable"`   // PCI_SRIOV_CAP_VFM
	ARIPreserved       bool `json:"ariPreserved"`       // bit 1
	TenBitTagRequester bool `json:"tenBitTagRequester"` // bit 2
	InterruptMessage   int  `json:"interruptMessage"`   // PCI_SRIOV_CAP_INTR: of VF migration, as in Express

	// PCI_SRIOV_CTRL at 0x08 and PCI_SRIOV_STATUS at 0x0a.
	Enabled            bool `json:"enabled"`            // PCI_SRIOV_CTRL_VFE: the virtual functions exist
	Migration          bool `json:"migration"`          // PCI_SRIOV_CTRL_VFM
	MigrationInterrupt bool `json:"migrationInterrupt"` // PCI_SRIOV_CTRL_INTR
	MemorySpace        bool `json:"memorySpace"`        // PCI_SRIOV_CTRL_MSE: the virtual functions answer in memory space
	ARIHierarchy       bool `json:"ariHierarchy"`       // PCI_SRIOV_CTRL_ARI
	TenBitTag          bool `json:"tenBitTag"`          // bit 5
	MigrationStatus    bool `json:"migrationStatus"`    // PCI_SRIOV_STATUS_VFM

	InitialVFs     int `json:"initialVfs"`     // PCI_SRIOV_INITIAL_VF at 0x0c
	TotalVFs       int `json:"totalVfs"`       // PCI_SRIOV_TOTAL_VF at 0x0e
	VFs            int `json:"vfs"`            // PCI_SRIOV_NUM_VF at 0x10
	DependencyLink int `json:"dependencyLink"` // PCI_SRIOV_FUNC_LINK at 0x12: function number
	FirstVFOffset  int `json:"firstVfOffset"`  // PCI_SRIOV_VF_OFFSET at 0x14: from this function's routing id to the first VF's
	VFStride       int `json:"vfStride"`       // PCI_SRIOV_VF_STRIDE at 0x16: from one VF's routing id to the next one's
	VFDeviceID     ID  `json:"vfDeviceId"`     // PCI_SRIOV_VF_DID at 0x1a; the vendor is that of this function

	SupportedPageSizes Hex `json:"supportedPageSizes"` // PCI_SRIOV_SUP_PGSIZE at 0x1c: bit n is 4096 << n
	PageSize           Hex `json:"pageSize"`           // PCI_SRIOV_SYS_PGSIZE at 0x20: the same form, one bit

	BARs []BAR `json:"bars"` // PCI_SRIOV_BAR at 0x24: of VF 1; those of the next follow it in memory

	// MigrationState is where the migration state array is, PCI_SRIOV_VFM at 0x3c; nil unless MigrationCapable.
	MigrationState *Location `json:"migrationState,omitempty"`
}

func (s *structure) sriov() any {
	if !s.need(0x40) {
		return nil
	}
	capable, control := s.u32(0x04), s.u16(0x08)
	v := &SRIOV{
		MigrationCapable:   capable.has(0x00000001),
		ARIPreserved:       capable.has(0x00000002),
		TenBitTagRequester: capable.has(0x00000004),
		InterruptMessage:   capable.field(0xffe00000),
		Enabled:            control.has(0x0001),
		Migration:          control.has(0x0002),
		MigrationInterrupt: control.has(0x0004),
		MemorySpace:        control.has(0x0008),
		ARIHierarchy:       control.has(0x0010),
		TenBitTag:          control.has(0x0020),
		MigrationStatus:    s.u16(0x0a).has(0x0001),
		InitialVFs:         int(s.u16(0x0c)),
		TotalVFs:           int(s.u16(0x0e)),
		VFs:                int(s.u16(0x10)),
		DependencyLink:     int(s.u8(0x12)),
		FirstVFOffset:      int(s.u16(0x14)),
		VFStride:           int(s.u16(0x16)),
		VFDeviceID:         ID(s.u16(0x1a)),
		SupportedPageSizes: Hex(s.u32(0x1c)),
		PageSize:           Hex(s.u32(0x20)),
		BARs:               append([]BAR{}, s.d.bars(s.offset+0x24, 6, "VF BAR")...),
	}
	if v.MigrationCapable {
		state := s.u32(0x3c)
		v.MigrationState = &Location{BAR: state.field(0x7), Offset: uint32(state) &^ 0x7}
	}
	if v.VFs > v.TotalVFs {
		s.warn(0x10, "SR-IOV has %d virtual functions set and %d in total", v.VFs, v.TotalVFs)
	}
	return v
}

// ARI is the alternative routing-ID capability, PCI_EXT_CAP_ID_ARI: PCI Express Base Specification 7.8.8. A device with
// it has one device number and up to 256 functions.
type ARI struct {
	MFVCGroupsCapable bool `json:"mfvcGroupsCapable"` // PCI_ARI_CAP_MFVC
	ACSGroupsCapable  bool `json:"acsGroupsCapable"`  // PCI_ARI_CAP_ACS
	NextFunction      int  `json:"nextFunction"`      // PCI_ARI_CAP_NFN: 0 ends the list of functions
	MFVCGroups        bool `json:"mfvcGroups"`        // PCI_ARI_CTRL_MFVC
	ACSGroups         bool `json:"acsGroups"`         // PCI_ARI_CTRL_ACS
	FunctionGroup     int  `json:"functionGroup"`     // PCI_ARI_CTRL_FG
}

func (s *structure) ari() any {
	if !s.need(8) {
		return nil
	}
	capable, control := s.u16(0x04), s.u16(0x06)
	return &ARI{
		MFVCGroupsCapable: capable.has(0x0001),
		ACSGroupsCapable:  capable.has(0x0002),
		NextFunction:      capable.field(0xff00),
		MFVCGroups:        control.has(0x0001),
		ACSGroups:         control.has(0x0002),
		FunctionGroup:     control.field(0x0070),
	}
}
