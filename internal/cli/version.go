package cli

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/alecthomas/kong"
)

// build is what the program was built of.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision"` // of the source, "unknown" outside a repository
	Modified bool   `json:"modified"` // the source had changes beside it
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}

func readBuild() build {
	b := build{Version: "unknown", Revision: "unknown", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func (b build) String() string {
	modified := ""
	if b.Modified {
		modified = ", modified"
	}
	return fmt.Sprintf("longwire %s (%s%s) %s %s/%s", b.Version, b.Revision, modified, b.Go, b.OS, b.Arch)
}

type versionCmd struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// Run prints the version.
func (v *versionCmd) Run(c *call) error {
	b := readBuild()
	if v.JSON {
		return json.NewEncoder(c.Stdout).Encode(b)
	}
	_, err := fmt.Fprintln(c.Stdout, b)
	return err
}

// versionFlag is --version.
type versionFlag bool

// BeforeReset prints the version and ends the run.
func (versionFlag) BeforeReset(k *kong.Kong) error {
	fmt.Fprintln(k.Stdout, readBuild())
	k.Exit(exitFine)
	return nil
}
