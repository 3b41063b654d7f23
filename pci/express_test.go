package pci_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
)

func TestExpressParts(t *testing.T) {
	for name, tc := range map[string]struct {
		kind                      pci.ExpressType
		slot                      bool
		v1, v2                    int // length of each version
		hasLink, hasSlot, hasRoot bool
	}{
		"endpoint":                         {pci.ExpressEndpoint, false, 0x14, 0x34, true, false, false},
		"legacy endpoint":                  {pci.ExpressLegacyEndpoint, false, 0x14, 0x34, true, false, false},
		"root port":                        {pci.ExpressRootPort, false, 0x24, 0x34, true, false, true},
		"upstream port":                    {pci.ExpressUpstreamPort, false, 0x14, 0x34, true, false, false},
		"downstream port":                  {pci.ExpressDownstreamPort, true, 0x1c, 0x3c, true, true, false},
		"PCI Express to PCI bridge":        {pci.ExpressToPCIBridge, false, 0x14, 0x34, true, false, false},
		"PCI to PCI Express bridge":        {pci.ExpressFromPCIBridge, true, 0x1c, 0x3c, true, true, false},
		"root complex integrated endpoint": {pci.ExpressIntegratedEndpoint, false, 0x0c, 0x2c, false, false, false},
		"root complex event collector":     {pci.ExpressEventCollector, false, 0x24, 0x2c, false, false, true},
		"type 15":                          {15, false, 0x14, 0x34, true, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, name, tc.kind.String())
			for version, length := range map[uint16]int{1: tc.v1, 2: tc.v2} {
				s := withCapability(pci.CapPCIExpress)
				s.put16(0x42, uint16(tc.kind)<<4|version)
				if tc.slot {
					s.put16(0x42, uint16(tc.kind)<<4|version|0x0100)
				}
				f := decode(t, s[:0x40+length])
				require.Empty(t, f.Warnings)
				e := pci.Find[pci.Express](f)
				assert.Equal(t, tc.hasLink, e.Link != nil)
				assert.Equal(t, tc.hasSlot, e.Slot != nil)
				assert.Equal(t, tc.hasRoot, e.Root != nil)
				assert.Equal(t, version == 2, e.Device2 != nil)
				assert.Equal(t, version == 2 && tc.hasLink, e.Link2 != nil)
				assert.Equal(t, version == 2 && tc.hasSlot, e.Slot2 != nil)
				assert.Equal(t, length, f.Capabilities[0].Length)

				f = decode(t, s[:0x40+length-1])
				assert.Nil(t, pci.Find[pci.Express](f))
				requireWarning(t, f, 0x40, "that were read")
			}
		})
	}
	f := decode(t, withCapability(pci.CapPCIExpress)[:0x42])
	requireWarning(t, f, 0x40, "PCI Express capability of 4 bytes ends after the 66 bytes")

	s := withCapability(pci.CapPCIExpress)
	s.put16(0x42, uint16(pci.ExpressEndpoint)<<4|0x0102)
	assert.Nil(t, pci.Find[pci.Express](decode(t, s)).Slot, "an endpoint has no slot, whatever it says")
}

