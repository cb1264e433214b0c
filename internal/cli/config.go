package cli

import (
	"encoding/json"
	"errors"
	"os"

	"github.com/longwire/longwire/internal/config"
)

// serveOptions are the flags of the commands that take the gateway's options.
type serveOptions struct {
	ConfigFile string `name:"config" placeholder:"FILE" help:"YAML file of options, named as the flags are."`
	config.Serve
}

// load puts flags, environment and file together.
func (o *serveOptions) load(c *call) (config.Loaded, error) {
	l, err := config.Load(config.Input{
		Flags: o.Serve, Given: c.given(), File: o.ConfigFile, Environ: c.Environ, Read: os.ReadFile,
	})
	if err != nil {
		return l, usage(err, "longwire config describes every option")
	}
	return l, nil
}

type configCmd struct {
	Effective bool `help:"Print the values in force, as YAML that can be fed back, with where each came from."`
	Markdown  bool `help:"Print the reference as Markdown."`
	JSON      bool `name:"json" help:"Print the reference as JSON."`
	serveOptions
}

// Run prints the reference or the effective values.
func (cmd *configCmd) Run(c *call) error {
	l, err := cmd.load(c)
	if err != nil {
		return err
	}
	for _, w := range l.Warnings {
		if _, err := c.Stderr.Write([]byte("warning: " + w + "\n")); err != nil {
			return err
		}
	}
	n := 0
	for _, b := range []bool{cmd.Effective, cmd.Markdown, cmd.JSON} {
		if b {
			n++
		}
	}
	if n > 1 {
		return usage(errors.New("--effective, --markdown and --json exclude each other"), "")
	}
	var b []byte
	switch {
	case cmd.Effective:
		if b, err = l.YAML(); err != nil {
			return err
		}
	case cmd.Markdown:
		b = config.Markdown()
	case cmd.JSON:
		if b, err = json.MarshalIndent(referenceJSON(), "", "  "); err != nil {
			return err
		}
		b = append(b, '\n')
	default:
		b = config.Reference(100)
	}
	_, err = c.Stdout.Write(b)
	return err
}

// optionJSON is one option in the JSON reference.
type optionJSON struct {
	Name    string `json:"name"`
	Flag    string `json:"flag"`
	Env     string `json:"env"`
	Group   string `json:"group"`
	Type    string `json:"type"`
	Default string `json:"default"`
	Help    string `json:"help"`
	Edge    string `json:"edge"`
}

func referenceJSON() []optionJSON {
	var list []optionJSON
	for _, o := range config.Options() {
		list = append(list, optionJSON{o.Name, "--" + o.Name, config.EnvName(o.Name), o.Group, o.Type, o.Default, o.Help, o.Edge})
	}
	return list
}
