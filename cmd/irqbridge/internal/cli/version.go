package cli

import (
	"context"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// versionJSON is the output of version --json.
type versionJSON struct {
	Schema   int    `json:"schema"`
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Time     string `json:"time,omitempty"`
	Modified bool   `json:"modified"`
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}

func (a *app) versionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print what this program was built from",
		Long: `version prints the program's version, the revision of its source and whether that was changed, and what built it. It belongs
into a report of a bug.`,
		Example: `  irqbridge version
  irqbridge version --json`,
		Args: cobra.NoArgs,
		RunE: a.verb(func(context.Context, []string) error {
			v := readVersion()
			if asJSON {
				a.printJSON(v)
				return nil
			}
			a.printf("irqbridge %s, %s, %s/%s\n", v.Version, v.Go, v.OS, v.Arch)
			if v.Revision != "" {
				changed := ""
				if v.Modified {
					changed = ", with changes that are not committed"
				}
				a.printf("revision %s of %s%s\n", v.Revision, v.Time, changed)
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// readVersion reads what the go command put into the program; a test binary has no version control in it.
func readVersion() versionJSON {
	v := versionJSON{Schema: schema, Version: "(devel)", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.time":
			v.Time = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}
