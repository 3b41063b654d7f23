package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// browser is a headless Chromium, which is told what to do through a pipe: its protocol is JSON objects, each ended by a zero byte
// (--remote-debugging-pipe, https://chromedevtools.github.io/devtools-protocol/).
type browser struct {
	t       *testing.T
	to      *os.File
	from    *os.File
	reader  *bufio.Reader
	id      int
	session string        // of the tab that is open; "" for the browser itself
	events  []browserWord // of the tab, since it was opened
}

// browserWord is one object of the protocol: an answer or an event.
type browserWord struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

// openBrowser starts the browser that $IRQBRIDGE_CHROMIUM names, as scripts/test --all does; without, the test is skipped.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	program := os.Getenv("IRQBRIDGE_CHROMIUM")
	if program == "" {
		t.Skip("IRQBRIDGE_CHROMIUM names no browser: IRQBRIDGE_CHROMIUM=chromium, or scripts/test --all")
	}
	read, to, err := os.Pipe()
	require.NoError(t, err)
	from, write, err := os.Pipe()
	require.NoError(t, err)
	args := []string{"--headless", "--remote-debugging-pipe", "--user-data-dir=" + t.TempDir(), "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"}
	if os.Getuid() == 0 {
		args = append(args, "--no-sandbox") // root has none
	}
	var said bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.ExtraFiles, cmd.Stderr, cmd.WaitDelay = []*os.File{read, write}, &said, 10*time.Second
	require.NoError(t, cmd.Start())
	require.NoError(t, read.Close())
	require.NoError(t, write.Close())
	b := &browser{t: t, to: to, from: from, reader: bufio.NewReader(from)}
	t.Cleanup(func() {
		_ = to.Close() // which ends it
		_ = cmd.Wait()
		_ = from.Close()
		if t.Failed() {
			t.Logf("the browser said:\n%s", said.String())
		}
	})
	return b
}

// next reads one object.
func (b *browser) next() browserWord {
	b.t.Helper()
	require.NoError(b.t, b.from.SetReadDeadline(time.Now().Add(time.Minute)))
	text, err := b.reader.ReadBytes(0)
	require.NoError(b.t, err, "the browser does not answer")
	var word browserWord
	require.NoError(b.t, json.Unmarshal(text[:len(text)-1], &word))
	return word
}

// call has the browser, or the tab that is open, do something.
func (b *browser) call(method string, params, result any) {
	b.t.Helper()
	b.id++
	text, err := json.Marshal(map[string]any{"id": b.id, "method": method, "params": params, "sessionId": b.session})
	require.NoError(b.t, err)
	_, err = b.to.Write(append(text, 0))
	require.NoError(b.t, err)
	for {
		word := b.next()
		if word.ID != b.id {
			b.events = append(b.events, word)
			continue
		}
		require.Empty(b.t, string(word.Error), method)
		if result != nil {
			require.NoError(b.t, json.Unmarshal(word.Result, result))
		}
		return
	}
}

// await waits for an event.
func (b *browser) await(method string) {
	b.t.Helper()
	for at := 0; ; at++ {
		if at == len(b.events) {
			b.events = append(b.events, b.next())
		}
		if b.events[at].Method == method {
			return
		}
	}
}

type object = map[string]any

