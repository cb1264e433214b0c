// Package cli is the longwire command: one file for each subcommand. The process is entered and left here
// and nowhere else: arguments, environment and standard streams come in one struct, an exit code goes out.
//
// A subcommand is a struct with kong's tags and a method Run(*call) error; it stands in grammar. What it
// answers goes to call.Stdout, what it has to say beside that to call.Stderr.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/longwire/longwire/internal/config"
)

// Exit codes of every subcommand.
const (
	exitFine      = 0
	exitFailed    = 1
	exitUsage     = 2 // wrong arguments, environment or configuration file
	exitThreshold = 3 // the work was done, and what it found is beyond a threshold that the caller set
)

// Process is all that a command gets from outside.
type Process struct {
	Args    []string // without the program's name
	Environ []string // NAME=value
	Stdin   io.Reader
	Stdout  io.Writer // answers
	Stderr  io.Writer // information
}

// OS is the process's own.
func OS() Process {
	return Process{Args: os.Args[1:], Environ: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
}

// grammar is what kong reads the command line with.
type grammar struct {
	Version versionFlag `help:"Print the version." short:"V"`

	Serve  serveCmd   `cmd:"" help:"Run the gateway."`
	Stress stressCmd  `cmd:"" help:"Put load on a WebSocket server and say what came of it."`
	Doctor doctorCmd  `cmd:"" help:"Find what leaks in a running Go program, and on which line."`
	Lab    labCmd     `cmd:"" help:"Put the claims about leaking gateways to the test."`
	Trace  traceCmd   `cmd:"" help:"Show what the kernel sees of a server's connections, and why each ended."`
	Why    whyCmd     `cmd:"" help:"Say why a client was disconnected."`
	Config configCmd  `cmd:"" help:"Print the options of serve, or their values in force."`
	Vers   versionCmd `cmd:"" name:"version" help:"Print what this program was built of."`
}

// call is one run of a subcommand.
type call struct {
	Process
	ctx  context.Context
	kong *kong.Context
}

// given are the names of the flags that stand on the command line.
func (c *call) given() []string {
	var names []string
	for _, p := range c.kong.Path {
		if p.Flag != nil {
			names = append(names, p.Flag.Name)
		}
	}
	return names
}

// exitError is an error that chooses the exit code.
type exitError struct {
	code int
	hint string // what to do about it; may be empty
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// usage is the error of wrong input.
func usage(err error, hint string) error { return &exitError{code: exitUsage, hint: hint, err: err} }

// left is panicked by kong's exit: --help and --version end the run while arguments are still read.
type left int

// Main runs the command and returns the exit code. ctx ends a command early, as a signal does.
func Main(ctx context.Context, p Process) (code int) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case left:
			code = int(v)
		default:
			panic(v)
		}
	}()
	g := new(grammar)
	k, err := kong.New(g,
		kong.Name("longwire"),
		kong.Description("Longwire holds WebSocket connections: a million of them on a small machine."),
		kong.Writers(p.Stdout, p.Stderr),
		kong.Exit(func(code int) { panic(left(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110, NoExpandSubcommands: true}),
		kong.PostBuild(describe),
	)
	if err != nil {
		panic(err) // the grammar is wrong, not the input
	}
	kctx, err := k.Parse(helpOfDefault(k, p.Args))
	if err != nil {
		return p.fail(usage(err, parseHint(err)))
	}
	if err := kctx.Run(&call{Process: p, ctx: ctx, kong: kctx}); err != nil {
		return p.fail(err)
	}
	return exitFine
}

// helpOfDefault has a question for the help of a command that does something by default answered by the help of that.
func helpOfDefault(k *kong.Kong, args []string) []string {
	if len(args) != 2 || args[1] != "--help" && args[1] != "-h" {
		return args
	}
	for _, c := range k.Model.Children {
		if c.Name == args[0] && c.DefaultCmd != nil {
			return []string{c.Name, c.DefaultCmd.Name, "--help"}
		}
	}
	return args
}

// describe gives the flags that are options of the gateway their words.
func describe(k *kong.Kong) error {
	byName := make(map[string]config.Option)
	for _, o := range config.Options() {
		byName[o.Name] = o
	}
	for _, cmd := range k.Model.Children {
		if cmd.Name != "serve" && cmd.Name != "config" {
			continue
		}
		for _, f := range cmd.Flags {
			o, ok := byName[f.Name]
			if !ok {
				continue
			}
			f.Help = o.Help
			f.Group = &kong.Group{Key: o.Group, Title: o.Group}
			if o.Default != "" {
				f.PlaceHolder = o.Default
			} else {
				f.PlaceHolder = strings.ToUpper(o.Type)
			}
		}
	}
	return nil
}

// parseHint is what to do about an error of the command line.
func parseHint(err error) string {
	var pe *kong.ParseError
	if errors.As(err, &pe) && pe.Context != nil {
		if n := pe.Context.Selected(); n != nil {
			return fmt.Sprintf("longwire %s --help lists its flags", n.Name)
		}
	}
	return "longwire --help lists the commands"
}

// fail says what went wrong and returns the exit code for it.
func (p *Process) fail(err error) int {
	code, hint := exitFailed, ""
	var ee *exitError
	if errors.As(err, &ee) {
		code, hint = ee.code, ee.hint
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(p.Stderr, "longwire: %s\n", strings.TrimSuffix(line, "\n"))
	}
	if hint != "" {
		fmt.Fprintf(p.Stderr, "hint: %s\n", hint)
	}
	return code
}
