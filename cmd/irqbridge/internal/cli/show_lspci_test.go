package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
)

// lspciFacts are the lines of lspci -vvv that are about interrupts, and what show -vv has in their place.
var lspciFacts = []struct {
	line *regexp.Regexp
	want func(m []string) []string
}{
	{regexp.MustCompile(`^Control: .* DisINTx([+-])$`), func(m []string) []string { return []string{"interruptDisable" + m[1]} }},
	{regexp.MustCompile(`^Status: Cap.* INTx([+-])$`), func(m []string) []string {
		return []string{"status: immediateReadiness- interrupt" + m[1]}
	}},
	{regexp.MustCompile(`^Interrupt: pin (.) routed to IRQ (\d+)$`), func(m []string) []string {
		return []string{fmt.Sprintf("INTx INT%s, line %s", m[1], m[2])}
	}},
	{regexp.MustCompile(`^Capabilities: \[(..)\] MSI: Enable([+-]) Count=(\d+)/(\d+) Maskable([+-]) 64bit([+-])$`), func(m []string) []string {
		return []string{
			fmt.Sprintf("[%s] MSI, ", m[1]),
			fmt.Sprintf("enabled%s messages=%s enabledMessages=%s address64%s maskable%s", m[2], m[4], m[3], m[6], m[5]),
		}
	}},
	{regexp.MustCompile(`^Address: ([0-9a-f]+)  Data: ([0-9a-f]+)$`), func(m []string) []string {
		return []string{fmt.Sprintf("address=%s data=%s", short(m[1]), short(m[2]))}
	}},
	{regexp.MustCompile(`^Masking: ([0-9a-f]+)  Pending: ([0-9a-f]+)$`), func(m []string) []string {
		return []string{fmt.Sprintf("mask=%s pending=%s", short(m[1]), short(m[2]))}
	}},
	{regexp.MustCompile(`^Capabilities: \[(..)\] MSI-X: Enable([+-]) Count=(\d+) Masked([+-])$`), func(m []string) []string {
		return []string{fmt.Sprintf("[%s] MSI-X, ", m[1]), fmt.Sprintf("enabled%s functionMask%s messages=%s", m[2], m[4], m[3])}
	}},
	{regexp.MustCompile(`^Vector table: BAR=(\d) offset=([0-9a-f]+)$`), func(m []string) []string {
		return []string{fmt.Sprintf("table: bar=%s offset=%s", m[1], short(m[2]))}
	}},
	{regexp.MustCompile(`^PBA: BAR=(\d) offset=([0-9a-f]+)$`), func(m []string) []string {
		return []string{fmt.Sprintf("pba: bar=%s offset=%s", m[1], short(m[2]))}
	}},
	{regexp.MustCompile(`^Capabilities: \[(..)\] Express .*, MSI ([0-9a-f]+)$`), func(m []string) []string {
		return []string{fmt.Sprintf("[%s] PCI Express, ", m[1]), "interruptMessage=" + number(m[2])}
	}},
	{regexp.MustCompile(` BWInt([+-]) AutBWInt([+-])$`), func(m []string) []string {
		return []string{fmt.Sprintf("bandwidthInterrupt%s autonomousInterrupt%s", m[1], m[2])}
	}},
	{regexp.MustCompile(`^SltCtl:.* HPIrq([+-])`), func(m []string) []string { return []string{"hotPlugInterrupt" + m[1]} }},
	{regexp.MustCompile(`^RootCtl:.* PMEIntEna([+-])`), func(m []string) []string { return []string{"pmeInterrupt" + m[1]} }},
	{regexp.MustCompile(`^RootCmd: CERptEn([+-]) NFERptEn([+-]) FERptEn([+-])$`), func(m []string) []string {
		return []string{fmt.Sprintf("correctableInterrupt%s nonFatalInterrupt%s fatalInterrupt%s", m[1], m[2], m[3])}
	}},
	{regexp.MustCompile(`^FirstFatal.* IntMsg (\d+)$`), func(m []string) []string { return []string{"interruptMessage=" + number(m[1])} }},
	{regexp.MustCompile(`^DpcCap:\s*IntMsg#(\d+)`), func(m []string) []string { return []string{"interruptMessage=" + number(m[1])} }},
	{regexp.MustCompile(`^DpcCtl:.* Int([+-])`), func(m []string) []string { return []string{"interrupt" + m[1]} }},
	{regexp.MustCompile(`^IOVCap:.*Migration([+-]).*Interrupt Message Number: (\d+)$`), func(m []string) []string {
		return []string{"migrationCapable" + m[1], "interruptMessage=" + number(m[2])}
	}},
	{regexp.MustCompile(`^IOVCtl:.* Interrupt([+-])`), func(m []string) []string { return []string{"migrationInterrupt" + m[1]} }},
	{regexp.MustCompile(`^Interrupt Message Number (\d+)$`), func(m []string) []string { return []string{"interruptMessage=" + number(m[1])} }},
}

