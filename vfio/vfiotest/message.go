package vfiotest

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
)

// msiEnabled tells whether the function sends MSI messages in place of its line.
func (f *function) msiEnabled() bool {
	return f.msi != nil && f.word(f.msi.Offset+msiFlags)&msiEnable != 0
}

// msixEnabled tells whether the function sends MSI-X messages in place of its line.
func (f *function) msixEnabled() bool {
	return f.msix != nil && f.word(f.msix.Offset+msixFlags)&msixEnable != 0
}

// send is the function sending message n. It tells whether the message arrived at an interrupt.
func (f *function) send(n int) bool {
	if f.gone || n < 0 {
		return false
	}
	switch {
	case f.msixEnabled():
		if n >= len(f.table) {
			return false
		}
		e := &f.table[n]
		if e.masked || f.word(f.msix.Offset+msixFlags)&msixMaskAll != 0 {
			e.pending = true
			return false
		}
		return f.post(n, e.message)
	case f.msiEnabled():
		m := f.msiMessage()
		enabled := 1 << (f.word(f.msi.Offset+msiFlags) & msiQueue >> 4)
		if f.msi.Maskable && f.config[f.msiMask()+n/8]&(1<<(n%8)) != 0 {
			f.config[f.msiMask()+4+n/8] |= 1 << (n % 8)
			return false
		}
		m.data = m.data&^uint32(enabled-1) | uint32(n%enabled)
		return f.post(n%enabled, m)
	}
	return false
}

// post writes message n to memory, where the host takes it for an interrupt. Without bus mastering it is lost, as is one
// that somebody overwrote.
func (f *function) post(n int, m message) bool {
	if f.command()&pci.CommandBusMaster == 0 || f.power() != 0 {
		return false
	}
	if f.underWay != nil {
		*f.underWay = append(*f.underWay, func() { f.arrive(n, m) })
		return true
	}
	return f.arrive(n, m)
}

// arrive is message n at the host, which takes it for the interrupt that it has by now.
func (f *function) arrive(n int, m message) bool {
	i := f.messages[n]
	return i != nil && f.hostMessage(n) == m && i.deliver()
}

// hostMessage is what the host has allocated message n be sent as: an index into the IOMMU's interrupt remapping table
// (Intel VT-d, 5.1.2.2), which here is the number of the interrupt. The messages of MSI share an address, and count in
// the data.
func (f *function) hostMessage(n int) message {
	const remapped = 0xfee00018
	first := n
	if f.msiEnabled() {
		first = 0
	}
	i := f.messages[first]
	if i == nil {
		return message{}
	}
	return message{address: remapped | uint64(i.number)<<5, data: uint32(n - first)}
}

// allocate has the host give the function the messages 0 to n-1 of MSI-X or MSI, and switch them on. The positive result
// is how many there would be when these are too many.
func (f *function) allocate(msix bool, n int) (available int, err error) {
	k := f.kernel
	if f.power() != 0 {
		return 0, unix.EINVAL
	}
	if n == 0 {
		return 0, unix.ERANGE
	}
	limit := k.vectorLimit
	if !msix && k.withoutRemapping {
		limit = 1 // the messages of MSI need consecutive vectors, which only remapping gives
	}
	if limit > 0 && n > limit {
		return limit, nil
	}
	f.changeCommand(pci.CommandINTxDisable, 0)
	f.messages, f.hadMessages = map[int]*irq{}, true
	for i := range n {
		f.addMessage(msix, i)
	}
	if msix {
		for i := range f.table {
			f.table[i].masked = true
		}
		for i := range n {
			f.table[i].message = f.hostMessage(i)
		}
		f.setWord(f.msix.Offset+msixFlags, f.word(f.msix.Offset+msixFlags)|msixEnable)
	} else {
		at := f.msi.Offset
		flags := f.word(at+msiFlags) &^ msiQueue
		f.setWord(at+msiFlags, flags|uint16(bits.Len(uint(n-1)))<<4|msiEnable)
		f.setMSIMessage(f.hostMessage(0))
	}
	f.messagesChanged()
	return 0, nil
}

// addMessage makes the interrupt of one message.
func (f *function) addMessage(msix bool, n int) {
	k := f.kernel
	chip, hwirq := "IR-PCI-MSI", n
	if k.version == V6_1 {
		hwirq |= int(f.address.Bus)<<19 | int(f.address.Device)<<14 | int(f.address.Function)<<11
	} else if msix {
		chip = fmt.Sprintf("IR-PCI-MSIX-%v", f.address)
	} else {
		chip = fmt.Sprintf("IR-PCI-MSI-%v", f.address)
	}
	f.messages[n] = k.newIRQ(k.freeIRQNumber(), chip, hwirq, "edge")
}

// allocateOne gives the function one more message of MSI-X.
func (f *function) allocateOne(n int) error {
	if limit := f.kernel.vectorLimit; limit > 0 && len(f.messages) >= limit {
		return unix.ENOSPC
	}
	f.addMessage(true, n)
	f.table[n] = entry{message: f.hostMessage(n), masked: true}
	return nil
}