// open opens a page in a tab of a width, in light or dark colours, and has f look at it.
func (b *browser) open(page string, width int, colours string, f func()) {
	b.t.Helper()
	var target struct{ TargetID, SessionID string }
	b.call("Target.createTarget", object{"url": "about:blank"}, &target)
	b.call("Target.attachToTarget", object{"targetId": target.TargetID, "flatten": true}, &target)
	b.session, b.events = target.SessionID, nil
	defer func() {
		b.session = ""
		b.call("Target.closeTarget", object{"targetId": target.TargetID}, nil)
	}()
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		b.call(domain+".enable", object{}, nil)
	}
	b.call("Emulation.setDeviceMetricsOverride", object{"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}, nil)
	b.call("Emulation.setEmulatedMedia", object{"features": []object{{"name": "prefers-color-scheme", "value": colours}}}, nil)
	b.call("Page.navigate", object{"url": (&url.URL{Scheme: "file", Path: page}).String()}, nil)
	b.await("Page.loadEventFired")
	f()
}

// evaluate has the tab evaluate an expression of JavaScript.
func (b *browser) evaluate(expression string, value any) {
	b.t.Helper()
	var result struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	b.call("Runtime.evaluate", object{"expression": expression, "returnByValue": true}, &result)
	require.Empty(b.t, string(result.ExceptionDetails))
	require.NoError(b.t, json.Unmarshal(result.Result.Value, value))
}

// picture writes what a tab shows, all of it, to a file.
func (b *browser) picture(file string) {
	b.t.Helper()
	var shot struct{ Data []byte }
	b.call("Page.captureScreenshot", object{"captureBeyondViewport": true}, &shot)
	require.NoError(b.t, os.WriteFile(file, shot.Data, 0o600))
}

// measured is what measure finds in a page.
type measured struct {
	Client, Scroll int
	Headings       []string // that are to be seen
	Charts, Sparks int
	Wrong          []string
}

// measure says of a page in the browser how wide it is and what it shows, and finds what is out of sight or too small to read.
const measure = `(() => {
	const page = document.scrollingElement, wrong = [], seen = e => e.checkVisibility() && e.getBoundingClientRect().width > 0 && e.getBoundingClientRect().height > 0
	const name = e => e.tagName + (e.className.baseVal ?? e.className ?? '') + ' ' + e.textContent.trim().slice(0, 40)
	for (const e of document.querySelectorAll('body *:not(pre)')) {
		const r = e.getBoundingClientRect()
		if (e.checkVisibility() && !e.closest('svg, thead') && (r.right > page.clientWidth + 1 || r.left < -1)) wrong.push('beyond the edge: ' + name(e))
	}
	for (const e of document.querySelectorAll('svg.chart text')) {
		const r = e.getBoundingClientRect(), chart = e.closest('svg').getBoundingClientRect()
		if (!e.checkVisibility()) continue
		if (r.height < 9) wrong.push('letters of ' + r.height + ' px: ' + name(e))
		if (r.left < chart.left - 1 || r.right > chart.right + 1) wrong.push('cut off at the edge of its chart: ' + name(e))
	}
	for (const chart of document.querySelectorAll('svg.chart')) {
		const words = [...chart.querySelectorAll('text')].filter(e => e.checkVisibility()).map(e => [e, e.getBoundingClientRect()])
		words.forEach(([e, a], i) => words.slice(i + 1).forEach(([f, b]) => {
			if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3) wrong.push('one word on another: ' + name(e) + ' / ' + name(f))
		}))
	}
	return {
		client: page.clientWidth, scroll: page.scrollWidth, wrong,
		headings: [...document.querySelectorAll('h1, h2')].filter(seen).map(e => e.textContent),
		charts: [...document.querySelectorAll('svg.chart')].filter(seen).length, sparks: [...document.querySelectorAll('svg.spark')].filter(seen).length,
	}
})()`

// look tells what is wrong with a page at a width: what the browser complained of, what it asked the network for, and what is not to
// be seen.
func (b *browser) look(page string, width int, colours string) (m measured, problems []string) {
	b.t.Helper()
	b.open(page, width, colours, func() {
		b.evaluate(measure, &m)
		problems = m.Wrong
		if m.Scroll > m.Client || m.Client != width {
			problems = append(problems, fmt.Sprintf("it is %d px wide, of which %d are seen at a width of %d", m.Scroll, m.Client, width))
		}
		if dir := os.Getenv("REPORT_PICTURES"); dir != "" { // to look at them
			b.picture(filepath.Join(dir, fmt.Sprintf("%s-%d-%s.png", strings.TrimSuffix(filepath.Base(page), ".html"), width, colours)))
		}
	})
	for _, e := range b.events {
		switch e.Method {
		case "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded":
			problems = append(problems, "the browser says: "+string(e.Params))
		case "Network.requestWillBeSent":
			var sent struct{ Request struct{ URL string } }
			require.NoError(b.t, json.Unmarshal(e.Params, &sent))
			if !strings.HasPrefix(sent.Request.URL, "data:") && sent.Request.URL != "file://"+page {
				problems = append(problems, "it asks for "+sent.Request.URL)
			}
		}
	}
	return m, problems
}

// print prints a page, and returns how many sheets that makes.
func (b *browser) print(page string) (sheets int) {
	b.t.Helper()
	b.open(page, 1280, "light", func() {
		var printed struct{ Data []byte }
		b.call("Page.printToPDF", object{"printBackground": true, "preferCSSPageSize": true, "paperWidth": 8.27, "paperHeight": 11.69}, &printed)
		require.True(b.t, bytes.HasPrefix(printed.Data, []byte("%PDF-")))
		sheets = len(regexp.MustCompile(`/Type\s*/Page\b`).FindAll(printed.Data, -1))
		if dir := os.Getenv("REPORT_PICTURES"); dir != "" {
			require.NoError(b.t, os.WriteFile(filepath.Join(dir, strings.TrimSuffix(filepath.Base(page), ".html")+".pdf"), printed.Data, 0o600))
		}
	})
	return sheets
}

// recordedRuns records runs of all kinds, and returns the files by name.
func recordedRuns(t *testing.T) map[string]string {
	t.Helper()
	m := vfiotest.FakeMachine(t)
	dir := t.TempDir()
	for _, device := range []string{m.EDU.String(), m.E1000E.String(), m.NVMe.String()} {
		require.Zero(t, irqbridge(t, m, "bind", device).code)
	}
	files := map[string]string{}
	record := func(name string, code int, args ...string) {
		files[name] = filepath.Join(dir, name+".jsonl")
		require.Equal(t, code, irqbridge(t, m, append([]string{"connect", "--record", files[name]}, args...)...).code)
	}
	record("card", 0, m.E1000E.String(), "--spread", "--raise", "500")
	record("line", 0, m.EDU.String(), "--kind", "intx", "--raise", "100")
	record("loopback", 0, m.NVMe.String(), "--loopback", "--raise", "3")
	record("silent", 0, m.NVMe.String(), "--duration", "1200ms")
	record("failed", 1, m.EDU.String(), "--kind", "intx", "--raise", "2", "--profile", withoutAcknowledge(t))
	text, err := os.ReadFile(files["card"])
	require.NoError(t, err)
	change := func(name, before, after string) {
		files[name] = filepath.Join(dir, name+".jsonl")
		changed := bytes.Replace(text, []byte(before), []byte(after), 1)
		require.NotEqual(t, string(text), string(changed))
		require.NoError(t, os.WriteFile(files[name], changed, 0o600))
	}
	change("cut", string(text[bytes.Index(text, []byte(`{"type":"end"`)):]), "")
	change("long", `"description":"`, `"description":"`+strings.Repeat("Ethernet", 40))
	return files
}

// TestThePageOfARunInABrowser makes the pages of runs of all kinds, and looks at them on a desk, on telephones and on paper.
func TestThePageOfARunInABrowser(t *testing.T) {
	b := openBrowser(t)
	for name, file := range recordedRuns(t) {
		t.Run(name, func(t *testing.T) {
			page := filepath.Join(t.TempDir(), name+".html")
			code := 0
			if name == "cut" {
				code = 3
			}
			require.Equal(t, code, irqbridge(t, vfiotest.FakeMachine(t), "report", file, "-o", page).code)
			b.t = t
			headings, charts, sparks := 5, 1, 0
			switch name {
			case "card", "cut", "long":
				headings, charts, sparks = 7, 2+2*5, 5
			case "line", "failed":
				headings, charts, sparks = 6, 2, 1
			case "loopback":
				headings, charts, sparks = 7, 2+2*12, 65
			case "silent":
				headings = 4
			}
			for width, colours := range map[int]string{1280: "light", 390: "dark", 360: "light"} {
				m, problems := b.look(page, width, colours)
				assert.Empty(t, problems, "at %d px", width)
				assert.Len(t, m.Headings, headings, "at %d px: %q", width, m.Headings)
				assert.Equal(t, charts, m.Charts, "at %d px", width)
				assert.Equal(t, sparks, m.Sparks, "at %d px", width)
			}
			assert.Positive(t, b.print(page))
		})
	}
}

// TestTheBrowserFindsWhatIsWrongWithAPage breaks a page, in each way that the test above is for.
func TestTheBrowserFindsWhatIsWrongWithAPage(t *testing.T) {
	b := openBrowser(t)
	page := filepath.Join(t.TempDir(), "run.html")
	require.Zero(t, irqbridge(t, vfiotest.FakeMachine(t), "report", recordedRuns(t)["line"], "-o", page).code)
	good, err := os.ReadFile(page)
	require.NoError(t, err)
	for broken, want := range map[string]string{
		`<p style="width: 500px">wide</p>`:                                             "it is ",
		`<script>document.title = ""</script>`:                                         "Content Security Policy",
		`<img src="http://localhost:1/picture" alt="">`:                                "Content Security Policy",
		`<a href="x"><svg class="chart" viewBox="0 0 9999 9"><text>a</text></svg></a>`: "letters of ",
	} {
		require.NoError(t, os.WriteFile(page, bytes.Replace(good, []byte("<main>"), []byte("<main>"+broken), 1), 0o600))
		_, problems := b.look(page, 360, "light")
		assert.Contains(t, strings.Join(problems, "\n"), want, broken)
	}
	free := regexp.MustCompile(`<meta http-equiv="Content-Security-Policy"[^>]*>`).ReplaceAll(good, nil)
	require.NoError(t, os.WriteFile(page, bytes.Replace(free, []byte("<main>"), []byte(`<main><img src="http://localhost:1/picture" alt=""><script>console.error(1)</script>`), 1), 0o600))
	_, problems := b.look(page, 360, "light")
	assert.Contains(t, strings.Join(problems, "\n"), "it asks for http://localhost:1/picture")
	assert.Contains(t, strings.Join(problems, "\n"), "the browser says: ")
}