// aboutInterrupts matches the lines that must not be without a place in lspciFacts.
var aboutInterrupts = regexp.MustCompile(`INTx|[Ii]rq|IRQ|Int(errupt)?\b|IntEna|IntMsg|MSI|Vector table|PBA|Masking|BWInt`)

// short is a hexadecimal number as show writes it.
func short(digits string) string {
	n, _ := strconv.ParseUint(digits, 16, 64)
	return fmt.Sprintf("0x%x", n)
}

// number is a message number, which lspci writes in hexadecimal, as show writes it.
func number(digits string) string {
	n, _ := strconv.ParseUint(digits, 16, 64)
	return fmt.Sprint(n)
}

// TestShowKnowsWhatLspciKnows compares show -vv with lspci -vvv in all that is about interrupts: for every device of
// the virtual machine, in a dump that show -xxxx took there, and for those of package pci.
func TestShowKnowsWhatLspciKnows(t *testing.T) {
	onHost(t)
	if _, err := exec.LookPath("lspci"); err != nil {
		if os.Getenv("CI") != "" {
			require.NoError(t, err, "CI has pciutils: apt-get install pciutils")
		}
		t.Skip("lspci is not installed: apt-get install pciutils")
	}
	files, err := filepath.Glob("../../../../pci/testdata/devices/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range append(files, "testdata/vm.lspci") {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		dumps, err := pci.ReadDump(bytes.NewReader(text))
		require.NoError(t, err)
		for _, dump := range dumps {
			t.Run(fmt.Sprintf("%s/%v", filepath.Base(file), dump.Address), func(t *testing.T) {
				one := filepath.Join(t.TempDir(), "dump")
				var text bytes.Buffer
				require.NoError(t, pci.WriteDump(&text, []pci.Dump{dump}))
				require.NoError(t, os.WriteFile(one, text.Bytes(), 0o644))
				theirs, err := exec.Command("lspci", "-vvv", "-F", one).Output()
				require.NoError(t, err)

				var stdout, stderr bytes.Buffer
				code := Main(context.Background(), []string{"show", "-vv", "--dump", one}, System{Stdout: &stdout, Stderr: &stderr})
				require.Zero(t, code, "%s", stderr.String())
				ours := strings.Join(strings.Fields(stdout.String()), " ")
				facts := 0
				for line := range strings.Lines(string(theirs)) {
					line = strings.TrimSpace(line)
					known := false
					for _, fact := range lspciFacts {
						if m := fact.line.FindStringSubmatch(line); m != nil {
							known = true
							for _, want := range fact.want(m) {
								assert.Contains(t, ours, want, "lspci: %s", line)
								facts++
							}
						}
					}
					assert.True(t, known || !aboutInterrupts.MatchString(line), "lspci: %s", line)
				}
				assert.GreaterOrEqual(t, facts, 2, "lspci says at least whether the line is disabled and asserted")
			})
		}
	}
}