func TestExpressRegisters(t *testing.T) {
	checkRegisters(t, withCapability(pci.CapPCIExpress), 0x40, `
		00 01420000
		00 3e000000 interruptMessage=31
		04 00000003 device.maxPayloadSupported=1024
		04 00000005 device.maxPayloadSupported=4096
		04 00000006 device.maxPayloadSupported=0
		04 00000018 device.phantomFunctionBits=3
		04 00000020 device.extendedTagSupported=true
		04 00000040 device.acceptableL0sNs=128
		04 00000180 device.acceptableL0sNs=4096
		04 000001c0 device.acceptableL0sNs=0
		04 00000200 device.acceptableL1Ns=2000
		04 00000e00 device.acceptableL1Ns=0
		04 00001000 device.attentionButton=true
		04 00002000 device.attentionIndicator=true
		04 00004000 device.powerIndicator=true
		04 00008000 device.roleBasedErrorReporting=true
		04 00640000 device.slotPowerLimitWatts=25
		04 03c00000 device.slotPowerLimitWatts=250
		04 03f80000 device.slotPowerLimitWatts=600
		04 04640000 device.slotPowerLimitWatts=2.5
		04 0c640000 device.slotPowerLimitWatts=0.025
		04 10000000 device.functionLevelReset=true
		08 00000001 device.correctableReporting=true
		08 00000002 device.nonFatalReporting=true
		08 00000004 device.fatalReporting=true
		08 00000008 device.unsupportedReporting=true
		08 00000010 device.relaxedOrdering=true
		08 00000020 device.maxPayload=256
		08 00000100 device.extendedTag=true
		08 00000200 device.phantomFunctions=true
		08 00000400 device.auxPower=true
		08 00000800 device.noSnoop=true
		08 00005000 device.maxReadRequest=4096
		08 00008000 device.bridgeConfigRetry=true
		08 00010000 device.correctableError=true
		08 00020000 device.nonFatalError=true
		08 00040000 device.fatalError=true
		08 00080000 device.unsupportedRequest=true
		08 00100000 device.auxPowerDetected=true
		08 00200000 device.transactionsPending=true
		08 00400000 device.emergencyPowerReduction=true
		0c 00000004 link.maxSpeedGTs=16
		0c 00000100 link.maxWidth=16
		0c 00000400 link.aspmSupported.l0s=true
		0c 00000800 link.aspmSupported.l1=true
		0c 00001000 link.exitL0sNs=128
		0c 00007000 link.exitL0sNs=0
		0c 00038000 link.exitL1Ns=0
		0c 00008000 link.exitL1Ns=2000
		0c 00040000 link.clockPm=true
		0c 00080000 link.surpriseDown=true
		0c 00100000 link.activeReporting=true
		0c 00200000 link.bandwidthNotice=true
		0c 00400000 link.aspmOptionality=true
		0c ff000000 link.port=255
		10 00000001 link.aspm.l0s=true
		10 00000002 link.aspm.l1=true
		10 00000008 link.readBoundary=128
		10 00000010 link.disabled=true
		10 00000020 link.retrain=true
		10 00000040 link.commonClock=true
		10 00000080 link.extendedSynch=true
		10 00000100 link.clockPmEnabled=true
		10 00000200 link.widthFixed=true
		10 00000400 link.bandwidthInterrupt=true
		10 00000800 link.autonomousInterrupt=true
		10 0000c000 link.drsSignaling=3
		10 00010000 link.speedGTs=2.5
		10 00200000 link.width=2
		10 04000000 link.trainingError=true
		10 08000000 link.training=true
		10 10000000 link.slotClock=true
		10 20000000 link.active=true
		10 40000000 link.bandwidth=true
		10 80000000 link.autonomous=true
		14 00000001 slot.attentionButton=true
		14 00000002 slot.powerController=true
		14 00000004 slot.retentionSensor=true
		14 00000008 slot.attentionIndicator=true
		14 00000010 slot.powerIndicator=true
		14 00000020 slot.hotPlugSurprise=true
		14 00000040 slot.hotPlugCapable=true
		14 00003200 slot.powerLimitWatts=100
		14 00010a00 slot.powerLimitWatts=0.2
		14 00020000 slot.interlock=true
		14 00040000 slot.noCommandCompleted=true
		14 fff80000 slot.number=8191
		18 00000001 slot.attentionButtonEnable=true
		18 00000002 slot.powerFaultEnable=true
		18 00000004 slot.retentionChangeEnable=true
		18 00000008 slot.presenceChangeEnable=true
		18 00000010 slot.commandCompletedEnable=true
		18 00000020 slot.hotPlugInterrupt=true
		18 00000040 slot.attentionIndicatorState=on
		18 00000080 slot.attentionIndicatorState=blink
		18 000000c0 slot.attentionIndicatorState=off
		18 00000300 slot.powerIndicatorState=off
		18 00000400 slot.powerOff=true
		18 00000800 slot.interlockControl=true
		18 00001000 slot.linkChangeEnable=true
		18 00002000 slot.autoPowerLimitDisable=true
		18 00004000 slot.inBandPresenceDisable=true
		18 00010000 slot.attentionButtonPressed=true
		18 00020000 slot.powerFault=true
		18 00040000 slot.retentionChanged=true
		18 00080000 slot.presenceChanged=true
		18 00100000 slot.commandCompleted=true
		18 00200000 slot.retentionOpen=true
		18 00400000 slot.cardPresent=true
		18 00800000 slot.interlockEngaged=true
		18 01000000 slot.linkChanged=true
		1c 00000001 root.correctableSystemError=true
		1c 00000002 root.nonFatalSystemError=true
		1c 00000004 root.fatalSystemError=true
		1c 00000008 root.pmeInterrupt=true
		1c 00000010 root.retryVisible=true
		1c 00010000 root.retryVisibleSupported=true
		20 00000128 root.pmeRequester=0x0128
		20 00010000 root.pmeStatus=true
		20 00020000 root.pmePending=true
		24 0000000f device2.completionTimeoutRanges=ABCD
		24 00000010 device2.completionTimeoutDisableable=true
		24 00000020 device2.ariForwardingSupported=true
		24 00000040 device2.atomicRouting=true
		24 00000080 device2.atomicCompleter32=true
		24 00000100 device2.atomicCompleter64=true
		24 00000200 device2.atomicCompleter128=true
		24 00000400 device2.noRelaxedPeerPassing=true
		24 00000800 device2.ltrSupported=true
		24 00001000 device2.tphCompleter=true
		24 00003000 device2.tphCompleter=true, device2.extendedTphCompleter=true
		24 0000c000 device2.lnSystemCls=3
		24 00010000 device2.tenBitTagCompleter=true
		24 00020000 device2.tenBitTagRequester=true
		24 00040000 device2.obffMessage=true
		24 00080000 device2.obffWake=true
		24 00100000 device2.extendedFormat=true
		24 00200000 device2.endToEndPrefix=true, device2.maxEndToEndPrefixes=4
		24 00600000 device2.endToEndPrefix=true, device2.maxEndToEndPrefixes=1
		24 00e00000 device2.endToEndPrefix=true, device2.maxEndToEndPrefixes=3
		24 03000000 device2.emergencyPowerReduction=3
		24 04000000 device2.emergencyPowerInit=true
		24 80000000 device2.frs=true
		28 00000005 device2.completionTimeout=16 ms to 55 ms
		28 0000000f device2.completionTimeout=reserved
		28 00000010 device2.completionTimeoutDisabled=true
		28 00000020 device2.ariForwarding=true
		28 00000040 device2.atomicRequester=true
		28 00000080 device2.atomicEgressBlocked=true
		28 00000100 device2.idoRequest=true
		28 00000200 device2.idoCompletion=true
		28 00000400 device2.ltr=true
		28 00000800 device2.emergencyPowerRequest=true
		28 00001000 device2.tenBitTag=true
		28 00002000 device2.obff=message A
		28 00004000 device2.obff=message B
		28 00006000 device2.obff=wake
		28 00008000 device2.endToEndPrefixBlocked=true
		2c 0000000e link2.speedsGTs[0]=2.5, link2.speedsGTs[1]=5, link2.speedsGTs[2]=8
		2c 00000040 link2.speedsGTs[0]=64
		2c 00000100 link2.crosslinkSupported=true
		2c 00800000 link2.retimerDetection=true
		2c 01000000 link2.twoRetimersDetection=true
		2c 80000000 link2.drsSupported=true
		30 00000003 link2.targetSpeedGTs=8
		30 00000010 link2.enterCompliance=true
		30 00000020 link2.speedFixed=true
		30 00000040 link2.deemphasisSelect=true
		30 00000380 link2.transmitMargin=7
		30 00000400 link2.modifiedCompliance=true
		30 00000800 link2.complianceSos=true
		30 0000f000 link2.compliancePreset=15
		30 00010000 link2.deemphasis35=true
		30 00020000 link2.equalizationComplete=true
		30 00040000 link2.equalizationPhase1=true
		30 00080000 link2.equalizationPhase2=true
		30 00100000 link2.equalizationPhase3=true
		30 00200000 link2.equalizationRequest=true
		30 00400000 link2.retimer=true
		30 00800000 link2.twoRetimers=true
		30 03000000 link2.crosslink=3
		30 70000000 link2.downstreamPresence=7
		30 80000000 link2.drsReceived=true
		34 00000001 slot2.inBandPresenceDisableSupported=true
	`)
}

func TestExpressTypeNames(t *testing.T) {
	seen := map[string]bool{}
	for kind := range pci.ExpressType(16) {
		text, err := kind.MarshalText()
		require.NoError(t, err)
		assert.False(t, seen[string(text)], "%s", text)
		seen[fmt.Sprint(kind)] = true
	}
	assert.Equal(t, "reserved", pci.Indicator(0).String())
}