// deallocate takes all messages away and switches MSI and MSI-X off.
func (f *function) deallocate() {
	for _, i := range f.messages {
		delete(f.kernel.irqs, i.number)
	}
	f.messages = nil
	if f.msix != nil {
		f.setWord(f.msix.Offset+msixFlags, f.word(f.msix.Offset+msixFlags)&^(msixEnable|msixMaskAll))
	}
	if f.msi != nil {
		f.setWord(f.msi.Offset+msiFlags, f.word(f.msi.Offset+msiFlags)&^msiEnable)
	}
	f.changeCommand(0, pci.CommandINTxDisable)
}

// mask masks or unmasks one MSI-X message, or does nothing for MSI without masks.
func (f *function) mask(n int, masked bool) {
	if !f.msixEnabled() {
		return
	}
	f.table[n].masked = masked
	f.sendPending(n)
}

// sendPending sends what waited behind a mask, if nothing holds it back any more.
func (f *function) sendPending(n int) {
	e := &f.table[n]
	if e.pending && !e.masked && f.msixEnabled() && f.word(f.msix.Offset+msixFlags)&msixMaskAll == 0 {
		e.pending = false
		f.post(n, e.message)
	}
}

// messagesChanged is what a device does when MSI or MSI-X was switched on: it lets go of its line.
func (f *function) messagesChanged() {
	if f.asserted && (f.msiEnabled() || f.msixEnabled()) {
		f.setLine(false)
	}
}

// msiMessage is the message that the MSI capability holds.
func (f *function) msiMessage() message {
	at := f.msi.Offset
	m := message{address: uint64(binary.LittleEndian.Uint32(f.config[at+msiAddress:]))}
	if f.msi.Address64 {
		m.address |= uint64(binary.LittleEndian.Uint32(f.config[at+msiAddress+4:])) << 32
		m.data = uint32(f.word(at + msiData64))
	} else {
		m.data = uint32(f.word(at + msiData32))
	}
	return m
}

func (f *function) setMSIMessage(m message) {
	at := f.msi.Offset
	binary.LittleEndian.PutUint32(f.config[at+msiAddress:], uint32(m.address))
	if f.msi.Address64 {
		binary.LittleEndian.PutUint32(f.config[at+msiAddress+4:], uint32(m.address>>32))
		f.setWord(at+msiData64, uint16(m.data))
	} else {
		f.setWord(at+msiData32, uint16(m.data))
	}
}

// msiMask is where a maskable MSI capability has its mask bits; the pending bits follow.
func (f *function) msiMask() int {
	if f.msi.Address64 {
		return f.msi.Offset + 0x10
	}
	return f.msi.Offset + 0x0c
}

// tableOffset tells whether an offset lies in the MSI-X table or the pending bits, and where: the bits come after the table.
func (f *function) tableOffset(bar int, off uint64) (uint64, bool) {
	if f.msix == nil {
		return 0, false
	}
	size := uint64(len(f.table)) * msixEntrySize
	if t := f.msix.Table; bar == t.BAR && off >= uint64(t.Offset) && off < uint64(t.Offset)+size {
		return off - uint64(t.Offset), true
	}
	words := uint64(len(f.table)+63) / 64 * 8
	if p := f.msix.PBA; bar == p.BAR && off >= uint64(p.Offset) && off < uint64(p.Offset)+words {
		return size + off - uint64(p.Offset), true
	}
	return 0, false
}

// tableImage is the table and the pending bits as bytes.
func (f *function) tableImage(n uint64) [8]byte {
	var b [8]byte
	size := uint64(len(f.table)) * msixEntrySize
	if n >= size { // a word of pending bits
		var word uint64
		for i := range 64 {
			if at := int(n-size)*8 + i; at < len(f.table) && f.table[at].pending {
				word |= 1 << i
			}
		}
		binary.LittleEndian.PutUint64(b[:], word)
		return b
	}
	e := f.table[n/msixEntrySize]
	if n%msixEntrySize == 0 {
		binary.LittleEndian.PutUint64(b[:], e.message.address)
		return b
	}
	binary.LittleEndian.PutUint32(b[:], e.message.data)
	if e.masked {
		b[4] = 1
	}
	return b
}

// loadTable reads the table at n, aligned to width.
func (f *function) loadTable(n uint64, width int) uint64 {
	b := f.tableImage(n &^ 7)
	v := binary.LittleEndian.Uint64(b[:]) >> (n % 8 * 8)
	if width < 8 {
		v &= 1<<(8*width) - 1
	}
	return v
}

// storeTable writes the table at n, aligned to width. The pending bits cannot be written.
func (f *function) storeTable(n uint64, width int, v uint64) {
	if n >= uint64(len(f.table))*msixEntrySize {
		return
	}
	b := f.tableImage(n &^ 7)
	for i := range width {
		b[int(n%8)+i] = byte(v >> (8 * i))
	}
	e := &f.table[n/msixEntrySize]
	if n%msixEntrySize < 8 {
		e.message.address = binary.LittleEndian.Uint64(b[:])
		return
	}
	e.message.data = binary.LittleEndian.Uint32(b[:])
	e.masked = b[4]&1 != 0
	f.sendPending(int(n / msixEntrySize))
}
